// One step of DRAW, slowed down: its equations beside the pictures they act on.

import { filterbanks, mean, read, window_ } from "./draw.js";
import { colour, put } from "./stage.js";

const sub = (text) => text.replace(/_(\w+|\{[^}]+\})/g, (_, low) => `<sub>${low.replace(/[{}]/g, "")}</sub>`).replace(/\^(\w)/g, "<sup>$1</sup>");
const number = (v) => v.toFixed(Math.abs(v) < 10 ? 2 : 1);
const range = (n) => Array.from({ length: n }, (_, k) => k);
const numbers = (w) => `centre (${number(w.g_x)}, ${number(w.g_y)}), stride δ ${number(w.delta)}, width σ ${number(Math.sqrt(w.sigma2))}, intensity γ ${number(w.gamma)}`;

const LOUD = 0.1; // nats from which a latent is coloured
const kl = ({ mu, log_sigma }, k) => 0.5 * (mu[k] ** 2 + Math.expm1(2 * log_sigma[k])) - log_sigma[k];

/** The parts of a step: title, equations by the paper's numbers, words, and what is painted. */
const PARTS = [
  {
    title: "What is missing?", equations: [["x̂_t = x − σ(c_{t−1})", 3]],
    words: () => "The picture minus what the canvas shows so far: light where ink is missing, dark where there is too much.",
    say: ({ x_hat }) => `Missing ink: ${number(x_hat.reduce((a, v) => a + Math.max(v, 0), 0))} pixels, too much: ${number(-x_hat.reduce((a, v) => a + Math.min(v, 0), 0))}.`,
    paint: (s) => [picture(s.shape, s.x, "picture"), picture(s.shape, s.before, "canvas before"), signed(s.shape, s.x_hat, "missing")],
  },
  {
    title: "Where to read", equations: [["μ^i = g + (i − N/2 − ½) δ", "19, 20"], ["F[i, a] ∝ exp(−(a − μ^i)² / 2σ²)", "25, 26"]],
    words: ({ n_read }) => `The decoder chose a window at the end of the last step. It is ${n_read} × ${n_read} Gaussian filters: ${n_read} across (F_X, below) and ${n_read} down (F_Y, right).`,
    say: ({ reading }) => `Read window: ${numbers(reading)}.`,
    paint: (s) => [banks(s, s.x, s.reading, s.read_banks, "read")],
  },
  {
    title: "The glimpse", equations: [["r_t = γ F_Y [x, x̂_t] F_X^T", "4, 27"]],
    words: ({ n_read, whole }) => `${whole ? "What the encoder learns in this step, besides a vector of the whole picture that convolutions made before the first" : "All that the encoder learns of the picture in this step"}: `
      + `${n_read} × ${n_read} numbers of the picture, and as many of what is missing.`,
    say: ({ r }) => `Glimpse: ${Array.from(r, number).join(", ")}.`,
    paint: (s) => [signed([1, s.n_read, s.n_read], s.r.slice(0, s.n_read ** 2), "of x"), signed([1, s.n_read, s.n_read], s.r.slice(-(s.n_read ** 2)), "of x̂")],
  },
  {
    title: "What to say", equations: [["h_enc = LSTM([r_t, h_dec], h_enc)", 5], ["z_t = μ_t + σ_t ε,  ε ~ N(0, I)", "1, 2, 6"]],
    words: ({ q }) => `The encoder turns the glimpse into ${q.mu.length} Gaussians, and one number is drawn of each. A bar that differs from the grey band (±1, the prior) costs nats: coloured, if more than ${LOUD}. The others say nothing, for nothing.`,
    say: ({ q, rate }) => `${range(q.mu.length).filter((k) => kl(q, k) > LOUD).length} of ${q.mu.length} latents cost more than ${LOUD} nats. All, KL(q‖p): ${number(rate)} nats.`,
    paint: (s) => [latents(s.q)],
  },
  {
    title: "What to write", equations: [["h_dec = LSTM(z_t, h_dec)", 7], ["w_t = W h_dec", "18, 28"]],
    words: ({ n_write }) => `From the latents the decoder makes a patch of ${n_write} × ${n_write} (light: add ink, dark: take it away), the window to write it through, and the next window to read.`,
    say: ({ writing }) => `Write window: ${numbers(writing)}.`,
    paint: (s) => [signed([1, s.n_write, s.n_write], s.w, "patch"), banks(s, s.before, s.writing, s.write_banks, "write")],
  },
  {
    title: "The canvas", equations: [["c_t = c_{t−1} + F_Y^T w_t F_X / γ", "8, 29"]],
    words: () => "The patch, seen through the filters, is added to the canvas. Its sigmoid is the picture so far.",
    say: ({ before, after }) => `${number(after.reduce((sum, v, k) => sum + Math.abs(v - before[k]), 0))} pixels of ink have changed.`,
    paint: (s) => [picture(s.shape, s.before, "before"), signed(s.shape, s.added, "added"), picture(s.shape, s.after, "after")],
  },
];

