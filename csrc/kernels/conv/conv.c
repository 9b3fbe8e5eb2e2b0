/* 2-D convolution (cross-correlation), forward and backward, on the building block.
 *
 * For one group, with k = (c, r, s) running over the group's channels and the kernel's taps, and p = (n, i, j) over the
 * images of the batch and the output's positions:
 *
 *   columns[k, p]  = x[n, c, i stride - padding + r dilation, j stride - padding + s dilation], 0 outside the image
 *   y       [f, p] = sum_k weight[f, k] columns[k, p] + bias[f]
 *   grad_w  [f, k] = sum_p grad_y[f, p] columns[k, p]
 *   grad_x         = the sum of (weight^T grad_y)[k, p] back to where columns took it from; at stride 1 that is the
 *                    convolution of grad_y with the kernels turned round, above it several (transpose.c)
 *   grad_b  [f]    = sum_p grad_y[f, p], accumulated in double
 *
 * "im2col" builds `columns` of one image in memory. "direct" never does: the tile that the micro-kernel is about to
 * read is packed straight from the image, row by row, with masked loads where the window hangs over the edge, so the
 * scratch is one cache-sized tile a thread whatever the image. Weights are read where they are. "winograd" is in
 * winograd_forward.h, "depthwise" in depthwise.c. NCHW; sums in `real` as described in gemm.h. */
#include "kernels/conv/conv.h"

/* Vectors run along the width: where it is 1, let the height take its place, and the depth the height's. */
static void widen(fdl_window *w)
{
    w->width = w->height, w->height = w->depth, w->depth = 1;
    w->out_width = w->out_height, w->out_height = w->out_depth, w->out_depth = 1;
    w->kernel_width = w->kernel_height, w->kernel_height = w->kernel_depth, w->kernel_depth = 1;
    w->stride_width = w->stride_height, w->stride_height = w->stride_depth, w->stride_depth = 1;
    w->padding_width = w->padding_height, w->padding_height = w->padding_depth, w->padding_depth = 0;
    w->dilation_width = w->dilation_height, w->dilation_height = w->dilation_depth, w->dilation_depth = 1;
}

convolution conv_describe(const fdl_window *w, const real *weight, int64_t algorithm)
{
    convolution v = {.w = *w, .weight = weight, .packed_tile = -1};
    v.channels = w->channels / w->groups;
    v.filters = w->out_channels / w->groups;
    v.taps = w->kernel_depth * w->kernel_height * w->kernel_width;
    v.depth = v.channels * v.taps;
    v.positions = w->out_depth * w->out_height * w->out_width;
    v.pixels = w->depth * w->height * w->width;
    /* Each size by itself: as many positions as pixels may also be 7 x 8 and 8 x 7. */
    v.is_matrix = v.taps == 1 && w->out_depth == w->depth && w->out_height == w->height && w->out_width == w->width &&
                  w->stride_depth == 1 && w->stride_height == 1 && w->stride_width == 1 && w->padding_depth == 0 &&
                  w->padding_height == 0 && w->padding_width == 0;
    if (v.is_matrix) { /* its rows are one row */
        v.w.depth = v.w.out_depth = v.w.height = v.w.out_height = 1;
        v.w.width = v.w.out_width = v.pixels;
    }
    while (v.w.width * v.w.out_width * v.w.kernel_width == 1 && v.w.padding_width == 0 && v.pixels > 1)
        widen(&v.w);
    v.weights = (gemm_matrix){weight, v.depth, 1};
    v.group_weights = v.filters * v.depth;
    v.explicit_columns = algorithm == FDL_ALGORITHM_IM2COL && !v.is_matrix;
    v.images = v.explicit_columns ? min64(1, w->batch) : w->batch;
    return v;
}

/* A run of positions in one output row, seen through one column of taps: lane l is the input column
 * `column` + l stride; lanes [first, last) lie inside the image. */
typedef struct {
    int64_t column, first, last;
} run;

static run locate(const fdl_window *w, int64_t j, int64_t s, int64_t length)
{
    const int64_t stride = w->stride_width, column = j * stride - w->padding_width + s * w->dilation_width;
    run q = {column, 0, length};
    if (column < 0)
        q.first = min64(length, ceil_div(-column, stride));
    if (column + (length - 1) * stride >= w->width)
        q.last = column >= w->width ? 0 : min64(length, ceil_div(w->width - column, stride));
    q.first = min64(q.first, q.last);
    return q;
}

/* The taps of one kernel column: `rows` of them, with a first channel and a count of channels each, since a slice of
 * k may begin and end within a channel. */
typedef struct {
    int64_t d, i;                 /* output plane and row */
    int64_t tap, tap_step;        /* of the first, and on to the next */
    int64_t k, k_channel, k_tap;  /* where the slice begins: k = k_channel * taps + k_tap */
    int64_t end_channel, end_tap; /* and ends */
} tap_column;

/* to[(channel * taps + tap - k) * out_row + l] = lane l of the run in row i, for the taps and channels of t. Constant
 * wherever inlined: stride (0: any). */
