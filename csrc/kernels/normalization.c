/* Normalization: y = (x - mean) rstd weight + bias with rstd = 1 / sqrt(variance + eps), over x [batch, groups,
 * channels, inner], weight and bias [groups, channels].
 *
 *   GROUP    mean and variance of each sample's groups: group_norm; layer_norm (one group, whose channels are the
 *            normalized elements, inner = 1); instance_norm (groups of one channel)
 *   RMS      the same without mean: rstd = 1 / sqrt(mean(x^2) + eps), bias none: rms_norm
 *   BATCH    of each channel over batch and inner (channels = 1): batch_norm in training
 *   FIXED    given, as running_mean and running_var: batch_norm in inference
 *
 * Backward, with n values a statistic, z = (x - mean) rstd and h = grad_output weight:
 *   grad_input = rstd (h - mean(h) - z mean(h z));       FIXED: rstd h;       RMS: without mean(h)
 *   grad_weight = sum(grad_output z), grad_bias = sum(grad_output), over all but the channels
 *
 * Statistics are taken CHUNK elements at a time: sums of x - c and of its square, where c is the mean of the first few;
 * if that turns out to lie more than two deviations from the chunk's mean, which would cost digits, once more around
 * the mean, from cache. Sums are `real` over at most some hundred terms a lane, and from there on double, in which the
 * chunks are merged (Chan, Golub, LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances",
 * 1979). x - mean is x - center with the mean rounded to `real`, which loses no digit where the mean is large; what
 * rounding took is added to the end.
 *
 * Where a deviation is too large or too small for `real` to hold its square, which 1 / sqrt(variance + eps) tells
 * (`usual`), a statistic and all that depends on it are computed once more, one element at a time in double, of x
 * times a power of two that brings it near 1 (`rescued`).
 *
 * Three drivers, by where the vectors run:
 *   runs      along inner, where it is long: all of a statistic's runs, then the next statistic
 *   rows      along the elements of a group, each with a weight of its own, where inner is short
 *   columns   along channels and inner, where that is short and the statistics are over the batch
 * Pieces of work, and with them the order of every sum, do not depend on the number of threads. */
#include <math.h>

#include "vector/elementwise.h"

enum { CHUNK = 128 * LANES, FOLD = 32, STRIP = 256 / (int)sizeof(real) };

typedef struct norm {
    const struct norm *self; /* what copies are of: these stay in registers as long as nobody else has their address */
    const real *x, *grad_output;
    const real *weight, *bias;               /* [groups, channels] or NULL; rows: [groups, elements] */
    const double *mean, *rstd;               /* known ones: of each statistic, or NULL */
    const real *fixed_mean, *fixed_variance; /* FIXED: of each channel */
    real *out;
    double *mean_out, *rstd_out; /* of each statistic, or NULL */
    double *moments;             /* mean and variance of each statistic, or NULL */
    double *channel_sums; /* of grad_output and of grad_output z; runs: [..., channels, 2], columns: [channels, 2] */
    real *partial;        /* rows: of grad_output z and of grad_output; [blocks, 2, groups, elements] */
    int64_t batch, groups, channels, inner, kind;
    int64_t block; /* rows: samples of which gradients of weights are summed together */
    double eps;
    bool streams;
} norm;

/* ---- sums and statistics ---- */

typedef struct {
    double first, second;
} sums;

/* Sums of u and of u (b - center_b), u = a w - center_a, over a, b [runs, size], stride apart: at most CHUNK elements.
 * w [size]: NULL for 1, and then a constant, as centers may be. */
FDL_INLINE sums chunk_sums(const real *a, const real *w, real center_a, const real *b, real center_b, int64_t runs,
                           int64_t stride, int64_t size)
{
    enum { CHAINS = 4 };
    vreal first[CHAINS] = {0}, second[CHAINS] = {0};
    for (int64_t run = 0; run < runs; run++, a += stride, b += stride) {
        int64_t i = 0;
        for (; i + CHAINS * LANES <= size; i += CHAINS * LANES) { /* main loop */
            FDL_UNROLL
            for (int c = 0; c < CHAINS; c++) {
                const int64_t at = i + c * LANES;
                const vreal u = (w ? vload(a + at) * vload(w + at) : vload(a + at)) - center_a;
                first[c] += u;
                second[c] += u * (vload(b + at) - center_b);
            }
        }
        FDL_UNROLL
        for (int c = 0; c < CHAINS - 1; c++) { /* single vectors */
            if (i + LANES <= size) {
                const vreal u = (w ? vload(a + i) * vload(w + i) : vload(a + i)) - center_a;
                first[c] += u;
                second[c] += u * (vload(b + i) - center_b);
                i += LANES;
            }
        }
        if (i < size) { /* tail: absent elements add 0 */
            const int64_t left = size - i;
            const vreal absent = vset1(center_a), v = vload_first_or(a + i, left, absent);
            const vreal u = (w ? v * vload_first(w + i, left) : v) - center_a;
            first[CHAINS - 1] += u;
            second[CHAINS - 1] += u * (vload_first_or(b + i, left, vset1(center_b)) - center_b);
        }
    }
    return (sums){vsum_double((first[0] + first[1]) + (first[2] + first[3])),
                  vsum_double((second[0] + second[1]) + (second[2] + second[3]))};
}

