/* What handlers of VEX- and EVEX-encoded vector instructions share: the gate, source operands (registers, memory
 * whole, by element under a mask, broadcast), destinations (merging, zeroing, bits above the vector length cleared),
 * and the family macros that make the handlers of an operation from one function on `n` bytes.
 *
 * Order kept by every handler: #UD / #NM (VEC_GATE), memory (alignment where the instruction demands it, then
 * translation, element by element when masked elements must not fault), operation, and only then the destination. What
 * the encoding itself makes #UD, the decoder has refused (vector_undefined()).
 *
 * A vector row's handlers are indexed by in->osz: 0, 1, 2 for 128, 256 and 512 bits without opmask and broadcast,
 * which are simple loops of constant length; 3 for everything else (`general`). Vector register n is cpu->fpu.v[n], 64
 * bytes.
 * [SDM2 "Exception Specifications of Intel AVX and AVX2 Instructions", "Exception Classifications of EVEX-Encoded
 * Instructions", "Masking"; SDM1 "Programming with Intel AVX-512"]
 */
#ifndef NESTOR_CPU_VECTOR_H
#define NESTOR_CPU_VECTOR_H

#include "cpu/operand.h"
#include "cpu/table.h"

#define VEC_BYTES 64
enum { XCR0_AVX = 0x06, XCR0_AVX512 = 0xe6 };

/* ---- the gate ---------------------------------------------------------------------------------------------------- */

/* Why it is closed: #UD or #NM. (cpu/vector.c) */
COLD enum flow vec_unavailable(struct cpu *cpu, u64 xcr0);

HOT_INLINE bool vec_available(const struct cpu *cpu, u64 xcr0)
{
    return cpu->mode.protected_mode && cpu->sys.cr4 & CR4_OSXSAVE && (cpu->sys.xcr0 & xcr0) == xcr0 && !(cpu->sys.cr0 & CR0_TS);
}
HOT_INLINE u64 vec_xcr0(const struct insn *in) { return in->flags & INSN_EVEX ? XCR0_AVX512 : XCR0_AVX; }

#define VEC_GATE_FOR(xcr0)                                                                                             \
    do {                                                                                                               \
        if (UNLIKELY(!vec_available(cpu, xcr0)))                                                                       \
            return vec_unavailable(cpu, xcr0);                                                                         \
    } while (0)
#define VEC_GATE() VEC_GATE_FOR(vec_xcr0(in))

/* ---- registers --------------------------------------------------------------------------------------------------- */

HOT_INLINE void *vec_reg(struct cpu *cpu, unsigned n) { return cpu->fpu.v[n & 31]; }
HOT_INLINE unsigned vec_bytes(const struct insn *in) { return 16u << in->vl; }

/* The destination without masking: n bytes (16, 32, 64), zeros above them. */
HOT_INLINE void vec_put(struct cpu *cpu, unsigned reg, const void *data, unsigned n)
{
    u8 *d = vec_reg(cpu, reg);
    memcpy(d, data, n);
    memset(d + n, 0, VEC_BYTES - n);
}
/* Bits above n bytes cleared, after an operation that wrote the register itself. */
HOT_INLINE void vec_clear_above(struct cpu *cpu, unsigned reg, unsigned n) { memset((u8 *)vec_reg(cpu, reg) + n, 0, VEC_BYTES - n); }

/* ---- masking ----------------------------------------------------------------------------------------------------- */

/* The active ones of `lanes` (1..64) elements. */
HOT_INLINE u64 vec_mask(const struct cpu *cpu, const struct insn *in, unsigned lanes)
{
    return (in->opmask ? cpu->fpu.k[in->opmask] : ~0ull) & mask_low(lanes);
}
/* The same, for memory that is read whole by instructions whose masked elements may fault (attribute WHOLE). */
static inline u64 vec_memory_mask(const struct cpu *cpu, const struct insn *in, unsigned lanes)
{
    return insn_rows[in->row].attr & ROW_WHOLE ? mask_low(lanes) : vec_mask(cpu, in, lanes);
}

/* Writes the destination register under the mask: n bytes of elements of `esize` bytes; inactive ones are kept, or
 * cleared with EVEX.z. */
void vec_commit(struct cpu *cpu, const struct insn *in, const void *data, unsigned n, unsigned esize, u64 mask);

/* ---- source operands --------------------------------------------------------------------------------------------- */

/* The whole operand in ModRM.rm, n bytes, unmasked: the register itself, guest memory itself, or a copy in `buffer`.
 * NULL: a fault. */
