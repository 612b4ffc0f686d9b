/* A bare CPU with 2 MiB of RAM, descriptor tables and stacks, for the tests of events, segments and far transfers: no decoder and no devices; a
 * test calls handlers and cpu_service_events() itself.
 *
 * Memory: GDT 0x1000, IDT 0x2000, TSS 0x3000, LDT 0x4000, second TSS 0x5000, page tables from 0x10000 (identity, 2 MiB), stacks below
 * 0x8000 (ring 0), 0x9000 (ring 3), 0xa000 (IST 1), 0xb000 (ring 1).
 */
#ifndef NESTOR_TESTS_CPU_TRANSFER_H
#define NESTOR_TESTS_CPU_TRANSFER_H

#include <stdio.h>

#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/operand.h"
#include "cpu/segment.h"
#include "tests/rows.h"
#include "tests/suite.h"

enum { GDT = 0x1000, IDT = 0x2000, TSS = 0x3000, LDT = 0x4000, TSS_B = 0x5000, TABLES = 0x10000, STACK0 = 0x8000, STACK3 = 0x9000,
       STACK_IST = 0xa000, STACK1 = 0xb000 };
/* Selectors. */
enum { CODE0 = 0x08, DATA0 = 0x10, CODE3 = 0x1b, DATA3 = 0x23, CODE64 = 0x28, CODE64_3 = 0x33, TSS_SEL = 0x40, CODE1 = 0x51, DATA1 = 0x59,
       CONFORMING = 0x60, GATE = 0x68 /* and 0x70 */, CODE16 = 0x78, DATA16 = 0x80, LDT_SEL = 0x88 /* and 0x90 */, TSS_B_SEL = 0x98,
       TASK_GATE_SEL = 0xa0, FREE = 0xa8, GDT_SIZE = 0x100 };

static struct cpu cpu_;
static struct cpu *const cpu = &cpu_;
static struct bus bus_;
static int board_vector;       /* what the board's interrupt controller has pending, or -1 */
static int board_shutdowns;

static inline int board_acknowledge(void *arg, struct cpu *c)
{
    int vector = board_vector;
    (void)arg;
    board_vector = -1;
    cpu_signal(c, ATT_INTR, 0, false);
    return vector;
}
static inline void board_shutdown(void *arg, struct cpu *c)
{
    (void)arg, (void)c;
    board_shutdowns++;
}
static const struct cpu_board board = {.interrupt_acknowledge = board_acknowledge, .shutdown = board_shutdown};

static inline u16 at16(u64 a) { return load16(bus_.ram + a); }
static inline u32 at32(u64 a) { return load32(bus_.ram + a); }
static inline u64 at64(u64 a) { return load64(bus_.ram + a); }
static inline void put(u64 a, u64 value, unsigned n) { memcpy(bus_.ram + a, &value, n); }

/* A descriptor: `flags` are bits 55:52 (G D L AVL), `type` bits 47:40 (P DPL S type). */
static inline u64 descriptor(u32 base, u32 limit, unsigned type, unsigned flags)
{
    return (limit & 0xffff) | (u64)(base & 0xffffff) << 16 | (u64)type << 40 | (u64)(limit >> 16 & 0xf) << 48 | (u64)flags << 52 |
           (u64)(base >> 24) << 56;
}
static inline u64 gate(u16 selector, u32 offset, unsigned type, unsigned low_byte)
{
    return (offset & 0xffff) | (u64)selector << 16 | (u64)low_byte << 32 | (u64)type << 40 | (u64)(offset >> 16) << 48;
}
static inline void gdt(u16 selector, u64 value) { put(GDT + (selector & 0xfff8), value, 8); }
static inline void idt32(unsigned vector, u64 value) { put(IDT + vector * 8, value, 8); }
static inline void idt64(unsigned vector, u16 selector, u64 offset, unsigned type, unsigned ist)
{
    put(IDT + vector * 16, gate(selector, (u32)offset, type, ist), 8);
    put(IDT + vector * 16 + 8, offset >> 32, 8);
}

static inline void load(unsigned seg, u16 selector)
{
    struct descriptor d = {.low = at64(GDT + (selector & 0xfff8))};
    segment_unpack(&cpu->seg.s[seg], selector, &d);
    cpu->seg.s[seg].access |= AR_ACCESSED;
}

/* Loads CS, SS and data segments for a ring, with its stack. */
static inline void ring(u16 code, u16 data, u64 sp)
{
    load(SEG_CS, code);
    load(SEG_SS, data);
    load(SEG_DS, data);
    load(SEG_ES, data);
    cpu->core.rsp = sp;
    cpu_mode_update(cpu);
}

static inline void start_real(void)
{
    char message[200];
    if (bus_.ram) {
        tlb_free(cpu);
        bus_free(&bus_);
    }
    memset(cpu, 0, sizeof(*cpu));
    ck_assert(bus_init(&bus_, 2 << 20, 2 << 20));
    cpu->bus = &bus_;
    cpu->board = &board;
    board_vector = -1;
    board_shutdowns = 0;
    ck_assert(cpu_model_set(cpu, "base", message, sizeof(message)));
    ck_assert(tlb_init(cpu));
    cpu_reset(cpu, false);
    segment_load_real(&cpu->seg.s[SEG_CS], 0x1000);
    cpu->core.rip = 0x100;
    cpu->core.rsp = 0x8000;
    cpu->seg.idtr.limit = 0x3ff;
    cpu_mode_update(cpu);
}

