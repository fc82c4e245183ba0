/* One run on one sentence and site: all its heads small, one of them large, and its tokens joined by lines. */

class Pane {
  /** `choose(layer, head)` is called when this pane's head is chosen. */
  constructor(run, alone, choose) {
    this.id = `run${run.index + 1}`;
    Object.assign(this, { run, alone, choose });
    this.heatMap = new HeatMap(this.id);
    this.lines = new Lines(this.id);
    this.layer = element("select", { id: `${this.id}-layer` });
    this.head = element("select", { id: `${this.id}-head` });
    this.heads = new Heads(this.id, run, choose);
    this.sentence = element("p", { class: "sentence" });
    this.notice = element("p", { id: `${this.id}-notice`, class: "notice", role: "status" });
    this.kind = element("p", { id: `${this.id}-kind`, class: "reason" });
    this.legend = element("div", { id: `${this.id}-legend`, class: "legend" });
    this.body = this.build();
    this.section = element(
      "section",
      { id: this.id, class: "pane", "aria-label": alone ? "Patterns" : `Run ${run.letter}` },
      ...this.heading(),
      this.sentence,
      this.notice,
      this.body,
    );
    this.listen();
  }

  heading() {
    if (this.alone) return [];
    const letter = element("span", { class: `letter run-${this.run.letter}` }, this.run.letter);
    return [
      element("h2", {}, letter, " ", isolated(this.run.name)),
      element("p", { class: "reason", dir: "auto" }, this.run.subtitle),
    ];
  }

  build() {
    this.headsTitle = element("h3");
    this.mapTitle = element("h3");
    this.lineNames = element("p", { class: "line-names reason" });
    this.rowWords = element("p", { class: "reason" });
    this.linkKey = element("p", { class: "reason" });
    const pick = element(
      "div",
      { class: "pick" },
      element("label", {}, "Layer ", this.layer),
      element("label", {}, "Head ", this.head),
    );
    return element(
      "div",
      { class: "pane-body" },
      element("div", { class: "heads-part" }, this.headsTitle, this.heads.grid, this.heads.note),
      element(
        "div",
        { class: "map-part" },
        this.mapTitle,
        pick,
        this.kind,
        this.heatMap.readout,
        this.heatMap.box,
        this.legend,
        this.linkKey,
        this.rowWords,
      ),
      element(
        "div",
        { class: "lines-part" },
        element("h3", {}, "As lines"),
        this.lineNames,
        this.lines.box,
        this.lines.note,
      ),
    );
  }

  listen() {
    for (const select of [this.layer, this.head]) {
      select.addEventListener("change", () => this.choose(Number(this.layer.value), Number(this.head.value)));
    }
  }

  /** The layers of the view's sentence and site, or undefined where this run has none. */
  layers(view) {
    return this.run.sentences.get(view.source)?.layers[view.site];
  }

  /** The pattern of the head that is chosen, and that head; a layer or head that is not there gives the nearest. */
  chosen(view) {
    const layers = this.layers(view);
    if (!layers) return null;
    const wanted = view.chosen[this.run.index];
    const layer = layers.has(wanted.layer)
      ? wanted.layer
      : ([...layers.keys()].findLast((one) => one <= wanted.layer) ?? [...layers.keys()][0]);
    const pattern = layers.get(layer);
    return { layer, head: Math.min(wanted.head, pattern.heads - 1), pattern };
  }

  render(view) {
    const chosen = this.chosen(view);
    const time = this.run.timeAt(view.step);
    this.writeNotice(view, chosen, time);
    this.body.hidden = !chosen;
    const sentence = this.run.sentences.get(view.source);
    this.sentence.replaceChildren(
      ...(sentence
        ? [
            isolated(sentence.source),
            element("span", { class: "arrow" }, " → "),
            isolated(sentence.target),
            element("span", { class: "reason" }, " (reference translation, which the decoder is told to say)"),
          ]
        : []),
    );
    if (!chosen) return;
    const { layer, head, pattern } = chosen;
    const quantity = pattern.has(view.quantity) ? view.quantity : "weights";
    const map = pattern.map(quantity, time, head);
    const scale = new Scale(pattern, quantity, view.logarithmic);
    const name = `${view.site}, layer ${layer + 1}, head ${head + 1}`;
    this.fillChoices(view, chosen);
    this.heads.show(this.layers(view), view, chosen, time);
    this.headsTitle.textContent = `All heads of ${view.site}`;
    this.mapTitle.textContent = name;
    this.kind.textContent = KINDS[pattern.kind];
    this.rowWords.textContent = siteWords(view.site)[0];
    this.lineNames.replaceChildren(
      ...siteWords(view.site)
        .slice(1)
        .map((text) => element("span", {}, text)),
    );
    this.legend.replaceChildren(...legend(scale, quantity, `layer ${layer + 1} over all heads and steps`, map));
    this.linkKey.replaceChildren(...linkKey(this.links(view)));
    this.heatMap.show(pattern, map, scale, this.links(view), name, quantity === "weights" ? "weight" : "contribution");
    this.lines.show(pattern, map, scale, siteWords(view.site).slice(1));
  }

  links(view) {
    return view.gold && view.site === "cross" ? this.run.sentences.get(view.source).gold : null;
  }

  writeNotice(view, chosen, time) {
    const shown = this.run.shownSteps[time];
    const who = this.alone ? "This run" : `Run ${this.run.letter}`;
    const texts = [];
    if (!this.run.sentences.has(view.source)) texts.push(`${who} has no patterns of this sentence.`);
    else if (!chosen) texts.push(`${who} has no patterns at ${view.site} on this sentence.`);
    else {
      if (shown < view.step)
        texts.push(`${who} has no maps of step ${view.step}: shown are those of step ${shown}, the nearest earlier ones.`);
      if (shown > view.step)
        texts.push(`${who} has no maps as early as step ${view.step}: shown are those of step ${shown}, its first.`);
      if (!chosen.pattern.has(view.quantity)) texts.push(`${who} has no ${view.quantity} here: shown are the weights.`);
    }
    this.notice.textContent = texts.join(" ");
    this.notice.hidden = !texts.length;
  }

  fillChoices(view, { layer, head, pattern }) {
    const counted = (count) => Array.from({ length: count }, (_, index) => [index, index + 1]);
    fillSelect(
      this.layer,
      [...this.layers(view).keys()].map((one) => [one, one + 1]),
      layer,
    );
    fillSelect(this.head, counted(pattern.heads), head);
  }
}
