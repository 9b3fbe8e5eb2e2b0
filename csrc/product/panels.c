/* See panels.h. A tile is `rows` rows times `panels` panels side by side, as many as registers hold sums of: of one
 * row, several panels, so that enough sums are under way to hide the latency of a multiply-add; of many rows, one.
 * Where there are more rows than a tile has, panels are taken slice by slice of k, each staying in the first-level
 * cache while all rows pass, and sums wait in `buffer` meanwhile. */
#include "product/panels.h"
#include "product/loose.h"

enum { SLICE_BYTES = 16 * 1024 };

/* Panels of a tile, a power of two: as many as there are registers for. One row is bound by the cache that its panels
 * come from: few sums keep up with that, and what is taken up and down in small pieces is found there more often. */
#define GROUP(rows, vectors)                                                                                           \
    ((rows) == 1                            ? (vectors) < 3 ? 4 : 2                                                    \
     : (rows) * (vectors) * 4 <= PANEL_SUMS ? 4                                                                        \
     : (rows) * (vectors) * 2 <= PANEL_SUMS ? 2                                                                        \
                                            : 1)

/* sums[i * panels * vectors * LANES + p * vectors * LANES + v * LANES] (+)= A[rows, terms] panel p[terms, vectors]. From
 * `next` on, a vector is fetched each term: what is read after this, from a cache further away.
 * `rows`, `vectors` and `panels` are constants wherever this is inlined. */
FDL_INLINE void tile(const real *a, int64_t a_row, const real *panel, int64_t size, int64_t terms, real *sums,
                     const real *next, const int rows, const int vectors, const int panels, bool accumulate)
{
    const int width = vectors * panels;
    vreal sum[PANEL_SUMS];
    FDL_UNROLL
    for (int j = 0; j < rows * width; j++)
        sum[j] = accumulate ? vload(sums + j * LANES) : (vreal){0};
    const real *row[PANEL_ROWS];
    FDL_UNROLL
    for (int i = 0; i < rows; i++)
        row[i] = a + i * a_row;
    for (int64_t k = 0; k < terms; k++, panel += vectors * LANES) {
        if (panels == 1)
            __builtin_prefetch(next + k * LANES, 0, 2);
        if (rows <= vectors) { /* the shorter side of the tile stays in registers for the step */
            vreal av[PANEL_ROWS];
            FDL_UNROLL
            for (int i = 0; i < rows; i++)
                av[i] = vset1(row[i][k]);
            FDL_UNROLL
            for (int j = 0; j < width; j++) {
                const vreal bv = vload(panel + j / vectors * size + j % vectors * LANES);
                FDL_UNROLL
                for (int i = 0; i < rows; i++)
                    sum[i * width + j] += av[i] * bv;
            }
        } else {
            vreal bv[PANEL_MOST];
            FDL_UNROLL
            for (int j = 0; j < width; j++)
                bv[j] = vload(panel + j / vectors * size + j % vectors * LANES);
            FDL_UNROLL
            for (int i = 0; i < rows; i++) {
                const vreal av = vset1(row[i][k]);
                FDL_UNROLL
                for (int j = 0; j < width; j++)
                    sum[i * width + j] += av * bv[j];
            }
        }
    }
    FDL_UNROLL
    for (int j = 0; j < rows * width; j++)
        vstore(sums + j * LANES, sum[j]);
}

/* One compiled tile for each number of rows and vectors, of a group of panels and of one alone. */
typedef void compiled_tile(const real *a, int64_t a_row, const real *panel, int64_t size, int64_t terms, real *sums,
                           const real *next, bool accumulate);
#define TILE(name, rows, vectors, panels)                                                                              \
    static void name(const real *a, int64_t a_row, const real *panel, int64_t size, int64_t terms, real *sums,         \
                     const real *next, bool accumulate)                                                                \
    {                                                                                                                  \
        tile(a, a_row, panel, size, terms, sums, next, rows, vectors, panels, accumulate);                             \
    }
