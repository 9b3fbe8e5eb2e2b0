/* See dropout.h. */
#include <math.h>

#include "vector/dropout.h"
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

int dropout_array(const real *x, real *y, int64_t size, int64_t run, double keep, int64_t seed, int64_t offset,
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
