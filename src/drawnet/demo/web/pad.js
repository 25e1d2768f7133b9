// A pad to draw on with mouse, pen or finger, at the model's resolution; and pictures from files.

import { clear, hatch, layout, outline, put } from "./stage.js";

export class Pad {
  /** changed(): a stroke has ended.  tool(): "pen", "hide" or "show".  moved(): a stroke goes on. */
  constructor(canvas, changed, tool, moved = () => {}) {
    Object.assign(this, { canvas, changed, tool, example: true, most: 480, windows: [] });
    this.reset([1, 28, 28], true);
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      event.preventDefault();
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      if (this.example && this.tool() === "pen") this.empty();
      this.example = false;
      last = this.at(event);
      this.stroke(last, last);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      for (const one of event.getCoalescedEvents?.() ?? [event]) {
        const next = this.at(one);
        this.stroke(last, next);
        last = next;
      }
      moved();
    });
    for (const name of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(name, () => { if (last) { last = null; this.changed(); } });
    }
  }

  reset(shape, binary) {
    Object.assign(this, { shape, binary, size: shape[1] * shape[2], ink: [255, 255, 255] });
    this.empty();
  }

  empty() {
    this.values = new Uint8Array(this.size * this.shape[0]);
    this.missing = new Uint8Array(this.size);
  }

  /** Set the picture, bytes; an example is replaced by the first stroke. */
  set(values, example = false) {
    this.values = this.binary ? values.map((value) => (value >= 128 ? 255 : 0)) : values.slice();
    this.example = example;
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect(), { gap, scale } = this.plan;
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio].map((v) => (v - gap) / scale);
  }

  /** Draw, hide or show along a line, weighted by the distance of a pixel's centre to it. */
  stroke([x0, y0], [x1, y1]) {
    const tool = this.tool(), [channels, height, width] = this.shape, unit = Math.max(height, width) / 28;
    const radius = unit * (tool === "pen" ? 1.15 : 2.6), dx = x1 - x0, dy = y1 - y0, square = dx * dx + dy * dy;
    const reach = radius + 1, from = (a, b) => Math.max(0, Math.floor(Math.min(a, b) - reach));
    for (let r = from(y0, y1); r < Math.min(height, Math.max(y0, y1) + reach); r++) {
      for (let c = from(x0, x1); c < Math.min(width, Math.max(x0, x1) + reach); c++) {
        const px = c + 0.5 - x0, py = r + 0.5 - y0;
        const along = square ? Math.min(1, Math.max(0, (px * dx + py * dy) / square)) : 0;
        const cover = Math.min(1, Math.max(0, radius + 0.5 - Math.hypot(px - along * dx, py - along * dy)));
        const k = r * width + c;
        if (tool !== "pen") {
          if (cover >= 0.5) this.missing[k] = tool === "hide" ? 1 : 0;
        } else if (this.binary) {
          if (cover >= 0.5) { this.values[k] = 255; this.missing[k] = 0; }
        } else if (cover > 0) {
          for (let i = 0; i < channels; i++) {
            const place = i * this.size + k, ink = channels === 1 ? this.ink[0] : this.ink[i];
            this.values[place] = Math.max(channels === 1 ? this.values[place] : 0, Math.round(this.values[place] * (1 - cover) + ink * cover));
          }
        }
      }
    }
    this.paint();
  }

  /** Hide a part by name. */
  hide(part) {
    const [, height, width] = this.shape;
    const out = { lower: (r) => r >= height / 2, right: (_, c) => c >= width / 2, middle: (r) => r >= height * 0.36 && r < height * 0.64 }[part];
    this.missing = Uint8Array.from({ length: this.size }, (_, k) => Number(out(Math.floor(k / width), k % width)));
  }

  paint() {
    if (!this.canvas.parentElement.clientWidth) return;
    const plan = (this.plan = layout(this.canvas, this.shape, 1, 1, this.most)), context = clear(this.canvas), corner = plan.place(0);
    put(context, this.shape, this.values, 0, ...corner, plan.scale);
    if (this.missing.some(Boolean)) hatch(context, this.missing, plan, corner, this.shape, false);
    for (const [name, window] of this.windows) outline(context, name, window, plan, corner, this.shape);
  }
}

