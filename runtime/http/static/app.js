// The dashboard: what the address names is what is shown. It knows the public API and nothing else.

import { html, render, useEffect, useState } from "./preact.js";
import { learnScopes, onRefused, token } from "./api.js";
import { link, usePlace } from "./place.js";
import { Inbox } from "./approvals.js";
import { Run } from "./run.js";
import { Providers } from "./providers.js";
import { Runs } from "./runs.js";
import { Tree } from "./tree.js";
import { Workers } from "./workers.js";

const PAGES = [["", "Runs"], ["approvals", "Approvals"], ["workers", "Workers", "needs-admin"], ["tree", "Tree", "needs-admin"], ["providers", "Providers", "needs-admin"]];

function App() {
  const place = usePlace();
  const [paused, setPaused] = useState(false);
  const [refused, setRefused] = useState(null);
  useEffect(() => onRefused(setRefused), []);
  useEffect(() => {
    if (!refused) learnScopes();
  }, [refused]);
  useEffect(() => scrollTo(0, 0), [place.run, place.page]);
  if (refused) return html`<${Token} close=${() => setRefused(null)} />`;
  return html`
    <a class="skip" href="#main">Skip to content</a>
    <header class="bar-top">
      <a class="brand" ...${link({})}>greenroom</a>
      <nav aria-label="Pages">${PAGES.map(([page, title, needs]) => html`<a class=${needs} aria-current=${!place.run && (place.page ?? "") === page ? "page" : undefined} ...${link({ page })}>${title}</a>`)}</nav>
      <span class="right">
        <button type="button" aria-pressed=${String(paused)} onClick=${() => setPaused(!paused)}>${paused ? "Resume" : "Pause"}</button>
        ${token.get() && html`<button type="button" onClick=${() => { token.set(""); location.reload(); }}>Forget token</button>`}
      </span>
    </header>
    ${paused && html`<div class="paused" role="status">Paused: the page stays as it is until you resume.</div>`}
    <main id="main" tabindex="-1">
      ${place.run ? html`<${Run} key=${place.run} place=${place} paused=${paused} />`
      : place.page === "approvals" ? html`<${Inbox} paused=${paused} />`
      : place.page === "workers" ? html`<${Workers} paused=${paused} />`
      : place.page === "tree" ? html`<${Tree} place=${place} paused=${paused} />`
      : place.page === "providers" ? html`<${Providers} paused=${paused} />`
      : html`<${Runs} place=${place} paused=${paused} />`}
    </main>`;
}

function Token({ close }) {
  const submit = (event) => {
    event.preventDefault();
    token.set(new FormData(event.target).get("token").trim());
    close();
  };
  return html`<main class="token"><form onSubmit=${submit}>
    <h1>greenroom</h1>
    <p>${token.get() ? "The server did not take this token." : "This server wants a token."} It is the value of <code>GREENROOM_TOKEN</code> where the server was started, or one of its tokens.
      This tab keeps it until it is closed.</p>
    <label class="field">Token <input name="token" type="password" autocomplete="off" spellcheck="false" required /></label>
    <button class="primary">Go on</button>
  </form></main>`;
}

render(html`<${App} />`, document.getElementById("app"));
