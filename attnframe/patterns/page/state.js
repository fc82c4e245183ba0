/* What is shown, as an object and as the hash of the address. In the address everything counts from 1. */

/** The view that the page opens with: the last step, and the heads that alignments are read from. */
function firstView(runs) {
  const sites = allSites(runs);
  const source = allSources(runs)[0];
  const asked = runs.map((run) => run.opening?.[0]).find((one) => sites.includes(one));
  const site = asked ?? (sites.includes("cross") ? "cross" : sites[0]);
  return {
    source,
    site,
    step: allSteps(runs).at(-1),
    quantity: "weights",
    logarithmic: false,
    gold: true,
    importance: true,
    chosen: runs.map((run) => openingHead(run, source, site)),
  };
}

/** The view that `hash` asks for; what it does not say, or says wrongly, stays as in `view`. */
function viewFromHash(hash, runs, view) {
  const asked = new URLSearchParams(hash.replace(/^#/, ""));
  const among = (name, options, otherwise) => (options.includes(asked.get(name)) ? asked.get(name) : otherwise);
  const counted = (name, otherwise) =>
    /^[1-9][0-9]{0,5}$/.test(asked.get(name)) ? Number(asked.get(name)) - 1 : otherwise;
  const steps = allSteps(runs);
  return {
    source: allSources(runs)[counted("sentence", -1)] ?? view.source,
    site: among("site", allSites(runs), view.site),
    step: Number(among("step", steps.map(String), String(view.step))),
    quantity: among("show", ["weights", "contributions"], view.quantity),
    logarithmic: among("scale", ["linear", "log"], view.logarithmic ? "log" : "linear") === "log",
    gold: among("gold", ["on", "off"], view.gold ? "on" : "off") === "on",
    importance: among("importance", ["on", "off"], view.importance ? "on" : "off") === "on",
    chosen: runs.map(({ index, letter }) => ({
      layer: counted(`layer${index ? letter : ""}`, view.chosen[index].layer),
      head: counted(`head${index ? letter : ""}`, view.chosen[index].head),
    })),
  };
}

function hashFromView(view, runs) {
  const said = new URLSearchParams({
    sentence: allSources(runs).indexOf(view.source) + 1,
    site: view.site,
    step: view.step,
    show: view.quantity,
    scale: view.logarithmic ? "log" : "linear",
    gold: view.gold ? "on" : "off",
    importance: view.importance ? "on" : "off",
  });
  for (const { index, letter } of runs) {
    said.set(`layer${index ? letter : ""}`, view.chosen[index].layer + 1);
    said.set(`head${index ? letter : ""}`, view.chosen[index].head + 1);
  }
  return `#${said}`;
}

/** Say in the address what is shown. A frame without an address of its own cannot, and need not. */
function writeHash(hash) {
  try {
    history.replaceState(null, "", hash);
  } catch {
    return;
  }
}
