// The page: requests, playback, and the link that encodes the state.

import { encoded, packed, unpacked } from "./codec.js";
import { anatomy, show as showParts, spoken } from "./explain.js";
import { Along, gif, models as listed, network, stream } from "./net.js";
import { Pad, imported } from "./pad.js";
import { bars, clear, enlargement, hatch, layout, outline, put, row, together } from "./stage.js";

const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const LONG = 5; // duration of a drawing in seconds at speed 1

const state = { view: "draw", model: null, n: 16, ways: 6, seed: 1, temperature: 1, label: null, open: null, speed: 1 };
const show = { frames: [], windows: [], rates: [], steps: 1, n: 1, step: 0, playing: false, wanted: null, done: false };
let known = [], abort = null, request = null, clock = 0, waiting = 0;
const pads = { a: new Pad($("padA"), changed, tool, moved), b: new Pad($("padB"), changed, () => "pen") };

const WORDS = {
  draw: ["Drawn from noise", (m) => `Each picture starts from the same grey canvas and is drawn in ${steps(m)}. ` + (m.windows.includes("write")
    ? "The red square is where the network writes." : "This network writes on the whole canvas at once."), "Draw"],
  redraw: ["Read, then redrawn", (m) => "Draw something, or drop a picture. The network " + (m.windows.includes("read")
    ? "reads it through the blue window and draws it again through the red one." : `reads it ${m.steps} times and draws it again.`), "Redraw"],
  complete: ["What was there?", () => "Erase a part. The network fills it in, in several ways: it reads its own guess, draws it again, and keeps the known pixels.", "Complete"],
  morph: ["From one to the other", () => "Each drawing is a point in the network's latent space. This is the path between two of them.", "Morph"],
  along: ["Draw along", (m) => "Draw a digit, slowly. The network reads what is there through the blue window while you draw, and draws along through the red one. "
    + "Stop halfway: it goes on without you, in several ways." + (m.classes ? " Without a label, each way is another digit." : ""), "Go on"],
  explain: ["One step, slowed down", (m) => `The network reads the picture and draws it again in ${steps(m)}. Here is what happens in one of them, part by part.`, "Read again"],
};
const steps = (m) => (m.steps === 1 ? "one step" : `${m.steps} steps`);

// ---- requests -------------------------------------------------------------------------------------

function tool() {
  return state.view === "complete" ? document.querySelector("[name=tool]:checked").value : "pen";
}

function asked() {
  const base = { model: state.model.name, seed: state.seed }, binary = state.model.binary;
  const one = state.label === null ? {} : { labels: [state.label] };
  switch (state.view) {
    case "draw": return { ...base, ...one, n: state.n, temperature: state.temperature, rates: true };
    case "redraw": return { ...base, ...one, x: encoded(pads.a.values, binary) };
    case "explain": return { ...base, ...one, x: encoded(pads.a.values, binary) };
    case "along": return { ...base, ...one, n: state.ways, x: encoded(pads.a.values, binary) };
    case "complete": return { ...base, ...one, n: state.ways, x: encoded(pads.a.values, binary), known: packed(pads.a.missing.map((m) => 255 * !m)) };
    case "morph": return { ...base, ...(one.labels ? { labels: [state.label, state.label] } : {}), a: encoded(pads.a.values, binary), b: encoded(pads.b.values, binary) };
  }
}

