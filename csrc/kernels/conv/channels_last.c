/* Convolution where the channels are last: x [batch, (depth,) height, width, channels], y and the gradients likewise,
 * the weights as everywhere [out_channels, channels / groups, taps].
 *
 * The formulas are those of conv.c with columns transposed: a pixel's channels lie side by side, so a row of
 *
 *   columns[p, k]  = x[n, i stride - padding + r dilation, j stride - padding + s dilation, c], 0 outside the image,
 *
 * p = (n, i, j) running over the whole batch, is made of runs of memory. With one group at a time
 *
 *   y      [p, f] = sum_k columns[p, k] weight[f, k] + bias[f]
 *   grad_w [f, k] = sum_p grad_y[p, f] columns[p, k]
 *   grad_x        = the sum of (grad_y weight)[p, k] back to where columns took it from; at stride 1 that is the
 *                   convolution of grad_y with the kernels turned round (conv.c)
 *   grad_b [f]    = sum_p grad_y[p, f], accumulated in double
 *
 * "direct" packs blocks of columns as the product needs them, "im2col" builds those of one image in memory. k may run
 * in any order, if only both factors have the same one: blocks of channels, in one the taps, in a tap the channels.
 * A block with all of its taps is then a run of the weights, too, and no deeper than one slice of the product, so that
 * weights are transposed while they are packed and read once. Sums in `real` as described in gemm.h.
 *
 * Depthwise convolution (one channel and one filter a group) has its vectors along the channels instead, and sums the
 * taps pixel by pixel. */
#include "kernels/conv/conv.h"
#include "vector/sums.h"

/* One group of the convolution: what its columns and weights are packed from. */
typedef struct {
    const convolution *v;
    const real *x, *weights; /* from the group's first channel and filter on */
    int64_t block;           /* channels in a block of k; the last one may have fewer */
    int64_t together;        /* taps of a kernel row that are one run of x: all of them, or one */
} source;

/* Group g of the images from n on. */
static source source_of(const convolution *v, int64_t n, int64_t g, bool blocked)
{
    source o = {v, v->x, v->weights.data, max64(1, v->channels), 1};
    if (v->x)
        o.x += n * v->pixels * v->w.channels + g * v->channels;
    if (o.weights)
        o.weights += g * v->group_weights;
    if (blocked) { /* at most what fits a slice of k, but a cache line */
        const int64_t most = max64(GEMM_K / v->taps, 64 / (int64_t)sizeof(real));
        o.block = max64(1, ceil_div(v->channels, max64(1, ceil_div(v->channels, most))));
    }
    if (v->w.groups == 1 && v->w.dilation_width == 1 && o.block >= v->channels)
        o.together = v->w.kernel_width;
    return o;
}

/* ---- columns ---- */

/* A run of k: the taps from (q, r, s) on over the channels of a block, `skip` elements on. */
typedef struct {
    int64_t block, q, r, s, skip;
} run;

static run locate_run(const source *o, int64_t k)
{
    const fdl_window *w = &o->v->w;
    const int64_t block = k / (o->block * o->v->taps), in_block = k % (o->block * o->v->taps);
    const int64_t length = min64(o->block, o->v->channels - block * o->block) * o->together;
    const int64_t tap = in_block / length * o->together;
    return (run){
        .block = block,
        .q = tap / w->kernel_width / w->kernel_height,
        .r = tap / w->kernel_width % w->kernel_height,
        .s = tap % w->kernel_width,
        .skip = in_block % length,
    };
}

/* Elements of the whole run. */
FDL_INLINE int64_t run_length(const source *o, run at)
{
    return min64(o->block, o->v->channels - at.block * o->block) * o->together;
}

FDL_INLINE run next_run(const source *o, run at)
{
    const fdl_window *w = &o->v->w;
    at.skip = 0, at.s += o->together;
    if (at.s == w->kernel_width) {
        at.s = 0, at.r++;
        if (at.r == w->kernel_height) {
            at.r = 0, at.q++;
            if (at.q == w->kernel_depth)
                at.q = 0, at.block++;
        }
    }
    return at;
}

/* to[0 : length] = from[0 : length]; up to LANES - 1 elements more are written where they may be. */
FDL_INLINE void copy_run(const real *from, real *to, int64_t length, const bool may_spill)
{
    int64_t l = 0;
    for (; l + LANES <= length; l += LANES) /* main loop */
        vstore(to + l, vload(from + l));
    if (l == length)
        return;
    if (length >= LANES) { /* tail: some elements twice */
        vstore(to + length - LANES, vload(from + length - LANES));
    } else {
        const vmask left = vmask_range(0, length);
        if (may_spill)
            vstore(to, vload_masked(from, left));
        else
            vstore_masked(to, vload_masked(from, left), left);
    }
}

/* The same for `count` runs, from_step and to_step apart; those of few whole vectors without a loop. */
FDL_INLINE void copy_runs(const real *from, int64_t from_step, real *to, int64_t to_step, int64_t count, int64_t length,
                          const bool may_spill)
{
    if (length == 2 * LANES)
        for (; count > 0; count--, from += from_step, to += to_step)
            copy_run(from, to, 2 * LANES, may_spill);
    else if (length == 4 * LANES)
        for (; count > 0; count--, from += from_step, to += to_step)
            copy_run(from, to, 4 * LANES, may_spill);
    else
        for (; count > 0; count--, from += from_step, to += to_step)
            copy_run(from, to, length, may_spill);
}

/* Positions [first, last) of a line are those that have all of the taps side by side from s on inside the image. */
static void locate_inside(const fdl_window *w, int64_t s, int64_t side, int64_t *first, int64_t *last)
{
    const int64_t stride = w->stride_width, column = s * w->dilation_width - w->padding_width;
    const int64_t room = w->width - column - (side - 1) * w->dilation_width;
    *last = room > 0 ? min64(w->out_width, stride == 1 ? room : ceil_div(room, stride)) : 0;
    *first = column < 0 ? min64(*last, stride == 1 ? -column : ceil_div(-column, stride)) : 0;
}

