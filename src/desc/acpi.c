/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * acpi.c - RSDP, XSDT, FADT, FACS, MADT, MCFG and SPCR, laid out one after the other around dsdt.c's terms.
 *
 * There is no RSDT: revision 2 of the RSDP does without, and every kernel that this machine can start reads
 * the XSDT.
 */
#include "desc/acpi.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/vm.h"
#include "desc/aml.h"

#define OEM_ID       "TRPLN "
#define OEM_TABLE_ID "TRAPLINE"
#define CREATOR      "TRPL"

struct header { /* 5.2.6 */
	char signature[4];
	uint32_t length;
	uint8_t revision, checksum;
	char oem_id[6], oem_table_id[8];
	uint32_t oem_revision;
	char creator[4];
	uint32_t creator_revision;
} __attribute__((packed));
static_assert(sizeof(struct header) == 36, "wire structure");

struct gas { /* 5.2.3.2 generic address */
	uint8_t space, bits, offset, access;
	uint64_t address;
} __attribute__((packed));
static_assert(sizeof(struct gas) == 12, "wire structure");

struct rsdp { /* 5.2.5.3 */
	char signature[8];
	uint8_t checksum; /* of the first 20 bytes */
	char oem_id[6];
	uint8_t revision;
	uint32_t rsdt, length;
	uint64_t xsdt;
	uint8_t extended_checksum, reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct rsdp) == 36, "wire structure");

struct facs { /* 5.2.10 */
	char signature[4];
	uint32_t length, hardware_signature, waking_vector, lock, flags;
	uint64_t x_waking_vector;
	uint8_t version, reserved[31];
} __attribute__((packed));
static_assert(sizeof(struct facs) == 64, "wire structure");

struct fadt { /* 5.2.9, without the header */
	uint32_t facs, dsdt;
	uint8_t reserved0, profile;
	uint16_t sci;
	uint32_t smi_command;
	uint8_t acpi_enable, acpi_disable, s4bios, pstate_control;
	uint32_t pm1a_event, pm1b_event, pm1a_control, pm1b_control, pm2_control, pm_timer, gpe0, gpe1;
	uint8_t pm1_event_len, pm1_control_len, pm2_control_len, pm_timer_len, gpe0_len, gpe1_len, gpe1_base;
	uint8_t cst_control;
	uint16_t c2_latency, c3_latency, flush_size, flush_stride;
	uint8_t duty_offset, duty_width, day_alarm, month_alarm, century;
	uint16_t boot_arch;
	uint8_t reserved1;
	uint32_t flags;
	struct gas reset;
	uint8_t reset_value;
	uint16_t arm_boot_arch;
	uint8_t minor;
	uint64_t x_facs, x_dsdt;
	struct gas x_pm1a_event, x_pm1b_event, x_pm1a_control, x_pm1b_control, x_pm2_control, x_pm_timer, x_gpe0,
		x_gpe1;
	struct gas sleep_control, sleep_status;
	uint64_t hypervisor;
} __attribute__((packed));
static_assert(sizeof(struct header) + sizeof(struct fadt) == 276, "wire structure, revision 6");

/*
 * FADT flags, table 5.10. Not set are those that say: the power button (bit 4), the sleep button (5) are no fixed ones.
 */
enum {
	FADT_WBINVD = 1 << 0,
	FADT_PROC_C1 = 1 << 2,
	FADT_NO_FIXED_RTC = 1 << 6,
	FADT_TIMER_32_BITS = 1 << 8,
	FADT_RESET_REG = 1 << 10,
};

struct madt { /* 5.2.12, without the header */
	uint32_t lapic_base, flags;
} __attribute__((packed));
static_assert(sizeof(struct madt) == 8, "wire structure");

struct madt_lapic {
	uint8_t type, length, uid, apic_id;
	uint32_t flags;
} __attribute__((packed));
static_assert(sizeof(struct madt_lapic) == 8, "wire structure");

