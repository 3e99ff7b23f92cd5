/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_arm64_machine.c - the real arm64 machine, built without KVM: its device tree agrees with the bus and passes through the
 * device tree compiler without a warning; kernels are told apart, unpacked and put where they belong.
 */
#include "unit.h"

#include <errno.h>
#include <libfdt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/arm64/board.h"
#include "virtio/rng.h"

#define MIB       (1ULL << 20)
#define IMAGE_LEN (3 * 65536U + 1000)

struct bed {
	struct vm vm;
	struct board *board;
	uint8_t tree[LAYOUT_DT_SIZE];
};

static struct bed *bed_new(const struct guest_config *config)
{
	struct bed *bed = calloc(1, sizeof(*bed));
	struct error err = { 0 };

	assert_non_null(bed);
	assert_int_equal(vm_init(&bed->vm, true, &err), 0);
	if (arch_arm64.check(config, &err) || arch_arm64.create(&bed->vm, config, &bed->board, &err) ||
		arch_arm64.build(bed->board, &err))
		fail_msg("%s", err.text);
	list_for_each (pos, &bed->vm.devices)
		device_power_on(container_of(pos, struct device, node));
	return bed;
}

static void bed_free(struct bed *bed)
{
	vm_remove_devices(&bed->vm);
	arch_arm64.destroy(bed->board);
	vm_fini(&bed->vm);
	free(bed);
}

static const void *take_tree(struct bed *bed, enum gic gic)
{
	struct error err = { 0 };

	bed->board->gic = gic;
	assert_int_equal(arm64_boot_place(&bed->board->boot, bed->board->config.ram, &bed->board->places, &err), 0);
	if (arm64_describe(bed->board, &err))
		fail_msg("%s", err.text);
	assert_int_equal(mem_read(&bed->vm.mem, bed->board->places.tree, bed->tree, sizeof(bed->tree)), 0);
	assert_int_equal(fdt_check_full(bed->tree, sizeof(bed->tree)), 0);
	return bed->tree;
}

static struct guest_config plain(unsigned cpus, uint64_t ram)
{
	return (struct guest_config){ .kernel = "none", .ram = ram, .cpus = cpus };
}

/* ---- the tree ---- */

static uint64_t cells(const fdt32_t *at)
{
	return (uint64_t)fdt32_to_cpu(at[0]) << 32 | fdt32_to_cpu(at[1]);
}

static const fdt32_t *property(const void *tree, int node, const char *name, int len)
{
	int got;
	const fdt32_t *at = fdt_getprop(tree, node, name, &got);

	if (!at || got != len)
		fail_msg("property %s: %d bytes, not %d", name, got, len);
	return at;
}

/* The node of a device says where the device is on the bus, and which line it has. */
static void check_node(struct bed *bed, const char *device, const char *path, const char *compatible)
{
	const struct device *dev = vm_device(&bed->vm, device);
	int node = fdt_path_offset(bed->tree, path);
	const fdt32_t *at;

	if (node < 0)
		fail_msg("no node %s", path);
	assert_int_equal(fdt_node_check_compatible(bed->tree, node, compatible), 0);
	at = property(bed->tree, node, "reg", 16);
	assert_true(cells(at) == dev->regions[0]->base);
	assert_true(cells(at + 2) == dev->regions[0]->size);
	if (!dev->nr_irqs)
		return;
	at = property(bed->tree, node, "interrupts", 12);
	assert_int_equal(fdt32_to_cpu(at[0]), 0);
	assert_int_equal(fdt32_to_cpu(at[1]), dev->irqs[0]->line);
	assert_int_equal(fdt32_to_cpu(at[2]), dev->irqs[0]->trigger == IRQ_LEVEL ? 4 : 1);
}

static const struct guest_virtio rng = {
	.name = "rng0", .transport = VIRTIO_ON_MMIO, .config = { .type = &virtio_rng_type }, .option = "--rng"
};

