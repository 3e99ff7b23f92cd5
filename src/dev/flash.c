/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * flash.c - the flash chip, or two.
 *
 * While it reads as an array, its region is a ROM: reads never come here, and the hypervisor maps the memory. A command
 * that makes reads answer something else turns the region into one that traps, and back. The file is read once and
 * written behind: a handler marks blocks, the event loop writes them. When the file fails, the chip fails: operations
 * end in an error from then on, and what it holds is no longer changed.
 */
#include "dev/flash.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/mem.h"
#include "core/status.h"
#include "core/vm.h"

enum {
	CMD_PROGRAM = 0x10,
	CMD_ERASE = 0x20,
	CMD_PROGRAM_TOO = 0x40,
	CMD_CLEAR_STATUS = 0x50,
	CMD_LOCK = 0x60,
	CMD_READ_STATUS = 0x70,
	CMD_READ_ID = 0x90,
	CMD_QUERY = 0x98,
	CMD_CONFIRM = 0xd0,
	CMD_BUFFER = 0xe8,
};

/* What the next write means, and what reads answer. */
enum mode {
	MODE_ARRAY,
	MODE_STATUS,
	MODE_ID,
	MODE_QUERY,
	MODE_PROGRAM,        /* a word comes */
	MODE_ERASE,          /* the confirmation comes */
	MODE_BUFFER_COUNT,   /* how many words, less one */
	MODE_BUFFER_DATA,    /* those words */
	MODE_BUFFER_CONFIRM, /* the confirmation */
	MODE_LOCK,           /* how: there are no locks, and any will do */
	NR_MODES
};

#define ID_MANUFACTURER 0x89
#define ID_DEVICE       0x17
#define QUERY_AT        0x10
#define QUERY_BYTES     0x32
#define QUERY_EXTENDED  0x31 /* where the table of Intel's command set is, as in the data sheet */

#define BLOCKS_MAX (FLASH_MAX / FLASH_BLOCK)

struct flash_state {
	uint32_t block; /* of a buffered program: the first byte of what it may change */
	uint16_t left;  /* of its words, still to come */
	uint8_t mode, status;
	uint8_t buffer[FLASH_BLOCK]; /* what it will program, where `fill` says so */
	uint8_t fill[FLASH_BLOCK];
};

struct flash {
	struct device dev;
	struct region array;
	struct memory *memory;
	uint64_t size;
	uint32_t erased;     /* bytes at a time */
	uint8_t chips, word; /* bytes of a word: what all of them take at once */
	int fd;
	bool broken; /* the file could not be written */
	uint8_t query[QUERY_BYTES];
	struct loop_work work;
	uint64_t dirty[BLOCKS_MAX / 64];
	struct flash_state state;
};

static const struct field flash_fields[] = {
	FIELD(struct flash_state, block),
	FIELD(struct flash_state, left),
	FIELD(struct flash_state, mode),
	FIELD(struct flash_state, status, .reset = FLASH_STATUS_READY),
	FIELD_ARRAY(struct flash_state, buffer),
	FIELD_ARRAY(struct flash_state, fill),
	FIELD_END,
};

/*
 * The region is what the mode says; an edit that fails for want of memory leaves reads as they were, to be tried again.
 */
static void set_mode(struct flash *flash, enum mode mode)
{
	struct edit edit = {
		.op = EDIT_KIND,
		.region = &flash->array,
		.kind = mode == MODE_ARRAY ? REGION_ROM : REGION_TRAP,
	};

	flash->state.mode = mode;
	if (flash->array.kind != edit.kind && bus_edit(flash->dev.vm->bus, &edit, 1, NULL, NULL))
		__atomic_add_fetch(&flash->dev.vm->guest_faults, 1, __ATOMIC_RELAXED);
}

static uint8_t *bytes_of(struct flash *flash)
{
	return flash->memory->host;
}

/* What each chip answers, in the low bits of its part of a word. */
static uint32_t by_all(const struct flash *flash, uint8_t value)
{
	return flash->chips == 2 ? value * 0x00010001U : value;
}

/* For the unit of the file that `offset` is in. */
static void mark(struct flash *flash, uint64_t offset)
{
	flash->dirty[offset / FLASH_BLOCK / 64] |= 1ULL << (offset / FLASH_BLOCK % 64);
	loop_post(&flash->dev.vm->loop, &flash->work);
}

/* The end of an operation: reads give the status. */
static void finish(struct flash *flash, uint8_t errors)
{
	flash->state.status |= FLASH_STATUS_READY | errors;
	set_mode(flash, MODE_STATUS);
}

