/* The VMX instructions: every VMfail the SDM gives them, #UD and #GP before it, exits to the parent in non-root
 * operation, and the life of a VMCS region.
 */
#include "tests/vmx/bench_vmcs.h"
#include "vmx/insn.h"

#define RIP 0x1000u
static const struct insn insn = BENCH_VMX_INSN(4);

static void setup(void)
{
    bench_hypervisor_setup();
    bench_vmcs_64(&cpu.vmx.frame[0].vmcs);
    bus_write(&bus, 0, BENCH_VMCS, 4, VMCS_REVISION);
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    cpu.vmx.frame[0].vmxon_ptr = BENCH_PAGE + 0x1000;
    bus_write(&bus, 0, BENCH_PAGE + 0x1000, 4, VMCS_REVISION);
    cpu.core.rip = RIP;
}

#define STATUS (FL_CF | FL_PF | FL_AF | FL_ZF | FL_SF | FL_OF)

static void ck_done(enum flow flow, u32 status)
{
    ck_assert_int_eq(flow, FLOW_END);
    ck_assert_uint_eq(cpu_rflags(&cpu) & STATUS, status);
    ck_assert_uint_eq(cpu.core.rip, RIP + 4);
    cpu.core.rip = RIP;
}
static void ck_succeeds(enum flow flow) { ck_done(flow, 0); }
static void ck_invalid(enum flow flow) { ck_done(flow, FL_CF); }
static void ck_fails(enum flow flow, unsigned error)
{
    ck_done(flow, FL_ZF);
    ck_assert_uint_eq(cpu.vmx.frame[0].vmcs.vm_instruction_error, error);
}
static void ck_raises(enum flow flow, unsigned vector)
{
    ck_assert_int_eq(flow, FLOW_EVENT);
    ck_assert_uint_eq(cpu.event.vector, vector);
    ck_assert_uint_eq(cpu.core.rip, RIP);
    cpu.event.valid = 0;
}

START_TEST(test_begin)
{
    ck_assert_int_eq(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), FLOW_NEXT);
    cpu.seg.s[SEG_SS].access |= 3 << 5;
    cpu_mode_update(&cpu);
    ck_raises(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), EXC_GP);
    cpu.vmx.frame[0].vmxon = 0;
    ck_raises(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), EXC_UD);
    cpu.vmx.frame[0].vmxon = 1;
    cpu.seg.s[SEG_CS].access &= ~(u32)AR_L;    /* compatibility mode */
    cpu_mode_update(&cpu);
    ck_raises(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), EXC_UD);
    cpu.sys.cr0 &= ~(u64)(CR0_PE | CR0_PG);
    cpu.sys.efer = 0;
    cpu_mode_update(&cpu);
    ck_raises(vmx_insn_begin(&cpu, &insn, EXIT_VMPTRLD, 0), EXC_UD);
}
END_TEST

START_TEST(test_vmxon)
{
    struct vmx_frame *f = &cpu.vmx.frame[0];
    u64 region = BENCH_PAGE + 0x1000;

    ck_assert_int_eq(vmx_insn_begin_vmxon(&cpu, &insn, 0), FLOW_NEXT);
    ck_fails(vmx_insn_vmxon(&cpu, &insn, region), VMX_ERROR_VMXON_IN_ROOT);

    f->vmxon = 0;
    f->vmcs_ptr = VMX_NO_VMCS;
    ck_invalid(vmx_insn_vmxon(&cpu, &insn, region + 8));
    ck_invalid(vmx_insn_vmxon(&cpu, &insn, BIT(46)));
    bus_write(&bus, 0, region, 4, VMCS_REVISION ^ 1);
    ck_invalid(vmx_insn_vmxon(&cpu, &insn, region));
    bus_write(&bus, 0, region, 4, VMCS_REVISION | BIT(31));
    ck_invalid(vmx_insn_vmxon(&cpu, &insn, region));
    bus_write(&bus, 0, region, 4, VMCS_REVISION);

    cpu.sys.feature_control = FEATURE_CONTROL_VMX;
    ck_raises(vmx_insn_vmxon(&cpu, &insn, region), EXC_GP);
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED;
    ck_raises(vmx_insn_vmxon(&cpu, &insn, region), EXC_GP);
    cpu.sys.feature_control = FEATURE_CONTROL_LOCKED | FEATURE_CONTROL_VMX;
    cpu.sys.cr0 &= ~(u64)CR0_NE;
    ck_raises(vmx_insn_vmxon(&cpu, &insn, region), EXC_GP);
    cpu.sys.cr0 |= CR0_NE;
    bus.a20_mask = ~BIT(20);
    ck_raises(vmx_insn_vmxon(&cpu, &insn, region), EXC_GP);
    bus.a20_mask = ~0ull;

    ck_succeeds(vmx_insn_vmxon(&cpu, &insn, region));
    ck_assert(f->vmxon);
    ck_assert_uint_eq(f->vmxon_ptr, region);
    ck_assert_uint_eq(vmx_current_vmcs(&cpu), VMX_NO_VMCS);

    cpu.sys.cr4 &= ~(u64)CR4_VMXE;
    ck_raises(vmx_insn_begin_vmxon(&cpu, &insn, 0), EXC_UD);
}
END_TEST