/* For [runs, size] of any size: BODY with the pieces [height, width] at x + OFFSET, each of at most CHUNK elements. */
#define FOR_CHUNKS(run, at, height, width, runs, size)                                                                 \
    for (int64_t run = 0, most = (runs) == 1 ? 1 : max64(1, CHUNK / max64(1, size)); run < (runs); run += most)        \
        for (int64_t at = 0, height = min64(most, (runs) - run), width = min64(CHUNK, size); at < (size);              \
             at += CHUNK, width = min64(CHUNK, (size) - at))

/* chunk_sums without centers of a, for any number of elements. */
FDL_INLINE sums all_sums(const real *a, const real *w, const real *b, real center_b, int64_t runs, int64_t stride,
                         int64_t size)
{
    sums total = {0, 0};
    FOR_CHUNKS(run, at, height, width, runs, size)
    {
        const int64_t offset = run * stride + at;
        const sums s = chunk_sums(a + offset, w ? w + at : NULL, 0, b + offset, center_b, height, stride, width);
        total.first += s.first;
        total.second += s.second;
    }
    return total;
}

/* mean + low is the mean, to more digits than one number has; squares: of deviations from it, summed. */
typedef struct {
    double count, mean, low, squares;
} moments;

FDL_INLINE moments merged(moments a, moments b)
{
    if (a.count == 0)
        return b;
    const double count = a.count + b.count, part = b.count / count;
    const double apart = (b.mean - a.mean) + (b.low - a.low), squares = a.squares + b.squares;
    if (!isfinite(apart)) /* infinity and NaN are in `low`, as centers are finite: an infinite sum stays one */
        return (moments){count, a.mean, a.low + b.low, squares + apart * apart};
    return (moments){count, a.mean, a.low + apart * part, squares + apart * apart * a.count * part};
}

/* The moments of `count` values, of which sums of deviations from center are known. */
FDL_INLINE moments around(real center, sums deviations, double count)
{
    /* 1 / count does not wait for the sums */
    const double shift = deviations.first * (1 / count), squares = deviations.second - shift * deviations.first;
    return (moments){count, (double)center, shift, squares < 0 ? 0 : squares}; /* NaN stays */
}

/* What deviations are taken from at last, for `value`: something finite, so that their sum shows what is not. */
FDL_INLINE real finite_center(real value) { return isfinite(value) ? value : 0; }

/* Of x [runs, size]; without `centered`, a constant, around 0. */
FDL_INLINE moments moments_of(const real *x, int64_t runs, int64_t stride, int64_t size, const bool centered)
{
    moments all = {0, 0, 0, 0};
    FOR_CHUNKS(run, at, height, width, runs, size)
    {
        const real *p = x + run * stride + at;
        const double count = (double)(height * width);
        if (centered) {
            const real guess = width < 4 ? p[0] : (p[0] + p[1] + p[2] + p[3]) / 4;
            moments found = around(guess, chunk_sums(p, NULL, guess, p, guess, height, stride, width), count);
            if (!(found.low * found.low * count <= 4 * found.squares)) { /* more than 2 deviations off, or not finite */
                const real center = finite_center((real)(found.mean + found.low));
                found = around(center, chunk_sums(p, NULL, center, p, center, height, stride, width), count);
            }
            all = merged(all, found);
        } else {
            all.count += count;
            all.squares += chunk_sums(p, NULL, 0, p, 0, height, stride, width).second;
        }
    }
    return all;
}

typedef struct {
    real center;      /* the mean, rounded */
    double low, rstd; /* low: (center - mean) rstd, so that z = (x - center) rstd + low */
} statistic;

FDL_INLINE statistic statistic_of(double mean, double low, double variance, double eps)
{
    const double rstd = 1 / sqrt(variance + eps);
    const real center = (real)(mean + low);
    return (statistic){center, ((double)center - mean - low) * rstd, rstd};
}

/* Write what is wanted of statistic `index`. */
FDL_INLINE void keep_statistic(const norm *t, int64_t index, double mean, double variance, double rstd)
{
    if (t->moments) {
        t->moments[2 * index] = mean;
        t->moments[2 * index + 1] = variance;
    }
    if (t->mean_out)
        t->mean_out[index] = mean;
    if (t->rstd_out)
        t->rstd_out[index] = rstd;
}

FDL_INLINE statistic take_statistic(const norm *t, int64_t index, moments m)
{
    const double variance = m.count > 0 ? m.squares * (1 / m.count) : 0;
    const statistic s = statistic_of(m.mean, m.low, variance, t->eps);
    keep_statistic(t, index, m.mean + m.low, variance, s.rstd);
    return s;
}

/* Whether `real` holds the squares of deviations of 1 / rstd, and of some 2^30 times more or less; not where x is not
 * finite. */
FDL_INLINE bool usual(double rstd)
{
    return sizeof(real) == 4 ? rstd > 0x1p-32 && rstd < 0x1p32 : rstd > 0x1p-256 && rstd < 0x1p256;
}

/* Whether statistic `index` is known beforehand, and it. */
FDL_INLINE bool known_statistic(const norm *t, int64_t index, statistic *s)
{
    if (t->kind == FDL_NORM_FIXED) {
        const int64_t channel = index % t->groups;
        *s = (statistic){t->fixed_mean[channel], 0, 1 / sqrt((double)t->fixed_variance[channel] + t->eps)};
    } else if (t->rstd) {
        const double mean = t->mean ? t->mean[index] : 0;
        *s = (statistic){(real)mean, ((double)(real)mean - mean) * t->rstd[index], t->rstd[index]};
    } else {
        return false;
    }
    return true;
}

/* index modulo groups, of which there is often one. */
FDL_INLINE int64_t group_of(const norm *t, int64_t index) { return t->groups == 1 ? 0 : index % t->groups; }

