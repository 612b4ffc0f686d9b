/*
 * The machine of a case: memory, tables, registers. capture.c reads what became of it; harness.h says how the parts fit.
 *
 * Kept true: begin() leaves nothing of the case before; all is mapped to itself; ring-3 cases have user pages for code, data and stack,
 * ring-0 cases have none, so that SMEP and SMAP change nothing that a case does not ask for.
 */
#include "harness.h"
#include <stdarg.h>

struct machine m;
struct features cpu;

extern u8 stubs32[], stubs64[], low_start[], low_end[], low_stubs[];
extern void task_entry(void);

void *memset(void *to, int byte, size_t n)
{
    void *start = to;
    __asm__ volatile("rep stosb" : "+D"(to), "+c"(n) : "a"(byte) : "memory");
    return start;
}

void *memcpy(void *to, const void *from, size_t n)
{
    void *start = to;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
    return start;
}

/* Pages; the emulators count each iteration. */
static void clear(u64 from, u64 to)
{
    u64 n = (to - from) / 8;
    __asm__ volatile("rep stosq" : "+D"(from), "+c"(n) : "a"(0ull) : "memory");
}

void segment(u64 table, u32 selector, u32 base, u32 limit, u32 access, u32 flags)
{
    u64 at = table + (selector & 0xfff8u);
    poke32(at, (limit & 0xffff) | base << 16);
    poke32(at + 4, (base >> 16 & 0xff) | access << 8 | (limit & 0xf0000) | flags << 8 | (base & 0xff000000));
}

void gate(u64 at, u32 selector, u64 offset, u32 access, u32 count, bool wide)
{
    poke32(at, (u32)(offset & 0xffff) | selector << 16);
    poke32(at + 4, count | access << 8 | (u32)(offset & 0xffff0000u));
    if (wide) {
        poke32(at + 8, (u32)(offset >> 32));
        poke32(at + 12, 0);
    }
}

static bool in_long(void) { return m.mode == COMPAT || m.mode == LONG; }
static bool in_16(void) { return m.mode == REAL || m.mode == V86 || m.mode == PM16; }

u64 stub(unsigned vector) { return (u64)(in_long() ? stubs64 : stubs32) + 8 * vector; }

void idt_gate(unsigned vector, u32 selector, u32 access, u32 ist)
{
    gate(IDT + (in_long() ? 16 : 8) * vector, selector, stub(vector), access, ist, in_long());
}

void catch_apart(unsigned vector)
{
    if (in_long()) {
        idt_gate(vector, CS64, A_INT32, 1);
        return;
    }
    u64 at = TSS_APART + 0x80 * vector;
    u32 selector = X(16) + 8 * vector;
    task32(at, 0);
    poke32(at + 0x20, (u32)(u64)task_entry);
    poke32(at + 0x38, STACK_IST);
    segment(GDT, selector, (u32)at, 0x67, A_TSS32, 0);
    gate(IDT + 8 * vector, selector, 0, A_TASK, 0, false);
}

u64 off(u64 la) { return in_16() ? la - BASE16 : la; }

void task32(u64 at, unsigned landing)
{
    memset((void *)at, 0, 0x68);
    poke32(at + 0x1c, L.cr3);
    poke32(at + 4, STACK0);
    poke32(at + 8, DS32);
    poke32(at + 0x20, LANDING(landing));
    poke32(at + 0x24, 2);
    poke32(at + 0x38, STACK_TASK);
    poke32(at + 0x48, DS32);
    poke32(at + 0x4c, CS32);
    poke32(at + 0x50, DS32);
    poke32(at + 0x54, DS32);
    poke32(at + 0x64, 0x680000);
}

void task16(u64 at, unsigned landing)
{
    memset((void *)at, 0, 0x2c);
    poke16(at + 2, 0x7000);
    poke16(at + 4, DS16);
    poke16(at + 0x0e, (u16)(LANDING(landing) - BASE16));
    poke16(at + 0x10, 2);
    poke16(at + 0x1a, (u16)(STACK_TASK - BASE16));
    poke16(at + 0x22, DS16);
    poke16(at + 0x24, CS16);
    poke16(at + 0x26, DS16);
    poke16(at + 0x28, DS16);
}

void io_map(void)
{
    memset((void *)(u64)REDIRECTION_MAP, 0xff, 32);
    memset((void *)(u64)IO_MAP, 0xff, 0x2001);
    poke16(TSS + 0x66, IO_MAP - TSS);
    segment(GDT, SEL_TSS, TSS, IO_MAP - TSS + 0x2000, A_TSS32, 0);
}

