/** One version: key figures, gate, losses and retention, training, feedback, provenance, deployments. */

import { ask, confirm } from "../confirmation.js";
import { get, href } from "../api.js";
import { statusBadges, verdict } from "../badges.js";
import { modelCardPanel } from "../model_card.js";
import { lossChart } from "../chart.js";
import { timestamp } from "../timestamps.js";
import { h } from "../dom.js";
import { deployConfirmation, fisherConfirmation } from "../confirmation_texts.js";
import { feedbackSummary } from "../feedback_summary.js";
import { bytes, count, days, figure, nats, percent } from "../format.js";
import { gateTable } from "../gate_table.js";
import { icon } from "../icons.js";
import { retentionTable } from "../retention.js";
import { sliceTable } from "../slice_table.js";
import { deploymentTable } from "../deployment_table.js";
import { matrix } from "../matrix.js";
import { provenance } from "../provenance.js";
import { actionButtons } from "../permissions.js";
import { link } from "../router.js";
import { loadInto } from "../async_content.js";
import { facts } from "../table.js";
import { tiles } from "../tiles.js";
import { trainingDetails } from "../training_details.js";

// With more rows, the matrix takes the full width.
const WIDE = 7;

export function version({ part: name, signal }) {
  // The confirmation stays open while the version is reloaded.
  const confirmationPlace = h("div"),
    place = h("div.stack");
  loadInto(place, {
    load: () => get(`adapters/${encodeURIComponent(name)}`, { signal }),
    render: (detail) => sections(detail, confirmationPlace, signal),
    label: name,
    signal,
  });
  return h("div.view", null, h("h1", null, name), confirmationPlace, place);
}

function sections(detail, confirmationPlace, signal) {
  const { summary, metadata } = detail;
  const { report } = metadata;
  return [
    heading(detail, confirmationPlace),
    tiles(summary),
    section("Gate", gateTable(report.rules), notes(report.notes)),
    losses(metadata),
    section("Training", chart(metadata.training.curve, signal), trainingDetails(metadata)),
    section("Feedback", feedbackSummary(metadata.dataset)),
    section("Provenance", provenance(detail)),
    section("Deployments", deploymentTable(detail.deployments)),
    modelCardPanel(summary.version, signal),
  ];
}

function heading(detail, confirmationPlace) {
  const { summary, metadata, revocation, vouch } = detail;
  const { version: name } = summary;
  return h(
    "div.headline",
    null,
    h(
      "div",
      null,
      h("p.badges", null, statusBadges(summary), verdict(summary)),
      h(
        "p.muted",
        null,
        "Continues ",
        summary.parent ? link(`versions/${summary.parent}`, summary.parent) : "the base model",
        `. Trained on ${days(summary.window)}, published `,
        timestamp(summary.created_at),
        ".",
      ),
      revocation &&
        h("p.muted", null, `Revoked by ${revocation.by}, `, timestamp(revocation.at), `: ${revocation.reason}.`),
      vouch && h("p.muted", null, `Vouched for by ${vouch.by}, `, timestamp(vouch.at), `: ${vouch.reason}.`),
    ),
    actionButtons(
      {
        label: "Deploy…",
        permission: "deploy",
        unavailable: summary.live ? `${name} is already live.` : null,
        onclick: () => ask(confirmationPlace, "The live version", async () => deployConfirmation(detail, await get("live"))),
      },
      { label: "Recalculate Fisher…", permission: "fisher", onclick: () => confirm(confirmationPlace, fisherConfirmation(detail)) },
      h(
        "a.button",
        { href: href(`adapters/${name}/archive`), download: `${name}.tar.gz` },
        icon("download"),
        ` Archive, ${bytes(metadata.size)}`,
      ),
    ),
  );
}

function losses(metadata) {
  const { report } = metadata;
  const { learned: meanLoss, forgotten, backward_transfer: backward } = report.summary;
  const map = matrix(metadata);
  return section(
    "Losses and retention",
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
        h("h3", null, "Retained of each earlier window"),
        retentionTable(report) ?? h("p.muted", null, "There is no earlier window."),
      ),
    ),
    sliceTable(report),
    facts([
      ["Gain over parent, 95 % lower bound", nats(report.gain_lower_bound)],
      ["Mean loss after training on each window", nats(meanLoss)],
      ["Forgotten since best", nats(forgotten)],
      ["Backward transfer", nats(backward)],
      ["Drift from parent, from base", `${nats(report.drift_parent)}, ${nats(report.drift_base)}`],
      ["Margin between liked and disliked", `${nats(report.margin)}; parent ${nats(report.margin_parent)}`],
      ["Disliked answers became likelier by", report.disliked_rise === null ? null : nats(report.disliked_rise)],
      ["Taught phrases that it says", ofPlaces(report.taught)],
      ["Disliked phrases that it says", ofPlaces(report.refused)],
      ["Liked answers that it would end where they end", ofPlaces(report.ends)],
      ["Length of answers", report.length_ratio === null ? null : `${figure(report.length_ratio)} × the parent's`],
      [
        "Held out",
        `${count(report.heldout_rows)} rows${report.heldout_conversations === null ? "" : `, ${count(report.heldout_conversations)} conversations with liked answers`}`,
      ],
      [
        "Probes",
        report.probes
          ? `${count(report.probes.count)}, margin at least ${report.probes.smallest_margin.toFixed(2)} nats`
          : "none",
      ],
    ]),
  );
}

function ofPlaces({ places, candidate, parent }) {
  return candidate === null ? null : `${percent(candidate)} of ${count(places)}; parent ${percent(parent)}`;
}

function chart(curve, signal) {
  if (curve.length === 0) return h("p.muted", null, "No loss curve is available for this training.");
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
