/* Losses. g below is the gradient of what is returned, divided for the mean.
 *
 * Element by element, with d = x - target = x - t, and c = d held to [-a, a]:
 *                                  loss                                     d loss / dx
 *   mse                            d^2                                      2 d
 *   l1                             |d|                                      sign(d), 0 at 0 and at NaN
 *   huber, a = delta               c (d - c / 2)                            c
 *   smooth_l1, a = beta            c / a (d - c / 2)                        c / a
 *   binary_cross_entropy           (t - 1) log(1 - x) - t log(x)            d / (x (1 - x))
 *     of logits, positives times p (1 - t) softplus(x) + p t softplus(-x)   (1 - t) sigmoid(x) - p t sigmoid(-x)
 *   kl_div                         t log(t) - t x                           -t
 *     of logarithms t              e^t (t - x)                              -e^t
 *   hinge_embedding, a = margin    x unless t = -1, plus                    1 unless t = -1, minus
 *                                  max(0, a - x) unless t = 1               1 unless t = 1, where x <= a
 * In binary_cross_entropy logarithms are at least -100 and x (1 - x) at least 1e-12, as torch has it.
 * softplus(x) = max(x, 0) + log1p(e^-|x|): no difference of large numbers.
 *
 * Of classes, the middle of x [outer, classes, inner], for each row (a position in outer and inner):
 *   nll             -w_t x_t
 *   cross_entropy   sum over j of c_j (log(s) + m - x_j)       g (C e^(x_j - m) / s - c_j)
 *                   m = max(x), s = sum(exp(x - m)), C = sum(c)
 * where c is what the target says of the classes j, times their weights w: 1 at the class that it names, or
 * probabilities; label smoothing mixes it with 1 / classes. The mean is over rows, of named classes by their weight.
 *
 *   cosine_embedding  1 - cos where t = 1, max(0, cos - margin) where t = -1, else 0, of each row's x1, x2;
 *                     d cos / d x1 = x2 / (|x1| |x2|) - cos x1 / |x1|^2, squares of lengths plus 1e-12
 *
 * Sums are `real` over at most FOLD terms a lane, then double. Their pieces depend on the shape alone, and are added in
 * order, so that results are the same for any number of threads. */
#include "vector/elementwise.h"
#include "vector/interleave.h"
#include "vector/softmax.h"

/* Elements, or rows, summed at a time. */
enum { PIECE = 1 << 12 };

/* What torch keeps denominators away from 0 with, in float for double as well. */
#define TINY 1e-12f

/* ---- sums ---- */

/* A long sum, of vectors. */
typedef struct {
    vreal sum;
    double total;
    int terms;
} long_sum;

FDL_INLINE void sum_add(long_sum *s, vreal v)
{
    s->sum += v;
    if (++s->terms == FOLD) {
        s->total += vsum_double(s->sum);
        s->sum = (vreal){0};
        s->terms = 0;
    }
}

FDL_INLINE double sum_end(const long_sum *s) { return s->total + vsum_double(s->sum); }

/* Run `task` over the pieces of a loss, with room in *partial for the sum of each, and reduce those to *loss. Without
 * reduction the task writes the losses itself. */
