/** What a run over a window would find: verdicts first, then the rows. */

import { badge } from "./badges.js";
import { h } from "./dom.js";
import { bytes, count, duration, windowOf } from "./format.js";
import { feedbackSummary } from "./feedback_summary.js";
import { icon } from "./icons.js";
import { link } from "./router.js";
import { facts } from "./table.js";

/** For a Preflight; `brief` omits the breakdown of the rows. */
export function preflight(found, { brief = false } = {}) {
  const { count_gate: gate, memory } = found;
  return h(
    "div.stack",
    null,
    h(
      "div.verdicts",
      null,
      verdict(gate.passed, gate.passed ? "Enough rows" : "Too few rows", gate.why),
      verdict(
        memory.fits,
        { true: "Fits in GPU memory", false: "Does not fit in GPU memory", null: "Memory unknown" }[
          memory.fits
        ],
        memory.why,
      ),
    ),
    facts([
      ["Window", windowOf(found.window)],
      found.asked.start !== found.window.start && [
        "Requested",
        `${windowOf(found.asked)}; the window starts earlier to include rows carried over`,
      ],
      ["Continues", found.parent ? link(`versions/${found.parent}`, found.parent) : "the base model"],
      found.overlapping.length > 0 && ["Overlaps", earlier(found)],
      ["Rows", `${count(found.rows)} of ${count(found.read)} read; ${count(gate.needed)} needed`],
      ["GPU time", minutes(found)],
      ["Peak memory", peak(memory)],
    ]),
    !brief && (found.read === 0 ? h("p.muted", null, "There is no feedback in this window.") : feedbackSummary(found)),
  );
}

/** `passed` is null if unknown. */
function verdict(passed, title, why) {
  const [tone, sign] = passed === null ? ["muted", "dash"] : passed ? ["good", "check"] : ["bad", "cross"];
  return h("p.verdict", null, badge(tone, icon(sign), title), h("span", null, why));
}

/** The versions whose windows overlap this one. */
function earlier({ overlapping }) {
  const versions = overlapping.map((version) => link(`versions/${version}`, version));
  return versions.map((each, number) => [number > 0 && ", ", each]);
}

function peak({ expected_bytes: expected, available_bytes: available }) {
  if (expected === null) return "unknown";
  return available === null ? bytes(expected) : `${bytes(expected)} of ${bytes(available)}`;
}

function minutes({ gpu_minutes: found, gpu_minutes_by: by }) {
  return found === null
    ? "unknown: no earlier training to estimate from"
    : `about ${duration(found * 60)}, based on ${by.join(", ")}`;
}
