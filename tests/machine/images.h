/* Small kernel images made by the tests, and a machine of memory only for the loaders to fill. */
#ifndef NESTOR_TESTS_MACHINE_IMAGES_H
#define NESTOR_TESTS_MACHINE_IMAGES_H

#include "machine/loader.h"
#include "tests/suite.h"

/* Bus and one vCPU without devices: what loader_load touches. */
static inline struct machine *memory_machine(u64 memory)
{
    struct machine *m = calloc(1, sizeof(*m));
    ck_assert(m != NULL && bus_init(&m->bus, memory, MACHINE_LOW_LIMIT));
    m->cpu = calloc(1, sizeof(*m->cpu));
    ck_assert(m->cpu != NULL);
    m->cpu_count = 1;
    m->config.append = "";
    m->config.memory = memory;
    return m;
}

static inline void memory_machine_free(struct machine *m)
{
    bus_free(&m->bus);
    free(m->cpu);
    free(m);
}

static inline u32 ram32(struct machine *m, u64 hpa) { return (u32)bus_read(&m->bus, 0, hpa, 4); }
static inline u64 ram64(struct machine *m, u64 hpa) { return bus_read(&m->bus, 0, hpa, 8); }
static inline const char *ram_text(struct machine *m, u64 hpa) { return (const char *)m->bus.ram + hpa; }

/* An ELF32 file of `size` bytes: header, one PT_LOAD segment of the file's [0x1000, 0x1000 + filesz) at `paddr` (linked
 * at `vaddr`), entry at vaddr + 0x40. */
static inline void make_elf32(u8 *file, u32 size, u32 vaddr, u32 paddr, u32 filesz, u32 memsz)
{
    memset(file, 0, size);
    memcpy(file, "\177ELF\1\1\1", 7);
    store16(file + 16, 2);
    store16(file + 18, 3);
    store32(file + 20, 1);
    store32(file + 24, vaddr + 0x40);
    store32(file + 28, 52);
    store16(file + 40, 52);
    store16(file + 42, 32);
    store16(file + 44, 1);
    u8 *p = file + 52;
    store32(p, 1);
    store32(p + 4, 0x1000);
    store32(p + 8, vaddr);
    store32(p + 12, paddr);
    store32(p + 16, filesz);
    store32(p + 20, memsz);
}

static inline void put_multiboot1(u8 *header, u32 flags)
{
    store32(header, 0x1badb002);
    store32(header + 4, flags);
    store32(header + 8, 0u - 0x1badb002u - flags);
}

/* A bzImage: two setup sectors in all, then `payload` bytes of 0xcc. */
static inline u32 make_bzimage(u8 *file, u32 payload, bool relocatable)
{
    memset(file, 0, 1024);
    memset(file + 1024, 0xcc, payload);
    file[0x1f1] = 1;
    store16(file + 0x1fe, 0xaa55);
    store16(file + 0x200, 0x6aeb);
    memcpy(file + 0x202, "HdrS", 4);
    store16(file + 0x206, 0x20f);
    file[0x211] = 1;
    store32(file + 0x22c, 0x7fffffff);
    store32(file + 0x230, 0x200000);
    file[0x234] = relocatable;
    store32(file + 0x238, 2047);
    store64(file + 0x258, 0x1000000);
    store32(file + 0x260, 0x300000);
    return 1024 + payload;
}

#endif
