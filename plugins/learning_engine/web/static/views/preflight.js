/** Preflight: what a run over a window would find, without starting it. */

import { get } from "../api.js";
import { h } from "../dom.js";
import { preflight } from "../preflight_summary.js";
import { actionButtons } from "../permissions.js";
import { go, rewrite } from "../router.js";
import { loadInto } from "../async_content.js";
import { windowField } from "../window_field.js";

export function preflightView({ query, signal }) {
  const found = h("div");
  const window = windowField({
    start: query.get("start"),
    end: query.get("end"),
    lastLabel: "The last complete interval",
  });
  let asked = window.value();
  const look = loadInto(found, {
    load: () => get("preflight", { query: asked ?? {}, signal }),
    label: "Reading the window's feedback",
    signal,
    render: (answer) =>
      h(
        "section.panel",
        null,
        h(
          "div.panel-head",
          null,
          h("h2", null, "What a run would find"),
          actionButtons({ label: "Train on this window…", permission: "train", onclick: () => go("train", asked ?? {}) }),
        ),
        preflight(answer),
      ),
  });
  function check(event) {
    event.preventDefault();
    asked = window.value();
    rewrite("preflight", asked ?? {});
    look(true);
  }
  return h(
    "div.view",
    null,
    h("div.headline", null, h("h1", null, "Preflight")),
    h(
      "form.panel.form",
      { onsubmit: check },
      window,
      h("div.buttons", null, h("button.button.main", { type: "submit" }, "Check")),
    ),
    found,
  );
}
