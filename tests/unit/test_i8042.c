/* SPDX-License-Identifier: BSD-2-Clause */
/* test_i8042.c - the keyboard controller, its keyboard and its mouse, as Linux's drivers meet them. */
#include "dev_rig.h"

#include "desc/aml.h"
#include "dev/i8042.h"
#include "dev/ps2.h"

#define FULL    0x01
#define SYSTEM  0x04
#define COMMAND 0x08
#define AUX     0x20

static struct rig *kbc_rig(void)
{
	struct rig *rig = rig_new(0);

	rig_add(rig, &i8042_type, NULL);
	return rig;
}

static uint8_t status(struct rig *rig)
{
	return rig_read(rig, I8042_REGION_COMMAND, 0, 1);
}

static uint8_t data(struct rig *rig)
{
	return rig_read(rig, I8042_REGION_DATA, 0, 1);
}

static void put(struct rig *rig, uint8_t byte)
{
	rig_write(rig, I8042_REGION_DATA, 0, 1, byte);
}

static void command(struct rig *rig, uint8_t byte)
{
	rig_write(rig, I8042_REGION_COMMAND, 0, 1, byte);
}

/* The next byte, which must be there and must be of the keyboard or controller, or of the mouse. */
static void expect(struct rig *rig, uint8_t byte, bool aux)
{
	assert_int_equal(status(rig) & (FULL | AUX), FULL | (aux ? AUX : 0));
	assert_int_equal(data(rig), byte);
}

static void expect_bytes(struct rig *rig, const char *bytes, size_t n, bool aux)
{
	for (size_t i = 0; i < n; i++)
		expect(rig, (uint8_t)bytes[i], aux);
	assert_int_equal(status(rig) & FULL, 0);
}
#define EXPECT_KBD(rig, bytes)   expect_bytes(rig, bytes, sizeof(bytes) - 1, false)
#define EXPECT_MOUSE(rig, bytes) expect_bytes(rig, bytes, sizeof(bytes) - 1, true)

static void write_ctr(struct rig *rig, uint8_t ctr)
{
	command(rig, 0x60);
	put(rig, ctr);
}

static uint8_t read_ctr(struct rig *rig)
{
	command(rig, 0x20);
	assert_int_equal(status(rig) & (FULL | AUX), FULL);
	return data(rig);
}

static void mouse(struct rig *rig, uint8_t byte)
{
	command(rig, 0xd4);
	put(rig, byte);
}

static enum run_reason requested(struct rig *rig)
{
	return run_take_request(&rig->vm.run);
}

static void test_power_on(void **state)
{
	struct rig *rig = kbc_rig();

	assert_int_equal(status(rig), 0x10 | SYSTEM);
	/* Translating, keyboard on with its interrupt, mouse off. */
	assert_int_equal(read_ctr(rig), 0x65);
	assert_int_equal(status(rig) & COMMAND, COMMAND);
	put(rig, 0xee);
	assert_int_equal(status(rig) & COMMAND, 0);
	expect(rig, 0xee, false);
	rig_free(rig);
}

static void test_commands(void **state)
{
	static const struct {
		uint8_t command, reply;
	} table[] = { { 0xaa, 0x55 }, { 0xab, 0x00 }, { 0xa9, 0x00 }, { 0xa4, 0xf1 }, { 0xc0, 0x80 }, { 0xe0, 0x00 } };
	struct rig *rig = kbc_rig();

	for (unsigned i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		command(rig, table[i].command);
		expect(rig, table[i].reply, false);
		assert_int_equal(status(rig) & FULL, 0);
	}
	command(rig, 0xa8);
	assert_int_equal(read_ctr(rig), 0x45);
	command(rig, 0xa7);
	assert_int_equal(read_ctr(rig), 0x65);
	command(rig, 0xad);
	assert_int_equal(read_ctr(rig), 0x75);
	command(rig, 0xae);
	assert_int_equal(read_ctr(rig), 0x65);
	/* Commands that do not exist do nothing. */
	for (unsigned c = 0; c < 0x20; c++)
		command(rig, c);
	assert_int_equal(status(rig) & FULL, 0);
	/* RAM: every byte. */
	for (unsigned i = 1; i < 32; i++) {
		command(rig, 0x60 + i);
		put(rig, 0x80 + i);
	}
	for (unsigned i = 1; i < 32; i++) {
		command(rig, 0x20 + i);
		expect(rig, 0x80 + i, false);
	}
	assert_int_equal(read_ctr(rig), 0x65);
	/* The system flag shows in the status. */
	write_ctr(rig, 0x61);
	assert_int_equal(status(rig) & SYSTEM, 0);
	command(rig, 0xaa);
	expect(rig, 0x55, false);
	assert_int_equal(status(rig) & SYSTEM, SYSTEM);
	assert_int_equal(requested(rig), REASON_NONE);
	rig_free(rig);
}

