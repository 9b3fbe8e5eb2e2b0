/* What maximum and average pooling share: which elements a window sees, and their reduction.
 *
 * A window is reduced in two steps. First its rows, of every depth and height, element by element into one row of
 * x's width, `line`: vectors along the width (and the channels, where they come last). Then every stride-th run of
 * taps along `line` into one element of y. That is kernel_depth kernel_height + kernel_width / stride operations an
 * element of a row, not kernel_depth kernel_height kernel_width an output, and next to nothing is kept from one row
 * of y to the next, so that rows of y, not only planes, are what threads share.
 *
 * Windows are regular, or adaptive where the stride is 0: window i of `out` then covers floor(i size / out) to
 * ceil((i + 1) size / out). Padding is never an element: rows of it are left out, and `line` is surrounded by values
 * that change nothing, -infinity or 0.
 *
 * Rows longer than POOL_LONG are cut: into columns of y, and where windows are as long, into taps, until what a cut
 * sees is no longer. A cut is pooling with windows of its own, in rows of a longer array; those of later taps go onto
 * what those of the first made. So scratch is bounded whatever the width, the dilation and the kernel's width. */
#ifndef FASTDL_POOLING_H
#define FASTDL_POOLING_H

#include "vector/interleave.h"
#include "vector/sums.h"

#include <math.h>

/* Defined by what includes this file: POOL_SUMS, 1 where windows are summed, 0 where the largest is looked for. */

/* Below this many elements a second thread costs more than it saves. */
enum { POOL_GRAIN = 1 << 15 };

/* Elements of a long row that are reduced at a time; most elements of a row that is not cut. */
enum { POOL_SEGMENT = 1 << 11, POOL_LONG = 1 << 15 };

enum { POOL_BLOCK = SUM_TERMS * LANES }; /* elements of one block of a sum */

/* Most elements of rows that windows above one another share. */
enum { POOL_SLOTS = 1 << 18 };

/* The elements that a window sees along one dimension: first, first + dilation, ...; `skipped` taps before the first
 * are padding. */
typedef struct {
    int64_t first, count, skipped;
} span;

/* How windows along the width are reduced. */
typedef enum {
    BY_ONE,   /* stride 1: vectors of neighbouring windows */
    BY_TWO,   /* stride 2, no dilation: the same, one pair of loads for two taps */
    PICKED,   /* as if the stride were 1, and then every stride-th */
    EACH,     /* one window after another: long ones, and adaptive ones */
    CHANNELS, /* channels last: one window after another, vectors along the channels */
} width_path;

typedef struct {
    const fdl_window *w, *whole_w; /* of the cut; of everything, which is the same where there is one cut */
    fdl_window cut_w;
    bool cut, partial, onto, last; /* there are several cuts; several of a column's taps; not the first, the last */
    int64_t column, tap;           /* of y, of the kernel: the first of the cut */
    int64_t first, out_first;      /* elements of a row of x, of y, before the cut */
    int64_t pitch, out_pitch;      /* from one row to the next */
    int64_t begin, end;            /* rows of y, where not all are computed at once */
    const real *x, *grad_output;
    real *y, *grad_input;
    int64_t *indices;
    integer *positions_beside; /* in place of indices, where planes lie side by side */
    const int64_t *winners;
    int64_t inner;     /* elements of a pixel: channels where they come last, else 1 */
    int64_t planes;    /* batch, and channels where they come first */
    int64_t row;       /* elements of a row of x, in the cut: width * inner */
    int64_t out_row;   /* of a row of y, likewise */
    int64_t volume;    /* of all rows of a plane of x */
    int64_t positions; /* of all rows of a plane of y */
    int64_t most_rows; /* that one window sees */
    int64_t margin;    /* of `line`: padding before the row */
    int64_t line;      /* elements of `line` with its margins */
    int64_t segment;   /* elements of y that long rows are reduced at a time into; 0: rows are not long */
    int64_t lead;      /* of what lay_out makes: zeros before it */
    int64_t laid_out;  /* its elements with all zeros around */
    bool whole;        /* there is one window, which sees everything */
    width_path path;
    /* Of every window along a dimension of y; NULL where they are too many to keep, width: where they are regular. */
    span *depth, *height, *width;
    /* What divides a sum: the product of one factor for each dimension; whole vectors along the width. */
    bool far, many, include_pad;       /* far: there are too many; many: windows see more than one block of a sum has */
    int64_t divisor_override;          /* 0: none */
    real *depth_count, *height_count;  /* NULL where they are too many */
    real *width_count, *width_divisor; /* divisor: 1 where a sum is partial */
    double norm_type;                  /* of lp_pool */
} pooling;

FDL_INLINE span span_at(int64_t i, int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t padding,
                        int64_t dilation)
{
    if (stride == 0) { /* adaptive; i size / out without forming i size */
        const int64_t first = i * (size / out) + i * (size % out) / out;
        const int64_t last = (i + 1) * (size / out) + ceil_div((i + 1) * (size % out), out);
        return (span){first, last - first, 0};
    }
    const int64_t start = i * stride - padding, skipped = start < 0 ? ceil_div(-start, dilation) : 0;
    const int64_t first = start + skipped * dilation;
    const int64_t inside = first < size ? ceil_div(size - first, dilation) : 0;
    return (span){first, max64(0, min64(kernel - skipped, inside)), skipped};
}

enum { POOL_KEPT = 1 << 12 }; /* most spans of a dimension that are kept */

/* For sizes at which its time does not matter: what is inlined where it is called needs the registers. */
__attribute__((cold)) static FDL_OUTLINE void far_spans(const fdl_window *w, int64_t depth, int64_t height, span *d,
                                                        span *h)
{
    *d = span_at(depth, w->depth, w->out_depth, w->kernel_depth, w->stride_depth, w->padding_depth, w->dilation_depth);
    *h = span_at(height, w->height, w->out_height, w->kernel_height, w->stride_height, w->padding_height,
                 w->dilation_height);
}

