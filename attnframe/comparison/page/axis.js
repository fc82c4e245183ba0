/* Axes: round numbers to write on them, and the units that time and work are told in. */

/** Round numbers from `low` to `high`, about `count` of them, with as many decimals as they need. */
function roundTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count) || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough * 0.999);
  const decimals = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const ticks = [];
  for (let place = Math.ceil(low / step - 1e-9); place * step <= high + step * 1e-9; place += 1) {
    ticks.push([place * step, tickText(place * step, decimals)]);
  }
  return ticks;
}

function tickText(value, decimals) {
  if (Math.abs(value) >= 1e6 || decimals > 6) return shortNumber(value);
  return minus(value.toFixed(decimals));
}

/** With a minus sign as long as a plus sign. */
function minus(text) {
  return text.replace(/^-/, "−");
}

const SECONDS = [
  [3600, "h"],
  [60, "min"],
  [1, "s"],
];
const FLOPS = ["FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP", "ZFLOP", "YFLOP"];

/** What is written at an axis that reaches to `largest`: its title, and what its numbers are divided by. */
function axisUnit(axis, largest) {
  if (axis === "seconds") {
    const [divisor, unit] = SECONDS.find(([size]) => largest >= 2 * size) ?? SECONDS.at(-1);
    return { divisor, unit, title: `time of training in ${unit}` };
  }
  if (axis === "flops") {
    const power = Math.max(0, Math.min(FLOPS.length - 1, Math.floor(Math.log10(Math.max(1, largest)) / 3)));
    return { divisor: 10 ** (3 * power), unit: FLOPS[power], title: `work of training in ${FLOPS[power]}` };
  }
  return { divisor: 1, unit: "", title: "training step" };
}

/** A place on an axis in words: "step 300", "12.5 min". */
function placeText(axis, place, { divisor, unit }) {
  return axis === "step" ? `step ${place}` : `${shortNumber(place / divisor, 4)} ${unit}`;
}
