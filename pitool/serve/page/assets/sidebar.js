// The list of conversations: choose, rename, export, delete with undo; on a phone a drawer.

import { asJson, asMarkdown, fileName } from "./conversation.js";
import { ask } from "./dialogs.js";
import { download, find, icon, make, toast } from "./elements.js";

const NARROW = matchMedia("(max-width: 800px)");
const DAY = 86_400_000;

export class Sidebar {
  #nav = find("sidebar");
  #list = find("conversations");
  #menu = find("actions");
  #for = null;

  /** `owner`: {conversations, current, runs, choose, fresh, rename, remove, restore}. */
  constructor(owner) {
    this.owner = owner;
    find("new").addEventListener("click", () => {
      this.close();
      owner.fresh();
    });
    find("open-sidebar").addEventListener("click", () => this.open());
    find("close-sidebar").addEventListener("click", () => this.close());
    find("backdrop").addEventListener("click", () => this.close());
    this.#menu.addEventListener("click", ({ target }) => this.#do(target.dataset?.do));
    NARROW.addEventListener("change", () => this.close());
    this.close();
  }

  get opened() {
    return NARROW.matches && this.#nav.classList.contains("open");
  }

  open() {
    this.#slide(true);
    (this.#list.querySelector("[aria-current] , .chosen") ?? find("new")).focus();
  }

  close() {
    const was = this.opened;
    this.#slide(false);
    if (was) find("open-sidebar").focus();
  }

  /** Give the list the focus, wherever it is. */
  focus() {
    if (NARROW.matches) this.open();
    else (this.#list.querySelector("[aria-current]") ?? this.#list.querySelector("a") ?? find("new")).focus();
  }

  /** Draw the list, newest first, in groups by age. */
  draw() {
    const { conversations, current } = this.owner;
    const shown = [...conversations.values()].sort((a, b) => b.updated - a.updated);
    find("no-conversations").hidden = shown.length > 0;
    let group = null;
    const rows = [];
    for (const conversation of shown) {
      const age = ageOf(conversation.updated);
      if (age !== group) rows.push(make("li", { class: "age", text: age }));
      group = age;
      rows.push(this.#row(conversation, conversation.id === current?.id));
    }
    const focused = document.activeElement?.dataset?.id;
    this.#list.replaceChildren(...rows);
    if (focused) this.#list.querySelector(`a[data-id="${focused}"]`)?.focus();
  }

  #row(conversation, current) {
    const choose = (event) => {
      event.preventDefault();
      this.close();
      this.owner.choose(conversation.id);
    };
    const runs = this.owner.runs(conversation);
    return make(
      "li", { class: current ? "entry current" : "entry" },
      make(
        "a",
        { href: `#${conversation.id}`, "data-id": conversation.id, onclick: choose, title: conversation.title,
          "aria-current": current ? "page" : null },
        make("span", { class: "name", text: conversation.title }),
        runs ? make("span", { class: "runs", role: "img", "aria-label": "is being answered" }) : null,
      ),
      make(
        "button",
        { type: "button", class: "icon-button more", "aria-label": `Actions for ${conversation.title}`,
          "aria-haspopup": "true", onclick: ({ currentTarget }) => this.#openMenu(conversation, currentTarget) },
        icon("more"),
      ),
    );
  }

  #openMenu(conversation, button) {
    this.#for = conversation;
    this.#menu.showPopover();
    const at = button.getBoundingClientRect();
    const { width, height } = this.#menu.getBoundingClientRect();
    const top = at.bottom + height + 8 > innerHeight ? at.top - height - 4 : at.bottom + 4;
    this.#menu.style.top = `${Math.max(8, top)}px`;
    this.#menu.style.left = `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`;
    this.#menu.querySelector("button").focus();
  }

  async #do(what) {
    const conversation = this.#for;
    if (!what || !conversation) return;
    this.#menu.hidePopover();
    if (what === "markdown") {
      download(`${fileName(conversation)}.md`, "text/markdown", asMarkdown(conversation));
    } else if (what === "json") {
      download(`${fileName(conversation)}.json`, "application/json", asJson([conversation]));
    } else if (what === "rename") {
      const title = await ask(conversation.title);
      if (title) this.owner.rename(conversation, title);
    } else if (what === "delete") {
      this.owner.remove(conversation);
      toast(`Deleted “${conversation.title}”.`, {
        action: "Undo", onaction: () => this.owner.restore(conversation), seconds: 10,
      });
    }
  }

  #slide(open) {
    this.#nav.classList.toggle("open", open);
    find("backdrop").hidden = !open || !NARROW.matches;
    find("open-sidebar").setAttribute("aria-expanded", String(open));
    find("page").inert = open && NARROW.matches;
    this.#nav.inert = !open && NARROW.matches;
  }
}

function ageOf(time) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  if (time >= midnight) return "Today";
  if (time >= midnight - DAY) return "Yesterday";
  if (time >= midnight - 6 * DAY) return "This week";
  return "Earlier";
}
