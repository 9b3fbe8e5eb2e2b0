/* Convolution (cross-correlation), forward and backward: the entry points, and the table that says what runs.
 *
 * For one group, with k = (c, r, s) running over the group's channels and the kernel's taps, and p = (n, i, j) over the
 * images of the batch and the output's positions (in 1 and 3 dimensions alike):
 *
 *   columns[k, p]  = x[n, c, i stride - padding + r dilation, j stride - padding + s dilation], 0 outside the image
 *   y       [f, p] = sum_k weight[f, k] columns[k, p] + bias[f]
 *   grad_w  [f, k] = sum_p grad_y[f, p] columns[k, p]
 *   grad_x         = the sum of (weight^T grad_y)[k, p] back to where columns took it from; at stride 1 that is the
 *                    convolution of grad_y with the kernels turned round, above it several (phases.c)
 *   grad_b  [f]    = sum_p grad_y[f, p], accumulated in double
 *
 * Arrows between the files point down: this one; products.c, few_positions.c, channels_last.c, rows.c, depthwise*.c,
 * phases.c and winograd_*.c, which each compute one way; columns.c, sampled.c and winograd.c, which describe. */
#include "kernels/conv/conv.h"

/* ---- what the table asks ---- */

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
static bool is_matrix(const convolution *v) { return v->is_matrix; }
static bool is_matrix_of_few(const convolution *v) { return v->is_matrix && conv_few_applies(v); }
static bool filters_planes(const convolution *v) { return min64(v->channels, v->filters) == 1; }
static bool winograd_2x2_applies(const convolution *v) { return conv_winograd_applies(v, 2); }
static bool winograd_4x4_applies(const convolution *v) { return conv_winograd_applies(v, 4); }
static bool winograd_2x2_pays(const convolution *v) { return conv_winograd_pays(v, 2); }
static bool winograd_4x4_pays(const convolution *v) { return conv_winograd_pays(v, 4); }
static bool winograd_grad_weight_applies(const convolution *v)
{
    return conv_winograd_applies(v, 4) && v->w.batch * v->positions > 0;
}

/* ---- what it runs ---- */

/* With columns of one image at a time in memory, unless they are the image itself. */
static convolution with_columns(const convolution *v)
{
    convolution c = *v;
    c.explicit_columns = !v->is_matrix;
    c.images = c.explicit_columns ? min64(1, v->w.batch) : v->w.batch;
    return c;
}

static int columns_forward(const convolution *v)
{
    const convolution c = with_columns(v);
    return c.w.channels_last ? conv_channels_last_forward(&c) : conv_products_forward(&c);
}
static int columns_grad_x(const convolution *v)
{
    const convolution c = with_columns(v);
    return c.w.channels_last ? conv_channels_last_grad_x(&c) : conv_products_grad_x(&c);
}
static int columns_grad_weight(const convolution *v)
{
    const convolution c = with_columns(v);
    return c.w.channels_last ? conv_channels_last_grad_weight(&c) : conv_products_grad_weight(&c);
}

static int64_t input_size(const convolution *v) { return v->w.batch * v->w.channels * v->pixels; }

/* Each image by itself. */
static int each_image(const convolution *v, int (*run)(const convolution *v))
{
    int status = FDL_OK;
    for (int64_t n = 0; n < v->w.batch && status == FDL_OK; n++) {
        const convolution one = conv_image_of(v, n);
        status = run(&one);
    }
    return status;
}

/* Winograd's algorithm where the numbers of x are such that it is exact enough; where not, and where a result is not
 * finite, because a NaN or an infinity has then spread over its whole tile, the products: for all images, or, if they
 * are apart, for those of which it is so, which `self` decides of each. */
static int winograd_or(const convolution *v, int (*winograd)(const convolution *v, bool *finite),
                       int (*products)(const convolution *v), int (*self)(const convolution *v))
{
    bool finite = false;
    if (conv_suits_winograd(v, v->x, input_size(v))) {
        const int status = winograd(v, &finite);
        if (status != FDL_OK)
            return status;
    }
    return finite ? FDL_OK : conv_apart(v) > 1 ? each_image(v, self) : products(v);
}

