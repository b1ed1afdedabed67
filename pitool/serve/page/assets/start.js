// What has to be there before the modules, or without them.
"use strict";

// The theme that was chosen, set before anything is drawn.
(() => {
  let chosen = "auto";
  try {
    chosen = localStorage.getItem("pitool.theme") ?? "auto";
  } catch {
    // A browser that keeps nothing follows the system.
  }
  document.documentElement.dataset.theme = ["light", "dark"].includes(chosen) ? chosen : "auto";
})();

// A word where the modules do not come: else the page would stay silent.
addEventListener("error", ({ target }) => {
  if (target instanceof HTMLScriptElement) {
    document.getElementById("banner").textContent =
      "The page could not be loaded. Reload it; a proxy in front of pitool has to pass on the Host header.";
  }
}, true);
