/* See uintr.h. The instructions UIRET, TESTUI, CLUI, STUI and SENDUIPI; notifications; delivery.
 *
 * The tables that they use belong to the operating system and are reached by linear addresses with supervisor rights: the table of
 * targets (UITT, 16 bytes an entry) and the descriptors (UPID, 16 bytes: ON, SN, notification vector and destination, 64 requests), which other
 * processors change, too. An access to a descriptor is one locked operation.
 * Kept true: nothing changes before the last access that can fail, but what a fault of the shadow stack leaves below the stack pointer.
 *
 * Follows [SDM3 "User-Interrupt Delivery", "User-Interrupt Notification Processing"], [SDM2 "SENDUIPI—Send User Interprocessor Interrupt",
 * "UIRET—User-Interrupt Return", "CLUI—Clear User Interrupt Flag", "STUI—Set User Interrupt Flag", "TESTUI—Determine User Interrupt Flag"].
 */
#include "cpu/uintr.h"

#include "cpu/cet.h"
#include "cpu/event.h"
#include "cpu/flags.h"
#include "cpu/frame.h"
#include "cpu/insn.h"
#include "cpu/lbr.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/operand.h"
#include "cpu/trace.h"
#include "vmx/vmx.h"

/* ---- the descriptor ---------------------------------------------------------------------------------------------- */

struct upid { u64 control, requests; };
enum { UPID_OUTSTANDING = 1 << 0, UPID_SUPPRESS = 1 << 1, UPID_VECTOR_SHIFT = 16, UPID_DESTINATION_SHIFT = 32 };
#define UPID_RESERVED 0xff00fffcull

static enum flow upid_read(struct cpu *cpu, u64 la, struct upid *upid)
{
    cpu->fault.stack_segment = 0;
    return mem_read_slow(cpu, la, upid, sizeof *upid, ACCESS_WRITE | ACCESS_SYSTEM) ? FLOW_NEXT : cpu_raise_fault(cpu);
}

static enum flow upid_write(struct cpu *cpu, u64 la, const struct upid *upid)
{
    cpu->fault.stack_segment = 0;
    return mem_write_system(cpu, la, upid, sizeof *upid) ? FLOW_NEXT : cpu_raise_fault(cpu);
}

enum flow uintr_process_notification(struct cpu *cpu)
{
    u64 la = cpu->sys.uintr_pd;
    struct upid upid;
    FLOW(upid_read(cpu, la, &upid));
    u64 requests = upid.requests;
    upid.control &= ~(u64)UPID_OUTSTANDING;
    upid.requests = 0;
    FLOW(upid_write(cpu, la, &upid));
    cpu->sys.uintr_rr |= requests;
    cpu_recognize_user_interrupt(cpu);
    return FLOW_END;
}

/* ---- delivery ---------------------------------------------------------------------------------------------------- */

static enum flow push_place(struct cpu *cpu, struct frame *f, unsigned vector)
{
    u64 adjust = cpu->sys.uintr_stackadjust;
    frame_begin(cpu, f, OSZ_64);
    f->sp = (adjust & 1 ? adjust : f->sp - adjust) & ~0xfull;
    frame_add(f, cpu->core.rsp);
    frame_add(f, cpu_rflags(cpu));
    frame_add(f, cpu->core.rip);
    frame_add(f, vector);
    FLOW(frame_push(cpu, f));
    return cet_enter_user_interrupt(cpu, cpu->core.rip);
}

enum flow uintr_deliver(struct cpu *cpu)
{
    struct cpu_event *e = &cpu->event;
    struct cpu_sys *sys = &cpu->sys;
    unsigned vector = 63 - (unsigned)__builtin_clzll(sys->uintr_rr);
    u64 from = cpu->core.rip;
    struct frame f;

    if (!cpu_canonical(cpu, sys->uintr_handler))
        return cpu_raise_gp(cpu, 0);
    e->user_delivery = 1;
    enum flow flow = push_place(cpu, &f, vector);
    e->user_delivery = 0;
    if (flow != FLOW_NEXT)
        return flow;
    if (trace_on(cpu, TRACE_IRQ))
        trace_emit(cpu, TRACE_IRQ, "user_interrupt",
                   TRACE_FIELDS(trace_decimal("vector", vector), trace_hex("rip", from), trace_hex("handler", sys->uintr_handler)));
    sys->uintr_rr &= ~BIT(vector);
    sys->uif = 0;
    cpu->core.rsp = f.sp;
    cpu->core.rip = sys->uintr_handler;
    cpu->core.rflags_rest &= ~(u64)(FL_TF | FL_RF);
    e->activity = ACTIVITY_ACTIVE;
    e->blocking &= ~BLOCK_STI;
    e->attention &= ~(u32)(ATT_ACTIVITY | ATT_SHADOW);
    cpu_mode_update_cpl(cpu);
    if (UNLIKELY(sys->debugctl & DEBUGCTL_LBR))
        lbr_event(cpu, from);
    if (e->attention & ATT_VMX)
        vmx_note_instruction(cpu);
    return FLOW_EVENT;
}