/** Request the current view and play it. */
async function run({ step = null } = {}) {
  abort?.abort();
  clearTimeout(waiting);
  const mine = (abort = new AbortController()), view = state.view;
  request = asked();
  Object.assign(show, { frames: [], windows: [], rates: [], details: [], path: null, step: step === null ? 0.75 : 0, wanted: step, done: false, said: "" });
  show.missing = view === "complete" ? pads.a.missing.slice() : null;
  if (view === "along" && live) { // go on from what has been read
    show.step = live.t;
    request.reader = live;
  } else if (view === "explain" && step === null) {
    show.wanted = Math.min(12, state.model.steps);
  }
  show.playing = step === null && !calm.matches && view !== "explain";
  show.jump = step === null && calm.matches;
  if (show.view !== view) { // nothing of another view stays while this one is computed
    layout($("view"), state.model.shape, 1, 1, tall());
    clear($("view"));
    show.view = view;
  }
  document.body.dataset.state = "drawing";
  link();
  try {
    await stream(view, request, (line) => { if (!mine.signal.aborted) receive(line, view); }, mine.signal);
    if (mine.signal.aborted) return;
    document.body.dataset.state = "done";
  } catch (why) {
    if (mine.signal.aborted) return;
    document.body.dataset.state = "failed";
    show.playing = false;
    say(why instanceof TypeError ? "The server does not answer: is it still running?" : `${why.message}.`);
  }
  controls();
}

function receive(line, view) {
  if ("view" in line) {
    Object.assign(show, { n: line.n, total: view === "morph" ? line.n - 1 : line.steps, labels: line.labels ?? [], shape: line.shape, readAs: line.read_as });
    captions();
  } else if ("step" in line) {
    const { canvas } = line;
    if (view === "morph") {
      show.path = canvas;
    } else {
      show.frames[line.step] = canvas;
      show.windows[line.step] = line.windows ?? {};
      if (line.rate) show.rates[line.step - 1] = line.rate;
      if (line.detail) show.details[line.step] = line.detail;
    }
    document.body.dataset.received = line.step;
    if (show.wanted !== null && line.step >= show.wanted && view !== "morph") [show.step, show.wanted] = [show.wanted, null];
    else if (show.jump && view !== "morph") show.step = line.step;
  } else if ("rates" in line) {
    show.rates = line.rates;
  } else if (line.end) {
    complete(view);
  }
  paint();
}

function complete(view) {
  show.done = true;
  if (view === "morph" && show.wanted !== null) [show.step, show.wanted] = [Math.min(show.wanted, show.total), null];
  const what = { draw: show.n === 1 ? "a picture" : `${show.n} pictures`, redraw: "the picture", complete: `${show.n} completions`, morph: `${show.n} pictures of the path`, along: `${show.n} endings`, explain: "the picture" }[view];
  say(`Drawn: ${what}.`, true);
}

/** The last step that can be shown now. */
function last() {
  return state.view === "morph" ? (show.done ? show.total : 0) : show.frames.length - 1;
}

// ---- painting -------------------------------------------------------------------------------------

function columns() {
  if (["redraw", "morph", "explain"].includes(state.view) || state.open !== null) return 1;
  const wide = $("middle").clientWidth > 560;
  if (state.view === "complete" || state.view === "along") return wide && show.n > 4 ? 3 : Math.min(show.n, show.n > 4 ? 3 : 2);
  const every = state.model.classes;
  if (every && every <= 10 && state.label === null && show.n >= every) { // a column per label, or one per two labels
    const size = (across) => enlargement($("view"), show.shape, across, Math.ceil(show.n / across), tall());
    return [every, Math.ceil(every / 2)].reduce((a, b) => (size(b) > size(a) ? b : a));
  }
  return Math.ceil(Math.sqrt(show.n));
}

function paint() {
  const { view } = state, t = Math.max(0, Math.min(Math.floor(show.step), last()));
  const values = view === "morph" ? show.path : show.frames[t];
  if (!values || !state.model) return;
  const size = show.shape.reduce((a, b) => a * b), one = view === "morph" ? t : state.open;
  const shown = one === null ? Array.from({ length: show.n }, (_, k) => k) : [one];
  const across = columns(), plan = layout($("view"), show.shape, across, Math.ceil(shown.length / across), tall()), context = clear($("view"));
  const outlined = $("windows").checked && view !== "morph" && t > 0 && t < show.total; // the final picture has no windows
  shown.forEach((k, place) => {
    const corner = plan.place(place);
    put(context, show.shape, values, k * size, ...corner, plan.scale);
    if (view === "complete" && $("windows").checked && show.missing.some(Boolean)) hatch(context, show.missing, plan, corner, show.shape, true);
    if (outlined && show.windows[t]?.write) outline(context, "write", show.windows[t].write[k], plan, corner, show.shape);
  });
  Object.assign(show, { plan, shown });
  if (view === "explain") parts(t);
  if (view === "redraw" || view === "explain" || view === "along") {
    pads.a.windows = outlined && show.windows[t]?.read ? [["read", show.windows[t].read[0]]] : [];
    pads.a.paint();
  }
  timeline(t);
}

