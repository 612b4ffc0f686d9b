/* A small builder of ACPI Machine Language [ACPI "ACPI Machine Language (AML) Specification"]: enough for a static board.
 *
 * Packages whose length is not known yet are opened with aml_open() and closed with aml_close(), which moves their content
 * behind the length. A buffer that is full remembers it (`overflow`) and takes nothing more.
 */
#ifndef NESTOR_MACHINE_AML_H
#define NESTOR_MACHINE_AML_H

#include "cpu/base.h"

struct aml { u8 *data; u32 size, capacity; bool overflow; };

enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_SCOPE = 0x10, AML_BUFFER = 0x11, AML_PACKAGE = 0x12,
       AML_METHOD = 0x14, AML_STORE = 0x70, AML_IF = 0xa0, AML_RETURN = 0xa4, AML_LOCAL0 = 0x60, AML_ARG0 = 0x68,
       AML_EXT_DEVICE = 0x5b82 };

void aml_byte(struct aml *a, u8 byte);
void aml_bytes(struct aml *a, const void *bytes, u32 n);
/* An operator; two bytes for the extended ones (0x5bxx). */
void aml_op(struct aml *a, unsigned op);
/* A name path: "\_SB_.PCI0", "_HID", … segments are padded with '_'. */
void aml_path(struct aml *a, const char *path);
void aml_integer(struct aml *a, u64 value);
void aml_string(struct aml *a, const char *text);
/* The compressed EISA id of "PNP0A03" as an integer. */
void aml_eisa_id(struct aml *a, const char *id);

/* Opens a construct with a package length: `op`, then the name path if not NULL. Returns a mark for aml_close. */
u32 aml_open(struct aml *a, unsigned op, const char *path);
void aml_close(struct aml *a, u32 mark);
/* Method (path, arguments) { … aml_close. */
u32 aml_open_method(struct aml *a, const char *path, unsigned arguments);
/* Package (n) { … aml_close. */
u32 aml_open_package(struct aml *a, unsigned n);

/* Name (path, integer | EISA id | string). */
void aml_name_integer(struct aml *a, const char *path, u64 value);
void aml_name_eisa(struct aml *a, const char *path, const char *id);
void aml_name_string(struct aml *a, const char *path, const char *text);

/* Name (path, ResourceTemplate () { … aml_close_resources. */
struct aml_resources { u32 buffer, size_at, start; };
struct aml_resources aml_open_resources(struct aml *a, const char *path);
void aml_close_resources(struct aml *a, struct aml_resources r);
void aml_io(struct aml *a, u16 port, u8 length);
void aml_irq(struct aml *a, unsigned irq);
void aml_memory32_fixed(struct aml *a, u32 base, u32 length);
enum aml_space { AML_SPACE_MEMORY = 0, AML_SPACE_IO = 1, AML_SPACE_BUS = 2 };
/* Address-space descriptors that a bridge passes on: words, double words. */
void aml_word_range(struct aml *a, enum aml_space space, u16 first, u16 last);
void aml_dword_range(struct aml *a, enum aml_space space, u32 first, u32 last);

#endif
