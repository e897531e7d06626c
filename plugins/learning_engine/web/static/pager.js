/** The way through a list that is longer than a page of it, newest first. */

import { h } from "./dom.js";
import { count } from "./format.js";
import { empty } from "./states.js";

/** Of {total, limit, offset, items}; `turn(offset)` opens another page, `all` says how many there are. */
export function pager({ total, limit, offset, items }, turn, all) {
  const said = items.length === total ? all : `${count(offset + 1)} – ${count(offset + items.length)} of ${all}`;
  const button = (label, target, possible) =>
    h(
      "button.button",
      { type: "button", "aria-disabled": possible ? null : "true", onclick: () => possible && turn(target) },
      label,
    );
  return h(
    "nav.pager",
    { "aria-label": "Pages" },
    h("span.pager-said.muted.tabular", null, said),
    total > limit && [
      button("Newer", Math.max(0, offset - limit), offset > 0),
      button("Older", offset + limit, offset + limit < total),
    ],
  );
}

/** Where an address leads behind the last page; `turn` opens the first. */
export function beyond(turn) {
  const first = h("button.button", { type: "button", onclick: turn }, "To the newest");
  return empty("There is nothing on this page", "The list is shorter than the address says.", first);
}