struct madt_ioapic {
	uint8_t type, length, id, reserved;
	uint32_t base, first_gsi;
} __attribute__((packed));
static_assert(sizeof(struct madt_ioapic) == 12, "wire structure");

struct madt_override {
	uint8_t type, length, bus, source;
	uint32_t gsi;
	uint16_t flags;
} __attribute__((packed));
static_assert(sizeof(struct madt_override) == 10, "wire structure");

struct madt_lapic_nmi {
	uint8_t type, length, uid;
	uint16_t flags;
	uint8_t lint;
} __attribute__((packed));
static_assert(sizeof(struct madt_lapic_nmi) == 6, "wire structure");

struct madt_x2apic {
	uint8_t type, length;
	uint16_t reserved;
	uint32_t apic_id, flags, uid;
} __attribute__((packed));
static_assert(sizeof(struct madt_x2apic) == 16, "wire structure");

struct madt_x2apic_nmi {
	uint8_t type, length;
	uint16_t flags;
	uint32_t uid;
	uint8_t lint, reserved[3];
} __attribute__((packed));
static_assert(sizeof(struct madt_x2apic_nmi) == 12, "wire structure");

struct mcfg { /* PCI Firmware Specification 3.3, 4.1.2, without the header */
	uint64_t reserved0, base;
	uint16_t segment;
	uint8_t first_bus, last_bus;
	uint32_t reserved1;
} __attribute__((packed));
static_assert(sizeof(struct mcfg) == 24, "wire structure");

struct spcr { /* Serial Port Console Redirection Table 1.02 (revision 2), without the header */
	uint8_t type, reserved0[3];
	struct gas base;
	uint8_t interrupt_type, irq;
	uint32_t gsi;
	uint8_t baud, parity, stop_bits, flow_control, terminal, reserved1;
	uint16_t pci_device, pci_vendor;
	uint8_t pci_bus, pci_slot, pci_function;
	uint32_t pci_flags;
	uint8_t pci_segment;
	uint32_t reserved2;
} __attribute__((packed));
static_assert(sizeof(struct header) + sizeof(struct spcr) == 80, "wire structure");

enum { SPCR_16550 = 0, SPCR_IRQ_PIC = 1, SPCR_IRQ_APIC = 2, SPCR_115200 = 7, SPCR_ANSI = 3, SPCR_NO_PCI = 0xffff };

enum { MADT_LAPIC = 0, MADT_IOAPIC = 1, MADT_OVERRIDE = 2, MADT_LAPIC_NMI = 4, MADT_X2APIC = 9, MADT_X2APIC_NMI = 10 };
enum { MADT_PCAT_COMPAT = 1, MADT_ENABLED = 1 };
enum { MPS_BUS_DEFAULT = 0, MPS_HIGH_LEVEL = 0xd }; /* polarity and trigger of an interrupt input */

/* The largest id that a one-byte APIC or processor id can name; 255 means all. */
#define LAPIC_ID_MAX 254

#define XSDT_ENTRIES 4
#define ISA_IRQS     16

struct build {
	const struct acpi_platform *platform;
	struct aml out; /* used as a buffer that cannot be overrun */
	uint64_t gpa, facs, dsdt;
	uint64_t entries[XSDT_ENTRIES];
	unsigned nr_entries;
};

static uint8_t checksum(const void *bytes, size_t len)
{
	const uint8_t *b = bytes;
	uint8_t sum = 0;

	while (len--)
		sum = (uint8_t)(sum + *b++);
	return (uint8_t)-sum;
}

/* Appends zeros up to a multiple of `align`; returns the address there. */
static uint64_t align_to(struct build *b, size_t align)
{
	static const uint8_t zeros[64];

	aml_raw(&b->out, zeros, -b->out.len & (align - 1));
	return b->gpa + b->out.len;
}