function tall() {
  const narrow = innerWidth <= 896;
  const under = ratesShown() || state.view === "morph" ? 110 : state.view === "draw" && state.open === null ? 0 : 30;
  return narrow ? Math.max(240, innerHeight * 0.62) : Math.max(280, innerHeight - 305 - under);
}

function timeline(t) {
  const { view } = state, time = $("time"), total = show.total;
  time.max = total;
  time.value = t;
  time.style.setProperty("--done", `${(100 * t) / total}%`);
  const unit = { complete: "round", morph: "picture" }[view] ?? "step";
  const [now, all] = view === "morph" ? [t + 1, total + 1] : [t, total];
  $("count").textContent = innerWidth < 500 ? `${now} / ${all}` : `${unit} ${now} / ${all}`;
  time.setAttribute("aria-valuetext", `${unit} ${now} of ${all}`);
  $("view").setAttribute("aria-label", `${show.shown.length === 1 ? "A picture" : `${show.shown.length} pictures`}, ${unit} ${now} of ${all}`);
  document.body.dataset.step = t;
  document.body.classList.toggle("playing", show.playing);
  $("play").setAttribute("aria-label", show.playing ? "Pause" : "Play");
  $("easel").classList.toggle("sheetlike", view === "draw" && state.open === null);
  const rates = ratesShown(), strip = $("strip");
  strip.hidden = !(rates || view === "morph");
  if (rates) bars(strip, rates, t);
  else if (view === "morph" && show.path) row(strip, show.shape, show.path, show.n, t);
  $("caption").hidden = !(rates || (view === "draw" && state.open !== null));
  if (!$("caption").hidden) $("caption").textContent = rateCaption(rates);
}

function ratesShown() {
  if (state.view === "redraw" || state.view === "explain") return show.rates.length ? Array.from({ length: show.total }, (_, k) => show.rates[k]?.[0] ?? 0) : null;
  if (state.view === "draw" && state.open !== null && show.rates.length === show.total) return show.rates.map((rate) => rate[state.open] ?? 0);
  return null;
}

function rateCaption(rates) {
  if (!rates) return "KL per step is shown when the drawing is complete.";
  const sum = `KL(q‖p) of each step, ${rates.reduce((a, b) => a + b, 0).toFixed(1)} nats in all: `;
  return sum + (state.view !== "draw" ? "the information that each reading adds." : "the information that each step would add if the network read this picture. "
    + `A sample has no posterior of its own, so ${state.model.binary ? "0-or-1 pixels are sampled from the final picture" : "a picture is sampled from the final canvas"} and read.`);
}

function captions() {
  const { view } = state, m = state.model;
  const read = (k) => (show.readAs && show.labels[k] !== undefined ? `read as ${show.labels[k]}, ${Math.round(100 * show.readAs[k])} %` : "");
  const own = (pad, name) => (pad.example ? "draw over this" : name);
  $("captionA").textContent = { redraw: [own(pads.a, "your drawing"), read(0)].filter(Boolean).join(" · "), explain: [own(pads.a, "your drawing"), read(0)].filter(Boolean).join(" · "), along: own(pads.a, "your drawing"), complete: "erase, restore, or draw", morph: [own(pads.a, "from"), read(0)].filter(Boolean).join(" · ") }[view] ?? "";
  $("captionB").textContent = [own(pads.b, "to"), read(1)].filter(Boolean).join(" · ");
  $("captionV").textContent = { redraw: "redrawn", explain: "redrawn", along: `${show.n} endings`, complete: `${show.n} completions` }[view] ?? "";
  $("which").textContent = state.open === null ? "" : `picture ${state.open + 1} of ${show.n}` + (show.labels?.length && view === "draw" ? `, label ${show.labels[state.open]}` : "");
  $("title").textContent = WORDS[view][0];
  $("lead").textContent = WORDS[view][1](m);
  $("goLabel").textContent = WORDS[view][2];
}

