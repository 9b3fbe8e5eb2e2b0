/* Attention: for each head, over all keys j,
 *
 *   s_ij = scale q_i . k_j + bias_ij, -infinity where the mask does not allow it, or (causal) j > i
 *   y_i  = sum_j p_ij v_j,    p_ij = exp(s_ij - l_i),    l_i = log(sum_j exp(s_ij))
 *
 * and 0 for a row in which every score is -infinity. No score matrix is ever in memory: blocks of queries meet blocks of
 * keys, with the maximum, the sum and the result of the keys so far (Dao et al., "FlashAttention", NeurIPS 2022). Backward
 * computes the scores of each block again and p from l, which forward saved:
 *
 *   grad_v_j = sum_i p_ij g_i           t_ij = scale p_ij (g_i . v_j - g_i . y_i)
 *   grad_q_i = sum_j t_ij k_j           grad_k_j = sum_i t_ij q_i
 *
 * Products are the building block, with the keys (and backward the values) packed once a head where several blocks of
 * queries meet them. A task has blocks of queries, backward a head of keys with all the queries that look at it. How
 * blocks are cut follows from the shapes alone. Sums are `real` within a block of keys, those of exponentials then double.
 *
 * Dropout works on p: number (head queries + i) 4 ceil(keys / 4) + j of the generator of vector/dropout.h. */
#include "product/gemm.h"
#include "vector/dropout.h"
#include "vector/softmax.h"

enum {
    QUERIES = 84,                    /* most rows of a block */
    KEYS = 2048 / (int)sizeof(real), /* columns, where there are that many rows; of few rows up to MOST_KEYS */
    MOST_KEYS = 4096,
    ONCE = 8 << 20, /* most bytes of a head's keys to be packed as a whole */
    WORTH = 1 << 18 /* multiply-adds that are worth a thread */
};

typedef struct {
    const real *query, *key, *value, *bias;
    const uint8_t *allowed;
    real *y, *logsumexp;
    const real *grad_output, *result, *saved; /* backward */
    real *grad_query, *grad_key, *grad_value;
    const int64_t *geometry;
    fdl_heads shape;
    int64_t rows, columns, blocks; /* of a block; the blocks of queries of a head */
    bool once;
    real scale;
    double keep;
    int64_t seed, offset;
} attention;

/* What a thread has at hand. */
typedef struct {
    real *query, *scores, *grads, *packed_key, *packed_value, *inner;
} workspace;

static void describe(attention *t)
{
    const fdl_heads *s = &t->shape;
    t->blocks = max64(1, ceil_div(s->queries, QUERIES));
    t->rows = max64(1, ceil_div(s->queries, t->blocks));
    const int64_t most = QUERIES * KEYS / t->rows / GEMM_B_PANEL * GEMM_B_PANEL;
    t->columns = min64(min64(most, MOST_KEYS), max64(1, ceil_div(s->keys, GEMM_B_PANEL)) * GEMM_B_PANEL);
    t->once =
        t->rows > 16 && t->blocks > 1 && s->keys * max64(s->width, s->value_width) * (int64_t)sizeof(real) <= ONCE;
}

static bool take_workspace(const attention *t, workspace *w, bool backward)
{
    const fdl_heads *s = &t->shape;
    const int64_t block = t->rows * t->columns;
    const struct {
        real **part;
        int64_t size;
    } wanted[] = {
        {&w->query, t->rows * s->width},
        {&w->scores, block},
        {&w->grads, backward ? block : 0},
        {&w->packed_key, t->once ? gemm_packed_b_size(s->width, s->keys) : 0},
        {&w->packed_value, t->once && backward ? gemm_packed_b_size(s->value_width, s->keys) : 0},
        {&w->inner, backward ? s->queries : 0},
    };
    bool taken = true;
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++) {
        *wanted[i].part = fdl_scratch((wanted[i].size + LANES) * (int64_t)sizeof(real));
        taken = taken && *wanted[i].part;
    }
    return taken;
}

/* c [rows, columns of the block that starts at `first`] = a [rows, terms] times the transpose of b [keys, terms]. */
static int times_transpose(const attention *t, const real *a, int64_t rows, const real *b, const real *packed,
                           int64_t terms, int64_t first, int64_t count, real *c)
{
    const gemm_matrix plain = {b + first * terms, 1, terms};
    const gemm_packed_columns panels = {packed, t->shape.keys};
    gemm_problem p = {
        .m = rows,
        .n = count,
        .k = terms,
        .a = {a, terms, 1},
        .pack_b = gemm_matrix_b,
        .b = &plain,
        .c = c,
        .c_row = t->columns,
    };
    if (!t->once)
        return gemm_block(&p, (gemm_range){0, rows, 0, count});
    p.n = t->shape.keys, p.pack_b = gemm_packed_b, p.b = &panels, p.b_panel = GEMM_B_PANEL;
    p.c = (real *)((uintptr_t)c - (uintptr_t)first * sizeof(real));
    const int64_t whole = ceil_div(first + count, GEMM_B_PANEL) * GEMM_B_PANEL; /* panels as they are packed */
    return gemm_block(&p, (gemm_range){0, rows, first, min64(whole, t->shape.keys)});
}

