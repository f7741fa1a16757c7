// Controls for what the index can be filtered by.

import { make } from "./results.js";

// Choices up to this number are all shown; more are a list to pull down.
const SHOWN = 12;

function choices(filter) {
  const boxes = filter.values.map((value) => {
    const box = make("input", { type: "checkbox", name: filter.attribute, value });
    return [box, make("label", { className: "chip" }, box, make("span", {}, value))];
  });
  return {
    body: make("div", { className: "chips" }, ...boxes.map(([, label]) => label)),
    get: () => boxes.filter(([box]) => box.checked).map(([box]) => box.value),
    set: (wanted = []) => boxes.forEach(([box]) => (box.checked = wanted.includes(box.value))),
  };
}

function list(filter, values, names = values) {
  const select = make("select", { name: filter.attribute, ariaLabel: filter.attribute });
  select.append(make("option", { value: "" }, "any"));
  values.forEach((value, n) => select.append(make("option", { value }, names[n])));
  // The empty value of an option is "any", the first one; values may be empty themselves.
  return {
    body: select,
    get: () => (select.selectedIndex > 0 ? [values[select.selectedIndex - 1]] : []),
    set: (wanted = []) => (select.selectedIndex = values.indexOf(wanted[0]) + 1),
  };
}

function range(filter) {
  const ends = ["least", "most"].map((end) => {
    const limit = end === "least" ? filter.low : filter.high;
    const label = `${filter.attribute}, at ${end}`;
    return [end, make("input", { type: "number", step: "any", placeholder: limit, ariaLabel: label })];
  });
  return {
    body: make("div", { className: "ends" }, ends[0][1], make("span", {}, "to"), ends[1][1]),
    get: () => {
      const given = ends.filter(([, input]) => Number.isFinite(input.valueAsNumber));
      return Object.fromEntries(given.map(([end, input]) => [end, input.valueAsNumber]));
    },
    set: (wanted = {}) => ends.forEach(([end, input]) => (input.value = wanted[end] ?? "")),
  };
}

function control(filter) {
  if (filter.kind === "number") return range(filter);
  if (filter.kind === "boolean") return list(filter, ["true", "false"], ["yes", "no"]);
  return filter.values.length > SHOWN ? list(filter, filter.values) : choices(filter);
}

// Fills a place with controls; `get` gives what they say, `set` shows it.
export function build(place, known) {
  const controls = known.map((filter) => [filter.attribute, control(filter)]);
  place.replaceChildren(
    ...controls.map(([attribute, { body }]) =>
      make("fieldset", { className: "field" }, make("legend", {}, attribute), body),
    ),
  );
  return {
    get() {
      const all = controls.map(([attribute, { get }]) => [attribute, get()]);
      return Object.fromEntries(all.filter(([, wanted]) => Object.keys(wanted).length));
    },
    set: (filters) => controls.forEach(([attribute, { set }]) => set(filters[attribute])),
  };
}
