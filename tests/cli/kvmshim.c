/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kvmshim.c - preloaded by the command-line tests: answers the first questions put to /dev/kvm as an old or poor
 * KVM would, so that what is said about one can be tested where no such kernel is at hand.
 * SHIM_API: the API version. SHIM_LACKS: the number of a capability that is denied.
 * SHIM_NO_LIBRARY: a library that cannot be loaded, as if it were not installed.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	const char *api = getenv("SHIM_API"), *lacks = getenv("SHIM_LACKS");
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	switch (request) {
	case KVM_GET_API_VERSION:
		return api ? atoi(api) : KVM_API_VERSION;
	case KVM_CREATE_VM:
		return dup(fd);
	case KVM_CHECK_EXTENSION:
		return !lacks || (unsigned long)arg != strtoul(lacks, NULL, 0);
	default:
		return real(fd, request, arg);
	}
}

__attribute__((visibility("default"))) void *dlopen(const char *name, int flags)
{
	void *(*real)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");
	const char *missing = getenv("SHIM_NO_LIBRARY");

	return name && missing && strcmp(name, missing) == 0 ? NULL : real(name, flags);
}
