// Models within the page: answers to the requests of `net.js`, computed here.  They mirror demo/answers.py.

import { bytes, unpacked } from "./codec.js";
import { Draw, generate, log_prob, log_weights, mean, redraw as redrawn, softmax, window_ } from "./draw.js";
import { noise, uniform_each } from "./noise.js";

const PROPOSALS = 32; // samples from which completions choose their starts
const ROUNDS = 16;
const range = (n) => Array.from({ length: n }, (_, k) => k);
const one_hot = (label, classes) => Float32Array.from({ length: classes }, (_, k) => Number(k === label));
const networks = new Map();

export const gif = null;

/** Metadata of the page's models. */
export async function models() {
  return [...document.querySelectorAll("script[data-model]")].map((script) => {
    const about = JSON.parse(script.dataset.model);
    networks.set(about.name, { about, script });
    return about;
  });
}

/** A model by its name; its weights are decoded when it is asked for. */
export function network(name) {
  const entry = networks.get(name), { about, script } = entry;
  entry.model ??= new Draw(about.config, about.shape, parameters(about, bytes(script.textContent.trim())));
  return entry.model;
}

/** Bytes -> arrays by name.  bfloat16 is the upper half of a float32. */
function parameters({ type, parameters: names }, raw) {
  const values = type === "float32" ? new Float32Array(raw.buffer)
    : new Float32Array(Uint32Array.from(new Uint16Array(raw.buffer), (half) => half << 16).buffer);
  let at = 0;
  return Object.fromEntries(names.map(([name, length]) => [name, values.subarray(at, (at += length))]));
}

/** Answer a request; call `take` with every line of the response. */
export async function stream(view, request, take, signal) {
  const { about } = networks.get(request.model), model = network(request.model), rest = { since: performance.now(), signal };
  const start = { view, model: about.name, mark: about.mark, shape: about.shape };
  for await (const line of VIEWS[view](model, request, () => breath(rest))) take("steps" in line ? { ...start, ...line } : line);
  take({ end: true });
}

/** Let the page have its turn, after some milliseconds of work. */
async function breath(rest) {
  if (performance.now() - rest.since < 12) return;
  await new Promise((resolve) => setTimeout(resolve));
  rest.signal?.throwIfAborted();
  rest.since = performance.now();
}

/** Means of the pixels as bytes, image after image. */
export function levels(means) {
  const size = means[0].length, all = new Uint8Array(size * means.length);
  means.forEach((values, k) => values.forEach((v, i) => { all[k * size + i] = Math.round(255 * v); }));
  return all;
}

/** Centre x, centre y, side and σ of a window, pixels.   (21)-(24) */
export function geometry(model, name, parameters) {
  const n = model.config[name], w = window_(parameters, n, ...model.shape.slice(1));
  return [w.g_x, w.g_y, (n - 1) * w.delta, Math.sqrt(w.sigma2)];
}

function moment(model, step, states) {
  const windows = {};
  for (const name of ["read", "write"]) if (states[0][name]?.length) windows[name] = states.map((state) => geometry(model, name, state[name]));
  return { step, canvas: levels(states.map((state) => mean(state.c))), windows };
}

/** The lines of several images drawn at a time. */
async function* moments(model, runs, ys, breathe) {
  yield { step: 0, canvas: levels(ys.map((y) => mean(model.start(y).c))) };
  for (let step = 1; step <= model.steps; step++) {
    const states = [];
    for (const run of runs) {
      states.push(run.next().value);
      await breathe();
    }
    yield moment(model, step, states);
  }
}

async function* draw(model, r, breathe) {
  const { steps, latents, classes } = model, cycle = r.labels ?? range(classes);
  const labels = classes ? range(r.n).map((k) => cycle[k % cycle.length]) : [], ys = range(r.n).map((k) => one_hot(labels[k], classes));
  const last = [];
  const runs = ys.map((y, k) => {
    const eps = noise(r.seed, "sample", k, steps, latents).map((row) => row.map((v) => r.temperature * v));
    return (function* () { for (const state of generate(model, eps, y)) yield (last[k] = state); })();
  });
  yield { steps, n: r.n, labels };
  yield* moments(model, runs, ys, breathe);
  if (!r.rates) return;
  const rates = range(steps).map(() => []);
  for (const [k, { c, y }] of last.entries()) { // a sample has no posterior: pixels are sampled and read
    const p = mean(c), x = uniform_each(r.seed, "see", k, c.length).map((u, i) => Number(u < p[i]));
    let t = 0;
    for (const { rate } of redrawn(model, x, noise(r.seed, "read", k, steps, latents), y)) {
      rates[t++].push(rate);
      await breathe();
    }
  }
  yield { rates };
}

