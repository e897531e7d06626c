/** The page: its tabs, and the view that the address names. Each view is left before the next one is opened. */

import * as clock from "./clock.js";
import { announce, h, replace } from "./dom.js";
import { me } from "./rights.js";
import { link, start } from "./router.js";
import { resume } from "./runs.js";
import { failure } from "./states.js";
import { ledger } from "./views/ledger.js";
import { overview } from "./views/overview.js";
import { preflightView } from "./views/preflight.js";
import { train } from "./views/train.js";
import { version } from "./views/version.js";
import { versions } from "./views/versions.js";

const TITLE = "Learning Engine";
const TABS = [
  ["", "Overview"],
  ["versions", "Versions"],
  ["ledger", "Ledger"],
  ["preflight", "Preflight"],
];
// `versions` opens the list, or with a second part in the address one version.
const VIEWS = {
  "": overview,
  versions: (context) => (context.part ? version(context) : versions(context)),
  ledger,
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
    : h("div.view", null, h("h1", null, "There is no such view"), h("p", null, "Choose one above."));
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

/** One note in the place of one for each part of the view. Other errors are the parts' own to tell. */
function signedOut(error) {
  if (error.status !== 401) return;
  leaving.abort();
  replace(main, h("div.view", null, h("h1.unseen", null, TITLE), failure(error)));
}

clock.start();
document.getElementById("skip").addEventListener("click", () => main.focus());
start(VIEWS, show);
me().then(signedIn, signedOut);
resume();
