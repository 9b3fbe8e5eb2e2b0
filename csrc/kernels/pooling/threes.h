/* The gradient of maximum pooling whose winners are not known, over windows of 3 x 3 at stride 1 or 2: what stages.h does,
 * a row at a time and in registers.
 *
 *   along   of a row, under each window along the width, the largest element and its tap
 *   across  of the three rows that a window sees, the one whose it is: its `given` gets the gradient
 *   back    given, to where tap says, as soon as no window to come sees the row
 *
 * Vectors are windows along the width: at stride 2 each of them, at stride 1 one around every element. Wide rows are taken
 * in strips, each of which hands on what it gives the next. Of narrow rows a vector holds those of several planes. A plane
 * in which there is a NaN is done again in general. Sums are of `real`, of the windows in their order. */
#ifndef FASTDL_THREES_H
#define FASTDL_THREES_H

#include "kernels/pooling/stages.h"

enum {
    THREES_BUILT = LANES >= 8 && sizeof(real) == 4, /* where it is worth its size */
    THREES_ROOM = 4 * LANES,                        /* elements that vectors reach beyond a row, at most */
};

/* What is kept of a row. */
typedef struct {
    vreal best, given;
    vint tap;
} threes_row;

/* LANES of all lanes that a row takes. */
typedef struct {
    int64_t first;      /* the element of lane 0 */
    int64_t shift;      /* that its tap 0 sees, which may be -1 */
    int64_t grads;      /* its window, which may be -1 */
    vflags inside[3];   /* the tap is in the row */
    vint outside;       /* 1 where tap 0 is not */
    vflags windows;     /* of several planes: there is a window */
    vmask some;         /* of one: likewise */
    bool all;           /* which all lanes are */
    bool ragged;        /* the last of several, whose vectors reach into the next row */
    threes_row kept[2]; /* of the present plane: rows that windows to come see */
    vflags nans;        /* that were seen in it */
} threes_strip;

typedef struct {
    const pooling *p;
    real *copy;           /* a row of each plane, with THREES_ROOM elements around */
    real *grads;          /* of several planes, [out_height, grads_row] as lanes see them */
    int64_t grads_row;    /* from one to the next */
    bool spread;          /* whether they are read from there: where they lie they cannot */
    int64_t readable;     /* elements of x at which a vector may begin: that many */
    int64_t writable;     /* of grad_input up to which one may begin that writes what is written again */
    int64_t count;        /* of strips */
    threes_strip *strips; /* in which a row of planes is done, one after the other */
} threes;

/* Windows of 3 x 3, `stride` apart. */
static bool are_threes(const pooling *p, int64_t stride)
{
    const fdl_window *w = p->w;
    return THREES_BUILT && p->positions > 0 && p->path <= PICKED && !p->cut && !p->far && !is_deep(w) &&
           w->kernel_height == 3 && w->kernel_width == 3 && w->dilation_height == 1 && w->dilation_width == 1 &&
           w->padding_height <= 1 && w->padding_width <= 1 && w->stride_height == stride && w->stride_width == stride;
}

static bool threes_can(const pooling *p) { return are_threes(p, 1) || are_threes(p, 2); }

/* Lanes that the elements of a row, and its windows, take. */
static int64_t threes_lanes(const fdl_window *w)
{
    if (w->stride_width == 2)
        return max64(w->out_width, ceil_div(w->width, 2));
    return max64(w->width, w->out_width + 1 - w->padding_width);
}

/* The window of lane 0. */
FDL_INLINE int64_t threes_off(const fdl_window *w) { return w->stride_width == 2 ? 0 : w->padding_width - 1; }

/* Rows of how many planes a vector holds. */
static int64_t threes_planes(const fdl_window *w)
{
#if VECTOR_BYTES / REAL_BYTES == 16
    const int64_t planes = 2 * w->stride_width;
    if (w->width <= LANES / 2 && threes_lanes(w) <= LANES / planes)
        return planes;
#endif
    (void)w;
    return 1;
}

static int64_t threes_strips(const fdl_window *w) { return ceil_div(threes_lanes(w), LANES); }

/* Whether that is faster than planes side by side, which fill all lanes. */
static bool threes_pay(const pooling *p)
{
    return threes_can(p) && threes_planes(p->w) * threes_lanes(p->w) > LANES / 2 &&
           (threes_strips(p->w) == 1 || !pool_beside_pays(p));
}

