/* The large heat map: cells on a canvas, labels beside it, gold links and the cursor over it. */

const LARGEST_CELL = 52;
/** Below these the map scrolls in its box instead; long sentences may be smaller, for the sake of the whole. */
const SMALLEST_CELL = { short: 16, long: 7 };
const LONG_SENTENCE = 60;
const SMALLEST_LABEL = 11;

/** Pixels for the longest label, `most` at most; what is longer ends in an ellipsis. */
function labelRoom(labels, most) {
  return Math.min(most, 18 + 9 * Math.max(...labels.map((text) => [...text].length)));
}

class HeatMap {
  constructor(id) {
    this.cursor = null;
    this.keyLabels = element("div", { class: "key-labels" });
    this.queryLabels = element("div", { class: "query-labels" });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.overlay = svgElement("svg", { class: "map-overlay", "aria-hidden": "true" });
    this.field = element(
      "div",
      { id: `${id}-map`, class: "map", tabindex: "0", role: "application", "aria-roledescription": "heat map" },
      this.canvas,
      this.overlay,
    );
    this.box = element(
      "div",
      { class: "map-box" },
      element("div", { class: "corner" }),
      this.keyLabels,
      this.queryLabels,
      this.field,
    );
    this.readout = element("output", { id: `${id}-readout`, class: "readout", "aria-live": "polite" });
    this.listen();
    new ResizeObserver(() => requestAnimationFrame(() => this.pattern && this.layOut())).observe(this.box);
  }

  listen() {
    const follow = (event) => this.moveTo(this.cellAt(event));
    this.field.addEventListener("pointermove", follow);
    this.field.addEventListener("pointerdown", follow);
    this.field.addEventListener("focus", () => this.moveTo(this.cursor ?? { row: 0, column: 0 }));
    this.field.addEventListener("keydown", (event) => {
      const to = this.cellAfter(event.key);
      if (!to || !this.pattern) return;
      event.preventDefault();
      this.moveTo(to);
      this.bringIntoView(to);
    });
  }

  /** Show one head; `links` are the gold ones to outline, {sure, possible}, or null. */
  show(pattern, map, scale, links, name, quantity) {
    const sameLabels = this.pattern?.queries === pattern.queries && this.pattern?.keys === pattern.keys;
    Object.assign(this, { pattern, values: map, scale, links, quantity });
    this.field.setAttribute(
      "aria-label",
      `${name}, ${pattern.queries.length} rows, ${pattern.keys.length} columns. Arrow keys move.`,
    );
    if (!sameLabels) this.writeLabels();
    paintMap(this.canvas, map, pattern.keys.length, scale);
    this.layOut();
    this.moveTo(this.cursor);
  }

  writeLabels() {
    this.cursor = null;
    this.keyLabels.replaceChildren(
      ...this.pattern.keys.map((text) => element("span", { title: text }, isolated(text))),
    );
    this.queryLabels.replaceChildren(
      ...this.pattern.queries.map((text) => element("span", { title: text }, isolated(text))),
    );
  }

  /** Cell size for the room there is, and every n-th label where all would not fit. */
  layOut() {
    const columns = this.pattern.keys.length;
    const labelWidth = labelRoom(this.pattern.queries, this.box.clientWidth < 480 ? 84 : 130);
    const room = (this.box.clientWidth - labelWidth - 2) / columns;
    const least = columns > LONG_SENTENCE ? SMALLEST_CELL.long : SMALLEST_CELL.short;
    this.cell = Math.max(least, Math.min(LARGEST_CELL, Math.floor(room)));
    const every = Math.ceil(SMALLEST_LABEL / this.cell);
    for (const labels of [this.keyLabels, this.queryLabels]) {
      [...labels.children].forEach((label, index) => label.classList.toggle("thinned", index % every !== 0));
    }
    this.box.style.setProperty("--cell", `${this.cell}px`);
    this.box.style.setProperty("--columns", columns);
    this.box.style.setProperty("--rows", this.pattern.queries.length);
    this.box.style.setProperty("--label-width", `${labelWidth}px`);
    this.box.style.setProperty("--label-height", `${labelRoom(this.pattern.keys, 110)}px`);
    this.box.style.setProperty("--label-size", `${Math.max(9, Math.min(14, this.cell - 3))}px`);
    this.drawOverlay();
  }

