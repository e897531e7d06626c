/** Who is signed in, and what they may start. Asked once; the server decides anew at each act. */

import { get } from "./api.js";
import { fresh, h } from "./dom.js";

const DAGS = { train: "the weekly DAG", fisher: "the Fisher DAG", deploy: "the deploy DAG" };
let asked = null;

export function me() {
  asked ??= get("me").catch((error) => {
    asked = null;
    throw error;
  });
  return asked;
}

/**
 * A row of buttons: `wanted` are {label, right, onclick, main, not}, or elements that need no right. `not` is why it makes no sense now; a button whose
 * right is missing says so below, and so to screen readers.
 */
export function acts(...wanted) {
  const row = wanted.map((act) => (act instanceof Element ? { element: act } : { ...act, element: button(act) }));
  const buttons = row.filter(({ right }) => right);
  const reasons = h("div.reasons");
  const bar = h(
    "div.acts",
    null,
    h(
      "div.buttons",
      null,
      row.map(({ element }) => element),
    ),
    reasons,
  );
  me().then(
    ({ may }) =>
      settle(buttons, reasons, ({ right }) =>
        may[right]
          ? null
          : `Expected the right to start runs of ${DAGS[right]}, found none: ask an Airflow admin for it.`,
      ),
    (error) =>
      settle(
        buttons,
        reasons,
        () => `What you may do could not be read: ${error.message} Reload the page to ask again.`,
      ),
  );
  return bar;
}

function button({ label, main, onclick }) {
  return h(`button.button${main ? ".main" : ""}`, { type: "button", disabled: true, onclick }, label);
}

/** Each button gets its own reason as its description; one that several have stands there once. */
function settle(buttons, reasons, missing) {
  const ids = new Map();
  for (const button of buttons) {
    const reason = missing(button) ?? button.not;
    button.element.disabled = Boolean(reason);
    if (!reason) continue;
    if (!ids.has(reason)) ids.set(reason, fresh("reason"));
    button.element.setAttribute("aria-describedby", ids.get(reason));
  }
  reasons.replaceChildren(...[...ids].map(([reason, id]) => h("p.muted", { id }, reason)));
}
