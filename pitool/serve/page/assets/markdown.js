// From the Markdown of an answer to elements. An answer is a stranger's text: raw HTML in it is
// shown as text, pictures become links, and DOMPurify lets nothing through that is not named here.

import { Marked } from "./vendor/marked.esm.js";
import DOMPurify from "./vendor/purify.es.mjs";
import { copyButton, make } from "./elements.js";

const TAGS = [
  "a", "b", "blockquote", "br", "code", "del", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i",
  "kbd", "li", "mark", "ol", "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th",
  "thead", "tr", "u", "ul",
];
const ADDRESS = /^(?:https?:|mailto:)/i;
const RULES = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ["align", "class", "href", "start"],
  ALLOWED_URI_REGEXP: ADDRESS,
  ADD_URI_SAFE_ATTR: ["align", "start"], // whose values are no addresses
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};
// What models write as HTML for want of Markdown.
const INLINE = /^<\/?(?:b|br|del|em|i|kbd|mark|s|strong|sub|sup|u)\s*\/?>$/i;
const LANGUAGE = /^language-[\w+#.-]+$/;

const escape = (text) =>
  text.replace(/[&<>"']/g, (sign) => `&#${sign.charCodeAt(0)};`);

const marked = new Marked({
  gfm: true,
  breaks: true,
  renderer: {
    html({ text, block }) {
      if (INLINE.test(text.trim())) return text;
      const shown = escape(text.trimEnd()).replaceAll("\n", "<br>");
      return block ? `<p>${shown}</p>` : shown;
    },
    image({ href, text }) {
      const words = escape(text ? `picture: ${text}` : "picture");
      return `<a href="${escape(href)}">${words}</a>`;
    },
    heading({ tokens, depth }) {
      // The page and each answer have headings of their own above these.
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
    checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  },
});

DOMPurify.addHook("uponSanitizeAttribute", (_, attribute) => {
  if (attribute.attrName === "class") attribute.keepAttr = LANGUAGE.test(attribute.attrValue);
});

/** Shows an answer in `container`; while it grows, only the blocks that changed are drawn anew. */
export class Prose {
  #container;
  #drawn = [];

  constructor(container) {
    this.#container = container;
  }

  /** Show a text; returns the source of each block. `whole`: draw everything anew. */
  show(text, { whole = false } = {}) {
    const tokens = marked.lexer(text).filter((token) => token.type !== "space");
    if (whole) this.#clear();
    let same = 0;
    while (same < tokens.length && this.#drawn[same]?.raw === tokens[same].raw) same += 1;
    for (const { element } of this.#drawn.splice(same)) element.remove();
    for (const token of tokens.slice(same)) {
      const element = make("div", {}, draw(token));
      this.#drawn.push({ raw: token.raw, element });
      this.#container.append(element);
    }
    return this.#drawn.map(({ element }) => element.textContent.trim());
  }

  #clear() {
    for (const { element } of this.#drawn.splice(0)) element.remove();
  }
}

function draw(token) {
  const made = DOMPurify.sanitize(marked.parser([token]), RULES);
  for (const link of made.querySelectorAll("a")) dressLink(link);
  for (const pre of made.querySelectorAll("pre")) pre.replaceWith(codeBlock(pre));
  for (const table of made.querySelectorAll("table")) {
    const frame = make("div", { class: "wide", role: "region", "aria-label": "Table", tabindex: "0" });
    table.replaceWith(frame);
    frame.append(table);
  }
  return made;
}

function dressLink(link) {
  if (!ADDRESS.test(link.getAttribute("href") ?? "")) {
    link.replaceWith(...link.childNodes); // an address that is not allowed: its words stay
    return;
  }
  // The address is shown, for its words may promise another one.
  link.title = link.href;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

function codeBlock(pre) {
  const code = pre.querySelector("code") ?? pre;
  const language = code.className.replace("language-", "");
  const text = code.textContent;
  pre.tabIndex = 0;
  pre.setAttribute("role", "region");
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  const head = make(
    "div", { class: "code-head" },
    make("span", { text: language || "code" }),
    copyButton(() => text, "Copy", { class: "quiet-button" }),
  );
  const frame = make("div", { class: "code" }, head);
  frame.append(pre.cloneNode(true));
  return frame;
}