static int winograd_2x2_forward(const convolution *v)
{
    return winograd_or(v, conv_winograd_2x2_forward, conv_products_forward, winograd_2x2_forward);
}
static int winograd_4x4_forward(const convolution *v)
{
    return winograd_or(v, conv_winograd_4x4_forward,
                       v->w.channels_last ? conv_channels_last_forward : conv_products_forward, winograd_4x4_forward);
}
static int winograd_grad_weight(const convolution *v)
{
    bool finite = false;
    if (conv_winograd_suits(v->grad_y, v->w.batch * v->w.out_channels * v->positions) &&
        conv_winograd_suits(v->x, input_size(v))) {
        const int status = conv_winograd_grad_weight(v, &finite);
        if (status != FDL_OK)
            return status;
    }
    return finite ? FDL_OK : conv_products_grad_weight(v);
}

static bool turned_applies(const convolution *v);
static bool turned_pays(const convolution *v);
static int turned_run(const convolution *v);

/* ---- the table ---- */

/* "auto" takes the first row of its pass and layout that applies and pays. An algorithm asked for by name is taken where
 * it applies; where it does not compute a gradient, that is computed by "direct". Where results have to be exact, rows
 * of Winograd's algorithm do not count. */
enum { FIRST = 1, LAST = 2 }; /* where the channels are */
enum { ANY_ALGORITHM = -1 };  /* but "im2col": the algorithm is that of the convolution that it is */
typedef struct {
    int64_t pass;
    int layouts;
    int64_t algorithm;
    bool (*applies)(const convolution *v);
    bool (*pays)(const convolution *v);
    int (*run)(const convolution *v);
    const char *reason;
} candidate;

