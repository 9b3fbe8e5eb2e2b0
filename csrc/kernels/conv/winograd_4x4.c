/* Convolution of 3 x 3 kernels at stride 1 by Winograd's minimal filtering, F(4 x 4, 3 x 3), which is 36
 * multiplications where the definition needs 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * CVPR 2016). Where winograd_forward.h has vectors of tiles, these are vectors of channels, and then of filters, so
 * that no lane is empty however few tiles there are in a row.
 *
 *   For each tile d [6, 6] of the input (4 apart, overlapping by 2), each channel c, each filter f:
 *     V[c] = B^T d B      U[c, f] = G g[f, c] G^T      M[f] = sum_c V[c] * U[c, f]  (element by element)
 *     y [4, 4] = A^T M[f] A
 *   so that the sums over c are 36 matrix products M[p] [tiles, filters] = V[p] [tiles, channels] U[p].
 *
 * The transforms are in winograd.h. Where the channels are not last, pixels are transposed on their way in, and results
 * on their way out. Sums in `real`. */
#define WINOGRAD_TILE 4
#include "kernels/conv/conv.h"
#include "kernels/conv/winograd.h"

/* Work goes in blocks of rows of tiles (of all images, one after the other) or, where rows are long, of parts of a row:
 * V of a block is made for all channels, then, FILTERS at a time, U where it is not kept, M, and y. V and M of the moment
 * so stay in the caches. */
enum {
    PANEL = 128 / (int)sizeof(real), /* filters in a panel of U, the same on every level; the last may have half */
    FILTERS = 2 * PANEL,
};

/* U of some filters: POINTS matrices, `point` elements apart, each [slices of channels][panels][channels][width]. */
typedef struct {
    const convolution *v;
    int64_t first, lanes; /* the first filter, and how many, filled up to whole halves of panels */
    int64_t slice;        /* channels in a slice of the product */
    int64_t point;
    real *data;
} factors;

typedef struct {
    const convolution *v;
    int64_t tile_rows, row_tiles; /* of one image: rows of tiles, and tiles in a row */
    int64_t columns, row_blocks;  /* tiles of a row in a block, and blocks that a row is cut into */
    int64_t block_rows, blocks;   /* rows of tiles in a block, blocks in all */
    int64_t parts;                /* that the filters are cut into, where there are fewer blocks than threads */
    int64_t line;                 /* elements of the pixels of a block's row of tiles, side by side */
    int64_t v_point, v_tile;      /* elements from one point, and from one tile to the next in V [tiles, POINTS] */
    int64_t m_point;              /* elements from one point to the next in M [POINTS, tiles, FILTERS] */
    factors u;                    /* of all filters; its data NULL: made for FILTERS of them when needed */
    bool *finite;
} winograd;

/* A row of tiles in a block. */
typedef struct {
    int64_t n, i, j; /* the image, and the first row and column of results */
    int64_t tiles;
    int64_t height, width; /* of the results that are there */
} strip;

static strip locate_strip(const winograd *w, int64_t row, int64_t tile)
{
    const fdl_window *g = &w->v->w;
    strip t = {row / w->tile_rows, row % w->tile_rows * OUT, tile * OUT, min64(w->columns, w->row_tiles - tile), 0, 0};
    t.height = min64(OUT, g->out_height - t.i), t.width = min64(t.tiles * OUT, g->out_width - t.j);
    return t;
}

/* ---- U ---- */

static factors describe_u(const convolution *v, int64_t first, int64_t filters, real *data)
{
    factors u = {.v = v, .first = first, .lanes = ceil_div(filters, PANEL / 2) * (PANEL / 2), .data = data};
    u.slice = max64(1, ceil_div(v->channels, gemm_slices(v->channels)));
    u.point = v->channels * u.lanes + 3 * (PANEL / 2); /* not a whole page: POINTS streams are written side by side */
    return u;
}

