/* The gradient of the weights of a 3 x 3, stride 1 convolution by Winograd's algorithm F(4 x 4, 3 x 3): the adjoint of
 * the forward pass (winograd_forward.h), with 36 multiplications where the definition needs 144.
 *
 *   y = A^T [sum_c U[c] * V[c]] A   with U = G g G^T and V = B^T d B for every tile d of the image, so
 *   dM[t, f] = A grad_y[t, f] A^T   dU[f, c] = sum over the tiles t of dM[t, f] * V[t, c]   grad_g = G^T dU G
 *
 * for the 36 points p: products dU[p] [filters, channels] = dM[p]^T [filters, tiles] V[p] [tiles, channels]. Vectors
 * run along the channels, or the filters, so that no lane is empty however few the tiles of a row: lines of the image
 * are transposed into cache first. Work goes in blocks of tiles, whose V is kept; then, for some filters and channels
 * at a time, dM, dU and what is added to grad_g are made, in the second-level cache. Sums in `real`: of a block's tiles
 * as described in gemm.h, then of the blocks. */
#include "kernels/conv/conv.h"
#define WINOGRAD_TILE 4
#include "kernels/conv/winograd.h"

enum {
    FILTERS = 48, /* that dM holds at a time; a multiple of GEMM_ROWS and LANES */
    CHANNELS = 2 * GEMM_COLUMNS > 64 ? 2 * GEMM_COLUMNS : 64, /* of dU; a multiple of GEMM_COLUMNS */
    SEGMENT = 16,                                             /* tiles of a row whose lines lie in cache at a time */
    LINE = ((SEGMENT * OUT + 2) + LANES - 1) / LANES * LANES,
    V_BYTES = 4 << 20, /* of a block */
};

typedef struct {
    const convolution *v;
    int64_t tile_rows, row_tiles;       /* of one image: rows of tiles, and tiles in a row */
    int64_t first, count, most;         /* the block's tiles, and most of any block */
    int64_t lanes;                      /* of the panels that hold the channels */
    int64_t f_blocks, c_parts;          /* blocks of filters, and parts that the channels are cut into */
    int64_t m_point, v_point, du_point; /* elements from one point to the next */
    real *tiles;                        /* V of the block: [POINTS][panels of channels][count][width] */
    bool *finite;
} winograd;

/* A plane of each of at most LANES channels: of x, or of grad_y. */
typedef struct {
    const real *data;
    int64_t step; /* between channels */
    int64_t present, height, width;
} planes;

/* lines[r][j], j < columns: the vector of all channels' pixels at (row + r, column + j), 0 outside. */
FDL_INLINE void transpose_lines(const planes *x, int64_t row, int64_t column, const int rows, int64_t columns,
                                vreal lines[][LINE])
{
    for (int64_t j = 0; j < columns; j += LANES) {
        const int64_t first = min64(LANES, max64(0, -(column + j)));
        const int64_t last = max64(first, min64(min64(LANES, columns - j), x->width - (column + j)));
        const vmask inside = vmask_range(first, last);
        const bool whole = first == 0 && last == LANES && x->present == LANES;
        for (int r = 0; r < rows; r++) {
            vreal *to = lines[r] + j;
            if (row + r < 0 || row + r >= x->height) {
                for (int l = 0; l < LANES; l++)
                    to[l] = (vreal){0};
                continue;
            }
            const real *from = x->data + (row + r) * x->width + column + j;
            vreal block[LANES];
            if (whole) { /* main loop */
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    block[l] = vload(from + l * x->step);
            } else { /* edges and tail */
                for (int l = 0; l < LANES; l++)
                    block[l] = l < x->present ? vload_masked(from + l * x->step, inside) : (vreal){0};
            }
            vtranspose(block);
            FDL_UNROLL
            for (int l = 0; l < LANES; l++)
                to[l] = block[l];
        }
    }
}

/* A run of the block's tiles, at most SEGMENT in one row. */
typedef struct {
    int64_t n, row, column; /* image, and the first tile's place in units of tiles */
    int64_t count;
} segment;

static segment locate_segment(const winograd *w, int64_t t)
{
    const int64_t tile = w->first + t, row = tile / w->row_tiles, column = tile % w->row_tiles;
    const int64_t count = min64(min64(SEGMENT, w->row_tiles - column), w->count - t);
    return (segment){row / w->tile_rows, row % w->tile_rows, column, count};
}

