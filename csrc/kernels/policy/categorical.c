/* Categorical distributions, whose logits x are [rows, actions]; a is a row's action:
 *
 *   m = max(x),  s = sum(e^(x - m)),  t = sum(e^(x - m) (x - m))      0 where e^(x - m) is
 *   l = x_a - m - log(s)             dl / dx_j = (1 where j = a) - p_j          p_j = e^(x_j - m - log(s))
 *   H = log(s) - t / s               dH / dx_j = -p_j (log(p_j) + H)            0 where p_j is
 *
 * so that an action of logit -infinity has no part in the entropy. Where there are more actions than FEW, m, s and t are
 * those of the columns so far, scaled to the new m where one is larger. */
#include "kernels/policy/policy.h"

typedef struct {
    const real *logits, *grad_log_prob, *grad_entropy; /* of these gradients NULL: 0 */
    const int64_t *action;                             /* NULL: no l */
    real *log_prob, *entropy, *grad;                   /* those that are wanted */
    objective objective;
    double *partial;
    int64_t rows, actions;
} categorical;

/* m, log(s) and t / s of a strip, a lane a row. sheet: the last of its columns, side by side. */
typedef struct {
    vreal most, log_sum, weighted;
} moments;

FDL_INLINE moments moments_of(const categorical *c, int64_t row, int64_t rows, real *sheet)
{
    const vreal none = vset1((real)-INFINITY);
    double sum[LANES] = {0}, weighted[LANES] = {0};
    vreal most = none;
    for (int64_t first = 0; first < c->actions; first += FEW) {
        const int64_t count = min64(FEW, c->actions - first);
        side_by_side(c->logits + row * c->actions + first, c->actions, rows, count, sheet);
        vreal larger = most, s = {0}, t = {0};
        for (int64_t k = 0; k < count; k++)
            larger = vmax(vload(sheet + k * LANES), larger); /* NaN may be passed over: the sum has it */
        const vreal shift = vselect((most == larger) | (most == none), s, most - larger), factor = vexp(shift);
        const vreal at = vselect(larger == none, s, larger);
        for (int64_t k = 0; k < count; k++) {
            const vreal below = vload(sheet + k * LANES) - at, e = vexp(below);
            s += e;
            t += vselect(e == 0, e, e * below);
        }
        FDL_UNROLL
        for (int l = 0; l < LANES; l++) {
            weighted[l] = (double)factor[l] * (weighted[l] + (double)shift[l] * sum[l]);
            sum[l] *= (double)factor[l];
        }
        fold(sum, s);
        fold(weighted, t);
        most = larger;
    }
    const vreal total = folded(sum);
    return (moments){most, vlog(total), folded(weighted) / total};
}

/* The gradient in all columns of a strip, given those in l and in H. */
FDL_INLINE void gradient_strip(const categorical *c, int64_t row, int64_t rows, const moments *m, vreal g_log_prob,
                               vreal g_entropy, const int64_t *action, real *sheet)
{
    const vreal entropy = m->log_sum - m->weighted, zero = {0};
    real *grad = c->grad + row * c->actions, of_action[LANES];
    for (int64_t first = 0; first < c->actions; first += FEW) {
        const int64_t count = min64(FEW, c->actions - first);
        if (c->actions > FEW)
            side_by_side(c->logits + row * c->actions + first, c->actions, rows, count, sheet);
        for (int64_t k = 0; k < count; k++) {
            const vreal log_p = vload(sheet + k * LANES) - m->most - m->log_sum, p = vexp(log_p);
            const vreal spread = vselect(p == 0, zero, p * (log_p + entropy));
            vstore(sheet + k * LANES, -p * g_log_prob - spread * g_entropy);
        }
        back_in_rows(sheet, c->actions, rows, count, grad + first);
    }
    vstore(of_action, g_log_prob);
    for (int64_t l = 0; c->action && l < rows; l++)
        grad[l * c->actions + action[l]] += of_action[l];
}

/* A strip of `rows` <= LANES rows: what is wanted of it; what it adds to the loss goes to *sum. */
FDL_INLINE int strip(const categorical *c, int64_t row, int64_t rows, double *sum)
{
    real sheet[FEW * LANES], chosen[LANES] = {0};
    int64_t action[LANES];
    for (int64_t l = 0; c->action && l < rows; l++) {
        /* Read once: another Python thread may have written the array since all of them were checked. */
        action[l] = __atomic_load_n(c->action + row + l, __ATOMIC_RELAXED);
        if ((uint64_t)action[l] >= (uint64_t)c->actions)
            return FDL_BAD_ACTION;
        chosen[l] = c->logits[(row + l) * c->actions + action[l]];
    }
    const moments m = moments_of(c, row, rows, sheet);
    vreal log_prob = vload(chosen) - m.most - m.log_sum, entropy = m.log_sum - m.weighted;
    store_if(c->log_prob, row, log_prob, rows);
    store_if(c->entropy, row, entropy, rows);
    if (c->objective.advantage) {
        *sum += objective_strip(&c->objective, row, rows, &log_prob, &entropy);
    } else {
        log_prob = load_or_0(c->grad_log_prob, row, rows);
        entropy = load_or_0(c->grad_entropy, row, rows);
    }
    if (c->grad)
        gradient_strip(c, row, rows, &m, log_prob, entropy, action, sheet);
    return FDL_OK;
}

static int pieces_task(void *context, int64_t begin, int64_t end)
{
    const categorical c = *(const categorical *)context; /* a copy, which no store can change */
    const int64_t block = piece_rows(c.actions);
    int status = FDL_OK;
    for (int64_t piece = begin; piece < end; piece++) {
        double sum = 0;
        const int64_t last = min64((piece + 1) * block, c.rows);
        for (int64_t row = piece * block; row < last && status == FDL_OK; row += LANES)
            status = strip(&c, row, min64(LANES, last - row), &sum);
        c.partial[piece] = sum;
    }
    return status;
}

static int run(categorical *c, int64_t rows, int64_t actions, real *loss)
{
    c->rows = rows, c->actions = actions;
    int64_t wrong = 0;
    for (int64_t i = 0; c->action && i < rows; i++)
        wrong |= (uint64_t)c->action[i] >= (uint64_t)actions;
    return wrong ? FDL_BAD_ACTION : run_pieces(rows, actions, pieces_task, c, &c->partial, loss);
}

int fdl_categorical(const real *logits, const int64_t *action, real *log_prob, real *entropy, int64_t rows,
                    int64_t actions)
{
    categorical c = {.logits = logits, .action = action, .log_prob = log_prob, .entropy = entropy};
    return run(&c, rows, actions, NULL);
}

int fdl_categorical_backward(const real *grad_log_prob, const real *grad_entropy, const real *logits,
                             const int64_t *action, real *grad_logits, int64_t rows, int64_t actions)
{
    categorical c = {.logits = logits, .grad_log_prob = grad_log_prob, .grad_entropy = grad_entropy};
    c.action = action, c.grad = grad_logits;
    return run(&c, rows, actions, NULL);
}

int fdl_categorical_policy_loss(const real *grad_output, const real *logits, const int64_t *action,
                                const real *advantage, const real *old_log_prob, real *loss, real *grad_logits,
                                int64_t rows, int64_t actions, double clip, double entropy_weight)
{
    categorical c = {.logits = logits, .action = action, .grad = grad_logits};
    c.objective = objective_of(advantage, old_log_prob, grad_output, rows, clip, entropy_weight);
    return run(&c, rows, actions, loss);
}
