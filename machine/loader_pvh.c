/* ELF kernels with a PVH entry (a Xen note of type 18): Linux's vmlinux, and many unikernels.
 *
 * Follows Xen's docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h, version 1: 32-bit flat protected mode, EBX = the
 * start information.
 */
#include "machine/loader.h"

#define START_MAGIC 0x336ec578u

/* Low memory for a table; 0 with the message set. */
static u64 put_table(struct loading *l, const void *data, u64 size)
{
    u64 at = loader_place_copy(l, data, size, 16, 0x8000, 0x9fc00, false);
    if (!at)
        loader_error(l, "no room below 640 KiB for the PVH start information");
    return at;
}

static bool put_module(struct loading *l, u8 *entry, const struct elf_info *info, const char *what,
                       const struct image *image, const char *text)
{
    u64 low = info->end > 0x100000 ? info->end : 0x100000, line = 0;
    u64 at = loader_place_copy(l, image->data, image->size ? image->size : 1, PAGE_SIZE, low, BIT(32), true);
    if (!at)
        return loader_error(l, "%s %s: its %llu bytes do not fit into memory beside the kernel: give more --memory", what,
                            image->name, (unsigned long long)image->size);
    if (*text && !(line = put_table(l, text, strlen(text) + 1)))
        return false;
    store64(entry, at);
    store64(entry + 8, image->size);
    store64(entry + 16, line);
    return true;
}

bool pvh_load(struct loading *l)
{
    const struct machine_config *config = &l->m->config;
    struct elf_info info;
    if (!elf_load(l, &info))
        return false;
    if (!info.pvh_entry)
        return loader_error(l, "kernel %s: an ELF file with neither a multiboot header nor a PVH entry note",
                            l->kernel.name);

    u8 start[56] = {0}, modules[32 * (MACHINE_MODULES + 1)] = {0}, map[24 * MEMORY_RANGES] = {0};
    unsigned count = 0;
    if (config->initrd.size && !put_module(l, modules + 32 * count++, &info, "initrd", &config->initrd, ""))
        return false;
    for (unsigned i = 0; i < config->module_count; i++)
        if (!put_module(l, modules + 32 * count++, &info, "module", &config->module[i].image,
                        config->module[i].arguments))
            return false;
    for (unsigned i = 0; i < l->memory_count; i++) {
        store64(map + 24 * i, l->memory[i].start);
        store64(map + 24 * i + 8, l->memory[i].size);
        store32(map + 24 * i + 16, l->memory[i].type);
    }
    u64 line = put_table(l, config->append, strlen(config->append) + 1);
    u64 map_at = line ? put_table(l, map, 24 * l->memory_count) : 0;
    u64 modules_at = map_at && count ? put_table(l, modules, 32 * count) : 0;
    if (!map_at || (count && !modules_at))
        return false;

    store32(start, START_MAGIC);
    store32(start + 4, 1);
    store32(start + 12, count);
    store64(start + 16, modules_at);
    store64(start + 24, line);
    store64(start + 32, l->rsdp);
    store64(start + 40, map_at);
    store32(start + 48, l->memory_count);
    u64 at = put_table(l, start, sizeof(start));
    if (!at)
        return false;
    loader_enter_flat32(l, info.pvh_entry, 0x08, 0x10);
    struct cpu *cpu = &l->m->cpu[0];
    cpu->seg.s[SEG_TR] = (struct segment){.limit = 0x67, .access = AR_P | 11};
    cpu->core.rbx = at;
    return true;
}
