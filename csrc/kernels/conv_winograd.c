/* 3 x 3, stride 1 convolution by Winograd's minimal filtering, F(4 x 4, 3 x 3): 36 multiplications where the
 * definition needs 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016).
 *
 *   For each tile d [6, 6] of the input (4 apart, overlapping by 2), each channel c and each filter f:
 *     V[c] = B^T d B      U[f, c] = G g[f, c] G^T      M[f] = sum_c U[f, c] * V[c]  (element by element)
 *     y [4, 4] = A^T M[f] A
 *   so that the sums over c are 36 matrix products M[p] [filters, tiles] = U[p] [filters, channels] V[p].
 *
 * The matrices interpolate at the points 0, +-a, +-b and infinity with a = 3/4, b = 3/2. In float32 that leaves less
 * than half the error of the usual 0, +-1, +-2 (after Barabasz et al., "Error Analysis and Improving the Accuracy of
 * Winograd Convolution", TOMS 2020; all constants but 1/N are exact). Sums in `real`. */
#include "conv.h"

enum { OUT = 4, IN = 6, POINTS = IN * IN };
static const real A1 = 0.75, A2 = 0.5625, A3 = 0.421875; /* a, a^2, a^3 */
static const real B1 = 1.5, B2 = 2.25, B3 = 3.375;       /* b, b^2, b^3 */

/* B^T d, on vectors. */
FDL_INLINE void input_transform(const vreal d[IN], vreal v[IN])
{
    const vreal even_a = d[4] - B2 * d[2], odd_a = A1 * (d[3] - B2 * d[1]);
    const vreal even_b = d[4] - A2 * d[2], odd_b = B1 * (d[3] - A2 * d[1]);
    v[0] = (A2 * B2) * d[0] - (A2 + B2) * d[2] + d[4];
    v[1] = even_a + odd_a;
    v[2] = even_a - odd_a;
    v[3] = even_b + odd_b;
    v[4] = even_b - odd_b;
    v[5] = (A2 * B2) * d[1] - (A2 + B2) * d[3] + d[5];
}

/* G g. */
FDL_INLINE void weight_transform(const vreal g[3], vreal u[IN])
{
    const real over_a = 1 / (2 * A2 * (A2 - B2)), over_b = 1 / (2 * B2 * (B2 - A2));
    const vreal even_a = over_a * (g[0] + A2 * g[2]), odd_a = (over_a * A1) * g[1];
    const vreal even_b = over_b * (g[0] + B2 * g[2]), odd_b = (over_b * B1) * g[1];
    u[0] = g[0] * (1 / (A2 * B2));
    u[1] = even_a + odd_a;
    u[2] = even_a - odd_a;
    u[3] = even_b + odd_b;
    u[4] = even_b - odd_b;
    u[5] = g[2];
}

/* A^T m. */
FDL_INLINE void output_transform(const vreal m[IN], vreal y[OUT])
{
    const vreal sum_a = m[1] + m[2], diff_a = m[1] - m[2], sum_b = m[3] + m[4], diff_b = m[3] - m[4];
    y[0] = m[0] + sum_a + sum_b;
    y[1] = A1 * diff_a + B1 * diff_b;
    y[2] = A2 * sum_a + B2 * sum_b;
    y[3] = A3 * diff_a + B3 * diff_b + m[5];
}

/* Work goes in blocks of rows of tiles (of all images, one after the other): V of a block is made for all channels,
 * then, a few filters at a time, U where it is not kept, M, and y. U, V and M of the moment so stay in the caches. */
enum { FILTERS = 2 * GEMM_ROWS };

typedef struct {
    const convolution *v;
    int64_t tile_rows, row_tiles; /* of one image: rows of tiles, and tiles in a row */
    int64_t block_rows, blocks;   /* rows of tiles in a block, blocks in all */
    int64_t tiles, lanes;         /* tiles in a block, and lanes of the panels that hold them */
    int64_t slices;               /* of the channels, each at most GEMM_K deep */
    int64_t v_point, m_point;     /* elements from one point to the next in V and M */
    int64_t u_row;                /* elements from one filter to the next in U */
    real *u;                      /* U of all filters, [POINTS, filters, u_row]; NULL: made when needed */
    bool *finite;
} winograd;

