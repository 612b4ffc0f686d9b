/* VMCS regions: what stands in guest memory while a VMCS is not current, and how it gets there and back.
 *
 * A region is the revision identifier, the VMX-abort indicator, struct vmcs as it is, and from REGION_NEST on (only
 * under policies that offer VMX to levels whose parent hides it) the VMX context of the virtual processor that this
 * VMCS runs: its frame, and its suspended unit. So a virtual processor takes its nested state along when its hypervisor
 * moves it to another VMCS cache, i.e. another processor; there is no table that could overflow.
 *
 * Kept true: software may write what it likes to a region [SDM3 "Format of the VMCS Region" forbids it]; what is read
 * is checked so far that no index or state of Nestor goes out of range.
 */
#include "vmx/frame.h"

#include "mmu/bus.h"
#include "vmx/checks.h"
#include "vmx/fields.h"

#define REGION_FIELDS 8u       /* behind the revision identifier and the abort indicator */
#define REGION_NEST 2048u
#define NEST_MAGIC 0x7473654e564d5821ull

/* The context of the guest of frame k: frame[k + 1]'s members, and frame[k]'s about it. */
struct nest {
    u64 magic, sum;            /* sum: of all words behind it */
    u64 vmxon, offered, vmxon_ptr, vmcs_ptr, timer_deadline, cr4_vmxe, feature_control, root_cr0, root_cr4, held_nmi;
    u64 held_vectors[4];
    u64 mtf_pending, bus_lock, apic_exit, apic_exit_qualification;   /* exits of the guest's own guest that are due */
    struct vmx_pending_cpuid cpuid;
    struct vmx_pending_cr4 cr4;
    struct vmx_unit unit;
};
_Static_assert(REGION_FIELDS + sizeof(struct vmcs) <= REGION_NEST, "the VMCS fields reach into the nest");
_Static_assert(REGION_NEST + sizeof(struct nest) <= VMX_REGION_USED, "a VMCS region is one page, and its end is lent");
_Static_assert(sizeof(struct nest) % 8 == 0, "the nest is summed by words");

static u64 nest_sum(const struct nest *nest)
{
    const u8 *bytes = (const u8 *)nest;
    u64 sum = 0x9e3779b97f4a7c15ull;
    for (size_t n = offsetof(struct nest, vmxon); n < sizeof *nest; n += 8)
        sum = (sum ^ load64(bytes + n)) * 0x100000001b3ull;
    return sum;
}

static void frame_forget(struct vmx_frame *f)
{
    memset(f, 0, sizeof *f);
    f->vmcs_ptr = VMX_NO_VMCS;
    f->timer_deadline = ~0ull;
    f->vmcs_hpa = f->msr_bitmap_hpa = f->io_bitmap_a_hpa = f->io_bitmap_b_hpa = f->virtual_apic_hpa =
        f->posted_hpa = f->vmread_bitmap_hpa = f->vmwrite_bitmap_hpa = f->link_hpa = BUS_NO_RAM;
}

void vmx_frames_forget(struct cpu *cpu, unsigned k)
{
    for (; k < VMX_MAX_FRAMES; k++) {
        struct vmx_frame *f = &cpu->vmx.frame[k];
        if (!f->offered && !f->vmxon)
            break;             /* then deeper ones are empty, too */
        frame_forget(f);
    }
}

static void forget_guest(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    memset(&f->unit, 0, sizeof f->unit);
    memset(&f->cpuid, 0, sizeof f->cpuid);
    memset(&f->cr4, 0, sizeof f->cr4);
    memset(f->held_vectors, 0, sizeof f->held_vectors);
    f->held_nmi = f->mtf_pending = f->apic_exit = f->virtual_interrupt = f->bus_lock = 0;
    if (k + 1 < VMX_MAX_FRAMES)
        vmx_frames_forget(cpu, k + 1);
}

/* ---- the guest's own context ------------------------------------------------------------------------------------- */

static bool nest_needed(const struct vmx_frame *f, const struct vmx_frame *next)
{
    return next->offered || f->unit.valid || f->cpuid.valid || f->held_nmi || f->held_vectors[0] ||
        f->held_vectors[1] ||
           f->held_vectors[2] || f->held_vectors[3];
}

static void nest_store(struct cpu *cpu, unsigned k)
{
    const struct vmx_frame *f = &cpu->vmx.frame[k], *next = f + 1;
    struct nest nest;
    if (!nest_needed(f, next)) {
        u64 none = 0;
        bus_copy_to(cpu->bus, f->vmcs_hpa + REGION_NEST, &none, sizeof none);
        return;
    }
    memset(&nest, 0, sizeof nest);
    nest.magic = NEST_MAGIC;
    nest.vmxon = next->vmxon;
    nest.offered = next->offered;
    nest.vmxon_ptr = next->vmxon_ptr;
    nest.vmcs_ptr = next->vmcs_ptr;
    nest.timer_deadline = next->timer_deadline;
    nest.cr4_vmxe = next->cr4_vmxe;
    nest.feature_control = next->feature_control;
    nest.root_cr0 = next->root_cr0;
    nest.root_cr4 = next->root_cr4;
    nest.mtf_pending = next->mtf_pending;
    nest.bus_lock = next->bus_lock;
    nest.apic_exit = next->apic_exit;
    nest.apic_exit_qualification = next->apic_exit_qualification;
    nest.held_nmi = f->held_nmi;
    memcpy(nest.held_vectors, f->held_vectors, sizeof nest.held_vectors);
    nest.cpuid = f->cpuid;
    nest.cr4 = f->cr4;
    nest.unit = f->unit;
    nest.sum = nest_sum(&nest);
    bus_copy_to(cpu->bus, f->vmcs_hpa + REGION_NEST, &nest, sizeof nest);
}

