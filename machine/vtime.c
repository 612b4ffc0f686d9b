/* Virtual time and the turns of the vCPUs.
 *
 * The only clock is the number of instructions the machine has run: one instruction is one nanosecond. When every vCPU
 * sleeps, time jumps to the next thing that can wake one (`skipped`). Thus
 *
 *     ns = icount + skipped,   machine TSC = ns (1 GHz).
 *
 * vCPUs take turns of QUANTUM instructions on one host thread. A turn is cut into slices: a slice ends at the next timer
 * deadline, at a preemption timer, at --max-insns, or where tracing starts or stops, so that each of these happens at
 * an instruction count that no engine can move.
 *
 * Kept true: m->time.icount is exact whenever no vCPU is inside cpu_run; inside, the exact count is the vCPU's.
 */
#include "machine/vtime.h"

#include "cpu/interp.h"
#include "cpu/mode.h"
#include "cpu/trace.h"
#include "vmx/vmx.h"

#define QUANTUM 20000u

/* All vCPUs asleep for this long with timers firing in vain: nothing will wake them any more. */
#define SLEEP_LIMIT_NS (3600ull * 1000000000u)

u64 machine_icount(const struct machine *m)
{
    return m->time.running ? cpu_exact_now(&m->cpu[m->time.turn]) : m->time.icount;
}

u64 machine_now(const struct machine *m)
{
    return machine_icount(m) + m->time.skipped;
}

void machine_look_again(struct machine *m)
{
    if (!m->time.running)
        return;
    struct cpu *cpu = &m->cpu[m->time.turn];
    cpu->stop_at = cpu->time.now;       /* reached at the end of the block, which is now */
    cpu_cut_block(cpu);
}

/* ---- the clock's callbacks ---------------------------------------------------------------------------------------- */

static u64 clock_now_callback(void *arg)
{
    return machine_now(arg);
}

/* A timer was set from inside the running block: the slice may have to end sooner. */
static void clock_rearmed_callback(void *arg)
{
    struct machine *m = arg;
    if (m->time.running && m->clock.earliest < m->cpu[m->time.turn].stop_at + m->time.skipped)
        machine_look_again(m);
}

void vtime_init(struct machine *m)
{
    m->clock.now = clock_now_callback;
    m->clock.rearmed = clock_rearmed_callback;
    m->clock.arg = m;
    m->clock.earliest = CLOCK_NEVER;
    m->time.trace_start = MACHINE_NO_LIMIT;
    m->time.trace_stop = MACHINE_NO_LIMIT;
    m->time.turn_end = QUANTUM;
    m->time.asleep_since = CLOCK_NEVER;
}

/* ---- turns -------------------------------------------------------------------------------------------------------- */

static u64 min64(u64 a, u64 b)
{
    return a < b ? a : b;
}

/* The instruction count at which a moment of virtual time is reached if nobody sleeps; never before now. */
static u64 icount_of_ns(const struct machine *m, u64 ns)
{
    if (ns == CLOCK_NEVER)
        return MACHINE_NO_LIMIT;
    u64 now = m->time.icount + m->time.skipped;
    return ns <= now ? m->time.icount : m->time.icount + (ns - now);
}

static void trace_switch(struct machine *m)
{
    if (!m->trace)
        return;
    bool on = m->time.icount >= m->time.trace_start && m->time.icount < m->time.trace_stop;
    m->trace->mask = on ? m->trace_mask : 0;
}

static u64 trace_boundary(const struct machine *m)
{
    if (!m->trace)
        return MACHINE_NO_LIMIT;
    if (m->time.icount < m->time.trace_start)
        return m->time.trace_start;
    return m->time.icount < m->time.trace_stop ? m->time.trace_stop : MACHINE_NO_LIMIT;
}

/* When a vCPU that waits with a deadline (UMWAIT, TPAUSE) goes on, in ns; CLOCK_NEVER: it has none. */
static u64 wait_deadline(const struct cpu *cpu)
{
    return cpu->event.activity == ACTIVITY_MWAIT && cpu->event.wait_deadline ? cpu->event.wait_deadline : CLOCK_NEVER;
}

/* Could this vCPU run an instruction, or has something to look at that may wake it? */
static bool may_run(const struct machine *m, const struct cpu *cpu)
{
    return cpu->event.activity == ACTIVITY_ACTIVE || (cpu->event.attention & ~(u32)(ATT_ACTIVITY | ATT_STOP | ATT_PMU)) ||
           wait_deadline(cpu) <= machine_now(m);
}

/* Lets the vCPU of the turn run up to the next deadline. True when it ran or woke. */
static bool run_slice(struct machine *m)
{
    struct cpu *cpu = &m->cpu[m->time.turn];
    u64 start = m->time.icount;
    cpu->time.now = start;
    u64 stop = min64(m->time.turn_end, min64(m->config.max_insns, m->time.run_to));
    stop = min64(stop, icount_of_ns(m, m->clock.earliest));
    stop = min64(stop, trace_boundary(m));
    stop = min64(stop, vmx_next_deadline(cpu));
    /* A deadline that has come but was not taken (a timer of a blocked frame) must not stop the world. */
    cpu->stop_at = stop > start ? stop : start + 1;
    m->time.running = true;
    cpu_select_bus_view(cpu);
    m->run(cpu);
    m->time.running = false;
    m->time.icount = cpu->time.now;
    cpu->event.attention &= ~(u32)ATT_STOP;
    if (cpu->sys.tsc_offset != m->tsc_offset_seen[cpu->index]) {
        m->tsc_offset_seen[cpu->index] = cpu->sys.tsc_offset;
        lapic_tsc_changed(&m->lapic[cpu->index]);
    }
    return m->time.icount != start || cpu->event.activity == ACTIVITY_ACTIVE;
}

