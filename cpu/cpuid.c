/* CPUID.
 *
 * Every answer is computed from the enabled features (bits of cpu->feature), the model's row (cpu/models.def) and the
 * registers that CPUID reflects (CR4, XCR0, IA32_XSS, IA32_APIC_BASE, IA32_MISC_ENABLE). What a hypervisor or a policy
 * shows instead is vmx/'s business.
 *
 * Follows [SDM2 "CPUID—CPU Identification"], [SDM1 "Enumeration of CPU Support for XSAVE Instructions and
 * XSAVE-Supported Features"].
 */
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/pmu.h"

#include <stdio.h>

/* ---- extended states ------------------------------------------------------------------------------------------- */

const struct xstate_component xstate_components[XSTATE_COUNT] = {
    [XSTATE_X87]       = {.exists = 1, .feature = FEATURE_FPU,     .size = 160,  .offset = 0},
    [XSTATE_SSE]       = {.exists = 1, .feature = FEATURE_SSE,     .size = 256,  .offset = 160},
    [XSTATE_AVX]       = {.exists = 1, .feature = FEATURE_AVX,     .size = 256,  .offset = 576},
    [XSTATE_OPMASK]    = {.exists = 1, .feature = FEATURE_AVX512F, .size = 64,   .offset = 1088},
    [XSTATE_ZMM_HI256] = {.exists = 1, .feature = FEATURE_AVX512F, .size = 512,  .offset = 1152},
    [XSTATE_HI16_ZMM]  = {.exists = 1, .feature = FEATURE_AVX512F, .size = 1024, .offset = 1664},
    [XSTATE_PKRU]      = {.exists = 1, .feature = FEATURE_PKU,     .size = 8,    .offset = 2688},
    [XSTATE_CET_U]     = {.exists = 1, .feature = FEATURE_CET_SS,  .size = 16,   .supervisor = 1},
    [XSTATE_CET_S]     = {.exists = 1, .feature = FEATURE_CET_SS,  .size = 24,   .supervisor = 1},
    [XSTATE_UINTR]     = {.exists = 1, .feature = FEATURE_UINTR,   .size = 48,   .supervisor = 1},
};

static u64 xstate_allowed(const struct cpu *cpu, bool supervisor)
{
    u64 mask = 0;
    if (!cpu_has(cpu, FEATURE_XSAVE))
        return 0;
    for (unsigned n = 0; n < XSTATE_COUNT; n++) {
        const struct xstate_component *c = &xstate_components[n];
        if (c->exists && c->supervisor == supervisor && cpu_has(cpu, c->feature))
            mask |= BIT(n);
    }
    return mask;
}

u64 cpu_xcr0_allowed(const struct cpu *cpu) { return xstate_allowed(cpu, false); }

u64 cpu_xss_allowed(const struct cpu *cpu) { return cpu_has(cpu, FEATURE_XSAVES) ? xstate_allowed(cpu, true) : 0; }

bool cpu_xcr0_valid(const struct cpu *cpu, u64 value)
{
    u64 avx512 = BIT(XSTATE_OPMASK) | BIT(XSTATE_ZMM_HI256) | BIT(XSTATE_HI16_ZMM);
    if (value & ~cpu_xcr0_allowed(cpu) || !(value & BIT(XSTATE_X87)))
        return false;
    if (value & BIT(XSTATE_AVX) && !(value & BIT(XSTATE_SSE)))
        return false;
    return !(value & avx512) || ((value & avx512) == avx512 && value & BIT(XSTATE_AVX));
}

u32 xsave_size_standard(u64 mask)
{
    u32 size = XSAVE_LEGACY + XSAVE_HEADER;
    for (unsigned n = XSTATE_AVX; n < XSTATE_COUNT; n++) {
        u32 end = (u32)xstate_components[n].offset + xstate_components[n].size;
        if (mask >> n & 1 && end > size)
            size = end;
    }
    return size;
}

