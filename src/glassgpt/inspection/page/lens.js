// --- the logit lens --------------------------------------------------------------------------------------------------

const WINDOW = 64; // positions that it shows at a time
const lensShares = { // what colours a cell, from 0 to 1
  top: (depth, position) => lens.probabilities[depth][position][0],
  next: (depth, position) => lens.next_probability[depth][position],
  entropy: (depth, position) => lens.entropy[depth][position] / data.entropy_scale,
};

function makeLens() {
  const table = $("lens-table");
  const find = (event) => {
    const cell = event.target.closest("td");
    return cell && { depth: Number(cell.dataset.depth), token: Number(cell.dataset.position) };
  };
  onPointer(table, find, tellPrediction, choose);
  onArrows(table, (down, right) => {
    const depth = clamp(state.depth + down, 0, lens.layers.length - 1);
    choose({ depth, token: clamp(state.token + right, 0, T - 1) });
    table.querySelector("td[tabindex='0']").focus();
  });
  $("lens-colour").addEventListener("change", (event) => {
    state.lensColour = event.target.value;
    fillLens();
    showLens();
  });
  $("earlier").addEventListener("click", () => choose({ token: Math.max(0, state.lensFrom - WINDOW) }));
  $("later").addEventListener("click", () => choose({ token: state.lensFrom + WINDOW }));
}

/** The table of the positions that it has room for. */
function fillLens() {
  const positions = range(Math.min(WINDOW, T - state.lensFrom), state.lensFrom);
  const columns = positions.map((position) =>
    make("th", { scope: "col", title: at(position), data: { position } },
      make("small", { textContent: position }), make("br"), tokens[position]));
  const rows = lens.layers.map((layer, depth) =>
    make("tr", {}, heading(layer, "row"), ...positions.map((position) => lensCell(depth, position))));
  $("lens-table").replaceChildren(
    make("thead", {}, make("tr", {}, heading("after"), ...columns)),
    make("tbody", {}, ...rows),
  );
  const last = positions.at(-1);
  $("window").hidden = T <= WINDOW;
  $("range").textContent = `positions ${state.lensFrom} to ${last} of ${T}`;
  $("earlier").disabled = state.lensFrom === 0;
  $("later").disabled = last === T - 1;
}

function lensCell(depth, position) {
  const label = vocabulary[lens.ids[depth][position][0]];
  const cell = make("td", { role: "gridcell", textContent: label, data: { depth, position } });
  if (lens.next_rank[depth][position] === 1) {
    cell.className = "right";
    cell.setAttribute("aria-label", `${label}, which really comes next`);
  }
  paint(cell, lensShares[state.lensColour](depth, position));
  return cell;
}

function showLens() {
  const { depth, token } = state, table = $("lens-table");
  if (token < state.lensFrom || token >= state.lensFrom + WINDOW) {
    state.lensFrom = Math.floor(token / WINDOW) * WINDOW;
    fillLens();
  }
  const cells = [...table.querySelectorAll("td")];
  const chosen = table.querySelector(`td[data-depth="${depth}"][data-position="${token}"]`);
  rove(cells, chosen, "aria-selected");
  for (const th of table.querySelectorAll("thead th")) th.classList.toggle("here", th.dataset.position === `${token}`);
  tellPrediction();
}

function scrollLens() {
  const corner = $("lens-table").querySelector("th");
  reveal($("lens-scroll"), $("lens-table").querySelector("[aria-selected=true]"), corner);
}

function tellPrediction({ depth, token } = state) {
  const own = depth === lens.layers.length - 1 ? ": the model's own prediction" : "";
  const next = token === T - 1 ? ["What comes next is not known."]
    : ["In fact: ", code(tokens[token + 1]),
      `, probability ${percent(lens.next_probability[depth][token])}, rank ${lens.next_rank[depth][token]}`];
  const likeliest = lens.ids[depth][token].map((id, i) => [vocabulary[id], lens.probabilities[depth][token][i]]);
  $("prediction").replaceChildren(
    make("h3", {}, "After ", code(at(token))),
    make("p", { textContent: `${lens.layers[depth]}${own}; entropy ${digits(lens.entropy[depth][token])} nats` }),
    shareBars(likeliest),
    make("p", {}, ...next),
  );
}
