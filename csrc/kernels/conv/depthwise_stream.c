/* Depthwise convolution of planes that lie side by side, as many as a vector has lanes. CONV_STREAM_ROWS output rows are
 * computed together, column after column of the image: of each, every pixel is loaded once, for its column of taps of
 * three outputs in a row and of up to three rows, whose sums stay in registers
 *
 *   sum[0], sum[1], sum[2]   of the outputs at column u - 1, u and u + 1, which see column u through s = 2, 1 and 0
 *
 * so that the padding is never there: taps outside the image are left out. Sums in `real`, by columns of taps. */
#include "kernels/conv/conv.h"

#ifdef FDL_MASKS_ARE_FREE
enum {
    KERNEL = 3,
    ROWS = CONV_STREAM_ROWS,
    LINES = ROWS - 1 + KERNEL, /* rows that they see */
    NEAR = 512 * 1024 / (int)sizeof(real),
};

/* Up to as many planes as a vector has lanes: pixels are x_step, rows x_row elements apart, the weights of one tap
 * weight_step from those of the next; the output is as wide. */
typedef struct {
    const real *x;
    int64_t x_row, x_step, height, width;
    int64_t padding; /* above */
    const real *weight;
    int64_t weight_step;
    const real *bias, *residual; /* NULL: none; residual is laid out as y */
    real *y;
    int64_t y_row, y_step;
    int64_t lanes;
    bool far; /* x does not stay in the second-level cache */
    limits limits;
} planes;

/* Output rows [i, i + count), count <= ROWS. */
static void stream_rows(const planes *q, int64_t i, int64_t count)
{
    const vmask lanes = vmask_range(0, q->lanes);
    const limits cut = q->limits;
    vreal w[KERNEL][KERNEL], bias = q->bias ? vload_masked(q->bias, lanes) : (vreal){0};
    FDL_COMPUTED(bias);
    FDL_UNROLL
    for (int t = 0; t < KERNEL * KERNEL; t++) {
        w[t / KERNEL][t % KERNEL] = vload_masked(q->weight + t * q->weight_step, lanes);
        FDL_COMPUTED(w[t / KERNEL][t % KERNEL]);
    }
    const int64_t top = i - q->padding, first = max64(0, -top), last = min64(count - 1 + KERNEL, q->height - top);
    const int64_t x_row = q->x_row, y_row = q->y_row;
    const real *x = q->x + top * x_row;
    int64_t at = i * y_row;
    vreal sum[KERNEL][ROWS];
    FDL_UNROLL
    for (int k = 0; k < ROWS; k++)
        sum[0][k] = sum[1][k] = bias;
    for (int64_t u = 0; u <= q->width;
         u++, x += q->x_step) { /* main loop; past the last column, its output is stored */
        FDL_UNROLL
        for (int k = 0; k < ROWS; k++)
            sum[2][k] = bias;
        const real *pixel = x;
        FDL_UNROLL
        for (int l = 0; l < LINES; l++, pixel += x_row) {
            FDL_OPAQUE(pixel);
            if (l < first || l >= last || u == q->width)
                continue;
            if (l >= LINES - ROWS && q->far)
                __builtin_prefetch(pixel + ROWS * x_row, 0, 2); /* of the next rows */
            vreal value = vload_masked(pixel, lanes);
            FDL_COMPUTED(value);
            FDL_UNROLL
            for (int k = 0; k < ROWS; k++)
                if (l >= k && l < k + KERNEL) {
                    FDL_UNROLL
                    for (int s = 0; s < KERNEL; s++)
                        sum[2 - s][k] += w[l - k][s] * value;
                }
        }
        if (u > 0) {
            FDL_UNROLL
            for (int k = 0; k < ROWS; k++)
                if (k < count) {
                    vreal value = sum[0][k];
                    if (q->residual)
                        value += vload_masked(q->residual + at + k * y_row, lanes);
                    vstore_masked(q->y + at + k * y_row, vlimit(cut, value), lanes);
                }
            at += q->y_step;
        }
        FDL_UNROLL
        for (int k = 0; k < ROWS; k++)
            sum[0][k] = sum[1][k], sum[1][k] = sum[2][k];
    }
}

void conv_stream_beside(const convolution *v, const real *x, const real *weight, vreal bias, real *y)
{
    real biases[LANES];
    vstore(biases, bias);
    const int64_t row = v->w.width * LANES;
    const planes q = {
        .x = x,
        .x_row = row,
        .x_step = LANES,
        .height = v->w.height,
        .width = v->w.width,
        .padding = v->w.padding_height,
        .weight = weight,
        .weight_step = LANES,
        .bias = biases,
        .y = y,
        .y_row = row,
        .y_step = LANES,
        .lanes = LANES,
        .limits = limits_of(&v->activation),
    };
    for (int64_t i = 0; i < v->w.out_height; i += ROWS)
        stream_rows(&q, i, min64(ROWS, v->w.out_height - i));
}

int conv_stream_channels_last(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_window *w = &v->w;
    const int64_t blocks = ceil_div(w->out_height, ROWS), row = w->width * w->channels;
    for (int64_t item = begin; item < end; item++) {
        const int64_t n = item / blocks, i = item % blocks * ROWS, count = min64(ROWS, w->out_height - i);
        const int64_t y = n * w->out_height * row;
        for (int64_t c = 0; c < w->channels; c += LANES) { /* main loop and tail */
            const planes q = {
                .x = v->x + n * w->height * row + c,
                .x_row = row,
                .x_step = w->channels,
                .height = w->height,
                .width = w->width,
                .padding = w->padding_height,
                .weight = v->packed + c,
                .weight_step = w->channels,
                .bias = v->bias ? v->bias + c : NULL,
                .residual = v->residual ? v->residual + y + c : NULL,
                .y = v->y + y + c,
                .y_row = row,
                .y_step = w->channels,
                .lanes = min64(LANES, w->channels - c),
                .far = w->height * row > NEAR,
                .limits = limits_of(&v->activation),
            };
            stream_rows(&q, i, count);
        }
        activate_stored(&v->activation, v->y + y + i * row, row, count, row);
    }
    return FDL_OK;
}

bool conv_stream_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return v->channels == 1 && v->filters == 1 && conv_is_3x3(w) && w->stride_height == 1 && w->stride_width == 1 &&
           w->padding_width == 1 && w->out_width == w->width;
}
#else
bool conv_stream_applies(const convolution *v)
{
    (void)v;
    return false;
}
void conv_stream_beside(const convolution *v, const real *x, const real *weight, vreal bias, real *y)
{
    (void)v, (void)x, (void)weight, (void)bias, (void)y;
}
int conv_stream_channels_last(void *context, int64_t begin, int64_t end)
{
    (void)context, (void)begin, (void)end;
    return FDL_OK;
}
#endif
