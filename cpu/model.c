/* The CPU models, and the command-line words that choose among their features.
 *
 * A model is a row of cpu/models.def, a feature a row of cpu/features.def; a CPU's enabled features are bits of
 * cpu->feature.
 *
 * Kept true: a flag that Nestor cannot do is never enabled, and asking for it is refused with a clear line; no flag is
 * enabled without those that it needs. A model's list may name what Nestor cannot do: that is left out.
 *
 * Follows [SDM2 "CPUID—CPU Identification"].
 */
#include "cpu/model.h"

#include "cpu/mode.h"

#include <stdio.h>

/* ---- models ---------------------------------------------------------------------------------------------------- */

static const struct cpu_model models[] = {
#define MODEL(name_, ...) {.name = name_, __VA_ARGS__},
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
    NEEDS(PKU, XSAVE) NEEDS(PKU, LM) NEEDS(PKS, LM) NEEDS(CET_SS, XSAVES) NEEDS(CET_SSS, CET_SS) NEEDS(LAM, LM)
    NEEDS(UINTR, LM) NEEDS(UINTR, APIC)
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

/* The features that a model's list names. */
static void model_features(const struct cpu_model *model, struct cpu *cpu)
{
    memset(cpu->feature, 0, sizeof cpu->feature);
    for (const char *p = model->features; *p; p += strcspn(p, ","), p += *p == ',') {
        size_t n = strcspn(p, ",");
        unsigned feature = feature_named(p + (*p == '-'), n - (*p == '-'));
        for (unsigned f = 0; *p == '*' && f < FEATURE_COUNT; f++)
            if (implemented[f])
                feature_set(cpu, f, true);
        if (feature != FEATURE_COUNT)
            feature_set(cpu, feature, *p != '-');
    }
    feature_set(cpu, FEATURE_BASE, true);
}

/* Takes away all that need what is not there. Every pass but the last removes at least one, so this ends. */
static void features_settle(struct cpu *cpu)
{
    bool changed = true;
    while (changed) {
        changed = false;
        for (size_t n = 0; n < ARRAY_SIZE(dependencies); n++)
            if (cpu_has(cpu, dependencies[n].feature) && !cpu_has(cpu, dependencies[n].needs)) {
                feature_set(cpu, dependencies[n].feature, false);
                changed = true;
            }
    }
}

/* What Nestor has of a model. */
static void model_features_offered(const struct cpu_model *model, struct cpu *cpu)
{
    model_features(model, cpu);
    for (unsigned f = 0; f < FEATURE_COUNT; f++)
        if (f != FEATURE_BASE && !implemented[f])
            feature_set(cpu, f, false);
    features_settle(cpu);
}

const struct cpu_model *cpu_model_named(const char *text, size_t n)
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
    const struct cpu_model *model = cpu_model_named(text, n);
    if (!model) {
        char names[128];
        model_names(names, sizeof names);
        snprintf(message, message_size, "CPU model '%.*s' is unknown; the models are: %s", (int)n, text, names);
        return false;
    }

    /* Nothing is changed before the whole text is understood. */
    struct cpu result = {.model = model};
    model_features_offered(model, &result);

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
            feature_set(&result, feature, false);
            features_settle(&result);
        } else if (!implemented[feature]) {
            snprintf(message, message_size, "CPU flag '%s' is not implemented by Nestor", feature_names[feature]);
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

/* One list of flags, wrapped. */
static void flags_print(FILE *out, const char *title, const char *indent, const struct cpu *cpu)
{
    unsigned column = (unsigned)-1 / 2, count = 0;
    for (unsigned f = 0; f < FEATURE_COUNT; f++) {
        if (f == FEATURE_BASE || !cpu_has(cpu, f))
            continue;
        if (count++ == 0)
            fprintf(out, "%s:", title);
        unsigned length = (unsigned)strlen(feature_names[f]) + 1;
        if (column + length > 78) {
            fprintf(out, "\n%s", indent);
            column = (unsigned)strlen(indent);
        }
        fprintf(out, " %s", feature_names[f]);
        column += length;
    }
    if (count)
        fprintf(out, "\n");
}

void cpu_models_print(FILE *out)
{
    static const char *const generations[GENERATION_COUNT] = {
        "Nehalem", "Westmere", "Ivy Bridge", "Haswell", "Broadwell", "Skylake", "Ice Lake", "Sapphire Rapids", "newest",
    };
    for (size_t m = 0; m < ARRAY_SIZE(models); m++) {
        const struct cpu_model *model = &models[m];
        struct cpu offered = {.model = model}, whole = {.model = model};
        model_features(model, &whole);
        model_features_offered(model, &offered);
        fprintf(out, "%s\n    %s\n    \"%s\"\n    signature 0x%08x, %u physical-address bits", model->name, model->text,
                model->brand, model->signature, model->physical_bits);
        if (cpu_has(&offered, FEATURE_VMX))
            fprintf(out, ", VMX: %s", generations[model->generation]);
        if (cpu_has(&offered, FEATURE_PMU))
            fprintf(out, ", performance counters: version %u, %u + %u", model->pmu.version, model->pmu.general,
                    model->pmu.fixed);
        fprintf(out, "\n");
        flags_print(out, "    flags", "       ", &offered);
        for (unsigned f = 0; f < FEATURE_COUNT; f++)
            feature_set(&whole, f, cpu_has(&whole, f) && !cpu_has(&offered, f));
        flags_print(out, "    flags of the real processor that Nestor leaves out", "       ", &whole);
    }
    struct cpu can = {0}, cannot = {0};
    for (unsigned f = 0; f < FEATURE_COUNT; f++)
        feature_set(implemented[f] ? &can : &cannot, f, true);
    flags_print(out, "flags for --cpu MODEL,+FLAG,-FLAG", "   ", &can);
    flags_print(out, "flags that Nestor does not implement", "   ", &cannot);
}
