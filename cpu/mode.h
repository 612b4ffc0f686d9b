/* What follows from the control registers and segments: the derived mode (cpu->mode), reset, control-register writes,
 * MSRs and CPUID. Floor 3: knows nothing of VMX; whoever calls has asked the frames before.
 */
#ifndef NESTOR_CPU_MODE_H
#define NESTOR_CPU_MODE_H

#include "cpu/raise.h"
#include "cpu/state.h"

/* Recomputes cpu->mode, ATT_STEP, tlb_slow and the translation context from the plain state. Call after any change of CR0, CR3, CR4, EFER, CS, SS,
 * RFLAGS.VM/TF/AC/RF, IA32_DEBUGCTL, DR7, PKRU, CET MSRs or depth. */
void cpu_mode_update(struct cpu *cpu);
/* The cheap part of the same, for changes of CPL or RFLAGS.AC/TF/RF alone. */
void cpu_mode_update_cpl(struct cpu *cpu);

/* User interrupts [SDM3 "User-Interrupt Recognition"]: recomputes ATT_UINTR. Call after any change of UIRR or UIF; the above do it, too. */
void cpu_recognize_user_interrupt(struct cpu *cpu);
enum { UINTR_UINV_SHIFT = 32 };
/* Is an ordinary interrupt with this vector a notification of user interrupts [SDM3 "User-Interrupt Notification Identification"]? */
static inline bool cpu_is_user_notification(const struct cpu *cpu, u8 vector)
{
    return UNLIKELY(cpu->sys.cr4 & CR4_UINTR) && cpu->sys.efer & EFER_LMA && vector == (u8)(cpu->sys.uintr_misc >> UINTR_UINV_SHIFT);
}

/* The bus answers as this processor sees it: SMRAM in SMM, nothing at its SMRR outside. Call it when the processor's turn begins,
 * and when what it depends on has changed (then the processor's TLB goes, too). */
void cpu_select_bus_view(struct cpu *cpu);

/* Power-on (init = false) or INIT (init = true) state [SDM3 "Processor State After Reset"]. */
void cpu_reset(struct cpu *cpu, bool init);

/* Control-register writes with all architectural checks, flushes and side effects (LMA, PDPTEs). Return FLOW_NEXT, or FLOW_EVENT with
 * #GP(0) raised, or what cpu_write_cr3's PDPTE loads raised as cpu->fault (then FLOW_EVENT with event.valid == 0: call cpu_raise_fault). */
enum flow cpu_write_cr0(struct cpu *cpu, u64 value);
enum flow cpu_write_cr3(struct cpu *cpu, u64 value);
enum flow cpu_write_cr4(struct cpu *cpu, u64 value);
/* The bits of CR0/CR4 that this CPU model lets be set. */
u64 cpu_cr4_allowed(const struct cpu *cpu);
u64 cpu_cr3_allowed(const struct cpu *cpu);            /* … and of CR3 in IA-32e mode */
u64 cpu_efer_allowed(const struct cpu *cpu);
/* Physical-address bits above MAXPHYADDR (reserved in CR3, page tables, MSRs). */
unsigned cpu_physical_bits(const struct cpu *cpu);
static inline bool cpu_canonical_bits(u64 la, unsigned bits) { return (u64)((i64)(la << (64 - bits)) >> (64 - bits)) == la; }
/* Canonical for the current paging mode. */
static inline bool cpu_canonical(const struct cpu *cpu, u64 la) { return cpu_canonical_bits(la, cpu->mode.la_bits); }

/* MSRs other than VMX capability ones. `insn_now`: machine instruction count for time. False: #GP(0). */
bool cpu_msr_read(struct cpu *cpu, u32 msr, u64 *value);
bool cpu_msr_write(struct cpu *cpu, u32 msr, u64 value);
/* TSC as RDTSC outside VMX non-root operation shows it (machine TSC + IA32_TSC offset). */
u64 cpu_tsc(struct cpu *cpu);

struct cpuid_result { u32 eax, ebx, ecx, edx; };
/* CPUID of this CPU as it stands (OSXSAVE, XCR0-dependent sizes, APIC bit), before any hypervisor's doing. */
struct cpuid_result cpu_cpuid(struct cpu *cpu, u32 leaf, u32 subleaf);

/* Features: enum cpu_feature { FEATURE_X, … } from cpu/features.def. */
#include "cpu/features.h"

/* Sets the CPU's model and features from a command-line word "MODEL[,+feat,-feat]…". False, with a one-line message naming the part and what was
 * expected, when it is not understood. */
bool cpu_model_set(struct cpu *cpu, const char *text, char *message, size_t message_size);

#endif
