/** Train: one run of the weekly DAG, over a window and with settings of its own; the preflight stands beside the form. */

import { confirm } from "../act.js";
import { get } from "../api.js";
import { fresh, h, replace } from "../dom.js";
import { windowOf } from "../format.js";
import { preflight } from "../preflight.js";
import { acts } from "../rights.js";
import { fill } from "../states.js";
import { windowField } from "../window.js";

const CONFIGURED = "as configured";
const DEPLOY = [
  ["", CONFIGURED],
  ["auto", "auto: what the gate accepts goes live"],
  ["approve", "approve: a person decides"],
  ["never", "never: publish only"],
];
const FORCE = [
  ["none", "nothing"],
  ["count", "count: train however few rows there are"],
  ["quality", "quality: deploy what the gate rejects, too"],
];
// The bounds are those of the API.
const OVERRIDES = [
  { name: "ewc_lambda", label: "EWC λ", hint: "How firmly earlier lessons are held; 0: no EWC", min: 0, max: 1e9 },
  { name: "epochs", label: "Epochs", hint: "Passes over the window's rows", min: 0, max: 1000 },
  { name: "learning_rate", label: "Learning rate", hint: "Peak learning rate of AdamW", min: 0, max: 1 },
  {
    name: "min_samples",
    label: "Minimum rows",
    hint: "Fewer than this: nothing is trained",
    min: 1,
    max: 1e8,
    step: 1,
  },
];

export function train({ query, signal }) {
  const asked = h("div"),
    found = h("div");
  const window = windowField({
    start: query.get("start"),
    end: query.get("end"),
    lastLabel: "The last complete interval",
    onchange: look,
  });
  // What is changed after it was asked about has to be asked about anew.
  const changed = () => replace(asked);
  const form = h(
    "form.form",
    { onsubmit: (event) => event.preventDefault(), oninput: changed },
    window,
    overrides(),
    button(),
  );
  function button() {
    return acts({
      label: "Start training…",
      right: "train",
      main: true,
      onclick: () => form.reportValidity() && confirm(asked, plan(window.value(), values(form))),
    });
  }
  const check = fill(found, {
    load: () => get("preflight", { query: window.value() ?? {}, signal }),
    label: "Reading the window's feedback",
    signal,
    render: (answer) => preflight(answer, { brief: true }),
  });
  function look() {
    if (window.value() !== undefined) check(true);
  }
  return h(
    "div.view",
    null,
    h("div.headline", null, h("h1", null, "Train")),
    h(
      "div.columns.wide",
      null,
      h("div.stack", null, h("section.panel", null, form), asked),
      h("section.panel", null, h("h2", null, "Preflight"), found),
    ),
  );
}

function overrides() {
  return h(
    "fieldset",
    null,
    h("legend", null, "Of this run alone"),
    h(
      "div.fields",
      null,
      choice("deploy", "Deploy", DEPLOY),
      choice("force", "Force", FORCE),
      OVERRIDES.map(({ name, label, hint, min, max, step }) =>
        field(name, label, hint, { type: "number", min, max, step: step ?? "any" }),
      ),
      field("base_model", "Base model", "Another one starts a new major version", { type: "text", maxlength: 500 }),
    ),
  );
}

function field(name, label, hint, attributes) {
  const id = fresh(name);
  return h(
    "div.field",
    null,
    h("label", { for: id }, label),
    h("input", { id, name, placeholder: CONFIGURED, "aria-describedby": `${id}-hint`, ...attributes }),
    h("p.muted.hint", { id: `${id}-hint` }, hint),
  );
}

function choice(name, label, options) {
  const id = fresh(name);
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

/** What was filled in, numbers as numbers. */
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
    title: "Start a training",
    verb: "Start training",
    label: "Training",
    weekly: true,
    path: "train",
    body: { ...settings, window },
    effects: [
      `Airflow starts a run of the weekly DAG over ${window ? windowOf(window) : "the last complete interval"}. It waits for active runs over earlier windows.`,
      changed.length > 0 ? `Of this run alone: ${changed.join(", ")}.` : "Every other setting is as configured.",
      force === "count" && "It trains however few rows there are.",
      live(deploy, force),
    ].filter(Boolean),
  };
}

function live(deploy, force) {
  const what = force === "quality" ? "Whatever it trains, even what the gate rejects," : "What the gate accepts";
  if (deploy === "never") return "The version is published and not deployed.";
  if (deploy === "approve") return `${what} waits for a person in Airflow, and goes live when they say yes.`;
  return `${what} goes live by itself${deploy === "auto" ? "" : ", unless the configuration says otherwise"}.`;
}
