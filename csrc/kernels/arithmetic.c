/* Arithmetic, element by element, of arrays that are broadcast to the shape of the result, which is dense:
 *
 *   add       x + alpha y            maximum, minimum   the larger, the smaller; NaN where either is
 *   mul       x y                    equal              1 where x = y, else 0
 *   div       x / y                  where              x where the condition holds, else y
 *   pow       x^y
 *
 * and of gradients, with g that of the result:
 *
 *   div_grad       -g (x / y) / y                 maximum_grad, minimum_grad   g where x is chosen, g / 2 where x = y
 *   pow_grad       g y x^(y - 1), 0 where y = 0   equal_grad                   g where x = y, else 0
 *   exponent_grad  g x^y log x, 0 where x = 0 <= y
 *
 * There is one loop a formula, over runs of the result in which each operand is either as dense as the result or one
 * number. Dimensions that are one in all arrays are joined, and where the last is long that is all there is to do.
 * Otherwise so many indices of a dimension make a block of at most BLOCK elements, and what is neither dense there nor
 * one number is gathered first, into the first-level cache; once, if all blocks have the same of it. */
#include "vector/elementwise.h"
#include "vector/pow.h"
#include "vector/runs.h"

enum {
    OPERANDS = 3,
    MOST_DIMENSIONS = 64, /* as in NumPy */
    BLOCK = 1024,         /* elements of a block that may be gathered */
    LONG_ROW = 256,       /* of a row that is one */
    PIECE = 1 << 13,      /* of a row that need not be gathered */
};

typedef struct {
    int64_t size, step[OPERANDS]; /* elements from one index to the next */
} dimension;

typedef struct {
    const void *operands[OPERANDS]; /* real, but of WHERE the first: bools */
    real *out, value, alpha;
    int64_t kind, count, rank; /* count: of operands */
    dimension dims[MOST_DIMENSIONS + 1];
    int64_t cut, part, inner;            /* blocks are of `part` indices of dims[cut], with `inner` elements each */
    bool dense[OPERANDS], one[OPERANDS]; /* what an operand is in a block */
    bool streams;
} arithmetic;

/* ---- formulas ---- */

/* Whether all lanes are that number. */
FDL_INLINE bool is_all(vreal v, real number) { return !vany(v != vset1(number)); }

/* x^y, as C's pow. Functions of their own: they are large. */
__attribute__((noinline)) static vreal power(vreal x, vreal y)
{
    if (!is_all(y, y[0]))
        return vpow(x, y);
    if (is_all(y, 2))
        return x * x;
    if (is_all(y, 3))
        return x * x * x;
    if (is_all(y, 1))
        return x;
    const bool inverse = is_all(y, (real)-0.5);
    if (inverse || is_all(y, (real)0.5)) { /* +0 of -0, and infinity of -infinity */
        const vreal infinity = vset1((real)INFINITY), root = vselect(x == -infinity, infinity, vsqrt(x + (vreal){0}));
        return inverse ? 1 / root : root;
    }
    if (is_all(y, -1))
        return 1 / x;
    if (is_all(y, -2)) /* the square may be out of range where its inverse is not */
        return (1 / x) * (1 / x);
    return vpow(x, y);
}
__attribute__((noinline)) static vreal logarithm(vreal x) { return vlog(x); }

/* g where x is chosen of x and y, by whether it is (`other`: y is). */
FDL_INLINE vreal chosen(vreal g, vreal x, vreal y, vint other)
{
    return vselect(x == y, g * (real)0.5, vselect(other, (vreal){0}, g));
}

FDL_INLINE int operands_of(int64_t kind) { return kind <= FDL_ARITHMETIC_EQUAL ? 2 : 3; }

