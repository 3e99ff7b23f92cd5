/* SPDX-License-Identifier: BSD-2-Clause */
/* test_devices.c - what options that add devices make of their values, with options of the test's own. */
#include "unit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli/devices.h"

struct thing {
	char text[200];
	unsigned cpus;
};

static unsigned released;

static const struct virtio_type thing_type = { .name = "thing" };
static const struct device_key thing_keys[] = { { "ro", true }, { "serial", false }, { "queues", false },
	{ NULL, false } };

static int thing_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	struct thing *thing = calloc(1, sizeof(*thing));

	assert_non_null(thing);
	*config = thing;
	snprintf(thing->text, sizeof(thing->text), "%s|%s|%s|%s", value->words[0], value->keys[0] ? "ro" : "rw",
		value->keys[1] ? value->keys[1] : "-", value->keys[2] ? value->keys[2] : "-");
	thing->cpus = m->guest.cpus;
	if (strcmp(value->words[0], "none") == 0)
		return 1;
	if (strcmp(value->words[0], "bad") == 0)
		return error_set(err, -ENOENT, "there is none");
	return 0;
}

static void thing_release(void *config)
{
	released++;
	free(config);
}

static int bare_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	return 0;
}

static int pair_parse(
	const struct device_value *value, const struct machine_config *m, void **config, struct error *err)
{
	*config = strdup(value->words[1]);
	return 0;
}

static const struct device_option bare_option = { 0, "bare", "KEY", "nothing to say", "bare", 0, true, &thing_type,
	NULL, bare_parse, NULL };
static const struct device_option pair_option = { 0, "pair", "DIR,TAG", "two words", "pair", 2, false, &thing_type,
	NULL, pair_parse, NULL };
/* What it is given decides what it is. */
static const struct virtio_type other_type = { .name = "other" };

static void other_apply(const void *config, struct machine_config *m)
{
	m->name = "applied";
}

static int other_beside(const void *config, const void *earlier, struct error *err)
{
	return error_set(err, -EEXIST, "one is enough");
}

static const struct device_option other_option = {
	.device = "other",
	.words = 1,
	.type = &other_type,
	.keys = thing_keys,
	.parse = thing_parse,
	.release = thing_release,
	.beside = other_beside,
	.apply = other_apply,
};

static const struct device_option *thing_instead(const struct device_value *value)
{
	return strncmp(value->words[0], "other", 5) == 0 ? &other_option : NULL;
}

static const struct device_option thing_option = {
	.letter = 't',
	.name = "thing",
	.value = "FILE[,KEY]...",
	.help = "a thing",
	.device = "thing",
	.words = 1,
	.type = &thing_type,
	.keys = thing_keys,
	.parse = thing_parse,
	.release = thing_release,
	.instead = thing_instead,
};
static const struct device_option *const table[] = { &thing_option, &bare_option, &pair_option, NULL };

struct bed {
	struct devices d;
	struct machine_config m;
	struct error err;
};

/* The command line through the parser, and then the devices. */
static int configure(struct bed *bed, int argc, const char *const *words)
{
	char *argv[16];
	struct option_spec specs[] = { OPTIONS_DEVICES(&bed->d), { OPTION_END, 0, NULL, NULL, NULL, NULL } };
	struct option_words rest;
	int r;

	assert_true(argc <= 16);
	for (int i = 0; i < argc; i++)
		argv[i] = (char *)(uintptr_t)words[i];
	memset(bed, 0, sizeof(*bed));
	devices_init(&bed->d, table);
	bed->m.guest.cpus = 3;
	r = options_parse(specs, argc, argv, &rest, &bed->err);
	if (r)
		return r;
	assert_int_equal(rest.n, 0);
	return devices_config(&bed->d, &bed->m, &bed->err);
}

#define CONFIGURE(bed, ...)                                                                                            \
	configure(bed, (int)(sizeof((const char *[]){ __VA_ARGS__ }) / sizeof(char *)), (const char *[]){ __VA_ARGS__ })

