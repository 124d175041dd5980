/** How far each moment of the sound is from each unit of the text, in some layers, with the best path. */
const layerMaps = {
  cursors: [],

  draw(maps) {
    layerMaps.cursors = [];
    if (!maps) return null;
    return element("div", { class: "maps" }, maps.layers.map((layer) => layerMaps.one(maps, layer)));
  },

  one(maps, layer) {
    const wide = 380, left = 34, right = 6, bottom = 26, top = 6;
    const tall = Math.max(160, Math.min(440, maps.units.length * 10.5)) + top + bottom;
    const seconds = maps.frames * maps.frame_seconds;
    const x = (time) => left + ((wide - left - right) * time) / seconds;
    const y = (frame) => tall - bottom - ((tall - top - bottom) * frame) / maps.text_frames;
    const image = drawn("image", {
      href: layer.image, x: left, y: top, width: wide - left - right, height: tall - top - bottom, preserveAspectRatio: "none",
    });
    const path = layer.path.map((frame, k) => `${k ? "L" : "M"}${x((k + 0.5) * maps.frame_seconds).toFixed(1)} ${y(frame + 0.5).toFixed(1)}`);
    const boxes = (maps.word_times || []).map(([start, end], k) => {
      const [first, last] = maps.words[k];
      return drawn("rect", { class: "box", x: x(start), width: x(end) - x(start), y: y(last), height: y(first) - y(last) });
    });
    const cursor = drawn("line", { class: "now", y1: top, y2: tall - bottom, x1: left, x2: left });
    layerMaps.cursors.push((now) => {
      cursor.setAttribute("x1", x(Math.min(now, seconds)));
      cursor.setAttribute("x2", x(Math.min(now, seconds)));
    });
    const every = Math.ceil((10 * maps.units.length) / (tall - top - bottom));
    const units = maps.units.filter((_, k) => k % every === 0).map(([middle, symbol]) =>
      drawn("text", { x: left - 6, y: y(middle) + 3, "text-anchor": "end" }, symbol),
    );
    const times = ticks(0, seconds, 5).map((time) => drawn("text", { x: x(time), y: tall - 9, "text-anchor": "middle" }, `${told(time)} s`));
    const known = boxes.length ? "; boxes: true times of words" : "";
    return element(
      "div",
      {},
      element("h3", {}, layer.name),
      drawn(
        "svg",
        { class: "map", viewBox: `0 0 ${wide} ${tall}`, role: "img" },
        drawn("title", {}, `Distance of speech (to the right) and text (upwards) in layer ${layer.name}, with the best path${known}`),
        image, boxes, drawn("path", { class: "path", d: path.join("") }),
        drawn("rect", { class: "frame", x: left, y: top, width: wide - left - right, height: tall - top - bottom }),
        units, times, cursor,
      ),
    );
  },

  now(seconds) {
    for (const move of layerMaps.cursors) move(seconds);
  },
};
