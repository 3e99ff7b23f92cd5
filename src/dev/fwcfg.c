/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fwcfg.c - the firmware configuration device.
 *
 * An item gives its bytes in order, and zeros beyond its end; a key that is not there is an item of no bytes. A DMA
 * request is a structure in guest memory whose control word the device overwrites when it is done: 0, or the error
 * bit. What the request says is copied once and checked then.
 */
#include "dev/fwcfg.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/vm.h"

#define PORTS    12
#define SELECTOR 0
#define DATA     1
#define DMA_HIGH 4
#define DMA_LOW  8

#define ID_TRADITIONAL 1
#define ID_DMA         2

/* What the DMA address register reads as, by which its presence is told: "QEMU CFG". */
static const uint8_t dma_signature[8] = { 'Q', 'E', 'M', 'U', ' ', 'C', 'F', 'G' };

struct fwcfg_item {
	uint16_t key;
	uint32_t len;
	uint8_t *bytes;
	char name[FWCFG_NAME_SIZE]; /* of a file; else empty */
};

struct fwcfg_state {
	uint16_t key;
	uint32_t offset;   /* of the next byte; stays at the end of what an item can have */
	uint32_t dma_high; /* the upper half of the request's address, until the lower one starts it */
};

struct fwcfg {
	struct device dev;
	struct region ports;
	struct fwcfg_item items[FWCFG_ITEMS];
	unsigned nr_items;
	uint16_t nr_files;
	struct fwcfg_state state;
};

/* Wire structures, big-endian. */
struct file_entry {
	uint32_t size;
	uint16_t key, reserved;
	char name[FWCFG_NAME_SIZE];
};
static_assert(sizeof(struct file_entry) == 64, "wire structure");

struct dma_request {
	uint32_t control, length;
	uint64_t address;
};
static_assert(sizeof(struct dma_request) == 16, "wire structure");

static const struct field fwcfg_fields[] = {
	FIELD(struct fwcfg_state, key),
	FIELD(struct fwcfg_state, offset),
	FIELD(struct fwcfg_state, dma_high),
	FIELD_END,
};

static struct fwcfg_item *find(struct fwcfg *fw, uint16_t key)
{
	for (unsigned i = 0; i < fw->nr_items; i++) {
		if (fw->items[i].key == key)
			return &fw->items[i];
	}
	return NULL;
}

/* What is left of the selected item; NULL and 0 at its end, and where there is none. */
static const uint8_t *rest(struct fwcfg *fw, uint32_t *len)
{
	const struct fwcfg_item *item = find(fw, fw->state.key);

	if (!item || fw->state.offset >= item->len) {
		*len = 0;
		return NULL;
	}
	*len = item->len - fw->state.offset;
	return item->bytes + fw->state.offset;
}

static void advance(struct fwcfg *fw, uint32_t n)
{
	uint32_t room = UINT32_MAX - fw->state.offset;

	fw->state.offset += n < room ? n : room;
}

static void select_item(struct fwcfg *fw, uint16_t key)
{
	fw->state.key = key;
	fw->state.offset = 0;
}

static int dma_read(struct fwcfg *fw, uint64_t to, uint32_t len)
{
	uint32_t n;
	const uint8_t *bytes = rest(fw, &n);
	int r = 0;

	if (len > FWCFG_DMA_MAX || to + len < to)
		return -EINVAL;
	if (n > len)
		n = len;
	if (n)
		r = mem_write(&fw->dev.vm->mem, to, bytes, n);
	if (r == 0 && len > n)
		r = mem_fill(&fw->dev.vm->mem, to + n, 0, len - n);
	if (r == 0)
		advance(fw, len);
	return r;
}