START_TEST(test_vmclear)
{
    ck_fails(vmx_insn_vmclear(&cpu, &insn, BENCH_OTHER_VMCS + 1), VMX_ERROR_VMCLEAR_INVALID_ADDRESS);
    ck_fails(vmx_insn_vmclear(&cpu, &insn, BIT(46)), VMX_ERROR_VMCLEAR_INVALID_ADDRESS);
    ck_fails(vmx_insn_vmclear(&cpu, &insn, cpu.vmx.frame[0].vmxon_ptr), VMX_ERROR_VMCLEAR_VMXON_POINTER);
    ck_succeeds(vmx_insn_vmclear(&cpu, &insn, BENCH_OTHER_VMCS));
    ck_assert_uint_eq(vmx_current_vmcs(&cpu), BENCH_VMCS);
    ck_succeeds(vmx_insn_vmclear(&cpu, &insn, BENCH_VMCS));
    ck_assert_uint_eq(vmx_current_vmcs(&cpu), VMX_NO_VMCS);
}
END_TEST

START_TEST(test_vmptrld)
{
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BENCH_OTHER_VMCS + 0x10), VMX_ERROR_VMPTRLD_INVALID_ADDRESS);
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BIT(46)), VMX_ERROR_VMPTRLD_INVALID_ADDRESS);
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, cpu.vmx.frame[0].vmxon_ptr), VMX_ERROR_VMPTRLD_VMXON_POINTER);
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BENCH_PAGE), VMX_ERROR_VMPTRLD_INCORRECT_REVISION);
    bus_write(&bus, 0, BENCH_PAGE, 4, VMCS_REVISION ^ BIT(30));
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BENCH_PAGE), VMX_ERROR_VMPTRLD_INCORRECT_REVISION);
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BENCH_RAM + 0x1000), VMX_ERROR_VMPTRLD_INCORRECT_REVISION);  /* no memory */
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_OTHER_VMCS));
    ck_assert_uint_eq(vmx_current_vmcs(&cpu), BENCH_OTHER_VMCS);
}
END_TEST

/* ---- VMCS shadowing ---------------------------------------------------------------------------------------------- */

#define READ_BITMAP (BENCH_PAGE + 0x4000)
#define WRITE_BITMAP (BENCH_PAGE + 0x5000)

/* A shadow VMCS can be current and holds fields like any other, but cannot be entered. */
START_TEST(test_shadow_vmcs_current)
{
    u64 value;
    bus_write(&bus, 0, BENCH_SHADOW_VMCS, 4, VMCS_REVISION | VMCS_SHADOW);
    cpu.vmx.frame[0].vmxon = 0;
    ck_invalid(vmx_insn_vmxon(&cpu, &insn, BENCH_SHADOW_VMCS));
    cpu.vmx.frame[0].vmxon = 1;
    cpu.vmx.frame[0].vmxon_ptr = 0x300000;
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_SHADOW_VMCS));
    ck_assert_int_eq(vmx_insn_vmwrite(&cpu, &insn, 0x681e, 0x1234), FLOW_NEXT);
    ck_assert_int_eq(vmx_insn_vmread(&cpu, &insn, 0x681e, &value), FLOW_NEXT);
    ck_assert_uint_eq(value, 0x1234);
    ck_invalid(vmx_insn_enter(&cpu, &insn, true));
    ck_succeeds(vmx_insn_vmclear(&cpu, &insn, BENCH_SHADOW_VMCS));
    ck_assert_uint_eq(vmx_region_field(&cpu, BENCH_SHADOW_VMCS, VMX_FIELD_guest_rip), 0x1234);
}
END_TEST

