/* What is done to arrays without computing much.
 *
 *   add    out = x + alpha y
 *   fill   y = value
 *   copy   y = x, both of any strides
 *   take   y[i] = x[index[i]], rows; backward, grad_input[r] = the sum of grad_output[i] where index[i] = r, in the
 *          order of i, in `real`
 *   cat    y = arrays beside each other, and back
 *
 * All of it is limited by memory. No result depends on how work is cut into pieces. */
#include "vector/elementwise.h"
#include "vector/runs.h"

/* ---- runs of elements ---- */

enum { SHORT_RUN = 256 }; /* elements up to which a loop is faster than a call */

FDL_INLINE void copy_many(real *y, const real *x, int64_t n)
{
    if (n > SHORT_RUN)
        memcpy(y, x, (size_t)n * sizeof(real));
    else
        copy_run(y, x, n);
}

/* ---- add, fill ---- */

typedef struct {
    const real *x, *y;
    real *out;
    real alpha; /* or the value */
    bool streams;
} elements;

static int add_elements(void *context, int64_t begin, int64_t end)
{
    const elements *e = context;
    if (e->alpha == 1) {
        for (pass p = pass_over(begin, end, e->out, e->streams); p.lanes > 0; pass_next(&p))
            pass_store(&p, e->out, pass_load(&p, e->x) + pass_load(&p, e->y));
        return FDL_OK;
    }
    const vreal alpha = vset1(e->alpha);
    for (pass p = pass_over(begin, end, e->out, e->streams); p.lanes > 0; pass_next(&p))
        pass_store(&p, e->out, pass_load(&p, e->x) + alpha * pass_load(&p, e->y));
    return FDL_OK;
}

int fdl_add(const real *x, const real *y, real *out, int64_t size, double alpha)
{
    elements e = {.x = x, .y = y, .out = out, .alpha = (real)alpha};
    e.streams = out != x && out != y && pass_streams(size);
    return fdl_parallel(size, MEMORY_GRAIN, add_elements, &e);
}

static int fill_elements(void *context, int64_t begin, int64_t end)
{
    const elements *e = context;
    const vreal value = vset1(e->alpha);
    for (pass p = pass_over(begin, end, e->out, e->streams); p.lanes > 0; pass_next(&p))
        pass_store(&p, e->out, value);
    return FDL_OK;
}

int fdl_fill(real *y, int64_t size, double value)
{
    elements e = {.out = y, .alpha = (real)value, .streams = pass_streams(size)};
    return fdl_parallel(size, MEMORY_GRAIN, fill_elements, &e);
}

/* ---- copy ---- */

enum { MOST_DIMENSIONS = 64 };                     /* as in NumPy */
enum { PIECE = 1 << 13, ACROSS = 128, DOWN = 32 }; /* elements of a row; of a tile that is transposed */

typedef struct {
    int64_t size, from, to; /* elements from one index to the next: in x, in y */
} dimension;

/* Blocks: parts of a row, which is the last dimension, or a longer one where that is short. Or, where x has its elements
 * side by side along another dimension than y, which then is `across`, parts of that with whole rows. dims[cut] counts
 * these parts. */
typedef struct {
    const real *x;
    real *y;
    dimension dims[MOST_DIMENSIONS + 2];
    int64_t rank, cut;
    dimension row, across;
    bool transposes;
    int64_t part; /* elements of the row, or of across, in a block */
} copying;

static int64_t magnitude(int64_t n) { return n < 0 ? -n : n; }

/* Dimensions from the longest stride of y to the shortest, without those of one element, neighbours that are one
 * joined; at least one. Returns the number of elements. */
static int64_t take_dimensions(copying *c, const int64_t *geometry, int64_t rank)
{
    dimension *dims = c->dims;
    int64_t elements = 1;
    c->rank = 0;
    for (int64_t i = 0; i < rank; i++) {
        const dimension next = {geometry[3 * i], geometry[3 * i + 1], geometry[3 * i + 2]};
        elements *= next.size;
        if (next.size == 1)
            continue;
        int64_t at = c->rank++;
        for (; at > 0 && magnitude(dims[at - 1].to) < magnitude(next.to); at--)
            dims[at] = dims[at - 1];
        dims[at] = next;
    }
    if (c->rank == 0)
        dims[c->rank++] = (dimension){1, 1, 1};
    int64_t kept = 0;
    for (int64_t i = 1; i < c->rank; i++) {
        dimension *before = &dims[kept];
        if (before->from == dims[i].from * dims[i].size && before->to == dims[i].to * dims[i].size)
            *before = (dimension){before->size * dims[i].size, dims[i].from, dims[i].to};
        else
            dims[++kept] = dims[i];
    }
    c->rank = kept + 1;
    return elements;
}

/* Take a dimension out of dims. */
static dimension take_out(copying *c, int64_t d)
{
    const dimension taken = c->dims[d];
    memmove(&c->dims[d], &c->dims[d + 1], (size_t)(--c->rank - d) * sizeof(dimension));
    return taken;
}

