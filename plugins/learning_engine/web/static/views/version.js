/** One version: its figures, the gate, what it kept, its training, its feedback, where it comes from. */

import { ask, confirm } from "../act.js";
import { get, href } from "../api.js";
import { standing, verdict } from "../badges.js";
import { modelCard } from "../card.js";
import { lossChart } from "../chart.js";
import { moment } from "../clock.js";
import { h } from "../dom.js";
import { ofDeployment, ofFisher } from "../effects.js";
import { feedback } from "../feedback.js";
import { bytes, count, days, figure, nats } from "../format.js";
import { gate } from "../gate.js";
import { icon } from "../icons.js";
import { kept } from "../kept.js";
import { entries } from "../entries.js";
import { matrix } from "../matrix.js";
import { origin } from "../origin.js";
import { acts } from "../rights.js";
import { link } from "../router.js";
import { fill } from "../states.js";
import { facts } from "../table.js";
import { tiles } from "../tiles.js";
import { trained } from "../trained.js";

// From so many ancestors on, the matrix takes the whole width.
const WIDE = 7;

export function version({ part: name, signal }) {
  // What is asked stays while the version is read anew.
  const asked = h("div"),
    place = h("div.stack");
  fill(place, {
    load: () => get(`adapters/${encodeURIComponent(name)}`, { signal }),
    render: (detail) => whole(detail, asked, signal),
    label: name,
    signal,
  });
  return h("div.view", null, h("h1", null, name), asked, place);
}

function whole(detail, asked, signal) {
  const { summary, metadata } = detail;
  const { report } = metadata;
  return [
    heading(detail, asked),
    tiles(summary),
    section("The gate", gate(report.rules), notes(report.notes)),
    learned(metadata),
    section("Training", chart(metadata.training.curve, signal), trained(metadata)),
    section("Feedback", feedback(metadata.dataset)),
    section("Origin", origin(detail)),
    section("Deployments", entries(detail.deployments)),
    modelCard(summary.version, signal),
  ];
}

function heading(detail, asked) {
  const { summary, metadata, revocation, vouch } = detail;
  const { version: name } = summary;
  return h(
    "div.headline",
    null,
    h(
      "div",
      null,
      h("p.badges", null, standing(summary), verdict(summary)),
      h(
        "p.muted",
        null,
        "Continues ",
        summary.parent ? link(`versions/${summary.parent}`, summary.parent) : "the base model",
        `. It learned from ${days(summary.window)} and was published `,
        moment(summary.created_at),
        ".",
      ),
      revocation &&
        h("p.muted", null, `Revoked by ${revocation.by}, `, moment(revocation.at), `: ${revocation.reason}.`),
      vouch && h("p.muted", null, `Vouched for by ${vouch.by}, `, moment(vouch.at), `: ${vouch.reason}.`),
    ),
    acts(
      {
        label: "Deploy…",
        right: "deploy",
        not: summary.live ? `${name} is live already.` : null,
        onclick: () => ask(asked, "What is live", async () => ofDeployment(detail, await get("live"))),
      },
      { label: "Measure Fisher…", right: "fisher", onclick: () => confirm(asked, ofFisher(detail)) },
      h(
        "a.button",
        { href: href(`adapters/${name}/archive`), download: `${name}.tar.gz` },
        icon("download"),
        ` Archive, ${bytes(metadata.size)}`,
      ),
    ),
  );
}

function learned(metadata) {
  const { report } = metadata;
  const { learned: mean, forgotten, backward_transfer: backward } = report.summary;
  const map = matrix(metadata);
  return section(
    "Learned and kept",
    h(
      "p.muted",
      null,
      "Losses in nats per supervised token on feedback that no version was trained on; lower is better.",
    ),
    h(
      Object.keys(report.matrix).length < WIDE ? "div.columns.wide" : "div.stack",
      null,
      h("section.stack.tight", null, h("h3", null, "Matrix R"), map ?? h("p.muted", null, "Nothing was measured.")),
      h(
        "section.stack.tight",
        null,
        h("h3", null, "Kept of each earlier window"),
        kept(report) ?? h("p.muted", null, "There is no earlier window."),
      ),
    ),
    facts([
      ["Gain over the parent, 95 % lower bound", nats(report.gain_lower_bound)],
      ["Learned, mean over windows", nats(mean)],
      ["Forgotten since the best", nats(forgotten)],
      ["Backward transfer", nats(backward)],
      ["Drift from parent, from base", `${nats(report.drift_parent)}, ${nats(report.drift_base)}`],
      ["Margin liked to disliked", `${nats(report.margin)}; parent ${nats(report.margin_parent)}`],
      ["Length of answers", report.length_ratio === null ? null : `${figure(report.length_ratio)} × the parent's`],
      [
        "Held out",
        `${count(report.heldout_rows)} rows${report.heldout_conversations === null ? "" : ` of ${count(report.heldout_conversations)} liked conversations`}`,
      ],
      [
        "Probes",
        report.probes
          ? `${count(report.probes.count)}, each by at least ${report.probes.smallest_margin.toFixed(2)} nats`
          : "none: unproven",
      ],
    ]),
  );
}

function chart(curve, signal) {
  if (curve.length === 0) return h("p.muted", null, "No curve was kept of this training.");
  const element = lossChart(signal);
  element.update(curve);
  return element;
}

function notes(found) {
  return (
    found.length > 0 &&
    h(
      "ul.notes",
      null,
      found.map((note) => h("li", null, note)),
    )
  );
}

function section(title, ...content) {
  return h("section.panel", null, h("h2", null, title), content);
}
