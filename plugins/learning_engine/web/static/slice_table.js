/** The figures of a version by slice, such as language=de, with those that fell marked. */

import { badge } from "./badges.js";
import { h } from "./dom.js";
import { count, nats, percent } from "./format.js";
import { icon } from "./icons.js";
import { shareBar } from "./retention.js";
import { table } from "./table.js";

// Tables with more rows scroll.
const LONG = 12;

/** For a Report; folded if it has no slices. */
export function sliceTable({ slices }) {
  if (slices.length === 0)
    return h(
      "details.quiet",
      null,
      h("summary", null, "By slice"),
      h("p.muted", null, "No value of a slice was judged. The setting feedback.slices names the slices."),
    );
  const all = table(
    "Figures by slice",
    [
      { title: "Slice", cell: label, head: true },
      { title: "Conversations", cell: (slice) => count(slice.conversations), number: true },
      { title: "Loss", cell: (slice) => nats(slice.loss), number: true },
      { title: "Parent", cell: (slice) => nats(slice.loss_parent), number: true },
      { title: "Base", cell: (slice) => nats(slice.loss_base), number: true },
      { title: "Margin", cell: (slice) => nats(slice.margin), number: true },
      { title: "Parent margin", cell: (slice) => nats(slice.margin_parent), number: true },
      { title: "Taught", cell: (slice) => percent(slice.taught.candidate), number: true },
      { title: "Retained", cell: (slice) => shareBar(slice.retained), number: true },
    ],
    slices,
    (slice) => ({ class: slice.fell ? "failing" : null }),
  );
  return h(
    "section.stack.tight",
    null,
    h("h3", null, "By slice"),
    slices.length > LONG
      ? h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Figures by slice" }, all)
      : all,
  );
}

function label({ name, value, fell }) {
  return [h("span.mono", null, `${name}=${value || "(none)"}`), fell && [" ", badge("warn", icon("warn"), "fell")]];
}
