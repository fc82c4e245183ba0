/* A forest plot: each pair's difference as a point on a line, its interval, and in words what follows from it. */

const SIGNIFICANT = 0.05;
const EVERY_PAIR = "";

class Forest {
  constructor(differences, groups) {
    Object.assign(this, { differences, groups });
    this.names = [...new Set(differences.flatMap(({ first, second }) => [first, second]))];
    fillSelect(byId("set"), sameText(differences.map((one) => one.set)), differences[0].set);
    const pairs = [[EVERY_PAIR, "all pairs"], ...this.names.map((name) => [name, `with ${name}`])];
    fillSelect(byId("pairs"), pairs, EVERY_PAIR);
    byId("pairs-choice").hidden = this.names.length < 3;
    for (const id of ["set", "measure", "pairs"]) byId(id).addEventListener("change", () => this.render());
    this.render();
  }

  render() {
    const ofSet = this.differences.filter((one) => one.set === byId("set").value);
    const measures = sameText(ofSet.map((one) => one.measure));
    const chosen = byId("measure").value;
    const measure = measures.some(([value]) => value === chosen) ? chosen : measures[0][0];
    fillSelect(byId("measure"), measures, measure);
    const shown = ofSet.filter((one) => one.measure === measure);
    const pair = byId("pairs").value;
    const rows = shown.filter((one) => pair === EVERY_PAIR || pair === one.first || pair === one.second);
    const axis = forestAxis(shown);
    const decimals = differenceDecimals(shown);
    byId("forest").setAttribute("aria-label", `Differences in ${measure} on ${byId("set").value}`);
    byId("forest").replaceChildren(forestHead(measure, axis), ...rows.map((one) => this.row(one, axis, decimals)));
  }

  row(one, axis, decimals) {
    const clear = one.p_holm !== null && one.p_holm < SIGNIFICANT;
    return element(
      "div",
      { class: "forest-row", role: "row" },
      element(
        "span",
        { class: "pair", role: "rowheader" },
        this.groups.get(one.first).label(),
        element("span", { class: "against" }, " − "),
        this.groups.get(one.second).label(),
      ),
      element("span", { class: "forest-plot", role: "cell" }, forestPlot(one, axis, clear, decimals)),
      forestCell("difference", "", differenceText(one, decimals)),
      forestCell("p", "p ", probabilityText(one.p)),
      forestCell("holm", "p (Holm) ", probabilityText(one.p_holm)),
      element("span", { class: "verdict", role: "cell", dir: "auto" }, one.verdict),
    );
  }
}

/** [value, text] of each text once, as a select wants them. */
function sameText(texts) {
  return [...new Set(texts)].map((text) => [text, text]);
}

function forestHead(measure, axis) {
  const names = ["Pair", null, "Difference, interval", "p", "p (Holm)", "Verdict"];
  const ticks = axis.ticks.map(([value, text]) =>
    svgElement("text", { class: "tick-text", x: axis.at(value), y: 13, "text-anchor": "middle" }, text),
  );
  const scale = svgElement("svg", { class: "forest-scale", "aria-hidden": "true" }, ...ticks);
  return element(
    "div",
    { class: "forest-row forest-head", role: "row" },
    ...names.map((name) =>
      element(
        "span",
        { role: "columnheader", class: name === null ? "forest-plot" : null },
        ...(name === null ? [element("span", { class: "axis-name", dir: "auto" }, `Difference in ${measure}`), scale] : [name]),
      ),
    ),
  );
}

/** From the least to the largest end of an interval, with zero, and a little room. */
function forestAxis(rows) {
  const ends = rows.flatMap(({ low, high, difference }) => [low, high, difference]).filter((end) => end !== null);
  const [low, high] = [Math.min(0, ...ends), Math.max(0, ...ends)];
  const room = 0.06 * (high - low) || 1;
  const [first, last] = [low - room, high + room];
  return {
    at: (value) => `${((100 * (value - first)) / (last - first)).toFixed(3)}%`,
    ticks: roundTicks(low, high, 4),
  };
}

function forestPlot({ first, second, low, high, difference }, axis, clear, decimals) {
  const lines = axis.ticks.map(([value]) => {
    const x = axis.at(value);
    return svgElement("line", { class: value === 0 ? "zero" : "grid-line", x1: x, x2: x, y1: "0", y2: "100%" });
  });
  const interval =
    low === null
      ? []
      : [
          svgElement("line", { class: "interval", x1: axis.at(low), x2: axis.at(high), y1: "50%", y2: "50%" }),
          ...[low, high].map((end) =>
            svgElement("line", { class: "interval-end", x1: axis.at(end), x2: axis.at(end), y1: "36%", y2: "64%" }),
          ),
        ];
  const label = `${first} minus ${second}: ${differenceText({ difference, low, high }, decimals)}`;
  return svgElement(
    "svg",
    { class: clear ? "forest-picture clear" : "forest-picture", role: "img", "aria-label": label },
    ...lines,
    ...interval,
    svgElement("circle", { class: "estimate", cx: axis.at(difference), cy: "50%", r: 5 }),
  );
}

/** A cell that says what it is where the page is too narrow for a head of columns. */
function forestCell(kind, name, text) {
  return element("span", { class: kind, role: "cell" }, element("span", { class: "cell-name" }, name), text);
}

/** Decimals for all rows, such that the largest difference has three digits. */
function differenceDecimals(rows) {
  const largest = Math.max(...rows.map(({ difference }) => Math.abs(difference)));
  return largest > 0 ? Math.min(9, Math.max(0, 2 - Math.floor(Math.log10(largest)))) : 2;
}

function differenceText({ difference, low, high }, decimals) {
  const said = (value) => signed(value, decimals);
  return low === null ? `${said(difference)}, no interval` : `${said(difference)} [${said(low)}, ${said(high)}]`;
}

function signed(value, decimals) {
  const text = value.toFixed(decimals);
  return Number(text) > 0 ? `+${text}` : minus(Number(text) === 0 ? text.replace("-", "") : text);
}

function probabilityText(p) {
  if (p === null) return "–";
  return p < 0.001 ? "< 0.001" : p.toFixed(3);
}
