// Pictures as strings.

/** Base64 or base64url -> bytes. */
export function bytes(text) {
  const raw = atob(text.replace(/-/g, "+").replace(/_/g, "/"));
  const array = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) array[k] = raw.charCodeAt(k);
  return array;
}

function base64url(array) {
  let raw = "";
  for (const value of array) raw += String.fromCharCode(value);
  return btoa(raw).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

/** Values, 1 from 128 on -> bits, eight to a byte, most significant first. */
export function packed(values) {
  const array = new Uint8Array(Math.ceil(values.length / 8));
  values.forEach((value, k) => { if (value >= 128) array[k >> 3] |= 128 >> (k & 7); });
  return base64url(array);
}

/** The inverse: values 0 and 255; or the bytes themselves if there is one per value. */
export function unpacked(text, size) {
  const array = bytes(text);
  if (array.length === size) return array;
  if (array.length !== Math.ceil(size / 8)) throw new Error("the link holds a picture of another size");
  return Uint8Array.from({ length: size }, (_, k) => (array[k >> 3] >> (7 - (k & 7)) & 1) * 255);
}

export const encoded = (values, binary) => (binary ? packed(values) : base64url(values));
