// Tiles: a number of now, and a line of the last two minutes.
import { age, make, say, tip } from "./dom.js";

const SPAN = 120, GAP = 6; // seconds; where nobody watched for so long, the line begins anew
const WIDTH = 240, HEIGHT = 40; // of the drawing, which is stretched
const svg = (tag, values) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
  return node;
};

export class Tile {
  /** `label` is its heading, `text` makes words of a value; `least`: what the scale reaches at least. */
  constructor(box, label, text, least = 0) {
    this.points = []; // [time, value], and [time, null] where nobody watched
    Object.assign(this, { label, text, least });
    this.box = make("div", undefined, "tile");
    this.value = make("p", "–", "value");
    this.note = make("p", "", "note");
    this.most = make("span");
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.area = svg("path", { class: "area" });
    this.line = svg("path", { class: "line" });
    this.mark = svg("path", { class: "mark" });
    this.drawing.append(this.area, this.line, this.mark);
    const scale = make("p", undefined, "scale");
    scale.append(make("span", "2 min"), this.most);
    this.box.append(make("h2", label), this.value, this.note, this.drawing, scale);
    this.drawing.addEventListener("pointermove", (event) => this.point(event));
    this.drawing.addEventListener("pointerleave", () => { this.mark.setAttribute("d", ""); tip(""); });
    box.append(this.box);
  }

  /** `value` null: there is none of this moment, and the last one stays, paler. */
  add(time, value, note = "") {
    if (time - this.now > GAP) this.points.push([time, null]);
    if (value !== null) this.points.push([time, value]);
    while (this.points.length && this.points[0][0] < time - SPAN) this.points.shift();
    this.now = time;
    const last = this.last;
    say(this.value, last ? this.text(last[1]) : "–");
    say(this.note, note);
    this.box.classList.toggle("old", !last || last[0] < time - 5);
    this.draw();
  }

  get last() { return this.points.findLast((one) => one[1] !== null); }
  x(time) { return WIDTH - ((this.now - time) / SPAN) * WIDTH; }
  y(value) { return HEIGHT - 2 - (HEIGHT - 6) * (value / this.top); }

  draw() {
    const most = Math.max(...this.points.map((one) => one[1]), 0);
    this.top = Math.max(most, this.least) || 1;
    let line = "", area = "", begun = null;
    const close = () => { if (begun !== null) area += `V${HEIGHT}H${this.x(begun).toFixed(1)}Z`; begun = null; };
    for (const [time, value] of this.points) {
      if (value === null) { close(); continue; }
      const at = `${begun === null ? "M" : "L"}${this.x(time).toFixed(1)},${this.y(value).toFixed(1)}`;
      line += at;
      area += at;
      begun ??= time;
    }
    close();
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    say(this.most, this.last ? `max ${this.text(most)}` : "");
    const now = this.last ? `now ${this.text(this.last[1])}, at most ${this.text(most)}` : "nothing yet";
    this.drawing.setAttribute("aria-label", `${this.label} in the last two minutes: ${now}`);
  }

  point(event) {
    const values = this.points.filter((one) => one[1] !== null);
    if (!values.length) return;
    const box = this.drawing.getBoundingClientRect();
    const time = this.now - SPAN * (1 - (event.clientX - box.left) / box.width);
    const [at, value] = values.reduce((a, b) => (Math.abs(b[0] - time) < Math.abs(a[0] - time) ? b : a));
    this.mark.setAttribute("d", `M${this.x(at)},0V${HEIGHT}`);
    const past = this.now - at;
    tip(`${this.text(value)} · ${past < 1 ? "now" : `${age(past)} ago`}`, event.clientX, event.clientY);
  }
}
