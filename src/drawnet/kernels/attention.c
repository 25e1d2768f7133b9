/* The moving window: reading an image and writing on a canvas, image by image in the first-level cache.

     read_*, write_*   attention.py   read, write                                                   */

#include "common.h"

#define LIMIT 12.0f /* attention.LIMIT */

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

/* fast_exp for exponents of at most 0, LANES at a time. */
typedef int32_t words __attribute__((vector_size(4 * LANES)));
static const lanes FIRST = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
#define LOWEST 0x42a00000 /* the bits of 80.0f: a filter's far ends are tiny, but not subnormal */
static inline lanes vector_exp(lanes x) {
  words low = x < -80.0f;
  x = (lanes)((words)x & ~low) - (lanes)(low & LOWEST);
  words whole = __builtin_convertvector(x * 1.44269504f - 0.5f, words);
  lanes n = __builtin_convertvector(whole, lanes), r = x - n * 0.693145752f;
  r = r - n * 1.42860677e-6f;
  lanes p = 1.0f + r * (1.0f + r * (0.5f + r * (0.166666672f + r * (0.0416664853f
            + r * (0.00833336077f + r * 0.00139304355f)))));
  return p * (lanes)((whole + 127) << 23);
}

/* Where a filterbank weighs anything, in whole vectors: what is worked on.  So the price of a window
   is its own size and hardly the image's.  Weights up to FAINT are left out: a row's sum is one. */
typedef struct { long lo, hi; } Span;
#define FAINT 1e-10f
static Span span(long N, long P, const float *F) {
  Span s = {P, 0};
  if (P <= 2 * LANES) return (Span){0, P}; /* to look would cost what it saves */
  for (long a = 0; a < P; a += LANES) {
    words heavy = {0};
    int any = 0;
    for (long i = 0; i < N; i++) heavy |= ~(load(F + i * P + a) <= FAINT); /* NaN too */
    for (long k = 0; k < LANES; k++) any |= heavy[k];
    if (!any) continue;
    s.lo = min_(s.lo, a);
    s.hi = a + LANES;
  }
  return s;
}

/* Σ u v over a row's span. */
static inline float dot(Span s, const float *u, const float *v) {
  lanes sums = {0};
  float sum = 0.0f;
  for (long a = s.lo; a < s.hi; a += LANES) sums += load(u + a) * load(v + a);
  for (long k = 0; k < LANES; k++) sum += sums[k];
  return sum;
}

/* row += Σ_i f_i U_i over a span, the sum kept in registers; f_i lie `step` apart. */
static inline void blend(long N, long P, Span s, const float *f, long step, const float *U,
                         float *row) {
  for (long a = s.lo; a < s.hi; a += LANES) {
    lanes sum = load(row + a);
    for (long i = 0; i < N; i++) sum += f[i * step] * load(U + i * P + a);
    store(row + a, sum);
  }
}

/* A span of LANES rows of an image from `top` on, padded with zeros: what is worked on at a time. */
static void stage(long top, long H, long W, long P, Span s, const float *image, float *rows) {
  long there = min_(s.hi, W) - s.lo;
  for (long r = 0; r < LANES; r++) {
    float *row = rows + r * P;
    long filled = top + r < H ? there : 0;
    if (filled) memcpy(row + s.lo, image + (top + r) * W + s.lo, sizeof(float) * (size_t)filled);
    memset(row + s.lo + filled, 0, sizeof(float) * (size_t)(s.hi - s.lo - filled));
  }
}

/* The sums over the lanes of 16 vectors, in their order: halves, quarters, eighths, sixteenths are
   added up, those of two vectors at once. */