/* V of the block, items are vectors of channels. */
static int transform_input(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    vreal lines[IN][LINE];
    for (int64_t c = begin * LANES; c < end * LANES; c += LANES) {
        const int64_t panel = c / GEMM_COLUMNS * GEMM_COLUMNS, width = gemm_panel_width(v->channels - panel);
        const int64_t start = c - panel < width ? panel : c; /* a narrow panel, then another */
        const int64_t its_width = start == panel ? width : gemm_panel_width(v->channels - start);
        real *to = w->tiles + start * w->count + c - start;
        segment s;
        for (int64_t t = 0; t < w->count; t += s.count) {
            s = locate_segment(w, t);
            const planes x = {v->x + (s.n * v->channels + c) * v->pixels, v->pixels,
                              max64(0, min64(LANES, v->channels - c)), g->height, g->width};
            transpose_lines(&x, s.row * OUT - g->padding_height, s.column * OUT - g->padding_width, IN,
                            s.count * OUT + 2, lines);
            for (int64_t i = 0; i < s.count; i++, to += its_width) {
                vreal half[IN][IN]; /* B^T d */
                FDL_UNROLL
                for (int j = 0; j < IN; j++) {
                    vreal d[IN], column[IN];
                    FDL_UNROLL
                    for (int r = 0; r < IN; r++)
                        d[r] = lines[r][i * OUT + j];
                    input_transform(d, column);
                    FDL_UNROLL
                    for (int r = 0; r < IN; r++)
                        half[r][j] = column[r];
                }
                FDL_UNROLL
                for (int r = 0; r < IN; r++) {
                    vreal value[IN];
                    input_transform(half[r], value);
                    FDL_UNROLL
                    for (int j = 0; j < IN; j++)
                        vstore(to + (r * IN + j) * w->v_point, value[j]);
                }
            }
        }
    }
    return FDL_OK;
}

/* dM [POINTS][count, FILTERS] of the filters [f, f_end). */
static void transform_grad_y(const winograd *w, int64_t f, int64_t f_end, real *m)
{
    const convolution *v = w->v;
    const fdl_window *g = &v->w;
    vreal lines[OUT][LINE];
    for (; f < f_end; f += LANES, m += LANES) {
        real *to = m;
        segment s;
        for (int64_t t = 0; t < w->count; t += s.count) {
            s = locate_segment(w, t);
            const planes y = {v->grad_y + (s.n * v->filters + f) * v->positions, v->positions, min64(LANES, f_end - f),
                              g->out_height, g->out_width};
            transpose_lines(&y, s.row * OUT, s.column * OUT, OUT, s.count * OUT, lines);
            for (int64_t i = 0; i < s.count; i++, to += FILTERS) {
                vreal half[IN][OUT]; /* A y */
                FDL_UNROLL
                for (int j = 0; j < OUT; j++) {
                    vreal pixels[OUT], column[IN];
                    FDL_UNROLL
                    for (int r = 0; r < OUT; r++)
                        pixels[r] = lines[r][i * OUT + j];
                    output_adjoint(pixels, column);
                    FDL_UNROLL
                    for (int r = 0; r < IN; r++)
                        half[r][j] = column[r];
                }
                FDL_UNROLL
                for (int r = 0; r < IN; r++) {
                    vreal value[IN];
                    output_adjoint(half[r], value);
                    FDL_UNROLL
                    for (int j = 0; j < IN; j++)
                        vstore(to + (r * IN + j) * w->m_point, value[j]);
                }
            }
        }
    }
}

/* grad [present, 9], of LANES channels of a filter, = or += G^T dU G. Returns lanes that are all-ones where a result is
 * not finite. */
FDL_INLINE vint transform_weights(const real *du, int64_t point, real *grad, int64_t present, bool accumulate)
{
    vreal half[3][IN]; /* G^T dU */
    FDL_UNROLL
    for (int j = 0; j < IN; j++) {
        vreal u[IN], column[3];
        FDL_UNROLL
        for (int r = 0; r < IN; r++)
            u[r] = vload(du + (r * IN + j) * point);
        weight_adjoint(u, column);
        FDL_UNROLL
        for (int r = 0; r < 3; r++)
            half[r][j] = column[r];
    }
    vreal taps[(9 + LANES - 1) / LANES * LANES] = {{0}};
    FDL_UNROLL
    for (int r = 0; r < 3; r++)
        weight_adjoint(half[r], taps + 3 * r);
    vint bad = {0};
    FDL_UNROLL
    for (int tap = 0; tap < 9; tap += LANES) { /* from a vector per tap to nine elements per channel */
        const vmask some = vmask_range(0, min64(LANES, 9 - tap));
        vreal *block = taps + tap;
        vtranspose(block);
        FDL_UNROLL
        for (int l = 0; l < LANES; l++) {
            if (l >= present)
                break;
            real *to = grad + l * 9 + tap;
            const vreal value = accumulate ? block[l] + vload_masked(to, some) : block[l];
            const vreal zero_unless_bad = value - value;
            bad |= zero_unless_bad != zero_unless_bad;
            vstore_masked(to, value, some);
        }
    }
    return bad;
}

