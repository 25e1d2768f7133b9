// DRAW in JavaScript: nn/attention.py, nn/recurrent.py, nn/convolution.py, nn/distributions.py,
// models/draw.py and models/sequential.py, line by line and under their names, for one image at a time.
//
// Numbers in brackets are equations of Gregor et al. 2015 (arXiv 1502.04623).
//
//     x  image (C·H·W), values in [0, 1]     c  canvas: logits of the pixels     r  what the encoder reads
//     h_enc, h_dec   outputs of the LSTMs    z  latents (Z)                      w  patch that is written
//     y  labels (classes), one-hot, or []    T Z N C H W   steps, latents, window side, channels, rows, columns

// ---- nn/attention.py --------------------------------------------------------------------------------

const LIMIT = 12; // clamp on log variance, log stride and log intensity
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));
const range = (n) => Array.from({ length: n }, (_, k) => k);

/** Decode the five numbers that the decoder emits.   (21)-(24) */
export function window_([g_x, g_y, ...logs], n, height, width) {
  const [sigma2, delta, gamma] = logs.map((log) => Math.exp(clamp(log, -LIMIT, LIMIT)));
  return {
    g_x: ((width + 1) / 2) * (g_x + 1),
    g_y: ((height + 1) / 2) * (g_y + 1),
    delta: ((Math.max(width, height) - 1) / (n - 1)) * delta,
    sigma2,
    gamma,
  };
}

/** Filter centres μ^i = g + (i - N/2 - 0.5) δ for i = 1..N, pixels.   (19)-(20) */
export function centres(g, delta, n, side) {
  return range(n).map((k) => clamp(g + (k + 1 - n / 2 - 0.5) * delta, -side, 2 * side));
}

/** F[i, a] ∝ exp(-(a - μ^i)² / 2σ²), rows summing to one: N rows of `size`.   (25)-(26) */
export function filterbank(mu, sigma2, size) {
  return mu.map((centre) => softmax(range(size).map((k) => -((k + 1 - centre) ** 2) / (2 * sigma2))));
}

export function softmax(logits) {
  const top = Math.max(...logits), terms = logits.map((v) => Math.exp(v - top));
  const sum = terms.reduce((a, b) => a + b);
  return terms.map((v) => v / sum);
}

/** [F_Y, F_X] of a window: N rows of H, N rows of W. */
export function filterbanks(w, n, height, width) {
  const side = Math.max(height, width);
  const f_y = filterbank(centres(w.g_y, w.delta, n, side), w.sigma2, height);
  const f_x = filterbank(centres(w.g_x, w.delta, n, side), w.sigma2, width);
  return [f_y, f_x];
}

/** Read images of one shape through one window: γ F_Y x F_Xᵀ, one after another.   (27) */
export function read(images, parameters, n, [channels, height, width]) {
  const w = window_(parameters, n, height, width), [f_y, f_x] = filterbanks(w, n, height, width);
  const r = new Float64Array(images.length * channels * n * n), size = height * width;
  let k = 0;
  for (const x of images) for (let c = 0; c < channels; c++) for (let i = 0; i < n; i++) {
    const row = new Float64Array(width); // row i of F_Y x
    for (let b = 0; b < height; b++) for (let a = 0; a < width; a++) row[a] += f_y[i][b] * x[c * size + b * width + a];
    for (let j = 0; j < n; j++) r[k++] = w.gamma * f_x[j].reduce((sum, f, a) => sum + f * row[a], 0);
  }
  return r;
}

/** Lay an N × N patch on the canvas: canvas + F_Yᵀ w F_X / γ.   (8), (28)-(29) */
export function write(canvas, patch, parameters, n, [channels, height, width]) {
  const w = window_(parameters, n, height, width), [f_y, f_x] = filterbanks(w, n, height, width);
  const c = Float64Array.from(canvas), size = height * width;
  for (let k = 0; k < channels; k++) for (let i = 0; i < n; i++) {
    const row = new Float64Array(width); // row i of w F_X
    for (let j = 0; j < n; j++) for (let a = 0; a < width; a++) row[a] += patch[k * n * n + i * n + j] * f_x[j][a];
    for (let b = 0; b < height; b++) for (let a = 0; a < width; a++) c[k * size + b * width + a] += (f_y[i][b] * row[a]) / w.gamma;
  }
  return c;
}

// ---- nn/recurrent.py --------------------------------------------------------------------------------

export const sigmoid = (v) => 1 / (1 + Math.exp(-v));

/** W [inputs] + b; weight: rows of the inputs' length, one after another. */
export function affine({ weight, bias }, ...inputs) {
  const x = Float64Array.from(inputs.flatMap((part) => Array.from(part)));
  const out = new Float64Array(bias.length), length = x.length, whole = length & ~3;
  for (let k = 0, at = 0; k < out.length; k++) {
    let a = 0, b = 0, c = 0, d = 0, i = 0;
    for (; i < whole; i += 4, at += 4) { // four sums at a time
      a += weight[at] * x[i];
      b += weight[at + 1] * x[i + 1];
      c += weight[at + 2] * x[i + 2];
      d += weight[at + 3] * x[i + 3];
    }
    for (; i < length; i++, at++) a += weight[at] * x[i];
    out[k] = a + b + c + d + bias[k];
  }
  return out;
}

