/* VM entries of random VMCSs, made from valid ones by changing bits and fields, against a second reading of the SDM
 * (tests/vmx/sdm_entry_rules.h): both must say the same, and give the same reason.
 *
 *     test_entry_fuzz [rounds [seed]]      a mismatch prints the rules and how the VMCS differs from the valid one
 */
#include "tests/vmx/sdm_entry_rules.h"

typedef void (*make)(struct vmcs *v);
static void pae_in_ept(struct vmcs *v) { bench_vmcs_32(v, true); }
static void flat_32(struct vmcs *v) { bench_vmcs_32(v, false); }
static const make valid[] = {bench_vmcs_64, bench_vmcs_rich, bench_vmcs_apicv, bench_vmcs_hlat, bench_vmcs_cet, flat_32, pae_in_ept,
                             bench_vmcs_real, bench_vmcs_v8086, bench_vmcs_pae_in_memory};
static const char *const models[] = {"base", "max", "nehalem", "haswell", BENCH_CET_MODEL, "base,+la57"};

static u64 rounds = 60000, seed = 0x243f6a8885a308d3ull;

static u64 random64(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* Values at which rules change their mind. */
static u64 value_for(u64 old)
{
    switch (random64() % 12) {
    case 0: return 0;
    case 1: return ~0ull;
    case 2: return BENCH_PAGE;
    case 3: return BENCH_VMCS;
    case 4: return BENCH_SHADOW_VMCS;
    case 5: return 0x80000000ull | random64() % 0x1000;      /* an event */
    case 6: return random64() % 32;
    case 7: return 1ull << random64() % 64;
    case 8: return 0xffffull << random64() % 48;
    case 9: return old + 1;
    case 10: return old & ~0xfffull;
    default: return old ^ (random64() & random64() & random64() & random64());
    }
}

static void change(struct vmcs *v)
{
    unsigned field;
    do
        field = (unsigned)(random64() % VMX_FIELD_COUNT);
    while (!vmx_field_present(&cpu, field) || vmx_field_info(field)->kind == VMX_FIELD_READONLY);
    u64 old = vmx_field_get(v, field);
    vmx_field_set(v, field, random64() % 3 ? old ^ 1ull << random64() % vmx_field_info(field)->bits : value_for(old));
}

/* An event, and a guest that may not be able to take it. */
static void change_event(struct vmcs *v)
{
    static const u64 events[] = {0x30, 0x202, 0x301, 0x312, 0x30d, 0xb0d, 0x480, 0x700};
    v->entry_interruption_info = 0x80000000u | events[random64() % ARRAY_SIZE(events)];
    v->entry_instruction_length = 1;
    v->guest_interruptibility = 1ull << random64() % 6 & ~0x10ull;
    v->guest_activity = random64() % 3 ? 0 : random64() % 4;
    v->guest_rflags = FL_R1 | (random64() % 4 ? FL_IF : 0) | (random64() % 8 ? 0 : FL_VM);
}

static void explain(const struct vmcs *v, const struct vmcs *from, const char *model, bool ok, const struct vmx_check_failure *failure,
                    const struct sdm_outcomes *o)
{
    fprintf(stderr, "model %s: the entry %s\n", model, ok ? "passes" : vmx_check_info(failure->id)->name);
    for (unsigned n = 0; n < o->count; n++)
        fprintf(stderr, "  the SDM: %u qualification %u: %s\n", o->at[n].outcome, o->at[n].qualification, o->at[n].rule);
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++)
        if (vmx_field_get(v, n) != vmx_field_get(from, n))
            fprintf(stderr, "  %s: 0x%llx was 0x%llx\n", vmx_field_info(n)->name, (unsigned long long)vmx_field_get(v, n),
                    (unsigned long long)vmx_field_get(from, n));
}

START_TEST(same_outcome)
{
    static const u32 outcome_of[] = {[VMX_CHECK_CONTROLS] = FAIL_CONTROLS, [VMX_CHECK_HOST] = FAIL_HOST, [VMX_CHECK_GUEST] = FAIL_GUEST};
    struct vmx_frame *f = &cpu.vmx.frame[0];
    struct vmcs *v = &f->vmcs, from;
    u64 outcomes[3] = {0}, passed = 0;
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    for (u64 round = 0; round < rounds; round++) {
        const char *model = models[round / 64 % ARRAY_SIZE(models)];
        if (round % 64 == 0)
            bench_model(model);
        bool narrow_host = random64() % 16 == 0;
        cpu.sys.efer = narrow_host ? 0 : EFER_LME | EFER_LMA;
        valid[random64() % ARRAY_SIZE(valid)](v);
        if (narrow_host)
            v->exit_controls &= ~(u64)(VMEXIT_HOST_ADDRESS_SPACE_SIZE | VMEXIT_LOAD_EFER);
        /* What this model has not is off. */
        v->pin_controls &= vmx_allowed_1(&cpu, VMX_WORD_PIN);
        v->primary_controls &= vmx_allowed_1(&cpu, VMX_WORD_PRIMARY);
        v->secondary_controls &= vmx_allowed_1(&cpu, VMX_WORD_SECONDARY);
        v->tertiary_controls &= vmx_allowed_1(&cpu, VMX_WORD_TERTIARY);
        v->exit_controls &= vmx_allowed_1(&cpu, VMX_WORD_VMEXIT);
        v->secondary_exit_controls &= vmx_allowed_1(&cpu, VMX_WORD_VMEXIT2);
        v->entry_controls &= vmx_allowed_1(&cpu, VMX_WORD_VMENTRY);
        if (!(cpu_has(&cpu, FEATURE_CET_SS) || cpu_has(&cpu, FEATURE_CET_IBT)))
            v->host_cr4 &= ~(u64)CR4_CET, v->guest_cr4 &= ~(u64)CR4_CET;
        bench_poke64(BENCH_PDPTES + 8 * (random64() % 4), random64() % 4 ? 0 : 1 | (random64() & random64() & random64()));
        from = *v;
        if (random64() % 8 == 0)
            change_event(v);
        for (u64 n = random64() % 5; n > 0; n--)
            change(v);
        vmx_check_note_all(f);
        struct vmx_check_failure failure;
        struct sdm_outcomes o;
        bool ok = vmx_check_entry(&cpu, 0, &failure), agree = false;
        sdm_entry(v, f->vmcs_ptr, &o);
        if (ok) {
            agree = o.count == 0;
            passed++;
        } else {
            outcomes[failure.group]++;
            for (unsigned n = 0; n < o.count; n++)
                agree |= o.at[n].outcome == outcome_of[failure.group] && o.at[n].qualification == failure.qualification;
        }
        if (!agree)
            explain(v, &from, model, ok, &failure, &o);
        ck_assert(agree);
        bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    }
    /* It says something only if all ends are met often. */
    ck_assert_uint_gt(passed, rounds / 10);
    for (unsigned n = 0; n < 3; n++)
        ck_assert_uint_gt(outcomes[n], rounds / 40);
}
END_TEST

int main(int argc, char **argv)
{
    if (argc > 1)
        rounds = strtoull(argv[1], NULL, 0);
    if (argc > 2)
        seed = strtoull(argv[2], NULL, 0) | 1;
    if (argc > 1)
        setenv("CK_DEFAULT_TIMEOUT", "0", 1);      /* by hand: as long as it takes */
    const TTest *const tests[] = {same_outcome};
    return bench_run_with("VM entry fuzzer", tests, ARRAY_SIZE(tests), bench_hypervisor_setup);
}