  drawOverlay() {
    const [width, height] = [this.cell * this.pattern.keys.length, this.cell * this.pattern.queries.length];
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const outlines = [];
    for (const [strength, pairs] of Object.entries(this.links ?? {})) {
      for (const [source, target] of pairs) {
        outlines.push(
          this.outline(target, source, `halo ${strength}`),
          this.outline(target, source, `gold ${strength}`),
        );
      }
    }
    this.cursorOutline = this.outline(0, 0, "cursor");
    this.overlay.replaceChildren(...this.gridLines(width, height), ...outlines, this.cursorOutline);
    this.placeCursor();
  }

  gridLines(width, height) {
    if (this.cell < 12) return [];
    const lines = [];
    for (let x = this.cell; x < width; x += this.cell) lines.push(`M${x} 0V${height}`);
    for (let y = this.cell; y < height; y += this.cell) lines.push(`M0 ${y}H${width}`);
    return [svgElement("path", { class: "grid-lines", d: lines.join("") })];
  }

  outline(row, column, name) {
    const inset = this.cell >= 12 ? 2 : 0.5;
    const size = this.cell - 2 * inset;
    return svgElement("rect", {
      class: name,
      x: column * this.cell + inset,
      y: row * this.cell + inset,
      width: size,
      height: size,
    });
  }

  cellAt(event) {
    const frame = this.field.getBoundingClientRect();
    const row = Math.floor((event.clientY - frame.top) / this.cell);
    const column = Math.floor((event.clientX - frame.left) / this.cell);
    const inside = row >= 0 && column >= 0 && row < this.pattern.queries.length && column < this.pattern.keys.length;
    return inside ? { row, column } : this.cursor;
  }

  cellAfter(key) {
    const moves = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      Home: [0, -1e9],
      End: [0, 1e9],
    };
    if (!moves[key]) return null;
    const { row, column } = this.cursor ?? { row: 0, column: 0 };
    const within = (place, count) => Math.max(0, Math.min(count - 1, place));
    return {
      row: within(row + moves[key][0], this.pattern.queries.length),
      column: within(column + moves[key][1], this.pattern.keys.length),
    };
  }

  bringIntoView({ row, column }) {
    const inner = { left: this.field.offsetLeft + column * this.cell, top: this.field.offsetTop + row * this.cell };
    const [left, top] = [this.queryLabels.offsetWidth, this.keyLabels.offsetHeight];
    const { box, cell } = this;
    box.scrollLeft = Math.max(inner.left + cell - box.clientWidth, Math.min(box.scrollLeft, inner.left - left));
    box.scrollTop = Math.max(inner.top + cell - box.clientHeight, Math.min(box.scrollTop, inner.top - top));
  }

  moveTo(cell) {
    this.cursor = cell;
    this.placeCursor();
    this.readout.replaceChildren(
      ...(cell ? this.reading(cell) : ["Point at a cell, or move with the arrow keys, to read it."]),
    );
  }

  placeCursor() {
    const { row, column } = this.cursor ?? {};
    this.cursorOutline?.classList.toggle("hidden", !this.cursor);
    if (this.cursor) {
      this.cursorOutline?.setAttribute("x", column * this.cell + 1);
      this.cursorOutline?.setAttribute("y", row * this.cell + 1);
      this.cursorOutline?.setAttribute("width", this.cell - 2);
      this.cursorOutline?.setAttribute("height", this.cell - 2);
    }
    [...this.queryLabels.children].forEach((label, index) => label.classList.toggle("current", index === row));
    [...this.keyLabels.children].forEach((label, index) => label.classList.toggle("current", index === column));
  }

  reading({ row, column }) {
    const value = this.values[row * this.pattern.keys.length + column];
    const link = ["sure", "possible"].find((strength) =>
      this.links?.[strength].some(([source, target]) => source === column && target === row),
    );
    return [
      isolated(this.pattern.queries[row], { class: "query" }),
      " to ",
      isolated(this.pattern.keys[column], { class: "key" }),
      `: ${this.quantity} `,
      element("strong", { class: "value" }, exactNumber(value, this.scale.largest)),
      link ? `, ${link} gold link` : "",
    ];
  }
}
