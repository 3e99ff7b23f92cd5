/* SPDX-License-Identifier: BSD-2-Clause */
/* pci.c - PCI functions: declaring them, plugging them in, their config space and their INTx wires. */
#include "pci/pci.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/vm.h"
#include "pci/msix.h"

static_assert(PCI_ECAM_BUS_SIZE == PCI_SLOTS * PCI_FUNCTIONS * PCI_CONFIG_SIZE, "a bus of ECAM");
static_assert(PCI_BASE_ADDRESS_0 + 4 * PCI_BARS == PCI_CARDBUS_CIS, "BARs end where the CIS pointer starts");

/* The capability list starts behind the type 0 header. */
#define PCI_CAPS PCI_STD_HEADER_SIZEOF

/* In the header type: the slot has more than function 0. */
#define MULTIFUNCTION 0x80

static uint32_t get_bytes(const uint8_t *bytes, unsigned reg, unsigned len)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < len; i++)
		value |= (uint32_t)bytes[reg + i] << 8 * i;
	return value;
}

static void set_bytes(uint8_t *bytes, unsigned reg, unsigned len, uint32_t value)
{
	for (unsigned i = 0; i < len; i++)
		bytes[reg + i] = (uint8_t)(value >> 8 * i);
}

uint32_t pci_get(const struct pci_function *fn, unsigned reg, unsigned len)
{
	return get_bytes(fn->config, reg, len);
}

void pci_set(struct pci_function *fn, unsigned reg, unsigned len, uint32_t value)
{
	set_bytes(fn->config, reg, len, value);
}

void pci_init(struct pci_function *fn, unsigned reg, unsigned len, uint32_t value, uint32_t writable)
{
	set_bytes(fn->config, reg, len, value);
	set_bytes(fn->reset, reg, len, value);
	set_bytes(fn->writable, reg, len, writable);
}

/* For bits that build up piece by piece. */
static void add_reset_bits(struct pci_function *fn, unsigned reg, unsigned len, uint32_t bits)
{
	set_bytes(fn->reset, reg, len, get_bytes(fn->reset, reg, len) | bits);
	set_bytes(fn->config, reg, len, get_bytes(fn->config, reg, len) | bits);
}

void pci_function_init(struct pci_function *fn, const struct pci_ids *ids, uint8_t *config)
{
	fn->bus = NULL;
	fn->pin = 0;
	fn->next_cap = PCI_CAPS;
	fn->boot_command = 0;
	fn->intx = false;
	fn->config = config;
	fn->written = NULL;
	fn->msix = NULL;
	fn->window = 0;
	fn->window_access = NULL;
	memset(fn->bars, 0, sizeof(fn->bars));
	memset(config, 0, PCI_CONFIG_SIZE);
	memset(fn->reset, 0, sizeof(fn->reset));
	memset(fn->writable, 0, sizeof(fn->writable));
	memset(fn->clear, 0, sizeof(fn->clear));
	pci_init(fn, PCI_VENDOR_ID, 2, ids->vendor, 0);
	pci_init(fn, PCI_DEVICE_ID, 2, ids->device, 0);
	pci_init(fn, PCI_CLASS_REVISION, 4, ids->class << 8 | ids->revision, 0);
	pci_init(fn, PCI_SUBSYSTEM_VENDOR_ID, 2, ids->subsystem_vendor, 0);
	pci_init(fn, PCI_SUBSYSTEM_ID, 2, ids->subsystem, 0);
	/* The decode bits are hardwired to 0 until there is a BAR of their kind. */
	pci_init(fn, PCI_COMMAND, 2, 0,
		PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR | PCI_COMMAND_INTX_DISABLE);
	set_bytes(fn->clear, PCI_STATUS, 2,
		PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |
			PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR | PCI_STATUS_DETECTED_PARITY);
	pci_init(fn, PCI_CACHE_LINE_SIZE, 1, 0, 0xff);
}

static bool bar_size_valid(enum pci_bar_kind kind, uint64_t size)
{
	switch (kind) {
	case PCI_BAR_IO:
		return size >= 1 && size <= 256;
	case PCI_BAR_MEM32:
		return size >= 1 && size <= 1ULL << 31;
	case PCI_BAR_MEM64:
		return size >= 1 && size <= 1ULL << 62;
	default:
		return false;
	}
}