FDL_INLINE vreal formula(const int kind, vreal a, vreal b, vreal c, vreal alpha)
{
    const vreal zero = {0}, one = vset1(1);
    switch (kind) {
    case FDL_ARITHMETIC_ADD:
        return a + alpha * b;
    case FDL_ARITHMETIC_MUL:
        return a * b;
    case FDL_ARITHMETIC_DIV:
        return a / b;
    case FDL_ARITHMETIC_POW:
        return power(a, b);
    case FDL_ARITHMETIC_MAXIMUM:
        return vmax_nan(a, b);
    case FDL_ARITHMETIC_MINIMUM:
        return vmin_nan(a, b);
    case FDL_ARITHMETIC_EQUAL:
        return vselect(a == b, one, zero);
    case FDL_ARITHMETIC_WHERE:
        return vselect(a != zero, b, c);
    case FDL_ARITHMETIC_DIV_GRAD:
        return -a * (b / c / c);
    case FDL_ARITHMETIC_POW_GRAD:
        return vselect(c == zero, zero, a * (c * power(b, c - one)));
    case FDL_ARITHMETIC_EXPONENT_GRAD:
        return vselect((b == zero) & (c >= zero), zero, a * (power(b, c) * logarithm(b)));
    case FDL_ARITHMETIC_MAXIMUM_GRAD:
        return chosen(a, b, c, b < c);
    case FDL_ARITHMETIC_MINIMUM_GRAD:
        return chosen(a, b, c, b > c);
    default: /* EQUAL_GRAD; a may be infinite or NaN */
        return a * vselect(b == c, one, zero);
    }
}

/* out[i] of n elements, whole vectors of them; x[o] + (i & mask[o]) is where that of an operand is. */
FDL_INLINE void run_of(const real *const x[OPERANDS], const int64_t mask[OPERANDS], real *out, int64_t n, vreal alpha,
                       const int kind)
{
    const real *a = x[0], *b = x[1], *c = x[2];
    for (int64_t i = 0; i < n; i += LANES) {
        const vreal third = operands_of(kind) > 2 ? vload(c + (i & mask[2])) : (vreal){0};
        vstore(out + i, formula(kind, vload(a + (i & mask[0])), vload(b + (i & mask[1])), third, alpha));
    }
}

