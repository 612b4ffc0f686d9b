/* Accesses of L3 that L1 emulates: what L1 is shown is one instruction in L2's address space that does just this, and what
 * L1 answers reaches L3's own instruction, once. L1 is played by the test: it walks the tables it is shown, as any
 * emulator of instructions does, and knows nothing of L3.
 */
#include "tests/vmx/bench_vmcs.h"
#include "cpu/raise.h"
#include "mmu/access.h"
#include "vmx/frame.h"
#include "vmx/insn.h"
#include "vmx/policy.h"

/* L1's EPT for L2: identity, 4 KiB pages from 2 to 4 MiB, large ones else; L2 has no EPT for L3 */
#define EPT_ROOT 0x280000u
#define EPT_PAGES 0x283000u
#define L1_VMCS BENCH_VMCS
#define L2_VMXON 0x300000u
#define L2_VMCS 0x2f0000u
#define L2_RIP 0x3000u
#define L2_HOST 0x3800u
#define L3_RIP 0x4000u
#define DEVICE 0x310000u                   /* what L1 emulates */

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmx_frame *const frame = cpu.vmx.frame;

static void ept_map(u64 gpa, bool present, bool misconfigured)
{
    bench_poke64(EPT_PAGES + (gpa >> 12 & 511) * 8, present ? gpa | 6 << 3 | 7 : misconfigured ? 6 : 0);
    tlb_flush_everything(&cpu);
}

static void enter(void)
{
    unsigned k = cpu.vmx.depth;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, !frame[k].vmcs.launched), FLOW_EXIT);
}

/* L3 runs under L2 under L1, which has taken the device's page out of its EPT. */
static void setup(void)
{
    bench_hypervisor_setup();
    cpu.stop_at = ~0ull;
    cpu.policy = &vmx_policy_transparent;
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    struct vmcs *v = &frame[0].vmcs;
    bench_vmcs_64(v);
    bench_ept(v, EPT_ROOT, 1024);
    bench_ept_pages(EPT_ROOT, EPT_PAGES);
    v->primary_controls |= PRIMARY_UNCONDITIONAL_IO_EXITING;
    v->guest_rip = L2_RIP;
    bus_write(&bus, 0, L1_VMCS, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMXON, 4, VMCS_REVISION);
    bus_write(&bus, 0, L2_VMCS, 4, VMCS_REVISION);
    enter();
    cpu.core.rax = 1;
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    cpu.core.rcx = 0;
    v->guest_rip += 3;
    enter();
    frame[1].cr4_vmxe = CR4_VMXE;
    ck_assert_int_eq(vmx_insn_vmxon(&cpu, &insn, L2_VMXON), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmclear(&cpu, &insn, L2_VMCS), FLOW_END);
    ck_assert_int_eq(vmx_insn_vmptrld(&cpu, &insn, L2_VMCS), FLOW_END);
    v = &frame[1].vmcs;
    bench_vmcs_64(v);
    v->host_rip = L2_HOST;
    v->host_rsp = 0x7800;
    v->guest_rip = L3_RIP;
    v->guest_rsp = 0x8800;
    v->guest_rflags = FL_R1;
    frame[1].checked = 0;
    enter();
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    cpu.core.rax = 0x1111, cpu.core.rbx = 0x2222, cpu.core.rdx = 0x3333;
    ept_map(DEVICE, false, false);
}

/* ---- L1's emulator of instructions -------------------------------------------------------------------------------- */

/* Through the page tables that the guest's CR3 names, in L2's memory (which L1 maps one to one). */
static u64 l1_walk(u64 la)
{
    u64 table = frame[0].vmcs.guest_cr3 & ~0xfffull;
    for (unsigned shift = 39;; shift -= 9) {
        u64 entry = bus_read(&bus, 0, table + (la >> shift & 511) * 8, 8);
        ck_assert_msg(entry & 1, "la %llx: no entry at shift %u", (unsigned long long)la, shift);
        ck_assert_uint_eq(entry & ~mask_low(40), 0);
        if (shift == 12 || (shift < 39 && entry & 1 << 7)) {
            ck_assert_uint_eq(entry & ~0xfffull & mask_low(shift), 0);
            return (entry & ~mask_low(shift)) | (la & mask_low(shift));
        }
        table = entry & ~0xfffull;
    }
}