/* U [POINTS, end - begin, u_row] of the filters [begin, end): LANES channels at a time. */
static void transform_weights(const winograd *w, int64_t begin, int64_t end, real *u_out, int64_t u_point)
{
    const convolution *v = w->v;
    for (int64_t f = begin; f < end; f++)
        for (int64_t c = 0; c < v->channels; c += LANES) {
            const real *from = v->weight + (f * v->channels + c) * 9;
            const int64_t n = min64(LANES, v->channels - c);
            /* One vector per tap, from nine elements per channel. */
            vreal taps[(9 + LANES - 1) / LANES * LANES];
            FDL_UNROLL
            for (int tap = 0; tap < 9; tap += LANES) {
                const vmask present = vmask_range(0, min64(LANES, 9 - tap));
                vreal *block = taps + tap;
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    block[l] = l < n ? vload_masked(from + l * 9 + tap, present) : (vreal){0};
                vtranspose(block);
            }
            vreal half[3][IN]; /* (G g)^T */
            FDL_UNROLL
            for (int s = 0; s < 3; s++) {
                const vreal g[3] = {taps[s], taps[3 + s], taps[6 + s]};
                weight_transform(g, half[s]);
            }
            real *to = u_out + (f - begin) * w->u_row + c;
            FDL_UNROLL
            for (int r = 0; r < IN; r++) {
                const vreal g[3] = {half[0][r], half[1][r], half[2][r]};
                vreal u[IN];
                weight_transform(g, u);
                FDL_UNROLL
                for (int s = 0; s < IN; s++)
                    vstore(to + (r * IN + s) * u_point, u[s]);
            }
        }
}

static int64_t slice_start(const winograd *w, int64_t slice) { return w->v->channels * slice / w->slices; }

static int64_t u_point(const winograd *w, int64_t filters)
{
    return filters * w->u_row + 3 * LANES; /* not a whole page: POINTS streams are written side by side */
}

static int transform_all_weights(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    transform_weights(w, begin, end, w->u + begin * w->u_row, u_point(w, w->v->filters));
    return FDL_OK;
}

/* V [POINTS, slices of channels, panels, channels of the slice, width] is laid out as gemm_pack_b lays out panels. */
static const real *packed_v(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns, real *out)
{
    (void)k, (void)columns, (void)out; /* a slice is one block deep, so k is 0 */
    return (const real *)context + column * depth;
}

/* V for one row of tiles of one channel, which is tile `first_tile` of the block on: x [height, width] to `tiles`,
 * where panels of `depth` channels start, for channel c of them. `rows` is scratch for IN rows of rows_width elements:
 * the row of tiles transformed vertically. */
static void transform_input(const winograd *w, const real *x, int64_t tile_row, int64_t first_tile, real *tiles,
                            int64_t depth, int64_t c, real *rows, int64_t rows_width)
{
    const fdl_window2d *g = &w->v->w;
    const int64_t top = tile_row * OUT - g->padding_height;
    for (int64_t j = 0; j < w->row_tiles * OUT + 2; j += LANES) {
        const int64_t column = j - g->padding_width;
        const int64_t first = min64(LANES, max64(0, -column)), last = max64(first, min64(LANES, g->width - column));
        const vmask inside = vmask_range(first, last);
        vreal d[IN], t[IN];
        FDL_UNROLL
        for (int r = 0; r < IN; r++) {
            const bool exists = top + r >= 0 && top + r < g->height;
            d[r] = exists ? vload_masked(x + (top + r) * g->width + column, inside) : (vreal){0};
        }
        input_transform(d, t);
        FDL_UNROLL
        for (int r = 0; r < IN; r++)
            vstore(rows + r * rows_width + j, t[r]);
    }
    for (int64_t t = 0; t < w->row_tiles; t += LANES)
        for (int r = 0; r < IN; r++) {
            const real *row = rows + r * rows_width + t * OUT;
            vreal d[IN], value[IN];
            FDL_UNROLL
            for (int s = 0; s < IN; s++) { /* every fourth element */
                const vreal low = veven(vload(row + s), vload(row + s + LANES));
                const vreal high = veven(vload(row + s + 2 * LANES), vload(row + s + 3 * LANES));
                d[s] = veven(low, high);
            }
            input_transform(d, value);
            /* The tiles go to the lanes of one panel or of two. */
            for (int64_t l = 0, n; l < min64(LANES, w->row_tiles - t); l += n) {
                const int64_t tile = first_tile + t + l, panel = tile / GEMM_COLUMNS * GEMM_COLUMNS;
                const int64_t width = gemm_panel_width(w->tiles - panel);
                const int64_t lane = tile - panel, skip = lane >= width ? width : 0; /* a narrow panel, then another */
                const int64_t start = panel + skip, its_width = skip ? gemm_panel_width(w->tiles - start) : width;
                n = min64(min64(LANES, w->row_tiles - t) - l, its_width - (lane - skip));
                real *to = tiles + start * depth + c * its_width + (lane - skip) - l;
                const vmask lanes = vmask_range(l, l + n);
                FDL_UNROLL
                for (int s = 0; s < IN; s++)
                    vstore_masked(to + (r * IN + s) * w->v_point, value[s], lanes);
            }
        }
}

