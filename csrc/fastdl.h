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
 *   uint8_t *       NumPy's bools: 0 or 1.
 *   index types     int64_t throughout.
 */
#ifndef FASTDL_H
#define FASTDL_H

#include <stdint.h>

#ifndef FDL_KERNEL
#define FDL_KERNEL
#define FDL_OPTIONAL
#endif

/* What a kernel returns. Each comment is the exception, and its message, that Python and Numba raise. */
enum {
    FDL_OK = 0,
    /* MemoryError: fastdl: out of memory for a kernel's scratch buffers */
    FDL_OUT_OF_MEMORY = 1,
    /* ValueError: target: found a class index outside the classes, expected 0 <= target < classes */
    FDL_BAD_TARGET = 2,
    /* ValueError: algorithm: found one that does not compute this convolution, expected another, or 'auto' */
    FDL_BAD_ALGORITHM = 3,
    /* ValueError: indices: found a position outside the array, expected 0 <= index < its spatial volume */
    FDL_BAD_INDEX = 4,
    /* ValueError: x: found a value outside [0, 1], expected probabilities */
    FDL_BAD_PROBABILITY = 5,
    /* ValueError: target: found a value outside [0, 1], expected probabilities */
    FDL_BAD_TARGET_PROBABILITY = 6,
    /* RuntimeError: packed: found weights packed for another instruction-set level, expected the active one's */
    FDL_BAD_LEVEL = 7,
    /* ValueError: lengths: found one outside the sequences, expected 1 <= length <= steps */
    FDL_BAD_LENGTH = 8,
    /* RuntimeError: program: found it running, in another thread or in itself, expected one call at a time (program.copy() has memory of its own) */
    FDL_BUSY = 9,
    /* RuntimeError: program: found a parameter or state that was replaced since it was recorded, expected the same (record it again) */
    FDL_STALE = 10,
    /* ValueError: index: found one outside the rows, expected 0 <= index < their number */
    FDL_BAD_ROW = 11,
    /* ValueError: action: found one outside the actions, expected 0 <= action < their number */
    FDL_BAD_ACTION = 12,
};

/* Activations, element by element; vector/activation.h has their formulas. */
enum {
    FDL_ACTIVATION_NONE = 0,
    FDL_ACTIVATION_RELU,
    FDL_ACTIVATION_LEAKY_RELU,
    FDL_ACTIVATION_ELU,
    FDL_ACTIVATION_SELU,
    FDL_ACTIVATION_CELU,
    FDL_ACTIVATION_GELU,
    FDL_ACTIVATION_GELU_TANH,
    FDL_ACTIVATION_SILU,
    FDL_ACTIVATION_MISH,
    FDL_ACTIVATION_SOFTPLUS,
    FDL_ACTIVATION_SOFTSIGN,
    FDL_ACTIVATION_HARDTANH,
    FDL_ACTIVATION_HARDSIGMOID,
    FDL_ACTIVATION_HARDSWISH,
    FDL_ACTIVATION_RELU6,
    FDL_ACTIVATION_LOGSIGMOID,
    FDL_ACTIVATION_SIGMOID,
    FDL_ACTIVATION_TANH,
    FDL_ACTIVATION_THRESHOLD,
    FDL_ACTIVATION_HARDSHRINK,
    FDL_ACTIVATION_SOFTSHRINK,
    FDL_ACTIVATION_TANHSHRINK,
    FDL_ACTIVATION_EXP,
    FDL_ACTIVATION_EXPM1,
    FDL_ACTIVATION_LOG,
    FDL_ACTIVATION_LOG1P,
    FDL_ACTIVATION_ERF,
};

/* Arithmetic of two arrays, then of three: kernels/arithmetic.c has the formulas. */
enum {
    FDL_ARITHMETIC_ADD = 0,
    FDL_ARITHMETIC_MUL,
    FDL_ARITHMETIC_DIV,
    FDL_ARITHMETIC_POW,
    FDL_ARITHMETIC_MAXIMUM,
    FDL_ARITHMETIC_MINIMUM,
    FDL_ARITHMETIC_EQUAL,
    FDL_ARITHMETIC_WHERE,
    FDL_ARITHMETIC_DIV_GRAD,
    FDL_ARITHMETIC_POW_GRAD,
    FDL_ARITHMETIC_EXPONENT_GRAD,
    FDL_ARITHMETIC_MAXIMUM_GRAD,
    FDL_ARITHMETIC_MINIMUM_GRAD,
    FDL_ARITHMETIC_EQUAL_GRAD,
};
enum { FDL_REDUCE_SUM = 0, FDL_REDUCE_AMAX = 1, FDL_REDUCE_AMIN = 2 };

/* How a per-sample loss becomes the value that is returned; the last is the sum over the size of the batch. */
enum { FDL_REDUCTION_NONE = 0, FDL_REDUCTION_MEAN = 1, FDL_REDUCTION_SUM = 2, FDL_REDUCTION_BATCHMEAN = 3 };

/* Losses that go element by element; kernels/loss.c has their formulas. */
enum {
    FDL_LOSS_MSE = 0,
    FDL_LOSS_L1 = 1,
    FDL_LOSS_HUBER = 2,     /* parameter: delta */
    FDL_LOSS_SMOOTH_L1 = 3, /* beta, above 0 */
    FDL_LOSS_BINARY_CROSS_ENTROPY = 4,
    FDL_LOSS_BINARY_CROSS_ENTROPY_WITH_LOGITS = 5,
    FDL_LOSS_KL_DIV = 6,
    FDL_LOSS_KL_DIV_LOG_TARGET = 7,
    FDL_LOSS_HINGE_EMBEDDING = 8, /* margin */
};

