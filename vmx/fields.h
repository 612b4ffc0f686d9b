/* The VMCS fields as VMREAD and VMWRITE see them: encoding -> member of struct vmcs, with the rules on width, halves
 * and read-only fields [SDM3 "Field Encoding in VMCS", "VMREAD, VMWRITE, and Encodings of VMCS Fields"].
 *
 * Kept true: every member holds only the bits of its architectural width.
 */
#ifndef NESTOR_VMX_FIELDS_H
#define NESTOR_VMX_FIELDS_H

#include "vmx/controls.h"
#include "vmx/errors.h"
#include "vmx/state.h"

struct cpu;

/* Identifies the layout of struct vmcs in memory (IA32_VMX_BASIC[30:0]); a new number whenever fields.def changes. */
#define VMCS_REVISION 0x4e530002u
#define VMCS_SIZE 4096u        /* bytes of a VMXON or VMCS region */
#define VMCS_SHADOW BIT(31)    /* shadow-VMCS indicator in the region's first word */

enum vmx_field_kind { VMX_FIELD_CONTROL, VMX_FIELD_READONLY, VMX_FIELD_GUEST, VMX_FIELD_HOST };
enum { VMX_WIDTH_N = 0 };      /* natural width, in the width column of fields.def */

/* Numbers of the rows of fields.def. */
enum vmx_field {
#define FIELD(name, ...) VMX_FIELD_##name,
#include "vmx/fields.def"
#undef FIELD
    VMX_FIELD_COUNT
};

struct vmx_field_info {
    u16 encoding;              /* of the full field */
    u16 offset;                /* bytes into struct vmcs */
    u8 bits;                   /* architectural width: 16, 32 or 64 */
    u8 natural;                /* 64 because the processor is: the field is of natural width */
    u8 kind;                   /* enum vmx_field_kind */
    u8 present;                /* enum vmx_control that must be supported, or CTL_ALWAYS, CTL_NEVER */
    const char *name;          /* as in struct vmcs */
    const char *text;          /* the SDM's name */
};

/* Rows by number; NULL never. */
const struct vmx_field_info *vmx_field_info(unsigned field);
/* The row that a (full or high) encoding names, or -1. Bits 63:32 count: an encoding beyond 32 bits names nothing. */
int vmx_field_find(u64 encoding);
/* The row of the member called so, or -1. */
int vmx_field_find_name(const char *name, size_t length);
/* The field exists on this CPU. */
bool vmx_field_present(const struct cpu *cpu, unsigned field);

static inline u64 vmx_field_get(const struct vmcs *vmcs, unsigned field)
{
    return load64((const u8 *)vmcs + vmx_field_info(field)->offset);
}
/* VMWRITE may change it: not one of the VM-exit information fields, or IA32_VMX_MISC[29] lets them be written. */
bool vmx_field_writable(const struct cpu *cpu, unsigned field);
/* Stores what fits the field's width. */
void vmx_field_set(struct vmcs *vmcs, unsigned field, u64 value);

/* Makes what was read from memory, where software may have written anything, a VMCS again: each field keeps the bits
 * of its width. */
void vmx_fields_normalise(struct vmcs *vmcs);

/* VMREAD of an encoding: false when there is no such field (error 12). */
bool vmx_field_read(const struct cpu *cpu, const struct vmcs *vmcs, u64 encoding, u64 *value);
/* VMWRITE to the current VMCS of a frame; `value` is the source operand, zero-extended. VMX_ERROR_NONE,
 * VMX_ERROR_UNSUPPORTED_FIELD or VMX_ERROR_VMWRITE_READ_ONLY_FIELD. Entry checks that depend on the field will be
 * made again. */
enum vmx_error vmx_field_write(const struct cpu *cpu, struct vmx_frame *frame, u64 encoding, u64 value);
/* The same for what is asked most often: the full encoding of a field that every CPU has, and that may be written. NULL, false: it is not;
 * nothing was done. */
const u64 *vmx_field_plain(const struct vmcs *vmcs, u64 encoding);
bool vmx_field_write_plain(struct vmx_frame *frame, u64 encoding, u64 value);

/* The highest index among the fields present, for IA32_VMX_VMCS_ENUM[9:1]. */
unsigned vmx_field_highest_index(const struct cpu *cpu);

#endif
