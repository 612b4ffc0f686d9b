/* CPUID, the CPU models and the command-line words that choose among their features.
 *
 * A model is a row of cpu/models.def, a feature a row of cpu/features.def; a CPU's enabled features are bits of
 * cpu->feature, and every answer is computed from them and from the registers that CPUID reflects (CR4, XCR0,
 * IA32_XSS, IA32_APIC_BASE, IA32_MISC_ENABLE). What a hypervisor or a policy shows instead is vmx/'s business.
 *
 * Kept true: a flag that Nestor cannot do is never shown, and asking for it is refused with a clear line.
 *
 * Follows [SDM2 "CPUID—CPU Identification"], [SDM1 "Enumeration of CPU Support for XSAVE Instructions and
 * XSAVE-Supported Features"].
 */
#include "cpu/mode.h"
#include "cpu/model.h"

#include <stdio.h>

/* ---- models ---------------------------------------------------------------------------------------------------- */

static const struct cpu_model models[] = {
#define MODEL(name_, brand_, signature_, microcode_, leaf_, pa_bits_, banks_, mtrrs_, capabilities_, text_, features_)  \
    {.name = name_, .brand = brand_, .text = text_, .features = features_, .signature = signature_,                    \
     .microcode = microcode_, .max_leaf = leaf_, .physical_bits = pa_bits_, .mc_banks = banks_, .mtrrs = mtrrs_,       \
     .arch_capabilities = capabilities_},
#include "cpu/models.def"
};

static const bool implemented[FEATURE_COUNT] = {
#define IMPLEMENTED(feature) [FEATURE_##feature] = true,
#include "cpu/models.def"
};

static const char *const feature_names[FEATURE_COUNT] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) [FEATURE_##name] = text,
#include "cpu/features.def"
#undef FEATURE
};

/* `feature` is meaningless without `needs`. */
/* clang-format off */
static const struct { u16 feature, needs; } dependencies[] = {
#define NEEDS(feature, needs) {FEATURE_##feature, FEATURE_##needs},
    NEEDS(MMX, FPU) NEEDS(FXSR, FPU)
    NEEDS(SSE, FXSR) NEEDS(SSE, MMX) NEEDS(SSE2, SSE) NEEDS(SSE3, SSE2) NEEDS(SSSE3, SSE3) NEEDS(SSE4_1, SSSE3)
    NEEDS(SSE4_2, SSE4_1) NEEDS(SSE4_2, POPCNT) NEEDS(PCLMULQDQ, SSE2) NEEDS(AES, SSE2) NEEDS(SHA, SSE2) NEEDS(GFNI, SSE2)
    NEEDS(XSAVE, FXSR) NEEDS(XSAVEOPT, XSAVE) NEEDS(XSAVEC, XSAVE) NEEDS(XGETBV1, XSAVE) NEEDS(XSAVES, XSAVEC)
    NEEDS(AVX, XSAVE) NEEDS(AVX, SSE4_2) NEEDS(F16C, AVX) NEEDS(FMA, AVX) NEEDS(AVX2, AVX)
    NEEDS(VAES, AVX) NEEDS(VAES, AES) NEEDS(VPCLMULQDQ, AVX) NEEDS(VPCLMULQDQ, PCLMULQDQ) NEEDS(AVX_VNNI, AVX2)
    NEEDS(AVX_IFMA, AVX2) NEEDS(AVX_VNNI_INT8, AVX2) NEEDS(AVX_VNNI_INT16, AVX2) NEEDS(AVX_NE_CONVERT, AVX2)
    NEEDS(AVX512F, AVX2) NEEDS(AVX512F, FMA) NEEDS(AVX512F, F16C) NEEDS(AVX512DQ, AVX512F) NEEDS(AVX512CD, AVX512F)
    NEEDS(AVX512BW, AVX512F) NEEDS(AVX512VL, AVX512F) NEEDS(AVX512IFMA, AVX512F) NEEDS(AVX512VNNI, AVX512F)
    NEEDS(AVX512VPOPCNTDQ, AVX512F) NEEDS(AVX512VBMI, AVX512BW) NEEDS(AVX512VBMI2, AVX512BW)
    NEEDS(AVX512BITALG, AVX512BW) NEEDS(AVX512BF16, AVX512BW) NEEDS(AVX512FP16, AVX512BW) NEEDS(AVX512FP16, AVX512DQ)
    NEEDS(AVX512FP16, AVX512VL)
    NEEDS(PKU, XSAVE) NEEDS(PKU, LM) NEEDS(PKS, LM) NEEDS(CET_SS, XSAVES) NEEDS(LAM, LM)
    NEEDS(LM, PAE) NEEDS(LM, SSE2) NEEDS(NX, PAE) NEEDS(SYSCALL, LM) NEEDS(PDPE1GB, LM) NEEDS(LA57, LM) NEEDS(PCID, LM)
    NEEDS(INVPCID, PCID) NEEDS(FSGSBASE, LM) NEEDS(LAHF_LM, LM) NEEDS(CX16, LM)
    NEEDS(X2APIC, APIC) NEEDS(TSC_DEADLINE, APIC) NEEDS(ARAT, APIC)
    NEEDS(RDTSCP, TSC) NEEDS(TSC_ADJUST, TSC) NEEDS(INVARIANT_TSC, TSC) NEEDS(TSC_DEADLINE, TSC)
    NEEDS(VMX, MSR) NEEDS(VMX, LM) NEEDS(MCA, MCE) NEEDS(CLFLUSHOPT, CLFLUSH) NEEDS(CLWB, CLFLUSH)
#undef NEEDS
};
/* clang-format on */

