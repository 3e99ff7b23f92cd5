/* SPDX-License-Identifier: BSD-2-Clause */
/* network.h - --network: a network device and what it talks to. */
#ifndef TRAPLINE_CLI_NETWORK_H
#define TRAPLINE_CLI_NETWORK_H

#include "cli/devices.h"

extern const struct device_option network_option;

#endif
