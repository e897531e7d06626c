/** What a version kept of each earlier window, and how far it drifted there. */

import { h } from "./dom.js";
import { nats, percent } from "./format.js";
import { link } from "./router.js";
import { table } from "./table.js";

// From so many rows on, the table scrolls.
const LONG = 12;

/** A table of a Report; null for a first version. */
export function kept(report) {
  const windows = Object.keys(report.scores).filter((name) => name in report.base_scores);
  if (windows.length === 0) return null;
  const all = table(
    "Kept of each earlier window",
    [
      { title: "Window of", cell: (name) => link(`versions/${name}`, name), head: true },
      { title: "Loss", cell: (name) => nats(report.scores[name]), number: true },
      { title: "Best", cell: (name) => nats(report.best[name]), number: true },
      { title: "Base", cell: (name) => nats(report.base_scores[name]), number: true },
      { title: "Kept", cell: (name) => bar(report.retained[name]), number: true },
      { title: "Drift", cell: (name) => nats(report.drift_windows[name]), number: true },
    ],
    windows,
  );
  return windows.length > LONG
    ? h("div.scroll", { tabindex: 0, role: "region", "aria-label": "Kept of each earlier window" }, all)
    : all;
}

/** A share as a number and a length. */
export function bar(share) {
  if (share === null || share === undefined)
    return h("span.muted", { title: "Nothing had been learned there, or it could not be measured" }, "–");
  const length = Math.max(0, Math.min(1, share));
  return h(
    "span.share",
    null,
    h("span.bar", { "--share": length.toFixed(3), "aria-hidden": "true" }),
    h("span", null, percent(share)),
  );
}
