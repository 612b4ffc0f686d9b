/* System-management mode under the default treatment: the save map, the state of the handler, the way back, what is blocked, restarts,
 * SMRAM, and what VMX operation adds. The offsets here are the manual's [SDM3 "SMRAM State Save Map and Intel 64 Architecture"],
 * not the ones of cpu/smm.c.
 */
#include "cpu/event.h"
#include "cpu/smm.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

#include "tests/vmx/bench_vmcs.h"

extern const insn_family h_rsm, h_out_imm, h_out_dx, h_in_dx, h_outs, h_ins, h_hlt;

#define SMBASE 0x30000u
#define MAP(offset) (cpu.sys.smbase + 0x8000 + (offset))

static unsigned shutdowns;
static void board_shutdown(void *arg, struct cpu *c) { (void)arg, (void)c; shutdowns++; }
static int board_acknowledge(void *arg, struct cpu *c) { (void)arg, (void)c; return 0x31; }
static struct cpu_board smm_board;

/* A port that raises an SMI by any access, and answers with a count. */
static u64 port_read(void *dev, unsigned n, u64 off, unsigned size)
{
    (void)dev, (void)n, (void)off, (void)size;
    cpu_signal(&cpu, ATT_SMI, 0, true);
    return 0x5a;
}
static void port_write(void *dev, unsigned n, u64 off, unsigned size, u64 value)
{
    (void)dev, (void)n, (void)off, (void)size, (void)value;
    cpu_signal(&cpu, ATT_SMI, 0, true);
}
static const struct bus_ops smi_port = {port_read, port_write};

static void setup(void)
{
    bench_hypervisor_setup();
    cpu.vmx.frame[0].vmxon = 0;
    cpu.sys.cr4 &= ~(u64)CR4_VMXE;
    smm_board = bench_board;
    smm_board.shutdown = board_shutdown;
    smm_board.interrupt_acknowledge = board_acknowledge;
    cpu.board = &smm_board;
    shutdowns = 0;
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_hardware;
    ck_assert(bus_map_ports(&bus, 0xb2, 2, &smi_port, NULL));
}

static u64 map64(u32 offset) { return bus_read(&bus, 0, MAP(offset), 8); }
static u32 map32(u32 offset) { return (u32)bus_read(&bus, 0, MAP(offset), 4); }
static u16 map16(u32 offset) { return (u16)bus_read(&bus, 0, MAP(offset), 2); }
static void map_set(u32 offset, unsigned size, u64 value) { bus_write(&bus, 0, MAP(offset), size, value); }

static void smi(void)
{
    cpu_signal(&cpu, ATT_SMI, 0, true);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.smm.active, 1);
}

static enum flow rsm(void)
{
    struct insn in = bench_insn(OSZ_16);
    in.length = 2;
    return bench_run_insn(h_rsm, in);
}

static void ck_back(void)
{
    ck_assert_int_eq(rsm(), FLOW_EXIT);
    ck_assert_uint_eq(cpu.smm.active, 0);
}

/* State of which each part has a value of its own. */
static void fill(void)
{
    for (unsigned n = 0; n < 16; n++)
        cpu.core.r[n] = 0x1111111111111111ull * n + 0x0123456789abcdefull;
    cpu.core.rip = 0xffff800012345678ull;
    cpu_set_rflags(&cpu, FL_R1 | FL_CF | FL_ZF | FL_DF | FL_IF | FL_IOPL);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++)
        cpu.seg.s[n].selector = (u16)(0x20 + 8 * n);
    cpu.seg.s[SEG_DS].limit = 0x12345fff;
    cpu.seg.s[SEG_FS].base = 0xffff888011112222ull;
    cpu.seg.s[SEG_GS].base = 0x7fff33334444ull;
    cpu.seg.s[SEG_LDTR] = (struct segment){.base = 0xffffc00055556666ull, .limit = 0x1f, .access = AR_P | 2, .selector = 0x50};
    cpu.seg.s[SEG_TR].base = 0xfffffe0077778888ull;
    cpu.seg.gdtr = (struct table_register){.base = 0xfffffe0000001000ull, .limit = 0x7f};
    cpu.seg.idtr = (struct table_register){.base = 0xfffffe0000002000ull, .limit = 0xfff};
    cpu.sys.dr7 = 0x455;
    cpu.sys.dr6 = DR6_FIXED | 0x4002;
    cpu.sys.cr2 = 0x1234;
    cpu_mode_update(&cpu);
}

