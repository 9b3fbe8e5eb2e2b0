/* Recurrent networks forward: rnn, lstm, gru (fastdl/functional/recurrent.py has the formulas).
 *
 * For each layer and direction, the input's part of all gates, W x + b, is one matrix product for many steps. Each step
 * is then a product of the states with weights that were packed once (panels.h), to whose sums the rest of the cell is
 * applied tile by tile, in the first-level cache. What a cell needs twice, a projection or a reset gate that comes
 * first, is a second phase of the step. Large layers run on a team of threads, each with its share of the units, that
 * meet after each phase; small ones on one thread.
 *
 * All arithmetic is in `real`. */
#include "kernels/recurrent/recurrent.h"

#include "vector/vmath.h"

/* What the rest of a cell works on, in one step: row i of each array at i * its stride. */
typedef struct {
    int64_t units;
    const real *x_part; /* [rows, gates hidden] */
    int64_t x_row;
    real *gates; /* to be saved, laid out as x_part, which it may be itself; NULL: not */
    const real *h_prev;
    int64_t h_prev_row;
    real *h;
    int64_t h_row;
    const real *c_prev; /* [rows, hidden] */
    real *c;
    real *between; /* [rows, hidden]: what the second phase takes */
    const real *bias_n, *peephole;
} cell;

FDL_INLINE vreal add_part(const cell *c, int64_t row, int64_t gate, int64_t unit, int64_t lanes, const real *sums)
{
    enum { AHEAD = 4 }; /* rows: the hardware does not foresee lines so far apart */
    const real *part = c->x_part + row * c->x_row + gate * c->units + unit;
    __builtin_prefetch(part + AHEAD * c->x_row);
    return vload(sums) + vload_up_to(part, lanes);
}
FDL_INLINE void save_gate(const cell *c, int64_t row, int64_t gate, int64_t unit, int64_t lanes, vreal v)
{
    if (c->gates)
        vstore_up_to(c->gates + row * c->x_row + gate * c->units + unit, v, lanes);
}
FDL_INLINE vreal previous_h(const cell *c, int64_t row, int64_t unit, int64_t lanes)
{
    return vload_up_to(c->h_prev + row * c->h_prev_row + unit, lanes);
}
FDL_INLINE void store_h(const cell *c, int64_t row, int64_t unit, int64_t lanes, vreal v)
{
    vstore_up_to(c->h + row * c->h_row + unit, v, lanes);
}

FDL_INLINE void rnn_tanh_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    store_h(c, row, unit, lanes, vgate_tanh(add_part(c, row, 0, unit, lanes, sums)));
}
FDL_INLINE void rnn_relu_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal v = add_part(c, row, 0, unit, lanes, sums);
    store_h(c, row, unit, lanes, vselect(v < (vreal){0}, (vreal){0}, v));
}

FDL_INLINE void lstm_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    vreal i = add_part(c, row, 0, unit, lanes, sums), f = add_part(c, row, 1, unit, lanes, sums + LANES);
    vreal g = add_part(c, row, 2, unit, lanes, sums + 2 * LANES),
          o = add_part(c, row, 3, unit, lanes, sums + 3 * LANES);
    vreal state = vload_up_to(c->c_prev + row * c->units + unit, lanes);
    if (c->peephole) {
        i += vload_up_to(c->peephole + unit, lanes) * state;
        f += vload_up_to(c->peephole + c->units + unit, lanes) * state;
    }
    i = vgate_sigmoid(i), f = vgate_sigmoid(f), g = vgate_tanh(g);
    state = f * state + i * g;
    if (c->peephole)
        o += vload_up_to(c->peephole + 2 * c->units + unit, lanes) * state;
    o = vgate_sigmoid(o);
    vstore_up_to(c->c + row * c->units + unit, state, lanes);
    if (c->between)
        vstore_up_to(c->between + row * c->units + unit, o * vgate_tanh(state), lanes);
    else
        store_h(c, row, unit, lanes, o * vgate_tanh(state));
    save_gate(c, row, 0, unit, lanes, i);
    save_gate(c, row, 1, unit, lanes, f);
    save_gate(c, row, 2, unit, lanes, g);
    save_gate(c, row, 3, unit, lanes, o);
}
/* Here units are what is given on. */
FDL_INLINE void projection_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    store_h(c, row, unit, lanes, vload(sums));
}

