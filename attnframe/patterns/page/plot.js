/* Numbers to places on paper, and lines through them. */

/** Where a number lies between two places on paper; in the middle where all numbers are the same. */
function placer(numbers, first, last) {
  const [low, high] = [Math.min(...numbers), Math.max(...numbers)];
  return (number) => {
    const along = high > low ? (number - low) / (high - low) : 0.5;
    return first + Math.min(1, Math.max(0, along)) * (last - first);
  };
}

/** A line through `values` at `places`; it breaks where a value is null, and a value alone is a dot. */
function linePath(places, values, across, down) {
  let broken = true;
  const parts = values.map((value, index) => {
    const command = broken ? "M" : "L";
    broken = value === null;
    if (broken) return "";
    const place = `${across(places[index]).toFixed(1)} ${down(value).toFixed(1)}`;
    const alone = command === "M" && (values[index + 1] ?? null) === null;
    return `${command}${place}${alone ? "h0.01" : ""}`;
  });
  return parts.join("");
}
