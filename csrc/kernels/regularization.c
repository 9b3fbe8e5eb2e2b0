/* Dropout and penalties.
 *
 *   dropout      y = scale x + shift where the element is kept, else 0 x + dropped, so that NaN and infinity show; the
 *                gradient is the same with grad_output for x, and shift and `dropped` 0: nothing is stored in between
 *                (vector/dropout.h says what is kept)
 *   l1_penalty   coefficient sum |x|             grad = grad_output coefficient sign(x), sign(0) = sign(NaN) = 0
 *   l2_penalty   coefficient / 2 sum x^2         grad = grad_output coefficient x
 *
 * Penalties go over many arrays as if they stood one after another, in fixed blocks, each summed in double, then
 * those sums in order: the same result for any number of threads. */
#include <math.h>

#include "vector/dropout.h"
#include "vector/elementwise.h"
#include "vector/power_sum.h"

int fdl_dropout(const real *x, real *y, int64_t size, int64_t run, double keep, int64_t seed, int64_t offset,
                double scale, double shift, double dropped)
{
    return dropout_array(x, y, size, run, keep, seed, offset, scale, shift, dropped);
}

/* ---- penalties ---- */

enum { BLOCK = 1 << 14 };

typedef struct {
    const int64_t *arrays; /* [count, 3]: the address of x, that of its gradient, the size */
    int64_t total;         /* elements in all of them */
    int64_t power;         /* 1: magnitudes, 2: squares */
    double *block_sum;     /* forward: [blocks] */
    real factor;           /* backward */
    bool add;
} penalty;

/* A range of all the elements is walked part by part, each in one array. */
typedef struct {
    const real *x;
    real *grad;
    int64_t size;
} part;

typedef struct {
    const int64_t *array;
    int64_t at; /* in the array */
} place;

FDL_INLINE place place_of(const penalty *t, int64_t at)
{
    place p = {t->arrays, at};
    while (p.at >= p.array[2]) { /* at < total, so there is an array that holds it */
        p.at -= p.array[2];
        p.array += 3;
    }
    return p;
}

/* The rest of the array, up to `most` elements; where it ends, the next one follows. */
FDL_INLINE part next_part(place *p, int64_t most)
{
    while (p->at >= p->array[2])
        *p = (place){p->array + 3, 0};
    const int64_t size = min64(most, p->array[2] - p->at);
    const part found = {(const real *)(intptr_t)p->array[0] + p->at, (real *)(intptr_t)p->array[1] + p->at, size};
    p->at += size;
    return found;
}

static int penalty_blocks(void *context, int64_t begin, int64_t end)
{
    const penalty *t = context;
    place p = place_of(t, begin * BLOCK);
    for (int64_t block = begin; block < end; block++) {
        double sum = 0;
        for (int64_t left = min64(BLOCK, t->total - block * BLOCK); left > 0;) {
            const part a = next_part(&p, left);
            sum += t->power == 2 ? power_sum(a.x, a.size, 2) : power_sum(a.x, a.size, 1);
            left -= a.size;
        }
        t->block_sum[block] = sum;
    }
    return FDL_OK;
}

FDL_INLINE int64_t total_size(const int64_t *arrays, int64_t count)
{
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total += arrays[3 * i + 2];
    return total;
}

int fdl_penalty(real *result, const int64_t *arrays, int64_t count, double factor, int64_t power)
{
    penalty t = {.arrays = arrays, .total = total_size(arrays, count), .power = power};
    const int64_t blocks = ceil_div(t.total, BLOCK);
    const fdl_mark mark = fdl_scratch_mark();
    t.block_sum = fdl_scratch(blocks * (int64_t)sizeof(double));
    int status = FDL_OUT_OF_MEMORY;
    if (t.block_sum)
        status = fdl_parallel(blocks, MEMORY_GRAIN / BLOCK, penalty_blocks, &t);
    if (status == FDL_OK) {
        double sum = 0;
        for (int64_t block = 0; block < blocks; block++)
            sum += t.block_sum[block];
        *result = (real)(factor * sum);
    }
    fdl_scratch_release(mark);
    return status;
}

FDL_INLINE void penalty_gradient(const part *a, real factor, const int64_t power, const bool add)
{
    for (int64_t i = 0; i < a->size; i += LANES) { /* main loop and tail */
        const int64_t left = a->size - i;
        const vreal x = vload_up_to(a->x + i, left), zero = {0}, one = vset1(1);
        const vreal slope = power == 2 ? x : vselect(x > zero, one, zero) - vselect(x < zero, one, zero);
        const vreal before = add ? vload_up_to(a->grad + i, left) : zero;
        vstore_up_to(a->grad + i, add ? before + factor * slope : factor * slope, left);
    }
}

static int penalty_backward_range(void *context, int64_t begin, int64_t end)
{
    const penalty *t = context;
    place p = place_of(t, begin);
    for (int64_t left = end - begin; left > 0;) {
        const part a = next_part(&p, left);
        if (t->power == 2)
            penalty_gradient(&a, t->factor, 2, t->add);
        else
            penalty_gradient(&a, t->factor, 1, t->add);
        left -= a.size;
    }
    return FDL_OK;
}

int fdl_penalty_backward(const real *grad_output, const int64_t *arrays, int64_t count, double factor, int64_t power,
                         int64_t add)
{
    penalty t = {.arrays = arrays, .total = total_size(arrays, count), .power = power, .add = add};
    t.factor = (real)((double)*grad_output * factor);
    return fdl_parallel(t.total, MEMORY_GRAIN, penalty_backward_range, &t);
}