static void test_tree_agrees(void **state)
{
	struct guest_config config = plain(3, 128 * MIB);
	struct bed *bed;
	const fdt32_t *at;

	config.virtio = &rng;
	config.nr_virtio = 1;
	bed = bed_new(&config);
	take_tree(bed, GIC_V3_ITS);
	check_node(bed, "serial0", "/serial@1000000", "ns16550a");
	check_node(bed, "serial3", "/serial@1003000", "ns16550a");
	check_node(bed, "rtc", "/rtc@1010000", "arm,pl031");
	check_node(bed, "gpio", "/gpio@1034000", "arm,pl061");
	check_node(bed, "pvpanic", "/pvpanic@1030000", "qemu,pvpanic-mmio");
	check_node(bed, "rng0", "/virtio@3000000", "virtio,mmio");
	assert_string_equal(
		fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "stdout-path", NULL), "/serial@1000000");
	at = property(bed->tree, fdt_path_offset(bed->tree, "/memory@80000000"), "reg", 16);
	assert_true(cells(at) == LAYOUT_RAM && cells(at + 2) == 128 * MIB);
	/* Three redistributors end where the distributor begins; the ITS is below them. */
	at = property(bed->tree, fdt_path_offset(bed->tree, "/interrupt-controller@3fff0000"), "reg", 32);
	assert_true(cells(at + 4) == 0x3ff90000 && cells(at + 6) == 0x60000);
	assert_true(fdt_path_offset(bed->tree, "/interrupt-controller@3fff0000/msi-controller@3ff70000") > 0);
	assert_true(fdt_path_offset(bed->tree, "/cpus/cpu@2") > 0);
	assert_true(fdt_path_offset(bed->tree, "/cpus/cpu@3") < 0);
	bed_free(bed);
}

/* The frame is a child of the GIC's and PCI's messages go there; the interrupts that they become are nobody else's. */
static void test_messages(void **state)
{
	static const char *const moves[] = { "rtc=mmio:0x1010000,irq=96" };
	struct guest_config config = plain(1, 64 * MIB);
	struct error err = { 0 };
	struct bed *bed;
	int frame;

	config.irqchip = "gicv2m";
	bed = bed_new(&config);
	take_tree(bed, GIC_V2M);
	check_node(bed, "msi", "/interrupt-controller@3fff0000/msi-controller@1035000", "arm,gic-v2m-frame");
	frame = fdt_path_offset(bed->tree, "/interrupt-controller@3fff0000/msi-controller@1035000");
	assert_non_null(fdt_getprop(bed->tree, frame, "msi-controller", NULL));
	assert_int_equal(
		fdt32_to_cpu(property(bed->tree, fdt_path_offset(bed->tree, "/pcie@40000000"), "msi-map", 16)[1]),
		fdt_get_phandle(bed->tree, frame));
	bed_free(bed);
	/* Not with a GICv2 alone. */
	config.irqchip = "gicv2";
	bed = bed_new(&config);
	take_tree(bed, GIC_V2);
	assert_null(vm_device(&bed->vm, "msi"));
	assert_null(fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/pcie@40000000"), "msi-map", NULL));
	vm_remove_devices(&bed->vm);
	bed->board->config.place = moves;
	bed->board->config.nr_place = 1;
	assert_true(arm64_build(bed->board, &err) < 0);
	bed_free(bed);
}

/* The key's pin is the chip's. */
static void test_keys(void **state)
{
	struct guest_config config = plain(1, 64 * MIB);
	struct bed *bed = bed_new(&config);
	int gpio, key;
	const fdt32_t *at;

	take_tree(bed, GIC_V3);
	gpio = fdt_path_offset(bed->tree, "/gpio@1034000");
	key = fdt_path_offset(bed->tree, "/gpio-keys/power");
	assert_int_equal(fdt32_to_cpu(*property(bed->tree, key, "linux,code", 4)), 116);
	at = property(bed->tree, key, "gpios", 12);
	assert_int_equal(fdt32_to_cpu(at[0]), fdt_get_phandle(bed->tree, gpio));
	assert_int_equal(fdt32_to_cpu(*property(bed->tree, gpio, "#gpio-cells", 4)), 2);
	assert_int_equal(fdt32_to_cpu(at[1]), LAYOUT_PIN_POWER);
	bed_free(bed);
}

static void test_clocks(void **state)
{
	static const char *const bad[] = { "", "pl03", "MC146818" };
	struct guest_config config = plain(1, 64 * MIB);
	struct bed *bed;

	config.arm.rtc = "pl031";
	bed = bed_new(&config);
	take_tree(bed, GIC_V3);
	check_node(bed, "rtc", "/rtc@1010000", "arm,pl031");
	bed_free(bed);
	config.arm.rtc = "mc146818";
	bed = bed_new(&config);
	take_tree(bed, GIC_V3);
	check_node(bed, "rtc", "/rtc@1010000", "motorola,mc146818");
	bed_free(bed);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct error err = { 0 };

		config.arm.rtc = bad[i];
		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_int_equal(err.status, STATUS_USAGE);
		assert_non_null(strstr(err.text, "there are pl031 and mc146818"));
	}
}