static void next_turn(struct machine *m)
{
    m->time.turn = (m->time.turn + 1) % m->cpu_count;
    m->time.turn_end = m->time.icount + QUANTUM;
}

/* Finds a vCPU that can run, from the one whose turn it is, and lets it run a slice. False when all sleep. */
static bool run_somebody(struct machine *m)
{
    if (m->time.icount >= m->time.turn_end)
        next_turn(m);
    for (unsigned tried = 0; tried < m->cpu_count; tried++) {
        if (may_run(m, &m->cpu[m->time.turn]) && run_slice(m))
            return true;
        if (m->end != MACHINE_RUNS || m->reset_wanted)
            return true;
        next_turn(m);
    }
    return false;
}

/* ---- sleep -------------------------------------------------------------------------------------------------------- */

/* The moment of the next timer or preemption timer, in ns; CLOCK_NEVER when there is none. `without`: a timer that does
 * not count. */
static u64 next_event(struct machine *m, unsigned without)
{
    u64 now = machine_now(m);
    u64 next = CLOCK_NEVER;
    for (unsigned i = 0; i < m->clock.count; i++)
        if (i != without)
            next = min64(next, m->clock.timer[i].deadline);
    for (unsigned i = 0; i < m->cpu_count; i++) {
        struct cpu *cpu = &m->cpu[i];
        bool armed = cpu->event.attention & ATT_VMX;
        next = min64(next, wait_deadline(cpu));
        cpu->time.now = m->time.icount;
        u64 deadline = vmx_next_deadline(cpu);
        if (!armed && cpu->event.attention & ATT_VMX)
            next = now;                    /* it expired while the vCPU slept: let it look */
        else if (deadline != MACHINE_NO_LIMIT && deadline > m->time.icount)
            next = min64(next, now + (deadline - m->time.icount));
    }
    return next;
}

/* Can input wake anybody, by an interrupt that the guest or one of its hypervisors takes? */
static bool input_can_wake(const struct machine *m)
{
    for (unsigned i = 0; i < m->cpu_count; i++) {
        const struct cpu *cpu = &m->cpu[i];
        if ((cpu->event.activity == ACTIVITY_HLT || cpu->event.activity == ACTIVITY_MWAIT) &&
            (cpu->core.rflags_rest & FL_IF || cpu->vmx.depth))
            return true;
    }
    return false;
}

/* Nobody can run: time jumps to the next event. */
static void skip_time(struct machine *m)
{
    u64 now = machine_now(m);
    if (m->time.asleep_since == CLOCK_NEVER)
        m->time.asleep_since = now;
    u64 next = next_event(m, CLOCK_TIMERS);
    bool only_input = m->input.open && next_event(m, m->input.timer) == CLOCK_NEVER;
    if (next == CLOCK_NEVER || next - now >= BIT(62) || (only_input && !input_can_wake(m)) ||
        (!only_input && now - m->time.asleep_since > SLEEP_LIMIT_NS)) {
        machine_finish(m, MACHINE_HALTED, 0);
        return;
    }
    if (only_input && m->input.count == 0 && m->frontend.wait)
        m->frontend.wait(m->frontend.arg);
    if (next <= now)
        return;
    struct cpu *cpu = &m->cpu[m->time.turn];
    if (trace_on(cpu, TRACE_SCHED))
        trace_emit(cpu, TRACE_SCHED, "skip", TRACE_FIELDS(trace_decimal("from", now), trace_decimal("to", next)));
    m->time.skipped += next - now;
}

enum machine_end machine_run(struct machine *m)
{
    return machine_run_to(m, MACHINE_NO_LIMIT);
}

enum machine_end machine_run_to(struct machine *m, u64 icount)
{
    char message[256];
    m->time.run_to = icount;
    while (m->end == MACHINE_RUNS && m->time.icount < icount) {
        trace_switch(m);
        if (m->time.icount >= m->config.max_insns)
            machine_finish(m, MACHINE_MAX_INSNS, 0);
        else if (m->interrupt)
            machine_finish(m, MACHINE_INTERRUPTED, 0);
        else if (run_somebody(m))
            m->time.asleep_since = CLOCK_NEVER;
        else
            skip_time(m);
        if (m->end == MACHINE_RUNS && !m->reset_wanted)
            clock_run(&m->clock, machine_now(m));
        if (m->reset_wanted) {
            m->reset_wanted = false;
            if (m->config.no_reboot)
                machine_finish(m, MACHINE_RESET, 0);
            else if (!machine_reset(m, message, sizeof(message)))
                panic("an image that was loaded once cannot be loaded again: %s", message);
        }
    }
    return m->end;
}
