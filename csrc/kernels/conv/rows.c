/* Convolution that reads the input's rows where they lie, for few channels (the first layer of a network) or few
 * filters, where packing every window costs more than it saves.
 *
 * A block of rows of the input is copied once, with its padding and, at stride s, split into s phases:
 *
 *   line [s, phase]: line[j % s][j / s] = the padded row's element j
 *
 * What tap t of the kernel's row sees at output column j is then line[t dilation % s][t dilation / s + j]: consecutive
 * elements, from which the micro-kernel loads without any packing (gemm_in_place). Products are over all channels and
 * taps of one output row; sums in `real`, in registers. Every pixel is copied once, not once a tap.
 *
 * Where rows end within a vector and there are many filters, output rows are joined: what a column of the kernel's taps
 * sees of them, out_width elements of each line, is copied side by side. What a tap of it sees is then consecutive too,
 * from its own line on (at a stride of s in height, lines are dealt out to s phases):
 *
 *   joined [channels, kernel_width, s, lines * out_width]
 *
 * and vectors are full but for the last one. */
#include "kernels/conv/conv.h"

enum {
    BUFFER = 192 * 1024, /* bytes of lines in a block: they stay in the second-level cache */
    JOINED = 48 * 1024,  /* bytes of joined lines */
};

typedef struct {
    const convolution *v;
    int64_t phase, line;          /* elements of a phase, and of a line: stride_width phases */
    int64_t block, blocks, lines; /* output rows in a block, blocks in a plane, input rows that a block sees */
    const real *weights;          /* as gemm_pack lays them out */
    const int64_t *offset;        /* [terms] of a tap's elements, from those of the first tap of the first channel */
    int64_t joined;               /* output rows that are joined; 1: none */
    const int64_t *joined_offset; /* [terms] of a tap's elements in joined lines */
} plan;

static int64_t extent_of(const fdl_window *w) { return (w->kernel_height - 1) * w->dilation_height + 1; }

/* Columns of taps, of all channels and planes of the kernel. */
static int64_t tap_columns(const convolution *v) { return v->channels * v->w.kernel_depth * v->w.kernel_width; }

/* Elements of a phase of joined lines: a vector is stored past the last one, and two may be loaded. */
static int64_t joined_phase(const convolution *v, int64_t joined)
{
    const int64_t stride = v->w.stride_height, lines = (joined - 1) * stride + extent_of(&v->w);
    return (ceil_div(ceil_div(lines, stride) * v->w.out_width, LANES) + 2) * LANES;
}
static int64_t joined_bytes(const convolution *v, int64_t joined)
{
    return tap_columns(v) * v->w.stride_height * joined_phase(v, joined) * (int64_t)sizeof(real);
}

/* On average for an output row, where so many are joined. The micro-kernel takes two vectors at a time, and for one alone
 * more than half as long. */
static double joined_cycles(const convolution *v, int64_t joined)
{
    const int64_t vectors = ceil_div(joined * v->w.out_width, LANES);
    const double taken =
        joined == 1 ? (double)vectors : ((double)vectors + 0.7 * (double)(vectors % 2)) / (double)joined;
    const int64_t lines = (joined - 1) * v->w.stride_height + extent_of(&v->w);
    const double copied = (double)(tap_columns(v) * lines * ceil_div(v->w.out_width, LANES)) / (double)joined;
    return 0.5 * conv_slowness() * (double)(v->filters * v->terms) * taken + (joined == 1 ? 0 : 3 * copied);
}

/* How many output rows to join: one where even full vectors would save less than copying costs, else as many as fit. */
static int64_t choose_joined(const convolution *v)
{
    const fdl_window *w = &v->w;
    const double vectors = (double)ceil_div(w->out_width, LANES);
    const double saved = (double)v->filters * (vectors - (double)w->out_width / LANES);
    const int64_t fit = JOINED / (tap_columns(v) * w->stride_height * (int64_t)sizeof(real)) - 3 * LANES;
    const int64_t most = fit / w->out_width - ceil_div(extent_of(w), w->stride_height);
    if (most < 2 || w->out_height < 2 || 0.5 * conv_slowness() * saved * (double)w->kernel_height < 3 * vectors)
        return 1;
    const int64_t joined = ceil_div(w->out_height, ceil_div(w->out_height, most));
    return joined_cycles(v, joined) < joined_cycles(v, 1) ? joined : 1;
}

