/* CET: shadow stacks, tokens, the tracker of indirect branches, and the instructions that manage them. Code runs through the run loop, whose
 * blocks get their handlers by the CET state.
 */
#include "cpu/cet.h"
#include "cpu/msr.h"
#include "tests/cpu/program.h"

enum { SHADOW0 = 0xc000, SHADOW3 = 0xd000, SHADOW_IST = 0xe000, SSP_TABLE = 0xf000, HANDLER = 0x28000 };
enum { PTE_SHADOW = 0x61, PTE_SHADOW_USER = 0x65 };    /* present, accessed, dirty, not writable */

static void page(u64 la, u64 flags)
{
    put(TABLES + 0x3000 + (la >> 12) * 8, la | flags, 8);
    tlb_flush_everything(cpu);
}

/* 64-bit mode at a CPL with everything of CET on. */
static void start(unsigned cpl)
{
    program_start("base,+cet-ss,+cet-ibt");
    cpu->stop_at = 0;
    page(SHADOW0, PTE_SHADOW);
    page(SHADOW3, PTE_SHADOW_USER);
    page(SHADOW_IST, PTE_SHADOW);
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_CET), FLOW_NEXT);
    cpu->sys.u_cet = cpu->sys.s_cet = CET_SH_STK_EN | CET_WR_SHSTK_EN | CET_ENDBR_EN | CET_NO_TRACK_EN;
    if (cpl == 3)
        ring3_long();
    cpu->sys.ssp = (cpl == 3 ? SHADOW3 : SHADOW0) + 0x800;
    cpu_mode_update(cpu);
}

/* What waits between two instructions. */
static void service(void) { (void)cpu_service_events(cpu); }

/* The code at RIP is about to have failed with this exception. */
#define ASSERT_FAULT(vec, err)                                                                                         \
    do {                                                                                                               \
        u64 rip_ = cpu->core.rip, rsp_ = cpu->core.rsp, ssp_ = cpu->sys.ssp;                                           \
        step(1);                                                                                                       \
        ASSERT_EVENT(vec, err);                                                                                        \
        ck_assert_uint_eq(cpu->core.rip, rip_);                                                                        \
        ck_assert_uint_eq(cpu->core.rsp, rsp_);                                                                        \
        ck_assert_uint_eq(cpu->sys.ssp, ssp_);                                                                         \
        forget();                                                                                                      \
    } while (0)

/* ---- near branches ----------------------------------------------------------------------------------------------- */

START_TEST(near_call_and_ret_keep_both_stacks)
{
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        start(cpl);
        u64 ssp = cpu->sys.ssp, rsp = cpu->core.rsp;
        code(CODE, "e8 0b 00 00 00");          /* call CODE + 0x10 */
        code(CODE + 0x10, "c3");
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 0x10);
        ck_assert_uint_eq(cpu->sys.ssp, ssp - 8);
        ck_assert_uint_eq(at64(ssp - 8), CODE + 5);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 5);
        ck_assert_uint_eq(cpu->sys.ssp, ssp);
        ck_assert_uint_eq(cpu->core.rsp, rsp);
    }
}
END_TEST

START_TEST(ret_to_elsewhere_is_a_control_protection_fault)
{
    start(3);
    code(CODE, "c2 08 00");
    put(STACK3 - 8, CODE + 0x40, 8);
    cpu->core.rsp = STACK3 - 8;
    put(cpu->sys.ssp, CODE + 0x41, 8);
    ASSERT_FAULT(EXC_CP, CP_NEAR_RET);
    put(cpu->sys.ssp, CODE + 0x40, 8);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 0x40);
    ck_assert_uint_eq(cpu->core.rsp, STACK3 + 8);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x808);
}
END_TEST

START_TEST(call_of_the_next_instruction_pushes_nothing)
{
    start(3);
    code(CODE, "e8 00 00 00 00");
    u64 ssp = cpu->sys.ssp;
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, ssp);
    ck_assert_uint_eq(cpu->core.rsp, STACK3 - 8);
}
END_TEST

START_TEST(compatibility_mode_pushes_four_bytes)
{
    start(3);
    ring(CODE3, DATA3, STACK3);
    code(CODE, "e8 0b 00 00 00");
    code(CODE + 0x10, "c3");
    cpu->sys.ssp = SHADOW3 + 0x804;
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800);
    ck_assert_uint_eq(at32(SHADOW3 + 0x800), CODE + 5);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 5);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x804);
}
END_TEST

