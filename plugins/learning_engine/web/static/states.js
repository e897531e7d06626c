/** What stands in a place until the answer is there, when there is none, and when there is nothing. */

import { AIRFLOW, Problem } from "./api.js";
import { h, replace, steady } from "./dom.js";
import { icon } from "./icons.js";
import { poll } from "./poll.js";
import { CHANGED } from "./runs.js";
import { leave } from "./airflow.js";

/**
 * Fills `place` with `render(await load())` and returns a function that does so anew. Until the first answer it says
 * that it loads. An error after an answer leaves that answer where it is, and says that it is old. It asks anew when a
 * run that was started here has ended.
 * With `every`, seconds or a function from the answer to seconds, it goes on by itself. The function returned takes
 * `true` where something else is asked for than before, so that the answer before it must go.
 */
export function fill(place, { load, render, every, label = "Loading", signal }) {
  const rendered = steady(render),
    failed = steady((error) => failure(error, () => once(), `${label} could not be read`)),
    old = steady(stale);
  let asked = 0,
    shown = null;
  /** Whoever had the focus in what goes has it at the place itself, and not at the top of the page. */
  function put(...nodes) {
    const focused = place.contains(document.activeElement);
    replace(place, nodes);
    if (!focused || place.contains(document.activeElement)) return;
    place.tabIndex = -1;
    place.focus({ preventScroll: true });
  }
  async function once(anew = false) {
    const mine = (asked += 1);
    if (anew) shown = null;
    place.setAttribute("aria-busy", "true");
    if (anew || !place.hasChildNodes()) put(loading(label));
    try {
      const answer = await load();
      if (signal.aborted || mine !== asked) return undefined;
      shown = rendered(answer);
      put(shown);
      return typeof every === "function" ? every(answer) : every;
    } catch (error) {
      if (signal.aborted || mine !== asked) return undefined;
      const problem = problemOf(error);
      if (shown === null) put(failed(problem));
      else put(old(problem), shown);
      return undefined;
    } finally {
      if (mine === asked) place.removeAttribute("aria-busy");
    }
  }
  addEventListener(CHANGED, () => once(), { signal });
  if (every) poll(() => once(), typeof every === "function" ? 15 : every, signal);
  else once();
  return once;
}

/** What went wrong, as the server tells it; an error of this page itself goes to the console as well. */
export function problemOf(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ status: 0, title: "This page failed", detail: error.message });
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

/** Of a Problem. `title` says what it was that failed; without one the problem's own does. */
export function failure({ status, title: own, detail }, retry, title) {
  return h(
    "div.note.bad",
    { role: "alert" },
    icon("warn"),
    h(
      "div",
      null,
      h("p.strong", null, title ?? own),
      h("p", null, detail),
      status === 401 && h("p", null, signIn()),
      retry && h("button.button", { type: "button", onclick: retry }, "Try again"),
    ),
  );
}

function stale({ status, detail }) {
  const said = h("span", null, `What stands here may be old: ${detail}`, status === 401 && [" ", signIn()]);
  return h("p.note.warn", { role: "status" }, icon("warn"), said);
}

function signIn() {
  return leave(AIRFLOW.href, "Sign in to Airflow");
}