u32 xsave_size_compacted(u64 mask)
{
    u32 size = XSAVE_LEGACY + XSAVE_HEADER;
    for (unsigned n = XSTATE_AVX; n < XSTATE_COUNT; n++)
        if (mask >> n & 1)
            size = (xstate_components[n].aligned ? (size + 63) & ~63u : size) + xstate_components[n].size;
    return size;
}

/* ---- CPUID ----------------------------------------------------------------------------------------------------- */

enum { R_NONE, R_EAX, R_EBX, R_ECX, R_EDX };

/* The enabled feature flags of one register of one leaf. Called with constants, so only that leaf's rows remain. */
HOT_INLINE u32 feature_word(const struct cpu *cpu, u32 leaf, u32 subleaf, unsigned reg)
{
    u32 word = 0;
#define FEATURE(name, text, leaf_, subleaf_, reg_, bit)                                                                \
    if (reg_ != R_NONE && leaf_ == leaf && subleaf_ == subleaf && reg_ == reg && cpu_has(cpu, FEATURE_##name))         \
        word |= 1u << (bit);
#include "cpu/features.def"
#undef FEATURE
    return word;
}

static unsigned cpu_count(const struct cpu *cpu) { return cpu->cpu_count ? cpu->cpu_count : 1; }

/* Bits of an APIC ID that number `count` things: ceil(log2(count)). */
static unsigned id_bits(unsigned count)
{
    unsigned bits = 0;
    while (1u << bits < count)
        bits++;
    return bits;
}

static struct cpuid_result leaf_1(const struct cpu *cpu)
{
    const struct cpu_sys *sys = &cpu->sys;
    unsigned count = cpu_count(cpu), ids = 1u << id_bits(count);
    struct cpuid_result r = {.eax = cpu_model_of(cpu)->signature,
                             .ecx = feature_word(cpu, 1, 0, R_ECX), .edx = feature_word(cpu, 1, 0, R_EDX)};
    r.ebx = (cpu_has(cpu, FEATURE_CLFLUSH) ? 8u << 8 : 0) | (ids > 255 ? 255u : ids) << 16;
    r.ebx |= (u32)(cpu->index & 0xff) << 24;                /* initial APIC ID */
    if (count > 1)
        r.edx |= 1u << 28;                                  /* HTT: EBX[23:16] is valid */
    if (sys->cr4 & CR4_OSXSAVE)
        r.ecx |= 1u << 27;
    if (!(sys->misc_enable & MISC_ENABLE_MONITOR))
        r.ecx &= ~(1u << 3);
    if (!(sys->apic_base & APIC_BASE_ENABLE))
        r.edx &= ~(1u << 9);
    return r;
}

static struct cpuid_result leaf_4_cache(const struct cpu *cpu, u32 subleaf)
{
    const struct cpu_model *model = cpu_model_of(cpu);
    unsigned ids = 1u << id_bits(cpu_count(cpu));
    if (subleaf >= ARRAY_SIZE(model->cache) || !model->cache[subleaf].type)
        return (struct cpuid_result){0};
    const struct cpu_cache *cache = &model->cache[subleaf];
    unsigned sharing = cache->shared ? ids : 1;
    return (struct cpuid_result){
        .eax = cache->type | (u32)cache->level << 5 | 1u << 8 | ((sharing - 1) & 0xfff) << 14 |
               ((ids > 64 ? 64 : ids) - 1) << 26,
        .ebx = 63u | (cache->ways - 1u) << 22,
        .ecx = cache->sets - 1u,
        .edx = cache->shared ? 1u << 1 : 0,                 /* inclusive of the lower levels */
    };
}

/* The second-level cache as 80000006H tells it: KiB, associativity (a code), bytes a line. */
static u32 leaf_80000006_cache(const struct cpu *cpu)
{
    for (unsigned n = 0; n < ARRAY_SIZE(cpu_model_of(cpu)->cache); n++) {
        const struct cpu_cache *cache = &cpu_model_of(cpu)->cache[n];
        unsigned code = cache->ways == 8 ? 6 : cache->ways == 16 ? 8 : 7 /* see leaf 4 */;
        if (cache->level == 2)
            return cache->sets * cache->ways / 16 << 16 | code << 12 | 64u;
    }
    return 0;
}

/* One thread a core, all cores in one package. */
static struct cpuid_result leaf_b_topology(const struct cpu *cpu, u32 subleaf)
{
    struct cpuid_result r = {.ecx = subleaf & 0xff, .edx = cpu->index};
    if (!cpu_has(cpu, FEATURE_X2APIC))
        return (struct cpuid_result){0};
    if (subleaf == 0) {
        r.ebx = 1;
        r.ecx |= 1u << 8;                                   /* SMT */
    } else if (subleaf == 1) {
        r.eax = id_bits(cpu_count(cpu));
        r.ebx = cpu_count(cpu);
        r.ecx |= 2u << 8;                                   /* core */
    }
    return r;
}

static struct cpuid_result leaf_d_xsave(const struct cpu *cpu, u32 subleaf)
{
    u64 user = cpu_xcr0_allowed(cpu), supervisor = cpu_xss_allowed(cpu);
    struct cpuid_result r = {0};
    if (!cpu_has(cpu, FEATURE_XSAVE))
        return r;
    if (subleaf == 0) {
        r.eax = (u32)user;
        r.ebx = xsave_size_standard(cpu->sys.xcr0);
        r.ecx = xsave_size_standard(user);
        r.edx = (u32)(user >> 32);
    } else if (subleaf == 1) {
        r.eax = feature_word(cpu, 0xd, 1, R_EAX);
        if (cpu_has(cpu, FEATURE_XSAVEC))
            r.ebx = xsave_size_compacted(cpu->sys.xcr0 | cpu->sys.xss);
        r.ecx = (u32)supervisor;
        r.edx = (u32)(supervisor >> 32);
    } else if (subleaf < XSTATE_COUNT && (user | supervisor) >> subleaf & 1) {
        const struct xstate_component *c = &xstate_components[subleaf];
        r.eax = c->size;
        r.ebx = c->supervisor ? 0 : c->offset;
        r.ecx = c->supervisor | (u32)c->aligned << 1;
    }
    return r;
}

static struct cpuid_result basic_leaf(const struct cpu *cpu, u32 leaf, u32 subleaf, u32 max)
{
    struct cpuid_result r = {0};
    switch (leaf) {
    case 0:
        r = (struct cpuid_result){max, 0x756e6547, 0x6c65746e, 0x49656e69};      /* "Genu" "ntel" "ineI" */
        break;
    case 1:
        return leaf_1(cpu);
    case 2: {
        const u32 *bytes = cpu_model_of(cpu)->leaf_2;
        return (struct cpuid_result){bytes[0], bytes[1], bytes[2], bytes[3]};
    }
    case 4:
        return leaf_4_cache(cpu, subleaf);
    case 5:
        if (cpu_has(cpu, FEATURE_MONITOR))                  /* 64-byte line; interrupts, even masked, end MWAIT; C0, C1 */
            r = (struct cpuid_result){64, 64, 3, 0x11};
        break;
    case 6:
        r.eax = feature_word(cpu, 6, 0, R_EAX);
        r.ecx = feature_word(cpu, 6, 0, R_ECX);
        break;
    case 7:
        if (subleaf == 1) {
            r.eax = feature_word(cpu, 7, 1, R_EAX);
            r.edx = feature_word(cpu, 7, 1, R_EDX);
        } else if (subleaf == 0) {
            r.eax = (feature_word(cpu, 7, 1, R_EAX) | feature_word(cpu, 7, 1, R_EDX)) != 0;     /* the last subleaf */
            r.ebx = feature_word(cpu, 7, 0, R_EBX);
            r.ecx = feature_word(cpu, 7, 0, R_ECX) | (cpu->sys.cr4 & CR4_PKE ? 1u << 4 /* OSPKE */ : 0);
            r.edx = feature_word(cpu, 7, 0, R_EDX);
        }
        break;
    case 0xa:
        pmu_leaf(cpu, &r.eax, &r.ebx, &r.ecx, &r.edx);
        break;
    case 0xb: case 0x1f:
        return leaf_b_topology(cpu, subleaf);
    case 0xd:
        return leaf_d_xsave(cpu, subleaf);
    case 0x15:                                              /* TSC : crystal = 1 : 1 */
        r = (struct cpuid_result){1, 1, CPU_TSC_HZ, 0};
        break;
    case 0x16:
        r = (struct cpuid_result){CPU_TSC_HZ / 1000000, CPU_TSC_HZ / 1000000, 100, 0};
        break;
    default:
        break;
    }
    return r;
}

static struct cpuid_result extended_leaf(const struct cpu *cpu, u32 leaf)
{
    struct cpuid_result r = {0};
    switch (leaf) {
    case 0x80000000:
        r.eax = 0x80000008;
        break;
    case 0x80000001:
        r.ecx = feature_word(cpu, 0x80000001, 0, R_ECX);
        r.edx = feature_word(cpu, 0x80000001, 0, R_EDX);
        if (cpu->mode.code_bits != BITS_64)
            r.edx &= ~(1u << 11);                           /* SYSCALL is shown in 64-bit code only */
        if (cpu->sys.misc_enable & MISC_ENABLE_XD_DISABLE)
            r.edx &= ~(1u << 20);
        break;
    case 0x80000002: case 0x80000003: case 0x80000004: {
        char brand[48] = {0};
        const char *name = cpu_model_of(cpu)->brand;
        memcpy(brand, name, strlen(name) < 47 ? strlen(name) : 47);
        const char *part = brand + 16 * (leaf - 0x80000002);
        r = (struct cpuid_result){load32(part), load32(part + 4), load32(part + 8), load32(part + 12)};
        break;
    }
    case 0x80000006:
        r.ecx = leaf_80000006_cache(cpu);
        break;
    case 0x80000007:
        r.edx = feature_word(cpu, 0x80000007, 0, R_EDX);
        break;
    case 0x80000008:
        r.eax = cpu_model_of(cpu)->physical_bits | (cpu_has(cpu, FEATURE_LA57) ? 57u : 48u) << 8;
        r.ebx = feature_word(cpu, 0x80000008, 0, R_EBX);
        break;
    default:
        break;
    }
    return r;
}

struct cpuid_result cpu_cpuid(struct cpu *cpu, u32 leaf, u32 subleaf)
{
    u32 max = cpu->sys.misc_enable & MISC_ENABLE_LIMIT_CPUID ? 2 : cpu_model_of(cpu)->max_leaf;

    if (leaf >= 0x80000000 && leaf <= 0x80000008)
        return extended_leaf(cpu, leaf);
    if (leaf == 0x40000000 && cpu_has(cpu, FEATURE_HYPERVISOR))                  /* "NestorNestor", no further leaves */
        return (struct cpuid_result){leaf, 0x7473654e, 0x654e726f, 0x726f7473};
    /* Past the end, Intel processors answer with the highest basic leaf. */
    return basic_leaf(cpu, leaf > max ? max : leaf, subleaf, max);
}

void cpu_leaves_print(struct cpu *cpu, FILE *out)
{
    u32 last[2] = {cpu_cpuid(cpu, 0, 0).eax, cpu_cpuid(cpu, 0x80000000, 0).eax};
    fprintf(out, "leaf      subleaf   eax       ebx       ecx       edx\n");
    for (unsigned half = 0; half < 2; half++)
        for (u32 leaf = half << 31; leaf <= last[half]; leaf++) {
            /* Which leaves have subleaves, and how many may hold something. */
            u32 subleaves = leaf == 4 ? 5 : leaf == 7 ? 2 : leaf == 0xb || leaf == 0x1f ? 3 : leaf == 0xd ? 20 : 1;
            for (u32 subleaf = 0; subleaf < subleaves; subleaf++) {
                struct cpuid_result r = cpu_cpuid(cpu, leaf, subleaf);
                if (subleaf == 0 || r.eax | r.ebx | r.edx)
                    fprintf(out, "%08x  %08x  %08x  %08x  %08x  %08x\n", leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
            }
        }
}
