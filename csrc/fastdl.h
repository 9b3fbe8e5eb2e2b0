/* fastdl: the C entry points. This is the only handwritten declaration of each.
 *
 * generate.py reads this file and derives everything that must agree with it: the cffi binding, the
 * Python wrappers in fastdl/_kernels.py, the Numba signatures, the dispatch table, and the names that
 * keep the instruction-set levels apart at link time.
 *
 * Conventions
 *   real            float or double: every FDL_KERNEL exists as <name>_f32 and <name>_f64, and both
 *                   exist once per instruction-set level; the caller always gets the active level.
 *   FDL_OPTIONAL    the pointer may be NULL (in Python None, or an array with no elements).
 *   return value    FDL_OK or a status; nothing prints, nothing aborts. The caller has checked shapes:
 *                   kernels read exactly the elements that the shapes given here say.
 *   arrays          dense, row-major ("C order"), no alignment required. Shapes stand in [brackets].
 *   index types     int64_t throughout.
 */
#ifndef FASTDL_H
#define FASTDL_H

#include <stdint.h>

#ifndef FDL_KERNEL
#define FDL_KERNEL
#define FDL_OPTIONAL
#endif

enum {
    FDL_OK = 0,
    FDL_OUT_OF_MEMORY = 1, /* MemoryError */
    FDL_BAD_TARGET = 2,    /* ValueError: a class index lies outside [0, classes) */
};

/* Fused into the last pass over a result while it is still in registers. */
enum { FDL_ACTIVATION_NONE = 0, FDL_ACTIVATION_RELU = 1 };

/* How a per-sample loss becomes the value that is returned. */
enum { FDL_REDUCTION_NONE = 0, FDL_REDUCTION_MEAN = 1, FDL_REDUCTION_SUM = 2 };

enum {
    FDL_ALGORITHM_AUTO = 0,
    FDL_ALGORITHM_DIRECT = 1,
    FDL_ALGORITHM_IM2COL = 2,
    FDL_ALGORITHM_WINOGRAD = 3, /* 3 x 3, stride 1, dilation 1, one group; the caller has checked */
};

/* A window sliding over a batch of images: what convolution, im2col and pooling share.
 *   output size = (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1, per dimension. */
typedef struct {
    int64_t batch, channels, height, width;      /* input   [batch, channels, height, width] */
    int64_t out_channels, out_height, out_width; /* output  [batch, out_channels, out_height, out_width] */
    int64_t kernel_height, kernel_width;
    int64_t stride_height, stride_width;
    int64_t padding_height, padding_width;
    int64_t dilation_height, dilation_width;
    int64_t groups;
} fdl_window2d;

/* ---- the library itself (cpu.c, dispatch.c, threads.c, arena.c) ---- */

/* Instruction-set levels, best first; NULL past the end. */
const char *fdl_level_name(int64_t index);
/* 1 if this CPU and operating system can run the level. */
int fdl_level_supported(int64_t index);
/* Make a level the active one; the caller has checked that it is supported. */
void fdl_use_level(int64_t index);
int64_t fdl_active_level(void);

int fdl_has_openmp(void);
void fdl_set_num_threads(int64_t threads);
int64_t fdl_get_num_threads(void);
/* Bytes of scratch that the calling thread holds, the largest use since the last reset, and the reset. */
int64_t fdl_scratch_held(void);
int64_t fdl_scratch_peak(void);
void fdl_scratch_reset(void);

/* ---- kernels (csrc/kernels/<family>.c), seen where `real` is a type ---- */

#ifdef FDL_LEVEL

/* The name of the level that this very code was compiled for. */
FDL_KERNEL const char *fdl_compiled_level(void);
/* The machine's limits, for rooflines: independent vector multiply-adds without
 * memory traffic; the number of floating-point operations done goes to *flops. */
FDL_KERNEL int fdl_peak_fma(int64_t iterations, double *flops, real *sink);

/* activations.c */
FDL_KERNEL int fdl_relu(const real *x, real *y, int64_t size);
FDL_KERNEL int fdl_relu_backward(const real *grad_output, const real *x, real *grad_input, int64_t size);
/* x, y [outer, classes, inner]: normalised over the middle dimension. */
FDL_KERNEL int fdl_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner);
FDL_KERNEL int fdl_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer,
                                    int64_t classes, int64_t inner);
FDL_KERNEL int fdl_log_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner);
FDL_KERNEL int fdl_log_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer,
                                        int64_t classes, int64_t inner);
/* linear.c: y [rows, out] = activation(x [rows, in] weight[out, in]^T + bias[out]) */
FDL_KERNEL int fdl_linear(const real *x, const real *weight, FDL_OPTIONAL const real *bias, real *y, int64_t rows,
                          int64_t in_features, int64_t out_features, int64_t activation);
FDL_KERNEL int fdl_linear_backward(const real *grad_output, const real *x, const real *weight,
                                   FDL_OPTIONAL real *grad_x, FDL_OPTIONAL real *grad_weight,
                                   FDL_OPTIONAL real *grad_bias, int64_t rows, int64_t in_features,
                                   int64_t out_features);
/* pooling.c */
FDL_KERNEL int fdl_max_pool2d(const real *x, real *y, const fdl_window2d *window);
FDL_KERNEL int fdl_max_pool2d_backward(const real *grad_output, const real *x, real *grad_input,
                                       const fdl_window2d *window);
/* losses.c: loss [rows] without reduction, else one value; target [rows] in [0, classes) */
FDL_KERNEL int fdl_cross_entropy(const real *x, const int64_t *target, real *loss, int64_t rows, int64_t classes,
                                 int64_t reduction);
FDL_KERNEL int fdl_cross_entropy_backward(const real *grad_output, const real *x, const int64_t *target,
                                          real *grad_input, int64_t rows, int64_t classes, int64_t reduction);
/* optim.c */
FDL_KERNEL int fdl_sgd_step(real *param, const real *grad, FDL_OPTIONAL real *momentum_buffer, int64_t size,
                            int64_t first, double lr, double momentum, double dampening, double weight_decay,
                            int64_t nesterov, int64_t maximize);

/* conv.c: weight [out_channels, channels / groups, kernel_height, kernel_width] */
FDL_KERNEL int fdl_conv2d(const real *x, const real *weight, FDL_OPTIONAL const real *bias, real *y,
                          const fdl_window2d *window, int64_t activation, int64_t algorithm);
FDL_KERNEL int fdl_conv2d_backward(const real *grad_output, const real *x, const real *weight,
                                   FDL_OPTIONAL real *grad_x, FDL_OPTIONAL real *grad_weight,
                                   FDL_OPTIONAL real *grad_bias, const fdl_window2d *window, int64_t algorithm);
/* columns [batch, channels * kernel_height * kernel_width, out_height * out_width] */
FDL_KERNEL int fdl_im2col(const real *x, real *columns, const fdl_window2d *window);
FDL_KERNEL int fdl_col2im(const real *columns, real *x, const fdl_window2d *window);

#endif /* FDL_LEVEL */

#endif
