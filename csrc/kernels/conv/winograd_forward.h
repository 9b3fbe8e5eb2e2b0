/* Convolution at stride 1 by Winograd's minimal filtering, F(m x m, r x r) with m = WINOGRAD_TILE: of 3 x 3 kernels
 * with m = 2, and of 2 x 2 kernels, which the phases of a transposed convolution are, with m = 3; both are 16
 * multiplications where the definition needs 36 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
 * CVPR 2016). Included by winograd_2x2.c and _3x3.c; F(4 x 4, 3 x 3) is winograd_4x4.c.
 *
 *   For each tile d [m + r - 1, m + r - 1] of the input (m apart, overlapping by r - 1), each channel c, each filter f:
 *     V[c] = B^T d B      U[f, c] = G g[f, c] G^T      M[f] = sum_c U[f, c] * V[c]  (element by element)
 *     y [m, m] = A^T M[f] A
 *   so that the sums over c are (m + r - 1)^2 matrix products M[p] [filters, tiles] = U[p] [filters, channels] V[p].
 *
 * The transforms are in winograd.h. Sums in `real`. */
#include "kernels/conv/conv.h"

#if WINOGRAD_TILE == 2
#define conv_winograd_packed_size conv_winograd_2x2_packed_size
#define conv_winograd_pack conv_winograd_2x2_pack
#define conv_winograd_forward conv_winograd_2x2_forward
#else
#define conv_winograd_packed_size conv_winograd_3x3_packed_size
#define conv_winograd_pack conv_winograd_3x3_pack
#define conv_winograd_forward conv_winograd_3x3_forward
#endif

#include "kernels/conv/winograd.h"

#if WINOGRAD_TILE == 2
/* Every OUT-th of the elements from p on. */
FDL_INLINE vreal load_every(const real *p) { return veven(vload(p), vload(p + LANES)); }

/* The other way: from one vector per column of the tiles to the order of the image. */
FDL_INLINE void interleave(const vreal q[OUT], vreal out[OUT])
{
    out[0] = vzip_low(q[0], q[1]);
    out[1] = vzip_high(q[0], q[1]);
}
#else
/* Every OUT-th of the elements from p on. */
FDL_INLINE vreal load_every(const real *p) { return vthird(vload(p), vload(p + LANES), vload(p + 2 * LANES)); }

/* The other way: from one vector per column of the tiles to the order of the image. */
FDL_INLINE void interleave(const vreal q[OUT], vreal out[OUT]) { vzip_3(q[0], q[1], q[2], out); }
#endif

/* Work goes in blocks of rows of tiles (of all images, one after the other): V of a block is made for all channels,
 * then, a few filters at a time, U where it is not kept, M, and y. U, V and M of the moment so stay in the caches. */
enum { FILTERS = 2 * GEMM_ROWS };

typedef struct {
    const convolution *v;
    int64_t tile_rows, row_tiles; /* of one image: rows of tiles, and tiles in a row */
    int64_t block_rows, blocks;   /* rows of tiles in a block, blocks in all */
    int64_t parts;                /* that the filters are cut into, where there are fewer blocks than threads */
    int64_t tiles, lanes;         /* tiles in a block, and lanes of the panels that hold them */
    int64_t v_point, m_point;     /* elements from one point to the next in V and M */
    const real *u;                /* U of all filters, packed; NULL: made for FILTERS filters when needed, */
    int64_t u_row, u_point;       /* [POINTS, FILTERS, u_row], points u_point elements apart */
    bool *finite;
} winograd;

/* U of filter f and of the channels from c on, LANES at most, POINTS vectors u_point elements apart. */
FDL_INLINE void transform_weight(const winograd *w, int64_t f, int64_t c, real *to)
{
    const convolution *v = w->v;
    const real *from = v->weight + (v->turned ? c * v->filters + f : f * v->channels + c) * TAPS;
    const int64_t step = v->turned ? v->filters * TAPS : TAPS, n = min64(LANES, v->channels - c);
    if (v->turned) {
        FDL_UNROLL
        for (int l = 0; l < LANES; l++) /* more streams than the hardware follows */
            __builtin_prefetch(from + l * step + 256 / (int)sizeof(real));
    }
    transform_kernels(from, step, n, v->turned, to, w->u_point);
}

