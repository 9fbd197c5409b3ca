// A run's steps on a timeline: names to the left, attempts, waits and LLM calls to the right. Draws what is in sight alone.

import { html, useMemo, useRef, useState } from "./preact.js";
import { Fold, Listing } from "./listing.js";
import { State, count, lasting, offset, round, useNow } from "./parts.js";
import { Scale, activity, ticks } from "./scale.js";

const ROW = 28;
const CLOSEST = 1e-4;
const LETTER = 6.5; // px, about, of a note

export function Waterfall({ fold, selected, onSelect, paused }) {
  const now = useNow(500, fold.active && !paused);
  const [closed, setClosed] = useState(new Set());
  const [folding, setFolding] = useState(true);
  const [view, setView] = useState([0, 1]);
  const lane = useRef(null);

  const rows = useMemo(() => fold.rows(closed), [fold, fold.shape, closed]);
  const end = fold.active ? Math.max(fold.last, now) : fold.ended;
  const scale = useMemo(
    () => new Scale(fold.created, end, activity(fold, end), folding), [fold, fold.version, end, folding]);
  const at = selected === "" ? 0 : rows.findIndex((span) => span.step === selected) + 1 || -1;

  const place = (time) => `${(((scale.x(time) - view[0]) / (view[1] - view[0])) * 100).toFixed(3)}%`;
  const wide = (from, to) => `${(((scale.x(to) - scale.x(from)) / (view[1] - view[0])) * 100).toFixed(3)}%`;
  const box = (from, to) => ({ left: place(from), width: wide(from, to) });

  function zoom(by, middle = 0.5) {
    setView(([a, b]) => {
      const width = Math.min(1, Math.max(CLOSEST, (b - a) * by));
      const left = Math.min(1 - width, Math.max(0, a + (b - a) * middle - width * middle));
      return [left, left + width];
    });
  }
  const pan = (by) => setView(([a, b]) => {
    const left = Math.min(1 - (b - a), Math.max(0, a + (b - a) * by));
    return [left, left + (b - a)];
  });
  function zoomTo(step) {
    const span = fold.spans.get(step);
    if (!span) return setView([0, 1]);
    const [a, b] = [scale.x(span.started), scale.x(span.ended ?? end)];
    const width = Math.min(1, Math.max(CLOSEST, (b - a) * 1.5));
    const left = Math.min(1 - width, Math.max(0, (a + b - width) / 2));
    return setView([left, left + width]);
  }
  const wheel = useMemo(() => (event) => {
    const edge = lane.current?.getBoundingClientRect();
    if (!edge || event.clientX < edge.left) return;
    if (event.ctrlKey || event.metaKey) {
      event.preventDefault();
      zoom(event.deltaY > 0 ? 1.25 : 0.8, (event.clientX - edge.left) / edge.width);
    } else if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
      event.preventDefault();
      pan((event.deltaX || event.deltaY) / edge.width);
    }
  }, []);
  const open = (step, want) => setClosed((old) => {
    const fresh = new Set(old);
    if (want) fresh.delete(step);
    else fresh.add(step);
    return fresh;
  });
  const marks = ticks(scale, view, 6);
  const inView = (x) => x >= view[0] && x <= view[1];

  const lanes = (bars) => html`<span role="gridcell" class="lane">
    ${scale.breaks.map((pause) => html`<i class="idle" style=${box(pause.from, pause.to)}></i>`)}${bars}</span>`;

  function row(n) {
    if (n === 0) return whole();
    const span = rows[n - 1];
    const opens = fold.children.has(span.step);
    return {
      key: span.step,
      depth: span.depth + 1,
      open: opens ? !closed.has(span.step) : undefined,
      cells: html`<span role="rowheader" class="name" style=${{ paddingLeft: `${8 + Math.min(span.depth - 1, 12) * 14}px` }}>
          ${opens ? html`<${Fold} open=${!closed.has(span.step)} onOpen=${(want) => open(span.step, want)} />` : html`<span class="fold-none"></span>`}
          <${State} of=${stateOf(span)} bare=${true} /><span class="label">${span.name}</span>
          ${span.attempts.length > 1 && !span.waitsFor && html`<small title="attempts">×${span.attempts.length}</small>`}
        </span>${lanes(bars(span))}`,
    };
  }

  function whole() {
    const queued = (fold.started ?? end) - fold.created;
    return {
      key: "",
      depth: 1,
      class: "whole",
      cells: html`<span role="rowheader" class="name" style=${{ paddingLeft: "8px" }}><${State} of=${fold.status} bare=${true} />
          <span class="label">${fold.workflow || "run"}</span></span>${lanes(html`
        <i class="bar queue" style=${box(fold.created, fold.started ?? end)} title=${`queued ${lasting(queued)}`}></i>
        ${fold.started !== null && html`<i class=${`bar whole-bar is-${fold.status}`} style=${box(fold.started, end)}></i>`}
        ${fold.parked.map((pause) => html`<i class="bar pause" style=${box(pause.from, pause.to ?? end)}
          title=${`parked: ${pause.on}, ${lasting((pause.to ?? end) - pause.from)}`}></i>`)}
        ${fold.leases.filter((lease) => lease.takeover).map((lease) => html`<i class="mark" style=${{ left: place(lease.started) }}
          title=${`taken over by ${lease.worker}`}></i>`)}
        ${note(end, `${lasting(end - fold.created)}${queued > 0.0005 ? `, ${lasting(queued)} of it queued` : ""}`)}`)}`,
    };
  }

  function bars(span) {
    const until = span.ended ?? end;
    const said = span.messages.at(-1)?.message;
    const found = [];
    span.attempts.forEach((one, n) => {
      const before = span.attempts[n - 1];
      if (before?.ended != null && one.started > before.ended) {
        found.push(html`<i class="gap" style=${box(before.ended, one.started)}></i>`);
      }
      found.push(html`<i class=${`bar is-${one.outcome} ${span.waitsFor ? "pause" : ""} ${span.source}`}
        style=${box(one.started, one.ended ?? end)}
        title=${`attempt ${one.number}: ${one.outcome}, ${lasting((one.ended ?? end) - one.started)}`}></i>`);
    });
    for (const call of span.calls) {
      const began = call.at - (call.seconds ?? 0);
      found.push(html`<i class="call" style=${box(began, call.at)} title=${`${call.model}, ${lasting(call.seconds ?? 0)}`}></i>`);
      if (call.queued_s) found.push(html`<i class="call wait" style=${box(began, Math.min(call.at, began + call.queued_s))}></i>`);
    }
    found.push(note(until, `${lasting(until - span.started)}${said ? ` · ${said}` : ""}`, span.started));
    return found;
  }

  // Beside the bar where there is room, over its end otherwise.
  function note(until, text, from = fold.created) {
    const right = (scale.x(until) - view[0]) / (view[1] - view[0]);
    const left = (scale.x(from) - view[0]) / (view[1] - view[0]);
    if (left > 1 || right < 0) return null;
    const needs = (Math.min(text.length, 60) * LETTER + 12) / (lane.current?.clientWidth || 600);
    if (1 - right > needs) return html`<span class="note" style=${{ left: `calc(${(right * 100).toFixed(2)}% + 6px)` }}>${text}</span>`;
    if (left > needs) return html`<span class="note" style=${{ right: `calc(${((1 - left) * 100).toFixed(2)}% + 6px)` }}>${text}</span>`;
    return html`<span class="note over" style=${{ right: "6px" }}>${text}</span>`;
  }

  const parent = (n) => {
    const depth = n === 0 ? 0 : rows[n - 1].depth;
    for (let before = n - 1; before > 0; before -= 1) if (rows[before - 1].depth < depth) return before;
    return 0;
  };

  const head = html`<span class="name">${count(fold.spans.size)} ${fold.spans.size === 1 ? "step" : "steps"}</span>
    <span class="lane ruler" ref=${lane} aria-hidden="true">
      ${marks.filter((mark) => inView(mark.x)).map((mark) => html`<span style=${{ left: `${((mark.x - view[0]) / (view[1] - view[0])) * 100}%` }}>${round(mark.seconds)}</span>`)}
    </span>`;

  return html`<section class="waterfall" aria-label="Timeline">
    <div class="tools">
      <div class="legend" aria-hidden="true">
        <span><i class="bar is-completed"></i>step</span><span><i class="bar is-failed"></i>failed</span>
        <span><i class="gap"></i>retry delay</span><span><i class="bar pause"></i>waits</span><span><i class="call"></i>LLM call</span>
      </div>
      <label class="check"><input type="checkbox" checked=${folding} onChange=${(event) => setFolding(event.target.checked)} /> Fold idle time${scale.breaks.length > 0 && ` (${lasting(scale.breaks.reduce((sum, one) => sum + one.to - one.from, 0))})`}</label>
      <span class="buttons" role="group" aria-label="Zoom">
        <button type="button" onClick=${() => pan(-0.5)} disabled=${view[0] <= 0} aria-label="Earlier">‹</button>
        <button type="button" onClick=${() => zoom(2)} disabled=${view[1] - view[0] >= 1} aria-label="Zoom out">−</button>
        <button type="button" onClick=${() => zoom(0.5)} aria-label="Zoom in">+</button>
        <button type="button" onClick=${() => pan(0.5)} disabled=${view[1] >= 1} aria-label="Later">›</button>
        <button type="button" onClick=${() => setView([0, 1])} disabled=${view[1] - view[0] >= 1}>Fit</button>
        <button type="button" onClick=${() => zoomTo(selected)} disabled=${at <= 0}>To step</button>
      </span>
    </div>
    <${Listing} id="span" class="spans" label=${`Steps of the run. Arrow keys move and fold, Enter zooms to a step; the selected step is described beside.`}
      rows=${rows.length + 1} height=${ROW} row=${row} at=${at} parent=${parent} head=${head} onWheel=${wheel}
      onMove=${(n) => onSelect(n === 0 ? "" : rows[n - 1].step)}
      onEnter=${(n) => zoomTo(n === 0 ? "" : rows[n - 1].step)}
      onOpen=${(n, want) => n > 0 && open(rows[n - 1].step, want)} />
  </section>`;
}

export const stateOf = (span) =>
  span.status === "running" && span.waitsFor ? "waiting" : span.status === "running" && span.attempts.at(-1)?.outcome === "lost" ? "lost" : span.status;

export const when = (fold, time) => offset(time - fold.created);