START_TEST(shadow_stacks_lie_in_pages_of_their_own)
{
    static const struct { u64 flags; unsigned cpl; bool ok; u32 error; } cases[] = {
        {PTE_SHADOW_USER, 3, true, 0}, {PTE_SHADOW, 3, false, 0x47}, {7 | 0x60, 3, false, 0x47}, {5 | 0x20, 3, false, 0x47},
        {0, 3, false, 0x46}, {PTE_SHADOW, 0, true, 0}, {PTE_SHADOW_USER, 0, false, 0x43}, {3 | 0x60, 0, false, 0x43},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start(cases[n].cpl);
        page(SHADOW3, cases[n].flags);
        cpu->sys.ssp = SHADOW3 + 0x800;
        code(CODE, "e8 0b 00 00 00");
        if (cases[n].ok) {
            step(1);
            ck_assert_uint_eq(at64(SHADOW3 + 0x7f8), CODE + 5);
        } else {
            ASSERT_FAULT(EXC_PF, cases[n].error);
        }
    }
    /* Other stores cannot reach them. */
    start(0);
    code(CODE, "48 89 03");                    /* mov [rbx], rax */
    cpu->core.rbx = SHADOW0;
    ASSERT_FAULT(EXC_PF, 3);
    cpu->core.rbx = SHADOW3;
    ASSERT_FAULT(EXC_PF, 3);
}
END_TEST

START_TEST(a_fault_on_the_data_stack_comes_first)
{
    start(3);
    code(CODE, "e8 0b 00 00 00");
    page(SHADOW3, 0);
    unmap(STACK3 - 8);
    ASSERT_FAULT(EXC_PF, 6);
    page(STACK3 - 0x1000, 7);
    ASSERT_FAULT(EXC_PF, 0x46);
    ck_assert_uint_eq(at64(STACK3 - 8), 0);
}
END_TEST

START_TEST(one_block_of_code_with_and_without_cet)
{
    start(3);
    code(CODE, "e8 0b 00 00 00");
    code(CODE + 0x10, "c3");
    for (unsigned n = 0; n < 4; n++) {
        u64 ssp = cpu->sys.ssp = SHADOW3 + 0x800;
        cpu->sys.u_cet = n & 1 ? CET_SH_STK_EN : 0;
        cpu_mode_update(cpu);
        cpu->core.rip = CODE;
        step(1);
        ck_assert_uint_eq(cpu->sys.ssp, n & 1 ? ssp - 8 : ssp);
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 5);
        ck_assert_uint_eq(cpu->sys.ssp, ssp);
    }
}
END_TEST

/* ---- tracking of indirect branches ------------------------------------------------------------------------------- */

START_TEST(indirect_branches_end_at_endbr)
{
    static const struct { const char *branch, *target; bool ok; } cases[] = {
        {"ff e0", "f3 0f 1e fa", true},        /* jmp rax */
        {"ff d0", "f3 0f 1e fa", true},        /* call rax */
        {"ff 23", "f3 0f 1e fa", true},        /* jmp [rbx] */
        {"ff 13", "f3 0f 1e fa", true},        /* call [rbx] */
        {"ff e0", "90", false}, {"ff d0", "90", false}, {"ff 23", "90", false}, {"ff 13", "90", false},
        {"ff e0", "f3 0f 1e fb", false},       /* ENDBR32 in 64-bit code */
        {"ff e0", "0f 0b", false},             /* before #UD */
        {"3e ff e0", "90", true}, {"3e ff d0", "90", true}, {"2e ff e0", "90", false},
        {"e9 fb 0f 00 00", "90", true},        /* direct */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start(3);
        code(CODE, cases[n].branch);
        code(CODE + 0x1000, cases[n].target);
        put(0x22000, CODE + 0x1000, 8);
        cpu->core.rax = CODE + 0x1000;
        cpu->core.rbx = 0x22000;
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 0x1000);
        if (!cases[n].ok) {
            ck_assert(cpu->sys.u_cet & CET_TRACKER);
            ASSERT_FAULT(EXC_CP, CP_ENDBRANCH);
            ck_assert(cpu->sys.u_cet & CET_TRACKER);
        } else {
            step(1);
            ck_assert(!cpu->event.valid);
            ck_assert_uint_eq(cpu->core.rip, CODE + 0x1000 + (cases[n].target[0] == 'f' ? 4 : 1));
            ck_assert(!(cpu->sys.u_cet & CET_TRACKER));
        }
    }
    /* The no-track prefix needs leave. */
    start(3);
    cpu->sys.u_cet = CET_ENDBR_EN;
    cpu_mode_update(cpu);
    code(CODE, "3e ff e0");
    code(CODE + 0x1000, "90");
    cpu->core.rax = CODE + 0x1000;
    step(1);
    ASSERT_FAULT(EXC_CP, CP_ENDBRANCH);
    /* A breakpoint in the place of ENDBR is delivered; the tracker goes on waiting. */
    code(CODE + 0x1000, "cc");
    step(1);
    ck_assert_uint_eq(cpu->event.vector, EXC_BP);
    ck_assert(cpu->sys.u_cet & CET_TRACKER);
}
END_TEST

