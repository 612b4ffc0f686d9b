/* See stats.h. */
#include "machine/stats.h"

#include "vmx/stats.h"

#include <stdio.h>

void stats_print(struct machine *m, u64 elapsed, FILE *out)
{
    double seconds = (double)elapsed / 1e9;
    fprintf(out, "\n-- run\n");
    fprintf(out, "instructions   %llu\n", (unsigned long long)m->time.icount);
    fprintf(out, "virtual time   %.6f s, of which %.6f s asleep\n", (double)(m->time.icount + m->time.skipped) / 1e9,
            (double)m->time.skipped / 1e9);
    fprintf(out, "host time      %.3f s, %.1f million instructions a second\n", seconds,
            seconds > 0 ? (double)m->time.icount / seconds / 1e6 : 0.0);
    for (unsigned i = 0; i < m->cpu_count && m->cpu_count > 1; i++)
        fprintf(out, "cpu%-3u         %llu instructions\n", i, (unsigned long long)m->cpu[i].time.retired);

    struct vmx_stats *sum = vmx_stats_create();
    for (unsigned i = 0; sum && i < m->cpu_count; i++) {
        if (!m->cpu[i].stats)
            continue;
        vmx_stats_close(&m->cpu[i]);
        vmx_stats_add(sum, m->cpu[i].stats);
    }
    if (sum) {
        fputc('\n', out);
        vmx_stats_print(sum, out);
        vmx_stats_destroy(sum);
    }
}
