/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * kernel.c - takes ELF and bzImage files apart.
 *
 * Nothing in the file is believed: each offset and length is checked against the file before it is used, and
 * each sum for overflow. Whether the places suit the guest's RAM is boot.c's business.
 */
#include "arch/x86/kernel.h"

#include <elf.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define ELF_PHDRS 256 /* more than any kernel has; bounds the work on a hostile file */
#define ELF_NOTES 1024
#define NOTE_PVH  18 /* XEN_ELFNOTE_PHYS32_ENTRY */

#define HDR_MAGIC   0x53726448 /* "HdrS" */
#define HDR_VERSION 0x020c     /* the first with xloadflags, which tell whether there is a 64-bit entry */
#define ENTRY_64    0x200
#define SECTOR      512

#define HDR_OFFSET(field) (offsetof(struct boot_params, hdr) + offsetof(struct setup_header, field))

_Static_assert(sizeof(struct boot_params) == 4096, "the zero page is a page");
_Static_assert(HDR_OFFSET(header) == 0x202 && HDR_OFFSET(init_size) == 0x260, "the protocol's offsets");

/* ELF headers of both classes in one shape. */
struct elf_file {
	bool is64;
	uint16_t type, machine, phentsize, phnum;
	uint64_t entry, phoff;
};

struct elf_phdr {
	uint32_t type;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

static int elf_read_head(const struct image *image, struct elf_file *elf, struct error *err)
{
	unsigned char ident[EI_NIDENT];
	int r = image_read(image, 0, ident, sizeof(ident), "the ELF header", err);

	if (r)
		return r;
	if (ident[EI_DATA] != ELFDATA2LSB)
		return image_error(image, err, -ENOEXEC, "a big-endian ELF file, for another architecture");
	elf->is64 = ident[EI_CLASS] == ELFCLASS64;
	if (elf->is64) {
		Elf64_Ehdr h;

		r = image_read(image, 0, &h, sizeof(h), "the ELF header", err);
		if (r)
			return r;
		*elf = (struct elf_file){ true, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry, h.e_phoff };
	} else {
		Elf32_Ehdr h;

		r = image_read(image, 0, &h, sizeof(h), "the ELF header", err);
		if (r)
			return r;
		*elf = (struct elf_file){ false, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry,
			h.e_phoff };
	}
	return 0;
}

static int elf_check(const struct image *image, const struct elf_file *elf, struct error *err)
{
	const char *machine = image_elf_machine(elf->machine);
	uint16_t phentsize = elf->is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);

	if (elf->machine != EM_X86_64 && elf->machine != EM_386) {
		if (machine)
			return image_error(image, err, -ENOEXEC, "an ELF file for %s", machine);
		return image_error(
			image, err, -ENOEXEC, "an ELF file for another architecture (machine %u)", elf->machine);
	}
	if (elf->type == ET_REL)
		return image_error(image, err, -ENOEXEC, "an ELF object file that was not linked");
	if (elf->type != ET_EXEC && elf->type != ET_DYN)
		return image_error(image, err, -ENOEXEC, "an ELF file that is no program (type %u)", elf->type);
	if (elf->phnum == 0)
		return image_error(image, err, -ENOEXEC, "an ELF file without program headers");
	if (elf->phentsize != phentsize)
		return image_error(image, err, -ENOEXEC, "damaged: ELF program headers of %u bytes, not %u",
			elf->phentsize, phentsize);
	if (elf->phnum > ELF_PHDRS)
		return image_error(image, err, -ENOEXEC, "%u ELF program headers, more than %u", elf->phnum, ELF_PHDRS);
	return 0;
}

