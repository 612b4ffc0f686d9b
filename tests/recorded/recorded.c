/* Single-step vectors recorded on a real 80286 in real mode, run on Nestor's interpreter. Reads the unpacked vector file (format "SSV1", described
 * beside the data) from standard input.
 *
 *     zstd -dc i286-real-mode.ssv.zst | recorded [--verbose N]     N: failures printed for each opcode (default 3)
 *
 * Behaviour that only the 286 has is left out by exempt() below, each class with its reason; everything else must match: registers, flags that the
 * recording says are defined, memory, and the exception taken.
 */
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/mode.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
#include "tests/rows.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM (16u << 20)
#define MOST_RECORD 65536

enum { AX, BX, CX, DX, CS, SS, DS, ES, SP, BP, SI, DI, IP, FLAGS, REGS };
static const char *const reg_names[REGS] = {"ax", "bx", "cx", "dx", "cs", "ss", "ds", "es", "sp", "bp", "si", "di", "ip", "flags"};
static const u8 gpr_of[REGS] = {[AX] = REG_RAX, [BX] = REG_RBX, [CX] = REG_RCX, [DX] = REG_RDX, [SP] = REG_RSP,
                                [BP] = REG_RBP, [SI] = REG_RSI, [DI] = REG_RDI};
static const u8 seg_of[REGS] = {[CS] = SEG_CS, [SS] = SEG_SS, [DS] = SEG_DS, [ES] = SEG_ES};

static struct cpu cpu;
static struct bus bus;

struct vector {
    u32 index;
    u16 before[REGS], after[REGS];
    const u8 *memory, *changes;    /* runs; each list ends where the next begins */
    const u8 *memory_end, *changes_end;
    u8 vector;
};

/* ---- the board: nothing is there ------------------------------------------------------------------------------------- */

static u64 no_tsc(void *arg, struct cpu *c) { (void)arg, (void)c; return 0; }
static void no_shutdown(void *arg, struct cpu *c) { (void)arg, (void)c; }
static const struct cpu_board board = {.tsc = no_tsc, .shutdown = no_shutdown};

/* ---- reading --------------------------------------------------------------------------------------------------------- */

static void must_read(void *to, size_t n)
{
    if (fread(to, 1, n, stdin) != n) {
        fprintf(stderr, "recorded: the vector file ends early\n");
        exit(2);
    }
}

static const u8 *skip_runs(const u8 *p, const u8 *end)
{
    u16 runs = load16(p);
    p += 2;
    while (runs-- && p + 5 <= end)
        p += 5 + p[4];
    return p;
}

static void parse(struct vector *v, const u8 *p, const u8 *end)
{
    v->index = load32(p);
    p += 4;
    for (unsigned i = 0; i < REGS; i++, p += 2)
        v->before[i] = v->after[i] = load16(p);
    u16 changed = load16(p);
    p += 2;
    for (unsigned i = 0; i < REGS; i++)
        if (changed >> i & 1) {
            v->after[i] = load16(p);
            p += 2;
        }
    v->memory = p;
    v->memory_end = v->changes = skip_runs(p, end);
    v->changes_end = p = skip_runs(v->changes, end);
    v->vector = p[0];
}

/* Calls `use` for every byte of a list of runs. */
#define EACH_BYTE(list, address, byte)                                                                                 \
    for (unsigned runs_ = load16(list), at_ = 2; runs_; at_ += 5 + (list)[at_ + 4], runs_--)                           \
        for (unsigned i_ = 0, address, byte; i_ < (list)[at_ + 4] && (address = load32((list) + at_) + i_, byte = (list)[at_ + 5 + i_], 1); i_++)

/* ---- running --------------------------------------------------------------------------------------------------------- */

static void set_segment(unsigned seg, u16 selector)
{
    struct segment *s = &cpu.seg.s[seg];
    s->selector = selector;
    s->base = (u32)selector << 4;
    s->limit = 0xffff;
    s->access = AR_P | AR_S | AR_WRITABLE | AR_ACCESSED | (seg == SEG_CS ? AR_CODE : 0);
}

static void load(const struct vector *v)
{
    EACH_BYTE(v->memory, address, byte)
        if (address < RAM)
            bus.ram[address] = (u8)byte;
    cpu_reset(&cpu, false);
    for (unsigned i = 0; i < REGS; i++) {
        if (i >= CS && i <= ES)
            set_segment(seg_of[i], v->before[i]);
        else if (i < IP)
            cpu.core.r[gpr_of[i]] = v->before[i];
    }
    cpu.core.rip = v->before[IP];
    /* A 286 in real mode cannot set IOPL, NT and bit 15. */
    cpu_set_rflags(&cpu, (v->before[FLAGS] & 0x0fd5) | FL_R1);
    cpu.event.activity = ACTIVITY_ACTIVE;
    cpu_mode_update(&cpu);
}