static const candidate candidates[] = {
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_DEPTHWISE, filters_planes, conv_depthwise_pays, conv_depthwise_forward,
     "one channel in each group: every plane is filtered by itself, at the speed of memory"},
    {FDL_PASS_FORWARD, LAST, FDL_ALGORITHM_DEPTHWISE, conv_channels_last_is_depthwise, always,
     conv_channels_last_depthwise_forward,
     "one channel and one filter in each group: taps are summed pixel by pixel, vectors along the channels"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_POINTWISE, is_matrix_of_few, conv_few_pays, conv_few_forward,
     "a 1 x 1 kernel at stride 1 without padding is one matrix product, here with its few positions as rows"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_POINTWISE, is_matrix, always, conv_products_forward,
     "a 1 x 1 kernel at stride 1 without padding is one matrix product, in place"},
    {FDL_PASS_FORWARD, LAST, FDL_ALGORITHM_POINTWISE, is_matrix, always, conv_channels_last_forward,
     "a 1 x 1 kernel at stride 1 without padding is one matrix product, in place"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_POINTWISE, conv_whole_applies, always, conv_whole_forward,
     "a kernel as large as the image without padding is one matrix product, of all images"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_BATCHED, conv_batched_applies, conv_batched_pays, conv_batched_forward,
     "many small images: side by side, one in each lane of the vectors, which their rows would leave partly empty"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_WINOGRAD_2X2, winograd_2x2_applies, winograd_2x2_pays, winograd_2x2_forward,
     "3 x 3 at stride 1 with many channels, but so few pixels that tiles of 2 x 2 fit them best: 16 multiplications in "
     "place of 36"},
    {FDL_PASS_FORWARD, FIRST | LAST, FDL_ALGORITHM_WINOGRAD, winograd_4x4_applies, winograd_4x4_pays,
     winograd_4x4_forward, "3 x 3 at stride 1 with many channels and pixels: 36 multiplications in place of 144"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_ROWS, conv_rows_applies, conv_rows_pays, conv_rows_forward,
     "few channels or filters: packing windows would cost more than the vectors that row ends leave partly empty"},
    {FDL_PASS_FORWARD, FIRST | LAST, FDL_ALGORITHM_IM2COL, always, never, columns_forward, "only when asked for"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_DIRECT, conv_few_applies, conv_few_pays, conv_few_forward,
     "few positions: a matrix product with them as rows, because vectors of filters are always full"},
    {FDL_PASS_FORWARD, FIRST, FDL_ALGORITHM_DIRECT, always, always, conv_products_forward,
     "the general case: a matrix product whose right side is packed from the image, tile by tile"},
    {FDL_PASS_FORWARD, LAST, FDL_ALGORITHM_DIRECT, always, always, conv_channels_last_forward,
     "the general case: a matrix product whose left side is packed from the image, row by row"},

    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_POINTWISE, conv_whole_applies, always, conv_whole_grad_x,
     "a kernel as large as the image without padding is one matrix product, of all images"},
    {FDL_PASS_INPUT_GRAD, FIRST | LAST, ANY_ALGORITHM, turned_applies, turned_pays, turned_run,
     "at stride 1 it is itself a convolution, of grad_output with the kernels turned round"},
    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_DEPTHWISE, filters_planes, conv_depthwise_pays, conv_depthwise_grad_x,
     "one channel in each group: each row of a plane is summed from rows in cache"},
    {FDL_PASS_INPUT_GRAD, LAST, FDL_ALGORITHM_DEPTHWISE, conv_channels_last_is_depthwise, always,
     conv_channels_last_depthwise_grad_x,
     "one channel and one filter in each group: taps are summed pixel by pixel, vectors along the channels"},
    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_BATCHED, conv_batched_applies, conv_batched_grad_x_pays,
     conv_batched_grad_x,
     "many small images: side by side, one in each lane of the vectors, each set of pixels a stride apart by itself"},
    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_WINOGRAD, conv_phases_winograd_applies, conv_phases_winograd_pays,
     conv_phases_winograd,
     "pixels a stride apart see 2 x 2 taps: one convolution at stride 1 for all of them, 16 multiplications in place "
     "of "
     "36"},
    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_DIRECT, always, conv_phases_pay, conv_phases_grad_x,
     "pixels a stride apart see the same taps: a convolution at stride 1 for each set of them"},
    {FDL_PASS_INPUT_GRAD, FIRST | LAST, FDL_ALGORITHM_IM2COL, always, never, columns_grad_x, "only when asked for"},
    {FDL_PASS_INPUT_GRAD, FIRST, FDL_ALGORITHM_DIRECT, always, always, conv_products_grad_x,
     "few channels or positions: products, a tile at a time, are added to where windows saw the image"},
    {FDL_PASS_INPUT_GRAD, LAST, FDL_ALGORITHM_DIRECT, always, always, conv_channels_last_grad_x,
     "the general case: products, a tile at a time, are added to where windows saw the image"},

    {FDL_PASS_WEIGHT_GRAD, FIRST, FDL_ALGORITHM_DEPTHWISE, filters_planes, conv_depthwise_pays,
     conv_depthwise_grad_weight, "one channel in each group: every plane is read once, with rows in cache"},
    {FDL_PASS_WEIGHT_GRAD, LAST, FDL_ALGORITHM_DEPTHWISE, conv_channels_last_is_depthwise, always,
     conv_channels_last_depthwise_grad_weight,
     "one channel and one filter in each group: sums over pixels, vectors along the channels"},
    {FDL_PASS_WEIGHT_GRAD, FIRST, FDL_ALGORITHM_POINTWISE, conv_whole_applies, always, conv_whole_grad_weight,
     "a kernel as large as the image without padding is one matrix product, of all images"},
    {FDL_PASS_WEIGHT_GRAD, FIRST, FDL_ALGORITHM_WINOGRAD, winograd_grad_weight_applies, conv_winograd_grad_weight_pays,
     winograd_grad_weight, "3 x 3 at stride 1 with many channels and pixels: 36 multiplications in place of 144"},
    {FDL_PASS_WEIGHT_GRAD, FIRST, FDL_ALGORITHM_BATCHED, conv_batched_applies, conv_batched_grad_weight_pays,
     conv_batched_grad_weight,
     "many small images: side by side, one in each lane of the vectors, whose sums are added up at the end"},
    {FDL_PASS_WEIGHT_GRAD, FIRST | LAST, FDL_ALGORITHM_IM2COL, always, never, columns_grad_weight,
     "only when asked for"},
    {FDL_PASS_WEIGHT_GRAD, FIRST, FDL_ALGORITHM_DIRECT, always, always, conv_products_grad_weight,
     "the general case: a matrix product whose right side is transposed while it is packed from the image"},
    {FDL_PASS_WEIGHT_GRAD, LAST, FDL_ALGORITHM_DIRECT, always, always, conv_channels_last_grad_weight,
     "the general case: a matrix product whose right side is packed from the image, row by row"},
};
enum { CANDIDATES = sizeof candidates / sizeof *candidates };