FDL_INLINE double weight_of(const norm *t, int64_t channel) { return t->weight ? (double)t->weight[channel] : 1; }

/* grad_input = by h - (of_z (x - center) + least), from the sums of h and of h (x - center) over `count` values. */
typedef struct {
    double by, of_z, least;
} slopes;

FDL_INLINE slopes slopes_of(const norm *t, statistic s, sums h, double count, const bool centered)
{
    if (t->kind == FDL_NORM_FIXED)
        return (slopes){s.rstd, 0, 0};
    const double each = 1 / count;
    const double mean_h = centered ? h.first * each : 0, mean_hz = (s.rstd * h.second + s.low * h.first) * each;
    return (slopes){s.rstd, s.rstd * s.rstd * mean_hz, s.rstd * (mean_h + s.low * mean_hz)};
}

/* Whether `real` holds them, and what they are applied to; not where h is not finite. */
FDL_INLINE bool usual_slopes(slopes to)
{
    const double size = fabs(to.of_z);
    return size == 0 || (sizeof(real) == 4 ? size > 0x1p-100 && size < 0x1p100 : size > 0x1p-900 && size < 0x1p900);
}

/* ---- rescued: statistics that are not `usual` ---- */

/* A statistic's elements: sets [sets, runs, inner], a set of each channel, whose runs are `stride` apart. */
typedef struct {
    int64_t sets, runs, stride, first, channel;
} span;

/* For each element of span s, at x + `at`: the statement that follows. */
#define FOR_SPAN(set, at, s, inner)                                                                                    \
    for (int64_t set = 0; set < (s).sets; set++)                                                                       \
        for (int64_t run_ = 0; run_ < (s).runs; run_++)                                                                \
            for (int64_t at = (s).first + set * (inner) + run_ * (s).stride, end_ = at + (inner); at < end_; at++)

/* z = (x scale - center - low) rstd, where scale is a power of two. */
typedef struct {
    double scale, center, low, rstd;
} rescued;

FDL_INLINE double rescued_z(rescued of, real x) { return ((double)x * of.scale - of.center - of.low) * of.rstd; }

/* 2^-k, where the largest of |x| is 2^k times something in [1/2, 1); 1 where it is 0 or not finite. */
FDL_INLINE double rescued_scale(const norm *t, span s, int64_t inner)
{
    double most = 0;
    FOR_SPAN(set, at, s, inner) { most = fabs((double)t->x[at]) > most ? fabs((double)t->x[at]) : most; }
    if (most == 0 || !isfinite(most))
        return 1;
    int exponent;
    frexp(most, &exponent);
    return ldexp(1, exponent > 1022 ? -1022 : exponent < -1022 ? 1022 : -exponent);
}

/* Statistic `index`, as it is given or else taken from x, and written where it is wanted. */
static rescued rescued_statistic(const norm *t, int64_t index, span s, int64_t inner)
{
    if (t->rstd)
        return (rescued){1, t->mean ? t->mean[index] : 0, 0, t->rstd[index]};
    const double count = (double)(s.sets * s.runs * inner), each = 1 / (count > 0 ? count : 1);
    rescued of = {rescued_scale(t, s, inner), 0, 0, 0};
    double first = 0, squares = 0;
    if (t->kind != FDL_NORM_RMS) {
        FOR_SPAN(set, at, s, inner) { of.center += (double)t->x[at] * of.scale * each; }
        of.center = isfinite(of.center) ? of.center : 0; /* `low` is not, then */
    }
    FOR_SPAN(set, at, s, inner)
    {
        const double apart = (double)t->x[at] * of.scale - of.center;
        first += apart;
        squares += apart * apart;
    }
    if (t->kind != FDL_NORM_RMS) {
        of.low = first * each;
        squares -= of.low * first;
    }
    const double deviation = squares < 0 ? 0 : sqrt(squares * each); /* NaN stays */
    of.rstd = 1 / hypot(deviation, sqrt(t->eps) * of.scale);
    const double unscaled = deviation / of.scale;
    keep_statistic(t, index, of.center / of.scale + of.low / of.scale, unscaled * unscaled, of.rstd * of.scale);
    return of;
}

/* The elements of one statistic; x and out may be the same. */
static void rescued_forward(const norm *t, int64_t index, span s, int64_t inner)
{
    const rescued of = rescued_statistic(t, index, s, inner);
    FOR_SPAN(set, at, s, inner)
    {
        const double bias = t->bias ? (double)t->bias[s.channel + set] : 0;
        t->out[at] = (real)(rescued_z(of, t->x[at]) * weight_of(t, s.channel + set) + bias);
    }
}

/* The same backward. kept [sets, 2]: set to the sums of grad_output and of grad_output z; or NULL, and sum_gz and sum_g
 * [sets] grow by them. */
static void rescued_backward(const norm *t, int64_t index, span s, int64_t inner, double *kept, real *sum_gz,
                             real *sum_g)
{
    const rescued of = rescued_statistic(t, index, s, inner);
    sums h = {0, 0};
    for (int64_t set = 0; kept && set < s.sets; set++)
        kept[2 * set] = kept[2 * set + 1] = 0;
    FOR_SPAN(set, at, s, inner)
    {
        const double g = (double)t->grad_output[at], gz = g * rescued_z(of, t->x[at]);
        h.first += weight_of(t, s.channel + set) * g;
        h.second += weight_of(t, s.channel + set) * gz;
        if (kept) {
            kept[2 * set] += g;
            kept[2 * set + 1] += gz;
        } else {
            sum_gz[set] += (real)gz;
            sum_g[set] += (real)g;
        }
    }
    const double each = 1 / (double)(s.sets * s.runs * inner);
    const double mean_h = t->kind == FDL_NORM_RMS ? 0 : h.first * each, mean_hz = h.second * each;
    FOR_SPAN(set, at, s, inner)
    {
        const double g = (double)t->grad_output[at] * weight_of(t, s.channel + set);
        t->out[at] = (real)((g - mean_h - rescued_z(of, t->x[at]) * mean_hz) * of.rstd * of.scale);
    }
}

