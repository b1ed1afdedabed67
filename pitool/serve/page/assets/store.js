// Conversations in the browser's IndexedDB, one record each, and what other tabs did to them.

import { browser } from "./storage.js";

const NAME = "pitool";
const TABLE = "conversations";
const LEFT = "pitool.left.";

export class Store {
  #database;
  #memory = new Map();
  #channel = "BroadcastChannel" in window ? new BroadcastChannel(NAME) : null;

  /** `database`: null where the browser keeps nothing; then conversations last as long as the tab. */
  constructor(database) {
    this.#database = database;
  }

  static async open() {
    try {
      const request = indexedDB.open(NAME, 1);
      request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: "id" });
      const store = new Store(await finished(request));
      await store.#recover();
      return store;
    } catch {
      return new Store(null);
    }
  }

  get lasting() {
    return this.#database !== null;
  }

  /** Call `listener(id)` when another tab changed a conversation. */
  onchange(listener) {
    if (this.#channel) this.#channel.onmessage = ({ data }) => listener(data);
  }

  async all() {
    if (!this.#database) return [...this.#memory.values()];
    return finished(this.#table("readonly").getAll());
  }

  async get(id) {
    if (!this.#database) return this.#memory.get(id);
    return finished(this.#table("readonly").get(id));
  }

  /** Keep a conversation while the page is left, when the database is no longer waited for. */
  leave(conversation) {
    browser.set(LEFT + conversation.id, JSON.stringify(conversation));
  }

  /** Take what pages that were left have kept, unless there is newer. */
  async #recover() {
    for (const name of browser.names(LEFT)) {
      const left = JSON.parse(browser.get(name));
      const stored = await this.get(left.id);
      if (!stored || stored.updated <= left.updated) await this.put(left);
      browser.remove(name);
    }
  }

  async put(conversation) {
    if (!this.#database) {
      this.#memory.set(conversation.id, conversation);
      return;
    }
    await finished(this.#table("readwrite").put(conversation));
    this.#channel?.postMessage(conversation.id);
  }

  async delete(id) {
    this.#memory.delete(id);
    if (!this.#database) return;
    await finished(this.#table("readwrite").delete(id));
    this.#channel?.postMessage(id);
  }

  #table(mode) {
    return this.#database.transaction(TABLE, mode).objectStore(TABLE);
  }
}

function finished(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("blocked"));
  });
}
