/* What a convolution is made of, and its columns.
 *
 * "im2col" builds `columns` (conv.c) of one image in memory. "direct" never does: the tile that the micro-kernel is
 * about to read is packed straight from the image, row by row, with masked loads where the window hangs over the edge,
 * so the scratch is one cache-sized tile a thread whatever the image. */
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

convolution conv_describe(const fdl_window *w, const real *weight)
{
    convolution v = {.w = *w, .weight = weight, .packed_tile = -1};
    v.channels = w->channels / w->groups;
    v.filters = w->out_channels / w->groups;
    v.taps = w->kernel_depth * w->kernel_height * w->kernel_width;
    v.terms = v.channels * v.taps;
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
    v.weights = (gemm_matrix){weight, v.terms, 1};
    v.group_weights = v.filters * v.terms;
    v.images = w->batch;
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
    int64_t d, i;          /* output plane and row */
    int64_t tap, tap_step; /* of the first, and on to the next */
    int64_t row, rows;     /* of all planes of the kernel: the first of which the slice holds taps, and how many */
    int64_t k, k_channel, k_tap;  /* where the slice begins: k = k_channel * taps + k_tap */
    int64_t end_channel, end_tap; /* and ends */
} tap_column;

/* A number of lanes, where it may be more or less. */
FDL_INLINE int64_t clamp(int64_t lanes) { return max64(0, min64(LANES, lanes)); }

/* Every other element of two vectors, of which the lanes `part` are loaded. */
FDL_INLINE vreal load_even(const real *p, const vmask part[2])
{
    return veven(vload_masked(p, part[0]), vload_masked(p + LANES, part[1]));
}

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
        /* At stride 2 or 4, as many vectors hold the run; no byte past its last lane is read. */
        const int64_t begin = step * first, end = max64(begin, step * (last - 1) + 1);
        vmask part[4];
        FDL_UNROLL
        for (int i = 0; i < 4; i++)
            part[i] = vmask_range(clamp(begin - i * LANES), clamp(end - i * LANES));
        const bool both_whole = first == 0 && last == LANES && lanes.column + 2 * (l + LANES) <= w->width;
        int64_t q = t->row / w->kernel_height, r = t->row % w->kernel_height, tap = t->tap + t->row * t->tap_step;
        for (int64_t q_r = 0; q_r < t->rows; q_r++, tap += t->tap_step) {
            if (q == w->kernel_depth) /* on to the next channel */
                q = 0, tap = t->tap;
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
                    vstore_masked(target, load_even(p, part), store);
                }
            } else if (stride == 4) {
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step)
                    vstore_masked(target, veven(load_even(p, part), load_even(p + 2 * LANES, part + 2)), store);
            } else {
                for (int64_t c = c_begin; c < c_end; c++, p += v->pixels, target += to_step)
                    for (int64_t i = 0; i < n; i++)
                        target[i] = i >= first && i < last ? p[i * step] : 0;
            }
        }
    }
}

/* The same for large strides, of a run from column j of row i in output plane d: at each position, what the taps of one
 * row of the kernel see lies side by side, and is transposed. */
static void gather_rows(const convolution *v, const tap_column *t, int64_t j, int64_t length, const real *x, real *to,
                        int64_t terms, int64_t out_row)
{
    const fdl_window *w = &v->w;
    const int64_t step = w->stride_width;
    for (int64_t k = 0, taps; k < terms; k += taps, to += taps * out_row) {
        const int64_t c = (t->k + k) / v->taps, tap = (t->k + k) % v->taps, s = tap % w->kernel_width;
        const int64_t q_r = tap / w->kernel_width;
        taps = min64(min64(LANES, w->kernel_width - s), terms - k);
        const int64_t row = locate_row(w, t->d, t->i, q_r / w->kernel_height, q_r % w->kernel_height);
        for (int64_t l = 0; l < length; l += LANES) {
            const int64_t n = min64(LANES, length - l), column = (j + l) * step - w->padding_width + s;
            const real *p = x + c * v->pixels + row * w->width + column;
            vreal block[LANES];
            if (row >= 0 && column >= 0 && column + (LANES - 1) * step + LANES <= w->width) { /* main loop */
                vload_transposed(p, step, block);
            } else { /* edges and tail */
                for (int64_t m = 0; m < LANES; m++)
                    block[m] = row >= 0 && m < n
                                   ? vload_between(p + m * step, -column - m * step, w->width - column - m * step)
                                   : (vreal){0};
                vtranspose(block);
            }
            for (int64_t m = 0; m < taps; m++)
                vstore_up_to(to + m * out_row + l, block[m], n);
        }
    }
}

/* Whether that is the better way: not where every other element of every other one is what is seen. */
static bool is_far(const fdl_window *w)
{
    return w->stride_width > 2 && w->stride_width != 4 && w->kernel_width > 3 && w->dilation_width == 1;
}

