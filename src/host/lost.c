/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lost.c - see lost.h. Any thread can be the one that touches the page, in the middle of anything, so nothing is taken
 * down in order: what the guest has flushed is on its disks, and programs that we started end with us.
 */
#include "host/lost.h"

#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "core/say.h"
#include "core/status.h"
#include "host/tty.h"

static const char words[] =
	"trapline: memory was lost (SIGBUS): a file behind the guest's RAM was cut short by somebody, or the host has "
	"no page for it; leave the file alone that --mem-file names or vhost-user programs have, and its file system "
	"room\n";

static void lost(int sig, siginfo_t *info, void *context)
{
	tty_crash();
	if (info->si_code > 0) {
		say_text(words, sizeof(words) - 1, SAY_MS);
		_exit(STATUS_HOST);
	}
	/* Somebody has sent it: what it does by default, when we return. */
	signal(sig, SIG_DFL);
	raise(sig);
}

void lost_memory_ends(void)
{
	struct sigaction act = { .sa_sigaction = lost, .sa_flags = SA_SIGINFO };

	sigemptyset(&act.sa_mask);
	sigaction(SIGBUS, &act, NULL);
}
