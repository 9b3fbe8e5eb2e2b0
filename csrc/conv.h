/* What the algorithms of 2-D convolution share (kernels/conv.c, kernels/conv_winograd.c). */
#ifndef FASTDL_CONV_H
#define FASTDL_CONV_H

#include "gemm.h"

typedef struct {
    fdl_window2d w;
    int64_t channels, filters; /* per group */
    int64_t taps;              /* kernel_height * kernel_width */
    int64_t depth;             /* channels * taps: rows of columns */
    int64_t positions;         /* out_height * out_width */
    int64_t pixels;            /* height * width */
    bool is_matrix;            /* 1 x 1, stride 1, no padding: columns is the image itself */
    gemm_matrix weights;       /* of the first group, [filters, depth]; the next group's are group_weights further */
    int64_t group_weights;
    const real *x, *weight, *bias, *grad_y;
    real *y, *grad_x, *grad_weight, *grad_bias;
    int64_t activation;
    bool explicit_columns;
    int64_t images; /* that one product goes over: the whole batch, or one where columns are explicit */
    int64_t parts;  /* pieces that one product is cut into */
} convolution;

#define conv_winograd_pays FDL_NAME(conv_winograd_pays)
#define conv_winograd_forward FDL_NAME(conv_winograd_forward)

/* Whether the window is one that Winograd's algorithm computes, and it is worth it. */
bool conv_winograd_pays(const convolution *v);
/* The forward pass of v. Sets *finite to whether every result is; where not, the caller computes again with
 * another algorithm, because a NaN or an infinity has then spread over its whole tile. */
int conv_winograd_forward(const convolution *v, bool *finite);

#endif