/* ---- the map and the handler's state ------------------------------------------------------------------------------ */

START_TEST(save_map)
{
    fill();
    struct cpu_sys sys = cpu.sys;
    smi();
    ck_assert_uint_eq(map64(0x7ff8), sys.cr0);
    ck_assert_uint_eq(map64(0x7ff0), sys.cr3);
    ck_assert_uint_eq(map64(0x7fe8), FL_R1 | FL_CF | FL_ZF | FL_DF | FL_IF | FL_IOPL);
    ck_assert_uint_eq(map64(0x7fe0), sys.efer);
    ck_assert_uint_eq(map64(0x7fd8), 0xffff800012345678ull);
    ck_assert_uint_eq(map64(0x7fd0), DR6_FIXED | 0x4002);
    ck_assert_uint_eq(map64(0x7fc8), 0x455);
    ck_assert_uint_eq(map32(0x7fc4), 0x40);
    ck_assert_uint_eq(map32(0x7fc0), 0x50);
    ck_assert_uint_eq(map32(0x7fbc), 0x20 + 8 * SEG_GS);
    ck_assert_uint_eq(map32(0x7fb8), 0x20 + 8 * SEG_FS);
    ck_assert_uint_eq(map32(0x7fb4), 0x20 + 8 * SEG_DS);
    ck_assert_uint_eq(map32(0x7fb0), 0x20 + 8 * SEG_SS);
    ck_assert_uint_eq(map32(0x7fac), 0x20 + 8 * SEG_CS);
    ck_assert_uint_eq(map32(0x7fa8), 0x20 + 8 * SEG_ES);
    ck_assert_uint_eq(map32(0x7fa4), 0);
    static const struct { u32 offset; unsigned reg; } registers[] = {
        {0x7f94, REG_RDI}, {0x7f8c, REG_RSI}, {0x7f84, REG_RBP}, {0x7f7c, REG_RSP}, {0x7f74, REG_RBX}, {0x7f6c, REG_RDX},
        {0x7f64, REG_RCX}, {0x7f5c, REG_RAX}, {0x7f54, REG_R8}, {0x7f4c, REG_R9}, {0x7f44, REG_R10}, {0x7f3c, REG_R11},
        {0x7f34, REG_R12}, {0x7f2c, REG_R13}, {0x7f24, REG_R14}, {0x7f1c, REG_R15}};
    for (unsigned n = 0; n < ARRAY_SIZE(registers); n++)
        ck_assert_uint_eq(map64(registers[n].offset), 0x1111111111111111ull * registers[n].reg + 0x0123456789abcdefull);
    ck_assert_uint_eq(map16(0x7f02), 0);
    ck_assert_uint_eq(map16(0x7f00), 0);
    ck_assert_uint_eq(map32(0x7efc), 0x30101);
    ck_assert_uint_eq(map32(0x7ef8), SMBASE);
    ck_assert_uint_eq(map32(0x7e9c), 0x55556666);
    ck_assert_uint_eq(map32(0x7dd4), 0xffffc000);
    ck_assert_uint_eq(map32(0x7e94), 0x2000);
    ck_assert_uint_eq(map32(0x7dd8), 0xfffffe00);
    ck_assert_uint_eq(map32(0x7e8c), 0x1000);
    ck_assert_uint_eq(map32(0x7dd0), 0xfffffe00);
    ck_assert_uint_eq(map64(0x7e40), sys.cr4);
    ck_assert_uint_eq(map32(0x7ee0), 0);
}
END_TEST

