/* Recurrent networks backward: the gradients of rnn, lstm, gru, by backpropagation through time.
 *
 * Steps are gone through from the last that was made to the first. Each is a product of the gradients in the gates of
 * the step that followed with the recurrent weights, which gives the gradient in h', to whose sums the rest of the
 * cell's backward is applied tile by tile, as in forward.c; a projection, or a reset gate that came first, is a
 * second phase. The gradients in the gates of all steps are kept: those of the weights and of the input are one product
 * each, over all steps, at the end.
 *
 * The gradients in the gates, in what is passed to the activations (a prime: times the activation's slope):
 *
 *   lstm   do = dh tanh(c')       dc = dh o (1 - tanh(c')^2) + what comes from the next step [+ p_o do']
 *          di = dc g, df = dc c, dg = dc i;   to the step before: dc f [+ p_i di' + p_f df']
 *   gru    dn = dh (1 - z), dz = dh (h - n), dr = dn' (R_n h + d_n);   to the step before: dh z
 *          reset first: dr = (R_n^T dn') h;    to the step before: dh z + (R_n^T dn') r
 *
 * All arithmetic is in `real`; biases, peepholes and norms are summed in double. */
#include "kernels/recurrent/recurrent.h"

#include "vector/vmath.h"

/* What the rest of a cell's backward works on, in one step: row i of each array at i * its stride. */
typedef struct {
    int64_t units;
    const real *grad_output; /* NULL: the sums are all of the gradient in h' */
    int64_t grad_output_row;
    const real *gates; /* as saved */
    int64_t gates_row;
    const real *h, *h_prev;
    int64_t h_row, h_prev_row;
    const real *c, *c_prev;
    real *carried; /* [batch, hidden]: the gradient in c, or in h beside what the product gives, from the step after */
    real *d_gates; /* [rows, d_row]: of the parts of W x + b, and of the GRU's R_n h + d_n before its last */
    int64_t d_row;
    real *d_hidden; /* [rows, output]: the gradient in h', where there is a second phase that takes it */
    real *seen;     /* [rows, hidden]: what the second phase's weights were multiplied with; NULL: not wanted */
    const real *peephole;
    double *squares;      /* of the gradient in h', summed up for each vector of units; NULL: not wanted */
    int64_t squares_step; /* from one vector's to the next */
    int64_t
        truncate; /* 0: not, or rows that begin here; else nothing comes from the step after, if `truncate` divides */
    int64_t done; /* the steps done then: this, or */
    const int64_t *length; /* the row's length less this */
} cell;

FDL_INLINE bool is_cut(const cell *c, int64_t row)
{
    return c->truncate && (c->length ? c->length[row] - c->done : c->done) % c->truncate == 0;
}
FDL_INLINE vreal carried(const cell *c, int64_t row, int64_t unit, int64_t lanes)
{
    return is_cut(c, row) ? (vreal){0} : vload_up_to(c->carried + row * c->units + unit, lanes);
}
FDL_INLINE void carry(const cell *c, int64_t row, int64_t unit, int64_t lanes, vreal v)
{
    vstore_up_to(c->carried + row * c->units + unit, v, lanes);
}
enum { AHEAD = 4 }; /* rows that are fetched before: the hardware does not foresee lines so far apart */
FDL_INLINE vreal gate(const cell *c, int64_t row, int64_t g, int64_t unit, int64_t lanes)
{
    const real *from = c->gates + row * c->gates_row + g * c->units + unit;
    __builtin_prefetch(from + AHEAD * c->gates_row);
    return vload_up_to(from, lanes);
}
FDL_INLINE void store_grad(const cell *c, int64_t row, int64_t g, int64_t unit, int64_t lanes, vreal v)
{
    real *to = c->d_gates + row * c->d_row + g * c->units + unit;
    __builtin_prefetch(to + AHEAD * c->d_row, 1);
    vstore_up_to(to, v, lanes);
}
/* The whole gradient in h', of which `others` is what comes from the step after beside the sums. */
FDL_INLINE vreal state_grad(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums, vreal others)
{
    vreal dh = is_cut(c, row) ? (vreal){0} : vload(sums);
    dh += others + vload_up_to(c->grad_output + row * c->grad_output_row + unit, lanes);
    if (c->squares)
        for (int64_t l = 0; l < lanes; l++) /* in double: they vanish and explode */
            c->squares[unit / LANES * c->squares_step] += (double)dh[l] * (double)dh[l];
    return dh;
}

