/* The page: reads the data and puts in place what there is. */

const CATALOGUE = JSON.parse(byId("data").textContent);

function openCatalogue() {
  writeOverview(CATALOGUE);
  const cells = writeContents(CATALOGUE);
  const sections = CATALOGUE.entries.map((entry) => [entry, entrySection(entry, CATALOGUE)]);
  byId("entries").append(...sections.map(([, section]) => section));
  const draw = () => {
    const plain = new Scale({ kind: "probability", range: () => [0, 1] }, "weights", false);
    byId("scale").replaceChildren(
      scaleKey(plain, "the scale of maps whose rows are probabilities; others have their own."),
    );
    for (const [entry, section] of sections) {
      drawPictures(section, entry, CATALOGUE.drawn.words);
      const scale = scaleOf(entry);
      cells.get(entry.name).replaceChildren(...Object.values(entry.maps).map((maps) => thumbnail(maps, scale)));
    }
  };
  draw();
  listenToTheme(draw);
  printByDay(draw);
  // The sections were not there when the browser looked for the one in the address.
  if (location.hash) byId(location.hash.slice(1))?.scrollIntoView();
}

/** Paper is white, whatever the page is. */
function printByDay(draw) {
  const root = document.documentElement;
  let chosen;
  addEventListener("beforeprint", () => {
    chosen = root.dataset.theme;
    root.dataset.theme = "light";
    draw();
  });
  addEventListener("afterprint", () => {
    if (chosen) root.dataset.theme = chosen;
    else delete root.dataset.theme;
    draw();
  });
}

openCatalogue();