/* Processors before VMCS shadowing: no shadow VMCS can be current, exit information is read-only. */
START_TEST(test_before_shadowing)
{
    bench_model("nehalem");
    bus_write(&bus, 0, BENCH_SHADOW_VMCS, 4, VMCS_REVISION | VMCS_SHADOW);
    ck_fails(vmx_insn_vmptrld(&cpu, &insn, BENCH_SHADOW_VMCS), VMX_ERROR_VMPTRLD_INCORRECT_REVISION);
    ck_fails(vmx_insn_vmwrite(&cpu, &insn, 0x4402, 0), VMX_ERROR_VMWRITE_READ_ONLY_FIELD);
    ck_fails(vmx_insn_vmwrite(&cpu, &insn, 0x2401, 0), VMX_ERROR_VMWRITE_READ_ONLY_FIELD);
}
END_TEST

static void shadowing_guest(void)
{
    struct vmx_frame *f = &cpu.vmx.frame[0];
    bench_vmcs_64(&f->vmcs);
    f->vmcs.secondary_controls |= SECONDARY_VMCS_SHADOWING;
    f->vmcs.vmread_bitmap_address = READ_BITMAP;
    f->vmcs.vmwrite_bitmap_address = WRITE_BITMAP;
    f->vmcs.vmcs_link_pointer = BENCH_SHADOW_VMCS;
    bus_write(&bus, 0, BENCH_SHADOW_VMCS, 4, VMCS_REVISION | VMCS_SHADOW);
    f->checked = 0;
    ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, !f->vmcs.launched), FLOW_EXIT);
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    cpu.core.rip = RIP;
}

static bool shadowed(u32 reason, u64 encoding)
{
    bool shadow;
    enum flow flow = vmx_insn_begin_field(&cpu, &insn, reason, 0, encoding, &shadow);
    if (!shadow) {
        ck_assert_int_eq(flow, FLOW_EXIT);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
        ck_assert_uint_eq(cpu.vmx.frame[0].vmcs.exit_reason, reason);
        shadowing_guest();
    } else {
        ck_assert_int_eq(flow, FLOW_NEXT);
    }
    return shadow;
}

/* Which accesses of a guest exit [SDM3 "VMREAD, VMWRITE: Instructions That Cause VM Exits Conditionally"]. */
START_TEST(test_shadow_bitmaps)
{
    shadowing_guest();
    for (u64 encoding = 0; encoding < 0x8000; encoding += 0x3ff) {
        ck_assert(shadowed(EXIT_VMREAD, encoding) && shadowed(EXIT_VMWRITE, encoding));
        bus_write(&bus, 0, READ_BITMAP + encoding / 8, 1, 1ull << (encoding & 7));
        ck_assert(!shadowed(EXIT_VMREAD, encoding) && shadowed(EXIT_VMWRITE, encoding));
        bus_write(&bus, 0, READ_BITMAP + encoding / 8, 1, 0xff & ~(1ull << (encoding & 7)));
        ck_assert(shadowed(EXIT_VMREAD, encoding));
        bus_write(&bus, 0, WRITE_BITMAP + encoding / 8, 1, 1ull << (encoding & 7));
        ck_assert(!shadowed(EXIT_VMWRITE, encoding));
        bus_write(&bus, 0, WRITE_BITMAP + encoding / 8, 1, 0);
    }
    ck_assert(!shadowed(EXIT_VMREAD, 0x8000) && !shadowed(EXIT_VMREAD, BIT(32)) && !shadowed(EXIT_VMWRITE, BIT(63)));
    /* CPL comes behind the exit. */
    cpu.mode.cpl = 3;
    bool shadow;
    ck_raises(vmx_insn_begin_field(&cpu, &insn, EXIT_VMREAD, 0, 0x681e, &shadow), EXC_GP);
    cpu.mode.cpl = 0;
    cpu.vmx.frame[0].vmcs.secondary_controls = 0;
    ck_assert_int_eq(vmx_insn_begin_field(&cpu, &insn, EXIT_VMREAD, 0, 0x681e, &shadow), FLOW_EXIT);
}
END_TEST