FDL_INLINE void rnn_tanh_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal h = vload_up_to(c->h + row * c->h_row + unit, lanes);
    store_grad(c, row, 0, unit, lanes, state_grad(c, row, unit, lanes, sums, (vreal){0}) * (1 - h * h));
}
FDL_INLINE void rnn_relu_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal h = vload_up_to(c->h + row * c->h_row + unit, lanes);
    const vreal dh = state_grad(c, row, unit, lanes, sums, (vreal){0});
    store_grad(c, row, 0, unit, lanes, vselect(h <= (vreal){0}, (vreal){0}, dh)); /* not h > 0: NaN passes it on */
}

FDL_INLINE void lstm_grad(const cell *c, int64_t row, int64_t unit, int64_t lanes, vreal dh)
{
    const vreal i = gate(c, row, 0, unit, lanes), f = gate(c, row, 1, unit, lanes);
    const vreal g = gate(c, row, 2, unit, lanes), o = gate(c, row, 3, unit, lanes);
    const vreal c_prev = vload_up_to(c->c_prev + row * c->units + unit, lanes);
    const vreal t = vgate_tanh(vload_up_to(c->c + row * c->units + unit, lanes));
    const vreal d_o = dh * t * (o * (1 - o));
    vreal dc = carried(c, row, unit, lanes) + dh * o * (1 - t * t);
    if (c->peephole)
        dc += vload_up_to(c->peephole + 2 * c->units + unit, lanes) * d_o;
    const vreal d_i = dc * g * (i * (1 - i)), d_f = dc * c_prev * (f * (1 - f));
    store_grad(c, row, 0, unit, lanes, d_i);
    store_grad(c, row, 1, unit, lanes, d_f);
    store_grad(c, row, 2, unit, lanes, dc * i * (1 - g * g));
    store_grad(c, row, 3, unit, lanes, d_o);
    dc *= f;
    if (c->peephole)
        dc += vload_up_to(c->peephole + unit, lanes) * d_i + vload_up_to(c->peephole + c->units + unit, lanes) * d_f;
    carry(c, row, unit, lanes, dc);
    if (c->seen)
        vstore_up_to(c->seen + row * c->units + unit, o * t, lanes);
}
FDL_INLINE void lstm_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    lstm_grad(c, row, unit, lanes, state_grad(c, row, unit, lanes, sums, (vreal){0}));
}
/* Of a projected LSTM, the gradient in what it gives on, and from that in what is projected. */
FDL_INLINE void projected_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    vstore_up_to(c->d_hidden + row * c->units + unit, state_grad(c, row, unit, lanes, sums, (vreal){0}), lanes);
}
FDL_INLINE void lstm_projected_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    lstm_grad(c, row, unit, lanes, vload(sums));
}

FDL_INLINE void gru_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal dh = state_grad(c, row, unit, lanes, sums, carried(c, row, unit, lanes));
    const vreal r = gate(c, row, 0, unit, lanes), z = gate(c, row, 1, unit, lanes), n = gate(c, row, 2, unit, lanes);
    const vreal h_prev = vload_up_to(c->h_prev + row * c->h_prev_row + unit, lanes);
    const vreal d_n = dh * (1 - z) * (1 - n * n);
    store_grad(c, row, 0, unit, lanes, d_n * gate(c, row, 3, unit, lanes) * (r * (1 - r)));
    store_grad(c, row, 1, unit, lanes, dh * (h_prev - n) * (z * (1 - z)));
    store_grad(c, row, 2, unit, lanes, d_n * r); /* in R_n h + d_n */
    store_grad(c, row, 3, unit, lanes, d_n);     /* in W_n x + b_n */
    carry(c, row, unit, lanes, dh * z);
}
FDL_INLINE void gru_before_reset_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal dh = state_grad(c, row, unit, lanes, sums, carried(c, row, unit, lanes));
    const vreal z = gate(c, row, 1, unit, lanes), n = gate(c, row, 2, unit, lanes);
    const vreal h_prev = vload_up_to(c->h_prev + row * c->h_prev_row + unit, lanes);
    store_grad(c, row, 1, unit, lanes, dh * (h_prev - n) * (z * (1 - z)));
    store_grad(c, row, 2, unit, lanes, dh * (1 - z) * (1 - n * n));
    carry(c, row, unit, lanes, dh * z);
}
FDL_INLINE void gru_reset_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    const vreal r = gate(c, row, 0, unit, lanes), d_seen = vload(sums);
    const vreal h_prev = vload_up_to(c->h_prev + row * c->h_prev_row + unit, lanes);
    store_grad(c, row, 0, unit, lanes, d_seen * h_prev * (r * (1 - r)));
    carry(c, row, unit, lanes, vload_up_to(c->carried + row * c->units + unit, lanes) + d_seen * r);
    vstore_up_to(c->seen + row * c->units + unit, r * h_prev, lanes);
}

