/* See loose.h. */
#include "product/loose.h"

enum {
    MOST_SUMS = VECTOR_REGISTERS == 32 ? 24 : 12, /* vectors in registers */
    AHEAD = 8,                                    /* rows of B that are fetched before they are used */
};

/* ---- B's rows are contiguous ---- */

/* One tile: sums[i * sums_row + v * LANES] (+)= of `rows` rows and `vectors` vectors, which are constants wherever this
 * is inlined; a[i * a_row + k * a_step], b[k * b_row + v * LANES], of whose last vector there are `last` lanes. */
FDL_INLINE void rows_tile(const real *a, int64_t a_row, int64_t a_step, const real *b, int64_t b_row, int64_t terms,
                          int64_t last, real *sums, int64_t sums_row, bool accumulate, const int rows,
                          const int vectors, const bool far)
{
    vreal sum[MOST_SUMS];
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            sum[i * vectors + v] = accumulate ? vload(sums + i * sums_row + v * LANES) : (vreal){0};
    }
    for (int64_t k = 0; k < terms; k++, a += a_step, b += b_row) {
        vreal bv[MOST_SUMS];
        for (int v = 0; far && v < vectors; v++)
            __builtin_prefetch(b + AHEAD * b_row + v * LANES);
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            bv[v] = v < vectors - 1 ? vload(b + v * LANES) : vload_up_to(b + v * LANES, last);
        for (int v = 0; v < vectors && rows > 1 && (rows + 1) * vectors < VECTOR_REGISTERS; v++)
            bv[v] = vkeep(bv[v]); /* there are registers enough: loaded once, not for every row */
        FDL_UNROLL
        for (int i = 0; i < rows; i++) {
            const vreal av = vset1(a[i * a_row]);
            FDL_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[i * vectors + v] += av * bv[v];
        }
    }
    FDL_UNROLL
    for (int i = 0; i < rows; i++) {
        FDL_UNROLL
        for (int v = 0; v < vectors; v++)
            vstore(sums + i * sums_row + v * LANES, sum[i * vectors + v]);
    }
}

typedef void compiled_rows(const real *a, int64_t a_row, int64_t a_step, const real *b, int64_t b_row, int64_t terms,
                           int64_t last, real *sums, int64_t sums_row, bool accumulate);
#define TILE_OF(rows, vectors, far)                                                                                    \
    static void rows_##rows##x##vectors##_##far(const real *a, int64_t a_row, int64_t a_step, const real *b,           \
                                                int64_t b_row, int64_t terms, int64_t last, real *sums,                \
                                                int64_t sums_row, bool accumulate)                                     \
    {                                                                                                                  \
        rows_tile(a, a_row, a_step, b, b_row, terms, last, sums, sums_row, accumulate, rows, vectors, far);            \
    }
#define TILE(rows, vectors) TILE_OF(rows, vectors, 0) TILE_OF(rows, vectors, 1)
#define ENTRY(rows, vectors) {rows_##rows##x##vectors##_0, rows_##rows##x##vectors##_1},
#define UP_TO_1(X, rows) X(rows, 1)
#define UP_TO_2(X, rows) UP_TO_1(X, rows) X(rows, 2)
#define UP_TO_3(X, rows) UP_TO_2(X, rows) X(rows, 3)
#define UP_TO_4(X, rows) UP_TO_3(X, rows) X(rows, 4)
#define UP_TO_6(X, rows) UP_TO_4(X, rows) X(rows, 5) X(rows, 6)
#define UP_TO_8(X, rows) UP_TO_6(X, rows) X(rows, 7) X(rows, 8)
#if VECTOR_REGISTERS == 32
#define HEIGHTS(X) X(1, 8) X(2, 8) X(3, 8) X(4, 6) X(5, 4) X(6, 4) X(7, 3) X(8, 3)
#else
#define HEIGHTS(X) X(1, 8) X(2, 6) X(3, 4) X(4, 3) X(5, 2) X(6, 2)
#endif
#define TILES(rows, widest) UP_TO_##widest(TILE, rows)
#define HEIGHT(rows, widest) {rows, widest, {UP_TO_##widest(ENTRY, rows)}},
HEIGHTS(TILES)
static const struct {
    int64_t rows, widest;
    compiled_rows *tiles[8][2]; /* [vectors - 1][far] */
} heights[] = {HEIGHTS(HEIGHT)};
enum {
    HEIGHT_COUNT = sizeof heights / sizeof *heights,
    WIDEST_OF_MANY = 4, /* where there are several tiles below each other */
};

