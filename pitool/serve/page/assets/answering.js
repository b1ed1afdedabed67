// Runs answers: pieces of a stream go into a turn of a conversation, which is saved as it grows.

import { chat, Failure } from "./server.js";
import { messages } from "./conversation.js";

// Milliseconds between two writes of a growing answer: what a crash of the browser may cost.
const BETWEEN_WRITES = 400;
const STATES = { stop: "done", length: "cut", tool_calls: "done", content_filter: "done" };

export class Answers extends EventTarget {
  #running = new Map();
  #save;
  #leave;

  /** `save(conversation)` keeps a conversation, `leave(conversation)` while the page is left.
   *
   * Events: "change" and "end", with `detail`. */
  constructor(save, leave) {
    super();
    this.#save = save;
    this.#leave = leave;
    addEventListener("pagehide", () => this.#interrupt());
  }

  runs(conversation) {
    return conversation !== null && this.#running.has(conversation.id);
  }

  stop(conversation) {
    this.#running.get(conversation.id)?.controller.abort();
  }

  /** Fill the turn, which is the last of the conversation; text that is there is continued. */
  async run(conversation, turn, settings) {
    const controller = new AbortController();
    const begun = performance.now();
    const sent = messages(conversation, turn, settings.system);
    const goesOn = turn.content !== "";
    if (goesOn) sent.push({ role: "assistant", content: turn.content });
    Object.assign(turn, { state: "running", problem: null, waiting: true });
    this.#running.set(conversation.id, { conversation, turn, controller });
    this.#tell("change", conversation, turn);
    let written = this.#write(conversation);
    let finish = null;
    try {
      for await (const piece of chat({ ...settings.body, model: turn.model, messages: sent }, controller.signal)) {
        if (turn.waiting) turn.waiting = false;
        if (piece.reasoning) turn.reasoning += piece.reasoning;
        if (piece.text) {
          turn.thought ??= turn.reasoning ? (performance.now() - begun) / 1000 : null;
          turn.content += piece.text;
          turn.before = null;
        }
        if (piece.finish) finish = piece.finish;
        if (piece.timings) turn.figures = figures(piece.timings);
        if (performance.now() - written > BETWEEN_WRITES) written = this.#write(conversation);
        this.#tell("change", conversation, turn);
      }
      turn.state = STATES[finish] ?? "done";
      turn.before = null;
    } catch (error) {
      this.#fail(turn, error, controller.signal);
    } finally {
      turn.waiting = false;
      this.#running.delete(conversation.id);
      this.#write(conversation);
      this.#tell("end", conversation, turn);
    }
  }

  #fail(turn, error, signal) {
    if (signal.aborted) {
      turn.state = turn.state === "interrupted" ? "interrupted" : "stopped";
      return;
    }
    const known = error instanceof Failure
      ? error
      : new Failure("server", "The server’s reply could not be read. Try again.");
    turn.state = known.kind === "full" ? "full" : "failed";
    turn.problem = { kind: known.kind, message: known.message, after: known.after };
  }

  /** The page goes away in mid-answer: keep what there is. */
  #interrupt() {
    for (const { conversation, turn, controller } of this.#running.values()) {
      turn.state = "interrupted";
      conversation.updated = Date.now();
      this.#leave(conversation);
      controller.abort();
    }
  }

  #write(conversation) {
    conversation.updated = Date.now();
    this.#save(conversation);
    return performance.now();
  }

  #tell(name, conversation, turn) {
    this.dispatchEvent(new CustomEvent(name, { detail: { conversation, turn } }));
  }
}

/** What is shown of llama.cpp's timings: tokens, tokens per second, seconds. */
function figures(timings) {
  return {
    tokens: timings.predicted_n ?? null,
    rate: timings.predicted_per_second ?? null,
    first: timings.ttft_ms === undefined ? null : timings.ttft_ms / 1000,
    read: timings.prompt_n ?? null,
    reused: timings.cache_n ?? null,
  };
}
