// A chat of the real `ai` package, as useChat drives it, without React.
// node chat.mjs API CHAT_ID send|cut|resume TEXT - prints a JSON line whenever the answer changes, and one at the end.
import { AbstractChat, DefaultChatTransport } from "ai";

const [api, id, mode, text] = process.argv.slice(2);
const user = { id: `m-${id}`, role: "user", parts: [{ type: "text", text }] };
const say = (value) => console.log(JSON.stringify(value));
const textOf = (message) =>
  message.parts.filter((part) => part.type === "text").map((part) => part.text).join("");

class State {
  status = "ready";
  error = undefined;
  messages = mode === "resume" ? [user] : [];
  pushMessage = (message) => this.set([...this.messages, message]);
  popMessage = () => this.set(this.messages.slice(0, -1));
  replaceMessage = (index, message) => this.set(this.messages.with(index, message));
  snapshot = (value) => structuredClone(value);
  set(messages) {
    this.messages = structuredClone(messages);
    const last = this.messages.at(-1);
    if (last?.role === "assistant") {
      say({ text: textOf(last), id: last.id });
      if (mode === "cut" && textOf(last)) chat.stop();
    }
  }
}
class Chat extends AbstractChat {}

const notes = [];
let finish;
const chat = new Chat({
  id,
  state: new State(),
  transport: new DefaultChatTransport({ api }),
  onData: (part) => notes.push(part),
  onError: () => {},
  onFinish: (event) => (finish = event),
});
if (mode === "resume") await chat.resumeStream();
else await chat.sendMessage({ ...user });
const last = chat.messages.at(-1);
say({
  end: chat.status,
  error: chat.error?.message ?? null,
  aborted: finish?.isAbort ?? false,
  reason: finish?.finishReason ?? null,
  messages: chat.messages.length,
  text: last?.role === "assistant" ? textOf(last) : null,
  approvals: (last?.parts ?? []).filter((part) => part.type === "data-approval").map((part) => part.data),
  notes: notes.filter((part) => part.transient).map((part) => part.data.message),
});
