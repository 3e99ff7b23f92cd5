/* SPDX-License-Identifier: BSD-2-Clause */
/* elf.c - ELF headers, segments and notes, of both classes. */
#include "arch/x86/elf.h"

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#define ELF_PHDRS    256 /* more than any kernel has; bounds the work on a hostile file */
#define NOTES_IN_ONE 1024
#define NOTE_PVH     18 /* XEN_ELFNOTE_PHYS32_ENTRY */

/* ELF headers of both classes in one shape. */
struct elf_header {
	bool is64;
	uint16_t type, machine, phentsize, phnum;
	uint64_t entry, phoff;
};

struct elf_phdr {
	uint32_t type;
	uint64_t offset, vaddr, paddr, filesz, memsz, align;
};

static int elf_read_head(const struct elf_source *source, struct elf_header *elf, struct error *err)
{
	unsigned char ident[EI_NIDENT];
	int r = source->read(source, 0, ident, sizeof(ident), "the ELF header", err);

	if (r)
		return r;
	if (ident[EI_DATA] != ELFDATA2LSB)
		return image_error(source->image, err, -ENOEXEC, "a big-endian ELF file, for another architecture");
	elf->is64 = ident[EI_CLASS] == ELFCLASS64;
	if (elf->is64) {
		Elf64_Ehdr h;

		r = source->read(source, 0, &h, sizeof(h), "the ELF header", err);
		if (r)
			return r;
		*elf = (struct elf_header){ true, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry,
			h.e_phoff };
	} else {
		Elf32_Ehdr h;

		r = source->read(source, 0, &h, sizeof(h), "the ELF header", err);
		if (r)
			return r;
		*elf = (struct elf_header){ false, h.e_type, h.e_machine, h.e_phentsize, h.e_phnum, h.e_entry,
			h.e_phoff };
	}
	return 0;
}

static int elf_check(const struct image *image, const struct elf_header *elf, struct error *err)
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

static int elf_read_phdr(const struct elf_source *source, const struct elf_header *elf, unsigned i,
	struct elf_phdr *phdr, struct error *err)
{
	char part[40];
	uint64_t offset;
	int r;

	snprintf(part, sizeof(part), "ELF program header %u", i);
	if (__builtin_add_overflow(elf->phoff, (uint64_t)i * elf->phentsize, &offset))
		offset = UINT64_MAX;
	if (elf->is64) {
		Elf64_Phdr p;

		r = source->read(source, offset, &p, sizeof(p), part, err);
		if (r)
			return r;
		*phdr = (struct elf_phdr){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz,
			p.p_align };
	} else {
		Elf32_Phdr p;

		r = source->read(source, offset, &p, sizeof(p), part, err);
		if (r)
			return r;
		*phdr = (struct elf_phdr){ p.p_type, p.p_offset, p.p_vaddr, p.p_paddr, p.p_filesz, p.p_memsz,
			p.p_align };
	}
	return 0;
}

/* Looks through one PT_NOTE segment, already known to lie in the file. 1: found; 0: not here; -errno. */
static int find_note(
	const struct elf_source *source, const struct elf_note_place *place, uint64_t *entry, struct error *err)
{
	const struct image *image = source->image;
	uint64_t mask = place->align == 8 ? 7 : 3, at = 0;

	for (unsigned i = 0; i < NOTES_IN_ONE && place->size - at >= sizeof(Elf64_Nhdr); i++) {
		uint64_t left = place->size - at - sizeof(Elf64_Nhdr), desc_at;
		uint8_t value[8] = { 0 };
		char name[4] = "";
		Elf64_Nhdr note;
		int r = source->read(source, place->offset + at, &note, sizeof(note), "an ELF note", err);

		if (r)
			return r;
		/* 12 bytes of header precede the name: the description's alignment counts from the note's start. */
		desc_at = (sizeof(note) + (uint64_t)note.n_namesz + mask) & ~mask;
		if (desc_at - sizeof(note) > left || note.n_descsz > left - (desc_at - sizeof(note)))
			return image_error(image, err, -ENOEXEC, "damaged: an ELF note leaves its segment");
		if (note.n_type == NOTE_PVH && note.n_namesz == 4) {
			r = source->read(source, place->offset + at + sizeof(note), name, 4, "an ELF note", err);
			if (r)
				return r;
		}
		if (!memcmp(name, "Xen", 4)) {
			if (note.n_descsz != 4 && note.n_descsz != 8)
				return image_error(
					image, err, -ENOEXEC, "damaged: a PVH note of %u bytes", note.n_descsz);
			r = source->read(
				source, place->offset + at + desc_at, value, note.n_descsz, "the PVH note", err);
			if (r)
				return r;
			memcpy(entry, value, sizeof(value)); /* both sides are little-endian */
			return 1;
		}
		at += (desc_at + note.n_descsz + mask) & ~mask;
		if (at > place->size)
			break;
	}
	return 0;
}

