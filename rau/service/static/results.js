// Images as cards. Text is only ever set as text.

import { imageUrl } from "./api.js";

const ICONS = {
  from: "M10.5 17a6.5 6.5 0 1 1 0-13 6.5 6.5 0 0 1 0 13zm5-1.5L20 20",
  yes: "m5 12.5 4.5 4.5L19 7.5",
  no: "m7 7 10 10M17 7 7 17",
};
const ATTRIBUTES = 4;

export function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

// MIME type of an image that is dragged from a card to the query.
export const DRAGGED = "application/x-rau-image";

// `named` where no other control of the card does the same.
function image(id, from, named) {
  const img = make("img", { src: imageUrl(id), alt: "", loading: "lazy", width: 256, height: 256 });
  img.addEventListener("error", () => img.classList.add("missing"));
  img.addEventListener("dragstart", (event) => event.dataTransfer.setData(DRAGGED, id));
  const button = make("button", { type: "button", className: "view" }, img);
  if (named) button.ariaLabel = `Search from here: ${id}`;
  else Object.assign(button, { tabIndex: -1, ariaHidden: "true" });
  button.addEventListener("click", () => from(id));
  return button;
}

export function example(id, from) {
  return make("li", { className: "card" }, image(id, from, true));
}

function spoken(name, value) {
  if (typeof value === "boolean") return `${name}: ${value ? "yes" : "no"}`;
  if (typeof value === "number") return `${name} ${value}`;
  return Array.isArray(value) ? value.join(", ") : value;
}

function attributes(hit) {
  const said = Object.entries(hit.attributes).filter(([, value]) => value !== hit.id);
  const items = said.slice(0, ATTRIBUTES).map(([name, value]) => make("li", { title: name }, spoken(name, value)));
  return make("ul", { className: "attributes" }, ...items);
}

function answers(hit, said, answer) {
  const row = make("div", { className: "answers" });
  const choose = (accepted, name, label, text) => {
    const button = make("button", { type: "button", title: text }, icon(name));
    button.append(make("span", {}, label));
    button.ariaLabel = `${text}: ${hit.id}`;
    button.ariaPressed = String(said === accepted);
    button.addEventListener("click", () => answer(hit, accepted));
    row.append(button);
  };
  choose(true, "yes", "What I meant", "This is what I meant");
  choose(false, "no", "Not this", "Not this: it does not match the words");
  return row;
}

// One result. `said` is the answer that was given: true, false or undefined; `answer` null where
// none can be.
export function card(hit, place, said, from, answer) {
  const go = make("button", { type: "button", className: "from" }, icon("from"), "Search from here");
  go.ariaLabel = `Search from here: ${hit.id}`;
  go.addEventListener("click", () => from(hit.id));
  const title = make(
    "p",
    { className: "title" },
    make("span", { className: "place" }, String(place)),
    make("span", { className: "name", title: hit.id }, hit.id),
    make("span", { className: "score", title: "Cosine with the query" }, hit.score.toFixed(3)),
  );
  const actions = make("div", { className: "actions" }, go);
  if (answer) actions.append(answers(hit, said, answer));
  const body = make("div", { className: "body" }, title, attributes(hit), actions);
  const item = make("li", { className: "card" }, image(hit.id, from, false), body);
  item.dataset.id = hit.id;
  if (said !== undefined) item.dataset.said = said ? "yes" : "no";
  return item;
}

const percent = (share) => `${Math.round(100 * share)} %`;

// The confidence of an answer, or why it has none, in words.
export function confidence({ confidence: made, confidence_unavailable: reason }) {
  if (!made) return [`No confidence: ${reason}.`];
  const at = made.probability_at_k;
  const all = Object.entries(at).map(([k, share]) => `first ${k}: ${percent(share)}`);
  const atTen = make("b", { title: all.join(", ") }, percent(at[10]));
  const size = made.prediction_set_size;
  const shortest = size
    ? `; the first ${size} contain it with 90 %.`
    : "; no short list reaches 90 %.";
  return [atTen, " that the first 10 contain what you are looking for", shortest];
}

// One earlier turn: its image and words, as a link back to it.
export function turn(asked, address, source, go) {
  const link = make("a", { href: address });
  if (source) link.append(make("img", { src: source, alt: "image", width: 40, height: 40 }));
  if (asked.caption) link.append(make("span", {}, asked.caption));
  link.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go();
  });
  return make("li", {}, link);
}
