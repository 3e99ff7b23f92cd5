/* SPDX-License-Identifier: BSD-2-Clause */
/* room.h - how much memory the host could give us, which it does not say to who asks for it: it kills. */
#ifndef TRAPLINE_CORE_ROOM_H
#define TRAPLINE_CORE_ROOM_H

#include <stdint.h>

/*
 * Bytes that this process could get now: what the host has available or can swap out, and no more than the limits of
 * its control group (of either version) and of those above it. An estimate, and rather too much; UINT64_MAX where the
 * host does not tell. `root` stands before /proc and /sys: "", but for tests.
 */
uint64_t room_now(const char *root);

#endif
