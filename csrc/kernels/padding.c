/* Padding of x, of any rank: along each dimension, y [before + size + after] is x [size] between borders,
 *
 *   y[i] = x[i - before], and where i - before is outside of x
 *   constant    value
 *   reflect     x[before - i], x[2 * (size - 1) - (i - before)]: mirrored at the outermost elements
 *   replicate   x[0], x[size - 1]
 *   circular    x[i - before + size], x[i - before - size]; size and x are what is left after cropping
 *
 * A negative before or after crops x: the border of the other side, but a circular one, still sees all of x.
 *
 * Dimensions are walked from the first. The last padded one, with everything after it, is a row: copied whole in
 * the forward pass, added whole in the gradient. Every element of grad_input is first written from the middle of
 * grad_output, which costs no pass of zeros, then the borders are added to it, in `real`. */
#include "vector/sums.h"
#include "vector/runs.h"

/* Below this many elements a second thread costs more than it saves. */
enum { GRAIN = 1 << 17 };
enum { MOST_DIMENSIONS = 64 }; /* as in NumPy */
enum { MOST_BORDER = 32 };     /* elements of a row's border that are looked up, not worked out */

typedef struct {
    int64_t size, before, after;
    int64_t step, out_step; /* elements from one index to the next: in x, in y */
} dimension;

typedef struct {
    dimension dims[MOST_DIMENSIONS + 2];
    int64_t rank, mode;
    const real *from; /* x; or grad_output [like y] */
    real *to;         /* y; or grad_input [like x] */
    real *low;        /* [like `to`] of sums of many terms, what sums.h says; NULL: they are of few */
    real value;
    int64_t borders;           /* elements before and after in a row of single elements, not of a constant; else 0 */
    int64_t seen[MOST_BORDER]; /* which element of x's row each of them is */
} padding;

static int64_t out_size(const dimension *d) { return d->before + d->size + d->after; }

static bool is_plain(const dimension *d) { return d->before == 0 && d->after == 0; }

/* Set the dimensions from geometry [rank, 3], rows of (size, before, after): first those that lead without padding,
 * as one, which threads share; last the row. Neighbours that are not padded are one dimension, after the last padded
 * one they are part of a row's step. undo: those of the padding that takes y back to x.
 * Returns how many elements `to` gets. */
static int64_t take_dimensions(padding *p, const int64_t *geometry, int64_t rank, bool undo)
{
    dimension *dims = p->dims;
    dims[0] = (dimension){.size = 1};
    p->rank = 1;
    for (int64_t i = 0; i < rank; i++) {
        const int64_t size = geometry[3 * i], before = geometry[3 * i + 1], after = geometry[3 * i + 2];
        const dimension next = undo ? (dimension){.size = before + size + after, .before = -before, .after = -after}
                                    : (dimension){.size = size, .before = before, .after = after};
        if (is_plain(&next) && is_plain(&dims[p->rank - 1]))
            dims[p->rank - 1].size *= next.size;
        else
            dims[p->rank++] = next;
    }
    int64_t step = 1;
    if (is_plain(&dims[p->rank - 1])) {
        step = dims[p->rank - 1].size;
        dims[p->rank - 1].size = 1;
        p->rank -= p->rank > 1;
    }
    for (; p->rank < 3; p->rank++) { /* so that there always is a dimension between the first and the row */
        dims[p->rank] = dims[p->rank - 1];
        dims[p->rank - 1] = (dimension){.size = 1};
    }
    int64_t out_step = step;
    for (int64_t i = p->rank - 1; i >= 0; i--) {
        dims[i].step = step;
        dims[i].out_step = out_step;
        step *= dims[i].size;
        out_step *= out_size(&dims[i]);
    }
    return out_step;
}

/* What is left of x after cropping: indices [first_left, last_left). */
FDL_INLINE int64_t first_left(const dimension *d) { return max64(0, -d->before); }
FDL_INLINE int64_t last_left(const dimension *d) { return d->size + min64(0, d->after); }

/* Which index of x stands at index i of y; -1: none. */
FDL_INLINE int64_t source(const dimension *d, int64_t i, int64_t mode)
{
    i -= d->before;
    if (i >= first_left(d) && i < last_left(d))
        return i;
    switch (mode) {
    case FDL_PAD_REFLECT:
        return i < 0 ? -i : i < d->size ? i : 2 * (d->size - 1) - i;
    case FDL_PAD_REPLICATE:
        return max64(0, min64(i, d->size - 1));
    case FDL_PAD_CIRCULAR:
        return i + (i < first_left(d) ? 1 : -1) * (last_left(d) - first_left(d));
    default:
        return -1;
    }
}

