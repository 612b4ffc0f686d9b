/* Looking at guest code without disturbing it, and its text (by Capstone, where the build found it). */
#ifndef NESTOR_DEBUG_DISASM_H
#define NESTOR_DEBUG_DISASM_H

#include "cpu/state.h"

/* Reads up to n bytes of guest memory at la through the page tables as they stand, without any side effect. Returns how many
 * could be read (RAM only). */
unsigned disasm_fetch(struct cpu *cpu, u64 la, u8 *bytes, unsigned n);

/* The assembly text of the instruction in bytes[0..n) at `rip`; `bits` is enum cpu_bits. Without Capstone, or when it does not know the
 * bytes: "?". Returns its length in bytes, 0 when unknown. */
unsigned disasm_text(const u8 *bytes, unsigned n, u64 rip, unsigned bits, char *text, size_t size);

#endif
