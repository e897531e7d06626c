/** The last runs of the weekly DAG that have ended. */

import { leave } from "./airflow.js";
import { state } from "./badges.js";
import { ago } from "./clock.js";
import { h } from "./dom.js";
import { days, duration } from "./format.js";
import { link } from "./router.js";
import { empty } from "./states.js";
import { table } from "./table.js";

export function recentRuns(runs, busy) {
  const body =
    runs.length === 0
      ? empty(busy ? "No run has ended yet" : "No run yet", "The weekly DAG has not learned from a window so far.")
      : table(
          "Recent runs",
          [
            { title: "Window", cell: (run) => (run.window ? days(run.window) : "–"), head: true },
            { title: "State", cell: (run) => state(run.state) },
            { title: "Version", cell: (run) => (run.version ? link(`versions/${run.version}`, run.version) : "–") },
            { title: "What came of it", span: true, cell: outcome },
            { title: "Started by", cell: (run) => run.triggered_by ?? run.run_type },
            { title: "Took", cell: (run) => duration(took(run)), number: true },
            { title: "Ended", cell: (run) => ago(run.ended_at) },
            { title: "Run", cell: (run) => leave(run.airflow, "Airflow") },
          ],
          runs,
        );
  return h("section.panel", null, h("h2", null, "Recent runs"), body);
}

/** Where it failed, or whether it was deployed and why. */
function outcome({ state: ended, tasks, verdict }) {
  const failed = tasks.find((task) => task.state === "failed");
  if (ended === "failed") return failed ? `failed in ${failed.task}, at try ${failed.tries}` : "failed";
  if (tasks.length === 0) return verdict ?? "–";
  const reached = Object.fromEntries(tasks.map((task) => [task.task, task.state === "success"]));
  if (reached.approve && !reached.verify) return "not deployed: a person rejected it";
  const became = reached.verify ? "deployed" : reached.publish ? "not deployed" : "learned nothing";
  return verdict ? `${became}: ${verdict}` : became;
}

function took({ started_at: start, ended_at: end }) {
  return start && end ? (new Date(end) - new Date(start)) / 1000 : null;
}
