/** Client of the REST API, one level above this page, and of Airflow's API. The browser sends the session cookie. */

const SECONDS = 60;
const SIGNED_OUT = "Your Airflow session has ended, or you have not signed in.";
const ROOT = new URL("../", location.href);

/** Airflow's own address, which may include a path. */
export const AIRFLOW = new URL("../", ROOT);
const AIRFLOW_API = new URL("api/v2/", AIRFLOW);

/** An error response of the server, with `status`, `title` and `detail` as in RFC 9457. */
export class Problem extends Error {
  constructor({ status, title, detail }) {
    super(detail ?? title);
    this.status = status;
    this.title = title ?? "The server rejected the request";
    this.detail = detail ?? "";
  }
}

/** GET JSON from the API. `signal` aborts it; `accepted` lists statuses other than 2xx to treat as success. */
export async function get(path, { query, signal, accepted = [] } = {}) {
  return (await request(buildUrl(ROOT, path, query), { signal }, accepted)).json();
}

/** GET an HTML fragment, sanitised by the server, as nodes. */
export async function getNodes(path, { signal } = {}) {
  const answer = await request(buildUrl(ROOT, path), { signal, headers: { Accept: "text/html" } });
  // The fragment right-aligns columns with inline styles, which this page's policy forbids. Use a class instead.
  const text = (await answer.text()).replaceAll(/ style="text-align:right"/g, ' class="number"');
  const parsed = new DOMParser().parseFromString(text, "text/html");
  return [...parsed.body.childNodes].map((node) => document.adoptNode(node));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await request(buildUrl(ROOT, path), { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** GET JSON from Airflow's own API. */
export async function getAirflow(path, { query, signal } = {}) {
  return (await request(buildUrl(AIRFLOW_API, path, query), { signal })).json();
}

/** The absolute address of an API path, for a link. */
export function href(path) {
  return buildUrl(ROOT, path).href;
}

function buildUrl(root, path, query = {}) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

async function request(url, { signal, headers, ...options }, accepted = []) {
  const limit = AbortSignal.timeout(SECONDS * 1000);
  const settings = {
    ...options,
    credentials: "same-origin",
    headers: { Accept: "application/json", ...headers },
    signal: signal ? AbortSignal.any([signal, limit]) : limit,
  };
  let answer;
  try {
    answer = await fetch(url, settings);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem({ status: 0, title: "The server cannot be reached", detail: unreachableDetail(error, options.method) });
  }
  if (answer.ok || (accepted.includes(answer.status) && isJson(answer))) return answer;
  throw await problem(answer);
}

function unreachableDetail(error, method) {
  const why =
    error.name === "TimeoutError"
      ? `No response within ${SECONDS} seconds.`
      : "The connection failed: check that Airflow's API server is up.";
  return method === "POST"
    ? `${why} The action may have started anyway: check in Airflow before you try again.`
    : why;
}

/** Whether the response is JSON: a proxy's own error page is not a response of the API. */
function isJson(answer) {
  return /\bjson\b/.test(answer.headers.get("Content-Type") ?? "");
}

async function problem(answer) {
  if (answer.status === 401) return new Problem({ status: 401, title: "You are not signed in", detail: SIGNED_OUT });
  const body = await answer.json().catch(() => null);
  const detail = typeof body?.detail === "string" ? body.detail : `The server answered with status ${answer.status}.`;
  return new Problem({ status: answer.status, title: body?.title ?? answer.statusText, detail });
}
