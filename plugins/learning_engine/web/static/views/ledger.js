/** Ledger: what was live when, and what was live at one moment. */

import { get } from "../api.js";
import { moment } from "../clock.js";
import { announce, fresh, h, replace } from "../dom.js";
import { entries } from "../entries.js";
import { plural } from "../format.js";
import { beyond, pager } from "../pager.js";
import { link, rewrite } from "../router.js";
import { empty, failure, fill, problemOf } from "../states.js";
import { strip } from "../strip.js";
import { BOUNDS, iso } from "../window.js";

const LIMIT = 20;

export function ledger({ query, signal }) {
  let offset = Number(query.get("offset")) || 0;
  const list = h("div.stack");
  const reload = fill(list, {
    load: () => page(offset, signal),
    render: (found) => listed(found, turn),
    label: "The ledger",
    signal,
  });
  async function turn(target) {
    offset = target;
    rewrite("ledger", { offset: offset || null });
    await reload(true);
    if (signal.aborted) return;
    announce(list.querySelector(".pager-said")?.textContent ?? "");
  }
  return h("div.view", null, h("div.headline", null, h("h1", null, "Ledger")), question(signal), list);
}

/** A page of the ledger, and when its newest entry ended: the time of the one before it, which is asked for as well. */
async function page(offset, signal) {
  const before = Math.min(offset, 1);
  const found = await get("deployments", { query: { limit: LIMIT + before, offset: offset - before }, signal });
  const [newer, items] = [found.items.slice(0, before), found.items.slice(before)];
  const { total, unreadable } = found;
  return { total, limit: LIMIT, offset, items, next: newer[0]?.at ?? null, unreadable };
}

function listed(found, turn) {
  if (found.total === 0)
    return empty("Nothing has been deployed yet", "From the first deployment on, every decision stands here for good.");
  if (found.items.length === 0) return beyond(() => turn(0));
  const lost =
    found.unreadable?.length > 0 &&
    h("p.note.bad", { role: "alert" }, `Cannot be read: ${found.unreadable.join(", ")}. See the daily audit.`);
  return [
    lost,
    found.offset === 0 && strip(found.items),
    h("div.panel.flush", null, entries(found.items, found.next)),
    pager(found, turn, plural(found.total, "entry", "entries")),
  ];
}

function question(signal) {
  const id = fresh("at");
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
    "form.filter.question",
    { onsubmit: submit },
    h("div.field", null, h("label", { for: id }, "What was live at (UTC)"), input),
    h("button.button", { type: "submit" }, "Look it up"),
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
      moment(time),
      " ",
      version ? h("span.strong", null, link(`versions/${version}`, version)) : h("span.strong", null, "the base model"),
      " answered",
      deployment && [", since ", moment(deployment.at), ` (${deployment.action} by ${deployment.decided_by})`],
      ".",
    );
  } catch (error) {
    if (!signal.aborted) replace(answer, failure(problemOf(error)));
  }
}