/* c [m, n] (+)= a b, b [k, n] in rows. */
static int times(gemm_matrix a, const real *b, real *c, int64_t m, int64_t n, int64_t k, bool accumulate)
{
    const gemm_matrix plain = {b, n, 1};
    const gemm_problem p = {
        .m = m,
        .n = n,
        .k = k,
        .a = a,
        .pack_b = gemm_matrix_b,
        .b = &plain,
        .c = c,
        .c_row = n,
        .accumulate = accumulate,
    };
    return gemm_block(&p, (gemm_range){0, m, 0, n});
}

/* Where the mask of a head begins. */
static int64_t mask_of(const attention *t, int64_t head)
{
    int64_t at = 0;
    for (int64_t d = t->shape.mask_rank - 1; d >= 0; d--) {
        at += head % t->geometry[2 * d] * t->geometry[2 * d + 1];
        head /= t->geometry[2 * d];
    }
    return at;
}

/* The mask on the scores of a row, whose key 0 has its own at `at`. */
static void mask_row(const attention *t, real *scores, int64_t at, int64_t first, int64_t count)
{
    const int64_t step = t->shape.mask_key;
    const vreal never = vset1((real)-INFINITY);
    at += first * step;
    for (int64_t j = 0; j < count; j += LANES, at += step * LANES) {
        const int64_t left = count - j;
        vreal s = vload_up_to(scores + j, left);
        if (t->bias)
            s += step ? vload_up_to(t->bias + at, left) : vset1(t->bias[at]);
        else
            s = vselect(step ? vload_bools_up_to(t->allowed + at, left) : vset1_int(t->allowed[at] ? -1 : 0), s, never);
        vstore_up_to(scores + j, s, left);
    }
}

/* How many of the keys [first, first + count) query i may look at: where it is causal, those up to its own place. */
static int64_t seen(const attention *t, int64_t i, int64_t first, int64_t count)
{
    return t->shape.causal ? max64(0, min64(count, i + 1 - first)) : count;
}

/* Keys that some of the queries before `end` may look at. */
static int64_t keys_until(const attention *t, int64_t end) { return seen(t, end - 1, 0, t->shape.keys); }

/* The scores of the queries [begin, begin + rows) of a head, masked; past what a row may see they mean nothing. */
static int block_scores(const attention *t, const workspace *w, int64_t head, int64_t begin, int64_t rows,
                        int64_t first, int64_t count)
{
    const fdl_heads *s = &t->shape;
    const real *key = t->key + head / s->group * s->keys * s->width;
    const int status = times_transpose(t, w->query, rows, key, w->packed_key, s->width, first, count, w->scores);
    if (status == FDL_OK && (t->bias || t->allowed)) {
        const int64_t at = mask_of(t, head);
        for (int64_t i = 0; i < rows; i++)
            mask_row(t, w->scores + i * t->columns, at + (begin + i) * s->mask_row, first,
                     seen(t, begin + i, first, count));
    }
    return status;
}

/* w->query = scale times those rows. */
static void scale_queries(const attention *t, const workspace *w, int64_t head, int64_t begin, int64_t rows)
{
    const fdl_heads *s = &t->shape;
    const real *query = t->query + (head * s->queries + begin) * s->width;
    for (int64_t i = 0; i < rows * s->width; i += LANES)
        vstore(w->query + i, vload_up_to(query + i, rows * s->width - i) * t->scale);
}

/* Dropout of a block of p, or of its gradient. */
static void drop(const attention *t, real *block, int64_t head, int64_t begin, int64_t rows, int64_t first,
                 int64_t count)
{
    const int64_t each = ceil_div(t->shape.keys, 4);
    for (int64_t i = 0; i < rows && t->keep < 1; i++)
        (void)dropout_array(block + i * t->columns, block + i * t->columns, count, 1, t->keep, t->seed,
                            t->offset + (head * t->shape.queries + begin + i) * each + first / 4, 1 / t->keep, 0, 0);
}

static void scale_row(real *y, int64_t n, real factor)
{
    for (int64_t j = 0; j < n; j += LANES)
        vstore_up_to(y + j, vload_up_to(y + j, n - j) * factor, n - j);
}

static void pack_keys(const attention *t, const real *rows, int64_t terms, real *packed)
{
    gemm_pack_b_columns(&(gemm_matrix){rows, 1, terms}, terms, t->shape.keys, GEMM_B_PANEL, packed);
}

