// What runs have asked people for, and the form that decides; the form is made from the decision's own schema.

import { html, useEffect, useRef, useState } from "./preact.js";
import { ask, read, runPath, usePolled } from "./api.js";
import { link } from "./place.js";
import { Data, Moment, Trouble } from "./parts.js";

const INBOX = "v1/runs?status=waiting&limit=200";
const AT_ONCE = 4;

/** Questions of all waiting runs. A run is asked again only when its log has grown. */
export function Inbox({ paused }) {
  const waiting = usePolled(INBOX, 4000, paused);
  const known = useRef(new Map());
  const [, drawn] = useState(0);
  const [problem, setProblem] = useState(null);
  const runs = (waiting.data?.data ?? []).filter((run) => (run.waiting_on ?? "").includes("approval"));
  const wanted = runs.map((run) => `${run.id} ${run.seq}`).join("\n");
  useEffect(() => {
    const stop = new AbortController();
    const queue = runs.filter((run) => known.current.get(run.id)?.seq !== run.seq);
    async function work() {
      for (let run = queue.pop(); run && !stop.signal.aborted; run = queue.pop()) {
        try {
          const { data } = await read(runPath(run.id, "/approvals"), { signal: stop.signal });
          known.current.set(run.id, { seq: run.seq, open: data.filter((one) => one.decision == null) });
          setProblem(null);
        } catch (error) {
          if (!stop.signal.aborted) setProblem(error);
        }
        drawn((n) => n + 1);
      }
    }
    for (let n = 0; n < AT_ONCE; n += 1) work();
    return () => stop.abort();
  }, [wanted]);
  for (const id of known.current.keys()) if (!runs.some((run) => run.id === id)) known.current.delete(id);
  const open = runs.flatMap((run) => (known.current.get(run.id)?.open ?? []).map((one) => ({ run, one })));
  return html`<section class="page" aria-labelledby="inbox-title">
    <h1 id="inbox-title">Approvals</h1>
    <${Trouble} problem=${waiting.problem ?? problem} again=${waiting.again} />
    ${open.map(({ run, one }) => html`<article class="card" key=${`${run.id} ${one.approval}`}>
      <div class="quiet">${run.workflow}, run <a ...${link({ run: run.id, view: "approvals" })}>${run.id}</a>, waiting since <${Moment} at=${new Date(run.updated)} /></div>
      <${Question} runId=${run.id} workflow=${run.workflow} one=${one} done=${waiting.again} />
    </article>`)}
    ${!open.length && waiting.data && html`<p class="empty">Nobody waits for a decision.</p>`}
    ${waiting.data?.next_cursor && html`<p class="quiet">Only the newest 200 waiting runs are looked at.</p>`}
  </section>`;
}

/** What one run has asked, decided or not. */
export function RunApprovals({ runId, fold }) {
  const asked = [...fold.approvals.values()];
  if (!asked.length) return html`<p class="empty">This run has not asked anybody.</p>`;
  return html`<div class="page">${asked.map((one) => html`<article class="card" key=${one.approval}>
    ${one.decided ? html`<h2>${one.question || one.name}</h2><p>Decided${one.by && ` by ${one.by}`}:</p><${Data} of=${one.decision} label="Decision" />`
    : fold.active ? html`<${Question} runId=${runId} workflow=${fold.workflow} one=${one} done=${() => {}} />`
    : html`<h2>${one.question || one.name}</h2><p class="quiet">The run ended before anybody decided.</p>`}
  </article>`)}</div>`;
}

let workflows = null;

/** The schema of an approval's decisions, as the API gives it; `{}` where it gives none. */
async function schemaOf(workflow, name) {
  workflows ??= read("v1/workflows").catch((error) => {
    workflows = null;
    throw error;
  });
  const found = (await workflows).data.find((one) => one.name === workflow)?.approvals?.[name] ?? {};
  const target = found.$ref ? found.$defs[found.$ref.split("/").at(-1)] : found;
  return { ...target, $defs: found.$defs ?? {} };
}

