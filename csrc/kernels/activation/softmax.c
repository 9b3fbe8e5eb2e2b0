/* Activations along a dimension (elementwise.c has those that take each element by itself).
 *
 *   softmax       y = exp(x - m) / s         grad_input = y (grad_output - sum(grad_output y))
 *   log_softmax   y = x - m - log(s)         grad_input = grad_output - exp(y) sum(grad_output)
 *                 m = max(x), s = sum(exp(x - m)); maxima and sums over the middle of [outer, classes, inner].
 * A NaN or +infinity among the classes makes all of them NaN, and so do classes that are all -infinity.
 * With inner = 1 vectors run along the classes (rows); else along inner, a strip of it at a time. Sums are `real`
 * over at most FOLD terms a lane, then double; log is taken in double.
 */
#include "vector/softmax.h"

/* Exponentials cost more than memory: a smaller piece is worth a thread. */
enum { SOFTMAX_GRAIN = 1 << 13 };

typedef struct {
    const real *x, *grad_output, *y; /* x forward, the other two backward */
    real *out;
    int64_t classes, inner;
} softmax_task;

/* ---- inner = 1: x, y [classes] ---- */

FDL_INLINE void softmax_row(const real *x, real *y, int64_t classes, const bool log_of)
{
    const real maximum = row_maximum(x, classes);
    const double total = row_exp_sum(x, maximum, y, classes, !log_of);
    const real scale = (real)(1 / total), shift = log_of ? (real)log(total) : 0;
    int64_t i = 0;
    for (; i + LANES <= classes; i += LANES) /* main loop */
        vstore(y + i, log_of ? vload(x + i) - maximum - shift : vload(y + i) * scale);
    if (i < classes) { /* tail */
        const int64_t left = classes - i;
        vstore_first(y + i, log_of ? vload_first(x + i, left) - maximum - shift : vload_first(y + i, left) * scale,
                     left);
    }
}

/* The sum of grad_output, or of grad_output y. */
FDL_INLINE double backward_sum(const real *grad_output, const real *y, int64_t classes, const bool log_of)
{
    double total = 0;
    for (int64_t i = 0; i < classes;) {
        const int64_t stop = min64(classes, i + FOLD * CHAINS * LANES);
        vreal sum[CHAINS] = {{0}};
        for (; i + CHAINS * LANES <= stop; i += CHAINS * LANES) { /* main loop */
            FDL_UNROLL
            for (int c = 0; c < CHAINS; c++) {
                const vreal grad = vload(grad_output + i + c * LANES);
                sum[c] += log_of ? grad : grad * vload(y + i + c * LANES);
            }
        }
        for (; i < stop; i += LANES) { /* tail: absent elements are 0 */
            const vreal grad = vload_up_to(grad_output + i, stop - i);
            sum[0] += log_of ? grad : grad * vload_up_to(y + i, stop - i);
        }
        total += sum_chains(sum);
    }
    return total;
}

FDL_INLINE vreal backward_of(vreal grad, vreal y, real sum, const bool log_of)
{
    return log_of ? grad - vexp(y) * sum : y * (grad - sum);
}

FDL_INLINE void softmax_backward_row(const real *grad_output, const real *y, real *grad_input, int64_t classes,
                                     const bool log_of)
{
    const real sum = (real)backward_sum(grad_output, y, classes, log_of);
    int64_t i = 0;
    for (; i + CHAINS * LANES <= classes; i += CHAINS * LANES) { /* main loop */
        vreal grad[CHAINS];
        FDL_UNROLL
        for (int c = 0; c < CHAINS; c++)
            grad[c] = backward_of(vload(grad_output + i + c * LANES), vload(y + i + c * LANES), sum, log_of);
        FDL_UNROLL
        for (int c = 0; c < CHAINS; c++)
            vstore(grad_input + i + c * LANES, grad[c]);
    }
    for (; i < classes; i += LANES) { /* tail */
        const int64_t left = classes - i;
        vstore_up_to(grad_input + i,
                     backward_of(vload_up_to(grad_output + i, left), vload_up_to(y + i, left), sum, log_of), left);
    }
}

/* ---- inner > 1: width <= STRIP columns of [classes, inner]; every sum and maximum is [width] ---- */

