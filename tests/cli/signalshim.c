/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * signalshim.c - preloaded by the tests of ends: SIGTERM comes before the Nth call of ioctl(), SIGNAL_AT, and before
 * the guest first runs at the latest. Calls with the same request in a row count as one.
 */
#include <dlfcn.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	int (*real)(int, unsigned long, ...) = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
	static unsigned long last;
	static int calls;
	const char *at = getenv("SIGNAL_AT");
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	/* To the process, as kill(1) does; any thread may be the one that calls. */
	if (at && __atomic_exchange_n(&last, request, __ATOMIC_SEQ_CST) != request) {
		int n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);

		if (n == atoi(at) || (n < atoi(at) && request == KVM_RUN))
			kill(getpid(), SIGTERM);
	}
	return real(fd, request, arg);
}
