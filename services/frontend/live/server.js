// The server's view: what a snapshot says, in tiles, the map and tables.
import { $, age, bytes, count, duration, make, percent, roving, say } from "./dom.js";
import { colourOf, drawMap, highlight, paint, prepareMap } from "./map.js";
import { Tile } from "./sparks.js";
import { Table, cell, tenantCell } from "./tables.js";

const WINDOW = 2.5; // seconds that rates and means are of
const SICK = { degraded: "warn", draining: "warn", connecting: "", ready: "good" };
const WAITS = { slot: "its turn", preempted: "its turn, again: it was preempted", grammar: "its grammar to be compiled", trial: "a failed step to be explained" };
let samples = []; // snapshots of the last seconds
let latest = null;

// --- the parts ----------------------------------------------------------------------------------
const tiles = Object.fromEntries([
  ["tokens", "Tokens per second", (value) => count(Math.round(value))],
  ["ttft", "Time to first token", duration],
  ["itl", "Between tokens", duration],
  ["running", "Running", count],
  ["waiting", "Waiting", count],
  ["kv", "KV cache in use", percent, 1],
].map(([name, ...rest]) => [name, new Tile($("tiles"), ...rest)]));

const running = new Table("running", (row) => {
  const dot = make("i", undefined, "dot"), number = make("td"), text = make("span");
  number.append(dot, text);
  row.append(number);
  row.tabIndex = -1;
  const tenant = tenantCell(row), prompt = cell(row, "number extra"), progress = bar(row);
  const blocks = cell(row, "number extra"), since = cell(row, "number");
  const on = () => choose(row.colour), off = () => choose(null);
  row.addEventListener("mouseenter", on);
  row.addEventListener("focus", on);
  row.addEventListener("mouseleave", off);
  row.addEventListener("blur", off);
  return (one) => {
    row.colour = one.colour;
    dot.style.background = colourOf(one.colour);
    say(text, one.number);
    tenant(one.tenant);
    prompt(count(one.prompt), one.cached ? `${count(one.cached)} of them were cached` : "");
    progress(one);
    blocks(count(one.blocks));
    since(duration(one.seconds));
  };
});
roving($("running-rows"), "tr", "ArrowUp", "ArrowDown");

/** The prompt as it is read, then the output as it grows: bar and words are of the same. */
function bar(row) {
  const box = make("td", undefined, "wide"), track = make("div", undefined, "bar"), fill = make("i"), words = make("span");
  track.setAttribute("role", "progressbar");
  track.setAttribute("aria-valuemin", 0);
  track.append(fill);
  box.append(track, words);
  row.append(box);
  return (one) => {
    const reading = one.computed < one.prompt;
    const [done, most] = reading ? [one.computed, one.prompt] : [one.outputs, one.limit];
    fill.style.width = `${Math.min(100, (100 * done) / most)}%`;
    track.classList.toggle("reading", reading);
    const text = `${reading ? "prompt " : ""}${count(done)} / ${count(most)}`;
    say(words, text);
    track.setAttribute("aria-valuemax", most);
    track.setAttribute("aria-valuenow", done);
    track.setAttribute("aria-valuetext", `${text} tokens`);
  };
}

const waiting = new Table("waiting", (row) => {
  const number = cell(row), tenant = tenantCell(row), prompt = cell(row, "number extra"), why = cell(row, "wide"), since = cell(row, "number");
  return (one) => {
    number(one.number);
    tenant(one.tenant);
    prompt(count(one.prompt));
    why(WAITS[one.why] ?? one.why);
    since(duration(one.seconds));
  };
});

const processes = new Table("process", (row) => {
  const name = cell(row), state = cell(row, "state"), up = cell(row, "number"), memory = cell(row, "number");
  const pid = cell(row, "number extra"), restarts = cell(row, "number");
  return (one) => {
    name(one.name);
    state(one.state);
    row.className = one.state === "ready" ? "good" : "warn";
    up(age(one.seconds));
    memory(bytes(one.bytes));
    pid(one.pid);
    restarts(count(one.restarts));
    row.lastChild.classList.toggle("many", one.restarts > 0);
  };
});

const tenants = new Table("tenant", (row) => {
  const name = tenantCell(row), runs = cell(row, "number"), waits = cell(row, "number"), tokens = cell(row, "number");
  return (one) => {
    name(one.name);
    runs(count(one.running));
    waits(count(one.waiting));
    tokens(count(one.tokens));
  };
});

// --- a request stands out -----------------------------------------------------------------------
function choose(colour) {
  highlight(colour);
  for (const row of running.rows.values()) row.classList.toggle("on", row.colour === colour);
}
prepareMap((colour) => {
  const one = latest?.requests.find((each) => each.colour === colour);
  return one ? `request ${one.number}, ${one.blocks} blocks${one.tenant ? `, ${one.tenant}` : ""}` : "a request that is not listed";
}, choose);

// --- snapshots ----------------------------------------------------------------------------------
export function draw(now) {
  if (!now.totals) return lost(now.state);
  setState(now.state, SICK[now.state] ?? "bad");
  $("server").classList.remove("stale");
  latest = now;
  about(now);
  measure(now);
  drawMap(now.map, now.blocks);
  running.draw(now.requests, (one) => one.number, now.running);
  waiting.draw(now.queue, (one) => one.number, now.waiting);
  processes.draw(now.processes, (one) => one.name);
  tenants.draw(now.tenants, (one) => one.name);
  $("tenant-note").hidden = !now.tenants.length;
  $("tab-chat").hidden = $("try").hidden = now.pooling; // what makes vectors does not chat
}

/** What is shown is old, and looks it. */
export function lost(state) {
  setState(state, SICK[state] ?? "bad");
  $("server").classList.add("stale");
}

/** Theme or size have changed. */
export function redraw() {
  paint();
  if (latest) for (const row of running.rows.values()) row.querySelector(".dot").style.background = colourOf(row.colour);
}

function setState(text, kind) {
  say($("state"), text);
  $("state").className = `badge ${kind}`;
}

function about(now) {
  const server = now.processes.find((one) => one.name === "supervisor");
  const parts = [now.model, `${count(now.context)} tokens of context`, `v${now.version}`, server && `up ${age(server.seconds)}`];
  say($("about"), parts.filter(Boolean).join(" · "));
  $("about").title = $("about").textContent;
  document.title = `${now.model} · Octavo`;
}

function measure(now) {
  const before = samples.at(-1);
  if (before && (now.time - before.time > 3 || now.totals.generation_tokens < before.totals.generation_tokens)) samples = [];
  const base = samples.findLast((one) => now.time - one.time >= WINDOW) ?? samples[0];
  samples = [...samples.filter((one) => now.time - one.time < 2 * WINDOW), now];
  const rise = (name) => now.totals[name] - base.totals[name];
  const mean = (name) => (base && rise(`${name}_count`) > 0 ? rise(`${name}_sum`) / rise(`${name}_count`) : null);
  const { time, blocks } = now;
  tiles.tokens.add(time, base && time > base.time ? rise("generation_tokens") / (time - base.time) : null);
  tiles.ttft.add(time, mean("ttft"));
  tiles.itl.add(time, mean("itl"));
  tiles.running.add(time, now.running, `of ${count(now.slots)}`);
  tiles.waiting.add(time, now.waiting);
  tiles.kv.add(time, blocks.used / blocks.total, `of ${count(blocks.total * blocks.size)} tokens`);
}
