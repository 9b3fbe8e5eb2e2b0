/* Optimizers: one pass over the parameters, in place.
 *
 *   sgd_step   g = (maximize ? -grad : grad) + weight_decay param
 *              v = first ? g : momentum v + (1 - dampening) g         (v is momentum_buffer; without momentum, g)
 *              param -= lr (nesterov ? g + momentum v : v)
 *
 * All arrays [size]; nothing is summed, all arithmetic is in `real`. */
#include "simd.h"

/* Below this many elements a second thread costs more than it saves. */
enum { GRAIN = 1 << 15 };

typedef struct {
    real *param, *momentum_buffer;
    const real *grad;
    real lr, momentum, undamped, weight_decay; /* undamped = 1 - dampening */
    bool decays, first, nesterov, maximize;
} sgd;

/* The new parameters; *v is updated. */
FDL_INLINE vreal sgd_update(const sgd *s, vreal param, vreal grad, vreal *v, const bool has_momentum)
{
    vreal g = s->maximize ? -grad : grad;
    if (s->decays) /* or 0 times an infinite parameter would be NaN */
        g += s->weight_decay * param;
    vreal step = g;
    if (has_momentum) {
        *v = s->first ? g : s->momentum * *v + s->undamped * g;
        step = s->nesterov ? g + s->momentum * *v : *v;
    }
    return param - s->lr * step;
}

FDL_INLINE void sgd_loop(const sgd *s, int64_t i, int64_t end, const bool has_momentum)
{
    vreal v = {0};
    for (; i + LANES <= end; i += LANES) { /* main loop */
        if (has_momentum)
            v = vload(s->momentum_buffer + i);
        vstore(s->param + i, sgd_update(s, vload(s->param + i), vload(s->grad + i), &v, has_momentum));
        if (has_momentum)
            vstore(s->momentum_buffer + i, v);
    }
    if (i < end) { /* tail */
        const int64_t n = end - i;
        const vreal param = vload_first(s->param + i, n), grad = vload_first(s->grad + i, n);
        if (has_momentum)
            v = vload_first(s->momentum_buffer + i, n);
        vstore_first(s->param + i, sgd_update(s, param, grad, &v, has_momentum), n);
        if (has_momentum)
            vstore_first(s->momentum_buffer + i, v, n);
    }
}

static int sgd_range(void *context, int64_t begin, int64_t end)
{
    const sgd s = *(const sgd *)context; /* a copy, which the stores below cannot change */
    if (s.momentum_buffer)
        sgd_loop(&s, begin, end, true);
    else
        sgd_loop(&s, begin, end, false);
    return FDL_OK;
}

int fdl_sgd_step(real *param, const real *grad, real *momentum_buffer, int64_t size, int64_t first, double lr,
                 double momentum, double dampening, double weight_decay, int64_t nesterov, int64_t maximize)
{
    sgd s = {
        .param = param,
        .momentum_buffer = momentum != 0 ? momentum_buffer : NULL,
        .grad = grad,
        .lr = (real)lr,
        .momentum = (real)momentum,
        .undamped = (real)(1 - dampening),
        .weight_decay = (real)weight_decay,
        .decays = weight_decay != 0,
        .first = first,
        .nesterov = nesterov,
        .maximize = maximize,
    };
    return fdl_parallel(size, GRAIN, sgd_range, &s);
}
