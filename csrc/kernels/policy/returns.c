/* Returns and advantages over time. Arrays are [steps, columns], and each column is a sequence of its own:
 *
 *   discounted_returns   R_t = r_t + gamma R_t+1              R_T = bootstrap, or 0
 *   gae                  A_t = delta_t + gamma lambda A_t+1   delta_t = r_t + gamma V'_t - V_t,   A_T = 0
 *                        target_t = A_t + V_t
 *   vtrace               E_t = rho_t delta_t + gamma lambda c_t E_t+1,   target_t = E_t + V_t
 *                        advantage_t = rho_t (r_t + gamma (V'_t + E_t+1) - V_t)
 *                        rho_t = min(e^log_rho_t, rho_threshold), c_t likewise
 *
 * where V'_t, the value of the next state, is 0 if t is terminated, and what comes from t + 1 is 0 if t is done, whatever
 * stands there. All but vtrace are linear, and their gradients the same sums with time reversed:
 *
 *   D_t = g_t + gamma lambda D_t-1    0 in place of D_t-1 where t - 1 is done
 *
 * Steps come one after the other; vectors lie across columns. What is carried from step to step stays in registers, in
 * `real`: with a factor below 1 errors die away as the values do. */
#include "vector/elementwise.h"
#include "vector/vmath.h"

enum { RETURNS, GAE, VTRACE, RETURNS_GRADIENT, GAE_GRADIENT };

/* Vectors of columns at a time: as many as an addition takes cycles, and whole cache lines. */
enum { TOGETHER = 4 };

typedef struct {
    const real *reward, *value, *next_value, *log_rho;
    const real *bootstrap;
    const real *grad, *grad_target;
    const uint8_t *terminated, *done;
    real *out, *target; /* returns or advantages, and value targets */
    real *grad_reward, *grad_value, *grad_next, *grad_bootstrap;
    int64_t steps, columns;
    real gamma, decay, rho_threshold, c_threshold; /* decay: gamma lambda, of what is carried */
} sequences;

/* 0 where the mask is set. */
FDL_INLINE vreal unless(vint mask, vreal x) { return (vreal)((vint)x & ~mask); }

/* The smaller; NaN where x is. */
FDL_INLINE vreal at_most(vreal x, real limit) { return vmin(vset1(limit), x); }

/* The first lanes, in pieces: a masked store takes as long as ten others on some processors. */
FDL_INLINE void store(real *p, vreal v, int64_t lanes)
{
    if (lanes == LANES) {
        vstore(p, v);
        return;
    }
    real lane[LANES];
    vstore(lane, v);
    int64_t i = 0;
    FDL_UNROLL
    for (int64_t part = LANES / 2; part > 0; part /= 2)
        if (lanes & part) {
            memcpy(p + i, lane + i, (size_t)part * sizeof(real));
            i += part;
        }
}

/* One step of LANES columns, of which the first `lanes` are stored: what it hands to the next. What is read past them
 * are elements of other columns, as far as there are any: `left` from here on. */
FDL_INLINE vreal step(const sequences *s, int64_t at, int64_t lanes, int64_t left, vreal carried, const int kind)
{
    const vint done = vload_bools_up_to(s->done + at, left);
    if (kind == RETURNS) {
        const vreal sum = vload_up_to(s->reward + at, left) + s->gamma * unless(done, carried);
        store(s->out + at, sum, lanes);
        return sum;
    }
    if (kind == RETURNS_GRADIENT) {
        const vreal sum = vload_up_to(s->grad + at, left) + carried;
        store(s->grad_reward + at, sum, lanes);
        return s->decay * unless(done, sum);
    }
    const vint terminated = vload_bools_up_to(s->terminated + at, left);
    if (kind == GAE_GRADIENT) {
        const vreal of_target = vload_up_to(s->grad_target + at, left);
        const vreal sum = vload_up_to(s->grad + at, left) + of_target + carried;
        store(s->grad_reward + at, sum, lanes);
        store(s->grad_value + at, of_target - sum, lanes);
        store(s->grad_next + at, s->gamma * unless(terminated, sum), lanes);
        return s->decay * unless(done, sum);
    }
    const vreal reward = vload_up_to(s->reward + at, left), value = vload_up_to(s->value + at, left);
    const vreal next = vload_up_to(s->next_value + at, left), after = unless(done, carried);
    const vreal delta = reward + s->gamma * unless(terminated, next) - value;
    if (kind == GAE) {
        const vreal sum = delta + s->decay * after;
        store(s->out + at, sum, lanes);
        store(s->target + at, sum + value, lanes);
        return sum;
    }
    const vreal ratio = vexp(vload_up_to(s->log_rho + at, left)), rho = at_most(ratio, s->rho_threshold);
    const vreal sum = rho * delta + s->decay * at_most(ratio, s->c_threshold) * after;
    store(s->out + at, rho * (delta + s->gamma * unless(terminated, after)), lanes);
    store(s->target + at, sum + value, lanes);
    return sum;
}

