// The theme that was chosen, set before anything is drawn: hence no module, which comes later.
"use strict";

(() => {
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("pitool.theme") ?? "auto";
  } catch {
    // A browser that keeps nothing follows the system.
  }
  document.documentElement.dataset.theme = ["light", "dark"].includes(chosen) ? chosen : "auto";
})();
