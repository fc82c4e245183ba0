/* One sentence's patterns, a heat map for each group on one scale; a cell that is read in one is read in all. */

const OWN_HEAD = "own";

class SideBySide {
  constructor(patterns, groups, numbers, sentences) {
    this.columns = patterns.map(({ group, run }, index) => new Column(groups.get(group), new Run(run, index, numbers)));
    this.runs = this.columns.map(({ run }) => run);
    const first = this.runs.find((run) => run.sentences.size);
    this.sources = allSources(this.runs);
    this.view = { source: this.sources[0], gold: true, quantity: "weights" };
    this.view.site = first.opening?.[0] ?? (allSites(this.runs).includes("cross") ? "cross" : allSites(this.runs)[0]);
    Object.assign(this.view, openingHead(first, this.view.source, this.view.site));
    // Heads have no identity from one group to another, so the best of each compare better than those of one number.
    if (this.runs.every((run) => run.opening?.[0] === this.view.site)) this.view.head = OWN_HEAD;
    byId("maps").append(...this.columns.map(({ panel }) => panel));
    const left = sentences.recorded - sentences.shown;
    byId("sentences-note").textContent = left
      ? `${sentences.shown} of ${sentences.recorded} sentences are here, to keep this file small.`
      : "";
    this.listen();
    this.render();
  }

  listen() {
    const on = (id, change) =>
      byId(id).addEventListener("change", ({ target }) => {
        change(target);
        this.render();
      });
    on("sentence", ({ selectedIndex }) => (this.view.source = this.sources[selectedIndex]));
    on("site", ({ value }) => (this.view.site = value));
    on("layer", ({ value }) => (this.view.layer = Number(value)));
    on("head", ({ value }) => (this.view.head = value === OWN_HEAD ? OWN_HEAD : Number(value)));
    on("gold", ({ checked }) => (this.view.gold = checked));
    for (const id of ["weights", "contributions"]) on(id, ({ value }) => (this.view.quantity = value));
    for (const column of this.columns) {
      column.heatMap.moved = (cell) => {
        for (const other of this.columns) if (other !== column) other.heatMap.followTo(cell);
      };
    }
  }

  render() {
    const { view } = this;
    this.fillChoices();
    const sentence = this.runs.map((run) => run.sentences.get(view.source)).find(Boolean);
    byId("translation").replaceChildren(
      isolated(sentence.source),
      element("span", { class: "arrow" }, " → "),
      isolated(sentence.target),
      element("span", { class: "reason" }, " (reference translation, which the decoder is told to say)"),
    );
    const found = this.columns.map((column) => column.find(view));
    const shown = found.filter(({ pattern }) => pattern);
    const scale = shown.length ? new Scale(together(shown.map(({ pattern }) => pattern)), view.quantity, false) : null;
    this.columns.forEach((column, index) => column.show(view, found[index], scale));
    this.writeKey(shown, scale);
  }

  fillChoices() {
    const { view } = this;
    const sentences = this.sources.map((source, index) => [index, `${index + 1}. ${source}`]);
    fillSelect(byId("sentence"), sentences, this.sources.indexOf(view.source));
    fillSelect(
      byId("site"),
      allSites(this.runs).map((site) => [site, site]),
      view.site,
    );
    const layers = this.columns.map((column) => column.layers(view) ?? new Map());
    const places = [...new Set(layers.flatMap((one) => [...one.keys()]))].sort((a, b) => a - b);
    if (!places.includes(view.layer)) view.layer = places[0] ?? 0;
    fillSelect(
      byId("layer"),
      places.map((layer) => [layer, layer + 1]),
      view.layer,
    );
    const most = Math.max(0, ...layers.map((one) => one.get(view.layer)?.heads ?? 0));
    const heads = Array.from({ length: most }, (_, head) => [head, head + 1]);
    const own = this.runs.some((run) => run.opening?.[0] === view.site);
    if (own) heads.push([OWN_HEAD, "each group's best by AER"]);
    if (view.head === OWN_HEAD ? !own : view.head >= most) view.head = 0;
    fillSelect(byId("head"), heads, view.head);
    byId("layer").disabled = view.head === OWN_HEAD;
    byId("gold").disabled = view.site !== "cross";
  }

  /** The one scale of all maps, what the outlines mean and what rows are. */
  writeKey(shown, scale) {
    if (!scale) return byId("pattern-key").replaceChildren();
    const maps = shown.flatMap(({ pattern, head }) => [...pattern.map(this.view.quantity, 0, head)]);
    const links = this.columns.map((column) => column.links(this.view)).find(Boolean);
    byId("pattern-key").replaceChildren(
      element("div", { class: "legend" }, ...legend(scale, this.view.quantity, "all maps of these layers", maps)),
      element("p", { class: "reason" }, ...linkKey(links)),
      element("p", { class: "reason" }, siteWords(this.view.site)[0]),
      element("p", { class: "reason" }, "Point at a cell, or move with the arrow keys, to read it in every map."),
    );
  }
}

