/* Multiboot 2. Follows "Multiboot2 Specification version 2.0": header within the first 32768 bytes, tags; the kernel is
 * entered in 32-bit mode with EAX = 0x36d76289 and EBX = the information tags. EFI entry points are passed over: there
 * are no EFI boot services here.
 */
#include "machine/loader_multiboot.h"

#include <stdlib.h>

#define HEADER_MAGIC 0xe85250d6u
#define HEADER_SEARCH 32768u
#define ENTRY_MAGIC 0x36d76289u

/* Header tags. */
enum { TAG_END, TAG_INFORMATION_REQUEST, TAG_ADDRESS, TAG_ENTRY_ADDRESS, TAG_CONSOLE, TAG_FRAMEBUFFER, TAG_MODULE_ALIGN,
       TAG_EFI_BOOT_SERVICES, TAG_EFI_ENTRY_32, TAG_EFI_ENTRY_64, TAG_RELOCATABLE };
/* Information tags. */
enum { INFO_END, INFO_COMMAND_LINE, INFO_LOADER_NAME, INFO_MODULE, INFO_BASIC_MEMORY, INFO_BOOT_DEVICE, INFO_MEMORY_MAP,
       INFO_VBE, INFO_FRAMEBUFFER, INFO_ELF_SECTIONS, INFO_APM, INFO_ACPI_OLD = 14, INFO_ACPI_NEW = 15,
       INFO_LOAD_BASE = 21 };

static i64 find_header(const struct image *kernel)
{
    u64 end = kernel->size < HEADER_SEARCH ? kernel->size : HEADER_SEARCH;
    for (u64 at = 0; at + 16 <= end; at += 8) {
        const u8 *p = kernel->data + at;
        if (load32(p) == HEADER_MAGIC && load32(p + 4) == 0 &&
            (u32)(load32(p) + load32(p + 4) + load32(p + 8) + load32(p + 12)) == 0)
            return (i64)at;
    }
    return -1;
}

bool multiboot2_probe(const struct image *kernel)
{
    return find_header(kernel) >= 0;
}

/* Can a required information request be answered? */
static bool information_known(u32 type)
{
    return type <= INFO_BASIC_MEMORY || type == INFO_MEMORY_MAP || type == INFO_ELF_SECTIONS || type == INFO_ACPI_OLD ||
           type == INFO_ACPI_NEW || type == INFO_LOAD_BASE;
}

static bool check_requests(struct loading *l, const u8 *tag, u32 size)
{
    for (u32 i = 8; i + 4 <= size; i += 4)
        if (!information_known(load32(tag + i)))
            return loader_error(l, "kernel %s: its multiboot2 header requires information of type %u, which there is none of",
                                l->kernel.name, load32(tag + i));
    return true;
}

static bool load_kernel(struct loading *l, struct multiboot *mb)
{
    const struct image *file = &l->kernel;
    u64 header = (u64)find_header(file), end = header + load32(file->data + header + 8);
    const u8 *address = NULL, *entry = NULL;
    if (end > file->size)
        return loader_error(l, "kernel %s: the multiboot2 header lies outside of the file", file->name);
    for (u64 at = header + 16; at + 8 <= end;) {
        const u8 *tag = file->data + at;
        u32 type = load16(tag), size = load32(tag + 4);
        bool required = !(load16(tag + 2) & 1);
        if (type == TAG_END)
            break;
        if (size < 8 || size > end - at)
            return loader_error(l, "kernel %s: tag %u of the multiboot2 header lies outside of it", file->name, type);
        if (type == TAG_INFORMATION_REQUEST && required && !check_requests(l, tag, size))
            return false;
        if (type == TAG_ADDRESS && size >= 24)
            address = tag;
        else if (type == TAG_ENTRY_ADDRESS && size >= 12)
            entry = tag;
        else if (required && (type == TAG_FRAMEBUFFER || type > TAG_RELOCATABLE))
            return loader_error(l, "kernel %s: its multiboot2 header requires feature %u, which there is none of",
                                file->name, type);
        at += (size + 7) & ~7u;
    }
    if (address) {
        if (!entry)
            return loader_error(l, "kernel %s: its multiboot2 header gives load addresses but no entry address",
                                file->name);
        if (!multiboot_load_raw(l, mb, header, load32(address + 8), load32(address + 12), load32(address + 16),
                                load32(address + 20)))
            return false;
    } else if (!multiboot_load_elf(l, mb)) {
        return false;
    }
    if (entry)
        mb->entry = load32(entry + 8);
    return true;
}