const picture = (model, text) => Float32Array.from(unpacked(text, model.c.length), (v) => Number(v >= 128));

/** Labels of pictures: the requested ones, one or n, else the likeliest by one draw of p(x | y). */
async function readAs(model, pictures, asked, seed, breathe) {
  if (!model.classes) return { labels: [] };
  if (asked) return { labels: pictures.map((_, k) => asked[k % asked.length]) };
  const labels = [], read_as = [];
  for (const [k, x] of pictures.entries()) {
    const eps = noise(seed, "label", k, model.steps, model.latents), logs = [];
    for (let label = 0; label < model.classes; label++) {
      for (const total of log_weights(model, x, eps, one_hot(label, model.classes))) {
        logs[label] = total;
        await breathe();
      }
    }
    const p = softmax(logs), best = p.indexOf(Math.max(...p));
    labels.push(best);
    read_as.push(p[best]);
  }
  return { labels, read_as };
}

async function* redraw(model, r, breathe) {
  const x = picture(model, r.x), reading = await readAs(model, [x], r.labels, r.seed, breathe);
  const y = one_hot(reading.labels[0], model.classes);
  yield { steps: model.steps, n: 1, ...reading };
  yield { step: 0, canvas: levels([mean(model.start(y).c)]) };
  let step = 0;
  for (const { state, rate } of redrawn(model, x, noise(r.seed, "redraw", 0, model.steps, model.latents), y)) {
    yield { ...moment(model, ++step, [state]), rate: [rate] };
    await breathe();
  }
}

/** Samples that agree with the known pixels, then a Markov chain: read, draw again, restore the known pixels. */
async function* complete(model, r, breathe) {
  const { steps, latents, classes } = model, x = picture(model, r.x), known = unpacked(r.known, x.length).map((v) => Number(v >= 128));
  const restored = (c) => mean(c).map((p, i) => (known[i] ? x[i] : p));
  yield { steps: ROUNDS, n: r.n, labels: r.labels ?? [] };
  const proposals = [];
  for (let k = 0; k < PROPOSALS; k++) {
    const y = one_hot(r.labels ? r.labels[0] : k % (classes || 1), classes);
    for (const state of generate(model, noise(r.seed, "propose", k, steps, latents), y)) {
      proposals[k] = state;
      await breathe();
    }
  }
  const logs = proposals.map(({ c }) => log_prob(c, x, known)), choose = uniform_each(r.seed, "choose", 0, r.n);
  const chains = range(r.n).map((k) => {
    const share = softmax(logs);
    let at = 0, passed = share[0];
    while (passed <= choose[k] && at < PROPOSALS - 1) passed += share[++at];
    logs[at] -= 3; // the next chain rather starts elsewhere
    return proposals[at];
  });
  yield { step: 0, canvas: levels(chains.map(({ c }) => restored(c))) };
  for (let round = 0; round < ROUNDS; round++) {
    for (const [k, { c, y }] of chains.entries()) {
      const p = mean(c), filled = uniform_each(r.seed, `complete ${round}`, k, x.length).map((u, i) => (known[i] ? x[i] : Number(u < p[i])));
      for (const { state } of redrawn(model, filled, noise(r.seed, `chain ${round}`, k, steps, latents), y)) {
        chains[k] = state;
        await breathe();
      }
    }
    yield { step: round + 1, canvas: levels(chains.map(({ c }) => restored(c))) };
  }
}

async function* morph(model, r, breathe) {
  const pair = [picture(model, r.a), picture(model, r.b)], n = r.n ?? 33;
  const reading = await readAs(model, pair, r.labels, r.seed, breathe), eps = noise(r.seed, "morph", 0, model.steps, model.latents);
  const ys = pair.map((_, k) => one_hot(reading.labels[k], model.classes)), ends = [];
  for (const [k, x] of pair.entries()) {
    ends[k] = [];
    for (const step of redrawn(model, x, eps, ys[k])) {
      ends[k].push(step.noise);
      await breathe();
    }
  }
  const shares = range(n).map((k) => k / (n - 1)), fading = shares.map((s) => ys[0].map((v, i) => (1 - s) * v + s * ys[1][i]));
  yield { steps: model.steps, n, ...reading };
  yield* moments(model, spherical(...ends, shares).map((path, k) => generate(model, path, fading[k])), fading, breathe);
}

