// The page: what is asked for lives in the address, and is shown from there.

import * as api from "./api.js";
import { NOTHING, PAGE, isEmpty, read, request, write } from "./address.js";
import { build } from "./filters.js";
import { again, send } from "./images.js";
import { DRAGGED, card, confidence, example, turn } from "./results.js";

const MOST = 1000;
const TURNS = 20;
const TOKEN = "rau-token";
// As in the style sheet.
const COLUMN = "(max-width: 56rem)";
const TOUCH = "(pointer: coarse)";
const at = (id) => document.getElementById(id);
const form = at("query");
const answers = new Map();
let index, filters, shown, running;
// An image that is on its way; `meant` once a search is asked for meanwhile.
let sending;

// ---- what is asked for

function asked() {
  return {
    ...read(location.search, index.filters),
    caption: at("caption").value,
    without: at("without").value,
    words: Number(at("words").value),
    filters: filters.get(),
  };
}

const hasImage = (query) => Boolean(query.reference || query.upload);
const sameImage = (a, b) => a.reference === b.reference && a.upload === b.upload;

// Goes to a query. Another image or another caption is a turn of its own, to which "back" leads;
// everything else changes the turn.
function go(query, trail = history.state?.trail ?? []) {
  const now = read(location.search, index.filters);
  const refined = sameImage(now, query) && (now.caption === query.caption || !now.caption);
  if (refined && !isEmpty(now)) history.replaceState({ trail }, "", write(query));
  else {
    const before = isEmpty(now) ? trail : [...trail, write(now)].slice(-TURNS);
    history.pushState({ trail: before }, "", write(query));
  }
  show();
}

function submit() {
  // The search follows when the image is there.
  if (sending) sending.meant = true;
  else go({ ...asked(), count: PAGE });
  // Where all stands in one column, the results would be out of sight.
  if (matchMedia(COLUMN).matches) at("results").scrollIntoView();
  if (matchMedia(TOUCH).matches) at("caption").blur();
}

function searchFrom(reference) {
  go({ ...NOTHING, reference, filters: asked().filters });
  scrollTo({ top: 0 });
  // On a touch screen a focused field would bring the keyboard up.
  if (!matchMedia(TOUCH).matches) at("caption").focus({ preventScroll: true });
}

async function searchWith(blob) {
  const own = (sending = {});
  await attempt(async (signal) => {
    const upload = await send(blob, signal);
    const { filters, caption } = asked();
    // What was typed already is meant for this image.
    const typed = own.meant || !hasImage(read(location.search, index.filters)) ? caption : "";
    go({ ...NOTHING, upload, caption: typed, filters });
  });
  if (sending === own) sending = undefined;
}

// ---- what is shown

function showQuery(query) {
  const source = imageOf(query);
  at("reference").hidden = at("remove").hidden = !source;
  if (source) at("reference").src = source;
  at("reference").alt = query.reference ? `Image ${query.reference}` : "Your image";
  at("well").classList.toggle("filled", Boolean(source));
  at("choose").querySelector(".wide").textContent = source ? "Change" : "Choose an image";
  at("ask").textContent = source ? "What should be different?" : "What are you looking for?";
  at("caption").placeholder = source ? "is red and has long sleeves" : "a red dress with long sleeves";
  at("caption").value = query.caption;
  at("without").value = query.without;
  at("words").value = query.words;
  filters.set(query.filters);
  const active = Object.keys(query.filters).length + Boolean(query.without);
  at("active").textContent = active;
  at("active").hidden = !active;
  if (active) at("more").open = true;
  document.title = query.caption ? `${query.caption} – rau` : "rau";
  showShare();
}

function showShare() {
  const words = Number(at("words").value);
  const both = at("caption").value.trim() && hasImage(read(location.search, index.filters));
  at("words").disabled = !both;
  at("words").ariaValueText = words === 50 ? "as trained" : `${words} percent words`;
  at("share").textContent = !both || words === 50 ? "" : `${words} % words`;
  at("balance").classList.toggle("off", !both);
}

function imageOf(query) {
  if (query.reference) return api.imageUrl(query.reference);
  return query.upload ? api.uploaded(query.upload) : "";
}