/* A device that stands elsewhere is told to be there. */
static void test_moved(void **state)
{
	static const char *const moves[] = { "serial0=mmio:0x1200000,irq=90", "rtc=pio:0x2000" };
	struct guest_config config = plain(1, 64 * MIB);
	struct bed *bed;

	config.place = moves;
	config.nr_place = 1;
	bed = bed_new(&config);
	take_tree(bed, GIC_V2);
	check_node(bed, "serial0", "/serial@1200000", "ns16550a");
	assert_string_equal(
		fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "stdout-path", NULL), "/serial@1200000");
	bed_free(bed);
}

static void compile(const struct bed *bed)
{
	char path[] = "/tmp/trapline-dtb-XXXXXX", command[256], text[4096];
	int fd = mkstemp(path);
	FILE *dtc;
	size_t n;

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bed->tree, fdt_totalsize(bed->tree)), fdt_totalsize(bed->tree));
	close(fd);
	snprintf(command, sizeof(command),
		"dtc -q -I dtb -O dtb -o /dev/null %s 2>&1; dtc -I dtb -O dtb -o /dev/null %s 2>&1", path, path);
	dtc = popen(command, "r");
	assert_non_null(dtc);
	n = fread(text, 1, sizeof(text) - 1, dtc);
	text[n] = '\0';
	assert_int_equal(pclose(dtc), 0);
	unlink(path);
	if (n)
		fail_msg("dtc has something to say:\n%s", text);
}

static void test_dtc(void **state)
{
	static const struct {
		unsigned cpus;
		uint64_t ram;
		enum gic gic;
	} machines[] = { { 1, 64 * MIB, GIC_V2 }, { 2, 64 * MIB, GIC_V2M }, { 8, 5120 * MIB, GIC_V2 },
		{ 2, 256 * MIB, GIC_V3 }, { 8, 128 * MIB, GIC_V3_ITS }, { 512, 128 * MIB, GIC_V3_ITS } };
	struct guest_virtio devices[LAYOUT_VIRTIO_LINES];

	if (system("dtc -v >/dev/null 2>&1")) {
		print_message("no dtc\n");
		skip();
	}
	for (size_t i = 0; i < sizeof(machines) / sizeof(machines[0]); i++) {
		struct guest_config config = plain(machines[i].cpus, machines[i].ram);
		struct bed *bed;

		for (unsigned n = 0; n < LAYOUT_VIRTIO_LINES; n++) {
			devices[n] = rng;
			snprintf(devices[n].name, sizeof(devices[n].name), "rng%u", n);
		}
		config.virtio = devices;
		config.nr_virtio = i % 2 ? LAYOUT_VIRTIO_LINES : 1;
		config.irqchip = machines[i].gic == GIC_V2M ? "gicv2m" : NULL;
		bed = bed_new(&config);
		take_tree(bed, machines[i].gic);
		compile(bed);
		bed_free(bed);
	}
}

/* ---- kernels ---- */

struct file {
	char path[32];
	uint8_t *bytes;
	size_t len;
};

static void put(struct file *file, const void *bytes, size_t len)
{
	file->bytes = realloc(file->bytes, file->len + len);
	assert_non_null(file->bytes);
	memcpy(file->bytes + file->len, bytes, len);
	file->len += len;
}

static void write_file(struct file *file)
{
	int fd;

	strcpy(file->path, "/tmp/trapline-image-XXXXXX");
	fd = mkstemp(file->path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, file->bytes, file->len), file->len);
	close(fd);
}

