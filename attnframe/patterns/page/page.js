/* The page: reads the data, wires the controls, and shows the view whenever it changes. */

const PLAY_INTERVAL = { usual: 700, calm: 1500 };

class Page {
  constructor(runs) {
    this.runs = runs;
    this.steps = allSteps(runs);
    this.view = viewFromHash(location.hash, runs, firstView(runs));
    const alone = runs.length === 1;
    this.panes = runs.map((run) => new Pane(run, alone, (layer, head) => this.choose(run.index, layer, head)));
    this.timer = null;
    this.writeControls();
    this.listen();
    this.render();
  }

  writeControls() {
    for (const id of ["choices", "transport"]) byId(id).hidden = false;
    byId("panes").append(...this.panes.map((pane) => pane.section));
    byId("panes").classList.toggle("two", this.panes.length > 1);
    const sentences = allSources(this.runs).map((source, index) => [
      index,
      `${index + 1}. ${source}${this.onlyIn(source)}`,
    ]);
    fillSelect(byId("sentence"), sentences, 0);
    fillSelect(
      byId("site"),
      allSites(this.runs).map((site) => [site, site]),
      this.view.site,
    );
    byId("time").max = this.steps.length - 1;
    byId("time-note").textContent = this.runs.map(timeNote).filter(Boolean).join(" ");
  }

  onlyIn(source) {
    const having = this.runs.filter((run) => run.sentences.has(source));
    return having.length < this.runs.length ? ` (only in run ${having[0].letter})` : "";
  }

  listen() {
    const on = (id, name, change) =>
      byId(id).addEventListener(name, (event) => {
        change(event.target);
        this.render();
      });
    on("sentence", "change", ({ selectedIndex }) => (this.view.source = allSources(this.runs)[selectedIndex]));
    on("site", "change", ({ value }) => (this.view.site = value));
    for (const id of ["weights", "contributions"]) on(id, "change", ({ value }) => (this.view.quantity = value));
    for (const id of ["linear", "log"]) on(id, "change", ({ value }) => (this.view.logarithmic = value === "log"));
    for (const id of ["gold", "importance"]) on(id, "change", ({ checked }) => (this.view[id] = checked));
    on("time", "input", ({ value }) => {
      this.pause();
      this.view.step = this.steps[value];
    });
    byId("play").addEventListener("click", () => this.playOrPause());
    document.addEventListener("keydown", (event) => this.playOnSpace(event));
    addEventListener("hashchange", () => {
      this.view = viewFromHash(location.hash, this.runs, this.view);
      this.render();
    });
  }

  choose(index, layer, head) {
    this.view.chosen[index] = { layer, head };
    this.render();
  }

  /** Space plays, except where it already means something. */
  playOnSpace(event) {
    if (event.key !== " " || event.target.closest("button, select, input:not([type=range])")) return;
    event.preventDefault();
    this.playOrPause();
  }

  playOrPause() {
    if (this.timer) return this.pause();
    if (this.steps.length < 2) return;
    if (this.view.step === this.steps.at(-1)) this.view.step = this.steps[0];
    const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.timer = setInterval(() => this.playStep(), calm ? PLAY_INTERVAL.calm : PLAY_INTERVAL.usual);
    this.render();
  }

  playStep() {
    this.view.step = this.steps[this.steps.indexOf(this.view.step) + 1] ?? this.view.step;
    if (this.view.step === this.steps.at(-1)) this.pause();
    this.render();
  }

  pause() {
    clearInterval(this.timer);
    this.timer = null;
    this.renderTime();
  }

  render() {
    this.renderChoices();
    this.renderTime();
    for (const pane of this.panes) pane.render(this.view);
    renderTraces(this.runs, this.view, this.panes);
    writeHash(hashFromView(this.view, this.runs));
  }

