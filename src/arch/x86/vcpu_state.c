/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vcpu_state.c - power-on state of vCPUs and in-kernel chips.
 *
 * Restoring has an order. KVM_GET_MP_STATE comes first, because it makes KVM take in an INIT or SIPI that is
 * still on its way, which would otherwise hit the fresh state. A nested guest is left before anything else is
 * written, or the registers written would be its. CR4 and XCR0 come before the XSAVE area that they
 * govern; the APIC base before the local APIC, whose registers it enables and whose id's form it
 * decides; events after the registers; and mp_state last, because it decides who waits for INIT.
 */
#include "arch/x86/vcpu_state.h"

#include <errno.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#define MSR_MAX   1024
#define MSR_BATCH 64 /* of one request */

#define XSTATE_BV     512 /* where the XSAVE header says which components are not in their initial state */
#define XSTATE_FP_SSE 3

#define MSR_TSC                  0x10
#define MSR_TSC_ADJUST           0x3b
#define MSR_MISC_ENABLE          0x1a0
#define MSR_MTRR_DEF_TYPE        0x2ff
#define MSR_TSC_DEADLINE         0x6e0
#define MISC_ENABLE_FAST_STRINGS 1ULL
#define MTRR_ENABLED_WRITE_BACK  0x806ULL

#define APIC_BASE_X2APIC (3ULL << 10) /* enabled, and as an x2APIC */

#define APIC_LVT0  0x350
#define APIC_LVT1  0x360
#define LVT_EXTINT 0x700
#define LVT_NMI    0x400

#define CR0_PE   (1ULL << 0)
#define CR0_ET   (1ULL << 4)
#define CR0_PG   (1ULL << 31)
#define CR4_PAE  (1ULL << 5)
#define EFER_LME (1ULL << 8)
#define EFER_LMA (1ULL << 10)

#define NR(array) (unsigned)(sizeof(array) / sizeof((array)[0]))

struct vcpu_state {
	unsigned index;
	bool has_xsave, has_xcrs, has_debugregs, has_nested;
	struct kvm_regs regs;
	struct kvm_sregs sregs;
	struct kvm_fpu fpu; /* where there is no XSAVE */
	/* No larger area is in use: that takes a feature that this process never asks for (arch_prctl). */
	_Alignas(64) uint8_t xsave[4096];
	struct kvm_xcrs xcrs;
	struct kvm_debugregs debugregs;
	struct kvm_vcpu_events events;
	struct kvm_lapic_state lapic;
	struct kvm_mp_state mp_state;
	struct kvm_nested_state nested; /* its header: no nested guest runs at power-on */
	uint32_t nr_msrs;
	struct kvm_msr_entry msrs[];
};

struct chip_state {
	struct kvm_irqchip chips[3];
	bool has_pit, has_clock;
	struct kvm_pit_state2 pit;
	struct kvm_clock_data clock;
};

/* struct kvm_msrs with room. */
struct msr_batch {
	uint32_t n, pad;
	struct kvm_msr_entry entries[MSR_BATCH];
};
_Static_assert(offsetof(struct msr_batch, entries) == offsetof(struct kvm_msrs, entries), "the same shape");

/*
 * Gets (into `got`) or sets as many of the `n` entries as KVM does in one go, and returns how many: it stops at the
 * first that it refuses. A request costs more than the MSRs in it.
 */
static uint32_t some_msrs(
	int fd, unsigned long request, const struct kvm_msr_entry *entries, uint32_t n, struct kvm_msr_entry *got)
{
	struct msr_batch batch = { .n = n < MSR_BATCH ? n : MSR_BATCH };
	int done;

	memcpy(batch.entries, entries, batch.n * sizeof(*entries));
	done = ioctl(fd, request, &batch);
	if (done <= 0)
		return 0;
	if (got)
		memcpy(got, batch.entries, (uint32_t)done * sizeof(*got));
	return (uint32_t)done;
}

