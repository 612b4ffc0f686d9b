/* Bus locks and split locks: which accesses make one, #DB after them, #AC before them. */
#include "cpu/bus_lock.h"
#include "cpu/msr.h"
#include "tests/cpu/program.h"

enum { HANDLER = 0x21000, PLACE = 0x30000, DEBUGCTL = 0x1d9, TEST_CTRL = 0x33, CORE_CAP = 0xcf };

/* 64-bit code at CODE in ring 3 or 0; #DB, #AC, #PF and #GP lead to HLT in ring 0. MTRRs as firmware leaves them: all is write-back. */
static void start(unsigned cpl)
{
    program_start("base,+bus-lock-detect,+core-capability");
    if (cpl == 3)
        ring3_long();
    cpu->sys.mtrr_def_type = BIT(11) | 6;
    cpu->sys.cr0 &= ~(u64)(CR0_CD | CR0_NW);
    put(HANDLER, 0xf4, 1);
    for (unsigned vector = 0; vector < 32; vector++)
        idt64(vector, CODE64, HANDLER, 0x8e, 0);
}

static void run_code(const char *code, size_t n)
{
    memcpy(bus_.ram + CODE, code, n);
    put(CODE + n, 0x0b0f, 2);
    for (unsigned i = 0; i < 50 && cpu->event.activity == ACTIVITY_ACTIVE; i++) {
        cpu->stop_at = cpu->time.now + 10;
        cpu_run(cpu);
    }
    ck_assert_int_eq(cpu->event.activity, ACTIVITY_HLT);
}
#define RUN(code) run_code(code, sizeof(code) - 1)

static u8 vector(void) { return cpu->recent[(cpu->recent_count - 1) % RECENT_EVENTS].vector; }
static u64 pushed_rip(void) { return at64(cpu->core.rsp + (vector() == EXC_AC ? 8 : 0)); }

/* With rbx = PLACE + offset: does the code, one instruction, lock the bus? */
static bool locks(unsigned offset, const char *code, size_t n)
{
    start(3);
    ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    cpu->core.rbx = PLACE + offset;
    cpu->core.rcx = 1024;
    run_code(code, n);
    if (vector() == EXC_UD) {                      /* it went on */
        ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED);
        return false;
    }
    ck_assert_uint_eq(vector(), EXC_DB);
    ck_assert_uint_eq(pushed_rip(), CODE + n);
    ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED & ~DR6_BLD);
    ck_assert_uint_eq(cpu->sys.debugctl, DEBUGCTL_BUS_LOCK_DETECT);
    return true;
}
#define LOCKS(offset, code) locks(offset, code, sizeof(code) - 1)

START_TEST(which_instructions)
{
    ck_assert(LOCKS(61, "\xf0\x01\x03"));                      /* lock add [rbx], eax */
    ck_assert(!LOCKS(60, "\xf0\x01\x03"));
    ck_assert(!LOCKS(61, "\x01\x03"));                         /* add [rbx], eax */
    ck_assert(LOCKS(61, "\x87\x03"));                          /* xchg [rbx], eax */
    ck_assert(!LOCKS(60, "\x87\x03"));
    ck_assert(!LOCKS(61, "\x87\xc3"));                         /* xchg ebx, eax */
    ck_assert(!LOCKS(63, "\x86\x03"));                         /* xchg [rbx], al */
    ck_assert(LOCKS(63, "\x66\x87\x03"));                      /* xchg [rbx], ax */
    ck_assert(LOCKS(57, "\xf0\x48\x0f\xc1\x03"));              /* lock xadd [rbx], rax */
    ck_assert(!LOCKS(57, "\x48\x0f\xc1\x03"));
    ck_assert(LOCKS(61, "\xf0\x0f\xb1\x03"));                  /* lock cmpxchg [rbx], eax: whether it stores or not */
    ck_assert(LOCKS(60, "\xf0\x0f\xc7\x0b"));                  /* lock cmpxchg8b [rbx] */
    ck_assert(!LOCKS(56, "\xf0\x0f\xc7\x0b"));
    ck_assert(!LOCKS(48, "\xf0\x48\x0f\xc7\x0b"));             /* lock cmpxchg16b [rbx] */
    ck_assert(LOCKS(61, "\xf0\x0f\xba\x2b\x00"));              /* lock bts dword [rbx], 0 */
    ck_assert(LOCKS(0x100 - 67, "\xf0\x0f\xab\x0b"));          /* lock bts [rbx], ecx: 128 bytes on */
    ck_assert(!LOCKS(0, "\xf0\x0f\xab\x0b"));
    ck_assert(LOCKS(0xffd, "\xf0\xff\x03"));                   /* lock inc dword [rbx], into the next page */
}
END_TEST

