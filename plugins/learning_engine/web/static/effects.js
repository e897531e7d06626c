/** What deploying a version, or measuring it, will do: the sentences of the confirmation, for `act.confirm`. */

/** Of an AdapterDetail, and what is live now. */
export function ofDeployment({ summary, revocation, metadata }, live) {
  const { version } = summary;
  const now = live.version ?? "the base model";
  return {
    title: `Deploy ${version} in the place of ${now}`,
    verb: `Deploy ${version}`,
    danger: Boolean(revocation) || !summary.accepted,
    label: `Deploy ${version}`,
    path: `adapters/${version}/deploy`,
    effects: [
      `Airflow starts a run of the deploy DAG, which makes every replica load ${version}${metadata.report.probes ? " and prove it" : ""}.`,
      `Once all have, ${version} answers; until then ${now} does, and where a replica fails nothing changes.`,
      live.version && `${now} stays loaded, so that a rollback is quick.`,
      !metadata.report.probes &&
        `No probe tells ${version} from its parent: nothing proves that the replicas answer with it.`,
      !summary.accepted &&
        !summary.vouched &&
        `The gate rejected it (${summary.failed_rules.join(", ")}). Deploying it vouches for it in your name, and later weeks may continue it.`,
      revocation &&
        `It was revoked by ${revocation.by} (${revocation.reason}). It stays revoked: no later week continues it, and none goes live by itself until another version is deployed by hand.`,
    ].filter(Boolean),
  };
}

export function ofFisher({ summary }) {
  const { version } = summary;
  return {
    title: `Measure the Fisher information of ${version} anew`,
    verb: `Measure ${version}`,
    label: `Fisher information of ${version}`,
    path: "fisher/calculate",
    body: { version },
    effects: [
      `Airflow starts a run of the Fisher DAG on a GPU worker, over ${version}'s own window.`,
      "The new measurement takes the place of the one in the bucket.",
      `The next training that continues ${version} is guarded by it; versions that exist do not change.`,
    ],
  };
}
