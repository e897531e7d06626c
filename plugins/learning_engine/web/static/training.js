/** A run of the weekly DAG that is under way: where it is, how far the training has come, its curve so far. */

import { leave } from "./airflow.js";
import { sign, state } from "./badges.js";
import { lossChart } from "./chart.js";
import { ago } from "./clock.js";
import { h, replace, steady } from "./dom.js";
import { bytes, count, days, duration, figure, nats, percent } from "./format.js";
import { tile } from "./tiles.js";

/** An element with `update(run)`; the chart is kept from one update to the next. */
export function trainingPanel(signal) {
  const chart = lossChart(signal);
  const head = h("div.panel-head"),
    road = h("div"),
    figures = h("div");
  const element = h("section.panel", { "aria-label": "Training under way" }, head, road, figures, chart);
  const headed = steady(heading),
    passed = steady(roadOf);
  element.update = (run) => {
    const { progress } = run;
    replace(head, headed({ ...run, tasks: null, progress: null }));
    replace(road, passed(run.tasks));
    replace(figures, awaited(run) && h("p.note.warn", { role: "status" }, waiting(run)), progress && measured(run));
    chart.hidden = !progress?.curve.length;
    if (!chart.hidden) chart.update(progress.curve);
    return element;
  };
  return element;
}

function heading(run) {
  return [
    h("h2", null, "Training", run.window && h("span.muted", null, ` on ${days(run.window)}`)),
    state(run.state),
    h(
      "span.muted",
      null,
      run.started_at ? ["started ", ago(run.started_at)] : "not started",
      run.triggered_by && ` by ${run.triggered_by}`,
    ),
    leave(run.airflow, "Open in Airflow"),
  ];
}

/** The tasks in order, each with the sign of its state. */
function roadOf(tasks) {
  return h(
    "ol.road",
    { "aria-label": "Tasks" },
    tasks.map(({ task, state: now, seconds, tries }) =>
      h(
        "li",
        { class: now, "aria-current": now === "running" ? "step" : null, title: tries > 1 ? `try ${tries}` : null },
        sign(now),
        task,
        h("span.unseen", null, `: ${now ?? "waiting"}`),
        seconds !== null && h("span.muted.tabular", null, duration(seconds)),
      ),
    ),
  );
}

/** Whether the run asks a person whether to deploy. */
export function awaited({ tasks }) {
  return tasks.some(({ state: now }) => now === "awaiting_input");
}

export function waiting({ version }) {
  return `${version ?? "The version"} waits for a person: say yes or no in Airflow.`;
}

function measured({ progress, task }) {
  const under = task === "train";
  const share = progress.step / progress.of;
  return h(
    "div.stack.tight",
    null,
    under &&
      h(
        "div.meter",
        null,
        h("progress", { value: progress.step, max: progress.of, "aria-label": "Training steps" }),
        h("span.tabular", null, `step ${count(progress.step)} of ${count(progress.of)}, ${percent(share)}`),
        h("span.muted.tabular", null, `${duration(progress.eta_seconds)} left`),
      ),
    h(
      "dl.tiles.small",
      null,
      tile("Task loss", nats(progress.task_loss)),
      tile("EWC loss", nats(progress.ewc_loss, 4)),
      tile("Learning rate", figure(progress.learning_rate)),
      tile("Tokens a second", count(progress.tokens_per_second)),
      tile("GPU", percent(progress.gpu_utilisation)),
      tile("Peak memory", progress.peak_memory_bytes ? bytes(progress.peak_memory_bytes) : "–"),
    ),
  );
}
