// Drawing on canvases: grids of pictures with windows, bars, strips.  Pixels are enlarged by whole numbers.

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

/** Channels first, bytes -> an ImageData of one picture. */
function pixels([channels, height, width], values, offset = 0) {
  const size = height * width, image = new ImageData(width, height);
  for (let k = 0; k < size; k++) {
    for (let c = 0; c < 3; c++) image.data[4 * k + c] = values[offset + (channels === 3 ? c * size : 0) + k];
    image.data[4 * k + 3] = 255;
  }
  return image;
}

const scratch = document.createElement("canvas");

/** Draw a picture at (x, y), each of its pixels a square of `scale` screen pixels. */
export function put(context, shape, values, offset, x, y, scale) {
  [scratch.height, scratch.width] = shape.slice(1);
  scratch.getContext("2d").putImageData(pixels(shape, values, offset), 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(scratch, x, y, shape[2] * scale, shape[1] * scale);
}

/** Return how many screen pixels a pixel would get. */
export function enlargement(canvas, [, height, width], columns, rows, most) {
  const ratio = window.devicePixelRatio || 1;
  return Math.min(canvas.parentElement.clientWidth * ratio / (columns * width), most * ratio / (rows * height));
}

/** Fit a canvas to its room: return the enlargement and the positions of the tiles. */
export function layout(canvas, shape, columns, rows, most) {
  const [, height, width] = shape, ratio = window.devicePixelRatio || 1;
  const room = canvas.parentElement.clientWidth * ratio, tall = most * ratio;
  const fit = (gap) => Math.floor(Math.min((room - gap * (columns + 1)) / (columns * width), (tall - gap * (rows + 1)) / (rows * height)));
  const margin = (scale) => Math.max(2, Math.round(Math.min(10 * ratio, scale * Math.max(width, height) / 24)));
  let scale = Math.max(1, fit(2));
  while (scale > 1 && scale > fit(margin(scale))) scale--;
  const gap = margin(scale);
  const size = [columns * (width * scale + gap) + gap, rows * (height * scale + gap) + gap];
  if (canvas.width !== size[0] || canvas.height !== size[1]) [canvas.width, canvas.height] = size;
  canvas.style.width = `${size[0] / ratio}px`;
  canvas.style.height = `${size[1] / ratio}px`;
  const place = (k) => [gap + (k % columns) * (width * scale + gap), gap + Math.floor(k / columns) * (height * scale + gap)];
  return { columns, rows, scale, gap, place, ratio, nib: scale * Math.max(width, height) / 24 };
}

export function clear(canvas) {
  const context = canvas.getContext("2d");
  context.fillStyle = colour("tile");
  context.fillRect(0, 0, canvas.width, canvas.height);
  return context;
}

/** Draw a window (x, y, side, σ) as a square: the sharper its filters, the thicker its line. */
export function outline(context, name, [x, y, side, sigma], plan, corner, [, height, width]) {
  const { scale, gap, nib } = plan, line = Math.max(nib / (1 + sigma), 1);
  const edge = (centre, reach, size) => Math.min(Math.max(scale * (centre - 0.5 + reach), -gap / 2), scale * size + gap / 2);
  const half = (side + 1) / 2;
  const [left, right] = [edge(x, -half, width), edge(x, half, width)];
  const [top, bottom] = [edge(y, -half, height), edge(y, half, height)];
  context.lineJoin = "miter";
  for (const [style, extra] of [["rgb(0 0 0 / 40%)", 2], [name === "read" ? "rgb(50 150 255)" : "rgb(235 50 35)", 0]]) {
    context.strokeStyle = style;
    context.lineWidth = line + extra;
    context.strokeRect(corner[0] + left, corner[1] + top, right - left, bottom - top);
  }
}

/** Hatch the pixels where `missing`, or outline them if `filled`. */
export function hatch(context, missing, plan, corner, [, height, width], filled) {
  const { scale } = plan;
  context.save();
  context.translate(...corner);
  context.beginPath();
  const at = (r, c) => missing[r * width + c];
  if (!filled) {
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) if (at(r, c)) context.rect(c * scale, r * scale, scale, scale);
    context.clip();
    context.fillStyle = "rgb(255 255 255 / 9%)";
    context.fillRect(0, 0, width * scale, height * scale);
    context.beginPath();
    const pace = Math.max(6, Math.round(scale * width / 28));
    for (let k = -height * scale; k < width * scale; k += pace) { context.moveTo(k, height * scale); context.lineTo(k + height * scale, 0); }
    context.strokeStyle = colour("hatch");
    context.lineWidth = Math.max(1, plan.ratio);
    context.stroke();
  } else {
    for (let r = 0; r < height; r++) for (let c = 0; c < width; c++) {
      if (r && at(r, c) !== at(r - 1, c)) { context.moveTo(c * scale, r * scale); context.lineTo((c + 1) * scale, r * scale); }
      if (c && at(r, c) !== at(r, c - 1)) { context.moveTo(c * scale, r * scale); context.lineTo(c * scale, (r + 1) * scale); }
    }
    context.strokeStyle = "rgb(50 150 255 / 85%)";
    context.lineWidth = Math.max(1, Math.round(plan.ratio));
    context.stroke();
  }
  context.restore();
}

