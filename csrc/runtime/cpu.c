/* What the CPU has and the operating system saves on a context switch.
 *
 * Levels are clusters of features, after the x86-64 psABI (section 3.1.1): v2 is SSE4.2 and popcnt, v3 is
 * AVX2, FMA, BMI, F16C, v4 is AVX-512 F, BW, CD, DQ, VL. */
#include <string.h>

#include "runtime/core.h"

#if defined(__x86_64__)
#include <cpuid.h>

typedef struct {
    unsigned leaf1_ecx, leaf7_ebx, extended_ecx, saved_state;
} features;

static features read_features(void)
{
    features f = {0, 0, 0, 0};
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d))
        f.leaf1_ecx = c;
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        f.leaf7_ebx = b;
    if (__get_cpuid(0x80000001u, &a, &b, &c, &d))
        f.extended_ecx = c;
    if (f.leaf1_ecx & bit_OSXSAVE) {
        unsigned low, high;
        __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
        f.saved_state = low;
    }
    return f;
}

static int has(unsigned word, unsigned mask) { return (word & mask) == mask; }

/* AMD's Zen 4 (family 19h) has AVX-512, and executes it as two halves of 32 bytes; Zen 5 (1Ah) does not. */
int fdl_cpu_halves(void)
{
    static int known; /* 1: no, 2: yes; cpuid takes thousands of cycles where a hypervisor answers */
    if (!known) {
        unsigned a, b, c, d;
        const int amd = __get_cpuid(0, &a, &b, &c, &d) && b == signature_AMD_ebx;
        const unsigned version = amd && __get_cpuid(1, &a, &b, &c, &d) ? a : 0;
        known = 1 + (((version >> 8) & 15) + ((version >> 20) & 255) == 0x19);
    }
    return known == 2;
}

int fdl_cpu_supports(const char *level)
{
    const features f = read_features();
    const unsigned lahf = 1u, lzcnt = 1u << 5, f16c = 1u << 29, movbe = 1u << 22, cx16 = 1u << 13;
    const unsigned ymm_state = 0x6, zmm_state = 0xe6; /* XCR0: SSE and AVX; then opmask and ZMM too */
    const int v2 = has(f.leaf1_ecx, bit_SSE3 | bit_SSSE3 | bit_SSE4_1 | bit_SSE4_2 | bit_POPCNT | cx16) &&
                   has(f.extended_ecx, lahf);
    const int v3 = v2 && has(f.saved_state, ymm_state) && has(f.leaf1_ecx, bit_AVX | bit_FMA | f16c | movbe) &&
                   has(f.leaf7_ebx, bit_AVX2 | bit_BMI | bit_BMI2) && has(f.extended_ecx, lzcnt);
    const int v4 = v3 && has(f.saved_state, zmm_state) &&
                   has(f.leaf7_ebx, bit_AVX512F | bit_AVX512BW | bit_AVX512CD | bit_AVX512DQ | bit_AVX512VL);
    if (!strcmp(level, "v4"))
        return v4;
    if (!strcmp(level, "v3"))
        return v3;
    return !strcmp(level, "v2") && v2;
}

#else

int fdl_cpu_halves(void) { return 0; }

/* aarch64 always has NEON; the generic level is whatever the compiler targets by default. */
int fdl_cpu_supports(const char *level) { return !strcmp(level, "neon") || !strcmp(level, "generic"); }

#endif
