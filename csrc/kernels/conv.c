/* 2-D convolution (cross-correlation), forward and backward, on the building block.
 *
 * For one group, with k = (c, r, s) running over the group's channels and the kernel's taps, and p = (n, i, j) over the
 * images of the batch and the output's positions:
 *
 *   columns[k, p]  = x[n, c, i stride - padding + r dilation, j stride - padding + s dilation], 0 outside the image
 *   y       [f, p] = sum_k weight[f, k] columns[k, p] + bias[f]
 *   grad_w  [f, k] = sum_p grad_y[f, p] columns[k, p]
 *   grad_x         = the sum of (weight^T grad_y)[k, p] back to where columns took it from; at stride 1 that is the
 *                    convolution of grad_y with the kernels turned round
 *   grad_b  [f]    = sum_p grad_y[f, p], accumulated in double
 *
 * "im2col" builds `columns` of one image in memory. "direct" never does: the tile that the micro-kernel is about to
 * read is packed straight from the image, row by row, with masked loads where the window hangs over the edge, so the
 * scratch is one cache-sized tile a thread whatever the image. Weights are read where they are. "winograd" is in
 * conv_winograd.c. NCHW; sums in `real` as described in gemm.h. */
#include "conv.h"

static convolution describe(const fdl_window2d *w, const real *weight, int64_t algorithm)
{
    convolution v = {.w = *w, .weight = weight};
    v.channels = w->channels / w->groups;
    v.filters = w->out_channels / w->groups;
    v.taps = w->kernel_height * w->kernel_width;
    v.depth = v.channels * v.taps;
    v.positions = w->out_height * w->out_width;
    v.pixels = w->height * w->width;
    v.is_matrix =
        v.taps == 1 && w->stride_height == 1 && w->stride_width == 1 && w->padding_height == 0 && w->padding_width == 0;
    if (v.is_matrix) { /* its rows are one row */
        v.w.height = v.w.out_height = 1;
        v.w.width = v.w.out_width = v.pixels;
    }
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

static run locate(const fdl_window2d *w, int64_t j, int64_t s, int64_t length)
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

/* The input row under output row i and tap row r; -1 outside the image. */
FDL_INLINE int64_t locate_row(const fdl_window2d *w, int64_t i, int64_t r)
{
    const int64_t row = i * w->stride_height - w->padding_height + r * w->dilation_height;
    return row < w->height ? max64(row, -1) : -1;
}

/* The taps of one kernel column: `rows` of them, with a first channel and a count of channels each, since a slice of
 * k may begin and end within a channel. */
typedef struct {
    int64_t i;                    /* output row */
    int64_t tap, tap_step;        /* of the first, and on to the next */
    int64_t k, k_channel, k_tap;  /* where the slice begins: k = k_channel * taps + k_tap */
    int64_t end_channel, end_tap; /* and ends */
} tap_column;

/* to[(channel * taps + tap - k) * out_row + l] = lane l of the run in row i, for the taps and channels of t. Constant
 * wherever inlined: stride (0: any). */
FDL_INLINE void gather(const convolution *v, const tap_column *t, run q, int64_t length, const real *x, real *to,
                       int64_t out_row, const int64_t stride)
{
    const fdl_window2d *w = &v->w;
    const int64_t step = stride ? stride : w->stride_width, to_step = v->taps * out_row;
    const int64_t ahead = 8 * v->pixels; /* a channel is a page away from the next: the hardware does not prefetch it */
    for (int64_t l = 0; l < length; l += LANES) {
        const int64_t n = min64(LANES, length - l);
        const int64_t first = min64(n, max64(0, q.first - l)), last = max64(first, min64(n, q.last - l));
        const vmask store = vmask_range(0, n), inside = vmask_range(first, last);
        /* At stride 2, two vectors hold the run; no byte past its last lane is read. */
        const int64_t begin = 2 * first, end = max64(begin, 2 * last - 1);
        const vmask low = vmask_range(min64(begin, LANES), min64(end, LANES));
        const vmask high = vmask_range(max64(begin - LANES, 0), max64(end - LANES, 0));
        const bool both_whole = first == 0 && last == LANES && q.column + 2 * (l + LANES) <= w->width;
        for (int64_t r = 0, tap = t->tap; r < w->kernel_height; r++, tap += t->tap_step) {
            const int64_t c_begin = t->k_channel + (t->k_tap > tap), c_end = t->end_channel + (t->end_tap > tap);
            const int64_t row = locate_row(w, t->i, r);
            real *target = to + (c_begin * v->taps + tap - t->k) * out_row + l;
            const real *p = x + c_begin * v->pixels + row * w->width + q.column + l * step;
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
    const fdl_window2d *w = &v->w;
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
        t.i = (position + done) / w->out_width;
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

/* x += the columns [k = c_first * taps ..., positions from `position` on], for channels [c_first, c_end). */
static void add_columns(const convolution *v, const real *columns, int64_t columns_row, int64_t position, int64_t count,
                        real *x, int64_t channels)
{
    const fdl_window2d *w = &v->w;
    for (int64_t c = 0; c < channels; c++)
        for (int64_t r = 0; r < w->kernel_height; r++)
            for (int64_t s = 0; s < w->kernel_width; s++) {
                const real *from = columns + (c * v->taps + r * w->kernel_width + s) * columns_row;
                for (int64_t done = 0, length; done < count; done += length) {
                    const int64_t i = (position + done) / w->out_width, j = (position + done) % w->out_width;
                    length = min64(count - done, w->out_width - j);
                    const run q = locate(w, j, s, length);
                    const int64_t row = locate_row(w, i, r);
                    if (row >= 0)
                        scatter_run(from + done, x + c * v->pixels + row * w->width + q.column, q, w->stride_width);
                }
            }
}

/* What the packing callbacks need: the convolution and the first of its images, in one group. */
typedef struct {
    const convolution *v;
    const real *x; /* [images, (groups) channels, height, width] */
} image;

/* B = columns [depth, images * positions], for the forward pass. */
static const real *pack_columns(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns,
                                real *out)
{
    const image *m = context;
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
    const image *m = context;
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
        const image m = {v, v->x + (n * v->w.channels + g * v->channels) * v->pixels};
        const gemm_matrix b = {columns, v->positions, 1};
        gemm_problem p = {
            .m = v->filters,
            .n = v->images * v->positions,
            .k = v->depth,
            .a = v->weights,
            .pack_b = columns ? gemm_matrix_b : pack_columns,
            .b = columns ? (const void *)&b : &m,
            .c = v->y + (n * v->w.out_channels + g * v->filters) * v->positions,
            .c_row = v->positions,
            .c_block = v->images > 1 ? v->positions : 0,
            .c_step = v->w.out_channels * v->positions,
            .row_bias = v->bias ? v->bias + g * v->filters : NULL,
            .activation = v->activation,
        };
        p.a.data += g * v->group_weights;
        const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
        if (columns && range.row < range.row_end && range.column < range.column_end)
            fill_columns(v, m.x, 0, v->depth, range.column, range.column_end - range.column, columns + range.column,
                         v->positions);
        status = gemm_block(&p, range);
    }
    fdl_scratch_release(mark);
    return status;
}

static int forward(convolution *v, int64_t algorithm)
{
    if (v->w.batch == 0)
        return FDL_OK;
    if (algorithm == FDL_ALGORITHM_WINOGRAD || (algorithm == FDL_ALGORITHM_AUTO && conv_winograd_pays(v))) {
        bool finite;
        const int status = conv_winograd_forward(v, &finite);
        if (status != FDL_OK || finite)
            return status;
    }
    return over_parts(v, v->w.batch / v->images * v->w.groups, v->images * v->positions, forward_task);
}

int fdl_conv2d(const real *x, const real *weight, const real *bias, real *y, const fdl_window2d *window,
               int64_t activation, int64_t algorithm)
{
    convolution v = describe(window, weight, algorithm);
    v.x = x, v.bias = bias, v.y = y, v.activation = activation;
    return forward(&v, algorithm);
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

static bool grad_x_is_convolution(const convolution *v)
{
    const fdl_window2d *w = &v->w;
    /* Turning a large kernel for a few positions costs more than it saves. */
    return w->stride_height == 1 && w->stride_width == 1 && !v->explicit_columns &&
           w->padding_height <= w->dilation_height * (w->kernel_height - 1) &&
           w->padding_width <= w->dilation_width * (w->kernel_width - 1) &&
           (v->taps == 1 || w->batch * v->positions >= 128);
}

static int grad_x_convolution(const convolution *v, int64_t algorithm)
{
    const fdl_window2d *w = &v->w;
    fdl_window2d back = *w;
    back.channels = w->out_channels, back.height = w->out_height, back.width = w->out_width;
    back.out_channels = w->channels, back.out_height = w->height, back.out_width = w->width;
    back.padding_height = w->dilation_height * (w->kernel_height - 1) - w->padding_height;
    back.padding_width = w->dilation_width * (w->kernel_width - 1) - w->padding_width;
    const fdl_mark mark = fdl_scratch_mark();
    turning t = {v, NULL};
    if (v->taps > 1) {
        t.turned = fdl_scratch(w->channels * v->filters * v->taps * (int64_t)sizeof(real));
        if (!t.turned)
            return FDL_OUT_OF_MEMORY;
        fdl_parallel(w->channels, max64(1, (1 << 15) / max64(1, v->filters * v->taps)), turn_weights, &t);
    }
    convolution c = describe(&back, t.turned, algorithm);
    if (v->taps == 1)
        c.weights = (gemm_matrix){v->weight, 1, v->depth}; /* the transpose, where it lies */
    c.x = v->grad_y, c.y = v->grad_x;
    const int status = forward(&c, v->taps == 1 ? FDL_ALGORITHM_DIRECT : algorithm);
    fdl_scratch_release(mark);
    return status;
}

/* Otherwise columns of gradients are computed, a tile at a time, and added to where columns came from. Items are images
 * and groups, parts are ranges of channels: each is summed into by one thread only. */
static int grad_x_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const int64_t groups = v->w.groups;
    /* Tiles of whole output rows whose columns fit the second-level cache. */
    const int64_t row_bytes = v->depth * v->w.out_width * (int64_t)sizeof(real);
    const int64_t rows = v->explicit_columns ? v->w.out_height : max64(1, (1 << 19) / max64(1, row_bytes));
    const int64_t tile = min64(rows, v->w.out_height) * v->w.out_width;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns = fdl_scratch(v->depth * tile * (int64_t)sizeof(real));
    int status = columns ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, part = t % v->parts, n = item / groups, g = item % groups;
        const int64_t c = v->channels * part / v->parts, c_end = v->channels * (part + 1) / v->parts;
        real *grad_x = v->grad_x + (n * v->w.channels + g * v->channels + c) * v->pixels;
        const real *grad_y = v->grad_y + (n * v->w.out_channels + g * v->filters) * v->positions;
        memset(grad_x, 0, (size_t)((c_end - c) * v->pixels) * sizeof(real));
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
    }
    fdl_scratch_release(mark);
    return status;
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
            const image m = {v, v->x + (n * v->w.channels + g * v->channels) * v->pixels};
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

static int grad_bias_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    enum { CHUNK = 64 * LANES }; /* terms that one vector of `real` partial sums takes before double */
    for (int64_t f = begin; f < end; f++) {
        double total = 0;
        for (int64_t n = 0; n < v->w.batch; n++) {
            const real *grad = v->grad_y + (n * v->w.out_channels + f) * v->positions;
            for (int64_t p = 0; p < v->positions; p += CHUNK) {
                const int64_t chunk_end = min64(v->positions, p + CHUNK);
                vreal sum = {0};
                int64_t i = p;
                for (; i + LANES <= chunk_end; i += LANES) /* main loop */
                    sum += vload(grad + i);
                sum += vload_first(grad + i, chunk_end - i); /* tail */
                total += vsum_double(sum);
            }
        }
        v->grad_bias[f] = (real)total;
    }
    return FDL_OK;
}

int fdl_conv2d_backward(const real *grad_output, const real *x, const real *weight, real *grad_x, real *grad_weight,
                        real *grad_bias, const fdl_window2d *window, int64_t algorithm)
{
    convolution v = describe(window, weight, algorithm);
    v.x = x, v.grad_y = grad_output;
    v.grad_x = grad_x, v.grad_weight = grad_weight, v.grad_bias = grad_bias;
    int status = FDL_OK;
    if (grad_x && grad_x_is_convolution(&v))
        status = grad_x_convolution(&v, algorithm);
    else if (grad_x)
        status = over_parts(&v, window->batch * window->groups, 0, grad_x_task);
    if (grad_weight && status == FDL_OK)
        status = over_parts(&v, window->groups, v.depth, grad_weight_task);
    if (grad_bias && status == FDL_OK)
        status = fdl_parallel(window->out_channels, max64(1, (1 << 17) / max64(1, window->batch * v.positions)),
                              grad_bias_task, &v);
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

int fdl_im2col(const real *x, real *columns, const fdl_window2d *window)
{
    convolution v = describe(window, NULL, FDL_ALGORITHM_AUTO);
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

int fdl_col2im(const real *columns, real *x, const fdl_window2d *window)
{
    convolution v = describe(window, NULL, FDL_ALGORITHM_AUTO);
    v.x = columns, v.y = x;
    const int64_t cost = max64(1, v.taps * v.positions);
    return fdl_parallel(window->batch * window->channels, max64(1, (1 << 16) / cost), col2im_task, &v);
}
