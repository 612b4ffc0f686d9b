/* See aml.h. Encodings follow [ACPI "AML Grammar Definition"] and [ACPI "Resource Data Types for ACPI"]. */
#include "machine/aml.h"

void aml_bytes(struct aml *a, const void *bytes, u32 n)
{
    if (a->overflow || n > a->capacity - a->size) {
        a->overflow = true;
        return;
    }
    memcpy(a->data + a->size, bytes, n);
    a->size += n;
}

void aml_byte(struct aml *a, u8 byte)
{
    aml_bytes(a, &byte, 1);
}

void aml_op(struct aml *a, unsigned op)
{
    if (op > 0xff)
        aml_byte(a, (u8)(op >> 8));
    aml_byte(a, (u8)op);
}

void aml_path(struct aml *a, const char *path)
{
    if (*path == '\\')
        aml_byte(a, (u8)*path++);
    unsigned segments = *path != 0;
    for (const char *p = path; *p; p++)
        segments += *p == '.';
    if (segments == 0)
        aml_byte(a, 0);
    if (segments == 2) {
        aml_byte(a, 0x2e);
    } else if (segments > 2) {
        aml_byte(a, 0x2f);
        aml_byte(a, (u8)segments);
    }
    while (*path) {
        char segment[4] = {'_', '_', '_', '_'};
        for (unsigned i = 0; i < 4 && *path && *path != '.'; i++)
            segment[i] = *path++;
        aml_bytes(a, segment, 4);
        if (*path == '.')
            path++;
    }
}

void aml_integer(struct aml *a, u64 value)
{
    static const u8 prefix[4] = {0x0a, 0x0b, 0x0c, 0x0e};
    if (value <= 1) {
        aml_byte(a, (u8)value);
        return;
    }
    unsigned log2 = value <= 0xff ? 0 : value <= 0xffff ? 1 : value <= 0xffffffff ? 2 : 3;
    aml_byte(a, prefix[log2]);
    aml_bytes(a, &value, 1u << log2);
}

void aml_string(struct aml *a, const char *text)
{
    aml_byte(a, 0x0d);
    aml_bytes(a, text, (u32)strlen(text) + 1);
}

static unsigned hex_digit(char c)
{
    return c <= '9' ? (unsigned)(c - '0') : (unsigned)(c - 'A') + 10;
}

void aml_eisa_id(struct aml *a, const char *id)
{
    unsigned vendor = ((unsigned)(id[0] - 0x40) & 31) << 10 | ((unsigned)(id[1] - 0x40) & 31) << 5 |
                      ((unsigned)(id[2] - 0x40) & 31);
    unsigned product = hex_digit(id[3]) << 12 | hex_digit(id[4]) << 8 | hex_digit(id[5]) << 4 | hex_digit(id[6]);
    const u8 bytes[5] = {0x0c, (u8)(vendor >> 8), (u8)vendor, (u8)(product >> 8), (u8)product};
    aml_bytes(a, bytes, sizeof(bytes));
}

/* ---- packages ----------------------------------------------------------------------------------------------------- */

u32 aml_open(struct aml *a, unsigned op, const char *path)
{
    aml_op(a, op);
    u32 mark = a->size;
    if (path)
        aml_path(a, path);
    return mark;
}

/* The length counts its own bytes: one up to 63, else the low four bits and one to three more bytes. */
void aml_close(struct aml *a, u32 mark)
{
    u32 content = a->size - mark;
    u8 length[4];
    u32 n = content + 1 <= 63 ? 1 : content + 2 < 1u << 12 ? 2 : content + 3 < 1u << 20 ? 3 : 4;
    u32 total = content + n;
    if (n == 1) {
        length[0] = (u8)total;
    } else {
        length[0] = (u8)((n - 1) << 6 | (total & 15));
        for (u32 i = 1; i < n; i++)
            length[i] = (u8)(total >> (8 * i - 4));
    }
    if (a->overflow || n > a->capacity - a->size) {
        a->overflow = true;
        return;
    }
    memmove(a->data + mark + n, a->data + mark, content);
    memcpy(a->data + mark, length, n);
    a->size += n;
}

u32 aml_open_method(struct aml *a, const char *path, unsigned arguments)
{
    u32 mark = aml_open(a, AML_METHOD, path);
    aml_byte(a, (u8)arguments);
    return mark;
}

u32 aml_open_package(struct aml *a, unsigned n)
{
    u32 mark = aml_open(a, AML_PACKAGE, NULL);
    aml_byte(a, (u8)n);
    return mark;
}

void aml_name_integer(struct aml *a, const char *path, u64 value)
{
    aml_op(a, AML_NAME);
    aml_path(a, path);
    aml_integer(a, value);
}

void aml_name_eisa(struct aml *a, const char *path, const char *id)
{
    aml_op(a, AML_NAME);
    aml_path(a, path);
    aml_eisa_id(a, id);
}

void aml_name_string(struct aml *a, const char *path, const char *text)
{
    aml_op(a, AML_NAME);
    aml_path(a, path);
    aml_string(a, text);
}

/* ---- resources ---------------------------------------------------------------------------------------------------- */

struct aml_resources aml_open_resources(struct aml *a, const char *path)
{
    struct aml_resources r;
    aml_op(a, AML_NAME);
    aml_path(a, path);
    r.buffer = aml_open(a, AML_BUFFER, NULL);
    aml_byte(a, 0x0b);                  /* the size as a word, known at the end */
    r.size_at = a->size;
    aml_bytes(a, (const u8[2]){0, 0}, 2);
    r.start = a->size;
    return r;
}

void aml_close_resources(struct aml *a, struct aml_resources r)
{
    aml_bytes(a, (const u8[2]){0x79, 0}, 2);    /* end tag, no checksum */
    if (!a->overflow)
        store16(a->data + r.size_at, (u16)(a->size - r.start));
    aml_close(a, r.buffer);
}

void aml_io(struct aml *a, u16 port, u8 length)
{
    const u8 d[8] = {0x47, 1, (u8)port, (u8)(port >> 8), (u8)port, (u8)(port >> 8), 1, length};
    aml_bytes(a, d, sizeof(d));
}

void aml_irq(struct aml *a, unsigned irq)
{
    const u8 d[3] = {0x22, (u8)(1u << irq), (u8)(1u << irq >> 8)};     /* edge, active high, exclusive */
    aml_bytes(a, d, sizeof(d));
}

void aml_memory32_fixed(struct aml *a, u32 base, u32 length)
{
    u8 d[12] = {0x86, 9, 0, 1};
    store32(d + 4, base);
    store32(d + 8, length);
    aml_bytes(a, d, sizeof(d));
}

/* General flags: producer, positive decode, both ends fixed. Type flags: I/O and memory as a PCI bridge has them. */
static u8 type_flags(enum aml_space space)
{
    return space == AML_SPACE_IO ? 3 : space == AML_SPACE_MEMORY ? 1 : 0;
}

void aml_word_range(struct aml *a, enum aml_space space, u16 first, u16 last)
{
    u8 d[16] = {0x88, 13, 0, (u8)space, 0x0c, type_flags(space)};
    store16(d + 8, first);
    store16(d + 10, last);
    store16(d + 14, (u16)(last - first + 1));
    aml_bytes(a, d, sizeof(d));
}

void aml_dword_range(struct aml *a, enum aml_space space, u32 first, u32 last)
{
    u8 d[26] = {0x87, 23, 0, (u8)space, 0x0c, type_flags(space)};
    store32(d + 10, first);
    store32(d + 14, last);
    store32(d + 22, last - first + 1);
    aml_bytes(a, d, sizeof(d));
}
