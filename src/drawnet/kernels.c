/* The small operations of a recurrent step, each fused into one pass over its operands.

   Every function here has a readable twin in PyTorch, which is its specification and its test:
     lstm_*       recurrence.py   cell
     gaussian_*   probability.py  sample_and_kl
     error_*      probability.py  error_image
     pack, affine recurrence.py   _Product, Linear
     read_*       attention.py    read
     write_*      attention.py    write
   Tensors are dense and row-major; images are independent and spread over the threads.
   Matrices that feed a matrix product are float or bfloat16 (suffix f32, bf16); all else is float.

   B images, C channels, H W pixels, N window side, K recurrent units, Z latents.            */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LIMIT 12.0f /* attention.LIMIT */
#define EXPORT __attribute__((visibility("default")))
#define PARALLEL _Pragma("omp parallel for schedule(static)")

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

static inline float minf(float a, float b) { return a < b ? a : b; }
static inline float maxf(float a, float b) { return a > b ? a : b; }

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

/* ---- LSTM cell: i f g o = σ σ tanh σ (gates + bias);  c' = f c + i g;  h = o tanh c' ---------- */

#define LSTM(T)                                                                                   \
  static void lstm_row_##T(long K, T *restrict i_, T *restrict f_, T *restrict g_, T *restrict o_, \
                           const float *restrict bias, const float *restrict c,                   \
                           float *restrict c_next, float *restrict h_next) {                      \
    for (long k = 0; k < K; k++) {                                                                \
      float i = sigmoid(from_##T(i_[k]) + bias[k]);                                               \
      float f = sigmoid(from_##T(f_[k]) + bias[K + k]);                                           \
      float g = tanh_(from_##T(g_[k]) + bias[2 * K + k]);                                         \
      float o = sigmoid(from_##T(o_[k]) + bias[3 * K + k]);                                       \
      float c_new = f * c[k] + i * g;                                                             \
      c_next[k] = c_new;                                                                          \
      h_next[k] = o * tanh_(c_new);                                                               \
      i_[k] = to_##T(i), f_[k] = to_##T(f), g_[k] = to_##T(g), o_[k] = to_##T(o);                 \
    }                                                                                             \
  }                                                                                               \
  static void lstm_back_row_##T(long K, const T *restrict G, const float *restrict c,             \
                                const float *restrict c_next, const float *restrict dh,           \
                                const float *restrict dc, T *restrict di, T *restrict df,         \
                                T *restrict dg, T *restrict do_, float *restrict dc_prev) {       \
    for (long k = 0; k < K; k++) {                                                                \
      float i = from_##T(G[k]), f = from_##T(G[K + k]);                                           \
      float g = from_##T(G[2 * K + k]), o = from_##T(G[3 * K + k]);                               \
      float t = tanh_(c_next[k]);                                                                 \
      float d = dc[k] + dh[k] * o * (1.0f - t * t);                                               \
      di[k] = to_##T(d * g * i * (1.0f - i));                                                     \
      df[k] = to_##T(d * c[k] * f * (1.0f - f));                                                  \
      dg[k] = to_##T(d * i * (1.0f - g * g));                                                     \
      do_[k] = to_##T(dh[k] * t * o * (1.0f - o));                                                \
      dc_prev[k] = d * f;                                                                         \
    }                                                                                             \
  }                                                                                               \
  /* gates (B, 4K): pre-activations in, activations out. */                                       \
  EXPORT void lstm_forward_##T(long B, long K, T *gates, const float *bias, const float *c,       \
                               float *c_next, float *h_next) {                                    \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      T *G = gates + b * 4 * K;                                                                   \
      lstm_row_##T(K, G, G + K, G + 2 * K, G + 3 * K, bias, c + b * K, c_next + b * K,            \
                   h_next + b * K);                                                               \
    }                                                                                             \
  }                                                                                               \
  /* dh, dc: gradients of h', c'; out: dgates (B, 4K) of the pre-activations and dc_prev. */      \
  EXPORT void lstm_backward_##T(long B, long K, const T *gates, const float *c,                   \
                                const float *c_next, const float *dh, const float *dc,            \
                                T *dgates, float *dc_prev) {                                      \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      T *D = dgates + b * 4 * K;                                                                  \
      lstm_back_row_##T(K, gates + b * 4 * K, c + b * K, c_next + b * K, dh + b * K, dc + b * K,  \
                        D, D + K, D + 2 * K, D + 3 * K, dc_prev + b * K);                         \
    }                                                                                             \
  }

/* ---- The operand of a matrix product, put together from its parts and taken apart again ------ */