static void drop_file(struct file *file)
{
	unlink(file->path);
	free(file->bytes);
	*file = (struct file){ 0 };
}

static struct image_header header(void)
{
	return (struct image_header){
		.text_offset = 0x1000, .image_size = IMAGE_LEN + 5000, .flags = 0xa, .magic = 0x644d5241
	};
}

static void flat(struct file *file, const struct image_header *header)
{
	uint8_t *bytes = malloc(IMAGE_LEN);

	assert_non_null(bytes);
	for (unsigned i = 0; i < IMAGE_LEN; i++)
		bytes[i] = (uint8_t)(i * 7 + i / 251);
	memcpy(bytes, header, sizeof(*header));
	put(file, bytes, IMAGE_LEN);
	free(bytes);
}

static uint32_t crc32_of(const uint8_t *bytes, size_t len)
{
	uint32_t crc = UINT32_MAX;

	for (size_t i = 0; i < len; i++) {
		crc ^= bytes[i];
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

/* RFC 1951's and 1952's simplest form: blocks that are stored. */
static void gzip(struct file *file, const struct file *from)
{
	static const uint8_t head[10] = { 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255 };
	uint32_t tail[] = { crc32_of(from->bytes, from->len), (uint32_t)from->len };

	put(file, head, sizeof(head));
	for (size_t at = 0; at < from->len;) {
		uint16_t n = (uint16_t)(from->len - at < 60000 ? from->len - at : 60000);
		uint16_t sizes[] = { n, (uint16_t)~n };

		put(file, (uint8_t[]){ at + n == from->len }, 1);
		put(file, sizes, sizeof(sizes));
		put(file, from->bytes + at, n);
		at += n;
	}
	put(file, tail, sizeof(tail));
}

/* It is loaded where it wants to be, byte for byte. */
static void check_loads(struct file *file, const struct file *flat_file, const char *kind, const char *packed)
{
	struct guest_config config = plain(1, 64 * MIB);
	uint8_t *got = malloc(flat_file->len);
	struct error err = { 0 };
	struct bed *bed;

	assert_non_null(got);
	write_file(file);
	config.kernel = file->path;
	bed = bed_new(&config);
	if (arch_arm64.open_images(bed->board, &err) || arch_arm64.load(bed->board, &err))
		fail_msg("%s", err.text);
	assert_string_equal(bed->board->boot.kernel.kind, kind);
	if (packed)
		assert_string_equal(bed->board->boot.kernel.packed, packed);
	else
		assert_null(bed->board->boot.kernel.packed);
	assert_true(bed->board->places.kernel == LAYOUT_RAM + 0x1000);
	assert_int_equal(mem_read(&bed->vm.mem, LAYOUT_RAM + 0x1000, got, flat_file->len), 0);
	assert_memory_equal(got, flat_file->bytes, flat_file->len);
	assert_true(bed->board->places.tree >= LAYOUT_RAM + 0x1000 + IMAGE_LEN + 5000);
	bed_free(bed);
	free(got);
}

static void test_images(void **state)
{
	const struct image_header h = header();
	struct file image = { 0 }, gz = { 0 }, zboot = { 0 };
	uint32_t words[16] = { 0x5a4d, 0x676d697a, 64 };

	flat(&image, &h);
	check_loads(&image, &image, "Image", NULL);
	gzip(&gz, &image);
	check_loads(&gz, &image, "Image", "gzip");
	words[3] = (uint32_t)gz.len;
	memcpy(&words[6], "gzip", 5);
	put(&zboot, words, sizeof(words));
	put(&zboot, gz.bytes, gz.len);
	check_loads(&zboot, &image, "EFI zboot Image", "gzip");
	drop_file(&zboot);
	drop_file(&gz);
	drop_file(&image);
}

static void refused_by(struct guest_config config, struct file *file, const char *words)
{
	struct error err = { 0 };
	struct bed *bed;
	int r;

	write_file(file);
	config.kernel = file->path;
	bed = bed_new(&config);
	r = arch_arm64.open_images(bed->board, &err);
	if (r == 0)
		r = arch_arm64.load(bed->board, &err);
	assert_true(r < 0);
	if (!strstr(err.text, words) || !strstr(err.text, file->path))
		fail_msg("'%s' instead of '%s'", err.text, words);
	bed_free(bed);
	drop_file(file);
}

static void refused(struct file *file, uint64_t ram, const char *words)
{
	refused_by(plain(1, ram), file, words);
}

static void test_bad_images(void **state)
{
	struct image_header h = header();
	struct file file = { 0 }, gz = { 0 };
	uint8_t elf[64] = "\x7f"
			  "ELF\2\1\1";

	put(&file, "hello", 5);
	refused(&file, 64 * MIB, "not a kernel");
	elf[18] = 62;
	put(&file, elf, sizeof(elf));
	refused(&file, 64 * MIB, "an ELF file for x86-64");
	h.flags |= 1;
	flat(&file, &h);
	refused(&file, 64 * MIB, "big-endian");
	h = header();
	h.image_size = IMAGE_LEN / 2;
	flat(&file, &h);
	refused(&file, 64 * MIB, "damaged");
	h = header();
	h.text_offset = 0x200000;
	flat(&file, &h);
	refused(&file, 64 * MIB, "damaged");
	h = header();
	h.image_size = 1ULL << 40;
	flat(&file, &h);
	refused(&file, 64 * MIB, "too large for the guest's RAM");
	/* Packed, and cut short; and something else that is packed. */
	h = header();
	flat(&file, &h);
	gzip(&gz, &file);
	gz.len -= 70000;
	drop_file(&file);
	refused(&gz, 64 * MIB, "");
	put(&file, elf, sizeof(elf));
	gzip(&gz, &file);
	drop_file(&file);
	refused(&gz, 64 * MIB, "no arm64 Image");
}

/* ---- 32-bit kernels ---- */

#define ZIMAGE_LEN   65536U
#define ZIMAGE_TABLE 256U

/* A zImage that says that it unpacks to 3 MiB at 0x208000, with 0x1000 bytes of bss; without a table where `table` is 0. */
static void zimage(struct file *file, uint32_t table, uint32_t order, uint32_t end)
{
	uint32_t words[ZIMAGE_LEN / 4] = { 0 };
	const uint32_t head[] = { 0x016f2818, 0x1000, 0x1000 + end, order, table ? 0x45454545 : 0, table };
	const uint32_t sizes[] = { 6, 0x5a534c4b, ZIMAGE_LEN - 4, 0x1000, 0x208000, 0x10000 };

	memcpy(&words[9], head, sizeof(head));
	memcpy(&words[ZIMAGE_TABLE / 4], sizes, sizeof(sizes));
	words[ZIMAGE_LEN / 4 - 1] = 3 << 20;
	put(file, words, sizeof(words));
}

static void check_zimage(struct file *file, uint64_t gpa)
{
	struct guest_config config = plain(2, 64 * MIB);
	uint8_t *got = malloc(ZIMAGE_LEN);
	struct board_info info;
	struct error err = { 0 };
	struct bed *bed;

	assert_non_null(got);
	write_file(file);
	config.kernel = file->path;
	config.arm.aarch32 = true;
	bed = bed_new(&config);
	if (arch_arm64.open_images(bed->board, &err) || arch_arm64.load(bed->board, &err))
		fail_msg("%s", err.text);
	arch_arm64.info(bed->board, &info);
	assert_string_equal(info.kernel_kind, "zImage");
	assert_false(info.own_kaslr);
	assert_true(info.entry == gpa);
	assert_int_equal(mem_read(&bed->vm.mem, gpa, got, ZIMAGE_LEN), 0);
	assert_memory_equal(got, file->bytes, ZIMAGE_LEN);
	/* Behind its end nothing of the file's is loaded. */
	assert_int_equal(mem_read(&bed->vm.mem, gpa + ZIMAGE_LEN, got, 4), 0);
	assert_memory_equal(got, "\0\0\0\0", 4);
	take_tree(bed, GIC_V3);
	assert_null(fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "kaslr-seed", NULL));
	bed_free(bed);
	free(got);
	drop_file(file);
}

static void test_zimages(void **state)
{
	struct file file = { 0 };

	/* Behind what it unpacks to: 0x208000, 3 MiB and 0x1000, up to the next 64 KiB. */
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	check_zimage(&file, LAYOUT_RAM + 0x510000);
	zimage(&file, 0, 0x04030201, ZIMAGE_LEN);
	put(&file, "\xd0\r\xfe\xed", 4);
	check_zimage(&file, LAYOUT_RAM + 32 * MIB);
}

static void refused_zimage(struct file *file, uint64_t ram, const char *words)
{
	struct guest_config config = plain(1, ram);

	config.arm.aarch32 = true;
	refused_by(config, file, words);
}

static void test_bad_zimages(void **state)
{
	struct image_header h = header();
	struct file file = { 0 };
	uint32_t large = UINT32_MAX;
	uint8_t elf[64] = "\x7f"
			  "ELF\1\1\1";

	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	refused(&file, 64 * MIB, "a zImage, of 32-bit Arm: --aarch32 starts it");
	flat(&file, &h);
	refused_zimage(&file, 64 * MIB, "a 64-bit kernel, and --aarch32 starts a 32-bit one");
	put(&file, "hello", 5);
	refused_zimage(&file, 64 * MIB, "no zImage of 32-bit Arm");
	elf[18] = 40;
	put(&file, elf, sizeof(elf));
	refused_zimage(&file, 64 * MIB, "an ELF file for arm, and --aarch32 boots the zImage");
	zimage(&file, ZIMAGE_TABLE, 0x01020304, ZIMAGE_LEN);
	refused_zimage(&file, 64 * MIB, "big-endian");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN + 1);
	refused_zimage(&file, 64 * MIB, "truncated: the zImage needs 65537 bytes");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, 0);
	refused_zimage(&file, 64 * MIB, "damaged: it ends before it starts");
	zimage(&file, ZIMAGE_LEN, 0x04030201, ZIMAGE_LEN);
	refused_zimage(&file, 64 * MIB, "truncated: the table of sizes");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	memcpy(file.bytes + ZIMAGE_TABLE + 8, &large, sizeof(large));
	refused_zimage(&file, 64 * MIB, "truncated: the unpacked size");
	zimage(&file, ZIMAGE_TABLE, 0x04030201, ZIMAGE_LEN);
	memcpy(file.bytes + ZIMAGE_LEN - 4, &large, sizeof(large));
	refused_zimage(&file, 64 * MIB, "more than 128 MiB");
	zimage(&file, 0, 0x04030201, ZIMAGE_LEN);
	refused_zimage(&file, 32 * MIB, "too large for the guest's RAM");
}

