/** The confirmation panel of an action: lists the effects, sends the request, then follows the run. */

import { post } from "./api.js";
import { announce, uniqueId, h, replace } from "./dom.js";
import { follow, refused } from "./started_runs.js";
import { errorNote, loading, toProblem } from "./async_content.js";

const NOTE = 500;

/** Opens a confirmation in `place` for the action that `plan` returns. If `plan` returns an element, shows that instead. */
export async function ask(place, label, plan) {
  const waiting = h("div.panel", null, loading(label));
  replace(place, waiting);
  try {
    const found = await plan();
    if (!waiting.isConnected) return;
    if (found instanceof Element) {
      replace(place, h("div.panel", null, found));
      announce(found.textContent);
    } else confirm(place, found);
  } catch (error) {
    replace(
      place,
      errorNote(toProblem(error), () => ask(place, label, plan)),
    );
  }
}

/**
 * Opens a confirmation panel in `place` for {title, effects, verb, danger, path, body, label, weekly}. `effects` are
 * sentences that say what will happen. On confirmation, posts `body` and the note to `path`, and follows the run as `label`.
 */
export function confirm(place, action) {
  const previousFocus = document.activeElement;
  const ids = { title: uniqueId("title"), effects: uniqueId("effects"), note: uniqueId("note") };
  const errorPlace = h("div");
  const note = h("textarea", { id: ids.note, rows: 2, maxlength: NOTE });
  const submit = h(`button.button.main${action.danger ? ".danger" : ""}`, { type: "submit" }, action.verb);
  // Do nothing if another panel or view has already replaced this one.
  const close = () => {
    if (!panel.isConnected) return;
    panel.close();
    replace(place);
    (previousFocus?.isConnected ? previousFocus : document.getElementById("main")).focus();
  };
  // A request that has been sent cannot be cancelled.
  const cancel = () => submit.ariaDisabled || close();
  const form = h(
    "form",
    { onsubmit: (event) => send(event, action, { submit, note, errorPlace, close }) },
    h("h2", { id: ids.title, tabindex: -1 }, action.title),
    h(
      "ul.effects",
      { id: ids.effects },
      action.effects.map((effect) => h("li", null, effect)),
    ),
    h("label", { for: ids.note }, "Reason (optional; shown with the run in Airflow)"),
    note,
    errorPlace,
    h("div.buttons", null, submit, h("button.button", { type: "button", onclick: cancel }, "Cancel")),
  );
  const panel = h(
    "dialog.panel.confirm",
    {
      "aria-labelledby": ids.title,
      "aria-describedby": ids.effects,
      onkeydown: (event) => event.key === "Escape" && cancel(),
    },
    form,
  );
  replace(place, panel);
  // Not modal, so that the rest of the page stays readable.
  panel.show();
  panel.querySelector("h2").focus();
  panel.scrollIntoView({ block: "nearest" });
}

async function send(event, action, { submit, note, errorPlace, close }) {
  event.preventDefault();
  // aria-disabled instead of disabled, which would move the focus out of the panel.
  if (submit.ariaDisabled) return;
  submit.ariaDisabled = "true";
  replace(errorPlace);
  try {
    const accepted = await post(action.path, { ...action.body, note: note.value.trim() || null });
    close();
    follow(action.label, action.weekly ?? false, accepted);
  } catch (error) {
    const problem = toProblem(error);
    if (errorPlace.isConnected) replace(errorPlace, errorNote(problem));
    else refused(action.label, problem.message);
    submit.ariaDisabled = null;
  }
}
