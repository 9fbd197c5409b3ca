// Who executes runs, by build: what beat lately, how much it holds, and what is on its way out.

import { html } from "./preact.js";
import { usePolled } from "./api.js";
import { Moment, Trouble, count, lasting, useNow } from "./parts.js";
import { link } from "./place.js";

export function Workers({ paused }) {
  const { data, problem, again } = usePolled("v1/system/workers", 3000, paused);
  const now = useNow(1000, !paused);
  const builds = new Map();
  for (const worker of data?.data ?? []) builds.set(worker.build, [...(builds.get(worker.build) ?? []), worker]);
  return html`<section class="page" aria-labelledby="workers-title">
    <h1 id="workers-title">Workers</h1>
    <${Trouble} problem=${problem} again=${again} />
    ${[...builds].map(([build, workers]) => html`<article class="card" key=${build}>
      <h2>Build <code>${build}</code> <span class="quiet">${count(workers.length)} ${workers.length === 1 ? "worker" : "workers"}, ${count(workers.reduce((sum, one) => sum + one.running, 0))} runs</span></h2>
      <table class="plain"><thead><tr><th scope="col">Worker</th><th scope="col">State</th><th scope="col">Runs</th><th scope="col">Since</th><th scope="col">Last beat</th></tr></thead>
        <tbody>${workers.map((worker) => html`<tr key=${worker.name}><th scope="row"><a title="Its supervision tree" ...${link({ page: "tree", worker: worker.name })}>${worker.name}</a></th><td>${worker.draining ? "draining" : "at work"}</td><td>${count(worker.running)}</td>
          <td><${Moment} at=${new Date(worker.started)} /></td><td>${lasting(now - Date.parse(worker.beat) / 1000)} ago</td></tr>`)}</tbody></table>
    </article>`)}
    ${data && !builds.size && html`<p class="empty">No worker was heard of lately: runs stay queued until one starts (greenroom worker).</p>`}
  </section>`;
}
