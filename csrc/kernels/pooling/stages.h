/* The gradient of maximum pooling whose winners are not known, in stages over a band of rows that stays in cache:
 *
 *   lay     rows of x into a sheet in which windows need no bounds
 *   along   best [rows, windows] = the maximum of a row of x under each window along the width; tap: which saw it
 *   across  of the rows that a window sees, the one whose best it is: its given [rows, windows] gets the gradient
 *   back    given, to where tap says, into grad_input [rows, width]
 *
 * Along and across, what comes later takes over where it is larger, or NaN. So the first of equals wins in the order of
 * depth, height and width, and the last NaN. What windows share is done once, and vectors are read as they were stored, or
 * long after. Sums are of `real`, of the windows in their order.
 *
 * Vectors lie along the width, at strides 1 and 2 (`rows_*`), or across LANES planes side by side (`beside_*`). */
#ifndef FASTDL_STAGES_H
#define FASTDL_STAGES_H

#include "kernels/pooling/pooling.h"

enum { STAGES_MOST = 1 << 18 }; /* elements of all scratch of a band, at most; usually it is an eighth */

/* A tap of windows along the width. Element s q + phase of a row is element q of its phase. */
typedef struct {
    integer tap;
    int64_t from; /* in a row of the sheet, what window 0 sees there */
    int64_t to;   /* in a row of given, the window that sees element 0 of the phase there */
} stages_tap;

typedef struct {
    pooling p;
    int64_t row;     /* elements of a row of the sheet */
    int64_t windows; /* of a row of best, given and tap */
    int64_t columns; /* of those, whole vectors that are computed */
    int64_t lead;    /* zeros of given before the first window */
    int64_t rows;    /* of x in a band, at most */
    int64_t begin;   /* the first row of the present band */
    bool finite;     /* there is no NaN in it */
    real *sheet, *best, *given;
    integer *tap;
    /* Of rows. */
    int64_t pitch;       /* of a phase in a row of the sheet */
    int64_t margin;      /* of it, before element 0 */
    stages_tap *taps;    /* [kernel_width] */
    stages_tap *back;    /* the same by phase */
    int64_t in_phase[2]; /* how many of each */
    integer *start;      /* [columns] the first tap inside the row */
} stages;

static bool stages_scratch(stages *s)
{
    const int64_t bytes = (s->rows * s->windows + s->lead) * (int64_t)sizeof(real);
    s->sheet = fdl_scratch((s->rows * s->row + s->margin) * (int64_t)sizeof(real));
    s->best = fdl_scratch(bytes);
    s->given = fdl_scratch(bytes);
    s->tap = fdl_scratch(bytes);
    return s->sheet && s->best && s->given && s->tap;
}

/* Whether there is no NaN in x [size]. */
static FDL_OUTLINE bool is_finite(const real *x, int64_t size)
{
    vflags nans = {0};
    int64_t i = 0;
    for (; i + 2 * LANES <= size; i += 2 * LANES) /* main loop */
        nans = vnan_seen(nans, vload(x + i), vload(x + i + LANES));
    for (; i < size; i += LANES) { /* tail */
        const vreal v = vload_up_to(x + i, size - i);
        nans = vnan_seen(nans, v, v);
    }
    return !vnan_any(nans);
}

/* v, from `place`, takes over where it is larger, or NaN. A constant wherever inlined: finite, that none is NaN. */
FDL_INLINE void take_later(vreal *best, vint *at, vreal v, vint place, const bool finite)
{
    if (!finite) {
        vtake_later(best, at, v, place);
        return;
    }
    *at = vselect_int(v > *best, place, *at);
    *best = vmax(v, *best);
}

#if VECTOR_BYTES / REAL_BYTES == 16
/* n elements of v to `to`, and of its upper half to `step` elements on; exact: no more than these are written. */
FDL_INLINE void store_halves(real *to, int64_t step, vreal v, int64_t n, bool exact)
{
    if (exact) {
        vstore_masked(to, v, vmask_range(0, n));
        vstore_masked(to + step - LANES / 2, v, vmask_range(LANES / 2, LANES / 2 + n));
    } else {
        vstore_halves(to, to + step, v);
    }
}
#endif

/* Of the rows that LANES windows see, `high` of each of `deep`, the one that won gets grad. best and given: of the first
 * of them; deeper and lower: from one to the next. Constants where that matters: deep, high; always: finite. */
