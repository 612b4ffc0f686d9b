/* FXSAVE, FXRSTOR, the XSAVE family, XGETBV and XSETBV: images of the x87, SSE, AVX, protection-key, CET and user-interrupt state
 * in memory.
 *
 * Kept true: the whole area is probed before the first byte is written, and a restore changes nothing before all of
 * its image has been read and checked. The modified optimization is not used (components are saved whenever they are
 * in use), which the manual permits; the init optimization is.
 *
 * Follows [SDM1 "Managing State Using the XSAVE Feature Set"], [SDM1 "Operation of FXSAVE"], [SDM2 "FXRSTOR—…"].
 */
#include "cpu/cr.h"
#include "cpu/insn.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "cpu/operand.h"
#include "cpu/system.h"
#include "vmx/vmx.h"

#define MXCSR_MASK 0xffffu
#define MXCSR_INIT 0x1f80u
#define XSAVE_AREA_MAX 2696u               /* xsave_size_standard() of all components */
#define XCOMP_COMPACT BIT(63)

/* The UINTR component [SDM1 "UINTR State"]; UIF is the top bit of IA32_UINTR_MISC there. */
enum { UINTR_HANDLER = 0, UINTR_STACKADJUST = 8, UINTR_MISC = 16, UINTR_PD = 24, UINTR_RR = 32, UINTR_TT = 40 };
#define UINTR_MISC_UIF BIT(63)

/* Offsets in the legacy region */
enum { LEGACY_MXCSR = 24, LEGACY_ST = 32, LEGACY_XMM = 160, LEGACY_END = 416 };

static bool in_64bit(const struct insn *in) { return in->flags & INSN_64; }

/* Vector registers that instructions of this mode can name: the others are neither saved nor restored. */
static unsigned vector_count(const struct insn *in) { return in_64bit(in) ? 16 : 8; }

/* ---- x87 ------------------------------------------------------------------------------------------------------- */

/* The tag of a register that is not empty, from its contents: 0 valid, 1 zero, 2 special. */
static unsigned tag_of(u64 mantissa, u16 exponent)
{
    exponent &= 0x7fff;
    if (exponent == 0 && mantissa == 0)
        return 1;
    return exponent == 0 || exponent == 0x7fff || !(mantissa >> 63) ? 2 : 0;
}

/* Bytes 0-23 (control, pointers) and 32-159 (registers) of the legacy region. REX.W: 64-bit pointers instead of
 * selector:offset. */
static void x87_store(const struct cpu *cpu, const struct insn *in, u8 *area)
{
    const struct cpu_fpu *fpu = &cpu->fpu;
    unsigned top = fpu->fsw >> 11 & 7;

    memset(area, 0, LEGACY_MXCSR);
    store16(area, fpu->fcw);
    store16(area + 2, fpu->fsw);
    for (unsigned n = 0; n < 8; n++)
        area[4] |= (u8)(((fpu->ftw_full >> (2 * n) & 3) != 3) << n);
    store16(area + 6, fpu->fop);
    if (in->flags & INSN_REX_W) {
        store64(area + 8, fpu->fip);
        store64(area + 16, fpu->fdp);
    } else {
        store32(area + 8, (u32)fpu->fip);
        store16(area + 12, fpu->fcs);
        store32(area + 16, (u32)fpu->fdp);
        store16(area + 20, fpu->fds);
    }
    for (unsigned n = 0; n < 8; n++) {
        u8 *slot = area + LEGACY_ST + 16 * n;
        memset(slot, 0, 16);
        store64(slot, fpu->st[(top + n) & 7].mantissa);
        store16(slot + 8, fpu->st[(top + n) & 7].exponent);
    }
}

