"use strict";
// A case as a PNG (original, difference, adversarial picture, with confidences) or as a GIF that shows the
// original and the adversarial picture in turn. Drawn in a canvas; no request is made.
const CaseExport = (() => {
  const INK = "#1c1b19", SOFT = "#67655f", RULE = "#e5e3dd", ACCENT = "#b5400e", CALM = "#55534d", PAPER = "#ffffff";
  const SIDE = 256, GAP = 24, EDGE = 24, SANS = 'system-ui, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif';
  const percent = (share) => (share === 0 || share === 1 ? `${100 * share} %` : `${Math.min(99.9, Math.max(0.1, 100 * share)).toFixed(1)} %`);
  const blank = (width, height) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.fillStyle = PAPER;
    context.fillRect(0, 0, width, height);
    return [canvas, context];
  };
  // Text that ends with an ellipsis where it would be wider than the room.
  const write = (context, text, x, y, room, look, colour = INK, align = "left") => {
    context.font = look;
    context.fillStyle = colour;
    context.textAlign = align;
    const all = Array.from(text);
    let kept = text;
    while (all.length > 1 && context.measureText(kept).width > room) { all.pop(); kept = `${all.join("")}…`; }
    context.fillText(kept, x, y);
  };
  // Small pictures are enlarged by a whole factor, so that pixels stay squares; none is reduced.
  const grown = ({ width, height }) => {
    const factor = Math.max(1, Math.floor(SIDE / Math.max(width, height)));
    return [width * factor, height * factor];
  };
  const put = (context, source, x, y, [width, height]) => {
    context.imageSmoothingEnabled = false;
    context.drawImage(source, x, y, width, height);
  };
  const difference = ({ before, after, gain, channels }) => {
    const [canvas, context] = blank(before.width, before.height), out = context.createImageData(before.width, before.height);
    for (let p = 0; p < out.data.length; p += 4) {
      for (let c = 0; c < 3; c += 1) out.data[p + c] = 128 + gain * (after.data[p + (channels === 1 ? 0 : c)] - before.data[p + (channels === 1 ? 0 : c)]);
      out.data[p + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    return canvas;
  };
  const scale = ({ gain, most, channels }) => {
    const reach = Math.max(1, most), across = Math.min(2 * reach + 1, 65), rows = channels === 1 ? 1 : 3;
    const [canvas, context] = blank(across, rows), out = context.createImageData(across, rows);
    for (let row = 0; row < rows; row += 1) for (let i = 0; i < across; i += 1) {
      const d = -reach + (2 * reach * i) / (across - 1), p = 4 * (row * across + i);
      for (let c = 0; c < 3; c += 1) out.data[p + c] = rows === 1 || c === row ? 128 + gain * d : 128;
      out.data[p + 3] = 255;
    }
    context.putImageData(out, 0, 0);
    return canvas;
  };
  const bars = (context, entries, x, y, width, hot) => entries.slice(0, 3).forEach(([name, share, wins], i) => {
    const top = y + 34 * i, look = `${wins ? 600 : 400} 14px ${SANS}`;
    write(context, name, x, top, width - 64, look, wins ? INK : SOFT);
    write(context, percent(share), x + width, top, 60, look, wins ? INK : SOFT, "right");
    context.fillStyle = RULE;
    context.fillRect(x, top + 6, width, 6);
    context.fillStyle = wins ? (hot ? ACCENT : CALM) : SOFT;
    context.fillRect(x, top + 6, width * share, 6);
  });
  // As many rows as the longer list of classes needs, and at least what the scale needs.
  const rows = (sheet, least) => 34 * Math.max(least, ...sheet.bars.map((entries) => Math.min(3, entries.length)));

  const png = (sheet) => {
    const size = grown(sheet.before), column = Math.max(160, size[0]);
    const [canvas, context] = blank(2 * EDGE + 3 * column + 2 * GAP, EDGE + 24 + size[1] + 28 + rows(sheet, 2) + 30);
    const left = (i) => EDGE + i * (column + GAP), top = EDGE + 24, below = top + size[1] + 28;
    ["original", `difference × ${sheet.gain}`, "adversarial"].forEach((name, i) => write(context, name, left(i), EDGE + 10, column, `14px ${SANS}`, SOFT));
    [sheet.before.image, difference(sheet), sheet.after.image].forEach((source, i) => put(context, source, left(i), top, size));
    bars(context, sheet.bars[0], left(0), below, column, false);
    put(context, scale(sheet), left(1), below - 12, [column, 12]);
    context.imageSmoothingEnabled = false;
    [[0, `−${sheet.most}`, "left"], [0.5, "0", "center"], [1, `+${sheet.most}`, "right"]].forEach(([at, text, align]) => write(context, text, left(1) + at * column, below + 18, 80, `13px ${SANS}`, SOFT, align));
    write(context, sheet.channels === 1 ? "counts" : "counts of red, green, blue", left(1), below + 38, column, `13px ${SANS}`, SOFT);
    bars(context, sheet.bars[1], left(2), below, column, true);
    write(context, `${sheet.title} · ${sheet.note}`, EDGE, canvas.height - 18, canvas.width - 2 * EDGE, `13px ${SANS}`, SOFT);
    return new Promise((done) => { canvas.toBlob(done, "image/png"); });
  };

  // --- GIF: 256 colours for both frames, then LZW ------------------------------------------------
  const key = (r, g, b) => (r << 16) | (g << 8) | b;
  const colours = (frames, but = new Map()) => {
    const counts = new Map();
    for (const data of frames) for (let p = 0; p < data.length; p += 4) {
      const one = key(data[p], data[p + 1], data[p + 2]);
      if (!but.has(one)) counts.set(one, (counts.get(one) ?? 0) + 1);
    }
    return counts;
  };
  const spread = (box) => {
    let widest = [0, 0];
    for (let c = 0; c < 3; c += 1) {
      let low = 255, high = 0;
      for (const one of box) { low = Math.min(low, one[c]); high = Math.max(high, one[c]); }
      if (high - low > widest[0]) widest = [high - low, c];
    }
    return widest;
  };
  // At most `most` colours for these by median cut; exact where there are no more. `place` gets the number of
  // each colour.
  const reduce = (counts, most, table, place) => {
    const all = [...counts].map(([one, n]) => [one >> 16, (one >> 8) & 255, one & 255, n]);
    const boxes = all.length <= most ? all.map((one) => [0, 0, [one]]) : [[...spread(all), all]];
    while (boxes.length < Math.min(most, all.length)) {
      boxes.sort((a, b) => b[0] * Math.sqrt(b[2].length) - a[0] * Math.sqrt(a[2].length));
      const [, channel, box] = boxes.shift();
      box.sort((a, b) => a[channel] - b[channel]);
      const half = box.length >> 1;
      for (const part of [box.slice(0, half), box.slice(half)]) boxes.push([...spread(part), part]);
    }
    for (const [, , box] of boxes) {
      const total = box.reduce((sum, one) => sum + one[3], 0) || 1;
      for (const [r, g, b] of box) place.set(key(r, g, b), table.length);
      table.push([0, 1, 2].map((c) => Math.round(box.reduce((sum, one) => sum + one[c] * one[3], 0) / total)));
    }
  };
  const OWN = 200;
  const lzw = (indices, depth) => {
    const out = [], clear = 1 << depth;
    let size = depth + 1, next = clear + 2, held = 0, bits = 0, table = new Map();
    const emit = (code) => {
      held |= code << bits;
      bits += size;
      while (bits >= 8) { out.push(held & 255); held >>>= 8; bits -= 8; }
    };
    emit(clear);
    let prefix = indices[0];
    for (let i = 1; i < indices.length; i += 1) {
      const key = (prefix << 8) | indices[i], known = table.get(key);
      if (known !== undefined) { prefix = known; continue; }
      emit(prefix);
      if (next < 4096) {
        table.set(key, next);
        if (next === 1 << size) size += 1;
        next += 1;
      } else { emit(clear); table = new Map(); size = depth + 1; next = clear + 2; }
      prefix = indices[i];
    }
    emit(prefix);
    emit(clear + 1);
    if (bits) out.push(held & 255);
    return out;
  };
  const gif = async (sheet) => {
    const size = grown(sheet.before), column = Math.max(200, size[0]), width = 2 * EDGE + column, height = EDGE + 24 + size[1] + 28 + rows(sheet, 1) + 4;
    const draw = (which, exact) => {
      const [, context] = blank(width, height), source = [sheet.before, sheet.after][which];
      write(context, ["original", "adversarial"][which] + (exact ? "" : " (256 colours)"), EDGE, EDGE + 10, column, `14px ${SANS}`, SOFT);
      put(context, source.image, EDGE, EDGE + 24, size);
      bars(context, sheet.bars[which], EDGE, EDGE + 24 + size[1] + 28, column, which === 1);
      return context.getImageData(0, 0, width, height).data;
    };
    // The colours of the pictures first: exact if they are few. The rest is for text and bars.
    const own = colours([sheet.before.data, sheet.after.data]), frames = [0, 1].map((which) => draw(which, own.size <= OWN));
    const found = [], place = new Map();
    for (const hex of [PAPER, INK, SOFT, RULE, ACCENT, CALM]) {
      const one = parseInt(hex.slice(1), 16);
      place.set(one, found.length);
      found.push([one >> 16, (one >> 8) & 255, one & 255]);
    }
    reduce(own, OWN, found, place);
    reduce(colours(frames, place), 256 - found.length, found, place);
    const word = (n) => [n & 255, n >> 8], bytes = [...new TextEncoder().encode("GIF89a"), ...word(width), ...word(height), 0xf7, 0, 0];
    for (let i = 0; i < 256; i += 1) bytes.push(...(found[i] ?? [0, 0, 0]));
    bytes.push(0x21, 0xff, 11, ...new TextEncoder().encode("NETSCAPE2.0"), 3, 1, 0, 0, 0);
    for (const data of frames) {
      const indices = new Uint8Array(width * height);
      for (let i = 0, p = 0; i < indices.length; i += 1, p += 4) indices[i] = place.get((data[p] << 16) | (data[p + 1] << 8) | data[p + 2]);
      bytes.push(0x21, 0xf9, 4, 0, ...word(100), 0, 0, 0x2c, 0, 0, 0, 0, ...word(width), ...word(height), 0, 8);
      const coded = lzw(indices, 8);
      for (let at = 0; at < coded.length; at += 255) { const part = coded.slice(at, at + 255); bytes.push(part.length, ...part); }
      bytes.push(0);
    }
    bytes.push(0x3b);
    return new Blob([new Uint8Array(bytes)], { type: "image/gif" });
  };
  return { png, gif };
})();
