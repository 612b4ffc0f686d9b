/* The sink of trace events (cpu/trace.h): text, JSON lines or Perfetto's JSON, to files, chosen by category.
 *
 * Text:  ICOUNT cpuN Ln CLASS NAME field=value …
 * JSON lines:  {"icount":…,"cpu":…,"level":…,"class":"…","name":"…","field":value,…}; hexadecimal values are strings.
 * Perfetto (ui.perfetto.dev): vCPUs are processes, levels their threads, with a slice for each stay at a level.
 */
#ifndef NESTOR_DEBUG_TRACE_H
#define NESTOR_DEBUG_TRACE_H

#include "cpu/trace.h"

/* Makes a sink without outputs. `icount` gives the machine's exact instruction count. NULL: no memory. */
struct trace *trace_new(u64 (*icount)(void *arg), void *arg);
/* Adds an output, "CATS:FILE": categories by name or prefix separated by commas (`all` is every one), FILE ending in .perfetto.json for
 * Perfetto, else in .json or .jsonl for JSON lines, in .rows for a list of the rows of cpu/insn.def that were
 * executed (class insn only), `-` for stderr. False with a one-line message. */
bool trace_add_output(struct trace *trace, const char *spec, char *message, size_t message_size);
/* Flushes and closes. */
void trace_free(struct trace *trace);
void trace_flush(struct trace *trace);

#endif
