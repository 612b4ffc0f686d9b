/* Any bytes as code at any privilege in any mode: nothing that a guest executes may crash Nestor or make it do something
 * undefined. The first bytes of an input choose the machine (mode, privilege, control registers, descriptors and
 * registers), the others are the code.
 *
 *     clang build (-DNESTOR_FUZZ=ON):  fuzz_insn -max_total_time=600 CORPUS     libFuzzer; see its -help=1
 *     any build:  fuzz_insn_replay [--random N] [--seed S] [FILE]…     inputs made from the rows of cpu/insn.def, and
 *                 inputs in files, one a line in hexadecimal; findings that were mended stay in tests/fuzz/insn.corpus
 *
 * Kept true, beside what sanitizers find: the constants of the state (REG_ZERO, SEG_NONE, RFLAGS bit 1) stay what they
 * are, and cpu_run() returns.
 */
#include "tests/fuzz/fuzz_insn.h"

#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/table.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
#include "vmx/fields.h"
#include "vmx/vmx.h"

#define RAM (512u << 10)
#define STEPS 96
#define HEAD 24                /* bytes of an input that choose the machine */
/* hpa, and la where memory is mapped to itself: */
enum { TABLES = 0x1000 /* to 0x5fff */, GDT = 0x8000, IDT = 0x9000, LDT = 0xa000, TSS = 0xb000, VMX_REGIONS = 0xc000,
       CODE = 0x10000, DATA = 0x20000, STACK = 0x30000 };

size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max_size, unsigned seed);
/* libFuzzer's own mutations; the replay program has none. */
size_t LLVMFuzzerMutate(u8 *data, size_t size, size_t max_size) __attribute__((weak));

/* ---- a board on which everything answers something ------------------------------------------------------------ */

static u64 board_tsc(void *arg, struct cpu *c) { (void)arg; return c->time.now; }
static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return -1; }
static bool board_pending(void *arg, struct cpu *c) { (void)arg, (void)c; return false; }
static u8 board_tpr(void *arg, struct cpu *c) { (void)arg, (void)c; return 0; }
static void board_set_tpr(void *arg, struct cpu *c, u8 tpr) { (void)arg, (void)c, (void)tpr; }
static bool board_read(void *arg, struct cpu *c, u32 msr, u64 *v) { (void)arg, (void)c; *v = msr; return msr & 1; }
static bool board_write(void *arg, struct cpu *c, u32 msr, u64 v) { (void)arg, (void)c, (void)v; return msr & 1; }
static bool board_apic_base(void *arg, struct cpu *c, u64 v) { (void)arg, (void)c; return v & 1; }
static void board_nothing(void *arg, struct cpu *c) { (void)arg, (void)c; }
static u64 board_random(void *arg, struct cpu *c) { (void)arg; return c->time.now * 0x123456789abcdefull; }
static const struct cpu_board board = {
    .tsc = board_tsc, .interrupt_acknowledge = board_acknowledge, .interrupt_pending = board_pending,
    .tpr_get = board_tpr, .tpr_set = board_set_tpr, .apic_msr_read = board_read, .apic_msr_write = board_write,
    .apic_base_write = board_apic_base, .apic_init = board_nothing, .random = board_random, .shutdown = board_nothing,
    .ferr = board_nothing,
};

/* ---- the machine ------------------------------------------------------------------------------------------------- */

static struct cpu cpu, fresh;
static struct bus bus;
static u8 image[RAM];          /* what RAM holds before each input */

struct dice { u64 state; };

static u64 roll(struct dice *d)
{
    u64 z = d->state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}
static unsigned below(struct dice *d, unsigned n) { return (unsigned)(roll(d) % n); }

/* Page tables for all paging modes: the first megabytes to themselves, some of it in pieces of 4 KiB that differ in
 * their rights; descriptors of every type; gates; VMX regions. */
