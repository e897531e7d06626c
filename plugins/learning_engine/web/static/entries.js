/** Entries of the ledger as a table. */

import { badge } from "./badges.js";
import { moment } from "./clock.js";
import { h } from "./dom.js";
import { duration, plural } from "./format.js";
import { icon } from "./icons.js";
import { link } from "./router.js";
import { table } from "./table.js";

/** `deployments` newest first. With `next`, when the newest of them ended (null: it goes on), there are durations. */
export function entries(deployments, next) {
  if (deployments.length === 0) return h("p.muted", null, "It has never been live.");
  const ends = new Map(deployments.map((entry, place) => [entry, place === 0 ? next : deployments[place - 1].at]));
  return table(
    "Deployments, newest first",
    [
      {
        title: "Version",
        cell: ({ version }) => (version ? link(`versions/${version}`, version) : "base model"),
        head: true,
      },
      { title: "From", span: true, cell: ({ at }) => moment(at) },
      next !== undefined && {
        title: "Until",
        span: true,
        cell: (entry) => (ends.get(entry) ? moment(ends.get(entry)) : "now"),
      },
      next !== undefined && { title: "For", cell: (entry) => lasted(entry.at, ends.get(entry)), number: true },
      { title: "Action", cell: action },
      { title: "Decided by", cell: ({ decided_by: by }) => by },
      { title: "Proof", cell: proof },
      { title: "Run", span: true, cell: ({ run }) => h("span.mono.muted.run-id", null, run.run_id) },
    ].filter(Boolean),
    deployments,
  );
}

function action({ action: name, previous }) {
  return [
    name === "rollback" ? badge("warn", icon("dash"), "rollback") : "deploy",
    previous && h("span.muted.block", null, `from ${previous}`),
  ];
}

function proof({ proven, replicas }) {
  const slowest = Math.max(...replicas.map(({ load_seconds: seconds }) => seconds));
  const names = replicas.map(({ replica }) => replica).join(", ");
  return h(
    "span",
    { title: names },
    proven ? badge("good", icon("check"), plural(replicas.length, "replica")) : badge("warn", icon("warn"), "unproven"),
    replicas.length > 0 && h("span.muted.block", null, `loaded within ${duration(slowest)}`),
  );
}

function lasted(from, until) {
  return duration(((until ? new Date(until) : Date.now()) - new Date(from)) / 1000);
}
