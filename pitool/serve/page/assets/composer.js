// The box for the question: sends with Enter, grows with its text, and edits the last question.

import { find } from "./elements.js";
import { tab } from "./storage.js";

const DRAFT = "pitool.draft";

export class Composer {
  #box = find("prompt");
  #ready = false;
  #runs = false;
  #before = "";

  /** `owner`: {send(text), stop(), startEditing()}; `editing` is whether the last question is edited. */
  constructor(owner) {
    this.owner = owner;
    this.editing = false;
    this.#box.value = tab.get(DRAFT) ?? "";
    this.#box.addEventListener("input", () => this.#changed());
    this.#box.addEventListener("keydown", (event) => this.#key(event));
    find("composer").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    find("stop").addEventListener("click", () => owner.stop());
    find("cancel-editing").addEventListener("click", () => this.cancelEditing());
    this.#changed();
  }

  focus() {
    this.#box.focus();
  }

  /** `ready`: a question could be sent now; `runs`: an answer is running, which can be stopped. */
  set({ ready, runs }) {
    const hadFocus = [find("stop"), find("send")].includes(document.activeElement);
    this.#ready = ready;
    this.#runs = runs;
    find("stop").hidden = !runs;
    find("send").hidden = runs;
    if (hadFocus) this.focus(); // the button that had it is gone
    this.#changed();
  }

  edit(text) {
    if (!this.editing) this.#before = this.#box.value;
    this.editing = true;
    find("editing").hidden = false;
    this.#set(text);
    this.focus();
    this.#box.setSelectionRange(text.length, text.length);
  }

  cancelEditing() {
    if (!this.editing) return;
    this.#endEditing(this.#before);
    this.focus();
  }

  #endEditing(text) {
    this.editing = false;
    find("editing").hidden = true;
    this.#set(text);
  }

  #send() {
    const text = this.#box.value.trim();
    if (!text || !this.#ready || this.#runs) return;
    const { editing } = this;
    this.#endEditing("");
    this.owner.send(text, editing);
  }

  #set(text) {
    this.#box.value = text;
    this.#changed();
  }

  #changed() {
    const text = this.#box.value;
    find("send").disabled = !this.#ready || !text.trim();
    if (!this.editing) tab.set(DRAFT, text);
    if (!CSS.supports("field-sizing", "content")) {
      this.#box.style.height = "auto";
      this.#box.style.height = `${this.#box.scrollHeight}px`;
    }
  }

  #key(event) {
    if (event.isComposing) return; // Enter takes a proposal of an input method
    if (event.key === "Enter" && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      this.#send();
    } else if (event.key === "ArrowUp" && !this.#box.value && !this.#runs) {
      event.preventDefault();
      this.owner.startEditing();
    }
  }
}
