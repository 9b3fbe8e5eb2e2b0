/* Average and power-average pooling over the volumes [depth, height, width] of x.
 *
 *   avg_pool   y = sum over the window / divisor; the two steps of pooling.h
 *   lp_pool    y = (kernel volume avg_pool(x^p))^(1 / p)
 *
 * The divisor is a product of one factor for each dimension: the elements that the window sees, or with
 * count_include_pad the positions that lie within the padded input; or it is given. Sums run in `real`: over the rows
 * of a window, then over its taps along a row. Where one window sees everything, which may be 10^6 elements and more,
 * partial sums of at most CHUNK terms a lane go on in double. */
#define POOL_SUMS 1
#include "kernels/pooling/pooling.h"

/* Factors of the divisor along one dimension, [out] in whole vectors. */
static real *counts(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t padding_end,
                    int64_t dilation, bool include_pad, bool ones)
{
    const int64_t rounded = ceil_div(out, LANES) * LANES, reach = (kernel - 1) * dilation;
    real *count = fdl_scratch(max64(1, rounded) * (int64_t)sizeof(real));
    for (int64_t i = 0; count && i < rounded; i++) {
        const int64_t start = i * stride - padding;
        int64_t n = 1;
        if (ones || i >= out)
            n = 1;
        else if (stride > 0 && start >= 0 && start + reach < size)
            n = kernel;
        else if (stride > 0 && include_pad)
            n = min64(kernel, ceil_div(size + padding_end - start, dilation));
        else
            n = span_at(i, size, out, kernel, stride, padding, dilation).count;
        count[i] = (real)max64(1, n); /* a window of nothing but padding: 0 */
    }
    return count;
}

static bool prepare(pooling *p, int64_t count_include_pad, int64_t divisor_override)
{
    const fdl_window *w = p->w;
    const bool include = count_include_pad, ones = divisor_override != 0;
    if (!pooling_prepare(p))
        return false;
    p->depth_count = counts(w->depth, w->out_depth, w->kernel_depth, w->stride_depth, w->padding_depth,
                            w->padding_end_depth, w->dilation_depth, include, ones);
    p->height_count = counts(w->height, w->out_height, w->kernel_height, w->stride_height, w->padding_height,
                             w->padding_end_height, w->dilation_height, include, ones);
    p->width_count = counts(w->width, w->out_width, w->kernel_width, w->stride_width, w->padding_width,
                            w->padding_end_width, w->dilation_width, include, ones);
    if (!p->depth_count || !p->height_count || !p->width_count)
        return false;
    for (int64_t i = 0; ones && i < w->out_depth; i++)
        p->depth_count[i] = (real)divisor_override;
    return true;
}

/* ---- one window that sees everything ---- */

static double total(const real *x, int64_t size)
{
    enum { MANY = 4, CHUNK = 64 * MANY * LANES }; /* independent sums; terms before double */
    double sum = 0;
    for (int64_t begin = 0; begin < size; begin += CHUNK) {
        const int64_t end = min64(size, begin + CHUNK);
        vreal part[MANY] = {{0}};
        int64_t i = begin;
        for (; i + MANY * LANES <= end; i += MANY * LANES) { /* main loop */
            FDL_UNROLL
            for (int k = 0; k < MANY; k++)
                part[k] += vload(x + i + k * LANES);
        }
        for (; i < end; i += LANES) /* tail */
            part[0] += vload_up_to(x + i, end - i);
        sum += vsum_double((part[0] + part[1]) + (part[2] + part[3]));
    }
    return sum;
}

FDL_INLINE double whole_divisor(const pooling *p)
{
    return (double)*p->depth_count * (double)*p->height_count * (double)*p->width_count;
}

static int whole_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const double divisor = whole_divisor(p);
    for (int64_t i = begin; i < end; i++)
        p->y[i] = (real)(total(p->x + i * p->volume, p->volume) / divisor);
    return FDL_OK;
}

static int whole_backward(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    for (int64_t i = begin; i < end; i++) {
        const vreal v = vset1((real)((double)p->grad_output[i] / whole_divisor(p)));
        real *to = p->grad_input + i * p->volume;
        for (int64_t j = 0; j < p->volume; j += LANES) /* main loop and tail */
            vstore_up_to(to + j, v, p->volume - j);
    }
    return FDL_OK;
}

/* ---- forward ---- */

static int forward_rows(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    return fold_out_rows(p, p->x, p->y, begin, end);
}