START_TEST(endbr32_in_compatibility_mode)
{
    start(3);
    ring(CODE3, DATA3, STACK3);
    code(CODE, "ff e0");
    code(CODE + 0x1000, "f3 0f 1e fb");
    cpu->core.rax = CODE + 0x1000;
    step(2);
    ck_assert_uint_eq(cpu->core.rip, CODE + 0x1004);
    ck_assert(!(cpu->sys.u_cet & CET_TRACKER));
}
END_TEST

START_TEST(old_code_by_the_bitmap)
{
    enum { BITMAP = 0x23000 };
    for (unsigned n = 0; n < 3; n++) {
        start(3);
        code(CODE, "ff e0");
        code(CODE + 0x1000, "90");
        cpu->core.rax = CODE + 0x1000;
        cpu->sys.u_cet = CET_ENDBR_EN | CET_LEG_IW_EN | BITMAP | (n == 2 ? CET_SUPPRESS_DIS : 0);
        cpu_mode_update(cpu);
        unsigned number = (CODE + 0x1000) >> 12;
        put(BITMAP + number / 8, n ? 1u << number % 8 : 0xff ^ 1u << number % 8, 1);
        step(1);
        if (n == 0) {
            ASSERT_FAULT(EXC_CP, CP_ENDBRANCH);
            continue;
        }
        step(1);
        ck_assert_uint_eq(cpu->core.rip, CODE + 0x1001);
        ck_assert_uint_eq(cpu->sys.u_cet & (CET_TRACKER | CET_SUPPRESS), n == 1 ? CET_SUPPRESS : 0);
        /* Suppressed until an ENDBR. */
        code(CODE + 0x1001, "ff e0 f3 0f 1e fa");
        cpu->core.rax = CODE + 0x1003;
        step(1);
        ck_assert_uint_eq(cpu->sys.u_cet & CET_TRACKER, n == 1 ? 0 : CET_TRACKER);
        step(1);
        ck_assert_uint_eq(cpu->sys.u_cet & (CET_TRACKER | CET_SUPPRESS), 0);
    }
}
END_TEST

START_TEST(the_user_tracker_waits_through_an_interrupt)
{
    start(3);
    idt64(0x20, CODE64, HANDLER, 0x8e, 0);
    code(CODE, "ff e0");
    code(CODE + 0x1000, "90");
    code(HANDLER, "f3 0f 1e fa 48 cf");
    cpu->core.rax = CODE + 0x1000;
    cpu->sys.pl_ssp[0] = SHADOW0 + 0xff8;
    put(SHADOW0 + 0xff8, SHADOW0 + 0xff8, 8);
    cpu->core.rflags_rest |= FL_IF;
    step(1);
    board_vector = 0x20;
    cpu_signal(cpu, ATT_INTR, 0, true);
    service();
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert(cpu->sys.s_cet & CET_TRACKER);
    step(1);
    ck_assert(!(cpu->sys.s_cet & CET_TRACKER));
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 0x1000);
    ASSERT_FAULT(EXC_CP, CP_ENDBRANCH);
}
END_TEST

/* ---- events and far transfers ------------------------------------------------------------------------------------ */

static void software_interrupt(unsigned ist)
{
    idt64(0x30, CODE64, HANDLER, 0xee, ist);
    code(cpu->core.rip, "cd 30");
    code(HANDLER, "f3 0f 1e fa 48 cf");
}

START_TEST(interrupt_from_user_takes_and_returns_the_token)
{
    u64 token = SHADOW0 + 0x7f8;
    start(3);
    software_interrupt(0);
    cpu->sys.pl_ssp[0] = token;
    put(token, token, 8);
    step(1);
    service();
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(cpu->sys.ssp, token);
    ck_assert_uint_eq(at64(token), token | 1);
    ck_assert_uint_eq(cpu->sys.pl_ssp[3], SHADOW3 + 0x800);
    step(2);
    ck_assert_uint_eq(cpu->core.rip, CODE + 2);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800);
    ck_assert_uint_eq(at64(token), token);
}
END_TEST

