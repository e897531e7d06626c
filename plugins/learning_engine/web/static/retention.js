/** How much a version retains of each earlier window, and how far it drifted there. */

import { h } from "./dom.js";
import { nats, percent } from "./format.js";
import { link } from "./router.js";
import { table } from "./table.js";

// Tables with more rows scroll.
const LONG = 12;

/** A table for a Report; null for a first version. */
export function retentionTable(report) {
  const windows = Object.keys(report.scores).filter((name) => name in report.base_scores);
  if (windows.length === 0) return null;
  const shares = retainedShares(report);
  const all = table(
    "Retained of each earlier window",
    [
      { title: "Window of", cell: (name) => link(`versions/${name}`, name), head: true },
      { title: "Loss", cell: (name) => nats(report.scores[name]), number: true },
      { title: "Best", cell: (name) => nats(report.best[name]), number: true },
      { title: "Base", cell: (name) => nats(report.base_scores[name]), number: true },
      { title: "Taught", cell: (name) => percent(report.kept[name]?.candidate ?? null), number: true },
      { title: "Retained", cell: (name) => shareBar(shares[name]), number: true },
      { title: "Drift", cell: (name) => nats(report.drift_windows[name]), number: true },
    ],
    windows,
  );
  return windows.length > LONG
    ? h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Retained of each earlier window" }, all)
    : all;
}

/** The share retained of each earlier window: of what it taught where that can be judged, by loss otherwise. */
export function retainedShares({ retained, kept }) {
  const taught = Object.entries(kept).filter(([, window]) => window.retained !== null);
  return { ...retained, ...Object.fromEntries(taught.map(([name, window]) => [name, window.retained])) };
}

/** A share as a number and a bar. */
export function shareBar(share) {
  if (share === null || share === undefined)
    return h("span.muted", { title: "Nothing was learned from this window, or it could not be measured" }, "–");
  const length = Math.max(0, Math.min(1, share));
  return h(
    "span.share",
    null,
    h("span.bar", { "--share": length.toFixed(3), "aria-hidden": "true" }),
    h("span", null, percent(share)),
  );
}
