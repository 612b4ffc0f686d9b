/* struct cpu: one virtual processor.
 *
 * Above the line everything is plain data without host pointers, in named sections: it is what is saved, hashed and
 * diffed. Below the line is what can be derived again at any time (TLB, decoded blocks, wiring to the board).
 *
 * Names are the SDM's. All bytes of the plain part are initialised (the struct is zeroed at creation), so that hashes are
 * well defined; bool-like members are u8.
 */
#ifndef NESTOR_CPU_STATE_H
#define NESTOR_CPU_STATE_H

#include "cpu/base.h"
#include "vmx/state.h"

struct insn;
struct block;
struct bus;
struct tlb;
struct cpu_board;
struct trace;

/* ---- core: what nearly every instruction touches ---------------------------------------------------------------- */

enum { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI, REG_R8, REG_R9, REG_R10, REG_R11,
       REG_R12, REG_R13, REG_R14, REG_R15, REG_ZERO, REG_RIP, REG_COUNT };

enum { FL_CF = 1 << 0, FL_R1 = 1 << 1, FL_PF = 1 << 2, FL_AF = 1 << 4, FL_ZF = 1 << 6, FL_SF = 1 << 7, FL_TF = 1 << 8,
       FL_IF = 1 << 9, FL_DF = 1 << 10, FL_OF = 1 << 11, FL_IOPL = 3 << 12, FL_NT = 1 << 14, FL_RF = 1 << 16,
       FL_VM = 1 << 17, FL_AC = 1 << 18, FL_VIF = 1 << 19, FL_VIP = 1 << 20, FL_ID = 1 << 21,
       FL_STATUS = FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF };

struct cpu_core {
    union {
        u64 r[REG_COUNT];      /* indexed by REG_*; REG_ZERO is always 0 (addresses without base or index) */
        struct {
            u64 rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, zero, rip;
        };
    };
    u64 rflags_rest;           /* RFLAGS without the six status flags, which stand below; bit 1 always set */
    /* The status flags, kept as the last result so that they are computed only when read (cpu/flags.h):
     * ZF = (fl_zero == 0), SF = bit 63 of fl_sign, PF = even parity of the low byte of fl_sign,
     * CF = bit 63 of fl_carry, OF = bit 63 ^ bit 62 of fl_carry, AF = bit 3 of fl_carry. */
    u64 fl_zero, fl_sign, fl_carry;
};

/* ---- segments ----------------------------------------------------------------------------------------------------- */

enum { SEG_ES, SEG_CS, SEG_SS, SEG_DS, SEG_FS, SEG_GS, SEG_NONE, SEG_LDTR, SEG_TR, SEG_COUNT };

/* Access rights in the VMX format [SDM3 "Guest Register State"]: bits 3:0 type, 4 S, 6:5 DPL, 7 P, 12 AVL, 13 L, 14 D/B,
 * 15 G, 16 unusable. */
enum { AR_TYPE = 0xf, AR_S = 1 << 4, AR_DPL = 3 << 5, AR_P = 1 << 7, AR_AVL = 1 << 12, AR_L = 1 << 13, AR_DB = 1 << 14,
       AR_G = 1 << 15, AR_UNUSABLE = 1 << 16, AR_CODE = 8, AR_CONFORMING = 4, AR_EXPAND_DOWN = 4, AR_WRITABLE = 2,
       AR_READABLE = 2, AR_ACCESSED = 1 };

struct segment {
    u64 base;                  /* la */
    u32 limit;                 /* bytes, granularity applied: the last valid offset (or, expand-down, the last invalid one) */
    u32 access;                /* AR_* */
    u16 selector;
    u16 pad[3];
};

struct table_register {        /* GDTR, IDTR */
    u64 base;                  /* la */
    u32 limit;                 /* bytes - 1, 16 bits used */
    u32 pad;
};

