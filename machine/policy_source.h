/* Where a machine's policy comes from: a name with parameters, a file of parameters, or a shared library.
 */
#ifndef NESTOR_MACHINE_POLICY_SOURCE_H
#define NESTOR_MACHINE_POLICY_SOURCE_H

#include "machine/machine.h"

/* What --policy says: "NAME[,key=value]…", "FILE[,key=value]…" for a file that ends in .ini, or "LIBRARY[,key=value]…" for
 * one that ends in .so, .dylib or .dll.
 *
Reads the file or opens the library. False with a one-line message. Freed in any case by policy_source_close, after the
 * CPUs that use it are gone. */
bool policy_source_open(struct policy_source *source, const char *text, char *message, size_t message_size);
bool policy_source_give(const struct policy_source *source, struct cpu *cpu, char *message, size_t message_size);
void policy_source_close(struct policy_source *source);

#endif
