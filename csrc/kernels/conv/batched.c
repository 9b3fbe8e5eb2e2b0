/* Convolution of many small images: as many of them side by side as a vector has lanes.
 *
 * Rows of small images leave vectors mostly empty. Here a vector holds one pixel of LANES images, so that vectors are
 * full whatever the sizes, strides and dilations are, and nothing is shifted or masked. A block of images is transposed
 * once into a sheet
 *
 *   sheet [channels, height, phases, columns, LANES]: pixel (i, j) of a channel at (i, j' % stride, j' / stride), where
 *                                                     j' = before + j, with zeros before and after each row
 *
 * in which what a tap sees at neighbouring positions of an output row lies side by side. A row of results is then a
 * product on the building block (gemm_in_place), of as many terms as there are taps whose rows lie inside the image:
 * weights are packed with the kernel's rows outermost, and rows outside are left out. Results are a sheet too, which
 * is transposed back. Where sheets would be too large for the second-level cache they hold a band of rows at a time, and
 * the next band keeps the rows that it sees too.
 *
 * The gradient of the input is the same for each phase of its rows and columns, the positions with the same remainder
 * by the stride, with the taps that reach them. The gradient of the weights is
 *
 *   grad_w[f, c, r, s] = sum over positions and lanes of grad_y's sheet [f, i, j] x's sheet [c, i + r, j + s]
 *
 * with vectors of partial sums for some filters and taps in registers. Sums in `real`: over the terms in registers, for
 * weights over the positions of some blocks of images in registers, then over blocks. Weights, or a grad_y, that are not
 * finite are left to the products: only they multiply by every zero of the padding, and by no other. */
#include "kernels/conv/conv.h"
#include "vector/interleave.h"

enum {
    BLOCK = 1 << 18, /* bytes of rows that are multiplied together: they stay in the second-level cache */
    BAND = 1 << 19,  /* of both sheets, where no channel has less than RUN pixels in it */
    RUN = 4 * LANES,
    SHEETS = 3 << 18,  /* of images, for the gradient of the weights, whose lanes sum at most */
    MOST_TERMS = 1024, /* at a time, if an image has not more */
    FILTERS = 4,       /* of a tile of the gradient of the weights, by this many taps: */
    TAPS = VECTOR_REGISTERS == 32 ? 4 : 2,
    TILE = FILTERS * TAPS,
};

typedef struct {
    int64_t channels, height, width;
    int64_t before, stride, columns; /* of a phase; there are `stride` */
    int64_t row, plane, size;        /* elements of a row, of the rows of a channel that it has room for, and in all */
} sheet;

static void hold_rows(sheet *s, int64_t rows)
{
    s->row = s->stride * s->columns * LANES;
    s->plane = rows * s->row;
    s->size = s->channels * s->plane;
}

static sheet describe_sheet(int64_t channels, int64_t height, int64_t width, int64_t before, int64_t stride,
                            int64_t columns)
{
    sheet s = {channels, height, width, before, stride, max64(columns, ceil_div(before + width, stride)), 0, 0, 0};
    hold_rows(&s, height);
    return s;
}

/* Where column j, which may be one of zeros, lies in its row. */
static int64_t column_of(const sheet *s, int64_t j)
{
    const int64_t padded = s->before + j;
    return s->stride == 1 ? padded * LANES : (padded % s->stride * s->columns + padded / s->stride) * LANES;
}

/* The places of successive pixels, counted over rows and channels alike. */
typedef struct {
    int64_t j, phase, row, place;
} cursor;

FDL_INLINE cursor first_place(const sheet *s, int64_t row)
{
    return (cursor){0, s->before % s->stride, row, row + column_of(s, 0)};
}

FDL_INLINE int64_t take_place(const sheet *s, cursor *at)
{
    const int64_t place = at->place, phase = s->columns * LANES;
    at->place += phase;
    if (++at->phase == s->stride)
        at->phase = 0, at->place += LANES - s->stride * phase;
    if (++at->j == s->width)
        *at = first_place(s, at->row + s->row);
    return place;
}

/* Rows [begin, end) of images [channels, height, width], in pieces whose pixels lie end to end: a channel each, or all. */
typedef struct {
    int64_t begin, end;
} band;

FDL_INLINE int64_t count_pieces(const sheet *s, band rows)
{
    return rows.end - rows.begin == s->height && s->plane == s->height * s->row ? 1 : s->channels;
}

/* For each lane, an image, to[place of e] = x[image * step + e], the first of the rows at `to`; 0 in lanes past the last
 * image. */
