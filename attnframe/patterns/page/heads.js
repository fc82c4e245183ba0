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
      this.tellImportance(button, this.run.head(view.site, layer, head).importance, view.importance);
    });
  }

  /** A bar, the number, and for who cannot see them the words. */
  tellImportance(button, importance, wanted) {
    const shown = wanted && importance !== null;
    const words = shown ? `, ablating it raises the loss by ${importance} nats` : "";
    button.setAttribute(
      "aria-label",
      `layer ${Number(button.dataset.layer) + 1}, head ${Number(button.dataset.head) + 1}${words}`,
    );
    const overlay = button.lastChild;
    overlay.hidden = !shown;
    if (!shown) return;
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