START_TEST(memory_that_is_not_write_back)
{
    static const char code[] = "\xf0\x01\x03";
    struct { u64 pte, pat, def_type, physbase, physmask, cr0; bool lock; } cases[] = {
        {7, 0x0007040600070406, BIT(11) | 6, 0, 0, 0, false},
        {7 | 8, 0x0007040600070406, BIT(11) | 6, 0, 0, 0, true},                 /* PAT 1: WT */
        {7 | 0x18, 0x0007040600070406, BIT(11) | 6, 0, 0, 0, true},              /* PAT 3: UC */
        {7 | 0x18, 0x0007040606070406, BIT(11) | 6, 0, 0, 0, false},
        {7 | 0x80, 0x0007040600070406, BIT(11) | 6, 0, 0, 0, false},             /* PAT 4: WB */
        {7 | 0x80, 0x0007040500070406, BIT(11) | 6, 0, 0, 0, true},              /* PAT 4: WP */
        {7, 0x0007040600070406, BIT(11) | 4, 0, 0, 0, true},                     /* the default is WT */
        {7, 0x0007040600070406, 6, 0, 0, 0, true},                               /* MTRRs off: UC */
        {7, 0x0007040600070406, BIT(11), 0 | 6, 0x3ffffff00000 | BIT(11), 0, false},
        {7, 0x0007040600070406, BIT(11) | 6, 0, 0x3fffffff0000 | BIT(11), 0, false}, /* the first 64 KiB alone */
        {7, 0x0007040600070406, BIT(11) | 6, PLACE, 0x3fffffff0000 | BIT(11), 0, true},
        {7, 0x0007040600070406, BIT(11) | BIT(10) | 6, 0, 0, 0, true},           /* fixed ranges, all UC */
        {7, 0x0007040600070406, BIT(11) | 6, 0, 0, CR0_CD, true},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start(3);
        put(TABLES + 0x3000 + (PLACE >> 12) * 8, PLACE | cases[n].pte, 8);
        cpu->sys.pat = cases[n].pat;
        cpu->sys.mtrr_def_type = cases[n].def_type;
        cpu->sys.mtrr_physbase[1] = cases[n].physbase;
        cpu->sys.mtrr_physmask[1] = cases[n].physmask;
        cpu->sys.cr0 |= cases[n].cr0;
        ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
        cpu->core.rbx = PLACE;
        RUN(code);
        ck_assert_msg((vector() == EXC_DB) == cases[n].lock, "case %u: vector %u", n, vector());
    }
}
END_TEST

/* Kernels are not told, nor is anybody whose system does not ask. */
START_TEST(who_is_told)
{
    start(0);
    ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    cpu->core.rbx = PLACE + 61;
    RUN("\xf0\x01\x03");
    ck_assert_uint_eq(vector(), EXC_UD);
    start(3);
    cpu->core.rbx = PLACE + 61;
    RUN("\xf0\x01\x03");
    ck_assert_uint_eq(vector(), EXC_UD);

    /* The block has been decoded for both: the same bytes before and after the MSR is written. */
    start(3);
    cpu->core.rbx = PLACE + 61;
    memcpy(bus_.ram + CODE, "\xf0\x01\x03\x0f\x0b", 5);
    cpu->stop_at = cpu->time.now + 1;
    cpu_run(cpu);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    cpu->core.rip = CODE;
    ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    RUN("\xf0\x01\x03");
    ck_assert_uint_eq(vector(), EXC_DB);
}
END_TEST

