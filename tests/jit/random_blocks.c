/* Random programs on the interpreter, on calls of handlers and on translated code: after every slice of instructions all of the processors'
 * state and at the end all of memory have to be the same.
 *
 *     random_blocks [--seed S] [--rounds N] [--verbose]
 *
 * A round is a program of up to 60 instructions in a page, or over a page's edge, that runs in circles on two vCPUs by turns. It faults (some
 * pages of its data are missing, read-only or the supervisor's), writes into itself, also by a second address and for the other vCPU,
 * single-steps, meets breakpoints and interrupts; it has loops of several blocks, with ways out, loops in them and writes to code beside the path
 * that is taken; its model has no AVX, AVX2 or AVX-512, with XCR0 and MXCSR as they come, and performance counters
 * may run and overflow; two address spaces, where the program's second page is not the same, are changed without a flush, and with one; slices of
 * random length stop it at every offset. Every exception leads to code that
 * gives all registers new values and starts the program again.
 */
#include "cpu/block.h"
#include "cpu/event.h"
#include "cpu/features.h"
#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/jit/jit.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/pmu.h"
#include "cpu/table.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
#include "tests/jit/generate_code.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM (512u << 10)
#define CPUS 2
#define SAMPLE_EVERY 37                /* so seldom that other code runs, so often that there are superblocks in any loop */
enum { ENGINES = 3 };
static const char *const engine_names[ENGINES] = {"interp", "calls", "jit"};

/* Where things are; linear and physical addresses are the same, but for the alias of the code pages. */
enum {
    TABLES = 0x1000, IDT = 0x5000, GDT = 0x6000, TSS = 0x6800, RESTART = 0x7000, STACK = 0x8000, CODE = 0x10000, DATA = 0x20000,
    ALIAS = 0x40000, TABLES_2 = 0x50000, TWIN = 0x58000, DATA_SIZE = 0x8000,
};

struct rig {
    struct bus bus;
    struct cpu *cpu;                   /* CPUS of them */
    struct interp *interp;
    bool interrupt[CPUS];
    const char *model;
};
static struct rig rigs[ENGINES];

/* ---- a board ------------------------------------------------------------------------------------------------------- */

static u64 board_tsc(void *arg, struct cpu *c) { (void)arg; return cpu_exact_now(c); }
static int board_acknowledge(void *arg, struct cpu *c)
{
    struct rig *rig = arg;
    rig->interrupt[c->index] = false;
    cpu_signal(c, ATT_INTR, 0, false);
    return 0x60;
}
static bool board_pending(void *arg, struct cpu *c) { return ((struct rig *)arg)->interrupt[c->index]; }
static u8 board_tpr(void *arg, struct cpu *c) { (void)arg, (void)c; return 0; }
static void board_set_tpr(void *arg, struct cpu *c, u8 tpr) { (void)arg, (void)c, (void)tpr; }
static bool board_msr_read(void *arg, struct cpu *c, u32 msr, u64 *v) { (void)arg, (void)c; *v = msr; return true; }
static bool board_msr_write(void *arg, struct cpu *c, u32 msr, u64 v) { (void)arg, (void)c, (void)msr, (void)v; return true; }
static bool board_apic_base(void *arg, struct cpu *c, u64 v) { (void)arg, (void)c, (void)v; return true; }
static void board_perf_interrupt(void *arg, struct cpu *c)
{
    ((struct rig *)arg)->interrupt[c->index] = true;
    cpu_signal(c, ATT_INTR, 0, true);
}
static void board_nothing(void *arg, struct cpu *c) { (void)arg, (void)c; }
static u64 board_random(void *arg, struct cpu *c) { (void)arg; return cpu_exact_now(c) * 0x123456789abcdefull; }
static const struct cpu_board board = {
    .tsc = board_tsc, .interrupt_acknowledge = board_acknowledge, .interrupt_pending = board_pending, .tpr_get = board_tpr,
    .tpr_set = board_set_tpr, .apic_msr_read = board_msr_read, .apic_msr_write = board_msr_write,
    .apic_base_write = board_apic_base, .apic_init = board_nothing, .random = board_random, .shutdown = board_nothing,
    .ferr = board_nothing, .perf_interrupt = board_perf_interrupt,
};