static bool get_msr(int fd, uint32_t index, uint64_t *value)
{
	struct kvm_msr_entry msr = { .index = index };

	if (some_msrs(fd, KVM_GET_MSRS, &msr, 1, &msr) != 1)
		return false;
	*value = msr.data;
	return true;
}

static bool set_msr(int fd, uint32_t index, uint64_t value)
{
	struct kvm_msr_entry msr = { .index = index, .data = value };

	return some_msrs(fd, KVM_SET_MSRS, &msr, 1, NULL) == 1;
}

/*
 * What firmware would have done. Without memory types Linux takes them for disabled by the BIOS and does
 * without PAT; without the fast-strings bit it takes REP MOVS for slow. A KVM that knows neither is no reason
 * to stop. The pins are those of the MP specification's virtual wire mode (3.6.2.1): the PIC's interrupts
 * and NMI reach the boot CPU.
 */
static int act_as_firmware(int fd, unsigned index, struct error *err)
{
	struct kvm_lapic_state lapic;
	uint64_t misc;
	const uint32_t extint = LVT_EXTINT, nmi = LVT_NMI;

	(void)set_msr(fd, MSR_MTRR_DEF_TYPE, MTRR_ENABLED_WRITE_BACK);
	if (get_msr(fd, MSR_MISC_ENABLE, &misc))
		(void)set_msr(fd, MSR_MISC_ENABLE, misc | MISC_ENABLE_FAST_STRINGS);
	if (index != 0)
		return 0;
	if (ioctl(fd, KVM_GET_LAPIC, &lapic) < 0)
		return error_set(err, -errno, "vCPU %u: KVM_GET_LAPIC: %s", index, strerror(errno));
	memcpy(lapic.regs + APIC_LVT0, &extint, sizeof(extint));
	memcpy(lapic.regs + APIC_LVT1, &nmi, sizeof(nmi));
	if (ioctl(fd, KVM_SET_LAPIC, &lapic) < 0)
		return error_set(err, -errno, "vCPU %u: KVM_SET_LAPIC: %s", index, strerror(errno));
	return 0;
}

/*
 * The TSC goes on across a reset. KVM takes writes of it as attempts to synchronise vCPUs and shifts their
 * offsets, so that putting old values back one vCPU after another would pull them apart. TSC_ADJUST belongs
 * to it, and the deadline timer is disarmed with the local APIC's state.
 */
static bool msr_is_tsc(uint32_t index)
{
	return index == MSR_TSC || index == MSR_TSC_ADJUST || index == MSR_TSC_DEADLINE;
}

/* What KVM keeps for a guest but does not list, or did not in older releases. */
static const struct msr_range {
	uint32_t first, n;
} unlisted[] = {
	{ MSR_MTRR_DEF_TYPE, 1 }, { 0x200, 16 },    /* MTRRs: variable */
	{ 0x250, 1 },                               /* fixed, of 64, 16 and 4 KiB */
	{ 0x258, 2 }, { 0x268, 8 }, { 0x400, 128 }, /* machine-check banks */
};
#define MSR_UNLISTED 156

static void add_msr(struct vcpu_state *state, uint32_t index)
{
	if (!msr_is_tsc(index))
		state->msrs[state->nr_msrs++].index = index;
}

/* Gets or sets them all, and drops those that KVM refuses. */
static void keep_msrs(int fd, unsigned long request, struct vcpu_state *state)
{
	struct kvm_msr_entry *msrs = state->msrs;
	uint32_t kept = 0;

	for (uint32_t i = 0; i < state->nr_msrs;) {
		uint32_t done =
			some_msrs(fd, request, msrs + i, state->nr_msrs - i, request == KVM_GET_MSRS ? msrs + i : NULL);

		memmove(msrs + kept, msrs + i, done * sizeof(*msrs));
		kept += done;
		/* None: it is this one that is refused. */
		i += done ? done : 1;
	}
	state->nr_msrs = kept;
}