static bool applies(const candidate *c, const convolution *v, int64_t pass)
{
    const bool approximate = c->algorithm == FDL_ALGORITHM_WINOGRAD || c->algorithm == FDL_ALGORITHM_WINOGRAD_2X2;
    /* Weights that are packed with the filters as columns are good for nothing else. */
    const bool readable = v->packed_tile != FDL_TILE_COLUMNS || c->run == conv_few_forward;
    return c->pass == pass && c->layouts & (v->w.channels_last ? LAST : FIRST) && !(approximate && v->exact) &&
           readable && c->applies(v);
}

static bool is_called(const candidate *c, int64_t algorithm)
{
    return c->algorithm == algorithm || (c->algorithm == ANY_ALGORITHM && algorithm != FDL_ALGORITHM_IM2COL);
}

/* The row that runs; NULL if the algorithm asked for does not compute a forward pass. Where images are apart, it is
 * what a single one is best computed by; the gradient of the weights has terms of them all. */
static const candidate *choose(const convolution *all, int64_t pass)
{
    const bool single = conv_apart(all) > 1 && pass != FDL_PASS_WEIGHT_GRAD;
    const convolution one = single ? conv_image_of(all, 0) : *all, *v = &one;
    const candidate *end = candidates + CANDIDATES, *named = NULL;
    for (const candidate *c = candidates; c < end; c++) {
        if (!applies(c, v, pass) || (v->algorithm != FDL_ALGORITHM_AUTO && !is_called(c, v->algorithm)))
            continue;
        if (c->pays(v))
            return c;
        if (c->algorithm == v->algorithm)
            named = c;
    }
    for (const candidate *c = candidates; c < end && !named && pass != FDL_PASS_FORWARD; c++)
        if (c->algorithm == FDL_ALGORITHM_DIRECT && applies(c, v, pass) && c->pays(v))
            named = c;
    return named;
}

static int run(const convolution *v, int64_t pass)
{
    const candidate *chosen = choose(v, pass);
    return chosen ? chosen->run(v) : FDL_BAD_ALGORITHM;
}

static int forward(const convolution *v)
{
    const candidate *chosen = choose(v, FDL_PASS_FORWARD);
    if (!chosen)
        return FDL_BAD_ALGORITHM;
    return v->w.batch == 0 ? FDL_OK : chosen->run(v);
}

static void ask(convolution *v, int64_t algorithm, int64_t precision)
{
    v->algorithm = algorithm;
    v->exact = (precision == FDL_PRECISION_DEFAULT ? fdl_get_conv_precision() : precision) == FDL_PRECISION_EXACT;
}

/* ---- gradient of the input at stride 1 ---- */

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
        for (int64_t f = 0; f < v->filters; f++, from += v->terms, to += v->taps)
            for (int64_t tap = 0; tap < v->taps; tap++)
                to[tap] = from[v->taps - 1 - tap];
    }
    return FDL_OK;
}