/* Of convolution; fastdl/functional/conv.py has them by name, kernels/conv/conv.c says what each is for. */
/* How weights are packed: not at all, or still to be in the best way; else for products with the filters as rows (0), and
 * with those for Winograd's tiles of that size as well, 2 or 4; or for products with the filters as columns. */
enum { FDL_TILE_PLAIN = -1, FDL_TILE_COLUMNS = 8, FDL_TILE_ANY = 14 };
enum {
    FDL_ALGORITHM_AUTO = 0,
    FDL_ALGORITHM_DIRECT = 1,
    FDL_ALGORITHM_IM2COL = 2,
    FDL_ALGORITHM_POINTWISE = 3,
    FDL_ALGORITHM_ROWS = 4,
    FDL_ALGORITHM_WINOGRAD_2X2 = 5,
    FDL_ALGORITHM_WINOGRAD = 6, /* 4 x 4 */
    FDL_ALGORITHM_DEPTHWISE = 7,
    FDL_ALGORITHM_BATCHED = 8,
};
enum { FDL_PASS_FORWARD = 0, FDL_PASS_INPUT_GRAD = 1, FDL_PASS_WEIGHT_GRAD = 2 };
/* EXACT: no algorithm that is less exact than DIRECT. DEFAULT: what fdl_set_conv_precision said. */
enum { FDL_PRECISION_DEFAULT = 0, FDL_PRECISION_FAST = 1, FDL_PRECISION_EXACT = 2 };

/* What stands around an array that is padded. */
enum { FDL_PAD_CONSTANT = 0, FDL_PAD_REFLECT = 1, FDL_PAD_REPLICATE = 2, FDL_PAD_CIRCULAR = 3 };

/* How arrays are resized; kernels/resize.c has the formulas. NEAREST: how a place is rounded. */
enum { FDL_RESIZE_NEAREST = 0, FDL_RESIZE_LINEAR = 1, FDL_RESIZE_CUBIC = 2, FDL_RESIZE_AREA = 3 };
enum {
    FDL_COORDINATES_HALF_PIXEL = 0,
    FDL_COORDINATES_PYTORCH_HALF_PIXEL = 1,
    FDL_COORDINATES_ALIGN_CORNERS = 2,
    FDL_COORDINATES_ASYMMETRIC = 3,
    FDL_COORDINATES_NEAREST_EXACT = 4,
};
enum {
    FDL_NEAREST_FLOOR = 0,
    FDL_NEAREST_CEIL = 1,
    FDL_NEAREST_ROUND_PREFER_FLOOR = 2,
    FDL_NEAREST_ROUND_PREFER_CEIL = 3,
};
/* Volumes [planes, depth, height, width] and what becomes of them. */
typedef struct {
    int64_t planes, depth, height, width, out_depth, out_height, out_width;
} fdl_volumes;

/* Over which elements mean and variance are taken; kernels/normalization.c says more. */
enum { FDL_NORM_GROUP = 0, FDL_NORM_RMS = 1, FDL_NORM_BATCH = 2, FDL_NORM_FIXED = 3 };

/* A window sliding over a batch of volumes: what convolution, im2col and pooling share. Images have a depth of 1,
 * sequences a depth and a height of 1. padding_* is before the first element, padding_end_* after the last, which
 * only operations that count it read: the number of positions is out_*. */
typedef struct {
    int64_t batch, channels, depth, height, width;          /* input [batch, channels, depth, height, width] */
    int64_t out_channels, out_depth, out_height, out_width; /* output, likewise */
    int64_t kernel_depth, kernel_height, kernel_width;
    int64_t stride_depth, stride_height, stride_width;
    int64_t padding_depth, padding_height, padding_width;
    int64_t padding_end_depth, padding_end_height, padding_end_width;
    int64_t dilation_depth, dilation_height, dilation_width;
    int64_t groups;
    int64_t channels_last; /* 1: arrays are [batch, depth, height, width, channels] */
} fdl_window;

/* Kinds of recurrent networks; functional/recurrent.py has their formulas. RESET_FIRST: without linear_before_reset. */
enum {
    FDL_RECURRENT_RNN_TANH = 0,
    FDL_RECURRENT_RNN_RELU = 1,
    FDL_RECURRENT_LSTM = 2,
    FDL_RECURRENT_GRU = 3,
    FDL_RECURRENT_GRU_RESET_FIRST = 4,
};

/* A stack of recurrent layers over sequences: what its kernels share. */
typedef struct {
    int64_t kind;
    int64_t steps, batch, input; /* x [steps, batch, input], or with batch_first [batch, steps, input] */
    int64_t hidden, output;      /* units; what they give on, which is as many unless there is a projection */
    int64_t layers, directions;
    int64_t reverse; /* the only direction goes from the end to the beginning */
    int64_t batch_first;
    int64_t biases, projection, peepholes; /* 1: there are */
} fdl_recurrence;

/* Heads of queries that look at heads of keys and values, `group` of them at each of those in turn. mask_rank: the
 * dimensions that number the heads of a mask; mask_row, mask_key: its elements from one query, one key to the next. */
typedef struct {
    int64_t heads, group, queries, keys, width, value_width;
    int64_t causal; /* 1: query i looks at keys 0 to i */
    int64_t mask_rank, mask_row, mask_key;
} fdl_heads;

/* What an optimizer's step does, of which fastdl/optim has the names and kernels/optim.c the formulas. CLIP only scales
 * and limits. */
enum {
    FDL_OPTIMIZER_SGD = 0,
    FDL_OPTIMIZER_ADAGRAD = 1,
    FDL_OPTIMIZER_RMSPROP = 2,
    FDL_OPTIMIZER_ADAM = 3,
    FDL_OPTIMIZER_ADADELTA = 4,
    FDL_OPTIMIZER_NADAM = 5,
    FDL_OPTIMIZER_LION = 6,
    FDL_OPTIMIZER_CLIP = 7,
};

