/** What a run over a window would find: the verdicts first, then the rows and where they went. */

import { badge } from "./badges.js";
import { h } from "./dom.js";
import { bytes, count, duration, windowOf } from "./format.js";
import { feedback } from "./feedback.js";
import { icon } from "./icons.js";
import { link } from "./router.js";
import { facts } from "./table.js";

/** Of a Preflight; `brief` leaves out where the rows went. */
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
        { true: "Fits the GPU's memory", false: "Does not fit the GPU's memory", null: "Memory not known" }[
          memory.fits
        ],
        memory.why,
      ),
    ),
    facts([
      ["Window", windowOf(found.window)],
      found.asked.start !== found.window.start && [
        "Asked for",
        `${windowOf(found.asked)}; it starts earlier, for the rows of a week that was not learned`,
      ],
      ["Continues", found.parent ? link(`versions/${found.parent}`, found.parent) : "the base model"],
      found.overlapping.length > 0 && ["Learned from before", earlier(found)],
      ["Rows", `${count(found.rows)} of ${count(found.read)} read; ${count(gate.needed)} needed`],
      ["GPU time", minutes(found)],
      ["Peak memory", peak(memory)],
    ]),
    !brief && (found.read === 0 ? h("p.muted", null, "There is no feedback in this window.") : feedback(found)),
  );
}

/** `passed` is null where it cannot be told. */
function verdict(passed, title, why) {
  const [tone, sign] = passed === null ? ["muted", "dash"] : passed ? ["good", "check"] : ["bad", "cross"];
  return h("p.verdict", null, badge(tone, icon(sign), title), h("span", null, why));
}

/** So that nobody is surprised by a window that cuts into another one. */
function earlier({ overlapping }) {
  const versions = overlapping.map((version) => link(`versions/${version}`, version));
  return ["in part or whole by ", versions.map((each, number) => [number > 0 && ", ", each])];
}

function peak({ expected_bytes: expected, available_bytes: available }) {
  if (expected === null) return "unknown";
  return available === null ? bytes(expected) : `${bytes(expected)} of ${bytes(available)}`;
}

function minutes({ gpu_minutes: found, gpu_minutes_by: by }) {
  return found === null
    ? "unknown: no earlier training to go by"
    : `about ${duration(found * 60)}, going by ${by.join(", ")}`;
}
