// Small texts that the browser keeps: `browser` until they are removed, `tab` until it is closed.
// Where cookies are blocked there is neither; then they hold until the page is closed.

class Storage {
  #open;
  #memory = new Map();

  constructor(open) {
    this.#open = open;
  }

  get(name) {
    try {
      return this.#open().getItem(name);
    } catch {
      return this.#memory.get(name) ?? null;
    }
  }

  set(name, text) {
    try {
      this.#open().setItem(name, text);
    } catch {
      this.#memory.set(name, text);
    }
  }

  remove(name) {
    this.#memory.delete(name);
    try {
      this.#open().removeItem(name);
    } catch {
      // There is none.
    }
  }
}

export const browser = new Storage(() => localStorage);
export const tab = new Storage(() => sessionStorage);