function frame(now) {
  const passed = Math.min(0.1, (now - clock) / 1000);
  clock = now;
  if (show.playing && (show.frames.length || show.path)) {
    const before = Math.floor(show.step), end = last(), pace = Math.min(14, Math.max(2.5, show.total / LONG)) * state.speed;
    show.step = Math.min(end + (show.done ? 0 : 0.99), show.step + passed * (show.backward ? -1 : 1) * pace);
    if (show.step <= 0) [show.step, show.backward] = [0, false];
    if (show.done && show.step >= end && !show.backward) {
      if (state.view === "morph") show.backward = true;
      else play(false);
    }
    if (Math.floor(show.step) !== before) paint();
  }
  requestAnimationFrame(frame);
}

function play(on) {
  if (on && last() > 0 && show.step >= last() && state.view !== "morph") show.step = 0;
  show.playing = on;
  show.jump = false;
  show.wanted = null;
  paint();
  link();
}

function seek(t) {
  show.playing = show.jump = false;
  show.wanted = null;
  show.step = Math.max(0, Math.min(t, last()));
  paint();
  link();
}

// ---- the link -------------------------------------------------------------------------------------

/** Encode the view as the fragment of the URL. */
function link(push = false) {
  if (!state.model) return;
  const { view } = state, { name, mark } = state.model, r = asked();
  const words = new URLSearchParams({ model: name, weights: mark, seed: state.seed });
  for (const key of ["n", "x", "known", "a", "b"]) if (key in r) words.set(key, r[key]);
  if (view === "draw" && state.temperature !== 1) words.set("temperature", state.temperature);
  if (state.label !== null) words.set("label", state.label);
  if (view === "draw" && state.open !== null) words.set("open", state.open);
  const t = Math.floor(show.wanted ?? show.step);
  if (!show.playing && (show.wanted !== null || t < show.total || view === "morph")) words.set("step", t);
  const hash = `#${view}?${words}`;
  if (hash !== location.hash) history[push ? "pushState" : "replaceState"](null, "", hash);
}

const within = (text, low, high) => (text !== null && /^\d+$/.test(text) && +text >= low && +text <= high ? +text : null);

/** Show the view of the fragment; what it omits stays unchanged. */
async function follow() {
  if (!known.length) return; // called again when the models are known
  const [name, query = ""] = location.hash.slice(1).split("?"), words = new URLSearchParams(query);
  const before = state.view;
  state.view = name in WORDS && (Along || !["along", "explain"].includes(name)) ? name : "draw";
  live = null;
  const asking = words.get("model"), there = known.find((m) => m.name === asking);
  choose(there ?? state.model ?? known[0]);
  if (asking && (!there || (words.has("weights") && words.get("weights") !== there.mark))) say("This link was made with other weights: the picture may differ.");
  const { classes, most } = state.model;
  state.seed = within(words.get("seed"), 0, 2 ** 32 - 1) ?? state.seed;
  if (state.view === "draw") state.n = within(words.get("n"), 1, most) ?? state.n;
  if (state.view === "complete" || state.view === "along") state.ways = within(words.get("n"), 1, 16) ?? state.ways;
  const warmth = words.has("temperature") ? Number(words.get("temperature")) : query ? 1 : state.temperature;
  state.temperature = warmth >= 0 && warmth <= 2 ? warmth : 1;
  if (query || before !== state.view) state.label = within(words.get("label"), 0, classes - 1);
  state.open = state.view === "draw" ? within(words.get("open"), 0, state.n - 1) : null;
  const ready = await pictures(words);
  controls();
  captions();
  if (ready) await run({ step: within(words.get("step"), 0, 4096) });
}

