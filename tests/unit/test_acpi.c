/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_acpi.c - the tables of a machine: parsed again here by their offsets in the specification, and by iasl,
 * which must take them apart and put them together again without a word, to the same bytes.
 */
#include "pci_bed.h"

#include <stdio.h>
#include <unistd.h>

#include "acpi_bytes.h"
#include "desc/acpi.h"
#include "desc/aml.h"

#define GPA 0xe0000

struct gadget {
	struct device dev;
	struct region regions[4];
	struct irq irqs[2];
};

static void gadget_trap(void *dev, struct trap *trap)
{
}

static void gadget_destroy(struct device *dev)
{
	device_fini(dev);
	free(dev);
}

static void gadget_acpi(struct device *dev, struct aml *aml)
{
	aml_name_int(aml, "EXTR", 0x1234);
}

static const struct device_type port_type = { .name = "port", .acpi_hid = "PNP0501", .destroy = gadget_destroy };
static const struct device_type wide_type = {
	.name = "wide", .acpi_hid = "LNRO0005", .destroy = gadget_destroy, .acpi = gadget_acpi
};
static const struct device_type mute_type = { .name = "mute", .destroy = gadget_destroy };

static void add_gadget(struct bed *bed, const struct device_type *type, const char *name, unsigned uid, unsigned line,
	enum irq_trigger trigger, unsigned regions, const struct region *where)
{
	struct gadget *g = calloc(1, sizeof(*g));
	struct device *dev = &g->dev;
	struct error err;

	device_init(dev, type, &bed->vm, name);
	dev->uid = uid;
	for (unsigned i = 0; i < regions; i++) {
		device_region(dev, &g->regions[i], name, where[i].size, WIDTH_1, gadget_trap);
		g->regions[i].space = where[i].space;
		g->regions[i].base = where[i].base;
	}
	device_irq(dev, &g->irqs[0], "irq", trigger);
	device_irq(dev, &g->irqs[1], "not connected", IRQ_LEVEL);
	assert_int_equal(irq_connect(&bed->vm.irqs, &g->irqs[0], line), 0);
	assert_int_equal(vm_add_devices(&bed->vm, &dev, 1, &err), 0);
}

static int setup(void **state)
{
	static const struct region serial = { .space = SPACE_PIO, .base = 0x3f8, .size = 8 };
	static const struct region moved = { .space = SPACE_MMIO, .base = 0x90000000, .size = 8 };
	static const struct region wide[] = { { .space = SPACE_PIO, .base = 0x1000, .size = 0x100 },
		{ .space = SPACE_MMIO, .base = 0xf0000000, .size = 0x200 },
		{ .space = SPACE_MMIO, .base = 0x9000000000, .size = 0x1000 } };
	struct bed *bed;

	bed_setup(state);
	bed = *state;
	add_gadget(bed, &port_type, "serial0", 0, 4, IRQ_EDGE, 1, &serial);
	add_gadget(bed, &port_type, "serial1", 1, 3, IRQ_LEVEL, 1, &moved);
	add_gadget(bed, &wide_type, "wide0", 0, 20, IRQ_LEVEL, 3, wide);
	add_gadget(bed, &mute_type, "mute0", 0, 21, IRQ_LEVEL, 0, NULL);
	return 0;
}

static const uint32_t ids[300];

static struct acpi_platform platform(unsigned cpus)
{
	return (struct acpi_platform){
		.apic_ids = ids,
		.nr_cpus = cpus,
		.lapic_base = 0xfee00000,
		.ioapic_base = 0xfec00000,
		.ioapic_id = 1,
		.pic = true,
		.timer_gsi = 2,
		.sci = 9,
		.pm1_event = { SPACE_PIO, 0x600, 4 },
		.pm1_control = { SPACE_PIO, 0x604, 2 },
		.pm_timer = { SPACE_PIO, 0x608, 4 },
		.reset = { SPACE_PIO, 0x60c, 1 },
		.reset_value = 1,
		.s5 = 5,
		.century = 0x32,
		.boot_arch = ACPI_BOOT_LEGACY_DEVICES | ACPI_BOOT_8042 | ACPI_BOOT_NO_VGA,
		.ecam_base = BED_ECAM,
		.ecam_last_bus = 15,
	};
}

