// The page of `glassgpt inspect`: everything it shows is in the JSON block above. State changes, and `show` draws it.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const { tokens, lens, statistics } = data;
const T = tokens.length, L = data.layers, H = data.heads;
const $ = (id) => document.getElementById(id);
const dark = matchMedia("(prefers-color-scheme: dark)");
const state = { token: T - 1, key: 0, layer: 0, head: 0, depth: lens.layers.length - 1, shading: "surprise",
  lensColour: "top", sort: "layer", down: false, from: 0 };
const WINDOW = 64; // positions of the lens at a time

// --- small helpers -----------------------------------------------------------------------------------------------
function make(tag, properties = {}, ...children) {
  const { data: marks, ...rest } = properties;
  const element = Object.assign(document.createElement(tag), rest);
  for (const name of Object.keys(rest)) if (name.startsWith("aria-") || name === "role" || name === "scope") element.setAttribute(name, rest[name]);
  Object.assign(element.dataset, marks);
  element.append(...children);
  return element;
}
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const percent = (p) => p >= 0.9995 ? "100 %" : p >= 0.0995 ? `${(100 * p).toFixed(0)} %` : p >= 0.00095 ? `${(100 * p).toFixed(1)} %` : p > 0 ? "< 0.1 %" : "0 %";
const number = (value, digits = 2) => value === null ? "–" : value.toFixed(digits);
const name = (id) => data.vocabulary[id] ?? `#${id}`;
const at = (position) => `${tokens[position]} (${position})`;

// Colours: lightness runs one way in both, so that they are told apart by everyone, and on paper.
const RAMPS = {
  light: [[255, 254, 242], [216, 238, 184], [115, 194, 187], [44, 127, 184], [10, 32, 96]],
  dark: [[11, 26, 51], [53, 69, 108], [111, 111, 115], [184, 169, 107], [254, 232, 56]],
};
let drawn; // whose image the large map has
let table, pixel; // 256 colours of the ramp in use; the same as an image's pixels
function makeRamp() {
  const stops = RAMPS[dark.matches ? "dark" : "light"];
  table = Array.from({ length: 256 }, (_, i) => {
    const place = i / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((from, c) => Math.round(from + (stops[low + 1][c] - from) * (place - low)));
  });
  pixel = table.map((rgb) => new Uint32Array(new Uint8Array([...rgb, 255]).buffer)[0]);
  drawn = "";
}
const colour = (share) => table[Math.round(255 * clamp(share, 0, 1))];
function paint(element, share) {
  const [r, g, b] = colour(share);
  element.style.background = `rgb(${r} ${g} ${b})`;
  element.style.color = 0.299 * r + 0.587 * g + 0.114 * b > 125 ? "#101418" : "#ffffff";
}

// Weights come as bytes, 255 √w, of the lower triangles of a layer's heads one after the other.
const unpacked = new Map();
function triangles(layer) {
  if (!unpacked.has(layer) && data.attention[layer] != null)
    unpacked.set(layer, Uint8Array.from(atob(data.attention[layer]), (c) => c.charCodeAt(0)));
  return unpacked.get(layer);
}
const has = (layer) => data.attention[layer] != null;
function root(layer, head, query, key) { // √w from 0 to 1
  const triangle = triangles(layer);
  if (key > query || !triangle) return 0;
  return triangle[head * T * (T + 1) / 2 + query * (query + 1) / 2 + key] / 255;
}
const weight = (layer, head, query, key) => root(layer, head, query, key) ** 2;
function strongest(layer, head, query, count) {
  return Array.from({ length: query + 1 }, (_, key) => [key, weight(layer, head, query, key)]).sort((a, b) => b[1] - a[1]).slice(0, count);
}
function peak(layer, head, query) { // the token that it looks at most, and how much
  let best = 0;
  for (let key = 1; key <= query; key++) if (root(layer, head, query, key) > root(layer, head, query, best)) best = key;
  return [best, weight(layer, head, query, best)];
}
function bars(entries) {
  return make("ul", { className: "bars" }, ...entries.map(([label, p]) => make("li", {}, make("span", { textContent: label, title: label }),
    make("span", { textContent: percent(p) }), make("span", { className: "bar", "aria-hidden": true }, make("span", { style: `width: ${100 * p}%` })))));
}
// One of many takes part in Tab's order; arrow keys go to the others.
function rove(elements, chosen, attribute) {
  elements.forEach((element) => {
    const is = element === chosen;
    element.tabIndex = is ? 0 : -1;
    element.setAttribute(attribute, is);
  });
}
const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0], Home: [0, -Infinity], End: [0, Infinity], PageUp: [0, -10], PageDown: [0, 10] };
function onArrows(element, move) {
  element.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(...step);
  });
}

