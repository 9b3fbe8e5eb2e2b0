/* Activations fused into what produces an array. relu is applied in registers by whoever stores the result; any other
 * kind (activation.h) in place to what has just been stored, while it is in the first-level cache. */
#ifndef FASTDL_FUSED_H
#define FASTDL_FUSED_H

#include "vector/simd.h"

typedef struct {
    int64_t kind; /* FDL_ACTIVATION_... */
    real alpha, beta;
} activation;

#define activate_array FDL_NAME(activate_array)
#define activate_rows FDL_NAME(activate_rows)
/* out = f(x), or where grad_output is not NULL its gradient f'(x) grad_output, all [size]; on all threads. */
int activate_array(const activation *f, const real *x, const real *grad_output, real *out, int64_t size);
/* x[i * row + j] = f(x[i * row + j]) for i < rows, j < columns. */
void activate_rows(const activation *f, real *x, int64_t row, int64_t rows, int64_t columns);

FDL_INLINE bool is_relu(const activation *f) { return f->kind == FDL_ACTIVATION_RELU; }
/* The same for what is neither none nor relu. */
FDL_INLINE void activate_stored(const activation *f, real *x, int64_t row, int64_t rows, int64_t columns)
{
    if (f->kind > FDL_ACTIVATION_RELU)
        activate_rows(f, x, row, rows, columns);
}

#endif
