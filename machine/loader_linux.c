/* Linux bzImages by the 32-bit boot protocol: the protected-mode kernel in memory, boot_params ("zero page") filled in as
 * the real-mode part would have done, entry at the start of the kernel with ESI = boot_params. The kernel switches to
 * 64-bit mode by itself; kernels that can only be entered in 64-bit mode do not exist as bzImages.
 *
 * Follows Linux's Documentation/arch/x86/boot.rst (protocol 2.06 and later) and zero-page.rst.
 */
#include "machine/loader.h"

#include <stdlib.h>

/* Offsets in the file's setup header, which are the same in boot_params. */
enum {
    SETUP_SECTS = 0x1f1, SETUP_SYSSIZE = 0x1f4, SETUP_BOOT_FLAG = 0x1fe,
    SETUP_JUMP = 0x200, SETUP_MAGIC = 0x202, SETUP_VERSION = 0x206,
    SETUP_TYPE_OF_LOADER = 0x210, SETUP_LOADFLAGS = 0x211, SETUP_CODE32_START = 0x214, SETUP_RAMDISK_IMAGE = 0x218,
    SETUP_RAMDISK_SIZE = 0x21c, SETUP_HEAP_END = 0x224, SETUP_CMD_LINE_PTR = 0x228, SETUP_INITRD_MAX = 0x22c,
    SETUP_KERNEL_ALIGNMENT = 0x230, SETUP_RELOCATABLE = 0x234, SETUP_CMDLINE_SIZE = 0x238, SETUP_PREF_ADDRESS = 0x258,
    SETUP_INIT_SIZE = 0x260, SETUP_HEADER_END = 0x268,
};
/* Offsets of the rest of boot_params. */
enum { PARAMS_RSDP = 0x070, PARAMS_ALT_MEM_K = 0x1e0, PARAMS_E820_ENTRIES = 0x1e8, PARAMS_E820_TABLE = 0x2d0 };

#define LOADED_HIGH 1u
#define UNDEFINED_LOADER 0xffu
#define SECTOR 512u

bool linux_probe(const struct image *kernel)
{
    return kernel->size > SETUP_HEADER_END && load16(kernel->data + SETUP_BOOT_FLAG) == 0xaa55 &&
           memcmp(kernel->data + SETUP_MAGIC, "HdrS", 4) == 0;
}

/* Where the protected-mode kernel goes: its preferred address, moved up if that is taken and it can be moved. */
static u64 place_kernel(struct loading *l, u64 size)
{
    const u8 *d = l->kernel.data;
    unsigned version = load16(d + SETUP_VERSION);
    u64 room = size;
    if (version >= 0x20a && load32(d + SETUP_INIT_SIZE) > room)
        room = load32(d + SETUP_INIT_SIZE);
    if (version >= 0x20a && d[SETUP_RELOCATABLE]) {
        u64 align = load32(d + SETUP_KERNEL_ALIGNMENT), preferred = load64(d + SETUP_PREF_ADDRESS);
        if (align < PAGE_SIZE || (align & (align - 1)) || align > 1u << 30)
            align = 1u << 21;
        u64 at = preferred < BIT(32) ? loader_place(l, room, align, preferred, BIT(32), false) : 0;
        if (!at)
            at = loader_place(l, room, align, 0x100000, BIT(32), false);
        if (!at)
            loader_error(l, "kernel %s: it needs %llu MiB at once: give more --memory", l->kernel.name,
                         (unsigned long long)(room >> 20) + 1);
        return at;
    }
    return loader_reserve(l, l->kernel.name, 0x100000, room) ? 0x100000 : 0;
}

static bool put_initrd(struct loading *l, u8 *params)
{
    const struct image *initrd = &l->m->config.initrd;
    if (initrd->size == 0)
        return true;
    u64 limit = (u64)load32(l->kernel.data + SETUP_INITRD_MAX) + 1;
    u64 at = loader_place_copy(l, initrd->data, initrd->size, PAGE_SIZE, 0x100000, limit, true);
    if (!at)
        return loader_error(l, "initrd %s: its %llu bytes do not fit into memory beside the kernel: give more --memory",
                            initrd->name, (unsigned long long)initrd->size);
    store32(params + SETUP_RAMDISK_IMAGE, (u32)at);
    store32(params + SETUP_RAMDISK_SIZE, (u32)initrd->size);
    return true;
}

