
// Without this script all queries are shown and folded parts stay as they are.
for (const form of document.querySelectorAll("form.filter")) {
  const queries = [...form.parentElement.querySelectorAll(".query")];
  const few = 6;
  const apply = () => {
    const { category, result, rank, every } = form.elements;
    const fits = queries.filter(({ dataset: own }) =>
      (!category.value || own.category === category.value) &&
      (!result.value || own.result === result.value) &&
      (!rank.value || (own.rank && +own.rank <= +rank.value)));
    const shown = new Set(every.checked ? fits : fits.slice(0, few));
    for (const query of queries) query.hidden = !shown.has(query);
    form.querySelector("output").value = `${shown.size} of ${fits.length} shown`;
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  apply();
}
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details.results:not([open])")) {
    part.open = true;
    addEventListener("afterprint", () => { part.open = false; }, { once: true });
  }
});
