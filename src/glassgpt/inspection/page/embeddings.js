// --- embeddings: all tokens in the two directions in which they differ most ------------------------------------------

const ALL_NAMED = 200; // a vocabulary of so many tokens is shown by their names
const tokenPlane = new Plane(data.embedding);
const inText = new Map(ids.map((id) => [id, []])); // token id: its positions
ids.forEach((id, position) => inText.get(id).push(position));
const tokenCloud = document.createElement("canvas"); // the points alone: they are many, and stay

const cosineBars = (pairs) => bars(pairs.map(([id, cosine]) =>
  ({ label: vocabulary[id], share: Math.max(0, cosine), said: digits(cosine) })));

function makeEmbeddings() {
  const [first, second] = data.embedding.explained, all = data.embedding.explained.reduce((sum, share) => sum + share);
  $("plane-title").textContent = V === 1 ? "The only token"
    : `${V.toLocaleString("en")} tokens: ${percent(first + second)} of their variance lies in two directions, `
      + `${percent(all)} in ${data.embedding.explained.length}`;
  $("key").classList.toggle("names", V <= ALL_NAMED);
  onPointer($("plane"), pointUnder, (id) => {
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

/** The token nearest to the pointer; in a crowd, those of the text can still be hit: whatever lies over their dots. */
function pointUnder({ offsetX: x, offsetY: y }) {
  const marked = V > ALL_NAMED ? tokenPlane.nearest(x, y, (id) => inText.has(id)) : null;
  const hit = marked !== null && Math.hypot(tokenPlane.x[marked] - x, tokenPlane.y[marked] - y) < 5;
  return hit ? marked : tokenPlane.nearest(x, y);
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
  const often = ["not", "once", "twice"][times] ?? `${times} times`;
  $("point").textContent = `${vocabulary[id]} (id ${id}) at ${where}; ${often} in the text`
    + (near ? `; cosine with ${vocabulary[ids[state.token]]}: ${digits(near[1])}` : "");
}

/** The points of all tokens, drawn once: a hand that moves does not wait for them. */
function drawCloud() {
  const { pen, width, height } = openCanvas(tokenCloud, $("plane"));
  tokenPlane.fit(34, 14, width - 52, height - 46);
  const size = V > 5000 ? 1.2 : 2.2;
  pen.globalAlpha = V > 5000 ? 0.35 : 0.55;
  pen.fillStyle = ink.quiet;
  for (let id = 0; id < V; id++) pen.fillRect(tokenPlane.x[id] - size / 2, tokenPlane.y[id] - size / 2, size, size);
}

function drawEmbeddings(hovered) {
  const canvas = openCanvas($("plane")), { pen, width, height } = canvas;
  const chosen = ids[state.token], near = new Set(data.neighbours[chosen].map(([id]) => id));
  const looked = hovered ?? state.point;
  tokenPlane.drawAxes(canvas);
  if (V > ALL_NAMED) pen.drawImage(tokenCloud, 0, 0, width, height);
  drawLines(pen, chosen, near);
  if (V > ALL_NAMED) drawMarks(pen, chosen, near);
  nameTokens(canvas, chosen, near, looked);
  pen.lineWidth = 1.5;
  for (const [id, colour] of [[looked, ink.ink], [chosen, ink.mark]]) {
    pen.strokeStyle = colour;
    tokenPlane.dot(pen, id, 11);
    pen.stroke();
  }
}

function drawLines(pen, chosen, near) {
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 1.5;
  pen.globalAlpha = 0.75;
  pen.beginPath();
  for (const id of near) {
    pen.moveTo(tokenPlane.x[chosen], tokenPlane.y[chosen]);
    pen.lineTo(tokenPlane.x[id], tokenPlane.y[id]);
  }
  pen.stroke();
  pen.globalAlpha = 1;
}

/** The text's tokens are dots, the neighbours rings, the chosen one a large dot: told apart without colours, too. */
function drawMarks(pen, chosen, near) {
  pen.fillStyle = ink.bar;
  for (const id of inText.keys()) {
    tokenPlane.dot(pen, id, 3);
    pen.fill();
  }
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 1.5;
  for (const id of near) {
    tokenPlane.dot(pen, id, 4.5);
    pen.stroke();
  }
  pen.fillStyle = ink.mark;
  tokenPlane.dot(pen, chosen, 5.5);
  pen.fill();
}

/** Names, the most telling first: beside the dots, or in their place where all have room. One that would lie on another
 * is left out. */
function nameTokens({ pen, width, height }, chosen, near, looked) {
  const beside = V > ALL_NAMED, taken = [];
  pen.textAlign = "left";
  for (const id of new Set([chosen, looked, ...near, ...inText.keys(), ...(beside ? [] : range(V))])) {
    const size = id === chosen ? 15 : 13, x = tokenPlane.x[id], y = tokenPlane.y[id];
    pen.font = `${inText.has(id) ? 700 : 400} ${size}px ${MONO}`;
    pen.fillStyle = id === chosen || near.has(id) ? ink.mark : inText.has(id) ? ink.bar : ink.quiet;
    const name = [...vocabulary[id]].slice(0, 14).join(""), wide = pen.measureText(name).width;
    const left = !beside ? x - wide / 2 : x + 7 + wide < width ? x + 7 : x - 7 - wide;
    const slack = beside ? 0 : 1; // pixels by which names may touch and still be read
    const box = { left: left + slack, right: left + wide - slack, top: y - 6 + slack, bottom: y + 6 - slack };
    const free = taken.every((other) => box.left >= other.right || box.right <= other.left
      || box.top >= other.bottom || box.bottom <= other.top);
    if (free) {
      taken.push(box);
      if (beside) outlined(pen, name, left, y);
      else pen.fillText(name, left, y);
    } else if (!beside) { // what has no name has a point at least
      tokenPlane.dot(pen, id, 1.5);
      pen.fill();
    }
  }
}