#define TILES(rows, vectors)                                                                                           \
    TILE(group_##rows##x##vectors, rows, vectors, GROUP(rows, vectors))                                                \
    TILE(single_##rows##x##vectors, rows, vectors, 1)
#define ENTRY(rows, vectors) {group_##rows##x##vectors, single_##rows##x##vectors, GROUP(rows, vectors)},
#if VECTOR_REGISTERS == 32
#define FOR_ROWS_OF_2(X) X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2) X(7, 2) X(8, 2)
#define FOR_ROWS_OF_3(X) X(1, 3) X(2, 3) X(3, 3) X(4, 3) X(5, 3) X(6, 3) X(7, 3) X(8, 3)
#define FOR_ROWS_OF_4(X) X(1, 4) X(2, 4) X(3, 4) X(4, 4) X(5, 4) X(6, 4)
#else
#define FOR_ROWS_OF_2(X) X(1, 2) X(2, 2) X(3, 2) X(4, 2) X(5, 2) X(6, 2)
#define FOR_ROWS_OF_3(X) X(1, 3) X(2, 3) X(3, 3) X(4, 3)
#define FOR_ROWS_OF_4(X) X(1, 4) X(2, 4) X(3, 4)
#endif
FOR_ROWS_OF_2(TILES)
FOR_ROWS_OF_3(TILES)
FOR_ROWS_OF_4(TILES)
typedef struct {
    compiled_tile *group, *single;
    int64_t panels; /* of a group */
} compiled_tiles;
static const compiled_tiles tiles_of_2[] = {FOR_ROWS_OF_2(ENTRY)}, tiles_of_3[] = {FOR_ROWS_OF_3(ENTRY)},
                            tiles_of_4[] = {FOR_ROWS_OF_4(ENTRY)};
static const struct {
    const compiled_tiles *tiles; /* [rows - 1] */
    int64_t most_rows;
} compiled[] = {{tiles_of_2, sizeof tiles_of_2 / sizeof *tiles_of_2},
                {tiles_of_3, sizeof tiles_of_3 / sizeof *tiles_of_3},
                {tiles_of_4, sizeof tiles_of_4 / sizeof *tiles_of_4}};

/* Where the sums of a gate go in `buffer`, of the units from `unit` on: see panel_epilogue. */
typedef struct {
    real *buffer;
    int64_t buffer_row, unit, gate, gates;
} loose_place;

static void place_sums(const void *context, int64_t row, int64_t rows, int64_t column, int64_t columns,
                       const real *sums, int64_t sums_row)
{
    const loose_place *to = context;
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0, n; j < columns; j += n) {
            const int64_t unit = column - to->unit + j;
            n = min64(LANES - unit % LANES, columns - j);
            memcpy(to->buffer + (row + i) * to->buffer_row + (unit / LANES * to->gates + to->gate) * LANES +
                       unit % LANES,
                   sums + i * sums_row + j, (size_t)n * sizeof *sums);
        }
}

/* panel_product with W where it lies: loose.h. */
static void loose_panels(const panel_weights *w, const real *a, int64_t a_row, int64_t first_row, int64_t rows,
                         int64_t begin, int64_t end, real *buffer, panel_epilogue *epilogue, const void *context)
{
    const gemm_matrix from = {a, a_row, 1};
    const int64_t vectors = panel_vectors(w), units = panel_units(w);
    for (int64_t p = begin, n; p < end; p += n) {
        n = min64(PANEL_MOST / vectors, end - p);
        const int64_t buffer_row = n * vectors * LANES;
        memset(buffer, 0, (size_t)(rows * buffer_row) * sizeof *buffer); /* units that are missing */
        for (int64_t g = 0; g < w->gates; g++) {
            const gemm_matrix gate = {w->data + g * w->gate, w->term, w->unit};
            const loose_place place = {buffer, buffer_row, p * units, g, w->gates};
            loose_product(&from, &gate, 0, rows, p * units, min64(w->units, (p + n) * units), w->terms, NULL, 0,
                          place_sums, &place);
        }
        epilogue(context, first_row, rows, p * units, n, buffer, buffer_row);
    }
}

void panel_product(const panel_weights *w, const real *a, int64_t a_row, int64_t first_row, int64_t rows, int64_t begin,
                   int64_t end, real *buffer, panel_epilogue *epilogue, const void *context)
{
    if (rows <= 0)
        return;
    const bool down = end < begin;
    const int64_t first = down ? end : begin, last = down ? begin : end;
    if (!w->packed) {
        loose_panels(w, a, a_row, first_row, rows, first, last, buffer, epilogue, context);
        return;
    }
    const int64_t vectors = panel_vectors(w), size = vectors * LANES * w->terms, units = panel_units(w);
    const int64_t most_rows = compiled[vectors - 2].most_rows;
    const compiled_tiles *tiles = compiled[vectors - 2].tiles;
    if (rows <= most_rows) { /* one tile high */
        const compiled_tiles *t = &tiles[rows - 1];
        for (int64_t done = 0, n; done < last - first; done += n) {
            const bool group = done + t->panels <= last - first;
            n = group ? t->panels : 1;
            const int64_t p = down ? last - done - n : first + done;
            const real *panel = w->packed + p * size;
            (group ? t->group : t->single)(a, a_row, panel, size, w->terms, buffer, panel, false);
            epilogue(context, first_row, rows, p * units, n, buffer, n * vectors * LANES);
        }
        return;
    }
    const int64_t row_size = vectors * LANES;
    const int64_t slices = max64(1, ceil_div(size * (int64_t)sizeof(real), SLICE_BYTES));
    const int64_t terms = max64(1, ceil_div(w->terms, slices));
    for (int64_t done = 0; done < last - first; done++) {
        const int64_t p = down ? last - done - 1 : first + done;
        for (int64_t k = 0; k < w->terms; k += terms) {
            const real *slice = w->packed + p * size + k * row_size, *next = slice + terms * row_size;
            if (down && k + terms >= w->terms)
                next = slice - k * row_size - size;
            for (int64_t i = 0, n; i < rows; i += n, next += terms * LANES) {
                n = ceil_div(rows - i, ceil_div(rows - i, most_rows)); /* nearly equal heights */
                tiles[n - 1].single(a + i * a_row + k, a_row, slice, size, min64(terms, w->terms - k),
                                    buffer + i * row_size, next, k > 0);
            }
        }
        epilogue(context, first_row, rows, p * units, 1, buffer, row_size);
    }
}

typedef struct {
    const panel_weights *w;
    real *packed;
} packing;

static int pack_range(void *context, int64_t begin, int64_t end)
{
    const packing *job = context;
    const panel_weights *w = job->w;
    const int64_t vectors = panel_vectors(w), spread = vectors / w->gates, row_size = vectors * LANES;
    for (int64_t p = begin; p < end; p++)
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t unit = (p * spread + v / w->gates) * LANES, present = w->units - unit;
            const real *from = w->data + v % w->gates * w->gate + unit * w->unit;
            real *to = job->packed + p * row_size * w->terms + v * LANES;
            for (int64_t k = 0; k < w->terms && w->term != 1; k++) /* units side by side */
                vstore(to + k * row_size, present <= 0 ? (vreal){0} : vload_up_to(from + k * w->term, present));
            for (int64_t k = 0; k < w->terms && w->term == 1; k += LANES) { /* terms side by side */
                const int64_t deep = min64(LANES, w->terms - k);
                vreal block[LANES];
                if (deep == LANES && present >= LANES) {
                    vload_transposed(from + k, w->unit, block);
                } else {
                    FDL_UNROLL
                    for (int r = 0; r < LANES; r++)
                        block[r] = r < present ? vload_up_to(from + r * w->unit + k, deep) : (vreal){0};
                    vtranspose(block);
                }
                for (int64_t r = 0; r < deep; r++)
                    vstore(to + (k + r) * row_size, block[r]);
            }
        }
    return FDL_OK;
}

int panel_pack(const panel_weights *w, real *packed)
{
    packing job = {w, packed};
    return fdl_parallel(panel_count(w), max64(1, (1 << 15) / max64(1, panel_vectors(w) * LANES * w->terms)), pack_range,
                        &job);
}