/* ---- forward: items are blocks of queries, head by head ---- */

static int attend_block(const attention *t, const workspace *w, int64_t head, int64_t begin, int64_t rows)
{
    const fdl_heads *s = &t->shape;
    const real *value = t->value + head / s->group * s->keys * s->value_width;
    real *y = t->y + (head * s->queries + begin) * s->value_width;
    real maximum[QUERIES];
    double total[QUERIES] = {0};
    const int64_t keys = keys_until(t, begin + rows);
    int status = FDL_OK;
    for (int64_t i = 0; i < rows; i++)
        maximum[i] = (real)-INFINITY;
    if (keys == 0)
        memset(y, 0, (size_t)(rows * s->value_width) * sizeof(real));
    scale_queries(t, w, head, begin, rows);
    for (int64_t first = 0; first < keys && status == FDL_OK; first += t->columns) {
        const int64_t count = min64(t->columns, keys - first);
        status = block_scores(t, w, head, begin, rows, first, count);
        if (status != FDL_OK)
            break;
        for (int64_t i = 0; i < rows; i++) {
            real *row = w->scores + i * t->columns;
            const int64_t own = seen(t, begin + i, first, count);
            const real before = maximum[i], now = row_maximum(row, own);
            maximum[i] = before > now ? before : now;
            /* As long as all scores are -infinity, exp(s - 0) is 0 as well. */
            const real from = maximum[i] == (real)-INFINITY ? 0 : maximum[i];
            const double sum = row_exp_sum(row, from, row, own, true);
            if (own < count)
                memset(row + own, 0, (size_t)(count - own) * sizeof(real));
            if (first > 0 && before != maximum[i]) {
                const real fade = vexp(vset1(before - from))[0];
                total[i] *= (double)fade;
                scale_row(y + i * s->value_width, s->value_width, fade);
            }
            total[i] += sum;
        }
        drop(t, w->scores, head, begin, rows, first, count);
        status = times((gemm_matrix){w->scores, t->columns, 1}, value + first * s->value_width, y, rows, s->value_width,
                       count, first > 0);
    }
    for (int64_t i = 0; i < rows; i++) {
        if (total[i] != 0)
            scale_row(y + i * s->value_width, s->value_width, (real)(1 / total[i]));
        if (t->logsumexp)
            t->logsumexp[head * s->queries + begin + i] = maximum[i] + (real)log(total[i]);
    }
    return status;
}

static int attend(void *context, int64_t begin, int64_t end)
{
    const attention *t = context;
    const fdl_heads *s = &t->shape;
    const fdl_mark mark = fdl_scratch_mark();
    workspace w;
    int status = take_workspace(t, &w, false) ? FDL_OK : FDL_OUT_OF_MEMORY;
    int64_t packed = -1;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t head = item / t->blocks, row = item % t->blocks * t->rows;
        if (t->once && packed != head / s->group) {
            packed = head / s->group;
            pack_keys(t, t->key + packed * s->keys * s->width, s->width, w.packed_key);
        }
        if (row < s->queries)
            status = attend_block(t, &w, head, row, min64(t->rows, s->queries - row));
    }
    fdl_scratch_release(mark);
    return status;
}

int fdl_attention(const real *query, const real *key, const real *value, const uint8_t *allowed, const real *bias,
                  real *y, real *logsumexp, const int64_t *geometry, const fdl_heads *heads, double scale, double keep,
                  int64_t seed, int64_t offset)
{
    attention t = {
        .query = query,
        .key = key,
        .value = value,
        .allowed = allowed,
        .bias = bias,
        .y = y,
        .logsumexp = logsumexp,
        .geometry = geometry,
        .shape = *heads,
        .scale = (real)scale,
        .keep = keep,
        .seed = seed,
        .offset = offset,
    };
    if (heads->queries == 0)
        return FDL_OK;
    describe(&t);
    const int64_t each = t.rows * heads->keys * max64(1, heads->width + heads->value_width);
    return fdl_parallel(heads->heads * t.blocks, ceil_div(WORTH, max64(1, each)), attend, &t);
}

/* ---- backward: items are heads of keys ---- */

