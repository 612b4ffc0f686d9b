/* Delivery of exceptions and interrupts, priorities among concurrent events, activity states.
 *
 * Delivery follows [SDM3 "Interrupt and Exception Handling", "8086 Emulation", "Event Injection"] and the operation section of [SDM2 "INT n/INTO/INT3/INT1"].
 * An event is delivered in steps: a frame may intercept it; if it arose while another one was being delivered, the pair may become a double
 * fault or shut the processor down; then the gate is walked. A fault in the walk becomes the next event, the one that was
 * being delivered is kept in event.d_* (double faults, IDT-vectoring information).
 * Kept true: nothing architectural changes in the walk before its last check but accessed bits, CR2/DR6 and blocking by NMI, which
 * hardware changes as early; a nested fault ends in at most four steps in success, a VM exit or shutdown.
 */
#include "cpu/event.h"
#include "cpu/cet.h"
#include "cpu/flags.h"
#include "cpu/frame.h"
#include "cpu/lbr.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/segment.h"
#include "cpu/smm.h"
#include "cpu/table.h"
#include "cpu/task.h"
#include "cpu/trace.h"
#include "cpu/uintr.h"
#include "mmu/access.h"
#include "vmx/vmx.h"

/* The event whose delivery is walked, taken out of cpu->event. */
struct delivery {
    u8 vector, type, has_error, injected;
    u32 error;
    u64 return_rip;            /* what is pushed */
    u64 rflags;                /* what is pushed, RF as it shall be */
};

static bool is_software(u8 type) { return type == EVT_SOFTWARE_INT || type == EVT_PRIV_SOFTWARE || type == EVT_SOFTWARE; }

/* The DPL of the gate counts for INT n, INT3 and INTO only; the same instructions make error codes without EXT. */
static bool is_checked_software(u8 type) { return type == EVT_SOFTWARE_INT || type == EVT_SOFTWARE; }

/* ---- the walk -------------------------------------------------------------------------------------------------- */

/* RFLAGS once the handler has begun: `clear` are the flags that this kind of entry clears. */
static void enter_rflags(struct cpu *cpu, u64 clear)
{
    cpu->core.rflags_rest &= ~clear;
}

/* Real mode, and INT n in virtual-8086 mode that CR4.VME redirects to the 8086 program: through the vectors at idtr.base or linear 0. */
static enum flow deliver_ivt(struct cpu *cpu, const struct delivery *ev, bool redirected)
{
    struct frame f;
    u32 entry;
    u64 rflags = ev->rflags;
    u64 clear = FL_TF | FL_RF | FL_AC;

    if (!redirected && ev->vector * 4u + 3 > cpu->seg.idtr.limit)
        return cpu_raise_gp(cpu, ev->vector * 8u + 2);
    if (!redirected) {
        FLOW(system_read(cpu, (u32)(cpu->seg.idtr.base + ev->vector * 4u), &entry, 4));
    } else {
        cpu->fault.stack_segment = 0;
        if (!mem_read(cpu, ev->vector * 4u, &entry, 4))
            return cpu_raise_fault(cpu);
    }
    if (redirected && (rflags & FL_IOPL) != FL_IOPL) {
        /* The program's own IF is VIF; it sees IOPL 3. */
        rflags = (rflags & ~(u64)FL_IF) | FL_IOPL | (rflags & FL_VIF ? FL_IF : 0);
        clear |= FL_VIF;
    } else {
        clear |= FL_IF;
    }
    if (redirected)
        clear &= ~(u64)FL_AC;
    frame_begin(cpu, &f, OSZ_16);
    frame_add(&f, rflags);
    frame_add(&f, cpu->seg.s[SEG_CS].selector);
    frame_add(&f, ev->return_rip);
    FLOW(frame_push(cpu, &f));
    cpu->core.rsp = f.sp;
    cpu->core.rip = entry & 0xffff;
    cpu->seg.s[SEG_CS].selector = (u16)(entry >> 16);
    cpu->seg.s[SEG_CS].base = (u64)(entry >> 16) << 4;
    enter_rflags(cpu, clear);
    return FLOW_END;
}

