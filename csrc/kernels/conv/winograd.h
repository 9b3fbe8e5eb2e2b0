/* The transforms of Winograd's F(m x m, r x r), in one dimension, on vectors; m is WINOGRAD_TILE, and r is 3 for m = 2
 * and 4, and 2 for m = 3 (winograd_forward.h and winograd_4x4.c say what for).
 *
 * The matrices interpolate, for m = 2 and 3, at the points 0, +-1 and infinity, and for m = 4 at 0, +-a, +-b and
 * infinity with a = 3/4, b = 3/2. In float32 that leaves less than half the error of the usual 0, +-1, +-2 (after
 * Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd Convolution", TOMS 2020; all constants but
 * 1/N are exact). */
#ifndef FASTDL_WINOGRAD_H
#define FASTDL_WINOGRAD_H

#include "vector/simd.h"

enum {
    OUT = WINOGRAD_TILE,
    KERNEL = OUT == 3 ? 2 : 3,
    TAPS = KERNEL * KERNEL,
    IN = OUT + KERNEL - 1,
    POINTS = IN * IN
};

#if WINOGRAD_TILE <= 3
/* B^T d, on vectors. */
FDL_INLINE void input_transform(const vreal d[IN], vreal v[IN])
{
    v[0] = d[0] - d[2];
    v[1] = d[2] + d[1];
    v[2] = d[2] - d[1];
    v[3] = d[3] - d[1];
}
#endif

#if WINOGRAD_TILE == 3
/* G g. */
FDL_INLINE void weight_transform(const vreal g[KERNEL], vreal u[IN])
{
    u[0] = g[0];
    u[1] = (real)0.5 * (g[0] + g[1]);
    u[2] = (real)0.5 * (g[0] - g[1]);
    u[3] = g[1];
}

/* A^T m. */
FDL_INLINE void output_transform(const vreal m[IN], vreal y[OUT])
{
    const vreal sum = m[1] + m[2];
    y[0] = m[0] + sum;
    y[1] = m[1] - m[2];
    y[2] = sum + m[3];
}
#elif WINOGRAD_TILE == 2
/* G g. */
FDL_INLINE void weight_transform(const vreal g[KERNEL], vreal u[IN])
{
    const vreal even = (real)0.5 * (g[0] + g[2]), odd = (real)0.5 * g[1];
    u[0] = g[0];
    u[1] = even + odd;
    u[2] = even - odd;
    u[3] = g[2];
}

/* A^T m. */
FDL_INLINE void output_transform(const vreal m[IN], vreal y[OUT])
{
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] + m[3];
}
#else
static const real A1 = 0.75, A2 = 0.5625, A3 = 0.421875; /* a, a^2, a^3 */
static const real B1 = 1.5, B2 = 2.25, B3 = 3.375;       /* b, b^2, b^3 */

/* B^T d, on vectors. */
FDL_INLINE void input_transform(const vreal d[IN], vreal v[IN])
{
    const vreal even_a = d[4] - B2 * d[2], odd_a = A1 * (d[3] - B2 * d[1]);
    const vreal even_b = d[4] - A2 * d[2], odd_b = B1 * (d[3] - A2 * d[1]);
    v[0] = (A2 * B2) * d[0] - (A2 + B2) * d[2] + d[4];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = (A2 * B2) * d[1] - (A2 + B2) * d[3] + d[5];
}

/* G g. */
FDL_INLINE void weight_transform(const vreal g[KERNEL], vreal u[IN])
{
    const real over_a = 1 / (2 * A2 * (A2 - B2)), over_b = 1 / (2 * B2 * (B2 - A2));
    const vreal even_a = over_a * (g[0] + A2 * g[2]), odd_a = (over_a * A1) * g[1];
    const vreal even_b = over_b * (g[0] + B2 * g[2]), odd_b = (over_b * B1) * g[1];
    u[0] = g[0] * (1 / (A2 * B2));
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
}

/* A^T m. */
FDL_INLINE void output_transform(const vreal m[IN], vreal y[OUT])
{
    const vreal sum_a = m[1] + m[2], diff_a = m[1] - m[2], sum_b = m[3] + m[4], diff_b = m[3] - m[4];
    y[0] = m[0] + sum_a + sum_b;
    y[1] = A1 * diff_a + B1 * diff_b;
    y[2] = A2 * sum_a + B2 * sum_b;
    y[3] = A3 * diff_a + B3 * diff_b + m[5];
}

/* A y: the adjoint of output_transform. */
FDL_INLINE void output_adjoint(const vreal y[OUT], vreal m[IN])
{
    const vreal even_a = y[0] + A2 * y[2], odd_a = A1 * y[1] + A3 * y[3];
    const vreal even_b = y[0] + B2 * y[2], odd_b = B1 * y[1] + B3 * y[3];
    m[0] = y[0];
    m[1] = even_a + odd_a;
    m[2] = even_a - odd_a;
    m[3] = even_b + odd_b;
    m[4] = even_b - odd_b;
    m[5] = y[3];
}

/* G^T u: the adjoint of weight_transform. */
FDL_INLINE void weight_adjoint(const vreal u[IN], vreal g[3])
{
    const real over_a = 1 / (2 * A2 * (A2 - B2)), over_b = 1 / (2 * B2 * (B2 - A2));
    const vreal even_a = over_a * (u[1] + u[2]), even_b = over_b * (u[3] + u[4]);
    g[0] = u[0] * (1 / (A2 * B2)) + even_a + even_b;
    g[1] = (over_a * A1) * (u[1] - u[2]) + (over_b * B1) * (u[3] - u[4]);
    g[2] = A2 * even_a + B2 * even_b + u[5];
}

#endif

/* U = G g G^T of n <= LANES kernels g, `step` elements apart, or of the kernels turned round: POINTS vectors, a lane a
 * kernel, `point` elements apart; 0 in the lanes past the last. */
FDL_INLINE void transform_kernels(const real *from, int64_t step, int64_t n, bool turned, real *to, int64_t point)
{
    vreal taps[(TAPS + LANES - 1) / LANES * LANES]; /* a vector each */
    FDL_UNROLL
    for (int tap = 0; tap < TAPS; tap += LANES) {
        const vmask present = vmask_range(0, min64(LANES, TAPS - tap));
        vreal *block = taps + tap;
        FDL_UNROLL
        for (int l = 0; l < LANES; l++)
            block[l] = l < n ? vload_masked(from + l * step + tap, present) : (vreal){0};
        vtranspose(block);
    }
    if (turned) {
        FDL_UNROLL
        for (int tap = 0; tap < TAPS / 2; tap++) {
            const vreal first = taps[tap];
            taps[tap] = taps[TAPS - 1 - tap], taps[TAPS - 1 - tap] = first;
        }
    }
    vreal half[KERNEL][IN]; /* (G g)^T */
    FDL_UNROLL
    for (int s = 0; s < KERNEL; s++) {
        vreal g[KERNEL];
        FDL_UNROLL
        for (int r = 0; r < KERNEL; r++)
            g[r] = taps[r * KERNEL + s];
        weight_transform(g, half[s]);
    }
    FDL_UNROLL
    for (int r = 0; r < IN; r++) {
        vreal g[KERNEL], u[IN];
        FDL_UNROLL
        for (int s = 0; s < KERNEL; s++)
            g[s] = half[s][r];
        weight_transform(g, u);
        FDL_UNROLL
        for (int s = 0; s < IN; s++)
            vstore(to + (r * IN + s) * point, u[s]);
    }
}

#endif
