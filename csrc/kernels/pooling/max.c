/* Maximum pooling over the volumes [depth, height, width] of x, and its partial inverse.
 *
 *   max_pool     y = the largest element that each window sees, -infinity if that is only padding; the two steps of
 *                pooling.h. indices: where it was, depth, height and width in one number; -1: nowhere
 *   max_unpool   y = x where indices say, 0 elsewhere
 *
 * Which element wins is torch's: the first of equals in the order of depth, height and width, and the last NaN. Folding
 * rows first would lose that order, so where the position matters the winning row is kept beside each maximum and
 * settles ties along the line. The gradient finds the positions again, mostly in the stages of stages.h; else it goes the
 * two steps backwards: grad_output is added along a line to the winning taps, and the line to the winning rows, in
 * `real`. */
#define POOL_SUMS 0
#include "kernels/pooling/stages.h"

/* Elements ahead that are asked for: rows are read in turns, which hides from the processor that each goes on. */
enum { AHEAD = 1024 / (int)sizeof(real) };

/* No row at all: comes after every row, so it never wins against one. */
#define NO_ROW ((integer)(sizeof(integer) == 4 ? INT32_MAX : INT64_MAX))

/* One row of y with positions: maxima, the taps that saw them and the rows they came from. */
typedef struct {
    row_cursor c;
    integer *row;           /* [p->line] of each element of the line, the row that it came from */
    real *best, *back;      /* rows of y: the maxima; what is to be given back, between zeros */
    integer *tap, *won;     /* rows of y: along the line, the tap; the row */
    integer *all_tap, *all; /* [p->line] the same at every element, where strides are picked afterwards */
    real *line;             /* [p->line] gradient of the line */
} finder;

static bool finder_make(const pooling *p, finder *f)
{
    const int64_t bytes = p->line * (int64_t)sizeof(real);
    if (!row_cursor_make(p, &f->c, p->line, (real)-INFINITY))
        return false;
    f->row = fdl_scratch(bytes);
    f->all_tap = fdl_scratch(bytes);
    f->all = fdl_scratch(bytes);
    f->line = fdl_scratch(bytes);
    f->best = lay_out(p);
    f->back = lay_out(p);
    f->tap = (integer *)lay_out(p);
    f->won = (integer *)lay_out(p);
    for (int64_t i = 0; f->row && i < p->line; i++)
        f->row[i] = NO_ROW;
    return f->row && f->all_tap && f->all && f->line && f->best && f->back && f->tap && f->won;
}

/* The lanes whose numbers are below n. */
FDL_INLINE vint lanes_before(int64_t n) { return lane_numbers() < vset1_int((integer)min64(n, LANES)); }

/* The line and the rows of its elements; whether all of it is finite. Within a column the rows come in order: a later
 * one has to be larger, or NaN. Also a constant: rows. */
FDL_INLINE bool find_in_rows(const pooling *p, finder *f, const real *x, const int64_t rows)
{
    const row_cursor *c = &f->c;
    real *line = c->line + p->margin;
    integer *row = f->row + p->margin;
    vreal zero = {0}; /* NaN where the line is not finite */
    int64_t i = 0;
    for (; i + LANES <= p->row; i += LANES) { /* main loop */
        __builtin_prefetch(x + c->row[rows - 1] + i + AHEAD);
        vreal best = vload(x + c->row[0] + i);
        vint at = {0};
        for (int64_t r = 1; r < rows; r++)
            vtake_later(&best, &at, vload(x + c->row[r] + i), vset1_int((integer)r));
        vstore(line + i, best);
        vstore_int(row + i, at);
        zero += best * 0;
    }
    if (i < p->row) { /* tail */
        const int64_t left = p->row - i;
        const vreal nothing = vset1((real)-INFINITY);
        vreal best = vload_first_or(x + c->row[0] + i, left, nothing);
        vint at = {0};
        for (int64_t r = 1; r < rows; r++)
            vtake_later(&best, &at, vload_first_or(x + c->row[r] + i, left, nothing), vset1_int((integer)r));
        vstore(line + i, best);
        vstore_int(row + i, vselect_int(lanes_before(left), at, vset1_int(NO_ROW)));
        zero += vselect(lanes_before(left), best, (vreal){0}) * 0;
    }
    return !vany(zero != zero);
}

static bool find_rows(const pooling *p, finder *f, const real *x)
{
    switch (f->c.rows) {
    case 0: /* nothing but padding */
        for (int64_t i = p->margin; i < p->margin + p->row; i++)
            f->c.line[i] = (real)-INFINITY, f->row[i] = NO_ROW;
        return false;
    case 1:
        return find_in_rows(p, f, x, 1);
    case 2:
        return find_in_rows(p, f, x, 2);
    case 3:
        return find_in_rows(p, f, x, 3);
    default:
        return find_in_rows(p, f, x, f->c.rows);
    }
}

/* A maximum along a line with its row and tap, LANES windows at once. */
typedef struct {
    vreal v;
    vint row, tap;
} winner;

/* Tap s, which comes after best's: larger, or as large and of an earlier row; a NaN before all, and the last of them.
 * A constant wherever inlined: finite, that there is no NaN. */
FDL_INLINE winner better(winner best, vreal v, vint row, int64_t s, const bool finite)
{
    vint won = (v > best.v) | ((v == best.v) & (row < best.row));
    if (!finite)
        won |= (v != v) & ((best.v == best.v) | (row >= best.row));
    return (winner){vselect(won, v, best.v), vselect_int(won, row, best.row),
                    vselect_int(won, vset1_int((integer)s), best.tap)};
}

FDL_INLINE void find_by_one(const pooling *p, const finder *f, int64_t size, real *best, integer *row, integer *tap,
                            const bool finite)
{
    const fdl_window *w = p->w;
    for (int64_t j = 0; j < size; j += LANES) {
        winner b = {vload(f->c.line + j), vload_int(f->row + j), {0}};
        for (int64_t s = 1; s < w->kernel_width; s++) {
            const int64_t i = j + s * w->dilation_width;
            b = better(b, vload(f->c.line + i), vload_int(f->row + i), s, finite);
        }
        vstore(best + j, b.v);
        vstore_int(row + j, b.row);
        vstore_int(tap + j, b.tap);
    }
}