/* Items are vectors of filters. */
static int transform_weights(void *context, int64_t begin, int64_t end)
{
    const factors *u = context;
    const convolution *v = u->v;
    const int64_t f_step = v->turned ? TAPS : v->channels * TAPS, c_step = v->turned ? v->filters * TAPS : TAPS;
    for (int64_t f = begin * LANES; f < end * LANES; f += LANES) {
        const int64_t panel = f / PANEL * PANEL, width = min64(PANEL, u->lanes - panel);
        const int64_t present = max64(0, min64(LANES, v->filters - u->first - f));
        for (int64_t c = 0; c < v->channels; c++) {
            const int64_t k = c / u->slice * u->slice, terms = min64(u->slice, v->channels - k);
            const real *from = v->weight + (u->first + f) * f_step + c * c_step;
            real *to = u->data + k * u->lanes + panel * terms + (c - k) * width + f - panel;
            transform_kernels(from, f_step, present, v->turned, to, u->point);
        }
    }
    return FDL_OK;
}

int64_t conv_winograd_4x4_packed_size(const convolution *v)
{
    return POINTS * describe_u(v, 0, v->filters, NULL).point;
}

int conv_winograd_4x4_pack(const convolution *v, real *data)
{
    factors u = describe_u(v, 0, v->filters, data);
    const bool small = v->channels * v->filters < 1 << 14;
    return fdl_parallel(u.lanes / LANES, small ? INT64_MAX : 1, transform_weights, &u);
}

/* B = U of one point, from filter `filter` of u on. */
typedef struct {
    const factors *u;
    int64_t point, filter;
} factor;

static const real *packed_u(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const factor *b = context;
    (void)columns, (void)out;
    return b->u->data + b->point * b->u->point + k * b->u->lanes + (b->filter + column) * terms;
}

/* ---- V ---- */

/* The part of an image that a row of tiles sees: its pixel (i, j), LANES channels of it or more, is at
 * data + i * row + j * pixel, for 0 <= i < height and 0 <= j < width; the others are 0. */
typedef struct {
    const real *data;
    int64_t row, pixel;
    int64_t height, width;
} view;

/* V, points `point` elements apart, of the tile whose first pixel is (i, j). `whole`, constant wherever inlined: all of
 * its pixels are there, and all lanes of them, rather than the first `lanes`. */
FDL_INLINE void transform_tile(const view *x, int64_t i, int64_t j, int64_t lanes, const bool whole, real *to,
                               int64_t point)
{
    const real *first = x->data + i * x->row + j * x->pixel;
    const int64_t row = x->row, pixel = x->pixel;
    vreal half[IN][IN]; /* B^T d */
    FDL_UNROLL
    for (int s = 0; s < IN; s++) {
        vreal d[IN], t[IN];
        FDL_UNROLL
        for (int r = 0; r < IN; r++) {
            const bool exists = i + r >= 0 && i + r < x->height && j + s >= 0 && j + s < x->width;
            const real *from = first + r * row + s * pixel;
            d[r] = whole ? vload(from) : exists ? vload_up_to(from, lanes) : (vreal){0};
        }
        input_transform(d, t);
        FDL_UNROLL
        for (int r = 0; r < IN; r++)
            half[r][s] = t[r];
    }
    FDL_UNROLL
    for (int r = 0; r < IN; r++) {
        vreal value[IN];
        input_transform(half[r], value);
        FDL_UNROLL
        for (int s = 0; s < IN; s++)
            vstore(to + (r * IN + s) * point, value[s]);
    }
}