/* What a block is. Returns how many there are. */
static int64_t cut_into_blocks(copying *c)
{
    dimension *dims = c->dims;
    c->row = dims[c->rank - 1];
    c->cut = --c->rank;
    int64_t beside = -1, longest = c->rank; /* of the others: where x has its elements side by side; the longest */
    dims[longest] = c->row;
    for (int64_t d = 0; d < c->rank; d++) {
        beside = dims[d].from == 1 ? d : beside;
        longest = dims[d].size > dims[longest].size ? d : longest;
    }
    c->transposes = beside >= 0 && c->row.to == 1 && min64(c->row.size, dims[beside].size) >= LANES;
    if (c->transposes) {
        c->across = take_out(c, beside);
        c->cut = c->rank;
    } else if (c->row.size < LANES && longest < c->rank) {
        const dimension last = c->row;
        c->row = take_out(c, beside >= 0 ? beside : longest);
        c->cut = c->rank;
        dims[++c->rank] = last;
    }
    const dimension *whole = c->transposes ? &c->across : &c->row;
    c->part = c->transposes ? ACROSS : PIECE;
    dims[c->cut] = (dimension){ceil_div(whole->size, c->part), c->part * whole->from, c->part * whole->to};
    c->rank++;
    int64_t blocks = 1;
    for (int64_t d = 0; d < c->rank; d++)
        blocks *= dims[d].size;
    return blocks;
}

FDL_INLINE void copy_row(const copying *c, const real *x, real *y, int64_t n)
{
    const int64_t from = c->row.from, to = c->row.to;
    if (from == 1 && to == 1) {
        copy_many(y, x, n);
    } else if (from == 0 && to == 1) {
        const vreal value = vset1(*x);
        for (int64_t i = 0; i < n; i += LANES)
            vstore_up_to(y + i, value, n - i);
    } else if (from == 2 && to == 1) {
        int64_t i = 0;
        for (; i + LANES < n; i += LANES) /* main loop: there is an element after the last that is taken */
            vstore(y + i, veven(vload(x + 2 * i), vload(x + 2 * i + LANES)));
        for (; i < n; i++) /* tail */
            y[i] = x[2 * i];
    } else if (to == 1) {
        for (int64_t i = 0; i < n; i++)
            y[i] = x[i * from];
    } else if (from == 1) {
        for (int64_t i = 0; i < n; i++)
            y[i * to] = x[i];
    } else {
        for (int64_t i = 0; i < n; i++)
            y[i * to] = x[i * from];
    }
}

/* n elements of across, with their whole rows. A part of the rows at a time, whose pages of x are then all at hand, and
 * their lines until all of each is read. */
static void transpose_block(const copying *c, const real *x, real *y, int64_t n)
{
    const int64_t from = c->row.from, to = c->across.to;
    for (int64_t first = 0; first < c->row.size; first += DOWN) {
        const int64_t last = min64(c->row.size, first + DOWN), whole = first + (last - first) / LANES * LANES;
        int64_t a = 0;
        for (; a + LANES <= n; a += LANES) { /* main loop */
            for (int64_t i = first; i < whole; i += LANES) {
                vreal block[LANES];
                vload_transposed(x + i * from + a, from, block);
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    vstore(y + (a + l) * to + i, block[l]);
            }
            for (int64_t i = whole; i < last; i++) /* tails */
                for (int64_t l = a; l < a + LANES; l++)
                    y[l * to + i] = x[i * from + l];
        }
        for (; a < n; a++)
            for (int64_t i = first; i < last; i++)
                y[a * to + i] = x[i * from + a];
    }
}

static int copy_blocks(void *context, int64_t begin, int64_t end)
{
    const copying *c = context;
    const int64_t last = c->rank - 1, whole = c->transposes ? c->across.size : c->row.size;
    int64_t at[MOST_DIMENSIONS + 2], rest = begin;
    const real *x = c->x;
    real *y = c->y;
    for (int64_t d = last; d >= 0; d--) {
        at[d] = rest % c->dims[d].size;
        rest /= c->dims[d].size;
        x += at[d] * c->dims[d].from;
        y += at[d] * c->dims[d].to;
    }
    for (int64_t block = begin; block < end; block++) {
        const int64_t n = min64(c->part, whole - at[c->cut] * c->part);
        if (c->transposes)
            transpose_block(c, x, y, n);
        else
            copy_row(c, x, y, n);
        for (int64_t d = last; d >= 0; d--) { /* the next one */
            const dimension *dim = &c->dims[d];
            x += dim->from;
            y += dim->to;
            if (++at[d] < dim->size)
                break;
            x -= dim->size * dim->from;
            y -= dim->size * dim->to;
            at[d] = 0;
        }
    }
    return FDL_OK;
}

int fdl_copy(const real *strided, real *y, const int64_t *geometry, int64_t rank)
{
    copying c = {.x = strided, .y = y};
    const int64_t size = take_dimensions(&c, geometry, rank);
    if (size == 0)
        return FDL_OK;
    const int64_t blocks = cut_into_blocks(&c);
    return fdl_parallel(blocks, ceil_div(MEMORY_GRAIN, max64(1, size / blocks)), copy_blocks, &c);
}

