/* What the performance counters count; see cpu/pmu.h. */
#include "cpu/pmu.h"

#include "cpu/block.h"
#include "cpu/mode.h"
#include "cpu/model.h"
#include "cpu/table.h"

/* Architectural events, as event select and unit mask [SDM3 "Pre-defined Architectural Performance Events"]. */
enum { EVENT_CORE_CYCLES = 0x003c, EVENT_REFERENCE_CYCLES = 0x013c, EVENT_INSTRUCTIONS = 0x00c0, EVENT_BRANCHES = 0x00c4 };

enum row_kind { ROW_KIND_PLAIN, ROW_KIND_BRANCH, ROW_KIND_ALONE };

/* The kind of a row: by name, since all encodings of a name agree. */
static enum row_kind classify(const struct insn_row *row)
{
    static const char *const branches[] = {
        "JMP", "JMP_FAR", "CALL", "CALL_FAR", "RET", "RET_FAR", "IRET", "UIRET", "SYSCALL", "SYSRET", "SYSENTER", "SYSEXIT", "INT",
        "INT1", "INT3", "INTO", "LOOP", "LOOPE", "LOOPNE", "JRCXZ",
    };
    static const char *const alone[] = {"RDPMC", "RDMSR", "WRMSR", "RDMSRLIST", "WRMSRLIST", "WRMSRNS", "VMLAUNCH", "VMRESUME"};
    for (size_t n = 0; n < ARRAY_SIZE(branches); n++)
        if (!strcmp(row->name, branches[n]))
            return ROW_KIND_BRANCH;
    for (size_t n = 0; n < ARRAY_SIZE(alone); n++)
        if (!strcmp(row->name, alone[n]))
            return ROW_KIND_ALONE;
    return row->name[0] == 'J' ? ROW_KIND_BRANCH : ROW_KIND_PLAIN;     /* Jcc */
}

static inline u8 kind_of(const struct insn *in)
{
    static u8 kinds[4096];                 /* enum row_kind + 1; 0: not asked for yet */
    if (in->row >= insn_row_count || in->row >= ARRAY_SIZE(kinds))
        return ROW_KIND_PLAIN;             /* not an instruction */
    if (!kinds[in->row])
        kinds[in->row] = (u8)(classify(&insn_rows[in->row]) + 1);
    return (u8)(kinds[in->row] - 1);
}

/* ---- one counter ----------------------------------------------------------------------------------------------- */

/* Counters are numbered: the `general` ones of the model, then the fixed ones. The number of the former is looked up once
 * for each run of instructions. */

/* What fixed counter n counts, as IA32_PERFEVTSELx would say it; 0 when it is off. */
static inline u32 fixed_select(u64 fixed_ctrl, unsigned n)
{
    static const u16 event[PMU_MAX_FIXED] = {EVENT_INSTRUCTIONS, EVENT_CORE_CYCLES, EVENT_REFERENCE_CYCLES};
    u32 control = (u32)(fixed_ctrl >> (4 * n));
    if (!(control & 3))
        return 0;
    return event[n] | PMU_SELECT_EN | (control & 1 ? PMU_SELECT_OS : 0) | (control & 2 ? PMU_SELECT_USR : 0) |
           (control & 8 ? PMU_SELECT_INT : 0);
}

static inline u64 *counter_value(struct cpu *cpu, unsigned n, unsigned general)
{
    return n < general ? &cpu->sys.perf_pmc[n] : &cpu->sys.perf_fixed[n - general];
}

/* Its bit in IA32_PERF_GLOBAL_CTRL and _STATUS. */
static inline u64 counter_bit(unsigned n, unsigned general)
{
    return BIT(n < general ? n : 32 + (n - general));
}

/* Does the event happen in the cycle of an instruction that retires or not? */
static bool event_happens(u32 select, const struct insn *in, bool retires)
{
    switch (select & 0xffff) {
    case EVENT_CORE_CYCLES: case EVENT_REFERENCE_CYCLES: return true;
    case EVENT_INSTRUCTIONS: return retires;
    case EVENT_BRANCHES: return retires && kind_of(in) == ROW_KIND_BRANCH;
    default: return false;                 /* events of a model, or marked unavailable in CPUID.0AH:EBX */
    }
}