/* V of a strip, where the channels are last. */
static void transform_pixels(const winograd *w, strip t, real *to)
{
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    const int64_t i = t.i - g->padding_height;
    const real *image = v->x + t.n * v->pixels * v->channels;
    view x = {image, g->width * v->channels, v->channels, g->height, g->width};
    for (int64_t tile = 0; tile < t.tiles; tile++, to += w->v_tile) {
        const int64_t j = t.j + tile * OUT - g->padding_width;
        const bool inside = i >= 0 && i + IN <= g->height && j >= 0 && j + IN <= g->width;
        int64_t c = 0;
        for (; inside && c + LANES <= v->channels; c += LANES) { /* main loop */
            x.data = image + c;
            transform_tile(&x, i, j, LANES, true, to + c, w->v_point);
        }
        for (; c < v->channels; c += LANES) { /* edges and tail */
            x.data = image + c;
            transform_tile(&x, i, j, v->channels - c, false, to + c, w->v_point);
        }
    }
}

/* V of a strip, where the channels are first. Scratch: the pixels of a vector of channels [IN, w->line]; and where in it
 * those of IN rows of the image go, once transposed. */
static void transform_planes(const winograd *w, strip t, real *lines, const int32_t *place, real *to)
{
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    const int64_t i = t.i - g->padding_height, j = t.j - g->padding_width; /* the first pixel, */
    /* and of those that exist: */
    const int64_t i_first = max64(0, min64(i, g->height)), i_last = max64(i_first, min64(g->height, i + IN));
    const int64_t j_first = min64(max64(0, j), j + w->line / LANES);
    const int64_t j_last = max64(j_first, min64(g->width, j + w->line / LANES));
    /* Rows that are taken whole follow each other, as one. */
    const bool whole = j_last - j_first == g->width;
    const int64_t runs = whole ? 1 : i_last - i_first, length = (whole ? i_last - i_first : 1) * (j_last - j_first);
    const view pixels = {lines, w->line, LANES, IN, w->line / LANES};
    real *inside = lines + (i_first - i) * w->line + (j_first - j) * LANES;
    for (int64_t r = 0; r < IN; r++) { /* 0 beside the image */
        const bool exists = i + r >= i_first && i + r < i_last;
        const int64_t left = exists ? (j_first - j) * LANES : w->line;
        const int64_t right = exists ? (j_last - j) * LANES : w->line;
        memset(lines + r * w->line, 0, (size_t)left * sizeof(real));
        memset(lines + r * w->line + right, 0, (size_t)(w->line - right) * sizeof(real));
    }
    for (int64_t c = 0; c < v->channels; c += LANES) {
        const int64_t present = min64(LANES, v->channels - c);
        for (int64_t run = 0; run < runs; run++) {
            const real *x = v->x + (t.n * v->channels + c) * v->pixels + (i_first + run) * g->width + j_first;
            real *line = inside + run * w->line;
            int64_t p = 0;
            for (; present == LANES && p + LANES <= length; p += LANES) { /* main loop */
                vreal block[LANES];
                vload_transposed(x + p, v->pixels, block);
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    vstore(line + place[p + l], block[l]);
            }
            for (; p < length; p += LANES) { /* tail */
                vreal block[LANES];
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    block[l] = l < present ? vload_up_to(x + l * v->pixels + p, length - p) : (vreal){0};
                vtranspose(block);
                for (int64_t l = 0; l < min64(LANES, length - p); l++)
                    vstore(line + place[p + l], block[l]);
            }
        }
        for (int64_t tile = 0; tile < t.tiles; tile++)
            transform_tile(&pixels, 0, tile * OUT, LANES, true, to + tile * w->v_tile + c, w->v_point);
    }
}

/* ---- y ---- */

/* What a convolution says of its results, where no store can change it. */
typedef struct {
    real *y;
    const real *residual;
    limits limits;
} epilogue;

/* A result with what is fused into it, of which `left` elements are there, to element `to` of y; `bad` becomes all-ones
 * in lanes where it is not finite. */
FDL_INLINE void store_result(epilogue e, vreal value, vreal bias, int64_t to, int64_t left, vint *bad)
{
    value += bias;
    if (e.residual)
        value += vload_up_to(e.residual + to, left);
    const vreal zero_unless_bad = value - value;
    *bad |= zero_unless_bad != zero_unless_bad;
    vstore_up_to(e.y + to, vlimit(e.limits, value), left);
}

