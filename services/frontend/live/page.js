"use strict";
const $ = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
};
const row = (...cells) => {
  const line = make("tr");
  for (const cell of cells) {
    const box = make("td");
    box.append(cell);
    line.append(box);
  }
  return line;
};

// --- key, theme, tabs -------------------------------------------------------------------------
const key = () => sessionStorage.getItem("octavo-key") || "";
const headers = (more) => ({ ...(key() ? { Authorization: `Bearer ${key()}` } : {}), ...more });

function askForKey(text) {
  $("login").hidden = false;
  $("login-error").textContent = text;
  $("key").focus();
}
$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("octavo-key", $("key").value.trim());
  $("login").hidden = true;
  loadModels();
});

const themes = ["dark", "light"];
function setTheme(name) {
  document.documentElement.dataset.theme = name;
  localStorage.setItem("octavo-theme", name);
  if (before) draw(before);
}
let before = null;
setTheme(localStorage.getItem("octavo-theme") ||
  (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light"));
$("theme").addEventListener("click", () =>
  setTheme(themes.find((one) => one !== document.documentElement.dataset.theme)));

const tabs = [$("tab-server"), $("tab-chat")];
function show(tab) {
  for (const one of tabs) {
    const on = one === tab;
    one.setAttribute("aria-selected", on);
    one.tabIndex = on ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !on;
  }
  tab.focus();
}
tabs.forEach((tab, index) => {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("keydown", (event) => {
    if (event.key === "ArrowRight" || event.key === "ArrowLeft") show(tabs[1 - index]);
  });
});

// --- snapshots --------------------------------------------------------------------------------
async function* events(response) {
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
const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

async function watch() {
  for (;;) {
    try {
      const response = await fetch("/ui/events", { headers: headers() });
      if (response.status === 401 || response.status === 403) {
        setState("no key", true);
        if (document.activeElement !== $("key"))
          askForKey(key() ? (response.status === 403 ? "This key lacks the scope admin." : "This key is unknown.") : "");
        await pause(1);
        continue;
      }
      for await (const data of events(response)) draw(JSON.parse(data));
    } catch (error) {
      setState("no answer", true);
      await pause(1);
    }
  }
}

function setState(text, bad) {
  $("state").textContent = text;
  $("state").className = `badge ${bad ? "bad" : "ready"}`;
}

const LENGTH = 120; // a minute
const history = { tokens: [], ttft: [], itl: [], running: [] };
const colour = (code) => {
  if (code === 0) return css("--free");
  if (code === 1) return css("--cached");
  if (code === 2) return css("--shared");
  return `hsl(${(code * 137.5) % 360} 62% ${dark() ? 60 : 48}%)`;
};
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name);
const dark = () => document.documentElement.dataset.theme === "dark";
const ms = (seconds) => (seconds === null ? "–" : `${(seconds * 1000).toFixed(seconds < 0.1 ? 1 : 0)} ms`);

function draw(now) {
  if (!now.totals) return setState(now.state, true);
  setState(now.degraded ? "degraded" : "ready", now.degraded);
  if (before && now.time > before.time) note(now);
  before = now;
  $("running").textContent = now.running;
  $("waiting").textContent = now.waiting;
  $("kv").textContent = `${(100 * now.blocks.used / now.blocks.total).toFixed(1)} %`;
  $("kv-text").textContent = `of ${(now.blocks.total * now.blocks.size).toLocaleString("en")} KV tokens`;
  drawMap(now.map);
  drawRequests(now);
  $("processes").replaceChildren(...Object.entries(now.processes).map(([name, state]) => {
    const restarts = now.restarts[name.split("-")[0]] || 0;
    return row(name, state, restarts ? `restarts of its kind: ${restarts}` : "");
  }));
  $("tenants").replaceChildren(...now.tenants.map((one) =>
    row(one.name || "(none)", one.running, one.waiting, one.tokens.toLocaleString("en"))));
}

function note(now) {
  const seconds = now.time - before.time;
  const rise = (name) => Math.max(now.totals[name] - before.totals[name], 0);
  const mean = (name) => (rise(`${name}_count`) ? rise(`${name}_sum`) / rise(`${name}_count`) : null);
  const values = { tokens: rise("generation_tokens") / seconds, ttft: mean("ttft"), itl: mean("itl"), running: now.running };
  for (const [name, value] of Object.entries(values)) {
    history[name].push(value);
    if (history[name].length > LENGTH) history[name].shift();
    spark($(`spark-${name}`), history[name]);
  }
  $("tokens").textContent = Math.round(values.tokens).toLocaleString("en");
  $("ttft").textContent = ms(values.ttft ?? last(history.ttft));
  $("itl").textContent = ms(values.itl ?? last(history.itl));
}
const last = (values) => values.findLast((one) => one !== null) ?? null;

function spark(canvas, values) {
  const pen = canvas.getContext("2d"), { width, height } = canvas;
  const most = Math.max(...values, 1e-9);
  pen.clearRect(0, 0, width, height);
  pen.strokeStyle = css("--accent");
  pen.lineWidth = 2;
  pen.beginPath();
  let open = false;
  values.forEach((value, index) => {
    if (value === null) { open = false; return; }
    const x = width - (values.length - 1 - index) * (width / LENGTH), y = height - 3 - (height - 6) * (value / most);
    open ? pen.lineTo(x, y) : pen.moveTo(x, y);
    open = true;
  });
  pen.stroke();
}

function drawMap(runs) {
  const canvas = $("map"), cells = [];
  for (let i = 0; i < runs.length; i += 2) for (let n = 0; n < runs[i + 1]; n++) cells.push(runs[i]);
  const width = canvas.clientWidth || 600, size = width < 500 ? 6 : 9, columns = Math.floor(width / size);
  canvas.width = columns * size;
  canvas.height = Math.ceil(cells.length / columns) * size;
  const pen = canvas.getContext("2d");
  const colours = new Map();
  cells.forEach((code, index) => {
    if (!colours.has(code)) colours.set(code, colour(code));
    pen.fillStyle = colours.get(code);
    pen.fillRect((index % columns) * size, Math.floor(index / columns) * size, size - 1, size - 1);
  });
  canvas.dataset.used = cells.filter((code) => code > 1).length;
}

function drawRequests(now) {
  const lines = now.requests.map((one) => {
    const name = make("span");
    const dot = make("i", "", "dot");
    dot.style.background = colour(one.colour);
    name.append(dot, String(one.number));
    const bar = make("progress");
    bar.max = one.prompt + one.limit;
    bar.value = Math.min(one.computed, bar.max);
    const filling = one.computed < one.prompt;
    const done = filling ? `prompt ${one.computed} of ${one.prompt}` : `${one.outputs} of ${one.limit}`;
    return row(name, one.tenant || "", one.prompt, bar, done, one.blocks, `${one.seconds.toFixed(1)} s`);
  });
  const queue = now.queue.map((one) => row(String(one.number), one.tenant || "", one.prompt, "", "waits", "", `${one.seconds.toFixed(1)} s`));
  $("requests").replaceChildren(...lines, ...queue);
  const left = now.running + now.waiting - lines.length - queue.length;
  $("more").textContent = left > 0 ? `and ${left} more` : "";
}

// --- playground -------------------------------------------------------------------------------
const talk = [];
let stopper = null;

async function loadModels() {
  const response = await fetch("/v1/models", { headers: headers() });
  if (!response.ok) return;
  const names = (await response.json()).data.map((one) => one.id);
  $("model").replaceChildren(...names.map((name) => make("option", name)));
}

function bubble(role, text, className = "") {
  const box = make("p", undefined, `message ${className}`);
  box.append(make("b", role), make("span", text));
  $("messages").append(box);
  $("messages").scrollTop = $("messages").scrollHeight;
  return box.lastChild;
}

function body() {
  const system = $("system").value ? [{ role: "system", content: $("system").value }] : [];
  const number = (id) => ($(id).value === "" ? undefined : Number($(id).value));
  return JSON.stringify({
    model: $("model").value || undefined,
    messages: [...system, ...talk],
    stream: true,
    logprobs: true,
    top_logprobs: 5,
    temperature: number("temperature"),
    top_p: number("top_p"),
    max_tokens: number("max_tokens"),
    seed: number("seed"),
    stream_options: { include_usage: true },
  });
}

async function answer() {
  stopper = new AbortController();
  $("send").disabled = !($("stop").disabled = false);
  const box = bubble("assistant", "");
  const began = performance.now();
  let first = null, tokens = 0, text = "";
  try {
    const response = await fetch("/v1/chat/completions", {
      method: "POST", body: body(), signal: stopper.signal, headers: headers({ "Content-Type": "application/json" }),
    });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const data of events(response)) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      const choice = event.choices[0];
      if (!choice) continue;
      text += choice.delta.content || "";
      first ??= performance.now() - began;
      let rest = choice.delta.content || "";
      for (const part of choice.logprobs?.content ?? []) {
        tokens += 1;
        if (!part.token || !rest.startsWith(part.token)) continue; // the end's token, or half a letter
        rest = rest.slice(part.token.length);
        box.append(tokenSpan(part));
      }
      if (rest) box.append(rest);
      $("messages").scrollTop = $("messages").scrollHeight;
    }
  } catch (error) {
    if (error.name !== "AbortError") bubble("error", error.message, "error");
  }
  const seconds = (performance.now() - began) / 1000;
  $("stats").textContent = first === null ? "" :
    `${tokens} tokens, first after ${first.toFixed(0)} ms, ${(tokens / Math.max(seconds - first / 1000, 0.001)).toFixed(0)}/s`;
  talk.push({ role: "assistant", content: text });
  $("send").disabled = !($("stop").disabled = true);
  stopper = null;
}