/* p in w->scores, scale p (g . v - g . y) in w->grads; then their parts of the gradients. */
static int backward_block(const attention *t, const workspace *w, int64_t head, int64_t begin, int64_t rows,
                          int64_t first, int64_t count)
{
    const fdl_heads *s = &t->shape;
    const int64_t at = head * s->queries + begin, kept = head / s->group * s->keys, E = s->width, V = s->value_width;
    const real *grad = t->grad_output + at * V;
    scale_queries(t, w, head, begin, rows);
    int status = block_scores(t, w, head, begin, rows, first, count);
    if (status == FDL_OK)
        status = times_transpose(t, grad, rows, t->value + kept * V, w->packed_value, V, first, count, w->grads);
    if (status != FDL_OK)
        return status;
    drop(t, w->grads, head, begin, rows, first, count);
    for (int64_t i = 0; i < rows; i++) {
        real *p = w->scores + i * t->columns, *g = w->grads + i * t->columns;
        const int64_t own = seen(t, begin + i, first, count);
        const real saved = t->saved[at + i], inner = w->inner[begin + i];
        const real from = saved == (real)-INFINITY ? 0 : saved; /* where all scores are -infinity, p is 0 */
        for (int64_t j = 0; j < own; j += LANES) {
            const vreal e = vexp(vload_up_to(p + j, own - j) - from);
            vstore_up_to(g + j, t->scale * e * (vload_up_to(g + j, own - j) - inner), own - j);
            vstore_up_to(p + j, e, own - j);
        }
        if (own < count) {
            memset(p + own, 0, (size_t)(count - own) * sizeof(real));
            memset(g + own, 0, (size_t)(count - own) * sizeof(real));
        }
    }
    drop(t, w->scores, head, begin, rows, first, count);
    const gemm_matrix turned_p = {w->scores, 1, t->columns}, turned_g = {w->grads, 1, t->columns};
    status = times(turned_p, grad, t->grad_value + (kept + first) * V, count, V, rows, true);
    if (status == FDL_OK)
        status = times(turned_g, t->query + at * E, t->grad_key + (kept + first) * E, count, E, rows, true);
    if (status == FDL_OK)
        status = times((gemm_matrix){w->grads, t->columns, 1}, t->key + (kept + first) * E, t->grad_query + at * E,
                       rows, E, count, true);
    return status;
}

static void inner_products(const real *a, const real *b, real *out, int64_t rows, int64_t width)
{
    for (int64_t i = 0; i < rows; i++) {
        vreal sum = {0};
        for (int64_t j = 0; j < width; j += LANES)
            sum += vload_up_to(a + i * width + j, width - j) * vload_up_to(b + i * width + j, width - j);
        out[i] = vsum(sum);
    }
}

static int attend_backward(void *context, int64_t begin, int64_t end)
{
    const attention *t = context;
    const fdl_heads *s = &t->shape;
    const fdl_mark mark = fdl_scratch_mark();
    workspace w;
    int status = take_workspace(t, &w, true) ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const real *key = t->key + item * s->keys * s->width, *value = t->value + item * s->keys * s->value_width;
        memset(t->grad_key + (key - t->key), 0, (size_t)(s->keys * s->width) * sizeof(real));
        memset(t->grad_value + (value - t->value), 0, (size_t)(s->keys * s->value_width) * sizeof(real));
        if (t->once) {
            pack_keys(t, key, s->width, w.packed_key);
            pack_keys(t, value, s->value_width, w.packed_value);
        }
        for (int64_t head = item * s->group; head < (item + 1) * s->group; head++) {
            const int64_t at = head * s->queries;
            memset(t->grad_query + at * s->width, 0, (size_t)(s->queries * s->width) * sizeof(real));
            inner_products(t->grad_output + at * s->value_width, t->result + at * s->value_width, w.inner, s->queries,
                           s->value_width);
            for (int64_t first = 0; first < s->keys; first += t->columns)
                for (int64_t row = 0; row < s->queries && status == FDL_OK; row += t->rows) {
                    const int64_t rows = min64(t->rows, s->queries - row);
                    const int64_t count = min64(t->columns, keys_until(t, row + rows) - first);
                    if (count > 0)
                        status = backward_block(t, &w, head, row, rows, first, count);
                }
        }
    }
    fdl_scratch_release(mark);
    return status;
}

int fdl_attention_backward(const real *grad_output, const real *query, const real *key, const real *value,
                           const uint8_t *allowed, const real *bias, const real *y, const real *logsumexp,
                           real *grad_query, real *grad_key, real *grad_value, const int64_t *geometry,
                           const fdl_heads *heads, double scale, double keep, int64_t seed, int64_t offset)
{
    attention t = {
        .query = query,
        .key = key,
        .value = value,
        .allowed = allowed,
        .bias = bias,
        .grad_output = grad_output,
        .result = y,
        .saved = logsumexp,
        .grad_query = grad_query,
        .grad_key = grad_key,
        .grad_value = grad_value,
        .geometry = geometry,
        .shape = *heads,
        .scale = (real)scale,
        .keep = keep,
        .seed = seed,
        .offset = offset,
    };
    describe(&t);
    const int64_t each = heads->group * heads->queries * heads->keys * (heads->width + heads->value_width);
    return fdl_parallel(heads->heads / heads->group, ceil_div(WORTH, max64(1, each)), attend_backward, &t);
}