/*
 * Keeps those that can be read and written: others cannot change, or cannot be put back. `state` has room for the
 * list and for MSR_UNLISTED more.
 */
static void take_msrs(int fd, const struct kvm_msr_list *list, struct vcpu_state *state)
{
	for (uint32_t i = 0; i < list->nmsrs; i++)
		add_msr(state, list->indices[i]);
	for (unsigned i = 0; i < NR(unlisted); i++) {
		for (uint32_t j = 0; j < unlisted[i].n; j++)
			add_msr(state, unlisted[i].first + j);
	}
	keep_msrs(fd, KVM_GET_MSRS, state);
	keep_msrs(fd, KVM_SET_MSRS, state);
}

/* In order. One that is refused, though it was not at power-on, is no matter if it has its value. */
static int restore_msrs(int fd, const struct vcpu_state *state, struct error *err)
{
	for (uint32_t i = 0; i < state->nr_msrs;) {
		const struct kvm_msr_entry *msr = &state->msrs[i];
		uint32_t done = some_msrs(fd, KVM_SET_MSRS, msr, state->nr_msrs - i, NULL);
		uint64_t value;

		if (!done && (!get_msr(fd, msr->index, &value) || value != msr->data))
			return error_set(err, -EIO, "vCPU %u: KVM refuses MSR 0x%x its power-on value 0x%llx",
				state->index, msr->index, (unsigned long long)msr->data);
		i += done ? done : 1;
	}
	return 0;
}

/* One request of those that make up the state. */
struct step {
	const char *name;
	unsigned long request;
	void *data;
	bool absent; /* this KVM lacks it */
};

static int run_steps(int fd, unsigned index, const struct step *steps, unsigned n, struct error *err)
{
	for (unsigned i = 0; i < n; i++) {
		if (!steps[i].absent && ioctl(fd, steps[i].request, steps[i].data) < 0)
			return error_set(err, -errno, "vCPU %u: %s: %s", index, steps[i].name, strerror(errno));
	}
	return 0;
}

static int take_registers(int fd, struct vcpu_state *s, struct error *err)
{
	const struct step steps[] = {
		{ "KVM_GET_MP_STATE", KVM_GET_MP_STATE, &s->mp_state, false },
		{ "KVM_GET_REGS", KVM_GET_REGS, &s->regs, false },
		{ "KVM_GET_SREGS", KVM_GET_SREGS, &s->sregs, false },
		{ "KVM_GET_XCRS", KVM_GET_XCRS, &s->xcrs, !s->has_xcrs },
		{ "KVM_GET_XSAVE", KVM_GET_XSAVE, s->xsave, !s->has_xsave },
		{ "KVM_GET_FPU", KVM_GET_FPU, &s->fpu, s->has_xsave },
		{ "KVM_GET_DEBUGREGS", KVM_GET_DEBUGREGS, &s->debugregs, !s->has_debugregs },
		{ "KVM_GET_LAPIC", KVM_GET_LAPIC, &s->lapic, false },
		{ "KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, &s->events, false },
	};

	return run_steps(fd, s->index, steps, NR(steps), err);
}

static struct kvm_msr_list *msr_list(int kvm_fd, struct error *err)
{
	struct kvm_msr_list *list = calloc(1, sizeof(*list) + MSR_MAX * sizeof(list->indices[0]));

	if (!list) {
		error_set(err, -ENOMEM, "no memory for the list of MSRs");
		return NULL;
	}
	list->nmsrs = MSR_MAX;
	if (ioctl(kvm_fd, KVM_GET_MSR_INDEX_LIST, list) < 0) {
		error_set(err, -errno, "KVM_GET_MSR_INDEX_LIST: %s", strerror(errno));
		free(list);
		return NULL;
	}
	return list;
}

int vcpu_state_x2apic(int vcpu_fd, unsigned index, struct error *err)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set(err, -errno, "vCPU %u: KVM_GET_SREGS: %s", index, strerror(errno));
	sregs.apic_base |= APIC_BASE_X2APIC;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs) < 0)
		return error_set(err, -errno, "vCPU %u: KVM_SET_SREGS: %s", index, strerror(errno));
	return 0;
}

