/* What PyTorch computes slowly in bfloat16 between products and convolutions, for processors with AVX512_BF16. See
kernels.py, which compiles this file.

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

INLINE norm_group(const bf16 *x, const float *weight, const float *bias, float eps, bf16 *out, long stride,
                  long first, long count, long channels) {
    const bf16 *in = x + first * channels;
    float mean[GROUP], scale[GROUP];
    moments(in, count, eps, mean, scale, channels);
    for (PIXELS_OF_GROUP) {
        bf16 *pixel = out + (first + k) * stride;
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            __m512 normal = (load(in + k * channels + c, some) - mean[k]) * scale[k];
            normal = normal * _mm512_maskz_loadu_ps(some, weight + c) + _mm512_maskz_loadu_ps(some, bias + c);
            store(pixel + c, some, normal);
        }
        if (stride > channels) pixel[channels] = ONE;
    }
}

INLINE norm_block(const bf16 *x, const float *weight, const float *bias, float eps, bf16 *out, long stride,
                  long from, long to, long channels) {
    IN_GROUPS(norm_group, x, weight, bias, eps, out, stride)
}

/* Layer normalisation over the channels of every pixel. Pixels of out, which may be x, lie `stride` apart; where there
is room behind their channels, a one is written there. */
void norm(const bf16 *x, const float *weight, const float *bias, float eps, bf16 *out, long stride,
          long pixels, long channels) {
    ON_ALL_PIXELS(norm_block, x, weight, bias, eps, out, stride)
}

INLINE gate_block(const bf16 *x, bf16 *out, long stride, long from, long to, long channels) {
    for (PIXELS) {
        for (CHANNELS) {
            const bf16 *in = x + 2 * pixel * channels + c;
            __mmask16 some = lanes(channels - c);
            store(out + pixel * stride + c, some, load(in, some) * load(in + channels, some));
        }
        if (stride > channels) out[pixel * stride + channels] = ONE;
    }
}

/* The product of the two halves of x's channels, 2 · channels in all; out as for `norm`. */
void gate(const bf16 *x, bf16 *out, long stride, long pixels, long channels) {
    ON_ALL_PIXELS(gate_block, x, out, stride)
}

INLINE keep_block(const bf16 *x, bf16 *out, long stride, float *total, long from, long to, long channels) {
    for (CHANNELS) {
        __mmask16 some = lanes(channels - c);
        __m512 sums = _mm512_setzero_ps();
        for (PIXELS) {
            __m512 values = load(x + pixel * channels + c, some);
            store(out + pixel * stride + c, some, values);
            sums += values;
        }
        _mm512_mask_storeu_ps(total + c, some, sums);
    }
    if (stride > channels)
        for (PIXELS) out[pixel * stride + channels] = ONE;
}

/* Copies x to out, which is as for `norm`, and adds its pixels up: totals is BLOCKS × channels. */
void keep(const bf16 *x, bf16 *out, long stride, float *totals, long pixels, long channels) {
    ON_ALL_PIXELS(keep_block, x, out, stride, totals + block * channels)
}

INLINE extremes_block(const bf16 *x, bf16 *out, long from, long to, long channels) {
    for (PIXELS) {
        __m512 most = _mm512_set1_ps(-INFINITY), sums = _mm512_setzero_ps();
        for (CHANNELS) {
            __m512 values = load(x + pixel * channels + c, lanes(channels - c));
            most = _mm512_mask_max_ps(most, lanes(channels - c), most, values);
            sums += values;
        }
        __m512 both = _mm512_set1_ps(_mm512_reduce_add_ps(sums) / channels);
        store(out + 2 * pixel, 3, _mm512_mask_mov_ps(both, 1, _mm512_set1_ps(_mm512_reduce_max_ps(most))));
    }
}

/* The largest value and the mean of every pixel. */
void extremes(const bf16 *x, bf16 *out, long pixels, long channels) {
    ON_ALL_PIXELS(extremes_block, x, out)
}

INLINE add_scaled_block(const bf16 *x, const bf16 *scale, bf16 *out, long from, long to, long channels) {
    for (PIXELS) {
        __m512 factor = _mm512_set1_ps(wide(scale[pixel]));
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            bf16 *sum = out + pixel * channels + c;
            store(sum, some, load(sum, some) + load(x + pixel * channels + c, some) * factor);
        }
    }
}

/* Adds x, multiplied by a number for each pixel. */
void add_scaled(const bf16 *x, const bf16 *scale, bf16 *out, long pixels, long channels) {
    ON_ALL_PIXELS(add_scaled_block, x, scale, out)
}

static inline long within(long place, long size) { return place < 0 ? 0 : place < size ? place : size - 1; }

