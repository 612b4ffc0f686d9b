/*
 * Gates: interrupt, trap, task and call gates of every type, present or not, with both DPLs; the code segments and stacks that they
 * lead to; 16-, 32- and 64-bit. [SDM3 "Interrupt and Exception Handling", "Call Gates", "Stack Switching", "Error Code"], [SDM2 "INT n",
 * "CALL", "JMP"].
 */
#include "harness.h"

static const struct { enum mode mode; const char *name; } modes[] = {{PM32, "pm32"}, {COMPAT, "compat"}, {LONG, "long"}};

static bool wide(enum mode mode) { return mode != PM32; }

/* The IDT's entries of every type: INT 40h, which asks for the DPL, and UD2, which does not and sets EXT. */
static void idt_types(enum mode mode, const char *mode_name)
{
    for (unsigned i = 0; i < 512; i++) {
        unsigned type = i & 31, present = i >> 5 & 1, dpl = i >> 6 & 1 ? 3 : 0, cpl = i >> 7 & 1 ? 3 : 0;
        bool soft = i >> 8 & 1;
        unsigned vector = soft ? 0x40 : 6;
        begin(mode, cpl);
        u64 at = IDT + (wide(mode) ? 16 : 8) * vector;
        u32 access = type | dpl << 5 | present << 7;
        bool gate16 = type == 6 || type == 7, valid = type == 14 || type == 15 || (!wide(mode) && (type == 5 || gate16));
        if (!wide(mode) && type == 5) {
            task32(TSS_A, 5);
            segment(GDT, X(0), TSS_A, 0x67, A_TSS32, 0);
            gate(at, X(0), 0, access, 0, false);
        } else if (!wide(mode) && gate16) {
            segment(GDT, X(0), (u32)stub(vector), 0xffff, A_CODE, F_D);
            gate(at, X(0), 0, access, 0, false);
        } else {
            idt_gate(vector, wide(mode) ? CS64 : CS32, access, 0);
        }
        u64 error = 8 * vector + 2 + !soft;
        const char *expect;
        if (!valid || (soft && dpl < cpl))
            expect = text("GP(%x)", error);
        else if (!present)
            expect = text("NP(%x)", error);
        else if (type == 5)            /* the second UD2 finds the task busy */
            expect = soft ? "L5" : text("GP(%x)@L5", (u64)X(0) + 1);
        else if (gate16)               /* IP is 16 bits of EIP */
            expect = soft ? "int40@102" : "UD@100";
        else
            expect = soft ? "int40@+2" : "UD";
        code(soft ? "cd 40 90" : "0f 0b 90");
        run(text("gate/idt-%x-p%d-dpl%d-%s/%s-%d", (u64)type, present, dpl, soft ? "int" : "ud2", mode_name, cpl), expect);
    }
}

