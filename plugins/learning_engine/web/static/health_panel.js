/** A one-line health summary that opens to show every component. */

import { health as badge } from "./badges.js";
import { h, replace } from "./dom.js";
import { count, plural, humanize } from "./format.js";
import { table } from "./table.js";

/** An element with `update(health)`, which keeps its open or closed state. */
export function healthPanel() {
  const summary = h("summary"),
    checks = h("div");
  const element = h("details.panel.health", null, summary, checks);
  element.update = (found) => {
    replace(summary, h("h2", null, "Health"), badge(found.state), h("span.muted", null, summaryText(found)));
    replace(
      checks,
      table(
        "Health of each component",
        [
          {
            title: "Component",
            cell: (check) =>
              h(
                "span",
                null,
                check.name,
                check.name !== humanize(check.kind) && h("span.muted.block", null, humanize(check.kind)),
              ),
            head: true,
          },
          { title: "State", cell: (check) => badge(check.state) },
          {
            title: "Latency",
            cell: (check) => (check.latency_ms === null ? "–" : `${count(check.latency_ms)} ms`),
            number: true,
          },
          { title: "Details", span: true, cell: details },
        ],
        found.checks,
      ),
    );
    return element;
  };
  return element;
}

function summaryText({ checks }) {
  const failing = checks.filter(({ state }) => state === "down" || state === "degraded");
  if (failing.length > 0) {
    return failing.map(({ name, state, reason }) => `${name} is ${state}${reason ? `: ${reason}` : ""}`).join(" · ");
  }
  const up = checks.filter(({ state }) => state === "up").length;
  const rest = checks.length - up;
  return `${up} of ${plural(checks.length, "component")} are up${rest > 0 ? `, ${rest} unknown` : ""}`;
}

function details({ reason, detail }) {
  const pairs = Object.entries(detail).map(([name, value]) => `${humanize(name)}: ${format(value)}`);
  return [reason && h("p", null, reason), pairs.length > 0 && h("p.muted", null, pairs.join(" · "))];
}

function format(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.map(format).join(", ") || "none";
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}