static void x87_load(struct cpu *cpu, const struct insn *in, const u8 *area)
{
    struct cpu_fpu *fpu = &cpu->fpu;

    fpu->fcw = (load16(area) & 0x1f7f) | 0x40;
    fpu->fsw = load16(area + 2);
    /* ES and B are a summary of the unmasked exceptions, whatever the image says. */
    fpu->fsw &= 0x7f7f;
    if (fpu->fsw & ~fpu->fcw & 0x3f)
        fpu->fsw |= 0x8080;
    fpu->fop = load16(area + 6) & 0x7ff;
    if (in->flags & INSN_REX_W) {
        fpu->fip = load64(area + 8);
        fpu->fdp = load64(area + 16);
        fpu->fcs = fpu->fds = 0;
    } else {
        fpu->fip = load32(area + 8);
        fpu->fcs = load16(area + 12);
        fpu->fdp = load32(area + 16);
        fpu->fds = load16(area + 20);
    }
    unsigned top = fpu->fsw >> 11 & 7;
    fpu->ftw_full = 0;
    for (unsigned n = 0; n < 8; n++) {
        const u8 *slot = area + LEGACY_ST + 16 * n;
        unsigned physical = (top + n) & 7;
        fpu->st[physical].mantissa = load64(slot);
        fpu->st[physical].exponent = load16(slot + 8);
        unsigned tag = area[4] >> physical & 1 ? tag_of(load64(slot), load16(slot + 8)) : 3;
        fpu->ftw_full |= (u16)(tag << (2 * physical));
    }
}

static void x87_init(struct cpu *cpu)
{
    struct cpu_fpu *fpu = &cpu->fpu;
    memset(fpu->st, 0, sizeof fpu->st);
    fpu->fcw = 0x37f;
    fpu->fsw = fpu->fop = fpu->fcs = fpu->fds = 0;
    fpu->fip = fpu->fdp = 0;
    fpu->ftw_full = 0xffff;
}

static bool x87_in_use(const struct cpu *cpu)
{
    const struct cpu_fpu *fpu = &cpu->fpu;
    u64 any = fpu->fsw | fpu->fop | fpu->fcs | fpu->fds | fpu->fip | fpu->fdp;
    for (unsigned n = 0; n < 8; n++)
        any |= fpu->st[n].mantissa | fpu->st[n].exponent;
    return any || fpu->fcw != 0x37f || fpu->ftw_full != 0xffff;
}

/* ---- components by number -------------------------------------------------------------------------------------- */

/* 64-bit words [first, first + count) of vector registers [from, to), to and from an image of 8 * count bytes each. */
static void vectors_store(const struct cpu *cpu, u8 *image, unsigned from, unsigned to, unsigned first, unsigned count)
{
    for (unsigned n = from; n < to; n++)
        memcpy(image + (size_t)(n - from) * 8 * count, &cpu->fpu.v[n][first], 8 * (size_t)count);
}

static void vectors_load(struct cpu *cpu, const u8 *image, unsigned from, unsigned to, unsigned first, unsigned count)
{
    for (unsigned n = from; n < to; n++)
        memcpy(&cpu->fpu.v[n][first], image + (size_t)(n - from) * 8 * count, 8 * (size_t)count);
}

static bool vectors_in_use(const struct cpu *cpu, unsigned from, unsigned to, unsigned first, unsigned count)
{
    u64 any = 0;
    for (unsigned n = from; n < to; n++)
        for (unsigned w = first; w < first + count; w++)
            any |= cpu->fpu.v[n][w];
    return any != 0;
}

/* Saves component n to its image. Only what registers of this mode cover is written. */
static void component_store(const struct cpu *cpu, const struct insn *in, unsigned n, u8 *image)
{
    switch (n) {
    case XSTATE_AVX:
        vectors_store(cpu, image, 0, vector_count(in), 2, 2);
        break;
    case XSTATE_OPMASK:
        memcpy(image, cpu->fpu.k, sizeof cpu->fpu.k);
        break;
    case XSTATE_ZMM_HI256:
        vectors_store(cpu, image, 0, vector_count(in), 4, 4);
        break;
    case XSTATE_HI16_ZMM:
        if (in_64bit(in))
            vectors_store(cpu, image, 16, 32, 0, 8);
        break;
    case XSTATE_PKRU:
        store64(image, (u32)cpu->sys.pkru);
        break;
    case XSTATE_CET_U:
        store64(image, cpu->sys.u_cet);
        store64(image + 8, cpu->sys.pl_ssp[3]);
        break;
    case XSTATE_CET_S:
        for (unsigned level = 0; level < 3; level++)
            store64(image + 8 * level, cpu->sys.pl_ssp[level]);
        break;
    case XSTATE_UINTR:
        store64(image + UINTR_HANDLER, cpu->sys.uintr_handler);
        store64(image + UINTR_STACKADJUST, cpu->sys.uintr_stackadjust);
        store64(image + UINTR_MISC, cpu->sys.uintr_misc | (cpu->sys.uif ? UINTR_MISC_UIF : 0));
        store64(image + UINTR_PD, cpu->sys.uintr_pd);
        store64(image + UINTR_RR, cpu->sys.uintr_rr);
        store64(image + UINTR_TT, cpu->sys.uintr_tt);
        break;
    default:
        break;
    }
}