static int summed(int64_t pieces, int64_t grain, fdl_task *task, void *context, double **partial, real *loss,
                  int64_t reduction, double divisor)
{
    const fdl_mark mark = fdl_scratch_mark();
    *partial = fdl_scratch(max64(1, pieces) * (int64_t)sizeof(double));
    const int status = *partial ? fdl_parallel(pieces, grain, task, context) : FDL_OUT_OF_MEMORY;
    if (status == FDL_OK && reduction != FDL_REDUCTION_NONE) {
        double sum = 0;
        for (int64_t i = 0; i < pieces; i++)
            sum += (*partial)[i];
        *loss = (real)(sum / divisor); /* of nothing: NaN for the mean */
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- element by element ---- */

typedef struct {
    const real *x, *target, *weight, *pos_weight, *grad_output;
    real *out;
    double *partial;
    int64_t size, kind, reduction;
    real parameter, scale; /* a above; g where it is the same for all */
    bool streams;
} elementwise;

FDL_INLINE vreal held_to(vreal d, real a) { return vmax(vset1(-a), vmin(vset1(a), d)); } /* NaN passes */

FDL_INLINE vreal loss_of(vreal x, vreal t, vreal p, real a, const int kind)
{
    const vreal zero = {0}, d = x - t;
    switch (kind) {
    case FDL_LOSS_MSE:
        return d * d;
    case FDL_LOSS_L1:
        return vabs(d);
    case FDL_LOSS_HUBER:
        return held_to(d, a) * (d - (real)0.5 * held_to(d, a));
    case FDL_LOSS_SMOOTH_L1:
        return held_to(d, a) / a * (d - (real)0.5 * held_to(d, a));
    case FDL_LOSS_BINARY_CROSS_ENTROPY:
        return (t - 1) * vmax(vlog1p(-x), vset1(-100)) - t * vmax(vlog(x), vset1(-100));
    case FDL_LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS: {
        const vreal rest = vlog1p(vexp(-vabs(x)));
        return (1 - t) * (vmax(zero, x) + rest) + p * t * (vmax(zero, -x) + rest);
    }
    case FDL_LOSS_KL_DIV:
        return vselect(t == zero, zero, t * vlog(t)) - t * x;
    case FDL_LOSS_KL_DIV_LOG_TARGET:
        return vexp(t) * -d;
    default: /* hinge_embedding */
        return vselect(t != -1, x, zero) + vselect(t != 1, vmax(zero, a - x), zero);
    }
}

FDL_INLINE vreal slope_of(vreal x, vreal t, vreal p, real a, const int kind)
{
    const vreal zero = {0}, one = vset1(1), d = x - t;
    switch (kind) {
    case FDL_LOSS_MSE:
        return d + d;
    case FDL_LOSS_L1:
        return vselect(d > zero, one, vselect(d < zero, -one, zero));
    case FDL_LOSS_HUBER:
        return held_to(d, a);
    case FDL_LOSS_SMOOTH_L1:
        return held_to(d, a) / a;
    case FDL_LOSS_BINARY_CROSS_ENTROPY:
        return d / vmax((1 - x) * x, vset1((real)TINY));
    case FDL_LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS:
        return (1 - t) * vsigmoid(x) - p * t * vsigmoid(-x);
    case FDL_LOSS_KL_DIV:
        return -t;
    case FDL_LOSS_KL_DIV_LOG_TARGET:
        return -vexp(t);
    default: /* hinge_embedding */
        return vselect(t != -1, one, zero) - vselect((t != 1) & (a - x >= zero), one, zero);
    }
}

/* Elements [begin, end): their losses, summed, or written where they are not reduced; or the gradient. */
enum { SUM, LOSSES, GRADIENT };
FDL_INLINE double range_of(const elementwise *t, int64_t begin, int64_t end, const int what, const int kind)
{
    const bool weighted = kind == FDL_LOSS_BINARY_CROSS_ENTROPY || kind == FDL_LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS;
    long_sum sum = {0};
    for (pass p = pass_over(begin, end, t->out, t->streams); p.lanes > 0; pass_next(&p)) {
        const vreal x = pass_load(&p, t->x), target = pass_load(&p, t->target);
        const vreal positive = weighted && t->pos_weight ? pass_load(&p, t->pos_weight) : vset1(1);
        vreal v = (what == GRADIENT ? slope_of : loss_of)(x, target, positive, t->parameter, kind);
        if (weighted && t->weight)
            v *= pass_load(&p, t->weight);
        if (what == SUM)
            sum_add(&sum, p.lanes == LANES ? v : vfirst_or(v, p.lanes, (vreal){0}));
        else if (what == LOSSES)
            pass_store(&p, t->out, v);
        else
            pass_store(&p, t->out, v * (t->grad_output ? pass_load(&p, t->grad_output) : vset1(t->scale)));
    }
    return sum_end(&sum);
}

FDL_INLINE double range(const elementwise *t, int64_t begin, int64_t end, const int what)
{
    switch (t->kind) {
#define CASE(kind)                                                                                                     \
    case kind:                                                                                                         \
        return range_of(t, begin, end, what, kind)
        CASE(FDL_LOSS_MSE);
        CASE(FDL_LOSS_L1);
        CASE(FDL_LOSS_HUBER);
        CASE(FDL_LOSS_SMOOTH_L1);
        CASE(FDL_LOSS_BINARY_CROSS_ENTROPY);
        CASE(FDL_LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS);
        CASE(FDL_LOSS_KL_DIV);
        CASE(FDL_LOSS_KL_DIV_LOG_TARGET);
        CASE(FDL_LOSS_HINGE_EMBEDDING);
#undef CASE
    }
    return 0;
}

static int sum_pieces(void *context, int64_t begin, int64_t end)
{
    const elementwise t = *(const elementwise *)context; /* a copy, which no store can change */
    for (int64_t piece = begin; piece < end; piece++)
        t.partial[piece] = range(&t, piece * PIECE, min64((piece + 1) * PIECE, t.size), SUM);
    return FDL_OK;
}

static int losses_range(void *context, int64_t begin, int64_t end)
{
    const elementwise t = *(const elementwise *)context;
    range(&t, begin, end, LOSSES);
    return FDL_OK;
}

static int gradient_range(void *context, int64_t begin, int64_t end)
{
    const elementwise t = *(const elementwise *)context;
    range(&t, begin, end, GRADIENT);
    return FDL_OK;
}

/* Whether x and target are probabilities; NaN is none. */
static int probabilities_range(void *context, int64_t begin, int64_t end)
{
    const elementwise *t = context;
    vint bad_x = {0}, bad_target = {0};
    for (pass p = pass_over(begin, end, NULL, false); p.lanes > 0; pass_next(&p)) {
        const vreal x = pass_load(&p, t->x), target = pass_load(&p, t->target), zero = {0};
        bad_x |= ~((x >= zero) & (x <= 1));
        bad_target |= ~((target >= zero) & (target <= 1));
    }
    return vany(bad_x) ? FDL_BAD_PROBABILITY : vany(bad_target) ? FDL_BAD_TARGET_PROBABILITY : FDL_OK;
}

static int check_probabilities(elementwise *t)
{
    if (t->kind != FDL_LOSS_BINARY_CROSS_ENTROPY)
        return FDL_OK;
    return fdl_parallel(t->size, MEMORY_GRAIN, probabilities_range, t);
}

/* What the sum over so many elements, or rows, is divided by. */
static double divisor_of(int64_t reduction, int64_t size, int64_t batch)
{
    return reduction == FDL_REDUCTION_MEAN ? (double)size : reduction == FDL_REDUCTION_BATCHMEAN ? (double)batch : 1.0;
}

int fdl_elementwise_loss(const real *x, const real *target, const real *weight, const real *pos_weight, real *loss,
                         int64_t size, int64_t batch, int64_t kind, double parameter, int64_t reduction)
{
    elementwise t = {.x = x, .target = target, .weight = weight, .pos_weight = pos_weight, .size = size};
    t.kind = kind;
    t.parameter = (real)parameter;
    const int status = check_probabilities(&t);
    if (status != FDL_OK)
        return status;
    if (reduction == FDL_REDUCTION_NONE) {
        t.out = loss;
        t.streams = pass_streams(size);
        return fdl_parallel(size, COMPUTE_GRAIN, losses_range, &t);
    }
    return summed(ceil_div(size, PIECE), COMPUTE_GRAIN / PIECE, sum_pieces, &t, &t.partial, loss, reduction,
                  divisor_of(reduction, size, batch));
}

int fdl_elementwise_loss_backward(const real *grad_output, const real *x, const real *target, const real *weight,
                                  const real *pos_weight, real *grad_input, int64_t size, int64_t batch, int64_t kind,
                                  double parameter, int64_t reduction)
{
    elementwise t = {.x = x, .target = target, .weight = weight, .pos_weight = pos_weight, .size = size};
    t.kind = kind;
    t.parameter = (real)parameter;
    t.out = grad_input;
    t.streams = pass_streams(size);
    if (size > 0 && reduction == FDL_REDUCTION_NONE)
        t.grad_output = grad_output;
    else if (size > 0)
        t.scale = (real)((double)*grad_output / divisor_of(reduction, size, batch));
    const int status = check_probabilities(&t);
    return status == FDL_OK ? fdl_parallel(size, COMPUTE_GRAIN, gradient_range, &t) : status;
}

/* ---- of classes ---- */

typedef struct {
    const real *x, *probabilities, *weight, *grad_output; /* grad_output: NULL for ones */
    const int64_t *target;                                /* or NULL, and probabilities [outer, classes, inner] */
    real *loss, *grad_input;                              /* loss is written here where it is not reduced */
    double *partial;
    int64_t outer, classes, inner, ignore_index, reduction;
    double smoothing, divisor, inverse; /* 1 / divisor */
    double kept;                        /* of a named class's weight, with smoothing: what c is there */
    int64_t block;                      /* rows in a piece, where inner is 1 */
} classes_of;

/* A target is read once and checked where it is about to be used: another Python thread may have written the array since
 * all of them were checked. */
FDL_INLINE int64_t target_of(const classes_of *c, int64_t row)
{
    return __atomic_load_n(c->target + row, __ATOMIC_RELAXED);
}
FDL_INLINE bool outside(const classes_of *c, int64_t target) { return (uint64_t)target >= (uint64_t)c->classes; }

/* The class that a row's target names. */
enum { IGNORED = -1, BAD = -2 };
FDL_INLINE int64_t class_of(const classes_of *c, int64_t row)
{
    const int64_t target = target_of(c, row);
    return target == c->ignore_index ? IGNORED : outside(c, target) ? BAD : target;
}

/* Of a class: 0 where there is none. */
FDL_INLINE double class_weight(const classes_of *c, int64_t named)
{
    return named < 0 ? 0 : c->weight ? (double)c->weight[named] : 1;
}

/* g of a row that is not ignored. */
FDL_INLINE double row_grad(const classes_of *c, int64_t row)
{
    const int64_t i = c->reduction == FDL_REDUCTION_NONE ? row : 0;
    return c->grad_output ? (double)c->grad_output[i] * c->inverse : c->inverse;
}

static int weigh_pieces(void *context, int64_t begin, int64_t end)
{
    const classes_of c = *(const classes_of *)context; /* a copy, which no store can change */
    for (int64_t piece = begin; piece < end; piece++) {
        const int64_t first = piece * PIECE, last = min64(first + PIECE, c.outer * c.inner);
        int64_t counted = 0, wrong = 0;
        for (int64_t row = first; row < last; row++) { /* without branches */
            const int64_t counts = c.target[row] != c.ignore_index;
            counted += counts;
            wrong |= counts & ((uint64_t)c.target[row] >= (uint64_t)c.classes);
        }
        if (wrong)
            return FDL_BAD_TARGET;
        double sum = 0;
        for (int64_t row = first; c.weight && row < last; row++)
            sum += class_weight(&c, class_of(&c, row));
        c.partial[piece] = c.weight ? sum : (double)counted;
    }
    return FDL_OK;
}

/* Check the targets and find the divisor. */
static int weigh_targets(classes_of *c)
{
    const int64_t rows = c->outer * c->inner, pieces = c->target ? ceil_div(rows, PIECE) : 0;
    const fdl_mark mark = fdl_scratch_mark();
    c->partial = fdl_scratch(max64(1, pieces) * (int64_t)sizeof(double));
    const int status = c->partial ? fdl_parallel(pieces, MEMORY_GRAIN / PIECE, weigh_pieces, c) : FDL_OUT_OF_MEMORY;
    c->divisor = divisor_of(c->reduction, c->target ? 0 : rows, 0);
    for (int64_t i = 0; status == FDL_OK && c->reduction == FDL_REDUCTION_MEAN && i < pieces; i++)
        c->divisor += c->partial[i];
    c->inverse = 1 / c->divisor;
    fdl_scratch_release(mark);
    return status;
}

/* Where x of a row begins. */
FDL_INLINE int64_t row_start(const classes_of *c, int64_t row)
{
    return row / c->inner * c->classes * c->inner + row % c->inner;
}

/* -- nll -- */

/* Rows one after another, without a division for each: where x of this one begins, and how many follow beside it. */
typedef struct {
    int64_t start, beside;
} cursor;

FDL_INLINE cursor cursor_at(const classes_of *c, int64_t row)
{
    return (cursor){row_start(c, row), c->inner - 1 - row % c->inner};
}

FDL_INLINE cursor cursor_next(const classes_of *c, cursor at)
{
    if (at.beside > 0)
        return (cursor){at.start + 1, at.beside - 1};
    return (cursor){at.start + 1 + (c->classes - 1) * c->inner, c->inner - 1};
}

/* Rows [first, last): the sum of their losses, to *sum. */
FDL_INLINE int nll_rows(const classes_of *c, int64_t first, int64_t last, const bool weighted, const bool reduced,
                        double *sum)
{
    double total = 0;
    cursor at = cursor_at(c, first);
    for (int64_t row = first; row < last; row++, at = cursor_next(c, at)) {
        const int64_t target = target_of(c, row);
        double loss = 0;
        if (target != c->ignore_index) {
            if (outside(c, target))
                return FDL_BAD_TARGET;
            loss = -(double)c->x[at.start + target * c->inner] * (weighted ? (double)c->weight[target] : 1);
        }
        if (!reduced)
            c->loss[row] = (real)loss;
        total += loss;
    }
    *sum = total;
    return FDL_OK;
}

static int nll_pieces(void *context, int64_t begin, int64_t end)
{
    const classes_of c = *(const classes_of *)context;
    const bool reduced = c.reduction != FDL_REDUCTION_NONE;
    int status = FDL_OK;
    for (int64_t piece = begin; piece < end && status == FDL_OK; piece++) {
        const int64_t first = piece * PIECE, last = min64(first + PIECE, c.outer * c.inner);
        status = c.weight ? nll_rows(&c, first, last, true, reduced, c.partial + piece)
                          : nll_rows(&c, first, last, false, reduced, c.partial + piece);
    }
    return status;
}

int fdl_nll_loss(const real *x, const int64_t *target, const real *weight, real *loss, int64_t outer, int64_t classes,
                 int64_t inner, int64_t ignore_index, int64_t reduction)
{
    classes_of c = {.x = x, .target = target, .weight = weight, .loss = loss, .reduction = reduction};
    c.outer = outer, c.classes = classes, c.inner = inner, c.ignore_index = ignore_index;
    const int status = weigh_targets(&c);
    return status != FDL_OK ? status
                            : summed(ceil_div(outer * inner, PIECE), COMPUTE_GRAIN / PIECE, nll_pieces, &c, &c.partial,
                                     loss, reduction, c.divisor);
}

static int nll_zero_range(void *context, int64_t begin, int64_t end)
{
    const classes_of *c = context;
    memset(c->grad_input + begin, 0, (size_t)(end - begin) * sizeof(real));
    return FDL_OK;
}

static int nll_gradient_range(void *context, int64_t begin, int64_t end)
{
    const classes_of c = *(const classes_of *)context;
    cursor at = cursor_at(&c, begin);
    for (int64_t row = begin; row < end; row++, at = cursor_next(&c, at)) {
        const int64_t named = class_of(&c, row);
        if (named == BAD)
            return FDL_BAD_TARGET;
        if (named >= 0)
            c.grad_input[at.start + named * c.inner] = (real)(-class_weight(&c, named) * row_grad(&c, row));
    }
    return FDL_OK;
}

int fdl_nll_loss_backward(const real *grad_output, const int64_t *target, const real *weight, real *grad_input,
                          int64_t outer, int64_t classes, int64_t inner, int64_t ignore_index, int64_t reduction)
{
    classes_of c = {.target = target, .weight = weight, .grad_output = grad_output, .grad_input = grad_input};
    c.outer = outer, c.classes = classes, c.inner = inner, c.ignore_index = ignore_index, c.reduction = reduction;
    int status = weigh_targets(&c);
    if (status == FDL_OK)
        status = fdl_parallel(outer * classes * inner, MEMORY_GRAIN, nll_zero_range, &c);
    return status == FDL_OK ? fdl_parallel(outer * inner, COMPUTE_GRAIN, nll_gradient_range, &c) : status;
}

/* -- cross_entropy: c_j is `hard` at the target's class, plus `soft` everywhere -- */

enum { INDICES, SMOOTHED_INDICES, PROBABILITIES }; /* what a target is: of the first, soft is 0 */

/* soft of classes whose weights are w, from element i on. */
FDL_INLINE vreal soft_part(const classes_of *c, int64_t i, vreal w, int64_t left, const int kind)
{
    const vreal even = vset1((real)(c->smoothing / (double)c->classes));
    if (kind != PROBABILITIES)
        return w * even;
    return w * (vload_up_to(c->probabilities + i, left) * (real)(1 - c->smoothing) + even);
}

FDL_INLINE vreal soft_of_row(const classes_of *c, int64_t start, int64_t j, const int kind)
{
    const int64_t left = c->classes - j;
    return soft_part(c, start + j, c->weight ? vload_up_to(c->weight + j, left) : vset1(1), left, kind);
}

/* One row, where inner is 1, whose class is t (IGNORED with probabilities); returns its loss. `gradient`: grad_input
 * too. */
FDL_INLINE double cross_entropy_row(const classes_of *c, int64_t row, int64_t t, const int kind, const bool gradient)
{
    const bool named = t >= 0, skipped = kind != PROBABILITIES && !named;
    if (skipped && !gradient)
        return 0;
    const int64_t classes = c->classes, start = row * classes;
    const real *x = c->x + start;
    real *grad = gradient ? c->grad_input + start : NULL;
    const real maximum = row_maximum(x, classes);
    const double total = row_exp_sum(x, maximum, grad, classes, gradient);
    long_sum soft = {0}, soft_loss = {0};
    for (int64_t j = 0; kind != INDICES && j < classes; j += LANES) { /* main loop and tail */
        const int64_t lanes = min64(LANES, classes - j);
        const vreal part = soft_of_row(c, start, j, kind), loss = part * (maximum - vload_up_to(x + j, lanes));
        sum_add(&soft, vfirst_or(part, lanes, (vreal){0}));
        sum_add(&soft_loss, vfirst_or(loss, lanes, (vreal){0}));
    }
    const double weight = class_weight(c, t), hard = (1 - c->smoothing) * weight, all = hard + sum_end(&soft);
    if (gradient) {
        /* 0 of an ignored row, even if all are and the divisor is 0 */
        const double g = skipped ? 0 : row_grad(c, row), factor = g * all / total;
        /* p - 1 in double: it nearly cancels where the prediction is right */
        const real at = named ? (real)(factor * (double)grad[t] - g * c->kept * weight) : 0;
        const vreal scale = vset1((real)factor), each = vset1((real)g);
        for (int64_t j = 0; j < classes; j += LANES) { /* main loop and tail */
            const int64_t left = classes - j;
            const vreal p = vload_up_to(grad + j, left) * scale;
            vstore_up_to(grad + j, kind == INDICES ? p : p - each * soft_of_row(c, start, j, kind), left);
        }
        if (named)
            grad[t] = at;
    }
    const double below = named ? (double)maximum - (double)x[t] : 0;
    return skipped ? 0 : all * log(total) + sum_end(&soft_loss) + (named ? hard * below : 0);
}

/* The same for `width` <= STRIP rows from `row` on, whose classes lie beside each other; the sum of their losses. */
FDL_INLINE double cross_entropy_strip(const classes_of *c, int64_t row, const int64_t *named, int64_t width,
                                      const int kind, const bool gradient)
{
    const int64_t classes = c->classes, inner = c->inner, start = row_start(c, row);
    const real *x = c->x + start;
    real *grad = gradient ? c->grad_input + start : NULL;
    real maximum[STRIP], sum[STRIP] = {0}, soft[STRIP] = {0}, soft_loss[STRIP] = {0};
    double total[STRIP] = {0}, soft_total[STRIP] = {0}, soft_loss_total[STRIP] = {0}, losses = 0;
    strip_maximum(x, maximum, classes, inner, width);
    for (int64_t k = 0; k < classes; k++) {
        const vreal weight = vset1(c->weight ? c->weight[k] : 1);
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t i = k * inner + j, left = width - j;
            const vreal below = vload_up_to(x + i, left) - vload(maximum + j), e = vexp(below);
            vstore(sum + j, vload(sum + j) + e);
            if (gradient)
                vstore_up_to(grad + i, e, left);
            if (kind != INDICES) {
                const vreal part = soft_part(c, start + i, weight, left, kind);
                vstore(soft + j, vload(soft + j) + part);
                vstore(soft_loss + j, vload(soft_loss + j) - part * below);
            }
        }
        if ((k + 1) % FOLD == 0 || k + 1 == classes) {
            strip_fold(sum, total, width);
            strip_fold(soft, soft_total, kind == INDICES ? 0 : width);
            strip_fold(soft_loss, soft_loss_total, kind == INDICES ? 0 : width);
        }
    }
    real log_total[STRIP], scale[STRIP] = {0}, each[STRIP] = {0}, at[STRIP];
    strip_log(total, log_total, width);
    for (int64_t j = 0; j < width; j++) {
        const bool is_named = named[j] >= 0, skipped = kind != PROBABILITIES && !is_named;
        const int64_t t = is_named ? named[j] * inner + j : 0;
        const double weight = class_weight(c, named[j]), hard = (1 - c->smoothing) * weight;
        const double all = hard + soft_total[j];
        double loss = all * (double)log_total[j] + soft_loss_total[j];
        if (is_named)
            loss += hard * ((double)maximum[j] - (double)x[t]);
        else if (skipped)
            loss = 0;
        if (c->loss && c->reduction == FDL_REDUCTION_NONE)
            c->loss[row + j] = (real)loss;
        losses += loss;
        if (gradient) {
            const double g = skipped ? 0 : row_grad(c, row + j), factor = g * all / total[j];
            at[j] = is_named ? (real)(factor * (double)grad[t] - g * c->kept * weight) : 0; /* in double, as above */
            scale[j] = (real)factor;
            each[j] = (real)g;
        }
    }
    if (!gradient)
        return losses;
    for (int64_t k = 0; k < classes; k++) {
        const vreal weight = vset1(c->weight ? c->weight[k] : 1);
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t i = k * inner + j, left = width - j;
            const vreal p = vload_up_to(grad + i, left) * vload(scale + j);
            vstore_up_to(grad + i,
                         kind == INDICES ? p : p - vload(each + j) * soft_part(c, start + i, weight, left, kind), left);
        }
    }
    for (int64_t j = 0; j < width; j++)
        if (named[j] >= 0)
            grad[named[j] * inner + j] = at[j];
    return losses;
}

