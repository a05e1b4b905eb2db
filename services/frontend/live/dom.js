// Small helpers: nodes, words for numbers, one hint at the pointer, arrow keys.
export const $ = (id) => document.getElementById(id);

export function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

/** Set a node's text, where it is another: what is selected or announced stays. */
export function say(node, text) {
  if (node.textContent !== String(text)) node.textContent = text;
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));
export const count = (value) => value.toLocaleString("en");
export const percent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.0995 ? 1 : 0)} %`;

/** 480 µs, 5.2 ms, 263 ms, 5.8 s, 3 min 20 s, 2 h 5 min, 4 d 3 h */
export function duration(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1000).toFixed(1)} ms`;
  if (seconds < 0.9995) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${seconds.toFixed(1)} s`;
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  return parts.slice(first, first + 2).map(([size, unit], index) => {
    const whole = Math.floor((index ? seconds % parts[first][0] : seconds) / size);
    return `${whole} ${unit}`;
  }).join(" ");
}

/** The same in whole seconds: of what has lasted so long. */
export const age = (seconds) => duration(Math.max(Math.floor(seconds), 0)).replace(".0", "").replace("0 µs", "0 s");

export function bytes(value) {
  if (!value) return "–";
  return value < 2 ** 30 ? `${Math.round(value / 2 ** 20)} MiB` : `${(value / 2 ** 30).toFixed(1)} GiB`;
}

/** A line beside the pointer; none: it goes away. */
export function tip(text, x = 0, y = 0) {
  const box = $("tip");
  box.hidden = !text;
  if (!text) return;
  say(box, text);
  place(box, x + 12, y + 14);
}

/** Put a fixed box there, but inside the window. */
export function place(box, x, y) {
  const { width, height } = box.getBoundingClientRect();
  box.style.left = `${Math.max(8, Math.min(x, innerWidth - width - 8))}px`;
  box.style.top = `${Math.max(8, Math.min(y, innerHeight - height - 8))}px`;
}

/** One stop for the tab key in `box`; the arrow keys go on from it. `selector`: where they stop. */
export function roving(box, selector, back, forth) {
  box.addEventListener("keydown", (event) => {
    const here = event.target.closest(selector);
    if (!here) return;
    const all = [...box.querySelectorAll(selector)], at = all.indexOf(here);
    const next = { [back]: all[at - 1], [forth]: all[at + 1], Home: all[0], End: all.at(-1) }[event.key];
    if (!next) return;
    event.preventDefault();
    next.focus();
  });
  box.addEventListener("focusin", (event) => {
    const here = event.target.closest(selector);
    if (here) stopAt(box, selector, here);
  });
}

/** Make `here` the one that the tab key comes to; by default the first, if there is none. */
export function stopAt(box, selector, here = box.querySelector(`${selector}[tabindex="0"]`) || box.querySelector(selector)) {
  for (const one of box.querySelectorAll(`${selector}[tabindex="0"]`)) if (one !== here) one.tabIndex = -1;
  if (here) here.tabIndex = 0;
}
