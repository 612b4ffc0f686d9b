/* Counting exits, entries and instructions by level, and printing them.
 *
 * A level's instructions are counted by differences of stats->now when another level begins to run. cpu->time.retired
 * moves at the end of a block only; the instruction that switches levels is a block's last, and counts for the level that ran it.
 * What handling an exit took is counted from the exit to the handler's next VM entry, with what outer levels did for
 * the handler in between.
 */
#include "vmx/stats.h"

#include "vmx/capability.h"

#include "cpu/block.h"

#include <stdlib.h>

const char *vmx_exit_name(unsigned reason)
{
    switch (reason) {
#define EXIT(number, name, ...) case number: return #name;
#include "vmx/exits.def"
#undef EXIT
    default:
        return "?";
    }
}

const char *vmx_exit_text(unsigned reason)
{
    switch (reason) {
#define EXIT(number, name, class, scope, qualification, text) case number: return text;
#include "vmx/exits.def"
#undef EXIT
    default:
        return "?";
    }
}

struct vmx_stats *vmx_stats_create(void)
{
    struct vmx_stats *stats = calloc(1, sizeof *stats);
    if (!stats)
        return NULL;
    stats->level = 1;
    for (unsigned n = 0; n < VMX_STATS_LEVELS; n++)
        stats->open_reason[n] = EXIT_NONE;
    return stats;
}

void vmx_stats_destroy(struct vmx_stats *stats)
{
    free(stats);
}

static unsigned bounded_level(unsigned level)
{
    return level < VMX_STATS_LEVELS ? level : VMX_STATS_LEVELS - 1;
}

/* Time never runs backwards, even where rip has moved and the place in the block is a guess. */
static void note_now(struct vmx_stats *stats, u64 now)
{
    if (now > stats->now)
        stats->now = now;
}

static void settle(struct cpu *cpu)
{
    struct vmx_stats *stats = cpu->stats;
    if (!cpu->block)
        note_now(stats, cpu->time.retired);
    stats->instructions[stats->level] += stats->now - stats->since;
    stats->since = stats->now;
}

/* ---- levels as hypervisors --------------------------------------------------------------------------------------- */

/* L2's VM entries are the one measure of L3's exits that every policy shows: under `hardware`, L0 sees no L3, but it
 * sees L2's VMLAUNCH and VMRESUME exit to L1; where L0 runs them itself, it makes the entry. */
static void note_hypervisor_entry(struct cpu *cpu, unsigned level)
{
    struct vmx_stats *stats = cpu->stats;
    struct vmx_hypervisor *h = &stats->hypervisor[level];
    h->entries++;
    if (h->open)
        return;
    settle(cpu);
    h->open = true;
    memcpy(h->instructions_since, stats->instructions, sizeof h->instructions_since);
    h->violations_since = stats->handling[1][EXIT_EPT_VIOLATION];
}

/* Brings the sums of the open interval up to date. */
static void settle_hypervisor(struct cpu *cpu, unsigned level)
{
    struct vmx_stats *stats = cpu->stats;
    struct vmx_hypervisor *h = &stats->hypervisor[level];
    settle(cpu);
    if (!h->open)
        return;
    for (unsigned l = 1; l <= level; l++)
        h->instructions[l] += stats->instructions[l] - h->instructions_since[l];
    h->violations += stats->handling[1][EXIT_EPT_VIOLATION] - h->violations_since;
    memcpy(h->instructions_since, stats->instructions, sizeof h->instructions_since);
    h->violations_since = stats->handling[1][EXIT_EPT_VIOLATION];
}

static void note_hypervisor_end(struct cpu *cpu, unsigned level)
{
    settle_hypervisor(cpu, level);
    cpu->stats->hypervisor[level].open = false;
}

void vmx_stats_vmxoff(struct cpu *cpu, unsigned level)
{
    if (!cpu->stats)
        return;
    vmx_stats_note_time(cpu);
    note_hypervisor_end(cpu, bounded_level(level));
}

void vmx_stats_close(struct cpu *cpu)
{
    if (!cpu->stats)
        return;
    for (unsigned level = 1; level < VMX_STATS_LEVELS; level++)
        settle_hypervisor(cpu, level);
}

void vmx_stats_note_time(struct cpu *cpu)
{
    if (cpu->stats)
        note_now(cpu->stats, cpu->time.retired + (cpu->block ? cpu_block_position(cpu) + 1 : 0));
}

/* ---- how costs are spread ---------------------------------------------------------------------------------------- */

static unsigned spread_bucket(u64 n)
{
    if (n < 8)
        return (unsigned)n;
    unsigned octave = 63 - (unsigned)__builtin_clzll(n), bucket = octave * 4 - 4 + (unsigned)(n >> (octave - 2) & 3);
    return bucket < VMX_SPREAD_BUCKETS ? bucket : VMX_SPREAD_BUCKETS - 1;
}

