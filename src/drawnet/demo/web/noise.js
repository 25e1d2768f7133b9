// nn/noise.py in JavaScript: the same key gives the numbers that PyTorch's CPU generator gives, so that seed 1 of
// the page draws what `drawnet sample --seed 1` draws.

const rotate = (v, by) => (v >>> by) | (v << (32 - by));
const primes = [];
for (let n = 2; primes.length < 64; n++) if (primes.every((p) => n % p)) primes.push(n);
const fraction = (v) => Math.floor((v - Math.floor(v)) * 2 ** 32);

/** SHA-256 of a text: eight words of 32 bits (FIPS 180-4). */
export function sha256(text) {
  const message = new TextEncoder().encode(text), blocks = Math.ceil((message.length + 9) / 64);
  const bytes = new Uint8Array(64 * blocks), view = new DataView(bytes.buffer), w = new Int32Array(64);
  bytes.set(message);
  bytes[message.length] = 128;
  view.setUint32(bytes.length - 4, 8 * message.length);
  const hash = Int32Array.from(primes.slice(0, 8), (p) => fraction(Math.sqrt(p)));
  const k = Int32Array.from(primes, (p) => fraction(Math.cbrt(p)));
  for (let block = 0; block < blocks; block++) {
    for (let t = 0; t < 16; t++) w[t] = view.getInt32(64 * block + 4 * t);
    for (let t = 16; t < 64; t++) {
      const s0 = rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ (w[t - 15] >>> 3);
      const s1 = rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ (w[t - 2] >>> 10);
      w[t] = w[t - 16] + s0 + w[t - 7] + s1;
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let t = 0; t < 64; t++) {
      const one = (h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & f) ^ (~e & g)) + k[t] + w[t]) | 0;
      const two = ((rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [a, b, c, d, e, f, g, h] = [(one + two) | 0, a, b, c, (d + one) | 0, e, f, g];
    }
    [a, b, c, d, e, f, g, h].forEach((v, i) => { hash[i] += v; });
  }
  return Uint32Array.from(hash);
}

/** MT19937 (Matsumoto and Nishimura 1998), seeded with 32 bits: a function that returns the next 32. */
export function mersenne(seed) {
  const state = new Uint32Array(624);
  state[0] = seed;
  for (let k = 1; k < 624; k++) state[k] = Math.imul(1812433253, state[k - 1] ^ (state[k - 1] >>> 30)) + k;
  let next = 624;
  return () => {
    if (next === 624) {
      for (let k = 0; k < 624; k++) {
        const y = (state[k] & 0x80000000) | (state[(k + 1) % 624] & 0x7fffffff);
        state[k] = state[(k + 397) % 624] ^ (y >>> 1) ^ (y & 1 ? 0x9908b0df : 0);
      }
      next = 0;
    }
    let y = state[next++];
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  };
}

/** A generator for a key (seed, purpose, image): the digest's first eight bytes, little endian, halved; 32 bits count. */
function generator(seed, purpose, image) {
  const [first, second] = sha256(`(${seed}, '${purpose}', ${image})`);
  const swapped = (v) => ((v & 255) << 24 | (v & 65280) << 8 | (v >>> 8) & 65280 | v >>> 24) >>> 0;
  return mersenne((swapped(first) >>> 1 | (swapped(second) & 1) << 31) >>> 0);
}

const uniform = (draw) => (draw() & 0xffffff) / 2 ** 24;

/** U(0, 1) of an image by its number, as torch.rand. */
export function uniform_each(seed, purpose, image, length) {
  const draw = generator(seed, purpose, image);
  return Float32Array.from({ length }, () => uniform(draw));
}

/** N(0, 1) of an image by its number, as torch.randn from 16 numbers on: Box and Muller, eight pairs at a time. */
export function normal_each(seed, purpose, image, length) {
  const draw = generator(seed, purpose, image), padded = Math.max(16, length);
  const values = Float32Array.from({ length: padded }, () => uniform(draw));
  const pairs = (at) => {
    for (let k = at; k < at + 8; k++) {
      const radius = Math.sqrt(-2 * Math.log(1 - values[k])), theta = 2 * Math.PI * values[k + 8];
      values[k] = radius * Math.cos(theta);
      values[k + 8] = radius * Math.sin(theta);
    }
  };
  for (let at = 0; at + 16 <= padded; at += 16) pairs(at);
  if (padded % 16) { // the last 16 are drawn again
    for (let k = padded - 16; k < padded; k++) values[k] = uniform(draw);
    pairs(padded - 16);
  }
  return values.subarray(0, length);
}

/** The noise of an image: T rows of Z. */
export function noise(seed, purpose, image, steps, latents) {
  const values = normal_each(seed, purpose, image, steps * latents);
  return Array.from({ length: steps }, (_, t) => values.subarray(t * latents, (t + 1) * latents));
}
