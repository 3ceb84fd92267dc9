/* Gradients in bfloat16: of a loss by what a function took, from x, which it took, and g, the gradient by what it gave.
`sums` gets those by its parameters, block by block. */

#include "kernels.h"

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
