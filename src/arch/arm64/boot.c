/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * boot.c - the boot loader: the kernel at the beginning of RAM (a zImage behind what it unpacks to there), the device
 * tree at its end, the initrd below that.
 *
 * An Image clears its own bss, so what it has beyond its bytes in the file is left as it is.
 */
#include "arch/arm64/boot.h"

#include <errno.h>
#include <string.h>

#include "arch/arm64/layout.h"

#define PAGE 4096ULL

int arm64_boot_open(struct boot *boot, const char *kernel, const char *initrd, bool aarch32, struct error *err)
{
	int r;

	memset(boot, 0, sizeof(*boot));
	r = arm64_kernel_open(&boot->kernel, kernel, aarch32, err);
	if (r || !initrd)
		return r;
	return image_open(&boot->initrd, "initrd", initrd, err);
}

void arm64_boot_close(struct boot *boot)
{
	arm64_kernel_close(&boot->kernel);
	image_close(&boot->initrd);
	image_close(&boot->firmware);
}

static int place(const struct boot *boot, uint64_t room, struct boot_places *places, struct error *err)
{
	const struct kernel *kernel = &boot->kernel;
	uint64_t begin = kernel->text_offset, used = begin + kernel->mem_size;

	*places = (struct boot_places){ .kernel = LAYOUT_RAM + begin };
	room = (room & ~(LAYOUT_DT_SIZE - 1)) - LAYOUT_DT_SIZE;
	places->tree = LAYOUT_RAM + room;
	if (kernel->image.path && used > room)
		return image_error(&kernel->image, err, -ENOSPC,
			"too large for the guest's RAM: it needs 0x%llx-0x%llx, and the device tree lies at 0x%llx",
			(unsigned long long)places->kernel, (unsigned long long)(LAYOUT_RAM + used - 1),
			(unsigned long long)places->tree);
	if (!boot->initrd.path)
		return 0;
	if (boot->initrd.size > room || ((room - boot->initrd.size) & ~(PAGE - 1)) < used)
		return image_error(&boot->initrd, err, -ENOSPC,
			"too large for the guest's RAM: no place for its %llu bytes between the kernel and 0x%llx",
			(unsigned long long)boot->initrd.size, (unsigned long long)places->tree);
	places->initrd = LAYOUT_RAM + ((room - boot->initrd.size) & ~(PAGE - 1));
	places->initrd_size = boot->initrd.size;
	return 0;
}

int arm64_boot_place(const struct boot *boot, uint64_t ram, struct boot_places *places, struct error *err)
{
	const uint64_t span = boot->kernel.aarch32 ? LAYOUT_BOOT_SPAN_32 : LAYOUT_BOOT_SPAN;
	int r = place(boot, ram < span ? ram : span, places, err);

	/* Beyond the span more RAM is no help. */
	if (r && ram < span)
		error_hint(err, "-m gives the guest more RAM");
	return r;
}

int arm64_boot_load(const struct boot *boot, struct mem *mem, const struct boot_places *places, struct error *err)
{
	int r = arm64_kernel_load(&boot->kernel, mem, places->kernel, err);

	if (r == 0 && places->initrd_size)
		r = image_load(&boot->initrd, 0, places->initrd_size, mem, places->initrd, err);
	return r;
}

bool arm64_boot_holds(const struct boot *boot, struct mem *mem, const struct boot_places *places, const char *text)
{
	struct mem_ref ref;
	bool found;

	if (boot->kernel.aarch32)
		return true;
	if (mem_map(mem, places->kernel, boot->kernel.size, false, &ref))
		return false;
	found = memmem(ref.host, boot->kernel.size, text, strlen(text));
	mem_unmap(&ref);
	return found;
}
