/* Virtual interrupts: recognised, delivered, posted, sent to another virtual processor.
 *
 * Follows [SDM3 "Evaluation and Delivery of Virtual Interrupts", "Posted-Interrupt Processing", "IPI Virtualization",
 * "EOI Virtualization"].
 *
 * A virtual interrupt of frame k is for L(k+2). While deeper levels run under it, it is to that hypervisor what an
 * external interrupt is to one on bare metal: the first frame above that exits on external interrupts takes it, with
 * the vector if it acknowledges; else it is the innermost guest's. A notification vector that comes so posts what
 * stands in that frame's descriptor, and nobody exits.
 *
 * Kept true: a virtual interrupt leaves VIRR exactly when somebody has got its vector.
 */
#include "vmx/frame.h"
#include "vmx/virtual_apic.h"

#include "cpu/trace.h"
#include "mmu/access.h"

/* ---- RVI, SVI and the bits on the page --------------------------------------------------------------------------- */

static u8 rvi(const struct vmx_frame *f) { return (u8)f->vmcs.guest_interrupt_status; }
static u8 svi(const struct vmx_frame *f) { return (u8)(f->vmcs.guest_interrupt_status >> 8); }
static void set_rvi(struct vmx_frame *f, u8 vector) { f->vmcs.guest_interrupt_status = (u64)svi(f) << 8 | vector; }
static void set_svi(struct vmx_frame *f, u8 vector) { f->vmcs.guest_interrupt_status = (u64)vector << 8 | rvi(f); }

/* `base` is VAPIC_ISR or VAPIC_IRR: eight words of 32 bits, 16 bytes apart. */
static void set_bit(struct cpu *cpu, const struct vmx_frame *f, unsigned base, u8 vector, bool on)
{
    unsigned offset = base + (vector >> 5) * 16u;
    u32 bit = 1u << (vector & 31), word = vapic_read(cpu, f, offset);
    vapic_write(cpu, f, offset, on ? word | bit : word & ~bit);
}

/* The highest vector set, 0 if none is. */
static u8 highest(struct cpu *cpu, const struct vmx_frame *f, unsigned base)
{
    for (unsigned n = 8; n-- > 0;) {
        u32 word = vapic_read(cpu, f, base + n * 16);
        if (word)
            return (u8)(n * 32 + 31 - (unsigned)__builtin_clz(word));
    }
    return 0;
}

void vapic_update_ppr(struct cpu *cpu, struct vmx_frame *f)
{
    u8 tpr = (u8)vapic_read(cpu, f, VAPIC_TPR), service = svi(f);
    vapic_write(cpu, f, VAPIC_PPR, tpr >> 4 >= service >> 4 ? tpr : service & 0xf0u);
}

void vapic_evaluate(struct cpu *cpu, struct vmx_frame *f)
{
    f->virtual_interrupt = vmcs_secondary(&f->vmcs, VIRTUAL_INTERRUPT_DELIVERY) &&
                           !vmcs_primary(&f->vmcs, INTERRUPT_WINDOW_EXITING) &&
                           rvi(f) >> 4 > (u8)vapic_read(cpu, f, VAPIC_PPR) >> 4;
    if (f->virtual_interrupt) {
        cpu->event.attention |= ATT_VIRTUAL_INTR;
        cpu_cut_block(cpu);
    }
}

static bool bit_of_eoi_exit_bitmap(const struct vmcs *v, u8 vector)
{
    const u64 bitmap[4] = {v->eoi_exit_bitmap_0, v->eoi_exit_bitmap_1, v->eoi_exit_bitmap_2, v->eoi_exit_bitmap_3};
    return bitmap[vector >> 6] >> (vector & 63) & 1;
}

/* The highest virtual interrupt in service is over. */
static u8 end_service(struct cpu *cpu, struct vmx_frame *f)
{
    u8 vector = svi(f);
    set_bit(cpu, f, VAPIC_ISR, vector, false);
    set_svi(f, highest(cpu, f, VAPIC_ISR));
    vapic_update_ppr(cpu, f);
    return vector;
}

void vapic_eoi(struct cpu *cpu, struct vmx_frame *f)
{
    u8 vector = end_service(cpu, f);
    if (bit_of_eoi_exit_bitmap(&f->vmcs, vector))
        vapic_exit_later(cpu, f, EXIT_VIRTUALIZED_EOI, vector);
    else
        vapic_evaluate(cpu, f);
}