/* Constant wherever that matters: many, that there is p->low. */
FDL_INLINE void add(const padding *p, real *y, const real *x, int64_t n, const bool many)
{
    if (many) {
        total_add(y, p->low + (y - p->to), x, n);
        return;
    }
    add_run(y, x, n);
}

/* y [begin, end) of the border of a row, from the whole row x. */
FDL_INLINE void pad_border(const padding *p, const dimension *d, const real *x, real *y, int64_t begin, int64_t end)
{
    if (p->mode == FDL_PAD_CONSTANT)
        fill_run(y + begin * d->step, (end - begin) * d->step, p->value);
    else
        for (int64_t i = begin; i < end; i++)
            copy_run(y + i * d->step, x + source(d, i, p->mode) * d->step, d->step);
}

/* Where the elements of a row's border come from, unless there are many. */
static void look_up_borders(padding *p)
{
    const dimension *d = &p->dims[p->rank - 1];
    p->borders = 0;
    if (d->step != 1 || p->mode == FDL_PAD_CONSTANT || min64(d->before, d->after) < 0 ||
        d->before + d->after > MOST_BORDER)
        return;
    for (int64_t i = 0; i < d->before; i++)
        p->seen[p->borders++] = source(d, i, p->mode);
    for (int64_t i = 0; i < d->after; i++)
        p->seen[p->borders++] = source(d, d->before + d->size + i, p->mode);
}

static void pad_row(const padding *p, const dimension *d, const real *x, real *y)
{
    if (p->borders) {
        for (int64_t i = 0; i < d->before; i++)
            y[i] = x[p->seen[i]];
        copy_run(y + d->before, x, d->size);
        for (int64_t i = d->before; i < p->borders; i++)
            y[i + d->size] = x[p->seen[i]];
        return;
    }
    const int64_t first = first_left(d), last = last_left(d), end = out_size(d);
    if (first >= last) { /* x is cropped away */
        pad_border(p, d, x, y, 0, end);
        return;
    }
    pad_border(p, d, x, y, 0, first + d->before);
    copy_run(y + (first + d->before) * d->step, x + first * d->step, (last - first) * d->step);
    pad_border(p, d, x, y, last + d->before, end);
}

/* Indices [begin, end) of y along a dimension before the row's, and everything in them. */
static void pad_part(const padding *p, int64_t dim, const real *x, real *y, int64_t begin, int64_t end)
{
    const dimension *d = &p->dims[dim], *next = d + 1;
    for (int64_t i = begin; i < end; i++) {
        const int64_t from = source(d, i, p->mode);
        if (from < 0)
            fill_run(y + i * d->out_step, d->out_step, p->value);
        else if (dim + 2 == p->rank)
            pad_row(p, next, x + from * d->step, y + i * d->out_step);
        else
            pad_part(p, dim + 1, x + from * d->step, y + i * d->out_step, 0, out_size(next));
    }
}

/* Items are the indices of y along the first two dimensions. */
static int forward(void *context, int64_t begin, int64_t end)
{
    const padding *p = context;
    const dimension *lead = &p->dims[0];
    const int64_t within = out_size(&p->dims[1]);
    for (int64_t item = begin, stop; item < end; item = stop) {
        const int64_t i = item / within;
        stop = min64(end, (i + 1) * within);
        pad_part(p, 1, p->from + i * lead->step, p->to + i * lead->out_step, item - i * within, stop - i * within);
    }
    return FDL_OK;
}

/* The row of grad_output to that of grad_input: its middle written if `first` and else added, its borders added.
 * Neither before nor after is negative. */
FDL_INLINE void add_row_of(const padding *p, const dimension *d, const real *grad_output, real *grad_input, bool first,
                           const bool many)
{
    const real *middle = grad_output + d->before * d->step;
    if (first)
        copy_run(grad_input, middle, d->size * d->step);
    else
        add(p, grad_input, middle, d->size * d->step, many);
    for (int64_t i = 0; i < d->before + d->after; i++) {
        const int64_t at = i < d->before ? i : i + d->size;
        add(p, grad_input + source(d, at, p->mode) * d->step, grad_output + at * d->step, d->step, many);
    }
}

static void add_row(const padding *p, const dimension *d, const real *grad_output, real *grad_input, bool first)
{
    if (p->low)
        add_row_of(p, d, grad_output, grad_input, first, true);
    else
        add_row_of(p, d, grad_output, grad_input, first, false);
}

