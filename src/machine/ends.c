/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ends.c - SIGTERM and its like ask the guest to power off, as pressing a machine's button does; a guest that cannot
 * hear it, or takes too long, is ended. So is one that takes too long to boot. And what comes of each end: a status.
 *
 * Time is the host's: somebody waits for the end, whatever the guest's clock does.
 */
#include "machine/ends.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "core/leave.h"
#include "core/say.h"
#include "machine/consoles.h"
#include "machine/machine.h"
#include "machine/postmortem.h"
#include "machine/watch.h"

#define FOR "for signals and time"

/* Who sends a signal to a process and then to its group, as timeout(1) does, sends it once. */
#define SAME_SIGNAL_NS (NSEC_PER_SEC / 4)

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

bool ends_signalled(struct error *err)
{
	static const struct timespec at_once = { 0 };
	sigset_t set;
	int sig;

	if (!leave_pending())
		return false;
	leave_signals(&set);
	sig = sigtimedwait(&set, NULL, &at_once);
	if (sig <= 0)
		return false;
	error_set(err, -EINTR, "SIG%s during start-up", sigabbrev_np(sig));
	return true;
}

static void ask_to_end(struct machine *m, const char *signal)
{
	struct ends *ends = &m->ends;
	unsigned seconds = m->config.shutdown_timeout;
	const struct itimerspec until = { .it_value.tv_sec = seconds };

	if (ends->asked) {
		if (now_ns() - ends->asked_at >= SAME_SIGNAL_NS)
			vm_stop(&m->vm, REASON_QUIT, "SIG%s again: ended before the guest has powered off", signal);
		return;
	}
	ends->asked = true;
	ends->asked_at = now_ns();
	/* It cannot hear its button while it stands still. */
	machine_resume(m);
	if (!seconds)
		vm_stop(&m->vm, REASON_QUIT, "SIG%s: ended at once, as --shutdown-timeout 0 asks", signal);
	else if (!vm_press(&m->vm, BUTTON_POWER))
		vm_stop(&m->vm, REASON_QUIT, "SIG%s: ended at once, the guest does not listen to its power button",
			signal);
	else if (timerfd_settime(ends->shutdown.fd, 0, &until, NULL))
		vm_stop(&m->vm, REASON_QUIT, "SIG%s: ended at once, no timer: %s", signal, strerror(errno));
	else
		machine_tell(m, "SIG%s: pressed the power button; the guest has %u s, a second signal ends it", signal,
			seconds);
}

static void signalled(void *arg, uint32_t events)
{
	struct machine *m = arg;
	struct signalfd_siginfo info;

	if (read(m->ends.signals.fd, &info, sizeof(info)) == sizeof(info))
		ask_to_end(m, sigabbrev_np((int)info.ssi_signo));
}

static void shutdown_over(void *arg, uint32_t events)
{
	struct machine *m = arg;
	uint64_t times;

	if (read(m->ends.shutdown.fd, &times, sizeof(times)) == sizeof(times))
		vm_stop(&m->vm, REASON_QUIT, "the guest has not powered off within %u s (--shutdown-timeout)",
			m->config.shutdown_timeout);
}

static void boot_over(void *arg, uint32_t events)
{
	struct machine *m = arg;
	uint64_t times;

	if (read(m->ends.boot.fd, &times, sizeof(times)) != sizeof(times) ||
		__atomic_load_n(&m->vm.ready_at, __ATOMIC_ACQUIRE))
		return;
	vm_stop(&m->vm, REASON_BOOT_TIMEOUT, "the guest has not said that it is ready within %u s (--boot-timeout)",
		m->config.boot_timeout);
}

int ends_up(struct machine *m, struct error *err)
{
	struct ends *ends = &m->ends;
	sigset_t set;
	int r;

	leave_signals(&set);
	r = watch_up(m, &ends->signals, signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), signalled, FOR, err);
	if (r == 0)
		r = watch_up(m, &ends->shutdown, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
			shutdown_over, FOR, err);
	if (r == 0 && m->config.boot_timeout)
		r = watch_up(m, &ends->boot, timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK), boot_over,
			FOR, err);
	if (r)
		ends_down(m);
	return r;
}

void ends_down(struct machine *m)
{
	watch_down(m, &m->ends.boot);
	watch_down(m, &m->ends.shutdown);
	watch_down(m, &m->ends.signals);
}

void ends_await_boot(struct machine *m)
{
	const struct itimerspec until = { .it_value.tv_sec = m->config.boot_timeout };

	for (unsigned i = 0; i < m->kvm.nr_vcpus; i++)
		m->kvm.vcpus[i].failed = false;
	if (m->config.boot_timeout && timerfd_settime(m->ends.boot.fd, 0, &until, NULL))
		vm_stop(&m->vm, REASON_HOST_FAILURE, "no timer for --boot-timeout: %s", strerror(errno));
}

static const struct {
	enum status status;
	bool silent;  /* it is what the guest was asked to do, and needs no word */
	bool examine; /* whoever looks into it wants to know what the guest was doing */
} ends_of[] = {
	[REASON_NONE] = { STATUS_HOST },
	[REASON_RESET] = { STATUS_RESET, .silent = true },
	[REASON_TRIPLE_FAULT] = { STATUS_TRIPLE_FAULT, .examine = true },
	[REASON_POWER_OFF] = { STATUS_OK, .silent = true },
	[REASON_QUIT] = { STATUS_QUIT, .silent = true },
	[REASON_PANIC] = { STATUS_PANIC },
	[REASON_GUEST_STATUS] = { STATUS_OK, .silent = true },
	[REASON_BOOT_TIMEOUT] = { STATUS_BOOT_TIMEOUT, .examine = true },
	[REASON_KVM_ERROR] = { STATUS_KVM_ERROR, .examine = true },
	[REASON_HOST_FAILURE] = { STATUS_HOST },
};
_Static_assert(sizeof(ends_of) / sizeof(ends_of[0]) == NR_REASONS, "an end for each reason");

int ends_status(struct machine *m, struct error *err)
{
	enum run_reason reason = m->ended;
	const char *why = m->vm.run.why;

	if (m->vm.ready_at && m->config.debug)
		say(SAY_MS, "ready after %.3f s", (double)m->vm.ready_at / NSEC_PER_SEC);
	if (ends_of[reason].examine) {
		/* What the guest has said comes first. */
		consoles_flush(m);
		postmortem(m);
	}
	if (reason == REASON_GUEST_STATUS)
		return (int)(__atomic_load_n(&m->vm.guest_status, __ATOMIC_SEQ_CST) & 0xff);
	if (reason == REASON_POWER_OFF && m->config.guest.exit_port) {
		error_set(err, -ENODATA, "the guest powered off without a status, which --exit-port expects");
		return STATUS_NONE_GIVEN;
	}
	if (reason == REASON_NONE)
		error_set(err, -EIO, "the event loop failed");
	else if (why[0] && reason != REASON_POWER_OFF)
		error_set(err, -EIO, "%s", why);
	else if (!ends_of[reason].silent || m->config.guest.exit_port)
		error_set(err, -EIO, "%s", run_reason_name(reason));
	return ends_of[reason].status;
}
