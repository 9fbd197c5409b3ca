// What runs inside the workers: each one's supervision tree, with what waits in every mailbox.

import { html, useMemo, useState } from "./preact.js";
import { usePolled } from "./api.js";
import { Fold, Listing } from "./listing.js";
import { State, Trouble, count, lasting, useNow } from "./parts.js";
import { go, link } from "./place.js";

const ROW = 28;
const OPEN = 2; // levels that are open until somebody closes them
const FULL = 10_000; // what a mailbox without a bound is measured by

/** The trees as rows, without what is beneath closed parts; `isOpen(path, depth)`. */
export function rowsOf(workers, isOpen) {
  const found = [];
  const add = (part, path, depth, up, worker) => {
    const row = { part, path, depth, up, worker, below: waiting(part), opens: (part.children?.length ?? 0) + (part.omitted ?? 0) > 0 };
    found.push(row);
    if (!row.opens || !isOpen(path, depth)) return;
    const at = found.length - 1;
    for (const child of part.children ?? []) add(child, `${path}/${child.name}`, depth + 1, at, worker);
    if (part.omitted) found.push({ part: null, omitted: part.omitted, path: `${path}/…`, depth: depth + 1, up: at, worker, below: 0, opens: false });
  };
  for (const worker of workers) {
    if (worker.tree) add({ ...worker.tree, name: worker.worker }, worker.worker, 1, 0, worker);
  }
  return found;
}

/** Messages that wait in a part and in all that is shown below it. */
const waiting = (part) => (part.children ?? []).reduce((sum, child) => sum + waiting(child), part.mailbox ?? 0);

export function Tree({ place, paused }) {
  const only = place.worker ?? "";
  const { data, problem, again } = usePolled(`v1/system/tree${only ? `?worker=${encodeURIComponent(only)}` : ""}`, 2000, paused);
  const now = useNow(1000, !paused);
  const [turned, setTurned] = useState(new Map()); // path -> open, where somebody said so
  const [at, setAt] = useState("");
  const isOpen = (path, depth) => turned.get(path) ?? depth <= OPEN;
  const workers = data?.data ?? [];
  const rows = useMemo(() => rowsOf(workers, isOpen), [data, turned]);
  const here = Math.max(0, rows.findIndex((row) => row.path === at));
  const turn = (n, open) => setTurned(new Map(turned).set(rows[n].path, open));
  const mute = workers.filter((worker) => !worker.tree);
  const runOf = (row) => (row.depth === 3 && row.path.split("/").at(-2) === "runs" && row.part ? row.part.name : null);

  function row(n) {
    const one = rows[n];
    const { part } = one;
    const pad = { paddingLeft: `${8 + (one.depth - 1) * 16}px` };
    if (!part) {
      return { key: one.path, depth: one.depth, cells: html`<span role="rowheader" class="name quiet" style=${pad}><span class="fold-none"></span><span class="label">${count(one.omitted)} more</span></span>` };
    }
    const open = one.opens ? isOpen(one.path, one.depth) : undefined;
    const run = runOf(one);
    return {
      key: one.path, depth: one.depth, open, class: one.depth === 1 ? "whole" : "",
      cells: html`<span role="rowheader" class="name" style=${pad}>
          ${one.opens ? html`<${Fold} open=${open} onOpen=${(want) => turn(n, want)} />` : html`<span class="fold-none"></span>`}
          <${State} of=${part.state} bare=${true} />
          ${run ? html`<a class="label" tabindex="-1" ...${link({ run })}>${run}</a>` : html`<span class="label">${part.name}</span>`}
          ${one.depth === 1 && html`<span class="quiet label about">${one.worker.draining ? "draining, " : ""}build ${one.worker.build}, as of ${lasting(now - one.worker.at)} ago</span>`}
        </span>
        <span role="gridcell" class="quiet kinds">${part.kind}${part.state !== "running" ? `, ${part.state}` : ""}</span>
        <span role="gridcell"><${Depth} part=${part} below=${one.below} /></span>
        <span role="gridcell" class="number handled">${part.kind === "actor" ? count(part.handled ?? 0) : ""}</span>
        <span role="gridcell" class=${`number ${part.restarts ? "hurt" : "quiet"}`}>${count(part.restarts ?? 0)}</span>
        <span role="gridcell" class=${`number dropped ${part.dropped ? "hurt" : "quiet"}`}>${count(part.dropped ?? 0)}</span>`,
    };
  }

  return html`<section class="page wide tree" aria-labelledby="tree-title">
    <div class="tools"><h1 id="tree-title">Supervision tree</h1>
      ${only ? html`<span>of <b>${only}</b></span><a ...${link({ page: "tree" })}>All workers</a>` : html`<span class="quiet">${count(workers.length)} ${workers.length === 1 ? "worker" : "workers"}</span>`}
      ${mute.length > 0 && html`<span class="quiet" role="status">${mute.length === 1 ? `${mute[0].worker} has` : `${count(mute.length)} workers have`} not shown ${mute.length === 1 ? "itself" : "themselves"} yet: workers do with their next heartbeat</span>`}
    </div>
    <${Trouble} problem=${problem} again=${again} />
    ${rows.length > 0 && html`<${Listing} id="part" class="parts" label="Supervision tree. Arrow keys move and fold; Enter opens a run."
      rows=${rows.length} height=${ROW} row=${row} at=${here} parent=${(n) => rows[n].up} head=${HEAD}
      onMove=${(n) => setAt(rows[n].path)} onOpen=${(n, want) => rows[n].opens && turn(n, want)}
      onEnter=${(n) => { const run = runOf(rows[n]); if (run) go({ run }); else if (rows[n].opens) turn(n, !isOpen(rows[n].path, rows[n].depth)); }} />`}
    ${data && !workers.length && html`<p class="empty">No worker was heard of lately: start one with greenroom worker.</p>`}
  </section>`;
}

const HEAD = html`<span class="name">Part</span><span class="kinds">Kind</span><span>Mailbox</span><span class="number handled">Handled</span><span class="number">Restarts</span><span class="number dropped">Dropped</span>`;

/** How full a mailbox is; the bar grows with the digits of the number, so that a few of many thousands are seen. */
function Depth({ part, below }) {
  const most = part.capacity ?? FULL;
  const share = Math.min(1, Math.log1p(below) / Math.log1p(most));
  const said = part.kind !== "actor" ? `${count(below)} wait below` : `${count(below)} of ${part.capacity ? count(part.capacity) : "any number"} wait`;
  return html`<span class=${`depth ${below >= most * 0.8 ? "full" : ""}`} title=${said}>
    <i class="depth-bar" aria-hidden="true"><i style=${{ width: `${(share * 100).toFixed(1)}%` }}></i></i>
    <span class=${below ? "" : "quiet"}>${part.kind === "actor" ? "" : "Σ "}${count(below)}</span></span>`;
}
