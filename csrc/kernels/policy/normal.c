/* Normal distributions of independent coordinates: means u, logarithms of standard deviations v, actions a, [rows,
 * columns] each; v may be [columns], the same in all rows.
 *
 *   z = (a - u) e^-v
 *   l = -sum(z^2 / 2 + v + log(2 pi) / 2)      dl / du = z e^-v        dl / dv = z^2 - 1
 *   H = sum(v + 1 / 2 + log(2 pi) / 2)                                 dH / dv = 1
 *
 * The gradient of v that all rows share is summed in double, a lane of each strip apart, then over lanes and pieces in
 * their order. */
#include "kernels/policy/policy.h"

#define HALF_LOG_2_PI 0.91893853320467274178

typedef struct {
    const real *mean, *log_std, *action, *grad_log_prob;
    real *log_prob, *grad_mean, *grad_log_std;
    objective objective;
    double *partial,
        *shared; /* shared [pieces, columns, LANES]: the gradient of v, or NULL where each row has its own */
    int64_t rows, columns, stride; /* of v, from row to row */
} normal;

/* FEW columns of a strip, side by side. */
typedef struct {
    real z[FEW * LANES], inverse[FEW * LANES], other[FEW * LANES];
} sheets;

/* z, e^-v and v (`other`) of `count` columns from `first` on. */
static __attribute__((noinline)) void standardize(const normal *c, int64_t row, int64_t rows, int64_t first,
                                                  int64_t count, sheets *s)
{
    const int64_t at = row * c->columns + first;
    side_by_side(c->action + at, c->columns, rows, count, s->z);
    side_by_side(c->mean + at, c->columns, rows, count, s->inverse);
    side_by_side(c->log_std + row * c->stride + first, c->stride, rows, count, s->other);
    for (int64_t k = 0; k < count * LANES; k += LANES) {
        const vreal inverse = vexp(-vload(s->other + k));
        vstore(s->z + k, (vload(s->z + k) - vload(s->inverse + k)) * inverse);
        vstore(s->inverse + k, inverse);
    }
}

FDL_INLINE void gradient_strip(const normal *c, int64_t row, int64_t rows, vreal g_log_prob, vreal g_entropy,
                               double *shared, sheets *s)
{
    for (int64_t first = 0; first < c->columns; first += FEW) {
        const int64_t count = min64(FEW, c->columns - first), at = row * c->columns + first;
        if (c->columns > FEW)
            standardize(c, row, rows, first, count, s);
        for (int64_t k = 0; k < count * LANES; k += LANES) {
            const vreal z = vload(s->z + k), of_log_std = g_log_prob * (z * z - 1) + g_entropy;
            vstore(s->z + k, g_log_prob * z * vload(s->inverse + k));
            vstore(s->other + k, of_log_std);
            if (shared)
                fold(shared + first * LANES + k, vfirst_or(of_log_std, rows, (vreal){0}));
        }
        back_in_rows(s->z, c->columns, rows, count, c->grad_mean + at);
        if (!shared)
            back_in_rows(s->other, c->columns, rows, count, c->grad_log_std + at);
    }
}

/* A strip of `rows` <= LANES rows: what is wanted of it; what it adds to the loss is returned. */
FDL_INLINE double strip(const normal *c, int64_t row, int64_t rows, double *shared)
{
    sheets s;
    double squares[LANES] = {0}, logs[LANES] = {0}, loss = 0;
    for (int64_t first = 0; first < c->columns; first += FEW) {
        const int64_t count = min64(FEW, c->columns - first);
        standardize(c, row, rows, first, count, &s);
        vreal square = {0}, log_std = {0};
        for (int64_t k = 0; k < count * LANES; k += LANES) {
            square += vload(s.z + k) * vload(s.z + k);
            log_std += vload(s.other + k);
        }
        fold(squares, square);
        fold(logs, log_std);
    }
    const double constant = (double)c->columns * HALF_LOG_2_PI;
    vreal log_prob, entropy;
    FDL_UNROLL
    for (int l = 0; l < LANES; l++) {
        log_prob[l] = (real)(-0.5 * squares[l] - logs[l] - constant);
        entropy[l] = (real)(logs[l] + 0.5 * (double)c->columns + constant);
    }
    store_if(c->log_prob, row, log_prob, rows);
    if (c->objective.advantage) {
        loss = objective_strip(&c->objective, row, rows, &log_prob, &entropy);
    } else {
        log_prob = load_or_0(c->grad_log_prob, row, rows);
        entropy = (vreal){0};
    }
    if (c->grad_mean)
        gradient_strip(c, row, rows, log_prob, entropy, shared, &s);
    return loss;
}

