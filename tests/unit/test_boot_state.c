/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_boot_state.c - entry states and the power-on state, on a real KVM: tiny guests look at the mode they
 * are in and tell it by a port. Skipped, and said so, where there is no usable /dev/kvm.
 */
#include "unit.h"

#include <stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "arch/x86/boot.h"
#include "arch/x86/cpuid.h"
#include "arch/x86/vcpu_state.h"
#include "boot_file.h"

#define MIB 0x100000ULL
#define GPA (4 * MIB)
#define RAM (16 * MIB)

#define MSR_KVM_CLOCK    0x4b564d01
#define MSR_STAR         0xc0000081
#define MSR_TSC          0x10
#define MSR_MTRR_DEFAULT 0x2ff

#define ok(call)                                                                                                       \
	do {                                                                                                           \
		if ((call) < 0)                                                                                        \
			fail_msg("%s: %s", #call, strerror(errno));                                                    \
	} while (0)
#define fine(call)                                                                                                     \
	do {                                                                                                           \
		if ((call) != 0)                                                                                       \
			fail_msg("%s", bed->err.text);                                                                 \
	} while (0)

struct bed {
	int dev, vm, vcpu[2];
	struct kvm_run *run;
	int run_size;
	struct bus *bus;
	struct mem mem;
	struct region ram;
	struct memory_range map[LAYOUT_MAP_RANGES];
	struct boot boot;
	struct boot_entry entry;
	struct vcpu_state *power_on[2];
	struct chip_state *chips;
	struct error err;
};

static void make_vm(struct bed *bed)
{
	struct kvm_pit_config pit = { 0 };

	struct kvm_userspace_memory_region slot = { .memory_size = RAM };

	bed->bus = bus_new();
	bed->mem.bus = bed->bus;
	bed->ram = (struct region){ .name = "ram", .kind = REGION_RAM, .space = SPACE_MMIO, .size = RAM };
	assert_int_equal(memory_new(RAM, &bed->ram.memory), 0);
	assert_int_equal(bus_add(bed->bus, &bed->ram), 0);
	slot.userspace_addr = (uintptr_t)bed->ram.memory->host;
	ok(bed->vm = ioctl(bed->dev, KVM_CREATE_VM, 0));
	ok(ioctl(bed->vm, KVM_SET_USER_MEMORY_REGION, &slot));
	(void)ioctl(bed->vm, KVM_SET_TSS_ADDR, LAYOUT_KVM_TSS);
	ok(ioctl(bed->vm, KVM_CREATE_IRQCHIP, 0));
	ok(ioctl(bed->vm, KVM_CREATE_PIT2, &pit));
}

static int setup(void **state)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct kvm_cpuid2 *supported;

	bed->dev = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	*state = bed;
	if (bed->dev < 0)
		return 0;
	make_vm(bed);
	ok(bed->run_size = ioctl(bed->dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	fine(cpuid_supported(bed->dev, &supported, &bed->err));
	for (unsigned i = 0; i < 2; i++) {
		ok(bed->vcpu[i] = ioctl(bed->vm, KVM_CREATE_VCPU, i));
		fine(cpuid_set(bed->vcpu[i], supported, i, 2, true, &bed->err));
		fine(vcpu_state_take(bed->dev, bed->vcpu[i], i, false, &bed->power_on[i], &bed->err));
	}
	free(supported);
	fine(chip_state_take(bed->vm, &bed->chips, &bed->err));
	bed->run = mmap(NULL, (size_t)bed->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, bed->vcpu[0], 0);
	assert_true(bed->run != MAP_FAILED);
	return 0;
}

static int teardown(void **state)
{
	struct bed *bed = *state;

	if (bed->dev >= 0) {
		boot_close(&bed->boot);
		munmap(bed->run, (size_t)bed->run_size);
		close(bed->vcpu[0]);
		close(bed->vcpu[1]);
		close(bed->vm);
		close(bed->dev);
		bus_remove(bed->bus, &bed->ram);
		bus_drain(bed->bus);
		memory_put(bed->ram.memory);
		bus_free(bed->bus);
	}
	free(bed->power_on[0]);
	free(bed->power_on[1]);
	free(bed->chips);
	free(bed);
	return 0;
}

static struct bed *need_kvm(void **state)
{
	struct bed *bed = *state;

	if (bed->dev < 0) {
		print_message("skipped: /dev/kvm: %s\n", strerror(errno));
		skip();
	}
	return bed;
}

/* Loads `code` as a kernel file that makes `way` the way to start it. */
static void load(struct bed *bed, enum boot_way way, const uint8_t *code, unsigned n)
{
	struct boot_config config = { .cmdline = "hello", .map = bed->map, .ram_is_zero = false };
	struct boot_file f;
	char path[64];

	if (way == BOOT_BZIMAGE64 || way == BOOT_BZIMAGE32) {
		boot_file_bzimage(&f, GPA);
		memcpy(f.bytes + 1024 + (way == BOOT_BZIMAGE64 ? 0x200 : 0), code, n);
	} else {
		boot_file_elf64(&f, GPA);
		memcpy(f.bytes + BOOT_FILE_CODE + 0x10, code, n);
		if (way == BOOT_PVH)
			boot_file_note(&f, GPA + 0x10, 4, 8);
	}
	boot_file_write(f.bytes, f.size, path);
	boot_close(&bed->boot);
	config.nr_map = layout_map(RAM, LAYOUT_ECAM, bed->map);
	fine(boot_open(&bed->boot, path, way, NULL, &bed->err));
	unlink(path);
	fine(boot_load(&bed->boot, &bed->mem, &config, &bed->entry, &bed->err));
	assert_int_equal(bed->entry.way, way);
}

static void restore_and_enter(struct bed *bed)
{
	for (unsigned i = 0; i < 2; i++)
		fine(vcpu_state_restore(bed->vcpu[i], bed->power_on[i], &bed->err));
	fine(chip_state_restore(bed->vm, bed->chips, &bed->err));
	fine(vcpu_state_enter(bed->vcpu[0], &bed->entry, &bed->err));
}

/* Runs up to the next OUT to port 0xf4 and returns the 32 bits written. */
static uint32_t run(struct bed *bed)
{
	uint32_t value;

	ok(ioctl(bed->vcpu[0], KVM_RUN, 0));
	if (bed->run->exit_reason != KVM_EXIT_IO)
		fail_msg("exit %u, not an OUT", bed->run->exit_reason);
	assert_int_equal(bed->run->io.port, 0xf4);
	assert_int_equal(bed->run->io.direction, KVM_EXIT_IO_OUT);
	assert_int_equal(bed->run->io.size, 4);
	memcpy(&value, (uint8_t *)bed->run + bed->run->io.data_offset, 4);
	return value;
}

#define OUT_EAX 0xe7, 0xf4 /* out %eax, $0xf4 */

/*
 * Reads the first word of what the argument register points to, through ds, by code that is right in its
 * mode only: 0x48 is a REX prefix in long mode and DEC EAX in 32-bit mode.
 */
static const uint8_t code64[] = {
	0xb8, 1, 0, 0, 0,          /* mov $1, %eax */
	0x48, 0x8d, 0x40, 0x10,    /* lea 0x10(%rax), %rax; in 32 bits: dec %eax; lea 0x10(%eax), %eax */
	OUT_EAX,                   /* 0x11; in 32 bits 0x10 */
	0x8b, 0x86, 0x02, 2, 0, 0, /* mov 0x202(%rsi), %eax: "HdrS" */
	OUT_EAX,                   /* */
	0x0f, 0x20, 0xc0,          /* mov %cr0, %rax */
	OUT_EAX,                   /* */
	0x0f, 0x20, 0xe0,          /* mov %cr4, %rax */
	OUT_EAX,                   /* */
	0x8c, 0xc8,                /* mov %cs, %eax */
	OUT_EAX,                   /* */
	0x8c, 0xd8,                /* mov %ds, %eax */
	OUT_EAX,                   /* */
	0xb9, 0x80, 0, 0, 0xc0,    /* mov $0xc0000080, %ecx */
	0x0f, 0x32,                /* rdmsr */
	OUT_EAX,                   /* EFER */
	0xb8, 0x18, 0, 0, 0,       /* mov $0x18, %eax */
	0x8e, 0xc0,                /* mov %eax, %es: loads a descriptor from the GDT in memory */
	0x8c, 0xc0,                /* mov %es, %eax */
	OUT_EAX,                   /* */
	0xf4                       /* hlt */
};
static const uint8_t code32[] = {
	0xb8, 1, 0, 0, 0,       /* mov $1, %eax */
	0x48, 0x8d, 0x40, 0x10, /* dec %eax; lea 0x10(%eax), %eax */
	OUT_EAX,                /* 0x10 */
	0x8b, 0x03,             /* mov (%ebx), %eax: the start info's magic */
	OUT_EAX,                /* */
	0x0f, 0x20, 0xc0,       /* mov %cr0, %eax */
	OUT_EAX,                /* */
	0x0f, 0x20, 0xe0,       /* mov %cr4, %eax */
	OUT_EAX,                /* */
	0x8b, 0x43, 0x18,       /* mov 0x18(%ebx), %eax */
	0x8b, 0x00,             /* mov (%eax), %eax: the command line's first bytes */
	OUT_EAX,                /* */
	0xb8, 0x18, 0, 0, 0,    /* mov $0x18, %eax */
	0x8e, 0xc0,             /* mov %eax, %es */
	0x8c, 0xc0,             /* mov %es, %eax */
	OUT_EAX,                /* */
	0xf4                    /* hlt */
};

static void expect_long_mode(struct bed *bed)
{
	assert_int_equal(run(bed), 0x11);
	assert_int_equal(run(bed), 0x53726448);
	assert_int_equal(run(bed) & 0x80000001, 0x80000001);
	assert_int_equal(run(bed) & 0x20, 0x20);
	assert_int_equal(run(bed), BOOT_CS);
	assert_int_equal(run(bed), BOOT_DS);
	assert_int_equal(run(bed) & 0x500, 0x500);
	assert_int_equal(run(bed), BOOT_DS);
}

static void long_mode(void **state)
{
	struct bed *bed = need_kvm(state);

	load(bed, BOOT_ELF64, code64, sizeof(code64));
	restore_and_enter(bed);
	expect_long_mode(bed);
	load(bed, BOOT_BZIMAGE64, code64, sizeof(code64));
	restore_and_enter(bed);
	expect_long_mode(bed);
}

static void protected_mode(void **state)
{
	struct bed *bed = need_kvm(state);

	load(bed, BOOT_PVH, code32, sizeof(code32));
	restore_and_enter(bed);
	assert_int_equal(run(bed), 0x10);
	assert_int_equal(run(bed), 0x336ec578);
	assert_int_equal(run(bed) & 0x80000001, 1);
	assert_int_equal(run(bed), 0);
	assert_int_equal(run(bed), 0x6c6c6568); /* "hell" */
	assert_int_equal(run(bed), BOOT_DS);

	/* code64 is 32-bit code as well, until it asks for EFER; its cr4 is without PAE. */
	load(bed, BOOT_BZIMAGE32, code64, sizeof(code64));
	restore_and_enter(bed);
	assert_int_equal(run(bed), 0x10);
	assert_int_equal(run(bed), 0x53726448);
	assert_int_equal(run(bed) & 0x80000001, 1);
	assert_int_equal(run(bed), 0);
	assert_int_equal(run(bed), BOOT_CS);
	assert_int_equal(run(bed), BOOT_DS);
	assert_int_equal(run(bed) & 0x500, 0);
	assert_int_equal(run(bed), BOOT_DS);
}

static uint64_t msr(int fd, uint32_t index)
{
	struct {
		uint32_t n, pad;
		struct kvm_msr_entry entry;
	} m = { .n = 1, .entry.index = index };

	if (ioctl(fd, KVM_GET_MSRS, &m) != 1)
		fail_msg("cannot read MSR 0x%x", index);
	return m.entry.data;
}

static void set_msr(int fd, uint32_t index, uint64_t value)
{
	struct {
		uint32_t n, pad;
		struct kvm_msr_entry entry;
	} m = { .n = 1, .entry = { .index = index, .data = value } };

	if (ioctl(fd, KVM_SET_MSRS, &m) != 1)
		fail_msg("cannot write MSR 0x%x", index);
}

/* Changes everything that a guest can change, and more. */
static void scramble(struct bed *bed, unsigned i)
{
	int fd = bed->vcpu[i];
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_debugregs debug;
	struct kvm_mp_state mp = { KVM_MP_STATE_HALTED };
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;

	ok(ioctl(fd, KVM_GET_SREGS, &sregs));
	sregs.apic_base |= 0xc00; /* enabled, as an x2APIC */
	sregs.cr8 = 5;
	sregs.idt.base = 0x1234;
	ok(ioctl(fd, KVM_SET_SREGS, &sregs));
	memset(&regs, 0x11, sizeof(regs));
	regs.rflags = 0x246;
	ok(ioctl(fd, KVM_SET_REGS, &regs));
	ok(ioctl(fd, KVM_GET_FPU, &fpu));
	memset(fpu.fpr, 0x22, sizeof(fpu.fpr));
	memset(fpu.xmm, 0x33, sizeof(fpu.xmm));
	fpu.fcw = 0x27f;
	ok(ioctl(fd, KVM_SET_FPU, &fpu));
	ok(ioctl(fd, KVM_GET_DEBUGREGS, &debug));
	debug.db[0] = 0x4000;
	ok(ioctl(fd, KVM_SET_DEBUGREGS, &debug));
	ok(ioctl(fd, KVM_GET_LAPIC, &lapic));
	lapic.regs[0x320] = 0x33; /* the timer's vector */
	lapic.regs[0xf1] = 1;     /* software enable */
	ok(ioctl(fd, KVM_SET_LAPIC, &lapic));
	ok(ioctl(fd, KVM_GET_VCPU_EVENTS, &events));
	events.flags |= KVM_VCPUEVENT_VALID_NMI_PENDING;
	events.nmi.pending = 1;
	ok(ioctl(fd, KVM_SET_VCPU_EVENTS, &events));
	ok(ioctl(fd, KVM_SET_MP_STATE, &mp));
	set_msr(fd, MSR_STAR, 0x1b000800000000);
	set_msr(fd, MSR_MTRR_DEFAULT, 0);
}

struct all {
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu;
	struct kvm_debugregs debug;
	struct kvm_lapic_state lapic;
	struct kvm_vcpu_events events;
	struct kvm_mp_state mp;
	uint64_t star, mtrr;
};

static void look(struct bed *bed, unsigned i, struct all *all)
{
	int fd = bed->vcpu[i];

	memset(all, 0, sizeof(*all));
	ok(ioctl(fd, KVM_GET_REGS, &all->regs));
	ok(ioctl(fd, KVM_GET_SREGS, &all->sregs));
	ok(ioctl(fd, KVM_GET_FPU, &all->fpu));
	ok(ioctl(fd, KVM_GET_DEBUGREGS, &all->debug));
	ok(ioctl(fd, KVM_GET_LAPIC, &all->lapic));
	ok(ioctl(fd, KVM_GET_VCPU_EVENTS, &all->events));
	ok(ioctl(fd, KVM_GET_MP_STATE, &all->mp));
	all->star = msr(fd, MSR_STAR);
	all->mtrr = msr(fd, MSR_MTRR_DEFAULT);
	memset(all->lapic.regs + 0x390, 0, 4); /* the timer's current count */
}

static void power_on_comes_back(void **state)
{
	struct bed *bed = need_kvm(state);

	for (unsigned i = 0; i < 2; i++) {
		struct all before, between, after;
		uint64_t tsc;

		fine(vcpu_state_restore(bed->vcpu[i], bed->power_on[i], &bed->err));
		look(bed, i, &before);
		assert_int_equal(before.mp.mp_state, i == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED);
		assert_int_equal(before.regs.rip, 0xfff0);
		assert_int_equal(before.sregs.cs.base, 0xffff0000);
		assert_int_equal(before.sregs.apic_base >> 8 & 1, i == 0);
		assert_int_equal(before.mtrr, 0x806);
		scramble(bed, i);
		look(bed, i, &between);
		/* The scrambling works, or the comparison would prove nothing. */
		assert_memory_not_equal(&before.regs, &between.regs, sizeof(before.regs));
		assert_memory_not_equal(&before.lapic, &between.lapic, sizeof(before.lapic));
		assert_true(between.star != before.star && between.mtrr != before.mtrr);
		tsc = msr(bed->vcpu[i], MSR_TSC);
		fine(vcpu_state_restore(bed->vcpu[i], bed->power_on[i], &bed->err));
		assert_true(msr(bed->vcpu[i], MSR_TSC) > tsc);
		look(bed, i, &after);
		assert_memory_equal(&before.regs, &after.regs, sizeof(before.regs));
		assert_memory_equal(&before.sregs, &after.sregs, sizeof(before.sregs));
		assert_memory_equal(&before.fpu, &after.fpu, sizeof(before.fpu));
		assert_memory_equal(&before.debug, &after.debug, sizeof(before.debug));
		assert_memory_equal(&before.lapic, &after.lapic, sizeof(before.lapic));
		assert_memory_equal(&before.events, &after.events, sizeof(before.events));
		assert_int_equal(before.mp.mp_state, after.mp.mp_state);
		assert_int_equal(before.star, after.star);
		assert_int_equal(before.mtrr, after.mtrr);
	}
}

/* kvmclock writes to guest memory as long as its MSR stands: a reset must end that. */
static void kvmclock_stops(void **state)
{
	struct bed *bed = need_kvm(state);

	if (ioctl(bed->dev, KVM_CHECK_EXTENSION, KVM_CAP_ADJUST_CLOCK) <= 0)
		skip();
	set_msr(bed->vcpu[0], MSR_KVM_CLOCK, 0x8001);
	assert_int_equal(msr(bed->vcpu[0], MSR_KVM_CLOCK), 0x8001);
	fine(vcpu_state_restore(bed->vcpu[0], bed->power_on[0], &bed->err));
	assert_int_equal(msr(bed->vcpu[0], MSR_KVM_CLOCK), 0);
}

static void chips_come_back(void **state)
{
	struct bed *bed = need_kvm(state);
	struct kvm_irqchip before[3], after[3];
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock = { 0 };
	uint64_t later;

	for (unsigned i = 0; i < 3; i++) {
		memset(&before[i], 0, sizeof(before[i]));
		memset(&after[i], 0, sizeof(after[i]));
		before[i].chip_id = after[i].chip_id = i;
		ok(ioctl(bed->vm, KVM_GET_IRQCHIP, &before[i]));
	}
	for (unsigned i = 0; i < 3; i++) {
		struct kvm_irqchip chip = before[i];

		if (i < 2)
			chip.chip.pic.irq_base = 0x30;
		else
			chip.chip.ioapic.redirtbl[4].bits = 0x31;
		ok(ioctl(bed->vm, KVM_SET_IRQCHIP, &chip));
	}
	ok(ioctl(bed->vm, KVM_GET_PIT2, &pit));
	pit.channels[2].mode = 3;
	pit.channels[2].count = 0x1234;
	ok(ioctl(bed->vm, KVM_SET_PIT2, &pit));
	clock.clock = 1000000000000;
	ok(ioctl(bed->vm, KVM_SET_CLOCK, &clock));

	fine(chip_state_restore(bed->vm, bed->chips, &bed->err));
	for (unsigned i = 0; i < 3; i++) {
		ok(ioctl(bed->vm, KVM_GET_IRQCHIP, &after[i]));
		assert_memory_equal(&before[i], &after[i], sizeof(before[i]));
	}
	ok(ioctl(bed->vm, KVM_GET_PIT2, &pit));
	assert_int_not_equal(pit.channels[2].count, 0x1234);
	ok(ioctl(bed->vm, KVM_GET_CLOCK, &clock));
	later = clock.clock;
	assert_true(later < 1000000000000);
}

/* A guest that ran, and got somewhere else, starts again as if nothing had been. */
static void starts_again(void **state)
{
	struct bed *bed = need_kvm(state);

	load(bed, BOOT_ELF64, code64, sizeof(code64));
	for (unsigned i = 0; i < 3; i++) {
		restore_and_enter(bed);
		assert_int_equal(run(bed), 0x11);
		assert_int_equal(run(bed), 0x53726448);
		bed->run->immediate_exit = 1;
		assert_int_equal(ioctl(bed->vcpu[0], KVM_RUN, 0), -1);
		bed->run->immediate_exit = 0;
		scramble(bed, 0);
	}
}

static void refusals_have_names(void **state)
{
	struct bed *bed = need_kvm(state);
	struct boot_entry bad = { .way = BOOT_ELF64 };

	assert_int_equal(vcpu_state_restore(-1, bed->power_on[1], &bed->err), -EBADF);
	assert_memory_equal(bed->err.text, "vCPU 1: KVM_GET_MP_STATE: ", 26);
	assert_int_equal(vcpu_state_enter(-1, &bad, &bed->err), -EBADF);
	assert_int_equal(chip_state_restore(-1, bed->chips, &bed->err), -EBADF);
	assert_memory_equal(bed->err.text, "KVM_SET_IRQCHIP 0: ", 19);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(long_mode),
		TEST(protected_mode),
		TEST(power_on_comes_back),
		TEST(kvmclock_stops),
		TEST(chips_come_back),
		TEST(starts_again),
		TEST(refusals_have_names),
	};

	return cmocka_run_group_tests_name("boot_state", tests, unit_adopt, unit_release);
}
