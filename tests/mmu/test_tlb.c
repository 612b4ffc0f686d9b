/* The tagged TLB: which translations survive what. Each test changes tables behind the TLB's back and sees whether the
 * old translation (OLD) or the new one (NEW) is used. [SDM3 "Caching Translation Information"] */
#include "tests/mmu/rig.h"

#define LA 0x403000ull
#define OLD 0x800000ull
#define NEW 0xc00000ull

/* Page tables at `root` mapping LA to `page`. */
static u64 tables(u64 page, u64 flags)
{
    u64 root = rig_page();
    put64(rig_entry(root, 39, 12, LA, P | W | U, 0), page | P | W | U | flags);
    return root;
}
static void remap(u64 root, u64 page, u64 flags)
{
    put64(rig_entry(root & ~0xfffull, 39, 12, LA, 0, 0), page | P | W | U | flags);
}
static void cr3(u64 value)
{
    cpu->sys.cr3 = value;
    tlb_select(cpu);
}
static void setup(void)
{
    put64(OLD, 1);
    put64(NEW, 2);
    cpu->sys.cr4 |= CR4_PGE;
    rig_mode(PAGING_4LEVEL, 0);
}

START_TEST(pages_and_contexts)
{
    setup();
    u64 root = tables(OLD, 0);
    cr3(root);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, 0);
    ck_assert_uint_eq(rig_read(LA), 1);
    tlb_flush_page(cpu, LA + 0x1000);
    ck_assert_uint_eq(rig_read(LA), 1);
    tlb_flush_page(cpu, LA + 0xfff);
    ck_assert_uint_eq(rig_read(LA), 2);
    remap(root, OLD, 0);
    tlb_flush_context(cpu, true);
    ck_assert_uint_eq(rig_read(LA), 1);
    /* Global pages survive that, but not INVLPG nor a whole flush. */
    remap(root, OLD, G);
    tlb_flush_page(cpu, LA);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, G);
    tlb_flush_context(cpu, true);
    ck_assert_uint_eq(rig_read(LA), 1);
    tlb_flush_page(cpu, LA);
    ck_assert_uint_eq(rig_read(LA), 2);
    remap(root, OLD, G);
    tlb_flush_context(cpu, false);
    ck_assert_uint_eq(rig_read(LA), 1);
    /* Without CR4.PGE nothing is global. */
    cpu->sys.cr4 &= ~(u64)CR4_PGE;
    tlb_flush_all_pcids(cpu);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, G);
    tlb_flush_context(cpu, true);
    ck_assert_uint_eq(rig_read(LA), 2);
}
END_TEST

/* Fragments of a large page go with any address in it. */
START_TEST(large_pages)
{
    setup();
    for (unsigned shift = 21; shift <= 30; shift += 9) {
        u64 root = rig_page(), la = 0x40000000;
        cr3(root);
        tlb_flush_context(cpu, false);
        u64 at = rig_entry(root, 39, shift, la, P | W, 0);
        put64(at, 0 | P | W | PS);
        put64(0x1000, 11);
        put64(0x1ff000, 12);
        ck_assert_uint_eq(rig_read(la + 0x1000), 11);
        ck_assert_uint_eq(rig_read(la + 0x1ff000), 12);
        u64 pt = rig_page();
        u64 table = shift == 30 ? rig_page() : pt;
        if (shift == 30)
            put64(table, pt | P | W);
        put64(pt + 8, OLD | P | W);
        put64(at, table | P | W);
        ck_assert_uint_eq(rig_read(la + 0x1000), 11);
        tlb_flush_page(cpu, la + 0x100000);
        ck_assert_uint_eq(rig_read(la + 0x1000), 1);
        u64 v;
        ck_assert(!mem_read64(cpu, la + 0x1ff000, &v));
    }
}
END_TEST