/** All that the parts show of one step: { x, before, state, q, rate } of a model, q in the prior's units. */
export function anatomy(model, { x, before, state, q, rate }) {
  const { shape } = model, { read: n_read, write: n_write } = model.config, size = shape.slice(1), p = mean(before.c);
  const x_hat = p.map((v, k) => x[k] - v), reading = window_(state.read, n_read, ...size), writing = window_(state.write, n_write, ...size);
  return {
    shape, n_read, n_write, whole: state.features.length, x, x_hat, q, rate, reading, writing, before: p, after: mean(state.c),
    r: read([x, x_hat], state.read, n_read, shape), w: model.decoder_heads(state.h_dec)[0],
    added: state.c.map((v, k) => v - before.c[k]),
    read_banks: filterbanks(reading, n_read, ...size), write_banks: filterbanks(writing, n_write, ...size),
  };
}

/** Fill a list with the parts of a step; `current` is marked. */
export function show(list, s, current) {
  if (!list.children.length) {
    list.append(...PARTS.map(({ title, equations }, k) => {
      const item = document.createElement("li");
      item.innerHTML = `<h3>${k + 1}. ${title}</h3>` + equations.map(([text, at]) => `<p class="equation"><span>${sub(text)}</span> <span class="at">(${at})</span></p>`).join("")
        + `<p class="words"></p><div class="pictures"></div><p class="numbers"></p>`;
      item.tabIndex = 0;
      return item;
    }));
  }
  PARTS.forEach((part, k) => {
    const item = list.children[k];
    if (k === current) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
    item.querySelector(".words").innerHTML = sub(part.words(s));
    item.querySelector(".numbers").textContent = part.say(s);
    item.querySelector(".pictures").replaceChildren(...part.paint(s));
  });
  return PARTS.length;
}

/** What the current part says, for those who hear it. */
export const spoken = (s, current) => `${PARTS[current].title} ${PARTS[current].say(s)}`;

// ---- pictures ---------------------------------------------------------------------------------------

function figure(width, height, name, paint) {
  const box = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
  Object.assign(canvas, { width, height });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", name);
  caption.textContent = name;
  box.style.flexGrow = width / height;
  box.style.maxWidth = `${width / 14}rem`;
  paint(canvas.getContext("2d"));
  box.append(canvas, caption);
  return box;
}

const SIDE = 224; // screen pixels of a picture

function picture(shape, values, name) {
  const scale = Math.max(1, Math.floor(SIDE / Math.max(...shape.slice(1))));
  return figure(shape[2] * scale, shape[1] * scale, name, (context) => put(context, shape, Array.from(values, (v) => Math.round(255 * v)), 0, 0, 0, scale));
}

/** Values of both signs: grey is zero, the largest in size white or black. */
function signed(shape, values, name) {
  const top = Math.max(1e-6, ...Array.from(values, Math.abs));
  return picture(shape, Array.from(values, (v) => 0.5 + v / top / 2), name);
}

/** A picture with the filters of a window as bars: F_X below it, F_Y to its right, a lane a filter. */
function banks({ shape: [, height, width], shape }, values, w, [f_y, f_x], name) {
  const scale = Math.max(1, Math.floor(SIDE / Math.max(height, width))), room = 84, n = f_x.length;
  return figure(width * scale + room, height * scale + room, `${name} window with F_X below, F_Y right`, (context) => {
    put(context, shape, Array.from(values, (v) => Math.round(255 * v)), 0, 0, 0, scale);
    context.fillStyle = context.strokeStyle = colour(name);
    const top = Math.max(...f_x.flat(), ...f_y.flat()), lane = (room - 4) / n;
    for (const i of range(n)) {
      f_x[i].forEach((v, a) => context.fillRect(a * scale, height * scale + 4 + i * lane, scale - 1, (lane - 2) * v / top));
      f_y[i].forEach((v, b) => context.fillRect(width * scale + 4 + i * lane, b * scale, (lane - 2) * v / top, scale - 1));
    }
    for (const i of range(n)) for (const j of range(n)) { // the filters' centres
      const at = (g, k) => scale * (g + (k + 1 - n / 2 - 0.5) * w.delta - 0.5);
      const [x, y] = [at(w.g_x, j), at(w.g_y, i)];
      if (x < 0 || y < 0 || x > width * scale || y > height * scale) continue;
      context.beginPath();
      context.arc(x, y, 3, 0, 7);
      context.fill();
    }
  });
}

/** Mean ± σ of every latent as a bar; behind it the prior's, a grey band. */
function latents({ mu, log_sigma }) {
  const wide = 480, tall = 180, step = wide / mu.length, reach = Math.max(3, ...Array.from(mu, Math.abs));
  return figure(wide, tall, `the latents' means and spreads`, (context) => {
    const y = (v) => tall / 2 - (v / reach) * (tall / 2 - 4);
    context.fillStyle = colour("line");
    context.fillRect(0, y(1), wide, y(-1) - y(1));
    mu.forEach((m, k) => {
      const sigma = Math.exp(log_sigma[k]);
      context.fillStyle = colour(kl({ mu, log_sigma }, k) > LOUD ? "write" : "soft");
      context.fillRect(k * step, y(m + sigma), Math.max(1, step - 1), Math.max(2, y(m - sigma) - y(m + sigma)));
    });
  });
}
