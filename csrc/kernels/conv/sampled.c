/* The columns of a convolution (conv.c) whose windows are two pixels apart, a channel at a time: what each column of the
 * kernel sees of a row, every other pixel from some pixel on, becomes a line, row after row without a gap,
 *
 *   lines[r][s][i, j] = x[c, 2 i + r - padding, 2 j + s - padding], 0 outside the image (at a dilation of 1),
 *
 * so that a row of columns is one run of a line, over all output rows. Rows of the kernel a stride apart see the same
 * rows of the image, and share lines. */
#include "kernels/conv/conv.h"

enum {
    MOST_ROWS = 16, /* of a kernel */
    MOST_TAPS = 256,
    MOST_PIECES = 68,
    MOST_WIDTH = 256,      /* of an output row: pieces of GEMM_COLUMNS, and some at panels' ends */
    LINES_BYTES = 1 << 15, /* of the lines of one channel, but at least an output row's */
};

_Static_assert((int)MOST_WIDTH <= (MOST_PIECES - 4) * (int)GEMM_COLUMNS, "an output row has too many pieces");

bool conv_sampled_applies(const fdl_window *w)
{
    return w->stride_width == 2 && w->dilation_width == 1 && w->kernel_width > 1 && w->kernel_height <= MOST_ROWS &&
           w->kernel_width <= MOST_TAPS / MOST_ROWS && w->depth == 1 && w->kernel_depth == 1 && w->out_depth == 1 &&
           w->padding_depth == 0 && w->out_width <= MOST_WIDTH;
}

/* Where each row of the kernel finds its lines: `at` rows of out_width elements on, of each `step` rows for each column
 * of the kernel. */
typedef struct {
    int64_t at[MOST_ROWS], step[MOST_ROWS];
    bool shared[MOST_ROWS]; /* with a row before */
    int64_t rows;           /* of all lines */
} places;

/* For `count` output rows. */
static places find_places(const fdl_window *w, int64_t count)
{
    places p = {.rows = 0};
    for (int64_t r = 0; r < w->kernel_height; r++) {
        int64_t first = 0; /* the first row of the kernel that sees the same rows of the image */
        while ((r - first) * w->dilation_height % w->stride_height != 0)
            first++;
        p.shared[r] = first < r;
        const int64_t shift = (r - first) * w->dilation_height / w->stride_height;
        if (first == r) {
            int64_t last = r;
            for (int64_t other = r; other < w->kernel_height; other++)
                if ((other - r) * w->dilation_height % w->stride_height == 0)
                    last = other;
            p.at[r] = p.rows, p.step[r] = count + (last - r) * w->dilation_height / w->stride_height;
            p.rows += w->kernel_width * p.step[r];
        } else {
            p.at[r] = p.at[first] + shift, p.step[r] = p.step[first];
        }
    }
    return p;
}

/* A vector of each row of a line, of those rows that lie in the image. */
typedef struct {
    int64_t from, to, rows;   /* the first row's in the channel and in the lines; how many */
    vmask low, high, present; /* of the two vectors of pixels, and of the line's */
} sample;

/* Those of all lines, from output row i on. */
static int64_t list_samples(const fdl_window *w, const places *p, int64_t i, sample *samples)
{
    int64_t count = 0;
    for (int64_t r = 0; r < w->kernel_height; r++) {
        const int64_t top = i * w->stride_height - w->padding_height + r * w->dilation_height;
        const int64_t begin = top < 0 ? ceil_div(-top, w->stride_height) : 0;
        const int64_t end = min64(p->step[r], ceil_div(max64(0, w->height - top), w->stride_height));
        for (int64_t s = 0; s < w->kernel_width && !p->shared[r] && begin < end; s++)
            for (int64_t j = 0; j < w->out_width; j += LANES) {
                const int64_t at = s - w->padding_width + 2 * j;
                samples[count++] = (sample){
                    .from = (top + begin * w->stride_height) * w->width + at,
                    .to = (p->at[r] + s * p->step[r] + begin) * w->out_width + j,
                    .rows = end - begin,
                    .low = vlanes_between(-at, w->width - at),
                    .high = vlanes_between(-at - LANES, w->width - at - LANES),
                    .present = vlanes_between(0, w->out_width - j),
                };
            }
    }
    return count;
}

/* The lines of channel x [height, width]; the channel after it is fetched. */
static void take_samples(const fdl_window *w, const sample *samples, int64_t count, const real *x, real *lines)
{
    const int64_t row = w->stride_height * w->width, ahead = w->height * w->width, to_row = w->out_width;
    for (const sample *t = samples; t < samples + count; t++) {
        const real *from = x + t->from;
        real *to = lines + t->to;
        const vmask low = t->low, high = t->high, present = t->present;
        for (int64_t m = t->rows; m > 0; m--, from += row, to += to_row) { /* main loop and tail */
            __builtin_prefetch(from + ahead);
            __builtin_prefetch(from + ahead + LANES);
            vstore_masked(to, veven(vload_masked(from, low), vload_masked(from + LANES, high)), present);
        }
    }
}