static void test_initrd_room(void **state)
{
	const struct image_header h = header();
	struct guest_config config = plain(1, 16 * MIB);
	struct file image = { 0 }, initrd = { 0 };
	struct error err = { 0 };
	struct bed *bed;

	flat(&image, &h);
	write_file(&image);
	put(&initrd, "0", 1);
	write_file(&initrd);
	config.kernel = image.path;
	config.initrd = initrd.path;
	bed = bed_new(&config);
	assert_int_equal(arch_arm64.open_images(bed->board, &err), 0);
	assert_int_equal(arch_arm64.load(bed->board, &err), 0);
	assert_true(bed->board->places.initrd + 4096 == bed->board->places.tree);
	bed->board->boot.initrd.size = 16 * MIB - IMAGE_LEN - 5000 - LAYOUT_DT_SIZE;
	assert_int_equal(arch_arm64.load(bed->board, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "too large"));
	bed_free(bed);
	drop_file(&initrd);
	drop_file(&image);
}

static void test_check(void **state)
{
	static const struct {
		uint64_t ram;
		unsigned cpus;
		const char *words;
	} bad[] = { { MIB, 1, "too little" }, { 1ULL << 52, 1, "beyond" }, { 64 * MIB + 4096, 1, "multiple" },
		{ 64 * MIB, 0, "-c 0" }, { 64 * MIB, 513, "at most 512" } };

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct guest_config config = plain(bad[i].cpus, bad[i].ram);
		struct error err = { 0 };

		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_int_equal(err.status, STATUS_USAGE);
		if (!strstr(err.text, bad[i].words))
			fail_msg("'%s' instead of '%s'", err.text, bad[i].words);
	}
}

