/* linear: y [rows, out] = activation(x [rows, in] weight[out, in]^T + bias[out])
 *
 *   grad_x [rows, in] = grad_output weight        grad_weight [out, in] = grad_output^T x
 *   grad_bias [out] = column sums of grad_output, accumulated in double
 *
 * All three products are the building block; the sums are `real`, as in every BLAS. */
#include "product/gemm.h"

/* Few outputs are computed from weights as they are: one narrow panel would keep too few sums under way. */
static bool has_panels(int64_t out_features) { return out_features > 96 / (int)sizeof(real); }

int fdl_linear(const real *x, const real *weight, const real *bias, real *y, int64_t rows, int64_t in_features,
               int64_t out_features, int64_t packed, int64_t kind, double alpha, double beta)
{
    const gemm_matrix a = {x, in_features, 1}, b = {weight, 1, in_features};
    const gemm_packed_columns panels = {weight, out_features};
    gemm_problem p = {
        .m = rows,
        .n = out_features,
        .k = in_features,
        .a = a,
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = y,
        .c_row = out_features,
        .column_bias = bias,
        .activation = activation_of(kind, alpha, beta),
    };
    if (packed && has_panels(out_features))
        p.pack_b = gemm_packed_b, p.b = &panels, p.b_panel = GEMM_B_PANEL;
    return gemm_parallel(&p);
}

int fdl_linear_packed_size(const real *weight, int64_t *size, int64_t in_features, int64_t out_features)
{
    (void)weight;
    *size = has_panels(out_features) ? gemm_packed_b_size(in_features, out_features) : in_features * out_features;
    return FDL_OK;
}

int fdl_linear_pack(const real *weight, real *packed, int64_t in_features, int64_t out_features)
{
    if (has_panels(out_features))
        gemm_pack_b_columns(&(gemm_matrix){weight, 1, in_features}, in_features, out_features, GEMM_B_PANEL, packed);
    else
        memcpy(packed, weight, (size_t)(in_features * out_features) * sizeof(real));
    return FDL_OK;
}

int fdl_linear_backward(const real *grad_output, const real *x, const real *weight, real *grad_x, real *grad_weight,
                        real *grad_bias, int64_t rows, int64_t in_features, int64_t out_features, int64_t added)
{
    int status = FDL_OK;
    if (grad_x) {
        const gemm_matrix a = {grad_output, out_features, 1}, b = {weight, in_features, 1};
        const gemm_problem p = {
            .m = rows,
            .n = in_features,
            .k = out_features,
            .a = a,
            .pack_b = gemm_matrix_b,
            .b = &b,
            .c = grad_x,
            .c_row = in_features,
            .accumulate = added & FDL_ADDED_X,
        };
        status = gemm_parallel(&p);
    }
    if (grad_weight && status == FDL_OK) {
        const gemm_matrix a = {grad_output, 1, out_features}, b = {x, in_features, 1};
        const gemm_problem p = {
            .m = out_features,
            .n = in_features,
            .k = rows,
            .a = a,
            .pack_b = gemm_matrix_b,
            .b = &b,
            .c = grad_weight,
            .c_row = in_features,
            .accumulate = added & FDL_ADDED_WEIGHT,
        };
        status = gemm_parallel(&p);
    }
    if (grad_bias && status == FDL_OK)
        status = gemm_column_sums(grad_output, out_features, rows, out_features, grad_bias, added & FDL_ADDED_BIAS);
    return status;
}