FDL_INLINE void gru_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal r = vgate_sigmoid(add_part(c, row, 0, unit, lanes, sums));
    const vreal z = vgate_sigmoid(add_part(c, row, 1, unit, lanes, sums + LANES));
    vreal part = vload(sums + 2 * LANES);
    if (c->bias_n)
        part += vload_up_to(c->bias_n + unit, lanes);
    const vreal n = vgate_tanh(vload_up_to(c->x_part + row * c->x_row + 2 * c->units + unit, lanes) + r * part);
    store_h(c, row, unit, lanes, n + z * (previous_h(c, row, unit, lanes) - n));
    save_gate(c, row, 0, unit, lanes, r);
    save_gate(c, row, 1, unit, lanes, z);
    save_gate(c, row, 2, unit, lanes, n);
    save_gate(c, row, 3, unit, lanes, part);
}
/* r and z; r * h and z are what the second phase takes, in `between` [rows, 2 hidden]. */
FDL_INLINE void gru_reset_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal r = vgate_sigmoid(add_part(c, row, 0, unit, lanes, sums));
    const vreal z = vgate_sigmoid(add_part(c, row, 1, unit, lanes, sums + LANES));
    real *between = c->between + row * 2 * c->units + unit;
    vstore_up_to(between, r * previous_h(c, row, unit, lanes), lanes);
    vstore_up_to(between + c->units, z, lanes);
    save_gate(c, row, 0, unit, lanes, r);
    save_gate(c, row, 1, unit, lanes, z);
}
FDL_INLINE void gru_after_reset_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal n = vgate_tanh(add_part(c, row, 2, unit, lanes, sums));
    const vreal z = vload_up_to(c->between + row * 2 * c->units + c->units + unit, lanes);
    store_h(c, row, unit, lanes, n + z * (previous_h(c, row, unit, lanes) - n));
    save_gate(c, row, 2, unit, lanes, n);
}

EACH_UNIT(rnn_tanh, cell, 1, PANEL_SPREAD)
EACH_UNIT(rnn_relu, cell, 1, PANEL_SPREAD)
EACH_UNIT(lstm, cell, 4, 1)
EACH_UNIT(projection, cell, 1, PANEL_SPREAD)
EACH_UNIT(gru, cell, 3, 1)
EACH_UNIT(gru_reset, cell, 2, 1)
EACH_UNIT(gru_after_reset, cell, 1, PANEL_SPREAD)

typedef struct {
    panel_weights w;
    panel_epilogue *epilogue;
} phase;

/* The phases of a step, at most two. */
static int64_t make_phases(int64_t kind, int64_t hidden, int64_t output, const real *weight_hh, const real *weight_hr,
                           phase phases[2])
{
    const int64_t gates = kind == FDL_RECURRENT_GRU_RESET_FIRST ? 2 : recurrent_gates(kind);
    panel_epilogue *const epilogues[] = {rnn_tanh, rnn_relu, lstm, gru, gru_reset};
    phases[0] = (phase){{weight_hh, hidden * output, output, 1, gates, hidden, output, NULL}, epilogues[kind]};
    if (kind == FDL_RECURRENT_GRU_RESET_FIRST) {
        const real *weight_hn = weight_hh + 2 * hidden * hidden;
        phases[1] = (phase){{weight_hn, 0, hidden, 1, 1, hidden, hidden, NULL}, gru_after_reset};
        return 2;
    }
    if (!weight_hr)
        return 1;
    phases[1] = (phase){{weight_hr, 0, hidden, 1, 1, output, hidden, NULL}, projection};
    return 2;
}

/* ---- the input's part ---- */

/* out [gates hidden]: the biases that are added to W x. All but the GRU's d_n, which the reset gate is applied to. */
static void add_biases(int64_t kind, int64_t hidden, const real *bias_ih, const real *bias_hh, real *out)
{
    const int64_t size = recurrent_gates(kind) * hidden, both = kind == FDL_RECURRENT_GRU ? 2 * hidden : size;
    for (int64_t j = 0; j < size; j++)
        out[j] = (bias_ih ? bias_ih[j] : 0) + (bias_hh && j < both ? bias_hh[j] : 0);
}

