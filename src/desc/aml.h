/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * aml.h - a builder of ACPI Machine Language (ACPI specification 6.4, chapter 20).
 *
 * Terms are appended in the order in which they stand in ASL. What contains other terms is opened by one
 * call and closed by aml_end(); its length is put in front when it is closed, so nothing is counted by hand.
 * The buffer grows up to a bound. Whatever goes wrong (the bound, no memory, a malformed name, an end too
 * many) sets `failed`, once and for all, and later calls do nothing: callers check once, by aml_ok().
 */
#ifndef TRAPLINE_DESC_AML_H
#define TRAPLINE_DESC_AML_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define AML_DEPTH 16

struct aml_open {
	size_t at;    /* where its contents start */
	uint8_t kind; /* aml.c's */
};

struct aml {
	uint8_t *buf;
	size_t len, size, max; /* bytes: used, allocated, allowed */
	bool failed;
	unsigned depth;
	struct aml_open open[AML_DEPTH];
};

void aml_begin(struct aml *aml, size_t max);
void aml_free(struct aml *aml);
/* Nothing has failed and nothing is left open. */
bool aml_ok(const struct aml *aml);
/* Bytes as they are. */
void aml_raw(struct aml *aml, const void *bytes, size_t len);

/*
 * Names are paths as in ASL: "\\_SB.PCI0", "^FOO", "_CRS". Segments of fewer than four letters are padded.
 */
void aml_scope(struct aml *aml, const char *path);                                  /* open */
void aml_device(struct aml *aml, const char *name);                                 /* open */
void aml_method(struct aml *aml, const char *name, unsigned args, bool serialized); /* open; args 0-7 */
void aml_if(struct aml *aml);                                                       /* open; a predicate comes first */
void aml_else(struct aml *aml);                                                     /* open; right after an If's end */
void aml_package(struct aml *aml, unsigned elements); /* open; 0-255, as many terms follow */
void aml_resources(struct aml *aml);                  /* open: a ResourceTemplate; the end tag is added by aml_end() */
void aml_end(struct aml *aml);

/* Name (name, ...): the object's term comes next. */
void aml_name(struct aml *aml, const char *name);
void aml_path(struct aml *aml, const char *path);   /* a reference */
void aml_int(struct aml *aml, uint64_t value);      /* of the least width that holds it */
void aml_string(struct aml *aml, const char *text); /* ASCII */
void aml_buffer(struct aml *aml, const void *bytes, size_t len);
/* The compressed form of "PNP0501": three capital letters, four hexadecimal digits. */
void aml_eisaid(struct aml *aml, const char *id);
/* An EISA id where `hid` has the form of one, else a string ("ACPI0007"). */
void aml_hid(struct aml *aml, const char *hid);
/* The 16 bytes of "33db4d5b-1ff7-401c-9657-7441c03dd766", in the mixed order that ToUUID() gives. */
void aml_uuid(struct aml *aml, const char *uuid);

/* Name (name, value) in one call. */
void aml_name_int(struct aml *aml, const char *name, uint64_t value);
void aml_name_string(struct aml *aml, const char *name, const char *text);

/* Statements and expressions: the operands' terms come next, in order. */
void aml_arg(struct aml *aml, unsigned n);   /* Arg0-Arg6 */
void aml_local(struct aml *aml, unsigned n); /* Local0-Local7 */
void aml_return(struct aml *aml);            /* a value */
void aml_equal(struct aml *aml);             /* LEqual: two operands */
void aml_or(struct aml *aml);                /* two operands and a target */
void aml_and(struct aml *aml);               /* likewise */
void aml_store(struct aml *aml);             /* source, target */
/* CreateDWordField (Arg`arg`, offset, name). */
void aml_create_dword_field(struct aml *aml, unsigned arg, uint64_t offset, const char *name);

/* Resource descriptors (6.4), inside aml_resources(). Addresses and lengths in bytes; lengths above 0. */
enum aml_window { AML_BUS_NUMBERS = 2, AML_IO = 1, AML_MEMORY = 0 };

void aml_res_io(struct aml *aml, uint16_t base, uint8_t len);        /* 16-bit decode, fixed place */
void aml_res_irq(struct aml *aml, unsigned line);                    /* IRQNoFlags: ISA, edge, high; 0-15 */
void aml_res_memory32(struct aml *aml, uint32_t base, uint32_t len); /* Memory32Fixed, writable */
/*
 * Word, DWord or QWord address space, whichever holds the range and its kind; `producer`: a bridge's window, which
 * it passes on; else what the device itself answers.
 */
void aml_res_window(struct aml *aml, enum aml_window kind, bool producer, uint64_t base, uint64_t len);
/* Extended Interrupt, consumer, active high. */
void aml_res_interrupt(struct aml *aml, uint32_t gsi, bool level, bool shared);

#endif
