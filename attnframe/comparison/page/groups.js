/* The groups: each with a number, a colour and a dash pattern of its own, the same all over the page. */

const HUES = 6;
const DASHES = 3;

class Group {
  constructor(name, index) {
    this.name = name;
    this.index = index;
    this.number = index + 1;
    this.mark = `group hue-${index % HUES} dash-${Math.floor(index / HUES) % DASHES}`;
  }

  /** A piece of the group's line with its number; said by nobody, as the name stands beside it. */
  swatch() {
    return element(
      "span",
      { class: `swatch ${this.mark}`, "aria-hidden": "true" },
      svgElement("svg", { viewBox: "0 0 24 10" }, svgElement("path", { class: "group-line", d: "M1 5H23" })),
      element("span", { class: "group-number" }, String(this.number)),
    );
  }

  /** The swatch and the name. */
  label() {
    return element("span", { class: "group-label" }, this.swatch(), isolated(this.name, { class: "group-name" }));
  }
}
