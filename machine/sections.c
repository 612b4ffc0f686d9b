/* See sections.h. The lists follow the order of the structs; those of the VMCS come from vmx/fields.def. */
#include "machine/sections.h"

#include "cpu/flags.h"

#include <stdio.h>

#define MEMBER(s, m) {#m, offsetof(struct s, m), sizeof(((struct s *)0)->m), _Alignof(__typeof__(((struct s *)0)->m))}

/* ---- processors --------------------------------------------------------------------------------------------------- */

static const struct section_member core_members[] = {
    MEMBER(cpu_core, r), MEMBER(cpu_core, rflags_rest), MEMBER(cpu_core, fl_zero), MEMBER(cpu_core, fl_sign),
    MEMBER(cpu_core, fl_carry),
};

static const struct section_member seg_members[] = {
    MEMBER(cpu_seg, s), MEMBER(cpu_seg, gdtr), MEMBER(cpu_seg, idtr),
};

#define SYS(m) MEMBER(cpu_sys, m)
static const struct section_member sys_members[] = {
    SYS(cr0), SYS(cr2), SYS(cr3), SYS(cr4), SYS(xcr0), SYS(efer), SYS(dr), SYS(dr6), SYS(dr7), SYS(pdpte), SYS(pkru),
    SYS(pkrs), SYS(star), SYS(lstar), SYS(cstar), SYS(fmask), SYS(kernel_gs_base), SYS(tsc_aux), SYS(sysenter_cs),
    SYS(sysenter_esp), SYS(sysenter_eip), SYS(pat), SYS(debugctl), SYS(misc_enable), SYS(feature_control), SYS(spec_ctrl),
    SYS(xss), SYS(apic_base), SYS(mtrr_def_type), SYS(mtrr_physbase), SYS(mtrr_physmask), SYS(mtrr_fixed), SYS(tsc_adjust),
    SYS(tsc_offset), SYS(mcg_status), SYS(mcg_ctl), SYS(mc), SYS(smbase), SYS(bios_sign_id), SYS(s_cet), SYS(u_cet),
    SYS(pl_ssp), SYS(ssp_table), SYS(ssp), SYS(perf_global_ctrl), SYS(perf_fixed_ctrl), SYS(perf_fixed), SYS(perf_evtsel),
    SYS(perf_pmc), SYS(perf_global_status), SYS(pkg_cst_config_control), SYS(power_ctl), SYS(umwait_control),
    SYS(perf_edge), SYS(lbr_from), SYS(lbr_to), SYS(lbr_info), SYS(lbr_tos), SYS(lbr_select), SYS(ler_from), SYS(ler_to), SYS(test_ctrl), SYS(mc_ctl2),
    SYS(uintr_rr), SYS(uintr_handler), SYS(uintr_stackadjust), SYS(uintr_misc), SYS(uintr_pd), SYS(uintr_tt), SYS(uif), SYS(spare),
};
#undef SYS

static const struct section_member fpu_members[] = {
    MEMBER(cpu_fpu, st), MEMBER(cpu_fpu, fcw), MEMBER(cpu_fpu, fsw), MEMBER(cpu_fpu, ftw_full), MEMBER(cpu_fpu, fop),
    MEMBER(cpu_fpu, fcs), MEMBER(cpu_fpu, fds), MEMBER(cpu_fpu, mxcsr), MEMBER(cpu_fpu, fip), MEMBER(cpu_fpu, fdp),
    MEMBER(cpu_fpu, k), MEMBER(cpu_fpu, v),
};

#define EVENT(m) MEMBER(cpu_event, m)
static const struct section_member event_members[] = {
    EVENT(attention), EVENT(blocking), EVENT(activity), EVENT(sipi_vector), EVENT(nmi_line), EVENT(valid), EVENT(vector),
    EVENT(type), EVENT(has_error), EVENT(error), EVENT(insn_length), EVENT(payload), EVENT(injected), EVENT(delivering),
    EVENT(d_vector), EVENT(d_type), EVENT(d_has_error), EVENT(extint), EVENT(nmi_unblocking_iret), EVENT(step),
    EVENT(d_error), EVENT(d_insn_length), EVENT(pending_debug), EVENT(wait_deadline), EVENT(monitor_hpa), EVENT(monitor_armed),
    EVENT(step_depth), EVENT(ignne), EVENT(user_delivery), EVENT(pad1),
};
#undef EVENT

