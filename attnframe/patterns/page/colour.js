/* From a number to a colour. Lightness alone tells the order, so it survives every colour blindness and grey print. */

const LEVELS = 256;
const LOG_DECADES = 4;

/** sRGB (0 to 255) of an Oklab colour, Ottosson 2020; as strong as sRGB can show, so that lightness never bends. */
function oklabToRgb(lightness, chroma, hueDegrees) {
  const hue = (hueDegrees * Math.PI) / 180;
  for (let strength = chroma; ; strength -= 0.004) {
    const linear = oklabToLinear(
      lightness,
      Math.max(0, strength) * Math.cos(hue),
      Math.max(0, strength) * Math.sin(hue),
    );
    if (strength <= 0 || linear.every((value) => value >= -0.0005 && value <= 1.0005)) {
      return linear.map((value) => Math.round(255 * encodeGamma(Math.min(1, Math.max(0, value)))));
    }
  }
}

function oklabToLinear(lightness, a, b) {
  const long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const short = (lightness - 0.0894841775 * a - 1.291485548 * b) ** 3;
  return [
    4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
    -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
    -0.0041960863 * long - 0.7034186147 * medium + 1.707614701 * short,
  ];
}

function encodeGamma(value) {
  return value <= 0.0031308 ? 12.92 * value : 1.055 * value ** (1 / 2.4) - 0.055;
}

/** Colours from nothing (like the page) to the most (far from it), in `LEVELS` even steps of lightness. */
function ramp(from, to, chroma, hues) {
  return Array.from({ length: LEVELS }, (_, level) => {
    const place = level / (LEVELS - 1);
    const strength = chroma * (0.02 + 0.55 * Math.sin(Math.PI * place) + 0.45 * place);
    return oklabToRgb(from + (to - from) * place, strength, hues[0] + (hues[1] - hues[0]) * place);
  });
}

/** By theme: `positive` from 0 up, `negative` from 0 down. Blue and orange-brown are safe to tell apart. */
const RAMPS = {
  light: { positive: ramp(0.985, 0.285, 0.19, [235, 272]), negative: ramp(0.985, 0.36, 0.15, [70, 42]) },
  dark: { positive: ramp(0.235, 0.95, 0.16, [268, 215]), negative: ramp(0.235, 0.92, 0.16, [40, 75]) },
};

function themeName() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

/** How the numbers of a pattern are placed on the ramps: from `-largest` or 0 to `largest`. */
class Scale {
  constructor(pattern, quantity, logarithmic) {
    const [low, high] = pattern.range(quantity);
    this.fixed = quantity === "weights" && pattern.kind === "probability";
    this.signed = quantity === "weights" && !this.fixed && (pattern.kind === "signed" || low < 0);
    this.largest = this.fixed ? 1 : Math.max(Math.abs(low), Math.abs(high)) || 1;
    this.beyond = this.fixed && (low < -0.001 || high > 1.001);
    this.logarithmic = logarithmic;
    this.ramps = RAMPS[themeName()];
  }

  /** -1 to 1 (0 to 1 if nothing is negative): how far along its ramp a number lies. NaN stays NaN. */
  place(value) {
    const size = Math.min(1, Math.abs(value) / this.largest);
    const along = this.logarithmic ? Math.max(0, 1 + Math.log10(size) / LOG_DECADES) : size;
    if (value < 0) return this.signed ? -along : 0;
    return along;
  }

  colour(place) {
    const level = Math.round(Math.abs(place) * (LEVELS - 1));
    return (place < 0 ? this.ramps.negative : this.ramps.positive)[level];
  }

  /** Numbers to write under the colour bar, with their places on it from 0 to 1. */
  ticks() {
    const least = this.logarithmic ? this.largest / 10 ** LOG_DECADES : 0;
    const zero = this.logarithmic ? `≤ ${shortNumber(least)}` : "0";
    const most = this.beyond ? "1 or more" : shortNumber(this.largest);
    if (this.signed) {
      return [
        [0, shortNumber(-this.largest)],
        [0.5, this.logarithmic ? `± ${shortNumber(least)}` : "0"],
        [1, most],
      ];
    }
    const middle = this.logarithmic ? this.largest / 10 ** (LOG_DECADES / 2) : this.largest / 2;
    return [
      [0, this.beyond && !this.logarithmic ? "0 or less" : zero],
      [0.5, shortNumber(middle)],
      [1, most],
    ];
  }
}

/** One pixel a cell; what is not finite stays clear, so that the hatching behind it shows. */
function paintMap(canvas, map, columns, scale) {
  const rows = map.length / columns;
  canvas.width = columns;
  canvas.height = rows;
  const image = new ImageData(columns, rows);
  map.forEach((value, index) => {
    if (!Number.isNaN(value)) image.data.set([...scale.colour(scale.place(value)), 255], 4 * index);
  });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** The colour bar from the least to the most. */
function paintBar(canvas, scale) {
  canvas.width = LEVELS;
  canvas.height = 1;
  const image = new ImageData(LEVELS, 1);
  for (let x = 0; x < LEVELS; x += 1) {
    const along = x / (LEVELS - 1);
    image.data.set([...scale.colour(scale.signed ? 2 * along - 1 : along), 255], 4 * x);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** A few digits, for axes and legends. */
function shortNumber(value, digits = 3) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e5 || size < 1e-4) return value.toExponential(digits - 2);
  return String(Number(value.toPrecision(digits)));
}

/** Three decimals, or three digits where a number of this scale would have none of them left. */
function exactNumber(value, largest) {
  if (Number.isNaN(value)) return "not finite";
  if (largest >= 1e6 || largest < 0.1) return value === 0 ? "0" : value.toPrecision(3);
  return (Math.abs(value) < 0.0005 ? 0 : value).toFixed(3);
}