/* Loads component n from its image. */
static void component_load(struct cpu *cpu, const struct insn *in, unsigned n, const u8 *image)
{
    switch (n) {
    case XSTATE_AVX:
        vectors_load(cpu, image, 0, vector_count(in), 2, 2);
        break;
    case XSTATE_OPMASK:
        memcpy(cpu->fpu.k, image, sizeof cpu->fpu.k);
        break;
    case XSTATE_ZMM_HI256:
        vectors_load(cpu, image, 0, vector_count(in), 4, 4);
        break;
    case XSTATE_HI16_ZMM:
        if (in_64bit(in))
            vectors_load(cpu, image, 16, 32, 0, 8);
        break;
    case XSTATE_PKRU:
        cpu_write_pkru(cpu, load32(image));
        break;
    case XSTATE_CET_U:
        cpu->sys.u_cet = load64(image);
        cpu->sys.pl_ssp[3] = load64(image + 8);
        break;
    case XSTATE_CET_S:
        for (unsigned level = 0; level < 3; level++)
            cpu->sys.pl_ssp[level] = load64(image + 8 * level);
        break;
    case XSTATE_UINTR:
        cpu->sys.uintr_handler = load64(image + UINTR_HANDLER);
        cpu->sys.uintr_stackadjust = load64(image + UINTR_STACKADJUST);
        cpu->sys.uintr_misc = load64(image + UINTR_MISC) & UINTR_MISC_BITS;
        cpu->sys.uif = (load64(image + UINTR_MISC) & UINTR_MISC_UIF) != 0;
        cpu->sys.uintr_pd = load64(image + UINTR_PD);
        cpu->sys.uintr_rr = load64(image + UINTR_RR);
        cpu->sys.uintr_tt = load64(image + UINTR_TT);
        cpu_recognize_user_interrupt(cpu);
        break;
    default:
        break;
    }
}

/* Values that WRMSR would refuse make XRSTORS fail. */
static bool component_valid(const struct cpu *cpu, unsigned n, const u8 *image)
{
    if (n == XSTATE_CET_U)
        return cpu_cet_valid(cpu, load64(image)) && cpu_ssp_valid(cpu, load64(image + 8));
    if (n == XSTATE_CET_S)
        return cpu_ssp_valid(cpu, load64(image)) && cpu_ssp_valid(cpu, load64(image + 8)) && cpu_ssp_valid(cpu, load64(image + 16));
    if (n == XSTATE_UINTR)
        return cpu_canonical_wide(cpu, load64(image + UINTR_HANDLER)) && cpu_canonical_wide(cpu, load64(image + UINTR_STACKADJUST)) &&
               !(load64(image + UINTR_MISC) & ~(UINTR_MISC_BITS | UINTR_MISC_UIF)) &&
               cpu_uintr_pd_valid(cpu, load64(image + UINTR_PD)) && cpu_uintr_tt_valid(cpu, load64(image + UINTR_TT));
    return true;
}

