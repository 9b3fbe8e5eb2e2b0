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
