/* Optimizers: one pass over the parameters, in place, and the norm of gradients.
 *
 * Each takes g = clamp(grad_scale grad, -clip_value, clip_value), negated where it maximizes, and then
 * g += weight_decay param, unless the weight decay is decoupled: then param *= 1 - lr weight_decay. t is the step.
 *
 *   sgd        v = t = 1 ? g : momentum v + (1 - dampening) g                      (without momentum, v = g)
 *              param -= lr (nesterov ? g + momentum v : v)
 *
 *   adagrad    s += g^2
 *              param -= lr / (1 + (t - 1) lr_decay) g / (sqrt(s) + eps)
 *
 *   rmsprop    s = alpha s + (1 - alpha) g^2,   a = alpha a + (1 - alpha) g
 *              d = g / (sqrt(centered ? s - a^2 : s) + eps),   b = momentum b + d
 *              param -= lr (momentum ? b : d)
 *
 *   adam       m = beta1 m + (1 - beta1) g,   v = beta2 v + (1 - beta2) g^2,   u = amsgrad ? max(u, v) : v
 *              param -= lr / (1 - beta1^t) m / (sqrt(u) / sqrt(1 - beta2^t) + eps)
 *
 *   adadelta   s = rho s + (1 - rho) g^2,   d = sqrt(a + eps) / sqrt(s + eps) g,   a = rho a + (1 - rho) d^2
 *              param -= lr d
 *
 *   nadam      m, v as adam,   mu(t) = beta1 (1 - 0.96^(t momentum_decay) / 2),   M(t) = mu(1) ... mu(t)
 *              d = (1 - mu(t)) / (1 - M(t)) g + mu(t + 1) / (1 - M(t + 1)) m
 *              param -= lr d / (sqrt(v / (1 - beta2^t)) + eps)
 *
 *   lion       param -= lr sign(beta1 m + (1 - beta1) g),   m = beta2 m + (1 - beta2) g
 *
 * Sources: torch.optim, whose formulas these are; lion: Chen et al., "Symbolic Discovery of Optimization Algorithms",
 * NeurIPS 2023, Algorithm 2.
 *
 * One driver walks over the arrays of a table (fastdl.h), cut over threads by elements, wherever an array ends. Arrays
 * that have made as many steps (all, unless some had no gradient at times) are one pass. An update takes a vector of
 * parameters, of gradients, and of each state that there is. Arithmetic is in `real`, except for what is the same for
 * all elements, which is `double` until it is used. The norm is summed in double, over blocks that do not depend on the
 * number of threads. */
#include <float.h>
#include <math.h>

#include "vector/power_sum.h"
#include "vector/elementwise.h"

enum { STATES = FDL_TABLE_STEP - FDL_TABLE_STATE };

/* The options, made ready for the updates. */
typedef struct {
    const int64_t *table;
    int64_t count, method;
    int64_t offset;             /* where the first array of the pass begins, counted as the ends in the table are */
    int has;                    /* the bit of each state that is used */
    real scale, limit;          /* of gradients; the scale is negative to maximize */
    real decay, kept;           /* coupled: decay param is added to the gradient; decoupled: kept param is kept */
    bool decays;                /* or 0 times an infinite parameter would be NaN */
    bool first, nesterov;       /* sgd */
    real rate, eps;             /* what is subtracted: rate times ... */
    real momentum, fresh;       /* v = momentum v + fresh g */
    real beta1, beta2;          /* of the averages of g (adam, nadam, lion, rmsprop) and of g^2 */
    real rest1, rest2;          /* 1 - beta1, 1 - beta2 */
    real correction, rate_grad; /* adam, nadam: 1 / sqrt(1 - beta2^t); nadam: the rate of g itself */
} plan;

typedef vreal update(const plan *p, vreal param, vreal g, vreal *state, const int has);

/* beta average + (1 - beta) x, exactly x where beta is 0 and the average is finite. */
FDL_INLINE vreal mix(vreal average, vreal x, real beta, real rest)
{
    return rest < (real)0.5 ? average + rest * (x - average) : x - beta * (x - average);
}

FDL_INLINE vreal sgd(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    if (has == 0)
        return param - p->rate * g;
    state[0] = p->first ? g : p->momentum * state[0] + p->fresh * g;
    return param - p->rate * (p->nesterov ? g + p->momentum * state[0] : state[0]);
}

FDL_INLINE vreal adagrad(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    (void)has;
    state[0] += g * g;
    return param - p->rate * (g / (vsqrt(state[0]) + p->eps));
}

