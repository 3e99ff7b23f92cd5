/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * gic.c - KVM's interrupt controller: GICv3 with an ITS, GICv3 alone, or GICv2 with a frame for messages, which is ours
 * (dev/gicv2m.c), or without; whichever KVM has, the best first
 * (Documentation/virt/kvm/devices/arm-vgic-v3.rst and its neighbours).
 *
 * It is made before vCPUs and begins to work after them. A reset puts back what a guest's next kernel would stumble
 * over: what is enabled, pending or active, and the ITS's tables, which lie in memory that has other uses then.
 */
#include <errno.h>
#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "arch/arm64/board.h"

/* Offsets in the distributor, and in a redistributor's second page (IHI 0069, 12.8 and 12.10). */
#define GICD_CTLR      0x0000
#define GICD_ICENABLER 0x0180
#define GICD_ICPENDR   0x0280
#define GICD_ICACTIVER 0x0380
#define GICR_CTLR      0x0000
#define GICR_SGI       0x10000
#define REG_BITS       32

/* Linux 6.16's; older headers do not have it. */
#define VGIC_GRP_MAINT_IRQ 9

static int refused(struct error *err, const char *what)
{
	return error_set(err, -errno, "KVM refuses %s: %s", what, strerror(errno));
}

/* Of what --irqchip asks for by its name. */
static int refused_kind(const struct board *board, const char *what, struct error *err)
{
	if (errno != ENODEV)
		return refused(err, what);
	error_set(err, -ENODEV, "--irqchip %s: this KVM has no %s for guests", board->config.irqchip, what);
	error_hint(err, "--irqchip auto takes the best that it has");
	return -ENODEV;
}

/* An open device, or -1 with errno. */
static int create_device(int vm_fd, uint32_t type)
{
	struct kvm_create_device device = { .type = type };

	return ioctl(vm_fd, KVM_CREATE_DEVICE, &device) ? -1 : (int)device.fd;
}

static int set_attr(int fd, uint32_t group, uint64_t attr, const void *value)
{
	struct kvm_device_attr set = { .group = group, .attr = attr, .addr = (uint64_t)(uintptr_t)value };

	return ioctl(fd, KVM_SET_DEVICE_ATTR, &set);
}

static int create_v3(struct board *board, int vm_fd, struct error *err)
{
	const uint64_t dist = LAYOUT_GIC_DIST, redist = arm64_redist(board->config.cpus),
		       its = arm64_its(board->config.cpus);

	if (set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_DIST, &dist))
		return refused(err, "the GIC distributor's address");
	if (set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V3_ADDR_TYPE_REDIST, &redist))
		return refused(err, "the GIC redistributors' address");
	board->gic = GIC_V3;
	if (board->wanted == GIC_V3)
		return 0;
	board->its_fd = create_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_ITS);
	if (board->its_fd < 0)
		return board->wanted == GIC_V3_ITS ? refused_kind(board, "ITS", err) : 0;
	if (set_attr(board->its_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_ITS_ADDR_TYPE, &its))
		return refused(err, "the ITS's address");
	board->gic = GIC_V3_ITS;
	return 0;
}

/* Not when the machine was built with it. */
static int add_frame(struct board *board, struct error *err)
{
	struct device *dev;
	int r = arm64_add_frame(board, err);

	if (r)
		return r;
	dev = vm_device(board->vm, "msi");
	device_power_on(dev);
	dev->type->start(dev);
	return 0;
}

static int create_v2(struct board *board, int vm_fd, struct error *err)
{
	const uint64_t dist = LAYOUT_GIC_DIST, cpu = LAYOUT_GICV2_CPU;

	board->gic_fd = create_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_V2);
	if (board->gic_fd < 0)
		return gic_is_v2(board->wanted) ? refused_kind(board, "GICv2", err)
						: refused(err, "an interrupt controller, GICv3 or GICv2");
	if (board->config.cpus > GIC_V2_CPUS) {
		err->status = STATUS_USAGE;
		return error_set(err, -ERANGE, "-c %u: this KVM has a GICv2 only, which has %d CPUs at most",
			board->config.cpus, GIC_V2_CPUS);
	}
	if (set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_DIST, &dist))
		return refused(err, "the GIC distributor's address");
	if (set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_ADDR, KVM_VGIC_V2_ADDR_TYPE_CPU, &cpu))
		return refused(err, "the GIC CPU interface's address");
	if (board->wanted != NR_GICS)
		return 0;
	board->gic = GIC_V2M;
	return add_frame(board, err);
}

