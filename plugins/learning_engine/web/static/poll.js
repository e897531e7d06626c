/** Asking again and again, and not while nobody looks: a hidden tab asks nothing, and asks at once when it is shown. */

/** Runs `task` now and then `seconds` after each end of it, until `signal` aborts. `task` may return other seconds. */
export async function poll(task, seconds, signal) {
  while (!signal.aborted) {
    await shown(signal);
    if (signal.aborted) return;
    const wanted = await task();
    await pause((wanted ?? seconds) * 1000, signal);
  }
}

/** When the tab is in sight, or `signal` aborts. */
function shown(signal) {
  if (!document.hidden) return undefined;
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look);
  });
}

/** After `milliseconds`, or when the tab comes into sight once more, or when `signal` aborts. */
function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", look);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const look = () => document.hidden || end();
    const timer = setTimeout(end, milliseconds);
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", end, { once: true });
  });
}