static void spread(const sheet *s, const real *x, int64_t step, int64_t images, band rows, real *to)
{
    const int64_t pieces = count_pieces(s, rows);
    const int64_t size = s->channels / pieces * (rows.end - rows.begin) * s->width;
    for (int64_t c = 0; c < pieces; c++) {
        const real *from = x + (c * s->height + rows.begin) * s->width;
        cursor at = first_place(s, c * s->plane);
        for (int64_t e = 0, n = until_aligned(from, size); e < size; e += n, n = min64(LANES, size - e)) {
            vreal block[LANES];
            load_side_by_side(from + e, step, images, n, block);
            if (n == LANES) { /* main loop */
                FDL_UNROLL
                for (int l = 0; l < LANES; l++)
                    vstore(to + take_place(s, &at), block[l]);
            } else {
                for (int64_t l = 0; l < n; l++) /* tail */
                    vstore(to + take_place(s, &at), block[l]);
            }
        }
    }
}

/* The other way round: y[image * step + e] = from[place of e] (+ addend, laid out as y). */
static void collect(const sheet *s, const real *from, const real *addend, real *y, int64_t step, int64_t images,
                    band rows)
{
    const int64_t pieces = count_pieces(s, rows);
    const int64_t size = s->channels / pieces * (rows.end - rows.begin) * s->width;
    const bool in_order = !addend && s->stride == 1 && s->row == s->width * LANES;
    for (int64_t c = 0; c < pieces; c++) {
        const int64_t to = (c * s->height + rows.begin) * s->width, next = to + s->height * s->width;
        for (int64_t i = 0; i < images && c + 1 < pieces; i++) /* too short a piece for the hardware to see it coming */
            for (int64_t e = 0; e < size; e += LANES)
                __builtin_prefetch(y + next + i * step + e, 1);
        if (in_order) {
            separate(from + c * s->plane, step, images, size, y + to);
            continue;
        }
        cursor at = first_place(s, c * s->plane);
        for (int64_t e = 0, n; e < size; e += n) { /* main loop and tail */
            n = min64(LANES, size - e);
            vreal block[LANES];
            for (int64_t l = 0; l < LANES; l++)
                block[l] = l < n ? vload(from + take_place(s, &at)) : (vreal){0};
            vtranspose(block);
            for (int64_t i = 0; i < images; i++) {
                if (addend)
                    block[i] += vload_up_to(addend + to + i * step + e, n);
                vstore_up_to(y + to + i * step + e, block[i], n);
            }
        }
    }
}

/* The sheet goes on from rows `held` to rows `next`, further down: it keeps those that are of both. */
static void advance(const sheet *s, const real *x, int64_t step, int64_t images, band held, band next, real *to)
{
    const int64_t kept = max64(0, held.end - next.begin), moved = (next.begin - held.begin) * s->row;
    for (int64_t c = 0; c < s->channels && kept && moved; c++)
        memmove(to + c * s->plane, to + c * s->plane + moved, (size_t)(kept * s->row) * sizeof(real));
    spread(s, x, step, images, (band){next.begin + kept, next.end}, to + kept * s->row);
}

/* One phase of one dimension: output m, first <= m < first + count, is position m out_scale + out_shift, and sees with
 * the kernel's tap `tap + t step`, t < taps, the input's m scale + shift + t slope. */
typedef struct {
    int64_t taps, tap, step;
    int64_t scale, shift, slope;
    int64_t first, count, out_scale, out_shift;
} axis;

static axis forward_axis(int64_t kernel, int64_t stride, int64_t padding, int64_t dilation, int64_t out)
{
    return (axis){kernel, 0, 1, stride, -padding, dilation, 0, out, 1, 0};
}

static axis backward_axis(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation,
                          int64_t phase)
{
    axis a = {.step = 1, .scale = 1, .out_scale = stride, .out_shift = phase - padding};
    a.first = padding > phase ? ceil_div(padding - phase, stride) : 0;
    a.count = size + padding > phase ? max64(0, ceil_div(size + padding - phase, stride) - a.first) : 0;
    while (a.step * dilation % stride != 0)
        a.step++;
    while (a.tap < min64(a.step, kernel) && (phase - a.tap * dilation) % stride != 0)
        a.tap++;
    if (a.tap < min64(a.step, kernel)) {
        a.taps = ceil_div(kernel - a.tap, a.step);
        a.shift = (phase - a.tap * dilation) / stride;
        a.slope = -(a.step * dilation / stride);
    }
    return a;
}

/* The taps t, from *begin, before *end, that see something of an input of that size at output m. */
static void find_taps(const axis *a, int64_t m, int64_t size, int64_t *begin, int64_t *end)
{
    const int64_t at = m * a->scale + a->shift;
    int64_t t = 0;
    while (t < a->taps && (at + t * a->slope < 0 || at + t * a->slope >= size))
        t++;
    *begin = t;
    while (t < a->taps && at + t * a->slope >= 0 && at + t * a->slope < size)
        t++;
    *end = t;
}

