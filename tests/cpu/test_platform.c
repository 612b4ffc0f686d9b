/* ENCLS, ENCLU, ENCLV and PCONFIG where firmware has left SGX and memory encryption off: what CPUID says, the order of their checks.
 * Their VM exits are tests/vmx/test_route.c's.
 */
#include "cpu/msr.h"
#include "tests/cpu/program.h"

static void start(const char *features, const char *bytes)
{
    program_start(features);
    cpu->core.rax = 0;
    code(CODE, bytes);
}

#define PCONFIG "0f 01 c5"

START_TEST(enclaves_are_off)
{
    static const char *const models[] = {"base", "icelake", "sapphire-rapids", "max"};
    static const char *const enclave[] = {"0f 01 cf", "0f 01 d7", "0f 01 c0"};     /* ENCLS, ENCLU, ENCLV */
    for (unsigned m = 0; m < ARRAY_SIZE(models); m++)
        for (unsigned n = 0; n < ARRAY_SIZE(enclave); n++)
            for (unsigned ring = 0; ring < 4; ring += 3) {
                start(models[m], enclave[n]);
                ck_assert_int_eq(cpu_cpuid(cpu, 7, 0).ebx >> 2 & 1, m > 0);        /* SGX */
                ck_assert_int_eq(cpu_cpuid(cpu, 7, 0).ecx >> 30 & 1, 0);           /* launch control */
                for (u32 subleaf = 0; subleaf < 3; subleaf++) {
                    struct cpuid_result r = cpu_cpuid(cpu, 0x12, subleaf);
                    ck_assert_uint_eq(r.eax | r.ebx | r.ecx | r.edx, 0);
                }
                cpu->sys.cr0 |= CR0_TS;                    /* ENCLU's #NM comes later */
                if (ring)
                    ring3_long();
                ASSERT_RAISES(EXC_UD);
            }
}
END_TEST

/* CPL, then the leaf function, of which there is none. */
START_TEST(pconfig_has_no_targets)
{
    static const u64 leaves[] = {0, 1, 63, 0xffffffff, BIT(32)};
    for (unsigned n = 0; n < ARRAY_SIZE(leaves); n++) {
        start("icelake", PCONFIG);
        cpu->core.rax = leaves[n];
        ASSERT_RAISES(EXC_GP);
        ring3_long();
        ASSERT_RAISES(EXC_UD);
    }
    static const char *const prefixed[] = {"66 " PCONFIG, "f2 " PCONFIG, "f3 " PCONFIG, "f0 " PCONFIG};
    for (unsigned n = 0; n < ARRAY_SIZE(prefixed); n++) {
        start("icelake", prefixed[n]);
        ASSERT_RAISES(EXC_UD);
    }
    start("max,-pconfig", PCONFIG);
    ASSERT_RAISES(EXC_UD);
    start("icelake", PCONFIG);
    ck_assert_int_eq(cpu_cpuid(cpu, 7, 0).edx >> 18 & 1, 1);
    for (u32 subleaf = 0; subleaf < 3; subleaf++)
        ck_assert_uint_eq(cpu_cpuid(cpu, 0x1b, subleaf).eax & 0xfff, 0);           /* an invalid type: no targets */
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        enclaves_are_off, pconfig_has_no_targets,
    };
    return suite_run_tests("platform", tests, ARRAY_SIZE(tests), NULL, NULL, CK_NOFORK);
}