/* The middle of a bucket's numbers. */
static u64 spread_middle(unsigned bucket)
{
    if (bucket < 8)
        return bucket;
    unsigned octave = bucket / 4 + 1;
    u64 step = 1ull << (octave - 2);
    return (4 + bucket % 4) * step + step / 2;
}

static bool spread_empty(const struct vmx_spread *s) { return s->max == 0 && s->bucket[0] == 0; }

static void spread_add(struct vmx_spread *s, u64 n)
{
    if (spread_empty(s) || n < s->min)
        s->min = n;
    if (n > s->max)
        s->max = n;
    s->bucket[spread_bucket(n)]++;
}

static void spread_join(struct vmx_spread *to, const struct vmx_spread *from)
{
    if (spread_empty(from))
        return;
    if (spread_empty(to) || from->min < to->min)
        to->min = from->min;
    if (from->max > to->max)
        to->max = from->max;
    for (unsigned n = 0; n < VMX_SPREAD_BUCKETS; n++)
        to->bucket[n] += from->bucket[n];
}

/* Exact where a bucket holds one number, else within an eighth. */
static u64 spread_median(const struct vmx_spread *s)
{
    u64 count = 0, below = 0;
    for (unsigned n = 0; n < VMX_SPREAD_BUCKETS; n++)
        count += s->bucket[n];
    for (unsigned n = 0; n < VMX_SPREAD_BUCKETS; n++) {
        below += s->bucket[n];
        if (below * 2 >= count) {
            u64 middle = spread_middle(n);
            return middle < s->min ? s->min : middle > s->max ? s->max : middle;
        }
    }
    return 0;
}

/* ---- exits and entries ------------------------------------------------------------------------------------------- */

void vmx_stats_exit(struct cpu *cpu, unsigned from, unsigned reason, unsigned handler)
{
    struct vmx_stats *stats = cpu->stats;
    if (!stats)
        return;
    reason &= 0xffff;
    if (reason >= EXIT_REASON_COUNT)
        return;
    from = bounded_level(from);
    handler = bounded_level(handler);
    stats->exits[from][reason][handler]++;
    if (handler == 0)
        return;
    if (reason == EXIT_VMLAUNCH || reason == EXIT_VMRESUME)
        note_hypervisor_entry(cpu, from);
    else if (reason == EXIT_VMXOFF)
        note_hypervisor_end(cpu, from);
    settle(cpu);
    stats->level = handler;
    stats->open_reason[handler] = (u16)reason;
    stats->open_since[handler] = stats->now;
}

void vmx_stats_entry(struct cpu *cpu, unsigned by, unsigned level)
{
    struct vmx_stats *stats = cpu->stats;
    if (!stats)
        return;
    by = bounded_level(by);
    note_hypervisor_entry(cpu, by);
    settle(cpu);
    stats->level = bounded_level(level);
    stats->entries[stats->level]++;
    if (stats->open_reason[by] != EXIT_NONE) {
        stats->handled[by][stats->open_reason[by]]++;
        stats->handling[by][stats->open_reason[by]] += stats->now - stats->open_since[by];
        spread_add(&stats->spread[by][stats->open_reason[by]], stats->now - stats->open_since[by]);
        stats->open_reason[by] = EXIT_NONE;
    }
}

/* What of EPT, as far as the EPT pointer tells. */
static u64 eptp_uses(const struct vmcs *v)
{
    u64 eptp = v->ept_pointer;
    if (!(vmx_secondary(v) & SECONDARY_EPT))
        return 0;
    return ((eptp >> 3 & 7) == 4 ? EPTCAP_WALK_5 : EPTCAP_WALK_4) | (eptp >> 6 & 1 ? EPTCAP_ACCESSED_DIRTY : 0) |
           (eptp >> 7 & 1 ? EPTCAP_SHADOW_STACK : 0);
}

void vmx_stats_controls(struct cpu *cpu)
{
    const struct vmcs *v = &cpu->vmx.frame[0].vmcs;
    const u64 word[VMX_WORD_COUNT] = {
        [VMX_WORD_PIN] = v->pin_controls, [VMX_WORD_PRIMARY] = v->primary_controls, [VMX_WORD_SECONDARY] = vmx_secondary(v),
        [VMX_WORD_TERTIARY] = v->primary_controls & PRIMARY_TERTIARY_CONTROLS ? v->tertiary_controls : 0,
        [VMX_WORD_VMEXIT] = v->exit_controls, [VMX_WORD_VMENTRY] = v->entry_controls,
        [VMX_WORD_VMEXIT2] = v->exit_controls & VMEXIT_SECONDARY_CONTROLS ? v->secondary_exit_controls : 0,
        [VMX_WORD_EPTCAP] = eptp_uses(v)};
    if (!cpu->stats || !(cpu->vmx_emulated[0] | cpu->vmx_emulated[1] | cpu->vmx_withheld[0] | cpu->vmx_withheld[1]))
        return;
    for (unsigned n = 0; n < CTL_COUNT; n++) {
        const struct vmx_control_info *control = vmx_control_info(n);
        if (word[control->word] >> control->bit & 1)
            cpu->stats->uses[n][cpu->vmx_emulated[n / 64] >> (n % 64) & 1]++;
    }
}