/* `lines` of them, `between` elements apart, as a column of taps sees them: to the phases of a stride; `vectors` of each,
 * and half of one where `half`: constants wherever inlined. What is stored past a line is overwritten by the next one. */
FDL_INLINE void join_vectors(const plan *p, const real *from, int64_t lines, real *to, int64_t phase, const int vectors,
                             const bool half)
{
    const int64_t width = p->v->w.out_width, stride = p->v->w.stride_height;
    for (int64_t q = 0; q < stride; q++, to += phase) {
        real *row = to;
        for (int64_t l = q; l < lines; l += stride, row += width) {
            for (int j = 0; j < vectors; j++)
                vstore(row + j * LANES, vload(from + l * p->line + j * LANES));
            if (half)
                memcpy(row + vectors * LANES, from + l * p->line + vectors * LANES, VECTOR_BYTES / 2);
        }
    }
}

/* What the taps see of `rows` output rows, from the first one's lines. */
static void join_rows(const plan *p, const real *lines, int64_t rows, real *to)
{
    const fdl_window *w = &p->v->w;
    const int64_t halves = ceil_div(w->out_width, LANES / 2), phase = joined_phase(p->v, p->joined);
    const int64_t count = (rows - 1) * w->stride_height + extent_of(w);
    for (int64_t column = 0; column < tap_columns(p->v); column++, to += w->stride_height * phase) {
        const int64_t s = column % w->kernel_width;
        const real *from = lines + p->offset[(column - s) * w->kernel_height + s];
        if (halves == 1)
            join_vectors(p, from, count, to, phase, 0, true);
        else if (halves == 2)
            join_vectors(p, from, count, to, phase, 1, false);
        else if (halves == 3)
            join_vectors(p, from, count, to, phase, 1, true);
        else if (halves == 4)
            join_vectors(p, from, count, to, phase, 2, false);
        else
            join_vectors(p, from, count, to, phase, (int)(halves / 2), halves % 2);
    }
}

static plan describe_lines(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = {.v = v};
    const int64_t reach = (w->kernel_width - 1) * w->dilation_width / w->stride_width;
    p.phase = reach + ceil_div(w->out_width, LANES) * LANES + LANES;
    p.line = w->stride_width * p.phase;
    return p;
}

/* Bytes of one row of all channels. */
static int64_t row_bytes(const plan *p)
{
    return p->v->channels * p->v->w.kernel_depth * p->line * (int64_t)sizeof(real);
}

/* The row x [width] to the phases of a stride of 2 or 4, a constant wherever inlined. */
FDL_INLINE void deal_line(const plan *p, const real *x, real *line, const int64_t stride)
{
    const int64_t before = p->v->w.padding_width;
    real *to[4]; /* where elements i of each i % stride begin */
    for (int64_t q = 0; q < stride; q++)
        to[q] = line + (before + q) % stride * p->phase + (before + q) / stride;
    const int64_t count = min64(p->v->w.width, stride * (p->phase - (before + stride - 1) / stride));
    for (int64_t i = 0; i < count; i += stride * LANES) { /* main loop and tail */
        vreal part[4];
        for (int64_t q = 0; q < stride; q++)
            part[q] = vload_up_to(x + i + q * LANES, max64(0, count - i - q * LANES));
        for (int64_t q = 0; q < stride; q += 2) {
            const vreal even = veven(part[q], part[q + 1]), odd = vodd(part[q], part[q + 1]);
            part[q] = even, part[q + 1] = odd;
        }
        if (stride == 4) {
            const vreal even = part[0], odd = part[1];
            part[0] = veven(even, part[2]), part[1] = veven(odd, part[3]);
            part[2] = vodd(even, part[2]), part[3] = vodd(odd, part[3]);
        }
        for (int64_t q = 0; q < stride; q++)
            vstore_up_to(to[q] + i / stride, part[q], (count - i + stride - 1 - q) / stride);
    }
}