static const char *text_of(const struct bed *bed, unsigned i)
{
	return ((const struct thing *)bed->m.guest.virtio[i].config.config)->text;
}

static void names_and_order(void **state)
{
	struct bed bed;

	assert_int_equal(
		CONFIGURE(&bed, "--pair", "/home,tag", "--thing", "a", "--bare", "-t", "b,ro", "--bare=transport=pci"),
		0);
	assert_int_equal(bed.m.guest.nr_virtio, 5);
	assert_string_equal(bed.m.guest.virtio[0].name, "thing0");
	assert_string_equal(bed.m.guest.virtio[1].name, "thing1");
	assert_string_equal(bed.m.guest.virtio[2].name, "bare0");
	assert_string_equal(bed.m.guest.virtio[3].name, "bare1");
	assert_string_equal(bed.m.guest.virtio[4].name, "pair0");
	assert_ptr_equal(bed.m.guest.virtio[0].config.type, &thing_type);
	assert_string_equal(bed.m.guest.virtio[1].option, "--thing b,ro");
	assert_string_equal(bed.m.guest.virtio[2].option, "--bare");
	assert_int_equal(bed.m.guest.virtio[3].transport, VIRTIO_ON_PCI);
	assert_string_equal(bed.m.guest.virtio[4].config.config, "tag");
	assert_int_equal(((const struct thing *)bed.m.guest.virtio[0].config.config)->cpus, 3);
	devices_free(&bed.d);
}

static void values(void **state)
{
	struct bed bed;

	assert_int_equal(CONFIGURE(&bed, "-t", "a=b", "-t", "a,,b,serial=x,,y=z,ro", "-t", "a,queues=4,,"), 0);
	assert_string_equal(text_of(&bed, 0), "a=b|rw|-|-");
	assert_string_equal(text_of(&bed, 1), "a,b|ro|x,y=z|-");
	assert_string_equal(text_of(&bed, 2), "a|rw|-|4,");
	devices_free(&bed.d);
	/* What is no device leaves no gap, and nothing behind. */
	released = 0;
	assert_int_equal(CONFIGURE(&bed, "-t", "none", "-t", "a"), 0);
	assert_int_equal(bed.m.guest.nr_virtio, 1);
	assert_string_equal(bed.m.guest.virtio[0].name, "thing0");
	assert_int_equal(released, 1);
	devices_free(&bed.d);
	assert_int_equal(released, 2);
	assert_int_equal(CONFIGURE(&bed, "--virtio-transport", "pci"), 0);
	assert_int_equal(bed.m.guest.nr_virtio, 0);
	devices_free(&bed.d);
}

static void what_it_is_decides(void **state)
{
	struct bed bed;

	released = 0;
	assert_int_equal(CONFIGURE(&bed, "-t", "a", "-t", "other,ro", "-t", "b"), 0);
	assert_string_equal(bed.m.guest.virtio[0].name, "thing0");
	assert_string_equal(bed.m.guest.virtio[1].name, "other0");
	assert_string_equal(bed.m.guest.virtio[2].name, "thing1");
	assert_ptr_equal(bed.m.guest.virtio[1].config.type, &other_type);
	assert_string_equal(text_of(&bed, 1), "other|ro|-|-");
	assert_string_equal(bed.m.guest.virtio[1].option, "--thing other,ro");
	assert_string_equal(bed.m.name, "applied");
	devices_free(&bed.d);
	assert_int_equal(released, 3);
	assert_int_equal(CONFIGURE(&bed, "-t", "other1", "-t", "a", "-t", "other2"), -EEXIST);
	assert_string_equal(bed.err.text, "--thing other2: one is enough");
	devices_free(&bed.d);
	assert_int_equal(CONFIGURE(&bed, "-t", "a"), 0);
	assert_null(bed.m.name);
	devices_free(&bed.d);
}

