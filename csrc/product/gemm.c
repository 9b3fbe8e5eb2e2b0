/* See gemm.h. Blocking after Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication" (TOMS
 * 2008), with the roles that suit deep learning: B (pixels, or a batch) is packed once into the second-level
 * cache, and A (weights), which is read once per strip of B, is copied row block by row block into the first.
 *
 *   for each strip of C's columns that lets terms x strip of B fit half a second-level cache
 *     for each slice of k, at most GEMM_K deep
 *       pack B[slice, strip] into panels                             (second-level cache)
 *       for each block of at most GEMM_ROWS rows: copy A[block, slice]   (first-level cache)
 *         for each panel: the micro-kernel, whose tile of C lives in registers over the slice
 */
#include "product/gemm.h"
#include "vector/sums.h"

#include <math.h>
#include <stdlib.h>

enum {
    STRIP_BYTES = 512 * 1024,
    SMALL_A = 24 * 1024 / (int)sizeof(real), /* so few elements of A stay in the first-level cache */
    FEW_ROWS = 16,                           /* up to which A is not copied where B is packed beforehand */
    GROUP = 4,                               /* panels of an A by columns that are packed together */
};
#define LINE ((int)(64 / sizeof(real))) /* elements in a cache line */

/* How a block of A is packed: the way it lies in memory. */
enum {
    BY_ROWS,    /* packed[i * GEMM_A_STRIDE + k] */
    BY_COLUMNS, /* packed[k * GEMM_A_PANEL + i] */
    IN_PLACE,   /* as BY_COLUMNS; it is B that is not packed */
    LAYOUTS,
};

typedef struct {
    const real *a, *b;
    int64_t b_row;         /* between the rows of B */
    const int64_t *offset; /* IN_PLACE: of the rows of B */
    int64_t terms;
    const real *next_a; /* the next block of A, still where it came from; NULL: none */
    int64_t next_step;  /* between its rows or columns */
    real *c;
    int64_t c_row, columns; /* columns of C that exist, <= width of the tile */
    bool accumulate;
    const real *row_bias, *column_bias, *addend; /* NULL: none, or not yet; addend has rows c_row apart, too */
    limits limits;
    const activation *later; /* another one, once the tile is stored; NULL: none, or by rows */
} tile;

/* One term of every element of the tile, from row `b` of B. */
FDL_INLINE void multiply_add(vreal sum[GEMM_ROWS][2], const real **a, const real *b, const int rows, const int vectors,
                             const bool by_rows)
{
    vreal bv[2];
    FDL_UNROLL
    for (int v = 0; v < vectors; v++)
        bv[v] = vload(b + v * LANES);
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        const vreal av = vset1((*a)[by_rows ? i * GEMM_A_STRIDE : i]);
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] += av * bv[v];
    }
    *a += by_rows ? 1 : GEMM_A_PANEL;
}

/* The end of a tile that is not whole, or gets more than biases of its rows, from its sums [rows, vectors], which began
 * with those. A function of its own, and its rows not unrolled: there are dozens of micro-kernels, in each of which these
 * conditions would stand 24 times. */
__attribute__((noinline)) static void finish_tile(const tile *t, const vreal *sums, int64_t rows, int64_t vectors)
{
    /* Where there is nothing to add or to limit, these leave every number as it is. */
    const limits cut = t->limits;
    const vreal nothing = vset1((real)-0.0);
    if (t->columns >= vectors * LANES && !t->accumulate) { /* as most are: of few terms it is most work */
        for (int64_t v = 0; v < vectors; v++) {
            const vreal bias = t->column_bias ? vload(t->column_bias + v * LANES) : nothing;
            const real *addend = t->addend ? t->addend + v * LANES : NULL;
            real *c = t->c + v * LANES;
            for (int64_t i = 0; i < rows; i++, c += t->c_row) {
                const vreal value = sums[i * vectors + v] + bias;
                vstore(c, vlimit(cut, addend ? value + vload(addend + i * t->c_row) : value));
            }
        }
        return;
    }
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t v = 0; v < vectors; v++) {
            real *c = t->c + i * t->c_row + v * LANES;
            const int64_t left = t->columns - v * LANES;
            if (left <= 0)
                break;
            vreal value = sums[i * vectors + v];
            if (t->accumulate)
                value += vload_up_to(c, left);
            if (t->column_bias)
                value += vload_up_to(t->column_bias + v * LANES, left);
            if (t->addend)
                value += vload_up_to(t->addend + i * t->c_row + v * LANES, left);
            vstore_up_to(c, vlimit(cut, value), left);
        }
    }
}

/* C[rows, columns] (+)= row_bias + A B, A packed [rows, terms], B packed [terms, vectors * LANES] or in place. `rows`, `vectors`
 * and `layout` are constants wherever this is inlined, and so are all strides. */
FDL_INLINE void micro_kernel(const tile *t, const int rows, const int vectors, const int layout)
{
    const bool by_rows = layout == BY_ROWS;
    static const real none[GEMM_ROWS];
    const real *bias = t->row_bias ? t->row_bias : none;
    vreal sum[GEMM_ROWS][2];
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i][v] = vset1(bias[i]);
    }
    FDL_UNROLL
    for (int i = 0; i < rows; i++) /* the tile of C, rows far apart, which the hardware does not see coming */
        for (int v = 0; v < vectors; v++)
            __builtin_prefetch(t->c + i * t->c_row + v * LANES, 1);
    const real *a = t->a, *b = t->b;
    const int64_t b_row = t->b_row;
    int64_t k = t->terms;
    if (layout == IN_PLACE) {
        for (int64_t i = 0; i < k; i++)
            multiply_add(sum, &a, b + t->offset[i], rows, vectors, false);
        k = 0;
    } else if (t->next_a) {
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
                multiply_add(sum, &a, b, rows, vectors, by_rows);
                b += b_row;
            }
            if (by_rows)
                next += 64 - LINE * step;
        }
    }
    for (; k > 0; k--, b += b_row) /* the rest */
        multiply_add(sum, &a, b, rows, vectors, by_rows);
    const bool usual = rows >= GEMM_ROWS - 1; /* blocks of nearly equal height: most are */
    if (t->columns >= vectors * LANES && (usual || !t->accumulate) && !t->column_bias && !t->addend) {
        if (t->accumulate) {
            FDL_UNROLL
            for (int i = 0; i < rows; i++) {
                FDL_UNROLL
                for (int v = 0; v < vectors; v++)
                    sum[i][v] += vload(t->c + i * t->c_row + v * LANES);
            }
        }
        if (t->limits.any) {
            const limits cut = t->limits;
            FDL_UNROLL
            for (int i = 0; i < rows; i++) {
                FDL_UNROLL
                for (int v = 0; v < vectors; v++)
                    sum[i][v] = vlimit(cut, sum[i][v]);
            }
        }
        FDL_UNROLL
        for (int i = 0; i < rows; i++) {
            FDL_UNROLL
            for (int v = 0; v < vectors; v++)
                vstore(t->c + i * t->c_row + v * LANES, sum[i][v]);
        }
        return;
    }
    vreal sums[GEMM_ROWS * 2];
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sums[i * vectors + v] = sum[i][v];
    }
    finish_tile(t, sums, rows, vectors);
}