function strip(canvas, pad) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
  const context = canvas.getContext("2d");
  return { context, left: pad * ratio, width: canvas.width - 2 * pad * ratio, height: canvas.height, ratio };
}

/** Draw values as bars, bar t between t - 1 and t on the time line; future ones are faint. */
export function bars(canvas, values, step) {
  const { context, left, width, height, ratio } = strip(canvas, 9);
  const top = Math.max(...values, 1e-9), wide = width / values.length;
  values.forEach((value, k) => {
    context.globalAlpha = k < step ? 1 : 0.25;
    context.fillStyle = colour(k + 1 === step ? "write" : "soft");
    const tall = Math.max(ratio, (height - 2 * ratio) * value / top);
    context.fillRect(left + k * wide, height - tall, Math.max(1, wide * 0.8), tall);
  });
}

/** Draw a row of a morph's pictures under its time line, the one nearest to `step` marked. */
export function row(canvas, shape, values, n, step) {
  const { context, left, width, height, ratio } = strip(canvas, 9);
  const [, h, w] = shape, size = shape.reduce((a, b) => a * b);
  const wanted = Math.max(2, Math.min(n, Math.floor(width / (44 * ratio))));
  const scale = Math.max(1, Math.floor(Math.min((width / wanted - 4 * ratio) / w, (height - 6 * ratio) / h)));
  const chosen = Array.from({ length: wanted }, (_, k) => Math.round(k * (n - 1) / (wanted - 1)));
  const near = chosen.reduce((a, b) => (Math.abs(b - step) < Math.abs(a - step) ? b : a));
  chosen.forEach((k, place) => {
    const x = Math.round(left + (width - w * scale) * place / (wanted - 1)), y = Math.round(3 * ratio);
    if (k === near) {
      context.fillStyle = colour("write");
      context.fillRect(x - 2 * ratio, y - 2 * ratio, w * scale + 4 * ratio, h * scale + 4 * ratio);
    }
    put(context, shape, values, k * size, x, y, scale);
  });
}

/** Combine canvases side by side, as they are saved. */
export function together(canvases) {
  const whole = document.createElement("canvas"), space = 24;
  whole.height = Math.max(...canvases.map((c) => c.height));
  whole.width = canvases.reduce((sum, c) => sum + c.width + space, -space);
  const context = clear(whole);
  let x = 0;
  for (const c of canvases) {
    context.drawImage(c, x, Math.round((whole.height - c.height) / 2));
    x += c.width + space;
  }
  return whole;
}
