/* Pooling over the planes [height, width] of x [batch, channels, height, width].
 *
 *   max_pool2d   y [out_height, out_width] = the largest element in each window; padding counts as -infinity
 *
 * A window is scanned row by row, and an element wins if it is larger than the best so far, or NaN: the first
 * of equals and the last NaN, as in torch. That order lets the maximum be taken in two steps, along each row of
 * the window and then over its rows, so a kernel costs height + width comparisons an output, not height * width,
 * and windows that overlap share the first step:
 *
 *   line  one row of x between columns of -infinity, long enough that no load needs a bound
 *   best  [slots, columns]  the row maxima at every output column, of the input rows that a window still needs
 *   tap   [slots, columns]  where in the window's row each was found; only for the gradient
 *
 * The gradient finds the positions again in the same order and adds grad_output there, in `real`. */
#include "simd.h"

#include <math.h>

/* Below this many elements a second thread costs more than it saves. */
enum { GRAIN = 1 << 15 };

typedef struct {
    const fdl_window2d *window;
    const real *x, *grad_output;
    real *y, *grad_input;
} pooling;

typedef struct {
    int64_t slots, columns; /* columns is out_width in whole vectors */
    real *line, *best;
    vint *tap;
    int64_t *held; /* [slots] which input row a slot holds; -1: none */
    /* The rows of the present window that are not padding, [count <= kernel_height]: row of x, and its slot. */
    int64_t count, *row, *slot;
} workspace;

static bool make_workspace(const fdl_window2d *w, bool find, workspace *s)
{
    s->slots = 1; /* a power of two: finding a slot is an "and", not a division */
    while (s->slots < (w->kernel_height - 1) * w->dilation_height + 1)
        s->slots *= 2;
    s->columns = ceil_div(w->out_width, LANES) * LANES;
    const int64_t line = s->columns * w->stride_width + (w->kernel_width - 1) * w->dilation_width + 2 * LANES;
    s->line = fdl_scratch(line * (int64_t)sizeof(real));
    s->best = fdl_scratch(s->slots * s->columns * (int64_t)sizeof(real));
    s->tap = find ? fdl_scratch(s->slots * s->columns * (int64_t)sizeof(real)) : NULL;
    s->held = fdl_scratch(s->slots * (int64_t)sizeof(int64_t));
    s->row = fdl_scratch(w->kernel_height * (int64_t)sizeof(int64_t));
    s->slot = fdl_scratch(w->kernel_height * (int64_t)sizeof(int64_t));
    if (!s->line || !s->best || (find && !s->tap) || !s->held || !s->row || !s->slot)
        return false;
    for (int64_t i = 0; i < line; i++)
        s->line[i] = (real)-INFINITY;
    return true;
}

/* Elements p[0], p[stride], p[2 stride], ... */
FDL_INLINE vreal load_strided(const real *p, const int64_t stride)
{
    if (stride == 1)
        return vload(p);
    if (stride == 2)
        return veven(vload(p), vload(p + LANES));
    vreal v;
    for (int i = 0; i < LANES; i++)
        v[i] = p[i * stride];
    return v;
}

/* One comparison of the scan: v wins over the best so far. */
FDL_INLINE vint wins(vreal v, vreal best) { return (v > best) | (v != v); }

/* best, tap [columns]: maxima along the row in `line`. Constants wherever inlined: stride, find. */
FDL_INLINE void row_maxima(const fdl_window2d *w, const workspace *s, real *best, vint *tap, const int64_t stride,
                           const bool find)
{
    const real *p = s->line;
    for (int64_t i = 0; i < s->columns; i += LANES, p += LANES * stride) {
        vreal most = load_strided(p, stride);
        vint at = {0};
        for (int64_t j = 1; j < w->kernel_width; j++) {
            const vreal v = load_strided(p + j * w->dilation_width, stride);
            if (find)
                at = vselect_int(wins(v, most), vset1_int((integer)j), at);
            most = vmax_nan(v, most);
        }
        vstore(best + i, most);
        if (find)
            tap[i / LANES] = at;
    }
}

/* The same at stride 2 without dilation: one pair of loads serves two taps. */
FDL_INLINE void row_maxima_by_two(const workspace *s, real *best, const int64_t kernel_width)
{
    const real *p = s->line;
    for (int64_t i = 0; i < s->columns; i += LANES, p += 2 * LANES) {
        vreal most = {0};
        for (int64_t j = 0; j < kernel_width; j += 2) {
            const vreal low = vload(p + j), high = vload(p + j + LANES);
            most = j == 0 ? veven(low, high) : vmax_nan(veven(low, high), most);
            if (j + 1 < kernel_width)
                most = vmax_nan(vodd(low, high), most);
        }
        vstore(best + i, most);
    }
}