/* U [POINTS, end - begin, u_row] of at most FILTERS filters [begin, end), in the order in which their weights lie. */
static void transform_weights(const winograd *w, int64_t begin, int64_t end, real *u)
{
    const convolution *v = w->v;
    if (v->turned) {
        for (int64_t c = 0; c < v->channels; c += LANES)
            for (int64_t f = begin; f < end; f++)
                transform_weight(w, f, c, u + (f - begin) * w->u_row + c);
    } else {
        for (int64_t f = begin; f < end; f++)
            for (int64_t c = 0; c < v->channels; c += LANES)
                transform_weight(w, f, c, u + (f - begin) * w->u_row + c);
    }
}

/* Packed, U is POINTS matrices [filters, channels], each as gemm_pack lays it out. */
int64_t conv_winograd_packed_size(const convolution *v) { return POINTS * gemm_packed_size(v->filters, v->channels); }

typedef struct {
    const winograd *w;
    real *u;
} packing;

/* Items are panels of filters. */
static int pack_task(void *context, int64_t begin, int64_t end)
{
    const packing *p = context;
    const winograd *w = p->w;
    const convolution *v = w->v;
    const fdl_mark mark = fdl_scratch_mark();
    real *rows = fdl_scratch(POINTS * w->u_point * (int64_t)sizeof(real));
    for (int64_t panel = begin; rows && panel < end; panel++) {
        const int64_t f = panel * GEMM_A_PANEL, f_end = min64(v->filters, f + GEMM_A_PANEL);
        transform_weights(w, f, f_end, rows);
        for (int64_t i = 0; i < POINTS; i++) {
            const gemm_matrix point = {rows + i * w->u_point, w->u_row, 1};
            gemm_pack_rows(&point, f, f_end, v->filters, v->channels,
                           p->u + i * gemm_packed_size(v->filters, v->channels));
        }
    }
    fdl_scratch_release(mark);
    return rows ? FDL_OK : FDL_OUT_OF_MEMORY;
}

static void describe_u(winograd *w)
{
    w->u_row = ceil_div(w->v->channels, LANES) * LANES + LANES; /* odd in vectors: rows do not share cache sets */
    w->u_point = FILTERS * w->u_row + 3 * LANES; /* not a whole page: POINTS streams are written side by side */
}

int conv_winograd_pack(const convolution *v, real *u)
{
    winograd w = {.v = v};
    packing p = {&w, u};
    describe_u(&w);
    const bool small = v->channels * v->filters < 1 << 14;
    return fdl_parallel(ceil_div(v->filters, GEMM_A_PANEL), small ? INT64_MAX : 1, pack_task, &p);
}

/* V of a point, [slices of channels, panels, channels of the slice, width], is laid out as gemm_pack_b lays out panels.
 */
typedef struct {
    const real *data;
    int64_t lanes; /* of all panels */
} panels;

static const real *packed_v(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const panels *v = context;
    (void)columns, (void)out;
    return v->data + k * v->lanes + column * terms;
}

/* V for one row of tiles of one channel, which is tile `first_tile` of the block on: x [height, width] to `tiles`,
 * where panels of `terms` channels start, for channel c of them. `rows` is scratch for IN rows of rows_width elements:
 * the row of tiles transformed vertically. */
static void transform_input(const winograd *w, const real *x, int64_t tile_row, int64_t first_tile, real *tiles,
                            int64_t terms, int64_t c, real *rows, int64_t rows_width)
{
    const fdl_window *g = &w->v->w;
    const int64_t top = tile_row * OUT - g->padding_height;
    for (int64_t j = 0; j < w->row_tiles * OUT + IN - OUT; j += LANES) {
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
            for (int s = 0; s < IN; s++)
                d[s] = load_every(row + s);
            input_transform(d, value);
            /* The tiles go to the lanes of one panel or of two. */
            for (int64_t l = 0, n; l < min64(LANES, w->row_tiles - t); l += n) {
                const int64_t tile = first_tile + t + l, panel = tile / GEMM_COLUMNS * GEMM_COLUMNS;
                const int64_t width = gemm_panel_width(w->tiles - panel);
                const int64_t lane = tile - panel, skip = lane >= width ? width : 0; /* a narrow panel, then another */
                const int64_t start = panel + skip, its_width = skip ? gemm_panel_width(w->tiles - start) : width;
                n = min64(min64(LANES, w->row_tiles - t) - l, its_width - (lane - skip));
                real *to = tiles + start * terms + c * its_width + (lane - skip) - l;
                const vmask lanes = vmask_range(l, l + n);
                FDL_UNROLL
                for (int s = 0; s < IN; s++)
                    vstore_masked(to + (r * IN + s) * w->v_point, value[s], lanes);
            }
        }
}

