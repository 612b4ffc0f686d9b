/* Running vectors on Nestor.
 *
 * RAM holds the page tables and the region's pages; the tables map the region and nothing else. A vector's bytes are
 * written through the bus, so that decoded code is dropped as it would be in a machine. An exception is read off
 * cpu->event before it is delivered.
 */
#include "emulate.h"

#include "cpu/features.h"
#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/mode.h"
#include "cpu/x87.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM (1u << 20)
#define TABLES 0x10000u            /* gpa */
#define REGION_GPA 0x40000u
#define DESCRIPTORS_GPA 0x30000u   /* the GDT, and from LDT_OFF on the LDT */
#define DESCRIPTORS 0xffff800000000000ull  /* la: where no user sees them */
#define LDT_OFF 0x800u
#define LONGEST_REPETITION 64      /* cpu_run() calls for one repeated instruction */

static const struct bench *bench;
static struct cpu cpu;
static struct bus bus;

static u64 no_tsc(void *arg, struct cpu *c) { (void)arg, (void)c; return 0; }
static const struct cpu_board board = {.tsc = no_tsc};

static void map_region(void)
{
    u64 la = bench->region, table = TABLES;
    for (unsigned level = 3; level >= 1; level--) {
        bus_write(&bus, 0, table + 8 * (la >> (12 + 9 * level) & 511), 8, (table + PAGE_SIZE) | 7);
        table += PAGE_SIZE;
    }
    for (unsigned page = 0; page < REGION_PAGES; page++) {
        u32 off = page * PAGE;
        bool code = off >= CODE_OFF && off < CODE_OFF + CODE_PAGES * PAGE, data = off >= DATA_OFF && off < DATA_END;
        u64 entry = REGION_GPA + off;
        if (code)
            entry |= 5;
        else if (data)
            entry |= BIT(63) | (off < READONLY_OFF ? 7 : 5);
        else
            entry = 0;
        if ((la >> 21) != (la + ALIAS_OFF) >> 21)
            panic("the region crosses 2 MiB");
        bus_write(&bus, 0, table + 8 * ((la + off) >> 12 & 511), 8, entry);
    }
    if (!bench->stored)
        bus_write(&bus, 0, table + 8 * ((la + ALIAS_OFF) >> 12 & 511), 8, (REGION_GPA + ALIAS_OF) | BIT(63) | 7);
}

/* As the segment looks in a table. */
static u64 descriptor_of(const struct bench_segment *s)
{
    u32 limit = s->access & AR_G ? s->limit >> 12 : s->limit;
    return (limit & 0xffff) | (u64)(s->base & 0xffffff) << 16 | (u64)(s->access & 0xff) << 40 |
           (u64)(limit >> 16 & 15) << 48 | (u64)(s->access >> 12 & 15) << 52 | (u64)(s->base >> 24) << 56;
}

/* The LDT, and of the GDT what Linux has there for code and data. */
static void make_descriptors(void)
{
    static const u64 gdt[] = {
        0, 0x00cf9b000000ffff, 0x00af9b000000ffff, 0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff};
    u64 table = TABLES + 4 * PAGE_SIZE;
    bus_write(&bus, 0, TABLES + 8 * (DESCRIPTORS >> 39 & 511), 8, table | 3);
    for (unsigned level = 2; level >= 1; level--, table += PAGE_SIZE)
        bus_write(&bus, 0, table, 8, (table + PAGE_SIZE) | 3);
    bus_write(&bus, 0, table, 8, DESCRIPTORS_GPA | BIT(63) | 3);
    for (unsigned i = 0; i < ARRAY_SIZE(gdt); i++)
        bus_write(&bus, 0, DESCRIPTORS_GPA + 8 * i, 8, gdt[i]);
    for (unsigned i = 0; i < bench->entries; i++)
        bus_write(&bus, 0, DESCRIPTORS_GPA + LDT_OFF + 8 * i, 8, bench->entry[i].access ? descriptor_of(&bench->entry[i]) : 0);
    cpu.seg.gdtr = (struct table_register){.base = DESCRIPTORS, .limit = 127};
    cpu.seg.s[SEG_LDTR] = (struct segment){
        .base = DESCRIPTORS + LDT_OFF, .limit = 8 * bench->entries - 1, .selector = 0x50, .access = AR_P | 2};
}

