/*
 * multiboot: a multiboot 1 kernel with its modules: an ELF file, or one whose header says where it is loaded.
 *
 * Follows the Multiboot Specification 0.6.96, "The layout of Multiboot header" and "Boot information format".
 */
#include <elf.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "monitor.h"

enum { HEADER_MAGIC = 0x1badb002, HEADER_SPACE = 8192, HAS_ADDRESSES = 1 << 16 };

enum { INFO_MEMORY = 1 << 0, INFO_COMMAND_LINE = 1 << 2, INFO_MODULES = 1 << 3, INFO_MEMORY_MAP = 1 << 6, INFO_LOADER_NAME = 1 << 9 };

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_gpa, load_gpa, load_end_gpa, bss_end_gpa, entry_gpa; /* with HAS_ADDRESSES */
};

struct information {
    uint32_t flags, lower_kib, upper_kib, boot_device, command_line_gpa, module_count, modules_gpa, symbols[4];
    uint32_t map_size, map_gpa, drives_size, drives_gpa, configuration, loader_name_gpa;
};

struct module_entry {
    uint32_t from_gpa, to_gpa, words_gpa, reserved;
};

/* `size` counts what follows it. */
struct map_entry {
    uint32_t size;
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

/* What stands at GPA_MULTIBOOT_INFO. */
struct boot_area {
    struct information information;
    struct map_entry map[4];
    struct module_entry module[MODULES_MAX];
};

/* Finds the header in the file's first 8 KiB; returns its offset, or -1. */
static long find_header(int fd, const char *path, uint64_t file_size, struct header *header)
{
    static uint8_t start[HEADER_SPACE];
    uint64_t size = file_size < sizeof start ? file_size : sizeof start;
    file_read(fd, path, 0, start, size);
    for (uint64_t at = 0; at + 12 <= size; at += 4) {
        memset(header, 0, sizeof *header);
        memcpy(header, start + at, size - at < sizeof *header ? size - at : sizeof *header);
        if (header->magic == HEADER_MAGIC && header->magic + header->flags + header->checksum == 0)
            return at;
    }
    return -1;
}

bool multiboot_is_kernel(const char *path)
{
    struct header header;
    uint64_t size;
    int fd = file_open(path, &size);
    long at = find_header(fd, path, size, &header);
    close(fd);
    return at >= 0;
}

/* One piece of the kernel: `size` bytes of the file, then zeros up to `memory_size`. */
static void load_piece(struct guest *guest, int fd, const char *path, uint64_t offset, uint64_t gpa, uint64_t size, uint64_t memory_size)
{
    if (memory_size < size || gpa < MIB || gpa > guest->size || memory_size > guest->size - gpa)
        die(1, "%s: a segment of %llu bytes at 0x%llx does not lie between 1 MiB and the memory's end", path,
            (unsigned long long)memory_size, (unsigned long long)gpa);
    file_read(fd, path, offset, guest->memory + gpa, size);
    memset(guest->memory + gpa + size, 0, memory_size - size);
}

/* Loads the segments of an ELF file by their physical addresses; returns where the last one ends. */
#define LOAD_ELF(BITS)                                                                                                         \
    static uint64_t load_elf##BITS(struct guest *guest, int fd, const char *path)                                              \
    {                                                                                                                          \
        Elf##BITS##_Ehdr elf;                                                                                                  \
        uint64_t end_gpa = 0;                                                                                                  \
        file_read(fd, path, 0, &elf, sizeof elf);                                                                              \
        guest->entry_gpa = elf.e_entry;                                                                                        \
        for (unsigned i = 0; i < elf.e_phnum; i++) {                                                                           \
            Elf##BITS##_Phdr segment;                                                                                          \
            file_read(fd, path, elf.e_phoff + (uint64_t)i * elf.e_phentsize, &segment, sizeof segment);                        \
            if (segment.p_type != PT_LOAD)                                                                                     \
                continue;                                                                                                      \
            load_piece(guest, fd, path, segment.p_offset, segment.p_paddr, segment.p_filesz, segment.p_memsz);                 \
            if (segment.p_paddr + segment.p_memsz > end_gpa)                                                                   \
                end_gpa = segment.p_paddr + segment.p_memsz;                                                                   \
        }                                                                                                                      \
        return end_gpa;                                                                                                        \
    }
LOAD_ELF(32)
LOAD_ELF(64)

static uint64_t load_kernel(struct guest *guest, const char *path)
{
    struct header header;
    unsigned char ident[EI_NIDENT];
    uint64_t file_size, end_gpa;
    int fd = file_open(path, &file_size);
    long at = find_header(fd, path, file_size, &header);
    if (header.flags & HAS_ADDRESSES) {
        uint64_t offset = at - (header.header_gpa - header.load_gpa);
        uint64_t size = header.load_end_gpa ? header.load_end_gpa - header.load_gpa : file_size - offset;
        if (header.header_gpa < header.load_gpa || offset > file_size || size > file_size - offset)
            die(1, "%s: its multiboot header's addresses do not fit the file", path);
        end_gpa = header.bss_end_gpa > header.load_gpa + size ? header.bss_end_gpa : header.load_gpa + size;
        load_piece(guest, fd, path, offset, header.load_gpa, size, end_gpa - header.load_gpa);
        guest->entry_gpa = header.entry_gpa;
    } else {
        file_read(fd, path, 0, ident, sizeof ident);
        if (memcmp(ident, ELFMAG, SELFMAG) || (ident[EI_CLASS] != ELFCLASS32 && ident[EI_CLASS] != ELFCLASS64))
            die(1, "%s: neither an ELF file nor one whose multiboot header says where it is loaded", path);
        end_gpa = ident[EI_CLASS] == ELFCLASS32 ? load_elf32(guest, fd, path) : load_elf64(guest, fd, path);
    }
    close(fd);
    return end_gpa;
}

/* Puts "PATH WORDS" at gpa, which grows; returns where it stands. */
static uint32_t put_words(struct guest *guest, uint32_t *gpa, const char *path, const char *words)
{
    uint32_t at = *gpa;
    size_t space = GPA_LOW_END - at;
    int length = snprintf((char *)guest->memory + at, space, "%s%s%s", path, *words ? " " : "", words);
    if (length < 0 || (size_t)length >= space)
        die(1, "the command lines of the kernel and its modules do not fit below 640 KiB");
    *gpa += length + 1;
    return at;
}

void multiboot_load(struct guest *guest, const struct options *options)
{
    struct boot_area *area = (struct boot_area *)(guest->memory + GPA_MULTIBOOT_INFO);
    struct information *information = &area->information;
    uint32_t words_gpa = GPA_COMMAND_LINE;
    uint64_t gpa = load_kernel(guest, options->kernel);

    memset(area, 0, sizeof *area);
    information->flags = INFO_MEMORY | INFO_COMMAND_LINE | INFO_MODULES | INFO_MEMORY_MAP | INFO_LOADER_NAME;
    information->lower_kib = GPA_LOW_END / 1024;
    information->upper_kib = (guest->size - MIB) / 1024;
    information->command_line_gpa = put_words(guest, &words_gpa, "kernel", options->append);
    information->loader_name_gpa = put_words(guest, &words_gpa, "monitor", "");
    information->modules_gpa = GPA_MULTIBOOT_INFO + offsetof(struct boot_area, module);
    information->module_count = options->modules;
    for (unsigned i = 0; i < options->modules; i++) {
        uint64_t size;
        int fd = file_open(options->module[i].path, &size);
        gpa = (gpa + 0xfff) & ~0xfffull;
        if (gpa > guest->size || size > guest->size - gpa)
            die(1, "%s: %llu KiB do not fit into %llu MiB", options->module[i].path, (unsigned long long)(size / 1024),
                (unsigned long long)(guest->size / MIB));
        file_read(fd, options->module[i].path, 0, guest->memory + gpa, size);
        close(fd);
        area->module[i] = (struct module_entry){.from_gpa = gpa, .to_gpa = gpa + size,
                                                .words_gpa = put_words(guest, &words_gpa, "module", options->module[i].words)};
        gpa += size;
    }

    /* What firmware leaves in its data area: the segment where low memory ends, and its KiB. */
    const uint16_t low_segment = GPA_LOW_END >> 4, low_kib = GPA_LOW_END / 1024;
    memcpy(guest->memory + 0x40e, &low_segment, 2);
    memcpy(guest->memory + 0x413, &low_kib, 2);

    const struct { uint64_t from, to; uint32_t type; } map[] = {
        {0, GPA_LOW_END, 1}, {GPA_LOW_END, 0xa0000, 2}, {GPA_ACPI, MIB, 2}, {MIB, guest->size, 1}};
    information->map_gpa = GPA_MULTIBOOT_INFO + offsetof(struct boot_area, map);
    information->map_size = sizeof area->map;
    for (unsigned i = 0; i < 4; i++)
        area->map[i] = (struct map_entry){.size = sizeof area->map[i] - sizeof area->map[i].size, .base = map[i].from,
                                          .length = map[i].to - map[i].from, .type = map[i].type};
}
