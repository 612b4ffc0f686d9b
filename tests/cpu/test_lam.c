/* Linear-address masking, and protection keys of supervisor pages: what programs may put into pointers and pages. */
#include "tests/cpu/program.h"

enum { PLACE = 0x30000 };

static void start(const char *features)
{
    start_long();
    model(features);
    put(PLACE, 0x1122334455667788, 8);
    put(PLACE + 8, 0, 8);
    cpu->fault.kind = FAULT_NONE;
}

/* Reads by a pointer: true and the place's value, or a non-canonical address. */
static bool reads(u64 la)
{
    u64 value = 0;
    cpu->fault.kind = FAULT_NONE;
    bool ok = mem_read64(cpu, la, &value);
    if (ok)
        ck_assert_uint_eq(value, 0x1122334455667788);
    else
        ck_assert_uint_eq(cpu->fault.kind, FAULT_NONCANONICAL);
    return ok;
}

START_TEST(user_pointers_by_cr3)
{
    static const struct { u64 lam, la; bool ok; } cases[] = {
        {0, PLACE, true}, {0, BIT(62) | PLACE, false}, {0, BIT(48) | PLACE, false},
        {CR3_LAM_U48, BIT(62) | PLACE, true}, {CR3_LAM_U48, BIT(48) | PLACE, true}, {CR3_LAM_U48, 0x7fffull << 48 | PLACE, true},
        {CR3_LAM_U48, BIT(47) | PLACE, false}, {CR3_LAM_U48, BIT(62) | BIT(47) | PLACE, false},
        {CR3_LAM_U57, BIT(62) | PLACE, true}, {CR3_LAM_U57, 0x3full << 57 | PLACE, true}, {CR3_LAM_U57, BIT(56) | PLACE, false},
        {CR3_LAM_U57, BIT(48) | PLACE, false}, {CR3_LAM_U57 | CR3_LAM_U48, BIT(48) | PLACE, false},
        {CR3_LAM_U57 | CR3_LAM_U48, BIT(57) | PLACE, true}, {CR3_LAM_U48, BIT(63) | PLACE, false},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start("base,+lam");
        ck_assert_int_eq(cpu_write_cr3(cpu, TABLES | cases[n].lam), FLOW_NEXT);
        ck_assert(reads(PLACE));               /* with an entry in the TLB and without */
        ck_assert_msg(reads(cases[n].la) == cases[n].ok, "case %u", n);
        ring3_long();
        ck_assert_msg(reads(cases[n].la) == cases[n].ok, "case %u", n);
        ring3_long();
        if (cases[n].ok && cases[n].la != PLACE) {
            ck_assert(mem_write64(cpu, cases[n].la + 8, 7));
            ck_assert_uint_eq(at64(PLACE + 8), 7);
            ck_assert(mem_probe(cpu, cases[n].la, 8, ACCESS_READ));
            /* Not for code, nor for the processor's own accesses, nor outside 64-bit code. */
            const u8 *host;
            u64 off;
            ck_assert(!mem_fetch_page(cpu, cases[n].la, &host, &off));
            u64 value;
            ck_assert(!mem_read_system(cpu, cases[n].la, &value, 8));
            ring(CODE3, DATA3, STACK3);
            ck_assert(!mem_read_slow(cpu, cases[n].la, &value, 8, ACCESS_READ));
        }
    }
}
END_TEST

START_TEST(supervisor_pointers_by_cr4)
{
    start("base,+lam");
    /* The last entry of the top table maps the upper half as the lower one. */
    put(TABLES + 511 * 8, (TABLES + 0x1000) | 7, 8);
    u64 la = 0xffffff8000000000 + PLACE;
    ck_assert(reads(la));
    ck_assert(!reads(la & ~BIT(62)));
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_LAM_SUP), FLOW_NEXT);
    ck_assert(reads(la & ~BIT(62)));
    ck_assert(reads(la & ~(0x7fffull << 48)));
    ck_assert(!reads(la & ~BIT(47)));
    ck_assert(!reads(BIT(62) | PLACE));        /* user pointers are CR3's business */
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 & ~(u64)CR4_LAM_SUP), FLOW_NEXT);
    ck_assert(!reads(la & ~BIT(62)));
}
END_TEST

START_TEST(cr2_has_no_metadata)
{
    start("base,+lam");
    ck_assert_int_eq(cpu_write_cr3(cpu, TABLES | CR3_LAM_U48), FLOW_NEXT);
    unmap(PLACE);
    u64 value;
    ck_assert(!mem_read64(cpu, BIT(60) | PLACE, &value));
    ck_assert_uint_eq(cpu->fault.kind, FAULT_PAGE);
    ck_assert_uint_eq(cpu->fault.la, PLACE);
}
END_TEST

START_TEST(absent_lam_is_reserved)
{
    start("base");
    ck_assert_int_eq(cpu_write_cr3(cpu, TABLES | CR3_LAM_U48), FLOW_EVENT);
    forget();
    ck_assert_int_eq(cpu_write_cr3(cpu, TABLES | CR3_LAM_U57), FLOW_EVENT);
    forget();
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_LAM_SUP), FLOW_EVENT);
}
END_TEST

START_TEST(keys_of_supervisor_pages)
{
    enum { ENTRY = TABLES + 0x3000 + (PLACE >> 12) * 8 };
    start("base,+pks");
    ck_assert(!cpu_msr_write(cpu, 0x6e1, BIT(32)));
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_PKS), FLOW_NEXT);
    for (unsigned key = 0; key < 16; key += 5) {
        put(ENTRY, PLACE | 3 | (u64)key << 59, 8);
        tlb_flush_everything(cpu);
        u64 value;
        ck_assert(cpu_msr_write(cpu, 0x6e1, 0));
        ck_assert(mem_write64(cpu, PLACE + 8, 1));
        ck_assert(cpu_msr_write(cpu, 0x6e1, 2u << 2 * key));
        ck_assert(mem_read64(cpu, PLACE, &value));
        ck_assert(!mem_write64(cpu, PLACE + 8, 1));
        ck_assert_uint_eq(cpu->fault.error, 0x23);
        ck_assert(cpu_msr_write(cpu, 0x6e1, 1u << 2 * key));
        ck_assert(!mem_read64(cpu, PLACE, &value));
        ck_assert_uint_eq(cpu->fault.error, 0x21);
        /* The processor's own accesses obey, too; fetches and user pages do not. */
        ck_assert(!mem_read_system(cpu, PLACE, &value, 8));
        ck_assert(mem_read_slow(cpu, PLACE, &value, 8, ACCESS_EXEC));
        put(ENTRY, PLACE | 7 | (u64)key << 59, 8);
        tlb_flush_everything(cpu);
        ck_assert(mem_read64(cpu, PLACE, &value));
        ck_assert(cpu_msr_write(cpu, 0x6e1, ~(3u << 2 * key)));
        put(ENTRY, PLACE | 3 | (u64)key << 59, 8);
        tlb_flush_everything(cpu);
        ck_assert(mem_write64(cpu, PLACE + 8, 1));
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        user_pointers_by_cr3, supervisor_pointers_by_cr4, cr2_has_no_metadata, absent_lam_is_reserved,
        keys_of_supervisor_pages,
    };
    return suite_run_tests("lam", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
