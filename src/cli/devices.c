/* SPDX-License-Identifier: BSD-2-Clause */
/* devices.c - options that add virtio devices: the table of them, and their values taken apart. */
#include "cli/devices.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/network.h"
#include "core/word.h"
#include "virtio/balloon.h"
#include "virtio/console.h"
#include "virtio/rng.h"

static int rng_parse(const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	return 0;
}

static const struct device_option option_rng = {
	.name = "rng",
	.value = "transport=WHICH",
	.value_optional = true,
	.help = "the host's random numbers for the guest's pool",
	.device = "rng",
	.type = &virtio_rng_type,
	.parse = rng_parse,
};

static int balloon_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct balloon_config *balloon = calloc(1, sizeof(*balloon));

	*config = balloon;
	if (!balloon)
		return error_set(err, -ENOMEM, "no memory for the devices");
	if (value->keys[0] && options_size(value->keys[0], &balloon->want, err))
		return error_prefix(err, -EINVAL, "size");
	if (balloon->want >= m->guest.ram)
		return error_set(err, -EINVAL, "%llu MiB is all that the guest has, or more; it has %llu (-m)",
			(unsigned long long)balloon->want >> 20, (unsigned long long)m->guest.ram >> 20);
	return 0;
}

static const struct device_key balloon_keys[] = { { "size", false }, { NULL, false } };

static const struct device_option option_balloon = {
	.name = "balloon",
	.value = "size=SIZE",
	.value_optional = true,
	.help = "memory that the guest lends to the host; Ctrl-A + and -",
	.device = "balloon",
	.type = &virtio_balloon_type,
	.keys = balloon_keys,
	.parse = balloon_parse,
};

static int console_parse_option(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	const struct vconsole_config *hvcs = &m->guest.hvcs;
	struct vconsole_config *c;

	if (!hvcs->nr_ports)
		return error_set(err, -EINVAL, "nothing is behind it; --console hvc0=KIND says what");
	c = malloc(sizeof(*c));
	if (!c)
		return error_set(err, -ENOMEM, "no memory");
	*c = *hvcs;
	*config = c;
	return 0;
}

static const struct device_option option_console = {
	.name = "virtio-console",
	.value = "transport=WHICH",
	.value_optional = true,
	.help = "what carries hvc0 to hvc3; there is one where --console speaks of them",
	.device = "hvc",
	.type = &vconsole_type,
	.parse = console_parse_option,
};

/* The order in which devices get their slots. */
static const struct device_option *const program_table[] = {
	&option_disk,
	&network_option,
	&option_rng,
	&option_balloon,
	&option_console,
	&option_9p,
	&option_fs,
	&option_vhost_user,
	&option_vsock,
	&option_scsi,
	NULL,
};

static const char *const transports[] = {
	[VIRTIO_ON_PCI] = "pci",
	[VIRTIO_ON_PCI_LEGACY] = "pci-legacy",
	[VIRTIO_ON_MMIO] = "mmio",
	[VIRTIO_ON_MMIO_LEGACY] = "mmio-legacy",
	NULL,
};
_Static_assert(sizeof(transports) / sizeof(transports[0]) == NR_VIRTIO_TRANSPORTS + 1, "a name for each transport");

#define DEFAULT_TRANSPORT VIRTIO_ON_PCI

static const char transport_key[] = "transport";

struct device_made {
	const struct device_option *option;
	void *config;
	char *label; /* "--disk a.img" */
	char *text;  /* the words, each ended by a 0 */
};

const char *devices_transport(enum virtio_transport transport)
{
	return transports[transport];
}

void devices_init(struct devices *d, const struct device_option *const *table)
{
	unsigned n = 0;

	memset(d, 0, sizeof(*d));
	d->table = table ? table : program_table;
	d->specs[n++] = (struct option_spec){ OPTION_GROUP, 0, "Devices:", NULL, NULL, NULL };
	for (unsigned i = 0; d->table[i]; i++) {
		const struct device_option *o = d->table[i];

		d->specs[n++] = (struct option_spec){ o->value_optional ? OPTION_REPEAT_OPTIONAL : OPTION_REPEAT,
			o->letter, o->name, o->value, o->help, &d->given[i] };
	}
	d->specs[n++] = (struct option_spec){ OPTION_STRING, 0, "virtio-transport", "WHICH",
		"of devices that do not say: pci, pci-legacy, mmio, mmio-legacy", &d->transport };
	d->specs[n] = (struct option_spec){ OPTION_END, 0, NULL, NULL, NULL, NULL };
}

