/* SPDX-License-Identifier: BSD-2-Clause */
/* leave.c - whether the user wants to leave; see leave.h. */
#include "core/leave.h"

#include <stddef.h>
#include <sys/signalfd.h>

void leave_signals(sigset_t *set)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP };

	sigemptyset(set);
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		struct sigaction act;

		if (sigaction(signals[i], NULL, &act) == 0 && act.sa_handler != SIG_IGN)
			sigaddset(set, signals[i]);
	}
}

bool leave_pending(void)
{
	sigset_t pending, ours;

	/* The common case asks once; of what is ignored, none is pending unless somebody else has blocked it. */
	if (sigpending(&pending) || sigisemptyset(&pending))
		return false;
	leave_signals(&ours);
	return sigandset(&ours, &ours, &pending) == 0 && !sigisemptyset(&ours);
}

int leave_fd(void)
{
	sigset_t set;

	leave_signals(&set);
	return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}