/* XINUSE: the components that are not in their initial configuration [SDM1 "Initial Configuration of …"]. */
static u64 components_in_use(const struct cpu *cpu)
{
    u64 mask = 0;
    mask |= x87_in_use(cpu) ? BIT(XSTATE_X87) : 0;
    mask |= vectors_in_use(cpu, 0, 16, 0, 2) ? BIT(XSTATE_SSE) : 0;
    if (cpu_has(cpu, FEATURE_AVX))
        mask |= vectors_in_use(cpu, 0, 16, 2, 2) ? BIT(XSTATE_AVX) : 0;
    if (cpu_has(cpu, FEATURE_AVX512F)) {
        u64 k = 0;
        for (unsigned n = 0; n < 8; n++)
            k |= cpu->fpu.k[n];
        mask |= k ? BIT(XSTATE_OPMASK) : 0;
        mask |= vectors_in_use(cpu, 0, 16, 4, 4) ? BIT(XSTATE_ZMM_HI256) : 0;
        mask |= vectors_in_use(cpu, 16, 32, 0, 8) ? BIT(XSTATE_HI16_ZMM) : 0;
    }
    mask |= (u32)cpu->sys.pkru ? BIT(XSTATE_PKRU) : 0;
    mask |= cpu->sys.u_cet | cpu->sys.pl_ssp[3] ? BIT(XSTATE_CET_U) : 0;
    mask |= cpu->sys.pl_ssp[0] | cpu->sys.pl_ssp[1] | cpu->sys.pl_ssp[2] ? BIT(XSTATE_CET_S) : 0;
    const struct cpu_sys *sys = &cpu->sys;
    mask |= sys->uintr_handler | sys->uintr_stackadjust | sys->uintr_misc | sys->uintr_pd | sys->uintr_rr | sys->uintr_tt | sys->uif ?
        BIT(XSTATE_UINTR) : 0;
    return mask;
}

/* Where component n (2 and up) lies in an area of either format; compacted areas hold those of xcomp. */
static u32 component_offset(unsigned n, bool compact, u64 xcomp)
{
    u32 offset = XSAVE_LEGACY + XSAVE_HEADER;
    if (!compact)
        return xstate_components[n].offset;
    for (unsigned m = XSTATE_AVX; m <= n; m++) {
        if (!(xcomp >> m & 1))
            continue;
        if (xstate_components[m].aligned)
            offset = (offset + 63) & ~63u;
        if (m == n)
            break;
        offset += xstate_components[m].size;
    }
    return offset;
}

/* ---- FXSAVE and FXRSTOR ---------------------------------------------------------------------------------------- */

/* The exceptions that precede memory: #UD by CR0.EM, #NM by CR0.TS. */
static enum flow fx_checks(struct cpu *cpu)
{
    if (cpu->sys.cr0 & CR0_EM)
        return cpu_raise_ud(cpu);
    if (cpu->sys.cr0 & CR0_TS)
        return cpu_raise_nm(cpu);
    return FLOW_NEXT;
}

static enum flow fxsave(struct cpu *cpu, const struct insn *in)
{
    u8 area[LEGACY_END];
    u64 la;
    enum flow flow = fx_checks(cpu);
    if (flow != FLOW_NEXT)
        return flow;
    TRY(ea_la(cpu, in, XSAVE_LEGACY, ACCESS_WRITE, &la));
    if (la & 15)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_probe(cpu, la, XSAVE_LEGACY, ACCESS_WRITE));
    x87_store(cpu, in, area);
    store32(area + LEGACY_MXCSR, cpu->fpu.mxcsr);
    store32(area + LEGACY_MXCSR + 4, MXCSR_MASK);
    unsigned end = LEGACY_XMM;
    if (cpu->sys.cr4 & CR4_OSFXSR) {
        vectors_store(cpu, area + LEGACY_XMM, 0, vector_count(in), 0, 2);
        end += 16 * vector_count(in);
    }
    TRY(mem_write(cpu, la, area, end));
    return FLOW_NEXT;
}
FAMILY_ONE(fxsave, fxsave)

static enum flow fxrstor(struct cpu *cpu, const struct insn *in)
{
    u8 area[XSAVE_LEGACY];
    u64 la;
    enum flow flow = fx_checks(cpu);
    if (flow != FLOW_NEXT)
        return flow;
    TRY(ea_la(cpu, in, XSAVE_LEGACY, ACCESS_READ, &la));
    if (la & 15)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_read(cpu, la, area, sizeof area));
    if (cpu->sys.cr4 & CR4_OSFXSR) {
        u32 mxcsr = load32(area + LEGACY_MXCSR);
        if (mxcsr & ~MXCSR_MASK)
            return cpu_raise_gp(cpu, 0);
        cpu->fpu.mxcsr = mxcsr;
        vectors_load(cpu, area + LEGACY_XMM, 0, vector_count(in), 0, 2);
    }
    x87_load(cpu, in, area);
    return FLOW_NEXT;
}
FAMILY_ONE(fxrstor, fxrstor)

