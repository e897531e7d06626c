/** The model card, asked for when it is opened. The server renders it, without any HTML of the card's own. */

import { getNodes } from "./api.js";
import { h } from "./dom.js";
import { fill } from "./states.js";

export function modelCard(version, signal) {
  const text = h("div.card-text");
  const element = h("details.panel.fold", { ontoggle: open }, h("summary", null, h("h2", null, "Model card")), text);
  let asked = false;
  function open() {
    if (!element.open || asked) return;
    asked = true;
    const load = () => getNodes(`adapters/${version}/card`, { signal });
    fill(text, { load, render: (nodes) => nodes.map(lowered), label: "Model card", signal });
  }
  return element;
}

/** The card's headings below the page's own; what may be too wide can be scrolled, by keyboard as well. */
function lowered(node, place) {
  if (/^H[1-4]$/.test(node.tagName)) return h(`h${Number(node.tagName[1]) + 2}`, null, [...node.childNodes]);
  if (node.tagName === "PRE") node.tabIndex = 0;
  if (node.tagName !== "TABLE") return node;
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": `Table of the card, ${place}` }, node);
}
