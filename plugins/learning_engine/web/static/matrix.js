/** The matrix R as a heat map: the loss of each version (row) on the held-out feedback of each window (column). */

import { h } from "./dom.js";
import { nats, percent } from "./format.js";
import { link } from "./router.js";

const BASE = "base model";
// As in the gate: with less improvement over the base, nothing was learned, and a share would be noise.
const NOTHING_LEARNED = 0.02;

/** For an AdapterVersion's metadata; null if nothing was measured. */
export function matrix({ version, report }) {
  const rows = rowsOf(version, report);
  const windows = Object.keys(rows).filter((name) => Object.values(rows).some((row) => name in row));
  if (windows.length === 0) return null;
  const base = { ...report.base_scores, ...(report.loss_base === null ? {} : { [version]: report.loss_base }) };
  const best = Object.fromEntries(windows.map((name) => [name, lowest(rows, name)]));
  const line = (name, row) =>
    windows.map((window) => cell(name, window, row[window], { base: base[window], best: best[window] }));
  return h(
    "figure.heat",
    null,
    h(
      "div.scroll",
      { tabindex: 0, role: "region", "aria-label": "Matrix R" },
      h(
        "table.table.matrix",
        null,
        h(
          "caption.visually-hidden",
          null,
          "Loss of each version (row) on the held-out feedback of each version's window (column), in nats per token",
        ),
        h(
          "thead",
          null,
          h(
            "tr",
            null,
            h("th", { scope: "col" }, "Version"),
            windows.map((name) => h("th.number", { scope: "col" }, h("span.visually-hidden", null, "window of "), name)),
          ),
        ),
        h(
          "tbody",
          null,
          h(
            "tr.base",
            null,
            h("th", { scope: "row" }, BASE),
            windows.map((name) => plain(base[name])),
          ),
          Object.entries(rows).map(([name, row]) =>
            h(
              "tr",
              { "aria-current": name === version ? "true" : null },
              h("th", { scope: "row" }, name === version ? name : link(`versions/${name}`, name)),
              line(name, row),
            ),
          ),
        ),
      ),
    ),
    legend(),
  );
}

function rowsOf(version, { matrix: earlier, scores, loss }) {
  return { ...earlier, [version]: { ...scores, ...(loss === null ? {} : { [version]: loss }) } };
}

function lowest(rows, window) {
  return Math.min(...Object.values(rows).map((row) => row[window] ?? Infinity));
}

function cell(version, window, loss, { base, best }) {
  if (loss === undefined) return h("td.nothing", null, h("span.visually-hidden", null, "not measured"));
  const share = base !== undefined && base - best > NOTHING_LEARNED ? (base - loss) / (base - best) : null;
  if (share === null) return plain(loss);
  const strength = Math.min(1, Math.abs(share));
  return h(
    `td.number.${share < 0 ? "worse" : "warm"}`,
    {
      "--heat": strength.toFixed(3),
      title: `${version} on the window of ${window}: ${percent(share)} of the best improvement`,
    },
    nats(loss),
  );
}

function plain(loss) {
  return h("td.number", null, nats(loss));
}

/** The legend of the colours. */
function legend() {
  return h(
    "figcaption.legend.muted",
    null,
    h("span", null, "base model"),
    h("span.ramp", { "aria-hidden": "true" }),
    h("span", null, "the best version on that window; lower is better"),
    h("span.entry", null, h("span.worse", { "aria-hidden": "true" }), "worse than the base model"),
  );
}
