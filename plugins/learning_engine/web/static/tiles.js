/** The figures of a version that matter most, side by side. */

import { h } from "./dom.js";
import { count, nats, percent } from "./format.js";

/** Of an AdapterSummary: what it learned, kept, drifted, and from how much. */
export function tiles(summary) {
  const { loss, loss_parent: parent, loss_base: base } = summary;
  const before = parent ?? base;
  return h(
    "dl.tiles",
    null,
    tile(
      "Learned",
      [loss !== null && before !== null && h("span.muted", null, `${nats(before)} → `), nats(loss)],
      learned(summary),
    ),
    tile("Kept", percent(summary.retained), kept(summary)),
    tile("Drift", nats(summary.drift_parent), `KL from ${summary.parent ?? "the base model"}, nats a token`),
    tile("Rows", count(summary.rows), `${count(summary.thumbs_up)} up, ${count(summary.thumbs_down)} down`),
  );
}

export function tile(name, value, said) {
  return h("div.tile", null, h("dt", null, name), h("dd.value", null, value), said && h("dd.muted", null, said));
}

function kept({ parent, retained }) {
  if (retained !== null) return "the least of all earlier windows";
  return parent === null ? "no earlier window yet" : "no earlier window could be judged";
}

function learned({ parent, loss, loss_base: base }) {
  if (loss === null) return "could not be measured";
  return parent === null ? "loss, base model to this one" : `loss, ${parent} to this one; base ${nats(base)}`;
}