/* What the gate's selector may be. */
static void idt_targets(enum mode mode, const char *mode_name)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned type = i & 31, present = i >> 5 & 1, dpl = i >> 6 & 1 ? 3 : 0, cpl = i >> 7 & 1 ? 3 : 0;
        begin(mode, cpl);
        segment(GDT, X(0), 0, 0xfffff, type | dpl << 5 | present << 7, F_G | (wide(mode) ? F_L : F_D));
        if (type < 0x10)
            poke64(GDT + X(0) + 8, 0);
        idt_gate(0x40, X(0), A_INT32 | DPL(3), 0);
        bool is_code = type >= 0x18;
        const char *expect = !is_code || dpl > cpl ? text("GP(%x)", (u64)X(0)) : !present ? text("NP(%x)", (u64)X(0)) : "int40@+2";
        code("cd 40");
        /* Code that runs at ring 3 cannot be left by the stubs: only what is refused, or runs at ring 0, is asked for. */
        if (expect[0] == 'i' && cpl == 3 && (dpl == 3 || type & 4))
            continue;
        run(text("gate/target-%x-p%d-dpl%d/%s-%d", (u64)type, present, dpl, mode_name, cpl), expect);
    }
    static const struct { const char *name; u32 selector; const char *expect; } odd[] = {
        {"null", 0, "GP(0)"}, {"beyond", 0x3000, "GP(3000)"}, {"data", DS32, "GP(10)"},
    };
    for (unsigned i = 0; i < 3; i++)
        for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
            begin(mode, cpl);
            idt_gate(0x40, odd[i].selector, A_INT32 | DPL(3), 0);
            code("cd 40");
            run(text("gate/target-%s/%s-%d", odd[i].name, mode_name, cpl), odd[i].expect);
            begin(mode, cpl);          /* the same out of an exception: EXT */
            idt_gate(6, odd[i].selector, A_INT32, 0);
            code("0f 0b 90");
            run(text("gate/ext-target-%s/%s-%d", odd[i].name, mode_name, cpl),
                i == 0 ? "GP(1)" : i == 1 ? "GP(3001)" : "GP(11)");
        }
    if (wide(mode)) {                  /* only to 64-bit code, at a canonical address */
        begin(mode, 0);
        idt_gate(0x40, CS32, A_INT32, 0);
        code("cd 40");
        run(text("gate/target-code32/%s-0", mode_name), "GP(8)");
        begin(mode, 0);
        gate(IDT + 16 * 0x40, CS64, 0x800000000000, A_INT32, 0, true);
        code("cd 40");
        run(text("gate/target-not-canonical/%s-0", mode_name), "GP(0)");
    }
    begin(mode, 0);                    /* beyond the IDT's limit */
    L.idtr.limit = (wide(mode) ? 16 : 8) * 0x41 - 2;
    code("cd 40");
    run(text("gate/idt-limit/%s-0", mode_name), "GP(202)");
    begin(mode, 0);
    L.idtr.limit = (wide(mode) ? 16 : 8) * 0x41 - 1;
    code("cd 40");
    run(text("gate/idt-limit-reached/%s-0", mode_name), "int40@+2");
    static const u32 kinds[] = {A_INT32, A_TRAP32}; /* IF is cleared by interrupt gates only; TF, NT, RF by all */
    for (unsigned i = 0; i < 2; i++)
        for (unsigned cpl = 0; cpl <= 3; cpl += 3) {
            begin(mode, cpl);
            L.rflags |= FL_IF | FL_NT | FL_AC;
            idt_gate(0x40, wide(mode) ? CS64 : CS32, kinds[i] | DPL(3), 0);
            m.show = SHOW_FL | SHOW_HANDLER;
            code("cd 40");
            bool to_long = wide(mode);
            u64 sp = cpl ? STACK0 - (to_long ? 40 : 20) : to_long ? ((STACK0 & ~15u) - 40) : STACK0 - 12;
            run(text("gate/flags-%s/%s-%d", i ? "trap" : "interrupt", mode_name, cpl),
                text("int40@+2 fl=44202 h:cs=%x ss=%x sp=%x fl=%x", (u64)(to_long ? CS64 : CS32),
                     (u64)(cpl ? to_long ? 0 : DS32 : mode == PM32 || cpl == 0 ? DS32 : 0), sp, (u64)(i ? 0x40202 : 0x40002)));
        }
}

