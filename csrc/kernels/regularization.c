/* Dropout and penalties.
 *
 *   dropout      y = scale x + shift where the element is kept, else 0 x + dropped, so that NaN and infinity show; the
 *                gradient is the same with grad_output for x, and shift and `dropped` 0: nothing is stored in between
 *   l1_penalty   coefficient sum |x|             grad = grad_output coefficient sign(x), sign(0) = sign(NaN) = 0
 *   l2_penalty   coefficient / 2 sum x^2         grad = grad_output coefficient x
 *
 * Dropout's mask is a function of seed, offset and the position alone. Elements are taken in runs of `run`, which are
 * kept or dropped as a whole (1: each for itself; a channel's volume). Run r has word r % 4 of Philox at counter
 * offset + r / 4, and is kept where word < round(keep 2^32): so the probability to keep is off by 2^-33 at most, and
 * 0 and 1 are exact. The words of the next elements, one an element, stand ready in a buffer in the first-level
 * cache; it may begin and end anywhere, so that how the array is aligned or divided does not matter.
 *
 * Penalties go over many arrays as if they stood one after another, in fixed blocks, each summed in double, then
 * those sums in order: the same result for any number of threads. */
#include <math.h>

#include "vector/philox.h"
#include "vector/elementwise.h"

enum { WORDS = 1024 };

typedef struct {
    const real *x;
    real *y;
    uint64_t seed, offset, kept; /* kept: how many of the 2^32 words; none and all of them need no words */
    int64_t run;
    real scale, shift, dropped;
    bool streams;
} dropout;

/* Words [begin, end) of the array's elements. */
typedef struct {
    int64_t begin, end;
    uint32_t word[WORDS + LANES]; /* a short vector loads past the last one */
} word_buffer;

/* The words of runs [first, first + count), both multiples of 4, and up to PHILOX_WORDS more. */
FDL_INLINE void run_words(const dropout *t, int64_t first, int64_t count, uint32_t *word)
{
    for (int64_t i = 0; i < count; i += PHILOX_WORDS)
        philox(t->seed, t->offset + (uint64_t)(first + i) / 4, word + i);
}

/* The words of elements from `at` on, as many as fit, but none that begins after `end`. */
static void fill_words(const dropout *t, word_buffer *b, int64_t at, int64_t end)
{
    if (t->run == 1) {
        b->begin = at / 4 * 4;
        b->end = min64(b->begin + WORDS, end);
        run_words(t, b->begin, b->end - b->begin, b->word);
        return;
    }
    uint32_t word[WORDS + 4 + PHILOX_WORDS];
    b->begin = at;
    b->end = min64(at + WORDS, end);
    const int64_t first = at / t->run / 4 * 4;
    run_words(t, first, (b->end - 1) / t->run + 1 - first, word);
    for (int64_t run = at / t->run, i = at; i < b->end; run++) {
        const int64_t stop = min64((run + 1) * t->run, b->end);
        for (; i < stop; i++)
            b->word[i - at] = word[run - first];
    }
}

/* All ones where the word is among those kept: the words of LANES elements against the last of them. */
FDL_INLINE vint vat_most(const uint32_t *word, uint32_t last)
{
    typedef uint32_t words __attribute__((vector_size(LANES * sizeof(uint32_t)), aligned(4), may_alias));
#if defined(FDL_f32)
    return *(const words *)word <= (vuint){0} + last;
#else
    return __builtin_convertvector(*(const words *)word, vint) <= vset1_int((integer)last);
#endif
}

static int dropout_range(void *context, int64_t begin, int64_t end)
{
    const dropout t = *(const dropout *)context; /* a copy, which no store can change */
    const bool drawn = t.kept != 0 && t.kept != (uint64_t)1 << 32;
    word_buffer buffer;
    buffer.begin = 0;
    buffer.end = drawn ? begin : end;
    vint keep = vset1_int(t.kept ? -1 : 0);
    for (pass p = pass_over(begin, end, t.y, t.streams); p.lanes > 0; pass_next(&p)) {
        if (p.at + p.lanes > buffer.end)
            fill_words(&t, &buffer, p.at, end);
        if (drawn)
            keep = vat_most(buffer.word + (p.at - buffer.begin), (uint32_t)(t.kept - 1));
        const vreal scale = vselect(keep, vset1(t.scale), (vreal){0});
        pass_store(&p, t.y, pass_load(&p, t.x) * scale + vselect(keep, vset1(t.shift), vset1(t.dropped)));
    }
    return FDL_OK;
}

int fdl_dropout(const real *x, real *y, int64_t size, int64_t run, double keep, int64_t seed, int64_t offset,
                double scale, double shift, double dropped)
{
    dropout t = {
        .x = x,
        .y = y,
        .seed = (uint64_t)seed,
        .offset = (uint64_t)offset,
        .kept = (uint64_t)rint(keep * 0x1p32),
        .run = run,
        .scale = (real)scale,
        .shift = (real)shift,
        .dropped = (real)dropped,
        .streams = x != y && pass_streams(size),
    };
    return fdl_parallel(size, MEMORY_GRAIN, dropout_range, &t);
}

/* ---- penalties ---- */

enum { BLOCK = 1 << 14, CHAINS = 4 };