FDL_INLINE void gather(const convolution *v, const tap_column *t, run lanes, int64_t length, const real *x, real *to,
                       int64_t out_row, const int64_t stride)
{
    const fdl_window *w = &v->w;
    const int64_t step = stride ? stride : w->stride_width, to_step = v->taps * out_row;
    const int64_t ahead = 8 * v->pixels; /* a channel is a page away from the next: the hardware does not prefetch it */
    for (int64_t l = 0; l < length; l += LANES) {
        const int64_t n = min64(LANES, length - l);
        const int64_t first = min64(n, max64(0, lanes.first - l)), last = max64(first, min64(n, lanes.last - l));
        const vmask store = vmask_range(0, n), inside = vmask_range(first, last);
        /* At stride 2, two vectors hold the run; no byte past its last lane is read. */
        const int64_t begin = 2 * first, end = max64(begin, 2 * last - 1);
        const vmask low = vmask_range(min64(begin, LANES), min64(end, LANES));
        const vmask high = vmask_range(max64(begin - LANES, 0), max64(end - LANES, 0));
        const bool both_whole = first == 0 && last == LANES && lanes.column + 2 * (l + LANES) <= w->width;
        const int64_t rows = w->kernel_depth * w->kernel_height;
        for (int64_t q_r = 0, q = 0, r = 0, tap = t->tap; q_r < rows; q_r++, tap += t->tap_step) {
            const int64_t c_begin = t->k_channel + (t->k_tap > tap), c_end = t->end_channel + (t->end_tap > tap);
            const int64_t row = locate_row(w, t->d, t->i, q, r);
            if (++r == w->kernel_height)
                r = 0, q++;
            real *target = to + (c_begin * v->taps + tap - t->k) * out_row + l;
            const real *p = x + c_begin * v->pixels + row * w->width + lanes.column + l * step;
            if (row < 0 || first == last) { /* over the edge */
                for (int64_t c = c_begin; c < c_end; c++, target += to_step)
                    vstore_masked(target, (vreal){0}, store);
            } else if (stride == 1 && first == 0 && last == LANES) { /* main loop */
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step) {
                    __builtin_prefetch(p + ahead);
                    vstore(target, vload(p));
                }
            } else if (stride == 1) { /* edges and tail */
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step) {
                    __builtin_prefetch(p + ahead);
                    vstore_masked(target, vload_masked(p, inside), store);
                }
            } else if (stride == 2 && both_whole) { /* main loop */
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step) {
                    __builtin_prefetch(p + ahead);
                    __builtin_prefetch(p + ahead + LANES);
                    vstore(target, veven(vload(p), vload(p + LANES)));
                }
            } else if (stride == 2) { /* edges and tail */
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step) {
                    __builtin_prefetch(p + ahead);
                    __builtin_prefetch(p + ahead + LANES);
                    vstore_masked(target, veven(vload_masked(p, low), vload_masked(p + LANES, high)), store);
                }
            } else {
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step)
                    for (int64_t i = 0; i < n; i++)
                        target[i] = i >= first && i < last ? p[i * step] : 0;
            }
        }
    }
}

/* The adjoint: add from[0 : length] to where the run's lanes lie, for one channel. */
FDL_INLINE void scatter_run(const real *from, real *to, run q, int64_t stride)
{
    for (int64_t l = q.first; l < q.last; l += LANES) {
        const int64_t n = min64(LANES, q.last - l);
        real *target = to + l * stride;
        if (stride == 1) {
            const vmask lanes = vmask_range(0, n);
            vstore_masked(target, vload_masked(target, lanes) + vload_masked(from + l, lanes), lanes);
        } else if (stride == 2) {
            const int64_t end = 2 * n - 1;
            const vmask low = vmask_range(0, min64(end, LANES)), high = vmask_range(0, max64(end - LANES, 0));
            const vreal value = vload_first(from + l, n), zero = {0};
            vstore_masked(target, vload_masked(target, low) + vzip_low(value, zero), low);
            vstore_masked(target + LANES, vload_masked(target + LANES, high) + vzip_high(value, zero), high);
        } else {
            for (int64_t i = 0; i < n; i++)
                target[i * stride] += from[l + i];
        }
    }
}

/* out[i * out_row + j] = columns[k + i, position + j] of the image x [channels, height, width]. */
static void fill_columns(const convolution *v, const real *x, int64_t k, int64_t depth, int64_t position, int64_t count,
                         real *out, int64_t out_row)
{
    const fdl_window *w = &v->w;
    const int64_t k_end = k + depth;
    tap_column t = {
        .tap_step = w->kernel_width,
        .k = k,
        .k_channel = k / v->taps,
        .k_tap = k % v->taps,
        .end_channel = k_end / v->taps,
        .end_tap = k_end % v->taps,
    };
    for (int64_t done = 0, length; done < count; done += length) {
        const int64_t j = (position + done) % w->out_width;
        t.i = (position + done) / w->out_width % w->out_height;
        t.d = (position + done) / w->out_width / w->out_height;
        length = min64(count - done, w->out_width - j);
        for (t.tap = 0; t.tap < w->kernel_width; t.tap++) {
            const run q = locate(w, j, t.tap, length);
            if (w->stride_width == 1)
                gather(v, &t, q, length, x, out + done, out_row, 1);
            else if (w->stride_width == 2)
                gather(v, &t, q, length, x, out + done, out_row, 2);
            else
                gather(v, &t, q, length, x, out + done, out_row, 0);
        }
    }
}