/* A^T M A of a tile and a vector of filters; points of m are `point` elements apart. */
FDL_INLINE void transform_products(const real *m, int64_t point, vreal out[OUT][OUT])
{
    vreal half[OUT][IN]; /* A^T M */
    FDL_UNROLL
    for (int s = 0; s < IN; s++) {
        vreal column[IN], transformed[OUT];
        FDL_UNROLL
        for (int r = 0; r < IN; r++)
            column[r] = vload(m + (r * IN + s) * point);
        output_transform(column, transformed);
        FDL_UNROLL
        for (int r = 0; r < OUT; r++)
            half[r][s] = transformed[r];
    }
    FDL_UNROLL
    for (int r = 0; r < OUT; r++)
        output_transform(half[r], out[r]);
}

/* y of a strip and of `filters` filters from f on, where the channels are last; m is M of them. Returns lanes that are
 * all-ones where a result is not finite. */
static vint store_pixels(const winograd *w, const real *m, strip t, int64_t f, int64_t filters)
{
    const convolution *v = w->v;
    const int64_t pitch = v->filters, row = v->w.out_width * pitch;
    const int64_t y = (t.n * v->positions + t.i * v->w.out_width + t.j) * pitch + f;
    const epilogue e = {v->y, v->residual, limits_of(&v->activation)};
    vint bad = {0};
    for (int64_t tile = 0; tile < t.tiles; tile++, m += FILTERS)
        for (int64_t l = 0; l < filters; l += LANES) {
            const vreal bias = v->bias ? vload_up_to(v->bias + f + l, filters - l) : (vreal){0};
            vreal out[OUT][OUT];
            transform_products(m + l, w->m_point, out);
            FDL_UNROLL
            for (int r = 0; r < OUT; r++) {
                if (r >= t.height)
                    break;
                FDL_UNROLL
                for (int s = 0; s < OUT; s++) {
                    if (tile * OUT + s >= t.width)
                        break;
                    const int64_t to = y + r * row + (tile * OUT + s) * pitch + l;
                    store_result(e, out[r][s], bias, to, filters - l, &bad);
                }
            }
        }
    for (int64_t r = 0; r < t.height; r++)
        activate_stored(&v->activation, v->y + y + r * row, pitch, t.width, filters);
    return bad;
}

/* The same where they are first, a vector of filters at a time. Scratch: `results` [OUT, t.width]. */
static vint store_planes(const winograd *w, const real *m, strip t, int64_t f, int64_t filters, real *results)
{
    const convolution *v = w->v;
    const int64_t pitch = v->positions, width = v->w.out_width;
    /* Rows that are stored whole follow each other, as one. */
    const bool whole = t.width == width;
    const int64_t runs = whole ? 1 : t.height, length = (whole ? t.height : 1) * t.width;
    const epilogue e = {v->y, v->residual, limits_of(&v->activation)};
    vint bad = {0};
    for (int64_t l = 0; l < filters; l += LANES) {
        const int64_t present = min64(LANES, filters - l);
        for (int64_t tile = 0; tile < t.tiles; tile++) {
            vreal out[OUT][OUT];
            transform_products(m + tile * FILTERS + l, w->m_point, out);
            FDL_UNROLL
            for (int r = 0; r < OUT; r++) {
                FDL_UNROLL
                for (int s = 0; s < OUT; s++) {
                    if (tile * OUT + s >= t.width)
                        break;
                    vstore(results + (r * t.width + tile * OUT + s) * LANES, out[r][s]);
                }
            }
        }
        for (int64_t run = 0; run < runs; run++) {
            const int64_t y = (t.n * v->filters + f + l) * pitch + (t.i + run) * width + t.j;
            for (int64_t p = 0; p < length; p += LANES) {
                vreal block[LANES];
                vload_transposed(results + (run * length + p) * LANES, LANES, block);
                FDL_UNROLL
                for (int k = 0; k < LANES; k++) {
                    if (k >= present)
                        break;
                    const vreal bias = vset1(v->bias ? v->bias[f + l + k] : 0);
                    store_result(e, block[k], bias, y + k * pitch + p, length - p, &bad);
                }
            }
            activate_stored(&v->activation, v->y + y, pitch, present, length);
        }
    }
    return bad;
}