/* to[(j - first) * to_row + l] = element l of the run at the positions (., ., first <= j < last) of one output line,
 * whose taps lie in the input line that starts at `line`; NULL: outside. */
FDL_INLINE void fill_run(const source *o, run at, const real *line, int64_t first, int64_t last, int64_t length,
                         real *to, int64_t to_row, const bool may_spill)
{
    const fdl_window *w = &o->v->w;
    const int64_t wide = run_length(o, at) / o->together, step = w->stride_width * w->channels;
    int64_t whole, whole_end;
    locate_inside(w, at.s, o->together, &whole, &whole_end);
    if (!line)
        whole_end = whole;
    const int64_t column = at.s * w->dilation_width - w->padding_width;
    const real *from = line ? line + column * w->channels + at.block * o->block + at.skip : NULL;
    for (int64_t j = first; j < last;) {
        if (j >= whole && j < whole_end) {
            const int64_t count = min64(last, whole_end) - j;
            copy_runs(from + j * step, step, to, to_row, count, length, may_spill);
            j += count, to += count * to_row;
            continue;
        }
        const int64_t lowest = -column - j * w->stride_width;
        const int64_t highest = min64(o->together, lowest + w->width);
        const int64_t begin = line ? min64(length, max64(0, lowest * wide - at.skip)) : length;
        const int64_t end = min64(length, max64(begin, highest * wide - at.skip));
        for (int64_t l = 0; l < begin; l++)
            to[l] = 0;
        for (int64_t l = begin; l < end; l++)
            to[l] = from[j * step + l];
        for (int64_t l = end; l < length; l++)
            to[l] = 0;
        j++, to += to_row;
    }
}

/* out[i * out_row + l] = columns[position + i, k + l]. With may_spill, up to LANES - 1 elements after those of a row
 * are overwritten. */
FDL_INLINE void fill_rows(const source *o, int64_t position, int64_t count, int64_t k, int64_t terms, real *out,
                          int64_t out_row, const bool may_spill)
{
    const fdl_window *w = &o->v->w;
    if (terms == 0)
        return;
    const run start = locate_run(o, k);
    const int64_t out_line = position / w->out_width, out_plane = out_line / w->out_height;
    int64_t j = position % w->out_width, i = out_line % w->out_height;
    int64_t d = out_plane % w->out_depth, n = out_plane / w->out_depth;
    for (int64_t done = 0, lines; done < count; done += lines, out += lines * out_row) {
        lines = min64(count - done, w->out_width - j);
        run at = start;
        for (int64_t l = 0, length; l < terms; l += length, at = next_run(o, at)) {
            length = min64(terms - l, run_length(o, at) - at.skip);
            const int64_t row = locate_row(w, d, i, at.q, at.r);
            const real *line = row < 0 ? NULL : o->x + (n * o->v->pixels + row * w->width) * w->channels;
            fill_run(o, at, line, j, j + lines, length, out + l, out_row, may_spill);
        }
        j = 0;
        if (++i == w->out_height) {
            i = 0;
            if (++d == w->out_depth)
                d = 0, n++;
        }
    }
}

/* A = columns [images * positions, terms]. */
static void pack_columns_a(const void *context, int64_t row, int64_t rows, int64_t k, int64_t terms, real *out)
{
    fill_rows(context, row, rows, k, terms, out, GEMM_A_STRIDE, true);
}

/* B = columns [images * positions, terms], for the gradient of the weights. */
static const real *pack_columns_b(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns,
                                  real *out)
{
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        const int64_t present = min64(columns - j, width);
        if (present < width)
            memset(out + j * terms, 0, (size_t)(terms * width) * sizeof(real));
        fill_rows(context, k, terms, column + j, present, out + j * terms, width, false);
    }
    return out;
}

/* ---- weights ---- */

/* out[(i - k) * out_row + f] = the weight i, in k's order, of filter + f, for k <= i < k + terms and f < filters, which
 * is at most LANES; 0 for filters <= f < lanes. */
static void fill_weights(const source *o, int64_t k, int64_t terms, int64_t filter, int64_t filters, real *out,
                         int64_t out_row, int64_t lanes)
{
    const int64_t taps = o->v->taps, row = o->v->weights.row, k_end = k + terms;
    for (int64_t block_end; k < k_end; k = block_end) {
        /* [low, high) is what is wanted of a block of `wide` channels: weight (c, tap) is its element tap * wide + c.
         */
        const int64_t start = k / (o->block * taps) * o->block * taps;
        const int64_t wide = min64(o->block, o->v->channels - start / taps);
        const int64_t low = k - start, high = min64(wide * taps, k_end - start);
        const int64_t tap_first = low / wide, tap_last = ceil_div(high, wide);
        /* In memory they are one run, or, where taps are missing, one a channel. */
        const bool whole = tap_last - tap_first == taps;
        const int64_t runs = whole ? 1 : wide, length = whole ? wide * taps : tap_last - tap_first;
        for (int64_t r = 0; r < runs; r++) {
            const real *from = o->weights + filter * row + start + r * taps + tap_first;
            int64_t c = r, tap = tap_first;
            for (int64_t l = 0; l < length; l += LANES, from += LANES) {
                const int64_t present = min64(LANES, length - l);
                vreal block[LANES];
                if (filters == LANES && present == LANES) { /* main loop */
                    FDL_UNROLL
                    for (int f = 0; f < LANES; f++)
                        block[f] = vload(from + f * row);
                } else { /* tail */
                    for (int64_t f = 0; f < LANES; f++)
                        block[f] = f < filters ? vload_first(from + f * row, present) : (vreal){0};
                }
                vtranspose(block);
                for (int64_t e = 0; e < present; e++) {
                    const int64_t element = tap * wide + c;
                    if (element >= low && element < high)
                        vstore_up_to(out + (element - low) * out_row, block[e], lanes);
                    if (++tap == taps)
                        tap = 0, c++;
                }
            }
        }
        block_end = start + high;
        out += (high - low) * out_row;
    }
}

