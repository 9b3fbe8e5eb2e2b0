/* The gradient of maximum pooling whose winners are not known, over windows of 3 x 3 at stride 3, which share nothing:
 *
 *   grad_input[top + r, left + s] = grad_output[i, j], (r, s) = the first where x is largest of the window's 3 x 3
 *
 * Vectors are rows, TILES windows at a time. The winner is the first that is as large as the largest of its window; a plane
 * in which there is a NaN is done again in general. */
#ifndef FASTDL_TILES_H
#define FASTDL_TILES_H

#include "kernels/pooling/threes.h"

enum { TILES = LANES / 3, TILES_LANES = 3 * TILES, TILES_LAST = 16 };

/* Windows side by side. */
typedef struct {
    const pooling *p;
    int64_t end;     /* the first plane that others write */
    int64_t strips;  /* of so many windows in a row */
    int64_t first;   /* the element of a row in lane 0, which may be -1 */
    real *copy;      /* a row with a vector around */
    vint inside;     /* all bits where there is an element of a window */
    vint window;     /* of each lane, counted from the first; where there is none, a lane that gets no gradient */
    vint keys[3];    /* by row, the order of elements in their windows; TILES_LAST and more: none */
    vmask elements;  /* lanes that are elements of the row */
    vmask gradients; /* lanes of windows that there are */
} tiles;

static bool tiles_can(const pooling *p) { return are_threes(p, 3); }

static void tiles_place(tiles *t, int64_t window)
{
    const fdl_window *w = t->p->w;
    integer inside[LANES], of[LANES], keys[3][LANES];
    t->first = 3 * window - w->padding_width;
    for (int64_t l = 0; l < LANES; l++) {
        const int64_t at = t->first + l;
        const bool windows = l < TILES_LANES && window + l / 3 < w->out_width;
        inside[l] = -(integer)(windows && at >= 0 && at < w->width);
        of[l] = (integer)(windows ? l / 3 : LANES - 1);
        for (int r = 0; r < 3; r++)
            keys[r][l] = (integer)((inside[l] ? 0 : TILES_LAST) + 3 * r + l % 3);
    }
    for (int r = 0; r < 3; r++)
        t->keys[r] = vload_int(keys[r]);
    t->inside = vload_int(inside), t->window = vload_int(of);
    t->elements = vmask_range(t->first < 0, max64(0, min64(TILES_LANES, w->width - t->first)));
    t->gradients = vmask_range(0, max64(0, min64(TILES, w->out_width - window)));
}

/* A vector of each of three rows. */
typedef struct {
    vreal top, middle, bottom;
} tiles_rows;

/* Of rows of x without NaN, what of grad is given back to each. */
FDL_INLINE tiles_rows tiles_give(const vint keys[3], tiles_rows x, vreal grad)
{
    const vreal column = vmax(vmax(x.top, x.middle), x.bottom);
    const vreal largest = vmax(vmax(column, vturn(column)), vturn_back(column)); /* of each lane's window */
    vint first = vset1_int(TILES_LAST);
    first = vselect_int(x.bottom == largest, keys[2], first);
    first = vselect_int(x.middle == largest, keys[1], first);
    first = vselect_int(x.top == largest, keys[0], first);
    first = vmin_int(vmin_int(first, (vint)vturn((vreal)first)), (vint)vturn_back((vreal)first));
    return (tiles_rows){vonly(first == keys[0], grad), vonly(first == keys[1], grad), vonly(first == keys[2], grad)};
}

/* LANES elements of a row, or -infinity where it is padding. */
static FDL_OUTLINE vreal tiles_load(const tiles *t, int64_t plane, int64_t row)
{
    const pooling *p = t->p;
    const vreal nothing = vset1((real)-INFINITY);
    if (row < 0 || row >= p->w->height)
        return nothing;
    const int64_t at = plane * p->volume + row * p->row;
    const real *x = p->x + at;
    if (at + t->first < 0 || at + t->first + LANES > p->planes * p->volume)
        x = memcpy(t->copy + LANES, x, (size_t)p->row * sizeof(real));
    return vselect(t->inside, vload(x + t->first), nothing);
}

