/** The confirmation of a rollback: its target and its effects. */

import { ask } from "./confirmation.js";
import { get } from "./api.js";
import { emptyState } from "./async_content.js";

/** Opens the confirmation of a rollback in `place`. */
export function askRollback(place) {
  return ask(place, "Rollback target", async () => {
    const { items, rollback_target: target } = await get("deployments", { query: { limit: 1 } });
    const live = items[0]?.version;
    if (!target)
      return emptyState("There is nothing to roll back to", `No unrevoked version was live before ${live}.`);
    const { lineage } = await get(`adapters/${target}`);
    return plan(live ?? null, target, lineage);
  });
}

function plan(live, target, lineage) {
  const current = live ?? "the base model";
  // If the target continues the current version, the current version is not revoked.
  const revoked = lineage.includes(live)
    ? `${live} is not revoked, since ${target} continues it.`
    : `${live} is revoked: later runs continue neither it nor its descendants, and it is never deployed automatically again. This cannot be undone.`;
  return {
    title: `Roll back from ${current} to ${target}`,
    verb: `Roll back to ${target}`,
    danger: true,
    label: `Roll back to ${target}`,
    path: "rollback",
    // The server rejects the request if another version became live meanwhile.
    body: { version: live },
    effects: [
      `Airflow starts a run of the deploy DAG, which loads ${target} on every replica and verifies it with probes.`,
      `${target} becomes live once every replica is ready. Until then ${current} stays live; if a replica fails, nothing changes.`,
      live && revoked,
    ].filter(Boolean),
  };
}