/* B = the weights [terms, filters]. */
static const real *pack_weights(const void *context, int64_t k, int64_t terms, int64_t column, int64_t columns,
                                real *out)
{
    for (int64_t j = 0, width; j < columns; j += width) {
        width = gemm_panel_width(columns - j);
        for (int64_t f = 0; f < width; f += LANES)
            fill_weights(context, k, terms, column + j + f, max64(0, min64(columns - j - f, LANES)),
                         out + j * terms + f, width, LANES);
    }
    return out;
}

/* to[j * to_row + i] = from[i * from_row + j], i < rows, j < columns. */
static void transpose(const real *from, int64_t from_row, int64_t rows, int64_t columns, real *to, int64_t to_row)
{
    for (int64_t i = 0; i < rows; i += LANES)
        for (int64_t j = 0; j < columns; j += LANES) {
            const int64_t high = min64(LANES, rows - i), wide = min64(LANES, columns - j);
            vreal block[LANES];
            for (int64_t r = 0; r < LANES; r++)
                block[r] = r < high ? vload_up_to(from + (i + r) * from_row + j, wide) : (vreal){0};
            vtranspose(block);
            for (int64_t r = 0; r < wide; r++)
                vstore_up_to(to + (j + r) * to_row + i, block[r], high);
        }
}

bool conv_channels_last_is_depthwise(const convolution *v)
{
    return v->w.groups > 1 && v->channels == 1 && v->filters == 1;
}

typedef struct {
    const convolution *v;
    real *packed;
} packing;

/* Items are vectors of filters, of all groups. */
static int weights_task(void *context, int64_t begin, int64_t end)
{
    const packing *t = context;
    const convolution *v = t->v;
    const int64_t vectors = ceil_div(v->filters, LANES);
    for (int64_t item = begin; item < end; item++) {
        const int64_t g = item / vectors, f = item % vectors * LANES, count = min64(LANES, v->filters - f);
        const source o = source_of(v, 0, g, true);
        fill_weights(&o, 0, v->terms, f, count, t->packed + g * v->terms * v->filters + f, v->filters, count);
    }
    return FDL_OK;
}

int conv_channels_last_weights(const convolution *v, real *packed)
{
    if (conv_channels_last_is_depthwise(v)) { /* [taps, channels] */
        transpose(v->weights.data, v->taps, v->w.channels, v->taps, packed, v->w.channels);
        return FDL_OK;
    }
    packing t = {v, packed};
    const int64_t cost = max64(1, LANES * v->terms);
    return fdl_parallel(v->w.groups * ceil_div(v->filters, LANES), max64(1, (1 << 16) / cost), weights_task, &t);
}

/* ---- depthwise ---- */

/* What one line of results is summed from: tap u of result t is the pixel at x + from[u] + t step channels, where
 * column[u] + t step lies in [0, width), times the row of channels at weights + weight[u]. Taps come in rows of `side`,
 * 1 or 3, in which each is one pixel and one row of weights on from the one before. */
typedef struct {
    int64_t taps, side, step, width;
    int64_t *from, *column, *weight;
} tap_list;

static int take_taps(tap_list *list, int64_t most)
{
    int64_t *memory = fdl_scratch(3 * most * (int64_t)sizeof(int64_t));
    list->from = memory, list->column = memory + most, list->weight = memory + 2 * most;
    return memory ? FDL_OK : FDL_OUT_OF_MEMORY;
}

typedef struct {
    int64_t channels;
    const real *x, *weights, *bias, *residual; /* NULL: none */
    real *y;                                   /* of the line's first result, as residual */
    int64_t y_step;                            /* pixels between results */
    limits limits;
} line;

/* Results that are computed together, sharing the loads of weights, and pixels where a tap's is another's neighbour. */
enum { PIXELS = VECTOR_REGISTERS == 32 ? 6 : 4 };

/* sum[p] += the products of `side` neighbouring taps of pixels that are `step` apart. */
FDL_INLINE void add_taps(vreal sum[PIXELS], const real *x, const real *weight, int64_t channels, const int64_t step,
                         const int pixels, const int side, const bool whole, vmask lanes)
{
    vreal w[3];
    FDL_UNROLL
    for (int s = 0; s < side; s++)
        w[s] = whole ? vload(weight + s * channels) : vload_masked(weight + s * channels, lanes);
    if (side == 1) {
        FDL_UNROLL
        for (int p = 0; p < pixels; p++, x += step * channels)
            sum[p] += w[0] * (whole ? vload(x) : vload_masked(x, lanes));
        return;
    }
    FDL_UNROLL
    for (int i = 0; i < (pixels - 1) * step + side; i++, x += channels) { /* each pixel once, for all of its taps */
        const vreal pixel = vkeep(whole ? vload(x) : vload_masked(x, lanes));
        FDL_UNROLL
        for (int s = 0; s < side; s++)
            if (i >= s && (i - s) % step == 0 && (i - s) / step < pixels)
                sum[(i - s) / step] += w[s] * pixel;
    }
}

/* Results [t, t + pixels), channels [c, c + LANES) or, unless whole, those `lanes` of them. */
FDL_INLINE void sum_taps(const tap_list *list, const line *q, int64_t t, int64_t c, const int64_t step,
                         const int pixels, const int side, const bool whole, vmask lanes)
{
    const int64_t channels = q->channels, y_step = q->y_step * channels;
    const real *weights = q->weights + c, *pixel = q->x + t * step * channels + c;
    vreal sum[PIXELS], bias = {0};
    if (q->bias)
        bias = whole ? vload(q->bias + c) : vload_masked(q->bias + c, lanes);
    FDL_UNROLL
    for (int p = 0; p < pixels; p++)
        sum[p] = bias;
    for (int64_t u = 0; u < list->taps; u += side)
        add_taps(sum, pixel + list->from[u], weights + list->weight[u], channels, step, pixels, side, whole, lanes);
    if (pixels > 1 &&
        list->taps > 0) { /* what no earlier line has read, and y: too scattered for the hardware to see */
        enum { AHEAD = 8 * PIXELS };
        const real *x = pixel + list->from[list->taps - 1] + AHEAD * step * channels;
        const real *to = q->y + (t + AHEAD) * y_step + c;
        FDL_UNROLL
        for (int p = 0; p < pixels; p++, x += step * channels, to += y_step) {
            __builtin_prefetch(x, 0, 2);
            __builtin_prefetch(to, 1);
        }
    }
    if (q->residual) {
        const real *residual = q->residual + t * y_step + c;
        FDL_UNROLL
        for (int p = 0; p < pixels; p++, residual += y_step)
            sum[p] += whole ? vload(residual) : vload_masked(residual, lanes);
    }
    if (q->limits.any) {
        const limits cut = q->limits;
        FDL_UNROLL
        for (int p = 0; p < pixels; p++)
            sum[p] = vlimit(cut, sum[p]);
    }
    real *y = q->y + t * y_step + c;
    FDL_UNROLL
    for (int p = 0; p < pixels; p++, y += y_step) {
        if (whole)
            vstore(y, sum[p]);
        else
            vstore_masked(y, sum[p], lanes);
    }
}