START_TEST(tokens_that_do_not_fit)
{
    static const struct { u64 ssp, token; } cases[] = {
        {SHADOW0 + 0x7f8, SHADOW0 + 0x7f9},    /* busy */
        {SHADOW0 + 0x7f8, 0},
        {SHADOW0 + 0x7fc, SHADOW0 + 0x7fc},    /* not aligned */
        {SHADOW0 + 0x7f0, SHADOW0 + 0x7f0},    /* the frame would leave the aligned 32 bytes */
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start(3);
        software_interrupt(0);
        cpu->sys.pl_ssp[0] = cases[n].ssp;
        put(cases[n].ssp, cases[n].token, 8);
        step(1);
        service();
        /* The #GP cannot be delivered either: its own gate needs the same token. */
        ck_assert_uint_eq(cpu->event.activity, ACTIVITY_SHUTDOWN);
        ck_assert_uint_eq(cpu->recent[(cpu->recent_count - 2) % RECENT_EVENTS].vector, EXC_GP);
        ck_assert_uint_eq(at64(cases[n].ssp), cases[n].token);
    }
}
END_TEST

/* "Prematurely busy": a token that an event took which was not delivered. */
START_TEST(no_token_is_taken_by_an_event_that_fails)
{
    static const u64 missing[] = {STACK0 - 8, SHADOW0, TSS};
    for (unsigned n = 0; n < ARRAY_SIZE(missing); n++) {
        u64 token = SHADOW0 + 0x7f8;
        start(3);
        software_interrupt(0);
        cpu->sys.pl_ssp[0] = token;
        put(token, token, 8);
        page(missing[n] & ~0xfffull, 0);
        step(1);
        service();
        ck_assert_uint_eq(cpu->event.activity, ACTIVITY_SHUTDOWN);
        ck_assert_uint_eq(at64(token), token);
    }
}
END_TEST

START_TEST(interrupt_at_the_same_level_pushes_a_frame)
{
    for (unsigned hole = 0; hole < 2; hole++) {
        start(0);
        software_interrupt(0);
        u64 ssp = cpu->sys.ssp = SHADOW0 + 0x800 + 4 * hole;
        put(ssp - 4, 0xffffffff, 4);
        step(1);
        service();
        ck_assert_uint_eq(cpu->core.rip, HANDLER);
        ck_assert_uint_eq(cpu->sys.ssp, SHADOW0 + 0x800 - 24);
        ck_assert_uint_eq(at64(SHADOW0 + 0x7f8), CODE64);
        ck_assert_uint_eq(at64(SHADOW0 + 0x7f0), CODE + 2);
        ck_assert_uint_eq(at64(SHADOW0 + 0x7e8), ssp);
        if (hole)
            ck_assert_uint_eq(at32(SHADOW0 + 0x800), 0);
        step(2);
        ck_assert_uint_eq(cpu->core.rip, CODE + 2);
        ck_assert_uint_eq(cpu->sys.ssp, ssp);
    }
}
END_TEST

START_TEST(interrupt_stacks_come_from_the_table)
{
    for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
        u64 token = SHADOW_IST + 0x7f8;
        start(cpl);
        software_interrupt(1);
        u64 ssp = cpu->sys.ssp;
        cpu->sys.ssp_table = SSP_TABLE;
        put(SSP_TABLE + 8, token, 8);
        put(token, token, 8);
        step(1);
        service();
        ck_assert_uint_eq(cpu->core.rip, HANDLER);
        ck_assert_uint_eq(at64(token), token | 1);
        ck_assert_uint_eq(cpu->sys.ssp, cpl ? token : token - 24);
        if (!cpl)
            ck_assert_uint_eq(at64(token - 24), ssp);
        step(2);
        ck_assert_uint_eq(cpu->core.rip, CODE + 2);
        ck_assert_uint_eq(cpu->sys.ssp, ssp);
        ck_assert_uint_eq(at64(token), token);
    }
}
END_TEST

