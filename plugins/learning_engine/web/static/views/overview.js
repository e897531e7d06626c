/** Overview: the live version, the health of the components, and training in progress. */

import { get } from "../api.js";
import { statusBadges, verdict } from "../badges.js";
import { relativeTime, timestamp } from "../timestamps.js";
import { h, memoize } from "../dom.js";
import { days, modelName } from "../format.js";
import { healthPanel } from "../health_panel.js";
import { retainedShares, shareBar } from "../retention.js";
import { actionButtons } from "../permissions.js";
import { askRollback } from "../rollback.js";
import { go, link } from "../router.js";
import { recentRuns } from "../recent_runs.js";
import { emptyState, loadInto } from "../async_content.js";
import { tiles } from "../tiles.js";
import { trainingPanel } from "../training_panel.js";

const LIVE_SECONDS = 30;
const BUSY_SECONDS = 3;
const QUIET_SECONDS = 15;

export function overview({ signal }) {
  const confirmationPlace = h("div"),
    live = h("div.stack"),
    health = h("div"),
    training = h("div.stack");
  const panel = healthPanel();
  loadInto(live, {
    load: () => liveVersion(signal),
    render: (found) => livePanel(found, confirmationPlace),
    every: LIVE_SECONDS,
    label: "The live version",
    signal,
  });
  loadInto(health, {
    load: () => get("health", { signal, accepted: [503] }),
    render: panel.update,
    every: LIVE_SECONDS,
    label: "Health",
    signal,
  });
  loadInto(training, {
    load: () => get("training/status", { query: { recent: 5 }, signal }),
    render: trainings(signal),
    label: "Trainings",
    signal,
    every: ({ current }) => (current.length ? BUSY_SECONDS : QUIET_SECONDS),
  });
  return h("div.view", null, h("h1.visually-hidden", null, "Overview"), confirmationPlace, live, health, training);
}

async function liveVersion(signal) {
  const live = await get("live", { signal });
  return { live, detail: live.version ? await get(`adapters/${live.version}`, { signal }) : null };
}

function livePanel({ live, detail }, confirmationPlace) {
  const buttons = actionButtons(
    { label: "Train…", permission: "train", main: !detail, onclick: () => go("train") },
    {
      label: "Roll back…",
      permission: "deploy",
      unavailable: detail ? null : "No version is deployed.",
      onclick: () => askRollback(confirmationPlace),
    },
  );
  if (!detail)
    return h(
      "section.stack",
      null,
      h("div.headline", null, h("h2.title", null, "The base model is live"), buttons),
      nothingYet(live),
    );
  const { summary, metadata } = detail;
  return h(
    "section.stack",
    null,
    h(
      "div.headline",
      null,
      h(
        "div",
        null,
        h("h2.title", null, link(`versions/${live.version}`, live.version), " is live"),
        h("p.badges", null, statusBadges(summary), verdict(summary)),
        h(
          "p.muted",
          null,
          "Since ",
          timestamp(live.since),
          " (",
          relativeTime(live.since),
          "). ",
          proof(live),
          ` Trained on ${days(summary.window)}, continuing ${summary.parent ?? "the base model"}.`,
        ),
        h(
          "p.muted",
          null,
          "Served as ",
          h("span.mono", null, live.model),
          " on ",
          h("span.mono", { title: live.base_model }, modelName(live.base_model)),
        ),
      ),
      buttons,
    ),
    tiles(summary),
    retainedWindows(metadata.report),
  );
}

function proof({ proven }) {
  return proven ? "Verified on every replica." : "Not verified by probes; the deployment history says who approved it.";
}

function nothingYet({ base_model: base }) {
  return emptyState(
    "No version has been deployed yet",
    `${modelName(base)} is served without an adapter. The weekly DAG trains the first version once there is enough feedback.`,
    h("p", null, link("preflight", "Check last week's feedback")),
  );
}

function retainedWindows(report) {
  const windows = Object.entries(retainedShares(report));
  if (windows.length === 0) return null;
  return h(
    "div.retained-line",
    null,
    h("h2.label", null, "Retained of earlier windows"),
    h(
      "dl.retained-windows",
      null,
      windows
        .slice(-8)
        .map(([name, share]) =>
          h("div", null, h("dt", null, link(`versions/${name}`, name)), h("dd", null, shareBar(share))),
        ),
    ),
  );
}

/** A panel for each active run, kept as long as the run is active, and the table of ended runs. */
function trainings(signal) {
  const panels = new Map(),
    ended = memoize(({ recent, busy }) => recentRuns(recent, busy));
  return ({ current, recent }) => {
    for (const [id, { leaving }] of [...panels]) {
      if (current.some(({ run_id: other }) => other === id)) continue;
      leaving.abort();
      panels.delete(id);
    }
    for (const run of current) {
      if (!panels.has(run.run_id)) panels.set(run.run_id, startPanel(signal));
      panels.get(run.run_id).panel.update(run);
    }
    return [...[...panels.values()].map(({ panel }) => panel), ended({ recent, busy: current.length > 0 })];
  };
}

function startPanel(signal) {
  const leaving = new AbortController();
  return { leaving, panel: trainingPanel(AbortSignal.any([signal, leaving.signal])) };
}