typedef struct {
    const convolution *v;
    bool backward; /* the gradient of the input: from grad_y to grad_x */
    sheet in, out;
    const axis *rows, *columns; /* [row_phases], [column_phases] */
    int64_t row_phases, column_phases;
    int64_t terms;          /* of all phases: the kernel's taps times input channels */
    const int64_t *start;   /* [row_phases, column_phases]: the first term of each */
    const int64_t *offset;  /* [terms] of what a tap sees, from what its phase's first row of taps sees */
    const int64_t *place;   /* [channels, taps] where packed, from a channel of `in` and a tap, in terms */
    real *weights;          /* [groups, panels, terms, GEMM_A_PANEL] */
    int64_t panels, height; /* of the output's channels, as many in each but the last */
    int64_t blocks;         /* of images */
    int64_t rows_end;       /* of all phases */
    int64_t together;       /* rows of each phase that are computed while what they see is in the sheet */
    band seen;              /* by the first of them, whether inside the image or not */
    int64_t parts;          /* that a block's panels are cut into */
} plan;

/* The gradient's input, grad_y, with the zeros that its taps reach. */
static sheet describe_grad(const convolution *v, const axis *columns)
{
    int64_t before = 0, end = v->w.out_width;
    for (int64_t b = 0; b < v->w.stride_width; b++)
        for (int64_t t = 0; t < columns[b].taps; t++) {
            const int64_t first = columns[b].first + columns[b].shift + t * columns[b].slope;
            before = max64(before, -first);
            end = max64(end, first + columns[b].count);
        }
    return describe_sheet(v->filters, v->w.out_height, v->w.out_width, before, 1, before + end);
}

/* A plan's phases and sheets; the axes have room for stride_height and stride_width. */
static plan make_plan(const convolution *v, bool backward, axis *rows, axis *columns)
{
    const fdl_window *w = &v->w;
    plan p = {.v = v, .backward = backward, .rows = rows, .columns = columns, .row_phases = 1, .column_phases = 1};
    if (backward) {
        p.row_phases = w->stride_height, p.column_phases = w->stride_width;
        for (int64_t a = 0; a < p.row_phases; a++)
            rows[a] =
                backward_axis(w->height, w->kernel_height, w->stride_height, w->padding_height, w->dilation_height, a);
        for (int64_t b = 0; b < p.column_phases; b++)
            columns[b] =
                backward_axis(w->width, w->kernel_width, w->stride_width, w->padding_width, w->dilation_width, b);
        p.in = describe_grad(v, columns);
        p.out =
            describe_sheet(v->channels, w->height, w->width, w->padding_width % w->stride_width, w->stride_width, 0);
    } else {
        *rows = forward_axis(w->kernel_height, w->stride_height, w->padding_height, w->dilation_height, w->out_height);
        *columns = forward_axis(w->kernel_width, w->stride_width, w->padding_width, w->dilation_width, w->out_width);
        const int64_t reach = (w->kernel_width - 1) * w->dilation_width / w->stride_width;
        p.in = describe_sheet(v->channels, w->height, w->width, w->padding_width, w->stride_width,
                              reach + 1 + w->out_width);
        p.out = describe_sheet(v->filters, w->out_height, w->out_width, 0, 1, 0);
    }
    p.terms = v->taps * p.in.channels;
    p.height = GEMM_A_PANEL;
    if (!v->packed) /* of which the micro-kernel takes some rows at a time, better as many each time */
        p.height = ceil_div(p.out.channels, ceil_div(p.out.channels, GEMM_ROWS)) * (GEMM_A_PANEL / GEMM_ROWS);
    p.panels = ceil_div(p.out.channels, p.height);
    p.blocks = ceil_div(w->batch, LANES);
    for (int64_t a = 0; a < p.row_phases; a++) {
        const axis *row = rows + a;
        const int64_t last = row->shift + (row->taps - 1) * row->slope;
        p.rows_end = max64(p.rows_end, row->first + row->count);
        if (row->taps) {
            p.seen.begin = min64(p.seen.begin, min64(row->shift, last));
            p.seen.end = max64(p.seen.end, max64(row->shift, last) + 1);
        }
    }
    p.together = p.rows_end;
    return p;
}

/* Cut a plan's sheets into bands of nearly as many rows. */
static void cut_bands(plan *p)
{
    const int64_t down = p->rows->scale, out_down = p->rows->out_scale, more = p->seen.end - p->seen.begin - down;
    const int64_t row = p->in.channels * p->in.row, out_row = p->out.channels * p->out.row;
    const int64_t fit = (BAND / (int64_t)sizeof(real) - more * row) / (down * row + out_down * out_row);
    const int64_t least = ceil_div(RUN, max64(1, min64(down * p->in.width, out_down * p->out.width)));
    const int64_t bands = max64(1, ceil_div(p->rows_end, max64(fit, least)));
    p->together = ceil_div(p->rows_end, bands);
    if (bands > 1) {
        hold_rows(&p->in, min64(p->in.height, p->together * down + more));
        hold_rows(&p->out, min64(p->out.height, p->together * out_down));
    }
}