/** Load the pads' pictures from a link, else examples. */
async function pictures(words) {
  const { view, model } = state, size = model.shape.reduce((a, b) => a * b);
  if (view === "draw") return true;
  try {
    for (const [key, pad] of [["x", pads.a], ["a", pads.a], ["b", pads.b]]) {
      if (words.has(key)) pad.set(unpacked(words.get(key), size));
    }
    if (words.has("known")) pads.a.missing = unpacked(words.get("known"), pads.a.size).map((bit) => Number(bit < 128));
    else if (view !== "complete") pads.a.missing.fill(0);
  } catch (why) {
    say(`${why.message}.`);
  }
  const empty = [pads.a, ...(view === "morph" ? [pads.b] : [])].filter((pad) => !pad.values.some(Boolean));
  if (empty.length && !(await examples(empty))) return false;
  if (view === "complete" && !pads.a.missing.some(Boolean)) pads.a.hide("lower");
  for (const pad of [pads.a, pads.b]) pad.windows = [];
  return true;
}

let drawn = 0;
/** Fill pads with samples of the model, so that none is empty at first. */
async function examples(which) {
  const { model, view } = state, mine = (abort?.abort(), abort = new AbortController());
  let values = null;
  try {
    await stream("draw", { model: model.name, n: 8, seed: 11 + drawn++, temperature: 0.8 },
      (line) => { values = line.canvas ?? values; }, mine.signal);
  } catch (why) {
    if (!mine.signal.aborted) say(`${why.message}.`);
    return false;
  }
  if (state.model !== model || state.view !== view) return false;
  const size = values.length / 8, total = (k) => values.subarray(k * size, (k + 1) * size).reduce((a, b) => a + b);
  const order = [...Array(8).keys()].sort((a, b) => total(b) - total(a)); // one with enough strokes to erase some
  for (const pad of which) pad.set(values.slice(size * order[pad === pads.b ? 4 : 1], size * (order[pad === pads.b ? 4 : 1] + 1)), true);
  return true;
}

// ---- controls -------------------------------------------------------------------------------------

function choose(model) {
  if (model === state.model) return;
  state.model = model;
  state.label = null;
  state.open = null;
  state.n = Math.min(model.most, model.classes === 10 ? 20 : 16);
  for (const pad of [pads.a, pads.b]) pad.reset(model.shape, model.binary);
}

function chips(id, values, chosen, text = String) {
  const box = $(id);
  const key = JSON.stringify(values.map(text));
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(...values.map((value) => {
      const label = document.createElement("label"), input = document.createElement("input"), span = document.createElement("span");
      Object.assign(input, { type: "radio", name: id, value: value ?? "" });
      span.textContent = text(value);
      label.append(input, span);
      return label;
    }));
  }
  for (const input of box.querySelectorAll("input")) input.checked = input.value === String(chosen ?? "");
}

