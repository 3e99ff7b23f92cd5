/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * devices.h - options that add a virtio device: --disk FILE,ro,serial=TEXT and their like.
 *
 * A kind of device is one struct device_option, in a file of its own, and one line of the table in devices.c. Its value
 * is words with commas between (a comma of the word's own is written twice): first those that stand for themselves,
 * such as a path, then keys, KEY=TEXT or KEY alone, in any order. "transport" is a key of all of them.
 */
#ifndef TRAPLINE_CLI_DEVICES_H
#define TRAPLINE_CLI_DEVICES_H

#include "cli/options.h"
#include "machine/machine.h"

#define DEVICE_KINDS 16 /* lines of the table at most */
#define DEVICE_KEYS  16 /* of an option, "transport" not counted */
#define DEVICE_WORDS 2  /* that stand for themselves */

struct device_key {
	const char *name;
	bool flag; /* takes no value */
};

/* An option's value, taken apart. The strings last as long as the machine. */
struct device_value {
	const char *words[DEVICE_WORDS]; /* as many as the option has */
	const char *keys[DEVICE_KEYS];   /* in the order of its keys: the value, "" for a flag; NULL: not given */
};

struct device_option {
	char letter;       /* 0: none */
	const char *name;  /* "disk" */
	const char *value; /* what --help shows: "FILE[,KEY]..." */
	const char *help;
	const char *device;  /* its devices are called so, with a number behind: "disk" */
	unsigned words;      /* how many stand for themselves, each of at least one character */
	bool value_optional; /* with `words` 0: the option is also given by its name alone */
	const struct virtio_type *type;
	const struct device_key *keys; /* ends with one without a name; NULL: none */
	/*
	 * Checks, and makes the type's own config, which release() undoes (NULL: free()). `m` has what other options
	 * said of the machine itself. 0, 1 for no device at all, or -errno with a line that begins behind "--disk
	 * a.img: ".
	 */
	int (*parse)(
		const struct device_value *value, const struct machine_config *m, void **config, struct error *err);
	void (*release)(void *config);
	/* Where the type depends on what was parsed. NULL: `type`. */
	const struct virtio_type *(*type_of)(const void *config);
	/* Whether it can be beside one of its type that was given earlier: 0, or -errno with a line. NULL: it can. */
	int (*beside)(const void *config, const void *earlier, struct error *err);
	/*
	 * What it was given may be a thing that another device serves: the option that parses it, with the same words
	 * and keys, and is in no table. NULL, or a result of it: this one.
	 */
	const struct device_option *(*instead)(const struct device_value *value);
	/* What it says of the machine itself. NULL: nothing. */
	void (*apply)(const void *config, struct machine_config *m);
};

/* Those that have a file of their own. */
extern const struct device_option option_disk;
extern const struct device_option option_9p;
extern const struct device_option option_vsock;
extern const struct device_option option_scsi;
extern const struct device_option option_vhost_user;
extern const struct device_option option_fs;

/* Values of keys: 0, or -EINVAL with a line that names the key. */
int device_number(const char *key, const char *text, unsigned least, unsigned most, unsigned *value, struct error *err);
int device_mac(const char *text, uint8_t mac[6], struct error *err); /* "52:54:00:12:34:56" */

/* What a command line says of devices. All zeros but for what devices_init() sets. */
struct devices {
	const struct device_option *const *table;
	struct option_spec specs[DEVICE_KINDS + 3];
	struct option_values given[DEVICE_KINDS];
	const char *transport; /* of those that do not say */
	struct guest_virtio *list;
	struct device_made *made; /* what devices_free() frees; one for each of the list */
	unsigned n;
};

#define OPTIONS_DEVICES(d)                                                                                             \
	{                                                                                                              \
		OPTION_TABLE, 0, NULL, NULL, NULL, (d)->specs                                                          \
	}

/* Before the options are parsed. `table` is NULL-ended; NULL: the program's own. */
void devices_init(struct devices *d, const struct device_option *const *table);
/* Another option's value asks for such a device, as the option `name` alone would, where that was not given. */
void devices_imply(struct devices *d, const char *name);
/*
 * What was parsed becomes m->guest's list of devices: by kind in the table's order, of a kind as they were given. 0 or
 * -errno with a line and a status; devices_free() then too, and not before the machine is down.
 */
int devices_config(struct devices *d, struct machine_config *m, struct error *err) __attribute__((warn_unused_result));
void devices_free(struct devices *d);
const char *devices_transport(enum virtio_transport transport); /* "mmio" */

#endif
