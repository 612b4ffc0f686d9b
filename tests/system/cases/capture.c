/*
 * What became of a case: reads the frame that the processor pushed and the registers that launch.S put on top of it, prints one line, and
 * says so when the line is not the expected one.
 *
 * Kept true: what is printed follows from the case alone, so that two processors' outputs can be compared line by line.
 */
#include "harness.h"
#include <stdarg.h>

extern struct capture capture;
extern u64 capture_bases[3];
extern void launch(void);
extern const char *only, *skip;
extern unsigned count_cases, count_wrong, count_absent;

struct event {
    unsigned vector;
    bool task;                     /* came through a task gate: the state is in the old task's TSS */
    bool has_error;
    u32 error;
    u64 rip, flags, sp, gpr[16];
    u32 cs, ss, seg[4];
    u64 handler_sp;
};

static u32 segment_base(u32 selector)
{
    u64 at = (selector & 4 ? LDT : GDT) + (selector & 0xfff8);
    return (selector & 0xfffc) ? peek32(at + 2) >> 0 & 0xffffff ? (peek32(at + 2) & 0xffffff) | (peek32(at + 4) & 0xff000000)
                                                                  : peek32(at + 4) & 0xff000000
                               : 0;
}

static bool segment_big(u32 selector)
{
    return peek32((selector & 4 ? LDT : GDT) + (selector & 0xfff8) + 4) >> 22 & 1;
}

