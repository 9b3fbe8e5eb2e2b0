/* What the kernels of recurrent networks share: which rows there are, where weights and saved arrays lie, and the
 * cells.
 *
 * Rows. A row is a step of a sequence: row first[t] + i is step t of the sequence order[i], for i < active[t].
 * Sequences are ordered from the longest, so that at each step those that go on come first, and nothing is computed on
 * padding.
 *
 * Saved, for each layer in turn (D directions, S gates that backward needs: 4 of LSTM and GRU, 3, 0):
 *     gates [D, rows, S hidden]    after their activations; of GRU r, z, n and R_n h + d_n
 *     c     [D, rows, hidden]      LSTM only
 *     h     [rows, D output]       which is also the next layer's input, but for dropout */
#ifndef FASTDL_RECURRENT_H
#define FASTDL_RECURRENT_H

#include "product/gemm.h"
#include "product/panels.h"

typedef struct {
    int64_t steps, batch, rows;
    int64_t *order;  /* [batch] */
    int64_t *active; /* [steps + 1], the last one 0 */
    int64_t *first;  /* [steps] */
    int64_t *place;  /* [rows]: where a row is among those of x and output; NULL: they have the same order */
} recurrent_rows;

/* Weights of one direction, or their gradients; NULL where there are none. */
typedef struct {
    real *weight_ih, *weight_hh, *bias_ih, *bias_hh, *weight_hr, *peephole;
} recurrent_weights;

/* Of one direction of one layer. */
typedef struct {
    real *gates, *c, *h;
    int64_t h_row;
} recurrent_saved;

#define recurrent_schedule FDL_NAME(recurrent_schedule)
#define recurrent_arrays FDL_NAME(recurrent_arrays)
#define recurrent_saved_of FDL_NAME(recurrent_saved_of)
#define recurrent_sorted FDL_NAME(recurrent_sorted)
#define recurrent_dropout FDL_NAME(recurrent_dropout)
#define recurrent_threads FDL_NAME(recurrent_threads)
#define recurrent_directions FDL_NAME(recurrent_directions)

/* In scratch memory; FDL_BAD_LENGTH for lengths outside [1, steps]. */
int recurrent_schedule(const fdl_recurrence *r, const int64_t *lengths, recurrent_rows *rows);
/* column 0: the weights, 1: their gradients. */
recurrent_weights recurrent_arrays(const fdl_recurrence *r, const int64_t *arrays, int64_t column, int64_t layer,
                                   int64_t direction);
recurrent_saved recurrent_saved_of(const fdl_recurrence *r, real *saved, int64_t rows, int64_t layer,
                                   int64_t direction);
/* out [batch, stride] = the states x [batch, size] in the order of rows; zeros where x is NULL, and past `size`. */
void recurrent_sorted(const recurrent_rows *rows, const real *x, int64_t size, int64_t stride, real *out);
/* y [rows, directions output] = what dropout makes of x, as it lies between `layer` and the next, or of its gradient.
 */
int recurrent_dropout(const fdl_recurrence *r, const recurrent_rows *rows, int64_t layer, const real *x, real *y,
                      double keep, int64_t seed, int64_t offset);
/* Threads that the steps of one direction are worth. */
int64_t recurrent_threads(const fdl_recurrence *r);
/* Run a task over the directions of a layer: side by side where that is better than one after the other. */
int recurrent_directions(const fdl_recurrence *r, int64_t rows, fdl_task *task, void *context);

/* Whether so few rows, in all, use weights where they lie; not where one may not depend on how many there are. */
FDL_INLINE bool recurrent_loose(int64_t rows) { return rows <= 4 && !fdl_get_deterministic(); }

FDL_INLINE int64_t recurrent_gates(int64_t kind)
{
    return kind == FDL_RECURRENT_LSTM ? 4 : kind < FDL_RECURRENT_LSTM ? 1 : 3;
}
FDL_INLINE int64_t recurrent_saved_gates(int64_t kind)
{
    return kind < FDL_RECURRENT_LSTM ? 0 : kind == FDL_RECURRENT_GRU_RESET_FIRST ? 3 : 4;
}
/* Whether direction d goes from the end to the beginning. */
FDL_INLINE bool recurrent_backwards(const fdl_recurrence *r, int64_t d) { return d == 1 || r->reverse; }
/* An array in scratch memory. */
FDL_INLINE real *recurrent_scratch(int64_t size) { return fdl_scratch(max64(1, size) * (int64_t)sizeof(real)); }

/* An epilogue that takes units a vector at a time: `step` is given the `gates` sums of `lanes` units of one row. */
#define EACH_UNIT(name, context_type, gates, spread)                                                                   \
    static void name(const void *context, int64_t row, int64_t rows, int64_t unit, int64_t panels, const real *sums,   \
                     int64_t sums_row)                                                                                 \
    {                                                                                                                  \
        const context_type *c = context;                                                                               \
        for (int64_t i = 0; i < rows; i++)                                                                             \
            for (int64_t j = 0, u = unit; j < panels * (spread) && u < c->units; j++, u += LANES)                      \
                name##_of(c, row + i, u, min64(LANES, c->units - u), sums + i * sums_row + j * (gates) * LANES);       \
    }

#endif
