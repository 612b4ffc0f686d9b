/* What a person is told when a run ended badly or was interrupted: why, and where every vCPU stands. */
#include "machine/machine.h"

#include "cpu/flags.h"
#include "debug/disasm.h"

#include <stdio.h>

static const char *const activities[] = {"running", "halted", "shut down", "waiting for SIPI", "in MWAIT"};
static const char *const exceptions[] = {"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "vector 9", "#TS",
                                         "#NP", "#SS", "#GP", "#PF", "vector 15", "#MF", "#AC", "#MC", "#XM", "#VE", "#CP"};

static const char *exception_name(u8 vector)
{
    return vector < ARRAY_SIZE(exceptions) ? exceptions[vector] : "interrupt";
}

static void report_registers(const struct cpu *cpu, FILE *out)
{
    static const char names[16][4] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                      "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"};
    for (unsigned i = 0; i < 16; i++)
        fprintf(out, "%s%-3s %016llx%s", i % 4 ? "  " : "    ", names[i], (unsigned long long)cpu->core.r[i],
                i % 4 == 3 ? "\n" : "");
}

static void report_segments(const struct cpu *cpu, FILE *out)
{
    static const struct { const char *name; unsigned seg; } segments[] = {
        {"cs", SEG_CS}, {"ss", SEG_SS}, {"ds", SEG_DS}, {"es", SEG_ES}, {"fs", SEG_FS}, {"gs", SEG_GS}, {"tr", SEG_TR},
        {"ldtr", SEG_LDTR}};
    for (unsigned i = 0; i < ARRAY_SIZE(segments); i++) {
        const struct segment *s = &cpu->seg.s[segments[i].seg];
        fprintf(out, "%s%-4s %04x base %016llx limit %08x access %05x%s", i % 2 ? "  " : "    ", segments[i].name, s->selector,
                (unsigned long long)s->base, s->limit, s->access, i % 2 ? "\n" : "");
    }
    fprintf(out, "    gdtr base %016llx limit %04x  idtr base %016llx limit %04x\n", (unsigned long long)cpu->seg.gdtr.base,
            cpu->seg.gdtr.limit, (unsigned long long)cpu->seg.idtr.base, cpu->seg.idtr.limit);
}

static void report_code(struct cpu *cpu, FILE *out)
{
    u8 bytes[15];
    char text[128];
    unsigned n = disasm_fetch(cpu, cpu->seg.s[SEG_CS].base + cpu->core.rip, bytes, sizeof(bytes));
    unsigned length = disasm_text(bytes, n, cpu->core.rip, cpu->mode.code_bits, text, sizeof(text));
    fprintf(out, "    code");
    for (unsigned i = 0; i < (length ? length : n); i++)
        fprintf(out, " %02x", bytes[i]);
    fprintf(out, "%s  %s\n", n ? "" : " (not readable)", length ? text : "");
}

/* The last exceptions and interrupts, oldest first. */
static void report_events(const struct cpu *cpu, FILE *out)
{
    unsigned count = cpu->recent_count < RECENT_EVENTS ? cpu->recent_count : RECENT_EVENTS;
    for (unsigned i = cpu->recent_count - count; i != cpu->recent_count; i++) {
        const struct recent_event *e = &cpu->recent[i % RECENT_EVENTS];
        fprintf(out, "    event %llu: L%u %s (vector %u", (unsigned long long)e->now, e->level,
                e->type == EVT_HARDWARE ? exception_name(e->vector) : e->type == EVT_EXTERNAL ? "interrupt"
                : e->type == EVT_NMI ? "NMI" : "software interrupt", e->vector);
        if (e->has_error)
            fprintf(out, ", error %x", e->error);
        fprintf(out, ") at rip %016llx", (unsigned long long)e->rip);
        if (e->type == EVT_HARDWARE && e->vector == EXC_PF)
            fprintf(out, ", cr2 %016llx", (unsigned long long)e->cr2);
        fputc('\n', out);
    }
}

static void report_cpu(struct cpu *cpu, FILE *out)
{
    unsigned activity = cpu->event.activity;
    const struct cpu_event *e = &cpu->event;
    fprintf(out, "  cpu%u: %s, level %u (depth %u), %s code, cpl %u\n", cpu->index,
            activity < ARRAY_SIZE(activities) ? activities[activity] : "?", cpu->vmx.depth + 1, cpu->vmx.depth,
            cpu->mode.code_bits == BITS_64 ? "64-bit" : cpu->mode.code_bits == BITS_32 ? "32-bit" : "16-bit", cpu->mode.cpl);
    fprintf(out, "    rip %016llx  cs %04x  rflags %08llx  cr0 %08llx  cr2 %016llx\n", (unsigned long long)cpu->core.rip,
            cpu->seg.s[SEG_CS].selector, (unsigned long long)cpu_rflags(cpu), (unsigned long long)cpu->sys.cr0,
            (unsigned long long)cpu->sys.cr2);
    fprintf(out, "    cr3 %016llx  cr4 %08llx  efer %04llx  interruptibility %x\n", (unsigned long long)cpu->sys.cr3,
            (unsigned long long)cpu->sys.cr4, (unsigned long long)cpu->sys.efer, e->blocking);
    report_events(cpu, out);
    report_registers(cpu, out);
    report_segments(cpu, out);
    report_code(cpu, out);
}

void machine_report(struct machine *m, FILE *out)
{
    unsigned long long icount = m->time.icount;
    switch (m->end) {
    case MACHINE_TRIPLE_FAULT:
        fprintf(out, "nestor: triple fault on cpu%u after %llu instructions\n", m->end_cpu, icount);
        report_cpu(&m->cpu[m->end_cpu], out);
        return;
    case MACHINE_HALTED:
        fprintf(out, "nestor: all CPUs are halted with no event to come, after %llu instructions\n", icount);
        break;
    case MACHINE_INTERRUPTED:
        fprintf(out, "nestor: interrupted after %llu instructions\n", icount);
        break;
    default:
        fprintf(out, "nestor: after %llu instructions\n", icount);
        break;
    }
    for (unsigned i = 0; i < m->cpu_count; i++)
        report_cpu(&m->cpu[i], out);
}
