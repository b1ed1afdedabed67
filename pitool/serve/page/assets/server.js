// What the page asks of the server, and a sentence for each way in which that may fail.

import { browser, tab } from "./storage.js";

const KEY = "pitool.key";

/** Something that did not work: `message` is for the user, `kind` for the program.
 *
 * Kinds: key, busy, gone, full, model, refused, broken, server. `after`: seconds to wait first.
 */
export class Failure extends Error {
  constructor(kind, message, after = null) {
    super(message);
    this.kind = kind;
    this.after = after;
  }
}

const GONE =
  "The server cannot be reached. Check that pitool serve is running and that this device is on " +
  "its network, then try again.";
const BROKEN =
  "The connection broke off in the middle of the answer. What had arrived is kept; continue it, " +
  "or answer again.";
const FULL =
  "This conversation has become longer than the model’s context. Start a new conversation, or " +
  "shorten your last question.";

/** The API key of this tab, else the one that this browser remembers. */
export const key = {
  get: () => tab.get(KEY) || browser.get(KEY),
  set(value, keep) {
    this.forget();
    (keep ? browser : tab).set(KEY, value);
  },
  forget() {
    tab.remove(KEY);
    browser.remove(KEY);
  },
};

/** Return the names of the models. */
export async function models() {
  const listed = await json(await ask("v1/models"));
  return (listed.data ?? []).map((model) => model.id);
}

/** Return the state of the server and its board; a worker that is down is told too. */
export async function health() {
  return json(await ask("health", {}, [503]));
}

/** Ask for an answer and yield its pieces: `{text}`, `{reasoning}`, and at its end `{finish}`,
 * `{timings}`, `{usage}`. Throws a Failure, or an AbortError when `signal` stopped it. */
export async function* chat(body, signal) {
  const response = await ask("v1/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ ...body, stream: true, stream_options: { include_usage: true } }),
    signal,
  });
  let ended = false;
  for await (const data of events(response, signal)) {
    if (data === "[DONE]") {
      ended = true;
      break;
    }
    yield* pieces(JSON.parse(data));
  }
  if (!ended) throw new Failure("broken", BROKEN);
}

function* pieces(event) {
  if (event.error) throw failureOf(event.error, 200);
  const choice = event.choices?.[0];
  const { content, reasoning_content: reasoning } = choice?.delta ?? {};
  if (reasoning) yield { reasoning };
  if (content) yield { text: content };
  if (choice?.finish_reason) yield { finish: choice.finish_reason };
  if (event.timings) yield { timings: event.timings };
  if (event.usage) yield { usage: event.usage };
}

/** Yield the data of server-sent events. */
async function* events(response, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const parts = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const lines = part.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length) yield lines.map((line) => line.slice(5).trimStart()).join("\n");
      }
    }
  } catch (error) {
    if (signal.aborted) throw error;
    if (error instanceof Failure) throw error;
    throw new Failure("broken", BROKEN);
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function ask(path, options = {}, fine = []) {
  const sent = key.get();
  const headers = { ...options.headers, ...(sent ? { Authorization: `Bearer ${sent}` } : {}) };
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw new Failure("gone", GONE);
  }
  if (response.ok || fine.includes(response.status)) return response;
  const document_ = await response.json().catch(() => ({}));
  throw failureOf(document_.error ?? {}, response.status, response.headers.get("Retry-After"));
}

async function json(response) {
  try {
    return await response.json();
  } catch {
    throw new Failure("server", "The server’s reply is not one of pitool. Check the address of this page.");
  }
}

/** Return the sentence for an error of OpenAI's form, or for a status without one. */
function failureOf(error, status, retry = null) {
  const said = sentence(error.message ?? "");
  const after = Number(retry) > 0 ? Number(retry) : null;
  if (status === 401) {
    return new Failure("key", key.get()
      ? "The server does not accept this API key. Enter the one that PITOOL_API_KEY is set to where pitool serve runs."
      : "This server asks for an API key. It is the one that PITOOL_API_KEY is set to where pitool serve runs.");
  }
  if (error.code === "context_length_exceeded") return new Failure("full", FULL);
  if (status === 413) return new Failure("full", "The conversation is too long to be sent. Start a new one.");
  if (error.code === "server_busy" || status === 429) {
    const wait = after ? `Try again in ${after} seconds.` : "Try again in a moment.";
    return new Failure("busy", `The server has as many requests as it takes. ${wait}`, after);
  }
  if (status === 404 && error.code === "model_not_found") {
    return new Failure("model", "The server no longer has this model. Choose another one at the top.");
  }
  if (error.code === "forbidden_origin") {
    return new Failure("refused", `${said} A proxy in front of pitool has to pass on the Host header.`);
  }
  if (status === 502 || status === 504) {
    return new Failure("gone", "The proxy gets no answer from pitool serve. Check that it is running, then try again.");
  }
  if (status >= 500 || status === 200) {
    return new Failure("server", said || "The server failed to answer. Try again, and look at its log if that does not help.");
  }
  return new Failure("refused", said || `The server refused the request (status ${status}).`);
}

/** Make a sentence of an error message: they begin in lower case and end without a full stop. */
function sentence(message) {
  const text = message.trim();
  if (!text) return "";
  const begun = text[0].toUpperCase() + text.slice(1);
  return /[.!?]$/.test(begun) ? begun : `${begun}.`;
}