/* The gradient in the initial state, of rows whose first step this is; c->d_hidden [batch, units], in their order. */
FDL_INLINE void initial_of(const cell *c, int64_t row, int64_t unit, int64_t lanes, const real *sums)
{
    vreal dh = vload(sums);
    if (c->carried)
        dh += vload_up_to(c->carried + row * c->units + unit, lanes);
    vstore_up_to(c->d_hidden + row * c->units + unit, dh, lanes);
}

EACH_UNIT(rnn_tanh, cell, 1, PANEL_SPREAD)
EACH_UNIT(rnn_relu, cell, 1, PANEL_SPREAD)
EACH_UNIT(lstm, cell, 1, PANEL_SPREAD)
EACH_UNIT(projected, cell, 1, PANEL_SPREAD)
EACH_UNIT(lstm_projected, cell, 1, PANEL_SPREAD)
EACH_UNIT(gru, cell, 1, PANEL_SPREAD)
EACH_UNIT(gru_before_reset, cell, 1, PANEL_SPREAD)
EACH_UNIT(gru_reset, cell, 1, PANEL_SPREAD)
EACH_UNIT(initial, cell, 1, PANEL_SPREAD)

/* ---- one direction of one layer ---- */

typedef struct {
    const fdl_recurrence *r;
    const recurrent_rows *rows;
    recurrent_weights w, grad;
    bool backwards, loose;
    const real *grad_output; /* [rows, output], grad_output_row apart */
    int64_t grad_output_row;
    recurrent_saved saved;
    int64_t truncate;
    real *h0, *c0;  /* [batch, output], [batch, hidden], in the order of rows, as everything below */
    real *grad_h_n; /* [batch, grad_h_n_row], with zeros past the last */
    int64_t grad_h_n_row;
    real *carried, *grad_h0; /* [batch, hidden], [batch, output] */
    int64_t *length;         /* [batch] */
    real *d_gates, *d_hidden, *seen;
    int64_t d_row;
    panel_weights w_step, w_second; /* of the product over gates, and of the second phase */
    panel_epilogue *step, *second;  /* NULL: there is none */
    real *buffers;
    int64_t buffer_size;
    double *squares; /* [vectors of units, steps]; NULL: not wanted */
} direction;

/* The step that is gone through at `turn`. */
static int64_t turn_time(const direction *d, int64_t turn) { return d->backwards ? turn : d->rows->steps - 1 - turn; }

/* What epilogues need at `turn`. */
static cell turn_cell(const direction *d, int64_t turn)
{
    const int64_t t = turn_time(d, turn), row = d->rows->first[t], hidden = d->r->hidden;
    const int64_t gates_row = recurrent_saved_gates(d->r->kind) * hidden;
    return (cell){
        .units = d->r->output,
        .grad_output = d->grad_output + row * d->grad_output_row,
        .grad_output_row = d->grad_output_row,
        .gates = d->saved.gates + row * gates_row,
        .gates_row = gates_row,
        .h = d->saved.h + row * d->saved.h_row,
        .h_row = d->saved.h_row,
        .c = d->saved.c ? d->saved.c + row * hidden : NULL,
        .carried = d->carried,
        .d_gates = d->d_gates + row * d->d_row,
        .d_row = d->d_row,
        .d_hidden = d->d_hidden ? d->d_hidden + row * d->r->output : NULL,
        .seen = d->seen ? d->seen + row * hidden : NULL,
        .peephole = d->w.peephole,
        .squares = d->squares ? d->squares + t : NULL,
        .squares_step = d->rows->steps,
        .done = d->backwards ? t : t + 1,
        .length = d->backwards ? d->length : NULL,
    };
}

/* Rows that had a step before that of `turn`; the others begin there. */
static int64_t rows_that_stay(const direction *d, int64_t turn)
{
    const int64_t *active = d->rows->active;
    return turn + 1 < d->rows->steps ? min64(active[turn_time(d, turn)], active[turn_time(d, turn + 1)]) : 0;
}

/* The gradients of initial states of the rows that begin at `turn`. */
static void begin_rows(const direction *d, int64_t turn, int64_t share, int64_t shares)
{
    const int64_t panels = panel_count(&d->w_step), stay = rows_that_stay(d, turn);
    cell c = turn_cell(d, turn);
    c.d_hidden = d->grad_h0, c.truncate = 0;
    c.carried = d->r->kind >= FDL_RECURRENT_GRU ? d->carried : NULL;
    panel_product(&d->w_step, c.d_gates + stay * d->d_row, d->d_row, stay, d->rows->active[turn_time(d, turn)] - stay,
                  panels * share / shares, panels * (share + 1) / shares, d->buffers + share * d->buffer_size, initial,
                  &c);
}

