/* vectors: the workload of AVX, 256 bits wide: its results are exact. */
#include "bench.h"

enum { SIDE = 32, LANES = 8 };
typedef float lanes __attribute__((vector_size(4 * LANES)));

static float left[SIDE][SIDE];
static lanes right[SIDE][SIDE / LANES], product[SIDE][SIDE / LANES];

void prepare_vectors(void)
{
    uint32_t a = 1, b, c = 0, d;
    __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    if (!(c & 1 << 27 && c & 1 << 28))
        skip("there is no AVX");
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            left[i][j] = (float)(i + j) / 4;
            right[i][j / LANES][j % LANES] = (float)(i * 3 + 7 * j % 11) / 8;
        }
}

uint64_t run_vectors(uint64_t count)
{
    for (uint64_t n = 0; n < count; n++) {
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE / LANES; j++) {
                lanes sum = {0};
                for (unsigned k = 0; k < SIDE; k++)
                    sum += left[i][k] * right[k][j];
                product[i][j] = sum;
            }
        __asm__ volatile("" : : : "memory");
    }
    uint64_t sum = 0; /* all are multiples of 1/32 below 2^24 / 32 */
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++)
            sum += (uint64_t)(product[i][j / LANES][j % LANES] * 32) * (i + 2 * j + 1);
    return sum;
}
