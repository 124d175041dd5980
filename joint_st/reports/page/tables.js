/** A rate and its interval on a scale from 0 to `most`. */
function interval(row, most) {
  const x = (rate) => 6 + (178 * Math.min(rate, most)) / most;
  if (row.wer === null) return "";
  return drawn(
    "svg",
    { class: "interval", viewBox: "0 0 190 18", role: "img", "aria-label": `${percent(row.wer)} per cent` },
    drawn("line", { class: "track", x1: 6, x2: 184, y1: 9, y2: 9 }),
    row.wer_low === null ? null : drawn("line", { class: "range", x1: x(row.wer_low), x2: x(row.wer_high), y1: 9, y2: 9 }),
    drawn("circle", { cx: x(row.wer), cy: 9, r: 4 }),
  );
}

const between = (row) => (row.wer_low === null ? "–" : `${percent(row.wer_low)}–${percent(row.wer_high)}`);

function table(caption, names, rows) {
  return element(
    "table",
    { "aria-label": caption },
    element("thead", {}, element("tr", {}, names.map(([name, side]) => element("th", { scope: "col", class: side }, name)))),
    element("tbody", {}, rows),
  );
}

const RATES = [["WER %"], ["", "left"], ["95 %"]];

function rates(row, most) {
  return [
    element("td", { class: "strong" }, percent(row.wer)),
    element("td", { class: "left" }, interval(row, most)),
    element("td", {}, between(row)),
  ];
}

/** The scale of intervals that stand below each other. */
const reach = (rows) => Math.max(...rows.map((row) => row.wer_high ?? row.wer ?? 0), 0.01) * 1.02;

function cards(rows) {
  const whole = rows.filter((row) => row.subset === "all");
  const ordered = [...whole].sort((a, b) => (b.head === data.head) - (a.head === data.head));
  const heads = ordered.map((row) =>
    element(
      "div",
      { class: "card" },
      element("p", {}, `${headName(row.head)}, WER`),
      element("div", { class: "big" }, percent(row.wer), element("small", {}, " %")),
      element("p", {}, `95 %: ${between(row)}; CER ${percent(row.cer)} %`),
    ),
  );
  const [first] = whole;
  const minutes = data.seconds / 60;
  heads.push(
    element(
      "div",
      { class: "card" },
      element("p", {}, "measured on"),
      element("div", { class: "big" }, String(first.utterances), element("small", {}, " utterances")),
      element("p", {}, `${first.words} words, ${minutes < 90 ? `${minutes.toFixed(1)} min` : `${(minutes / 60).toFixed(1)} h`}`),
    ),
  );
  return heads;
}

function summary(rows) {
  const most = reach(rows);
  const lines = rows.map((row) =>
    element(
      "tr",
      { class: row.subset === "all" ? null : "part" },
      element("th", { scope: "row" }, row.subset === "all" ? headName(row.head) : `${row.subset.replace("_", " ")} words`),
      rates(row, most),
      [percent(row.cer), row.insertions, row.deletions, row.substitutions, row.words, row.utterances].map((value) =>
        element("td", {}, String(value)),
      ),
    ),
  );
  const rest = ["CER %", "ins", "del", "sub", "words", "utterances"].map((name) => [name]);
  return table("Error rates", [["head"], ...RATES, ...rest], lines);
}

/** The groups under the head shown; a group's name filters the utterances. */
function breakdown({ by, rows, notes }) {
  const shown = rows.filter((row) => row.head === state.head);
  const groups = [];
  for (const row of shown) {
    if (row.subset === "all") groups.push({}); // the first row of each group; two groups may have one name
    groups.at(-1)[row.subset] = row;
  }
  const whole = groups.map((group) => group.all);
  const remarks = notes.map((note) => element("p", { class: "note" }, note));
  if (!whole.length) return element("div", {}, remarks);
  const most = reach(whole);
  const subsets = [...new Set(shown.map((row) => row.subset))].filter((name) => name !== "all").sort();
  const lines = groups.map((group) => {
    const row = group.all;
    const name = element(
      "button",
      { type: "button", class: "link", title: "Show its utterances", click: () => list.showGroup(by, row.group) },
      row.group,
    );
    const parts = subsets.map((subset) => group[subset]);
    return element(
      "tr",
      {},
      element("th", { scope: "row" }, name),
      rates(row, most),
      [...parts.map((part) => percent(part?.wer)), percent(row.cer), row.words, row.utterances].map((value) =>
        element("td", {}, String(value)),
      ),
    );
  });
  const rest = [...subsets.map((name) => `${name.replace("_", " ")} %`), "CER %", "words", "utterances"];
  const content = table(`Error rates by ${by}`, [[by], ...RATES, ...rest.map((one) => [one])], lines);
  return element(
    "div",
    { class: "breakdown" },
    element("h3", {}, `By ${by}`),
    element("div", { class: "scroll tall", role: "region", tabindex: "0", "aria-label": `By ${by}` }, content),
    remarks,
  );
}

/** What was heard for what, and which words were missed, under the head shown; a word filters the utterances. */
function wordTables() {
  const { confusions, missed } = data.words[state.head];
  const link = (word) =>
    element("button", { type: "button", class: "link", title: "Show its utterances", click: () => list.showWord(word) }, word);
  const line = (first, ...rest) =>
    element("tr", {}, element("th", { scope: "row" }, first), rest.map((one) => element("td", {}, one)));
  const tables = [
    ["Most confused", ["said", "heard", "times"], confusions.map((row) => line(link(row.reference), row.hypothesis, String(row.count)))],
    ["Most missed", ["word", "missed", "said", "%"], missed.map((row) => line(link(row.word), String(row.missed), String(row.count), percent(row.rate)))],
  ];
  return tables.map(([title, names, rows]) =>
    element(
      "div",
      {},
      element("h3", {}, title),
      rows.length
        ? element("div", { class: "scroll tall", role: "region", tabindex: "0", "aria-label": title }, table(title, names.map((name) => [name]), rows))
        : element("p", { class: "note" }, "none"),
    ),
  );
}
