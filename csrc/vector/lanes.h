/* Which lanes of (a, b), two vectors end to end, a shuffle takes: the builtin (GCC 12, Clang) wants as many literal
 * indices as there are lanes. LANE_LIST(EVEN) is EVEN_8 where a vector has 8 elements, and WIDE_LIST(EVEN) that of its
 * 64-bit lanes.
 *
 *   EVEN, ODD            0, 2, 4, ... and 1, 3, 5, ...
 *   ZIP_LOW, ZIP_HIGH    a0 b0 a1 b1 ..., of the lower and of the upper halves
 *   NEXT, PREVIOUS       a1 a2 ... b0, and the last of a, then b0 b1 ...
 *   TURN, TURN_BACK      a1 a2 a0 a4 a5 a3 ... and a2 a0 a1 ...: lanes turned round in threes
 *   THIRD_A, THIRD_B     every third lane of a, b, c end to end: of (a, b), then of (that, c)
 *   ZIP_3_0A, ...        their lanes in turn, a0 b0 c0 a1 ...: vector 0, 1, 2 of the three, likewise in two steps
 *   OWN_4, OTHER_4, ...  lane l of a where l has no bit 4, and else of b; and lane l ^ 4 of the same */
#ifndef FASTDL_LANES_H
#define FASTDL_LANES_H

#include "vector/types.h"

#if VECTOR_BYTES / REAL_BYTES == 16
#define LANE_LIST(name) name##_16
#elif VECTOR_BYTES / REAL_BYTES == 8
#define LANE_LIST(name) name##_8
#elif VECTOR_BYTES / REAL_BYTES == 4
#define LANE_LIST(name) name##_4
#else
#define LANE_LIST(name) name##_2
#endif
#if VECTOR_BYTES == 64
#define WIDE_LIST(name) name##_8
#elif VECTOR_BYTES == 32
#define WIDE_LIST(name) name##_4
#else
#define WIDE_LIST(name) name##_2
#endif

#define EVEN_16 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30
#define ODD_16 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31
#define ZIP_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define NEXT_16 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16
#define PREVIOUS_16 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30
#define TURN_16 1, 2, 0, 4, 5, 3, 7, 8, 6, 10, 11, 9, 13, 14, 12, 15
#define TURN_BACK_16 2, 0, 1, 5, 3, 4, 8, 6, 7, 11, 9, 10, 14, 12, 13, 15
#define THIRD_A_16 0, 3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 0, 0, 0, 0, 0
#define THIRD_B_16 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 17, 20, 23, 26, 29
#define ZIP_3_0A_16 0, 16, 0, 1, 17, 0, 2, 18, 0, 3, 19, 0, 4, 20, 0, 5
#define ZIP_3_0B_16 0, 1, 16, 3, 4, 17, 6, 7, 18, 9, 10, 19, 12, 13, 20, 15
#define ZIP_3_1A_16 21, 0, 6, 22, 0, 7, 23, 0, 8, 24, 0, 9, 25, 0, 10, 26
#define ZIP_3_1B_16 0, 21, 2, 3, 22, 5, 6, 23, 8, 9, 24, 11, 12, 25, 14, 15
#define ZIP_3_2A_16 0, 11, 27, 0, 12, 28, 0, 13, 29, 0, 14, 30, 0, 15, 31, 0
#define ZIP_3_2B_16 26, 1, 2, 27, 4, 5, 28, 7, 8, 29, 10, 11, 30, 13, 14, 31

