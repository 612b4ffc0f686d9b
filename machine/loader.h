/* Loaders: what a boot loader or firmware does before a kernel's first instruction. loader_load() recognises the kernel's
 * format and leaves memory and the bootstrap processor as that format's boot protocol says.
 *
 * All addresses here are hpa (guest-physical addresses of L1).
 */
#ifndef NESTOR_MACHINE_LOADER_H
#define NESTOR_MACHINE_LOADER_H

#include "machine/machine.h"

#define LOADER_NAME "Nestor 0.1.0"

/* Memory that is taken already, so that everything else finds a free place. */
#define LAYOUT_RANGES 128
struct layout {
    struct { u64 start, end; } used[LAYOUT_RANGES];
    unsigned count;
    u64 ram_end;               /* end of RAM below 4 GiB */
};

/* One line of the map of memory that loaders hand over; types as in e820: 1 RAM, 2 reserved, 3 ACPI, 4 NVS. */
struct memory_range { u64 start, size; u32 type; };
#define MEMORY_RANGES 8

/* What every loader gets. */
struct loading {
    struct machine *m;
    struct layout layout;
    struct image kernel;       /* config.kernel, unpacked if it was gzip'd */
    u64 rsdp;                  /* hpa of the ACPI root pointer */
    u8 rsdp_bytes[36];
    struct memory_range memory[MEMORY_RANGES];
    unsigned memory_count;
    char *message;
    size_t message_size;
};

/* Clears nothing, loads everything. False with a one-line message. With no kernel configured it says so. */
bool loader_load(struct machine *m, char *message, size_t message_size);

/* The formats. `probe` looks at the image only. */
bool linux_probe(const struct image *kernel);
bool linux_load(struct loading *l);
bool multiboot1_probe(const struct image *kernel);
bool multiboot1_load(struct loading *l);
bool multiboot2_probe(const struct image *kernel);
bool multiboot2_load(struct loading *l);
bool elf_probe(const struct image *kernel);
bool pvh_load(struct loading *l);

/* ELF: loads the PT_LOAD segments at their physical addresses. `entry` is e_entry as a physical address (translated
 * through the segment that holds it), *end the first byte behind the highest segment. */
struct elf_info {
    u64 entry, start, end;     /* hpa */
    bool is64;
    u64 pvh_entry;             /* from the Xen note, 0 when there is none */
    const u8 *sections;        /* section header table in the file, NULL when there is none */
    u32 section_count, section_size, section_names;
};
bool elf_load(struct loading *l, struct elf_info *info);

/* The message line, always false. */
bool loader_error(struct loading *l, const char *format, ...) PRINTF_LIKE(2, 3);

/* Copies to RAM and marks the place as used; error when it is not RAM or overlaps what was loaded before. `what` names
 * it in messages. */
bool loader_put(struct loading *l, const char *what, u64 hpa, const void *data, u64 size);
/* Reserves [hpa, hpa + size) likewise without writing. */
bool loader_reserve(struct loading *l, const char *what, u64 hpa, u64 size);
/* Finds `size` free bytes of RAM in [low, high), the lowest (or highest) place, aligned to a power of two, and reserves
 * them. 0 when there is none (0 is never given). */
u64 loader_place(struct loading *l, u64 size, u64 align, u64 low, u64 high, bool highest);
/* The same, then copies. */
u64 loader_place_copy(struct loading *l, const void *data, u64 size, u64 align, u64 low, u64 high, bool highest);

/* Flat 32-bit protected mode without paging at `entry`: CS 0x08 or as given, data segments, interrupts off, a GDT in
 * memory at `gdt` that says the same. */
void loader_enter_flat32(struct loading *l, u64 entry, u16 code_selector, u16 data_selector);

/* Unpacks a gzip'd image into `out` (name copied). False with a message; images without the gzip magic are refused. */
bool loader_gunzip(const struct image *in, struct image *out, u64 limit, char *message, size_t message_size);
static inline bool loader_is_gzip(const struct image *image)
{
    return image->size > 18 && image->data[0] == 0x1f && image->data[1] == 0x8b && image->data[2] == 8;
}

#endif