#define SMM(m) MEMBER(cpu_smm, m)
static const struct section_member smm_members[] = {
    SMM(active), SMM(dual_monitor), SMM(blocking), SMM(activity), SMM(vmxon), SMM(vmxe), SMM(ss_dpl), SMM(rflags_vm),
    SMM(depth), SMM(io_state), SMM(io_rip), SMM(io_rcx), SMM(io_rsi), SMM(io_rdi), SMM(io_la), SMM(pending_debug),
    SMM(count), SMM(monitor_ctl), SMM(smrr_base), SMM(smrr_mask), SMM(transfer_vmcs),
};
#undef SMM

static const struct section_member vmx_members[] = {   /* the frames are sections of their own */
    MEMBER(vmx_state, depth), MEMBER(vmx_state, entering), MEMBER(vmx_state, tsc), MEMBER(vmx_state, carried), MEMBER(vmx_state, stuck_since), MEMBER(vmx_state, spare),
};

#define FRAME(m) MEMBER(vmx_frame, m)
static const struct section_member frame_members[] = {
    FRAME(checked), FRAME(vmxon), FRAME(offered), FRAME(stale), FRAME(mtf_pending), FRAME(apic_exit), FRAME(held_nmi),
    FRAME(virtual_interrupt), FRAME(bus_lock), FRAME(vmxon_ptr), FRAME(vmcs_ptr), FRAME(vmcs_hpa), MEMBER(vmx_frame, vmcs.launched),
#define FIELD(name, ...) MEMBER(vmx_frame, vmcs.name),
#include "vmx/fields.def"
#undef FIELD
    FRAME(timer_deadline), FRAME(cr4_vmxe), FRAME(feature_control), FRAME(root_cr0), FRAME(root_cr4),
    FRAME(held_vectors), FRAME(ple_first), FRAME(ple_last), FRAME(msr_bitmap_hpa), FRAME(io_bitmap_a_hpa),
    FRAME(io_bitmap_b_hpa), FRAME(virtual_apic_hpa), FRAME(posted_hpa), FRAME(vmread_bitmap_hpa),
    FRAME(vmwrite_bitmap_hpa), FRAME(link_hpa), FRAME(cpuid), FRAME(cr4), FRAME(unit), FRAME(apic_exit_qualification),
    FRAME(spare),
};
#undef FRAME

static const struct section_member retired_members[] = {{"retired", 0, sizeof(u64), _Alignof(u64)}};

/* ---- the board ---------------------------------------------------------------------------------------------------- */

#define LAPIC(m) MEMBER(lapic, m)
static const struct section_member lapic_members[] = {
    LAPIC(base), LAPIC(id), LAPIC(tpr), LAPIC(ldr), LAPIC(dfr), LAPIC(svr), LAPIC(isr), LAPIC(tmr), LAPIC(irr), LAPIC(esr),
    LAPIC(esr_pending), LAPIC(icr), LAPIC(lvt), LAPIC(divide), LAPIC(initial), LAPIC(count), LAPIC(start),
    LAPIC(tsc_deadline), LAPIC(running), LAPIC(lint), LAPIC(extint_message), LAPIC(intr), LAPIC(extint),
};
#undef LAPIC

static const struct section_member time_members[] = {
    MEMBER(machine, time.icount), MEMBER(machine, time.skipped), MEMBER(machine, time.turn_end),
    MEMBER(machine, time.asleep_since), MEMBER(machine, time.turn),
};
static const struct section_member board_members[] = {
    MEMBER(machine, input.byte), MEMBER(machine, input.first), MEMBER(machine, input.count), MEMBER(machine, random),
    MEMBER(machine, output.bytes), MEMBER(machine, output.hash),
};
static const struct section_member pic_members[] = {MEMBER(pic, chip), MEMBER(pic, intr)};

#define CHANNEL(n, m) MEMBER(pit, channel[n].m)
#define CHANNEL_MEMBERS(n)                                                                                             \
    CHANNEL(n, start), CHANNEL(n, before), CHANNEL(n, count), CHANNEL(n, next_count), CHANNEL(n, switch_at),           \
    CHANNEL(n, next_start), CHANNEL(n, reload), CHANNEL(n, count_latch), CHANNEL(n, status_latch), CHANNEL(n, mode),   \
    CHANNEL(n, access), CHANNEL(n, bcd), CHANNEL(n, gate), CHANNEL(n, loaded), CHANNEL(n, counting),                   \
    CHANNEL(n, write_high), CHANNEL(n, read_high), CHANNEL(n, latched), CHANNEL(n, status_latched), CHANNEL(n, null_count)
