/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_arm64_machine.c - the real arm64 machine, built without KVM: its device tree agrees with the bus and passes
 * through the device tree compiler without a warning; what can be asked of it is checked.
 */
#include "arm64_bed.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm/kvm.h"
#include "machine/machine.h"
#include "virtio/rng.h"

/* ---- the tree ---- */

/* A dry run of the whole machine, with firmware that is a file in `folder`. */
static int dump(const char *folder, const char *path, struct error *err)
{
	struct machine_config config = { .arch = &arch_arm64, .dry_run = true, .dump_dtb = path };
	struct machine *machine = calloc(1, sizeof(*machine));
	char firmware[64];
	int status;

	snprintf(firmware, sizeof(firmware), "%s/firmware", folder);
	config.guest = (struct guest_config){ .ram = 64 * MIB, .cpus = 1, .firmware = firmware };
	*err = (struct error){ 0 };
	status = machine_up(machine, &config, err);
	if (status == STATUS_OK)
		machine_down(machine);
	free(machine);
	return status;
}

/* A pipe with little room left, whose reader takes its time, gets the whole tree. */
static void slow_reader(const char *folder, const char *path)
{
	static const uint8_t junk[4000];
	static uint8_t got[0x8000];
	int ends[2], status;
	struct error err;
	pid_t child;

	ends[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ends[1] = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(ends[0] >= 0 && ends[1] >= 0);
	assert_int_equal(fcntl(ends[0], F_SETPIPE_SZ, 4096), 4096);
	assert_int_equal(fcntl(ends[0], F_SETFL, 0), 0);
	assert_int_equal(write(ends[1], junk, sizeof(junk)), sizeof(junk));
	child = fork();
	if (child == 0) {
		size_t size = 0;
		ssize_t n;

		close(ends[1]);
		usleep(100000);
		while ((n = read(ends[0], got + size, sizeof(got) - size)) > 0)
			size += (size_t)n;
		_exit(size > sizeof(junk) && fdt_check_full(got + sizeof(junk), size - sizeof(junk)) == 0 ? 0 : 1);
	}
	assert_int_equal(dump(folder, path, &err), STATUS_OK);
	close(ends[0]);
	close(ends[1]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

/* --dump-dtb writes all of it, and leaves alone what it cannot write. */
static void test_dump(void **state)
{
	static const struct {
		const char *name, *words;
		int status;
	} bad[] = { { "/dev/full", "No space left", STATUS_HOST }, { "pipe", "nobody reads this pipe", STATUS_USAGE },
		{ "folder", "Is a directory", STATUS_USAGE }, { "none/x", "No such file", STATUS_USAGE } };
	char folder[] = "/tmp/trapline-tree-XXXXXX", path[64], command[128];
	uint8_t tree[0x4000];
	struct error err;
	struct stat st;

	assert_non_null(mkdtemp(folder));
	snprintf(command, sizeof(command), "cd %s && echo x >firmware && mkfifo pipe && mkdir folder", folder);
	assert_int_equal(system(command), 0);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", folder, bad[i].name);
		assert_int_equal(dump(folder, *bad[i].name == '/' ? bad[i].name : path, &err), bad[i].status);
		if (!strstr(err.text, bad[i].words) || !strstr(err.text, "--dump-dtb: cannot write '"))
			fail_msg("'%s' instead of '%s'", err.text, bad[i].words);
		assert_int_equal(stat(*bad[i].name == '/' ? bad[i].name : path, &st), i == 3 ? -1 : 0);
	}
	snprintf(path, sizeof(path), "%s/pipe", folder);
	slow_reader(folder, path);
	/* A new file, and one that is longer. */
	snprintf(path, sizeof(path), "%s/tree", folder);
	for (unsigned again = 0; again < 2; again++) {
		FILE *file;
		size_t n;

		assert_int_equal(dump(folder, path, &err), STATUS_OK);
		file = fopen(path, "r+");
		n = fread(tree, 1, sizeof(tree), file);
		assert_int_equal(fdt_check_full(tree, n), 0);
		assert_int_equal(ftruncate(fileno(file), 0x10000), 0);
		fclose(file);
	}
	snprintf(command, sizeof(command), "rm -rf %s", folder);
	assert_int_equal(system(command), 0);
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

/* A hypervisor in the guest finds the GIC's interrupt for it, and a timer more; its firmware is not called as it is. */
static void test_hypervisor(void **state)
{
	for (unsigned nested = 0; nested < 2; nested++) {
		struct guest_config config = plain(2, 64 * MIB);
		struct bed *bed;
		const fdt32_t *at;
		int gic, timer;

		config.arm.nested = nested;
		bed = bed_new(&config);
		take_tree(bed, GIC_V3_ITS);
		gic = fdt_path_offset(bed->tree, "/interrupt-controller@3fff0000");
		timer = fdt_path_offset(bed->tree, "/timer");
		assert_string_equal(fdt_getprop(bed->tree, fdt_path_offset(bed->tree, "/psci"), "method", NULL),
			nested ? "smc" : "hvc");
		if (nested) {
			at = property(bed->tree, gic, "interrupts", 12);
			assert_int_equal(fdt32_to_cpu(at[0]), 1);
			assert_int_equal(fdt32_to_cpu(at[1]), 9);
			assert_int_equal(fdt32_to_cpu(at[2]), 4);
			assert_int_equal(fdt32_to_cpu(property(bed->tree, timer, "interrupts", 60)[13]), 12);
			compile(bed);
		} else {
			assert_null(fdt_getprop(bed->tree, gic, "interrupts", NULL));
			property(bed->tree, timer, "interrupts", 48);
		}
		bed_free(bed);
	}
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
	key = fdt_path_offset(bed->tree, "/gpio-keys/button-power");
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

/* "auto" is everybody's. */
static void test_the_way_to_start(void **state)
{
	struct guest_config config = plain(1, 64 * MIB);
	struct error err = { 0 };

	config.boot = "auto";
	assert_int_equal(arch_arm64.check(&config, &err), 0);
	config.boot = "pvh";
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_string_equal(err.text, "--boot pvh: an arm64 kernel is started in one way only, auto");
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
		assert_non_null(strstr(err.text, "multiple of 128 from 128 to 2048 bits"));
	}
	config.arm.sve_max_vl = "2048";
	assert_int_equal(arch_arm64.check(&config, &err), 0);
	assert_int_equal(arm64_sve_max_vl(&config, &bits, &err), 0);
	assert_int_equal(bits, 2048);
	config.arm.disable_sve = true;
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--disable-sve"));
	config.arm = (struct guest_arm){ .aarch32 = true, .nested = true };
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--nested does not go with --aarch32"));
	config.arm = (struct guest_arm){ .nested = true };
	config.irqchip = "gicv2m";
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_int_equal(err.status, STATUS_USAGE);
	assert_non_null(strstr(err.text, "--nested does not go with --irqchip gicv2m"));
	config.irqchip = "gicv3";
	assert_int_equal(arch_arm64.check(&config, &err), 0);
	config.irqchip = NULL;
	config.arm = (struct guest_arm){ .psci = "us" };
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--psci 'us': there are kvm and user"));
	config.arm = (struct guest_arm){ .aarch32 = true, .sve_max_vl = "128" };
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--sve-max-vl does not go with --aarch32"));
	config.arm = (struct guest_arm){ .aarch32 = true };
	config.firmware = "/x";
	assert_true(arch_arm64.check(&config, &err) < 0);
	assert_non_null(strstr(err.text, "--firmware does not go with --aarch32"));
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

#ifdef __aarch64__
/* Whatever KVM tells, of each vCPU there is a line that says which it is. */
static void test_describe(void **state)
{
	struct vcpu vcpu = { .fd = -1 };
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	snprintf(vcpu.name, sizeof(vcpu.name), "vcpu3");
	assert_non_null(out);
	arm64_describe_vcpu(NULL, &vcpu, true, out);
	fclose(out);
	assert_string_equal(text, "vcpu3: KVM does not tell where it is\n");
	free(text);
}
#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_dump),
#ifdef __aarch64__
		cmocka_unit_test(test_describe),
#endif
		cmocka_unit_test(test_tree_agrees),
		cmocka_unit_test(test_messages),
		cmocka_unit_test(test_hypervisor),
		cmocka_unit_test(test_keys),
		cmocka_unit_test(test_clocks),
		cmocka_unit_test(test_moved),
		cmocka_unit_test(test_dtc),
		cmocka_unit_test(test_check),
		cmocka_unit_test(test_phys_bits),
		cmocka_unit_test(test_aarch32_options),
		cmocka_unit_test(test_the_way_to_start),
		cmocka_unit_test(test_cpu_options),
		cmocka_unit_test(test_cpu_extras),
		cmocka_unit_test(test_kaslr_seed),
		cmocka_unit_test(test_irqchips),
	};

	return cmocka_run_group_tests(tests, unit_adopt, unit_release);
}
