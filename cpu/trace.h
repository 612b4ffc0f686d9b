/* Trace events as the floors that cause them see them: one test when tracing is off, one call when it is on.
 *
 *     if (trace_on(cpu, TRACE_VMX_EXIT))
 *         trace_emit(cpu, TRACE_VMX_EXIT, "exit", TRACE_FIELDS(trace_text("reason", name), trace_hex("qualification", q)));
 *
 * The sink (debug/trace.c) adds the machine's instruction count, the vCPU and the level (depth + 1) of the moment.
 *
 * Kept true: tracing only reads. A traced run executes exactly what an untraced one does.
 */
#ifndef NESTOR_CPU_TRACE_H
#define NESTOR_CPU_TRACE_H

#include "cpu/state.h"

/* The classes, with their names on the command line (a prefix selects all that begin with it: `vmx` is all of vmx.*). */
#define TRACE_CLASSES(CLASS)                                                                                           \
    CLASS(VMX_ENTRY, "vmx.entry")   /* VM entries, done or failed */                                                   \
    CLASS(VMX_EXIT, "vmx.exit")     /* VM exits: reason, qualification, owner level */                                 \
    CLASS(VMX_INJECT, "vmx.inject") /* events injected by VM entry */                                                  \
    CLASS(VMX_CHECK, "vmx.check")   /* failed entry checks, by name and values */                                      \
    CLASS(VMX_INSN, "vmx.insn")     /* VMX instructions and their outcome: VMREAD, VMWRITE, VMPTRLD … */               \
    CLASS(EPT, "ept")               /* EPT violations, misconfigurations, PML */                                       \
    CLASS(IRQ, "irq")               /* interrupts and exceptions delivered, IPIs */                                    \
    CLASS(MSR, "msr")               /* RDMSR, WRMSR */                                                                 \
    CLASS(IO, "io")                 /* port and memory-mapped I/O */                                                   \
    CLASS(CR, "cr")                 /* control-register writes */                                                      \
    CLASS(MODE, "mode")             /* changes of operating mode */                                                    \
    CLASS(SCHED, "sched")           /* vCPU turns, halts, wake-ups, time skipped */                                    \
    CLASS(INSN, "insn")             /* every instruction */

enum trace_class {
#define CLASS(name, text) TRACE_##name,
    TRACE_CLASSES(CLASS)
#undef CLASS
    TRACE_CLASS_COUNT
};

/* A named value of an event. The name must be a C identifier, a string constant. */
enum trace_kind { TRACE_KIND_HEX, TRACE_KIND_DECIMAL, TRACE_KIND_TEXT };
struct trace_field {
    const char *name;
    u32 kind;                  /* enum trace_kind */
    u64 value;
    const char *text;          /* TRACE_KIND_TEXT; read before trace_emit returns */
};

struct trace {
    u32 mask;                  /* 1 << enum trace_class: what is wanted now */
    /* Writes one event of `cpu`. */
    void (*emit)(struct trace *trace, struct cpu *cpu, enum trace_class class, const char *name,
                 const struct trace_field *fields, unsigned count);
    /* Called by the run loop before each instruction while class insn is on; rip is the instruction's. */
    void (*insn)(struct trace *trace, struct cpu *cpu, const struct insn *in);
};

static inline bool trace_on(const struct cpu *cpu, enum trace_class class)
{
    return UNLIKELY(cpu->trace != NULL) && (cpu->trace->mask >> class & 1);
}

/* Call only when trace_on(). */
COLD static void trace_emit(struct cpu *cpu, enum trace_class class, const char *name, const struct trace_field *fields,
                            unsigned count) __attribute__((unused));
static void trace_emit(struct cpu *cpu, enum trace_class class, const char *name, const struct trace_field *fields,
                       unsigned count)
{
    cpu->trace->emit(cpu->trace, cpu, class, name, fields, count);
}

/* The last two arguments of trace_emit from a list of fields. */
#define TRACE_FIELDS(...)                                                                                              \
    (const struct trace_field[]){__VA_ARGS__},                                                                         \
        (unsigned)(sizeof((const struct trace_field[]){__VA_ARGS__}) / sizeof(struct trace_field))
#define TRACE_NO_FIELDS NULL, 0u

static inline struct trace_field trace_hex(const char *name, u64 value)
{
    return (struct trace_field){.name = name, .kind = TRACE_KIND_HEX, .value = value};
}
static inline struct trace_field trace_decimal(const char *name, u64 value)
{
    return (struct trace_field){.name = name, .kind = TRACE_KIND_DECIMAL, .value = value};
}
static inline struct trace_field trace_text(const char *name, const char *text)
{
    return (struct trace_field){.name = name, .kind = TRACE_KIND_TEXT, .text = text};
}

#endif