/* Beyond the lanes of windows, plainly, if what lies there is written later. */
static FDL_OUTLINE void tiles_store(const tiles *t, int64_t plane, int64_t row, vreal v)
{
    const pooling *p = t->p;
    if (row < 0 || row >= p->w->height)
        return;
    const int64_t at = row * p->row + t->first,
                  room = t->strips > 1 ? (row + 1) * p->row : (t->end - plane) * p->volume;
    real *to = p->grad_input + plane * p->volume + at;
    if (t->first >= 0 && at + LANES <= room)
        vstore(to, v);
    else
        vstore_masked(to, v, t->elements);
}

static int tiles_backward(void *context, int64_t begin, int64_t end)
{
    const pooling own = *(const pooling *)context, *p = &own;
    const fdl_window *w = p->w;
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t strips = ceil_div(w->width + w->padding_width, TILES_LANES);
    real *copy = fdl_scratch((w->width + 2 * LANES) * (int64_t)sizeof(real));
    tiles *all = fdl_scratch(strips * (int64_t)sizeof *all);
    for (int64_t k = 0; all && k < strips; k++) {
        all[k] = (tiles){.p = p, .end = end, .strips = strips, .copy = copy};
        tiles_place(&all[k], k * TILES);
    }
    const int64_t seen = min64(w->height, 3 * w->out_height - w->padding_height); /* rows that windows see */
    bool ready = copy && all;
    for (int64_t plane = begin; ready && plane < end; plane++) {
        vflags nans = {0};
        for (int64_t k = 0; k < strips; k++) {
            const tiles *t = &all[k];
            const int64_t row = p->row, first = plane * p->volume + t->first;
            const real *grads = p->grad_output + plane * p->positions + k * TILES;
            const real *x = p->x + first - w->padding_height * row;
            real *to = p->grad_input + first - w->padding_height * row;
            /* Whether vectors of all rows read no memory of others; where they may write beyond their lanes. */
            const bool inner = first >= 0 && first + p->volume + LANES <= p->planes * p->volume;
            const bool spills = t->first >= 0 && (strips == 1 || t->first + LANES <= row);
            const real *const last = p->grad_input + (strips > 1 ? plane + 1 : end) * p->volume - LANES - 2 * row;
            const vint inside = t->inside, window = t->window;
            const vmask gradients = t->gradients;
            const vint keys[3] = {t->keys[0], t->keys[1], t->keys[2]};
            const vreal nothing = vset1((real)-INFINITY);
            for (int64_t top = -w->padding_height; top < 3 * w->out_height - w->padding_height; top += 3) {
                const bool within = top >= 0 && top + 3 <= w->height;
                tiles_rows v;
                if (within && inner)
                    v = (tiles_rows){vselect(inside, vload(x), nothing), vselect(inside, vload(x + row), nothing),
                                     vselect(inside, vload(x + 2 * row), nothing)};
                else /* a row before the first sees what that does */
                    v = (tiles_rows){tiles_load(t, plane, max64(top, 0)), tiles_load(t, plane, top + 1),
                                     tiles_load(t, plane, top + 2)};
                nans = vnan_seen(vnan_seen(nans, v.top, v.middle), v.bottom, v.bottom);
                v = tiles_give(keys, v, vpick(vload_masked(grads, gradients), window));
                if (top < 0)
                    v.middle += v.top;
                if (within && spills && to <= last) {
                    vstore(to, v.top);
                    vstore(to + row, v.middle);
                    vstore(to + 2 * row, v.bottom);
                } else {
                    tiles_store(t, plane, top, v.top);
                    tiles_store(t, plane, top + 1, v.middle);
                    tiles_store(t, plane, top + 2, v.bottom);
                }
                x += 3 * row, to += 3 * row, grads += p->out_row;
            }
        }
        memset(p->grad_input + plane * p->volume + seen * p->row, 0,
               (size_t)((w->height - seen) * p->row) * sizeof(real));
        if (vnan_any(nans))
            ready = in_general(&own, plane, plane + 1) == FDL_OK;
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

#endif