/* M of the first `tiles` tiles and of `filters` filters from f on, which are in u. */
static int multiply(const winograd *w, const real *v_data, int64_t tiles, const factors *u, int64_t f, int64_t filters,
                    real *m)
{
    int status = FDL_OK;
    for (int64_t p = 0; p < POINTS && status == FDL_OK; p++) {
        const factor b = {u, p, f - u->first};
        const gemm_problem product = {
            .m = tiles,
            .n = ceil_div(filters, PANEL / 2) * (PANEL / 2),
            .k = w->v->channels,
            .k_slice = u->slice,
            .a = {v_data + p * w->v_point, w->v_tile, 1},
            .pack_b = packed_u,
            .b = &b,
            .b_panel = GEMM_COLUMNS == (int)PANEL ? 0 : PANEL,
            .b_step = GEMM_COLUMNS == (int)PANEL && p + 1 < POINTS ? u->point : 0,
            .c = m + p * w->m_point,
            .c_row = FILTERS,
        };
        status = gemm_block(&product, (gemm_range){0, tiles, 0, product.n});
    }
    return status;
}

/* Items are parts of the filters of blocks. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    const int64_t size = (int64_t)sizeof(real), tiles = w->block_rows * w->columns;
    factors chunk = describe_u(v, 0, FILTERS, NULL);
    const fdl_mark mark = fdl_scratch_mark();
    real *v_data = fdl_scratch(tiles * w->v_tile * size), *m = fdl_scratch(POINTS * w->m_point * size);
    real *u_data = w->u.data ? NULL : fdl_scratch(POINTS * chunk.point * size);
    int status = v_data && m && (w->u.data || u_data) ? FDL_OK : FDL_OUT_OF_MEMORY;
    real *lines = NULL, *results = NULL;
    int32_t *place = NULL;
    if (!g->channels_last && status == FDL_OK) {
        const int64_t results_size = (OUT * w->columns * OUT + LANES) * LANES; /* a vector of pixels past the last */
        lines = fdl_scratch(IN * w->line * size), results = fdl_scratch(results_size * size);
        place = fdl_scratch(IN * g->width * (int64_t)sizeof(int32_t));
        if (lines && results && place) {
            memset(results, 0, (size_t)(results_size * size));
            for (int64_t r = 0; r < IN; r++)
                for (int64_t j = 0; j < g->width; j++)
                    place[r * g->width + j] = (int32_t)(r * w->line + j * LANES);
        } else {
            status = FDL_OUT_OF_MEMORY;
        }
    }
    vint bad = {0};
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t block = item / w->parts, part = item % w->parts;
        const int64_t first = block / w->row_blocks * w->block_rows, tile = block % w->row_blocks * w->columns;
        const int64_t columns = min64(w->columns, w->row_tiles - tile);
        const int64_t rows = min64(w->block_rows, v->w.batch * w->tile_rows - first);
        const int64_t panels = ceil_div(w->u.lanes, PANEL), f_begin = panels * part / w->parts * PANEL;
        const int64_t f_end = min64(v->filters, panels * (part + 1) / w->parts * PANEL);
        for (int64_t row = 0; row < rows && f_begin < f_end; row++) {
            const strip t = locate_strip(w, first + row, tile);
            real *to = v_data + row * columns * w->v_tile;
            if (g->channels_last)
                transform_pixels(w, t, to);
            else
                transform_planes(w, t, lines, place, to);
        }
        for (int64_t f = f_begin; f < f_end && status == FDL_OK; f += FILTERS) {
            const int64_t filters = min64(FILTERS, f_end - f);
            if (!w->u.data) {
                chunk = describe_u(v, f, filters, u_data);
                transform_weights(&chunk, 0, chunk.lanes / LANES);
            }
            status = multiply(w, v_data, rows * columns, w->u.data ? &w->u : &chunk, f, filters, m);
            for (int64_t row = 0; row < rows && status == FDL_OK; row++) {
                const strip t = locate_strip(w, first + row, tile);
                const real *products = m + row * columns * FILTERS;
                bad |= g->channels_last ? store_pixels(w, products, t, f, filters)
                                        : store_planes(w, products, t, f, filters, results);
            }
        }
    }
    for (int l = 0; l < LANES; l++)
        if (bad[l])
            __atomic_store_n(w->finite, false, __ATOMIC_RELAXED);
    fdl_scratch_release(mark);
    return status;
}

