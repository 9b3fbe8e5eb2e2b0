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

/* The factor of the divisor that is the i-th window's along one dimension. */
FDL_INLINE real count_at(int64_t i, int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                         int64_t padding_end, int64_t dilation, bool include_pad)
{
    const int64_t start = i * stride - padding, reach = (kernel - 1) * dilation;
    int64_t n;
    if (stride > 0 && start >= 0 && start + reach < size)
        n = kernel;
    else if (stride > 0 && include_pad)
        n = min64(kernel, ceil_div(size + padding_end - start, dilation));
    else
        n = span_at(i, size, out, kernel, stride, padding, dilation).count;
    return (real)max64(1, n); /* a window of nothing but padding: 0 */
}

FDL_INLINE real depth_count_at(const pooling *p, int64_t i)
{
    const fdl_window *w = p->whole_w;
    if (p->divisor_override)
        return (real)p->divisor_override;
    return count_at(i, w->depth, w->out_depth, w->kernel_depth, w->stride_depth, w->padding_depth, w->padding_end_depth,
                    w->dilation_depth, p->include_pad);
}
FDL_INLINE real height_count_at(const pooling *p, int64_t i)
{
    const fdl_window *w = p->whole_w;
    if (p->divisor_override)
        return 1;
    return count_at(i, w->height, w->out_height, w->kernel_height, w->stride_height, w->padding_height,
                    w->padding_end_height, w->dilation_height, p->include_pad);
}
__attribute__((cold)) static FDL_OUTLINE real far_count(const pooling *p, const row_cursor *c)
{
    return depth_count_at(p, c->depth) * height_count_at(p, c->height);
}

FDL_INLINE real rows_count(const pooling *p, const row_cursor *c)
{
    return __builtin_expect(p->far, 0) ? far_count(p, c) : p->depth_count[c->depth] * p->height_count[c->height];
}

FDL_INLINE real quad_divisor(const pooling *p) { return p->divisor_override ? (real)p->divisor_override : 4; }

/* The factors of all windows of a depth or a height. */
FDL_INLINE real *counts(const pooling *p, int64_t out, real (*count)(const pooling *p, int64_t i))
{
    real *to = fdl_scratch(max64(1, out) * (int64_t)sizeof(real));
    for (int64_t i = 0; to && i < out; i++)
        to[i] = count(p, i);
    return to;
}

/* Those of the cut's columns, in whole vectors. */
static real *width_counts(const pooling *p)
{
    const fdl_window w = *p->whole_w;
    const int64_t out = p->w->out_width, rounded = max64(1, ceil_div(out, LANES)) * LANES, column = p->column;
    const bool ones = p->divisor_override, include_pad = p->include_pad;
    /* The windows that are wholly inside see all of the kernel's taps. */
    const int64_t room = w.width - (w.kernel_width - 1) * w.dilation_width + w.padding_width;
    const bool any = w.stride_width > 0 && room > 0 && !ones;
    const int64_t first = any ? max64(0, ceil_div(w.padding_width, w.stride_width) - column) : 0;
    const int64_t last = any ? min64(out, ceil_div(room, w.stride_width) - column) : 0;
    real *to = fdl_scratch(rounded * (int64_t)sizeof(real));
    for (int64_t i = 0; to && i < rounded; i = i == first ? max64(i + 1, last) : i + 1)
        to[i] = ones || i >= out ? 1
                                 : count_at(column + i, w.width, w.out_width, w.kernel_width, w.stride_width,
                                            w.padding_width, w.padding_end_width, w.dilation_width, include_pad);
    for (int64_t i = first + 1; to && i < last; i++)
        to[i] = (real)w.kernel_width;
    return to;
}

static real *ones(int64_t size)
{
    real *to = fdl_scratch((size + LANES) * (int64_t)sizeof(real));
    for (int64_t i = 0; to && i < size + LANES; i++)
        to[i] = 1;
    return to;
}