FDL_INLINE span *spans(int64_t size, int64_t out, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation)
{
    span *s = fdl_scratch(max64(1, out) * (int64_t)sizeof(span));
    for (int64_t i = 0; s && i < out; i++)
        s[i] = span_at(i, size, out, kernel, stride, padding, dilation);
    return s;
}

/* What the windows of a cut see along the width, counted from its own first element and tap. */
FDL_INLINE span *spans_of_cut(const pooling *p)
{
    const fdl_window *w = p->whole_w;
    span *s = fdl_scratch(max64(1, p->w->out_width) * (int64_t)sizeof(span));
    for (int64_t i = 0; s && i < p->w->out_width; i++) {
        s[i] = span_at(p->column + i, w->width, w->out_width, w->kernel_width, w->stride_width, w->padding_width,
                       w->dilation_width);
        if (!p->cut)
            continue;
        const int64_t begin = max64(s[i].skipped, p->tap);
        const int64_t end = min64(s[i].skipped + s[i].count, p->tap + p->w->kernel_width);
        s[i].first += (begin - s[i].skipped) * w->dilation_width - p->first / max64(1, p->inner);
        s[i].count = max64(0, end - begin);
        s[i].skipped = begin - p->tap;
    }
    return s;
}

FDL_INLINE int64_t most_seen(const span *s, int64_t out, int64_t size, int64_t kernel, int64_t stride)
{
    if (!s)
        return min64(size, stride ? kernel : size / out + 2);
    int64_t most = 0;
    for (int64_t i = 0; i < out; i++)
        most = max64(most, s[i].count);
    return most;
}

/* How windows along the width are reduced, all of them. */
FDL_INLINE width_path choose_path(const fdl_window *w)
{
    const int64_t taps = w->kernel_width, columns = ceil_div(w->out_width, LANES) * LANES;
    const width_path by_vectors = w->stride_width == 1                             ? BY_ONE
                                  : w->stride_width == 2 && w->dilation_width == 1 ? BY_TWO
                                                                                   : PICKED;
    /* Operations on vectors: of neighbouring windows, and of each window's own elements. */
    const double together =
        (double)columns / LANES * (double)taps * (double)(by_vectors == PICKED ? w->stride_width : 1);
    const double alone = (double)w->out_width * ((double)taps / LANES + 12);
    if (w->channels_last)
        return CHANNELS;
    return w->stride_width == 0 || (w->dilation_width == 1 && alone < together) ? EACH : by_vectors;
}

/* Fill in what is the same for every cut; p holds whole_w and arrays. */
FDL_INLINE void pooling_describe(pooling *p)
{
    const fdl_window *w = p->w = p->whole_w;
    p->inner = w->channels_last ? w->channels : 1;
    p->planes = w->channels_last ? w->batch : w->batch * w->channels;
    p->pitch = w->width * p->inner;
    p->out_pitch = w->out_width * p->inner;
    p->volume = w->depth * w->height * p->pitch;
    p->positions = w->out_depth * w->out_height * p->out_pitch;
    p->path = choose_path(w);
    p->last = true;
    p->row = p->pitch, p->out_row = p->out_pitch;
    if (p->inner == 1 && p->positions == 1) {
        span d, h;
        far_spans(w, 0, 0, &d, &h);
        const span s = span_at(0, w->width, 1, w->kernel_width, w->stride_width, w->padding_width, w->dilation_width);
        p->whole = d.count == w->depth && h.count == w->height && s.count == w->width;
    }
}

/* Columns of y, and taps, in a cut. */
typedef struct {
    int64_t columns, taps;
} cut_size;

/* The most pixels of a row that is not cut. */
FDL_INLINE int64_t most_pixels(const pooling *p) { return max64(1, POOL_LONG / max64(1, p->inner)); }

FDL_INLINE bool is_cut(const pooling *p)
{
    const fdl_window *w = p->whole_w;
    return w->out_width > 0 && !p->whole && max64(w->width, w->out_width) > most_pixels(p);
}

FDL_INLINE cut_size size_of_cuts(const pooling *p)
{
    const fdl_window *w = p->whole_w;
    const int64_t most = most_pixels(p);
    if (!is_cut(p))
        return (cut_size){max64(1, w->out_width), max64(1, w->kernel_width)};
    if (w->stride_width == 0) { /* a window has up to width / out_width + 2 taps */
        const int64_t taps = w->width / w->out_width + 2;
        return (cut_size){min64(most, max64(1, most / taps)), min64(taps, most)};
    }
    const int64_t taps = min64(w->kernel_width, max64(1, most / 2 / w->dilation_width));
    const int64_t reach = (taps - 1) * w->dilation_width;
    return (cut_size){max64(1, (most - reach) / w->stride_width / LANES * LANES), taps};
}

FDL_INLINE bool cuts_taps(const pooling *p)
{
    const fdl_window *w = p->whole_w;
    const cut_size size = size_of_cuts(p);
    return is_cut(p) && (w->stride_width ? w->kernel_width > size.taps : size.columns == 1);
}

/* Set the windows of the cut that begins with that column and tap. */
FDL_INLINE void set_cut(pooling *p, cut_size size, int64_t column, int64_t tap)
{
    const fdl_window *w = p->whole_w;
    const int64_t columns = min64(size.columns, w->out_width - column);
    int64_t begin, end, taps = size.taps; /* elements of x that the cut's windows span, in the image or not */
    if (w->stride_width == 0) {
        const span s = span_at(column, w->width, w->out_width, 0, 0, 0, 1);
        const span t = span_at(column + columns - 1, w->width, w->out_width, 0, 0, 0, 1);
        begin = s.first + (columns == 1 ? tap : 0);
        end = columns == 1 ? min64(begin + taps, s.first + s.count) : t.first + t.count;
    } else {
        taps = min64(taps, w->kernel_width - tap);
        begin = column * w->stride_width - w->padding_width + tap * w->dilation_width;
        end = begin + (columns - 1) * w->stride_width + (taps - 1) * w->dilation_width + 1;
    }
    const int64_t first = min64(w->width, max64(0, begin));
    p->cut = true, p->onto = tap > 0, p->column = column, p->tap = tap;
    p->cut_w = *w;
    p->cut_w.width = max64(0, min64(w->width, end) - first);
    p->cut_w.out_width = columns;
    p->cut_w.kernel_width = taps;
    p->cut_w.padding_width = max64(0, first - begin);
    p->w = &p->cut_w;
    p->first = first * p->inner, p->out_first = column * p->inner;
    p->row = p->cut_w.width * p->inner, p->out_row = columns * p->inner;
}

