/* ELF executables, 32 and 64 bits, little-endian: their loadable segments at their physical addresses, and the PVH entry
 * point out of the Xen note.
 *
 * Sources: System V ABI "Object Files"; Xen's public/elfnote.h for note 18 (XEN_ELFNOTE_PHYS32_ENTRY).
 *
 * Kept true: every offset and size of the file is checked against its end before use.
 */
#include "machine/loader.h"

#include <stdio.h>

enum { EM_386 = 3, EM_X86_64 = 62, PT_LOAD = 1, PT_NOTE = 4, NOTE_PHYS32_ENTRY = 18 };

struct segment_header { u32 type; u64 offset, vaddr, paddr, filesz, memsz; };

bool elf_probe(const struct image *kernel)
{
    const u8 *d = kernel->data;
    return kernel->size >= 52 && memcmp(d, "\177ELF", 4) == 0 && d[5] == 1 &&
           ((d[4] == 1 && load16(d + 18) == EM_386) ||
            (d[4] == 2 && kernel->size >= 64 && (load16(d + 18) == EM_X86_64 || load16(d + 18) == EM_386)));
}

/* Program header i; false when it lies outside of the file. */
static bool program_header(const struct image *file, bool is64, unsigned i, struct segment_header *h)
{
    const u8 *d = file->data;
    u64 table = is64 ? load64(d + 32) : load32(d + 28);
    u32 size = load16(d + (is64 ? 54 : 42));
    if (size < (is64 ? 56u : 32u) || table > file->size || (u64)(i + 1) * size > file->size - table)
        return false;
    const u8 *p = d + table + (u64)i * size;
    if (is64)
        *h = (struct segment_header){load32(p), load64(p + 8), load64(p + 16), load64(p + 24), load64(p + 32), load64(p + 40)};
    else
        *h = (struct segment_header){load32(p), load32(p + 4), load32(p + 8), load32(p + 12), load32(p + 16), load32(p + 20)};
    return true;
}

/* The PHYS32_ENTRY descriptor in a note segment. */
static void find_pvh_note(const u8 *notes, u64 size, struct elf_info *info)
{
    u64 at = 0;
    while (size - at >= 12) {
        u64 name_size = load32(notes + at), desc_size = load32(notes + at + 4);
        u32 type = load32(notes + at + 8);
        u64 desc = at + 12 + ((name_size + 3) & ~3ull);
        u64 next = desc + ((desc_size + 3) & ~3ull);
        if (desc + desc_size > size)
            return;
        if (type == NOTE_PHYS32_ENTRY && name_size == 4 && memcmp(notes + at + 12, "Xen", 4) == 0 && desc_size >= 4)
            info->pvh_entry = desc_size >= 8 ? load64(notes + desc) : load32(notes + desc);
        if (next > size)
            return;
        at = next;
    }
}

bool elf_load(struct loading *l, struct elf_info *info)
{
    const struct image *file = &l->kernel;
    const u8 *d = file->data;
    bool is64 = d[4] == 2;
    unsigned count = load16(d + (is64 ? 56 : 44));
    u64 entry = is64 ? load64(d + 24) : load32(d + 24);
    *info = (struct elf_info){.is64 = is64, .start = ~0ull, .entry = entry};
    char what[300];
    snprintf(what, sizeof(what), "kernel %.200s", file->name);

    for (unsigned i = 0; i < count; i++) {
        struct segment_header h;
        if (!program_header(file, is64, i, &h))
            return loader_error(l, "%s: the ELF program headers lie outside of the file", what);
        if (h.type != PT_LOAD && h.type != PT_NOTE)
            continue;
        if (h.offset > file->size || h.filesz > file->size - h.offset)
            return loader_error(l, "%s: ELF segment %u lies outside of the file (truncated?)", what, i);
        if (h.type == PT_NOTE) {
            find_pvh_note(d + h.offset, h.filesz, info);
            continue;
        }
        if (h.memsz == 0)
            continue;
        if (h.filesz > h.memsz)
            return loader_error(l, "%s: ELF segment %u is larger in the file than in memory", what, i);
        if (!loader_reserve(l, what, h.paddr, h.memsz))
            return false;
        if (h.filesz && !bus_copy_to(&l->m->bus, h.paddr, d + h.offset, h.filesz))
            return loader_error(l, "%s: no RAM at 0x%llx", what, (unsigned long long)h.paddr);
        if (entry >= h.vaddr && entry - h.vaddr < h.memsz)
            info->entry = h.paddr + (entry - h.vaddr);
        if (h.paddr < info->start)
            info->start = h.paddr;
        if (h.paddr + h.memsz > info->end)
            info->end = h.paddr + h.memsz;
    }
    if (info->end == 0)
        return loader_error(l, "%s: the ELF file has nothing to load", what);

    u64 sections = is64 ? load64(d + 40) : load32(d + 32);
    info->section_size = load16(d + (is64 ? 58 : 46));
    info->section_count = load16(d + (is64 ? 60 : 48));
    info->section_names = load16(d + (is64 ? 62 : 50));
    u64 bytes = (u64)info->section_count * info->section_size;
    if (info->section_count && info->section_size >= (is64 ? 64u : 40u) && sections <= file->size &&
        bytes <= file->size - sections)
        info->sections = d + sections;
    else
        info->section_count = 0;
    return true;
}