/* Without weights, images and epilogue. */
static convolution turned_convolution(const convolution *v)
{
    const fdl_window *w = &v->w;
    fdl_window back = *w;
    back.channels = w->out_channels, back.out_channels = w->channels;
    back.depth = w->out_depth, back.height = w->out_height, back.width = w->out_width;
    back.out_depth = w->depth, back.out_height = w->height, back.out_width = w->width;
    back.padding_depth = w->dilation_depth * (w->kernel_depth - 1) - w->padding_depth;
    back.padding_height = w->dilation_height * (w->kernel_height - 1) - w->padding_height;
    back.padding_width = w->dilation_width * (w->kernel_width - 1) - w->padding_width;
    convolution c = conv_describe(&back, NULL);
    c.algorithm = v->algorithm, c.exact = v->exact;
    return c;
}

/* The row that computes it. */
static const candidate *choose_turned(convolution *c)
{
    const candidate *chosen = choose(c, FDL_PASS_FORWARD);
    if (chosen)
        return chosen;
    c->algorithm = FDL_ALGORITHM_DIRECT; /* what was asked for is for the forward pass */
    return choose(c, FDL_PASS_FORWARD);
}

/* The tiles by which it is computed from the kernels as they lie, 2 or 4; 0: not by Winograd's algorithm. */
static int64_t turned_tile(const convolution *c)
{
    const candidate *chosen = choose(c, FDL_PASS_FORWARD);
    return !chosen                                           ? 0
           : chosen->algorithm == FDL_ALGORITHM_WINOGRAD_2X2 ? 2
           : chosen->algorithm == FDL_ALGORITHM_WINOGRAD     ? 4
                                                             : 0;
}

static bool turned_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return w->stride_depth == 1 && w->stride_height == 1 && w->stride_width == 1 &&
           w->padding_depth <= w->dilation_depth * (w->kernel_depth - 1) &&
           w->padding_height <= w->dilation_height * (w->kernel_height - 1) &&
           w->padding_width <= w->dilation_width * (w->kernel_width - 1);
}

/* Turning a large kernel for a few positions costs more than it saves. */
static bool turned_pays(const convolution *v)
{
    if (v->taps == 1 || v->w.batch * v->positions >= 128)
        return true;
    if (!v->w.channels_last && filters_planes(v) &&
        (v->algorithm == FDL_ALGORITHM_DEPTHWISE || (v->algorithm == FDL_ALGORITHM_AUTO && conv_depthwise_pays(v))))
        return true;
    const convolution c = turned_convolution(v);
    return turned_tile(&c) > 0;
}