static bool prepare(pooling *p)
{
    const fdl_window *w = p->w;
    if (!pooling_prepare(p))
        return false;
    p->depth_count = p->far ? NULL : counts(p, w->out_depth, depth_count_at);
    p->height_count = p->far ? NULL : counts(p, w->out_height, height_count_at);
    p->width_count = width_counts(p);
    p->width_divisor = p->partial ? ones(w->out_width) : p->width_count;
    return (p->far || (p->depth_count && p->height_count)) && p->width_count && p->width_divisor;
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
    const row_cursor first = {0};
    return (double)rows_count(p, &first) * (double)*p->width_count;
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

static int forward(pooling *p)
{
    if (p->whole)
        return over_planes(p, whole_planes);
    if (pool_beside_pays(p) && !pool_is_quads(p))
        return over_blocks(p, prepare, forward_rows, p->w->out_depth * p->w->out_height, beside_task);
    return over_rows(p, forward_rows);
}

int fdl_avg_pool(const real *x, real *y, const fdl_window *window, int64_t count_include_pad, int64_t divisor_override)
{
    pooling p = {
        .whole_w = window, .x = x, .y = y, .include_pad = count_include_pad, .divisor_override = divisor_override};
    pooling_describe(&p);
    return over_cuts(&p, prepare, forward);
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
    const real rows = rows_count(p, &g->c);
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
            give_back(p, &g, p->grad_output + i * p->out_pitch + p->out_first, grad_input, &zeroed);
        zero_rest(p, grad_input, zeroed);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

static int backward(pooling *p)
{
    if (p->whole)
        return over_planes(p, whole_backward);
    if (pool_beside_pays(p))
        return over_blocks(p, prepare, backward_planes, 1, beside_task);
    return over_planes(p, backward_planes);
}

int fdl_avg_pool_backward(const real *grad_output, real *grad_input, const fdl_window *window,
                          int64_t count_include_pad, int64_t divisor_override)
{
    pooling p = {.whole_w = window,
                 .grad_output = grad_output,
                 .grad_input = grad_input,
                 .include_pad = count_include_pad,
                 .divisor_override = divisor_override};
    pooling_describe(&p);
    const int status = is_cut(&p) ? over_planes(&p, zero_planes) : FDL_OK;
    return status == FDL_OK ? over_cuts(&p, prepare, backward) : status;
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

/* Of the cut's columns of a plane, its powers side by side. */
static void powers_of_cut(const pooling *p, const real *x, real *to, double norm)
{
    const int64_t rows = p->w->depth * p->w->height;
    if (!p->cut)
        powers(x, to, rows * p->row, norm);
    for (int64_t i = 0; p->cut && i < rows; i++)
        powers(x + i * p->pitch + p->first, to + i * p->row, p->row, norm);
}

/* The cut where there is nothing else in a row: of the array of its powers. */
static pooling of_powers(const pooling *p)
{
    pooling q = *p;
    q.pitch = q.row, q.first = 0;
    return q;
}

static int lp_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context, q = of_powers(p);
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const fdl_mark mark = fdl_scratch_mark();
    real *power_x = fdl_scratch(p->w->depth * p->w->height * p->row * (int64_t)sizeof(real));
    int status = power_x ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t plane = begin; status == FDL_OK && plane < end; plane++) {
        real *y = p->y + plane * p->positions;
        powers_of_cut(p, p->x + plane * p->volume, power_x, p->norm_type);
        status = fold_out_rows(&q, power_x, y, 0, rows);
        for (int64_t i = 0; status == FDL_OK && p->last && i < rows; i++)
            for (int64_t j = i * p->out_pitch + p->out_first; j < i * p->out_pitch + p->out_first + p->out_row; j++)
                y[j] = power(y[j] * kernel_volume(p->whole_w), 1 / p->norm_type);
    }
    fdl_scratch_release(mark);
    return status;
}

/* With a = avg_pool(x^p) and n the kernel volume, dy/da = n * (n * a)^(1/p - 1) / p * sign(a)^2, where torch's sign of
 * NaN is 0, and taken as 0 where a is 0; da/dx is avg_pool's, and dx^p = p * x^(p - 1). */
static real lp_gradient(const pooling *p, real grad_output, real a)
{
    const double norm = p->norm_type;
    const real n = kernel_volume(p->whole_w);
    const real back = grad_output * ((real)(1 / norm) * power(a * n, 1 / norm - 1)) * n;
    return a == 0 ? 0 : a != a ? back * 0 : back;
}

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
        for (int64_t i = 0; i < p->positions; i++)
            grad[i] = lp_gradient(p, grad_output[i], grad[i]);
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

/* The same of long rows. What the windows of a cut's columns gave has to be known before it is given back; both are
 * p->y [rows, columns]. */
static int lp_cut_forward(pooling *p)
{
    pooling q = of_powers(p);
    q.out_pitch = q.out_row, q.out_first = 0;
    real *power_x = fdl_scratch(p->w->depth * p->w->height * p->row * (int64_t)sizeof(real));
    if (!power_x)
        return FDL_OUT_OF_MEMORY;
    powers_of_cut(p, p->x, power_x, p->norm_type);
    return fold_out_rows(&q, power_x, p->y, 0, p->w->out_depth * p->w->out_height);
}

static int lp_cut_backward(pooling *p)
{
    giver g;
    if (!giver_make(p, &g))
        return FDL_OUT_OF_MEMORY;
    row_cursor_start(p, &g.c, 0);
    for (int64_t i = 0; i < p->w->out_depth * p->w->out_height; i++)
        give_back(p, &g, p->y + i * p->out_row, p->grad_input, NULL);
    return FDL_OK;
}

static int lp_backward_long_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const cut_size size = size_of_cuts(p);
    int status = FDL_OK;
    for (int64_t plane = begin; status == FDL_OK && plane < end; plane++) {
        pooling q = *p;
        q.x += plane * p->volume, q.grad_input += plane * p->volume;
        memset(q.grad_input, 0, (size_t)p->volume * sizeof(real));
        for (int64_t column = 0; status == FDL_OK && column < p->out_pitch; column += size.columns) {
            const int64_t columns = min64(size.columns, p->out_pitch - column);
            const real *grad_output = p->grad_output + plane * p->positions + column;
            const fdl_mark mark = fdl_scratch_mark();
            q.y = fdl_scratch(rows * columns * (int64_t)sizeof(real));
            status = q.y ? over_taps(&q, size, column, prepare, lp_cut_forward) : FDL_OUT_OF_MEMORY;
            for (int64_t i = 0; status == FDL_OK && i < rows * columns; i++)
                q.y[i] = lp_gradient(p, grad_output[i / columns * p->out_pitch + i % columns], q.y[i]);
            if (status == FDL_OK)
                status = over_taps(&q, size, column, prepare, lp_cut_backward);
            fdl_scratch_release(mark);
        }
        for (int64_t i = 0; i < p->volume; i += POOL_SEGMENT) {
            real power_x[POOL_SEGMENT];
            const int64_t count = min64(POOL_SEGMENT, p->volume - i);
            powers(q.x + i, power_x, count, p->norm_type - 1);
            for (int64_t j = 0; j < count; j++)
                q.grad_input[i + j] *= (real)p->norm_type * power_x[j];
        }
    }
    return status;
}

