/* The bench's board with a local APIC that only notes what it is told, and one frame that enters and leaves a guest. */
#ifndef NESTOR_TESTS_BENCH_APIC_H
#define NESTOR_TESTS_BENCH_APIC_H

#include "cpu/event.h"
#include "vmx/insn.h"
#include "vmx/policy.h"
#include "vmx/virtual_apic.h"

#include "tests/vmx/bench_vmcs.h"

static const struct insn insn = BENCH_VMX_INSN(3);
static struct vmcs *const v = &cpu.vmx.frame[0].vmcs;

static struct { int acknowledged; unsigned eois, sent; u32 ndst; u8 vector; } apic;

static inline int bench_acknowledge(void *arg, struct cpu *c)
{
    (void)arg;
    c->event.attention &= ~(u32)ATT_INTR;
    return apic.acknowledged;
}
static inline void bench_eoi(void *arg, struct cpu *c) { (void)arg, (void)c; apic.eois++; }
static inline void bench_notify(void *arg, struct cpu *c, u32 ndst, u8 vector)
{
    (void)arg, (void)c;
    apic.sent++;
    apic.ndst = ndst;
    apic.vector = vector;
}
static struct cpu_board bench_board_with_apic;

/* A hypervisor on a processor of this model, as silicon has it. */
static inline void bench_apic_setup(const char *model)
{
    char message[100];
    bench_hypervisor_setup();
    bench_model(model);
    memset(&apic, 0, sizeof apic);
    bench_board_with_apic = bench_board;
    bench_board_with_apic.interrupt_acknowledge = bench_acknowledge;
    bench_board_with_apic.interrupt_eoi = bench_eoi;
    bench_board_with_apic.interrupt_notify = bench_notify;
    cpu.board = &bench_board_with_apic;
    ck_assert(vmx_policy_set(&cpu, "hardware", message, sizeof message));
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    cpu.stop_at = ~0ull;
}

static inline void enter(void)
{
    cpu.core.rip = 0x1000;
    cpu.vmx.frame[0].checked = 0;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, !v->launched), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
}

static inline void leave(void)
{
    ck_assert(vmx_intercept_simple(&cpu, &insn, EXIT_CPUID));
    ck_assert_uint_eq(cpu.vmx.depth, 0);
}

#endif