/* ---- instructions ------------------------------------------------------------------------------------------------ */

static bool user_interrupts_off(const struct cpu *cpu) { return !(cpu->sys.cr4 & CR4_UINTR); }

static enum flow uiret(struct cpu *cpu, const struct insn *in)
{
    struct cpu_event *e = &cpu->event;
    const u64 changed = FL_STATUS | FL_TF | FL_DF | FL_NT | FL_RF | FL_AC | FL_ID;
    u64 sp = cpu->core.rsp, rip, image, rsp;
    (void)in;
    if (user_interrupts_off(cpu))
        return cpu_raise_ud(cpu);
    TRY(stack_read(cpu, sp, OSZ_64, &rip));
    TRY(stack_read(cpu, sp + 8, OSZ_64, &image));
    TRY(stack_read(cpu, sp + 16, OSZ_64, &rsp));
    if (!cpu_canonical(cpu, rip))
        return cpu_raise_gp(cpu, 0);
    FLOW(cet_return_user_interrupt(cpu, rip));
    cpu->core.rip = rip;
    cpu->core.rsp = rsp;
    cpu_set_rflags(cpu, (cpu_rflags(cpu) & ~changed) | (image & changed));
    cpu->sys.uif = 1;
    e->step &= (u8)~STEP_RF;               /* RF as popped is the next instruction's */
    e->monitor_armed = 0;
    e->monitor_hpa = 0;
    cpu_mode_update_cpl(cpu);
    return FLOW_END;
}
FAMILY_ONE(uiret, uiret)

static enum flow testui(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (user_interrupts_off(cpu))
        return cpu_raise_ud(cpu);
    flags_set_status(cpu, cpu->sys.uif ? FL_CF : 0);
    return FLOW_NEXT;
}
FAMILY_ONE(testui, testui)

/* Unlike STI's, their effect is there at once. */
static enum flow clui(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    if (user_interrupts_off(cpu))
        return cpu_raise_ud(cpu);
    cpu->sys.uif = 0;
    cpu_recognize_user_interrupt(cpu);
    return FLOW_NEXT;
}
FAMILY_ONE(clui, clui)

static enum flow stui(struct cpu *cpu, const struct insn *in)
{
    if (user_interrupts_off(cpu))
        return cpu_raise_ud(cpu);
    cpu->sys.uif = 1;
    cpu_recognize_user_interrupt(cpu);
    return flow_end(cpu, in);
}
FAMILY_ONE(stui, stui)

/* An entry of the table of targets: valid, user vector, address of the descriptor. */
struct uitt_entry { u64 control, upid; };
enum { UITT_VALID = 1 << 0, UITT_VECTOR_SHIFT = 8 };
#define UITT_RESERVED 0xffffffffffffc0feull

static enum flow senduipi(struct cpu *cpu, const struct insn *in)
{
    const struct cpu_sys *sys = &cpu->sys;
    u64 index = reg64(cpu, in->rm);
    struct uitt_entry entry;
    struct upid upid;
    if (user_interrupts_off(cpu) || !(sys->uintr_tt & 1))
        return cpu_raise_ud(cpu);
    if (index > (u32)sys->uintr_misc)
        return cpu_raise_gp(cpu, 0);
    FLOW(system_read(cpu, (sys->uintr_tt & ~0xfull) + index * sizeof entry, &entry, sizeof entry));
    if (!(entry.control & UITT_VALID) || entry.control & UITT_RESERVED || entry.upid & 0x3f)
        return cpu_raise_gp(cpu, 0);
    FLOW(upid_read(cpu, entry.upid, &upid));
    if (upid.control & UPID_RESERVED)
        return cpu_raise_gp(cpu, 0);
    bool notify = !(upid.control & (UPID_OUTSTANDING | UPID_SUPPRESS));
    upid.requests |= BIT(entry.control >> UITT_VECTOR_SHIFT & 0x3f);
    upid.control |= notify ? UPID_OUTSTANDING : 0;
    FLOW(upid_write(cpu, entry.upid, &upid));
    u8 vector = (u8)(upid.control >> UPID_VECTOR_SHIFT);
    u32 destination = (u32)(upid.control >> UPID_DESTINATION_SHIFT);
    if (notify && !(UNLIKELY(vmx_nonroot(cpu)) && vmx_send_user_notification(cpu, vector, destination)) && cpu->board &&
        cpu->board->interrupt_notify)
        cpu->board->interrupt_notify(cpu->board_arg, cpu, destination, vector);
    return flow_end(cpu, in);
}
FAMILY_ONE(senduipi, senduipi)