/* ---- XSAVE, XSAVEOPT, XSAVEC, XSAVES --------------------------------------------------------------------------- */

static u64 edx_eax(const struct cpu *cpu) { return (u64)reg32(cpu, REG_RDX) << 32 | reg32(cpu, REG_RAX); }

/* #UD by CR4.OSXSAVE, #NM by CR0.TS. */
static enum flow xsave_checks(struct cpu *cpu)
{
    if (!(cpu->sys.cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    if (cpu->sys.cr0 & CR0_TS)
        return cpu_raise_nm(cpu);
    return FLOW_NEXT;
}

/* What only the supervisor forms check, before the above. [SDM3 "XSS-Exiting Bitmap"] */
static enum flow xsaves_checks(struct cpu *cpu, const struct insn *in, u32 reason)
{
    enum flow flow = system_gate_closed(cpu, GATE_XSAVES) ? cpu_raise_ud(cpu) : xsave_checks(cpu);
    if (flow != FLOW_NEXT)
        return flow;
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (UNLIKELY(vmx_nonroot(cpu))) {
        struct vmx_ask ask = {.reason = reason, .value = edx_eax(cpu) & cpu->sys.xss,
                              .qualification = system_displacement(cpu, in)};
        if (vmx_intercept(cpu, in, &ask))
            return FLOW_EXIT;
    }
    return FLOW_NEXT;
}

/* Saves the components `rfbm` in the standard or the compacted format: all of them, or only those in use. */
static enum flow save_area(struct cpu *cpu, const struct insn *in, bool compact, u64 rfbm, bool all)
{
    u8 area[XSAVE_AREA_MAX], old[8];
    u64 la, in_use = components_in_use(cpu), xcomp = compact ? rfbm | XCOMP_COMPACT : 0;
    u32 size = compact ? xsave_size_compacted(rfbm) : xsave_size_standard(rfbm);

    TRY(ea_la(cpu, in, size, ACCESS_WRITE, &la));
    if (la & 63)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_probe(cpu, la, size, ACCESS_WRITE));

    /* In the compacted forms MXCSR counts as part of SSE's state; in the standard ones it is saved beside it. */
    if (compact && cpu->fpu.mxcsr != MXCSR_INIT)
        in_use |= BIT(XSTATE_SSE);
    u64 saved = rfbm & (all ? ~0ull : in_use);
    bool mxcsr = compact ? saved >> XSTATE_SSE & 1 : (rfbm & (BIT(XSTATE_SSE) | BIT(XSTATE_AVX))) != 0;

    if (saved & BIT(XSTATE_X87)) {
        x87_store(cpu, in, area);
        TRY(mem_write(cpu, la, area, LEGACY_MXCSR) &&
            mem_write(cpu, la + LEGACY_ST, area + LEGACY_ST, LEGACY_XMM - LEGACY_ST));
    }
    if (mxcsr) {
        store32(area, cpu->fpu.mxcsr);
        store32(area + 4, MXCSR_MASK);
        TRY(mem_write(cpu, la + LEGACY_MXCSR, area, 8));
    }
    if (saved & BIT(XSTATE_SSE)) {
        vectors_store(cpu, area, 0, vector_count(in), 0, 2);
        TRY(mem_write(cpu, la + LEGACY_XMM, area, 16 * vector_count(in)));
    }
    for (unsigned n = XSTATE_AVX; n < XSTATE_COUNT; n++) {
        if (!(saved >> n & 1))
            continue;
        unsigned bytes = xstate_components[n].size;
        if (!in_64bit(in) && n != XSTATE_OPMASK && n < XSTATE_PKRU)
            bytes = n == XSTATE_HI16_ZMM ? 0 : bytes / 2;
        component_store(cpu, in, n, area);
        if (bytes)
            TRY(mem_write(cpu, la + component_offset(n, compact, xcomp), area, bytes));
    }

    u64 xstate_bv = in_use & rfbm;
    if (!compact) {
        TRY(mem_read(cpu, la + XSAVE_LEGACY, old, 8));
        xstate_bv |= load64(old) & ~rfbm;
    }
    store64(area, xstate_bv);
    store64(area + 8, xcomp);
    TRY(mem_write(cpu, la + XSAVE_LEGACY, area, compact ? 16 : 8));
    return FLOW_NEXT;
}

static enum flow xsave(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsave_checks(cpu);
    return flow != FLOW_NEXT ? flow : save_area(cpu, in, false, edx_eax(cpu) & cpu->sys.xcr0, true);
}
FAMILY_ONE(xsave, xsave)

static enum flow xsaveopt(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsave_checks(cpu);
    return flow != FLOW_NEXT ? flow : save_area(cpu, in, false, edx_eax(cpu) & cpu->sys.xcr0, false);
}
FAMILY_ONE(xsaveopt, xsaveopt)

static enum flow xsavec(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsave_checks(cpu);
    return flow != FLOW_NEXT ? flow : save_area(cpu, in, true, edx_eax(cpu) & cpu->sys.xcr0, false);
}
FAMILY_ONE(xsavec, xsavec)

static enum flow xsaves(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsaves_checks(cpu, in, EXIT_XSAVES);
    if (flow == FLOW_NEXT)
        flow = save_area(cpu, in, true, edx_eax(cpu) & (cpu->sys.xcr0 | cpu->sys.xss), false);
    if (flow == FLOW_NEXT && edx_eax(cpu) & cpu->sys.xss & BIT(XSTATE_UINTR))
        cpu->sys.uintr_misc = (u32)cpu->sys.uintr_misc;    /* UINV is cleared: what is saved must not change any more */
    return flow;
}
FAMILY_ONE(xsaves, xsaves)

/* ---- XRSTOR, XRSTORS ------------------------------------------------------------------------------------------- */

static void component_init(struct cpu *cpu, const struct insn *in, unsigned n)
{
    static const u8 zeros[1024];
    if (n == XSTATE_X87)
        x87_init(cpu);
    else if (n == XSTATE_SSE)
        vectors_load(cpu, zeros, 0, vector_count(in), 0, 2);
    else
        component_load(cpu, in, n, zeros);
}

static enum flow restore_area(struct cpu *cpu, const struct insn *in, u64 enabled, bool supervisor)
{
    u8 area[XSAVE_AREA_MAX];
    u64 la, rfbm = edx_eax(cpu) & enabled;

