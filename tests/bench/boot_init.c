/* SPDX-License-Identifier: BSD-2-Clause */
/* boot_init.c - init of the guest whose boot is measured: says that it runs, waits until that was seen, powers off. */
#include <stdio.h>
#include <sys/reboot.h>
#include <unistd.h>

#include "boot_mark.h"

int main(void)
{
	static const char mark[] = "\n" BOOT_MARK "\n";

	if (write(1, mark, sizeof(mark) - 1) < 0)
		return 1;
	usleep(BOOT_PAUSE_MS * 1000);
	reboot(RB_POWER_OFF);
	/* Where nothing switches the machine off, whoever measures ends it. */
	for (;;)
		pause();
}