/* ---- runs: inner is long ---- */

FDL_INLINE span span_of(const norm *t, int64_t item)
{
    if (t->kind == FDL_NORM_BATCH)
        return (span){1, t->batch, t->groups * t->inner, item * t->inner, item};
    return (span){t->channels, 1, 0, item * t->channels * t->inner, item % t->groups * t->channels};
}

FDL_INLINE statistic span_statistic(const norm *t, int64_t item, span s)
{
    statistic found;
    if (known_statistic(t, item, &found))
        return found;
    const int64_t size = s.sets * t->inner; /* sets adjoin */
    return take_statistic(t, item, moments_of(t->x + s.first, s.runs, s.stride, size, true));
}

static int runs_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context; /* a copy, which no store can change */
    for (int64_t item = begin; item < end; item++) {
        const span s = span_of(&t, item);
        const statistic of = span_statistic(&t, item, s);
        if (t.kind != FDL_NORM_FIXED && !usual(of.rstd)) {
            rescued_forward(t.self, item, s, t.inner);
            continue;
        }
        for (int64_t set = 0; set < s.sets; set++) {
            const double w = weight_of(&t, s.channel + set);
            const real factor = (real)(of.rstd * w);
            const real shift = (real)(of.low * w + (t.bias ? (double)t.bias[s.channel + set] : 0));
            for (int64_t run = 0; run < s.runs; run++) {
                const int64_t at = s.first + set * t.inner + run * s.stride;
                for (pass p = pass_over(at, at + t.inner, t.out, t.streams); p.lanes > 0; pass_next(&p))
                    pass_store(&p, t.out, (pass_load(&p, t.x) - of.center) * factor + shift);
            }
        }
    }
    return FDL_OK;
}

static int runs_backward_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context;
    for (int64_t item = begin; item < end; item++) {
        const span s = span_of(&t, item);
        const statistic of = span_statistic(&t, item, s);
        sums h = {0, 0};
        for (int64_t set = 0; set < s.sets; set++) {
            const int64_t at = s.first + set * t.inner;
            const sums g = all_sums(t.grad_output + at, NULL, t.x + at, of.center, s.runs, s.stride, t.inner);
            double *kept = t.channel_sums + 2 * (item * s.sets + set);
            kept[0] = g.first;
            kept[1] = g.second * of.rstd + g.first * of.low;
            h.first += weight_of(&t, s.channel + set) * g.first;
            h.second += weight_of(&t, s.channel + set) * g.second;
        }
        const slopes to = slopes_of(&t, of, h, (double)(s.sets * s.runs * t.inner), true);
        if (t.kind != FDL_NORM_FIXED && !(usual(of.rstd) && usual_slopes(to))) {
            rescued_backward(t.self, item, s, t.inner, t.channel_sums + 2 * item * s.sets, NULL, NULL);
            continue;
        }
        const real of_z = (real)to.of_z, least = (real)to.least;
        for (int64_t set = 0; set < s.sets; set++) {
            const real by = (real)(to.by * weight_of(&t, s.channel + set));
            for (int64_t run = 0; run < s.runs; run++) {
                const int64_t at = s.first + set * t.inner + run * s.stride;
                pass p = pass_over(at, at + t.inner, t.out, t.streams);
                if (t.kind == FDL_NORM_FIXED)
                    for (; p.lanes > 0; pass_next(&p))
                        pass_store(&p, t.out, pass_load(&p, t.grad_output) * by);
                else
                    for (; p.lanes > 0; pass_next(&p))
                        pass_store(&p, t.out,
                                   pass_load(&p, t.grad_output) * by -
                                       ((pass_load(&p, t.x) - of.center) * of_z + least));
            }
        }
    }
    return FDL_OK;
}

/* ---- rows: x [batch, groups, elements], a weight for each element ---- */

/* Vectors of [0, size) as passes: whole ones with lanes that the compiler knows, unless they stream; then the rest. */
#define FOR_VECTORS(p, size, out, streams, step)                                                                       \
    do {                                                                                                               \
        int64_t whole = 0;                                                                                             \
        for (; !(streams) && whole + LANES <= (size); whole += LANES) { /* main loop */                                \
            const pass p = {whole, size, LANES, false};                                                                \
            step;                                                                                                      \
        }                                                                                                              \
        for (pass p = pass_over(whole, size, out, streams); p.lanes > 0; pass_next(&p)) /* tail */                     \
            step;                                                                                                      \
    } while (0)

typedef struct {
    const real *x, *grad_output, *weight, *bias;
    real *out, *sum_gz, *sum_g;
    real center, rstd, low, of_z, least;
} row;

FDL_INLINE void forward_step(const pass *p, const row *r, const bool centered)
{
    if (centered)
        pass_store(p, r->out,
                   ((pass_load(p, r->x) - r->center) * r->rstd + r->low) * pass_load(p, r->weight) +
                       pass_load(p, r->bias));
    else
        pass_store(p, r->out, pass_load(p, r->x) * r->rstd * pass_load(p, r->weight));
}