__attribute__((noinline)) static void run_whole(const arithmetic *a, const real *const x[OPERANDS],
                                                const int64_t mask[OPERANDS], real *out, int64_t n)
{
    const vreal alpha = vset1(a->alpha);
#define CASE(kind)                                                                                                     \
    case FDL_ARITHMETIC_##kind:                                                                                        \
        run_of(x, mask, out, n, alpha, FDL_ARITHMETIC_##kind);                                                         \
        break;
    switch (a->kind) {
        CASE(ADD)
        CASE(MUL)
        CASE(DIV)
        CASE(POW)
        CASE(MAXIMUM)
        CASE(MINIMUM)
        CASE(EQUAL)
        CASE(WHERE)
        CASE(DIV_GRAD)
        CASE(POW_GRAD)
        CASE(EXPONENT_GRAD)
        CASE(MAXIMUM_GRAD)
        CASE(MINIMUM_GRAD)
        CASE(EQUAL_GRAD)
    }
}

/* The same of any n. The last elements that are no vector are computed as one. A result that streams is made in the
 * first-level cache, BLOCK elements at a time, so that no formula needs two loops. */
static void run(const arithmetic *a, const real *const given[OPERANDS], const int64_t mask[OPERANDS], real *out,
                int64_t n)
{
    const real *x[OPERANDS] = {0};
    for (int64_t at = 0, count; at < n; at += count) {
        real made[BLOCK], last[OPERANDS][LANES];
        count = a->streams ? min64(n - at, BLOCK) : n;
        const int64_t whole = count / LANES * LANES;
        real *to = a->streams ? made : out;
        for (int o = 0; o < a->count; o++)
            x[o] = given[o] + (at & mask[o]);
        run_whole(a, x, mask, to, whole);
        if (whole < count) {
            for (int o = 0; o < a->count; o++) {
                if (mask[o])
                    vstore(last[o], vload_first(x[o] + whole, count - whole));
                x[o] = mask[o] ? last[o] : x[o];
            }
            real end[LANES];
            run_whole(a, x, mask, end, LANES);
            vstore_first(to + whole, vload(end), count - whole);
        }
        for (pass p = pass_over(at, at + (a->streams ? count : 0), out, true); p.lanes > 0; pass_next(&p))
            pass_store(&p, out, vload_up_to(made + p.at - at, p.lanes));
    }
}

/* ---- blocks ---- */

static bool is_bools(const arithmetic *a, int operand) { return operand == 0 && a->kind == FDL_ARITHMETIC_WHERE; }

/* Without dimensions of one element, neighbours that are one joined; at least one. Returns the number of elements. */
static int64_t take_dimensions(arithmetic *a, const int64_t *geometry, int64_t rank)
{
    int64_t elements = 1;
    a->rank = 0;
    for (int64_t i = 0; i < rank; i++, geometry += 1 + OPERANDS) {
        dimension next = {geometry[0], {geometry[1], geometry[2], geometry[3]}};
        elements *= next.size;
        if (next.size == 1)
            continue;
        dimension *before = a->rank > 0 ? &a->dims[a->rank - 1] : NULL;
        bool joins = before != NULL;
        for (int o = 0; o < a->count && joins; o++)
            joins = before->step[o] == next.step[o] * next.size;
        if (joins) {
            next.size *= before->size;
            *before = next;
        } else {
            a->dims[a->rank++] = next;
        }
    }
    if (a->rank == 0)
        a->dims[a->rank++] = (dimension){1, {0}};
    return elements;
}

/* What a block is. Returns how many there are. */
static int64_t cut_into_blocks(arithmetic *a)
{
    const dimension *dims = a->dims, *last = &dims[a->rank - 1];
    a->cut = a->rank - 1, a->inner = 1;
    if (last->size < LONG_ROW)
        for (; a->cut > 0 && a->inner * dims[a->cut].size <= BLOCK; a->cut--)
            a->inner *= dims[a->cut].size;
    bool gathers = false;
    for (int o = 0; o < a->count; o++) {
        int64_t size = 1;
        a->dense[o] = a->one[o] = true;
        for (int64_t d = a->rank - 1; d >= a->cut; size *= dims[d--].size) {
            a->dense[o] = a->dense[o] && dims[d].step[o] == size;
            a->one[o] = a->one[o] && dims[d].step[o] == 0;
        }
        if (is_bools(a, o))
            a->dense[o] = a->one[o] = false; /* these are converted */
        gathers = gathers || !(a->dense[o] || a->one[o]);
    }
    a->part = gathers ? max64(1, BLOCK / a->inner) : ceil_div(PIECE, a->inner);
    int64_t blocks = ceil_div(dims[a->cut].size, a->part);
    for (int64_t d = 0; d < a->cut; d++)
        blocks *= dims[d].size;
    return blocks;
}

/* n elements of an operand, `step` apart. */
FDL_INLINE void gather_row(real *to, const void *from, int64_t step, int64_t n, bool bools)
{
    const real *x = from;
    const uint8_t *b = from;
    if (bools && step == 1)
        for (int64_t i = 0; i < n; i += LANES)
            vstore_up_to(to + i, vselect(vload_bools_up_to(b + i, n - i), vset1(1), (vreal){0}), n - i);
    else if (bools)
        for (int64_t i = 0; i < n; i++)
            to[i] = b[i * step];
    else if (step == 1)
        copy_run(to, x, n);
    else if (step == 0)
        fill_run(to, n, *x);
    else
        for (int64_t i = 0; i < n; i++)
            to[i] = x[i * step];
}

/* `count` indices of dims[cut] of an operand, from that at `offset` on. */
__attribute__((noinline)) static void gather(const arithmetic *a, int operand, int64_t offset, int64_t count, real *to)
{
    const bool bools = is_bools(a, operand);
    const int64_t width = bools ? 1 : (int64_t)sizeof(real), last = a->rank - 1;
    const char *from = (const char *)a->operands[operand] + offset * width;
    const dimension *dims = a->dims;
    int64_t at[MOST_DIMENSIONS + 1] = {0};
    const int64_t row = a->cut == last ? count : dims[last].size, rows = count * a->inner / row;
    for (int64_t r = 0; r < rows; r++, to += row) {
        gather_row(to, from, dims[last].step[operand], row, bools);
        for (int64_t d = last - 1; d >= a->cut; d--) { /* the next one */
            from += dims[d].step[operand] * width;
            if (++at[d] < dims[d].size || d == a->cut)
                break;
            from -= dims[d].size * dims[d].step[operand] * width;
            at[d] = 0;
        }
    }
}

static int arithmetic_blocks(void *context, int64_t begin, int64_t end)
{
    const arithmetic *a = context;
    real gathered[OPERANDS][BLOCK + LANES];
    int64_t at[MOST_DIMENSIONS + 1], offset[OPERANDS] = {0}, held[OPERANDS] = {-1, -1, -1}, held_count[OPERANDS] = {0};
    const dimension *dims = a->dims, *cut = &dims[a->cut];
    const int64_t parts = ceil_div(cut->size, a->part);
    int64_t rest = begin / parts, part = begin % parts;
    int64_t out = (rest * cut->size + part * a->part) * a->inner;
    for (int64_t d = a->cut - 1; d >= 0; d--) {
        at[d] = rest % dims[d].size;
        rest /= dims[d].size;
        for (int o = 0; o < a->count; o++)
            offset[o] += at[d] * dims[d].step[o];
    }
    for (int64_t block = begin; block < end; block++) {
        const int64_t first = part * a->part, count = min64(a->part, cut->size - first);
        const real *x[OPERANDS];
        int64_t mask[OPERANDS];
        for (int o = 0; o < a->count; o++) {
            const int64_t here = offset[o] + first * cut->step[o];
            x[o] = a->dense[o] ? (const real *)a->operands[o] + here : gathered[o];
            mask[o] = a->one[o] ? 0 : -1;
            if (a->dense[o] || (held[o] == here && count <= held_count[o]))
                continue;
            if (a->one[o])
                vstore(gathered[o], vset1(((const real *)a->operands[o])[here]));
            else
                gather(a, o, here, count, gathered[o]);
            held[o] = here, held_count[o] = count;
        }
        run(a, x, mask, a->out + out, count * a->inner);
        out += count * a->inner;
        if (++part < parts)
            continue;
        part = 0;
        for (int64_t d = a->cut - 1; d >= 0; d--) { /* the next one */
            for (int o = 0; o < a->count; o++)
                offset[o] += dims[d].step[o];
            if (++at[d] < dims[d].size)
                break;
            for (int o = 0; o < a->count; o++)
                offset[o] -= dims[d].size * dims[d].step[o];
            at[d] = 0;
        }
    }
    return FDL_OK;
}

static int compute(arithmetic *a, const int64_t *geometry, int64_t rank)
{
    a->count = operands_of(a->kind);
    const int64_t size = take_dimensions(a, geometry, rank);
    if (size == 0)
        return FDL_OK;
    a->streams = pass_streams(size);
    for (int o = 0; o < a->count; o++) {
        a->streams = a->streams && a->operands[o] != a->out;
        if (!a->operands[o])
            a->operands[o] = &a->value;
    }
    const int64_t blocks = cut_into_blocks(a),
                  slow = a->kind == FDL_ARITHMETIC_POW || a->kind > FDL_ARITHMETIC_DIV_GRAD;
    return fdl_parallel(blocks, ceil_div(slow ? COMPUTE_GRAIN : MEMORY_GRAIN, max64(1, size / blocks)),
                        arithmetic_blocks, a);
}

int fdl_arithmetic(const real *x, const real *y, const real *z, real *out, const int64_t *geometry, int64_t rank,
                   int64_t kind, double value, double alpha)
{
    arithmetic a = {.operands = {x, y, z}, .out = out, .value = (real)value, .alpha = (real)alpha, .kind = kind};
    return compute(&a, geometry, rank);
}

int fdl_where(const uint8_t *condition, const real *x, const real *y, real *out, const int64_t *geometry, int64_t rank,
              double value)
{
    arithmetic a = {.operands = {condition, x, y}, .out = out, .value = (real)value, .kind = FDL_ARITHMETIC_WHERE};
    return compute(&a, geometry, rank);
}