/* The highest tile for rows that come in pieces of nearly equal height. */
static int64_t height_for(int64_t rows)
{
    const int64_t most = heights[HEIGHT_COUNT - 1].rows;
    if (rows <= most) /* divisions take longer than a small product */
        return rows - 1;
    return ceil_div(rows, ceil_div(rows, most)) - 1;
}

/* What all tiles of a product have alike. */
typedef struct {
    const gemm_matrix *a, *b;
    int64_t terms, c_row;
    real *c;
    loose_epilogue *epilogue;
    const void *context;
    bool far; /* B does not stay in cache */
} rows_product;

/* The rows [row, row_end), at most LOOSE_BLOCK, of the columns [j, j + columns), at most a tile. */
static void run_stripe(const rows_product *p, int64_t row, int64_t row_end, int64_t j, int64_t columns)
{
    real sums[LOOSE_BLOCK * WIDEST_OF_MANY * LANES];
    const int64_t vectors = ceil_div(columns, LANES), last = columns - (vectors - 1) * LANES;
    const bool whole = p->c && last == LANES;
    const int64_t to_row = whole ? p->c_row : vectors * LANES;
    real *to = whole ? p->c + row * p->c_row + j : sums;
    int64_t k = 0;
    do { /* so many terms at a time that a stripe of B stays in cache */
        const int64_t terms = min64(LOOSE_TERMS, p->terms - k);
        for (int64_t i = row, rows; i < row_end; i += rows) {
            const int64_t h = height_for(row_end - i);
            rows = heights[h].rows;
            heights[h].tiles[vectors - 1][p->far](p->a->data + i * p->a->row + k * p->a->column, p->a->row,
                                                  p->a->column, p->b->data + k * p->b->row + j, p->b->row, terms, last,
                                                  to + (i - row) * to_row, to_row, k > 0);
        }
        k += terms;
    } while (k < p->terms);
    if (!whole)
        p->epilogue(p->context, row, row_end - row, j, columns, to, to_row);
}

static void product_of_rows(const rows_product *p, int64_t row, int64_t row_end, int64_t column, int64_t column_end)
{
    const int64_t all = column_end - column;
    /* All of B stays in cache: a few rows after the other, so that C is written in order; the fewer, the more of the
     * time goes into writing. */
    const int64_t most = p->far ? LOOSE_BLOCK : p->terms < 8 ? 2 : heights[HEIGHT_COUNT - 1].rows;
    const int64_t widest = heights[height_for(min64(most, row_end - row))].widest;
    /* The width of a stripe: the last, lower tiles are as wide, or wider. */
    const int64_t vectors = ceil_div(all, LANES), stripes = vectors <= widest ? 1 : ceil_div(vectors, widest);
    const int64_t stripe = (stripes == 1 ? vectors : ceil_div(vectors, stripes)) * LANES;
    for (int64_t i = row, rows; i < row_end; i += rows) {
        rows = min64(most, row_end - i);
        for (int64_t j = column; j < column_end; j += stripe)
            run_stripe(p, i, i + rows, j, min64(stripe, column_end - j));
    }
}

/* ---- B's columns, and A's rows, are contiguous ---- */

/* sums[i * sums_row + j] of `rows` rows and `columns` columns, constants whose product is at most LANES; the columns of
 * B are b[j]. */
FDL_INLINE void columns_tile(const real *a, int64_t a_row, const real *const *b, int64_t terms, real *sums,
                             int64_t sums_row, const int rows, const int columns)
{
    vreal sum[LANES];
    FDL_UNROLL
    for (int j = 0; j < LANES; j++)
        sum[j] = (vreal){0};
    int64_t k = 0;
    for (; k + LANES <= terms; k += LANES) { /* main loop */
        vreal av[LANES];
        FDL_UNROLL
        for (int i = 0; i < rows; i++)
            av[i] = vkeep(vload(a + i * a_row + k));
        FDL_UNROLL
        for (int j = 0; j < columns; j++) {
            const vreal bv = rows > 1 ? vkeep(vload(b[j] + k)) : vload(b[j] + k);
            FDL_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i * columns + j] += av[i] * bv;
        }
    }
    if (k < terms) { /* tail */
        const vmask left = vmask_range(0, terms - k);
        FDL_UNROLL
        for (int j = 0; j < columns; j++) {
            const vreal bv = vload_masked(b[j] + k, left);
            FDL_UNROLL
            for (int i = 0; i < rows; i++)
                sum[i * columns + j] += vload_masked(a + i * a_row + k, left) * bv;
        }
    }
    real each[LANES];
    vstore(each, vsum_each(sum));
    FDL_UNROLL
    for (int i = 0; i < rows; i++)
        memcpy(sums + i * sums_row, each + i * columns, (size_t)columns * sizeof *sums);
}

