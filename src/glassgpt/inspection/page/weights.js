// --- attention weights: bytes, 255 √w, of the lower triangles of a layer's heads one after the other -----------------

const layersOfBytes = new Map(); // unpacked when they are first needed
const has = (layer) => data.attention[layer] != null; // or it was left out, to keep the page small

function bytesOf(layer) {
  if (!layersOfBytes.has(layer) && has(layer)) layersOfBytes.set(layer, unpacked(data.attention[layer]));
  return layersOfBytes.get(layer);
}

/** How much of a key a query takes, from 0 to 1. */
function weight(layer, head, query, key) {
  if (key > query || !has(layer)) return 0;
  return (bytesOf(layer)[head * triangle(T) + triangle(query) + key] / 255) ** 2;
}

/** The keys that a query takes most of: [key, weight], the most first. */
function strongest(layer, head, query, count) {
  const pairs = range(query + 1).map((key) => [key, weight(layer, head, query, key)]);
  return pairs.sort((a, b) => b[1] - a[1]).slice(0, count);
}

/** The first of them alone. */
function peak(layer, head, query) {
  let best = [0, weight(layer, head, query, 0)];
  for (let key = 1; key <= query; key++) {
    const here = weight(layer, head, query, key);
    if (here > best[1]) best = [key, here];
  }
  return best;
}