/* y for one row of tiles of one filter; returns lanes that are all-ones where a result is not finite. */
static vint transform_output(const winograd *w, const real *m, int64_t point, int64_t tile_row, real bias, real *y)
{
    const fdl_window2d *g = &w->v->w;
    const bool relu = w->v->activation == FDL_ACTIVATION_RELU;
    vint bad = {0};
    for (int64_t t = 0; t < w->row_tiles; t += LANES) {
        vreal half[OUT][IN]; /* A^T M */
        FDL_UNROLL
        for (int s = 0; s < IN; s++) {
            vreal column[IN], out[OUT];
            FDL_UNROLL
            for (int r = 0; r < IN; r++)
                column[r] = vload(m + (r * IN + s) * point + t);
            output_transform(column, out);
            FDL_UNROLL
            for (int r = 0; r < OUT; r++)
                half[r][s] = out[r];
        }
        FDL_UNROLL
        for (int r = 0; r < OUT; r++) {
            const int64_t i = tile_row * OUT + r;
            if (i >= g->out_height)
                break;
            vreal q[OUT];
            output_transform(half[r], q);
            /* From one vector per column of the tiles to the order of the image. */
            const vreal even_low = vzip_low(q[0], q[2]), even_high = vzip_high(q[0], q[2]);
            const vreal odd_low = vzip_low(q[1], q[3]), odd_high = vzip_high(q[1], q[3]);
            const vreal out[OUT] = {vzip_low(even_low, odd_low), vzip_high(even_low, odd_low),
                                    vzip_low(even_high, odd_high), vzip_high(even_high, odd_high)};
            FDL_UNROLL
            for (int n = 0; n < OUT; n++) {
                const int64_t j = t * OUT + n * LANES, left = min64(LANES, g->out_width - j);
                if (left <= 0)
                    break;
                vreal value = out[n] + vset1(bias);
                const vreal zero_unless_bad = value - value;
                bad |= zero_unless_bad != zero_unless_bad;
                if (relu)
                    value = vselect(value < (vreal){0}, (vreal){0}, value);
                if (left == LANES)
                    vstore(y + i * g->out_width + j, value);
                else
                    vstore_first(y + i * g->out_width + j, value, left);
            }
        }
    }
    return bad;
}

static int forward_task(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const int64_t rows_width = w->row_tiles * OUT + 6 * LANES, m_row = w->tiles + LANES;
    const int64_t size = (int64_t)sizeof(real);
    const fdl_mark mark = fdl_scratch_mark();
    real *rows = fdl_scratch(IN * rows_width * size);
    real *tiles = fdl_scratch(POINTS * w->v_point * size);
    real *products = fdl_scratch((POINTS * w->m_point + LANES) * size);
    real *u_block = w->u ? w->u : fdl_scratch(POINTS * u_point(w, FILTERS) * size);
    if (!rows || !tiles || !products || !u_block) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    /* Lanes that are computed with but never seen have to be finite. */
    memset(rows, 0, (size_t)(IN * rows_width * size));
    memset(tiles, 0, (size_t)(POINTS * w->v_point * size));
    memset(products, 0, (size_t)((POINTS * w->m_point + LANES) * size));
    int status = FDL_OK;
    vint bad = {0};
    for (int64_t block = begin; block < end && status == FDL_OK; block++) {
        const int64_t first = block * w->block_rows;
        const int64_t count = min64(w->block_rows, v->w.batch * w->tile_rows - first);
        for (int64_t slice = 0; slice < w->slices; slice++) {
            const int64_t k = slice_start(w, slice), depth = slice_start(w, slice + 1) - k;
            for (int64_t c = 0; c < depth; c++)
                for (int64_t row = first; row < first + count; row++)
                    transform_input(w, v->x + (row / w->tile_rows * v->channels + k + c) * v->pixels,
                                    row % w->tile_rows, (row - first) * w->row_tiles, tiles + k * w->lanes, depth, c,
                                    rows, rows_width);
        }
        for (int64_t f = 0; f < v->filters && status == FDL_OK; f += FILTERS) {
            const int64_t filters = min64(FILTERS, v->filters - f);
            if (!w->u)
                transform_weights(w, f, f + filters, u_block, u_point(w, FILTERS));
            const real *u = w->u ? w->u + f * w->u_row : u_block;
            const int64_t point = u_point(w, w->u ? v->filters : FILTERS);
            for (int64_t p = 0; p < POINTS; p++)
                for (int64_t s = 0; s < w->slices && status == FDL_OK; s++) {
                    const int64_t k = slice_start(w, s);
                    const gemm_problem product = {
                        .m = filters,
                        .n = w->tiles,
                        .k = slice_start(w, s + 1) - k,
                        .a = {u + p * point + k, w->u_row, 1},
                        .pack_b = packed_v,
                        .b = tiles + p * w->v_point + k * w->lanes,
                        .c = products + p * w->m_point,
                        .c_row = m_row,
                        .accumulate = s > 0,
                    };
                    status = gemm_block(&product, (gemm_range){0, filters, 0, w->tiles});
                }
            for (int64_t i = 0; i < filters && status == FDL_OK; i++)
                for (int64_t row = first; row < first + count; row++)
                    bad |= transform_output(w, products + i * m_row + (row - first) * w->row_tiles, w->m_point,
                                            row % w->tile_rows, v->bias ? v->bias[f + i] : 0,
                                            v->y + (row / w->tile_rows * v->filters + f + i) * v->positions);
        }
    }
    for (int l = 0; l < LANES; l++)
        if (bad[l])
            __atomic_store_n(w->finite, false, __ATOMIC_RELAXED);
    fdl_scratch_release(mark);
    return status;
}

