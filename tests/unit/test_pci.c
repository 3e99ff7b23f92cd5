/* SPDX-License-Identifier: BSD-2-Clause */
/* test_pci.c - config space by both ways, masks, capabilities, interrupts, plugging in and out. */
#include "pci_bed.h"

static void test_both_ways_agree(void **state)
{
	struct bed *bed = *state;

	enable(bed, 1);
	srand(1);
	for (unsigned round = 0; round < 2000; round++) {
		unsigned len = 1U << rand() % 3, reg = (unsigned)rand() % 256 & ~(len - 1);
		unsigned slot = (unsigned)rand() % 3; /* the bridge too */

		if (rand() & 1)
			port_write(bed, slot, reg, len, (uint32_t)rand());
		else
			cfg_write(bed, slot, reg, len, (uint32_t)rand());
		assert_int_equal(port_read(bed, slot, reg, len), cfg_read(bed, slot, reg, len));
	}
	for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
		for (unsigned reg = 0; reg < 256; reg++) {
			uint32_t byte = cfg_read(bed, slot, reg, 1), word = cfg_read(bed, slot, reg & ~1U, 2);
			uint32_t dword = cfg_read(bed, slot, reg & ~3U, 4);

			assert_int_equal(byte, port_read(bed, slot, reg, 1));
			assert_int_equal(word, port_read(bed, slot, reg & ~1U, 2));
			assert_int_equal(dword, port_read(bed, slot, reg & ~3U, 4));
			assert_int_equal(word >> 8 * (reg & 1) & 0xff, byte);
			assert_int_equal(dword >> 8 * (reg & 3) & 0xff, byte);
			if (slot > BED_TESTS)
				assert_int_equal(byte, 0xff);
		}
	}
}

static void test_bridge_is_there(void **state)
{
	struct bed *bed = *state;

	assert_int_equal(cfg_read(bed, 0, PCI_CLASS_DEVICE, 2), 0x0600);
	assert_int_equal(cfg_read(bed, 0, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(cfg_read(bed, 1, PCI_VENDOR_ID, 4), PCI_TEST_DEVICE << 16 | PCI_TEST_VENDOR);
	assert_int_equal(cfg_read(bed, 1, PCI_ROM_ADDRESS, 4), 0);
	cfg_write(bed, 1, PCI_ROM_ADDRESS, 4, 0xfffff800);
	assert_int_equal(cfg_read(bed, 1, PCI_ROM_ADDRESS, 4), 0);
	/* Extended config space is there, and empty. */
	assert_int_equal(cfg_read(bed, 1, 0x100, 4), 0);
	assert_int_equal(cfg_read(bed, 1, 0xffc, 4), 0);
}

static void test_address_latch(void **state)
{
	struct bed *bed = *state;

	bed_write(bed, SPACE_PIO, 0xcf8, 4, 0xffffffff);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcf8, 4), 0x80fffffc);
	bed_write(bed, SPACE_PIO, 0xcf8, 4, 0x80000800);
	/* What Linux does before it looks for mechanism 1, and a PC's reset port. */
	bed_write(bed, SPACE_PIO, 0xcfb, 1, 0x01);
	bed_write(bed, SPACE_PIO, 0xcf9, 1, 0x06);
	bed_write(bed, SPACE_PIO, 0xcf8, 2, 0x1234);
	bed_write(bed, SPACE_PIO, 0xcfa, 2, 0x1234);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcf8, 4), 0x80000800);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcf8, 1), 0xff);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcfa, 2), 0xffff);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcfc, 4), PCI_TEST_DEVICE << 16 | PCI_TEST_VENDOR);
	/* Disabled. */
	bed_write(bed, SPACE_PIO, 0xcf8, 4, 0x00000800 | PCI_INTERRUPT_LINE);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcfc, 4), 0xffffffff);
	bed_write(bed, SPACE_PIO, 0xcfc, 1, 0x55);
	assert_int_not_equal(cfg_read(bed, 1, PCI_INTERRUPT_LINE, 1), 0x55);
	/* Another bus. */
	bed_write(bed, SPACE_PIO, 0xcf8, 4, 0x80010800);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcfc, 4), 0xffffffff);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcfd, 1), 0xff);
	device_reset(bed->host);
	assert_int_equal(bed_read(bed, SPACE_PIO, 0xcf8, 4), 0);
}