int pci_bar_init(struct pci_function *fn, unsigned index, enum pci_bar_kind kind, bool prefetch, struct region *region,
	const char *name, uint64_t size, uint8_t widths, trap_fn *trap)
{
	struct pci_bar *bar = fn->bars + index;
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * index, last = index + (kind == PCI_BAR_MEM64);
	uint32_t flags = kind == PCI_BAR_IO ? PCI_BASE_ADDRESS_SPACE_IO : PCI_BASE_ADDRESS_SPACE_MEMORY;
	uint64_t decoded = kind == PCI_BAR_IO ? 4 : 16;

	if (last >= PCI_BARS || !bar_size_valid(kind, size))
		return -EINVAL;
	if (bar->kind != PCI_BAR_NONE || (index > 0 && bar[-1].kind == PCI_BAR_MEM64) ||
		fn->bars[last].kind != PCI_BAR_NONE)
		return -EINVAL;
	while (decoded < size)
		decoded <<= 1;
	*bar = (struct pci_bar){
		.fn = fn, .region = region, .kind = kind, .prefetch = prefetch, .index = (uint8_t)index, .size = decoded
	};
	*region = (struct region){ .name = name,
		.kind = REGION_TRAP,
		.space = kind == PCI_BAR_IO ? SPACE_PIO : SPACE_MMIO,
		.size = size,
		.widths = widths,
		.fn = trap,
		.dev = &fn->dev,
		.lock = &fn->dev.lock,
		.owner = &fn->dev };
	if (kind == PCI_BAR_MEM64)
		flags |= PCI_BASE_ADDRESS_MEM_TYPE_64;
	if (prefetch && kind != PCI_BAR_IO)
		flags |= PCI_BASE_ADDRESS_MEM_PREFETCH;
	pci_init(fn, reg, 4, flags, (uint32_t) ~(decoded - 1));
	if (kind == PCI_BAR_MEM64)
		pci_init(fn, reg + 4, 4, 0, (uint32_t)(~(decoded - 1) >> 32));
	fn->writable[PCI_COMMAND] |= kind == PCI_BAR_IO ? PCI_COMMAND_IO : PCI_COMMAND_MEMORY;
	return 0;
}

void pci_intx_init(struct pci_function *fn, unsigned pin)
{
	static const char *const names[] = { NULL, "INTA", "INTB", "INTC", "INTD" };

	assert(pin >= 1 && pin <= PCI_PINS);
	fn->pin = (uint8_t)pin;
	pci_init(fn, PCI_INTERRUPT_PIN, 1, pin, 0);
	pci_init(fn, PCI_INTERRUPT_LINE, 1, 0xff, 0xff);
	device_irq(&fn->dev, &fn->irq, names[pin], IRQ_LEVEL);
}

unsigned pci_capability(struct pci_function *fn, uint8_t id, unsigned len)
{
	unsigned at = fn->next_cap, link = PCI_CAPABILITY_LIST;

	/* next_cap is 0 once the space is used up to its last byte. */
	if (at == 0 || len < 2 || at + len > PCI_CONFIG_LEGACY)
		return 0;
	while (fn->reset[link])
		link = fn->reset[link] + PCI_CAP_LIST_NEXT;
	pci_init(fn, link, 1, at, 0);
	pci_init(fn, at + PCI_CAP_LIST_ID, 1, id, 0);
	pci_init(fn, at + PCI_CAP_LIST_NEXT, 1, 0, 0);
	add_reset_bits(fn, PCI_STATUS, 2, PCI_STATUS_CAP_LIST);
	fn->next_cap = (uint8_t)((at + len + 3) & ~3U);
	return at;
}

void pci_bus_init(struct pci_bus *bus, struct vm *vm, const struct pci_windows *windows, const uint32_t gsi[PCI_PINS])
{
	memset(bus, 0, sizeof(*bus));
	bus->vm = vm;
	bus->windows = *windows;
	memcpy(bus->gsi, gsi, sizeof(bus->gsi));
	pthread_mutex_init(&bus->lock, NULL);
}

