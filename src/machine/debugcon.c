/* SPDX-License-Identifier: BSD-2-Clause */
/* debugcon.c - where the debug console's output goes; see debugcon.h. */
#include "machine/debugcon.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "core/status.h"
#include "machine/machine.h"

/* How long the end waits for a reader that has stopped reading. */
#define FLUSH_MS 2000

static const char file_prefix[] = "file:";

static int open_output(struct machine *m, const char *where, struct error *err)
{
	size_t n = sizeof(file_prefix) - 1;
	bool file = strncmp(where, file_prefix, n) == 0 && where[n];

	if (!file && strcmp(where, "stderr") != 0) {
		err->status = STATUS_USAGE;
		return error_set(err, -EINVAL, "--debugcon: '%.200s' is neither stderr nor file:PATH", where);
	}
	m->debugcon_file.fd = -1;
	if (m->config.dry_run)
		return 0;
	if (file)
		return output_open(&m->debugcon_file, where + n, O_NONBLOCK, "--debugcon", err);
	m->debugcon_file.fd = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	return m->debugcon_file.fd < 0 ? error_set(err, -errno, "--debugcon %s: %s", where, strerror(errno)) : 0;
}

int debugcon_up(struct machine *m, struct error *err)
{
	int r = m->config.debugcon ? open_output(m, m->config.debugcon, err) : 0;

	if (r || !m->config.debugcon)
		return r;
	r = chardev_init(&m->debugcon, &m->vm.loop, -1, m->debugcon_file.fd);
	if (r) {
		output_close(&m->debugcon_file);
		return error_set(err, r, "--debugcon %s: %s", m->config.debugcon, strerror(-r));
	}
	m->vm.debugcon = &m->debugcon;
	return 0;
}

void debugcon_down(struct machine *m)
{
	if (!m->vm.debugcon)
		return;
	chardev_flush(&m->debugcon, FLUSH_MS);
	m->vm.debugcon = NULL;
	chardev_fini(&m->debugcon);
	output_close(&m->debugcon_file);
}
