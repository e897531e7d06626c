/** Words with a sign: the states of versions, runs, tasks and parts. */

import { h } from "./dom.js";
import { dot, icon } from "./icons.js";
import { words } from "./format.js";

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

/** What a version is: live, revoked, vouched for. */
export function standing(summary) {
  return [
    summary.live && badge("live", dot("dot"), "Live"),
    summary.revoked && badge("bad", icon("dash"), "Revoked", "Nobody's parent, and never deployed by itself"),
    summary.vouched && badge("warn", icon("check"), "Vouched for", "A person put it live against the gate"),
  ];
}

export function verdict(summary) {
  return summary.accepted ? badge("good", icon("check"), "Accepted") : badge("bad", icon("cross"), "Rejected");
}

/** Of a DAG run or a task; what has no state yet is waiting. */
export function state(name) {
  const [tone, make, sign] = RUN[name] ?? ["muted", dot, "ring"];
  return badge(tone, make(sign), name ? words(name) : "waiting");
}

export function health(name) {
  const [tone, make, sign] = HEALTH[name];
  return badge(tone, make(sign), name);
}

/** The sign of a task's state alone. */
export function sign(name) {
  const [tone, make, kind] = RUN[name] ?? ["muted", dot, "ring"];
  return h(`span.sign.${tone}`, null, make(kind));
}
