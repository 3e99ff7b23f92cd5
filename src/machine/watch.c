/* SPDX-License-Identifier: BSD-2-Clause */
/* watch.c - descriptors that a machine's event loop watches; see watch.h. */
#include "machine/watch.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "machine/machine.h"

int watch_up(struct machine *m, struct loop_watch *w, int fd, void (*fn)(void *, uint32_t), const char *what,
	struct error *err)
{
	int r = fd < 0 ? -errno : 0;

	*w = (struct loop_watch){ .fd = fd, .fn = fn, .arg = m };
	if (r == 0)
		r = loop_watch(&m->vm.loop, w, EPOLLIN);
	if (r == 0)
		return 0;
	if (fd >= 0)
		close(fd);
	w->fn = NULL;
	return error_set(err, r, "cannot watch %s: %s", what, strerror(-r));
}

void watch_down(struct machine *m, struct loop_watch *w)
{
	if (!w->fn)
		return;
	loop_unwatch(&m->vm.loop, w);
	close(w->fd);
	w->fn = NULL;
}
