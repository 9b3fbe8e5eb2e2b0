/* Losses.
 *
 *   cross_entropy   x [rows, classes], target [rows]; per row, with m = max(x) and s = sum(exp(x - m)),
 *                   loss = log(s) + m - x[target]
 *                   grad_input = grad_output (exp(x - m) / s - onehot(target)), by rows for the mean
 *
 * s is `real` over at most FOLD terms a lane, then double; a row's loss, and the sum over the rows, which runs in
 * their order whatever the number of threads, are in double. */
#include "softmax.h"

/* Below this many elements a second thread costs more than it saves. */
enum { GRAIN = 1 << 13 };

typedef struct {
    const real *x, *grad_output;
    const int64_t *target;
    double *row_loss; /* [rows] */
    real *grad_input;
    int64_t rows, classes, reduction;
} cross_entropy;

static bool targets_are_classes(const int64_t *target, int64_t rows, int64_t classes)
{
    for (int64_t i = 0; i < rows; i++)
        if (target[i] < 0 || target[i] >= classes)
            return false;
    return true;
}

static int loss_rows(void *context, int64_t begin, int64_t end)
{
    const cross_entropy *c = context;
    for (int64_t i = begin; i < end; i++) {
        const real *x = c->x + i * c->classes;
        const real maximum = row_maximum(x, c->classes);
        const double total = row_exp_sum(x, maximum, NULL, c->classes, false);
        c->row_loss[i] = log(total) + ((double)maximum - (double)x[c->target[i]]);
    }
    return FDL_OK;
}

int fdl_cross_entropy(const real *x, const int64_t *target, real *loss, int64_t rows, int64_t classes,
                      int64_t reduction)
{
    if (!targets_are_classes(target, rows, classes))
        return FDL_BAD_TARGET;
    const fdl_mark mark = fdl_scratch_mark();
    cross_entropy c = {.x = x, .target = target, .rows = rows, .classes = classes};
    c.row_loss = fdl_scratch(rows * (int64_t)sizeof(double));
    int status = FDL_OUT_OF_MEMORY;
    if (c.row_loss)
        status = fdl_parallel(rows, ceil_div(GRAIN, max64(1, classes)), loss_rows, &c);
    if (status == FDL_OK && reduction == FDL_REDUCTION_NONE) {
        for (int64_t i = 0; i < rows; i++)
            loss[i] = (real)c.row_loss[i];
    } else if (status == FDL_OK) {
        double sum = 0;
        for (int64_t i = 0; i < rows; i++)
            sum += c.row_loss[i];
        *loss = (real)(reduction == FDL_REDUCTION_MEAN ? sum / (double)rows : sum); /* of no rows: NaN, 0 */
    }
    fdl_scratch_release(mark);
    return status;
}

static int gradient_rows(void *context, int64_t begin, int64_t end)
{
    const cross_entropy *c = context;
    for (int64_t i = begin; i < end; i++) {
        const real *x = c->x + i * c->classes;
        real *grad_input = c->grad_input + i * c->classes;
        const double grad = (double)c->grad_output[c->reduction == FDL_REDUCTION_NONE ? i : 0] /
                            (c->reduction == FDL_REDUCTION_MEAN ? (double)c->rows : 1.0);
        const double total = row_exp_sum(x, row_maximum(x, c->classes), grad_input, c->classes, true);
        /* p - 1 in double: it nearly cancels where the prediction is right */
        const double at_target = grad * ((double)grad_input[c->target[i]] / total - 1);
        const real scale = (real)(grad / total);
        for (int64_t j = 0; j < c->classes; j += LANES) { /* main loop and tail */
            const int64_t left = c->classes - j;
            vstore_up_to(grad_input + j, vload_up_to(grad_input + j, left) * scale, left);
        }
        grad_input[c->target[i]] = (real)at_target;
    }
    return FDL_OK;
}

int fdl_cross_entropy_backward(const real *grad_output, const real *x, const int64_t *target, real *grad_input,
                               int64_t rows, int64_t classes, int64_t reduction)
{
    if (!targets_are_classes(target, rows, classes))
        return FDL_BAD_TARGET;
    cross_entropy c = {
        .x = x,
        .grad_output = grad_output,
        .target = target,
        .grad_input = grad_input,
        .rows = rows,
        .classes = classes,
        .reduction = reduction,
    };
    return fdl_parallel(rows, ceil_div(GRAIN, max64(1, classes)), gradient_rows, &c);
}
