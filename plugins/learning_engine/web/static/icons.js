/** Icons that differ in shape, not only in colour. All are decorative: each is next to a word. */

import { svg } from "./dom.js";

const PATHS = {
  check: "M3 8.5 6.5 12 13 4.5",
  cross: "M4 4l8 8M12 4l-8 8",
  dash: "M4 8h8",
  warn: "M8 3v6.5M8 12.2v.8",
  out: "M6 3H3.5v9.5H13V10M9 3h4v4M13 3 7 9",
  download: "M8 2.5V10M4.5 7 8 10.5 11.5 7M3 13.5h10",
};

export function icon(name) {
  const shape = svg("path", {
    d: PATHS[name],
    fill: "none",
    stroke: "currentColor",
    "stroke-width": 2,
    "stroke-linecap": "round",
    "stroke-linejoin": "round",
  });
  return frame(name, shape);
}

/** A filled dot, an empty ring, or a spinning ring. */
export function dot(kind) {
  const filled = kind === "dot";
  const shape = svg("circle", {
    cx: 8,
    cy: 8,
    r: 4.5,
    fill: filled ? "currentColor" : "none",
    stroke: "currentColor",
    "stroke-width": 2,
    "stroke-dasharray": kind === "turning" ? "19 9" : null,
  });
  return frame(kind, shape);
}

function frame(name, shape) {
  return svg(
    "svg",
    { class: `icon icon-${name}`, viewBox: "0 0 16 16", "aria-hidden": "true", focusable: "false" },
    shape,
  );
}