struct cpu_seg {
    struct segment s[SEG_COUNT];   /* indexed by SEG_*; SEG_NONE is all zero (flat 64-bit segments decode to it) */
    struct table_register gdtr, idtr;
};

/* ---- system registers ------------------------------------------------------------------------------------------ */

enum { CR0_PE = 1 << 0, CR0_MP = 1 << 1, CR0_EM = 1 << 2, CR0_TS = 1 << 3, CR0_ET = 1 << 4, CR0_NE = 1 << 5,
       CR0_WP = 1 << 16, CR0_AM = 1 << 18, CR0_NW = 1 << 29, CR0_CD = 1 << 30 };
#define CR0_PG 0x80000000u
enum { CR4_VME = 1 << 0, CR4_PVI = 1 << 1, CR4_TSD = 1 << 2, CR4_DE = 1 << 3, CR4_PSE = 1 << 4, CR4_PAE = 1 << 5,
       CR4_MCE = 1 << 6, CR4_PGE = 1 << 7, CR4_PCE = 1 << 8, CR4_OSFXSR = 1 << 9, CR4_OSXMMEXCPT = 1 << 10,
       CR4_UMIP = 1 << 11, CR4_LA57 = 1 << 12, CR4_VMXE = 1 << 13, CR4_SMXE = 1 << 14, CR4_FSGSBASE = 1 << 16,
       CR4_PCIDE = 1 << 17, CR4_OSXSAVE = 1 << 18, CR4_SMEP = 1 << 20, CR4_SMAP = 1 << 21, CR4_PKE = 1 << 22,
       CR4_CET = 1 << 23, CR4_PKS = 1 << 24, CR4_UINTR = 1 << 25, CR4_LAM_SUP = 1 << 28 };
#define CR3_LAM_U57 (1ull << 61)
#define CR3_LAM_U48 (1ull << 62)
enum { EFER_SCE = 1 << 0, EFER_LME = 1 << 8, EFER_LMA = 1 << 10, EFER_NXE = 1 << 11 };

struct cpu_sys {
    u64 cr0, cr2, cr3, cr4, xcr0, efer;
    u64 dr[4], dr6, dr7;
    u64 pdpte[4];              /* PAE page-directory-pointer entries, loaded by MOV to CR3 &c. and VM entry */
    u64 pkru, pkrs;            /* IA32_PKRS */
    /* MSRs */
    u64 star, lstar, cstar, fmask, kernel_gs_base, tsc_aux;
    u64 sysenter_cs, sysenter_esp, sysenter_eip;
    u64 pat, debugctl, misc_enable, feature_control, spec_ctrl, xss, apic_base;
    u64 mtrr_def_type, mtrr_physbase[10], mtrr_physmask[10], mtrr_fixed[11];
    u64 tsc_adjust;            /* IA32_TSC_ADJUST */
    u64 tsc_offset;            /* TSC = machine's TSC + tsc_offset, written by WRMSR to IA32_TIME_STAMP_COUNTER / _ADJUST */
    u64 mcg_status, mcg_ctl, mc[10][4], smbase, bios_sign_id, s_cet, u_cet, pl_ssp[4], ssp_table, ssp;
    u64 perf_global_ctrl, perf_fixed_ctrl, perf_fixed[4], perf_evtsel[8], perf_pmc[8], perf_global_status;
    u64 pkg_cst_config_control, power_ctl, umwait_control;
    u64 perf_edge;             /* state of the counters' edge detectors, by their bits in IA32_PERF_GLOBAL_CTRL */
    u64 lbr_from[32], lbr_to[32], lbr_info[32], lbr_tos, lbr_select, ler_from, ler_to;    /* last-branch records */
    u64 test_ctrl;             /* MSR_TEST_CTRL */
    u64 mc_ctl2[10];           /* IA32_MCi_CTL2 */
    /* User interrupts: UIRR, UIHANDLER, UISTACKADJUST, IA32_UINTR_MISC (UITTSZ in bits 31:0, UINV in 39:32), UPIDADDR, UITTADDR with
     * its enable bit 0; UIF, which no MSR shows */
    u64 uintr_rr, uintr_handler, uintr_stackadjust, uintr_misc, uintr_pd, uintr_tt, uif;
    u64 spare[1];              /* for later MSRs without a change of the layout */
};