static int turned_run(const convolution *v)
{
    const fdl_window *w = &v->w;
    convolution c = turned_convolution(v);
    c.x = v->grad_y, c.y = v->grad_x, c.bias = v->bias, c.activation = v->activation;
    const int64_t tile = turned_tile(&c);
    if (tile) {
        bool finite = false;
        c.weight = v->weight, c.turned = true;
        if (conv_suits_winograd(&c, c.x, input_size(&c))) {
            const int status =
                tile == 2 ? conv_winograd_2x2_forward(&c, &finite) : conv_winograd_4x4_forward(&c, &finite);
            if (status != FDL_OK || finite)
                return status;
        }
        if (conv_apart(v) > 1)
            return each_image(v, turned_run);
        c.turned = false, c.algorithm = FDL_ALGORITHM_DIRECT;
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
    c.weights = v->taps == 1 ? (gemm_matrix){v->weight, 1, v->terms} : (gemm_matrix){t.turned, c.terms, 1};
    choose_turned(&c);
    const int status = forward(&c);
    fdl_scratch_release(mark);
    return status;
}

/* ---- packed weights ---- */

/* Packed weights are, in this order: where the channels are last, those and the plain ones; where every plane is
 * filtered by itself, the plain ones; else those in panels. Then those transformed for Winograd's algorithm. Or nothing but
 * panels with the filters as columns. */
static int64_t packed_size(const convolution *v, int64_t packed_tile)
{
    const int64_t plain = v->w.out_channels * v->terms;
    if (packed_tile == FDL_TILE_COLUMNS)
        return gemm_packed_b_size(v->terms, v->filters);
    if (v->w.channels_last)
        return 2 * plain;
    return filters_planes(v) ? plain : v->w.groups * gemm_packed_size(v->filters, v->terms);
}

static int64_t transformed_size(const convolution *v, int64_t packed_tile)
{
    return packed_tile == 2   ? conv_winograd_2x2_packed_size(v)
           : packed_tile == 4 ? conv_winograd_4x4_packed_size(v)
                              : 0;
}

static convolution describe_packed(const fdl_window *window, const real *packed, int64_t packed_tile)
{
    convolution v = conv_describe(window, packed);
    if (window->channels_last)
        v = conv_describe(window, packed + v.w.out_channels * v.terms);
    const bool plain = !window->channels_last && filters_planes(&v) && packed_tile != FDL_TILE_COLUMNS;
    v.packed = plain ? NULL : packed;
    v.packed_winograd = packed + packed_size(&v, packed_tile);
    v.packed_tile = packed_tile;
    return v;
}

/* ---- entry points ---- */

int fdl_conv(const real *x, const real *weight, const real *packed, const real *bias, const real *residual, real *y,
             const fdl_window *window, int64_t packed_tile, int64_t kind, double alpha, double beta, int64_t algorithm,
             int64_t precision)
{
    convolution v = packed ? describe_packed(window, packed, packed_tile) : conv_describe(window, weight);
    v.x = x, v.bias = bias, v.residual = residual, v.y = y;
    v.activation = activation_of(kind, alpha, beta);
    ask(&v, algorithm, precision);
    return forward(&v);
}

int fdl_conv_packed_size(const real *weight, int64_t *size, const fdl_window *window, int64_t packed_tile)
{
    const convolution v = conv_describe(window, weight);
    *size = packed_size(&v, packed_tile) + transformed_size(&v, packed_tile);
    return FDL_OK;
}

int fdl_conv_pack(const real *weight, real *packed, const fdl_window *window, int64_t packed_tile)
{
    const convolution v = conv_describe(window, weight);
    const size_t plain = (size_t)(v.w.out_channels * v.terms) * sizeof(real);
    if (packed_tile == FDL_TILE_COLUMNS) {
        gemm_pack_b_columns(&(gemm_matrix){weight, 1, v.terms}, v.terms, v.filters, GEMM_B_NARROW, packed);
    } else if (window->channels_last) {
        memcpy(packed + v.w.out_channels * v.terms, weight, plain);
        const int status = conv_channels_last_weights(&v, packed);
        if (status != FDL_OK)
            return status;
    } else if (filters_planes(&v)) {
        memcpy(packed, weight, plain);
    } else {
        for (int64_t g = 0; g < window->groups; g++) {
            const gemm_matrix a = {weight + g * v.group_weights, v.terms, 1};
            gemm_pack(&a, v.filters, v.terms, packed + g * gemm_packed_size(v.filters, v.terms));
        }
    }
    real *transformed = packed + packed_size(&v, packed_tile);
    return packed_tile == 2   ? conv_winograd_2x2_pack(&v, transformed)
           : packed_tile == 4 ? conv_winograd_4x4_pack(&v, transformed)
                              : FDL_OK;
}

int fdl_conv_plan(const real *x, int64_t *plan, const fdl_window *window, int64_t packed_tile, int64_t which,
                  int64_t precision)
{
    (void)x;
    static const real none;
    convolution v = conv_describe(window, NULL);
    v.packed_tile = packed_tile;
    v.packed = packed_tile != FDL_TILE_PLAIN && (window->channels_last || !filters_planes(&v)) ? &none : NULL;
    ask(&v, plan[0], precision);
    if (!choose(&v, FDL_PASS_FORWARD))
        return FDL_BAD_ALGORITHM;
    const candidate *chosen = choose(&v, which), *turned = NULL;
    if (chosen->algorithm == ANY_ALGORITHM) {
        convolution c = turned_convolution(&v);
        turned = choose_turned(&c);
    }
    plan[0] = (turned ? turned : chosen)->algorithm;
    plan[1] = chosen - candidates;
    plan[2] = turned ? turned - candidates : -1;
    plan[3] = chosen->run == conv_few_forward       ? FDL_TILE_COLUMNS
              : chosen->run == winograd_4x4_forward ? 4
              : chosen->run == winograd_2x2_forward ? 2
                                                    : 0;
    return FDL_OK;
}

const char *fdl_conv_reason(int64_t row) { return row >= 0 && row < CANDIDATES ? candidates[row].reason : ""; }

int fdl_conv_backward(const real *grad_output, const real *x, const real *weight, real *grad_input, real *grad_kernel,
                      real *grad_bias, const fdl_window *window, int64_t algorithm, int64_t precision)
{
    convolution v = conv_describe(window, weight);
    v.x = x, v.grad_y = grad_output;
    v.grad_x = grad_input, v.grad_weight = grad_kernel, v.grad_bias = grad_bias;
    ask(&v, algorithm, precision);
    int status = choose(&v, FDL_PASS_FORWARD) ? FDL_OK : FDL_BAD_ALGORITHM;
    if (grad_input && status == FDL_OK)
        status = run(&v, FDL_PASS_INPUT_GRAD);
    if (grad_kernel && status == FDL_OK)
        status = run(&v, FDL_PASS_WEIGHT_GRAD);
    if (grad_bias && status == FDL_OK && window->channels_last)
        status = conv_channels_last_grad_bias(&v);
    else if (grad_bias && status == FDL_OK)
        status = conv_sum_planes(grad_output, window->batch, window->out_channels, v.positions, grad_bias);
    return status;
}

/* ---- transposed: input and output of a convolution change places ---- */

int fdl_conv_transpose(const real *x, const real *weight, const real *bias, real *y, const fdl_window *window,
                       int64_t kind, double alpha, double beta, int64_t precision)
{
    convolution v = conv_describe(window, weight);
    v.grad_y = x, v.bias = bias, v.grad_x = y;
    v.activation = activation_of(kind, alpha, beta);
    ask(&v, FDL_ALGORITHM_AUTO, precision);
    return run(&v, FDL_PASS_INPUT_GRAD);
}

int fdl_conv_transpose_backward(const real *grad_output, const real *x, const real *weight, real *grad_input,
                                real *grad_kernel, real *grad_bias, const fdl_window *window, int64_t precision)
{
    convolution v = conv_describe(window, weight);
    v.x = grad_output, v.grad_y = x, v.y = grad_input, v.grad_weight = grad_kernel;
    ask(&v, FDL_ALGORITHM_AUTO, precision);
    int status = FDL_OK;
    if (grad_input)
        status = forward(&v);
    if (grad_kernel && status == FDL_OK)
        status = run(&v, FDL_PASS_WEIGHT_GRAD);
    if (grad_bias && status == FDL_OK)
        status = conv_sum_planes(grad_output, window->batch, window->channels, v.pixels, grad_bias);
    return status;
}

/* ---- im2col and its adjoint; the channels of all images are as those of one ---- */

static int im2col_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    conv_fill_columns(v, v->x, begin * v->taps, (end - begin) * v->taps, 0, v->positions,
                      v->y + begin * v->taps * v->positions, v->positions);
    return FDL_OK;
}

int fdl_im2col(const real *x, real *columns, const fdl_window *window)
{
    convolution v = conv_describe(window, NULL);
    v.x = x, v.y = columns;
    const int64_t cost = max64(1, v.taps * v.positions);
    return fdl_parallel(window->batch * window->channels, max64(1, (1 << 16) / cost), im2col_task, &v);
}

static int col2im_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    for (int64_t c = begin; c < end; c++) {
        memset(v->y + c * v->pixels, 0, (size_t)v->pixels * sizeof(real));
        conv_add_columns(v, v->x + c * v->taps * v->positions, v->positions, 0, v->positions, v->y + c * v->pixels, 1);
    }
    return FDL_OK;
}

int fdl_col2im(const real *columns, real *x, const fdl_window *window)
{
    convolution v = conv_describe(window, NULL);
    v.x = columns, v.y = x;
    const int64_t cost = max64(1, v.taps * v.positions);
    return fdl_parallel(window->batch * window->channels, max64(1, (1 << 16) / cost), col2im_task, &v);
}
