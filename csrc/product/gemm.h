/* The building block: C = activation(A B + bias + addend), register-blocked, cache-blocked, packed through callbacks.
 *
 *   C [m, n]   rows c_row elements apart, columns contiguous
 *   A [m, k]   a matrix in memory, the transpose of one, or what `pack_a` copies a block of rows of
 *   B [k, n]   wherever it comes from: `pack_b` copies a cache-sized block of it into the layout that the
 *              micro-kernel reads. A plain matrix is one such source (gemm_matrix_b), a convolution's columns,
 *              which never exist in memory as a whole, another.
 *
 * The sum over a batch of products, C = sum_i A_i B_i (Georganas et al., "Harnessing Deep Learning via a Single
 * Building Block", IPDPS 2020), is the case in which k runs over (i, k_i): a packing callback that knows the
 * images of a batch, or x_t and h_t, puts the A_i and B_i end to end, and C stays in registers across them.
 *
 * Accumulation is in `real`, in registers over at most GEMM_K terms, then in C: term after term, whatever the tile.
 * What takes less time for few rows (loose.h) or the last few columns adds up in another order. Whether it does follows
 * from m, n and k, not from the part of C that is computed, so that sums do not depend on how C is cut for threads; where
 * fdl_set_deterministic asks for sums that do not depend on m and n either, there is only the one order. */
#ifndef FASTDL_GEMM_H
#define FASTDL_GEMM_H

#include "product/loose.h"
#include "vector/fused.h"

/* Tile of C in registers: GEMM_ROWS rows by 2 vectors, leaving registers for 2 vectors of B and 1 of A. */
enum {
    GEMM_ROWS = VECTOR_REGISTERS == 32 ? 12 : 6,
    GEMM_COLUMNS = 2 * LANES,
    GEMM_K = 2048 / (int)sizeof(real),               /* most terms in a packed block: one A block is then 24 KiB */
    GEMM_A_PANEL = 12,                               /* rows of a panel of A; a multiple of GEMM_ROWS */
    GEMM_A_STRIDE = GEMM_K + 64 / (int)sizeof(real), /* between rows of a packed A block; odd in cache lines */
};

/* B[k : k + terms, column : column + columns] as panels side by side: the panel that starts at column j is
 * panels[j * terms + i * width + l], with its width from gemm_panel_width. Lanes past the last column are finite.
 * Returns where the panels are: `out`, or memory that already holds them. */
typedef const real *gemm_pack_b(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns,
                                real *out);

/* Rows `row` on of a packed matrix that has m; of each panel `panel` rows are used, 0: all of them. */
typedef struct {
    const real *data;
    int64_t m, row, panel;
} gemm_packed;

/* out[i * GEMM_A_STRIDE + j] = A[row + i, k + j] for i < rows <= GEMM_ROWS, j < terms <= GEMM_K. What is stored past a
 * row's last element, but before the next row's first, is never read. */
typedef void gemm_pack_a(const void *context, int64_t row, int64_t rows, int64_t k, int64_t terms, real *out);

typedef struct {
    int64_t m, n, k;
    int64_t k_slice;     /* slices of k begin at multiples of it, which is at most GEMM_K; 0: anywhere */
    gemm_matrix a;       /* unless there is */
    gemm_pack_a *pack_a; /* which is given a_context; NULL: none */
    const void *a_context;
    gemm_packed packed_a; /* before both: A as gemm_pack wrote it; its data NULL: not packed */
    gemm_pack_b *pack_b;
    const void *b;
    const real *a_next; /* of the product to come, where packed: fetched ahead; NULL: none */
    int64_t b_panel;    /* columns of the panels that pack_b gives, but the last, where they are wider than those of
                      * gemm_panel_width; the last are whole cache lines then. 0: they are not */
    int64_t b_step; /* from B, where its callback finds it packed and A lies by rows, to that of the product to come:
                         * fetched ahead; 0: none */
    real *c;
    int64_t c_row;
    int64_t c_block, c_step;            /* C's columns come in blocks of c_block, c_step elements apart; 0: in one */
    bool accumulate;                    /* add to what C holds */
    bool steady;                        /* n depends on threads: the last columns are summed as all others */
    const real *row_bias, *column_bias; /* [m], [n]; NULL: none */
    const real *addend;                 /* added to C before the activation, laid out as C; NULL: none */
    activation activation;
} gemm_problem;

#define gemm_block FDL_NAME(gemm_block)
#define gemm_split FDL_NAME(gemm_split)
#define gemm_packed_size FDL_NAME(gemm_packed_size)
#define gemm_pack_rows FDL_NAME(gemm_pack_rows)
#define gemm_pack FDL_NAME(gemm_pack)
#define gemm_packed_columns_size FDL_NAME(gemm_packed_columns_size)
#define gemm_pack_a_columns FDL_NAME(gemm_pack_a_columns)
#define gemm_packed_b_size FDL_NAME(gemm_packed_b_size)
#define gemm_pack_b_columns FDL_NAME(gemm_pack_b_columns)
#define gemm_packed_b FDL_NAME(gemm_packed_b)
#define gemm_in_place FDL_NAME(gemm_in_place)
#define gemm_parallel FDL_NAME(gemm_parallel)
#define gemm_matrix_b FDL_NAME(gemm_matrix_b)
#define gemm_transpose_panel FDL_NAME(gemm_transpose_panel)
#define gemm_column_sums FDL_NAME(gemm_column_sums)

/* A part of the work: C[row : row_end, column : column_end]. */
typedef struct {
    int64_t row, row_end, column, column_end;
} gemm_range;

