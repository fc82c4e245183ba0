/* Queries and keys as two columns of tokens, joined by lines: the more weight, the stronger. */

const MOST_LINES = 2000;
const FAINTEST_LINE = 0.03;
/** All lines have the colour of this place on the ramp; opacity and width tell how strong they are. */
const LINE_COLOUR = 0.8;

class Lines {
  constructor(id) {
    this.held = null;
    this.queries = element("div", { class: "tokens queries", role: "group" });
    this.keys = element("div", { class: "tokens keys", role: "group" });
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.field = element("div", { class: "line-field" }, this.canvas);
    this.box = element("div", { id: `${id}-lines`, class: "lines-box" }, this.queries, this.field, this.keys);
    this.note = element("p", { class: "reason" });
    this.hold(this.queries, "row");
    this.hold(this.keys, "column");
    new ResizeObserver(() => requestAnimationFrame(() => this.pattern && this.draw())).observe(this.field);
  }

  /** While a token is pointed at or focused, only its own row or column is drawn. */
  hold(tokens, side) {
    const grasp = (event) => {
      const button = event.target.closest("button");
      if (button) this.holdOn({ side, index: [...tokens.children].indexOf(button) });
    };
    for (const name of ["pointerover", "focusin", "click"]) tokens.addEventListener(name, grasp);
    for (const name of ["pointerleave", "focusout"]) tokens.addEventListener(name, () => this.holdOn(null));
    rove(tokens, () => 1);
  }

  holdOn(held) {
    this.held = held;
    this.draw();
  }

  show(pattern, map, scale, [queryName, keyName]) {
    const sameLabels = this.pattern?.queries === pattern.queries && this.pattern?.keys === pattern.keys;
    Object.assign(this, { pattern, map, scale });
    if (!sameLabels) {
      this.held = null;
      this.write(this.queries, pattern.queries, queryName);
      this.write(this.keys, pattern.keys, keyName);
      this.box.classList.toggle("dense", Math.max(pattern.queries.length, pattern.keys.length) > 40);
    }
    this.draw();
  }

  write(tokens, labels, name) {
    tokens.setAttribute("aria-label", name);
    tokens.replaceChildren(
      ...labels.map((text, index) =>
        element("button", { type: "button", tabindex: index ? "-1" : "0", title: text }, isolated(text)),
      ),
    );
  }

  /** [row, column, place] of the lines to draw, the weakest first. */
  chosen() {
    const columns = this.pattern.keys.length;
    const lines = [];
    this.map.forEach((value, index) => {
      const [row, column] = [Math.floor(index / columns), index % columns];
      if (this.held && this.held.index !== (this.held.side === "row" ? row : column)) return;
      const place = this.scale.place(value);
      if (Math.abs(place) >= FAINTEST_LINE) lines.push([row, column, place]);
    });
    lines.sort((one, other) => Math.abs(one[2]) - Math.abs(other[2]));
    return lines.slice(-MOST_LINES);
  }

  draw() {
    const lines = this.chosen();
    this.note.textContent = lines.length === MOST_LINES ? `The ${MOST_LINES} strongest lines are drawn.` : "";
    this.shade(lines);
    const { clientWidth: width, clientHeight: height } = this.field;
    const density = window.devicePixelRatio || 1;
    this.canvas.width = width * density;
    this.canvas.height = height * density;
    const pen = this.canvas.getContext("2d");
    pen.scale(density, density);
    const middles = [this.queries, this.keys].map((tokens) =>
      [...tokens.children].map((token) => token.offsetTop - this.field.offsetTop + token.offsetHeight / 2),
    );
    for (const [row, column, place] of lines) {
      pen.strokeStyle = `rgb(${this.scale.colour(Math.sign(place) * LINE_COLOUR)})`;
      pen.globalAlpha = Math.min(1, Math.abs(place));
      pen.lineWidth = 0.8 + 2.4 * Math.abs(place);
      this.stroke(pen, middles[0][row], middles[1][column], width);
    }
  }

  stroke(pen, from, to, width) {
    pen.beginPath();
    pen.moveTo(0, from);
    pen.bezierCurveTo(width * 0.45, from, width * 0.55, to, width, to);
    pen.stroke();
  }

  /** While a token is held, the tokens at the other ends of its lines stay dark and the rest goes pale. */
  shade(lines) {
    const joined = { row: new Set(), column: new Set() };
    for (const [row, column] of lines) {
      joined.row.add(row);
      joined.column.add(column);
    }
    if (this.held) joined[this.held.side].add(this.held.index);
    const sides = { row: this.queries, column: this.keys };
    for (const [side, tokens] of Object.entries(sides)) {
      [...tokens.children].forEach((token, index) => {
        token.classList.toggle("pale", Boolean(this.held) && !joined[side].has(index));
        token.classList.toggle("held", this.held?.side === side && this.held.index === index);
      });
    }
  }
}
