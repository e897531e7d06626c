/** Pagination for a list, newest first. */

import { h } from "./dom.js";
import { count } from "./format.js";
import { emptyState } from "./async_content.js";

/** For {total, limit, offset, items}; `turn(offset)` opens another page, `all` is the total as text. */
export function pager({ total, limit, offset, items }, turn, all) {
  const text = items.length === total ? all : `${count(offset + 1)} – ${count(offset + items.length)} of ${all}`;
  const button = (label, target, possible) =>
    h(
      "button.button",
      { type: "button", "aria-disabled": possible ? null : "true", onclick: () => possible && turn(target) },
      label,
    );
  return h(
    "nav.pager",
    { "aria-label": "Pages" },
    h("span.pager-position.muted.tabular", null, text),
    total > limit && [
      button("Newer", Math.max(0, offset - limit), offset > 0),
      button("Older", offset + limit, offset + limit < total),
    ],
  );
}

/** The message for an offset beyond the last page; `turn` opens the first page. */
export function pageOutOfRange(turn) {
  const first = h("button.button", { type: "button", onclick: turn }, "Go to the first page");
  return emptyState("This page does not exist", "The list has fewer entries.", first);
}
