/** Tables with explicit ARIA roles, so that rows can become cards on a phone without losing table semantics. */

import { h } from "./dom.js";

/**
 * `columns` are {title, cell(row), number, head, span}: `number` right-aligns a column, `head` makes it the row header,
 * `span` gives it a full line on a card, where each cell shows its column's title. A column with an empty title needs a
 * `name`.
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
    h("caption.visually-hidden", null, caption),
    h("thead", { role: "rowgroup" }, head),
    h("tbody", { role: "rowgroup" }, body),
  );
}

/** Pairs of name and value; pairs without a value are omitted. `inline`: name and value on one line. */
export function facts(pairs, { inline = false } = {}) {
  const known = pairs.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined);
  return h(
    `dl.facts${inline ? ".inline" : ""}`,
    null,
    known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))),
  );
}

function title({ title: text, name, number }) {
  return h(
    "th",
    { role: "columnheader", scope: "col", class: number ? "number" : null },
    text || h("span.visually-hidden", null, name),
  );
}

function cell({ title: text, number, head, span, cell: make }, item) {
  const attributes = { "data-title": text || null, class: number ? "number" : span ? "span" : null };
  const content = h("div.cell", null, make(item));
  return head
    ? h("th", { ...attributes, role: "rowheader", scope: "row" }, content)
    : h("td", { ...attributes, role: "cell" }, content);
}
