/** An act: what will happen, said in the page and agreed to there; then the run that does it. */

import { post } from "./api.js";
import { announce, fresh, h, replace } from "./dom.js";
import { follow, refused } from "./runs.js";
import { failure, loading, problemOf } from "./states.js";

const NOTE = 500;

/** Asks in `place` about the act that `plan` finds out, or shows the element that it gives where there is nothing to do. */
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
      failure(problemOf(error), () => ask(place, label, plan)),
    );
  }
}

/**
 * Opens a panel in `place`: {title, effects, verb, danger, path, body, label, weekly}. `effects` are what will happen,
 * one sentence each. Agreed, `body` and the note are posted to `path`, and the run is followed as `label`.
 */
export function confirm(place, act) {
  const before = document.activeElement;
  const ids = { title: fresh("title"), effects: fresh("effects"), note: fresh("note") };
  const trouble = h("div");
  const note = h("textarea", { id: ids.note, rows: 2, maxlength: NOTE });
  const yes = h(`button.button.main${act.danger ? ".danger" : ""}`, { type: "submit" }, act.verb);
  // A panel that another one or another view has taken the place of leaves theirs alone.
  const close = () => {
    if (!panel.isConnected) return;
    panel.close();
    replace(place);
    (before?.isConnected ? before : document.getElementById("main")).focus();
  };
  // What is being sent cannot be taken back.
  const cancel = () => yes.ariaDisabled || close();
  const form = h(
    "form",
    { onsubmit: (event) => send(event, act, { yes, note, trouble, close }) },
    h("h2", { id: ids.title, tabindex: -1 }, act.title),
    h(
      "ul.effects",
      { id: ids.effects },
      act.effects.map((effect) => h("li", null, effect)),
    ),
    h("label", { for: ids.note }, "Why (optional; shown with the run in Airflow)"),
    note,
    trouble,
    h("div.buttons", null, yes, h("button.button", { type: "button", onclick: cancel }, "Cancel")),
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
  // Not a modal one: what it is about can still be read.
  panel.show();
  panel.querySelector("h2").focus();
  panel.scrollIntoView({ block: "nearest" });
}

async function send(event, act, { yes, note, trouble, close }) {
  event.preventDefault();
  // Not disabled, which would take the focus out of the panel.
  if (yes.ariaDisabled) return;
  yes.ariaDisabled = "true";
  replace(trouble);
  try {
    const accepted = await post(act.path, { ...act.body, note: note.value.trim() || null });
    close();
    follow(act.label, act.weekly ?? false, accepted);
  } catch (error) {
    const problem = problemOf(error);
    if (trouble.isConnected) replace(trouble, failure(problem));
    else refused(act.label, problem.message);
    yes.ariaDisabled = null;
  }
}
