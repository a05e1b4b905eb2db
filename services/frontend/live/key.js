// The API key: asked for once, where a view needs one, and never in the way of the other view.
import { $, say } from "./dom.js";

const NAME = "octavo-key";
const wants = { server: null, chat: null }; // by view: why it has no use for the key there is
const waiting = [];
let view = "server", asked = false;

export const key = () => sessionStorage.getItem(NAME) || "";
export const headers = (more) => ({ ...(key() ? { Authorization: `Bearer ${key()}` } : {}), ...more });

/** A view was refused (401 or 403), or not. */
export function refused(which, status, scope) {
  const refusals = { 401: key() ? "This key is unknown." : "", 403: `This key lacks the scope ${scope}.` };
  wants[which] = refusals[status] ?? null;
  show();
}

/** Another view is looked at. */
export function look(which) {
  view = which;
  show();
}

/** Resolves when another key was given. */
export const another = () => new Promise((done) => waiting.push(done));

function show() {
  const wanted = wants[view] !== null;
  $("login").hidden = !wanted;
  document.body.classList.toggle("locked", wanted);
  if (!wanted) return;
  say($("login-error"), wants[view]);
  if (!asked && document.activeElement === document.body) $("key").focus();
  asked = true;
}

$("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(NAME, $("key").value.trim());
  waiting.splice(0).forEach((done) => done());
});
