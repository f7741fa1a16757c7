// What is asked for, as the page's address says it: back, forward, reload and a link repeat it.

export const NEUTRAL = 50;
export const PAGE = 24;

// words: share of the words in percent. filters: by attribute a list of values for choices and
// flags, { least, most } for numbers. anyCategory: look at more than the image's own category.
export const NOTHING = Object.freeze({
  reference: "",
  upload: "",
  caption: "",
  without: "",
  words: NEUTRAL,
  count: PAGE,
  anyCategory: false,
  filters: {},
});

function bounded(text, low, high, otherwise) {
  const number = Number(text ?? NaN);
  return number >= low && number <= high ? number : otherwise;
}

// What an address says; of filters what the index can be filtered by, since a link may be old.
export function read(search, known) {
  const given = new URLSearchParams(search);
  // An attribute may be called as what every object has, such as constructor.
  const filters = Object.create(null);
  for (const [key, value] of given) {
    const [, kind, attribute] = key.match(/^(is|least|most)\.(.*)$/s) ?? [];
    const own = known.find((filter) => filter.attribute === attribute);
    if (!own || (own.kind === "number") === (kind === "is")) continue;
    if (kind === "is") (filters[attribute] ??= []).push(value);
    else if (Number.isFinite(Number(value))) {
      filters[attribute] = { ...filters[attribute], [kind]: Number(value) };
    }
  }
  return {
    reference: given.get("image") ?? "",
    upload: given.get("upload") ?? "",
    caption: given.get("caption") ?? "",
    without: given.get("without") ?? "",
    words: bounded(given.get("words"), 0, 100, NEUTRAL),
    count: Math.round(bounded(given.get("count"), 1, 1000, PAGE)),
    anyCategory: given.get("any-category") === "yes",
    filters,
  };
}

export function write(asked) {
  const given = new URLSearchParams();
  const say = (key, value, silent) => value !== silent && given.append(key, value);
  say("image", asked.reference, "");
  say("upload", asked.upload, "");
  say("caption", asked.caption, "");
  say("without", asked.without, "");
  say("words", asked.words, NEUTRAL);
  say("count", asked.count, PAGE);
  if (asked.anyCategory) given.append("any-category", "yes");
  for (const [attribute, wanted] of Object.entries(asked.filters)) {
    if (Array.isArray(wanted)) wanted.forEach((value) => given.append(`is.${attribute}`, value));
    else for (const [end, number] of Object.entries(wanted)) given.append(`${end}.${attribute}`, number);
  }
  const text = given.toString();
  return text ? `/?${text}` : "/";
}

export const isEmpty = (asked) => !asked.reference && !asked.upload && !asked.caption.trim();

const quoted = (text, mark) => mark + text.replaceAll(mark, mark + mark) + mark;

// The filters in the language of the API, for the attributes that the index has.
function where(asked, known) {
  const conditions = [];
  for (const one of known) {
    const wanted = asked.filters[one.attribute];
    const column = quoted(one.attribute, '"');
    if (wanted === undefined) continue;
    if (one.kind === "number") {
      if (wanted.least !== undefined) conditions.push(`${column} >= ${wanted.least}`);
      if (wanted.most !== undefined) conditions.push(`${column} <= ${wanted.most}`);
    } else if (one.kind === "boolean") {
      if (wanted.length === 1) conditions.push(`${column} = ${wanted[0] === "true"}`);
    } else {
      const is = one.kind === "list" ? "contains" : "=";
      const any = wanted.map((value) => `${column} ${is} ${quoted(value, "'")}`);
      if (any.length) conditions.push(`(${any.join(" or ")})`);
    }
  }
  return conditions.length ? conditions.join(" and ") : null;
}

// As the API takes it.
export function request(asked, known) {
  return {
    references: asked.reference ? [asked.reference] : [],
    uploads: asked.upload ? [asked.upload] : [],
    caption: asked.caption.trim(),
    without: asked.without.trim(),
    image_weight: (100 - asked.words) / 100,
    where: where(asked, known),
    k: asked.count,
    any_category: asked.anyCategory,
  };
}
