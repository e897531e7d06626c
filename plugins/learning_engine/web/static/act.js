/** An act: what will happen, said in the page and agreed to there; then the run that does it. */

import { post } from "./api.js";
import { fresh, h, replace } from "./dom.js";
import { follow } from "./runs.js";
import { failure, problemOf } from "./states.js";

const NOTE = 500;

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
  const close = () => {
    panel.close();
    replace(place);
    (before?.isConnected ? before : document.getElementById("main")).focus();
  };
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
    h("div.buttons", null, yes, h("button.button", { type: "button", onclick: close }, "Cancel")),
  );
  const panel = h(
    "dialog.panel.confirm",
    {
      "aria-labelledby": ids.title,
      "aria-describedby": ids.effects,
      onkeydown: (event) => event.key === "Escape" && close(),
    },
    form,
  );
  replace(place, panel);
  // Not a modal one: Airflow's frame allows none.
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
    replace(trouble, failure(problemOf(error)));
    yes.ariaDisabled = null;
  }
}
