/* Steps of unrolled layers, each from its inputs to its outputs in one go, and their gradients.

     lstm_*      recurrent.py   LSTM (`cell` on a product)
     linear_*    recurrent.py   Linear
     cell_*      recurrent.py   cell, on gates that were made elsewhere
     pack_*      packing.py     weights laid out for products
     gradient_*  packing.py     WeightGradAccumulator: the gradient of weights from many rows

   A layer's operand x (B, K) is its inputs side by side, then 1 (there Σ gᵀ x holds the bias's
   gradient) and zeros.  Rows pass through in blocks. */

#include "product.h"

/* An input, or where its gradient goes: columns of a float matrix whose rows lie `stride` apart. */
typedef struct { float *at; long width, stride; } Part;

#define BLOCK 64 /* rows that pass through a panel together, at most */

#define BLOCKS                                                                                    \
  for (long first = from; first < to; first += BLOCK) {                                           \
    long rows = min_(BLOCK, to - first);
#define END }

EXPORT long panel(void) { return PANEL; }

/* How a type counts: values of an element that multiplies at once. */
#define EACH_f32 1
#define EACH_bf16 2
typedef float element_f32;
typedef pair element_bf16;

#define LAYERS(T)                                                                                 \
  /* W (N, K), rows `lead` and columns `step` apart, as panels (n, K, PANEL) for x Wᵀ; N is in     \
     `groups`, each filled up with zeros to whole panels, K likewise to `padded` rows.            \
     The rows that are shared among threads are the panels. */                                    \
  EXPORT void pack_##T(long from, long to, long N, long K, long lead, long step, long groups,     \
                       long padded, const float *W, T *out) {                                     \
    long each = N / groups, panels = (each + PANEL - 1) / PANEL;                                  \
    ROWS(p) {                                                                                     \
      long top = p / panels * each, left = p % panels * PANEL;                                    \
      for (long k = 0; k < padded; k++)                                                           \
        for (long j = 0; j < PANEL; j++) {                                                        \
          int real = k < K && left + j < each;                                                    \
          long e = k % EACH_##T, at = (p * padded + k - e) * PANEL + j * EACH_##T + e;            \
          out[at] = to_##T(real ? W[(top + left + j) * lead + k * step] : 0.0f);                  \
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
  /* W: packed in 4 groups.  shift (B, 4U) or NULL: what is added to the pre-activations.         \
     gates (B, 4U): activations, kept for the backward pass. */                                   \
  EXPORT void lstm_forward_##T(long from, long to, long U, long K, const Part *parts,             \
                               long count, const T *W, const float *bias, const float *shift,     \
                               const float *c, T *x, T *gates,                                    \
                               float *c_next, float *h_next) {                                    \
    long panels = (U + PANEL - 1) / PANEL;                                                        \
    BLOCKS                                                                                        \
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
          const float *S = shift + (first + r) * 4 * U + u;                                       \
          T *G = gates + (first + r) * 4 * U + u;                                                 \
          for (long gate = 0; shift && gate < 4; gate++)                                          \
            for (long k = 0; k < n; k++) sums[(r * 4 + gate) * PANEL + k] += S[gate * U + k];     \
          cell_##T(n, U, sums + r * 4 * PANEL, bias + u, c + at, c_next + at, h_next + at, G,     \
                   G + U, G + 2 * U, G + 3 * U);                                                  \
        }                                                                                         \
      }                                                                                           \
    END                                                                                           \
  }                                                                                               \
  /* dh, dc: gradients of h', c'.  Out: dgates (B, N) of the pre-activations, N = 4U padded with  \
     zeros; dshift (B, 4U), the same, if not NULL; dc_prev (B, U); the parts of dgates W.         \
     W: packed columns. */                                                                        \
  EXPORT void lstm_backward_##T(long from, long to, long U, long N, const T *gates,               \
                                const float *c,                                                   \
                                const float *c_next, const float *dh, const float *dc,            \
                                const T *W, T *dgates, float *dshift, float *dc_prev,             \
                                const Part *parts, long count) {                                  \
    BLOCKS                                                                                        \
      for (long b = first; b < first + rows; b++) {                                               \
        T *D = dgates + b * N;                                                                    \
        cell_back_##T(U, gates + b * 4 * U, c + b * U, c_next + b * U, dh + b * U, dc + b * U, D, \
                      D + U, D + 2 * U, D + 3 * U, dc_prev + b * U);                              \
        for (long k = 4 * U; k < N; k++) D[k] = to_##T(0.0f);                                     \
        for (long k = 0; dshift && k < 4 * U; k++) dshift[b * 4 * U + k] = from_##T(D[k]);        \
      }                                                                                           \
      scatter_##T(first, rows, N, dgates, W, parts, count);                                       \
    END                                                                                           \
  }                                                                                               \
                                                                                                  \
  /* given (B, 4U): pre-activations less their bias. */                                           \
  EXPORT void cell_forward_##T(long from, long to, long U, const T *given, const float *bias,     \
                               const float *c,                                                    \
                               T *gates, float *c_next, float *h_next) {                          \
    ROWS(b)                                                                                       \
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
  EXPORT void cell_backward_##T(long from, long to, long U, const T *gates, const float *c,       \
                                const float *c_next, const float *dh, const float *dc, T *dgates, \
                                float *dc_prev) {                                                 \
    ROWS(b) {                                                                                     \
      T *D = dgates + b * 4 * U;                                                                  \
      cell_back_##T(U, gates + b * 4 * U, c + b * U, c_next + b * U, dh + b * U, dc + b * U, D,   \
                    D + U, D + 2 * U, D + 3 * U, dc_prev + b * U);                                \
    }                                                                                             \
  }                                                                                               \
                                                                                                  \
  /* ---- Linear: x Wᵀ + b, out (B, N) ---- */                                                     \
                                                                                                  \
  EXPORT void linear_forward_##T(long from, long to, long N, long K, const Part *parts,           \
                                 long count,                                                      \
                                 const T *W, const float *bias, T *x, float *out) {               \
    BLOCKS                                                                                        \
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
  EXPORT void linear_backward_##T(long from, long to, long N, const Part *given, const T *W,      \
                                  T *g,                                                           \
                                  const Part *parts, long count) {                                \
    BLOCKS                                                                                        \
      gather_##T(first, rows, N, given, 1, 0.0f, g);                                              \
      scatter_##T(first, rows, N, g, W, parts, count);                                            \
    END                                                                                           \
  }

