/* Convolution of few positions with packed weights: the product of products.c with both sides exchanged, so that its
 * vectors run over filters, which fill them, instead of over positions, which would not (7 x 7 are three vectors and
 * one lane).
 *
 *   y^T [p, f] = sum_k columns[k, p] weight[f, k] + bias[f], p running over the positions of some images,
 *
 * A = columns^T, packed for as many images as stay in the second-level cache, in panels of nearly equal height. B = the
 * weights, packed with the filters as columns (gemm_pack_b_columns). The result is turned while it is stored. Sums in
 * `real`, in the order of products.c. */
#include "kernels/conv/conv.h"

enum {
    STRIP = 512 / (int)sizeof(real), /* filters that are multiplied at a time: weights of a slice, and those to come */
    SUMS_BYTES = 512 * 1024,         /* of results before they are turned, but at least a strip's */
    IMAGES_BYTES = 1024 * 1024,      /* of the columns of the images that are computed together, but at least one */
    COLUMNS_BYTES = 64 * 1024,       /* of the columns that are packed at a time */
    CHANNELS_TOGETHER = 1 << 15,     /* elements of columns that are worth a thread */
};

bool conv_few_applies(const convolution *v)
{
    return v->w.groups == 1 && !v->w.channels_last && v->packed_tile >= 0 && v->packed_tile & FDL_TILE_COLUMNS;
}

/* The columns that products.c computes for n of them, as if all were of whole tiles: found by timing. */
static double columns_computed(int64_t n)
{
    const int64_t rest = n % GEMM_COLUMNS, vectors = rest > LANES + GEMM_THIN ? 2 : rest > GEMM_THIN ? 1 : 0;
    const int64_t thin = max64(0, rest - vectors * LANES);
    return (double)(n - rest) + (vectors == 1 ? 1.06 : vectors) * LANES + (thin ? 2 + 1.6 * (double)thin : 0);
}

bool conv_few_pays(const convolution *v)
{
    if (v->packed_tile == FDL_TILE_COLUMNS)
        return true;
    const int64_t n = v->w.batch * v->positions;
    const double turning = 12 / (double)v->terms; /* for each term of a position */
    /* Tiles that hold the ends of images are copied there; that is seen in long sums, whose weights do not stay in cache. */
    const double packing = v->w.batch > 1 && v->terms > 3 * GEMM_K ? 1.01 : 1.03;
    return v->filters >= 2 * GEMM_B_NARROW && n >= GEMM_ROWS && columns_computed(n) > (packing + turning) * (double)n;
}

/* Some images of v. */
typedef struct {
    const convolution *v;
    int64_t first, images; /* of the batch */
    int64_t rows, panel;   /* images * positions, and how many of them a panel of A has */
    real *columns;         /* A, packed */
} part;