START_TEST(handler_state)
{
    cpu.sys.smbase = 0x1000000;
    cpu.sys.cr0 |= CR0_EM | CR0_TS | CR0_MP | CR0_CD;
    fill();
    smi();
    ck_assert_uint_eq(cpu.core.rip, 0x8000);
    ck_assert_uint_eq(cpu_rflags(&cpu), FL_R1);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].base, 0x1000000);
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0x1000000 >> 4 & 0xffff);
    for (unsigned n = SEG_ES; n <= SEG_GS; n++) {
        ck_assert_uint_eq(cpu.seg.s[n].limit, 0xffffffff);
        if (n != SEG_CS) {
            ck_assert_uint_eq(cpu.seg.s[n].base, 0);
            ck_assert_uint_eq(cpu.seg.s[n].selector, 0);
        }
    }
    ck_assert_uint_eq(cpu.sys.cr0, CR0_ET | CR0_NE | CR0_WP | CR0_MP | CR0_CD);
    ck_assert_uint_eq(cpu.sys.cr4, 0);
    ck_assert_uint_eq(cpu.sys.efer, 0);
    ck_assert_uint_eq(cpu.sys.dr7, 0x400);
    ck_assert(cpu.mode.real);
    ck_assert_int_eq(cpu.mode.code_bits, BITS_16);
    ck_assert_uint_eq(cpu.core.rax, 0x0123456789abcdefull);
    u64 count;
    ck_assert(cpu_msr_read(&cpu, 0x34, &count));
    ck_assert_uint_eq(count, 1);
}
END_TEST

/* Whatever the handler does to the registers, all of the state comes back. */
START_TEST(round_trip)
{
    for (unsigned mode = 0; mode < 4; mode++) {
        if (mode == 0) {
            fill();
        } else if (mode == 1) {
            bench_long_mode(3);
            cpu.sys.pdpte[2] = 0x5001;
        } else if (mode == 2) {
            bench_protected_mode(3);
            cpu.sys.efer = 0;
            cpu.sys.cr4 = 0;
        } else {
            bench_teardown();
            setup();
            cpu_reset(&cpu, false);
        }
        cpu_mode_update(&cpu);
        cpu.event.blocking = mode & 1 ? BLOCK_NMI : 0;
        flags_canonical(&cpu);
        struct cpu_core core = cpu.core;
        struct cpu_seg seg = cpu.seg;
        struct cpu_sys sys = cpu.sys;
        struct cpu_event event = cpu.event;
        struct cpu_mode before = cpu.mode;
        smi();
        memset(cpu.core.r, 0x77, 16 * 8);
        cpu.sys.cr3 = 0x9000;
        cpu.sys.dr6 = DR6_FIXED | 1;
        cpu.seg.gdtr.limit = 1;
        cpu.sys.pdpte[2] = 0;
        cpu.seg.s[SEG_DS].base = 0x1230;
        ck_back();
        flags_canonical(&cpu);
        ck_assert_mem_eq(&cpu.core, &core, sizeof core);
        ck_assert_mem_eq(&cpu.seg, &seg, sizeof seg);
        ck_assert_mem_eq(&cpu.sys, &sys, sizeof sys);
        ck_assert_mem_eq(&cpu.event, &event, sizeof event);
        ck_assert_mem_eq(&cpu.mode, &before, sizeof before);
    }
}
END_TEST

START_TEST(rsm_outside)
{
    ck_assert_int_eq(rsm(), FLOW_EVENT);
    ck_assert_int_eq(bench_exception(), EXC_UD);
}
END_TEST

/* ---- blocking ----------------------------------------------------------------------------------------------------- */

START_TEST(blocked_in_smm)
{
    fill();
    smi();
    u64 rip = cpu.core.rip;
    cpu.event.attention |= ATT_SMI | ATT_INIT | ATT_NMI;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu.core.rip, rip);
    ck_assert_uint_eq(cpu.event.attention & (ATT_SMI | ATT_INIT | ATT_NMI), ATT_SMI | ATT_INIT | ATT_NMI);
    cpu.event.attention &= ~(u32)ATT_INIT;
    /* The SMI that waited is taken at once, NMIs after it. */
    ck_back();
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(cpu.smm.count, 2);
    ck_assert(cpu.event.attention & ATT_NMI);
}
END_TEST