/* ---- the information ---------------------------------------------------------------------------------------------- */

struct tags { u8 *data; u32 size, capacity; bool full; };

/* Appends a tag of `size` bytes behind its 8-byte head; returns where to write them, NULL when full. */
static u8 *add_tag(struct tags *t, u32 type, u32 size)
{
    u32 at = (t->size + 7) & ~7u;
    if (size > t->capacity || at + 8 > t->capacity - size) {
        t->full = true;
        return NULL;
    }
    store32(t->data + at, type);
    store32(t->data + at + 4, 8 + size);
    t->size = at + 8 + size;
    return t->data + at + 8;
}

static void add_text(struct tags *t, u32 type, const char *text)
{
    u8 *p = add_tag(t, type, (u32)strlen(text) + 1);
    if (p)
        memcpy(p, text, strlen(text) + 1);
}

static void add_information(struct loading *l, struct multiboot *mb, struct tags *t)
{
    u8 *p;
    add_text(t, INFO_COMMAND_LINE, mb->command_line);
    add_text(t, INFO_LOADER_NAME, LOADER_NAME);
    for (unsigned i = 0; i < mb->module_count; i++) {
        const struct multiboot_module *module = &mb->module[i];
        u32 length = (u32)strlen(module->text) + 1;
        if ((p = add_tag(t, INFO_MODULE, 8 + length))) {
            store32(p, module->start);
            store32(p + 4, module->end);
            memcpy(p + 8, module->text, length);
        }
    }
    if ((p = add_tag(t, INFO_BASIC_MEMORY, 8))) {
        store32(p, 0x9fc00 / 1024);
        store32(p + 4, (u32)((l->layout.ram_end - 0x100000) / 1024));
    }
    if ((p = add_tag(t, INFO_MEMORY_MAP, 8 + 24 * l->memory_count))) {
        store32(p, 24);
        store32(p + 4, 0);
        for (unsigned i = 0; i < l->memory_count; i++) {
            store64(p + 8 + 24 * i, l->memory[i].start);
            store64(p + 16 + 24 * i, l->memory[i].size);
            store32(p + 24 + 24 * i, l->memory[i].type);
            store32(p + 28 + 24 * i, 0);
        }
    }
    if (mb->sections && (p = add_tag(t, INFO_ELF_SECTIONS, 12 + mb->section_count * mb->section_size))) {
        store32(p, mb->section_count);
        store32(p + 4, mb->section_size);
        store32(p + 8, mb->section_names);
        memcpy(p + 12, mb->sections, (size_t)mb->section_count * mb->section_size);
    }
    if ((p = add_tag(t, INFO_ACPI_OLD, 20)))
        memcpy(p, l->rsdp_bytes, 20);
    if ((p = add_tag(t, INFO_ACPI_NEW, 36)))
        memcpy(p, l->rsdp_bytes, 36);
    if ((p = add_tag(t, INFO_LOAD_BASE, 4)))
        store32(p, (u32)mb->start);
    (void)add_tag(t, INFO_END, 0);
}

bool multiboot2_load(struct loading *l)
{
    struct multiboot *mb = calloc(1, sizeof(*mb));
    struct tags tags = {.data = calloc(1, 256 * 1024), .capacity = 256 * 1024, .size = 8};
    u64 at = 0;
    bool ok = mb && tags.data ? load_kernel(l, mb) && multiboot_load_modules(l, mb)
                              : loader_error(l, "the host has not enough memory");
    if (ok) {
        add_information(l, mb, &tags);
        store32(tags.data, tags.size);
        at = tags.full ? 0 : loader_place_copy(l, tags.data, tags.size, 16, 0x8000, BIT(32), false);
        if (!at)
            ok = loader_error(l, "kernel %s: no room for the multiboot2 information", l->kernel.name);
    }
    if (ok) {
        loader_enter_flat32(l, mb->entry, 0x08, 0x10);
        l->m->cpu[0].core.rax = ENTRY_MAGIC;
        l->m->cpu[0].core.rbx = at;
    }
    if (mb)
        free(mb->sections);
    free(mb);
    free(tags.data);
    return ok;
}