/* One compiled micro-kernel per number of rows, width and layout of A: micro_kernels[rows - 1]. */
typedef void compiled_kernel(const tile *);
#define KERNEL(rows, vectors, layout)                                                                                  \
    static void kernel_##rows##x##vectors##_##layout(const tile *t) { micro_kernel(t, rows, vectors, layout); }
#define KERNELS(rows)                                                                                                  \
    KERNEL(rows, 1, BY_ROWS)                                                                                           \
    KERNEL(rows, 1, BY_COLUMNS)                                                                                        \
    KERNEL(rows, 1, IN_PLACE)                                                                                          \
    KERNEL(rows, 2, BY_ROWS)                                                                                           \
    KERNEL(rows, 2, BY_COLUMNS)                                                                                        \
    KERNEL(rows, 2, IN_PLACE)
#define ENTRY(rows)                                                                                                    \
    {{kernel_##rows##x1_BY_ROWS, kernel_##rows##x1_BY_COLUMNS, kernel_##rows##x1_IN_PLACE},                            \
     {kernel_##rows##x2_BY_ROWS, kernel_##rows##x2_BY_COLUMNS, kernel_##rows##x2_IN_PLACE}},
#if VECTOR_REGISTERS == 32
#define FOR_ALL_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define FOR_ALL_ROWS(X) X(1) X(2) X(3) X(4) X(5) X(6)
#endif
FOR_ALL_ROWS(KERNELS)
static compiled_kernel *const micro_kernels[GEMM_ROWS][2][LAYOUTS] = {FOR_ALL_ROWS(ENTRY)};

/* The end of one element of few columns. Not inlined: there are hundreds of places, in each of which the compiler would
 * try every combination of its conditions. */
__attribute__((noinline)) static void thin_store(const tile *t, int64_t row, int64_t column, real value)
{
    real *c = t->c + row * t->c_row + column;
    value += t->accumulate ? *c : 0;
    value += t->row_bias ? t->row_bias[row] : 0;
    value += t->column_bias ? t->column_bias[column] : 0;
    value += t->addend ? t->addend[row * t->c_row + column] : 0;
    *c = value < t->limits.low ? t->limits.low : value > t->limits.high ? t->limits.high : value;
}

/* The same for few columns: with a vector of C mostly empty, the vectors run along k instead. A [rows, terms] by rows,
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
        for (; k + LANES <= t->terms; k += LANES) { /* main loop */
            FDL_UNROLL
            for (int r = 0; r < ROWS; r++) {
                const vreal av = vload(a[r] + k);
                FDL_UNROLL
                for (int j = 0; j < columns; j++)
                    sum[r][j] += av * vload(b + j * GEMM_A_STRIDE + k);
            }
        }
        if (k < t->terms) { /* tail */
            const vmask left = vmask_range(0, t->terms - k);
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
            for (int j = 0; j < columns; j++)
                thin_store(t, i + r, j, vsum(sum[r][j]));
        }
    }
}

/* The end of few columns, of `rows` rows from `row` on, from sums [columns] of which each has the rows in its lanes. The
 * others are not stored. */
__attribute__((noinline)) static void finish_thin(const tile *t, int64_t row, int64_t rows, vreal sums[LANES])
{
    if (t->row_bias) {
        const vreal bias = vload_first(t->row_bias + row, rows);
        for (int64_t j = 0; j < t->columns; j++)
            sums[j] += bias;
    }
    vtranspose(sums);
    tile end = *t;
    end.c += row * t->c_row, end.addend = t->addend ? t->addend + row * t->c_row : NULL;
    finish_tile(&end, sums, rows, 1);
}

/* The same for A in panels: vectors run along its rows. */
FDL_INLINE void thin_columns_of_panel(const tile *t, int64_t rows, const real *b, const int columns)
{
    enum { STEPS = 4 }; /* sums that do not wait for each other */
    for (int64_t i = 0; i < rows; i += LANES) {
        const int64_t n = min64(LANES, rows - i);
        const vmask present = vmask_range(0, n);
        const real *a = t->a + i;
        vreal sum[STEPS][GEMM_THIN + 1];
        FDL_UNROLL
        for (int step = 0; step < STEPS; step++) {
            FDL_UNROLL
            for (int j = 0; j < columns; j++)
                sum[step][j] = (vreal){0};
        }
        int64_t k = 0;
        for (; k + STEPS < t->terms; k += STEPS) { /* main loop: lanes past the last row are of the next column */
            FDL_UNROLL
            for (int step = 0; step < STEPS; step++) {
                const vreal av = vload(a + (k + step) * GEMM_A_PANEL);
                FDL_UNROLL
                for (int j = 0; j < columns; j++)
                    sum[step][j] += av * vset1(b[j * GEMM_A_STRIDE + k + step]);
            }
        }
        for (; k < t->terms; k++) { /* tail */
            const vreal av = vload_masked(a + k * GEMM_A_PANEL, present);
            FDL_UNROLL
            for (int j = 0; j < columns; j++)
                sum[0][j] += av * vset1(b[j * GEMM_A_STRIDE + k]);
        }
        vreal totals[LANES] = {{0}};
        FDL_UNROLL
        for (int j = 0; j < columns; j++)
            totals[j] = (sum[0][j] + sum[1][j]) + (sum[2][j] + sum[3][j]);
        finish_thin(t, i, n, totals);
    }
}