/* An IRET of the handler unblocks NMIs in it; RSM brings back what was before. */
START_TEST(nmi_blocking)
{
    cpu.event.blocking = BLOCK_NMI;
    smi();
    vmx_iret_unblock_nmi(&cpu);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI);
    ck_back();
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);
    cpu.event.blocking = 0;
    smi();
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    ck_back();
    ck_assert_uint_eq(cpu.event.blocking, 0);
}
END_TEST

/* An SMI waits for the end of a shadow, and comes before the trap that is due at the same boundary, which follows after RSM. */
START_TEST(boundary)
{
    cpu.event.blocking = BLOCK_MOV_SS;
    cpu.event.attention |= ATT_SHADOW;
    cpu_signal(&cpu, ATT_SMI, 0, true);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_assert_uint_eq(cpu.smm.active, 0);
    cpu.event.blocking = 0;
    cpu.event.attention &= ~(u32)ATT_SHADOW;
    cpu_pend_debug(&cpu, DR6_BS);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_assert_uint_eq(cpu.event.pending_debug, 0);
    ck_back();
    ck_assert_uint_eq(cpu.event.pending_debug, DR6_BS);
    ck_assert(cpu.event.attention & ATT_PENDING_DB);
}
END_TEST

/* ---- restarts, relocation ----------------------------------------------------------------------------------------- */

START_TEST(halt_restart)
{
    for (unsigned stay = 0; stay < 2; stay++) {
        struct insn in = bench_insn(OSZ_32);
        in.length = 1;
        cpu.core.rip = 0x1000;
        bench_run_insn(h_hlt, in);
        ck_assert_int_eq(cpu.event.activity, ACTIVITY_HLT);
        smi();
        ck_assert_int_eq(cpu.event.activity, ACTIVITY_ACTIVE);
        ck_assert_uint_eq(map16(0x7f02), 1);
        if (!stay)
            map_set(0x7f02, 2, 0);
        ck_back();
        ck_assert_int_eq(cpu.event.activity, stay ? ACTIVITY_HLT : ACTIVITY_ACTIVE);
        ck_assert_uint_eq(cpu.core.rip, 0x1001);
        ck_assert_int_eq(!!(cpu.event.attention & ATT_ACTIVITY), stay);
        bench_clear();
        cpu.event.activity = ACTIVITY_ACTIVE;
    }
}
END_TEST

/* OUT 0xb2, AL makes an SMI, which knows it; the handler may have it run again. */
START_TEST(io_restart)
{
    for (unsigned again = 0; again < 2; again++) {
        struct insn in = bench_insn(OSZ_8);
        in.length = 2;
        in.imm = 0xb2;
        cpu.core.rip = 0x1000;
        ck_assert_int_eq(bench_run_insn(h_out_imm, in), FLOW_END);
        cpu_service_events(&cpu);
        ck_assert_uint_eq(cpu.smm.active, 1);
        ck_assert_uint_eq(map64(0x7fd8), 0x1002);
        ck_assert_uint_eq(map32(0x7fa4), 1 | 1 << 1 | 8 << 4 | 0xb2 << 16);
        ck_assert_uint_eq(map64(0x7de8), 0x1000);
        /* Neither the handler's own I/O and exceptions nor an SMI that waits make it forget. */
        ck_assert_int_eq(bench_run_insn(h_out_imm, in), FLOW_END);
        cpu_service_events(&cpu);
        cpu_raise_software(&cpu, 3, EVT_SOFTWARE_INT, 2);
        cpu_service_events(&cpu);
        cpu.event.attention &= ~(u32)ATT_SMI;
        if (again)
            map_set(0x7f00, 2, 0xff);
        ck_back();
        ck_assert_uint_eq(cpu.core.rip, again ? 0x1000 : 0x1002);
    }
    /* An SMI that comes later knows of no instruction, and the field has no effect. */
    cpu.core.rip = 0x1000;
    smi();
    ck_assert_uint_eq(map32(0x7fa4), 0);
    map_set(0x7f00, 2, 0xff);
    ck_back();
    ck_assert_uint_eq(cpu.core.rip, 0x1000);
}
END_TEST