/* y, with rows y_row apart, for one row of tiles of one filter; returns lanes that are all-ones where a result is not
 * finite. */
static vint transform_output(const winograd *w, const real *m, int64_t point, int64_t tile_row, real bias,
                             const real *residual, real *y, int64_t y_row)
{
    const fdl_window *g = &w->v->w;
    const limits cut = limits_of(&w->v->activation);
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
            vreal out[OUT];
            interleave(q, out);
            FDL_UNROLL
            for (int n = 0; n < OUT; n++) {
                const int64_t j = t * OUT + n * LANES, left = min64(LANES, g->out_width - j);
                if (left <= 0)
                    break;
                vreal value = out[n] + vset1(bias);
                if (residual)
                    value += vload_first(residual + i * g->out_width + j, left);
                const vreal zero_unless_bad = value - value;
                bad |= zero_unless_bad != zero_unless_bad;
                value = vlimit(cut, value);
                if (left == LANES)
                    vstore(y + r * y_row + j, value);
                else
                    vstore_first(y + r * y_row + j, value, left);
            }
        }
    }
    activate_stored(&w->v->activation, y, y_row, min64(OUT, g->out_height - tile_row * OUT), g->out_width);
    return bad;
}

static int forward_task(void *context, int64_t begin, int64_t end)
{
    const winograd *w = context;
    const convolution *v = w->v;
    const int64_t rows_width = w->row_tiles * OUT + 6 * LANES, together = v->sink ? v->sink->together : 1,
                  m_row = w->tiles + LANES;
    const int64_t size = (int64_t)sizeof(real);
    const fdl_mark mark = fdl_scratch_mark();
    real *rows = fdl_scratch(IN * rows_width * size);
    real *tiles = fdl_scratch(POINTS * w->v_point * size);
    real *products = fdl_scratch((POINTS * w->m_point + LANES) * size);
    real *u_block = w->u ? NULL : fdl_scratch(POINTS * w->u_point * size);
    /* Results that do not go to y: [OUT rows, `together` filters, rows_width]. */
    real *lines = v->sink ? fdl_scratch(OUT * together * rows_width * size) : NULL;
    if (!rows || !tiles || !products || (!w->u && !u_block) || (v->sink && !lines)) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    /* Lanes that are computed with but never seen have to be finite. */
    memset(rows, 0, (size_t)(IN * rows_width * size));
    memset(tiles, 0, (size_t)(POINTS * w->v_point * size));
    memset(products, 0, (size_t)((POINTS * w->m_point + LANES) * size));
    int status = FDL_OK;
    vint bad = {0};
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t first = item / w->parts * w->block_rows, part = item % w->parts;
        const int64_t f_panels = ceil_div(v->filters, FILTERS);
        const int64_t f_begin = f_panels * part / w->parts * FILTERS;
        const int64_t f_end = min64(v->filters, f_panels * (part + 1) / w->parts * FILTERS);
        const int64_t count = min64(w->block_rows, v->w.batch * w->tile_rows - first);
        const int64_t slices = gemm_slices(v->channels);
        for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
            terms = gemm_slice_terms(v->channels, k, slices - slice);
            for (int64_t c = 0; c < terms; c++)
                for (int64_t row = first; row < first + count; row++)
                    transform_input(w, v->x + (row / w->tile_rows * v->channels + k + c) * v->pixels,
                                    row % w->tile_rows, (row - first) * w->row_tiles, tiles + k * w->lanes, terms, c,
                                    rows, rows_width);
        }
        for (int64_t f = f_begin; f < f_end && status == FDL_OK; f += FILTERS) {
            const int64_t filters = min64(FILTERS, f_end - f);
            if (!w->u)
                transform_weights(w, f, f + filters, u_block);
            const int64_t packed = gemm_packed_size(v->filters, v->channels); /* of one point */
            for (int64_t p = 0; p < POINTS && status == FDL_OK; p++) {
                const gemm_problem product = {
                    .m = filters,
                    .n = w->tiles,
                    .k = v->channels,
                    .a = {w->u ? NULL : u_block + p * w->u_point, w->u_row, 1},
                    .packed_a = {w->u ? w->u + p * packed : NULL, v->filters, f, 0},
                    .a_next = w->u && p + 1 < POINTS ? w->u + (p + 1) * packed + f * v->channels : NULL,
                    .pack_b = packed_v,
                    .b = &(panels){tiles + p * w->v_point, w->lanes},
                    .c = products + p * w->m_point,
                    .c_row = m_row,
                    .steady = v->w.batch * w->tile_rows * w->row_tiles > GEMM_COLUMNS, /* else one block */
                };
                status = gemm_block(&product, (gemm_range){0, filters, 0, w->tiles});
            }
            for (int64_t i = 0; i < filters && status == FDL_OK; i += together)
                for (int64_t row = first; row < first + count; row++) {
                    const int64_t n = row / w->tile_rows, tile_row = row % w->tile_rows, top = tile_row * OUT;
                    const int64_t plane = (n * v->filters + f + i) * v->positions;
                    const real *m = products + i * m_row + (row - first) * w->row_tiles;
                    if (!v->sink) {
                        bad |= transform_output(w, m, w->m_point, tile_row, v->bias ? v->bias[f + i] : 0,
                                                v->residual ? v->residual + plane : NULL,
                                                v->y + plane + top * v->w.out_width, v->w.out_width);
                        continue;
                    }
                    for (int64_t t = 0; t < together; t++, m += m_row)
                        bad |= transform_output(w, m, w->m_point, tile_row, v->bias ? v->bias[f + i + t] : 0, NULL,
                                                lines + t * rows_width, together * rows_width);
                    for (int64_t r = 0; r < min64(OUT, v->w.out_height - top); r++)
                        v->sink->take(v->sink->context, n, f + i, top + r, lines + r * together * rows_width,
                                      rows_width);
                }
        }
    }
    for (int l = 0; l < LANES; l++)
        if (bad[l])
            __atomic_store_n(w->finite, false, __ATOMIC_RELAXED);
    fdl_scratch_release(mark);
    return status;
}

