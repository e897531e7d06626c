/** The confirmations of deploying a version and of recalculating its Fisher information, for `confirm`. */

/** For an AdapterDetail and the live version. */
export function deployConfirmation({ summary, revocation, metadata }, live) {
  const { version } = summary;
  const now = live.version ?? "the base model";
  return {
    title: `Deploy ${version} in place of ${now}`,
    verb: `Deploy ${version}`,
    danger: Boolean(revocation) || !summary.accepted,
    label: `Deploy ${version}`,
    path: `adapters/${version}/deploy`,
    effects: [
      `Airflow starts a run of the deploy DAG, which loads ${version} on every replica${metadata.report.probes ? " and verifies it with probes" : ""}.`,
      `${version} becomes live once every replica is ready. Until then ${now} stays live; if a replica fails, nothing changes.`,
      live.version && `${now} stays loaded, so that a rollback is quick.`,
      !metadata.report.probes &&
        `${version} has no probes that distinguish it from its parent, so nothing verifies that the replicas serve it.`,
      !summary.accepted &&
        !summary.vouched &&
        `The gate rejected it (${summary.failed_rules.join(", ")}). Deploying it records that you vouch for it, and later runs may continue it.`,
      revocation &&
        `It was revoked by ${revocation.by} (${revocation.reason}). It stays revoked: later runs do not continue it, and nothing is deployed automatically until another version is deployed manually.`,
    ].filter(Boolean),
  };
}

export function fisherConfirmation({ summary }) {
  const { version } = summary;
  return {
    title: `Recalculate the Fisher information of ${version}`,
    verb: `Recalculate ${version}`,
    label: `Fisher information of ${version}`,
    path: "fisher/calculate",
    body: { version },
    effects: [
      `Airflow starts a run of the Fisher DAG on a GPU worker, over ${version}'s own window.`,
      "The new measurement replaces the current one in the bucket.",
      `The next training that continues ${version} uses it; existing versions do not change.`,
    ],
  };
}