enum { FDL_MISTAKE_WORDS = 64 };

/* The options of all optimizers, by torch's names; each reads its own. */
typedef struct {
    int64_t method, maximize, nesterov, decoupled_weight_decay;
    double lr, weight_decay, momentum, dampening, beta1, beta2, eps, alpha, rho, lr_decay, momentum_decay;
    double grad_scale, clip_value; /* a gradient g counts as min(max(grad_scale g, -clip_value), clip_value) */
} fdl_optimizer;

/* A table of the arrays that one step goes over, int64_t [count, FDL_TABLE_COLUMNS], a row an array: where it ends,
 * counted in elements from the beginning of the first; the addresses of parameter, gradient (0: it has none, and is
 * left as it is) and states (0: none), of the number of steps done (int64_t; 0: not counted), and of the product of mu
 * over them (double; nadam's). A step brings all of these up to date but the gradient. */
enum {
    FDL_TABLE_END = 0,
    FDL_TABLE_PARAM = 1,
    FDL_TABLE_GRAD = 2,
    FDL_TABLE_STATE = 3,
    FDL_TABLE_STEP = 6,
    FDL_TABLE_MU_PRODUCT = 7,
    FDL_TABLE_COLUMNS = 8,
};

/* A program: a list of kernel calls with all their arguments, to be made again and again. int64_t words: this header;
 * for each call the address of the kernel that takes its arguments from slots (fdl_slot_kernel), and that of its slots;
 * for each binding the address of a slot, which argument of the program goes there, and so many bytes on; for each load
 * the address of a slot, of the int64_t that goes there, and what is added to it; for each advance the address of an
 * int64_t and what is added to it in the end; for each watch the address of a version, an int64_t, and what it was when
 * the prepared calls were last made; for each version the address of one that moves on because memory was written. */
enum {
    FDL_PROGRAM_BUSY = 0,   /* not 0: it runs */
    FDL_PROGRAM_STALE = 1,  /* 1: something that it uses was replaced */
    FDL_PROGRAM_FAILED = 2, /* the call that returned a status other than FDL_OK */
    FDL_PROGRAM_CALLS = 3,
    FDL_PROGRAM_BINDINGS = 4,
    FDL_PROGRAM_LOADS = 5,
    FDL_PROGRAM_ADVANCES = 6,
    FDL_PROGRAM_PREPARED = 7, /* the first of the calls, which are made only where something changed */
    FDL_PROGRAM_CHANGED = 8,  /* 1: something did */
    FDL_PROGRAM_WATCHES = 9,
    FDL_PROGRAM_VERSIONS = 10,
    FDL_PROGRAM_HEADER = 11, /* words */
};

/* ---- the library itself (runtime/) ---- */

/* Instruction-set levels, best first; NULL past the end. */
const char *fdl_level_name(int64_t index);
/* 1 if this CPU and operating system can run the level. */
int fdl_level_supported(int64_t index);
/* Make a level the active one; the caller has checked that it is supported. */
void fdl_use_level(int64_t index);
int64_t fdl_active_level(void);

/* The kernel of that index (as fdl_address counts) that takes its arguments from slots; 0: it has none. */
int64_t fdl_slot_kernel(int64_t index);
/* Run a program with these addresses as its arguments. */
int fdl_program_run(int64_t *program, const int64_t *arguments);
/* Run it for each row of order [steps, batch], which are indices of rows. Before each, rows are gathered: gathers
 * [gather_count, 3] has the address of an array, the bytes of its rows, and the address of where `batch` of them go.
 * After each, results are collected: collects [collect_count, 3] has an address, so many bytes there, and the address of
 * where those of all steps go. *done: the steps that were made. */
int fdl_program_batches(int64_t *program, const int64_t *arguments, const int64_t *order, int64_t steps, int64_t batch,
                        const int64_t *gathers, int64_t gather_count, const int64_t *collects, int64_t collect_count,
                        int64_t *done);

/* 0: as many as there are cores that the calling thread may run on, but no more than the limit (0: none). */
void fdl_set_num_threads(int64_t threads);
void fdl_set_thread_limit(int64_t threads);
int64_t fdl_get_num_threads(void);
/* FDL_MISTAKE_WORDS of the calling thread, where code that Numba compiled leaves what the message of an exception says:
 * the place that raises, numbers, and last 1 until the exception is made. */
int64_t *fdl_mistake(void);
/* 1: the calling thread's kernels use no other, since it works in a parallel loop already. Returns what was. */
int64_t fdl_keep_to_one_thread(int64_t on);
void fdl_set_conv_precision(int64_t precision);
int64_t fdl_get_conv_precision(void);
/* 1: no result of one sample depends on the others of a batch. */
void fdl_set_deterministic(int64_t on);
int64_t fdl_get_deterministic(void);
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

/* arrays.c */
/* out = x + alpha y, all [size]; out may be x or y */
FDL_KERNEL int fdl_add(const real *x, const real *y, real *out, int64_t size, double alpha);
FDL_KERNEL int fdl_fill(real *y, int64_t size, double value);
/* geometry [rank, 3]: the size of each dimension, and the elements from one index to the next in x and in y. `strided`
 * is x, of any strides, 0 and less included: only arrays of such a name need not be dense. */
FDL_KERNEL int fdl_copy(const real *strided, real *y, const int64_t *geometry, int64_t rank);
/* x [rows, row], index [count], y [count, row]: y[i] = x[index[i]] */
FDL_KERNEL int fdl_take(const real *x, const int64_t *index, real *y, int64_t rows, int64_t row, int64_t count);
/* padding: a row that is 0 all the same; -1: none */
FDL_KERNEL int fdl_take_backward(const real *grad_output, const int64_t *index, real *grad_input, int64_t rows,
                                 int64_t row, int64_t count, int64_t padding);