int gic_create(struct board *board, int vm_fd, struct error *err)
{
	const uint32_t lines = LAYOUT_LINES;
	int r;

	if (!gic_is_v2(board->wanted))
		board->gic_fd = create_device(vm_fd, KVM_DEV_TYPE_ARM_VGIC_V3);
	if (board->gic_fd >= 0)
		r = create_v3(board, vm_fd, err);
	else if (board->wanted == GIC_V3 || board->wanted == GIC_V3_ITS)
		r = refused_kind(board, "GICv3", err);
	else if (board->config.arm.nested)
		r = refused(err, "a GICv3, which --nested needs");
	else
		r = create_v2(board, vm_fd, err);
	if (r == 0 && set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &lines))
		return refused(err, "the number of interrupts");
	return r;
}

int gic_start(struct board *board, struct error *err)
{
	const uint32_t maintenance = 16 + LAYOUT_PPI_MAINTENANCE;

	/* Linux 6.16 wants the first vCPU to be there. */
	if (board->config.arm.nested && set_attr(board->gic_fd, VGIC_GRP_MAINT_IRQ, 0, &maintenance))
		return refused(err, "the GIC's maintenance interrupt (--nested)");
	if (set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL))
		return refused(err, "to start the interrupt controller");
	if (board->its_fd >= 0 && set_attr(board->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL))
		return refused(err, "to start the ITS");
	return 0;
}

static int clear(struct board *board, uint32_t group, uint64_t where, uint64_t from, unsigned words)
{
	const uint32_t all = UINT32_MAX;

	for (unsigned i = 0; i < words; i++) {
		if (set_attr(board->gic_fd, group, where | (from + i * sizeof(all)), &all))
			return -1;
	}
	return 0;
}

/* SPIs; the first word is of interrupts that each CPU has for itself. */
static int reset_distributor(struct board *board)
{
	static const uint64_t registers[] = { GICD_ICENABLER, GICD_ICPENDR, GICD_ICACTIVER };
	const uint32_t off = 0;

	for (unsigned i = 0; i < 3; i++) {
		if (clear(board, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, 0, registers[i] + 4, LAYOUT_LINES / REG_BITS - 1))
			return -1;
	}
	return set_attr(board->gic_fd, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, GICD_CTLR, &off);
}

/* Where the private ones are: a GICv2's banked registers, or a redistributor's. */
static int reset_private(struct board *board, unsigned cpu)
{
	static const uint64_t registers[] = { GICD_ICENABLER, GICD_ICPENDR, GICD_ICACTIVER };
	const bool v2 = gic_is_v2(board->gic);
	const uint32_t group = v2 ? KVM_DEV_ARM_VGIC_GRP_DIST_REGS : KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, off = 0;
	const uint64_t affinity = arm64_affinity(cpu);
	/* Attributes begin with the affinity's four bytes, highest first: here the highest is 0. */
	const uint64_t where = v2 ? (uint64_t)cpu << KVM_DEV_ARM_VGIC_CPUID_SHIFT : affinity << 32;

	for (unsigned i = 0; i < 3; i++) {
		if (clear(board, group, where, registers[i] + (v2 ? 0 : GICR_SGI), 1))
			return -1;
	}
	return v2 ? 0 : set_attr(board->gic_fd, group, where | GICR_CTLR, &off);
}

int gic_reset(struct board *board, struct error *err)
{
	if (reset_distributor(board))
		return refused(err, "to reset the GIC's distributor");
	for (unsigned i = 0; i < board->config.cpus; i++) {
		if (reset_private(board, i))
			return refused(err, "to reset the GIC of a vCPU");
	}
	if (board->its_fd >= 0 && set_attr(board->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_ITS_CTRL_RESET, NULL))
		return refused(err, "to reset the ITS");
	return 0;
}

void gic_close(struct board *board)
{
	if (board->its_fd >= 0)
		close(board->its_fd);
	if (board->gic_fd >= 0)
		close(board->gic_fd);
	board->gic_fd = board->its_fd = -1;
}
