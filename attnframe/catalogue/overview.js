/* What stands before the variants: what was counted and drawn, and the table of all of them. */

function writeOverview(catalogue) {
  const { sizes, drawn, entries, versions } = catalogue;
  byId("subtitle").append(
    `${entries.length} variants, with their formula, what they cost, and their pattern on the same sentence`,
  );
  byId("sentence").append(drawn.words.join(" "));
  const width =
    sizes.encoder_d_model === sizes.d_model ? "" : ` (${wholeNumber(sizes.encoder_d_model)} in the encoder)`;
  byId("counted").append(
    `One layer, d_model ${wholeNumber(sizes.d_model)}${width}, ${wholeNumber(sizes.num_heads)} heads, ` +
      `${wholeNumber(sizes.length)} tokens, ${sizes.bias ? "with" : "without"} biases. Options have their defaults.`,
  );
  byId("colophon").append(
    `Written by attnframe list attention --page, with attnframe ${versions.attnframe} and torch ${versions.torch}. ` +
      `The maps are drawn at d_model ${drawn.d_model} with ${drawn.num_heads} heads, whatever the sizes above.`,
  );
  const notices = catalogue.notices.map((sentence) => element("p", { class: "notice", role: "alert" }, sentence));
  byId("notices").append(...notices);
}

function writeContents(catalogue) {
  const rows = catalogue.entries.map((entry) => {
    const first = Object.values(entry.costs).find((cost) => !cost.refusal);
    const decoder = entry.costs.decoder_self;
    return [
      entry.name,
      entry.formula,
      null,
      first?.parameters ?? null,
      first?.flops_per_token ?? null,
      decoder && !decoder.refusal ? cacheValue(decoder) : null,
      entry.conformance,
    ];
  });
  const columns = ["variant", "formula", "maps", "parameters", "FLOPs per token", "cache per token", "conformance"];
  const figure = tableElement({ title: "All variants", caption: "", columns, rows }, null);
  const numeric = [3, 4, 5];
  [...figure.querySelectorAll("th")].forEach((head, column) => {
    if (numeric.includes(column)) head.className = "number";
  });
  [...figure.querySelector("tbody").rows].forEach((line, place) => {
    const { name, conformance, formula } = catalogue.entries[place];
    line.cells[0].replaceChildren(element("a", { href: `#${entryId(name)}` }, name));
    line.cells[1].replaceChildren(element("span", { class: "short-formula", title: formula }, ...typeset(formula)));
    line.cells[2].className = "thumbnails";
    for (const column of numeric) {
      const value = rows[place][column];
      line.cells[column].className = "number";
      if (typeof value === "number") line.cells[column].replaceChildren(wholeNumber(value));
    }
    line.cells[6].replaceChildren(verdict(conformance));
  });
  byId("contents").append(figure);
  makeSortable(figure, rows.map((row) => row.map((cell) => (cell === "recomputed" ? null : cell))));
  // There is nothing to sort maps by.
  const maps = figure.querySelectorAll("th")[2];
  maps.replaceChildren("maps");
  maps.className = "";
  const cells = [...figure.querySelector("tbody").rows].map((line) => line.cells[2]);
  return new Map(catalogue.entries.map((entry, place) => [entry.name, cells[place]]));
}