/* A phase of a turn, the panels that are this share's; before the first phase, what is left of the turn before. */
static void run_phase(void *context, int64_t round, int64_t share, int64_t shares)
{
    const direction *d = context;
    const recurrent_rows *rows = d->rows;
    const fdl_recurrence *r = d->r;
    const int64_t phases = d->second ? 2 : 1, turn = round / phases, phase = round % phases;
    const int64_t steps = rows->steps, hidden = r->hidden, size = panel_units(&d->w_step);
    if (phase == 0 && turn > 0)
        begin_rows(d, turn - 1, share, shares);
    if (turn == steps)
        return;
    const int64_t t = turn_time(d, turn), n = rows->active[t];
    /* Of the step after it in the order of making, and of that before. */
    const int64_t after = turn > 0 ? turn_time(d, turn - 1) : t, before = turn + 1 < steps ? turn_time(d, turn + 1) : t;
    const int64_t going_on = turn > 0 ? min64(n, rows->active[after]) : 0, stay = rows_that_stay(d, turn);
    const panel_weights *w = phase == 0 ? &d->w_step : &d->w_second;
    panel_epilogue *const epilogue = phase == 0 ? d->step : d->second;
    const int64_t first = panel_count(w) * share / shares, last = panel_count(w) * (share + 1) / shares;
    cell c = turn_cell(d, turn);
    c.units = w->units;
    /* h and c before this step: of rows with a step before it, where that was saved; else the initial ones. */
    for (int64_t part = 0; part < 4; part++) {
        const bool begins = part & 1, from_after = part < 2;
        const int64_t low = max64(begins ? stay : 0, from_after ? 0 : going_on);
        const int64_t high = min64(begins ? n : stay, from_after ? going_on : n);
        if (low >= high)
            continue;
        c.h_prev = begins ? d->h0 : d->saved.h + rows->first[before] * d->saved.h_row;
        c.h_prev_row = begins ? r->output : d->saved.h_row;
        c.c_prev = begins || !d->saved.c ? d->c0 : d->saved.c + rows->first[before] * hidden;
        c.truncate = from_after ? d->truncate : 0;
        if (phase == 0 && !from_after) { /* what comes from the step after is the gradient of the last state */
            epilogue(&c, low, high - low, first * size, last - first,
                     d->grad_h_n + low * d->grad_h_n_row + first * size, d->grad_h_n_row);
            continue;
        }
        const real *a = phase == 0 ? d->d_gates + rows->first[after] * d->d_row : c.d_hidden;
        int64_t a_row = phase == 0 ? d->d_row : r->output;
        if (phase == 1 && r->kind == FDL_RECURRENT_GRU_RESET_FIRST)
            a = c.d_gates + 2 * hidden, a_row = d->d_row;
        const int64_t from = turn % 2 ? last : first, to = turn % 2 ? first : last; /* up and down */
        panel_product(w, a + low * a_row, a_row, low, high - low, from, to, d->buffers + share * d->buffer_size,
                      epilogue, &c);
    }
}

/* Rows wherever they are, as B of a product over them. */
static const real *pack_rows(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns, real *out)
{
    const real *const *rows = context;
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        for (int64_t i = 0; i < terms; i++)
            for (int64_t v = 0; v < width; v += LANES)
                vstore(out + j * terms + i * width + v,
                       columns - j - v > 0 ? vload_up_to(rows[k + i] + column + j + v, columns - j - v) : (vreal){0});
    }
    return out;
}

/* grad [m, n] = the transpose of d [rows, m] times x [rows, n], given by its rows. */
static int weight_grad(const real *d, int64_t d_row, int64_t m, const real *const *x, int64_t n, int64_t rows,
                       real *grad)
{
    const gemm_problem p = {
        .m = m,
        .n = n,
        .k = rows,
        .a = {d, 1, d_row},
        .pack_b = pack_rows,
        .b = x,
        .c = grad,
        .c_row = n,
    };
    return gemm_parallel(&p);
}

/* y [rows, n] (+)= d [rows, k] weight [k, n] */
static int input_grad(const real *d, int64_t d_row, int64_t k, const real *weight, int64_t n, int64_t rows, real *y,
                      bool accumulate)
{
    const gemm_matrix b = {weight, n, 1};
    const gemm_problem p = {
        .m = rows,
        .n = n,
        .k = k,
        .a = {d, d_row, 1},
        .pack_b = gemm_matrix_b,
        .b = &b,
        .c = y,
        .c_row = n,
        .accumulate = accumulate,
    };
    return gemm_parallel(&p);
}