/** Patterns as one, for a scale that holds for all of them. */
function together(patterns) {
  const kinds = new Set(patterns.map(({ kind }) => kind));
  const kind = kinds.size === 1 ? patterns[0].kind : kinds.has("signed") ? "signed" : "unnormalised";
  const range = (quantity) => {
    const ranges = patterns.map((pattern) => pattern.range(quantity));
    return [Math.min(...ranges.map(([low]) => low)), Math.max(...ranges.map(([, high]) => high))];
  };
  return { kind, range };
}

/** A heat map that tells others where it is read, and reads where others are. */
class SharedHeatMap extends HeatMap {
  moveTo(cell) {
    super.moveTo(cell);
    if (!cell) this.readout.replaceChildren();
    this.readout.setAttribute("aria-live", "polite");
    if (cell) this.moved?.(cell);
  }

  /** As another map is read; silently, as that one is already said aloud. */
  followTo(cell) {
    this.readout.setAttribute("aria-live", "off");
    const { queries, keys } = this.pattern ?? { queries: [], keys: [] };
    const there = cell.row < queries.length && cell.column < keys.length;
    super.moveTo(there ? cell : null);
    if (!there) this.readout.replaceChildren();
  }
}

/** One group's part: its name, what it has no pattern of, and its map. */
class Column {
  constructor(group, run) {
    Object.assign(this, { group, run });
    const id = `group${group.index + 1}`;
    this.heatMap = new SharedHeatMap(id);
    this.notice = element("p", { id: `${id}-notice`, class: "notice", role: "status" });
    this.where = element("p", { id: `${id}-where`, class: "reason" });
    this.body = element("div", {}, this.heatMap.box, this.heatMap.readout);
    this.panel = element(
      "section",
      { id, class: "map-panel", "aria-label": group.name },
      element("h3", {}, group.label()),
      element("p", { class: "reason", dir: "auto" }, run.name === group.name ? "" : run.name),
      this.where,
      this.notice,
      this.body,
    );
  }

  layers(view) {
    return this.run.sentences.get(view.source)?.layers[view.site];
  }

  links(view) {
    return view.gold && view.site === "cross" ? (this.run.sentences.get(view.source)?.gold ?? null) : null;
  }

  /** {pattern, layer, head} that the view asks for, or {missing}: why there is none, in words. */
  find(view) {
    const { source, site, quantity } = view;
    if (!this.run.sentences.has(source)) return { missing: "No patterns of this sentence were recorded." };
    const layers = this.layers(view);
    if (!layers) return { missing: `No patterns at ${site} on this sentence.` };
    const own = view.head === OWN_HEAD;
    const [ownSite, ownLayer, ownHead] = this.run.opening ?? [];
    if (own && ownSite !== site) return { missing: `No alignment error rate is read from a head at ${site}.` };
    const [layer, head] = own ? [ownLayer, ownHead] : [view.layer, view.head];
    const pattern = layers.get(layer);
    if (!pattern) return { missing: `No layer ${layer + 1} here: it has ${counted("layer", [...layers.keys()])}.` };
    const heads = Array.from({ length: pattern.heads }, (_, one) => one);
    if (head >= pattern.heads)
      return { missing: `No head ${head + 1} here: layer ${layer + 1} has ${counted("head", heads)}.` };
    if (!pattern.has(quantity)) return { missing: `No ${quantity} here: they were not recorded or are not defined.` };
    return { pattern, layer, head };
  }

  show(view, { missing, pattern, layer, head }, scale) {
    this.notice.textContent = missing ?? "";
    this.notice.hidden = !missing;
    this.body.hidden = Boolean(missing);
    this.where.textContent = pattern ? `layer ${layer + 1}, head ${head + 1}; ${pattern.kind}` : "";
    if (!pattern) return;
    const name = `${this.group.name}, ${view.site}, layer ${layer + 1}, head ${head + 1}`;
    const map = pattern.map(view.quantity, 0, head);
    const quantity = view.quantity === "weights" ? "weight" : "contribution";
    this.heatMap.show(pattern, map, scale, this.links(view), name, quantity);
  }
}

/** "layer 2", "layers 1 to 3", "heads 1, 2 and 5": places from 0, told from 1. */
function counted(what, places) {
  const told = places.map((place) => place + 1).sort((a, b) => a - b);
  if (told.length === 1) return `${what} ${told[0]} only`;
  if (told.at(-1) - told[0] === told.length - 1) return `${what}s ${told[0]} to ${told.at(-1)}`;
  return `${what}s ${told.slice(0, -1).join(", ")} and ${told.at(-1)}`;
}