static void request(struct cpu *cpu, struct vmx_frame *f, u8 vector)
{
    if (vector > rvi(f))
        set_rvi(f, vector);
    vapic_evaluate(cpu, f);
}

void vapic_self_ipi(struct cpu *cpu, struct vmx_frame *f, u8 vector)
{
    set_bit(cpu, f, VAPIC_IRR, vector, true);
    request(cpu, f, vector);
}

void vmx_virtual_interrupt_entry(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    f->virtual_interrupt = 0;
    if (!vmcs_secondary(&f->vmcs, VIRTUAL_INTERRUPT_DELIVERY))
        return;
    vapic_update_ppr(cpu, f);
    vapic_evaluate(cpu, f);
}

void vmx_virtual_interrupt_resume(struct cpu *cpu, unsigned k) { vapic_evaluate(cpu, &cpu->vmx.frame[k]); }

/* ---- delivery ---------------------------------------------------------------------------------------------------- */

/* The vector leaves VIRR and is in service [SDM3 "Virtual-Interrupt Delivery"]. */
static u8 take(struct cpu *cpu, struct vmx_frame *f)
{
    u8 vector = rvi(f);
    set_bit(cpu, f, VAPIC_ISR, vector, true);
    set_svi(f, vector);
    vapic_write(cpu, f, VAPIC_PPR, vector & 0xf0u);
    set_bit(cpu, f, VAPIC_IRR, vector, false);
    set_rvi(f, highest(cpu, f, VAPIC_IRR));
    f->virtual_interrupt = 0;
    if (trace_on(cpu, TRACE_VMX_INJECT))
        trace_emit(cpu, TRACE_VMX_INJECT, "virtual_interrupt",
                   TRACE_FIELDS(trace_decimal("vector", vector), trace_decimal("rvi", rvi(f))));
    return vector;
}

/* Frame m, entered by the guest of frame k, exits on external interrupts and gets frame k's virtual interrupt. */
static void give_to_frame(struct cpu *cpu, unsigned k, unsigned m)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    const struct vmcs *v = vmcs_of(cpu, m);
    bool acknowledge = vmcs_exit_control(v, ACKNOWLEDGE_INTERRUPT);
    u8 vector = rvi(f);
    if (vmx_is_notification(cpu, m, vector) && !bit_of_eoi_exit_bitmap(&f->vmcs, vector)) {
        take(cpu, f);
        vapic_eoi(cpu, f);                 /* the processor dismisses the notification itself */
        vmx_post(cpu, m);
        return;
    }
    struct vmx_exit_info x = {.reason = EXIT_EXTERNAL_INTERRUPT, .interruption_info = acknowledge ? INFO_VALID | vector : 0};
    if (vmx_exit(cpu, m, &x) && acknowledge)
        take(cpu, f);
}

/* The innermost guest gets it. A notification of user interrupts is dismissed at once, as the processor does with a physical one; no EOI of
 * software's took place, so the EOI-exit bitmap has no say [SDM3 "Virtualizing User-Interrupt Notifications"]. */
static void give_to_guest(struct cpu *cpu, struct vmx_frame *f)
{
    u8 vector = take(cpu, f);
    if (cpu_is_user_notification(cpu, vector)) {
        end_service(cpu, f);
        vapic_evaluate(cpu, f);
    }
    vmx_give_event(cpu, vector, EVT_EXTERNAL);
}

bool vmx_virtual_interrupt(struct cpu *cpu)
{
    const struct cpu_event *e = &cpu->event;
    bool waits = false;
    if (e->valid || e->blocking & (BLOCK_STI | BLOCK_MOV_SS) || e->activity == ACTIVITY_SHUTDOWN ||
        e->activity == ACTIVITY_WAIT_SIPI)
        return false;
    for (u32 k = 0; k < cpu->vmx.depth; k++) {
        struct vmx_frame *f = &cpu->vmx.frame[k];
        if (!f->virtual_interrupt)
            continue;
        for (u32 m = k + 1; m < cpu->vmx.depth; m++) {
            if (vmcs_pin(vmcs_of(cpu, m), EXTERNAL_INTERRUPT_EXITING)) {
                give_to_frame(cpu, k, m);
                return true;
            }
        }
        if (cpu->core.rflags_rest & FL_IF) {
            give_to_guest(cpu, f);
            return true;
        }
        waits = true;
    }
    if (!waits)
        cpu->event.attention &= ~(u32)ATT_VIRTUAL_INTR;
    return false;
}

/* ---- posted interrupts ------------------------------------------------------------------------------------------- */

