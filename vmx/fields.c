/* VMCS field access by encoding, from vmx/fields.def.
 *
 * An encoding has width (bits 14:13), kind (11:10), index (9:1) and access type (0: full, 1: high half of a 64-bit
 * field); all other bits are reserved [SDM3 "Encoding of VMCS Fields"]. Width, kind and the index's low six bits
 * make a key of ten bits; the static table below maps keys to rows, so that a look-up is one load. Compilation fails
 * when two rows share a key or a row contradicts its encoding.
 */
#include "vmx/fields.h"

#include "vmx/capability.h"
#include "vmx/checks.h"

#define WIDTH_16 16
#define WIDTH_32 32
#define WIDTH_64 64
#define WIDTH_N 0

static const struct vmx_field_info fields[VMX_FIELD_COUNT] = {
#define FIELD(name_, encoding_, width_, kind_, present_, text_)                                                        \
    {.encoding = encoding_, .offset = offsetof(struct vmcs, name_), .bits = WIDTH_##width_ ? WIDTH_##width_ : 64,      \
     .natural = !WIDTH_##width_, .kind = VMX_FIELD_##kind_, .present = CTL_##present_, .name = #name_, .text = text_},
#include "vmx/fields.def"
#undef FIELD
};

/* Each row agrees with its encoding. */
#define WIDTH_CODE(width) ((width) == 16 ? 0 : (width) == 64 ? 1 : (width) == 32 ? 2 : 3)
#define FIELD(name, encoding, width, kind, present, text)                                                              \
    _Static_assert(WIDTH_CODE(WIDTH_##width) == ((encoding) >> 13 & 3), #name ": width and encoding disagree");        \
    _Static_assert(VMX_FIELD_##kind == ((encoding) >> 10 & 3), #name ": kind and encoding disagree");                  \
    _Static_assert(((encoding) & ~0x6c7e) == 0, #name ": encoding out of the look-up table's range");
#include "vmx/fields.def"
#undef FIELD

_Static_assert(8 + sizeof(struct vmcs) <= VMCS_SIZE, "struct vmcs does not fit its region");
_Static_assert(VMX_FIELD_COUNT < 255, "row numbers do not fit the look-up table");

#define KEY(encoding) (((encoding) >> 1 & 0x3f) | ((encoding) >> 10 & 3) << 6 | ((encoding) >> 13 & 3) << 8)

static const u8 row_of_key[1024] = {       /* row + 1 */
#define FIELD(name, encoding, ...) [KEY(encoding)] = VMX_FIELD_##name + 1,
#include "vmx/fields.def"
#undef FIELD
};

const struct vmx_field_info *vmx_field_info(unsigned field)
{
    if (field >= VMX_FIELD_COUNT)
        panic("VMCS field number %u", field);
    return &fields[field];
}

int vmx_field_find(u64 encoding)
{
    if (encoding & ~0x6c7full)             /* reserved bits, or an index that no field has */
        return -1;
    int row = row_of_key[KEY((u32)encoding)] - 1;
    if (row < 0 || (encoding & 1 && (fields[row].bits != 64 || fields[row].natural)))
        return -1;
    return row;
}

/* The row of a full encoding of a field that every CPU has, or NULL. */
static inline const struct vmx_field_info *plain_row(u64 encoding)
{
    unsigned row = row_of_key[KEY((u32)encoding)];
    if (encoding & ~0x6c7eull || row == 0 || fields[row - 1].present != CTL_ALWAYS)
        return NULL;
    return &fields[row - 1];
}

const u64 *vmx_field_plain(const struct vmcs *vmcs, u64 encoding)
{
    const struct vmx_field_info *row = plain_row(encoding);
    return LIKELY(row != NULL) ? (const u64 *)((const u8 *)vmcs + row->offset) : NULL;
}

bool vmx_field_write_plain(struct vmx_frame *frame, u64 encoding, u64 value)
{
    const struct vmx_field_info *row = plain_row(encoding);
    if (UNLIKELY(row == NULL || row->kind == VMX_FIELD_READONLY))
        return false;
    store64((u8 *)&frame->vmcs + row->offset, value & mask_low(row->bits));
    vmx_check_note_write(frame, (unsigned)(row - fields));
    return true;
}

int vmx_field_find_name(const char *name, size_t length)
{
    for (int row = 0; row < VMX_FIELD_COUNT; row++)
        if (strlen(fields[row].name) == length && memcmp(fields[row].name, name, length) == 0)
            return row;
    return -1;
}

bool vmx_field_present(const struct cpu *cpu, unsigned field)
{
    unsigned control = vmx_field_info(field)->present;
    return LIKELY(control == CTL_ALWAYS) || vmx_control_supported(cpu, control);
}

bool vmx_field_writable(const struct cpu *cpu, unsigned field)
{
    return vmx_field_info(field)->kind != VMX_FIELD_READONLY || vmx_capability(cpu, MSR_IA32_VMX_MISC) & VMX_MISC_VMWRITE_ALL;
}

void vmx_field_set(struct vmcs *vmcs, unsigned field, u64 value)
{
    const struct vmx_field_info *info = vmx_field_info(field);
    store64((u8 *)vmcs + info->offset, value & mask_low(info->bits));
}

void vmx_fields_normalise(struct vmcs *vmcs)
{
    vmcs->launched &= 1;
#define FIELD(name, encoding, width, kind, present, text) vmcs->name &= mask_low(WIDTH_##width ? WIDTH_##width : 64);
#include "vmx/fields.def"
#undef FIELD
}

bool vmx_field_read(const struct cpu *cpu, const struct vmcs *vmcs, u64 encoding, u64 *value)
{
    int row = vmx_field_find(encoding);
    if (row < 0 || !vmx_field_present(cpu, (unsigned)row))
        return false;
    *value = vmx_field_get(vmcs, (unsigned)row) >> (encoding & 1 ? 32 : 0);
    return true;
}

enum vmx_error vmx_field_write(const struct cpu *cpu, struct vmx_frame *frame, u64 encoding, u64 value)
{
    int row = vmx_field_find(encoding);
    if (row < 0 || !vmx_field_present(cpu, (unsigned)row))
        return VMX_ERROR_UNSUPPORTED_FIELD;
    if (!vmx_field_writable(cpu, (unsigned)row))
        return VMX_ERROR_VMWRITE_READ_ONLY_FIELD;
    if (encoding & 1)
        value = (u32)vmx_field_get(&frame->vmcs, (unsigned)row) | value << 32;
    vmx_field_set(&frame->vmcs, (unsigned)row, value);
    vmx_check_note_write(frame, (unsigned)row);
    return VMX_ERROR_NONE;
}

unsigned vmx_field_highest_index(const struct cpu *cpu)
{
    unsigned highest = 0;
    for (unsigned row = 0; row < VMX_FIELD_COUNT; row++) {
        unsigned index = fields[row].encoding >> 1 & 0x1ff;
        if (index > highest && vmx_field_present(cpu, row))
            highest = index;
    }
    return highest;
}

const char *vmx_error_text(unsigned number)
{
    switch (number) {
#define ERROR(number_, name, text) case number_: return text;
#include "vmx/errors.def"
#undef ERROR
    default:
        return "unknown error";
    }
}