/* x += the columns [channels * taps, columns_row], of the positions from `position` on. */
static void add_columns(const convolution *v, const real *columns, int64_t columns_row, int64_t position, int64_t count,
                        real *x, int64_t channels)
{
    const fdl_window *w = &v->w;
    for (int64_t k = 0; k < channels * v->taps; k++, columns += columns_row) {
        const int64_t c = k / v->taps, tap = k % v->taps, s = tap % w->kernel_width;
        const int64_t r = tap / w->kernel_width % w->kernel_height, q = tap / w->kernel_width / w->kernel_height;
        for (int64_t done = 0, length; done < count; done += length) {
            const int64_t row = (position + done) / w->out_width, j = (position + done) % w->out_width;
            length = min64(count - done, w->out_width - j);
            const int64_t to = locate_row(w, row / w->out_height, row % w->out_height, q, r);
            const run lanes = locate(w, j, s, length);
            if (to >= 0)
                scatter_run(columns + done, x + c * v->pixels + to * w->width + lanes.column, lanes, w->stride_width);
        }
    }
}

const real *conv_pack_columns(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns, real *out)
{
    const conv_image *m = context;
    const convolution *v = m->v;
    const int64_t step = v->w.channels * v->pixels, n = column / v->positions, position = column % v->positions;
    if (v->is_matrix && position + columns <= v->positions) {
        const gemm_matrix b = {m->x + n * step, v->positions, 1};
        return gemm_matrix_b(&b, k, depth, position, columns, out);
    }
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        const int64_t count = min64(columns - j, width);
        real *panel = out + j * depth;
        if (count < width)
            memset(panel, 0, (size_t)(depth * width) * sizeof(real));
        for (int64_t done = 0, length; done < count; done += length) {
            const int64_t i = (column + j + done) / v->positions, from = (column + j + done) % v->positions;
            length = min64(count - done, v->positions - from);
            fill_columns(v, m->x + i * step, k, depth, from, length, panel + done, width);
        }
    }
    return out;
}

/* B = columns^T [positions, depth], for the gradient of the weights: rows of columns, then transposed. */
static const real *pack_columns_transposed(const void *context, int64_t k, int64_t depth, int64_t column,
                                           int64_t columns, real *out)
{
    const conv_image *m = context;
    real rows[GEMM_COLUMNS * GEMM_A_STRIDE];
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        const int64_t count = min64(columns - j, width);
        fill_columns(m->v, m->x, column + j, count, k, depth, rows, GEMM_A_STRIDE);
        gemm_transpose_panel(rows, GEMM_A_STRIDE, depth, count, width, out + j * depth);
    }
    return out;
}

/* Run `task` over `items` that cost the same, products of that many columns, each cut into parts that write to
 * different places. */
static int over_parts(convolution *v, int64_t items, int64_t columns, fdl_task *task)
{
    const double work = (double)v->w.batch * (double)v->w.out_channels * (double)v->depth * (double)v->positions;
    const int64_t parts = gemm_parts(work, columns);
    v->parts = items % parts == 0 || items >= 8 * parts ? 1 : parts;
    return fdl_parallel(items * v->parts, parts == 1 ? INT64_MAX : 1, task, v);
}