/* Items are channels. */
static int columns_task(void *context, int64_t begin, int64_t end)
{
    const part *p = context;
    const convolution *v = p->v;
    const int64_t together = max64(1, min64(end - begin, COLUMNS_BYTES / (v->taps * p->rows * (int64_t)sizeof(real))));
    const fdl_mark mark = fdl_scratch_mark();
    const bool in_place = v->is_matrix && p->images == 1;
    real *room = in_place ? NULL : fdl_scratch(together * v->taps * p->rows * (int64_t)sizeof(real));
    if (!room && !in_place)
        return FDL_OUT_OF_MEMORY;
    for (int64_t c = begin, channels; c < end; c += channels) {
        channels = in_place ? end - begin : min64(together, end - c);
        const int64_t k = c * v->taps, terms = channels * v->taps;
        const real *x = v->x + p->first * v->w.channels * v->pixels;
        for (int64_t i = 0; i < p->images && !in_place; i++)
            conv_fill_columns(v, x + i * v->w.channels * v->pixels, k, terms, 0, v->positions, room + i * v->positions,
                              p->rows);
        gemm_pack_a_columns(in_place ? x + c * v->pixels : room, p->rows, k, terms, v->terms, p->rows, p->panel,
                            p->columns);
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* y of image n and of `filters` filters from f on, from sums [positions, filters], `row` apart; up to LANES rows past the
 * last are read. */
static void store_turned(const convolution *v, int64_t n, int64_t f, int64_t filters, const real *sums, int64_t row)
{
    const limits cut = limits_of(&v->activation);
    real *y = v->y + (n * v->filters + f) * v->positions;
    const real *residual = v->residual ? v->residual + (y - v->y) : NULL;
    for (int64_t j = 0; j < filters; j += LANES) {
        const int64_t present = min64(LANES, filters - j);
        for (int64_t p = 0; p < v->positions; p += LANES) { /* main loop and tail */
            vreal block[LANES];
            vload_transposed(sums + p * row + j, row, block);
            for (int64_t l = 0; l < present; l++) {
                const int64_t to = (j + l) * v->positions + p, left = v->positions - p;
                const vreal value = residual ? block[l] + vload_up_to(residual + to, left) : block[l];
                vstore_up_to(y + to, vlimit(cut, value), left);
            }
        }
    }
    activate_stored(&v->activation, y, v->positions, filters, v->positions);
}

/* The sums [rows, filters] of the filters from f on. Slice by slice, so that columns stay in the second-level cache while
 * all strips of filters are multiplied by them. */
static int multiply(const part *p, int64_t f, int64_t filters, real *sums, int64_t row)
{
    const convolution *v = p->v;
    const gemm_packed_columns all = {v->packed, v->filters};
    const int64_t slices = gemm_slices(v->terms);
    int status = FDL_OK;
    for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
        terms = gemm_slice_terms(v->terms, k, slices - slice);
        const gemm_packed_columns weights = {gemm_packed_b(&all, k, terms, 0, v->filters, NULL), v->filters};
        const gemm_problem product = {
            .m = p->rows,
            .n = v->filters,
            .k = terms,
            .packed_a = {p->columns + gemm_packed_columns_size(p->rows, k, p->panel), p->rows, 0, p->panel},
            .pack_b = gemm_packed_b,
            .b = &weights,
            .b_panel = GEMM_B_NARROW,
            .c = (real *)((uintptr_t)sums - (uintptr_t)f * sizeof(real)),
            .c_row = row,
            .accumulate = slice > 0,
            .column_bias = slice == slices - 1 ? v->bias : NULL,
        };
        for (int64_t j = f; j < f + filters && status == FDL_OK; j += STRIP)
            status = gemm_block(&product, (gemm_range){0, p->rows, j, min64(j + STRIP, f + filters)});
    }
    return status;
}

/* Items are strips of filters. */
static int strips_task(void *context, int64_t begin, int64_t end)
{
    const part *p = context;
    const convolution *v = p->v;
    const int64_t size = (int64_t)sizeof(real);
    const int64_t together = max64(1, min64(end - begin, SUMS_BYTES / (p->rows * STRIP * size))) * STRIP;
    const int64_t row = together + 64 / size; /* odd in cache lines */
    const fdl_mark mark = fdl_scratch_mark();
    real *sums = fdl_scratch((p->rows + LANES) * row * size);
    int status = sums ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t f = begin * STRIP; f < min64(end * STRIP, v->filters) && status == FDL_OK; f += together) {
        const int64_t filters = min64(together, min64(end * STRIP, v->filters) - f);
        status = multiply(p, f, filters, sums, row);
        for (int64_t i = 0; i < p->images && status == FDL_OK; i++)
            store_turned(v, p->first + i, f, filters, sums + i * v->positions * row, row);
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_few_forward(const convolution *v)
{
    const int64_t size = v->terms * v->positions * (int64_t)sizeof(real); /* of one image's columns */
    const int64_t together = max64(1, min64(v->w.batch, IMAGES_BYTES / max64(1, size)));
    const bool small = conv_multiply_adds(v) * (double)together < 1 << 18;
    const int64_t grain = max64(1, CHANNELS_TOGETHER / max64(1, together * v->taps * v->positions));
    const fdl_mark mark = fdl_scratch_mark();
    part p = {.v = v};
    int status = FDL_OK;
    for (; p.first < v->w.batch && status == FDL_OK; p.first += p.images) {
        p.images = min64(together, v->w.batch - p.first), p.rows = p.images * v->positions;
        p.panel = ceil_div(p.rows, max64(1, ceil_div(p.rows, GEMM_A_PANEL)));
        p.columns = fdl_scratch(gemm_packed_columns_size(p.rows, v->terms, p.panel) * (int64_t)sizeof(real));
        status = p.columns ? fdl_parallel(v->channels, small ? INT64_MAX : grain, columns_task, &p) : FDL_OUT_OF_MEMORY;
        if (status == FDL_OK)
            status = fdl_parallel(ceil_div(v->filters, STRIP), small ? INT64_MAX : 1, strips_task, &p);
        fdl_scratch_release(mark);
    }
    return status;
}
