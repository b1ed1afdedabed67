// The dialogs: a new name, the API key, settings, shortcuts; and what they keep in the browser.

import { find } from "./elements.js";
import { key } from "./server.js";
import { browser } from "./storage.js";

const SETTINGS = "pitool.settings";
const THEME = "pitool.theme";
const PLAIN = { system: "", temperature: null, maxTokens: null };

for (const dialog of document.querySelectorAll("dialog")) {
  dialog.querySelector("[data-close]")?.addEventListener("click", () => dialog.close(""));
  // A click beside the dialog, which is on the dialog itself, closes it.
  dialog.addEventListener("pointerdown", ({ target }) => target === dialog && dialog.close(""));
}

/** Open a dialog; true if it was confirmed. */
export function confirmed(dialog) {
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "ok"), { once: true });
  });
}

/** Ask for the name of a conversation; null where it stays. */
export async function ask(name) {
  find("rename-text").value = name;
  const open = confirmed(find("rename"));
  find("rename-text").select();
  return (await open) ? find("rename-text").value.trim() || null : null;
}

/** Ask for the API key, for the reason given; true if one was entered. */
export async function askKey(reason) {
  if (find("key").open) return false;
  find("key-text").textContent = reason;
  find("key-value").value = "";
  if (!(await confirmed(find("key")))) return false;
  key.set(find("key-value").value.trim(), find("key-keep").checked);
  find("key-value").value = "";
  return true;
}

/** Return the settings; what is stored and no longer understood is left out. */
export function settings() {
  try {
    return { ...PLAIN, ...JSON.parse(browser.get(SETTINGS) ?? "{}") };
  } catch {
    return PLAIN;
  }
}

/** Return the settings as an answer needs them. */
export function requestSettings() {
  const { system, temperature, maxTokens } = settings();
  const body = {};
  if (temperature !== null) body.temperature = temperature;
  if (maxTokens !== null) body.max_tokens = maxTokens;
  return { system, body };
}

/** Let the user change the settings. */
export async function editSettings() {
  const now = settings();
  const theme = document.documentElement.dataset.theme;
  find("system").value = now.system;
  find("temperature").value = now.temperature ?? "";
  find("max-tokens").value = now.maxTokens ?? "";
  find("forget-key").hidden = !key.get();
  find("change-key").textContent = key.get() ? "Change the key" : "Enter a key";
  for (const radio of document.getElementsByName("theme")) radio.checked = radio.value === theme;
  if (!(await confirmed(find("settings")))) return;
  const number = (id) => (find(id).value === "" ? null : find(id).valueAsNumber);
  browser.set(SETTINGS, JSON.stringify({
    system: find("system").value.trim(), temperature: number("temperature"), maxTokens: number("max-tokens"),
  }));
  setTheme(document.querySelector("[name=theme]:checked").value);
}

const dark = matchMedia("(prefers-color-scheme: dark)");

export function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  browser.set(THEME, theme);
  document.dispatchEvent(new Event("theme"));
}

/** Whether the page is dark now, by choice or as the system. */
export function isDark() {
  const { theme } = document.documentElement.dataset;
  return theme === "dark" || (theme === "auto" && dark.matches);
}

dark.addEventListener("change", () => document.dispatchEvent(new Event("theme")));