typedef struct {
    const int64_t *arrays; /* [count, 3]: the address of x, that of its gradient, the size */
    int64_t total;         /* elements in all of them */
    int64_t power;         /* 1: magnitudes, 2: squares */
    double *block_sum;     /* forward: [blocks] */
    real factor;           /* backward */
    bool add;
} penalty;

FDL_INLINE vdouble penalty_term(vdouble x, const int64_t power)
{
    return power == 2 ? x * x : (vdouble)((vwide)x & INT64_MAX);
}

/* The sum of |x|^power over x [size]. */
FDL_INLINE double power_sum(const real *x, int64_t size, const int64_t power)
{
    vdouble sum[CHAINS] = {{0}};
    int64_t i = 0;
    for (; i + CHAINS * WIDE_LANES <= size; i += CHAINS * WIDE_LANES) { /* main loop */
        FDL_UNROLL
        for (int c = 0; c < CHAINS; c++)
            sum[c] += penalty_term(vload_double(x + i + c * WIDE_LANES), power);
    }
    for (; i + WIDE_LANES <= size; i += WIDE_LANES)
        sum[0] += penalty_term(vload_double(x + i), power);
    double total = 0;
    for (; i < size; i++) /* tail */
        total += power == 2 ? (double)x[i] * (double)x[i] : fabs((double)x[i]);
    const vdouble all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    for (int lane = 0; lane < WIDE_LANES; lane++)
        total += all[lane];
    return total;
}

/* A range of all the elements is walked part by part, each in one array. */
typedef struct {
    const real *x;
    real *grad;
    int64_t size;
} part;

typedef struct {
    const int64_t *array;
    int64_t at; /* in the array */
} place;

FDL_INLINE place place_of(const penalty *t, int64_t at)
{
    place p = {t->arrays, at};
    while (p.at >= p.array[2]) { /* at < total, so there is an array that holds it */
        p.at -= p.array[2];
        p.array += 3;
    }
    return p;
}

/* The rest of the array, up to `most` elements; where it ends, the next one follows. */
FDL_INLINE part next_part(place *p, int64_t most)
{
    while (p->at >= p->array[2])
        *p = (place){p->array + 3, 0};
    const int64_t size = min64(most, p->array[2] - p->at);
    const part found = {(const real *)(intptr_t)p->array[0] + p->at, (real *)(intptr_t)p->array[1] + p->at, size};
    p->at += size;
    return found;
}

static int penalty_blocks(void *context, int64_t begin, int64_t end)
{
    const penalty *t = context;
    place p = place_of(t, begin * BLOCK);
    for (int64_t block = begin; block < end; block++) {
        double sum = 0;
        for (int64_t left = min64(BLOCK, t->total - block * BLOCK); left > 0;) {
            const part a = next_part(&p, left);
            sum += t->power == 2 ? power_sum(a.x, a.size, 2) : power_sum(a.x, a.size, 1);
            left -= a.size;
        }
        t->block_sum[block] = sum;
    }
    return FDL_OK;
}

FDL_INLINE int64_t total_size(const int64_t *arrays, int64_t count)
{
    int64_t total = 0;
    for (int64_t i = 0; i < count; i++)
        total += arrays[3 * i + 2];
    return total;
}

int fdl_penalty(real *result, const int64_t *arrays, int64_t count, double factor, int64_t power)
{
    penalty t = {.arrays = arrays, .total = total_size(arrays, count), .power = power};
    const int64_t blocks = ceil_div(t.total, BLOCK);
    const fdl_mark mark = fdl_scratch_mark();
    t.block_sum = fdl_scratch(blocks * (int64_t)sizeof(double));
    int status = FDL_OUT_OF_MEMORY;
    if (t.block_sum)
        status = fdl_parallel(blocks, MEMORY_GRAIN / BLOCK, penalty_blocks, &t);
    if (status == FDL_OK) {
        double sum = 0;
        for (int64_t block = 0; block < blocks; block++)
            sum += t.block_sum[block];
        *result = (real)(factor * sum);
    }
    fdl_scratch_release(mark);
    return status;
}

FDL_INLINE void penalty_gradient(const part *a, real factor, const int64_t power, const bool add)
{
    for (int64_t i = 0; i < a->size; i += LANES) { /* main loop and tail */
        const int64_t left = a->size - i;
        const vreal x = vload_up_to(a->x + i, left), zero = {0}, one = vset1(1);
        const vreal slope = power == 2 ? x : vselect(x > zero, one, zero) - vselect(x < zero, one, zero);
        const vreal before = add ? vload_up_to(a->grad + i, left) : zero;
        vstore_up_to(a->grad + i, add ? before + factor * slope : factor * slope, left);
    }
}

static int penalty_backward_range(void *context, int64_t begin, int64_t end)
{
    const penalty *t = context;
    place p = place_of(t, begin);
    for (int64_t left = end - begin; left > 0;) {
        const part a = next_part(&p, left);
        if (t->power == 2)
            penalty_gradient(&a, t->factor, 2, t->add);
        else
            penalty_gradient(&a, t->factor, 1, t->add);
        left -= a.size;
    }
    return FDL_OK;
}

int fdl_penalty_backward(const real *grad_output, const int64_t *arrays, int64_t count, double factor, int64_t power,
                         int64_t add)
{
    penalty t = {.arrays = arrays, .total = total_size(arrays, count), .power = power, .add = add};
    t.factor = (real)((double)*grad_output * factor);
    return fdl_parallel(t.total, MEMORY_GRAIN, penalty_backward_range, &t);
}
