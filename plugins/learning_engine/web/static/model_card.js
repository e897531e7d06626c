/** The model card, loaded when opened. The server renders it and escapes HTML in the card. */

import { getNodes } from "./api.js";
import { h } from "./dom.js";
import { loadInto } from "./async_content.js";

export function modelCardPanel(version, signal) {
  const text = h("div.card-text");
  const element = h("details.panel.fold", { ontoggle: open }, h("summary", null, h("h2", null, "Model card")), text);
  let requested = false;
  function open() {
    if (!element.open || requested) return;
    requested = true;
    const load = () => getNodes(`adapters/${version}/card`, { signal });
    loadInto(text, { load, render: (nodes) => nodes.map(adapted), label: "Model card", signal });
  }
  return element;
}

/** Demotes headings below the page's own, and makes wide content scrollable by keyboard. */
function adapted(node, place) {
  if (/^H[1-4]$/.test(node.tagName)) return h(`h${Number(node.tagName[1]) + 2}`, null, [...node.childNodes]);
  if (node.tagName === "PRE") node.tabIndex = 0;
  if (node.tagName !== "TABLE") return node;
  return h("div.scroll", { tabindex: 0, role: "region", "aria-label": `Model card table ${place}` }, node);
}
