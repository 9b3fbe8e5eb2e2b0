/* What the algorithms of convolution share (the files beside this one). */
#ifndef FASTDL_CONV_H
#define FASTDL_CONV_H

#include "product/gemm.h"

/* Where the rows of a convolution's results go one by one, if not to y: take gets row `row` of image n of the
 * `together` filters from `filter` on, which are `pitch` elements apart in lines. */
typedef struct {
    void (*take)(const void *context, int64_t n, int64_t filter, int64_t row, const real *lines, int64_t pitch);
    const void *context;
    int64_t together; /* a divisor of GEMM_A_PANEL */
} conv_sink;

typedef struct {
    fdl_window w;
    int64_t channels, filters; /* per group */
    int64_t taps;              /* kernel_height * kernel_width */
    int64_t terms;             /* of a sum, K: channels * taps, the rows of columns */
    int64_t positions;         /* out_height * out_width */
    int64_t pixels;            /* height * width */
    bool is_matrix;            /* 1 x 1, stride 1, no padding: columns is the image itself */
    gemm_matrix weights;       /* of the first group, [filters, terms]; the next group's are group_weights further */
    int64_t group_weights;
    bool turned; /* weight is [channels, filters, taps], its taps in reverse: Winograd's algorithm reads it so */
    const real *x, *weight, *bias, *residual, *grad_y;
    real *y, *grad_x, *grad_weight, *grad_bias;
    const conv_sink *sink; /* which only Winograd's algorithm knows; NULL: y */
    activation activation;
    const real *packed;          /* weights as packed_tile says, or conv_channels_last_weights; NULL: not packed */
    const real *packed_winograd; /* the same transformed for tiles of packed_tile, if that is 2 or 4 */
    int64_t packed_tile;         /* FDL_TILE_... */
    int64_t algorithm;           /* that is asked for */
    bool exact;                  /* Winograd's algorithm is not to be used */
    bool explicit_columns;
    int64_t images; /* that one product goes over: the whole batch, or one where columns are explicit */
    int64_t parts;  /* pieces that one product is cut into */
} convolution;

/* Of one group of one image. */
FDL_INLINE double conv_multiply_adds(const convolution *v)
{
    return (double)v->filters * (double)v->terms * (double)v->positions;
}

/* Images of which each is to be computed as if it were alone (fdl_set_deterministic), or 1: all of them at once. */
FDL_INLINE int64_t conv_apart(const convolution *v) { return fdl_get_deterministic() ? max64(1, v->w.batch) : 1; }

/* Image n of the batch alone. */
FDL_INLINE convolution conv_image_of(const convolution *v, int64_t n)
{
    convolution one = *v;
    const int64_t x = n * v->w.channels * v->pixels, y = n * v->w.out_channels * v->positions;
    one.w.batch = one.images = 1;
    one.x = v->x ? v->x + x : NULL, one.grad_x = v->grad_x ? v->grad_x + x : NULL;
    one.y = v->y ? v->y + y : NULL, one.grad_y = v->grad_y ? v->grad_y + y : NULL;
    one.residual = v->residual ? v->residual + y : NULL;
    return one;
}

/* The compiler shall not know where the pointer comes from: it would keep one for every tap, and has no registers. */
#define FDL_OPAQUE(pointer) __asm__("" : "+r"(pointer))

/* The vector shall be in a register here: a sum not left to where it is stored, if it is, on its own and as one long
 * chain; a load not done anew by every instruction that uses it. */
#if defined(__x86_64__)
#define FDL_COMPUTED(vector) __asm__ volatile("" : "+v"(vector))
#elif defined(__aarch64__)
#define FDL_COMPUTED(vector) __asm__ volatile("" : "+w"(vector))
#else
#define FDL_COMPUTED(vector) (void)0
#endif

/* The lanes [first, last), those of them that there are. */
FDL_INLINE vmask vlanes_between(int64_t first, int64_t last)
{
    first = max64(0, min64(first, LANES));
    return vmask_range(first, max64(first, min64(last, LANES)));
}

/* Those of p; the others are 0. */
FDL_INLINE vreal vload_between(const real *p, int64_t first, int64_t last)
{
    return first <= 0 && last >= LANES ? vload(p) : vload_masked(p, vlanes_between(first, last));
}