/* A table of `body`, its header made here. Returns its address. */
static uint64_t append_table(struct build *b, const char *signature, uint8_t revision, const void *body, size_t len)
{
	struct header h = { .revision = revision,
		.length = htole32((uint32_t)(sizeof(h) + len)),
		.oem_revision = htole32(1),
		.creator_revision = htole32(1) };
	uint64_t at = align_to(b, 16);

	memcpy(h.signature, signature, sizeof(h.signature));
	memcpy(h.oem_id, OEM_ID, sizeof(h.oem_id));
	memcpy(h.oem_table_id, OEM_TABLE_ID, sizeof(h.oem_table_id));
	memcpy(h.creator, CREATOR, sizeof(h.creator));
	h.checksum = (uint8_t)(checksum(&h, sizeof(h)) + checksum(body, len));
	aml_raw(&b->out, &h, sizeof(h));
	aml_raw(&b->out, body, len);
	return at;
}

static void append_entry(struct build *b, const char *signature, uint8_t revision, const void *body, size_t len)
{
	assert(b->nr_entries < XSDT_ENTRIES);
	b->entries[b->nr_entries++] = htole64(append_table(b, signature, revision, body, len));
}

static struct gas block_gas(const struct acpi_block *block, unsigned access)
{
	if (block->len == 0)
		return (struct gas){ 0 };
	return (struct gas){ .space = block->space == SPACE_PIO,
		.bits = (uint8_t)(8 * block->len),
		.access = (uint8_t)access, /* 1, 2, 3: 1, 2, 4 bytes */
		.address = htole64(block->base) };
}

/* The old fields can only name a port. */
static uint32_t block_port(const struct acpi_block *block)
{
	return block->len && block->space == SPACE_PIO ? htole32((uint32_t)block->base) : 0;
}

static void append_facs(struct build *b)
{
	struct facs facs = { .signature = "FACS", .length = htole32(sizeof(facs)), .version = 2 };

	b->facs = align_to(b, 64);
	aml_raw(&b->out, &facs, sizeof(facs));
}

static void append_fadt(struct build *b)
{
	const struct acpi_platform *p = b->platform;
	uint32_t flags = FADT_WBINVD | FADT_PROC_C1 | FADT_NO_FIXED_RTC;
	struct fadt fadt = {
		.sci = htole16((uint16_t)p->sci),
		/* No SMI command: the machine is in ACPI mode from the start, with SCI_EN set. */
		.pm1a_event = block_port(&p->pm1_event),
		.pm1a_control = block_port(&p->pm1_control),
		.pm_timer = block_port(&p->pm_timer),
		.pm1_event_len = p->pm1_event.len,
		.pm1_control_len = p->pm1_control.len,
		.pm_timer_len = p->pm_timer.len,
		.c2_latency = htole16(0xfff), /* beyond 100 and 1000 microseconds: not supported */
		.c3_latency = htole16(0xfff),
		.century = p->century,
		.boot_arch = htole16(p->boot_arch),
		.reset = block_gas(&p->reset, 1),
		.reset_value = p->reset_value,
		.minor = 4,
		.x_dsdt = htole64(b->dsdt),
		.x_pm1a_event = block_gas(&p->pm1_event, 2),
		.x_pm1a_control = block_gas(&p->pm1_control, 2),
		.x_pm_timer = block_gas(&p->pm_timer, 3),
	};

	if (p->pm_timer.len)
		flags |= FADT_TIMER_32_BITS;
	if (p->reset.len)
		flags |= FADT_RESET_REG;
	fadt.flags = htole32(flags);
	/* One address each, since systems complain about two that differ; the FACS in the old field if it can be. */
	if (b->dsdt <= UINT32_MAX)
		fadt.dsdt = htole32((uint32_t)b->dsdt);
	if (b->facs <= UINT32_MAX)
		fadt.facs = htole32((uint32_t)b->facs);
	else
		fadt.x_facs = htole64(b->facs);
	append_entry(b, "FACP", 6, &fadt, sizeof(fadt));
}

