/* The tables at the end of the page. */

/** As the data spells them. */
const NOT_NUMBERS = ["NaN", "∞", "−∞"];

/** In the order of the first run; of two, the tables of one title stand together. */
function writeTables(runs) {
  const titles = [...new Set(runs.flatMap((run) => run.tables.map(({ title }) => title)))];
  for (const title of titles) {
    const tables = runs.flatMap((run) =>
      run.tables
        .filter((table) => table.title === title)
        .map((table) => tableElement(table, runs.length > 1 ? run : null)),
    );
    byId("tables").append(...(tables.length > 1 ? [element("div", { class: "same-tables" }, ...tables)] : tables));
  }
}

/** A table under its title; of two runs, with the letter of the one it is of. */
function tableElement({ title, caption, columns, rows }, run) {
  const numeric = columns.map((_, index) =>
    rows.every((row) => typeof row[index] !== "string" || NOT_NUMBERS.includes(row[index])),
  );
  const decimals = columns.map((_, index) => columnDecimals(rows, index));
  const side = (index) => (numeric[index] ? "number" : null);
  const letter = run ? [element("span", { class: `letter run-${run.letter}` }, run.letter), " "] : [];
  return element(
    "figure",
    { class: "table" },
    element(
      "figcaption",
      {},
      element("h2", {}, ...letter, isolated(title)),
      element("p", { class: "reason", dir: "auto" }, caption),
    ),
    element(
      "div",
      { class: "table-box", tabindex: "0", role: "region", "aria-label": title },
      element(
        "table",
        {},
        element(
          "thead",
          {},
          element(
            "tr",
            {},
            ...columns.map((name, index) => element("th", { scope: "col", class: side(index) }, isolated(name))),
          ),
        ),
        element(
          "tbody",
          {},
          ...rows.map((row) =>
            element(
              "tr",
              {},
              ...row.map((cell, index) => element("td", { class: side(index) }, cellText(cell, decimals[index]))),
            ),
          ),
        ),
      ),
    ),
  );
}

function cellText(cell, decimals) {
  if (cell === null) return "–";
  if (typeof cell === "string") return isolated(cell);
  return cell.toFixed(decimals);
}

/** Decimals for all of a column, as its largest number deserves: four digits or so, none where all are whole. */
function columnDecimals(rows, index) {
  const numbers = rows.map((row) => row[index]).filter((cell) => typeof cell === "number");
  if (numbers.every(Number.isInteger)) return 0;
  const largest = Math.max(...numbers.map(Math.abs));
  return largest < 0.01 ? 5 : Math.max(0, 3 - Math.floor(Math.log10(Math.max(1, largest))));
}
