// The map of KV blocks: a square for each, or for every n-th where there are many.
import { $, count, make, say, tip } from "./dom.js";

const FREE = 0, CACHED = 1, SHARED = 2;
const KINDS = [
  ["own", "of one request", "Blocks that one request uses, in its colour"],
  ["shared", "shared", "Blocks that several requests use: their prompts begin alike"],
  ["cached", "cached", "Free, but found by a prompt that begins alike, until somebody else needs them"],
  ["free", "free", ""],
];
const canvas = $("map");
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const numbers = {};
let shown = null; // { cells, size, columns }
let chosen = null; // the colour that stands out
let name = () => ""; // colour -> whose
let hover = () => {};

for (const [kind, label, title] of KINDS) {
  const line = make("li");
  line.title = title;
  numbers[kind] = make("b", "–");
  line.append(make("i", undefined, kind), `${label} `, numbers[kind]);
  $("legend").append(line);
}

/** Requests have the hues from pink by orange and green to cyan: blue is cached, violet shared. */
export function colourOf(code) {
  const hue = (330 + ((code * 0.61803) % 1) * 255) % 360;
  const light = Number(css("--owner-light")) + [0, 0.08, -0.08][code % 3];
  return `oklch(${light.toFixed(2)} ${css("--owner-full")} ${hue.toFixed(0)})`;
}

/** `whose` names a colour's request; `onHover` is told the colour under the pointer, or null. */
export function prepareMap(whose, onHover) {
  name = whose;
  hover = onHover;
}

export function drawMap(text, blocks) {
  const cells = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  shown = { cells };
  const own = blocks.used - blocks.shared, free = blocks.total - blocks.used - blocks.cached;
  for (const [kind, value] of Object.entries({ own, shared: blocks.shared, cached: blocks.cached, free })) say(numbers[kind], count(value));
  const share = Math.ceil(blocks.total / cells.length);
  say($("sample"), share > 1 ? `${count(blocks.total)} blocks of ${blocks.size} tokens; every ${share}th is drawn.` : `${count(blocks.total)} blocks of ${blocks.size} tokens.`);
  canvas.setAttribute("aria-label", `Of ${blocks.total} KV blocks, ${own} belong to one request each, ${blocks.shared} are shared, ${blocks.cached} cached, ${free} free.`);
  canvas.dataset.used = cells.filter((code) => code > CACHED).length;
  paint();
}

/** Let a request's blocks stand out; null: none. */
export function highlight(code) {
  if (code === chosen) return;
  chosen = code;
  paint();
}

export function paint() {
  const width = canvas.parentElement.clientWidth - 2 * parseFloat(getComputedStyle(canvas.parentElement).paddingLeft);
  if (!shown || width < 10) return;
  const { cells } = shown, tallest = width < 500 ? 150 : 190;
  const wanted = Math.min(Math.max(Math.sqrt((width * tallest) / cells.length), 4), 18);
  const columns = Math.floor(width / wanted), size = width / columns, rows = Math.ceil(cells.length / columns);
  Object.assign(shown, { size, columns });
  const sharp = devicePixelRatio || 1;
  canvas.style.height = `${rows * size}px`;
  canvas.width = Math.round(width * sharp);
  canvas.height = Math.round(rows * size * sharp);
  const pen = canvas.getContext("2d"), gap = size > 6 ? 1.5 : 1;
  pen.scale(sharp, sharp);
  const colours = new Map([[FREE, css("--free")], [CACHED, css("--cached")], [SHARED, css("--shared")]]);
  const card = css("--card");
  cells.forEach((code, index) => {
    if (!colours.has(code)) colours.set(code, colourOf(code));
    const x = (index % columns) * size, y = Math.floor(index / columns) * size, side = size - gap;
    pen.globalAlpha = chosen === null || code === chosen ? 1 : 0.22;
    pen.fillStyle = colours.get(code);
    pen.beginPath();
    pen.roundRect(x, y, side, side, size > 8 ? 2 : 1);
    pen.fill();
    if (code !== SHARED || size < 6) return; // not told by its colour alone
    pen.fillStyle = card;
    pen.fillRect(x + side * 0.33, y + side * 0.33, side * 0.34, side * 0.34);
  });
}

canvas.addEventListener("pointermove", (event) => {
  if (!shown?.columns) return;
  const box = canvas.getBoundingClientRect();
  const column = Math.min(Math.floor((event.clientX - box.left) / shown.size), shown.columns - 1);
  const code = shown.cells[Math.floor((event.clientY - box.top) / shown.size) * shown.columns + column];
  hover(code > SHARED ? code : null);
  const words = { [FREE]: "free", [CACHED]: "cached", [SHARED]: "shared" };
  tip(code === undefined ? "" : words[code] ?? name(code), event.clientX, event.clientY);
});
canvas.addEventListener("pointerleave", () => { hover(null); tip(""); });