/* ---- x87 and vectors ------------------------------------------------------------------------------------------- */

struct cpu_fpu {
    struct { u64 mantissa; u16 exponent; u16 pad[3]; } st[8];  /* physical registers R0..R7 (not ST-relative); exponent has the sign in bit 15 */
    u16 fcw, fsw, ftw_full, fop;   /* fsw includes TOP; ftw_full: 2 bits a register, 3 = empty, else not
                                  (which of the other three FSTENV stores follows from the contents) */
    u16 fcs, fds;
    u32 mxcsr;
    u64 fip, fdp;
    u64 k[8];                  /* opmasks */
    u64 v[32][8];              /* ZMM0..31; XMM is v[n][0..1], YMM v[n][0..3] */
};

/* ---- events ---------------------------------------------------------------------------------------------------- */

/* Interruption types, numbered as in the VMX interruption-information fields. */
enum event_type { EVT_EXTERNAL = 0, EVT_NMI = 2, EVT_HARDWARE = 3, EVT_SOFTWARE_INT = 4, EVT_PRIV_SOFTWARE = 5,
                  EVT_SOFTWARE = 6, EVT_OTHER = 7 };

enum { EXC_DE = 0, EXC_DB = 1, EXC_NMI = 2, EXC_BP = 3, EXC_OF = 4, EXC_BR = 5, EXC_UD = 6, EXC_NM = 7, EXC_DF = 8,
       EXC_TS = 10, EXC_NP = 11, EXC_SS = 12, EXC_GP = 13, EXC_PF = 14, EXC_MF = 16, EXC_AC = 17, EXC_MC = 18, EXC_XM = 19,
       EXC_VE = 20, EXC_CP = 21 };

/* Blocking, bit for bit the VMX interruptibility-state field. */
enum { BLOCK_STI = 1 << 0, BLOCK_MOV_SS = 1 << 1, BLOCK_SMI = 1 << 2, BLOCK_NMI = 1 << 3 };

enum cpu_activity { ACTIVITY_ACTIVE, ACTIVITY_HLT, ACTIVITY_SHUTDOWN, ACTIVITY_WAIT_SIPI, ACTIVITY_MWAIT /* not VMX's */ };

/* Bits of event.monitor_armed: a line is watched; the processor waits for it (and for what follows in ACTIVITY_MWAIT); interrupts
 * end the wait even while they are masked; the deadline is the operating system's limit. */
enum { MONITOR_ARMED = 1 << 0, MONITOR_WAITING = 1 << 1, MONITOR_MASKED = 1 << 2, MONITOR_OS_LIMIT = 1 << 3 };

/* Bits of cpu->event.attention: reasons for the run loop to look before the next instruction. Lines (INTR …) stay set as
 * long as the cause lasts, even while it is masked; cpu/event.c decides what is deliverable. */
