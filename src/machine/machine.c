/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * machine.c - the stages of a machine's life.
 *
 * One array, run forward; when a stage fails, or the machine ends, the stages that are up are run backward.
 * Memory comes before the interrupt controllers: a slot made after them costs milliseconds. Images are opened
 * and checked before KVM is asked for anything, so a wrong path is told at once and on any host. They are loaded
 * while KVM makes the VM, most of which is waiting for grace periods of the kernel's.
 */
#include "machine/machine.h"

#include <errno.h>
#include <inttypes.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/leave.h"
#include "core/say.h"
#include "core/thread.h"
#include "host/output.h"
#include "machine/consoles.h"
#include "machine/debugcon.h"

struct stage {
	const char *name;
	enum status failure;
	bool dry; /* also in a dry run */
	int (*up)(struct machine *m, struct error *err);
	void (*down)(struct machine *m);
};

static void debug(const struct machine *m, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void debug(const struct machine *m, const char *fmt, ...)
{
	char text[256];
	va_list ap;

	if (!m->config.debug)
		return;
	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say(SAY_MS, "%s", text);
}

void machine_tell(const struct machine *m, const char *fmt, ...)
{
	const char *name = m->config.name;
	char text[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	say(SAY_SOON_MS, "%s%s%s%s", name ? "guest '" : "", name ? name : "", name ? "': " : "", text);
}

static void ignore_signal(int sig)
{
}

static int host_up(struct machine *m, struct error *err)
{
	struct sigaction kick = { .sa_handler = ignore_signal };
	sigset_t block;
	int r = m->config.arch->check(&m->config.guest, err);

	if (r || m->config.dry_run)
		return r;
	/* A console whose reader has gone is an EPIPE, and a file at its size limit an EFBIG. */
	m->old_sigpipe = signal(SIGPIPE, SIG_IGN);
	m->old_sigxfsz = signal(SIGXFSZ, SIG_IGN);
	/* No SA_RESTART: the signal's whole purpose is to make KVM_RUN return. */
	sigaction(KICK_SIGNAL, &kick, NULL);
	leave_signals(&block);
	terminal_signals(&block);
	pthread_sigmask(SIG_BLOCK, &block, &m->old_signals);
	return 0;
}

static void host_down(struct machine *m)
{
	static const struct timespec at_once = { 0 };
	sigset_t set;

	if (m->config.dry_run)
		return;
	/* One more of those asked for an end too, and this is it: it must not kill us over the status. */
	leave_signals(&set);
	while (sigtimedwait(&set, NULL, &at_once) > 0)
		;
	pthread_sigmask(SIG_SETMASK, &m->old_signals, NULL);
	signal(SIGXFSZ, m->old_sigxfsz);
	signal(SIGPIPE, m->old_sigpipe);
}

static int vm_up(struct machine *m, struct error *err)
{
	int r = vm_init(&m->vm, m->config.device_test, err);

	if (r == 0 && m->config.device_test)
		m->vm.clock.epoch = m->config.epoch;
	return r;
}

static void vm_down(struct machine *m)
{
	vm_fini(&m->vm);
}

/* Memory that can be shared costs more than that which cannot, so it is had where some device needs it. */
static bool shares_memory(const struct guest_config *guest)
{
	for (unsigned i = 0; i < guest->nr_virtio; i++)
		if (guest->virtio[i].config.type->shares_memory)
			return true;
	return false;
}

static unsigned count_file_holders(const struct guest_config *guest)
{
	unsigned n = 0;

	for (unsigned i = 0; i < guest->nr_virtio; i++)
		n += guest->virtio[i].config.type->holds_files;
	return n;
}

static int memory_up(struct machine *m, struct error *err)
{
	struct guest_config *guest = &m->config.guest;
	struct backing_config *backing = &m->config.backing;
	int r = backing_check(backing, guest->ram, err);

	backing->shared = shares_memory(guest);
	backing->interrupted = m->config.dry_run ? NULL : ends_signalled;
	/* A dry run makes no file and takes no huge page. A device under test is served as in a run. */
	if (r == 0 && (!m->config.dry_run || (m->config.device_test && backing->shared)))
		r = backing_new(backing, guest->ram, &m->ram, err);
	if (r)
		return r;
	guest->memory = m->ram.memory;
	guest->ram_used = m->ram.used;
	guest->ram_foreign = backing->file || backing->hugetlbfs || backing->huge || backing->shared;
	m->vm.file_holders = count_file_holders(guest);
	r = m->config.arch->create(&m->vm, guest, &m->board, err);
	if (r)
		backing_free(&m->ram);
	return r;
}

static void memory_down(struct machine *m)
{
	m->config.arch->destroy(m->board);
	m->board = NULL;
	backing_free(&m->ram);
}

static int board_up(struct machine *m, struct error *err)
{
	return m->config.arch->build(m->board, err);
}

static void board_down(struct machine *m)
{
	vm_remove_devices(&m->vm);
}

static int images_up(struct machine *m, struct error *err)
{
	if (!m->config.guest.kernel)
		return 0;
	return m->config.arch->open_images(m->board, err); /* closed with the board */
}

static int kvm_up(struct machine *m, struct error *err)
{
	m->kvm.dev = m->kvm.fd = -1;
	if (!m->config.arch->kvm) {
		error_set(err, -ENODEV, "this host's CPU has no guests of %s", m->config.arch->name);
		error_hint(err, "--dry-run and trapline device-test have its machine without a guest");
		return -ENODEV;
	}
	return kvm_open(&m->kvm, m->config.kvm_device, err);
}

static void kvm_down(struct machine *m)
{
	kvm_close(&m->kvm);
}

static void *load_aside(void *arg)
{
	struct machine *m = arg;

	m->loading.result = m->config.arch->load(m->board, &m->loading.err);
	return NULL;
}

/* Begun only once there is a KVM: on a host without one that is told at once. */
static int loading_up(struct machine *m, struct error *err)
{
	int r;

	if (!m->config.guest.kernel)
		return 0;
	r = early_start(&m->loading.thread, "load", load_aside, m);
	return r ? error_set(err, r, "no thread to load the kernel: %s", strerror(-r)) : 0;
}

static void loading_down(struct machine *m)
{
	early_end(&m->loading.thread);
}

static int guest_up(struct machine *m, struct error *err)
{
	const struct arch_kvm *arch = m->config.arch->kvm;
	unsigned long type = 0;
	int r = arch->vm_type ? arch->vm_type(m->board, &m->kvm, &type, err) : 0;

	m->kvm.no_ports = arch->no_ports;
	return r ? r : kvm_create(&m->kvm, &m->vm, m->config.kvm_device, type, arch->needs, err);
}

static int irqchip_up(struct machine *m, struct error *err)
{
	int r = m->config.arch->kvm->make_chips(m->board, &m->kvm, err);

	if (r == 0)
		kvm_take_irqs(&m->kvm);
	return r;
}

static int vcpus_up(struct machine *m, struct error *err)
{
	int limit = kvm_check(&m->kvm, KVM_CAP_MAX_VCPUS), r;

	if (limit > 0 && m->config.guest.cpus > (unsigned)limit) {
		err->status = STATUS_USAGE;
		return error_set(err, -EINVAL, "-c %u: this KVM allows %d vCPUs", m->config.guest.cpus, limit);
	}
	r = kvm_make_vcpus(&m->kvm, m->config.guest.cpus, err);
	for (unsigned i = 0; r == 0 && i < m->kvm.nr_vcpus; i++)
		r = m->config.arch->kvm->make_vcpu(m->board, &m->kvm.vcpus[i], err);
	return r;
}

/* What a power-on and a reset have in common, once devices, chips and vCPUs are in their power-on state. */
static int load_guest(struct machine *m, struct error *err)
{
	const struct arch *arch = m->config.arch;
	int r;

	if (m->loading.thread.up) {
		early_wait(&m->loading.thread);
		r = m->loading.result;
		if (r)
			*err = m->loading.err;
	} else {
		r = arch->load(m->board, err);
	}
	if (r == 0 && !m->config.dry_run)
		r = arch->kvm->enter(m->board, &m->kvm, err);
	return r;
}

static int cannot_write(const char *path, struct error *err)
{
	return error_set(err, -errno, "--dump-dtb: cannot write '%s': %s", path, strerror(errno));
}

/* A pipe is full until somebody has read some of it, or the user leaves. */
static int await_reader(int fd, const char *path, struct error *err)
{
	struct pollfd fds[] = { { .fd = fd, .events = POLLOUT }, { .fd = leave_fd(), .events = POLLIN } };
	int r = 0;

	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		continue;
	if (fds[1].revents) {
		err->status = STATUS_QUIT;
		r = error_set(err, -EINTR, "--dump-dtb: a signal ended the wait for who reads '%s'", path);
	}
	if (fds[1].fd >= 0)
		close(fds[1].fd);
	return r;
}

/*
 * What is there is written over, and stays whatever comes; a file that is made is
 * there with all of the tree or not at all.
 */
static int write_tree(const char *path, const uint8_t *bytes, size_t size, struct error *err)
{
	struct output out;
	size_t done = 0;
	struct stat st;
	int r = output_open(&out, path, O_NONBLOCK, "--dump-dtb", err);

	while (r == 0 && done < size) {
		ssize_t n = write(out.fd, bytes + done, size - done);

		if (n < 0 && errno == EAGAIN)
			r = await_reader(out.fd, path, err);
		else if (n < 0 && errno != EINTR)
			r = cannot_write(path, err);
		done += n > 0 ? (size_t)n : 0;
	}
	/* Of what is no file there is nothing to cut; a file's last errors would come when it is closed. */
	if (r == 0 && fstat(out.fd, &st) == 0 && S_ISREG(st.st_mode) &&
		(ftruncate(out.fd, (off_t)size) || fsync(out.fd)))
		r = cannot_write(path, err);
	out.made = out.made && r;
	output_close(&out);
	if (r && !err->status)
		err->status = STATUS_HOST;
	return r;
}

static int dump_tree(struct machine *m, struct error *err)
{
	void *bytes = NULL;
	size_t size = 0;
	int r;

	if (!m->config.arch->tree) {
		err->status = STATUS_USAGE;
		return error_set(err, -EINVAL, "--dump-dtb: a guest of %s has no device tree", m->config.arch->name);
	}
	r = m->config.arch->tree(m->board, &bytes, &size, err);
	if (r == 0)
		r = write_tree(m->config.dump_dtb, bytes, size, err);
	free(bytes);
	return r;
}

static int load_up(struct machine *m, struct error *err)
{
	int r = load_guest(m, err);
	struct board_info info;

	if (r == 0 && m->config.dump_dtb)
		r = dump_tree(m, err);
	if (r)
		return r;
	m->config.arch->info(m->board, &info);
	if (info.boot_note)
		debug(m, "%s", info.boot_note);
	if (info.cache_path)
		debug(m, "%s the cache, '%s'", info.cached ? "the kernel came unpacked from" : "the kernel is not in",
			info.cache_path);
	if (info.cache_note)
		debug(m, "no cache of unpacked kernels: %s", info.cache_note);
	if (info.rootless)
		machine_tell(m, "%s", m->config.guest.root_note);
	if (info.boot_text)
		debug(m, "entering the kernel by %s", info.boot_text);
	return 0;
}

static void for_each_device(struct machine *m, void (*fn)(struct device *dev))
{
	list_for_each (node, &m->vm.devices)
		fn(container_of(node, struct device, node));
}

static void start_device(struct device *dev)
{
	if (dev->type->start)
		dev->type->start(dev);
}

static void stop_device(struct device *dev)
{
	if (dev->type->stop)
		dev->type->stop(dev);
}

static int devices_up(struct machine *m, struct error *err)
{
	for_each_device(m, device_power_on);
	for_each_device(m, start_device);
	return 0;
}

static void devices_down(struct machine *m)
{
	for_each_device(m, stop_device);
}

static int threads_up(struct machine *m, struct error *err)
{
	return kvm_start_vcpus(&m->kvm, &m->loading.thread, m->config.host_cpus, err);
}

static void threads_down(struct machine *m)
{
	kvm_join_vcpus(&m->kvm);
	kvm_drain_posted(&m->kvm);
}

static void tty_down(struct machine *m)
{
	consoles_flush(m);
	consoles_leave_tty(m);
}

/* In this order at start, backward at the end. */
static const struct stage stages[] = {
	{ "host", STATUS_USAGE, true, host_up, host_down },
	{ "vm", STATUS_HOST, true, vm_up, vm_down },
	{ "memory", STATUS_HOST, true, memory_up, memory_down },
	{ "console", STATUS_HOST, true, consoles_up, consoles_down },
	{ "debugcon", STATUS_HOST, true, debugcon_up, debugcon_down },
	{ "board", STATUS_HOST, true, board_up, board_down },
	{ "images", STATUS_IMAGE, true, images_up, NULL },
	{ "devices", STATUS_HOST, true, devices_up, devices_down },
	{ "kvm", STATUS_KVM, false, kvm_up, kvm_down },
	{ "loading", STATUS_HOST, false, loading_up, loading_down },
	{ "guest", STATUS_KVM, false, guest_up, NULL },
	{ "irqchip", STATUS_KVM, false, irqchip_up, NULL },
	{ "vcpus", STATUS_KVM, false, vcpus_up, NULL },
	{ "load", STATUS_IMAGE, true, load_up, NULL },
	{ "signals", STATUS_HOST, false, ends_up, ends_down },
	{ "threads", STATUS_HOST, false, threads_up, threads_down },
	{ "tty", STATUS_HOST, false, consoles_take_tty, tty_down },
};

#define NR_STAGES (sizeof(stages) / sizeof(stages[0]))

static enum status failure_status(const struct stage *stage, int code, const struct error *err)
{
	if (err->status)
		return (enum status)err->status;
	/* The host has run out of something; KVM, or the file, is not to blame. */
	if (code == -ENOMEM || code == -EMFILE || code == -ENFILE)
		return STATUS_HOST;
	return stage->failure;
}

int machine_up(struct machine *m, const struct machine_config *config, struct error *err)
{
	int r;

	memset(m, 0, sizeof(*m));
	m->config = *config;
	m->tty.fd = -1;
	err->status = 0;
	timings_mark(&m->config.timings, "options");
	for (; m->stages_up < NR_STAGES; m->stages_up++) {
		const struct stage *stage = &stages[m->stages_up];

		if (config->dry_run && !stage->dry)
			continue;
		debug(m, "stage %s", stage->name);
		r = stage->up(m, err);
		if (r == -EMFILE && !err->hint[0])
			error_hint(err, "ulimit -n NUMBER raises the limit of this process's open files");
		if (r) {
			machine_down(m);
			return failure_status(stage, r, err);
		}
		if (!config->dry_run && ends_signalled(err)) {
			m->stages_up++;
			machine_down(m);
			return STATUS_QUIT;
		}
		timings_mark(&m->config.timings, stage->name);
	}
	return STATUS_OK;
}

void machine_down(struct machine *m)
{
	while (m->stages_up > 0) {
		const struct stage *stage = &stages[--m->stages_up];

		if (stage->down && (stage->dry || !m->config.dry_run))
			stage->down(m);
	}
}

/*
 * The machine restarts in place. Every vCPU is parked outside handlers with nothing pending; then posted writes
 * are served, handlers in flight drained, devices and chips put to their power-on state, and what a loader
 * would load is loaded again. RAM is otherwise left as it is, as after a warm reset of a PC. The clock and the
 * battery-backed state (time of day, CMOS) go on.
 */
int machine_reset(struct machine *m, struct error *err)
{
	int r;

	run_park(&m->vm.run, RUN_RESETTING);
	kvm_drain_posted(&m->kvm);
	bus_drain(m->vm.bus);
	for_each_device(m, stop_device);
	for_each_device(m, device_reset);
	r = m->config.dry_run ? 0 : m->config.arch->kvm->reset(m->board, &m->kvm, err);
	if (r == 0)
		r = load_guest(m, err);
	if (r)
		return r;
	for_each_device(m, start_device);
	m->paused = false;
	m->resets++;
	ends_await_boot(m);
	debug(m, "reset %u", m->resets);
	run_resume(&m->vm.run);
	return 0;
}

static void resume_device(struct device *dev)
{
	if (dev->type->resume)
		dev->type->resume(dev);
}

int machine_pause(struct machine *m, struct error *err)
{
	struct device *busy = NULL;

	if (m->paused)
		return 0;
	m->paused = true;
	run_park(&m->vm.run, RUN_PAUSED);
	kvm_drain_posted(&m->kvm);
	bus_drain(m->vm.bus);
	list_for_each (node, &m->vm.devices) {
		struct device *dev = container_of(node, struct device, node);

		if (!busy && dev->type->pause && !dev->type->pause(dev))
			busy = dev;
	}
	if (!busy)
		return 0;
	machine_resume(m);
	return error_set(err, -EBUSY, "%s: a request on the host does not end", busy->name);
}

void machine_resume(struct machine *m)
{
	if (!m->paused)
		return;
	m->paused = false;
	for_each_device(m, resume_device);
	kvm_was_paused(&m->kvm);
	run_resume(&m->vm.run);
}

static bool is_reset(enum run_reason reason)
{
	return reason == REASON_RESET || reason == REASON_TRIPLE_FAULT;
}

/* On the loop's thread, because a vCPU cannot wait for itself. */
static void handle_request(void *arg)
{
	struct machine *m = arg;
	enum run_reason reason = run_take_request(&m->vm.run);
	struct error err = { 0 };

	if (reason == REASON_NONE)
		return;
	debug(m, "%s", run_reason_name(reason));
	if (is_reset(reason) && !m->config.no_reboot && m->ends.asked) {
		/* It would boot until the time is over. */
		reason = REASON_QUIT;
		snprintf(m->vm.run.why, sizeof(m->vm.run.why), "asked to power off, the guest reset");
	} else if (is_reset(reason) && !m->config.no_reboot) {
		if (machine_reset(m, &err) == 0)
			return;
		reason = REASON_HOST_FAILURE;
		snprintf(m->vm.run.why, sizeof(m->vm.run.why), "cannot restart the guest: %.200s", err.text);
	}
	m->ended = reason;
	loop_quit(&m->vm.loop);
}

static void requested(void *arg)
{
	struct machine *m = arg;

	loop_post(&m->vm.loop, &m->requested);
}

static void print_traps(struct region *region, void *arg)
{
	struct region_count count = region_counts(region);
	const struct device *dev = region->owner;

	if (count.reads || count.writes)
		debug(arg, "%-5s %#12" PRIx64 "  %-12s %-16s %10" PRIu64 " reads %10" PRIu64 " writes",
			region->space == SPACE_PIO ? "port" : "mmio", region->base, dev ? dev->name : "-", region->name,
			count.reads, count.writes);
}

static void debug_traps(struct machine *m)
{
	if (!m->config.debug)
		return;
	if (__atomic_load_n(&m->vm.guest_faults, __ATOMIC_RELAXED))
		debug(m, "%" PRIu64 " requests of the guest's made no sense",
			__atomic_load_n(&m->vm.guest_faults, __ATOMIC_RELAXED));
	for (unsigned i = 0; i < VM_PORTS; i++) {
		if (m->vm.ports[i] && m->vm.ports[i]->dropped)
			debug(m, "%s: %" PRIu64 " bytes of output were lost: their reader was gone or too slow",
				consoles_port(i), m->vm.ports[i]->dropped);
	}
	for (unsigned i = 0; i < m->kvm.nr_vcpus; i++) {
		const struct vcpu *vcpu = &m->kvm.vcpus[i];
		uint64_t unclaimed = 0;

		for (unsigned space = 0; space < NR_SPACES; space++)
			unclaimed += vcpu->from.unclaimed_reads[space] + vcpu->from.unclaimed_writes[space];
		debug(m, "%s: %" PRIu64 " exits, %" PRIu64 " accesses that no device claimed", vcpu->name, vcpu->exits,
			unclaimed);
	}
	for (unsigned space = 0; space < NR_SPACES; space++)
		bus_for_each(m->vm.bus, (enum space)space, print_traps, m);
}

static void print_timings(void *arg)
{
	struct machine *m = arg;

	timings_print(&m->config.timings);
}

/* On the boot CPU's thread, which does not wait for who reads. */
static void first_entry(void *arg)
{
	struct machine *m = arg;

	timings_mark(&m->config.timings, "entry");
	loop_post(&m->vm.loop, &m->entered);
}

int machine_run(struct machine *m, struct error *err)
{
	if (m->config.timings.wanted) {
		m->entered.fn = print_timings;
		m->entered.arg = m;
		m->kvm.first_entry_arg = m;
		m->kvm.first_entry = first_entry;
	}
	m->requested.fn = handle_request;
	m->requested.arg = m;
	m->vm.run.requested_arg = m;
	m->vm.run.requested = requested;
	backing_keep(&m->ram);
	consoles_begin(m);
	if (m->vm.debugcon)
		output_begin(&m->debugcon_file);
	ends_await_boot(m);
	run_resume(&m->vm.run);
	m->config.arch->started(m->board);
	loop_run(&m->vm.loop);
	run_park(&m->vm.run, RUN_PAUSED);
	/* Before it is told how much was lost. */
	consoles_flush(m);
	debug_traps(m);
	return ends_status(m, err);
}
