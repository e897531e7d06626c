/** Ledger entries as a table. */

import { badge } from "./badges.js";
import { timestamp } from "./timestamps.js";
import { h } from "./dom.js";
import { duration, plural } from "./format.js";
import { icon } from "./icons.js";
import { link } from "./router.js";
import { table } from "./table.js";

/** `deployments`: newest first. `next`: when the newest one ended (null: still live); if given, adds end and duration. */
export function deploymentTable(deployments, next) {
  if (deployments.length === 0) return h("p.muted", null, "It has never been deployed.");
  const ends = new Map(deployments.map((entry, place) => [entry, place === 0 ? next : deployments[place - 1].at]));
  return table(
    "Deployments, newest first",
    [
      {
        title: "Version",
        cell: ({ version }) => (version ? link(`versions/${version}`, version) : "base model"),
        head: true,
      },
      { title: "From", span: true, cell: ({ at }) => timestamp(at) },
      next !== undefined && {
        title: "Until",
        span: true,
        cell: (entry) => (ends.get(entry) ? timestamp(ends.get(entry)) : "now"),
      },
      next !== undefined && { title: "Duration", cell: (entry) => lasted(entry.at, ends.get(entry)), number: true },
      { title: "Action", cell: action },
      { title: "Decided by", cell: ({ decided_by: by }) => by },
      { title: "Verification", cell: proof },
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
    proven ? badge("good", icon("check"), plural(replicas.length, "replica")) : badge("warn", icon("warn"), "unverified"),
    replicas.length > 0 && h("span.muted.block", null, `loaded in ${duration(slowest)}`),
  );
}

function lasted(from, until) {
  return duration(((until ? new Date(until) : Date.now()) - new Date(from)) / 1000);
}
