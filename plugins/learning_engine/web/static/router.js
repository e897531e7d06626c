/** Routes views by the URL fragment, such as `#/versions/v1.3?tab=gate`. */

import { h } from "./dom.js";

/** The fragment for a path; null and empty parameters are omitted. */
export function hash(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const search = new URLSearchParams(given).toString();
  return `#/${path}${search ? `?${search}` : ""}`;
}

export function link(path, content, query) {
  return h("a", { href: hash(path, query) }, content);
}

export function go(path, query) {
  location.hash = hash(path, query);
}

/** Change the address of the open view without reopening it. */
export function rewrite(path, query) {
  history.replaceState(null, "", hash(path, query));
}

/** Calls `show(view, {part, query}, first)` now and on every change. `routes` maps a path's first part to a view. */
export function start(routes, show) {
  let first = true;
  const open = () => {
    const { name, part, query } = here();
    show(Object.hasOwn(routes, name) ? routes[name] : null, { name, part, query }, first);
    first = false;
  };
  addEventListener("hashchange", open);
  open();
}

function here() {
  const [path, search] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, part] = path.split("/");
  return { name, part: part && decoded(part), query: new URLSearchParams(search) };
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