FDL_INLINE void thin(const tile *t, int64_t rows, int64_t a_row, const real *b, const int columns)
{
    if (a_row)
        thin_columns(t, rows, a_row, b, columns);
    else
        thin_columns_of_panel(t, rows, b, columns);
}

/* a_row: between the rows of A; 0 where it is a panel. */
static void thin_kernel(const tile *t, int64_t rows, int64_t a_row, const real *b)
{
    switch (t->columns) {
    case 1:
        thin(t, rows, a_row, b, GEMM_THIN < 1 ? GEMM_THIN : 1);
        break;
    case 2:
        thin(t, rows, a_row, b, GEMM_THIN < 2 ? GEMM_THIN : 2);
        break;
    case 3:
        thin(t, rows, a_row, b, GEMM_THIN < 3 ? GEMM_THIN : 3);
        break;
    default:
        thin(t, rows, a_row, b, GEMM_THIN);
    }
}

/* Columns in the panels of B, but the last. */
FDL_INLINE int64_t panel_columns(const gemm_problem *p) { return max64(GEMM_COLUMNS, p->b_panel); }

/* So many columns as whole cache lines hold them. */
FDL_INLINE int64_t whole_lines(int64_t columns) { return ceil_div(columns, LINE) * LINE; }

/* The `width` columns from j on, of a strip's panels, and what is between their rows. */
FDL_INLINE const real *panel_at(const gemm_problem *p, const real *panels, int64_t strip, int64_t terms, int64_t j,
                                int64_t width, int64_t *row)
{
    const int64_t first = p->b_panel ? j - j % p->b_panel : j;
    *row = p->b_panel ? min64(p->b_panel, whole_lines(strip - first)) : width;
    return panels + first * terms + (j - first);
}

/* Where the last panel of a strip is thin: its columns as rows of `out`, for thin_kernel. */
static void unpack_thin(const gemm_problem *p, const real *panels, int64_t strip, int64_t terms, real *out)
{
    const int64_t columns = strip % LANES;
    int64_t row;
    const real *panel = panel_at(p, panels, strip, terms, strip - columns, LANES, &row);
    if (columns <= GEMM_THIN)
        for (int64_t j = 0; j < columns; j++)
            for (int64_t k = 0; k < terms; k++)
                out[j * GEMM_A_STRIDE + k] = panel[k * row + j];
}

/* out = A[row : row + rows, : terms], of an A by rows. */
static void pack_rows(const gemm_matrix *a, int64_t row, int64_t rows, int64_t terms, real *out)
{
    for (int64_t i = 0; i < rows && terms > 0; i++) /* of no terms there is no A */
        memcpy(out + i * GEMM_A_STRIDE, a->data + (row + i) * a->row, (size_t)terms * sizeof(real));
}

/* The terms [0, terms) of `count` panels of `panel` rows, of which the last has `last`, from columns [terms, rows]: in each
 * term side by side, so that columns are read in stretches that the prefetcher sees. Panels are `step` apart. */
FDL_INLINE void fill_panels(const real *columns, int64_t row, int64_t terms, int64_t panel, int64_t last, real *packed,
                            int64_t step, const int count)
{
    for (int64_t k = 0; k < terms; k++, columns += row, packed += GEMM_A_PANEL) {
        FDL_UNROLL
        for (int i = 0; i < count; i++) {
            __builtin_prefetch(columns + 6 * row + i * panel);
            const int64_t rows = i < count - 1 ? panel : last;
            for (int64_t l = 0; l < GEMM_A_PANEL; l += LANES)
                vstore_up_to(packed + i * step + l, vload_up_to(columns + i * panel + l, max64(0, rows - l)),
                             GEMM_A_PANEL - l);
        }
    }
}

/* The same of up to GROUP panels, each whole. */
static void fill_group(const real *columns, int64_t row, int64_t terms, int64_t panel, real *packed, int64_t step,
                       int64_t count)
{
    if (count == GROUP)
        fill_panels(columns, row, terms, panel, panel, packed, step, GROUP);
    else
        for (int64_t i = 0; i < count; i++)
            fill_panels(columns + i * panel, row, terms, panel, panel, packed + i * step, step, 1);
}

/* Where a tile of C is. */
typedef struct {
    const gemm_problem *p;
    int64_t row, rows, column;
} tile_of;

/* Copy a tile that lies in several blocks of c, which is C or laid out like it, to or from `copy`
 * [rows, GEMM_COLUMNS]. */
static void move_tile(const tile_of *w, real *c_start, int64_t columns, real *copy, bool to_copy)
{
    const gemm_problem *p = w->p;
    for (int64_t done = 0, length; done < columns; done += length) {
        const int64_t block = (w->column + done) / p->c_block, offset = (w->column + done) % p->c_block;
        length = min64(columns - done, p->c_block - offset);
        real *c = c_start + block * p->c_step + w->row * p->c_row + offset;
        for (int64_t i = 0; i < w->rows; i++, c += p->c_row)
            for (int64_t j = 0; j < length; j++) {
                if (to_copy)
                    copy[i * GEMM_COLUMNS + done + j] = c[j];
                else
                    c[j] = copy[i * GEMM_COLUMNS + done + j];
            }
    }
}

/* Compute a tile with `kernel`, or with thin_kernel if that is NULL, where its columns of C lie in several blocks, or it
 * has addends. */
