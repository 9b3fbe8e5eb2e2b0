/* prelu: He et al., "Delving Deep into Rectifiers" (ICCV 2015), section 2.1.
 *
 *   y = x where x > 0, else weight[c] x                x, y [outer, channels, inner], weight [channels] or [1]
 *   grad_input = grad_output where x > 0, else weight[c] grad_output
 *   grad_weight[c] = sum of x grad_output over x <= 0, in `real` over at most FOLD terms a lane, then in double
 *
 * Work is cut into rows of one weight, which are inner long. A single weight makes rows of ROW elements of the whole
 * array; with inner = 1 the weights lie along vectors, and rows are strips of STRIP channels down all of outer. The
 * sums of the rows are added in their order, whatever the number of threads. */
#include "vector/elementwise.h"

enum { FOLD = 32, ROW = 1 << 13, STRIP = 4 * LANES };

typedef struct {
    const real *x, *weight, *grad_output;
    real *out, *grad_weight; /* grad_weight NULL: forward */
    double *row_sum;         /* [rows] */
    int64_t size, outer, channels, inner, weights;
} prelu;

/* y, or grad_input; *sum gets what grad_weight is the sum of. */
FDL_INLINE vreal prelu_vector(vreal x, vreal weight, vreal grad, const bool backward, vreal *sum)
{
    const vint positive = x > (vreal){0};
    if (!backward)
        return vselect(positive, x, weight * x);
    *sum += vselect(positive, (vreal){0}, x * grad);
    return vselect(positive, grad, weight * grad);
}

/* Elements [begin, end), all of one weight. Returns their sum. */
FDL_INLINE double prelu_row(const prelu *t, int64_t begin, int64_t end, real weight, const bool backward)
{
    double total = 0;
    pass p = pass_over(begin, end, t->out, false);
    while (p.lanes > 0) {
        vreal sum = {0};
        for (int i = 0; i < FOLD && p.lanes > 0; i++, pass_next(&p)) {
            const vreal grad = backward ? pass_load(&p, t->grad_output) : (vreal){0};
            pass_store(&p, t->out, prelu_vector(pass_load(&p, t->x), vset1(weight), grad, backward, &sum));
        }
        if (backward)
            total += vsum_double(sum);
    }
    return total;
}

/* Channels [begin, end) of x [outer, channels]. */
FDL_INLINE void prelu_strip(const prelu *t, int64_t begin, int64_t end, const bool backward)
{
    for (int64_t c = begin; c < end; c += LANES) {
        const int64_t lanes = min64(LANES, end - c);
        const vreal weight = vload_up_to(t->weight + c, lanes);
        double total[LANES] = {0};
        for (int64_t i = 0; i < t->outer;) {
            vreal sum = {0};
            for (const int64_t stop = min64(t->outer, i + FOLD); i < stop; i++) {
                const int64_t at = i * t->channels + c;
                const vreal grad = backward ? vload_up_to(t->grad_output + at, lanes) : (vreal){0};
                const vreal y = prelu_vector(vload_up_to(t->x + at, lanes), weight, grad, backward, &sum);
                vstore_up_to(t->out + at, y, lanes);
            }
            for (int l = 0; l < LANES; l++)
                total[l] += (double)sum[l];
        }
        if (backward)
            for (int64_t l = 0; l < lanes; l++)
                t->grad_weight[c + l] = (real)total[l];
    }
}

static int strips(void *context, int64_t begin, int64_t end)
{
    const prelu *t = context;
    const int64_t from = begin * STRIP, to = min64(end * STRIP, t->channels);
    if (t->grad_weight)
        prelu_strip(t, from, to, true);
    else
        prelu_strip(t, from, to, false);
    return FDL_OK;
}

static int rows(void *context, int64_t begin, int64_t end)
{
    const prelu *t = context;
    for (int64_t row = begin; row < end; row++) {
        const int64_t from = row * t->inner, to = min64(from + t->inner, t->size);
        const real weight = t->weight[row % t->channels];
        if (t->grad_weight)
            t->row_sum[row] = prelu_row(t, from, to, weight, true);
        else
            prelu_row(t, from, to, weight, false);
    }
    return FDL_OK;
}

static int prelu_parallel(prelu *t)
{
    t->size = t->outer * t->channels * t->inner;
    if (t->weights == 1) {
        t->outer = ceil_div(t->size, ROW);
        t->channels = 1;
        t->inner = ROW;
    } else if (t->inner == 1) {
        const int64_t grain = ceil_div(MEMORY_GRAIN, max64(1, t->outer * STRIP));
        return fdl_parallel(ceil_div(t->channels, STRIP), grain, strips, t);
    }
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t count = t->outer * t->channels;
    if (t->grad_weight && !(t->row_sum = fdl_scratch(count * (int64_t)sizeof(double))))
        return FDL_OUT_OF_MEMORY;
    const int status = fdl_parallel(count, ceil_div(MEMORY_GRAIN, max64(1, t->inner)), rows, t);
    for (int64_t c = 0; t->grad_weight && c < t->channels; c++) {
        double total = 0;
        for (int64_t i = 0; i < t->outer; i++)
            total += t->row_sum[i * t->channels + c];
        t->grad_weight[c] = (real)total;
    }
    fdl_scratch_release(mark);
    return status;
}

int fdl_prelu(const real *x, const real *weight, real *y, int64_t outer, int64_t channels, int64_t inner,
              int64_t weights)
{
    prelu t = {.x = x, .weight = weight, .out = y};
    t.outer = outer, t.channels = channels, t.inner = inner, t.weights = weights;
    return prelu_parallel(&t);
}

int fdl_prelu_backward(const real *grad_output, const real *x, const real *weight, real *grad_input, real *grad_weight,
                       int64_t outer, int64_t channels, int64_t inner, int64_t weights)
{
    prelu t = {.x = x, .weight = weight, .grad_output = grad_output, .out = grad_input, .grad_weight = grad_weight};
    t.outer = outer, t.channels = channels, t.inner = inner, t.weights = weights;
    return prelu_parallel(&t);
}