static const real *packed_v(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    (void)k, (void)columns, (void)out;
    return (const real *)context + column * terms;
}

/* What a block of tiles adds: items are blocks of filters and parts of the channels. */
static int accumulate_task(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const fdl_mark mark = fdl_scratch_mark();
    real *m = fdl_scratch(POINTS * w->m_point * (int64_t)sizeof(real));
    real *du = fdl_scratch(POINTS * w->du_point * (int64_t)sizeof(real));
    int status = m && du ? FDL_OK : FDL_OUT_OF_MEMORY;
    if (status == FDL_OK) /* lanes past the last channel are computed with */
        memset(du, 0, (size_t)(POINTS * w->du_point) * sizeof(real));
    const int64_t c_blocks = ceil_div(v->channels, CHANNELS);
    vint bad = {0};
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t f = item / w->c_parts * FILTERS, filters = min64(FILTERS, v->filters - f);
        const int64_t part = item % w->c_parts, c_begin = c_blocks * part / w->c_parts * CHANNELS;
        const int64_t c_end = min64(v->channels, c_blocks * (part + 1) / w->c_parts * CHANNELS);
        transform_grad_y(w, f, f + filters, m);
        for (int64_t c = c_begin; c < c_end && status == FDL_OK; c += CHANNELS) {
            const int64_t channels = min64(CHANNELS, c_end - c);
            for (int64_t p = 0; p < POINTS && status == FDL_OK; p++) {
                const gemm_problem product = {
                    .m = filters,
                    .n = channels,
                    .k = w->count,
                    .a = {m + p * w->m_point, 1, FILTERS},
                    .pack_b = packed_v,
                    .b = w->tiles + p * w->v_point + c * w->count,
                    .c = du + p * w->du_point,
                    .c_row = CHANNELS,
                };
                status = gemm_block(&product, (gemm_range){0, filters, 0, channels});
            }
            for (int64_t i = 0; i < filters && status == FDL_OK; i++)
                for (int64_t l = 0; l < channels; l += LANES)
                    bad |= transform_weights(du + i * CHANNELS + l, w->du_point,
                                             v->grad_weight + ((f + i) * v->channels + c + l) * 9,
                                             min64(LANES, channels - l), w->first > 0);
        }
    }
    if (vany(bad))
        __atomic_store_n(w->finite, false, __ATOMIC_RELAXED);
    fdl_scratch_release(mark);
    return status;
}

int conv_winograd_grad_weight(const convolution *v, bool *finite)
{
    *finite = true;
    const int64_t size = (int64_t)sizeof(real);
    winograd w = {.v = v, .finite = finite};
    w.tile_rows = ceil_div(v->w.out_height, OUT), w.row_tiles = ceil_div(v->w.out_width, OUT);
    const int64_t tiles = v->w.batch * w.tile_rows * w.row_tiles;
    /* As many tiles in a block as keep V in cache, but enough for what every block adds to grad_weight to cost little;
     * one slice of a product. */
    const int64_t fit = min64(GEMM_K, max64(128, V_BYTES / (POINTS * max64(1, v->channels) * size)));
    w.most = ceil_div(tiles, max64(1, ceil_div(tiles, fit)));
    for (int64_t j = 0; j < v->channels; j = w.lanes)
        w.lanes += gemm_panel_width(v->channels - j);
    w.v_point = w.most * w.lanes + 3 * LANES; /* not a whole page: POINTS streams are written side by side */
    w.m_point = w.most * FILTERS + 3 * LANES;
    w.du_point = FILTERS * CHANNELS + 3 * LANES;
    const bool small = v->channels * v->filters * tiles < 1 << 14;
    const int64_t threads = fdl_available_threads(small ? 1 : FDL_MOST_THREADS);
    w.f_blocks = ceil_div(v->filters, FILTERS);
    w.c_parts = w.f_blocks < 2 * threads && threads > 1 ? min64(threads, ceil_div(v->channels, CHANNELS)) : 1;
    const fdl_mark mark = fdl_scratch_mark();
    w.tiles = fdl_scratch(POINTS * w.v_point * size);
    int status = w.tiles ? FDL_OK : FDL_OUT_OF_MEMORY;
    const int64_t grain = small ? INT64_MAX : 1;
    for (w.first = 0; w.first < tiles && status == FDL_OK; w.first += w.count) {
        w.count = min64(w.most, tiles - w.first);
        status = fdl_parallel(w.lanes / LANES, grain, transform_input, &w);
        if (status == FDL_OK)
            status = fdl_parallel(w.f_blocks * w.c_parts, grain, accumulate_task, &w);
    }
    fdl_scratch_release(mark);
    return status;
}