/* Counts cycles or instructions as they come: increments follow from numbers alone. */
static bool is_plain(u32 select)
{
    u32 event = select & 0xffff;
    return !(select >> 24) && !(select & PMU_SELECT_EDGE) &&
           (event == EVENT_CORE_CYCLES || event == EVENT_REFERENCE_CYCLES || event == EVENT_INSTRUCTIONS);
}

/* Whether it takes a look at each instruction. What is neither this nor plain never counts. */
static bool needs_each(u32 select)
{
    return select >> 24 || select & PMU_SELECT_EDGE || (select & 0xffff) == EVENT_BRANCHES;
}

/* Increments over the instructions, of which the first `retired` retire. Threshold, inversion and edge are applied cycle by
 * cycle: there is one instruction in each. `edge` is the state of the edge detector. */
static u64 increments(u32 select, u64 *edge, u64 edge_bit, const struct insn *in, unsigned ran, unsigned retired)
{
    u32 threshold = select >> 24;
    u64 sum = 0;
    if (is_plain(select))
        return (select & 0xffff) == EVENT_INSTRUCTIONS ? retired : ran;
    for (unsigned i = 0; i < ran; i++) {
        bool now = event_happens(select, in + i, i < retired);
        if (threshold)
            now = (now && threshold == 1) != !!(select & PMU_SELECT_INV);
        if (select & PMU_SELECT_EDGE) {
            bool before = *edge & edge_bit;
            *edge = (*edge & ~edge_bit) | (now ? edge_bit : 0);
            now = now && !before;
        }
        sum += now;
    }
    return sum;
}

/* ---- from the run loop ----------------------------------------------------------------------------------------- */

/* Notes which counters run, with their selections and values. */
static inline void note_running(struct cpu *cpu, struct pmu_moment *moment)
{
    const struct cpu_sys *sys = &cpu->sys;
    unsigned version = pmu_version(cpu), general = pmu_general(cpu);
    u64 enabled = version >= 2 ? sys->perf_global_ctrl : mask_low(general);
    u32 level = cpu->mode.cpl ? PMU_SELECT_USR : PMU_SELECT_OS, running = 0;
    for (unsigned n = 0; n < general; n++) {
        u32 select = (u32)sys->perf_evtsel[n];
        if (UNLIKELY(select & PMU_SELECT_EN) && select & level && enabled >> n & 1) {
            running |= 1u << n;
            moment->select[n] = select;
        }
    }
    if (sys->perf_fixed_ctrl && enabled >> 32)
        for (unsigned n = 0; n < PMU_MAX_FIXED; n++) {
            u32 select = fixed_select(sys->perf_fixed_ctrl, n);
            if (select & level && enabled >> (32 + n) & 1) {
                running |= 1u << (general + n);
                moment->select[general + n] = select;
            }
        }
    for (u32 left = running; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);
        moment->value[n] = *counter_value(cpu, n, general);
    }
    moment->running = running;
    moment->depth = cpu->vmx.depth;
}

/* None counts more than one an instruction, so none overflows before this many. */
static inline u64 before_overflow(const struct pmu_moment *moment)
{
    u64 most = BIT(PMU_WIDTH);
    for (u32 left = moment->running; left; left &= left - 1) {
        u64 value = moment->value[__builtin_ctz(left)];
        if (BIT(PMU_WIDTH) - value < most)
            most = BIT(PMU_WIDTH) - value;
    }
    return most;
}

bool pmu_runs_alone(const struct cpu *cpu, const struct insn *in)
{
    /* Any instruction of a guest may exit to a hypervisor, whose counters are other ones. */
    return cpu->vmx.depth || kind_of(in) == ROW_KIND_ALONE;
}

unsigned pmu_begin(struct cpu *cpu, const struct block *block, unsigned most, struct pmu_moment *moment)
{
    if (pmu_runs_alone(cpu, &block->insn[0]))
        most = 1;
    for (unsigned n = 1; n < most; n++)
        if (kind_of(&block->insn[n]) == ROW_KIND_ALONE)
            most = n;
    note_running(cpu, moment);
    u64 room = before_overflow(moment);
    return room < most ? (unsigned)room : most;
}

u64 pmu_begin_many(struct cpu *cpu, struct pmu_moment *moment)
{
    note_running(cpu, moment);
    moment->since = cpu->time.now;
    for (u32 left = moment->running; left; left &= left - 1)
        if (needs_each(moment->select[__builtin_ctz(left)]))
            return 0;
    return before_overflow(moment);
}