/* Reads and checks the code segment of an interrupt or trap gate. */
static enum flow check_gate_code(struct cpu *cpu, u16 selector, bool wide, struct segment *cs, unsigned *new_cpl)
{
    struct descriptor d;
    u32 access;
    unsigned cpl = cpu->mode.cpl;
    if (selector_null(selector))
        return cpu_raise_gp(cpu, 0);
    FLOW(descriptor_read(cpu, selector, EXC_GP, &d));
    access = descriptor_access(&d);
    if (!access_is_code(access) || access_dpl(access) > cpl || (wide && (access & (AR_L | AR_DB)) != AR_L))
        return cpu_raise_gp(cpu, selector_error(selector));
    if (!(access & AR_P))
        return cpu_raise_np(cpu, selector_error(selector));
    *new_cpl = access_is_conforming(access) ? cpl : access_dpl(access);
    if (cpu->mode.v8086 && *new_cpl != 0)
        return cpu_raise_gp(cpu, selector_error(selector));
    FLOW(descriptor_set_accessed(cpu, &d));
    segment_unpack(cs, (u16)((selector & ~SELECTOR_RPL) | *new_cpl), &d);
    return FLOW_NEXT;
}

/* Long mode: 16-byte gates, 64-bit handlers, SS:RSP always pushed, interrupt stacks. */
static enum flow deliver_long(struct cpu *cpu, const struct delivery *ev)
{
    struct descriptor gate;
    struct segment cs = {0};
    struct frame f;
    u32 error = ev->vector * 8u + 2;
    u64 rsp = cpu->core.rsp;
    unsigned new_cpl;
    u64 words[2];

    if (ev->vector * 16u + 15 > cpu->seg.idtr.limit)
        return cpu_raise_gp(cpu, error);
    FLOW(system_read(cpu, cpu->seg.idtr.base + ev->vector * 16u, words, 16));
    gate.low = words[0];
    gate.high = words[1] & 0xffffffff;
    unsigned type = (unsigned)(gate.low >> 40 & 0x1f);
    if (type != SYS_INT && type != SYS_TRAP)
        return cpu_raise_gp(cpu, error);
    if (is_checked_software(ev->type) && descriptor_dpl(&gate) < cpu->mode.cpl)
        return cpu_raise_gp(cpu, error);
    if (!descriptor_present(&gate))
        return cpu_raise_np(cpu, error);
    FLOW(check_gate_code(cpu, gate_selector(&gate), true, &cs, &new_cpl));

    unsigned ist = gate.low >> 32 & 7;
    bool inner = new_cpl != cpu->mode.cpl;
    if (ist || inner)
        FLOW(task_read_stack64(cpu, new_cpl, ist, &rsp));
    else if (cpu->mode.stack_bits != BITS_64)
        rsp = cpu->mode.stack_bits == BITS_32 ? (u32)rsp : (u16)rsp;
    if (!cpu_canonical(cpu, rsp))
        return cpu_raise_ss(cpu, 0);
    frame_begin_new(cpu, &f, OSZ_64, &cpu->seg.s[SEG_SS], rsp & ~0xfull, new_cpl, true);
    frame_add(&f, cpu->seg.s[SEG_SS].selector);
    frame_add(&f, cpu->core.rsp);
    frame_add(&f, ev->rflags);
    frame_add(&f, cpu->seg.s[SEG_CS].selector);
    frame_add(&f, ev->return_rip);
    if (ev->has_error)
        frame_add(&f, ev->error);
    FLOW(frame_push(cpu, &f));
    if (!cpu_canonical(cpu, gate_offset(&gate)))
        return cpu_raise_gp(cpu, 0);
    FLOW(cet_enter(cpu, &cs, new_cpl, ist, ev->return_rip));

    cpu->core.rsp = f.sp;
    cpu->core.rip = gate_offset(&gate);
    cpu->seg.s[SEG_CS] = cs;
    if (inner)
        segment_make_null(&cpu->seg.s[SEG_SS], (u16)new_cpl, new_cpl);
    enter_rflags(cpu, FL_TF | FL_NT | FL_RF | FL_VM | (type == SYS_INT ? FL_IF : 0));
    return FLOW_END;
}

/* Protected mode without IA-32e mode, and from virtual-8086 mode: interrupt, trap and task gates. */
static enum flow deliver_protected(struct cpu *cpu, const struct delivery *ev)
{
    struct descriptor gate = {0};
    struct segment cs = {0}, ss = cpu->seg.s[SEG_SS];
    struct frame f;
    u32 error = ev->vector * 8u + 2;
    unsigned new_cpl;
    bool v8086 = cpu->mode.v8086;

