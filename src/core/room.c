/* SPDX-License-Identifier: BSD-2-Clause */
/* room.c - how much memory the host could give; see room.h and the kernel's cgroup-v2.rst, memory.rst and proc.rst. */
#include "core/room.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PATH 4096

/* Where a control group tells of its memory. */
struct version {
	const char *mount, *limit, *used, *files[2];
};

static const struct version v2 = { "/sys/fs/cgroup", "memory.max", "memory.current",
	{ "inactive_file", "active_file" } };
static const struct version v1 = { "/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
	{ "total_inactive_file", "total_active_file" } };

static FILE *open_at(const char *root, const char *mount, const char *group, const char *name)
{
	char path[PATH];

	return snprintf(path, sizeof(path), "%s%s%s/%s", root, mount, group, name) < PATH ? fopen(path, "re") : NULL;
}

/* The number behind `key` in lines of "key number"; a colon counts to the key. 0: there is none. */
static uint64_t value_of(FILE *file, const char *key)
{
	size_t len = strlen(key);
	char line[256];
	uint64_t n = 0;

	rewind(file);
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, key, len) == 0 && strchr(" \t", line[len]) && sscanf(line + len, "%" SCNu64, &n) == 1)
			return n;
	}
	return 0;
}

/* The one number of a file; "max" is none. */
static bool number_of(const char *root, const struct version *v, const char *group, const char *name, uint64_t *n)
{
	FILE *file = open_at(root, v->mount, group, name);
	bool is = file && fscanf(file, "%" SCNu64, n) == 1;

	if (file)
		fclose(file);
	return is;
}

static uint64_t room_in(const char *root, const struct version *v, const char *group)
{
	uint64_t limit, used, cached = 0;
	FILE *stat;

	if (!number_of(root, v, group, v->limit, &limit))
		return UINT64_MAX;
	if (!number_of(root, v, group, v->used, &used))
		return limit;
	stat = open_at(root, v->mount, group, "memory.stat");
	if (stat) {
		/* Clean pages of files count as used, and make room. */
		cached = value_of(stat, v->files[0]) + value_of(stat, v->files[1]);
		fclose(stat);
	}
	used -= cached < used ? cached : used;
	return used < limit ? limit - used : 0;
}

/* The group's limit, and those of the groups that it is in, up to the root. */
static uint64_t room_up(const char *root, const struct version *v, char *group)
{
	uint64_t least = UINT64_MAX;

	for (;;) {
		char *slash = strrchr(group, '/');
		uint64_t room = room_in(root, v, strcmp(group, "/") == 0 ? "" : group);

		if (room < least)
			least = room;
		if (!slash)
			return least;
		*slash = '\0';
	}
}

static uint64_t room_of_groups(const char *root)
{
	FILE *file = open_at(root, "", "", "proc/self/cgroup");
	uint64_t least = UINT64_MAX;
	char line[PATH];

	/* Lines of "number:controllers:/group"; no controllers: version 2. */
	while (file && fgets(line, sizeof(line), file)) {
		char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
		uint64_t room;

		if (!group)
			continue;
		*group++ = '\0';
		group[strcspn(group, "\n")] = '\0';
		controllers++;
		if (*controllers && strcmp(controllers, "memory") != 0)
			continue;
		room = room_up(root, *controllers ? &v1 : &v2, group);
		if (room < least)
			least = room;
	}
	if (file)
		fclose(file);
	return least;
}

uint64_t room_now(const char *root)
{
	FILE *file = open_at(root, "", "", "proc/meminfo");
	uint64_t host = 0, swap = 0, groups = room_of_groups(root);

	if (file) {
		host = value_of(file, "MemAvailable:") << 10;
		swap = value_of(file, "SwapFree:") << 10;
		fclose(file);
	}
	if (host && host < groups)
		groups = host;
	return groups < UINT64_MAX - swap ? groups + swap : UINT64_MAX;
}