enum { MOST_PLANES = LANES == 16 ? 4 : 1 };

/* ---- vectors of one plane, or of several; constants wherever inlined: stride, planes ---- */

/* LANES elements, or half as many of each of two planes. */
FDL_INLINE vreal threes_load(const real *x, int64_t plane, const int64_t planes)
{
#if VECTOR_BYTES / REAL_BYTES == 16
    if (planes > 1)
        return vload_halves(x, x + plane);
#endif
    (void)plane, (void)planes;
    return vload(x);
}

/* The gradients of a row of windows of each of several planes. */
FDL_INLINE vreal threes_load_grads(const real *grads, int64_t positions, const int64_t planes)
{
#if VECTOR_BYTES / REAL_BYTES == 16
    return planes == 4 ? (vreal)FDL_PIECES(grads, positions) : vload_halves(grads, grads + positions);
#else
    (void)positions, (void)planes;
    return vload(grads);
#endif
}

/* Of v, n elements, or half a vector to each of two planes; exact: no more than these. */
FDL_INLINE void threes_put(vreal v, real *to, int64_t plane, int64_t n, bool exact, const int64_t planes)
{
#if VECTOR_BYTES / REAL_BYTES == 16
    if (planes > 1) {
        store_halves(to, plane, v, n, exact);
        return;
    }
#endif
    (void)plane, (void)planes;
    if (exact)
        vstore_up_to(to, v, n);
    else
        vstore(to, v);
}

/* x: of the first window, tap 0; `plane` elements to that of the next plane. */
FDL_INLINE threes_row threes_along(threes_strip *s, const real *x, int64_t plane, const int64_t stride,
                                   const int64_t planes)
{
    const vreal nothing = vset1((real)-INFINITY);
    vreal first, second, third;
    if (stride == 2) {
        const int64_t half = planes > 1 ? 2 * plane : LANES;
        const vreal low = threes_load(x, plane, planes), high = threes_load(x + half, plane, planes);
        first = veven(low, high), second = vodd(low, high);
        third = veven(threes_load(x + 2, plane, planes), threes_load(x + 2 + half, plane, planes));
    } else {
        first = threes_load(x, plane, planes), second = threes_load(x + 1, plane, planes);
        third = threes_load(x + 2, plane, planes);
    }
    first = vwhere(s->inside[0], first, nothing), second = vwhere(s->inside[1], second, nothing);
    third = vwhere(s->inside[2], third, nothing);
    const vreal two = vmax(second, first);
    threes_row row = {.best = vmax(third, two)};
    s->nans = vnan_seen(vnan_seen(s->nans, first, second), third, third);
    row.tap = vselect_int(second > first, vset1_int(1), s->outside);
    row.tap = vselect_int(third > two, vset1_int(2), row.tap);
    return row;
}

FDL_INLINE void threes_across(threes_row *a, threes_row *b, threes_row *c, vreal grad)
{
    const vint lowest = c->best > vmax(b->best, a->best), lower = b->best > a->best;
    const vreal upper = vonly(~lowest, grad);
    c->given += vonly(lowest, grad);
    b->given += vonly(lower, upper);
    a->given += vonly(~lower, upper);
}

/* A row of the strip before, which is for the present one to complete. */
typedef struct {
    vreal third; /* what was given to taps 2 */
    vreal last;  /* the last vector that was written */
} threes_edge;

/* Returns the edge for the strip to come. */
FDL_INLINE threes_edge threes_back(const pooling *p, const threes_strip *s, const threes_row *row, threes_edge edge,
                                   real *to, bool exact, const int64_t stride, const int64_t planes)
{
    const vreal zero = {0};
    const int64_t plane = p->volume, n = p->row - s->first;
    const bool padded = stride == 1 || p->w->padding_width > 0; /* tap 0 of lane 0 is an element of the strip before */
    const vreal g[3] = {vonly(row->tap == vset1_int(0), row->given), vonly(row->tap == vset1_int(1), row->given),
                        vonly(row->tap == vset1_int(2), row->given)};
    threes_edge next = {.third = g[2]};
    if (planes == 1 && padded && s->first > 0)
        vstore(to - LANES, edge.last + vnext(zero, g[0]));
    if (stride == 2) {
        const vreal shared = padded ? g[2] + vnext(g[0], zero) : vprevious(edge.third, g[2]) + g[0];
        const vreal even = padded ? g[1] : shared, odd = padded ? shared : g[1];
        threes_put(vzip_low(even, odd), to, plane, n, exact, planes);
        next.last = vzip_high(even, odd);
        if (planes > 1)
            threes_put(next.last, to + 2 * plane, plane, n, exact, planes);
        else if (n > LANES)
            threes_put(next.last, to + LANES, plane, n - LANES, exact, planes);
    } else {
        next.last = vprevious(edge.third, g[2]) + g[1] + vnext(g[0], zero);
        threes_put(next.last, to, plane, n, exact, planes);
    }
    return next;
}

