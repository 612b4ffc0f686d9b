/* The virtual APIC of one frame: which accesses are virtualised by which control, PPR, recognition and delivery of
 * virtual interrupts in every state, EOI-exit bitmaps, self-IPIs, posted interrupts, IPI virtualization, x2APIC MSRs.
 * (Several frames: test_policy.c.)
 */
#include "tests/vmx/bench_apic.h"

#define PAGE BENCH_PAGE
#define GUEST_RIP 0x3000u
#define POSTED (BENCH_PAGE + 0x1040)
#define PID_TABLE (BENCH_PAGE + 0x2000)
#define OTHER_PID (BENCH_PAGE + 0x3000)

static void setup(void)
{
    bench_apic_setup("base");
    bench_vmcs_apicv(v);
    v->exit_msr_store_count = v->exit_msr_load_count = v->entry_msr_load_count = 0;
    v->secondary_controls &= ~(u64)BENCH_EPT_CONTROLS;
    v->primary_controls &= ~(u64)PRIMARY_NMI_WINDOW_EXITING;
    v->pin_controls &= ~(u64)PIN_PREEMPTION_TIMER;
    v->exit_controls &= ~(u64)VMEXIT_SAVE_PREEMPTION_TIMER;
    v->vmcs_link_pointer = ~0ull;
    v->guest_rip = GUEST_RIP;
    v->guest_rflags = FL_R1;
    bus_write(&bus, 0, PAGE + 0x80, 4, 0);
}

static u32 reg(unsigned offset) { return (u32)bus_read(&bus, 0, PAGE + offset, 4); }
static void set_reg(unsigned offset, u32 value) { bus_write(&bus, 0, PAGE + offset, 4, value); }
static void set_irr(u8 vector) { set_reg(0x200 + (vector >> 5) * 16u, reg(0x200 + (vector >> 5) * 16u) | 1u << (vector & 31)); }
static bool irr(u8 vector) { return reg(0x200 + (vector >> 5) * 16u) >> (vector & 31) & 1; }
static bool isr(u8 vector) { return reg(0x100 + (vector >> 5) * 16u) >> (vector & 31) & 1; }
static bool recognised(void) { return cpu.vmx.frame[0].virtual_interrupt; }

static bool write_msr(u32 msr, u64 value)
{
    bool known;
    bool ok = vmx_msr_write(&cpu, msr, value, &known);
    ck_assert(known);
    return ok;
}

/* The trap-like exit that is due. */
static void ck_exit(u32 reason, u64 qualification)
{
    ck_assert(cpu.event.attention & ATT_VMX);
    ck_assert(vmx_attention(&cpu, VMX_STAGE_TPR_MTF));
    ck_assert_uint_eq(cpu.vmx.depth, 0);
    ck_assert_uint_eq(v->exit_reason, reason);
    ck_assert_uint_eq(v->exit_qualification, qualification);
    ck_assert_uint_eq(v->exit_instruction_length, 0);
    ck_assert_uint_eq(v->idt_vectoring_info, 0);
}

/* ---- the APIC-access page ---------------------------------------------------------------------------------------- */

/* The registers that the SDM lists, for each setting of the two controls [SDM3 "Virtualizing Reads from the APIC-Access
 * Page", "Determining Whether a Write Access is Virtualized"]. */
static bool listed(unsigned offset, bool registers, bool delivery, bool write)
{
    switch (offset) {
    case 0x80: return true;
    case 0xb0: case 0x300: return registers || delivery;
    case 0x20: case 0xd0: case 0xe0: case 0xf0: case 0x280: case 0x310: case 0x320: case 0x330: case 0x340: case 0x350:
    case 0x360: case 0x370: case 0x380: case 0x3e0: return registers;
    default: return registers && !write && (offset == 0x30 || (offset >= 0x100 && offset <= 0x270));
    }
}

