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

enum {
    MOST_DIMENSIONS = 64, /* as in NumPy */
    VECTORS = 4,          /* that are taken at once */
    COLUMNS = VECTORS * LANES,
    TERMS = 128,          /* of a lane */
    PIECE = 1 << 15,      /* elements of x */
    CHUNK = 16 * COLUMNS, /* columns of inner that are an item */
};

typedef struct {
    const real *x;
    real *y;
    int64_t outer, count, inner;
    int64_t piece, pieces, chunks; /* terms of a piece; how many pieces and chunks there are */
    int64_t kind;
    double divisor;
} reduction;

FDL_INLINE vreal combine(const int kind, vreal a, vreal b)
{
    return kind == FDL_REDUCE_SUM ? a + b : kind == FDL_REDUCE_AMAX ? vmax_nan(a, b) : vmin_nan(a, b);
}
FDL_INLINE double combine_one(const int kind, double a, double b)
{
    if (kind == FDL_REDUCE_SUM)
        return a + b;
    return a != a || (kind == FDL_REDUCE_AMAX ? a >= b : a <= b) ? a : b;
}
FDL_INLINE real neutral(const int kind)
{
    return kind == FDL_REDUCE_SUM ? 0 : kind == FDL_REDUCE_AMAX ? -(real)INFINITY : (real)INFINITY;
}

/* Of n numbers, n >= 1, that lie side by side. */
FDL_INLINE double reduce_row(const real *x, int64_t n, const int kind)
{
    double total = (double)neutral(kind);
    for (int64_t i = 0, end; i < n; i = end) {
        end = kind == FDL_REDUCE_SUM ? min64(n, i + TERMS * COLUMNS) : n;
        vreal v[VECTORS];
        FDL_UNROLL
        for (int j = 0; j < VECTORS; j++)
            v[j] = vset1(neutral(kind));
        for (; i + COLUMNS <= end; i += COLUMNS) { /* main loop */
            FDL_UNROLL
            for (int j = 0; j < VECTORS; j++)
                v[j] = combine(kind, v[j], vload(x + i + j * LANES));
        }
        for (; i + LANES <= end; i += LANES)
            v[0] = combine(kind, v[0], vload(x + i));
        if (i < end) /* tail */
            v[1] = combine(kind, v[1], vload_first_or(x + i, end - i, vset1(neutral(kind))));
        const vreal all = combine(kind, combine(kind, v[0], v[1]), combine(kind, v[2], v[3]));
        if (kind == FDL_REDUCE_SUM)
            total += vsum_double(all);
        for (int j = 0; j < LANES && kind != FDL_REDUCE_SUM; j++)
            total = combine_one(kind, total, (double)all[j]);
    }
    return total;
}

/* y[width] of `count` rows, `step` apart. */
FDL_INLINE void reduce_rows(const real *x, int64_t step, int64_t count, real *y, int64_t width, double divisor,
                            const int kind)
{
    for (int64_t column = 0, left; column < width; column += COLUMNS) {
        const real *row = x + column;
        vreal v[VECTORS], high[VECTORS], low[VECTORS];
        left = width - column;
        FDL_UNROLL
        for (int j = 0; j < VECTORS; j++)
            v[j] = vset1(neutral(kind)), high[j] = low[j] = (vreal){0};
        for (int64_t i = 0, end; i < count; i = end) {
            end = kind == FDL_REDUCE_SUM ? min64(count, i + TERMS) : count;
            if (left >= COLUMNS) {
                for (int64_t k = i; k < end; k++, row += step) { /* main loop */
                    FDL_UNROLL
                    for (int j = 0; j < VECTORS; j++)
                        v[j] = combine(kind, v[j], vload(row + j * LANES));
                }
            } else {
                for (int64_t k = i; k < end; k++, row += step) { /* tail */
                    FDL_UNROLL
                    for (int j = 0; j < VECTORS; j++)
                        if (left > j * LANES)
                            v[j] = combine(kind, v[j], vload_up_to(row + j * LANES, left - j * LANES));
                }
            }
            FDL_UNROLL
            for (int j = 0; j < VECTORS && kind == FDL_REDUCE_SUM; j++) {
                vtotal_add(&high[j], &low[j], v[j]);
                v[j] = (vreal){0};
            }
        }
        FDL_UNROLL
        for (int j = 0; j < VECTORS; j++)
            if (left > j * LANES)
                vstore_up_to(y + column + j * LANES,
                             kind == FDL_REDUCE_SUM ? vtotal(high[j], low[j]) / vset1((real)divisor) : v[j],
                             left - j * LANES);
    }
}

/* The same of rows that lie side by side and are narrow: so many as fill COLUMNS are taken as one, and these columns
 * then folded. */
FDL_INLINE void reduce_narrow(const real *x, int64_t count, real *y, int64_t width, double divisor, const int kind)
{
    real wide[COLUMNS];
    const int64_t together = COLUMNS / width, whole = count / together * together;
    reduce_rows(x, together * width, count / together, wide, together * width, 1, kind);
    for (int64_t j = 0; j < width; j++) {
        double total = (double)neutral(kind);
        for (int64_t i = 0; i < together; i++)
            total = combine_one(kind, total, (double)wide[i * width + j]);
        for (int64_t i = whole; i < count; i++)
            total = combine_one(kind, total, (double)x[i * width + j]);
        y[j] = (real)(total / divisor);
    }
}

FDL_INLINE void reduce_item(const reduction *r, int64_t item, const int kind)
{
    const int64_t column = item % r->chunks * CHUNK, part = item / r->chunks; /* of outer and pieces */
    const int64_t first = part % r->pieces * r->piece, count = min64(r->piece, r->count - first);
    const real *x = r->x + (part / r->pieces * r->count + first) * r->inner + column;
    real *y = r->y + part * r->inner + column;
    if (r->inner == 1)
        *y = (real)(reduce_row(x, count, kind) / r->divisor);
    else if (2 * r->inner <= COLUMNS && count * r->inner >= 2 * COLUMNS)
        reduce_narrow(x, count, y, r->inner, r->divisor, kind);
    else
        reduce_rows(x, r->inner, count, y, min64(CHUNK, r->inner - column), r->divisor, kind);
}

static int reduce_items(void *context, int64_t begin, int64_t end)
{
    const reduction *r = context;
    for (int64_t item = begin; item < end; item++) {
        if (r->kind == FDL_REDUCE_SUM)
            reduce_item(r, item, FDL_REDUCE_SUM);
        else if (r->kind == FDL_REDUCE_AMAX)
            reduce_item(r, item, FDL_REDUCE_AMAX);
        else
            reduce_item(r, item, FDL_REDUCE_AMIN);
    }
    return FDL_OK;
}

/* Of x [outer, count, inner], none of them 0. */
static int reduce_once(reduction r)
{
    const int64_t size = r.outer * r.count * r.inner;
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
