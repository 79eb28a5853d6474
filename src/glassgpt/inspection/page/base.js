// The page of `glassgpt inspect`. All that it shows stands in the JSON block above; page.py joins these files in one
// scope. Each part of the page has a `make…`, called once, and a `show…`, which draws what is chosen: `state`.
"use strict";

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { tokens, ids, vocabulary, lens, statistics } = data;
const T = tokens.length, L = data.layers, H = data.heads, V = vocabulary.length;

const state = {
  token: T - 1, // the chosen position in the text
  key: 0, // the position that it is seen looking at
  layer: 0,
  head: 0,
  shading: "surprise", // what colours the text
  depth: lens.layers.length - 1, // the chosen row of the lens
  lensColour: "top",
  lensFrom: 0, // the first position that the lens shows
  sort: "layer", // the column by which heads are sorted, and which way
  down: false,
  point: ids[T - 1], // the token id that is looked at among the embeddings
  place: T - 1, // the position that is looked at among the positions; it may lie behind the text
  other: Math.max(0, T - 2), // the position that it is compared with
  setting: 0, // of sampling
};

// --- elements --------------------------------------------------------------------------------------------------------

/** An element with its properties (or attributes, where there is no such property), `data-…` and children. */
function make(tag, { data: marks, ...properties } = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  Object.assign(element.dataset, marks);
  element.append(...children);
  return element;
}
const code = (text) => make("code", { textContent: text });
const cell = (text) => make("td", { textContent: text });
const heading = (text, scope = "col") => make("th", { scope, textContent: text });

/** Fills a table: its caption, the names of its columns, its rows. */
function fillTable(table, caption, columns, rows) {
  table.replaceChildren(
    make("caption", { textContent: caption }),
    make("thead", {}, make("tr", {}, ...columns.map((column) => heading(column)))),
    make("tbody", {}, ...rows),
  );
}

/** A list of labels, each with a figure in words and as a bar; `share` is the bar's length, from 0 to 1. */
function bars(entries) {
  const items = entries.map(({ label, share, said }) =>
    make("li", {},
      make("span", { textContent: label, title: label }),
      make("span", { textContent: said }),
      make("span", { className: "bar", "aria-hidden": true }, make("span", { style: `width: ${100 * share}%` })),
    ));
  return make("ul", { className: "bars" }, ...items);
}
const shareBars = (pairs) => bars(pairs.map(([label, share]) => ({ label, share, said: percent(share) })));

/** The live region: what a screen reader is told. */
const say = (text) => { $("status").textContent = text; };

// --- words and numbers -----------------------------------------------------------------------------------------------

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const range = (count, from = 0) => Array.from({ length: count }, (_, i) => from + i);
const at = (position) => `${tokens[position]} (${position})`;
function digits(value, count = 2) { // (-0.001 is 0.00, not −0.00)
  return value === null ? "–" : (Number(value.toFixed(count)) || 0).toFixed(count).replace("-", "−");
}

function percent(share) { // of what is neither 0 nor 1, neither is said
  if (share <= 0) return "0 %";
  if (share > 0.999995) return "100 %"; // (the data have five digits)
  if (share < 0.00095) return "< 0.1 %";
  if (share > 0.9995) return "> 99.9 %";
  return `${(100 * share).toFixed(share < 0.0995 || share >= 0.995 ? 1 : 0)} %`;
}

// --- numbers that come packed ----------------------------------------------------------------------------------------

const unpacked = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const triangle = (n) => n * (n + 1) / 2; // numbers in a lower triangle; and where row n of one begins

// --- keys and pointers -----------------------------------------------------------------------------------------------

/** One of many takes part in Tab's order; arrow keys go to the others. */
function rove(elements, chosen, attribute) {
  for (const element of elements) {
    const is = String(element === chosen);
    if (element.getAttribute(attribute) === is) continue; // of hundreds, two change
    element.tabIndex = element === chosen ? 0 : -1;
    element.setAttribute(attribute, is);
  }
}

/** Brings an element into sight: its box alone is scrolled, not the page. A `corner` that stays covers a part of it. */
function reveal(box, element, corner = null) {
  const outer = box.getBoundingClientRect(), inner = element.getBoundingClientRect(), rim = 4; // its frame is seen, too
  const past = (from, to, low, high) => (from < low ? from - low : clamp(to - high, 0, from - low));
  const left = outer.left + box.clientLeft, top = outer.top + box.clientTop;
  const { offsetWidth = 0, offsetHeight = 0 } = corner ?? {};
  box.scrollBy(
    past(inner.left - rim, inner.right + rim, left + offsetWidth, left + box.clientWidth),
    past(inner.top - rim, inner.bottom + rim, top + offsetHeight, top + box.clientHeight),
  );
}

const STEPS = { // downwards, to the right
  ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
  Home: [0, -Infinity], End: [0, Infinity], PageUp: [0, -10], PageDown: [0, 10],
};
function onArrows(element, move) {
  element.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    move(...step);
  });
}

/** Hovering, leaving and clicking: `find` says what is under the pointer, or null; `tell()` is about what is chosen. */
function onPointer(element, find, tell, pick) {
  const moved = element instanceof HTMLCanvasElement ? "mousemove" : "mouseover"; // from one child to the next
  element.addEventListener(moved, (event) => { const found = find(event); if (found !== null) tell(found); });
  element.addEventListener("mouseleave", () => tell());
  element.addEventListener("click", (event) => { const found = find(event); if (found !== null) pick(found); });
}
