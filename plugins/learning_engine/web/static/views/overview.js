/** Overview: what is live, what it learned and kept, how the parts are, and what is being trained. */

import { get } from "../api.js";
import { standing, verdict } from "../badges.js";
import { ago, moment } from "../clock.js";
import { h, steady } from "../dom.js";
import { days, modelName } from "../format.js";
import { healthLine } from "../health.js";
import { bar } from "../kept.js";
import { acts } from "../rights.js";
import { askRollback } from "../rollback.js";
import { go, link } from "../router.js";
import { recentRuns } from "../recent.js";
import { empty, fill } from "../states.js";
import { tiles } from "../tiles.js";
import { trainingPanel } from "../training.js";

const LIVE_SECONDS = 30;
const BUSY_SECONDS = 3;
const QUIET_SECONDS = 15;

export function overview({ signal }) {
  const asked = h("div"),
    live = h("div.stack"),
    health = h("div"),
    training = h("div.stack");
  const line = healthLine();
  fill(live, {
    load: () => liveVersion(signal),
    render: (found) => livePanel(found, asked),
    every: LIVE_SECONDS,
    label: "The live version",
    signal,
  });
  fill(health, {
    load: () => get("health", { signal, accepted: [503] }),
    render: line.update,
    every: LIVE_SECONDS,
    label: "Health",
    signal,
  });
  fill(training, {
    load: () => get("training/status", { query: { recent: 5 }, signal }),
    render: trainings(signal),
    label: "Trainings",
    signal,
    every: ({ current }) => (current.length ? BUSY_SECONDS : QUIET_SECONDS),
  });
  return h("div.view", null, h("h1.unseen", null, "Overview"), asked, live, health, training);
}

async function liveVersion(signal) {
  const live = await get("live", { signal });
  return { live, detail: live.version ? await get(`adapters/${live.version}`, { signal }) : null };
}

function livePanel({ live, detail }, asked) {
  const buttons = acts(
    { label: "Train…", right: "train", main: !detail, onclick: () => go("train") },
    {
      label: "Roll back…",
      right: "deploy",
      not: detail ? null : "There is nothing to roll back from.",
      onclick: () => askRollback(asked),
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
        h("p.badges", null, standing(summary), verdict(summary)),
        h(
          "p.muted",
          null,
          "Since ",
          moment(live.since),
          " (",
          ago(live.since),
          "). ",
          proof(live),
          ` It learned from ${days(summary.window)} and continues ${summary.parent ?? "the base model"}.`,
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
    keptWindows(metadata.report),
  );
}

function proof({ proven }) {
  return proven ? "Every replica has proven it." : "No probe proves it: the ledger says who let it go live.";
}

function nothingYet({ base_model: base }) {
  return empty(
    "No version has been deployed yet",
    `${modelName(base)} answers without an adapter. The weekly DAG trains the first one as soon as there is enough feedback.`,
    h("p", null, link("preflight", "See what the last week would give")),
  );
}

function keptWindows({ retained }) {
  const windows = Object.entries(retained);
  if (windows.length === 0) return null;
  return h(
    "div.kept-line",
    null,
    h("h2.label", null, "Kept of earlier windows"),
    h(
      "dl.kept-windows",
      null,
      windows
        .slice(-8)
        .map(([name, share]) =>
          h("div", null, h("dt", null, link(`versions/${name}`, name)), h("dd", null, bar(share))),
        ),
    ),
  );
}

/** A panel for each run under way, which lives as long as its run does, and the table of those that have ended. */
function trainings(signal) {
  const panels = new Map(),
    ended = steady(({ recent, busy }) => recentRuns(recent, busy));
  return ({ current, recent }) => {
    for (const [id, { leaving }] of [...panels]) {
      if (current.some(({ run_id: other }) => other === id)) continue;
      leaving.abort();
      panels.delete(id);
    }
    for (const run of current) {
      if (!panels.has(run.run_id)) panels.set(run.run_id, begun(signal));
      panels.get(run.run_id).panel.update(run);
    }
    return [...[...panels.values()].map(({ panel }) => panel), ended({ recent, busy: current.length > 0 })];
  };
}

function begun(signal) {
  const leaving = new AbortController();
  return { leaving, panel: trainingPanel(AbortSignal.any([signal, leaving.signal])) };
}
