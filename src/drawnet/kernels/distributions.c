/* Sampling with its rate, and the error image, each in one pass over the operands.

     gaussian_*   distributions.py   sample_and_kl
     error_*      distributions.py   error_image                                                      */

#include "common.h"

/* ---- Gaussian: z = mu + e^s eps;  kl = sum ½ (mu² + e^2s - 1) - s -------------------------- */

/* mu and s lie `stride` apart from row to row: the two halves of one linear map's output. */
EXPORT void gaussian_forward(long from, long to, long Z, long stride, const float *mu,
                             const float *s,
                             const float *eps, float *z, float *kl) {
  ROWS(b) {
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
EXPORT void gaussian_backward(long from, long to, long Z, long stride, const float *mu,
                              const float *s,
                              const float *eps, const float *dz, const float *dkl, float *dmu,
                              float *ds) {
  ROWS(b) {
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

EXPORT void error_forward(long from, long to, long n, const float *x, const float *c, float *out) {
  ROWS(b) {
    const float *restrict image = x + b * n, *restrict logits = c + b * n;
    float *restrict error = out + b * n;
    for (long k = 0; k < n; k++) error[k] = image[k] - sigmoid(logits[k]);
  }
}
EXPORT void error_backward(long from, long to, long n, const float *x, const float *out,
                           const float *dout,
                           float *dc) {
  ROWS(b) {
    const float *restrict image = x + b * n, *restrict error = out + b * n;
    const float *restrict d = dout + b * n;
    float *restrict to = dc + b * n;
    for (long k = 0; k < n; k++) {
      float mean = image[k] - error[k];
      to[k] = -d[k] * mean * (1.0f - mean);
    }
  }
}