/* Room for the explicit columns of one image and group; NULL where none are to be built. */
static int take_columns(const convolution *v, real **columns)
{
    *columns = v->explicit_columns ? fdl_scratch(v->depth * v->positions * (int64_t)sizeof(real)) : NULL;
    return *columns || !v->explicit_columns ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* ---- forward ---- */

/* Items are groups, or images and groups where columns are explicit. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const int64_t groups = v->w.groups;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns;
    int status = take_columns(v, &columns);
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, n = item / groups, g = item % groups;
        const conv_image m = {v, v->x + (n * v->w.channels + g * v->channels) * v->pixels};
        const gemm_matrix b = {columns, v->positions, 1};
        gemm_problem p = {
            .m = v->filters,
            .n = v->images * v->positions,
            .k = v->depth,
            .a = v->weights,
            .pack_b = columns ? gemm_matrix_b : conv_pack_columns,
            .b = columns ? (const void *)&b : &m,
            .c = v->y + (n * v->w.out_channels + g * v->filters) * v->positions,
            .c_row = v->positions,
            .c_block = v->images > 1 ? v->positions : 0,
            .c_step = v->w.out_channels * v->positions,
            .row_bias = v->bias ? v->bias + g * v->filters : NULL,
            .addend = v->residual ? v->residual + (n * v->w.out_channels + g * v->filters) * v->positions : NULL,
            .activation = v->activation,
        };
        p.a.data += g * v->group_weights;
        if (v->packed)
            p.packed_a = (gemm_packed){v->packed + g * gemm_packed_size(v->filters, v->depth), v->filters, 0};
        const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
        if (columns && range.row < range.row_end && range.column < range.column_end)
            fill_columns(v, m.x, 0, v->depth, range.column, range.column_end - range.column, columns + range.column,
                         v->positions);
        status = gemm_block(&p, range);
    }
    fdl_scratch_release(mark);
    return status;
}

static int products_forward(convolution *v)
{
    if (v->w.channels_last)
        return conv_channels_last_forward(v);
    return over_parts(v, v->w.batch / v->images * v->w.groups, v->images * v->positions, forward_task);
}

/* ---- the algorithms, and which of them is used ---- */

static bool always(const convolution *v)
{
    (void)v;
    return true;
}
static bool never(const convolution *v)
{
    (void)v;
    return false;
}

static bool pointwise_applies(const convolution *v) { return v->is_matrix; }

static bool depthwise_applies(const convolution *v)
{
    return v->w.channels_last ? v->channels == 1 : min64(v->channels, v->filters) == 1;
}
static bool depthwise_pays(const convolution *v) { return v->w.channels_last || conv_depthwise_pays(v); }

/* Of the gradients, too; where the channels are last, they choose for themselves. */
static bool by_depthwise(const convolution *v, int64_t algorithm)
{
    return !v->w.channels_last && (algorithm == FDL_ALGORITHM_DEPTHWISE ||
                                   (algorithm == FDL_ALGORITHM_AUTO && depthwise_applies(v) && depthwise_pays(v)));
}

static bool winograd_applies(const convolution *v, int64_t out)
{
    const fdl_window *w = &v->w;
    const bool has_weights = v->packed_tile < 0 || w->channels_last || (v->packed_tile & out);
    return has_weights && w->depth == 1 && w->kernel_depth == 1 && w->out_depth == 1 && w->kernel_height == 3 &&
           w->kernel_width == 3 && w->stride_height == 1 && w->stride_width == 1 && w->dilation_height == 1 &&
           w->dilation_width == 1 && w->groups == 1 && (out == 4 || !w->channels_last);
}

/* Cycles of Winograd's algorithm with tiles of `out`, about: the products, with what a tile of C costs beside its
 * terms; the transforms of rows of tiles, which take whole vectors however short the rows are; and that of the weights,
 * unless they are packed. The constants were found by timing. */
static double winograd_cost(const convolution *v, int64_t out)
{
    const int64_t in = out + v->w.kernel_width - 1, row_tiles = ceil_div(v->w.out_width, out);
    const double rows = (double)(v->w.batch * ceil_div(v->w.out_height, out)), points = (double)(in * in);
    const double row_vectors = (double)ceil_div(row_tiles, LANES);
    const double tile_vectors = (double)ceil_div((int64_t)rows * row_tiles, LANES);
    const double channels = (double)v->channels, filters = (double)v->filters;
    const double products = points * filters * tile_vectors * (channels + 24);
    const double transforms = rows * row_vectors * points * (11 * channels + 9 * filters);
    const double weights = v->packed_tile < 0 ? channels / LANES * filters * (points * 4 + 80) : 0;
    return products + transforms + weights;
}

static double direct_cost(const convolution *v, int64_t positions)
{
    const double vectors = (double)ceil_div(v->w.batch * positions, LANES);
    return (double)v->depth * vectors * ((double)v->filters + 4); /* 4: packing */
}

bool conv_winograd_saves(const convolution *v, int64_t out, int64_t positions)
{
    return v->channels >= 16 && v->filters >= 16 && winograd_cost(v, out) < 0.9 * direct_cost(v, positions);
}

static bool winograd_pays(const convolution *v, int64_t out)
{
    return winograd_applies(v, out) && conv_winograd_saves(v, out, v->positions) &&
           (out == 4 || !winograd_pays(v, 4) || winograd_cost(v, 2) < winograd_cost(v, 4));
}
static bool winograd_2x2_applies(const convolution *v) { return winograd_applies(v, 2); }
static bool winograd_4x4_applies(const convolution *v) { return winograd_applies(v, 4); }
static bool winograd_2x2_pays(const convolution *v) { return winograd_pays(v, 2); }
static bool winograd_4x4_pays(const convolution *v)
{
    return v->w.channels_last ? conv_winograd_last_pays(v) : winograd_pays(v, 4);
}

static int winograd_2x2_forward(convolution *v)
{
    bool finite;
    const int status = conv_winograd_2x2_forward(v, &finite);
    return status != FDL_OK || finite ? status : products_forward(v);
}

static int winograd_4x4_forward(convolution *v)
{
    bool finite;
    const int status =
        v->w.channels_last ? conv_winograd_last_forward(v, &finite) : conv_winograd_4x4_forward(v, &finite);
    return status != FDL_OK || finite ? status : products_forward(v);
}

static int rows_forward(convolution *v) { return conv_rows_forward(v); }
static int depthwise_forward(convolution *v)
{
    return v->w.channels_last ? conv_channels_last_forward(v) : conv_depthwise_forward(v);
}

/* In this order "auto" asks them; the first that applies and pays is used. */
typedef struct {
    int64_t algorithm;
    bool (*applies)(const convolution *v);
    bool (*pays)(const convolution *v);
    int (*forward)(convolution *v);
    const char *reason;
} candidate;

static const candidate candidates[] = {
    {FDL_ALGORITHM_DEPTHWISE, depthwise_applies, depthwise_pays, depthwise_forward,
     "one channel in each group: every plane is filtered by itself, at the speed of memory"},
    {FDL_ALGORITHM_POINTWISE, pointwise_applies, always, products_forward,
     "a 1 x 1 kernel at stride 1 without padding is one matrix product, in place"},
    {FDL_ALGORITHM_WINOGRAD_2X2, winograd_2x2_applies, winograd_2x2_pays, winograd_2x2_forward,
     "3 x 3 at stride 1 with many channels, but so few pixels that tiles of 2 x 2 fit them best: 16 multiplications in "
     "place of 36"},
    {FDL_ALGORITHM_WINOGRAD, winograd_4x4_applies, winograd_4x4_pays, winograd_4x4_forward,
     "3 x 3 at stride 1 with many channels and pixels: 36 multiplications in place of 144"},
    {FDL_ALGORITHM_ROWS, conv_rows_applies, conv_rows_pays, rows_forward,
     "few channels or filters: packing windows would cost more than the vectors that row ends leave partly empty"},
    {FDL_ALGORITHM_IM2COL, always, never, products_forward, "only when asked for"},
    {FDL_ALGORITHM_DIRECT, always, always, products_forward,
     "the general case: a matrix product whose right side is packed from the image, tile by tile"},
};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

/* The candidate that is asked for, or the first that pays; NULL if the one asked for does not apply. */
static const candidate *choose(const convolution *v, int64_t algorithm)
{
    for (int i = 0; i < CANDIDATES; i++) {
        const candidate *c = &candidates[i];
        if (algorithm == FDL_ALGORITHM_AUTO && c->applies(v) && c->pays(v))
            return c;
        if (algorithm == c->algorithm)
            return c->applies(v) ? c : NULL;
    }
    return NULL;
}

static int forward(convolution *v, int64_t algorithm)
{
    const candidate *chosen = choose(v, algorithm);
    if (!chosen)
        return FDL_BAD_ALGORITHM;
    return v->w.batch == 0 ? FDL_OK : chosen->forward(v);
}

/* Packed weights are, in this order: where the channels are last, those and the plain ones; where every plane is
 * filtered by itself, the plain ones; else those in panels, and those transformed for Winograd's algorithm. */
static int64_t packed_size(const convolution *v)
{
    const bool plain = v->w.channels_last || depthwise_applies(v);
    return plain ? v->w.out_channels * v->depth : v->w.groups * gemm_packed_size(v->filters, v->depth);
}

static int64_t transformed_size(const convolution *v, int64_t packed_tile)
{
    if (v->w.channels_last)
        return v->w.out_channels * v->depth;
    return packed_tile == 2   ? conv_winograd_2x2_packed_size(v)
           : packed_tile == 4 ? conv_winograd_4x4_packed_size(v)
                              : 0;
}

static convolution describe_packed(const fdl_window *window, const real *packed, int64_t packed_tile, int64_t algorithm)
{
    convolution v = conv_describe(window, packed, algorithm);
    const real *second = packed + packed_size(&v);
    if (window->channels_last) {
        v = conv_describe(window, second, algorithm);
        v.packed = conv_channels_last_reads(&v) ? packed : NULL;
    } else {
        v.packed = depthwise_applies(&v) ? NULL : packed;
        v.packed_winograd = second;
    }
    v.packed_tile = packed_tile;
    return v;
}

int fdl_conv(const real *x, const real *weight, const real *packed, const real *bias, const real *residual, real *y,
             const fdl_window *window, int64_t packed_tile, int64_t kind, double alpha, double beta, int64_t algorithm)
{
    convolution v =
        packed ? describe_packed(window, packed, packed_tile, algorithm) : conv_describe(window, weight, algorithm);
    v.x = x, v.bias = bias, v.residual = residual, v.y = y;
    v.activation = (activation){kind, (real)alpha, (real)beta};
    return forward(&v, algorithm);
}

int fdl_conv_packed_size(const real *weight, int64_t *size, const fdl_window *window, int64_t packed_tile)
{
    const convolution v = conv_describe(window, weight, FDL_ALGORITHM_AUTO);
    *size = packed_size(&v) + transformed_size(&v, packed_tile);
    return FDL_OK;
}

int fdl_conv_pack(const real *weight, real *packed, const fdl_window *window, int64_t packed_tile)
{
    const convolution v = conv_describe(window, weight, FDL_ALGORITHM_AUTO);
    const size_t plain = (size_t)(v.w.out_channels * v.depth) * sizeof(real);
    real *second = packed + packed_size(&v);
    if (window->channels_last) {
        memcpy(second, weight, plain);
        return conv_channels_last_weights(&v, packed);
    }
    if (depthwise_applies(&v))
        memcpy(packed, weight, plain);
    else
        for (int64_t g = 0; g < window->groups; g++) {
            const gemm_matrix a = {weight + g * v.group_weights, v.depth, 1};
            gemm_pack(&a, v.filters, v.depth, packed + g * gemm_packed_size(v.filters, v.depth));
        }
    return packed_tile == 2   ? conv_winograd_2x2_pack(&v, second)
           : packed_tile == 4 ? conv_winograd_4x4_pack(&v, second)
                              : FDL_OK;
}

int fdl_conv_plan(const real *x, int64_t *algorithm, const fdl_window *window, int64_t packed_tile)
{
    (void)x;
    convolution v = conv_describe(window, NULL, *algorithm);
    v.packed_tile = packed_tile;
    const candidate *chosen = choose(&v, *algorithm);
    if (!chosen)
        return FDL_BAD_ALGORITHM;
    *algorithm = chosen->algorithm;
    return FDL_OK;
}

const char *fdl_conv_reason(int64_t algorithm)
{
    for (int i = 0; i < CANDIDATES; i++)
        if (candidates[i].algorithm == algorithm)
            return candidates[i].reason;
    return "";
}

/* ---- gradient of the input ---- */

/* At stride 1 it is itself a convolution: of grad_y, with the kernels turned round and filters and channels having
 * changed places. */
typedef struct {
    const convolution *v;
    real *turned; /* [groups * channels, filters, taps] */
} turning;

static int turn_weights(void *context, int64_t begin, int64_t end)
{
    const turning *t = context;
    const convolution *v = t->v;
    for (int64_t c = begin; c < end; c++) {
        const real *from = v->weight + c / v->channels * v->group_weights + c % v->channels * v->taps;
        real *to = t->turned + c * v->filters * v->taps;
        for (int64_t f = 0; f < v->filters; f++, from += v->depth, to += v->taps)
            for (int64_t tap = 0; tap < v->taps; tap++)
                to[tap] = from[v->taps - 1 - tap];
    }
    return FDL_OK;
}

/* Without weights, images and epilogue. */
static convolution turned_convolution(const convolution *v, int64_t algorithm)
{
    const fdl_window *w = &v->w;
    fdl_window back = *w;
    back.channels = w->out_channels, back.out_channels = w->channels;
    back.depth = w->out_depth, back.height = w->out_height, back.width = w->out_width;
    back.out_depth = w->depth, back.out_height = w->height, back.out_width = w->width;
    back.padding_depth = w->dilation_depth * (w->kernel_depth - 1) - w->padding_depth;
    back.padding_height = w->dilation_height * (w->kernel_height - 1) - w->padding_height;
    back.padding_width = w->dilation_width * (w->kernel_width - 1) - w->padding_width;
    return conv_describe(&back, NULL, algorithm);
}

/* The tiles by which the turned convolution is computed from the kernels as they lie, 2 or 4; 0: not by Winograd's. */
static int64_t turned_tile(const convolution *c, int64_t algorithm)
{
    const candidate *chosen = c->w.channels_last ? NULL : choose(c, algorithm);
    return !chosen                                           ? 0
           : chosen->algorithm == FDL_ALGORITHM_WINOGRAD_2X2 ? 2
           : chosen->algorithm == FDL_ALGORITHM_WINOGRAD     ? 4
                                                             : 0;
}

static bool grad_x_is_convolution(const convolution *v, int64_t algorithm)
{
    const fdl_window *w = &v->w;
    if (w->stride_depth > 1 || w->stride_height > 1 || w->stride_width > 1 || v->explicit_columns ||
        w->padding_depth > w->dilation_depth * (w->kernel_depth - 1) ||
        w->padding_height > w->dilation_height * (w->kernel_height - 1) ||
        w->padding_width > w->dilation_width * (w->kernel_width - 1))
        return false;
    /* Turning a large kernel for a few positions costs more than it saves. */
    if (v->taps == 1 || w->batch * v->positions >= 128 || by_depthwise(v, algorithm))
        return true;
    const convolution c = turned_convolution(v, algorithm);
    return turned_tile(&c, algorithm) > 0;
}

static int grad_x_convolution(const convolution *v, int64_t algorithm)
{
    const fdl_window *w = &v->w;
    convolution c = turned_convolution(v, algorithm);
    c.x = v->grad_y, c.y = v->grad_x, c.bias = v->bias, c.activation = v->activation;
    const int64_t tile = turned_tile(&c, algorithm);
    if (tile) {
        bool finite;
        c.weight = v->weight, c.turned = true;
        const int status = tile == 2 ? conv_winograd_2x2_forward(&c, &finite) : conv_winograd_4x4_forward(&c, &finite);
        if (status != FDL_OK || finite)
            return status;
        c.turned = false, algorithm = FDL_ALGORITHM_DIRECT;
    }
    const fdl_mark mark = fdl_scratch_mark();
    turning t = {v, NULL};
    if (v->taps > 1) {
        t.turned = fdl_scratch(w->channels * v->filters * v->taps * (int64_t)sizeof(real));
        if (!t.turned)
            return FDL_OUT_OF_MEMORY;
        fdl_parallel(w->channels, max64(1, (1 << 15) / max64(1, v->filters * v->taps)), turn_weights, &t);
    }
    /* One tap: as a matrix the transpose, where it lies; with one filter a group, turned it is the same. */
    c.weight = v->taps == 1 ? v->weight : t.turned;
    c.weights = v->taps == 1 ? (gemm_matrix){v->weight, 1, v->depth} : (gemm_matrix){t.turned, c.depth, 1};
    /* The algorithm is for the forward pass: of its gradient, only what applies there. */
    const int status = forward(&c, choose(&c, algorithm) ? algorithm : FDL_ALGORITHM_DIRECT);
    fdl_scratch_release(mark);
    return status;
}

static void set_plane(real *x, int64_t size, real value)
{
    for (int64_t i = 0; i < size; i += LANES) /* main loop and tail */
        vstore_up_to(x + i, vset1(value), size - i);
}

/* Otherwise columns of gradients are computed, a tile at a time, and added to where columns came from. Items are images
 * and groups, parts are ranges of channels: each is summed into by one thread only. */
static int grad_x_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const int64_t groups = v->w.groups;
    const int64_t all_rows = v->w.out_depth * v->w.out_height;
    /* Tiles of whole output rows whose columns fit the second-level cache. */
    const int64_t row_bytes = v->depth * v->w.out_width * (int64_t)sizeof(real);
    const int64_t rows = v->explicit_columns ? all_rows : max64(1, (1 << 19) / max64(1, row_bytes));
    const int64_t tile = min64(rows, all_rows) * v->w.out_width;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns = fdl_scratch(v->depth * tile * (int64_t)sizeof(real));
    int status = columns ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, part = t % v->parts, n = item / groups, g = item % groups;
        const int64_t c = v->channels * part / v->parts, c_end = v->channels * (part + 1) / v->parts;
        real *grad_x = v->grad_x + (n * v->w.channels + g * v->channels + c) * v->pixels;
        const real *grad_y = v->grad_y + (n * v->w.out_channels + g * v->filters) * v->positions;
        for (int64_t i = 0; i < c_end - c; i++)
            set_plane(grad_x + i * v->pixels, v->pixels, v->bias ? v->bias[g * v->channels + c + i] : 0);
        for (int64_t position = 0; position < v->positions && status == FDL_OK; position += tile) {
            /* A = weight^T [the part's channels * taps, filters], B = grad_y [filters, positions]. */
            const gemm_matrix b = {grad_y + position, v->positions, 1};
            const int64_t count = min64(tile, v->positions - position);
            const gemm_problem p = {
                .m = (c_end - c) * v->taps,
                .n = count,
                .k = v->filters,
                .a = {v->weight + g * v->group_weights + c * v->taps, 1, v->depth},
                .pack_b = gemm_matrix_b,
                .b = &b,
                .c = columns,
                .c_row = tile,
            };
            status = gemm_block(&p, (gemm_range){0, p.m, 0, p.n});
            if (status == FDL_OK)
                add_columns(v, columns, tile, position, count, grad_x, c_end - c);
        }
        if (v->activation.kind != FDL_ACTIVATION_NONE)
            activate_rows(&v->activation, grad_x, 0, 1, (c_end - c) * v->pixels);
    }
    fdl_scratch_release(mark);
    return status;
}