FDL_INLINE void find_by_two(const pooling *p, const finder *f, const int64_t taps, const bool finite)
{
    const fdl_window *w = p->w;
    for (int64_t j = 0; j < w->out_width; j += LANES) {
        winner b = {0};
        for (int64_t s = 0; s < taps; s += 2) {
            const int64_t i = 2 * j + s;
            const vreal low = vload(f->c.line + i), high = vload(f->c.line + i + LANES);
            const vreal rows_low = vload((real *)f->row + i), rows_high = vload((real *)f->row + i + LANES);
            const vreal even = veven(low, high), odd = vodd(low, high);
            const vint even_row = (vint)veven(rows_low, rows_high), odd_row = (vint)vodd(rows_low, rows_high);
            b = s == 0 ? (winner){even, even_row, {0}} : better(b, even, even_row, s, finite);
            if (s + 1 < taps)
                b = better(b, odd, odd_row, s + 1, finite);
        }
        vstore(f->best + j, b.v);
        vstore_int(f->won + j, b.row);
        vstore_int(f->tap + j, b.tap);
    }
}

/* One window after another. */
static void find_each(const pooling *p, const finder *f)
{
    const int64_t dilation = p->w->dilation_width;
    for (int64_t j = 0; j < p->w->out_width; j++) {
        const span q = p->width[j];
        real best = (real)-INFINITY;
        integer row = NO_ROW, tap = 0;
        for (int64_t s = 0; s < q.count; s++) {
            const int64_t i = p->margin + q.first + s * dilation;
            const real v = f->c.line[i];
            if (v > best || (v == best && f->row[i] < row) || (v != v && (best == best || f->row[i] >= row)))
                best = v, row = f->row[i], tap = (integer)(q.skipped + s);
        }
        f->best[j] = best, f->won[j] = row, f->tap[j] = tap;
    }
}

FDL_INLINE void find_channels(const pooling *p, const finder *f, const bool finite)
{
    const int64_t dilation = p->w->dilation_width;
    for (int64_t j = 0; j < p->w->out_width; j++) {
        const span q = p->width[j];
        for (int64_t i = 0; i < p->inner; i += LANES) {
            winner b = {vset1((real)-INFINITY), vset1_int(NO_ROW), {0}};
            for (int64_t s = 0; s < q.count; s++) {
                const int64_t from = (q.first + s * dilation) * p->inner + i;
                b = better(b, vload(f->c.line + from), vload_int(f->row + from), q.skipped + s, finite);
            }
            /* Past the last channel: the next window's, which is written later, or the space after the row. */
            vstore(f->best + j * p->inner + i, b.v);
            vstore_int(f->won + j * p->inner + i, b.row);
            vstore_int(f->tap + j * p->inner + i, b.tap);
        }
    }
}

/* Maxima, rows and taps of the next row of y. */
static void find(const pooling *p, finder *f)
{
    const fdl_window *w = p->w;
    row_cursor_next(p, &f->c);
    const bool finite = find_rows(p, f, p->x + f->c.plane * p->volume);
    const int64_t picked = (w->out_width - 1) * w->stride_width + 1;
    switch (p->path) {
    case BY_ONE:
        if (finite)
            find_by_one(p, f, w->out_width, f->best, f->won, f->tap, true);
        else
            find_by_one(p, f, w->out_width, f->best, f->won, f->tap, false);
        break;
    case BY_TWO:
        if (!finite)
            find_by_two(p, f, w->kernel_width, false);
        else if (w->kernel_width == 2)
            find_by_two(p, f, 2, true);
        else if (w->kernel_width == 3)
            find_by_two(p, f, 3, true);
        else
            find_by_two(p, f, w->kernel_width, true);
        break;
    case PICKED:
        if (finite)
            find_by_one(p, f, picked, f->c.folded, f->all, f->all_tap, true);
        else
            find_by_one(p, f, picked, f->c.folded, f->all, f->all_tap, false);
        for (int64_t j = 0; j < w->out_width; j++) {
            const int64_t i = j * w->stride_width;
            f->best[j] = f->c.folded[i], f->won[j] = f->all[i], f->tap[j] = f->all_tap[i];
        }
        break;
    case EACH:
        find_each(p, f);
        break;
    case CHANNELS:
        if (finite)
            find_channels(p, f, true);
        else
            find_channels(p, f, false);
        break;
    }
}

/* The element of the line, counted from the row's first pixel, that window j found at `tap`. */
FDL_INLINE int64_t column_of(const pooling *p, int64_t j, int64_t tap)
{
    if (!p->width)
        return j * p->w->stride_width - p->margin + tap * p->w->dilation_width;
    return p->width[j].first + (tap - p->width[j].skipped) * p->w->dilation_width;
}

/* ---- one window that sees everything ---- */

/* The largest of x [size], NaN if there is one. */
static real largest(const real *x, int64_t size)
{
    enum { MANY = 4 }; /* independent maxima */
    vreal best[MANY];
    for (int k = 0; k < MANY; k++)
        best[k] = vset1((real)-INFINITY);
    int64_t i = 0;
    for (; i + MANY * LANES <= size; i += MANY * LANES) { /* main loop */
        FDL_UNROLL
        for (int k = 0; k < MANY; k++)
            best[k] = vmax_nan(vload(x + i + k * LANES), best[k]);
    }
    for (; i < size; i += LANES) /* tail */
        best[0] = vmax_nan(size - i >= LANES ? vload(x + i) : vload_first_or(x + i, size - i, vset1((real)-INFINITY)),
                           best[0]);
    for (int k = 1; k < MANY; k++)
        best[0] = vmax_nan(best[k], best[0]);
    return pool_combine_lanes(best[0]);
}

