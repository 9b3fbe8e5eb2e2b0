/* See gemm.h. Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (TOMS
 * 2008), with the roles that suit deep learning: B (pixels, or a batch) is packed once into the second-level
 * cache, and A (weights), which is read once per strip of B, is copied row block by row block into the first.
 *
 *   for each strip of C's columns that lets depth x strip of B fit half a second-level cache
 *     for each slice of k, at most GEMM_K deep
 *       pack B[slice, strip] into panels                             (second-level cache)
 *       for each block of at most GEMM_ROWS rows: copy A[block, slice]   (first-level cache)
 *         for each panel: the micro-kernel, whose tile of C lives in registers over the slice
 */
#include "gemm.h"

#include <stdlib.h>

enum { STRIP_BYTES = 512 * 1024 };
#define LINE ((int)(64 / sizeof(real))) /* elements in a cache line */

/* How a block of A is packed: the way it lies in memory. */
enum {
    BY_ROWS,    /* packed[i * GEMM_A_STRIDE + k] */
    BY_COLUMNS, /* packed[k * GEMM_ROWS + i] */
};

typedef struct {
    const real *a, *b;
    int64_t depth;
    const real *next_a; /* the next block of A, still where it came from; NULL: none */
    int64_t next_step;  /* between its rows or columns */
    real *c;
    int64_t c_row, columns; /* columns of C that exist, <= width of the tile */
    bool accumulate;
    const real *row_bias, *column_bias; /* NULL: none, or not yet */
    bool relu;
} tile;

/* One term of every element of the tile. */
FDL_INLINE void multiply_add(vreal sum[GEMM_ROWS][2], const real **a, const real **b, const int rows, const int vectors,
                             const bool by_rows)
{
    vreal bv[2];
    FDL_UNROLL
    for (int v = 0; v < vectors; v++)
        bv[v] = vload(*b + v * LANES);
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        const vreal av = vset1((*a)[by_rows ? i * GEMM_A_STRIDE : i]);
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] += av * bv[v];
    }
    *a += by_rows ? 1 : GEMM_ROWS;
    *b += vectors * LANES;
}

/* C[rows, columns] (+)= A B, A packed [rows, depth], B packed [depth, vectors * LANES]. `rows`, `vectors` and
 * `by_rows` are constants wherever this is inlined, and so are all strides. */
FDL_INLINE void micro_kernel(const tile *t, const int rows, const int vectors, const bool by_rows)
{
    vreal sum[GEMM_ROWS][2];
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] = (vreal){0};
    }
    FDL_UNROLL
    for (int i = 0; i < rows; i++) /* the tile of C, rows far apart, which the hardware does not see coming */
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(t->c + i * t->c_row + v * LANES, 1);
    const real *a = t->a, *b = t->b;
    int64_t k = t->depth;
    if (t->next_a) {
        /* main loop, fetching the next block of A on the way. By rows: in LINE steps, a cache line of each row; by
         * columns: in each step, the piece of one column. */
        uintptr_t next = (uintptr_t)t->next_a;
        const uintptr_t step = (uintptr_t)t->next_step * sizeof(real);
        for (; k >= LINE; k -= LINE) {
            for (int l = 0; l < LINE; l++) {
                __builtin_prefetch((const void *)next, 0, 2);
                if (by_rows && (int)GEMM_ROWS > LINE)
                    __builtin_prefetch((const void *)(next + LINE * step), 0, 2);
                next += step;
                multiply_add(sum, &a, &b, rows, vectors, by_rows);
            }
            if (by_rows)
                next += 64 - LINE * step;
        }
    }
    for (; k > 0; k--) /* the rest */
        multiply_add(sum, &a, &b, rows, vectors, by_rows);
    /* Epilogue, while the tile is still in registers. */
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++) {
            real *c = t->c + i * t->c_row + v * LANES;
            const int64_t left = t->columns - v * LANES;
            if (left <= 0)
                break;
            const bool whole = left >= LANES;
            vreal value = sum[i][v];
            if (t->accumulate)
                value += whole ? vload(c) : vload_first(c, left);
            if (t->row_bias)
                value += vset1(t->row_bias[i]);
            if (t->column_bias) {
                const real *bias = t->column_bias + v * LANES;
                value += whole ? vload(bias) : vload_first(bias, left);
            }
            if (t->relu)
                value = vselect(value < (vreal){0}, (vreal){0}, value);
            if (whole)
                vstore(c, value);
            else
                vstore_first(c, value, left);
        }
    }
}

