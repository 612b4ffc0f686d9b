/* The decoder: bytes to struct insn, by the rows of cpu/insn.def.
 */
#ifndef NESTOR_CPU_DECODE_H
#define NESTOR_CPU_DECODE_H

#include "cpu/insn.h"
#include "cpu/state.h"

enum decode_result {
    DECODE_OK,                 /* also for undefined opcodes: their handler raises #UD */
    DECODE_MORE,               /* the instruction goes on behind the bytes given */
};

/* Decodes one instruction from `bytes` (`n` available, at most 15 are looked at) in code of width `bits` for a CPU with these
 * features. An instruction longer than 15 bytes gets a handler that raises #GP(0). */
enum decode_result insn_decode(const u32 *features, enum cpu_bits bits, const u8 *bytes, unsigned n, struct insn *in);

#endif