/* Where x [size] is largest, first of equals, or the last NaN; *largest: what is there. */
static int64_t position_of_largest(const real *x, int64_t size, real *largest)
{
    int64_t offset = 0;
    enum { MOST = INT32_MAX / 2 }; /* positions that an `integer` holds in every dtype */
    *largest = (real)-INFINITY;
    int64_t position = 0;
    for (; offset < size; offset += MOST) {
        const int64_t end = min64(size - offset, MOST);
        const vreal nothing = vset1((real)-INFINITY);
        vreal best = vload_first_or(x + offset, min64(end, LANES), nothing);
        vint at = lane_numbers(), now = at + vset1_int(LANES);
        int64_t i = LANES;
        for (; i + LANES <= end; i += LANES, now += vset1_int(LANES)) /* main loop */
            vtake_later(&best, &at, vload(x + offset + i), now);
        if (i < end) /* tail */
            vtake_later(&best, &at, vload_first_or(x + offset + i, end - i, nothing), now);
        const vint nan = best != best;
        if (vany(nan)) {
            position = offset - vmin_lane_int(vselect_int(nan, -at, vset1_int(0)));
            *largest = (real)NAN;
        } else if (!(*largest != *largest)) {
            const real most = vmax_lane(best);
            if (offset == 0 || most > *largest) {
                position = offset + vmin_lane_int(vselect_int(best == vset1(most), at, vset1_int(INT32_MAX)));
                *largest = most;
            }
        }
    }
    return position;
}

/* ---- windows of two elements of a row, two apart, and of rows that no other window sees ---- */

static bool is_pairs(const pooling *p)
{
    const fdl_window *w = p->w;
    return p->path == BY_TWO && w->kernel_width == 2 && !p->partial && w->padding_width == 0 && p->volume < INT32_MAX &&
           w->stride_height > 0 && w->dilation_height * (w->kernel_height - 1) < w->stride_height &&
           w->stride_depth > 0 && w->dilation_depth * (w->kernel_depth - 1) < w->stride_depth;
}

/* The maxima of LANES windows, or of the first n, whose pairs begin at x + c->row[r], and which of its elements each
 * is, counted from left to right and from row to row. Constants wherever inlined: rows, whole; finite: that NaN is only
 * looked for, and *nans says so. */
FDL_INLINE winner find_pairs_of(const row_cursor *c, const real *x, int64_t n, const int64_t rows, const bool whole,
                                const bool finite, vflags *nans)
{
    const int64_t low_lanes = min64(2 * n, LANES), high_lanes = 2 * n - low_lanes;
    winner best = {vset1((real)-INFINITY), {0}, {0}};
    for (int64_t r = 0; r < rows; r++) {
        const real *from = x + c->row[r];
        const vreal low = whole ? vload(from) : vload_first(from, low_lanes);
        const vreal high = whole ? vload(from + LANES) : vload_first(from + LANES, high_lanes);
        vreal larger = veven(low, high); /* rows apart, so that they need not wait for each other */
        vint tap = vset1_int((integer)(2 * r));
        if (finite)
            *nans = vnan_seen(*nans, low, high);
        take_later(&larger, &tap, vodd(low, high), vset1_int((integer)(2 * r + 1)), finite);
        take_later(&best.v, &best.tap, larger, tap, finite);
    }
    return best;
}
/* Also a constant: quick, that it is first tried without NaN. */
FDL_INLINE winner find_pairs(const row_cursor *c, const real *x, int64_t n, const int64_t rows, const bool whole,
                             const bool quick)
{
    vflags nans = {0};
    if (quick) {
        const winner best = find_pairs_of(c, x, n, rows, whole, true, &nans);
        if (!vnan_any(nans))
            return best;
    }
    return find_pairs_of(c, x, n, rows, whole, false, &nans);
}

/* What is done with n windows of the row of y that the cursor is at, from its element j on. */
FDL_INLINE void pairs_forward(const pooling *p, const row_cursor *c, int64_t i, int64_t j, int64_t n,
                              const int64_t rows, const bool whole, const bool quick)
{
    const winner best = find_pairs(c, p->x + c->plane * p->volume + 2 * j, n, rows, whole, quick);
    vstore_up_to(p->y + i * p->out_pitch + p->out_first + j, best.v, n);
    vint at = vset1_int(rows == 0 ? -1 : 0);
    for (int64_t r = 0; r < rows; r++)
        at = vselect_int((best.tap >> 1) == vset1_int((integer)r), vset1_int((integer)(c->row[r] + 2 * j)), at);
    if (rows > 0)
        at += 2 * lane_numbers() + (best.tap & 1);
    store_positions(p->indices + i * p->out_pitch + p->out_first + j, at, n);
}

FDL_INLINE void pairs_back(const pooling *p, const row_cursor *c, int64_t i, int64_t j, int64_t n, const int64_t rows,
                           const bool whole, const bool quick)
{
    const winner best = find_pairs(c, p->x + c->plane * p->volume + 2 * j, n, rows, whole, quick);
    const vreal grad = vload_up_to(p->grad_output + i * p->out_pitch + p->out_first + j, n), zero = {0};
    const int64_t low_lanes = min64(2 * n, LANES), high_lanes = 2 * n - low_lanes;
    for (int64_t r = 0; r < rows; r++) {
        real *to = p->grad_input + c->plane * p->volume + c->row[r] + 2 * j;
        const vreal even = vselect(best.tap == vset1_int((integer)(2 * r)), grad, zero);
        const vreal odd = vselect(best.tap == vset1_int((integer)(2 * r + 1)), grad, zero);
        const vreal low = vzip_low(even, odd), high = vzip_high(even, odd);
        if (whole) {
            vstore(to, low);
            vstore(to + LANES, high);
        } else {
            vstore_first(to, low, low_lanes);
            vstore_first(to + LANES, high, high_lanes);
        }
    }
}

FDL_INLINE void pairs_at(const pooling *p, const row_cursor *c, int64_t i, int64_t j, int64_t n, const int64_t rows,
                         const bool whole, const bool quick, const bool backward)
{
    if (backward)
        pairs_back(p, c, i, j, n, rows, whole, quick);
    else
        pairs_forward(p, c, i, j, n, rows, whole, quick);
}

/* Rows [begin, end) of y: forward with indices, or backward. Constants wherever inlined: backward, plain:
 * that there are none of the things that need long sizes. */
