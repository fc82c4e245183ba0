/* Learning curves drawn: lines with bands, axes, the groups' names at the ends of their lines, and a cursor. */

const LABEL_HEIGHT = 15;
const LONGEST_LABEL = 20;
const NARROW = 560;
/** Of more lines than this the bands are fainter. */
const MANY = 6;

/** How far a band may stretch the chart beyond the lines, as a share of what the lines need. */
const BAND_ROOM = 0.6;

class CurveChart {
  constructor(box) {
    this.box = box;
    new ResizeObserver(() => requestAnimationFrame(() => this.series && this.draw())).observe(box);
  }

  /** Draw `series`: [{group, x, mean, low, high}]. */
  show(series, axis, title) {
    Object.assign(this, { series, axis, title });
    this.draw();
  }

  draw() {
    const { series } = this;
    this.width = Math.max(240, this.box.clientWidth);
    this.height = Math.round(Math.min(500, Math.max(260, this.width * 0.56)));
    this.narrow = this.width < NARROW;
    const places = series.flatMap(({ x }) => x);
    const extent = [Math.min(...places), Math.max(...places)];
    this.unit = axisUnit(this.axis, extent[1]);
    const values = valueRange(series);
    const ticks = roundTicks(...values, 5);
    this.frame = this.frameFor(ticks);
    const { left, right, top, bottom } = this.frame;
    this.across = placer(extent, left, right);
    this.down = placer(values, bottom, top);
    this.cursor = svgElement("g", { class: "chart-cursor" });
    this.picture = svgElement(
      "svg",
      { class: series.length > MANY ? "many" : null, viewBox: `0 0 ${this.width} ${this.height}`, role: "img", "aria-label": this.title },
      svgElement("clipPath", { id: "plot" }, this.plotArea()),
      ...ticks.map(([value, text]) => this.valueTick(value, text)),
      ...this.placeTicks(extent),
      svgElement("g", { "clip-path": "url(#plot)" }, ...series.map((one) => this.band(one))),
      svgElement("g", { "clip-path": "url(#plot)" }, ...series.map((one) => this.line(one))),
      ...this.names(),
      this.cursor,
    );
    this.box.replaceChildren(this.picture);
    this.point(this.place);
  }

  /** Where the plotting area lies, with room for the numbers on the left and the names on the right. */
  frameFor(ticks) {
    const longest = Math.max(...this.series.map(({ group }) => Math.min(LONGEST_LABEL, [...group.name].length)), 0);
    const numbers = Math.max(1, ...ticks.map(([, text]) => text.length));
    const names = this.narrow ? 34 : 36 + 7.2 * longest;
    return { left: 14 + 7.2 * numbers, right: this.width - names, top: 12, bottom: this.height - 46 };
  }

  plotArea() {
    const { left, right, top, bottom } = this.frame;
    return svgElement("rect", { x: left, y: top - 2, width: Math.max(1, right - left), height: bottom - top + 4 });
  }

  valueTick(value, text) {
    const { left, right } = this.frame;
    const y = this.down(value);
    return svgElement(
      "g",
      {},
      svgElement("path", { class: "grid-line", d: `M${left} ${y}H${right}` }),
      svgElement("text", { class: "tick-text", x: left - 7, y: y + 4, "text-anchor": "end" }, text),
    );
  }

  placeTicks([first, last]) {
    const { left, right, bottom } = this.frame;
    const { divisor, title } = this.unit;
    const count = Math.max(2, Math.floor((right - left) / 70));
    const ticks = roundTicks(first / divisor, last / divisor, count).map(([place, text]) =>
      svgElement(
        "g",
        {},
        svgElement("path", { class: "tick-line", d: `M${this.across(place * divisor)} ${bottom}v5` }),
        svgElement(
          "text",
          { class: "tick-text", x: this.across(place * divisor), y: bottom + 19, "text-anchor": "middle" },
          text,
        ),
      ),
    );
    return [
      svgElement("path", { class: "tick-line", d: `M${left} ${bottom}H${right}` }),
      ...ticks,
      svgElement("text", { class: "axis-title", x: (left + right) / 2, y: bottom + 40, "text-anchor": "middle" }, title),
    ];
  }

  line({ group, x, mean }) {
    const d = linePath(x, mean, this.across, (value) => this.down(value));
    return svgElement("path", { class: `group-line ${group.mark}`, "data-group": group.index, d });
  }