/* Fill in the rest. The spans are scratch of the caller; false: out of memory. */
FDL_INLINE bool pooling_prepare(pooling *p)
{
    const fdl_window *w = p->w;
    p->far = max64(w->out_depth, w->out_height) > POOL_KEPT;
    p->depth = p->height = p->width = NULL;
    if (!p->far) {
        p->depth = spans(w->depth, w->out_depth, w->kernel_depth, w->stride_depth, w->padding_depth, w->dilation_depth);
        p->height =
            spans(w->height, w->out_height, w->kernel_height, w->stride_height, w->padding_height, w->dilation_height);
    }
    const int64_t reach = (w->kernel_width - 1) * w->dilation_width;
    const bool regular = p->path <= PICKED;
    p->margin = regular ? w->padding_width : 0;
    const int64_t columns = ceil_div(w->out_width, LANES) * LANES;
    const int64_t spanned = p->cut ? (w->out_width - 1) * w->stride_width + 1 : columns * w->stride_width;
    p->line = max64(p->margin + p->row, regular ? spanned + reach : 0) + 4 * LANES;
    p->segment =
        regular && p->row > 2 * POOL_SEGMENT ? max64(LANES, POOL_SEGMENT / w->stride_width / LANES * LANES) : 0;
    p->lead = regular ? reach + LANES : 0;
    p->laid_out = p->lead + max64(ceil_div(p->out_row, LANES) * LANES, regular ? p->line : 0) + LANES;

    if (!regular)
        p->width = spans_of_cut(p);
    if ((!p->far && (!p->depth || !p->height)) || (!regular && !p->width))
        return false;
    p->most_rows = most_seen(p->depth, w->out_depth, w->depth, w->kernel_depth, w->stride_depth) *
                   most_seen(p->height, w->out_height, w->height, w->kernel_height, w->stride_height);
    p->many = POOL_SUMS && (p->most_rows > SUM_TERMS || w->width > POOL_BLOCK);
    return true;
}

/* `prepare` and `run` the cuts of columns of y from `column` on, those of their taps in turn. */
FDL_INLINE int over_taps(pooling *p, cut_size size, int64_t column, bool (*prepare)(pooling *), int (*run)(pooling *))
{
    const fdl_window *w = p->whole_w;
    int64_t taps = w->kernel_width;
    if (w->stride_width == 0) /* adaptive */
        taps = size.columns == 1 ? span_at(column, w->width, w->out_width, 0, 0, 0, 1).count : size.taps;
    p->partial = taps > size.taps;
    int status = FDL_OK;
    int64_t tap = 0;
    do {
        const fdl_mark mark = fdl_scratch_mark();
        if (is_cut(p))
            set_cut(p, size, column, tap);
        tap += size.taps;
        p->last = tap >= taps;
        status = prepare(p) ? run(p) : FDL_OUT_OF_MEMORY;
        fdl_scratch_release(mark);
    } while (status == FDL_OK && !p->last);
    return status;
}

FDL_INLINE int over_cuts(pooling *p, bool (*prepare)(pooling *), int (*run)(pooling *))
{
    const cut_size size = size_of_cuts(p);
    int64_t column = 0;
    int status;
    do {
        status = over_taps(p, size, column, prepare, run);
        column += size.columns;
    } while (status == FDL_OK && column < p->whole_w->out_width);
    return status;
}

/* ---- rows of y, and the rows of x that each needs ---- */

typedef struct {
    int64_t plane, depth, height; /* of the present row of y */
    int64_t rows, *row;           /* [most_rows] where the rows that its windows see start, from the plane's start on */
    real *line, *folded;          /* [size] rows of x with their margins */
    /* Of volumes: rows already reduced over the depth, which windows above one another share. */
    int64_t slots, slot_row; /* a power of two, 0: not used; elements from one to the next */
    real *slot;              /* [slots, slot_row] */
    int64_t *held;           /* [slots] which row of x a slot holds */
    int64_t held_plane, held_depth;
} row_cursor;

/* `nothing`: what `line` is surrounded with. */
FDL_INLINE bool row_cursor_make(const pooling *p, row_cursor *c, int64_t size, real nothing)
{
    c->row = fdl_scratch(max64(1, p->most_rows) * (int64_t)sizeof(int64_t));
    c->line = fdl_scratch(size * (int64_t)sizeof(real));
    c->folded = fdl_scratch(size * (int64_t)sizeof(real));
    for (int64_t i = 0; c->line && i < size; i++)
        c->line[i] = nothing;
    return c->row && c->line && c->folded;
}

/* Room for rows reduced over the depth, where enough windows share them along the height. */
FDL_INLINE bool row_cursor_share(const pooling *p, row_cursor *c)
{
    const fdl_window *w = p->w;
    const int64_t extent = (w->kernel_height - 1) * w->dilation_height + 1;
    const double alone = (double)w->kernel_depth * (double)w->kernel_height;
    const double shared = (double)w->kernel_depth * (double)w->stride_height + (double)w->kernel_height;
    if (w->stride_depth == 0 || w->stride_height == 0 || p->segment || p->far || alone < 2 * shared)
        return true;
    c->slot_row = p->row + LANES;
    if (min64(extent, w->height) > POOL_SLOTS / c->slot_row)
        return true;
    for (c->slots = 1; c->slots < min64(extent, w->height);)
        c->slots *= 2;
    c->slot = fdl_scratch(c->slots * c->slot_row * (int64_t)sizeof(real));
    c->held = fdl_scratch(c->slots * (int64_t)sizeof(int64_t));
    c->held_plane = -1;
    return c->slot && c->held;
}