/* Runs the instruction (all of a repeated one), and delivers what it raised. */
static void run(void)
{
    u64 rip = cpu.core.rip;
    u32 cs = cpu.seg.s[SEG_CS].selector;
    for (unsigned i = 0; i < 8; i++) {
        cpu.stop_at = cpu.time.now + 1;
        cpu_run(&cpu);
        if (cpu.event.attention & ATT_EVENT)
            cpu_service_events(&cpu);
        if (cpu.core.rip != rip || cpu.seg.s[SEG_CS].selector != cs)
            break;
    }
}

/* ---- comparing ------------------------------------------------------------------------------------------------------- */

static unsigned compare(const struct vector *v, u16 flags_mask, bool halts, char *text, size_t size)
{
    unsigned bad = 0;
    size_t used = 0;
    for (unsigned i = 0; i < REGS; i++) {
        u16 got = (u16)(i >= CS && i <= ES ? cpu.seg.s[seg_of[i]].selector : i == IP ? cpu.core.rip + !halts
                        : i == FLAGS ? cpu_rflags(&cpu) : cpu.core.r[gpr_of[i]]);
        u16 mask = i == FLAGS ? flags_mask & 0x0fd5 : 0xffff;
        if ((got ^ v->after[i]) & mask) {
            bad++;
            if (used < size)
                used += (size_t)snprintf(text + used, size - used, " %s=%04x, not %04x;", reg_names[i], got, v->after[i]);
        }
    }
    /* The recording rounds the address of the pushed FLAGS down to even; where they stand follows from SS:SP. */
    u32 pushed = ((u32)v->after[SS] << 4) + (u16)(v->after[SP] + 4);
    EACH_BYTE(v->changes, address, byte) {
        u8 mask = 0xff;
        if (v->vector != 0xff && address == pushed)
            mask = (u8)(flags_mask & 0xd5);
        else if (v->vector != 0xff && address == pushed + 1)
            mask = (u8)(flags_mask >> 8 & 0x0f);
        if (address < RAM && ((bus.ram[address] ^ byte) & mask)) {
            bad++;
            if (used < size)
                used += (size_t)snprintf(text + used, size - used, " [%06x]=%02x, not %02x;", address, bus.ram[address], byte);
        }
    }
    return bad;
}

static void clean(const struct vector *v)
{
    EACH_BYTE(v->memory, address, byte) {
        (void)byte;
        if (address < RAM)
            bus.ram[address] = 0;
    }
    EACH_BYTE(v->changes, address, byte) {
        (void)byte;
        if (address < RAM)
            bus.ram[address] = 0;
    }
    memset(bus.ram + (((u32)cpu.seg.s[SEG_SS].selector << 4) & 0xfffff), 0, 65536);
    if (bus.code_map)
        for (u64 page = 0; page < RAM / PAGE_SIZE; page++)
            if (bus.page_flags[page] & PAGE_CODE)
                bus_note_write(&bus, page * PAGE_SIZE, PAGE_SIZE);
}

/* ---- what only a 286 does -------------------------------------------------------------------------------------------- */

struct bytes {
    u8 at[16];
    unsigned prefixes;         /* how many prefix bytes stand before the opcode */
    bool lock, rep, segment;
};

static struct bytes instruction(const struct vector *v)
{
    struct bytes b = {.prefixes = 0};
    for (unsigned i = 0; i < sizeof b.at; i++) {
        u32 address = ((u32)v->before[CS] << 4) + (u16)(v->before[IP] + i);
        b.at[i] = address < RAM ? bus.ram[address] : 0;
    }
    for (; b.prefixes < 15; b.prefixes++) {
        u8 p = b.at[b.prefixes];
        if (p == 0xf0)
            b.lock = true;
        else if (p == 0xf2 || p == 0xf3)
            b.rep = true;
        else if (p == 0x26 || p == 0x2e || p == 0x36 || p == 0x3e)
            b.segment = true;
        else
            break;
    }
    return b;
}

/* The reason why a vector says nothing about later processors, or NULL. */
static const char far_pointer[] = "the 286 lets a far pointer or a pair of bounds wrap at offset FFFF; later processors check the limit";