#define PACK(T)                                                                                   \
  /* out (B, total): columns `at`.. are part (B, n), whose rows lie `stride` apart; if it is the  \
     last part, 1 and zeros follow. */                                                            \
  EXPORT void pack_##T(long B, long n, long stride, const float *part, long total, long at,       \
                       long last, T *out) {                                                       \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      const float *restrict from = part + b * stride;                                             \
      T *restrict to = out + b * total + at;                                                      \
      for (long k = 0; k < n; k++) to[k] = to_##T(from[k]);                                       \
      for (long k = n; last && k < total - at; k++) to[k] = to_##T(k == n ? 1.0f : 0.0f);         \
    }                                                                                             \
  }                                                                                               \
  EXPORT void unpack_##T(long B, long n, long total, long at, const T *in, float *part) {         \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      const T *restrict from = in + b * total + at;                                               \
      float *restrict to = part + b * n;                                                          \
      for (long k = 0; k < n; k++) to[k] = from_##T(from[k]);                                     \
    }                                                                                             \
  }

#define AFFINE(T)                                                                                 \
  /* out (B, n) = in + bias, from a product's type to float. */                                   \
  EXPORT void affine_##T(long B, long n, const T *in, const float *bias, float *out) {            \
    PARALLEL for (long b = 0; b < B; b++) {                                                       \
      const T *restrict from = in + b * n;                                                        \
      float *restrict to = out + b * n;                                                           \
      for (long k = 0; k < n; k++) to[k] = from_##T(from[k]) + bias[k];                           \
    }                                                                                             \
  }

typedef float f32;
AFFINE(f32)
AFFINE(bf16)
LSTM(f32)
LSTM(bf16)
PACK(f32)
PACK(bf16)

/* ---- Gaussian: z = mu + e^s eps;  kl = sum ½ (mu² + e^2s - 1) - s -------------------------- */

/* mu and s lie `stride` apart from row to row: the two halves of one linear map's output. */
EXPORT void gaussian_forward(long B, long Z, long stride, const float *mu, const float *s,
                             const float *eps, float *z, float *kl) {
  PARALLEL for (long b = 0; b < B; b++) {
    const float *restrict m = mu + b * stride, *restrict ls = s + b * stride;
    const float *restrict e = eps + b * Z;
    float *restrict out = z + b * Z, total = 0.0f;
    for (long k = 0; k < Z; k++) {
      float sigma = fast_exp(ls[k]);
      out[k] = m[k] + sigma * e[k];
      total += 0.5f * (m[k] * m[k] + sigma * sigma - 1.0f) - ls[k];
    }
    kl[b] = total;
  }
}
EXPORT void gaussian_backward(long B, long Z, long stride, const float *mu, const float *s,
                              const float *eps, const float *dz, const float *dkl, float *dmu,
                              float *ds) {
  PARALLEL for (long b = 0; b < B; b++) {
    const float *restrict m = mu + b * stride, *restrict ls = s + b * stride;
    const float *restrict e = eps + b * Z, *restrict d = dz + b * Z;
    float *restrict dm = dmu + b * Z, *restrict dls = ds + b * Z, rate = dkl[b];
    for (long k = 0; k < Z; k++) {
      float sigma = fast_exp(ls[k]);
      dm[k] = d[k] + rate * m[k];
      dls[k] = d[k] * sigma * e[k] + rate * (sigma * sigma - 1.0f);
    }
  }
}

/* ---- Error image: x - σ(c) over n pixels an image, and the gradient of c.  DRAW (3) --------- */

EXPORT void error_forward(long B, long n, const float *x, const float *c, float *out) {
  PARALLEL for (long b = 0; b < B; b++) {
    const float *restrict image = x + b * n, *restrict logits = c + b * n;
    float *restrict error = out + b * n;
    for (long k = 0; k < n; k++) error[k] = image[k] - sigmoid(logits[k]);
  }
}
EXPORT void error_backward(long B, long n, const float *x, const float *out, const float *dout,
                           float *dc) {
  PARALLEL for (long b = 0; b < B; b++) {
    const float *restrict image = x + b * n, *restrict error = out + b * n;
    const float *restrict d = dout + b * n;
    float *restrict to = dc + b * n;
    for (long k = 0; k < n; k++) {
      float mean = image[k] - error[k];
      to[k] = -d[k] * mean * (1.0f - mean);
    }
  }
}

/* ---- Attention ------------------------------------------------------------------------------ */

static inline float clamp(float v, float low, float high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}
static inline int inside(float v, float low, float high) { return v >= low && v <= high; }