/* Bring input row `row` of the plane x into its slot. */
FDL_INLINE int64_t take_row(const fdl_window2d *w, workspace *s, const real *x, int64_t row, const bool find)
{
    const int64_t slot = row & (s->slots - 1);
    if (s->held[slot] == row)
        return slot;
    s->held[slot] = row;
    real *best = s->best + slot * s->columns, *line = s->line + w->padding_width;
    vint *tap = find ? s->tap + slot * s->columns / LANES : NULL;
    const real *from = x + row * w->width;
    int64_t i = 0;
    for (; i + LANES <= w->width; i += LANES) /* main loop */
        vstore(line + i, vload(from + i));
    if (i < w->width) /* tail */
        vstore(line + i, vload_first_or(from + i, w->width - i, vset1((real)-INFINITY)));
    if (w->stride_width == 1)
        row_maxima(w, s, best, tap, 1, find);
    else if (w->stride_width != 2)
        row_maxima(w, s, best, tap, w->stride_width, find);
    else if (find || w->dilation_width != 1)
        row_maxima(w, s, best, tap, 2, find);
    else if (w->kernel_width == 2)
        row_maxima_by_two(s, best, 2);
    else if (w->kernel_width == 3)
        row_maxima_by_two(s, best, 3);
    else
        row_maxima_by_two(s, best, w->kernel_width);
    return slot;
}

/* Bring in the rows of x, a plane, that the windows of row `out_row` of y cover. */
FDL_INLINE void take_rows(const fdl_window2d *w, workspace *s, const real *x, int64_t out_row, const bool find)
{
    s->count = 0;
    for (int64_t i = 0; i < w->kernel_height; i++) {
        const int64_t row = out_row * w->stride_height - w->padding_height + i * w->dilation_height;
        if (row >= 0 && row < w->height) {
            s->row[s->count] = row;
            s->slot[s->count++] = take_row(w, s, x, row, find);
        }
    }
}

/* y [out_width] = the largest over the rows. */
static void write_maxima(const fdl_window2d *w, const workspace *s, real *y)
{
    for (int64_t i = 0; i < w->out_width; i += LANES) {
        vreal most = vset1((real)-INFINITY);
        for (int64_t r = 0; r < s->count; r++)
            most = vmax_nan(vload(s->best + s->slot[r] * s->columns + i), most);
        if (i + LANES <= w->out_width) /* main loop */
            vstore(y + i, most);
        else /* tail */
            vstore_first(y + i, most, w->out_width - i);
    }
}

/* Add grad_output [out_width] to the elements of grad_input, a plane, that were the largest. */
static void scatter(const fdl_window2d *w, const workspace *s, const real *grad_output, real *grad_input)
{
    if (s->count == 0) /* windows of nothing but padding */
        return;
    for (int64_t i = 0; i < w->out_width; i += LANES) {
        const real *best = s->best + i;
        const vint *tap = s->tap + i / LANES;
        const int64_t taps = s->columns / LANES;
        vreal most = vload(best + s->slot[0] * s->columns);
        vint at_row = {0}, at = tap[s->slot[0] * taps];
        for (int64_t r = 1; r < s->count; r++) {
            const vreal v = vload(best + s->slot[r] * s->columns);
            const vint won = wins(v, most);
            at_row = vselect_int(won, vset1_int((integer)r), at_row);
            at = vselect_int(won, tap[s->slot[r] * taps], at);
            most = vmax_nan(v, most);
        }
        for (int64_t l = 0; l < LANES && i + l < w->out_width; l++) {
            int64_t column = (i + l) * w->stride_width - w->padding_width + at[l] * w->dilation_width;
            while (column < 0) /* nothing above -infinity: the first element that is not padding */
                column += w->dilation_width;
            if (column < w->width)
                grad_input[s->row[at_row[l]] * w->width + column] += grad_output[i + l];
        }
    }
}

FDL_INLINE int pool_planes(const pooling *p, int64_t begin, int64_t end, const bool find)
{
    const fdl_window2d *w = p->window;
    const int64_t size = w->height * w->width, out_size = w->out_height * w->out_width;
    const fdl_mark mark = fdl_scratch_mark();
    workspace s;
    const bool ready = make_workspace(w, find, &s);
    for (int64_t plane = begin; ready && plane < end; plane++) {
        if (find)
            memset(p->grad_input + plane * size, 0, (size_t)size * sizeof(real));
        for (int64_t i = 0; i < s.slots; i++)
            s.held[i] = -1;
        for (int64_t out_row = 0; out_row < w->out_height; out_row++) {
            const int64_t out = plane * out_size + out_row * w->out_width;
            take_rows(w, &s, p->x + plane * size, out_row, find);
            if (find)
                scatter(w, &s, p->grad_output + out, p->grad_input + plane * size);
            else
                write_maxima(w, &s, p->y + out);
        }
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

static int forward_planes(void *context, int64_t begin, int64_t end) { return pool_planes(context, begin, end, false); }

static int backward_planes(void *context, int64_t begin, int64_t end) { return pool_planes(context, begin, end, true); }

static int pool(const pooling *p, fdl_task *task)
{
    const fdl_window2d *w = p->window;
    const int64_t work = max64(1, w->height * w->width + w->out_height * w->out_width);
    return fdl_parallel(w->batch * w->channels, ceil_div(GRAIN, work), task, (void *)p);
}

int fdl_max_pool2d(const real *x, real *y, const fdl_window2d *window)
{
    return pool(&(pooling){.window = window, .x = x, .y = y}, forward_planes);
}

int fdl_max_pool2d_backward(const real *grad_output, const real *x, real *grad_input, const fdl_window2d *window)
{
    return pool(&(pooling){.window = window, .x = x, .grad_output = grad_output, .grad_input = grad_input},
                backward_planes);
}