static int elf_read_phdr(
	const struct image *image, const struct elf_file *elf, unsigned i, struct elf_phdr *phdr, struct error *err)
{
	char part[40];
	uint64_t offset;
	int r;

	snprintf(part, sizeof(part), "ELF program header %u", i);
	if (__builtin_add_overflow(elf->phoff, (uint64_t)i * elf->phentsize, &offset))
		offset = UINT64_MAX;
	if (elf->is64) {
		Elf64_Phdr p;

		r = image_read(image, offset, &p, sizeof(p), part, err);
		if (r)
			return r;
		*phdr = (struct elf_phdr){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz,
			p.p_align };
	} else {
		Elf32_Phdr p;

		r = image_read(image, offset, &p, sizeof(p), part, err);
		if (r)
			return r;
		*phdr = (struct elf_phdr){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz,
			p.p_align };
	}
	return 0;
}

/* Looks through one PT_NOTE segment, already known to lie in the file. 1: found; 0: not here; -errno. */
static int elf_find_note(const struct image *image, const struct elf_phdr *phdr, uint64_t *entry, struct error *err)
{
	uint64_t mask = phdr->align == 8 ? 7 : 3, at = 0;

	for (unsigned i = 0; i < ELF_NOTES && phdr->filesz - at >= sizeof(Elf64_Nhdr); i++) {
		uint64_t left = phdr->filesz - at - sizeof(Elf64_Nhdr), desc_at;
		uint8_t value[8] = { 0 };
		char name[4] = "";
		Elf64_Nhdr note;
		int r = image_read(image, phdr->offset + at, &note, sizeof(note), "an ELF note", err);

		if (r)
			return r;
		/* 12 bytes of header precede the name: the description's alignment counts from the note's start. */
		desc_at = (sizeof(note) + (uint64_t)note.n_namesz + mask) & ~mask;
		if (desc_at - sizeof(note) > left || note.n_descsz > left - (desc_at - sizeof(note)))
			return image_error(image, err, -ENOEXEC, "damaged: an ELF note leaves its segment");
		if (note.n_type == NOTE_PVH && note.n_namesz == 4) {
			r = image_read(image, phdr->offset + at + sizeof(note), name, 4, "an ELF note", err);
			if (r)
				return r;
		}
		if (!memcmp(name, "Xen", 4)) {
			if (note.n_descsz != 4 && note.n_descsz != 8)
				return image_error(
					image, err, -ENOEXEC, "damaged: a PVH note of %u bytes", note.n_descsz);
			r = image_read(image, phdr->offset + at + desc_at, value, note.n_descsz, "the PVH note", err);
			if (r)
				return r;
			memcpy(entry, value, sizeof(value)); /* both sides are little-endian */
			return 1;
		}
		at += (desc_at + note.n_descsz + mask) & ~mask;
		if (at > phdr->filesz)
			break;
	}
	return 0;
}

static int elf_add_segment(struct kernel *kernel, const struct elf_phdr *phdr, unsigned i, struct error *err)
{
	const struct image *image = &kernel->image;
	uint64_t end;

	if (phdr->memsz < phdr->filesz)
		return image_error(
			image, err, -ENOEXEC, "damaged: ELF segment %u is larger in the file than in memory", i);
	if (phdr->memsz == 0)
		return 0;
	if (__builtin_add_overflow(phdr->paddr, phdr->memsz, &end))
		return image_error(image, err, -ENOEXEC, "damaged: ELF segment %u ends beyond the last address", i);
	if (kernel->nr_segments == KERNEL_SEGMENTS)
		return image_error(image, err, -ENOEXEC, "more than %u ELF segments", KERNEL_SEGMENTS);
	kernel->segments[kernel->nr_segments++] =
		(struct kernel_segment){ phdr->offset, phdr->filesz, phdr->paddr, phdr->memsz };
	return 0;
}

/* Turns a virtual entry address into the physical one where the segment that holds it tells how. */
static uint64_t elf_entry_in(const struct elf_phdr *phdr, uint64_t entry)
{
	if (phdr->type == PT_LOAD && entry >= phdr->vaddr && entry - phdr->vaddr < phdr->memsz)
		return phdr->paddr + (entry - phdr->vaddr);
	return UINT64_MAX;
}