static int pieces_task(void *context, int64_t begin, int64_t end)
{
    const normal c = *(const normal *)context; /* a copy, which no store can change */
    const int64_t block = piece_rows(c.columns);
    for (int64_t piece = begin; piece < end; piece++) {
        const int64_t last = min64((piece + 1) * block, c.rows), size = c.columns * LANES;
        double sum = 0, *shared = c.shared ? c.shared + piece * size : NULL;
        if (shared)
            memset(shared, 0, (size_t)size * sizeof(double));
        for (int64_t row = piece * block; row < last; row += LANES)
            sum += strip(&c, row, min64(LANES, last - row), shared);
        c.partial[piece] = sum;
    }
    return FDL_OK;
}

static int run(normal *c, int64_t rows, int64_t columns, int64_t own, real *loss)
{
    c->rows = rows, c->columns = columns, c->stride = own ? columns : 0;
    const int64_t pieces = ceil_div(rows, piece_rows(columns));
    const bool sums = c->grad_log_std && !own;
    const fdl_mark mark = fdl_scratch_mark();
    if (sums)
        c->shared = fdl_scratch(max64(1, pieces * columns) * LANES * (int64_t)sizeof(double));
    int status = sums && !c->shared ? FDL_OUT_OF_MEMORY : run_pieces(rows, columns, pieces_task, c, &c->partial, loss);
    for (int64_t k = 0; sums && status == FDL_OK && k < columns; k++) {
        double sum = 0;
        for (int64_t piece = 0; piece < pieces; piece++)
            for (int64_t l = 0; l < LANES; l++)
                sum += c->shared[(piece * columns + k) * LANES + l];
        c->grad_log_std[k] = (real)sum;
    }
    fdl_scratch_release(mark);
    return status;
}

int fdl_normal_log_prob(const real *mean, const real *log_std, const real *action, real *log_prob, int64_t rows,
                        int64_t columns, int64_t own)
{
    normal c = {.mean = mean, .log_std = log_std, .action = action, .log_prob = log_prob};
    return run(&c, rows, columns, own, NULL);
}

int fdl_normal_log_prob_backward(const real *grad_output, const real *mean, const real *log_std, const real *action,
                                 real *grad_mean, real *grad_log_std, int64_t rows, int64_t columns, int64_t own)
{
    normal c = {.mean = mean, .log_std = log_std, .action = action, .grad_log_prob = grad_output};
    c.grad_mean = grad_mean, c.grad_log_std = grad_log_std;
    return run(&c, rows, columns, own, NULL);
}

int fdl_normal_policy_loss(const real *grad_output, const real *mean, const real *log_std, const real *action,
                           const real *advantage, const real *old_log_prob, real *loss, real *grad_mean,
                           real *grad_log_std, int64_t rows, int64_t columns, int64_t own, double clip,
                           double entropy_weight)
{
    normal c = {.mean = mean, .log_std = log_std, .action = action, .grad_mean = grad_mean};
    c.grad_log_std = grad_log_std;
    c.objective = objective_of(advantage, old_log_prob, grad_output, rows, clip, entropy_weight);
    return run(&c, rows, columns, own, loss);
}