START_TEST(iret_compares_the_frame)
{
    static const struct { unsigned offset; u64 value; } cases[] = {{16, CODE64 | 0x10000}, {8, CODE + 3}, {0, SHADOW0 + 0x802}};
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start(0);
        software_interrupt(0);
        step(2);
        put(cpu->sys.ssp + cases[n].offset, cases[n].value, 8);
        ASSERT_FAULT(EXC_CP, CP_FAR_RET_IRET);
        cpu->sys.ssp += 4;
        ASSERT_FAULT(EXC_CP, CP_FAR_RET_IRET);
    }
}
END_TEST

START_TEST(far_call_and_return)
{
    start(3);
    put(0x22000, HANDLER, 8);
    put(0x22008, CODE64_3, 2);
    code(CODE, "48 ff 1b");                    /* call far [rbx], 64-bit */
    code(HANDLER, "f3 0f 1e fa 48 cb");
    cpu->core.rbx = 0x22000;
    step(1);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800 - 24);
    ck_assert(cpu->sys.u_cet & CET_TRACKER);
    step(1);
    put(SHADOW3 + 0x7f0, CODE + 4, 8);
    ASSERT_FAULT(EXC_CP, CP_FAR_RET_IRET);
    put(SHADOW3 + 0x7f0, CODE + 3, 8);
    step(1);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800);
}
END_TEST

START_TEST(fast_system_calls)
{
    start(3);
    cpu->sys.star = (u64)CODE64 << 32 | (u64)(CODE64_3 - 16) << 48;
    cpu->sys.lstar = HANDLER;
    code(CODE, "0f 05");
    code(HANDLER, "f3 0f 1e fa 48 0f 07");
    step(1);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->sys.pl_ssp[3], SHADOW3 + 0x800);
    ck_assert_uint_eq(cpu->sys.ssp, 0);
    ck_assert(cpu->sys.s_cet & CET_TRACKER);
    step(2);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->core.rip, CODE + 2);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800);
}
END_TEST

START_TEST(call_gate_to_the_supervisor)
{
    u64 token = SHADOW0 + 0x7f8;
    start(3);
    gdt(GATE, gate(CODE64, HANDLER, 0xec, 0));
    gdt(GATE + 8, 0);
    put(0x22000, 0, 8);
    put(0x22008, GATE | 3, 2);
    code(CODE, "48 ff 1b");
    code(HANDLER, "f3 0f 1e fa 48 cb");
    cpu->core.rbx = 0x22000;
    cpu->sys.pl_ssp[0] = token;
    put(token, token, 8);
    step(1);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_uint_eq(cpu->sys.ssp, token);
    ck_assert_uint_eq(at64(token), token | 1);
    step(2);
    ck_assert_uint_eq(cpu->mode.cpl, 3);
    ck_assert_uint_eq(cpu->core.rip, CODE + 3);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x800);
    ck_assert_uint_eq(at64(token), token);
}
END_TEST

/* Protected mode with paging, whose tables the PAE paging of 32-bit code shares with the 64-bit ones. */
static void start_tasks(void)
{
    start(0);
    cpu->sys.efer = 0;
    cpu->sys.cr3 = TABLES + 0x1000;
    put(TABLES + 0x1000, (TABLES + 0x2000) | 1, 8);
    cpu->sys.pdpte[0] = (TABLES + 0x2000) | 1;
    put(TABLES + 0x2000, (TABLES + 0x3000) | 7, 8);
    gdt(TSS_SEL, descriptor(TSS, 0x6b, 0x8b, 0));
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x6b, 0x89, 0));
    load(SEG_TR, TSS_SEL);
    ring(CODE0, DATA0, STACK0);
    memset(bus_.ram + TSS_B, 0, 0x6c);
    put(TSS_B + 0x1c, TABLES + 0x1000, 4);
    put(TSS_B + 0x20, HANDLER, 4);
    put(TSS_B + 0x24, 2, 4);
    put(TSS_B + 0x38, STACK_IST, 4);
    put(TSS_B + 0x4c, CODE0, 2);
    put(TSS_B + 0x50, DATA0, 2);
    put(TSS + 0x1c, TABLES + 0x1000, 4);
    code(CODE, "9a 00 00 00 00 98 00");        /* call far TSS_B */
    code(HANDLER, "f3 0f 1e fb cf");
}