/* y [outer, width], whose columns are those of one array [outer, size / outer] after the other. arrays [count, 3]: the
 * address of each, 0, its size; backward, where they are written, 0, the address, the size. */
FDL_KERNEL int fdl_cat(real *y, const int64_t *arrays, int64_t count, int64_t outer);
FDL_KERNEL int fdl_cat_backward(const real *grad_output, const int64_t *arrays, int64_t count, int64_t outer);
/* arithmetic.c: out = the kind's formula of x, y and, of three, z, which are broadcast: geometry [rank, 4], the size of
 * each dimension of out, and the elements from one index to the next in x, y and z, 0 where they repeat. One that is
 * NULL is a number, value. */
FDL_KERNEL int fdl_arithmetic(FDL_OPTIONAL const real *x, FDL_OPTIONAL const real *y, FDL_OPTIONAL const real *z,
                              real *out, const int64_t *geometry, int64_t rank, int64_t kind, double value,
                              double alpha);
/* The same of WHERE, geometry of condition, x and y */
FDL_KERNEL int fdl_where(const uint8_t *condition, FDL_OPTIONAL const real *x, FDL_OPTIONAL const real *y, real *out,
                         const int64_t *geometry, int64_t rank, double value);
/* reduction.c: y = the sum (over the divisor), the largest or the smallest of x over some dimensions: geometry [rank, 2],
 * the size of each, and 1 where it is one of them. */
FDL_KERNEL int fdl_reduce(const real *x, real *y, const int64_t *geometry, int64_t rank, int64_t kind, double divisor);
/* matmul.c: c [..., m, n] = a [..., m, k] b [..., k, n]; geometry [rank, 3]: the size of each dimension before the last
 * two of c, and the elements from one index to the next in a and b, 0 where they repeat. Of rows and columns of a, and
 * of b, one is dense: its elements are 1 apart. */
FDL_KERNEL int fdl_matmul(const real *strided_a, const real *strided_b, real *c, const int64_t *geometry, int64_t rank,
                          int64_t m, int64_t n, int64_t k, int64_t a_row, int64_t a_column, int64_t b_row,
                          int64_t b_column);
/* activation/elementwise.c: an activation above, element by element. backward: x is the result for those of which
 * activation.h says so. */
FDL_KERNEL int fdl_elementwise(const real *x, real *y, int64_t size, int64_t activation, double alpha, double beta);
FDL_KERNEL int fdl_elementwise_backward(const real *grad_output, const real *x, real *grad_input, int64_t size,
                                        int64_t activation, double alpha, double beta);
/* activation/apply.c: the same for a function that is compiled elsewhere, by its address, with parameters of its own;
 * without grad_output: forward. */
FDL_KERNEL int fdl_apply(const real *x, FDL_OPTIONAL const real *grad_output, real *y, int64_t size, int64_t function,
                         double p0, double p1, double p2, double p3);
/* activation/prelu.c: x, y [outer, channels, inner], weight [weights], as many as channels or one for all. */
FDL_KERNEL int fdl_prelu(const real *x, const real *weight, real *y, int64_t outer, int64_t channels, int64_t inner,
                         int64_t weights);
FDL_KERNEL int fdl_prelu_backward(const real *grad_output, const real *x, const real *weight, real *grad_input,
                                  real *grad_weight, int64_t outer, int64_t channels, int64_t inner, int64_t weights);
/* activation/softmax.c */
/* x, y [outer, classes, inner]: normalised over the middle dimension. */
FDL_KERNEL int fdl_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner);
FDL_KERNEL int fdl_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer,
                                    int64_t classes, int64_t inner);
FDL_KERNEL int fdl_log_softmax(const real *x, real *y, int64_t outer, int64_t classes, int64_t inner);
FDL_KERNEL int fdl_log_softmax_backward(const real *grad_output, const real *y, real *grad_input, int64_t outer,
                                        int64_t classes, int64_t inner);
/* glu.c: x [outer, 2, inner], y [outer, inner] */
FDL_KERNEL int fdl_glu(const real *x, real *y, int64_t outer, int64_t inner);
FDL_KERNEL int fdl_glu_backward(const real *grad_output, const real *x, real *grad_input, int64_t outer, int64_t inner);
/* linear.c: y [rows, out] = activation(x [rows, in] weight[out, in]^T + bias[out]); packed 1: weight is what
 * fdl_linear_pack made of it. */
FDL_KERNEL int fdl_linear(const real *x, const real *weight, FDL_OPTIONAL const real *bias, real *y, int64_t rows,
                          int64_t in_features, int64_t out_features, int64_t packed, int64_t activation, double alpha,
                          double beta);
/* The weight laid out as the kernels read it, and the size of that in elements. */
FDL_KERNEL int fdl_linear_packed_size(const real *weight, int64_t *size, int64_t in_features, int64_t out_features);
FDL_KERNEL int fdl_linear_pack(const real *weight, real *packed, int64_t in_features, int64_t out_features);
/* added: which gradients are added to what is there, by their bits. */
enum { FDL_ADDED_X = 1, FDL_ADDED_WEIGHT = 2, FDL_ADDED_BIAS = 4 };
FDL_KERNEL int fdl_linear_backward(const real *grad_output, const real *x, const real *weight,
                                   FDL_OPTIONAL real *grad_x, FDL_OPTIONAL real *grad_weight,
                                   FDL_OPTIONAL real *grad_bias, int64_t rows, int64_t in_features,
                                   int64_t out_features, int64_t added);