START_TEST(test_shadow_accesses)
{
    u64 value;
    shadowing_guest();
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x681e, 0xabcdef0123456789ull), FLOW_NEXT);
    ck_assert_int_eq(vmx_insn_vmread_shadow(&cpu, &insn, 0x681e, &value), FLOW_NEXT);
    ck_assert_uint_eq(value, 0xabcdef0123456789ull);
    ck_assert_uint_ne(v->guest_rip, value);
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x0800, 0x12345), FLOW_NEXT);      /* 16 bits */
    ck_assert_int_eq(vmx_insn_vmread_shadow(&cpu, &insn, 0x0800, &value), FLOW_NEXT);
    ck_assert_uint_eq(value, 0x2345);
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x2801, 0x99), FLOW_NEXT);         /* a high half */
    ck_assert_int_eq(vmx_insn_vmread_shadow(&cpu, &insn, 0x2800, &value), FLOW_NEXT);
    ck_assert_uint_eq(value, 0x99ull << 32);
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x4402, 7), FLOW_NEXT);            /* exit reason */
    ck_assert_uint_eq(vmx_region_field(&cpu, BENCH_SHADOW_VMCS, VMX_FIELD_exit_reason), 7);
    ck_assert_int_eq(vmx_insn_vmread_shadow(&cpu, &insn, 0x7ffe, &value), FLOW_END);
    ck_assert(cpu_rflags(&cpu) & FL_ZF);
    ck_assert_uint_eq(v->vm_instruction_error, VMX_ERROR_UNSUPPORTED_FIELD);
    v->vmcs_link_pointer = VMX_NO_VMCS;
    ck_assert_int_eq(vmx_insn_vmread_shadow(&cpu, &insn, 0x681e, &value), FLOW_END);
    ck_assert(cpu_rflags(&cpu) & FL_CF);
    ck_assert_int_eq(vmx_insn_vmwrite_shadow(&cpu, &insn, 0x681e, 0), FLOW_END);
    ck_assert(cpu_rflags(&cpu) & FL_CF);
}
END_TEST

/* What was written to a VMCS is there after it was not current for a while; VMCLEAR takes its launch state. */
START_TEST(test_region_keeps_fields)
{
    struct vmx_frame *f = &cpu.vmx.frame[0];
    u64 value;
    ck_assert_int_eq(vmx_insn_vmwrite(&cpu, &insn, 0x681e, 0x123456789abcull), FLOW_NEXT);
    f->vmcs.launched = 1;
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_OTHER_VMCS));
    ck_assert_uint_eq(f->vmcs.guest_rip, 0);
    ck_assert_uint_eq(f->vmcs.launched, 0);
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_VMCS));
    ck_assert_int_eq(vmx_insn_vmread(&cpu, &insn, 0x681e, &value), FLOW_NEXT);
    ck_assert_uint_eq(value, 0x123456789abcull);
    ck_assert_uint_eq(f->vmcs.launched, 1);
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_OTHER_VMCS));
    ck_succeeds(vmx_insn_vmclear(&cpu, &insn, BENCH_VMCS));          /* not current */
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_VMCS));
    ck_assert_uint_eq(f->vmcs.launched, 0);
    ck_assert_uint_eq(f->vmcs.guest_rip, 0x123456789abcull);
}
END_TEST

