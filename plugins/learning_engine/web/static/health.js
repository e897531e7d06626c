/** The health of the parts in one line, and all of them on opening it. */

import { health as badge } from "./badges.js";
import { h, replace } from "./dom.js";
import { count, plural, words } from "./format.js";
import { table } from "./table.js";

/** An element with `update(health)`, which stays open or closed as it is. */
export function healthLine() {
  const summary = h("summary"),
    checks = h("div");
  const element = h("details.panel.health", null, summary, checks);
  element.update = (found) => {
    replace(summary, h("h2", null, "Health"), badge(found.state), h("span.muted", null, line(found)));
    replace(
      checks,
      table(
        "Health of each part",
        [
          {
            title: "Part",
            cell: (check) =>
              h(
                "span",
                null,
                check.name,
                check.name !== words(check.kind) && h("span.muted.block", null, words(check.kind)),
              ),
            head: true,
          },
          { title: "State", cell: (check) => badge(check.state) },
          {
            title: "Latency",
            cell: (check) => (check.latency_ms === null ? "–" : `${count(check.latency_ms)} ms`),
            number: true,
          },
          { title: "What is known", span: true, cell: known },
        ],
        found.checks,
      ),
    );
    return element;
  };
  return element;
}

function line({ checks }) {
  const troubled = checks.filter(({ state }) => state === "down" || state === "degraded");
  if (troubled.length > 0) {
    return troubled.map(({ name, state, reason }) => `${name} is ${state}${reason ? `: ${reason}` : ""}`).join(" · ");
  }
  const up = checks.filter(({ state }) => state === "up").length;
  const rest = checks.length - up;
  return `${up} of ${plural(checks.length, "part")} are up${rest > 0 ? `, ${rest} unknown` : ""}`;
}

function known({ reason, detail }) {
  const pairs = Object.entries(detail).map(([name, value]) => `${words(name)}: ${said(value)}`);
  return [reason && h("p", null, reason), pairs.length > 0 && h("p.muted", null, pairs.join(" · "))];
}

function said(value) {
  if (value === null) return "none";
  if (Array.isArray(value)) return value.map(said).join(", ") || "none";
  return value !== null && typeof value === "object" ? JSON.stringify(value) : String(value);
}
