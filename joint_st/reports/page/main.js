/** Shows one utterance below the list. */
function choose(one) {
  state.chosen = one;
  const detail = byId("detail");
  player.stop();
  layerMaps.draw(null);
  detail.replaceChildren();
  if (!one) return;
  const { sample } = one;
  const count = one.counts[state.head];
  const groups = Object.entries(one.groups).map(([by, group]) => element("span", {}, `${by} ${group}`));
  detail.append(
    element(
      "div",
      { class: "who" },
      element("h3", {}, one.id),
      element("span", {}, clock(one.seconds)),
      element("span", {}, `${count.errors} errors in ${count.words} words`),
      groups,
    ),
  );
  const marks = wordsOf(one.reference).map(() => []);
  detail.append(pairs(one, marks));
  if (!sample) {
    detail.append(element("p", { class: "note" }, "Without audio in this page; ", element("code", {}, "joint-st report --utterances N"), " includes more."));
    return;
  }
  const maps = layerMaps.draw(sample.maps);
  detail.append(...player.controls(sample, marks));
  if (sample.unaligned) detail.append(element("p", { class: "note" }, `Its words have no times: ${sample.unaligned}`));
  if (maps) {
    const boxes = sample.maps.word_times ? " Boxes are the true times of the words." : "";
    detail.append(
      element("p", { class: "caption" }, `Speech (to the right) against text (upwards) in every layer: contrast means a small distance, the line is the best path.${boxes}`),
      maps,
    );
  }
}

/** Reference above hypothesis, word by word; a word with a time seeks it. */
function pairs(one, marks) {
  const spans = one.sample?.words || [];
  const columns = steps(one, state.head).map((step) => {
    let above = element("span", { class: "none", "aria-label": "nothing" }, "·");
    if (step.reference !== null) {
      const span = spans[step.number];
      const content = referenceWord(step);
      above = span
        ? element("button", { type: "button", class: "word", title: `${clock(span[0])} to ${clock(span[1])}`, click: () => player.seek(span[0] + 0.001) }, content)
        : element("span", {}, content);
      marks[step.number].push(above);
    }
    const below = step.hypothesis === null
      ? element("span", { class: "none", "aria-label": "nothing" }, "·")
      : element("span", {}, step.kind === "=" ? step.hypothesis : marked(step.kind, step.hypothesis));
    return element("div", { class: "pair" }, above, below);
  });
  return element(
    "div",
    { class: "rows" },
    element("div", { class: "names", "aria-hidden": "true" }, element("span", {}, "reference"), element("span", {}, "hypothesis")),
    element("div", { class: "pairs", dir: "auto" }, columns),
  );
}

function showHead(head) {
  state.head = head;
  for (const button of byId("heads").children) {
    const on = button.dataset.head === head;
    button.setAttribute("aria-checked", String(on));
    button.tabIndex = on ? 0 : -1;
  }
  byId("breakdowns").replaceChildren(...data.breakdowns.map(breakdown));
  byId("word-tables").replaceChildren(...wordTables());
}

function headSwitch() {
  const change = (head) => {
    showHead(head);
    const { chosen } = state;
    list.update();
    if (chosen) list.choose(list.shown.indexOf(chosen));
  };
  byId("heads").append(
    ...data.heads.map((head) =>
      element("button", { type: "button", role: "radio", "data-head": head, click: () => change(head) }, headName(head)),
    ),
  );
  byId("heads").addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const next = data.heads[(data.heads.indexOf(state.head) + by + data.heads.length) % data.heads.length];
    change(next);
    byId("heads").querySelector('[aria-checked="true"]').focus();
  });
}

theme.start();
player.start();
byId("name").textContent = data.run;
byId("facts").textContent = `split ${data.split}, step ${data.step}, decoder ${data.decoder}, normalizer ${data.normalizer}`;
byId("cards").append(...cards(data.summary));
byId("summary").append(summary(data.summary));
byId("training-charts").append(...data.training.map(chart));
if (!data.training.length) byId("training-charts").append(element("p", { class: "note" }, "The run has no metrics.csv."));
byId("layer-charts").append(...data.layers.map(chart));
if (!data.layers.length) byId("layer-charts").append(element("p", { class: "note" }, data.without_layers));
headSwitch();
showHead(state.head);
list.start();