/* A filter's centre along one axis; side is the image's longer one. (19)-(20) */
static inline float centre(long i, long N, long side, float g, float delta) {
  float mu = g + ((float)(i + 1) - 0.5f * (float)N - 0.5f) * delta;
  return clamp(mu, -(float)side, 2.0f * (float)side);
}

/* (p - mu)² - (nearest - mu)² = (p - nearest) · this: exactly 0 at the nearest pixel, where the
   difference of two rounded squares of a far and narrow filter may be anything. */
static inline float excess(float p, float nearest, float mu) { return (p - mu) + (nearest - mu); }

/* Rows of filters, and of images while they are worked on, are padded with zeros to whole vectors. */
#define LANES 16
static inline long padded(long size) { return (size + LANES - 1) / LANES * LANES; }

#define ALIGNED(name, n) name[n] __attribute__((aligned(4 * LANES)))
typedef float lanes __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
static inline lanes load(const float *at) { return *(const lanes *)at; }
static inline void store(float *at, lanes v) { *(lanes *)at = v; }

/* v += s u and Σ u v over a padded row. */
static inline void axpy(long n, float s, const float *u, float *v) {
  for (long a = 0; a < n; a += LANES) store(v + a, load(v + a) + s * load(u + a));
}
static inline float dot(long n, const float *u, const float *v) {
  lanes sums = {0};
  float sum = 0.0f;
  for (long a = 0; a < n; a += LANES) sums += load(u + a) * load(v + a);
  for (long k = 0; k < LANES; k++) sum += sums[k];
  return sum;
}

/* row += Σ_i f_i U_i, the sum kept in registers; f_i lie `step` apart. */
static inline void blend(long N, long P, const float *f, long step, const float *U, float *row) {
  for (long a = 0; a < P; a += LANES) {
    lanes sum = load(row + a);
    for (long i = 0; i < N; i++) sum += f[i * step] * load(U + i * P + a);
    store(row + a, sum);
  }
}

/* F (N, padded size): rows a softmax of -(a - mu)² / 2σ² over the pixels a = 1..size. (25)-(26) */
static void filterbank(long N, long size, long side, float g, float delta, float sigma2,
                       float *F) {
  float scale = -0.5f / sigma2;
  long P = padded(size);
  for (long i = 0; i < N; i++) {
    float *row = F + i * P, mu = centre(i, N, side, g, delta);
    float nearest = clamp(__builtin_rintf(mu), 1.0f, (float)size), sum = 0.0f;
    for (long a = 0; a < P; a++) {
      float p = (float)(a + 1);
      float e = fast_exp(scale * (p - nearest) * excess(p, nearest, mu));
      row[a] = a < size ? e : 0.0f;
      sum += row[a];
    }
    float norm = 1.0f / sum;
    for (long a = 0; a < P; a++) row[a] *= norm;
  }
}

/* From the gradient dF of a filterbank to that of g, log delta and log sigma2 (added to d[0..2]). */
static void filterbank_backward(long N, long size, long side, float g, float delta, float sigma2,
                                const float *F, const float *dF, float *d) {
  long P = padded(size);
  for (long i = 0; i < N; i++) {
    const float *row = F + i * P, *drow = dF + i * P;
    float steps = (float)(i + 1) - 0.5f * (float)N - 0.5f;
    float free_mu = g + steps * delta, mu = centre(i, N, side, g, delta);
    float nearest = clamp(__builtin_rintf(mu), 1.0f, (float)size);
    float mean = dot(P, row, drow), first = 0.0f, second = 0.0f;
    /* Σ dlogit = 0, so moments about the nearest pixel serve; about a far mu they would only
       magnify the rounding of that sum. */
    for (long a = 0; a < P; a++) {
      float p = (float)(a + 1), moment = row[a] * (drow[a] - mean) * (p - nearest);
      first += moment;
      second += moment * excess(p, nearest, mu);
    }
    if (inside(free_mu, -(float)side, 2.0f * (float)side)) {
      d[0] += first / sigma2;
      d[1] += first / sigma2 * steps * delta;
    }
    d[2] += second / (2.0f * sigma2);
  }
}

typedef struct { float g_x, g_y, delta, sigma2, gamma; } Window;

