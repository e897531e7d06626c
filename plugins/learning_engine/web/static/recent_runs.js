/** The latest ended runs of the weekly DAG. */

import { airflowLink } from "./airflow_link.js";
import { state } from "./badges.js";
import { relativeTime } from "./timestamps.js";
import { h } from "./dom.js";
import { days, duration } from "./format.js";
import { link } from "./router.js";
import { emptyState } from "./async_content.js";
import { table } from "./table.js";

export function recentRuns(runs, busy) {
  const body =
    runs.length === 0
      ? emptyState(busy ? "No run has ended yet" : "No runs yet", "The weekly DAG has not completed a run yet.")
      : table(
          "Recent runs",
          [
            { title: "Window", cell: (run) => (run.window ? days(run.window) : "–"), head: true },
            { title: "State", cell: (run) => state(run.state) },
            { title: "Version", cell: (run) => (run.version ? link(`versions/${run.version}`, run.version) : "–") },
            { title: "Outcome", span: true, cell: outcome },
            { title: "Started by", cell: (run) => run.triggered_by ?? run.run_type },
            { title: "Duration", cell: (run) => duration(took(run)), number: true },
            { title: "Ended", cell: (run) => relativeTime(run.ended_at) },
            { title: "Run", cell: (run) => airflowLink(run.airflow, "Airflow") },
          ],
          runs,
        );
  return h("section.panel", null, h("h2", null, "Recent runs"), body);
}

/** Where the run failed, or whether it deployed and why. */
function outcome({ state: ended, tasks, verdict }) {
  const failed = tasks.find((task) => task.state === "failed");
  if (ended === "failed") return failed ? `failed in ${failed.task}, attempt ${failed.tries}` : "failed";
  if (tasks.length === 0) return verdict ?? "–";
  const reached = Object.fromEntries(tasks.map((task) => [task.task, task.state === "success"]));
  if (reached.approve && !reached.verify) return "not deployed: rejected by a person";
  const became = reached.verify ? "deployed" : reached.publish ? "not deployed" : "not trained";
  return verdict ? `${became}: ${verdict}` : became;
}

function took({ started_at: start, ended_at: end }) {
  return start && end ? (new Date(end) - new Date(start)) / 1000 : null;
}
