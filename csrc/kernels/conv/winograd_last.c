/* Winograd's algorithm (winograd_forward.h) where the channels are last: a tile's pixels are vectors of channels, and
 * nothing has to change its order. With the transforms of winograd.h,
 *
 *   V[p] [tiles, channels] = B^T d B      U[p] [channels, filters] = G g G^T      M[p] = V[p] U[p]      y = A^T M A
 *
 * for the 36 points p. Work goes in blocks of tiles: V of a block is made, then, for some filters at a time, M and y,
 * so that V and M stay in the second-level cache. U is made beforehand, laid out as the product reads it. */
#include "kernels/conv/conv.h"
#define WINOGRAD_TILE 4
#include "kernels/conv/winograd.h"

enum { FILTERS = 2 * GEMM_COLUMNS }; /* that M holds at a time */

typedef struct {
    const convolution *v;
    int64_t tile_rows, row_tiles;      /* of one image: rows of tiles, and tiles in a row */
    int64_t tiles, block;              /* tiles in all, and in a block */
    int64_t k_slice;                   /* channels in a slice of the product */
    int64_t lanes;                     /* of the panels that hold the filters */
    int64_t u_point, v_point, m_point; /* elements from one point to the next */
    int64_t v_row;                     /* elements from one tile to the next in V */
    real *u;
    bool *finite;
} winograd;

/* B = U of one point, [slices][panels][channels of the slice][width]. */
typedef struct {
    const real *u;
    int64_t lanes, filter; /* the first filter */
} factor;

static const real *packed_u(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    (void)columns, (void)out;
    const factor *b = context;
    return b->u + k * b->lanes + (b->filter + column) * terms;
}

/* Items are vectors of filters. */
static int transform_weights(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    for (int64_t f = begin * LANES; f < end * LANES; f += LANES) {
        const int64_t panel = f / GEMM_COLUMNS * GEMM_COLUMNS, width = gemm_panel_width(v->filters - panel);
        const int64_t start = f - panel < width ? panel : f; /* a narrow panel, then another */
        const int64_t its_width = start == panel ? width : gemm_panel_width(v->filters - start);
        const int64_t present = max64(0, min64(LANES, v->filters - f));
        for (int64_t c = 0; c < v->channels; c++) {
            const int64_t k = c / w->k_slice * w->k_slice, terms = min64(w->k_slice, v->channels - k);
            const real *from = v->weights.data + (f * v->channels + c) * 9;
            real *to = w->u + k * w->lanes + start * terms + (c - k) * its_width + f - start;
            /* One vector per tap, from nine elements per filter. */
            vreal taps[(9 + LANES - 1) / LANES * LANES];
            FDL_UNROLL
            for (int tap = 0; tap < 9; tap += LANES) {
                const vmask some = vmask_range(0, min64(LANES, 9 - tap));
                vreal *block = taps + tap;
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    block[l] = l < present ? vload_masked(from + l * v->terms + tap, some) : (vreal){0};
                vtranspose(block);
            }
            vreal half[3][IN]; /* (G g)^T */
            FDL_UNROLL
            for (int s = 0; s < 3; s++) {
                const vreal g[3] = {taps[s], taps[3 + s], taps[6 + s]};
                weight_transform(g, half[s]);
            }
            FDL_UNROLL
            for (int r = 0; r < IN; r++) {
                const vreal g[3] = {half[0][r], half[1][r], half[2][r]};
                vreal u[IN];
                weight_transform(g, u);
                FDL_UNROLL
                for (int s = 0; s < IN; s++)
                    vstore(to + (r * IN + s) * w->u_point, u[s]);
            }
        }
    }
    return FDL_OK;
}

/* Where a tile is: its image, and its first output row and column. */
typedef struct {
    int64_t n, i, j;
} place;

static place locate_tile(const winograd *w, int64_t tile)
{
    const int64_t row = tile / w->row_tiles;
    return (place){row / w->tile_rows, row % w->tile_rows * OUT, tile % w->row_tiles * OUT};
}

/* V of the vector of channels at x, the image's first pixel, for the tile whose first pixel is (row, column); `whole`,
 * constant wherever inlined: all of its pixels exist, and all of the vector's channels. */