static const uint8_t *at(const struct acpi_tables *t, uint64_t gpa, size_t len)
{
	assert_true(gpa >= t->gpa && gpa - t->gpa <= t->length && len <= t->length - (gpa - t->gpa));
	return t->bytes + (gpa - t->gpa);
}

/* Any table but the FACS: in bounds, right length and checksum. */
static const uint8_t *table_at(const struct acpi_tables *t, uint64_t gpa, const char *signature, size_t *len)
{
	const uint8_t *table = at(t, gpa, 36);

	assert_memory_equal(table, signature, 4);
	*len = le(table + 4, 4);
	at(t, gpa, *len);
	assert_true(*len >= 36);
	assert_int_equal(sum(table, *len), 0);
	return table;
}

/* By way of RSDP and XSDT, as a guest does. NULL: there is no such table. */
static const uint8_t *find(const struct acpi_tables *t, const char *signature, size_t *len)
{
	const uint8_t *rsdp = at(t, t->rsdp, 36), *xsdt;
	size_t n;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(rsdp[15], 2);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	assert_int_equal(le(rsdp + 20, 4), 36);
	xsdt = table_at(t, le(rsdp + 24, 8), "XSDT", &n);
	for (size_t i = 36; i < n; i += 8)
		if (!memcmp(at(t, le(xsdt + i, 8), 4), signature, 4))
			return table_at(t, le(xsdt + i, 8), signature, len);
	return NULL;
}

static void build(struct bed *bed, const struct acpi_platform *p, struct acpi_tables *t)
{
	struct error err;

	assert_int_equal(acpi_build(p, &bed->vm, GPA, t, &err), 0);
	assert_int_equal(t->rsdp % 16, 0);
}

static void test_fadt(void **state)
{
	struct acpi_platform p = platform(1);
	struct acpi_tables t;
	const uint8_t *fadt, *facs;
	size_t len;

	build(*state, &p, &t);
	fadt = find(&t, "FACP", &len);
	assert_non_null(fadt);
	assert_int_equal(len, 276);
	assert_int_equal(fadt[8], 6);
	facs = at(&t, le(fadt + 36, 4), 64);
	assert_memory_equal(facs, "FACS", 4);
	assert_int_equal(le(facs + 4, 4), 64);
	assert_int_equal(facs[32], 2);
	assert_int_equal(le(fadt + 36, 4) % 64, 0);
	assert_int_equal(le(fadt + 132, 8), 0);
	table_at(&t, le(fadt + 40, 4), "DSDT", &len);
	assert_int_equal(le(fadt + 140, 8), le(fadt + 40, 4));
	assert_int_equal(le(fadt + 46, 2), 9);
	assert_int_equal(le(fadt + 48, 4), 0); /* no SMI */
	assert_int_equal(le(fadt + 56, 4), 0x600);
	assert_int_equal(le(fadt + 64, 4), 0x604);
	assert_int_equal(le(fadt + 76, 4), 0x608);
	assert_int_equal(fadt[88], 4);
	assert_int_equal(fadt[89], 2);
	assert_int_equal(fadt[91], 4);
	assert_int_equal(fadt[108], 0x32);
	assert_int_equal(le(fadt + 109, 2), 7);
	/* WBINVD, C1, no fixed RTC, 32-bit timer, reset register; both buttons fixed; not hardware-reduced. */
	assert_int_equal(le(fadt + 112, 4), 0x545);
	assert_int_equal(fadt[116], 1);
	assert_int_equal(fadt[117], 8);
	assert_int_equal(le(fadt + 120, 8), 0x60c);
	assert_int_equal(fadt[128], 1);
	assert_int_equal(fadt[148], 1);
	assert_int_equal(fadt[149], 32);
	assert_int_equal(le(fadt + 152, 8), 0x600);
	assert_int_equal(le(fadt + 172 + 4, 8), 0x604);
	assert_int_equal(le(fadt + 208 + 4, 8), 0x608);
	acpi_free(&t);
	/* Registers in memory have no place in the old fields. */
	p.pm1_event = (struct acpi_block){ SPACE_MMIO, 0xf1000000, 4 };
	p.pm_timer.len = p.reset.len = 0;
	build(*state, &p, &t);
	fadt = find(&t, "FACP", &len);
	assert_int_equal(le(fadt + 56, 4), 0);
	assert_int_equal(fadt[148], 0);
	assert_int_equal(le(fadt + 152, 8), 0xf1000000);
	assert_int_equal(le(fadt + 112, 4), 0x045);
	assert_int_equal(le(fadt + 120, 8), 0);
	acpi_free(&t);
}