/* ---- planes ---- */

/* What strip k sees of row `row` of the planes from `plane` on, where vectors would reach memory of others: of a copy.
 * Neither inlined, nor for constants, nor with a strip that is in registers. */
static FDL_OUTLINE threes_row threes_read_copy(const threes *t, int64_t k, int64_t plane, int64_t row, int64_t stride,
                                               int64_t planes)
{
    const pooling *p = t->p;
    threes_strip *s = &t->strips[k];
    const int64_t pitch = p->row + THREES_ROOM;
    for (int64_t i = 0; i < planes; i++)
        memcpy(t->copy + THREES_ROOM + i * pitch, p->x + (plane + i) * p->volume + row * p->row,
               (size_t)p->row * sizeof(real));
    const real *at = t->copy + THREES_ROOM + s->shift;
    return planes > 1 && stride == 2 ? threes_along(s, at, pitch, 2, MOST_PLANES)
           : planes > 1              ? threes_along(s, at, pitch, 1, MOST_PLANES / 2)
           : stride == 2             ? threes_along(s, at, pitch, 2, 1)
                                     : threes_along(s, at, pitch, 1, 1);
}

/* The same in general. */
FDL_INLINE threes_row threes_read(const threes *t, threes_strip *s, int64_t k, int64_t plane, int64_t row,
                                  const int64_t stride, const int64_t planes)
{
    const int64_t at = plane * t->p->volume + row * t->p->row + s->shift;
    return (uint64_t)at < (uint64_t)t->readable ? threes_along(s, t->p->x + at, t->p->volume, stride, planes)
                                                : threes_read_copy(t, k, plane, row, stride, planes);
}

/* Where a vector may write no more than is asked for; as threes_read_copy. */
static FDL_OUTLINE threes_edge threes_write_exactly(const threes *t, int64_t k, int64_t at, threes_row from,
                                                    threes_edge edge, int64_t stride, int64_t planes)
{
    const threes_strip *s = &t->strips[k];
    real *to = t->p->grad_input + at;
    return planes > 1 && stride == 2 ? threes_back(t->p, s, &from, edge, to, true, 2, MOST_PLANES)
           : planes > 1              ? threes_back(t->p, s, &from, edge, to, true, 1, MOST_PLANES / 2)
           : stride == 2             ? threes_back(t->p, s, &from, edge, to, true, 2, 1)
                                     : threes_back(t->p, s, &from, edge, to, true, 1, 1);
}

FDL_INLINE void threes_write(const threes *t, const threes_strip *s, int64_t k, int64_t plane, int64_t row,
                             const threes_row *from, threes_edge *edge, bool exact, const int64_t stride,
                             const int64_t planes)
{
    const int64_t at = plane * t->p->volume + row * t->p->row + s->first;
    if (at > t->writable)
        *edge = threes_write_exactly(t, k, at, *from, *edge, stride, planes);
    else
        *edge = threes_back(t->p, s, from, *edge, t->p->grad_input + at, exact, stride, planes);
}

/* The gradients of a row of windows: row i of y. */
FDL_INLINE vreal threes_grad(const threes *t, const threes_strip *s, int64_t plane, int64_t i, const int64_t planes)
{
    const pooling *p = t->p;
    if (planes > 1 && t->spread)
        return vload(t->grads + i * t->grads_row);
    const real *grads = p->grad_output + plane * p->positions + i * p->out_row + s->grads;
    if (planes > 1)
        return vwhere(s->windows, threes_load_grads(grads, p->positions, planes), (vreal){0});
    return s->all ? vload(grads) : vload_masked(grads, s->some);
}