static void make_image(void)
{
    struct dice d = {1};
    u8 *t = image + TABLES;
    for (u64 i = 0; i < 512; i++) {
        store64(t + 0x2000 + 8 * i, i << 21 | 0x87);                       /* page directory: 2-MiB pages … */
        u64 rights = i < 0x40 ? 7 : i < 0x50 ? 5 : i < 0x58 ? 3 : i < 0x60 ? BIT(63) | 7 : i < 0x68 ? 0 : 7;
        store64(t + 0x3000 + 8 * i, i << 12 | rights);                     /* … the first one in 4-KiB pages */
    }
    store64(t + 0x2000, (TABLES + 0x3000) | 7);
    store64(t + 0x1000, (TABLES + 0x2000) | 7);                            /* page-directory pointers */
    store64(t, (TABLES + 0x1000) | 7);                                     /* PML4 */
    store64(t + 0x4000, TABLES | 7);                                       /* PML5 */
    for (unsigned i = 0; i < 4096 / 8; i++) {
        u64 type = i < 32 ? i : roll(&d) & 31, dpl = (i >> 5 & 1) * 3, flags = i & 2 ? 0xc : i & 4 ? 0xa : roll(&d) & 15;
        store64(image + GDT + 8 * i, 0xffff | type << 40 | dpl << 45 | 1ull << 47 | 15ull << 48 | flags << 52);
        store64(image + LDT + 8 * i, 0xffff | (0x10 | (roll(&d) & 15)) << 40 | 3ull << 45 | 1ull << 47 | flags << 52);
        u64 gate = i & 1 ? 0xe : roll(&d) & 15;
        store64(image + IDT + 8 * i, (roll(&d) & 0xffff) | (roll(&d) & 0x78) << 16 | gate << 40 | dpl << 45 | 1ull << 47);
        store64(image + TSS + 8 * i, i < 14 ? STACK + 0x100 * i : roll(&d));
    }
    for (unsigned i = 0; i < 8; i++)
        store32(image + VMX_REGIONS + i * 4096, VMCS_REVISION);
    for (unsigned i = DATA; i < RAM; i++)
        image[i] = below(&d, 3) ? (u8)roll(&d) : 0;
}

static void set_up(void)
{
    char message[200];
    insn_table_init();
    if (!cpu_model_set(&cpu, "max", message, sizeof message) || !bus_init(&bus, RAM, RAM))
        panic("fuzz_insn: cannot set up the machine");
    cpu.bus = &bus;
    cpu.board = &board;
    cpu.interp = interp_new(&bus);
    if (!cpu.interp || !tlb_init(&cpu))
        panic("fuzz_insn: no memory");
    cpu_reset(&cpu, false);
    make_image();
    fresh = cpu;
}

static u64 some_value(struct dice *d)
{
    switch (below(d, 6)) {
    case 0: return below(d, RAM);
    case 1: return roll(d);
    case 2: return roll(d) >> below(d, 64);
    case 3: return VMX_REGIONS + 0x1000 * below(d, 8);
    case 4: return -(u64)below(d, 64);
    default: return DATA + below(d, 0x10000);
    }
}

static void set_segments(struct dice *d, unsigned cpl, bool v8086, unsigned code)
{
    for (unsigned n = SEG_ES; n <= SEG_GS; n++) {
        struct segment *s = &cpu.seg.s[n];
        s->selector = (u16)((roll(d) & 0x1fc) | cpl);
        s->base = below(d, 3) ? 0 : below(d, RAM);
        s->limit = below(d, 4) ? 0xffffffff : (u32)(roll(d) & 0xfffff);
        s->access = AR_P | AR_S | AR_ACCESSED | AR_WRITABLE | cpl << 5 | (below(d, 2) ? AR_DB : 0) | AR_G;
        if (n != SEG_CS && n != SEG_SS && below(d, 6) == 0)
            s->access = (u32)(AR_P | AR_S | (roll(d) & 15) | cpl << 5);
        if (v8086)
            *s = (struct segment){.selector = 0x1000, .base = 0x10000, .limit = 0xffff,
                                  .access = AR_P | AR_S | AR_DPL | AR_WRITABLE | AR_ACCESSED};
    }
    struct segment *cs = &cpu.seg.s[SEG_CS];
    if (!v8086)
        cs->access = AR_P | AR_S | AR_CODE | AR_READABLE | AR_ACCESSED | cpl << 5 | AR_G |
                     (code == BITS_64 ? AR_L : code == BITS_32 ? AR_DB : 0);
    cs->base = v8086 || code == BITS_16 ? CODE : 0;
    cs->limit = v8086 ? 0xffff : 0xffffffff;
    cpu.seg.s[SEG_TR] = (struct segment){.base = TSS, .limit = 0x2067, .access = AR_P | 11, .selector = 0x58};
    cpu.seg.s[SEG_LDTR] = (struct segment){.base = LDT, .limit = 0xfff, .access = AR_P | 2, .selector = 0x10};
    cpu.seg.gdtr = (struct table_register){.base = GDT, .limit = 0xfff};
    cpu.seg.idtr = (struct table_register){.base = IDT, .limit = 0xfff};
}