FDL_INLINE void backward_step(const pass *p, const row *r, const bool centered)
{
    const vreal g = pass_load(p, r->grad_output);
    const vreal apart = centered ? pass_load(p, r->x) - r->center : pass_load(p, r->x);
    const vreal z = centered ? apart * r->rstd + r->low : apart * r->rstd;
    const vreal along = centered ? apart * r->of_z + r->least : apart * r->of_z;
    vstore_up_to(r->sum_gz + p->at, pass_load(p, r->sum_gz) + g * z, p->lanes);
    if (centered)
        vstore_up_to(r->sum_g + p->at, pass_load(p, r->sum_g) + g, p->lanes);
    pass_store(p, r->out, g * pass_load(p, r->weight) * r->rstd - along);
}

FDL_INLINE span row_span(const norm *t, int64_t index)
{
    const int64_t size = t->channels * t->inner;
    return (span){size, 1, 0, index * size, group_of(t, index) * size};
}

FDL_INLINE void rows_forward(const norm *t, int64_t begin, int64_t end, const bool centered)
{
    const int64_t size = t->channels * t->inner;
    for (int64_t index = begin; index < end; index++) {
        const int64_t first = group_of(t, index) * size;
        row r = {.x = t->x + index * size, .weight = t->weight + first, .out = t->out + index * size};
        r.bias = centered ? t->bias + first : NULL;
        const statistic of = take_statistic(t, index, moments_of(r.x, 1, 0, size, centered));
        if (!usual(of.rstd)) {
            rescued_forward(t->self, index, row_span(t, index), 1);
            continue;
        }
        r.center = of.center, r.rstd = (real)of.rstd, r.low = (real)of.low;
        FOR_VECTORS(p, size, r.out, t->streams, forward_step(&p, &r, centered));
    }
}

static int rows_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context;
    if (t.kind == FDL_NORM_RMS)
        rows_forward(&t, begin, end, false);
    else
        rows_forward(&t, begin, end, true);
    return FDL_OK;
}

/* One row; sum_gz and sum_g [size] grow by grad_output z and grad_output. */
FDL_INLINE void row_backward(const norm *t, int64_t index, real *sum_gz, real *sum_g, const bool centered)
{
    const int64_t size = t->channels * t->inner, at = index * size;
    row r = {.x = t->x + at, .grad_output = t->grad_output + at, .weight = t->weight + group_of(t, index) * size};
    r.out = t->out + at, r.sum_gz = sum_gz, r.sum_g = sum_g;
    statistic of;
    if (!known_statistic(t, index, &of))
        of = take_statistic(t, index, moments_of(r.x, 1, 0, size, centered));
    const sums h = all_sums(r.grad_output, r.weight, r.x, centered ? of.center : 0, 1, 0, size);
    const slopes to = slopes_of(t, of, h, (double)size, centered);
    if (!(usual(of.rstd) && usual_slopes(to))) {
        rescued_backward(t->self, index, row_span(t, index), 1, NULL, sum_gz, sum_g);
        return;
    }
    r.center = of.center, r.rstd = (real)of.rstd, r.low = (real)of.low;
    r.of_z = (real)to.of_z, r.least = (real)to.least;
    FOR_VECTORS(p, size, r.out, t->streams, backward_step(&p, &r, centered));
}

