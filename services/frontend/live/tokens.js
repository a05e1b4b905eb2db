// Tokens of an answer: coloured by their probability, and what else each might have been.
import { $, make, place, roving, stopAt } from "./dom.js";

const BOUNDS = [0.9, 0.5, 0.2, 0.05];
const box = $("messages");
const popup = make("div", undefined, "popup");
popup.id = "alternatives";
popup.role = "tooltip";
popup.hidden = true;
document.body.append(popup);

const visible = (token) => token.replaceAll(" ", "␣").replaceAll("\n", "⏎").replaceAll("\t", "⇥") || "∅";
const words = (share) => (share >= 0.001 || share === 0 ? `${(100 * share).toFixed(1)} %` : "< 0.1 %");

/** Append `text` to a node, as the tokens that `parts` (of `logprobs.content`) says it is of. What
 * is no token's whole text, as half a letter, stays plain. */
export function appendTokens(node, text, parts) {
  let rest = text;
  for (const part of parts) {
    if (!part.token || !rest.startsWith(part.token)) continue;
    rest = rest.slice(part.token.length);
    node.append(tokenSpan(part));
  }
  if (rest) node.append(rest);
  stopAt(box, ".tok");
}

function tokenSpan(part) {
  const share = Math.exp(part.logprob), level = BOUNDS.findIndex((bound) => share >= bound);
  const span = make("span", part.token, `tok p${level < 0 ? BOUNDS.length : level}`);
  span.tabIndex = -1;
  span.token = part;
  return span;
}

function open(span) {
  close();
  span.classList.add("on");
  span.setAttribute("aria-describedby", popup.id);
  const { token, logprob, top_logprobs } = span.token;
  const head = make("p");
  head.append(make("code", visible(token)), make("b", words(Math.exp(logprob))));
  const table = make("table");
  table.append(...(top_logprobs ?? []).map((one) => line(one, one.token === token)));
  popup.replaceChildren(head, table);
  popup.hidden = false;
  const at = span.getBoundingClientRect(), tall = popup.getBoundingClientRect().height;
  place(popup, at.left, at.bottom + tall + 12 > innerHeight ? at.top - tall - 6 : at.bottom + 6);
}

function line({ token, logprob }, chosen) {
  const row = make("tr", undefined, chosen ? "chosen" : ""), name = make("td"), bar = make("td", undefined, "wide"), fill = make("i");
  const share = Math.exp(logprob);
  name.append(make("code", visible(token)));
  fill.style.width = `${Math.max(100 * share, 1)}%`;
  bar.append(fill);
  row.append(name, bar, make("td", words(share), "number"));
  return row;
}

export function close() {
  popup.hidden = true;
  for (const one of box.querySelectorAll(".tok.on")) {
    one.classList.remove("on");
    one.removeAttribute("aria-describedby");
  }
}

const tokenAt = (event) => event.target.closest?.(".tok");
box.addEventListener("focusin", (event) => { if (tokenAt(event)) open(tokenAt(event)); });
box.addEventListener("focusout", close);
box.addEventListener("mouseover", (event) => {
  if (tokenAt(event)) open(tokenAt(event));
  else if (!box.contains(document.activeElement)) close();
});
box.addEventListener("mouseleave", () => { if (!box.contains(document.activeElement)) close(); });
box.addEventListener("click", (event) => tokenAt(event)?.focus());
box.addEventListener("scroll", close);
roving(box, ".tok", "ArrowLeft", "ArrowRight");
