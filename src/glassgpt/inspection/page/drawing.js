// --- drawing on canvases, in CSS pixels ------------------------------------------------------------------------------

const MONO = 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace';

/** A pen for an emptied canvas that has as many points as it, or another one, takes on the screen. */
function openCanvas(canvas, shown = canvas) {
  const width = shown.clientWidth || 1, height = shown.clientHeight || 1, sharpness = devicePixelRatio || 1;
  canvas.width = Math.round(width * sharpness);
  canvas.height = Math.round(height * sharpness);
  const pen = canvas.getContext("2d");
  pen.scale(sharpness, sharpness);
  pen.textBaseline = "middle";
  return { pen, width, height, sharpness };
}

/** Paints n × n values from 0 to 255 in the ramp's colours, as far as the diagonal or all of them. */
function paintSquare(canvas, n, values, triangular) {
  canvas.width = canvas.height = n;
  const image = new ImageData(n, n), points = new Uint32Array(image.data.buffer);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < (triangular ? row + 1 : n); column++) {
      points[row * n + column] = pixels[values[row * n + column]];
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

/** Text on a rim of paper, so that it can be read on whatever is drawn already. */
function outlined(pen, text, x, y) {
  pen.save();
  pen.strokeStyle = ink.paper;
  pen.lineWidth = 4;
  pen.lineJoin = "round";
  pen.strokeText(text, x, y);
  pen.restore();
  pen.fillText(text, x, y);
}

/** 1, 2, 5, 10, 20, …: how far apart labels stand, so that there are no more than so many. */
function roundStep(length, most) {
  let step = 1;
  while (length / step > most) step *= String(step)[0] === "2" ? 2.5 : 2;
  return step;
}

/**
 * A T × T picture with its rows and columns labelled, one row framed as far as `until`, and one cell of it.
 * Returns where it lies: its margin, and the width of a cell.
 */
function drawMatrix(canvas, picture, { labels, row, column, until }) {
  const { pen, width: side, sharpness } = openCanvas(canvas);
  const margin = labels ? 76 : 34, cell = (side - margin) / T;
  pen.imageSmoothingEnabled = cell * sharpness < 1;
  pen.drawImage(picture, margin, margin, side - margin, side - margin);
  pen.font = `${clamp(cell * 0.8, 9, 12)}px ${MONO}`;
  const step = labels ? 1 : roundStep(T, 8);
  for (let position = 0; position < T; position += step) {
    const label = labels ? [...labels[position]].slice(0, 9).join("") : String(position);
    const middle = margin + (position + 0.5) * cell;
    pen.fillStyle = labels && position === row ? ink.mark : ink.ink;
    pen.textAlign = "right";
    pen.fillText(label, margin - 5, middle);
    pen.save();
    pen.translate(middle, margin - 5);
    if (labels) pen.rotate(-Math.PI / 2); // upwards
    pen.textAlign = labels ? "left" : "center";
    pen.fillText(label, 0, labels ? 0 : -6);
    pen.restore();
  }
  pen.strokeStyle = ink.mark;
  pen.lineWidth = 1.5;
  pen.strokeRect(margin, margin + row * cell, until * cell, cell);
  pen.lineWidth = 3;
  const seen = Math.max(cell, 4);
  pen.strokeRect(margin + column * cell, margin + row * cell, seen, seen);
  return { margin, cell };
}

/** The row and column of a matrix under the pointer, or null. */
function cellUnder({ offsetX, offsetY }, { margin, cell }) {
  const [row, column] = [offsetY, offsetX].map((along) => Math.floor((along - margin) / cell));
  return row >= 0 && column >= 0 && row < T && column < T ? [row, column] : null;
}

/** Points in two principal directions: numbers from -32767 to 32767, x and y in turn, of a scale; packed. */
class Plane {
  constructor({ points, scale, explained }) {
    this.values = new Int16Array(unpacked(points).buffer);
    this.count = this.values.length / 2;
    this.unit = scale / 32767;
    this.explained = explained;
    this.x = new Float32Array(this.count); // where they lie on the canvas
    this.y = new Float32Array(this.count);
  }

  coordinates(i) {
    return [this.values[2 * i] * this.unit, this.values[2 * i + 1] * this.unit];
  }

  /** Lays the points out in a rectangle, alike in both directions, so that what is near in the plane looks near. */
  fit(left, top, width, height) {
    let [lowX, highX, lowY, highY] = [Infinity, -Infinity, Infinity, -Infinity];
    for (let i = 0; i < this.values.length; i += 2) {
      lowX = Math.min(lowX, this.values[i]);
      highX = Math.max(highX, this.values[i]);
      lowY = Math.min(lowY, this.values[i + 1]);
      highY = Math.max(highY, this.values[i + 1]);
    }
    const size = Math.min(width / Math.max(1, highX - lowX), height / Math.max(1, highY - lowY));
    this.across = (value) => left + width / 2 + (value - (lowX + highX) / 2) * size;
    this.upwards = (value) => top + height / 2 - (value - (lowY + highY) / 2) * size;
    for (let i = 0; i < this.count; i++) {
      this.x[i] = this.across(this.values[2 * i]);
      this.y[i] = this.upwards(this.values[2 * i + 1]);
    }
  }

  /** The point nearest to a place, among those that are allowed. */
  nearest(x, y, allowed = () => true) {
    let best = null, least = Infinity;
    for (let i = 0; i < this.count; i++) {
      const distance = (this.x[i] - x) ** 2 + (this.y[i] - y) ** 2;
      if (distance < least && allowed(i)) [best, least] = [i, distance];
    }
    return best;
  }

  /** The next point in one of the four directions: the nearest that lies more that way than aside, and can be told
   * apart from this one. */
  next(from, down, right) {
    const allowed = (i) => {
      const across = this.x[i] - this.x[from], along = this.y[i] - this.y[from];
      const ahead = across * right + along * down, aside = Math.abs(across * down + along * right);
      return ahead > 4 && ahead >= aside;
    };
    return this.nearest(this.x[from], this.y[from], allowed) ?? from;
  }

  /** The lines x = 0 and y = 0, which meet at the mean, and what each direction explains. */
  drawAxes({ pen, width, height }) {
    pen.strokeStyle = ink.line;
    pen.lineWidth = 1;
    pen.beginPath();
    pen.moveTo(0, this.upwards(0));
    pen.lineTo(width, this.upwards(0));
    pen.moveTo(this.across(0), 0);
    pen.lineTo(this.across(0), height);
    pen.stroke();
    const [first, second] = this.explained.map(percent);
    pen.fillStyle = ink.quiet;
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    outlined(pen, `first direction: ${first} of the variance`, width / 2, height - 10);
    pen.save();
    pen.translate(10, height / 2);
    pen.rotate(-Math.PI / 2);
    outlined(pen, `second: ${second} of the variance`, 0, 0);
    pen.restore();
  }

  dot(pen, i, radius) {
    pen.beginPath();
    pen.arc(this.x[i], this.y[i], radius, 0, 2 * Math.PI);
  }
}
