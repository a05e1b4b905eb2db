// Tables whose rows stay the same nodes from one snapshot to the next, so that focus and pointer
// stay where they are.
import { $, count, make, say, stopAt } from "./dom.js";

/** `build(row)` fills a new row and returns what brings it up to date. */
export class Table {
  constructor(name, build) {
    this.name = name;
    this.body = $(`${name}-rows`);
    this.build = build;
    this.rows = new Map();
  }

  /** `items` in order, `keyOf` each a key; `total`: how many there are, listed or not. */
  draw(items, keyOf, total = items.length) {
    const keys = new Set(items.map(keyOf));
    for (const [key, row] of this.rows) {
      if (keys.has(key)) continue;
      row.remove();
      this.rows.delete(key);
    }
    items.forEach((item, index) => { // a row that is moved loses focus: only where it must be
      const key = keyOf(item);
      let row = this.rows.get(key);
      if (!row) {
        row = make("tr");
        row.update = this.build(row);
        this.rows.set(key, row);
      }
      row.update(item);
      if (this.body.children[index] !== row) this.body.insertBefore(row, this.body.children[index] ?? null);
    });
    stopAt(this.body, "tr[tabindex]");
    this.frame(items.length, total);
  }

  frame(listed, total) {
    this.body.closest(".scroll").hidden = !listed;
    const nodes = ["none", "more", "count"].map((part) => $(`${this.name}-${part}`));
    const [none, more, number] = nodes;
    if (none) none.hidden = listed > 0;
    if (more) say(more, total > listed ? `and ${count(total - listed)} more` : "");
    if (number) say(number, count(total));
  }
}

/** A cell at the end of a row; returns what sets its text. */
export function cell(row, className = "") {
  const box = make("td", undefined, className);
  row.append(box);
  return (text, title = "") => {
    say(box, text);
    if (box.title !== title) box.title = title;
  };
}

/** A tenant's name, or that it has none. */
export function tenantCell(row) {
  const box = make("td", undefined, "name");
  row.append(box);
  return (name) => {
    say(box, name || "no name");
    box.title = name;
    box.classList.toggle("none", !name);
  };
}