// --- the text ------------------------------------------------------------------------------------------------------
const buttons = tokens.map((label, position) => make("button", { type: "button", textContent: label, data: { position } }));
function makeText() {
  for (const [position, button] of buttons.entries()) {
    const said = position ? `surprise ${number(data.surprise[position])} bits` : "the first token";
    button.setAttribute("aria-label", `token ${position}: ${tokens[position]}, ${said}`);
    $("tokens").append(button);
    if (tokens[position].endsWith("⏎")) $("tokens").append(make("br"));
  }
  const positionOf = (event) => event.target.dataset.position === undefined ? null : Number(event.target.dataset.position);
  $("tokens").addEventListener("mouseover", (event) => { const position = positionOf(event); if (position !== null) showText(position, true); });
  $("tokens").addEventListener("mouseleave", () => showText());
  $("tokens").addEventListener("click", (event) => { const position = positionOf(event); if (position !== null) choose({ token: position }); });
  onArrows($("tokens"), (down, right) => { choose({ token: clamp(state.token + right + 10 * down, 0, T - 1) }); buttons[state.token].focus(); });
  $("shading").addEventListener("change", (event) => choose({ shading: event.target.value }));
}
function showText(position = state.token, hovering = false) {
  const mode = hovering && state.shading === "surprise" ? "looks" : state.shading;
  const { layer, head } = state;
  const values = tokens.map((_, other) => mode === "surprise" ? data.surprise[other] ?? 0
    : mode === "looks" ? weight(layer, head, position, other) : weight(layer, head, other, position));
  const most = mode === "surprise" ? data.surprise_scale : Math.max(...values, 1e-9);
  buttons.forEach((button, other) => {
    paint(button, mode === "surprise" ? values[other] / most : Math.sqrt(values[other] / most));
    button.classList.toggle("later", mode === "looks" ? other > position : mode === "seen" && other < position);
  });
  $("most").textContent = mode === "surprise" ? `${number(most, 1)} bits or more: a blind guess` : `${percent(most)} of the weight (layer ${layer}, head ${head})`;
  const about = position === 0 ? [make("p", { textContent: "The first token: nothing comes before it, so nothing predicts it." })] : [
    make("p", {}, `probability ${percent(data.probability[position])}, rank ${data.rank[position]}, surprise ${number(data.surprise[position])} bits (expected: ${number(data.entropy[position])})`),
    make("h4", { textContent: "What the model expected in its place" }), bars(data.top[position].map(([id, p]) => [name(id), p]))];
  $("token").replaceChildren(make("h3", {}, `Token ${position}: `, make("code", { textContent: tokens[position] }), ` (id ${data.ids[position]})`), ...about,
    make("h4", { textContent: `From here, layer ${layer}, head ${head} looks at` }),
    has(layer) ? bars(strongest(layer, head, position, 5).map(([key, w]) => [at(key), w])) : "left out of this page");
}

