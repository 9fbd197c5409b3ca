// Reads one run's output with a front end's own reader: node read.mjs ai|ag-ui URL - prints what it ends with.
const [kind, url] = process.argv.slice(2);
const say = (value) => console.log(JSON.stringify(value));

if (kind === "ai") {
  const { DefaultChatTransport, readUIMessageStream } = await import("ai");
  const transport = new DefaultChatTransport({ prepareReconnectToStreamRequest: () => ({ api: url }) });
  const stream = await transport.reconnectToStream({ chatId: "any" });
  const errors = [];
  let message = null;
  if (stream !== null)
    for await (message of readUIMessageStream({ stream, onError: (error) => errors.push(error.message) })) say({});
  const texts = (message?.parts ?? []).filter((part) => part.type === "text").map((part) => part.text);
  say({ active: stream !== null, id: message?.id ?? null, text: texts.join(""), errors });
} else {
  const { HttpAgent } = await import("@ag-ui/client");
  const get = { fetch: (target, init) => fetch(target, { headers: { accept: "text/event-stream" }, signal: init.signal }) };
  const agent = new HttpAgent({ url, ...get });
  const seen = [];
  let failure = null;
  let result = null;
  try {
    ({ result } = await agent.runAgent({}, { onEvent: ({ event }) => void seen.push(event.type) }));
  } catch (error) {
    failure = error.message;
  }
  say({ text: agent.messages.map((message) => message.content).join(""), seen, failure, result });
}
