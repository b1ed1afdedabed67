// Keys that work everywhere on the page. None is a bare letter, which screen readers use.

const ALT = { KeyN: "fresh", KeyR: "regenerate", KeyM: "model", KeyL: "list" };

/** Call what `actions` has for a key: escape, fresh, regenerate, model, list, shortcuts. */
export function onShortcut(actions) {
  document.addEventListener("keydown", (event) => {
    const name = nameOf(event);
    // A dialog or menu that is open has Escape for itself.
    if (!name || event.defaultPrevented || document.querySelector("dialog[open], :popover-open")) return;
    if (name !== "escape") event.preventDefault();
    actions[name]();
  });
}

function nameOf({ key, code, altKey, ctrlKey, metaKey, shiftKey, isComposing }) {
  if (isComposing || shiftKey) return null;
  if (key === "Escape") return "escape";
  if ((ctrlKey || metaKey) && !altKey && key === "/") return "shortcuts";
  // By its place: with Alt, a Mac types other letters.
  return altKey && !ctrlKey && !metaKey ? ALT[code] : null;
}