START_TEST(with_other_traps)
{
    /* A single step and a data breakpoint come with it in one exception. */
    start(3);
    ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    cpu->core.rbx = PLACE + 61;
    cpu->sys.dr[2] = PLACE + 62;
    cpu->sys.dr7 |= 1 << 4 | 1 << 24;
    cpu->core.rflags_rest |= FL_TF;
    cpu_mode_update(cpu);
    RUN("\xf0\x01\x03");
    ck_assert_uint_eq(vector(), EXC_DB);
    ck_assert_uint_eq(cpu->sys.dr6, (DR6_FIXED & ~DR6_BLD) | DR6_BS | 4);
    /* A single step alone leaves the bit as it is. */
    start(3);
    cpu->sys.dr6 = DR6_FIXED & ~DR6_BLD;
    cpu->core.rflags_rest |= FL_TF;
    cpu_mode_update(cpu);
    RUN("\x90");
    ck_assert_uint_eq(cpu->sys.dr6, (DR6_FIXED & ~DR6_BLD) | DR6_BS);
    /* An access that faults has locked nothing. */
    start(3);
    ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    cpu->core.rbx = PLACE + 0xffd;
    unmap(PLACE + 0x1000);
    RUN("\xf0\x01\x03");
    ck_assert_uint_eq(vector(), EXC_PF);
    ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED);
}
END_TEST

START_TEST(split_locks_fault)
{
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        start(cpl);
        ck_assert(cpu_msr_write(cpu, TEST_CTRL, BIT(29)));
        ck_assert(cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
        cpu->core.rbx = PLACE + 61;
        put(PLACE + 61, 0x12345678, 4);
        RUN("\x87\x03");
        ck_assert_uint_eq(vector(), EXC_AC);
        ck_assert_uint_eq(at64(cpu->core.rsp), 0);
        ck_assert_uint_eq(pushed_rip(), CODE);
        ck_assert_uint_eq(at32(PLACE + 61), 0x12345678);
        ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED);
        /* Within a line: nothing. */
        start(cpl);
        ck_assert(cpu_msr_write(cpu, TEST_CTRL, BIT(29)));
        cpu->core.rbx = PLACE + 59;
        RUN("\x87\x03");
        ck_assert_uint_eq(vector(), EXC_UD);
    }
    /* CMPXCHG16B asks for 16-byte alignment first; an address that is not canonical is #GP. */
    start(3);
    ck_assert(cpu_msr_write(cpu, TEST_CTRL, BIT(29)));
    cpu->core.rbx = PLACE + 56;
    RUN("\xf0\x48\x0f\xc7\x0b");
    ck_assert_uint_eq(vector(), EXC_GP);
    start(3);
    ck_assert(cpu_msr_write(cpu, TEST_CTRL, BIT(29)));
    cpu->core.rbx = BIT(62) + 61;
    RUN("\x87\x03");
    ck_assert_uint_eq(vector(), EXC_GP);
}
END_TEST

START_TEST(msrs_and_dr6)
{
    u64 value;
    start(0);
    ck_assert(cpu_msr_read(cpu, CORE_CAP, &value));
    ck_assert_uint_eq(value, 1 << 5);
    ck_assert(!cpu_msr_write(cpu, CORE_CAP, value));
    ck_assert(!cpu_msr_write(cpu, TEST_CTRL, BIT(28)));
    ck_assert(cpu_msr_write(cpu, TEST_CTRL, BIT(29)));
    ck_assert(cpu_msr_read(cpu, TEST_CTRL, &value));
    ck_assert_uint_eq(value, BIT(29));
    ck_assert(!cpu_msr_write(cpu, DEBUGCTL, 8));
    RUN("\x31\xc0\x0f\x23\xf0");                               /* xor eax,eax; mov dr6,rax */
    ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED & ~DR6_BLD);

    char message[200];
    start(0);
    ck_assert(cpu_model_set(cpu, "base", message, sizeof message));
    ck_assert(!cpu_msr_write(cpu, DEBUGCTL, DEBUGCTL_BUS_LOCK_DETECT));
    ck_assert(!cpu_msr_read(cpu, TEST_CTRL, &value));
    ck_assert(!cpu_msr_read(cpu, CORE_CAP, &value));
    RUN("\x31\xc0\x0f\x23\xf0");
    ck_assert_uint_eq(cpu->sys.dr6, DR6_FIXED);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        which_instructions, memory_that_is_not_write_back, who_is_told, with_other_traps, split_locks_fault,
        msrs_and_dr6,
    };
    return suite_run_tests("bus locks", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
