// The models of the server: requests to its API.  `local.js` answers the same requests in the page.

import { bytes } from "./codec.js";

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
      if (values.canvas) values.canvas = bytes(values.canvas);
      take(values);
    }
  }
}

/** Post a request; if the server is busy, retry after the time it states. */
async function post(path, request, signal) {
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

/** An animation of a view, as a file. */
export const gif = async (view, request) => (await post(`api/${view}.gif`, request)).blob();

/** What only models within the page can do. */
export const Along = null, network = null;