/* The same of more taps than one block of a sum has, and all channels. */
static void sum_many_taps(const tap_list *list, const line *q, int64_t t)
{
    for (int64_t c = 0; c < q->channels; c += LANES) { /* main loop and tail */
        const int64_t left = q->channels - c, y = t * q->y_step * q->channels + c;
        const real *x = q->x + t * list->step * q->channels + c;
        vreal high = q->bias ? vload_up_to(q->bias + c, left) : (vreal){0}, low = {0};
        for (int64_t u = 0; u < list->taps;) {
            vreal part = {0};
            for (const int64_t end = min64(list->taps, u + SUM_TERMS); u < end; u++)
                part += vload_up_to(q->weights + c + list->weight[u], left) * vload_up_to(x + list->from[u], left);
            vtotal_add(&high, &low, part);
        }
        vreal value = vtotal(high, low);
        if (q->residual)
            value += vload_up_to(q->residual + y, left);
        vstore_up_to(q->y + y, vlimit(q->limits, value), left);
    }
}

FDL_INLINE void sum_pixels(const tap_list *list, const line *q, int64_t t, const int64_t step, const int pixels,
                           const int side)
{
    if (list->taps > SUM_TERMS) {
        for (int p = 0; p < pixels; p++)
            sum_many_taps(list, q, t + p);
        return;
    }
    int64_t c = 0;
    for (; c + LANES <= q->channels; c += LANES) /* main loop */
        sum_taps(list, q, t, c, step, pixels, side, true, vmask_range(0, LANES));
    if (c < q->channels) /* tail */
        sum_taps(list, q, t, c, step, pixels, side, false, vmask_range(0, q->channels - c));
}

/* A line of `count` results. `some` has room for as many taps as the list has. */
static void sum_line(const tap_list *list, tap_list *some, const line *q, int64_t count)
{
    int64_t first = 0, last = count; /* the results that have all taps inside */
    for (int64_t u = 0; u < list->taps; u++) {
        if (list->column[u] < 0)
            first = max64(first, ceil_div(-list->column[u], list->step));
        last = min64(last, list->column[u] < list->width ? ceil_div(list->width - list->column[u], list->step) : 0);
    }
    for (int64_t t = 0; t < count;) {
        if (t >= first && t < last && last - first >= PIXELS) {
            t = min64(t, last - PIXELS); /* some results twice */
            if (list->side == 3 && list->step == 1)
                sum_pixels(list, q, t, 1, PIXELS, 3);
            else if (list->side == 3 && list->step == 2)
                sum_pixels(list, q, t, 2, PIXELS, 3);
            else
                sum_pixels(list, q, t, list->step, PIXELS, 1);
            t += PIXELS;
            continue;
        }
        some->taps = 0;
        for (int64_t u = 0; u < list->taps; u++) {
            const int64_t column = list->column[u] + t * list->step;
            if (column >= 0 && column < list->width) {
                some->from[some->taps] = list->from[u];
                some->weight[some->taps++] = list->weight[u];
            }
        }
        sum_pixels(some, q, t++, list->step, 1, 1);
    }
}

/* Items are the lines of y. */
static int depthwise_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_window *w = &v->w;
    const fdl_mark mark = fdl_scratch_mark();
    tap_list list = {
        .side = w->dilation_width == 1 && w->kernel_width % 3 == 0 ? 3 : 1,
        .step = w->stride_width,
        .width = w->width,
    };
    tap_list some;
    const int status = take_taps(&list, v->taps) + take_taps(&some, v->taps) == FDL_OK ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t i = item % w->out_height, plane = item / w->out_height;
        const int64_t d = plane % w->out_depth, n = plane / w->out_depth;
        list.taps = 0;
        for (int64_t tap = 0; tap < v->taps; tap++) {
            const int64_t r = tap / w->kernel_width, s = tap % w->kernel_width;
            const int64_t row = locate_row(w, d, i, r / w->kernel_height, r % w->kernel_height);
            if (row < 0)
                continue;
            list.column[list.taps] = s * w->dilation_width - w->padding_width;
            list.from[list.taps] = (n * v->pixels + row * w->width + list.column[list.taps]) * w->channels;
            list.weight[list.taps++] = tap * w->channels;
        }
        const int64_t to = item * w->out_width * w->channels;
        const line q = {
            .channels = w->channels,
            .x = v->x,
            .weights = v->packed,
            .bias = v->bias,
            .residual = v->residual ? v->residual + to : NULL,
            .y = v->y + to,
            .y_step = 1,
            .limits = limits_of(&v->activation),
        };
        sum_line(&list, &some, &q, w->out_width);
        activate_stored(&v->activation, q.y, 0, 1, w->out_width * w->channels);
    }
    fdl_scratch_release(mark);
    return status;
}

/* The gradient of the input, for any stride; items are its lines. Pixels that are a stride apart have the same taps, of
 * positions one apart. */