#define DESCRIPTOR_NOTIFY 32u              /* behind the 256 requests: ON, SN, NV, NDST */
enum { NOTIFY_OUTSTANDING = 1 << 0, NOTIFY_SUPPRESS = 1 << 1, NOTIFY_VECTOR_SHIFT = 16, NOTIFY_DESTINATION_SHIFT = 32 };

bool vmx_is_notification(struct cpu *cpu, unsigned k, u8 vector)
{
    const struct vmcs *v = vmcs_of(cpu, k);
    return vmcs_pin(v, POSTED_INTERRUPTS) && vector == (v->posted_interrupt_vector & 0xff);
}

void vmx_post(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    struct bus *bus = cpu->bus;
    u64 hpa = f->posted_hpa, top = 0;
    u8 notify = (u8)bus_read(bus, cpu->index, hpa + DESCRIPTOR_NOTIFY, 1);
    bus_write(bus, cpu->index, hpa + DESCRIPTOR_NOTIFY, 1, notify & ~(u64)NOTIFY_OUTSTANDING);
    for (unsigned n = 0; n < 8; n++) {
        u32 posted = (u32)bus_read(bus, cpu->index, hpa + 4 * n, 4);
        if (!posted)
            continue;
        vapic_write(cpu, f, VAPIC_IRR + 16 * n, vapic_read(cpu, f, VAPIC_IRR + 16 * n) | posted);
        bus_write(bus, cpu->index, hpa + 4 * n, 4, 0);
        top = n * 32 + 31 - (unsigned)__builtin_clz(posted);
    }
    if (trace_on(cpu, TRACE_VMX_INJECT))
        trace_emit(cpu, TRACE_VMX_INJECT, "posted",
                   TRACE_FIELDS(trace_decimal("to", k + 2), trace_decimal("vector", top)));
    request(cpu, f, (u8)top);
}

/* ---- IPIs -------------------------------------------------------------------------------------------------------- */

/* L(k+1) sends the notification `vector` to what its descriptor calls `ndst`. Its local APIC is L1's processor's, or the
 * virtual one of the frame below, if that sends IPIs by itself. */
static bool notify(struct cpu *cpu, unsigned k, u8 vector, u32 ndst)
{
    if (k == 0) {
        if (!cpu->board || !cpu->board->interrupt_notify)
            return false;
        cpu->board->interrupt_notify(cpu->board_arg, cpu, ndst, vector);
        return true;
    }
    const struct vmcs *below = vmcs_of(cpu, k - 1);
    if (!vmcs_tertiary(below, IPI_VIRTUALIZATION))
        return false;
    return vapic_send_ipi(cpu, k - 1, vector, vmcs_secondary(below, X2APIC_MODE) ? ndst : ndst >> 8 & 0xff);
}

bool vapic_send_ipi(struct cpu *cpu, unsigned k, u8 vector, u32 target)
{
    const struct vmcs *v = vmcs_of(cpu, k);
    u64 hpa;
    if (vector < 16 || target > v->last_pid_pointer_index ||
        !mem_gpa_to_hpa(cpu, k, v->pid_pointer_table_address + 8ull * target, ACCESS_READ, &hpa))
        return false;
    u64 pointer = bus_read(cpu->bus, cpu->index, hpa, 8);
    if (pointer & ~mask_low(cpu_physical_bits(cpu)) || (pointer & 0x3f) != 1 ||
        !mem_gpa_to_hpa(cpu, k, pointer & ~0x3full, ACCESS_WRITE, &hpa))
        return false;
    u64 info = bus_read(cpu->bus, cpu->index, hpa + DESCRIPTOR_NOTIFY, 8);
    if (!(info & (NOTIFY_OUTSTANDING | NOTIFY_SUPPRESS))) {
        if (!notify(cpu, k, (u8)(info >> NOTIFY_VECTOR_SHIFT), (u32)(info >> NOTIFY_DESTINATION_SHIFT)))
            return false;
        /* It arrives when this operation is over, so the order does not show. */
        info = bus_read(cpu->bus, cpu->index, hpa + DESCRIPTOR_NOTIFY, 8) | NOTIFY_OUTSTANDING;
        bus_write(cpu->bus, cpu->index, hpa + DESCRIPTOR_NOTIFY, 8, info);
    }
    u64 word = hpa + (vector >> 6) * 8ull;
    bus_write(cpu->bus, cpu->index, word, 8, bus_read(cpu->bus, cpu->index, word, 8) | BIT(vector & 63));
    return true;
}