/** From a to b along the great circle: (sin((1 - s) θ) a + sin(s θ) b) / sin θ (Shoemake 1985). */
export function spherical(a, b, shares) {
  const dot = (u, v) => u.reduce((sum, row, t) => sum + row.reduce((part, value, k) => part + value * v[t][k], 0), 0);
  const cosine = dot(a, b) / Math.max(Math.sqrt(dot(a, a) * dot(b, b)), 1e-12);
  const theta = Math.max(Math.acos(Math.min(1, Math.max(-1, cosine))), 1e-6);
  return shares.map((s) => {
    const [one, other] = [1 - s, s].map((part) => Math.sin(part * theta) / Math.sin(theta));
    return a.map((row, t) => row.map((v, k) => one * v + other * b[t][k]));
  });
}

/** A redraw whose steps can be taken apart. */
async function* explain(model, r, breathe) {
  const x = picture(model, r.x), reading = await readAs(model, [x], r.labels, r.seed, breathe);
  const eps = noise(r.seed, "redraw", 0, model.steps, model.latents);
  let before = model.observe(x, model.start(one_hot(reading.labels[0], model.classes)));
  yield { steps: model.steps, n: 1, ...reading };
  yield { step: 0, canvas: levels([mean(before.c)]) };
  for (const [t, one] of eps.entries()) {
    const [q, read] = model.infer(x, before), state = model.advance(q.sample(one), read), p = model.prior(before), rate = q.kl(p);
    yield { ...moment(model, t + 1, [state]), rate: [rate], detail: { x, before, state, q: q.relative(p), rate } };
    before = state;
    await breathe();
  }
}

/** A reader of a picture that is still being drawn. */
export class Along {
  constructor(name, seed, label) {
    const model = network(name), y = label === null ? new Float32Array(model.classes).fill(1 / model.classes) : one_hot(label, model.classes);
    Object.assign(this, { model, label, eps: noise(seed, "along", 0, model.steps, model.latents), t: 0, state: model.start(y) });
    this.most = Math.ceil(0.6 * model.steps); // the rest is left to go on
    this.lines = [{ step: 0, canvas: levels([mean(this.state.c)]), windows: {} }];
  }

  /** Read the picture (bytes) as it is now, and draw a step. */
  step(values) {
    const x = Float32Array.from(values, (v) => Number(v >= 128)), [q, read] = this.model.infer(x, this.model.observe(x, this.state));
    this.state = this.model.advance(q.sample(this.eps[this.t]), read);
    this.t += 1;
    this.lines.push(moment(this.model, this.t, [this.state]));
  }

  /** The line of step t, as one of n equal pictures. */
  line(t, n) {
    const { step, canvas, windows } = this.lines[t], all = new Uint8Array(n * canvas.length);
    for (let k = 0; k < n; k++) all.set(canvas, k * canvas.length);
    return { step, canvas: all, windows: Object.fromEntries(Object.entries(windows).map(([name, [one]]) => [name, Array(n).fill(one)])) };
  }
}

/** Read a picture for some steps, or go on from a reader's state; then go on without it, in n ways. */
async function* along(model, r, breathe) {
  const reader = r.reader ?? new Along(r.model, r.seed, r.labels?.[0] ?? null), values = unpacked(r.x, model.c.length);
  yield { steps: model.steps, n: r.n, labels: [] };
  while (!r.reader && reader.t < reader.most) {
    reader.step(values);
    await breathe();
  }
  for (let step = 0; step <= reader.t; step++) yield reader.line(step, r.n);
  const { t, state, label } = reader;
  const ways = range(r.n).map((k) => {
    const y = label === null ? one_hot(k % model.classes, model.classes) : state.y; // without a label: each in turn
    return generate(model, noise(r.seed, "end", k, model.steps, model.latents).slice(t), y, { ...state, y });
  });
  for (let step = t + 1; step <= model.steps; step++) {
    const states = [];
    for (const way of ways) {
      states.push(way.next().value);
      await breathe();
    }
    const { canvas, windows: { write } } = moment(model, step, states);
    yield { step, canvas, windows: { write } };
  }
}

const VIEWS = { draw, redraw, complete, morph, explain, along };