struct madt_count {
	unsigned lapic, x2apic, ioapic, overrides, nmi, x2nmi, others;
	uint32_t last_id, last_uid;
};

static struct madt_count parse_madt(const uint8_t *madt, size_t len)
{
	struct madt_count c = { 0 };

	for (size_t i = 44; i < len; i += madt[i + 1]) {
		const uint8_t *e = madt + i;

		assert_true(e[1] >= 2 && i + e[1] <= len);
		switch (e[0]) {
		case 0:
			assert_int_equal(e[1], 8);
			assert_int_equal(le(e + 4, 4), 1);
			assert_true(e[2] != 255 && e[3] != 255);
			c.lapic++;
			c.last_uid = e[2];
			c.last_id = e[3];
			break;
		case 1:
			assert_int_equal(le(e + 4, 4), 0xfec00000);
			assert_int_equal(le(e + 8, 4), 0);
			assert_int_equal(e[2], 1);
			c.ioapic++;
			break;
		case 2:
			assert_int_equal(e[2], 0);
			assert_true((e[3] == 0 && le(e + 4, 4) == 2 && le(e + 8, 2) == 0) ||
				    (e[3] == 9 && le(e + 4, 4) == 9 && le(e + 8, 2) == 0xd));
			c.overrides++;
			break;
		case 4:
			assert_int_equal(e[2], 0xff);
			assert_int_equal(e[5], 1);
			c.nmi++;
			break;
		case 9:
			assert_int_equal(e[1], 16);
			assert_int_equal(le(e + 8, 4), 1);
			c.x2apic++;
			c.last_id = (uint32_t)le(e + 4, 4);
			c.last_uid = (uint32_t)le(e + 12, 4);
			break;
		case 10:
			assert_int_equal(le(e + 4, 4), 0xffffffff);
			assert_int_equal(e[8], 1);
			c.x2nmi++;
			break;
		default:
			c.others++;
		}
	}
	assert_int_equal(c.others, 0);
	assert_int_equal(c.overrides, 2);
	assert_int_equal(c.ioapic, 1);
	assert_int_equal(c.nmi, 1);
	return c;
}

static void test_madt(void **state)
{
	struct acpi_platform p = platform(3);
	static uint32_t wide[300], sparse[] = { 0, 2, 4 };
	struct acpi_tables t;
	struct madt_count c;
	const uint8_t *madt;
	size_t len;

	p.apic_ids = sparse;
	build(*state, &p, &t);
	madt = find(&t, "APIC", &len);
	assert_int_equal(le(madt + 36, 4), 0xfee00000);
	assert_int_equal(le(madt + 40, 4), 1);
	c = parse_madt(madt, len);
	assert_int_equal(c.lapic, 3);
	assert_int_equal(c.last_uid, 2);
	assert_int_equal(c.last_id, 4);
	assert_int_equal(c.x2apic + c.x2nmi, 0);
	acpi_free(&t);
	for (unsigned i = 0; i < 300; i++)
		wide[i] = i;
	p = platform(300);
	p.apic_ids = wide;
	build(*state, &p, &t);
	madt = find(&t, "APIC", &len);
	c = parse_madt(madt, len);
	assert_int_equal(c.lapic, 255);
	assert_int_equal(c.x2apic, 45);
	assert_int_equal(c.x2nmi, 1);
	assert_int_equal(c.last_id, 299);
	assert_int_equal(c.last_uid, 299);
	acpi_free(&t);
	/* A processor id of 255 would mean all of them, whatever the APIC id. */
	memset(wide, 0, sizeof(wide));
	build(*state, &p, &t);
	madt = find(&t, "APIC", &len);
	c = parse_madt(madt, len);
	assert_int_equal(c.lapic, 255);
	assert_int_equal(c.last_uid, 299);
	acpi_free(&t);
}

