// --- sampling: what settings make of the distribution behind the text, as the library's own filters make it ----------

const { likeliest, settings } = data.effects;

function makeSampling() {
  $("settings").append(...settings.map(({ name }, i) =>
    make("label", {}, make("input", { type: "radio", name: "setting", value: i, checked: i === 0 }), ` ${name}`)));
  $("settings").addEventListener("change", (event) => {
    state.setting = Number(event.target.value);
    showSampling();
    say(`${settings[state.setting].name}: ${drawnFrom(settings[state.setting])}`);
  });
  $("behind").textContent = at(T - 1);
  showSampling();
}

const countOf = (kept) => `${kept.toLocaleString("en")} of ${V.toLocaleString("en")}`;
const drawnFrom = ({ kept, entropy }) =>
  `${countOf(kept)} ${V === 1 ? "token" : "tokens"} can be drawn, entropy ${digits(entropy)} bits`;

function showSampling() {
  const before = settings[0], after = settings[state.setting];
  const most = Math.max(...settings.flatMap(({ shares, rest }) => [...shares, rest])); // the same for all settings
  const row = (label, was, is) => {
    const out = is === 0 && after.kept < V; // no rounding makes it 0: it cannot be drawn
    const bar = make("div", { className: "bar", "aria-hidden": true },
      make("span", { style: `width: ${100 * is / most}%` }),
      make("i", { style: `left: ${100 * was / most}%` }));
    return make("tr", { className: !out ? "" : "out" }, heading(label, "row"),
      cell(percent(was)), cell(out ? "out" : percent(is)), make("td", { className: "wide" }, bar));
  };
  const rows = likeliest.map((id, i) => row(vocabulary[id], before.shares[i], after.shares[i]));
  const others = V - likeliest.length;
  if (others) rows.push(row(`${others.toLocaleString("en")} others`, before.rest, after.rest));
  fillTable($("distribution"), `${after.name}: ${drawnFrom(after)}`, ["token", "before", "after", ""], rows);
  const compared = settings.map((setting, i) =>
    make("tr", { className: i === state.setting ? "chosen" : "" }, heading(setting.name, "row"),
      cell(setting.kept.toLocaleString("en")), cell(digits(setting.entropy))));
  fillTable($("compared"), "All settings", ["", "tokens", "bits"], compared);
}