/* ---- a round's machine ----------------------------------------------------------------------------------------------- */

static u8 image[RAM];                  /* what all engines' memory begins with */
static struct program program;
static u64 start;                      /* of the program */
static bool code32;                    /* it is 32-bit code, run in compatibility mode */

static void put(u32 *at, u64 v, unsigned n)
{
    memcpy(image + *at, &v, n);
    *at += n;
}

static u64 register_value(unsigned n)
{
    switch (n) {
    case REG_RBX: case REG_RSI: case REG_RDI: case REG_RBP: return DATA + 0x100 + below(DATA_SIZE - 0x300);
    case REG_RSP: return STACK + 0x800 + below(0x400) * (below(8) ? 8u : 1u);
    default: return below(3) == 0 ? below(64) : below(2) ? random_next() : random_next() >> below(64);
    }
}

/* Gives all registers and flags new values and goes to the program, at CPL 0 or 3. */
static void make_restart(bool user)
{
    u32 at = RESTART;
    for (unsigned n = 0; n < 16; n++) {
        put(&at, 0x48 | n >> 3 | (0xb8 | (n & 7)) << 8, 2);
        put(&at, register_value(n) | (code32 && n != REG_RSP && below(4) == 0 ? random_next() << 32 : 0), 8);
    }
    u64 flags = (random_next() & (FL_STATUS | FL_DF | FL_IF)) | FL_R1;
    const u64 frame[5] = {user ? 0x1b : 0x10, register_value(REG_RSP), flags, code32 ? user ? 0x3b : 0x30 : user ? 0x23 : 0x08, start};
    for (unsigned i = 0; i < 5; i++) { /* PUSH imm32; all of it fits */
        put(&at, 0x68, 1);
        put(&at, frame[i], 4);
    }
    put(&at, 0xcf48, 2);               /* IRETQ */
}

/* An address space, in which the program's second page is at `second`. */
static void make_space(u32 tables, u32 second)
{
    store64(image + tables, (tables + 0x1000) | 7);
    store64(image + tables + 0x1000, (tables + 0x2000) | 7);
    store64(image + tables + 0x2000, (tables + 0x3000) | 7);
    u8 *pages = image + tables + 0x3000;
    for (unsigned i = 0; i < RAM / PAGE_SIZE; i++)
        store64(pages + i * 8, i * PAGE_SIZE | 7);
    for (unsigned i = 0; i < 3; i++)
        store64(pages + (ALIAS / PAGE_SIZE + i) * 8, (CODE + i * PAGE_SIZE) | 7);
    store64(pages + (CODE / PAGE_SIZE + 1) * 8, second | 7);
    u8 *data = pages + DATA / PAGE_SIZE * 8;
    store64(data + 3 * 8, 0);
    store64(data + 5 * 8, (DATA + 5 * PAGE_SIZE) | 5);
    store64(data + 6 * 8, (DATA + 6 * PAGE_SIZE) | 3);
}

static void make_tables(void)
{
    make_space(TABLES, CODE + PAGE_SIZE);
    make_space(TABLES_2, TWIN);
    for (unsigned v = 0; v < 256; v++) {
        unsigned dpl = v == 3 || v == 0x60 ? 3 : 0;
        store64(image + IDT + v * 16, (RESTART & 0xffff) | 8ull << 16 | (u64)(0x8e00 | dpl << 13) << 32);
        store64(image + IDT + v * 16 + 8, 0);
    }
    store64(image + GDT + 0x08, 0x00af9b000000ffffull);
    store64(image + GDT + 0x10, 0x00cf93000000ffffull);
    store64(image + GDT + 0x18, 0x00cff3000000ffffull);
    store64(image + GDT + 0x20, 0x00affb000000ffffull);
    store64(image + GDT + 0x30, 0x00cf9b000000ffffull);    /* 32-bit code */
    store64(image + GDT + 0x38, 0x00cffb000000ffffull);
    memset(image + TSS, 0, 0x68);
    store64(image + TSS + 4, STACK + 0x7ff0);
}

