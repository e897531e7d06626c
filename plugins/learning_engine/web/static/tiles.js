/** The key figures of a version, side by side. */

import { h } from "./dom.js";
import { count, nats, percent } from "./format.js";

/** For an AdapterSummary: loss, retention, drift and rows. */
export function tiles(summary) {
  const { loss, loss_parent: parent, loss_base: base } = summary;
  const reference = parent ?? base;
  return h(
    "dl.tiles",
    null,
    tile(
      "Loss",
      [loss !== null && reference !== null && h("span.muted", null, `${nats(reference)} → `), nats(loss)],
      lossNote(summary),
    ),
    tile("Retained", percent(summary.retained), retainedNote(summary)),
    tile("Drift", nats(summary.drift_parent), `KL from ${summary.parent ?? "the base model"}, nats per token`),
    tile("Rows", count(summary.rows), `${count(summary.thumbs_up)} up, ${count(summary.thumbs_down)} down`),
  );
}

export function tile(name, value, note) {
  return h("div.tile", null, h("dt", null, name), h("dd.value", null, value), note && h("dd.muted", null, note));
}

function retainedNote({ parent, retained }) {
  if (retained !== null) return "minimum over all earlier windows";
  return parent === null ? "no earlier window yet" : "no earlier window could be measured";
}

function lossNote({ parent, loss, loss_base: base }) {
  if (loss === null) return "could not be measured";
  return parent === null ? "from the base model to this version" : `from ${parent} to this version; base ${nats(base)}`;
}