static inline lanes sum_each(lanes v[LANES]) {
#define FOLD(half, ...)                                                                           \
  for (long k = 0; k < half; k++) {                                                               \
    const words mask = {__VA_ARGS__};                                                             \
    v[k] = __builtin_shuffle(v[k], v[k + half], mask) +                                           \
           __builtin_shuffle(v[k], v[k + half], mask + half);                                     \
  }
  FOLD(8, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
  FOLD(4, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
  FOLD(2, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
  FOLD(1, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#undef FOLD
  return v[0];
}

/* D[i, r] += rows[r] · V[i] for LANES rows; rows of D lie Q apart. */
static void dot_rows(long N, long P, long Q, Span s, const float *rows, const float *V, float *D) {
  for (long i = 0; i < N; i++) {
    lanes each[LANES];
    for (long r = 0; r < LANES; r++) {
      each[r] = load(rows + r * P + s.lo) * load(V + i * P + s.lo);
      for (long a = s.lo + LANES; a < s.hi; a += LANES)
        each[r] += load(rows + r * P + a) * load(V + i * P + a);
    }
    store(D + i * Q, load(D + i * Q) + sum_each(each));
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
    lanes total = {0}, p = FIRST;
    for (long a = 0; a < P; a += LANES, p += (float)LANES) {
      lanes e = vector_exp(scale * (p - nearest) * ((p - mu) + (nearest - mu)));
      e = (lanes)((words)e & (p <= (float)size));
      store(row + a, e);
      total += e;
    }
    for (long k = 0; k < LANES; k++) sum += total[k];
    float norm = 1.0f / sum;
    for (long a = 0; a < P; a += LANES) store(row + a, load(row + a) * norm);
  }
}

/* From the gradient dF of a filterbank to that of g, log delta and log sigma2 (added to d[0..2]). */
static void filterbank_backward(long N, long size, long side, float g, float delta, float sigma2,
                                const float *F, const float *dF, float *d) {
  long P = padded(size);
  Span s = span(N, P, F);
  for (long i = 0; i < N; i++) {
    const float *row = F + i * P, *drow = dF + i * P;
    float steps = (float)(i + 1) - 0.5f * (float)N - 0.5f;
    float free_mu = g + steps * delta, mu = centre(i, N, side, g, delta);
    float nearest = clamp(__builtin_rintf(mu), 1.0f, (float)size);
    float mean = dot(s, row, drow), first = 0.0f, second = 0.0f;
    /* Σ dlogit = 0, so moments about the nearest pixel serve; about a far mu they would only
       magnify the rounding of that sum. */
    for (long a = s.lo; a < s.hi; a++) {
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
static void expand_columns(long N, long P, Span s, const float *patch, const float *F_x, float *V) {
  memset(V, 0, sizeof(float) * (size_t)(N * P));
  for (long i = 0; i < N; i++) blend(N, P, s, patch + i * N, 1, F_x, V + i * P);
}

/* glimpse (B, stride) from `offset` on: γ F_y x F_xᵀ for each of C channels. (27)
   filters (B, N (Q + P)) keeps F_y and F_x for the backward pass and for further images: `fresh`
   says whether to compute them.  Q and P are the padded H and W, here and below. */
EXPORT void read_forward(long from, long to, long C, long H, long W, long N, const float *images,
                         const float *parameters, float *filters, long fresh, float *glimpse,
                         long stride, long offset) {
  long P = padded(W), Q = padded(H);
  ROWS(b) {
    float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + 5 * b, N, H, W);
    if (fresh) filterbanks(w, N, H, W, F_y, F_x);
    Span x = span(N, P, F_x), y = span(N, Q, F_y);
    float ALIGNED(U, N * P), ALIGNED(rows, LANES * P);
    for (long c = 0; c < C; c++) {
      const float *image = images + (b * C + c) * H * W;
      float *out = glimpse + b * stride + offset + c * N * N;
      memset(U, 0, sizeof U);
      for (long top = y.lo; top < y.hi; top += LANES) {
        stage(top, H, W, P, x, image, rows);
        for (long i = 0; i < N; i++) blend(LANES, P, x, F_y + i * Q + top, 1, rows, U + i * P);
      }
      for (long i = 0; i < N; i++)
        for (long j = 0; j < N; j++) out[i * N + j] = w.gamma * dot(x, U + i * P, F_x + j * P);
    }
  }
}

/* Gradients of one image's read: dimages (skipped if NULL), and dparameters, set or added to. */
EXPORT void read_backward(long from, long to, long C, long H, long W, long N, const float *images,
                          const float *parameters, const float *filters, const float *dglimpse,
                          long stride, long offset, float *dimages, float *dparameters, long add) {
  long P = padded(W), Q = padded(H);
  ROWS(b) {
    const float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + 5 * b, N, H, W);
    Span x = span(N, P, F_x), y = span(N, Q, F_y);
    float ALIGNED(dF_y, N * Q), ALIGNED(dF_x, N * P), ALIGNED(U, N * P), ALIGNED(dU, N * P);
    float ALIGNED(rows, LANES * P), ALIGNED(drow, P), d[N * N], dp[5], dlog_gamma = 0.0f;
    memset(dF_y, 0, sizeof dF_y);
    memset(dF_x, 0, sizeof dF_x);
    for (long c = 0; c < C; c++) {
      const float *image = images + (b * C + c) * H * W;
      const float *dout = dglimpse + b * stride + offset + c * N * N;
      for (long k = 0; k < N * N; k++) d[k] = w.gamma * dout[k];
      expand_columns(N, P, x, d, F_x, dU);
      memset(U, 0, sizeof U);
      for (long top = y.lo; top < y.hi; top += LANES) {
        stage(top, H, W, P, x, image, rows);
        for (long i = 0; i < N; i++) blend(LANES, P, x, F_y + i * Q + top, 1, rows, U + i * P);
        dot_rows(N, P, Q, x, rows, dU, dF_y + top);
      }
      for (long r = 0; dimages && r < H; r++) {
        memset(drow, 0, sizeof drow);
        if (r >= y.lo && r < y.hi) blend(N, P, x, F_y + r, Q, dU, drow);
        memcpy(dimages + ((b * C + c) * H + r) * W, drow, sizeof(float) * (size_t)W);
      }
      for (long i = 0; i < N; i++) {
        blend(N, P, x, d + i, N, U, dF_x + i * P);
        dlog_gamma += dot(x, dU + i * P, U + i * P);
      }
    }
    window_backward(w, parameters + 5 * b, N, H, W, F_y, dF_y, F_x, dF_x, dlog_gamma, dp);
    for (long k = 0; k < 5; k++) dparameters[5 * b + k] = dp[k] + (add ? dparameters[5 * b + k] : 0);
  }
}

/* canvas (B, C, H, W) = start + F_yᵀ patch F_x / γ. (8), (28)-(29)
   Rows of patch and of parameters lie `lead` apart: they come out of one linear map. */
EXPORT void write_forward(long from, long to, long C, long H, long W, long N, long lead,
                          const float *patch,
                          const float *parameters, const float *start, float *filters,
                          float *canvas) {
  long P = padded(W), Q = padded(H);
  ROWS(b) {
    float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + b * lead, N, H, W);
    filterbanks(w, N, H, W, F_y, F_x);
    Span x = span(N, P, F_x), y = span(N, Q, F_y);
    float ALIGNED(V, N * P), ALIGNED(row, P), scaled[N * N];
    for (long c = 0; c < C; c++) {
      for (long k = 0; k < N * N; k++) scaled[k] = patch[b * lead + c * N * N + k] / w.gamma;
      expand_columns(N, P, x, scaled, F_x, V);
      long all = (b * C + c) * H * W, below = min_(y.hi, H);
      memcpy(canvas + all, start + all, sizeof(float) * (size_t)(y.lo * W));
      memcpy(canvas + all + below * W, start + all + below * W,
             sizeof(float) * (size_t)((H - below) * W));
      for (long r = y.lo; r < below; r++) {
        long at = all + r * W;
        memcpy(row, start + at, sizeof(float) * (size_t)W);
        blend(N, P, x, F_y + r, Q, V, row);
        memcpy(canvas + at, row, sizeof(float) * (size_t)W);
      }
    }
  }
}

EXPORT void write_backward(long from, long to, long C, long H, long W, long N, long lead,
                           const float *patch,
                           const float *parameters, const float *filters, const float *dcanvas,
                           float *dpatch, float *dparameters) {
  long P = padded(W), Q = padded(H);
  ROWS(b) {
    const float *F_y = filters + b * N * (Q + P), *F_x = F_y + N * Q;
    Window w = decode(parameters + b * lead, N, H, W);
    Span x = span(N, P, F_x), y = span(N, Q, F_y);
    float ALIGNED(dF_y, N * Q), ALIGNED(dF_x, N * P), ALIGNED(V, N * P), ALIGNED(dV, N * P);
    float ALIGNED(rows, LANES * P), scaled[N * N], dlog_gamma = 0.0f;
    memset(dF_y, 0, sizeof dF_y);
    memset(dF_x, 0, sizeof dF_x);
    for (long c = 0; c < C; c++) {
      const float *dout = dcanvas + (b * C + c) * H * W;
      float *dw = dpatch + (b * C + c) * N * N;
      for (long k = 0; k < N * N; k++) scaled[k] = patch[b * lead + c * N * N + k] / w.gamma;
      expand_columns(N, P, x, scaled, F_x, V);
      memset(dV, 0, sizeof dV);
      for (long top = y.lo; top < y.hi; top += LANES) {
        stage(top, H, W, P, x, dout, rows);
        for (long i = 0; i < N; i++) blend(LANES, P, x, F_y + i * Q + top, 1, rows, dV + i * P);
        dot_rows(N, P, Q, x, rows, V, dF_y + top);
      }
      for (long i = 0; i < N; i++)
        for (long j = 0; j < N; j++) {
          float ds = dot(x, dV + i * P, F_x + j * P);
          dw[i * N + j] = ds / w.gamma;
          dlog_gamma -= ds * scaled[i * N + j];
        }
      for (long j = 0; j < N; j++) blend(N, P, x, scaled + j, N, dV, dF_x + j * P);
    }
    window_backward(w, parameters + b * lead, N, H, W, F_y, dF_y, F_x, dF_x, dlog_gamma,
                    dparameters + 5 * b);
  }
}