static const struct section_member pit_members[] = {
    CHANNEL_MEMBERS(0), CHANNEL_MEMBERS(1), CHANNEL_MEMBERS(2), MEMBER(pit, due), MEMBER(pit, port61),
    MEMBER(pit, output0), MEMBER(pit, irq_disabled),
};
#undef CHANNEL_MEMBERS
#undef CHANNEL

#define UART(m) MEMBER(uart, m)
static const struct section_member uart_members[] = {
    UART(fifo), UART(first), UART(count), UART(ier), UART(fcr), UART(lcr), UART(mcr), UART(scratch), UART(line_errors),
    UART(msr_delta), UART(modem), UART(divisor), UART(tx_pending), UART(timeout), UART(asserted), UART(idle_at),
};
#undef UART

#define RTC(m) MEMBER(rtc, m)
static const struct section_member rtc_members[] = {
    RTC(cmos), RTC(index), RTC(nmi_masked), RTC(irq_disabled), RTC(frozen), RTC(base_seconds), RTC(base_ns), RTC(checked),
};
#undef RTC

#define KBC(m) MEMBER(i8042, m)
static const struct section_member i8042_members[] = {
    KBC(keyboard), KBC(mouse.queue), KBC(mouse.command), KBC(mouse.rate), KBC(mouse.resolution),
    KBC(mouse.rates), KBC(mouse.id), KBC(mouse.scaling), KBC(mouse.remote), KBC(mouse.wrap),
    KBC(mouse.reporting), KBC(mouse.buttons), KBC(mouse.shown_buttons), KBC(mouse.dx),
    KBC(mouse.dy), KBC(mouse.dz), KBC(reply), KBC(reply_aux), KBC(ram), KBC(command), KBC(output), KBC(full),
    KBC(from_aux), KBC(wrote_command), KBC(system), KBC(a20_on), KBC(translating_break), KBC(port92),
};
#undef KBC

#define PM(m) MEMBER(acpipm, m)
static const struct section_member acpipm_members[] = {
    PM(status), PM(enable), PM(control), PM(smi_command), PM(smi_status), PM(reset_control), PM(wide), PM(checked),
};
#undef PM

#define COMPARATOR(n, m) MEMBER(hpet, timer[n].m)
#define COMPARATOR_MEMBERS(n)                                                                                          \
    COMPARATOR(n, config), COMPARATOR(n, comparator), COMPARATOR(n, period), COMPARATOR(n, high_open), COMPARATOR(n, asserted)
static const struct section_member hpet_members[] = {
    MEMBER(hpet, config), MEMBER(hpet, status), MEMBER(hpet, offset), MEMBER(hpet, start), COMPARATOR_MEMBERS(0),
    COMPARATOR_MEMBERS(1), COMPARATOR_MEMBERS(2),
};
#undef COMPARATOR_MEMBERS
#undef COMPARATOR

static const struct section_member pci_members[] = {
    MEMBER(pci, address), MEMBER(pci, pirq_count), MEMBER(pci, isa_level), MEMBER(pci, smi_request), MEMBER(pci, smi_level),
};

#define PCI_F(m) MEMBER(pci_function, m)
static const struct section_member function_members[] = {
    PCI_F(config), PCI_F(writable), PCI_F(clears), PCI_F(devfn), PCI_F(asserted), PCI_F(bar_kind), PCI_F(bar_size),
    PCI_F(bar_at), PCI_F(bar_on),
};
#undef PCI_F

static const struct section_member fwcfg_members[] = {
    MEMBER(fwcfg, selector), MEMBER(fwcfg, offset), MEMBER(fwcfg, dma_address),
};
static const struct section_member debugport_members[] = {MEMBER(debugport, post)};
static const struct section_member ioapic_members[] = {
    MEMBER(ioapic, entry), MEMBER(ioapic, id), MEMBER(ioapic, lines), MEMBER(ioapic, select),
};
static const struct section_member apic_bus_members[] = {MEMBER(apic_bus, last_lowest)};
static const struct section_member timer_members[] = {MEMBER(clock_timer, deadline)};

/* ---- sections ----------------------------------------------------------------------------------------------------- */

static bool fill(struct section *s, const void *base, const struct section_member *member, unsigned members)
{
    const struct section_member *last = &member[members - 1];
    s->base = base;
    s->member = member;
    s->members = members;
    s->size = last->offset + last->size;
    return true;
}

