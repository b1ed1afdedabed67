// The conversation on the screen: an article for each turn, and what can be done with the last.

import { canContinue, lastAnswer, lastQuestion } from "./conversation.js";
import { announce, copyButton, find, iconButton, make } from "./elements.js";
import { Prose } from "./markdown.js";

// Nearer to the end than so many pixels, the view follows a growing answer.
const NEAR = 80;
const ENDINGS = {
  stopped: "Stopped.",
  interrupted: "Interrupted when the page was closed or reloaded.",
  cut: "Cut off at the limit of tokens, or at the end of the model’s context.",
  full: "The model’s context is full. Start a new conversation, or shorten your last question.",
};

export class Messages {
  #box = find("messages");
  #scroller = find("scroller");
  #views = new Map();
  #conversation = null;
  #follow = true;
  #frame = 0;

  /** `actions`: {regenerate, resume, edit, retry, fresh, askKey}, each called without arguments. */
  constructor(actions) {
    this.actions = actions;
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    find("to-end").addEventListener("click", () => this.toEnd());
  }

  /** Show a conversation from its start; `running`: its last answer grows in this tab. */
  show(conversation, running) {
    this.#conversation = conversation;
    this.#views.clear();
    this.#box.replaceChildren();
    find("live").replaceChildren();
    const empty = !conversation.turns.length;
    find("empty").hidden = !empty;
    this.#box.hidden = empty;
    const last = conversation.turns.at(-1);
    for (const turn of conversation.turns) {
      const view = turn.role === "user" ? new Question(turn, this) : new Answer(turn, this);
      this.#views.set(turn, view);
      this.#box.append(view.element);
      view.update({ running: running && turn === last });
    }
    this.dress(running);
    this.toEnd();
  }