/* Before row `out_row` of all rows of y. */
FDL_INLINE void row_cursor_start(const pooling *p, row_cursor *c, int64_t out_row)
{
    const int64_t heights = max64(1, p->w->out_height), depths = max64(1, p->w->out_depth);
    c->plane = out_row / heights / depths;
    c->depth = out_row / heights % depths;
    c->height = out_row % heights - 1;
}

/* Go on to the next row of y and list its rows of x. */
FDL_INLINE void row_cursor_next(const pooling *p, row_cursor *c)
{
    const fdl_window *w = p->w;
    if (++c->height == w->out_height) {
        c->height = 0;
        if (++c->depth == w->out_depth) {
            c->depth = 0;
            c->plane++;
        }
    }
    span d, h;
    if (__builtin_expect(p->far, 0))
        far_spans(w, c->depth, c->height, &d, &h);
    else
        d = p->depth[c->depth], h = p->height[c->height];
    c->rows = 0;
    for (int64_t q = 0; q < d.count; q++) {
        int64_t row = ((d.first + q * w->dilation_depth) * w->height + h.first) * p->pitch + p->first;
        for (int64_t r = 0; r < h.count; r++, row += w->dilation_height * p->pitch)
            c->row[c->rows++] = row;
    }
}

/* ---- sums, or maxima: what includes this file says which ---- */

FDL_INLINE real pool_nothing(void) { return POOL_SUMS ? 0 : (real)-INFINITY; }

FDL_INLINE vreal pool_combine(vreal v, vreal total) { return POOL_SUMS ? total + v : vmax_nan(v, total); }

FDL_INLINE real pool_combine_one(real v, real total) { return POOL_SUMS ? total + v : v > total || v != v ? v : total; }

FDL_INLINE real pool_combine_lanes(vreal v)
{
    if (POOL_SUMS)
        return vsum(v);
    return vany(v != v) ? (real)NAN : vmax_lane(v);
}

/* line [size] = the reduction of that many rows (and of what it holds already, if `onto`). Also a constant: rows. */
FDL_INLINE void fold_rows(const real *x, const int64_t *row, const int64_t rows, real *line, int64_t size,
                          const bool onto)
{
    int64_t i = 0;
    for (; i + LANES <= size; i += LANES) { /* main loop */
        vreal v = vload(x + row[0] + i);
        FDL_UNROLL
        for (int64_t r = 1; r < rows; r++)
            v = pool_combine(vload(x + row[r] + i), v);
        vstore(line + i, onto ? pool_combine(v, vload(line + i)) : v);
    }
    if (i < size) { /* tail */
        const vreal nothing = vset1(pool_nothing());
        vreal v = vload_first_or(x + row[0] + i, size - i, nothing);
        for (int64_t r = 1; r < rows; r++)
            v = pool_combine(vload_first_or(x + row[r] + i, size - i, nothing), v);
        if (onto) /* as in the main loop: a sum does not depend on where its row ends */
            v = pool_combine(v, vload(line + i));
        vstore(line + i, v);
    }
}

/* line [size] = the sum of more rows than one block of a sum has. */
static FDL_OUTLINE void fold_many(const row_cursor *c, const real *x, real *line, int64_t size)
{
    enum { WIDE = 4 };                                 /* vectors */
    for (int64_t i = 0; i < size; i += WIDE * LANES) { /* main loop and tail */
        vreal high[WIDE] = {{0}}, low[WIDE] = {{0}};
        for (int64_t r = 0; r < c->rows;) {
            vreal part[WIDE] = {{0}};
            for (const int64_t end = min64(c->rows, r + SUM_TERMS); r < end; r++)
                for (int k = 0; k < WIDE; k++)
                    part[k] += vload_up_to(x + c->row[r] + i + k * LANES, size - i - k * LANES);
            for (int k = 0; k < WIDE; k++)
                vtotal_add(&high[k], &low[k], part[k]);
        }
        for (int k = 0; k < WIDE && i + k * LANES < size; k++)
            vstore(line + i + k * LANES, vtotal(high[k], low[k]));
    }
}

/* line [size]: the rows that the cursor lists, from x on; four at a time: more streams memory does not like. */
FDL_INLINE void fold_listed(const pooling *p, const row_cursor *c, const real *x, real *line, int64_t size)
{
    if (p->many && c->rows > SUM_TERMS) {
        fold_many(c, x, line, size);
        return;
    }
    int64_t r = c->rows % 4 ? c->rows % 4 : 4;
    switch (c->rows ? r : 0) {
    case 0: /* nothing but padding */
        for (int64_t i = 0; i < size; i++)
            line[i] = pool_nothing();
        break;
    case 1:
        fold_rows(x, c->row, 1, line, size, false);
        break;
    case 2:
        fold_rows(x, c->row, 2, line, size, false);
        break;
    case 3:
        fold_rows(x, c->row, 3, line, size, false);
        break;
    default:
        fold_rows(x, c->row, 4, line, size, false);
    }
    for (; r < c->rows; r += 4)
        fold_rows(x, c->row + r, 4, line, size, true);
}

/* The same from the plane x by way of the slots. */
FDL_INLINE void fold_shared(const pooling *p, row_cursor *c, const real *x, real *line)
{
    const fdl_window *w = p->w;
    const span d = p->depth[c->depth], h = p->height[c->height];
    if (c->held_plane != c->plane || c->held_depth != c->depth) {
        c->held_plane = c->plane, c->held_depth = c->depth;
        for (int64_t i = 0; i < c->slots; i++)
            c->held[i] = -1;
    }
    for (int64_t r = 0; r < h.count; r++) {
        const int64_t row = h.first + r * w->dilation_height, slot = row & (c->slots - 1);
        if (c->held[slot] == row)
            continue;
        c->held[slot] = row;
        for (c->rows = 0; c->rows < d.count; c->rows++)
            c->row[c->rows] = ((d.first + c->rows * w->dilation_depth) * w->height + row) * p->pitch + p->first;
        fold_listed(p, c, x, c->slot + slot * c->slot_row, p->row);
    }
    for (c->rows = 0; c->rows < h.count; c->rows++)
        c->row[c->rows] = ((h.first + c->rows * w->dilation_height) & (c->slots - 1)) * c->slot_row;
    fold_listed(p, c, c->slot, line, p->row);
}