/* Whether kernels are 3 x 3, of one plane and without gaps. */
FDL_INLINE bool conv_is_3x3(const fdl_window *w)
{
    return w->depth == 1 && w->kernel_depth == 1 && w->out_depth == 1 && w->kernel_height == 3 &&
           w->kernel_width == 3 && w->dilation_height == 1 && w->dilation_width == 1;
}

/* x[2 j] = even[j] and x[2 j + 1] = odd[j], x [columns]. */
FDL_INLINE void zip_lines(const real *even, const real *odd, int64_t columns, real *x)
{
    int64_t j = 0;
    for (; j + 2 * LANES <= columns; j += 2 * LANES) { /* main loop */
        const vreal a = vload(even + j / 2), b = vload(odd + j / 2);
        vstore(x + j, vzip_low(a, b));
        vstore(x + j + LANES, vzip_high(a, b));
    }
    if (j < columns) { /* tail */
        const int64_t left = columns - j;
        const vreal a = vload_first(even + j / 2, (left + 1) / 2), b = vload_first(odd + j / 2, left / 2);
        vstore_up_to(x + j, vzip_low(a, b), left);
        if (left > LANES)
            vstore_first(x + j + LANES, vzip_high(a, b), left - LANES);
    }
}

/* The first of a convolution's images, in one group: what conv_pack_columns packs. */
typedef struct {
    const convolution *v;
    const real *x; /* [images, (groups) channels, depth, height, width] */
} conv_image;

#define conv_describe FDL_NAME(conv_describe)
#define conv_pack_columns FDL_NAME(conv_pack_columns)
#define conv_pack_columns_transposed FDL_NAME(conv_pack_columns_transposed)

convolution conv_describe(const fdl_window *w, const real *weight);
/* B = columns [terms, images * positions] of a conv_image, and columns^T [positions, terms] of its first image. */
gemm_pack_b conv_pack_columns;
gemm_pack_b conv_pack_columns_transposed;

#define conv_columns_cycles FDL_NAME(conv_columns_cycles)
#define conv_fill_columns FDL_NAME(conv_fill_columns)
#define conv_add_columns FDL_NAME(conv_add_columns)

/* What it costs to pack all columns of one group of one image, by estimate. */
double conv_columns_cycles(const convolution *v);
/* Estimates of cycles are for processors that multiply two vectors a cycle: how many times as long it takes here. */
static inline double conv_slowness(void) { return VECTOR_BYTES == 64 && fdl_cpu_halves() ? 2 : 1; }
/* out[i * out_row + j] = columns[k + i, position + j] of the image x [channels, (depth,) height, width]. */
void conv_fill_columns(const convolution *v, const real *x, int64_t k, int64_t terms, int64_t position, int64_t count,
                       real *out, int64_t out_row);
/* x += the columns [channels * taps, columns_row], of the positions from `position` on. */
void conv_add_columns(const convolution *v, const real *columns, int64_t columns_row, int64_t position, int64_t count,
                      real *x, int64_t channels);

#define conv_sampled_applies FDL_NAME(conv_sampled_applies)
#define conv_fill_sampled FDL_NAME(conv_fill_sampled)

/* Where columns go: rows of `row` elements, or (0) panels of `terms` terms for `columns` columns, as gemm_pack_b has them. */
typedef struct {
    real *data;
    int64_t row, terms, columns;
} conv_columns;

/* The same as conv_fill_columns, a plane at a time, to the columns from `column` on: whether that is how windows lie;
 * false: there was no memory. */
bool conv_sampled_applies(const fdl_window *w);
bool conv_fill_sampled(const convolution *v, const real *x, int64_t k, int64_t terms, int64_t position, int64_t count,
                       int64_t column, const conv_columns *to);

#define conv_products_cycles FDL_NAME(conv_products_cycles)
#define conv_products_forward FDL_NAME(conv_products_forward)
#define conv_products_grad_x FDL_NAME(conv_products_grad_x)
#define conv_products_grad_weight FDL_NAME(conv_products_grad_weight)
#define conv_sum_planes FDL_NAME(conv_sum_planes)

