// --- the text --------------------------------------------------------------------------------------------------------

const buttons = tokens.map((label, position) =>
  make("button", { type: "button", textContent: label, data: { position } }));

function makeText() {
  buttons.forEach((button, position) => {
    const said = position ? `surprise ${digits(data.surprise[position])} bits` : "the first token";
    button.setAttribute("aria-label", `token ${position}: ${tokens[position]}, ${said}`);
    $("tokens").append(button);
    if (tokens[position].endsWith("⏎")) $("tokens").append(make("br"));
  });
  const find = (event) => "position" in event.target.dataset ? Number(event.target.dataset.position) : null;
  onPointer($("tokens"), find, (position) => showText(position), (token) => choose({ token }));
  onArrows($("tokens"), (down, right) => {
    choose({ token: clamp(state.token + right + 10 * down, 0, T - 1) });
    buttons[state.token].focus();
  });
  $("shading").addEventListener("change", (event) => choose({ shading: event.target.value }));
}

/** The text as it is chosen; while a token is hovered, as that token sees it. */
function showText(hovered) {
  const position = hovered ?? state.token;
  const mode = hovered !== undefined && state.shading === "surprise" ? "looks" : state.shading;
  if (mode === "surprise") shadeBySurprise();
  else shadeByWeight(position, mode);
  tellToken(position);
}

function shadeBySurprise() {
  buttons.forEach((button, position) => {
    paint(button, (data.surprise[position] ?? 0) / data.surprise_scale);
    button.classList.remove("later");
  });
  $("most").textContent = `${digits(data.surprise_scale, 1)} bits or more: a blind guess`;
}

/** What the token at a position looks at ("looks"), or what looks at it ("seen"); no token sees those after it. */
function shadeByWeight(position, mode) {
  const { layer, head } = state;
  const weights = tokens.map((_, other) =>
    mode === "looks" ? weight(layer, head, position, other) : weight(layer, head, other, position));
  const most = Math.max(...weights, 1e-9);
  buttons.forEach((button, other) => {
    const later = mode === "looks" ? other > position : other < position;
    if (later) button.removeAttribute("style");
    else paint(button, Math.sqrt(weights[other] / most));
    button.classList.toggle("later", later);
  });
  $("most").textContent = `${percent(most)} of the weight (layer ${layer}, head ${head})`;
}

function tellToken(position) {
  const { layer, head } = state;
  const said = `probability ${percent(data.probability[position])}, rank ${data.rank[position]}, `
    + `surprise ${digits(data.surprise[position])} bits (expected: ${digits(data.entropy[position])})`;
  const expected = position === 0
    ? [make("p", { textContent: "The first token: nothing comes before it, so nothing predicts it." })]
    : [make("p", { textContent: said }),
      make("h4", { textContent: "What the model expected in its place" }),
      shareBars(data.top[position].map(([id, share]) => [vocabulary[id], share]))];
  $("token").replaceChildren(
    make("h3", {}, `Token ${position}: `, code(tokens[position]), ` (id ${ids[position]})`),
    ...expected,
    make("h4", { textContent: `From here, layer ${layer}, head ${head} looks at` }),
    has(layer) ? shareBars(strongest(layer, head, position, 5).map(([key, share]) => [at(key), share]))
      : "left out of this page",
  );
}
