// The log itself, by step: what was recorded, in order, each record's data on demand.

import { html, useMemo, useState } from "./preact.js";
import { Fold, Listing } from "./listing.js";
import { Data, State, count } from "./parts.js";
import { stateOf, when } from "./waterfall.js";

const ROW = 26;

export function Events({ fold }) {
  const [open, setOpen] = useState(new Set([""]));
  const [words, setWords] = useState("");
  const [at, setAt] = useState(0);
  const rows = useMemo(() => {
    const found = [];
    const wanted = words.trim().toLowerCase();
    for (const group of fold.groups.values()) {
      const events = wanted ? group.events.filter((event) => matches(group, event, wanted)) : group.events;
      if (wanted && !events.length) continue;
      found.push({ group });
      if (wanted || open.has(group.step)) for (const event of events) found.push({ group, event });
    }
    return found;
  }, [fold, fold.version, open, words]);
  const chosen = rows[Math.min(at, rows.length - 1)];
  const unfold = (step, want) => setOpen((old) => {
    const fresh = new Set(old);
    if (want) fresh.add(step);
    else fresh.delete(step);
    return fresh;
  });
  const parent = (n) => {
    let before = n;
    while (before > 0 && rows[before].event) before -= 1;
    return before;
  };
  const isOpen = (group) => Boolean(words.trim()) || open.has(group.step);

  function row(n) {
    const { group, event } = rows[n];
    if (event) {
      return {
        key: `e${event.seq}`, depth: 2,
        cells: html`<span role="gridcell" class="seq">${event.seq}</span><span role="gridcell" class="at">${when(fold, event.ts)}</span>
          <span role="gridcell" class="kind">${event.type}</span><span role="gridcell" class="gist">${gist(event)}</span>`,
      };
    }
    const span = fold.spans.get(group.step);
    return {
      key: `g${group.step}`, depth: 1, open: isOpen(group), class: "group",
      cells: html`<span role="rowheader" class="name"><${Fold} open=${isOpen(group)} onOpen=${(want) => unfold(group.step, want)} />
        <${State} of=${span ? stateOf(span) : fold.status} bare=${true} /><span class="label">${span?.name ?? (group.step ? group.name : "The run")}</span></span>
        <span role="gridcell" class="quiet">${count(group.events.length)} ${group.events.length === 1 ? "record" : "records"}${group.deltas > 0 && `, ${count(group.deltas)} of text`}${span && span.attempts.length > 1 && `, ${span.attempts.length} attempts`}</span>`,
    };
  }

  return html`<section class="events" aria-label="Events">
    <div class="tools">
      <label class="field">Find <input type="search" value=${words} onInput=${(event) => setWords(event.target.value)} placeholder="kind, step or text" /></label>
      <button type="button" onClick=${() => setOpen(new Set(fold.groups.keys()))}>Open all</button>
      <button type="button" onClick=${() => setOpen(new Set())}>Close all</button>
      <span class="quiet">${count(fold.seq)} records</span>
    </div>
    <div class="split">
      <${Listing} id="event" class="records" label="Records by step" rows=${rows.length} height=${ROW} row=${row} at=${Math.min(at, rows.length - 1)}
        parent=${parent} onMove=${setAt} onOpen=${(n, want) => rows[n].event || unfold(rows[n].group.step, want)} />
      <aside class="details" aria-label="The selected record">
        ${chosen?.event ? html`<header><h2>${chosen.event.type}</h2><span class="quiet">record ${chosen.event.seq}</span></header>
          ${chosen.event.data === null ? html`<p class="quiet">Its data is no longer kept here; the API still has it.</p>` : html`<${Data} of=${chosen.event.data} label="Data of the record" />`}`
        : html`<p class="quiet">Choose a record to see its data.</p>`}
      </aside>
    </div>
  </section>`;
}

function matches(group, event, wanted) {
  return `${event.type} ${group.name}`.toLowerCase().includes(wanted)
    || (event.data !== null && JSON.stringify(event.data).toLowerCase().includes(wanted));
}

/** What a record says, in a line. */
function gist({ type, data }) {
  if (!data) return "";
  if (data.error) return `${data.error.type}: ${data.error.message}`;
  if (type === "lease.taken") return `${data.worker}${data.takeover ? ", taken over" : ""}, build ${data.build}`;
  if (type === "llm.completed") return `${data.model}, ${(data.input_tokens ?? 0) + (data.output_tokens ?? 0)} tokens`;
  if (type === "step.started") return `attempt ${data.attempt}`;
  const text = data.message ?? data.question ?? data.waiting_on ?? data.reason ?? data.name ?? data.result ?? data.decision ?? "";
  return (typeof text === "string" ? text : JSON.stringify(text)).slice(0, 200);
}