function controls() {
  const { view, model: m } = state, several = view === "complete" || view === "along", count = several ? state.ways : state.n;
  document.body.dataset.view = view;
  document.title = `drawnet: ${WORDS[view][2].toLowerCase()}`;
  for (const tab of document.querySelectorAll("[data-tab]")) tab.setAttribute("aria-current", tab.dataset.tab === view ? "page" : "false");
  for (const part of document.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(view);
  const menu = several ? [4, 6, 9, 12] : m.classes === 10 ? [1, 10, 20, 30, 50, 60] : [1, 4, 9, 16, 25, 36, 64];
  chips("numbers", [...new Set([...menu.filter((n) => n <= m.most), count])].sort((a, b) => a - b), count);
  chips("speeds", SPEEDS, state.speed, (v) => ({ 0.25: "¼×", 0.5: "½×" }[v] ?? `${v}×`));
  $("labelField").hidden = !m.classes || m.classes > 100;
  if (m.classes) chips("labels", [null, ...Array(m.classes).keys()], state.label, (v) => v ?? (view === "draw" || view === "along" ? "all" : "as read"));
  $("labelLegend").textContent = view === "draw" ? "Label to draw" : "What it shows";
  $("colourField").hidden = m.shape[0] !== 3 || view === "draw";
  $("windowsField").hidden = view === "morph" || (view !== "complete" && !m.windows.length);
  $("legend").innerHTML = view === "complete" ? "outline of what was missing" : "windows" + (["redraw", "along", "explain"].includes(view) ? ": <i class=\"blue\">read</i> <i class=\"red\">write</i>" : ": <i class=\"red\">write</i>") + "; thin lines: wide, blurry filters; thick lines: sharp ones";
  $("seed").value = state.seed;
  $("temperature").value = state.temperature;
  $("temperature").style.setProperty("--done", `${50 * state.temperature}%`);
  $("warmth").textContent = state.temperature.toFixed(2);
  $("opened").hidden = state.open === null;
  $("lead").hidden = state.open !== null;
  $("model").value = m.name;
  for (const pad of [pads.a, pads.b]) { pad.most = several && innerWidth < 545 ? 250 : Math.min(tall(), 520); pad.paint(); }
}

/** Draw again with the next seed. */
function go() {
  state.seed = (state.seed + 1) % 2 ** 32;
  again();
}

function again() {
  controls();
  run();
}

let live = null, ticked = 0;
/** While a stroke is drawn, "along" reads it. */
function moved() {
  const now = performance.now();
  if (state.view !== "along" || now - ticked < 50) return;
  ticked = now;
  if (!live || live.t === live.most) {
    live = new Along(state.model.name, state.seed, state.label);
    Object.assign(show, { n: state.ways, total: state.model.steps, shape: state.model.shape, labels: [], rates: [], frames: [], windows: [], missing: null });
  }
  live.step(pads.a.values);
  show.frames.length = Math.min(show.frames.length, live.t); // without what went on before this stroke
  for (let t = show.frames.length; t <= live.t; t++) ({ canvas: show.frames[t], windows: show.windows[t] } = live.line(t, show.n));
  Object.assign(show, { step: live.t, playing: false, done: false });
  paint();
}

let part = 0;
/** Show the parts of step t. */
function parts(t) {
  const detail = show.details[Math.max(1, t)];
  if (!detail) return;
  show.anatomy = anatomy(network(state.model.name), detail);
  showParts($("parts"), show.anatomy, part);
}

/** The next part; after the last one, the first of the next step. */
function nextPart() {
  if (state.view !== "explain" || !show.anatomy) return;
  part = (part + 1) % $("parts").children.length;
  if (part === 0 && show.step < last()) seek(Math.floor(show.step) + 1);
  else paint();
  $("parts").children[part].scrollIntoView({ block: "nearest", behavior: calm.matches ? "auto" : "smooth" });
  $("spoken").textContent = spoken(show.anatomy, part);
}

/** A stroke has ended: wait a moment for the next one, then run. */
function changed() {
  link();
  captions();
  clearTimeout(waiting);
  waiting = setTimeout(() => run(), 350);
}

function open(k) {
  if (state.view !== "draw") return;
  state.open = k === null ? null : (k + show.n) % show.n;
  controls();
  captions();
  paint();
  link();
}

let hush = 0;
function say(text, quiet = false) {
  const box = $("status");
  if (quiet && box.textContent && !box.className) return; // an error stays visible
  box.className = quiet ? "quiet" : "";
  box.textContent = text;
  clearTimeout(hush);
  hush = setTimeout(() => { box.textContent = ""; }, 6000);
}

function download(blob, suffix) {
  const a = document.createElement("a");
  a.href = URL.createObjectURL(blob);
  a.download = `drawnet-${state.view}-${state.seed}.${suffix}`;
  a.click();
  setTimeout(() => URL.revokeObjectURL(a.href), 10000);
}

function savePng() {
  const order = { draw: ["view"], redraw: ["padA", "view"], explain: ["padA", "view"], along: ["padA", "view"], complete: ["padA", "view"], morph: ["padA", "view", "padB"] }[state.view];
  together(order.map($)).toBlob((blob) => download(blob, "png"));
}

async function saveGif() {
  const button = $("gif");
  if (button.hidden) return;
  button.disabled = true;
  say("Making the GIF…");
  try {
    const { rates, ...wanted } = request;
    if (state.open !== null) wanted.only = state.open;
    download(await gif(state.view, wanted), "gif");
    say("The GIF is saved.");
  } catch (why) {
    say(`${why.message}.`);
  }
  button.disabled = false;
}

async function copyLink() {
  link();
  try {
    await navigator.clipboard.writeText(location.href);
    say("The link is copied.");
  } catch {
    say("The link is in the address bar.");
  }
}

function label(value) {
  if (!state.model.classes || value >= state.model.classes) return;
  state.label = value;
  live = null;
  again();
}

function faster(by) {
  state.speed = SPEEDS[Math.max(0, Math.min(SPEEDS.length - 1, SPEEDS.indexOf(state.speed) + by))];
  controls();
}

async function take(file, pad) {
  try {
    pad.missing.fill(0);
    live = null;
    pad.set(await imported(file, state.model.shape, state.model.binary));
    if (state.view === "complete") pad.hide("lower");
    pad.paint();
    changed();
  } catch (why) {
    say(`Sorry, ${why.message}.`);
  }
}

function listen() {
  const click = (id, what) => $(id).addEventListener("click", what);
  click("go", go);
  click("play", () => play(!show.playing));
  click("part", nextPart);
  $("parts").addEventListener("focusin", (event) => { part = [...$("parts").children].indexOf(event.target); paint(); });
  click("back", () => seek(Math.ceil(show.step) - 1));
  click("forth", () => seek(Math.floor(show.step) + 1));
  click("close", () => open(null));
  click("previous", () => open(state.open - 1));
  click("next", () => open(state.open + 1));
  click("png", savePng);
  click("gif", saveGif);
  click("link", copyLink);
  click("open", () => $("file").click());
  click("clear", () => {
    live = null;
    abort?.abort();
    for (const pad of state.view === "morph" ? [pads.a, pads.b] : [pads.a]) { pad.empty(); pad.example = false; pad.windows = []; pad.paint(); }
    captions();
    if (state.view === "complete") document.querySelector("[name=tool][value=pen]").checked = true;
  });
  click("another", async () => {
    live = null;
    if (!(await examples(state.view === "morph" ? [pads.a, pads.b] : [pads.a]))) return;
    if (state.view === "complete" && !pads.a.missing.some(Boolean)) pads.a.hide("lower");
    again();
  });
  click("swap", () => {
    const { values, example } = pads.a;
    [pads.a.values, pads.a.example] = [pads.b.values, pads.b.example];
    Object.assign(pads.b, { values, example });
    again();
  });
  for (const button of document.querySelectorAll("[data-hide]")) {
    button.addEventListener("click", () => { pads.a.hide(button.dataset.hide); again(); });
  }
  $("time").addEventListener("input", () => seek(Number($("time").value)));
  $("strip").addEventListener("click", (event) => {
    const box = $("strip").getBoundingClientRect(), share = (event.clientX - box.left - 9) / (box.width - 18);
    seek(state.view === "morph" ? Math.round(share * show.total) : Math.ceil(share * show.total));
  });
  $("view").addEventListener("click", (event) => {
    if (state.view !== "draw" || !show.plan) return;
    if (state.open !== null) return open(null);
    const box = $("view").getBoundingClientRect(), { gap, scale, columns: across } = show.plan, [, h, w] = show.shape;
    const at = (v, start, whole, size) => Math.floor(((v - start) / whole * size - gap / 2) / 1);
    const c = Math.floor(at(event.clientX, box.left, box.width, $("view").width) / (w * scale + gap));
    const r = Math.floor(at(event.clientY, box.top, box.height, $("view").height) / (h * scale + gap));
    const k = r * across + c;
    if (c >= 0 && c < across && k >= 0 && k < show.n) open(k);
  });
  $("model").addEventListener("change", () => { choose(known.find((m) => m.name === $("model").value)); link(true); history.replaceState(null, "", `#${state.view}`); follow(); });
  $("seed").addEventListener("change", () => { state.seed = within($("seed").value, 0, 2 ** 32 - 1) ?? state.seed; again(); });
  $("temperature").addEventListener("input", () => { state.temperature = Number($("temperature").value); controls(); });
  $("temperature").addEventListener("change", again);
  $("colour").addEventListener("input", () => {
    const ink = [1, 3, 5].map((k) => parseInt($("colour").value.slice(k, k + 2), 16));
    pads.a.ink = pads.b.ink = ink;
  });
  $("windows").addEventListener("change", paint);
  $("numbers").addEventListener("change", (event) => {
    state[state.view === "draw" ? "n" : "ways"] = Number(event.target.value);
    if (state.open !== null && state.open >= state.n) state.open = null;
    again();
  });
  $("speeds").addEventListener("change", (event) => { state.speed = Number(event.target.value); });
  $("labels").addEventListener("change", (event) => label(event.target.value === "" ? null : Number(event.target.value)));
  let onto = pads.a;
  $("file").addEventListener("change", () => { if ($("file").files[0]) take($("file").files[0], onto); $("file").value = ""; });
  for (const pad of [pads.a, pads.b]) pad.canvas.addEventListener("pointerdown", () => { onto = pad; abort?.abort(); clearTimeout(waiting); });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file && state.view === "draw") say("Drop pictures on Redraw, Complete or Morph.");
    else if (file) take(file, event.target === pads.b.canvas || $("right").contains(event.target) ? pads.b : pads.a);
  });
  addEventListener("paste", (event) => { const file = event.clipboardData?.files[0]; if (file && state.view !== "draw") take(file, onto); });
  addEventListener("hashchange", follow);
  let resized = 0;
  addEventListener("resize", () => { cancelAnimationFrame(resized); resized = requestAnimationFrame(() => { if (state.model) { controls(); paint(); } }); });
  for (const query of ["(prefers-color-scheme: dark)"]) matchMedia(query).addEventListener("change", () => { controls(); paint(); });
  addEventListener("keydown", key);
}