int conv_winograd_forward(const convolution *v, bool *finite)
{
    *finite = true;
    winograd w = {.v = v, .finite = finite};
    if (v->w.batch == 0 || v->filters == 0)
        return FDL_OK;
    w.tile_rows = ceil_div(v->w.out_height, OUT), w.row_tiles = ceil_div(v->w.out_width, OUT);
    describe_u(&w);
    w.u = v->packed_tile == WINOGRAD_TILE ? v->packed_winograd : NULL;
    /* As many rows of tiles as keep V in the second-level cache, but enough to fill panels and feed every thread. */
    const int64_t all_rows = v->w.batch * w.tile_rows;
    const int64_t fit = max64(GEMM_COLUMNS, (3 << 18) / (POINTS * max64(1, v->channels) * (int64_t)sizeof(real)));
    const bool small = v->channels * v->filters * v->positions * v->w.batch < 1 << 18;
    const int64_t threads = fdl_available_threads(small ? 1 : FDL_MOST_THREADS);
    const int64_t row_threads = all_rows * w.row_tiles < threads * GEMM_COLUMNS ? 1 : threads;
    w.block_rows = max64(1, min64(fit / w.row_tiles, ceil_div(all_rows, row_threads)));
    w.blocks = ceil_div(all_rows, w.block_rows);
    w.block_rows = ceil_div(all_rows, w.blocks);
    w.blocks = ceil_div(all_rows, w.block_rows);
    w.parts = w.blocks < threads ? threads : 1;
    w.tiles = w.block_rows * w.row_tiles;
    for (int64_t j = 0; j < w.tiles; j = w.lanes)
        w.lanes += gemm_panel_width(w.tiles - j);
    w.v_point = v->channels * w.lanes + 3 * LANES;
    w.m_point = FILTERS * (w.tiles + LANES) + 3 * LANES;

    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OK;
    if (!w.u && w.blocks * w.parts > threads) { /* U is used more than once */
        real *u = fdl_scratch(conv_winograd_packed_size(v) * (int64_t)sizeof(real));
        if (!u)
            return FDL_OUT_OF_MEMORY;
        status = conv_winograd_pack(v, u);
        w.u = u;
    }
    if (status == FDL_OK)
        status = fdl_parallel(w.blocks * w.parts, small ? INT64_MAX : 1, forward_task, &w);
    fdl_scratch_release(mark);
    return status;
}
