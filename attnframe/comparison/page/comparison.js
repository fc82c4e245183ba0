/* The page: reads the data and puts in place what there is. */

/** In the order of the page: id of a part, and what the list of contents calls it. */
const PARTS = [
  ["results", "Results"],
  ["differences", "Differences"],
  ["curves", "Learning curves"],
  ["tables", "Tables"],
  ["patterns", "Patterns"],
  ["notes", "Notes"],
];

function writeTexts(record) {
  document.title = `${record.title}: comparison`;
  byId("title").textContent = record.title;
  byId("subtitle").textContent = record.subtitle;
  for (const id of ["warnings", "notes"]) {
    const lines = record[id].map((text) => element("li", { dir: "auto" }, text));
    byId(id).querySelector("ul").append(...lines);
    byId(id).hidden = !lines.length;
  }
}

/** The first table on top, the others further down; a group's name in a first column has its line beside it. */
function writeComparisonTables(tables, groups) {
  tables.forEach((table, index) => {
    const figure = tableElement(table, null);
    makeSortable(figure, table.rows);
    for (const name of figure.querySelectorAll("td:first-child bdi")) {
      const group = groups.get(name.textContent);
      if (group) name.replaceWith(group.label());
    }
    for (const cell of figure.querySelectorAll("td")) cell.classList.toggle("estimate", cell.textContent.includes(" ± "));
    byId(index ? "tables" : "results").append(figure);
  });
  byId("results").hidden = !tables.length;
  byId("tables").hidden = tables.length < 2;
}

function writeContents() {
  const links = PARTS.filter(([id]) => !byId(id).hidden).map(([id, name]) => element("a", { href: `#${id}` }, name));
  byId("contents").append(...links);
  byId("contents").hidden = links.length < 2;
}

/** On paper the page is light, whatever it is on the screen. */
function listenToPrinting(changed) {
  const root = document.documentElement;
  let before;
  addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    root.dataset.theme = "light";
    changed();
  });
  addEventListener("afterprint", () => {
    if (before) root.dataset.theme = before;
    else delete root.dataset.theme;
    changed();
  });
}

async function start() {
  const record = JSON.parse(byId("data").textContent);
  const groups = new Map(record.groups.map((name, index) => [name, new Group(name, index)]));
  writeTexts(record);
  writeComparisonTables(record.tables, groups);
  // Shown before they are drawn, so that there is a width to draw into.
  byId("differences").hidden = !record.differences.length;
  byId("curves").hidden = !record.curves.some(({ x }) => x.length);
  byId("patterns").hidden = !record.patterns.some(({ run }) => run.sentences.some(({ patterns }) => patterns.length));
  writeContents();
  if (!byId("differences").hidden) new Forest(record.differences, groups);
  if (!byId("curves").hidden) new Curves(record.curves.filter(({ x }) => x.length), groups);
  const numbers = await unpack(record.arrays);
  const maps = byId("patterns").hidden ? null : new SideBySide(record.patterns, groups, numbers, record.sentences);
  const repaint = () => maps?.render();
  listenToTheme(repaint);
  listenToPrinting(repaint);
  document.documentElement.dataset.ready = "";
}

start().catch((error) => {
  byId("trouble").textContent = `The comparison cannot be shown: ${error.message}`;
  byId("trouble").hidden = false;
});
