/** The loss curves of one training over optimizer steps: task loss on the left axis, EWC loss on the right. */

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { h } from "./dom.js";
import { nats } from "./format.js";
import { table } from "./table.js";
import { colour, onTheme } from "./theme.js";

const HEIGHT = 240;
const ROWS = 12;

/**
 * An element with `update(curve)`; a curve is a list of [step, task loss, EWC loss]. Redrawn when the theme or the
 * width changes, until `signal` aborts.
 */
export function lossChart(signal) {
  const canvas = h("div.canvas", { role: "img" });
  const figures = h("div");
  const details = h("details.quiet", null, h("summary", null, "Show as table"), figures);
  const element = h("div.chart", null, canvas, details);
  let plot = null,
    curve = [],
    hasPenalty = false;
  const draw = () => {
    plot?.destroy();
    plot = new uPlot(options(canvas.clientWidth || 600, hasPenalty), columns(curve, hasPenalty), canvas);
  };
  onTheme(() => plot && draw(), signal);
  const size = new ResizeObserver(() => plot?.setSize({ width: canvas.clientWidth, height: HEIGHT }));
  size.observe(canvas);
  signal.addEventListener("abort", () => {
    size.disconnect();
    plot?.destroy();
    plot = null;
  });
  element.update = (points) => {
    const same = plot && hasPenalty === points.some(([, , ewc]) => ewc !== 0);
    curve = points;
    hasPenalty = points.some(([, , ewc]) => ewc !== 0);
    canvas.setAttribute("aria-label", description(points, hasPenalty));
    figures.replaceChildren(asTable(points));
    if (same) plot.setData(columns(curve, hasPenalty));
    // The width is known only once the element is in the document.
    else requestAnimationFrame(() => signal.aborted || draw());
  };
  return element;
}

function columns(curve, hasPenalty) {
  const [steps, task, ewc] = [0, 1, 2].map((place) => curve.map((point) => point[place]));
  return hasPenalty ? [steps, task, ewc] : [steps, task];
}

function options(width, hasPenalty) {
  const [ink, grid] = [colour("--muted"), colour("--line")];
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: grid, width: 1 }, ticks: { stroke: grid, width: 1, size: 4 } };
  const line = (label, property, scale, dash) => ({
    label,
    scale,
    dash,
    stroke: colour(property),
    width: 1.75,
    // A single point draws no line, so show it as a dot.
    points: { show: (plot) => plot.data[0].length < 2 },
    value: (_, value) => (value === null ? "–" : nats(value, 4)),
  });
  const right = {
    ...axis,
    scale: "ewc",
    side: 1,
    size: 58,
    grid: { show: false },
    values: (_, ticks) => ticks.map(tick),
  };
  return {
    width,
    height: HEIGHT,
    scales: { x: { time: false }, task: {}, ewc: { range: (_, low, high) => [0, (high || 1) * 1.1] } },
    axes: [
      { ...axis, size: 30, values: (_, ticks) => ticks.map(String) },
      { ...axis, scale: "task", size: 46, values: (_, ticks) => ticks.map(tick) },
      ...(hasPenalty ? [right] : []),
    ],
    series: [
      { label: "Step" },
      line("Task loss (left)", "--series-1", "task"),
      ...(hasPenalty ? [line("EWC loss (right)", "--series-2", "ewc", [5, 3])] : []),
    ],
  };
}

function tick(value) {
  return String(Number(value.toPrecision(3)));
}

function description(points, hasPenalty) {
  if (points.length === 0) return "No data yet";
  const [first, last] = [points[0], points.at(-1)];
  const ewc = hasPenalty
    ? ` EWC loss ${nats(last[2], 4)} at the end.`
    : " EWC was not active.";
  return `Task loss from ${nats(first[1])} at step ${first[0]} to ${nats(last[1])} at step ${last[0]}.${ewc}`;
}

/** A table of at most `ROWS` points, including the last one. */
function asTable(points) {
  const every = Math.max(1, Math.ceil(points.length / ROWS));
  const rows = points.filter((_, place) => (points.length - 1 - place) % every === 0);
  return table(
    "Losses by step",
    [
      { title: "Step", cell: ([step]) => String(step), head: true, number: true },
      { title: "Task loss", cell: ([, task]) => nats(task, 4), number: true },
      { title: "EWC loss", cell: ([, , ewc]) => nats(ewc, 4), number: true },
    ],
    rows,
  );
}
