/* Convolution as matrix products over columns (conv.c), which are packed from the image a tile at a time, or built in
 * memory ("im2col"): the general case, of NCHW. Weights are read where they are. Sums in `real` as described in
 * gemm.h. */
#include "kernels/conv/conv.h"
#include "vector/sums.h"

/* Run `task` over `items` that cost the same, products of that many columns, each cut into parts that write to
 * different places. */
static int over_parts(convolution *v, int64_t items, int64_t columns, fdl_task *task)
{
    const double work = (double)v->w.batch * (double)v->w.out_channels * (double)v->terms * (double)v->positions;
    const int64_t parts = gemm_parts(work, columns);
    v->parts = items % parts == 0 || items >= 8 * parts ? 1 : parts;
    return fdl_parallel(items * v->parts, parts == 1 ? INT64_MAX : 1, task, v);
}

/* Room for the explicit columns of one image and group; NULL where none are to be built. */
static int take_columns(const convolution *v, real **columns)
{
    *columns = v->explicit_columns ? fdl_scratch(v->terms * v->positions * (int64_t)sizeof(real)) : NULL;
    return *columns || !v->explicit_columns ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* ---- forward ---- */

double conv_products_cycles(const convolution *v)
{
    const double tiles = (double)(ceil_div(v->filters, GEMM_ROWS) * v->positions) / GEMM_COLUMNS;
    return 0.47 * conv_slowness() * conv_multiply_adds(v) / LANES + 140 * tiles + conv_columns_cycles(v);
}

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
            .k = v->terms,
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
            p.packed_a = (gemm_packed){v->packed + g * gemm_packed_size(v->filters, v->terms), v->filters, 0, 0};
        const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
        if (columns && range.row < range.row_end && range.column < range.column_end)
            conv_fill_columns(v, m.x, 0, v->terms, range.column, range.column_end - range.column,
                              columns + range.column, v->positions);
        status = gemm_block(&p, range);
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_products_forward(const convolution *v)
{
    convolution parts = *v;
    return over_parts(&parts, v->w.batch / v->images * v->w.groups, v->images * v->positions, forward_task);
}

/* ---- gradient of the input ---- */

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
    /* Tiles whose columns fit the second-level cache: of whole output rows, unless these are too long. */
    const int64_t fit = (1 << 19) / max64(1, v->terms * (int64_t)sizeof(real)), row = max64(1, v->w.out_width);
    const int64_t columns_of_tile = fit >= row ? fit / row * row : max64(1, fit / GEMM_COLUMNS) * GEMM_COLUMNS;
    const int64_t tile = v->explicit_columns ? v->positions : min64(columns_of_tile, v->positions);
    const fdl_mark mark = fdl_scratch_mark();
    real *columns = fdl_scratch(v->terms * tile * (int64_t)sizeof(real));
    int status = columns ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, part = t % v->parts, n = item / groups, g = item % groups;
        const int64_t c = v->channels * part / v->parts, c_end = v->channels * (part + 1) / v->parts;
        real *grad_x = v->grad_x + (n * v->w.channels + g * v->channels + c) * v->pixels;
        const real *grad_y = v->grad_y + (n * v->w.out_channels + g * v->filters) * v->positions;
        for (int64_t i = 0; i < c_end - c; i++)
            set_plane(grad_x + i * v->pixels, v->pixels, v->bias ? v->bias[g * v->channels + c + i] : 0);
        for (int64_t position = 0; position < v->positions && status == FDL_OK; position += tile) {
            /* A = weight^T [channels * taps, filters], of which the part's rows, B = grad_y [filters, positions]. */
            const gemm_matrix b = {grad_y + position, v->positions, 1};
            const int64_t count = min64(tile, v->positions - position);
            const gemm_problem p = {
                .m = v->terms,
                .n = count,
                .k = v->filters,
                .a = {v->weight + g * v->group_weights, 1, v->terms},
                .pack_b = gemm_matrix_b,
                .b = &b,
                .c = columns,
                .c_row = tile,
            };
            status = gemm_block(&p, (gemm_range){c * v->taps, c_end * v->taps, 0, count});
            if (status == FDL_OK)
                conv_add_columns(v, columns + c * v->taps * tile, tile, position, count, grad_x, c_end - c);
        }
        if (v->activation.kind != FDL_ACTIVATION_NONE)
            activate_rows(&v->activation, grad_x, 0, 1, (c_end - c) * v->pixels);
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_products_grad_x(const convolution *v)
{
    convolution parts = *v;
    return over_parts(&parts, v->w.batch * v->w.groups, 0, grad_x_task);
}

/* ---- gradients of the weights and the bias ---- */

/* Items are groups; every part of one sums over all images. */
static int grad_weight_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns;
    int status = take_columns(v, &columns);
    enum { IMAGES = 256 }; /* that sums are added up over in `real` */
    const bool many = v->w.batch > IMAGES;
    real *sums = many ? fdl_scratch(3 * v->group_weights * (int64_t)sizeof(real)) : NULL; /* like high and low */
    real *high = sums + v->group_weights, *low = high + v->group_weights;
    if (many && !sums)
        status = FDL_OUT_OF_MEMORY;
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t g = t / v->parts;
        if (many)
            memset(high, 0, (size_t)(2 * v->group_weights) * sizeof(real));
        for (int64_t n = 0; n < max64(1, v->w.batch) && status == FDL_OK; n++) {
            const conv_image m = {v, v->x + (n * v->w.channels + g * v->channels) * v->pixels};
            const gemm_matrix a = {v->grad_y + (n * v->w.out_channels + g * v->filters) * v->positions, v->positions,
                                   1};
            const gemm_matrix b = {columns ? columns : m.x, 1, v->positions};
            const bool matrix = v->is_matrix || columns;
            const gemm_problem p = {
                .m = v->filters,
                .n = v->terms,
                .k = v->w.batch ? v->positions : 0, /* an empty batch: the sum over nothing, 0 */
                .a = a,
                .pack_b = matrix ? gemm_matrix_b : conv_pack_columns_transposed,
                .b = matrix ? (const void *)&b : &m,
                .c = many ? sums : v->grad_weight + g * v->group_weights,
                .c_row = v->terms,
                .accumulate = n % IMAGES > 0,
            };
            const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
            if (columns && p.k && range.row < range.row_end && range.column < range.column_end)
                conv_fill_columns(v, m.x, range.column, range.column_end - range.column, 0, v->positions,
                                  columns + range.column * v->positions, v->positions);
            status = gemm_block(&p, range);
            const bool full = many && (n % IMAGES == IMAGES - 1 || n == v->w.batch - 1), last = n == v->w.batch - 1;
            for (int64_t f = range.row; f < range.row_end && full && status == FDL_OK; f++) {
                const int64_t at = f * v->terms + range.column, count = range.column_end - range.column;
                total_add(high + at, low + at, sums + at, count);
                if (last) {
                    total_finish(high + at, low + at, count);
                    memcpy(v->grad_weight + g * v->group_weights + at, high + at, (size_t)count * sizeof(real));
                }
            }
        }
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_products_grad_weight(const convolution *v)
{
    convolution parts = *v;
    return over_parts(&parts, v->w.groups, v->terms, grad_weight_task);
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

int conv_sum_planes(const real *grad, int64_t batch, int64_t channels, int64_t size, real *grad_bias)
{
    plane_sums t = {grad, batch, channels, size, grad_bias};
    return fdl_parallel(channels, max64(1, (1 << 17) / max64(1, batch * size)), grad_bias_task, &t);
}

/* ---- kernels as large as the image ---- */

/* There is one position, and the image, all of its channels, is its column: y [batch, filters] = x weight^T. */
bool conv_whole_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return !w->channels_last && w->groups == 1 && v->positions == 1 && v->taps == v->pixels && !v->packed &&
           w->kernel_depth == w->depth && w->kernel_height == w->height && w->kernel_width == w->width &&
           w->padding_depth == 0 && w->padding_height == 0 && w->padding_width == 0 && v->weights.column == 1;
}

int conv_whole_forward(const convolution *v)
{
    const gemm_matrix b = {v->weight, 1, v->terms};
    const gemm_problem p = {
        .m = v->w.batch,
        .n = v->filters,
        .k = v->terms,
        .a = {v->x, v->terms, 1},
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = v->y,
        .c_row = v->filters,
        .column_bias = v->bias,
        .addend = v->residual,
        .activation = v->activation,
    };
    return gemm_parallel(&p);
}

int conv_whole_grad_x(const convolution *v)
{
    const gemm_matrix b = {v->weight, v->terms, 1};
    const fdl_mark mark = fdl_scratch_mark();
    real *bias = v->bias ? fdl_scratch(v->terms * (int64_t)sizeof(real)) : NULL; /* of each pixel */
    if (v->bias && !bias)
        return FDL_OUT_OF_MEMORY;
    for (int64_t c = 0; bias && c < v->channels; c++)
        set_plane(bias + c * v->taps, v->taps, v->bias[c]);
    const gemm_problem p = {
        .m = v->w.batch,
        .n = v->terms,
        .k = v->filters,
        .a = {v->grad_y, v->filters, 1},
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = v->grad_x,
        .c_row = v->terms,
        .column_bias = bias,
        .activation = v->activation,
    };
    const int status = gemm_parallel(&p);
    fdl_scratch_release(mark);
    return status;
}

int conv_whole_grad_weight(const convolution *v)
{
    const gemm_matrix b = {v->x, v->terms, 1};
    const gemm_problem p = {
        .m = v->filters,
        .n = v->terms,
        .k = v->w.batch,
        .a = {v->grad_y, 1, v->filters},
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = v->grad_weight,
        .c_row = v->terms,
    };
    return gemm_parallel(&p);
}
