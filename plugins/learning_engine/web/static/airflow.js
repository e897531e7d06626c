/** The way from here into Airflow's own pages. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

/** A link that leaves this page for one of Airflow's. */
export function leave(href, text) {
  return h("a.leave", { href, target: "_top", onclick }, text, icon("out"));
}

/** The frame's sandbox may not lead the whole tab elsewhere; Airflow's own document, of the same origin, may. */
function onclick(event) {
  if (parent === window) return;
  event.preventDefault();
  const outer = parent.document.createElement("a");
  outer.href = event.currentTarget.href;
  parent.document.body.append(outer);
  outer.click();
  outer.remove();
}