static const char *exempt(const struct vector *v, const char *name, u8 kind, const struct bytes *b)
{
    u8 op = b->at[b->prefixes], modrm = b->at[b->prefixes + 1];
    static const struct { const char *name; u32 index; const char *why; } single[] = {
        {"FF.3", 2916, far_pointer}, {"FF.3", 3650, far_pointer}, {"FF.3", 4544, far_pointer},
        {"FF.5", 2914, far_pointer}, {"FF.5", 3652, far_pointer}, {"FF.5", 4550, far_pointer}, {"62", 4678, far_pointer},
        {"CD", 2044, "the recording shows SS where CS was pushed"},
        {"F6.7", 952, "the recorded quotient of -32319 / -4 is no quotient of these numbers"},
    };
    for (size_t i = 0; i < sizeof single / sizeof single[0]; i++)
        if (strcmp(single[i].name, name) == 0 && single[i].index == v->index)
            return single[i].why;
    if (op == 0xd4 && v->vector == 0)
        return "AAM 0: the 286 changes flags before #DE";
    if (kind)
        return "alias, undocumented opcode or FPU escape";
    if (b->prefixes >= 10)
        return "the 286 takes instructions of at most 10 bytes";
    if (b->lock)
        return "the 286 accepts LOCK before anything; later processors raise #UD [SDM2 \"LOCK\"]";
    if (op >= 0x64 && op <= 0x67)
        return "FS, GS, operand-size and address-size prefixes came with the 386";
    if (op == 0x0f && modrm != 0x01 && modrm != 0x00)
        return "0F opcodes of later processors";
    if (op == 0x0f)
        return "LGDT, SMSW and their like: other register widths, and SLDT &c. are #UD in real mode alike";
    if (v->vector == 13 || v->vector == 12 || v->vector == 9 || v->vector == 8)
        return "limit and length faults: the 286 checks word accesses at offset FFFF, pushes at SP=1 and lengths in its own way";
    if (op == 0x8c || op == 0x8e) {
        if ((modrm >> 3 & 7) > 3)
            return "segment registers FS and GS came with the 386";
    }
    return NULL;
}

int main(int argc, char **argv)
{
    unsigned verbose = 3;
    if (argc == 3 && strcmp(argv[1], "--verbose") == 0)
        verbose = (unsigned)strtoul(argv[2], NULL, 10);
    char magic[4];
    must_read(magic, 4);
    if (memcmp(magic, "SSV1", 4) != 0) {
        fprintf(stderr, "recorded: standard input is no SSV1 file\n");
        return 2;
    }
    char message[200];
    if (!cpu_model_set(&cpu, "base", message, sizeof message) || !bus_init(&bus, RAM, RAM)) {
        fprintf(stderr, "recorded: cannot set up\n");
        return 2;
    }
    cpu.bus = &bus;
    cpu.board = &board;
    cpu.interp = interp_new(&bus);
    if (!cpu.interp || !tlb_init(&cpu))
        return 2;
    rows_trace(&cpu);
    unsigned long total = 0, failed = 0, left_out = 0;
    static u8 record[MOST_RECORD];
    int c;
    while ((c = getchar()) != EOF) {
        char name[32] = "";
        must_read(name, (size_t)(c < 31 ? c : 31));
        u8 head[7];
        must_read(head, 7);
        u16 flags_mask = load16(head);
        u32 count = load32(head + 3);
        unsigned long bad_here = 0, ran_here = 0;
        for (u32 i = 0; i < count; i++) {
            u8 size[2];
            must_read(size, 2);
            must_read(record, load16(size));
            struct vector v;
            parse(&v, record, record + load16(size));
            load(&v);
            struct bytes b = instruction(&v);
            if (exempt(&v, name, head[2], &b)) {
                left_out++;
                clean(&v);
                continue;
            }
            run();
            char text[400] = "";
            total++, ran_here++;
            if (compare(&v, flags_mask, b.at[b.prefixes] == 0xf4, text, sizeof text)) {
                if (bad_here++ < verbose) {
                    printf("%s #%u:", name, v.index);
                    for (unsigned k = 0; k < b.prefixes + 6; k++)
                        printf(" %02x", b.at[k]);
                    printf(" vector %02x:%s\n", v.vector, text);
                }
            }
            clean(&v);
        }
        failed += bad_here;
        if (bad_here)
            printf("%-6s %lu of %lu failed\n", name, bad_here, ran_here);
    }
    printf("recorded 80286 vectors: %lu left out as the 286's own\n%lu passed, %lu failed\n", left_out, total - failed, failed);
    interp_free(cpu.interp);
    tlb_free(&cpu);
    bus_free(&bus);
    return failed != 0 || total == 0;
}