/** i, f, g, o = W [x, h] + b;   c' = σ(f) c + σ(i) tanh(g);   h' = σ(o) tanh(c'). */
export function lstm(layer, inputs, h, c) {
  const gates = affine(layer, ...inputs, h), n = h.length;
  const next = c.map((v, k) => sigmoid(gates[n + k]) * v + sigmoid(gates[k]) * Math.tanh(gates[2 * n + k]));
  return [next.map((v, k) => sigmoid(gates[3 * n + k]) * Math.tanh(v)), next];
}

// ---- nn/convolution.py ------------------------------------------------------------------------------

/** W * x + b by kernels of K × K at every second place: maps (in, H, W) -> [maps (out, H/2, W/2), their shape]. */
export function conv({ weight, bias }, x, [inputs, height, width]) {
  const side = Math.sqrt(weight.length / bias.length / inputs), edge = side >> 1;
  const shape = [bias.length, Math.ceil(height / 2), Math.ceil(width / 2)], [outputs, rows, columns] = shape;
  const out = new Float64Array(outputs * rows * columns);
  for (let o = 0, at = 0; o < outputs; o++) for (let i = 0; i < rows; i++) for (let j = 0; j < columns; j++, at++) {
    out[at] = bias[o];
    for (let c = 0; c < inputs; c++) for (let a = 0; a < side; a++) {
      const row = 2 * i + a - edge;
      if (row < 0 || row >= height) continue;
      for (let b = 0; b < side; b++) {
        const column = 2 * j + b - edge;
        if (column >= 0 && column < width) out[at] += weight[((o * inputs + c) * side + a) * side + b] * x[(c * height + row) * width + column];
      }
    }
  }
  return [out, shape];
}

/** Convolutions of stride 2, each with a ReLU. */
export function conv_encoder(layers, x, shape) {
  for (const layer of layers) {
    [x, shape] = conv(layer, x, shape);
    x = x.map((v) => Math.max(v, 0));
  }
  return x;
}

// ---- nn/distributions.py ----------------------------------------------------------------------------

const LOG_2PI = Math.log(2 * Math.PI);
const sum = (values) => values.reduce((a, b) => a + b, 0);

/** N(mu, exp(log_sigma)²).   (1)-(2) */
export class Gaussian {
  constructor(mu, log_sigma) { Object.assign(this, { mu, log_sigma }); }

  /** mu + sigma · eps.   (6) */
  sample(eps) { return this.mu.map((mu, k) => mu + Math.exp(this.log_sigma[k]) * eps[k]); }

  /** The eps of which `sample` makes z. */
  standardise(z) { return this.mu.map((mu, k) => (z[k] - mu) * Math.exp(-this.log_sigma[k])); }

  /** Itself where p is N(0, I): KL(q ‖ p) is that of q.relative(p) and N(0, I). */
  relative(p) {
    return p === null ? this : new Gaussian(p.standardise(this.mu), this.log_sigma.map((v, k) => v - p.log_sigma[k]));
  }

  log_prob(z) {
    return -sum(Array.from(this.standardise(z), (eps, k) => 0.5 * eps ** 2 + this.log_sigma[k] + 0.5 * LOG_2PI));
  }

  /** KL(self ‖ p) in nats; p = null is N(0, I).   (10)-(11) */
  kl(p = null) {
    return sum(Array.from(this.mu, (mu, k) => {
      const log = this.log_sigma[k];
      if (p === null) return 0.5 * (mu ** 2 + Math.expm1(2 * log)) - log;
      const ratio = log - p.log_sigma[k], offset = (mu - p.mu[k]) * Math.exp(-p.log_sigma[k]);
      return 0.5 * (Math.expm1(2 * ratio) + offset ** 2) - ratio;
    }));
  }
}

export const standard_log_prob = (z) => -0.5 * sum(Array.from(z, (v) => v ** 2 + LOG_2PI));

/** E[x] of Bernoulli pixels with logits c.   (9) */
export const mean = (c) => c.map(sigmoid);

const softplus = (v) => Math.max(v, 0) + Math.log1p(Math.exp(-Math.abs(v)));

/** log p(x) in nats, over the pixels that are `known` (all): Σ x c - softplus(c).   (9) */
export function log_prob(c, x, known = null) {
  let total = 0;
  for (let k = 0; k < c.length; k++) if (!known || known[k % known.length]) total += x[k] * c[k] - softplus(c[k]);
  return total;
}

// ---- models/draw.py ---------------------------------------------------------------------------------