/* The smallest address space that holds the machine, or none where the usual one does. */
static void test_phys_bits(void **state)
{
	static const struct {
		uint64_t ram;
		unsigned limit, bits;
	} good[] = { { 64 * MIB, 0, 0 }, { 64 * MIB, 48, 0 }, { (1ULL << 40) - LAYOUT_RAM, 0, 0 },
		{ (1ULL << 40) - LAYOUT_RAM, 44, 0 }, { 1ULL << 40, 44, 41 }, { (1ULL << 44) - LAYOUT_RAM, 44, 44 },
		{ 64 * MIB, 36, 32 }, { LAYOUT_RAM, 36, 32 }, { LAYOUT_RAM + MIB, 36, 33 }, { 1ULL << 51, 52, 52 } };
	static const struct {
		uint64_t ram;
		unsigned limit;
		const char *words;
	} bad[] = { { 1ULL << 40, 0,
			    "-m: 1024 GiB is beyond this KVM's 40 bits of guest-physical addresses: at most 1022 GiB" },
		{ 1ULL << 40, 40, "40 bits" }, { 1ULL << 44, 44, "at most 16382 GiB" },
		{ 1ULL << 36, 36, "at most 62 GiB" } };
	struct error err = { 0 };
	unsigned bits;

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		if (arm64_phys_bits(good[i].ram, good[i].limit, &bits, &err))
			fail_msg("%s", err.text);
		assert_int_equal(bits, good[i].bits);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_int_equal(arm64_phys_bits(bad[i].ram, bad[i].limit, &bits, &err), -ERANGE);
		assert_int_equal(err.status, STATUS_USAGE);
		if (!strstr(err.text, bad[i].words))
			fail_msg("'%s' instead of '%s'", err.text, bad[i].words);
	}
}