static void run_tile(tile *t, const tile_of *w, compiled_kernel *kernel, int64_t a_row, const real *thin)
{
    const gemm_problem *p = w->p;
    real copy[GEMM_ROWS * GEMM_COLUMNS], addend[GEMM_ROWS * GEMM_COLUMNS];
    bool copied = false;
    t->c = p->c + w->row * p->c_row + w->column;
    if (p->c_block) {
        const int64_t block = w->column / p->c_block, offset = w->column % p->c_block;
        t->c = p->c + block * p->c_step + w->row * p->c_row + offset;
        copied = offset + t->columns > p->c_block;
    }
    if (t->addend)
        t->addend = p->addend + (t->c - p->c);
    if (copied) {
        t->c = copy, t->c_row = GEMM_COLUMNS;
        if (t->accumulate)
            move_tile(w, p->c, t->columns, copy, true);
        if (t->addend) {
            move_tile(w, (real *)p->addend, t->columns, addend, true); /* only read */
            t->addend = addend;
        }
    }
    if (kernel)
        kernel(t);
    else
        thin_kernel(t, w->rows, a_row, thin);
    if (t->later)
        activate_stored(t->later, t->c, t->c_row, w->rows, t->columns);
    if (copied)
        move_tile(w, p->c, t->columns, copy, false);
}

int64_t gemm_packed_columns_size(int64_t m, int64_t k, int64_t panel) { return ceil_div(m, panel) * GEMM_A_PANEL * k; }

int64_t gemm_packed_size(int64_t m, int64_t k) { return gemm_packed_columns_size(m, k, GEMM_A_PANEL); }

/* Where row `row` of the slice [k, k + terms) lies in a packed A of m rows. */
FDL_INLINE int64_t packed_offset(int64_t m, int64_t panel, int64_t row, int64_t k, int64_t terms)
{
    const int64_t rows = ceil_div(m, panel) * GEMM_A_PANEL;
    return rows * k + row / panel * GEMM_A_PANEL * terms + row % panel;
}
FDL_INLINE int64_t panel_rows(const gemm_packed *a) { return a->panel ? a->panel : GEMM_A_PANEL; }
FDL_INLINE const real *packed_row(const gemm_packed *a, int64_t row, int64_t k, int64_t terms)
{
    return a->data + packed_offset(a->m, panel_rows(a), a->row + row, k, terms);
}

/* One panel [terms, GEMM_A_PANEL] of the `rows` rows from `from` on, `stride` apart; the others are 0. */
static void pack_panel(const real *from, int64_t stride, int64_t rows, int64_t terms, real *panel)
{
    for (int64_t i = 0; i < GEMM_A_PANEL; i += LANES)
        for (int64_t j = 0; j < terms; j += LANES) {
            const int64_t deep = min64(LANES, terms - j);
            vreal block[LANES];
            FDL_UNROLL
            for (int r = 0; r < LANES; r++)
                block[r] = i + r < rows ? vload_up_to(from + (i + r) * stride + j, deep) : (vreal){0};
            vtranspose(block);
            for (int64_t r = 0; r < deep; r++)
                vstore_up_to(panel + (j + r) * GEMM_A_PANEL + i, block[r], min64(LANES, GEMM_A_PANEL - i));
        }
}

void gemm_pack_rows(const gemm_matrix *a, int64_t row, int64_t row_end, int64_t m, int64_t k_total, real *packed)
{
    const int64_t slices = gemm_slices(k_total);
    for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
        terms = gemm_slice_terms(k_total, k, slices - slice);
        for (int64_t i = row; i < row_end; i += GEMM_A_PANEL)
            pack_panel(a->data + (i - row) * a->row + k, a->row, min64(GEMM_A_PANEL, row_end - i), terms,
                       packed + packed_offset(m, GEMM_A_PANEL, i, k, terms));
    }
}

void gemm_pack(const gemm_matrix *a, int64_t m, int64_t k, real *packed) { gemm_pack_rows(a, 0, m, m, k, packed); }

void gemm_pack_a_columns(const real *columns, int64_t row, int64_t k, int64_t terms, int64_t k_total, int64_t m,
                         int64_t panel, real *packed)
{
    const int64_t slices = gemm_slices(k_total), k_end = k + terms;
    for (int64_t slice = 0, first = 0, deep; slice < slices; slice++, first += deep) {
        deep = gemm_slice_terms(k_total, first, slices - slice);
        const int64_t begin = max64(k, first), count = min64(k_end, first + deep) - begin;
        if (count <= 0)
            continue;
        const int64_t step = GEMM_A_PANEL * deep;
        const real *from = columns + (begin - k) * row;
        real *to = packed + packed_offset(m, panel, 0, first, deep) + (begin - first) * GEMM_A_PANEL;
        int64_t i = 0;
        for (; i + GROUP * panel <= m; i += GROUP * panel, to += GROUP * step)
            fill_panels(from + i, row, count, panel, panel, to, step, GROUP);
        for (; i < m; i += panel, to += step)
            fill_panels(from + i, row, count, panel, min64(panel, m - i), to, step, 1);
    }
}

/* ---- operands where they lie: loose.h ---- */

/* The end of a product: sums into C, with what is fused into it. */
static void finish_loose(const void *context, int64_t row, int64_t rows, int64_t column, int64_t columns,
                         const real *sums, int64_t sums_row)
{
    const gemm_problem *p = context;
    const limits cut = limits_of(&p->activation);
    const bool plain = !p->accumulate && !p->row_bias && !p->addend; /* as most are */
    /* Where there is nothing to add or to limit, these leave every number as it is. */
    const vreal nothing = vset1((real)-0.0);
    for (int64_t i = 0; i < rows; i++) {
        const int64_t at = (row + i) * p->c_row + column;
        const int64_t whole = plain ? columns / LANES * LANES : 0;
        for (int64_t j = 0; j < whole; j += LANES) {
            const vreal value =
                vload(sums + i * sums_row + j) + (p->column_bias ? vload(p->column_bias + column + j) : nothing);
            vstore(p->c + at + j, vlimit(cut, value));
        }
        const vreal row_bias = vset1(p->row_bias ? p->row_bias[row + i] : 0);
        for (int64_t j = whole; j < columns; j += LANES) {
            const int64_t left = columns - j;
            vreal value = vload(sums + i * sums_row + j);
            if (p->accumulate)
                value += vload_up_to(p->c + at + j, left);
            if (p->row_bias)
                value += row_bias;
            if (p->column_bias)
                value += vload_up_to(p->column_bias + column + j, left);
            if (p->addend)
                value += vload_up_to(p->addend + at + j, left);
            vstore_up_to(p->c + at + j, vlimit(cut, value), left);
        }
    }
    activate_stored(&p->activation, p->c + row * p->c_row + column, p->c_row, rows, columns);
}