/* A piece of a run of columns that goes to one panel, at most its two vectors. */
typedef struct {
    int64_t from;   /* where it lies in the run */
    real *to;       /* where it goes in the first term, */
    int64_t step;   /* and in the next one */
    vmask lanes[2]; /* of it */
    bool whole;
} piece;

/* The pieces of the columns [column, column + length). */
static int64_t cut(const conv_columns *c, int64_t column, int64_t length, piece *pieces)
{
    int64_t count = 0;
    for (int64_t done = 0, n; done < length; done += n) {
        const int64_t j = column + done;
        int64_t start = c->row ? 0 : j / GEMM_COLUMNS * GEMM_COLUMNS;
        int64_t width = c->row ? c->row : gemm_panel_width(c->columns - start);
        if (j - start >= width)
            start += width, width = gemm_panel_width(c->columns - start);
        n = min64(min64(length - done, start + width - j), GEMM_COLUMNS);
        piece *p = &pieces[count++];
        p->from = done, p->to = c->data + start * c->terms + (j - start), p->step = width;
        p->whole = n == GEMM_COLUMNS;
        for (int64_t l = 0; l < 2; l++)
            p->lanes[l] = vlanes_between(0, n - l * LANES);
    }
    return count;
}

/* The terms [k, k_end) of a piece, whose runs are at lines + places[0], .... */
static void copy_piece(const piece *p, const real *lines, const int64_t *places, int64_t k, int64_t k_end)
{
    const real *from = lines + p->from;
    real *to = p->to + k * p->step;
    const vmask low = p->lanes[0], high = p->lanes[1];
    if (p->whole)
        for (int64_t i = k; i < k_end; i++, to += p->step, places++) { /* main loop */
            vstore(to, vload(from + *places));
            vstore(to + LANES, vload(from + *places + LANES));
        }
    else
        for (int64_t i = k; i < k_end; i++, to += p->step, places++) { /* edges and tail */
            vstore_masked(to, vload(from + *places), low);
            vstore_masked(to + LANES, vload_masked(from + *places + LANES, high), high);
        }
}

bool conv_fill_sampled(const convolution *v, const real *x, int64_t k, int64_t terms, int64_t position, int64_t count,
                       int64_t column, const conv_columns *to)
{
    const fdl_window *w = &v->w;
    const int64_t size = (int64_t)sizeof(real), k_end = k + terms, most = (MOST_PIECES - 4) / 2 * GEMM_COLUMNS;
    /* So many output rows at a time that their lines, and the list of pieces, stay small. */
    const int64_t of_row = find_places(w, 1).rows * w->out_width * size;
    const int64_t most_rows = max64(1, min64(LINES_BYTES / of_row, most / w->out_width - 1));
    const int64_t line_rows = find_places(w, most_rows).rows;
    const fdl_mark mark = fdl_scratch_mark();
    real *lines = fdl_scratch((line_rows * w->out_width + 2 * LANES) * size);
    sample *samples =
        fdl_scratch(w->kernel_height * w->kernel_width * ceil_div(w->out_width, LANES) * (int64_t)sizeof *samples);
    if (!lines || !samples) {
        fdl_scratch_release(mark);
        return false;
    }
    for (int64_t done = 0, length; done < count; done += length) {
        const int64_t first = position + done, i = first / w->out_width;
        const int64_t end = min64(position + count, (i + most_rows) * w->out_width);
        const places p = find_places(w, ceil_div(end, w->out_width) - i);
        piece pieces[MOST_PIECES];
        int64_t runs[MOST_TAPS];
        length = end - first;
        memset(lines, 0, (size_t)((line_rows * w->out_width + 2 * LANES) * size)); /* beside the image it stays so */
        const int64_t sample_count = list_samples(w, &p, i, samples);
        const int64_t piece_count = cut(to, column + done, length, pieces);
        for (int64_t tap = 0; tap < v->taps; tap++) {
            const int64_t r = tap / w->kernel_width, s = tap % w->kernel_width;
            runs[tap] = (p.at[r] + s * p.step[r]) * w->out_width + first - i * w->out_width;
        }
        for (int64_t c = k / v->taps; c * v->taps < k_end; c++) {
            const int64_t begin = max64(k, c * v->taps), last = min64(k_end, (c + 1) * v->taps);
            take_samples(w, samples, sample_count, x + c * v->pixels, lines);
            for (int64_t n = 0; n < piece_count; n++)
                copy_piece(&pieces[n], lines, runs + (begin - c * v->taps), begin - k, last - k);
        }
    }
    fdl_scratch_release(mark);
    return true;
}