static int depthwise_grad_x_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const fdl_window *w = &v->w;
    const fdl_mark mark = fdl_scratch_mark();
    tap_list list = {.side = 1, .step = 1, .width = w->out_width}, some;
    const int status = take_taps(&list, v->taps) + take_taps(&some, v->taps) == FDL_OK ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t item = begin; item < end && status == FDL_OK; item++) {
        const int64_t row = item % w->height, plane = item / w->height % w->depth, n = item / w->height / w->depth;
        for (int64_t phase = 0; phase < min64(w->stride_width, w->width); phase++) {
            list.taps = 0;
            for (int64_t tap = 0; tap < v->taps; tap++) {
                const int64_t s = tap % w->kernel_width, r = tap / w->kernel_width % w->kernel_height;
                const int64_t q = tap / w->kernel_width / w->kernel_height;
                const int64_t d = plane + w->padding_depth - q * w->dilation_depth;
                const int64_t i = row + w->padding_height - r * w->dilation_height;
                const int64_t j = phase + w->padding_width - s * w->dilation_width;
                if (d < 0 || d % w->stride_depth || d / w->stride_depth >= w->out_depth || i < 0 ||
                    i % w->stride_height || i / w->stride_height >= w->out_height || j % w->stride_width)
                    continue;
                const int64_t out_line =
                    (n * w->out_depth + d / w->stride_depth) * w->out_height + i / w->stride_height;
                list.column[list.taps] = j / w->stride_width;
                list.from[list.taps] = (out_line * w->out_width + list.column[list.taps]) * w->channels;
                list.weight[list.taps++] = tap * w->channels;
            }
            const line q = {
                .channels = w->channels,
                .x = v->grad_y,
                .weights = v->packed,
                .y = v->grad_x + (item * w->width + phase) * w->channels,
                .y_step = w->stride_width,
                .limits = no_limits,
            };
            sum_line(&list, &some, &q, ceil_div(w->width - phase, w->stride_width));
        }
    }
    fdl_scratch_release(mark);
    return status;
}

/* Run a task over lines of `width` pixels, with the weights as [taps, channels]. */
static int over_lines(const convolution *v, int64_t lines, int64_t width, fdl_task *task)
{
    convolution packed = *v;
    const fdl_mark mark = fdl_scratch_mark();
    if (!packed.packed) {
        real *weights = fdl_scratch(v->w.channels * v->taps * (int64_t)sizeof(real));
        if (!weights)
            return FDL_OUT_OF_MEMORY;
        conv_channels_last_weights(v, weights);
        packed.packed = weights;
    }
    const int64_t cost = max64(1, width * v->w.channels * (v->taps + 2));
    const int status = fdl_parallel(lines, max64(1, (1 << 19) / cost), task, &packed);
    fdl_scratch_release(mark);
    return status;
}

int conv_channels_last_depthwise_forward(const convolution *v)
{
    if (conv_stream_applies(v))
        return over_lines(v, v->w.batch * ceil_div(v->w.out_height, CONV_STREAM_ROWS),
                          CONV_STREAM_ROWS * v->w.out_width, conv_stream_channels_last);
    return over_lines(v, v->w.batch * v->w.out_depth * v->w.out_height, v->w.out_width, depthwise_task);
}

int conv_channels_last_depthwise_grad_x(const convolution *v)
{
    return over_lines(v, v->w.batch * v->w.depth * v->w.height, v->w.width, depthwise_grad_x_task);
}

/* sum[u][c] = sum over t < count of grad[t][c] x[t step + u x_tap][c], of `taps` taps and `vectors` vectors of
 * channels, of which `channels` count unless whole. */
FDL_INLINE void correlate(const real *grad, int64_t grad_step, const real *x, int64_t step, int64_t x_tap,
                          int64_t count, real *total, int64_t total_tap, const int taps, const int vectors,
                          const bool whole, vmask channels)
{
    vreal sum[4][2];
    FDL_UNROLL
    for (int u = 0; u < taps; u++) {
        FDL_UNROLL
        for (int l = 0; l < vectors; l++)
            sum[u][l] = (vreal){0};
    }
    for (int64_t t = 0; t < count; t++, grad += grad_step, x += step) {
        FDL_UNROLL
        for (int l = 0; l < vectors; l++) {
            const vreal g = whole ? vload(grad + l * LANES) : vload_masked(grad + l * LANES, channels);
            FDL_UNROLL
            for (int u = 0; u < taps; u++) {
                const real *from = x + u * x_tap + l * LANES;
                sum[u][l] += g * (whole ? vload(from) : vload_masked(from, channels));
            }
        }
    }
    FDL_UNROLL
    for (int u = 0; u < taps; u++) {
        FDL_UNROLL
        for (int l = 0; l < vectors; l++) {
            real *to = total + u * total_tap + l * LANES;
            if (whole)
                vstore(to, vload(to) + sum[u][l]);
            else
                vstore_masked(to, vload_masked(to, channels) + sum[u][l], channels);
        }
    }
}

typedef struct {
    const convolution *v;
    real *total;      /* [taps, channels] */
    real *high, *low; /* the same of sums of many lines */
} gradient;

/* Add to channels [c, c_end) of the taps from `tap` on what the positions [j, j_end) of an output line give. */
FDL_INLINE void correlate_channels(const gradient *t, int64_t tap, const real *grad, const real *x, int64_t j,
                                   int64_t j_end, int64_t c, int64_t c_end, const int taps)
{
    const fdl_window *w = &t->v->w;
    const int64_t step = w->stride_width * w->channels, x_tap = w->dilation_width * w->channels;
    grad += j * w->channels;
    x += (j * w->stride_width + tap % w->kernel_width * w->dilation_width - w->padding_width) * w->channels;
    real *total = t->total + tap * w->channels;
    const vmask all = vmask_range(0, LANES);
    for (; c + 2 * LANES <= c_end; c += 2 * LANES) /* main loop */
        correlate(grad + c, w->channels, x + c, step, x_tap, j_end - j, total + c, w->channels, taps, 2, true, all);
    for (; c < c_end; c += LANES) /* tail */
        correlate(grad + c, w->channels, x + c, step, x_tap, j_end - j, total + c, w->channels, taps, 1, false,
                  vmask_range(0, min64(LANES, c_end - c)));
}