FDL_INLINE void transform_input(const winograd *w, const real *x, int64_t row, int64_t column, real *to,
                                const bool whole, int64_t channels)
{
    const fdl_window *g = &w->v->w;
    const vmask lanes = vmask_range(0, min64(LANES, channels));
    vreal half[IN][IN]; /* B^T d */
    FDL_UNROLL
    for (int s = 0; s < IN; s++) {
        vreal d[IN], t[IN];
        FDL_UNROLL
        for (int r = 0; r < IN; r++) {
            const int64_t i = row + r, j = column + s;
            const real *pixel = x + (i * g->width + j) * g->channels;
            if (whole)
                d[r] = vload(pixel);
            else
                d[r] = i >= 0 && i < g->height && j >= 0 && j < g->width ? vload_masked(pixel, lanes) : (vreal){0};
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
            vstore(to + (r * IN + s) * w->v_point, value[s]);
    }
}

/* y of a tile and of the vector of filters from f on, of which `left` are there; m is M of them. Returns lanes that are
 * all-ones where a result is not finite. */
FDL_INLINE vint transform_output(const winograd *w, const real *m, place tile, int64_t f, int64_t left)
{
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    vreal half[OUT][IN]; /* A^T M */
    FDL_UNROLL
    for (int s = 0; s < IN; s++) {
        vreal column[IN], out[OUT];
        FDL_UNROLL
        for (int r = 0; r < IN; r++)
            column[r] = vload(m + (r * IN + s) * w->m_point);
        output_transform(column, out);
        FDL_UNROLL
        for (int r = 0; r < OUT; r++)
            half[r][s] = out[r];
    }
    const vreal bias = v->bias ? vload_up_to(v->bias + f, left) : (vreal){0};
    vint bad = {0};
    FDL_UNROLL
    for (int r = 0; r < OUT; r++) {
        if (tile.i + r >= g->out_height)
            break;
        vreal out[OUT];
        output_transform(half[r], out);
        FDL_UNROLL
        for (int s = 0; s < OUT; s++) {
            if (tile.j + s >= g->out_width)
                break;
            const int64_t to = (tile.n * v->positions + (tile.i + r) * g->out_width + tile.j + s) * v->filters + f;
            vreal value = out[s] + bias;
            if (v->residual)
                value += vload_up_to(v->residual + to, left);
            const vreal zero_unless_bad = value - value;
            bad |= zero_unless_bad != zero_unless_bad;
            if (is_relu(&v->activation))
                value = vselect(value < (vreal){0}, (vreal){0}, value);
            vstore_up_to(v->y + to, value, left);
        }
    }
    return bad;
}

/* The activation of a whole tile of results, where it is not one that transform_output applies. */
static void activate_tile(const convolution *v, place tile)
{
    const fdl_window *g = &v->w;
    const int64_t columns = min64(OUT, g->out_width - tile.j) * v->filters;
    const int64_t first = tile.n * v->positions + tile.i * g->out_width + tile.j;
    activate_stored(&v->activation, v->y + first * v->filters, g->out_width * v->filters,
                    min64(OUT, g->out_height - tile.i), columns);
}

/* Items are blocks of tiles. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    const fdl_mark mark = fdl_scratch_mark();
    real *tiles = fdl_scratch(POINTS * w->v_point * (int64_t)sizeof(real));
    real *products = fdl_scratch(POINTS * w->m_point * (int64_t)sizeof(real));
    int status = tiles && products ? FDL_OK : FDL_OUT_OF_MEMORY;
    if (status == FDL_OK) /* lanes past the last filter are computed with */
        memset(products, 0, (size_t)(POINTS * w->m_point) * sizeof(real));
    vint bad = {0};
    for (int64_t first = begin * w->block; first < min64(w->tiles, end * w->block) && status == FDL_OK;
         first += w->block) {
        const int64_t count = min64(w->block, w->tiles - first);
        for (int64_t t = 0; t < count; t++) {
            const place tile = locate_tile(w, first + t);
            const int64_t row = tile.i - g->padding_height, column = tile.j - g->padding_width;
            const bool inside = row >= 0 && row + IN <= g->height && column >= 0 && column + IN <= g->width;
            const real *x = v->x + tile.n * v->pixels * g->channels;
            real *to = tiles + t * w->v_row;
            int64_t c = 0;
            for (; inside && c + LANES <= v->channels; c += LANES) /* main loop */
                transform_input(w, x + c, row, column, to + c, true, LANES);
            for (; c < v->channels; c += LANES) /* edges and tail */
                transform_input(w, x + c, row, column, to + c, false, v->channels - c);
        }
        for (int64_t f = 0; f < v->filters && status == FDL_OK; f += FILTERS) {
            const int64_t filters = min64(FILTERS, v->filters - f);
            for (int64_t p = 0; p < POINTS && status == FDL_OK; p++) {
                const factor u = {w->u + p * w->u_point, w->lanes, f};
                const gemm_problem product = {
                    .m = count,
                    .n = filters,
                    .k = v->channels,
                    .k_slice = w->k_slice,
                    .a = {tiles + p * w->v_point, w->v_row, 1},
                    .pack_b = packed_u,
                    .b = &u,
                    .c = products + p * w->m_point,
                    .c_row = FILTERS,
                };
                status = gemm_block(&product, (gemm_range){0, count, 0, filters});
            }
            for (int64_t t = 0; t < count && status == FDL_OK; t++) {
                const place tile = locate_tile(w, first + t);
                for (int64_t l = 0; l < filters; l += LANES)
                    bad |= transform_output(w, products + t * FILTERS + l, tile, f + l, filters - l);
            }
        }
        for (int64_t t = 0; t < count && status == FDL_OK; t++)
            activate_tile(v, locate_tile(w, first + t));
    }
    for (int l = 0; l < LANES; l++)
        if (bad[l])
            __atomic_store_n(w->finite, false, __ATOMIC_RELAXED);
    fdl_scratch_release(mark);
    return status;
}