const struct cpu_model *cpu_model_of(const struct cpu *cpu)
{
    return cpu->model ? cpu->model : &models[0];
}

static void feature_set(struct cpu *cpu, unsigned feature, bool on)
{
    u32 bit = 1u << (feature % 32);
    if (on)
        cpu->feature[feature / 32] |= bit;
    else
        cpu->feature[feature / 32] &= ~bit;
}

/* The feature named by the n characters at text; FEATURE_COUNT when there is none. */
static unsigned feature_named(const char *text, size_t n)
{
    for (unsigned f = 0; f < FEATURE_COUNT; f++)
        if (f != FEATURE_BASE && strlen(feature_names[f]) == n && !memcmp(feature_names[f], text, n))
            return f;
    return FEATURE_COUNT;
}

/* Takes a feature away together with all that need it. Every pass but the last removes at least one, so this ends. */
static void feature_remove(struct cpu *cpu, unsigned feature)
{
    bool changed = true;
    feature_set(cpu, feature, false);
    while (changed) {
        changed = false;
        for (size_t n = 0; n < ARRAY_SIZE(dependencies); n++)
            if (cpu_has(cpu, dependencies[n].feature) && !cpu_has(cpu, dependencies[n].needs)) {
                feature_set(cpu, dependencies[n].feature, false);
                changed = true;
            }
    }
}

static const struct cpu_model *model_named(const char *text, size_t n)
{
    for (size_t m = 0; m < ARRAY_SIZE(models); m++)
        if (strlen(models[m].name) == n && !memcmp(models[m].name, text, n))
            return &models[m];
    return NULL;
}

/* A list of the names for messages. */
static void model_names(char *out, size_t size)
{
    size_t used = 0;
    out[0] = 0;
    for (size_t m = 0; m < ARRAY_SIZE(models) && used < size; m++)
        used += (size_t)snprintf(out + used, size - used, "%s%s", m ? ", " : "", models[m].name);
}

bool cpu_model_set(struct cpu *cpu, const char *text, char *message, size_t message_size)
{
    size_t n = strcspn(text, ",");
    const struct cpu_model *model = model_named(text, n);
    if (!model) {
        char names[128];
        model_names(names, sizeof names);
        snprintf(message, message_size, "CPU model '%.*s' is unknown; the models are: %s", (int)n, text, names);
        return false;
    }

    /* Nothing is changed before the whole text is understood. */
    struct cpu result = {.model = model};
    feature_set(&result, FEATURE_BASE, true);
    for (const char *p = model->features; *p; p += strcspn(p, ","), p += *p == ',')
        feature_set(&result, feature_named(p, strcspn(p, ",")), true);

    for (const char *p = text + n; *p;) {
        p++;                                   /* the comma */
        size_t length = strcspn(p, ",");
        if (length < 2 || (*p != '+' && *p != '-')) {
            snprintf(message, message_size, "CPU option '%.*s' is not understood; expected +FLAG or -FLAG", (int)length,
                     p);
            return false;
        }
        unsigned feature = feature_named(p + 1, length - 1);
        if (feature == FEATURE_COUNT) {
            snprintf(message, message_size, "CPU flag '%.*s' is unknown ('nestor dump cpus' lists the flags)",
                     (int)length - 1, p + 1);
            return false;
        }
        if (*p == '-') {
            feature_remove(&result, feature);
        } else if (!implemented[feature]) {
            snprintf(message, message_size, "CPU flag '%s' is not implemented yet", feature_names[feature]);
            return false;
        } else {
            feature_set(&result, feature, true);
        }
        p += length;
    }
    for (size_t k = 0; k < ARRAY_SIZE(dependencies); k++)
        if (cpu_has(&result, dependencies[k].feature) && !cpu_has(&result, dependencies[k].needs)) {
            snprintf(message, message_size, "CPU flag '%s' needs '%s'", feature_names[dependencies[k].feature],
                     feature_names[dependencies[k].needs]);
            return false;
        }
    cpu->model = model;
    memcpy(cpu->feature, result.feature, sizeof cpu->feature);
    return true;
}

