/* Descriptors and segment registers: reading, checking and loading them [SDM3 "Protected-Mode Memory Management", "Protection"].
 *
 * Functions that return enum flow give FLOW_NEXT when all is well; otherwise they have raised the exception (or a VM exit has been carried out)
 * and the caller returns what they returned. Error codes are raised without the EXT bit: cpu/event.c adds it while it delivers an external event.
 */
#ifndef NESTOR_CPU_SEGMENT_H
#define NESTOR_CPU_SEGMENT_H

#include "cpu/mode.h"
#include "cpu/raise.h"
#include "cpu/state.h"
#include "mmu/access.h"

/* Continues when `step` gives FLOW_NEXT, else hands on what it gave. */
#define FLOW(step)                                                                                                     \
    do {                                                                                                               \
        enum flow flow_ = (step);                                                                                      \
        if (UNLIKELY(flow_ != FLOW_NEXT))                                                                              \
            return flow_;                                                                                              \
    } while (0)

enum { SELECTOR_RPL = 3, SELECTOR_TI = 4 };

static inline bool selector_null(u16 selector) { return !(selector & 0xfffc); }
/* The error code that names a selector. */
static inline u32 selector_error(u16 selector) { return selector & 0xfffc; }

/* A segment or gate descriptor as it lies in memory. */
struct descriptor {
    u64 low, high;             /* high: only for 16-byte system descriptors of IA-32e mode, else 0 */
    u64 la;                    /* where it was read, to set its accessed or busy bit */
};

/* System descriptor types, with those of IA-32e mode where they are the same. */
enum { SYS_TSS16 = 1, SYS_LDT = 2, SYS_TSS16_BUSY = 3, SYS_CALL16 = 4, SYS_TASK_GATE = 5, SYS_INT16 = 6, SYS_TRAP16 = 7, SYS_TSS = 9,
       SYS_TSS_BUSY = 11, SYS_CALL = 12, SYS_INT = 14, SYS_TRAP = 15 };

/* Access rights in the AR_* format. */
static inline u32 descriptor_access(const struct descriptor *d)
{
    return (u32)(d->low >> 40 & 0xff) | (u32)(d->low >> 52 & 0xf) << 12;
}
static inline u32 descriptor_limit(const struct descriptor *d)
{
    u32 limit = (u32)(d->low & 0xffff) | (u32)(d->low >> 32 & 0xf0000);
    return d->low & BIT(55) ? limit << 12 | 0xfff : limit;
}
static inline u64 descriptor_base(const struct descriptor *d)
{
    return (d->low >> 16 & 0xffffff) | (d->low >> 32 & 0xff000000) | d->high << 32;
}
static inline unsigned descriptor_dpl(const struct descriptor *d) { return (unsigned)(d->low >> 45 & 3); }
static inline bool descriptor_present(const struct descriptor *d) { return d->low >> 47 & 1; }
/* Gates: selector and offset (high holds bits 63:32 for 16-byte gates). */
static inline u16 gate_selector(const struct descriptor *d) { return (u16)(d->low >> 16); }
static inline u64 gate_offset(const struct descriptor *d)
{
    return (d->low & 0xffff) | (d->low >> 32 & 0xffff0000) | d->high << 32;
}

static inline unsigned access_dpl(u32 access) { return access >> 5 & 3; }
static inline bool access_is_code(u32 access) { return (access & (AR_S | AR_CODE)) == (AR_S | AR_CODE); }
static inline bool access_is_conforming(u32 access) { return access_is_code(access) && (access & AR_CONFORMING); }
static inline bool access_is_writable_data(u32 access)
{
    return (access & (AR_S | AR_CODE | AR_WRITABLE)) == (AR_S | AR_WRITABLE);
}
/* Data, or code that can be read. */
static inline bool access_is_readable(u32 access)
{
    return (access & AR_S) && (!(access & AR_CODE) || (access & AR_READABLE));
}

/* An implicit supervisor read of n bytes (up to 16) of a descriptor table or TSS. The fast path serves supervisor code without RFLAGS.AC, whose own
 * accesses then have the same rights. */
HOT_INLINE enum flow system_read(struct cpu *cpu, u64 la, void *data, unsigned n)
{
    struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->read == tlb_key(cpu, la, n) && cpu->mode.cpl != 3 && !(cpu->core.rflags_rest & FL_AC))) {
        memcpy(data, tlb_host(e, la), n);
        return FLOW_NEXT;
    }
    cpu->fault.stack_segment = 0;
    return mem_read_system(cpu, la, data, n) ? FLOW_NEXT : cpu_raise_fault(cpu);
}

/* Reads the 8-byte descriptor of a selector that is not null. Beyond its table, or no LDT: exception `vector` with the selector. */
enum flow descriptor_read(struct cpu *cpu, u16 selector, u8 vector, struct descriptor *d);
/* The upper half of a system descriptor in IA-32e mode; its type field must be 0 [SDM3 "LDT and TSS Descriptors in 64-Bit Mode"]. */
enum flow descriptor_read_high(struct cpu *cpu, u16 selector, u8 vector, struct descriptor *d);
/* Reads without raising anything for what LAR, LSL, VERR and VERW call an invalid selector: *valid. Memory faults are raised. */
enum flow descriptor_read_quiet(struct cpu *cpu, u16 selector, bool wide, struct descriptor *d, bool *valid);
/* Sets the accessed bit in memory and in d. Nothing when it is set. */
enum flow descriptor_set_accessed(struct cpu *cpu, struct descriptor *d);
/* Sets or clears the busy bit of the TSS descriptor at la. */
enum flow descriptor_set_busy(struct cpu *cpu, u64 la, bool busy);

/* The hidden part that a descriptor describes. */
void segment_unpack(struct segment *s, u16 selector, const struct descriptor *d);
/* A null selector: unusable; `dpl` is kept as the DPL, from which CPL follows for SS. */
void segment_make_null(struct segment *s, u16 selector, unsigned dpl);
/* What a load of a data segment or SS (real) leaves in real mode, and any load in virtual-8086 mode. */
void segment_load_real(struct segment *s, u16 selector);
void segment_load_v8086(struct segment *s, u16 selector);

/* Loads ES, SS, DS, FS or GS as MOV does, in every mode [SDM2 "MOV—Move"]. The caller updates the mode after SS. */
enum flow segment_load(struct cpu *cpu, unsigned seg, u16 selector);

/* Checks a selector for SS at privilege level `cpl`, raising `vector` (#GP or #TS; #SS when not present), and gives the segment, marked accessed.
 * null_ok: a null selector may be loaded (64-bit code, CPL != 3). */
enum flow segment_check_stack(struct cpu *cpu, u16 selector, unsigned cpl, u8 vector, bool null_ok, struct segment *ss);

/* Checks that n bytes at `offset` lie in a segment that is usable (legacy and compatibility mode). */
bool segment_holds(const struct segment *s, u64 offset, unsigned n);

/* After a return to an outer level: DS, ES, FS, GS that the new CPL may not use become null. */
void segment_drop_privileged(struct cpu *cpu, unsigned cpl);

/* True when `rip` is a valid instruction pointer in `cs`: within its limit, or canonical for 64-bit code. */
static inline bool code_target_ok(const struct cpu *cpu, const struct segment *cs, u64 rip)
{
    return cpu->mode.long_mode && (cs->access & AR_L) ? cpu_canonical(cpu, rip) : rip <= cs->limit;
}

#endif
