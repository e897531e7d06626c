/** Train: start a run of the weekly DAG over a window, with overrides. The preflight is shown next to the form. */

import { confirm } from "../confirmation.js";
import { get } from "../api.js";
import { uniqueId, h, replace } from "../dom.js";
import { windowOf } from "../format.js";
import { preflight } from "../preflight_summary.js";
import { actionButtons } from "../permissions.js";
import { loadInto } from "../async_content.js";
import { windowField } from "../window_field.js";

const CONFIGURED = "as configured";
const DEPLOY = [
  ["", CONFIGURED],
  ["auto", "auto: deploy what the gate accepts"],
  ["approve", "approve: a person decides"],
  ["never", "never: publish only"],
];
const FORCE = [
  ["none", "nothing"],
  ["count", "count: train with any number of rows"],
  ["quality", "quality: deploy even if the gate rejects"],
];
// The bounds match those of the API.
const OVERRIDES = [
  { name: "ewc_lambda", label: "EWC λ", hint: "Strength of the EWC penalty; 0 disables EWC", min: 0, max: 1e9 },
  { name: "epochs", label: "Epochs", hint: "Passes over the window's rows", min: 0, max: 1000 },
  { name: "learning_rate", label: "Learning rate", hint: "Peak learning rate of AdamW", min: 0, max: 1 },
  {
    name: "min_samples",
    label: "Minimum rows",
    hint: "With fewer rows, nothing is trained",
    min: 1,
    max: 1e8,
    step: 1,
  },
];

export function train({ query, signal }) {
  const confirmationPlace = h("div"),
    found = h("div");
  const window = windowField({
    start: query.get("start"),
    end: query.get("end"),
    lastLabel: "The last complete interval",
    onchange: runPreflight,
  });
  // A changed setting closes the confirmation, which must be opened again.
  const changed = () => replace(confirmationPlace);
  const form = h(
    "form.form",
    { onsubmit: (event) => event.preventDefault(), oninput: changed },
    window,
    overrides(),
    button(),
  );
  function button() {
    return actionButtons({
      label: "Start training…",
      permission: "train",
      main: true,
      onclick: () => form.reportValidity() && confirm(confirmationPlace, plan(window.value(), values(form))),
    });
  }
  const check = loadInto(found, {
    load: () => get("preflight", { query: window.value() ?? {}, signal }),
    label: "Reading the window's feedback",
    signal,
    render: (answer) => preflight(answer, { brief: true }),
  });
  function runPreflight() {
    if (window.value() !== undefined) check(true);
  }
  return h(
    "div.view",
    null,
    h("div.headline", null, h("h1", null, "Train")),
    h(
      "div.columns.wide",
      null,
      h("div.stack", null, h("section.panel", null, form), confirmationPlace),
      h("section.panel", null, h("h2", null, "Preflight"), found),
    ),
  );
}

function overrides() {
  return h(
    "fieldset",
    null,
    h("legend", null, "Overrides for this run"),
    h(
      "div.fields",
      null,
      choice("deploy", "Deploy", DEPLOY),
      choice("force", "Force", FORCE),
      OVERRIDES.map(({ name, label, hint, min, max, step }) =>
        field(name, label, hint, { type: "number", min, max, step: step ?? "any" }),
      ),
      field("base_model", "Base model", "A different one starts a new major version", { type: "text", maxlength: 500 }),
    ),
  );
}

function field(name, label, hint, attributes) {
  const id = uniqueId(name);
  return h(
    "div.field",
    null,
    h("label", { for: id }, label),
    h("input", { id, name, placeholder: CONFIGURED, "aria-describedby": `${id}-hint`, ...attributes }),
    h("p.muted.hint", { id: `${id}-hint` }, hint),
  );
}

function choice(name, label, options) {
  const id = uniqueId(name);
  return h(
    "div.field",
    null,
    h("label", { for: id }, label),
    h(
      "select",
      { id, name },
      options.map(([value, text]) => h("option", { value }, text)),
    ),
  );
}

/** The filled-in values, numbers as numbers. */
function values(form) {
  const given = [...new FormData(form)].filter(
    ([name, value]) => form.elements[name]?.closest?.(".fields") && value !== "",
  );
  const numbers = new Set(OVERRIDES.map(({ name }) => name));
  return Object.fromEntries(given.map(([name, value]) => [name, numbers.has(name) ? Number(value) : value]));
}

function plan(window, settings) {
  const { force, deploy, ...rest } = settings;
  const changed = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return {
    title: "Start training",
    verb: "Start training",
    label: "Training",
    weekly: true,
    path: "train",
    body: { ...settings, window },
    effects: [
      `Airflow starts a run of the weekly DAG over ${window ? windowOf(window) : "the last complete interval"}. It waits for active runs over earlier windows.`,
      changed.length > 0 ? `Overrides for this run: ${changed.join(", ")}.` : "All other settings are as configured.",
      force === "count" && "It trains with any number of rows.",
      deploymentEffect(deploy, force),
    ].filter(Boolean),
  };
}

function deploymentEffect(deploy, force) {
  const what = force === "quality" ? "The version, even if the gate rejects it," : "If the gate accepts it, the version";
  if (deploy === "never") return "The version is published but not deployed.";
  if (deploy === "approve") return `${what} waits for approval in Airflow before it is deployed.`;
  return `${what} is deployed automatically${deploy === "auto" ? "" : ", unless configured otherwise"}.`;
}