    if (ev->vector * 8u + 7 > cpu->seg.idtr.limit)
        return cpu_raise_gp(cpu, error);
    FLOW(system_read(cpu, (u32)(cpu->seg.idtr.base + ev->vector * 8u), &gate.low, 8));
    unsigned type = (unsigned)(gate.low >> 40 & 0x1f);
    if (type != SYS_TASK_GATE && type != SYS_INT16 && type != SYS_TRAP16 && type != SYS_INT && type != SYS_TRAP)
        return cpu_raise_gp(cpu, error);
    if (is_checked_software(ev->type) && descriptor_dpl(&gate) < cpu->mode.cpl)
        return cpu_raise_gp(cpu, error);
    if (!descriptor_present(&gate))
        return cpu_raise_np(cpu, error);
    if (type == SYS_TASK_GATE)
        return task_switch(cpu, NULL, gate_selector(&gate), TASK_GATE, ev->return_rip, ev->rflags, ev->has_error, ev->error);
    FLOW(check_gate_code(cpu, gate_selector(&gate), false, &cs, &new_cpl));

    bool wide = type == SYS_INT || type == SYS_TRAP, inner = new_cpl != cpu->mode.cpl;
    unsigned osz = wide ? OSZ_32 : OSZ_16;
    u64 rip = wide ? (u32)gate_offset(&gate) : (u16)gate_offset(&gate);
    if (inner) {
        u16 selector;
        u64 sp;
        FLOW(task_read_stack(cpu, new_cpl, &selector, &sp));
        FLOW(segment_check_stack(cpu, selector, new_cpl, EXC_TS, false, &ss));
        frame_begin_new(cpu, &f, osz, &ss, sp, new_cpl, false);
        if (v8086) {
            frame_add(&f, cpu->seg.s[SEG_GS].selector);
            frame_add(&f, cpu->seg.s[SEG_FS].selector);
            frame_add(&f, cpu->seg.s[SEG_DS].selector);
            frame_add(&f, cpu->seg.s[SEG_ES].selector);
        }
        frame_add(&f, cpu->seg.s[SEG_SS].selector);
        frame_add(&f, cpu->core.rsp);
    } else {
        frame_begin(cpu, &f, osz);
    }
    frame_add(&f, ev->rflags);
    frame_add(&f, cpu->seg.s[SEG_CS].selector);
    frame_add(&f, ev->return_rip);
    if (ev->has_error)
        frame_add(&f, ev->error);
    if (rip > cs.limit)
        return cpu_raise_gp(cpu, 0);
    FLOW(frame_push(cpu, &f));
    FLOW(cet_enter(cpu, &cs, new_cpl, 0, ev->return_rip));

    cpu->core.rsp = f.sp;
    cpu->core.rip = rip;
    cpu->seg.s[SEG_CS] = cs;
    cpu->seg.s[SEG_SS] = ss;
    if (v8086) {
        static const u8 data[] = {SEG_ES, SEG_DS, SEG_FS, SEG_GS};
        for (unsigned i = 0; i < ARRAY_SIZE(data); i++)
            segment_make_null(&cpu->seg.s[data[i]], 0, 0);
    }
    enter_rflags(cpu, FL_TF | FL_NT | FL_RF | FL_VM | (type == SYS_INT || type == SYS_INT16 ? FL_IF : 0));
    return FLOW_END;
}

static enum flow deliver_walk(struct cpu *cpu, const struct delivery *ev)
{
    if (cpu->mode.real)
        return deliver_ivt(cpu, ev, false);
    if (cpu->mode.v8086 && ev->type == EVT_SOFTWARE_INT) {
        bool redirect = false;
        if (cpu->sys.cr4 & CR4_VME)
            FLOW(task_interrupt_redirected(cpu, ev->vector, &redirect));
        if (redirect)
            return deliver_ivt(cpu, ev, true);
        if ((cpu->core.rflags_rest & FL_IOPL) != FL_IOPL)
            return cpu_raise_gp(cpu, 0);
    }
    return cpu->mode.long_mode ? deliver_long(cpu, ev) : deliver_protected(cpu, ev);
}

/* ---- classification -------------------------------------------------------------------------------------------- */

enum fault_class { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT, CLASS_DOUBLE_FAULT };