#define FILL(base, list) fill(s, base, list, ARRAY_SIZE(list))

enum { CPU_CORE, CPU_SEG, CPU_SYS, CPU_FPU, CPU_EVENT, CPU_SMM, CPU_RETIRED, CPU_LAPIC, CPU_VMX, CPU_FRAMES,
       CPU_SECTIONS = CPU_FRAMES + VMX_MAX_FRAMES };

static bool cpu_section(const struct machine *m, unsigned n, unsigned which, struct section *s)
{
    static const char *const name[] = {"core", "seg", "sys", "fpu", "event", "smm", "time", "lapic", "vmx"};
    const struct cpu *cpu = &m->cpu[n];
    if (which < CPU_FRAMES)
        snprintf(s->name, sizeof(s->name), "cpu%u.%s", n, name[which]);
    else
        snprintf(s->name, sizeof(s->name), "cpu%u.frame%u", n, which - CPU_FRAMES);
    switch (which) {
    case CPU_CORE:    return FILL(&cpu->core, core_members);
    case CPU_SEG:     return FILL(&cpu->seg, seg_members);
    case CPU_SYS:     return FILL(&cpu->sys, sys_members);
    case CPU_FPU:     return FILL(&cpu->fpu, fpu_members);
    case CPU_EVENT:   return FILL(&cpu->event, event_members);
    case CPU_SMM:     return FILL(&cpu->smm, smm_members);
    case CPU_RETIRED: return FILL(&cpu->time.retired, retired_members);
    case CPU_LAPIC:   return FILL(&m->lapic[n], lapic_members);
    case CPU_VMX:     return FILL(&cpu->vmx, vmx_members);
    default:          return FILL(&cpu->vmx.frame[which - CPU_FRAMES], frame_members);
    }
}

enum { BOARD_TIME, BOARD_BOARD, BOARD_PIC, BOARD_PIT, BOARD_UART, BOARD_RTC, BOARD_I8042, BOARD_ACPIPM, BOARD_HPET,
       BOARD_PCI, BOARD_HOST_BRIDGE, BOARD_ISA_BRIDGE, BOARD_FWCFG, BOARD_DEBUGPORT, BOARD_IOAPIC, BOARD_APIC_BUS,
       BOARD_SECTIONS };

static bool board_section(const struct machine *m, unsigned which, struct section *s)
{
    static const char *const name[] = {"time", "board", "pic", "pit", "uart", "rtc", "i8042", "acpipm", "hpet", "pci",
                                       "host-bridge", "isa-bridge", "fwcfg", "debugport", "ioapic", "apic-bus"};
    snprintf(s->name, sizeof(s->name), "%s", name[which]);
    switch (which) {
    case BOARD_TIME:        return FILL(m, time_members);
    case BOARD_BOARD:       return FILL(m, board_members);
    case BOARD_PIC:         return FILL(&m->pic, pic_members);
    case BOARD_PIT:         return FILL(&m->pit, pit_members);
    case BOARD_UART:        return FILL(&m->uart, uart_members);
    case BOARD_RTC:         return FILL(&m->rtc, rtc_members);
    case BOARD_I8042:       return FILL(&m->i8042, i8042_members);
    case BOARD_ACPIPM:      return FILL(&m->acpipm, acpipm_members);
    case BOARD_HPET:        return FILL(&m->hpet, hpet_members);
    case BOARD_PCI:         return FILL(&m->pci, pci_members);
    case BOARD_HOST_BRIDGE: return FILL(&m->pci.host_bridge, function_members);
    case BOARD_ISA_BRIDGE:  return FILL(&m->pci.isa_bridge, function_members);
    case BOARD_FWCFG:       return FILL(&m->fwcfg, fwcfg_members);
    case BOARD_DEBUGPORT:   return FILL(&m->debugport, debugport_members);
    case BOARD_IOAPIC:      return FILL(&m->ioapic, ioapic_members);
    default:                return FILL(&m->apic_bus, apic_bus_members);
    }
}

