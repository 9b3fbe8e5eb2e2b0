/* Sums, maxima and minima over dimensions:
 *
 *   sum          the sum, over a divisor (of a mean, the number of terms)
 *   amax, amin   the largest and the smallest; NaN where there is one
 *
 * Neighbouring dimensions that are both kept, or both reduced, are joined. Then x is [outer, count, inner], and y [outer,
 * inner]; where dimensions that are reduced lie apart, the last are reduced first, and what comes out again.
 *
 * A lane sums up few terms in `real`, and these sums are added up in double, or to twice as many digits (sums.h). Where
 * count is large it is cut into pieces whose size follows from that of x, and what they give is reduced in turn: so
 * nothing follows from the number of threads. */
#include "vector/elementwise.h"
#include "vector/sums.h"

#include <math.h>

enum {
    MOST_DIMENSIONS = 64, /* as in NumPy */
    VECTORS = 4,          /* that are taken at once */
    COLUMNS = VECTORS * LANES,
    TERMS = 128,                      /* of a lane */
    AHEAD = 4096 / (int)sizeof(real), /* elements that are asked for before they are read */
    PIECE = 1 << 15,                  /* elements of x */
    CHUNK = 16 * COLUMNS,             /* columns of inner that are an item */
};

typedef struct {
    const real *x;
    real *y;
    int64_t outer, count, inner;
    int64_t piece, pieces, chunks; /* terms of a piece; how many pieces and chunks there are */
    int64_t kind;
    vuint flip; /* the sign bit in each lane, or 0 */
    double divisor;
} reduction;

/* Sums, or the largest of what has `flip` in its sign: the smallest is the largest of negatives. */
FDL_INLINE vreal combine(const bool sums, vreal a, vreal b) { return sums ? a + b : vmax_nan(a, b); }
FDL_INLINE real neutral(const bool sums) { return sums ? 0 : -(real)INFINITY; }
FDL_INLINE vreal flipped(const bool sums, vreal v, vuint flip) { return sums ? v : (vreal)((vuint)v ^ flip); }
FDL_INLINE double combine_one(const bool sums, double a, double b) { return sums ? a + b : a != a || a >= b ? a : b; }

/* Of n numbers, n >= 1, that lie side by side. NaN is looked for apart: the largest is one instruction then. */
FDL_INLINE double reduce_row(const real *x, int64_t n, vuint flip, const bool sums)
{
    double total = (double)neutral(sums);
    vflags nans = {0};
    for (int64_t i = 0, end; i < n; i = end) {
        end = sums ? min64(n, i + TERMS * COLUMNS) : n;
        vreal v[VECTORS], next[VECTORS];
        FDL_UNROLL
        for (int j = 0; j < VECTORS; j++)
            v[j] = vset1(neutral(sums));
        for (; i + COLUMNS <= end; i += COLUMNS) { /* main loop */
            FDL_UNROLL
            for (int j = 0; j < VECTORS; j++) {
                __builtin_prefetch(x + i + j * LANES + AHEAD); /* across rows */
                next[j] = flipped(sums, vload(x + i + j * LANES), flip);
                v[j] = sums ? v[j] + next[j] : vmax(next[j], v[j]);
            }
            FDL_UNROLL
            for (int j = 0; j < VECTORS && !sums; j += 2)
                nans = vnan_seen(nans, next[j], next[j + 1]);
        }
        for (; i + LANES <= end; i += LANES) {
            next[0] = flipped(sums, vload(x + i), flip);
            v[0] = sums ? v[0] + next[0] : vmax(next[0], v[0]);
            nans = sums ? nans : vnan_seen(nans, next[0], next[0]);
        }
        if (i < end) { /* tail */
            next[0] = vfirst_or(flipped(sums, vload_first(x + i, end - i), flip), end - i, vset1(neutral(sums)));
            v[1] = sums ? v[1] + next[0] : vmax(next[0], v[1]);
            nans = sums ? nans : vnan_seen(nans, next[0], next[0]);
        }
        vreal all = combine(sums, combine(sums, v[0], v[1]), combine(sums, v[2], v[3]));
        if (sums) {
            total += vsum_double(all);
        } else {
            FDL_BUTTERFLIES(all, vmax);
            total = vnan_any(nans) ? NAN : (double)all[0];
        }
    }
    return total;
}

