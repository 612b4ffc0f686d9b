/* floating: the workloads of SSE2 double precision. The results are exact, or rounded in one order only, so they are known. */
#include "bench.h"

enum { SIDE = 32 };

static double left[SIDE][SIDE], right[SIDE][SIDE], product[SIDE][SIDE];
static volatile double factor, addend;

void prepare_matrix(void)
{
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++) {
            left[i][j] = (double)(i + j) / 4;
            right[i][j] = (double)(i * 3 + 7 * j % 11) / 8;
        }
}

uint64_t run_matrix(uint64_t count)
{
    for (uint64_t n = 0; n < count; n++) {
        for (unsigned i = 0; i < SIDE; i++)
            for (unsigned j = 0; j < SIDE; j++) {
                double sum = 0;
                for (unsigned k = 0; k < SIDE; k++)
                    sum += left[i][k] * right[k][j];
                product[i][j] = sum;
            }
        __asm__ volatile("" : : : "memory");
    }
    uint64_t sum = 0; /* all are multiples of 1/32 */
    for (unsigned i = 0; i < SIDE; i++)
        for (unsigned j = 0; j < SIDE; j++)
            sum += (uint64_t)(product[i][j] * 32) * (i + 2 * j + 1);
    return sum;
}

void prepare_doubles(void)
{
    factor = 0.75;
    addend = 3;
}

uint64_t run_doubles(uint64_t count)
{
    double x = 0, f = factor, a = addend;
    for (uint64_t n = 0; n < count; n++) {
        x = 1;
        for (unsigned i = 0; i < 32; i++) {
            x = x * f + a; /* two that wait for each other */
            __asm__ volatile("" : "+x"(x));
        }
    }
    return (uint64_t)(x * 1e12);
}
