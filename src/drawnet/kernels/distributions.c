/* Sampling with its rate, and the error image, each in one pass over the operands.

     gaussian_*    distributions.py   sample_and_kl, p = N(0, I)
     relative_*    distributions.py   relative_posterior
     posterior_*   distributions.py   sample_and_kl, another p
     error_*       distributions.py   error_image                                                     */

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

/* ---- Relative posterior: mu = mu_p + e^s_p d, s = s_p + s_d -------------------------------- */

/* Rows of d and s_d lie `lead` floats apart, those of mu_p and s_p `p_lead`. */
EXPORT void relative_forward(long from, long to, long Z, long lead, const float *d,
                             const float *s_d, long p_lead, const float *mu_p, const float *s_p,
                             float *mu, float *s) {
  ROWS(b) {
    const float *restrict r = d + b * lead, *restrict rs = s_d + b * lead;
    const float *restrict m = mu_p + b * p_lead, *restrict ps = s_p + b * p_lead;
    float *restrict out = mu + b * Z, *restrict ls = s + b * Z;
    for (long k = 0; k < Z; k++) {
      out[k] = m[k] + fast_exp(ps[k]) * r[k];
      ls[k] = ps[k] + rs[k];
    }
  }
}
EXPORT void relative_backward(long from, long to, long Z, long lead, const float *d, long p_lead,
                              const float *s_p, const float *dmu, const float *ds, float *dd,
                              float *ds_p) {
  ROWS(b) {
    const float *restrict r = d + b * lead, *restrict ps = s_p + b * p_lead;
    const float *restrict gm = dmu + b * Z, *restrict gs = ds + b * Z;
    float *restrict out = dd + b * Z, *restrict to_p = ds_p + b * Z;
    for (long k = 0; k < Z; k++) {
      out[k] = fast_exp(ps[k]) * gm[k];
      to_p[k] = gs[k] + out[k] * r[k];
    }
  }
}

/* ---- z = mu + e^s eps;  kl = sum ½ (e^2(s - s_p) - 1 + ((mu - mu_p) / e^s_p)²) - (s - s_p) -- */

EXPORT void posterior_forward(long from, long to, long Z, long lead, const float *mu,
                              const float *s, long p_lead, const float *mu_p, const float *s_p,
                              const float *eps, float *z, float *kl) {
  ROWS(b) {
    const float *restrict m = mu + b * lead, *restrict ls = s + b * lead;
    const float *restrict pm = mu_p + b * p_lead, *restrict ps = s_p + b * p_lead;
    const float *restrict e = eps + b * Z;
    float *restrict out = z + b * Z, total = 0.0f;
    for (long k = 0; k < Z; k++) {
      float log_ratio = ls[k] - ps[k], ratio = fast_exp(log_ratio);
      float offset = (m[k] - pm[k]) * fast_exp(-ps[k]);
      out[k] = m[k] + fast_exp(ls[k]) * e[k];
      total += 0.5f * (ratio * ratio - 1.0f + offset * offset) - log_ratio;
    }
    kl[b] = total;
  }
}
EXPORT void posterior_backward(long from, long to, long Z, long lead, const float *mu,
                               const float *s, long p_lead, const float *mu_p, const float *s_p,
                               const float *eps, const float *dz, const float *dkl, float *dmu,
                               float *ds, float *dmu_p, float *ds_p) {
  ROWS(b) {
    const float *restrict m = mu + b * lead, *restrict ls = s + b * lead;
    const float *restrict pm = mu_p + b * p_lead, *restrict ps = s_p + b * p_lead;
    const float *restrict e = eps + b * Z, *restrict d = dz + b * Z;
    float *restrict dm = dmu + b * Z, *restrict dls = ds + b * Z;
    float *restrict dpm = dmu_p + b * Z, *restrict dps = ds_p + b * Z, rate = dkl[b];
    for (long k = 0; k < Z; k++) {
      float ratio = fast_exp(ls[k] - ps[k]), inverse = fast_exp(-ps[k]);
      float offset = (m[k] - pm[k]) * inverse, pull = rate * offset * inverse;
      dm[k] = d[k] + pull;
      dls[k] = d[k] * fast_exp(ls[k]) * e[k] + rate * (ratio * ratio - 1.0f);
      dpm[k] = -pull;
      dps[k] = rate * (1.0f - ratio * ratio - offset * offset);
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
