// --- heads in numbers ------------------------------------------------------------------------------------------------

const FIGURES = { // name: its column's heading, its digits
  entropy: ["entropy (nats)", 2],
  distance: ["tokens back", 1],
  previous: ["on the token before", 2],
  first: ["on the first token", 2],
  induction: ["induction", 2],
};

const statisticsRows = new Map(); // the row of each head's figures, made once: a key changes little of them
const statisticsColumns = { layer: ["layer"], head: ["head"], ...FIGURES };

function makeStatistics() {
  const columns = Object.entries(statisticsColumns).map(([key, [title]]) =>
    make("th", { scope: "col" }, make("button", { type: "button", textContent: title, data: { key } })));
  for (const row of statistics) statisticsRows.set(row, statisticsRow(row));
  $("statistics").append(
    make("thead", {}, make("tr", {}, ...columns, make("th", { scope: "col", id: "looks-most" }))),
    make("tbody"),
  );
  $("statistics").addEventListener("click", (event) => {
    const { key, layer, head } = event.target.closest("button")?.dataset ?? {};
    if (key) sortStatistics(key, key === state.sort ? !state.down : key in FIGURES); // figures: largest first
    else if (layer) choose({ layer: Number(layer), head: Number(head) });
  });
  sortStatistics(state.sort, state.down);
}

function statisticsRow(row) {
  const { layer, head } = row;
  const choice = make("button", {
    type: "button", textContent: `layer ${layer}`, "aria-label": `choose layer ${layer}, head ${head}`,
    disabled: !has(layer), data: { layer, head },
  });
  const figures = Object.entries(FIGURES).map(([name, [, count]]) => cell(digits(row[name], count)));
  return make("tr", {}, make("th", { scope: "row" }, choice), cell(head), ...figures, cell("left out"));
}

function sortStatistics(key, down) {
  Object.assign(state, { sort: key, down });
  const value = (row) => row[key] ?? -Infinity, sign = down ? -1 : 1;
  const sorted = [...statistics].sort((a, b) => sign * (value(a) - value(b) || 0)); // (-∞ less -∞ is NaN)
  $("statistics").tBodies[0].append(...sorted.map((row) => statisticsRows.get(row)));
  for (const button of $("statistics").tHead.querySelectorAll("button")) {
    const th = button.parentElement;
    if (button.dataset.key === key) th.setAttribute("aria-sort", down ? "descending" : "ascending");
    else th.removeAttribute("aria-sort");
  }
}

/** What changes with the token and the head that are chosen. */
function showStatistics() {
  $("looks-most").textContent = `${at(state.token)} looks most at`;
  for (const [{ layer, head }, tr] of statisticsRows) {
    tr.classList.toggle("chosen", layer === state.layer && head === state.head);
    if (!has(layer)) continue;
    const [key, share] = peak(layer, head, state.token), said = `${at(key)} ${percent(share)}`;
    if (tr.lastChild.textContent !== said) tr.lastChild.textContent = said;
  }
}