static void program(struct flash *flash, uint64_t offset, uint32_t value)
{
	if (flash->broken) {
		finish(flash, FLASH_STATUS_PROGRAM_ERROR);
		return;
	}
	for (unsigned i = 0; i < flash->word; i++)
		bytes_of(flash)[offset + i] &= (uint8_t)(value >> 8 * i);
	mark(flash, offset);
	finish(flash, 0);
}

static void erase(struct flash *flash, uint64_t offset, uint8_t confirm)
{
	uint64_t block = offset & ~(uint64_t)(flash->erased - 1);

	if (confirm != CMD_CONFIRM) {
		finish(flash, FLASH_STATUS_ERASE_ERROR | FLASH_STATUS_PROGRAM_ERROR); /* a wrong sequence */
	} else if (flash->broken) {
		finish(flash, FLASH_STATUS_ERASE_ERROR);
	} else {
		memset(bytes_of(flash) + block, 0xff, flash->erased);
		for (uint32_t unit = 0; unit < flash->erased; unit += FLASH_BLOCK)
			mark(flash, block + unit);
		finish(flash, 0);
	}
}

static void buffer_count(struct flash *flash, uint64_t offset, uint32_t word)
{
	/* A chip of 16 bits has as many for the number. */
	const uint32_t count = word & (flash->chips == 2 ? 0xffff : 0xff);
	struct flash_state *s = &flash->state;

	if ((count + 1) * flash->word > FLASH_BUFFER * (unsigned)flash->chips) {
		finish(flash, FLASH_STATUS_ERASE_ERROR | FLASH_STATUS_PROGRAM_ERROR);
		return;
	}
	s->block = (uint32_t)(offset & ~(uint64_t)(FLASH_BLOCK - 1));
	s->left = (uint16_t)(count + 1);
	memset(s->fill, 0, sizeof(s->fill));
	set_mode(flash, MODE_BUFFER_DATA);
}

/* All words go to the block, or FLASH_BLOCK bytes of it, that the count was written to. */
static void buffer_data(struct flash *flash, uint64_t offset, uint32_t value)
{
	struct flash_state *s = &flash->state;

	if (offset - s->block >= FLASH_BLOCK) {
		finish(flash, FLASH_STATUS_ERASE_ERROR | FLASH_STATUS_PROGRAM_ERROR);
		return;
	}
	for (uint64_t i = 0; i < flash->word; i++) {
		s->buffer[offset - s->block + i] = (uint8_t)(value >> 8 * i);
		s->fill[offset - s->block + i] = 1;
	}
	if (--s->left == 0)
		set_mode(flash, MODE_BUFFER_CONFIRM);
}

static void buffer_confirm(struct flash *flash, uint8_t confirm)
{
	const struct flash_state *s = &flash->state;

	if (confirm != CMD_CONFIRM) {
		finish(flash, FLASH_STATUS_ERASE_ERROR | FLASH_STATUS_PROGRAM_ERROR);
	} else if (flash->broken) {
		finish(flash, FLASH_STATUS_PROGRAM_ERROR);
	} else {
		for (unsigned i = 0; i < FLASH_BLOCK; i++) {
			if (s->fill[i])
				bytes_of(flash)[s->block + i] &= s->buffer[i];
		}
		mark(flash, s->block);
		finish(flash, 0);
	}
}

static void command(struct flash *flash, uint8_t value)
{
	switch (value) {
	case CMD_PROGRAM:
	case CMD_PROGRAM_TOO:
		set_mode(flash, MODE_PROGRAM);
		break;
	case CMD_ERASE:
		set_mode(flash, MODE_ERASE);
		break;
	case CMD_CLEAR_STATUS:
		/*
		 * What reads answer stays. A chip stays ready, which Linux's driver waits for; but OVMF's, for a single
		 * chip, looks for a status of 0 to tell a flash from a ROM.
		 */
		flash->state.status = flash->chips == 2 ? FLASH_STATUS_READY : 0;
		break;
	case CMD_READ_STATUS:
		set_mode(flash, MODE_STATUS);
		break;
	case CMD_LOCK:
		set_mode(flash, MODE_LOCK);
		break;
	case CMD_READ_ID:
		set_mode(flash, MODE_ID);
		break;
	case CMD_QUERY:
		set_mode(flash, MODE_QUERY);
		break;
	case CMD_BUFFER:
		flash->state.status |= FLASH_STATUS_READY; /* the buffer is there */
		set_mode(flash, MODE_BUFFER_COUNT);
		break;
	default: /* read array, and what the chip does not know */
		set_mode(flash, MODE_ARRAY);
	}
}

