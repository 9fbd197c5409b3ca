// A run as its log's records amount to: spans, output, approvals, events by step. The page's own reading of the log, equal
// to what the API's trace says. Pure: no page, no clock.

/** Event bodies kept for reading; older ones are dropped, and the API still has them. */
export const KEPT = 20_000;

const END = {
  "run.completed": "completed", "run.failed": "failed", "run.canceled": "canceled", "run.timed_out": "timed_out",
};

export class RunFold {
  constructor() {
    this.version = 0;
    this.shape = 0; // rises with each new span
    this.seq = 0;
    this.status = "queued";
    this.waitingOn = "";
    this.workflow = "";
    this.input = undefined;
    this.result = undefined;
    this.error = null;
    this.created = 0;
    this.started = null;
    this.ended = null;
    this.last = 0;
    this.parent = "";
    this.forkedFrom = "";
    this.spans = new Map();
    this.children = new Map(); // scope -> spans, in order
    this.leases = [];
    this.parked = []; // {from, to, on}
    this.tokens = new Map();
    this.messages = [];
    this.approvals = new Map();
    this.takeovers = 0;
    this.cost = null;
    this.segments = []; // {step, attempt, text}
    this.resets = 0;
    this.groups = new Map([["", { step: "", name: "the run", events: [], deltas: 0 }]]);
    this.dropped = 0;
    this.#worker = "";
    this.#kept = [];
  }

  #worker;
  #kept;

  get active() {
    return this.ended === null;
  }

  get text() {
    return this.segments.map((segment) => segment.text).join("");
  }

  apply(event) {
    const { type, data, ts } = event;
    this.version += 1;
    this.seq = event.seq;
    this.last = ts;
    const pause = this.parked.at(-1);
    if (pause?.to === null && (type === "lease.taken" || END[type])) pause.to = ts;
    switch (type) {
      case "run.queued":
        Object.assign(this, { workflow: data.workflow, created: ts, input: data.input });
        Object.assign(this, { parent: data.parent ?? "", forkedFrom: data.forked_from ?? "" });
        break;
      case "lease.taken":
        this.#lease(data, ts);
        break;
      case "run.handed_over":
        this.status = "queued";
        break;
      case "run.parked":
        Object.assign(this, { status: "waiting", waitingOn: data.waiting_on });
        this.parked.push({ from: ts, to: null, on: data.waiting_on });
        break;
      case "run.completed":
      case "run.failed":
      case "run.canceled":
      case "run.timed_out":
        Object.assign(this, { status: END[type], ended: ts, result: data.result, error: failure(type, data) });
        break;
      case "step.started":
        this.#start(data, ts);
        break;
      case "step.retrying":
        this.#close(data.step, ts, "failed", data.error);
        break;
      case "step.failed":
        this.#close(data.step, ts, "failed", data.error).status = "failed";
        break;
      case "step.completed":
        Object.assign(this.#close(data.step, ts, "completed", null), {
          status: "completed", source: data.source ?? "component", result: data.result,
        });
        break;
      case "llm.completed":
        this.#call(data, ts);
        break;
      case "status":
        (this.spans.get(data.step)?.messages ?? this.messages).push({ ts, message: data.message, data: data.data });
        break;
      case "output.delta":
        this.#delta(data);
        break;
      case "output.reset":
        this.resets += 1;
        this.segments = this.segments.filter((one) => one.step !== data.step || one.attempt > data.attempt);
        break;
      case "approval.requested":
        this.approvals.set(data.approval, { ...data, decided: false, asked: ts });
        break;
      case "approval.resolved": {
        const asked = this.approvals.get(data.approval);
        if (asked && !asked.decided) Object.assign(asked, { decided: true, decision: data.decision, by: data.by ?? "" });
        break;
      }
      case "child.started":
        if (this.spans.has(data.step)) this.spans.get(data.step).child = data.run_id;
        break;
    }
    this.#keep(event);
  }

  #lease(data, ts) {
    const parked = this.status === "waiting";
    this.started ??= ts;
    Object.assign(this, { status: "running", waitingOn: "" });
    this.takeovers += data.takeover ? 1 : 0;
    this.#worker = data.worker;
    this.leases.push({ ...data, started: ts });
    for (const span of this.spans.values()) {
      const last = span.attempts.at(-1);
      if (last?.outcome === "running") Object.assign(last, { outcome: parked ? "parked" : "lost", ended: ts });
    }
  }

  #start(data, ts) {
    let span = this.spans.get(data.step);
    if (!span) {
      const scope = this.spans.has(data.scope ?? "") ? data.scope : "";
      span = {
        step: data.step, name: data.name, scope, depth: scope ? this.spans.get(scope).depth + 1 : 1,
        waitsFor: data.waits_for ?? "", status: "running", source: "component", started: ts, ended: null,
        attempts: [], calls: [], messages: [], result: undefined, child: "",
      };
      this.spans.set(data.step, span);
      if (!this.children.has(scope)) this.children.set(scope, []);
      this.children.get(scope).push(span);
      this.shape += 1;
    }
    Object.assign(span, { status: "running", ended: null });
    span.attempts.push({ number: data.attempt, worker: this.#worker, started: ts, ended: null, outcome: "running", error: null });
  }

  #close(step, ts, outcome, error) {
    const span = this.spans.get(step) ?? { attempts: [] };
    span.ended = ts;
    const last = span.attempts.at(-1);
    if (last) Object.assign(last, { ended: ts, outcome, error });
    return span;
  }

  #call(data, ts) {
    this.spans.get(data.step)?.calls.push({ ...data, at: ts });
    const used = this.tokens.get(data.model) ?? { calls: 0, input: 0, output: 0, cost: null };
    used.calls += 1;
    used.input += data.input_tokens ?? 0;
    used.output += data.output_tokens ?? 0;
    if (data.cost_usd != null) {
      used.cost = (used.cost ?? 0) + data.cost_usd;
      this.cost = (this.cost ?? 0) + data.cost_usd;
    }
    this.tokens.set(data.model, used);
  }

  #delta(data) {
    const last = this.segments.at(-1);
    if (last && last.step === data.step && last.attempt === data.attempt) last.text += data.text;
    else this.segments.push({ step: data.step, attempt: data.attempt, text: data.text });
  }

  #keep(event) {
    const step = event.data?.step ?? "";
    let group = this.groups.get(step);
    if (!group) {
      group = { step, name: this.spans.get(step)?.name ?? step, events: [], deltas: 0 };
      this.groups.set(step, group);
    }
    if (event.type === "output.delta") {
      group.deltas += 1;
      return;
    }
    const kept = { seq: event.seq, ts: event.ts, type: event.type, data: event.data };
    group.events.push(kept);
    this.#kept.push(kept);
    if (this.#kept.length >= 2 * KEPT) {
      for (const old of this.#kept.splice(0, KEPT)) old.data = null;
      this.dropped += KEPT;
    }
  }

  /** The spans as a tree reads, without what is beneath the steps in `closed`. */
  rows(closed = new Set()) {
    const found = [];
    const stack = [...(this.children.get("") ?? [])].reverse();
    while (stack.length) {
      const span = stack.pop();
      found.push(span);
      const inner = this.children.get(span.step);
      if (inner && !closed.has(span.step)) for (let n = inner.length - 1; n >= 0; n -= 1) stack.push(inner[n]);
    }
    return found;
  }
}

function failure(type, data) {
  if (data.error) return data.error;
  if (type === "run.canceled") return { type: "Canceled", message: data.reason ?? "" };
  if (type === "run.timed_out") return { type: "TimedOut", message: `took longer than ${data.timeout_s} s` };
  return null;
}
