/* SPDX-License-Identifier: BSD-2-Clause */
/* kvm.c - opening KVM, asking what it can do, making the VM; its interrupts. */
#include "kvm/kvm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

int kvm_check(const struct kvm *kvm, int cap)
{
	int r = ioctl(kvm->fd >= 0 ? kvm->fd : kvm->dev, KVM_CHECK_EXTENSION, (unsigned long)cap);

	return r < 0 ? 0 : r;
}

static int open_device(struct kvm *kvm, const char *path, struct error *err)
{
	const bool named = strcmp(path, KVM_DEVICE) != 0;
	int version;

	kvm->fd = -1;
	kvm->dev = open(path, O_RDWR | O_CLOEXEC);
	if (kvm->dev < 0) {
		int code = -errno;

		error_set(err, code, named ? "--kvm-device '%s': %s" : "%s: %s", path, strerror(-code));
		/* A path that the user has typed is wrong before a module is missing. */
		if (code == -ENOENT && !named)
			error_hint(err, "load the module (modprobe kvm_intel or kvm_amd), or enable virtualization in "
					"the firmware or in the outer hypervisor");
		else if (code == -EACCES || code == -EPERM)
			error_hint(err, "join the group that owns it, usually: sudo usermod -aG kvm $USER, "
					"then log in again");
		return code;
	}
	version = ioctl(kvm->dev, KVM_GET_API_VERSION, 0);
	if (version < 0)
		return error_set(
			err, -ENOTTY, named ? "--kvm-device '%s': not a KVM device" : "%s: not a KVM device", path);
	if (version != KVM_API_VERSION)
		return error_set(err, -ENOTSUP, "%s: KVM's API version is %d, not %d", path, version, KVM_API_VERSION);
	return 0;
}

static int check_needs(struct kvm *kvm, const char *path, const struct kvm_need *needs, struct error *err)
{
	for (; needs->name; needs++) {
		if (kvm_check(kvm, needs->cap) <= 0)
			return error_set(err, -ENOTSUP, "%s: this KVM lacks %s (%s)", path, needs->name, needs->why);
	}
	return 0;
}

int kvm_open(struct kvm *kvm, const char *path, struct error *err)
{
	int r = open_device(kvm, path, err);

	if (r)
		kvm_close(kvm);
	return r;
}

int kvm_create(struct kvm *kvm, struct vm *vm, const char *path, unsigned long type, const struct kvm_need *needs,
	struct error *err)
{
	int r, slots;