/* ---- Weight gradients ---- */

#define STRIP 256 /* elements of the rows, pairs of them in bfloat16, that are worked on at a time */
#define TALL 64   /* outputs, likewise */

/* (STRIP, wide) elements of R rows from `top` on and `wide` columns, of which `columns` exist. */
static inline void strip_f32(const f32 *at, long R, long lead, long top, long columns,
                             const long wide, f32 *out) {
  for (long r = top; r < min_(R, top + STRIP); r++, out += wide)
    for (long j = 0; j < wide; j++) out[j] = j < columns ? at[r * lead + j] : 0.0f;
}
static inline void strip_bf16(const bf16 *at, long R, long lead, long top, long columns,
                              const long wide, bf16 *out) {
  static const bf16 zeros[PANEL];
  for (long r = top; r < min_(R, top + 2 * STRIP); r += 2, out += 2 * wide) {
    const bf16 *first = at + r * lead, *second = r + 1 < R ? first + lead : zeros;
    if (columns == wide)
      for (long j = 0; j < wide; j++) ((pair *)out)[j] = first[j] | (pair)second[j] << 16;
    else
      for (long j = 0; j < wide; j++)
        ((pair *)out)[j] = j < columns ? first[j] | (pair)second[j] << 16 : 0;
  }
}

#define GRADIENT(T, EACH)                                                                         \
  /* whole tiles apart and by themselves: so they stay in registers, at twice the speed */        \
  static __attribute__((noinline)) void block_##T(long rows, long K, const T *A, const T *B,      \
                                                  float *C, long lead, int add) {                 \
    const element_##T *a = (element_##T *)A, *b = (element_##T *)B;                               \
    if (rows == TILE) tile_##T(TILE, K, a, 1, TILE, b, C, lead, add);                             \
    else panel_##T(rows, K, a, 1, TILE, b, C, lead, add);                                         \
  }                                                                                               \
  /* sums (N, padded K) = or += gᵀ x for g (R, N), x (R, K), K padded to whole panels.  Threads    \
     share the panels. */                                                                         \
  EXPORT void gradient_##T(long from, long to, long R, long N, long K, const T *g, const T *x,    \
                           float *sums, long add) {                                               \
    long lead = (K + PANEL - 1) / PANEL * PANEL;                                                  \
    T *right = malloc(sizeof(T) * EACH * STRIP * PANEL * (size_t)(to - from));                    \
    T left[EACH * STRIP * TALL] __attribute__((aligned(64)));                                     \
    for (long top = 0; top < R; top += EACH * STRIP) {                                            \
      long depth = min_(STRIP, (R - top + EACH - 1) / EACH);                                      \
      for (long p = from; p < to; p++)                                                            \
        strip_##T(x + p * PANEL, R, K, top, min_(PANEL, K - p * PANEL), PANEL,                    \
                  right + (p - from) * EACH * STRIP * PANEL);                                     \
      for (long low = 0; low < N; low += TALL) {                                                  \
        long high = min_(N, low + TALL);                                                          \
        for (long n = low; n < high; n += TILE)                                                   \
          strip_##T(g + n, R, N, top, min_(TILE, N - n), TILE, left + (n - low) * EACH * STRIP);  \
        for (long p = from; p < to; p++)                                                          \
          for (long n = low; n < high; n += TILE)                                                 \
            block_##T(min_(TILE, N - n), depth, left + (n - low) * EACH * STRIP,                  \
                      right + (p - from) * EACH * STRIP * PANEL, sums + n * lead + p * PANEL,     \
                      lead, add || top);                                                          \
      }                                                                                           \
    }                                                                                             \
    free(right);                                                                                  \
  }

GRADIENT(f32, 1)
#if defined(__AVX512BF16__)
GRADIENT(bf16, 2)
#endif

LAYERS(f32)
#if defined(__AVX512BF16__)
LAYERS(bf16)
#endif