START_TEST(which_accesses_are_virtualised)
{
    v->secondary_controls = (v->secondary_controls & ~(u64)SECONDARY_X2APIC_MODE) | SECONDARY_APIC_ACCESSES;
    v->apic_access_address = PAGE + 0x8000;
    for (unsigned controls = 0; controls < 4; controls++) {
        u64 both = SECONDARY_APIC_REGISTER_VIRTUALIZATION | SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
        v->pin_controls &= ~(u64)PIN_POSTED_INTERRUPTS;
        v->secondary_controls = (v->secondary_controls & ~both) | (controls & 1 ? SECONDARY_APIC_REGISTER_VIRTUALIZATION : 0)
                                | (controls & 2 ? SECONDARY_VIRTUAL_INTERRUPT_DELIVERY : 0);
        v->tpr_threshold = 0;
        enter();
        for (unsigned offset = 0; offset < 0x1000; offset++) {
            for (unsigned size = 1; size <= 8; size *= 2) {
                bool within = (offset & 15) + size <= 4;
                bool read = within && listed(offset & 0xff0, controls & 1, controls & 2, false);
                bool write = within && listed(offset & 0xff0, controls & 1, controls & 2, true)
                             && (controls & 1 || !(offset & 15));
                ck_assert_int_eq(mem_apic_virtual_access(&cpu, 0, offset, size, false, NULL), read);
                ck_assert_int_eq(mem_apic_virtual_access(&cpu, 0, offset, size, true, NULL), write);
            }
        }
        leave();
    }
    v->primary_controls &= ~(u64)PRIMARY_TPR_SHADOW;
    v->primary_controls &= ~(u64)PRIMARY_TERTIARY_CONTROLS;
    v->secondary_controls &= ~(u64)(SECONDARY_APIC_REGISTER_VIRTUALIZATION | SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
    enter();
    ck_assert(!mem_apic_virtual_access(&cpu, 0, 0x80, 4, false, NULL));
}
END_TEST

static void page_write(unsigned offset, u32 value, unsigned size)
{
    u8 bytes[4];
    store32(bytes, value);
    ck_assert(mem_apic_virtual_access(&cpu, 0, offset, size, true, bytes));
}

static u32 page_read(unsigned offset, unsigned size)
{
    u8 bytes[4] = {0};
    ck_assert(mem_apic_virtual_access(&cpu, 0, offset, size, false, bytes));
    return load32(bytes);
}

static void with_page(void)
{
    v->secondary_controls = (v->secondary_controls & ~(u64)SECONDARY_X2APIC_MODE) | SECONDARY_APIC_ACCESSES;
    v->apic_access_address = PAGE + 0x8000;
}

START_TEST(register_writes)
{
    with_page();
    enter();
    page_write(0xf0, 0x1ff, 4);
    ck_assert_uint_eq(reg(0xf0), 0x1ff);
    ck_exit(EXIT_APIC_WRITE, 0xf0);
    enter();
    set_reg(0x320, 0x11223344);
    page_write(0x321, 0xaa, 1);            /* a byte within it */
    ck_assert_uint_eq(reg(0x320), 0x1122aa44);
    ck_exit(EXIT_APIC_WRITE, 0x321);
    enter();
    ck_assert_uint_eq(page_read(0x322, 2), 0x1122);
    page_write(0x310, 0x05ffffff, 4);      /* only the destination stays; nothing else happens */
    ck_assert_uint_eq(reg(0x310), 0x05000000);
    ck_assert(!(cpu.event.attention & ATT_VMX));
    page_write(0x80, 0xabcdef42, 4);
    ck_assert_uint_eq(reg(0x80), 0x42);
    ck_assert_uint_eq(reg(0xa0), 0x42);    /* PPR follows */
    /* Without virtual-interrupt delivery EOI and ICR are registers like others. */
    leave();
    v->secondary_controls &= ~(u64)SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
    v->pin_controls &= ~(u64)PIN_POSTED_INTERRUPTS;
    v->primary_controls &= ~(u64)PRIMARY_TERTIARY_CONTROLS;
    v->tpr_threshold = 0;
    enter();
    page_write(0xb0, 0, 4);
    ck_exit(EXIT_APIC_WRITE, 0xb0);
    enter();
    page_write(0x300, 0x40000 | 0x61, 4);
    ck_exit(EXIT_APIC_WRITE, 0x300);
}
END_TEST

START_TEST(self_ipi_by_icr)
{
    static const u32 others[] = {0x40000 | 0x0f, 0x80000 | 0x61, 0x40000 | 0x8061, 0x40000 | 0x461, 0x40000 | 0x1061,
                                 0x40000 | 0x2061, 0x40000 | 0x100061, 0x40000 | 0x10061};
    with_page();
    v->primary_controls &= ~(u64)PRIMARY_TERTIARY_CONTROLS;
    enter();
    page_write(0x300, 0x40000 | 0x61, 4);
    ck_assert(irr(0x61) && recognised());
    ck_assert_uint_eq(v->guest_interrupt_status, 0x61);
    page_write(0x300, 0x44800 | 0x71, 4);  /* "assert" and "logical" say nothing for self */
    ck_assert_uint_eq(v->guest_interrupt_status, 0x71);
    page_write(0x300, 0x40000 | 0x51, 4);
    ck_assert(irr(0x51));
    ck_assert_uint_eq(v->guest_interrupt_status, 0x71);    /* the higher stays */
    for (unsigned n = 0; n < ARRAY_SIZE(others); n++) {
        page_write(0x300, others[n], 4);
        ck_exit(EXIT_APIC_WRITE, 0x300);
        enter();
    }
}
END_TEST

/* ---- priorities and EOI ------------------------------------------------------------------------------------------ */

START_TEST(ppr_and_recognition)
{
    static const struct { u8 tpr, svi, rvi, ppr; bool recognised; } row[] = {
        {0x00, 0x00, 0x00, 0x00, false}, {0x00, 0x00, 0x10, 0x00, true},  {0x20, 0x00, 0x2f, 0x20, false},
        {0x20, 0x00, 0x30, 0x20, true},  {0x25, 0x21, 0x30, 0x25, true},  {0x2f, 0x31, 0x3f, 0x30, false},
        {0x2f, 0x31, 0x40, 0x30, true},  {0xff, 0x00, 0xff, 0xff, false}, {0x05, 0x00, 0x1f, 0x05, true},
    };
    for (unsigned n = 0; n < ARRAY_SIZE(row); n++) {
        set_reg(0x80, row[n].tpr);
        v->guest_interrupt_status = row[n].rvi | (u64)row[n].svi << 8;
        set_reg(0xa0, 0xdeadbeef);
        enter();                           /* VM entry does PPR virtualization and evaluates */
        ck_assert_uint_eq(reg(0xa0), row[n].ppr);
        ck_assert_int_eq(recognised(), row[n].recognised);
        ck_assert_int_eq(!!(cpu.event.attention & ATT_VIRTUAL_INTR), row[n].recognised);
        leave();
        ck_assert_uint_eq(v->guest_interrupt_status, row[n].rvi | (u64)row[n].svi << 8);
        ck_assert(!recognised());
    }
    /* Interrupt-window exiting keeps virtual interrupts from being recognised. */
    v->primary_controls |= PRIMARY_INTERRUPT_WINDOW_EXITING;
    v->guest_interrupt_status = 0x80;
    set_reg(0x80, 0);
    enter();
    ck_assert(!recognised());
}
END_TEST

START_TEST(delivery_and_eoi)
{
    set_irr(0x61);
    set_irr(0x95);
    set_irr(0x33);
    v->guest_interrupt_status = 0x95;
    v->eoi_exit_bitmap_1 = BIT(0x61 & 63);
    enter();
    ck_assert(!vmx_virtual_interrupt(&cpu));                 /* IF = 0 */
    cpu.core.rflags_rest |= FL_IF;
    cpu.event.blocking = BLOCK_STI;
    ck_assert(!vmx_virtual_interrupt(&cpu));
    cpu.event.blocking = BLOCK_MOV_SS;
    ck_assert(!vmx_virtual_interrupt(&cpu));
    cpu.event.blocking = 0;
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert(cpu.event.valid && cpu.event.type == EVT_EXTERNAL && cpu.event.vector == 0x95);
    ck_assert(isr(0x95) && !irr(0x95) && irr(0x61));
    ck_assert_uint_eq(v->guest_interrupt_status, 0x9561);
    ck_assert_uint_eq(reg(0xa0), 0x90);
    ck_assert(!recognised());
    cpu.event.valid = 0;
    ck_assert(!vmx_virtual_interrupt(&cpu));                 /* 0x61 waits for the EOI */
    ck_assert(write_msr(X2APIC_EOI, 0));
    ck_assert(!isr(0x95));
    ck_assert_uint_eq(v->guest_interrupt_status, 0x61);
    ck_assert_uint_eq(reg(0xa0), 0);
    ck_assert(recognised());
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(cpu.event.vector, 0x61);
    cpu.event.valid = 0;
    ck_assert_uint_eq(v->guest_interrupt_status, 0x6133);
    /* The EOI of 0x61 exits, and 0x33 is recognised only by the next entry. */
    ck_assert(write_msr(X2APIC_EOI, 0));
    ck_assert(!recognised());
    ck_exit(EXIT_VIRTUALIZED_EOI, 0x61);
    ck_assert_uint_eq(v->guest_interrupt_status, 0x33);
    enter();
    ck_assert(recognised());
    ck_assert(!write_msr(X2APIC_EOI, 1));                    /* #GP */
}
END_TEST

/* An EOI with nested interrupts goes back to the one below. */
START_TEST(nested_interrupts)
{
    set_reg(0x140, 1u << 5);               /* 0x85 */
    set_reg(0x120, 1u << 2);               /* 0x42 */
    v->guest_interrupt_status = 0x8500;
    enter();
    ck_assert_uint_eq(reg(0xa0), 0x80);
    ck_assert(write_msr(X2APIC_EOI, 0));
    ck_assert_uint_eq(v->guest_interrupt_status, 0x4200);
    ck_assert_uint_eq(reg(0xa0), 0x40);
    ck_assert(write_msr(X2APIC_EOI, 0));
    ck_assert_uint_eq(v->guest_interrupt_status, 0);
    ck_assert(write_msr(X2APIC_EOI, 0));   /* nothing in service: harmless */
    ck_assert_uint_eq(reg(0xa0), 0);
}
END_TEST

START_TEST(tpr_lets_pass)
{
    set_reg(0x80, 0x70);
    set_irr(0x61);
    v->guest_interrupt_status = 0x61;
    enter();
    ck_assert(!recognised());
    ck_assert(vmx_tpr_write(&cpu, 0x50));  /* MOV to CR8 */
    ck_assert(recognised());
    ck_assert(vmx_tpr_write(&cpu, 0x60));
    ck_assert(!recognised());
    ck_assert(!(cpu.event.attention & ATT_VMX));             /* the threshold means nothing then */
    cpu.core.rflags_rest |= FL_IF;
    ck_assert(!vmx_virtual_interrupt(&cpu));
    ck_assert(!(cpu.event.attention & ATT_VIRTUAL_INTR));    /* nobody looks in vain for ever */
}
END_TEST

/* HLT ends for a virtual interrupt that can be delivered; shutdown and wait-for-SIPI do not [SDM3 "Virtual-Interrupt
 * Delivery"]. */
START_TEST(activity_states)
{
    for (unsigned activity = ACTIVITY_HLT; activity <= ACTIVITY_WAIT_SIPI; activity++) {
        set_irr(0x61);
        set_reg(0x130, 0);
        v->guest_interrupt_status = 0x61;
        v->guest_activity = activity;
        v->guest_rflags = FL_R1;
        enter();
        ck_assert_int_eq(cpu_service_events(&cpu), FLOW_END);
        ck_assert_uint_eq(cpu.event.activity, activity);
        cpu.core.rflags_rest |= FL_IF;
        ck_assert_int_eq(vmx_virtual_interrupt(&cpu), activity == ACTIVITY_HLT);
        cpu.event.valid = 0;
        cpu.event.attention = 0;
        v->guest_activity = 0;
        leave();
    }
}
END_TEST

/* A window comes first and leaves the virtual interrupt alone; NMIs are above, external interrupts below it. */
START_TEST(priorities)
{
    set_irr(0x61);
    v->guest_interrupt_status = 0x61;
    v->guest_rflags = FL_R1 | FL_IF;
    apic.acknowledged = 0x31;
    enter();
    cpu.event.attention |= ATT_NMI | ATT_INTR;
    cpu_service_events(&cpu);
    ck_assert_uint_eq(v->exit_reason, EXIT_EXCEPTION_NMI);
    ck_assert(irr(0x61));
    cpu.event.attention &= ~(u32)ATT_NMI;
    cpu.event.blocking = 0;
    enter();
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert(isr(0x61));
    /* … interrupted in its delivery: the exit tells which event it was. */
    cpu.fault = (struct mem_fault){.kind = FAULT_EPT_VIOLATION, .gpa = 0x1000, .qualification = 1};
    cpu.event.valid = 0;
    cpu.event.delivering = 1;
    cpu.event.d_vector = 0x61;
    cpu.event.d_type = EVT_EXTERNAL;
    vmx_memory_exit(&cpu);
    ck_assert_uint_eq(v->idt_vectoring_info, INFO_VALID | 0x61);
}
END_TEST

/* ---- posted interrupts ------------------------------------------------------------------------------------------- */

static void post(u8 vector) { bus_write(&bus, 0, POSTED + vector / 8, 1, bus_read(&bus, 0, POSTED + vector / 8, 1) | 1ull << (vector & 7)); }

START_TEST(posted_interrupts)
{
    enter();
    post(0x55);
    post(0xc1);
    set_irr(0x20);
    bus_write(&bus, 0, POSTED + 32, 8, 0x0000000500f20003ull);      /* ON, SN, NV, NDST */
    apic.acknowledged = 0xf2;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_TAKEN); /* whatever IF */
    ck_assert_uint_eq(cpu.vmx.depth, 1);
    ck_assert_uint_eq(apic.eois, 1);
    ck_assert(irr(0x55) && irr(0xc1) && irr(0x20));
    ck_assert_uint_eq(v->guest_interrupt_status, 0xc1);
    ck_assert(recognised());
    for (unsigned n = 0; n < 32; n += 8)
        ck_assert_uint_eq(bench_peek64(POSTED + n), 0);
    ck_assert_uint_eq(bench_peek64(POSTED + 32), 0x0000000500f20002ull);     /* the processor clears ON alone */
    /* Nothing posted: RVI keeps what it has. */
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_TAKEN);
    ck_assert_uint_eq(v->guest_interrupt_status, 0xc1);
    /* Another vector is acknowledged and exits. */
    apic.acknowledged = 0x31;
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_EXITED);
    ck_assert_uint_eq(v->exit_interruption_info, INFO_VALID | 0x31);
    ck_assert_uint_eq(apic.eois, 2);
}
END_TEST