static void test_mcfg(void **state)
{
	struct acpi_platform p = platform(1);
	struct acpi_tables t;
	const uint8_t *mcfg;
	size_t len;

	build(*state, &p, &t);
	mcfg = find(&t, "MCFG", &len);
	assert_int_equal(len, 36 + 8 + 16);
	assert_int_equal(le(mcfg + 44, 8), BED_ECAM);
	assert_int_equal(le(mcfg + 52, 2), 0);
	assert_int_equal(mcfg[54], 0);
	assert_int_equal(mcfg[55], 15);
	acpi_free(&t);
	p.ecam_base = 0;
	build(*state, &p, &t);
	assert_null(find(&t, "MCFG", &len));
	acpi_free(&t);
}

static void test_refusals(void **state)
{
	struct acpi_platform p = platform(1);
	struct bed *bed = *state;
	struct acpi_tables t;
	struct error err;

	assert_int_equal(acpi_build(&p, &bed->vm, GPA + 32, &t, &err), -EINVAL);
	p.sci = 16;
	assert_int_equal(acpi_build(&p, &bed->vm, GPA, &t, &err), -EINVAL);
	p = platform(0);
	assert_int_equal(acpi_build(&p, &bed->vm, GPA, &t, &err), -EINVAL);
	p = platform(1);
	p.pm1_control.len = 0;
	assert_int_equal(acpi_build(&p, &bed->vm, GPA, &t, &err), -EINVAL);
	/* Every bound is either enough or refused: never half a table. */
	p = platform(4);
	build(bed, &p, &t);
	p.max_size = (uint32_t)t.length;
	acpi_free(&t);
	build(bed, &p, &t);
	acpi_free(&t);
	for (uint32_t max = 1; max < p.max_size; max += 61) {
		struct acpi_platform small = p;

		small.max_size = max;
		assert_int_equal(acpi_build(&small, &bed->vm, GPA, &t, &err), -ENOSPC);
	}
	p.max_size--;
	assert_int_equal(acpi_build(&p, &bed->vm, GPA, &t, &err), -ENOSPC);
}

static char *slurp(const char *path, size_t *len)
{
	FILE *f = fopen(path, "r");
	char *text = calloc(1, 0x400000);

	assert_non_null(f);
	*len = fread(text, 1, 0x400000 - 1, f);
	fclose(f);
	return text;
}

static void run_iasl(const char *dir, const char *args)
{
	char command[512], log[256], *text;
	size_t len;
	int r;

	snprintf(log, sizeof(log), "%s/log", dir);
	snprintf(command, sizeof(command), "cd %s && iasl %s > log 2>&1", dir, args);
	r = system(command);
	text = slurp(log, &len);
	if (r || strstr(text, "Warning ") || strstr(text, "Error ") || strstr(text, "Error:"))
		fail_msg("iasl %s:\n%s", args, text);
	free(text);
}