FDL_INLINE vreal rmsprop(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    state[0] = p->beta2 * state[0] + p->rest2 * g * g;
    vreal variance = state[0];
    if (has & 2) { /* centered: not below 0, where rounding may lead */
        state[1] = mix(state[1], g, p->beta2, p->rest2);
        variance = vmax((vreal){0}, variance - state[1] * state[1]);
    }
    vreal step = g / (vsqrt(variance) + p->eps);
    if (has & 4)
        step = state[2] = p->momentum * state[2] + step;
    return param - p->rate * step;
}

FDL_INLINE vreal adam(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    state[0] = mix(state[0], g, p->beta1, p->rest1);
    state[1] = p->beta2 * state[1] + p->rest2 * g * g;
    vreal square = state[1];
    if (has & 4)
        square = state[2] = vmax_nan(state[2], state[1]);
    return p->kept * param - p->rate * (state[0] / (vsqrt(square) * p->correction + p->eps));
}

FDL_INLINE vreal adadelta(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    (void)has;
    state[0] = p->beta2 * state[0] + p->rest2 * g * g;
    const vreal step = vsqrt(state[1] + p->eps) / vsqrt(state[0] + p->eps) * g;
    state[1] = p->beta2 * state[1] + p->rest2 * step * step;
    return param - p->rate * step;
}

FDL_INLINE vreal nadam(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    (void)has;
    state[0] = mix(state[0], g, p->beta1, p->rest1);
    state[1] = p->beta2 * state[1] + p->rest2 * g * g;
    const vreal root = vsqrt(state[1]) * p->correction + p->eps;
    return p->kept * param - (p->rate_grad * g + p->rate * state[0]) / root;
}

FDL_INLINE vreal lion(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    (void)has;
    const vreal direction = mix(state[0], g, p->beta1, p->rest1), one = vset1(1);
    state[0] = mix(state[0], g, p->beta2, p->rest2);
    const vreal sign = vselect(direction > (vreal){0}, one, vselect(direction < (vreal){0}, -one, direction));
    return p->kept * param - p->rate * sign;
}

FDL_INLINE vreal clip(const plan *p, vreal param, vreal g, vreal *state, const int has)
{
    (void)p, (void)param, (void)state, (void)has;
    return g;
}