/* attention.c: query [heads, queries, width], key, value [heads / group, keys, width or value_width], y [heads, queries,
 * value_width], logsumexp [heads, queries]; allowed (bools) or bias: a mask of the scores; geometry [mask_rank, 2]: of
 * each dimension its size and the mask's elements from one index to the next. keep, seed, offset: dropout of the weights. */
FDL_KERNEL int fdl_attention(const real *query, const real *key, const real *value, FDL_OPTIONAL const uint8_t *allowed,
                             FDL_OPTIONAL const real *bias, real *y, FDL_OPTIONAL real *logsumexp,
                             const int64_t *geometry, const fdl_heads *heads, double scale, double keep, int64_t seed,
                             int64_t offset);
FDL_KERNEL int fdl_attention_backward(const real *grad_output, const real *query, const real *key, const real *value,
                                      FDL_OPTIONAL const uint8_t *allowed, FDL_OPTIONAL const real *bias, const real *y,
                                      const real *logsumexp, real *grad_query, real *grad_key, real *grad_value,
                                      const int64_t *geometry, const fdl_heads *heads, double scale, double keep,
                                      int64_t seed, int64_t offset);
/* normalization.c: x, y [batch, groups, channels, inner], weight, bias [groups, channels]; mean and rstd of each
 * statistic, in double, [batch, groups] or, of BATCH and FIXED (with channels = 1), [groups]; fixed_mean and fixed_var
 * [groups], with which FIXED normalizes; running_mean and running_var [groups], which BATCH and GROUP update. RMS has
 * neither means nor bias. */
FDL_KERNEL int fdl_normalize(const real *x, FDL_OPTIONAL const real *fixed_mean, FDL_OPTIONAL const real *fixed_var,
                             FDL_OPTIONAL real *running_mean, FDL_OPTIONAL real *running_var,
                             FDL_OPTIONAL const real *weight, FDL_OPTIONAL const real *bias, real *y,
                             FDL_OPTIONAL double *mean, FDL_OPTIONAL double *rstd, int64_t batch, int64_t groups,
                             int64_t channels, int64_t inner, int64_t kind, double momentum, double eps);
/* The weight and bias of a product (linear, convolution) so that its results are those of FIXED: with s = norm_weight *
 * rsqrt(fixed_var + eps), fused_weight [out, inner] = s * weight, fused_bias [out] = norm_bias + s * (bias - fixed_mean).
 * In double. */
FDL_KERNEL int fdl_fuse_norm(const real *weight, FDL_OPTIONAL const real *bias, const real *fixed_mean,
                             const real *fixed_var, FDL_OPTIONAL const real *norm_weight,
                             FDL_OPTIONAL const real *norm_bias, real *fused_weight, real *fused_bias, int64_t out,
                             int64_t inner, double eps);
/* Without rstd, statistics are taken from x again. */
FDL_KERNEL int fdl_normalize_backward(const real *grad_output, const real *x, FDL_OPTIONAL const real *running_mean,
                                      FDL_OPTIONAL const real *running_var, FDL_OPTIONAL const real *weight,
                                      FDL_OPTIONAL const double *mean, FDL_OPTIONAL const double *rstd,
                                      real *grad_input, FDL_OPTIONAL real *grad_weight, FDL_OPTIONAL real *grad_bias,
                                      int64_t batch, int64_t groups, int64_t channels, int64_t inner, int64_t kind,
                                      double eps);
/* padding.c: geometry [rank, 3], for each dimension of x its size and the elements before and after it in y */
FDL_KERNEL int fdl_pad(const real *x, real *y, const int64_t *geometry, int64_t rank, int64_t mode, double value);
FDL_KERNEL int fdl_pad_backward(const real *grad_output, real *grad_input, const int64_t *geometry, int64_t rank,
                                int64_t mode);
/* resize.c: x [planes, depth, height, width], y likewise of the sizes out_*; scale_*: elements of x that one of y covers.
 * nearest is read by mode NEAREST, cubic and exclude_outside by CUBIC. */
FDL_KERNEL int fdl_resize(const real *x, real *y, const fdl_volumes *volumes, int64_t mode, int64_t coordinates,
                          int64_t nearest, double scale_depth, double scale_height, double scale_width, double cubic,
                          int64_t exclude_outside);
FDL_KERNEL int fdl_resize_backward(const real *grad_output, real *grad_input, const fdl_volumes *volumes, int64_t mode,
                                   int64_t coordinates, int64_t nearest, double scale_depth, double scale_height,
                                   double scale_width, double cubic, int64_t exclude_outside);
/* pooling/max.c: a stride of 0 along a dimension means adaptive windows; indices as y, into each channel's volume, -1:
 * none */
FDL_KERNEL int fdl_max_pool(const real *x, real *y, FDL_OPTIONAL int64_t *indices, const fdl_window *window);
FDL_KERNEL int fdl_max_pool_backward(const real *grad_output, const real *x, FDL_OPTIONAL const int64_t *indices,
                                     real *grad_input, const fdl_window *window);
/* x, indices [planes, positions]; y [planes, volume] */
FDL_KERNEL int fdl_max_unpool(const real *x, const int64_t *indices, real *y, int64_t planes, int64_t positions,
                              int64_t volume);
FDL_KERNEL int fdl_max_unpool_backward(const real *grad_output, const int64_t *indices, real *grad_input,
                                       int64_t planes, int64_t positions, int64_t volume);
/* pooling/avg.c: divisor_override 0: none */
FDL_KERNEL int fdl_avg_pool(const real *x, real *y, const fdl_window *window, int64_t count_include_pad,
                            int64_t divisor_override);
FDL_KERNEL int fdl_avg_pool_backward(const real *grad_output, real *grad_input, const fdl_window *window,
                                     int64_t count_include_pad, int64_t divisor_override);
