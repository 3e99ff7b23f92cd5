/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.h - exit statuses: stable, documented in trapline(1), one for each way to end; with --exit-port, the guest's.
 */
#ifndef TRAPLINE_CORE_STATUS_H
#define TRAPLINE_CORE_STATUS_H

enum status {
	STATUS_OK = 0,     /* the guest powered off */
	STATUS_HOST = 1,   /* the host failed: no memory, no thread, an I/O error */
	STATUS_USAGE = 2,  /* options or their values */
	STATUS_IMAGE = 3,  /* kernel, initrd, firmware or flash: missing, damaged, of another architecture, too large */
	STATUS_KVM = 4,    /* no /dev/kvm, no permission, or a KVM that lacks something */
	STATUS_RESET = 16, /* the guest reset, with --no-reboot */
	STATUS_PANIC = 17, /* the guest panicked */
	STATUS_TRIPLE_FAULT = 18, /* a triple fault, with --no-reboot */
	STATUS_KVM_ERROR = 19,    /* KVM could not run the guest on */
	STATUS_QUIT = 20,         /* the user quit: Ctrl-A x, or a signal and no power-off */
	STATUS_BOOT_TIMEOUT = 21, /* the guest did not say that it is ready within --boot-timeout */
	STATUS_NONE_GIVEN = 22,   /* the guest powered off without the status that --exit-port expects */
};

#endif