/* The classes of `count` rows from `row` on; false where one is BAD. */
FDL_INLINE bool named_classes(const classes_of *c, int64_t row, int64_t count, const int kind, int64_t *named)
{
    bool good = true;
    for (int64_t j = 0; j < count; j++) {
        named[j] = kind == PROBABILITIES ? IGNORED : class_of(c, row + j);
        good = good && named[j] != BAD;
    }
    return good;
}

/* Of few classes, rows are put side by side, so that vectors are full: as many as a vector has lanes. */
enum { FEW = 128 };

/* What such rows are while they lie so: x, probabilities and grad [classes, LANES]. */
typedef struct {
    real x[FEW * LANES], probabilities[FEW * LANES], grad[FEW * LANES];
} few_rows;

/* Rows of few classes from `row` on, at most LANES, as a strip. */
static classes_of side_by_side(const classes_of *c, int64_t row, int64_t rows, few_rows *few)
{
    const int64_t classes = c->classes, start = row * classes;
    classes_of strip = *c;
    strip.inner = LANES;
    strip.x = few->x, strip.probabilities = few->probabilities, strip.grad_input = c->grad_input ? few->grad : NULL;
    interleave(c->x + start, classes, rows, classes, few->x);
    if (!c->target)
        interleave(c->probabilities + start, classes, rows, classes, few->probabilities);
    if (c->reduction == FDL_REDUCTION_NONE) {
        strip.loss = c->loss ? c->loss + row : NULL;
        strip.grad_output = c->grad_output ? c->grad_output + row : NULL;
    }
    return strip;
}