int vcpu_state_take(int kvm_fd, int vcpu_fd, unsigned index, bool firmware, struct vcpu_state **out, struct error *err)
{
	struct kvm_msr_list *list;
	struct vcpu_state *s;
	size_t size;
	int r = firmware ? 0 : act_as_firmware(vcpu_fd, index, err);

	if (r)
		return r;
	list = msr_list(kvm_fd, err);
	if (!list)
		return -EIO;
	size = sizeof(*s) + (list->nmsrs + MSR_UNLISTED) * sizeof(s->msrs[0]);
	s = aligned_alloc(64, (size + 63) & ~(size_t)63);
	if (!s) {
		free(list);
		return error_set(err, -ENOMEM, "no memory for vCPU %u's state", index);
	}
	memset(s, 0, size);
	s->index = index;
	s->has_xsave = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XSAVE) > 0;
	s->has_xcrs = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_XCRS) > 0;
	s->has_debugregs = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_DEBUGREGS) > 0;
	r = take_registers(vcpu_fd, s, err);
	/*
	 * A component that the header leaves out is initial when the guest sees it, but KVM_GET_FPU would
	 * still show what was there before: the two that it shows are written out.
	 */
	s->xsave[XSTATE_BV] |= XSTATE_FP_SSE;
	/* What a vCPU starts as is settled by its number, and not left to what KVM made of it so far. */
	s->mp_state.mp_state = index == 0 ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED;
	s->nested.size = sizeof(s->nested);
	s->has_nested = ioctl(kvm_fd, KVM_CHECK_EXTENSION, KVM_CAP_NESTED_STATE) > 0 &&
			ioctl(vcpu_fd, KVM_GET_NESTED_STATE, &s->nested) == 0;
	take_msrs(vcpu_fd, list, s);
	free(list);
	if (r)
		free(s);
	else
		*out = s;
	return r;
}

int vcpu_state_restore(int vcpu_fd, const struct vcpu_state *state, struct error *err)
{
	/* The requests that write take pointers to what they only read. */
	struct vcpu_state copy = *state, *s = &copy;
	struct kvm_mp_state ignored;
	const struct step first[] = {
		{ "KVM_GET_MP_STATE", KVM_GET_MP_STATE, &ignored, false },
		{ "KVM_SET_NESTED_STATE", KVM_SET_NESTED_STATE, &s->nested, !s->has_nested },
		{ "KVM_SET_SREGS", KVM_SET_SREGS, &s->sregs, false },
		{ "KVM_SET_REGS", KVM_SET_REGS, &s->regs, false },
		{ "KVM_SET_XCRS", KVM_SET_XCRS, &s->xcrs, !s->has_xcrs },
		{ "KVM_SET_XSAVE", KVM_SET_XSAVE, s->xsave, !s->has_xsave },
		{ "KVM_SET_FPU", KVM_SET_FPU, &s->fpu, s->has_xsave },
		{ "KVM_SET_DEBUGREGS", KVM_SET_DEBUGREGS, &s->debugregs, !s->has_debugregs },
	};
	const struct step last[] = {
		{ "KVM_SET_LAPIC", KVM_SET_LAPIC, &s->lapic, false },
		{ "KVM_SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS, &s->events, false },
		{ "KVM_SET_MP_STATE", KVM_SET_MP_STATE, &s->mp_state, false },
	};
	int r = run_steps(vcpu_fd, s->index, first, NR(first), err);

	if (r == 0)
		r = restore_msrs(vcpu_fd, state, err);
	if (r == 0)
		r = run_steps(vcpu_fd, s->index, last, NR(last), err);
	return r;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1
	};
}