static int parse_transport(const char *text, enum virtio_transport *transport, struct error *err)
{
	const char *nearest;

	for (unsigned i = 0; i < NR_VIRTIO_TRANSPORTS; i++) {
		if (strcmp(text, transports[i]) == 0) {
			*transport = (enum virtio_transport)i;
			return 0;
		}
	}
	nearest = word_nearest(text, transports);
	error_set(err, -EINVAL, "'%.100s' is no transport: there are pci, pci-legacy, mmio and mmio-legacy", text);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	return -EINVAL;
}

/* Cuts the next word off *at, which becomes NULL after the last; ",," is a comma in it. */
static char *next_word(char **at)
{
	char *word = *at, *to = *at, *from = *at;

	for (; *from; from++) {
		if (*from == ',' && *++from != ',') {
			*to = '\0';
			*at = from;
			return word;
		}
		*to++ = *from;
	}
	*to = '\0';
	*at = NULL;
	return word;
}

/* `valued`: it was written with a value; one without may be a value that lacks its key. */
static int unknown_key(const struct device_option *o, const char *name, bool valued, struct error *err)
{
	const char *names[DEVICE_KEYS + 2] = { transport_key }, *nearest;
	unsigned n = 1;

	for (const struct device_key *key = o->keys; key && key->name; key++)
		names[n++] = key->name;
	nearest = word_nearest(name, names);
	if (!o->words && !nearest && !valued)
		return error_set(err, -EINVAL, "'%.100s' is not of the form %s", name, o->value);
	error_set(err, -EINVAL, "there is no '%.100s'", name);
	if (nearest)
		error_hint(err, "did you mean '%s'?", nearest);
	else if (!o->words)
		error_hint(err, "its form is %s", o->value);
	else
		error_hint(err, "a comma in a path or a text is written twice; man trapline tells what there is");
	return -EINVAL;
}

/* "serial=X", "ro". */
static int take_key(const struct device_option *o, char *word, struct device_value *value, const char **transport,
	struct error *err)
{
	char *equals = strchr(word, '=');
	const char *text = equals ? equals + 1 : NULL, **target = NULL;
	bool flag = false;

	if (equals)
		*equals = '\0';
	if (strcmp(word, transport_key) == 0)
		target = transport;
	for (unsigned i = 0; !target && o->keys && o->keys[i].name; i++) {
		if (strcmp(word, o->keys[i].name) == 0) {
			target = &value->keys[i];
			flag = o->keys[i].flag;
		}
	}
	if (!target)
		return unknown_key(o, word, equals, err);
	if (*target)
		return error_set(err, -EINVAL, "'%s' is given twice", word);
	if (flag && text)
		return error_set(err, -EINVAL, "'%s' takes no value", word);
	if (!flag && (!text || !*text))
		return error_set(err, -EINVAL, "'%s' needs a value: %s=...", word, word);
	*target = flag ? "" : text;
	return 0;
}

static int take_apart(const struct device_option *o, char *text, struct device_value *value, const char **transport,
	struct error *err)
{
	char *at = *text || o->words ? text : NULL;

	for (unsigned i = 0; i < o->words; i++) {
		value->words[i] = at ? next_word(&at) : "";
		if (!*value->words[i])
			return error_set(err, -EINVAL, "not of the form %s", o->value);
	}
	while (at) {
		int r = take_key(o, next_word(&at), value, transport, err);

		if (r)
			return r;
	}
	return 0;
}

