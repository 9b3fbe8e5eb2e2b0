/* What losses of policies share. Of each row, with l the logarithm of the probability (density) of its action, H the
 * entropy of its distribution, A the advantage and o what l was before:
 *
 *   loss       -mean(objective) - w mean(H)
 *   objective  A l                                             without o
 *              min(r A, max(1 - clip, min(1 + clip, r)) A)     r = e^(l - o)
 *   slope      of the objective in l: A; r A, or 0 where the other is the smaller
 *
 * Rows are taken LANES at a time, side by side, and FEW columns of them (vector/interleave.h). Sums over columns are
 * `real` over FEW terms, then double; those over rows are double, of pieces that follow from the shape, in order. */
#ifndef FASTDL_POLICY_H
#define FASTDL_POLICY_H

#include "vector/elementwise.h"
#include "vector/interleave.h"
#include "vector/vmath.h"

enum { FEW = 64, PIECE = 1 << 12 }; /* elements in a piece */

/* interleave and separate, once in a file: they are long. */
static __attribute__((noinline)) void side_by_side(const real *x, int64_t step, int64_t rows, int64_t columns,
                                                   real *sheet)
{
    interleave(x, step, rows, columns, sheet);
}
static __attribute__((noinline)) void back_in_rows(const real *sheet, int64_t step, int64_t rows, int64_t columns,
                                                   real *x)
{
    separate(sheet, step, rows, columns, x);
}

typedef struct {
    const real *advantage, *old; /* advantage NULL: there is no loss, but what is told of each row */
    real low, high;              /* of r */
    real entropy_weight, scale;  /* g / rows */
} objective;

FDL_INLINE objective objective_of(const real *advantage, const real *old, const real *grad_output, int64_t rows,
                                  double clip, double entropy_weight)
{
    const double scale = grad_output ? (double)*grad_output / (double)rows : 0;
    return (objective){advantage, old, (real)(1 - clip), (real)(1 + clip), (real)entropy_weight, (real)scale};
}

/* The objective of `rows` rows, whose l are log_prob, and its slope. */
FDL_INLINE vreal objective_at(const objective *o, int64_t row, int64_t rows, vreal log_prob, vreal *slope)
{
    const vreal advantage = vload_up_to(o->advantage + row, rows);
    *slope = advantage;
    if (!o->old)
        return advantage * log_prob;
    const vreal ratio = vexp(log_prob - vload_up_to(o->old + row, rows)), plain = ratio * advantage;
    const vreal clipped = vmin(vset1(o->high), vmax(vset1(o->low), ratio)) * advantage; /* NaN passes */
    const vint cut = plain > clipped;
    *slope = vselect(cut, (vreal){0}, plain);
    return vselect(cut, clipped, plain);
}

/* What a strip of rows adds to the loss, before it is divided; log_prob and entropy become their gradients. */
FDL_INLINE double objective_strip(const objective *o, int64_t row, int64_t rows, vreal *log_prob, vreal *entropy)
{
    vreal slope, value = objective_at(o, row, rows, *log_prob, &slope);
    if (o->entropy_weight != 0)
        value += o->entropy_weight * *entropy;
    *log_prob = -o->scale * slope;
    *entropy = vset1(-o->scale * o->entropy_weight);
    return -vsum_double(vfirst_or(value, rows, (vreal){0}));
}

FDL_INLINE vreal load_or_0(const real *p, int64_t row, int64_t rows)
{
    return p ? vload_up_to(p + row, rows) : (vreal){0};
}
FDL_INLINE void store_if(real *p, int64_t row, vreal v, int64_t rows)
{
    if (p)
        vstore_up_to(p + row, v, rows);
}

/* total[l] += sum[l] */
FDL_INLINE void fold(double total[LANES], vreal sum)
{
    FDL_UNROLL
    for (int l = 0; l < LANES; l++)
        total[l] += (double)sum[l];
}
FDL_INLINE vreal folded(const double total[LANES])
{
    vreal v;
    FDL_UNROLL
    for (int l = 0; l < LANES; l++)
        v[l] = (real)total[l];
    return v;
}

/* Rows in a piece: whole strips. */
FDL_INLINE int64_t piece_rows(int64_t columns) { return ceil_div(max64(1, PIECE / max64(1, columns)), LANES) * LANES; }

/* Run a task over pieces of so many rows; `loss`, if it is wanted, is the mean of what they leave in *partial. */
FDL_INLINE int run_pieces(int64_t rows, int64_t columns, fdl_task *task, void *context, double **partial, real *loss)
{
    const int64_t block = piece_rows(columns), pieces = ceil_div(rows, block);
    const fdl_mark mark = fdl_scratch_mark();
    *partial = fdl_scratch(max64(1, pieces) * (int64_t)sizeof(double));
    const int64_t grain = ceil_div(COMPUTE_GRAIN, block * max64(1, columns));
    const int status = *partial ? fdl_parallel(pieces, grain, task, context) : FDL_OUT_OF_MEMORY;
    double sum = 0;
    for (int64_t i = 0; status == FDL_OK && i < pieces; i++)
        sum += (*partial)[i];
    if (status == FDL_OK && loss)
        *loss = (real)(sum / (double)rows); /* of nothing: NaN */
    fdl_scratch_release(mark);
    return status;
}

#endif
