/* Linear accesses: page crossing, canonical addresses, alignment, devices, breakpoints, fetches. */
#include "tests/mmu/rig.h"

#define LA 0x7f0000403000ull

static struct { u64 off[64], value[64]; unsigned size[64], count; } seen;
static u64 dev_read(void *dev, unsigned n, u64 off, unsigned size)
{
    (void)dev, (void)n;
    seen.off[seen.count & 63] = off, seen.size[seen.count++ & 63] = size;
    return 0x0807060504030201;
}
static void dev_write(void *dev, unsigned n, u64 off, unsigned size, u64 value)
{
    (void)dev, (void)n;
    seen.value[seen.count & 63] = value;
    seen.off[seen.count & 63] = off, seen.size[seen.count++ & 63] = size;
}
static const struct bus_ops dev_ops = {dev_read, dev_write};

START_TEST(crossing)
{
    cpu->sys.cr0 |= CR0_WP;
    rig_mode(PAGING_4LEVEL, 0);
    rig_map(LA, 0x800000, P | W, 12);
    rig_map(LA + 0x1000, 0x600000, P | W, 12);
    rig_map(LA + 0x2000, 0x700000, P, 12);
    rig_write(LA + 0xffd, 0x1122334455667788);
    ck_assert_uint_eq(get64(0x800ff8), 0x6677880000000000);
    ck_assert_uint_eq(get64(0x600000), 0x1122334455);
    ck_assert_uint_eq(rig_read(LA + 0xffd), 0x1122334455667788);
    u16 w;
    ck_assert(mem_read16(cpu, LA + 0xfff, &w));
    ck_assert_uint_eq(w, 0x5566);
    /* The second page cannot be written: nothing is. */
    ck_assert(!mem_write64(cpu, LA + 0x1ffc, ~0ull));
    ck_assert_uint_eq(cpu->fault.la, LA + 0x2000);
    ck_assert_uint_eq(cpu->fault.error, 3);
    ck_assert_uint_eq(get64(0x600ff8), 0);
    ck_assert(!mem_read_rmw64(cpu, LA + 0x1ffc, &(u64){0}));
    ck_assert(!mem_probe(cpu, LA, 0x3000, ACCESS_WRITE));
    ck_assert(mem_probe(cpu, LA, 0x3000, ACCESS_READ));
    ck_assert(!mem_probe(cpu, LA, 0x3001, ACCESS_READ));
    ck_assert_uint_eq(cpu->fault.la, LA + 0x3000);
    u8 buffer[4096];
    ck_assert(mem_read(cpu, LA + 0x800, buffer, 4096));
    ck_assert_uint_eq(buffer[0x7fd], 0x88);
    ck_assert_uint_eq(buffer[0x802], 0x33);
    ck_assert(mem_write(cpu, LA + 0x800, buffer, 0));
    memset(buffer, 0xaa, sizeof(buffer));
    ck_assert(mem_write(cpu, LA + 1, buffer, 4096));
    ck_assert_uint_eq(get64(0x800000), 0xaaaaaaaaaaaaaa00);
    ck_assert_uint_eq(get64(0x600000), 0x11223344aa);
}
END_TEST

START_TEST(canonical)
{
    rig_mode(PAGING_4LEVEL, 0);
    static const u64 bad[] = {0x800000000000, 0xffff7fffffffffff, 0x7ffffffffff9, 0xffff7ffffffffff9, 0x8000000000000000};
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        u64 v;
        cpu->fault.kind = FAULT_NONE;
        cpu->fault.stack_segment = i & 1;
        ck_assert(!mem_read64(cpu, bad[i], &v));
        ck_assert_uint_eq(cpu->fault.kind, FAULT_NONCANONICAL);
        ck_assert_uint_eq(cpu->fault.stack_segment, i & 1);
    }
    /* Other outcomes forget the caller's stack_segment. */
    cpu->fault.stack_segment = 1;
    ck_assert(!mem_write64(cpu, LA, 0));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_PAGE);
    ck_assert_uint_eq(cpu->fault.stack_segment, 0);
    const u8 *host;
    u64 off;
    cpu->fault.kind = FAULT_NONE;
    ck_assert(!mem_fetch_page(cpu, 0x800000000000, &host, &off));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_NONCANONICAL);
    cpu->sys.cr3 = 0;
    rig_mode(PAGING_5LEVEL, 0);
    rig_map(0xff800000000000, 0x800000, P | W, 12);
    rig_write(0xff800000000000, 1);
    cpu->fault.kind = FAULT_NONE;
    ck_assert(!mem_write64(cpu, 0x100000000000000, 1));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_NONCANONICAL);
}
END_TEST

