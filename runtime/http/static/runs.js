// All runs, newest first. Filters and page are the address, so that they can be kept, sent and gone back to.

import { html, useEffect, useRef, useState } from "./preact.js";
import { read, usePolled } from "./api.js";
import { Bulk, statesOf } from "./bulk.js";
import { go, link } from "./place.js";
import { Moment, State, Trouble, count, lasting, useNow, word } from "./parts.js";

const STATES = ["queued", "running", "waiting", "completed", "failed", "canceled", "timed_out"];
const SINCE = [["", "any time"], ["900", "15 minutes"], ["3600", "1 hour"], ["86400", "1 day"], ["604800", "7 days"]];
const PAGE = 50;

/** What the address asks for, in the API's words. `since` is counted back from the whole minute, so that polls agree. */
function query({ since, ...rest }) {
  const wanted = new URLSearchParams();
  for (const name of ["workflow", "status", "tag", "cursor", "limit"]) if (rest[name]) wanted.set(name, rest[name]);
  if (Number(since)) {
    const minute = Math.floor(Date.now() / 60_000) * 60_000;
    wanted.set("created_after", new Date(minute - Number(since) * 1000).toISOString());
  }
  return wanted;
}

/** The filters in words, beside the status. */
function inWords({ workflow, tag, since }) {
  const within = SINCE.find(([seconds]) => seconds && seconds === since)?.[1];
  return [workflow && `of workflow ${workflow}`, tag && `with tag ${tag}`, within && `started within ${within}`]
    .filter(Boolean).map((part) => `, ${part}`).join("");
}

export function Runs({ place, paused }) {
  const { data, problem, again } = usePolled(`v1/runs?${query({ ...place, limit: PAGE })}`, 3000, paused);
  const kept = useRef(null);
  if (data) kept.current = data;
  const rows = (data ?? kept.current)?.data ?? [];
  const now = useNow(1000, !paused && rows.some((run) => run.status === "running"));
  const [workflows, setWorkflows] = useState([]);
  useEffect(() => {
    read("v1/workflows").then(({ data: known }) => setWorkflows(known.map((one) => one.name)), () => {});
  }, []);
  const { cursor, ...filters } = place;
  const filter = (name, value) => go({ ...filters, [name]: value }, { replace: true });
  const narrowed = ["workflow", "status", "tag", "since"].some((name) => place[name]);
  const next = data?.next_cursor;
  const [bulk, setBulk] = useState(null);
  const [said, setSaid] = useState("");
  const offer = (what) => statesOf(what, place.status).length > 0 && rows.length > 0;
  const begin = (what) => {
    setSaid("");
    setBulk({ what, status: place.status, where: [...query({ ...place, status: "", cursor: "" })], said: inWords(place) });
  };

  return html`<section class="page wide" aria-labelledby="runs-title">
    <h1 id="runs-title" class="unseen">Runs</h1>
    <form class="tools filters" role="search" aria-label="Filters" onSubmit=${(event) => event.preventDefault()}>
      <label class="field">Workflow <select value=${place.workflow ?? ""} onChange=${(event) => filter("workflow", event.target.value)}>
        <option value="">all</option>
        ${[...new Set([...workflows, place.workflow ?? ""])].filter(Boolean).map((name) => html`<option value=${name} selected=${name === place.workflow}>${name}</option>`)}
      </select></label>
      <label class="field">Status <select value=${place.status ?? ""} onChange=${(event) => filter("status", event.target.value)}>
        <option value="">all</option>${STATES.map((state) => html`<option value=${state} selected=${state === place.status}>${word(state)}</option>`)}
      </select></label>
      <label class="field">Started within <select value=${place.since ?? ""} onChange=${(event) => filter("since", event.target.value)}>
        ${SINCE.map(([seconds, name]) => html`<option value=${seconds} selected=${seconds === (place.since ?? "")}>${name}</option>`)}
      </select></label>
      <label class="field">Tag <input key=${place.tag ?? ""} type="search" defaultValue=${place.tag ?? ""} onChange=${(event) => filter("tag", event.target.value.trim())} /></label>
      ${narrowed && html`<button type="button" onClick=${() => go({})}>Clear</button>`}
      <span class="right">
        ${offer("cancel") && html`<button type="button" class="needs-run" onClick=${() => begin("cancel")}>Cancel all…</button>`}
        ${offer("retry") && html`<button type="button" class="needs-run" onClick=${() => begin("retry")}>Retry all…</button>`}
      </span>
    </form>
    <p class=${said ? "" : "unseen"} role="status">${said}</p>
    ${bulk && html`<${Bulk} ...${bulk} close=${() => setBulk(null)} done=${(words) => { setSaid(words); again(); }} />`}
    <${Trouble} problem=${problem} again=${again} />
    <${Table} rows=${rows} now=${now} />
    ${data && !rows.length && html`<p class="empty">${narrowed ? "No run fits these filters." : "There is no run yet. Start one with POST v1/workflows/{name}/runs."}</p>`}
    <nav class="pages" aria-label="Pages">
      ${cursor && html`<a ...${link(filters)}>Newest</a>`}
      ${cursor && html`<button type="button" onClick=${() => history.back()}>Newer</button>`}
      ${next && html`<a ...${link({ ...filters, cursor: next })}>Older</a>`}
    </nav>
  </section>`;
}

/** A grid: arrow keys walk the rows, Enter opens one. */
function Table({ rows, now }) {
  const body = useRef(null);
  const [at, setAt] = useState(0);
  const here = Math.min(at, Math.max(0, rows.length - 1));
  function press(event) {
    // The row that has the focus, which may be ahead of what is drawn.
    const now = [...body.current.children].indexOf(event.target.closest("tr"));
    const to = { ArrowDown: now + 1, ArrowUp: now - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (event.key === "Enter" && event.target.matches("tr")) go({ run: event.target.dataset.run });
    if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const wanted = Math.min(rows.length - 1, Math.max(0, to));
    setAt(wanted);
    body.current.children[wanted]?.focus();
  }
  if (!rows.length) return null;
  return html`<table class="runs" role="grid" aria-label="Runs, newest first">
    <thead><tr><th scope="col">Status</th><th scope="col">Workflow</th><th scope="col">Run</th><th scope="col">Started</th>
      <th scope="col" class="number">Took</th><th scope="col">Tags</th><th scope="col" class="number">Records</th></tr></thead>
    <tbody ref=${body} onKeyDown=${press}>
      ${rows.map((run, n) => html`<tr key=${run.id} data-run=${run.id} tabindex=${n === here ? "0" : "-1"} onFocus=${() => setAt(n)}
          onClick=${(event) => event.target.closest("a") || getSelection().toString() || go({ run: run.id })}>
        <td><${State} of=${run.status} />${run.waiting_on && html`<span class="quiet on"> ${run.waiting_on}</span>`}</td>
        <td class="workflow">${run.workflow}</td>
        <td class="id"><a tabindex="-1" ...${link({ run: run.id })}>${run.id}</a></td>
        <td class="when"><${Moment} at=${new Date(run.created)} /></td>
        <td class="number">${took(run, now)}</td>
        <td class="tags">${run.tags.map((tag) => html`<span class="tag">${tag}</span>`)}</td>
        <td class="number records">${count(run.seq)}</td>
      </tr>`)}
    </tbody></table>`;
}

const ENDED = new Set(["completed", "failed", "canceled", "timed_out"]);

function took(run, now) {
  const created = Date.parse(run.created) / 1000;
  if (run.status === "queued") return "";
  return lasting((ENDED.has(run.status) ? Date.parse(run.updated) / 1000 : Math.max(now, created)) - created);
}
