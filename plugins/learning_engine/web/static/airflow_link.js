/** Links to Airflow's own pages. */

import { h } from "./dom.js";
import { icon } from "./icons.js";

/** A link that opens a page of Airflow in the whole tab. */
export function airflowLink(href, text) {
  return h("a.airflow-link", { href, target: "_top", onclick }, text, icon("out"));
}

/** This sandboxed frame may not navigate the top window. Airflow's document, of the same origin, may: click there. */
function onclick(event) {
  if (parent === window) return;
  event.preventDefault();
  const outer = parent.document.createElement("a");
  outer.href = event.currentTarget.href;
  parent.document.body.append(outer);
  outer.click();
  outer.remove();
}
