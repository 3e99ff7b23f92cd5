/* SPDX-License-Identifier: BSD-2-Clause */
/* consoles.c - the back ends of a machine's serial ports; see consoles.h. */
#include "machine/consoles.h"

#include "core/say.h"
#include "machine/machine.h"

/* How long the end waits for a reader that has stopped reading. */
#define FLUSH_MS 2000

static const char *const ports[] = { "serial0", "serial1", "serial2", "serial3" };
_Static_assert(sizeof(ports) / sizeof(ports[0]) == VM_SERIALS, "a name for each port");

const char *consoles_port(unsigned line)
{
	return ports[line];
}

int consoles_up(struct machine *m, struct error *err)
{
	bool dry = m->config.dry_run && !m->config.device_test;

	for (unsigned i = 0; i < VM_SERIALS; i++) {
		struct console *console = &m->consoles[i];
		int r = console_open(console, ports[i], &m->config.consoles[i], &m->vm.loop, dry, err);

		if (r) {
			consoles_down(m);
			return r;
		}
		m->vm.serials[i] = console_chardev(console);
		if (console->pty[0])
			say(SAY_MS, "%s is %s", ports[i], console->pty);
	}
	m->vm.console = m->vm.serials[0];
	return 0;
}

void consoles_flush(struct machine *m)
{
	for (unsigned i = 0; i < VM_SERIALS; i++) {
		if (m->vm.serials[i])
			chardev_flush(m->vm.serials[i], FLUSH_MS);
	}
}

void consoles_down(struct machine *m)
{
	consoles_flush(m);
	m->vm.console = NULL;
	for (unsigned i = VM_SERIALS; i-- > 0;) {
		m->vm.serials[i] = NULL;
		console_close(&m->consoles[i]);
	}
}

struct chardev *consoles_stdio(struct machine *m)
{
	for (unsigned i = 0; i < VM_SERIALS; i++) {
		if (m->config.consoles[i].kind == CONSOLE_STDIO)
			return m->vm.serials[i];
	}
	return NULL;
}