START_TEST(task_switch_changes_the_shadow_stack)
{
    u64 token = SHADOW_IST + 0x7f8;
    start_tasks();
    put(TSS_B + 0x68, token, 4);
    put(token, token, 8);
    step(1);
    ck_assert(!cpu->event.valid);
    ck_assert_uint_eq(cpu->core.rip, HANDLER);
    ck_assert_uint_eq(at64(token), token | 1);
    ck_assert_uint_eq(cpu->sys.ssp, token - 24);
    ck_assert_uint_eq(at64(token - 24), SHADOW0 + 0x800);
    ck_assert_uint_eq(at64(token - 16), CODE + 7);
    ck_assert_uint_eq(at64(token - 8), CODE0);
    ck_assert(cpu->sys.s_cet & CET_TRACKER);
    step(2);
    ck_assert(!cpu->event.valid);
    ck_assert_uint_eq(cpu->core.rip, CODE + 7);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW0 + 0x800);
    ck_assert_uint_eq(at64(token), token);

    start_tasks();                             /* busy */
    put(TSS_B + 0x68, token, 4);
    put(token, token | 1, 8);
    step(1);
    ASSERT_EVENT(EXC_TS, TSS_B_SEL);
    start_tasks();                             /* no room for an SSP */
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x67, 0x89, 0));
    step(1);
    ASSERT_EVENT(EXC_TS, TSS_B_SEL);
}
END_TEST

/* ---- instructions ------------------------------------------------------------------------------------------------ */

START_TEST(rdssp_and_incssp)
{
    start(3);
    code(CODE, "f3 48 0f 1e c8 f3 48 0f ae e9 f3 0f 1e ca");  /* rdsspq rax; incsspq rcx; rdsspd edx */
    cpu->core.rcx = 0x103;
    cpu->core.rdx = ~0ull;
    step(3);
    ck_assert_uint_eq(cpu->core.rax, SHADOW3 + 0x800);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x818);
    ck_assert_uint_eq(cpu->core.rdx, SHADOW3 + 0x818);
    /* First and last word of the range are read. */
    code(CODE + 14, "f3 48 0f ae e9");
    cpu->sys.ssp = SHADOW3 + 0xff0;
    cpu->core.rcx = 3;
    ASSERT_FAULT(EXC_PF, 0x45);
    cpu->core.rcx = 2;
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, SHADOW3 + 0x1000);
    /* Off: a hint, and undefined. */
    cpu->sys.u_cet = 0;
    cpu_mode_update(cpu);
    cpu->core.rip = CODE;
    cpu->core.rax = 7;
    step(1);
    ck_assert_uint_eq(cpu->core.rax, 7);
    ck_assert_uint_eq(cpu->core.rip, CODE + 5);
    ASSERT_RAISES(EXC_UD);
}
END_TEST

START_TEST(rstorssp_and_saveprevssp)
{
    u64 token = SHADOW3 + 0x400;
    start(3);
    code(CODE, "f3 0f 01 2b f3 0f 01 ea");     /* rstorssp [rbx]; saveprevssp */
    cpu->core.rbx = token;
    put(token, (token + 8) | 1, 8);
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, token);
    ck_assert_uint_eq(at64(token), (SHADOW3 + 0x800) | 3);
    ck_assert_uint_eq(flags_status(cpu), 0);
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, token + 8);
    ck_assert_uint_eq(at64(SHADOW3 + 0x7f8), (SHADOW3 + 0x800) | 1);

    /* A stack that was not aligned: CF tells. */
    cpu->core.rip = CODE;
    put(token, (token + 12) | 1, 8);
    step(1);
    ck_assert_uint_eq(flags_status(cpu), FL_CF);

    const u64 wrong[] = {token + 8, (token + 8) | 3, (token + 16) | 1, token | 1};
    for (unsigned n = 0; n < ARRAY_SIZE(wrong); n++) {
        cpu->core.rip = CODE;
        put(token, wrong[n], 8);
        ASSERT_FAULT(EXC_CP, CP_RSTORSSP);
        ck_assert_uint_eq(at64(token), wrong[n]);
    }
    cpu->core.rbx = token + 4;
    ASSERT_FAULT(EXC_GP, 0);
    cpu->core.rip = CODE + 4;
    put(cpu->sys.ssp, SHADOW3 + 0x801, 8);
    flags_set_status(cpu, 0);
    ASSERT_FAULT(EXC_GP, 0);
}
END_TEST

