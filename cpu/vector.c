/* The parts of vector instructions that need not be inline: masked and broadcast memory operands, masked destinations,
 * and why the gate is closed (cpu/vector.h).
 *
 * Kept true: a masked element of memory is neither read, written nor checked, except that a range whose translation is
 * at hand, in RAM, is read whole, which nothing can see; a masked store checks all of its elements before it writes
 * the first.
 * [SDM2 "Masking", "Exception Classifications of EVEX-Encoded Instructions"]
 */
#include "cpu/vector.h"

enum flow vec_unavailable(struct cpu *cpu, u64 xcr0)
{
    if (!cpu->mode.protected_mode || !(cpu->sys.cr4 & CR4_OSXSAVE) || (cpu->sys.xcr0 & xcr0) != xcr0)
        return cpu_raise_ud(cpu);
    return cpu_raise_nm(cpu);
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

bool vec_element_la(struct cpu *cpu, const struct insn *in, u64 offset, unsigned bytes, unsigned access, u64 *la)
{
    if (LIKELY(in->flags & INSN_FLAT)) {
        if (!ea_la(cpu, in, bytes, access, la))
            return false;
        *la += offset;
        return true;
    }
    return seg_la(cpu, in->arch_seg, (ea_offset(cpu, in) + offset) & mask_low(8u << in->asz), bytes, access, la);
}

bool vec_aligned_la(struct cpu *cpu, const struct insn *in, unsigned n, unsigned access, u64 *la)
{
    if (!ea_la(cpu, in, n, access, la))
        return false;
    if (LIKELY(!(*la & (n - 1))))
        return true;
    cpu->fault = (struct mem_fault){.kind = FAULT_GP0};    /* whatever its segment */
    return false;
}

/* The host address of the whole operand if its translation is at hand for reading or writing; only flat operands,
 * whose elements have no segment checks. */
static u8 *at_hand(struct cpu *cpu, const struct insn *in, unsigned n, bool write)
{
    u64 la;
    if (!(in->flags & INSN_FLAT) || !ea_la(cpu, in, n, ACCESS_READ, &la))
        return NULL;
    const struct tlb_entry *e = tlb_entry_of(cpu, la);
    return (write ? e->write : e->read) == tlb_key(cpu, la, n) ? tlb_host(e, la) : NULL;
}

static bool load_broadcast(struct cpu *cpu, const struct insn *in, u8 *to, unsigned n, unsigned esize, u64 mask)
{
    u64 la;
    if (!mask)
        return true;
    if (!vec_element_la(cpu, in, 0, esize, ACCESS_READ, &la) || !mem_read(cpu, la, to, esize))
        return false;
    for (unsigned i = esize; i < n; i += esize)
        memcpy(to + i, to, esize);
    return true;
}

bool vec_load(struct cpu *cpu, const struct insn *in, void *data, unsigned n, unsigned esize, u64 mask)
{
    u8 *to = data;
    unsigned lanes = n / esize;
    memset(to, 0, VEC_BYTES);
    if (!(in->flags & INSN_MEM)) {
        memcpy(to, vec_reg(cpu, in->rm), n);
        return true;
    }
    mask &= mask_low(lanes);
    if (in->flags & INSN_EVEX_B)
        return load_broadcast(cpu, in, to, n, esize, mask);
    const u8 *host = at_hand(cpu, in, n, false);
    if (LIKELY(host != NULL)) {
        memcpy(to, host, n);
        return true;
    }
    if (mask == mask_low(lanes))
        return rm_read_bytes(cpu, in, to, n);
    for (unsigned i = 0; i < lanes; i++) {
        u64 la;
        if (!(mask >> i & 1))
            continue;
        if (!vec_element_la(cpu, in, (u64)i * esize, esize, ACCESS_READ, &la) || !vec_element_read(cpu, la, to + i * esize, esize))
            return false;
    }
    return true;
}

bool vec_store(struct cpu *cpu, const struct insn *in, const void *data, unsigned n, unsigned esize, u64 mask)
{
    const u8 *from = data;
    unsigned lanes = n / esize;
    u64 la[VEC_BYTES];
    mask &= mask_low(lanes);
    if (mask == mask_low(lanes))
        return rm_write_bytes(cpu, in, data, n);
    u8 *host = at_hand(cpu, in, n, true);
    for (unsigned i = 0; host == NULL && i < lanes; i++)
        if (mask >> i & 1 && !(vec_element_la(cpu, in, (u64)i * esize, esize, ACCESS_WRITE, &la[i]) &&
                               mem_probe(cpu, la[i], esize, ACCESS_WRITE | ACCESS_UNALIGNED)))
            return false;
    for (unsigned i = 0; i < lanes; i++) {
        if (!(mask >> i & 1))
            continue;
        if (host)
            memcpy(host + i * esize, from + i * esize, esize);
        else if (!vec_element_write(cpu, la[i], from + i * esize, esize))
            return false;
    }
    return true;
}

/* ---- destinations ------------------------------------------------------------------------------------------------ */

void vec_commit(struct cpu *cpu, const struct insn *in, const void *data, unsigned n, unsigned esize, u64 mask)
{
    u8 *d = vec_reg(cpu, in->reg);
    const u8 *from = data;
    unsigned lanes = n / esize;
    if ((mask & mask_low(lanes)) == mask_low(lanes)) {
        vec_put(cpu, in->reg, data, n);
        return;
    }
    for (unsigned i = 0; i < lanes; i++) {
        if (mask >> i & 1)
            memcpy(d + i * esize, from + i * esize, esize);
        else if (in->flags & INSN_EVEX_Z)
            memset(d + i * esize, 0, esize);
    }
    vec_clear_above(cpu, in->reg, n);
}

enum flow vec_run_general(struct cpu *cpu, const struct insn *in, unsigned esize, unsigned bsize, vec_operation *const op[3])
{
    unsigned n = vec_bytes(in);
    u64 mask = vec_mask(cpu, in, n / esize);
    u8 b[VEC_BYTES], r[VEC_BYTES];
    VEC_GATE();
    TRY(vec_load(cpu, in, b, n, bsize, bsize == esize ? vec_memory_mask(cpu, in, n / esize) : ~0ull));
    memcpy(r, vec_reg(cpu, in->reg), sizeof r);
    op[in->vl](r, vec_reg(cpu, in->vvvv), b, (u8)in->imm);
    vec_commit(cpu, in, r, n, esize, mask);
    return FLOW_NEXT;
}
