/* What all kernels share: number types, e^x, and the loop over the rows that are a thread's share.

   Every exported function has a readable twin in PyTorch, its specification and its test, named at
   the head of its file.  Tensors are dense and row-major.  Operands of matrix products are float or
   bfloat16 (suffix f32, bf16); all else is float.  A kernel does rows from .. to - 1 and no others:
   team.c says who does the rest.

   B images, C channels, H W pixels, N window side, K U Z columns, recurrent units, latents.      */

#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))
#define ROWS(b) for (long b = from; b < to; b++)

typedef float f32;
typedef uint16_t bf16;

static inline float from_bf16(bf16 v) {
  uint32_t bits = (uint32_t)v << 16;
  float f;
  memcpy(&f, &bits, 4);
  return f;
}
static inline bf16 to_bf16(float f) { /* round to nearest even; NaN stays NaN */
  uint32_t bits;
  memcpy(&bits, &f, 4);
  uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  return (bf16)(f == f ? rounded : 0x7fc0);
}
static inline float from_f32(float v) { return v; }
static inline float to_f32(float v) { return v; }

static inline long min_(long a, long b) { return a < b ? a : b; }
static inline long max_(long a, long b) { return a > b ? a : b; }

/* e^x to 5e-7 relative: x = n ln 2 + r, a polynomial for e^r, and 2^n by its exponent bits.
   The comparisons are written so that NaN comes out as NaN. */
static inline float fast_exp(float x) {
  x = x < -87.0f ? -87.0f : x;
  x = x > 88.0f ? 88.0f : x;
  float n = __builtin_rintf(x * 1.44269504f);
  float r = x - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  float p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666672f + r * (0.0416664853f
            + r * (0.00833336077f + r * 0.00139304355f)))));
  int32_t bits = ((int32_t)(n != n ? 0.0f : n) + 127) << 23;
  float scale;
  memcpy(&scale, &bits, 4);
  return p * scale;
}
static inline float sigmoid(float x) { return 1.0f / (1.0f + fast_exp(-x)); }
static inline float tanh_(float x) { return 2.0f / (1.0f + fast_exp(-2.0f * x)) - 1.0f; }
