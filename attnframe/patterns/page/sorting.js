/* Tables that are sorted by the column whose name is pressed. */

/** Make the figure of `rows` sortable: down, up, and as it was. Cells without a value always come last. */
function makeSortable(figure, rows) {
  const body = figure.querySelector("tbody");
  const lines = [...body.rows];
  const heads = [...figure.querySelectorAll("th")];
  if (lines.length < 2) return;
  heads.forEach((head, column) => {
    const keys = sortKeys(rows.map((row) => row[column]));
    const cycle = keys.some((key) => typeof key === "string")
      ? ["ascending", "descending", null]
      : ["descending", "ascending", null];
    const button = element("button", { type: "button", class: "sort" }, ...head.childNodes);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = cycle[(cycle.indexOf(head.getAttribute("aria-sort")) + 1) % cycle.length];
      for (const one of heads) one.removeAttribute("aria-sort");
      if (order) head.setAttribute("aria-sort", order);
      body.append(...sorted(keys, order).map((place) => lines[place]));
    });
  });
}

/** What the cells are sorted by: numbers, also those that a text begins with if all texts do; texts otherwise. */
function sortKeys(cells) {
  const numbers = cells.map((cell) => (typeof cell === "string" ? leadingNumber(cell) : cell));
  return numbers.some(Number.isNaN) ? cells.map((cell) => (cell === null ? null : String(cell))) : numbers;
}

function leadingNumber(text) {
  if (NOT_NUMBERS.includes(text) || text === "–" || text === "") return null;
  return Number.parseFloat(text.replace("−", "-").replace(/(\d)[,\u202f\u00a0 ](?=\d{3})/g, "$1"));
}

function sorted(keys, order) {
  const places = keys.map((_, place) => place);
  if (!order) return places;
  const sign = order === "ascending" ? 1 : -1;
  return places.sort((one, other) => {
    if (keys[one] === null || keys[other] === null) return (keys[one] === null) - (keys[other] === null);
    const apart =
      typeof keys[one] === "string"
        ? keys[one].localeCompare(keys[other], "en", { numeric: true })
        : keys[one] - keys[other];
    return sign * apart;
  });
}