enum {
    ATT_INTR = 1 << 0,         /* the LAPIC or PIC asks for an interrupt */
    ATT_NMI = 1 << 1,          /* an NMI is latched */
    ATT_INIT = 1 << 2,
    ATT_SIPI = 1 << 3,         /* sipi_vector holds its vector; meaningful only in wait-for-SIPI */
    ATT_SMI = 1 << 4,
    ATT_EVENT = 1 << 5,        /* event.valid: an exception or injected event waits for delivery */
    ATT_SHADOW = 1 << 6,       /* blocking by STI or MOV SS ends after the next instruction */
    ATT_STEP = 1 << 7,         /* TF, IA32_DEBUGCTL.LBR, enabled code breakpoints or a set RF: instructions run one at a time */
    ATT_PENDING_DB = 1 << 8,   /* event.pending_debug != 0 */
    ATT_VMX = 1 << 9,          /* a frame armed something (window, MTF, timer, TPR …): ask vmx_attention() */
    ATT_ACTIVITY = 1 << 10,    /* activity != active */
    ATT_STOP = 1 << 11,        /* the machine wants the loop back (power off, reset, debugger) */
    ATT_ENDBRANCH = 1 << 12,   /* indirect-branch tracking waits: the next instruction has to be an ENDBR (cpu/cet.h) */
    ATT_PMU = 1 << 14,         /* a performance counter may run (cpu/pmu.h): instructions are counted */
    ATT_ALONE = ATT_SHADOW | ATT_STEP | ATT_VMX | ATT_ENDBRANCH,   /* the next instruction runs alone */
    ATT_UINTR = 1 << 15,       /* a user interrupt is recognised, and UIF, CPL and mode let it come (cpu/uintr.h) */
    ATT_VIRTUAL_INTR = 1 << 13,/* a frame recognises a virtual interrupt: ask vmx_virtual_interrupt() */
};

struct cpu_event {
    u32 attention;             /* ATT_* */
    u8 blocking;               /* BLOCK_* */
    u8 activity;               /* enum cpu_activity */
    u8 sipi_vector;
    u8 nmi_line;               /* reserved */
    /* The event to be delivered (raised by a handler, or injected by VM entry). */
    u8 valid, vector, type, has_error;
    u32 error;
    u32 insn_length;           /* bytes, for software events and for VM-exit information */
    u64 payload;               /* #PF: new CR2; #DB: bits to be merged into DR6 (as they stand in DR6) */
    u8 injected;               /* came from VM entry: its delivery is not intercepted again, CR2/DR6 are not touched */
    /* The event whose delivery is in progress while the members above are filled by a nested fault: for double
     * faults and for the IDT-vectoring information of a VM exit. */
    u8 delivering, d_vector, d_type, d_has_error;
    u8 extint;                 /* external event: error codes get the EXT bit */
    u8 nmi_unblocking_iret;    /* the running IRET has unblocked NMIs (VM-exit interruption information bit 12) */
    u8 step;                   /* STEP_*: what held before the instruction that runs alone (cpu/event.h) */
    u32 d_error, d_insn_length;
    u64 pending_debug;         /* debug exceptions to come after this instruction, as DR6 bits (B0-B3, BS = 14, enabled-breakpoint = 12;
                                  BLD = 11 here means a bus lock, though DR6 shows it by a 0) */
    u64 wait_deadline;         /* ACTIVITY_MWAIT ends when the machine's TSC reaches it; 0: never */
    u64 monitor_hpa;           /* the monitored line, 64 bytes; valid with MONITOR_ARMED or _WAITING */
    u32 monitor_armed;         /* MONITOR_* */
    u8 step_depth;             /* VMX depth at which that instruction began */
    u8 ignne;                  /* IGNNE# is asserted: x87 instructions run in spite of a pending error (CR0.NE = 0) */
    u8 user_delivery;          /* a user interrupt is being delivered: its accesses belong to no instruction */
    u8 pad1[1];
};

/* ---- system-management mode --------------------------------------------------------------------------------------- */

/* Of event.blocking: what the SMI found, which RSM restores; and what a processor keeps to itself, not in SMRAM [SDM3 "Default
 * Treatment of SMI Delivery"]. */