    TRY(ea_la(cpu, in, XSAVE_LEGACY + XSAVE_HEADER, ACCESS_READ, &la));
    if (la & 63)
        return cpu_raise_gp(cpu, 0);
    TRY(mem_read(cpu, la, area, XSAVE_LEGACY + XSAVE_HEADER));
    u64 xstate_bv = load64(area + XSAVE_LEGACY), xcomp = load64(area + XSAVE_LEGACY + 8);
    bool compact = xcomp & XCOMP_COMPACT;
    u64 reserved = 0;
    for (unsigned n = compact ? 2 : 1; n < (compact ? 8u : 3u); n++)
        reserved |= load64(area + XSAVE_LEGACY + 8 * n);
    bool valid;
    if (compact)
        valid = cpu_has(cpu, FEATURE_XSAVEC) && !(xcomp & ~(enabled | XCOMP_COMPACT)) && !(xstate_bv & ~(xcomp & enabled));
    else
        valid = !supervisor && !(xstate_bv & ~enabled);
    if (!valid || reserved)
        return cpu_raise_gp(cpu, 0);
    /* UINV has to be 0 before user-interrupt state is restored. */
    if (rfbm & BIT(XSTATE_UINTR) && cpu->sys.uintr_misc >> UINTR_UINV_SHIFT)
        return cpu_raise_gp(cpu, 0);