/* The rows that the first windows of strip k see and that later ones have seen before. */
FDL_INLINE void threes_begin(const threes *t, threes_strip *s, int64_t k, int64_t plane, const int64_t stride,
                             const int64_t planes)
{
    s->nans = t->strips[k].nans = (vflags){0};
    s->kept[0] = threes_read(t, s, k, plane, 0, stride, planes); /* one before the first sees what that does */
    s->kept[1] = s->kept[0];
    if (stride == 1 && t->p->w->padding_height == 0 && t->p->w->height > 1)
        s->kept[1] = threes_read(t, s, k, plane, 1, stride, planes);
}

/* The windows of row i of y in strip k, with the rows that they see, and those that no window to come does. */
FDL_INLINE void threes_window(const threes *t, threes_strip *s, int64_t k, int64_t plane, int64_t i,
                              threes_edge edges[2], const bool wide, const int64_t stride, const int64_t planes)
{
    const int64_t top = i * stride - t->p->w->padding_height, height = t->p->w->height;
    const threes_row none = {.best = vset1((real)-INFINITY)};
    threes_row a = s->kept[0], b = s->kept[1], c = none;
    if (stride == 2)
        b = top + 1 < height ? threes_read(t, s, k, plane, top + 1, stride, planes) : none;
    if (top + 2 < height)
        c = threes_read(t, s, k, plane, top + 2, stride, planes);
    threes_across(&a, &b, &c, threes_grad(t, s, plane, i, planes));
    if (top < 0)
        b.given += a.given;
    else
        threes_write(t, s, k, plane, top, &a, &edges[0], wide && stride == 2 && s->ragged, stride, planes);
    if (stride == 2 && top + 1 < height)
        threes_write(t, s, k, plane, top + 1, &b, &edges[1], false, stride, planes);
    s->kept[0] = stride == 1 ? b : c, s->kept[1] = c;
}

/* The rows that no window to come sees; whether there was a NaN. */
FDL_INLINE bool threes_end(const threes *t, const threes_strip *s, int64_t k, int64_t plane, threes_edge edges[2],
                           const bool wide, const int64_t stride, const int64_t planes)
{
    const pooling *p = t->p;
    const threes_row none = {0};
    int64_t row = p->w->out_height * stride - p->w->padding_height;
    if (stride == 1 && row < p->w->height)
        threes_write(t, s, k, plane, row++, &s->kept[0], &edges[0], wide && s->ragged, stride, planes);
    if (row < p->w->height)
        threes_write(t, s, k, plane, row++, &s->kept[stride == 1], &edges[1], wide && s->ragged, stride, planes);
    for (; row < p->w->height; row++)
        threes_write_exactly(t, k, plane * p->volume + row * p->row + s->first, none, (threes_edge){0}, stride, planes);
    return vnan_any(s->nans) || vnan_any(t->strips[k].nans);
}

/* The planes from `plane` on; whether there was a NaN. */
FDL_INLINE bool threes_wide_back(const threes *t, int64_t plane, const int64_t stride)
{
    bool nan = false;
    for (int64_t k = 0; k < t->count; k++)
        threes_begin(t, &t->strips[k], k, plane, stride, 1);
    for (int64_t i = 0; i < t->p->w->out_height; i++) {
        threes_edge edges[2] = {0};
        for (int64_t k = 0; k < t->count; k++)
            threes_window(t, &t->strips[k], k, plane, i, edges, true, stride, 1);
    }
    threes_edge edges[2] = {0};
    for (int64_t k = 0; k < t->count; k++)
        nan |= threes_end(t, &t->strips[k], k, plane, edges, true, stride, 1);
    return nan;
}

/* The same of one strip, whose rows stay in registers. */
FDL_INLINE bool threes_narrow_back(const threes *given, int64_t plane, const int64_t stride, const int64_t planes)
{
    const threes own = *given, *const t = &own; /* which no store changes */
    threes_strip s = t->strips[0];
    threes_begin(t, &s, 0, plane, stride, planes);
    for (int64_t i = 0; i < t->p->w->out_height; i++) {
        threes_edge none[2] = {0};
        threes_window(t, &s, 0, plane, i, none, false, stride, planes);
    }
    threes_edge none[2] = {0};
    return threes_end(t, &s, 0, plane, none, false, stride, planes);
}

/* Gradients of the planes from `plane` on, as lanes see them: what is 0 was so before. */
static void threes_spread(const threes *t, int64_t plane, int64_t planes)
{
    const pooling *p = t->p;
    const fdl_window *w = p->w;
    for (int64_t k = 0; k < planes; k++) {
        real *to = t->grads + k * (LANES / planes) - threes_off(w);
        const real *grad = p->grad_output + (plane + k) * p->positions;
        for (int64_t i = 0; i < w->out_height; i++, to += t->grads_row)
            for (int64_t j = 0; j < w->out_width; j++)
                to[j] = *grad++;
    }
}

