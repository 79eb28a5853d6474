// --- colours: lightness runs one way in both ramps, so that everyone can tell them apart, and on paper too -----------

const RAMPS = {
  light: [[255, 254, 242], [216, 238, 184], [115, 194, 187], [44, 127, 184], [10, 32, 96]],
  dark: [[11, 26, 51], [53, 69, 108], [111, 111, 115], [184, 169, 107], [254, 232, 56]],
};
const dark = matchMedia("(prefers-color-scheme: dark)");
let ramp; // 256 colours, [red, green, blue] each
let pixels; // the same, as pixels of an image
let ink; // the page's own colours by their names in page.css

function readColours() {
  const stops = RAMPS[dark.matches ? "dark" : "light"];
  ramp = range(256).map((i) => {
    const place = i / 255 * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
    return stops[low].map((from, channel) => Math.round(from + (stops[low + 1][channel] - from) * (place - low)));
  });
  pixels = ramp.map((rgb) => new Uint32Array(new Uint8Array([...rgb, 255]).buffer)[0]);
  const style = getComputedStyle(document.documentElement);
  ink = Object.fromEntries(["paper", "ink", "quiet", "line", "mark", "bar"].map((name) =>
    [name, style.getPropertyValue(`--${name}`).trim()]));
}

const colour = (share) => ramp[Math.round(255 * clamp(share, 0, 1))];

/** How much light a colour gives, from 0 for black to 1 for white, as the WCAG reckon it. */
function luminance(rgb) {
  const [red, green, blue] = rgb.map((value) => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

/** A background for a share from 0 to 1, and black or white on it: one of them has a contrast above 4.5 on any. */
function paint(element, share) {
  const ground = colour(share), light = luminance(ground) + 0.05; // contrasts: light / 0.05 and 1.05 / light
  element.style.background = `rgb(${ground.join(" ")})`;
  element.style.color = light / 0.05 > 1.05 / light ? "#000000" : "#ffffff";
}