FDL_KERNEL int fdl_lp_pool(const real *x, real *y, const fdl_window *window, double norm_type);
FDL_KERNEL int fdl_lp_pool_backward(const real *grad_output, const real *x, real *grad_input, const fdl_window *window,
                                    double norm_type);
/* loss.c: loss is one value or, without reduction, one for each element (row) of x; grad_output is shaped as it. */
/* x, target, weight, pos_weight [size]; the latter two are for binary_cross_entropy only */
FDL_KERNEL int fdl_elementwise_loss(const real *x, const real *target, FDL_OPTIONAL const real *weight,
                                    FDL_OPTIONAL const real *pos_weight, real *loss, int64_t size, int64_t batch,
                                    int64_t kind, double parameter, int64_t reduction);
FDL_KERNEL int fdl_elementwise_loss_backward(const real *grad_output, const real *x, const real *target,
                                             FDL_OPTIONAL const real *weight, FDL_OPTIONAL const real *pos_weight,
                                             real *grad_input, int64_t size, int64_t batch, int64_t kind,
                                             double parameter, int64_t reduction);
/* x [outer, classes, inner]; target [outer, inner], in [0, classes) or ignore_index; weight [classes] */
FDL_KERNEL int fdl_nll_loss(const real *x, const int64_t *target, FDL_OPTIONAL const real *weight, real *loss,
                            int64_t outer, int64_t classes, int64_t inner, int64_t ignore_index, int64_t reduction);
FDL_KERNEL int fdl_nll_loss_backward(const real *grad_output, const int64_t *target, FDL_OPTIONAL const real *weight,
                                     real *grad_input, int64_t outer, int64_t classes, int64_t inner,
                                     int64_t ignore_index, int64_t reduction);
/* The same, target or else probabilities as x; the loss or the gradient, or both in one pass. grad_output NULL: ones */
FDL_KERNEL int fdl_cross_entropy(const real *x, FDL_OPTIONAL const int64_t *target,
                                 FDL_OPTIONAL const real *probabilities, FDL_OPTIONAL const real *weight,
                                 FDL_OPTIONAL const real *grad_output, FDL_OPTIONAL real *loss,
                                 FDL_OPTIONAL real *grad_input, int64_t outer, int64_t classes, int64_t inner,
                                 int64_t ignore_index, double label_smoothing, int64_t reduction);
/* x1, x2 [rows, features]; target [rows] */
FDL_KERNEL int fdl_cosine_embedding_loss(const real *x1, const real *x2, const real *target, real *loss, int64_t rows,
                                         int64_t features, double margin, int64_t reduction);
FDL_KERNEL int fdl_cosine_embedding_loss_backward(const real *grad_output, const real *x1, const real *x2,
                                                  const real *target, real *grad_x1, real *grad_x2, int64_t rows,
                                                  int64_t features, double margin, int64_t reduction);

/* policy/: returns and advantages of arrays over time, [steps, columns], a column a sequence; done and terminated are
 * NumPy's bools. bootstrap [columns], 0 where there is none. */
FDL_KERNEL int fdl_discounted_returns(const real *reward, const uint8_t *done, FDL_OPTIONAL const real *bootstrap,
                                      real *returns, int64_t steps, int64_t columns, double gamma);
FDL_KERNEL int fdl_discounted_returns_backward(const real *grad_output, const uint8_t *done, real *grad_reward,
                                               real *grad_bootstrap, int64_t steps, int64_t columns, double gamma);
FDL_KERNEL int fdl_gae(const real *reward, const real *state_value, const real *next_state_value,
                       const uint8_t *terminated, const uint8_t *done, real *advantage, real *value_target,
                       int64_t steps, int64_t columns, double gamma, double lmbda);
FDL_KERNEL int fdl_gae_backward(const real *grad_advantage, const real *grad_value_target, const uint8_t *terminated,
                                const uint8_t *done, real *grad_reward, real *grad_state_value,
                                real *grad_next_state_value, int64_t steps, int64_t columns, double gamma,
                                double lmbda);
FDL_KERNEL int fdl_vtrace(const real *log_rho, const real *reward, const real *state_value,
                          const real *next_state_value, const uint8_t *terminated, const uint8_t *done, real *advantage,
                          real *value_target, int64_t steps, int64_t columns, double gamma, double lmbda,
                          double rho_threshold, double c_threshold);
/* Distributions: logits [rows, actions], an action of each row; mean and action [rows, columns], log_std likewise (own 1)
 * or [columns] (own 0). log_prob, entropy, advantage and old_log_prob [rows]. What may be NULL is not wanted, or 0. */
FDL_KERNEL int fdl_categorical(const real *logits, FDL_OPTIONAL const int64_t *action, FDL_OPTIONAL real *log_prob,
                               FDL_OPTIONAL real *entropy, int64_t rows, int64_t actions);
FDL_KERNEL int fdl_categorical_backward(FDL_OPTIONAL const real *grad_log_prob, FDL_OPTIONAL const real *grad_entropy,
                                        const real *logits, FDL_OPTIONAL const int64_t *action, real *grad_logits,
                                        int64_t rows, int64_t actions);
FDL_KERNEL int fdl_normal_log_prob(const real *mean, const real *log_std, const real *action, real *log_prob,
                                   int64_t rows, int64_t columns, int64_t own);
FDL_KERNEL int fdl_normal_log_prob_backward(const real *grad_output, const real *mean, const real *log_std,
                                            const real *action, real *grad_mean, real *grad_log_std, int64_t rows,
                                            int64_t columns, int64_t own);
/* The loss, or with grad_output [1] the gradients. old_log_prob NULL: the policy gradient; clip may be infinite. */
FDL_KERNEL int fdl_categorical_policy_loss(FDL_OPTIONAL const real *grad_output, const real *logits,
                                           const int64_t *action, const real *advantage,
                                           FDL_OPTIONAL const real *old_log_prob, FDL_OPTIONAL real *loss,
                                           FDL_OPTIONAL real *grad_logits, int64_t rows, int64_t actions, double clip,
                                           double entropy_weight);
