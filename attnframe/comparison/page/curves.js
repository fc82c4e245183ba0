/* Learning curves: which metric against what, which groups, and the numbers at the cursor. */

const AXIS_NAMES = { step: "step", seconds: "time", flops: "FLOPs" };

class Curves {
  constructor(curves, groups) {
    Object.assign(this, { curves, groups, off: new Set() });
    this.chart = new CurveChart(byId("chart"));
    const metrics = [...new Set(curves.map(({ metric }) => metric))];
    fillSelect(
      byId("metric"),
      metrics.map((metric) => [metric, metric.replaceAll("_", " ")]),
      metrics[0],
    );
    this.axes = Object.keys(AXIS_NAMES).filter((axis) => curves.some((curve) => curve.axis === axis));
    this.radios = this.axes.map((axis) => element("input", { type: "radio", name: "axis", id: `by-${axis}`, value: axis }));
    byId("axis").append(
      ...this.radios.map((radio) => element("label", {}, radio, ` ${AXIS_NAMES[radio.value]}`)),
    );
    this.axis = this.axes[0];
    this.listen();
    this.choose();
  }

  listen() {
    byId("metric").addEventListener("change", () => this.choose());
    byId("axis").addEventListener("change", ({ target }) => {
      this.axis = target.value;
      this.choose();
    });
    byId("all-groups").addEventListener("click", () => this.switchTo(() => true));
    byId("no-groups").addEventListener("click", () => this.switchTo(() => false));
    const box = byId("chart");
    for (const name of ["pointermove", "pointerdown"]) box.addEventListener(name, (event) => this.follow(event));
    box.addEventListener("keydown", (event) => this.move(event));
    const rows = byId("readings");
    for (const name of ["pointerover", "focusin"]) rows.addEventListener(name, ({ target }) => this.single(target));
    for (const name of ["pointerleave", "focusout"]) rows.addEventListener(name, () => this.single(null));
  }

  /** Show the metric and axis that are chosen; an axis that the metric lacks gives way to one that it has. */
  choose() {
    const ofMetric = this.curves.filter(({ metric }) => metric === byId("metric").value);
    const has = (axis) => ofMetric.some((curve) => curve.axis === axis);
    if (!has(this.axis)) this.axis = this.axes.find(has);
    for (const radio of this.radios) {
      radio.disabled = !has(radio.value);
      radio.checked = radio.value === this.axis;
    }
    this.series = ofMetric
      .filter(({ axis }) => axis === this.axis)
      .map((curve) => ({ ...curve, group: this.groups.get(curve.group) }))
      .sort((one, other) => one.group.index - other.group.index);
    this.places = [...new Set(this.series.flatMap(({ x }) => x))].sort((a, b) => a - b);
    this.unit = axisUnit(this.axis, this.places.at(-1));
    this.numberText = numberWriter(this.series.flatMap(({ mean }) => mean));
    this.writeRows();
    this.writeNote();
    this.render();
    this.pointAt(this.places.length - 1);
  }

  /** A row for each group: a switch, its line, and its numbers at the cursor. */
  writeRows() {
    this.rows = this.series.map(({ group }) => {
      const id = `shows-${group.index}`;
      const box = element("input", { type: "checkbox", id });
      box.checked = !this.off.has(group.name);
      box.addEventListener("change", () => this.switchTo((one) => (one === group ? box.checked : !this.off.has(one.name))));
      const cells = ["value", "interval"].map((kind) => element("td", { class: `number ${kind}` }));
      const label = element("label", { for: id }, group.label());
      const end = element("span", { class: "ended" });
      const row = element(
        "tr",
        { "data-group": group.index },
        element("td", {}, box),
        element("th", { scope: "row" }, label, end),
        ...cells,
      );
      return { group, box, cells, end, row };
    });
    const names = ["Shown", "Group", "Mean", "Band"].map((name, index) =>
      element("th", { scope: "col", class: index > 1 ? "number" : null }, element("span", { class: index ? null : "unseen" }, name)),
    );
    byId("readings").replaceChildren(
      element(
        "table",
        {},
        element("thead", {}, element("tr", {}, ...names)),
        element("tbody", {}, ...this.rows.map(({ row }) => row)),
      ),
    );
  }

