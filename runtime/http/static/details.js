// All that is known of one step, or of the run itself: attempts, LLM calls with their reasons, messages, data.

import { html } from "./preact.js";
import { link } from "./place.js";
import { Data, State, count, lasting, money } from "./parts.js";
import { stateOf, when } from "./waterfall.js";

export function Details({ fold, run, step, onFork }) {
  const span = step ? fold.spans.get(step) : null;
  return html`<aside class="details" aria-label="Details of the selection">
    ${span ? html`<${Step} fold=${fold} span=${span} onFork=${onFork} />` : html`<${Whole} fold=${fold} run=${run} />`}
  </aside>`;
}

function Step({ fold, span, onFork }) {
  const end = span.ended ?? fold.ended;
  const tokens = span.calls.reduce((sum, call) => sum + (call.input_tokens ?? 0) + (call.output_tokens ?? 0), 0);
  return html`
    <header><h2>${span.name}</h2><${State} of=${stateOf(span)} /></header>
    <dl class="facts">
      <dt>Began</dt><dd>${when(fold, span.started)}</dd>
      <dt>Took</dt><dd>${end === null ? "goes on" : lasting(end - span.started)}</dd>
      ${span.source !== "component" && html`<dt>Result from</dt><dd>${span.source}</dd>`}
      ${span.waitsFor && html`<dt>Waits for</dt><dd>${span.waitsFor}</dd>`}
      ${tokens > 0 && html`<dt>Tokens</dt><dd>${count(tokens)}</dd>`}
      ${span.child && html`<dt>Child run</dt><dd><a ...${link({ run: span.child })}>${span.child}</a></dd>`}
      <dt>Step</dt><dd><code>${span.step}</code></dd>
    </dl>
    <h3>${span.attempts.length === 1 ? "Attempt" : `${span.attempts.length} attempts`}</h3>
    <ol class="attempts">
      ${span.attempts.map((one, n) => html`<li>
        <div class="line-up"><${State} of=${one.outcome} /><span>#${one.number}</span><span class="quiet">${when(fold, one.started)}, ${one.ended === null ? "goes on" : lasting(one.ended - one.started)}</span></div>
        ${n > 0 && span.attempts[n - 1].ended !== null && html`<div class="quiet">after ${lasting(one.started - span.attempts[n - 1].ended)} without an attempt</div>`}
        ${one.worker && html`<div class="quiet">on ${one.worker}</div>`}
        ${one.error && html`<p class="error"><strong>${one.error.type}</strong> ${one.error.message}</p>`}
      </li>`)}
    </ol>
    ${span.calls.length > 0 && html`<h3>${span.calls.length === 1 ? "LLM call" : `${span.calls.length} LLM calls`}</h3>
      ${span.calls.map((call) => html`<${Call} call=${call} fold=${fold} />`)}`}
    ${span.messages.length > 0 && html`<h3>Said</h3><${Messages} fold=${fold} messages=${span.messages} />`}
    ${span.result !== undefined && html`<h3>Result</h3><${Data} of=${span.result} label="Result of the step" />`}
    ${!span.scope && html`<p class="foot needs-run"><button type="button" onClick=${() => onFork(span)}>Fork from here…</button></p>`}`;
}

