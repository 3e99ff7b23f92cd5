/* SPDX-License-Identifier: BSD-2-Clause */
/* cli.h - the commands. Each returns an exit status, and one line in `err` where there is one to say. */
#ifndef TRAPLINE_CLI_CLI_H
#define TRAPLINE_CLI_CLI_H

#include <stdbool.h>
#include <stdio.h>

#include "core/error.h"
#include "core/status.h"
#include "machine/machine.h"

struct command {
	const char *name, *summary;
	int (*run)(int argc, char **argv, struct error *err); /* argv[0] is the command's name */
};

int cmd_run(int argc, char **argv, struct error *err);
int cmd_device_test(int argc, char **argv, struct error *err);

/* What makes up the machine itself, for the options of every command that builds one. */
#define DEFAULT_RAM  (256ULL << 20)
#define DEFAULT_CPUS 1
#define OPTION_MEM(m)                                                                                                  \
	{                                                                                                              \
		OPTION_SIZE, 'm', "mem", "SIZE", "RAM in MiB, or with a suffix B K M G T P; default: 256",             \
			&(m)->guest.ram                                                                                \
	}
#define OPTION_CPUS(m)                                                                                                 \
	{                                                                                                              \
		OPTION_COUNT, 'c', "cpus", "N", "vCPUs; default: 1", &(m)->guest.cpus                                  \
	}
#define OPTION_PLACE(values)                                                                                           \
	{                                                                                                              \
		OPTION_REPEAT, 0, "place", "DEV=SPACE:ADDR[,irq=N]",                                                   \
			"put a device elsewhere: serial0=mmio:0xd0000000,irq=10", (values)                             \
	}
#define OPTION_FIRMWARE(m)                                                                                             \
	{                                                                                                              \
		OPTION_STRING, 'f', "firmware", "FILE", "a ROM (arm64: an image) to start by instead of a kernel",     \
			&(m)->guest.firmware                                                                           \
	}
#define OPTION_FIRMWARE_ADDRESS(a)                                                                                     \
	{                                                                                                              \
		OPTION_STRING, 0, "firmware-address", "ADDR",                                                          \
			"arm64: where firmware is loaded and starts; default: RAM's begin", &(a)->firmware_address     \
	}
#define OPTION_RTC(a)                                                                                                  \
	{                                                                                                              \
		OPTION_STRING, 0, "rtc", "CHIP", "arm64: the clock, pl031 (default) or mc146818", &(a)->rtc            \
	}
#define OPTION_IRQCHIP(m)                                                                                              \
	{                                                                                                              \
		OPTION_STRING, 0, "irqchip", "KIND",                                                                   \
			"arm64: auto (default: the best that KVM has), gicv2, gicv2m, gicv3, gicv3-its",               \
			&(m)->guest.irqchip                                                                            \
	}
#define OPTION_DEBUGCON(m)                                                                                             \
	{                                                                                                              \
		OPTION_STRING, 0, "debugcon", "WHERE",                                                                 \
			"a debug console at port 0xe9, whose bytes go to stderr or file:PATH", &(m)->debugcon          \
	}

#define OPTION_EXIT_PORT(m)                                                                                            \
	{                                                                                                              \
		OPTION_FLAG, 0, "exit-port", NULL, "the guest ends with a status of its own, written to port 0xf4",    \
			&(m)->guest.exit_port                                                                          \
	}
#define OPTION_FLASH(m)                                                                                                \
	{                                                                                                              \
		OPTION_STRING, 'F', "flash", "FILE", "a flash chip, such as OVMF's variables; x86: --firmware's",      \
			&(m)->guest.flash                                                                              \
	}
_Static_assert(PCI_FUNCTIONS == 8, "--pci-test-functions says so");
#define OPTIONS_PCI_TEST(m)                                                                                            \
	{ OPTION_FLAG, 0, "pci-test", NULL, "add the PCI function that tests drive", &(m)->guest.pci_test },           \
	{                                                                                                              \
		OPTION_RANGE, 0, "pci-test-functions", "1-8", "the same, as a device of so many functions",            \
			&(m)->guest.pci_test_functions                                                                 \
	}

/* The machine as it would be built. */
void dry_run_text(const struct machine *machine, FILE *out);
int dry_run_json(const struct machine *machine, FILE *out); /* 0 or -EILSEQ (text that is not UTF-8), -EIO */

/* Parts of that JSON; the reference is the caller's. NULL: no memory. */
struct json_t *machine_bus_json(const struct machine *machine);
struct json_t *machine_devices_json(const struct machine *machine);
struct json_t *machine_pci_json(const struct machine *machine);
struct json_t *machine_windows_json(const struct machine *machine); /* where PCI's BARs may be */
const char *space_name(enum space space);                           /* "pio", "mmio" */

/* After the run: all exits to user space and who they went to, as JSON. 0, -ENOMEM or -EIO. */
int stats_write(const struct machine *machine, FILE *out);

#endif