/* The last step of a sum: divided by the elements that each window counts. */
FDL_INLINE vreal pool_divide(vreal v, vreal divisor) { return POOL_SUMS ? v / divisor : v; }
FDL_INLINE vreal pool_finish(vreal v, const pooling *p, real rows, int64_t column)
{
    return POOL_SUMS ? pool_divide(v, vload(p->width_divisor + column) * rows) : v;
}

/* to [size]: the reduction of `taps` elements each. A constant where that matters: taps. */
FDL_INLINE void fold_by_one(const pooling *p, const real *line, const int64_t taps, real rows, real *to, int64_t first,
                            int64_t size, const bool finish)
{
    const int64_t dilation = p->w->dilation_width;
    for (int64_t j = 0; j < size; j += LANES) { /* main loop and tail */
        vreal v = vload(line + j);
        for (int64_t s = 1; s < taps; s++)
            v = pool_combine(vload(line + j + s * dilation), v);
        vstore_up_to(to + j, finish ? pool_finish(v, p, rows, first + j) : v, size - j);
    }
}

FDL_INLINE void fold_by_two(const pooling *p, const real *line, const int64_t taps, real rows, real *to, int64_t first,
                            int64_t size)
{
    for (int64_t j = 0; j < size; j += LANES) { /* main loop and tail */
        vreal v = {0};
        for (int64_t s = 0; s < taps; s += 2) {
            const vreal low = vload(line + 2 * j + s), high = vload(line + 2 * j + s + LANES);
            v = s == 0 ? veven(low, high) : pool_combine(veven(low, high), v);
            if (s + 1 < taps)
                v = pool_combine(vodd(low, high), v);
        }
        vstore_up_to(to + j, pool_finish(v, p, rows, first + j), size - j);
    }
}

FDL_INLINE real fold_block(const real *from, int64_t count, int64_t dilation)
{
    real total = pool_nothing();
    int64_t i = 0;
    if (dilation == 1 && count >= LANES) {
        vreal v = vload(from);
        for (i = LANES; i + LANES <= count; i += LANES) /* main loop */
            v = pool_combine(vload(from + i), v);
        total = pool_combine_lanes(v);
    }
    for (; i < count; i++) /* tail */
        total = pool_combine_one(from[i * dilation], total);
    return total;
}

static FDL_OUTLINE real fold_blocks(const real *from, int64_t count, int64_t dilation)
{
    double sum = 0;
    for (int64_t i = 0; i < count; i += POOL_BLOCK)
        sum += (double)fold_block(from + i * dilation, min64(POOL_BLOCK, count - i), dilation);
    return (real)sum;
}

FDL_INLINE real fold_run(const pooling *p, const real *from, int64_t count, int64_t dilation)
{
    if (p->many && count > POOL_BLOCK)
        return fold_blocks(from, count, dilation);
    return fold_block(from, count, dilation);
}

/* to [size, inner]: the windows along `line`, finished, `first` the first of them. folded: room for another line.
 * rows: what the rows count for in the divisor. */
FDL_INLINE void fold_line(const pooling *p, const real *line, real *folded, int64_t first, int64_t size, real rows,
                          real *to)
{
    const fdl_window *w = p->w;
    const int64_t taps = w->kernel_width, dilation = w->dilation_width;
    switch (p->path) {
    case BY_ONE:
        if (taps == 2)
            fold_by_one(p, line, 2, rows, to, first, size, true);
        else if (taps == 3)
            fold_by_one(p, line, 3, rows, to, first, size, true);
        else
            fold_by_one(p, line, taps, rows, to, first, size, true);
        break;
    case BY_TWO:
        if (taps == 2)
            fold_by_two(p, line, 2, rows, to, first, size);
        else if (taps == 3)
            fold_by_two(p, line, 3, rows, to, first, size);
        else
            fold_by_two(p, line, taps, rows, to, first, size);
        break;
    case CHANNELS:
        for (int64_t j = 0; j < size; j++) {
            const span s = p->width[j];
            for (int64_t i = 0; i < p->inner; i += LANES) { /* main loop and tail */
                vreal v = vset1(pool_nothing());
                for (int64_t t = 0; t < s.count; t++)
                    v = pool_combine(vload(line + (s.first + t * dilation) * p->inner + i), v);
                vstore_up_to(to + j * p->inner + i, POOL_SUMS ? v / (p->width_divisor[j] * rows) : v, p->inner - i);
            }
        }
        break;
    default:
        if (p->path == PICKED) {
            fold_by_one(p, line, taps, rows, folded, 0, (size - 1) * w->stride_width + 1, false);
            for (int64_t j = 0; j < size; j++)
                to[j] = folded[j * w->stride_width];
        } else {
            for (int64_t j = 0; j < size; j++)
                to[j] = fold_run(p, line + p->width[j].first, p->width[j].count, dilation);
        }
        for (int64_t j = 0; POOL_SUMS && j < size; j += LANES) /* main loop and tail */
            vstore_up_to(to + j, pool_finish(vload_up_to(to + j, size - j), p, rows, first + j), size - j);
    }
}

