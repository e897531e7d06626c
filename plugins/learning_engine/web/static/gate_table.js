/** The gate's rules, each with its verdict, value, bound and reason. */

import { h } from "./dom.js";
import { figure } from "./format.js";
import { icon } from "./icons.js";
import { badge } from "./badges.js";
import { table } from "./table.js";

const SIGNS = { ">=": "≥", "<=": "≤" };

/** For a list of rules. */
export function gateTable(rules) {
  return table(
    "Gate rules",
    [
      { title: "Rule", cell: (rule) => rule.name.replaceAll("_", " "), head: true },
      { title: "Verdict", cell: verdict },
      { title: "Value", cell: (rule) => figure(rule.figure), number: true },
      {
        title: "Bound",
        cell: (rule) => h("span.nowrap", null, `${SIGNS[rule.comparison]} ${figure(rule.bound)}`),
        number: true,
      },
      { title: "Reason", span: true, cell: (rule) => rule.why },
    ],
    rules,
    (rule) => ({ class: rule.passed ? null : "failing" }),
  );
}

function verdict(rule) {
  return rule.passed ? badge("good", icon("check"), "passed") : badge("bad", icon("cross"), "failed");
}
