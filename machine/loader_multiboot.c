/* Multiboot 1, and what it shares with multiboot 2.
 *
 * Follows "Multiboot Specification version 0.6.96": header within the first 8192 bytes, ELF or address fields, modules,
 * memory map, command line, section headers of ELF kernels. The kernel is entered with EAX = 0x2badb002 and EBX = the
 * information structure. As with other loaders, command lines begin with the file's name.
 */
#include "machine/loader_multiboot.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- shared ------------------------------------------------------------------------------------------------------- */

bool multiboot_load_raw(struct loading *l, struct multiboot *mb, u64 header_offset, u32 header_addr, u32 load_addr,
                        u32 load_end, u32 bss_end)
{
    const struct image *file = &l->kernel;
    const char *name = file->name;
    if (load_addr == 0xffffffff)
        load_addr = header_addr - (u32)header_offset;
    if (load_addr > header_addr || header_addr - load_addr > header_offset)
        return loader_error(l, "kernel %s: the multiboot header's load_addr 0x%x does not agree with header_addr 0x%x",
                            name, load_addr, header_addr);
    u64 from = header_offset - (header_addr - load_addr);
    u64 size = load_end ? (u64)load_end - load_addr : file->size - from;
    if ((load_end && load_end < load_addr) || size > file->size - from)
        return loader_error(l, "kernel %s: the multiboot header's load_end_addr 0x%x lies behind the end of the file",
                            name, load_end);
    u64 end = bss_end > load_addr + size ? bss_end : load_addr + size;
    if (!loader_reserve(l, name, load_addr, end - load_addr))
        return false;
    if (size && !bus_copy_to(&l->m->bus, load_addr, file->data + from, size))
        return loader_error(l, "kernel %s: no RAM at 0x%x", name, load_addr);
    mb->start = load_addr;
    mb->end = end;
    return true;
}

/* Symbols and strings go behind the kernel, and the copy of the section headers says where. */
static void load_sections(struct loading *l, struct multiboot *mb, const struct elf_info *info)
{
    const struct image *file = &l->kernel;
    u64 bytes = (u64)info->section_count * info->section_size;
    if (!info->sections || bytes > 65536)
        return;
    mb->sections = malloc(bytes);
    if (!mb->sections)
        return;
    memcpy(mb->sections, info->sections, bytes);
    mb->section_count = info->section_count;
    mb->section_size = info->section_size;
    mb->section_names = info->section_names;
    for (u32 i = 0; i < info->section_count; i++) {
        u8 *h = mb->sections + (u64)i * info->section_size;
        u32 type = load32(h + 4);
        u64 address = info->is64 ? load64(h + 16) : load32(h + 12);
        u64 offset = info->is64 ? load64(h + 24) : load32(h + 16);
        u64 size = info->is64 ? load64(h + 32) : load32(h + 20);
        bool wanted = (type == 2 || type == 3) && address == 0 && size > 0;     /* SHT_SYMTAB, SHT_STRTAB */
        if (!wanted || offset > file->size || size > file->size - offset)
            continue;
        u64 at = loader_place_copy(l, file->data + offset, size, 16, mb->end, BIT(32), false);
        if (info->is64)
            store64(h + 16, at);
        else
            store32(h + 12, (u32)at);
        if (at && at + size > mb->end)
            mb->end = at + size;
    }
}

bool multiboot_load_elf(struct loading *l, struct multiboot *mb)
{
    struct elf_info info;
    if (!elf_probe(&l->kernel))
        return loader_error(l, "kernel %s: a multiboot kernel without address fields must be an x86 ELF file",
                            l->kernel.name);
    if (!elf_load(l, &info))
        return false;
    mb->entry = info.entry;
    mb->start = info.start;
    mb->end = info.end;
    load_sections(l, mb, &info);
    return true;
}

static bool load_module(struct loading *l, struct multiboot *mb, const char *what, const struct image *image,
                        const char *arguments)
{
    u64 low = mb->end > 0x100000 ? mb->end : 0x100000;
    struct multiboot_module *module = &mb->module[mb->module_count];
    u64 at = loader_place_copy(l, image->data, image->size ? image->size : 1, PAGE_SIZE, low, BIT(32), false);
    if (!at)
        return loader_error(l, "%s %s: its %llu bytes do not fit into memory: give more --memory", what, image->name,
                            (unsigned long long)image->size);
    int n = snprintf(module->text, sizeof(module->text), "%s%s%s", image->name, *arguments ? " " : "", arguments);
    if (n < 0 || (size_t)n >= sizeof(module->text))
        return loader_error(l, "%s %s: its command line is longer than %zu bytes", what, image->name,
                            sizeof(module->text) - 1);
    module->start = (u32)at;
    module->end = (u32)(at + image->size);
    mb->module_count++;
    return true;
}

bool multiboot_load_modules(struct loading *l, struct multiboot *mb)
{
    const struct machine_config *config = &l->m->config;
    if (config->initrd.size && !load_module(l, mb, "initrd", &config->initrd, ""))
        return false;
    for (unsigned i = 0; i < config->module_count; i++)
        if (!load_module(l, mb, "module", &config->module[i].image, config->module[i].arguments))
            return false;
    int n = snprintf(mb->command_line, sizeof(mb->command_line), "%s%s%s", config->kernel.name,
                     *config->append ? " " : "", config->append);
    if (n < 0 || (size_t)n >= sizeof(mb->command_line))
        return loader_error(l, "--append: the command line is longer than %zu bytes", sizeof(mb->command_line) - 1);
    return true;
}

