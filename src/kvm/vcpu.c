/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vcpu.c - a thread a vCPU: enter the guest, serve the exit by one call of the bus, again.
 *
 * An exit for a port or memory access is *pending* until the next KVM_RUN: only then does KVM put a read's
 * value into the guest's registers. So before a vCPU parks it completes what is pending (KVM_RUN with
 * immediate_exit set), or a reset would write new registers and KVM the old answer over them.
 */
#include "kvm/kvm.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

static void set_immediate_exit(struct vcpu *vcpu, uint8_t on)
{
	__atomic_store_n(&vcpu->run->immediate_exit, on, __ATOMIC_SEQ_CST);
}

static void kick(struct runner *runner)
{
	struct vcpu *vcpu = container_of(runner, struct vcpu, runner);

	set_immediate_exit(vcpu, 1);
	if (__atomic_load_n(&vcpu->started, __ATOMIC_ACQUIRE))
		pthread_kill(vcpu->thread, KICK_SIGNAL);
}

void vcpu_call(struct vcpu *vcpu)
{
	__atomic_store_n(&vcpu->wanted, true, __ATOMIC_SEQ_CST);
	run_call(&vcpu->kvm->vm->run, &vcpu->runner);
}

/* Some stores to lines that are this vCPU's own; nothing beside the exit that led here. */
static void remember_trap(struct vcpu *vcpu, struct vcpu_trap trap, const void *data)
{
	struct vcpu_trap *slot = &vcpu->traps[vcpu->nr_traps++ % VCPU_TRAPS];

	memcpy(&trap.value, data, trap.len < sizeof(trap.value) ? trap.len : sizeof(trap.value));
	*slot = trap;
}

static void serve_io(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	void *data = (uint8_t *)run + run->io.data_offset;
	struct vcpu_trap trap = {
		.space = SPACE_PIO,
		.addr = run->io.port,
		.len = run->io.size,
		.count = run->io.count,
		.write = run->io.direction == KVM_EXIT_IO_OUT,
	};

	bus_access(vcpu->kvm->vm->bus, &vcpu->from, SPACE_PIO, trap.addr, data, trap.len, trap.count, trap.write);
	remember_trap(vcpu, trap, data);
}

static void serve_mmio(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	struct vcpu_trap trap = {
		.space = SPACE_MMIO,
		.addr = run->mmio.phys_addr,
		.len = (uint8_t)run->mmio.len,
		.count = 1,
		.write = run->mmio.is_write,
	};

	bus_access(vcpu->kvm->vm->bus, &vcpu->from, SPACE_MMIO, trap.addr, run->mmio.data, trap.len, 1, trap.write);
	remember_trap(vcpu, trap, run->mmio.data);
}