START_TEST(test_fields)
{
    u64 value;
    ck_fails(vmx_insn_vmread(&cpu, &insn, 0x7ffe, &value), VMX_ERROR_UNSUPPORTED_FIELD);
    ck_fails(vmx_insn_vmwrite(&cpu, &insn, 0x7ffe, 0), VMX_ERROR_UNSUPPORTED_FIELD);
    ck_assert_int_eq(vmx_insn_vmread(&cpu, &insn, 0x4400, &value), FLOW_NEXT);   /* VM-instruction error */
    ck_assert_uint_eq(value, VMX_ERROR_UNSUPPORTED_FIELD);
    cpu.vmx.frame[0].vmcs_ptr = VMX_NO_VMCS;
    ck_invalid(vmx_insn_vmread(&cpu, &insn, 0x681e, &value));
    ck_invalid(vmx_insn_vmwrite(&cpu, &insn, 0x681e, 0));
}
END_TEST

START_TEST(test_entry_refused)
{
    struct vmcs *v = &cpu.vmx.frame[0].vmcs;
    ck_fails(vmx_insn_enter(&cpu, &insn, false), VMX_ERROR_VMRESUME_NOT_LAUNCHED);
    v->launched = 1;
    ck_fails(vmx_insn_enter(&cpu, &insn, true), VMX_ERROR_VMLAUNCH_NOT_CLEAR);
    v->launched = 0;
    cpu.event.blocking = BLOCK_MOV_SS;
    ck_fails(vmx_insn_enter(&cpu, &insn, true), VMX_ERROR_ENTRY_BLOCKED_BY_MOV_SS);
    cpu.event.blocking = 0;
    u64 saved = v->pin_controls;
    v->pin_controls = 0;
    cpu.vmx.frame[0].checked = 0;
    ck_fails(vmx_insn_enter(&cpu, &insn, true), VMX_ERROR_ENTRY_INVALID_CONTROLS);
    v->pin_controls = saved;
    v->host_cr4 = 0;
    cpu.vmx.frame[0].checked = 0;
    ck_fails(vmx_insn_enter(&cpu, &insn, true), VMX_ERROR_ENTRY_INVALID_HOST_STATE);
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    cpu.vmx.frame[0].vmcs_ptr = VMX_NO_VMCS;
    ck_invalid(vmx_insn_enter(&cpu, &insn, true));
}
END_TEST

START_TEST(test_vmcall_vmfunc)
{
    ck_fails(vmx_insn_vmcall(&cpu, &insn), VMX_ERROR_VMCALL_IN_ROOT);
    ck_raises(vmx_insn_vmfunc(&cpu, &insn), EXC_UD);
    cpu.vmx.frame[0].vmxon = 0;
    ck_raises(vmx_insn_vmcall(&cpu, &insn), EXC_UD);
}
END_TEST

START_TEST(test_invept_invvpid)
{
    u64 eptp = BENCH_PAGE | 3 << 3 | 6;
    unsigned error = VMX_ERROR_INVALID_OPERAND_TO_INVEPT_INVVPID;
    ck_succeeds(vmx_insn_invept(&cpu, &insn, 1, eptp, 0));
    ck_succeeds(vmx_insn_invept(&cpu, &insn, 2, 0, 0));
    ck_fails(vmx_insn_invept(&cpu, &insn, 0, eptp, 0), error);
    ck_fails(vmx_insn_invept(&cpu, &insn, 3, eptp, 0), error);
    ck_fails(vmx_insn_invept(&cpu, &insn, 1, 1, 0), error);

    for (u64 type = 0; type <= 3; type++)
        ck_succeeds(vmx_insn_invvpid(&cpu, &insn, type, 5, 0x1000));
    ck_succeeds(vmx_insn_invvpid(&cpu, &insn, 2, 0, 0));
    ck_fails(vmx_insn_invvpid(&cpu, &insn, 4, 5, 0), error);
    ck_fails(vmx_insn_invvpid(&cpu, &insn, 1, 0x10005, 0), error);
    ck_fails(vmx_insn_invvpid(&cpu, &insn, 1, 0, 0), error);
    ck_fails(vmx_insn_invvpid(&cpu, &insn, 0, 5, 0x0000800000000000ull), error);
}
END_TEST

