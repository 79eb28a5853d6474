// --- heads in numbers ------------------------------------------------------------------------------------------------

const FIGURES = { // name: its column's heading, its digits
  entropy: ["entropy (nats)", 2],
  distance: ["tokens back", 1],
  previous: ["on the token before", 2],
  first: ["on the first token", 2],
  induction: ["induction", 2],
};

function makeStatistics() {
  $("statistics").addEventListener("click", (event) => {
    const { key, layer, head } = event.target.closest("button")?.dataset ?? {};
    if (key) choose({ sort: key, down: key === state.sort ? !state.down : key in FIGURES }); // figures: largest first
    else if (layer) choose({ layer: Number(layer), head: Number(head) });
  });
}

function showStatistics() {
  const columns = Object.entries({ layer: ["layer"], head: ["head"], ...FIGURES }).map(([key, [title]]) => {
    const th = make("th", { scope: "col" }, make("button", { type: "button", textContent: title, data: { key } }));
    if (key === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    return th;
  });
  const value = (row) => row[state.sort] ?? -Infinity, sign = state.down ? -1 : 1;
  const sorted = [...statistics].sort((a, b) => sign * (value(a) - value(b) || 0)); // (-∞ less -∞ is NaN)
  const held = document.activeElement?.closest("#statistics button")?.dataset; // drawn anew, it would lose the focus
  $("statistics").replaceChildren(
    make("thead", {}, make("tr", {}, ...columns, heading(`${at(state.token)} looks most at`))),
    make("tbody", {}, ...sorted.map(statisticsRow)),
  );
  if (!held) return;
  const same = held.key ? `[data-key="${held.key}"]` : `[data-layer="${held.layer}"][data-head="${held.head}"]`;
  $("statistics").querySelector(same)?.focus();
}

function statisticsRow(row) {
  const { layer, head } = row;
  const [key, share] = peak(layer, head, state.token);
  const choice = make("button", {
    type: "button", textContent: `layer ${layer}`, "aria-label": `choose layer ${layer}, head ${head}`,
    disabled: !has(layer), data: { layer, head },
  });
  const figures = Object.entries(FIGURES).map(([name, [, count]]) => cell(digits(row[name], count)));
  return make("tr", { className: layer === state.layer && head === state.head ? "chosen" : "" },
    make("th", { scope: "row" }, choice), cell(head), ...figures,
    cell(has(layer) ? `${at(key)} ${percent(share)}` : "left out"));
}