struct cpu_smm {
    u8 active;                 /* the processor is in SMM */
    u8 dual_monitor;           /* the dual-monitor treatment is active: SMIs are VM exits */
    u8 blocking, activity;     /* BLOCK_*, enum cpu_activity at the SMI */
    u8 vmxon, vmxe;            /* the processor was in VMX operation; CR4.VMXE */
    u8 ss_dpl, rflags_vm;      /* the mode that RSM goes back to in VMX operation */
    u32 depth;                 /* VMX frames that were entered */
    /* The I/O instruction that retired immediately before the SMI, with the registers as they were before it. */
    u32 io_state;              /* the I/O state field of the save map; 0: there was none */
    u64 io_rip, io_rcx, io_rsi, io_rdi;
    u64 io_la;                 /* of the operand of INS and OUTS */
    u64 pending_debug;         /* event.pending_debug at the SMI */
    u64 count;                 /* SMIs taken: MSR_SMI_COUNT */
    u64 monitor_ctl;           /* IA32_SMM_MONITOR_CTL */
    u64 smrr_base, smrr_mask;  /* IA32_SMRR_PHYSBASE, IA32_SMRR_PHYSMASK */
    u64 transfer_vmcs;         /* SMM-transfer VMCS pointer, meant while dual_monitor */
};

/* ---- derived from the above, recomputed by cpu_mode_update() (cpu/mode.h) ----------------------------------------- */

enum cpu_bits { BITS_16, BITS_32, BITS_64 };
enum paging_mode { PAGING_NONE, PAGING_32, PAGING_PAE, PAGING_4LEVEL, PAGING_5LEVEL };

enum { MODE_SHADOW_STACK = 1, MODE_IBT = 2, CODE_KEY_BITS = 6 };
/* Who is told of locked accesses (cpu/bus_lock.h). */
enum { LOCKS_DEBUG = 1 << 0, LOCKS_SPLIT_FAULT = 1 << 1, LOCKS_VMM = 1 << 2 };

struct cpu_mode {
    u8 code_bits;              /* enum cpu_bits of CS */
    u8 stack_bits;             /* enum cpu_bits of SS (BITS_64 in 64-bit code) */
    u8 cpl;                    /* 0-3; SS.DPL in protected mode, 0 in real mode, 3 in V8086 */
    u8 paging;                 /* enum paging_mode */
    u8 protected_mode;         /* CR0.PE and not V8086 */
    u8 v8086, real;            /* real: CR0.PE = 0 */
    u8 long_mode;              /* EFER.LMA */
    u8 la_bits;                /* canonical width: 48 or 57 */
    u8 code_key;               /* what decoded blocks depend on: code_bits | CPL 3 << 2 (translation permission) | cet << 3 |
                                  whether locks are watched << 5 */
    u8 pa_bits;                /* physical-address width (MAXPHYADDR) of the model; 0 before the first cpu_mode_update() */
    u8 vmm_locks;              /* LOCKS_VMM while an entered frame asks for VM exits by bus locks */
    u8 cet;                    /* MODE_SHADOW_STACK, MODE_IBT: what CET does at this CPL */
    u8 locks;                  /* LOCKS_*: who watches locked accesses at this CPL */
    u8 pad[2];
};

/* A memory access that cannot be made, as the MMU describes it; cpu_raise_fault() (cpu/raise.h) turns it into an event
 * or VM exit. */
enum fault_kind { FAULT_NONE, FAULT_PAGE, FAULT_EPT_VIOLATION, FAULT_EPT_MISCONFIG, FAULT_NONCANONICAL, FAULT_ALIGNMENT,
                  FAULT_GP0, FAULT_APIC_ACCESS, FAULT_EPT_LOG_FULL, FAULT_SPP, FAULT_DONE };

struct mem_fault {
    u32 kind;                  /* enum fault_kind; FAULT_DONE: event or exit has been raised already */
    u32 error;                 /* #PF error code */
    u64 la;
    u64 gpa;                   /* EPT faults: in the space of the guest of `frame` */
    u64 qualification;         /* EPT faults: exit qualification as in the SDM; APIC access: likewise */
    u32 frame;                 /* EPT faults: index of the frame whose EPT raised it */
    u32 stack_segment;         /* FAULT_NONCANONICAL: #SS(0) instead of #GP(0) */
    /* EPT faults of a frame that is not the innermost: the access as one that another hypervisor can carry out
     * (vmx/standin.c). */
    u32 convertible;           /* EPT violations: the entry that decides does not suppress #VE */
    u32 own_page;              /* the page of la itself is missing, not one of a table */
    u32 carry, carry_size;     /* enum carry_kind; bytes: 1, 2, 4, 8 */
    u64 carry_value;           /* CARRY_WRITE */
};