START_TEST(alignment)
{
    rig_mode(PAGING_4LEVEL, 3);
    rig_map(LA, 0x800000, P | W | U, 12);
    cpu->sys.cr0 |= CR0_AM;
    cpu->core.rflags_rest |= FL_AC;
    cpu->tlb_slow = true;
    tlb_select(cpu);
    for (unsigned n = 1; n <= 8; n *= 2)
        for (unsigned i = 0; i < 8; i++) {
            u8 data[8] = {0};
            cpu->fault.kind = FAULT_NONE;
            bool ok = mem_read(cpu, LA + i, data, n);
            ck_assert_int_eq(ok, i % n == 0);
            ck_assert_uint_eq(cpu->fault.kind, ok ? FAULT_NONE : FAULT_ALIGNMENT);
            ck_assert_int_eq(mem_write(cpu, LA + i, data, n), i % n == 0);
            ck_assert(mem_read_system(cpu, LA + i, data, n));
        }
    u32 v;
    ck_assert(!mem_read32(cpu, LA + 2, &v));
    cpu->mode.cpl = 0;
    tlb_select(cpu);
    ck_assert(mem_read32(cpu, LA + 2, &v));
}
END_TEST

START_TEST(devices)
{
    ck_assert(bus_map_mmio(&bus, 0xe0000000, 0x2000, &dev_ops, NULL));
    rig_mode(PAGING_NONE, 0);
    cpu->run_end = (const struct insn *)(uintptr_t)1;
    u32 v;
    ck_assert(mem_read32(cpu, 0xe0000010, &v));
    ck_assert_uint_eq(v, 0x04030201);
    ck_assert_ptr_null(cpu->run_end);
    ck_assert(mem_write16(cpu, 0xe0000012, 0xbeef));
    ck_assert_uint_eq(seen.value[1], 0xbeef);
    ck_assert_uint_eq(seen.size[1], 2);
    /* 16 bytes: two of 8; odd ones: pieces; over two pages: split there. */
    u8 data[16];
    seen.count = 0;
    ck_assert(mem_read(cpu, 0xe0000020, data, 16));
    ck_assert_uint_eq(seen.count, 2);
    ck_assert_uint_eq(seen.size[0], 8);
    seen.count = 0;
    ck_assert(mem_write(cpu, 0xe0000021, data, 7));
    ck_assert_uint_eq(seen.count, 3);
    ck_assert_uint_eq(seen.size[0], 1);
    ck_assert_uint_eq(seen.size[1], 2);
    ck_assert_uint_eq(seen.size[2], 4);
    seen.count = 0;
    ck_assert(mem_write(cpu, 0xe0000ffe, data, 4));
    ck_assert_uint_eq(seen.count, 2);
    ck_assert_uint_eq(seen.off[1], 0x1000);
    /* Never in the TLB: each access arrives. */
    seen.count = 0;
    for (unsigned i = 0; i < 5; i++)
        ck_assert(mem_read32(cpu, 0xe0000010, &v));
    ck_assert_uint_eq(seen.count, 5);
    const u8 *host = (const u8 *)"";
    u64 off;
    ck_assert(mem_fetch_page(cpu, 0xe0000000, &host, &off));
    ck_assert_ptr_null(host);
    ck_assert_uint_eq(off, BUS_NO_RAM);
    /* Nothing answers. */
    ck_assert(mem_read32(cpu, 0xd0000000, &v));
    ck_assert_uint_eq(v, ~0u);
    ck_assert(mem_write32(cpu, 0xd0000000, 1));
}
END_TEST

