/* Products so small, or of so few rows, that copying their operands would cost more than it saves: A and B are used
 * where they lie,
 *
 *   sum[i, j] = sum_k A[i, k] B[k, j]      i < rows, j < columns, k < terms
 *
 * in one of two forms, by how B lies:
 *
 *   rows      B's rows are contiguous (column == 1): a tile of C is in registers, as in gemm.c; A lies in any way
 *   columns   B's columns are (row == 1), and A's rows: vectors run along k, and the lanes of as many sums as a vector
 *             has lanes are added up together
 *
 * Of one row both run at the bandwidth of wherever B lies. Accumulation is in `real`, in registers, over all of k. */
#ifndef FASTDL_LOOSE_H
#define FASTDL_LOOSE_H

#include "vector/fused.h"

/* A matrix in memory: element (i, j) at data[i * row + j * column], one of row and column being 1. */
typedef struct {
    const real *data;
    int64_t row, column;
} gemm_matrix;

enum {
    LOOSE_BLOCK = 64,          /* most rows that `sums` is given of at a time */
    LOOSE_TERMS = 256,         /* most terms of a stripe of B that is read again and again */
    LOOSE_CACHED = 128 * 1024, /* bytes of B that stay in the second-level cache */
    LOOSE_FEW_TERMS = 8,       /* B's rows that stay in registers */
};

/* What becomes of sums[i * sums_row + j], which belongs to (row + i, column + j), i < rows, j < columns. What is in
 * `sums` past the columns may be read. */
typedef void loose_epilogue(const void *context, int64_t row, int64_t rows, int64_t column, int64_t columns,
                            const real *sums, int64_t sums_row);

#define loose_product FDL_NAME(loose_product)
#define loose_few_terms FDL_NAME(loose_few_terms)

/* Whether there is a form for these. */
FDL_INLINE bool loose_can(const gemm_matrix *a, const gemm_matrix *b)
{
    return b->column == 1 || (b->row == 1 && a->column == 1);
}

/* Whether a product of that many rows, columns and terms is quicker so than packed. (Measured; what packing costs is
 * shared by all rows, what the sums of a vector's lanes cost by all terms. A B that does not stay in cache is read once:
 * of one that lies in rows, those of a stripe fall into few sets of the cache.) */
FDL_INLINE bool loose_pays(const gemm_matrix *b, int64_t rows, int64_t columns, int64_t terms)
{
    if (b->column == 1)
        return rows <= LOOSE_BLOCK / 2 || (rows <= LOOSE_BLOCK && terms * columns <= 1 << 19) ||
               (terms * columns * (int64_t)sizeof(real) <= LOOSE_CACHED &&
                (rows * columns * (int64_t)sizeof(real) <= 1 << 20 || terms < 8));
    return rows <= 4 || rows <= min64(15, terms / 8 + 2) || (columns <= LANES && terms >= 16 * LANES);
}

/* Rows [row, row_end) and columns [column, column_end) of the product. c: where sums go at once, in rows c_row apart,
 * wherever a vector of them is whole; NULL: all go to the epilogue. */
void loose_product(const gemm_matrix *a, const gemm_matrix *b, int64_t row, int64_t row_end, int64_t column,
                   int64_t column_end, int64_t terms, real *c, int64_t c_row, loose_epilogue *epilogue,
                   const void *context);

/* C [rows, columns] = A B + bias [columns] (NULL: none), within limits: at most LOOSE_FEW_TERMS terms, one chain
 * each; B's rows are contiguous. */
void loose_few_terms(const gemm_matrix *a, const gemm_matrix *b, int64_t rows, int64_t columns, int64_t terms,
                     const real *bias, limits cut, real *c, int64_t c_row);

#endif
