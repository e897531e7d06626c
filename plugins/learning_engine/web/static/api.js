/** The REST API, one level above this page; Airflow's own beside it. The session cookie goes along by itself. */

const SECONDS = 60;
const SIGNED_OUT = "Your session in Airflow has ended, or there was none.";
const ROOT = new URL("../", location.href);

/** Where Airflow itself is, which may lie below a path of its host. */
export const AIRFLOW = new URL("../", ROOT);
const AIRFLOW_API = new URL("api/v2/", AIRFLOW);

/** What the server answered when it would not: `status`, `title` and `detail` as RFC 9457 has them. */
export class Problem extends Error {
  constructor({ status, title, detail }) {
    super(detail ?? title);
    this.status = status;
    this.title = title ?? "The server refused";
    this.detail = detail ?? "";
  }
}

/** JSON of a path of the API. `signal` aborts it; `accepted` are statuses besides 2xx that are an answer, too. */
export async function get(path, { query, signal, accepted = [] } = {}) {
  return (await ask(locate(ROOT, path, query), { signal }, accepted)).json();
}

/** A fragment of HTML that the server has made safe, as nodes. */
export async function getNodes(path, { signal } = {}) {
  const answer = await ask(locate(ROOT, path), { signal, headers: { Accept: "text/html" } });
  // Columns are set to the right by styles, which this page's policy forbids, and here by a class.
  const text = (await answer.text()).replaceAll(/ style="text-align:right"/g, ' class="number"');
  const parsed = new DOMParser().parseFromString(text, "text/html");
  return [...parsed.body.childNodes].map((node) => document.adoptNode(node));
}

export async function post(path, body) {
  const headers = { "Content-Type": "application/json" };
  return (await ask(locate(ROOT, path), { method: "POST", headers, body: JSON.stringify(body) })).json();
}

/** JSON of a path of Airflow's own API. */
export async function getAirflow(path, { query, signal } = {}) {
  return (await ask(locate(AIRFLOW_API, path, query), { signal })).json();
}

/** Where a path of the API is, for a link. */
export function href(path) {
  return locate(ROOT, path).href;
}

function locate(root, path, query = {}) {
  const url = new URL(path, root);
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") url.searchParams.set(name, value);
  }
  return url;
}

async function ask(url, { signal, headers, ...options }, accepted = []) {
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
    throw new Problem({ status: 0, title: "The server cannot be reached", detail: unreached(error, options.method) });
  }
  if (answer.ok || (accepted.includes(answer.status) && saysJson(answer))) return answer;
  throw await problem(answer);
}

function unreached(error, method) {
  const why =
    error.name === "TimeoutError"
      ? `No answer came within ${SECONDS} seconds.`
      : "The connection failed: check that Airflow's API server is up.";
  return method === "POST"
    ? `${why} It may have been started all the same: look in Airflow before you ask again.`
    : why;
}

/** A proxy's own error page is none of the API's answers. */
function saysJson(answer) {
  return /\bjson\b/.test(answer.headers.get("Content-Type") ?? "");
}

async function problem(answer) {
  if (answer.status === 401) return new Problem({ status: 401, title: "You are not signed in", detail: SIGNED_OUT });
  const said = await answer.json().catch(() => null);
  const detail = typeof said?.detail === "string" ? said.detail : `It answered ${answer.status}.`;
  return new Problem({ status: answer.status, title: said?.title ?? answer.statusText, detail });
}
