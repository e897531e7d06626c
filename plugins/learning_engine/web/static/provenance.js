/** The provenance of a version: lineage, children, window, run, and the digests of its objects. */

import { h } from "./dom.js";
import { windowOf } from "./format.js";
import { link } from "./router.js";
import { facts } from "./table.js";

// Maximum number of ancestors to name; the others are only counted.
const FEW = 6;

/** For an AdapterDetail. */
export function provenance({ metadata, lineage, children, digests }) {
  const { run, dataset } = metadata;
  return [
    facts([
      ["Lineage", chain(metadata.version, lineage)],
      ["Continued by", children.length ? listed(children) : "none yet"],
      ["Window", windowOf(metadata.window)],
      ["Run", h("span.mono", null, `${run.run_id} of ${run.dag_id}`)],
      ["Started by", run.triggered_by ?? run.run_type],
      ["Run key", h("span.mono", null, metadata.run_key)],
      dataset.passed_over.length > 0 && [
        "Skipped parents",
        `${dataset.passed_over.join(", ")}: archive could not be read`,
      ],
    ]),
    h(
      "details.quiet",
      null,
      h("summary", null, "Digests (sha256)"),
      h(
        "dl.digests",
        null,
        Object.entries(digests).map(([uri, sha256]) =>
          h("div", null, h("dt.mono", null, uri), h("dd.mono.muted", null, sha256)),
        ),
      ),
    ),
  ];
}

function chain(version, lineage) {
  const shown = lineage.slice(0, FEW);
  const more = lineage.length - shown.length;
  return h(
    "span",
    null,
    h("span.strong", null, version),
    shown.map((name) => [" ← ", link(`versions/${name}`, name)]),
    more > 0 && ` ← ${more} more`,
    " ← base model",
  );
}

function listed(names) {
  return names.map((name, place) => [place > 0 && ", ", link(`versions/${name}`, name)]);
}