/* The first row of the table that ends beyond element `at`. */
static int64_t row_of(const int64_t *table, int64_t count, int64_t at)
{
    int64_t low = 0;
    for (int64_t high = count - 1; low < high;) {
        const int64_t middle = low + (high - low) / 2;
        if (table[middle * FDL_TABLE_COLUMNS + FDL_TABLE_END] > at)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* The part of one array that [begin, end) of all of them covers: its elements [from, to). */
typedef struct {
    const int64_t *row;
    int64_t from, to;
} part;

FDL_INLINE part part_of(const int64_t *table, int64_t index, int64_t begin, int64_t end)
{
    const int64_t *row = table + index * FDL_TABLE_COLUMNS;
    const int64_t start = index > 0 ? row[FDL_TABLE_END - FDL_TABLE_COLUMNS] : 0;
    return (part){row, begin - start, min64(end, row[FDL_TABLE_END]) - start};
}

FDL_INLINE real *column(const int64_t *row, int i) { return (real *)(intptr_t)row[i]; }

/* The arrays of a part, and element i of them on, n at most: one body for whole vectors and the last, so that an
 * element's result does not depend on where it lies. */
typedef struct {
    real *param, *state[STATES];
    const real *grad;
} columns;

FDL_INLINE void take(const plan *p, const columns *c, int64_t i, int64_t n, update *next, const int has)
{
    const vreal limit = vset1(p->limit), old = vload_up_to(c->param + i, n);
    vreal v[STATES] = {0}, g = vload_up_to(c->grad + i, n);
    FDL_UNROLL
    for (int s = 0; s < STATES; s++)
        if (has & 1 << s)
            v[s] = vload_up_to(c->state[s] + i, n);
    g = vmax(-limit, vmin(limit, p->scale * g)); /* in this order NaN passes */
    if (p->decays)
        g += p->decay * old;
    vstore_up_to(c->param + i, next(p, old, g, v, has), n);
    /* Averages of gradients that have become 0, as of units that no longer fire, shrink until they are subnormal, stay so
     * for ever, and cost a hundred cycles each step: such states are 0. */
    const vreal least = vset1(sizeof(real) == sizeof(float) ? (real)FLT_MIN : (real)DBL_MIN);
    FDL_UNROLL
    for (int s = 0; s < STATES; s++)
        if (has & 1 << s)
            vstore_up_to(c->state[s] + i, vselect(vabs(v[s]) < least, (vreal){0}, v[s]), n);
}

enum { PAGE = 4096 / (int)sizeof(real) };

FDL_INLINE int walk(const plan *p, int64_t begin, int64_t end, update *next, const int has)
{
    for (int64_t index = row_of(p->table, p->count, begin); begin < end; index++) {
        const part a = part_of(p->table, index, begin, end);
        begin += a.to - a.from;
        if (a.row[FDL_TABLE_GRAD] == 0)
            continue;
        columns c = {.param = column(a.row, FDL_TABLE_PARAM), .grad = column(a.row, FDL_TABLE_GRAD)};
        for (int s = 0; s < STATES; s++)
            c.state[s] = column(a.row, FDL_TABLE_STATE + s);
        int64_t i = a.from;
        const int64_t head = (LANES - past_aligned(c.param + i)) % LANES;
        if (head > 0 && i + head <= a.to) { /* to where stores do not cross cache lines */
            take(p, &c, i, head, next, has);
            i += head;
        }
        for (; i + LANES <= a.to; i += LANES) { /* main loop */
            if (has == 0 && i % PAGE < LANES && i + PAGE < a.to) {
                /* The processor does not fetch ahead beyond a page, and two streams alone do not hide that. */
                __builtin_prefetch(c.param + i + PAGE);
                __builtin_prefetch(c.grad + i + PAGE);
            }
            take(p, &c, i, LANES, next, has);
        }
        if (i < a.to) /* tail */
            take(p, &c, i, a.to - i, next, has);
    }
    return FDL_OK;
}

static int walk_range(void *context, int64_t begin, int64_t end)
{
    const plan p = *(const plan *)context; /* a copy, which no store can change */
    begin += p.offset, end += p.offset;
    switch (p.method) {
    case FDL_OPTIMIZER_SGD:
        return p.has ? walk(&p, begin, end, sgd, 1) : walk(&p, begin, end, sgd, 0);
    case FDL_OPTIMIZER_ADAGRAD:
        return walk(&p, begin, end, adagrad, 1);
    case FDL_OPTIMIZER_RMSPROP:
        return p.has == 1   ? walk(&p, begin, end, rmsprop, 1)
               : p.has == 3 ? walk(&p, begin, end, rmsprop, 3)
               : p.has == 5 ? walk(&p, begin, end, rmsprop, 5)
                            : walk(&p, begin, end, rmsprop, 7);
    case FDL_OPTIMIZER_ADAM:
        return p.has == 3 ? walk(&p, begin, end, adam, 3) : walk(&p, begin, end, adam, 7);
    case FDL_OPTIMIZER_ADADELTA:
        return walk(&p, begin, end, adadelta, 3);
    case FDL_OPTIMIZER_NADAM:
        return walk(&p, begin, end, nadam, 3);
    case FDL_OPTIMIZER_LION:
        return walk(&p, begin, end, lion, 1);
    default:
        return walk(&p, begin, end, clip, 0);
    }
}

/* NAdam's mu at step t. */
static double mu(const fdl_optimizer *o, double t) { return o->beta1 * (1 - 0.5 * pow(0.96, t * o->momentum_decay)); }

static const int64_t *row_at(const int64_t *table, int64_t index) { return table + index * FDL_TABLE_COLUMNS; }

/* How far the array of a row is. */
static int64_t steps_done(const int64_t *row)
{
    const int64_t *steps = (const int64_t *)(intptr_t)row[FDL_TABLE_STEP];
    return steps ? *steps : 0;
}

static double mu_product(const int64_t *row)
{
    const double *product = (const double *)(intptr_t)row[FDL_TABLE_MU_PRODUCT];
    return product ? *product : 1;
}

/* One pass over rows [from, to), of which the first has a gradient, and those that have one are equally far. */
static int step_rows(const fdl_optimizer *o, const int64_t *table, int64_t from, int64_t to)
{
    const int64_t *first = row_at(table, from);
    const double t = (double)(steps_done(first) + 1);
    const bool sgd_like = o->method == FDL_OPTIMIZER_SGD || o->method == FDL_OPTIMIZER_RMSPROP;
    const double beta2 = o->method == FDL_OPTIMIZER_RMSPROP    ? o->alpha
                         : o->method == FDL_OPTIMIZER_ADADELTA ? o->rho
                                                               : o->beta2;
    double rate = o->lr, rate_grad = 0, correction = 1, product = 1;
    if (o->method == FDL_OPTIMIZER_ADAGRAD)
        rate /= 1 + (t - 1) * o->lr_decay;
    if (o->method == FDL_OPTIMIZER_ADAM)
        rate /= 1 - pow(o->beta1, t);
    if (o->method == FDL_OPTIMIZER_NADAM) {
        const double now = mu(o, t), later = mu(o, t + 1);
        product = mu_product(first) * now;
        rate_grad = o->lr * (1 - now) / (1 - product);
        rate = o->lr * later / (1 - product * later);
    }
    if (o->method == FDL_OPTIMIZER_ADAM || o->method == FDL_OPTIMIZER_NADAM)
        correction = 1 / sqrt(1 - pow(beta2, t));
    int has = 0;
    for (int s = 0; s < STATES; s++)
        has |= (first[FDL_TABLE_STATE + s] != 0) << s;
    if (sgd_like && o->momentum == 0) /* its buffer is not used, if there is one */
        has &= o->method == FDL_OPTIMIZER_SGD ? 0 : 3;
    const bool decoupled = o->decoupled_weight_decay || o->method == FDL_OPTIMIZER_LION;
    plan p = {
        .table = table,
        .count = to,
        .method = o->method,
        .offset = from > 0 ? row_at(table, from - 1)[FDL_TABLE_END] : 0,
        .has = has,
        .scale = (real)(o->maximize ? -o->grad_scale : o->grad_scale),
        .limit = (real)o->clip_value,
        .decay = (real)o->weight_decay,
        .decays = o->weight_decay != 0 && !decoupled,
        .kept = (real)(decoupled ? 1 - o->lr * o->weight_decay : 1),
        .first = t == 1,
        .nesterov = o->nesterov,
        .rate = (real)rate,
        .rate_grad = (real)rate_grad,
        .eps = (real)o->eps,
        .momentum = (real)o->momentum,
        .fresh = (real)(1 - o->dampening),
        .beta1 = (real)o->beta1,
        .rest1 = (real)(1 - o->beta1),
        .beta2 = (real)beta2,
        .rest2 = (real)(1 - beta2),
        .correction = (real)correction,
    };
    const int64_t size = row_at(table, to - 1)[FDL_TABLE_END] - p.offset;
    const int status = fdl_parallel(size, MEMORY_GRAIN, walk_range, &p);
    const bool counts = o->method != FDL_OPTIMIZER_SGD || has; /* sgd's first step is its buffer's first */
    for (const int64_t *row = first; status == FDL_OK && row < row_at(table, to); row += FDL_TABLE_COLUMNS) {
        if (row[FDL_TABLE_GRAD] != 0 && row[FDL_TABLE_STEP] != 0 && counts)
            ++*(int64_t *)(intptr_t)row[FDL_TABLE_STEP];
        if (row[FDL_TABLE_GRAD] != 0 && row[FDL_TABLE_MU_PRODUCT] != 0)
            *(double *)(intptr_t)row[FDL_TABLE_MU_PRODUCT] = product;
    }
    return status;
}

int fdl_optimizer_step(const fdl_optimizer *o, const int64_t *table, int64_t count)
{
    int status = FDL_OK;
    for (int64_t from = 0, to; from < count && status == FDL_OK; from = to) {
        const int64_t *first = row_at(table, from), *row = first;
        to = from + 1;
        if (first[FDL_TABLE_GRAD] == 0)
            continue;
        const int64_t steps = steps_done(first);
        const double product = mu_product(first);
        while (to < count && ((row = row_at(table, to))[FDL_TABLE_GRAD] == 0 ||
                              (steps_done(row) == steps && mu_product(row) == product)))
            to++;
        status = step_rows(o, table, from, to);
    }
    return status;
}

/* ---- a table of one array ---- */

/* step: of the one to make, from 1. product: mu_product, or NULL. */
static int step_one(const fdl_optimizer *o, int64_t size, int64_t step, double *product, const void *param,
                    const void *grad, const void *state0, const void *state1, const void *state2)
{
    int64_t done = step - 1; /* and what stands for the gradient of an array without elements, which may be NULL */
    const int64_t row[FDL_TABLE_COLUMNS] = {
        [FDL_TABLE_END] = size,
        [FDL_TABLE_PARAM] = (int64_t)(intptr_t)param,
        [FDL_TABLE_GRAD] = (int64_t)(intptr_t)(grad ? grad : &done),
        [FDL_TABLE_STATE] = (int64_t)(intptr_t)state0,
        [FDL_TABLE_STATE + 1] = (int64_t)(intptr_t)state1,
        [FDL_TABLE_STATE + 2] = (int64_t)(intptr_t)state2,
        [FDL_TABLE_STEP] = (int64_t)(intptr_t)&done,
        [FDL_TABLE_MU_PRODUCT] = (int64_t)(intptr_t)product,
    };
    return fdl_optimizer_step(o, row, 1);
}

int fdl_sgd_step(real *param, const real *grad, real *momentum_buffer, int64_t size, int64_t step, double lr,
                 double momentum, double dampening, double weight_decay, int64_t nesterov, int64_t maximize,
                 double grad_scale, double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_SGD, .lr = lr, .momentum = momentum};
    o.dampening = dampening, o.weight_decay = weight_decay, o.nesterov = nesterov, o.maximize = maximize;
    o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, step, NULL, param, grad, momentum_buffer, NULL, NULL);
}