typedef struct {
    int64_t units;
    const real *bias;
    real *out; /* [rows, out_row] */
    int64_t out_row;
} input_part;

FDL_INLINE void add_input_of(const input_part *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    vstore_up_to(c->out + row * c->out_row + unit, vload(sums) + vload_up_to(c->bias + unit, lanes), lanes);
}
EACH_UNIT(add_input, input_part, 1, PANEL_SPREAD)

/* A's rows wherever they are: for gemm. */
typedef struct {
    const real *x;
    int64_t x_row;
    const int64_t *place;
} scattered;

static void pack_scattered(const void *context, int64_t row, int64_t rows, int64_t k, int64_t terms, real *out)
{
    const scattered *a = context;
    for (int64_t i = 0; i < rows; i++)
        memcpy(out + i * GEMM_A_STRIDE, a->x + a->place[row + i] * a->x_row + k, (size_t)terms * sizeof(real));
}

/* ---- one direction of one layer ---- */

typedef struct {
    const fdl_recurrence *r;
    const recurrent_rows *rows;
    recurrent_weights w;
    bool backwards, loose;
    const real *x; /* [rows, input], x_row apart, at `place` unless that is NULL */
    int64_t input, x_row;
    const int64_t *place;
    real *x_part; /* [rows of the steps at hand, x_part_row] */
    int64_t x_part_row;
    int64_t begin, end; /* the steps at hand, counted as they are made */
    int64_t first_row;  /* of them */
    const real *bias;
    real *h0;           /* [batch, output], in the order of rows */
    real *c0;           /* [batch, hidden], likewise; without saved c, the state itself */
    recurrent_saved to; /* gates and c NULL: not saved */
    real *between;
    int64_t between_row;
    phase phases[2];
    int64_t phase_count;
    real *buffers; /* of each thread */
    int64_t buffer_size;
} direction;

static int64_t step_time(const direction *d, int64_t step) { return d->backwards ? d->rows->steps - 1 - step : step; }

/* Of the steps at hand a phase of one: the panels that are this share's. */
static void run_phase(void *context, int64_t round, int64_t share, int64_t shares)
{
    const direction *d = context;
    const recurrent_rows *rows = d->rows;
    const int64_t hidden = d->r->hidden, step = d->begin + round / d->phase_count;
    const int64_t t = step_time(d, step), n = rows->active[t];
    const int64_t before = step > 0 ? rows->first[step_time(d, step - 1)] : 0;
    const int64_t going_on = step > 0 ? min64(n, rows->active[step_time(d, step - 1)]) : 0;
    const phase *ph = &d->phases[round % d->phase_count];
    const bool is_first = ph == d->phases;
    cell c = {
        .units = ph->w.units,
        .x_part = d->x_part + (rows->first[t] - d->first_row) * d->x_part_row,
        .x_row = d->x_part_row,
        .h = d->to.h + rows->first[t] * d->to.h_row,
        .h_row = d->to.h_row,
        .c = d->to.c ? d->to.c + rows->first[t] * hidden : d->c0,
        .between = d->between,
        .bias_n = d->w.bias_hh ? d->w.bias_hh + 2 * hidden : NULL,
        .peephole = d->w.peephole,
    };
    c.gates = d->to.gates ? (real *)c.x_part : NULL; /* which is where they are saved */
    const int64_t panels = panel_count(&ph->w);
    const int64_t first = panels * share / shares, last = panels * (share + 1) / shares;
    const int64_t begin = step % 2 ? last : first, end = step % 2 ? first : last;
    /* Rows that go on, then those that begin here. */
    for (int64_t part = 0; part < 2; part++) {
        const int64_t row = part == 0 ? 0 : going_on, row_end = part == 0 ? going_on : n;
        c.h_prev = part == 0 ? d->to.h + before * d->to.h_row : d->h0;
        c.h_prev_row = part == 0 ? d->to.h_row : d->r->output;
        c.c_prev = part == 0 && d->to.c ? d->to.c + before * hidden : d->c0;
        const real *a = is_first ? c.h_prev : d->between;
        const int64_t a_row = is_first ? c.h_prev_row : d->between_row;
        panel_product(&ph->w, a + row * a_row, a_row, row, row_end - row, begin, end,
                      d->buffers + share * d->buffer_size, ph->epilogue, &c);
    }
}