FDL_INLINE int pairs_rows_of(const pooling *given, int64_t begin, int64_t end, const bool backward, const bool plain)
{
    pooling own = *given;
    const pooling *const p = &own;
    if (plain)
        own.far = false, own.first = 0;
    const fdl_mark mark = fdl_scratch_mark();
    row_cursor c = {.row = fdl_scratch(max64(1, p->most_rows) * (int64_t)sizeof(int64_t))};
    row_cursor_start(p, &c, begin);
    for (int64_t i = begin; c.row && i < end; i++) {
        row_cursor_next(p, &c);
        for (int64_t j = 0, n; j < p->out_row; j += n) { /* main loop and tail */
            n = min64(LANES, p->out_row - j);
            if (n == LANES && c.rows == 4)
                pairs_at(p, &c, i, j, LANES, 4, true, true, backward);
            else if (n == LANES)
                pairs_at(p, &c, i, j, LANES, c.rows, true, false, backward);
            else
                pairs_at(p, &c, i, j, n, c.rows, false, false, backward);
        }
    }
    fdl_scratch_release(mark);
    return c.row ? FDL_OK : FDL_OUT_OF_MEMORY;
}

FDL_INLINE int pairs_rows(const pooling *p, int64_t begin, int64_t end, const bool backward)
{
    return p->far || p->first ? pairs_rows_of(p, begin, end, backward, false)
                              : pairs_rows_of(p, begin, end, backward, true);
}

static int pairs_indices(void *context, int64_t begin, int64_t end) { return pairs_rows(context, begin, end, false); }

/* Of planes. */
static int pairs_backward(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    if (!p->out_first &&
        p->positions * 2 * p->w->kernel_height * p->w->kernel_depth != p->volume) /* not every element is seen */
        memset(p->grad_input + begin * p->volume, 0, (size_t)((end - begin) * p->volume) * sizeof(real));
    return pairs_rows(p, begin * rows, end * rows, true);
}

/* ---- windows of 2 x 2 elements ---- */

/* The maxima of LANES windows, and which of its elements each is; as of find_pairs. */
FDL_INLINE winner find_quads(const vreal low[2], const vreal high[2])
{
    winner best = {veven(low[0], high[0]), {0}, {0}};
    vtake_later(&best.v, &best.tap, vodd(low[0], high[0]), vset1_int(1));
    vtake_later(&best.v, &best.tap, veven(low[1], high[1]), vset1_int(2));
    vtake_later(&best.v, &best.tap, vodd(low[1], high[1]), vset1_int(3));
    return best;
}

/* Rows [begin, end) of y: forward with indices. */
static int quads_indices(void *context, int64_t begin, int64_t end)
{
    const pooling own = *(const pooling *)context, *p = &own; /* which no store to a result changes */
    const fdl_window *w = p->whole_w;
    const int64_t size = p->out_row, below = w->dilation_height * p->row, step = w->stride_height * p->row;
    const int64_t spilling = pool_spilling(p, end), count = min64(2 * size, 2 * LANES);
    for (int64_t i = begin; i < end; i++) {
        const int64_t image = i / w->out_height, row = image * w->height * p->row + i % w->out_height * step;
        for (int64_t j = 0; j < size; j += LANES) {
            const int64_t at = row + 2 * pool_vector_at(p, j), to = i * size + pool_vector_at(p, j);
            vreal low[2], high[2];
            for (int r = 0; r < 2; r++)
                if (i < spilling)
                    load_two(p->x + at + r * below, count, true, &low[r], &high[r]);
                else
                    load_two(p->x + at + r * below, count, false, &low[r], &high[r]);
            const winner best = find_quads(low, high);
            vstore_up_to(p->y + to, best.v, i < spilling ? LANES : size);
            store_positions(p->indices + to,
                            vset1_int((integer)(at % p->volume)) + 2 * lane_numbers() + (best.tap & 1) +
                                vselect_int(best.tap > 1, vset1_int((integer)below), vset1_int(0)),
                            size);
        }
    }
    return FDL_OK;
}

/* Whether windows lie side by side from the first row and column on. At most the last of each is then in none. */
static bool is_quads(const pooling *p)
{
    return pool_is_quads(p) && p->whole_w->stride_height == 2 && p->whole_w->dilation_height == 1;
}

/* LANES windows of 2 x 2, or what their winners are given back: two vectors of each of two rows. */
typedef struct {
    vreal low[2], high[2];
} quads;

/* Of x, what is given back. The winner of each row is found, and then that of the two. */
FDL_INLINE quads give_quads(quads x, vreal grad)
{
    const vreal a = veven(x.low[0], x.high[0]), b = vodd(x.low[0], x.high[0]);
    const vreal c = veven(x.low[1], x.high[1]), d = vodd(x.low[1], x.high[1]);
    const vint above = (b > a) | (b != b), below = (d > c) | (d != d);
    const vreal top = vselect(above, b, a), bottom = vselect(below, d, c);
    const vint lower = (bottom > top) | (bottom != bottom);
    const vreal first = vonly(~lower, grad), second = vonly(lower, grad);
    const vreal even[2] = {vonly(~above, first), vonly(~below, second)};
    const vreal odd[2] = {vonly(above, first), vonly(below, second)};
    return (quads){{vzip_low(even[0], odd[0]), vzip_low(even[1], odd[1])},
                   {vzip_high(even[0], odd[0]), vzip_high(even[1], odd[1])}};
}

/* The same of whole vectors, `second` and `below` apart, to the same of grad_input, in the order of addresses: what one
 * spills the next makes right. */
FDL_INLINE void give_whole_quads(const real *x, int64_t second, int64_t below, vreal grad, real *to)
{
    const quads v =
        give_quads((quads){{vload(x), vload(x + below)}, {vload(x + second), vload(x + second + below)}}, grad);
    vstore(to, v.low[0]);
    if (second < below) {
        vstore(to + second, v.high[0]);
        vstore(to + below, v.low[1]);
    } else {
        vstore(to + below, v.low[1]);
        vstore(to + second, v.high[0]);
    }
    vstore(to + second + below, v.high[1]);
}

/* And of `size` windows, where nothing else may be touched. */
static void give_last_quads(const real *x, int64_t size, int64_t below, const real *grad, real *to)
{
    const int64_t low = min64(2 * size, LANES), high = 2 * size - low;
    const quads v = give_quads((quads){{vload_first(x, low), vload_first(x + below, low)},
                                       {vload_first(x + LANES, high), vload_first(x + LANES + below, high)}},
                               vload_first(grad, size));
    for (int r = 0; r < 2; r++) {
        vstore_first(to + r * below, v.low[r], low);
        vstore_first(to + r * below + LANES, v.high[r], high);
    }
}