static void flash_write(struct flash *flash, uint64_t offset, uint32_t word)
{
	const uint8_t value = (uint8_t)word;

	switch (flash->state.mode) {
	case MODE_PROGRAM:
		program(flash, offset, word);
		break;
	case MODE_ERASE:
		erase(flash, offset, value);
		break;
	case MODE_BUFFER_COUNT:
		buffer_count(flash, offset, word);
		break;
	case MODE_BUFFER_DATA:
		buffer_data(flash, offset, word);
		break;
	case MODE_BUFFER_CONFIRM:
		buffer_confirm(flash, value);
		break;
	case MODE_LOCK:
		finish(flash, 0);
		break;
	default:
		command(flash, value);
	}
}

static uint32_t flash_read(struct flash *flash, uint64_t offset)
{
	const uint64_t at = offset / flash->word;
	uint32_t value = 0;

	switch (flash->state.mode) {
	case MODE_ARRAY:
		for (unsigned i = 0; i < flash->word; i++)
			value |= (uint32_t)bytes_of(flash)[offset + i] << 8 * i;
		return value;
	case MODE_ID: /* manufacturer, device, and whether a block is locked: none is */
		return by_all(flash, at == 0 ? ID_MANUFACTURER : at == 1 ? ID_DEVICE : 0);
	case MODE_QUERY:
		return by_all(flash, at - QUERY_AT < QUERY_BYTES ? flash->query[at - QUERY_AT] : 0);
	default:
		return by_all(flash, flash->state.status);
	}
}

static void flash_trap(void *arg, struct trap *trap)
{
	struct flash *flash = arg;

	if (trap->write)
		flash_write(flash, trap->offset, (uint32_t)trap->value);
	else
		trap->value = flash_read(flash, trap->offset);
}

/* One block to the file. False: the file failed. */
static bool write_block(struct flash *flash, uint64_t offset)
{
	uint8_t copy[FLASH_BLOCK];
	size_t done = 0;

	pthread_mutex_lock(&flash->dev.lock);
	memcpy(copy, bytes_of(flash) + offset, FLASH_BLOCK);
	pthread_mutex_unlock(&flash->dev.lock);
	while (done < FLASH_BLOCK) {
		ssize_t n = pwrite(flash->fd, copy + done, FLASH_BLOCK - done, (off_t)(offset + done));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		done += (size_t)n;
	}
	return true;
}

/* On the event loop's thread, or when it does not run. A block that is marked meanwhile is written again. */
static void write_back(void *arg)
{
	struct flash *flash = arg;

	for (uint64_t offset = 0; offset < flash->size; offset += FLASH_BLOCK) {
		uint64_t *word = &flash->dirty[offset / FLASH_BLOCK / 64], bit = 1ULL << (offset / FLASH_BLOCK % 64);
		bool marked;

		pthread_mutex_lock(&flash->dev.lock);
		marked = *word & bit;
		*word &= ~bit;
		pthread_mutex_unlock(&flash->dev.lock);
		if (marked && !write_block(flash, offset)) {
			pthread_mutex_lock(&flash->dev.lock);
			flash->broken = true;
			pthread_mutex_unlock(&flash->dev.lock);
		}
	}
}

static void flash_stop(struct device *dev)
{
	write_back(container_of(dev, struct flash, dev));
}

static void flash_reset(struct device *dev)
{
	set_mode(container_of(dev, struct flash, dev), MODE_ARRAY);
}

/* After a restore: what was saved may be anything. */
static void flash_start(struct device *dev)
{
	struct flash *flash = container_of(dev, struct flash, dev);
	struct flash_state *s = &flash->state;

	pthread_mutex_lock(&dev->lock);
	if (s->mode >= NR_MODES || s->block % FLASH_BLOCK || s->block >= flash->size || s->left > FLASH_BUFFER ||
		(s->mode == MODE_BUFFER_DATA && s->left == 0))
		s->mode = MODE_ARRAY;
	set_mode(flash, s->mode);
	pthread_mutex_unlock(&dev->lock);
}

static void flash_destroy(struct device *dev)
{
	struct flash *flash = container_of(dev, struct flash, dev);

	loop_cancel(&dev->vm->loop, &flash->work);
	device_fini(dev);
	if (flash->memory)
		memory_put(flash->memory);
	if (flash->fd >= 0)
		close(flash->fd);
	free(flash);
}