function showTrail() {
  const trail = history.state?.trail ?? [];
  const turns = trail.map((address, place) => {
    const query = read(new URL(address, location).search, index.filters);
    return turn(query, address, imageOf(query), () => {
      history.pushState({ trail: trail.slice(0, place) }, "", address);
      show();
    });
  });
  at("trail").hidden = !turns.length;
  at("trail").firstElementChild.replaceChildren(...turns);
}

// Feedback needs an image of the catalogue and words.
const teaches = (query) => index.feedback && query.reference && query.caption.trim();
const pair = (query, id) => JSON.stringify([query.reference, query.caption.trim(), id]);

function showHits(query, hits) {
  const answer = teaches(query) ? (hit, accepted) => keep(query, hit, accepted) : null;
  at("hits").replaceChildren(
    ...hits.map((hit, n) => card(hit, n + 1, answers.get(pair(query, hit.id)), searchFrom, answer)),
  );
  const none = !hits.length && Object.keys(query.filters).length > 0;
  at("unfilter").hidden = !none;
  at("status").textContent = hits.length
    ? `${hits.length} image${hits.length > 1 ? "s" : ""}, best first`
    : "Nothing found";
  at("note").textContent = none ? "No image passes the filters." : hint(query);
  at("further").hidden = hits.length < query.count || query.count >= MOST;
}

// The image's category, or that there is no such limit, as a chip whose removal is the other one.
function showSearched(query, { category, images, images_any_category: all }) {
  at("searched").hidden = category === null && !query.anyCategory;
  at("count").textContent = images.toLocaleString();
  at("kept").firstElementChild.textContent = category ?? "any category";
  at("kept").ariaLabel = query.anyCategory
    ? "Search only the image's category"
    : `Search all ${all.toLocaleString()} images`;
}

function hint(query) {
  if (!index.feedback || teaches(query)) return "";
  if (query.upload) return "To give feedback, search from an image of the catalogue.";
  return query.reference ? "To give feedback, say what should be different." : "";
}

function showStart() {
  at("hits").replaceChildren(...index.examples.map((id) => example(id, searchFrom)));
  at("status").textContent = "Choose an image and say what should be different";
  at("note").textContent = "Start with your own image, with words, or with one of these images.";
  at("further").hidden = at("unfilter").hidden = at("searched").hidden = true;
  at("sure").replaceChildren();
}

async function show() {
  const query = read(location.search, index.filters);
  shown = query;
  showQuery(query);
  showTrail();
  if (isEmpty(query)) {
    running?.abort();
    at("failure").hidden = true;
    busy(false);
    showStart();
    return;
  }
  await attempt(async (signal) => {
    const answer = await found(query, signal);
    showHits(query, answer.hits);
    showSearched(query, answer.searched);
    at("sure").replaceChildren(...(answer.hits.length ? confidence(answer) : []));
  });
}

async function found(query, signal) {
  const body = request(query, index.filters);
  try {
    return await api.search(body, signal);
  } catch (error) {
    const gone = error.status === 404 && query.upload;
    if (!gone) throw error;
    if (!(await again(query.upload, signal))) {
      throw new api.Failure("Your image is no longer stored here; choose it again.");
    }
    at("reference").src = `${api.uploaded(query.upload)}?again`;
    return api.search(body, signal);
  }
}

// ---- work that takes a while

function busy(is) {
  at("progress").hidden = !is;
  at("results").ariaBusy = String(is);
}

// Only the newest work counts: it ends what ran before.
async function attempt(work) {
  running?.abort();
  const own = (running = new AbortController());
  at("failure").hidden = true;
  busy(true);
  try {
    await work(own.signal);
  } catch (error) {
    if (error.name !== "AbortError") fail(error, work);
  } finally {
    if (running === own) busy(false);
  }
}

function fail(error, work) {
  const known = error instanceof api.Failure;
  if (!known) console.error(error);
  const said = known ? error.message : "Something went wrong on this page.";
  at("failure").hidden = false;
  at("failure").firstElementChild.textContent = said[0].toUpperCase() + said.slice(1);
  // What was asked wrongly stays wrong.
  at("again").hidden = error.status >= 400 && error.status < 500;
  at("again").onclick = () => attempt(work);
}

