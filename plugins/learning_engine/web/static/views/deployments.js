/** Deployment history, and a lookup of the version live at a given time. */

import { get } from "../api.js";
import { timestamp } from "../timestamps.js";
import { announce, uniqueId, h, replace } from "../dom.js";
import { deploymentTable } from "../deployment_table.js";
import { plural } from "../format.js";
import { pageOutOfRange, pager } from "../pager.js";
import { link, rewrite } from "../router.js";
import { emptyState, errorNote, loadInto, toProblem } from "../async_content.js";
import { timeline } from "../timeline.js";
import { BOUNDS, iso } from "../window_field.js";

const LIMIT = 20;

export function deployments({ query, signal }) {
  let offset = Number(query.get("offset")) || 0;
  const list = h("div.stack");
  const reload = loadInto(list, {
    load: () => page(offset, signal),
    render: (found) => listed(found, turn),
    label: "The deployment history",
    signal,
  });
  async function turn(target) {
    offset = target;
    rewrite("ledger", { offset: offset || null });
    await reload(true);
    if (signal.aborted) return;
    announce(list.querySelector(".pager-position")?.textContent ?? "");
  }
  return h("div.view", null, h("div.headline", null, h("h1", null, "Deployment history")), lookupForm(signal), list);
}

/** A page of the ledger. Its newest entry ended when the next newer one began, so that one is requested as well. */
async function page(offset, signal) {
  const before = Math.min(offset, 1);
  const found = await get("deployments", { query: { limit: LIMIT + before, offset: offset - before }, signal });
  const [newer, items] = [found.items.slice(0, before), found.items.slice(before)];
  const { total, unreadable } = found;
  return { total, limit: LIMIT, offset, items, next: newer[0]?.at ?? null, unreadable };
}

function listed(found, turn) {
  if (found.total === 0)
    return emptyState("Nothing has been deployed yet", "Every deployment will be listed here permanently.");
  if (found.items.length === 0) return pageOutOfRange(() => turn(0));
  const unreadableNote =
    found.unreadable?.length > 0 &&
    h("p.note.bad", { role: "alert" }, `Cannot be read: ${found.unreadable.join(", ")}. See the daily audit.`);
  return [
    unreadableNote,
    found.offset === 0 && timeline(found.items),
    h("div.panel.flush", null, deploymentTable(found.items, found.next)),
    pager(found, turn, plural(found.total, "entry", "entries")),
  ];
}

function lookupForm(signal) {
  const id = uniqueId("at");
  const answer = h("output", { for: id });
  const input = h("input", { id, type: "datetime-local", required: true, step: 1, ...BOUNDS });
  let asking = new AbortController();
  const submit = (event) => {
    event.preventDefault();
    asking.abort();
    asking = new AbortController();
    ask(input, answer, AbortSignal.any([signal, asking.signal]));
  };
  const form = h(
    "form.filter.lookup",
    { onsubmit: submit },
    h("div.field", null, h("label", { for: id }, "Live at (UTC)"), input),
    h("button.button", { type: "submit" }, "Look up"),
    answer,
  );
  return form;
}

async function ask(input, answer, signal) {
  try {
    const { time, version, deployment } = await get("deployments/at", { query: { time: iso(input.value) }, signal });
    replace(
      answer,
      "At ",
      timestamp(time),
      " ",
      version ? h("span.strong", null, link(`versions/${version}`, version)) : h("span.strong", null, "the base model"),
      " was live",
      deployment && [", since ", timestamp(deployment.at), ` (${deployment.action} by ${deployment.decided_by})`],
      ".",
    );
  } catch (error) {
    if (!signal.aborted) replace(answer, errorNote(toProblem(error)));
  }
}