START_TEST(pcids)
{
    setup();
    cpu->sys.cr4 |= CR4_PCIDE;
    u64 a = tables(OLD, 0), b = tables(OLD, G);
    cr3(a | 1);
    ck_assert_uint_eq(rig_read(LA), 1);
    cr3(b | 2);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(a, NEW, 0);
    remap(b, NEW, G);
    u64 uid = cpu->tlb_uid;
    cr3(a | 1);
    ck_assert_uint_ne(cpu->tlb_uid, uid);
    ck_assert_uint_eq(rig_read(LA), 1);
    cr3(b | 2);
    ck_assert_uint_eq(cpu->tlb_uid, uid);
    ck_assert_uint_eq(rig_read(LA), 1);
    tlb_flush_pcid(cpu, 1, true);
    ck_assert_uint_eq(rig_read(LA), 1);
    cr3(a | 1);
    ck_assert_uint_eq(rig_read(LA), 2);
    /* From another PCID: by page, by PCID, all. */
    tlb_flush_pcid(cpu, 2, true);
    cr3(b | 2);
    ck_assert_uint_eq(rig_read(LA), 1); /* global */
    cr3(a | 1);
    tlb_flush_pcid_page(cpu, 2, LA);
    cr3(b | 2);
    ck_assert_uint_eq(rig_read(LA), 2);
    remap(b, OLD, G);
    cr3(a | 1);
    tlb_flush_page(cpu, LA);
    cr3(b | 2);
    ck_assert_uint_eq(rig_read(LA), 1); /* INVLPG: globals of every PCID */
    remap(b, NEW, G);
    cr3(a | 1);
    tlb_flush_all_pcids(cpu);
    cr3(b | 2);
    ck_assert_uint_eq(rig_read(LA), 2);
}
END_TEST

/* More address spaces than contexts: the least recently used are recycled, nothing wrong comes out. */
START_TEST(recycling)
{
    setup();
    cpu->sys.cr4 |= CR4_PCIDE;
    u64 root[200];
    for (unsigned i = 0; i < 200; i++) {
        put64(0x1000000 + i * 0x1000, i);
        root[i] = tables(0x1000000 + i * 0x1000, 0);
    }
    for (unsigned round = 0; round < 3; round++)
        for (unsigned i = 0; i < 200; i++) {
            cr3(root[i] | i);
            ck_assert_uint_eq(rig_read(LA), i);
        }
    /* The recent ones are still there. */
    for (unsigned i = 199; i > 199 - 60; i--) {
        remap(root[i], OLD, 0);
        cr3(root[i] | i);
        ck_assert_uint_eq(rig_read(LA), i);
    }
}
END_TEST

/* Generations wrap. */
START_TEST(many_flushes)
{
    setup();
    u64 root = tables(OLD, 0);
    cr3(root);
    for (unsigned i = 0; i < 5000; i++) {
        remap(root, i & 1 ? NEW : OLD, 0);
        if (i % 3 == 0)
            tlb_flush_page(cpu, LA);
        else
            tlb_flush_context(cpu, i % 3 == 1);
        ck_assert_uint_eq(rig_read(LA), i & 1 ? 2 : 1);
    }
}
END_TEST

static void frame_set(unsigned k, u64 eptp, u16 vpid)
{
    struct vmcs *v = &cpu->vmx.frame[k].vmcs;
    v->primary_controls = 1u << 31;
    v->secondary_controls = (eptp ? 2u : 0) | (vpid ? 32u : 0);
    v->ept_pointer = eptp | 3 << 3 | 6;
    v->virtual_processor_identifier = vpid;
}
static void depth(unsigned d)
{
    cpu->vmx.depth = d;
    tlb_select(cpu);
}
/* An EPT that maps all of RAM to itself, but LA's page OLD to `page`. */
static u64 ept(u64 page)
{
    u64 root = rig_page();
    for (u64 a = 0; a < RIG_RAM; a += 1 << 21)
        if (a != OLD)
            put64(rig_entry(root, 39, 21, a, 7, 0), a | EALL | EPS);
    put64(rig_entry(root, 39, 12, OLD, 7, 0), page | EALL);
    return root;
}

START_TEST(vpids)
{
    setup();
    u64 root = tables(OLD, 0);
    cr3(root);
    ck_assert_uint_eq(rig_read(LA), 1);
    frame_set(0, 0, 5);
    depth(1);
    remap(root, NEW, 0);
    ck_assert_uint_eq(rig_read(LA), 2); /* another VPID: walked anew */
    depth(0);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, OLD, 0);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(0);
    tlb_invvpid(cpu, 0, 6, false, false);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(0);
    tlb_invvpid(cpu, 0, 5, false, false);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, 0);
    depth(0);
    tlb_invvpid_page(cpu, 0, 5, LA + 0x1000);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(0);
    tlb_invvpid_page(cpu, 0, 5, LA);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 2);
    /* All contexts; single context retaining globals. */
    remap(root, OLD, G);
    depth(0);
    tlb_invvpid(cpu, 0, 0, true, false);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, G);
    depth(0);
    tlb_invvpid(cpu, 0, 5, false, true);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
}
END_TEST