/* y[width], at most `vectors` of them, of `count` rows, `step` apart. */
FDL_INLINE void reduce_columns(const real *x, int64_t step, int64_t count, real *y, int64_t width, double divisor,
                               vuint flip, const bool sums, const int vectors)
{
    vreal v[VECTORS], high[VECTORS], low[VECTORS];
    FDL_UNROLL
    for (int j = 0; j < vectors; j++)
        v[j] = vset1(neutral(sums)), high[j] = low[j] = (vreal){0};
    for (int64_t i = 0; i < count;) {
        const int64_t end = sums ? min64(count, i + TERMS) : count;
        for (; i < end; i++, x += step) { /* main loop and, of one vector, tail */
            FDL_UNROLL
            for (int j = 0; j < vectors; j++)
                v[j] = combine(sums, v[j],
                               flipped(sums, vectors > 1 ? vload(x + j * LANES) : vload_up_to(x, width), flip));
        }
        FDL_UNROLL
        for (int j = 0; j < vectors && sums; j++) {
            vtotal_add(&high[j], &low[j], v[j]);
            v[j] = (vreal){0};
        }
    }
    FDL_UNROLL
    for (int j = 0; j < vectors; j++)
        vstore_up_to(y + j * LANES, sums ? vtotal(high[j], low[j]) / vset1((real)divisor) : flipped(sums, v[j], flip),
                     width - j * LANES);
}

FDL_INLINE void reduce_all_columns(const real *x, int64_t step, int64_t count, real *y, int64_t width, double divisor,
                                   vuint flip, const bool sums)
{
    int64_t column = 0;
    for (; column + COLUMNS <= width; column += COLUMNS)
        reduce_columns(x + column, step, count, y + column, COLUMNS, divisor, flip, sums, VECTORS);
    for (; column < width; column += LANES)
        reduce_columns(x + column, step, count, y + column, width - column, divisor, flip, sums, 1);
}

/* The same for either, out of line: it is called from two places. */
__attribute__((noinline)) static void reduce_rows(const reduction *r, const real *x, int64_t step, int64_t count,
                                                  real *y, int64_t width, double divisor)
{
    if (r->kind == FDL_REDUCE_SUM)
        reduce_all_columns(x, step, count, y, width, divisor, r->flip, true);
    else
        reduce_all_columns(x, step, count, y, width, divisor, r->flip, false);
}

/* The same of rows that lie side by side and are narrow: so many as fill COLUMNS are taken as one, and these columns
 * then folded. */
static void reduce_narrow(const reduction *r, const real *x, int64_t count, real *y)
{
    const bool sums = r->kind == FDL_REDUCE_SUM;
    const double sign = r->kind == FDL_REDUCE_AMIN ? -1 : 1;
    real wide[COLUMNS];
    const int64_t width = r->inner, together = COLUMNS / width, whole = count / together * together;
    reduce_rows(r, x, together * width, count / together, wide, together * width, 1);
    for (int64_t j = 0; j < width; j++) {
        double total = (double)neutral(sums);
        for (int64_t i = 0; i < together; i++)
            total = combine_one(sums, total, sign * (double)wide[i * width + j]);
        for (int64_t i = whole; i < count; i++)
            total = combine_one(sums, total, sign * (double)x[i * width + j]);
        y[j] = (real)(sign * total / r->divisor);
    }
}

/* The result of a row, or of a piece of one. */
FDL_INLINE real reduce_line(const reduction *r, const real *x, int64_t count)
{
    if (r->kind == FDL_REDUCE_SUM)
        return (real)(reduce_row(x, count, r->flip, true) / r->divisor);
    return (real)(reduce_row(x, count, r->flip, false) * (r->kind == FDL_REDUCE_AMIN ? -1 : 1));
}