/* A TSS without a map of I/O ports: every port is refused. */
static void set_task(void)
{
    cpu.seg.s[SEG_TR] = (struct segment){.limit = 0x66, .selector = 0x40, .access = AR_P | 11};
}

bool emulate_offers(const char *flags)
{
    static struct cpu scratch;
    char model[200], message[200];
    snprintf(model, sizeof model, "base,+%s", flags);
    return cpu_model_set(&scratch, model, message, sizeof message);
}

void emulate_init(const struct bench *b)
{
    bench = b;
    insn_table_init();
    if (!bus_init(&bus, RAM, RAM))
        panic("no memory for the machine under test");
    cpu.bus = &bus;
    cpu.board = &board;
    char message[200];
    if (!cpu_model_set(&cpu, "base", message, sizeof message))
        panic("%s", message);
    memcpy(cpu.feature, b->feature, sizeof cpu.feature);
    if (!tlb_init(&cpu))
        panic("no memory for the TLB");
    cpu_reset(&cpu, false);
    cpu.interp = interp_new(&bus);
    if (!cpu.interp)
        panic("no memory for the interpreter");
    map_region();
    memcpy(bus.ram + REGION_GPA, b->alias, REGION_BYTES);
    cpu.sys.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
    cpu.sys.cr3 = TABLES;
    cpu.sys.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | CR4_FSGSBASE | CR4_UMIP;
    cpu.sys.xcr0 = b->avx ? 7 : 3;
    cpu.sys.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE;
    set_task();
    make_descriptors();
    cpu_mode_update(&cpu);
}

void emulate_blank_code(void)
{
    memset(bus.ram + REGION_GPA + CODE_OFF, 0xcc, CODE_PAGES * PAGE);
}

static void set_segments(const struct vector *v)
{
    enum { FLAT = AR_P | AR_S | AR_DPL | AR_G | AR_ACCESSED };
    struct segment *s = cpu.seg.s;
    if (v->bits != BITS_64) {
        for (unsigned n = SEG_ES; n <= SEG_GS; n++) {
            const struct bench_segment *from = vector_segment(bench, v, n);
            s[n] = (struct segment){
                .base = from->base, .limit = from->limit, .access = from->access, .selector = from->selector};
        }
        return;
    }
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        s[n] = (struct segment){.access = AR_UNUSABLE};
    s[SEG_FS].base = v->before.fs_base;
    s[SEG_GS].base = v->before.gs_base;
    s[SEG_CS] = (struct segment){.limit = 0xffffffff, .selector = 0x33, .access = FLAT | AR_L | AR_CODE | AR_READABLE};
    s[SEG_SS] = (struct segment){.limit = 0xffffffff, .selector = 0x2b, .access = FLAT | AR_DB | AR_WRITABLE};
}

static void set_fpu(const struct user_state *state)
{
    const struct fx_image *fx = &state->fx;
    struct cpu_fpu *f = &cpu.fpu;
    unsigned top = fx->fsw >> 11 & 7;
    f->fcw = fx->fcw;
    f->fsw = fx->fsw;
    f->fop = f->fcs = f->fds = 0;
    f->fip = f->fdp = 0;
    f->ftw_full = 0;
    for (unsigned n = 0; n < 8; n++) {
        f->ftw_full |= (u16)((fx->ftw >> n & 1 ? 0 : 3) << (2 * n));
        f->st[(top + n) & 7].mantissa = fx->st[n].mantissa;
        f->st[(top + n) & 7].exponent = fx->st[n].exponent;
    }
    x87_update_summary(&cpu);
    f->mxcsr = fx->mxcsr;
    for (unsigned n = 0; n < 16; n++) {
        memset(f->v[n], 0, sizeof f->v[n]);
        memcpy(f->v[n], fx->xmm[n], 16);
        memcpy(f->v[n] + 2, state->ymm_high[n], 16);
    }
}

static void get_fpu(struct user_state *state)
{
    const struct cpu_fpu *f = &cpu.fpu;
    struct fx_image *fx = &state->fx;
    unsigned top = f->fsw >> 11 & 7;
    memset(fx, 0, sizeof *fx);
    fx->fcw = f->fcw;
    fx->fsw = f->fsw;
    for (unsigned n = 0; n < 8; n++) {
        fx->ftw |= (u8)(((f->ftw_full >> (2 * n) & 3) != 3) << n);
        fx->st[n].mantissa = f->st[(top + n) & 7].mantissa;
        fx->st[n].exponent = f->st[(top + n) & 7].exponent;
    }
    fx->mxcsr = f->mxcsr;
    for (unsigned n = 0; n < 16; n++) {
        memcpy(fx->xmm[n], f->v[n], 16);
        memcpy(state->ymm_high[n], f->v[n] + 2, 16);
    }
}