/* Pieces: blocks of rows or, where inner is more than 1, strips, of which each outer index has ceil(inner / STRIP). */
FDL_INLINE int cross_entropy_pieces(const classes_of *c, int64_t begin, int64_t end, const int kind,
                                    const bool gradient)
{
    const int64_t strips = ceil_div(c->inner, STRIP);
    const bool few = c->inner == 1 && c->classes > 0 && c->classes <= FEW;
    int64_t named[STRIP];
    few_rows beside;
    for (int64_t piece = begin; piece < end; piece++) {
        double sum = 0;
        const int64_t column = c->inner > 1 ? piece % strips * STRIP : 0;
        int64_t row = c->inner > 1 ? piece / strips * c->inner + column : piece * c->block;
        const int64_t last = c->inner > 1    ? row + min64(STRIP, c->inner - column)
                             : c->inner == 1 ? min64(row + c->block, c->outer)
                                             : row;
        for (int64_t rows; row < last; row += rows) {
            rows = c->inner > 1 ? last - row : few ? min64(LANES, last - row) : 1;
            if (!named_classes(c, row, rows, kind, named))
                return FDL_BAD_TARGET;
            if (few || c->inner > 1) {
                const classes_of strip = few ? side_by_side(c, row, rows, &beside) : *c;
                sum += cross_entropy_strip(&strip, few ? 0 : row, named, rows, kind, gradient);
                if (few && gradient)
                    separate(beside.grad, c->classes, rows, c->classes, c->grad_input + row * c->classes);
                continue;
            }
            const double loss = cross_entropy_row(c, row, named[0], kind, gradient);
            if (c->loss && c->reduction == FDL_REDUCTION_NONE)
                c->loss[row] = (real)loss;
            sum += loss;
        }
        c->partial[piece] = sum;
    }
    return FDL_OK;
}

