// The playground: a conversation, streamed.
import { $, count, duration, make, say } from "./dom.js";
import { events } from "./feed.js";
import { another, headers, refused } from "./key.js";
import { appendTokens, close } from "./tokens.js";

const NUMBERS = ["temperature", "top_p", "max_tokens", "seed", "top_k", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"];
const box = $("messages"), greeting = box.firstElementChild;
let alternatives = 5;
let talk = newTalk(); // what is written to a talk that is no more is lost with it

function newTalk() {
  return { turns: [], stop: null };
}

export async function loadModels() {
  for (;;) {
    const response = await fetch("/v1/models", { headers: headers() }).catch(() => null);
    if (response?.ok) {
      refused("chat", 200);
      const names = (await response.json()).data.map((one) => one.id);
      $("model").replaceChildren(...names.map((name) => make("option", name)));
    } else if (response) refused("chat", response.status, "generate");
    await another();
  }
}

function body(turns) {
  const system = $("system").value.trim();
  const numbers = NUMBERS.filter((id) => $(id).value !== "").map((id) => [id, Number($(id).value)]);
  const stop = $("stop_strings").value.split("\n").filter(Boolean);
  return JSON.stringify({
    model: $("model").value || undefined,
    messages: [...(system ? [{ role: "system", content: system }] : []), ...turns],
    stream: true,
    logprobs: true,
    ...(alternatives ? { top_logprobs: alternatives } : {}),
    ...Object.fromEntries(numbers),
    ...(stop.length ? { stop } : {}),
  });
}

async function post(turns, signal) {
  const ask = () => fetch("/v1/chat/completions", { method: "POST", body: body(turns), signal, headers: headers({ "Content-Type": "application/json" }) });
  let response = await ask();
  if (response.ok) return response;
  let { error } = await response.json();
  if (alternatives && error.param === "top_logprobs") { // the server gives none, or fewer
    alternatives = 0;
    response = await ask();
    if (response.ok) return response;
    ({ error } = await response.json());
  }
  throw new Error(error.message);
}

function bubble(role, text = "") {
  greeting.remove();
  const message = make("div", undefined, `message ${role}`);
  message.append(make("p", text, "said"));
  box.append(message);
  box.scrollTop = box.scrollHeight;
  return message;
}

/** An answer as it grows. */
class Answer {
  constructor() {
    this.message = bubble("assistant");
    this.message.classList.add("growing");
    this.said = this.message.firstChild;
    this.text = this.reason = "";
    this.tokens = 0;
    this.began = performance.now();
    this.first = null;
  }

  add(choice) {
    const { content = "", reasoning = "" } = choice.delta, parts = choice.logprobs?.content ?? [];
    this.first ??= performance.now();
    this.tokens += parts.length;
    this.reason = choice.finish_reason ?? this.reason;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    if (reasoning) {
      if (!this.thought) this.message.prepend((this.thought = make("p", undefined, "thought")));
      appendTokens(this.thought, reasoning, parts);
    }
    if (content) appendTokens(this.said, content, parts);
    this.text += content;
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  end(stopped) {
    this.message.classList.remove("growing");
    if (this.first === null) return this.message.remove();
    const seconds = (performance.now() - this.first) / 1000;
    const rate = this.tokens > 1 ? `${count(Math.round((this.tokens - 1) / Math.max(seconds, 0.001)))} tokens/s` : "";
    const parts = [`${count(this.tokens)} ${this.tokens === 1 ? "token" : "tokens"}`, `first after ${duration((this.first - this.began) / 1000)}`, rate, stopped ? "stopped" : this.reason];
    this.message.append(make("p", parts.filter(Boolean).join(" · "), "note figures"));
  }
}

async function answer(mine, asked) {
  const turns = [...mine.turns, { role: "user", content: asked }];
  mine.stop = new AbortController();
  buttons();
  const question = bubble("user", asked), growing = new Answer();
  let failure = null;
  try {
    for await (const data of events(await post(turns, mine.stop.signal))) {
      if (data === "[DONE]") break;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      if (event.choices[0]) growing.add(event.choices[0]);
    }
  } catch (error) {
    failure = error;
  }
  const stopped = failure?.name === "AbortError";
  mine.stop = null;
  if (mine !== talk) return; // another talk has begun
  growing.end(stopped);
  if (growing.text) mine.turns = [...turns, { role: "assistant", content: growing.text }];
  else if (failure) takeBack(question, asked);
  if (failure && !stopped) bubble("error", failure.message).setAttribute("role", "alert");
  else say($("announce"), `Answer: ${growing.text}`);
  buttons();
}

/** Nothing came of it: it is no part of the talk, and can be asked again. */
function takeBack(question, asked) {
  question.classList.add("undone");
  if (!$("text").value) $("text").value = asked;
}

function buttons() {
  const busy = talk.stop !== null;
  $("stop").hidden = !busy;
  $("send").hidden = busy;
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || talk.stop) return;
  $("text").value = "";
  answer(talk, text);
});
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("ask").requestSubmit();
});
$("stop").addEventListener("click", () => { talk.stop?.abort(); $("text").focus(); });
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (talk.stop) talk.stop.abort();
  else close();
});
$("clear").addEventListener("click", () => {
  talk.stop?.abort();
  talk = newTalk();
  close();
  box.replaceChildren(greeting);
  buttons();
  $("text").focus();
});
$("colour").addEventListener("change", () => {
  box.classList.toggle("coloured", $("colour").checked);
  $("scale").hidden = !$("colour").checked;
});