/* KVM cannot run this vCPU on, or the guest has lost control of it. */
static void vcpu_failed(struct vcpu *vcpu, enum run_reason reason, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

static void vcpu_failed(struct vcpu *vcpu, enum run_reason reason, const char *fmt, ...)
{
	char why[200];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(why, sizeof(why), fmt, ap);
	va_end(ap);
	vcpu->failed = true;
	vm_stop(vcpu->kvm->vm, reason, "%s: %s", vcpu->name, why);
}

static void serve_internal_error(struct vcpu *vcpu)
{
	struct kvm_run *run = vcpu->run;
	static const char *const kinds[] = {
		[KVM_INTERNAL_ERROR_EMULATION] = "an instruction that KVM cannot emulate",
		[KVM_INTERNAL_ERROR_SIMUL_EX] = "simultaneous exceptions",
		[KVM_INTERNAL_ERROR_DELIVERY_EV] = "an event that cannot be delivered",
		[KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON] = "an unexpected hardware exit",
	};
	unsigned kind = run->internal.suberror;
	unsigned n = run->internal.ndata < 4 ? run->internal.ndata : 4, len = 0;
	char data[4 * 20] = "";

	/* What the words mean is the kernel's secret, but whoever looks into it wants them. */
	for (unsigned i = 0; i < n; i++)
		len += (unsigned)snprintf(data + len, sizeof(data) - len, "%s%#llx", i ? " " : ", data ",
			(unsigned long long)run->internal.data[i]);
	vcpu_failed(vcpu, REASON_KVM_ERROR, "KVM internal error %u: %s%s", kind,
		kind < sizeof(kinds) / sizeof(kinds[0]) && kinds[kind] ? kinds[kind] : "of an unknown kind", data);
}

/* What a guest asks of KVM itself: on x86 by Hyper-V's registers, elsewhere by firmware calls. */
static void serve_system_event(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->kvm->vm;

	switch (vcpu->run->system_event.type) {
	case KVM_SYSTEM_EVENT_SHUTDOWN:
		run_request(&vm->run, REASON_POWER_OFF);
		break;
	case KVM_SYSTEM_EVENT_RESET:
		run_request(&vm->run, REASON_RESET);
		break;
	case KVM_SYSTEM_EVENT_CRASH:
		run_request(&vm->run, REASON_PANIC);
		break;
	default:
		vcpu_failed(
			vcpu, REASON_KVM_ERROR, "KVM system event of unknown type %u", vcpu->run->system_event.type);
	}
}

static void serve_exit(struct vcpu *vcpu)
{
	struct vm *vm = vcpu->kvm->vm;
	struct kvm_run *run = vcpu->run;

	kvm_drain_posted(vcpu->kvm);
	vcpu->exits++;
	vcpu->reasons[run->exit_reason < VCPU_REASONS ? run->exit_reason : VCPU_REASONS - 1]++;
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		serve_io(vcpu);
		break;
	case KVM_EXIT_MMIO:
		serve_mmio(vcpu);
		break;
	case KVM_EXIT_SHUTDOWN:
		vcpu_failed(vcpu, REASON_TRIPLE_FAULT, "triple fault");
		break;
	case KVM_EXIT_INTERNAL_ERROR:
		serve_internal_error(vcpu);
		break;
	case KVM_EXIT_FAIL_ENTRY:
		vcpu_failed(vcpu, REASON_KVM_ERROR, "KVM cannot enter the guest: hardware reason %#llx",
			(unsigned long long)run->fail_entry.hardware_entry_failure_reason);
		break;
	case KVM_EXIT_SYSTEM_EVENT:
		serve_system_event(vcpu);
		break;
	case KVM_EXIT_HYPERCALL:
		if (vcpu->kvm->hypercall)
			vcpu->kvm->hypercall(vcpu);
		else
			vcpu_failed(vcpu, REASON_KVM_ERROR, "a hypercall that was not asked for");
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		break;
	default:
		vcpu_failed(vcpu, REASON_KVM_ERROR, "KVM exit of unknown reason %u", run->exit_reason);
	}
	bus_throttle(vm->bus);
}

/* One KVM_RUN and what it asks for. False: it was interrupted and nothing is pending. */
static bool enter_guest(struct vcpu *vcpu)
{
	if (ioctl(vcpu->fd, KVM_RUN, 0) == 0) {
		serve_exit(vcpu);
		return true;
	}
	vcpu->interrupted++;
	/* EAGAIN: a secondary vCPU that was woken but has not been started by the guest. */
	if (errno != EINTR && errno != EAGAIN)
		vcpu_failed(vcpu, REASON_KVM_ERROR, "KVM_RUN: %s", strerror(errno));
	return false;
}

static void complete(struct runner *runner)
{
	struct vcpu *vcpu = container_of(runner, struct vcpu, runner);

	/*
	 * An access in several pieces (one that crosses a page) exits again for each; that ends with the instruction.
	 */
	do
		set_immediate_exit(vcpu, 1);
	while (enter_guest(vcpu));
}

static void first_entry(struct vcpu *vcpu)
{
	const struct kvm *kvm = vcpu->kvm;

	vcpu->entered = true;
	if (vcpu->index == 0 && kvm->first_entry)
		kvm->first_entry(kvm->first_entry_arg);
}

static void *vcpu_thread(void *arg)
{
	struct vcpu *vcpu = arg;

	for (;;) {
		/*
		 * Clear, then look: a kick that this overwrites had its reason published before, so it is seen
		 * here; one that comes later makes KVM_RUN return at once. run_interrupted() reads in one order with
		 * the store, so `wanted` is read after it as well.
		 */
		set_immediate_exit(vcpu, 0);
		if (run_interrupted(vcpu->runner.run) && !run_enter(&vcpu->runner))
			break;
		if (__atomic_load_n(&vcpu->wanted, __ATOMIC_RELAXED) &&
			__atomic_exchange_n(&vcpu->wanted, false, __ATOMIC_SEQ_CST))
			vcpu->kvm->called(vcpu);
		if (!vcpu->entered)
			first_entry(vcpu);
		enter_guest(vcpu);
	}
	return NULL;
}