/* Every kind of I/O instruction by its code in bits 7:4; a repeated one is interrupted between iterations. */
START_TEST(io_kinds)
{
    cpu.core.rdx = 0xb2;
    struct insn in = bench_insn(OSZ_8);
    in.length = 1;
    bench_run_insn(h_in_dx, in);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(map32(0x7fa4), 1 | 1 << 1 | 1 << 4 | 0xb2 << 16);
    ck_assert_uint_eq(map64(0x7f5c) & 0xff, 0x5a);
    ck_back();

    for (unsigned input = 0; input < 2; input++) {
        in = bench_insn(OSZ_16);
        in.length = 3;
        in.flags |= INSN_REP;
        in.arch_seg = in.seg = SEG_DS;
        cpu.core.rip = 0x1000;
        cpu.core.rcx = 3;
        cpu.core.rsi = cpu.core.rdi = 0x4000;
        ck_assert_int_eq(bench_run_insn(input ? h_ins : h_outs, in), FLOW_END);
        cpu_service_events(&cpu);
        ck_assert_uint_eq(cpu.smm.active, 1);
        ck_assert_uint_eq(map32(0x7fa4), 1 | 2 << 1 | (input ? 7u : 6u) << 4 | 0xb2 << 16);
        ck_assert_uint_eq(map64(0x7fd8), 0x1000);
        ck_assert_uint_eq(map64(0x7de8), 0x1000);
        ck_assert_uint_eq(map64(0x7f64), 2);
        ck_assert_uint_eq(map64(input ? 0x7f94 : 0x7f8c), 0x4002);
        ck_assert_uint_eq(map64(0x7f9c), 0x4000);
        map_set(0x7f00, 2, 0xff);
        ck_back();
        ck_assert_uint_eq(cpu.core.rcx, 3);
        ck_assert_uint_eq(input ? cpu.core.rdi : cpu.core.rsi, 0x4000);
    }
}
END_TEST

START_TEST(relocation)
{
    smi();
    map_set(0x7ef8, 4, 0x200000);
    ck_assert_uint_eq(cpu.sys.smbase, SMBASE);
    ck_back();
    ck_assert_uint_eq(cpu.sys.smbase, 0x200000);
    smi();
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].base, 0x200000);
    ck_assert_uint_eq(bus_read(&bus, 0, 0x20fef8, 4), 0x200000);
}
END_TEST

/* ---- state that no processor has ---------------------------------------------------------------------------------- */

static void ck_shuts_down(u32 offset, unsigned size, u64 value)
{
    bench_teardown();
    setup();
    fill();
    smi();
    map_set(offset, size, value);
    ck_assert_msg(rsm() == FLOW_END && shutdowns == 1 && cpu.event.activity == ACTIVITY_SHUTDOWN,
                  "RSM takes %#llx at %#x", (unsigned long long)value, offset);
}

START_TEST(corrupt_state)
{
    ck_shuts_down(0x7ff8, 4, CR0_ET | (u64)CR0_PG);                  /* paging without protection */
    ck_shuts_down(0x7ff8, 4, CR0_ET | CR0_PE | (u64)CR0_PG | CR0_NW);
    ck_shuts_down(0x7ffc, 4, 1);                                     /* CR0[63:32] */
    ck_shuts_down(0x7e40, 4, CR4_PAE | BIT(15));
    ck_shuts_down(0x7e40, 4, CR4_PAE | CR4_VMXE);
    ck_shuts_down(0x7e40, 4, 0);                                     /* IA-32e mode without PAE */
    ck_shuts_down(0x7fe0, 8, EFER_LME);                              /* paging and LME, no LMA */
    ck_shuts_down(0x7fe0, 8, EFER_LME | EFER_LMA | BIT(1));
    ck_shuts_down(0x7ff0, 8, 1ull << 60);
    ck_shuts_down(0x7fe8, 4, FL_R1 | FL_VM);                         /* virtual-8086 mode in IA-32e mode */
    ck_shuts_down(0x7dd8, 4, 0x00800000);                            /* IDTR's base is not canonical */
}
END_TEST