const KEYS = {
  " ": go, p: () => play(!show.playing), ArrowLeft: () => seek(Math.ceil(show.step) - 1), ArrowRight: () => seek(Math.floor(show.step) + 1),
  Home: () => seek(0), End: () => seek(last()), n: nextPart, "[": () => faster(-1), "]": () => faster(1), Escape: () => open(null),
  w: () => { $("windows").checked = !$("windows").checked; paint(); }, s: savePng, g: saveGif, l: copyLink,
  Enter: () => open(state.open === null ? 0 : null),
};

function key(event) {
  const { target } = event;
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat && event.key === " ") return;
  if (target.matches("input[type=number], select")) return;
  if (target.matches("button, a, summary, input") && (event.key === " " || event.key === "Enter")) return;
  if (target.matches("input[type=range], input[type=radio]") && /^(Arrow|Home|End)/.test(event.key)) return;
  const action = /^\d$/.test(event.key) ? () => label(Number(event.key)) : KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

async function start() {
  listen();
  requestAnimationFrame(frame);
  try {
    known = await listed();
  } catch {
    return say("The server does not answer: is it still running?");
  }
  $("gif").hidden = !gif;
  for (const name of ["along", "explain"]) document.querySelector(`[data-tab=${name}]`).hidden = !Along;
  $("pick").hidden = known.length < 2;
  $("model").replaceChildren(...known.map((m) => new Option(m.name, m.name)));
  await follow();
}

start();