static bool applies(const convolution *v)
{
    const fdl_window2d *w = &v->w;
    return w->kernel_height == 3 && w->kernel_width == 3 && w->stride_height == 1 && w->stride_width == 1 &&
           w->dilation_height == 1 && w->dilation_width == 1 && w->groups == 1;
}

/* The transforms cost time in proportion to channels x tiles, filters x tiles and filters x channels; the products
 * that they save are the product of all three. They work on a row of tiles at a time, however short. The thresholds
 * were found by timing both ways. */
bool conv_winograd_pays(const convolution *v)
{
    const int64_t row_tiles = ceil_div(v->w.out_width, OUT);
    const int64_t tiles = v->w.batch * ceil_div(v->w.out_height, OUT) * row_tiles;
    const int64_t least = min64(v->channels, v->filters);
    return applies(v) && least >= 32 && least * row_tiles >= 96 && tiles >= 16;
}

int conv_winograd_forward(const convolution *v, bool *finite)
{
    *finite = true;
    winograd w = {.v = v, .finite = finite};
    if (v->w.batch == 0 || v->filters == 0)
        return FDL_OK;
    w.tile_rows = ceil_div(v->w.out_height, OUT), w.row_tiles = ceil_div(v->w.out_width, OUT);
    w.u_row = ceil_div(v->channels, LANES) * LANES + LANES; /* odd in vectors: rows do not share cache sets */
    w.slices = max64(1, ceil_div(v->channels, GEMM_K));
    /* As many rows of tiles as keep V in the second-level cache, but enough to fill panels and feed every thread. */
    const int64_t all_rows = v->w.batch * w.tile_rows;
    const int64_t fit = max64(GEMM_COLUMNS, (3 << 18) / (POINTS * max64(1, v->channels) * (int64_t)sizeof(real)));
    const bool small = v->channels * v->filters * v->positions * v->w.batch < 1 << 18;
    const int64_t threads = small ? 1 : fdl_available_threads();
    w.block_rows = max64(1, min64(fit / w.row_tiles, ceil_div(all_rows, threads)));
    w.blocks = ceil_div(all_rows, w.block_rows);
    w.block_rows = ceil_div(all_rows, w.blocks);
    w.blocks = ceil_div(all_rows, w.block_rows);
    w.tiles = w.block_rows * w.row_tiles;
    for (int64_t j = 0; j < w.tiles; j = w.lanes)
        w.lanes += gemm_panel_width(w.tiles - j);
    w.v_point = v->channels * w.lanes + 3 * LANES;
    w.m_point = FILTERS * (w.tiles + LANES) + 3 * LANES;

    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OK;
    if (w.blocks > threads) { /* U is used more than once */
        w.u = fdl_scratch(POINTS * u_point(&w, v->filters) * (int64_t)sizeof(real));
        if (!w.u)
            return FDL_OUT_OF_MEMORY;
        status = fdl_parallel(v->filters, small ? INT64_MAX : 16, transform_all_weights, &w);
    }
    if (status == FDL_OK)
        status = fdl_parallel(w.blocks, small ? INT64_MAX : 1, forward_task, &w);
    fdl_scratch_release(mark);
    return status;
}