  renderChoices() {
    const { view } = this;
    const patterns = this.panes.map((pane) => pane.chosen(view)?.pattern).filter(Boolean);
    const contributions = patterns.some((pattern) => pattern.has("contributions"));
    const gold = view.site === "cross" && this.runs.some((run) => run.sentences.get(view.source)?.gold);
    const importance = this.runs.some((run) => run.hasImportance);
    byId("sentence").selectedIndex = allSources(this.runs).indexOf(view.source);
    byId("site").value = view.site;
    byId(contributions ? view.quantity : "weights").checked = true;
    byId(view.logarithmic ? "log" : "linear").checked = true;
    allow(
      "contributions",
      contributions,
      "No contributions: not recorded, or this variant is not linear in its heads.",
    );
    allow(
      "gold",
      gold,
      view.site === "cross"
        ? "No gold links: this sentence has none."
        : "No gold links: they are between source and translation, at cross.",
    );
    allow("importance", importance, "No importance: no heads were ablated.");
    const without = this.runs.filter((run) => !run.hasImportance).map((run) => run.letter);
    if (importance && without.length)
      byId("importance-reason").textContent = `Importance of run ${without[0]}: none, its heads were not ablated.`;
    byId("gold").checked = gold && view.gold;
    byId("importance").checked = importance && view.importance;
  }

  renderTime() {
    const place = this.steps.indexOf(this.view.step);
    byId("time").value = place;
    byId("time").disabled = byId("play").disabled = this.steps.length < 2;
    byId("time").setAttribute("aria-valuetext", `step ${this.view.step}`);
    byId("step").replaceChildren(
      element("strong", {}, `step ${this.view.step}`),
      ` ${place + 1} of ${this.steps.length}`,
    );
    byId("play").textContent = this.timer ? "Pause" : "Play";
  }
}

/** A control that cannot be used says why. */
function allow(id, allowed, reason) {
  byId(id).disabled = !allowed;
  byId(`${id}-reason`).textContent = allowed ? "" : reason;
}

function timeNote(run) {
  if (run.shownSteps.length === run.steps.length || !run.sentences.size) return "";
  const why = run.shownSteps.length < run.recorded ? ", to keep this file small" : "";
  return `${run.shownSteps.length} of ${run.steps.length} validations of ${run.name} have maps here${why}.`;
}

/** Show charts of each run, and of the head that each pane shows. */
function renderTraces(runs, view, panes) {
  const step = view?.step ?? Math.max(...runs.flatMap((run) => run.steps));
  const whole = runs.map(({ letter, steps, traces }) => ({ letter, steps, traces }));
  const ofHeads = panes.map((pane) => {
    const chosen = pane.chosen(view);
    const traces = chosen ? pane.run.head(view.site, chosen.layer, chosen.head).traces : {};
    return { letter: pane.run.letter, steps: pane.run.steps, traces, chosen };
  });
  const names = ofHeads
    .filter(({ chosen }) => chosen)
    .map(({ letter, chosen }) => {
      const name = `layer ${chosen.layer + 1}, head ${chosen.head + 1}`;
      return runs.length > 1 ? `${letter}: ${name}` : name;
    });
  renderCharts(byId("run-traces"), "Validation", whole, step);
  renderCharts(byId("head-traces"), `${view?.site}, ${names.join("; ")}`, ofHeads, step);
}

function writeHeading(runs) {
  const names = runs.map((run) => run.name).join(" and ");
  document.title = `${names}: attention patterns`;
  byId("title").textContent = names;
  byId("subtitle").textContent =
    runs.length === 1 ? runs[0].subtitle : "Two runs side by side, on the same sentences and at the same time.";
}

async function start() {
  const record = JSON.parse(byId("data").textContent);
  const numbers = await unpack(record.arrays);
  const runs = record.runs.map((run, index) => new Run(run, index, numbers));
  writeHeading(runs);
  writeTables(runs);
  const shown = allSites(runs).length ? new Page(runs) : null;
  byId("empty").hidden = shown !== null;
  if (!shown) renderTraces(runs, null, []);
  listenToTheme(() => shown?.render());
}

start().catch((error) => {
  byId("trouble").textContent = `The maps cannot be shown: ${error.message}`;
  byId("trouble").hidden = false;
});