INLINE enlarge_block(const bf16 *x, long height, long width, const bf16 *add, bf16 *out, long first,
                     long from, long to, long channels) {
    for (long row = from; row < to; row++) {
        long near = (first + row) / 2, far = within(near + ((first + row) % 2 ? 1 : -1), height);
        for (long column = 0; column < 2 * width; column++) {
            long beside = within(column / 2 + (column % 2 ? 1 : -1), width), at = (row * 2 * width + column) * channels;
            const bf16 *corners[] = {x + (near * width + column / 2) * channels, x + (near * width + beside) * channels,
                                     x + (far * width + column / 2) * channels, x + (far * width + beside) * channels};
            for (CHANNELS) {
                __mmask16 some = lanes(channels - c);
                __m512 sum = load(corners[0] + c, some) * 0.5625f + load(corners[3] + c, some) * 0.0625f +
                             (load(corners[1] + c, some) + load(corners[2] + c, some)) * 0.1875f;
                if (add) sum += load(add + at + c, some);
                store(out + at + c, some, sum);
            }
        }
    }
}

/* `pixels` rows, from the one numbered `first`, of a height × width map at twice its size, bilinear; and `add`, if it is
not null, which may be out. */
void enlarge(const bf16 *x, long height, long width, const bf16 *add, bf16 *out, long first, long pixels, long channels) {
    ON_ALL_PIXELS(enlarge_block, x, height, width, add, out, first)
}

static inline long start(long place, long window, long size) {
    long first = place - (window - 1) / 2, last = size - window;
    return first < 0 ? 0 : first < last ? first : last;
}

INLINE sums_down_block(const bf16 *x, long height, long window, float *total, float *sums, long top, long bottom,
                       long width, long from, long to, long channels) {
    for (long column = from; column < to; column++)
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            const bf16 *in = x + column * channels + c;
            long at = column * channels + c, line = width * channels, first = start(top - 1, window, height);
            __m512 sum = _mm512_maskz_loadu_ps(some, total + at);
            if (top == 0)
                for (long row = 0; row < window; row++) sum += load(in + row * line, some);
            for (long row = top; row < bottom; row++) {
                for (; first < start(row, window, height); first++)
                    sum += load(in + (first + window) * line, some) - load(in + first * line, some);
                _mm512_mask_storeu_ps(sums + (row - top) * line + at, some, sum);
            }
            _mm512_mask_storeu_ps(total + at, some, sum);
        }
}

/* For rows top to bottom of height × `pixels`, the sums of the `window` rows around each, inside the map. `total` has
those of the row before the first, zeros before row 0, and gets those of the last. */
void sums_down(const bf16 *x, long height, long window, float *total, float *sums, long top, long bottom,
               long pixels, long channels) {
    ON_ALL_PIXELS(sums_down_block, x, height, window, total, sums, top, bottom, pixels)
}

INLINE means_along_block(const float *x, long width, long window, float share, bf16 *out,
                         long from, long to, long channels) {
    for (long row = from; row < to; row++)
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            const float *in = x + row * width * channels + c;
            __m512 sum = _mm512_setzero_ps();
            for (long i = 0; i < window; i++) sum += _mm512_maskz_loadu_ps(some, in + i * channels);
            for (long column = 0, first = 0; column < width; column++) {
                for (; first < start(column, window, width); first++)
                    sum += _mm512_maskz_loadu_ps(some, in + (first + window) * channels) -
                           _mm512_maskz_loadu_ps(some, in + first * channels);
                store(out + (row * width + column) * channels + c, some, sum * share);
            }
        }
}

/* In each of `pixels` rows, the sum of the `window` pixels around every one, inside the row, times `share`. */
void means_along(const float *x, long width, long window, float share, bf16 *out, long pixels, long channels) {
    ON_ALL_PIXELS(means_along_block, x, width, window, share, out)
}

/* What training needs: gradients of the loss by what a function took, from x, which it took, and g, the gradient by what
it gave. `sums` gets those by its parameters, block by block. */

static inline void add(float *sum, __mmask16 some, __m512 x) {
    _mm512_mask_storeu_ps(sum, some, _mm512_maskz_loadu_ps(some, sum) + x);
}

