/** Light or dark theme: that of the surrounding Airflow page, else the system's. Loaded before the first paint. */

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

/** Airflow's <html>, or null if this page is not framed, or framed by another origin. */
function airflowRoot() {
  try {
    return parent === window ? null : parent.document.documentElement;
  } catch {
    return null;
  }
}

function themeOf(html) {
  const named = html && (html.dataset.theme ?? ["dark", "light"].find((name) => html.classList.contains(name)));
  return named === "dark" || named === "light" ? named : system.matches ? "dark" : "light";
}

function apply() {
  const theme = themeOf(airflowRoot());
  if (root.dataset.theme === theme) return;
  root.dataset.theme = theme;
  listeners.forEach((listener) => listener());
}

/** Calls `listener` whenever the theme changes, until `signal` aborts. */
export function onTheme(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

/** The value of a custom property in the current theme, as a canvas needs it. */
export function colour(property) {
  const probe = document.createElement("span");
  probe.style.color = `var(${property})`;
  document.body.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

apply();
system.addEventListener("change", apply);
const html = airflowRoot();
if (html) new MutationObserver(apply).observe(html, { attributeFilter: ["class", "data-theme"] });