static bool in_segments(const struct kernel *kernel, uint64_t gpa)
{
	for (unsigned i = 0; i < kernel->nr_segments; i++) {
		const struct kernel_segment *segment = &kernel->segments[i];

		if (gpa >= segment->gpa && gpa - segment->gpa < segment->mem_size)
			return true;
	}
	return false;
}

/* What is left once the program headers were read: which entry, and by which way. */
static int elf_choose(struct kernel *kernel, const struct elf_file *elf, bool pvh, uint64_t pvh_entry,
	uint64_t virt_entry, struct error *err)
{
	const struct image *image = &kernel->image;

	if (kernel->nr_segments == 0)
		return image_error(image, err, -ENOEXEC, "an ELF file with nothing to load");
	if (pvh) {
		kernel->way = BOOT_PVH;
		kernel->kind = elf->is64 ? "ELF with a PVH note" : "32-bit ELF with a PVH note";
		kernel->entry = pvh_entry;
	} else if (!elf->is64 || elf->machine != EM_X86_64) {
		return image_error(image, err, -ENOEXEC, "a 32-bit ELF file without a PVH note: no way to start it");
	} else {
		kernel->way = BOOT_ELF64;
		kernel->kind = "64-bit ELF";
		/* Linux names a physical address, others may name the virtual one. */
		kernel->entry = in_segments(kernel, elf->entry) ? elf->entry : virt_entry;
	}
	if (!in_segments(kernel, kernel->entry))
		return image_error(image, err, -ENOEXEC, "damaged: the %s entry 0x%llx lies in no segment",
			pvh ? "PVH" : "ELF", (unsigned long long)(pvh ? pvh_entry : elf->entry));
	kernel->zero_rest = true;
	kernel->initrd_max = UINT32_MAX;
	kernel->cmdline_max = UINT32_MAX;
	return 0;
}

static int open_elf(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	uint64_t pvh_entry = 0, virt_entry = UINT64_MAX;
	bool pvh = false;
	struct elf_file elf = { 0 };
	int r = elf_read_head(image, &elf, err);

	if (r == 0)
		r = elf_check(image, &elf, err);
	for (unsigned i = 0; r == 0 && i < elf.phnum; i++) {
		struct elf_phdr phdr;
		char part[40];

		r = elf_read_phdr(image, &elf, i, &phdr, err);
		if (r || (phdr.type != PT_LOAD && phdr.type != PT_NOTE))
			continue;
		snprintf(part, sizeof(part), "ELF segment %u", i);
		r = image_has(image, phdr.offset, phdr.filesz, part, err);
		if (r == 0 && phdr.type == PT_LOAD) {
			r = elf_add_segment(kernel, &phdr, i, err);
			if (virt_entry == UINT64_MAX)
				virt_entry = elf_entry_in(&phdr, elf.entry);
		} else if (r == 0 && !pvh) {
			r = elf_find_note(image, &phdr, &pvh_entry, err);
			pvh = r == 1;
			r = r < 0 ? r : 0;
		}
	}
	return r ? r : elf_choose(kernel, &elf, pvh, pvh_entry, virt_entry, err);
}

/* Copies the setup header: from 0x1f1 up to 0x202 plus the byte at 0x201 (boot.rst, "The Real-Mode Kernel Header"). */
static int read_setup_header(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const uint64_t start = offsetof(struct boot_params, hdr);
	struct setup_header *hdr = &kernel->hdr;
	uint64_t end;
	int r = image_read(image, start, hdr, HDR_OFFSET(realmode_swtch) - start, "the setup header", err);

	if (r)
		return r;
	if (hdr->version < HDR_VERSION)
		return image_error(image, err, -ENOEXEC,
			"its boot protocol %u.%02u has no 64-bit entry; 2.12 or newer is needed", hdr->version >> 8,
			hdr->version & 0xff);
	end = HDR_OFFSET(header) + (hdr->jump >> 8);
	if (end < HDR_OFFSET(handover_offset))
		return image_error(image, err, -ENOEXEC, "damaged: its setup header is too short");
	if (end > start + sizeof(*hdr))
		end = start + sizeof(*hdr);
	return image_read(image, start, hdr, end - start, "the setup header", err);
}

