/* aarch64: NEON. */
#define VECTOR_BYTES 16
#define VECTOR_REGISTERS 32

#include <arm_neon.h>

#include "vector/types.h"

FDL_INLINE vreal vkeep(vreal v)
{
    __asm__("" : "+w"(v));
    return v;
}
#define vkeep vkeep

FDL_INLINE vwide vmultiply_low(vwide a, vwide b)
{
    return (vwide)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
}
#define vmultiply_low vmultiply_low
