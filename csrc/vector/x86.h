/* What the x86 sets have alike. FDL_X86(max) is _mm512_max_ps, ..., the intrinsic of this set and dtype. */
FDL_INLINE void vstream_end(void) { _mm_sfence(); }
#define vstream_end vstream_end

FDL_INLINE vreal vkeep(vreal v)
{
    __asm__("" : "+v"(v));
    return v;
}
#define vkeep vkeep

FDL_INLINE vreal vmax(vreal a, vreal b) { return FDL_X86(max)(a, b); }
FDL_INLINE vreal vmin(vreal a, vreal b) { return FDL_X86(min)(a, b); }
#define vmax vmax
#define vmin vmin

FDL_INLINE vreal vsqrt(vreal x) { return FDL_X86(sqrt)(x); }
#define vsqrt vsqrt

#if defined(__FMA__)
FDL_INLINE vreal vproduct(vreal a, vreal b, vreal *low)
{
    const vreal product = a * b;
    *low = FDL_X86(fmsub)(a, b, product);
    return product;
}
#define vproduct vproduct
#endif

#if defined(FDL_PIECES)
/* A block is gathered in pieces that already lie in the right 16 bytes, and transposed within these: half of the
 * rounds of vtranspose cost loads only. */
FDL_INLINE void vload_transposed(const real *from, int64_t stride, vreal out[LANES])
{
    enum { PIECE = 16 / (int)sizeof(real) };
    FDL_UNROLL
    for (int q = 0; q < LANES; q += PIECE) {
        vreal t[PIECE];
        FDL_UNROLL
        for (int j = 0; j < PIECE; j++) {
            const real *p = from + j * stride + q;
            t[j] = FDL_PIECES(p, PIECE * stride);
        }
#if defined(FDL_f32)
        const vreal a = FDL_X86(unpacklo)(t[0], t[1]), b = FDL_X86(unpackhi)(t[0], t[1]);
        const vreal c = FDL_X86(unpacklo)(t[2], t[3]), d = FDL_X86(unpackhi)(t[2], t[3]);
        out[q] = (vreal)FDL_UNPACK(lo, FDL_DOUBLES(a), FDL_DOUBLES(c));
        out[q + 1] = (vreal)FDL_UNPACK(hi, FDL_DOUBLES(a), FDL_DOUBLES(c));
        out[q + 2] = (vreal)FDL_UNPACK(lo, FDL_DOUBLES(b), FDL_DOUBLES(d));
        out[q + 3] = (vreal)FDL_UNPACK(hi, FDL_DOUBLES(b), FDL_DOUBLES(d));
#else
        out[q] = FDL_UNPACK(lo, t[0], t[1]);
        out[q + 1] = FDL_UNPACK(hi, t[0], t[1]);
#endif
    }
}
#define vload_transposed vload_transposed
#endif