void pci_bus_fini(struct pci_bus *bus)
{
	if (!bus->vm)
		return;
	for (unsigned i = 0; i < PCI_SLOTS * PCI_FUNCTIONS; i++)
		if (bus->functions[i])
			pci_bus_remove(bus->functions[i]);
	free(bus->pending);
	free(bus->placed);
	free(bus->standing);
	free(bus->edits);
	pthread_mutex_destroy(&bus->lock);
	bus->vm = NULL;
}

/* The bus that fn is plugged into, locked; NULL: none. It may be unplugged at any time before that. */
static struct pci_bus *lock_bus(struct pci_function *fn)
{
	struct pci_bus *bus = __atomic_load_n(&fn->bus, __ATOMIC_ACQUIRE);

	if (!bus)
		return NULL;
	pthread_mutex_lock(&bus->lock);
	if (fn->bus)
		return bus;
	pthread_mutex_unlock(&bus->lock);
	return NULL;
}

uint32_t pci_gsi(const struct pci_bus *bus, unsigned slot, unsigned pin)
{
	return pin >= 1 && pin <= PCI_PINS ? bus->gsi[(slot + pin - 1) % PCI_PINS] : IRQ_NONE;
}

/* Guests look for functions 1 to 7 only where function 0 says that there are some. */
static void update_multifunction(struct pci_bus *bus, uint8_t devfn)
{
	struct pci_function **slot = &bus->functions[devfn & ~(PCI_FUNCTIONS - 1U)];
	bool many = false;

	if (!slot[0])
		return;
	for (unsigned i = 1; i < PCI_FUNCTIONS; i++)
		many = many || slot[i];
	slot[0]->reset[PCI_HEADER_TYPE] = many ? MULTIFUNCTION : 0;
	slot[0]->config[PCI_HEADER_TYPE] = slot[0]->reset[PCI_HEADER_TYPE];
}

static unsigned count_bars(const struct pci_function *fn)
{
	unsigned n = 0;

	for (unsigned i = 0; i < PCI_BARS; i++)
		n += fn->bars[i].kind != PCI_BAR_NONE;
	return n;
}

static int grow(struct pci_bar ***list, unsigned n)
{
	struct pci_bar **more = reallocarray(*list, n, sizeof(*more));

	if (!more)
		return -ENOMEM;
	*list = more;
	return 0;
}

/* So that settling never allocates memory of its own. */
static int reserve_scratch(struct pci_bus *bus, unsigned bars)
{
	struct edit *edits = reallocarray(bus->edits, bars + 1, sizeof(*edits));

	if (!edits)
		return -ENOMEM;
	bus->edits = edits;
	if (grow(&bus->pending, bars + 1) || grow(&bus->standing, bars + 1) || grow(&bus->placed, bars + 1))
		return -ENOMEM;
	return 0;
}

static int connect_intx(struct pci_bus *bus, struct pci_function *fn, unsigned slot, struct error *err)
{
	uint32_t gsi = pci_gsi(bus, slot, fn->pin);
	int r;

	if (fn->pin == 0)
		return 0;
	/* What firmware leaves for kernels that do not ask ACPI. */
	fn->reset[PCI_INTERRUPT_LINE] = gsi < 0xff ? (uint8_t)gsi : 0xff;
	if (gsi == IRQ_NONE)
		return 0;
	r = irq_connect(&bus->vm->irqs, &fn->irq, gsi);
	if (r)
		return error_set(err, r, "%s: cannot connect %s to interrupt %u: %s", fn->dev.name, fn->irq.name, gsi,
			strerror(-r));
	return 0;
}

static int plug(struct pci_bus *bus, struct pci_function *fn, unsigned slot, unsigned function, struct error *err)
{
	uint8_t devfn = pci_devfn(slot, function);
	struct pci_bar *full;
	int r;

	if (bus->functions[devfn])
		return error_set(err, -EBUSY, "%s: PCI slot %u function %u has %s already", fn->dev.name, slot,
			function, bus->functions[devfn]->dev.name);
	if (function && !bus->functions[pci_devfn(slot, 0)])
		return error_set(err, -EINVAL, "%s: PCI slot %u has no function 0", fn->dev.name, slot);
	r = reserve_scratch(bus, bus->nr_bars + count_bars(fn));
	if (r)
		return error_set(err, r, "%s: %s", fn->dev.name, strerror(-r));
	r = pci_place_bars(bus, fn, &full);
	if (r)
		return error_set(err, r, "%s: no room for BAR %u of %#llx bytes in the PCI windows", fn->dev.name,
			full->index, (unsigned long long)full->size);
	r = connect_intx(bus, fn, slot, err);
	if (r) {
		pci_forget_bars(bus, fn);
		return r;
	}
	set_bytes(fn->reset, PCI_COMMAND, 2, fn->boot_command & get_bytes(fn->writable, PCI_COMMAND, 2));
	fn->devfn = devfn;
	bus->functions[devfn] = fn;
	bus->nr_bars += count_bars(fn);
	__atomic_store_n(&fn->bus, bus, __ATOMIC_RELEASE);
	update_multifunction(bus, devfn);
	memcpy(fn->config, fn->reset, PCI_CONFIG_SIZE);
	pci_bus_settle(bus);
	return 0;
}