/* What other firmware than ours uses: passwords, polls of the input port, A20 by commands of its own. */
static void test_rare_commands(void **state)
{
	struct rig *rig = kbc_rig();

	/* A password goes to nobody: the keyboard would take its bytes for commands. */
	command(rig, 0xa5);
	put(rig, 0xf2);
	put(rig, 0xee);
	put(rig, 0);
	command(rig, 0xa6);
	assert_int_equal(status(rig) & FULL, 0);
	put(rig, 0xee);
	expect(rig, 0xee, false);
	/* The input port's halves, in the status until something is written. */
	command(rig, 0xc2);
	assert_int_equal(status(rig) & 0xf0, 0x80);
	command(rig, 0xc1);
	assert_int_equal(status(rig) & 0xf0, 0x00);
	command(rig, 0xae);
	assert_int_equal(status(rig) & 0xf0, 0x10);
	command(rig, 0xdd);
	command(rig, 0xd0);
	expect(rig, 0xc1, false);
	command(rig, 0xdf);
	command(rig, 0xd0);
	expect(rig, 0xc3, false);
	rig_free(rig);
}

/* The machine's keys are this keyboard's, as long as it is there. */
static void test_the_machines_keys(void **state)
{
	struct rig *rig = kbc_rig();

	assert_true(vm_key(&rig->vm, (const uint8_t *)"\x1c", 1));
	expect(rig, 0x1e, false);
	put(rig, 0xf5); /* not scanning */
	expect(rig, 0xfa, false);
	assert_false(vm_key(&rig->vm, (const uint8_t *)"\x1c", 1));
	vm_remove_device(rig->dev);
	assert_false(vm_key(&rig->vm, (const uint8_t *)"\x1c", 1));
	rig_free(rig);
}

static void test_output_port(void **state)
{
	struct rig *rig = kbc_rig();

	command(rig, 0xd0);
	expect(rig, 0xc3, false);
	command(rig, 0xd1);
	put(rig, 0xdd);
	command(rig, 0xd0);
	expect(rig, 0xc1, false);
	command(rig, 0xd1);
	put(rig, 0xdf);
	assert_int_equal(requested(rig), REASON_NONE);
	command(rig, 0xd1);
	put(rig, 0xde);
	assert_int_equal(requested(rig), REASON_RESET);
	rig_free(rig);
}

static void test_reset_pulse(void **state)
{
	struct rig *rig = kbc_rig();

	for (unsigned c = 0xf0; c <= 0xff; c++) {
		command(rig, c);
		assert_int_equal(requested(rig), c & 1 ? REASON_NONE : REASON_RESET);
	}
	rig_free(rig);
}

