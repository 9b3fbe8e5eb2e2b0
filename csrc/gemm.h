/* The building block: C = activation(A B + bias), register-blocked, cache-blocked, packed through callbacks.
 *
 *   C [m, n]   rows c_row elements apart, columns contiguous
 *   A [m, k]   B [k, n]   wherever they come from: `pack_a` and `pack_b` copy a cache-sized block of them into
 *              the layout that the micro-kernel reads. A plain matrix is one such source (gemm_matrix_*), a
 *              convolution's columns, which never exist in memory as a whole, another.
 *
 * The sum over a batch of products, C = sum_i A_i B_i (Georganas et al., "Harnessing Deep Learning via a Single
 * Building Block", IPDPS 2020), is the case in which k runs over (i, k_i): a packing callback that knows the
 * images of a batch, or x_t and h_t, puts the A_i and B_i end to end, and C stays in registers across them.
 *
 * Accumulation is in `real`, in registers over at most GEMM_K terms, then in C. */
#ifndef FASTDL_GEMM_H
#define FASTDL_GEMM_H

#include "simd.h"

/* Tile of C in registers: GEMM_ROWS rows by 2 vectors, leaving registers for 2 vectors of B and 1 of A. */
enum {
    GEMM_ROWS = VECTOR_REGISTERS == 32 ? 12 : 6,
    GEMM_COLUMNS = 2 * LANES,
    GEMM_K = 1024 / (int)sizeof(real) * 3 / 2,       /* most terms in a packed block: one A block is then 18 KiB */
    GEMM_A_STRIDE = GEMM_K + 64 / (int)sizeof(real), /* between rows of a packed A block; odd in cache lines */
};

/* How pack_a lays out a block of A: as it is cheapest to copy. */
typedef enum {
    GEMM_A_BY_ROWS,    /* out[i * GEMM_A_STRIDE + k] */
    GEMM_A_BY_COLUMNS, /* out[k * GEMM_ROWS + i] */
} gemm_a_layout;

/* out = A[row : row + rows, k : k + depth], rows <= GEMM_ROWS, depth <= GEMM_K. */
typedef void gemm_pack_a(const void *context, int64_t row, int64_t rows, int64_t k, int64_t depth, real *out);

/* out = B[k : k + depth, column : column + columns] as panels: the p-th holds the GEMM_COLUMNS columns from
 * p * GEMM_COLUMNS on as out[p * GEMM_COLUMNS * depth + i * width + j], where width is GEMM_COLUMNS, or LANES
 * in a last panel of at most LANES columns. Lanes past the last column are finite (zero). */
typedef void gemm_pack_b(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns, real *out);

typedef struct {
    int64_t m, n, k;
    gemm_pack_a *pack_a;
    const void *a;
    gemm_a_layout a_layout;
    gemm_pack_b *pack_b;
    const void *b;
    real *c;
    int64_t c_row;
    bool accumulate;                    /* add to what C holds */
    const real *row_bias, *column_bias; /* [m], [n]; NULL: none */
    int64_t activation;
} gemm_problem;

#define gemm_block FDL_NAME(gemm_block)
#define gemm_split FDL_NAME(gemm_split)
#define gemm_parallel FDL_NAME(gemm_parallel)
#define gemm_matrix_a FDL_NAME(gemm_matrix_a)
#define gemm_matrix_b FDL_NAME(gemm_matrix_b)
#define gemm_transpose_panel FDL_NAME(gemm_transpose_panel)

/* A part of the work: C[row : row_end, column : column_end]. */
typedef struct {
    int64_t row, row_end, column, column_end;
} gemm_range;

/* Compute that part of C on the calling thread. */
int gemm_block(const gemm_problem *problem, gemm_range range);
/* Part `index` of `parts` of C, cut along the longer side in whole tiles; may be empty. */
gemm_range gemm_split(const gemm_problem *problem, int64_t parts, int64_t index);
/* All of C, on as many threads as the work is worth. */
int gemm_parallel(const gemm_problem *problem);
/* Parts that are worth a thread each for that many multiply-adds. */
FDL_INLINE int64_t gemm_parts(double multiply_adds)
{
    const double enough = 1 << 18; /* a thread costs a few microseconds to wake */
    const int64_t worth = multiply_adds < enough * 64 ? (int64_t)(multiply_adds / enough) : 64;
    return max64(1, min64(worth, fdl_available_threads()));
}

/* A matrix in memory: element (i, j) at data[i * row + j * column], one of row and column being 1. */
typedef struct {
    const real *data;
    int64_t row, column;
} gemm_matrix;
gemm_pack_a gemm_matrix_a;
gemm_pack_b gemm_matrix_b;
FDL_INLINE gemm_a_layout gemm_layout_of(const gemm_matrix *a)
{
    return a->column == 1 ? GEMM_A_BY_ROWS : GEMM_A_BY_COLUMNS;
}

/* One panel from the transpose: out[i * width + j] = from[j * stride + i], i < depth, j < columns <= width,
 * 0 for columns <= j < width; width is LANES or GEMM_COLUMNS. */
void gemm_transpose_panel(const real *from, int64_t stride, int64_t depth, int64_t columns, int64_t width, real *out);

/* The width of the panel that starts with `left` columns to go. */
FDL_INLINE int64_t gemm_panel_width(int64_t left) { return left <= LANES ? LANES : GEMM_COLUMNS; }

#endif
