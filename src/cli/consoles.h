/* SPDX-License-Identifier: BSD-2-Clause */
/* consoles.h - what --console and --tty say of the ports. */
#ifndef TRAPLINE_CLI_CONSOLES_H
#define TRAPLINE_CLI_CONSOLES_H

#include "cli/options.h"
#include "core/vm.h"
#include "host/console.h"
#include "virtio/console.h"

/* For a table of options; both targets are struct option_values. */
#define OPTIONS_CONSOLE(consoles, ttys)                                                                                \
	{ OPTION_GROUP, 0, "Console:", NULL, NULL, NULL },                                                             \
		{ OPTION_REPEAT, 0, "console", "[PORT=]KIND",                                                          \
			"serial0 (default) to serial3, hvc0 to hvc3: stdio, none, pty, file:PATH or socket:PATH",      \
			(consoles) },                                                                                  \
	{                                                                                                              \
		OPTION_REPEAT, 0, "tty", "N", "the same as --console serialN=pty", (ttys)                              \
	}

/*
 * From the options' values, the later over the earlier; what is not spoken of stays the default: serial0 is this
 * terminal, the others have nothing. *hvcs: the virtio console, of no ports where there is to be none. 0, or -EINVAL
 * with one line in `err`.
 */
int consoles_config(const struct option_values *consoles, const struct option_values *ttys,
	struct console_config config[VM_PORTS], struct vconsole_config *hvcs, struct error *err)
	__attribute__((warn_unused_result));

#endif