static void make_tables(void)
{
    static const u8 with_gate_dpl3[] = {3, 4, 0xff};
    segment(GDT, CS32, 0, 0xfffff, A_CODE, F_G | F_D);
    segment(GDT, DS32, 0, 0xfffff, A_DATA, F_G | F_D);
    segment(GDT, CS64, 0, 0, A_CODE, F_L);
    segment(GDT, CS16, BASE16, 0xffff, A_CODE, 0);
    segment(GDT, DS16, BASE16, 0xffff, A_DATA, 0);
    segment(GDT, CS32_3, 0, 0xfffff, A_CODE | DPL(3), F_G | F_D);
    segment(GDT, DS32_3, 0, 0xfffff, A_DATA | DPL(3), F_G | F_D);
    segment(GDT, CS64_3, 0, 0, A_CODE | DPL(3), F_L);
    segment(GDT, CS16_3, BASE16, 0xffff, A_CODE | DPL(3), 0);
    segment(GDT, DS16_3, BASE16, 0xffff, A_DATA | DPL(3), 0);
    segment(GDT, CS16_LOW, 0, 0xffff, A_CODE, 0);
    segment(GDT, DS16_LOW, 0, 0xffff, A_DATA, 0);
    segment(GDT, SEL_TSS, TSS, 0x67, A_TSS32, 0);
    segment(GDT, SEL_LDT, LDT, 0xff, A_LDT, 0);
    if (in_long()) {
        poke64(TSS + 4, STACK0);
        poke64(TSS + 12, STACK1);
        poke64(TSS + 20, STACK2);
        poke64(TSS + 36, STACK_IST);
        poke16(TSS + 102, 0x68);
    } else {
        poke32(TSS + 4, STACK0);
        poke32(TSS + 8, DS32);
        poke32(TSS + 12, STACK1);
        poke32(TSS + 20, STACK2);
        poke16(TSS + 102, 0x68);
        task32(TSS_FAULT, 0);
        poke32(TSS_FAULT + 0x20, (u32)(u64)task_entry);
        poke32(TSS_FAULT + 0x38, STACK_IST);
        segment(GDT, SEL_FAULT, TSS_FAULT, 0x67, A_TSS32, 0);
    }
    for (unsigned i = 0; i < 256; i++) {
        u32 dpl = i >= 0x30 ? DPL(3) : 0;
        for (const u8 *p = with_gate_dpl3; *p != 0xff; p++)
            if (i == *p)
                dpl = DPL(3);
        idt_gate(i, in_long() ? CS64 : CS32, A_INT32 | dpl, 0);
    }
    if (in_long())
        idt_gate(8, CS64, A_INT32, 1);
    else
        gate(IDT + 8 * 8, SEL_FAULT, 0, A_TASK, 0, false);
    for (unsigned i = 0; i < 256; i++)
        poke32(4 * i, LOW_CODE << 12 | (u32)(low_stubs - low_start + 8 * i));
    for (unsigned i = 0; i < 16; i++)
        poke16(LANDING(i), 0x0b0f);
}

void begin(enum mode mode, unsigned ring)
{
    memset(&m, 0, sizeof(m));
    memset(&L, 0, sizeof(L));
    clear(CODE, PML5);
    clear(TEST_PAGE, ARENA_END);
    memcpy((void *)(u64)LOW_CODE, low_start, (size_t)(low_end - low_start));
    m.mode = mode;
    m.ring = ring;
    m.code_at = m.code_end = START;
    m.target = DATA;
    make_tables();

    L.cr0 = CR0_PE | CR0_ET | CR0_NE | CR0_WP;
    L.gdtr = (struct table_register){GDT_BYTES - 1, GDT};
    L.idtr = (struct table_register){0xfff, IDT};
    L.tr = SEL_TSS;
    L.ldt = SEL_LDT;
    L.dr[4] = 0xffff0ff0;
    L.dr[5] = 0x400;
    L.rip = off(START);
    L.rflags = 2;
    L.gpr[BX] = L.gpr[DI] = off(DATA);
    L.gpr[SI] = off(DATA + 0x100);
    L.rsp = off(ring ? USER_STACK : STACK0);
    L.kind = ring ? 0 : 1;
    u32 code_segment = 0, data_segment = 0;
    switch (mode) {
    case REAL:
        L.kind = 4;
        L.idtr = (struct table_register){0x3ff, 0};
        L.rsp = off(USER_STACK);
        code_segment = data_segment = BASE16 >> 4;
        break;
    case V86:
        L.kind = 2;
        L.rsp = off(USER_STACK);
        L.rflags |= FL_VM;
        code_segment = data_segment = BASE16 >> 4;
        break;
    case PM16:
        code_segment = ring ? CS16_3 : CS16;
        data_segment = ring ? DS16_3 : DS16;
        break;
    case PM32:
        code_segment = ring ? CS32_3 : CS32;
        data_segment = ring ? DS32_3 : DS32;
        break;
    case COMPAT:
        code_segment = ring ? CS32_3 : CS32;
        data_segment = ring ? DS32_3 : DS32;
        L.efer = EFER_LME;
        paging(L4);
        break;
    case LONG:
        L.kind = 3;
        code_segment = ring ? CS64_3 : CS64;
        data_segment = ring ? DS32_3 : DS32;
        L.efer = EFER_LME;
        L.idtr.limit = 0xfff;
        paging(L4);
        break;
    }
    L.cs = code_segment;
    L.ss = data_segment;
    for (unsigned i = 0; i < 4; i++)
        L.seg[i] = data_segment;
}

void need(bool has)
{
    if (!has)
        m.skip = true;
}

