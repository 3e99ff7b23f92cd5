/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_x86_machine.c - the real x86-64 machine, built without KVM: its ACPI tables as a guest finds them in memory
 * are whole, agree with the bus, and pass through ACPICA's disassembler and compiler without a warning.
 */
#include "unit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "acpi_bytes.h"
#include "arch/x86/board.h"
#include "dev/acpi_pm.h"
#include "pci/testdev.h"

#define TABLE_MAX 0x20000

struct bed {
	struct vm vm;
	struct board *board;
	uint64_t rsdp;
	uint8_t table[TABLE_MAX];
};

static struct bed *bed_moved(unsigned cpus, uint64_t ram, bool pci_test, const char *const *place, unsigned nr_place)
{
	const struct guest_config config = {
		.kernel = "none", .ram = ram, .cpus = cpus, .pci_test = pci_test, .place = place, .nr_place = nr_place
	};
	struct bed *bed = calloc(1, sizeof(*bed));
	struct error err = { 0 };

	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	assert_int_equal(arch_x86_64.check(&config, &err), 0);
	assert_int_equal(arch_x86_64.create(&bed->vm, &config, &bed->board, &err), 0);
	if (arch_x86_64.build(bed->board, &err))
		fail_msg("%s", err.text);
	list_for_each (pos, &bed->vm.devices)
		device_power_on(container_of(pos, struct device, node));
	if (board_describe(bed->board, &bed->rsdp, &err))
		fail_msg("%s", err.text);
	return bed;
}

static struct bed *bed_new(unsigned cpus, uint64_t ram, bool pci_test)
{
	return bed_moved(cpus, ram, pci_test, NULL, 0);
}

/* Everything elsewhere: what tables and _CRS say must follow. */
static const char *const moves[] = {
	"serial0=mmio:0xd0000000,irq=10",
	"serial1=mmio:0x100000000000",
	"rtc=pio:0x370",
	"i8042=pio:0x160",
	"acpi-pm=mmio:0xd0001000,irq=11",
	"pci.PCI ECAM=mmio:0xb0000000",
};
#define NR_MOVES (sizeof(moves) / sizeof(moves[0]))

static void bed_free(struct bed *bed)
{
	vm_remove_devices(&bed->vm);
	arch_x86_64.destroy(bed->board);
	vm_fini(&bed->vm);
	free(bed);
}

/* Fetches the table at `gpa` from guest memory into bed->table. Returns its length. */
static size_t fetch(struct bed *bed, uint64_t gpa)
{
	size_t len;

	assert_true(gpa >= LAYOUT_ACPI && gpa < LAYOUT_ACPI_END);
	assert_int_equal(mem_read(&bed->vm.mem, gpa, bed->table, 36), 0);
	len = le(bed->table + 4, 4);
	assert_true(len >= 36 && len <= LAYOUT_ACPI_END - gpa);
	assert_int_equal(mem_read(&bed->vm.mem, gpa, bed->table, len), 0);
	if (memcmp(bed->table, "FACS", 4))
		assert_int_equal(sum(bed->table, len), 0);
	return len;
}

/* The address of a table, as Linux finds it: RSDP, XSDT, FADT. */
static uint64_t find(struct bed *bed, const char *signature)
{
	uint8_t rsdp[36], xsdt[0x200];
	size_t len;

	assert_int_equal(mem_read(&bed->vm.mem, bed->rsdp, rsdp, sizeof(rsdp)), 0);
	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	len = fetch(bed, le(rsdp + 24, 8));
	assert_memory_equal(bed->table, "XSDT", 4);
	assert_true(len <= sizeof(xsdt));
	memcpy(xsdt, bed->table, len);
	if (!strcmp(signature, "DSDT") || !strcmp(signature, "FACS")) {
		uint64_t fadt = find(bed, "FACP");

		fetch(bed, fadt);
		return le(bed->table + (*signature == 'D' ? 40 : 36), 4);
	}
	for (size_t i = 36; i < len; i += 8) {
		uint64_t at = le(xsdt + i, 8);

		fetch(bed, at);
		if (!memcmp(bed->table, signature, 4))
			return at;
	}
	fail_msg("no %s", signature);
	return 0;
}

static void run_iasl(const char *dir, const char *args)
{
	char command[512], path[256], *text = calloc(1, 0x100000);
	size_t len;
	FILE *f;
	int r;

	assert_non_null(text);
	snprintf(command, sizeof(command), "cd %s && iasl %s > log 2>&1", dir, args);
	r = system(command);
	snprintf(path, sizeof(path), "%s/log", dir);
	f = fopen(path, "r");
	assert_non_null(f);
	len = fread(text, 1, 0x100000 - 1, f);
	fclose(f);
	if (r || !len || strstr(text, "Warning ") || strstr(text, "Error ") || strstr(text, "Error:") ||
		strstr(text, "Remark "))
		fail_msg("iasl %s:\n%s", args, text);
	free(text);
}