INLINE norm_back_group(const bf16 *x, const bf16 *g, const float *weight, float eps, bf16 *out, float *sums,
                       long first, long count, long channels) {
    const bf16 *in = x + first * channels, *after = g + first * channels;
    float mean[GROUP], scale[GROUP], by_mean[GROUP], by_scale[GROUP];
    __m512 gradients[GROUP] = {}, products[GROUP] = {};
    moments(in, count, eps, mean, scale, channels);
    for (CHANNELS) {
        __mmask16 some = lanes(channels - c);
        __m512 factor = _mm512_maskz_loadu_ps(some, weight + c), by_weight = _mm512_setzero_ps(), by_bias = by_weight;
        for (PIXELS_OF_GROUP) {
            __m512 normal = (load(in + k * channels + c, some) - mean[k]) * scale[k];
            __m512 gradient = load(after + k * channels + c, some);
            by_weight += gradient * normal;
            by_bias += gradient;
            gradients[k] += gradient * factor;
            products[k] += gradient * factor * normal;
        }
        add(sums + c, some, by_weight);
        add(sums + channels + c, some, by_bias);
    }
    _mm512_storeu_ps(by_mean, totals(gradients) / (float)channels);
    _mm512_storeu_ps(by_scale, totals(products) / (float)channels);
    for (PIXELS_OF_GROUP)
        for (CHANNELS) {
            __mmask16 some = lanes(channels - c);
            __m512 normal = (load(in + k * channels + c, some) - mean[k]) * scale[k];
            __m512 gradient = load(after + k * channels + c, some) * _mm512_maskz_loadu_ps(some, weight + c);
            store(out + (first + k) * channels + c, some, (gradient - by_mean[k] - normal * by_scale[k]) * scale[k]);
        }
}

INLINE norm_back_block(const bf16 *x, const bf16 *g, const float *weight, float eps, bf16 *out, float *sums,
                       long from, long to, long channels) {
    for (long i = 0; i < 2 * channels; i++) sums[i] = 0;
    IN_GROUPS(norm_back_group, x, g, weight, eps, out, sums)
}

/* Of `norm`; sums is BLOCKS × 2 × channels, by weight and bias. */
void norm_back(const bf16 *x, const bf16 *g, const float *weight, float eps, bf16 *out, float *sums,
               long pixels, long channels) {
    ON_ALL_PIXELS(norm_back_block, x, g, weight, eps, out, sums + block * 2 * channels)
}

INLINE gate_back_block(const bf16 *x, const bf16 *g, bf16 *out, long from, long to, long channels) {
    for (PIXELS)
        for (CHANNELS) {
            long at = 2 * pixel * channels + c;
            __mmask16 some = lanes(channels - c);
            __m512 gradient = load(g + pixel * channels + c, some);
            store(out + at, some, gradient * load(x + at + channels, some));
            store(out + at + channels, some, gradient * load(x + at, some));
        }
}

/* Of `gate`. */
void gate_back(const bf16 *x, const bf16 *g, bf16 *out, long pixels, long channels) {
    ON_ALL_PIXELS(gate_back_block, x, g, out)
}

INLINE spread_block(const bf16 *x, bf16 *out, long size, long from, long to, long channels) {
    for (PIXELS)
        for (CHANNELS) store(out + pixel * channels + c, lanes(channels - c),
                             load(x + pixel / size * channels + c, lanes(channels - c)));
}

/* Every value of x, one pixel for each image, to all `size` pixels of that image. */
void spread(const bf16 *x, bf16 *out, long size, long pixels, long channels) {
    ON_ALL_PIXELS(spread_block, x, out, size)
}

INLINE depthwise_back_block(const bf16 *x, const bf16 *g, float *sums, long height, long width,
                            long from, long to, long channels) {
    for (CHANNELS) {
        __mmask16 some = lanes(channels - c);
        __m512 by[10] = {};
        for (long row = from; row < to; row++) {
            const bf16 *in = x + row * width * channels + c, *after = g + row * width * channels + c;
            long line = width * channels;
            __mmask16 rows[] = {row % height ? some : 0, some, (row + 1) % height ? some : 0};
            __m512 left[3] = {}, here[3], right[3];
            for (int i = 0; i < 3; i++) here[i] = load(in + (i - 1) * line, rows[i]);
            for (long column = 0; column < width; column++) {
                __m512 gradient = load(after + column * channels, some);
                for (int i = 0; i < 3; i++) {
                    right[i] = load(in + (i - 1) * line + (column + 1) * channels, column + 1 < width ? rows[i] : 0);
                    by[3 * i] += gradient * left[i];
                    by[3 * i + 1] += gradient * here[i];
                    by[3 * i + 2] += gradient * right[i];
                    left[i] = here[i];
                    here[i] = right[i];
                }
                by[9] += gradient;
            }
        }
        for (int i = 0; i < 10; i++) _mm512_mask_storeu_ps(sums + i * channels + c, some, by[i]);
    }
}

/* Of a zero-padded depthwise 3×3 convolution, by weight and bias alone; `pixels` rows of images of that height and
width; sums is BLOCKS × 10 × channels. */
void depthwise_back(const bf16 *x, const bf16 *g, float *sums, long height, long width, long pixels, long channels) {
    ON_ALL_PIXELS(depthwise_back_block, x, g, sums + block * 10 * channels, height, width)
}