/* The stack that a gate to ring 0 switches to, 32-bit: SS0 of every type. */
static void stack_types(void)
{
    for (unsigned i = 0; i < 256; i++) {
        unsigned type = i & 31, present = i >> 5 & 1, dpl = i >> 6 & 1 ? 3 : 0, rpl = i >> 7 & 1 ? 3 : 0;
        begin(PM32, 3);
        for (unsigned v = 10; v <= 13; v++)
            catch_apart(v);
        segment(GDT, X(0), 0, (type & 0x1c) == 0x14 ? 0 : 0xfffff, type | dpl << 5 | present << 7, F_G | F_D);
        poke32(TSS + 8, X(0) | rpl);
        bool writable = type >= 0x10 && type < 0x18 && type & 2;
        const char *expect = rpl || dpl || !writable ? text("TS(%x)task", (u64)X(0)) : !present ? text("SS(%x)task", (u64)X(0)) : "int40@+2";
        code("cd 40");
        run(text("gate/ss0-%x-p%d-dpl%d-rpl%d/pm32-3", (u64)type, present, dpl, rpl), expect);
    }
    static const struct { const char *name; u32 ss, esp; const char *expect; } stacks[] = {
        {"null", 0, STACK0, "TS(0)task"}, {"beyond", 0x3000, STACK0, "TS(3000)task"}, {"ldt", 0x0c, STACK0, "TS(c)task"},
        {"limit", X(1), 0x2000, "SS(110)task"}, /* no room above the limit */
    };
    for (unsigned i = 0; i < 4; i++) {
        begin(PM32, 3);
        for (unsigned v = 10; v <= 13; v++)
            catch_apart(v);
        segment(GDT, X(1), 0, 0xfff, A_DATA, F_D);
        poke32(TSS + 8, i == 3 ? X(1) : stacks[i].ss);
        poke32(TSS + 4, stacks[i].esp);
        code("cd 40");
        run(text("gate/ss0-%s/pm32-3", stacks[i].name), i == 3 ? text("SS(%x)task", (u64)X(1)) : stacks[i].expect);
    }
    static const enum mode modes_[] = {PM32, LONG, COMPAT};
    for (unsigned i = 0; i < 3; i++) { /* the TSS ends before the stack's pointer */
        begin(modes_[i], 3);
        segment(GDT, SEL_TSS, TSS, 0x67, A_TSS32, 0);
        segment(GDT, X(1), TSS_A, i ? 0x67 : 0x67, A_TSS32, 0);
        for (unsigned v = 10; v <= 13; v++)
            catch_apart(v);
        if (i) {                       /* RSP0 is bytes 4 to 11; IST 1, which catches, is out of reach as well: a double fault, then shutdown */
            segment(GDT, SEL_TSS, TSS, 0x0a, A_TSS32, 0);
            m.shutdown = true;
            code("cd 40");
            run(text("gate/tss-limit/%s-3", i == 1 ? "long" : "compat"), "shutdown");
        }
    }
    static const u64 not_canonical[] = {0x800000000000, 0xffff7fffffffffff, 0x7ffffffffff0};
    for (unsigned i = 0; i < 3; i++) {
        begin(LONG, 3);
        for (unsigned v = 10; v <= 14; v++)
            catch_apart(v);
        poke64(TSS + 4, not_canonical[i]);
        m.target = 0x7fffffffffe8;
        code("cd 40");
        run(text("gate/rsp0-%x/long-3", not_canonical[i]), i == 2 ? "PF(2)" : "SS(0)");
    }
    begin(LONG, 3);                    /* the stack is aligned to 16 bytes first */
    poke64(TSS + 4, STACK0 - 5);
    m.show = SHOW_HANDLER | SHOW_SP | SHOW_SS;
    code("cd 40");
    run("gate/rsp0-aligned/long-3", text("int40@+2 ss=3b sp=%x h:cs=18 ss=0 sp=%x fl=2", (u64)USER_STACK, (u64)STACK0 - 16 - 40));
    begin(LONG, 0);
    L.rsp = STACK0 - 5;
    m.show = SHOW_HANDLER | SHOW_SP;
    code("cd 40");
    run("gate/rsp-aligned/long-0", text("int40@+2 sp=%x h:cs=18 ss=10 sp=%x fl=2", (u64)STACK0 - 5, (u64)STACK0 - 16 - 40));
    for (unsigned ist = 1; ist <= 7; ist++) {
        begin(LONG, 0);
        poke64(TSS + 28 + 8 * ist, STACK1 + 0x20 * ist - 0x200);
        idt_gate(0x40, CS64, A_INT32, ist);
        m.show = SHOW_HANDLER;
        code("cd 40");
        run(text("gate/ist%d/long-0", ist), text("int40@+2 h:cs=18 ss=10 sp=%x fl=2", (u64)STACK1 + 0x20 * ist - 0x200 - 40));
    }
}