static bool is_loose(const gemm_problem *p)
{
    const gemm_matrix *b = p->b;
    if (p->pack_b != gemm_matrix_b || p->pack_a || p->packed_a.data || p->c_block || !loose_can(&p->a, b))
        return false;
    return !fdl_get_deterministic() && loose_pays(b, p->m, p->n, p->k);
}

/* The end of a product's transpose: sums[j * sums_row + i] belongs to (column + i, row + j) of C. */
static void finish_turned(const void *context, int64_t row, int64_t rows, int64_t column, int64_t columns,
                          const real *sums, int64_t sums_row)
{
    for (int64_t j = 0; j < rows; j += LANES)
        for (int64_t i = 0; i < columns; i += LANES) {
            vreal block[LANES];
            for (int64_t r = 0; r < LANES; r++)
                block[r] = vload(sums + min64(j + r, rows - 1) * sums_row + i);
            vtranspose(block);
            finish_loose(context, column + i, min64(LANES, columns - i), row + j, min64(LANES, rows - j),
                         (const real *)block, LANES);
        }
}

/* Whether vectors along C's columns would be so empty that its transpose, B^T A^T, takes less of them; A has to lie by
 * columns for it. */
static bool is_turned(const gemm_problem *p, const gemm_matrix *b)
{
    return p->a.row == 1 && b->column == 1 && 4 * p->m * ceil_div(p->n, LANES) > 5 * p->n * ceil_div(p->m, LANES);
}

/* Of the terms [k, k_end). */
static int loose_block(const gemm_problem *p, const gemm_range *range, int64_t k, int64_t k_end)
{
    const gemm_matrix *b_all = p->b;
    const gemm_matrix a = {p->a.data + k * p->a.column, p->a.row, p->a.column};
    const gemm_matrix b = {b_all->data + k * b_all->row, b_all->row, b_all->column};
    if (is_turned(p, &b)) {
        const gemm_matrix b_turned = {b.data, 1, b.row}, a_turned = {a.data, a.column, 1};
        loose_product(&b_turned, &a_turned, range->column, range->column_end, range->row, range->row_end, k_end - k,
                      NULL, 0, finish_turned, p);
        return FDL_OK;
    }
    const bool plain =
        !p->accumulate && !p->row_bias && !p->column_bias && !p->addend && p->activation.kind == FDL_ACTIVATION_NONE;
    loose_product(&a, &b, range->row, range->row_end, range->column, range->column_end, k_end - k, plain ? p->c : NULL,
                  p->c_row, finish_loose, p);
    return FDL_OK;
}

/* ---- B packed beforehand ---- */

int64_t gemm_packed_b_size(int64_t k, int64_t n) { return k * whole_lines(n); }

void gemm_pack_b_columns(const gemm_matrix *b, int64_t k_total, int64_t n, int64_t panel, real *packed)
{
    const int64_t slices = gemm_slices(k_total);
    for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
        terms = gemm_slice_terms(k_total, k, slices - slice);
        for (int64_t j = 0; j < n; j += panel)
            gemm_transpose_panel(b->data + j * b->column + k, b->column, terms, min64(panel, n - j),
                                 min64(panel, whole_lines(n - j)), packed + k * whole_lines(n) + j * terms);
    }
}

const real *gemm_packed_b(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    (void)columns, (void)out;
    const gemm_packed_columns *b = context;
    return b->data + k * whole_lines(b->n) + column * terms;
}

/* Whether there are so few terms that tiles take longer to begin and to end than for their sums. */
static bool has_few_terms(const gemm_problem *p)
{
    return p->k > 0 && p->k <= LOOSE_FEW_TERMS && p->n >= LANES && p->a.column == 1 && !p->pack_a &&
           (p->pack_b == gemm_matrix_b || p->pack_b == gemm_packed_b) && !p->packed_a.data && !p->c_block &&
           !p->accumulate && !p->row_bias && !p->addend;
}

/* Rows of C that stay in the first-level cache until they are activated. */
static int few_terms_block(const gemm_problem *p, const gemm_range *range)
{
    enum { BYTES = 16384, WIDTH = 512 };
    const bool packed = p->pack_b == gemm_packed_b;
    const gemm_matrix *all = p->b;
    real turned[LOOSE_FEW_TERMS * (WIDTH + LANES)]; /* [k, columns] of B where it lies by columns */
    for (int64_t j = range->column, columns; j < range->column_end; j += columns) {
        const int64_t first = packed ? j - j % GEMM_B_PANEL : j;
        gemm_matrix b;
        columns = min64(packed ? first + GEMM_B_PANEL - j : WIDTH, range->column_end - j);
        if (packed) {
            b = (gemm_matrix){NULL, min64(GEMM_B_PANEL, whole_lines(p->n - first)), 1};
            b.data = gemm_packed_b(p->b, 0, p->k, first, b.row, NULL) + (j - first);
        } else if (all->column == 1) {
            b = (gemm_matrix){all->data + j, all->row, 1};
        } else {
            b = (gemm_matrix){turned, ceil_div(columns, LANES) * LANES, 1};
            gemm_transpose_panel(all->data + j * all->column, all->column, p->k, columns, b.row, turned);
        }
        const int64_t most = max64(1, BYTES / (int64_t)sizeof(real) / columns);
        for (int64_t i = range->row, rows; i < range->row_end; i += rows) {
            rows = min64(most, range->row_end - i);
            const gemm_matrix a = {p->a.data + i * p->a.row, p->a.row, p->a.column};
            real *c = p->c + i * p->c_row + j;
            loose_few_terms(&a, &b, rows, columns, p->k, p->column_bias ? p->column_bias + j : NULL,
                            limits_of(&p->activation), c, p->c_row);
            activate_stored(&p->activation, c, p->c_row, rows, columns);
        }
    }
    return FDL_OK;
}