static void test_write_masks(void **state)
{
	/* Every bit that a guest can set in the test function's header. */
	static const struct {
		unsigned reg;
		uint32_t bits;
	} writable[] = {
		{ PCI_COMMAND, 0x0547 },
		{ PCI_CACHE_LINE_SIZE, 0xff },
		{ PCI_BASE_ADDRESS_0, 0xfffff000 },
		{ PCI_BASE_ADDRESS_2, 0xffff0000 },
		{ PCI_BASE_ADDRESS_3, 0xffffffff },
		{ PCI_BASE_ADDRESS_4, 0xffffffe0 },
		{ PCI_INTERRUPT_LINE & ~3U, 0xff },
	};
	struct bed *bed = *state;
	uint32_t old[PCI_CONFIG_SIZE / 4];

	for (unsigned i = 0; i < PCI_CONFIG_SIZE / 4; i++)
		old[i] = cfg_read(bed, 1, 4 * i, 4);
	for (unsigned len = 1; len <= 4; len *= 2) {
		for (unsigned pattern = 0; pattern < 2; pattern++) {
			for (unsigned reg = 0; reg < PCI_CONFIG_SIZE; reg += len)
				cfg_write(bed, 1, reg, len, pattern ? 0 : UINT32_MAX);
			for (unsigned i = 0; i < PCI_CONFIG_SIZE / 4; i++) {
				uint32_t bits = 0;

				for (unsigned w = 0; w < sizeof(writable) / sizeof(writable[0]); w++)
					if (writable[w].reg == 4 * i)
						bits = writable[w].bits;
				assert_int_equal(cfg_read(bed, 1, 4 * i, 4), (old[i] & ~bits) | (pattern ? 0 : bits));
			}
		}
	}
}

static void test_status_is_cleared_by_ones(void **state)
{
	struct bed *bed = *state;
	struct pci_function *fn = pci_function_of(bed->test[0]);

	pci_set(fn, PCI_STATUS, 2, 0xf910);
	cfg_write(bed, 1, PCI_STATUS, 2, 0x0000);
	assert_int_equal(cfg_read(bed, 1, PCI_STATUS, 2), 0xf910);
	cfg_write(bed, 1, PCI_STATUS, 2, 0x2010);
	assert_int_equal(cfg_read(bed, 1, PCI_STATUS, 2), 0xd910);
	cfg_write(bed, 1, PCI_STATUS + 1, 1, 0x01);
	assert_int_equal(cfg_read(bed, 1, PCI_STATUS, 2), 0xd810);
	/* The command register's half of a write of four bytes leaves status alone if its half is 0. */
	cfg_write(bed, 1, PCI_COMMAND, 4, 0x00000004);
	assert_int_equal(cfg_read(bed, 1, PCI_COMMAND, 4), 0xd8100004);
}

static void test_wild_accesses(void **state)
{
	static const unsigned regs[] = { 0, 1, 2, 3, 0xfd, 0xff, 0xffd, 0xfff, 0x1000, 0x1001, 0x7fffffff, UINT32_MAX };
	struct bed *bed = *state;

	for (unsigned devfn = 0; devfn < 256; devfn++) {
		for (unsigned r = 0; r < sizeof(regs) / sizeof(regs[0]); r++) {
			for (unsigned len = 0; len <= 9; len++) {
				bool inside = regs[r] <= PCI_CONFIG_SIZE && len <= PCI_CONFIG_SIZE - regs[r];
				uint32_t v = pci_config_read(bed->pci, (uint8_t)devfn, regs[r], len);

				pci_config_write(bed->pci, (uint8_t)devfn, regs[r], len, (uint32_t)rand());
				if (!inside || (len != 1 && len != 2 && len != 4))
					assert_int_equal(v, UINT32_MAX);
			}
		}
	}
	/* All of ECAM, bus 1 and up, and lengths that the region does not take. */
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t at = BED_ECAM + (((uint64_t)rand() << 8 ^ (uint64_t)rand()) & 0xffffff);
		unsigned len = 1 + (unsigned)rand() % 8;

		if (rand() & 1)
			bed_write(bed, SPACE_MMIO, at, len, (uint64_t)rand());
		else
			bed_read(bed, SPACE_MMIO, at, len);
	}
	assert_int_equal(bed_read(bed, SPACE_MMIO, BED_ECAM + 0x100000, 4), 0xffffffff);
	assert_int_equal(bed_read(bed, SPACE_MMIO, BED_ECAM + 0xffffff, 1), 0xff);
	assert_int_equal(bed_read(bed, SPACE_MMIO, ecam(1, 0, PCI_VENDOR_ID), 8) & 0xffffffff,
		PCI_TEST_DEVICE << 16 | PCI_TEST_VENDOR);
}