/* Modes by number: real, V8086, protected without paging, 32-bit, PAE, 4-level and 5-level paging. */
static void set_machine(const u8 *head)
{
    struct dice d = {load64(head + 8)};
    unsigned mode = head[0] % 7, cpl = mode == 0 ? 0 : mode == 1 ? 3 : head[1] & 3, code = head[2] % 3;
    bool long_mode = mode >= 5, paging = mode >= 3;
    if (!long_mode && code == BITS_64)
        code = BITS_32;
    if (mode <= 1)
        code = BITS_16;
    u64 toggles = load64(head + 16);
    cpu.sys.cr0 = CR0_ET | CR0_NE | (mode ? CR0_PE : 0) | (paging ? CR0_PG : 0) | (toggles & 1 ? CR0_WP : 0) |
                  (toggles & 2 ? CR0_AM : 0) | ((toggles & 0x1c) == 4 ? CR0_TS : 0) | ((toggles & 0x1c) == 8 ? CR0_EM : 0) |
                  ((toggles & 0x1c) == 12 ? CR0_CD : 0);
    u64 cr4 = (roll(&d) | CR4_OSFXSR) & ~(u64)(CR4_PAE | CR4_LA57 | CR4_CET | CR4_PCIDE);
    if (toggles & 0xe0)        /* mostly what a kernel would have set */
        cr4 |= CR4_OSXSAVE | CR4_OSXMMEXCPT | CR4_FSGSBASE;
    cr4 &= CR4_VME | CR4_PVI | CR4_TSD | CR4_DE | CR4_PSE | CR4_MCE | CR4_PGE | CR4_PCE | CR4_OSFXSR | CR4_OSXMMEXCPT |
           CR4_UMIP | CR4_VMXE | CR4_FSGSBASE | CR4_OSXSAVE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_PKS;
    if (toggles & 0x300)       /* these would take the code or its data from under a supervisor */
        cr4 &= ~(u64)(CR4_SMEP | CR4_SMAP);
    if (toggles & 0x400 && cpu.sys.cr0 & CR0_WP)
        cr4 |= CR4_CET;
    cpu.sys.cr4 = cr4 | (mode >= 4 ? CR4_PAE : 0) | (mode == 6 ? CR4_LA57 : 0);
    cpu.sys.cr3 = mode == 3 ? TABLES + 0x2000 : mode == 4 ? TABLES + 0x1000 : mode == 6 ? TABLES + 0x4000 : TABLES;
    cpu.sys.efer = EFER_SCE | EFER_NXE | (long_mode ? EFER_LME | EFER_LMA : 0);
    for (unsigned i = 0; i < 4; i++)
        cpu.sys.pdpte[i] = mode == 4 && i == 0 ? TABLES + 0x2000 + 1 : 0;
    cpu.sys.xcr0 = toggles & 0x1800 ? cpu_xcr0_allowed(&cpu) : 3;
    cpu.sys.xss = toggles & 0x2000 ? cpu_xss_allowed(&cpu) : 0;
    cpu.sys.feature_control = 5;
    cpu.sys.pkru = toggles & 0x4000 ? (u32)roll(&d) & ~3u : 0;
    if (cpu.sys.cr4 & CR4_CET) {
        cpu.sys.u_cet = roll(&d) & 0x3f;
        cpu.sys.s_cet = roll(&d) & 0x3f;
        cpu.sys.ssp = DATA + 0x800;
    }
    cpu.sys.lstar = cpu.sys.cstar = CODE + below(&d, 256);
    cpu.sys.star = (u64)0x0013000800000000ull;
    cpu.sys.sysenter_cs = 8;
    cpu.sys.sysenter_eip = CODE;
    cpu.sys.sysenter_esp = STACK;
    set_segments(&d, cpl, mode == 1, code);
    for (unsigned n = 0; n < 16; n++)
        cpu.core.r[n] = some_value(&d);
    if (below(&d, 8))          /* repeated instructions with random counts take all the time there is */
        cpu.core.rcx = below(&d, 64);
    if (below(&d, 4))
        cpu.core.rsp = STACK + 8 * below(&d, 512) - (mode == 1 ? CODE : 0);
    for (unsigned n = 0; n < 32; n++)
        for (unsigned i = 0; i < 8; i++)
            cpu.fpu.v[n][i] = below(&d, 2) ? roll(&d) : some_value(&d);
    for (unsigned n = 0; n < 8; n++) {
        cpu.fpu.k[n] = roll(&d) >> below(&d, 64);
        cpu.fpu.st[n].mantissa = below(&d, 2) ? roll(&d) | BIT(63) : roll(&d);
        cpu.fpu.st[n].exponent = (u16)(below(&d, 2) ? 0x3ff0 + below(&d, 64) : roll(&d));
    }
    cpu.fpu.fcw = (u16)(0x37f ^ (below(&d, 3) ? 0 : roll(&d) & 0xf3f));
    cpu.fpu.ftw_full = (u16)(below(&d, 2) ? 0 : roll(&d));
    cpu.fpu.mxcsr = (u32)(below(&d, 2) ? 0x1f80 : roll(&d) & 0xffff);
    if (toggles & 0x30000)
        for (unsigned i = 0; i < 4; i++)
            cpu.sys.dr[i] = below(&d, 2) ? CODE + below(&d, 64) : some_value(&d);
    cpu.sys.dr7 = 0x400 | ((toggles & 0x30000) == 0x10000 ? roll(&d) & 0xffff03ff : 0);
    cpu.core.rip = mode == 0 || mode == 1 || code == BITS_16 ? 0 : CODE;
    cpu_set_rflags(&cpu, (roll(&d) & (FL_STATUS | FL_DF | FL_IF | FL_IOPL | FL_NT | FL_AC | FL_ID)) | FL_R1 |
                             (mode == 1 ? FL_VM : 0) | ((toggles & 0xc0000) == 0x40000 ? FL_TF : 0));
    cpu_mode_update(&cpu);
    tlb_flush_everything(&cpu);
    if ((toggles & 0x100000) && cpu.sys.cr0 & CR0_PE && cpl == 0)
        cpu.sys.cr4 |= CR4_VMXE;
}