/* [SDM3 "Interrupt and Exception Classes"] */
static enum fault_class classify(u8 vector, u8 type)
{
    if (type != EVT_HARDWARE)
        return CLASS_BENIGN;
    switch (vector) {
    case EXC_DE: case EXC_TS: case EXC_NP: case EXC_SS: case EXC_GP: case EXC_CP:
        return CLASS_CONTRIBUTORY;
    case EXC_PF: case EXC_VE:
        return CLASS_PAGE_FAULT;
    case EXC_DF:
        return CLASS_DOUBLE_FAULT;
    default:
        return CLASS_BENIGN;
    }
}

/* Exceptions that are faults (and the abort #DF, whose frame nobody returns through): the pushed RFLAGS have RF set, so that the instruction can
 * be restarted over its code breakpoint [SDM3 "RF (resume) flag"]. */
static bool pushes_rf(const struct cpu_event *e)
{
    if (e->type != EVT_HARDWARE || e->injected)
        return false;
    if (e->vector == EXC_DB)
        return e->payload & DR6_BD;
    return e->vector != EXC_OF && e->vector != EXC_BP && e->vector != EXC_MC;
}

/* Debug exceptions that a load of SS holds back are lost to a fault, but survive a software interrupt. Events that VM entry injects follow
 * [SDM3 "Delivery of Pending Debug Exceptions after VM Entry"]. */
static bool loses_pending_debug(const struct cpu_event *e)
{
    if (e->injected)
        return !is_checked_software(e->type) || !(e->blocking & BLOCK_MOV_SS);
    return e->type == EVT_HARDWARE && e->vector != EXC_DB;
}

static void forget_events(struct cpu *cpu)
{
    cpu->event.valid = 0;
    cpu->event.delivering = 0;
    cpu->event.attention &= ~(u32)ATT_EVENT;
}

void cpu_shut_down(struct cpu *cpu)
{
    forget_events(cpu);
    cpu->event.activity = ACTIVITY_SHUTDOWN;
    cpu->event.attention |= ATT_ACTIVITY;
    if (trace_on(cpu, TRACE_IRQ))
        trace_emit(cpu, TRACE_IRQ, "shutdown", TRACE_FIELDS(trace_hex("rip", cpu->core.rip)));
    if (cpu->board && cpu->board->shutdown)
        cpu->board->shutdown(cpu->board_arg, cpu);
}

/* What CPU state an exception changes as it is recognised, whatever becomes of its delivery. */
static void take_payload(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    if (e->injected || (e->type != EVT_HARDWARE && e->type != EVT_PRIV_SOFTWARE))
        return;
    if (e->vector == EXC_PF) {
        cpu->sys.cr2 = e->payload;
    } else if (e->vector == EXC_DB) {
        if (e->payload)
            cpu->sys.dr6 = (cpu->sys.dr6 & ~(0xfull | (e->payload & DR6_BLD))) | (e->payload & (0xf | DR6_BD | DR6_BS | DR6_BT));
        cpu->sys.dr7 &= ~DR7_GD;
        cpu->sys.debugctl &= ~(u64)(DEBUGCTL_LBR | DEBUGCTL_BTF);  /* the handler runs without */
    }
}

static bool intercepted(struct cpu *cpu)
{
    const struct cpu_event *e = &cpu->event;
    return vmx_nonroot(cpu) && !e->injected && e->type != EVT_EXTERNAL && e->type != EVT_NMI && e->type != EVT_SOFTWARE_INT &&
           vmx_intercept_event(cpu);
}

