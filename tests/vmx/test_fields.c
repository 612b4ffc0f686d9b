/* VMREAD and VMWRITE by encoding: every field, both halves, widths, read-only fields and encodings that name
 * nothing. */
#include "tests/vmx/bench_vmcs.h"

#include "vmx/dump.h"

static struct vmx_frame *frame(void) { return &cpu.vmx.frame[0]; }

/* The encodings are the SDM's, spot-checked for each width and kind. */
START_TEST(encodings_are_the_sdms)
{
    static const struct { u32 encoding; unsigned field; } known[] = {
        {0x0000, VMX_FIELD_virtual_processor_identifier}, {0x0802, VMX_FIELD_guest_cs_selector},
        {0x0c0c, VMX_FIELD_host_tr_selector}, {0x2004, VMX_FIELD_msr_bitmap_address}, {0x201a, VMX_FIELD_ept_pointer},
        {0x2400, VMX_FIELD_guest_physical_address}, {0x2800, VMX_FIELD_vmcs_link_pointer}, {0x2806, VMX_FIELD_guest_ia32_efer},
        {0x2c02, VMX_FIELD_host_ia32_efer}, {0x4000, VMX_FIELD_pin_controls}, {0x4002, VMX_FIELD_primary_controls},
        {0x401e, VMX_FIELD_secondary_controls}, {0x400c, VMX_FIELD_exit_controls}, {0x4012, VMX_FIELD_entry_controls},
        {0x4016, VMX_FIELD_entry_interruption_info}, {0x4402, VMX_FIELD_exit_reason}, {0x4404, VMX_FIELD_exit_interruption_info},
        {0x4408, VMX_FIELD_idt_vectoring_info}, {0x440c, VMX_FIELD_exit_instruction_length}, {0x4816, VMX_FIELD_guest_cs_access_rights},
        {0x4824, VMX_FIELD_guest_interruptibility}, {0x482e, VMX_FIELD_vmx_preemption_timer}, {0x4c00, VMX_FIELD_host_sysenter_cs},
        {0x6000, VMX_FIELD_cr0_guest_host_mask}, {0x6400, VMX_FIELD_exit_qualification}, {0x640a, VMX_FIELD_guest_linear_address},
        {0x6800, VMX_FIELD_guest_cr0}, {0x681e, VMX_FIELD_guest_rip}, {0x6820, VMX_FIELD_guest_rflags}, {0x6822, VMX_FIELD_guest_pending_debug},
        {0x6c00, VMX_FIELD_host_cr0}, {0x6c16, VMX_FIELD_host_rip},
    };
    for (size_t n = 0; n < ARRAY_SIZE(known); n++)
        ck_assert_int_eq(vmx_field_find(known[n].encoding), known[n].field);
}
END_TEST

/* All 32-bit encodings of interest: exactly the rows answer, with and without the high-access bit. */
START_TEST(exactly_the_rows_exist)
{
    unsigned full = 0, high = 0;
    for (u32 encoding = 0; encoding < 1u << 20; encoding++) {
        int row = vmx_field_find(encoding);
        if (row < 0)
            continue;
        const struct vmx_field_info *info = vmx_field_info((unsigned)row);
        ck_assert_uint_eq(info->encoding, encoding & ~1u);
        if (encoding & 1) {
            ck_assert(info->bits == 64 && !info->natural);
            high++;
        } else {
            full++;
        }
    }
    ck_assert_uint_eq(full, VMX_FIELD_COUNT);
    unsigned wide = 0;
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++)
        wide += vmx_field_info(n)->bits == 64 && !vmx_field_info(n)->natural;
    ck_assert_uint_eq(high, wide);
    ck_assert_int_lt(vmx_field_find(0x100000000ull | 0x4000), 0);
    ck_assert_int_lt(vmx_field_find(0x80004000u), 0);
    ck_assert_int_lt(vmx_field_find(0x5000), 0);           /* bit 12 is reserved */
    ck_assert_int_lt(vmx_field_find(0x681f), 0);           /* natural-width fields have no high access */
    ck_assert_int_lt(vmx_field_find(0x4001), 0);
}
END_TEST

/* What is written is read back in the field's width, and no other field changes. VM-exit information fields take it, too:
 * IA32_VMX_MISC[29] says so, as on every processor with VMCS shadowing. */
START_TEST(values_are_kept)
{
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++) {
        const struct vmx_field_info *info = vmx_field_info(n);
        u64 value = 0x8877665544332211ull + n, read = 0;
        memset(&frame()->vmcs, 0, sizeof frame()->vmcs);
        enum vmx_error error = vmx_field_write(&cpu, frame(), info->encoding, value);
        if (!vmx_field_present(&cpu, n)) {
            ck_assert_int_eq(error, VMX_ERROR_UNSUPPORTED_FIELD);
            ck_assert(!vmx_field_read(&cpu, &frame()->vmcs, info->encoding, &read));
            continue;
        }
        ck_assert_int_eq(error, VMX_ERROR_NONE);
        ck_assert(vmx_field_read(&cpu, &frame()->vmcs, info->encoding, &read));
        ck_assert_uint_eq(read, value & mask_low(info->bits));
        for (unsigned other = 0; other < VMX_FIELD_COUNT; other++)
            if (other != n)
                ck_assert_uint_eq(vmx_field_get(&frame()->vmcs, other), 0);
    }
}
END_TEST