/* The device tree after a start, which may have other seeds than after the one before. */
static uint64_t seed_of(struct bed *bed, int *rng_len)
{
	struct error err = { 0 };
	uint64_t seed;
	int chosen;

	if (arch_arm64.load(bed->board, &err))
		fail_msg("%s", err.text);
	take_tree(bed, GIC_V3);
	chosen = fdt_path_offset(bed->tree, "/chosen");
	seed = cells(property(bed->tree, chosen, "kaslr-seed", 8));
	*rng_len = 0;
	(void)fdt_getprop(bed->tree, chosen, "rng-seed", rng_len);
	/* Asked for again, without a start between: the same. */
	take_tree(bed, GIC_V3);
	assert_true(cells(property(bed->tree, fdt_path_offset(bed->tree, "/chosen"), "kaslr-seed", 8)) == seed);
	return seed;
}

static void test_aarch32_options(void **state)
{
	struct guest_config config = plain(1, 1ULL << 40);
	struct error err = { 0 };

	config.arm.aarch32 = true;
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "at most 1022 GiB"));
	config.ram = (1ULL << 40) - LAYOUT_RAM;
	assert_int_equal(arch_arm64.check(&config, &err), 0);
	config.arm.kaslr_seed = "1";
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_int_equal(err.status, STATUS_USAGE);
	assert_non_null(strstr(err.text, "--kaslr-seed does not go with --aarch32"));
}

static void test_cpu_options(void **state)
{
	static const char *const bad[] = { "0", "64", "200", "2176", "-128", "x" };
	struct guest_config config = plain(2, 64 * MIB);
	struct error err = { 0 };
	unsigned bits;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.arm.sve_max_vl = bad[i];
		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_int_equal(err.status, STATUS_USAGE);
		assert_non_null(strstr(err.text, "multiple of 128 bits, up to 2048"));
	}
	config.arm.sve_max_vl = "2048";
	assert_int_equal(arch_arm64.check(&config, &err), 0);
	assert_int_equal(arm64_sve_max_vl(&config, &bits, &err), 0);
	assert_int_equal(bits, 2048);
	config.arm.disable_sve = true;
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--disable-sve"));
	config.arm = (struct guest_arm){ .aarch32 = true, .sve_max_vl = "128" };
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--sve-max-vl does not go with --aarch32"));
}

