// The REST API as this page uses it: a bearer token that this tab alone keeps, problems as errors, ETags for polls.

import { useEffect, useRef, useState } from "./preact.js";

const TOKEN = "greenroom.token";

/** Where the API is: the folder that the page is in, whatever it is mounted under. */
export const ROOT = new URL(".", document.baseURI);

const refused = new Set();

/** Be told when the API wants another token; returns what stops it. */
export function onRefused(tell) {
  refused.add(tell);
  return () => refused.delete(tell);
}

export const token = {
  get: () => sessionStorage.getItem(TOKEN) ?? "",
  set: (value) => (value ? sessionStorage.setItem(TOKEN, value) : sessionStorage.removeItem(TOKEN)),
};

/** An answer that is none; `status` 0: there was no answer at all. */
export class Problem extends Error {
  constructor(status, body = {}) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.kind = (body.type ?? "").replace("urn:greenroom:problem:", "");
    this.errors = body.errors ?? [];
  }
}

/** Ask; the response, or a Problem thrown. 304 and 204 are answers. */
export async function ask(path, { method = "GET", body, headers = {}, signal } = {}) {
  const all = { accept: "application/json", ...headers };
  if (token.get()) all.authorization = `Bearer ${token.get()}`;
  if (body !== undefined) all["content-type"] = "application/json";
  let response;
  try {
    response = await fetch(new URL(path, ROOT), {
      method, signal, headers: all, body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store", credentials: "omit", redirect: "error",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, { detail: "The server cannot be reached. It is asked again by itself." });
  }
  if (response.ok || response.status === 304) return response;
  const problem = new Problem(response.status, await response.json().catch(() => ({})));
  if (response.status === 401) for (const tell of refused) tell(problem);
  throw problem;
}

export const read = async (path, options) => (await ask(path, options)).json();

/** Do something once, however often the request is repeated. */
export const post = (path, body) => read(path, { method: "POST", body, headers: { "idempotency-key": nonce() } });

function nonce() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const SCOPES = ["read", "run", "admin"];

/** Ask what the token may do: the style hides what `needs-run` or `needs-admin` where that is lacking. */
export async function learnScopes() {
  const held = await read("v1/token").then((told) => told.scopes, () => SCOPES);
  document.documentElement.dataset.lacks = SCOPES.filter((scope) => !held.includes(scope)).join(" ");
}

export const runPath = (id, part = "") => `v1/runs/${encodeURIComponent(id)}${part}`;

/**
 * Keep asking for `path` every `every` ms while somebody looks; null: ask nothing. What has not changed is not sent
 * again, and a tab that nobody sees does not ask.
 */
export function usePolled(path, every, paused = false) {
  const [state, set] = useState({ data: null, problem: null, path: null });
  const again = useRef(() => {});
  useEffect(() => {
    if (path === null) return undefined;
    const stop = new AbortController();
    let etag = null;
    let timer = 0;
    let asking = false;
    async function poll() {
      clearTimeout(timer);
      if (asking) return;
      asking = true;
      try {
        const response = await ask(path, { signal: stop.signal, headers: etag ? { "if-none-match": etag } : {} });
        if (response.status !== 304) {
          etag = response.headers.get("etag");
          const data = await response.json();
          set({ data, problem: null, path });
        } else {
          set((old) => (old.problem ? { ...old, problem: null } : old));
        }
      } catch (problem) {
        if (stop.signal.aborted) return;
        set((old) => ({ data: old.path === path ? old.data : null, problem, path }));
        if (problem.status >= 400 && problem.status < 500) return;
      } finally {
        asking = false;
      }
      if (every && !paused && !document.hidden) timer = setTimeout(poll, every);
    }
    const seen = () => !document.hidden && !paused && every && poll();
    document.addEventListener("visibilitychange", seen);
    again.current = poll;
    poll();
    return () => {
      stop.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path, every, paused]);
  const fresh = state.path === path;
  return { data: fresh ? state.data : null, problem: fresh ? state.problem : null, again: () => again.current() };
}
