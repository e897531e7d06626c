/** Formats values for display. Missing values are a dash; times are UTC, as everywhere in the product. */

const NONE = "–";
const GROUPED = new Intl.NumberFormat("en-GB", { maximumFractionDigits: 0 });
const DAY = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" };
const MINUTE = { ...DAY, hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const UNITS = ["bytes", "KiB", "MiB", "GiB", "TiB"];

export function count(value) {
  return value === null || value === undefined ? NONE : GROUPED.format(value);
}

/** "1 row", "2 rows". */
export function plural(value, noun, many = `${noun}s`) {
  return `${count(value)} ${value === 1 ? noun : many}`;
}

/** A loss or KL divergence with fixed decimals, so that columns line up. */
export function nats(value, decimals = 3) {
  if (value === null || value === undefined) return NONE;
  const text = value.toFixed(decimals);
  return minus(Number(text) === 0 ? text.replace("-", "") : text);
}

/** Any number with four significant digits. */
export function figure(value) {
  if (value === null || value === undefined) return NONE;
  if (Number.isInteger(value)) return minus(GROUPED.format(value));
  const rounded = Number(value.toPrecision(4));
  return minus(Math.abs(rounded) < 0.001 ? rounded.toExponential() : String(rounded));
}

export function percent(share) {
  return share === null || share === undefined ? NONE : minus(`${Math.round(share * 100)} %`);
}

/** The display name of a base model: the last part of a local path, or the full hub name. */
export function modelName(base) {
  return base.startsWith("/") ? base.replace(/\/+$/, "").split("/").pop() : base;
}

export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  const step = Math.min(Math.floor(Math.log2(Math.max(value, 1)) / 10), UNITS.length - 1);
  return `${step ? (value / 2 ** (10 * step)).toFixed(1) : value} ${UNITS[step]}`;
}

/** 0.4 s, 8 s, 3 min 20 s, 2 h 5 min, 9 days. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  const minutes = Math.round(whole / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 2880) return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  return `${Math.round(minutes / 1440)} days`;
}

/** 16 Nov 2026, 02:47 */
export function time(iso) {
  return iso ? new Date(iso).toLocaleString("en-GB", MINUTE) : NONE;
}

/** 9 Nov – 16 Nov 2026; with minutes if the window is shorter than a day. */
export function days({ start, end }) {
  const [from, to] = [new Date(start), new Date(end)];
  if (to - from < 864e5) return `${time(start)} – ${time(end)} UTC`;
  const year = from.getUTCFullYear() === to.getUTCFullYear() ? undefined : "numeric";
  return `${from.toLocaleDateString("en-GB", { ...DAY, year })} – ${to.toLocaleDateString("en-GB", DAY)}`;
}

/** 9 Nov 2026, 02:00 – 16 Nov 2026, 02:00 UTC */
export function windowOf({ start, end }) {
  return `${time(start)} – ${time(end)} UTC`;
}

/** "too long" for `too_long`. */
export function humanize(name) {
  return name.replaceAll("_", " ");
}

function minus(text) {
  return text.replace("-", "−");
}
