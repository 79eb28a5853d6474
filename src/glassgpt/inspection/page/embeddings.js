// --- embeddings: all tokens in the two directions in which they differ most ------------------------------------------

const ALL_NAMED = 200; // a vocabulary of so many tokens is shown by their names
const tokenPlane = new Plane(data.embedding);
const inText = new Map(); // token id: its positions
ids.forEach((id, position) => inText.set(id, [...inText.get(id) ?? [], position]));
const tokenCloud = document.createElement("canvas"); // the points alone: they are many, and stay

const named = (id) => `${vocabulary[id]} (id ${id})`;
const cosineBars = (pairs) => bars(pairs.map(([id, cosine]) =>
  ({ label: vocabulary[id], share: Math.max(0, cosine), said: digits(cosine) })));

function makeEmbeddings() {
  const [first, second] = data.embedding.explained, all = data.embedding.explained.reduce((sum, share) => sum + share);
  $("plane-title").textContent = V === 1 ? "The only token"
    : `${V.toLocaleString("en")} tokens: two directions have ${percent(first + second)} of the variance, `
      + `${data.embedding.explained.length} would have ${percent(all)}`;
  $("key").classList.toggle("names", V <= ALL_NAMED);
  onPointer($("plane"), ({ offsetX, offsetY }) => tokenPlane.nearest(offsetX, offsetY), (id) => {
    tellPoint(id);
    drawEmbeddings(id);
  }, choosePoint);
  onArrows($("plane"), (down, right) => {
    if (Math.abs(right) === Infinity) choosePoint(ids[state.token]); // Home and End: back to the text
    else choosePoint(tokenPlane.next(state.point, Math.sign(down), Math.sign(right)));
    say($("point").textContent);
  });
  const rows = [...inText].map(([id, positions]) => {
    const near = data.neighbours[id].map(([other, cosine]) => `${vocabulary[other]} ${digits(cosine)}`);
    return make("tr", {}, heading(vocabulary[id], "row"), cell(id), cell(positions.length),
      ...tokenPlane.coordinates(id).map((value) => cell(digits(value, 3))), cell(near.join("  ")));
  });
  fillTable($("embedding-table"), "The tokens of the text, in the order in which they come",
    ["token", "id", "times", "first", "second", "nearest, by cosine"], rows);
}

/** A token of the text is chosen in all parts, any other one here alone. */
function choosePoint(id) {
  const positions = inText.get(id);
  if (positions) choose({ token: positions.includes(state.token) ? state.token : positions[0] });
  else choose({ point: id });
}

function showEmbeddings() {
  const id = ids[state.token], near = data.neighbours[id];
  $("near").replaceChildren(
    make("h3", {}, "Nearest to ", code(vocabulary[id]), ` (id ${id})`),
    near.length ? cosineBars(near) : make("p", { textContent: "There is no other token." }),
    make("p", { className: "quiet", textContent: "Cosines of the whole embeddings: what is near in all directions "
      + "need not look near in two." }),
  );
  tellPoint();
}

function tellPoint(id = state.point) {
  const times = inText.get(id)?.length ?? 0, near = data.neighbours[ids[state.token]].find(([other]) => other === id);
  const where = tokenPlane.coordinates(id).map((value) => digits(value)).join(", ");
  $("point").textContent = `${named(id)} at ${where}; ${["not", "once", "twice"][times] ?? `${times} times`} in the text`
    + (near ? `; cosine with ${vocabulary[ids[state.token]]}: ${digits(near[1])}` : "");
}

/** The points of all tokens, for which a hand that moves cannot wait. */
function drawCloud() {
  const { clientWidth: width, clientHeight: height } = $("plane"), sharpness = devicePixelRatio || 1;
  tokenPlane.fit(34, 14, width - 52, height - 46);
  tokenCloud.width = Math.round(width * sharpness);
  tokenCloud.height = Math.round(height * sharpness);
  const pen = tokenCloud.getContext("2d"), size = V > 5000 ? 1.2 : V > ALL_NAMED ? 2.2 : 0;
  pen.scale(sharpness, sharpness);
  pen.globalAlpha = V > 5000 ? 0.35 : 0.55;
  pen.fillStyle = ink.quiet;
  for (let id = 0; id < V; id++) pen.fillRect(tokenPlane.x[id] - size / 2, tokenPlane.y[id] - size / 2, size, size);
}

function drawEmbeddings(hovered) {
  const canvas = openCanvas($("plane"));
  if (!canvas) return;
  const { pen, width, height } = canvas;
  tokenPlane.drawAxes(canvas);
  pen.drawImage(tokenCloud, 0, 0, width, height);
  const chosen = ids[state.token], near = data.neighbours[chosen].map(([id]) => id);
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 1;
  pen.globalAlpha = 0.55;
  for (const id of near) {
    pen.beginPath();
    pen.moveTo(tokenPlane.x[chosen], tokenPlane.y[chosen]);
    pen.lineTo(tokenPlane.x[id], tokenPlane.y[id]);
    pen.stroke();
  }
  pen.globalAlpha = 1;
  const many = V > ALL_NAMED;
  if (many) drawMarks(pen, chosen, near);
  const rest = many ? [] : range(V), looked = hovered ?? state.point;
  nameTokens(pen, new Set([chosen, looked, ...near, ...inText.keys(), ...rest]), chosen, near, width, height);
  if (looked !== chosen || hovered !== undefined) {
    pen.strokeStyle = ink.ink;
    pen.lineWidth = 1.5;
    tokenPlane.dot(pen, looked, 9);
    pen.stroke();
  }
}

/** The text's tokens are dots, the neighbours rings, the chosen one a large dot: told apart without colours, too. */
function drawMarks(pen, chosen, near) {
  pen.fillStyle = ink.bar;
  for (const id of inText.keys()) {
    tokenPlane.dot(pen, id, 3);
    pen.fill();
  }
  pen.lineWidth = 1.5;
  for (const id of near) {
    tokenPlane.dot(pen, id, 4.5);
    pen.stroke();
  }
  pen.fillStyle = ink.mark;
  tokenPlane.dot(pen, chosen, 5.5);
  pen.fill();
}

/** Names, the most telling first; one that would lie on another is left out. */
function nameTokens(pen, order, chosen, near, width, height) {
  const many = V > ALL_NAMED, taken = [];
  pen.textAlign = "left";
  for (const id of order) {
    const of = { chosen: id === chosen, near: near.includes(id), text: inText.has(id) };
    const size = of.chosen ? 15 : of.near || of.text || !many ? 13 : 12;
    pen.font = `${of.chosen || of.text ? 700 : 400} ${size}px ${MONO}`;
    const name = [...vocabulary[id]].slice(0, 14).join(""), wide = pen.measureText(name).width;
    const left = clamp(tokenPlane.x[id] + (many ? 7 : -wide / 2), 0, width - wide), middle = tokenPlane.y[id];
    const box = [left, middle - 0.45 * size, left + wide, middle + 0.45 * size];
    const free = taken.every((other) =>
      box[0] >= other[2] || box[2] <= other[0] || box[1] >= other[3] || box[3] <= other[1]);
    if (!free || box[1] < 0 || box[3] > height) continue;
    taken.push(box);
    if (many) { // on the cloud
      pen.lineWidth = 3;
      pen.strokeStyle = ink.paper;
      pen.strokeText(name, left, middle);
    }
    pen.fillStyle = of.chosen || of.near ? ink.mark : of.text ? ink.bar : ink.quiet;
    pen.fillText(name, left, middle);
  }
}
