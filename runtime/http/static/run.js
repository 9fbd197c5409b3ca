// One run, live: its log is followed over one connection, folded here, and drawn at most once per frame.

import { html, useEffect, useRef, useState } from "./preact.js";
import { Problem, post, runPath, usePolled } from "./api.js";
import { go, link } from "./place.js";
import { RunApprovals } from "./approvals.js";
import { Details } from "./details.js";
import { Events } from "./events.js";
import { RunFold } from "./fold.js";
import { OutputText } from "./output.js";
import { Ask, Moment, State, Trouble, count, lasting, money, useNow, word } from "./parts.js";
import { follow } from "./stream.js";
import { Waterfall } from "./waterfall.js";

const VIEWS = [["", "Timeline"], ["output", "Output"], ["events", "Events"], ["approvals", "Approvals"]];
const CONNECTION = { connecting: "connecting", live: "live", lost: "reconnecting", ended: "complete", refused: "stopped" };

/** The run's log, folded and drawn. While `paused` nothing more is read: what comes then waits at the server. */
function useRun(id, paused) {
  const [fold, setFold] = useState(() => new RunFold());
  const [connection, setConnection] = useState({ state: "connecting" });
  const [, draw] = useState(0);
  const [turn, setTurn] = useState(0);
  const gate = useRef({ shut: paused, open: () => {} });
  gate.current.shut = paused;
  if (!paused) gate.current.open();
  useEffect(() => {
    const stop = new AbortController();
    const fresh = new RunFold();
    setFold(fresh);
    setConnection({ state: "connecting" });
    follow(id, async ({ events, state, problem }) => {
      if (gate.current.shut) await new Promise((go) => { gate.current.open = go; });
      if (events) for (const event of events) fresh.apply(event);
      if (state) setConnection({ state, problem });
      draw((n) => n + 1);
    }, stop.signal);
    return () => {
      stop.abort();
      gate.current.open();
    };
  }, [id, turn]);
  return { fold, connection, again: () => setTurn(turn + 1) };
}

