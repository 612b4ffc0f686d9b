/* Inputs of the instruction fuzzer (fuzz_insn.c) without libFuzzer, for any compiler:
 *
 *     fuzz_insn_replay [--random N] [--seed S] [FILE]...
 *
 * N inputs made from the rows of cpu/insn.def, and those in files, one a line in hexadecimal, # begins a comment.
 * Whatever is found ends the program.
 */
#include "tests/fuzz/fuzz_insn.h"

#include <stdio.h>
#include <stdlib.h>

static unsigned run_file(const char *name)
{
    char line[4 * FUZZ_INPUT];
    u8 data[FUZZ_INPUT];
    unsigned inputs = 0;
    FILE *f = fopen(name, "r");
    if (!f) {
        perror(name);
        exit(2);
    }
    while (fgets(line, sizeof line, f)) {
        size_t n = 0;
        unsigned byte;
        for (const char *p = line; n < FUZZ_INPUT && sscanf(p, "%2x", &byte) == 1; p += 2)
            data[n++] = (u8)byte;
        if (line[0] != '#' && n) {
            LLVMFuzzerTestOneInput(data, n);
            inputs++;
        }
    }
    fclose(f);
    return inputs;
}

int main(int argc, char **argv)
{
    u64 seed = 1, n = 0;
    unsigned inputs = 0;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc)
            seed = strtoull(argv[++i], NULL, 0);
        else if (strcmp(argv[i], "--random") == 0 && i + 1 < argc)
            n = strtoull(argv[++i], NULL, 0);
        else
            inputs += run_file(argv[i]);
    }
    u8 data[FUZZ_INPUT];
    for (u64 k = 0; k < n; k++)
        LLVMFuzzerTestOneInput(data, fuzz_insn_make(seed + k, data));
    printf("%u inputs of files, %llu made: nothing found\n", inputs, (unsigned long long)n);
    return 0;
}
