/* The head that is looked at first. */

/** The head that the run's alignment error rate is read from, or the most aligned one where that is unknown. */
function openingHead(run, source, site) {
  const [there, layer, head] = run.opening ?? [];
  return there === site ? { layer, head } : alignedHead(run, source, site);
}

/** The head with the most weight on sure links at the last step; the first head where there are none. */
function alignedHead(run, source, site) {
  const sentence = run.sentences.get(source);
  const layers = sentence?.layers[site] ?? new Map();
  let best = { layer: [...layers.keys()][0] ?? 0, head: 0, mass: 0 };
  if (site !== "cross" || !sentence?.gold) return best;
  for (const [layer, pattern] of layers) {
    for (let head = 0; head < pattern.heads; head += 1) {
      const map = pattern.map("weights", run.shownSteps.length - 1, head);
      const mass = sentence.gold.sure.reduce((sum, [key, query]) => sum + map[query * pattern.keys.length + key], 0);
      if (mass > best.mass) best = { layer, head, mass };
    }
  }
  return best;
}