static void test_capabilities(void **state)
{
	static const struct pci_ids ids = { .vendor = 1, .device = 2, .class = 0x020000 };
	struct bed *bed = *state;
	struct pci_function *fn = calloc(1, sizeof(*fn));
	uint8_t *config = malloc(PCI_CONFIG_SIZE);
	struct error err;
	unsigned at, n = 0;

	device_init(&fn->dev, &pci_test_type, &bed->vm, "caps");
	pci_function_init(fn, &ids, config);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_VNDR, 1), 0);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_VNDR, 193), 0);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_MSIX, 12), 0x40);
	pci_init(fn, 0x42, 2, 0x0003, 0xc000);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_VNDR, 0x11), 0x4c);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_EXP, 0xa0), 0x60);
	assert_int_equal(pci_capability(fn, PCI_CAP_ID_VNDR, 2), 0);
	assert_int_equal(pci_bus_add(bed->pci, fn, 9, 0, &err), 0);
	assert_true(cfg_read(bed, 9, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	assert_false(cfg_read(bed, 1, PCI_STATUS, 2) & PCI_STATUS_CAP_LIST);
	for (at = cfg_read(bed, 9, PCI_CAPABILITY_LIST, 1); at; at = cfg_read(bed, 9, at + 1, 1)) {
		static const uint8_t found[] = { PCI_CAP_ID_MSIX, PCI_CAP_ID_VNDR, PCI_CAP_ID_EXP };

		assert_int_equal(cfg_read(bed, 9, at, 1), found[n++]);
	}
	assert_int_equal(n, 3);
	cfg_write(bed, 9, 0x40, 4, 0xffffffff);
	assert_int_equal(cfg_read(bed, 9, 0x40, 4), 0xc0034c11);
	pci_function_fini(fn);
	assert_int_equal(cfg_read(bed, 9, 0, 4), 0xffffffff);
	device_fini(&fn->dev);
	free(config);
	free(fn);
}

static void test_bars_declared_badly(void **state)
{
	static const struct pci_ids ids = { .vendor = 1, .device = 2 };
	struct bed *bed = *state;
	struct pci_function *fn = calloc(1, sizeof(*fn));
	uint8_t *config = malloc(PCI_CONFIG_SIZE);
	struct region r;
	struct error err;

	device_init(&fn->dev, &pci_test_type, &bed->vm, "bad");
	pci_function_init(fn, &ids, config);
	assert_int_equal(pci_bar_init(fn, 6, PCI_BAR_MEM32, false, &r, "r", 16, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 5, PCI_BAR_MEM64, false, &r, "r", 16, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 0, PCI_BAR_NONE, false, &r, "r", 16, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 0, PCI_BAR_IO, false, &r, "r", 257, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 0, PCI_BAR_MEM32, false, &r, "r", 0, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 0, PCI_BAR_MEM32, false, &r, "r", (1ULL << 31) + 1, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 0, PCI_BAR_MEM64, false, &r, "r", (1ULL << 62) + 1, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 2, PCI_BAR_MEM64, false, &r, "r", 1ULL << 40, 0, NULL), 0);
	assert_int_equal(pci_bar_init(fn, 2, PCI_BAR_IO, false, &r, "r", 4, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 3, PCI_BAR_IO, false, &r, "r", 4, 0, NULL), -EINVAL);
	assert_int_equal(pci_bar_init(fn, 1, PCI_BAR_MEM64, false, &r, "r", 16, 0, NULL), -EINVAL);
	/* A terabyte has no room in the windows. */
	assert_int_equal(pci_bus_add(bed->pci, fn, 9, 0, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "BAR 2"));
	assert_null(fn->bus);
	assert_int_equal(cfg_read(bed, 9, 0, 4), 0xffffffff);
	pci_function_fini(fn);
	device_fini(&fn->dev);
	free(config);
	free(fn);
}

static void test_plugging(void **state)
{
	struct bed *bed = *state;
	struct device *dev = bed_new_test(bed, "extra");
	struct pci_function *fn = pci_function_of(dev);
	struct error err;

	assert_int_equal(pci_bus_add(bed->pci, fn, 1, 0, &err), -EBUSY);
	assert_non_null(strstr(err.text, "test0"));
	assert_int_equal(pci_bus_add(bed->pci, fn, 32, 0, &err), -EINVAL);
	assert_int_equal(pci_bus_add(bed->pci, fn, 1, 8, &err), -EINVAL);
	assert_int_equal(pci_bus_add(bed->pci, fn, 9, 1, &err), -EINVAL); /* no function 0 */
	assert_int_equal(cfg_read(bed, 1, PCI_HEADER_TYPE, 1), 0);
	assert_int_equal(pci_bus_add(bed->pci, fn, 1, 3, &err), 0);
	assert_int_equal(pci_bus_add(bed->pci, fn, 1, 4, &err), -EBUSY);
	/* Now slot 1 has several functions, and says so; across resets too. */
	assert_int_equal(cfg_read(bed, 1, PCI_HEADER_TYPE, 1), 0x80);
	device_reset(bed->test[0]);
	assert_int_equal(cfg_read(bed, 1, PCI_HEADER_TYPE, 1), 0x80);
	assert_int_equal(bed_read(bed, SPACE_MMIO, ecam(1, 3, PCI_VENDOR_ID), 2), PCI_TEST_VENDOR);
	assert_int_equal(bed_read(bed, SPACE_MMIO, ecam(1, 3, PCI_HEADER_TYPE), 1), 0);
	assert_int_equal(bed_read(bed, SPACE_MMIO, ecam(1, 1, PCI_VENDOR_ID), 4), 0xffffffff);
	bed_write(bed, SPACE_MMIO, ecam(1, 3, PCI_COMMAND), 2, 3);
	assert_int_equal(pci_bars_live(fn), 0x15);
	pci_bus_remove(fn);
	pci_bus_remove(fn);
	assert_int_equal(pci_bars_live(fn), 0);
	assert_int_equal(cfg_read(bed, 1, PCI_HEADER_TYPE, 1), 0);
	/* And in again, elsewhere. */
	assert_int_equal(pci_bus_add(bed->pci, fn, 20, 0, &err), 0);
	assert_int_equal(cfg_read(bed, 20, PCI_COMMAND, 2), 0);
	enable(bed, 20);
	assert_int_equal(pci_bars_live(fn), 0x15);
	vm_remove_device(dev);
	assert_int_equal(cfg_read(bed, 20, 0, 4), 0xffffffff);
}

static void test_placement(void **state)
{
	struct bed *bed = *state;
	uint64_t at[3 * BED_TESTS], size[3] = { 0x1000, 0x10000, 32 };

	for (unsigned t = 0; t < BED_TESTS; t++) {
		assert_int_equal(cfg_read(bed, 1 + t, PCI_COMMAND, 2), 0);
		assert_int_equal(pci_bars_live(pci_function_of(bed->test[t])), 0);
		for (unsigned b = 0; b < 3; b++)
			at[3 * t + b] = bar_address(bed, 1 + t, 2 * b);
		assert_in_range(at[3 * t], BED_MEM32, 0xfebfffff - 0xfff);
		assert_true(at[3 * t + 1] >= BED_MEM64);
		assert_in_range(at[3 * t + 2], BED_IO, BED_IO_END - 32);
	}
	for (unsigned i = 0; i < 3 * BED_TESTS; i++) {
		assert_int_equal(at[i] % size[i % 3], 0);
		for (unsigned j = i + 3; j < 3 * BED_TESTS; j += 3)
			assert_true(at[i] + size[i % 3] <= at[j] || at[j] + size[j % 3] <= at[i]);
	}
}

static void test_boot_command(void **state)
{
	struct bed *bed = *state;
	struct device *dev = bed_new_test(bed, "fb");
	struct pci_function *fn = pci_function_of(dev);
	struct error err;

	fn->boot_command = PCI_COMMAND_MEMORY | PCI_COMMAND_SERR | 0x8000;
	assert_int_equal(pci_bus_add(bed->pci, fn, 9, 0, &err), 0);
	assert_int_equal(cfg_read(bed, 9, PCI_COMMAND, 2), PCI_COMMAND_MEMORY | PCI_COMMAND_SERR);
	assert_int_equal(pci_bars_live(fn), 0x05);
	device_power_on(dev);
	assert_int_equal(pci_bars_live(fn), 0x05);
	cfg_write(bed, 9, PCI_COMMAND, 2, 0);
	assert_int_equal(pci_bars_live(fn), 0);
	device_reset(dev);
	assert_int_equal(pci_bars_live(fn), 0x05);
}

static void test_interrupts(void **state)
{
	struct bed *bed = *state;
	uint64_t base[BED_TESTS];

	for (unsigned t = 0; t < BED_TESTS; t++) {
		enable(bed, 1 + t);
		base[t] = bar_address(bed, 1 + t, 0);
		assert_int_equal(cfg_read(bed, 1 + t, PCI_INTERRUPT_PIN, 1), 1);
		assert_int_equal(cfg_read(bed, 1 + t, PCI_INTERRUPT_LINE, 1), 17 + t);
		bed_write(bed, SPACE_MMIO, base[t] + PCI_TEST_INTX, 4, 1);
		assert_int_equal(bed->levels[17 + t], 1);
		assert_true(cfg_read(bed, 1 + t, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	}
	/* Disabling holds the wire down, and says nothing of the device's wish. */
	cfg_write(bed, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY | PCI_COMMAND_INTX_DISABLE);
	assert_int_equal(bed->levels[17], 0);
	assert_true(cfg_read(bed, 1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	cfg_write(bed, 1, PCI_COMMAND, 2, PCI_COMMAND_MEMORY);
	assert_int_equal(bed->levels[17], 1);
	bed_write(bed, SPACE_MMIO, base[0] + PCI_TEST_INTX, 4, 0);
	assert_int_equal(bed->levels[17], 0);
	assert_false(cfg_read(bed, 1, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	/* Reset and unplugging lower it. */
	device_reset(bed->test[1]);
	assert_int_equal(bed->levels[18], 0);
	assert_false(cfg_read(bed, 2, PCI_STATUS, 2) & PCI_STATUS_INTERRUPT);
	pci_bus_remove(pci_function_of(bed->test[2]));
	assert_int_equal(bed->levels[19], 0);
}

static void test_shared_interrupt(void **state)
{
	struct bed *bed = *state;
	struct device *dev = bed_new_test(bed, "sharer");
	struct error err;
	uint64_t a, b;

	assert_int_equal(pci_bus_add(bed->pci, pci_function_of(dev), 5, 0, &err), 0); /* 4 slots on: slot 1's GSI */
	enable(bed, 1);
	enable(bed, 5);
	a = bar_address(bed, 1, 0);
	b = bar_address(bed, 5, 0);
	bed_write(bed, SPACE_MMIO, a + PCI_TEST_INTX, 4, 1);
	bed_write(bed, SPACE_MMIO, b + PCI_TEST_INTX, 4, 1);
	bed_write(bed, SPACE_MMIO, a + PCI_TEST_INTX, 4, 0);
	assert_int_equal(bed->levels[17], 1);
	bed_write(bed, SPACE_MMIO, b + PCI_TEST_INTX, 4, 0);
	assert_int_equal(bed->levels[17], 0);
}

static void test_reset(void **state)
{
	struct bed *bed = *state;
	uint32_t old[PCI_CONFIG_SIZE / 4];

	for (unsigned i = 0; i < PCI_CONFIG_SIZE / 4; i++)
		old[i] = cfg_read(bed, 1, 4 * i, 4);
	for (unsigned round = 0; round < 100; round++) {
		enable(bed, 1);
		for (unsigned i = 0; i < 64; i++)
			cfg_write(bed, 1, (unsigned)rand() & 0xfc, 4, (uint32_t)rand());
		device_reset(bed->test[0]);
		assert_int_equal(pci_bars_live(pci_function_of(bed->test[0])), 0);
		for (unsigned i = 0; i < PCI_CONFIG_SIZE / 4; i++)
			assert_int_equal(cfg_read(bed, 1, 4 * i, 4), old[i]);
	}
}

static uint8_t *save_state(struct device *dev, size_t *size)
{
	void *bytes = (char *)dev + dev->type->state_offset;
	uint8_t *saved;

	*size = (size_t)field_save(dev->type->state, bytes, NULL, 0);
	saved = malloc(*size);
	assert_non_null(saved);
	assert_int_equal(field_save(dev->type->state, bytes, saved, *size), *size);
	return saved;
}

static void load_state(struct device *dev, const uint8_t *saved, size_t size)
{
	assert_int_equal(field_load(dev->type->state, (char *)dev + dev->type->state_offset, saved, size), 0);
	dev->type->start(dev);
}

/* A restored function decodes where it did, and its wire is up; whatever the state says, BARs are aligned. */
static void test_restore(void **state)
{
	struct bed *bed = *state;
	struct device *dev = bed->test[0];
	struct pci_function *fn = pci_function_of(dev);
	uint64_t moved = BED_MEM32 + 0x100000;
	uint8_t *saved;
	size_t size;

	enable(bed, 1);
	cfg_write(bed, 1, bar_reg(0), 4, (uint32_t)moved);
	bed_write(bed, SPACE_MMIO, moved + PCI_TEST_SCRATCH, 4, 0x1234);
	bed_write(bed, SPACE_MMIO, moved + PCI_TEST_INTX, 4, 1);
	assert_int_equal(bed->levels[17], 1);
	saved = save_state(dev, &size);
	device_power_on(dev);
	assert_int_equal(bed->levels[17], 0);
	load_state(dev, saved, size);
	assert_int_equal(pci_bars_live(fn), 0x15);
	assert_int_equal(test_reg(bed, moved, PCI_TEST_SCRATCH), 0x1234);
	assert_int_equal(bed->levels[17], 1);
	bed_write(bed, SPACE_MMIO, moved + PCI_TEST_INTX, 4, 0);
	assert_int_equal(bed->levels[17], 0);
	for (unsigned round = 0; round < 1000; round++) {
		/* Behind the header and the record's own lies config space, the first of the fields. */
		for (unsigned i = 0; i < 64; i++)
			saved[16 + i] = (uint8_t)rand();
		load_state(dev, saved, size);
		for (unsigned i = 0; i < PCI_BARS; i += 2)
			assert_int_equal(pci_bar_address(&fn->bars[i]) & (fn->bars[i].size - 1), 0);
		assert_int_equal(bed->pci->failures, 0);
	}
	free(saved);
}

/* The test function's registers and memory, all widths, and its count. */
static void test_test_function(void **state)
{
	struct bed *bed = *state;
	uint64_t m, p, w, value = 0x8877665544332211;

	enable(bed, 1);
	m = bar_address(bed, 1, 0);
	w = bar_address(bed, 1, 2);
	p = bar_address(bed, 1, 4);
	assert_int_equal(test_reg(bed, m, PCI_TEST_ID), PCI_TEST_ID_VALUE);
	assert_int_equal(bed_read(bed, SPACE_PIO, p + PCI_TEST_ID, 4), PCI_TEST_ID_VALUE);
	assert_int_equal(bed_read(bed, SPACE_PIO, p + PCI_TEST_ID + 1, 1), 'E');
	assert_int_equal(test_reg(bed, m, PCI_TEST_LIVE), 0x15);
	bed_write(bed, SPACE_MMIO, m + PCI_TEST_COUNT, 4, 0);
	assert_int_equal(test_reg(bed, m, PCI_TEST_COUNT), 0);
	assert_int_equal(test_reg(bed, m, PCI_TEST_COUNT), 1);
	bed_read(bed, SPACE_MMIO, w, 8);
	bed_read(bed, SPACE_PIO, p, 1);
	assert_int_equal(test_reg(bed, m, PCI_TEST_COUNT), 4);
	bed_write(bed, SPACE_MMIO, m + PCI_TEST_SCRATCH, 4, 0x11223344);
	bed_write(bed, SPACE_PIO, p + PCI_TEST_SCRATCH + 1, 2, 0xabcd);
	assert_int_equal(test_reg(bed, m, PCI_TEST_SCRATCH), 0x11abcd44);
	bed_write(bed, SPACE_MMIO, m + PCI_TEST_MOVE_LO, 8, value);
	assert_int_equal(test_reg(bed, m, PCI_TEST_MOVE_HI), value >> 32);
	assert_int_equal(bed_read(bed, SPACE_MMIO, m + PCI_TEST_MOVE_LO, 8), value);
	assert_int_equal(bed_read(bed, SPACE_MMIO, m + 0x100, 8), UINT64_MAX);
	for (unsigned len = 1; len <= 8; len++) {
		uint64_t mask = UINT64_MAX >> (64 - 8 * len);

		for (unsigned off = 0; off < 16; off++) {
			bed_write(bed, SPACE_MMIO, m + PCI_TEST_MEMORY + off, len, value);
			assert_int_equal(bed_read(bed, SPACE_MMIO, m + PCI_TEST_MEMORY + off, len), value & mask);
			bed_write(bed, SPACE_MMIO, w + 0xff00 + off, len, ~value);
			assert_int_equal(bed_read(bed, SPACE_MMIO, w + 0xff00 + off, len), ~value & mask);
		}
	}
	bed_write(bed, SPACE_MMIO, m + 0xff8, 8, value);
	assert_int_equal(bed_read(bed, SPACE_MMIO, m + 0xfff, 1), value >> 56);
}

static void test_host_without(void **state)
{
	struct pci_host_config config = *bed_config();
	struct bed *bed = *state;
	struct device *dev;
	struct error err;

	config.buses = 257;
	assert_int_equal(pci_host_type.create(&bed->vm, "x", &config, &dev, &err), -EINVAL);
	config.buses = 0;
	assert_int_equal(pci_host_type.create(&bed->vm, "x", &config, &dev, &err), 0);
	assert_int_equal(dev->nr_regions, 2);
	/* Of the two ports only the latch's writes may be posted: those to the data register do things. */
	assert_int_equal(dev->regions[0]->coalesce, 4);
	assert_int_equal(dev->regions[1]->coalesce, 0);
	pci_host_type.destroy(dev);
	config.buses = 1;
	config.ports = false;
	assert_int_equal(pci_host_type.create(&bed->vm, "x", &config, &dev, &err), 0);
	assert_int_equal(dev->nr_regions, 1);
	assert_int_equal(dev->regions[0]->size, 0x100000);
	assert_ptr_equal(pci_host_bus(dev)->functions[0], pci_function_of(dev));
	pci_host_type.destroy(dev);
	/* A bus without its bridge: slot 0 is anybody's, and reset and restore know of no function. */
	config.unseen = true;
	assert_int_equal(pci_host_type.create(&bed->vm, "x", &config, &dev, &err), 0);
	pci_host_type.start(dev);
	device_reset(dev);
	assert_null(pci_host_bus(dev)->functions[0]);
	assert_int_equal(pci_config_read(pci_host_bus(dev), 0, PCI_VENDOR_ID, 4), 0xffffffff);
	pci_bus_remove(pci_function_of(bed->test[0]));
	assert_int_equal(pci_bus_add(pci_host_bus(dev), pci_function_of(bed->test[0]), 0, 0, &err), 0);
	assert_int_equal(pci_config_read(pci_host_bus(dev), 0, PCI_VENDOR_ID, 2), PCI_TEST_VENDOR);
	pci_bus_remove(pci_function_of(bed->test[0]));
	pci_host_type.destroy(dev);
}

/* Functions may outlive their bus. */
static void test_bus_goes_first(void **state)
{
	struct bed *bed = *state;

	enable(bed, 1);
	vm_remove_device(bed->host);
	assert_null(pci_function_of(bed->test[0])->bus);
	assert_int_equal(pci_bars_live(pci_function_of(bed->test[0])), 0);
	pci_intx(pci_function_of(bed->test[0]), true);
	device_reset(bed->test[0]);
	assert_int_equal(bed->levels[17], 0);
}

#define T(fn) cmocka_unit_test_setup_teardown(fn, bed_setup, bed_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(test_both_ways_agree),
		T(test_bridge_is_there),
		T(test_address_latch),
		T(test_write_masks),
		T(test_status_is_cleared_by_ones),
		T(test_wild_accesses),
		T(test_capabilities),
		T(test_bars_declared_badly),
		T(test_plugging),
		T(test_placement),
		T(test_boot_command),
		T(test_interrupts),
		T(test_shared_interrupt),
		T(test_reset),
		T(test_restore),
		T(test_test_function),
		T(test_host_without),
		T(test_bus_goes_first),
	};

	return cmocka_run_group_tests_name("pci", tests, NULL, NULL);
}