/* One compiled micro-kernel per number of rows, width and layout of A: micro_kernels[rows - 1]. */
typedef void compiled_kernel(const tile *);
#define KERNEL(rows, vectors, layout)                                                                                  \
    static void kernel_##rows##x##vectors##_##layout(const tile *t)                                                    \
    {                                                                                                                  \
        micro_kernel(t, rows, vectors, layout == BY_ROWS);                                                             \
    }
#define KERNELS(rows)                                                                                                  \
    KERNEL(rows, 1, BY_ROWS)                                                                                           \
    KERNEL(rows, 1, BY_COLUMNS)                                                                                        \
    KERNEL(rows, 2, BY_ROWS)                                                                                           \
    KERNEL(rows, 2, BY_COLUMNS)
#define ENTRY(rows)                                                                                                    \
    {{kernel_##rows##x1_BY_ROWS, kernel_##rows##x1_BY_COLUMNS},                                                        \
     {kernel_##rows##x2_BY_ROWS, kernel_##rows##x2_BY_COLUMNS}},
#if VECTOR_REGISTERS == 32
#define FOR_ALL_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define FOR_ALL_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
FOR_ALL_ROWS(KERNELS)
static compiled_kernel *const micro_kernels[GEMM_ROWS][2][2] = {FOR_ALL_ROWS(ENTRY)};

/* The same for few columns: with a vector of C mostly empty, the vectors run along k instead. A [rows, depth] by rows,
 * a_row apart, packed or not; b[j] is the column j of B as a row of GEMM_A_STRIDE. */
FDL_INLINE void thin_columns(const tile *t, int64_t rows, int64_t a_row, const real *b, const int columns)
{
    enum { ROWS = 4 };
    for (int64_t i = 0; i < rows; i += ROWS) {
        const real *a[ROWS];
        vreal sum[ROWS][GEMM_THIN + 1];
        FDL_UNROLL
        for (int r = 0; r < ROWS; r++) {
            a[r] = t->a + min64(i + r, rows - 1) * a_row; /* rows past the last repeat it, and are not stored */
            FDL_UNROLL
            for (int j = 0; j < columns; j++)
                sum[r][j] = (vreal){0};
        }
        int64_t k = 0;
        for (; k + LANES <= t->depth; k += LANES) { /* main loop */
            FDL_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const vreal av = vload(a[r] + k);
                FDL_UNROLL
                for (int j = 0; j < columns; j++)
                    sum[r][j] += av * vload(b + j * GEMM_A_STRIDE + k);
            }
        }
        if (k < t->depth) { /* tail */
            const vmask left = vmask_range(0, t->depth - k);
            FDL_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const vreal av = vload_masked(a[r] + k, left);
                FDL_UNROLL
                for (int j = 0; j < columns; j++)
                    sum[r][j] += av * vload_masked(b + j * GEMM_A_STRIDE + k, left);
            }
        }
        FDL_UNROLL
        for (int r = 0; r < ROWS; r++) {
            if (i + r >= rows)
                break;
            FDL_UNROLL
            for (int j = 0; j < columns; j++) {
                real *c = t->c + (i + r) * t->c_row + j;
                real value = vsum(sum[r][j]);
                value += t->accumulate ? *c : 0;
                value += t->row_bias ? t->row_bias[i + r] : 0;
                value += t->column_bias ? t->column_bias[j] : 0;
                *c = t->relu && value < 0 ? 0 : value;
            }
        }
    }
}

static void thin_kernel(const tile *t, int64_t rows, int64_t a_row, const real *b)
{
    switch (t->columns) {
    case 1:
        thin_columns(t, rows, a_row, b, GEMM_THIN < 1 ? GEMM_THIN : 1);
        break;
    case 2:
        thin_columns(t, rows, a_row, b, GEMM_THIN < 2 ? GEMM_THIN : 2);
        break;
    case 3:
        thin_columns(t, rows, a_row, b, GEMM_THIN < 3 ? GEMM_THIN : 3);
        break;
    default:
        thin_columns(t, rows, a_row, b, GEMM_THIN);
    }
}

/* Where the last panel of a strip is thin: its columns as rows of `out`, for thin_kernel. */
static void unpack_thin(const real *panels, int64_t strip, int64_t depth, real *out)
{
    const int64_t columns = strip % LANES;
    const real *panel = panels + (strip - columns) * depth;
    if (columns <= GEMM_THIN)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t k = 0; k < depth; k++)
                out[j * GEMM_A_STRIDE + k] = panel[k * LANES + j];
}