static Window decode(const float *p, long N, long H, long W) { /* (21)-(24) */
  Window w;
  w.g_x = 0.5f * (float)(W + 1) * (p[0] + 1.0f);
  w.g_y = 0.5f * (float)(H + 1) * (p[1] + 1.0f);
  w.sigma2 = fast_exp(clamp(p[2], -LIMIT, LIMIT));
  w.delta = (float)((W > H ? W : H) - 1) / (float)(N - 1) * fast_exp(clamp(p[3], -LIMIT, LIMIT));
  w.gamma = fast_exp(clamp(p[4], -LIMIT, LIMIT));
  return w;
}

static void filterbanks(Window w, long N, long H, long W, float *F_y, float *F_x) {
  long side = H > W ? H : W;
  filterbank(N, H, side, w.g_y, w.delta, w.sigma2, F_y);
  filterbank(N, W, side, w.g_x, w.delta, w.sigma2, F_x);
}

/* Gradient of the five raw parameters from those of the filterbanks and of log gamma. */
static void window_backward(Window w, const float *p, long N, long H, long W, const float *F_y,
                            const float *dF_y, const float *F_x, const float *dF_x,
                            float dlog_gamma, float *dp) {
  float dx[3] = {0, 0, 0}, dy[3] = {0, 0, 0};
  long side = H > W ? H : W;
  filterbank_backward(N, H, side, w.g_y, w.delta, w.sigma2, F_y, dF_y, dy);
  filterbank_backward(N, W, side, w.g_x, w.delta, w.sigma2, F_x, dF_x, dx);
  dp[0] = 0.5f * (float)(W + 1) * dx[0];
  dp[1] = 0.5f * (float)(H + 1) * dy[0];
  dp[2] = inside(p[2], -LIMIT, LIMIT) ? dx[2] + dy[2] : 0.0f;
  dp[3] = inside(p[3], -LIMIT, LIMIT) ? dx[1] + dy[1] : 0.0f;
  dp[4] = inside(p[4], -LIMIT, LIMIT) ? dlog_gamma : 0.0f;
}

/* V (N, P) = patch (N, N) F_x (N, P) */
static void expand_columns(long N, long P, const float *patch, const float *F_x, float *V) {
  memset(V, 0, sizeof(float) * (size_t)(N * P));
  for (long i = 0; i < N; i++) blend(N, P, patch + i * N, 1, F_x, V + i * P);
}

/* glimpse (B, stride) from `offset` on: γ F_y x F_xᵀ for each of C channels. (27)
   filters (B, N (Q + P)) keeps F_y and F_x for the backward pass and for further images: `fresh`
   says whether to compute them.  Q and P are the padded H and W, here and below. */
EXPORT void read_forward(long B, long C, long H, long W, long N, const float *images,
                         const float *parameters, float *filters, long fresh, float *glimpse,
                         long stride, long offset) {
  long P = padded(W), Q = padded(H);
  PARALLEL for (long b = 0; b < B; b++) {
    float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + 5 * b, N, H, W);
    if (fresh) filterbanks(w, N, H, W, F_y, F_x);
    float ALIGNED(U, N * P), ALIGNED(row, P);
    memset(row, 0, sizeof row);
    for (long c = 0; c < C; c++) {
      const float *image = images + (b * C + c) * H * W;
      float *out = glimpse + b * stride + offset + c * N * N;
      memset(U, 0, sizeof U);
      for (long r = 0; r < H; r++) {
        memcpy(row, image + r * W, sizeof(float) * (size_t)W);
        for (long i = 0; i < N; i++) axpy(P, F_y[i * Q + r], row, U + i * P);
      }
      for (long i = 0; i < N; i++)
        for (long j = 0; j < N; j++) out[i * N + j] = w.gamma * dot(P, U + i * P, F_x + j * P);
    }
  }
}

