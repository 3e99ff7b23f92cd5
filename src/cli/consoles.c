/* SPDX-License-Identifier: BSD-2-Clause */
/* consoles.c - what --console and --tty say of the ports; see consoles.h. */
#include "cli/consoles.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/consoles.h"

/* "serial2=pty" to 2 and "pty"; without a port it is the first. */
static int split_port(const char *text, unsigned *line, const char **kind, struct error *err)
{
	size_t len = strcspn(text, "=:");

	*line = 0;
	*kind = text;
	if (text[len] != '=')
		return 0;
	*kind = text + len + 1;
	for (; *line < VM_PORTS; ++*line) {
		if (strlen(consoles_port(*line)) == len && memcmp(text, consoles_port(*line), len) == 0)
			return 0;
	}
	return error_set(err, -EINVAL, "'%.*s' is no port; they are %s to %s, and %s to %s", (int)(len < 40 ? len : 40),
		text, consoles_port(0), consoles_port(VM_SERIALS - 1), consoles_port(VM_SERIALS),
		consoles_port(VM_PORTS - 1));
}

/* What only one port can have. */
static int check_shared(const struct console_config config[VM_PORTS], struct error *err)
{
	for (unsigned i = 1; i < VM_PORTS; i++) {
		for (unsigned j = 0; j < i; j++) {
			if (config[i].kind != config[j].kind)
				continue;
			if (config[i].kind == CONSOLE_STDIO)
				return error_set(err, -EINVAL, "--console: this terminal cannot be %s and %s both",
					consoles_port(j), consoles_port(i));
			if (config[i].path && strcmp(config[i].path, config[j].path) == 0)
				return error_set(err, -EINVAL, "--console: '%s' cannot be for %s and %s both",
					config[i].path, consoles_port(j), consoles_port(i));
		}
	}
	return 0;
}

/* The virtio console has as many ports as the last that is spoken of needs. */
static int count_hvcs(const struct console_config config[VM_PORTS], struct vconsole_config *hvcs, struct error *err)
{
	hvcs->nr_ports = hvcs->shared;
	for (unsigned i = 0; i < VM_HVCS; i++) {
		if (config[VM_SERIALS + i].kind != CONSOLE_NONE)
			hvcs->nr_ports = i + 1;
	}
	if (hvcs->shared && config[VM_SERIALS].kind != CONSOLE_NONE)
		return error_set(err, -EINVAL, "--console: %s is what %s is, by 'virtio', and cannot be another",
			consoles_port(VM_SERIALS), consoles_port(0));
	if (hvcs->shared && config[0].kind == CONSOLE_NONE)
		return error_set(
			err, -EINVAL, "--console: 'virtio' shares %s's back end, which is 'none'", consoles_port(0));
	return 0;
}

int consoles_config(const struct option_values *consoles, const struct option_values *ttys,
	struct console_config config[VM_PORTS], struct vconsole_config *hvcs, struct error *err)
{
	memset(config, 0, VM_PORTS * sizeof(*config));
	*hvcs = (struct vconsole_config){ 0 };
	config[0].kind = CONSOLE_STDIO;
	for (unsigned i = 0; i < consoles->n; i++) {
		const char *kind;
		unsigned line;

		if (strcmp(consoles->text[i], "virtio") == 0) {
			hvcs->shared = true;
			continue;
		}
		if (split_port(consoles->text[i], &line, &kind, err) || console_parse(kind, &config[line], err))
			return error_prefix(err, -EINVAL, "--console");
	}
	for (unsigned i = 0; i < ttys->n; i++) {
		char *end;
		unsigned long line = strtoul(ttys->text[i], &end, 10);

		if (end == ttys->text[i] || *end || line >= VM_SERIALS)
			return error_set(err, -EINVAL, "--tty: '%.40s' is no serial port; they are 0 to %d",
				ttys->text[i], VM_SERIALS - 1);
		config[line] = (struct console_config){ .kind = CONSOLE_PTY };
	}
	return check_shared(config, err) ? -EINVAL : count_hvcs(config, hvcs, err);
}