static int cross_entropy_task(void *context, int64_t begin, int64_t end)
{
    const classes_of *c = context;
    const bool gradient = c->grad_input;
    const int kind = !c->target ? PROBABILITIES : c->smoothing > 0 ? SMOOTHED_INDICES : INDICES;
    if (kind != INDICES || FDL_SMALL) /* one loop for what is rarer */
        return cross_entropy_pieces(c, begin, end, kind, gradient);
    return gradient ? cross_entropy_pieces(c, begin, end, INDICES, true)
                    : cross_entropy_pieces(c, begin, end, INDICES, false);
}

int fdl_cross_entropy(const real *x, const int64_t *target, const real *probabilities, const real *weight,
                      const real *grad_output, real *loss, real *grad_input, int64_t outer, int64_t classes,
                      int64_t inner, int64_t ignore_index, double label_smoothing, int64_t reduction)
{
    classes_of c = {.x = x, .target = target, .probabilities = probabilities, .weight = weight};
    c.grad_output = grad_output, c.loss = loss, c.grad_input = grad_input, c.reduction = reduction;
    c.outer = outer, c.classes = classes, c.inner = inner, c.ignore_index = ignore_index;
    c.smoothing = label_smoothing;
    c.kept = 1 - label_smoothing + label_smoothing / (double)classes;
    const int status = weigh_targets(&c);
    if (status != FDL_OK)
        return status;
    const int64_t item = max64(1, classes * min64(inner, STRIP));
    c.block = inner > 1 ? 1 : ceil_div(max64(1, PIECE / item), LANES) * LANES;
    const int64_t pieces = inner > 1 ? outer * ceil_div(inner, STRIP) : ceil_div(outer, c.block);
    real unwanted;
    return summed(pieces, ceil_div(COMPUTE_GRAIN, item * c.block), cross_entropy_task, &c, &c.partial,
                  loss ? loss : &unwanted, loss ? reduction : FDL_REDUCTION_NONE, c.divisor);
}