/* A halted guest stays halted while what was posted cannot be delivered. */
START_TEST(posted_to_halted)
{
    v->guest_activity = ACTIVITY_HLT;
    v->guest_rflags = FL_R1 | FL_IF;
    set_reg(0x80, 0x60);
    enter();
    apic.acknowledged = 0xf2;
    post(0x55);
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_TAKEN);
    ck_assert(!recognised());
    ck_assert_uint_eq(cpu.event.activity, ACTIVITY_HLT);
    post(0x77);
    ck_assert_int_eq(vmx_external_interrupt(&cpu), VMX_EVENT_TAKEN);
    ck_assert(recognised());
    ck_assert(vmx_virtual_interrupt(&cpu));
    ck_assert_uint_eq(cpu.event.vector, 0x77);
}
END_TEST

/* ---- IPI virtualization ------------------------------------------------------------------------------------------ */

START_TEST(ipis)
{
    bench_poke64(PID_TABLE + 8 * 2, OTHER_PID | 1);
    bench_poke64(PID_TABLE + 8 * 3, OTHER_PID);              /* not valid */
    bench_poke64(OTHER_PID + 32, 0x0000000700f20000ull);
    enter();
    ck_assert(write_msr(X2APIC_ICR, 2ull << 32 | 0x61));
    ck_assert_uint_eq(bench_peek64(PAGE + 0x300), 2ull << 32 | 0x61);
    ck_assert_uint_eq(bench_peek64(OTHER_PID + 8), BIT(0x21));
    ck_assert_uint_eq(bench_peek64(OTHER_PID + 32), 0x0000000700f20001ull);
    ck_assert_uint_eq(apic.sent, 1);
    ck_assert_uint_eq(apic.ndst, 7);
    ck_assert_uint_eq(apic.vector, 0xf2);
    ck_assert(!(cpu.event.attention & ATT_VMX));
    ck_assert(write_msr(X2APIC_ICR, 2ull << 32 | 0x62));     /* a notification is outstanding */
    ck_assert_uint_eq(apic.sent, 1);
    ck_assert_uint_eq(bench_peek64(OTHER_PID + 8), BIT(0x21) | BIT(0x22));
    bench_poke64(OTHER_PID + 32, 0x0000000700f20002ull);     /* … suppressed */
    ck_assert(write_msr(X2APIC_ICR, 2ull << 32 | 0x63));
    ck_assert_uint_eq(apic.sent, 1);
    /* Exits: illegal vector, target past the table, pointer not valid, not a plain fixed IPI. */
    static const u64 exits[] = {2ull << 32 | 0x0f, 4ull << 32 | 0x61, 3ull << 32 | 0x61, 2ull << 32 | 0x461,
                                2ull << 32 | 0x861, 2ull << 32 | 0x8061, 0x80061, 2ull << 32 | 0x40061};
    for (unsigned n = 0; n < ARRAY_SIZE(exits); n++) {
        ck_assert(write_msr(X2APIC_ICR, exits[n]));
        ck_assert_uint_eq(bench_peek64(PAGE + 0x300), exits[n]);
        ck_exit(EXIT_APIC_WRITE, 0x300);
        enter();
    }
    ck_assert(!write_msr(X2APIC_ICR, 1ull << 13));           /* reserved: #GP */
    ck_assert_uint_eq(apic.sent, 1);
}
END_TEST

