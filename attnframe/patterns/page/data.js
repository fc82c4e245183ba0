"use strict";
/* The data: unpacked once, then asked by sentence, site, layer, head and time. Layers and heads count from 0 here. */

const LAST_CODE = 65534;
const NOT_FINITE = 65535;

/** The numbers of all maps: base64 of a zlib stream of little-endian uint16. */
async function unpack(base64) {
  const packed = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new DataView(await new Response(stream).arrayBuffer());
}

/** The maps of one site and layer on one sentence, at every time kept. */
class Pattern {
  constructor(record, labels, numbers) {
    this.kind = record.kind;
    this.heads = record.heads;
    this.queries = labels[0];
    this.keys = labels[1];
    this.record = record;
    this.numbers = numbers;
  }

  has(quantity) {
    return this.record[quantity] !== null;
  }

  /** Smallest and largest of `quantity` over all heads and times. */
  range(quantity) {
    const { low, high } = this.record[quantity];
    return [[low].flat().reduce((a, b) => Math.min(a, b)), [high].flat().reduce((a, b) => Math.max(a, b))];
  }

  /** [query, key] in one row after the other; NaN where the weight is not finite. */
  map(quantity, time, head) {
    const { at, low, high } = this.record[quantity];
    const place = time * this.heads + head;
    const size = this.queries.length * this.keys.length;
    const least = Array.isArray(low) ? low[place] : low;
    const most = Array.isArray(high) ? high[place] : high;
    return Float64Array.from({ length: size }, (_, index) => {
      const code = this.numbers.getUint16(2 * (at + place * size + index), true);
      if (code === NOT_FINITE) return NaN;
      return least * (1 - code / LAST_CODE) + most * (code / LAST_CODE);
    });
  }
}

class Run {
  constructor(record, index, numbers) {
    this.name = record.name;
    this.index = index;
    this.letter = "AB"[index];
    this.subtitle = record.subtitle;
    this.steps = record.steps;
    this.shownSteps = record.shown;
    this.recorded = record.recorded;
    this.traces = record.traces;
    this.tables = record.tables;
    this.heads = new Map(record.heads.map((head) => [head.place.join("/"), head]));
    this.opening = record.opening;
    this.hasImportance = record.heads.some((head) => head.importance !== null);
    this.sentences = new Map(record.sentences.map((sentence) => [sentence.source, readSentence(sentence, numbers)]));
  }

  /** What was measured of one head: {importance, traces}. */
  head(site, layer, head) {
    return this.heads.get(`${site}/${layer}/${head}`) ?? { importance: null, traces: {} };
  }

  /** The largest rise of the loss that ablating any head of the run brings; bars are drawn against it. */
  get largestImportance() {
    return Math.max(0, ...[...this.heads.values()].map((head) => Math.abs(head.importance ?? 0)));
  }

  /** Whether the run's alignment error rate is read from this head. */
  opensOn(site, layer, head) {
    return this.opening?.join("/") === `${site}/${layer}/${head}`;
  }

  /** Index into `shownSteps` of the last one not after `step`, or of the first where all are later. */
  timeAt(step) {
    return Math.max(
      0,
      this.shownSteps.findLastIndex((shown) => shown <= step),
    );
  }
}

function readSentence(record, numbers) {
  const layers = {};
  for (const pattern of record.patterns) {
    layers[pattern.site] ??= new Map();
    layers[pattern.site].set(pattern.layer, new Pattern(pattern, record.labels[pattern.site], numbers));
  }
  return { source: record.source, target: record.target, gold: record.gold, layers };
}

/** What the runs have between them: sources, sites and steps, each once. */
function allSources(runs) {
  return [...new Set(runs.flatMap((run) => [...run.sentences.keys()]))];
}

function allSites(runs) {
  const sentences = runs.flatMap((run) => [...run.sentences.values()]);
  const found = new Set(sentences.flatMap((sentence) => Object.keys(sentence.layers)));
  const known = ["encoder_self", "decoder_self", "cross"].filter((site) => found.has(site));
  return [...known, ...[...found].filter((site) => !known.includes(site))];
}

function allSteps(runs) {
  return [...new Set(runs.flatMap((run) => run.steps))].sort((a, b) => a - b);
}