/* Runs one instruction, a repeated one until it is done, or a block; `whole`: blocks in one go. */
static void step(const struct vector *v, bool whole)
{
    u64 start = cpu.core.rip;
    if (v->block > 1 && whole) {
        cpu.stop_at = cpu.time.now + v->block;
        cpu_run(&cpu);
        return;
    }
    for (unsigned i = 1; i < v->block && !cpu.event.valid; i++) {
        cpu.stop_at = cpu.time.now + 1;
        cpu_run(&cpu);
    }
    if (cpu.event.valid)
        return;
    bool repeats = vector_row(v)->attr & ROW_REPS;
    for (unsigned i = 0; i < LONGEST_REPETITION; i++) {
        cpu.stop_at = cpu.time.now + 1;
        cpu_run(&cpu);
        if (cpu.event.valid || !repeats || cpu.core.rip != start)
            return;
    }
}

static void run(const struct vector *v, struct outcome *out, bool whole)
{
    static u32 last_code = CODE_OFF + PAGE;
    u8 *region = bus.ram + REGION_GPA, filling[CODE_IMAGE];
    memset(filling, 0xcc, sizeof filling);
    bus_copy_to(&bus, REGION_GPA + last_code, filling, sizeof filling);
    bus_copy_to(&bus, REGION_GPA + v->code_off, v->code, CODE_IMAGE);
    last_code = v->code_off;
    windows_put(region, v->memory);

    unsigned stack_bits = v->bits == BITS_64 ? BITS_64 : v->small_stack ? BITS_16 : BITS_32;
    static bool was_far;           /* the mode depends on CS in more than its size */
    bool mode_changes = was_far || cpu.mode.cpl != 3 || cpu.mode.code_bits != v->bits || cpu.mode.stack_bits != stack_bits ||
                        (v->before.rflags | cpu.core.rflags_rest) & FL_AC;
    was_far = v->far;
    set_segments(v);
    u64 base = cpu.seg.s[SEG_CS].base;
    memcpy(cpu.core.r, v->before.r, sizeof v->before.r);
    cpu.core.rip = bench->region + vector_insn_off(v) - base;
    cpu_set_rflags(&cpu, v->before.rflags);
    set_fpu(&v->before);
    cpu.event.valid = 0;
    cpu.event.attention = 0;
    cpu.event.blocking = 0;
    cpu.event.activity = ACTIVITY_ACTIVE;
    cpu.event.pending_debug = 0;
    if (mode_changes)
        cpu_mode_update(&cpu);

    step(v, whole);

    *out = (struct outcome){.exception = -1};
    if (cpu.event.valid) {
        bool trap =
            cpu.event.type == EVT_SOFTWARE || cpu.event.type == EVT_SOFTWARE_INT || cpu.event.type == EVT_PRIV_SOFTWARE;
        out->exception = cpu.event.vector;
        out->error = cpu.event.has_error ? cpu.event.error : 0;
        out->address = cpu.event.vector == EXC_PF ? cpu.event.payload : 0;
        if (trap)
            cpu.core.rip += cpu.event.insn_length;
    }
    memcpy(out->state.r, cpu.core.r, sizeof out->state.r);
    out->state.rip = cpu.core.rip;
    out->state.rflags = cpu_rflags(&cpu);
    out->state.fs_base = cpu.seg.s[SEG_FS].base;
    out->state.gs_base = cpu.seg.s[SEG_GS].base;
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        out->state.selector[n] = cpu.seg.s[n].selector;
    get_fpu(&out->state);
    windows_get(region, out->memory);
    out->stray = windows_stray(bench, region);
}

void emulate_run(const struct vector *v, struct outcome *out)
{
    bool whole = v->native.exception < 0;
    run(v, out, whole);
    /* A fault that the host did not have was delivered, through no IDT: again one by one, so that it can be seen. */
    if (whole && cpu.event.activity == ACTIVITY_SHUTDOWN)
        run(v, out, false);
}