int fdl_adagrad_step(real *param, const real *grad, real *state_sum, int64_t size, int64_t step, double lr,
                     double lr_decay, double weight_decay, double eps, int64_t maximize, double grad_scale,
                     double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_ADAGRAD, .lr = lr, .lr_decay = lr_decay};
    o.weight_decay = weight_decay, o.eps = eps, o.maximize = maximize;
    o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, step, NULL, param, grad, state_sum, NULL, NULL);
}

int fdl_rmsprop_step(real *param, const real *grad, real *square_avg, real *grad_avg, real *momentum_buffer,
                     int64_t size, double lr, double alpha, double eps, double weight_decay, double momentum,
                     int64_t maximize, double grad_scale, double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_RMSPROP, .lr = lr, .alpha = alpha, .eps = eps};
    o.weight_decay = weight_decay, o.momentum = momentum, o.maximize = maximize;
    o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, 1, NULL, param, grad, square_avg, grad_avg, momentum_buffer);
}

int fdl_adam_step(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *max_exp_avg_sq, int64_t size,
                  int64_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
                  int64_t decoupled_weight_decay, int64_t maximize, double grad_scale, double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_ADAM, .lr = lr, .beta1 = beta1, .beta2 = beta2};
    o.eps = eps, o.weight_decay = weight_decay, o.decoupled_weight_decay = decoupled_weight_decay;
    o.maximize = maximize, o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, step, NULL, param, grad, exp_avg, exp_avg_sq, max_exp_avg_sq);
}