/* Vector registers, MXCSR (which masks everything, as a rule) and what of AVX is switched on. */
static struct { u64 v[32][8]; u32 mxcsr; u64 xcr0; bool osxsave; } vectors;

static u64 vector_value(void)
{
    static const u64 special[] = {0x7ff8000000000000ull, 0xfff0000000000001ull, 0x7ff0000000000000ull, 1, 0x8000000000000000ull,
                                  0x7fc000007f800001ull, 0xff80000000000001ull, 0x8000000000800000ull};
    switch (below(4)) {
    case 0: return special[below(ARRAY_SIZE(special))];
    case 1: return 0x3ff0000000000000ull + (random_next() >> 8);
    default: return random_next();
    }
}

static void make_vectors(void)
{
    for (unsigned n = 0; n < 32; n++)
        for (unsigned i = 0; i < 8; i++)
            vectors.v[n][i] = vector_value();
    vectors.mxcsr = below(8) ? 0x1f80 | (below(2) ? below(8) << 13 | below(2) << 6 : 0) : (u32)random_next() & 0xffff;
    vectors.osxsave = below(16) != 0;
    vectors.xcr0 = below(16) ? below(2) ? 7 : 0xe7 : 3;
}

static void set_vectors(struct cpu *cpu)
{
    unsigned registers = cpu_has(cpu, FEATURE_AVX512F) ? 32 : 16, words = registers == 32 ? 8 : cpu_has(cpu, FEATURE_AVX) ? 4 : 2;
    for (unsigned n = 0; n < registers; n++)
        memcpy(cpu->fpu.v[n], vectors.v[n], words * 8);
    cpu->fpu.mxcsr = vectors.mxcsr;
    if (words > 2 && vectors.osxsave) {
        cpu->sys.cr4 |= CR4_OSXSAVE;
        cpu->sys.xcr0 = registers == 32 ? vectors.xcr0 : vectors.xcr0 & 7;
    }
}

/* Performance counters in a third of the rounds: cycles, instructions, seldom branches, with filters, near their overflow or not. */
static struct { u64 fixed_ctrl, evtsel[3], start[4]; } counters;

static u64 counter_start(void) { return below(2) ? below(4000) : BIT(PMU_WIDTH) - 1 - below(4000); }

static void make_counters(void)
{
    static const u16 events[] = {0x3c, 0xc0, 0x13c, 0xc0, 0x3c, 0xc4, 0x412e};
    memset(&counters, 0, sizeof(counters));
    if (below(3))
        return;
    for (unsigned n = 0; n < 3; n++) {
        u64 control = below(2) ? PMU_SELECT_EN | PMU_SELECT_INT : below(2) ? PMU_SELECT_EN : 0;
        counters.evtsel[n] = events[below(below(4) ? 5 : 7)] | control | (u64)below(4) << 16;
        if (below(16) == 0)
            counters.evtsel[n] |= below(2) ? PMU_SELECT_EDGE : 1u << 24;
        counters.start[n] = counter_start();
    }
    counters.start[3] = counter_start();
    counters.fixed_ctrl = below(16) & 0xb;
}

static void set_counters(struct cpu *cpu)
{
    for (unsigned n = 0; n < 3; n++) {
        cpu->sys.perf_evtsel[n] = counters.evtsel[n];
        cpu->sys.perf_pmc[n] = counters.start[n];
    }
    cpu->sys.perf_fixed_ctrl = counters.fixed_ctrl;
    cpu->sys.perf_fixed[0] = counters.start[3];
    cpu->sys.perf_global_ctrl = 0x1000000ff;
    pmu_update(cpu);
}

