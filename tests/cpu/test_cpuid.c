/* CPUID's answers and the command-line words that shape them. */
#include "tests/cpu/bench_cpu.h"

static char message[200];

static const char *const models[] = {"base", "min", "max", "nehalem", "haswell", "skylake", "icelake", "sapphire-rapids"};

static bool set(const char *text) { return cpu_model_set(&cpu, text, message, sizeof message); }

START_TEST(identification)
{
    struct cpuid_result r = cpu_cpuid(&cpu, 0, 0);
    char vendor[13] = {0};
    store32(vendor, r.ebx);
    store32(vendor + 4, r.edx);
    store32(vendor + 8, r.ecx);
    ck_assert_str_eq(vendor, "GenuineIntel");
    ck_assert_uint_eq(r.eax, 0x16);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 1, 0).eax, cpu.core.rdx);        /* RDX at reset holds the signature */
    char brand[49] = {0};
    for (u32 n = 0; n < 3; n++) {
        r = cpu_cpuid(&cpu, 0x80000002 + n, 0);
        store32(brand + 16 * n, r.eax);
        store32(brand + 16 * n + 4, r.ebx);
        store32(brand + 16 * n + 8, r.ecx);
        store32(brand + 16 * n + 12, r.edx);
    }
    ck_assert_str_eq(brand, "Nestor x86-64 processor (base) @ 1.00GHz");
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x80000008, 0).eax, 46 | 48 << 8);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x80000000, 0).eax, 0x80000008);
}
END_TEST

START_TEST(unimplemented_flags_are_not_shown)
{
    ck_assert_uint_eq(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 6, 0);                               /* SMX */
    ck_assert_uint_eq(cpu_cpuid(&cpu, 7, 0).ebx & (1u << 2 | 1u << 4 | 1u << 11), 0);        /* SGX: not base's; HLE, RTM */
    ck_assert(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 5);                                          /* VMX */
    ck_assert(!(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 31));                                      /* hypervisor */
    ck_assert(!set("base,+smx"));
    ck_assert_str_eq(message, "CPU flag 'smx' is not implemented by Nestor");
}
END_TEST

START_TEST(registers_show_in_cpuid)
{
    ck_assert(!(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 27));
    ck_assert(!(cpu_cpuid(&cpu, 7, 0).ecx & 1u << 4));
    cpu.sys.cr4 |= CR4_OSXSAVE | CR4_PKE;
    ck_assert(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 27);
    ck_assert(cpu_cpuid(&cpu, 7, 0).ecx & 1u << 4);
    ck_assert(cpu_cpuid(&cpu, 1, 0).edx & 1u << 9);
    cpu.sys.apic_base &= ~0x800ull;
    ck_assert(!(cpu_cpuid(&cpu, 1, 0).edx & 1u << 9));
    ck_assert(!(cpu_cpuid(&cpu, 0x80000001, 0).edx & 1u << 11));
    bench_long_mode(3);
    ck_assert(cpu_cpuid(&cpu, 0x80000001, 0).edx & 1u << 11);
    ck_assert(cpu_cpuid(&cpu, 0x80000001, 0).edx & 1u << 20);
    cpu.sys.misc_enable |= MISC_ENABLE_XD_DISABLE;
    ck_assert(!(cpu_cpuid(&cpu, 0x80000001, 0).edx & 1u << 20));
}
END_TEST

START_TEST(past_the_end_is_the_highest_basic_leaf)
{
    struct cpuid_result last = cpu_cpuid(&cpu, 0x16, 0);
    static const u32 leaves[] = {0x17, 0x1f, 0x40000000, 0x7fffffff, 0x80000009, 0xffffffff};
    for (size_t n = 0; n < ARRAY_SIZE(leaves); n++) {
        struct cpuid_result r = cpu_cpuid(&cpu, leaves[n], 0);
        ck_assert_mem_eq(&r, &last, sizeof r);
    }
    bench_model("base,+hypervisor");
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x40000000, 0).ebx, 0x7473654e);
    ck_assert(cpu_cpuid(&cpu, 1, 0).ecx & 1u << 31);
}
END_TEST

START_TEST(topology_counts_the_vcpus)
{
    ck_assert_uint_eq(cpu_cpuid(&cpu, 1, 0).edx & 1u << 28, 0);
    cpu.cpu_count = 6;
    cpu.index = 5;
    struct cpuid_result r = cpu_cpuid(&cpu, 1, 0);
    ck_assert(r.edx & 1u << 28);
    ck_assert_uint_eq(r.ebx >> 24, 5);
    ck_assert_uint_eq(r.ebx >> 16 & 0xff, 8);
    r = cpu_cpuid(&cpu, 0xb, 0);
    ck_assert_uint_eq(r.eax, 0);
    ck_assert_uint_eq(r.ebx, 1);
    ck_assert_uint_eq(r.ecx, 0x100);
    ck_assert_uint_eq(r.edx, 5);
    r = cpu_cpuid(&cpu, 0xb, 1);
    ck_assert_uint_eq(r.eax, 3);
    ck_assert_uint_eq(r.ebx, 6);
    ck_assert_uint_eq(r.ecx, 0x201);
    r = cpu_cpuid(&cpu, 0xb, 2);
    ck_assert_uint_eq(r.eax | r.ebx, 0);
    ck_assert_uint_eq(r.ecx, 2);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 4, 3).eax >> 14 & 0xfff, 7);     /* the last level is shared */
    ck_assert_uint_eq(cpu_cpuid(&cpu, 4, 0).eax >> 14 & 0xfff, 0);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 4, 0).eax >> 26, 7);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 4, 4).eax, 0);
}
END_TEST

