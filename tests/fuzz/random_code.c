/* Random bytes as code at every privilege and in every mode, with SMIs whose save maps are scribbled on: whatever a guest executes, Nestor goes on (and, in the sanitizer build, does nothing
 * undefined). Nothing is compared here except that two runs of the same seed end in the same state.
 *
 *     random_code [--seed S] [--rounds N]
 */
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/interp.h"
#include "cpu/mode.h"
#include "cpu/table.h"
#include "mmu/bus.h"
#include "mmu/tlb.h"
#include "vmx/vmx.h"

#include <stdio.h>
#include <stdlib.h>

#define RAM (4u << 20)
#define STEPS 4000

static u64 random_state, executed, interrupts;

static u64 next_random(void)
{
    u64 z = random_state += 0x9e3779b97f4a7c15ull;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ z >> 27) * 0x94d049bb133111ebull;
    return z ^ z >> 31;
}

static unsigned below(unsigned n) { return (unsigned)(next_random() % n); }

/* ---- a board on which everything answers something ---------------------------------------------------------------------- */

static u64 board_tsc(void *arg, struct cpu *c) { (void)arg; return c->time.now; }
static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return -1; }
static bool board_pending(void *arg, struct cpu *c) { (void)arg, (void)c; return false; }
static u8 board_tpr(void *arg, struct cpu *c) { (void)arg, (void)c; return 0; }
static void board_set_tpr(void *arg, struct cpu *c, u8 tpr) { (void)arg, (void)c, (void)tpr; }
static bool board_apic_read(void *arg, struct cpu *c, u32 msr, u64 *v) { (void)arg, (void)c; *v = msr; return msr & 1; }
static bool board_apic_write(void *arg, struct cpu *c, u32 msr, u64 v) { (void)arg, (void)c, (void)v; return msr & 1; }
static bool board_apic_base(void *arg, struct cpu *c, u64 v) { (void)arg, (void)c; return v & 1; }
static void board_nothing(void *arg, struct cpu *c) { (void)arg, (void)c; }
static u64 board_random(void *arg, struct cpu *c) { (void)arg; return c->time.now * 0x123456789abcdefull; }
static const struct cpu_board board = {
    .tsc = board_tsc, .interrupt_acknowledge = board_acknowledge, .interrupt_pending = board_pending, .tpr_get = board_tpr,
    .tpr_set = board_set_tpr, .apic_msr_read = board_apic_read, .apic_msr_write = board_apic_write,
    .apic_base_write = board_apic_base, .apic_init = board_nothing, .random = board_random, .shutdown = board_nothing,
    .ferr = board_nothing,
};

/* ---- a random machine --------------------------------------------------------------------------------------------------- */

/* Bytes that look like instructions more often than noise does: prefixes, the bytes of a row of the table, then noise for ModRM and what follows. */
static void fill_code(u8 *ram, u32 from, u32 size)
{
    static const u8 prefixes[] = {0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x48, 0x4c, 0x41, 0x64, 0x65, 0x2e};
    u32 at = from;
    while (at + 24 < from + size) {
        const struct insn_row *row = &insn_rows[below(insn_row_count)];
        while (below(3) == 0)
            ram[at++] = prefixes[below(sizeof prefixes)];
        if (row->prefix == PREFIX_66 || row->prefix == PREFIX_F3 || row->prefix == PREFIX_F2)
            ram[at++] = row->prefix == PREFIX_66 ? 0x66 : row->prefix == PREFIX_F3 ? 0xf3 : 0xf2;
        if (row->w == 1)
            ram[at++] = 0x48;
        if (row->map) {
            ram[at++] = 0x0f;
            if (row->map > 1)
                ram[at++] = row->map == 2 ? 0x38 : 0x3a;
        }
        ram[at++] = (u8)(row->opcode + (row->plus_r ? below(8) : 0));
        if (row->modrm == MODRM_FIXED)
            ram[at++] = (u8)(row->modrm_value | (below(8) & ~row->modrm_mask));
        else if (row->modrm == MODRM_DIGIT)
            ram[at++] = (u8)((next_random() & 0xc7) | row->modrm_value << 3);
        for (unsigned n = below(7); n; n--)
            ram[at++] = (u8)next_random();
    }
}

static u64 some_value(void)
{
    switch (below(4)) {
    case 0: return below(RAM);
    case 1: return next_random();
    case 2: return next_random() >> below(64);
    default: return 0x200000 + below(4096);
    }
}

static void random_segment(struct segment *s, unsigned type, unsigned dpl)
{
    s->selector = (u16)(8 + below(8) * 8 + dpl);
    s->base = below(4) ? 0 : below(RAM);
    s->limit = below(4) ? 0xffffffff : (u32)next_random();
    s->access = AR_P | AR_S | type | dpl << 5 | (below(2) ? AR_DB : 0) | AR_G;
}