FDL_INLINE void across_at(const real *best, real *given, vreal grad, const int64_t deep, int64_t deeper,
                          const int64_t high, int64_t lower, const bool finite)
{
    vreal most = vload(best);
    vint won = {0};
    for (int64_t d = 0; d < deep; d++)
        for (int64_t h = d == 0; h < high; h++)
            take_later(&most, &won, vload(best + d * deeper + h * lower), vset1_int((integer)(d * high + h)), finite);
    for (int64_t d = 0; d < deep; d++)
        for (int64_t h = 0; h < high; h++) {
            real *to = given + d * deeper + h * lower;
            vstore(to, vload(to) + vonly(won == vset1_int((integer)(d * high + h)), grad));
        }
}

/* Rows [begin, end) of y at every depth: grad_output [out_depth, end - begin, count]. */
FDL_INLINE void across_rows(const stages *s, const real *grad_output, int64_t begin, int64_t end, int64_t count,
                            const bool finite)
{
    const fdl_window *w = s->p.w;
    const int64_t lower = w->dilation_height * s->windows, deeper = w->dilation_depth * w->height * s->windows;
    const real *const bests = s->best + s->lead - s->begin * s->windows;
    real *const givens = s->given + s->lead - s->begin * s->windows;
    for (int64_t depth = 0; depth < w->out_depth; depth++)
        for (int64_t i = begin; i < end; i++, grad_output += count) {
            const span d = s->p.depth[depth], h = s->p.height[i];
            const int64_t first = (d.first * w->height + h.first) * s->windows;
            for (int64_t j = 0; d.count > 0 && h.count > 0 && j < count; j += LANES) { /* main loop and tail */
                const vreal grad = vload_up_to(grad_output + j, count - j);
                const real *best = bests + first + j;
                real *given = givens + first + j;
                if (d.count == 1 && h.count == 3)
                    across_at(best, given, grad, 1, 0, 3, lower, finite);
                else if (d.count == 1 && h.count == 5)
                    across_at(best, given, grad, 1, 0, 5, lower, finite);
                else if (d.count == 1)
                    across_at(best, given, grad, 1, 0, h.count, lower, finite);
                else
                    across_at(best, given, grad, d.count, deeper, h.count, lower, finite);
            }
        }
}

static void across(const stages *s, const real *grad_output, int64_t begin, int64_t end, int64_t count)
{
    if (s->finite)
        across_rows(s, grad_output, begin, end, count, true);
    else
        across_rows(s, grad_output, begin, end, count, false);
}

/* Ask for x [size], of the next band or plane, or to be written soon: rows are too short for the processor to see that
 * they go on. */
FDL_INLINE void ask_for(const real *x, int64_t size, const bool written)
{
    for (int64_t i = 0; i < size; i += 64 / (int)sizeof(real)) {
        if (written)
            __builtin_prefetch(x + i, 1);
        else
            __builtin_prefetch(x + i);
    }
}

/* ---- vectors along the width ---- */

static int64_t whole_vectors(int64_t n) { return ceil_div(n, LANES) * LANES; }

/* Windows along the width of a row, and room for a band; false: out of memory. Stride 1 or 2. */
static bool rows_make(stages *s, const pooling *p)
{
    s->p = *p;
    const fdl_window *w = p->w;
    const int64_t stride = w->stride_width, phase_size = whole_vectors(ceil_div(w->width, stride));
    const int64_t before = ceil_div(w->padding_width, stride),
                  after = (w->kernel_width - 1) * w->dilation_width / stride;
    /* What is past a row's end is before the start of the next. */
    s->columns = whole_vectors(w->out_width);
    s->margin = whole_vectors(max64(before, after)), s->lead = s->margin;
    s->pitch = s->margin + max64(phase_size, s->columns);
    s->row = stride * s->pitch;
    s->windows = s->lead + max64(s->columns, phase_size);
    s->taps = fdl_scratch(w->kernel_width * (int64_t)sizeof(stages_tap));
    s->back = fdl_scratch(w->kernel_width * (int64_t)sizeof(stages_tap));
    s->start = fdl_scratch(s->columns * (int64_t)sizeof(real));
    if (!s->taps || !s->back || !s->start || !stages_scratch(s))
        return false;
    for (int64_t phase = 0, k = 0; phase < 2; phase++) {
        const int64_t before = k;
        for (int64_t tap = w->kernel_width - 1; tap >= 0; tap--) {         /* windows in their order */
            const int64_t at = tap * w->dilation_width - w->padding_width; /* the element that window 0 sees */
            const int64_t q = (at - phase) / stride;
            if (q * stride + phase != at)
                continue;
            if (phase == stride)
                break;
            s->back[k++] = s->taps[tap] = (stages_tap){(integer)tap, phase * s->pitch + s->margin + q, s->lead - q};
        }
        s->in_phase[phase] = k - before;
    }
    for (int64_t j = 0; j < s->columns; j++) {
        const span seen =
            span_at(j, w->width, w->out_width, w->kernel_width, stride, w->padding_width, w->dilation_width);
        s->start[j] = (integer)seen.skipped; /* past all taps: none */
    }
    for (int64_t i = 0; i < s->rows * s->row + s->margin; i++)
        s->sheet[i] = (real)-INFINITY;
    return true;
}