int kvm_make_vcpus(struct kvm *kvm, unsigned n, struct error *err)
{
	kvm->vcpus = calloc(n, sizeof(*kvm->vcpus));
	if (!kvm->vcpus)
		return error_set(err, -ENOMEM, "no memory for %u vCPUs", n);
	for (unsigned i = 0; i < n; i++) {
		struct vcpu *vcpu = &kvm->vcpus[i];
		void *page;

		vcpu->kvm = kvm;
		vcpu->index = i;
		snprintf(vcpu->name, sizeof(vcpu->name), "vcpu%u", i);
		vcpu->fd = ioctl(kvm->fd, KVM_CREATE_VCPU, (unsigned long)i);
		kvm->nr_vcpus = i + 1;
		if (vcpu->fd < 0)
			return error_set(err, -errno, "KVM refuses vCPU %u: %s", i, strerror(errno));
		page = mmap(NULL, kvm->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
		if (page == MAP_FAILED)
			return error_set(err, -errno, "vCPU %u's shared page: %s", i, strerror(errno));
		vcpu->run = page;
		vcpu->from.name = vcpu->name;
		bus_attach(kvm->vm->bus, &vcpu->from);
	}
	if (kvm->ring_page) {
		uint32_t page = (uint32_t)sysconf(_SC_PAGESIZE);

		kvm->ring = (void *)((uint8_t *)kvm->vcpus[0].run + (size_t)kvm->ring_page * page);
		kvm->ring_entries = (page - sizeof(struct kvm_coalesced_mmio_ring)) / sizeof(struct kvm_coalesced_mmio);
	}
	return 0;
}

void kvm_was_paused(struct kvm *kvm)
{
	/* Refused where a guest does not use that clock, and then it needs none of it. */
	for (unsigned i = 0; i < kvm->nr_vcpus; i++)
		(void)ioctl(kvm->vcpus[i].fd, KVM_KVMCLOCK_CTRL);
}

void kvm_join_vcpus(struct kvm *kvm)
{
	run_stop(&kvm->vm->run);
	/* All leave before any is joined: a vCPU that still ends its handler must not kick a thread that is gone. */
	for (unsigned i = 0; i < kvm->nr_vcpus; i++) {
		if (kvm->vcpus[i].started)
			run_leave(&kvm->vm->run, &kvm->vcpus[i].runner);
	}
	for (unsigned i = 0; i < kvm->nr_vcpus; i++) {
		if (kvm->vcpus[i].started)
			pthread_join(kvm->vcpus[i].thread, NULL);
		kvm->vcpus[i].started = false;
	}
}

static int bind_vcpu(struct vcpu *vcpu, unsigned cpu, struct error *err)
{
	size_t size = CPU_ALLOC_SIZE(cpu + 1);
	cpu_set_t *set = CPU_ALLOC(cpu + 1);
	int r = ENOMEM;

	if (set) {
		CPU_ZERO_S(size, set);
		CPU_SET_S(cpu, size, set);
		r = pthread_setaffinity_np(vcpu->thread, size, set);
		CPU_FREE(set);
	}
	if (r)
		error_set(err, -r, "cannot bind vCPU %u to host CPU %u: %s", vcpu->index, cpu,
			r == EINVAL ? "it is offline, or not ours to use" : strerror(r));
	return -r;
}

static int start_vcpu(struct vcpu *vcpu, struct early_thread *early, struct error *err)
{
	struct run *run = &vcpu->kvm->vm->run;
	int r = 0;

	vcpu->runner.kick = kick;
	vcpu->runner.complete = complete;
	run_join(run, &vcpu->runner);
	if (early && early->up)
		early_go_on(early, vcpu->name, vcpu_thread, vcpu, &vcpu->thread);
	else
		r = thread_start(&vcpu->thread, vcpu->name, vcpu_thread, vcpu);
	if (r) {
		run_leave(run, &vcpu->runner);
		return error_set(err, r, "cannot start vCPU %u's thread: %s", vcpu->index, strerror(-r));
	}
	__atomic_store_n(&vcpu->started, true, __ATOMIC_RELEASE);
	return 0;
}

int kvm_start_vcpus(struct kvm *kvm, struct early_thread *first, const unsigned *host_cpus, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < kvm->nr_vcpus; i++) {
		r = start_vcpu(&kvm->vcpus[i], i == 0 ? first : NULL, err);
		if (r == 0 && host_cpus)
			r = bind_vcpu(&kvm->vcpus[i], host_cpus[i], err);
	}
	if (r)
		kvm_join_vcpus(kvm);
	return r;
}
