/* RFLAGS: the six status flags are kept as the last result (state.h) and computed when read.
 */
#ifndef NESTOR_CPU_FLAGS_H
#define NESTOR_CPU_FLAGS_H

#include "cpu/state.h"

HOT_INLINE bool flag_zf(const struct cpu *cpu) { return cpu->core.fl_zero == 0; }
HOT_INLINE bool flag_sf(const struct cpu *cpu) { return cpu->core.fl_sign >> 63; }
HOT_INLINE bool flag_cf(const struct cpu *cpu) { return cpu->core.fl_carry >> 63; }
HOT_INLINE bool flag_of(const struct cpu *cpu) { return (cpu->core.fl_carry ^ cpu->core.fl_carry << 1) >> 63; }
HOT_INLINE bool flag_af(const struct cpu *cpu) { return cpu->core.fl_carry >> 3 & 1; }
HOT_INLINE bool flag_pf(const struct cpu *cpu) { return !__builtin_parity((unsigned)(cpu->core.fl_sign & 0xff)); }

/* The six status flags as they stand in RFLAGS. */
static inline u32 flags_status(const struct cpu *cpu)
{
    return (u32)flag_cf(cpu) | (u32)flag_pf(cpu) << 2 | (u32)flag_af(cpu) << 4 | (u32)flag_zf(cpu) << 6 |
           (u32)flag_sf(cpu) << 7 | (u32)flag_of(cpu) << 11;
}

/* All of RFLAGS. */
static inline u64 cpu_rflags(const struct cpu *cpu) { return cpu->core.rflags_rest | flags_status(cpu); }

/* Sets the six status flags from a RFLAGS image, in a canonical form. */
static inline void flags_set_status(struct cpu *cpu, u64 rflags)
{
    bool cf = rflags & FL_CF, of = rflags & FL_OF;
    cpu->core.fl_zero = !(rflags & FL_ZF);
    cpu->core.fl_sign = (rflags & FL_SF ? BIT(63) : 0) | !(rflags & FL_PF);
    cpu->core.fl_carry = (u64)cf << 63 | (u64)(cf ^ of) << 62 | (rflags & FL_AF ? 8 : 0);
}

/* Sets all of RFLAGS as given (bit 1 forced to 1, reserved bits to 0). The caller has decided which bits may change and calls
 * cpu_mode_update() when VM, TF, AC or RF changed. */
static inline void cpu_set_rflags(struct cpu *cpu, u64 rflags)
{
    cpu->core.rflags_rest = (rflags & 0x3f7700ull & ~(u64)FL_STATUS) | FL_R1;
    flags_set_status(cpu, rflags);
}

/* Brings the lazy form into the canonical one, so that equal flags are equal bytes (before hashing or saving). */
static inline void flags_canonical(struct cpu *cpu) { flags_set_status(cpu, flags_status(cpu)); }

#endif