START_TEST(high_halves)
{
    u64 value;
    ck_assert_int_eq(vmx_field_write(&cpu, frame(), 0x2800, 0x1122334455667788ull), VMX_ERROR_NONE);
    ck_assert(vmx_field_read(&cpu, &frame()->vmcs, 0x2801, &value));
    ck_assert_uint_eq(value, 0x11223344);
    ck_assert_int_eq(vmx_field_write(&cpu, frame(), 0x2801, 0xffffffffdeadbeefull), VMX_ERROR_NONE);
    ck_assert(vmx_field_read(&cpu, &frame()->vmcs, 0x2800, &value));
    ck_assert_uint_eq(value, 0xdeadbeef55667788ull);
    /* A 32-bit source operand clears the high half of a full access. */
    ck_assert_int_eq(vmx_field_write(&cpu, frame(), 0x2800, 0x1), VMX_ERROR_NONE);
    ck_assert(vmx_field_read(&cpu, &frame()->vmcs, 0x2801, &value));
    ck_assert_uint_eq(value, 0);
    ck_assert_int_eq(vmx_field_write(&cpu, frame(), 0x2401, 0x1), VMX_ERROR_NONE);
    ck_assert_uint_eq(frame()->vmcs.guest_physical_address, 1ull << 32);
}
END_TEST

/* A region in memory may hold anything. */
START_TEST(regions_are_normalised)
{
    struct vmcs *v = &frame()->vmcs;
    memset(v, 0xff, sizeof *v);
    vmx_fields_normalise(v);
    ck_assert_uint_eq(v->launched, 1);
    for (unsigned n = 0; n < VMX_FIELD_COUNT; n++)
        ck_assert_uint_eq(vmx_field_get(v, n), mask_low(vmx_field_info(n)->bits));
}
END_TEST

START_TEST(names_and_errors)
{
    ck_assert_int_eq(vmx_field_find_name("guest_rip", 9), VMX_FIELD_guest_rip);
    ck_assert_int_lt(vmx_field_find_name("guest_ri", 8), 0);
    ck_assert_str_eq(vmx_field_info(VMX_FIELD_guest_rip)->text, "Guest RIP");
    ck_assert_str_eq(vmx_error_text(VMX_ERROR_ENTRY_INVALID_CONTROLS), "VM entry with invalid control field(s)");
    ck_assert_str_eq(vmx_error_text(14), "unknown error");
}
END_TEST

/* The printed tables have a line a row. */
static unsigned lines_of(void (*print)(const struct cpu *c, FILE *out), const struct cpu *c)
{
    FILE *out = tmpfile();
    unsigned lines = 0;
    ck_assert(out);
    print(c, out);
    rewind(out);
    for (int ch; (ch = getc(out)) != EOF;)
        lines += ch == '\n';
    fclose(out);
    return lines;
}
static void checks_table(const struct cpu *c, FILE *out) { (void)c; vmx_dump_checks(out); }
static void exits_table(const struct cpu *c, FILE *out) { (void)c; vmx_dump_exits(out); }
static void vmcs_table(const struct cpu *c, FILE *out) { vmx_dump_vmcs(c, &c->vmx.frame[0].vmcs, out); }

START_TEST(tables_in_print)
{
    ck_assert_uint_eq(lines_of(vmx_dump_fields, &cpu), VMX_FIELD_COUNT + 1);
    ck_assert_uint_eq(lines_of(vmx_dump_fields, NULL), VMX_FIELD_COUNT + 1);
    ck_assert_uint_ge(lines_of(vmx_dump_controls, &cpu), CTL_COUNT + VMX_WORD_COUNT);
    ck_assert_uint_ge(lines_of(vmx_dump_controls, NULL), CTL_COUNT + VMX_WORD_COUNT);
    ck_assert_uint_ge(lines_of(checks_table, &cpu), VMX_CHECK_COUNT + VMX_SECTION_COUNT);
    ck_assert_uint_gt(lines_of(exits_table, &cpu), 70);
    ck_assert_uint_gt(lines_of(vmcs_table, &cpu), 130);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {encodings_are_the_sdms, exactly_the_rows_exist, values_are_kept, high_halves, regions_are_normalised, names_and_errors,
                                  tables_in_print};
    return bench_run_with("VMCS fields", tests, ARRAY_SIZE(tests), bench_hypervisor_setup);
}
