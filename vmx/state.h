/* VMX state of one virtual processor: the frames, and the VMCS as Nestor keeps it while it is active.
 *
 * A frame is the VMX context of one hypervisor: frame[0] belongs to L1, frame[k] to L(k+1). `depth` frames are entered:
 * at depth d, L(d+1) runs. A frame's current VMCS is cached whole in `vmcs` and written back to its region in memory at
 * VMCLEAR or when another becomes current. Every field is kept as 64 bits, whatever its architectural width.
 */
#ifndef NESTOR_VMX_STATE_H
#define NESTOR_VMX_STATE_H

#include "cpu/base.h"

#define VMX_MAX_FRAMES 16
#define VMX_NO_VMCS (~0ull)

/* All fields, in the order of fields.def. Plain data, copied to and from the VMCS region as it is (behind the 8-byte
 * header). */
struct vmcs {
    u64 launched;              /* launch state: 0 clear, 1 launched */
#define FIELD(name, ...) u64 name;
#include "vmx/fields.def"
#undef FIELD
};

/* Accesses of the innermost guest's present instruction that an outer hypervisor has carried out on its behalf: when the
 * instruction runs again, they are not made but taken from here (vmx/standin.c). */
enum carry_kind { CARRY_NONE, CARRY_READ, CARRY_WRITE, CARRY_IN, CARRY_OUT };
#define VMX_CARRIED 16
struct vmx_carried {
    u64 count;
    struct vmx_carried_access { u64 where, value; u32 kind, size; } access[VMX_CARRIED];   /* where: la, or port */
};

/* The true state of the innermost guest while the frames above frame k are suspended as one unit: what frame k's
 * VMCS shows then is a stand-in for L(k+2) (vmx/suspend.c). General registers but RSP, x87/SSE state, CR2, DR0-DR3,
 * DR6 and the MSRs that no VMCS holds pass through, as on a processor. */
struct vmx_unit {
    u32 valid;
    u32 depth;                 /* frames that were entered: the unit goes on at this depth */
    u64 rip, rsp, rflags;
    u64 perf_global_ctrl, s_cet, ssp, ssp_table;
    u64 cr0, cr3, cr4, efer, dr7, debugctl, pat, pkrs, sysenter_cs, sysenter_esp, sysenter_eip, pdpte[4];
    struct { u64 base; u32 limit, access; u64 selector; } seg[8];  /* ES CS SS DS FS GS LDTR TR */
    u64 gdtr_base, idtr_base;
    u32 gdtr_limit, idtr_limit;
    /* Of struct cpu_event. An event whose delivery was interrupted stands here as one to be delivered again. */
    u8 blocking, activity, event_valid, vector, type, has_error, injected, delivering;
    u8 d_vector, d_type, d_has_error, uinv, pad[4];   /* uinv: the guest's notification vector of user interrupts */
    u32 error, event_length, d_error, d_length;
    u64 payload, pending_debug;
    /* of the stand-in: an instruction that is skipped there is skipped here */
    u64 shown_rip, shown_length;
    u64 shown_cr0, shown_cr3, shown_cr4, shown_efer;
    /* … when it performs an access for the innermost guest: which, and what the registers it uses held */
    struct vmx_carried carried;
    struct vmx_carried_access asked;
    u64 asked_length, kept_rax, kept_rbx, kept_rdx, kept_cr3;
};

/* What an interrupted step of a hypervisor left to be done when its guest goes on (policy transparent). */
struct vmx_pending_cpuid { u64 rip, length; u32 valid, pad; };
struct vmx_pending_cr4 { u64 rip, length, original; u32 valid; u8 reg, vmxe, pad[2]; };

struct vmx_frame {
    /* sections of vmx/checks.def that the current VMCS has passed since what they read was written; 0 after VMPTRLD */
    u64 checked;
    u8 vmxon;                  /* this hypervisor is in VMX operation */
    u8 offered;                /* L0 gives it VMX though its parent hides it (policy transparent) */
    u8 stale;                  /* `vmcs` must be read again from vmcs_ptr before it is used */
    u8 mtf_pending;            /* a monitor-trap-flag exit is due at the next instruction boundary */
    u8 apic_exit;              /* reason of a trap-like exit that is due: TPR threshold, EOI, APIC write; 0: none */
    u8 held_nmi;               /* injected NMI for its guest that could not be delivered yet */
    u8 virtual_interrupt;      /* a pending virtual interrupt is recognised */
    u8 bus_lock;               /* its guest has locked the bus: a bus-lock exit is due at the instruction boundary */
    u64 vmxon_ptr;             /* gpa in this hypervisor's space */
    u64 vmcs_ptr;              /* gpa in this hypervisor's space, VMX_NO_VMCS when none is current */
    u64 vmcs_hpa;              /* where that region lies on the bus */
    struct vmcs vmcs;          /* the current VMCS, cached */
    u64 timer_deadline;        /* machine TSC at which the VMX-preemption timer of this frame reaches 0; ~0 when off */
    /* what this hypervisor sees when its parent hides VMX from it (policy transparent) */
    u64 cr4_vmxe, feature_control;
    u64 root_cr0, root_cr4;    /* the hypervisor's own CR0 and CR4 as they really were at its last VM entry */
    /* injected external interrupts for its guest that could not be delivered yet, by vector */
    u64 held_vectors[4];
    u64 ple_first, ple_last;   /* TSC of the first and the last PAUSE of the present loop */
    /* Where the structures that the VMCS points to lie on the bus while the frame is entered (BUS_NO_RAM: not
     * reachable). */
    u64 msr_bitmap_hpa, io_bitmap_a_hpa, io_bitmap_b_hpa, virtual_apic_hpa, posted_hpa,
        vmread_bitmap_hpa, vmwrite_bitmap_hpa, link_hpa;
    struct vmx_pending_cpuid cpuid;
    struct vmx_pending_cr4 cr4;
    struct vmx_unit unit;      /* what is suspended under the current VMCS */
    u64 apic_exit_qualification;
    u64 spare[3];              /* for later members without a change of the layout */
};

struct vmx_state {
    u32 depth;                 /* frames entered now */
    u32 entering;              /* a VM entry is being carried out */
    /* the machine's TSC at the running entry or exit, read while rip still was at its instruction */
    u64 tsc;
    struct vmx_carried carried;
    struct vmx_frame frame[VMX_MAX_FRAMES];
    /* TSC at which events began to be delivered one into the other without an instruction between, 0: they are not */
    u64 stuck_since;
    u64 spare[15];
};

#endif