int pci_bus_add(struct pci_bus *bus, struct pci_function *fn, unsigned slot, unsigned function, struct error *err)
{
	int r;

	if (slot >= PCI_SLOTS || function >= PCI_FUNCTIONS)
		return error_set(err, -EINVAL, "%s: there is no PCI slot %u function %u", fn->dev.name, slot, function);
	if (fn->bus)
		return error_set(err, -EBUSY, "%s: plugged in already", fn->dev.name);
	pthread_mutex_lock(&bus->lock);
	r = plug(bus, fn, slot, function, err);
	pthread_mutex_unlock(&bus->lock);
	return r;
}

/* Raises or lowers the wire as the device and the command register have it; MSI-X is used instead of it (6.8.2.2). */
static void update_intx(struct pci_function *fn)
{
	uint32_t command = pci_get(fn, PCI_COMMAND, 2), status = pci_get(fn, PCI_STATUS, 2);
	bool off = (command & PCI_COMMAND_INTX_DISABLE) || (fn->msix && msix_enabled(fn->msix));

	if (fn->pin == 0)
		return;
	pci_set(fn, PCI_STATUS, 2, fn->intx ? status | PCI_STATUS_INTERRUPT : status & ~PCI_STATUS_INTERRUPT);
	irq_set(&fn->irq, fn->intx && !off);
}

void pci_bus_remove(struct pci_function *fn)
{
	struct pci_bus *bus = lock_bus(fn);

	if (!bus)
		return;
	for (unsigned i = 0; i < PCI_BARS; i++) {
		struct pci_bar *bar = &fn->bars[i];

		if (bar->kind != PCI_BAR_NONE && bar->region->live)
			bus_remove(bus->vm->bus, bar->region);
		bar->blocked = false;
	}
	fn->intx = false;
	update_intx(fn);
	if (fn->pin)
		irq_disconnect(&fn->irq);
	bus->functions[fn->devfn] = NULL;
	bus->nr_bars -= count_bars(fn);
	pci_forget_bars(bus, fn);
	__atomic_store_n(&fn->bus, NULL, __ATOMIC_RELEASE);
	update_multifunction(bus, fn->devfn);
	pci_bus_settle(bus); /* its places may be what others wait for */
	pthread_mutex_unlock(&bus->lock);
}

void pci_function_fini(struct pci_function *fn)
{
	if (!fn->config) /* half-built */
		return;
	pci_bus_remove(fn);
	bus_drain(fn->dev.vm->bus);
	fn->config = NULL;
}

void pci_function_reset(struct pci_function *fn)
{
	struct pci_bus *bus = lock_bus(fn);

	memcpy(fn->config, fn->reset, PCI_CONFIG_SIZE);
	fn->intx = false;
	if (fn->msix)
		msix_reset(fn->msix);
	if (!bus)
		return;
	update_intx(fn);
	pci_bus_settle(bus);
	pthread_mutex_unlock(&bus->lock);
}

