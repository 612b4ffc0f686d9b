/*
 * ept: the guest's memory, as one offset: gpa x is pa from + x. Mapped by 2 MiB pages wherever both ends allow it and the
 * processor has them, else by 4 KiB pages. Page tables come from a pool of this level's own that is never freed.
 * [SDM3 "EPT Translation Mechanism"]
 */
#include "nest.h"

enum { ENTRIES = 512, EPT_RWX = 7, EPT_WB = 6 << 3, EPT_PAGE = 1 << 7, EPTP_WB = 6, EPTP_WALK_4 = 3 << 3 };
#define EPT_ADDRESS 0x000ffffffffff000ul

static uint64_t pool_next_pa;

static uint64_t *table_new(void)
{
    if (pool_next_pa + PAGE_SIZE > GUEST_PA)
        fail("the pool of page tables is used up");
    uint64_t *table = (uint64_t *)pool_next_pa;
    pool_next_pa += PAGE_SIZE;
    memset(table, 0, PAGE_SIZE);
    return table;
}

/* The entry of gpa in the table of the given level (1: 4 KiB pages), with tables made on the way down from level 4. */
static uint64_t *entry_of(uint64_t *root, uint64_t gpa, unsigned level)
{
    uint64_t *table = root;
    for (unsigned at = 4;; at--) {
        uint64_t *entry = &table[gpa >> (12 + 9 * (at - 1)) & (ENTRIES - 1)];
        if (at == level)
            return entry;
        if (!*entry)
            *entry = (uint64_t)table_new() | EPT_RWX;
        table = (uint64_t *)(*entry & EPT_ADDRESS);
    }
}

uint64_t ept_build(uint64_t from_pa, uint64_t size, bool large)
{
    pool_next_pa = EPT_POOL_PA;
    uint64_t *root = table_new();
    for (uint64_t gpa = 0; gpa < size;) {
        uint64_t pa = from_pa + gpa;
        if (large && !((gpa | pa) & (LARGE_PAGE_SIZE - 1)) && size - gpa >= LARGE_PAGE_SIZE) {
            *entry_of(root, gpa, 2) = pa | EPT_RWX | EPT_WB | EPT_PAGE;
            gpa += LARGE_PAGE_SIZE;
        } else {
            *entry_of(root, gpa, 1) = pa | EPT_RWX | EPT_WB;
            gpa += PAGE_SIZE;
        }
    }
    return (uint64_t)root | EPTP_WB | EPTP_WALK_4;
}