/* 0, 1 for no device, or -errno; what `made` and `device` have then is devices_free()'s all the same. */
static int make(const struct devices *d, struct device_made *made, struct guest_virtio *device,
	const struct machine_config *m, const char *text, struct error *err)
{
	const struct device_option *o = made->option;
	struct device_value value = { .words = { NULL } };
	const struct device_option *other;
	const char *transport = NULL;
	int r;

	made->text = strdup(text);
	if (!made->text || asprintf(&made->label, "--%s%s%s", o->name, *text ? " " : "", text) < 0) {
		made->label = NULL;
		return error_set(err, -ENOMEM, "no memory for the devices");
	}
	device->transport = DEFAULT_TRANSPORT;
	device->option = made->label;
	r = take_apart(o, made->text, &value, &transport, err);
	other = r == 0 && o->instead ? o->instead(&value) : NULL;
	if (other)
		made->option = o = other;
	device->config.type = o->type;
	if (r == 0 && (transport || d->transport))
		r = parse_transport(transport ? transport : d->transport, &device->transport, err);
	if (r == 0)
		r = o->parse(&value, m, &made->config, err);
	if (r == 1 && transport)
		r = error_set(err, -EINVAL, "%s= does not go with none", transport_key);
	if (r < 0)
		return error_prefix(err, r, "%.300s", made->label);
	if (o->type_of)
		device->config.type = o->type_of(made->config);
	device->config.config = made->config;
	device->config.legacy = device->transport == VIRTIO_ON_PCI_LEGACY || device->transport == VIRTIO_ON_MMIO_LEGACY;
	return r;
}

static void unmake(struct device_made *made)
{
	if (made->config && made->option->release)
		made->option->release(made->config);
	else
		free(made->config);
	free(made->label);
	free(made->text);
	memset(made, 0, sizeof(*made));
}

static int check_beside(const struct devices *d, const struct device_made *made, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && made->option->beside && i < d->n; i++) {
		if (d->made[i].option->type == made->option->type)
			r = made->option->beside(made->config, d->made[i].config, err);
	}
	return r ? error_prefix(err, r, "%.300s", made->label) : 0;
}

/* How many there are already that are called so. */
static unsigned number_of(const struct devices *d, const char *device)
{
	unsigned n = 0;

	for (unsigned i = 0; i < d->n; i++)
		n += strcmp(d->made[i].option->device, device) == 0;
	return n;
}

static int make_kind(struct devices *d, unsigned kind, struct machine_config *m, struct error *err)
{
	for (unsigned i = 0; i < d->given[kind].n; i++) {
		struct device_made *made = &d->made[d->n];
		struct guest_virtio *device = &d->list[d->n];
		int r;

		made->option = d->table[kind];
		r = make(d, made, device, m, d->given[kind].text[i], err);
		if (r == 0)
			r = check_beside(d, made, err);
		if (r < 0) {
			unmake(made);
			return r;
		}
		if (r) {
			unmake(made);
			memset(device, 0, sizeof(*device));
			continue;
		}
		snprintf(device->name, sizeof(device->name), "%s%u", made->option->device,
			number_of(d, made->option->device));
		if (made->option->apply)
			made->option->apply(made->config, m);
		d->n++;
	}
	return 0;
}

void devices_imply(struct devices *d, const char *name)
{
	for (unsigned i = 0; d->table[i]; i++) {
		if (strcmp(d->table[i]->name, name) == 0 && !d->given[i].n)
			d->given[i].text[d->given[i].n++] = "";
	}
}

int devices_config(struct devices *d, struct machine_config *m, struct error *err)
{
	enum virtio_transport transport;
	unsigned all = 0;
	int r = 0;

	if (d->transport && parse_transport(d->transport, &transport, err)) {
		err->status = STATUS_USAGE;
		return error_prefix(err, -EINVAL, "--virtio-transport");
	}
	for (unsigned i = 0; d->table[i]; i++)
		all += d->given[i].n;
	if (!all)
		return 0;
	d->list = calloc(all, sizeof(*d->list));
	d->made = calloc(all, sizeof(*d->made));
	if (!d->list || !d->made)
		return error_set(err, -ENOMEM, "no memory for the devices");
	for (unsigned i = 0; r == 0 && d->table[i]; i++)
		r = make_kind(d, i, m, err);
	if (r && !err->status)
		err->status = r == -ENOMEM ? STATUS_HOST : STATUS_USAGE;
	m->guest.virtio = d->list;
	m->guest.nr_virtio = d->n;
	return r;
}

void devices_free(struct devices *d)
{
	while (d->n > 0)
		unmake(&d->made[--d->n]);
	free(d->list);
	free(d->made);
	d->list = NULL;
	d->made = NULL;
}