/* The gradients of the peepholes: sums over rows of the gates' gradients times c before, or (of o) after. */
static int peephole_grad(const direction *d, const real *const *c_prev)
{
    const int64_t hidden = d->r->hidden, rows = d->rows->rows;
    double *sum = fdl_scratch(3 * hidden * (int64_t)sizeof(double));
    if (!sum)
        return FDL_OUT_OF_MEMORY;
    memset(sum, 0, (size_t)(3 * hidden) * sizeof(double));
    for (int64_t row = 0; row < rows; row++) {
        const real *grad = d->d_gates + row * d->d_row, *c = d->saved.c + row * hidden;
        for (int64_t j = 0; j < hidden; j++) {
            sum[j] += (double)grad[j] * (double)c_prev[row][j];
            sum[hidden + j] += (double)grad[hidden + j] * (double)c_prev[row][j];
            sum[2 * hidden + j] += (double)grad[3 * hidden + j] * (double)c[j];
        }
    }
    for (int64_t j = 0; j < 3 * hidden; j++)
        d->grad.peephole[j] = (real)sum[j];
    return FDL_OK;
}

/* before[row] = where the state before each row is: saved with those of other rows, or among the initial ones. */
static void find_previous(const direction *d, const real *saved, int64_t saved_row, const real *initial,
                          int64_t initial_row, const real **previous)
{
    const recurrent_rows *rows = d->rows;
    for (int64_t t = 0; t < rows->steps; t++) {
        const int64_t before = d->backwards ? t + 1 : t - 1;
        const int64_t stay = before < 0 || before == rows->steps ? 0 : min64(rows->active[t], rows->active[before]);
        for (int64_t i = 0; i < rows->active[t]; i++)
            previous[rows->first[t] + i] =
                i < stay ? saved + (rows->first[before] + i) * saved_row : initial + i * initial_row;
    }
}

/* Of all weights, from the gradients in the gates. x: rows of the layer's input. */
static int all_weight_grads(const direction *d, const real *const *x, int64_t input)
{
    const int64_t kind = d->r->kind, hidden = d->r->hidden, output = d->r->output, rows = d->rows->rows;
    const int64_t size = recurrent_gates(kind) * hidden;
    const bool apart = kind == FDL_RECURRENT_GRU; /* the gradients in W x and in R h differ, in the last part */
    const int64_t same = apart ? 2 * hidden : size, rest = apart ? hidden : 0;
    const real **previous = fdl_scratch(max64(1, rows) * (int64_t)sizeof(real *));
    if (!previous)
        return FDL_OUT_OF_MEMORY;
    int status = weight_grad(d->d_gates, d->d_row, same, x, input, rows, d->grad.weight_ih);
    if (status == FDL_OK && rest)
        status = weight_grad(d->d_gates + 3 * hidden, d->d_row, rest, x, input, rows, d->grad.weight_ih + same * input);
    if (status == FDL_OK && d->grad.bias_ih) {
        status = gemm_column_sums(d->d_gates, d->d_row, rows, size, d->grad.bias_hh, false);
        memcpy(d->grad.bias_ih, d->grad.bias_hh, (size_t)size * sizeof(real));
        if (status == FDL_OK && rest)
            status = gemm_column_sums(d->d_gates + 3 * hidden, d->d_row, rows, rest, d->grad.bias_ih + same, false);
    }
    find_previous(d, d->saved.h, d->saved.h_row, d->h0, output, previous);
    const int64_t from_h = kind == FDL_RECURRENT_GRU_RESET_FIRST ? 2 * hidden : size;
    if (status == FDL_OK)
        status = weight_grad(d->d_gates, d->d_row, from_h, previous, output, rows, d->grad.weight_hh);
    if (status == FDL_OK && d->grad.peephole) {
        find_previous(d, d->saved.c, hidden, d->c0, hidden, previous);
        status = peephole_grad(d, previous);
    }
    for (int64_t row = 0; row < rows && d->seen; row++)
        previous[row] = d->seen + row * hidden;
    if (status == FDL_OK && from_h < size)
        status = weight_grad(d->d_gates + from_h, d->d_row, hidden, previous, hidden, rows,
                             d->grad.weight_hh + from_h * output);
    if (status == FDL_OK && d->grad.weight_hr)
        status = weight_grad(d->d_hidden, output, output, previous, hidden, rows, d->grad.weight_hr);
    return status;
}

/* Panels, packed to scratch memory where that is worth it. */
static int prepare(panel_weights *w, bool loose)
{
    real *packed = loose ? NULL : recurrent_scratch(panel_size(w));
    if (loose)
        return FDL_OK;
    if (!packed)
        return FDL_OUT_OF_MEMORY;
    const int status = panel_pack(w, packed);
    w->packed = packed;
    return status;
}

