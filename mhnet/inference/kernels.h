/* What the loops in C share: see kernels.py, which compiles them.

Maps lie pixel by pixel, `channels` values each. Arithmetic is in float, sixteen channels at a time. Work is shared by
the threads that PyTorch uses, in blocks whose number does not depend on them: sums come out the same with any. */

#include <immintrin.h>
#include <math.h> /* INFINITY */
#include <stdint.h>

enum { BLOCKS = 64, ONE = 0x3f80 };
typedef uint16_t bf16; /* the upper half of a float */

/* Which of sixteen lanes hold channels, where so many are left. */
static inline __mmask16 lanes(long left) { return left < 16 ? (1u << left) - 1 : 0xffff; }

static inline __m512 load(const bf16 *x, __mmask16 lanes) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, x)), 16));
}

static inline float wide(bf16 x) { return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(x << 16))); }

static inline void store(bf16 *out, __mmask16 lanes, __m512 x) {
    _mm256_mask_storeu_epi16(out, lanes, (__m256i)_mm512_cvtneps_pbh(x));
}

#define INLINE static inline __attribute__((always_inline)) void
#define CHANNELS long c = 0; c < channels; c += 16
#define PIXELS long pixel = from; pixel < to; pixel++

/* `work` on all pixels, in blocks; with usual numbers of channels as constants, which makes its loops fast. */
#define ON_ALL_PIXELS(work, ...) \
    _Pragma("omp parallel for schedule(static)") \
    for (long block = 0; block < BLOCKS; block++) { \
        long from = pixels * block / BLOCKS, to = pixels * (block + 1) / BLOCKS; \
        switch (channels) { \
        case 8: work(__VA_ARGS__, from, to, 8); break; \
        case 16: work(__VA_ARGS__, from, to, 16); break; \
        case 32: work(__VA_ARGS__, from, to, 32); break; \
        case 64: work(__VA_ARGS__, from, to, 64); break; \
        default: work(__VA_ARGS__, from, to, channels); \
        } \
    }

enum { GROUP = 16 }; /* pixels that norms are computed of together, whose loops are unrolled */
#define PIXELS_OF_GROUP long k = 0; k < count; k++
#define IN_GROUPS(work, ...) \
    for (long first = from; first < to; first += GROUP) \
        if (to - first < GROUP) work(__VA_ARGS__, first, to - first, channels); \
        else work(__VA_ARGS__, first, GROUP, channels);

/* The sum of each of sixteen vectors. */
static inline __m512 totals(const __m512 *x) {
    __m512 fours[4];
    for (int i = 0; i < 4; i++) {
        __m512d half[2];
        for (int j = 0; j < 2; j++) {
            __m512 one = x[4 * i + 2 * j], other = x[4 * i + 2 * j + 1];
            half[j] = _mm512_castps_pd(_mm512_unpacklo_ps(one, other) + _mm512_unpackhi_ps(one, other));
        }
        fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(half[0], half[1])) +
                   _mm512_castpd_ps(_mm512_unpackhi_pd(half[0], half[1]));
    }
    for (int i = 0; i < 4; i += 2)
        fours[i] = _mm512_shuffle_f32x4(fours[i], fours[i + 1], 0x44) + _mm512_shuffle_f32x4(fours[i], fours[i + 1], 0xee);
    return _mm512_shuffle_f32x4(fours[0], fours[2], 0x88) + _mm512_shuffle_f32x4(fours[0], fours[2], 0xdd);
}

/* The mean of each pixel's values, and what they are multiplied by to have a variance of one. */
INLINE moments(const bf16 *x, long count, float eps, float *mean, float *scale, long channels) {
    __m512 sums[GROUP] = {}, squares[GROUP] = {};
    for (PIXELS_OF_GROUP)
        for (CHANNELS) sums[k] += load(x + k * channels + c, lanes(channels - c));
    _mm512_storeu_ps(mean, totals(sums) / (float)channels);
    for (PIXELS_OF_GROUP)
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            __m512 apart = _mm512_maskz_sub_ps(some, load(x + k * channels + c, some), _mm512_set1_ps(mean[k]));
            squares[k] += apart * apart;
        }
    _mm512_storeu_ps(scale, _mm512_rsqrt14_ps(totals(squares) / (float)channels + eps));
}
