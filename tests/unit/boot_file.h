/* SPDX-License-Identifier: BSD-2-Clause */
/* boot_file.h - makes small kernel files for the boot loader's tests. */
#ifndef TRAPLINE_TESTS_BOOT_FILE_H
#define TRAPLINE_TESTS_BOOT_FILE_H

#include <asm/bootparam.h>
#include <elf.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct boot_file {
	uint8_t bytes[8192];
	uint64_t size;
};

#define BOOT_FILE_CODE 0x400 /* where the payload starts in an ELF file made here */

/* Writes `size` bytes under a name of its own, which is put in `path`. */
static inline void boot_file_write(const void *bytes, uint64_t size, char path[64])
{
	int fd;

	snprintf(path, 64, "/tmp/trapline-boot-XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, size), size);
	close(fd);
}

static inline Elf64_Phdr *boot_file_phdr(struct boot_file *f, unsigned i)
{
	return (Elf64_Phdr *)(void *)(f->bytes + sizeof(Elf64_Ehdr)) + i;
}

static inline Elf64_Ehdr *boot_file_ehdr(struct boot_file *f)
{
	return (Elf64_Ehdr *)(void *)f->bytes;
}

/* One segment of 0x100 bytes, 0x1800 in memory, at `gpa`; its bytes count up from 1. */
static inline void boot_file_elf64(struct boot_file *f, uint64_t gpa)
{
	Elf64_Ehdr *h = boot_file_ehdr(f);

	memset(f, 0, sizeof(*f));
	memcpy(h->e_ident, ELFMAG, SELFMAG);
	h->e_ident[EI_CLASS] = ELFCLASS64;
	h->e_ident[EI_DATA] = ELFDATA2LSB;
	h->e_ident[EI_VERSION] = EV_CURRENT;
	h->e_type = ET_EXEC;
	h->e_machine = EM_X86_64;
	h->e_version = EV_CURRENT;
	h->e_entry = gpa + 0x10;
	h->e_phoff = sizeof(*h);
	h->e_ehsize = sizeof(*h);
	h->e_phentsize = sizeof(Elf64_Phdr);
	h->e_phnum = 1;
	*boot_file_phdr(f, 0) = (Elf64_Phdr){ .p_type = PT_LOAD,
		.p_offset = BOOT_FILE_CODE,
		.p_vaddr = gpa,
		.p_paddr = gpa,
		.p_filesz = 0x100,
		.p_memsz = 0x1800,
		.p_align = 0x1000 };
	for (unsigned i = 0; i < 0x100; i++)
		f->bytes[BOOT_FILE_CODE + i] = (uint8_t)(i + 1);
	f->size = BOOT_FILE_CODE + 0x100;
}

/* Adds a note segment: a foreign note first, then PVH's, both aligned to `align`. Returns where PVH's value lies. */
static inline uint64_t boot_file_note(struct boot_file *f, uint64_t entry, unsigned align, uint32_t value_size)
{
	const uint64_t at = 0x200;
	uint64_t mask = align - 1, p = at, value;
	Elf64_Nhdr gnu = { 4, 6, 3 }, xen = { 4, value_size, 18 };

	memcpy(f->bytes + p, &gnu, sizeof(gnu));
	memcpy(f->bytes + p + sizeof(gnu), "GNU", 4);
	p = (p + sizeof(gnu) + 4 + mask) & ~mask;
	p = (p + 6 + mask) & ~mask;
	memcpy(f->bytes + p, &xen, sizeof(xen));
	memcpy(f->bytes + p + sizeof(xen), "Xen", 4);
	value = (p + sizeof(xen) + 4 + mask) & ~mask;
	memcpy(f->bytes + value, &entry, value_size);
	*boot_file_phdr(f, boot_file_ehdr(f)->e_phnum++) = (Elf64_Phdr){ .p_type = PT_NOTE,
		.p_offset = at,
		.p_filesz = value + value_size - at,
		.p_memsz = value + value_size - at,
		.p_align = align };
	return value;
}

static inline void boot_file_elf32(struct boot_file *f, uint32_t gpa)
{
	Elf32_Ehdr h = { .e_type = ET_EXEC,
		.e_machine = EM_386,
		.e_version = EV_CURRENT,
		.e_entry = gpa + 0x10,
		.e_phoff = sizeof(h),
		.e_ehsize = sizeof(h),
		.e_phentsize = sizeof(Elf32_Phdr),
		.e_phnum = 2 };
	Elf32_Phdr load = { .p_type = PT_LOAD,
		.p_offset = BOOT_FILE_CODE,
		.p_vaddr = gpa,
		.p_paddr = gpa,
		.p_filesz = 0x100,
		.p_memsz = 0x1800,
		.p_align = 0x1000 };
	Elf32_Phdr note = { .p_type = PT_NOTE, .p_offset = 0x200, .p_filesz = 20, .p_memsz = 20, .p_align = 4 };
	Elf64_Nhdr xen = { 4, 4, 18 };
	uint32_t entry = gpa + 0x20;

	memset(f, 0, sizeof(*f));
	memcpy(h.e_ident, ELFMAG, SELFMAG);
	h.e_ident[EI_CLASS] = ELFCLASS32;
	h.e_ident[EI_DATA] = ELFDATA2LSB;
	h.e_ident[EI_VERSION] = EV_CURRENT;
	memcpy(f->bytes, &h, sizeof(h));
	memcpy(f->bytes + sizeof(h), &load, sizeof(load));
	memcpy(f->bytes + sizeof(h) + sizeof(load), &note, sizeof(note));
	memcpy(f->bytes + 0x200, &xen, sizeof(xen));
	memcpy(f->bytes + 0x200 + sizeof(xen), "Xen", 4);
	memcpy(f->bytes + 0x200 + sizeof(xen) + 4, &entry, sizeof(entry));
	f->size = BOOT_FILE_CODE + 0x100;
}

static inline struct setup_header *boot_file_hdr(struct boot_file *f)
{
	return &((struct boot_params *)(void *)f->bytes)->hdr;
}

/* Protocol 2.15; one sector of setup code, then 0x800 bytes of kernel that count up from 1. */
static inline void boot_file_bzimage(struct boot_file *f, uint64_t gpa)
{
	struct setup_header *hdr = boot_file_hdr(f);

	memset(f, 0, sizeof(*f));
	f->bytes[0] = 'M';
	f->bytes[1] = 'Z';
	hdr->setup_sects = 1;
	hdr->syssize = 0x80;
	hdr->boot_flag = 0xaa55;
	hdr->jump = (uint16_t)(0xeb | (0x26c - 0x202) << 8);
	hdr->header = 0x53726448;
	hdr->version = 0x020f;
	hdr->loadflags = LOADED_HIGH;
	hdr->initrd_addr_max = 0x7fffffff;
	hdr->kernel_alignment = 0x200000;
	hdr->relocatable_kernel = 1;
	hdr->xloadflags = XLF_KERNEL_64;
	hdr->cmdline_size = 2047;
	hdr->pref_address = gpa;
	hdr->init_size = 0x4000;
	for (unsigned i = 0; i < 0x800; i++)
		f->bytes[1024 + i] = (uint8_t)(i + 1);
	f->size = 1024 + 0x800;
}

#endif