int fdl_adadelta_step(real *param, const real *grad, real *square_avg, real *acc_delta, int64_t size, double lr,
                      double rho, double eps, double weight_decay, int64_t maximize, double grad_scale,
                      double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_ADADELTA, .lr = lr, .rho = rho, .eps = eps};
    o.weight_decay = weight_decay, o.maximize = maximize, o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, 1, NULL, param, grad, square_avg, acc_delta, NULL);
}

int fdl_nadam_step(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *mu_product, int64_t size,
                   int64_t step, double lr, double beta1, double beta2, double eps, double weight_decay,
                   double momentum_decay, int64_t decoupled_weight_decay, int64_t maximize, double grad_scale,
                   double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_NADAM, .lr = lr, .beta1 = beta1, .beta2 = beta2};
    o.eps = eps, o.weight_decay = weight_decay, o.momentum_decay = momentum_decay;
    o.decoupled_weight_decay = decoupled_weight_decay, o.maximize = maximize;
    o.grad_scale = grad_scale, o.clip_value = clip_value;
    double product = (double)*mu_product;
    const int status = step_one(&o, size, step, &product, param, grad, exp_avg, exp_avg_sq, NULL);
    *mu_product = (real)product;
    return status;
}

int fdl_lion_step(real *param, const real *grad, real *exp_avg, int64_t size, double lr, double beta1, double beta2,
                  double weight_decay, int64_t maximize, double grad_scale, double clip_value)
{
    fdl_optimizer o = {.method = FDL_OPTIMIZER_LION, .lr = lr, .beta1 = beta1, .beta2 = beta2};
    o.weight_decay = weight_decay, o.maximize = maximize, o.grad_scale = grad_scale, o.clip_value = clip_value;
    return step_one(&o, size, 1, NULL, param, grad, exp_avg, NULL, NULL);
}