// ---- answers

async function keep(query, hit, accepted) {
  const caption = query.caption.trim();
  try {
    await api.answer(query.reference, hit.id, caption, accepted, sessionStorage.getItem(TOKEN));
  } catch (error) {
    if (error.status === 401 && (await askToken())) return keep(query, hit, accepted);
    if (error.status !== 401) fail(error, () => keep(query, hit, accepted));
    return;
  }
  answers.set(pair(query, hit.id), accepted);
  if (query !== shown) return;
  const item = [...at("hits").children].find((one) => one.dataset.id === hit.id);
  item.dataset.said = accepted ? "yes" : "no";
  const [yes, no] = item.querySelectorAll(".answers button");
  yes.ariaPressed = String(accepted);
  no.ariaPressed = String(!accepted);
  at("note").textContent = accepted
    ? "Saved: this is what you meant."
    : "Saved: it does not match this image and these words.";
}

// Asks for the token; whether one was given.
function askToken() {
  const dialog = at("ask-token");
  sessionStorage.removeItem(TOKEN);
  at("token").value = dialog.returnValue = "";
  dialog.showModal();
  return new Promise((done) => {
    dialog.onclose = () => {
      const given = dialog.returnValue === "ok" && at("token").value.trim();
      if (given) sessionStorage.setItem(TOKEN, given);
      done(Boolean(given));
    };
  });
}

// ---- events

function listen() {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
  at("caption").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    submit();
  });
  at("caption").addEventListener("input", showShare);
  at("words").addEventListener("input", showShare);
  for (const id of ["words", "filters", "without"]) at(id).addEventListener("change", refine);
  for (const id of ["clear", "unfilter"]) {
    at(id).addEventListener("click", () => go({ ...asked(), without: "", filters: {} }));
  }
  at("choose").addEventListener("click", () => at("file").click());
  at("file").addEventListener("change", () => {
    const [file] = at("file").files;
    if (file) searchWith(file);
    at("file").value = "";
  });
  at("remove").addEventListener("click", () => {
    go({ ...asked(), reference: "", upload: "", words: NOTHING.words, anyCategory: false });
    at("choose").focus();
  });
  at("kept").addEventListener("click", () => {
    const query = asked();
    go({ ...query, anyCategory: !query.anyCategory, count: PAGE });
  });
  at("further").addEventListener("click", () => {
    const query = read(location.search, index.filters);
    go({ ...query, count: Math.min(MOST, query.count + PAGE) });
  });
  document.querySelector(".home").addEventListener("click", (event) => {
    event.preventDefault();
    go(NOTHING, []);
  });
  at("cancel").addEventListener("click", () => at("ask-token").close(""));
  addEventListener("popstate", show);
  document.addEventListener("keydown", (event) => {
    const typing = event.target.matches?.("input, textarea, select");
    if (event.key !== "/" || typing || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    at("caption").focus();
  });
  listenToImages();
}

// A change of the slider or a filter shows at once, where there is something to search for.
function refine() {
  if (!isEmpty(asked())) go({ ...asked(), count: PAGE });
}

function listenToImages() {
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
    if (!file) return;
    event.preventDefault();
    searchWith(file);
  });
  const held = (event) => event.dataTransfer.types.some((one) => one === "Files" || one === DRAGGED);
  document.addEventListener("dragover", (event) => {
    if (!held(event)) return;
    event.preventDefault();
    at("drop").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) at("drop").hidden = true;
  });
  document.addEventListener("dragend", () => (at("drop").hidden = true));
  document.addEventListener("drop", (event) => {
    at("drop").hidden = true;
    if (!held(event)) return;
    event.preventDefault();
    const id = event.dataTransfer.getData(DRAGGED);
    if (id) searchFrom(id);
    else if (event.dataTransfer.files.length) searchWith(event.dataTransfer.files[0]);
  });
}

async function start() {
  await attempt(async () => {
    index = await api.index();
    at("size").textContent = `${index.images.toLocaleString()} images`;
    filters = build(at("filters"), index.filters);
    listen();
    await show();
  });
}

start();