static threes_strip threes_strip_at(const fdl_window *w, int64_t lane, int64_t planes)
{
    const int64_t stride = w->stride_width, each = LANES / planes;
    threes_strip s = {
        .first = stride * lane,
        .shift = stride * lane - (stride == 2 ? w->padding_width : 1),
        .grads = lane + threes_off(w),
    };
    const int64_t left = w->width - s.first;
    s.ragged = lane > 0 && left < stride * LANES && (left % LANES != 0 || left == 0);
    integer inside[3][LANES], outside[LANES], windows[LANES];
    for (int64_t l = 0; l < LANES; l++) {
        const int64_t first = s.shift + stride * (l % each);
        for (int64_t k = 0; k < 3; k++)
            inside[k][l] = -(integer)(first + k >= 0 && first + k < w->width);
        outside[l] = first < 0;
        const int64_t window = l % each + s.grads;
        windows[l] = -(integer)(window >= 0 && window < w->out_width);
    }
    for (int64_t k = 0; k < 3; k++)
        s.inside[k] = vflags_of(vload_int(inside[k]));
    s.outside = vload_int(outside), s.windows = vflags_of(vload_int(windows));
    const int64_t low = max64(0, -s.grads), high = max64(low, min64(LANES, w->out_width - s.grads));
    s.some = vmask_range(low, high), s.all = high - low == LANES;
    return s;
}

/* Planes [begin, end), a multiple of `planes`. */
FDL_INLINE bool threes_range(const pooling *p, int64_t begin, int64_t end, const int64_t stride, const int64_t planes)
{
    const fdl_window *w = p->w;
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t reach = planes > 1 ? LANES / 2 : stride * LANES;
    threes t = {
        .p = p,
        .readable = max64(0, (p->planes - planes + 1) * p->volume - reach - 2),
        .count = threes_strips(w),
        .grads_row = LANES + 1,
    };
    t.copy = fdl_scratch((planes * w->width + (planes + 1) * THREES_ROOM) * (int64_t)sizeof(real));
    t.strips = fdl_scratch(t.count * (int64_t)sizeof(threes_strip));
    t.grads = planes > 1 ? fdl_scratch(w->out_height * t.grads_row * (int64_t)sizeof(real)) : NULL;
    bool ready = t.copy && t.strips && (t.grads || planes == 1);
    if (t.grads)
        memset(t.grads, 0, (size_t)(w->out_height * t.grads_row) * sizeof(real));
    for (int64_t k = 0; ready && k < t.count; k++)
        t.strips[k] = threes_strip_at(w, k * LANES, planes);
    for (int64_t plane = begin; ready && plane < end; plane += planes) {
        t.spread = planes > 1 && (plane == 0 || (p->planes - plane - planes) * p->positions < LANES);
        if (t.spread)
            threes_spread(&t, plane, planes);
        t.writable = (planes > 1 ? plane + 1 : end) * p->volume - reach;
        if (planes > 1 || t.count == 1 ? threes_narrow_back(&t, plane, stride, planes)
                                       : threes_wide_back(&t, plane, stride))
            ready = in_general(p, plane, plane + planes) == FDL_OK;
    }
    fdl_scratch_release(mark);
    return ready;
}

FDL_INLINE int threes_backward_of(const pooling *p, int64_t begin, int64_t end, const int64_t stride)
{
    int64_t middle = begin;
#if VECTOR_BYTES / REAL_BYTES == 16
    const int64_t planes = stride == 2 ? 4 : 2;
    if (threes_planes(p->w) > 1) {
        middle += (end - begin) / planes * planes;
        if (!threes_range(p, begin, middle, stride, planes))
            return FDL_OUT_OF_MEMORY;
    }
#endif
    return threes_range(p, middle, end, stride, 1) ? FDL_OK : FDL_OUT_OF_MEMORY;
}

static int threes_backward(void *context, int64_t begin, int64_t end)
{
    const pooling own = *(const pooling *)context, *p = &own;
    return p->w->stride_width == 1 ? threes_backward_of(p, begin, end, 1) : threes_backward_of(p, begin, end, 2);
}

#endif