    /* The components that must be read; only their bytes can fault. */
    u64 loaded = rfbm & xstate_bv;
    u32 end = XSAVE_LEGACY + XSAVE_HEADER, part = end;
    for (unsigned n = XSTATE_AVX; n < XSTATE_COUNT; n++)
        if (loaded >> n & 1) {
            u32 last = component_offset(n, compact, xcomp) + xstate_components[n].size;
            end = last > end ? last : end;
        }
    if (end > part) {
        TRY(ea_la(cpu, in, end, ACCESS_READ, &la));
        for (unsigned n = XSTATE_AVX; n < XSTATE_COUNT; n++) {
            u32 offset = component_offset(n, compact, xcomp);
            if (loaded >> n & 1)
                TRY(mem_read(cpu, la + offset, area + offset, xstate_components[n].size));
        }
        for (unsigned n = XSTATE_CET_U; n <= XSTATE_UINTR; n++)
            if (loaded >> n & 1 && !component_valid(cpu, n, area + component_offset(n, compact, xcomp)))
                return cpu_raise_gp(cpu, 0);
    }

    u32 mxcsr = cpu->fpu.mxcsr;
    if (compact ? loaded >> XSTATE_SSE & 1 : (rfbm & (BIT(XSTATE_SSE) | BIT(XSTATE_AVX))) != 0) {
        mxcsr = load32(area + LEGACY_MXCSR);
        if (mxcsr & ~MXCSR_MASK)
            return cpu_raise_gp(cpu, 0);
    } else if (compact && rfbm >> XSTATE_SSE & 1) {
        mxcsr = MXCSR_INIT;
    }

    cpu->fpu.mxcsr = mxcsr;
    for (unsigned n = 0; n < XSTATE_COUNT; n++) {
        if (!(rfbm >> n & 1))
            continue;
        if (!(loaded >> n & 1))
            component_init(cpu, in, n);
        else if (n == XSTATE_X87)
            x87_load(cpu, in, area);
        else if (n == XSTATE_SSE)
            vectors_load(cpu, area + LEGACY_XMM, 0, vector_count(in), 0, 2);
        else
            component_load(cpu, in, n, area + component_offset(n, compact, xcomp));
    }
    return flow_end(cpu, in);              /* PKRU may have changed; IA32_U_CET does not count at CPL 0 */
}

static enum flow xrstor(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsave_checks(cpu);
    return flow != FLOW_NEXT ? flow : restore_area(cpu, in, cpu->sys.xcr0, false);
}
FAMILY_ONE(xrstor, xrstor)

static enum flow xrstors(struct cpu *cpu, const struct insn *in)
{
    enum flow flow = xsaves_checks(cpu, in, EXIT_XRSTORS);
    return flow != FLOW_NEXT ? flow : restore_area(cpu, in, cpu->sys.xcr0 | cpu->sys.xss, true);
}
FAMILY_ONE(xrstors, xrstors)

/* ---- XCR0 ------------------------------------------------------------------------------------------------------ */

static enum flow xgetbv(struct cpu *cpu, const struct insn *in)
{
    (void)in;
    u32 number = reg32(cpu, REG_RCX);
    u64 value;
    if (!(cpu->sys.cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    if (number == 0)
        value = cpu->sys.xcr0;
    else if (number == 1 && cpu_has(cpu, FEATURE_XGETBV1))
        value = cpu->sys.xcr0 & (components_in_use(cpu) | (cpu->fpu.mxcsr != MXCSR_INIT ? BIT(XSTATE_SSE) : 0));
    else
        return cpu_raise_gp(cpu, 0);
    reg32_set(cpu, REG_RAX, (u32)value);
    reg32_set(cpu, REG_RDX, (u32)(value >> 32));
    return FLOW_NEXT;
}
FAMILY_ONE(xgetbv, xgetbv)

static enum flow xsetbv(struct cpu *cpu, const struct insn *in)
{
    if (!(cpu->sys.cr4 & CR4_OSXSAVE))
        return cpu_raise_ud(cpu);
    if (!cpl0(cpu))
        return cpu_raise_gp(cpu, 0);
    if (vmx_intercept_simple(cpu, in, EXIT_XSETBV))
        return FLOW_EXIT;
    u64 value = edx_eax(cpu);
    if (reg32(cpu, REG_RCX) || !cpu_xcr0_valid(cpu, value))
        return cpu_raise_gp(cpu, 0);
    cpu->sys.xcr0 = value;
    return flow_end(cpu, in);
}
FAMILY_ONE(xsetbv, xsetbv)