/* As packed_block, of such a B and few rows: panel by panel, A where it lies. */
static int few_rows_block(const gemm_problem *p, const gemm_range *range, int64_t k_begin, int64_t k_end)
{
    const gemm_packed_columns *packed = p->b;
    const int64_t slices = gemm_slices(p->k);
    gemm_problem part = *p;
    for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
        terms = gemm_slice_terms(p->k, k, slices - slice);
        if (k < k_begin || k >= k_end)
            continue;
        const bool last = slice == slices - 1;
        part.column_bias = last ? p->column_bias : NULL;
        part.activation.kind = last ? p->activation.kind : FDL_ACTIVATION_NONE;
        const bool plain = !part.accumulate && !part.column_bias && part.activation.kind == FDL_ACTIVATION_NONE;
        const gemm_matrix a = {p->a.data + k, p->a.row, 1};
        for (int64_t j = range->column, end; j < range->column_end; j = end) {
            const int64_t first = j - j % GEMM_B_PANEL, width = min64(GEMM_B_PANEL, whole_lines(p->n - first));
            const real *panel = gemm_packed_b(packed, k, terms, first, width, NULL);
            end = min64(first + width, range->column_end);
            const gemm_matrix b = {(real *)((uintptr_t)panel - (uintptr_t)first * sizeof(real)), width, 1};
            loose_product(&a, &b, range->row, range->row_end, j, end, terms, plain ? p->c : NULL, p->c_row,
                          finish_loose, &part);
        }
        part.accumulate = true;
    }
    return FDL_OK;
}

/* Whether panels of B are read where they lie, one after the other: the rows of A, packed beforehand, are few and stay in
 * the first-level cache, and those of B are not all in the same few sets of it. */
static bool is_by_panels(const gemm_problem *p)
{
    if (p->pack_b != gemm_matrix_b || !p->packed_a.data || p->k_slice || p->k > GEMM_K)
        return false;
    const gemm_matrix *b = p->b;
    return b->column == 1 && b->row * (int64_t)sizeof(real) % 1024 != 0 && p->m <= 6 * GEMM_ROWS &&
           p->m * p->k <= SMALL_A;
}

/* Where the panels of a B packed beforehand go on after those of a slice and a strip: the next slice, or the first one of
 * the columns beside, or what is packed after it all, whoever computes that; NULL: nowhere. */
static const real *panels_after(const gemm_problem *p, int64_t k, int64_t terms, int64_t column, int64_t strip)
{
    if (p->pack_b != gemm_packed_b)
        return NULL;
    if (k + terms < p->k)
        return gemm_packed_b(p->b, k + terms, 0, column, strip, NULL);
    const int64_t first = gemm_slice_terms(p->k, 0, gemm_slices(p->k));
    return gemm_packed_b(p->b, 0, first, column + strip, 0, NULL);
}

/* How many of the next blocks have `rows` rows, at most GROUP. */
static int64_t blocks_alike(int64_t left, int64_t rows)
{
    int64_t count = 0;
    for (; count < GROUP && left > 0 && gemm_block_height(left) == rows; left -= rows)
        count++;
    return count;
}

