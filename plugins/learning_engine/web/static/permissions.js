/** The signed-in user and their permissions. Loaded once; the server checks every action again. */

import { get } from "./api.js";
import { uniqueId, h } from "./dom.js";

const DAGS = { train: "the weekly DAG", fisher: "the Fisher DAG", deploy: "the deploy DAG" };
let request = null;

export function me() {
  request ??= get("me").catch((error) => {
    request = null;
    throw error;
  });
  return request;
}

/**
 * A row of buttons: `actions` are {label, permission, onclick, main, unavailable}, or elements that need no permission.
 * `unavailable` is the reason why the action is not available. Each disabled button's reason is shown below the row and
 * is the button's accessible description.
 */
export function actionButtons(...actions) {
  const row = actions.map((action) => (action instanceof Element ? { element: action } : { ...action, element: button(action) }));
  const buttons = row.filter(({ permission }) => permission);
  const reasons = h("div.reasons");
  const bar = h(
    "div.actions",
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
      applyPermissions(buttons, reasons, ({ permission }) =>
        may[permission]
          ? null
          : `Expected permission to start runs of ${DAGS[permission]}, found none: ask an Airflow admin for it.`,
      ),
    (error) =>
      applyPermissions(
        buttons,
        reasons,
        () => `Your permissions could not be read: ${error.message} Reload the page to try again.`,
      ),
  );
  return bar;
}

function button({ label, main, onclick }) {
  return h(`button.button${main ? ".main" : ""}`, { type: "button", disabled: true, onclick }, label);
}

/** Enable or disable the buttons. Each disabled one is described by its reason; shared reasons are shown once. */
function applyPermissions(buttons, reasons, missing) {
  const ids = new Map();
  for (const button of buttons) {
    const reason = missing(button) ?? button.unavailable;
    button.element.disabled = Boolean(reason);
    if (!reason) continue;
    if (!ids.has(reason)) ids.set(reason, uniqueId("reason"));
    button.element.setAttribute("aria-describedby", ids.get(reason));
  }
  reasons.replaceChildren(...[...ids].map(([reason, id]) => h("p.muted", { id }, reason)));
}
