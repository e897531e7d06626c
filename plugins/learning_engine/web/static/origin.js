/** Where a version comes from and what came of it: lineage, window, run, and the digests of its objects. */

import { h } from "./dom.js";
import { windowOf } from "./format.js";
import { link } from "./router.js";
import { facts } from "./table.js";

// More ancestors than this are counted, not named.
const FEW = 6;

/** Of an AdapterDetail. */
export function origin({ metadata, lineage, children, digests }) {
  const { run, dataset } = metadata;
  return [
    facts([
      ["Lineage", chain(metadata.version, lineage)],
      ["Continued by", children.length ? listed(children) : "nothing yet"],
      ["Window", windowOf(metadata.window)],
      ["Run", h("span.mono", null, `${run.run_id} of ${run.dag_id}`)],
      ["Started by", run.triggered_by ?? run.run_type],
      ["Run key", h("span.mono", null, metadata.run_key)],
      dataset.passed_over.length > 0 && [
        "Passed over",
        `${dataset.passed_over.join(", ")}: their archives could not be read`,
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