static void transport(void **state)
{
	static const struct {
		const char *name;
		enum virtio_transport transport;
		bool legacy;
	} all[] = {
		{ "pci", VIRTIO_ON_PCI, false },
		{ "pci-legacy", VIRTIO_ON_PCI_LEGACY, true },
		{ "mmio", VIRTIO_ON_MMIO, false },
		{ "mmio-legacy", VIRTIO_ON_MMIO_LEGACY, true },
	};
	struct bed bed;

	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(
			CONFIGURE(&bed, "-t", "a", "--virtio-transport", all[i].name, "-t", "b,transport=mmio"), 0);
		assert_int_equal(bed.m.guest.virtio[0].transport, all[i].transport);
		assert_int_equal(bed.m.guest.virtio[0].config.legacy, all[i].legacy);
		assert_int_equal(bed.m.guest.virtio[1].transport, VIRTIO_ON_MMIO);
		devices_free(&bed.d);
	}
}

static void refused(struct bed *bed, int r, const char *text, const char *hint)
{
	assert_int_not_equal(r, 0);
	assert_string_equal(bed->err.text, text);
	assert_string_equal(bed->err.hint, hint);
	devices_free(&bed->d);
}

static void refusals(void **state)
{
	static const char comma[] = "a comma in a path or a text is written twice; man trapline tells what there is";
	struct bed bed;

	refused(&bed, CONFIGURE(&bed, "-t", "a,seril=1"), "--thing a,seril=1: there is no 'seril'",
		"did you mean 'serial'?");
	refused(&bed, CONFIGURE(&bed, "-t", "a,transprt=pci"), "--thing a,transprt=pci: there is no 'transprt'",
		"did you mean 'transport'?");
	refused(&bed, CONFIGURE(&bed, "-t", "a,b.img"), "--thing a,b.img: there is no 'b.img'", comma);
	refused(&bed, CONFIGURE(&bed, "-t", "a,,,"), "--thing a,,,: there is no ''", comma);
	refused(&bed, CONFIGURE(&bed, "-t", ""), "--thing: not of the form FILE[,KEY]...", "");
	refused(&bed, CONFIGURE(&bed, "-t", ",ro"), "--thing ,ro: not of the form FILE[,KEY]...", "");
	refused(&bed, CONFIGURE(&bed, "--pair", "/home"), "--pair /home: not of the form DIR,TAG", "");
	refused(&bed, CONFIGURE(&bed, "-t", "a,ro=1"), "--thing a,ro=1: 'ro' takes no value", "");
	refused(&bed, CONFIGURE(&bed, "-t", "a,ro,ro"), "--thing a,ro,ro: 'ro' is given twice", "");
	refused(&bed, CONFIGURE(&bed, "-t", "a,serial"), "--thing a,serial: 'serial' needs a value: serial=...", "");
	refused(&bed, CONFIGURE(&bed, "-t", "a,serial="), "--thing a,serial=: 'serial' needs a value: serial=...", "");
	refused(&bed, CONFIGURE(&bed, "-t", "a,transport=mmoi"),
		"--thing a,transport=mmoi: 'mmoi' is no transport: there are pci, pci-legacy, mmio and mmio-legacy",
		"did you mean 'mmio'?");
	refused(&bed, CONFIGURE(&bed, "--virtio-transport", "isa"),
		"--virtio-transport: 'isa' is no transport: there are pci, pci-legacy, mmio and mmio-legacy", "");
	released = 0;
	refused(&bed, CONFIGURE(&bed, "-t", "a", "-t", "bad"), "--thing bad: there is none", "");
	assert_int_equal(bed.err.status, STATUS_USAGE);
	assert_int_equal(released, 2);
	refused(&bed, CONFIGURE(&bed, "--thnig", "a"), "unknown option '--thnig'", "did you mean '--thing'?");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(names_and_order), cmocka_unit_test(values),
		cmocka_unit_test(what_it_is_decides), cmocka_unit_test(transport), cmocka_unit_test(refusals) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
