/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pendingshim.c - preloaded while a flat guest resets itself: aborts when new registers are given to a vCPU for which
 * an answered read is still pending. KVM puts the answer into the registers at the next KVM_RUN (KVM API, 5: "the
 * corresponding operations are complete only after userspace has re-entered the kernel"), so they would be spoilt.
 * Not every KVM shows it; this does on each.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define FDS 256

static struct {
	struct kvm_run *run; /* of the vCPU with this descriptor */
	bool pending;
} vcpus[FDS];

__attribute__((visibility("default"))) void *mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
	void *mem = (void *)syscall(SYS_mmap, addr, len, prot, flags, fd, offset);

	/* The only shared mapping of a small descriptor that a guest without files has. */
	if (mem != MAP_FAILED && (flags & MAP_SHARED) && fd >= 0 && fd < FDS)
		vcpus[fd].run = mem;
	return mem;
}

static bool reads(const struct kvm_run *run)
{
	return (run->exit_reason == KVM_EXIT_IO && run->io.direction == KVM_EXIT_IO_IN) ||
	       (run->exit_reason == KVM_EXIT_MMIO && !run->mmio.is_write);
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	static const char text[] = "FAIL pending: new registers before a read was completed\n";
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_SET_REGS && fd < FDS && __atomic_load_n(&vcpus[fd].pending, __ATOMIC_ACQUIRE)) {
		(void)!write(STDERR_FILENO, text, strlen(text));
		abort();
	}
	r = (int)syscall(SYS_ioctl, fd, request, arg);
	if (request == KVM_RUN && fd < FDS && vcpus[fd].run)
		__atomic_store_n(&vcpus[fd].pending, r == 0 && reads(vcpus[fd].run), __ATOMIC_RELEASE);
	return r;
}
