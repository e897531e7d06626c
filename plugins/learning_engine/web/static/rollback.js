/** The rollback: where it goes and what it costs, said before it is agreed to. */

import { ask } from "./act.js";
import { get } from "./api.js";
import { empty } from "./states.js";

/** Asks in `place` whether to leave the version that is live now. */
export function askRollback(place) {
  return ask(place, "Where a rollback goes", async () => {
    const { items, rollback_target: target } = await get("deployments", { query: { limit: 1 } });
    const live = items[0]?.version;
    if (!target)
      return empty("There is nothing to roll back to", `No version that is not revoked was live before ${live}.`);
    const { lineage } = await get(`adapters/${target}`);
    return plan(live ?? null, target, lineage);
  });
}

function plan(live, target, lineage) {
  const leaves = live ?? "the base model";
  // A version that continues the one that is left has its lessons in it, and keeps it as a parent.
  const revoked = lineage.includes(live)
    ? `${live} is not revoked, since ${target} continues it.`
    : `${live} is revoked: no later week continues it or a version that does, and it never goes live by itself again. This cannot be taken back.`;
  return {
    title: `Roll back from ${leaves} to ${target}`,
    verb: `Roll back to ${target}`,
    danger: true,
    label: `Roll back to ${target}`,
    path: "rollback",
    // The server refuses where another one went live meanwhile.
    body: { version: live },
    effects: [
      `Airflow starts a run of the deploy DAG, which makes every replica load ${target} and prove it.`,
      `Once all have, ${target} answers; until then ${leaves} does, and where a replica fails nothing changes.`,
      live && revoked,
    ].filter(Boolean),
  };
}