bool pmu_retired(const struct cpu *cpu, const struct insn *in, u64 rip, enum flow flow, unsigned depth)
{
    switch (flow) {
    case FLOW_NEXT:
        return true;
    case FLOW_END:                         /* a string instruction with iterations to go stays where it is */
        return LIKELY(!(in->flags & (INSN_REP | INSN_REPNE)) || kind_of(in) != ROW_KIND_PLAIN) || cpu->core.rip != rip;
    case FLOW_EVENT:                       /* a fault; or INT n, INT3, INTO, INT1, whose event is their work */
        return cpu->event.valid && (cpu->event.type == EVT_SOFTWARE_INT || cpu->event.type == EVT_SOFTWARE ||
                                    cpu->event.type == EVT_PRIV_SOFTWARE);
    default:                               /* a VM exit instead of the instruction; or a VM entry, which is its work */
        return cpu->vmx.depth > depth;
    }
}

struct overflows { u64 counters; bool interrupt; };

/* Adds to counter n, one of those that run. */
static inline void add_to(struct cpu *cpu, unsigned n, u64 increment, const struct pmu_moment *moment, struct overflows *overflows)
{
    unsigned general = pmu_general(cpu);
    u64 *value = counter_value(cpu, n, general);
    *value += increment;
    if (UNLIKELY(*value >> PMU_WIDTH)) {
        *value &= mask_low(PMU_WIDTH);
        overflows->counters |= counter_bit(n, general);
        overflows->interrupt |= (moment->select[n] & PMU_SELECT_INT) != 0;
    }
}

static COLD void report(struct cpu *cpu, const struct overflows *overflows)
{
    cpu->sys.perf_global_status |= overflows->counters;
    if (!overflows->interrupt)
        return;
    if (cpu->sys.debugctl & DEBUGCTL_FREEZE_LBRS_ON_PMI) {
        cpu->sys.debugctl &= ~(u64)DEBUGCTL_LBR;
        cpu_mode_update_cpl(cpu);
    }
    if (cpu->sys.debugctl & DEBUGCTL_FREEZE_PERFMON_ON_PMI) {
        if (pmu_version(cpu) >= 4)
            cpu->sys.perf_global_status |= PMU_STATUS_FROZEN;
        else
            cpu->sys.perf_global_ctrl = 0;
        pmu_update(cpu);
    }
    if (cpu->board && cpu->board->perf_interrupt)
        cpu->board->perf_interrupt(cpu->board_arg, cpu);
}

/* The instruction may have written the counter: it does not count itself in that. */
static inline bool was_written(struct cpu *cpu, unsigned n, const struct pmu_moment *moment)
{
    return *counter_value(cpu, n, pmu_general(cpu)) != moment->value[n];
}

void pmu_count(struct cpu *cpu, const struct block *block, unsigned ran, enum flow flow, const struct pmu_moment *moment)
{
    const struct insn *in = block->insn;
    u64 rip = cpu->block_rip;
    for (unsigned i = 0; i + 1 < ran && flow == FLOW_END; i++)
        rip += in[i].length;
    unsigned retired = ran - !pmu_retired(cpu, &in[ran - 1], rip, flow, moment->depth);
    struct overflows overflows = {0};
    for (u32 left = moment->running; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);
        if (was_written(cpu, n, moment))
            continue;
        u64 bit = counter_bit(n, pmu_general(cpu));
        add_to(cpu, n, increments(moment->select[n], &cpu->sys.perf_edge, bit, in, ran, retired), moment, &overflows);
    }
    if (UNLIKELY(overflows.counters))
        report(cpu, &overflows);
}

void pmu_count_many(struct cpu *cpu, bool last_retired, const struct pmu_moment *moment)
{
    u64 ran = cpu->time.now - moment->since;
    struct overflows overflows = {0};
    if (ran == 0)
        return;
    for (u32 left = moment->running; left; left &= left - 1) {
        unsigned n = (unsigned)__builtin_ctz(left);
        if (was_written(cpu, n, moment) || !is_plain(moment->select[n]))
            continue;
        add_to(cpu, n, (moment->select[n] & 0xffff) == EVENT_INSTRUCTIONS ? ran - !last_retired : ran, moment, &overflows);
    }
    if (UNLIKELY(overflows.counters))
        report(cpu, &overflows);
}