/* The handlers of the table: operands come from and go to memory and registers. */
START_TEST(test_handlers)
{
    struct insn in = bench_memory(OSZ_64, REG_RAX, 0x20000);
    in.length = 4;
    cpu.vmx.frame[0].vmcs_ptr = BENCH_VMCS;
    bench_poke64(0x20000, 0);
    ck_succeeds(bench_run_insn(h_vmptrst, in));
    ck_assert_uint_eq(bench_peek64(0x20000), BENCH_VMCS);

    bench_poke64(0x20000, 5);
    bench_poke64(0x20008, 0x1000);
    cpu.core.rax = 0;
    ck_succeeds(bench_run_insn(h_invvpid, in));
    bench_poke64(0x20008, 0x0000800000000000ull);      /* not canonical */
    ck_fails(bench_run_insn(h_invvpid, in), VMX_ERROR_INVALID_OPERAND_TO_INVEPT_INVVPID);
    bench_poke64(0x20008, 0x1000);
    cpu.core.rax = 4;                                  /* no such type */
    ck_fails(bench_run_insn(h_invvpid, in), VMX_ERROR_INVALID_OPERAND_TO_INVEPT_INVVPID);

    ck_raises(bench_run_insn(h_vmfunc, insn), EXC_UD); /* in root operation */
}
END_TEST

START_TEST(test_vmxoff)
{
    cpu.vmx.frame[0].vmcs.guest_rip = 77;
    ck_succeeds(vmx_insn_vmxoff(&cpu, &insn));
    ck_assert(!cpu.vmx.frame[0].vmxon);
    ck_raises(vmx_insn_begin(&cpu, &insn, EXIT_VMXOFF, 0), EXC_UD);
    cpu.vmx.frame[0].vmxon = 1;
    ck_succeeds(vmx_insn_vmptrld(&cpu, &insn, BENCH_VMCS));
    ck_assert_uint_eq(cpu.vmx.frame[0].vmcs.guest_rip, 77);          /* it was written back */
}
END_TEST

/* In non-root operation all of them exit, before CPL is looked at. */
START_TEST(test_nonroot_exits)
{
    static const u32 reasons[] = {EXIT_VMCLEAR, EXIT_VMLAUNCH, EXIT_VMPTRLD, EXIT_VMPTRST, EXIT_VMREAD, EXIT_VMRESUME,
                                  EXIT_VMWRITE,
                                  EXIT_VMXOFF, EXIT_INVEPT, EXIT_INVVPID, EXIT_VMCALL, EXIT_VMXON};
    cpu.vmx.frame[0].vmcs.guest_ss_access_rights |= 3 << 5;
    cpu.vmx.frame[0].vmcs.guest_cs_access_rights |= 3 << 5;
    cpu.vmx.frame[0].vmcs.guest_cs_selector |= 3;
    cpu.vmx.frame[0].vmcs.guest_ss_selector |= 3;
    for (unsigned n = 0; n < ARRAY_SIZE(reasons); n++) {
        cpu.core.rip = RIP;
        ck_assert_int_eq(vmx_insn_enter(&cpu, &insn, n == 0), FLOW_EXIT);
        ck_assert_uint_eq(cpu.vmx.depth, 1);
        enum flow flow = reasons[n] == EXIT_VMCALL  ? vmx_insn_vmcall(&cpu, &insn)
                         : reasons[n] == EXIT_VMXON ? vmx_insn_begin_vmxon(&cpu, &insn, 0x55)
                                                    : vmx_insn_begin(&cpu, &insn, reasons[n], 0x55);
        /* VMXE is 1 in the guest's CR4, so VMXON is no #UD. */
        ck_assert_int_eq(flow, FLOW_EXIT);
        ck_assert_uint_eq(cpu.vmx.depth, 0);
        ck_assert_uint_eq(cpu.vmx.frame[0].vmcs.exit_reason, reasons[n]);
        ck_assert_uint_eq(cpu.vmx.frame[0].vmcs.exit_instruction_length, 4);
    }
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {test_begin, test_vmxon, test_vmclear, test_vmptrld, test_shadow_vmcs_current, test_before_shadowing,
                                  test_shadow_bitmaps, test_shadow_accesses, test_region_keeps_fields,
                                  test_fields, test_entry_refused, test_vmcall_vmfunc, test_invept_invvpid, test_handlers,
                                  test_vmxoff, test_nonroot_exits};
    return bench_run_with("vmx instructions", tests, ARRAY_SIZE(tests), setup);
}