START_TEST(extended_states_have_sizes)
{
    struct cpuid_result r = cpu_cpuid(&cpu, 0xd, 0);
    ck_assert_uint_eq(r.eax, 0x203);
    ck_assert_uint_eq(r.ebx, 576);
    ck_assert_uint_eq(r.ecx, 2696);
    cpu.sys.xcr0 = 0x203;
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 0).ebx, 2696);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 1).ebx, 584);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 1).eax, 0xf);
    r = cpu_cpuid(&cpu, 0xd, 9);
    ck_assert_uint_eq(r.eax, 8);
    ck_assert_uint_eq(r.ebx, 2688);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 2).eax, 0);                 /* no AVX */
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 63).eax, 0);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 0xffffffff).eax, 0);
}
END_TEST

START_TEST(frequencies_agree)
{
    struct cpuid_result r = cpu_cpuid(&cpu, 0x15, 0);
    ck_assert_uint_eq((u64)r.ecx * r.ebx / r.eax, CPU_TSC_HZ);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x16, 0).eax, 1000);
    ck_assert(cpu_cpuid(&cpu, 0x80000007, 0).edx & 1u << 8);
    u64 info = 0;
    ck_assert(cpu_msr_read(&cpu, 0xce, &info));
    ck_assert_uint_eq((info >> 8 & 0xff) * 100, 1000);
}
END_TEST

START_TEST(options_add_and_remove)
{
    ck_assert(set("base,+la57,-smap"));
    ck_assert(cpu_has(&cpu, FEATURE_LA57));
    ck_assert(!cpu_has(&cpu, FEATURE_SMAP));
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x80000008, 0).eax >> 8, 57);
    ck_assert_uint_eq(cpu_cr4_allowed(&cpu) & (CR4_LA57 | CR4_SMAP), CR4_LA57);
    /* What needs a removed flag goes with it. */
    ck_assert(set("base,-xsave"));
    ck_assert(!cpu_has(&cpu, FEATURE_XSAVES) && !cpu_has(&cpu, FEATURE_PKU) && !cpu_has(&cpu, FEATURE_XSAVEOPT));
    ck_assert(set("min"));
    ck_assert(!cpu_has(&cpu, FEATURE_VMX));
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0, 0).eax, 0xd);
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 0).eax, 0);
}
END_TEST

START_TEST(wrong_options_are_named)
{
    static const struct { const char *text, *message; } wrong[] = {
        {"bass", "CPU model 'bass' is unknown; the models are: base, min, max, nehalem, haswell, skylake, icelake, sapphire-rapids"},
        {"", "CPU model '' is unknown; the models are: base, min, max, nehalem, haswell, skylake, icelake, sapphire-rapids"},
        {"base,+wings", "CPU flag 'wings' is unknown ('nestor dump cpus' lists the flags)"},
        {"base,smap", "CPU option 'smap' is not understood; expected +FLAG or -FLAG"},
        {"base,", "CPU option '' is not understood; expected +FLAG or -FLAG"},
        {"base,+", "CPU option '+' is not understood; expected +FLAG or -FLAG"},
        {"base,+base", "CPU flag 'base' is unknown ('nestor dump cpus' lists the flags)"},
        {"base,+rtm", "CPU flag 'rtm' is not implemented by Nestor"},
        {"min,+invpcid", "CPU flag 'invpcid' needs 'pcid'"},
    };
    u32 before[FEATURE_WORDS];
    memcpy(before, cpu.feature, sizeof before);
    for (size_t n = 0; n < ARRAY_SIZE(wrong); n++) {
        ck_assert_msg(!set(wrong[n].text), "'%s' was taken", wrong[n].text);
        ck_assert_str_eq(message, wrong[n].message);
    }
    ck_assert_mem_eq(before, cpu.feature, sizeof before);
}
END_TEST

/* Every flag that a model shows can also be asked for by name: no model holds one that is not implemented. */
START_TEST(models_hold_only_implemented_flags)
{
    static const char *const names[] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) text,
#include "cpu/features.def"
#undef FEATURE
    };
    for (size_t m = 0; m < ARRAY_SIZE(models); m++) {
        bench_model(models[m]);
        struct cpu copy = cpu;
        for (unsigned f = 1; f < FEATURE_COUNT; f++) {
            char text[64];
            if (!cpu_has(&copy, f))
                continue;
            snprintf(text, sizeof text, "%s,+%s", models[m], names[f]);
            ck_assert_msg(set(text), "%s: %s", text, message);
        }
    }
}
END_TEST