/* Everything but the input's gradient, for which d_gates are left. In scratch memory, which the caller releases. */
static int run_direction(direction *d, const real *const *x, int64_t input, const real *grad_h_n, const real *grad_c_n,
                         const real *h0, const real *c0, real *grad_h0, real *grad_c0, real *norms)
{
    const fdl_recurrence *r = d->r;
    const recurrent_rows *rows = d->rows;
    const int64_t hidden = r->hidden, output = r->output, batch = r->batch, steps = r->steps, kind = r->kind;
    const bool lstm_kind = kind == FDL_RECURRENT_LSTM, reset_first = kind == FDL_RECURRENT_GRU_RESET_FIRST;
    const int64_t threads = d->loose ? 1 : recurrent_threads(r);
    const int64_t size = recurrent_gates(kind) * hidden;
    panel_epilogue *const epilogues[] = {rnn_tanh, rnn_relu, lstm, gru, gru_before_reset};
    const int64_t terms = reset_first ? 2 * hidden : size;
    d->w_step = (panel_weights){d->w.weight_hh, 0, 1, output, 1, output, terms, NULL};
    d->step = epilogues[kind];
    if (r->projection) {
        d->step = projected, d->second = lstm_projected;
        d->w_second = (panel_weights){d->w.weight_hr, 0, 1, hidden, 1, hidden, output, NULL};
    } else if (reset_first) {
        d->second = gru_reset;
        d->w_second = (panel_weights){d->w.weight_hh + 2 * hidden * hidden, 0, 1, hidden, 1, hidden, hidden, NULL};
    }
    d->grad_h_n_row = panel_count(&d->w_step) * panel_units(&d->w_step);
    d->buffer_size = panel_buffer_size(batch);
    d->h0 = recurrent_scratch(batch * output), d->c0 = recurrent_scratch(batch * hidden);
    d->carried = recurrent_scratch(batch * hidden), d->grad_h0 = recurrent_scratch(batch * output);
    d->grad_h_n = recurrent_scratch(batch * d->grad_h_n_row);
    d->d_hidden = r->projection ? recurrent_scratch(rows->rows * output) : NULL;
    d->seen = d->second ? recurrent_scratch(rows->rows * hidden) : NULL;
    d->buffers = recurrent_scratch(threads * d->buffer_size);
    const int64_t vectors = ceil_div(output, LANES);
    d->squares = norms ? fdl_scratch(vectors * steps * (int64_t)sizeof(double)) : NULL;
    d->length = fdl_scratch(max64(1, batch) * (int64_t)sizeof(int64_t));
    if (!d->h0 || !d->c0 || !d->carried || !d->grad_h0 || !d->grad_h_n || !d->buffers || !d->length ||
        (r->projection && !d->d_hidden) || (d->second && !d->seen) || (norms && !d->squares))
        return FDL_OUT_OF_MEMORY;
    int status = prepare(&d->w_step, d->loose);
    if (status == FDL_OK && d->second)
        status = prepare(&d->w_second, d->loose);
    if (status != FDL_OK)
        return status;
    if (norms)
        memset(d->squares, 0, (size_t)(vectors * steps) * sizeof(double));
    recurrent_sorted(rows, h0, output, output, d->h0);
    recurrent_sorted(rows, lstm_kind ? c0 : NULL, hidden, hidden, d->c0);
    recurrent_sorted(rows, lstm_kind ? grad_c_n : NULL, hidden, hidden, d->carried);
    recurrent_sorted(rows, grad_h_n, output, d->grad_h_n_row, d->grad_h_n);
    for (int64_t t = 0; t < steps; t++)
        for (int64_t i = 0; i < rows->active[t]; i++)
            d->length[i] = t + 1;
    fdl_run_rounds(threads, steps * (d->second ? 2 : 1) + 1, run_phase, d);
    for (int64_t i = 0; i < batch; i++) {
        memcpy(grad_h0 + rows->order[i] * output, d->grad_h0 + i * output, (size_t)output * sizeof(real));
        if (lstm_kind)
            memcpy(grad_c0 + rows->order[i] * hidden, d->carried + i * hidden, (size_t)hidden * sizeof(real));
    }
    for (int64_t t = 0; t < steps && norms; t++) {
        double square = 0;
        for (int64_t v = 0; v < vectors; v++)
            square += d->squares[v * steps + t];
        norms[t] = (real)sqrt(square);
    }
    return all_weight_grads(d, x, input);
}

/* ---- the stack ---- */

typedef struct {
    const fdl_recurrence *r;
    const recurrent_rows *rows;
    const int64_t *arrays;
    const real *grad_h_n, *grad_c_n, *h0, *c0;
    real *saved, *grad_h0, *grad_c0, *norms;
    int64_t truncate, layer;
    const real *const *x; /* the rows of the layer's input */
    int64_t input;
    const real *grad_output; /* of the layer [rows, directions output] */
    real *d_gates;           /* [directions, rows, d_row] */
    int64_t d_row;
} layer_job;