  /** Between the low and the high ends, a piece for each run of places that have both. */
  band({ group, x, low, high }) {
    const there = x.map((_, index) => low !== null && low[index] !== null && high[index] !== null);
    const pieces = [];
    for (let from = 0; from < x.length; from += 1) {
      if (!there[from]) continue;
      let to = from;
      while (there[to + 1]) to += 1;
      const places = Array.from({ length: to - from + 1 }, (_, step) => from + step);
      const above = places.map((index) => `${this.across(x[index]).toFixed(1)} ${this.down(high[index]).toFixed(1)}`);
      const below = places.map((index) => `${this.across(x[index]).toFixed(1)} ${this.down(low[index]).toFixed(1)}`);
      pieces.push(`M${above.join("L")}L${below.reverse().join("L")}Z`);
      from = to;
    }
    return svgElement("path", { class: `band ${group.mark}`, "data-group": group.index, d: pieces.join("") });
  }

  /** Each line's group at its end: the number alone where there is no room for the name. */
  names() {
    const { right, top, bottom } = this.frame;
    const ends = this.series
      .map(({ group, x, mean }) => ({ group, at: mean.findLastIndex((value) => value !== null), x, mean }))
      .filter(({ at }) => at >= 0)
      .map(({ group, at, x, mean }) => ({ group, x: this.across(x[at]), y: this.down(mean[at]) }));
    ends.sort((one, other) => one.y - other.y);
    const places = spread(
      ends.map(({ y }) => y),
      LABEL_HEIGHT,
      top,
      bottom,
    );
    return ends.map(({ group, x, y }, index) => {
      const name = [...group.name];
      const short = name.length > LONGEST_LABEL ? `${name.slice(0, LONGEST_LABEL - 1).join("")}…` : group.name;
      return svgElement(
        "g",
        { class: `line-name ${group.mark}`, "data-group": group.index },
        // To a line that ended early a leader would cross the others: its number stands there instead.
        x > right - LABEL_HEIGHT
          ? svgElement("path", { class: "leader", d: `M${x} ${y}L${right + 5} ${places[index]}h4` })
          : svgElement("text", { class: "end-number", x: x + 5, y: y - 4 }, String(group.number)),
        svgElement(
          "text",
          { x: right + 12, y: places[index] + 4, direction: "ltr" },
          this.narrow ? String(group.number) : `${group.number} ${short}`,
        ),
      );
    });
  }

  /** Put the cursor at `place` on the axis. */
  point(place) {
    this.place = place;
    if (!this.picture || place === undefined) return;
    const { top, bottom } = this.frame;
    const points = this.series.flatMap((one) => {
      const at = lastAt(one, place);
      if (at < 0 || one.mean[at] === null) return [];
      const { group, x, mean } = one;
      return [
        svgElement("circle", { class: `point ${group.mark}`, "data-group": group.index, cx: this.across(x[at]), cy: this.down(mean[at]), r: 3.5 }),
      ];
    });
    const line = svgElement("path", { class: "now", d: `M${this.across(place)} ${top}V${bottom}` });
    this.cursor.replaceChildren(line, ...points);
  }

  /** The place on the axis under a pointer. */
  placeAt(event) {
    const box = this.picture.getBoundingClientRect();
    const { left, right } = this.frame;
    const along = (((event.clientX - box.left) / box.width) * this.width - left) / (right - left);
    return Math.min(1, Math.max(0, along));
  }
}

/** From the least to the largest mean, with room for bands, but not for all of a band that is far wider. */
function valueRange(series) {
  const known = (values) => (values ?? []).filter((value) => value !== null);
  const means = series.flatMap(({ mean }) => known(mean));
  if (!means.length) return [0, 1];
  const [least, most] = [Math.min(...means), Math.max(...means)];
  const room = BAND_ROOM * (most - least || Math.abs(most) || 1);
  const low = Math.max(least - room, Math.min(least, ...series.flatMap((one) => known(one.low))));
  const high = Math.min(most + room, Math.max(most, ...series.flatMap((one) => known(one.high))));
  return high > low ? [low, high] : [low - room, high + room];
}

/** Heights as near to `wanted` (rising) as they can be with `apart` between them, within `top` and `bottom`. */
function spread(wanted, apart, top, bottom) {
  const places = [...wanted];
  for (let index = 0; index < places.length; index += 1) {
    places[index] = Math.max(places[index], index ? places[index - 1] + apart : top);
  }
  for (let index = places.length - 1; index >= 0; index -= 1) {
    places[index] = Math.min(places[index], index < places.length - 1 ? places[index + 1] - apart : bottom);
  }
  return places;
}

/** The last index that is not after `place`; -1 where the line has not begun. */
function lastAt({ x }, place) {
  return x.findLastIndex((one) => one <= place);
}