/* The gradient of the input; for a transposed convolution, whose result it is, with bias and activation. */
static int grad_x(convolution *v, int64_t algorithm)
{
    if (grad_x_is_convolution(v, algorithm))
        return grad_x_convolution(v, algorithm);
    if (by_depthwise(v, algorithm))
        return conv_depthwise_grad_x(v);
    if (v->w.channels_last)
        return conv_channels_last_grad_x(v);
    if (!v->explicit_columns && conv_phases_pay(v))
        return conv_phases_grad_x(v);
    return over_parts(v, v->w.batch * v->w.groups, 0, grad_x_task);
}

/* ---- gradients of the weights and the bias ---- */

/* Items are groups; every part of one sums over all images. */
static int grad_weight_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns;
    int status = take_columns(v, &columns);
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t g = t / v->parts;
        for (int64_t n = 0; n < max64(1, v->w.batch) && status == FDL_OK; n++) {
            const conv_image m = {v, v->x + (n * v->w.channels + g * v->channels) * v->pixels};
            const gemm_matrix a = {v->grad_y + (n * v->w.out_channels + g * v->filters) * v->positions, v->positions,
                                   1};
            const gemm_matrix b = {columns ? columns : m.x, 1, v->positions};
            const bool matrix = v->is_matrix || columns;
            const gemm_problem p = {
                .m = v->filters,
                .n = v->depth,
                .k = v->w.batch ? v->positions : 0, /* an empty batch: the sum over nothing, 0 */
                .a = a,
                .pack_b = matrix ? gemm_matrix_b : pack_columns_transposed,
                .b = matrix ? (const void *)&b : &m,
                .c = v->grad_weight + g * v->filters * v->depth,
                .c_row = v->depth,
                .accumulate = n > 0,
            };
            const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
            if (columns && p.k && range.row < range.row_end && range.column < range.column_end)
                fill_columns(v, m.x, range.column, range.column_end - range.column, 0, v->positions,
                             columns + range.column * v->positions, v->positions);
            status = gemm_block(&p, range);
        }
    }
    fdl_scratch_release(mark);
    return status;
}

