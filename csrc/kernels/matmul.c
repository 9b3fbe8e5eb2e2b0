/* matmul: c [batch..., m, n] = a [batch..., m, k] b [batch..., k, n], each the building block
 *
 * a and b lie in any way whose rows or columns are dense, and their batches in any way, repeated (a step of 0) if need
 * be. Where all have the same b, and the rows of a follow each other, it is one product of more rows. One column is
 * computed as one row, of the transposes. Products of a batch are spread over threads if they are many, else cut. */
#include "product/gemm.h"

enum { MOST_DIMENSIONS = 64 }; /* as in NumPy */

typedef struct {
    int64_t size, a, b; /* elements from one index to the next */
} dimension;

typedef struct {
    gemm_problem problem;
    gemm_matrix b;
    dimension dims[MOST_DIMENSIONS];
    int64_t rank;
} products;

/* Without dimensions of one element, neighbours that are one joined. Returns the number of products. */
static int64_t take_batch(products *p, const int64_t *geometry, int64_t rank)
{
    int64_t batch = 1;
    p->rank = 0;
    for (int64_t i = 0; i < rank; i++, geometry += 3) {
        dimension next = {geometry[0], geometry[1], geometry[2]}, *before = &p->dims[p->rank - (p->rank > 0)];
        batch *= next.size;
        if (next.size == 1)
            continue;
        if (p->rank > 0 && before->a == next.a * next.size && before->b == next.b * next.size) {
            next.size *= before->size;
            *before = next;
        } else {
            p->dims[p->rank++] = next;
        }
    }
    return batch;
}

static int some_products(void *context, int64_t begin, int64_t end)
{
    const products *p = context;
    int status = FDL_OK;
    for (int64_t i = begin; i < end && status == FDL_OK; i++) {
        gemm_problem one = p->problem;
        gemm_matrix b = p->b;
        int64_t rest = i;
        for (int64_t d = p->rank - 1; d >= 0; d--) {
            one.a.data += rest % p->dims[d].size * p->dims[d].a;
            b.data += rest % p->dims[d].size * p->dims[d].b;
            rest /= p->dims[d].size;
        }
        one.b = &b;
        one.c += i * one.m * one.n;
        status = gemm_parallel(&one);
    }
    return status;
}

int fdl_matmul(const real *strided_a, const real *strided_b, real *c, const int64_t *geometry, int64_t rank, int64_t m,
               int64_t n, int64_t k, int64_t a_row, int64_t a_column, int64_t b_row, int64_t b_column)
{
    products p = {.b = {strided_b, b_row, b_column}};
    gemm_matrix a = {strided_a, a_row, a_column};
    int64_t batch = take_batch(&p, geometry, rank);
    if (batch == 0 || m == 0 || n == 0)
        return FDL_OK;
    const dimension last = p.dims[max64(0, p.rank - 1)];
    if (p.rank > 0 && last.b == 0 && a.column == 1 && (m == 1 || last.a == m * a.row)) {
        a.row = m == 1 ? last.a : a.row;
        m *= last.size, batch /= last.size;
        p.rank--;
    }
    if (n == 1 && m > 1) {
        const gemm_matrix row = {p.b.data, p.b.column, p.b.row};
        p.b = (gemm_matrix){a.data, a.column, a.row};
        a = row, n = m, m = 1;
        for (int64_t d = 0; d < p.rank; d++)
            p.dims[d] = (dimension){p.dims[d].size, p.dims[d].b, p.dims[d].a};
    }
    p.problem = (gemm_problem){.m = m, .n = n, .k = k, .a = a, .pack_b = gemm_matrix_b, .c = c, .c_row = n};
    if (batch < fdl_available_threads(FDL_MOST_THREADS))
        return some_products(&p, 0, batch);
    const double enough = 1 << 18; /* multiply-adds, as in gemm_parts */
    const double each = (double)m * (double)n * (double)max64(1, k);
    return fdl_parallel(batch, each < enough ? (int64_t)(enough / each) : 1, some_products, &p);
}
