const OVERSCAN = 3;

/** Counts of one utterance under one head. */
function counted(utterance, head) {
  const count = { "=": 0, s: 0, d: 0, i: 0 };
  for (const letter of utterance.heads[head].edits) count[letter]++;
  const words = count["="] + count.s + count.d;
  const errors = count.s + count.d + count.i;
  return { ...count, words, errors, wer: words ? errors / words : errors ? Infinity : 0 };
}

const KINDS = {
  all: ["all", () => true],
  some: ["with errors", (count) => count.errors > 0],
  none: ["without errors", (count) => count.errors === 0],
  d: ["with deletions", (count) => count.d > 0],
  i: ["with insertions", (count) => count.i > 0],
  s: ["with substitutions", (count) => count.s > 0],
  read: ["with words of training text alone", (_, utterance) => utterance.read],
};

const COLUMNS = [
  ["WER", "number", (one) => one.counts[state.head].wer],
  ["errors", "number", (one) => one.counts[state.head].errors],
  ["length", "number", (one) => one.seconds],
  ["♪", "", (one) => (one.sample ? 1 : 0)],
  ["reference", "", (one) => one.reference],
  ["hypothesis", "", (one) => one.heads[state.head].hypothesis],
];

/** All utterances, of which only those in the window are elements of the page. */
const list = {
  shown: [],
  sort: { column: 1, down: true },
  window: null,
  space: null,
  rowHeight: 64,

  start() {
    const heads = data.heads;
    data.utterances.forEach((one, place) => {
      one.place = place;
      one.counts = Object.fromEntries(heads.map((head) => [head, counted(one, head)]));
      one.read = wordsOf(one.reference).some((word) => ONLY_READ.has(word));
      one.text = Object.fromEntries(
        heads.map((head) => [head, `${one.id}\n ${one.reference} \n ${one.heads[head].hypothesis} `.toLowerCase()]),
      );
    });
    byId("kind").append(...Object.entries(KINDS).map(([key, [name]]) => element("option", { value: key }, name)));
    byId("group").append(element("option", { value: "" }, "all"));
    for (const { by, rows } of data.breakdowns) {
      const groups = [...new Set(rows.map((row) => row.group))];
      if (!groups.length) continue;
      const options = groups.map((group) => element("option", { value: JSON.stringify([by, group]) }, group));
      byId("group").append(element("optgroup", { label: by }, options));
    }
    list.build();
    for (const id of ["find", "kind", "group", "heard"]) byId(id).addEventListener("input", () => list.update());
    matchMedia("(max-width: 760px)").addEventListener("change", () => list.measure());
    document.addEventListener("keydown", list.shortcut);
    list.measure();
    list.update();
  },

  build() {
    const titles = COLUMNS.map(([name, side], k) =>
      element(
        "div",
        { role: "columnheader", class: side, "aria-sort": "none" },
        element("button", { type: "button", click: () => list.sortBy(k), "aria-label": name === "♪" ? "audio" : null }, name),
      ),
    );
    list.titles = titles;
    list.space = element("div", { class: "space", role: "rowgroup" });
    list.head = element("div", { class: "head", role: "row" }, titles);
    list.window = element(
      "div",
      { class: "window", tabindex: "0", role: "grid", keydown: list.keys, "aria-label": "Utterances" },
      list.head,
      list.space,
    );
    list.window.addEventListener("scroll", () => list.draw(), { passive: true });
    byId("list").append(list.window);
  },

  measure() {
    list.rowHeight = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--row"));
    if (list.space) list.draw(true);
  },

  /** Filters, sorts and draws again. */
  update() {
    // In quotes, whole words.
    const words = byId("find").value.toLowerCase().trim().replace(/^"(.+)"$/, " $1 ");
    const [, fits] = KINDS[byId("kind").value];
    const group = byId("group").value && JSON.parse(byId("group").value);
    const heard = byId("heard").checked;
    const { head } = state;
    list.shown = data.utterances.filter(
      (one) =>
        (!words || one.text[head].includes(words)) &&
        fits(one.counts[head], one) &&
        (!group || one.groups[group[0]] === group[1]) &&
        (!heard || one.sample),
    );
    list.order();
    const total = { errors: 0, words: 0 };
    for (const one of list.shown) {
      total.errors += one.counts[head].errors;
      total.words += one.counts[head].words;
    }
    const wer = total.words ? `; WER ${percent(total.errors / total.words)} % of ${headName(head)}` : "";
    byId("count").textContent = `${list.shown.length} of ${data.utterances.length} utterances${wer}`;
    list.window.setAttribute("aria-rowcount", list.shown.length + 1);
    if (!list.shown.includes(state.chosen)) choose(list.shown[0] || null);
    list.window.scrollTop = 0;
    list.draw(true);
  },

  order() {
    const { column, down } = list.sort;
    const [, , key] = COLUMNS[column];
    const keys = new Map(list.shown.map((one) => [one, key(one)]));
    const sign = down ? -1 : 1;
    list.shown.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      return x < y ? -sign : x > y ? sign : a.place - b.place;
    });
    list.titles.forEach((title, k) => {
      title.setAttribute("aria-sort", k === column ? (down ? "descending" : "ascending") : "none");
    });
  },

  sortBy(column) {
    const numbers = column < 4;
    list.sort = { column, down: list.sort.column === column ? !list.sort.down : numbers };
    list.update();
  },

  showWord(word) {
    byId("find").value = `"${word}"`;
    list.show();
  },

  showGroup(by, group) {
    byId("group").value = JSON.stringify([by, group]);
    list.show();
  },

  show() {
    list.update();
    byId("utterances").scrollIntoView();
    list.window.focus({ preventScroll: true });
  },

  /** Makes the rows in the window; all of them again if they may have changed. */
  draw(anew = false) {
    const { rowHeight, shown } = list;
    const first = Math.max(0, Math.floor(list.window.scrollTop / rowHeight) - OVERSCAN);
    const last = Math.min(shown.length, first + Math.ceil(list.window.clientHeight / rowHeight) + 2 * OVERSCAN);
    list.space.style.height = `${shown.length * rowHeight}px`;
    if (anew) list.space.replaceChildren();
    const there = new Map([...list.space.children].map((row) => [Number(row.dataset.place), row]));
    for (const [place, row] of there) if (place < first || place >= last) row.remove();
    for (let place = first; place < last; place++) {
      if (!there.has(place)) list.space.append(list.row(shown[place], place));
    }
    if (!shown.length) list.space.append(element("p", { class: "empty" }, "No utterance fits; change the filters."));
    const chosen = [...list.space.children].find((row) => row.getAttribute("aria-selected") === "true");
    if (chosen) list.window.setAttribute("aria-activedescendant", chosen.id);
    else list.window.removeAttribute("aria-activedescendant");
  },

  row(one, place) {
    const count = one.counts[state.head];
    const wer = Number.isFinite(count.wer) ? `${(100 * count.wer).toFixed(0)} %` : "–";
    const row = element(
      "div",
      {
        class: "row", role: "row", id: `row-${one.place}`, "data-place": place, "aria-rowindex": place + 2,
        "aria-selected": String(one === state.chosen), click: () => list.choose(place),
      },
      element("span", { class: "number", role: "gridcell" }, wer),
      element("span", { class: "number", role: "gridcell", title: `${count.d} deleted, ${count.i} inserted, ${count.s} substituted` },
        `${count.errors} of ${count.words}`),
      element("span", { class: "number", role: "gridcell" }, `${one.seconds.toFixed(1)} s`),
      element("span", { class: "sound", role: "gridcell", title: one.sample ? "with audio" : null }, one.sample ? "♪" : ""),
      element("div", { role: "gridcell" }, sideOf(one, state.head, "reference")),
      element("div", { role: "gridcell" }, sideOf(one, state.head, "hypothesis")),
    );
    row.style.transform = `translateY(${place * list.rowHeight}px)`;
    return row;
  },

  choose(place) {
    const one = list.shown[Math.max(0, Math.min(list.shown.length - 1, place))];
    if (!one) return;
    choose(one);
    const { rowHeight, window } = list;
    const top = list.shown.indexOf(one) * rowHeight;
    const high = window.clientHeight - list.head.offsetHeight;
    if (top < window.scrollTop) window.scrollTop = top;
    else if (top + rowHeight > window.scrollTop + high) window.scrollTop = top + rowHeight - high;
    list.draw(true);
  },

  keys(event) {
    if (event.target !== list.window) return;
    const at = list.shown.indexOf(state.chosen);
    const page = Math.max(1, Math.floor(list.window.clientHeight / list.rowHeight) - 1);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + page, PageUp: at - page, Home: 0, End: list.shown.length - 1 }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      list.choose(to);
    } else if (event.key === "Enter") {
      event.preventDefault();
      byId("detail").scrollIntoView({ block: "nearest" });
      byId("detail").querySelector("button, input")?.focus({ preventScroll: true });
    }
  },

  /** Keys that work wherever nothing else takes them. */
  shortcut(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, button, a")) return;
    if (event.key === " " && state.chosen?.sample) {
      event.preventDefault();
      player.toggle();
    } else if (event.key === "/") {
      event.preventDefault();
      byId("find").focus();
    }
  },
};
