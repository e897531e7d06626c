/** The page: its tabs, and the view that the address selects. The previous view is aborted before the next one opens. */

import * as clock from "./timestamps.js";
import { announce, h, replace } from "./dom.js";
import { me } from "./permissions.js";
import { link, start } from "./router.js";
import { resume } from "./started_runs.js";
import { errorNote } from "./async_content.js";
import { deployments } from "./views/deployments.js";
import { overview } from "./views/overview.js";
import { preflightView } from "./views/preflight.js";
import { train } from "./views/train.js";
import { version } from "./views/version.js";
import { versions } from "./views/versions.js";

const TITLE = "Learning Engine";
const TABS = [
  ["", "Overview"],
  ["versions", "Versions"],
  ["ledger", "Deployments"],
  ["preflight", "Preflight"],
];
// `versions` opens the list, or one version if the address has a second part.
const VIEWS = {
  "": overview,
  versions: (context) => (context.part ? version(context) : versions(context)),
  ledger: deployments,
  preflight: preflightView,
  train,
};

const main = document.getElementById("main");
let leaving = new AbortController();

function show(view, { name, part, query }, first) {
  leaving.abort();
  leaving = new AbortController();
  const element = view
    ? view({ part, query, signal: leaving.signal })
    : h("div.view", null, h("h1", null, "Page not found"), h("p", null, "Choose a page above."));
  replace(main, element);
  mark(view ? name : null);
  document.title = `${element.querySelector("h1").textContent} · ${TITLE}`;
  if (first) return;
  main.focus();
  scrollTo(0, 0);
  announce(document.title);
}

function mark(name) {
  const here = name === "train" ? "" : name;
  const tabs = TABS.map(([path, title]) => {
    const tab = link(path, title);
    if (path === here) tab.setAttribute("aria-current", "page");
    return tab;
  });
  replace(document.getElementById("tabs"), tabs);
}

function signedIn({ name }) {
  replace(document.getElementById("who"), "Signed in as ", h("span.strong", null, name));
}

/** One note for the whole page if the user is not signed in. The parts of a view show other errors themselves. */
function signedOut(error) {
  if (error.status !== 401) return;
  leaving.abort();
  replace(main, h("div.view", null, h("h1.visually-hidden", null, TITLE), errorNote(error)));
}

clock.start();
document.getElementById("skip").addEventListener("click", () => main.focus());
start(VIEWS, show);
me().then(signedIn, signedOut);
resume();