static int reduce_items(void *context, int64_t begin, int64_t end)
{
    const reduction *r = context;
    if (r->inner == 1 && r->pieces == 1) { /* rows, of which short ones would see the divisions below */
        for (int64_t i = begin; i < end; i++)
            r->y[i] = reduce_line(r, r->x + i * r->count, r->count);
        return FDL_OK;
    }
    for (int64_t item = begin; item < end; item++) {
        const int64_t column = item % r->chunks * CHUNK, part = item / r->chunks; /* of outer and pieces */
        const int64_t first = part % r->pieces * r->piece, count = min64(r->piece, r->count - first);
        const real *x = r->x + (part / r->pieces * r->count + first) * r->inner + column;
        real *y = r->y + part * r->inner + column;
        if (r->inner == 1)
            *y = reduce_line(r, x, count);
        else if (2 * r->inner <= COLUMNS && count * r->inner >= 2 * COLUMNS)
            reduce_narrow(r, x, count, y);
        else
            reduce_rows(r, x, r->inner, count, y, min64(CHUNK, r->inner - column), r->divisor);
    }
    return FDL_OK;
}

/* Of x [outer, count, inner], none of them 0. */
static int reduce_once(reduction r)
{
    const int64_t size = r.outer * r.count * r.inner;
    r.flip = r.kind == FDL_REDUCE_AMIN ? vsign_bit(vset1(-1)) : (vuint){0};
    r.chunks = ceil_div(r.inner, CHUNK);
    r.piece = max64(16, PIECE / r.inner), r.pieces = ceil_div(r.count, r.piece);
    if (r.pieces < 4 || r.outer * r.chunks >= 64)
        r.piece = r.count, r.pieces = 1;
    const int64_t items = r.outer * r.pieces * r.chunks, grain = ceil_div(MEMORY_GRAIN, max64(1, size / items));
    if (r.pieces == 1)
        return fdl_parallel(items, grain, reduce_items, &r);
    reduction rest = {.y = r.y, .outer = r.outer, .count = r.pieces, .inner = r.inner, .kind = r.kind};
    const fdl_mark mark = fdl_scratch_mark();
    real *sums = fdl_scratch(r.outer * r.pieces * r.inner * (int64_t)sizeof(real));
    rest.x = r.y = sums, rest.divisor = r.divisor, r.divisor = 1;
    int status = sums ? fdl_parallel(items, grain, reduce_items, &r) : FDL_OUT_OF_MEMORY;
    if (status == FDL_OK)
        status = reduce_once(rest);
    fdl_scratch_release(mark);
    return status;
}

int fdl_reduce(const real *x, real *y, const int64_t *geometry, int64_t rank, int64_t kind, double divisor)
{
    int64_t sizes[MOST_DIMENSIONS + 1], groups = 0, reduced = -1, size = 1, kept = 1;
    for (int64_t i = 0; i < rank; i++, geometry += 2) { /* kept and reduced in turn, first kept */
        size *= geometry[0];
        kept *= geometry[1] ? 1 : geometry[0];
        if (geometry[0] == 1)
            continue;
        if (reduced != geometry[1] || groups == 0) {
            if (groups == 0 && geometry[1])
                sizes[groups++] = 1;
            sizes[groups++] = 1;
        }
        reduced = geometry[1];
        sizes[groups - 1] *= geometry[0];
    }
    if (size == 0 || groups < 2) { /* nothing to sum, or nothing but one number each */
        for (int64_t i = 0; i < kept; i++)
            y[i] = (size == 0 ? 0 : x[i]) / (real)divisor;
        return FDL_OK;
    }
    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OK;
    while (groups >= 2 && status == FDL_OK) { /* the last reduced one, and what is after it */
        const int64_t at = groups % 2 == 0 ? groups - 1 : groups - 2;
        reduction r = {.x = x, .y = y, .outer = 1, .count = sizes[at], .inner = at + 1 < groups ? sizes[at + 1] : 1};
        for (int64_t i = 0; i < at; i++)
            r.outer *= sizes[i];
        r.kind = kind, r.divisor = at > 1 ? 1 : divisor;
        if (at > 1) {
            r.y = fdl_scratch(r.outer * r.inner * (int64_t)sizeof(real));
            status = r.y ? FDL_OK : FDL_OUT_OF_MEMORY;
        }
        if (status == FDL_OK)
            status = reduce_once(r);
        x = r.y, sizes[at - 1] *= r.inner, groups = at;
    }
    fdl_scratch_release(mark);
    return status;
}
