/** Badges, a word with an icon each, for the states of versions, runs, tasks and components. */

import { h } from "./dom.js";
import { dot, icon } from "./icons.js";
import { humanize } from "./format.js";

const RUN = {
  queued: ["muted", dot, "ring"],
  running: ["busy", dot, "turning"],
  success: ["good", icon, "check"],
  failed: ["bad", icon, "cross"],
  upstream_failed: ["bad", icon, "dash"],
  skipped: ["muted", icon, "dash"],
  removed: ["muted", icon, "dash"],
  up_for_retry: ["warn", icon, "warn"],
  awaiting_input: ["warn", icon, "warn"],
};
const HEALTH = {
  up: ["good", icon, "check"],
  degraded: ["warn", icon, "warn"],
  down: ["bad", icon, "cross"],
  unknown: ["muted", dot, "ring"],
};

export function badge(tone, sign, text, title) {
  return h(`span.badge.${tone}`, { title }, sign, text);
}

/** Badges for a version that is live, revoked or vouched for. */
export function statusBadges(summary) {
  return [
    summary.live && badge("live", dot("dot"), "Live"),
    summary.revoked &&
      badge("bad", icon("dash"), "Revoked", "Later runs do not continue it, and it is never deployed automatically"),
    summary.vouched &&
      badge("warn", icon("check"), "Vouched for", "A person deployed it although the gate rejected it"),
  ];
}

export function verdict(summary) {
  return summary.accepted ? badge("good", icon("check"), "Accepted") : badge("bad", icon("cross"), "Rejected");
}

/** The badge of a DAG run or task; without a state it is waiting. */
export function state(name) {
  const [tone, make, sign] = RUN[name] ?? ["muted", dot, "ring"];
  return badge(tone, make(sign), name ? humanize(name) : "waiting");
}

export function health(name) {
  const [tone, make, sign] = HEALTH[name];
  return badge(tone, make(sign), name);
}

/** Only the icon of a task's state. */
export function sign(name) {
  const [tone, make, kind] = RUN[name] ?? ["muted", dot, "ring"];
  return h(`span.sign.${tone}`, null, make(kind));
}
