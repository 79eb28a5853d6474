// --- attention -------------------------------------------------------------------------------------------------------

const layers = range(L).filter(has); // those that the page has
const thumbs = []; // a button for each head of theirs; what is seen on them is one canvas a layer, below
const thumbSize = clamp(Math.floor(560 / H), 44, 150), thumbRim = 2; // in CSS pixels

function makeGrid() {
  const grid = $("grid"), name = (text) => make("span", { className: "name", textContent: text });
  const row = (...children) => make("div", { className: "row" }, ...children);
  grid.style.setProperty("--heads", H);
  grid.style.setProperty("--thumb", `${thumbSize}px`);
  grid.append(row(make("span"), ...range(H).map((head) => name(`h${head}`))));
  for (const layer of range(L)) {
    const heads = range(H).map((head) => has(layer) ? makeThumb(layer, head)
      : make("span", { className: "none", textContent: "left out" }));
    if (has(layer)) heads.unshift(make("canvas", { "aria-hidden": true }));
    grid.append(row(name(`l${layer}`), ...heads));
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
  const thumb = make("button", { type: "button", title: name, "aria-label": name, data: { layer, head } });
  thumbs.push(thumb);
  return thumb;
}
const thumbOf = ({ layer, head }) => thumbs[layers.indexOf(layer) * H + head];

/** The maps of a layer's heads side by side, on one canvas: hundreds of canvases would make every frame slow. */
function drawLayer(layer) {
  const canvas = thumbOf({ layer, head: 0 }).parentElement.querySelector("canvas");
  const sharpness = devicePixelRatio || 1, side = Math.round((thumbSize - 2 * thumbRim) * sharpness);
  canvas.width = Math.round(H * thumbSize * sharpness);
  canvas.height = Math.round(thumbSize * sharpness);
  const pen = canvas.getContext("2d"), picture = document.createElement("canvas");
  pen.imageSmoothingEnabled = false;
  for (const head of range(H)) {
    drawHead(picture, layer, head, side);
    const left = Math.round((head * thumbSize + thumbRim) * sharpness), top = Math.round(thumbRim * sharpness);
    pen.drawImage(picture, left, top, side, side);
  }
}

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
function drawThumbs() { // as many layers a frame as leave the page time to answer
  const mine = ++turn, rest = [...layers];
  const next = () => {
    if (mine !== turn) return;
    const begin = performance.now();
    while (rest.length && performance.now() - begin < 30) drawLayer(rest.shift());
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
    say($("cell").textContent);
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
