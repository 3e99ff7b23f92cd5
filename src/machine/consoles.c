/* SPDX-License-Identifier: BSD-2-Clause */
/* consoles.c - the back ends of a machine's serial ports; see consoles.h. */
#include "machine/consoles.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "core/say.h"
#include "machine/machine.h"

/* How long the end waits for a reader that has stopped reading. */
#define FLUSH_MS 2000

static const char *const ports[] = { "serial0", "serial1", "serial2", "serial3", "hvc0", "hvc1", "hvc2", "hvc3" };
_Static_assert(sizeof(ports) / sizeof(ports[0]) == VM_PORTS, "a name for each port");

const char *consoles_port(unsigned line)
{
	return ports[line];
}

int consoles_up(struct machine *m, struct error *err)
{
	bool dry = m->config.dry_run && !m->config.device_test;

	for (unsigned i = 0; i < VM_PORTS; i++) {
		struct console *console = &m->consoles[i];
		int r = console_open(console, ports[i], &m->config.consoles[i], &m->vm.loop, dry, err);

		if (r) {
			consoles_down(m);
			return r;
		}
		m->vm.ports[i] = console_chardev(console);
		if (console->pty[0])
			say(SAY_MS, "%s is %s", ports[i], console->pty);
	}
	m->vm.console = m->vm.ports[0];
	return 0;
}

void consoles_begin(struct machine *m)
{
	for (unsigned i = 0; i < VM_PORTS; i++)
		console_begin(&m->consoles[i]);
}

void consoles_flush(struct machine *m)
{
	for (unsigned i = 0; i < VM_PORTS; i++) {
		if (m->vm.ports[i])
			chardev_flush(m->vm.ports[i], FLUSH_MS);
	}
}

void consoles_down(struct machine *m)
{
	consoles_flush(m);
	m->vm.console = NULL;
	for (unsigned i = VM_PORTS; i-- > 0;) {
		m->vm.ports[i] = NULL;
		console_close(&m->consoles[i]);
	}
}

static struct chardev *stdio_of(struct machine *m)
{
	for (unsigned i = 0; i < VM_PORTS; i++) {
		if (m->config.consoles[i].kind == CONSOLE_STDIO)
			return m->vm.ports[i];
	}
	return NULL;
}

static void press_ctrl_alt_del(struct machine *m)
{
	/* Left Ctrl, left Alt, Delete of the cursor block, and up again; scan code set 2. */
	static const struct {
		uint8_t n, codes[3];
	} events[] = { { 1, { 0x14 } }, { 1, { 0x11 } }, { 2, { 0xe0, 0x71 } }, { 3, { 0xe0, 0xf0, 0x71 } },
		{ 2, { 0xf0, 0x11 } }, { 2, { 0xf0, 0x14 } } };

	for (size_t i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
		if (!vm_key(&m->vm, events[i].codes, events[i].n)) {
			tty_say(&m->tty, "the guest does not take keys just now");
			return;
		}
	}
}

/* How far a key moves the mouse: enough to be seen, little enough to aim with. */
#define MOUSE_STEP 16

static void move_mouse(struct machine *m, uint8_t key)
{
	static const struct {
		char key;
		int8_t dx, dy;
		uint8_t button; /* pressed and let go */
	} moves[] = {
		{ 'h', -MOUSE_STEP, 0, 0 },
		{ 'j', 0, -MOUSE_STEP, 0 },
		{ 'k', 0, MOUSE_STEP, 0 },
		{ 'l', MOUSE_STEP, 0, 0 },
		{ '1', 0, 0, 1 },
		{ '2', 0, 0, 4 },
		{ '3', 0, 0, 2 },
	};

	for (size_t i = 0; i < sizeof(moves) / sizeof(moves[0]); i++) {
		bool taken;

		if (moves[i].key != key)
			continue;
		taken = vm_mouse(&m->vm, moves[i].dx, moves[i].dy, moves[i].button);
		if (moves[i].button)
			taken = vm_mouse(&m->vm, 0, 0, 0) && taken;
		if (!taken)
			tty_say(&m->tty, "the guest does not use its mouse");
	}
}

/* The devices are counted in their order, from 0. */
static void turn_link(struct machine *m, uint8_t key)
{
	unsigned n = 0;

	list_for_each (node, &m->vm.links) {
		struct vm_link *link = container_of(node, struct vm_link, node);

		if (key != '0' + n++)
			continue;
		link->wanted = !link->wanted;
		link->set(link, link->wanted);
		tty_say(&m->tty, "%s: link %s%s", link->name, link->wanted ? "up" : "down",
			link->wanted && !link->up(link) ? ", but what is behind it has gone" : "");
		return;
	}
	tty_say(&m->tty, "the guest has no such network device");
}

