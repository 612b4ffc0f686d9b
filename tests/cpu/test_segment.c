/* Loads of segment registers, LDTR and TR, and the instructions that ask about selectors. */
#include "tests/cpu/transfer.h"

static enum flow mov(unsigned seg, u16 selector)
{
    cpu->core.rax = selector;
    return run(h_mov_to_segment, (struct insn){.modrm = (u8)(0xc0 | seg << 3), .osz = OSZ_16});
}

START_TEST(data_segment_is_unpacked)
{
    start_protected();
    gdt(FREE, descriptor(0x12345678, 0xabcde, 0x92, 0xc));
    ck_assert_int_eq(mov(SEG_ES, FREE), FLOW_END);
    const struct segment *s = &cpu->seg.s[SEG_ES];
    ck_assert_uint_eq(s->selector, FREE);
    ck_assert_uint_eq(s->base, 0x12345678);
    ck_assert_uint_eq(s->limit, 0xabcdefff);
    ck_assert_uint_eq(s->access, AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | AR_G | AR_DB);
    ck_assert(at64(GDT + FREE) & BIT(40));
}
END_TEST

START_TEST(data_segment_checks)
{
    static const struct { unsigned type; u16 selector; unsigned cpl, vector; } cases[] = {
        {0x93, FREE, 0, 0},            {0x93, FREE | 3, 0, EXC_GP}, {0x93, FREE, 3, EXC_GP},     {0xf3, FREE | 3, 3, 0}, {0xf3, FREE | 3, 0, 0},
        {0x13, FREE, 0, EXC_NP},       {0x99, FREE, 0, EXC_GP},     {0x9b, FREE, 0, 0},          {0x9b, FREE | 3, 3, EXC_GP},
        {0x9f, FREE | 3, 3, 0},        {0x9d, FREE, 0, EXC_GP},     {0x89, FREE, 0, EXC_GP},     {0x91, FREE, 0, 0},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_protected();
        gdt(FREE, descriptor(0, 0xfffff, cases[n].type, 0xc));
        if (cases[n].cpl == 3)
            ring(CODE3, DATA3, STACK3);
        u16 before = cpu->seg.s[SEG_DS].selector;
        ck_assert_int_eq(mov(SEG_DS, cases[n].selector), cases[n].vector ? FLOW_EVENT : FLOW_END);
        if (cases[n].vector) {
            ASSERT_EVENT(cases[n].vector, FREE);
            ck_assert_uint_eq(cpu->seg.s[SEG_DS].selector, before);
        }
    }
}
END_TEST

START_TEST(table_limits)
{
    start_protected();
    cpu->seg.gdtr.limit = DATA0 + 6;
    ck_assert_int_eq(mov(SEG_DS, DATA0), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, DATA0);
    forget();
    cpu->seg.gdtr.limit = DATA0 + 7;
    ck_assert_int_eq(mov(SEG_DS, DATA0), FLOW_END);
    segment_make_null(&cpu->seg.s[SEG_LDTR], 0, 0);
    ck_assert_int_eq(mov(SEG_DS, 0x0c), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0x0c);
}
END_TEST

START_TEST(stack_segment_checks)
{
    static const struct { unsigned type; u16 selector; unsigned vector; u32 error; } cases[] = {
        {0x93, 0, EXC_GP, 0},          {0x93, FREE, 0, 0},          {0x93, FREE | 1, EXC_GP, FREE}, {0xf3, FREE, EXC_GP, FREE},
        {0x91, FREE, EXC_GP, FREE},    {0x9b, FREE, EXC_GP, FREE},  {0x13, FREE, EXC_SS, FREE},     {0x97, FREE, 0, 0},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        start_protected();
        gdt(FREE, descriptor(0, 0xfffff, cases[n].type, 0xc));
        ck_assert_int_eq(mov(SEG_SS, cases[n].selector), cases[n].vector ? FLOW_EVENT : FLOW_END);
        ck_assert_int_eq((cpu->event.blocking & BLOCK_MOV_SS) != 0, !cases[n].vector);
        if (cases[n].vector)
            ASSERT_EVENT(cases[n].vector, cases[n].error);
    }
}
END_TEST