/* out = A[row : row + rows, k : k + depth], as it lies in memory. */
static void pack_a(const gemm_matrix *a, int64_t row, int64_t rows, int64_t k, int64_t depth, real *out)
{
    const real *from = a->data + row * a->row + k * a->column;
    if (a->column == 1) {
        for (int64_t i = 0; i < rows; i++)
            memcpy(out + i * GEMM_A_STRIDE, from + i * a->row, (size_t)depth * sizeof(real));
    } else {
        vmask present[GEMM_ROWS];
        for (int64_t i = 0; i < rows; i += LANES)
            present[i / LANES] = vmask_range(0, min64(LANES, rows - i));
        /* Whole vectors are stored: what spills over is overwritten by the next column, or never read. */
        for (int64_t j = 0; j < depth; j++)
            for (int64_t i = 0; i < rows; i += LANES)
                vstore(out + j * GEMM_ROWS + i, vload_masked(from + j * a->column + i, present[i / LANES]));
    }
}

/* Where a tile of C is. */
typedef struct {
    const gemm_problem *p;
    int64_t row, rows, column;
} tile_of;

/* Copy a tile that lies in several blocks of C to or from `copy` [rows, GEMM_COLUMNS]. */
static void move_tile(const tile_of *w, int64_t columns, real *copy, bool to_copy)
{
    const gemm_problem *p = w->p;
    for (int64_t done = 0, length; done < columns; done += length) {
        const int64_t block = (w->column + done) / p->c_block, offset = (w->column + done) % p->c_block;
        length = min64(columns - done, p->c_block - offset);
        real *c = p->c + block * p->c_step + w->row * p->c_row + offset;
        for (int64_t i = 0; i < w->rows; i++, c += p->c_row)
            for (int64_t j = 0; j < length; j++) {
                if (to_copy)
                    copy[i * GEMM_COLUMNS + done + j] = c[j];
                else
                    c[j] = copy[i * GEMM_COLUMNS + done + j];
            }
    }
}

/* Compute a tile with `kernel`, or with thin_kernel if that is NULL, wherever its columns of C lie. */
static void run_tile(tile *t, const tile_of *w, compiled_kernel *kernel, int64_t a_row, const real *thin)
{
    const gemm_problem *p = w->p;
    real copy[GEMM_ROWS * GEMM_COLUMNS];
    bool copied = false;
    t->c = p->c + w->row * p->c_row + w->column;
    if (p->c_block) {
        const int64_t block = w->column / p->c_block, offset = w->column % p->c_block;
        t->c = p->c + block * p->c_step + w->row * p->c_row + offset;
        copied = offset + t->columns > p->c_block;
    }
    if (copied) {
        t->c = copy, t->c_row = GEMM_COLUMNS;
        if (t->accumulate)
            move_tile(w, t->columns, copy, true);
    }
    if (kernel)
        kernel(t);
    else
        thin_kernel(t, w->rows, a_row, thin);
    if (copied)
        move_tile(w, t->columns, copy, false);
}

