/* SPDX-License-Identifier: BSD-2-Clause */
/* pci_inner.h - what the two halves of the PCI transport share: pci.c, the function; pci_regs.c, its registers. */
#ifndef TRAPLINE_VIRTIO_PCI_INNER_H
#define TRAPLINE_VIRTIO_PCI_INNER_H

#include "pci/msix.h"
#include "pci/pci.h"
#include "virtio/virtio.h"

/* The memory BAR: a page for each structure, so that a guest may map them apart. */
enum vpci_offset {
	VPCI_COMMON = 0x0000,
	VPCI_ISR = 0x1000,
	VPCI_DEVICE = 0x2000,
	VPCI_NOTIFY = 0x3000, /* VPCI_NOTIFY_STEP bytes a queue */
	VPCI_MEM_SIZE = 0x4000,
};

#define VPCI_NOTIFY_STEP 4
#define VPCI_VECTORS     (VIRTIO_QUEUES + 1) /* of the largest device: a queue each, and the configuration's */

_Static_assert(VPCI_NOTIFY_STEP *VIRTIO_QUEUES <= VPCI_MEM_SIZE - VPCI_NOTIFY, "doorbells fit in their page");

struct vpci_state {
	uint8_t config[PCI_CONFIG_SIZE];
	uint32_t device_select, driver_select; /* words of features */
	uint16_t queue_select;
	uint16_t config_vector;
	uint8_t window[4]; /* pci_cfg_data */
	struct MSIX_STATE(VPCI_VECTORS) msix;
};

/* An eventfd that interrupts for a queue. Under the device's lock. */
struct vpci_call {
	int fd;          /* -1: none */
	uint16_t vector; /* that it is armed for; VIRTIO_MSI_NO_VECTOR: none */
};

struct vpci {
	struct pci_function fn; /* first */
	struct virtio *v;
	bool legacy, ports; /* as in struct virtio_config */
	struct region mem, io, notify;
	struct msix msix;
	struct doorbell bells[VIRTIO_QUEUES], port_bells[VIRTIO_QUEUES]; /* in memory, and at ports of either BAR */
	uint64_t due; /* by queue: its bell in memory is armed when it is rung; atomic, set under the device's lock */
	struct vpci_call calls[VIRTIO_QUEUES];
	struct vpci_state state;
};

/* The registers. With the device's lock held, but for the doorbells of vpci_notify(). */
void vpci_mem_access(struct vpci *p, struct trap *trap);
void vpci_legacy_access(struct vpci *p, struct trap *trap);
/* Queue `index` has another vector, or another eventfd that is to send it. */
void vpci_follow_call(struct vpci *p, unsigned index);
/* A kick of queue `index`, if there is such a one. */
void vpci_notify(struct vpci *p, uint64_t index);

#endif