/* The rows from m on, of all phases: what they see, and where their results lie. */
static band find_seen(const plan *p, int64_t m)
{
    const int64_t at = m * p->rows->scale, end = at + (p->together - 1) * p->rows->scale + p->seen.end;
    return (band){min64(p->in.height, max64(0, at + p->seen.begin)), max64(0, min64(p->in.height, end))};
}
static band find_results(const plan *p, int64_t m)
{
    const int64_t at = m * p->rows->out_scale + p->rows->out_shift, end = at + p->together * p->rows->out_scale;
    return (band){max64(0, at), min64(p->out.height, end)};
}

/* Where taps lie and what they see: phase by phase, the kernel's rows outermost, then its columns, then channels. */
static void list_terms(const plan *p, int64_t *start, int64_t *offset, int64_t *place)
{
    const int64_t kernel_width = p->v->w.kernel_width;
    int64_t k = 0;
    for (int64_t a = 0; a < p->row_phases; a++)
        for (int64_t b = 0; b < p->column_phases; b++) {
            const axis *row = p->rows + a, *column = p->columns + b;
            start[a * p->column_phases + b] = k;
            for (int64_t r = 0; r < row->taps; r++)
                for (int64_t s = 0; s < column->taps; s++) {
                    const int64_t tap = (row->tap + r * row->step) * kernel_width + column->tap + s * column->step;
                    const int64_t at =
                        r * row->slope * p->in.row + column_of(&p->in, column->shift + s * column->slope);
                    for (int64_t c = 0; c < p->in.channels; c++, k++) {
                        offset[k] = at + c * p->in.plane;
                        place[c * p->v->taps + tap] = k;
                    }
                }
        }
}

/* Items are groups and panels. A row of a panel is an output channel; its weights lie in runs of `length`. */
static int pack_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const int64_t runs = p->backward ? v->filters : 1, length = p->backward ? v->taps : v->terms;
    const int64_t run_step = v->terms, row_step = p->backward ? v->taps : v->terms;
    for (int64_t item = begin; item < end; item++) {
        const int64_t g = item / p->panels, first = item % p->panels * p->height;
        const int64_t rows = min64(p->height, p->out.channels - first);
        real *panel = p->weights + item * p->terms * GEMM_A_PANEL;
        const real *from = v->weight + g * v->group_weights + first * row_step;
        for (int64_t run = 0; run < runs; run++)
            for (int64_t j = 0; j < length; j += LANES)
                for (int64_t i = 0; i < GEMM_A_PANEL; i += LANES) {
                    const int64_t deep = min64(LANES, length - j);
                    vreal block[LANES];
                    FDL_UNROLL
                    for (int l = 0; l < LANES; l++)
                        block[l] = i + l < rows ? vload_up_to(from + run * run_step + (i + l) * row_step + j, deep)
                                                : (vreal){0};
                    vtranspose(block);
                    for (int64_t l = 0; l < deep; l++)
                        vstore_up_to(panel + p->place[run * length + j + l] * GEMM_A_PANEL + i, block[l],
                                     min64(LANES, GEMM_A_PANEL - i));
                }
    }
    return FDL_OK;
}

/* From weights that are packed already, of a forward pass: the same panels, their terms in another order. */
static int repack_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const int64_t size = gemm_packed_size(p->v->filters, p->v->terms), slices = gemm_slices(p->terms);
    for (int64_t item = begin; item < end; item++) {
        const int64_t g = item / p->panels, panel = item % p->panels;
        real *to = p->weights + item * p->terms * GEMM_A_PANEL;
        for (int64_t slice = 0, k = 0, terms; slice < slices; slice++, k += terms) {
            terms = gemm_slice_terms(p->terms, k, slices - slice);
            const real *from = p->v->packed + g * size + (p->panels * k + panel * terms) * GEMM_A_PANEL;
            for (int64_t i = 0; i < terms; i++)
                memcpy(to + p->place[k + i] * GEMM_A_PANEL, from + i * GEMM_A_PANEL, GEMM_A_PANEL * sizeof(real));
        }
    }
    return FDL_OK;
}

/* The channels of a panel, in rows [begin, end) of every phase; the sheets' first rows are those. */
static void multiply(const plan *p, const gemm_problem *fused, const real *in, int64_t in_first, int64_t out_first,
                     const real *panel, int64_t first, int64_t begin, int64_t end)
{
    const int64_t channels = min64(p->height, fused->m - first);
    gemm_problem product = *fused;
    for (int64_t a = 0; a < p->row_phases; a++) {
        const axis *row = p->rows + a;
        for (int64_t m = max64(begin, row->first); m < min64(end, row->first + row->count); m++) {
            int64_t tap, tap_end;
            find_taps(row, m, p->in.height, &tap, &tap_end);
            const int64_t seen = (m * row->scale + row->shift + tap * row->slope - in_first) * p->in.row;
            for (int64_t b = 0; b < p->column_phases; b++) {
                const axis *column = p->columns + b;
                const int64_t start = p->start[a * p->column_phases + b], step = column->taps * p->in.channels;
                product.k = (tap_end - tap) * step;
                product.n = column->count * LANES;
                product.c = fused->c + (m * row->out_scale + row->out_shift - out_first) * p->out.row +
                            column_of(&p->out, column->first * column->out_scale + column->out_shift);
                const real *weights = panel + (start + tap * step) * GEMM_A_PANEL;
                const real *pixels = product.k ? in + seen + column->first * LANES : in;
                for (int64_t i = 0, rows; i < channels; i += rows) {
                    rows = min64(p->height / (GEMM_A_PANEL / GEMM_ROWS), channels - i);
                    gemm_in_place(&product, first + i, rows, weights + i, pixels, p->offset + start);
                }
            }
        }
    }
}

