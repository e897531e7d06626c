/** A lineage graph next to the list of versions, newest first. Decorative: the list names each parent. */

import { h } from "./dom.js";

/** {lanes, drawings}: the number of lanes, and the drawing of each version. `items` are AdapterSummary. */
export function graph(items) {
  const trunk = trunkOf(items);
  const waiting = new Map();
  const rows = items.map((item) => row(item, trunk, waiting));
  const lanes = Math.max(1, ...rows.map(({ widest }) => widest + 1));
  return { lanes, drawings: new Map(rows.map((one) => [one.item.version, draw(one, lanes)])) };
}

/** The ancestors of the live version and the version itself, which use the leftmost lane. */
function trunkOf(items) {
  const by = new Map(items.map((item) => [item.version, item]));
  const trunk = new Set();
  let item = items.find(({ live }) => live) ?? items.find(({ accepted, revoked }) => accepted && !revoked);
  while (item && !trunk.has(item.version)) {
    trunk.add(item.version);
    item = by.get(item.parent);
  }
  return trunk;
}

/** `waiting` maps each open lane to the parent that it leads down to; updated for the rows below. */
function row(item, trunk, waiting) {
  const ends = [...waiting].filter(([, parent]) => parent === item.version).map(([lane]) => lane);
  const lane = trunk.has(item.version) ? 0 : ends.length ? Math.min(...ends) : free(waiting);
  const passing = [...waiting.keys()].filter((other) => !ends.includes(other));
  ends.forEach((end) => waiting.delete(end));
  const widest = Math.max(lane, ...passing, ...ends);
  if (item.parent) waiting.set(lane, item.parent);
  return { item, lane, passing, ends, widest, onward: Boolean(item.parent) };
}

function free(waiting) {
  let lane = 1;
  while (waiting.has(lane)) lane += 1;
  return lane;
}

function draw({ item, lane, passing, ends, onward }, lanes) {
  const at = (place) => ({ "--lane": String(place) });
  return h(
    "span.graph",
    { "aria-hidden": "true", "--lanes": String(lanes) },
    passing.map((other) => h("span.rail", at(other))),
    ends.map((end) =>
      end === lane ? h("span.rail.above", at(lane)) : h("span.join", { ...at(lane), "--from": String(end) }),
    ),
    onward && h("span.rail.below", at(lane)),
    h(`span.node.${kind(item)}`, at(lane)),
  );
}

function kind({ live, revoked, accepted, vouched }) {
  if (live) return "live";
  return revoked || !(accepted || vouched) ? "hollow" : "plain";
}