HOT_INLINE const void *vec_source(struct cpu *cpu, const struct insn *in, unsigned n, void *buffer)
{
    u64 la;
    if (!(in->flags & INSN_MEM))
        return vec_reg(cpu, in->rm);
    if (UNLIKELY(!ea_la(cpu, in, n, ACCESS_READ, &la)))
        return NULL;
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->read == tlb_key(cpu, la, n)))
        return tlb_host(e, la);
    return mem_read_slow(cpu, la, buffer, n, ACCESS_READ) ? buffer : NULL;
}

/* The operand in ModRM.rm in all its forms, into `data` (64 bytes; what is not read is zero): `n` bytes as elements of
 * `esize` bytes, only the active ones of which are read from memory; EVEX.b: one element, repeated, read when any is
 * active. False: a fault. */
bool vec_load(struct cpu *cpu, const struct insn *in, void *data, unsigned n, unsigned esize, u64 mask);

/* Stores the active elements of n bytes to the memory operand; nothing is written unless all of them can be. False: a
 * fault. */
bool vec_store(struct cpu *cpu, const struct insn *in, const void *data, unsigned n, unsigned esize, u64 mask);

/* The linear address of `bytes` bytes that begin `offset` bytes into the memory operand, with its segment checks. */
bool vec_element_la(struct cpu *cpu, const struct insn *in, u64 offset, unsigned bytes, unsigned access, u64 *la);

/* One element of a masked operand, a gather or a scatter: like mem_read and mem_write, but alignment is never checked
 * [SDM2 "VMASKMOV—...", "VGATHERDPS/VGATHERQPS—..."]. */
HOT_INLINE bool vec_element_read(struct cpu *cpu, u64 la, void *data, unsigned n)
{
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->read == tlb_key(cpu, la, n))) {
        memcpy(data, tlb_host(e, la), n);
        return true;
    }
    return mem_read_slow(cpu, la, data, n, ACCESS_READ | ACCESS_UNALIGNED);
}
HOT_INLINE bool vec_element_write(struct cpu *cpu, u64 la, const void *data, unsigned n)
{
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    if (LIKELY(e->write == tlb_key(cpu, la, n))) {
        memcpy(tlb_host(e, la), data, n);
        return true;
    }
    return mem_write_slow(cpu, la, data, n, ACCESS_WRITE | ACCESS_UNALIGNED);
}

/* #GP(0) unless the memory operand lies on a boundary of `n` bytes; its linear address. */
bool vec_aligned_la(struct cpu *cpu, const struct insn *in, unsigned n, unsigned access, u64 *la);

/* ---- families ---------------------------------------------------------------------------------------------------- */

/* An operation on n bytes: d = op(a, b, imm), where a is VEX.vvvv, b is ModRM.rm, and d, which may be either of them,
 * still holds the old destination. It reads all that it needs before it writes d. */
typedef void vec_operation(void *d, const void *a, const void *b, unsigned imm);

HOT_INLINE enum flow vec_run(struct cpu *cpu, const struct insn *in, unsigned n, vec_operation *op)
{
    u8 buffer[VEC_BYTES];
    VEC_GATE();
    const void *b = vec_source(cpu, in, n, buffer);
    if (UNLIKELY(!b))
        return cpu_raise_fault(cpu);
    op(vec_reg(cpu, in->reg), vec_reg(cpu, in->vvvv), b, (u8)in->imm);
    vec_clear_above(cpu, in->reg, n);
    return FLOW_NEXT;
}

/* The same with opmask or broadcast: elements of `esize` bytes are masked, `bsize` bytes are read and broadcast.
 * (cpu/vector.c) */
enum flow vec_run_general(struct cpu *cpu, const struct insn *in, unsigned esize, unsigned bsize, vec_operation *const op[3]);

/* The family NAME of `op(void *d, const void *a, const void *b, unsigned imm, unsigned n)`, an inline function; masked
 * by elements of `esize` bytes, broadcast (if the row's tuple allows it) from `bsize`. Serves VEX.128/256 and
 * EVEX.128/256/512. */