/* The same along a dimension before the row's. */
static void add_part(const padding *p, int64_t dim, const real *grad_output, real *grad_input, bool first)
{
    const dimension *d = &p->dims[dim];
    for (int64_t i = 0; i < out_size(d); i++) {
        const bool is_middle = i < d->size;
        const int64_t border = i - d->size;
        const int64_t at = is_middle ? d->before + i : border < d->before ? border : i;
        const real *from = grad_output + at * d->out_step;
        real *to = grad_input + source(d, at, p->mode) * d->step;
        if (dim + 2 == p->rank)
            add_row(p, d + 1, from, to, first && is_middle);
        else
            add_part(p, dim + 1, from, to, first && is_middle);
    }
}

/* The same of any dimension, one index after another, to a grad_input of zeros: where x is cropped. */
static void add_each(const padding *p, int64_t dim, const real *grad_output, real *grad_input)
{
    const dimension *d = &p->dims[dim];
    for (int64_t i = 0; i < out_size(d); i++) {
        real *to = grad_input + source(d, i, p->mode) * d->step;
        if (dim + 1 == p->rank)
            add(p, to, grad_output + i * d->out_step, d->step, p->low != NULL);
        else
            add_each(p, dim + 1, grad_output + i * d->out_step, to);
    }
}

/* Items of both are the indices along the first dimension, whose parts do not meet in grad_input. */
static int cropped_backward(void *context, int64_t begin, int64_t end)
{
    const padding *p = context;
    const dimension *lead = &p->dims[0];
    for (int64_t i = begin; i < end; i++) {
        memset(p->to + i * lead->step, 0, (size_t)lead->step * sizeof(real));
        add_each(p, 1, p->from + i * lead->out_step, p->to + i * lead->step);
        if (p->low)
            total_finish(p->to + i * lead->step, p->low + i * lead->step, lead->step);
    }
    return FDL_OK;
}

static int backward(void *context, int64_t begin, int64_t end)
{
    const padding *p = context;
    const dimension *lead = &p->dims[0];
    for (int64_t i = begin; i < end; i++) {
        add_part(p, 1, p->from + i * lead->out_step, p->to + i * lead->step, true);
        if (p->low)
            total_finish(p->to + i * lead->step, p->low + i * lead->step, lead->step);
    }
    return FDL_OK;
}

static int pad(padding *p, const int64_t *geometry, int64_t rank, bool undo)
{
    if (take_dimensions(p, geometry, rank, undo) == 0)
        return FDL_OK;
    look_up_borders(p);
    const int64_t count = p->dims[0].size * out_size(&p->dims[1]);
    return fdl_parallel(count, ceil_div(GRAIN, p->dims[1].out_step), forward, p);
}

int fdl_pad(const real *x, real *y, const int64_t *geometry, int64_t rank, int64_t mode, double value)
{
    padding p = {.from = x, .to = y, .mode = mode, .value = (real)value};
    return pad(&p, geometry, rank, false);
}

int fdl_pad_backward(const real *grad_output, real *grad_input, const int64_t *geometry, int64_t rank, int64_t mode)
{
    padding p = {.from = grad_output, .to = grad_input, .mode = mode};
    if (mode == FDL_PAD_CONSTANT)
        return pad(&p, geometry, rank, true);              /* what was cropped gets 0 */
    if (take_dimensions(&p, geometry, rank, false) == 0) { /* nothing but crops, or nothing at all */
        memset(grad_input, 0, (size_t)(p.dims[0].size * p.dims[0].step) * sizeof(real));
        return FDL_OK;
    }
    bool crops = false, many = false;
    for (int64_t i = 0; i < p.rank; i++) {
        crops |= min64(p.dims[i].before, p.dims[i].after) < 0;
        many |= mode == FDL_PAD_REPLICATE && max64(p.dims[i].before, p.dims[i].after) > SUM_TERMS;
    }
    const fdl_mark mark = fdl_scratch_mark();
    if (many) { /* go to one element */
        const int64_t size = p.dims[0].size * p.dims[0].step * (int64_t)sizeof(real);
        if (!(p.low = fdl_scratch(size)))
            return FDL_OUT_OF_MEMORY;
        memset(p.low, 0, (size_t)size);
    }
    const int64_t grain = ceil_div(GRAIN, max64(1, p.dims[0].out_step));
    const int status = fdl_parallel(p.dims[0].size, grain, crops ? cropped_backward : backward, &p);
    fdl_scratch_release(mark);
    return status;
}