FDL_INLINE const real *part_of(const real *x, int64_t offset) { return x ? x + offset : NULL; }

static int run_directions(void *context, int64_t begin, int64_t end)
{
    const layer_job *job = context;
    const fdl_recurrence *r = job->r;
    int status = FDL_OK;
    for (int64_t i = begin; i < end && status == FDL_OK; i++) {
        const int64_t which = job->layer * r->directions + i;
        const int64_t h = which * r->batch * r->output, c = which * r->batch * r->hidden;
        direction d = {
            .r = r,
            .rows = job->rows,
            .w = recurrent_arrays(r, job->arrays, 0, job->layer, i),
            .grad = recurrent_arrays(r, job->arrays, 1, job->layer, i),
            .backwards = recurrent_backwards(r, i),
            .loose = recurrent_loose(job->rows->rows),
            .grad_output = job->grad_output + i * r->output,
            .grad_output_row = r->directions * r->output,
            .saved = recurrent_saved_of(r, job->saved, job->rows->rows, job->layer, i),
            .truncate = job->truncate,
            .d_gates = job->d_gates + i * job->rows->rows * job->d_row,
            .d_row = job->d_row,
        };
        const fdl_mark mark = fdl_scratch_mark();
        status =
            run_direction(&d, job->x, job->input, part_of(job->grad_h_n, h), part_of(job->grad_c_n, c),
                          part_of(job->h0, h), part_of(job->c0, c), job->grad_h0 + h,
                          job->grad_c0 ? job->grad_c0 + c : NULL, job->norms ? job->norms + which * r->steps : NULL);
        fdl_scratch_release(mark);
    }
    return status;
}

/* The gradient of the layer's input [rows, input], from what all directions left in d_gates. */
static int layer_input_grad(const layer_job *job, real *grad)
{
    const fdl_recurrence *r = job->r;
    const int64_t size = recurrent_gates(r->kind) * r->hidden, rows = job->rows->rows;
    const int64_t same = r->kind == FDL_RECURRENT_GRU ? 2 * r->hidden : size;
    int status = FDL_OK;
    for (int64_t i = 0; i < r->directions && status == FDL_OK; i++) {
        const recurrent_weights w = recurrent_arrays(r, job->arrays, 0, job->layer, i);
        const real *d = job->d_gates + i * rows * job->d_row;
        status = input_grad(d, job->d_row, same, w.weight_ih, job->input, rows, grad, i > 0);
        if (status == FDL_OK && same < size)
            status = input_grad(d + 3 * r->hidden, job->d_row, size - same, w.weight_ih + same * job->input, job->input,
                                rows, grad, true);
    }
    return status;
}

/* In scratch memory, which the caller releases. */
static int run_stack(layer_job *job, const real *grad_output, const real *x, const int64_t *lengths, real *grad_x,
                     double keep, int64_t seed, int64_t offset)
{
    const fdl_recurrence *r = job->r;
    recurrent_rows rows;
    const int64_t width = r->directions * r->output;
    int status = recurrent_schedule(r, lengths, &rows);
    if (status != FDL_OK)
        return status;
    job->rows = &rows;
    job->d_row = max64(1, recurrent_saved_gates(r->kind)) * r->hidden;
    job->d_gates = recurrent_scratch(r->directions * rows.rows * job->d_row);
    const bool stacked = r->layers > 1, drops = stacked && keep < 1;
    const real **x_rows = fdl_scratch(max64(1, rows.rows) * (int64_t)sizeof(real *));
    real *gathered = rows.place ? recurrent_scratch(rows.rows * width) : NULL;
    real *grads = stacked ? recurrent_scratch(rows.rows * width) : NULL; /* of what a layer gives on */
    real *dropped = drops ? recurrent_scratch(rows.rows * width) : NULL;
    real *grad_rows = rows.place && grad_x ? recurrent_scratch(rows.rows * r->input) : grad_x;
    if (!job->d_gates || !x_rows || (rows.place && !gathered) || (stacked && !grads) || (drops && !dropped) ||
        (grad_x && !grad_rows))
        return FDL_OUT_OF_MEMORY;
    for (int64_t row = 0; rows.place && row < rows.rows; row++)
        memcpy(gathered + row * width, grad_output + rows.place[row] * width, (size_t)width * sizeof(real));
    job->grad_output = rows.place ? gathered : grad_output;
    for (job->layer = r->layers - 1; job->layer >= 0; job->layer--) {
        const bool lowest = job->layer == 0;
        const real *from = lowest ? x : recurrent_saved_of(r, job->saved, rows.rows, job->layer - 1, 0).h;
        job->input = lowest ? r->input : width;
        if (!lowest && drops) {
            status = recurrent_dropout(r, &rows, job->layer - 1, from, dropped, keep, seed, offset);
            from = dropped;
        }
        for (int64_t row = 0; row < rows.rows; row++)
            x_rows[row] = from + (lowest && rows.place ? rows.place[row] : row) * job->input;
        job->x = x_rows;
        if (status == FDL_OK)
            status = recurrent_directions(r, rows.rows, run_directions, job);
        if (status == FDL_OK && (!lowest || grad_x))
            status = layer_input_grad(job, lowest ? grad_rows : grads);
        if (status == FDL_OK && !lowest && drops)
            status = recurrent_dropout(r, &rows, job->layer - 1, grads, grads, keep, seed, offset);
        if (status != FDL_OK)
            return status;
        job->grad_output = grads;
    }
    if (grad_x && rows.place) {
        memset(grad_x, 0, (size_t)(r->steps * r->batch * r->input) * sizeof(real));
        for (int64_t row = 0; row < rows.rows; row++)
            memcpy(grad_x + rows.place[row] * r->input, grad_rows + row * r->input, (size_t)r->input * sizeof(real));
    }
    return FDL_OK;
}