FDL_KERNEL int fdl_normal_policy_loss(FDL_OPTIONAL const real *grad_output, const real *mean, const real *log_std,
                                      const real *action, const real *advantage, FDL_OPTIONAL const real *old_log_prob,
                                      FDL_OPTIONAL real *loss, FDL_OPTIONAL real *grad_mean,
                                      FDL_OPTIONAL real *grad_log_std, int64_t rows, int64_t columns, int64_t own,
                                      double clip, double entropy_weight);
/* optim.c: one step each, in place, all arrays [size]; step counts from 1 */
FDL_KERNEL int fdl_sgd_step(real *param, const real *grad, FDL_OPTIONAL real *momentum_buffer, int64_t size,
                            int64_t step, double lr, double momentum, double dampening, double weight_decay,
                            int64_t nesterov, int64_t maximize, double grad_scale, double clip_value);
FDL_KERNEL int fdl_adagrad_step(real *param, const real *grad, real *state_sum, int64_t size, int64_t step, double lr,
                                double lr_decay, double weight_decay, double eps, int64_t maximize, double grad_scale,
                                double clip_value);
FDL_KERNEL int fdl_rmsprop_step(real *param, const real *grad, real *square_avg, FDL_OPTIONAL real *grad_avg,
                                FDL_OPTIONAL real *momentum_buffer, int64_t size, double lr, double alpha, double eps,
                                double weight_decay, double momentum, int64_t maximize, double grad_scale,
                                double clip_value);
FDL_KERNEL int fdl_adam_step(real *param, const real *grad, real *exp_avg, real *exp_avg_sq,
                             FDL_OPTIONAL real *max_exp_avg_sq, int64_t size, int64_t step, double lr, double beta1,
                             double beta2, double eps, double weight_decay, int64_t decoupled_weight_decay,
                             int64_t maximize, double grad_scale, double clip_value);
FDL_KERNEL int fdl_adadelta_step(real *param, const real *grad, real *square_avg, real *acc_delta, int64_t size,
                                 double lr, double rho, double eps, double weight_decay, int64_t maximize,
                                 double grad_scale, double clip_value);
/* mu_product [1] is updated too. */
FDL_KERNEL int fdl_nadam_step(real *param, const real *grad, real *exp_avg, real *exp_avg_sq, real *mu_product,
                              int64_t size, int64_t step, double lr, double beta1, double beta2, double eps,
                              double weight_decay, double momentum_decay, int64_t decoupled_weight_decay,
                              int64_t maximize, double grad_scale, double clip_value);
FDL_KERNEL int fdl_lion_step(real *param, const real *grad, real *exp_avg, int64_t size, double lr, double beta1,
                             double beta2, double weight_decay, int64_t maximize, double grad_scale, double clip_value);
/* The same for the many arrays of a table, whose elements are `real`. */
FDL_KERNEL int fdl_optimizer_step(const fdl_optimizer *optimizer, const int64_t *table, int64_t count);
/* Of the gradients of a table: (sum of |g|^norm_type)^(1 / norm_type), or the largest |g| if norm_type is infinite. */
FDL_KERNEL int fdl_grad_norm(double *norm, const int64_t *table, int64_t count, double norm_type);
/* What an optimizer makes of gradients from now on: grad_scale times min(1, max_norm / (norm + 1e-6)), where norm [1] is
 * grad_scale times that of norms [count], which are those of the parts of a vector; without norms grad_scale alone. */
FDL_KERNEL int fdl_scale_grads(fdl_optimizer *optimizer, FDL_OPTIONAL const double *norms, FDL_OPTIONAL double *norm,
                               int64_t count, double norm_type, double grad_scale, double max_norm, double clip_value);
/* regularization.c: runs of `run` elements are kept together, with probability keep: y = scale x + shift, or else
 * 0 x + dropped */
FDL_KERNEL int fdl_dropout(const real *x, real *y, int64_t size, int64_t run, double keep, int64_t seed, int64_t offset,
                           double scale, double shift, double dropped);
/* arrays [count, 3]: the addresses of x and of its gradient (0 forward), and the size. Result: factor sum |x|^power */
FDL_KERNEL int fdl_penalty(real *result, const int64_t *arrays, int64_t count, double factor, int64_t power);
FDL_KERNEL int fdl_penalty_backward(const real *grad_output, const int64_t *arrays, int64_t count, double factor,
                                    int64_t power, int64_t add);

/* recurrent/: arrays [count, 3], of each weight in the order of functional/recurrent.py, then of each direction's
 * peepholes: its address, that of its gradient (0 forward), its size. lengths [batch]; h0, h_n [layers directions,
 * batch, output], c0, c_n likewise of hidden; output as x, of directions output numbers. `saved` is laid out as
 * kernels/recurrent/recurrent.h says. keep: the probability to survive the dropout between layers. */
FDL_KERNEL int fdl_recurrent(const real *x, const int64_t *arrays, FDL_OPTIONAL const int64_t *lengths,
                             FDL_OPTIONAL const real *h0, FDL_OPTIONAL const real *c0, real *output, real *h_n,
                             FDL_OPTIONAL real *c_n, FDL_OPTIONAL real *saved, const fdl_recurrence *r, double keep,
                             int64_t seed, int64_t offset);
