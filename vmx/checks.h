/* The checks that VM entry makes on controls, host state and guest state [SDM3 "VM Entries"]: the rows of
 * vmx/checks.def.
 */
#ifndef NESTOR_VMX_CHECKS_H
#define NESTOR_VMX_CHECKS_H

#include "vmx/errors.h"
#include "vmx/state.h"

struct cpu;

/* What a failed check means. */
enum vmx_check_group {
    VMX_CHECK_CONTROLS,        /* VMfailValid, VM-instruction error 7 */
    VMX_CHECK_HOST,            /* VMfailValid, VM-instruction error 8 */
    VMX_CHECK_GUEST,           /* VM exit, reason 33 with bit 31 */
};

/* Sections of the SDM, in its order; the unit in which passed checks are remembered (vmx_frame.checked). */
enum vmx_check_section {
#define SECTION(name, group, title) VMX_SECTION_##name,
#define SECTION_END(name)
#define CHECK(...)
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
    VMX_SECTION_COUNT
};

enum vmx_check_id {
#define SECTION(name, group, title)
#define SECTION_END(name)
#define CHECK(name, predicate, qualification, values) VMX_CHECK_##name,
#include "vmx/checks.def"
#undef SECTION
#undef SECTION_END
#undef CHECK
    VMX_CHECK_COUNT
};

struct vmx_check {
    const char *name;
    const char *predicate;     /* what must hold, as C text */
    const char *values;        /* names of the fields that take part, separated by spaces */
    u8 qualification;          /* exit qualification of a failed guest check */
};

struct vmx_check_section_info {
    const char *name;
    const char *title;         /* of the SDM's section */
    u8 group;                  /* enum vmx_check_group */
    u8 first;                  /* number of its first row */
};

struct vmx_check_failure {
    bool fault;                /* an outer frame's EPT lacks a page that a check reads: cpu->fault tells; nothing was decided */
    unsigned id;               /* enum vmx_check_id, when !fault */
    enum vmx_check_group group;
    enum vmx_error error;      /* the VM-instruction error, unless it is VMX_CHECK_GUEST */
    u64 qualification;         /* VMX_CHECK_GUEST: of the exit */
    u64 pdpte[4];              /* on success, when the guest uses PAE paging: its PDPTEs (from the VMCS or from memory) */
};

const struct vmx_check *vmx_check_info(unsigned id);
const struct vmx_check_section_info *vmx_check_section_info(unsigned section);
/* The section (enum vmx_check_section) of a row. */
unsigned vmx_check_section(unsigned id);

/* Checks the current VMCS of `frame` for VM entry, at depth `frame` (its hypervisor runs). True: all hold. False:
 * *out says what does not, it has been traced (class vmx.check) and counted in cpu->stats. Changes nothing but
 * frame->checked. */
bool vmx_check_entry(struct cpu *cpu, unsigned frame, struct vmx_check_failure *out);

/* What the entry checks ask of an EPT pointer, as INVEPT asks it too. */
bool vmx_eptp_valid(const struct cpu *cpu, u64 eptp);

/* A field (enum vmx_field) of the frame's current VMCS was written by software: the sections that read it are due
 * again. */
void vmx_check_note_write(struct vmx_frame *frame, unsigned field);
/* A VM exit has saved guest state into the VMCS: the sections that mix guest state with controls are due again; the
 * rest held while the guest ran. The event that was injected is gone, which satisfies the entry controls' rows. */
void vmx_check_note_exit(struct vmx_frame *frame);
/* Another VMCS is current, or this one was changed by other means than VMWRITE: everything is due again. */
static inline void vmx_check_note_all(struct vmx_frame *frame) { frame->checked = 0; }

/* The fields that take part in a check, as "name=0x…" separated by ", ", cut to `size` bytes. */
void vmx_check_values(unsigned id, const struct vmcs *vmcs, char *text, size_t size);
/* Those of them that have bits with names, decoded, and what the capability MSRs would have allowed. */
void vmx_check_explain(const struct cpu *cpu, unsigned id, const struct vmcs *vmcs, char *text, size_t size);

#endif