function Question({ runId, workflow, one, done }) {
  const [schema, setSchema] = useState(null);
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  const [sent, setSent] = useState(false);
  useEffect(() => {
    schemaOf(workflow, one.name).then(setSchema, () => setSchema({}));
  }, [workflow, one.name]);
  async function decide(event) {
    event.preventDefault();
    setBusy(true);
    try {
      const decision = value(schema, new FormData(event.target), event.submitter?.value);
      await ask(runPath(runId, `/approvals/${encodeURIComponent(one.approval)}`), { method: "POST", body: { decision, by: "dashboard" } });
      setSent(true);
      done();
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  }
  const title = html`<h2>${one.question || one.name}</h2>`;
  if (sent) return html`${title}<p role="status">Sent. The run goes on.</p>`;
  return html`<form onSubmit=${decide}>${title}
    ${one.data != null && html`<${Data} of=${one.data} label="What the decision is about" />`}
    ${schema && html`<div class="needs-run"><${Fields} schema=${schema} /></div>`}
    <${Trouble} problem=${problem} />
    <div class="choices needs-run">
      ${yesNo(schema) ? html`<button class="primary" value="yes" disabled=${busy}>Approve</button><button class="danger" value="no" disabled=${busy}>Reject</button>`
      : html`<button class="primary" disabled=${busy || !schema}>Decide</button>`}
    </div></form>`;
}

const yesNo = (schema) => schema?.type === "boolean" || schema?.properties?.approved?.type === "boolean";
const plain = (schema) => ["boolean", "string", "integer", "number"].includes(schema?.type) || Array.isArray(schema?.enum);
const simple = (schema) => schema.type === "object" && Object.values(schema.properties ?? {}).every(plain);

function Fields({ schema }) {
  if (schema.type === "boolean") return null;
  if (plain(schema)) return html`<${Field} name="value" schema=${schema} label="Decision" required=${true} />`;
  if (simple(schema)) {
    const names = Object.keys(schema.properties ?? {}).filter((name) => !(name === "approved" && yesNo(schema)));
    return names.map((name) => html`<${Field} key=${name} name=${name} label=${name} schema=${schema.properties[name]} required=${schema.required?.includes(name)} />`);
  }
  return html`<label class="field">Decision, as JSON <textarea name="json" rows="5" required></textarea></label>`;
}

function Field({ name, label, schema, required }) {
  if (schema.enum) {
    return html`<label class="field">${label} <select name=${name}>${schema.enum.map((one) => html`<option value=${JSON.stringify(one)}>${String(one)}</option>`)}</select></label>`;
  }
  if (schema.type === "boolean") return html`<label class="check"><input type="checkbox" name=${name} checked=${schema.default === true} /> ${label}</label>`;
  const number = schema.type === "integer" || schema.type === "number";
  return html`<label class="field">${label} <input name=${name} type=${number ? "number" : "text"} step=${schema.type === "integer" ? "1" : "any"} required=${required && number} defaultValue=${schema.default ?? ""} /></label>`;
}

/** What the form says, as the schema wants it. */
function value(schema, form, verdict) {
  const one = (name, part) => {
    const given = form.get(name);
    if (part.enum) return JSON.parse(given);
    if (part.type === "boolean") return given !== null;
    return part.type === "string" ? (given ?? "") : Number(given);
  };
  if (schema.type === "boolean") return verdict === "yes";
  if (plain(schema)) return one("value", schema);
  if (!simple(schema)) return JSON.parse(form.get("json"));
  const found = {};
  for (const [name, part] of Object.entries(schema.properties ?? {})) {
    if (name === "approved" && yesNo(schema)) found[name] = verdict === "yes";
    else if (form.get(name) || part.type === "boolean" || schema.required?.includes(name)) found[name] = one(name, part);
  }
  return found;
}