// --- attention -----------------------------------------------------------------------------------------------------
const thumbs = [];
function makeGrid() {
  const grid = $("grid"), size = clamp(Math.floor(560 / H), 44, 150);
  grid.style.setProperty("--thumb", `${size}px`);
  grid.style.gridTemplateColumns = `2.2rem repeat(${H}, ${size}px)`;
  grid.append(make("span"), ...Array.from({ length: H }, (_, head) => make("span", { className: "name", textContent: `h${head}` })));
  for (let layer = 0; layer < L; layer++) {
    grid.append(make("span", { className: "name", textContent: `l${layer}` }));
    for (let head = 0; head < H; head++) {
      const button = has(layer) ? make("button", { type: "button", title: `layer ${layer}, head ${head}`, "aria-label": `layer ${layer}, head ${head}`, data: { layer, head } }, make("canvas"))
        : make("span", { className: "none", textContent: "left out" });
      grid.append(button);
      if (has(layer)) thumbs.push(button);
    }
  }
  grid.addEventListener("click", (event) => { const { layer, head } = event.target.closest("button")?.dataset ?? {}; if (layer !== undefined) choose({ layer: +layer, head: +head }); });
  const layers = [...Array(L).keys()].filter(has);
  onArrows(grid, (down, right) => {
    const layer = layers[clamp(layers.indexOf(state.layer) + down, 0, layers.length - 1)];
    choose({ layer, head: clamp(state.head + right, 0, H - 1) });
    thumbs.find((thumb) => thumb.tabIndex === 0)?.focus();
  });
  state.layer = layers[0] ?? 0;
}
// A head's map as an image; of more tokens than points, each point is the largest weight in its square.
function drawHead(canvas, layer, head, points) {
  const n = canvas.width = canvas.height = Math.min(T, points), step = T / n, values = new Uint8Array(n * n), triangle = triangles(layer);
  for (let query = 0, i = head * T * (T + 1) / 2; query < T; query++) {
    const row = Math.floor(query / step) * n;
    for (let key = 0; key <= query; key++, i++) {
      const place = row + Math.floor(key / step);
      if (triangle && triangle[i] > values[place]) values[place] = triangle[i];
    }
  }
  const image = new ImageData(n, n), pixels = new Uint32Array(image.data.buffer);
  for (let row = 0; row < n; row++) for (let column = 0; column <= row; column++) pixels[row * n + column] = pixel[values[row * n + column]];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
const drawThumb = (button) => drawHead(button.firstChild, +button.dataset.layer, +button.dataset.head, 96);
let turn = 0;
function drawThumbs() { // a layer a frame: the page answers meanwhile
  const mine = ++turn, rest = [...thumbs];
  const next = () => { if (mine !== turn) return; rest.splice(0, H).forEach(drawThumb); if (rest.length) requestAnimationFrame(next); else document.body.dataset.drawn = "all"; };
  requestAnimationFrame(next);
}
let place = { margin: 0, cell: 1 }; // of the large map, in CSS pixels
const image = document.createElement("canvas");
function drawMap() {
  const canvas = $("map"), side = canvas.clientWidth || 480, scale = devicePixelRatio || 1, pen = canvas.getContext("2d");
  const labelled = T <= 40, margin = labelled ? 76 : 34, cell = (side - margin) / T;
  const { layer, head, token, key } = state, style = getComputedStyle(document.documentElement);
  place = { margin, cell };
  canvas.width = canvas.height = Math.round(side * scale);
  pen.scale(scale, scale);
  if (drawn !== `${layer} ${head}`) drawHead(image, layer, head, T);
  drawn = `${layer} ${head}`;
  pen.imageSmoothingEnabled = cell * scale < 1;
  pen.drawImage(image, margin, margin, side - margin, side - margin);
  pen.font = `${clamp(cell * 0.8, 8, 12)}px ui-monospace, "DejaVu Sans Mono", monospace`;
  pen.textBaseline = "middle";
  const every = labelled ? 1 : Math.ceil(T / 8 / 10) * 10;
  for (let position = 0; position < T; position += every) {
    const label = labelled ? [...tokens[position]].slice(0, 9).join("") : String(position), middle = margin + (position + 0.5) * cell;
    pen.fillStyle = style.getPropertyValue(labelled && position === token ? "--mark" : "--ink");
    pen.textAlign = "right";
    pen.fillText(label, margin - 5, middle);
    pen.save();
    pen.translate(middle, margin - 5);
    if (labelled) pen.rotate(-Math.PI / 2);
    pen.textAlign = labelled ? "left" : "center";
    pen.fillText(label, 0, labelled ? 0 : -6);
    pen.restore();
  }
  pen.strokeStyle = style.getPropertyValue("--mark");
  pen.lineWidth = 1.5;
  pen.strokeRect(margin, margin + token * cell, (token + 1) * cell, cell); // the row that looks
  if (key <= token) { pen.lineWidth = 3; pen.strokeRect(margin + key * cell, margin + token * cell, Math.max(cell, 4), Math.max(cell, 4)); }
}
function sayCell(query = state.token, key = state.key) {
  $("cell").textContent = !has(state.layer) ? "The attention maps are left out of this page." : key > query ? `${at(query)} cannot look ahead, at ${at(key)}`
    : `${at(query)} looks at ${at(key)} with ${percent(weight(state.layer, state.head, query, key))} of its weight`;
}
function makeMap() {
  const cellOf = (event) => [event.offsetY, event.offsetX].map((x) => Math.floor((x - place.margin) / place.cell));
  const inside = ([query, key]) => query >= 0 && key >= 0 && query < T && key < T;
  $("map").addEventListener("mousemove", (event) => { const cell = cellOf(event); if (inside(cell)) sayCell(...cell); });
  $("map").addEventListener("mouseleave", () => sayCell());
  $("map").addEventListener("click", (event) => { const [token, key] = cellOf(event); if (inside([token, key])) choose({ token, key }); });
  onArrows($("map"), (down, right) => { const token = clamp(state.token + down, 0, T - 1); choose({ token, key: clamp(state.key + right, 0, token) }); });
}
function showAttention() {
  const { layer, head, token } = state;
  rove(thumbs, thumbs.find((thumb) => +thumb.dataset.layer === layer && +thumb.dataset.head === head), "aria-pressed");
  $("map-title").textContent = `Layer ${layer}, head ${head}`;
  state.key = Math.min(state.key, token);
  drawMap();
  sayCell();
  const rows = Array.from({ length: has(layer) ? token + 1 : 0 }, (_, key) => make("tr", {}, make("th", { scope: "row", textContent: key }), make("td", { textContent: tokens[key] }), make("td", { textContent: weight(layer, head, token, key).toFixed(3) })));
  $("row").replaceChildren(make("caption", { textContent: `Where token ${at(token)} looks, layer ${layer}, head ${head}` }),
    make("thead", {}, make("tr", {}, ...["position", "token", "weight"].map((textContent) => make("th", { scope: "col", textContent })))), make("tbody", {}, ...rows));
}

// --- the logit lens ------------------------------------------------------------------------------------------------
const lensColours = {
  top: (depth, position) => lens.probabilities[depth][position][0],
  next: (depth, position) => lens.next_probability[depth][position],
  entropy: (depth, position) => lens.entropy[depth][position] / data.entropy_scale,
};
function fillLens() {
  const to = Math.min(state.from + WINDOW, T), positions = Array.from({ length: to - state.from }, (_, i) => state.from + i);
  const head = positions.map((position) => make("th", { scope: "col", title: at(position), data: { position } }, make("small", { textContent: position }), make("br"), tokens[position]));
  const rows = lens.layers.map((layer, depth) => make("tr", {}, make("th", { scope: "row", textContent: layer }), ...positions.map((position) => {
    const cell = make("td", { role: "gridcell", textContent: name(lens.ids[depth][position][0]), data: { depth, position } });
    cell.classList.toggle("right", lens.next_rank[depth][position] === 1);
    paint(cell, lensColours[state.lensColour](depth, position));
    return cell;
  })));
  $("lens-table").setAttribute("role", "grid");
  $("lens-table").setAttribute("aria-label", "Likeliest next token by layer and position");
  $("lens-table").replaceChildren(make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "after" }), ...head)), make("tbody", {}, ...rows));
  $("window").hidden = T <= WINDOW;
  $("range").textContent = `positions ${state.from} to ${to - 1} of ${T}`;
  $("earlier").disabled = state.from === 0;
  $("later").disabled = to === T;
}
function showLens() {
  if (state.token < state.from || state.token >= state.from + WINDOW) { state.from = Math.floor(state.token / WINDOW) * WINDOW; fillLens(); }
  const cells = [...$("lens-table").querySelectorAll("td")];
  const chosen = cells.find((cell) => +cell.dataset.depth === state.depth && +cell.dataset.position === state.token);
  rove(cells, chosen, "aria-selected");
  const box = $("lens-table").parentElement, first = $("lens-table").querySelector("th").offsetWidth; // scroll it alone, not the page
  if (chosen.offsetLeft - first < box.scrollLeft) box.scrollLeft = chosen.offsetLeft - first;
  else if (chosen.offsetLeft + chosen.offsetWidth > box.scrollLeft + box.clientWidth) box.scrollLeft = chosen.offsetLeft + chosen.offsetWidth - box.clientWidth;
  $("lens-table").querySelectorAll("thead th").forEach((th) => th.classList.toggle("here", +th.dataset.position === state.token));
  showPrediction();
}
function showPrediction(depth = state.depth, position = state.token) {
  const known = position < T - 1;
  $("prediction").replaceChildren(make("h3", {}, "After ", make("code", { textContent: at(position) })), make("p", { textContent: `${lens.layers[depth]}${depth === lens.layers.length - 1 ? ": the model's own prediction" : ""}; entropy ${number(lens.entropy[depth][position])} nats` }),
    bars(lens.ids[depth][position].map((id, i) => [name(id), lens.probabilities[depth][position][i]])),
    make("p", {}, ...known ? ["In fact: ", make("code", { textContent: tokens[position + 1] }), `, probability ${percent(lens.next_probability[depth][position])}, rank ${lens.next_rank[depth][position]}`] : ["What comes next is not known."]));
}
function makeLens() {
  const cellOf = (event) => event.target.closest("td")?.dataset;
  $("lens-table").addEventListener("mouseover", (event) => { const cell = cellOf(event); if (cell) showPrediction(+cell.depth, +cell.position); });
  $("lens-table").addEventListener("mouseleave", () => showPrediction());
  $("lens-table").addEventListener("click", (event) => { const cell = cellOf(event); if (cell) choose({ depth: +cell.depth, token: +cell.position }); });
  onArrows($("lens-table"), (down, right) => {
    choose({ depth: clamp(state.depth + down, 0, lens.layers.length - 1), token: clamp(state.token + right, 0, T - 1) });
    $("lens-table").querySelector("td[tabindex='0']").focus();
  });
  $("lens-colour").addEventListener("change", (event) => { state.lensColour = event.target.value; fillLens(); showLens(); });
  for (const [id, step] of [["earlier", -WINDOW], ["later", WINDOW]])
    $(id).addEventListener("click", () => choose({ token: clamp(Math.floor(state.token / WINDOW) * WINDOW + step, 0, T - 1) }));
  fillLens();
}