/* All steps of `vectors` vectors of columns or, of one, of that many lanes of it. */
FDL_INLINE void all_steps(const sequences *s, int64_t column, int64_t lanes, const int vectors, const int kind)
{
    const bool forwards = kind == RETURNS_GRADIENT || kind == GAE_GRADIENT;
    const int64_t size = s->steps * s->columns, by = forwards ? s->columns : -s->columns;
    int64_t at = column + (forwards ? 0 : size - s->columns);
    vreal carried[TOGETHER] = {{0}};
    for (int v = 0; kind == RETURNS && s->bootstrap && v < vectors; v++)
        carried[v] = vload_up_to(s->bootstrap + column + v * LANES, s->columns - column - v * LANES);
    for (int64_t t = 0; t < s->steps; t++, at += by) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            carried[v] = step(s, at + v * LANES, lanes, vectors > 1 ? LANES : size - at, carried[v], kind);
    }
    for (int v = 0; kind == RETURNS_GRADIENT && v < vectors; v++)
        store(s->grad_bootstrap + column + v * LANES, carried[v], lanes);
}

/* Vectors [begin, end) of columns. */
FDL_INLINE int columns_of(const sequences *of, int64_t begin, int64_t end, const int kind)
{
    const sequences s = *of; /* a copy, which no store can change */
    int64_t column = begin * LANES;
    const int64_t last = min64(end * LANES, s.columns);
    const bool usual = kind == RETURNS || kind == GAE; /* what else there is makes do with the tail, and less code */
    for (; usual && column + TOGETHER * LANES <= last; column += TOGETHER * LANES) /* main loop */
        all_steps(&s, column, LANES, TOGETHER, kind);
    for (; column < last; column += LANES) /* tail */
        all_steps(&s, column, min64(LANES, last - column), 1, kind);
    return FDL_OK;
}

static int returns_task(void *s, int64_t begin, int64_t end) { return columns_of(s, begin, end, RETURNS); }
static int gae_task(void *s, int64_t begin, int64_t end) { return columns_of(s, begin, end, GAE); }
static int vtrace_task(void *s, int64_t begin, int64_t end) { return columns_of(s, begin, end, VTRACE); }
static int returns_gradient_task(void *s, int64_t begin, int64_t end)
{
    return columns_of(s, begin, end, RETURNS_GRADIENT);
}
static int gae_gradient_task(void *s, int64_t begin, int64_t end) { return columns_of(s, begin, end, GAE_GRADIENT); }

static int run(sequences *s, int64_t steps, int64_t columns, fdl_task *task)
{
    s->steps = steps, s->columns = columns;
    if (steps == 0 && !s->grad_bootstrap) /* of columns there may be any number */
        return FDL_OK;
    const int64_t grain = MEMORY_GRAIN / max64(1, steps * LANES);
    return fdl_parallel(ceil_div(columns, LANES), max64(TOGETHER, grain), task, s);
}

int fdl_discounted_returns(const real *reward, const uint8_t *done, const real *bootstrap, real *returns, int64_t steps,
                           int64_t columns, double gamma)
{
    sequences s = {.reward = reward, .done = done, .bootstrap = bootstrap, .out = returns, .gamma = (real)gamma};
    return run(&s, steps, columns, returns_task);
}

int fdl_discounted_returns_backward(const real *grad_output, const uint8_t *done, real *grad_reward,
                                    real *grad_bootstrap, int64_t steps, int64_t columns, double gamma)
{
    sequences s = {.grad = grad_output, .done = done, .grad_reward = grad_reward, .decay = (real)gamma};
    s.grad_bootstrap = grad_bootstrap;
    return run(&s, steps, columns, returns_gradient_task);
}

int fdl_gae(const real *reward, const real *state_value, const real *next_state_value, const uint8_t *terminated,
            const uint8_t *done, real *advantage, real *value_target, int64_t steps, int64_t columns, double gamma,
            double lmbda)
{
    sequences s = {.reward = reward, .value = state_value, .next_value = next_state_value};
    s.terminated = terminated, s.done = done, s.out = advantage, s.target = value_target;
    s.gamma = (real)gamma, s.decay = (real)(gamma * lmbda);
    return run(&s, steps, columns, gae_task);
}

int fdl_gae_backward(const real *grad_advantage, const real *grad_value_target, const uint8_t *terminated,
                     const uint8_t *done, real *grad_reward, real *grad_state_value, real *grad_next_state_value,
                     int64_t steps, int64_t columns, double gamma, double lmbda)
{
    sequences s = {.grad = grad_advantage, .grad_target = grad_value_target, .terminated = terminated, .done = done};
    s.grad_reward = grad_reward, s.grad_value = grad_state_value, s.grad_next = grad_next_state_value;
    s.gamma = (real)gamma, s.decay = (real)(gamma * lmbda);
    return run(&s, steps, columns, gae_gradient_task);
}

int fdl_vtrace(const real *log_rho, const real *reward, const real *state_value, const real *next_state_value,
               const uint8_t *terminated, const uint8_t *done, real *advantage, real *value_target, int64_t steps,
               int64_t columns, double gamma, double lmbda, double rho_threshold, double c_threshold)
{
    sequences s = {.log_rho = log_rho, .reward = reward, .value = state_value, .next_value = next_state_value};
    s.terminated = terminated, s.done = done, s.out = advantage, s.target = value_target;
    s.gamma = (real)gamma, s.decay = (real)(gamma * lmbda);
    s.rho_threshold = (real)rho_threshold, s.c_threshold = (real)c_threshold;
    return run(&s, steps, columns, vtrace_task);
}
