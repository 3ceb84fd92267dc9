/* What PyTorch computes slowly in bfloat16 between products and convolutions, for processors with AVX512_BF16. */

#include "kernels.h"

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
