/* Matrix products whose right operand lies packed: C (M, N) = A (M, K) B (K, N).

   The weights of a recurrent step serve T times, so that they can be laid out once as the processor
   wants them: panels of PANEL columns, each (K, PANEL) in one piece.  A tile of C stays in registers
   while all of K goes by.  No general library can know this; it packs anew at every call.          */

#pragma once

#include "common.h"

#if defined(__AVX512F__)
#define LANE 16 /* floats of a vector */
#define TILE 8  /* rows of a tile; TILE × 2 vectors are its sums */
#elif defined(__AVX__)
#define LANE 8
#define TILE 6
#else
#define LANE 4
#define TILE 6
#endif
#define PANEL (2 * LANE)

typedef float vec __attribute__((vector_size(4 * LANE), aligned(4), may_alias));
typedef int32_t pair __attribute__((may_alias, aligned(2))); /* bfloat16 of k and of k + 1 */

static inline vec madd_f32(float a, const float *b, vec sum) { return a * *(const vec *)b + sum; }

#if defined(__AVX512BF16__) /* elsewhere there are no products of bfloat16 */
#include <immintrin.h>
static inline vec madd_bf16(pair a, const pair *b, vec sum) {
  __m512bh left = (__m512bh)_mm512_set1_epi32(a), right = (__m512bh)_mm512_loadu_si512(b);
  return (vec)_mm512_dpbf16_ps((__m512)sum, left, right);
}
#endif

/* C (rows, PANEL), its rows `lead` apart, = or += A B for one panel B.  Element (r, k) of A is
   A[r row + k step].  Of bfloat16 an element is a pair, and K counts pairs. */
#define PRODUCT(T, E)                                                                             \
  static inline __attribute__((always_inline)) void tile_##T(                                     \
      const int rows, long K, const E *A, long row, long step, const E *B, float *C, long lead,   \
      int add) {                                                                                  \
    vec sum[TILE][2];                                                                             \
    _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                                        \
      _Pragma("GCC unroll 2") for (int j = 0; j < 2; j++)                                         \
        sum[r][j] = add ? *(vec *)(C + r * lead + j * LANE) : (vec){0};                           \
    for (long k = 0; k < K; k++) {                                                                \
      const E *b = B + k * PANEL;                                                                 \
      _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++) {                                    \
        E a = A[r * row + k * step];                                                              \
        sum[r][0] = madd_##T(a, b, sum[r][0]);                                                    \
        sum[r][1] = madd_##T(a, b + LANE, sum[r][1]);                                             \
      }                                                                                           \
    }                                                                                             \
    _Pragma("GCC unroll 8") for (int r = 0; r < rows; r++)                                        \
      _Pragma("GCC unroll 2") for (int j = 0; j < 2; j++)                                         \
        *(vec *)(C + r * lead + j * LANE) = sum[r][j];                                            \
  }                                                                                               \
  static void panel_##T(long M, long K, const E *A, long row, long step, const E *B, float *C,    \
                        long lead, int add) {                                                     \
    long m = 0;                                                                                   \
    for (; m + TILE <= M; m += TILE)                                                              \
      tile_##T(TILE, K, A + m * row, row, step, B, C + m * lead, lead, add);                      \
    for (; m + 2 <= M; m += 2)                                                                    \
      tile_##T(2, K, A + m * row, row, step, B, C + m * lead, lead, add);                         \
    if (m < M) tile_##T(1, K, A + m * row, row, step, B, C + m * lead, lead, add);                \
  }

PRODUCT(f32, float)
#if defined(__AVX512BF16__)
PRODUCT(bf16, pair)
#endif