/* Apart, together, and the same bytes but for the compiler's name and the checksum. */
static void iasl_round_trip(const char *dir, const char *name, const uint8_t *table, size_t len)
{
	char path[256], args[128], *again;
	uint8_t *copy = malloc(len);
	size_t again_len;
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s.aml", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(table, 1, len, f), len);
	fclose(f);
	snprintf(args, sizeof(args), "-d %s.aml", name);
	run_iasl(dir, args);
	snprintf(args, sizeof(args), "-oa -p again %s.dsl", name);
	run_iasl(dir, args);
	snprintf(path, sizeof(path), "%s/again.aml", dir);
	again = slurp(path, &again_len);
	assert_int_equal(again_len, len);
	memcpy(copy, table, len);
	copy[9] = 0;
	again[9] = 0;
	if (memcmp(copy, "FACS", 4)) {
		memset(copy + 28, 0, 8);
		memset(again + 28, 0, 8);
	}
	assert_memory_equal(copy, again, len);
	free(again);
	free(copy);
}

static const char *const in_dsdt[] = {
	"Device (PCI0)", "EisaId (\"PNP0A08\")", "EisaId (\"PNP0A03\")", "WordBusNumber (ResourceProducer",
	"0x0CF8,             // Range Minimum", "0xD2000000,         // Range Minimum",
	"0x0000008000000000, // Range Minimum", "Method (_OSC, 4, NotSerialized)",
	"ToUUID (\"33db4d5b-1ff7-401c-9657-7441c03dd766\")", "EisaId (\"PNP0C02\")",
	"0xD1000000,         // Address Base", "0x01000000,         // Address Length", "Name (_HID, \"ACPI0007\"",
	"Device (C002)", "Name (_DDN, \"serial0\"", "IRQNoFlags ()", "Name (_DDN, \"serial1\"",
	"Interrupt (ResourceConsumer, Level, ActiveHigh, Shared", "\"LNRO0005\"", "WordIO (ResourceConsumer",
	"QWordMemory (ResourceConsumer", "Name (EXTR, 0x1234)", "Name (\\_S5, Package (0x04)",
	"0x001FFFFF,", /* slot 31 in _PRT */
};

static const char *const not_in_dsdt[] = { "mute0", "test0", "PNP0A05" };

static void check_text(const char *dir)
{
	char path[256], *text;
	size_t len;

	snprintf(path, sizeof(path), "%s/dsdt.dsl", dir);
	text = slurp(path, &len);
	for (unsigned i = 0; i < sizeof(in_dsdt) / sizeof(in_dsdt[0]); i++)
		if (!strstr(text, in_dsdt[i]))
			fail_msg("the DSDT has no '%s':\n%s", in_dsdt[i], text ? text : "");
	for (unsigned i = 0; i < sizeof(not_in_dsdt) / sizeof(not_in_dsdt[0]); i++)
		assert_null(strstr(text, not_in_dsdt[i]));
	free(text);
}

static void test_iasl(void **state)
{
	struct acpi_platform p = platform(3);
	char dir[] = "/tmp/acpi-test-XXXXXX", command[64];
	const uint8_t *fadt, *table;
	struct acpi_tables t;
	size_t len;

	if (system("command -v iasl > /dev/null")) {
		fprintf(stderr, "SKIPPED: iasl is not installed (package acpica-tools); its half of the ACPI tests did "
				"not run\n");
		skip();
	}
	assert_non_null(mkdtemp(dir));
	build(*state, &p, &t);
	fadt = find(&t, "FACP", &len);
	iasl_round_trip(dir, "facp", fadt, len);
	iasl_round_trip(dir, "facs", at(&t, le(fadt + 36, 4), 64), 64);
	table = table_at(&t, le(fadt + 40, 4), "DSDT", &len);
	iasl_round_trip(dir, "dsdt", table, len);
	check_text(dir);
	table = find(&t, "APIC", &len);
	iasl_round_trip(dir, "apic", table, len);
	table = find(&t, "MCFG", &len);
	iasl_round_trip(dir, "mcfg", table, len);
	acpi_free(&t);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	assert_int_equal(system(command), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_fadt),
		T(test_madt),
		T(test_mcfg),
		T(test_refusals),
		T(test_iasl),
	};

	return cmocka_run_group_tests_name("acpi", tests, NULL, NULL);
}
