/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * layout.h - where things lie in an arm64 machine's guest-physical memory.
 *
 *	00000000  PCI I/O window		64 KiB: the port space of the bus, by an alias
 *	01000000  UARTs			4 of them, 0x1000 apart
 *	01010000  RTC
 *	01020000  stolen time		64 bytes a vCPU, in memory of its own
 *	01030000  devices of our own	0x1000 apart, the GPIO chip and a GICv2m's frame among them
 *	02000000  flash			16 MiB at most
 *	03000000  virtio-mmio		0x200 each
 *	3fff0000  GIC distributor	below it redistributors (GICv3) or the CPU interface (GICv2)
 *	40000000  PCI ECAM		256 MiB
 *	50000000  PCI memory		to 7fffffff
 *	80000000  RAM
 */
#ifndef TRAPLINE_ARCH_ARM64_LAYOUT_H
#define TRAPLINE_ARCH_ARM64_LAYOUT_H

#include <stdint.h>

#define LAYOUT_PORTS      0x00000000ULL
#define LAYOUT_PORTS_SIZE 0x00010000ULL

#define LAYOUT_UART        0x01000000ULL
#define LAYOUT_UART_STEP   0x00001000ULL
#define LAYOUT_RTC         0x01010000ULL
#define LAYOUT_PVTIME      0x01020000ULL
#define LAYOUT_PVTIME_SIZE 0x00010000ULL
#define LAYOUT_PVTIME_STEP 64ULL
#define LAYOUT_PVPANIC     0x01030000ULL
#define LAYOUT_REPORT      0x01031000ULL
#define LAYOUT_READY       0x01032000ULL
#define LAYOUT_DEBUGCON    0x01033000ULL
#define LAYOUT_GPIO        0x01034000ULL
#define LAYOUT_MSI         0x01035000ULL

#define LAYOUT_FLASH 0x02000000ULL

#define LAYOUT_VIRTIO      0x03000000ULL
#define LAYOUT_VIRTIO_STEP 0x00000200ULL

/*
 * The distributor's 64 KiB end where ECAM begins. A GICv2's CPU interface is below it; a GICv3's redistributors are,
 * 128 KiB a vCPU, and its ITS below these.
 */
#define LAYOUT_GIC_DIST      0x3fff0000ULL
#define LAYOUT_GIC_DIST_SIZE 0x00010000ULL
#define LAYOUT_GICV2_CPU     0x3ffd0000ULL
#define LAYOUT_GICV2_SIZE    0x00020000ULL
#define LAYOUT_REDIST_SIZE   0x00020000ULL
#define LAYOUT_ITS_SIZE      0x00020000ULL

#define LAYOUT_ECAM         0x40000000ULL
#define LAYOUT_ECAM_BUSES   256
#define LAYOUT_PCI_MEM      0x50000000ULL
#define LAYOUT_PCI_MEM_SIZE 0x30000000ULL

#define LAYOUT_RAM 0x80000000ULL

/*
 * The device tree lies at the end of RAM, or of the first gigabyte of it, and the initrd below: Linux wants the latter
 * within 32 GiB of the kernel, and the former, 2 MiB at most, within one 2 MiB block (Documentation/arm64/booting.rst).
 */
#define LAYOUT_BOOT_SPAN 0x40000000ULL
#define LAYOUT_DT_SIZE   0x00040000ULL
/* The same for 32-bit kernels, which want both in memory that they have mapped always: 760 MiB, as most are built. */
#define LAYOUT_BOOT_SPAN_32 0x20000000ULL

/* Private peripheral interrupt n is INTID 16 + n. */
#define LAYOUT_PPI_PMU         7
#define LAYOUT_PPI_MAINTENANCE 9 /* of the GIC's virtual interfaces, for a hypervisor */

/* Shared peripheral interrupts: line n is SPI n, which is INTID 32 + n. */
#define LAYOUT_LINES        256
#define LAYOUT_LINE_UART    0
#define LAYOUT_LINE_RTC     4
#define LAYOUT_LINE_GPIO    5
#define LAYOUT_LINE_PCI     8
#define LAYOUT_LINE_VIRTIO  16
#define LAYOUT_VIRTIO_LINES 64
#define LAYOUT_LINE_MSI     96 /* from here on, they are a GICv2m's messages, and no device's */
#define LAYOUT_MSI_LINES    (LAYOUT_LINES - 32 - LAYOUT_LINE_MSI)

/* The GPIO chip's pin with the power button. */
#define LAYOUT_PIN_POWER 3

#endif