/* Cycles of both methods, about, for vectors of channels of a filter: of the direct one each position costs 9
 * multiplications, of Winograd's each tile 36, with what a dU costs beside its terms. Found by timing. */
static bool winograd_pays_for_weights(const convolution *v)
{
    const fdl_window *w = &v->w;
    const double tiles = (double)(w->batch * ceil_div(w->out_height, 4) * ceil_div(w->out_width, 4));
    const double direct = 9 * (double)(w->batch * v->positions), channels = (double)v->channels;
    const double transforms = 15 * tiles * 36 * (1 / (double)v->filters + 1 / channels);
    return v->channels >= 16 && v->filters >= 16 && 36 * (tiles + 8) + transforms < 0.9 * direct;
}

static bool by_winograd(const convolution *v, int64_t algorithm)
{
    return !v->w.channels_last && winograd_4x4_applies(v) && v->w.batch * v->positions > 0 &&
           (algorithm == FDL_ALGORITHM_WINOGRAD || (algorithm == FDL_ALGORITHM_AUTO && winograd_pays_for_weights(v)));
}

static int grad_weight(convolution *v, int64_t algorithm)
{
    if (v->w.channels_last)
        return conv_channels_last_grad_weight(v);
    if (by_depthwise(v, algorithm))
        return conv_depthwise_grad_weight(v);
    if (by_winograd(v, algorithm)) {
        bool finite;
        const int status = conv_winograd_grad_weight(v, &finite);
        if (status != FDL_OK || finite)
            return status;
    }
    return over_parts(v, v->w.groups, v->depth, grad_weight_task);
}