#define VEC_FAMILY(name, esize, bsize, op)                                                                             \
    static void name##_op16(void *d, const void *a, const void *b, unsigned imm) { (void)imm, op(d, a, b, imm, 16); }  \
    static void name##_op32(void *d, const void *a, const void *b, unsigned imm) { (void)imm, op(d, a, b, imm, 32); }  \
    static void name##_op64(void *d, const void *a, const void *b, unsigned imm) { (void)imm, op(d, a, b, imm, 64); }  \
    static enum flow name##_16(struct cpu *cpu, const struct insn *in) { return vec_run(cpu, in, 16, name##_op16); }   \
    static enum flow name##_32(struct cpu *cpu, const struct insn *in) { return vec_run(cpu, in, 32, name##_op32); }   \
    static enum flow name##_64(struct cpu *cpu, const struct insn *in) { return vec_run(cpu, in, 64, name##_op64); }   \
    static enum flow name##_general(struct cpu *cpu, const struct insn *in)                                            \
    {                                                                                                                  \
        static vec_operation *const ops[3] = {name##_op16, name##_op32, name##_op64};                                  \
        return vec_run_general(cpu, in, esize, bsize, ops);                                                            \
    }                                                                                                                  \
    FAMILY_SIZES(name, name##_16, name##_32, name##_64, name##_general)

/* The family NAME of an element-wise operation: `expr` of x (from VEX.vvvv), y (from ModRM.rm), z (the old
 * destination) and imm, all of `type`. */
#define VEC_ELEMENTS(name, type, expr)                                                                                 \
    HOT_INLINE void name##_elements(void *d, const void *a, const void *b, unsigned imm, unsigned n)                   \
    {                                                                                                                  \
        type p[VEC_BYTES / sizeof(type)], q[VEC_BYTES / sizeof(type)], r[VEC_BYTES / sizeof(type)];                    \
        (void)imm;                                                                                                     \
        memcpy(p, a, n);                                                                                               \
        memcpy(q, b, n);                                                                                               \
        memcpy(r, d, n);                                                                                               \
        for (unsigned i = 0; i < n / sizeof(type); i++) {                                                              \
            type x = p[i], y = q[i], z = r[i];                                                                         \
            (void)x, (void)y, (void)z;                                                                                 \
            r[i] = (type)(expr);                                                                                       \
        }                                                                                                              \
        memcpy(d, r, n);                                                                                               \
    }                                                                                                                  \
    VEC_FAMILY(name, sizeof(type), sizeof(type), name##_elements)

/* NAME_lanes: `op(d, a, b, 16)` (or with an immediate at the end) on each 128-bit lane. */
#define VEC_LANES_OP(name, op)                                                                                         \
    HOT_INLINE void name##_lanes(void *d, const void *a, const void *b, unsigned imm, unsigned n)                      \
    {                                                                                                                  \
        (void)imm;                                                                                                     \
        for (unsigned i = 0; i < n; i += 16)                                                                           \
            op((u8 *)d + i, (const u8 *)a + i, (const u8 *)b + i, 16);                                                 \
    }
#define VEC_LANES_OP_IMM(name, op)                                                                                     \
    HOT_INLINE void name##_lanes(void *d, const void *a, const void *b, unsigned imm, unsigned n)                      \
    {                                                                                                                  \
        for (unsigned i = 0; i < n; i += 16)                                                                           \
            op((u8 *)d + i, (const u8 *)a + i, (const u8 *)b + i, 16, imm);                                            \
    }
/* NAME_lanes: what SSE does in place, `op(u64 *d, const u64 *s)` or with an immediate, on each 128-bit lane of a with
 * that of b. */
#define VEC_LANES_SSE(name, op)                                                                                        \
    HOT_INLINE void name##_lanes(void *d, const void *a, const void *b, unsigned imm, unsigned n)                      \
    {                                                                                                                  \
        (void)imm;                                                                                                     \
        for (unsigned i = 0; i < n; i += 16) {                                                                         \
            u64 x[2], y[2];                                                                                            \
            memcpy(x, (const u8 *)a + i, 16);                                                                          \
            memcpy(y, (const u8 *)b + i, 16);                                                                          \
            op(x, y);                                                                                                  \
            memcpy((u8 *)d + i, x, 16);                                                                                \
        }                                                                                                              \
    }
#define VEC_LANES_SSE_IMM(name, op)                                                                                    \
    HOT_INLINE void name##_lanes(void *d, const void *a, const void *b, unsigned imm, unsigned n)                      \
    {                                                                                                                  \
        for (unsigned i = 0; i < n; i += 16) {                                                                         \
            u64 x[2], y[2];                                                                                            \
            memcpy(x, (const u8 *)a + i, 16);                                                                          \
            memcpy(y, (const u8 *)b + i, 16);                                                                          \
            op(x, y, imm);                                                                                             \
            memcpy((u8 *)d + i, x, 16);                                                                                \
        }                                                                                                              \
    }

#endif