/* Items are the groups of blocks of samples. Sums of a block run in `real` over FOLD samples, then in double. */
FDL_INLINE int rows_backward(const norm *t, int64_t begin, int64_t end, const bool centered)
{
    const int64_t size = t->channels * t->inner, all = t->groups * size;
    const fdl_mark mark = fdl_scratch_mark();
    double *total = t->block > FOLD ? fdl_scratch(2 * size * (int64_t)sizeof(double)) : NULL;
    if (t->block > FOLD && !total)
        return FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end; item++) {
        const int64_t block = item / t->groups, group = item % t->groups;
        const int64_t first = block * t->block, last = min64(t->batch, first + t->block);
        real *sum[2] = {t->partial + block * 2 * all + group * size, t->partial + (block * 2 + 1) * all + group * size};
        for (int k = 0; k < 2; k++)
            memset(sum[k], 0, (size_t)size * sizeof(real));
        if (total)
            memset(total, 0, 2 * (size_t)size * sizeof(double));
        for (int64_t sample = first; sample < last; sample++) {
            row_backward(t, sample * t->groups + group, sum[0], sum[1], centered);
            if (total && ((sample + 1 - first) % FOLD == 0 || sample + 1 == last)) {
                const bool done = sample + 1 == last;
                for (int k = 0; k < 2; k++) {
                    for (int64_t j = 0; j < size; j++) {
                        const double sofar = total[k * size + j] + (double)sum[k][j];
                        total[k * size + j] = sofar;
                        sum[k][j] = done ? (real)sofar : 0;
                    }
                }
            }
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

static int rows_backward_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context;
    if (t.kind == FDL_NORM_RMS)
        return rows_backward(&t, begin, end, false);
    return rows_backward(&t, begin, end, true);
}

/* grad [groups, channels] is the sum of partial [blocks, 2, groups, channels, inner] over blocks and inner. */
static int add_partial(const norm *t, const real *partial, real *grad)
{
    const int64_t all = t->groups * t->channels * t->inner, blocks = ceil_div(t->batch, max64(1, t->block));
    const fdl_mark mark = fdl_scratch_mark();
    double *total = fdl_scratch(max64(1, all) * (int64_t)sizeof(double));
    if (!total)
        return FDL_OUT_OF_MEMORY;
    for (int64_t j = 0; j < all; j++)
        total[j] = 0;
    for (int64_t block = 0; block < blocks; block++)
        for (int64_t j = 0; j < all; j++)
            total[j] += (double)partial[block * 2 * all + j];
    for (int64_t channel = 0; channel < t->groups * t->channels; channel++) {
        double sum = 0;
        for (int64_t i = 0; i < t->inner; i++)
            sum += total[channel * t->inner + i];
        grad[channel] = (real)sum;
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* ---- columns: x [batch, channels * inner], a strip of whole channels at a time ---- */

/* Sums of u and u (b - center), u = a - center_a, of each column of a, b [rows, width <= STRIP], stride apart. */
FDL_INLINE void column_sums(const real *a, const real *center_a, const real *b, const real *center_b, int64_t rows,
                            int64_t stride, int64_t width, double *first, double *second)
{
    real part[2][STRIP] = {0};
    for (int64_t j = 0; j < width; j++)
        first[j] = second[j] = 0;
    for (int64_t row = 0; row < rows; row += FOLD) {
        const int64_t stop = min64(rows, row + FOLD);
        for (int64_t j = 0; j < width; j += LANES) {
            const int64_t left = width - j;
            const vreal ca = vload(center_a + j), cb = vload(center_b + j);
            vreal u_sum = {0}, product = {0};
            for (int64_t i = row; i < stop; i++) {
                const vreal u = vload_up_to(a + i * stride + j, left) - ca;
                u_sum += u;
                product += u * (vload_up_to(b + i * stride + j, left) - cb);
            }
            vstore(part[0] + j, u_sum);
            vstore(part[1] + j, product);
        }
        for (int64_t j = 0; j < width; j++) {
            first[j] += (double)part[0][j];
            second[j] += (double)part[1][j];
        }
    }
}

/* The moments of the strip's channels, each of `inner` columns. Rows are read again while they are in cache. */
FDL_INLINE void strip_moments(const norm *t, const real *x, int64_t width, moments *channel)
{
    enum { ROWS = 1024 };
    static const real zero[STRIP] = {0};
    const int64_t stride = t->groups * t->inner, channels = width / t->inner;
    for (int64_t c = 0; c < channels; c++)
        channel[c] = (moments){0, 0, 0, 0};
    for (int64_t row = 0; row < t->batch; row += ROWS) {
        const int64_t rows = min64(ROWS, t->batch - row);
        const real *part = x + row * stride;
        double first[STRIP], second[STRIP];
        real center[STRIP] = {0};
        column_sums(part, zero, part, zero, rows, stride, width, first, second);
        const double each = 1 / (double)rows;
        for (int64_t j = 0; j < width; j++)
            center[j] = (real)(first[j] * each);
        for (int64_t j = 0; j < width; j++)
            center[j] = finite_center(center[j]);
        column_sums(part, center, part, center, rows, stride, width, first, second);
        for (int64_t c = 0; c < channels; c++)
            for (int64_t j = c * t->inner; j < (c + 1) * t->inner; j++)
                channel[c] = merged(channel[c], around(center[j], (sums){first[j], second[j]}, (double)rows));
    }
}

/* Statistics of the strip's channels, and the center of each column. */
FDL_INLINE void strip_statistics(const norm *t, int64_t column, int64_t width, statistic *of, real *center)
{
    const int64_t channel = column / t->inner, channels = width / t->inner;
    moments found[STRIP];
    bool known = true;
    for (int64_t c = 0; c < channels; c++)
        known = known && known_statistic(t, channel + c, of + c);
    if (!known) {
        strip_moments(t, t->x + column, width, found);
        for (int64_t c = 0; c < channels; c++)
            of[c] = take_statistic(t, channel + c, found[c]);
    }
    for (int64_t c = 0; c < channels; c++)
        for (int64_t j = c * t->inner; j < (c + 1) * t->inner; j++)
            center[j] = of[c].center;
}

/* The columns in a strip: whole channels; a vector's worth where few columns have much to do, for threads to share. */
FDL_INLINE int64_t strip_width(const norm *t)
{
    const int64_t columns = t->groups * t->inner;
    const int64_t wide = columns >= 8 * STRIP || t->batch * columns < 2 * MEMORY_GRAIN ? STRIP : LANES;
    return max64(1, wide / t->inner) * t->inner;
}

FDL_INLINE span column_span(const norm *t, int64_t channel)
{
    return (span){1, t->batch, t->groups * t->inner, channel * t->inner, channel};
}

FDL_INLINE void columns(const norm *t, int64_t strip, const bool backward)
{
    const int64_t stride = t->groups * t->inner, column = strip * strip_width(t);
    const int64_t width = min64(strip_width(t), stride - column), channel = column / t->inner;
    statistic of[STRIP];
    real center[STRIP] = {0}, factor[STRIP] = {0}, of_z[STRIP] = {0}, shift[STRIP] = {0};
    strip_statistics(t, column, width, of, center);
    bool fine = true;
    for (int64_t c = 0; c < width / t->inner; c++)
        fine = fine && (t->kind == FDL_NORM_FIXED || usual(of[c].rstd));
    if (!fine && !backward) {
        for (int64_t c = channel; c < channel + width / t->inner; c++)
            rescued_forward(t->self, c, column_span(t, c), t->inner);
        return;
    }
    const real *x = t->x + column, *grad_output = backward ? t->grad_output + column : NULL;
    if (backward) {
        static const real zero[STRIP] = {0};
        double first[STRIP], second[STRIP];
        column_sums(grad_output, zero, x, center, t->batch, stride, width, first, second);
        for (int64_t c = 0; c < width / t->inner; c++) {
            const double w = weight_of(t, channel + c);
            sums g = {0, 0};
            for (int64_t j = c * t->inner; j < (c + 1) * t->inner; j++)
                g = (sums){g.first + first[j], g.second + second[j]};
            t->channel_sums[2 * (channel + c)] = g.first;
            t->channel_sums[2 * (channel + c) + 1] = g.second * of[c].rstd + g.first * of[c].low;
            const sums h = {w * g.first, w * g.second};
            const slopes to = slopes_of(t, of[c], h, (double)(t->batch * t->inner), true);
            fine = fine && (t->kind == FDL_NORM_FIXED || usual_slopes(to));
            for (int64_t j = c * t->inner; j < (c + 1) * t->inner; j++) {
                factor[j] = (real)(to.by * w);
                of_z[j] = (real)to.of_z;
                shift[j] = (real)to.least;
            }
        }
        if (!fine) {
            for (int64_t c = channel; c < channel + width / t->inner; c++)
                rescued_backward(t->self, c, column_span(t, c), t->inner, t->channel_sums + 2 * c, NULL, NULL);
            return;
        }
    } else {
        for (int64_t c = 0; c < width / t->inner; c++) {
            const double w = weight_of(t, channel + c), b = t->bias ? (double)t->bias[channel + c] : 0;
            for (int64_t j = c * t->inner; j < (c + 1) * t->inner; j++) {
                factor[j] = (real)(of[c].rstd * w);
                shift[j] = (real)(of[c].low * w + b);
            }
        }
    }
    for (int64_t row = 0; row < t->batch; row++) {
        real *out = t->out + column + row * stride;
        for (int64_t j = 0; j < width; j += LANES) { /* main loop and tail */
            const int64_t at = row * stride + j, left = width - j;
            const vreal f = vload(factor + j), s = vload(shift + j);
            if (backward && t->kind == FDL_NORM_FIXED) {
                vstore_up_to(out + j, vload_up_to(grad_output + at, left) * f, left);
                continue;
            }
            const vreal apart = vload_up_to(x + at, left) - vload(center + j);
            if (backward)
                vstore_up_to(out + j, vload_up_to(grad_output + at, left) * f - (apart * vload(of_z + j) + s), left);
            else
                vstore_up_to(out + j, apart * f + s, left);
        }
    }
}

static int columns_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context;
    for (int64_t strip = begin; strip < end; strip++)
        columns(&t, strip, false);
    return FDL_OK;
}

static int columns_backward_range(void *context, int64_t begin, int64_t end)
{
    const norm t = *(const norm *)context;
    for (int64_t strip = begin; strip < end; strip++)
        columns(&t, strip, true);
    return FDL_OK;
}

/* ---- the entry points ---- */

enum driver { RUNS, ROWS, COLUMNS };

static enum driver driver_of(const norm *t)
{
    if (t->inner >= LANES || t->inner == 0)
        return RUNS;
    return t->kind == FDL_NORM_BATCH || t->kind == FDL_NORM_FIXED ? COLUMNS : ROWS;
}

/* items of `elements` elements each */
static int in_parallel(norm *t, int64_t items, int64_t elements, fdl_task *range)
{
    t->self = t;
    return fdl_parallel(items, ceil_div(MEMORY_GRAIN, max64(1, elements)), range, t);
}

/* `values` [channels], repeated for each of the inner elements; `otherwise` where there are none. NULL: no memory. */
static const real *for_each_element(const norm *t, const real *values, real otherwise)
{
    const int64_t channels = t->groups * t->channels;
    if (values && t->inner == 1)
        return values;
    real *each = fdl_scratch(max64(1, channels * t->inner) * (int64_t)sizeof(real));
    for (int64_t i = 0; each && i < channels * t->inner; i++)
        each[i] = values ? values[i / t->inner] : otherwise;
    return each;
}

/* running = (1 - momentum) running + momentum (the mean over the samples of their moments) */
static void update_running(const norm *t, real *mean, real *variance, double momentum)
{
    const bool batch = t->kind == FDL_NORM_BATCH;
    const int64_t samples = batch ? 1 : t->batch, count = batch ? t->batch * t->inner : t->inner;
    for (int64_t c = 0; samples > 0 && count > 0 && c < t->groups; c++) {
        double sum[2] = {0, 0};
        for (int64_t n = 0; n < samples; n++)
            for (int k = 0; k < 2; k++)
                sum[k] += t->moments[2 * (n * t->groups + c) + k];
        const double unbiased = (double)count / (double)(count - 1);
        mean[c] = (real)((1 - momentum) * (double)mean[c] + momentum * sum[0] / (double)samples);
        variance[c] = (real)((1 - momentum) * (double)variance[c] + momentum * unbiased * sum[1] / (double)samples);
    }
}

int fdl_normalize(const real *x, const real *fixed_mean, const real *fixed_var, real *running_mean, real *running_var,
                  const real *weight, const real *bias, real *y, double *mean, double *rstd, int64_t batch,
                  int64_t groups, int64_t channels, int64_t inner, int64_t kind, double momentum, double eps)
{
    norm t = {.x = x, .weight = weight, .bias = bias, .out = y, .mean_out = mean, .rstd_out = rstd};
    t.fixed_mean = fixed_mean, t.fixed_variance = fixed_var;
    t.batch = batch, t.groups = groups, t.channels = channels, t.inner = inner, t.kind = kind, t.eps = eps;
    const int64_t all = batch * groups * channels * inner, each = channels * inner;
    t.streams = x != y && pass_streams(all);
    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OUT_OF_MEMORY;
    const bool updates = running_mean;
    const int64_t statistics = kind == FDL_NORM_BATCH ? groups : batch * groups;
    t.moments = updates ? fdl_scratch(max64(1, 2 * statistics) * (int64_t)sizeof(double)) : NULL;
    if (!updates || t.moments) {
        switch (driver_of(&t)) {
        case RUNS:
            status = in_parallel(&t, statistics, statistics ? all / statistics : 0, runs_range);
            break;
        case ROWS:
            t.weight = for_each_element(&t, weight, 1);
            t.bias = kind == FDL_NORM_RMS ? NULL : for_each_element(&t, bias, 0);
            if (t.weight && (t.bias || kind == FDL_NORM_RMS))
                status = in_parallel(&t, statistics, each, rows_range);
            break;
        case COLUMNS:
            status = in_parallel(&t, ceil_div(groups * inner, strip_width(&t)), batch * strip_width(&t), columns_range);
        }
    }
    for (int64_t c = 0; kind == FDL_NORM_FIXED && mean && rstd && c < groups; c++) {
        mean[c] = (double)fixed_mean[c];
        rstd[c] = 1 / sqrt((double)fixed_var[c] + eps);
    }
    if (status == FDL_OK && updates)
        update_running(&t, running_mean, running_var, momentum);
    fdl_scratch_release(mark);
    return status;
}

int fdl_fuse_norm(const real *weight, const real *bias, const real *fixed_mean, const real *fixed_var,
                  const real *norm_weight, const real *norm_bias, real *fused_weight, real *fused_bias, int64_t out,
                  int64_t inner, double eps)
{
    for (int64_t c = 0; c < out; c++) {
        const double scale = (norm_weight ? (double)norm_weight[c] : 1) / sqrt((double)fixed_var[c] + eps);
        const double shifted = (bias ? (double)bias[c] : 0) - (double)fixed_mean[c];
        fused_bias[c] = (real)((norm_bias ? (double)norm_bias[c] : 0) + scale * shifted);
        for (int64_t i = 0; i < inner; i++)
            fused_weight[c * inner + i] = (real)(scale * (double)weight[c * inner + i]);
    }
    return FDL_OK;
}

int fdl_normalize_backward(const real *grad_output, const real *x, const real *running_mean, const real *running_var,
                           const real *weight, const double *mean, const double *rstd, real *grad_input,
                           real *grad_weight, real *grad_bias, int64_t batch, int64_t groups, int64_t channels,
                           int64_t inner, int64_t kind, double eps)
{
    norm t = {.grad_output = grad_output, .x = x, .weight = weight, .mean = mean, .rstd = rstd, .out = grad_input};
    t.fixed_mean = running_mean, t.fixed_variance = running_var;
    t.batch = batch, t.groups = groups, t.channels = channels, t.inner = inner, t.kind = kind, t.eps = eps;
    const int64_t all = batch * groups * channels * inner, each = channels * inner;
    t.streams = pass_streams(all);
    const fdl_mark mark = fdl_scratch_mark();
    int status = FDL_OUT_OF_MEMORY;
    if (driver_of(&t) == ROWS) {
        /* At most 64 blocks; of 32 samples if there are enough, of a few where that would leave threads without any. */
        t.block = max64(1, max64(min64(FOLD, ceil_div(batch, 8)), ceil_div(batch, 64)));
        const int64_t blocks = ceil_div(batch, t.block);
        t.weight = for_each_element(&t, weight, 1);
        t.partial = fdl_scratch(max64(1, blocks * 2 * groups * each) * (int64_t)sizeof(real));
        if (t.weight && t.partial)
            status = in_parallel(&t, blocks * groups, t.block * each, rows_backward_range);
        if (status == FDL_OK && grad_weight)
            status = add_partial(&t, t.partial, grad_weight);
        if (status == FDL_OK && grad_bias)
            status = add_partial(&t, t.partial + groups * each, grad_bias);
    } else {
        const bool one = kind == FDL_NORM_BATCH || driver_of(&t) == COLUMNS; /* sum a channel, of all samples */
        const int64_t sums_of_each = one ? 1 : batch, items = one ? groups : batch * groups;
        t.channel_sums = fdl_scratch(max64(1, 2 * sums_of_each * groups * channels) * (int64_t)sizeof(double));
        if (t.channel_sums && driver_of(&t) == RUNS)
            status = in_parallel(&t, items, items ? all / items : 0, runs_backward_range);
        else if (t.channel_sums)
            status = in_parallel(&t, ceil_div(groups * inner, strip_width(&t)), batch * strip_width(&t),
                                 columns_backward_range);
        for (int64_t c = 0; status == FDL_OK && c < groups * channels; c++) {
            double sum[2] = {0, 0};
            for (int64_t n = 0; n < sums_of_each; n++)
                for (int k = 0; k < 2; k++)
                    sum[k] += t.channel_sums[2 * (n * groups * channels + c) + k];
            if (grad_bias)
                grad_bias[c] = (real)sum[0];
            if (grad_weight)
                grad_weight[c] = (real)sum[1];
        }
    }
    fdl_scratch_release(mark);
    return status;
}
