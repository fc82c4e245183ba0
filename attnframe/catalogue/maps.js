/* The maps of a variant: one drawing a head, made anew when the page turns dark or light. */

const CELL = 13;
const ROW_LABELS = 58;
const COLUMN_LABELS = 54;
const LABEL_GAP = 5;
// The last of the slanted labels reaches beyond its column.
const OVERHANG = 16;

/** Where the numbers of both pictures of a variant lie: `Scale` asks for them as for a recorded pattern's. */
function scaleOf(entry) {
  const drawn = Object.values(entry.maps).filter((maps) => !maps.refusal);
  const numbers = drawn.flatMap((maps) => maps.weights.flat(2)).filter((weight) => weight !== null);
  const range = numbers.length ? [Math.min(...numbers), Math.max(...numbers)] : [0, 1];
  return new Scale({ kind: drawn[0]?.kind ?? "probability", range: () => range }, "weights", false);
}

/** One head as a drawing: rows look at columns. `read(row, column)` is called where the pointer is, or with nulls. */
function headDrawing(weights, words, scale, name, read) {
  const label = (place) => words[place] ?? `${place + 1}`;
  const rows = weights.length;
  const columns = weights[0].length;
  const width = ROW_LABELS + columns * CELL + OVERHANG;
  const height = COLUMN_LABELS + rows * CELL + 1;
  const frame = { x: ROW_LABELS - 0.5, y: COLUMN_LABELS - 0.5, width: columns * CELL + 0.5, height: rows * CELL + 0.5 };
  const down = weights.map((_, at) =>
    svgElement(
      "text",
      { class: "row-label", x: ROW_LABELS - LABEL_GAP, y: COLUMN_LABELS + (at + 0.5) * CELL },
      label(at),
    ),
  );
  const across = weights[0].map((_, to) => {
    const x = ROW_LABELS + (to + 0.5) * CELL;
    const y = COLUMN_LABELS - LABEL_GAP;
    return svgElement("text", { class: "column-label", x, y, transform: `rotate(-60 ${x} ${y})` }, label(to));
  });
  const cursor = svgElement("rect", { class: "cursor", width: CELL - 0.5, height: CELL - 0.5, visibility: "hidden" });
  const drawing = svgElement(
    "svg",
    { class: "head", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name },
    svgElement("rect", { class: "frame", ...frame }),
    ...cellPaths(weights, scale),
    ...down,
    ...across,
    cursor,
  );
  const leave = () => {
    cursor.setAttribute("visibility", "hidden");
    read(null, null);
  };
  drawing.addEventListener("pointermove", (event) => {
    const box = drawing.getBoundingClientRect();
    const column = Math.floor((((event.clientX - box.left) / box.width) * width - ROW_LABELS) / CELL);
    const row = Math.floor((((event.clientY - box.top) / box.height) * height - COLUMN_LABELS) / CELL);
    if (column < 0 || row < 0 || column >= columns || row >= rows) return leave();
    cursor.setAttribute("x", ROW_LABELS + column * CELL);
    cursor.setAttribute("y", COLUMN_LABELS + row * CELL);
    cursor.setAttribute("visibility", "visible");
    return read(row, column);
  });
  drawing.addEventListener("pointerleave", leave);
  return drawing;
}

/** The cells of one colour are one path: a page of many maps has few elements. */
function cellPaths(weights, scale) {
  const squares = new Map();
  weights.forEach((row, at) =>
    row.forEach((weight, to) => {
      const colour = weight === null ? null : cssColour(scale.colour(scale.place(weight)));
      const side = CELL - 0.5;
      const square = `M${ROW_LABELS + to * CELL} ${COLUMN_LABELS + at * CELL}h${side}v${side}h${-side}z`;
      squares.set(colour, (squares.get(colour) ?? "") + square);
    }),
  );
  return [...squares].map(([colour, d]) =>
    svgElement("path", colour === null ? { class: "not-finite", d } : { fill: colour, d }),
  );
}

/** All heads of a picture under its name, and a line that says what the pointer is on. */
function picture(title, maps, words, scale) {
  if (maps.refusal) return element("figure", { class: "picture" }, element("figcaption", {}, title), refusal(maps));
  const reading = element("span", { class: "reading" });
  const many = maps.weights.length > 1;
  const heads = maps.weights.map((weights, head) => {
    const name = many ? `head ${head + 1}` : "one head";
    const read = (row, column) => {
      if (row === null) return reading.replaceChildren();
      const weight = weights[row][column];
      const number = weight === null ? "not finite" : exactNumber(weight, scale.largest);
      const [from, to] = [row, column].map((place) => `“${words[place] ?? ""}” (${place + 1})`);
      return reading.replaceChildren(`${name}: ${from} looks at ${to}: ${number}`);
    };
    return element(
      "div",
      { class: "head-box" },
      headDrawing(weights, words, scale, `${title}, ${name}`, read),
      element("p", { class: "head-name" }, name),
    );
  });
  return element(
    "figure",
    { class: "picture" },
    element("figcaption", {}, title, " ", reading),
    element("div", { class: "heads" }, ...heads),
  );
}

/** The first head, as small as a word. */
function thumbnail(maps, scale) {
  if (maps.refusal) return element("span", { class: "thumbnail none", title: maps.refusal }, "–");
  const canvas = element("canvas", { class: "thumbnail", "aria-hidden": "true" });
  const weights = maps.weights[0].flat().map((weight) => (weight === null ? NaN : weight));
  paintMap(canvas, weights, maps.weights[0][0].length, scale);
  return canvas;
}

/** The colours with their numbers, and what these are. */
function scaleKey(scale, words) {
  const bar = element("canvas", { class: "bar", "aria-hidden": "true" });
  paintBar(bar, scale);
  const ticks = scale.ticks();
  const at = (place) => element("span", {}, ticks[place][1]);
  return element("p", { class: "key" }, at(0), bar, at(ticks.length - 1), element("span", { class: "reason" }, words));
}

function refusal({ refusal: sentence }) {
  return element("p", { class: "refusal" }, sentence);
}

function cssColour(rgb) {
  return `#${rgb.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
}
