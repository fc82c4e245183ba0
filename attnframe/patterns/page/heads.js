/* Every head of a site as a small map, layers down and heads across; a click chooses one. */

class Heads {
  constructor(id, run, choose) {
    this.run = run;
    this.grid = element("div", { id: `${id}-heads`, class: "heads", role: "group", "aria-label": "All heads" });
    this.grid.addEventListener("click", (event) => {
      const button = event.target.closest("button");
      if (button) choose(Number(button.dataset.layer), Number(button.dataset.head));
    });
    rove(this.grid, () => this.columns);
    this.note = element("p", { id: `${id}-heads-note`, class: "reason" });
  }

  /** Show all heads of `layers` at one time; the buttons are new only where there are other heads than before. */
  show(layers, view, chosen, time) {
    const places = [...layers].flatMap(([layer, { heads }]) =>
      Array.from({ length: heads }, (_, head) => [layer, head]),
    );
    this.columns = Math.max(...[...layers.values()].map(({ heads }) => heads));
    this.grid.style.setProperty("--columns", this.columns);
    if (places.join(" ") !== this.places?.join(" ")) this.grid.replaceChildren(...places.map(headButton));
    this.places = places;
    places.forEach(([layer, head], index) => {
      const button = this.grid.children[index];
      const isChosen = layer === chosen.layer && head === chosen.head;
      button.setAttribute("aria-pressed", isChosen);
      button.tabIndex = isChosen ? 0 : -1;
      drawHead(button.firstChild, layers.get(layer), head, view, time);
      const opening = this.run.opensOn(view.site, layer, head);
      button.querySelector(".best").hidden = !opening;
      const importance = this.run.head(view.site, layer, head).importance;
      const rise = view.importance && importance !== null ? `, zeroing it raises the loss by ${importance} nats` : "";
      button.setAttribute("aria-label", `layer ${layer + 1}, head ${head + 1}${opening ? ", best AER" : ""}${rise}`);
      this.drawImportance(button.lastChild, rise ? importance : null);
    });
    this.explain(places, view);
  }

  /** What is written on the heads, in a sentence under them. */
  explain(places, view) {
    const heads = places.map(([layer, head]) => this.run.head(view.site, layer, head));
    const texts = [];
    if (view.importance && heads.some(({ importance }) => importance !== null))
      texts.push(
        "The number under a head is its importance: what the loss rises by (nats per target token) when the head is zeroed.",
      );
    if (places.some(([layer, head]) => this.run.opensOn(view.site, layer, head)))
      texts.push("Best AER marks the head that the run's alignment error rate is read from.");
    this.note.textContent = texts.join(" ");
  }

  /** A bar and the number; nothing for null. */
  drawImportance(overlay, importance) {
    overlay.hidden = importance === null;
    if (importance === null) return;
    const [bar, nats] = overlay.children;
    bar.style.width = `${(100 * Math.max(0, importance)) / (this.run.largestImportance || 1)}%`;
    nats.textContent = `${importance < 0 ? "−" : "+"}${shortNumber(Math.abs(importance))}`;
  }
}

function headButton([layer, head]) {
  const button = element(
    "button",
    { type: "button", "data-layer": layer, "data-head": head },
    element("canvas", { "aria-hidden": "true" }),
    element("span", { class: "head-name" }, `L${layer + 1} H${head + 1}`),
    element("span", { class: "best" }, "best AER"),
    element("span", { class: "importance" }, element("span", { class: "bar" }), element("span", { class: "nats" })),
  );
  // A layer with fewer heads than another leaves the end of its row empty.
  button.style.gridColumn = head + 1;
  return button;
}

function drawHead(canvas, pattern, head, view, time) {
  const quantity = pattern.has(view.quantity) ? view.quantity : "weights";
  const scale = new Scale(pattern, quantity, view.logarithmic);
  paintMap(canvas, pattern.map(quantity, time, head), pattern.keys.length, scale);
  canvas.classList.toggle("many", pattern.keys.length > LONG_SENTENCE);
}