/* One padded row: x [width], or NULL outside the image. What is not x's is zero already. */
static void fill_line(const plan *p, const real *x, real *line)
{
    const fdl_window *w = &p->v->w;
    const int64_t stride = w->stride_width, before = w->padding_width;
    if (!x) {
        memset(line, 0, (size_t)p->line * sizeof(real));
        return;
    }
    if (stride == 1) {
        memcpy(line + before, x, (size_t)min64(w->width, p->phase - before) * sizeof(real));
        return;
    }
    if (stride == 2) {
        deal_line(p, x, line, 2);
    } else if (stride == 4) {
        deal_line(p, x, line, 4);
    } else {
        for (int64_t i = 0, j = before / stride, q = before % stride; i < w->width && j < p->phase; i++) {
            line[q * p->phase + j] = x[i];
            if (++q == stride)
                q = 0, j++;
        }
    }
}

/* All filters of `count` output rows (or of one, which several were joined to), from element y of the output on: of each
 * `columns` elements, but for a row with fewer than those before y + end, which is out_width long. */
static void multiply(const plan *p, int64_t y, int64_t count, int64_t columns, int64_t end, const real *b,
                     const int64_t *offset)
{
    const convolution *v = p->v;
    const int64_t width = v->w.out_width, between = v->w.stride_height * p->line;
    gemm_problem product = {
        .m = v->filters, .k = v->terms, .c_row = v->positions, .row_bias = v->bias, .activation = v->activation};
    for (int64_t f = 0, rows; f < v->filters; f += rows) {
        rows = gemm_packed_rows(f, v->filters, GEMM_A_PANEL);
        const real *weights = p->weights + f / GEMM_A_PANEL * GEMM_A_PANEL * v->terms + f % GEMM_A_PANEL;
        for (int64_t i = 0; i < count; i++) {
            product.n = end - i * width < columns ? width : columns;
            product.c = v->y + y + i * width;
            product.addend = v->residual ? v->residual + y + i * width : NULL;
            gemm_in_place(&product, f, rows, weights, b + i * between, offset);
        }
    }
}

/* Items are blocks of output rows of one output plane of one image. */
static int rows_task(void *context, int64_t begin, int64_t end)
{
    const plan *p = context;
    const convolution *v = p->v;
    const fdl_window *w = &v->w;
    const fdl_mark mark = fdl_scratch_mark();
    const size_t size = (size_t)(v->channels * w->kernel_depth * p->lines * p->line) * sizeof(real);
    const int64_t joined_size = p->joined > 1 ? joined_bytes(v, p->joined) : 0;
    real *lines = fdl_scratch((int64_t)size), *joined = fdl_scratch(joined_size);
    if (!lines || !joined) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    memset(lines, 0, size); /* where zeros stay */
    for (int64_t item = begin; item < end; item++) {
        const int64_t plane = item / p->blocks, n = plane / w->out_depth, d = plane % w->out_depth;
        const int64_t i_begin = item % p->blocks * p->block, i_end = min64(w->out_height, i_begin + p->block);
        const int64_t top = i_begin * w->stride_height - w->padding_height;
        real *line = lines;
        for (int64_t c = 0; c < v->channels; c++)
            for (int64_t q = 0; q < w->kernel_depth; q++) {
                const int64_t z = d * w->stride_depth - w->padding_depth + q * w->dilation_depth;
                const real *x = v->x + ((n * v->channels + c) * w->depth + z) * w->height * w->width;
                for (int64_t r = top; r < top + p->lines; r++, line += p->line)
                    fill_line(p, z >= 0 && z < w->depth && r >= 0 && r < w->height ? x + r * w->width : NULL, line);
            }
        /* Whole vectors are stored where what they spill over is of rows to come. Not where addends lie, which may be
         * y's own, nor where an activation would be computed for nothing. */
        const bool spills = !v->residual && !is_stored_first(&v->activation);
        const int64_t whole = spills ? ceil_div(w->out_width, LANES) * LANES : w->out_width;
        const int64_t count = i_end - i_begin,
                      y = n * v->filters * v->positions + (d * w->out_height + i_begin) * w->out_width;
        if (p->joined == 1)
            multiply(p, y, count, whole, count * w->out_width, lines, p->offset);
        for (int64_t i = 0, rows; p->joined > 1 && i < count; i += rows) {
            rows = min64(p->joined, count - i);
            join_rows(p, lines + i * w->stride_height * p->line, rows, joined);
            multiply(p, y + i * w->out_width, 1, rows * w->out_width, rows * w->out_width, joined, p->joined_offset);
        }
    }
    fdl_scratch_release(mark);
    return FDL_OK;
}