/* The steps of Linux's i8042.c: controller check, self-test, AUX detection with and without interrupt. */
static void test_linux_probe(void **state)
{
	struct rig *rig = kbc_rig();
	uint8_t ctr;

	assert_int_equal(status(rig) & FULL, 0);
	command(rig, 0xaa);
	expect(rig, 0x55, false);
	ctr = read_ctr(rig);
	assert_int_equal(read_ctr(rig), ctr);
	ctr = (ctr | 0x10) & ~0x01;
	write_ctr(rig, ctr);
	/* AUX loop: the reply must carry the AUX flag. */
	command(rig, 0xd3);
	put(rig, 0x5a);
	expect(rig, 0x5a, true);
	/* The command byte's bit must follow A7 and A8. */
	command(rig, 0xa7);
	assert_int_equal(read_ctr(rig) & 0x20, 0x20);
	command(rig, 0xa8);
	assert_int_equal(read_ctr(rig) & 0x20, 0);
	/* No multiplexer: what is looped comes back unchanged. */
	for (const char *c = "\xf0\x56\xa4"; *c; c++) {
		command(rig, 0xd3);
		put(rig, *c);
		expect(rig, (uint8_t)*c, true);
	}
	/* The AUX interrupt. */
	assert_int_equal(rig_rises(rig, I8042_IRQ_MOUSE), 0);
	write_ctr(rig, (ctr | 0x02) & ~0x20);
	command(rig, 0xd3);
	put(rig, 0xa5);
	assert_int_equal(rig_rises(rig, I8042_IRQ_MOUSE), 1);
	assert_true(rig_level(rig, I8042_IRQ_MOUSE));
	expect(rig, 0xa5, true);
	assert_false(rig_level(rig, I8042_IRQ_MOUSE));
	/* A keyboard loop is the keyboard's. */
	write_ctr(rig, 0x47);
	command(rig, 0xd2);
	put(rig, 0x1e);
	assert_true(rig_level(rig, I8042_IRQ_KEYBOARD));
	expect(rig, 0x1e, false);
	rig_free(rig);
}

static void test_keyboard_commands(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x25); /* no translation */
	put(rig, 0xff);
	EXPECT_KBD(rig, "\xfa\xaa");
	put(rig, 0xf2);
	EXPECT_KBD(rig, "\xfa\xab\x83");
	put(rig, 0xed);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0x07);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0xf3);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0x00);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0xee);
	EXPECT_KBD(rig, "\xee");
	put(rig, 0xf0);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0x00);
	EXPECT_KBD(rig, "\xfa\x02");
	/* No set 3. */
	put(rig, 0xf0);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0x03);
	EXPECT_KBD(rig, "\xfe");
	/* A command where a parameter is due is a command. */
	put(rig, 0xed);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0xf2);
	EXPECT_KBD(rig, "\xfa\xab\x83");
	put(rig, 0xfe);
	EXPECT_KBD(rig, "\x83");
	put(rig, 0x01);
	EXPECT_KBD(rig, "\xfe");
	put(rig, 0xf5);
	EXPECT_KBD(rig, "\xfa");
	assert_false(i8042_key(rig->dev, (const uint8_t *)"\x1c", 1));
	put(rig, 0xf4);
	EXPECT_KBD(rig, "\xfa");
	assert_true(i8042_key(rig->dev, (const uint8_t *)"\x1c", 1));
	EXPECT_KBD(rig, "\x1c");
	/* With translation the identification is that which Linux knows as a translated keyboard's. */
	write_ctr(rig, 0x65);
	put(rig, 0xf2);
	EXPECT_KBD(rig, "\xfa\xab\x41");
	rig_free(rig);
}

static void key(struct rig *rig, const char *codes)
{
	assert_true(i8042_key(rig->dev, (const uint8_t *)codes, strlen(codes)));
}

static void test_keys(void **state)
{
	struct rig *rig = kbc_rig();
	unsigned before = rig_rises(rig, I8042_IRQ_KEYBOARD);

	key(rig, "\x1c");     /* A down */
	key(rig, "\xf0\x1c"); /* A up */
	key(rig, "\xe0\x75"); /* up arrow */
	key(rig, "\xe0\xf0\x75");
	EXPECT_KBD(rig, "\x1e\x9e\xe0\x48\xe0\xc8");
	/* An edge for every byte, and none without one. */
	assert_int_equal(rig_rises(rig, I8042_IRQ_KEYBOARD), before + 6);
	assert_false(rig_level(rig, I8042_IRQ_KEYBOARD));
	/* Raw set 2. */
	write_ctr(rig, 0x25);
	key(rig, "\xe0\xf0\x75");
	EXPECT_KBD(rig, "\xe0\xf0\x75");
	/* The keyboard's own set 1. */
	put(rig, 0xf0);
	EXPECT_KBD(rig, "\xfa");
	put(rig, 0x01);
	EXPECT_KBD(rig, "\xfa");
	key(rig, "\xe0\xf0\x75");
	EXPECT_KBD(rig, "\xe0\xc8");
	/* Without its interrupt the byte waits all the same. */
	put(rig, 0xf6);
	EXPECT_KBD(rig, "\xfa");
	write_ctr(rig, 0x64);
	before = rig_rises(rig, I8042_IRQ_KEYBOARD);
	key(rig, "\x1c");
	assert_int_equal(rig_rises(rig, I8042_IRQ_KEYBOARD), before);
	assert_int_equal(status(rig) & FULL, FULL);
	write_ctr(rig, 0x65);
	assert_true(rig_level(rig, I8042_IRQ_KEYBOARD));
	EXPECT_KBD(rig, "\x1e");
	rig_free(rig);
}

