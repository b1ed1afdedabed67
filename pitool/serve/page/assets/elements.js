// Small helpers for elements. Text is always set as text: nothing here takes HTML.

export const find = (id) => document.getElementById(id);

/** Make an element; a property that is a function is a listener (`onclick`). */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "text") element.textContent = value;
    else if (typeof value === "boolean") element.toggleAttribute(name, value);
    else if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** Make a drawing of the sprite in index.html; a screen reader passes over it. */
export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const use = document.createElementNS(space, "use");
  svg.setAttribute("aria-hidden", "true");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Make a button with an icon and, unless `bare`, its words beside it. */
export function iconButton(name, words, onclick, { bare = false, ...more } = {}) {
  const label = bare ? { "aria-label": words, title: words } : {};
  return make("button", { type: "button", onclick, ...label, ...more }, icon(name), bare ? null : words);
}

/** Say something for some seconds, with a button where something can be done about it. */
export function toast(words, { action, onaction, seconds = 6 } = {}) {
  const shown = make("div", { class: "toast" }, make("span", { text: words }));
  const timer = setTimeout(() => shown.remove(), seconds * 1000);
  if (action) {
    const act = () => {
      clearTimeout(timer);
      shown.remove();
      onaction();
    };
    shown.append(make("button", { type: "button", class: "link", text: action, onclick: act }));
  }
  find("toasts").append(shown);
}

/** Have a screen reader read this when it is done with what it reads. */
export function announce(words) {
  if (words.trim()) find("live").append(make("p", { text: words }));
}

/** Copy a text; true if that worked. Over plain HTTP browsers have no clipboard API. */
export async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // Not allowed: the old way may be.
    }
  }
  const before = document.activeElement;
  const area = make("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  before?.focus();
  return done;
}

/** Make a button that copies what `text` returns, and says so. */
export function copyButton(text, words = "Copy", properties = {}) {
  const button = iconButton("copy", words, async () => {
    const done = await copy(text());
    button.replaceChildren(icon(done ? "done" : "copy"), done ? "Copied" : "Could not copy");
    setTimeout(() => button.replaceChildren(icon("copy"), words), 2000);
  }, properties);
  return button;
}

/** Give a file to the user. */
export function download(name, type, text) {
  const address = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: address, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}