/* By products over columns, for every convolution whose channels are not last: what the forward pass costs, for one
 * group of one image by estimate; the passes. grad_x: plus v's bias (one a channel),
 * activated. */
double conv_products_cycles(const convolution *v);
int conv_products_forward(const convolution *v);
int conv_products_grad_x(const convolution *v);
int conv_products_grad_weight(const convolution *v);
/* grad_bias[c] = the sum of grad [batch, channels, size] over batch and size. */
int conv_sum_planes(const real *grad, int64_t batch, int64_t channels, int64_t size, real *grad_bias);

#define conv_few_applies FDL_NAME(conv_few_applies)
#define conv_few_pays FDL_NAME(conv_few_pays)
#define conv_few_forward FDL_NAME(conv_few_forward)

/* By products with the positions as rows and the filters as columns, from weights packed so: whether it is that, or can
 * become it; whether it is worth it; the forward pass. */
bool conv_few_applies(const convolution *v);
bool conv_few_pays(const convolution *v);
int conv_few_forward(const convolution *v);

#define conv_whole_applies FDL_NAME(conv_whole_applies)
#define conv_whole_forward FDL_NAME(conv_whole_forward)
#define conv_whole_grad_x FDL_NAME(conv_whole_grad_x)
#define conv_whole_grad_weight FDL_NAME(conv_whole_grad_weight)

/* Whether kernels are as large as the image, and the passes of such a convolution, each one product. */
bool conv_whole_applies(const convolution *v);
int conv_whole_forward(const convolution *v);
int conv_whole_grad_x(const convolution *v);
int conv_whole_grad_weight(const convolution *v);

#define conv_rows_applies FDL_NAME(conv_rows_applies)
#define conv_rows_cycles FDL_NAME(conv_rows_cycles)
#define conv_rows_pays FDL_NAME(conv_rows_pays)
#define conv_rows_forward FDL_NAME(conv_rows_forward)
#define conv_winograd_2x2_packed_size FDL_NAME(conv_winograd_2x2_packed_size)
#define conv_winograd_2x2_pack FDL_NAME(conv_winograd_2x2_pack)
#define conv_winograd_2x2_forward FDL_NAME(conv_winograd_2x2_forward)
#define conv_winograd_3x3_packed_size FDL_NAME(conv_winograd_3x3_packed_size)
#define conv_winograd_3x3_pack FDL_NAME(conv_winograd_3x3_pack)
#define conv_winograd_3x3_forward FDL_NAME(conv_winograd_3x3_forward)
#define conv_winograd_4x4_packed_size FDL_NAME(conv_winograd_4x4_packed_size)
#define conv_winograd_4x4_pack FDL_NAME(conv_winograd_4x4_pack)
#define conv_winograd_4x4_forward FDL_NAME(conv_winograd_4x4_forward)

/* The algorithms that have files of their own: whether they compute a convolution, what one image costs by estimate,
 * whether they are worth it, and the forward pass. */
bool conv_rows_applies(const convolution *v);
double conv_rows_cycles(const convolution *v);
bool conv_rows_pays(const convolution *v);
int conv_rows_forward(const convolution *v);

/* Winograd's sets *finite to whether every result is; where not, the caller computes again with another algorithm,
 * because a NaN or an infinity has then spread over its whole tile. Packing: sizes in elements. */
int64_t conv_winograd_2x2_packed_size(const convolution *v);
int64_t conv_winograd_3x3_packed_size(const convolution *v);
int64_t conv_winograd_4x4_packed_size(const convolution *v);
int conv_winograd_2x2_pack(const convolution *v, real *u);
int conv_winograd_3x3_pack(const convolution *v, real *u);
int conv_winograd_4x4_pack(const convolution *v, real *u);
int conv_winograd_2x2_forward(const convolution *v, bool *finite);
int conv_winograd_3x3_forward(const convolution *v, bool *finite);
int conv_winograd_4x4_forward(const convolution *v, bool *finite);

#define conv_winograd_applies FDL_NAME(conv_winograd_applies)
#define conv_winograd_pays FDL_NAME(conv_winograd_pays)
#define conv_winograd_grad_weight_pays FDL_NAME(conv_winograd_grad_weight_pays)
#define conv_winograd_suits FDL_NAME(conv_winograd_suits)
#define conv_winograd_saves FDL_NAME(conv_winograd_saves)

