// The stream of snapshots: followed while the page is seen, and never asked for in a hurry.
import { pause } from "./dom.js";
import { another, headers, refused } from "./key.js";

const SHORT = 10; // seconds; a stream that ends earlier was ended on purpose
const SILENCE = 5; // seconds without news: what is shown is old

export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
  }
}

const seen = () => new Promise((done) => {
  if (!document.hidden) return done();
  document.addEventListener("visibilitychange", () => done(), { once: true });
});

/** Calls `draw` with each snapshot, `lost` with a word where there is none. Never returns. */
export async function watch(draw, lost) {
  for (;;) {
    await seen();
    const began = performance.now();
    try {
      await follow(draw, lost);
    } catch {
      if (!document.hidden) lost("no answer");
    }
    if (!document.hidden && performance.now() - began < SHORT * 1000) await pause(1);
  }
}

async function follow(draw, lost) {
  const stop = new AbortController(), end = () => stop.abort();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { lost("no answer"); end(); }, SILENCE * 1000);
  };
  document.addEventListener("visibilitychange", end);
  heard();
  try {
    const response = await fetch("/ui/events", { headers: headers(), signal: stop.signal });
    refused("server", response.status, "admin");
    if (response.status === 401 || response.status === 403) {
      clearTimeout(timer);
      lost("no key");
      await another();
      return;
    }
    if (!response.ok) throw new Error(response.status);
    for await (const data of events(response)) {
      heard();
      draw(JSON.parse(data));
    }
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", end);
  }
}