void vmx_stats_entry_failed(struct vmx_stats *stats, unsigned check)
{
    if (stats && check < VMX_CHECK_COUNT)
        stats->entry_failures[check]++;
}

void vmx_stats_add(struct vmx_stats *to, const struct vmx_stats *from)
{
    for (unsigned l = 0; l < VMX_STATS_LEVELS; l++) {
        for (unsigned r = 0; r < EXIT_REASON_COUNT; r++) {
            for (unsigned h = 0; h < VMX_STATS_LEVELS; h++)
                to->exits[l][r][h] += from->exits[l][r][h];
            to->handled[l][r] += from->handled[l][r];
            to->handling[l][r] += from->handling[l][r];
            spread_join(&to->spread[l][r], &from->spread[l][r]);
        }
        to->entries[l] += from->entries[l];
        to->instructions[l] += from->instructions[l];
        to->hypervisor[l].entries += from->hypervisor[l].entries;
        to->hypervisor[l].violations += from->hypervisor[l].violations;
        for (unsigned i = 0; i < VMX_STATS_LEVELS; i++)
            to->hypervisor[l].instructions[i] += from->hypervisor[l].instructions[i];
    }
    for (unsigned n = 0; n < CTL_COUNT; n++)
        for (unsigned i = 0; i < 2; i++)
            to->uses[n][i] += from->uses[n][i];
    for (unsigned c = 0; c < VMX_CHECK_COUNT; c++)
        to->entry_failures[c] += from->entry_failures[c];
}

/* ---- tables ------------------------------------------------------------------------------------------------------ */

/* Exits of a level that handlers first..last got. */
static u64 exits_of(const struct vmx_stats *stats, unsigned level, unsigned first, unsigned last)
{
    u64 sum = 0;
    for (unsigned r = 0; r < EXIT_REASON_COUNT; r++)
        for (unsigned h = first; h <= last; h++)
            sum += stats->exits[level][r][h];
    return sum;
}

static void print_levels(const struct vmx_stats *stats, FILE *out)
{
    fprintf(out, "%-6s %15s %12s %12s %12s %18s\n", "level", "instructions", "VM entries", "VM exits", "done by L0",
            "instructions/exit");
    for (unsigned l = 1; l < VMX_STATS_LEVELS; l++) {
        u64 exits = exits_of(stats, l, 1, VMX_STATS_LEVELS - 1), done = exits_of(stats, l, 0, 0);
        if (!stats->instructions[l] && !stats->entries[l] && !exits && !done)
            continue;
        fprintf(out, "L%-5u %15llu %12llu %12llu %12llu", l, (unsigned long long)stats->instructions[l],
                (unsigned long long)stats->entries[l], (unsigned long long)exits, (unsigned long long)done);
        if (exits)
            fprintf(out, " %18llu", (unsigned long long)(stats->instructions[l] / exits));
        fprintf(out, "\n");
    }
}

/* What an exit of each level's guests costs that level and those outside it: the numbers by which policies are compared. */
static void print_hypervisors(const struct vmx_stats *stats, FILE *out)
{
    bool any = false;
    for (unsigned l = 1; l < VMX_STATS_LEVELS; l++) {
        const struct vmx_hypervisor *h = &stats->hypervisor[l];
        u64 between = 0;
        if (!h->entries)
            continue;
        if (!any)
            fprintf(out, "\nInstructions for each VM entry of a guest, by the level that ran them:\n%-10s %11s %11s %11s %11s %18s\n",
                    "hypervisor", "VM entries", "L1", "between", "itself", "L1, EPT violations");
        any = true;
        fprintf(out, "L%-9u %11llu", l, (unsigned long long)h->entries);
        for (unsigned i = 2; i < l; i++)
            between += h->instructions[i];
        if (l == 1)
            fprintf(out, " %11s %11s", "", "");
        else
            fprintf(out, " %11llu %11llu", (unsigned long long)(h->instructions[1] / h->entries), (unsigned long long)(between / h->entries));
        fprintf(out, " %11llu %18llu\n", (unsigned long long)(h->instructions[l] / h->entries), (unsigned long long)(h->violations / h->entries));
    }
}

struct exit_row { u64 count; unsigned reason, handler; };