/* What is listed for a real processor and cannot be done is left out, and so is what needs it. */
START_TEST(models_show_what_they_are)
{
    static const struct { const char *model; u32 signature, pa_bits, leaves; } known[] = {
        {"nehalem", 0x106a5, 40, 0xb}, {"haswell", 0x306f2, 46, 0xf}, {"skylake", 0x50654, 46, 0x16},
        {"icelake", 0x606a6, 46, 0x1b}, {"sapphire-rapids", 0x806f8, 46, 0x20},
    };
    for (size_t m = 0; m < ARRAY_SIZE(known); m++) {
        bench_model(known[m].model);
        ck_assert_uint_eq(cpu_cpuid(&cpu, 1, 0).eax, known[m].signature);
        ck_assert_uint_eq(cpu_cpuid(&cpu, 0x80000008, 0).eax & 0xff, known[m].pa_bits);
        ck_assert_uint_eq(cpu_cpuid(&cpu, 0, 0).eax, known[m].leaves);
        ck_assert(!cpu_has(&cpu, FEATURE_RTM) && !cpu_has(&cpu, FEATURE_HLE) && !cpu_has(&cpu, FEATURE_HYPERVISOR));
    }
    bench_model("nehalem");
    ck_assert(cpu_has(&cpu, FEATURE_SSE4_2) && !cpu_has(&cpu, FEATURE_AES) && !cpu_has(&cpu, FEATURE_XSAVE));
    ck_assert(!cpu_has(&cpu, FEATURE_X2APIC) && !cpu_has(&cpu, FEATURE_PDPE1GB));
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0xd, 0).eax, cpu_cpuid(&cpu, 0xb, 0).eax);   /* past the end */
    ck_assert_uint_eq(cpu_cpuid(&cpu, 2, 0).edx, 0x09ca212c);
    bench_model("haswell");
    ck_assert(cpu_has(&cpu, FEATURE_BMI2) && cpu_has(&cpu, FEATURE_INVPCID) && !cpu_has(&cpu, FEATURE_SMAP));
    ck_assert_uint_eq(cpu_cpuid(&cpu, 7, 0).edx & 0xfc000000, 0x9c000000);          /* SPEC_CTRL, STIBP, FLUSH_L1D, SSBD */
    bench_model("icelake");
    ck_assert(cpu_has(&cpu, FEATURE_SHA) && cpu_has(&cpu, FEATURE_GFNI) && cpu_has(&cpu, FEATURE_LA57));
    ck_assert(!cpu_has(&cpu, FEATURE_MPX));
    bench_model("max");
    ck_assert(cpu_has(&cpu, FEATURE_SHA) && cpu_has(&cpu, FEATURE_VMX) && cpu_has(&cpu, FEATURE_SERIALIZE));
    ck_assert_uint_eq(cpu_cpuid(&cpu, 0x1f, 1).ecx, 0x201);
}
END_TEST

/* Each level of a model's caches is at least as large as the one before, and leaf 80000006H agrees with leaf 4. */
START_TEST(caches_agree)
{
    for (size_t m = 0; m < ARRAY_SIZE(models); m++) {
        bench_model(models[m]);
        u32 before = 0;
        for (u32 n = 0; n < 4; n++) {
            struct cpuid_result r = cpu_cpuid(&cpu, 4, n);
            u32 size = ((r.ebx >> 22) + 1) * ((r.ebx & 0xfff) + 1) * (r.ecx + 1);
            ck_assert_uint_ne(r.eax & 0x1f, 0);
            ck_assert_msg((r.eax >> 5 & 7) == 1 || size > before, "%s, cache %u", models[m], n);
            before = size;
            if ((r.eax >> 5 & 7) == 2)
                ck_assert_uint_eq(cpu_cpuid(&cpu, 0x80000006, 0).ecx >> 16, size / 1024);
        }
        ck_assert_uint_eq(cpu_cpuid(&cpu, 4, 4).eax, 0);
    }
}
END_TEST

/* No model enables a flag without those it needs, and each single flag can be taken away. */
START_TEST(any_flag_can_be_taken_away)
{
    static const char *const names[] = {
#define FEATURE(name, text, leaf, subleaf, reg, bit) text,
#include "cpu/features.def"
#undef FEATURE
    };
    for (size_t m = 0; m < ARRAY_SIZE(models); m++)
        for (unsigned f = 1; f < FEATURE_COUNT; f++) {
            char text[64];
            snprintf(text, sizeof text, "%s,-%s", models[m], names[f]);
            ck_assert_msg(set(text), "%s: %s", text, message);
            ck_assert(!cpu_has(&cpu, f));
        }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {models_show_what_they_are, caches_agree, any_flag_can_be_taken_away, identification,
                                  unimplemented_flags_are_not_shown,
                                  registers_show_in_cpuid,
                                  past_the_end_is_the_highest_basic_leaf,
                                  topology_counts_the_vcpus,
                                  extended_states_have_sizes,
                                  frequencies_agree,
                                  options_add_and_remove,
                                  wrong_options_are_named,
                                  models_hold_only_implemented_flags};
    return bench_run("cpuid", tests, ARRAY_SIZE(tests));
}