/* 32-bit protected mode without paging, ring 0. */
static inline void start_protected(void)
{
    start_real();
    gdt(CODE0, descriptor(0, 0xfffff, 0x9b, 0xc));
    gdt(DATA0, descriptor(0, 0xfffff, 0x93, 0xc));
    gdt(CODE3, descriptor(0, 0xfffff, 0xfb, 0xc));
    gdt(DATA3, descriptor(0, 0xfffff, 0xf3, 0xc));
    gdt(CODE1, descriptor(0, 0xfffff, 0xbb, 0xc));
    gdt(DATA1, descriptor(0, 0xfffff, 0xb3, 0xc));
    gdt(CONFORMING, descriptor(0, 0xfffff, 0x9e, 0xc));
    gdt(CODE16, descriptor(0, 0xffff, 0x9b, 0));
    gdt(DATA16, descriptor(0, 0xffff, 0x93, 0));
    gdt(TSS_SEL, descriptor(TSS, 0x67 + 32 + 0x20, 0x8b, 0));
    gdt(TSS_B_SEL, descriptor(TSS_B, 0x67, 0x89, 0));
    gdt(LDT_SEL, descriptor(LDT, 0xff, 0x82, 0));
    put(TSS + 4, STACK0, 4), put(TSS + 8, DATA0, 4);
    put(TSS + 12, STACK1, 4), put(TSS + 16, DATA1, 4);
    cpu->seg.gdtr = (struct table_register){.base = GDT, .limit = GDT_SIZE - 1};
    cpu->seg.idtr = (struct table_register){.base = IDT, .limit = 0x7ff};
    cpu->sys.cr0 |= CR0_PE;
    load(SEG_TR, TSS_SEL);
    ring(CODE0, DATA0, STACK0);
    cpu->core.rip = 0x100;
}

/* 64-bit mode, ring 0; the first 2 MiB are mapped one to one for everybody. */
static inline void start_long(void)
{
    start_protected();
    gdt(CODE64, descriptor(0, 0xfffff, 0x9b, 0xa));
    gdt(CODE64_3, descriptor(0, 0xfffff, 0xfb, 0xa));
    gdt(TSS_SEL, descriptor(TSS, 0x67, 0x8b, 0));
    gdt(TSS_SEL + 8, 0);
    memset(bus_.ram + TSS, 0, 0x68);
    put(TSS + 4, STACK0, 8);
    put(TSS + 0x24, STACK_IST, 8);
    put(TABLES, (TABLES + 0x1000) | 7, 8);
    put(TABLES + 0x1000, (TABLES + 0x2000) | 7, 8);
    put(TABLES + 0x2000, (TABLES + 0x3000) | 7, 8);
    for (u64 n = 0; n < 512; n++)
        put(TABLES + 0x3000 + n * 8, n << 12 | 7, 8);
    cpu->seg.idtr.limit = 0xfff;
    cpu->sys.cr3 = TABLES;
    cpu->sys.cr4 |= CR4_PAE;
    cpu->sys.efer |= EFER_LME | EFER_LMA | EFER_SCE;
    cpu->sys.cr0 |= CR0_PG | CR0_WP;
    ring(CODE64, DATA0, STACK0);
    cpu->core.rip = 0x100;
}
static inline void ring3_long(void)
{
    ring(CODE64_3, DATA3, STACK3);
}
static inline void unmap(u64 la)
{
    put(TABLES + 0x3000 + (la >> 12) * 8, 0, 8);
    tlb_flush_everything(cpu);
}

/* One instruction by its family; `in` has at least a length. */
static inline enum flow run(const insn_family family, struct insn in)
{
    if (!in.length)
        in.length = 2;
    if (!in.asz)
        in.asz = cpu->mode.code_bits == BITS_64 ? 3 : 2;
    if (cpu->mode.code_bits == BITS_64)
        in.flags |= INSN_64;
    if (in.flags & INSN_MEM && !in.base)
        in.base = REG_ZERO;
    if (!in.index)
        in.index = REG_ZERO;
    rows_note_family(family);
    enum flow flow = family[(in.flags & INSN_MEM ? 4 : 0) + in.osz](cpu, &in);
    if (flow == FLOW_NEXT)
        cpu->core.rip += in.length;
    return flow;
}

#define ASSERT_EVENT(vec, err)                                                                                         \
    do {                                                                                                               \
        ck_assert(cpu->event.valid);                                                                                   \
        ck_assert_uint_eq(cpu->event.vector, vec);                                                                     \
        ck_assert_uint_eq(cpu->event.has_error, 1);                                                                    \
        ck_assert_uint_eq(cpu->event.error, (u32)(err));                                                               \
    } while (0)
/* Drops the recorded event, so that the next step of a test starts clean. */
static inline void forget(void)
{
    cpu->event.valid = 0;
    cpu->event.attention &= ~(u32)ATT_EVENT;
}

#endif
