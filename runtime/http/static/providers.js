// Where LLM calls go: deployments with breakers, limits and latencies, the lines of calls that wait, the last decisions.

import { html } from "./preact.js";
import { usePolled } from "./api.js";
import { link } from "./place.js";
import { Moment, State, Trouble, count, lasting } from "./parts.js";

export function Providers({ paused }) {
  const { data, problem, again } = usePolled("v1/system/providers", 2000, paused);
  const lines = (data?.lines ?? []).filter((line) => line.waiting > 0);
  return html`<section class="page wide" aria-labelledby="providers-title">
    <h1 id="providers-title">Providers</h1>
    <${Trouble} problem=${problem} again=${again} />
    ${data && !data.data.length && html`<p class="empty">No worker has shown a deployment yet. They do with their next heartbeat, if they have any: keys come from OPENAI_API_KEY and GEMINI_API_KEY.</p>`}
    ${data?.data.map((one) => html`<${Deployment} key=${one.deployment} one=${one} />`)}
    ${data && data.data.length > 0 && html`<article class="card"><h2>Calls that wait</h2>
      ${lines.length ? html`<table class="plain"><thead><tr><th scope="col">Model</th><th scope="col">Worker</th><th scope="col" class="number">Waiting</th><th scope="col" class="number">Expected wait</th></tr></thead>
        <tbody>${lines.map((line) => html`<tr key=${`${line.worker} ${line.model}`}><th scope="row">${line.model}</th><td>${line.worker}</td><td class="number">${count(line.waiting)}</td>
          <td class="number">${line.expected_s == null ? "until one is up" : lasting(line.expected_s)}</td></tr>`)}</tbody></table>`
      : html`<p class="quiet">None: there is room for all.</p>`}
    </article>`}
    ${data?.decisions.length > 0 && html`<article class="card"><h2>Last decisions</h2>
      <table class="plain decisions"><thead><tr><th scope="col">When</th><th scope="col">Asked for</th><th scope="col">Went to</th><th scope="col">Why there</th><th scope="col">Came to</th>
        <th scope="col" class="number">Took</th><th scope="col" class="number">Queued</th><th scope="col" class="number">First token</th><th scope="col" class="number">Tokens</th><th scope="col">Run</th></tr></thead>
      <tbody>${data.decisions.map((one, n) => html`<tr key=${n}>
        <td><${Moment} at=${one.at} /></td><th scope="row">${one.asked_model}</th><td>${one.deployment || "nowhere"}</td><td>${one.reason}${one.tried?.length > 1 && html`<div class="quiet">${one.tried.join(", ")}</div>`}</td>
        <td><${State} of=${one.status === "ok" ? "completed" : one.status === "failed" ? "failed" : "canceled"} bare=${true} /> ${one.status}</td>
        <td class="number">${lasting(one.seconds)}</td><td class="number">${one.queued_s ? lasting(one.queued_s) : ""}</td>
        <td class="number">${lasting(one.first_token_s)}</td><td class="number">${one.tokens ? count(one.tokens) : ""}</td>
        <td><a class="id" ...${link({ run: one.run_id, step: one.step })}>${one.run_id.slice(0, 8)}</a></td></tr>`)}</tbody></table>
    </article>`}
  </section>`;
}

function Deployment({ one }) {
  return html`<article class="card">
    <header class="line-up"><h2>${one.deployment}</h2><${State} of=${one.breaker} /><span class="quiet">${one.provider}, ${one.model}</span></header>
    <div class="run-facts">
      <span>${count(one.calls)} attempts</span><span class=${one.limited ? "hurt" : ""}>${count(one.limited)} refused with 429</span><span class=${one.failed ? "hurt" : ""}>${count(one.failed)} failed</span>
      <span>${count(one.in_flight)} under way</span>${one.p50_s != null && html`<span>half within ${lasting(one.p50_s)}, 95 of 100 within ${lasting(one.p95_s)}</span>`}
    </div>
    <table class="plain"><thead><tr><th scope="col">Worker</th><th scope="col">Breaker</th><th scope="col" class="number">Under way</th><th scope="col" class="number">Requests a minute</th>
      <th scope="col">Tokens of this minute</th><th scope="col">Last answers</th></tr></thead>
      <tbody>${one.workers.map((on) => html`<tr key=${on.worker}>
        <th scope="row"><a ...${link({ page: "tree", worker: on.worker })}>${on.worker}</a></th>
        <td><${State} of=${on.breaker} />${on.down_s != null && html`<div class="quiet">down for ${lasting(on.down_s)}</div>`}${on.paused_s > 0 && html`<div class="quiet">asked to wait ${lasting(on.paused_s)}</div>`}
          ${on.why && html`<div class="error">${on.why}</div>`}</td>
        <td class="number">${count(on.in_flight)}${on.concurrency != null && ` of ${count(on.concurrency)}`}</td>
        <td class="number">${on.requests_per_min == null ? "not known" : count(Math.round(on.requests_per_min))}${on.rate != null && html`<div class="quiet">bears ${on.rate.toFixed(1)}/s</div>`}</td>
        <td><${Used} used=${on.tokens_used} limit=${on.tokens_per_min} /></td>
        <td><${Sparkline} values=${on.latencies} /></td></tr>`)}</tbody></table>
  </article>`;
}

function Used({ used, limit }) {
  if (limit == null) return html`<span>${count(Math.round(used))}</span>`;
  return html`<span class=${`depth ${used > limit * 0.9 ? "full" : ""}`}><i class="depth-bar" aria-hidden="true"><i style=${{ width: `${Math.min(100, (used / limit) * 100).toFixed(1)}%` }}></i></i>
    <span>${count(Math.round(used))} of ${count(Math.round(limit))}</span></span>`;
}

/** The last answers' times as a line, and in words for whoever does not see it. */
function Sparkline({ values }) {
  if (!values.length) return html`<span class="quiet">none</span>`;
  const most = Math.max(...values, 0.001);
  const step = values.length > 1 ? 96 / (values.length - 1) : 0;
  const points = values.map((value, n) => `${(2 + n * step).toFixed(1)},${(22 - (value / most) * 20).toFixed(1)}`);
  const said = `the last ${count(values.length)}: ${lasting(Math.min(...values))} to ${lasting(most)}, now ${lasting(values.at(-1))}`;
  return html`<span class="spark"><svg viewBox="0 0 100 24" role="img" aria-label=${said}>
    ${values.length > 1 ? html`<polyline points=${points.join(" ")} />` : html`<circle cx="50" cy=${22 - (values[0] / most) * 20} r="2" />`}</svg>
    <span class="quiet">${lasting(values.at(-1))}, up to ${lasting(most)}</span></span>`;
}