	kvm->vm = vm;
	kvm->closing = false;
	do
		kvm->fd = ioctl(kvm->dev, KVM_CREATE_VM, type);
	while (kvm->fd < 0 && errno == EINTR);
	if (kvm->fd < 0)
		return error_set(err, -errno, "%s: cannot create a VM: %s", path, strerror(errno));
	r = check_needs(kvm, path, needs, err);
	if (r)
		return r;
	r = ioctl(kvm->dev, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (r < (int)sizeof(struct kvm_run))
		return error_set(err, -ENOTSUP, "%s: no size for the vCPUs' shared page", path);
	kvm->run_size = (size_t)r;
	slots = kvm_check(kvm, KVM_CAP_NR_MEMSLOTS);
	kvm->max_slots = slots <= 0 ? 32 : slots < KVM_SLOTS ? (unsigned)slots : KVM_SLOTS;
	kvm->ring_page = (unsigned)kvm_check(kvm, KVM_CAP_COALESCED_MMIO);
	kvm->ring_pio = kvm_check(kvm, KVM_CAP_COALESCED_PIO) > 0;

	kvm_listener_init(kvm);
	r = bus_listen(vm->bus, &kvm->listener);
	if (r)
		return error_set(err, r, "%s: guest memory was refused: %s", path, strerror(-r));
	return 0;
}

void kvm_close(struct kvm *kvm)
{
	/*
	 * Slots and doorbells go with the VM. To take one from it alone waits for all vCPUs' readers each time; and
	 * where guests have EL2, KVM searches their whole address space for what is of it: seconds, on a slow CPU.
	 */
	kvm->closing = true;
	if (kvm->listener.memory_add) {
		(void)bus_listen(kvm->vm->bus, NULL);
		timer_cancel(&kvm->ring_timer);
		bus_detach(&kvm->posted);
		pthread_mutex_destroy(&kvm->ring_lock);
		kvm->listener.memory_add = NULL;
		irq_router_chip(&kvm->vm->irqs, NULL, NULL);
	}
	for (unsigned i = 0; i < kvm->nr_vcpus; i++) {
		struct vcpu *vcpu = &kvm->vcpus[i];

		if (vcpu->run)
			munmap(vcpu->run, kvm->run_size);
		if (vcpu->fd >= 0)
			close(vcpu->fd);
		if (vcpu->from.bus)
			bus_detach(&vcpu->from);
		free(vcpu->power_on);
	}
	free(kvm->routes);
	kvm->routes = NULL;
	free(kvm->vcpus);
	kvm->vcpus = NULL;
	kvm->nr_vcpus = 0;
	kvm->ring = NULL;
	if (kvm->fd >= 0)
		close(kvm->fd);
	if (kvm->dev >= 0)
		close(kvm->dev);
	kvm->fd = kvm->dev = -1;
}

/*
 * Neither ioctl can fail for a line or a message that the irqchip has; for one that it has not (a guest may
 * write any MSI address) nothing happens, as on a bus with nobody listening.
 */
static void set_line(void *chip, unsigned line, bool level)
{
	struct kvm *kvm = chip;
	struct kvm_irq_level irq = { .irq = kvm->first_line + line, .level = level };

	ioctl(kvm->fd, KVM_IRQ_LINE, &irq);
}

static void send_msi(void *chip, struct irq_message message)
{
	struct kvm *kvm = chip;
	struct kvm_msi msi = {
		.address_lo = (uint32_t)message.addr,
		.address_hi = (uint32_t)(message.addr >> 32),
		.data = message.data,
		.flags = kvm->msi_sender ? KVM_MSI_VALID_DEVID : 0,
		.devid = kvm->msi_sender ? message.sender : 0,
	};

	ioctl(kvm->fd, KVM_SIGNAL_MSI, &msi);
}

int kvm_irqfd(struct kvm *kvm, unsigned gsi, int fd, int resample, uint32_t flags)
{
	struct kvm_irqfd irqfd = { .fd = (uint32_t)fd,
		.gsi = gsi,
		.flags = flags | (resample >= 0 ? KVM_IRQFD_FLAG_RESAMPLE : 0),
		.resamplefd = resample >= 0 ? (uint32_t)resample : 0 };

	return ioctl(kvm->fd, KVM_IRQFD, &irqfd) ? -errno : 0;
}

static int fd_add(void *chip, unsigned line, int fd, int resample)
{
	struct kvm *kvm = chip;

	if (kvm_check(kvm, resample >= 0 ? KVM_CAP_IRQFD_RESAMPLE : KVM_CAP_IRQFD) <= 0)
		return -ENOTSUP;
	return kvm_irqfd(kvm, line, fd, resample, 0);
}

static void fd_del(void *chip, unsigned line, int fd)
{
	kvm_irqfd(chip, line, fd, -1, KVM_IRQFD_FLAG_DEASSIGN);
}

static const struct irqchip_ops kvm_irqchip = {
	.set_line = set_line,
	.send_msi = send_msi,
	.fd_add = fd_add,
	.fd_del = fd_del,
	.route_add = kvm_route_add,
	.route_del = kvm_route_del,
};

void kvm_take_irqs(struct kvm *kvm)
{
	kvm->msi_sender = kvm_check(kvm, KVM_CAP_MSI_DEVID) > 0;
	irq_router_chip(&kvm->vm->irqs, &kvm_irqchip, kvm);
}