/* ---- cosine_embedding ---- */

typedef struct {
    const real *x1, *x2, *target, *grad_output;
    real *loss, *grad_x1, *grad_x2;
    double *partial;
    int64_t rows, features, reduction, block;
    double margin, divisor;
} cosine;

/* x1 x2, x1 x1 and x2 x2 of a row, summed. */
FDL_INLINE void cosine_products(const real *x1, const real *x2, int64_t features, double products[3])
{
    long_sum dot = {0}, square1 = {0}, square2 = {0};
    for (int64_t j = 0; j < features; j += LANES) { /* main loop and tail: absent elements are 0 */
        const vreal a = vload_up_to(x1 + j, features - j), b = vload_up_to(x2 + j, features - j);
        sum_add(&dot, a * b);
        sum_add(&square1, a * a);
        sum_add(&square2, b * b);
    }
    products[0] = sum_end(&dot);
    products[1] = sum_end(&square1) + (double)TINY;
    products[2] = sum_end(&square2) + (double)TINY;
}

static int cosine_pieces(void *context, int64_t begin, int64_t end)
{
    const cosine *c = context;
    for (int64_t piece = begin; piece < end; piece++) {
        double sum = 0, products[3];
        for (int64_t row = piece * c->block; row < min64((piece + 1) * c->block, c->rows); row++) {
            cosine_products(c->x1 + row * c->features, c->x2 + row * c->features, c->features, products);
            const double cos = products[0] / sqrt(products[1] * products[2]), beyond = cos - c->margin;
            const double apart = beyond < 0 ? 0 : beyond; /* NaN stays */
            const double loss = c->target[row] == 1 ? 1 - cos : c->target[row] == -1 ? apart : 0;
            if (c->reduction == FDL_REDUCTION_NONE)
                c->loss[row] = (real)loss;
            sum += loss;
        }
        c->partial[piece] = sum;
    }
    return FDL_OK;
}