/* x_part of the rows [row, row_end). */
static int make_input_part(const direction *d, int64_t row, int64_t row_end, int64_t threads)
{
    const int64_t columns = recurrent_gates(d->r->kind) * d->r->hidden;
    const scattered from = {d->x, d->x_row, d->place ? d->place + row : NULL};
    const real *x = d->place ? d->x : d->x + row * d->x_row;
    if (d->loose) {
        const panel_weights w = {d->w.weight_ih, 0, d->input, 1, 1, columns, d->input, NULL};
        const input_part part = {columns, d->bias, d->x_part, d->x_part_row};
        for (int64_t i = 0; i < row_end - row; i++)
            panel_product(&w, x + (d->place ? from.place[i] : i) * d->x_row, 0, i, 1, 0, panel_count(&w), d->buffers,
                          add_input, &part);
        return FDL_OK;
    }
    const gemm_matrix b = {d->w.weight_ih, 1, d->input};
    const gemm_problem p = {
        .m = row_end - row,
        .n = columns,
        .k = d->input,
        .a = {x, d->x_row, 1},
        .pack_a = d->place ? pack_scattered : NULL,
        .a_context = &from,
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = d->x_part,
        .c_row = d->x_part_row,
        .column_bias = d->bias,
    };
    /* Where one thread makes all steps, it would take the other's share out of another core's cache. */
    const bool alone = threads == 1 && (double)p.m * (double)p.n * (double)p.k < 0x1p22;
    return alone ? gemm_block(&p, (gemm_range){0, p.m, 0, p.n}) : gemm_parallel(&p);
}

/* Steps to make the input's part of at once: many rows, for each product packs the weights again, but not so many that
 * it leaves the caches. */
static int64_t steps_at_once(const direction *d)
{
    enum { ROWS = 256, BYTES = 8 << 20 };
    const int64_t row_bytes = d->x_part_row * (int64_t)sizeof(real);
    return max64(1, max64(ROWS, BYTES / row_bytes) / max64(1, d->rows->batch));
}