/* The row of y that the cursor is at, from the plane x. */
FDL_INLINE void fold_out_row(const pooling *p, row_cursor *c, const real *x, real rows, real *y)
{
    const fdl_window *w = p->w;
    if (p->path == EACH && c->rows == 1) { /* windows of a row where it lies */
        fold_line(p, x + c->row[0], NULL, 0, w->out_width, rows, y);
        return;
    }
    if (!p->segment) {
        if (c->slots && c->rows)
            fold_shared(p, c, x, c->line + p->margin);
        else
            fold_listed(p, c, x, c->line + p->margin, p->row);
        fold_line(p, c->line, c->folded, 0, w->out_width, rows, y);
        return;
    }
    /* Of a long row so much at a time that the line stays in the first cache. */
    const int64_t reach = (w->kernel_width - 1) * w->dilation_width;
    for (int64_t j = 0; j < w->out_width; j += p->segment) {
        const int64_t size = min64(p->segment, w->out_width - j), start = j * w->stride_width - p->margin;
        const int64_t needed = (size - 1) * w->stride_width + reach + 1;
        const int64_t begin = min64(needed, max64(0, -start)), end = max64(begin, min64(needed, p->row - start));
        for (int64_t i = 0; i < begin; i++)
            c->line[i] = pool_nothing();
        fold_listed(p, c, x + start + begin, c->line + begin, end - begin);
        for (int64_t i = end; i < needed; i++)
            c->line[i] = pool_nothing();
        fold_line(p, c->line, c->folded, j, size, rows, y + j);
    }
}

/* Factors of what divides a sum, of a row of y: 1 where maxima are looked for. */
FDL_INLINE real rows_count(const pooling *p, const row_cursor *c);
/* And of a window of 2 x 2. */
FDL_INLINE real quad_divisor(const pooling *p);

/* y = what earlier taps of its windows gave, and the row of y's later ones. */
static FDL_OUTLINE void fold_onto(const pooling *p, const row_cursor *c, const real *part, real *y)
{
    const real rows = rows_count(p, c);
    for (int64_t j = 0; j < p->out_row; j++)
        y[j] = pool_combine_one(part[j], y[j]);
    for (int64_t j = 0; POOL_SUMS && p->last && j < p->out_row; j++)
        y[j] /= p->width_count[j / p->inner] * rows;
}