/* The last events delivered, for reports to people (a triple fault says what led to it). */
#define RECENT_EVENTS 8
struct recent_event {
    u64 now;                   /* machine instruction count */
    u64 rip, cr2;
    u32 error;
    u8 vector, type, has_error, level;
};

#define FEATURE_WORDS 8

/* What accesses lately found in the TLB: copies of entries of the running context and mode, for reading or for writing. Which of them an access
 * looks at is translated code's choice. 1 << n bytes at la are in copy i if la - page[i] < limit[n]; then they are at host address la + addend[i]. */
#define TLB_RECENT 8
struct tlb_recent {
    u64 limit[7];              /* 4097 - (1 << n); or all are 0, and nothing is in any copy */
    struct { u64 page; uintptr_t addend; } copy[TLB_RECENT];
};

/* What translated code keeps beside the architectural state while it runs; outside of it, nothing here is meant (cpu/jit/README.md). */
struct jit_jump;
struct cpu_jit {
    u64 page;                  /* rip of the first byte of the page that the running code stands in */
    u64 key;                   /* state of the TLB context, as in the interpreter's links: what entries of `jumps` must carry */
    i64 budget;                /* instructions left until `stop` */
    u64 stop;                  /* cpu->stop_at when the code was entered */
    u64 salt;                  /* of the hash by which `jumps` are found: what stands at one linear address in two contexts has two places */
    struct jit_jump *jumps;    /* linear address -> code, direct-mapped */
    u64 cc_a, cc_b, cc_r, cc_t; /* what the status flags follow from, by cc_op */
    u32 cc_op;                 /* CC_* (cpu/jit/flags.h); 0: the flags stand in cpu->core */
    u8 cc_c, cc_z, cc_pad[2];
    u64 status;                /* the status flags as a RFLAGS image, for the host's flags */
    u64 save[2];               /* temporaries of one instruction */
    u64 frames, frames_end;    /* the host's stack while code runs: where the frames of the guest's calls begin, and how low they may go */
    u32 wanders;               /* the code was left because this access goes to another page each time: number of its count; 0: not for that */
    u32 fp;                    /* enum jit_fp; not 0: the host's MXCSR stands for the guest's */
    u32 host_mxcsr, mxcsr;     /* the host's own; the guest's as loaded */
    struct pmu_moment *counting;   /* performance counters run: since when they have not been told; NULL otherwise (cpu/pmu.h) */
    bool unretired;            /* the last instruction has not retired */
};

struct cpu {
    struct cpu_core core;
    struct cpu_seg seg;
    struct cpu_sys sys;
    struct cpu_fpu fpu;
    struct cpu_event event;
    struct cpu_smm smm;
    struct vmx_state vmx;
    struct {
        u64 now;               /* the machine's instruction count at the start of the running block */
        u64 retired;           /* instructions this vCPU has run, in all */
    } time;

    /* ---- the line: everything below is derived or wiring ---- */
    struct cpu_mode mode;
    struct mem_fault fault;

    /* The run loop. */
    const struct insn *run_end;    /* the running block ends before this one; NULL cuts it after the current instruction */
    struct block *block;           /* the running block, NULL outside */
    u64 block_rip;                 /* rip at its start */
    u64 stop_at;                   /* machine instruction count at which the loop must return (next event, end of turn) */
    struct cpu_jit jit;            /* translated code's own registers (cpu/jit/) */