static void check_constants(void)
{
    static const struct segment none;
    if (cpu.core.r[REG_ZERO] != 0 || memcmp(&cpu.seg.s[SEG_NONE], &none, sizeof none) != 0 ||
        !(cpu_rflags(&cpu) & FL_R1) || cpu.mode.cpl > 3 || cpu.mode.code_bits > BITS_64)
        panic("a constant of the CPU's state has changed");
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
    static bool ready;
    if (!ready) {
        set_up();
        ready = true;
    }
    if (size <= HEAD || size > FUZZ_INPUT)
        return 0;
    struct cpu keep = cpu;     /* what is wired and counted goes on */
    memcpy(&cpu, &fresh, offsetof(struct cpu, mode));
    cpu.time = keep.time;
    cpu.stop_at = 0;
    bus_copy_to(&bus, 0, image, RAM);
    bus_copy_to(&bus, CODE, data + HEAD, size - HEAD);
    set_machine(data);
    u64 end = cpu.time.now + STEPS;
    for (unsigned i = 0; i < 2 * STEPS && cpu.time.now < end && cpu.event.activity == ACTIVITY_ACTIVE; i++) {
        cpu.stop_at = end;
        cpu_run(&cpu);
        check_constants();
    }
    return 0;
}

/* ---- inputs that look like code ----------------------------------------------------------------------------------- */

