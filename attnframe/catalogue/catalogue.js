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
      scaleKey(plain, "the scale of every map whose rows are probabilities; another has its own below it."),
    );
    for (const [entry, section] of sections) {
      drawPictures(section, entry, CATALOGUE.drawn.words);
      const scale = scaleOf(entry);
      cells.get(entry.name).replaceChildren(...Object.values(entry.maps).map((maps) => thumbnail(maps, scale)));
    }
  };
  draw();
  listenToTheme(draw);
  // The sections were not there when the browser looked for the one in the address.
  if (location.hash) byId(location.hash.slice(1))?.scrollIntoView();
}

openCatalogue();