export function Run({ place, paused }) {
  const { run: id, view = "", step = "" } = place;
  const { fold, connection, again } = useRun(id, paused);
  const row = usePolled(runPath(id), fold.active && fold.seq ? 5000 : 0, paused);
  useEffect(() => {
    if (fold.seq) row.again();
  }, [fold.status, fold.leases.length]);
  const [asking, setAsking] = useState(null);
  const run = row.data;
  const status = fold.seq ? fold.status : (run?.status ?? "queued");
  const now = useNow(1000, fold.active && !paused);
  const select = (to) => go({ ...place, step: to }, { replace: true });
  const open = [...fold.approvals.values()].filter((one) => !one.decided).length;
  const end = fold.ended ?? Math.max(now, fold.last);
  const tokens = [...fold.tokens.values()].reduce((sum, used) => sum + used.input + used.output, 0);

  useEffect(() => {
    document.title = `${word(status)}: ${fold.workflow || id}`;
    return () => { document.title = "greenroom"; };
  }, [status, fold.workflow]);

  if (connection.state === "refused" && !fold.seq) {
    return html`<section class="page"><h1>${id}</h1><${Trouble} problem=${connection.problem} again=${again} /><p><a ...${link({})}>All runs</a></p></section>`;
  }
  const chosen = step && fold.spans.has(step) ? step : "";
  return html`<section class="run" aria-labelledby="run-title">
    <header class="run-head">
      <div class="run-name">
        <h1 id="run-title">${fold.workflow || run?.workflow || "…"}</h1>
        <${State} of=${status} />${status === "waiting" && html`<span class="quiet">for ${fold.waitingOn}</span>`}
        <span class=${`line is-${connection.state}`} title="The connection to the run's log">${CONNECTION[connection.state]}</span>
        <span class="unseen" role="status">Run ${word(status)}, ${CONNECTION[connection.state]}</span>
        <span class="actions">
          ${fold.active && fold.seq > 0 && html`<button type="button" class="needs-run" onClick=${() => setAsking({ what: "cancel" })}>Cancel…</button>`}
          ${(status === "failed" || status === "timed_out") && html`<button type="button" class="primary needs-run" onClick=${() => setAsking({ what: "retry" })}>Retry…</button>`}
          ${fold.seq > 0 && html`<button type="button" class="needs-run" onClick=${() => setAsking({ what: "fork", span: fold.spans.get(chosen) ?? null })}>Fork…</button>`}
        </span>
      </div>
      <div class="run-facts">
        <span class="id">${id}</span>
        ${fold.created > 0 && html`<span>started <${Moment} at=${fold.created} /></span><span>${lasting(end - fold.created)}</span>`}
        ${tokens > 0 && html`<span>${count(tokens)} tokens${fold.cost !== null && `, ${money(fold.cost)}`}</span>`}
        ${fold.takeovers > 0 && html`<span>taken over ${fold.takeovers === 1 ? "once" : `${fold.takeovers} times`}</span>`}
        ${run?.tags.map((tag) => html`<a class="tag" ...${link({ tag })}>${tag}</a>`)}
        ${run && html`<a ...${link({ workflow: run.workflow })}>runs of this workflow</a>`}
        ${fold.forkedFrom && html`<a ...${link({ run: fold.forkedFrom })}>forked from</a>`}
        ${fold.parent && html`<a ...${link({ run: fold.parent })}>parent run</a>`}
      </div>
      <${Trouble} problem=${connection.problem} again=${again} />
      ${fold.error && html`<p class="error"><strong>${fold.error.type}</strong> ${fold.error.message}</p>`}
      <nav class="tabs" aria-label="Views of the run">
        ${VIEWS.map(([name, title]) => html`<a aria-current=${name === view ? "page" : undefined} ...${link({ run: id, view: name, step: chosen })}>${title}${name === "approvals" && open > 0 && html` <b class="badge">${open}</b>`}</a>`)}
      </nav>
    </header>
    ${view === "" && html`<div class="split">
      <${Waterfall} key=${id} fold=${fold} selected=${chosen} onSelect=${select} paused=${paused} />
      <${Details} fold=${fold} run=${run} step=${chosen} onFork=${(span) => setAsking({ what: "fork", span })} />
    </div>`}
    ${view === "output" && html`<${OutputText} fold=${fold} />`}
    ${view === "events" && html`<${Events} fold=${fold} />`}
    ${view === "approvals" && html`<${RunApprovals} runId=${id} fold=${fold} />`}
    ${asking && html`<${Action} ...${asking} id=${id} input=${fold.input} close=${() => setAsking(null)} />`}
  </section>`;
}

function Action({ what, span, id, input, close }) {
  if (what === "cancel") {
    return html`<${Ask} title="Cancel this run?" verb="Cancel the run" danger=${true} close=${close}
        act=${(form) => post(runPath(id, "/cancel"), { reason: form.get("reason") ?? "" })}>
      <p>It stops at once. What its steps have recorded stays, and it can be forked.</p>
      <label class="field">Reason <input name="reason" maxlength="1000" /></label>
    <//>`;
  }
  if (what === "retry") {
    return html`<${Ask} title="Retry this run?" verb="Retry" close=${close}
        act=${async () => go({ run: (await post(runPath(id, "/retry"))).id })}>
      <p>A new run begins with the results of this one and makes the failed step again.</p>
    <//>`;
  }
  const from = span ? `the results before ${span.name}, and makes that step and what follows again` : "all results that this one has";
  return html`<${Ask} title=${span ? `Fork from ${span.name}?` : "Fork this run?"} verb="Fork" close=${close}
      act=${async (form) => go({ run: (await post(runPath(id, "/fork"), { ...(span ? { at: span.step } : {}), ...changed(form.get("input"), input) })).id })}>
    <p>A new run of the same workflow begins with ${from}. This run is left as it is.</p>
    <label class="field column">Input <textarea name="input" rows="6" spellcheck="false" defaultValue=${JSON.stringify(input, null, 2)}></textarea></label>
    <p class="quiet">With another input, steps whose arguments are the same answer from this run's results.</p>
  <//>`;
}

/** The input as it was typed, if it is another one. */
function changed(text, input) {
  let typed;
  try {
    typed = JSON.parse(text);
  } catch (error) {
    throw new Problem(null, { detail: `The input is not JSON: ${error.message}` });
  }
  return JSON.stringify(typed) === JSON.stringify(input) ? {} : { input: typed };
}