static void nest_load(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k], *next = f + 1;
    struct nest nest;
    if (!bus_copy_from(cpu->bus, &nest.magic, f->vmcs_hpa + REGION_NEST, sizeof nest.magic) ||
        nest.magic != NEST_MAGIC ||
        !bus_copy_from(cpu->bus, &nest, f->vmcs_hpa + REGION_NEST, sizeof nest) || nest.magic != NEST_MAGIC ||
        nest.sum != nest_sum(&nest))
        return;
    next->vmxon = nest.vmxon != 0;
    next->offered = nest.offered != 0;
    next->vmxon_ptr = nest.vmxon_ptr;
    next->vmcs_ptr = nest.vmxon ? nest.vmcs_ptr : VMX_NO_VMCS;
    next->stale = next->vmcs_ptr != VMX_NO_VMCS;
    next->timer_deadline = nest.timer_deadline;
    next->cr4_vmxe = nest.cr4_vmxe & CR4_VMXE;
    next->feature_control = nest.feature_control;
    next->root_cr0 = nest.root_cr0;
    next->root_cr4 = nest.root_cr4;
    next->mtf_pending = nest.mtf_pending != 0;
    next->bus_lock = nest.bus_lock != 0;
    next->apic_exit = nest.apic_exit < EXIT_REASON_COUNT ? (u8)nest.apic_exit : 0;
    next->apic_exit_qualification = nest.apic_exit_qualification;
    f->held_nmi = nest.held_nmi != 0;
    memcpy(f->held_vectors, nest.held_vectors, sizeof nest.held_vectors);
    f->cpuid = nest.cpuid;
    f->cr4 = nest.cr4;
    f->cr4.reg &= 15;
    f->cr4.vmxe &= 1;
    f->unit = nest.unit;
    if (f->unit.valid && (f->unit.depth <= k + 1 || f->unit.depth > VMX_MAX_FRAMES || !next->stale))
        f->unit.valid = 0;
    if (f->unit.carried.count > VMX_CARRIED)
        f->unit.carried.count = 0;
    if (f->unit.asked.kind > CARRY_OUT)
        f->unit.asked.kind = CARRY_NONE;
    f->unit.activity = f->unit.activity > ACTIVITY_WAIT_SIPI ? ACTIVITY_ACTIVE : f->unit.activity;
}

/* ---- regions ----------------------------------------------------------------------------------------------------- */

void vmx_region_store(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    if (!f->vmxon || f->vmcs_ptr == VMX_NO_VMCS || f->stale)
        return;
    if (vmx_policy_offers(cpu) && k + 1 < VMX_MAX_FRAMES) {
        vmx_region_store(cpu, k + 1);
        nest_store(cpu, k);
    }
    bus_copy_to(cpu->bus, f->vmcs_hpa + REGION_FIELDS, &f->vmcs, sizeof f->vmcs);
}

void vmx_region_load(struct cpu *cpu, unsigned k, u64 gpa, u64 hpa)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    f->vmcs_ptr = gpa;
    f->vmcs_hpa = hpa;
    f->stale = 0;
    vmx_region_read(cpu, hpa, &f->vmcs);
    vmx_check_note_all(f);
    forget_guest(cpu, k);
    if (vmx_policy_offers(cpu) && k + 1 < VMX_MAX_FRAMES)
        nest_load(cpu, k);
}

void vmx_region_release(struct cpu *cpu, unsigned k)
{
    struct vmx_frame *f = &cpu->vmx.frame[k];
    vmx_region_store(cpu, k);
    forget_guest(cpu, k);
    memset(&f->vmcs, 0, sizeof f->vmcs);
    f->vmcs_ptr = VMX_NO_VMCS;
    f->vmcs_hpa = BUS_NO_RAM;
    f->stale = 0;
}

void vmx_region_read(struct cpu *cpu, u64 hpa, struct vmcs *v)
{
    if (!bus_copy_from(cpu->bus, v, hpa + REGION_FIELDS, sizeof *v))
        memset(v, 0, sizeof *v);
    vmx_fields_normalise(v);
}

u64 vmx_region_field(struct cpu *cpu, u64 hpa, unsigned field)
{
    const struct vmx_field_info *info = vmx_field_info(field);
    return bus_read(cpu->bus, cpu->index, hpa + REGION_FIELDS + info->offset, 8) & mask_low(info->bits);
}

void vmx_region_set_field(struct cpu *cpu, u64 hpa, unsigned field, u64 value)
{
    const struct vmx_field_info *info = vmx_field_info(field);
    bus_write(cpu->bus, cpu->index, hpa + REGION_FIELDS + info->offset, 8, value & mask_low(info->bits));
}

void vmx_region_clear(struct cpu *cpu, u64 hpa)
{
    u64 clear = 0;
    bus_copy_to(cpu->bus, hpa + REGION_FIELDS + offsetof(struct vmcs, launched), &clear, sizeof clear);
}