enum { LINES = 64 }; /* that are summed before sums are emptied into high and low */

static void empty(const gradient *t, int64_t c, int64_t c_end)
{
    for (int64_t tap = 0; tap < t->v->taps; tap++) {
        const int64_t at = tap * t->v->w.channels + c;
        total_add(t->high + at, t->low + at, t->total + at, c_end - c);
        memset(t->total + at, 0, (size_t)(c_end - c) * sizeof(real));
    }
}

/* Items are vectors of channels: each is summed by one thread only. */
static int depthwise_grad_weight_task(void *context, int64_t begin, int64_t end)
{
    const gradient *t = context;
    const convolution *v = t->v;
    const fdl_window *w = &v->w;
    const int64_t c = begin * LANES, c_end = min64(w->channels, end * LANES);
    for (int64_t tap = 0; tap < v->taps; tap++) {
        const int64_t at = tap * w->channels + c;
        memset(t->total + at, 0, (size_t)(c_end - c) * sizeof(real));
        memset(t->high + at, 0, (size_t)(c_end - c) * sizeof(real));
        memset(t->low + at, 0, (size_t)(c_end - c) * sizeof(real));
    }
    for (int64_t item = 0; item < w->batch * w->out_depth * w->out_height; item++) {
        if (item % LINES == LINES - 1)
            empty(t, c, c_end);
        const int64_t i = item % w->out_height, plane = item / w->out_height;
        const int64_t d = plane % w->out_depth, n = plane / w->out_depth;
        const real *grad = v->grad_y + item * w->out_width * w->channels;
        for (int64_t tap = 0, taps; tap < v->taps; tap += taps) {
            const int64_t r = tap / w->kernel_width, s = tap % w->kernel_width;
            const int64_t row = locate_row(w, d, i, r / w->kernel_height, r % w->kernel_height);
            taps = w->kernel_width - s >= 3 ? 3 : 1;
            if (row < 0)
                continue;
            const real *x = v->x + (n * v->pixels + row * w->width) * w->channels;
            /* The positions that have all of these taps, then what single ones have beyond. */
            int64_t first, last;
            locate_inside(w, s, taps, &first, &last);
            for (int64_t j = first, j_end; j < last; j = j_end) {
                j_end = last - j > 2 * SUM_TERMS ? j + SUM_TERMS : last;
                if (taps == 3)
                    correlate_channels(t, tap, grad, x, j, j_end, c, c_end, 3);
                else
                    correlate_channels(t, tap, grad, x, j, j_end, c, c_end, 1);
                if (j_end < last)
                    empty(t, c, c_end);
            }
            for (int64_t u = 0; u < taps && taps > 1; u++) {
                int64_t u_first, u_last;
                locate_inside(w, s + u, 1, &u_first, &u_last);
                if (u_first < min64(first, u_last))
                    correlate_channels(t, tap + u, grad, x, u_first, min64(first, u_last), c, c_end, 1);
                if (max64(last, u_first) < u_last)
                    correlate_channels(t, tap + u, grad, x, max64(last, u_first), u_last, c, c_end, 1);
            }
        }
    }
    empty(t, c, c_end);
    for (int64_t tap = 0; tap < v->taps; tap++) {
        const int64_t at = tap * w->channels + c;
        total_finish(t->high + at, t->low + at, c_end - c);
    }
    return FDL_OK;
}

int conv_channels_last_depthwise_grad_weight(const convolution *v)
{
    const fdl_mark mark = fdl_scratch_mark();
    const int64_t size = v->taps * v->w.channels;
    gradient t = {.v = v, .total = fdl_scratch(3 * size * (int64_t)sizeof(real))};
    if (!t.total)
        return FDL_OUT_OF_MEMORY;
    t.high = t.total + size, t.low = t.high + size;
    const int64_t cost = max64(1, LANES * v->taps * v->w.batch * v->positions);
    const int status =
        fdl_parallel(ceil_div(v->w.channels, LANES), max64(1, (1 << 19) / cost), depthwise_grad_weight_task, &t);
    transpose(t.high, v->w.channels, v->taps, v->w.channels, v->grad_weight, v->taps);
    fdl_scratch_release(mark);
    return status;
}

/* ---- forward ---- */

/* Cut each of `items` that cost the same into v->parts, which write to different places; the grain of fdl_parallel. */
static int64_t cut(convolution *v, int64_t items)
{
    const double work = (double)v->w.batch * (double)v->w.out_channels * (double)v->terms * (double)v->positions;
    const int64_t parts = gemm_parts(work, 0);
    v->parts = items % parts == 0 || items >= 8 * parts ? 1 : parts;
    return parts == 1 ? INT64_MAX : 1;
}

/* Room for the explicit columns of one image and group; NULL where none are to be built. */
static int take_columns(const convolution *v, real **columns)
{
    *columns = v->explicit_columns ? fdl_scratch(v->terms * v->positions * (int64_t)sizeof(real)) : NULL;
    return *columns || !v->explicit_columns ? FDL_OK : FDL_OUT_OF_MEMORY;
}

