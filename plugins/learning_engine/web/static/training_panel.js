/** An active run of the weekly DAG: its tasks, training progress and loss curve. */

import { airflowLink } from "./airflow_link.js";
import { sign, state } from "./badges.js";
import { lossChart } from "./chart.js";
import { relativeTime } from "./timestamps.js";
import { h, replace, memoize } from "./dom.js";
import { bytes, count, days, duration, figure, nats, percent } from "./format.js";
import { tile } from "./tiles.js";

/** An element with `update(run)`; the chart is reused between updates. */
export function trainingPanel(signal) {
  const chart = lossChart(signal);
  const head = h("div.panel-head"),
    tasksElement = h("div"),
    figures = h("div");
  const element = h("section.panel", { "aria-label": "Training in progress" }, head, tasksElement, figures, chart);
  const renderHeading = memoize(heading),
    renderTasks = memoize(taskList);
  element.update = (run) => {
    const { progress } = run;
    replace(head, renderHeading({ ...run, tasks: null, progress: null }));
    replace(tasksElement, renderTasks(run.tasks));
    replace(figures, needsApproval(run) && h("p.note.warn", { role: "status" }, approvalText(run)), progress && metrics(run));
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
      run.started_at ? ["started ", relativeTime(run.started_at)] : "not started",
      run.triggered_by && ` by ${run.triggered_by}`,
    ),
    airflowLink(run.airflow, "Open in Airflow"),
  ];
}

/** The tasks in order, each with an icon of its state. */
function taskList(tasks) {
  return h(
    "ol.task-list",
    { "aria-label": "Tasks" },
    tasks.map(({ task, state: now, seconds, tries }) =>
      h(
        "li",
        { class: now, "aria-current": now === "running" ? "step" : null, title: tries > 1 ? `attempt ${tries}` : null },
        sign(now),
        task,
        h("span.visually-hidden", null, `: ${now ?? "waiting"}`),
        seconds !== null && h("span.muted.tabular", null, duration(seconds)),
      ),
    ),
  );
}

/** Whether the run waits for a person to approve the deployment. */
export function needsApproval({ tasks }) {
  return tasks.some(({ state: now }) => now === "awaiting_input");
}

export function approvalText({ version }) {
  return `${version ?? "The version"} is waiting for approval: approve or reject it in Airflow.`;
}

function metrics({ progress, task }) {
  const training = task === "train";
  const share = progress.step / progress.of;
  return h(
    "div.stack.tight",
    null,
    training &&
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
      tile("Tokens per second", count(progress.tokens_per_second)),
      tile("GPU utilisation", percent(progress.gpu_utilisation)),
      tile("Peak memory", progress.peak_memory_bytes ? bytes(progress.peak_memory_bytes) : "–"),
    ),
  );
}