/* Random bytes, whole maps and single bits: back with a mode that exists, or shut down, never anything else. */
START_TEST(random_maps)
{
    u64 seed = 12345;
    unsigned back = 0, down = 0;
    fill();
    for (unsigned n = 0; n < 20000; n++) {
        cpu.event.activity = ACTIVITY_ACTIVE;
        cpu.event.valid = 0;
        cpu.event.blocking = 0;
        cpu.event.attention = 0;
        cpu.event.pending_debug = 0;
        cpu.smm.active = 0;
        cpu_select_bus_view(&cpu);
        if (n % 16 == 0) {
            bench_long_mode(0);
            fill();
        }
        cpu.sys.smbase = SMBASE;
        smi();
        unsigned flips = n & 1 ? 1 + n / 2 % 7 : 0;
        for (unsigned i = 0; i < (flips ? flips : 0x400); i++) {
            seed = seed * 6364136223846793005ull + 1442695040888963407ull;
            u32 at = flips ? (u32)(seed >> 40) & 0x3ff : i;
            u8 byte = (u8)(seed >> 32);
            map_set(0x7c00 + at, 1, flips ? bus_read(&bus, 0, MAP(0x7c00 + at), 1) ^ (u64)(1 << (byte & 7)) : byte);
        }
        enum flow flow = rsm();
        if (flow == FLOW_END) {
            ck_assert_int_eq(cpu.event.activity, ACTIVITY_SHUTDOWN);
            down++;
        } else {
            ck_assert_int_eq(flow, FLOW_EXIT);
            ck_assert(!(cpu.sys.efer & EFER_LMA) || (cpu.sys.cr0 & CR0_PG && cpu.sys.cr4 & CR4_PAE));
            ck_assert(!(cpu.sys.cr0 & CR0_PG) || cpu.sys.cr0 & CR0_PE);
            ck_assert(!(cpu.mode.v8086 && cpu.mode.long_mode));
            u8 byte;
            (void)mem_read(&cpu, cpu.core.rsp, &byte, 1);
            (void)cpu_service_events(&cpu);
            back++;
        }
    }
    ck_assert_uint_gt(back, 1000);
    ck_assert_uint_gt(down, 1000);
}
END_TEST

/* ---- SMRAM -------------------------------------------------------------------------------------------------------- */

/* RAM at 0xa0000 as the chipset's SMRAM: outside SMM it does not answer, and translations do not outlive a transition. */
START_TEST(smram)
{
    bench_poke64(0xa8000, 0x1122334455667788ull);
    u64 value;
    cpu.sys.smbase = 0xa0000;
    bus_set_smram(&bus, BUS_SMRAM_OPEN);
    ck_assert_uint_eq(bench_peek64(0xa8000), 0x1122334455667788ull);
    bus_set_smram(&bus, BUS_SMRAM_CLOSED);
    ck_assert_uint_eq(bench_peek64(0xa8000), ~0ull);
    ck_assert(mem_read64(&cpu, 0xa8000, &value));
    ck_assert_uint_eq(value, ~0ull);
    smi();
    ck_assert(mem_read64(&cpu, 0xa8000, &value));
    ck_assert_uint_eq(value, 0x1122334455667788ull);
    ck_assert_uint_eq(map32(0x7efc), 0x30101);
    ck_assert(mem_write64(&cpu, 0xa8000, 42));
    ck_back();
    ck_assert(mem_read64(&cpu, 0xa8000, &value));
    ck_assert_uint_eq(value, ~0ull);
    ck_assert(mem_write64(&cpu, 0xa8000, 43));
    bus_set_smram(&bus, BUS_SMRAM_OPEN);
    ck_assert_uint_eq(bench_peek64(0xa8000), 42);
}
END_TEST