/* Returns whether the processor has an entry of the x2APIC form. */
static bool put_processor(struct aml *madt, uint32_t uid, uint32_t apic_id)
{
	struct madt_lapic lapic = { MADT_LAPIC, sizeof(lapic), (uint8_t)uid, (uint8_t)apic_id, htole32(MADT_ENABLED) };
	struct madt_x2apic x2apic = { MADT_X2APIC, sizeof(x2apic), 0, htole32(apic_id), htole32(MADT_ENABLED),
		htole32(uid) };
	bool wide = apic_id > LAPIC_ID_MAX || uid > LAPIC_ID_MAX;

	if (wide)
		aml_raw(madt, &x2apic, sizeof(x2apic));
	else
		aml_raw(madt, &lapic, sizeof(lapic));
	return wide;
}

static void put_override(struct aml *madt, uint8_t source, uint32_t gsi, uint16_t flags)
{
	struct madt_override entry = { MADT_OVERRIDE, sizeof(entry), 0, source, htole32(gsi), htole16(flags) };

	aml_raw(madt, &entry, sizeof(entry));
}

static void append_madt(struct build *b)
{
	const struct acpi_platform *p = b->platform;
	struct madt head = { htole32(p->lapic_base), htole32(p->pic ? MADT_PCAT_COMPAT : 0) };
	struct madt_ioapic ioapic = { MADT_IOAPIC, sizeof(ioapic), p->ioapic_id, 0, htole32(p->ioapic_base), 0 };
	/* LINT1 is where a PC's NMI arrives, at every processor. */
	struct madt_lapic_nmi nmi = { MADT_LAPIC_NMI, sizeof(nmi), 0xff, htole16(MPS_BUS_DEFAULT), 1 };
	struct madt_x2apic_nmi x2nmi = { MADT_X2APIC_NMI, sizeof(x2nmi), htole16(MPS_BUS_DEFAULT), UINT32_MAX, 1,
		{ 0 } };
	struct aml madt;
	bool wide = false;

	aml_begin(&madt, ACPI_MAX_SIZE);
	aml_raw(&madt, &head, sizeof(head));
	for (unsigned i = 0; i < p->nr_cpus; i++)
		wide |= put_processor(&madt, i, p->apic_ids[i]);
	if (p->ioapic_base)
		aml_raw(&madt, &ioapic, sizeof(ioapic));
	if (p->timer_gsi)
		put_override(&madt, 0, p->timer_gsi, MPS_BUS_DEFAULT);
	put_override(&madt, (uint8_t)p->sci, p->sci, MPS_HIGH_LEVEL);
	aml_raw(&madt, &nmi, sizeof(nmi));
	if (wide)
		aml_raw(&madt, &x2nmi, sizeof(x2nmi));
	if (aml_ok(&madt))
		append_entry(b, "APIC", 5, madt.buf, madt.len);
	else
		b->out.failed = true;
	aml_free(&madt);
}

static void append_mcfg(struct build *b)
{
	const struct acpi_platform *p = b->platform;
	struct mcfg mcfg = {
		.base = htole64(p->ecam_base), .first_bus = p->ecam_first_bus, .last_bus = p->ecam_last_bus
	};

	if (p->ecam_base)
		append_entry(b, "MCFG", 1, &mcfg, sizeof(mcfg));
}

/* Where a kernel that has no driver yet finds the console, wherever it stands: Linux's bare "earlycon". */
static void append_spcr(struct build *b)
{
	const struct device *dev = b->platform->console;
	const struct irq *irq = dev && dev->nr_irqs && dev->irqs[0]->router ? dev->irqs[0] : NULL;
	struct spcr spcr = {
		.type = SPCR_16550,
		.baud = SPCR_115200,
		.stop_bits = 1,
		.terminal = SPCR_ANSI,
		.pci_device = htole16(SPCR_NO_PCI),
		.pci_vendor = htole16(SPCR_NO_PCI),
	};

	if (!dev)
		return;
	spcr.base = (struct gas){
		.space = dev->regions[0]->space == SPACE_PIO,
		.bits = 8,
		.access = 1,
		.address = htole64(dev->regions[0]->base),
	};
	if (irq) {
		spcr.interrupt_type = SPCR_IRQ_APIC;
		spcr.gsi = htole32(irq->line);
	}
	if (irq && irq->line < ISA_IRQS && b->platform->pic) {
		spcr.interrupt_type |= SPCR_IRQ_PIC;
		spcr.irq = (uint8_t)irq->line;
	}
	append_entry(b, "SPCR", 2, &spcr, sizeof(spcr));
}