/* Items are groups, or images and groups where columns are explicit. */
static int forward_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    const int64_t groups = v->w.groups;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns;
    int status = take_columns(v, &columns);
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, n = item / groups, g = item % groups;
        const source o = source_of(v, n, g, true);
        /* Ready, the transpose of what lies in memory, or transposed block by block. */
        gemm_matrix b = {o.weights, v->weights.column, v->weights.row};
        if (v->packed)
            b = (gemm_matrix){v->packed + g * v->terms * v->filters, v->filters, 1};
        const bool matrix = v->packed || v->taps == 1;
        const int64_t to = n * v->positions * v->w.out_channels + g * v->filters;
        gemm_problem p = {
            .m = v->images * v->positions,
            .n = v->filters,
            .k = v->terms,
            .k_slice = o.block * v->taps <= GEMM_K ? o.block * v->taps : 0,
            .a = v->is_matrix ? (gemm_matrix){o.x, v->w.channels, 1} : (gemm_matrix){columns, v->terms, 1},
            .pack_a = v->is_matrix || columns ? NULL : pack_columns_a,
            .a_context = &o,
            .pack_b = matrix ? gemm_matrix_b : pack_weights,
            .b = matrix ? (const void *)&b : &o,
            .c = v->y + to,
            .c_row = v->w.out_channels,
            .column_bias = v->bias ? v->bias + g * v->filters : NULL,
            .addend = v->residual ? v->residual + to : NULL,
            .activation = v->activation,
        };
        const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
        if (columns && range.row < range.row_end && range.column < range.column_end)
            fill_rows(&o, range.row, range.row_end - range.row, 0, v->terms, columns + range.row * v->terms, v->terms,
                      false);
        status = gemm_block(&p, range);
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_channels_last_forward(const convolution *v)
{
    convolution parts = *v;
    if (conv_channels_last_is_depthwise(v)) /* for which they were packed, in an order of its own */
        parts.packed = NULL;
    const int64_t items = v->w.batch / v->images * v->w.groups, grain = cut(&parts, items);
    return fdl_parallel(items * parts.parts, grain, forward_task, &parts);
}

/* ---- gradient of the input, where it is not a convolution ---- */

typedef struct {
    convolution v; /* with as many parts as there are blocks of channels in a group */
    real *weights; /* [groups][blocks][filters][taps, channels of the block] */
} spreading;

static int64_t first_channel(const convolution *v, int64_t block) { return v->channels * block / v->parts; }

/* Items are filters, of all groups. */
static int turn_task(void *context, int64_t begin, int64_t end)
{
    const spreading *t = context;
    const convolution *v = &t->v;
    for (int64_t item = begin; item < end; item++) {
        const int64_t g = item / v->filters, f = item % v->filters;
        const real *from = v->weights.data + g * v->group_weights + f * v->terms;
        real *to = t->weights + g * v->group_weights;
        for (int64_t block = 0; block < v->parts; block++) {
            const int64_t c = first_channel(v, block), wide = first_channel(v, block + 1) - c;
            transpose(from + c * v->taps, v->taps, wide, v->taps, to + (c * v->filters + f * wide) * v->taps, wide);
        }
    }
    return FDL_OK;
}

/* grad_x += the rows [count][taps, wide] of products, of the positions from `position` on, `wide` channels each. */
static void add_rows(const convolution *v, const real *rows, int64_t position, int64_t count, real *grad_x,
                     int64_t wide)
{
    const fdl_window *w = &v->w;
    /* Taps side by side in memory, as in a source. */
    const int64_t together = wide == w->channels && w->dilation_width == 1 ? w->kernel_width : 1;
    for (int64_t p = position; p < position + count; p++) {
        const int64_t line = p / w->out_width, j = p % w->out_width, d = line / w->out_height, i = line % w->out_height;
        for (int64_t q = 0; q < w->kernel_depth; q++)
            for (int64_t r = 0; r < w->kernel_height; r++) {
                const int64_t row = locate_row(w, d, i, q, r);
                for (int64_t s = 0; s < w->kernel_width; s += together, rows += together * wide) {
                    const int64_t column = j * w->stride_width - w->padding_width + s * w->dilation_width;
                    const int64_t first = max64(0, -column), last = min64(together, w->width - column);
                    if (row < 0 || first >= last)
                        continue;
                    const int64_t length = (last - first) * wide;
                    const real *from = rows + first * wide;
                    real *to = grad_x + (row * w->width + column + first) * w->channels;
                    int64_t c = 0;
                    for (; c + LANES <= length; c += LANES) /* main loop */
                        vstore(to + c, vload(to + c) + vload(from + c));
                    if (c < length) { /* tail */
                        const vmask left = vmask_range(0, length - c);
                        vstore_masked(to + c, vload_masked(to + c, left) + vload_masked(from + c, left), left);
                    }
                }
            }
    }
}

/* Products of tiles that fit the second-level cache, added to where columns came from. Items are images and groups,
 * parts are blocks of channels: each is summed into by one thread only. */
static int grad_x_task(void *context, int64_t begin, int64_t end)
{
    const spreading *work = context;
    const convolution *v = &work->v;
    const int64_t groups = v->w.groups, row_bytes = v->terms * (int64_t)sizeof(real);
    const int64_t rows = v->explicit_columns ? v->positions : max64(1, (1 << 19) / max64(1, row_bytes));
    const int64_t tile = min64(rows, v->positions);
    const fdl_mark mark = fdl_scratch_mark();
    real *products = fdl_scratch(tile * v->terms * (int64_t)sizeof(real));
    int status = products ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t item = t / v->parts, block = t % v->parts, n = item / groups, g = item % groups;
        const int64_t c = first_channel(v, block), wide = first_channel(v, block + 1) - c;
        const gemm_matrix b = {work->weights + g * v->group_weights + c * v->filters * v->taps, v->taps * wide, 1};
        real *grad_x = v->grad_x + n * v->pixels * v->w.channels + g * v->channels + c;
        for (int64_t pixel = 0; pixel < v->pixels; pixel++)
            memset(grad_x + pixel * v->w.channels, 0, (size_t)wide * sizeof(real));
        for (int64_t position = 0; position < v->positions && status == FDL_OK; position += tile) {
            const int64_t count = min64(tile, v->positions - position), from = n * v->positions + position;
            const gemm_problem p = {
                .m = count,
                .n = v->terms, /* of all blocks */
                .k = v->filters,
                .a = {v->grad_y + from * v->w.out_channels + g * v->filters, v->w.out_channels, 1},
                .pack_b = gemm_matrix_b,
                .b = &b,
                .c = products,
                .c_row = v->taps * wide,
                .steady = true,
            };
            status = gemm_block(&p, (gemm_range){0, count, 0, v->taps * wide});
            if (status == FDL_OK)
                add_rows(v, products, position, count, grad_x, wide);
        }
    }
    fdl_scratch_release(mark);
    return status;
}