/* LANES elements, or the first n >= 1 and then -infinity. */
FDL_INLINE vreal load_or_nothing(const real *x, int64_t n)
{
    return n >= LANES ? vload(x) : vload_first_or(x, n, vset1((real)-INFINITY));
}

/* x [rows, width] into the sheet. */
static void rows_lay(const stages *s, const real *x, int64_t rows)
{
    const int64_t width = s->p.w->width, row = s->row, pitch = s->pitch;
    real *to = s->sheet + s->margin;
    if (s->p.w->stride_width == 1) {
        for (int64_t r = 0; r < rows; r++, x += width, to += row)
            for (int64_t i = 0; i < width; i += LANES) /* main loop and tail */
                vstore(to + i, load_or_nothing(x + i, width - i));
        return;
    }
    for (int64_t r = 0; r < rows; r++, x += width, to += row) {
        vreal even, odd;
        int64_t i = 0;
        for (; 2 * (i + LANES) <= width; i += LANES) { /* main loop */
            vload_even_odd(x + 2 * i, &even, &odd);
            vstore(to + i, even);
            vstore(to + pitch + i, odd);
        }
        if (2 * i < width) { /* tail */
            const vreal low = load_or_nothing(x + 2 * i, width - 2 * i);
            const vreal high = width - 2 * i > LANES ? load_or_nothing(x + 2 * i + LANES, width - 2 * i - LANES)
                                                     : vset1((real)-INFINITY);
            vstore(to + i, veven(low, high));
            vstore(to + pitch + i, vodd(low, high));
        }
    }
}

/* What a window's taps see, of `count` of them: the largest, and which it is. */
FDL_INLINE void largest_tap(const stages_tap *taps, const int64_t count, const real *from, vreal *best, vint *at,
                            const bool finite)
{
    *best = vload(from + taps[0].from);
    *at = (vint){0};
    for (int64_t k = 1; k < count; k++)
        take_later(best, at, vload(from + taps[k].from), vset1_int((integer)k), finite);
}

FDL_INLINE void rows_along_of(const stages *given, int64_t rows, const bool finite)
{
    const stages own = *given, *const s = &own; /* which no store changes */
    const int64_t taps = s->p.w->kernel_width;
    const real *from = s->sheet;
    real *to = s->best + s->lead;
    integer *tap = s->tap + s->lead;
    for (int64_t r = 0; r < rows; r++, from += s->row, to += s->windows, tap += s->windows)
        for (int64_t j = 0; j < s->columns; j += LANES) { /* whole vectors */
            vreal best;
            vint at;
            if (taps == 3)
                largest_tap(s->taps, 3, from + j, &best, &at, finite);
            else
                largest_tap(s->taps, taps, from + j, &best, &at, finite);
            const vint start = vload_int(s->start + j); /* of equals those before the row do not count */
            vstore(to + j, best);
            vstore_int(tap + j, vselect_int(at < start, start, at));
        }
}

static void rows_along(const stages *s, int64_t rows)
{
    if (s->finite)
        rows_along_of(s, rows, true);
    else
        rows_along_of(s, rows, false);
}

/* What LANES elements of a phase are given by one tap, and by `count` of them. */
FDL_INLINE vreal given_by(stages_tap t, const real *given, const integer *tap)
{
    return vonly(vload_int(tap + t.to) == vset1_int(t.tap), vload(given + t.to));
}
FDL_INLINE vreal given_by_all(const stages_tap *t, const int64_t count, const real *given, const integer *tap)
{
    vreal v = {0};
    for (int64_t k = 0; k < count; k++)
        v += given_by(t[k], given, tap);
    return v;
}

/* The first n elements of v, or all, to a row of grad_input, or onto what earlier bands gave it. */
FDL_INLINE void put(real *to, vreal v, int64_t n, bool onto)
{
    if (onto)
        v += vload_up_to(to, n);
    vstore_up_to(to, v, n);
}

/* A row of grad_input, a vector of each phase at a time. Constants wherever inlined: phases, three (taps, of which one
 * phase has two). */
