/* VM entry's checks: evaluates the rows of vmx/checks.def and says which one failed, with the values that took part.
 *
 * Most entries repeat one that succeeded, with a few fields changed. So the sections that passed are remembered in
 * vmx_frame.checked, and writing a field makes those sections due again whose rows name it. What depends on more
 * than the VMCS (memory, the mode of the CPU) is looked at on each entry.
 *
 * Kept true: with or without that memory the outcome is the same (tests/vmx/test_checks.c compares them).
 */
#include "vmx/checks.h"

#include "cpu/features.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "cpu/pmu.h"
#include "cpu/trace.h"
#include "mmu/access.h"
#include "vmx/capability.h"
#include "vmx/fields.h"
#include "vmx/frame.h"
#include "vmx/stats.h"

#include <stdio.h>

_Static_assert(VMX_SECTION_COUNT < 64, "vmx_frame.checked is too small");
_Static_assert(VMX_CHECK_COUNT < 256, "row numbers do not fit vmx_check_section_info.first");
#define ALL_SECTIONS (BIT(VMX_SECTION_COUNT) - 1)

/* ---- the rows as data -------------------------------------------------------------------------------------------- */

static const struct vmx_check checks[VMX_CHECK_COUNT] = {
#define SECTION(name_, group, title)
#define SECTION_END(name_)
#define CHECK(name_, predicate_, qualification_, values_)                                                              \
    {.name = #name_, .predicate = #predicate_, .qualification = qualification_, .values = values_},
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
};

/* The number of the first row of each section: counts rows; a section takes a number and gives it back. */
enum {
#define SECTION(name, group, title) FIRST_##name, GIVEN_BACK_##name = FIRST_##name - 1,
#define SECTION_END(name)
#define CHECK(name, ...) COUNTED_##name,
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
};

static const struct vmx_check_section_info sections[VMX_SECTION_COUNT] = {
#define SECTION(name_, group_, title_)                                                                                 \
    {.name = #name_, .title = title_, .group = VMX_CHECK_##group_, .first = FIRST_##name_},
#define SECTION_END(name)
#define CHECK(...)
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
};

const struct vmx_check *vmx_check_info(unsigned id)
{
    if (id >= VMX_CHECK_COUNT)
        panic("VM-entry check number %u", id);
    return &checks[id];
}

const struct vmx_check_section_info *vmx_check_section_info(unsigned section)
{
    if (section >= VMX_SECTION_COUNT)
        panic("VM-entry check section number %u", section);
    return &sections[section];
}

unsigned vmx_check_section(unsigned id)
{
    unsigned section = VMX_SECTION_COUNT - 1;
    while (section && sections[section].first > id)
        section--;
    return section;
}

/* Calls `use` with each field that a row names. */
static void check_each_value(unsigned id, void (*use)(void *arg, unsigned id, unsigned field), void *arg)
{
    const char *at = checks[id].values;
    while (*at) {
        size_t n = strcspn(at, " ");
        int field = vmx_field_find_name(at, n);
        if (field < 0)
            panic("check %s names an unknown field: %s", checks[id].name, at);
        use(arg, id, (unsigned)field);
        at += n;
        at += strspn(at, " ");
    }
}

/* ---- remembering what passed ------------------------------------------------------------------------------------- */

static void add_dependency(void *arg, unsigned id, unsigned field)
{
    u64 *of_field = arg;
    of_field[field] |= BIT(vmx_check_section(id));
}

/* The sections whose rows name a field: constant, derived from the rows when it is first asked for. */
static u64 sections_reading(unsigned field)
{
    static u64 of_field[VMX_FIELD_COUNT];
    static bool ready;
    if (!ready) {
        for (unsigned id = 0; id < VMX_CHECK_COUNT; id++)
            check_each_value(id, add_dependency, of_field);
        ready = true;
    }
    return of_field[field];
}

void vmx_check_note_write(struct vmx_frame *frame, unsigned field)
{
    if (frame->checked)
        frame->checked &= ~sections_reading(field);
}

/* The rows of GUEST_STATE that read what an exit saves hold for an active guest that blocks nothing and has no debug exception pending: the event
 * that was injected is gone. */
static bool exit_saved_nothing_special(const struct vmcs *v)
{
    return (v->guest_activity | v->guest_interruptibility | v->guest_pending_debug) == 0;
}

void vmx_check_note_exit(struct vmx_frame *frame)
{
    u64 due = BIT(VMX_SECTION_GUEST_RIP) | BIT(VMX_SECTION_PDPTES);
    if (UNLIKELY(!exit_saved_nothing_special(&frame->vmcs)))
        due |= BIT(VMX_SECTION_GUEST_STATE);
    frame->checked &= ~due;
}

/* ---- facts and helpers that the predicates use ------------------------------------------------------------------- */

/* What the rows look at beside the VMCS itself, worked out once for each entry. */
struct facts {
    const struct cpu *cpu;
    const struct vmcs *v;
    /* these controls as they count; of a VM entry that returns from SMM: those in force afterwards */
    u64 pin, primary, secondary, tertiary;
    u64 physical_reserved;     /* bits above the physical-address width */
    unsigned wide;             /* linear-address bits at most */
    bool unrestricted;         /* the unrestricted-guest control */
    bool ia32e;                /* the guest will be in IA-32e mode */
    bool host_long;            /* the hypervisor is in IA-32e mode now */
    bool v8086;                /* the guest will be in virtual-8086 mode */
    bool pae;                  /* the guest will use PAE paging: PDPTEs are loaded */
    bool inject, inject_error; /* entry interruption information: valid; deliver-error-code */
    u8 inject_type, inject_vector;
    u64 current;               /* gpa of the current VMCS, in the hypervisor's space */
    bool in_smm;               /* an SMM-transfer monitor enters … */
    bool returns, to_root;     /* … and leaves SMM so: for VMX root operation */
    bool executive_launched;   /* the executive VMCS is; the first word of the region */
    u32 executive_word;
    u8 vtpr;                   /* TPR on the virtual-APIC page */
    u32 link_word;             /* first word of the region at the VMCS link pointer */
    u64 pdpte[4];
};

#define implies(a, b) (!(a) || (b))
#define pin(name) ((c->pin & PIN_##name) != 0)
#define primary(name) ((c->primary & PRIMARY_##name) != 0)
#define secondary(name) ((c->secondary & SECONDARY_##name) != 0)
#define tertiary(name) ((c->tertiary & TERTIARY_##name) != 0)
#define on_exit(name) ((v->exit_controls & VMEXIT_##name) != 0)
#define on_entry(name) ((v->entry_controls & VMENTRY_##name) != 0)
/* A control word keeps to its capability MSR: no bit is 0 that must be 1, none is 1 that may not be. */
#define allowed(word, value)                                                                                           \
    ((~(value) & vmx_allowed_0(VMX_WORD_##word)) == 0 && ((value) & ~vmx_allowed_1(cpu, VMX_WORD_##word)) == 0)
#define fixed(value, must_be_1, may_be_1) ((~(value) & (must_be_1)) == 0 && ((value) & ~(may_be_1)) == 0)
#define cr0_must_be_1 (CR0_PE | CR0_NE | (u64)CR0_PG)
#define cr0_may_be_1 0xffffffffull
#define cr4_may_be_1 (cpu_cr4_allowed(cpu) | CR4_VMXE)
#define physical(address) (((address) & c->physical_reserved) == 0)
#define page_address(address) (((address) & 0xfff) == 0 && physical(address))
#define canonical(address) cpu_canonical_bits(address, c->wide)
#define msr_list(address, count) msr_list_(c, address, count)
#define efer_mode(efer) ((efer) & (u64)(EFER_LMA | EFER_LME))
/* Segments by name. CS is looked at whatever its unusable bit says. */
#define usable(seg) usable_##seg(v)
#define type(seg) (v->guest_##seg##_access_rights & AR_TYPE)
#define dpl(seg) (v->guest_##seg##_access_rights >> 5 & 3)

static inline bool usable_cs(const struct vmcs *v) { (void)v; return true; }
#define USABLE(seg)                                                                                                    \
    static inline bool usable_##seg(const struct vmcs *v) { return !(v->guest_##seg##_access_rights & AR_UNUSABLE); }
USABLE(ss)
USABLE(ds)
USABLE(es)
USABLE(fs)
USABLE(gs)
USABLE(ldtr)
USABLE(tr)
#undef USABLE

static bool msr_list_(const struct facts *c, u64 address, u64 count)
{
    u64 last = address + count * 16 - 1;
    return (address & 0xf) == 0 && physical(address) && physical(last) && last >= address;
}

static bool eptp_memory_type(u64 eptp)
{
    return (eptp & 7) == 0 || (eptp & 7) == 6;     /* UC, WB: both in IA32_VMX_EPT_VPID_CAP */
}

static bool eptp_reserved_clear(const struct cpu *cpu, u64 eptp)
{
    /* Bit 6 enables accessed and dirty flags, bit 7 the supervisor shadow-stack control, where there are such. */
    u64 cap = vmx_capability(cpu, MSR_IA32_VMX_EPT_VPID_CAP);
    u64 reserved = 0xf00 | (cap & EPTCAP_ACCESSED_DIRTY ? 0 : 1 << 6) | (cap & EPTCAP_SHADOW_STACK ? 0 : 1 << 7);
    return (eptp & reserved) == 0 && (eptp & ~mask_low(cpu_physical_bits(cpu))) == 0;
}

/* 1 to 15 bytes; 0 where IA32_VMX_MISC says so. */
static bool injection_length(const struct cpu *cpu, u64 length)
{
    return length <= 15 && (length || vmx_capability(cpu, MSR_IA32_VMX_MISC) & VMX_MISC_ZERO_LENGTH);
}

/* Bits 5:3 are one less than the levels of the walk. */
#define eptp_walk_length(eptp) eptp_walk_length_(cpu, eptp)
static bool eptp_walk_length_(const struct cpu *cpu, u64 eptp)
{
    unsigned levels = (unsigned)(eptp >> 3 & 7) + 1;
    u64 cap = vmx_capability(cpu, MSR_IA32_VMX_EPT_VPID_CAP);
    return (levels == 4 && cap & EPTCAP_WALK_4) || (levels == 5 && cap & EPTCAP_WALK_5);
}

bool vmx_eptp_valid(const struct cpu *cpu, u64 eptp)
{
    return eptp_memory_type(eptp) && eptp_walk_length(eptp) && eptp_reserved_clear(cpu, eptp);
}

static bool injection_vector(const struct facts *c)
{
    switch (c->inject_type) {
    case 2: return c->inject_vector == 2;          /* NMI */
    case 3: return c->inject_vector <= 31;         /* hardware exception */
    case 7: return c->inject_vector == 0;          /* other event: MTF VM exit */
    default: return true;
    }
}

/* The event comes with an error code exactly when it is a hardware exception that has one, in protected mode; any
 * exception may come with one where IA32_VMX_BASIC[56] says so. */
static bool injection_error_code(const struct facts *c)
{
    const u32 with_error = 1u << 8 | 1u << 10 | 1u << 11 | 1u << 12 | 1u << 13 | 1u << 14 | 1u << 17;
    if (c->inject_type != 3 || (c->unrestricted && !(c->v->guest_cr0 & CR0_PE)))
        return !c->inject_error;
    if (vmx_capability(c->cpu, MSR_IA32_VMX_BASIC) & VMX_BASIC_ANY_ERROR_CODE)
        return true;
    return c->inject_error == (c->inject_vector <= 31 && with_error >> c->inject_vector & 1);
}

/* Which events may be injected into an inactive guest. */
static bool activity_takes(const struct facts *c)
{
    unsigned type = c->inject_type, vector = c->inject_vector;
    switch (c->v->guest_activity) {
    case ACTIVITY_HLT:
        return type == 0 || type == 2 || (type == 3 && (vector == 1 || vector == 18)) || (type == 7 && vector == 0);
    case ACTIVITY_SHUTDOWN:
        return type == 2 || (type == 3 && vector == 18);
    case ACTIVITY_WAIT_SIPI:
        return false;
    default:
        return true;
    }
}

static bool cs_type(const struct facts *c)
{
    const struct vmcs *v = c->v;
    return (type(cs) & 9) == 9 || (c->unrestricted && type(cs) == 3);
}

static bool cs_dpl(const struct facts *c)
{
    const struct vmcs *v = c->v;
    switch (type(cs)) {
    case 3: return dpl(cs) == 0;
    case 9:
    case 11: return dpl(cs) == dpl(ss);
    case 13:
    case 15: return dpl(cs) <= dpl(ss);
    default: return true;                          /* refused by type */
    }
}

/* Accessed, and readable if code. */
static inline bool data_type(u64 access)
{
    return access & AR_ACCESSED && (!(access & AR_CODE) || access & AR_READABLE);
}

static inline bool access_reserved_clear(u64 access) { return (access & 0xfffe0f00) == 0; }

/* G agrees with the limit: 0 unless bits 11:0 are all 1, 1 if any of bits 31:20 is. */
static inline bool granularity(u64 limit, u64 access)
{
    return access & AR_G ? (limit & 0xfff) == 0xfff : limit >> 20 == 0;
}

/* Bits 63:N are all the same, N being the linear-address width that the processor has at most. */
static bool rip_width(const struct facts *c)
{
    u64 high = c->v->guest_rip >> c->wide;
    return high == 0 || high == mask_low(64 - c->wide);
}

/* BS stands for a single-step trap that the blocked instruction boundary owes. */
static bool pending_step(const struct facts *c)
{
    bool step = c->v->guest_rflags & FL_TF && !(c->v->guest_ia32_debugctl & DEBUGCTL_BTF);
    return !!(c->v->guest_pending_debug & BIT(14)) == step;
}

static bool pdptes_valid(const struct facts *c)
{
    for (unsigned n = 0; n < 4; n++)
        if (c->pdpte[n] & 1 && c->pdpte[n] & (c->physical_reserved | 0x1e6))
            return false;
    return true;
}

/* ---- evaluation -------------------------------------------------------------------------------------------------- */

/* The first row of the sections in `due` that does not hold, or VMX_CHECK_COUNT. */
static unsigned first_failure(const struct facts *c, u64 due)
{
    const struct vmcs *v = c->v;
    const struct cpu *cpu = c->cpu;
#define SECTION(name, group, title) if (due & BIT(VMX_SECTION_##name)) {
#define SECTION_END(name) }
#define CHECK(name, predicate, qualification, values)                                                                  \
    if (UNLIKELY(!(predicate)))                                                                                        \
        return VMX_CHECK_##name;
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
    return VMX_CHECK_COUNT;
}

/* Reads guest memory at gpa of the frame's hypervisor; what is not RAM reads as ones. False: an outer EPT fault. */
static bool read_physical(struct cpu *cpu, unsigned frame, u64 gpa, void *data, unsigned n)
{
    u64 hpa;
    if (!mem_gpa_to_hpa(cpu, frame, gpa, ACCESS_READ, &hpa))
        return false;
    if (!bus_copy_from(cpu->bus, data, hpa, n))
        memset(data, 0xff, n);
    return true;
}

static void gather(const struct cpu *cpu, const struct vmx_frame *frame, struct facts *c)
{
    const struct vmcs *v = &frame->vmcs;
    *c = (struct facts){
        .cpu = cpu,
        .v = v,
        .pin = v->pin_controls,
        .primary = v->primary_controls,
        .secondary = vmx_secondary(v),
        .tertiary = vmx_tertiary(v),
        .physical_reserved = ~mask_low(cpu_physical_bits(cpu)),
        .wide = cpu_has(cpu, FEATURE_LA57) ? 57 : 48,
        .ia32e = on_entry(IA32E_MODE_GUEST),
        .host_long = (cpu->sys.efer & EFER_LMA) != 0,
        .v8086 = (v->guest_rflags & FL_VM) != 0,
        .inject = v->entry_interruption_info >> 31 & 1,
        .inject_error = v->entry_interruption_info >> 11 & 1,
        .inject_type = v->entry_interruption_info >> 8 & 7,
        .inject_vector = (u8)v->entry_interruption_info,
        .current = frame->vmcs_ptr,
    };
    c->unrestricted = secondary(UNRESTRICTED_GUEST);
    c->pae = !c->ia32e && v->guest_cr0 & CR0_PG && v->guest_cr4 & CR4_PAE;
}

/* The facts that stand in memory, as far as they matter; `due` gains the sections that depend on them. */
static bool gather_memory(struct cpu *cpu, unsigned frame, struct facts *c, u64 *due)
{
    const struct vmcs *v = c->v;
    if (UNLIKELY(on_exit(HOST_ADDRESS_SPACE_SIZE) != c->host_long))
        *due |= BIT(VMX_SECTION_ADDRESS_SPACE);    /* the mode that the hypervisor is in */
    if (primary(TPR_SHADOW) && !secondary(APIC_ACCESSES)) {
        *due |= BIT(VMX_SECTION_EXECUTION);
        if (page_address(v->virtual_apic_address)
            && !read_physical(cpu, frame, v->virtual_apic_address + 0x80, &c->vtpr, 1))
            return false;
    }
    if (v->vmcs_link_pointer != ~0ull) {
        *due |= BIT(VMX_SECTION_GUEST_STATE);
        if (page_address(v->vmcs_link_pointer)
            && !read_physical(cpu, frame, v->vmcs_link_pointer, &c->link_word, sizeof c->link_word))
            return false;
    }
    if (c->pae && secondary(EPT)) {
        c->pdpte[0] = v->guest_pdpte0;
        c->pdpte[1] = v->guest_pdpte1;
        c->pdpte[2] = v->guest_pdpte2;
        c->pdpte[3] = v->guest_pdpte3;
    } else if (c->pae && (v->guest_cr3 & ~cpu_cr3_allowed(cpu)) == 0) {
        *due |= BIT(VMX_SECTION_PDPTES);
        if (!read_physical(cpu, frame, v->guest_cr3 & 0xffffffe0, c->pdpte, sizeof c->pdpte))
            return false;
    }
    return true;
}

static void report(struct cpu *cpu, const struct vmcs *vmcs, const struct vmx_check_failure *failure)
{
    const struct vmx_check_section_info *section = &sections[vmx_check_section(failure->id)];
    vmx_stats_entry_failed(cpu->stats, failure->id);
    if (trace_on(cpu, TRACE_VMX_CHECK)) {
        char values[512], bits[1600];
        vmx_check_values(failure->id, vmcs, values, sizeof values);
        vmx_check_explain(cpu, failure->id, vmcs, bits, sizeof bits);
        trace_emit(cpu, TRACE_VMX_CHECK, "check",
                   TRACE_FIELDS(trace_text("check", checks[failure->id].name), trace_text("section", section->title),
                                trace_text("must_hold", checks[failure->id].predicate), trace_text("values", values),
                                trace_text("bits", bits)));
    }
}

static enum vmx_error error_of(unsigned id)
{
    switch (id) {
    case VMX_CHECK_EXECUTIVE_POINTER_ADDRESS:
    case VMX_CHECK_EXECUTIVE_POINTER_REVISION: return VMX_ERROR_ENTRY_INVALID_EXECUTIVE_VMCS_POINTER;
    case VMX_CHECK_EXECUTIVE_NOT_LAUNCHED: return VMX_ERROR_ENTRY_NON_LAUNCHED_EXECUTIVE_VMCS;
    case VMX_CHECK_EXECUTIVE_NOT_VMXON_POINTER: return VMX_ERROR_ENTRY_EXECUTIVE_VMCS_NOT_VMXON_POINTER;
    default:
        return sections[vmx_check_section(id)].group == VMX_CHECK_CONTROLS ? VMX_ERROR_ENTRY_INVALID_CONTROLS
                                                                           : VMX_ERROR_ENTRY_INVALID_HOST_STATE;
    }
}

static void set_failure(struct vmx_check_failure *out, unsigned id)
{
    out->id = id;
    out->group = sections[vmx_check_section(id)].group;
    out->qualification = checks[id].qualification;
    out->error = error_of(id);
}

/* The rows in `due` for facts whose memory is read first. False: *out says which failed, of which VMCS. */
static bool evaluate(struct cpu *cpu, struct facts *c, u64 due, struct vmx_check_failure *out)
{
    u64 with_memory = due;
    if (!gather_memory(cpu, 0, c, &with_memory)) {
        out->fault = true;
        return false;
    }
    unsigned id = first_failure(c, due);
    if (id == VMX_CHECK_COUNT)
        return true;
    set_failure(out, id);
    report(cpu, c->v, out);
    return false;
}

/* In SMM nothing is remembered. A VM entry that returns from SMM is checked with the controls that will be in force: those of
 * the executive VMCS, or none at all [SDM3 "VM Entries that Return from SMM"]. */
static bool check_entry_in_smm(struct cpu *cpu, struct vmx_frame *f, struct vmx_check_failure *out)
{
    const struct vmcs *v = &f->vmcs;
    struct vmcs executive;
    struct facts c, of_executive;

    gather(cpu, f, &c);
    f->checked = 0;
    c.in_smm = true;
    c.returns = !on_entry(ENTRY_TO_SMM);
    if (!c.returns) {
        bool passes = evaluate(cpu, &c, ALL_SECTIONS, out);
        memcpy(out->pdpte, c.pdpte, sizeof out->pdpte);
        return passes;
    }

    u64 pointer = v->executive_vmcs_pointer;
    c.to_root = pointer == f->vmxon_ptr;
    c.executive_word = (u32)bus_read(cpu->bus, cpu->index, pointer & ~c.physical_reserved, 4);
    vmx_region_read(cpu, pointer & ~c.physical_reserved, &executive);
    c.executive_launched = executive.launched;
    c.pin = c.to_root ? 0 : executive.pin_controls;
    c.primary = c.to_root ? 0 : executive.primary_controls;
    c.secondary = c.to_root ? 0 : vmx_secondary(&executive);
    c.tertiary = c.to_root ? 0 : vmx_tertiary(&executive);
    c.unrestricted = (c.secondary & SECONDARY_UNRESTRICTED_GUEST) != 0;
    if (!evaluate(cpu, &c, BIT(VMX_SECTION_EXECUTIVE), out))
        return false;
    if (!c.to_root) {
        of_executive = c;
        of_executive.v = &executive;
        if (!evaluate(cpu, &of_executive, BIT(VMX_SECTION_EXECUTION), out)) {
            out->error = VMX_ERROR_ENTRY_INVALID_EXECUTION_CONTROLS_IN_EXECUTIVE_VMCS;
            return false;
        }
    }
    if (!evaluate(cpu, &c, ALL_SECTIONS & ~(BIT(VMX_SECTION_EXECUTIVE) | BIT(VMX_SECTION_EXECUTION)), out))
        return false;
    memcpy(out->pdpte, c.pdpte, sizeof out->pdpte);
    return true;
}

bool vmx_check_entry(struct cpu *cpu, unsigned frame, struct vmx_check_failure *out)
{
    struct vmx_frame *f = &cpu->vmx.frame[frame];
    struct facts c;
    u64 due = ALL_SECTIONS & ~f->checked;

    *out = (struct vmx_check_failure){0};
    if (UNLIKELY(cpu->smm.active) && frame == 0)
        return check_entry_in_smm(cpu, f, out);
    gather(cpu, f, &c);
    if (!gather_memory(cpu, frame, &c, &due)) {
        out->fault = true;
        return false;
    }
    if (UNLIKELY(c.pae))
        memcpy(out->pdpte, c.pdpte, sizeof out->pdpte);
    unsigned id = first_failure(&c, due);
    if (LIKELY(id == VMX_CHECK_COUNT)) {
        f->checked = ALL_SECTIONS;
        return true;
    }
    /* What comes before the failing section has passed. */
    unsigned section = vmx_check_section(id);
    f->checked = mask_low(section) | (f->checked & ~BIT(section));
    set_failure(out, id);
    report(cpu, &f->vmcs, out);
    return false;
}

/* ---- text -------------------------------------------------------------------------------------------------------- */

struct values_text { const struct vmcs *vmcs; char *at; size_t left; bool first; };

static void add_value(void *arg, unsigned id, unsigned field)
{
    struct values_text *t = arg;
    (void)id;
    int n = snprintf(t->at, t->left, "%s%s=0x%llx", t->first ? "" : ", ", vmx_field_info(field)->name,
                     (unsigned long long)vmx_field_get(t->vmcs, field));
    size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
    t->first = false;
}

void vmx_check_values(unsigned id, const struct vmcs *vmcs, char *text, size_t size)
{
    struct values_text t = {.vmcs = vmcs, .at = text, .left = size, .first = true};
    if (size == 0)
        return;
    *text = 0;
    check_each_value(id, add_value, &t);
}