bool section_get(const struct machine *m, unsigned n, struct section *s)
{
    if (n < m->cpu_count * CPU_SECTIONS)
        return cpu_section(m, n / CPU_SECTIONS, n % CPU_SECTIONS, s);
    n -= m->cpu_count * CPU_SECTIONS;
    if (n < BOARD_SECTIONS)
        return board_section(m, n, s);
    n -= BOARD_SECTIONS;
    if (n < m->clock.count) {
        snprintf(s->name, sizeof(s->name), "timer%u", n);
        return FILL(&m->clock.timer[n], timer_members);
    }
    if (n > m->clock.count)
        return false;
    *s = (struct section){.name = "memory", .base = m->bus.ram, .size = m->bus.memory_size};
    return true;
}

void sections_settle(struct machine *m)
{
    for (unsigned i = 0; i < m->cpu_count; i++)
        flags_canonical(&m->cpu[i]);
}

/* ---- hashes ------------------------------------------------------------------------------------------------------- */

#define HASH_MULTIPLIER 0x9fb21c651e98df25ull

static u64 mix(u64 hash, u64 value)
{
    hash = (hash ^ value) * HASH_MULTIPLIER;
    return hash ^ hash >> 29;
}

static u64 hash_bytes(u64 hash, const u8 *bytes, u64 n)
{
    u64 word;
    for (; n >= 8; n -= 8, bytes += 8) {
        memcpy(&word, bytes, 8);
        hash = mix(hash, word);
    }
    word = n << 56;
    memcpy(&word, bytes, n);
    return n ? mix(hash, word) : hash;
}

/* Page by page: a page of zeros costs a comparison. */
static u64 hash_memory(const struct section *s)
{
    static const u8 zeros[PAGE_SIZE];
    u64 hash = s->size;
    for (u64 at = 0; at < s->size; at += PAGE_SIZE)
        if (memcmp(s->base + at, zeros, PAGE_SIZE) != 0)
            hash = hash_bytes(mix(hash, at), s->base + at, PAGE_SIZE);
    return hash;
}

u64 section_hash(const struct section *s)
{
    if (!s->member)
        return hash_memory(s);
    u64 hash = s->size;
    for (unsigned i = 0; i < s->members; i++)
        hash = hash_bytes(hash, s->base + s->member[i].offset, s->member[i].size);
    return hash;
}

u64 sections_hash(struct machine *m, bool memory)
{
    struct section s;
    u64 hash = 0;
    sections_settle(m);
    for (unsigned n = 0; section_get(m, n, &s); n++)
        if (s.member || memory)
            hash = mix(hash, section_hash(&s));
    return hash;
}

/* ---- differences -------------------------------------------------------------------------------------------------- */

static bool members_equal(const struct section *a, const struct section *b, char *text, size_t text_size)
{
    for (unsigned i = 0; i < a->members; i++) {
        const struct section_member *member = &a->member[i];
        const u8 *left = a->base + member->offset, *right = b->base + member->offset;
        if (memcmp(left, right, member->size) == 0)
            continue;
        u32 at = 0;
        while (left[at] == right[at])
            at++;
        at &= ~7u;
        u32 n = member->size - at < 8 ? member->size - at : 8;
        u64 x = 0, y = 0;
        memcpy(&x, left + at, n);
        memcpy(&y, right + at, n);
        char where[16] = "";
        if (member->size > 8)
            snprintf(where, sizeof(where), "+%u", at);
        snprintf(text, text_size, "%s.%s%s: %0*llx | %0*llx", a->name, member->name, where, (int)n * 2,
                 (unsigned long long)x, (int)n * 2, (unsigned long long)y);
        return false;
    }
    return true;
}

static bool memory_equal(const struct section *a, const struct section *b, char *text, size_t text_size)
{
    for (u64 at = 0; at < a->size; at += PAGE_SIZE) {
        if (memcmp(a->base + at, b->base + at, PAGE_SIZE) == 0)
            continue;
        while (a->base[at] == b->base[at])
            at++;
        at &= ~7ull;
        u64 x, y;
        memcpy(&x, a->base + at, 8);
        memcpy(&y, b->base + at, 8);
        snprintf(text, text_size, "memory at offset %#llx: %016llx | %016llx", (unsigned long long)at,
                 (unsigned long long)x, (unsigned long long)y);
        return false;
    }
    return true;
}

bool sections_equal(struct machine *a, struct machine *b, bool memory, char *text, size_t text_size)
{
    struct section left, right;
    sections_settle(a);
    sections_settle(b);
    for (unsigned n = 0; section_get(a, n, &left) && section_get(b, n, &right); n++) {
        if (left.member ? !members_equal(&left, &right, text, text_size)
                        : memory && !memory_equal(&left, &right, text, text_size))
            return false;
    }
    return true;
}