static void enter_protected_mode(struct kvm_sregs *sregs)
{
	sregs->cs = flat(BOOT_CS, 0xb);
	sregs->cs.db = 1;
	sregs->cr0 = CR0_PE | CR0_ET;
	sregs->cr4 = 0;
	sregs->efer = 0;
}

static void enter_long_mode(struct kvm_sregs *sregs, const struct boot_entry *entry)
{
	sregs->cs = flat(BOOT_CS, 0xb);
	sregs->cs.l = 1;
	sregs->cr3 = entry->cr3;
	sregs->cr4 = CR4_PAE;
	sregs->cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs->efer = EFER_LME | EFER_LMA;
}

int vcpu_state_enter(int vcpu_fd, const struct boot_entry *entry, struct error *err)
{
	struct kvm_regs regs = { .rip = entry->rip, .rflags = 2 };
	struct kvm_sregs sregs;
	const struct step steps[] = {
		{ "KVM_SET_SREGS", KVM_SET_SREGS, &sregs, false },
		{ "KVM_SET_REGS", KVM_SET_REGS, &regs, false },
	};

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs) < 0)
		return error_set(err, -errno, "vCPU 0: KVM_GET_SREGS: %s", strerror(errno));
	sregs.ds = flat(BOOT_DS, 0x3);
	sregs.ds.db = 1;
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.tr = (struct kvm_segment){ .limit = 0x67, .selector = BOOT_TR, .type = 0xb, .present = 1 };
	sregs.ldt = (struct kvm_segment){ .unusable = 1 };
	sregs.gdt.base = entry->gdt_base;
	sregs.gdt.limit = entry->gdt_limit;
	sregs.idt.base = 0;
	sregs.idt.limit = 0;
	if (entry->long_mode)
		enter_long_mode(&sregs, entry);
	else
		enter_protected_mode(&sregs);
	if (entry->way == BOOT_PVH)
		regs.rbx = entry->arg;
	else
		regs.rsi = entry->arg;
	return run_steps(vcpu_fd, 0, steps, NR(steps), err);
}

int chip_state_take(int vm_fd, struct chip_state **out, struct error *err)
{
	struct chip_state *s = calloc(1, sizeof(*s));

	if (!s)
		return error_set(err, -ENOMEM, "no memory for the interrupt controllers' state");
	for (uint32_t i = 0; i < 3; i++) {
		s->chips[i].chip_id = i; /* KVM_IRQCHIP_PIC_MASTER, _PIC_SLAVE, _IOAPIC */
		if (ioctl(vm_fd, KVM_GET_IRQCHIP, &s->chips[i]) < 0) {
			int code = -errno;

			free(s);
			return error_set(err, code, "KVM_GET_IRQCHIP %u: %s", i, strerror(-code));
		}
	}
	s->has_pit = ioctl(vm_fd, KVM_GET_PIT2, &s->pit) == 0;
	s->has_clock = ioctl(vm_fd, KVM_GET_CLOCK, &s->clock) == 0;
	s->clock.flags = 0; /* what was got says how sure it is; setting takes no flags */
	*out = s;
	return 0;
}

int chip_state_restore(int vm_fd, const struct chip_state *state, struct error *err)
{
	struct chip_state s = *state;

	for (uint32_t i = 0; i < 3; i++) {
		if (ioctl(vm_fd, KVM_SET_IRQCHIP, &s.chips[i]) < 0)
			return error_set(err, -errno, "KVM_SET_IRQCHIP %u: %s", i, strerror(errno));
	}
	if (s.has_pit && ioctl(vm_fd, KVM_SET_PIT2, &s.pit) < 0)
		return error_set(err, -errno, "KVM_SET_PIT2: %s", strerror(errno));
	if (s.has_clock && ioctl(vm_fd, KVM_SET_CLOCK, &s.clock) < 0)
		return error_set(err, -errno, "KVM_SET_CLOCK: %s", strerror(errno));
	return 0;
}