static unsigned put_row(struct dice *d, u8 *to)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x48, 0x4c, 0x41, 0x64, 0x65, 0x2e};
    const struct insn_row *row = &insn_rows[below(d, insn_row_count)];
    unsigned n = 0;
    while (below(d, 3) == 0 && n < 4)
        to[n++] = prefixes[below(d, sizeof prefixes)];
    u8 pp = row->prefix == PREFIX_66 ? 1 : row->prefix == PREFIX_F3 ? 2 : row->prefix == PREFIX_F2 ? 3 : 0;
    unsigned w = row->w >= 0 ? (unsigned)row->w : below(d, 2), l = row->l >= 0 ? (unsigned)row->l : below(d, 3);
    u8 vvvv = row->uses_vvvv ? (u8)below(d, 16) : 15;
    if (row->vector == VECTOR_VEX) {
        to[n++] = 0xc4;
        to[n++] = (u8)((roll(d) & 0xe0) | row->map);
        to[n++] = (u8)(w << 7 | vvvv << 3 | (l & 1) << 2 | pp);
    } else if (row->vector == VECTOR_EVEX) {
        to[n++] = 0x62;
        to[n++] = (u8)((roll(d) & 0xf0) | row->map);
        to[n++] = (u8)(w << 7 | vvvv << 3 | 4 | pp);
        to[n++] = (u8)((roll(d) & 0x97) | l << 5 | 8);
    } else {
        if (pp)
            to[n++] = pp == 1 ? 0x66 : pp == 2 ? 0xf3 : 0xf2;
        if (row->w == 1)
            to[n++] = 0x48;
        if (row->map)
            to[n++] = 0x0f;
        if (row->map > 1)
            to[n++] = row->map == 2 ? 0x38 : 0x3a;
    }
    to[n++] = (u8)(row->opcode + (row->plus_r ? below(d, 8) : 0));
    if (row->modrm == MODRM_FIXED)
        to[n++] = (u8)(row->modrm_value | (below(d, 8) & ~row->modrm_mask));
    else if (row->modrm == MODRM_DIGIT)
        to[n++] = (u8)((roll(d) & 0xc7) | row->modrm_value << 3);
    for (unsigned k = below(d, 6); k; k--)
        to[n++] = (u8)(below(d, 3) ? roll(d) : 0);
    return n;
}

size_t fuzz_insn_make(u64 seed, u8 *data)
{
    struct dice d = {seed * 0x2545f4914f6cdd1dull};
    size_t n = HEAD;
    for (unsigned i = 0; i < HEAD; i++)
        data[i] = (u8)roll(&d);
    for (unsigned i = below(&d, 12) + 1; i; i--)
        n += put_row(&d, data + n);
    return n;
}

/* Half of the mutations are libFuzzer's, half put an instruction of the table somewhere. */
size_t LLVMFuzzerCustomMutator(u8 *data, size_t size, size_t max_size, unsigned seed)
{
    struct dice d = {seed};
    u8 bytes[32];
    insn_table_init();
    if (size <= HEAD && max_size >= FUZZ_INPUT)        /* the first ones */
        return fuzz_insn_make(seed, data);
    if (below(&d, 2) && LLVMFuzzerMutate)
        return LLVMFuzzerMutate(data, size, max_size);
    unsigned n = put_row(&d, bytes);
    size_t at = size <= HEAD ? size : HEAD + below(&d, (unsigned)(size - HEAD) + 1);
    if (at + n > max_size)
        return size;
    memcpy(data + at, bytes, n);
    return at + n > size ? at + n : size;
}