#if VECTOR_BYTES / REAL_BYTES == 16
/* n elements of a row of each of four planes, `step` apart, of which halves of vectors hold more; exact: no more. */
FDL_INLINE void store_four(real *to, int64_t step, vreal low, vreal high, int64_t n, bool exact)
{
    store_halves(to, step, low, n, exact);
    store_halves(to + 2 * step, step, high, n, exact);
}

/* Backward of planes whose rows fill half a vector at most: four side by side. Returns the first that is not done. */
static int64_t quads_backward_by_four(const pooling *p, int64_t begin, int64_t end)
{
    const fdl_window *w = p->w;
    const int64_t row = p->row, size = p->out_row, volume = p->volume, positions = p->positions;
    const vint windows = (lane_numbers() & 3) < vset1_int((integer)size);
    /* Vectors reach beyond what they are for, but not beyond the last plane. */
    while (row <= LANES / 2 && w->depth == 1 && begin + 4 <= end && (p->planes - begin - 4) * positions >= LANES) {
        const real *x = p->x + begin * volume, *grad = p->grad_output + begin * positions;
        real *to = p->grad_input + begin * volume;
        for (int64_t i = 0; i < w->height; i += 2, x += 2 * row, to += 2 * row, grad += size) {
            if (i / 2 >= w->out_height) { /* a last row is in no window */
                store_four(to, volume, (vreal){0}, (vreal){0}, row, true);
                break;
            }
            const quads v = give_quads((quads){{vload_halves(x, x + volume), vload_halves(x + row, x + row + volume)},
                                               {vload_halves(x + 2 * volume, x + 3 * volume),
                                                vload_halves(x + row + 2 * volume, x + row + 3 * volume)}},
                                       vonly(windows, (vreal)FDL_PIECES(grad, positions)));
            for (int r = 0; r < 2; r++)
                store_four(to + r * row, volume, v.low[r], v.high[r], row, (i + r) * row + LANES / 2 > volume);
        }
        begin += 4;
    }
    return begin;
}
#endif

/* Backward of planes that are tiled: each row of y has two of x to itself. What is stored past their end, where no window
 * is or rows to come are, is 0. */
static int quads_backward(void *context, int64_t begin_plane, int64_t end_plane)
{
    const pooling own = *(const pooling *)context, *p = &own;
    const fdl_window *w = p->whole_w;
    const int64_t size = p->out_row, row = p->row, end = end_plane * w->depth * w->out_height;
    const int64_t spilling = pool_spilling(p, end);
    const bool halves = row <= LANES, odd = 2 * size < row; /* two rows in a vector; a column is in no window */
    const vmask first = vmask_range(0, min64(size, LANES / 2)),
                second = vmask_range(LANES / 2, LANES / 2 + min64(size, LANES / 2));
    const vint lanes = lanes_before(size);
#if VECTOR_BYTES / REAL_BYTES == 16
    begin_plane = quads_backward_by_four(p, begin_plane, end_plane);
#endif
    for (int64_t i = begin_plane * w->depth * w->out_height, stop; i < end; i = stop) {
        const int64_t image = i / w->out_height * w->height * row;
        const real *x = p->x + image, *grad = p->grad_output + i * size;
        real *to = p->grad_input + image;
        stop = i + w->out_height;
        const int64_t whole = min64(stop, spilling);
        for (int64_t n; halves && i < whole; i += n, x += 2 * n * row, to += 2 * n * row, grad += n * size) {
            n = min64(2, whole - i); /* a last row is taken twice */
            const vreal both = vload_masked(grad, first) + vload_masked(grad + (n - 1) * size - LANES / 2, second);
            give_whole_quads(x, (n - 1) * 2 * row, row, both, to);
        }
        for (; i < stop; i++, x += 2 * row, to += 2 * row, grad += size) {
            for (int64_t j = 0; i < whole && j < size; j += LANES) {
                const int64_t at = pool_vector_at(p, j);
                give_whole_quads(x + 2 * at, LANES, row, vonly(lanes, vload(grad + at)), to + 2 * at);
            }
            if (i >= whole)
                give_last_quads(x, size, row, grad, to);
            for (int r = 0; odd && r < 2; r++)
                to[r * row + row - 1] = 0;
        }
        if (2 * w->out_height < w->height && stop <= spilling && row <= LANES)
            vstore(to, (vreal){0});
        else if (2 * w->out_height < w->height)
            memset(to, 0, (size_t)row * sizeof(real));
    }
    return FDL_OK;
}

/* ---- forward ---- */

static int whole_planes(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    for (int64_t i = begin; i < end; i++) {
        const real *x = p->x + i * p->volume;
        if (p->indices)
            p->indices[i] = position_of_largest(x, p->volume, &p->y[i]);
        else
            p->y[i] = largest(x, p->volume);
    }
    return FDL_OK;
}

static int values_rows(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    return fold_out_rows(p, p->x, p->y, begin, end);
}

/* The positions in a plane of what `find` found, LANES windows from j on; anything in windows that found nothing. Where
 * windows are regular, and positions fit an `integer`. */
FDL_INLINE vint positions_at(const pooling *p, const finder *f, int64_t j)
{
    const vint won = vload_int(f->won + j);
    vint at = {0};
    for (int64_t r = 0; r < f->c.rows; r++)
        at = vselect_int(won == vset1_int((integer)r), vset1_int((integer)f->c.row[r]), at);
    return at + (lane_numbers() + vset1_int((integer)j)) * vset1_int((integer)p->w->stride_width) -
           vset1_int((integer)p->margin) + vload_int(f->tap + j) * vset1_int((integer)p->w->dilation_width);
}

/* The same for planes side by side: of window j in each, -1 where it found nothing. */
FDL_INLINE vint positions_beside_at(const pooling *p, const finder *f, int64_t j)
{
    const vint won = vload_int(f->won + j * LANES);
    vint at = {0};
    for (int64_t r = 0; r < f->c.rows; r++)
        at = vselect_int(won == vset1_int((integer)r), vset1_int((integer)(f->c.row[r] / LANES)), at);
    at += vset1_int((integer)column_of(p, j, 0)) +
          vload_int(f->tap + j * LANES) * vset1_int((integer)p->w->dilation_width);
    return vselect_int(won == vset1_int(NO_ROW), vset1_int(-1), at);
}