START_TEST(wrss_and_wruss)
{
    start(3);
    code(CODE, "48 0f 38 f6 03 0f 38 f6 03");  /* wrssq [rbx], rax; wrssd */
    cpu->core.rbx = SHADOW3 + 8;
    cpu->core.rax = 0x1122334455667788;
    step(1);
    ck_assert_uint_eq(at64(SHADOW3 + 8), 0x1122334455667788);
    cpu->core.rax = 0x99;
    step(1);
    ck_assert_uint_eq(at64(SHADOW3 + 8), 0x1122334400000099);
    cpu->core.rip = CODE;
    cpu->core.rbx = SHADOW3 + 4;
    ASSERT_FAULT(EXC_GP, 0);
    cpu->core.rbx = STACK3 - 8;
    ASSERT_FAULT(EXC_PF, 0x47);
    cpu->sys.u_cet &= ~(u64)CET_WR_SHSTK_EN;
    ASSERT_RAISES(EXC_UD);

    start(0);
    code(CODE, "66 48 0f 38 f5 03");           /* wrussq [rbx], rax */
    cpu->core.rbx = SHADOW3 + 8;
    cpu->core.rax = 0x1234;
    step(1);
    ck_assert_uint_eq(at64(SHADOW3 + 8), 0x1234);
    cpu->core.rip = CODE;
    cpu->core.rbx = SHADOW0 + 8;
    ASSERT_FAULT(EXC_PF, 0x47);
    start(3);
    code(CODE, "66 48 0f 38 f5 03");
    ASSERT_FAULT(EXC_GP, 0);
}
END_TEST

START_TEST(setssbsy_and_clrssbsy)
{
    u64 token = SHADOW0 + 0x100;
    start(0);
    code(CODE, "f3 0f 01 e8 f3 0f ae 33");     /* setssbsy; clrssbsy [rbx] */
    cpu->sys.pl_ssp[0] = token;
    ASSERT_FAULT(EXC_CP, CP_SETSSBSY);
    put(token, token, 8);
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, token);
    ck_assert_uint_eq(at64(token), token | 1);
    cpu->core.rbx = token;
    step(1);
    ck_assert_uint_eq(cpu->sys.ssp, 0);
    ck_assert_uint_eq(at64(token), token);
    ck_assert_uint_eq(flags_status(cpu), 0);
    cpu->core.rip = CODE + 4;
    step(1);
    ck_assert_uint_eq(flags_status(cpu), FL_CF);
    start(3);
    code(CODE, "f3 0f 01 e8");
    ASSERT_FAULT(EXC_GP, 0);
}
END_TEST

/* ---- registers --------------------------------------------------------------------------------------------------- */

START_TEST(registers_refuse_what_is_reserved)
{
    start(0);
    ck_assert(cpu_msr_write(cpu, 0x6a0, CET_SH_STK_EN | CET_ENDBR_EN | 0x7000));
    ck_assert_uint_eq(cpu->sys.u_cet, CET_SH_STK_EN | CET_ENDBR_EN | 0x7000);
    ck_assert(!cpu_msr_write(cpu, 0x6a0, BIT(6)));
    ck_assert(!cpu_msr_write(cpu, 0x6a0, CET_TRACKER | CET_SUPPRESS));
    ck_assert(!cpu_msr_write(cpu, 0x6a2, BIT(50)));
    ck_assert(cpu_msr_write(cpu, 0x6a2, CET_TRACKER));
    for (u32 n = 0; n < 4; n++) {
        ck_assert(cpu_msr_write(cpu, 0x6a4 + n, 0x1004));
        ck_assert(!cpu_msr_write(cpu, 0x6a4 + n, 0x1002));
        ck_assert(!cpu_msr_write(cpu, 0x6a4 + n, BIT(60)));
        ck_assert_uint_eq(cpu->sys.pl_ssp[n], 0x1004);
    }
    ck_assert(cpu_msr_write(cpu, 0x6a8, 0x1001));
    ck_assert(!cpu_msr_write(cpu, 0x6a8, BIT(60)));
    /* CR0.WP and CR4.CET */
    ck_assert_int_eq(cpu_write_cr0(cpu, cpu->sys.cr0 & ~(u64)CR0_WP), FLOW_EVENT);
    forget();
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 & ~(u64)CR4_CET), FLOW_NEXT);
    ck_assert_int_eq(cpu_write_cr0(cpu, cpu->sys.cr0 & ~(u64)CR0_WP), FLOW_NEXT);
    ck_assert_int_eq(cpu_write_cr4(cpu, cpu->sys.cr4 | CR4_CET), FLOW_EVENT);
    /* The halves of CET by their flags */
    model("base,+cet-ibt");
    u64 value;
    ck_assert(!cpu_msr_write(cpu, 0x6a0, CET_SH_STK_EN));
    ck_assert(!cpu_msr_read(cpu, 0x6a7, &value));
    model("base,+cet-ss");
    ck_assert(!cpu_msr_write(cpu, 0x6a0, CET_ENDBR_EN));
    model("base");
    ck_assert(!cpu_msr_read(cpu, 0x6a0, &value));
    ck_assert(!(cpu_cr4_allowed(cpu) & CR4_CET));
}
END_TEST

