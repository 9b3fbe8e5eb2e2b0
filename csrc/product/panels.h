/* Few rows times weights that stay the same from call to call, as in every step of a recurrent network:
 *
 *   sum[i, g, u] = sum_k A[i, k] W[g, u, k]      i < rows, g < gates, u < units, k < terms
 *
 * W is packed once into panels: panel p holds, for each k, `vectors` vectors. With several gates these are the gates of
 * units [p LANES, (p + 1) LANES), so that all gates of a unit meet in one tile; with one gate they are PANEL_SPREAD
 * times as many units. Missing units are zeros. A lies as it is, rows any distance apart. Sums are handed to a callback
 * while they are in the first-level cache, which applies what follows: they never exist as a whole.
 *
 * Unlike gemm.h, which copies B and A block by block because both are new, this has no fixed costs a call, and one row,
 * a product of a matrix and a vector, runs at the bandwidth of the cache that the panels are in. Accumulation is in
 * `real`, in registers. */
#ifndef FASTDL_PANELS_H
#define FASTDL_PANELS_H

#include "vector/simd.h"

enum {
    PANEL_SUMS = VECTOR_REGISTERS == 32 ? 24 : 12, /* vectors of sums in registers */
    PANEL_SPREAD = 2,                              /* vectors of units in a panel of one gate */
    PANEL_ROWS = VECTOR_REGISTERS == 32 ? 8 : 6,   /* most rows of a tile */
    PANEL_MOST = 12,                               /* most vectors of sums in one row of a tile */
};

/* Where W lies: element (g, u, k) at data[g * gate + u * unit + k * term], with unit or term being 1; and packed. */
typedef struct {
    const real *data;
    int64_t gate, unit, term;
    int64_t gates, units, terms;
    const real *packed; /* NULL: W is used where it lies, which pays for a row or two */
} panel_weights;

/* sums[i * sums_row + (p * spread + s) * gates * LANES + g * LANES + l] belongs to row `row` + i and to unit
 * `unit` + (p * spread + s) * LANES + l, for i < rows, p < panels; spread is 1 where there are gates. */
typedef void panel_epilogue(const void *context, int64_t row, int64_t rows, int64_t unit, int64_t panels,
                            const real *sums, int64_t sums_row);

#define panel_product FDL_NAME(panel_product)
#define panel_pack FDL_NAME(panel_pack)

/* Vectors, and units, in a panel. */
FDL_INLINE int64_t panel_vectors(const panel_weights *w) { return w->gates == 1 ? PANEL_SPREAD : w->gates; }
FDL_INLINE int64_t panel_units(const panel_weights *w) { return w->gates == 1 ? PANEL_SPREAD * LANES : LANES; }
FDL_INLINE int64_t panel_count(const panel_weights *w) { return ceil_div(w->units, panel_units(w)); }
/* Elements of all panels, packed. */
FDL_INLINE int64_t panel_size(const panel_weights *w) { return panel_count(w) * panel_vectors(w) * LANES * w->terms; }
/* Elements that hold them on every level: what was made on one is packed again on another, in the same memory. */
FDL_INLINE int64_t panel_room(const panel_weights *w)
{
    enum { WIDEST = 64 / (int)sizeof(real) };
    const int64_t units = w->gates == 1 ? PANEL_SPREAD * WIDEST : WIDEST;
    return ceil_div(w->units, units) * units * w->gates * w->terms;
}
/* Elements of the buffer that panel_product needs for so many rows. */
FDL_INLINE int64_t panel_buffer_size(int64_t rows) { return max64(rows, PANEL_ROWS) * PANEL_MOST * LANES; }

/* Pack W to `packed`, on as many threads as that is worth. */
int panel_pack(const panel_weights *w, real *packed);
/* Panels [begin, end), or from begin - 1 down to end if that is less, for the rows of A, `a_row` apart, numbered from
 * `first_row` for the epilogue. Up and down in turn, a step begins with what the last one has left in the caches. */
void panel_product(const panel_weights *w, const real *a, int64_t a_row, int64_t first_row, int64_t rows, int64_t begin,
                   int64_t end, real *buffer, panel_epilogue *epilogue, const void *context);

#endif