/* ---- multiboot 1 -------------------------------------------------------------------------------------------------- */

#define HEADER_MAGIC 0x1badb002u
#define HEADER_SEARCH 8192u
#define HEADER_ADDRESSES BIT(16)
#define ENTRY_MAGIC 0x2badb002u

/* What the information structure's flags say is there. */
enum { INFO_MEMORY = 1 << 0, INFO_COMMAND_LINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_ELF_SECTIONS = 1 << 5,
       INFO_MEMORY_MAP = 1 << 6, INFO_LOADER_NAME = 1 << 9 };

/* File offset of the header, or -1. */
static i64 find_header(const struct image *kernel)
{
    u64 end = kernel->size < HEADER_SEARCH ? kernel->size : HEADER_SEARCH;
    for (u64 at = 0; at + 12 <= end; at += 4) {
        const u8 *p = kernel->data + at;
        if (load32(p) == HEADER_MAGIC && (u32)(load32(p) + load32(p + 4) + load32(p + 8)) == 0)
            return (i64)at;
    }
    return -1;
}

bool multiboot1_probe(const struct image *kernel)
{
    return find_header(kernel) >= 0;
}

static bool load_kernel(struct loading *l, struct multiboot *mb)
{
    u64 at = (u64)find_header(&l->kernel);
    const u8 *header = l->kernel.data + at;
    u32 flags = load32(header + 4);
    if (flags & 0xfff8)
        return loader_error(l, "kernel %s: its multiboot header requires features 0x%x that no loader knows",
                            l->kernel.name, flags & 0xfff8u);
    if (!(flags & HEADER_ADDRESSES))
        return multiboot_load_elf(l, mb);
    if (l->kernel.size - at < 32)
        return loader_error(l, "kernel %s: the file ends inside the multiboot header", l->kernel.name);
    mb->entry = load32(header + 28);
    return multiboot_load_raw(l, mb, at, load32(header + 12), load32(header + 16), load32(header + 20),
                              load32(header + 24));
}

/* A string or table in low memory; 0 with the message set when there is no room. */
static u32 put_low(struct loading *l, const void *data, u64 size)
{
    u64 at = loader_place_copy(l, data, size, 16, 0x8000, 0xa0000, false);
    if (!at)
        loader_error(l, "no room below 640 KiB for the multiboot information");
    return (u32)at;
}

static bool write_information(struct loading *l, struct multiboot *mb, u32 *information)
{
    u8 info[120] = {0}, modules[16 * (MACHINE_MODULES + 1)] = {0}, map[24 * MEMORY_RANGES] = {0};
    u32 flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME;
    u32 text, at;

    for (unsigned i = 0; i < mb->module_count; i++) {
        const struct multiboot_module *module = &mb->module[i];
        if (!(text = put_low(l, module->text, strlen(module->text) + 1)))
            return false;
        store32(modules + 16 * i, module->start);
        store32(modules + 16 * i + 4, module->end);
        store32(modules + 16 * i + 8, text);
    }
    for (unsigned i = 0; i < l->memory_count; i++) {
        u8 *entry = map + 24 * i;
        store32(entry, 20);
        store64(entry + 4, l->memory[i].start);
        store64(entry + 12, l->memory[i].size);
        store32(entry + 20, l->memory[i].type);
    }
    store32(info + 4, 0x9fc00 / 1024);
    store32(info + 8, (u32)((l->layout.ram_end - 0x100000) / 1024));
    if (!(text = put_low(l, mb->command_line, strlen(mb->command_line) + 1)))
        return false;
    store32(info + 16, text);
    store32(info + 20, mb->module_count);
    if (mb->module_count) {
        if (!(at = put_low(l, modules, 16 * mb->module_count)))
            return false;
        store32(info + 24, at);
    }
    if (mb->sections) {
        u64 size = (u64)mb->section_count * mb->section_size;
        u64 place = loader_place_copy(l, mb->sections, size, 16, 0x8000, BIT(32), false);
        if (place) {
            flags |= INFO_ELF_SECTIONS;
            store32(info + 28, mb->section_count);
            store32(info + 32, mb->section_size);
            store32(info + 36, (u32)place);
            store32(info + 40, mb->section_names);
        }
    }
    if (!(at = put_low(l, map, 24 * l->memory_count)))
        return false;
    store32(info + 44, 24 * l->memory_count);
    store32(info + 48, at);
    if (!(text = put_low(l, LOADER_NAME, sizeof(LOADER_NAME))))
        return false;
    store32(info + 64, text);
    store32(info, flags);
    *information = put_low(l, info, sizeof(info));
    return *information != 0;
}

bool multiboot1_load(struct loading *l)
{
    struct multiboot *mb = calloc(1, sizeof(*mb));
    if (!mb)
        return loader_error(l, "the host has not enough memory");
    u32 information = 0;
    bool ok = load_kernel(l, mb) && multiboot_load_modules(l, mb) && write_information(l, mb, &information);
    if (ok) {
        loader_enter_flat32(l, mb->entry, 0x08, 0x10);
        l->m->cpu[0].core.rax = ENTRY_MAGIC;
        l->m->cpu[0].core.rbx = information;
    }
    free(mb->sections);
    free(mb);
    return ok;
}
