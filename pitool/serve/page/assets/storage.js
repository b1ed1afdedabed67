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

  /** Return the names that begin with this. */
  names(beginning) {
    let all = [...this.#memory.keys()];
    try {
      all = Object.keys(this.#open());
    } catch {
      // Those of this page.
    }
    return all.filter((name) => name.startsWith(beginning));
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