/* Rows [begin, end) of y. */
static FDL_OUTLINE int fold_lines(const pooling *given, const real *x, real *y, int64_t begin, int64_t end)
{
    const pooling own = *given, *const p = &own; /* which no store to y changes */
    const fdl_mark mark = fdl_scratch_mark();
    row_cursor c = {0};
    const int64_t reach = (p->w->kernel_width - 1) * p->w->dilation_width;
    const int64_t size = min64(p->segment, p->w->out_width);
    const int64_t line = p->segment ? (size - 1) * p->w->stride_width + reach + 1 + 4 * LANES : p->line;
    real *part = p->onto ? fdl_scratch((p->out_row + LANES) * (int64_t)sizeof(real)) : NULL;
    const bool ready = (part || !p->onto) && row_cursor_make(p, &c, line, pool_nothing()) && row_cursor_share(p, &c);
    row_cursor_start(p, &c, begin);
    real *to = y + begin * p->out_pitch + p->out_first;
    for (int64_t i = begin; ready && i < end; i++, to += p->out_pitch) {
        row_cursor_next(p, &c);
        const real rows = POOL_SUMS && p->partial ? 1 : rows_count(p, &c);
        fold_out_row(p, &c, x + c.plane * p->volume, rows, p->onto ? part : to);
        if (p->onto)
            fold_onto(p, &c, part, to);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* ---- windows of 2 x 2 elements, two apart along the width: nearly all that is pooled ---- */

/* All of them inside, whatever lies between their rows. */
FDL_INLINE bool pool_is_quads(const pooling *p)
{
    const fdl_window *w = p->whole_w;
    return p->path == BY_TWO && w->kernel_width == 2 && w->padding_width == 0 && 2 * w->out_width <= w->width &&
           w->kernel_height == 2 && w->stride_height > 0 && w->padding_height == 0 &&
           (w->out_height - 1) * w->stride_height + w->dilation_height < w->height && w->kernel_depth == 1 &&
           w->stride_depth == 1 && w->padding_depth == 0 && w->out_depth == w->depth && !is_cut(p);
}

/* Rows of y before `end` that are shorter than a vector and yet loaded and stored as one: what goes past their end is of
 * rows to come. Longer ones are whole vectors, of which the last may begin within the one before. */
FDL_INLINE int64_t pool_spilling(const pooling *p, int64_t end)
{
    return p->out_row >= LANES ? end : end - ceil_div(LANES - p->out_row, max64(1, p->out_row));
}

/* Where the vector of a row that would begin at element j does. */
FDL_INLINE int64_t pool_vector_at(const pooling *p, int64_t j) { return max64(0, min64(j, p->out_row - LANES)); }

/* `count` elements of x, at most two vectors, of which the second may be anything where it has none. Constant wherever
 * inlined: whole, that there is something in place of what is missing. */
FDL_INLINE void load_two(const real *x, int64_t count, const bool whole, vreal *low, vreal *high)
{
    *low = whole ? vload(x) : vload_first(x, min64(LANES, count));
    *high = count <= LANES ? *low : whole ? vload(x + LANES) : vload_first(x + LANES, count - LANES);
}

FDL_INLINE vreal fold_quads_of(const vreal low[2], const vreal high[2], vreal divisor)
{
    const vreal left = pool_combine(low[1], low[0]), right = pool_combine(high[1], high[0]);
    return pool_divide(pool_combine(vodd(left, right), veven(left, right)), divisor);
}

/* Rows [begin, end) of y. */
static FDL_OUTLINE int fold_quads(const pooling *p, const real *x, real *y, int64_t begin, int64_t end)
{
    const fdl_window *w = p->whole_w;
    const int64_t size = p->out_row, below = w->dilation_height * p->row, step = w->stride_height * p->row;
    const int64_t spilling = pool_spilling(p, end), count = min64(2 * size, 2 * LANES);
    const vreal divisor = vset1(quad_divisor(p));
    for (int64_t i = begin, stop; i < end; i = stop) {
        const int64_t image = i / w->out_height;
        const real *from = x + image * w->height * p->row + i % w->out_height * step;
        vreal low[2], high[2];
        stop = min64(end, (image + 1) * w->out_height);
        for (; count <= LANES && i + 2 <= min64(stop, spilling); i += 2, from += 2 * step) { /* two rows in a vector */
            low[0] = vload(from), low[1] = vload(from + below);
            high[0] = vload(from + step), high[1] = vload(from + step + below);
            const vreal v = fold_quads_of(low, high, divisor);
            vstore(y + i * size, v);
            if (count < LANES)
                memcpy(y + (i + 1) * size, (const char *)&v + VECTOR_BYTES / 2, VECTOR_BYTES / 2);
        }
        for (; i < min64(stop, spilling); i++, from += step) /* vectors of a row */
            for (int64_t j = 0; j < size; j += LANES) {
                const real *row = from + 2 * pool_vector_at(p, j);
                load_two(row, count, true, &low[0], &high[0]);
                load_two(row + below, count, true, &low[1], &high[1]);
                vstore(y + i * size + pool_vector_at(p, j), fold_quads_of(low, high, divisor));
            }
        for (; i < stop; i++, from += step) { /* the last rows, of less than a vector */
            load_two(from, count, false, &low[0], &high[0]);
            load_two(from + below, count, false, &low[1], &high[1]);
            vstore_first(y + i * size, fold_quads_of(low, high, divisor), size);
        }
    }
    return FDL_OK;
}

FDL_INLINE int fold_out_rows(const pooling *p, const real *x, real *y, int64_t begin, int64_t end)
{
#if FDL_SLOWED /* in the build of bench.selftest: 15% of the rows twice */
    const int64_t twice = begin + (15 * (end - begin) + 50) / 100;
    (void)(pool_is_quads(p) ? fold_quads(p, x, y, begin, twice) : fold_lines(p, x, y, begin, twice));
#endif
    return pool_is_quads(p) ? fold_quads(p, x, y, begin, end) : fold_lines(p, x, y, begin, end);
}

/* Run `task` over the rows of y, or over the planes, by what they cost. */
FDL_INLINE int over_rows(const pooling *p, fdl_task *task)
{
    const int64_t rows = p->w->out_depth * p->w->out_height, work = max64(1, p->most_rows * p->row + p->out_row);
    return fdl_parallel(p->planes * rows, ceil_div(POOL_GRAIN, work), task, (void *)p);
}

FDL_INLINE int over_planes(const pooling *p, fdl_task *task)
{
    const int64_t work = max64(1, p->volume + p->positions);
    return fdl_parallel(p->planes, ceil_div(POOL_GRAIN, work), task, (void *)p);
}

/* ---- small planes side by side ---- */

FDL_INLINE vint vload_int(const integer *p) { return (vint)vload((const real *)p); }
FDL_INLINE void vstore_int(integer *p, vint v) { vstore((real *)p, (vreal)v); }

/* LANES positions, or the first n, as they are returned. */
FDL_INLINE void store_positions(int64_t *to, vint position, int64_t n)
{
    integer each[LANES];
    vstore_int(each, position);
    for (int64_t i = 0; i < min64(n, LANES); i++)
        to[i] = each[i];
}

/* LANES planes side by side are one image of LANES channels, which come last: `side` describes it, and `run` does it,
 * all `count` rows or planes. */
typedef struct {
    const pooling *p;
    pooling side;
    fdl_task *run;
    int64_t count;
} beside;

/* Rows, and windows of them, that leave vectors mostly empty, of planes that stay in the first-level cache. */
FDL_INLINE bool pool_is_small(const pooling *p)
{
    const fdl_window *w = p->w;
    const int64_t longest = w->stride_width > 0 ? w->kernel_width : ceil_div(w->width, max64(1, w->out_width)) + 1;
    const int64_t volume = w->depth * w->height * w->width, positions = w->out_depth * w->out_height * w->out_width;
    return !w->channels_last && !is_cut(p) && w->width < LANES + LANES / 2 && longest < LANES && volume > 1 &&
           volume + positions <= 1024;
}

/* Whether they are taken side by side: sums are added up in the same order then. */
FDL_INLINE bool pool_beside_pays(const pooling *p) { return pool_is_small(p) && p->w->batch * p->w->channels >= LANES; }

FDL_INLINE void separate_positions(const integer *sheet, int64_t step, int64_t arrays, int64_t size, int64_t *to)
{
    for (int64_t e = 0; e < size; e += LANES) { /* main loop and tail */
        const int64_t n = min64(LANES, size - e);
        vreal block[LANES];
        for (int64_t l = 0; l < LANES; l++)
            block[l] = l < n ? vload((const real *)sheet + (e + l) * LANES) : (vreal){0};
        vtranspose(block);
        for (int64_t i = 0; i < arrays; i++)
            store_positions(to + i * step + e, (vint)block[i], n);
    }
}

/* Items are blocks of LANES planes. */
static FDL_OUTLINE int beside_task(void *context, int64_t begin, int64_t end)
{
    const beside *b = context;
    const pooling *p = b->p;
    pooling side = b->side;
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t in_bytes = p->volume * VECTOR_BYTES, out_bytes = p->positions * VECTOR_BYTES;
    real *x = p->x ? fdl_scratch(in_bytes) : NULL, *y = p->y ? fdl_scratch(out_bytes) : NULL;
    real *grad_output = p->grad_output ? fdl_scratch(out_bytes) : NULL;
    side.grad_input = p->grad_input ? fdl_scratch(in_bytes) : NULL;
    side.positions_beside = p->indices ? fdl_scratch(out_bytes) : NULL;
    side.x = x, side.y = y, side.grad_output = grad_output;
    int status = (p->x && !x) || (p->y && !y) || (p->grad_output && !grad_output) ||
                         (p->grad_input && !side.grad_input) || (p->indices && !side.positions_beside)
                     ? FDL_OUT_OF_MEMORY
                     : FDL_OK;
    for (int64_t block = begin; block < end && status == FDL_OK; block++) {
        const int64_t plane = block * LANES, planes = min64(LANES, p->planes - plane);
        if (x)
            interleave(p->x + plane * p->volume, p->volume, planes, p->volume, x);
        if (grad_output)
            interleave(p->grad_output + plane * p->positions, p->positions, planes, p->positions, grad_output);
        status = b->run(&side, 0, b->count);
        if (y)
            separate(y, p->positions, planes, p->positions, p->y + plane * p->positions);
        if (p->grad_input)
            separate(side.grad_input, p->volume, planes, p->volume, p->grad_input + plane * p->volume);
        if (p->indices)
            separate_positions(side.positions_beside, p->positions, planes, p->positions,
                               p->indices + plane * p->positions);
    }
    fdl_scratch_release(mark);
    return status;
}

/* All of p by `task`, which gets a beside: of blocks of planes, each run as `count` rows or planes. */
static FDL_OUTLINE int over_blocks(const pooling *p, bool (*prepare)(pooling *), fdl_task *run, int64_t count,
                                   fdl_task *task)
{
    fdl_window window = *p->w;
    window.batch = 1, window.channels = window.out_channels = LANES, window.channels_last = 1;
    beside b = {.p = p, .run = run, .count = count};
    b.side = (pooling){.whole_w = &window, .include_pad = p->include_pad, .divisor_override = p->divisor_override};
    pooling_describe(&b.side);
    const int64_t work = max64(1, (p->volume + p->positions) * LANES);
    return prepare(&b.side) ? fdl_parallel(ceil_div(p->planes, LANES), ceil_div(POOL_GRAIN, work), task, &b)
                            : FDL_OUT_OF_MEMORY;
}

/* ---- the way back: from a row of y to the rows of x ---- */

/* Cuts add to planes of grad_input that are zero. */
static int zero_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    memset(p->grad_input + begin * p->volume, 0, (size_t)((end - begin) * p->volume) * sizeof(real));
    return FDL_OK;
}

/* Make rows of grad_input, a plane, zero before they are first added to: up to the last that the cursor lists. */
FDL_INLINE void zero_listed(const pooling *p, const row_cursor *c, real *grad_input, int64_t *zeroed)
{
    if (p->cut)
        return;
    const int64_t end = c->rows ? c->row[c->rows - 1] + p->row : 0;
    if (end > *zeroed) {
        memset(grad_input + *zeroed, 0, (size_t)(end - *zeroed) * sizeof(real));
        *zeroed = end;
    }
}

FDL_INLINE void zero_rest(const pooling *p, real *grad_input, int64_t zeroed)
{
    if (!p->cut)
        memset(grad_input + zeroed, 0, (size_t)(p->volume - zeroed) * sizeof(real));
}

/* A row of y between zeros, so that no load of its neighbours needs a bound: its first element, or NULL. */
FDL_INLINE real *lay_out(const pooling *p)
{
    real *to = fdl_scratch(p->laid_out * (int64_t)sizeof(real));
    if (!to)
        return NULL;
    memset(to, 0, (size_t)p->laid_out * sizeof(real));
    return to + p->lead;
}

/* What tap s of the window at `from` gives back; of a maximum (tap) only where it won. */
FDL_INLINE vreal given_back(const real *from, const integer *tap, int64_t s)
{
    const vreal v = vload(from);
    return tap ? vselect(vload_int(tap) == vset1_int((integer)s), v, (vreal){0}) : v;
}

/* line = for every element the sum of what the windows that see it give back, from grad and tap as lay_out makes them;
 * strides 1 and 2 (others: 1, with zeros between). Every element looks for its windows, so nothing is read that was
 * written just before. */
FDL_INLINE void gather_line(const pooling *p, const real *grad, const integer *tap, const int64_t stride, real *line)
{
    const int64_t taps = p->w->kernel_width, dilation = p->w->dilation_width, end = p->margin + p->row;
    if (stride == 1) {
        for (int64_t i = 0; i < end; i += LANES) {
            vreal v = {0};
            for (int64_t s = 0; s < taps; s++) {
                const int64_t j = i - s * dilation;
                v += given_back(grad + j, tap ? tap + j : NULL, s);
            }
            vstore(line + i, v);
        }
        return;
    }
    for (int64_t i = 0; 2 * i < end; i += LANES) {
        vreal even = {0}, odd = {0};
        for (int64_t s = 0; s < taps; s++) {
            const int64_t j = i - s * dilation / 2;
            const vreal v = given_back(grad + j, tap ? tap + j : NULL, s);
            if (s * dilation % 2)
                odd += v;
            else
                even += v;
        }
        vstore(line + 2 * i, vzip_low(even, odd));
        vstore(line + 2 * i + LANES, vzip_high(even, odd));
    }
}

/* Add line [row] to the rows that the cursor lists; of a maximum (winner) only to the one that won. */
FDL_INLINE void spread_rows(const pooling *p, const row_cursor *c, const real *line, const integer *winner,
                            real *grad_input)
{
    if (winner && c->rows > LANES) { /* than so many masks element by element is faster */
        for (int64_t i = 0; i < p->row; i++)
            if (winner[i] < c->rows)
                grad_input[c->row[winner[i]] + i] += line[i];
        return;
    }
    for (int64_t begin = 0, end; begin < c->rows; begin = end) {
        end = min64(begin + 4, c->rows);
        int64_t i = 0;
        for (; i + LANES <= p->row; i += LANES) { /* main loop */
            const vreal v = vload(line + i);
            const vint won = winner ? vload_int(winner + i) : (vint){0};
            for (int64_t r = begin; r < end; r++) {
                real *to = grad_input + c->row[r] + i;
                vstore(to, vload(to) + (winner ? vselect(won == vset1_int((integer)r), v, (vreal){0}) : v));
            }
        }
        if (i < p->row) { /* tail */
            const vmask lanes = vmask_range(0, p->row - i);
            const vreal v = vload(line + i);
            const vint won = winner ? vload_int(winner + i) : (vint){0};
            for (int64_t r = begin; r < end; r++) {
                real *to = grad_input + c->row[r] + i;
                const vreal add = winner ? vselect(won == vset1_int((integer)r), v, (vreal){0}) : v;
                vstore_masked(to, vload_masked(to, lanes) + add, lanes);
            }
        }
    }
}

#endif
