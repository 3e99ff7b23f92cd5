/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exitshim.c - preloaded by the tests of ends: the tenth entry into the guest comes back at once with EXIT_REASON,
 * which no guest can bring about by itself.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#define FDS 1024

static struct kvm_run *pages[FDS];

__attribute__((visibility("default"))) void *mmap64(void *at, size_t size, int prot, int flags, int fd, off64_t offset)
{
	void *(*real)(void *, size_t, int, int, int, off64_t) =
		(void *(*)(void *, size_t, int, int, int, off64_t))dlsym(RTLD_NEXT, "mmap64");
	void *page = real(at, size, prot, flags, fd, offset);

	/* A vCPU's page is the only shared mapping of a file that can be written. */
	if (page != MAP_FAILED && flags & MAP_SHARED && prot & PROT_WRITE && fd >= 0 && fd < FDS)
		pages[fd] = page;
	return page;
}

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	const char *reason = getenv("EXIT_REASON");
	static int entries;
	va_list ap;
	void *arg;
	int r;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	r = real(fd, request, arg);
	if (request == KVM_RUN && r == 0 && reason && pages[fd] && ++entries == 10) {
		pages[fd]->exit_reason = (uint32_t)atoi(reason);
		pages[fd]->fail_entry.hardware_entry_failure_reason = 0x80000021;
	}
	return r;
}
