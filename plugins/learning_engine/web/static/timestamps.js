/** Absolute and relative times. Relative ones are updated while the page is open. */

import { h } from "./dom.js";
import { duration, time } from "./format.js";

const SECONDS = 15;

/** 16 Nov 2026, 02:47 UTC */
export function timestamp(iso) {
  return iso ? h("time", { datetime: iso, title: local(iso) }, `${time(iso)} UTC`) : "–";
}

/** 9 days ago, with the absolute time as tooltip. */
export function relativeTime(iso) {
  return iso ? h("time", { datetime: iso, title: `${time(iso)} UTC`, "data-ago": true }, since(iso)) : "–";
}

/** Keep the elements of `relativeTime` up to date. */
export function start() {
  setInterval(() => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll("time[data-ago]")) element.textContent = since(element.dateTime);
  }, SECONDS * 1000);
}

function since(iso) {
  const seconds = (Date.now() - new Date(iso)) / 1000;
  if (seconds < 45) return seconds < -45 ? `in ${duration(-seconds)}` : "just now";
  return `${duration(seconds < 600 ? Math.round(seconds / 60) * 60 : seconds).replace(" 0 s", "")} ago`;
}

function local(iso) {
  return `${new Date(iso).toLocaleString(undefined, { timeZoneName: "short" })} local time`;
}