  /** An answer grew; drawn once a frame, however many pieces come. */
  grow(turn) {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.#views.get(turn)?.update({ running: turn.state === "running" });
      if (this.#follow) this.#toEndNow();
    });
  }

  /** An answer ended. */
  end(turn) {
    this.#views.get(turn)?.update({ running: false });
    this.dress(false);
    if (this.#follow) this.#toEndNow();
  }

  /** Give the last question and answer their buttons. */
  dress(running) {
    const question = lastQuestion(this.#conversation);
    const answer = lastAnswer(this.#conversation);
    for (const [turn, view] of this.#views) {
      view.dress({ last: turn === question || turn === answer, running });
    }
  }

  toEnd() {
    this.#follow = true;
    this.#toEndNow();
    find("to-end").hidden = true;
  }

  #toEndNow() {
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    this.#follow = scrollHeight - scrollTop - clientHeight < NEAR;
    find("to-end").hidden = this.#follow;
  }
}

class Question {
  constructor(turn, messages) {
    this.turn = turn;
    this.messages = messages;
    this.tools = make("div", { class: "tools" });
    this.element = make(
      "article", { class: "question" },
      make("h2", { class: "unseen", text: "You" }),
      make("div", { class: "bubble", text: turn.content }),
      this.tools,
    );
  }

  update() {}

  dress({ last, running }) {
    const { edit } = this.messages.actions;
    const quiet = { class: "quiet-button" };
    this.tools.replaceChildren(
      copyButton(() => this.turn.content, "Copy", quiet),
      ...(last && !running ? [iconButton("edit", "Edit", edit, quiet)] : []),
    );
  }
}

class Answer {
  #said = 0;
  #clock = 0;
  #ran = false;

  constructor(turn, messages) {
    this.turn = turn;
    this.messages = messages;
    this.body = make("div", { class: "prose" });
    this.prose = new Prose(this.body);
    this.waiting = make("p", { class: "waiting", hidden: true });
    this.thoughts = make("div", { class: "thoughts" });
    this.summary = make("summary");
    this.reasoning = make("details", { class: "reasoning", hidden: true }, this.summary, this.thoughts);
    this.ending = make("p", { class: "ending", hidden: true });
    this.problem = make("div", { class: "problem", hidden: true });
    this.figures = make("p", { class: "figures" });
    this.buttons = make("div", { class: "tools" });
    this.element = make(
      "article", { class: "answer" },
      make("h2", { class: "by", text: turn.model || "Model" }),
      this.reasoning, this.body, this.waiting, this.ending, this.problem,
      make("div", { class: "foot" }, this.buttons, this.figures),
    );
  }

  /** Show what the turn holds now. */
  update({ running }) {
    const { turn } = this;
    const ended = this.#ran && !running;
    this.#ran = running;
    this.element.classList.toggle("running", running);
    this.element.setAttribute("aria-busy", String(running));
    const blocks = this.prose.show(turn.content, { whole: !running });
    this.#showReasoning(running);
    this.#showWaiting(running);
    this.#showEnding(running);
    if (running) this.#speak(blocks.slice(0, -1));
    if (ended) this.#speakEnd(blocks);
  }

  dress({ last, running }) {
    const { regenerate, resume } = this.messages.actions;
    const quiet = { class: "quiet-button" };
    const buttons = [];
    if (this.turn.content && !(last && running)) {
      buttons.push(copyButton(() => this.turn.content, "Copy", quiet));
    }
    if (last && !running) {
      buttons.push(iconButton("again", "Answer again", regenerate, quiet));
      if (canContinue(this.turn)) buttons.push(iconButton("on", "Continue", resume, quiet));
    }
    this.buttons.replaceChildren(...buttons);
    this.figures.textContent = last && running ? "" : figuresOf(this.turn.figures);
    this.problem.querySelector(".buttons")?.toggleAttribute("hidden", !last);
  }

  #showReasoning(running) {
    const { reasoning, content, thought } = this.turn;
    this.reasoning.hidden = !reasoning;
    this.thoughts.textContent = reasoning;
    const thinks = running && !content;
    this.summary.textContent = thinks
      ? "Thinking…"
      : thought ? `Thought for ${duration(thought)}` : "Thoughts";
    this.reasoning.classList.toggle("thinks", thinks);
  }

  /** Before the first piece: how long that takes, as a prompt may take a minute on a board. */
  #showWaiting(running) {
    const waits = running && this.turn.waiting === true;
    this.waiting.hidden = !waits;
    if (waits && !this.#clock) {
      const begun = performance.now();
      const tick = () => {
        const seconds = Math.floor((performance.now() - begun) / 1000);
        this.waiting.textContent = seconds < 2 ? "Waiting for the model" : `Waiting for the model, ${duration(seconds)}`;
      };
      tick();
      this.#clock = setInterval(tick, 1000);
    } else if (!waits && this.#clock) {
      clearInterval(this.#clock);
      this.#clock = 0;
    }
  }

  #showEnding(running) {
    const { problem, content } = this.turn;
    // A turn that nothing in this tab fills any more was cut off by a crash.
    const state = this.turn.state === "running" && !running ? "interrupted" : this.turn.state;
    const words = running ? "" : ENDINGS[state] ?? "";
    this.ending.textContent = words;
    this.ending.hidden = !words || problem !== null;
    this.problem.hidden = running || problem === null;
    if (!running && problem) this.#showProblem(problem);
    else if (!running && !words && !content) {
      this.ending.textContent = "The model gave an empty answer.";
      this.ending.hidden = false;
    }
  }

  #showProblem(problem) {
    const { retry, fresh, askKey } = this.messages.actions;
    const button = (text, onclick) => make("button", { type: "button", class: "plain", text, onclick });
    const help = {
      key: () => button("Enter the key", askKey),
      full: () => button("New conversation", fresh),
    }[problem.kind];
    this.problem.replaceChildren(
      make("p", { text: problem.message }),
      make("div", { class: "buttons start" }, help ? help() : button("Try again", retry)),
    );
  }

  /** Read aloud the paragraphs that are complete: not every token, and not only the end. */
  #speak(blocks) {
    for (const block of blocks.slice(this.#said)) announce(block);
    this.#said = Math.max(this.#said, blocks.length);
  }

  #speakEnd(blocks) {
    this.#speak(blocks);
    const { problem, state } = this.turn;
    announce(problem?.message ?? ENDINGS[state] ?? "End of the answer.");
  }
}

function figuresOf(figures) {
  if (!figures) return "";
  const { rate, first, tokens } = figures;
  return [
    rate ? `${number(rate)} tokens/s` : null,
    first === null ? null : `first token after ${duration(first)}`,
    tokens ? `${tokens} ${tokens === 1 ? "token" : "tokens"}` : null,
  ].filter(Boolean).join(" · ");
}

const number = (value) => (value < 10 ? value.toFixed(1) : value.toFixed(0));

function duration(seconds) {
  if (seconds < 0.1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 1) return `${seconds.toFixed(2)} s`;
  if (seconds < 10) return `${seconds.toFixed(1).replace(/\.0$/, "")} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
}
