/* The section of one variant: its words, what it costs, and its maps. */

const PICTURES = { unmasked: "without a mask, as in an encoder", causal: "causal, as in a decoder" };
const SITE_NAMES = { encoder_self: "encoder", decoder_self: "decoder" };

function entrySection(entry, catalogue) {
  return element(
    "section",
    { class: "entry", id: entryId(entry.name), "aria-label": entry.name },
    element(
      "header",
      { class: "entry-head" },
      element("h2", {}, entry.name),
      element("span", { class: "badge" }, entry.plugin ? "plugin" : "core"),
      verdict(entry.conformance),
    ),
    element("p", { class: "formula", dir: "auto" }, ...typeset(entry.formula || "No formula: its docstring is empty.")),
    element(
      "div",
      { class: "entry-body" },
      element(
        "div",
        { class: "facts" },
        costTable(entry, catalogue),
        ...entry.text.map((paragraph) => element("p", { class: "text", dir: "auto" }, ...rich(paragraph))),
        optionTable(entry),
        factList(entry),
      ),
      element("div", { class: "pictures" }),
    ),
  );
}

/** What turns with the colours of the page. */
function drawPictures(section, entry, words) {
  const scale = scaleOf(entry);
  const drawn = Object.values(entry.maps).find((maps) => !maps.refusal);
  const key = drawn && drawn.kind !== "probability" ? [scaleKey(scale, `${KINDS[drawn.kind] ?? drawn.kind}.`)] : [];
  section
    .querySelector(".pictures")
    .replaceChildren(
      ...Object.entries(entry.maps).map(([mask, maps]) => picture(PICTURES[mask] ?? mask, maps, words, scale)),
      ...key,
    );
}

function entryId(name) {
  return `variant-${name}`;
}

/** A mark, for it must be seen without colour, and the words. */
function verdict(text) {
  const kind = text.split(":")[0];
  const mark = { passed: "✓", failed: "✗" }[kind] ?? "○";
  return element("span", { class: `verdict ${kind.replace(" ", "-")}` }, `${mark} ${text}`);
}

/** Parameters, FLOPs and cache, each with how many times the baseline's it is. */
function costTable(entry, catalogue) {
  const rows = costRows(entry.costs);
  const baseline = costRows(catalogue.entries.find(({ name }) => name === catalogue.baseline)?.costs ?? {});
  const refusals = refusalsOf(entry.costs);
  const cells = rows.map(({ key, name, value }) => {
    const other = baseline.find((row) => row.key === key)?.value;
    const ratio = typeof value === "number" && typeof other === "number" && other > 0 ? value / other : null;
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      element("td", { class: "number" }, typeof value === "number" ? wholeNumber(value) : value),
      element("td", {}, ...(ratio === null ? [] : [ratioBar(ratio), ` ${ratioText(ratio)}`])),
    );
  });
  const about = `one layer; the bars are beside ${catalogue.baseline}`;
  return element(
    "div",
    { class: "costs" },
    ...(cells.length ? [element("table", {}, element("caption", {}, about), element("tbody", {}, ...cells))] : []),
    ...refusals.map((sentence) => refusal({ refusal: sentence })),
  );
}

/** What is refused at every site stands once; else with the site. */
function refusalsOf(costs) {
  const refused = Object.entries(costs)
    .filter(([, cost]) => cost.refusal)
    .map(([site, cost]) => [SITE_NAMES[site] ?? site, cost.refusal.replace(`${site}: `, "")]);
  const sentences = [...new Set(refused.map(([, sentence]) => sentence))];
  if (sentences.length === 1 && refused.length === Object.keys(costs).length) return sentences;
  return refused.map(([site, sentence]) => `${site}: ${sentence}`);
}