// --- heads in numbers ----------------------------------------------------------------------------------------------
const COLUMNS = [["layer", "layer"], ["head", "head"], ["entropy", "entropy (nats)"], ["distance", "tokens back"], ["previous", "on the token before"], ["first", "on the first token"], ["induction", "induction"]];
function showStatistics() {
  const heading = COLUMNS.map(([key, title]) => {
    const th = make("th", { scope: "col" }, make("button", { type: "button", textContent: title, data: { key } }));
    if (key === state.sort) th.setAttribute("aria-sort", state.down ? "descending" : "ascending");
    return th;
  });
  const value = (row) => row[state.sort] ?? -Infinity, sign = state.down ? -1 : 1;
  const rows = [...statistics].sort((a, b) => sign * (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : 0)).map((row) => {
    const [key, w] = peak(row.layer, row.head, state.token), best = has(row.layer) ? `${at(key)} ${percent(w)}` : "left out";
    const choice = make("button", { type: "button", textContent: `layer ${row.layer}`, disabled: !has(row.layer), "aria-label": `choose layer ${row.layer}, head ${row.head}`, data: { layer: row.layer, head: row.head } });
    return make("tr", { className: row.layer === state.layer && row.head === state.head ? "chosen" : "" }, make("th", { scope: "row" }, choice), make("td", { textContent: row.head }),
      ...COLUMNS.slice(2).map(([key]) => make("td", { textContent: number(row[key], key === "distance" ? 1 : 2) })), make("td", { textContent: best }));
  });
  const held = document.activeElement?.closest("#statistics button")?.dataset;
  $("statistics").replaceChildren(make("thead", {}, make("tr", {}, ...heading, make("th", { scope: "col", textContent: `${at(state.token)} looks most at` }))), make("tbody", {}, ...rows));
  if (held) $("statistics").querySelector(held.key ? `[data-key="${held.key}"]` : `[data-layer="${held.layer}"][data-head="${held.head}"]`)?.focus();
}
function makeStatistics() {
  $("statistics").addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button?.dataset.key) choose({ sort: button.dataset.key, down: state.sort === button.dataset.key ? !state.down : !["layer", "head"].includes(button.dataset.key) });
    else if (button) choose({ layer: +button.dataset.layer, head: +button.dataset.head });
  });
}

