/* Waiting: HLT; MONITOR and MWAIT; UMONITOR, UMWAIT and TPAUSE.
 *
 * A monitored line is watched by the bus (bus_watch): stores by any vCPU and by devices report to it, and nothing is paid while no line
 * is watched. A vCPU that waits is in ACTIVITY_MWAIT, with what ends its wait in event.monitor_armed and event.wait_deadline; a
 * store to the line (mmu/bus.c), an interrupt or the deadline (cpu/event.c) ends it.
 *
 * Follows [SDM2 "HLT—Halt", "MONITOR—Set Up Monitor Address", "MWAIT—Monitor Wait", "UMONITOR—User Level Set Up Monitor Address",
 * "UMWAIT—User Level Monitor Wait", "TPAUSE—Timed PAUSE"].
 */
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/operand.h"
#include "cpu/system.h"
#include "vmx/vmx.h"

/* No wait with a deadline lasts longer: the manual lets it end for reasons of the implementation's own. */
#define LONGEST_WAIT BIT(32)

static enum flow hlt(struct cpu *cpu, const struct insn *in)
{
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (vmx_intercept_simple(cpu, in, EXIT_HLT))
        return FLOW_EXIT;
    cpu->event.activity = ACTIVITY_HLT;
    cpu->event.attention |= ATT_ACTIVITY;
    return flow_end(cpu, in);
}
FAMILY_ONE(hlt, hlt)

/* Watches the line of the byte at seg:rN, which is read as a load would. Lines of devices are not watched. */
static enum flow arm(struct cpu *cpu, const struct insn *in, unsigned reg)
{
    u64 la, hpa;
    u8 byte;
    TRY(seg_la(cpu, in->arch_seg, cpu->core.r[reg] & mask_low(8u << in->asz), 1, ACCESS_READ, &la) && mem_read8(cpu, la, &byte));
    cpu->event.monitor_armed = 0;
    cpu->event.monitor_hpa = 0;
    if (mem_peek_translate(cpu, la, &hpa) && bus_watch(cpu->bus, hpa)) {
        cpu->event.monitor_armed = MONITOR_ARMED;
        cpu->event.monitor_hpa = hpa & ~63ull;
    }
    return FLOW_NEXT;
}

/* Sleeps until what `how` (MONITOR_*) and the deadline (in machine ticks; 0: none) say. */
static enum flow wait(struct cpu *cpu, const struct insn *in, u32 how, u64 deadline)
{
    cpu->event.monitor_armed = how;
    if (!(how & MONITOR_WAITING))
        cpu->event.monitor_hpa = 0;
    cpu->event.wait_deadline = deadline;
    cpu->event.activity = ACTIVITY_MWAIT;
    cpu->event.attention |= ATT_ACTIVITY;
    return flow_end(cpu, in);
}

/* ---- MONITOR and MWAIT ------------------------------------------------------------------------------------------- */

/* They exist at CPL 0 only, and while IA32_MISC_ENABLE says so. */
static bool monitor_absent(const struct cpu *cpu)
{
    return !cpl0(cpu) || !(cpu->sys.misc_enable & MISC_ENABLE_MONITOR);
}

/* ECX, all of RCX in 64-bit code. */
static u64 extensions(const struct cpu *cpu, const struct insn *in)
{
    return in->flags & INSN_64 ? reg64(cpu, REG_RCX) : reg32(cpu, REG_RCX);
}

static enum flow monitor(struct cpu *cpu, const struct insn *in)
{
    if (monitor_absent(cpu))
        return cpu_raise_ud(cpu);
    if (vmx_intercept_simple(cpu, in, EXIT_MONITOR))
        return FLOW_EXIT;
    return extensions(cpu, in) ? cpu_raise_gp(cpu, 0) : arm(cpu, in, REG_RAX);
}
FAMILY_ONE(monitor, monitor)

static enum flow mwait(struct cpu *cpu, const struct insn *in)
{
    bool armed = cpu->event.monitor_armed & MONITOR_ARMED;
    if (monitor_absent(cpu))
        return cpu_raise_ud(cpu);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = EXIT_MWAIT, .qualification = armed};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    u64 ecx = extensions(cpu, in);
    if (ecx & ~1ull)
        return cpu_raise_gp(cpu, 0);
    return armed ? wait(cpu, in, MONITOR_WAITING | (ecx & 1 ? MONITOR_MASKED : 0), 0) : flow_end(cpu, in);
}
FAMILY_ONE(mwait, mwait)

/* ---- WAITPKG ----------------------------------------------------------------------------------------------------- */

static enum flow umonitor(struct cpu *cpu, const struct insn *in)
{
    return system_gate_closed(cpu, GATE_USER_WAIT) ? cpu_raise_ud(cpu) : arm(cpu, in, in->rm);
}
FAMILY_ONE(umonitor, umonitor)

static u64 machine_tsc(struct cpu *cpu)
{
    return cpu->board ? cpu->board->tsc(cpu->board_arg, cpu) : cpu->time.now;
}

/* In how many machine ticks the running level's TSC reaches `tsc`, at most LONGEST_WAIT; 0: it has. */
static u64 ticks_until(struct cpu *cpu, u64 tsc)
{
    u64 now = cpu_tsc(cpu), low = 0, high = LONGEST_WAIT;
    if ((vmx_nonroot(cpu) ? vmx_scale_tsc(cpu, now) : now) >= tsc)
        return 0;
    while (low < high) {
        u64 middle = low + (high - low) / 2, then = now + middle;
        if ((vmx_nonroot(cpu) ? vmx_scale_tsc(cpu, then) : then) >= tsc)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static enum flow timed_wait(struct cpu *cpu, const struct insn *in, u32 reason, bool monitors)
{
    if (system_gate_closed(cpu, GATE_USER_WAIT))
        return cpu_raise_ud(cpu);
    if (reg32(cpu, in->rm) & ~1u || (cpu->sys.cr4 & CR4_TSD && !cpl0(cpu)))
        return cpu_raise_gp(cpu, 0);
    if (vmx_intercept_simple(cpu, in, reason))
        return FLOW_EXIT;
    bool armed = cpu->event.monitor_armed & MONITOR_ARMED;
    u64 ticks = ticks_until(cpu, (u64)reg32(cpu, REG_RDX) << 32 | reg32(cpu, REG_RAX));
    u64 limit = cpu->sys.umwait_control & 0xfffffffcull;
    flags_set_status(cpu, 0);
    if (!ticks || (monitors && !armed))
        return flow_end(cpu, in);
    u32 how = MONITOR_MASKED | (monitors ? MONITOR_WAITING : 0);
    if (limit && limit < ticks) {
        ticks = limit;
        how |= MONITOR_OS_LIMIT;
    }
    return wait(cpu, in, how, machine_tsc(cpu) + ticks);
}

static enum flow umwait(struct cpu *cpu, const struct insn *in) { return timed_wait(cpu, in, EXIT_UMWAIT, true); }
static enum flow tpause(struct cpu *cpu, const struct insn *in) { return timed_wait(cpu, in, EXIT_TPAUSE, false); }
FAMILY_ONE(umwait, umwait)
FAMILY_ONE(tpause, tpause)