/* A PMU is there for who asks, and memory for stolen time unless one does not want it. */
static void test_cpu_extras(void **state)
{
	struct guest_config config = plain(2, 64 * MIB);
	const fdt32_t *irq;
	struct bed *bed;
	int pmu;

	config.arm = (struct guest_arm){ .pmu = true, .no_pvtime = true };
	bed = bed_new(&config);
	assert_true(mem_fill(&bed->vm.mem, LAYOUT_PVTIME, 1, 64) < 0);
	take_tree(bed, GIC_V2);
	pmu = fdt_path_offset(bed->tree, "/pmu");
	assert_int_equal(fdt_node_check_compatible(bed->tree, pmu, "arm,armv8-pmuv3"), 0);
	/* A PPI, the seventh, high, for both CPUs. */
	irq = property(bed->tree, pmu, "interrupts", 12);
	assert_int_equal(fdt32_to_cpu(irq[0]), 1);
	assert_int_equal(fdt32_to_cpu(irq[1]), 7);
	assert_int_equal(fdt32_to_cpu(irq[2]), 0x304);
	compile(bed);
	bed_free(bed);
	config.arm = (struct guest_arm){ 0 };
	bed = bed_new(&config);
	assert_int_equal(mem_fill(&bed->vm.mem, LAYOUT_PVTIME, 1, LAYOUT_PVTIME_SIZE), 0);
	take_tree(bed, GIC_V2);
	assert_true(fdt_path_offset(bed->tree, "/pmu") < 0);
	bed_free(bed);
}

static void test_kaslr_seed(void **state)
{
	static const struct {
		const char *text;
		uint64_t seed;
	} good[] = { { "0", 0 }, { "42", 42 }, { "0xFEDCBA9876543210", 0xfedcba9876543210 },
		{ "18446744073709551615", UINT64_MAX } };
	static const char *const bad[] = { "", "-1", "+1", " 1", "0x", "12a", "0xg", "18446744073709551616" };
	struct guest_config config = plain(1, 64 * MIB);
	struct error err = { 0 };
	struct bed *bed;
	uint64_t seed;
	int len;

	config.kernel = NULL;
	bed = bed_new(&config);
	seed = seed_of(bed, &len);
	assert_int_equal(len, 56);
	assert_true(seed_of(bed, &len) != seed);
	bed_free(bed);
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		config.arm.kaslr_seed = good[i].text;
		bed = bed_new(&config);
		for (unsigned start = 0; start < 2; start++)
			assert_true(seed_of(bed, &len) == good[i].seed && len < 0);
		bed_free(bed);
	}
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		config.arm.kaslr_seed = bad[i];
		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_int_equal(err.status, STATUS_USAGE);
		assert_non_null(strstr(err.text, "--kaslr-seed '"));
	}
}

static void test_irqchips(void **state)
{
	static const struct {
		const char *name;
		enum gic gic;
	} good[] = { { NULL, GIC_V3_ITS }, { "auto", GIC_V3_ITS }, { "gicv2", GIC_V2 }, { "gicv2m", GIC_V2M },
		{ "gicv3", GIC_V3 }, { "gicv3-its", GIC_V3_ITS } };
	struct guest_config config = plain(1, 64 * MIB);
	struct error err = { 0 };

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		struct bed *bed;

		config.irqchip = good[i].name;
		bed = bed_new(&config);
		assert_int_equal(bed->board->gic, good[i].gic);
		bed_free(bed);
	}
	config.irqchip = "gicv33";
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "'gicv33'"));
	config.cpus = 9;
	for (size_t i = 0; i < 2; i++) {
		config.irqchip = i ? "gicv2m" : "gicv2";
		assert_true(arch_arm64.check(&config, &err) < 0);
		assert_non_null(strstr(err.text, "8 CPUs"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tree_agrees),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_dtc),
		cmocka_unit_test(test_images),
		cmocka_unit_test(test_bad_images),
		cmocka_unit_test(test_zimages),
		cmocka_unit_test(test_bad_zimages),
		cmocka_unit_test(test_initrd_room),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_phys_bits),
		cmocka_unit_test(test_aarch32_options),
		cmocka_unit_test(test_cpu_options),
		cmocka_unit_test(test_cpu_extras),
		cmocka_unit_test(test_kaslr_seed),
		cmocka_unit_test(test_irqchips),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