/* Delivers cpu->event and what its delivery raises, until a handler is entered, a VM exit was made or the processor shut down. */
static enum flow deliver(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    while (e->valid) {
        if (intercepted(cpu)) {
            e->delivering = 0;
            return FLOW_EXIT;
        }
        take_payload(cpu);
        if (e->delivering) {
            enum fault_class first = classify(e->d_vector, e->d_type), second = classify(e->vector, e->type);
            if (first == CLASS_DOUBLE_FAULT) {
                forget_events(cpu);
                if (vmx_nonroot(cpu) && vmx_triple_fault(cpu))
                    return FLOW_EXIT;
                cpu_shut_down(cpu);
                return FLOW_END;
            }
            if ((first == CLASS_CONTRIBUTORY && second == CLASS_CONTRIBUTORY) || (first == CLASS_PAGE_FAULT && second != CLASS_BENIGN)) {
                e->delivering = 0;
                cpu_raise_error(cpu, EXC_DF, 0);
                if (intercepted(cpu))
                    return FLOW_EXIT;
            }
        }

        struct delivery ev = {.vector = e->vector, .type = e->type, .has_error = e->has_error, .error = e->error, .injected = e->injected};
        ev.return_rip = cpu->core.rip + (is_software(e->type) ? e->insn_length : 0);
        if (cpu->mode.code_bits != BITS_64)
            ev.return_rip = (u32)ev.return_rip;
        ev.rflags = cpu_rflags(cpu) | (pushes_rf(e) ? FL_RF : 0);
        /* An interrupt with the vector UINV reaches no handler; a processor that was halted stays so. */
        bool notification = ev.type == EVT_EXTERNAL && cpu_is_user_notification(cpu, ev.vector);
        bool halted = notification && e->activity == ACTIVITY_HLT;
        if (loses_pending_debug(e) && !notification) {
            e->pending_debug = 0;
            e->attention &= ~(u32)ATT_PENDING_DB;
        }
        if (e->type == EVT_NMI)
            e->blocking |= BLOCK_NMI;
        if (!halted)
            e->activity = ACTIVITY_ACTIVE;
        e->d_vector = e->vector;
        e->d_type = e->type;
        e->d_has_error = e->has_error;
        e->d_error = e->error;
        e->d_insn_length = e->insn_length;
        e->delivering = 1;
        e->extint = !is_checked_software(e->type);
        e->valid = 0;
        e->injected = 0;
        e->attention &= ~(u32)(ATT_EVENT | (halted ? 0 : ATT_ACTIVITY));
        cpu->recent[cpu->recent_count++ % RECENT_EVENTS] =
            (struct recent_event){.now = cpu->time.now, .rip = cpu->core.rip, .cr2 = cpu->sys.cr2, .error = ev.error, .vector = ev.vector,
                                  .type = ev.type, .has_error = ev.has_error, .level = (u8)(cpu->vmx.depth + 1)};
        if (trace_on(cpu, TRACE_IRQ))
            trace_emit(cpu, TRACE_IRQ, notification ? "user_notification" : "deliver",
                       TRACE_FIELDS(trace_decimal("vector", ev.vector), trace_decimal("type", ev.type), trace_hex("error", ev.error),
                                    trace_hex("rip", cpu->core.rip), trace_hex("cr2", cpu->sys.cr2)));

        u64 from = cpu->core.rip;
        enum flow flow = UNLIKELY(notification) ? uintr_process_notification(cpu) : deliver_walk(cpu, &ev);
        bool external = e->extint;
        e->extint = 0;
        if (flow == FLOW_EXIT) {
            e->delivering = 0;
            return FLOW_EXIT;
        }
        if (flow == FLOW_EVENT) {
            if (external && e->has_error && e->type == EVT_HARDWARE && (e->vector == EXC_TS || e->vector == EXC_NP || e->vector == EXC_SS ||
                                                                        e->vector == EXC_GP || e->vector == EXC_AC))
                e->error |= 1;
            continue;
        }
        e->delivering = 0;
        e->nmi_unblocking_iret = 0;
        e->blocking &= ~(BLOCK_STI | BLOCK_MOV_SS);
        e->attention &= ~(u32)ATT_SHADOW;
        cpu_mode_update(cpu);
        if (UNLIKELY(cpu->sys.debugctl & DEBUGCTL_LBR) && !notification)
            lbr_event(cpu, from);
        if (e->attention & ATT_VMX)
            vmx_note_instruction(cpu);
    }
    return FLOW_END;
}

/* ---- between instructions --------------------------------------------------------------------------------------- */

static void wait_for_sipi(struct cpu *cpu)
{
    cpu->event.activity = ACTIVITY_WAIT_SIPI;
    cpu->event.attention |= ATT_ACTIVITY;
}

/* INIT [SDM3 "Multiple-Processor (MP) Initialization"]: blocked in VMX root operation, a VM exit below it. */
static enum flow take_init(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    if (cpu->smm.active)
        return FLOW_NEXT;
    if (vmx_nonroot(cpu) || cpu->vmx.frame[0].vmxon) {
        enum vmx_event_result result = vmx_init(cpu);
        if (result == VMX_EVENT_BLOCKED)
            return FLOW_NEXT;
        if (result == VMX_EVENT_EXITED) {
            e->attention &= ~(u32)ATT_INIT;
            return FLOW_EXIT;
        }
    }
    u32 lines = e->attention & (ATT_INTR | ATT_NMI | ATT_SIPI | ATT_SMI | ATT_STOP);
    u8 sipi_vector = e->sipi_vector;
    bool bootstrap = cpu->sys.apic_base & BIT(8);
    cpu_reset(cpu, true);
    forget_events(cpu);
    e->pending_debug = 0;
    e->blocking = 0;
    e->activity = ACTIVITY_ACTIVE;
    e->sipi_vector = sipi_vector;
    e->attention = (e->attention & ~(u32)(ATT_INIT | ATT_ACTIVITY | ATT_PENDING_DB | ATT_SHADOW)) | lines;
    if (!bootstrap)
        wait_for_sipi(cpu);
    if (cpu->board && cpu->board->apic_init)
        cpu->board->apic_init(cpu->board_arg, cpu);
    cpu_mode_update(cpu);
    return FLOW_EVENT;
}