int gemm_block(const gemm_problem *p, gemm_range range)
{
    const int64_t columns = range.column_end - range.column;
    if (range.row >= range.row_end || columns <= 0)
        return FDL_OK;
    /* Slices of equal depth, strips of equal width. k = 0 is one empty slice: C is still written. */
    const int64_t slices = max64(1, ceil_div(p->k, GEMM_K));
    const int64_t most_depth = ceil_div(p->k, slices);
    const int64_t most_strip = max64(1, STRIP_BYTES / (int64_t)sizeof(real) / max64(1, most_depth) / GEMM_COLUMNS);
    const int64_t panels = ceil_div(columns, GEMM_COLUMNS), strips = ceil_div(panels, most_strip);
    const int64_t strip_columns = ceil_div(panels, strips) * GEMM_COLUMNS;

    const int layout = p->a.column == 1 ? BY_ROWS : BY_COLUMNS;
    const fdl_mark mark = fdl_scratch_mark();
    real *packed_b = fdl_scratch(strip_columns * most_depth * (int64_t)sizeof(real));
    real *packed_a = fdl_scratch(GEMM_ROWS * GEMM_A_STRIDE * (int64_t)sizeof(real));
    real *packed_thin = fdl_scratch(GEMM_THIN * GEMM_A_STRIDE * (int64_t)sizeof(real));
    if (!packed_a || !packed_b || !packed_thin) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    for (int64_t column = range.column; column < range.column_end; column += strip_columns) {
        const int64_t strip = min64(strip_columns, range.column_end - column);
        for (int64_t k = 0, slice = 0; slice < slices; slice++) {
            const int64_t depth = (p->k - k) / (slices - slice);
            const bool first = slice == 0, last = slice == slices - 1;
            const real *panels = p->pack_b(p->b, k, depth, column, strip, packed_b);
            unpack_thin(panels, strip, depth, packed_thin);
            for (int64_t row = range.row, rows; row < range.row_end; row += rows) {
                const int64_t left = range.row_end - row;
                rows = ceil_div(left, ceil_div(left, GEMM_ROWS)); /* blocks of nearly equal height */
                const real *a = packed_a;
                int64_t a_row = GEMM_A_STRIDE;
                if (strip <= GEMM_THIN && layout == BY_ROWS) /* each element is read once: where it lies */
                    a = p->a.data + row * p->a.row + k, a_row = p->a.row;
                else
                    pack_a(&p->a, row, rows, k, depth, packed_a);
                const bool more = row + rows < range.row_end;
                for (int64_t j = 0, width; j < strip; j += width) {
                    width = gemm_panel_width(strip - j);
                    tile t = {
                        .a = a,
                        .b = panels + j * depth,
                        .depth = depth,
                        /* late enough that it is not evicted before it is wanted */
                        .next_a = more && strip - j - width <= GEMM_THIN
                                      ? p->a.data + (row + rows) * p->a.row + k * p->a.column
                                      : NULL,
                        .next_step = layout == BY_ROWS ? p->a.row : p->a.column,
                        .c_row = p->c_row,
                        .columns = min64(strip - j, width),
                        .accumulate = p->accumulate || !first,
                        .row_bias = last && p->row_bias ? p->row_bias + row : NULL,
                        .column_bias = last && p->column_bias ? p->column_bias + column + j : NULL,
                        .relu = last && p->activation == FDL_ACTIVATION_RELU,
                    };
                    const bool is_thin = t.columns <= GEMM_THIN && layout == BY_ROWS;
                    compiled_kernel *kernel = is_thin ? NULL : micro_kernels[rows - 1][width / LANES - 1][layout];
                    run_tile(&t, &(tile_of){p, row, rows, column + j}, kernel, a_row, packed_thin);
                }
            }
            k += depth;
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

gemm_range gemm_split(const gemm_problem *p, int64_t parts, int64_t index)
{
    gemm_range range = {0, p->m, 0, p->n};
    const int64_t panels = ceil_div(p->n, GEMM_COLUMNS);
    if (panels >= 4 * parts || p->n >= p->m) {
        range.column = min64(p->n, panels * index / parts * GEMM_COLUMNS);
        range.column_end = min64(p->n, panels * (index + 1) / parts * GEMM_COLUMNS);
    } else {
        const int64_t blocks = ceil_div(p->m, GEMM_ROWS);
        range.row = min64(p->m, blocks * index / parts * GEMM_ROWS);
        range.row_end = min64(p->m, blocks * (index + 1) / parts * GEMM_ROWS);
    }
    return range;
}

typedef struct {
    const gemm_problem *problem;
    int64_t parts;
} split_work;

static int split_task(void *context, int64_t begin, int64_t end)
{
    const split_work *work = context;
    int status = FDL_OK;
    for (int64_t i = begin; i < end && status == FDL_OK; i++)
        status = gemm_block(work->problem, gemm_split(work->problem, work->parts, i));
    return status;
}

int gemm_parallel(const gemm_problem *p)
{
    split_work work = {p, gemm_parts((double)p->m * (double)p->n * (double)p->k, p->n)};
    return fdl_parallel(work.parts, 1, split_task, &work);
}

const real *gemm_matrix_b(const void *context, int64_t k, int64_t depth, int64_t column, int64_t columns, real *out)
{
    const gemm_matrix *b = context;
    const real *from = b->data + k * b->row + column * b->column;
    int64_t j = 0;
    if (b->column == 1) {
        enum { GROUP = 4 }; /* panels side by side: rows are then read in stretches that the prefetcher sees */
        for (; j + GROUP * GEMM_COLUMNS <= columns; j += GROUP * GEMM_COLUMNS)
            for (int64_t i = 0; i < depth; i++) { /* main loop */
                FDL_UNROLL
                for (int v = 0; v < 2 * GROUP; v++)
                    __builtin_prefetch(from + (i + 6) * b->row + j + v * LANES);
                FDL_UNROLL
                for (int v = 0; v < 2 * GROUP; v++)
                    vstore(out + (j + v / 2 * GEMM_COLUMNS) * depth + i * GEMM_COLUMNS + v % 2 * LANES,
                           vload(from + i * b->row + j + v * LANES));
            }
    }
    for (int64_t width; j < columns; j += width) { /* tail, and transposes */
        width = gemm_panel_width(columns - j);
        const int64_t present = min64(columns - j, width);
        if (b->column != 1) {
            gemm_transpose_panel(from + j * b->column, b->column, depth, present, width, out + j * depth);
            continue;
        }
        for (int64_t v = 0; v < width; v += LANES) {
            const vmask lanes = vmask_range(0, max64(0, min64(present - v, LANES)));
            for (int64_t i = 0; i < depth; i++)
                vstore(out + j * depth + i * width + v, vload_masked(from + i * b->row + j + v, lanes));
        }
    }
    return out;
}

void gemm_transpose_panel(const real *from, int64_t stride, int64_t depth, int64_t columns, int64_t width, real *out)
{
    for (int64_t j = 0; j < width; j += LANES) {
        const int64_t present = max64(0, min64(columns - j, LANES));
        for (int64_t i = 0; i < depth; i += LANES) {
            const int64_t deep = min64(depth - i, LANES);
            vreal block[LANES];
            if (present == LANES && deep == LANES) { /* main loop */
                FDL_UNROLL
                for (int r = 0; r < LANES; r++)
                    block[r] = vload(from + (j + r) * stride + i);
                vtranspose(block);
                FDL_UNROLL
                for (int r = 0; r < LANES; r++)
                    vstore(out + (i + r) * width + j, block[r]);
            } else { /* tail */
                for (int64_t r = 0; r < LANES; r++)
                    block[r] = r < present ? vload_first(from + (j + r) * stride + i, deep) : (vreal){0};
                vtranspose(block);
                for (int64_t r = 0; r < deep; r++)
                    vstore(out + (i + r) * width + j, block[r]);
            }
        }
    }
}
