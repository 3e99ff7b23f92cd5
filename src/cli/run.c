/* SPDX-License-Identifier: BSD-2-Clause */
/* run.c - `trapline run`: options to a machine, and the machine's end to an exit status. */
#include "cli/cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "arch/find_kernel.h"
#include "cli/consoles.h"
#include "cli/devices.h"
#include "cli/host_options.h"
#include "cli/options.h"
#include "core/json.h"
#include "host/output.h"

struct run_options {
	struct machine_config machine;
	struct option_values consoles;
	struct option_values ttys;
	struct host_options host;
	struct devices devices;
	struct option_values place;
	struct option_words words;
	const char *stats;
	bool dry_run, json, help, no_kernel_cache;
	char kernel[4096]; /* where a kernel was found, when none was named */
};

static int usage_error(struct error *err)
{
	err->status = STATUS_USAGE;
	return STATUS_USAGE;
}

static void help(const struct option_spec *specs)
{
	printf("usage: trapline run [options] [KERNEL]\n");
	options_help(specs, stdout);
	printf("\nIn the guest's console: Ctrl-A x quits, Ctrl-A h lists what else.\n"
	       "Exit status: 0 power-off, 1 host failure, 2 usage, 3 kernel, initrd, firmware, flash, 4 KVM,\n"
	       "16 reset with --no-reboot, 17 panic, 18 triple fault with --no-reboot,\n"
	       "19 KVM error, 20 quit, 21 no boot within --boot-timeout; with --exit-port the\n"
	       "guest's, 22 power-off without one.\n");
}

/* A word that is no option; argv[1] is the first of them. */
static int take_kernel(struct machine_config *m, const struct option_words *words, char **argv, struct error *err)
{
	int n = words->n;

	if (n > 1 || (n == 1 && m->guest.kernel)) {
		error_set(err, -EINVAL, "one kernel too many: '%s'", argv[n]);
		options_astray(words, err);
		return usage_error(err);
	}
	if (n == 1)
		m->guest.kernel = argv[1];
	return STATUS_OK;
}

/* Of Arm machines only: struct guest_arm. */
#define OPTIONS_ARM(a)                                                                                                 \
	OPTION_RTC(a), OPTION_FIRMWARE_ADDRESS(a),                                                                     \
		{ OPTION_FLAG, 0, "aarch32", NULL, "arm64: 32-bit processors, and as the kernel a zImage",             \
			&(a)->aarch32 },                                                                               \
		{ OPTION_STRING, 0, "psci", "WHO", "arm64: kvm (default) or user answers calls to firmware",           \
			&(a)->psci },                                                                                  \
		{ OPTION_FLAG, 0, "nested", NULL, "arm64: EL2 for the guest's hypervisor", &(a)->nested },             \
		{ OPTION_FLAG, 0, "pmu", NULL, "arm64: the guest has a PMU (performance counters)", &(a)->pmu },       \
		{ OPTION_FLAG, 0, "disable-sve", NULL, "arm64: no SVE, even where KVM has it", &(a)->disable_sve },    \
		{ OPTION_STRING, 0, "sve-max-vl", "BITS", "arm64: SVE's longest vectors; default: KVM's",              \
			&(a)->sve_max_vl },                                                                            \
		{ OPTION_FLAG, 0, "disable-mte", NULL, "arm64: no memory tagging, even where KVM has it",              \
			&(a)->disable_mte },                                                                           \
		{ OPTION_FLAG, 0, "no-pvtime", NULL, "arm64: the guest is not told of stolen time", &(a)->no_pvtime }, \
	{                                                                                                              \
		OPTION_STRING, 0, "kaslr-seed", "N", "arm64: the kernel's place follows from it; default: random",     \
			&(a)->kaslr_seed                                                                               \
	}

/* What tells of the machine and of the run. */
#define OPTIONS_LOOK(m, o)                                                                                             \
	{ OPTION_GROUP, 0, "To look inside:", NULL, NULL, NULL },                                                      \
		{ OPTION_FLAG, 0, "dry-run", NULL, "print the machine that would be built, and run nothing",           \
			&(o)->dry_run },                                                                               \
		{ OPTION_FLAG, 0, "json", NULL, "with --dry-run or --timings: as JSON", &(o)->json },                  \
		{ OPTION_FLAG, 0, "debug", NULL, "tell of stages and resets, and at the end of traps, on stderr",      \
			&(m)->debug },                                                                                 \
		{ OPTION_FLAG, 0, "timings", NULL,                                                                     \
			"tell at the first entry what each stage of the start took, on stderr",                        \
			&(m)->timings.wanted },                                                                        \
		{ OPTION_STRING, 0, "stats", "FILE", "write at the end which device each exit went to, as JSON",       \
			&(o)->stats },                                                                                 \
	{                                                                                                              \
		OPTION_STRING, 0, "dump-dtb", "FILE", "write the device tree that the guest gets, where it gets one",  \
			&(m)->dump_dtb                                                                                 \
	}

