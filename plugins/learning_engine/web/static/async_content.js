/** Loads content into an element, with loading, error and empty states. */

import { AIRFLOW, Problem } from "./api.js";
import { h, replace, memoize } from "./dom.js";
import { icon } from "./icons.js";
import { poll } from "./poll.js";
import { CHANGED } from "./started_runs.js";
import { airflowLink } from "./airflow_link.js";

/**
 * Fills `place` with `render(await load())` and returns a function that reloads it. Before the first answer it shows a
 * loading state. If a reload fails, the old content stays and is marked as outdated. It also reloads when a run that was
 * started on this page has ended.
 * With `every` (seconds, or a function from the answer to seconds) it polls. Call the returned function with `true` if
 * the query has changed, so that the old content is removed.
 */
export function loadInto(place, { load, render, every, label = "Loading", signal }) {
  const rendered = memoize(render),
    failed = memoize((error) => errorNote(error, () => reload(), `${label} could not be read`)),
    old = memoize(stale);
  let requests = 0,
    shown = null;
  /** If the focused element is replaced, move the focus to `place`, not to the top of the page. */
  function put(...nodes) {
    const focused = place.contains(document.activeElement);
    replace(place, nodes);
    if (!focused || place.contains(document.activeElement)) return;
    place.tabIndex = -1;
    place.focus({ preventScroll: true });
  }
  async function reload(queryChanged = false) {
    const mine = (requests += 1);
    if (queryChanged) shown = null;
    place.setAttribute("aria-busy", "true");
    if (queryChanged || !place.hasChildNodes()) put(loading(label));
    try {
      const answer = await load();
      if (signal.aborted || mine !== requests) return undefined;
      shown = rendered(answer);
      put(shown);
      return typeof every === "function" ? every(answer) : every;
    } catch (error) {
      if (signal.aborted || mine !== requests) return undefined;
      const problem = toProblem(error);
      if (shown === null) put(failed(problem));
      else put(old(problem), shown);
      return undefined;
    } finally {
      if (mine === requests) place.removeAttribute("aria-busy");
    }
  }
  addEventListener(CHANGED, () => reload(), { signal });
  if (every) poll(() => reload(), typeof every === "function" ? 15 : every, signal);
  else reload();
  return reload;
}

/** The server's Problem; an error of this page itself is also logged to the console. */
export function toProblem(error) {
  if (error instanceof Problem) return error;
  console.error(error);
  return new Problem({ status: 0, title: "An error occurred on this page", detail: error.message });
}

export function loading(label) {
  return h(
    "div.loading",
    { role: "status" },
    h("span.visually-hidden", null, `${label}…`),
    h("span.skeleton"),
    h("span.skeleton"),
    h("span.skeleton"),
  );
}

export function emptyState(title, text, ...more) {
  return h("div.empty", null, h("p.strong", null, title), text && h("p.muted", null, text), more);
}

/** A note for a Problem. `title` says what failed; default: the problem's own title. */
export function errorNote({ status, title: own, detail }, retry, title) {
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
  const text = h("span", null, `This may be out of date: ${detail}`, status === 401 && [" ", signIn()]);
  return h("p.note.warn", { role: "status" }, icon("warn"), text);
}

function signIn() {
  return airflowLink(AIRFLOW.href, "Sign in to Airflow");
}
