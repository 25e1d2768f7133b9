/* Steps of unrolled layers, each from its inputs to its outputs in one go, and their gradients.

     lstm_*     recurrence.py   LSTM (`cell` on a product)
     linear_*   recurrence.py   Linear
     cell_*     recurrence.py   cell, on gates that were made elsewhere
     pack_*     recurrence.py   Unroll (weights laid out)

   A layer's operand x (B, K) is its inputs side by side, then 1 (there Σ gᵀ x holds the bias's
   gradient) and zeros.  Threads take blocks of rows and never wait for one another within a step. */

#include "product.h"
#include <omp.h>

/* An input, or where its gradient goes: columns of a float matrix whose rows lie `stride` apart. */
typedef struct { float *at; long width, stride; } Part;

#define BLOCK 64 /* rows that pass through a panel together, at most */

static long block(long B) {
  long share = (B + omp_get_max_threads() - 1) / omp_get_max_threads();
  return min_(BLOCK, (share + TILE - 1) / TILE * TILE);
}
#define BLOCKS(B)                                                                                 \
  long height = block(B);                                                                         \
  PARALLEL for (long first = 0; first < B; first += height) {                                     \
    long rows = min_(height, B - first);
#define END }

EXPORT long panel(void) { return PANEL; }

/* How a type counts: values of an element that multiplies at once. */
#define EACH_f32 1
#define EACH_bf16 2
typedef float element_f32;
typedef pair element_bf16;

#define LAYERS(T)                                                                                 \
  /* W (N, K), rows `lead` and columns `step` apart, as panels (n, K, PANEL) for x Wᵀ; N is in     \
     `groups`, each filled up with zeros to whole panels, K likewise to `padded` rows. */         \
  EXPORT void pack_##T(long N, long K, long lead, long step, long groups, long padded,            \
                       const float *W, T *out) {                                                  \
    long each = N / groups, panels = (each + PANEL - 1) / PANEL;                                  \
    PARALLEL for (long p = 0; p < groups * panels; p++) {                                         \
      long top = p / panels * each, from = p % panels * PANEL;                                    \
      for (long k = 0; k < padded; k++)                                                           \
        for (long j = 0; j < PANEL; j++) {                                                        \
          int real = k < K && from + j < each;                                                    \
          long e = k % EACH_##T, at = (p * padded + k - e) * PANEL + j * EACH_##T + e;            \
          out[at] = to_##T(real ? W[(top + from + j) * lead + k * step] : 0.0f);                  \
        }                                                                                         \
    }                                                                                             \
  }                                                                                               \
                                                                                                  \
  /* x = parts side by side, then `after` and zeros */                                            \
  static void gather_##T(long first, long rows, long K, const Part *parts, long count,            \
                         float after, T *x) {                                                     \
    for (long b = first; b < first + rows; b++) {                                                 \
      T *restrict to = x + b * K, *end = to + K;                                                  \
      for (long p = 0; p < count; p++) {                                                          \
        const float *restrict from = parts[p].at + b * parts[p].stride;                           \
        for (long k = 0; k < parts[p].width; k++) to[k] = to_##T(from[k]);                        \
        to += parts[p].width;                                                                     \
      }                                                                                           \
      for (float next = after; to < end; next = 0.0f) *to++ = to_##T(next);                       \
    }                                                                                             \
  }                                                                                               \
                                                                                                  \
  /* parts of g W, whose panels are W's columns; panels that no part wants are left out */         \
  static void scatter_##T(long first, long rows, long N, const T *g, const T *W,                  \
                          const Part *parts, long count) {                                        \
    float sums[BLOCK * PANEL] __attribute__((aligned(64)));                                       \
    long left = 0, done = -1;                                                                     \
    for (long p = 0; p < count; left += parts[p++].width) {                                       \
      if (!parts[p].at) continue;                                                                 \
      long right = left + parts[p].width;                                                         \
      for (long at = left / PANEL * PANEL; at < right; at += PANEL) {                             \
        if (at != done)                                                                           \
          panel_##T(rows, N / EACH_##T, (element_##T *)(g + first * N), N / EACH_##T, 1,          \
                    (element_##T *)(W + at * N), sums, PANEL, 0);                                 \
        done = at;                                                                                \
        long low = max_(left, at), high = min_(right, at + PANEL);                                \
        for (long r = 0; r < rows; r++)                                                           \
          memcpy(parts[p].at + (first + r) * parts[p].stride + low - left,                        \
                 sums + r * PANEL + low - at, sizeof(float) * (size_t)(high - low));              \
      }                                                                                           \
    }                                                                                             \
  }                                                                                               \
                                                                                                  \
  /* ---- LSTM: i f g o = σ σ tanh σ (x Wᵀ + b);  c' = f c + i g;  h' = o tanh c' ---- */          \
                                                                                                  \
  /* n units of one row; the gates' pre-activations lie PANEL apart, their activations U. */      \
  static void cell_##T(long n, long U, const float *restrict sums, const float *restrict bias,    \
                       const float *restrict c, float *restrict c_next, float *restrict h_next,   \
                       T *restrict i_, T *restrict f_, T *restrict g_, T *restrict o_) {          \
    for (long k = 0; k < n; k++) {                                                                \
      float i = sigmoid(sums[k] + bias[k]);                                                       \
      float f = sigmoid(sums[PANEL + k] + bias[U + k]);                                           \
      float g = tanh_(sums[2 * PANEL + k] + bias[2 * U + k]);                                     \
      float o = sigmoid(sums[3 * PANEL + k] + bias[3 * U + k]);                                   \
      float c_new = f * c[k] + i * g;                                                             \
      c_next[k] = c_new;                                                                          \
      h_next[k] = o * tanh_(c_new);                                                               \
      i_[k] = to_##T(i), f_[k] = to_##T(f), g_[k] = to_##T(g), o_[k] = to_##T(o);                 \
    }                                                                                             \
  }                                                                                               \
  static void cell_back_##T(long U, const T *restrict G, const float *restrict c,                 \
                            const float *restrict c_next, const float *restrict dh,               \
                            const float *restrict dc, T *restrict di, T *restrict df,             \
                            T *restrict dg, T *restrict do_, float *restrict dc_prev) {           \
    for (long k = 0; k < U; k++) {                                                                \
      float i = from_##T(G[k]), f = from_##T(G[U + k]);                                           \
      float g = from_##T(G[2 * U + k]), o = from_##T(G[3 * U + k]);                               \
      float t = tanh_(c_next[k]);                                                                 \
      float d = dc[k] + dh[k] * o * (1.0f - t * t);                                               \
      di[k] = to_##T(d * g * i * (1.0f - i));                                                     \
      df[k] = to_##T(d * c[k] * f * (1.0f - f));                                                  \
      dg[k] = to_##T(d * i * (1.0f - g * g));                                                     \
      do_[k] = to_##T(dh[k] * t * o * (1.0f - o));                                                \
      dc_prev[k] = d * f;                                                                         \
    }                                                                                             \
  }                                                                                               \
  /* W: packed in 4 groups.  gates (B, 4U): activations, kept for the backward pass. */           \
  EXPORT void lstm_forward_##T(long B, long U, long K, const Part *parts, long count,             \
                               const T *W, const float *bias, const float *c, T *x, T *gates,     \
                               float *c_next, float *h_next) {                                    \
    long panels = (U + PANEL - 1) / PANEL;                                                        \
    BLOCKS(B)                                                                                     \
      float sums[BLOCK * 4 * PANEL] __attribute__((aligned(64)));                                 \
      gather_##T(first, rows, K, parts, count, 1.0f, x);                                          \
      for (long p = 0; p < panels; p++) {                                                         \
        long u = p * PANEL, n = min_(PANEL, U - u);                                               \
        for (long gate = 0; gate < 4; gate++)                                                     \
          panel_##T(rows, K / EACH_##T, (element_##T *)(x + first * K), K / EACH_##T, 1,          \
                    (element_##T *)(W + (gate * panels + p) * PANEL * K), sums + gate * PANEL,    \
                    4 * PANEL, 0);                                                                \
        for (long r = 0; r < rows; r++) {                                                         \
          long at = (first + r) * U + u;                                                          \
          T *G = gates + (first + r) * 4 * U + u;                                                 \
          cell_##T(n, U, sums + r * 4 * PANEL, bias + u, c + at, c_next + at, h_next + at, G,     \
                   G + U, G + 2 * U, G + 3 * U);                                                  \
        }                                                                                         \
      }                                                                                           \
    END                                                                                           \
  }                                                                                               \
  /* dh, dc: gradients of h', c'.  Out: dgates (B, N) of the pre-activations, N = 4U padded with  \
     zeros; dc_prev (B, U); the parts of dgates W.  W: packed columns. */                         \
  EXPORT void lstm_backward_##T(long B, long U, long N, const T *gates, const float *c,           \
                                const float *c_next, const float *dh, const float *dc,            \
                                const T *W, T *dgates, float *dc_prev, const Part *parts,         \
                                long count) {                                                     \
    BLOCKS(B)                                                                                     \
      for (long b = first; b < first + rows; b++) {                                               \
        T *D = dgates + b * N;                                                                    \
        cell_back_##T(U, gates + b * 4 * U, c + b * U, c_next + b * U, dh + b * U, dc + b * U, D, \
                      D + U, D + 2 * U, D + 3 * U, dc_prev + b * U);                              \
        for (long k = 4 * U; k < N; k++) D[k] = to_##T(0.0f);                                     \
      }                                                                                           \
      scatter_##T(first, rows, N, dgates, W, parts, count);                                       \
    END                                                                                           \
  }                                                                                               \
                                                                                                  \
  /* given (B, 4U): pre-activations less their bias. */                                           \
  EXPORT void cell_forward_##T(long B, long U, const T *given, const float *bias, const float *c, \
                               T *gates, float *c_next, float *h_next) {                          \
    PARALLEL for (long b = 0; b < B; b++)                                                         \
      for (long u = 0; u < U; u += PANEL) {                                                       \
        long n = min_(PANEL, U - u), at = b * U + u;                                              \
        float sums[4 * PANEL];                                                                    \
        T *G = gates + b * 4 * U + u;                                                             \
        for (long gate = 0; gate < 4; gate++)                                                     \
          for (long k = 0; k < n; k++)                                                            \
            sums[gate * PANEL + k] = from_##T(given[b * 4 * U + gate * U + u + k]);               \
        cell_##T(n, U, sums, bias + u, c + at, c_next + at, h_next + at, G, G + U, G + 2 * U,     \
                 G + 3 * U);                                                                      \
      }                                                                                           \
  }                                                                                               \
  EXPORT void cell_backward_##T(long B, long U, const T *gates, const float *c,                   \
                                const float *c_next, const float *dh, const float *dc, T *dgates, \
                                float *dc_prev) {                                                 \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      T *D = dgates + b * 4 * U;                                                                  \
      cell_back_##T(U, gates + b * 4 * U, c + b * U, c_next + b * U, dh + b * U, dc + b * U, D,   \
                    D + U, D + 2 * U, D + 3 * U, dc_prev + b * U);                                \
    }                                                                                             \
  }                                                                                               \
                                                                                                  \
  /* ---- Linear: x Wᵀ + b, out (B, N) ---- */                                                     \
                                                                                                  \
  EXPORT void linear_forward_##T(long B, long N, long K, const Part *parts, long count,           \
                                 const T *W, const float *bias, T *x, float *out) {               \
    BLOCKS(B)                                                                                     \
      float sums[BLOCK * PANEL] __attribute__((aligned(64)));                                     \
      gather_##T(first, rows, K, parts, count, 1.0f, x);                                          \
      for (long at = 0; at < N; at += PANEL) {                                                    \
        panel_##T(rows, K / EACH_##T, (element_##T *)(x + first * K), K / EACH_##T, 1,            \
                  (element_##T *)(W + at * K), sums, PANEL, 0);                                   \
        long n = min_(PANEL, N - at);                                                             \
        for (long r = 0; r < rows; r++)                                                           \
          for (long k = 0; k < n; k++)                                                            \
            out[(first + r) * N + at + k] = sums[r * PANEL + k] + bias[at + k];                   \
      }                                                                                           \
    END                                                                                           \
  }                                                                                               \
  /* given: the gradient of out, one part; g (B, N): the same as an operand, padded with zeros. */ \
  EXPORT void linear_backward_##T(long B, long N, const Part *given, const T *W, T *g,            \
                                  const Part *parts, long count) {                                \
    BLOCKS(B)                                                                                     \
      gather_##T(first, rows, N, given, 1, 0.0f, g);                                              \
      scatter_##T(first, rows, N, g, W, parts, count);                                            \
    END                                                                                           \
  }

LAYERS(f32)
#if defined(__AVX512BF16__)
LAYERS(bf16)
#endif