/* In scratch memory, which the caller releases. */
static int run_direction(direction *d, const real *h0, const real *c0, real *h_n, real *c_n)
{
    const fdl_recurrence *r = d->r;
    const recurrent_rows *rows = d->rows;
    const int64_t hidden = r->hidden, gates = recurrent_gates(r->kind), batch = r->batch;
    const int64_t threads = d->loose ? 1 : recurrent_threads(r);
    d->x_part_row = d->to.gates ? recurrent_saved_gates(r->kind) * hidden : gates * hidden;
    const int64_t at_once = min64(rows->steps, steps_at_once(d));
    d->phase_count = make_phases(r->kind, hidden, r->output, d->w.weight_hh, d->w.weight_hr, d->phases);
    d->between_row = (r->kind == FDL_RECURRENT_LSTM ? 1 : 2) * hidden;
    d->buffer_size = panel_buffer_size(batch);
    real *bias = recurrent_scratch(gates * hidden);
    d->h0 = recurrent_scratch(batch * r->output), d->c0 = recurrent_scratch(batch * hidden);
    d->buffers = recurrent_scratch(threads * d->buffer_size);
    d->between = d->phase_count == 2 ? recurrent_scratch(batch * d->between_row) : NULL;
    real *x_part = d->to.gates ? d->to.gates : recurrent_scratch(at_once * batch * d->x_part_row);
    if (!bias || !d->h0 || !d->c0 || !d->buffers || !x_part || (d->phase_count == 2 && !d->between))
        return FDL_OUT_OF_MEMORY;
    for (int64_t p = 0; p < d->phase_count && !d->loose; p++) {
        real *packed = recurrent_scratch(panel_size(&d->phases[p].w));
        if (!packed)
            return FDL_OUT_OF_MEMORY;
        const int status = panel_pack(&d->phases[p].w, packed);
        if (status != FDL_OK)
            return status;
        d->phases[p].w.packed = packed;
    }
    add_biases(r->kind, hidden, d->w.bias_ih, d->w.bias_hh, bias);
    d->bias = bias;
    recurrent_sorted(rows, h0, r->output, r->output, d->h0);
    if (r->kind == FDL_RECURRENT_LSTM)
        recurrent_sorted(rows, c0, hidden, hidden, d->c0);
    for (d->begin = 0; d->begin < rows->steps; d->begin = d->end) {
        d->end = min64(rows->steps, d->begin + at_once);
        const int64_t one = step_time(d, d->begin), other = step_time(d, d->end - 1), last = max64(one, other);
        d->first_row = rows->first[min64(one, other)];
        d->x_part = d->to.gates ? x_part + d->first_row * d->x_part_row : x_part;
        const int status = make_input_part(d, d->first_row, rows->first[last] + rows->active[last], threads);
        if (status != FDL_OK)
            return status;
        fdl_run_rounds(threads, (d->end - d->begin) * d->phase_count, run_phase, d);
    }
    for (int64_t t = 0; t < rows->steps; t++) /* those whose last step this is */
        for (int64_t i = d->backwards ? 0 : rows->active[t + 1]; i < rows->active[t] && !(d->backwards && t > 0); i++) {
            const int64_t b = rows->order[i], row = rows->first[t] + i;
            memcpy(h_n + b * r->output, d->to.h + row * d->to.h_row, (size_t)r->output * sizeof(real));
            if (r->kind == FDL_RECURRENT_LSTM)
                memcpy(c_n + b * hidden, d->to.c ? d->to.c + row * hidden : d->c0 + i * hidden,
                       (size_t)hidden * sizeof(real));
        }
    return FDL_OK;
}

/* ---- the stack ---- */

typedef struct {
    const fdl_recurrence *r;
    const recurrent_rows *rows;
    const int64_t *arrays;
    const real *h0, *c0;
    real *h_n, *c_n, *saved;
    int64_t layer;
    const real *x; /* the layer's input */
    int64_t input, x_row;
    const int64_t *place;
    real *h; /* the layer's output [rows, directions output] */
} layer_job;

static int run_directions(void *context, int64_t begin, int64_t end)
{
    const layer_job *job = context;
    const fdl_recurrence *r = job->r;
    int status = FDL_OK;
    for (int64_t i = begin; i < end && status == FDL_OK; i++) {
        const int64_t which = job->layer * r->directions + i;
        direction d = {
            .r = r,
            .rows = job->rows,
            .w = recurrent_arrays(r, job->arrays, 0, job->layer, i),
            .backwards = recurrent_backwards(r, i),
            .loose = recurrent_loose(job->rows->rows),
            .x = job->x,
            .input = job->input,
            .x_row = job->x_row,
            .place = job->place,
            .to = {NULL, NULL, job->h + i * r->output, r->directions * r->output},
        };
        if (job->saved) {
            const recurrent_saved to = recurrent_saved_of(r, job->saved, job->rows->rows, job->layer, i);
            d.to.gates = recurrent_saved_gates(r->kind) ? to.gates : NULL;
            d.to.c = to.c;
        }
        const int64_t h = which * r->batch * r->output, c = which * r->batch * r->hidden;
        const fdl_mark mark = fdl_scratch_mark();
        status = run_direction(&d, job->h0 ? job->h0 + h : NULL, job->c0 ? job->c0 + c : NULL, job->h_n + h,
                               job->c_n ? job->c_n + c : NULL);
        fdl_scratch_release(mark);
    }
    return status;
}