int conv_channels_last_grad_x(const convolution *v)
{
    const fdl_mark mark = fdl_scratch_mark();
    spreading t = {*v, fdl_scratch(v->w.groups * v->group_weights * (int64_t)sizeof(real))};
    if (!t.weights)
        return FDL_OUT_OF_MEMORY;
    const int64_t items = v->w.batch * v->w.groups, grain = cut(&t.v, items);
    fdl_parallel(v->w.out_channels, max64(1, (1 << 15) / max64(1, v->terms)), turn_task, &t);
    const int status = fdl_parallel(items * t.v.parts, grain, grad_x_task, &t);
    fdl_scratch_release(mark);
    return status;
}

/* ---- gradients of the weights and the bias ---- */

/* Items are groups; every part of one sums over all images, into total [out_channels][taps, channels]. */
static int grad_weight_task(void *context, int64_t begin, int64_t end)
{
    const gradient *work = context;
    const convolution *v = work->v;
    const fdl_mark mark = fdl_scratch_mark();
    real *columns;
    int status = take_columns(v, &columns);
    for (int64_t t = begin; t < end && status == FDL_OK; t++) {
        const int64_t g = t / v->parts;
        const int64_t images = max64(1, v->images); /* an empty batch: the sum over nothing, 0 */
        for (int64_t n = 0; n < max64(1, v->w.batch) && status == FDL_OK; n += images) {
            const source o = source_of(v, n, g, false);
            const gemm_matrix b = columns ? (gemm_matrix){columns, v->terms, 1} : (gemm_matrix){o.x, v->w.channels, 1};
            const bool matrix = v->is_matrix || columns;
            const gemm_problem p = {
                .m = v->filters,
                .n = v->terms,
                .k = v->images * v->positions,
                .a = {v->grad_y + n * v->positions * v->w.out_channels + g * v->filters, 1, v->w.out_channels},
                .pack_b = matrix ? gemm_matrix_b : pack_columns_b,
                .b = matrix ? (const void *)&b : &o,
                .c = work->total + g * v->group_weights,
                .c_row = v->terms,
                .accumulate = n > 0,
            };
            const gemm_range range = gemm_split(&p, v->parts, t % v->parts);
            if (columns && p.k && range.row < range.row_end && range.column < range.column_end)
                fill_rows(&o, 0, v->positions, 0, v->terms, columns, v->terms, false);
            status = gemm_block(&p, range);
        }
    }
    fdl_scratch_release(mark);
    return status;
}

/* Items are filters, of all groups: [taps, channels] becomes [channels, taps]. */
static int order_task(void *context, int64_t begin, int64_t end)
{
    const gradient *work = context;
    const convolution *v = work->v;
    for (int64_t f = begin; f < end; f++)
        transpose(work->total + f * v->terms, v->channels, v->taps, v->channels, v->grad_weight + f * v->terms,
                  v->taps);
    return FDL_OK;
}

int conv_channels_last_grad_weight(const convolution *v)
{
    const fdl_mark mark = fdl_scratch_mark();
    convolution parts = *v;
    gradient t = {.v = &parts, .total = v->grad_weight};
    if (v->taps > 1)
        t.total = fdl_scratch(v->w.groups * v->group_weights * (int64_t)sizeof(real));
    if (!t.total)
        return FDL_OUT_OF_MEMORY;
    const int64_t grain = cut(&parts, v->w.groups);
    int status = fdl_parallel(v->w.groups * parts.parts, grain, grad_weight_task, &t);
    if (v->taps > 1 && status == FDL_OK)
        status = fdl_parallel(v->w.out_channels, max64(1, (1 << 15) / max64(1, v->terms)), order_task, &t);
    fdl_scratch_release(mark);
    return status;
}

/* Items are vectors of filters. */
static int grad_bias_task(void *context, int64_t begin, int64_t end)
{
    const convolution *v = context;
    enum { CHUNK = 64, ROWS = 4 }; /* terms that one sum of `real` takes before double; rows added at a time */
    const int64_t rows = v->w.batch * v->positions, row = v->w.out_channels;
    const int64_t first = begin * LANES, count = min64(row, end * LANES) - first;
    const fdl_mark mark = fdl_scratch_mark();
    double *total = fdl_scratch(count * (int64_t)sizeof(double));
    real *sum = fdl_scratch(count * (int64_t)sizeof(real));
    const int status = total && sum ? FDL_OK : FDL_OUT_OF_MEMORY;
    for (int64_t f = 0; f < count && status == FDL_OK; f++)
        total[f] = 0;
    for (int64_t chunk = 0; chunk < rows && status == FDL_OK; chunk += CHUNK) {
        const int64_t chunk_end = min64(rows, chunk + CHUNK);
        memset(sum, 0, (size_t)count * sizeof(real));
        int64_t p = chunk;
        for (; p + ROWS <= chunk_end; p += ROWS) { /* main loop */
            const real *grad = v->grad_y + p * row + first;
            for (int64_t f = 0; f < count; f += LANES) {
                const int64_t left = count - f;
                const vreal low = vload_up_to(grad + f, left) + vload_up_to(grad + row + f, left);
                const vreal high = vload_up_to(grad + 2 * row + f, left) + vload_up_to(grad + 3 * row + f, left);
                vstore_up_to(sum + f, vload_up_to(sum + f, left) + (low + high), left);
            }
        }
        for (; p < chunk_end; p++) /* tail */
            for (int64_t f = 0; f < count; f++)
                sum[f] += v->grad_y[p * row + first + f];
        for (int64_t f = 0; f < count; f++)
            total[f] += (double)sum[f];
    }
    for (int64_t f = 0; f < count && status == FDL_OK; f++)
        v->grad_bias[first + f] = (real)total[f];
    fdl_scratch_release(mark);
    return status;
}

int conv_channels_last_grad_bias(const convolution *v)
{
    convolution copy = *v;
    const int64_t cost = max64(1, LANES * v->w.batch * v->positions);
    return fdl_parallel(ceil_div(v->w.out_channels, LANES), max64(1, (1 << 18) / cost), grad_bias_task, &copy);
}