struct emulated { unsigned size; bool write, port; u64 where, value; };

/* Decodes the instruction at the guest's RIP, carries it out with `answer` as what the device gives, skips it. */
static struct emulated l1_emulates(u64 answer)
{
    struct vmcs *v = &frame[0].vmcs;
    struct emulated e = {.size = 4};
    u8 code[4];
    for (unsigned n = 0; n < sizeof code; n++)
        code[n] = (u8)bus_read(&bus, 0, l1_walk(v->guest_rip + n), 1);
    unsigned n = 0;
    if (code[n] == 0x66)
        e.size = 2, n++;
    else if (code[n] == 0x48)
        e.size = 8, n++;
    u8 opcode = code[n++];
    if (!(opcode & 1))
        e.size = 1;
    u64 mask = mask_low(8 * e.size);
    if (opcode >= 0xec) {
        ck_assert_uint_le(opcode, 0xef);
        e.port = true;
        e.write = opcode & 2;
        e.where = cpu.core.rdx & 0xffff;
    } else {
        ck_assert_uint_eq(opcode & ~3u, 0x88);
        ck_assert_uint_eq(code[n++], 0x03);
        e.write = !(opcode & 2);
        e.where = l1_walk(cpu.core.rbx);
    }
    e.value = cpu.core.rax & mask;
    if (!e.write)
        cpu.core.rax = e.size == 4 ? answer & mask : (cpu.core.rax & ~mask) | (answer & mask);
    v->guest_rip += n;
    return e;
}

/* L3's access fails, and L1 is asked: the exit says the truth about L2's space. */
static void ck_asked(u32 reason)
{
    ck_assert_int_eq(cpu_raise_fault(&cpu), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(frame[0].vmcs.exit_reason, reason);
    ck_assert_uint_eq(frame[0].vmcs.guest_physical_address, l1_walk(cpu.core.rbx));
    ck_assert_uint_eq(frame[0].vmcs.guest_linear_address, cpu.core.rbx);
}

static void ck_l3(void)
{
    ck_assert_uint_eq(cpu.vmx.depth, 2);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP);
    ck_assert_uint_eq(cpu.core.rax, 0x1111);
    ck_assert_uint_eq(cpu.core.rbx, 0x2222);
    ck_assert_uint_eq(cpu.core.rdx, 0x3333);
    ck_assert_uint_eq(frame[1].vmcs.host_rip, L2_HOST);
    ck_assert_uint_eq(frame[1].vmcs.host_rsp, 0x7800);
}

/* ---- memory ------------------------------------------------------------------------------------------------------- */

static void check_read(unsigned size, u64 offset, bool misconfigured)
{
    u64 value = ~0ull, answer = 0x8877665544332211ull & mask_low(8 * size), cr3 = frame[1].vmcs.host_cr3;
    ept_map(DEVICE, false, misconfigured);
    ck_assert(!mem_read(&cpu, DEVICE + offset, &value, size));
    ck_asked(misconfigured ? EXIT_EPT_MISCONFIGURATION : EXIT_EPT_VIOLATION);
    if (!misconfigured)
        ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 0x581);
    struct emulated e = l1_emulates(answer);
    ck_assert(!e.write && !e.port);
    ck_assert_uint_eq(e.size, size);
    ck_assert_uint_eq(e.where, DEVICE + offset);
    enter();
    ck_l3();
    ck_assert_uint_eq(frame[1].vmcs.host_cr3, cr3);
    ck_assert(vmx_carrying(&cpu));
    ck_assert(mem_read(&cpu, DEVICE + offset, &value, size));
    ck_assert_uint_eq(value & mask_low(8 * size), answer);
    vmx_note_instruction(&cpu);                          /* L3's instruction is done: the next one asks again */
    ck_assert(!vmx_carrying(&cpu));
    ck_assert(!mem_read(&cpu, DEVICE + offset, &value, size));
}