/* Gradients of one image's read: dimages (skipped if NULL), and dparameters, set or added to. */
EXPORT void read_backward(long B, long C, long H, long W, long N, const float *images,
                          const float *parameters, const float *filters, const float *dglimpse,
                          long stride, long offset, float *dimages, float *dparameters, long add) {
  long P = padded(W), Q = padded(H);
  PARALLEL for (long b = 0; b < B; b++) {
    const float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + 5 * b, N, H, W);
    float ALIGNED(dF_y, N * Q), ALIGNED(dF_x, N * P), ALIGNED(U, N * P), ALIGNED(dU, N * P);
    float ALIGNED(row, P), ALIGNED(drow, P), d[N * N], dp[5], dlog_gamma = 0.0f;
    memset(dF_y, 0, sizeof dF_y);
    memset(dF_x, 0, sizeof dF_x);
    memset(row, 0, sizeof row);
    for (long c = 0; c < C; c++) {
      const float *image = images + (b * C + c) * H * W;
      const float *dout = dglimpse + b * stride + offset + c * N * N;
      for (long k = 0; k < N * N; k++) d[k] = w.gamma * dout[k];
      expand_columns(N, P, d, F_x, dU);
      memset(U, 0, sizeof U);
      for (long r = 0; r < H; r++) {
        memcpy(row, image + r * W, sizeof(float) * (size_t)W);
        for (long i = 0; i < N; i++) {
          axpy(P, F_y[i * Q + r], row, U + i * P);
          dF_y[i * Q + r] += dot(P, dU + i * P, row);
        }
        if (dimages) {
          memset(drow, 0, sizeof drow);
          blend(N, P, F_y + r, Q, dU, drow);
          memcpy(dimages + ((b * C + c) * H + r) * W, drow, sizeof(float) * (size_t)W);
        }
      }
      for (long i = 0; i < N; i++) {
        blend(N, P, d + i, N, U, dF_x + i * P);
        dlog_gamma += dot(P, dU + i * P, U + i * P);
      }
    }
    window_backward(w, parameters + 5 * b, N, H, W, F_y, dF_y, F_x, dF_x, dlog_gamma, dp);
    for (long k = 0; k < 5; k++) dparameters[5 * b + k] = dp[k] + (add ? dparameters[5 * b + k] : 0);
  }
}

/* canvas (B, C, H, W) = start + F_yᵀ patch F_x / γ. (8), (28)-(29)
   Rows of patch and of parameters lie `lead` apart: they come out of one linear map. */
EXPORT void write_forward(long B, long C, long H, long W, long N, long lead, const float *patch,
                          const float *parameters, const float *start, float *filters,
                          float *canvas) {
  long P = padded(W), Q = padded(H);
  PARALLEL for (long b = 0; b < B; b++) {
    float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + b * lead, N, H, W);
    filterbanks(w, N, H, W, F_y, F_x);
    float ALIGNED(V, N * P), ALIGNED(row, P), scaled[N * N];
    for (long c = 0; c < C; c++) {
      for (long k = 0; k < N * N; k++) scaled[k] = patch[b * lead + c * N * N + k] / w.gamma;
      expand_columns(N, P, scaled, F_x, V);
      for (long r = 0; r < H; r++) {
        long at = ((b * C + c) * H + r) * W;
        memcpy(row, start + at, sizeof(float) * (size_t)W);
        blend(N, P, F_y + r, Q, V, row);
        memcpy(canvas + at, row, sizeof(float) * (size_t)W);
      }
    }
  }
}

EXPORT void write_backward(long B, long C, long H, long W, long N, long lead, const float *patch,
                           const float *parameters, const float *filters, const float *dcanvas,
                           float *dpatch, float *dparameters) {
  long P = padded(W), Q = padded(H);
  PARALLEL for (long b = 0; b < B; b++) {
    const float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + b * lead, N, H, W);
    float ALIGNED(dF_y, N * Q), ALIGNED(dF_x, N * P), ALIGNED(V, N * P), ALIGNED(dV, N * P);
    float ALIGNED(row, P), scaled[N * N], dlog_gamma = 0.0f;
    memset(dF_y, 0, sizeof dF_y);
    memset(dF_x, 0, sizeof dF_x);
    memset(row, 0, sizeof row);
    for (long c = 0; c < C; c++) {
      const float *dout = dcanvas + (b * C + c) * H * W;
      float *dw = dpatch + (b * C + c) * N * N;
      for (long k = 0; k < N * N; k++) scaled[k] = patch[b * lead + c * N * N + k] / w.gamma;
      expand_columns(N, P, scaled, F_x, V);
      memset(dV, 0, sizeof dV);
      for (long r = 0; r < H; r++) {
        memcpy(row, dout + r * W, sizeof(float) * (size_t)W);
        for (long i = 0; i < N; i++) {
          axpy(P, F_y[i * Q + r], row, dV + i * P);
          dF_y[i * Q + r] += dot(P, row, V + i * P);
        }
      }
      for (long i = 0; i < N; i++)
        for (long j = 0; j < N; j++) {
          float ds = dot(P, dV + i * P, F_x + j * P);
          dw[i * N + j] = ds / w.gamma;
          dlog_gamma -= ds * scaled[i * N + j];
        }
      for (long j = 0; j < N; j++) blend(N, P, scaled + j, N, dV, dF_x + j * P);
    }
    window_backward(w, parameters + b * lead, N, H, W, F_y, dF_y, F_x, dF_x, dlog_gamma,
                    dparameters + 5 * b);
  }
}
