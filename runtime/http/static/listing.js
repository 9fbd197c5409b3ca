// A long list of rows of one height, of which only those in sight are drawn; arrow keys walk it, as a treegrid's do.

import { html, useEffect, useLayoutEffect, useRef, useState } from "./preact.js";

const SPARE = 8; // rows drawn beyond either edge

/**
 * `rows` rows of `height` px. `row(n)` gives `{key, label?, cells, depth?, open?}`; `at` is the row that counts, `onMove(n)`
 * moves there; `onOpen(n, open)` opens and closes; `onEnter(n)` acts. `head` stands above and stays.
 */
export function Listing({ id, label, rows, height, row, at, onMove, onOpen, onEnter, parent, head, onWheel, class: name = "" }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, tall: 600 });
  useLayoutEffect(() => {
    const measure = () => setView({ top: box.current.scrollTop, tall: box.current.clientHeight });
    const watch = new ResizeObserver(measure);
    watch.observe(box.current);
    box.current.addEventListener("scroll", measure, { passive: true });
    return () => watch.disconnect();
  }, []);
  useEffect(() => {
    if (!onWheel) return undefined;
    const element = box.current;
    element.addEventListener("wheel", onWheel, { passive: false });
    return () => element.removeEventListener("wheel", onWheel);
  }, [onWheel]);
  const arrived = useRef(false);
  const cursor = useRef(at); // ahead of what is drawn while keys come faster than frames
  cursor.current = at;
  useEffect(() => {
    if (arrived.current || at <= 0) return;
    arrived.current = true;
    box.current.scrollTop = Math.max(0, (at - 3) * height);
  });
  const from = Math.max(0, Math.floor(view.top / height) - SPARE);
  const to = Math.min(rows, Math.ceil((view.top + view.tall) / height) + SPARE);
  const drawn = [];
  for (let n = from; n < to; n += 1) drawn.push([n, row(n)]);

  function show(n) {
    const top = n * height;
    const edge = box.current.querySelector(".listing-head")?.offsetHeight ?? 0;
    if (top < box.current.scrollTop) box.current.scrollTop = top;
    else if (top + height + edge > box.current.scrollTop + box.current.clientHeight) {
      box.current.scrollTop = top + height + edge - box.current.clientHeight;
    }
  }

  function move(n) {
    const wanted = Math.min(rows - 1, Math.max(0, n));
    cursor.current = wanted;
    onMove(wanted);
    show(wanted);
  }

  function press(event) {
    if (event.target !== box.current || event.altKey || event.ctrlKey || event.metaKey || !rows) return;
    const page = Math.max(1, Math.floor(view.tall / height) - 2);
    const now = Math.max(0, cursor.current);
    const open = row(now).open;
    const keys = {
      ArrowDown: () => move(cursor.current < 0 ? 0 : now + 1),
      ArrowUp: () => move(now - 1),
      PageDown: () => move(now + page),
      PageUp: () => move(now - page),
      Home: () => move(0),
      End: () => move(rows - 1),
      ArrowRight: () => (open === false ? onOpen(now, true) : open && move(now + 1)),
      ArrowLeft: () => (open ? onOpen(now, false) : parent && move(parent(now))),
      Enter: () => (onEnter ? onEnter(now) : open !== undefined && onOpen(now, !open)),
      " ": () => open !== undefined && onOpen(now, !open),
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  }

  return html`<div class=${`listing ${name}`} ref=${box} role="treegrid" aria-label=${label} aria-rowcount=${rows} tabindex="0"
      aria-activedescendant=${at >= from && at < to ? `${id}-${at}` : undefined} onKeyDown=${press}>
    ${head && html`<div class="listing-head" role="presentation">${head}</div>`}
    <div class="listing-all" role="presentation" style=${{ height: `${rows * height}px` }}>
      ${drawn.map(([n, one]) => html`<div key=${one.key} id=${`${id}-${n}`} role="row" aria-rowindex=${n + 1} aria-level=${one.depth}
          aria-expanded=${one.open === undefined ? undefined : String(one.open)} aria-selected=${String(n === at)}
          class=${`listing-row ${n === at ? "here" : ""} ${one.class ?? ""}`}
          style=${{ height: `${height}px`, transform: `translateY(${n * height}px)` }}
          onClick=${() => { cursor.current = n; onMove(n); box.current.focus({ preventScroll: true }); }}>${one.cells}</div>`)}
    </div>
  </div>`;
}

/** The sign that opens and closes what is beneath a row. */
export function Fold({ open, onOpen }) {
  return html`<span class=${`fold ${open ? "open" : ""}`} aria-hidden="true"
    onClick=${(event) => { event.stopPropagation(); onOpen(!open); }}></span>`;
}
