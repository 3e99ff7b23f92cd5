/* SPDX-License-Identifier: BSD-2-Clause */
/* postmortem.h - what a guest was doing when it ended against its will, told to the user. */
#ifndef TRAPLINE_MACHINE_POSTMORTEM_H
#define TRAPLINE_MACHINE_POSTMORTEM_H

struct machine;

/*
 * With every vCPU parked: where each is; of those that failed all registers, the code there and the last traps. After a
 * boot that was too slow, the console's last lines too. On standard error, at once, bounded.
 */
void postmortem(struct machine *m);

#endif
