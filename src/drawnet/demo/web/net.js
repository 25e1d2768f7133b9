// Requests to the API, and pictures as strings.

/** Post a request; call `take` with every line of the response as it arrives. */
export async function stream(view, request, take, signal) {
  const answer = await post(`api/${view}`, request, signal);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const values = JSON.parse(line);
      if (values.error) throw new Error(values.error);
      take(values);
    }
  }
}

/** Post a request; if the server is busy, retry after the time it states. */
export async function post(path, request, signal) {
  for (let tries = 0; ; tries++) {
    const answer = await fetch(path, {
      method: "POST", signal, body: JSON.stringify(request), headers: { "Content-Type": "application/json" },
    });
    if (answer.ok) return answer;
    if (answer.status !== 503 || tries === 20) {
      throw new Error((await answer.json().catch(() => ({}))).error ?? `the server says ${answer.status}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 1000 * (Number(answer.headers.get("Retry-After")) || 1)));
  }
}

export const models = async () => (await (await fetch("api/models")).json()).models;

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
