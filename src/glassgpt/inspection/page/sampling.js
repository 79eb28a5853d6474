// --- sampling: what settings make of the distribution behind the text, as the library's own filters make it ----------

const { likeliest, settings } = data.effects;
const longest = Math.max(...settings.flatMap(({ shares, rest }) => [...shares, rest])); // the bars have one scale

function makeSampling() {
  $("settings").append(...settings.map(({ name }, i) =>
    make("label", {}, make("input", { type: "radio", name: "setting", value: i, checked: i === 0 }), ` ${name}`)));
  $("settings").addEventListener("change", (event) => {
    state.setting = Number(event.target.value);
    showSampling();
    say(tellSetting(settings[state.setting]));
  });
  $("behind").textContent = at(T - 1);
  showSampling();
}

function tellSetting({ name, kept, entropy }) {
  const tokens = `${kept.toLocaleString("en")} of ${V.toLocaleString("en")} ${V === 1 ? "token" : "tokens"}`;
  return `${name}: ${tokens} can be drawn, entropy ${digits(entropy)} bits`;
}

function showSampling() {
  const before = settings[0], after = settings[state.setting], others = V - likeliest.length;
  const rows = likeliest.map((id, i) => samplingRow(vocabulary[id], before.shares[i], after.shares[i]));
  if (others) rows.push(samplingRow(`${others.toLocaleString("en")} others`, before.rest, after.rest));
  fillTable($("distribution"), tellSetting(after), ["token", "before", "after", ""], rows);
  const compared = settings.map((setting, i) =>
    make("tr", { className: i === state.setting ? "chosen" : "" }, heading(setting.name, "row"),
      cell(setting.kept.toLocaleString("en")), cell(digits(setting.entropy))));
  fillTable($("compared"), "All settings", ["", "tokens", "bits"], compared);
}

function samplingRow(label, before, after) {
  const out = after === 0 && settings[state.setting].kept < V; // no rounding makes it 0: it cannot be drawn
  const bar = make("div", { className: "bar", "aria-hidden": true },
    make("span", { style: `width: ${100 * after / longest}%` }),
    make("i", { style: `left: ${100 * before / longest}%` }));
  return make("tr", { className: out ? "out" : "" },
    heading(label, "row"), cell(percent(before)), cell(out ? "out" : percent(after)),
    make("td", { className: "wide" }, bar));
}