static int parse(struct run_options *o, int argc, char **argv, struct error *err)
{
	struct machine_config *m = &o->machine;
	const struct option_spec specs[] = {
		{ OPTION_GROUP, 0, "Guest:", NULL, NULL, NULL },
		{ OPTION_STRING, 'k', "kernel", "FILE",
			"bzImage or ELF, on arm64 Image; default: the build tree's, then the host's",
			&m->guest.kernel },
		OPTION_FIRMWARE(m),
		OPTION_FLASH(m),
		{ OPTION_STRING, 'i', "initrd", "FILE", "initial RAM disk", &m->guest.initrd },
		{ OPTION_TEXT, 'p', "params", "TEXT", "appended to the kernel's command line", &m->guest.params },
		{ OPTION_STRING, 0, "boot", "WAY", "auto (default), pvh, elf64, bzimage64, bzimage32", &m->guest.boot },
		{ OPTION_FLAG, 0, "no-default-params", NULL, "nothing on that command line but --params",
			&m->guest.no_default_params },
		{ OPTION_FLAG, 0, "no-kernel-cache", NULL,
			"unpack the kernel anew, and do not keep it for the next run", &o->no_kernel_cache },
		OPTION_IRQCHIP(m),
		OPTIONS_ARM(&m->guest.arm),
		OPTION_MEM(m),
		OPTION_CPUS(m),
		{ OPTION_STRING, 0, "name", "NAME", "the guest's name, in messages", &m->name },
		OPTION_PLACE(&o->place),
		OPTIONS_DEVICES(&o->devices),
		OPTIONS_HOST(&o->host),
		OPTIONS_CONSOLE(&o->consoles, &o->ttys),
		OPTION_DEBUGCON(m),
		{ OPTION_GROUP, 0, "Ends:", NULL, NULL, NULL },
		{ OPTION_FLAG, 0, "no-reboot", NULL, "a reset ends the guest (status 16) instead of restarting it",
			&m->no_reboot },
		{ OPTION_COUNT, 0, "shutdown-timeout", "SECONDS",
			"from SIGTERM, SIGINT or SIGHUP, which press the power button, to the end; default: 60",
			&m->shutdown_timeout },
		{ OPTION_COUNT, 0, "boot-timeout", "SECONDS",
			"how long the guest has to write 123 to its ready port (status 21); default: for ever",
			&m->boot_timeout },
		OPTION_EXIT_PORT(m),
		OPTIONS_LOOK(m, o),
		OPTIONS_PCI_TEST(m),
		{ OPTION_STRING, 0, "kvm-device", "FILE", "KVM's device file; default: /dev/kvm", &m->kvm_device },
		{ OPTION_ALIAS, 0, "dev", "kvm-device", NULL, NULL }, /* kvmtool's */
		{ OPTION_FLAG, 'h', "help", NULL, "print this", &o->help },
		{ OPTION_END, 0, NULL, NULL, NULL, NULL },
	};
	devices_init(&o->devices, NULL);
	if (options_parse(specs, argc - 1, argv + 1, &o->words, err))
		return usage_error(err);
	if (o->help) {
		help(specs);
		return STATUS_OK;
	}
	return take_kernel(m, &o->words, argv, err);
}

/* Firmware finds its own kernel, on the guest's disks. */
static int check_firmware(const struct guest_config *guest, struct error *err)
{
	const struct {
		const char *option;
		bool given;
	} others[] = {
		{ "-i", guest->initrd },
		{ "-p", guest->params },
		{ "--no-default-params", guest->no_default_params },
		{ "--boot", guest->boot },
	};

	if (guest->kernel) {
		error_set(err, -EINVAL, "a kernel and --firmware exclude each other: leave one of them out");
		return usage_error(err);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (others[i].given) {
			error_set(err, -EINVAL, "%s goes with a kernel, not with --firmware: leave one of them out",
				others[i].option);
			return usage_error(err);
		}
	}
	return STATUS_OK;
}

/* Options that tell of the machine or its run. */
static int check_telling(struct run_options *o, struct error *err)
{
	bool timings = o->machine.timings.wanted;

	if (o->json && !o->dry_run && !timings) {
		error_set(err, -EINVAL, "--json goes with --dry-run or --timings");
		return usage_error(err);
	}
	if ((o->stats || timings) && o->dry_run) {
		error_set(err, -EINVAL, "--%s tells of a run; --dry-run is none", o->stats ? "stats" : "timings");
		return usage_error(err);
	}
	o->machine.timings.json = o->json;
	if (((o->json && o->dry_run) || o->stats) && json_load(err))
		return err->status = STATUS_HOST;
	return STATUS_OK;
}