static int check_setup_header(const struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const struct setup_header *hdr = &kernel->hdr;

	if (!(hdr->loadflags & LOADED_HIGH))
		return image_error(image, err, -ENOEXEC, "a zImage, not a bzImage");
	if (!(hdr->xloadflags & XLF_KERNEL_64))
		return image_error(image, err, -ENOEXEC, "a 32-bit kernel: it has no 64-bit entry");
	if (hdr->syssize == 0)
		return image_error(image, err, -ENOEXEC, "damaged: its kernel part is empty");
	return 0;
}

static int open_bzimage(struct kernel *kernel, struct error *err)
{
	const struct image *image = &kernel->image;
	const struct setup_header *hdr = &kernel->hdr;
	struct kernel_segment *segment = &kernel->segments[0];
	uint64_t end;
	int r = read_setup_header(kernel, err);

	if (r == 0)
		r = check_setup_header(kernel, err);
	if (r)
		return r;
	/* 0 means 4, for kernels older than the field (boot.rst). */
	segment->offset = ((hdr->setup_sects ? hdr->setup_sects : 4U) + 1U) * SECTOR;
	segment->file_size = (uint64_t)hdr->syssize * 16;
	/* The size counts paragraphs: the file may end inside the last one. */
	if (segment->offset < image->size && image->size - segment->offset < segment->file_size &&
		segment->file_size - (image->size - segment->offset) < 16)
		segment->file_size = image->size - segment->offset;
	r = image_has(image, segment->offset, segment->file_size, "the kernel behind the setup code", err);
	if (r)
		return r;
	segment->gpa = hdr->pref_address;
	segment->mem_size = hdr->init_size > segment->file_size ? hdr->init_size : segment->file_size;
	if (__builtin_add_overflow(segment->gpa, segment->mem_size, &end) || segment->file_size <= ENTRY_64)
		return image_error(image, err, -ENOEXEC, "damaged: its load address or size is impossible");
	kernel->nr_segments = 1;
	kernel->way = BOOT_BZIMAGE64;
	kernel->kind = "bzImage";
	kernel->entry = segment->gpa + ENTRY_64;
	kernel->initrd_max = hdr->initrd_addr_max;
	kernel->cmdline_max = hdr->cmdline_size;
	return 0;
}

static int open_unknown(const struct image *image, const uint8_t *head, uint64_t n, struct error *err)
{
	const char *what = image_recognise(head, n);

	if (what)
		return image_error(image, err, -ENOEXEC, "%s", what);
	/* A bzImage's first sector is a PE header, "MZ", or at least a boot sector. */
	if (image->size < HDR_OFFSET(realmode_swtch) && n >= 2 && !memcmp(head, "MZ", 2))
		return image_error(image, err, -ENOEXEC,
			"truncated: the file has %llu bytes and ends before a bzImage's setup header",
			(unsigned long long)image->size);
	return image_error(image, err, -ENOEXEC, "not a kernel: neither ELF nor bzImage");
}

int kernel_open(struct kernel *kernel, const char *path, struct error *err)
{
	uint8_t head[0x206] = { 0 };
	uint64_t n;
	uint32_t magic;
	int r;

	memset(kernel, 0, sizeof(*kernel));
	r = image_open(&kernel->image, "kernel", path, err);
	if (r)
		return r;
	n = kernel->image.size < sizeof(head) ? kernel->image.size : sizeof(head);
	r = image_read(&kernel->image, 0, head, n, "the first sector", err);
	if (r)
		return r;
	memcpy(&magic, head + HDR_OFFSET(header), sizeof(magic));
	if (n >= SELFMAG && !memcmp(head, ELFMAG, SELFMAG))
		return open_elf(kernel, err);
	if (n == sizeof(head) && magic == HDR_MAGIC)
		return open_bzimage(kernel, err);
	return open_unknown(&kernel->image, head, n, err);
}

void kernel_close(struct kernel *kernel)
{
	image_close(&kernel->image);
}