/* In scratch memory, which the caller releases. */
static int run_stack(layer_job *job, const real *x, real *output, double keep, int64_t seed, int64_t offset)
{
    const fdl_recurrence *r = job->r;
    recurrent_rows rows;
    const int64_t width = r->directions * r->output;
    real *hidden[2] = {NULL, NULL}, *dropped = NULL;
    int status = recurrent_schedule(r, job->place, &rows); /* place: the lengths, so far */
    if (status != FDL_OK)
        return status;
    for (int64_t i = 0; i < 2 && !job->saved; i++)
        if ((r->layers > 1 || rows.place) && !(hidden[i] = recurrent_scratch(rows.rows * width)))
            return FDL_OUT_OF_MEMORY;
    if (keep < 1 && r->layers > 1 && !(dropped = recurrent_scratch(rows.rows * width)))
        return FDL_OUT_OF_MEMORY;
    job->rows = &rows, job->place = rows.place, job->x = x, job->input = job->x_row = r->input;
    for (job->layer = 0; job->layer < r->layers; job->layer++) {
        const bool last = job->layer == r->layers - 1;
        job->h = job->saved            ? recurrent_saved_of(r, job->saved, rows.rows, job->layer, 0).h
                 : last && !rows.place ? output
                                       : hidden[job->layer % 2];
        status = recurrent_directions(r, rows.rows, run_directions, job);
        if (status == FDL_OK && !last && keep < 1)
            status = recurrent_dropout(r, &rows, job->layer, job->h, dropped, keep, seed, offset);
        if (status != FDL_OK)
            return status;
        job->x = !last && keep < 1 ? dropped : job->h, job->input = job->x_row = width, job->place = NULL;
    }
    if (job->h == output)
        return FDL_OK;
    if (rows.rows < r->steps * r->batch)
        memset(output, 0, (size_t)(r->steps * r->batch * width) * sizeof(real));
    if (!rows.place)
        memcpy(output, job->h, (size_t)(rows.rows * width) * sizeof(real));
    for (int64_t row = 0; rows.place && row < rows.rows; row++)
        memcpy(output + rows.place[row] * width, job->h + row * width, (size_t)width * sizeof(real));
    return FDL_OK;
}

int fdl_recurrent(const real *x, const int64_t *arrays, const int64_t *lengths, const real *h0, const real *c0,
                  real *output, real *h_n, real *c_n, real *saved, const fdl_recurrence *r, double keep, int64_t seed,
                  int64_t offset)
{
    layer_job job = {
        .r = r,
        .arrays = arrays,
        .h0 = h0,
        .c0 = c0,
        .h_n = h_n,
        .c_n = c_n,
        .saved = saved,
        .place = lengths,
    };
    const fdl_mark mark = fdl_scratch_mark();
    const int status = run_stack(&job, x, output, keep, seed, offset);
    fdl_scratch_release(mark);
    return status;
}

int fdl_recurrent_cell(const real *x, const real *h, const real *c, const real *weight_ih, const real *weight_hh,
                       const real *bias_ih, const real *bias_hh, real *h_next, real *c_next, int64_t batch,
                       int64_t input, int64_t hidden, int64_t kind)
{
    const fdl_recurrence r = {kind, 1, batch, input, hidden, hidden, 1, 1, 0, 0, 0, 0, 0};
    const recurrent_weights w = {(real *)weight_ih, (real *)weight_hh, (real *)bias_ih, (real *)bias_hh, NULL, NULL};
    const fdl_mark mark = fdl_scratch_mark();
    recurrent_rows rows;
    real *h_n = recurrent_scratch(batch * hidden);
    int status = h_n ? recurrent_schedule(&r, NULL, &rows) : FDL_OUT_OF_MEMORY;
    direction d = {
        .r = &r,
        .rows = &rows,
        .w = w,
        .loose = recurrent_loose(batch),
        .x = x,
        .input = input,
        .x_row = input,
        .to = {NULL, NULL, h_next, hidden},
    };
    if (status == FDL_OK)
        status = run_direction(&d, h, c, h_n, c_next);
    fdl_scratch_release(mark);
    return status;
}

/* ---- a cell with packed weights ---- */

/* What fdl_recurrent_pack writes, in this order, each beginning a cache line: LANES; the biases of W x; the GRU's d_n;
 * the panels of weight_ih, taken as one gate; those of each phase. Each has the room that it takes on the widest level:
 * a program has this memory for good, also where the level changes. */