/* Sums over planes: grad [batch, channels, size]. */
typedef struct {
    const real *grad;
    int64_t batch, channels, size;
    real *grad_bias;
} plane_sums;

static int grad_bias_task(void *context, int64_t begin, int64_t end)
{
    const plane_sums *t = context;
    enum { CHUNK = 64 * LANES }; /* terms that one vector of `real` partial sums takes before double */
    for (int64_t c = begin; c < end; c++) {
        double total = 0;
        for (int64_t n = 0; n < t->batch; n++) {
            const real *grad = t->grad + (n * t->channels + c) * t->size;
            for (int64_t p = 0; p < t->size; p += CHUNK) {
                const int64_t chunk_end = min64(t->size, p + CHUNK);
                vreal sum = {0};
                int64_t i = p;
                for (; i + LANES <= chunk_end; i += LANES) /* main loop */
                    sum += vload(grad + i);
                sum += vload_first(grad + i, chunk_end - i); /* tail */
                total += vsum_double(sum);
            }
        }
        t->grad_bias[c] = (real)total;
    }
    return FDL_OK;
}

static int sum_planes(const real *grad, int64_t batch, int64_t channels, int64_t size, real *grad_bias)
{
    plane_sums t = {grad, batch, channels, size, grad_bias};
    return fdl_parallel(channels, max64(1, (1 << 17) / max64(1, batch * size)), grad_bias_task, &t);
}