function tokenSpan(part) {
  const span = make("span", part.token, "tok");
  const share = Math.exp(part.logprob);
  if ($("colour").checked) span.style.background = `hsl(${120 * share} 70% 50% / ${0.45 - 0.35 * share})`;
  span.tabIndex = -1;
  const tell = () => {
    document.querySelectorAll(".tok.on").forEach((one) => one.classList.remove("on"));
    span.classList.add("on");
    const table = make("table");
    const line = (token, logprob) => row(JSON.stringify(token), `${(100 * Math.exp(logprob)).toFixed(1)} %`);
    table.append(...part.top_logprobs.map((one) => line(one.token, one.logprob)));
    $("token").replaceChildren(`${JSON.stringify(part.token)}: ${(100 * share).toFixed(1)} %`, table);
  };
  span.addEventListener("mouseenter", tell);
  span.addEventListener("focus", tell);
  span.addEventListener("click", tell);
  return span;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || stopper) return;
  $("text").value = "";
  talk.push({ role: "user", content: text });
  bubble("you", text);
  answer();
});
$("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
$("stop").addEventListener("click", () => stopper?.abort());
document.addEventListener("keydown", (event) => { if (event.key === "Escape") stopper?.abort(); });
$("clear").addEventListener("click", () => {
  stopper?.abort();
  talk.length = 0;
  $("messages").replaceChildren();
  $("stats").textContent = "";
});

watch();
loadModels();