/* Whether positions_at is meant, and quicker than one position after the other. */
static bool has_vector_positions(const pooling *p)
{
    return p->path <= PICKED && p->volume < INT32_MAX && p->most_rows <= LANES;
}

static void write_indices(const pooling *p, const finder *f, int64_t *indices)
{
    const int64_t dilation = p->w->dilation_width, inner = p->inner;
    if (has_vector_positions(p)) {
        for (int64_t j = 0; j < p->out_row; j += LANES) { /* main loop and tail */
            const vint nowhere = vload_int(f->won + j) == vset1_int(NO_ROW);
            store_positions(indices + j, vselect_int(nowhere, vset1_int(-1), positions_at(p, f, j)), p->out_row - j);
        }
        return;
    }
    for (int64_t j = 0, k = 0; j < p->w->out_width; j++) {
        const int64_t start = column_of(p, j, 0);
        for (int64_t c = 0; c < inner; c++, k++)
            indices[k] = f->won[k] == NO_ROW ? -1 : f->c.row[f->won[k]] / inner + start + f->tap[k] * dilation;
    }
}

FDL_INLINE real rows_count(const pooling *p, const row_cursor *c)
{
    (void)p, (void)c;
    return 1;
}
FDL_INLINE real quad_divisor(const pooling *p)
{
    (void)p;
    return 1;
}

/* What later taps found goes onto what earlier ones did: of equals the first in the image wins, and the last NaN. */
static void find_onto(int64_t size, const real *v, const int64_t *place, real *y, int64_t *indices)
{
    for (int64_t j = 0; j < size; j++) {
        const bool before = place[j] < indices[j], nan = v[j] != v[j];
        if (place[j] >= 0 &&
            (indices[j] < 0 || v[j] > y[j] || (v[j] == y[j] && before) || (nan && (y[j] == y[j] || !before))))
            y[j] = v[j], indices[j] = place[j];
    }
}