void cpu_models_print(FILE *out)
{
    for (size_t m = 0; m < ARRAY_SIZE(models); m++) {
        fprintf(out, "%s\n    %s\n    \"%s\", signature 0x%08x, %u physical-address bits\n    flags:", models[m].name,
                models[m].text, models[m].brand, models[m].signature, models[m].physical_bits);
        unsigned column = 80;
        for (const char *p = models[m].features; *p; p += strcspn(p, ","), p += *p == ',') {
            unsigned length = (unsigned)strcspn(p, ",");
            if (column + length > 76) {
                fprintf(out, "\n       ");
                column = 7;
            }
            fprintf(out, " %.*s", (int)length, p);
            column += length + 1;
        }
        fprintf(out, "\n");
    }
    for (unsigned pass = 0; pass < 2; pass++) {
        fprintf(out, "%s",
                pass == 0 ? "flags for --cpu MODEL,+FLAG,-FLAG:\n   " : "flags that are not implemented yet:\n   ");
        for (unsigned f = 0, column = 3; f < FEATURE_COUNT; f++) {
            if (f == FEATURE_BASE || implemented[f] != (pass == 0))
                continue;
            unsigned length = (unsigned)strlen(feature_names[f]) + 1;
            if (column + length > 76) {
                fprintf(out, "\n   ");
                column = 3;
            }
            fprintf(out, " %s", feature_names[f]);
            column += length;
        }
        fprintf(out, "\n");
    }
}

/* ---- extended states ------------------------------------------------------------------------------------------- */

const struct xstate_component xstate_components[XSTATE_COUNT] = {
    [XSTATE_X87]       = {.exists = 1, .feature = FEATURE_FPU,     .size = 160,  .offset = 0},
    [XSTATE_SSE]       = {.exists = 1, .feature = FEATURE_SSE,     .size = 256,  .offset = 160},
    [XSTATE_AVX]       = {.exists = 1, .feature = FEATURE_AVX,     .size = 256,  .offset = 576},
    [XSTATE_OPMASK]    = {.exists = 1, .feature = FEATURE_AVX512F, .size = 64,   .offset = 1088},
    [XSTATE_ZMM_HI256] = {.exists = 1, .feature = FEATURE_AVX512F, .size = 512,  .offset = 1152},
    [XSTATE_HI16_ZMM]  = {.exists = 1, .feature = FEATURE_AVX512F, .size = 1024, .offset = 1664},
    [XSTATE_PKRU]      = {.exists = 1, .feature = FEATURE_PKU,     .size = 8,    .offset = 2688},
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
    static const struct { u8 type, level, ways; u16 sets; bool shared; } caches[] = {
        {1, 1, 8, 64, false},                               /* 32 KiB data */
        {2, 1, 8, 64, false},                               /* 32 KiB instructions */
        {3, 2, 16, 1024, false},                            /* 1 MiB */
        {3, 3, 16, 16384, true},                            /* 16 MiB */
    };
    unsigned ids = 1u << id_bits(cpu_count(cpu));
    if (subleaf >= ARRAY_SIZE(caches))
        return (struct cpuid_result){0};
    unsigned sharing = caches[subleaf].shared ? ids : 1;
    return (struct cpuid_result){
        .eax = caches[subleaf].type | (u32)caches[subleaf].level << 5 | 1u << 8 | ((sharing - 1) & 0xfff) << 14 |
               ((ids > 64 ? 64 : ids) - 1) << 26,
        .ebx = 63u | (caches[subleaf].ways - 1u) << 22,
        .ecx = caches[subleaf].sets - 1u,
        .edx = caches[subleaf].shared ? 1u << 1 : 0,        /* inclusive of the lower levels */
    };
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
    case 2:                                                 /* data and code TLBs 4K x 64; caches: see leaf 4 */
        r.eax = 0xffb20301;
        break;
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
    case 0xb:
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
        r.ecx = 1024u << 16 | 8u << 12 | 64u;               /* L2: KiB, 16 ways, line */
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