static void make_round(bool *user)
{
    memset(image, 0, RAM);
    make_tables();
    for (u32 i = DATA; i < DATA + DATA_SIZE; i += 8)
        if (below(16) == 0)
            store64(image + i, random_next());
    code32 = below(3) == 0;
    start = CODE + (below(3) ? below(2048) : 4096 - below(300));
    const struct ground ground = {.code = start, .data = DATA, .alias = ALIAS + (start - CODE), .data_size = DATA_SIZE - 64,
                                  .code32 = code32, .stack_end = STACK + 0x7800};
    generate_program(&program, &ground, 3 + below(58));
    memcpy(image + start, program.bytes, program.size);
    memcpy(image + TWIN, image + CODE + PAGE_SIZE, PAGE_SIZE);
    for (unsigned i = below(6); i > 0; i--) {
        u64 at = start + program.starts[below(program.count)];
        if (at >= CODE + PAGE_SIZE)
            image[TWIN + (at & (PAGE_SIZE - 1))] = below(2) ? 0x90 : (u8)(0x50 + below(8));
    }
    *user = below(3) == 0;
    make_restart(*user);
    make_vectors();
    make_counters();
}

static void set_segment(struct cpu *cpu, unsigned n, u16 selector, u32 access)
{
    cpu->seg.s[n] = (struct segment){.limit = 0xffffffff, .access = access, .selector = selector};
}

static void make_cpu(struct cpu *cpu, u64 dr7, u64 dr0)
{
    cpu_reset(cpu, false);
    cpu->event.activity = ACTIVITY_ACTIVE;
    cpu->event.attention = 0;
    cpu->sys.cr0 = CR0_PE | CR0_PG | CR0_WP | CR0_NE | CR0_ET;
    cpu->sys.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_PCE | CR4_PCIDE;
    cpu->sys.cr3 = TABLES | 1;
    cpu->sys.efer = EFER_LME | EFER_LMA | EFER_SCE;
    set_segment(cpu, SEG_CS, 8, AR_P | AR_S | AR_L | AR_G | 11);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        if (n != SEG_CS)
            set_segment(cpu, n, n == SEG_SS ? 0x10 : 0x1b, AR_P | AR_S | AR_DB | AR_G | 3 | (n == SEG_SS ? 0 : AR_DPL));
    cpu->seg.s[SEG_TR] = (struct segment){.base = TSS, .limit = 0x67, .access = AR_P | 11, .selector = 0x28};
    cpu->seg.s[SEG_LDTR].access = AR_UNUSABLE;
    cpu->seg.gdtr = (struct table_register){.base = GDT, .limit = 0xff};
    cpu->seg.idtr = (struct table_register){.base = IDT, .limit = 0xfff};
    cpu->sys.dr[0] = dr0;
    cpu->sys.dr7 = dr7;
    cpu->core.rip = RESTART;
    cpu->core.rsp = STACK + 0x7000;
    set_vectors(cpu);
    set_counters(cpu);
    cpu_mode_update(cpu);
    tlb_flush_everything(cpu);
}

/* ---- comparison ------------------------------------------------------------------------------------------------------ */

static u64 seed_now;
static bool verbose;

