// --- attention -------------------------------------------------------------------------------------------------------

const layers = range(L).filter(has); // those that the page has
const thumbs = []; // a button for each head of theirs

function makeGrid() {
  const grid = $("grid"), size = clamp(Math.floor(560 / H), 44, 150);
  const name = (text) => make("span", { className: "name", textContent: text });
  grid.style.setProperty("--thumb", `${size}px`);
  grid.style.gridTemplateColumns = `2.2rem repeat(${H}, ${size}px)`;
  grid.append(make("span"), ...range(H).map((head) => name(`h${head}`)));
  for (const layer of range(L)) {
    const heads = range(H).map((head) => has(layer) ? makeThumb(layer, head)
      : make("span", { className: "none", textContent: "left out" }));
    grid.append(name(`l${layer}`), ...heads);
  }
  grid.addEventListener("click", (event) => {
    const thumb = event.target.closest("button");
    if (thumb) choose({ layer: Number(thumb.dataset.layer), head: Number(thumb.dataset.head) });
  });
  onArrows(grid, (down, right) => {
    const layer = layers[clamp(layers.indexOf(state.layer) + down, 0, layers.length - 1)];
    choose({ layer, head: clamp(state.head + right, 0, H - 1) });
    thumbOf(state).focus();
  });
}

function makeThumb(layer, head) {
  const name = `layer ${layer}, head ${head}`;
  const thumb = make("button", { type: "button", title: name, "aria-label": name, data: { layer, head } },
    make("canvas"));
  thumbs.push(thumb);
  return thumb;
}
const thumbOf = ({ layer, head }) => thumbs[layers.indexOf(layer) * H + head];

/** A head's map as a picture; of more tokens than points, each point is the largest weight in its square. */
function drawHead(canvas, layer, head, points) {
  const n = Math.min(T, points), step = T / n, values = new Uint8Array(n * n), weights = bytesOf(layer);
  for (let query = 0, i = head * triangle(T); weights && query < T; query++) {
    const row = Math.floor(query / step) * n;
    for (let key = 0; key <= query; key++, i++) {
      const point = row + Math.floor(key / step);
      values[point] = Math.max(values[point], weights[i]);
    }
  }
  paintSquare(canvas, n, values, true);
}

let turn = 0; // a later drawing of all ends an earlier one
function drawThumbs() { // a layer a frame: the page answers meanwhile
  const mine = ++turn, rest = [...thumbs];
  const next = () => {
    if (mine !== turn) return;
    for (const thumb of rest.splice(0, H)) {
      drawHead(thumb.firstChild, Number(thumb.dataset.layer), Number(thumb.dataset.head), 96);
    }
    if (rest.length) requestAnimationFrame(next);
    else document.body.dataset.drawn = "all";
  };
  requestAnimationFrame(next);
}

// The large map.
let place = { margin: 0, cell: 1 }; // where it lies
const headPicture = document.createElement("canvas");
let pictured = ""; // whose picture that is

function makeMap() {
  onPointer($("map"), (event) => cellUnder(event, place), tellWeight, ([token, key]) => choose({ token, key }));
  onArrows($("map"), (down, right) => {
    const token = clamp(state.token + down, 0, T - 1);
    choose({ token, key: clamp(state.key + right, 0, token) });
  });
}

function showAttention() {
  const { layer, head, token } = state;
  rove(thumbs, thumbOf(state), "aria-pressed");
  $("map-title").textContent = `Layer ${layer}, head ${head}`;
  tellWeight();
  const rows = range(has(layer) ? token + 1 : 0).map((key) =>
    make("tr", {}, heading(key, "row"), cell(tokens[key]), cell(weight(layer, head, token, key).toFixed(3))));
  const caption = `Where token ${at(token)} looks, layer ${layer}, head ${head}`;
  fillTable($("row"), caption, ["position", "token", "weight"], rows);
}

function drawMap() {
  const { layer, head, token, key } = state, whose = `${layer} ${head}`;
  if (pictured !== whose) drawHead(headPicture, layer, head, T);
  pictured = whose;
  place = drawMatrix($("map"), headPicture,
    { labels: T <= 40 ? tokens : null, row: token, column: key, until: token + 1 });
}

function tellWeight([query, key] = [state.token, state.key]) {
  const { layer, head } = state;
  $("cell").textContent = !has(layer) ? "The attention maps are left out of this page."
    : key > query ? `${at(query)} cannot look ahead, at ${at(key)}`
      : `${at(query)} looks at ${at(key)} with ${percent(weight(layer, head, query, key))} of its weight`;
}