START_TEST(test_reads)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        setup();
        check_read(size, 0x18, false);
        setup();
        check_read(size, 0xff8, true);
    }
}
END_TEST

START_TEST(test_writes)
{
    for (unsigned size = 1; size <= 8; size *= 2) {
        setup();
        u64 value = 0xfedcba9876543210ull;
        ck_assert(!mem_write(&cpu, DEVICE + 0x20, &value, size));
        ck_asked(EXIT_EPT_VIOLATION);
        ck_assert_uint_eq(frame[0].vmcs.exit_qualification, 0x582);
        struct emulated e = l1_emulates(0);
        ck_assert(e.write && !e.port);
        ck_assert_uint_eq(e.size, size);
        ck_assert_uint_eq(e.where, DEVICE + 0x20);
        ck_assert_uint_eq(e.value, value & mask_low(8 * size));
        enter();
        ck_l3();
        ck_assert(mem_write(&cpu, DEVICE + 0x20, &value, size));
        vmx_note_instruction(&cpu);
        ck_assert(!mem_write(&cpu, DEVICE + 0x20, &value, size));
    }
}
END_TEST

/* A read-modify-write: L1 does the read, then the write of what L3 made of it, and each once. */
START_TEST(test_read_modify_write)
{
    u32 value;
    setup();
    ck_assert(!mem_read_rmw32(&cpu, DEVICE, &value));
    ck_asked(EXIT_EPT_VIOLATION);
    struct emulated e = l1_emulates(41);
    ck_assert(!e.write);
    enter();
    ck_assert(mem_read_rmw32(&cpu, DEVICE, &value));
    ck_assert_uint_eq(value, 41);
    ck_assert(!mem_write32(&cpu, DEVICE, value + 1));
    ck_asked(EXIT_EPT_VIOLATION);
    e = l1_emulates(0);
    ck_assert(e.write);
    ck_assert_uint_eq(e.value, 42);
    enter();
    ck_l3();
    value = 0;
    ck_assert(mem_read_rmw32(&cpu, DEVICE, &value));     /* the instruction runs a third time */
    ck_assert_uint_eq(value, 41);
    ck_assert(mem_write32(&cpu, DEVICE, value + 1));
}
END_TEST

/* 16 bytes, and 4 bytes over the end of the page into memory: L1 gets what it can do with one register each. */
START_TEST(test_pieces)
{
    u64 value[2];
    setup();
    for (unsigned n = 0; n < 2; n++) {
        ck_assert(!mem_read(&cpu, DEVICE + 0x40, value, 16));
        ck_asked(EXIT_EPT_VIOLATION);
        struct emulated e = l1_emulates(0xaaaa + n);
        ck_assert_uint_eq(e.where, DEVICE + 0x40 + 8 * n);
        ck_assert_uint_eq(e.size, 8);
        enter();
    }
    ck_assert(mem_read(&cpu, DEVICE + 0x40, value, 16));
    ck_assert_uint_eq(value[0], 0xaaaa);
    ck_assert_uint_eq(value[1], 0xaaab);
    vmx_note_instruction(&cpu);

    u32 across = 0x04030201;
    bus_write(&bus, 0, DEVICE + 0x1000, 4, 0);
    ck_assert(!mem_write32(&cpu, DEVICE + 0xffe, across));
    ck_asked(EXIT_EPT_VIOLATION);
    struct emulated e = l1_emulates(0);
    ck_assert_uint_eq(e.size, 2);
    ck_assert_uint_eq(e.value, 0x0201);
    ck_assert_uint_eq(bus_read(&bus, 0, DEVICE + 0x1000, 2), 0);
    enter();
    ck_assert(mem_write32(&cpu, DEVICE + 0xffe, across));
    ck_assert_uint_eq(bus_read(&bus, 0, DEVICE + 0x1000, 2), 0x0403);
}
END_TEST

