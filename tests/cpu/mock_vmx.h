/* A hypervisor that only listens: what floor 5 asks of vmx/ is written down, and answered as the test wants. The suite
 * that includes this tests handlers apart from vmx/ (whose own suites are in tests/vmx/); so every function of
 * vmx/vmx.h that the handlers call stands here, and the linker takes nothing from vmx/. A new one needs a line here.
 */
#ifndef NESTOR_TESTS_MOCK_VMX_H
#define NESTOR_TESTS_MOCK_VMX_H

#include "tests/cpu/bench_cpu.h"


static struct {
    struct vmx_ask ask;        /* the last one */
    unsigned asked, memory_exits;
    bool exit;                 /* answer of vmx_intercept */
    u64 cr0, cr4;              /* what the guest sees */
    u64 cr0_owned, cr4_owned;  /* bits that stay as they are when the guest writes */
    u64 cr0_fixed, cr4_fixed;  /* must be 1 */
    u64 tsc_added;
    bool tpr_shadow;
    u8 tpr;
    u64 cr4_noted;             /* what vmx_note_cr4() was told */
    u32 msr;                   /* this one is vmx/'s */
    u64 msr_value;
} hypervisor;

bool vmx_intercept(struct cpu *c, const struct insn *in, const struct vmx_ask *ask)
{
    (void)c, (void)in;
    hypervisor.ask = *ask;
    hypervisor.asked++;
    return hypervisor.exit;
}
u64 vmx_guest_cr0(const struct cpu *c) { (void)c; return hypervisor.cr0; }
u64 vmx_guest_cr4(const struct cpu *c) { (void)c; return hypervisor.cr4; }
u64 vmx_merge_cr0(const struct cpu *c, u64 value)
{
    return (value & ~hypervisor.cr0_owned) | (c->sys.cr0 & hypervisor.cr0_owned);
}
u64 vmx_merge_cr4(const struct cpu *c, u64 value)
{
    return (value & ~hypervisor.cr4_owned) | (c->sys.cr4 & hypervisor.cr4_owned);
}
void vmx_note_cr4(struct cpu *c, u64 value)
{
    (void)c;
    hypervisor.cr4_noted = value;
}
bool vmx_cr0_fixed_ok(const struct cpu *c, u64 value) { (void)c; return !(~value & hypervisor.cr0_fixed); }
bool vmx_cr4_fixed_ok(const struct cpu *c, u64 value) { (void)c; return !(~value & hypervisor.cr4_fixed); }
u64 vmx_scale_tsc(const struct cpu *c, u64 tsc) { (void)c; return tsc + hypervisor.tsc_added; }
bool vmx_tpr_read(struct cpu *c, u8 *tpr)
{
    (void)c;
    *tpr = hypervisor.tpr;
    return hypervisor.tpr_shadow;
}
bool vmx_tpr_write(struct cpu *c, u8 tpr)
{
    (void)c;
    if (hypervisor.tpr_shadow)
        hypervisor.tpr = tpr;
    return hypervisor.tpr_shadow;
}
bool vmx_msr_read(struct cpu *c, u32 msr, u64 *value, bool *known)
{
    (void)c;
    *known = hypervisor.msr && msr == hypervisor.msr;
    if (*known)
        *value = hypervisor.msr_value;
    return *known;
}
bool vmx_msr_write(struct cpu *c, u32 msr, u64 value, bool *known)
{
    (void)c;
    *known = hypervisor.msr && msr == hypervisor.msr;
    if (*known)
        hypervisor.msr_value = value;
    return *known;
}
void vmx_filter_cpuid(struct cpu *c, u32 leaf, u32 subleaf, u32 regs[4])
{
    (void)c, (void)subleaf;
    if (leaf == 0x2bad)
        regs[2] = 0xf117e4ed;
}
bool vmx_carried_port(const struct cpu *c, u16 port, unsigned size, bool input, u32 *value)
{
    (void)c, (void)port, (void)size, (void)input, (void)value;
    return false;
}
bool vmx_send_user_notification(struct cpu *c, u8 vector, u32 ndst)
{
    (void)c, (void)vector, (void)ndst;
    return false;
}
enum flow vmx_memory_fault(struct cpu *c)
{
    (void)c;
    hypervisor.memory_exits++;
    return FLOW_EXIT;
}

#endif
