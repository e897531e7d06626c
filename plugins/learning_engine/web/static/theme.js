/** Light or dark, as Airflow is around this page; on its own, as the system is. Loaded before anything is painted. */

const own = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();

/** Airflow's <html>, or null where this page stands alone or in a frame of another origin. */
function surrounding() {
  try {
    return parent === window ? null : parent.document.documentElement;
  } catch {
    return null;
  }
}

function wanted(html) {
  const named = html && (html.dataset.theme ?? ["dark", "light"].find((name) => html.classList.contains(name)));
  return named === "dark" || named === "light" ? named : system.matches ? "dark" : "light";
}

function apply() {
  const theme = wanted(surrounding());
  if (own.dataset.theme === theme) return;
  own.dataset.theme = theme;
  listeners.forEach((listener) => listener());
}

/** Calls `listener` whenever the theme changes, until `signal` aborts. */
export function onTheme(listener, signal) {
  listeners.add(listener);
  signal.addEventListener("abort", () => listeners.delete(listener));
}

/** What a custom property is in this theme, as a canvas takes it. */
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
const html = surrounding();
if (html) new MutationObserver(apply).observe(html, { attributeFilter: ["class", "data-theme"] });