/* ---- take ---- */

/* Always from memory: what is checked is then what is used, whatever other threads do to it. */
FDL_INLINE int64_t load_index(const int64_t *p) { return *(const volatile int64_t *)p; }

static bool all_within(const int64_t *index, int64_t count, int64_t rows)
{
    int64_t bad = 0;
    for (int64_t i = 0; i < count; i++)
        bad |= (uint64_t)index[i] >= (uint64_t)rows;
    return !bad;
}

typedef struct {
    const real *from;
    real *to;
    const int64_t *index;
    int64_t rows, row, count;
} taking;

/* Items are the elements of index. */
static int take_rows(void *context, int64_t begin, int64_t end)
{
    const taking *t = context;
    for (int64_t i = begin; i < end; i++) {
        const uint64_t at = (uint64_t)load_index(t->index + i);
        if (at >= (uint64_t)t->rows)
            return FDL_BAD_ROW;
        copy_many(t->to + i * t->row, t->from + (int64_t)at * t->row, t->row);
    }
    return FDL_OK;
}

int fdl_take(const real *x, const int64_t *index, real *y, int64_t rows, int64_t row, int64_t count)
{
    taking t = {x, y, index, rows, row, count};
    if (!all_within(index, count, rows))
        return FDL_BAD_ROW;
    return fdl_parallel(count, ceil_div(MEMORY_GRAIN, max64(1, row)), take_rows, &t);
}

/* Items are rows of grad_input: whoever has some looks through all of index for them. */
static int give_rows(void *context, int64_t begin, int64_t end)
{
    const taking *t = context;
    memset(t->to + begin * t->row, 0, (size_t)((end - begin) * t->row) * sizeof(real));
    for (int64_t i = 0; i < t->count; i++) {
        const uint64_t at = (uint64_t)load_index(t->index + i) - (uint64_t)begin;
        if (at < (uint64_t)(end - begin))
            add_run(t->to + (begin + (int64_t)at) * t->row, t->from + i * t->row, t->row);
    }
    return FDL_OK;
}

int fdl_take_backward(const real *grad_output, const int64_t *index, real *grad_input, int64_t rows, int64_t row,
                      int64_t count, int64_t padding)
{
    taking t = {grad_output, grad_input, index, rows, row, count};
    if (!all_within(index, count, rows))
        return FDL_BAD_ROW;
    /* At least as much work in a piece as looking through index is. */
    const int64_t work = (rows + count) * row, pieces = work / max64(MEMORY_GRAIN, count);
    const int status = fdl_parallel(rows, ceil_div(rows, max64(1, pieces)), give_rows, &t);
    if (padding >= 0)
        memset(grad_input + padding * row, 0, (size_t)row * sizeof(real));
    return status;
}

/* ---- cat ---- */

typedef struct {
    const int64_t *arrays; /* [count, 3] */
    real *whole;           /* [outer, width] */
    int64_t count, outer, width;
} joining;

/* Elements [begin, end) of the whole, an array at a time. */
FDL_INLINE void join(const joining *j, int64_t begin, int64_t end, const bool back)
{
    const int64_t first_row = begin / j->width, last_row = (end - 1) / j->width;
    int64_t column = 0;
    for (const int64_t *array = j->arrays; array < j->arrays + 3 * j->count; array += 3) {
        const int64_t run = array[2] / j->outer;
        real *part = (real *)(intptr_t)array[back ? 1 : 0];
        for (int64_t row = first_row; row <= last_row && run > 0; row++) {
            const int64_t at = row * j->width + column, low = max64(begin, at), high = min64(end, at + run);
            real *here = part + row * run + (low - at);
            if (low < high)
                copy_many(back ? here : j->whole + low, back ? j->whole + low : here, high - low);
        }
        column += run;
    }
}

static int join_elements(void *context, int64_t begin, int64_t end)
{
    join(context, begin, end, false);
    return FDL_OK;
}

static int part_elements(void *context, int64_t begin, int64_t end)
{
    join(context, begin, end, true);
    return FDL_OK;
}

static int over_elements(real *whole, const int64_t *arrays, int64_t count, int64_t outer, fdl_task *task)
{
    joining j = {arrays, whole, count, outer, 0};
    int64_t size = 0;
    for (int64_t i = 0; i < count; i++)
        size += arrays[3 * i + 2];
    if (size == 0)
        return FDL_OK;
    j.width = size / outer;
    return fdl_parallel(size, MEMORY_GRAIN, task, &j);
}

int fdl_cat(real *y, const int64_t *arrays, int64_t count, int64_t outer)
{
    return over_elements(y, arrays, count, outer, join_elements);
}

int fdl_cat_backward(const real *grad_output, const int64_t *arrays, int64_t count, int64_t outer)
{
    return over_elements((real *)grad_output, arrays, count, outer, part_elements);
}