/* Of the slices that begin in [k_begin, k_end). */
static int packed_block(const gemm_problem *p, const gemm_range *range, int64_t k_begin, int64_t k_end)
{
    if (p->pack_b == gemm_packed_b && p->b_panel == GEMM_B_PANEL && p->m <= FEW_ROWS)
        return few_rows_block(p, range, k_begin, k_end);
    const int64_t columns = range->column_end - range->column;
    const bool steady = p->steady || fdl_get_deterministic();
    /* Slices of equal terms unless it is given, strips of equal width. */
    const int64_t slices = p->k_slice ? max64(1, ceil_div(p->k, p->k_slice)) : gemm_slices(p->k);
    const int64_t most_depth = p->k_slice ? min64(p->k, p->k_slice) : ceil_div(p->k, slices);
    const int64_t panel = panel_columns(p);
    const bool by_panels = is_by_panels(p);
    const int64_t fit = STRIP_BYTES / (int64_t)sizeof(real) / max64(1, most_depth);
    const int64_t most_strip = by_panels ? 1 : max64(1, fit / panel);
    const int64_t panels = ceil_div(columns, panel), strips = ceil_div(panels, most_strip);
    const int64_t strip_columns = ceil_div(panels, strips) * panel;

    const bool by_rows = p->pack_a || (!p->packed_a.data && p->a.column == 1);
    const int layout = by_rows ? BY_ROWS : BY_COLUMNS;
    const fdl_mark mark = fdl_scratch_mark();
    real *packed_b = fdl_scratch(strip_columns * most_depth * (int64_t)sizeof(real));
    real *packed_a = fdl_scratch((by_rows ? 1 : GROUP) * GEMM_A_PANEL * GEMM_A_STRIDE * (int64_t)sizeof(real));
    real *packed_thin = fdl_scratch(GEMM_THIN * GEMM_A_STRIDE * (int64_t)sizeof(real));
    if (!packed_a || !packed_b || !packed_thin) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    for (int64_t column = range->column; column < range->column_end; column += strip_columns) {
        const int64_t strip = min64(strip_columns, range->column_end - column);
        bool begins = true;
        for (int64_t k = 0, slice = 0; slice < slices; slice++) {
            const int64_t left = slices - slice;
            const int64_t terms = p->k_slice ? min64(p->k_slice, p->k - k) : gemm_slice_terms(p->k, k, left);
            if (k < k_begin || k >= k_end) {
                k += terms;
                continue;
            }
            const bool first = begins, last = slice == slices - 1;
            begins = false;
            const gemm_matrix *lies = by_panels && strip == GEMM_COLUMNS ? p->b : NULL;
            const real *panels =
                lies ? lies->data + k * lies->row + column : p->pack_b(p->b, k, terms, column, strip, packed_b);
            if (!steady)
                unpack_thin(p, panels, strip, terms, packed_thin);
            const real *next_b = p->b_step ? panels + p->b_step : panels_after(p, k, terms, column, strip);
            int64_t fetched = next_b ? 0 : strip;      /* columns of the B to come */
            int64_t group = 0, group_end = range->row; /* the rows of A by columns that are packed */
            for (int64_t row = range->row, rows; row < range->row_end; row += rows) {
                rows = p->packed_a.data ? gemm_packed_rows(p->packed_a.row + row, p->packed_a.row + range->row_end,
                                                           panel_rows(&p->packed_a))
                                        : gemm_block_height(range->row_end - row);
                const bool more = row + rows < range->row_end;
                const real *a = packed_a, *next_a = NULL;
                int64_t a_row = layout == BY_ROWS ? GEMM_A_STRIDE : 0,
                        next_step = layout == BY_ROWS ? p->a.row : p->a.column;
                if (p->packed_a.data) {
                    a = packed_row(&p->packed_a, row, k, terms), next_step = GEMM_A_PANEL;
                    next_a = more ? packed_row(&p->packed_a, row + rows, k, terms) : last ? p->a_next : NULL;
                } else if (p->pack_a) {
                    p->pack_a(p->a_context, row, rows, k, terms, packed_a);
                } else {
                    const gemm_matrix from = {p->a.data + k * p->a.column, p->a.row, p->a.column};
                    next_a = more ? from.data + (row + rows) * from.row : NULL;
                    if (!by_rows) { /* fetched ahead: a line of what comes after the group */
                        const int64_t step = GEMM_A_PANEL * terms;
                        if (row == group_end) {
                            const int64_t count = blocks_alike(range->row_end - row, rows);
                            group = row, group_end = row + count * rows;
                            fill_group(from.data + row, from.column, terms, rows, packed_a, step, count);
                        }
                        const int64_t block = (row - group) / rows, next = group_end + block * LINE;
                        a = packed_a + block * step;
                        next_a = next < range->row_end ? from.data + next : NULL;
                    } else if (strip <= GEMM_THIN && !steady) { /* each element is read once: where it lies */
                        a = from.data + row * from.row, a_row = from.row;
                    } else {
                        pack_rows(&from, row, rows, terms, packed_a);
                    }
                }
                tile t = {
                    .a = a,
                    .terms = terms,
                    .c_row = p->c_row,
                    .accumulate = p->accumulate || !first,
                    .row_bias = last && p->row_bias ? p->row_bias + row : NULL,
                    .limits = last ? limits_of(&p->activation) : no_limits,
                    .later = last && p->c_block ? &p->activation : NULL,
                };
                const real *column_bias = last ? p->column_bias : NULL;
                compiled_kernel *const(*kernels)[LAYOUTS] = micro_kernels[rows - 1];
                for (int64_t j = 0, width; j < strip; j += width) {
                    width = gemm_panel_width(strip - j);
                    t.columns = min64(strip - j, width);
                    /* A, late enough that it is not evicted before it is wanted; rather B, which is from farther: what
                     * other tiles take of it, where they are the first to. */
                    t.next_a = strip - j - width <= GEMM_THIN ? next_a : NULL, t.next_step = next_step;
                    if (fetched < strip) /* LINE columns, as if they were as many rows, or as many terms one by one */
                        t.next_a = next_b + fetched * terms, t.next_step = by_rows ? terms : LINE;
                    else if (lies && row == range->row && column + width < range->column_end)
                        t.next_a = panels + width, t.next_step = lies->row;
                    fetched += LINE;
                    t.b = panel_at(p, panels, strip, terms, j, width, &t.b_row);
                    if (lies)
                        t.b_row = lies->row;
                    t.column_bias = column_bias ? column_bias + column + j : NULL;
                    const bool is_thin = t.columns <= GEMM_THIN && !steady;
                    compiled_kernel *kernel = kernels[width / LANES - 1][layout];
                    if (is_thin || p->c_block || p->addend) {
                        t.addend = last ? p->addend : NULL; /* run_tile finds its place */
                        t.c_row = p->c_row;
                        run_tile(&t, &(tile_of){p, row, rows, column + j}, is_thin ? NULL : kernel, a_row, packed_thin);
                    } else {
                        t.c = p->c + row * p->c_row + column + j;
                        kernel(&t);
                    }
                }
                if (last && !p->c_block) /* long rows at once: a tile's are of two vectors */
                    activate_stored(&p->activation, p->c + row * p->c_row + column, p->c_row, rows, strip);
            }
            k += terms;
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* Sums of more than `piece` terms: C is computed, a block of it at a time, from so many of them, and those are added up
 * as sums.h says. */
static int long_block(const gemm_problem *p, const gemm_range *range, bool loose, int64_t piece)
{
    enum { ROWS = 16 * GEMM_A_PANEL, COLUMNS = 16 * GEMM_COLUMNS };
    const fdl_mark mark = fdl_scratch_mark();
    real *sums = fdl_scratch(3 * ROWS * COLUMNS * (int64_t)sizeof(real)); /* [ROWS, COLUMNS], like high and low */
    real *high = sums + ROWS * COLUMNS, *low = high + ROWS * COLUMNS;
    int status = sums ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t row = range->row, rows; row < range->row_end && status == FDL_OK; row += rows) {
        rows = min64(ROWS, range->row_end - row);
        for (int64_t column = range->column, columns; column < range->column_end && status == FDL_OK;
             column += columns) {
            columns = min64(COLUMNS, range->column_end - column);
            const int64_t block = p->c_block ? column / p->c_block : 0;
            if (p->c_block)
                columns = min64(columns, (block + 1) * p->c_block - column);
            gemm_problem part = *p, end = *p;
            part.c = (real *)((uintptr_t)sums - (uintptr_t)(row * COLUMNS + column) * sizeof(real));
            part.c_row = COLUMNS, part.c_block = 0, part.accumulate = false, part.a_next = NULL;
            part.row_bias = part.column_bias = part.addend = NULL;
            part.activation = (activation){.kind = FDL_ACTIVATION_NONE};
            memset(high, 0, 2 * ROWS * COLUMNS * sizeof(real));
            for (int64_t k = 0; k < p->k && status == FDL_OK; k += piece) {
                const gemm_range of = {row, row + rows, column, column + columns};
                const int64_t k_end = min64(k + piece, p->k);
                status = loose ? loose_block(&part, &of, k, k_end) : packed_block(&part, &of, k, k_end);
                for (int64_t i = 0; i < rows && status == FDL_OK; i++)
                    total_add(high + i * COLUMNS, low + i * COLUMNS, sums + i * COLUMNS, columns);
            }
            total_finish(high, low, rows * COLUMNS);
            const int64_t moved = block * (p->c_step - p->c_block);
            end.c += moved, end.addend = p->addend ? p->addend + moved : NULL;
            if (status == FDL_OK)
                finish_loose(&end, row, rows, column, columns, high, COLUMNS);
        }
    }
    fdl_scratch_release(mark);
    return status;
}

int gemm_block(const gemm_problem *p, gemm_range range)
{
    const int64_t columns = range.column_end - range.column;
    if (range.row >= range.row_end || columns <= 0)
        return FDL_OK;
    /* Terms that are summed as they come: sums of vectors' lanes are of fewer, slices are blocks themselves. */
    if (has_few_terms(p))
        return few_terms_block(p, &range);
    enum { IN_ROWS = 1 << 13, IN_COLUMNS = IN_ROWS * LANES, IN_SLICES = GEMM_K << 8 };
    const bool loose = is_loose(p);
    const int64_t piece = !loose ? IN_SLICES : ((const gemm_matrix *)p->b)->column == 1 ? IN_ROWS : IN_COLUMNS;
    if (p->k > piece)
        return long_block(p, &range, loose, piece);
    return loose ? loose_block(p, &range, 0, p->k) : packed_block(p, &range, 0, max64(1, p->k));
}

void gemm_in_place(const gemm_problem *p, int64_t row, int64_t rows, const real *a, const real *b,
                   const int64_t *offset)
{
    for (int64_t j = 0, width; j < p->n; j += width) {
        width = p->n - j <= LANES ? LANES : GEMM_COLUMNS;
        const int64_t c = row * p->c_row + j;
        const tile t = {
            .a = a,
            .b = b + j,
            .offset = offset,
            .terms = p->k,
            .c = p->c + c,
            .c_row = p->c_row,
            .columns = min64(p->n - j, width),
            .accumulate = p->accumulate,
            .row_bias = p->row_bias ? p->row_bias + row : NULL,
            .addend = p->addend ? p->addend + c : NULL,
            .limits = limits_of(&p->activation),
        };
        micro_kernels[rows - 1][width / LANES - 1][IN_PLACE](&t);
        activate_stored(&p->activation, t.c, t.c_row, rows, t.columns);
    }
}

gemm_range gemm_split(const gemm_problem *p, int64_t parts, int64_t index)
{
    gemm_range range = {0, p->m, 0, p->n};
    const int64_t panel = panel_columns(p), panels = ceil_div(p->n, panel);
    if (panels >= 4 * parts || p->n >= p->m) {
        range.column = min64(p->n, panels * index / parts * panel);
        range.column_end = min64(p->n, panels * (index + 1) / parts * panel);
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
    if (work.parts <= 1)
        return gemm_block(p, (gemm_range){0, p->m, 0, p->n});
    return fdl_parallel(work.parts, 1, split_task, &work);
}

const real *gemm_matrix_b(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const gemm_matrix *b = context;
    const real *from = b->data + k * b->row + column * b->column;
    int64_t j = 0;
    if (b->column == 1) {
        enum { GROUP = 4 }; /* panels side by side: rows are then read in stretches that the prefetcher sees */
        for (; j + GROUP * GEMM_COLUMNS <= columns; j += GROUP * GEMM_COLUMNS)
            for (int64_t i = 0; i < terms; i++) { /* main loop */
                FDL_UNROLL
                for (int v = 0; v < 2 * GROUP; v++)
                    __builtin_prefetch(from + (i + 6) * b->row + j + v * LANES);
                FDL_UNROLL
                for (int v = 0; v < 2 * GROUP; v++)
                    vstore(out + (j + v / 2 * GEMM_COLUMNS) * terms + i * GEMM_COLUMNS + v % 2 * LANES,
                           vload(from + i * b->row + j + v * LANES));
            }
    }
    for (int64_t width; j < columns; j += width) { /* tail, and transposes */
        width = gemm_panel_width(columns - j);
        const int64_t present = min64(columns - j, width);
        if (b->column != 1) {
            gemm_transpose_panel(from + j * b->column, b->column, terms, present, width, out + j * terms);
            continue;
        }
        for (int64_t v = 0; v < width; v += LANES) {
            const vmask lanes = vmask_range(0, max64(0, min64(present - v, LANES)));
            for (int64_t i = 0; i < terms; i++)
                vstore(out + j * terms + i * width + v, vload_masked(from + i * b->row + j + v, lanes));
        }
    }
    return out;
}

void gemm_transpose_panel(const real *from, int64_t stride, int64_t terms, int64_t columns, int64_t width, real *out)
{
    for (int64_t j = 0; j < width; j += LANES) {
        const int64_t present = max64(0, min64(columns - j, LANES));
        for (int64_t i = 0; i < terms; i += LANES) {
            const int64_t deep = min64(terms - i, LANES);
            vreal block[LANES];
            if (present == LANES && deep == LANES) { /* main loop */
                vload_transposed(from + j * stride + i, stride, block);
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

typedef struct {
    const real *x;
    int64_t row, rows;
    real *sums;
    bool accumulate;
} column_sums;

static int column_sums_range(void *context, int64_t begin, int64_t end)
{
    const column_sums *s = context;
    enum { WIDTH = 256, TOGETHER = 8 };
    for (int64_t first = begin; first < end; first += WIDTH) {
        const int64_t width = min64(WIDTH, end - first);
        const real *x = s->x + first;
        double sum[WIDTH] = {0};
        int64_t i = 0;
        for (; i + TOGETHER <= s->rows; i += TOGETHER, x += TOGETHER * s->row) /* main loop */
            for (int64_t j = 0; j < width; j++)
                for (int r = 0; r < TOGETHER; r++)
                    sum[j] += (double)x[r * s->row + j];
        for (; i < s->rows; i++, x += s->row) /* tail */
            for (int64_t j = 0; j < width; j++)
                sum[j] += (double)x[j];
        for (int64_t j = 0; j < width; j++)
            s->sums[first + j] = s->accumulate ? s->sums[first + j] + (real)sum[j] : (real)sum[j];
    }
    return FDL_OK;
}

int gemm_column_sums(const real *x, int64_t row, int64_t rows, int64_t columns, real *sums, bool accumulate)
{
    column_sums s = {x, row, rows, sums, accumulate};
    return fdl_parallel(columns, max64(64, (1 << 16) / max64(1, rows)), column_sums_range, &s);
}