static enum flow take_sipi(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    u8 vector = e->sipi_vector;
    e->attention &= ~(u32)ATT_SIPI;
    if (e->activity != ACTIVITY_WAIT_SIPI)
        return FLOW_NEXT;  /* lost */
    if (vmx_nonroot(cpu)) {
        enum vmx_event_result result = vmx_sipi(cpu, vector);
        if (result == VMX_EVENT_EXITED)
            return FLOW_EXIT;
        if (result == VMX_EVENT_BLOCKED)
            return FLOW_NEXT;
    }
    struct segment *cs = &cpu->seg.s[SEG_CS];
    cs->selector = (u16)(vector << 8);
    cs->base = (u64)vector << 12;
    cpu->core.rip = 0;
    e->activity = ACTIVITY_ACTIVE;
    e->attention &= ~(u32)ATT_ACTIVITY;
    cpu_mode_update(cpu);
    return FLOW_EVENT;
}

static enum flow take_nmi(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    if (vmx_nonroot(cpu)) {
        enum vmx_event_result result = vmx_nmi(cpu);
        if (result == VMX_EVENT_BLOCKED)
            return FLOW_NEXT;
        if (result == VMX_EVENT_EXITED) {
            e->attention &= ~(u32)ATT_NMI;
            return FLOW_EXIT;
        }
    }
    if (e->blocking & (BLOCK_NMI | BLOCK_MOV_SS | BLOCK_STI))
        return FLOW_NEXT;
    e->attention &= ~(u32)ATT_NMI;
    cpu_raise(cpu, EXC_NMI);
    e->type = EVT_NMI;
    return FLOW_EVENT;
}

static enum flow take_smi(struct cpu *cpu)
{
    enum flow flow = smm_take_smi(cpu);
    if (flow == FLOW_NEXT)
        smm_forget_io(cpu);
    return flow;
}

/* The end of MWAIT, UMWAIT or TPAUSE. */
static void wake(struct cpu *cpu)
{
    cpu->event.activity = ACTIVITY_ACTIVE;
    cpu->event.attention &= ~(u32)ATT_ACTIVITY;
}

static enum flow take_interrupt(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    if (vmx_nonroot(cpu)) {
        enum vmx_event_result result = vmx_external_interrupt(cpu);
        if (result == VMX_EVENT_BLOCKED)
            return FLOW_NEXT;
        if (result == VMX_EVENT_EXITED)
            return FLOW_EXIT;
        if (result == VMX_EVENT_TAKEN)
            return FLOW_EVENT;
    }
    if (e->activity == ACTIVITY_MWAIT && e->monitor_armed & MONITOR_MASKED)
        wake(cpu);
    if (!(cpu->core.rflags_rest & FL_IF) || (e->blocking & (BLOCK_STI | BLOCK_MOV_SS)))
        return FLOW_NEXT;
    int vector = cpu->board->interrupt_acknowledge(cpu->board_arg, cpu);
    if (vector < 0) {
        e->attention &= ~(u32)ATT_INTR;
        return FLOW_NEXT;
    }
    if (cpu_is_user_notification(cpu, (u8)vector) && cpu->board->interrupt_eoi)
        cpu->board->interrupt_eoi(cpu->board_arg, cpu);    /* the processor dismisses it itself */
    cpu_raise(cpu, (u8)vector);
    e->type = EVT_EXTERNAL;
    return FLOW_EVENT;
}

/* A user interrupt comes behind an unmasked ordinary one, at any boundary but that behind a load of SS. It wakes from UMWAIT and TPAUSE, the
 * only waits at CPL 3 [SDM3 "User-Interrupt Delivery"]. */