static int append_dsdt(struct build *b, struct vm *vm, struct error *err)
{
	struct aml dsdt;
	int r = 0;

	aml_begin(&dsdt, b->out.max);
	acpi_dsdt(&dsdt, b->platform, vm);
	if (aml_ok(&dsdt))
		b->dsdt = append_table(b, "DSDT", 2, dsdt.buf, dsdt.len);
	else
		r = error_set(
			err, -ENOSPC, "ACPI: the DSDT of this machine cannot be written in %zu bytes", b->out.max);
	aml_free(&dsdt);
	return r;
}

/* The RSDP was left blank at the start, since everything else had to have an address first. */
static void fill_rsdp(struct build *b, uint64_t xsdt)
{
	struct rsdp rsdp = { .revision = 2, .length = htole32(sizeof(rsdp)), .xsdt = htole64(xsdt) };

	memcpy(rsdp.signature, "RSD PTR ", sizeof(rsdp.signature));
	memcpy(rsdp.oem_id, OEM_ID, sizeof(rsdp.oem_id));
	rsdp.checksum = checksum(&rsdp, offsetof(struct rsdp, length));
	rsdp.extended_checksum = checksum(&rsdp, sizeof(rsdp));
	memcpy(b->out.buf, &rsdp, sizeof(rsdp));
}

static int check(const struct acpi_platform *p, uint64_t gpa, struct error *err)
{
	if (gpa % 64)
		return error_set(
			err, -EINVAL, "ACPI: tables at %#llx are not aligned to 64 bytes", (unsigned long long)gpa);
	if (p->nr_cpus == 0 || !p->apic_ids)
		return error_set(err, -EINVAL, "ACPI: a machine without processors");
	if (p->sci >= 16)
		return error_set(err, -EINVAL, "ACPI: the SCI is interrupt %u, not one of 0-15", p->sci);
	if (p->pm1_event.len < 4 || p->pm1_control.len < 2)
		return error_set(err, -EINVAL, "ACPI: the PM1 registers are missing or too short");
	return 0;
}

int acpi_build(
	const struct acpi_platform *platform, struct vm *vm, uint64_t gpa, struct acpi_tables *out, struct error *err)
{
	static const uint8_t blank[sizeof(struct rsdp)];
	struct build b = { .platform = platform, .gpa = gpa };
	uint64_t xsdt;
	int r = check(platform, gpa, err);

	if (r)
		return r;
	aml_begin(&b.out, platform->max_size ? platform->max_size : ACPI_MAX_SIZE);
	aml_raw(&b.out, blank, sizeof(blank));
	append_facs(&b);
	r = append_dsdt(&b, vm, err);
	if (r == 0) {
		append_fadt(&b);
		append_madt(&b);
		append_mcfg(&b);
		append_spcr(&b);
		xsdt = append_table(&b, "XSDT", 1, b.entries, b.nr_entries * sizeof(b.entries[0]));
		if (aml_ok(&b.out))
			fill_rsdp(&b, xsdt);
		else
			r = error_set(err, -ENOSPC, "ACPI: the tables do not fit in %zu bytes", b.out.max);
	}
	if (r) {
		aml_free(&b.out);
		return r;
	}
	*out = (struct acpi_tables){ .bytes = b.out.buf, .length = b.out.len, .gpa = gpa, .rsdp = gpa };
	return 0;
}

void acpi_free(struct acpi_tables *tables)
{
	free(tables->bytes);
	*tables = (struct acpi_tables){ 0 };
}