void pci_function_sync(struct pci_function *fn)
{
	struct pci_bus *bus = lock_bus(fn);

	if (!bus)
		return;
	/* A saved state is only as good as the file it came from: a BAR's address is aligned, whatever that says. */
	for (unsigned reg = PCI_BASE_ADDRESS_0; reg < PCI_CARDBUS_CIS; reg++)
		fn->config[reg] =
			(uint8_t)((fn->config[reg] & fn->writable[reg]) | (fn->reset[reg] & ~fn->writable[reg]));
	fn->intx = pci_get(fn, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT;
	if (fn->msix)
		msix_follow(fn->msix);
	update_intx(fn);
	pci_bus_settle(bus);
	pthread_mutex_unlock(&bus->lock);
}

void pci_intx(struct pci_function *fn, bool level)
{
	struct pci_bus *bus = lock_bus(fn);

	if (!bus)
		return;
	fn->intx = level;
	update_intx(fn);
	pthread_mutex_unlock(&bus->lock);
}

unsigned pci_bars_live(struct pci_function *fn)
{
	struct pci_bus *bus = lock_bus(fn);
	unsigned live = 0;

	if (!bus)
		return 0;
	for (unsigned i = 0; i < PCI_BARS; i++)
		if (fn->bars[i].kind != PCI_BAR_NONE && fn->bars[i].region->live)
			live |= 1U << i;
	pthread_mutex_unlock(&bus->lock);
	return live;
}

uint64_t pci_bar_address(const struct pci_bar *bar)
{
	unsigned reg = PCI_BASE_ADDRESS_0 + 4 * bar->index;
	uint64_t addr = pci_get(bar->fn, reg, 4);

	if (bar->kind == PCI_BAR_IO)
		return addr & PCI_BASE_ADDRESS_IO_MASK & UINT32_MAX;
	if (bar->kind == PCI_BAR_MEM64)
		addr |= (uint64_t)pci_get(bar->fn, reg + 4, 4) << 32;
	return addr & ~0xfULL;
}

static bool config_access_valid(unsigned reg, unsigned len)
{
	return (len == 1 || len == 2 || len == 4) && reg < PCI_CONFIG_SIZE && len <= PCI_CONFIG_SIZE - reg;
}

static bool touches(unsigned reg, unsigned len, unsigned first, unsigned size)
{
	return reg < first + size && first < reg + len;
}

/*
 * The function whose window all of the access lies in, or NULL. It may be unplugged when its lock is dropped, but not
 * gone: it waits for handlers, and this is one.
 */
static struct pci_function *window_of(struct pci_function *fn, unsigned reg, unsigned len)
{
	return fn && fn->window && reg >= fn->window && reg + len <= fn->window + 4 ? fn : NULL;
}

uint32_t pci_config_read(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned len)
{
	struct pci_function *window;
	uint32_t value = UINT32_MAX;

	if (!config_access_valid(reg, len))
		return value;
	value >>= 32 - 8 * len;
	pthread_mutex_lock(&bus->lock);
	window = window_of(bus->functions[devfn], reg, len);
	if (bus->functions[devfn])
		value = pci_get(bus->functions[devfn], reg, len);
	pthread_mutex_unlock(&bus->lock);
	if (window)
		window->window_access(window, reg - window->window, len, &value, false);
	return value;
}

static void write_config(struct pci_bus *bus, struct pci_function *fn, unsigned reg, unsigned len, uint32_t value)
{
	bool command = touches(reg, len, PCI_COMMAND, 2), msix = fn->msix && touches(reg, len, fn->msix->cap, 4);

	for (unsigned i = 0; i < len; i++) {
		uint8_t byte = (uint8_t)(value >> 8 * i), mask = fn->writable[reg + i];

		fn->config[reg + i] = (uint8_t)((fn->config[reg + i] & ~mask) | (byte & mask));
		fn->config[reg + i] &= (uint8_t) ~(byte & fn->clear[reg + i]);
	}
	if (msix)
		msix_follow(fn->msix);
	if (command || msix)
		update_intx(fn);
	if (command || touches(reg, len, PCI_BASE_ADDRESS_0, 4 * PCI_BARS))
		pci_bus_settle(bus);
	if (fn->written)
		fn->written(fn, reg, len);
}

void pci_config_write(struct pci_bus *bus, uint8_t devfn, unsigned reg, unsigned len, uint32_t value)
{
	struct pci_function *fn, *window;

	if (!config_access_valid(reg, len))
		return;
	pthread_mutex_lock(&bus->lock);
	fn = bus->functions[devfn];
	window = window_of(fn, reg, len);
	if (fn && !window)
		write_config(bus, fn, reg, len, value);
	pthread_mutex_unlock(&bus->lock);
	if (window)
		window->window_access(window, reg - window->window, len, &value, true);
}