/* L1 maps the page instead: L3's instruction simply runs again, and nothing was carried out. */
START_TEST(test_mapped_instead)
{
    u32 value = 0;
    setup();
    ck_assert(!mem_read32(&cpu, DEVICE, &value));
    ck_asked(EXIT_EPT_VIOLATION);
    bus_write(&bus, 0, DEVICE, 4, 0x600d);
    ept_map(DEVICE, true, false);
    enter();
    ck_l3();
    ck_assert(!vmx_carrying(&cpu));
    ck_assert(mem_read32(&cpu, DEVICE, &value));
    ck_assert_uint_eq(value, 0x600d);
}
END_TEST

/* An interrupt that L1 injects on the way back waits until L3's instruction is done, or its access would be made twice. */
START_TEST(test_interrupt_waits)
{
    u32 value = 0;
    setup();
    frame[1].vmcs.guest_rflags |= FL_IF;
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(!mem_read32(&cpu, DEVICE, &value));
    ck_asked(EXIT_EPT_VIOLATION);
    l1_emulates(7);
    frame[0].vmcs.entry_interruption_info = 0x80000000u | 0x41;
    enter();
    ck_l3();
    ck_assert(!cpu.event.valid);
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(mem_read32(&cpu, DEVICE, &value));
    ck_assert_uint_eq(value, 7);
    cpu.core.rip += 2;
    vmx_note_instruction(&cpu);
    vmx_attention(&cpu, VMX_STAGE_INTERRUPT_WINDOW);
    ck_assert(cpu.event.valid);
    ck_assert_uint_eq(cpu.event.vector, 0x41);
    ck_assert_uint_eq(cpu.core.rip, L3_RIP + 2);
}
END_TEST

/* ---- ports -------------------------------------------------------------------------------------------------------- */

/* OUTS and INS of L3 to a port that only L1 intercepts: L1 sees OUT and IN. */
START_TEST(test_string_io)
{
    for (unsigned size = 1; size <= 4; size *= 2) {
        for (unsigned input = 0; input < 2; input++) {
            setup();
            bus_write(&bus, 0, 0x320000, 4, 0x81828384);
            struct vmx_ask ask = {.reason = EXIT_IO_INSTRUCTION, .number = 0x1f0, .size = size, .la = 0x320000,
                                  .qualification = (size - 1) | BIT(4) | BIT(5) | (u64)input << 3 | 0x1f0ull << 16};
            u32 value;
            ck_assert(!vmx_carried_port(&cpu, 0x1f0, size, input, &value));
            ck_assert(vmx_intercept(&cpu, &insn, &ask));
            ck_assert_uint_eq(cpu.vmx.depth, 0);
            const struct vmcs *v = &frame[0].vmcs;
            ck_assert_uint_eq(v->exit_reason, EXIT_IO_INSTRUCTION);
            ck_assert_uint_eq(v->exit_qualification, (size - 1) | input << 3 | 0x1f00000);
            u64 rip = v->guest_rip;
            struct emulated e = l1_emulates(0x55667788);
            ck_assert(e.port);
            ck_assert_uint_eq(e.write, !input);
            ck_assert_uint_eq(e.size, size);
            ck_assert_uint_eq(e.where, 0x1f0);
            ck_assert_uint_eq(v->guest_rip - rip, v->exit_instruction_length);
            if (!input)
                ck_assert_uint_eq(e.value, 0x81828384 & mask_low(8 * size));
            enter();
            ck_l3();
            ck_assert(vmx_carried_port(&cpu, 0x1f0, size, input, &value));
            if (input)
                ck_assert_uint_eq(value, 0x55667788 & mask_low(8 * size));
        }
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_reads, test_writes, test_read_modify_write, test_pieces, test_mapped_instead,
                                  test_interrupt_waits, test_string_io};
    return bench_run_with("vmx stand-ins", tests, ARRAY_SIZE(tests), setup);
}
