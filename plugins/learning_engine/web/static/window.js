/** A window of feedback in a form: the last complete interval, or one from and to, in UTC. */

import { fresh, h } from "./dom.js";

/** What a datetime-local field takes: a year that is being typed is none yet. */
export const BOUNDS = { min: "2000-01-01T00:00", max: "8999-12-31T23:59" };

/** An element with `value()`: null for the last complete interval, {start, end} as ISO 8601, or undefined while one of both is missing or no time. */
export function windowField({ start = null, end = null, lastLabel, onchange }) {
  const name = fresh("window");
  const from = moment("From", start),
    to = moment("Until", end);
  const own = Boolean(start && end);
  const last = choice(name, lastLabel, !own),
    chosen = choice(name, "From … until", own);
  const times = h("div.times", null, from.element, to.element);
  const settle = () => {
    times.hidden = !chosen.input.checked;
    for (const { input } of [from, to]) input.required = chosen.input.checked;
  };
  const element = h(
    "fieldset.window",
    { onchange: () => (settle(), onchange?.()) },
    h("legend", null, "Window"),
    last.element,
    chosen.element,
    times,
    h("p.muted.hint", null, "Times are UTC; the first moment counts, the last one does not."),
  );
  element.value = () => {
    if (last.input.checked) return null;
    if (!from.input.checkValidity() || !to.input.checkValidity()) return undefined;
    return { start: iso(from.input.value), end: iso(to.input.value) };
  };
  settle();
  return element;
}

function moment(label, value) {
  const input = h("input", { type: "datetime-local", id: fresh("time"), value: value?.slice(0, 16), ...BOUNDS });
  return { input, element: h("div.field", null, h("label", { for: input.id }, label), input) };
}

function choice(name, label, checked) {
  const input = h("input", { type: "radio", name, checked });
  return { input, element: h("label.choice", null, input, " ", label) };
}

/** What a datetime-local field holds, as UTC. */
export function iso(value) {
  return new Date(`${value}Z`).toISOString();
}