typedef void compiled_columns(const real *a, int64_t a_row, const real *const *b, int64_t terms, real *sums,
                              int64_t sums_row);
enum { MOST_OF_COLUMNS = 5 }; /* rows of a tile */
#define WIDTH(rows) (LANES / (rows) > 0 ? LANES / (rows) : 1)
#define COLUMNS(rows)                                                                                                  \
    static void columns_##rows(const real *a, int64_t a_row, const real *const *b, int64_t terms, real *sums,          \
                               int64_t sums_row)                                                                       \
    {                                                                                                                  \
        columns_tile(a, a_row, b, terms, sums, sums_row, rows < LANES ? rows : LANES, WIDTH(rows));                    \
    }
COLUMNS(1)
COLUMNS(2)
COLUMNS(3)
COLUMNS(4)
COLUMNS(5)
static compiled_columns *const column_tiles[] = {columns_1, columns_2, columns_3, columns_4, columns_5};

/* One row, where columns of B are few, or lie so far apart that all of them fall into the same sets of the cache. */
enum { ALIASED = 4096 / (int)sizeof(real), FEW_COLUMNS = LANES < 4 ? LANES : 4 };
static void columns_1_few(const real *a, int64_t a_row, const real *const *b, int64_t terms, real *sums,
                          int64_t sums_row)
{
    columns_tile(a, a_row, b, terms, sums, sums_row, 1, FEW_COLUMNS);
}

/* The rows of the tiles that take least time: of each its multiply-adds, or its loads at half their rate, and
 * what its end costs, about as much as 50 of them. */
static int64_t best_height(int64_t rows, int64_t columns, int64_t terms)
{
    int64_t best = 1, least = INT64_MAX;
    if (rows == 1)
        return 1;
    for (int64_t high = 1; high <= min64(rows, min64(MOST_OF_COLUMNS, LANES)); high++) {
        const int64_t width = WIDTH(high), tiles = ceil_div(rows, high) * ceil_div(columns, width);
        const int64_t step = max64(high * width, 2 * (high + width));
        const int64_t cost = tiles * (ceil_div(terms, LANES) * step + 50);
        if (cost < least)
            best = high, least = cost;
    }
    return best;
}

static void product_of_columns(const gemm_matrix *a, const gemm_matrix *b, int64_t row, int64_t row_end, int64_t column,
                               int64_t column_end, int64_t terms, loose_epilogue *epilogue, const void *context)
{
    enum { BLOCK = 16, AT_A_TIME = 4 * LANES, ROW = AT_A_TIME + LANES }; /* sums that are handed on together */
    real sums[(BLOCK + MOST_OF_COLUMNS) * ROW];
    const int64_t high = best_height(row_end - row, column_end - column, terms);
    const bool few = high == 1 && (b->column % ALIASED == 0 || column_end - column <= FEW_COLUMNS);
    const int64_t width = few ? FEW_COLUMNS : high == 1 ? LANES : WIDTH(high);
    const int64_t most = width == LANES ? AT_A_TIME : AT_A_TIME / width * width;
    compiled_columns *const tile = few ? columns_1_few : column_tiles[high - 1];
    for (int64_t i = row, rows; i < row_end; i += rows) {
        rows = row_end - i < BLOCK + high ? row_end - i : BLOCK / high * high; /* at least a tile each */
        for (int64_t j = column, columns; j < column_end; j += columns) {
            columns = min64(most, column_end - j);
            for (int64_t done = 0; done < columns; done += width) {
                const real *each[LANES];
                for (int64_t l = 0; l < width; l++) /* columns past the last repeat it */
                    each[l] = b->data + min64(j + done + l, column_end - 1) * b->column;
                for (int64_t r = 0; r < rows; r += high) { /* the last tile may take rows once more */
                    const int64_t from = min64(r, rows - high);
                    tile(a->data + (i + from) * a->row, a->row, each, terms, sums + from * ROW + done, ROW);
                }
            }
            epilogue(context, i, rows, j, columns, sums, ROW);
        }
    }
}

