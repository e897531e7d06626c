/** A form field for a window of feedback: the last complete interval, or a start and an end in UTC. */

import { uniqueId, h } from "./dom.js";

/** The bounds of a datetime-local field. They exclude partially typed years. */
export const BOUNDS = { min: "2000-01-01T00:00", max: "8999-12-31T23:59" };

/** An element with `value()`: null for the last complete interval, {start, end} as ISO 8601, or undefined if invalid. */
export function windowField({ start = null, end = null, lastLabel, onchange }) {
  const name = uniqueId("window");
  const from = timeInput("From", start),
    to = timeInput("Until", end);
  const custom = Boolean(start && end);
  const last = choice(name, lastLabel, !custom),
    chosen = choice(name, "Custom window", custom);
  const times = h("div.times", null, from.element, to.element);
  const updateFields = () => {
    times.hidden = !chosen.input.checked;
    for (const { input } of [from, to]) input.required = chosen.input.checked;
  };
  const element = h(
    "fieldset.window",
    { onchange: () => (updateFields(), onchange?.()) },
    h("legend", null, "Window"),
    last.element,
    chosen.element,
    times,
    h("p.muted.hint", null, "Times are UTC. The start is inclusive, the end exclusive."),
  );
  element.value = () => {
    if (last.input.checked) return null;
    if (!from.input.checkValidity() || !to.input.checkValidity()) return undefined;
    return { start: iso(from.input.value), end: iso(to.input.value) };
  };
  updateFields();
  return element;
}

function timeInput(label, value) {
  const input = h("input", { type: "datetime-local", id: uniqueId("time"), value: value?.slice(0, 16), ...BOUNDS });
  return { input, element: h("div.field", null, h("label", { for: input.id }, label), input) };
}

function choice(name, label, checked) {
  const input = h("input", { type: "radio", name, checked });
  return { input, element: h("label.choice", null, input, " ", label) };
}

/** The value of a datetime-local field, as UTC. */
export function iso(value) {
  return new Date(`${value}Z`).toISOString();
}