function Call({ call, fold }) {
  return html`<section class="call-card">
    <header><strong>${call.model || call.asked_model}</strong><${State} of=${call.status === "ok" ? "completed" : call.status} />
      <span class="quiet">${when(fold, call.at - (call.seconds ?? 0))}</span></header>
    <dl class="facts">
      <dt>Deployment</dt><dd>${call.deployment}${call.provider && html` <span class="quiet">${call.provider}</span>`}</dd>
      ${call.asked_model && call.asked_model !== call.model && html`<dt>Asked for</dt><dd>${call.asked_model}</dd>`}
      <dt>Tokens</dt><dd>${count(call.input_tokens ?? 0)} in${call.cached_tokens > 0 && html` <span class="quiet">(${count(call.cached_tokens)} cached)</span>`}, ${count(call.output_tokens ?? 0)} out${call.reasoning_tokens > 0 && html` <span class="quiet">(${count(call.reasoning_tokens)} for reasoning)</span>`}</dd>
      ${call.cost_usd != null && html`<dt>Cost</dt><dd>${money(call.cost_usd)}</dd>`}
      <dt>Took</dt><dd>${lasting(call.seconds ?? 0)}</dd>
      ${call.queued_s > 0 && html`<dt>Queued</dt><dd>${lasting(call.queued_s)}</dd>`}
      ${call.first_token_s != null && html`<dt>First token</dt><dd>${lasting(call.first_token_s)}</dd>`}
      ${call.reason && html`<dt>Why here</dt><dd>${call.reason}</dd>`}
      ${call.finish_reasons?.length > 0 && html`<dt>Ended by</dt><dd>${call.finish_reasons.join(", ")}</dd>`}
      ${call.response_id && html`<dt>Response</dt><dd><code>${call.response_id}</code></dd>`}
    </dl>
    ${(call.attempts?.length ?? 0) > 1 && html`<ol class="tries">${call.attempts.map((one) => html`<li>${one.deployment}: ${one.outcome}, ${lasting(one.seconds)}${one.error && html` <span class="error">${one.error}</span>`}</li>`)}</ol>`}
  </section>`;
}

function Messages({ fold, messages }) {
  const shown = messages.slice(-50);
  return html`<ol class="said">${shown.map((one) => html`<li><span class="quiet">${when(fold, one.ts)}</span> ${one.message}
    ${one.data != null && Object.keys(one.data).length > 0 && html` <code>${JSON.stringify(one.data)}</code>`}</li>`)}</ol>`;
}

function Whole({ fold, run }) {
  const models = [...fold.tokens];
  return html`
    <header><h2>${fold.workflow || run?.workflow || "Run"}</h2><${State} of=${fold.status} /></header>
    ${fold.error && html`<p class="error"><strong>${fold.error.type}</strong> ${fold.error.message}</p>`}
    <dl class="facts">
      <dt>Queued</dt><dd>${fold.started === null ? "until now" : lasting(fold.started - fold.created)}</dd>
      <dt>Workers</dt><dd>${[...new Set(fold.leases.map((lease) => lease.worker))].join(", ") || "none yet"}</dd>
      <dt>Builds</dt><dd>${[...new Set(fold.leases.map((lease) => lease.build))].join(", ") || "none yet"}</dd>
      ${fold.takeovers > 0 && html`<dt>Takeovers</dt><dd>${fold.takeovers}</dd>`}
      ${fold.parent && html`<dt>Started by</dt><dd><a ...${link({ run: fold.parent })}>${fold.parent}</a></dd>`}
      ${fold.forkedFrom && html`<dt>Forked from</dt><dd><a ...${link({ run: fold.forkedFrom })}>${fold.forkedFrom}</a></dd>`}
      <dt>Records</dt><dd>${count(fold.seq)}</dd>
    </dl>
    ${models.length > 0 && html`<h3>Tokens by model</h3><table class="plain"><thead><tr><th scope="col">Model</th><th scope="col">Calls</th><th scope="col">In</th><th scope="col">Out</th><th scope="col">Cost</th></tr></thead>
      <tbody>${models.map(([model, used]) => html`<tr><th scope="row">${model}</th><td>${count(used.calls)}</td><td>${count(used.input)}</td><td>${count(used.output)}</td><td>${money(used.cost)}</td></tr>`)}</tbody></table>`}
    ${fold.messages.length > 0 && html`<h3>Said</h3><${Messages} fold=${fold} messages=${fold.messages} />`}
    ${fold.input !== undefined && html`<h3>Input</h3><${Data} of=${fold.input} label="Input of the run" />`}
    ${fold.status === "completed" && html`<h3>Result</h3><${Data} of=${fold.result} label="Result of the run" />`}`;
}