/* Apart and together, without a word of complaint. */
static void check_by_iasl(struct bed *bed, const char *dir, const char *signature)
{
	size_t len = fetch(bed, find(bed, signature));
	char path[256], args[128];
	FILE *f;

	/* find() leaves another table behind. */
	len = fetch(bed, find(bed, signature));
	snprintf(path, sizeof(path), "%s/%s.aml", dir, signature);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(bed->table, 1, len, f), len);
	fclose(f);
	snprintf(args, sizeof(args), "-d %s.aml", signature);
	run_iasl(dir, args);
	snprintf(args, sizeof(args), "-oa -p again %s.dsl", signature);
	run_iasl(dir, args);
}

static void check_machine(struct bed *bed)
{
	static const char *const signatures[] = { "FACP", "FACS", "APIC", "MCFG", "SPCR", "DSDT" };
	char dir[] = "/tmp/x86-machine-XXXXXX", command[64];

	assert_non_null(mkdtemp(dir));
	for (unsigned i = 0; i < sizeof(signatures) / sizeof(signatures[0]); i++)
		check_by_iasl(bed, dir, signatures[i]);
	snprintf(command, sizeof(command), "rm -r %s", dir);
	if (getenv("KEEP"))
		print_message("kept %s\n", dir);
	else
		assert_int_equal(system(command), 0);
	bed_free(bed);
}

static void test_iasl(void **state)
{
	if (system("iasl -v > /dev/null 2>&1")) {
		print_message("no iasl\n");
		skip();
	}
	check_machine(bed_new(1, 128ULL << 20, false));
	check_machine(bed_new(8, 5ULL << 30, true));
	check_machine(bed_moved(2, 128ULL << 20, true, moves, NR_MOVES));
	/* As many as there may be, which is beyond what one byte can name. */
	check_machine(bed_new(1024, 128ULL << 20, false));
}

/* The fixed registers that the FADT names are those on the bus; so is ECAM, and each processor is told of. */
static void test_tables_agree(void **state)
{
	struct bed *bed = bed_new(300, 256ULL << 20, true);
	const struct device *pm = vm_device(&bed->vm, "acpi-pm"), *pci = vm_device(&bed->vm, "pci");
	unsigned cpus = 0, lapics = 0;
	size_t len;

	fetch(bed, find(bed, "FACP"));
	assert_int_equal(le(bed->table + 56, 4), pm->regions[ACPI_PM_EVENT]->base);
	assert_int_equal(bed->table[88], pm->regions[ACPI_PM_EVENT]->size);
	assert_int_equal(le(bed->table + 64, 4), pm->regions[ACPI_PM_CONTROL]->base);
	assert_int_equal(bed->table[89], pm->regions[ACPI_PM_CONTROL]->size);
	assert_int_equal(le(bed->table + 76, 4), pm->regions[ACPI_PM_TIMER]->base);
	assert_int_equal(bed->table[91], pm->regions[ACPI_PM_TIMER]->size);
	assert_int_equal(le(bed->table + 46, 2), pm->irqs[0]->line);
	assert_int_equal(le(bed->table + 116 + 4, 8), pm->regions[ACPI_PM_RESET]->base);
	assert_int_equal(bed->table[128], ACPI_PM_RESET_VALUE);
	assert_int_equal(le(bed->table + 48, 4), 0); /* no SMI command */

	fetch(bed, find(bed, "MCFG"));
	assert_int_equal(le(bed->table + 44, 8), pci->regions[2]->base);
	assert_int_equal((uint64_t)(bed->table[55] + 1) * PCI_ECAM_BUS_SIZE, pci->regions[2]->size);

	len = fetch(bed, find(bed, "APIC"));
	for (size_t at = 44; at < len; at += bed->table[at + 1]) {
		assert_true(bed->table[at + 1] >= 2);
		lapics += bed->table[at] == 0;
		cpus += bed->table[at] == 0 || bed->table[at] == 9;
	}
	assert_int_equal(cpus, 300);
	assert_int_equal(lapics, 255);
	bed_free(bed);
}

enum { BOOT_ARCH_8042 = 2, BOOT_ARCH_NO_CMOS = 0x20 };

static bool dsdt_has(struct bed *bed, const uint8_t *bytes, size_t n)
{
	size_t len = fetch(bed, find(bed, "DSDT"));

	len = fetch(bed, find(bed, "DSDT"));
	return memmem(bed->table, len, bytes, n);
}