/** What is the same at every site stands once. */
function costRows(costs) {
  const counted = Object.entries(costs).filter(([, cost]) => !cost.refusal);
  const row = (key, name, what) => {
    const values = [...new Set(counted.map(([, cost]) => cost[what]))];
    if (values.length < 2) return values.map((value) => ({ key, name, value }));
    return counted.map(([site, cost]) => ({
      key: `${key} ${site}`,
      name: `${name}, ${SITE_NAMES[site] ?? site}`,
      value: cost[what],
    }));
  };
  const cache = costs.decoder_self;
  const kept = cache && !cache.refusal ? [{ key: "cache", name: "cache per token", value: cacheValue(cache) }] : [];
  return [
    ...row("parameters", "parameters", "parameters"),
    ...row("flops", "FLOPs per token", "flops_per_token"),
    ...kept,
  ];
}

function cacheValue(cost) {
  return cost.cache_per_token ?? "recomputed";
}

function ratioText(ratio) {
  return `${ratio >= 10 ? ratio.toFixed(0) : ratio.toFixed(2)}×`;
}

/** Full at twice the baseline's, with a line at the baseline's. */
function ratioBar(ratio) {
  return svgElement(
    "svg",
    { class: "ratio", viewBox: "0 0 80 10", width: 80, height: 10, "aria-hidden": "true" },
    svgElement("rect", { class: "track", x: 0, y: 3, width: 80, height: 4 }),
    svgElement("rect", { class: "fill", x: 0, y: 2, width: 40 * Math.min(2, ratio), height: 6 }),
    svgElement("line", { class: "one", x1: 40, x2: 40, y1: 0, y2: 10 }),
  );
}

function optionTable({ options }) {
  if (!options.length) return element("p", { class: "reason" }, "It has no options of its own.");
  const cell = (text) => element("td", {}, element("code", {}, text));
  const head = ["option", "type", "default"].map((name) => element("th", { scope: "col" }, name));
  return element(
    "table",
    { class: "options" },
    element("thead", {}, element("tr", {}, ...head)),
    element("tbody", {}, ...options.map((option) => element("tr", {}, ...option.map(cell)))),
  );
}

function factList(entry) {
  const facts = [
    // Where there is one, it is in the text.
    ...(entry.paper ? [] : [["paper", ["none is named"]]]),
    ["backends", [entry.backends.join(", ") || "none can run it at these sizes"]],
    ["takes", [entry.takes.join(", ") || "nothing"]],
    ["file", [element("code", {}, entry.file)]],
    ["train it", [element("code", {}, `attnframe train attention=${entry.name}`)]],
  ];
  if (entry.conformance === "not checked") {
    facts.push(["check it", [element("code", {}, `attnframe check ${entry.name}`)]]);
  }
  const parts = facts.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, ...value)]);
  return element("dl", { class: "fact-list" }, ...parts);
}

/** Text in which `code`, addresses and the word before the paper are shown as such. */
function rich(text) {
  return text.split(/(`[^`]+`|https?:\/\/[^\s)>\]]*[^\s)>\].,;:]|\bReference:)/).map((part) => {
    if (/^`.+`$/.test(part)) return element("code", {}, part.slice(1, -1));
    if (/^https?:\/\//.test(part)) return element("a", { href: part, rel: "noopener noreferrer" }, part);
    return part === "Reference:" ? element("strong", {}, part) : part;
  });
}

/** The same with indices below the line: of one letter any, of a longer word one letter. */
function typeset(text) {
  const index =
    /(?<!\w)([A-Za-zΑ-Ωα-ω]'?(?:_(?:\{[^{}]*\}|[A-Za-zα-ω\d]+))+|[A-Za-z]+_[A-Za-z\d])(?![A-Za-zα-ω\d_])/;
  return rich(text).flatMap((part) => {
    if (typeof part !== "string") return [part];
    return part.split(index).flatMap((piece, place) => {
      if (place % 2 === 0) return [piece];
      const [base, ...below] = piece.split(/_(\{[^{}]*\}|[^_{}]+)/).filter(Boolean);
      return [base, element("sub", {}, below.map((one) => one.replace(/[{}]/g, "")).join(", "))];
    });
  });
}

function wholeNumber(value) {
  return value.toLocaleString("en", { maximumFractionDigits: 1 });
}