START_TEST(xsaves_keeps_the_state)
{
    enum { AREA = 0x24000 };
    start(0);
    cpu->sys.cr4 |= CR4_OSXSAVE;
    ck_assert_uint_eq(cpu_xss_allowed(cpu), 0x1800);
    cpu->sys.xss = 0x1800;
    cpu->core.rax = 0x1800;
    cpu->core.rdx = 0;
    cpu->core.rbx = AREA;
    code(CODE, "48 0f c7 2b 48 0f c7 1b");     /* xsaves64 [rbx]; xrstors64 [rbx] */
    cpu->sys.u_cet = CET_ENDBR_EN;
    cpu->sys.pl_ssp[3] = 0x1230;
    for (unsigned n = 0; n < 3; n++)
        cpu->sys.pl_ssp[n] = 0x2000 + 8 * n;
    step(1);
    ck_assert_uint_eq(at64(AREA + 512), 0x1800);
    ck_assert_uint_eq(at64(AREA + 576), CET_ENDBR_EN);
    ck_assert_uint_eq(at64(AREA + 584), 0x1230);
    ck_assert_uint_eq(at64(AREA + 600), 0x2008);
    put(AREA + 584, 0x4000, 8);
    put(AREA + 608, 0x5001, 8);
    ASSERT_FAULT(EXC_GP, 0);
    ck_assert_uint_eq(cpu->sys.pl_ssp[3], 0x1230);
    put(AREA + 608, 0x5000, 8);
    step(1);
    ck_assert_uint_eq(cpu->sys.pl_ssp[3], 0x4000);
    ck_assert_uint_eq(cpu->sys.pl_ssp[2], 0x5000);
    struct cpuid_result r = cpu_cpuid(cpu, 0xd, 11);
    ck_assert_uint_eq(r.eax, 16);
    ck_assert_uint_eq(r.ecx, 1);
    r = cpu_cpuid(cpu, 0xd, 12);
    ck_assert_uint_eq(r.eax, 24);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cpu/cet");
    TCase *near = suite_case(s, "near"), *ibt = suite_case(s, "tracker"), *far = suite_case(s, "far");
    TCase *insns = suite_case(s, "instructions");
    tcase_add_test(near, near_call_and_ret_keep_both_stacks);
    tcase_add_test(near, ret_to_elsewhere_is_a_control_protection_fault);
    tcase_add_test(near, call_of_the_next_instruction_pushes_nothing);
    tcase_add_test(near, compatibility_mode_pushes_four_bytes);
    tcase_add_test(near, shadow_stacks_lie_in_pages_of_their_own);
    tcase_add_test(near, a_fault_on_the_data_stack_comes_first);
    tcase_add_test(near, one_block_of_code_with_and_without_cet);
    tcase_add_test(ibt, indirect_branches_end_at_endbr);
    tcase_add_test(ibt, endbr32_in_compatibility_mode);
    tcase_add_test(ibt, old_code_by_the_bitmap);
    tcase_add_test(ibt, the_user_tracker_waits_through_an_interrupt);
    tcase_add_test(far, interrupt_from_user_takes_and_returns_the_token);
    tcase_add_test(far, tokens_that_do_not_fit);
    tcase_add_test(far, no_token_is_taken_by_an_event_that_fails);
    tcase_add_test(far, interrupt_at_the_same_level_pushes_a_frame);
    tcase_add_test(far, interrupt_stacks_come_from_the_table);
    tcase_add_test(far, iret_compares_the_frame);
    tcase_add_test(far, far_call_and_return);
    tcase_add_test(far, fast_system_calls);
    tcase_add_test(far, call_gate_to_the_supervisor);
    tcase_add_test(far, task_switch_changes_the_shadow_stack);
    tcase_add_test(insns, rdssp_and_incssp);
    tcase_add_test(insns, rstorssp_and_saveprevssp);
    tcase_add_test(insns, wrss_and_wruss);
    tcase_add_test(insns, setssbsy_and_clrssbsy);
    tcase_add_test(insns, registers_refuse_what_is_reserved);
    tcase_add_test(insns, xsaves_keeps_the_state);
    return suite_run(s, CK_NOFORK);
}
