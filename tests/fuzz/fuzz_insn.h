/* The fuzzer of instructions, for the program that replays inputs: see fuzz_insn.c. */
#ifndef NESTOR_TESTS_FUZZ_INSN_H
#define NESTOR_TESTS_FUZZ_INSN_H

#include "cpu/base.h"

#define FUZZ_INPUT 512u        /* bytes of an input at most */

/* Runs one input; aborts when it finds something. libFuzzer's entry. */
int LLVMFuzzerTestOneInput(const u8 *data, size_t size);
/* An input out of rows of cpu/insn.def, the same for the same seed: its size. `data` has room for FUZZ_INPUT bytes. */
size_t fuzz_insn_make(u64 seed, u8 *data);

#endif
