// The text a run shows, as it grows, less what was taken back. Text only: nothing of it is ever markup.

import { html, useEffect, useRef, useState } from "./preact.js";
import { count } from "./parts.js";

const SHOWN = 200_000;

export function OutputText({ fold }) {
  const [all, setAll] = useState(false);
  const [stick, setStick] = useState(true);
  const box = useRef(null);
  useEffect(() => {
    if (stick && box.current) box.current.scrollTop = box.current.scrollHeight;
  });
  const length = fold.segments.reduce((sum, segment) => sum + segment.text.length, 0);
  let skip = all ? 0 : Math.max(0, length - SHOWN);
  const hidden = skip;
  const parts = [];
  fold.segments.forEach((segment, n) => {
    const cut = Math.min(skip, segment.text.length);
    skip -= cut;
    if (cut < segment.text.length) parts.push({ n, segment, text: cut ? segment.text.slice(cut) : segment.text });
  });
  const several = new Set(fold.segments.map((segment) => segment.step)).size > 1;
  return html`<section class="output" aria-label="Output">
    <div class="tools">
      <span class="quiet">${count(length)} characters${fold.resets > 0 && `, taken back ${fold.resets === 1 ? "once" : `${fold.resets} times`}`}</span>
      <label class="check"><input type="checkbox" checked=${stick} onChange=${(event) => setStick(event.target.checked)} /> Keep the end in sight</label>
    </div>
    ${hidden > 0 && html`<p><button type="button" onClick=${() => setAll(true)}>Show the first ${count(hidden)} characters too</button></p>`}
    <div class="paper" ref=${box} tabindex="0" role="region" aria-label="Text">
      ${length === 0 && html`<p class="empty">${fold.active ? "No text yet." : "The run showed no text."}</p>`}
      ${parts.map(({ n, segment, text }) => html`<div key=${n}>
        ${several && html`<div class="whose">${fold.spans.get(segment.step)?.name ?? "the workflow"}${segment.attempt > 1 && `, attempt ${segment.attempt}`}</div>`}
        <pre class="text">${text}</pre></div>`)}
    </div>
  </section>`;
}