/* All that a window of the kernel's rows sees has to fit the buffer. */
bool conv_rows_applies(const convolution *v)
{
    const plan p = describe_lines(v);
    return v->w.groups == 1 && !v->w.channels_last && v->weights.column == 1 && v->terms > 0 && v->terms <= GEMM_K &&
           !v->is_matrix && row_bytes(&p) <= BUFFER / extent_of(&v->w);
}

/* Vectors are partly empty where rows end within one; each line is copied once, but where blocks overlap. */
double conv_rows_cycles(const convolution *v)
{
    const fdl_window *w = &v->w;
    const int64_t vectors = ceil_div(w->out_width, LANES), results = w->out_depth * w->out_height;
    const double multiplied = (double)results * joined_cycles(v, choose_joined(v));
    const double tiles = (double)(ceil_div(v->filters, GEMM_ROWS) * results * ceil_div(vectors, 2));
    const double lines = (double)(v->channels * w->kernel_depth) * (double)(w->out_depth * w->height);
    const double pixels = (double)ceil_div(w->width, LANES);
    double line = 3.2 * (double)w->width;
    if (w->stride_width == 1)
        line = 8 + 10 * pixels;
    else if (w->stride_width == 2 || w->stride_width == 4)
        line = 11 + 12 * pixels;
    return multiplied + 80 * tiles + lines * line;
}

bool conv_rows_pays(const convolution *v) { return conv_rows_cycles(v) < conv_products_cycles(v); }

/* The offsets [terms] of taps, in lines and in joined lines. */
static void locate_taps(const plan *p, int64_t *offset, int64_t *joined)
{
    const fdl_window *w = &p->v->w;
    const int64_t phase = joined_phase(p->v, p->joined), stride = w->stride_height;
    for (int64_t s = 0; s < w->kernel_width; s++) { /* of the first row of taps: divisions are slow */
        const int64_t column = s * w->dilation_width;
        offset[s] = column % w->stride_width * p->phase + column / w->stride_width;
    }
    for (int64_t r = 0, k = 0; r < w->kernel_height; r++) /* of the first channel */
        for (int64_t s = 0, row = r * w->dilation_height; s < w->kernel_width; s++, k++) {
            offset[k] = offset[s] + row * p->line;
            joined[k] = (s * stride + row % stride) * phase + row / stride * w->out_width;
        }
    const int64_t taps = w->kernel_height * w->kernel_width;
    for (int64_t k = taps; k < p->v->terms; k++) {
        offset[k] = offset[k - taps] + p->lines * p->line;
        joined[k] = joined[k - taps] + w->kernel_width * stride * phase;
    }
}

int conv_rows_forward(const convolution *v)
{
    const fdl_window *w = &v->w;
    plan p = describe_lines(v);
    const int64_t extent = extent_of(w);
    const int64_t fit = (BUFFER / row_bytes(&p) - extent) / w->stride_height + 1;
    const double work = (double)w->batch * (double)v->filters * (double)v->terms * (double)v->positions;
    const int64_t planes = w->batch * w->out_depth, threads = gemm_parts(work, 1);
    p.block = min64(fit, ceil_div(w->out_height, planes >= threads ? 1 : threads));
    p.blocks = ceil_div(w->out_height, p.block);
    p.block = ceil_div(w->out_height, p.blocks);
    p.lines = (p.block - 1) * w->stride_height + extent;

    const fdl_mark mark = fdl_scratch_mark();
    real *weights = v->packed ? NULL : fdl_scratch(gemm_packed_size(v->filters, v->terms) * (int64_t)sizeof(real));
    int64_t *offset = fdl_scratch(2 * v->terms * (int64_t)sizeof(int64_t));
    if ((!v->packed && !weights) || !offset) {
        fdl_scratch_release(mark);
        return FDL_OUT_OF_MEMORY;
    }
    if (weights)
        gemm_pack(&v->weights, v->filters, v->terms, weights);
    p.joined = min64(choose_joined(v), p.block);
    p.offset = offset, p.joined_offset = offset + v->terms;
    locate_taps(&p, offset, offset + v->terms);
    p.weights = v->packed ? v->packed : weights;
    const int status = fdl_parallel(planes * p.blocks, threads == 1 ? INT64_MAX : 1, rows_task, &p);
    fdl_scratch_release(mark);
    return status;
}
