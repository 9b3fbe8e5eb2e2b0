/* The building block: C = activation(A B + bias), register-blocked, cache-blocked, packed through callbacks.
 *
 *   C [m, n]   rows c_row elements apart, columns contiguous
 *   A [m, k]   a matrix in memory, or the transpose of one
 *   B [k, n]   wherever it comes from: `pack_b` copies a cache-sized block of it into the layout that the
 *              micro-kernel reads. A plain matrix is one such source (gemm_matrix_b), a convolution's columns,
 *              which never exist in memory as a whole, another.
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
    GEMM_K = 2048 / (int)sizeof(real),               /* most terms in a packed block: one A block is then 24 KiB */
    GEMM_A_STRIDE = GEMM_K + 64 / (int)sizeof(real), /* between rows of a packed A block; odd in cache lines */
};

/* A matrix in memory: element (i, j) at data[i * row + j * column], one of row and column being 1. */
typedef struct {
    const real *data;
    int64_t row, column;
} gemm_matrix;

/* B[k : k + depth, column : column + columns] as panels side by side: the panel that starts at column j is
 * panels[j * depth + i * width + l], with its width from gemm_panel_width. Lanes past the last column are finite.
 * Returns where the panels are: `out`, or memory that already holds them. */
typedef const real *gemm_pack_b(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns,
                                real *out);

typedef struct {
    int64_t m, n, k;
    gemm_matrix a;
    gemm_pack_b *pack_b;
    const void *b;
    real *c;
    int64_t c_row;
    int64_t c_block, c_step;            /* C's columns come in blocks of c_block, c_step elements apart; 0: in one */
    bool accumulate;                    /* add to what C holds */
    const real *row_bias, *column_bias; /* [m], [n]; NULL: none */
    int64_t activation;
} gemm_problem;

#define gemm_block FDL_NAME(gemm_block)
#define gemm_split FDL_NAME(gemm_split)
#define gemm_parallel FDL_NAME(gemm_parallel)
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
/* Parts to cut that many multiply-adds into, for a C of that many columns: one where the work is worth one thread,
 * else one a thread, or several where they are still wide, so that a thread that is held up holds up little. */
FDL_INLINE int64_t gemm_parts(double multiply_adds, int64_t columns)
{
    const double enough = 1 << 18; /* a thread costs a few microseconds to wake */
    const int64_t worth = multiply_adds < enough * 64 ? (int64_t)(multiply_adds / enough) : 64;
    const int64_t threads = max64(1, min64(worth, fdl_available_threads()));
    return threads > 1 && columns >= 16 * threads * GEMM_COLUMNS ? 4 * threads : threads;
}

/* pack_b for a gemm_matrix. */
gemm_pack_b gemm_matrix_b;

/* One panel from the transpose: out[i * width + j] = from[j * stride + i], i < depth, j < columns <= width,
 * 0 for columns <= j < width; width is LANES or GEMM_COLUMNS. */
void gemm_transpose_panel(const real *from, int64_t stride, int64_t depth, int64_t columns, int64_t width, real *out);

/* The width of the panel that starts with `left` columns to go: two vectors while they fill, then one. A last
 * vector of few columns stays alone, because gemm_block computes such columns one by one. */
enum { GEMM_THIN = LANES / 4 };
FDL_INLINE int64_t gemm_panel_width(int64_t left)
{
    return left <= LANES + GEMM_THIN && left < GEMM_COLUMNS ? LANES : GEMM_COLUMNS;
}
#endif