/* Call gates: every combination of the gate's and the target's fields. Gate at X(0), code at X(2). */
static void call_gates(enum mode mode, const char *mode_name)
{
    for (unsigned i = 0; i < 1024; i++) {
        unsigned rpl = i & 1 ? 3 : 0, cpl = i >> 1 & 1 ? 3 : 0, gate_dpl = i >> 2 & 1 ? 3 : 0, gate_present = i >> 3 & 1;
        unsigned dpl = i >> 4 & 1 ? 3 : 0, present = i >> 5 & 1, conforming = i >> 6 & 1, jump = i >> 7 & 1, gate16 = i >> 8 & 1, data = i >> 9;
        if ((gate16 && wide(mode)) || (data && (conforming || jump || gate16)))
            continue;
        begin(mode, cpl);
        u32 type = data ? 0x13 : conforming ? 0x1f : 0x1b;
        segment(GDT, X(2), CODE, 0xfffff, type | dpl << 5 | present << 7, F_G | (wide(mode) ? F_L : F_D));
        gate(GDT + X(0), X(2), wide(mode) ? LANDING(4) : LANDING(4) - CODE, (gate16 ? 4u : 12u) | gate_dpl << 5 | gate_present << 7, 0, wide(mode));
        poke32(DATA, 0x12345678);
        poke16(DATA + 4, (u16)(X(0) | rpl));
        code(jump ? "ff 2f" : "ff 1f");
        const char *expect;
        if (gate_dpl < cpl || gate_dpl < rpl)
            expect = text("GP(%x)", (u64)X(0));
        else if (!gate_present)
            expect = text("NP(%x)", (u64)X(0));
        else if (data || dpl > cpl || (jump && !conforming && dpl != cpl))
            expect = text("GP(%x)", (u64)X(2));
        else if (!present)
            expect = text("NP(%x)", (u64)X(2));
        else
            expect = text("L4 cs=%x", (u64)(X(2) | (conforming ? cpl : dpl)));
        m.show = expect[0] == 'L' ? SHOW_CS : 0;
        run(text("gate/%s%s-p%d-dpl%d-rpl%d-to-%x-p%d-dpl%d/%s-%d", jump ? "jmp" : "call", gate16 ? "16" : "", gate_present, gate_dpl, rpl,
                 (u64)type, present, dpl, mode_name, cpl), expect);
    }
    if (!wide(mode))
        return;
    static const struct { const char *name; u32 flags, upper; u64 offset; const char *expect; } long_gates[] = {
        {"not-l", F_D, 0, LANDING(4), "code"}, {"l-and-d", F_L | F_D, 0, LANDING(4), "code"}, {"upper-type", F_L, 0x1f00, LANDING(4), "gate"},
        {"offset", F_L, 0, 0x800000000000, "GP(0)"},
    };
    for (unsigned i = 0; i < 4; i++) {
        begin(mode, 0);
        segment(GDT, X(2), 0, 0xfffff, 0x9b, F_G | long_gates[i].flags);
        gate(GDT + X(0), X(2), long_gates[i].offset, A_CALL32, 0, true);
        poke32(GDT + X(0) + 12, long_gates[i].upper);
        poke16(DATA + 4, X(0));
        code("ff 1f");
        run(text("gate/call-%s/%s-0", long_gates[i].name, mode_name),
            *long_gates[i].expect == 'c' ? text("GP(%x)", (u64)X(2)) : *long_gates[i].expect == 'g' ? text("GP(%x)", (u64)X(0)) : "GP(0)");
    }
}

/* Parameters are copied to the inner stack; what a call pushes, by gate size. */
static void parameters(void)
{
    for (unsigned count = 0; count < 32; count += 5) {
        begin(PM32, 3);
        for (unsigned i = 0; i < 32; i++)
            poke32(USER_STACK - 0x80 + 4 * i, 0x1000 + i);
        L.rsp = USER_STACK - 0x80;
        gate(GDT + X(0), CS32, LANDING(4), A_CALL32 | DPL(3), count, false);
        poke16(DATA + 4, X(0) | 3);
        code("ff 1f");
        m.watch = STACK0 - 12;         /* SS, ESP, then the last parameter */
        m.show = SHOW_SP | SHOW_CS | SHOW_MEM;
        run(text("gate/call-parameters-%d/pm32-3", count), text("L4 cs=8 sp=%x mem=%x", (u64)STACK0 - 16 - 4 * count,
                                                               count ? (u64)0x1000 + count - 1 : CS32_3));
    }
    begin(PM32, 3);
    L.rsp = USER_STACK - 0x80;
    poke16(USER_STACK - 0x80, 0xabcd);
    segment(GDT, X(2), CODE, 0xffff, A_CODE, F_D);
    gate(GDT + X(0), X(2), LANDING(4) - CODE, A_CALL16 | DPL(3), 1, false);
    poke16(DATA + 4, X(0) | 3);
    code("ff 1f");
    m.watch = STACK0 - 8;
    m.show = SHOW_SP | SHOW_MEM;
    run("gate/call16-parameters/pm32-3", text("L4 sp=%x mem=%x", (u64)STACK0 - 10, 0xabcd0000ull | CS32_3));
    begin(LONG, 3);
    gate(GDT + X(0), CS64, LANDING(4), A_CALL32 | DPL(3), 0, true);
    poke16(DATA + 4, X(0) | 3);
    code("ff 1f");
    m.watch = STACK0 - 8;
    m.show = SHOW_SP | SHOW_SS | SHOW_CS | SHOW_MEM;
    run("gate/call-frame/long-3", text("L4 cs=18 ss=0 sp=%x mem=3b", (u64)STACK0 - 32));
}

void cases_gate(void)
{
    for (unsigned i = 0; i < 3; i++) {
        idt_types(modes[i].mode, modes[i].name);
        idt_targets(modes[i].mode, modes[i].name);
        call_gates(modes[i].mode, modes[i].name);
    }
    stack_types();
    parameters();
}
