/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slotshim.c - preloaded while a guest starts: says at the first KVM_RUN how many memory slots were set before the
 * interrupt controllers were made, and how many after. Those after take milliseconds each.
 */
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned before, after, made, told;

__attribute__((visibility("default"))) int ioctl(int fd, unsigned long request, ...)
{
	char text[64];
	va_list ap;
	void *arg;
	int n;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == KVM_SET_USER_MEMORY_REGION)
		++*(made ? &after : &before);
	if (request == KVM_CREATE_IRQCHIP)
		made = 1;
	if (request == KVM_RUN && !__atomic_exchange_n(&told, 1, __ATOMIC_SEQ_CST)) {
		n = snprintf(text, sizeof(text), "slots: %u before, %u after\n", before, after);
		(void)!write(STDERR_FILENO, text, (size_t)n);
	}
	return (int)syscall(SYS_ioctl, fd, request, arg);
}
