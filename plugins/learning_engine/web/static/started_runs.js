/** Runs started on this page, shown above every view until dismissed: state, progress, link to Airflow. */

import { airflowLink } from "./airflow_link.js";
import { get, getAirflow } from "./api.js";
import { state } from "./badges.js";
import { announce, h, replace } from "./dom.js";
import { duration, plural, humanize } from "./format.js";
import { poll } from "./poll.js";
import { needsApproval, approvalText } from "./training_panel.js";

const STORAGE_KEY = "learning-engine.runs";
const SECONDS = 3;
const RETRY_SECONDS = 30;
const ENDED = ["success", "failed"];

/** Dispatched on the window when a run started here has ended, since the content shown may have changed. */
export const CHANGED = "learning-engine:changed";

/** Follow an accepted run under `label`; `weekly`: whether it is a run of the weekly DAG. */
export function follow(label, weekly, { dag_id, run_id, airflow }) {
  const run = { label, weekly, dag_id, run_id, airflow };
  storeRuns([...storedRuns(), run]);
  announce(`${label}: run ${run_id} has started.`);
  show(run);
}

/** Report a rejected action whose confirmation panel is gone. */
export function refused(label, why) {
  announce(`${label} was not started: ${why}`);
  add(label, null, h("span.bad", null, `Not started: ${why}`), null, () => {});
}

/** After a reload, show the runs of this tab that were not dismissed. */
export function resume() {
  storedRuns().forEach(show);
}

function show(run) {
  const leaving = new AbortController();
  const status = h("div.run-status", null, state("queued"));
  add(run.label, run.run_id, status, airflowLink(run.airflow, "Open in Airflow"), () => {
    leaving.abort();
    storeRuns(storedRuns().filter(({ run_id }) => run_id !== run.run_id));
  });
  poll(() => refresh(run, status, leaving), SECONDS, leaving.signal);
}

/** Add a line above the views, until it is dismissed. */
function add(label, id, status, link, onDismiss) {
  const container = document.getElementById("runs");
  const dismiss = () => {
    onDismiss();
    line.remove();
    container.hidden = container.childElementCount === 0;
    document.getElementById("main").focus();
  };
  const line = h(
    "div.run",
    null,
    h("p.run-name", null, h("span.strong", null, label), id && [" ", h("span.mono.muted", null, id)]),
    status,
    link,
    h("button.button.quiet", { type: "button", "aria-label": `Dismiss: ${label}`, onclick: dismiss }, "Dismiss"),
  );
  container.append(line);
  container.hidden = false;
}

async function refresh(run, status, leaving) {
  let now;
  try {
    now = await progress(run, leaving.signal);
  } catch (error) {
    replace(status, h("span.muted", null, `Status unavailable: ${error.message}`));
    return RETRY_SECONDS;
  }
  replace(status, state(now.state), now.text && h("span.muted", null, now.text), now.bar);
  if (!ENDED.includes(now.state)) return undefined;
  leaving.abort();
  if (run.ended) return undefined;
  storeRuns(storedRuns().map((one) => (one.run_id === run.run_id ? { ...one, ended: true } : one)));
  announce(`${run.label}: ${now.state === "success" ? "done" : "failed"}.`);
  dispatchEvent(new Event(CHANGED));
  return undefined;
}

/** {state, text, bar} of a run: from this API for the weekly DAG, from Airflow's for the others. */
async function progress(run, signal) {
  if (run.weekly) {
    const { current, recent } = await get("training/status", { query: { run_id: run.run_id }, signal });
    return training([...current, ...recent][0]);
  }
  const path = `dags/${run.dag_id}/dagRuns/${encodeURIComponent(run.run_id)}`;
  const [now, { task_instances: tasks }] = await Promise.all([
    getAirflow(path, { signal }),
    getAirflow(`${path}/taskInstances`, { signal }),
  ]);
  const done = tasks.filter((task) => task.state === "success").length;
  const at = tasks.find((task) => task.state === "running" || task.state === "failed");
  const text = `${done} of ${plural(tasks.length, "task")} done${at ? `, ${humanize(at.task_id)} ${at.state}` : ""}`;
  return { state: now.state, text };
}

function training(run) {
  const { progress: step, task, verdict, version } = run;
  if (task === "train" && step) {
    const text = `step ${step.step} of ${step.of}, ${duration(step.eta_seconds)} left`;
    return { state: run.state, text, bar: h("progress", { value: step.step, max: step.of, "aria-label": "Steps" }) };
  }
  if (needsApproval(run)) return { state: run.state, text: approvalText(run) };
  const ended = [version && `published ${version}`, verdict].filter(Boolean).join(": ");
  return { state: run.state, text: task && run.state === "running" ? humanize(task) : ended };
}

function storedRuns() {
  return JSON.parse(sessionStorage.getItem(STORAGE_KEY) ?? "[]");
}

function storeRuns(runs) {
  sessionStorage.setItem(STORAGE_KEY, JSON.stringify(runs));
}