static bool user_interrupt_due(const struct cpu_event *e)
{
    return UNLIKELY(e->attention & ATT_UINTR) && !(e->blocking & BLOCK_MOV_SS) &&
           (e->activity == ACTIVITY_ACTIVE || e->activity == ACTIVITY_MWAIT);
}

/* Instruction breakpoints at the next instruction: the bits for DR6, or 0 [SDM3 "Instruction-Breakpoint Exception Condition"]. */
static u64 code_breakpoints(const struct cpu *cpu)
{
    u64 dr7 = cpu->sys.dr7, hits = 0;
    if (!(dr7 & 0xff) || (cpu->core.rflags_rest & FL_RF) || (cpu->event.blocking & BLOCK_MOV_SS))
        return 0;
    u64 la = cpu->core.rip + (cpu->mode.code_bits == BITS_64 ? 0 : cpu->seg.s[SEG_CS].base);
    if (cpu->mode.code_bits != BITS_64)
        la = (u32)la;
    bool enabled = false;
    for (unsigned n = 0; n < 4; n++) {
        if ((dr7 >> (16 + 4 * n) & 3) == 0 && cpu->sys.dr[n] == la) {
            hits |= BIT(n);
            enabled |= (dr7 >> (2 * n) & 3) != 0;
        }
    }
    return enabled ? hits : 0;
}

/* Whether the processor, in its activity state, takes anything but what wakes it. FLOW_NEXT: nothing was due and an instruction may run; FLOW_END:
 * nothing was due and the processor is not active; else something was done. */
static enum flow service_once(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    if (e->attention & ATT_EVENT) {
        smm_forget_io(cpu);
        if (!e->valid) {
            e->attention &= ~(u32)ATT_EVENT;
            return FLOW_EVENT;
        }
        deliver(cpu);
        return FLOW_EVENT;
    }
    bool armed = e->attention & ATT_VMX;
    if (armed && vmx_attention(cpu, VMX_STAGE_BUS_LOCK))
        return FLOW_EXIT;
    if (e->attention & ATT_INIT) {
        /* While a start-up IPI is awaited another INIT changes nothing; below a hypervisor it stays pending. */
        if (e->activity != ACTIVITY_WAIT_SIPI)
            FLOW(take_init(cpu));
        else if (!vmx_nonroot(cpu))
            e->attention &= ~(u32)ATT_INIT;
    }
    if (e->attention & ATT_SIPI)
        FLOW(take_sipi(cpu));
    if (e->activity == ACTIVITY_WAIT_SIPI)
        return FLOW_END;

    if (vmx_carrying(cpu))
        return FLOW_NEXT;
    if (e->activity == ACTIVITY_MWAIT && e->wait_deadline && cpu->board && cpu->board->tsc(cpu->board_arg, cpu) >= e->wait_deadline) {
        wake(cpu);
        if (e->monitor_armed & MONITOR_OS_LIMIT)
            flags_set_status(cpu, FL_CF);
    }
    if (e->attention & ATT_SMI)
        FLOW(take_smi(cpu));
    armed = e->attention & ATT_VMX;
    bool shutdown = e->activity == ACTIVITY_SHUTDOWN;
    if (armed && vmx_attention(cpu, VMX_STAGE_TPR_MTF))
        return FLOW_EXIT;
    if ((e->attention & ATT_PENDING_DB) && !(e->blocking & BLOCK_MOV_SS) && !shutdown) {
        u64 dr6 = e->pending_debug & (0xf | DR6_BLD | DR6_BS | DR6_BT);
        e->pending_debug = 0;
        e->attention &= ~(u32)ATT_PENDING_DB;
        if (dr6) {
            cpu_raise_db(cpu, dr6);
            return FLOW_EVENT;
        }
    }
    if (armed && (vmx_attention(cpu, VMX_STAGE_TIMER) || vmx_attention(cpu, VMX_STAGE_NMI_WINDOW)))
        return FLOW_EXIT;
    if (e->attention & ATT_NMI)
        FLOW(take_nmi(cpu));
    if (armed && vmx_attention(cpu, VMX_STAGE_INTERRUPT_WINDOW))
        return FLOW_EXIT;
    if ((e->attention & ATT_VIRTUAL_INTR) && vmx_virtual_interrupt(cpu))
        return FLOW_EVENT;
    if ((e->attention & ATT_INTR) && (!shutdown || vmx_nonroot(cpu)))
        FLOW(take_interrupt(cpu));
    if (user_interrupt_due(e))
        return uintr_deliver(cpu);
    if (e->activity != ACTIVITY_ACTIVE)
        return FLOW_END;
    if (e->attention & ATT_STEP) {
        u64 dr6 = code_breakpoints(cpu);
        if (dr6) {
            cpu_raise_db(cpu, dr6);
            return FLOW_EVENT;
        }
    }
    return FLOW_NEXT;
}