static bool pushes_error(unsigned vector)
{
    return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

/* Whether the vector's gate is one of the 80286, which pushes words. */
static bool through_gate16(unsigned vector)
{
    u32 type = peek32((m.idt ? m.idt : IDT) + 8 * vector + 4) >> 8 & 0x1f;
    return capture.kind == 32 && (type == 6 || type == 7);
}

static void read16(struct event *e)
{
    u64 at = capture.ss * 16u + (capture.sp & 0xffff);
    u64 regs = at + 8;
    for (unsigned i = 0; i < 8; i++)
        e->gpr[i] = peek32(regs + 4 * (7 - i));
    static const u8 place[4] = {4, 6, 2, 0};
    for (unsigned i = 0; i < 4; i++)
        e->seg[i] = peek32(at + place[i]) & 0xffff;
    e->vector = peek32(at + 40) & 0xff;
    e->rip = peek32(at + 42) & 0xffff;
    e->cs = peek32(at + 44) & 0xffff;
    e->flags = peek32(at + 46) & 0xffff;
    e->ss = capture.ss;
    e->sp = (capture.sp + 48) & 0xffff;
    e->handler_sp = capture.sp + 42;
}

static void read32(struct event *e)
{
    u64 at = segment_base(capture.ss) + (segment_big(capture.ss) ? capture.sp : capture.sp & 0xffff);
    for (unsigned i = 0; i < 8; i++)
        e->gpr[i] = peek32(at + 16 + 4 * (7 - i));
    static const u8 place[4] = {8, 12, 4, 0};
    for (unsigned i = 0; i < 4; i++)
        e->seg[i] = peek32(at + place[i]) & 0xffff;
    e->vector = peek32(at + 48) & 0xff;
    at += 52;
    e->handler_sp = capture.sp + 52;
    bool gate16 = through_gate16(e->vector);
    unsigned width = gate16 ? 2 : 4;
    u32 mask = gate16 ? 0xffff : 0xffffffff;
    if (pushes_error(e->vector) && !m.soft) {
        e->has_error = true;
        e->error = peek32(at) & mask;
        at += width;
    }
    e->rip = peek32(at) & mask;
    e->cs = peek32(at + width) & 0xffff;
    e->flags = peek32(at + 2 * width) & mask;
    if ((e->flags & FL_VM && width == 4) || (e->cs & 3) > (capture.cs & 3)) {
        e->sp = peek32(at + 3 * width) & mask;
        e->ss = peek32(at + 4 * width) & 0xffff;
        if (e->flags & FL_VM && width == 4)
            for (unsigned i = 0; i < 4; i++)
                e->seg[i] = peek32(at + 20 + 4 * i) & 0xffff;
    } else {
        e->ss = capture.ss;
        e->sp = capture.sp + 52 + (e->has_error ? width : 0) + 3 * width;
    }
}

static void read_task(struct event *e)
{
    u64 at = segment_base(capture.ss) + capture.sp, old = segment_base(peek32(segment_base(capture.tr)) & 0xffff);
    for (unsigned v = 0; v < 32; v++) {
        u32 entry = IDT + 8 * v;
        if ((peek32(entry + 4) >> 8 & 0x1f) == 5 && peek32(entry) >> 16 == (capture.tr & 0xffff))
            e->vector = v;
    }
    e->task = true;
    e->has_error = pushes_error(e->vector);
    e->error = e->has_error ? peek32(at) : 0;
    e->handler_sp = capture.sp;
    e->rip = peek32(old + 0x20);
    e->flags = peek32(old + 0x24);
    for (unsigned i = 0; i < 8; i++)
        e->gpr[i] = peek32(old + 0x28 + 4 * i);
    e->sp = e->gpr[SP];
    e->seg[ES] = peek32(old + 0x48) & 0xffff;
    e->cs = peek32(old + 0x4c) & 0xffff;
    e->ss = peek32(old + 0x50) & 0xffff;
    for (unsigned i = 1; i < 4; i++)
        e->seg[i] = peek32(old + 0x50 + 4 * i) & 0xffff;
}

static void read64(struct event *e)
{
    u64 at = capture.sp;
    static const u8 place[4] = {16, 24, 8, 0};
    for (unsigned i = 0; i < 4; i++)
        e->seg[i] = peek32(at + place[i]) & 0xffff;
    for (unsigned i = 0; i < 16; i++)
        e->gpr[i] = peek64(at + 32 + 8 * (15 - i));
    e->vector = peek32(at + 160) & 0xff;
    at += 168;
    e->handler_sp = at;
    if (pushes_error(e->vector) && !m.soft) {
        e->has_error = true;
        e->error = peek32(at);
        at += 8;
    }
    e->rip = peek64(at);
    e->cs = peek32(at + 8) & 0xffff;
    e->flags = peek64(at + 16);
    e->sp = peek64(at + 24);
    e->ss = peek32(at + 32) & 0xffff;
}

/* ---- the line ---- */

static char line[512];
static unsigned used;

static void put(const char *format, ...);

static void put_char(char c)
{
    if (used < sizeof(line) - 1)
        line[used++] = c;
    line[used] = 0;
}


/* The common formatter: appends to a buffer through `out`. */
static void format_to(void (*out)(char), const char *format, va_list arguments)
{
    for (; *format; format++) {
        if (*format != '%') {
            out(*format);
            continue;
        }
        char digits[24];
        unsigned n = 0;
        u64 value;
        const char *string;
        switch (*++format) {
        case 's':
            for (string = va_arg(arguments, const char *); *string; string++)
                out(*string);
            break;
        case 'c': out((char)va_arg(arguments, int)); break;
        default:
            value = *format == 'd' ? va_arg(arguments, unsigned) : va_arg(arguments, u64);
            do
                digits[n++] = "0123456789abcdef"[value % (*format == 'd' ? 10 : 16)];
            while (value /= *format == 'd' ? 10 : 16);
            while (n)
                out(digits[--n]);
        }
    }
}

static void put(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_to(put_char, format, arguments);
    va_end(arguments);
}

static void console(char c) { __asm__ volatile("outb %0, %1" : : "a"(c), "Nd"((u16)0xe9)); }

void print(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    format_to(console, format, arguments);
    va_end(arguments);
}

static char texts[8][256], *text_at, *text_end;
static void text_char(char c)
{
    if (text_at < text_end)
        *text_at++ = c;
}

const char *text(const char *format, ...)
{
    static unsigned turn;
    char *start = text_at = texts[turn++ % 8];
    text_end = start + 255;
    va_list arguments;
    va_start(arguments, format);
    format_to(text_char, format, arguments);
    va_end(arguments);
    *text_at = 0;
    return start;
}

static const char *const names[32] = {
    "DE", "DB", "NMI", "BP", "OF", "BR", "UD", "NM", "DF", "CSO", "TS", "NP", "SS", "GP", "PF", "15",
    "MF", "AC", "MC", "XM", "VE", "CP", "22", "23", "24", "25", "26", "27", "28", "29", "30", "31",
};

/* Linear address of the interrupted instruction. */
static u64 where(const struct event *e)
{
    if (capture.kind == 16 || (capture.kind == 32 && e->flags & FL_VM && !through_gate16(e->vector)))
        return e->cs * 16u + (e->rip & 0xffff);
    if (capture.kind == 64 && e->cs != CS16 && e->cs != CS16_3)
        return e->rip;
    return (e->cs & 0xfffc) ? segment_base(e->cs) + e->rip : e->rip;
}

static void put_where(u64 la)
{
    if (la == START)
        return;
    for (unsigned i = 0; i < 16; i++)
        if (la == LANDING(i)) {
            put("@L%d", i);
            return;
        }
    if (la > START && la <= m.code_end)
        put("@+%d", (unsigned)(la - START));
    else
        put("@%x", la);
}

static void put_event(const struct event *e)
{
    u64 la = where(e);
    if (e->vector == 6 && la == m.code_end) {
        put("ok");
    } else if (e->vector == 6 && la >= LANDING(0) && la < LANDING(16) && la % 16 == 0) {
        put("L%d", (unsigned)(la - LANDING(0)) / 16);
    } else {
        if (e->vector < 32)
            put("%s", names[e->vector]);
        else
            put("int%x", (u64)e->vector);
        if (e->has_error)
            put("(%x)", (u64)e->error);
        if (e->task)
            put("task");
        put_where(la);
        if (e->vector == 14 && capture.cr2 != m.target)
            put(" cr2=%x", capture.cr2);
        if (e->vector == 1 && !m.soft) {
            put("[");
            for (unsigned i = 0; i < 4; i++)
                if (capture.dr6 >> i & 1)
                    put("B%d", i);
            if (m.show & SHOW_BLD && !(capture.dr6 >> 11 & 1))
                put("BLD");
            put("%s%s%s]", capture.dr6 >> 13 & 1 ? "BD" : "", capture.dr6 >> 14 & 1 ? "BS" : "", capture.dr6 >> 15 & 1 ? "BT" : "");
        }
    }
}

static void put_state(const struct event *e)
{
    u32 show = m.show;
    static const struct { u32 bit; u8 reg; const char *name; } registers[] = {
        {SHOW_AX, AX, "ax"}, {SHOW_CX, CX, "cx"}, {SHOW_DX, DX, "dx"}, {SHOW_BX, BX, "bx"}, {SHOW_SI, SI, "si"}, {SHOW_R11, R11, "r11"},
    };
    if (show & SHOW_CS)
        put(" cs=%x", (u64)e->cs);
    if (show & SHOW_SS)
        put(" ss=%x", (u64)e->ss);
    if (show & SHOW_SP)
        put(" sp=%x", e->sp);
    if (show & SHOW_FL)
        put(" fl=%x", e->flags & ~0x8d5ull);
    if (show & SHOW_ZF)
        put(" zf=%d", (unsigned)(e->flags >> 6 & 1));
    if (show & SHOW_CF)
        put(" cf=%d", (unsigned)(e->flags & 1));
    for (unsigned i = 0; i < sizeof(registers) / sizeof(registers[0]); i++)
        if (show & registers[i].bit)
            put(" %s=%x", registers[i].name, e->gpr[registers[i].reg]);
    if (show & SHOW_DS)
        put(" ds=%x es=%x fs=%x gs=%x", (u64)e->seg[DS], (u64)e->seg[ES], (u64)e->seg[FS], (u64)e->seg[GS]);
    if (show & SHOW_CR0)
        put(" cr0=%x", capture.cr0);
    if (show & SHOW_CR2)
        put(" cr2=%x", capture.cr2);
    if (show & SHOW_CR4)
        put(" cr4=%x", capture.cr4);
    if (show & SHOW_EFER)
        put(" efer=%x", (u64)capture.efer);
    if (show & SHOW_DR6)
        put(" dr6=%x", capture.dr6);
    if (show & SHOW_DR7)
        put(" dr7=%x", capture.dr7);
    if (show & SHOW_TR)
        put(" tr=%x", (u64)(capture.tr & 0xffff));
    if (show & SHOW_LDT)
        put(" ldt=%x", (u64)(capture.ldt & 0xffff));
    if (show & SHOW_BASES)
        put(" fsb=%x gsb=%x kgsb=%x", capture_bases[0], capture_bases[1], capture_bases[2]);
    if (show & SHOW_MEM)
        put(" mem=%x", (u64)peek32(m.watch));
    if (show & SHOW_HANDLER)
        put(" h:cs=%x ss=%x sp=%x fl=%x", (u64)capture.cs, (u64)(capture.ss & 0xffff), e->handler_sp, capture.flags & ~0x8d5ull);
}

static bool same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* One of the prefixes in `skip`, separated by commas. */
static bool left_out(const char *name)
{
    for (const char *p = skip; p && *p;) {
        const char *at = name;
        while (*p && *p != ',' && *p == *at)
            p++, at++;
        if (!*p || *p == ',')
            return true;
        while (*p && *p != ',')
            p++;
        p += *p == ',';
    }
    return false;
}

/* Runs the case; what became of it. */
static struct event launch_case(void)
{
    poke16(m.code_end, 0x0b0f);
    if (m.mode == REAL) {
        u64 at = REAL_STATE;
        static const u8 order[7] = {AX, CX, DX, BX, BP, SI, DI};
        const u64 first[9] = {L.ss, L.rsp, L.rflags, L.cs, L.rip, L.seg[DS], L.seg[ES], L.seg[FS], L.seg[GS]};
        for (unsigned i = 0; i < 9; i++)
            poke32(at + 4 * i, (u32)first[i]);
        for (unsigned i = 0; i < 7; i++)
            poke32(at + 36 + 4 * i, (u32)L.gpr[order[i]]);
    }
    for (unsigned i = 0; i < m.msr_count; i++)
        write_msr(m.msrs[i].msr, m.msrs[i].value);
    if (m.interrupt)
        poke32(0xfee00300, m.interrupt);
    launch();
    if (m.interrupt) {                 /* what the case took ends, what it did not take is forgotten */
        poke32(0xfee000b0, 0);
        __asm__ volatile("sti; nop; cli" : : : "memory");
    }
    for (unsigned i = 0; i < m.msr_count; i++)
        write_msr(m.msrs[i].msr, 0);
    struct event e;
    __builtin_memset(&e, 0, sizeof(e));
    switch (capture.kind) {
    case 16: read16(&e); break;
    case 32: read32(&e); break;
    case 33: read_task(&e); break;
    default: read64(&e); break;
    }
    return e;
}

bool msr_takes(u32 msr, u32 value)
{
    begin(LONG, 0);
    L.gpr[CX] = msr;
    L.gpr[AX] = value;
    code("0f 30 31 c0 0f 30");
    struct event e = launch_case();
    return e.vector == 6;
}

void run(const char *name, const char *expect)
{
    if (only && !same(only, name))
        return;
    if (!only && m.shutdown) {
        print("%s: shuts down\n", name);
        return;
    }
    if (left_out(name)) {
        print("%s: left out\n", name);
        return;
    }
    count_cases++;
    if (m.skip) {
        count_absent++;
        print("%s: absent\n", name);
        return;
    }
    struct event e = launch_case();
    used = 0;
    put_event(&e);
    put_state(&e);
    print("%s: %s\n", name, line);
    if (!same(line, expect)) {
        count_wrong++;
        print("! expected %s\n", expect);
    }
}
