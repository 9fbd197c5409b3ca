// One run's log, history and live, over one connection that carries the bearer header and comes back by itself.

import { ask, runPath } from "./api.js";

const TERMINAL = new Set(["run.completed", "run.failed", "run.canceled", "run.timed_out"]);
const PATIENCE_MS = 10_000;

/** Cut a stream of text into server-sent events; feed it pieces, get `{id, event, data}` back. */
export class Frames {
  #rest = "";

  feed(piece) {
    const parts = (this.#rest + piece).split("\n\n");
    this.#rest = parts.pop();
    const found = [];
    for (const part of parts) {
      const frame = { event: "message", data: "" };
      for (const line of part.split("\n")) {
        const colon = line.indexOf(": ");
        if (colon > 0) frame[line.slice(0, colon)] = line.slice(colon + 2);
      }
      if (frame.data) found.push(frame);
    }
    return found;
  }
}

/**
 * Follow a run until it ends, `signal` is aborted, or the server says that it never will.
 *
 * `tell({events})` gives records in order, each once; `tell({state, problem})` says how the connection is: connecting,
 * live, lost (it will be made again), ended, or refused (it will not). What `tell` returns is waited for before more is
 * read.
 */
export async function follow(runId, tell, signal) {
  let seen = 0;
  let cursor = "";
  let wait = 500;
  while (!signal.aborted) {
    try {
      const headers = { accept: "text/event-stream", ...(cursor ? { "last-event-id": cursor } : {}) };
      const response = await ask(runPath(runId, "/events"), { headers, signal });
      if (response.status === 204) return tell({ state: "ended" });
      await tell({ state: "live" });
      wait = 500;
      const frames = new Frames();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const told = frames.feed(value).filter((frame) => frame.id);
        const fresh = told.map((frame) => JSON.parse(frame.data)).filter((event) => event.seq > seen);
        if (!fresh.length) continue;
        if (fresh[0].seq !== seen + 1) {
          await reader.cancel();
          break;
        }
        seen = fresh.at(-1).seq;
        cursor = told.at(-1).id;
        await tell({ events: fresh });
        if (TERMINAL.has(fresh.at(-1).type)) return tell({ state: "ended" });
      }
    } catch (problem) {
      if (signal.aborted) return undefined;
      if (problem.status >= 400 && problem.status < 500) return tell({ state: "refused", problem });
    }
    await tell({ state: "lost" });
    await new Promise((go) => setTimeout(go, wait * (0.5 + Math.random())));
    wait = Math.min(wait * 2, PATIENCE_MS);
  }
  return undefined;
}
