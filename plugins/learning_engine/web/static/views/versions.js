/** Versions, newest first, with lineage, gate verdict and key figures. */

import { get } from "../api.js";
import { statusBadges, verdict } from "../badges.js";
import { timestamp } from "../timestamps.js";
import { announce, uniqueId, h } from "../dom.js";
import { count, days, nats, percent, plural, humanize } from "../format.js";
import { graph } from "../lineage_graph.js";
import { pageOutOfRange, pager } from "../pager.js";
import { link, rewrite } from "../router.js";
import { emptyState, loadInto } from "../async_content.js";
import { table } from "../table.js";

const LIMIT = 20;
const GATE = [
  ["", "All"],
  ["true", "Accepted"],
  ["false", "Rejected"],
];
const REVOKED = [
  ["", "All"],
  ["false", "Not revoked"],
  ["true", "Revoked"],
];

export function versions({ query, signal }) {
  const filter = Object.fromEntries(
    ["accepted", "revoked", "base_model", "offset"].map((name) => [name, query.get(name) ?? ""]),
  );
  const list = h("div.stack");
  const load = () => get("adapters", { query: { ...filter, limit: LIMIT }, signal });
  const reload = loadInto(list, {
    load,
    render: (page) => listed(page, turn, filter.accepted || filter.revoked || filter.base_model),
    label: "Versions",
    signal,
  });
  async function change(wanted) {
    Object.assign(filter, { offset: "", ...wanted });
    rewrite("versions", filter);
    await reload(true);
    if (signal.aborted) return;
    announce(list.querySelector(".pager-position")?.textContent ?? "No matching versions");
  }
  const turn = (offset) => change({ offset: offset ? String(offset) : "" });
  return h(
    "div.view",
    null,
    h("div.headline", null, h("h1", null, "Versions")),
    h(
      "form.filter",
      { onsubmit: (event) => event.preventDefault() },
      choice("Gate", GATE, filter.accepted, (accepted) => change({ accepted })),
      choice("Revocation", REVOKED, filter.revoked, (revoked) => change({ revoked })),
      baseModel(filter.base_model, (base_model) => change({ base_model })),
    ),
    list,
  );
}

function choice(label, options, chosen, onchange) {
  const id = uniqueId("filter");
  const select = h(
    "select",
    { id, onchange: (event) => onchange(event.target.value) },
    options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)),
  );
  return h("div.field", null, h("label", { for: id }, label), select);
}

function baseModel(value, onchange) {
  const id = uniqueId("filter");
  const input = h("input", {
    id,
    type: "search",
    value,
    placeholder: "Any (exact name)",
    maxlength: 500,
    onchange: (event) => onchange(event.target.value.trim()),
  });
  return h("div.field.grow", null, h("label", { for: id }, "Base model"), input);
}

function listed(page, turn, filtered) {
  const unreadableNote =
    page.unreadable?.length > 0 &&
    h(
      "p.note.bad",
      { role: "alert" },
      `The metadata of ${page.unreadable.join(", ")} cannot be read: see the daily audit.`,
    );
  if (page.total === 0) return [unreadableNote, nothing(filtered)];
  if (page.items.length === 0) return [unreadableNote, pageOutOfRange(() => turn(0))];
  return [
    unreadableNote,
    h("div.panel.flush", null, listOf(page.items, graph(page.items))),
    pager(page, turn, plural(page.total, "version")),
  ];
}

function nothing(filtered) {
  return filtered
    ? emptyState("No matching versions", "No version matches the filter.")
    : emptyState(
        "Nothing has been published yet",
        "The weekly DAG publishes the first version once there is enough feedback.",
      );
}

function listOf(items, { lanes, drawings }) {
  return table(
    "Versions, newest first",
    [
      { title: "", name: "Lineage", cell: ({ version }) => drawings.get(version) },
      { title: "Version", cell: name, head: true },
      { title: "Window", span: true, cell: ({ window }) => h("span.nowrap", null, days(window)) },
      {
        title: "Gate",
        cell: (item) => [
          verdict(item),
          item.failed_rules.length > 0 && h("span.muted.block", null, item.failed_rules.map(humanize).join(", ")),
        ],
      },
      { title: "Loss", cell: losses, number: true },
      { title: "Retained", cell: ({ retained }) => percent(retained), number: true },
      { title: "Drift", cell: ({ drift_parent: drift }) => nats(drift), number: true },
      {
        title: "Rows",
        cell: (item) =>
          h("span", { title: `${count(item.thumbs_up)} up, ${count(item.thumbs_down)} down` }, count(item.rows)),
        number: true,
      },
      { title: "Published", span: true, cell: ({ created_at: at }) => h("span.nowrap.muted", null, timestamp(at)) },
    ],
    items,
    ({ revoked }) => ({ class: revoked ? "is-revoked" : null, "--lanes": String(lanes) }),
  );
}

function name(item) {
  return [
    h("span.name", null, link(`versions/${item.version}`, item.version), statusBadges(item)),
    h("span.muted.block", null, item.parent ? `continues ${item.parent}` : "continues the base model"),
  ];
}

function losses({ loss, loss_parent: parent, loss_base: base }) {
  if (loss === null) return nats(null);
  return h("span.pair.nowrap", null, h("span.muted", null, `${nats(parent ?? base)} → `), nats(loss));
}