/* Well-known keys, and no two keys with one code. */
static void test_translation(void **state)
{
	static const uint8_t known[][2] = { { 0x76, 0x01 }, { 0x16, 0x02 }, { 0x45, 0x0b }, { 0x15, 0x10 },
		{ 0x1c, 0x1e }, { 0x5a, 0x1c }, { 0x29, 0x39 }, { 0x12, 0x2a }, { 0x14, 0x1d }, { 0x11, 0x38 },
		{ 0x05, 0x3b }, { 0x09, 0x44 }, { 0x78, 0x57 }, { 0x07, 0x58 }, { 0x83, 0x41 }, { 0x77, 0x45 },
		{ 0x7e, 0x46 }, { 0x66, 0x0e }, { 0x0d, 0x0f }, { 0x58, 0x3a }, { 0x59, 0x36 }, { 0x7c, 0x37 },
		{ 0x70, 0x52 }, { 0x71, 0x53 }, { 0x6c, 0x47 }, { 0x7a, 0x51 }, { 0x61, 0x56 }, { 0x1f, 0x5b } };
	unsigned seen[256] = { 0 };

	for (unsigned i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		assert_int_equal(ps2_set1(known[i][0]), known[i][1]);
	for (unsigned i = 1; i < 0x80; i++)
		assert_int_equal(seen[ps2_set1(i)]++, 0);
	for (unsigned i = 0x85; i < 0x100; i++)
		assert_int_equal(ps2_set1(i), i);
}

static void test_overrun(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x25);
	/* One byte is in the output buffer, sixteen in the keyboard. */
	for (unsigned i = 0; i < 17; i++)
		key(rig, "\x1c");
	for (unsigned i = 0; i < 5; i++)
		assert_false(i8042_key(rig->dev, (const uint8_t *)"\x1c", 1));
	for (unsigned i = 0; i < 17; i++)
		expect(rig, 0x1c, false);
	expect(rig, 0x00, false);
	assert_int_equal(status(rig) & FULL, 0);
	/* An event is queued whole or not at all. */
	for (unsigned i = 0; i < 16; i++)
		key(rig, "\x1c");
	assert_false(i8042_key(rig->dev, (const uint8_t *)"\xe0\x75", 2));
	for (unsigned i = 0; i < 16; i++)
		expect(rig, 0x1c, false);
	expect(rig, 0x00, false);
	assert_int_equal(status(rig) & FULL, 0);
	assert_false(i8042_key(rig->dev, (const uint8_t *)"01234567890123456789", 20));
	rig_free(rig);
}

static void test_ports_off(void **state)
{
	struct rig *rig = kbc_rig();

	command(rig, 0xad);
	key(rig, "\x1c");
	assert_int_equal(status(rig) & FULL, 0);
	/* The controller itself still answers, before what waits. */
	command(rig, 0xaa);
	command(rig, 0xae);
	expect(rig, 0x55, false);
	expect(rig, 0x1e, false);
	/* A byte in the buffer is not replaced by a reply; the reply comes next. */
	key(rig, "\x1c");
	command(rig, 0x20);
	expect(rig, 0x1e, false);
	expect(rig, 0x65, false);
	/* Replies of the keyboard go before keys that were pressed earlier. */
	command(rig, 0xad);
	key(rig, "\x1c");
	put(rig, 0xf2);
	command(rig, 0xae);
	EXPECT_KBD(rig, "\xfa\xab\x41\x1e");
	rig_free(rig);
}

