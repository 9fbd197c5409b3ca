// Acting on all runs that fit the filters: they are counted first, and nothing happens before somebody says yes to a number.

import { html, useEffect, useState } from "./preact.js";
import { read } from "./api.js";
import { Ask, Trouble, count, word } from "./parts.js";

const STATES = { cancel: ["queued", "waiting", "running"], retry: ["failed", "timed_out", "canceled"] };
const COUNTED = 10_000; // more are not counted
const AT_ONCE = { cancel: 200, retry: 50 };

/** The states that an action is about, among those that a filter leaves. */
export const statesOf = (what, status) => STATES[what].filter((state) => !status || state === status);

const DONE = { cancel: "asked to stop", retry: "started again" };

/** `where`: the API's query for the filters, without a status; `said`: the filters in words. */
export function Bulk({ what, where, said, status, close, done }) {
  const [found, setFound] = useState({ number: 0, counting: true, more: false });
  const [acted, setActed] = useState(null);
  const [problem, setProblem] = useState(null);
  const states = statesOf(what, status);

  const batches = async (body, each) => {
    for (const state of states) {
      const path = `v1/runs/${what}?${new URLSearchParams([...where, ["status", state]])}`;
      for (let cursor = null; ;) {
        const batch = await read(path, { method: "POST", body: { ...body, ...(cursor ? { cursor } : {}) } });
        if (each(batch) === false) return;
        cursor = batch.next_cursor;
        if (cursor === null) break;
      }
    }
  };
  useEffect(() => {
    let gone = false;
    let number = 0;
    batches({ dry_run: true, limit: 1000 }, (batch) => {
      number += batch.matched;
      const more = number >= COUNTED;
      if (!gone) setFound({ number, counting: !more, more });
      return !gone && !more;
    }).then(() => gone || setFound((old) => ({ ...old, counting: false })), setProblem);
    return () => { gone = true; };
  }, []);

  async function act(form) {
    const body = { limit: AT_ONCE[what], ...(what === "cancel" ? { reason: form.get("reason") ?? "" } : {}) };
    let number = 0;
    await batches(body, (batch) => {
      number += batch.done;
      setActed(number);
    });
    done(`${count(number)} ${number === 1 ? "run was" : "runs were"} ${DONE[what]}.`);
  }
  const many = `${found.more ? `${count(COUNTED)} or more` : count(found.number)} ${found.number === 1 ? "run" : "runs"}`;
  return html`<${Ask} title=${what === "cancel" ? "Cancel all these runs?" : "Retry all these runs?"} danger=${what === "cancel"} close=${close} act=${act}
      verb=${what === "cancel" ? `Cancel ${many}` : `Retry ${many}`} ready=${!found.counting && found.number > 0}>
    <p role="status">${found.counting ? `Counting: ${count(found.number)} so far` : `${many} ${found.number === 1 && !found.more ? "is" : "are"} ${states.map(word).join(", or ")}${said}.`}</p>
    <p class="quiet">${what === "cancel" ? "They stop at once. What their steps have recorded stays." : "Each begins again as a new run with the results that it had. One that was retried so before is not retried again."}</p>
    ${what === "cancel" && html`<label class="field">Reason <input name="reason" maxlength="1000" /></label>`}
    ${acted !== null && html`<p role="status">${count(acted)} done.</p>`}
    <${Trouble} problem=${problem} />
  <//>`;
}