/* Where nothing was moved, the PC's flags and ports; a fixed 32-bit memory resource where the UART went to memory. */
static void test_tables_follow_moves(void **state)
{
	const uint8_t memory32[] = { 0x86, 9, 0, 1, 0, 0, 0, 0xd0, 8, 0, 0, 0 }, irq10[] = { 0x22, 0x00, 0x04 };
	struct bed *bed = bed_new(1, 128ULL << 20, false);

	fetch(bed, find(bed, "FACP"));
	assert_int_equal(le(bed->table + 109, 2) & (BOOT_ARCH_8042 | BOOT_ARCH_NO_CMOS), BOOT_ARCH_8042);
	fetch(bed, find(bed, "SPCR"));
	assert_int_equal(bed->table[40], 1); /* I/O space */
	assert_int_equal(le(bed->table + 44, 8), 0x3f8);
	assert_int_equal(le(bed->table + 54, 4), 4);
	assert_false(dsdt_has(bed, memory32, sizeof(memory32)));
	bed_free(bed);

	bed = bed_moved(1, 128ULL << 20, false, moves, NR_MOVES);
	assert_true(dsdt_has(bed, memory32, sizeof(memory32)));
	assert_true(dsdt_has(bed, irq10, sizeof(irq10)));
	fetch(bed, find(bed, "FACP"));
	assert_int_equal(le(bed->table + 109, 2) & (BOOT_ARCH_8042 | BOOT_ARCH_NO_CMOS), BOOT_ARCH_NO_CMOS);
	assert_int_equal(le(bed->table + 46, 2), 11);
	assert_int_equal(le(bed->table + 56, 4), 0); /* no port: the event block is in memory */
	assert_int_equal(bed->table[148], 0);
	assert_int_equal(le(bed->table + 152, 8), 0xd0001000);
	fetch(bed, find(bed, "SPCR"));
	assert_int_equal(bed->table[40], 0); /* memory */
	assert_int_equal(le(bed->table + 44, 8), 0xd0000000);
	assert_int_equal(bed->table[53], 10);
	assert_int_equal(le(bed->table + 54, 4), 10);
	fetch(bed, find(bed, "MCFG"));
	assert_int_equal(le(bed->table + 44, 8), 0xb0000000);
	bed_free(bed);
}

/* The tables are the machine's: the same bytes after a reset, when the guest may have overwritten them. */
static void test_tables_again(void **state)
{
	struct bed *bed = bed_new(2, 128ULL << 20, true);
	const size_t size = LAYOUT_ACPI_END - LAYOUT_ACPI;
	uint8_t *before = malloc(size), *after = malloc(size);
	struct error err;
	uint64_t rsdp;

	assert_non_null(before);
	assert_non_null(after);
	assert_int_equal(mem_read(&bed->vm.mem, LAYOUT_ACPI, before, size), 0);
	assert_int_equal(mem_fill(&bed->vm.mem, LAYOUT_ACPI, 0, size), 0);
	list_for_each (pos, &bed->vm.devices)
		device_reset(container_of(pos, struct device, node));
	assert_int_equal(board_describe(bed->board, &rsdp, &err), 0);
	assert_int_equal(mem_read(&bed->vm.mem, LAYOUT_ACPI, after, size), 0);
	assert_int_equal(rsdp, bed->rsdp);
	assert_memory_equal(before, after, size);
	free(before);
	free(after);
	bed_free(bed);
}

static const struct field *field_at(const struct field *table, uint32_t at)
{
	for (const struct field *f = table; f->name; f++)
		if (at >= f->offset && at - f->offset < (uint32_t)f->width * f->count)
			return f;
	return NULL;
}

/* To what a field is aligned, or the struct in the state struct that it may be the first of. */
static uint32_t alignment(const struct field *table, const struct field *field)
{
	const char *dot = strchr(field->name, '.');
	uint32_t align = field->width;

	for (const struct field *f = table; dot && f->name; f++)
		if (!strncmp(f->name, field->name, (size_t)(dot - field->name) + 1) && f->width > align)
			align = f->width;
	return align;
}

static void check_coverage(const char *name, const struct field *table)
{
	uint32_t end = 0;

	for (const struct field *f = table; f->name; f++)
		end = f->offset + (uint32_t)f->width * f->count > end ? f->offset + (uint32_t)f->width * f->count : end;
	assert_non_null(field_at(table, 0));
	for (uint32_t at = 0, next; at < end; at = next) {
		next = at + 1;
		if (field_at(table, at))
			continue;
		while (!field_at(table, next))
			next++;
		if (next - at >= alignment(table, field_at(table, next)))
			fail_msg("%s: bytes %u to %u of its state are no field's", name, at, next - 1);
	}
}

/*
 * A member that a state struct has and its table has not would be lost by a reset and by a save. Bytes between
 * fields that no field covers are padding, or such a member.
 */
static void test_fields_cover_state(void **state)
{
	struct bed *bed = bed_new(1, 128ULL << 20, true);

	list_for_each (pos, &bed->vm.devices) {
		const struct device *dev = container_of(pos, struct device, node);

		if (dev->type->state)
			check_coverage(dev->type->name, dev->type->state);
	}
	bed_free(bed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_iasl),
		cmocka_unit_test(test_tables_agree),
		cmocka_unit_test(test_tables_follow_moves),
		cmocka_unit_test(test_tables_again),
		cmocka_unit_test(test_fields_cover_state),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