FDL_INLINE void row_back(const stages *s, const real *given, const integer *tap, int64_t width, bool onto, real *to,
                         const int64_t phases, const bool three)
{
    const int64_t count = s->in_phase[0];
    const stages_tap *even_taps = s->back, *odd_taps = even_taps + count;
    for (int64_t i = 0; phases * i < width; i += LANES, given += LANES, tap += LANES) {
        vreal even, odd;
        if (three) {
            even = given_by(even_taps[0], given, tap), odd = given_by(even_taps[2], given, tap);
            const vreal more = given_by(even_taps[1], given, tap);
            if (count == 2)
                even += more;
            else
                odd += more;
        } else {
            even = given_by_all(even_taps, count, given, tap);
            odd = given_by_all(odd_taps, s->in_phase[1], given, tap);
        }
        const int64_t left = width - phases * i;
        if (phases == 1) {
            put(to + i, even, left, onto);
        } else if (left >= 2 * LANES && !onto) { /* main loop */
            vstore(to + 2 * i, vzip_low(even, odd));
            vstore(to + 2 * i + LANES, vzip_high(even, odd));
        } else { /* tail */
            put(to + 2 * i, vzip_low(even, odd), left, onto);
            if (left > LANES)
                put(to + 2 * i + LANES, vzip_high(even, odd), left - LANES, onto);
        }
    }
}

/* To grad_input [rows, width], of which the first `onto` rows hold what earlier bands gave. */
static void rows_back(const stages *band, real *to, int64_t rows, int64_t onto)
{
    const stages own = *band, *const s = &own; /* which no store changes */
    const int64_t width = s->p.w->width, windows = s->windows;
    const bool three = s->p.w->kernel_width == 3 && s->in_phase[0] > 0 && s->in_phase[1] > 0;
    const real *given = s->given;
    const integer *tap = s->tap;
    for (int64_t r = 0; r < rows; r++, to += width, given += windows, tap += windows)
        if (s->p.w->stride_width == 1)
            row_back(s, given, tap, width, r < onto, to, 1, false);
        else if (three)
            row_back(s, given, tap, width, r < onto, to, 2, true);
        else
            row_back(s, given, tap, width, r < onto, to, 2, false);
}

/* Whether windows see more than one image of a volume. */
FDL_INLINE bool is_deep(const fdl_window *w) { return w->depth > 1 || w->out_depth > 1; }

/* Rows of x in a band; 0: that is too much, or windows are not of this kind. Volumes are one band. */
static int64_t rows_in_band(const pooling *p)
{
    const fdl_window *w = p->w;
    if (p->path > PICKED || p->cut || p->far || w->stride_width > 2 || w->stride_height == 0 || w->stride_depth == 0)
        return 0;
    const int64_t extent = min64(w->height, (w->kernel_height - 1) * w->dilation_height + 1);
    const int64_t reach = (w->kernel_width - 1) * w->dilation_width + w->padding_width;
    const int64_t most = STAGES_MOST / (w->width + 3 * w->out_width + 6 * (reach + 2 * LANES)); /* at least that long */
    const int64_t least = is_deep(w) ? w->depth * w->height : extent;
    if (least > most)
        return 0;
    return is_deep(w) ? least : min64(w->height, max64(most / 8, min64(4 * extent, most)));
}

/* Rows of y from `begin` on that see only s->rows of x, and those of x: [s->begin, *last). */
static int64_t rows_of_band(stages *s, int64_t begin, int64_t *last)
{
    const fdl_window *w = s->p.w;
    int64_t end = begin, first = w->height;
    *last = 0;
    for (; end < w->out_height; end++) {
        const span h = s->p.height[end];
        if (h.count == 0)
            continue;
        /* With dilation a window may begin after the next one, whose first row is not padding. */
        const int64_t start = min64(first, h.first);
        const int64_t stop = max64(*last, h.first + (h.count - 1) * w->dilation_height + 1);
        if (stop - start > s->rows)
            break;
        first = start, *last = stop;
    }
    s->begin = min64(first, *last);
    if (is_deep(w))
        s->begin = 0, *last = s->rows;
    return is_deep(w) ? w->out_height : end;
}

