// A conversation as data, and what is done with it that needs neither the page nor the server.
//
// A conversation is {id, title, named, created, updated, turns}; a turn is {role, content, at}, and
// that of an assistant also has {reasoning, model, state, problem, figures}. `state` is "running",
// "done", "stopped", "interrupted", "cut" (at the limit of tokens), "full" (of the context) or
// "failed".

const LONGEST_TITLE = 60;
const UNTITLED = "New conversation";

export const newId = () =>
  // randomUUID is kept from pages that came over plain HTTP.
  [...crypto.getRandomValues(new Uint8Array(12))].map((n) => n.toString(16).padStart(2, "0")).join("");

export function newConversation() {
  const now = Date.now();
  return { id: newId(), title: UNTITLED, named: false, created: now, updated: now, turns: [] };
}

/** Add a question; the first one names the conversation. */
export function addQuestion(conversation, content) {
  conversation.turns.push({ role: "user", content, at: Date.now() });
  if (!conversation.named) {
    const first = conversation.turns.find((turn) => turn.role === "user");
    conversation.title = titleOf(first.content);
  }
}

/** Add the turn that an answer will fill. `before`: the answer that it replaces once it begins. */
export function addAnswer(conversation, model, before = null) {
  const turn = {
    role: "assistant", content: "", reasoning: "", at: Date.now(), model, state: "running",
    problem: null, figures: null, before,
  };
  conversation.turns.push(turn);
  return turn;
}

/** Put the answer back that was to be replaced by one which never began; true if there is one. */
export function takeBack(conversation) {
  const turn = lastAnswer(conversation);
  if (!turn?.before || turn.content) return false;
  conversation.turns.splice(-1, 1, turn.before);
  return true;
}

/** Take the last question and its answer away; returns the question's text. */
export function takeLastQuestion(conversation) {
  const at = conversation.turns.findLastIndex((turn) => turn.role === "user");
  return at < 0 ? "" : conversation.turns.splice(at)[0].content;
}

export const lastQuestion = (conversation) =>
  conversation?.turns.findLast((turn) => turn.role === "user") ?? null;

export const lastAnswer = (conversation) => {
  const turn = conversation?.turns.at(-1);
  return turn?.role === "assistant" ? turn : null;
};

/** Whether an answer ended before its end and has text that can be gone on with. */
export const canContinue = (turn) =>
  turn.content !== "" && ["stopped", "interrupted", "cut", "failed"].includes(turn.state);

/** Return the messages for the server, up to but without the turn `before`.
 *
 * Questions that were never answered are left out: templates want question and answer in turn. */
export function messages(conversation, before, system) {
  const turns = conversation.turns.slice(0, conversation.turns.indexOf(before));
  const sent = turns.filter((turn, i) =>
    turn.role === "user"
      ? i === turns.length - 1 || turns[i + 1]?.content
      : turn.content);
  return [
    ...(system ? [{ role: "system", content: system }] : []),
    ...sent.map(({ role, content }) => ({ role, content })),
  ];
}

function titleOf(question) {
  const line = question.trim().split("\n")[0].trim();
  if (line.length <= LONGEST_TITLE) return line || UNTITLED;
  const cut = line.slice(0, LONGEST_TITLE);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(" "), LONGEST_TITLE / 2)).trimEnd()}…`;
}

export function asMarkdown(conversation) {
  const parts = [`# ${conversation.title}`];
  for (const turn of conversation.turns) {
    parts.push(`## ${turn.role === "user" ? "You" : turn.model || "Model"}`);
    parts.push(turn.content.trim() || "*No answer.*");
  }
  return `${parts.join("\n\n")}\n`;
}

export const asJson = (conversations) =>
  `${JSON.stringify({ pitool: "conversations", version: 1, conversations }, null, 2)}\n`;

/** Return the conversations of an exported file; throws an Error with a sentence if it is none. */
export function fromJson(text) {
  let data = null;
  try {
    data = JSON.parse(text);
  } catch {
    // Said below.
  }
  const list = data?.pitool === "conversations" && data.version === 1 ? data.conversations : null;
  if (!Array.isArray(list) || !list.every(isConversation)) {
    throw new Error("This file holds no conversations. Choose one that was exported here as JSON.");
  }
  return list;
}

function isConversation(value) {
  const texts = (object, ...names) => names.every((name) => typeof object?.[name] === "string");
  return texts(value, "id", "title") && /^[0-9a-f]{24}$/.test(value.id) &&
    Number.isFinite(value.created) && Number.isFinite(value.updated) && Array.isArray(value.turns) &&
    value.turns.every((turn) => texts(turn, "role", "content") &&
      (turn.role === "user" || (turn.role === "assistant" && texts(turn, "reasoning", "model", "state"))));
}

export const fileName = (conversation) =>
  conversation.title.normalize("NFKD").replace(/[^\w]+/g, "-").replace(/^-+|-+$/g, "").toLowerCase() ||
  "conversation";