static void tell_status(struct machine *m)
{
	uint64_t ms = clock_now(&m->vm.clock) / 1000000, exits = 0, unclaimed = 0;

	/* The vCPUs run on: what is told may be a moment old. */
	for (unsigned i = 0; i < m->kvm.nr_vcpus; i++) {
		const struct vcpu *vcpu = &m->kvm.vcpus[i];

		exits += __atomic_load_n(&vcpu->exits, __ATOMIC_RELAXED);
		for (unsigned space = 0; space < NR_SPACES; space++)
			unclaimed += __atomic_load_n(&vcpu->from.unclaimed_reads[space], __ATOMIC_RELAXED) +
				     __atomic_load_n(&vcpu->from.unclaimed_writes[space], __ATOMIC_RELAXED);
	}
	tty_say(&m->tty, "%s for %" PRIu64 ".%03u s, %u vCPU%s, %u reset%s", m->paused ? "paused, up" : "up", ms / 1000,
		(unsigned)(ms % 1000), m->kvm.nr_vcpus, m->kvm.nr_vcpus == 1 ? "" : "s", m->resets,
		m->resets == 1 ? "" : "s");
	tty_say(&m->tty, "%" PRIu64 " exits to user space, %" PRIu64 " accesses that no device claimed", exits,
		unclaimed);
	for (unsigned i = 0; i < VM_PORTS; i++) {
		struct chardev *chardev = m->vm.ports[i];
		uint64_t dropped;

		if (!chardev)
			continue;
		pthread_mutex_lock(&chardev->lock);
		dropped = chardev->dropped;
		pthread_mutex_unlock(&chardev->lock);
		tty_say(&m->tty, "%s: %" PRIu64 " bytes of output dropped", ports[i], dropped);
	}
}

#define MIB(bytes) ((bytes) >> 20)

static void tell_balloon(struct machine *m, const uint64_t *want)
{
	struct vm_balloon now;

	if (!vm_balloon(&m->vm, want, &now))
		return;
	tty_say(&m->tty, "the balloon has %" PRIu64 " of %" PRIu64 " MiB, and is to have %" PRIu64, MIB(now.has),
		MIB(m->vm.ram_size), MIB(now.want));
	if (!want && now.told)
		tty_say(&m->tty,
			"the guest had %" PRIu64 " MiB free, %" PRIu64 " available, of %" PRIu64 ", %" PRIu64 " s ago",
			MIB(now.free), MIB(now.available), MIB(now.total),
			(uint64_t)(clock_now(&m->vm.clock) - now.when) / (uint64_t)NSEC_PER_SEC);
}

/* By a step; the last sixteenth is the guest's. */
static void press_balloon(struct machine *m, bool take)
{
	uint64_t step = m->vm.ram_size / 16, want;
	struct vm_balloon now;

	if (!vm_balloon(&m->vm, NULL, &now)) {
		tty_say(&m->tty, "this machine has no balloon: --balloon gives it one");
		return;
	}
	if (take)
		want = now.want + step < 15 * step ? now.want + step : 15 * step;
	else
		want = now.want > step ? now.want - step : 0;
	tell_balloon(m, &want);
}

static void pause_or_resume(struct machine *m)
{
	struct error err = { 0 };

	if (m->paused) {
		machine_resume(m);
		tty_say(&m->tty, "the guest goes on");
	} else if (machine_pause(m, &err)) {
		tty_say(&m->tty, "not paused: %s", err.text);
	} else {
		tty_say(&m->tty, "the guest is paused; Ctrl-A z lets it go on");
	}
}

/* On the event loop's thread. */
static void act(void *arg, enum tty_action action, uint8_t key)
{
	struct machine *m = arg;
	struct chardev *console = stdio_of(m);

	switch (action) {
	case TTY_QUIT:
		run_request(&m->vm.run, REASON_QUIT);
		break;
	case TTY_POWER:
		tty_say(&m->tty, vm_press(&m->vm, BUTTON_POWER) ? "pressed the power button"
								: "the guest does not listen to its power button");
		break;
	case TTY_RESET:
		vm_reset(&m->vm);
		break;
	case TTY_BREAK:
		if (console && console->broken)
			console->broken(console->broken_arg, key);
		break;
	case TTY_CTRL_ALT_DEL:
		press_ctrl_alt_del(m);
		break;
	case TTY_MOUSE:
		move_mouse(m, key);
		break;
	case TTY_LINK:
		turn_link(m, key);
		break;
	case TTY_PAUSE:
		pause_or_resume(m);
		break;
	case TTY_STATUS:
		tell_status(m);
		tell_balloon(m, NULL);
		break;
	case TTY_TAKE:
	case TTY_GIVE:
		press_balloon(m, action == TTY_TAKE);
		break;
	}
}

void consoles_leave_tty(struct machine *m)
{
	terminal_down(m);
}

int consoles_take_tty(struct machine *m, struct error *err)
{
	struct chardev *console = stdio_of(m);

	if (!console)
		return 0;
	m->tty.act = act;
	m->tty.arg = m;
	console->filter_arg = &m->tty;
	console->filter = tty_filter;
	return terminal_up(m, console, err);
}