static void test_mouse_commands(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x47);
	/* psmouse: identification, reset, and the knocks of extensions that are not there. */
	mouse(rig, 0xf2);
	EXPECT_MOUSE(rig, "\xfa\x00");
	mouse(rig, 0xff);
	EXPECT_MOUSE(rig, "\xfa\xaa\x00");
	for (const char *rate = "\xc8\x64\x50"; *rate; rate++) {
		mouse(rig, 0xf3);
		EXPECT_MOUSE(rig, "\xfa");
		mouse(rig, *rate);
		EXPECT_MOUSE(rig, "\xfa");
	}
	mouse(rig, 0xf2);
	EXPECT_MOUSE(rig, "\xfa\x00");
	for (unsigned i = 0; i < 4; i++) {
		mouse(rig, 0xe8);
		EXPECT_MOUSE(rig, "\xfa");
		mouse(rig, 0x01);
		EXPECT_MOUSE(rig, "\xfa");
	}
	mouse(rig, 0xe7);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0xf4);
	EXPECT_MOUSE(rig, "\xfa");
	i8042_mouse(rig->dev, 0, 0, 1 | 2);
	EXPECT_MOUSE(rig, "\x0b\x00\x00");
	/* Status: enabled, 2:1, left and right; resolution 1, 80 a second. */
	mouse(rig, 0xe9);
	EXPECT_MOUSE(rig, "\xfa\x35\x01\x50");
	mouse(rig, 0xf6);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0xe9);
	EXPECT_MOUSE(rig, "\xfa\x05\x02\x64");
	mouse(rig, 0xe8);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0x04);
	EXPECT_MOUSE(rig, "\xfe");
	mouse(rig, 0x03);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0xe1);
	EXPECT_MOUSE(rig, "\xfe");
	/* Wrap: everything comes back but its own end and a reset. */
	mouse(rig, 0xee);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0xe9);
	EXPECT_MOUSE(rig, "\xe9");
	mouse(rig, 0xec);
	EXPECT_MOUSE(rig, "\xfa");
	mouse(rig, 0xfe);
	EXPECT_MOUSE(rig, "\xfa");
	rig_free(rig);
}

static void test_mouse_movement(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x47);
	/* Not enabled: silent. */
	i8042_mouse(rig->dev, 5, 5, 0);
	assert_int_equal(status(rig) & FULL, 0);
	mouse(rig, 0xf4);
	EXPECT_MOUSE(rig, "\xfa");
	i8042_mouse(rig->dev, 5, -3, 4);
	assert_true(rig_level(rig, I8042_IRQ_MOUSE));
	EXPECT_MOUSE(rig, "\x2c\x05\xfd");
	assert_false(rig_level(rig, I8042_IRQ_MOUSE));
	i8042_mouse(rig->dev, 0, 0, 0);
	EXPECT_MOUSE(rig, "\x08\x00\x00");
	/* What is more than a packet holds comes in several; what comes meanwhile is added up. */
	i8042_mouse(rig->dev, 300, -300, 0);
	i8042_mouse(rig->dev, 100, 0, 0);
	EXPECT_MOUSE(rig, "\x28\xff\x01\x28\x91\xd3");
	/* Nothing new, nothing said. */
	i8042_mouse(rig->dev, 0, 0, 0);
	assert_int_equal(status(rig) & FULL, 0);
	/* Scaling 2:1. */
	mouse(rig, 0xe7);
	EXPECT_MOUSE(rig, "\xfa");
	i8042_mouse(rig->dev, 3, -10, 0);
	EXPECT_MOUSE(rig, "\x28\x03\xec");
	/* Remote mode: only when asked, and not scaled. */
	mouse(rig, 0xf0);
	EXPECT_MOUSE(rig, "\xfa");
	i8042_mouse(rig->dev, 4, 4, 0);
	assert_int_equal(status(rig) & FULL, 0);
	mouse(rig, 0xeb);
	EXPECT_MOUSE(rig, "\xfa\x08\x04\x04");
	/* A host that never reads cannot make it overflow. */
	mouse(rig, 0xea);
	for (unsigned i = 0; i < 100000; i++)
		i8042_mouse(rig->dev, INT32_MAX, INT32_MIN, i & 7);
	expect(rig, 0xfa, true);
	for (unsigned i = 0; i < 100; i++)
		data(rig);
	rig_free(rig);
}

