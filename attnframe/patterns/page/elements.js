/* Making elements. Texts only ever become text nodes, so nothing in them is ever markup. */

const SVG = "http://www.w3.org/2000/svg";

/** A new element with attributes (false and null leave one out) and children: elements or text. */
function element(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

function svgElement(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

/** Text of any direction, kept from turning the text around it. */
function isolated(text, attributes = {}) {
  return element("bdi", { dir: "auto", ...attributes }, text);
}

function byId(id) {
  return document.getElementById(id);
}

/** Fill a select with [value, text], if it has others, and choose one. An open list stays open. */
function fillSelect(select, options, chosen) {
  const same = [...select.options].map(({ value, text }) => [value, text]).join("\n") === options.join("\n");
  if (!same) select.replaceChildren(...options.map(([value, text]) => element("option", { value, dir: "auto" }, text)));
  select.value = chosen;
}

/** One tab stop for many buttons: the arrow keys move among them, `columns` a row. */
function rove(container, columns) {
  container.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns() };
    const buttons = [...container.querySelectorAll("button")];
    const from = buttons.indexOf(document.activeElement);
    const to = buttons[{ Home: 0, End: buttons.length - 1 }[event.key] ?? from + (steps[event.key] ?? NaN)];
    if (from < 0 || !to) return;
    event.preventDefault();
    for (const button of buttons) button.tabIndex = button === to ? 0 : -1;
    to.focus();
  });
}
