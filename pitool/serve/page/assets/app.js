// The page: which conversation is shown, and who is told when something happens.

import { Answers } from "./answering.js";
import { Board } from "./board.js";
import { Composer } from "./composer.js";
import {
  addAnswer, addQuestion, asJson, canContinue, fromJson, lastAnswer, lastQuestion, newConversation,
  takeBack, takeLastQuestion,
} from "./conversation.js";
import { askKey, confirmed, editSettings, isDark, requestSettings, setTheme } from "./dialogs.js";
import { download, find, icon, make, toast } from "./elements.js";
import { Messages } from "./messages.js";
import { key, models } from "./server.js";
import { onShortcut } from "./shortcuts.js";
import { Sidebar } from "./sidebar.js";
import { browser } from "./storage.js";
import { Store } from "./store.js";

const MODEL = "pitool.model";
const CHANGE_KEY = "The key that PITOOL_API_KEY is set to where pitool serve runs.";

class App {
  conversations = new Map();
  current = newConversation();
  #problem = null;
  #full = false;

  constructor(store, stored) {
    this.store = store;
    for (const conversation of stored) {
      takeBack(conversation); // a page was left before a new answer began
      this.conversations.set(conversation.id, conversation);
    }
    this.answers = new Answers(
      (conversation) => this.#save(conversation),
      (conversation) => store.leave(conversation),
    );
    this.messages = new Messages({
      regenerate: () => this.regenerate(),
      retry: () => this.regenerate(),
      resume: () => this.resume(),
      edit: () => this.startEditing(),
      fresh: () => this.fresh(),
      askKey: () => this.#enterKey(),
    });
    this.composer = new Composer(this);
    this.sidebar = new Sidebar(this);
    this.board = new Board((reachable) => this.#reached(reachable));
    this.answers.addEventListener("change", ({ detail }) => this.#grew(detail));
    this.answers.addEventListener("end", ({ detail }) => this.#ended(detail));
    store.onchange((id) => this.#changedElsewhere(id));
    this.#listen();
  }

  runs(conversation) {
    return this.answers.runs(conversation);
  }

  // -- conversations ---------------------------------------------------------------------------

  /** Show the conversation that the address names, else a new one. */
  route() {
    const named = this.conversations.get(location.hash.slice(1));
    if (named && named !== this.current) this.#show(named);
    else if (!named && location.hash.length < 2) this.#show(newConversation());
  }

  choose(id) {
    const conversation = this.conversations.get(id);
    if (conversation) this.#show(conversation);
    this.composer.focus();
  }

  fresh() {
    this.#show(newConversation());
    this.composer.focus();
  }

  rename(conversation, title) {
    Object.assign(conversation, { title, named: true });
    this.#save(conversation);
    if (conversation === this.current) this.#showTitle();
    this.sidebar.draw();
  }

  remove(conversation) {
    if (this.runs(conversation)) this.answers.stop(conversation);
    this.conversations.delete(conversation.id);
    this.store.delete(conversation.id);
    if (conversation === this.current) this.fresh();
    this.sidebar.draw();
  }

  restore(conversation) {
    this.conversations.set(conversation.id, conversation);
    this.#save(conversation);
    this.#show(conversation);
  }

  #show(conversation) {
    this.composer.cancelEditing();
    this.current = conversation;
    const address = this.conversations.has(conversation.id) ? `#${conversation.id}` : location.pathname;
    if (location.hash !== address && (location.hash || address.startsWith("#"))) {
      history.pushState(null, "", address);
    }
    this.messages.show(conversation, this.runs(conversation));
    this.#showTitle();
    this.#showState();
  }

  #showTitle() {
    find("title").textContent = this.current.title;
    document.title = this.current.turns.length ? `${this.current.title} · pitool` : "pitool";
  }

  #showState() {
    this.composer.set({ ready: !this.#problem && !find("model").disabled, runs: this.runs(this.current) });
    this.sidebar.draw();
  }

  async #save(conversation) {
    if (!this.conversations.has(conversation.id)) return; // deleted meanwhile
    try {
      await this.store.put(conversation);
    } catch {
      if (!this.#full) toast("This browser has no room for the conversation. Delete some, or export it.");
      this.#full = true;
    }
  }

  async #changedElsewhere(id) {
    const mine = this.conversations.get(id);
    if (mine && this.runs(mine)) return;
    const theirs = await this.store.get(id);
    if (theirs) this.conversations.set(id, theirs);
    else this.conversations.delete(id);
    if (theirs && this.current.id === id) {
      this.current = theirs;
      this.messages.show(theirs, lastAnswer(theirs)?.state === "running");
      this.#showTitle();
    }
    this.sidebar.draw();
  }

  // -- questions and answers -------------------------------------------------------------------

  /** Ask a question in the conversation that is shown; `editing`: in place of the last one. */
  send(text, editing) {
    const conversation = this.current;
    if (editing) takeLastQuestion(conversation);
    addQuestion(conversation, text);
    this.conversations.set(conversation.id, conversation);
    this.#answer(conversation);
  }

  stop() {
    this.answers.stop(this.current);
  }

  startEditing() {
    const question = lastQuestion(this.current);
    if (question && !this.runs(this.current)) this.composer.edit(question.content);
  }

  /** Answer the last question again. The old answer comes back if there is no new one. */
  regenerate() {
    const conversation = this.current;
    if (!lastQuestion(conversation) || this.runs(conversation)) return;
    this.composer.cancelEditing();
    const old = lastAnswer(conversation);
    if (old) conversation.turns.pop();
    this.#answer(conversation, old?.content ? old : null);
  }

  /** Go on with an answer that ended before its end. */
  resume() {
    const turn = lastAnswer(this.current);
    if (!turn || !canContinue(turn) || this.runs(this.current)) return;
    this.answers.run(this.current, turn, requestSettings());
    this.#show(this.current);
  }

  async #answer(conversation, old = null) {
    const turn = addAnswer(conversation, find("model").value, old);
    const done = this.answers.run(conversation, turn, requestSettings());
    this.#show(conversation);
    await done;
    if (turn.state !== "done" && takeBack(conversation)) {
      this.#save(conversation);
      if (conversation === this.current) this.#show(conversation);
      if (turn.problem) toast(turn.problem.message);
    }
  }

  #grew({ conversation, turn }) {
    if (conversation === this.current) this.messages.grow(turn);
  }