/* state_grad_norms [layers directions, steps]; truncate 0: not. */
FDL_KERNEL int fdl_recurrent_backward(const real *grad_output, FDL_OPTIONAL const real *grad_h_n,
                                      FDL_OPTIONAL const real *grad_c_n, const real *x, const int64_t *arrays,
                                      FDL_OPTIONAL const int64_t *lengths, FDL_OPTIONAL const real *h0,
                                      FDL_OPTIONAL const real *c0, const real *saved, FDL_OPTIONAL real *grad_x,
                                      real *grad_h0, FDL_OPTIONAL real *grad_c0, FDL_OPTIONAL real *state_grad_norms,
                                      const fdl_recurrence *r, double keep, int64_t seed, int64_t offset,
                                      int64_t truncate);
/* One step of one layer: x [batch, input], h, c, h_next, c_next [batch, hidden]; c and c_next are the LSTM's. */
FDL_KERNEL int fdl_recurrent_cell(const real *x, const real *h, FDL_OPTIONAL const real *c, const real *weight_ih,
                                  const real *weight_hh, FDL_OPTIONAL const real *bias_ih,
                                  FDL_OPTIONAL const real *bias_hh, real *h_next, FDL_OPTIONAL real *c_next,
                                  int64_t batch, int64_t input, int64_t hidden, int64_t kind);
FDL_KERNEL int fdl_recurrent_cell_backward(const real *grad_h_next, FDL_OPTIONAL const real *grad_c_next, const real *x,
                                           const real *h, FDL_OPTIONAL const real *c, const real *weight_ih,
                                           const real *weight_hh, FDL_OPTIONAL const real *bias_ih,
                                           FDL_OPTIONAL const real *bias_hh, real *grad_x, real *grad_h,
                                           FDL_OPTIONAL real *grad_c, real *grad_weight_ih, real *grad_weight_hh,
                                           FDL_OPTIONAL real *grad_bias_ih, FDL_OPTIONAL real *grad_bias_hh,
                                           int64_t batch, int64_t input, int64_t hidden, int64_t kind);
/* The same with weights packed once: no allocation, once a thread has made its first step. h_next may be h, c_next c.
 * `packed` is for the level that packed it (else FDL_BAD_LEVEL); its size in elements, the same
 * on all: */
FDL_KERNEL int fdl_recurrent_packed_size(const real *weight_hh, int64_t *size, int64_t input, int64_t hidden,
                                         int64_t kind);
FDL_KERNEL int fdl_recurrent_pack(const real *weight_ih, const real *weight_hh, FDL_OPTIONAL const real *bias_ih,
                                  FDL_OPTIONAL const real *bias_hh, real *packed, int64_t input, int64_t hidden,
                                  int64_t kind);
FDL_KERNEL int fdl_recurrent_step(const real *x, const real *packed, const real *h, FDL_OPTIONAL const real *c,
                                  real *h_next, FDL_OPTIONAL real *c_next, int64_t batch, int64_t input, int64_t hidden,
                                  int64_t kind);

/* conv/: weight [out_channels, channels / groups, kernel_depth, kernel_height, kernel_width] */
/* residual, as y: added before the activation. Either weight or packed, which fdl_conv_pack made. */
FDL_KERNEL int fdl_conv(const real *x, FDL_OPTIONAL const real *weight, FDL_OPTIONAL const real *packed,
                        FDL_OPTIONAL const real *bias, FDL_OPTIONAL const real *residual, real *y,
                        const fdl_window *window, int64_t packed_tile, int64_t activation, double alpha, double beta,
                        int64_t algorithm, int64_t precision);
/* Weights laid out as the kernels read them, in the way that packed_tile (FDL_TILE_...) says. Of the window only the
 * weight's shape, groups and channels_last matter. The size in elements: */
FDL_KERNEL int fdl_conv_packed_size(const real *weight, int64_t *size, const fdl_window *window, int64_t packed_tile);
FDL_KERNEL int fdl_conv_pack(const real *weight, real *packed, const fdl_window *window, int64_t packed_tile);
/* What fdl_conv (or, `which` FDL_PASS_..., a gradient) runs where the algorithm plan[0] is asked for: plan[0] the
 * algorithm, plan[1] the row of the table that says so, plan[2] the row of the convolution that a gradient is computed
 * as, or -1, plan[3] the packed_tile that weights should have for it. x is not read. */
FDL_KERNEL int fdl_conv_plan(const real *x, int64_t *plan, const fdl_window *window, int64_t packed_tile, int64_t which,
                             int64_t precision);
/* Why a row of the table is chosen, in words. */
FDL_KERNEL const char *fdl_conv_reason(int64_t row);
FDL_KERNEL int fdl_conv_backward(const real *grad_output, const real *x, const real *weight, FDL_OPTIONAL real *grad_x,
                                 FDL_OPTIONAL real *grad_weight, FDL_OPTIONAL real *grad_bias, const fdl_window *window,
                                 int64_t algorithm, int64_t precision);
/* The adjoint of the convolution that `window` describes, whose input is this one's output y: x is [batch,
 * out_channels, out_depth, out_height, out_width], bias and grad_bias are [channels]. */
FDL_KERNEL int fdl_conv_transpose(const real *x, const real *weight, FDL_OPTIONAL const real *bias, real *y,
                                  const fdl_window *window, int64_t activation, double alpha, double beta,
                                  int64_t precision);
FDL_KERNEL int fdl_conv_transpose_backward(const real *grad_output, const real *x, const real *weight,
                                           FDL_OPTIONAL real *grad_x, FDL_OPTIONAL real *grad_weight,
                                           FDL_OPTIONAL real *grad_bias, const fdl_window *window, int64_t precision);
/* columns [batch, channels * kernel volume, output volume] */
FDL_KERNEL int fdl_im2col(const real *x, real *columns, const fdl_window *window);
FDL_KERNEL int fdl_col2im(const real *columns, real *x, const fdl_window *window);

#endif /* FDL_LEVEL */

#endif