/* ---- the norm of gradients ---- */

/* Elements that are summed together, whatever the number of threads; a few blocks are worth a thread. */
enum { NORM_BLOCK = 1 << 12, NORM_GRAIN = 8 };

typedef struct {
    const int64_t *table;
    int64_t count, size;
    double norm_type;
    double *sums; /* [blocks] */
} norm_task;

static double larger(double a, double b) { return a > b || a != a ? a : b; } /* NaN stays */

/* The sum of |g|^power over n elements, or (power is infinite) the largest |g|. */
static double norm_part(const real *g, int64_t n, double power)
{
    if (power == 2)
        return power_sum(g, n, 2);
    if (power == 1)
        return power_sum(g, n, 1);
    double result = 0;
    if (!isinf(power)) {
        for (int64_t i = 0; i < n; i++)
            result += pow(fabs((double)g[i]), power);
        return result;
    }
    vreal most = {0};
    for (int64_t i = 0; i < n; i += LANES) { /* main loop and tail */
        const vreal v = vload_up_to(g + i, n - i);
        most = vmax_nan(most, vmax(-v, v));
    }
    for (int lane = 0; lane < LANES; lane++)
        result = larger(result, (double)most[lane]);
    return result;
}

/* The sum of |g|^norm_type over elements [begin, end) of all arrays, or their largest |g|. */
static double norm_block(const norm_task *t, int64_t begin, int64_t end)
{
    double result = 0;
    for (int64_t index = row_of(t->table, t->count, begin); begin < end; index++) {
        const part a = part_of(t->table, index, begin, end);
        begin += a.to - a.from;
        const real *grad = column(a.row, FDL_TABLE_GRAD);
        if (grad == NULL)
            continue;
        const double found = norm_part(grad + a.from, a.to - a.from, t->norm_type);
        result = isinf(t->norm_type) ? larger(result, found) : result + found;
    }
    return result;
}

static int norm_range(void *context, int64_t begin, int64_t end)
{
    const norm_task *t = context;
    for (int64_t block = begin; block < end; block++)
        t->sums[block] = norm_block(t, block * NORM_BLOCK, min64(t->size, (block + 1) * NORM_BLOCK));
    return FDL_OK;
}

int fdl_grad_norm(double *norm, const int64_t *table, int64_t count, double norm_type)
{
    const int64_t size = count > 0 ? table[(count - 1) * FDL_TABLE_COLUMNS + FDL_TABLE_END] : 0;
    const int64_t blocks = ceil_div(size, NORM_BLOCK);
    const fdl_mark mark = fdl_scratch_mark();
    norm_task t = {table, count, size, norm_type, fdl_scratch(blocks * (int64_t)sizeof(double))};
    if (blocks > 0 && t.sums == NULL)
        return FDL_OUT_OF_MEMORY;
    const int status = fdl_parallel(blocks, NORM_GRAIN, norm_range, &t);
    double sum = 0;
    for (int64_t block = 0; block < blocks; block++)
        sum = isinf(norm_type) ? larger(sum, t.sums[block]) : sum + t.sums[block];
    fdl_scratch_release(mark);
    *norm = norm_type == 2 ? sqrt(sum) : isinf(norm_type) || norm_type == 1 ? sum : pow(sum, 1 / norm_type);
    return status;
}

int fdl_scale_grads(fdl_optimizer *optimizer, const double *norms, double *norm, int64_t count, double norm_type,
                    double grad_scale, double max_norm, double clip_value)
{
    double factor = 1;
    if (norms && norm) {
        double sum = 0, largest = 0;
        for (int64_t i = 0; i < count; i++)
            largest = larger(largest, norms[i]);
        for (int64_t i = 0; i < count && largest > 0 && !isinf(largest); i++)
            sum += pow(norms[i] / largest, norm_type); /* of numbers up to 1, which overflow nowhere */
        const bool plain = count <= 1 || isinf(norm_type) || !(largest > 0 && !isinf(largest));
        *norm = grad_scale * (plain ? largest : largest * pow(sum, 1 / norm_type));
        factor = max_norm / (*norm + 1e-6);
        factor = factor > 1 ? 1 : factor; /* NaN is not, and stays */
    }
    optimizer->grad_scale = grad_scale * factor;
    optimizer->clip_value = clip_value;
    return FDL_OK;
}