// --- all together --------------------------------------------------------------------------------------------------
function choose(change) {
  const looksAnew = !("key" in change) && ["token", "layer", "head"].some((name) => name in change && change[name] !== state[name]);
  Object.assign(state, change);
  if (looksAnew) state.key = peak(state.layer, state.head, state.token)[0];
  show();
}
function show() {
  const { token, layer, head, depth } = state;
  rove(buttons, buttons[token], "aria-pressed");
  showText();
  showAttention();
  showLens();
  showStatistics();
  const [key, w] = peak(layer, head, token);
  const surprise = token ? `, surprise ${number(data.surprise[token])} bits` : "";
  const looks = has(layer) ? ` Layer ${layer}, head ${head} looks most at ${at(key)}, ${percent(w)}.` : "";
  $("status").textContent = `Token ${token}: ${tokens[token]}${surprise}.${looks} Lens, ${lens.layers[depth]}: ${name(lens.ids[depth][token][0])}, ${percent(lens.probabilities[depth][token][0])}.`;
}
document.title = $("title").textContent = data.title;
$("about").textContent = data.about;
$("left-out").textContent = data.left_out.length ? `Left out, so that this page stays small: ${data.left_out.join("; ")}.` : "";
$("left-out").hidden = !data.left_out.length;
function start() {
  makeRamp(); makeText(); makeGrid(); makeMap(); makeLens(); makeStatistics();
  choose({ token: T - 1, head: 0, key: peak(state.layer, 0, T - 1)[0] });
  drawThumbs();
  dark.addEventListener("change", () => { makeRamp(); fillLens(); show(); drawThumbs(); });
  new ResizeObserver(drawMap).observe($("map"));
}
requestAnimationFrame(() => setTimeout(start)); // the page itself is seen first