/* Whether tiles of out x out, 2 or 4, compute v, and whether they are what is worth it. */
bool conv_winograd_applies(const convolution *v, int64_t out);
bool conv_winograd_pays(const convolution *v, int64_t out);
bool conv_winograd_grad_weight_pays(const convolution *v);
/* Whether the largest of x [size] is not so far from what is typical of it that its tile would lose half of the digits.
 */
bool conv_winograd_suits(const real *x, int64_t size);
/* The same of v's images x, `size` numbers in all, or of each if they are apart. */
FDL_INLINE bool conv_suits_winograd(const convolution *v, const real *x, int64_t size)
{
    const int64_t apart = conv_apart(v);
    bool suits = true;
    for (int64_t n = 0; n < apart && suits; n++)
        suits = conv_winograd_suits(x + size / apart * n, size / apart);
    return suits;
}
/* Whether Winograd's algorithm with tiles of `out`, if it applies, is faster than products that compute `positions` of
 * every image. */
bool conv_winograd_saves(const convolution *v, int64_t out, int64_t positions);

#define conv_winograd_grad_weight FDL_NAME(conv_winograd_grad_weight)

/* The gradient of the weights with tiles of 4 x 4; finite as above. */
int conv_winograd_grad_weight(const convolution *v, bool *finite);

#define conv_depthwise_pays FDL_NAME(conv_depthwise_pays)
#define conv_depthwise_forward FDL_NAME(conv_depthwise_forward)
#define conv_depthwise_grad_x FDL_NAME(conv_depthwise_grad_x)
#define conv_depthwise_grad_weight FDL_NAME(conv_depthwise_grad_weight)

/* Whether a group is so small that its planes are better summed one by one; correct for any. */
bool conv_depthwise_pays(const convolution *v);
int conv_depthwise_forward(const convolution *v);
/* The gradient of the input, plus v's bias (one a channel), activated: for every stride. */
int conv_depthwise_grad_x(const convolution *v);
int conv_depthwise_grad_weight(const convolution *v);

/* Items that are worth waking a thread for. */
FDL_INLINE int64_t conv_depthwise_grain(const convolution *v, int64_t items)
{
    const double work = (double)v->w.batch * (double)v->w.out_channels * (double)v->terms * (double)v->positions;
    return max64(1, (int64_t)((double)items * (1 << 17) / (work + 1)));
}

#define conv_depthwise_masked_applies FDL_NAME(conv_depthwise_masked_applies)
#define conv_depthwise_masked_cycles FDL_NAME(conv_depthwise_masked_cycles)
#define conv_depthwise_masked_forward FDL_NAME(conv_depthwise_masked_forward)

/* Whether rows can be read where they lie, with lanes masked; what a plane then costs, and the forward pass that does
 * so, to the same sums. */
bool conv_depthwise_masked_applies(const convolution *v);
double conv_depthwise_masked_cycles(const convolution *v);
int conv_depthwise_masked_forward(const convolution *v);

#define conv_stream_applies FDL_NAME(conv_stream_applies)
#define conv_stream_beside FDL_NAME(conv_stream_beside)
#define conv_stream_channels_last FDL_NAME(conv_stream_channels_last)

/* Whether v is depthwise, 3 x 3 at stride 1, padded to the same width, and lanes are masked at no cost: then planes that lie
 * side by side, in the lanes of vectors, are computed column by column, without padding in memory. */
bool conv_stream_applies(const convolution *v);
/* One image of LANES channels: x and y [pixels, LANES], weight [taps, LANES]. */
void conv_stream_beside(const convolution *v, const real *x, const real *weight, vreal bias, real *y);
/* Where the channels are last, with weights in v->packed; items are images and CONV_STREAM_ROWS output rows of each. */
enum { CONV_STREAM_ROWS = 4 };
fdl_task conv_stream_channels_last;

