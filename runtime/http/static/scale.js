// From time to place on a timeline. Stretches in which nothing happens are folded, so that a retry a day later does not
// crush what took a second. Pure.

const IDLE_S = 5; // a shorter pause is drawn as it is
const FOLDED = 0.05; // what a folded pause takes, as a share of what is active

/** Merge intervals `[from, to]` that touch. */
function merged(intervals) {
  const sorted = intervals.toSorted((a, b) => a[0] - b[0]);
  const found = [];
  for (const [from, to] of sorted) {
    const last = found.at(-1);
    if (last && from <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([from, to]);
  }
  return found;
}

/** When a run does something: attempts and its own edges; while it is parked it does nothing. */
export function activity(fold, end) {
  const busy = [[fold.created, fold.created], [end, end]];
  for (const span of fold.spans.values()) {
    if (span.waitsFor) {
      busy.push([span.started, span.started]);
      if (span.ended !== null) busy.push([span.ended, span.ended]);
    } else {
      for (const one of span.attempts) busy.push(...less([one.started, one.ended ?? end], fold.parked, end));
    }
  }
  return merged(busy);
}

function less([from, to], parked, end) {
  const found = [];
  for (const pause of parked) {
    const until = pause.to ?? end;
    if (until <= from || pause.from >= to) continue;
    if (pause.from > from) found.push([from, pause.from]);
    from = until;
  }
  if (from <= to) found.push([from, to]);
  return found;
}

export class Scale {
  /** `busy` as `activity` gives it; `fold`: whether long pauses are folded. */
  constructor(start, end, busy, fold) {
    this.start = start;
    this.end = Math.max(end, start + 0.001);
    this.breaks = [];
    const pieces = [[this.start, this.start, 0]]; // [from, to, weight]
    const active = busy.reduce((sum, [from, to]) => sum + to - from, 0);
    const least = fold ? Math.max(IDLE_S, active * 0.5) : Infinity;
    const folded = Math.max(active, 0.5) * FOLDED;
    const go = (to) => {
      const last = pieces.at(-1);
      if (last[2] === last[1] - last[0]) Object.assign(last, { 1: to, 2: to - last[0] });
      else pieces.push([last[1], to, to - last[1]]);
    };
    let at = this.start;
    for (const [from, to] of busy) {
      if (from - at > least) {
        pieces.push([at, from, folded]);
        this.breaks.push({ from: at, to: from });
      } else if (from > at) go(from);
      if (to > Math.max(at, from)) go(to);
      at = Math.max(at, from, to);
    }
    if (this.end > at) go(this.end);
    const total = pieces.reduce((sum, piece) => sum + piece[2], 0) || 1;
    let sum = 0;
    this.pieces = pieces.map(([from, to, weight]) => {
      const piece = { from, to, x: sum / total, width: weight / total };
      sum += weight;
      return piece;
    });
    for (const pause of this.breaks) Object.assign(pause, { x: this.x(pause.from), width: this.x(pause.to) - this.x(pause.from) });
  }

  /** The place of a time, 0 to 1. */
  x(time) {
    let low = 0;
    let high = this.pieces.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (time <= this.pieces[middle].to) high = middle;
      else low = middle + 1;
    }
    const piece = this.pieces[low];
    const length = piece.to - piece.from;
    const share = length > 0 ? Math.min(1, Math.max(0, (time - piece.from) / length)) : 1;
    return piece.x + share * piece.width;
  }

  /** The time at a place. */
  t(x) {
    const piece = this.pieces.find((one) => x <= one.x + one.width && one.width > 0) ?? this.pieces.at(-1);
    return piece.from + (piece.width > 0 ? (Math.max(0, x - piece.x) / piece.width) * (piece.to - piece.from) : 0);
  }
}

const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800,
  3600, 7200, 21_600, 43_200, 86_400, 172_800, 604_800];

/** About `count` round times within the visible part `[a, b]` of a scale: `{x, seconds}` since its start. */
export function ticks(scale, [a, b], count) {
  const found = [];
  const pieces = scale.pieces.filter((p) => p.width > 0 && p.x + p.width > a && p.x < b);
  for (const piece of pieces) {
    if (scale.breaks.some((pause) => pause.from === piece.from)) continue;
    const from = Math.max(piece.from, scale.t(Math.max(a, piece.x)));
    const to = Math.min(piece.to, scale.t(Math.min(b, piece.x + piece.width)));
    const wanted = (count * (scale.x(to) - scale.x(from))) / (b - a);
    if (wanted < 0.2) continue;
    const step = STEPS.find((one) => (to - from) / one <= wanted) ?? STEPS.at(-1);
    for (let n = Math.ceil((from - scale.start) / step - 1e-9); n * step <= to - scale.start + 1e-9; n += 1) {
      const x = scale.x(scale.start + n * step);
      const last = found.at(-1);
      if (!last || (x - last.x) / (b - a) > 0.6 / count) found.push({ x, seconds: n * step });
      if (found.length > 50) return found;
    }
  }
  return found;
}
