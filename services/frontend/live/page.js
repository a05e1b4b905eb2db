// Entry: theme and views; the rest is in the modules.
import { $, roving } from "./dom.js";
import { look } from "./key.js";
import { watch } from "./feed.js";
import { draw, lost, redraw } from "./server.js";
import { loadModels } from "./chat.js";

// --- theme: the system's, unless the user chose the other ---------------------------------------
const THEME = "octavo-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

function applyTheme() {
  const theme = localStorage.getItem(THEME) || (system.matches ? "dark" : "light");
  document.documentElement.dataset.theme = theme;
  $("theme").setAttribute("aria-label", `Switch to ${theme === "dark" ? "light" : "dark"} colours`);
  redraw();
}
$("theme").addEventListener("click", () => {
  const chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  if (chosen === (system.matches ? "dark" : "light")) localStorage.removeItem(THEME);
  else localStorage.setItem(THEME, chosen);
  applyTheme();
});
system.addEventListener("change", applyTheme);
addEventListener("resize", redraw);

// --- views --------------------------------------------------------------------------------------
const tablist = document.querySelector("[role=tablist]");

function show(tab) {
  for (const one of tablist.children) {
    one.setAttribute("aria-selected", one === tab);
    one.tabIndex = one === tab ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = one !== tab;
  }
  look(tab.getAttribute("aria-controls"));
  redraw();
}
for (const tab of tablist.children) {
  tab.addEventListener("click", () => show(tab));
  tab.addEventListener("focus", () => show(tab));
}
roving(tablist, "[role=tab]", "ArrowLeft", "ArrowRight");
$("try").addEventListener("click", () => { show($("tab-chat")); $("text").focus(); });

applyTheme();
watch(draw, lost);
loadModels();