int fdl_avg_pool(const real *x, real *y, const fdl_window *window, int64_t count_include_pad, int64_t divisor_override)
{
    const fdl_mark mark = fdl_scratch_mark();
    pooling p = {.w = window, .x = x, .y = y};
    int status = FDL_OUT_OF_MEMORY;
    const bool ready = prepare(&p, count_include_pad, divisor_override);
    if (ready && !p.whole && pool_beside_pays(window)) {
        beside b = {.p = &p, .window = pool_beside_window(window), .run = forward_rows};
        b.count = window->out_depth * window->out_height;
        b.side.w = &b.window;
        status =
            prepare(&b.side, count_include_pad, divisor_override) ? over_blocks(&b, beside_task) : FDL_OUT_OF_MEMORY;
    } else if (ready) {
        status = p.whole ? over_planes(&p, whole_planes) : over_rows(&p, forward_rows);
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- backward ---- */

typedef struct {
    row_cursor c;
    real *back;    /* a row of grad_output, divided, between zeros */
    real *between; /* the same, every stride-th element, zeros between them too */
} giver;

static bool giver_make(const pooling *p, giver *g)
{
    if (!row_cursor_make(p, &g->c, p->line, 0))
        return false;
    g->back = lay_out(p);
    g->between = lay_out(p);
    return g->back && g->between;
}

/* The same as gather_line, one window after another: from the last, so that sums are added up in the same order. */
static void scatter_line(const pooling *p, const giver *g)
{
    const int64_t dilation = p->w->dilation_width;
    real *line = g->c.line + p->margin;
    memset(line, 0, (size_t)p->row * sizeof(real));
    for (int64_t j = p->w->out_width - 1; j >= 0; j--) {
        const span s = p->width[j];
        if (p->inner == 1 && dilation == 1) {
            const vreal v = vset1(g->back[j]);
            real *to = line + s.first;
            int64_t i = 0;
            for (; i + LANES <= s.count; i += LANES) /* main loop */
                vstore(to + i, vload(to + i) + v);
            for (; i < s.count; i++) /* tail */
                to[i] += g->back[j];
            continue;
        }
        for (int64_t t = 0; t < s.count; t++) {
            real *to = line + (s.first + t * dilation) * p->inner;
            const real *back = g->back + j * p->inner;
            for (int64_t i = 0; i < p->inner; i += LANES) /* main loop and tail */
                vstore_up_to(to + i, vload_up_to(to + i, p->inner - i) + vload_up_to(back + i, p->inner - i),
                             p->inner - i);
        }
    }
}

/* The next row of y, whose gradient is grad_output, to its rows of grad_input, a plane. */
static void give_back(const pooling *p, giver *g, const real *grad_output, real *grad_input, int64_t *zeroed)
{
    const fdl_window *w = p->w;
    row_cursor_next(p, &g->c);
    const real rows = p->depth_count[g->c.depth] * p->height_count[g->c.height];
    if (p->inner == 1) {
        for (int64_t j = 0; j < w->out_width; j += LANES) /* main loop and tail */
            vstore_up_to(g->back + j,
                         vload_up_to(grad_output + j, w->out_width - j) / (vload(p->width_count + j) * rows),
                         w->out_width - j);
    } else {
        for (int64_t j = 0; j < w->out_width; j++) {
            const real *from = grad_output + j * p->inner;
            for (int64_t i = 0; i < p->inner; i += LANES) /* main loop and tail */
                vstore_up_to(g->back + j * p->inner + i,
                             vload_up_to(from + i, p->inner - i) / (p->width_count[j] * rows), p->inner - i);
        }
    }
    if (p->path <= PICKED && w->stride_width <= 2) {
        gather_line(p, g->back, NULL, w->stride_width, g->c.line);
    } else if (p->path <= PICKED) {
        for (int64_t j = 0; j < w->out_width; j++)
            g->between[j * w->stride_width] = g->back[j];
        gather_line(p, g->between, NULL, 1, g->c.line);
    } else {
        scatter_line(p, g);
    }
    zero_listed(p, &g->c, grad_input, zeroed);
    spread_rows(p, &g->c, g->c.line + p->margin, NULL, grad_input);
}

static int backward_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const fdl_mark mark = fdl_scratch_mark();
    giver g;
    const bool ready = giver_make(p, &g);
    row_cursor_start(p, &g.c, begin * rows);
    for (int64_t plane = begin; ready && plane < end; plane++) {
        real *grad_input = p->grad_input + plane * p->volume;
        int64_t zeroed = 0;
        for (int64_t i = plane * rows; i < (plane + 1) * rows; i++)
            give_back(p, &g, p->grad_output + i * p->out_row, grad_input, &zeroed);
        zero_rest(p, grad_input, zeroed);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

int fdl_avg_pool_backward(const real *grad_output, real *grad_input, const fdl_window *window,
                          int64_t count_include_pad, int64_t divisor_override)
{
    const fdl_mark mark = fdl_scratch_mark();
    pooling p = {.w = window, .grad_output = grad_output, .grad_input = grad_input};
    int status = FDL_OUT_OF_MEMORY;
    const bool ready = prepare(&p, count_include_pad, divisor_override);
    if (ready && !p.whole && pool_beside_pays(window)) {
        beside b = {.p = &p, .window = pool_beside_window(window), .run = backward_planes, .count = 1};
        b.side.w = &b.window;
        status =
            prepare(&b.side, count_include_pad, divisor_override) ? over_blocks(&b, beside_task) : FDL_OUT_OF_MEMORY;
    } else if (ready) {
        status = over_planes(&p, p.whole ? whole_backward : backward_planes);
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- powers: a plane's, then its average, then the root ---- */

/* x^p, as exact as it can be where that is cheap. */
static real power(real x, double p)
{
    if (p == 1)
        return x;
    if (p == 2)
        return x * x;
    if (p == 3)
        return x * x * x;
    if (p == 0.5)
        return (real)sqrt((double)x); /* correctly rounded for float as well */
    if (p == -0.5)
        return (real)(1 / sqrt((double)x)); /* as torch, not as pow, of -0 and -infinity */
    return sizeof(real) == 4 ? (real)powf((float)x, (float)p) : (real)pow((double)x, p);
}

static void powers(const real *x, real *to, int64_t size, double p)
{
    if (p == 2) {
        for (int64_t i = 0; i < size; i += LANES) { /* main loop and tail */
            const vreal v = vload_up_to(x + i, size - i);
            vstore_up_to(to + i, v * v, size - i);
        }
        return;
    }
    for (int64_t i = 0; i < size; i++)
        to[i] = power(x[i], p);
}

FDL_INLINE real kernel_volume(const fdl_window *w)
{
    return (real)(w->kernel_depth * w->kernel_height * w->kernel_width);
}

static int lp_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const fdl_mark mark = fdl_scratch_mark();
    real *power_x = fdl_scratch(p->volume * (int64_t)sizeof(real));
    int status = power_x ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t plane = begin; status == FDL_OK && plane < end; plane++) {
        real *y = p->y + plane * p->positions;
        powers(p->x + plane * p->volume, power_x, p->volume, p->norm_type);
        status = fold_out_rows(p, power_x, y, 0, rows);
        for (int64_t i = 0; status == FDL_OK && i < p->positions; i++)
            y[i] = power(y[i] * kernel_volume(p->w), 1 / p->norm_type);
    }
    fdl_scratch_release(mark);
    return status;
}

/* With a = avg_pool(x^p) and n the kernel volume, dy/da = n * (n * a)^(1/p - 1) / p * sign(a)^2, where torch's sign of
 * NaN is 0, and taken as 0 where a is 0; da/dx is avg_pool's, and dx^p = p * x^(p - 1). */
static int lp_backward_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const double norm = p->norm_type;
    const fdl_mark mark = fdl_scratch_mark();
    real *power_x = fdl_scratch(p->volume * (int64_t)sizeof(real));
    real *grad = fdl_scratch(p->positions * (int64_t)sizeof(real));
    giver g;
    int status = power_x && grad && giver_make(p, &g) ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t plane = begin; status == FDL_OK && plane < end; plane++) {
        const real *x = p->x + plane * p->volume, *grad_output = p->grad_output + plane * p->positions;
        real *grad_input = p->grad_input + plane * p->volume;
        row_cursor_start(p, &g.c, 0);
        powers(x, power_x, p->volume, norm);
        status = fold_out_rows(p, power_x, grad, 0, rows);
        for (int64_t i = 0; i < p->positions; i++) {
            const real n = kernel_volume(p->w), a = grad[i];
            const real back = grad_output[i] * ((real)(1 / norm) * power(a * n, 1 / norm - 1)) * n;
            grad[i] = a == 0 ? 0 : a != a ? back * 0 : back;
        }
        int64_t zeroed = 0;
        for (int64_t i = 0; status == FDL_OK && i < rows; i++)
            give_back(p, &g, grad + i * p->out_row, grad_input, &zeroed);
        zero_rest(p, grad_input, zeroed);
        powers(x, power_x, p->volume, norm - 1);
        for (int64_t i = 0; i < p->volume; i++)
            grad_input[i] *= (real)norm * power_x[i];
    }
    fdl_scratch_release(mark);
    return status;
}

/* The work of a power is that of some tens of additions. */
static int over_powers(const pooling *p, fdl_task *task)
{
    const int64_t work = max64(1, p->volume + p->positions) * (p->norm_type == 2 ? 2 : 16);
    return fdl_parallel(p->planes, ceil_div(POOL_GRAIN, work), task, (void *)p);
}

int fdl_lp_pool(const real *x, real *y, const fdl_window *window, double norm_type)
{
    const fdl_mark mark = fdl_scratch_mark();
    pooling p = {.w = window, .x = x, .y = y, .norm_type = norm_type};
    const int status = prepare(&p, 1, 0) ? over_powers(&p, lp_planes) : FDL_OUT_OF_MEMORY;
    fdl_scratch_release(mark);
    return status;
}

int fdl_lp_pool_backward(const real *grad_output, const real *x, real *grad_input, const fdl_window *window,
                         double norm_type)
{
    const fdl_mark mark = fdl_scratch_mark();
    pooling p = {.w = window, .x = x, .grad_output = grad_output, .grad_input = grad_input, .norm_type = norm_type};
    const int status = prepare(&p, 1, 0) ? over_powers(&p, lp_backward_planes) : FDL_OUT_OF_MEMORY;
    fdl_scratch_release(mark);
    return status;
}