/* Items are blocks of images, groups, and parts of the panels. */
static int multiply_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_mark mark = fdl_scratch_mark();
    real *in = fdl_scratch(p->in.size * (int64_t)sizeof(real)), *out = fdl_scratch(p->out.size * (int64_t)sizeof(real));
    if (!in || !out) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    memset(in, 0, (size_t)p->in.size * sizeof(real)); /* where zeros stay */
    const int64_t groups = v->w.groups, in_pixels = p->in.height * p->in.width, pixels = p->out.height * p->out.width;
    const int64_t in_step = groups * p->in.channels * in_pixels, step = groups * p->out.channels * pixels;
    /* Rows that all panels take before the next ones, so that what they see stays in the second-level cache. */
    const int64_t together = max64(1, BLOCK / (p->in.channels * p->in.row * p->rows->scale * (int64_t)sizeof(real)));
    band held = {0, 0};
    const bool later = v->residual && !p->backward; /* bias and addend come before the activation */
    for (int64_t item = begin, spread_of = -1; item < end; item++) {
        const int64_t pair = item / p->parts, part = item % p->parts, n = pair / groups * LANES, g = pair % groups;
        const int64_t images = min64(LANES, v->w.batch - n), channel = g * p->out.channels;
        const real *x = (p->backward ? v->grad_y : v->x) + n * in_step + g * p->in.channels * in_pixels;
        if (pair != spread_of || p->together < p->rows_end)
            held = (band){0, 0};
        spread_of = pair;
        const int64_t panel_begin = p->panels * part / p->parts, panel_end = p->panels * (part + 1) / p->parts;
        const gemm_problem fused = {
            .m = p->out.channels,
            .c = out,
            .c_row = p->out.plane,
            .row_bias = v->bias ? v->bias + channel : NULL,
            .activation = later ? (activation){0} : v->activation,
        };
        const int64_t first = panel_begin * p->height;
        sheet done = p->out;
        done.channels = min64(panel_end * p->height, done.channels) - first;
        const int64_t to = n * step + (channel + first) * pixels;
        real *y = (p->backward ? v->grad_x : v->y) + to;
        for (int64_t row = 0; row < p->rows_end; row += p->together) {
            const int64_t row_end = min64(p->rows_end, row + p->together);
            const band seen = find_seen(p, row), results = find_results(p, row);
            advance(&p->in, x, in_step, images, held, seen, in);
            held = seen;
            for (int64_t m = row; m < row_end; m += together)
                for (int64_t i = panel_begin; i < panel_end; i++)
                    multiply(p, &fused, in, seen.begin, results.begin,
                             p->weights + (g * p->panels + i) * p->terms * GEMM_A_PANEL, i * p->height, m,
                             min64(row_end, m + together));
            collect(&done, out + first * done.plane, later ? v->residual + to : NULL, y, step, images, results);
        }
        if (later && v->activation.kind != FDL_ACTIVATION_NONE)
            activate_rows(&v->activation, y, step, images, done.channels * pixels);
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

static int run_plan(plan *p)
{
    const convolution *v = p->v;
    const int64_t phases = p->row_phases * p->column_phases, panels = v->w.groups * p->panels;
    int64_t *tables = fdl_scratch((phases + 2 * p->terms) * (int64_t)sizeof(int64_t));
    p->weights = fdl_scratch(panels * p->terms * GEMM_A_PANEL * (int64_t)sizeof(real));
    if (!tables || !p->weights)
        return FDL_OUT_OF_MEMORY;
    list_terms(p, tables, tables + phases, tables + phases + p->terms);
    p->start = tables, p->offset = tables + phases, p->place = tables + phases + p->terms;
    fdl_parallel(panels, max64(1, (1 << 15) / (p->terms * GEMM_A_PANEL)), v->packed ? repack_task : pack_task, p);
    const double work = (double)v->w.batch * (double)v->w.out_channels * (double)v->terms * (double)v->positions;
    const int64_t threads = gemm_parts(work, 0), items = p->blocks * v->w.groups;
    p->parts = items % threads == 0 || items >= 4 * threads ? 1 : min64(threads, p->panels);
    return fdl_parallel(items * p->parts, threads == 1 ? INT64_MAX : 1, multiply_task, p);
}

static int run_pass(const convolution *v, bool backward)
{
    const fdl_mark mark = fdl_scratch_mark();
    axis *axes = fdl_scratch((v->w.stride_height + v->w.stride_width) * (int64_t)sizeof(axis));
    int status = axes ? FDL_OK : FDL_OUT_OF_MEMORY;
    if (axes) {
        plan p = make_plan(v, backward, axes, axes + v->w.stride_height);
        cut_bands(&p);
        status = run_plan(&p);
    }
    fdl_scratch_release(mark);
    return status;
}

/* Infinity and NaN times the zeros around an image are NaN: where something is multiplied by them, and where not, is to
 * be seen then. */
static bool all_finite(const real *x, int64_t size)
{
    vreal zero = {0};
    for (int64_t i = 0; i < size; i += LANES) /* main loop and tail */
        zero += vload_up_to(x + i, size - i) * 0;
    return !vany(zero != zero);
}

static bool has_finite_weights(const convolution *v)
{
    const int64_t packed = v->w.groups * gemm_packed_size(v->filters, v->terms);
    return v->packed ? all_finite(v->packed, packed) : all_finite(v->weight, v->w.out_channels * v->terms);
}

int conv_batched_forward(const convolution *v)
{
    return has_finite_weights(v) ? run_pass(v, false) : conv_products_forward(v);
}

int conv_batched_grad_x(const convolution *v)
{
    return has_finite_weights(v) ? run_pass(v, true) : conv_products_grad_x(v);
}

/* ---- gradient of the weights ---- */

typedef struct {
    const convolution *v;
    sheet x, y;
    int64_t columns, tiles; /* of the kernel in all channels, the terms of one of its rows; in tiles of TAPS */
    int64_t together;       /* blocks of images in cache at a time */
    const int64_t *offset;  /* [tiles * TAPS] of what a term sees in x's sheet; the last is repeated */
    const int64_t *place;   /* [columns] of its weight among a filter's, in the kernel's first row */
} weight_plan;

/* What a tile is summed over: rows and columns of the output, in blocks of images. */
typedef struct {
    const real *y, *x;
    int64_t blocks, y_block, x_block;
    int64_t rows, y_row, x_row;
    int64_t columns;
    int64_t filter[FILTERS]; /* where their planes begin */
} extent;

/* total[f * TAPS + t] += the sum of y[filter[f], m, j] x[offset[t], m, j] over blocks, rows m, columns j and lanes. */
static void dot_tile(const extent *e, const int64_t *offset, real *total)
{
    vreal sum[TILE];
    FDL_UNROLL
    for (int i = 0; i < TILE; i++)
        sum[i] = (vreal){0};
    for (int64_t block = 0; block < e->blocks; block++)
        for (int64_t m = 0; m < e->rows; m++) {
            const real *y = e->y + block * e->y_block + m * e->y_row, *x = e->x + block * e->x_block + m * e->x_row;
            for (int64_t j = 0; j < e->columns * LANES; j += LANES) { /* main loop */
                vreal grad[FILTERS];
                FDL_UNROLL
                for (int f = 0; f < FILTERS; f++)
                    grad[f] = vload(y + e->filter[f] + j);
                FDL_UNROLL
                for (int t = 0; t < TAPS; t++) {
                    const vreal pixel = vload(x + offset[t] + j);
                    FDL_UNROLL
                    for (int f = 0; f < FILTERS; f++)
                        sum[f * TAPS + t] += grad[f] * pixel;
                }
            }
        }
    FDL_UNROLL
    for (int i = 0; i < TILE; i += LANES)
        vstore(total + i, vload(total + i) + vsum_each(sum + i));
}

/* Add the sums of some filters over `blocks` blocks of images, x and y, to total [kernel_height, tiles, TILE]. */
static void dot_filters(const weight_plan *p, const real *x, const real *y, int64_t blocks, int64_t y_block,
                        int64_t filters, real *total)
{
    const fdl_window *w = &p->v->w;
    extent e = {
        .blocks = blocks,
        .y_block = y_block,
        .x_block = p->x.size,
        .y_row = p->y.row,
        .x_row = w->stride_height * p->x.row,
        .columns = w->out_width,
    };
    for (int64_t f = 0; f < FILTERS; f++) /* past the last it is repeated, and its sums are not used */
        e.filter[f] = min64(f, filters - 1) * p->y.plane;
    for (int64_t r = 0; r < w->kernel_height; r++, total += p->tiles * TILE) {
        /* The output's rows at which this row of the kernel sees the image. */
        const int64_t up = w->padding_height - r * w->dilation_height, down = w->height + up;
        const int64_t first = up > 0 ? ceil_div(up, w->stride_height) : 0;
        const int64_t end = min64(w->out_height, down > 0 ? ceil_div(down, w->stride_height) : 0);
        e.rows = end - first;
        e.y = y + first * p->y.row;
        e.x = x + (first * w->stride_height - up) * p->x.row;
        for (int64_t i = 0; i < p->tiles && e.rows > 0; i++)
            dot_tile(&e, p->offset + i * TAPS, total + i * TILE);
    }
}

/* grad[filter, place + row of the kernel] = what dot_filters added up. */
static void store_weights(const weight_plan *p, const real *total, int64_t filters, real *grad)
{
    const convolution *v = p->v;
    for (int64_t r = 0; r < v->w.kernel_height; r++)
        for (int64_t i = 0; i < p->tiles; i++, total += TILE)
            for (int64_t f = 0; f < filters; f++) {
                real *to = grad + f * v->terms + r * v->w.kernel_width;
                for (int64_t t = i * TAPS; t < min64((i + 1) * TAPS, p->columns); t++)
                    to[p->place[t]] = total[f * TAPS + t - i * TAPS];
            }
}

/* Filters of one group, for all images. */
static int weight_group(const weight_plan *p, int64_t g, int64_t f_begin, int64_t f_end)
{
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const int64_t size = w->kernel_height * p->tiles * TILE, filters = f_end - f_begin;
    const int64_t y_block = filters * p->y.plane, totals = ceil_div(filters, FILTERS) * size;
    real *x = fdl_scratch(p->together * p->x.size * (int64_t)sizeof(real));
    real *y = fdl_scratch(p->together * y_block * (int64_t)sizeof(real));
    real *total = fdl_scratch(totals * (int64_t)sizeof(real));
    if (!x || !y || !total)
        return FDL_OUT_OF_MEMORY;
    memset(x, 0, (size_t)(p->together * p->x.size) * sizeof(real)); /* where zeros stay */
    memset(total, 0, (size_t)totals * sizeof(real));
    sheet grads = p->y;
    grads.channels = filters;
    for (int64_t n = 0; n < w->batch; n += p->together * LANES) {
        const int64_t blocks = min64(p->together, ceil_div(w->batch - n, LANES));
        for (int64_t i = 0; i < blocks; i++) {
            const int64_t image = n + i * LANES, images = min64(LANES, w->batch - image);
            spread(&p->x, v->x + (image * w->channels + g * v->channels) * v->pixels, w->channels * v->pixels, images,
                   (band){0, p->x.height}, x + i * p->x.size);
            spread(&grads, v->grad_y + (image * w->out_channels + g * v->filters + f_begin) * v->positions,
                   w->out_channels * v->positions, images, (band){0, p->y.height}, y + i * y_block);
        }
        for (int64_t f = 0; f < filters; f += FILTERS)
            dot_filters(p, x, y + f * p->y.plane, blocks, y_block, min64(FILTERS, filters - f),
                        total + f / FILTERS * size);
    }
    for (int64_t f = 0; f < filters; f += FILTERS)
        store_weights(p, total + f / FILTERS * size, min64(FILTERS, filters - f),
                      v->grad_weight + (g * v->filters + f_begin + f) * v->terms);
    return FDL_OK;
}

/* Items are groups, in tiles of FILTERS filters: each for all images, block after block. */
static int weight_task(void *context, int64_t begin, int64_t end)
{
    const weight_plan *p = context;
    const int64_t tiles = ceil_div(p->v->filters, FILTERS);
    int status = FDL_OK;
    for (int64_t item = begin, next; item < end && status == FDL_OK; item = next) {
        const int64_t g = item / tiles, first = item - g * tiles;
        next = min64(end, (g + 1) * tiles);
        const fdl_mark mark = fdl_scratch_mark();
        status = weight_group(p, g, first * FILTERS, min64((next - g * tiles) * FILTERS, p->v->filters));
        fdl_scratch_release(mark);
    }
    return status;
}

int conv_batched_grad_weight(const convolution *v)
{
    const fdl_window *w = &v->w;
    if (!all_finite(v->grad_y, w->batch * w->out_channels * v->positions))
        return conv_products_grad_weight(v);
    axis row, column;
    const plan forward = make_plan(v, false, &row, &column);
    weight_plan p = {v, forward.in, forward.out, w->kernel_width * v->channels, 0, 0, NULL, NULL};
    p.tiles = ceil_div(p.columns, TAPS);
    p.together = min64(SHEETS / (p.x.size * (int64_t)sizeof(real)), MOST_TERMS / v->positions);
    p.together = max64(1, min64(forward.blocks, p.together));
    const fdl_mark mark = fdl_scratch_mark();
    int64_t *tables = fdl_scratch(2 * p.tiles * TAPS * (int64_t)sizeof(int64_t));
    int status = tables ? FDL_OK : FDL_OUT_OF_MEMORY;
    if (tables) {
        int64_t *offset = tables, *place = tables + p.tiles * TAPS;
        for (int64_t i = 0; i < p.tiles * TAPS; i++) {
            const int64_t t = min64(i, p.columns - 1), c = t / w->kernel_width, s = t % w->kernel_width;
            offset[i] = c * p.x.plane + column_of(&p.x, s * w->dilation_width - w->padding_width);
            place[i] = c * v->taps + s;
        }
        p.offset = offset, p.place = place;
        const double work = (double)w->batch * (double)w->out_channels * (double)v->terms * (double)v->positions;
        const int64_t tiles = w->groups * ceil_div(v->filters, FILTERS);
        status = fdl_parallel(tiles, max64(1, ceil_div(tiles, gemm_parts(work, 0))), weight_task, &p);
    }
    fdl_scratch_release(mark);
    return status;
}

/* ---- whether ---- */

/* Volumes are left to the others. */
bool conv_batched_applies(const convolution *v)
{
    const fdl_window *w = &v->w;
    return !w->channels_last && w->depth == 1 && w->kernel_depth == 1 && w->out_depth == 1 && w->padding_depth == 0 &&
           v->weights.column == 1 && !v->turned && v->terms > 0 && v->filters > 0 && v->positions > 0 && w->batch > 0;
}

/* What follows estimates cycles, of this way and of the others. The constants were found by timing them: */
#define MULTIPLY_ADD (0.59 * conv_slowness()) /* of a vector, as the micro-kernels come to on average */
#define MOVE (2 + LANES / 2.0)                /* a vector to or from a sheet */
#define TILE_ENDS 30.0                        /* to begin and end a tile of results */

/* Of the sheets of one block of images, without padding. */
static int64_t sheet_vectors(const convolution *v) { return v->channels * v->pixels + v->filters * v->positions; }

/* Of one group. */
static double batched_cycles(const convolution *v, double tiles)
{
    const double moved = (double)sheet_vectors(v);
    return (double)ceil_div(v->w.batch, LANES) *
               (conv_multiply_adds(v) * MULTIPLY_ADD + moved * MOVE + tiles * TILE_ENDS) +
           0.6 * (double)(v->filters * v->terms);
}

/* Too large for any cache: whole sheets, or what one row of results sees. */
static bool is_large(const convolution *v) { return sheet_vectors(v) * VECTOR_BYTES > 3 << 20; }
static bool has_large_rows(const convolution *v)
{
    return v->channels * v->w.kernel_height * v->w.width * VECTOR_BYTES > 2 * BAND;
}

/* To copy what one tap sees along one row of positions, `columns` of them `stride` apart. */
static double run_cycles(int64_t columns, int64_t stride, double whole, double part, double single)
{
    if (stride > 2)
        return single * (double)columns;
    return whole * (double)(columns / LANES) + (columns % LANES ? part : 0);
}

bool conv_batched_pays(const convolution *v)
{
    if (v->is_matrix || has_large_rows(v))
        return false;
    const double move = is_large(v) ? 1.5 * MOVE : MOVE; /* to and from memory */
    const double multiplied = 0.45 * conv_slowness() * conv_multiply_adds(v), moved = move * (double)sheet_vectors(v);
    const double blocks = (double)ceil_div(v->w.batch, LANES), packed = (double)(v->filters * v->terms);
    double rival;
    if (conv_winograd_pays(v, 4) || conv_winograd_pays(v, 2)) {
        if (sheet_vectors(v) * VECTOR_BYTES > SHEETS)
            return false;
        rival = 1.3 * multiplied / LANES;
    } else if (conv_rows_applies(v) && conv_rows_pays(v)) {
        rival = conv_rows_cycles(v);
    } else {
        rival = conv_products_cycles(v);
    }
    return blocks * (multiplied + moved) + packed < 0.95 * rival * (double)v->w.batch;
}

/* At stride 1 it is a forward pass. */
bool conv_batched_grad_x_pays(const convolution *v)
{
    const fdl_window *w = &v->w;
    if (is_large(v))
        return false;
    const double rows = (double)(v->filters * v->taps) * (double)w->height / (double)w->stride_height;
    const double columns = (double)ceil_div(w->width, w->stride_width);
    const double tiles = (double)(ceil_div(v->channels, GEMM_ROWS) * w->height * w->stride_width) * (columns + 1) / 2;
    const double rival = conv_multiply_adds(v) * MULTIPLY_ADD / LANES +
                         rows * run_cycles((int64_t)columns, 1, 3, 8, 0) +
                         (double)(v->channels * v->pixels) * 8 / LANES;
    return batched_cycles(v, tiles) < 0.95 * rival * (double)w->batch;
}

bool conv_batched_grad_weight_pays(const convolution *v)
{
    const fdl_window *w = &v->w;
    if (v->is_matrix || is_large(v))
        return false;
    const double copies = (double)(v->terms * w->out_height) * run_cycles(w->out_width, w->stride_width, 22, 25, 7);
    const double rival = conv_multiply_adds(v) * MULTIPLY_ADD / LANES + copies;
    const double tiles = (double)(ceil_div(v->filters, FILTERS) * ceil_div(v->terms, TAPS));
    const double unused = (double)ceil_div(v->filters, FILTERS) * FILTERS / (double)v->filters - 1;
    const double more = unused * conv_multiply_adds(v) * MULTIPLY_ADD * (double)ceil_div(w->batch, LANES);
    return batched_cycles(v, tiles) + more < 0.95 * rival * (double)w->batch;
}