START_TEST(breakpoints)
{
    rig_mode(PAGING_NONE, 0);
    cpu->sys.dr[0] = 0x5000;           /* write, 4 bytes */
    cpu->sys.dr[1] = 0x5008;           /* read and write, 8 bytes */
    cpu->sys.dr[2] = 0x5010;           /* I/O: never here */
    cpu->sys.dr[3] = 0x5018;           /* not enabled */
    cpu->sys.dr7 = 1 | 2 << 2 | 1 << 4 | 0xdull << 16 | 0xbull << 20 | 0x2ull << 24 | 0xfull << 28;
    cpu->tlb_slow = true;
    tlb_select(cpu);
    static const struct { u64 la; unsigned n; bool write; u64 bits; } cases[] = {
        {0x5000, 4, true, 1},  {0x5000, 4, false, 0}, {0x5003, 1, true, 1},  {0x5004, 4, true, 0}, {0x4ffd, 4, true, 1},
        {0x4ffc, 4, true, 0},  {0x5008, 1, false, 2}, {0x500f, 1, true, 2},  {0x5010, 8, true, 0}, {0x5003, 8, true, 3},
        {0x5018, 8, true, 0},
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        u8 data[8] = {0};
        cpu->event.pending_debug = cpu->event.attention = 0;
        ck_assert(cases[i].write ? mem_write(cpu, cases[i].la, data, cases[i].n) : mem_read(cpu, cases[i].la, data, cases[i].n));
        ck_assert_uint_eq(cpu->event.pending_debug, (cases[i].bits ? cases[i].bits | BIT(12) : 0));
        ck_assert_uint_eq(cpu->event.attention, cases[i].bits ? ATT_PENDING_DB : 0);
        ck_assert(mem_write_system(cpu, cases[i].la, data, cases[i].n));
        ck_assert_uint_eq(cpu->event.pending_debug, (cases[i].bits ? cases[i].bits | BIT(12) : 0));
        cpu->event.pending_debug = 0;
        ck_assert(mem_probe(cpu, cases[i].la, cases[i].n, ACCESS_WRITE));
        ck_assert_uint_eq(cpu->event.pending_debug, 0);
    }
}
END_TEST

START_TEST(fetches)
{
    rig_mode(PAGING_4LEVEL, 3);
    rig_map(LA, 0x800000, P | U, 12);
    const u8 *host;
    u64 off;
    ck_assert(mem_fetch_page(cpu, LA + 0x123, &host, &off));
    ck_assert_uint_eq(off, 0x800000);
    ck_assert_ptr_eq(host, bus.ram + 0x800000);
    u8 bytes[4];
    put32(0x800ffe, 0x90c3);
    ck_assert(mem_read_slow(cpu, LA + 0xffe, bytes, 1, ACCESS_EXEC));
    ck_assert_uint_eq(bytes[0], 0xc3);
    ck_assert(!mem_read_slow(cpu, LA + 0x1000, bytes, 1, ACCESS_EXEC));
    ck_assert_uint_eq(cpu->fault.error, 4);
    /* The uid tells when a fetched translation may have changed, and only then. */
    u64 uid = cpu->tlb_uid;
    rig_map(LA + 0x5000, 0x805000, P | U, 12);
    rig_read(LA + 0x5000);
    tlb_flush_page(cpu, LA + 0x5000);
    ck_assert_uint_eq(cpu->tlb_uid, uid);
    tlb_flush_page(cpu, LA);
    ck_assert_uint_ne(cpu->tlb_uid, uid);
}
END_TEST

/* Random accesses give what a plain array gives, whatever path they take. */
START_TEST(random_accesses)
{
    static u8 model[16 * PAGE_SIZE];
    rig_mode(PAGING_4LEVEL, 0);
    for (unsigned i = 0; i < 16; i++)
        rig_map(LA + i * PAGE_SIZE, 0x800000 + (i * 7 % 16) * PAGE_SIZE, P | W, 12);
    u64 x = 88172645463325252ull;
    for (unsigned i = 0; i < 300000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        unsigned n = x & 0x100 ? 1u << (x & 3) : (unsigned)(x & 63) + 1;
        u64 at = (x >> 16) % (sizeof(model) - n);
        u8 data[64];
        if (x & 0x200) {
            for (unsigned k = 0; k < n; k++)
                data[k] = (u8)(x >> k % 57);
            if (n == 8 && x & 0x400)
                ck_assert(mem_write64(cpu, LA + at, load64(data)));
            else
                ck_assert(mem_write(cpu, LA + at, data, n));
            memcpy(model + at, data, n);
        } else {
            u32 v;
            if (n == 4) {
                ck_assert(mem_read32(cpu, LA + at, &v));
                ck_assert_uint_eq(v, load32(model + at));
            }
            ck_assert(mem_read(cpu, LA + at, data, n));
            ck_assert(!memcmp(data, model + at, n));
        }
        if ((x >> 40 & 0xfff) == 0)
            tlb_flush_context(cpu, x >> 60 & 1);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {crossing, canonical, alignment, devices, breakpoints, fetches, random_accesses};
    return rig_run("access", tests, ARRAY_SIZE(tests));
}