static int rows_backward(void *context, int64_t begin, int64_t end)
{
    const pooling *p = context;
    const fdl_mark mark = fdl_scratch_mark();
    stages s = {.rows = rows_in_band(p)};
    const bool ready = rows_make(&s, p);
    for (int64_t plane = begin; ready && plane < end; plane++) {
        const real *x = p->x + plane * p->volume, *grad_output = p->grad_output + plane * p->positions;
        real *grad_input = p->grad_input + plane * p->volume;
        int64_t done = 0; /* rows of grad_input */
        for (int64_t i = 0, stop, last; i < p->w->out_height; i = stop, done = max64(done, last)) {
            stop = rows_of_band(&s, i, &last);
            const int64_t rows = last - s.begin;
            if (s.begin > done)
                memset(grad_input + done * p->row, 0, (size_t)((s.begin - done) * p->row) * sizeof(real));
            memset(s.given, 0, (size_t)(rows * s.windows + s.lead) * sizeof(real));
            rows_lay(&s, x + s.begin * p->row, rows);
            s.finite = is_finite(x + s.begin * p->row, rows * p->row);
            rows_along(&s, rows);
            ask_for(x + last * p->row, rows * p->row, false);
            ask_for(grad_input + s.begin * p->row, rows * p->row, true);
            across(&s, grad_output + i * p->out_row, i, stop, p->out_row);
            rows_back(&s, grad_input + s.begin * p->row, rows, done - s.begin);
        }
        memset(grad_input + done * p->row, 0, (size_t)(p->volume - done * p->row) * sizeof(real));
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* ---- planes side by side ---- */

/* The sheet [rows, width, LANES], from LANES elements to the next. */
FDL_INLINE void beside_along_of(const stages *band, const bool finite)
{
    const stages own = *band, *const s = &own; /* which no store changes */
    const pooling *p = &s->p;
    const int64_t step = p->w->dilation_width * LANES, out_width = p->w->out_width;
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; j < out_width; j++) {
            const span seen = p->width[j];
            const real *from = s->sheet + r * s->row + seen.first * LANES;
            vreal best = seen.count > 0 ? vload(from) : vset1((real)-INFINITY);
            vint at = {0};
            for (int64_t k = 1; k < seen.count; k++)
                take_later(&best, &at, vload(from + k * step), vset1_int((integer)k), finite);
            vstore(s->best + r * s->windows + j * LANES, best);
            vstore_int(s->tap + r * s->windows + j * LANES, at);
        }
}

static void beside_along(const stages *s)
{
    if (s->finite)
        beside_along_of(s, true);
    else
        beside_along_of(s, false);
}

/* Into the sheet, in place of x. */
static void beside_back(const stages *band)
{
    const stages own = *band, *const s = &own; /* which no store changes */
    const pooling *p = &s->p;
    const int64_t step = p->w->dilation_width * LANES, out_width = p->w->out_width;
    memset(s->sheet, 0, (size_t)(s->rows * s->row) * sizeof(real));
    for (int64_t r = 0; r < s->rows; r++)
        for (int64_t j = 0; j < out_width; j++) {
            const span seen = p->width[j];
            const vreal given = vload(s->given + r * s->windows + j * LANES);
            const vint at = vload_int(s->tap + r * s->windows + j * LANES);
            real *to = s->sheet + r * s->row + seen.first * LANES;
            for (int64_t k = 0; k < seen.count; k++, to += step)
                vstore(to, vload(to) + vonly(at == vset1_int((integer)k), given));
        }
}

/* Items are blocks of LANES planes. */
static int beside_backward(void *context, int64_t begin, int64_t end)
{
    const beside *b = context;
    const pooling *p = b->p;
    const fdl_mark mark = fdl_scratch_mark();
    stages s = {.p = b->side, .rows = p->w->depth * p->w->height, .row = b->side.row, .windows = b->side.out_row};
    real *grad_output = fdl_scratch(p->positions * VECTOR_BYTES); /* [positions, LANES] */
    const bool ready = stages_scratch(&s) && grad_output;
    for (int64_t block = begin; ready && block < end; block++) {
        const int64_t plane = block * LANES, planes = min64(LANES, p->planes - plane);
        interleave(p->x + plane * p->volume, p->volume, planes, p->volume, s.sheet);
        interleave(p->grad_output + plane * p->positions, p->positions, planes, p->positions, grad_output);
        memset(s.given, 0, (size_t)(s.rows * s.windows) * sizeof(real));
        s.finite = is_finite(s.sheet, p->volume * LANES);
        beside_along(&s);
        across(&s, grad_output, 0, p->w->out_height, s.windows);
        beside_back(&s);
        separate(s.sheet, p->volume, planes, p->volume, p->grad_input + plane * p->volume);
    }
    fdl_scratch_release(mark);
    return ready ? FDL_OK : FDL_OUT_OF_MEMORY;
}

#endif