  writeNote() {
    const there = new Set(this.series.map(({ group }) => group));
    const missing = [...this.groups.values()].filter((group) => !there.has(group)).map(({ name }) => name);
    const thinned = this.series.some(({ x, recorded }) => x.length < recorded);
    const bare = this.series.filter(({ low }) => low === null).length;
    const texts = [];
    if (missing.length) texts.push(`No such curve of ${missing.join(", ")}.`);
    if (bare) texts.push(bare === this.series.length ? "No curve has a band." : "A group without a band has one run.");
    if (thinned) texts.push("Points are left out, evenly, to keep this file small.");
    byId("curve-note").textContent = texts.join(" ");
  }

  switchTo(isOn) {
    for (const { group, box } of this.rows) {
      box.checked = isOn(group);
      if (box.checked) this.off.delete(group.name);
      else this.off.add(group.name);
    }
    this.render();
  }

  render() {
    const metric = byId("metric").value;
    // With nothing on, the axes still stand.
    const shown = this.series.filter(({ group }) => !this.off.has(group.name));
    const frame = shown.length ? shown : this.series.map((one) => ({ ...one, mean: one.mean.map(() => null), low: null }));
    this.chart.show(frame, this.axis, `${metric} against ${AXIS_NAMES[this.axis]}: ${shown.length} lines`);
    byId("chart").setAttribute("aria-label", `${metric} against ${AXIS_NAMES[this.axis]}`);
    for (const { group, row } of this.rows) row.classList.toggle("off", this.off.has(group.name));
  }

  follow(event) {
    const [first, last] = [this.places[0], this.places.at(-1)];
    const place = first + this.chart.placeAt(event) * (last - first);
    const after = this.places.findIndex((one) => one >= place);
    const nearer = after > 0 && place - this.places[after - 1] < this.places[after] - place ? after - 1 : after;
    this.pointAt(Math.max(0, nearer));
  }

  move(event) {
    const far = Math.max(1, Math.round(this.places.length / 10));
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: far, PageDown: -far, Home: -Infinity, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    this.pointAt(Math.max(0, Math.min(this.places.length - 1, this.at + moves[event.key])));
  }

  /** Read the curves at the n-th of all places: each line's last number not after it. */
  pointAt(index) {
    this.at = index;
    const place = this.places[index];
    this.chart.point(place);
    const said = this.series.map((one, row) => this.read(one, place, this.rows[row]));
    byId("curve-place").replaceChildren(
      element("span", {}, `At ${placeText(this.axis, place, this.unit)}`),
      element("span", { class: "unseen" }, `: ${said.filter(Boolean).join(", ")}`),
    );
  }

  /** Write a line's numbers into its row; what is said of it aloud, nothing where it is switched off. */
  read(one, place, { box, end, cells: [value, interval] }) {
    const at = lastAt(one, place);
    const number = (values) => (at < 0 || values === null || values[at] === null ? null : this.numberText(values[at]));
    const [mean, low, high] = [one.mean, one.low, one.high].map(number);
    end.textContent = place > one.x.at(-1) ? `ended at ${placeText(this.axis, one.x.at(-1), this.unit)}` : "";
    value.textContent = mean ?? "–";
    interval.textContent = low === null || high === null ? "–" : `${low} to ${high}`;
    return box.checked && mean !== null && `${one.group.name} ${mean}`;
  }

  /** While a row is pointed at or focused, the other lines go pale. */
  single(target) {
    const chosen = target?.closest("tr")?.dataset.group;
    for (const part of byId("chart").querySelectorAll("[data-group]")) {
      part.classList.toggle("pale", chosen !== undefined && part.dataset.group !== chosen);
    }
  }
}

/** How all numbers of a metric are written: with the same decimals, or shortly where those would not do. */
function numberWriter(values) {
  const rows = values.map((value) => [value]);
  const largest = Math.max(...values.map(Math.abs));
  const decimals = columnDecimals(rows, 0);
  const isPlain = largest === 0 || (largest >= 0.01 && largest < 1e6);
  return (value) => minus(isPlain ? value.toFixed(decimals) : shortNumber(value, 4));
}