/* The work of a power is that of some tens of additions. */
static int over_powers(const pooling *p, fdl_task *task)
{
    const int64_t work = max64(1, p->volume + p->positions) * (p->norm_type == 2 ? 2 : 16);
    return fdl_parallel(p->planes, ceil_div(POOL_GRAIN, work), task, (void *)p);
}

static int lp_forward(pooling *p) { return over_powers(p, lp_planes); }
static int lp_backward(pooling *p) { return over_powers(p, lp_backward_planes); }

int fdl_lp_pool(const real *x, real *y, const fdl_window *window, double norm_type)
{
    pooling p = {.whole_w = window, .x = x, .y = y, .include_pad = true, .norm_type = norm_type};
    pooling_describe(&p);
    p.whole = false; /* it is powers that are summed */
    return over_cuts(&p, prepare, lp_forward);
}

int fdl_lp_pool_backward(const real *grad_output, const real *x, real *grad_input, const fdl_window *window,
                         double norm_type)
{
    pooling p = {.whole_w = window,
                 .x = x,
                 .grad_output = grad_output,
                 .grad_input = grad_input,
                 .include_pad = true,
                 .norm_type = norm_type};
    pooling_describe(&p);
    p.whole = false; /* it is powers that are summed */
    return is_cut(&p) ? over_powers(&p, lp_backward_long_planes) : over_cuts(&p, prepare, lp_backward);
}