int conv_winograd_4x4_forward(const convolution *v, bool *finite)
{
    *finite = true;
    if (v->w.batch == 0 || v->filters == 0)
        return FDL_OK;
    const int64_t size = (int64_t)sizeof(real);
    winograd w = {.v = v, .finite = finite};
    w.tile_rows = ceil_div(v->w.out_height, OUT), w.row_tiles = ceil_div(v->w.out_width, OUT);
    /* Packed weights are only read. */
    w.u = describe_u(v, 0, v->filters, v->packed_tile == WINOGRAD_TILE ? (real *)v->packed_winograd : NULL);
    /* As many rows of tiles as keep V and M in the second-level cache, but enough to fill tiles of the product and feed
     * every thread. A U that does not stay in that cache is read anew for every block, and the larger it is, the more
     * that costs beside a block that does not stay there either. */
    const int64_t all_rows = v->w.batch * w.tile_rows;
    const int64_t u_size = POINTS * w.u.point * size;
    const int64_t budget = u_size <= 1 << 20 ? 1 << 19 : max64(1 << 20, min64(1 << 22, u_size / 4));
    const int64_t fit = max64(GEMM_ROWS, budget / (POINTS * (v->channels + FILTERS) * size));
    const bool small = v->channels * v->filters * v->positions * v->w.batch < 1 << 18;
    const int64_t threads = fdl_available_threads(small ? 1 : FDL_MOST_THREADS);
    const int64_t row_threads = all_rows * w.row_tiles < threads * GEMM_ROWS ? 1 : threads;
    w.columns = ceil_div(w.row_tiles, max64(1, (w.row_tiles + fit / 2) / fit));
    w.row_blocks = ceil_div(w.row_tiles, w.columns);
    w.line = (w.columns * OUT + IN - OUT) * LANES;
    w.block_rows = max64(1, min64((fit + w.columns / 2) / w.columns, ceil_div(all_rows, row_threads)));
    w.block_rows = ceil_div(all_rows, ceil_div(all_rows, w.block_rows));
    w.blocks = ceil_div(all_rows, w.block_rows) * w.row_blocks;
    w.parts = w.blocks < threads ? threads : 1;
    w.v_point = ceil_div(v->channels, LANES) * LANES;
    w.v_tile = POINTS * w.v_point + LANES; /* odd in vectors: tiles do not share cache sets */
    w.m_point = w.block_rows * w.columns * FILTERS + 3 * LANES;

    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OK;
    if (!w.u.data && w.blocks * w.parts > threads) { /* U is used more than once */
        w.u.data = fdl_scratch(POINTS * w.u.point * size);
        status = w.u.data ? conv_winograd_4x4_pack(v, w.u.data) : FDL_OUT_OF_MEMORY;
    }
    if (status == FDL_OK)
        status = fdl_parallel(w.blocks * w.parts, small ? INT64_MAX : 1, forward_task, &w);
    fdl_scratch_release(mark);
    return status;
}
