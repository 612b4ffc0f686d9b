/* What the loaders of multiboot 1 and 2 share: images by address fields, modules, and the section headers of ELF kernels. */
#ifndef NESTOR_MACHINE_LOADER_MULTIBOOT_H
#define NESTOR_MACHINE_LOADER_MULTIBOOT_H

#include "machine/loader.h"

/* A module in memory and the text that goes with it ("FILE arguments"). */
struct multiboot_module { u32 start, end; char text[1024]; };

struct multiboot {
    u64 entry, start, end;             /* hpa of the kernel */
    struct multiboot_module module[MACHINE_MODULES + 1];
    unsigned module_count;
    u8 *sections;                      /* ELF section headers, with addresses of what was loaded; malloc'd or NULL */
    u32 section_count, section_size, section_names;
    char command_line[4096];           /* "FILE --append" */
};

/* The address fields of both headers ("a.out kludge"): the image lies in the file so that the header at file offset
 * `header_offset` comes to `header_addr`. load_addr ~0: from the start of the file; load_end, bss_end 0: to the end of
 * the file, none. */
bool multiboot_load_raw(struct loading *l, struct multiboot *mb, u64 header_offset, u32 header_addr, u32 load_addr,
                        u32 load_end, u32 bss_end);
/* An ELF kernel, with its symbols where there is room. */
bool multiboot_load_elf(struct loading *l, struct multiboot *mb);
/* The initrd (if any) and the modules, page-aligned, above the kernel; and the command lines. */
bool multiboot_load_modules(struct loading *l, struct multiboot *mb);

#endif