static void randomise(struct cpu *cpu, struct bus *bus)
{
    /* Page tables that map the first 1 GiB by 2 MiB pages for 4-level paging; other modes read noise or nothing. */
    for (u32 i = 0; i < RAM / 8; i++)
        store64(bus->ram + i * 8, below(8) ? 0 : next_random());
    fill_code(bus->ram, 0x10000, 0x100000);
    store64(bus->ram + 0x1000, 0x2000 | 7);
    store64(bus->ram + 0x2000, 0x3000 | 7);
    for (unsigned i = 0; i < 512; i++)
        store64(bus->ram + 0x3000 + i * 8, (u64)(i % 2) << 21 | 0x87);
    for (unsigned i = 0; i < 4096; i += 8)     /* descriptors: mostly sensible */
        store64(bus->ram + 0x4000 + i, below(2) ? 0x00cf9b000000ffffull : below(2) ? 0x00af9b000000ffffull : next_random());
    for (unsigned i = 0; i < 4096; i += 8)     /* gates to the code */
        store64(bus->ram + 0x5000 + i, below(3) ? 0x00008e0000080000ull | (0x10000 + below(0xf000)) : next_random());
    cpu_reset(cpu, false);
    bool protected_mode = below(8), paging = protected_mode && below(2), wide = paging && below(3);
    unsigned cpl = protected_mode ? below(2) * 3 : 0;
    cpu->sys.cr0 = CR0_ET | CR0_NE | (protected_mode ? CR0_PE : 0) | (paging ? CR0_PG : 0) | (below(2) ? CR0_WP : 0);
    cpu->sys.cr4 = wide ? CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE | (below(2) ? CR4_VMXE : 0) : below(2) ? CR4_PSE : CR4_OSFXSR;
    cpu->sys.cr3 = 0x1000;
    cpu->sys.efer = wide ? EFER_LME | EFER_LMA | EFER_SCE : 0;
    cpu->sys.xcr0 = 3;
    for (unsigned i = 0; i < SEG_NONE; i++)
        random_segment(&cpu->seg.s[i], i == SEG_CS ? 11 : 3, cpl);
    if (wide && below(4)) {
        cpu->seg.s[SEG_CS].access = (cpu->seg.s[SEG_CS].access & ~AR_DB) | AR_L;
        cpu->seg.s[SEG_CS].base = 0;
    }
    cpu->seg.s[SEG_TR] = (struct segment){.base = 0x6000, .limit = 0x67, .access = AR_P | 11, .selector = 8};
    cpu->seg.gdtr = (struct table_register){.base = 0x4000, .limit = 0xfff};
    cpu->seg.idtr = (struct table_register){.base = 0x5000, .limit = 0xfff};
    for (unsigned i = 0; i < 16; i++)
        cpu->core.r[i] = some_value();
    cpu->core.rip = 0x10000 + below(0xf000);
    if (!protected_mode)
        cpu->core.rip &= 0xffff;
    cpu_set_rflags(cpu, (next_random() & (FL_STATUS | FL_DF | FL_IF | (below(16) ? 0 : FL_TF))) | FL_R1);
    cpu->sys.feature_control = 5;
    /* A handler of SMIs that is RSM alone, or noise. */
    cpu->sys.smbase = 0x10000 + (below(0x100000) & ~0xffu);
    if (below(4))
        store16(bus->ram + cpu->sys.smbase + 0x8000, 0xaa0f);
    cpu_mode_update(cpu);
    tlb_flush_everything(cpu);
}

static u64 hash_of(u64 h, const void *data, size_t n)
{
    const u8 *p = data;
    for (size_t i = 0; i < n; i++)
        h = (h ^ p[i]) * 0x100000001b3ull;
    return h;
}

/* Now and then an SMI, and bits of the save map that change while the handler runs. */
static void disturb(struct cpu *cpu, struct bus *bus)
{
    if (below(4) == 0)
        cpu_signal(cpu, ATT_SMI, 0, true);
    u64 map = cpu->sys.smbase + 0xfc00;
    if (!cpu->smm.active || map + 0x400 > RAM)
        return;
    for (unsigned n = below(8); n; n--)
        bus_write(bus, 0, map + below(0x400), 1, next_random());
}

static u64 run_round(u64 seed)
{
    static struct cpu cpu;
    static struct bus bus;
    char message[200];
    random_state = seed;
    memset(&cpu, 0, sizeof cpu);
    if (!cpu_model_set(&cpu, "base", message, sizeof message) || !bus_init(&bus, RAM, RAM)) {
        fprintf(stderr, "random_code: cannot set up\n");
        exit(2);
    }
    cpu.bus = &bus;
    cpu.board = &board;
    cpu.interp = interp_new(&bus);
    if (!cpu.interp || !tlb_init(&cpu))
        exit(2);
    for (unsigned part = 0; part < 8; part++) {
        randomise(&cpu, &bus);
        u64 end = cpu.time.now + STEPS;
        for (unsigned i = 0; i < 64 && cpu.time.now < end && cpu.event.activity == ACTIVITY_ACTIVE; i++) {
            cpu.stop_at = cpu.time.now + 1 + below(STEPS / 16);
            cpu_run(&cpu);
            disturb(&cpu, &bus);
        }
        interrupts += cpu.smm.count;
    }
    executed += cpu.time.retired;
    flags_canonical(&cpu);
    u64 h = hash_of(0xcbf29ce484222325ull, &cpu, offsetof(struct cpu, mode));
    h = hash_of(h, bus.ram, RAM);
    interp_free(cpu.interp);
    tlb_free(&cpu);
    bus_free(&bus);
    return h;
}

int main(int argc, char **argv)
{
    u64 seed = 1, rounds = 20;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 0);
        else if (strcmp(argv[i], "--rounds") == 0)
            rounds = strtoull(argv[i + 1], NULL, 0);
    }
    insn_table_init();
    unsigned long passed = 0, failed = 0;
    for (u64 i = 0; i < rounds; i++) {
        u64 first = run_round(seed + i), second = run_round(seed + i);
        if (first != second)
            printf("seed %llu: two runs end in different states\n", (unsigned long long)(seed + i));
        *(first == second ? &passed : &failed) += 1;
    }
    printf("%llu instructions dispatched, %llu SMIs taken\n", (unsigned long long)executed, (unsigned long long)interrupts);
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed != 0;
}