    /* Address translation (mmu/tlb.h). */
    struct tlb *tlb;               /* all contexts of this vCPU */
    struct tlb_entry *tlb_now;     /* entries of the current context */
    u64 tlb_tag;                   /* generation and mode bits that a matching entry's tag carries; TLB_TAG_SLOW never matches */
    u64 tlb_uid;                   /* changes whenever a cached la -> block may have become wrong */
    struct tlb_recent tlb_recent[2];   /* reading, writing: for translated code (mmu/tlb.h) */

    struct bus *bus;
    const struct cpu_board *board;
    void *board_arg;
    struct interp *interp;         /* block cache (shared by all vCPUs) */
    struct trace *trace;           /* NULL: nothing is traced (cpu/trace.h) */
    const struct cpu_model *model;
    const struct nestor_policy *policy;    /* vmx/policy.h */
    void *policy_settings;         /* its parameters */
    u64 vmx_withheld[2];           /* VMX controls (bit: number in vmx/controls.def) that the policy does not offer … */
    u64 vmx_emulated[2];           /* … and those that L0 adds to what its hardware is said to have */
    bool ept_small_pages;          /* EPT maps no pages of 1 GByte */
    struct vmx_stats *stats;
    u32 feature[FEATURE_WORDS];    /* enabled CPUID features, bit index = enum cpu_feature (cpu/features.def) */
    unsigned index;                /* number of this vCPU, also its initial APIC ID */
    unsigned cpu_count;            /* vCPUs of the machine (CPUID's topology leaves); 0 counts as 1 */
    struct recent_event recent[RECENT_EVENTS];
    unsigned recent_count;         /* events delivered, in all; the last is recent[(recent_count - 1) % RECENT_EVENTS] */
    bool tlb_slow;                 /* every access takes the slow path (data breakpoints, alignment checks) */
};

/* What the board offers to a CPU. Implemented by machine/; times exact to the running instruction. */
struct cpu_board {
    u64 (*tsc)(void *arg, struct cpu *cpu);                 /* machine TSC in ticks, before cpu->sys.tsc_offset */
    int (*interrupt_acknowledge)(void *arg, struct cpu *cpu);/* vector, or -1 when nothing is pending any more */
    bool (*interrupt_pending)(void *arg, struct cpu *cpu);
    void (*interrupt_eoi)(void *arg, struct cpu *cpu);      /* zero is written to the local APIC's EOI register */
    /* The local APIC sends a fixed interrupt to the physical APIC ID that a posted-interrupt descriptor's NDST means. */
    void (*interrupt_notify)(void *arg, struct cpu *cpu, u32 ndst, u8 vector);
    u8 (*tpr_get)(void *arg, struct cpu *cpu);              /* whole TPR, bits 7:0 */
    void (*tpr_set)(void *arg, struct cpu *cpu, u8 tpr);
    bool (*apic_msr_read)(void *arg, struct cpu *cpu, u32 msr, u64 *value);  /* 0x800-0x8ff, 0x6e0; false: #GP(0) */
    bool (*apic_msr_write)(void *arg, struct cpu *cpu, u32 msr, u64 value);
    bool (*apic_base_write)(void *arg, struct cpu *cpu, u64 value);
    void (*apic_init)(void *arg, struct cpu *cpu);          /* the CPU took an INIT: its LAPIC is reset as by INIT */
    u64 (*random)(void *arg, struct cpu *cpu);              /* deterministic */
    void (*shutdown)(void *arg, struct cpu *cpu);           /* triple fault outside VMX non-root operation */
    void (*perf_interrupt)(void *arg, struct cpu *cpu);     /* a performance counter overflowed: LVT entry; may be NULL */
    void (*ferr)(void *arg, struct cpu *cpu);               /* x87 error with CR0.NE = 0: IRQ 13 */
};

static inline bool cpu_has(const struct cpu *cpu, unsigned feature)
{
    return cpu->feature[feature / 32] >> (feature % 32) & 1;
}

/* Ends the running block after the current instruction; every floor may ask for it. */
static inline void cpu_cut_block(struct cpu *cpu) { cpu->run_end = NULL; }

#endif