START_TEST(null_stack_in_64_bit_mode)
{
    start_long();
    ck_assert_int_eq(mov(SEG_SS, 0), FLOW_END);
    ck_assert(cpu->seg.s[SEG_SS].access & AR_UNUSABLE);
    ck_assert_uint_eq(cpu->mode.cpl, 0);
    ck_assert_int_eq(mov(SEG_SS, 1), FLOW_EVENT); /* RPL is not CPL */
    ASSERT_EVENT(EXC_GP, 0);
    ring3_long();
    ck_assert_int_eq(mov(SEG_SS, 3), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(cs_and_no_segment_are_undefined)
{
    start_protected();
    static const u8 bad[] = {SEG_CS, 6, 7};
    for (unsigned n = 0; n < ARRAY_SIZE(bad); n++) {
        ck_assert_int_eq(mov(bad[n], DATA0), FLOW_EVENT);
        ck_assert_uint_eq(cpu->event.vector, EXC_UD);
    }
    ck_assert_int_eq(run(h_mov_from_segment, (struct insn){.modrm = 0xf0, .osz = OSZ_16}), FLOW_EVENT);
    ck_assert_uint_eq(cpu->event.vector, EXC_UD);
}
END_TEST

START_TEST(real_mode_keeps_the_limit)
{
    start_real();
    cpu->seg.s[SEG_DS].limit = 0xffffffff;
    ck_assert_int_eq(mov(SEG_DS, 0x1234), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].base, 0x12340);
    ck_assert_uint_eq(cpu->seg.s[SEG_DS].limit, 0xffffffff);
}
END_TEST

START_TEST(pop_and_pointer_loads)
{
    start_protected();
    put(STACK0, DATA3, 4);
    ck_assert_int_eq(run(h_pop_fs, (struct insn){.osz = OSZ_32}), FLOW_END);
    ck_assert_uint_eq(cpu->core.rsp, STACK0 + 4);
    ck_assert_uint_eq(cpu->seg.s[SEG_FS].selector, DATA3);
    ck_assert_int_eq(run(h_push_fs, (struct insn){.osz = OSZ_32}), FLOW_NEXT);
    ck_assert_uint_eq(at32(STACK0), DATA3);
    put(STACK0, 0x200, 4);
    ck_assert_int_eq(run(h_pop_es, (struct insn){.osz = OSZ_32}), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0x200);
    ck_assert_uint_eq(cpu->core.rsp, STACK0);
    forget();
    put(0x700, 0xdeadbeef, 4), put(0x704, DATA3, 2);
    struct insn in = {.flags = INSN_MEM, .disp = 0x700, .osz = OSZ_32, .reg = REG_RBX, .arch_seg = SEG_DS};
    ck_assert_int_eq(run(h_lgs, in), FLOW_END);
    ck_assert_uint_eq(cpu->core.rbx, 0xdeadbeef);
    ck_assert_uint_eq(cpu->seg.s[SEG_GS].selector, DATA3);
    put(0x704, 0x200, 2), cpu->core.rbx = 1;
    ck_assert_int_eq(run(h_lgs, in), FLOW_EVENT);
    ck_assert_uint_eq(cpu->core.rbx, 1);
}
END_TEST

static enum flow with_selector(const insn_family family, u16 selector)
{
    cpu->core.rax = selector;
    return run(family, (struct insn){.modrm = 0xc0, .osz = OSZ_32, .reg = REG_RBX});
}

START_TEST(lldt_and_the_local_table)
{
    start_protected();
    ck_assert_int_eq(with_selector(h_lldt, LDT_SEL), FLOW_NEXT);
    ck_assert_uint_eq(cpu->seg.s[SEG_LDTR].base, LDT);
    put(LDT + 8, descriptor(0x5000, 0xfff, 0x93, 0), 8);
    ck_assert_int_eq(mov(SEG_ES, 0x0c), FLOW_END);
    ck_assert_uint_eq(cpu->seg.s[SEG_ES].base, 0x5000);
    ck_assert_int_eq(with_selector(h_lldt, DATA0), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, DATA0);
    ck_assert_int_eq(with_selector(h_lldt, 0x0c), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0x0c);
    forget();
    ck_assert_int_eq(with_selector(h_lldt, 0), FLOW_NEXT);
    ck_assert_int_eq(mov(SEG_ES, 0x0c), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0x0c);
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(with_selector(h_lldt, LDT_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(ltr_marks_busy)
{
    start_protected();
    ck_assert_int_eq(with_selector(h_ltr, TSS_B_SEL), FLOW_NEXT);
    ck_assert_uint_eq(at64(GDT + TSS_B_SEL) >> 40 & 0xff, 0x8b);
    ck_assert_uint_eq(cpu->seg.s[SEG_TR].access & 0xff, 0x8b);
    ck_assert_int_eq(with_selector(h_ltr, TSS_B_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, TSS_B_SEL);
    gdt(FREE, descriptor(TSS_B, 0x67, 0x09, 0));
    ck_assert_int_eq(with_selector(h_ltr, FREE), FLOW_EVENT);
    ASSERT_EVENT(EXC_NP, FREE);
}
END_TEST

START_TEST(system_descriptors_of_16_bytes)
{
    start_long();
    gdt(LDT_SEL + 8, 0xffff8000u);
    ck_assert_int_eq(with_selector(h_lldt, LDT_SEL), FLOW_NEXT);
    ck_assert_uint_eq(cpu->seg.s[SEG_LDTR].base, 0xffff800000000000ull | LDT);
    gdt(LDT_SEL + 8, 0x00008000u);
    ck_assert_int_eq(with_selector(h_lldt, LDT_SEL), FLOW_EVENT); /* not canonical */
    ASSERT_EVENT(EXC_GP, LDT_SEL);
    cpu->seg.gdtr.limit = LDT_SEL + 14;
    ck_assert_int_eq(with_selector(h_lldt, LDT_SEL), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, LDT_SEL);
}
END_TEST

START_TEST(umip)
{
    start_protected();
    ring(CODE3, DATA3, STACK3);
    ck_assert_int_eq(with_selector(h_str, 0), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rax, TSS_SEL);
    cpu->sys.cr4 |= CR4_UMIP;
    ck_assert_int_eq(with_selector(h_str, 0), FLOW_EVENT);
    ASSERT_EVENT(EXC_GP, 0);
}
END_TEST

START_TEST(questions_about_selectors)
{
    static const struct { u16 selector; bool lar, lsl, verr, verw; u32 limit; } cases[] = {
        {0, false, false, false, false, 0},     {CODE0, true, true, true, false, 0xffffffff}, {DATA0, true, true, true, true, 0xffffffff},
        {DATA0 | 3, false, false, false, false, 0}, {TSS_SEL, true, true, false, false, 0xa7}, {LDT_SEL, true, true, false, false, 0xff},
        {GATE, true, false, false, false, 0},   {FREE, false, false, false, false, 0},        {0x200, false, false, false, false, 0},
        {CONFORMING | 3, true, true, true, false, 0xffffffff},
    };
    start_protected();
    gdt(GATE, gate(CODE0, 0, 0x8c, 0));
    gdt(FREE, gate(CODE0, 0, 0x8e, 0)); /* an interrupt gate is none of them */
    for (unsigned n = 0; n < ARRAY_SIZE(cases); n++) {
        ck_assert_int_eq(with_selector(h_verr, cases[n].selector), FLOW_NEXT);
        ck_assert_int_eq(flag_zf(cpu), cases[n].verr);
        with_selector(h_verw, cases[n].selector);
        ck_assert_int_eq(flag_zf(cpu), cases[n].verw);
        cpu->core.rbx = 0x5a5a;
        with_selector(h_lsl, cases[n].selector);
        ck_assert_int_eq(flag_zf(cpu), cases[n].lsl);
        ck_assert_uint_eq(cpu->core.rbx, cases[n].lsl ? cases[n].limit : 0x5a5a);
        cpu->core.rbx = 0x5a5a;
        with_selector(h_lar, cases[n].selector);
        ck_assert_int_eq(flag_zf(cpu), cases[n].lar);
        ck_assert_uint_eq(cpu->core.rbx, cases[n].lar ? at32(GDT + (cases[n].selector & 0xfff8) + 4) & 0xffff00 : 0x5a5a);
    }
}
END_TEST

START_TEST(arpl_raises_rpl)
{
    start_protected();
    cpu->core.rbx = 3;
    ck_assert_int_eq(with_selector(h_arpl, 0x10), FLOW_NEXT);
    ck_assert_uint_eq(cpu->core.rax, 0x13);
    ck_assert(flag_zf(cpu));
    with_selector(h_arpl, 0x13);
    ck_assert(!flag_zf(cpu));
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        data_segment_is_unpacked, data_segment_checks, table_limits, stack_segment_checks, null_stack_in_64_bit_mode,
        cs_and_no_segment_are_undefined, real_mode_keeps_the_limit, pop_and_pointer_loads, lldt_and_the_local_table,
        ltr_marks_busy, system_descriptors_of_16_bytes, umip, questions_about_selectors, arpl_raises_rpl,
    };
    return suite_run_tests("segment", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
