/* Small line charts of what was measured at each step, with a cursor at the step that is shown. */

const CHART = { width: 180, height: 72, left: 4, right: 6, top: 8, bottom: 6 };

/** One chart of some series {letter, steps, values}; `step` is where the cursor stands. */
function chart(title, series, step) {
  const drawn = series.filter(({ values }) => values.some((value) => value !== null));
  const steps = drawn.flatMap((one) => one.steps);
  const values = drawn.flatMap((one) => one.values).filter((value) => value !== null);
  const across = placer(steps, CHART.left, CHART.width - CHART.right);
  const down = placer(values, CHART.height - CHART.bottom, CHART.top);
  const name = chartName(title);
  const readings = drawn.map((one) => [one.letter, valueAt(one, step)]);
  const picture = svgElement(
    "svg",
    { viewBox: `0 0 ${CHART.width} ${CHART.height}`, role: "img", "aria-label": summary(name, drawn, readings, step) },
    ...drawn.map((one) => curve(one, across, down)),
    svgElement("path", { class: "now", d: `M${across(step)} 0V${CHART.height}` }),
    ...drawn.map((one) => point(one, step, across, down)).filter(Boolean),
  );
  return element(
    "figure",
    { class: "chart", "data-trace": title },
    element(
      "figcaption",
      {},
      element("span", { class: "chart-name" }, name),
      element("span", { class: "chart-values" }, ...readings.map(readingLabel)),
    ),
    picture,
    element("p", { class: "ends" }, `${shortNumber(Math.min(...values))} to ${shortNumber(Math.max(...values))}`),
  );
}

/** What was measured, in words: on what is said above the charts. */
function chartName(title) {
  return title.replace(/^val\//, "").replaceAll("_", " ");
}

function readingLabel([letter, value]) {
  return element("span", { class: `chart-value run-${letter}` }, value === null ? "–" : shortNumber(value));
}

/** The last value not after `step`, or null. */
function valueAt({ steps, values }, step) {
  const index = steps.findLastIndex((at, place) => at <= step && values[place] !== null);
  return index < 0 ? null : values[index];
}

function curve({ letter, steps, values }, across, down) {
  return svgElement("path", { class: `curve run-${letter}`, d: linePath(steps, values, across, down) });
}

function point(series, step, across, down) {
  const value = valueAt(series, step);
  if (value === null) return null;
  return svgElement("circle", { class: `point run-${series.letter}`, cx: across(step), cy: down(value), r: 3 });
}

function summary(title, drawn, readings, step) {
  const parts = drawn.map((one, index) => {
    const known = one.values.filter((value) => value !== null);
    const who = drawn.length > 1 ? `run ${one.letter}: ` : "";
    const now = readings[index][1] === null ? "none" : shortNumber(readings[index][1]);
    return `${who}from ${shortNumber(known[0])} to ${shortNumber(known.at(-1))}, ${now} at step ${step}`;
  });
  return `${title}, ${parts.join("; ")}`;
}

/** Put charts into `part` under a heading, one for each name that any run has a number for. */
function renderCharts(part, heading, perRun, step) {
  const names = [...new Set(perRun.flatMap(({ traces }) => Object.keys(traces)))];
  const charts = names
    .map((name) => [
      name,
      perRun
        .filter(({ traces }) => traces[name])
        .map(({ letter, steps, traces }) => ({ letter, steps, values: traces[name] })),
    ])
    .filter(([, series]) => series.some(({ values }) => values.some((value) => value !== null)))
    .map(([name, series]) => chart(name, series, step));
  part.hidden = !charts.length;
  part.querySelector("h2").textContent = heading;
  // Only what is in the row is new: the row keeps the focus and how far it was scrolled.
  const row = part.querySelector(".charts");
  row.setAttribute("aria-label", heading);
  row.replaceChildren(...charts);
}
