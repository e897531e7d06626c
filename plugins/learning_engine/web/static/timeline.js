/** A timeline of the deployment history. Decorative: the table next to it says the same. */

import { h } from "./dom.js";
import { time } from "./format.js";

// Parts with a smaller share have no room for a label.
const LABEL = 0.06;
const TONES = 4;

/** `entries` are deployments, newest first; the newest lasts until now. Null without entries. */
export function timeline(entries) {
  if (entries.length === 0) return null;
  const first = Date.parse(entries.at(-1).at),
    last = Date.now();
  const whole = Math.max(last - first, 1);
  const names = [...new Set(entries.map(({ version }) => version).reverse())];
  const parts = entries.map((entry, place) => {
    const from = Date.parse(entry.at),
      to = place === 0 ? last : Date.parse(entries[place - 1].at);
    return part(entry, (from - first) / whole, (to - from) / whole, names.indexOf(entry.version) % TONES);
  });
  return h(
    "div.timeline",
    { "aria-hidden": "true" },
    h("div.parts", null, parts.reverse()),
    h("div.ends.muted", null, h("span", null, `${time(entries.at(-1).at)} UTC`), h("span", null, "now")),
  );
}

function part(entry, start, share, tone) {
  const name = entry.version ?? "base";
  const attributes = {
    "--start": String(start),
    "--share": String(share),
    title: `${name} from ${time(entry.at)} UTC`,
  };
  return h(`span.part.tone-${tone}`, attributes, share > LABEL && name);
}
