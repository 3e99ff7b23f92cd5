/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * floor.c - the least that a program must ask of KVM for one vCPU with a PC's chips to run: what start-up costs beyond
 * this is ours. It runs the same payload by the same entry, says the guest's first byte on standard output, and waits.
 *
 * floor PAYLOAD: raw 32-bit code for guest-physical 1 MiB.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#define RAM   (128UL << 20)
#define ENTRY 0x100000UL

/* struct kvm_cpuid2 with room. */
struct cpuid {
	uint32_t n, pad;
	struct kvm_cpuid_entry2 entries[100];
};
_Static_assert(offsetof(struct cpuid, entries) == offsetof(struct kvm_cpuid2, entries), "the same shape");

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static int ask(int fd, unsigned long request, void *arg, const char *what)
{
	int r = ioctl(fd, request, arg);

	if (r < 0)
		die(what);
	return r;
}

static struct kvm_segment flat(uint16_t selector, uint8_t type)
{
	return (struct kvm_segment){
		.limit = 0xffffffff, .selector = selector, .type = type, .present = 1, .s = 1, .g = 1, .db = 1
	};
}

static void *load(const char *path)
{
	uint8_t *ram = mmap(NULL, RAM, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (ram == MAP_FAILED || fd < 0 || read(fd, ram + ENTRY, 4096) <= 0)
		die(path);
	return ram;
}

static void set_registers(int vcpu)
{
	struct kvm_regs regs = { .rip = ENTRY, .rflags = 2 };
	struct kvm_sregs sregs;

	ask(vcpu, KVM_GET_SREGS, &sregs, "KVM_GET_SREGS");
	sregs.cs = flat(0x10, 0xb);
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat(0x18, 3);
	sregs.cr0 = 0x11;
	ask(vcpu, KVM_SET_SREGS, &sregs, "KVM_SET_SREGS");
	ask(vcpu, KVM_SET_REGS, &regs, "KVM_SET_REGS");
}

int main(int argc, char **argv)
{
	struct kvm_userspace_memory_region slot = { .memory_size = RAM };
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	static struct cpuid cpuid = { .n = 100 };
	uint64_t identity = 0xfffbc000;
	struct kvm_run *run;
	int kvm, vm, vcpu;

	kvm = argc == 2 ? open("/dev/kvm", O_RDWR | O_CLOEXEC) : -1;
	if (kvm < 0)
		die("floor PAYLOAD: /dev/kvm");
	ask(kvm, KVM_GET_API_VERSION, NULL, "KVM_GET_API_VERSION");
	vm = ask(kvm, KVM_CREATE_VM, NULL, "KVM_CREATE_VM");
	slot.userspace_addr = (uintptr_t)load(argv[1]);
	ask(vm, KVM_SET_USER_MEMORY_REGION, &slot, "KVM_SET_USER_MEMORY_REGION");
	ask(vm, KVM_SET_IDENTITY_MAP_ADDR, &identity, "KVM_SET_IDENTITY_MAP_ADDR");
	ask(vm, KVM_SET_TSS_ADDR, (void *)0xfffbd000UL, "KVM_SET_TSS_ADDR");
	ask(vm, KVM_CREATE_IRQCHIP, NULL, "KVM_CREATE_IRQCHIP");
	ask(vm, KVM_CREATE_PIT2, &pit, "KVM_CREATE_PIT2");
	vcpu = ask(vm, KVM_CREATE_VCPU, NULL, "KVM_CREATE_VCPU");
	run = mmap(NULL, (size_t)ask(kvm, KVM_GET_VCPU_MMAP_SIZE, NULL, "KVM_GET_VCPU_MMAP_SIZE"),
		PROT_READ | PROT_WRITE, MAP_SHARED, vcpu, 0);
	if (run == MAP_FAILED)
		die("mmap");
	ask(kvm, KVM_GET_SUPPORTED_CPUID, &cpuid, "KVM_GET_SUPPORTED_CPUID");
	ask(vcpu, KVM_SET_CPUID2, &cpuid, "KVM_SET_CPUID2");
	set_registers(vcpu);
	ask(vcpu, KVM_RUN, NULL, "KVM_RUN");
	if (run->exit_reason != KVM_EXIT_IO || write(STDOUT_FILENO, (char *)run + run->io.data_offset, 1) != 1)
		die("the guest's first byte");
	pause();
	return 0;
}