/* The constants, like those of all such estimates, were found by timing hundreds of shapes. */
double conv_columns_cycles(const convolution *v)
{
    const fdl_window *w = &v->w;
    const double rows = (double)(w->out_depth * w->out_height), columns = (double)w->out_width;
    const double runs = 1 + columns / GEMM_COLUMNS, vectors = columns / LANES + 0.5; /* of a row, which panels cut */
    double run = 1.45 * columns;
    if (conv_sampled_applies(w)) {
        const double lines = rows * (double)(w->kernel_width * min64(w->kernel_height, w->stride_height));
        const double copies = (double)v->taps * (1 + (double)v->positions / GEMM_COLUMNS);
        return 400 + (double)v->channels * (3 * lines * (double)ceil_div(w->out_width, LANES) + 5 * copies);
    }
    if (is_far(w))
        run = 14 * runs + columns / 2;
    else if (w->stride_width == 1)
        run = runs + 5.3 * vectors;
    else if (w->stride_width == 2)
        run = runs + 7 * vectors;
    else if (w->stride_width == 4)
        run = runs + 8.3 * vectors;
    return rows * ((double)v->terms * run + (double)w->kernel_width * runs * 42);
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
void conv_fill_columns(const convolution *v, const real *x, int64_t k, int64_t terms, int64_t position, int64_t count,
                       real *out, int64_t out_row)
{
    const fdl_window *w = &v->w;
    const int64_t k_end = k + terms;
    const conv_columns to = {.data = out, .row = out_row};
    if (conv_sampled_applies(w) && conv_fill_sampled(v, x, k, terms, position, count, 0, &to))
        return;
    tap_column t = {
        .tap_step = w->kernel_width,
        .k = k,
        .k_channel = k / v->taps,
        .k_tap = k % v->taps,
        .end_channel = k_end / v->taps,
        .end_tap = k_end % v->taps,
        .rows = w->kernel_depth * w->kernel_height,
    };
    const bool in_rows = is_far(w);
    const int64_t rows_of_slice = terms / w->kernel_width + 2;
    if (rows_of_slice < t.rows)
        t.row = t.k_tap / w->kernel_width, t.rows = rows_of_slice;
    for (int64_t done = 0, length; done < count; done += length) {
        const int64_t j = (position + done) % w->out_width;
        t.i = (position + done) / w->out_width % w->out_height;
        t.d = (position + done) / w->out_width / w->out_height;
        length = min64(count - done, w->out_width - j);
        if (in_rows) {
            gather_rows(v, &t, j, length, x, out + done, terms, out_row);
            continue;
        }
        /* The slice may hold taps of few of the kernel's columns. */
        const int64_t few = min64(w->kernel_width, terms), first = few < w->kernel_width ? k % w->kernel_width : 0;
        for (int64_t s = 0; s < few; s++) {
            t.tap = first + s < w->kernel_width ? first + s : first + s - w->kernel_width;
            const run q = locate(w, j, t.tap, length);
            if (w->stride_width == 1)
                gather(v, &t, q, length, x, out + done, out_row, 1);
            else if (w->stride_width == 2)
                gather(v, &t, q, length, x, out + done, out_row, 2);
            else if (w->stride_width == 4)
                gather(v, &t, q, length, x, out + done, out_row, 4);
            else
                gather(v, &t, q, length, x, out + done, out_row, 0);
        }
    }
}

/* x += the columns [channels * taps, columns_row], of the positions from `position` on. */
void conv_add_columns(const convolution *v, const real *columns, int64_t columns_row, int64_t position, int64_t count,
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

const real *conv_pack_columns(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const conv_image *m = context;
    const convolution *v = m->v;
    const int64_t step = v->w.channels * v->pixels, n = column / v->positions, position = column % v->positions;
    if (v->is_matrix && position + columns <= v->positions) {
        const gemm_matrix b = {m->x + n * step, v->positions, 1};
        return gemm_matrix_b(&b, k, terms, position, columns, out);
    }
    const conv_columns to = {out, 0, terms, columns};
    bool filled = conv_sampled_applies(&v->w);
    for (int64_t done = 0, length; done < columns && filled; done += length) {
        const int64_t i = (column + done) / v->positions, from = (column + done) % v->positions;
        length = min64(columns - done, v->positions - from);
        filled = conv_fill_sampled(v, m->x + i * step, k, terms, from, length, done, &to);
    }
    for (int64_t j = 0, width; j < columns && !filled; j += width) {
        width = gemm_panel_width(columns - j);
        const int64_t count = min64(columns - j, width);
        real *panel = out + j * terms;
        if (count < width)
            memset(panel, 0, (size_t)(terms * width) * sizeof(real));
        for (int64_t done = 0, length; done < count; done += length) {
            const int64_t i = (column + j + done) / v->positions, from = (column + j + done) % v->positions;
            length = min64(count - done, v->positions - from);
            conv_fill_columns(v, m->x + i * step, k, terms, from, length, panel + done, width);
        }
    }
    return out;
}

/* B = columns^T [positions, terms], for the gradient of the weights: rows of columns, then transposed. */
const real *conv_pack_columns_transposed(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns,
                                         real *out)
{
    const conv_image *m = context;
    real rows[GEMM_COLUMNS * GEMM_A_STRIDE];
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        const int64_t count = min64(columns - j, width);
        conv_fill_columns(m->v, m->x, column + j, count, k, terms, rows, GEMM_A_STRIDE);
        gemm_transpose_panel(rows, GEMM_A_STRIDE, terms, count, width, out + j * terms);
    }
    return out;
}