static void dma(struct fwcfg *fw, uint64_t at)
{
	struct mem *mem = &fw->dev.vm->mem;
	struct dma_request request;
	uint32_t control, done = 0;
	int r = mem_read(mem, at, &request, sizeof(request));

	if (r == 0) {
		control = be32toh(request.control);
		if (control & FWCFG_DMA_SELECT)
			select_item(fw, (uint16_t)(control >> 16));
		if (control & FWCFG_DMA_READ)
			r = dma_read(fw, be64toh(request.address), be32toh(request.length));
		else if (control & FWCFG_DMA_WRITE)
			r = -EACCES;
		else if (control & FWCFG_DMA_SKIP)
			advance(fw, be32toh(request.length));
		done = htobe32(r ? FWCFG_DMA_ERROR : 0);
		if (mem_write(mem, at + offsetof(struct dma_request, control), &done, sizeof(done)))
			r = -EFAULT;
	}
	if (r)
		__atomic_add_fetch(&fw->dev.vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static void fwcfg_read(struct fwcfg *fw, struct trap *trap)
{
	if (trap->offset == DATA && trap->len == 1) {
		uint32_t len;
		const uint8_t *bytes = rest(fw, &len);

		trap->value = len ? *bytes : 0;
		advance(fw, 1);
	} else if (trap->offset >= DMA_HIGH) {
		trap->value = 0;
		for (unsigned i = 0; i < trap->len; i++)
			trap->value |= (uint64_t)dma_signature[trap->offset - DMA_HIGH + i] << 8 * i;
	}
}

static void fwcfg_trap(void *arg, struct trap *trap)
{
	struct fwcfg *fw = arg;

	if (!trap->write) {
		fwcfg_read(fw, trap);
	} else if (trap->offset == SELECTOR && trap->len == 2) {
		select_item(fw, (uint16_t)trap->value);
	} else if (trap->offset == DMA_HIGH && trap->len == 4) {
		fw->state.dma_high = be32toh((uint32_t)trap->value);
	} else if (trap->offset == DMA_LOW && trap->len == 4) {
		uint64_t high = fw->state.dma_high;

		fw->state.dma_high = 0;
		dma(fw, high << 32 | be32toh((uint32_t)trap->value));
	}
}

/* A place for the item, which is empty then. */
static struct fwcfg_item *place(struct fwcfg *fw, uint16_t key, const char *name, struct fwcfg_item *old)
{
	struct fwcfg_item *item = old;

	if (!item && fw->nr_items < FWCFG_ITEMS) {
		item = &fw->items[fw->nr_items++];
		*item = (struct fwcfg_item){ .key = key };
		strcpy(item->name, name);
	}
	return item;
}

static int put(
	struct fwcfg *fw, uint16_t key, const char *name, struct fwcfg_item *old, const void *bytes, uint32_t len)
{
	uint8_t *copy = malloc(len ? len : 1);
	struct fwcfg_item *item = copy ? place(fw, key, name, old) : NULL;

	if (!item) {
		free(copy);
		return copy ? -ENOSPC : -ENOMEM;
	}
	memcpy(copy, bytes, len);
	free(item->bytes);
	item->bytes = copy;
	item->len = len;
	return 0;
}

int fwcfg_set(struct device *dev, uint16_t key, const void *bytes, uint32_t len)
{
	struct fwcfg *fw = container_of(dev, struct fwcfg, dev);

	assert(dev->type == &fwcfg_type);
	return put(fw, key, "", find(fw, key), bytes, len);
}

/* The directory: a count, then an entry a file. */
static int write_directory(struct fwcfg *fw)
{
	struct {
		uint32_t count;
		struct file_entry files[FWCFG_ITEMS];
	} dir = { .count = htobe32(fw->nr_files) };
	unsigned n = 0;

	for (unsigned i = 0; i < fw->nr_items; i++) {
		const struct fwcfg_item *item = &fw->items[i];

		if (!item->name[0])
			continue;
		dir.files[n].size = htobe32(item->len);
		dir.files[n].key = htobe16(item->key);
		strcpy(dir.files[n++].name, item->name);
	}
	return fwcfg_set(&fw->dev, FWCFG_DIRECTORY, &dir, (uint32_t)(sizeof(dir.count) + n * sizeof(dir.files[0])));
}

int fwcfg_file(struct device *dev, const char *name, const void *bytes, uint32_t len)
{
	struct fwcfg *fw = container_of(dev, struct fwcfg, dev);
	struct fwcfg_item *old = NULL;
	int r;

	assert(dev->type == &fwcfg_type);
	assert(name[0]);
	if (strlen(name) >= FWCFG_NAME_SIZE)
		return -ENAMETOOLONG;
	for (unsigned i = 0; i < fw->nr_items; i++) {
		if (fw->items[i].name[0] && !strcmp(fw->items[i].name, name))
			old = &fw->items[i];
	}
	r = put(fw, (uint16_t)(FWCFG_FILES + fw->nr_files), name, old, bytes, len);
	if (r)
		return r;
	fw->nr_files = (uint16_t)(fw->nr_files + !old);
	return write_directory(fw);
}

static void fwcfg_destroy(struct device *dev)
{
	struct fwcfg *fw = container_of(dev, struct fwcfg, dev);

	for (unsigned i = 0; i < fw->nr_items; i++)
		free(fw->items[i].bytes);
	device_fini(dev);
	free(fw);
}

static int fwcfg_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	static const uint8_t signature[4] = { 'Q', 'E', 'M', 'U' };
	const uint32_t id = htole32(ID_TRADITIONAL | ID_DMA);
	struct fwcfg *fw = calloc(1, sizeof(*fw));
	int r;

	if (!fw)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	device_init(&fw->dev, &fwcfg_type, vm, name);
	device_region(&fw->dev, &fw->ports, "fw_cfg", PORTS, WIDTH_1 | WIDTH_2 | WIDTH_4, fwcfg_trap);
	r = fwcfg_set(&fw->dev, FWCFG_SIGNATURE, signature, sizeof(signature));
	if (r == 0)
		r = fwcfg_set(&fw->dev, FWCFG_ID, &id, sizeof(id));
	if (r == 0)
		r = write_directory(fw);
	if (r) {
		fwcfg_destroy(&fw->dev);
		return error_set(err, r, "%s: no memory", name);
	}
	*out = &fw->dev;
	return 0;
}

const struct device_type fwcfg_type = {
	.name = "fw_cfg",
	.acpi_hid = "QEMU0002", /* by which a guest's own driver finds it */
	.state = fwcfg_fields,
	.state_offset = offsetof(struct fwcfg, state),
	.create = fwcfg_create,
	.destroy = fwcfg_destroy,
};