START_TEST(ipis_by_page)
{
    bench_poke64(PID_TABLE + 8 * 2, OTHER_PID | 1);
    with_page();
    enter();
    page_write(0x310, 2u << 24, 4);
    page_write(0x300, 0x4061, 4);
    ck_assert_uint_eq(bench_peek64(OTHER_PID + 8), BIT(0x21));
    ck_assert_uint_eq(apic.sent, 1);
    page_write(0x300, 0x4861, 4);          /* logical destination */
    ck_exit(EXIT_APIC_WRITE, 0x300);
}
END_TEST

/* ---- x2APIC MSRs ------------------------------------------------------------------------------------------------- */

START_TEST(x2apic_msrs)
{
    u64 value;
    bool known;
    bench_poke64(PAGE + 0x100, 0x1122334455667788ull);
    enter();
    ck_assert(vmx_msr_read(&cpu, 0x810, &value, &known) && known);
    ck_assert_uint_eq(value, 0x1122334455667788ull);         /* eight bytes as they stand */
    ck_assert(vmx_msr_read(&cpu, 0x8ff, &value, &known) && known);   /* whatever the register */
    ck_assert(write_msr(X2APIC_TPR, 0x42));
    ck_assert_uint_eq(reg(0x80), 0x42);
    ck_assert(!write_msr(X2APIC_TPR, 0x142));
    ck_assert(write_msr(X2APIC_SELF_IPI, 0x61));
    ck_assert(irr(0x61));
    ck_assert(!write_msr(X2APIC_SELF_IPI, 0x161));
    ck_assert(write_msr(X2APIC_SELF_IPI, 0x0f));
    ck_exit(EXIT_APIC_WRITE, 0x3f0);
    /* Other writes go on to the real APIC. */
    enter();
    vmx_msr_write(&cpu, 0x80f, 0, &known);
    ck_assert(!known);
    leave();
    v->secondary_controls &= ~(u64)SECONDARY_APIC_REGISTER_VIRTUALIZATION;
    enter();
    ck_assert(vmx_msr_read(&cpu, X2APIC_TPR, &value, &known) && known);
    vmx_msr_read(&cpu, 0x810, &value, &known);
    ck_assert(!known);
    leave();
    v->secondary_controls &= ~(u64)SECONDARY_X2APIC_MODE;
    enter();
    vmx_msr_read(&cpu, X2APIC_TPR, &value, &known);
    ck_assert(!known);
}
END_TEST

/* Without virtual-interrupt delivery a TPR below the threshold exits, however it was written. */
START_TEST(threshold)
{
    v->secondary_controls &= ~(u64)SECONDARY_VIRTUAL_INTERRUPT_DELIVERY;
    v->pin_controls &= ~(u64)PIN_POSTED_INTERRUPTS;
    v->tpr_threshold = 5;
    set_reg(0x80, 0x50);
    enter();
    ck_assert(write_msr(X2APIC_TPR, 0x50));
    ck_assert(!(cpu.event.attention & ATT_VMX));
    ck_assert(write_msr(X2APIC_TPR, 0x4f));
    ck_exit(EXIT_TPR_BELOW_THRESHOLD, 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {which_accesses_are_virtualised, register_writes, self_ipi_by_icr, ppr_and_recognition,
                                  delivery_and_eoi, nested_interrupts, tpr_lets_pass, activity_states, priorities,
                                  posted_interrupts, posted_to_halted, ipis, ipis_by_page, x2apic_msrs, threshold};
    return bench_run_with("virtual APIC", tests, ARRAY_SIZE(tests), setup);
}
