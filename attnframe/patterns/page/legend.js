/* What colours and outlines mean. */

/** The colour bar of a scale with its numbers, and in words what they are; it ends with the largest of `all`. */
function legend(scale, quantity, all, map) {
  const bar = element("canvas", { class: "bar", "aria-hidden": "true" });
  paintBar(bar, scale);
  const ticks = scale.ticks().map(([place, text]) => element("span", { class: `tick at-${100 * place}` }, text));
  const what =
    quantity === "weights" ? "Attention weight" : "Contribution ‖P_ij V_j W_O‖, how much key j adds to query i";
  const range = scale.fixed ? "" : `, up to the largest of ${all}`;
  const unknown = map.some((value) => Number.isNaN(value)) ? " Hatched cells are not finite." : "";
  return [
    bar,
    element("p", { class: "ticks" }, ...ticks),
    element("p", { class: "reason" }, `${what}${range}; ${scale.logarithmic ? "log" : "linear"} scale.${unknown}`),
  ];
}

/** What the outlines mean, in words and as drawn. */
function linkKey(links) {
  const strengths = Object.keys(links ?? {}).filter((strength) => links[strength].length);
  return strengths.map((strength) =>
    element(
      "span",
      { class: "link-key" },
      svgElement(
        "svg",
        { viewBox: "0 0 18 18", "aria-hidden": "true" },
        svgElement("rect", { class: `gold ${strength}`, x: 2, y: 2, width: 14, height: 14 }),
      ),
      ` ${strength} gold link`,
    ),
  );
}
