// --- positions: what the model adds or turns at each, in two directions; and how alike they are ----------------------

const positionPlane = data.positions && new Plane(data.positions);
const similarities = data.positions?.similarity // 127 cos, a triangle; or left out, to keep the page small
  && new Int8Array(unpacked(data.positions.similarity).buffer);
const similarityPicture = document.createElement("canvas");
let similarityPlace = { margin: 0, cell: 1 };

const similarity = (a, b) => similarities[triangle(Math.max(a, b)) + Math.min(a, b)] / 127;
const positionShare = (position) => 0.3 + 0.7 * position / Math.max(1, positionPlane.count - 1); // seen on any paper

function makePositions() {
  $("positions").hidden = !positionPlane;
  $("no-positions").hidden = Boolean(positionPlane);
  if (!positionPlane) return;
  $("places-title").textContent = `${positionPlane.count.toLocaleString("en")} positions, from the first to the last`;
  onPointer($("places"), ({ offsetX, offsetY }) => positionPlane.nearest(offsetX, offsetY), tellPlace, choosePlace);
  onArrows($("places"), (down, right) => {
    choosePlace(clamp(state.place + right + 10 * down, 0, positionPlane.count - 1));
    say($("where").textContent);
  });
  $("alikeness").hidden = !similarities;
  $("no-similarity").hidden = Boolean(similarities);
  if (!similarities) return;
  $("lowest").textContent = digits(lowest());
  onPointer($("similarity"), (event) => cellUnder(event, similarityPlace), tellSimilarity, chooseSimilarity);
  onArrows($("similarity"), (down, right) => {
    chooseSimilarity([clamp(state.token + down, 0, T - 1), clamp(state.other + right, 0, T - 1)]);
    say($("alike").textContent);
  });
}
const lowest = () => Math.min(0, similarities.reduce((least, value) => Math.min(least, value), 127) / 127);
const chooseSimilarity = ([token, other]) => choose({ token, other });

/** A position of the text is chosen in all parts, a later one here alone. */
const choosePlace = (position) => choose(position < T ? { token: position } : { place: position });

function showPositions() {
  if (!positionPlane) return;
  tellPlace();
  if (!similarities) return;
  tellSimilarity();
  const rows = tokens.map((_, other) =>
    make("tr", {}, heading(other, "row"), cell(tokens[other]), cell(digits(similarity(state.token, other), 3))));
  fillTable($("similarity-table"), `Cosine with position ${state.token}`, ["position", "token", "cosine"], rows);
}

function tellPlace(position = state.place) {
  const where = positionPlane.coordinates(position).map((value) => digits(value)).join(", ");
  $("where").textContent = `Position ${position}, ${position < T ? tokens[position] : "behind the text"}, at ${where}`;
}

function tellSimilarity([position, other] = [state.token, state.other]) {
  $("alike").textContent = `Positions ${position} and ${other}: cosine ${digits(similarity(position, other))}`;
}

function drawPositions() {
  if (!positionPlane) return;
  const canvas = openCanvas($("places")), { pen, width, height } = canvas;
  positionPlane.fit(34, 20, width - 54, height - 52);
  positionPlane.drawAxes(canvas);
  const { x, y, count } = positionPlane;
  pen.strokeStyle = ink.line;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let i = 0; i < count; i++) pen.lineTo(x[i], y[i]);
  pen.stroke();
  for (let i = 0; i < count; i++) {
    pen.fillStyle = `rgb(${colour(positionShare(i)).join(" ")})`;
    positionPlane.dot(pen, i, count > 300 ? 2.2 : 3.2);
    pen.fill();
  }
  pen.font = `700 12px ${MONO}`;
  pen.textAlign = "left";
  for (const position of new Set([0, count - 1, state.place])) {
    const label = String(position), left = Math.min(x[position] + 7, width - pen.measureText(label).width);
    pen.fillStyle = position === state.place ? ink.mark : ink.ink;
    outlined(pen, label, left, y[position] - 8);
  }
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 3;
  positionPlane.dot(pen, state.place, 6);
  pen.stroke();
  drawSimilarity();
}

function paintSimilarity() {
  if (!similarities) return;
  const low = lowest(), values = new Uint8Array(T * T);
  for (let row = 0; row < T; row++) {
    for (let column = 0; column < T; column++) {
      values[row * T + column] = Math.round(255 * (similarity(row, column) - low) / (1 - low));
    }
  }
  paintSquare(similarityPicture, T, values, false);
}

function drawSimilarity() {
  if (!similarities) return;
  const { token, other } = state;
  similarityPlace = drawMatrix($("similarity"), similarityPicture,
    { labels: null, row: token, column: other, until: T });
}
