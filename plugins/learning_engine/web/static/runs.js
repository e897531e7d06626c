/** The runs that were started here, above every view until they are put away: state, progress, the way to Airflow. */

import { leave } from "./airflow.js";
import { get, getAirflow } from "./api.js";
import { state } from "./badges.js";
import { announce, h, replace } from "./dom.js";
import { duration, plural, words } from "./format.js";
import { poll } from "./poll.js";
import { awaited, waiting } from "./training.js";

const KEPT = "learning-engine.runs";
const SECONDS = 3;
const TROUBLED_SECONDS = 30;
const ENDED = ["success", "failed"];

/** Said to the window when a run that was started here has ended: what is shown may have changed. */
export const CHANGED = "learning-engine:changed";

/** Follow a run that the API has accepted, under the name of what was asked for; `weekly` says of which DAG. */
export function follow(label, weekly, { dag_id, run_id, airflow }) {
  const run = { label, weekly, dag_id, run_id, airflow };
  keep([...kept(), run]);
  announce(`${label}: run ${run_id} has been started.`);
  show(run);
}

/** Say that an act was not started, where the panel that asked for it is gone. */
export function refused(label, why) {
  announce(`${label} was not started: ${why}`);
  add(label, null, h("span.bad", null, `Not started: ${why}`), null, () => {});
}

/** Those of this tab that are not put away yet, after a reload. */
export function resume() {
  kept().forEach(show);
}

function show(run) {
  const leaving = new AbortController();
  const status = h("div.run-status", null, state("queued"));
  add(run.label, run.run_id, status, leave(run.airflow, "Open in Airflow"), () => {
    leaving.abort();
    keep(kept().filter(({ run_id }) => run_id !== run.run_id));
  });
  poll(() => look(run, status, leaving), SECONDS, leaving.signal);
}

/** A line above the views, until it is put away. */
function add(label, id, status, way, putAway) {
  const tray = document.getElementById("runs");
  const away = () => {
    putAway();
    line.remove();
    tray.hidden = tray.childElementCount === 0;
    document.getElementById("main").focus();
  };
  const line = h(
    "div.run",
    null,
    h("p.run-name", null, h("span.strong", null, label), id && [" ", h("span.mono.muted", null, id)]),
    status,
    way,
    h("button.button.quiet", { type: "button", "aria-label": `Put away: ${label}`, onclick: away }, "Put away"),
  );
  tray.append(line);
  tray.hidden = false;
}

async function look(run, status, leaving) {
  let now;
  try {
    now = await progress(run, leaving.signal);
  } catch (error) {
    replace(status, h("span.muted", null, `How it goes cannot be told: ${error.message}`));
    return TROUBLED_SECONDS;
  }
  replace(status, state(now.state), now.said && h("span.muted", null, now.said), now.bar);
  if (!ENDED.includes(now.state)) return undefined;
  leaving.abort();
  if (run.ended) return undefined;
  keep(kept().map((one) => (one.run_id === run.run_id ? { ...one, ended: true } : one)));
  announce(`${run.label}: ${now.state === "success" ? "done" : "failed"}.`);
  dispatchEvent(new Event(CHANGED));
  return undefined;
}

/** {state, said, bar} of a run, by this API for the weekly DAG, by Airflow's for the others. */
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
  const said = `${done} of ${plural(tasks.length, "task")} done${at ? `, ${words(at.task_id)} ${at.state}` : ""}`;
  return { state: now.state, said };
}

function training(run) {
  const { progress: step, task, verdict, version } = run;
  if (task === "train" && step) {
    const said = `step ${step.step} of ${step.of}, ${duration(step.eta_seconds)} left`;
    return { state: run.state, said, bar: h("progress", { value: step.step, max: step.of, "aria-label": "Steps" }) };
  }
  if (awaited(run)) return { state: run.state, said: waiting(run) };
  const ended = [version && `published ${version}`, verdict].filter(Boolean).join(": ");
  return { state: run.state, said: task && run.state === "running" ? words(task) : ended };
}

function kept() {
  return JSON.parse(sessionStorage.getItem(KEPT) ?? "[]");
}

function keep(runs) {
  sessionStorage.setItem(KEPT, JSON.stringify(runs));
}