/* As for conv_winograd_pays; U that does not stay in a cache takes more tiles to pay. */
bool conv_winograd_last_pays(const convolution *v)
{
    const fdl_window *w = &v->w;
    const int64_t tiles = w->batch * ceil_div(w->out_height, OUT) * ceil_div(w->out_width, OUT);
    const bool large = POINTS * v->channels * v->filters * (int64_t)sizeof(real) > 3 << 20;
    return min64(v->channels, v->filters) >= 32 && tiles >= (large ? 64 : 16);
}

int conv_winograd_last_forward(const convolution *v, bool *finite)
{
    *finite = true;
    if (v->w.batch == 0 || v->filters == 0)
        return FDL_OK;
    const int64_t size = (int64_t)sizeof(real);
    winograd w = {.v = v, .finite = finite};
    w.tile_rows = ceil_div(v->w.out_height, OUT), w.row_tiles = ceil_div(v->w.out_width, OUT);
    w.tiles = v->w.batch * w.tile_rows * w.row_tiles;
    w.k_slice = max64(1, ceil_div(v->channels, max64(1, ceil_div(v->channels, GEMM_K))));
    for (int64_t j = 0; j < v->filters; j = w.lanes)
        w.lanes += gemm_panel_width(v->filters - j);
    /* As many tiles as keep V and M in the second-level cache, but enough to fill rows and feed every thread. */
    const bool small = v->channels * v->filters * v->positions * v->w.batch < 1 << 18;
    const int64_t threads = small ? 1 : fdl_available_threads();
    const int64_t fit = max64(GEMM_ROWS, (3 << 18) / (POINTS * (v->channels + FILTERS) * size));
    const int64_t blocks = ceil_div(ceil_div(w.tiles, min64(fit, w.tiles)), threads) * threads;
    w.block = ceil_div(w.tiles, blocks);
    w.v_row = ceil_div(v->channels, LANES) * LANES;
    w.v_point = w.block * w.v_row + 3 * LANES; /* not a whole page: POINTS streams are written side by side */
    w.m_point = w.block * FILTERS + 3 * LANES;
    w.u_point = v->channels * w.lanes + 3 * LANES;
    const fdl_mark mark = fdl_scratch_mark();
    w.u = fdl_scratch(POINTS * w.u_point * size);
    if (!w.u)
        return FDL_OUT_OF_MEMORY;
    int status = fdl_parallel(w.lanes / LANES, small ? INT64_MAX : 1, transform_weights, &w);
    if (status == FDL_OK)
        status = fdl_parallel(ceil_div(w.tiles, w.block), small ? INT64_MAX : 1, forward_task, &w);
    fdl_scratch_release(mark);
    return status;
}