#define EVEN_8 0, 2, 4, 6, 8, 10, 12, 14
#define ODD_8 1, 3, 5, 7, 9, 11, 13, 15
#define ZIP_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define NEXT_8 1, 2, 3, 4, 5, 6, 7, 8
#define PREVIOUS_8 7, 8, 9, 10, 11, 12, 13, 14
#define TURN_8 1, 2, 0, 4, 5, 3, 6, 7
#define TURN_BACK_8 2, 0, 1, 5, 3, 4, 6, 7
#define THIRD_A_8 0, 3, 6, 9, 12, 15, 0, 0
#define THIRD_B_8 0, 1, 2, 3, 4, 5, 10, 13
#define ZIP_3_0A_8 0, 8, 0, 1, 9, 0, 2, 10
#define ZIP_3_0B_8 0, 1, 8, 3, 4, 9, 6, 7
#define ZIP_3_1A_8 0, 3, 11, 0, 4, 12, 0, 5
#define ZIP_3_1B_8 10, 1, 2, 11, 4, 5, 12, 7
#define ZIP_3_2A_8 13, 0, 6, 14, 0, 7, 15, 0
#define ZIP_3_2B_8 0, 13, 2, 3, 14, 5, 6, 15

#define EVEN_4 0, 2, 4, 6
#define ODD_4 1, 3, 5, 7
#define ZIP_LOW_4 0, 4, 1, 5
#define ZIP_HIGH_4 2, 6, 3, 7
#define NEXT_4 1, 2, 3, 4
#define PREVIOUS_4 3, 4, 5, 6
#define TURN_4 1, 2, 0, 3
#define TURN_BACK_4 2, 0, 1, 3
#define THIRD_A_4 0, 3, 6, 0
#define THIRD_B_4 0, 1, 2, 5
#define ZIP_3_0A_4 0, 4, 0, 1
#define ZIP_3_0B_4 0, 1, 4, 3
#define ZIP_3_1A_4 5, 0, 2, 6
#define ZIP_3_1B_4 0, 5, 2, 3
#define ZIP_3_2A_4 0, 3, 7, 0
#define ZIP_3_2B_4 6, 1, 2, 7

#define EVEN_2 0, 2
#define ODD_2 1, 3
#define ZIP_LOW_2 0, 2
#define ZIP_HIGH_2 1, 3
#define NEXT_2 1, 2
#define PREVIOUS_2 1, 2
#define TURN_2 0, 1
#define TURN_BACK_2 0, 1
#define THIRD_A_2 0, 3
#define THIRD_B_2 0, 1
#define ZIP_3_0A_2 0, 2
#define ZIP_3_0B_2 0, 1
#define ZIP_3_1A_2 0, 1
#define ZIP_3_1B_2 2, 1
#define ZIP_3_2A_2 3, 0
#define ZIP_3_2B_2 0, 3

#define OWN_8_16 0, 1, 2, 3, 4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31
#define OTHER_8_16 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23
#define OWN_4_16 0, 1, 2, 3, 20, 21, 22, 23, 8, 9, 10, 11, 28, 29, 30, 31
#define OTHER_4_16 4, 5, 6, 7, 16, 17, 18, 19, 12, 13, 14, 15, 24, 25, 26, 27
#define OWN_2_16 0, 1, 18, 19, 4, 5, 22, 23, 8, 9, 26, 27, 12, 13, 30, 31
#define OTHER_2_16 2, 3, 16, 17, 6, 7, 20, 21, 10, 11, 24, 25, 14, 15, 28, 29
#define OWN_1_16 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31
#define OTHER_1_16 1, 16, 3, 18, 5, 20, 7, 22, 9, 24, 11, 26, 13, 28, 15, 30
#define OWN_4_8 0, 1, 2, 3, 12, 13, 14, 15
#define OTHER_4_8 4, 5, 6, 7, 8, 9, 10, 11
#define OWN_2_8 0, 1, 10, 11, 4, 5, 14, 15
#define OTHER_2_8 2, 3, 8, 9, 6, 7, 12, 13
#define OWN_1_8 0, 9, 2, 11, 4, 13, 6, 15
#define OTHER_1_8 1, 8, 3, 10, 5, 12, 7, 14
#define OWN_2_4 0, 1, 6, 7
#define OTHER_2_4 2, 3, 4, 5
#define OWN_1_4 0, 5, 2, 7
#define OTHER_1_4 1, 4, 3, 6
#define OWN_1_2 0, 3
#define OTHER_1_2 1, 2

#endif