/** A picture file -> bytes of this shape.  Strokes become light on dark, scaled and centred like digits. */
export async function imported(file, [channels, height, width], binary) {
  if (file.size > 30e6) throw new Error("that picture is larger than 30 MB");
  const bitmap = await createImageBitmap(file).catch(() => { throw new Error("this browser cannot read that picture"); });
  const side = Math.min(1, 400 / Math.max(bitmap.width, bitmap.height));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(bitmap.width * side)), height: Math.max(1, Math.round(bitmap.height * side)),
  });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const exact = bitmap.width === width && bitmap.height === height;
  const found = binary && strokes(context, canvas), box = found && !exact ? found : cover(canvas, width / height);
  const small = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
  small.imageSmoothingQuality = "high";
  small.fillRect(0, 0, width, height);
  const scale = box.size ? Math.max(width, height) * 20 / 28 / box.size : Math.max(width / box.w, height / box.h);
  const [w, h] = [box.w * scale, box.h * scale];
  small.drawImage(canvas, box.x, box.y, box.w, box.h, (width - w) / 2, (height - h) / 2, w, h);
  const { data } = small.getImageData(0, 0, width, height);
  const grey = (k) => 0.299 * data[4 * k] + 0.587 * data[4 * k + 1] + 0.114 * data[4 * k + 2];
  const size = height * width;
  return Uint8Array.from({ length: channels * size }, (_, k) => (channels === 3 ? data[4 * (k % size) + Math.floor(k / size)] : grey(k)));
}

function cover({ width, height }, aspect) {
  const w = Math.min(width, height * aspect), h = w / aspect;
  return { x: (width - w) / 2, y: (height - h) / 2, w, h };
}

/** Convert the canvas to light strokes on black by Otsu's threshold; return their bounding box. */
function strokes(context, { width, height }) {
  const image = context.getImageData(0, 0, width, height), { data } = image, size = width * height;
  const grey = Uint8Array.from({ length: size }, (_, k) => 0.299 * data[4 * k] + 0.587 * data[4 * k + 1] + 0.114 * data[4 * k + 2]);
  const counts = new Float64Array(256);
  for (const value of grey) counts[value]++;
  const sum = counts.reduce((total, count, value) => total + count * value, 0);
  let cut = 127, best = -1, below = 0, low = 0;
  for (let value = 0; value < 255; value++) {
    below += counts[value];
    low += counts[value] * value;
    if (!below || below === size) continue;
    const spread = below * (size - below) * (low / below - (sum - low) / (size - below)) ** 2;
    if (spread > best) [best, cut] = [spread, value];
  }
  let border = 0, around = 0;
  grey.forEach((value, k) => {
    const x = k % width, y = Math.floor(k / width);
    if (!x || !y || x === width - 1 || y === height - 1) { around++; border += value > cut; }
  });
  const dark = border > around / 2;
  let [left, top, right, bottom] = [width, height, -1, -1];
  grey.forEach((value, k) => {
    const on = value > cut !== dark, x = k % width, y = Math.floor(k / width);
    data.fill(on ? 255 : 0, 4 * k, 4 * k + 3);
    if (on) [left, top, right, bottom] = [Math.min(left, x), Math.min(top, y), Math.max(right, x), Math.max(bottom, y)];
  });
  context.putImageData(image, 0, 0);
  if (right < 0) return { x: 0, y: 0, w: width, h: height, size: Math.max(width, height) };
  const [w, h] = [right - left + 1, bottom - top + 1];
  return { x: left, y: top, w, h, size: Math.max(w, h) };
}
