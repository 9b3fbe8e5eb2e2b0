/* F(4 x 4, 3 x 3). */
#define WINOGRAD_TILE 4
#include "kernels/conv/winograd_forward.h"
