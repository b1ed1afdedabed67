// The state of the board beside the model: temperature and throttling, asked for now and then.

import { find, icon } from "./elements.js";
import { health } from "./server.js";

// Looking at the sensors costs the board little, but not nothing.
const SECONDS = 10;

export class Board {
  #box = find("board");
  #timer = 0;

  /** `onstate(reachable)` is called after each look. */
  constructor(onstate) {
    this.onstate = onstate;
    document.addEventListener("visibilitychange", () => this.look());
  }

  async look() {
    clearTimeout(this.#timer);
    if (document.hidden) return;
    this.#timer = setTimeout(() => this.look(), SECONDS * 1000);
    try {
      this.#show((await health()).board ?? {});
      this.onstate(true);
    } catch (error) {
      this.#box.hidden = true;
      this.onstate(error.kind !== "gone");
    }
  }

  #show({ temperature_c: temperature = null, throttled = null }) {
    const now = throttled ?? [];
    const words = [
      ...(temperature === null ? [] : [`${Math.round(temperature)} °C`]),
      ...(now.length ? [now.length > 1 ? "throttled" : now[0]] : []),
    ].join(" · ");
    this.#box.hidden = !words;
    this.#box.classList.toggle("warns", now.length > 0);
    this.#box.title = now.length
      ? `The board runs slower than it can: ${now.join(", ")}. pitool doctor says what helps.`
      : "Temperature of the board";
    if (this.#box.textContent !== words) this.#box.replaceChildren(icon("heat"), words);
  }
}