START_TEST(no_vpid)
{
    setup();
    u64 root = tables(OLD, 0);
    cr3(root);
    frame_set(0, 0, 0);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, 0);
    depth(1);
    tlb_flush_vpid0(cpu, 0);
    ck_assert_uint_eq(rig_read(LA), 2);
    remap(root, OLD, 0);
    depth(0);
    tlb_flush_vpid0(cpu, 0);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    /* At the second place: L1's own translations stay. */
    depth(0);
    frame_set(0, 0, 3);
    frame_set(1, 0, 0);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 1);
    remap(root, NEW, 0);
    tlb_flush_vpid0(cpu, 1);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(0);
    ck_assert_uint_eq(rig_read(LA), 1);
}
END_TEST

START_TEST(invept_at_every_place)
{
    setup();
    put64(0xa00000, 3);
    u64 root = tables(OLD, 0);
    cr3(root);
    u64 e0 = ept(OLD), e1 = ept(OLD), other = ept(NEW);
    frame_set(0, e0, 1);
    frame_set(1, e1, 2);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 1);
    /* The outer EPT changes: nobody notices before INVEPT at place 0, which hits both depths. */
    u64 at0 = rig_entry(e0, 39, 12, OLD, 0, 0), at1 = rig_entry(e1, 39, 12, OLD, 0, 0);
    put64(at0, NEW | EALL);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(0);
    tlb_invept(cpu, 0, other, false);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 1);
    depth(0);
    tlb_invept(cpu, 0, e0 | 0x5e, false);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(1);
    ck_assert_uint_eq(rig_read(LA), 2);
    /* The inner one: only depth 2 is concerned. */
    put64(at1, 0xa00000 | EALL);
    put64(at0, 0xa00000 | EALL);
    tlb_invept(cpu, 1, e1, false);
    ck_assert_uint_eq(rig_read(LA), 2);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 3);
    /* INVVPID leaves what the EPTs' cache holds, but what it names is walked again. */
    remap(root, 0xb00000, 0);
    put64(0xb00000, 4);
    depth(1);
    tlb_invvpid(cpu, 1, 2, false, false);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 4);
    /* Another EPTP is another context, without any flush. */
    remap(root, OLD, 0);
    depth(1);
    tlb_invvpid(cpu, 1, 2, false, false);
    frame_set(1, other, 2);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 2);
    frame_set(1, e1, 2);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 3);
    depth(0);
    tlb_invept(cpu, 0, 0, true);
    put64(at1, OLD | EALL);
    put64(at0, OLD | EALL);
    depth(2);
    ck_assert_uint_eq(rig_read(LA), 1);
}
END_TEST

/* More EPTs than spaces. */
START_TEST(recycling_of_spaces)
{
    setup();
    cr3(tables(OLD, 0));
    u64 root[100];
    for (unsigned i = 0; i < 100; i++) {
        put64(0x2000000 + i * 0x1000, i);
        root[i] = ept(0x2000000 + i * 0x1000);
    }
    for (unsigned round = 0; round < 2; round++)
        for (unsigned i = 0; i < 100; i++) {
            frame_set(0, root[i], 1);
            depth(1);
            ck_assert_uint_eq(rig_read(LA), i);
            depth(0);
            u64 out;
            ck_assert(mem_gpa_to_hpa(cpu, 1, OLD, ACCESS_READ, &out));
            ck_assert_uint_eq(out, 0x2000000 + i * 0x1000);
        }
}
END_TEST

/* What one CPU fetches does not change what another access finds in the TLB. */
START_TEST(fetches_apart)
{
    setup();
    u64 root = tables(OLD, 0);
    cr3(root);
    rig_read(LA);
    const u8 *host;
    u64 off;
    for (unsigned i = 1; i < 4; i++) { /* the same places of all arrays */
        put64(rig_entry(root, 39, 12, LA + i * (TLB_LEAVES << 12), P | W, 0), NEW | P | W);
        ck_assert(mem_fetch_page(cpu, LA + i * (TLB_LEAVES << 12), &host, &off));
    }
    remap(root, NEW, 0);
    ck_assert_uint_eq(rig_read(LA), 1);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {pages_and_contexts, large_pages, pcids, recycling, many_flushes, vpids, no_vpid,
                                  invept_at_every_place, recycling_of_spaces, fetches_apart};
    return rig_run("tlb", tests, ARRAY_SIZE(tests));
}