int fdl_recurrent_backward(const real *grad_output, const real *grad_h_n, const real *grad_c_n, const real *x,
                           const int64_t *arrays, const int64_t *lengths, const real *h0, const real *c0,
                           const real *saved, real *grad_x, real *grad_h0, real *grad_c0, real *state_grad_norms,
                           const fdl_recurrence *r, double keep, int64_t seed, int64_t offset, int64_t truncate)
{
    layer_job job = {
        .r = r,
        .arrays = arrays,
        .grad_h_n = grad_h_n,
        .grad_c_n = grad_c_n,
        .h0 = h0,
        .c0 = c0,
        .saved = (real *)saved, /* only read */
        .grad_h0 = grad_h0,
        .grad_c0 = grad_c0,
        .norms = state_grad_norms,
        .truncate = truncate,
    };
    const fdl_mark mark = fdl_scratch_mark();
    const int status = run_stack(&job, grad_output, x, lengths, grad_x, keep, seed, offset);
    fdl_scratch_release(mark);
    return status;
}

int fdl_recurrent_cell_backward(const real *grad_h_next, const real *grad_c_next, const real *x, const real *h,
                                const real *c, const real *weight_ih, const real *weight_hh, const real *bias_ih,
                                const real *bias_hh, real *grad_x, real *grad_h, real *grad_c, real *grad_weight_ih,
                                real *grad_weight_hh, real *grad_bias_ih, real *grad_bias_hh, int64_t batch,
                                int64_t input, int64_t hidden, int64_t kind)
{
    /* The sequence of one step, with biases, of zeros where there are none: their gradients are wanted all the same. */
    const fdl_recurrence r = {kind, 1, batch, input, hidden, hidden, 1, 1, 0, 0, 1, 0, 0};
    const int64_t size = recurrent_gates(kind) * hidden, states = batch * hidden;
    const int64_t saved_size = (recurrent_saved_gates(kind) + (kind == FDL_RECURRENT_LSTM) + 1) * states;
    const fdl_mark mark = fdl_scratch_mark();
    real *zeros = recurrent_scratch(size), *saved = recurrent_scratch(saved_size);
    real *output = recurrent_scratch(3 * states); /* and the states, which are not wanted either */
    int status = zeros && saved && output ? FDL_OK : FDL_OUT_OF_MEMORY;
    if (status == FDL_OK) {
        memset(zeros, 0, (size_t)size * sizeof(real));
        const real *const weights[] = {weight_ih, weight_hh, bias_ih ? bias_ih : zeros, bias_hh ? bias_hh : zeros};
        const real *const grads[] = {grad_weight_ih, grad_weight_hh, grad_bias_ih, grad_bias_hh};
        int64_t arrays[4 * 3] = {0};
        for (int i = 0; i < 4; i++)
            arrays[3 * i] = (int64_t)(uintptr_t)weights[i], arrays[3 * i + 1] = (int64_t)(uintptr_t)grads[i];
        status = fdl_recurrent(x, arrays, NULL, h, c, output, output + states, output + 2 * states, saved, &r, 1, 0, 0);
        if (status == FDL_OK)
            status = fdl_recurrent_backward(grad_h_next, NULL, grad_c_next, x, arrays, NULL, h, c, saved, grad_x,
                                            grad_h, grad_c, NULL, &r, 1, 0, 0, 0);
    }
    fdl_scratch_release(mark);
    return status;
}