#define conv_batched_applies FDL_NAME(conv_batched_applies)
#define conv_batched_pays FDL_NAME(conv_batched_pays)
#define conv_batched_grad_x_pays FDL_NAME(conv_batched_grad_x_pays)
#define conv_batched_grad_weight_pays FDL_NAME(conv_batched_grad_weight_pays)
#define conv_batched_forward FDL_NAME(conv_batched_forward)
#define conv_batched_grad_x FDL_NAME(conv_batched_grad_x)
#define conv_batched_grad_weight FDL_NAME(conv_batched_grad_weight)

/* With as many images side by side as a vector has lanes: whether that computes all three passes; whether it is worth
 * it, for each; the passes, grad_x plus v's bias (one a channel), activated. */
bool conv_batched_applies(const convolution *v);
bool conv_batched_pays(const convolution *v);
bool conv_batched_grad_x_pays(const convolution *v);
bool conv_batched_grad_weight_pays(const convolution *v);
int conv_batched_forward(const convolution *v);
int conv_batched_grad_x(const convolution *v);
int conv_batched_grad_weight(const convolution *v);

#define conv_phases_pay FDL_NAME(conv_phases_pay)
#define conv_phases_grad_x FDL_NAME(conv_phases_grad_x)
#define conv_phases_winograd_applies FDL_NAME(conv_phases_winograd_applies)
#define conv_phases_winograd_pays FDL_NAME(conv_phases_winograd_pays)
#define conv_phases_winograd FDL_NAME(conv_phases_winograd)

/* Whether the gradient of the input is better computed phase by phase than added together from columns. */
bool conv_phases_pay(const convolution *v);
/* The gradient of the input, plus v's bias (one a channel), activated: for every stride. */
int conv_phases_grad_x(const convolution *v);
/* The same with all phases by Winograd's algorithm, where every one has 2 x 2 taps. */
bool conv_phases_winograd_applies(const convolution *v);
bool conv_phases_winograd_pays(const convolution *v);
int conv_phases_winograd(const convolution *v);

/* The input row, of all planes' rows, under row i of output plane d and row r of the kernel's plane q; -1 outside. */
FDL_INLINE int64_t locate_row(const fdl_window *w, int64_t d, int64_t i, int64_t q, int64_t r)
{
    const int64_t plane = d * w->stride_depth - w->padding_depth + q * w->dilation_depth;
    const int64_t row = i * w->stride_height - w->padding_height + r * w->dilation_height;
    return plane >= 0 && plane < w->depth && row >= 0 && row < w->height ? plane * w->height + row : -1;
}

#define conv_channels_last_weights FDL_NAME(conv_channels_last_weights)
#define conv_channels_last_forward FDL_NAME(conv_channels_last_forward)
#define conv_channels_last_grad_x FDL_NAME(conv_channels_last_grad_x)
#define conv_channels_last_grad_weight FDL_NAME(conv_channels_last_grad_weight)
#define conv_channels_last_grad_bias FDL_NAME(conv_channels_last_grad_bias)
#define conv_channels_last_is_depthwise FDL_NAME(conv_channels_last_is_depthwise)
#define conv_channels_last_depthwise_forward FDL_NAME(conv_channels_last_depthwise_forward)
#define conv_channels_last_depthwise_grad_x FDL_NAME(conv_channels_last_depthwise_grad_x)
#define conv_channels_last_depthwise_grad_weight FDL_NAME(conv_channels_last_depthwise_grad_weight)

/* The weights of v as its forward pass reads them, [groups][terms][filters] or, where it is depthwise,
 * [taps, channels]: for v->packed, once for many calls. */
int conv_channels_last_weights(const convolution *v, real *packed);
/* The passes of v where the channels are last, by products; grad_x: without bias and activation. */
int conv_channels_last_forward(const convolution *v);
int conv_channels_last_grad_x(const convolution *v);
int conv_channels_last_grad_weight(const convolution *v);
int conv_channels_last_grad_bias(const convolution *v);
/* Whether each group has one channel and one filter, and the passes of such a convolution pixel by pixel. */
bool conv_channels_last_is_depthwise(const convolution *v);
int conv_channels_last_depthwise_forward(const convolution *v);
int conv_channels_last_depthwise_grad_x(const convolution *v);
int conv_channels_last_depthwise_grad_weight(const convolution *v);

#endif