static int add_segment(
	struct elf *elf, const struct elf_source *source, const struct elf_phdr *phdr, unsigned i, struct error *err)
{
	const struct image *image = source->image;
	uint64_t end;

	if (phdr->memsz < phdr->filesz)
		return image_error(
			image, err, -ENOEXEC, "damaged: ELF segment %u is larger in the file than in memory", i);
	if (phdr->memsz == 0)
		return 0;
	if (__builtin_add_overflow(phdr->paddr, phdr->memsz, &end))
		return image_error(image, err, -ENOEXEC, "damaged: ELF segment %u ends beyond the last address", i);
	if (elf->nr_segments == ELF_SEGMENTS)
		return image_error(image, err, -ENOEXEC, "more than %u ELF segments", ELF_SEGMENTS);
	elf->segments[elf->nr_segments++] =
		(struct kernel_segment){ phdr->offset, phdr->filesz, phdr->paddr, phdr->memsz };
	return 0;
}

/* Turns a virtual entry address into the physical one where the segment that holds it tells how. */
static uint64_t entry_in(const struct elf_phdr *phdr, uint64_t entry)
{
	if (phdr->type == PT_LOAD && entry >= phdr->vaddr && entry - phdr->vaddr < phdr->memsz)
		return phdr->paddr + (entry - phdr->vaddr);
	return UINT64_MAX;
}

bool elf_covers(const struct elf *elf, uint64_t gpa)
{
	for (unsigned i = 0; i < elf->nr_segments; i++) {
		const struct kernel_segment *segment = &elf->segments[i];

		if (gpa >= segment->gpa && gpa - segment->gpa < segment->mem_size)
			return true;
	}
	return false;
}

int elf_parse(struct elf *elf, const struct elf_source *source, struct error *err)
{
	uint64_t virt_entry = UINT64_MAX;
	struct elf_header head = { 0 };
	int r = elf_read_head(source, &head, err);

	if (r == 0)
		r = elf_check(source->image, &head, err);
	*elf = (struct elf){ .is64 = head.is64, .machine = head.machine, .entry = head.entry };
	for (unsigned i = 0; r == 0 && i < head.phnum; i++) {
		struct elf_phdr phdr;
		char part[40];

		r = elf_read_phdr(source, &head, i, &phdr, err);
		elf->interpreted |= r == 0 && phdr.type == PT_INTERP;
		if (r || (phdr.type != PT_LOAD && phdr.type != PT_NOTE))
			continue;
		snprintf(part, sizeof(part), "ELF segment %u", i);
		r = source->has(source, phdr.offset, phdr.filesz, part, err);
		if (r == 0 && phdr.type == PT_LOAD) {
			r = add_segment(elf, source, &phdr, i, err);
			if (virt_entry == UINT64_MAX)
				virt_entry = entry_in(&phdr, head.entry);
		} else if (r == 0 && elf->nr_notes < ELF_NOTES) {
			elf->notes[elf->nr_notes++] = (struct elf_note_place){ phdr.offset, phdr.filesz, phdr.align };
		}
	}
	if (r == 0 && elf->nr_segments == 0)
		r = image_error(source->image, err, -ENOEXEC, "an ELF file with nothing to load");
	/* Linux names a physical address, others may name the virtual one. */
	if (r == 0 && !elf_covers(elf, head.entry) && virt_entry != UINT64_MAX)
		elf->entry = virt_entry;
	return r;
}

int elf_find_pvh(const struct elf *elf, const struct elf_source *source, uint64_t *entry, struct error *err)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < elf->nr_notes; i++)
		r = find_note(source, &elf->notes[i], entry, err);
	if (r == 1 && !elf_covers(elf, *entry))
		return image_error(source->image, err, -ENOEXEC, "damaged: the PVH entry 0x%llx lies in no segment",
			(unsigned long long)*entry);
	return r;
}