/* SMRRs can be written in SMM alone and hide their range outside; A20 is not masked in SMM. */
START_TEST(smrr)
{
    u64 value;
    bench_poke64(0x240000, 77);
    WRITE_REFUSED(0x1f2, 0x240006);
    READS(0x1f2, 0);
    ck_assert(cpu_msr_read(&cpu, 0xfe, &value));
    ck_assert(value & BIT(11));
    smi();
    WRITES(0x1f2, 0x240006);
    WRITE_REFUSED(0x1f2, 0x240002);                  /* no memory type */
    WRITE_REFUSED(0x1f3, 0x1fffff0400ull);
    WRITES(0x1f3, 0xffff0800);
    ck_assert(mem_read64(&cpu, 0x240000, &value));
    ck_assert_uint_eq(value, 77);
    ck_back();
    READS(0x1f2, 0x240006);
    ck_assert(mem_read64(&cpu, 0x240000, &value));
    ck_assert_uint_eq(value, ~0ull);
    ck_assert(mem_write64(&cpu, 0x24fff8, 5));
    ck_assert(mem_read64(&cpu, 0x23fff8, &value) && value == 0);
    ck_assert(mem_read64(&cpu, 0x250000, &value) && value == 0);
    bus_set_a20(&bus, false);
    bench_poke64(0x0, 1);
    smi();
    ck_assert(mem_read64(&cpu, 0x24fff8, &value));
    ck_assert_uint_eq(value, 0);
    bench_poke64(0x100000, 2);
    ck_assert_uint_eq(bench_peek64(0), 1);
    ck_back();
    ck_assert_uint_eq(bench_peek64(0x100000), 1);
}
END_TEST

/* ---- VMX operation ------------------------------------------------------------------------------------------------ */

static struct vmx_frame *const frame = &cpu.vmx.frame[0];
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;
static const struct insn entry_insn = BENCH_VMX_INSN(3);

static void enter(void)
{
    cpu.sys.cr4 |= CR4_VMXE;
    frame->vmxon = 1;
    cpu.core.rip = 0x1000;
    frame->checked = 0;
    vmx_insn_enter(&cpu, &entry_insn, !v->launched);
    ck_assert_msg(cpu.vmx.depth == 1, "exit reason %#x", (unsigned)v->exit_reason);
}

START_TEST(in_root)
{
    cpu.sys.cr4 |= CR4_VMXE;
    frame->vmxon = 1;
    smi();
    ck_assert_uint_eq(frame->vmxon, 0);
    ck_assert_uint_eq(map64(0x7e40) & CR4_VMXE, 0);
    /* Nobody can enter VMX operation there: CR4.VMXE is reserved. */
    ck_assert(!(cpu_cr4_allowed(&cpu) & CR4_VMXE));
    ck_assert_int_eq(cpu_write_cr4(&cpu, CR4_VMXE), FLOW_EVENT);
    bench_clear();
    ck_back();
    ck_assert_uint_eq(frame->vmxon, 1);
    ck_assert(cpu.sys.cr4 & CR4_VMXE);
    ck_assert_uint_eq(frame->vmcs_ptr, BENCH_VMCS);
}
END_TEST