/* CFI (JESD68): the tables from 0x10 on, of one chip. */
static void make_query(struct flash *flash)
{
	uint64_t size = flash->size / flash->chips, block = flash->erased / flash->chips;
	uint32_t blocks = (uint32_t)(size / block) - 1;
	uint8_t *q = flash->query, bits = 0;

	while (1ULL << bits < size)
		bits++;
	memcpy(q, "QRY\x01", 4); /* Intel's command set, which has a table of its own */
	q[0x15 - QUERY_AT] = QUERY_EXTENDED;
	q[0x1b - QUERY_AT] = 0x45; /* volts */
	q[0x1c - QUERY_AT] = 0x55;
	q[0x1f - QUERY_AT] = 1; /* microseconds, as powers of 2: program, buffer; milliseconds: erase */
	q[0x20 - QUERY_AT] = 1;
	q[0x21 - QUERY_AT] = 1;
	q[0x23 - QUERY_AT] = 1;
	q[0x24 - QUERY_AT] = 1;
	q[0x25 - QUERY_AT] = 1;
	q[0x27 - QUERY_AT] = bits;             /* size, as a power of 2 */
	q[0x28 - QUERY_AT] = flash->chips - 1; /* 8 bits, or 16 */
	q[0x2a - QUERY_AT] = 8;                /* buffer: FLASH_BUFFER */
	q[0x2c - QUERY_AT] = 1;                /* kinds of blocks */
	q[0x2d - QUERY_AT] = (uint8_t)blocks;
	q[0x2e - QUERY_AT] = (uint8_t)(blocks >> 8);
	q[0x2f - QUERY_AT] = (uint8_t)(block / 256);
	q[0x30 - QUERY_AT] = (uint8_t)(block / 256 >> 8);
	/* The rest of it is zeros: no suspending, no locks, no registers of its own. */
	memcpy(&q[QUERY_EXTENDED - QUERY_AT], "PRI11", 5);
}
static_assert(FLASH_BUFFER == 1 << 8, "as the query says");

static int read_file(struct flash *flash, const char *path, struct error *err)
{
	uint64_t done = 0;
	int r = memory_new(flash->size, &flash->memory);

	if (r)
		return error_set(err, r, "flash '%s': %s", path, strerror(-r));
	while (done < flash->size) {
		ssize_t n = pread(flash->fd, bytes_of(flash) + done, flash->size - done, (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return error_set(err, n ? -errno : -EIO, "flash '%s': %s", path,
				n ? strerror(errno) : "the file shrank while it was read");
		done += (uint64_t)n;
	}
	return 0;
}

static int open_file(struct flash *flash, const char *path, struct error *err)
{
	struct stat st;

	/* Non-blocking, or a pipe without a reader would hold us up before we can refuse it. */
	flash->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (flash->fd < 0 || fstat(flash->fd, &st) < 0)
		return error_set(err, -errno, "flash '%s': %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return error_set(err, -EINVAL, "flash '%s': not a regular file", path);
	if (flash->chips == 2 &&
		(st.st_size < FLASH_PAIR_MIN || st.st_size & (st.st_size - 1) || st.st_size > FLASH_MAX))
		return error_set(err, -EINVAL,
			"flash '%s': %lld bytes are no flash of this machine: a power of two from %u KiB to %u MiB",
			path, (long long)st.st_size, FLASH_PAIR_MIN >> 10, FLASH_MAX >> 20);
	if (st.st_size <= 0 || st.st_size % FLASH_BLOCK || st.st_size > FLASH_MAX)
		return error_set(err, -EINVAL,
			"flash '%s': %lld bytes are no flash: a multiple of %d KiB, and at most %u MiB", path,
			(long long)st.st_size, FLASH_BLOCK >> 10, FLASH_MAX >> 20);
	if (flock(flash->fd, LOCK_EX | LOCK_NB))
		return error_set(err, -errno, "flash '%s': %s", path,
			errno == EWOULDBLOCK ? "another guest has it; give each guest a copy of its own"
					     : strerror(errno));
	flash->size = (uint64_t)st.st_size;
	return read_file(flash, path, err);
}

static int flash_create(struct vm *vm, const char *name, const void *config, struct device **out, struct error *err)
{
	const struct flash_config *c = config;
	struct flash *flash = calloc(1, sizeof(*flash));
	int r;

	if (!flash)
		return error_set(err, -ENOMEM, "%s: no memory", name);
	flash->fd = -1;
	flash->chips = c->pair ? 2 : 1;
	flash->word = c->pair ? 4 : 1;
	flash->erased = c->pair ? FLASH_PAIR_BLOCK : FLASH_BLOCK;
	flash->work.fn = write_back;
	flash->work.arg = flash;
	device_init(&flash->dev, &flash_type, vm, name);
	r = open_file(flash, c->path, err);
	if (r) {
		err->status = STATUS_IMAGE;
		flash_destroy(&flash->dev);
		return r;
	}
	make_query(flash);
	device_region(&flash->dev, &flash->array, "flash", flash->size, flash->word, flash_trap);
	flash->array.kind = REGION_ROM;
	flash->array.memory = flash->memory;
	*out = &flash->dev;
	return 0;
}

const struct device_type flash_type = {
	.name = "flash",
	.state = flash_fields,
	.state_offset = offsetof(struct flash, state),
	.create = flash_create,
	.start = flash_start,
	.stop = flash_stop,
	.reset = flash_reset,
	.destroy = flash_destroy,
};