/* Keyboard before mouse, and each with its own interrupt. */
static void test_both(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x47);
	mouse(rig, 0xf4);
	EXPECT_MOUSE(rig, "\xfa");
	i8042_mouse(rig->dev, 1, 0, 0);
	key(rig, "\x1c");
	assert_true(rig_level(rig, I8042_IRQ_MOUSE));
	assert_false(rig_level(rig, I8042_IRQ_KEYBOARD));
	expect(rig, 0x08, true);
	assert_true(rig_level(rig, I8042_IRQ_KEYBOARD));
	expect(rig, 0x1e, false);
	expect(rig, 0x01, true);
	expect(rig, 0x00, true);
	assert_int_equal(status(rig) & FULL, 0);
	rig_free(rig);
}

static void test_reset_and_restore(void **state)
{
	struct rig *rig = kbc_rig();

	write_ctr(rig, 0x47);
	mouse(rig, 0xf4);
	EXPECT_MOUSE(rig, "\xfa");
	key(rig, "\x1c");
	i8042_mouse(rig->dev, 7, 0, 0);
	rig_restore(rig);
	assert_true(rig_level(rig, I8042_IRQ_KEYBOARD));
	expect(rig, 0x1e, false);
	EXPECT_MOUSE(rig, "\x08\x07\x00");
	key(rig, "\x1c");
	device_reset(rig->dev);
	assert_false(rig_level(rig, I8042_IRQ_KEYBOARD));
	assert_int_equal(status(rig), 0x10 | SYSTEM);
	assert_int_equal(read_ctr(rig), 0x65);
	rig_free(rig);
}

static void test_hostile(void **state)
{
	struct rig *rig = kbc_rig();
	uint8_t *bytes = (uint8_t *)rig->dev + i8042_type.state_offset;
	uint32_t seed = 5;

	for (unsigned round = 0; round < 500; round++) {
		for (const struct field *f = i8042_type.state; f->name; f++)
			for (unsigned i = 0; i < (unsigned)f->width * f->count; i++)
				bytes[f->offset + i] = (seed = seed * 1664525 + 1013904223) >> 24;
		i8042_type.start(rig->dev);
		for (unsigned i = 0; i < 200; i++) {
			seed = seed * 1664525 + 1013904223;
			if (seed >> 30 == 0)
				rig_write(rig, seed >> 29 & 1, 0, 1, seed >> 8);
			else if (seed >> 30 == 1)
				i8042_key(rig->dev, (uint8_t *)&seed, 1 + (seed >> 28 & 3));
			else if (seed >> 30 == 2)
				i8042_mouse(rig->dev, (int16_t)seed, (int16_t)(seed >> 8), seed >> 16);
			else
				rig_read(rig, seed >> 29 & 1, 0, 1);
		}
	}
	requested(rig);
	rig_free(rig);
}

static bool contains(const struct aml *aml, const void *bytes, size_t n)
{
	return memmem(aml->buf, aml->len, bytes, n);
}

/* To ACPI, a keyboard with both ports and interrupt, and a mouse with an interrupt. */
static void test_acpi(void **state)
{
	struct rig *rig = kbc_rig();
	struct aml aml;

	aml_begin(&aml, 4096);
	i8042_type.acpi(rig->dev, &aml);
	assert_true(aml_ok(&aml));
	assert_true(contains(&aml, "\x41\xd0\x03\x03", 4));
	assert_true(contains(&aml, "\x41\xd0\x0f\x13", 4));
	/* IO (0x100), IO (0x200), IRQNoFlags {1}; IRQNoFlags {2}. */
	assert_true(
		contains(&aml, "\x47\x01\x00\x01\x00\x01\x01\x01\x47\x01\x00\x02\x00\x02\x01\x01\x22\x02\x00\x79", 20));
	assert_true(contains(&aml, "\x22\x04\x00\x79", 4));
	aml_free(&aml);
	rig_free(rig);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_power_on),
		cmocka_unit_test(test_commands),
		cmocka_unit_test(test_rare_commands),
		cmocka_unit_test(test_the_machines_keys),
		cmocka_unit_test(test_output_port),
		cmocka_unit_test(test_reset_pulse),
		cmocka_unit_test(test_linux_probe),
		cmocka_unit_test(test_keyboard_commands),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_translation),
		cmocka_unit_test(test_overrun),
		cmocka_unit_test(test_ports_off),
		cmocka_unit_test(test_mouse_commands),
		cmocka_unit_test(test_mouse_movement),
		cmocka_unit_test(test_both),
		cmocka_unit_test(test_reset_and_restore),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_acpi),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
