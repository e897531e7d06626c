/** Polling that pauses while the tab is hidden and resumes as soon as it is shown. */

/** Runs `task` now and `seconds` after each completion, until `signal` aborts. `task` may return another delay. */
export async function poll(task, seconds, signal) {
  while (!signal.aborted) {
    await visible(signal);
    if (signal.aborted) return;
    const delay = await task();
    await pause((delay ?? seconds) * 1000, signal);
  }
}

/** Resolves when the tab is visible, or when `signal` aborts. */
function visible(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const onVisibilityChange = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", onVisibilityChange);
      signal.removeEventListener("abort", onVisibilityChange);
      resolve();
    };
    document.addEventListener("visibilitychange", onVisibilityChange);
    signal.addEventListener("abort", onVisibilityChange);
  });
}

/** Resolves after `milliseconds`, when the tab becomes visible again, or when `signal` aborts. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisibilityChange);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const onVisibilityChange = () => document.hidden || end();
    const timer = setTimeout(end, milliseconds);
    document.addEventListener("visibilitychange", onVisibilityChange);
    signal.addEventListener("abort", end, { once: true });
  });
}