/* From a guest: its controls have no effect in the handler and go on afterwards, with what was armed and pending. */
START_TEST(in_nonroot)
{
    bench_vmcs_rich(v);
    v->guest_rflags = FL_R1;
    v->guest_interruptibility = BLOCK_NMI;
    v->primary_controls |= PRIMARY_HLT_EXITING;
    v->primary_controls &= ~(u64)PRIMARY_NMI_WINDOW_EXITING;
    v->pin_controls &= ~(u64)PIN_EXTERNAL_INTERRUPT_EXITING;
    v->exit_controls &= ~(u64)VMEXIT_ACKNOWLEDGE_INTERRUPT;
    v->tpr_threshold = 0;
    v->vmx_preemption_timer = 1000;
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 0;
    v->vmcs_link_pointer = ~0ull;
    enter();
    frame->mtf_pending = 1;
    struct cpu_sys sys = cpu.sys;
    smi();
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(map32(0x7ee0), 1);
    ck_assert_uint_eq(map64(0x7ed8), v->ept_pointer);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_SMI | BLOCK_NMI);
    struct insn in = bench_insn(OSZ_32);
    in.length = 1;
    ck_assert_int_eq(bench_run_insn(h_hlt, in), FLOW_END);    /* no exit */
    cpu.event.activity = ACTIVITY_ACTIVE;
    cpu.event.attention &= ~(u32)ATT_ACTIVITY;
    ck_assert_uint_eq(vmx_next_deadline(&cpu), ~0ull);
    ck_back();
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_mem_eq(&cpu.sys, &sys, sizeof sys);
    ck_assert_uint_eq(cpu.event.blocking, BLOCK_NMI);          /* virtual */
    ck_assert(cpu.event.attention & ATT_VMX);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, EXIT_MONITOR_TRAP_FLAG);

    /* The timer counts across; it can expire only behind RSM. */
    v->guest_interruptibility = 0;
    enter();
    smi();
    board.tsc += 32 * 1000 + 32;
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_back();
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_PREEMPTION_TIMER);

    /* A halted guest stays halted. */
    v->guest_activity = ACTIVITY_HLT;
    enter();
    smi();
    ck_assert_uint_eq(map16(0x7f02), 1);
    ck_back();
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_int_eq(cpu.event.activity, ACTIVITY_HLT);
    /* RSM in the guest, outside SMM: #UD, no exit. */
    ck_assert_int_eq(rsm(), FLOW_EVENT);
    ck_assert_int_eq(bench_exception(), EXC_UD);
}
END_TEST

/* What a handler writes into the map cannot take the processor out of the mode that VMX operation needs. */
START_TEST(mode_is_kept)
{
    bench_vmcs_64(v);
    v->guest_cs_access_rights |= AR_DPL;
    v->guest_ss_access_rights |= AR_DPL;
    v->guest_ds_access_rights |= AR_DPL;
    v->guest_es_access_rights |= AR_DPL;
    v->guest_fs_access_rights |= AR_DPL;
    v->guest_gs_access_rights |= AR_DPL;
    v->guest_cs_selector |= 3;
    v->guest_ss_selector |= 3;
    enter();
    ck_assert_int_eq(cpu.mode.cpl, 3);
    smi();
    map_set(0x7fac, 4, 8);
    map_set(0x7fb0, 4, 0x10);
    map_set(0x7ff8, 4, (u32)map64(0x7ff8) & ~(u32)CR0_NE);
    ck_back();
    ck_assert_uint_eq(cpu.seg.s[SEG_CS].selector, 0xb);
    ck_assert_uint_eq(cpu.seg.s[SEG_SS].selector, 0x13);
    ck_assert_int_eq(cpu.mode.cpl, 3);
    ck_assert(cpu.sys.cr0 & CR0_NE);
}
END_TEST

/* "Wait for SIPI" and blocking hold it back in a guest, too; an INIT that waited is the guest's exit again. */
START_TEST(events_of_guests)
{
    bench_vmcs_64(v);
    v->guest_activity = ACTIVITY_WAIT_SIPI;
    enter();
    cpu_signal(&cpu, ATT_SMI, 0, true);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(cpu.smm.active, 0);
    cpu_signal(&cpu, ATT_SIPI, 7, true);
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_SIPI);
    ck_assert_uint_eq(cpu.smm.active, 1);
    ck_back();
    v->guest_activity = 0;
    enter();
    smi();
    cpu_signal(&cpu, ATT_INIT, 0, true);
    ck_assert_int_eq(cpu_service_events(&cpu), FLOW_NEXT);
    ck_back();
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_INIT_SIGNAL);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        save_map, handler_state, round_trip, rsm_outside, blocked_in_smm, nmi_blocking, boundary, halt_restart, io_restart, io_kinds,
        relocation, corrupt_state, random_maps, smram, smrr, in_root, in_nonroot, mode_is_kept, events_of_guests,
    };
    return bench_run_with("smm", tests, ARRAY_SIZE(tests), setup);
}
