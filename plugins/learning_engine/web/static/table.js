/** Tables that stay tables on a phone: the roles are said, so that a row may become a card without losing them. */

import { h } from "./dom.js";

/**
 * `columns` are {title, cell(row), number, head, span}: `number` sets a column to the right, `head` makes it name its
 * row, `span` gives it a line of its own where a row is a card; there each cell shows its column's title. A column
 * whose title is empty has a `name`.
 */
export function table(caption, columns, rows, row = () => null) {
  const head = h("tr", { role: "row" }, columns.map(title));
  const body = rows.map((item) =>
    h(
      "tr",
      { role: "row", ...row(item) },
      columns.map((column) => cell(column, item)),
    ),
  );
  return h(
    "table.table.stacked",
    { role: "table" },
    h("caption.unseen", null, caption),
    h("thead", { role: "rowgroup" }, head),
    h("tbody", { role: "rowgroup" }, body),
  );
}

/** Pairs of a name and what is known of it; a pair without anything is left out. `beside`: a line for each. */
export function facts(pairs, { beside = false } = {}) {
  const known = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined);
  return h(
    `dl.facts${beside ? ".beside" : ""}`,
    null,
    known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

function title({ title: text, name, number }) {
  return h(
    "th",
    { role: "columnheader", scope: "col", class: number ? "number" : null },
    text || h("span.unseen", null, name),
  );
}

function cell({ title: text, number, head, span, cell: make }, item) {
  const attributes = { "data-title": text || null, class: number ? "number" : span ? "span" : null };
  const content = h("div.cell", null, make(item));
  return head
    ? h("th", { ...attributes, role: "rowheader", scope: "row" }, content)
    : h("td", { ...attributes, role: "cell" }, content);
}
