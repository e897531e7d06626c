/** The rows of a window: kept, dropped by reason, quarantined by reason. For a Dataset or a Preflight. */

import { h } from "./dom.js";
import { count, percent, humanize } from "./format.js";
import { facts } from "./table.js";

const REASONS = {
  superseded: "an earlier vote on the same answer by the same user",
  bad_json: "request or response is not JSON",
  bad_time: "no readable time",
  unknown_thumb: "neither thumbs up nor thumbs down",
  no_answer: "no answer in the response",
  no_prompt: "no user text in the request",
  not_text: "an image or a number instead of text",
  unknown_role: "a message with an unknown role",
  answer_in_prompt: "the prompt already ends with an answer",
  too_long: "longer than feedback.max_characters",
  null_character: "text with a null character",
  lone_surrogate: "text that is not valid Unicode",
  over_user_cap: "beyond feedback.cap_per_user",
  burst: "many votes by one user within minutes",
  contradictory: "liked by some users, disliked by others",
};

export function feedbackSummary(found) {
  const { read, rows } = found;
  return h(
    "div.stack",
    null,
    h("div.flow", null, bars(found)),
    h(
      "div.columns",
      null,
      reasons("Dropped", found.dropped, read, "No rows were dropped."),
      reasons("Quarantined", found.quarantined, read, "No rows were quarantined."),
      h(
        "section.stack.tight",
        null,
        h("h3", null, swatch("kept"), "Kept"),
        facts(
          [
            ["Rows", `${count(rows)} of ${count(read)} read (${percent(read ? rows / read : null)})`],
            ["Thumbs", `${count(found.thumbs_up)} up, ${count(found.thumbs_down)} down`],
            ["Users", found.users === null ? "unknown" : count(found.users)],
            ["Conversations", count(found.conversations)],
            ["Tokens", found.tokens === null ? "unknown" : count(found.tokens)],
          ],
          { inline: true },
        ),
      ),
    ),
  );
}

/** A stacked bar of all rows read. */
function bars({ read, rows, dropped, quarantined }) {
  const parts = [
    ["kept", rows],
    ["dropped", sum(dropped)],
    ["quarantined", sum(quarantined)],
  ];
  return parts.map(
    ([name, value]) =>
      value > 0 &&
      h(`span.part.${name}`, { "--share": String(value / Math.max(read, 1)), title: `${count(value)} ${name}` }),
  );
}

function reasons(title, found, read, none) {
  const entries = Object.entries(found).sort(([, one], [, other]) => other - one);
  return h(
    "section.stack.tight",
    null,
    h("h3", null, swatch(title.toLowerCase()), title, " ", h("span.muted.tabular", null, count(sum(found)))),
    entries.length === 0 && h("p.muted", null, none),
    facts(
      entries.map(([reason, value]) => [
        named(reason),
        h("span", { title: percent(read ? value / read : null) }, count(value)),
      ]),
      { inline: true },
    ),
  );
}

function swatch(name) {
  return h(`span.swatch.${name}`, { "aria-hidden": "true" });
}

function named(reason) {
  return h("span", null, h("span.plain", null, humanize(reason)), REASONS[reason] && `: ${REASONS[reason]}`);
}

function sum(found) {
  return Object.values(found).reduce((total, value) => total + value, 0);
}
