// Small things that every view shows the same way: states, times, amounts, problems, questions.

import { html, useEffect, useRef, useState } from "./preact.js";

const MARKS = {
  queued: "M8 3.2a4.8 4.8 0 1 1 0 9.6a4.8 4.8 0 0 1 0-9.6z",
  running: "M5 3.5l7.5 4.5L5 12.5z",
  waiting: "M5.5 3.5v9M10.5 3.5v9",
  completed: "M3.2 8.4l3.3 3.3 6.3-7",
  failed: "M4 4l8 8M12 4l-8 8",
  canceled: "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4zM4.4 11.6l7.2-7.2",
  timed_out: "M8 2.8a5.2 5.2 0 1 1 0 10.4a5.2 5.2 0 0 1 0-10.4zM8 5v3.2l2.2 1.4",
  closed: "M3.5 8h9",
  lost: "M8 3v6M8 12v.6",
  open: "M3 8h3.2M9.8 8H13M6.2 8l3-3.6",
  half_open: "M3 8h3.2M9.8 8H13M6.2 8l3.4-1.4",
  starting: "M8 3.2a4.8 4.8 0 1 1 0 9.6a4.8 4.8 0 0 1 0-9.6z",
  restarting: "M12.6 8a4.6 4.6 0 1 1-1.5-3.4M12.7 2.4v2.8H9.9",
  stopping: "M4.5 4.5h7v7h-7z",
  stopped: "M4.5 4.5h7v7h-7z",
  parked: "M5.5 3.5v9M10.5 3.5v9",
};

export const word = (state) => state.replace("_", " ");

/** A state as a sign and a word; `bare`: the word is for those who listen. */
export function State({ of, bare = false }) {
  const filled = of === "running";
  return html`<span class=${`state is-${of}`}>
    <svg viewBox="0 0 16 16" aria-hidden="true" class=${filled ? "filled" : ""}><path d=${MARKS[of] ?? MARKS.lost} /></svg>
    <span class=${bare ? "unseen" : ""}>${word(of)}</span>
  </span>`;
}

/** Seconds, as people say them. */
export function lasting(seconds) {
  if (seconds == null || Number.isNaN(seconds)) return "";
  const s = Math.max(0, seconds);
  if (s < 0.0005) return "0 ms";
  if (s < 1) return `${Math.round(s * 1000) || (s * 1000).toFixed(1)} ms`;
  if (s < 10) return `${s.toFixed(2)} s`;
  if (s < 60) return `${s.toFixed(1)} s`;
  const whole = Math.round(s);
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86_400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86_400)} d ${Math.floor((whole % 86_400) / 3600)} h`;
}

/** A round number of seconds, as short as it can be said. */
export function round(seconds) {
  if (seconds < 1) return seconds ? `${+(seconds * 1000).toFixed(1)} ms` : "0";
  return seconds < 60 ? `${+seconds.toFixed(2)} s` : lasting(seconds).replace(/ 0 \w+$/, "");
}

/** A place on a run's own clock. */
export function offset(seconds) {
  return `+${lasting(seconds)}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const SHORT = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

/** A moment, with all of it in the title. `at`: a Date, or seconds since the epoch. */
export function Moment({ at }) {
  const when = at instanceof Date ? at : new Date(at * 1000);
  const today = when.toDateString() === new Date().toDateString();
  return html`<time datetime=${when.toISOString()} title=${CLOCK.format(when)}>${(today ? SHORT : DAY).format(when)}</time>`;
}

export const count = (number) => number.toLocaleString("en");
export const money = (usd) => (usd == null ? "" : `$${usd >= 1 ? usd.toFixed(2) : usd.toPrecision(2)}`);

/** Data as text, cut where it would be too much to read. */
export function Data({ of, limit = 20_000, label }) {
  const [all, setAll] = useState(false);
  if (of === undefined) return null;
  const text = typeof of === "string" ? of : JSON.stringify(of, null, 2);
  const cut = !all && text.length > limit;
  return html`<div class="data" role="group" aria-label=${label}>
    <pre tabindex="0">${cut ? text.slice(0, limit) : text}</pre>
    ${cut && html`<button type="button" onClick=${() => setAll(true)}>Show all ${count(text.length)} characters</button>`}
  </div>`;
}

/** What went wrong and what to do, in the API's own words. */
export function Trouble({ problem, again }) {
  if (!problem) return null;
  return html`<div class="trouble" role="alert">
    <strong>${problem.status ? `The API says ${problem.status}.` : problem.status === 0 ? "No connection." : "Not so."}</strong> ${problem.message}
    ${problem.errors?.map((error) => html` <span class="fault"><code>${error.path}</code> ${error.detail}</span>`)}
    ${again && html` <button type="button" onClick=${again}>Try again</button>`}
  </div>`;
}

/** A question that holds everything up. `act` may be async; what it throws is shown, and the question stays. */
export function Ask({ title, verb, danger, act, close, ready = true, children }) {
  const dialog = useRef(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    dialog.current.showModal();
  }, []);
  async function submit(event) {
    event.preventDefault();
    setBusy(true);
    try {
      await act(new FormData(event.target));
      close();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  }
  return html`<dialog ref=${dialog} onClose=${close} aria-labelledby="ask-title">
    <form onSubmit=${submit}>
      <h2 id="ask-title">${title}</h2>
      ${children}
      <${Trouble} problem=${problem} />
      <div class="choices">
        <button type="button" onClick=${() => dialog.current.close()}>Back</button>
        <button type="submit" class=${danger ? "danger" : "primary"} disabled=${busy || !ready}>${verb}</button>
      </div>
    </form>
  </dialog>`;
}

/** The time now, told every `every` ms while `on`, as seconds since the epoch. */
export function useNow(every, on = true) {
  const [now, set] = useState(Date.now() / 1000);
  useEffect(() => {
    if (!on) return undefined;
    const timer = setInterval(() => !document.hidden && set(Date.now() / 1000), every);
    return () => clearInterval(timer);
  }, [every, on]);
  return now;
}
