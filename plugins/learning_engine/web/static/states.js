/** What stands in a place until the answer is there, when there is none, and when there is nothing. */

import { Problem } from "./api.js";
import { h, replace } from "./dom.js";
import { icon } from "./icons.js";
import { poll } from "./poll.js";
import { leave } from "./airflow.js";

/**
 * Fills `place` with `render(await load())` and returns a function that does so anew. Until the first answer it says
 * that it loads. An error after an answer leaves that answer where it is, and says that it is old.
 * With `every`, seconds or a function from the answer to seconds, it goes on by itself. The function returned takes
 * `true` where something else is asked for than before, so that the answer before it must go.
 */
export function fill(place, { load, render, every, label = "Loading", signal }) {
  let asked = 0,
    shown = null,
    said = null;
  async function once(anew = false) {
    const mine = (asked += 1);
    if (anew) shown = said = null;
    place.setAttribute("aria-busy", "true");
    if (shown === null) replace(place, loading(label));
    try {
      const answer = await load();
      if (signal.aborted || mine !== asked) return undefined;
      const text = JSON.stringify(answer);
      if (text !== said) shown = render(answer);
      said = text;
      replace(place, shown);
      return typeof every === "function" ? every(answer) : every;
    } catch (error) {
      if (signal.aborted || mine !== asked) return undefined;
      if (!(error instanceof Problem)) console.error(error);
      replace(place, shown === null ? failure(error, () => once()) : [stale(error), shown]);
      return undefined;
    } finally {
      if (mine === asked) place.removeAttribute("aria-busy");
    }
  }
  if (every) poll(() => once(), typeof every === "function" ? 15 : every, signal);
  else once();
  return once;
}

export function loading(label) {
  return h(
    "div.loading",
    { role: "status" },
    h("span.unseen", null, `${label}…`),
    h("span.bone"),
    h("span.bone"),
    h("span.bone"),
  );
}

export function empty(title, text, ...more) {
  return h("div.empty", null, h("p.strong", null, title), text && h("p.muted", null, text), more);
}

export function failure(error, retry) {
  const known = error instanceof Problem;
  return h(
    "div.note.bad",
    { role: "alert" },
    icon("warn"),
    h(
      "div",
      null,
      h("p.strong", null, known ? error.title : "This page failed"),
      h("p", null, error.message),
      known &&
        error.errors.length > 0 &&
        h(
          "ul",
          null,
          error.errors.map(({ loc, msg }) => h("li", null, `${(loc ?? []).join(" › ")}: ${msg}`)),
        ),
      known && error.status === 401 && h("p", null, leave("/", "Sign in to Airflow")),
      retry && h("button.button", { type: "button", onclick: retry }, "Try again"),
    ),
  );
}

function stale(error) {
  return h(
    "p.note.warn",
    { role: "status" },
    icon("warn"),
    h("span", null, `What stands here may be old: ${error.message}`),
  );
}