static bool put_command_line(struct loading *l, u8 *params)
{
    const char *line = l->m->config.append;
    u64 size = strlen(line) + 1, limit = load32(l->kernel.data + SETUP_CMDLINE_SIZE);
    if (size > limit + 1)
        return loader_error(l, "--append: %llu bytes; this kernel takes a command line of at most %llu",
                            (unsigned long long)size - 1, (unsigned long long)limit);
    u64 at = loader_place_copy(l, line, size, 16, 0x10000, 0x9fc00, false);
    if (!at)
        return loader_error(l, "--append: no room for a command line of %llu bytes", (unsigned long long)size);
    store32(params + SETUP_CMD_LINE_PTR, (u32)at);
    return true;
}

static void put_memory_map(struct loading *l, u8 *params)
{
    for (unsigned i = 0; i < l->memory_count; i++) {
        u8 *entry = params + PARAMS_E820_TABLE + 20 * i;
        store64(entry, l->memory[i].start);
        store64(entry + 8, l->memory[i].size);
        store32(entry + 16, l->memory[i].type);
    }
    params[PARAMS_E820_ENTRIES] = (u8)l->memory_count;
    store32(params + PARAMS_ALT_MEM_K, (u32)((l->layout.ram_end - 0x100000) >> 10));
}

bool linux_load(struct loading *l)
{
    const u8 *d = l->kernel.data;
    const char *name = l->kernel.name;
    unsigned version = load16(d + SETUP_VERSION);
    u64 setup = (u64)((d[SETUP_SECTS] ? d[SETUP_SECTS] : 4) + 1) * SECTOR;
    if (version < 0x206 || !(d[SETUP_LOADFLAGS] & LOADED_HIGH))
        return loader_error(l, "kernel %s: boot protocol %u.%02u; expected a bzImage of protocol 2.06 or later", name,
                            version >> 8, version & 0xff);
    if (setup >= l->kernel.size || l->kernel.size - setup + 15 < (u64)load32(d + SETUP_SYSSIZE) * 16)
        return loader_error(l, "kernel %s: the file ends before the protected-mode kernel does (truncated?)", name);
    if (l->m->config.module_count)
        return loader_error(l, "--module %s: a Linux bzImage takes --initrd, not modules",
                            l->m->config.module[0].image.name);

    u64 size = l->kernel.size - setup;
    u64 start = place_kernel(l, size);
    if (!start)
        return false;
    if (!bus_copy_to(&l->m->bus, start, d + setup, size))
        return loader_error(l, "kernel %s: no RAM at 0x%llx", name, (unsigned long long)start);

    u8 params[PAGE_SIZE] = {0};
    u64 header_end = SETUP_JUMP + 2u + d[SETUP_JUMP + 1];
    if (header_end > 0x290)
        header_end = 0x290;                             /* what follows in boot_params is not the header's */
    if (header_end > l->kernel.size)
        header_end = l->kernel.size;
    memcpy(params + SETUP_SECTS, d + SETUP_SECTS, header_end - SETUP_SECTS);
    params[SETUP_TYPE_OF_LOADER] = UNDEFINED_LOADER;
    store32(params + SETUP_CODE32_START, (u32)start);
    store64(params + PARAMS_RSDP, l->rsdp);
    put_memory_map(l, params);
    if (!put_initrd(l, params) || !put_command_line(l, params))
        return false;
    u64 at = loader_place_copy(l, params, sizeof(params), PAGE_SIZE, 0x10000, 0x9fc00, false);
    if (!at)
        return loader_error(l, "kernel %s: no room for its boot parameters below 640 KiB", name);
    loader_enter_flat32(l, start, 0x10, 0x18);
    l->m->cpu[0].core.rsi = at;
    return true;
}