typedef struct {
    int64_t bias, bias_n, input, phases[2], size; /* where each begins */
    panel_weights w_input;
    phase phase[2];
    int64_t phase_count;
} packed_layout;

static packed_layout lay_out(const real *weight_ih, const real *weight_hh, int64_t input, int64_t hidden, int64_t kind)
{
    enum { LINE = 64 / (int)sizeof(real) };
    const int64_t columns = recurrent_gates(kind) * hidden;
    packed_layout at = {.w_input = {weight_ih, 0, input, 1, 1, columns, input, NULL}};
    at.phase_count = make_phases(kind, hidden, hidden, weight_hh, NULL, at.phase);
    at.bias = LINE;
    at.bias_n = at.bias + ceil_div(columns, LINE) * LINE;
    at.input = at.bias_n + ceil_div(hidden, LINE) * LINE;
    at.size = at.input + panel_room(&at.w_input);
    for (int64_t p = 0; p < at.phase_count; p++) {
        at.phases[p] = at.size;
        at.size += panel_room(&at.phase[p].w);
    }
    return at;
}

int fdl_recurrent_packed_size(const real *weight_hh, int64_t *size, int64_t input, int64_t hidden, int64_t kind)
{
    *size = lay_out(NULL, weight_hh, input, hidden, kind).size;
    return FDL_OK;
}

int fdl_recurrent_pack(const real *weight_ih, const real *weight_hh, const real *bias_ih, const real *bias_hh,
                       real *packed, int64_t input, int64_t hidden, int64_t kind)
{
    const packed_layout at = lay_out(weight_ih, weight_hh, input, hidden, kind);
    packed[0] = LANES;
    add_biases(kind, hidden, bias_ih, bias_hh, packed + at.bias);
    for (int64_t j = 0; j < hidden; j++)
        packed[at.bias_n + j] = bias_hh && kind == FDL_RECURRENT_GRU ? bias_hh[2 * hidden + j] : 0;
    int status = panel_pack(&at.w_input, packed + at.input);
    for (int64_t p = 0; p < at.phase_count && status == FDL_OK; p++)
        status = panel_pack(&at.phase[p].w, packed + at.phases[p]);
    return status;
}

int fdl_recurrent_step(const real *x, const real *packed, const real *h, const real *c, real *h_next, real *c_next,
                       int64_t batch, int64_t input, int64_t hidden, int64_t kind)
{
    if (packed[0] != LANES)
        return FDL_BAD_LEVEL;
    packed_layout at = lay_out(NULL, NULL, input, hidden, kind);
    const int64_t columns = recurrent_gates(kind) * hidden;
    const fdl_mark mark = fdl_scratch_mark();
    real *x_part = recurrent_scratch(batch * columns),
         *result = h_next == h ? recurrent_scratch(batch * hidden) : h_next;
    real *buffer = recurrent_scratch(panel_buffer_size(batch)), *between = recurrent_scratch(batch * 2 * hidden);
    if (!x_part || !result || !buffer || !between) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    at.w_input.packed = packed + at.input;
    const input_part part = {columns, packed + at.bias, x_part, columns};
    panel_product(&at.w_input, x, input, 0, batch, 0, panel_count(&at.w_input), buffer, add_input, &part);
    const cell state = {
        .units = hidden,
        .x_part = x_part,
        .x_row = columns,
        .h_prev = h,
        .h_prev_row = hidden,
        .h = result,
        .h_row = hidden,
        .c_prev = c,
        .c = c_next,
        .between = at.phase_count == 2 ? between : NULL,
        .bias_n = packed + at.bias_n,
    };
    for (int64_t p = 0; p < at.phase_count; p++) {
        at.phase[p].w.packed = packed + at.phases[p];
        panel_product(&at.phase[p].w, p == 0 ? h : between, p == 0 ? hidden : 2 * hidden, 0, batch, 0,
                      panel_count(&at.phase[p].w), buffer, at.phase[p].epilogue, &state);
    }
    if (result != h_next)
        memcpy(h_next, result, (size_t)(batch * hidden) * sizeof(real));
    fdl_scratch_release(mark);
    return FDL_OK;
}