static int cosine_gradient_rows(void *context, int64_t begin, int64_t end)
{
    const cosine *c = context;
    for (int64_t row = begin; row < end; row++) {
        const real *x1 = c->x1 + row * c->features, *x2 = c->x2 + row * c->features;
        double products[3];
        cosine_products(x1, x2, c->features, products);
        const double length = sqrt(products[1] * products[2]), cos = products[0] / length;
        const double sign = c->target[row] == 1 ? -1 : c->target[row] == -1 && !(cos < c->margin) ? 1 : 0;
        const double g = sign * (double)c->grad_output[c->reduction == FDL_REDUCTION_NONE ? row : 0] / c->divisor;
        const vreal other = vset1((real)(g / length));
        const vreal own1 = vset1((real)(g * cos / products[1])), own2 = vset1((real)(g * cos / products[2]));
        for (int64_t j = 0; j < c->features; j += LANES) { /* main loop and tail */
            const int64_t left = c->features - j, i = row * c->features + j;
            const vreal a = vload_up_to(x1 + j, left), b = vload_up_to(x2 + j, left);
            vstore_up_to(c->grad_x1 + i, other * b - own1 * a, left);
            vstore_up_to(c->grad_x2 + i, other * a - own2 * b, left);
        }
    }
    return FDL_OK;
}