static bool same_cpu(const struct cpu *a, const struct cpu *b, const char *engine)
{
    const size_t plain = offsetof(struct cpu, mode);
    if (memcmp(a, b, plain) == 0)
        return true;
    printf("seed %llu: %s differs from interp at icount %llu, rip %llx / %llx:", (unsigned long long)seed_now, engine,
           (unsigned long long)a->time.now, (unsigned long long)a->core.rip, (unsigned long long)b->core.rip);
    for (unsigned n = 0; n < 16; n++)
        if (a->core.r[n] != b->core.r[n])
            printf(" r%u %llx / %llx", n, (unsigned long long)a->core.r[n], (unsigned long long)b->core.r[n]);
    if (flags_status(a) != flags_status(b))
        printf(" flags %x / %x", flags_status(a), flags_status(b));
    if (a->fpu.mxcsr != b->fpu.mxcsr)
        printf(" mxcsr %x / %x", a->fpu.mxcsr, b->fpu.mxcsr);
    for (unsigned n = 0; n < 16; n++)
        for (unsigned k = 0; k < 8; k++)
            if (a->fpu.v[n][k] != b->fpu.v[n][k])
                printf(" v%u[%u] %llx / %llx", n, k, (unsigned long long)a->fpu.v[n][k], (unsigned long long)b->fpu.v[n][k]);
    for (unsigned n = 0; n < 4; n++) {
        u64 x = n < 3 ? a->sys.perf_pmc[n] : a->sys.perf_fixed[0], y = n < 3 ? b->sys.perf_pmc[n] : b->sys.perf_fixed[0];
        if (x != y)
            printf(" counter %u %llx / %llx", n, (unsigned long long)x, (unsigned long long)y);
    }
    size_t at = 0;
    while (at < plain && ((const u8 *)a)[at] == ((const u8 *)b)[at])
        at++;
    printf(" first byte %zu\n", at);
    return false;
}

/* One slice of a vCPU on every engine. */
static bool run_slice(unsigned n, unsigned slice, bool interrupt)
{
    for (unsigned e = 0; e < ENGINES; e++) {
        struct cpu *cpu = &rigs[e].cpu[n];
        if (interrupt) {
            rigs[e].interrupt[n] = true;
            cpu_signal(cpu, ATT_INTR, 0, true);
        }
        if (cpu->event.activity == ACTIVITY_SHUTDOWN || cpu->event.activity == ACTIVITY_HLT)
            make_cpu(cpu, cpu->sys.dr7, cpu->sys.dr[0]);
        cpu->stop_at = cpu->time.now + slice;
        cpu_run(cpu);
        flags_canonical(cpu);
        if (e > 0 && !same_cpu(&rigs[0].cpu[n], cpu, engine_names[e]))
            return false;
    }
    return true;
}

/* The other address space, as by MOV to CR3; flush: what is cached of it is dropped. */
static void change_space(unsigned n, bool flush)
{
    for (unsigned e = 0; e < ENGINES; e++) {
        struct cpu *cpu = &rigs[e].cpu[n];
        cpu->sys.cr3 = (cpu->sys.cr3 & ~0xfffull) == TABLES ? TABLES_2 | 2 : TABLES | 1;
        tlb_select(cpu);
        if (flush)
            tlb_flush_context(cpu, true);
    }
}

/* Of all its processors; what is decoded depends on it. */
static void set_model(struct rig *rig, const char *name)
{
    char message[200];
    if (rig->model == name)
        return;
    rig->model = name;
    for (unsigned n = 0; n < CPUS; n++)
        if (!cpu_model_set(&rig->cpu[n], name, message, sizeof(message)))
            panic("random_blocks: %s", message);
    interp_flush(rig->interp);
}

static u64 executed;