  #ended({ conversation, turn }) {
    if (conversation === this.current) this.messages.end(turn);
    this.#showState();
    if (turn.problem?.kind === "key") this.#enterKey(turn.problem.message);
    if (turn.problem?.kind === "gone") this.board.look();
    if (turn.problem?.kind === "model") this.loadModels();
  }

  // -- the server ------------------------------------------------------------------------------

  /** Ask for the models; what is wrong with that stays above the question until it is mended. */
  async loadModels() {
    try {
      this.#showModels(await models());
      this.#problem = null;
    } catch (error) {
      this.#problem = error;
    }
    this.#showProblem();
    this.#showState();
    if (this.#problem?.kind === "key") await this.#enterKey(this.#problem.message);
  }

  #showModels(names) {
    const select = find("model");
    const wanted = select.disabled ? browser.get(MODEL) : select.value;
    select.replaceChildren(...names.map((name) => make("option", { value: name, text: name })));
    if (names.includes(wanted)) select.value = wanted;
    select.disabled = !names.length;
    if (!names.length) select.append(make("option", { text: "No model" }));
    find("empty-title").textContent = names.length ? `Ask ${select.value}` : "There is no model yet";
  }

  #showProblem() {
    const again = () => this.loadModels();
    const enter = () => this.#enterKey(this.#problem.message);
    const [words, act] = this.#problem?.kind === "key" ? ["Enter the key", enter] : ["Try again", again];
    find("banner").replaceChildren(...(this.#problem ? [
      make("span", { text: this.#problem.message }),
      make("button", { type: "button", class: "link", text: words, onclick: act }),
    ] : []));
  }

  async #enterKey(reason = CHANGE_KEY) {
    if (!(await askKey(reason))) return;
    await this.loadModels();
    const turn = lastAnswer(this.current);
    if (!this.#problem && turn?.problem?.kind === "key") this.regenerate();
  }

  /** The server was looked at: one that comes back is asked for its models. */
  #reached(reachable) {
    if (reachable ? this.#problem?.kind === "gone" : !this.#problem) this.loadModels();
  }

  // -- the page --------------------------------------------------------------------------------

  #listen() {
    addEventListener("hashchange", () => this.route());
    addEventListener("popstate", () => this.route());
    // What is shown for a moment stands above the question, however high that is.
    const dock = document.querySelector(".dock");
    new ResizeObserver(() =>
      document.documentElement.style.setProperty("--dock", `${dock.offsetHeight}px`)).observe(dock);
    document.querySelector(".skip").addEventListener("click", (event) => {
      event.preventDefault(); // the address names the conversation
      this.composer.focus();
    });
    find("model").addEventListener("change", ({ target }) => {
      browser.set(MODEL, target.value);
      find("empty-title").textContent = `Ask ${target.value}`;
    });
    find("open-settings").addEventListener("click", () => editSettings());
    find("open-shortcuts").addEventListener("click", () => confirmed(find("shortcuts")));
    find("theme").addEventListener("click", () => setTheme(isDark() ? "light" : "dark"));
    document.addEventListener("theme", showTheme);
    find("change-key").addEventListener("click", () => this.#enterKey());
    find("forget-key").addEventListener("click", () => {
      key.forget();
      find("forget-key").hidden = true;
      this.loadModels();
    });
    find("export-all").addEventListener("click", () =>
      download("pitool-conversations.json", "application/json", asJson([...this.conversations.values()])));
    find("import").addEventListener("click", () => find("import-file").click());
    find("import-file").addEventListener("change", ({ target }) => this.#import(target));
    onShortcut({
      escape: () => this.#escape(),
      fresh: () => this.fresh(),
      regenerate: () => this.regenerate(),
      model: () => find("model").focus(),
      list: () => this.sidebar.focus(),
      shortcuts: () => confirmed(find("shortcuts")),
    });
  }

  #escape() {
    if (this.sidebar.opened) this.sidebar.close();
    else if (this.composer.editing) this.composer.cancelEditing();
    else if (this.runs(this.current)) this.stop();
  }

  async #import(input) {
    const [file] = input.files;
    input.value = "";
    find("settings").close(""); // what comes of it is said, and seen, beside it
    try {
      const read = fromJson(await file.text());
      for (const conversation of read) {
        this.conversations.set(conversation.id, conversation);
        await this.#save(conversation);
      }
      toast(`Imported ${read.length} ${read.length === 1 ? "conversation" : "conversations"}.`);
    } catch (error) {
      toast(error.message);
    }
    this.sidebar.draw();
  }
}

function showTheme() {
  const words = isDark() ? "Light theme" : "Dark theme";
  Object.assign(find("theme"), { title: words, ariaLabel: words });
  find("theme").replaceChildren(icon(isDark() ? "light" : "dark"));
}

const store = await Store.open();
const app = new App(store, await store.all());
showTheme();
app.route();
if (!store.lasting) toast("This browser keeps nothing for this page: conversations last until you close it.");
await app.loadModels();
app.board.look();
