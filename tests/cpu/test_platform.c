/* ENCLS, ENCLU, ENCLV and PCONFIG where firmware has left SGX and memory encryption off: what CPUID says, the order of their checks.
 * Their VM exits are tests/vmx/test_route.c's.
 */
#include "cpu/interp.h"
#include "cpu/model.h"
#include "cpu/msr.h"
#include "tests/cpu/transfer.h"

enum { CODE = 0x20000 };

static void start(const char *features, const char *bytes)
{
    char message[200];
    if (cpu->interp)
        interp_free(cpu->interp);
    start_long();
    ck_assert_msg(cpu_model_set(cpu, features, message, sizeof message), "%s", message);
    cpu->interp = interp_new(&bus_);
    rows_trace(cpu);
    cpu->core.rip = CODE;
    cpu->core.rax = 0;
    for (u64 at = CODE; *bytes; bytes += *bytes == ' ') {
        bus_write(&bus_, 0, at++, 1, strtoul(bytes, NULL, 16));
        bytes += 2;
    }
    cpu_mode_update(cpu);
}

static unsigned vector(void)
{
    cpu->stop_at = cpu->time.now + 1;
    cpu_run(cpu);
    unsigned raised = cpu->event.valid ? cpu->event.vector : 256;
    ck_assert_uint_eq(cpu->core.rip, CODE);
    forget();
    return raised;
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
                ck_assert_uint_eq(vector(), EXC_UD);
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
        ck_assert_uint_eq(vector(), EXC_GP);
        ring3_long();
        ck_assert_uint_eq(vector(), EXC_UD);
    }
    static const char *const prefixed[] = {"66 " PCONFIG, "f2 " PCONFIG, "f3 " PCONFIG, "f0 " PCONFIG};
    for (unsigned n = 0; n < ARRAY_SIZE(prefixed); n++) {
        start("icelake", prefixed[n]);
        ck_assert_uint_eq(vector(), EXC_UD);
    }
    start("max,-pconfig", PCONFIG);
    ck_assert_uint_eq(vector(), EXC_UD);
    start("icelake", PCONFIG);
    ck_assert_int_eq(cpu_cpuid(cpu, 7, 0).edx >> 18 & 1, 1);
    for (u32 subleaf = 0; subleaf < 3; subleaf++)
        ck_assert_uint_eq(cpu_cpuid(cpu, 0x1b, subleaf).eax & 0xfff, 0);           /* an invalid type: no targets */
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("cpu/platform");
    TCase *t = tcase_create("platform");
    tcase_add_test(t, enclaves_are_off);
    tcase_add_test(t, pconfig_has_no_targets);
    suite_add_tcase(s, t);
    return s;
}

int main(void) { return suite_run(suite()); }