static int indices_rows(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const fdl_mark mark = fdl_scratch_mark();
    finder f;
    int64_t *place = p->onto ? fdl_scratch(p->out_row * (int64_t)sizeof(int64_t)) : NULL;
    const bool ready = finder_make(p, &f) && (place || !p->onto);
    row_cursor_start(p, &f.c, begin);
    for (int64_t i = begin; ready && i < end; i++) {
        find(p, &f);
        if (p->positions_beside) {
            memcpy(p->y + i * p->out_row, f.best, (size_t)p->out_row * sizeof(real));
            for (int64_t j = 0; j < p->w->out_width; j++)
                vstore_int(p->positions_beside + i * p->out_row + j * LANES, positions_beside_at(p, &f, j));
            continue;
        }
        real *y = p->y + i * p->out_pitch + p->out_first;
        int64_t *indices = p->indices + i * p->out_pitch + p->out_first;
        if (!p->onto)
            memcpy(y, f.best, (size_t)p->out_row * sizeof(real));
        write_indices(p, &f, p->onto ? place : indices);
        if (p->onto)
            find_onto(p->out_row, f.best, place, y, indices);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

static bool prepare(pooling *p) { return pooling_prepare(p); }

static int forward(pooling *p)
{
    if (pool_is_quads(p) && (!p->indices || (p->volume < INT32_MAX && p->row > LANES / 2)))
        return over_rows(p, p->indices ? quads_indices : values_rows);
    if (pool_beside_pays(p) && !(p->indices && is_pairs(p) && p->w->width > LANES / 2))
        return over_blocks(p, prepare, p->indices ? indices_rows : values_rows, p->w->out_depth * p->w->out_height,
                           beside_task);
    return p->whole      ? over_planes(p, whole_planes)
           : !p->indices ? over_rows(p, values_rows)
                         : over_rows(p, is_pairs(p) ? pairs_indices : indices_rows);
}

int fdl_max_pool(const real *x, real *y, int64_t *indices, const fdl_window *window)
{
    pooling p = {.whole_w = window, .x = x, .y = y, .indices = indices};
    pooling_describe(&p);
    return over_cuts(&p, prepare, forward);
}

/* ---- backward ---- */

#if defined(FDL_LANE_BITS)
enum { FEW_VECTORS = 4, FEW = FEW_VECTORS * LANES };
/* The same position in x [size] of `count` vectors, a constant wherever inlined; -1: there is a NaN. */
FDL_INLINE int64_t position_in_few(const real *x, int64_t size, const int count)
{
    vreal v[FEW_VECTORS];
    const int64_t tail = (count - 1) * LANES;
    v[count - 1] = vload_first_or(x + tail, size - tail, vset1((real)-INFINITY));
    vreal most = v[count - 1];
    vflags nans = vnan_seen((vflags){0}, most, most);
    FDL_UNROLL
    for (int i = 0; i < count - 1; i++) {
        v[i] = vload(x + i * LANES);
        nans = vnan_seen(nans, v[i], v[i]), most = vmax(v[i], most);
    }
    FDL_BUTTERFLIES(most, vmax);
    uint64_t where = 0;
    FDL_UNROLL
    for (int i = 0; i < count; i++)
        where |= vbits_equal(v[i], most) << i * LANES;
    return vnan_any(nans) ? -1 : __builtin_ctzll(where);
}
#else
enum { FEW = 0 };
FDL_INLINE int64_t position_in_few(const real *x, int64_t size, const int count)
{
    (void)x, (void)size, (void)count;
    return -1;
}
#endif

/* Where each plane is largest gets its gradient; planes of at most `few` vectors, a constant, or 0: of any size. */
FDL_INLINE void whole_back(const pooling *p, int64_t begin, int64_t end, const int few)
{
    const int64_t size = p->volume;
    const real *x = p->x, *grad = p->grad_output;
    real *grad_input = p->grad_input;
    for (int64_t i = begin; i < end; i++) {
        int64_t at = few ? position_in_few(x + i * size, size, few) : -1;
        real unused;
        if (at < 0)
            at = position_of_largest(x + i * size, size, &unused);
        if (few) {
            FDL_UNROLL
            for (int k = 0; k < few - 1; k++)
                vstore(grad_input + i * size + k * LANES, (vreal){0});
            vstore_first(grad_input + i * size + (few - 1) * LANES, (vreal){0}, size - (few - 1) * LANES);
        } else {
            memset(grad_input + i * size, 0, (size_t)size * sizeof(real));
        }
        grad_input[i * size + at] = grad[i];
    }
}

static int whole_backward(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    switch (FEW ? ceil_div(p->volume, LANES) : 0) {
    case 1:
        whole_back(p, begin, end, 1);
        break;
    case 2:
        whole_back(p, begin, end, 2);
        break;
    case 3:
        whole_back(p, begin, end, 3);
        break;
    case 4:
        whole_back(p, begin, end, 4);
        break;
    default:
        whole_back(p, begin, end, 0);
    }
    return FDL_OK;
}

static void channels_to_line(const pooling *p, const finder *f, const real *grad_output)
{
    for (int64_t j = 0; j < p->w->out_width; j++) {
        const span q = p->width[j];
        for (int64_t i = 0; i < p->inner; i += LANES) { /* main loop and tail: what is past the channels adds 0 */
            const vreal v = vload_up_to(grad_output + j * p->inner + i, p->inner - i);
            const vint tap = vload_int(f->tap + j * p->inner + i);
            for (int64_t s = 0; s < q.count; s++) {
                real *to = f->line + (q.first + s * p->w->dilation_width) * p->inner + i;
                vstore(to, vload(to) + vselect(tap == vset1_int((integer)(q.skipped + s)), v, (vreal){0}));
            }
        }
    }
}

/* Give the gradients of a row of y back to the line. */
static void back_to_line(const pooling *p, const finder *f, const real *grad_output)
{
    const fdl_window *w = p->w;
    /* Than gathering over so many taps element by element is faster. */
    if (p->path <= PICKED && w->stride_width <= 2 && w->kernel_width <= 4 * LANES) {
        memcpy(f->back, grad_output, (size_t)p->out_row * sizeof(real));
        gather_line(p, f->back, f->tap, w->stride_width, f->line);
        return;
    }
    memset(f->line, 0, (size_t)p->line * sizeof(real));
    if (p->path == CHANNELS) {
        channels_to_line(p, f, grad_output);
        return;
    }
    for (int64_t j = 0; j < w->out_width; j++)
        if (f->won[j] != NO_ROW)
            f->line[p->margin + column_of(p, j, f->tap[j])] += grad_output[j];
}

/* Add the gradients of a row of y one by one where they belong. */
static void scatter(const pooling *p, const finder *f, const real *grad_output, real *grad_input)
{
    if (!has_vector_positions(p)) {
        for (int64_t j = 0; j < p->out_row; j++)
            if (f->won[j] != NO_ROW)
                grad_input[f->c.row[f->won[j]] + column_of(p, j, f->tap[j])] += grad_output[j];
        return;
    }
    for (int64_t j = 0; j < p->out_row; j += LANES) {
        integer at[LANES];
        vstore_int(at, positions_at(p, f, j));
        for (int64_t i = 0; i < min64(LANES, p->out_row - j); i++)
            if (f->won[j + i] != NO_ROW)
                grad_input[at[i]] += grad_output[j + i];
    }
}

static int backward_planes(void *context, int64_t begin, int64_t end)
{
    const pooling own = *(const pooling *)context, *p = &own; /* which no store to a result changes */
    /* Than whole rows it is faster where they are short. */
    const bool scatters = has_vector_positions(p) && p->out_row <= LANES;
    const int64_t rows = p->w->out_depth * p->w->out_height;
    const fdl_mark mark = fdl_scratch_mark();
    finder f;
    const bool ready = finder_make(p, &f);
    row_cursor_start(p, &f.c, begin * rows);
    for (int64_t plane = begin; ready && plane < end; plane++) {
        real *grad_input = p->grad_input + plane * p->volume;
        int64_t zeroed = 0;
        for (int64_t i = plane * rows; i < (plane + 1) * rows; i++) {
            find(p, &f);
            zero_listed(p, &f.c, grad_input, &zeroed);
            if (scatters) {
                scatter(p, &f, p->grad_output + i * p->out_pitch + p->out_first, grad_input);
                continue;
            }
            back_to_line(p, &f, p->grad_output + i * p->out_pitch + p->out_first);
            spread_rows(p, &f.c, f.line + p->margin, f.row + p->margin, grad_input);
        }
        zero_rest(p, grad_input, zeroed);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* Backward where a window's taps are in several cuts: positions of some rows and columns of y are found, in all cuts of
 * their taps, and used. */
static int find_cut(pooling *p)
{
    pooling q = *p;
    q.out_pitch = q.out_row, q.out_first = -q.begin * q.out_row;
    return indices_rows(&q, q.begin, q.end);
}

static int long_backward_planes(void *context, int64_t begin, int64_t end)
{
    enum { MOST = 1 << 17 }; /* positions */
    const pooling *p = context;
    const cut_size size = size_of_cuts(p);
    const int64_t rows = p->w->out_depth * p->w->out_height, most = max64(1, MOST / (size.columns * p->inner));
    const fdl_mark mark = fdl_scratch_mark();
    pooling q = *p;
    q.y = fdl_scratch(most * size.columns * p->inner * (int64_t)sizeof(real));
    q.indices = fdl_scratch(most * size.columns * p->inner * (int64_t)sizeof(int64_t));
    int status = q.y && q.indices ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t plane = begin; status == FDL_OK && plane < end; plane++) {
        real *grad_input = p->grad_input + plane * p->volume;
        memset(grad_input, 0, (size_t)p->volume * sizeof(real));
        for (int64_t i = plane * rows; status == FDL_OK && i < (plane + 1) * rows; i = q.end)
            for (int64_t column = 0; status == FDL_OK && column < p->whole_w->out_width; column += size.columns) {
                q.begin = i, q.end = min64((plane + 1) * rows, i + most);
                status = over_taps(&q, size, column, prepare, find_cut);
                const real *grad_output = p->grad_output + i * p->out_pitch + q.out_first;
                const int64_t *at = q.indices;
                for (int64_t row = i; status == FDL_OK && row < q.end; row++, grad_output += p->out_pitch)
                    for (int64_t j = 0; j < q.out_row; j += p->inner)
                        for (int64_t c = 0; c < p->inner; c++, at++)
                            if (*at >= 0)
                                grad_input[*at * p->inner + c] += grad_output[j + c];
            }
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- positions that are known ---- */

/* Another thread may write the indices meanwhile. So each is loaded once, and what was loaded is checked where it is
 * used; that all of them are right is looked at beforehand only to write nothing where one is not. */
FDL_INLINE int64_t load_index(const int64_t *p) { return *(const volatile int64_t *)p; }

static bool all_within(const int64_t *indices, int64_t size, int64_t least, int64_t bound)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < size; i++)
        bad |= (indices[i] < least) | (indices[i] >= bound);
    return !bad;
}

/* In the terms of max_pool: x [planes, positions], whose elements go to, or come from, y [planes, volume]. */
typedef struct {
    const real *x, *y;
    real *to_x, *to_y;
    const int64_t *indices;
    int64_t positions, volume, inner; /* inner: elements of a pixel */
} unpooling;

/* y = 0, and then what lies at each index is the last x of that index. */
static int unpool_planes(void *context, int64_t begin, int64_t end)
{
    const unpooling *u = context;
    for (int64_t plane = begin; plane < end; plane++) {
        const int64_t first = plane * u->positions;
        real *y = u->to_y + plane * u->volume;
        memset(y, 0, (size_t)u->volume * sizeof(real));
        for (int64_t i = first; i < first + u->positions; i++) {
            const int64_t at = load_index(u->indices + i);
            if (at < 0 || at >= u->volume)
                return FDL_BAD_INDEX;
            y[at] = u->x[i];
        }
    }
    return FDL_OK;
}

/* y = the sum of every x of each index; -1 is nowhere. A constant where that matters: inner. */
FDL_INLINE int give_winners(const unpooling *u, int64_t begin, int64_t end, const int64_t inner)
{
    const int64_t bound = u->volume / max64(1, inner);
    for (int64_t plane = begin; plane < end; plane++) {
        real *y = u->to_y + plane * u->volume;
        memset(y, 0, (size_t)u->volume * sizeof(real));
        for (int64_t i = plane * u->positions; i < (plane + 1) * u->positions; i += inner) {
            for (int64_t c = 0; c < inner; c++) {
                const int64_t at = load_index(u->indices + i + c);
                if (at < -1 || at >= bound)
                    return FDL_BAD_INDEX;
                if (at >= 0)
                    y[at * inner + c] += u->x[i + c];
            }
        }
    }
    return FDL_OK;
}

static int winners_planes(void *context, int64_t begin, int64_t end)
{
    const unpooling *u = context;
    return u->inner == 1 ? give_winners(u, begin, end, 1) : give_winners(u, begin, end, u->inner);
}

static int unpool_backward_planes(void *context, int64_t begin, int64_t end)
{
    const unpooling *u = context;
    for (int64_t plane = begin; plane < end; plane++) {
        const real *y = u->y + plane * u->volume;
        for (int64_t i = plane * u->positions; i < (plane + 1) * u->positions; i++) {
            const int64_t at = load_index(u->indices + i);
            if (at < 0 || at >= u->volume)
                return FDL_BAD_INDEX;
            u->to_x[i] = y[at];
        }
    }
    return FDL_OK;
}

static int over_indices(const unpooling *u, int64_t planes, int64_t least, fdl_task *task)
{
    if (!all_within(u->indices, planes * u->positions, least, u->volume / max64(1, u->inner)))
        return FDL_BAD_INDEX;
    return fdl_parallel(planes, ceil_div(POOL_GRAIN, max64(1, u->positions + u->volume)), task, (void *)u);
}

/* Planes whose windows are of no special kind, without NaN, that is quicker. */
static int in_general(const pooling *p, int64_t begin, int64_t end)
{
    return rows_in_band(p) > 0 ? rows_backward((void *)p, begin, end) : backward_planes((void *)p, begin, end);
}

#include "kernels/pooling/threes.h"
#include "kernels/pooling/tiles.h"

static int backward(pooling *p)
{
    if (is_quads(p))
        return over_planes(p, quads_backward);
    if (tiles_can(p))
        return over_planes(p, tiles_backward);
    if (threes_pay(p))
        return over_planes(p, threes_backward);
    if (p->whole && p->volume <= FEW)
        return over_planes(p, whole_backward);
    const bool in_rows = p->whole || is_pairs(p) || rows_in_band(p) > 0;
    /* A few small planes leave lanes empty, but sums must not be added up in another order than those of many. */
    const bool beside = pool_beside_pays(p) || (pool_is_small(p) && !in_rows);
    if (beside && !(is_pairs(p) && p->w->width > LANES / 2))
        return over_blocks(p, prepare, NULL, 0, beside_backward);
    return over_planes(p, !in_rows      ? backward_planes
                          : p->whole    ? whole_backward
                          : is_pairs(p) ? pairs_backward
                                        : rows_backward);
}

int fdl_max_pool_backward(const real *grad_output, const real *x, const int64_t *indices, real *grad_input,
                          const fdl_window *window)
{
    pooling p = {.whole_w = window, .x = x, .grad_output = grad_output, .grad_input = grad_input};
    pooling_describe(&p);
    if (indices) {
        const unpooling u = {.x = grad_output,
                             .to_y = grad_input,
                             .indices = indices,
                             .positions = p.positions,
                             .volume = p.volume,
                             .inner = p.inner};
        return over_indices(&u, p.planes, -1, winners_planes);
    }
    if (cuts_taps(&p))
        return over_planes(&p, long_backward_planes);
    const int status = is_cut(&p) && !is_pairs(&p) ? over_planes(&p, zero_planes) : FDL_OK;
    return status == FDL_OK ? over_cuts(&p, prepare, backward) : status;
}

int fdl_max_unpool(const real *x, const int64_t *indices, real *y, int64_t planes, int64_t positions, int64_t volume)
{
    const unpooling u = {.x = x, .to_y = y, .indices = indices, .positions = positions, .volume = volume, .inner = 1};
    return over_indices(&u, planes, 0, unpool_planes);
}

int fdl_max_unpool_backward(const real *grad_output, const int64_t *indices, real *grad_input, int64_t planes,
                            int64_t positions, int64_t volume)
{
    const unpooling u = {
        .y = grad_output, .to_x = grad_input, .indices = indices, .positions = positions, .volume = volume, .inner = 1};
    return over_indices(&u, planes, 0, unpool_backward_planes);
}