static bool run_round(u64 seed)
{
    bool user;
    seed_now = seed;
    random_seed(seed);
    make_round(&user);
    u64 dr7 = 0x400, dr0 = 0;
    if (below(12) == 0) {              /* a breakpoint on an instruction, or on data */
        dr0 = below(2) ? start + program.starts[below(program.count)] : DATA + below(DATA_SIZE);
        dr7 |= 1 | (u64)(dr0 < DATA ? 0 : below(2) ? 0xf : 0xd) << 16;
    }
    static const char *const models[] = {"base,+pmu,+pdcm", "haswell,+pmu", "max"};
    const char *model = models[below(ARRAY_SIZE(models))];
    for (unsigned e = 0; e < ENGINES; e++) {
        set_model(&rigs[e], model);
        bus_copy_to(&rigs[e].bus, 0, image, RAM);
        for (unsigned n = 0; n < CPUS; n++) {
            rigs[e].cpu[n].time.now = rigs[e].cpu[n].time.retired = 0;
            rigs[e].interrupt[n] = false;
            make_cpu(&rigs[e].cpu[n], n == 0 ? dr7 : 0x400, dr0);
        }
    }
    unsigned slices = 8 + below(24);
    bool spaces = below(3) == 0;
    for (unsigned i = 0; i < slices; i++) {
        bool interrupt = below(6) == 0;
        unsigned length = below(3) == 0 ? 1 + below(40) : 1 + below(900), n = i < slices / 2 ? 0 : below(CPUS);
        if (spaces && below(3) == 0)
            change_space(n, below(4) == 0);
        if (!run_slice(n, length, interrupt))
            return false;
    }
    executed += rigs[0].cpu[0].time.retired + rigs[0].cpu[1].time.retired;
    for (unsigned e = 1; e < ENGINES; e++) {
        if (memcmp(rigs[0].bus.ram, rigs[e].bus.ram, RAM) != 0) {
            printf("seed %llu: %s: memory differs\n", (unsigned long long)seed, engine_names[e]);
            return false;
        }
    }
    return true;
}

static void set_up(void)
{
    char message[200];
    for (unsigned e = 0; e < ENGINES; e++) {
        struct rig *rig = &rigs[e];
        rig->cpu = calloc(CPUS, sizeof(*rig->cpu));
        if (!rig->cpu || !bus_init(&rig->bus, RAM, RAM) || !(rig->interp = interp_new(&rig->bus)))
            panic("random_blocks: no memory");
        for (unsigned n = 0; n < CPUS; n++) {
            struct cpu *cpu = &rig->cpu[n];
            cpu->index = n;
            cpu->cpu_count = CPUS;
            cpu->bus = &rig->bus;
            cpu->board = &board;
            cpu->board_arg = rig;
            cpu->interp = rig->interp;
            if (!cpu_model_set(cpu, "base", message, sizeof(message)) || !tlb_init(cpu))
                panic("random_blocks: cannot set up: %s", message);
        }
        if (e > 0 && !jit_attach(rig->interp, rig->cpu, CPUS, e == 1, SAMPLE_EVERY)) {
            printf("random_blocks: this host has no translated code\n");
            exit(77);
        }
    }
}

int main(int argc, char **argv)
{
    u64 seed = 1, rounds = 1000;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0)
            verbose = true;
        else if (i + 1 < argc && strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[++i], NULL, 0);
        else if (i + 1 < argc && strcmp(argv[i], "--rounds") == 0)
            rounds = strtoull(argv[++i], NULL, 0);
    }
    insn_table_init();
    set_up();
    unsigned long failed = 0;
    u64 i;
    for (i = 0; i < rounds && failed < 10; i++) {
        bool same = run_round(seed + i);
        failed += !same;
        if (verbose && !same)
            for (unsigned n = 0; n < program.count; n++) {
                unsigned to = n + 1 < program.count ? program.starts[n + 1] : program.size;
                printf("%llx:", (unsigned long long)(start + program.starts[n]));
                for (unsigned k = program.starts[n]; k < to; k++)
                    printf(" %02x", program.bytes[k]);
                printf("\n");
            }
    }
    struct interp_counts counts = interp_counts(rigs[2].interp);
    printf("%llu rounds, %llu instructions, %llu blocks decoded, %llu dropped, %llu superblocks, %llu dropped alone, %lu failed\n",
           (unsigned long long)i, (unsigned long long)executed, (unsigned long long)counts.blocks_decoded,
           (unsigned long long)counts.blocks_dropped, (unsigned long long)counts.superblocks,
           (unsigned long long)counts.superblocks_dropped, failed);
    if (rounds >= 1000 && (counts.superblocks < rounds / 20 || counts.superblocks_dropped == 0)) {
        printf("too few superblocks for a test of them\n");
        return 1;
    }
    return failed != 0;
}
