const ONLY_READ = new Set(data.text_only);

/** The words of a normalised text, which single spaces separate; other white space, such as U+FEFF, may be inside a word. */
const wordsOf = (text) => text.split(" ").filter(Boolean);

/** The steps from reference to hypothesis: `kind` (= s d i), words of both, number of the reference word. */
function steps(utterance, head) {
  const { hypothesis, edits } = utterance.heads[head];
  const [reference, heard] = [utterance.reference, hypothesis].map(wordsOf);
  let [r, h] = [0, 0];
  return [...edits].map((kind) => ({
    kind,
    number: r,
    reference: kind === "i" ? null : reference[r++],
    hypothesis: kind === "d" ? null : heard[h++],
  }));
}

const MARKS = { "=": ["span", ""], s: ["mark", "substituted"], d: ["del", "deleted"], i: ["ins", "inserted"] };

function marked(kind, word) {
  const [name, title] = MARKS[kind];
  return element(name, { title: title || null }, word);
}

function referenceWord({ kind, reference }) {
  if (kind === "=" && !ONLY_READ.has(reference)) return document.createTextNode(reference);
  const word = ONLY_READ.has(reference) ? element("u", { class: "read", title: "in training text alone" }, reference) : reference;
  return kind === "=" ? word : marked(kind, word);
}

/** One side of an utterance, its errors marked. */
function sideOf(utterance, head, side) {
  const line = element("span", { class: "said", dir: "auto" });
  let first = true;
  for (const step of steps(utterance, head)) {
    if (step[side] === null) continue;
    if (!first) line.append(" ");
    first = false;
    line.append(side === "reference" ? referenceWord(step) : step.kind === "=" ? step.hypothesis : marked(step.kind, step.hypothesis));
  }
  return line;
}
