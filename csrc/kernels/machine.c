/* What the benchmarks need to know of this machine, measured by the level's own instructions. */
#include "vector/simd.h"

const char *fdl_compiled_level(void) { return FDL_TEXT2(FDL_LEVEL); }

/* Independent multiply-adds, enough of them to hide latency, none touching memory. */
int fdl_peak_fma(int64_t iterations, double *flops, real *sink)
{
    enum { CHAINS = VECTOR_REGISTERS == 32 ? 24 : 12 };
    vreal sum[CHAINS];
    for (int i = 0; i < CHAINS; i++)
        sum[i] = vset1((real)i);
    vreal factor = vset1((real)0.5), addend = vset1((real)0.25);
    for (int64_t n = 0; n < iterations; n++) {
        __asm__ volatile("" : "+m"(factor), "+m"(addend)); /* unknown to the optimiser */
        const vreal f = factor, a = addend;
        for (int repeat = 0; repeat < 16; repeat++) {
            FDL_UNROLL
            for (int i = 0; i < CHAINS; i++)
                sum[i] = sum[i] * f + a;
        }
    }
    vreal total = {0};
    for (int i = 0; i < CHAINS; i++)
        total += sum[i];
    *sink = vsum(total);
    *flops = 2.0 * LANES * CHAINS * 16 * (double)iterations;
    return FDL_OK;
}
