/* The sink of trace events (cpu/trace.h): text or JSON lines, to files, chosen by category.
 *
 * Text:  ICOUNT cpuN Ln CLASS NAME field=value …
 * JSON:  {"icount":…,"cpu":…,"level":…,"class":"…","name":"…","field":value,…}; hexadecimal values are strings.
 */
#ifndef NESTOR_DEBUG_TRACE_H
#define NESTOR_DEBUG_TRACE_H

#include "cpu/trace.h"

/* Makes a sink without outputs. `icount` gives the machine's exact instruction count. NULL: no memory. */
struct trace *trace_new(u64 (*icount)(void *arg), void *arg);
/* Adds an output, "CATS:FILE": categories by name or prefix separated by commas (`all` is every one), FILE ending in .json or .jsonl for
 * JSON lines, `-` for stderr. False with a one-line message. */
bool trace_add_output(struct trace *trace, const char *spec, char *message, size_t message_size);
/* Flushes and closes. */
void trace_free(struct trace *trace);
void trace_flush(struct trace *trace);

#endif