void set_msr(u32 msr, u64 value)
{
    for (unsigned i = 0; i < m.msr_count; i++)
        if (m.msrs[i].msr == msr) {
            m.msrs[i].value = value;
            return;
        }
    m.msrs[m.msr_count].msr = msr;
    m.msrs[m.msr_count++].value = value;
}

void code_byte(unsigned byte) { poke8(m.code_end++, (u8)byte); }

void code_word(unsigned word)
{
    code_byte(word & 0xff);
    code_byte(word >> 8 & 0xff);
}

void code_long(u32 value)
{
    code_word(value & 0xffff);
    code_word(value >> 16);
}

void code_quad(u64 value)
{
    code_long((u32)value);
    code_long((u32)(value >> 32));
}

void code_push(u32 value)
{
    code_byte(0x68);
    code_long(value);
}

void code_iretq_3(u32 ip)
{
    code_push(DS32_3);
    code_push(USER_STACK);
    code("6a 02");
    code_push(CS64_3);
    code_push(ip);
    code("48 cf");
}

void code_offset(u64 la)
{
    if (in_16())
        code_word((unsigned)off(la) & 0xffff);
    else
        code_long((u32)off(la));
}

void code(const char *hex)
{
    unsigned digits = 0, value = 0;
    for (; *hex; hex++) {
        unsigned digit = *hex >= '0' && *hex <= '9' ? (unsigned)(*hex - '0') : *hex >= 'a' && *hex <= 'f' ? (unsigned)(*hex - 'a' + 10) : 16;
        if (digit == 16)
            continue;
        value = value << 4 | digit;
        if (++digits % 2 == 0) {
            code_byte(value);
            value = 0;
        }
    }
}

void bytes_at(u64 la, const char *hex)
{
    u32 end = m.code_end;
    m.code_end = (u32)la;
    code(hex);
    m.code_end = end;
}

/* ---- page tables ---- */

#define TABLE (PTE_P | PTE_W | PTE_U)

static void identity(u64 at, unsigned entries, unsigned width, u64 from)
{
    for (unsigned i = 0; i < entries; i++) {
        u64 value = (from + (u64)i * 4096) | PTE_P | PTE_W;
        if (width == 8)
            poke64(at + 8 * i, value);
        else
            poke32(at + 4 * i, (u32)value);
    }
}

void paging(enum paging kind)
{
    m.paging = kind;
    clear(PML5, TEST_PT + 0x1000);
    L.cr0 |= CR0_PG;
    if (kind == P32) {
        L.cr3 = PD;
        identity(PT, 1024, 4, 0);
        identity(PT_TOP, 1024, 4, 0xfec00000);
        poke32(PD, PT | TABLE);
        poke32(PD + 4 * 0x3fb, PT_TOP | TABLE);
        poke32(PD + 4 * 0x201, TEST_PT | TABLE);
        poke32(TEST_PT + 4 * 0x205, TEST_PAGE | TABLE);
    } else {
        L.cr4 |= CR4_PAE;
        identity(PT, 1024, 8, 0);
        identity(PT_TOP, 512, 8, 0xfee00000);
        poke64(PD, PT | TABLE);
        poke64(PD + 8, (PT + 0x1000) | TABLE);
        poke64(PD_TOP + 8 * 0x1f7, PT_TOP | TABLE);
        u64 low = kind == PAE ? PTE_P : TABLE;
        poke64(PDPT, PD | low);
        poke64(PDPT + 8 * 3, PD_TOP | low);
        poke64(TEST_PD + 8 * 3, TEST_PT | TABLE);
        poke64(TEST_PT + 8 * 5, TEST_PAGE | TABLE);
        if (kind == PAE) {
            L.cr3 = PDPT;
            poke64(PDPT + 8 * 2, TEST_PD | low);
        } else {
            L.cr3 = PML4;
            poke64(PML4, PDPT | TABLE);
            poke64(TEST_PDPT + 8 * 2, TEST_PD | TABLE);
            if (kind == L4) {
                poke64(PML4 + 8, TEST_PDPT | TABLE);
            } else {
                L.cr3 = PML5;
                L.cr4 |= CR4_LA57;
                poke64(PML5, PML4 | TABLE);
                poke64(PML5 + 8, TEST_PML4 | TABLE);
                poke64(TEST_PML4 + 8, TEST_PDPT | TABLE);
            }
        }
    }
    if (m.mode < COMPAT)
        poke32(TSS_FAULT + 0x1c, L.cr3);
    if (m.ring == 3 || m.mode == V86)
        user_pages();
}

u64 test_la(void)
{
    return m.paging == L5 ? 0x1008080605000 : m.paging == L4 ? 0x8080605000 : 0x80605000;
}

void user_pages(void)
{
    for (u64 la = CODE; la < USER_STACK; la += 0x1000)
        set_pte(la, pte(la) | PTE_U);
}

u64 pte(u64 la) { return m.paging == P32 ? peek32(PT + 4 * (la >> 12)) : peek64(PT + 8 * (la >> 12)); }

void set_pte(u64 la, u64 value)
{
    if (m.paging == P32)
        poke32(PT + 4 * (la >> 12), (u32)value);
    else
        poke64(PT + 8 * (la >> 12), value);
}
