/** The rollback: where it goes and what it costs, said before it is agreed to. */

import { confirm } from "./act.js";
import { get } from "./api.js";
import { h, replace } from "./dom.js";
import { empty, failure, loading, problemOf } from "./states.js";

/** Asks in `place` whether to leave `live`. */
export async function askRollback(place, live) {
  replace(place, h("div.panel", null, loading("Where a rollback goes")));
  try {
    const { rollback_target: target } = await get("deployments", { query: { limit: 1 } });
    if (!target) {
      replace(
        place,
        h(
          "div.panel",
          null,
          empty("There is nothing to roll back to", `No version that is not revoked was live before ${live}.`),
        ),
      );
      return;
    }
    const { lineage } = await get(`adapters/${target}`);
    confirm(place, plan(live, target, lineage));
  } catch (error) {
    replace(
      place,
      failure(problemOf(error), () => askRollback(place, live)),
    );
  }
}

function plan(live, target, lineage) {
  // A version that continues the one that is left has its lessons in it, and keeps it as a parent.
  const revoked = lineage.includes(live)
    ? `${live} is not revoked, since ${target} continues it.`
    : `${live} is revoked: no later week continues it or a version that does, and it never goes live by itself again. This cannot be taken back.`;
  return {
    title: `Roll back from ${live} to ${target}`,
    verb: `Roll back to ${target}`,
    danger: true,
    label: `Roll back to ${target}`,
    path: "rollback",
    effects: [
      `Airflow starts a run of the deploy DAG, which makes every replica load ${target} and prove it.`,
      `Once all have, ${target} answers; until then ${live} does, and where a replica fails nothing changes.`,
      revoked,
    ],
  };
}
