/** The details of a version's training: losses, protection, resources, configuration. */

import { h } from "./dom.js";
import { bytes, count, duration, figure, nats, percent, plural, humanize } from "./format.js";
import { facts } from "./table.js";

// Maximum number of versions to name; more are only counted.
const FEW = 4;

/** For an AdapterVersion. */
export function trainingDetails({
  training,
  fisher,
  lora,
  ewc_lambda: lambda,
  base_model: base,
  base_revision: revision,
  config,
}) {
  return [
    facts([
      ["Final task loss", nats(training.task_loss)],
      ["Final EWC loss", nats(training.ewc_loss, 4)],
      ["EWC λ", figure(training.ewc_lambda ?? lambda)],
      ["Fisher information of", protectedBy(fisher)],
      ["Steps", count(training.steps)],
      [
        "Examples",
        `${count(training.examples)}${training.replayed ? `, ${count(training.replayed)} of them replayed` : ""}`,
      ],
      ["Tokens", `${count(training.tokens)}, ${count(training.supervised_tokens)} of them supervised`],
      ["Dropped", droppedText(training.dropped)],
      ["Time", `${duration(training.seconds)}, ${count(training.tokens_per_second)} tokens per second`],
      ["Device", `${training.device}, ${training.precision}`],
      ["GPU utilisation", percent(training.gpu_utilisation)],
      [
        "Peak memory",
        training.peak_memory_bytes
          ? `${bytes(training.peak_memory_bytes)}${training.device_memory_bytes ? ` of ${bytes(training.device_memory_bytes)}` : ""}`
          : null,
      ],
      ["Resumed at step", training.resumed_at_step || null],
      ["LoRA", `rank ${lora.rank}, α ${figure(lora.alpha)}, on ${lora.target_modules.join(", ")}`],
      ["Base model", h("span.mono", null, `${base} at ${revision}`)],
    ]),
    training.notes.length > 0 &&
      h(
        "ul.notes",
        null,
        training.notes.map((note) => h("li", null, note)),
      ),
    h(
      "details.quiet",
      null,
      h("summary", null, "Configuration"),
      h("pre", { tabindex: 0 }, JSON.stringify(config, null, 2)),
    ),
  ];
}

function protectedBy(fisher) {
  if (!fisher.uri) return fisher.note || "nothing";
  const before = fisher.accumulated;
  const over = before.length
    ? `, accumulated over ${before.length > FEW ? plural(before.length, "version") : before.join(", ")}`
    : "";
  return `${fisher.guards}: ${fisher.kind}, ${fisher.labels} labels, ${count(fisher.n_sequences)} sequences${over}`;
}

function droppedText(dropped) {
  const reasons = Object.entries(dropped).map(([reason, value]) => `${count(value)} ${humanize(reason)}`);
  return reasons.join(", ") || "nothing";
}