void loose_product(const gemm_matrix *a, const gemm_matrix *b, int64_t row, int64_t row_end, int64_t column,
                   int64_t column_end, int64_t terms, real *c, int64_t c_row, loose_epilogue *epilogue,
                   const void *context)
{
    if (row >= row_end || column >= column_end)
        return;
    if (b->column == 1)
        product_of_rows(&(rows_product){a, b, terms, c_row, c, epilogue, context,
                                        terms * (column_end - column) * (int64_t)sizeof(real) > LOOSE_CACHED},
                        row, row_end, column, column_end);
    else
        product_of_columns(a, b, row, row_end, column, column_end, terms, epilogue, context);
}

/* ---- few terms: what stays in registers is B ---- */

/* `vectors` vectors of columns of C's rows, of whose last there are `last` lanes; terms and vectors are constants wherever
 * this is inlined. */
FDL_INLINE void few_terms_columns(const gemm_matrix *a, const real *b, int64_t b_row, int64_t rows, int64_t last,
                                  const real *bias, limits cut, real *c, int64_t c_row, const int terms,
                                  const int vectors)
{
    vreal bv[LOOSE_FEW_TERMS * 2], add[2];
    FDL_UNROLL
    for (int v = 0; v < vectors; v++) {
        const int64_t lanes = v < vectors - 1 ? LANES : last;
        add[v] =
            bias ? vload_up_to(bias + v * LANES, lanes) : vset1((real)-0.0); /* which leaves every number as it is */
        FDL_UNROLL
        for (int k = 0; k < terms; k++)
            bv[k * vectors + v] = vload_up_to(b + k * b_row + v * LANES, lanes);
    }
    const real *from = a->data;
    for (int64_t i = 0; i < rows; i++, from += a->row, c += c_row) {
        vreal sum[2] = {{0}};
        FDL_UNROLL
        for (int k = 0; k < terms; k++) {
            FDL_UNROLL
            for (int v = 0; v < vectors; v++)
                sum[v] += vset1(from[k * a->column]) * bv[k * vectors + v];
        }
        FDL_UNROLL
        for (int v = 0; v < vectors; v++) {
            sum[v] += add[v];
            sum[v] = vlimit(cut, sum[v]);
        }
        FDL_UNROLL
        for (int v = 0; v < vectors - 1; v++)
            vstore(c + v * LANES, sum[v]);
        if (last == LANES)
            vstore(c + (vectors - 1) * LANES, sum[vectors - 1]);
        else
            vstore_up_to(c + (vectors - 1) * LANES, sum[vectors - 1], last);
    }
}

void loose_few_terms(const gemm_matrix *a, const gemm_matrix *b, int64_t rows, int64_t columns, int64_t terms,
                     const real *bias, limits cut, real *c, int64_t c_row)
{
    enum { NARROW = VECTOR_REGISTERS == 32 ? LOOSE_FEW_TERMS : 4 }; /* terms up to which two vectors of B fit */
    for (int64_t j = 0, width; j < columns; j += width) {
        width = terms <= NARROW && columns - j > LANES ? 2 * LANES : LANES;
        const int64_t last = min64(LANES, columns - j - (width - LANES));
        const real *from = b->data + j, *add = bias ? bias + j : NULL;
        switch (terms) {
#define TERMS(n)                                                                                                       \
    case n:                                                                                                            \
        if (n <= NARROW && width > LANES)                                                                              \
            few_terms_columns(a, from, b->row, rows, last, add, cut, c + j, c_row, n, n <= NARROW ? 2 : 1);            \
        else                                                                                                           \
            few_terms_columns(a, from, b->row, rows, last, add, cut, c + j, c_row, n, 1);                              \
        break;
            TERMS(1)
            TERMS(2)
            TERMS(3)
            TERMS(4)
            TERMS(5)
            TERMS(6)
            TERMS(7)
            TERMS(8)
#undef TERMS
        }
    }
}