FDL_INLINE void softmax_strip(const real *x, real *y, int64_t classes, int64_t inner, int64_t width, const bool log_of)
{
    real maximum[STRIP], sum[STRIP] = {0}, factor[STRIP] = {0};
    double total[STRIP] = {0};
    strip_maximum(x, maximum, classes, inner, width);
    for (int64_t k = 0; k < classes; k++) {
        for (int64_t j = 0; j < width; j += LANES) {
            const vreal e = vexp(vload_up_to(x + k * inner + j, width - j) - vload(maximum + j));
            vstore(sum + j, vload(sum + j) + e);
            if (!log_of)
                vstore_up_to(y + k * inner + j, e, width - j);
        }
        if ((k + 1) % FOLD == 0)
            strip_fold(sum, total, width);
    }
    strip_fold(sum, total, width);
    if (log_of)
        strip_log(total, factor, width);
    for (int j = 0; j < width && !log_of; j++)
        factor[j] = (real)(1 / total[j]);
    for (int64_t k = 0; k < classes; k++) {
        for (int64_t j = 0; j < width; j += LANES) {
            const vreal v = vload_up_to((log_of ? x : y) + k * inner + j, width - j), f = vload(factor + j);
            vstore_up_to(y + k * inner + j, log_of ? v - vload(maximum + j) - f : v * f, width - j);
        }
    }
}

FDL_INLINE void softmax_backward_strip(const real *grad_output, const real *y, real *grad_input, int64_t classes,
                                       int64_t inner, int64_t width, const bool log_of)
{
    real sum[STRIP] = {0};
    double total[STRIP] = {0};
    for (int64_t k = 0; k < classes; k++) {
        for (int64_t j = 0; j < width; j += LANES) {
            const vreal grad = vload_up_to(grad_output + k * inner + j, width - j);
            const vreal term = log_of ? grad : grad * vload_up_to(y + k * inner + j, width - j);
            vstore(sum + j, vload(sum + j) + term);
        }
        if ((k + 1) % FOLD == 0)
            strip_fold(sum, total, width);
    }
    strip_fold(sum, total, width);
    for (int j = 0; j < STRIP; j++)
        sum[j] = (real)total[j];
    for (int64_t k = 0; k < classes; k++) {
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t i = k * inner + j;
            const vreal grad = vload_up_to(grad_output + i, width - j), result = vload_up_to(y + i, width - j);
            const vreal s = vload(sum + j);
            vstore_up_to(grad_input + i, log_of ? grad - vexp(result) * s : result * (grad - s), width - j);
        }
    }
}

/* ---- items [begin, end): rows, or strips, of which each outer index has ceil(inner / STRIP) ---- */

FDL_INLINE int softmax_items(const softmax_task *t, int64_t begin, int64_t end, const bool log_of, const bool backward)
{
    const int64_t strips = ceil_div(t->inner, STRIP);
    for (int64_t item = begin; item < end; item++) {
        const int64_t column = item % strips * STRIP, at = item / strips * t->classes * t->inner + column;
        const int64_t width = min64(STRIP, t->inner - column);
        if (t->inner == 1 && !backward)
            softmax_row(t->x + at, t->out + at, t->classes, log_of);
        else if (t->inner == 1)
            softmax_backward_row(t->grad_output + at, t->y + at, t->out + at, t->classes, log_of);
        else if (!backward)
            softmax_strip(t->x + at, t->out + at, t->classes, t->inner, width, log_of);
        else
            softmax_backward_strip(t->grad_output + at, t->y + at, t->out + at, t->classes, t->inner, width, log_of);
    }
    return FDL_OK;
}

static int softmax_range(void *task, int64_t begin, int64_t end)
{
    return softmax_items(task, begin, end, false, false);
}

static int softmax_backward_range(void *task, int64_t begin, int64_t end)
{
    return softmax_items(task, begin, end, false, true);
}

static int log_softmax_range(void *task, int64_t begin, int64_t end)
{
    return softmax_items(task, begin, end, true, false);
}

static int log_softmax_backward_range(void *task, int64_t begin, int64_t end)
{
    return softmax_items(task, begin, end, true, true);
}

static int softmax_parallel(softmax_task *t, int64_t outer, fdl_task *range)
{
    const int64_t item = max64(1, t->classes * min64(t->inner, STRIP));
    return fdl_parallel(outer * ceil_div(t->inner, STRIP), ceil_div(SOFTMAX_GRAIN, item), range, t);
}

int fdl_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner)
{
    softmax_task t = {.x = x, .out = y, .classes = classes, .inner = inner};
    return softmax_parallel(&t, outer, softmax_range);
}

int fdl_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer, int64_t classes,
                         int64_t inner)
{
    softmax_task t = {.grad_output = grad_output, .y = y, .out = grad_input, .classes = classes, .inner = inner};
    return softmax_parallel(&t, outer, softmax_backward_range);
}

int fdl_log_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner)
{
    softmax_task t = {.x = x, .out = y, .classes = classes, .inner = inner};
    return softmax_parallel(&t, outer, log_softmax_range);
}

int fdl_log_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer, int64_t classes,
                             int64_t inner)
{
    softmax_task t = {.grad_output = grad_output, .y = y, .out = grad_input, .classes = classes, .inner = inner};
    return softmax_parallel(&t, outer, log_softmax_backward_range);
}