int fdl_cosine_embedding_loss(const real *x1, const real *x2, const real *target, real *loss, int64_t rows,
                              int64_t features, double margin, int64_t reduction)
{
    cosine c = {.x1 = x1, .x2 = x2, .target = target, .loss = loss, .rows = rows, .features = features};
    c.margin = margin, c.reduction = reduction;
    c.block = max64(1, PIECE / max64(1, features));
    return summed(ceil_div(rows, c.block), ceil_div(MEMORY_GRAIN, c.block * max64(1, features)), cosine_pieces, &c,
                  &c.partial, loss, reduction, divisor_of(reduction, rows, 0));
}

int fdl_cosine_embedding_loss_backward(const real *grad_output, const real *x1, const real *x2, const real *target,
                                       real *grad_x1, real *grad_x2, int64_t rows, int64_t features, double margin,
                                       int64_t reduction)
{
    cosine c = {.grad_output = grad_output, .x1 = x1, .x2 = x2, .target = target, .rows = rows, .features = features};
    c.grad_x1 = grad_x1, c.grad_x2 = grad_x2, c.margin = margin, c.reduction = reduction;
    c.divisor = divisor_of(reduction, rows, 0);
    return fdl_parallel(rows, ceil_div(MEMORY_GRAIN, max64(1, features)), cosine_gradient_rows, &c);
}