export class Draw {
  /** weights: name -> Float32Array, under the names of the model's file. */
  constructor(config, shape, weights) {
    const size = shape[1] * shape[2] * shape[0], n = config.write;
    const layer = (name) => `${name}.weight` in weights ? { weight: weights[`${name}.weight`], bias: weights[`${name}.bias`] } : null;
    Object.assign(this, { config, shape, steps: config.steps, latents: config.latents, classes: config.classes });
    for (const name of ["c", "h_enc", "s_enc", "h_dec", "s_dec"]) this[name] = Float64Array.from(weights[name]);
    for (const name of ["encoder", "q", "decoder", "heads", "p", "summary"]) this[name] = layer(name);
    this.convolutions = this.summary && range(3).map((k) => layer(`convolutions.layers.${k}`));
    this.parts = [n ? shape[0] * n * n : size, n ? 5 : 0, config.read ? 5 : 0];
  }

  /** Learned c_0, h_enc_0, h_dec_0, and the first window, from h_dec_0. */
  start(y = []) {
    const { c, h_enc, s_enc, h_dec, s_dec } = this;
    return { c, h_enc, s_enc, h_dec, s_dec, read: null, write: null, next_read: this.decoder_heads(h_dec)[2], y, features: [] };
  }

  /** Summarise x by convolutions, where the encoder has them. */
  observe(x, state) {
    if (!this.summary) return state;
    return { ...state, features: affine(this.summary, conv_encoder(this.convolutions, x, this.shape)).map(Math.tanh) };
  }

  /** What the encoder sees: the glimpse r_t, h_dec_{t-1}, the features of x, if any, and y. */
  encoder_inputs(x, state) {
    const p = mean(state.c), x_hat = p.map((v, k) => x[k] - v); // (3)
    const r = this.config.read ? [read([x, x_hat], state.next_read, this.config.read, this.shape)] : [x, x_hat]; // (4), (17)
    return [...r, state.h_dec, state.features, state.y];
  }

  /** q(z_t | x, z_1..t-1), and the state after the encoder's step. */
  infer(x, state) {
    const [h_enc, s_enc] = lstm(this.encoder, this.encoder_inputs(x, state), state.h_enc, state.s_enc); // (5)
    let q = chunk(affine(this.q, h_enc)); // (1), (2)
    const p = this.prior(state);
    if (p !== null) q = new Gaussian(p.sample(q.mu), p.log_sigma.map((v, k) => v + q.log_sigma[k]));
    return [q, { ...state, h_enc, s_enc, read: state.next_read }];
  }

  /** N(0, I), null, at every step; or N(mu_p, sigma_p²) from h_dec_{t-1} and y. */
  prior(state) {
    return this.p && chunk(affine(this.p, state.h_dec, state.y));
  }

  /** Run the decoder and write on the canvas. */
  advance(z, state) {
    const [h_dec, s_dec] = lstm(this.decoder, [z, state.y], state.h_dec, state.s_dec); // (7)
    const [w, window, next_read] = this.decoder_heads(h_dec), n = this.config.write;
    const c = n ? write(state.c, w, window, n, this.shape) : state.c.map((v, k) => v + w[k]); // (8)
    return { ...state, c, h_dec, s_dec, next_read, write: n ? window : null };
  }

  /** The patch, the window to write it through, and the window to read next.   (18), (21), (28) */
  decoder_heads(h_dec) {
    const out = affine(this.heads, h_dec), [w, write] = this.parts;
    return [out.subarray(0, w), out.subarray(w, w + write), out.subarray(w + write)];
  }
}

const chunk = (values) => new Gaussian(values.subarray(0, values.length / 2), values.subarray(values.length / 2));

// ---- models/sequential.py ---------------------------------------------------------------------------

/** Draw by ancestral sampling with noise eps, T of Z: the state after every step.   (13)-(16) */
export function* generate(model, eps, y = [], state = model.start(y)) {
  for (const noise of eps) {
    const p = model.prior(state);
    state = model.advance(p === null ? noise : p.sample(noise), state);
    yield state;
  }
}

/** Read x and draw it again: after every step { state, rate, noise }, with the noise that draws the same. */
export function* redraw(model, x, eps, y = []) {
  let state = model.observe(x, model.start(y));
  for (const one of eps) {
    const [q, seen] = model.infer(x, state), z = q.sample(one), p = model.prior(state);
    state = model.advance(z, seen);
    yield { state, rate: q.kl(p), noise: p === null ? z : p.standardise(z) };
  }
}

/** log p(x, z) - log q(z | x) for z ~ q, step by step; the last is the sum. */
export function* log_weights(model, x, eps, y = []) {
  let state = model.observe(x, model.start(y)), total = 0;
  for (const noise of eps) {
    const [q, seen] = model.infer(x, state), z = q.sample(noise), p = model.prior(state);
    total += (p === null ? standard_log_prob(z) : p.log_prob(z)) - q.log_prob(z);
    state = model.advance(z, seen);
    yield total;
  }
  yield total + log_prob(state.c, x);
}