int fdl_conv_backward(const real *grad_output, const real *x, const real *weight, real *grad_input, real *grad_kernel,
                      real *grad_bias, const fdl_window *window, int64_t algorithm)
{
    convolution v = conv_describe(window, weight, algorithm);
    v.x = x, v.grad_y = grad_output;
    v.grad_x = grad_input, v.grad_weight = grad_kernel, v.grad_bias = grad_bias;
    int status = choose(&v, algorithm) ? FDL_OK : FDL_BAD_ALGORITHM;
    if (grad_input && status == FDL_OK)
        status = grad_x(&v, algorithm);
    if (grad_kernel && status == FDL_OK)
        status = grad_weight(&v, algorithm);
    if (grad_bias && status == FDL_OK && window->channels_last)
        status = conv_channels_last_grad_bias(&v);
    else if (grad_bias && status == FDL_OK)
        status = sum_planes(grad_output, window->batch, window->out_channels, v.positions, grad_bias);
    return status;
}

/* ---- transposed: input and output of a convolution change places ---- */

int fdl_conv_transpose(const real *x, const real *weight, const real *bias, real *y, const fdl_window *window,
                       int64_t kind, double alpha, double beta)
{
    convolution v = conv_describe(window, weight, FDL_ALGORITHM_AUTO);
    v.grad_y = x, v.bias = bias, v.grad_x = y;
    v.activation = (activation){kind, (real)alpha, (real)beta};
    return grad_x(&v, FDL_ALGORITHM_AUTO);
}

int fdl_conv_transpose_backward(const real *grad_output, const real *x, const real *weight, real *grad_input,
                                real *grad_kernel, real *grad_bias, const fdl_window *window)
{
    convolution v = conv_describe(window, weight, FDL_ALGORITHM_AUTO);
    v.x = grad_output, v.grad_y = x, v.y = grad_input, v.grad_weight = grad_kernel;
    int status = FDL_OK;
    if (grad_input)
        status = forward(&v, FDL_ALGORITHM_AUTO);
    if (grad_kernel && status == FDL_OK)
        status = grad_weight(&v, FDL_ALGORITHM_AUTO);
    if (grad_bias && status == FDL_OK)
        status = sum_planes(grad_output, window->batch, window->channels, v.pixels, grad_bias);
    return status;
}

/* ---- im2col and its adjoint, one channel of one image at a time ---- */

static int im2col_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    for (int64_t c = begin; c < end; c++)
        fill_columns(v, v->x + c * v->pixels, 0, v->taps, 0, v->positions, v->y + c * v->taps * v->positions,
                     v->positions);
    return FDL_OK;
}

int fdl_im2col(const real *x, real *columns, const fdl_window *window)
{
    convolution v = conv_describe(window, NULL, FDL_ALGORITHM_AUTO);
    v.x = x, v.y = columns;
    const int64_t cost = max64(1, v.taps * v.positions);
    return fdl_parallel(window->batch * window->channels, max64(1, (1 << 16) / cost), im2col_task, &v);
}

static int col2im_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    for (int64_t c = begin; c < end; c++) {
        memset(v->y + c * v->pixels, 0, (size_t)v->pixels * sizeof(real));
        add_columns(v, v->x + c * v->taps * v->positions, v->positions, 0, v->positions, v->y + c * v->pixels, 1);
    }
    return FDL_OK;
}

int fdl_col2im(const real *columns, real *x, const fdl_window *window)
{
    convolution v = conv_describe(window, NULL, FDL_ALGORITHM_AUTO);
    v.x = columns, v.y = x;
    const int64_t cost = max64(1, v.taps * v.positions);
    return fdl_parallel(window->batch * window->channels, max64(1, (1 << 16) / cost), col2im_task, &v);
}