/* Most frequent first; equal ones by reason, so that the output is always the same. */
static int compare_rows(const void *a, const void *b)
{
    const struct exit_row *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    if (x->reason != y->reason)
        return x->reason < y->reason ? -1 : 1;
    return x->handler < y->handler ? -1 : x->handler > y->handler;
}

static void print_exits(const struct vmx_stats *stats, unsigned level, FILE *out)
{
    struct exit_row rows[EXIT_REASON_COUNT * 4];
    unsigned n = 0;
    for (unsigned r = 0; r < EXIT_REASON_COUNT; r++)
        for (unsigned h = 0; h < VMX_STATS_LEVELS; h++)
            if (stats->exits[level][r][h] && n < ARRAY_SIZE(rows))
                rows[n++] = (struct exit_row){.count = stats->exits[level][r][h], .reason = r, .handler = h};
    if (!n)
        return;
    qsort(rows, n, sizeof rows[0], compare_rows);
    fprintf(out, "\nVM exits of L%u:\n%11s  %-38s  %-7s %s\n", level, "count", "reason", "handler",
            "instrs to handle");
    for (unsigned i = 0; i < n; i++) {
        unsigned r = rows[i].reason, h = rows[i].handler;
        fprintf(out, "%11llu  %2u %-35.35s  L%u", (unsigned long long)rows[i].count, r, vmx_exit_text(r), h);
        if (stats->handled[h][r])
            fprintf(out, "%*llu", h < 10 ? 22 : 21, (unsigned long long)(stats->handling[h][r] / stats->handled[h][r]));
        fprintf(out, "\n");
    }
}

/* What handling took, by the level that handled. */
static void print_spread(const struct vmx_stats *stats, unsigned level, FILE *out)
{
    bool any = false;
    for (unsigned r = 0; r < EXIT_REASON_COUNT; r++) {
        const struct vmx_spread *s = &stats->spread[level][r];
        if (!stats->handled[level][r])
            continue;
        if (!any)
            fprintf(out, "\nInstructions of L%u to handle an exit:\n%11s  %-30s %10s %10s %10s\n", level, "count", "reason", "min", "median",
                    "max");
        any = true;
        fprintf(out, "%11llu  %2u %-27.27s %10llu %10llu %10llu\n", (unsigned long long)stats->handled[level][r], r, vmx_exit_text(r),
                (unsigned long long)s->min, (unsigned long long)spread_median(s), (unsigned long long)s->max);
    }
}

static void print_failures(const struct vmx_stats *stats, FILE *out)
{
    bool any = false;
    for (unsigned c = 0; c < VMX_CHECK_COUNT; c++) {
        if (!stats->entry_failures[c])
            continue;
        if (!any)
            fprintf(out, "\nVM entries that failed:\n%12s  %-32s %s\n", "count", "check", "SDM section");
        any = true;
        fprintf(out, "%12llu  %-32s %s\n", (unsigned long long)stats->entry_failures[c], vmx_check_info(c)->name,
                vmx_check_section_info(vmx_check_section(c))->title);
    }
}

static void print_uses(const struct vmx_stats *stats, FILE *out)
{
    static const char *const source[] = {"hardware", "emulated by L0"};
    u64 sum[2] = {0};
    bool any = false;
    for (unsigned i = 2; i-- > 0;) {
        for (unsigned n = 0; n < CTL_COUNT; n++) {
            if (!stats->uses[n][i])
                continue;
            if (!any)
                fprintf(out, "\nVMX features that L1 used, by its VM entries:\n%12s  %-16s %s\n", "VM entries", "source", "control");
            any = true;
            sum[i] += stats->uses[n][i];
            fprintf(out, "%12llu  %-16s %s\n", (unsigned long long)stats->uses[n][i], source[i], vmx_control_info(n)->name);
        }
    }
    if (any)
        fprintf(out, "in all %llu uses of the hardware's and %llu of emulated features\n", (unsigned long long)sum[0],
                (unsigned long long)sum[1]);
}

void vmx_stats_print(const struct vmx_stats *stats, FILE *out)
{
    u64 used = 0;
    for (unsigned l = 0; l < VMX_STATS_LEVELS; l++)
        used += stats->entries[l] + exits_of(stats, l, 0, VMX_STATS_LEVELS - 1);
    for (unsigned c = 0; c < VMX_CHECK_COUNT; c++)
        used += stats->entry_failures[c];
    if (!used) {
        fprintf(out, "VMX: no VM entry was tried.\n");
        return;
    }
    print_levels(stats, out);
    print_hypervisors(stats, out);
    for (unsigned l = 1; l < VMX_STATS_LEVELS; l++)
        print_exits(stats, l, out);
    for (unsigned l = 1; l < VMX_STATS_LEVELS; l++)
        print_spread(stats, l, out);
    print_failures(stats, out);
    print_uses(stats, out);
}