enum flow cpu_service_events(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    /* The common case: an interrupt waits for RFLAGS.IF. */
    if (e->attention == ATT_INTR && !(cpu->core.rflags_rest & FL_IF) && !vmx_nonroot(cpu))
        return FLOW_NEXT;
    for (unsigned round = 0; round < 16; round++) {
        enum flow flow = service_once(cpu);
        if (flow == FLOW_NEXT) {
            vmx_note_progress(cpu);
            if (e->attention & ATT_ALONE) {
                u64 rflags = cpu->core.rflags_rest;
                e->step = (u8)((e->blocking & (BLOCK_STI | BLOCK_MOV_SS)) | (rflags & FL_TF ? STEP_TF : 0) | (rflags & FL_RF ? STEP_RF : 0));
                e->step_depth = (u8)cpu->vmx.depth;
            }
            return FLOW_NEXT;
        }
        if (flow == FLOW_END)
            return FLOW_END;
    }
    if (vmx_nonroot(cpu)) {
        if (e->valid)
            service_once(cpu);             /* a hypervisor that is told finds it delivered */
        if (!e->valid)
            vmx_no_progress(cpu);
    }
    return FLOW_EVENT;
}

/* Whether the instruction that ran alone branched, which is what IA32_DEBUGCTL.BTF traps on: it went elsewhere than behind itself, or it is a taken
 * relative branch to there (those that are not taken report FLOW_NEXT). */
static bool has_branched(const struct cpu *cpu, const struct insn *in, enum flow flow)
{
    u64 next = cpu->block_rip + in->length;
    return cpu->core.rip != (in->flags & INSN_64 ? next : (u32)next) ||
           (flow == FLOW_END && in->row < insn_row_count && insn_rows[in->row].operand[0].letter == 'J');
}

void cpu_after_step(struct cpu *cpu, enum flow flow, const struct insn *in)
{
    struct cpu_event *e = &cpu->event;
    u8 step = e->step;
    e->step = 0;
    /* A fault leaves the shadow to its delivery; after a VM entry or exit this is another processor context. */
    if (!in || (flow != FLOW_NEXT && flow != FLOW_END) || e->step_depth != cpu->vmx.depth)
        return;
    /* A string instruction with iterations to go stays where it is. */
    bool repeats = in->flags & (INSN_REP | INSN_REPNE) && cpu->core.rip == cpu->block_rip;
    e->blocking &= ~(step & (STEP_STI | STEP_MOV_SS));
    if (!(e->blocking & (BLOCK_STI | BLOCK_MOV_SS)))
        e->attention &= ~(u32)ATT_SHADOW;
    if (repeats && cpu->sys.dr7 & 0xff) {
        /* Whatever interrupts it now pushes RF, so that its code breakpoint does not trap again [SDM3 "RF (resume) flag"]. */
        cpu->core.rflags_rest |= FL_RF;
        cpu_mode_update_cpl(cpu);
    } else if (!repeats && (step & STEP_RF) && (cpu->core.rflags_rest & FL_RF)) {
        cpu->core.rflags_rest &= ~(u64)FL_RF;
        cpu_mode_update_cpl(cpu);
    }
    bool branched = cpu->sys.debugctl & (DEBUGCTL_BTF | DEBUGCTL_LBR) && !repeats && has_branched(cpu, in, flow);
    if (branched && cpu->sys.debugctl & DEBUGCTL_LBR)
        lbr_branch(cpu, in, cpu->block_rip);
    if ((step & STEP_TF) && (branched || !(cpu->sys.debugctl & DEBUGCTL_BTF)))
        cpu_pend_debug(cpu, DR6_BS);
    if (e->attention & ATT_VMX)
        vmx_note_instruction(cpu);
}

void cpu_signal(struct cpu *cpu, u32 att_bit, u8 sipi_vector, bool level)
{
    if (level) {
        cpu->event.attention |= att_bit;
        if (att_bit & ATT_SIPI)
            cpu->event.sipi_vector = sipi_vector;
    } else {
        cpu->event.attention &= ~att_bit;
    }
    cpu_cut_block(cpu);
}
