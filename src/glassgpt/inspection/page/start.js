// --- all together ----------------------------------------------------------------------------------------------------

/** Changes what is chosen, and shows it in all parts. */
function choose(change) {
  const before = { ...state };
  Object.assign(state, change);
  if ("token" in change) {
    state.point = ids[state.token];
    state.place = state.token;
  }
  const moved = ["token", "layer", "head"].some((name) => state[name] !== before[name]);
  if (moved && !("key" in change)) state.key = peak(state.layer, state.head, state.token)[0];
  state.key = Math.min(state.key, state.token);
  show(before);
}

/** Words first, then what must know how large it is: so the browser lays out the page once. */
function show(before = state) {
  rove(buttons, buttons[state.token], "aria-pressed");
  showText();
  showAttention();
  showLens();
  showStatistics();
  showEmbeddings();
  showPositions();
  sayAll();
  if (state.token !== before.token) reveal($("tokens"), buttons[state.token]);
  if (has(state.layer) && thumbOf(state) !== thumbOf(before)) reveal($("grid"), thumbOf(state));
  scrollLens();
  drawMap();
  drawEmbeddings();
  drawPositions();
}

function sayAll() {
  const { token, layer, head, depth } = state;
  const surprise = token ? `, surprise ${digits(data.surprise[token])} bits` : "";
  const [key, share] = peak(layer, head, token);
  const looks = has(layer) ? ` Layer ${layer}, head ${head} looks most at ${at(key)}, ${percent(share)}.` : "";
  const likeliest = `${vocabulary[lens.ids[depth][token][0]]}, ${percent(lens.probabilities[depth][token][0])}`;
  say(`Token ${token}: ${tokens[token]}${surprise}.${looks} Lens, ${lens.layers[depth]}: ${likeliest}.`);
}

/** Whatever has colours of its own. */
function recolour() {
  readColours();
  pictured = "";
  paintSimilarity();
  drawCloud();
  fillLens();
  show();
  drawThumbs();
}

function start() {
  makeText();
  makeGrid();
  makeMap();
  makeLens();
  makeStatistics();
  makeEmbeddings();
  makePositions();
  makeSampling();
  state.layer = layers[0] ?? 0;
  state.key = peak(state.layer, state.head, state.token)[0];
  recolour();
  dark.addEventListener("change", recolour);
  const resized = new ResizeObserver(() => { drawCloud(); drawMap(); drawEmbeddings(); drawPositions(); });
  for (const canvas of document.querySelectorAll("figure canvas")) resized.observe(canvas);
  new ResizeObserver(([{ target }]) => { // what gets the focus is not to lie under it
    document.documentElement.style.scrollPaddingTop = `${target.offsetHeight + 8}px`;
  }).observe($("status"));
}

document.title = $("title").textContent = data.title;
$("about").textContent = data.about;
$("left-out").hidden = !data.left_out.length;
$("left-out").textContent = `Left out, so that this page stays small: ${data.left_out.join("; ")}.`;
requestAnimationFrame(() => setTimeout(start)); // the page itself is seen first