/* Compute that part of C on the calling thread. */
int gemm_block(const gemm_problem *problem, gemm_range range);
/* Part `index` of `parts` of C, cut along the longer side in whole tiles; may be empty. */
gemm_range gemm_split(const gemm_problem *problem, int64_t parts, int64_t index);
/* C[row : row + rows], rows <= GEMM_ROWS, for a B that is never packed: its row k is the n elements at
 * b + offset[k], and up to a vector past them may be read. Row i of A is the elements a[k * GEMM_A_PANEL + i], whatever
 * the problem says of A; all k terms are summed in registers. */
void gemm_in_place(const gemm_problem *problem, int64_t row, int64_t rows, const real *a, const real *b,
                   const int64_t *offset);
/* Rows that the micro-kernel takes at a time, of those that are left: in blocks of nearly equal height. */
FDL_INLINE int64_t gemm_block_height(int64_t left) { return ceil_div(left, ceil_div(left, GEMM_ROWS)); }
/* The same from `row` on, before `row_end`, where A is packed in panels of `panel` rows. */
FDL_INLINE int64_t gemm_packed_rows(int64_t row, int64_t row_end, int64_t panel)
{
    return gemm_block_height(min64(row_end - row, panel - row % panel));
}
/* All of C, on as many threads as the work is worth. */
int gemm_parallel(const gemm_problem *problem);
/* Parts to cut that many multiply-adds into, for a C of that many columns: one where the work is worth one thread,
 * else one a thread, or several where they are still wide, so that a thread that is held up holds up little. */
FDL_INLINE int64_t gemm_parts(double multiply_adds, int64_t columns)
{
    const double enough = 1 << 18; /* a thread costs a few microseconds to wake */
    const int64_t worth = multiply_adds < enough * 64 ? (int64_t)(multiply_adds / enough) : 64;
    const int64_t threads = fdl_available_threads(worth);
    return threads > 1 && columns >= 16 * threads * GEMM_COLUMNS ? 4 * threads : threads;
}

/* A (by rows: a->column is 1) packed once, for every product with it: for each slice of k, panels [terms of the slice,
 * GEMM_A_PANEL] of the rows, the last one filled up with zeros; the same on every level. Size in elements. */
int64_t gemm_packed_size(int64_t m, int64_t k);
void gemm_pack(const gemm_matrix *a, int64_t m, int64_t k, real *packed);
/* The part of it that is rows [row, row_end), from a matrix that holds just those; row is a multiple of GEMM_A_PANEL.
 */
void gemm_pack_rows(const gemm_matrix *a, int64_t row, int64_t row_end, int64_t m, int64_t k, real *packed);

/* The same from A's transpose, for m rows of which a panel uses `panel`: the terms [k, k + terms), which are
 * columns [terms, m], `row` apart. */
int64_t gemm_packed_columns_size(int64_t m, int64_t k, int64_t panel);
void gemm_pack_a_columns(const real *columns, int64_t row, int64_t k, int64_t terms, int64_t k_total, int64_t m,
                         int64_t panel, real *packed);

/* pack_b for a gemm_matrix. */
gemm_pack_b gemm_matrix_b;

/* B [k, n] packed once, for every product with it: for each slice of k, panels [terms of the slice, panel] of its
 * columns, the last one as wide as whole cache lines hold its columns, filled up with zeros; the same on every level.
 * b is given by columns (its row is 1). Size in elements. */
enum {
    GEMM_B_PANEL = 256 / (int)sizeof(real),  /* for rows that may be few */
    GEMM_B_NARROW = 128 / (int)sizeof(real), /* for many: a tile of two vectors of 64 bytes reads all of it */
};
int64_t gemm_packed_b_size(int64_t k, int64_t n);
void gemm_pack_b_columns(const gemm_matrix *b, int64_t k, int64_t n, int64_t panel, real *packed);
/* pack_b for it; the problem's b_panel is that panel. A few rows of an A by rows, and panels of GEMM_B_PANEL, are taken where they lie,
 * by the tiles of loose.h, which read each panel once and in order: the same sums, but for thin columns. */
typedef struct {
    const real *data;
    int64_t n;
} gemm_packed_columns;
gemm_pack_b gemm_packed_b;

/* One panel from the transpose: out[i * width + j] = from[j * stride + i], i < terms, j < columns <= width,
 * 0 for columns <= j < width; width is LANES or GEMM_COLUMNS. */
void gemm_transpose_panel(const real *from, int64_t stride, int64_t terms, int64_t columns, int64_t width, real *out);

/* sums[columns] (+)= those of x [rows, columns], whose rows are `row` apart, accumulated in double: the gradient of a
 * bias. */
int gemm_column_sums(const real *x, int64_t row, int64_t rows, int64_t columns, real *sums, bool accumulate);

/* Slices of k of nearly equal terms, at most GEMM_K: how many (k = 0 is one, empty: C is still written), and the terms
 * of the one that starts at k, with `left` to go. */
FDL_INLINE int64_t gemm_slices(int64_t k) { return max64(1, ceil_div(k, GEMM_K)); }
FDL_INLINE int64_t gemm_slice_terms(int64_t k_total, int64_t k, int64_t left)
{
    return left == 1 ? k_total - k : (k_total - k) / left;
}

/* The width of the panel that starts with `left` columns to go: two vectors while they fill, then one. A last
 * vector of few columns stays alone, because gemm_block computes such columns one by one, unless steady. */
enum { GEMM_THIN = LANES / 4 };
FDL_INLINE int64_t gemm_panel_width(int64_t left)
{
    return left <= LANES + GEMM_THIN && left < GEMM_COLUMNS ? LANES : GEMM_COLUMNS;
}
#endif