static int name_kernel(struct run_options *o, struct error *err)
{
	const struct arch *arch = o->machine.arch;
	const char *const *narrow = o->machine.guest.arm.aarch32 ? arch->kernel_candidates_32 : NULL;

	if (find_kernel(narrow ? narrow : arch->kernel_candidates, o->kernel, sizeof(o->kernel), err))
		return err->status = STATUS_IMAGE;
	o->machine.guest.kernel = o->kernel;
	return STATUS_OK;
}

static int check(struct run_options *o, struct error *err)
{
	if (consoles_config(&o->consoles, &o->ttys, o->machine.consoles, &o->machine.guest.hvcs, err))
		return usage_error(err);
	if (o->machine.guest.hvcs.nr_ports)
		devices_imply(&o->devices, "virtio-console");
	if (check_telling(o, err))
		return err->status;
	o->machine.guest.place = o->place.text;
	o->machine.guest.nr_place = o->place.n;
	o->machine.dry_run = o->dry_run;
	if (!o->no_kernel_cache)
		o->machine.guest.kernel_cache = o->dry_run ? KERNEL_CACHE_LOOK : KERNEL_CACHE_KEEP;
	if (host_options_apply(&o->host, &o->machine, err) || devices_config(&o->devices, &o->machine, err))
		return err->status ? err->status : STATUS_HOST;
	if (o->machine.guest.firmware)
		return check_firmware(&o->machine.guest, err);
	return o->machine.guest.kernel ? STATUS_OK : name_kernel(o, err);
}

static int print_machine(const struct machine *machine, bool json, struct error *err)
{
	int r = 0;

	if (json)
		r = dry_run_json(machine, stdout);
	else
		dry_run_text(machine, stdout);
	if (r == -EILSEQ) {
		error_set(err, r, "--json: a path or the command line is not UTF-8");
		return STATUS_USAGE;
	}
	if (r)
		error_set(err, r, "cannot write the JSON: %s", strerror(errno));
	return r ? STATUS_HOST : STATUS_OK;
}

/* The guest's end is the status, unless it was good and cannot be told of. */
static int tell_stats(const struct machine *machine, struct output *stats, int status, struct error *err)
{
	FILE *out = fdopen(stats->fd, "w");
	int r = out ? stats_write(machine, out) : -errno;

	if (r == -EIO)
		r = -errno;
	if (out) {
		stats->fd = -1;
		if (fclose(out) && !r)
			r = -errno;
	}
	if (r && status == STATUS_OK) {
		error_set(err, r, "--stats '%s': cannot be written: %s", stats->path, strerror(-r));
		return STATUS_HOST;
	}
	return status;
}

static int run_guest(struct machine *machine, struct output *stats, struct error *err)
{
	int status;

	output_begin(stats);
	status = machine_run(machine, err);
	return stats->fd < 0 ? status : tell_stats(machine, stats, status, err);
}

static int run_machine(const struct run_options *o, struct output *stats, struct error *err)
{
	struct machine *machine = calloc(1, sizeof(*machine));
	int status;

	if (!machine) {
		error_set(err, -ENOMEM, "no memory for the machine");
		return STATUS_HOST;
	}
	status = machine_up(machine, &o->machine, err);
	if (status == STATUS_OK) {
		if (o->dry_run)
			status = print_machine(machine, o->json, err);
		else
			status = run_guest(machine, stats, err);
		machine_down(machine);
	}
	free(machine);
	return status;
}

/* Opened before the guest runs: that it cannot be written is better told then. */
static int run_with_stats(const struct run_options *o, struct error *err)
{
	struct output stats = { .fd = -1 };
	int status;

	if (o->stats && output_open(&stats, o->stats, 0, "--stats", err))
		return err->status ? err->status : STATUS_HOST;
	status = run_machine(o, &stats, err);
	output_close(&stats);
	return status;
}

/* The word that may be an option's value is taken for the kernel's name, and there is no such file. */
static bool kernel_astray(const struct run_options *o)
{
	const char *kernel = o->machine.guest.kernel;

	return kernel && kernel == o->words.astray && access(kernel, F_OK);
}

int cmd_run(int argc, char **argv, struct error *err)
{
	struct run_options o = {
		.machine = {
			.guest = { .ram = DEFAULT_RAM, .cpus = DEFAULT_CPUS },
			.arch = arch_host(),
			.kvm_device = KVM_DEVICE,
			.shutdown_timeout = SHUTDOWN_TIMEOUT,
		},
	};
	int status;

	timings_begin(&o.machine.timings);
	status = parse(&o, argc, argv, err);
	if (status != STATUS_OK || o.help)
		return status;
	status = check(&o, err);
	if (status == STATUS_OK)
		status = run_with_stats(&o, err);
	if (status == STATUS_IMAGE && !err->hint[0] && kernel_astray(&o))
		options_astray(&o.words, err);
	devices_free(&o.devices);
	host_options_free(&o.host);
	if (err->text[0] && o.machine.name)
		error_prefix(err, 0, "guest '%s'", o.machine.name);
	return status;
}
