"use strict";
// The case browser: rows and pictures from the page's data, measured in a canvas, state in the hash.
// Nodes are built one by one with textContent; text of users never becomes markup.
(() => {
  const D = JSON.parse(document.getElementById("case-data").textContent);
  const $ = (id) => document.getElementById(id);
  const SVG = "http://www.w3.org/2000/svg";
  const make = (tag, look, text) => {
    const node = document.createElement(tag);
    if (look) node.className = look;
    if (text !== undefined) node.textContent = text;
    return node;
  };
  const draw = (tag, values) => {
    const node = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(values)) node.setAttribute(name, value);
    return node;
  };
  const bdi = (text, look) => make("bdi", look, text);

  // --- text ------------------------------------------------------------------------------------
  const percent = (share) => {
    if (share === null || share === undefined) return "–";
    if (share === 0 || share === 1) return `${100 * share}\u00a0%`;
    return `${Math.min(99.9, Math.max(0.1, 100 * share)).toFixed(1)}\u00a0%`;
  };
  const number = (value, digits = 4) => {
    if (value === null || value === undefined) return "–";
    if (Number.isInteger(value) || Math.abs(value) >= 10 ** digits) return Math.round(value).toLocaleString("en-GB");
    return String(Number(value.toPrecision(digits)));
  };
  const signed = (value) => (value > 0 ? `+${value}` : value < 0 ? `−${-value}` : "0");
  const shorten = (text, most) => {
    const all = Array.from(text);
    if (all.length <= most) return text;
    const tail = Math.floor(most / 2) - 1;
    return `${all.slice(0, most - tail - 1).join("")}…${all.slice(-tail).join("")}`;
  };
  const STATUS = Object.fromEntries(D.statuses.map((status, i) => [status, D.outcome_names[i]]));
  const className = (n) => (n === null || n === undefined ? "unknown" : D.names[n] ?? `class ${n}`);

  // --- rows ------------------------------------------------------------------------------------
  const cases = D.cases.map((row, id) => {
    const one = { id };
    D.fields.forEach((name, i) => { one[name] = row[i]; });
    one.status = D.statuses[one.status];
    const [name, label, before, sure, original, thumb] = D.images[one.image];
    return Object.assign(one, {
      name, label, before, sure, original, thumb,
      plain: name.toLowerCase(),
      was: label === null ? before : label,
      passes: (one.forward ?? 0) + (one.backward ?? 0),
    });
  });
  if (!cases.length) return;

  // --- state, and the hash ---------------------------------------------------------------------
  const START = { case: 0, status: "", attack: "", epsilon: "", class: "", after: "", sort: "worst", name: "", x: "", y: "", channel: "", gain: "", step: "" };
  const state = { ...START };
  const SORTS = {
    worst: ["worst first", (a, b) => a.id - b.id],
    surest: ["highest confidence after", (a, b) => (b.status === "flipped") - (a.status === "flipped") || (b.confidence ?? -1) - (a.confidence ?? -1)],
    smallest: ["smallest change", (a, b) => (a.l2 ?? Infinity) - (b.l2 ?? Infinity)],
    largest: ["largest change", (a, b) => (b.l2 ?? -1) - (a.l2 ?? -1)],
    fewest: ["fewest passes", (a, b) => (a.status !== "flipped") - (b.status !== "flipped") || a.passes - b.passes],
    most: ["most passes", (a, b) => b.passes - a.passes],
    sure: ["highest confidence before", (a, b) => (b.sure ?? -1) - (a.sure ?? -1)],
    name: ["name", (a, b) => (a.plain < b.plain ? -1 : a.plain > b.plain ? 1 : 0)],
  };
  const read = () => {
    const text = location.hash.slice(1);
    const found = new URLSearchParams(text);
    // What else is there are the orders of tables.
    if (!text.includes("=") || ![...found.keys()].some((key) => Object.hasOwn(START, key) || key === "cases")) return false;
    for (const key of Object.keys(START)) state[key] = found.get(key) ?? START[key];
    state.case = Math.min(cases.length - 1, Math.max(0, Math.trunc(Number(state.case)) || 0));
    if (!Object.hasOwn(SORTS, state.sort)) state.sort = START.sort;
    return true;
  };
  let writing = 0;
  const write = () => {
    clearTimeout(writing);
    const before = location.hash;
    writing = setTimeout(() => {
      // A link of the page was followed since, so keep that place.
      if (location.hash !== before && !location.hash.includes("=")) return;
      const found = new URLSearchParams();
      const orders = location.hash.includes("=") ? [...new URLSearchParams(location.hash.slice(1))] : [];
      for (const [key, value] of orders) if (key.startsWith("by-")) found.set(key, value);
      for (const [key, value] of Object.entries(state)) if (String(value) !== String(START[key])) found.set(key, value);
      const text = found.toString();
      if (text || location.hash.includes("=")) history.replaceState(null, "", `#${text || "cases="}`);
    }, 120);
  };

  // --- filters ---------------------------------------------------------------------------------
  let shown = [];
  const matches = (one, but) =>
    (but === "status" || !state.status || one.status === state.status) &&
    (!state.attack || String(one.attack) === state.attack) &&
    (!state.epsilon || (one.status === "flipped" && one.epsilon <= Number(state.epsilon))) &&
    (!state.class || String(one.was) === state.class) &&
    (!state.after || (one.status === "flipped" && String(one.after) === state.after)) &&
    (!state.name || one.plain.includes(state.name.toLowerCase()));
  const option = (value, text) => {
    const node = make("option", "", text);
    node.value = value;
    return node;
  };
  const fill = (id, label, values, name) => {
    const kept = [...new Set(values)].sort((a, b) => a - b);
    const box = $(id);
    box.replaceChildren(option("", label), ...kept.map((v) => option(String(v), shorten(name(v), 40))));
    if (kept.length < 2) box.parentElement.hidden = true;
  };
  const flips = cases.filter((c) => c.status === "flipped");
  fill("f-attack", "all", cases.filter((c) => c.attack >= 0).map((c) => c.attack), (v) => D.attacks[v]);
  fill("f-epsilon", "any", flips.map((c) => c.epsilon), (v) => `${v}`);
  fill("f-class", "all", cases.filter((c) => c.was !== null).map((c) => c.was), className);
  fill("f-after", "any", flips.filter((c) => c.after !== null).map((c) => c.after), className);
  $("f-sort").replaceChildren(...Object.entries(SORTS).map(([key, [text]]) => option(key, text)));

  const filter = () => {
    const counts = {};
    for (const one of cases) if (matches(one, "status")) counts[one.status] = (counts[one.status] ?? 0) + 1;
    const chips = ["", ...D.statuses.filter((s) => counts[s] || state.status === s)].map((status) => {
      const button = make("button", `chip ${status}`);
      button.type = "button";
      button.dataset.status = status;
      button.setAttribute("aria-pressed", String(state.status === status));
      const count = status ? counts[status] ?? 0 : Object.values(counts).reduce((a, b) => a + b, 0);
      button.append(make("span", "", status ? STATUS[status] : "all"), make("b", "", count.toLocaleString("en-GB")));
      button.addEventListener("click", () => { state.status = status; changed(); });
      return button;
    });
    const focused = document.activeElement?.dataset?.status;
    $("f-status").replaceChildren(...chips);
    if (focused !== undefined) chips.find((c) => c.dataset.status === focused)?.focus();
    shown = cases.filter((one) => matches(one)).sort((a, b) => SORTS[state.sort][1](a, b) || a.id - b.id);
    const all = cases.length.toLocaleString("en-GB");
    $("cases-count").textContent = shown.length === cases.length ? `${all} cases` : `${shown.length.toLocaleString("en-GB")} of ${all} cases`;
    for (const [id, key] of [["f-attack", "attack"], ["f-epsilon", "epsilon"], ["f-class", "class"], ["f-after", "after"], ["f-sort", "sort"]]) $(id).value = state[key];
    if ($("f-name").value !== state.name) $("f-name").value = state.name;
  };
  const changed = () => {
    filter();
    if (shown.length && !shown.some((one) => one.id === Number(state.case))) choose(shown[0], false);
    else { tiles.scrollTop = 0; lay(); place(); reveal(); }
    write();
  };
  for (const [id, key] of [["f-attack", "attack"], ["f-epsilon", "epsilon"], ["f-class", "class"], ["f-after", "after"], ["f-sort", "sort"]])
    $(id).addEventListener("change", () => { state[key] = $(id).value; changed(); });
  $("f-name").addEventListener("input", () => { state.name = $("f-name").value; changed(); });

  // --- tiles: only those in view are nodes -----------------------------------------------------
  const tiles = $("tiles"), space = $("tiles-space");
  const TILE = { width: 96, height: 118, gap: 8 };
  const columns = () => Math.max(1, Math.floor((space.clientWidth + TILE.gap) / (TILE.width + TILE.gap)));
  const pitch = () => (space.clientWidth + TILE.gap) / columns();
  const nodes = new Map();
  const said = (one) => {
    const end = one.status === "flipped" ? `${className(one.before)} becomes ${className(one.after)}` : STATUS[one.status];
    return `${one.name}: ${end}`;
  };
  // A picture smaller than it is shown keeps its pixels as squares.
  const squares = (image, side) => image.addEventListener("load", () => image.classList.toggle("tiny", Math.max(image.naturalWidth, image.naturalHeight) < side));
  const tile = (one) => {
    const node = make("div", `tile ${one.status}`);
    node.id = `tile-${one.id}`;
    node.setAttribute("role", "option");
    node.setAttribute("aria-label", said(one));
    node.title = said(one);
    if (one.thumb >= 0) {
      const image = make("img");
      image.alt = "";
      squares(image, 80);
      // The first bytes of a PNG, or else a JPEG.
      image.src = `data:image/${D.thumbs[one.thumb].startsWith("iVBOR") ? "png" : "jpeg"};base64,${D.thumbs[one.thumb]}`;
      node.append(image);
    } else node.append(make("span", "blank", shorten(one.name, 22)));
    const words = make("span", "tile-word");
    if (one.status === "flipped") words.append("→ ", bdi(shorten(className(one.after), 40)));
    else words.append(STATUS[one.status]);
    node.append(words);
    node.addEventListener("click", () => { choose(one, false); tiles.focus({ preventScroll: true }); });
    return node;
  };
  const lay = () => {
    const across = columns(), tall = TILE.height + TILE.gap, wide = pitch();
    const rows = Math.ceil(shown.length / across);
    space.style.height = `${Math.max(0, rows * tall - TILE.gap)}px`;
    // A few cases take no more room than they need.
    tiles.style.height = rows < 2 ? `${tall + 4}px` : "";
    const first = Math.max(0, Math.floor(tiles.scrollTop / tall) - 1) * across;
    const last = Math.min(shown.length, (Math.ceil((tiles.scrollTop + tiles.clientHeight) / tall) + 1) * across);
    const wanted = new Set();
    for (let i = first; i < last; i += 1) {
      const one = shown[i];
      wanted.add(one.id);
      let node = nodes.get(one.id);
      if (!node) { node = tile(one); nodes.set(one.id, node); space.append(node); }
      node.style.left = `${(i % across) * wide}px`;
      node.style.width = `${wide - TILE.gap}px`;
      node.style.top = `${Math.floor(i / across) * tall}px`;
      node.setAttribute("aria-posinset", String(i + 1));
      node.setAttribute("aria-setsize", String(shown.length));
      node.setAttribute("aria-selected", String(one.id === Number(state.case)));
    }
    for (const [id, node] of nodes) if (!wanted.has(id)) { node.remove(); nodes.delete(id); }
    const active = `tile-${state.case}`;
    if ($(active)) tiles.setAttribute("aria-activedescendant", active);
    else tiles.removeAttribute("aria-activedescendant");
  };
  const at = () => shown.findIndex((one) => one.id === Number(state.case));
  const reveal = () => {
    const i = at(), tall = TILE.height + TILE.gap;
    if (i < 0) return;
    const top = Math.floor(i / columns()) * tall;
    if (top < tiles.scrollTop) tiles.scrollTop = top;
    else if (top + tall > tiles.scrollTop + tiles.clientHeight) tiles.scrollTop = top + tall - tiles.clientHeight;
    lay();
  };
  let laying = 0;
  tiles.addEventListener("scroll", () => { cancelAnimationFrame(laying); laying = requestAnimationFrame(lay); }, { passive: true });
  addEventListener("resize", () => { lay(); });
  tiles.addEventListener("keydown", (event) => {
    const across = columns();
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across, Home: -shown.length, End: shown.length }[event.key];
    if (by === undefined || !shown.length) return;
    event.preventDefault();
    go(by);
  });
  const go = (by) => {
    if (!shown.length) return;
    const i = at();
    choose(shown[Math.min(shown.length - 1, Math.max(0, (i < 0 ? (by > 0 ? -1 : 0) : i) + by))], false);
  };
  const place = () => {
    const i = at();
    $("case-place").textContent = i < 0 ? "not in this list" : `${(i + 1).toLocaleString("en-GB")} of ${shown.length.toLocaleString("en-GB")}`;
    $("case-last").disabled = i === 0 || !shown.length;
    $("case-next").disabled = i === shown.length - 1 || !shown.length;
  };
  $("case-last").addEventListener("click", () => go(-1));
  $("case-next").addEventListener("click", () => go(1));

  // --- pictures: in the page, or handed over by a file beside it ----------------------------------
  const shards = new Map();
  const shard = (number) => {
    if (!shards.has(number)) {
      for (const key of shards.keys()) if (shards.size >= 6) shards.delete(key);
      shards.set(number, new Promise((resolve, reject) => {
        const frame = make("iframe", "away");
        frame.setAttribute("sandbox", "allow-scripts");
        frame.title = "Pictures";
        const done = (event) => {
          if (event.source !== frame.contentWindow) return;
          removeEventListener("message", done);
          clearTimeout(late);
          frame.remove();
          resolve(event.data);
        };
        const late = setTimeout(() => {
          removeEventListener("message", done);
          frame.remove();
          shards.delete(number);
          reject(new Error(`The file ${D.folder}/${D.files[number]} beside this page cannot be loaded. Keep the folder next to the page.`));
        }, 15000);
        addEventListener("message", done);
        frame.src = `${D.folder}/${D.files[number]}`;
        document.body.append(frame);
      }));
    }
    return shards.get(number);
  };
  const bytes = async (number) => {
    if (number < 0) return "";
    if (D.pictures) return D.pictures[number] ?? "";
    if (D.shards[number] < 0) return "";
    const found = (await shard(D.shards[number]))[number];
    return typeof found === "string" && /^[A-Za-z0-9+/=]*$/.test(found) ? found : "";
  };
  const pictures = new Map();
  const picture = async (number) => {
    if (pictures.has(number)) return pictures.get(number);
    const text = await bytes(number);
    if (!text) throw new Error(D.problems[number] ?? "The run kept no such picture.");
    const image = new Image();
    image.src = `data:image/png;base64,${text}`;
    try { await image.decode(); } catch { throw new Error("A picture of this case cannot be read; the file is damaged."); }
    const canvas = make("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
    context.drawImage(image, 0, 0);
    // Byte 25 of a PNG is its colour type: 0 is grey.
    const grey = atob(text.slice(0, 36)).charCodeAt(25) === 0;
    const found = { image, grey, width: canvas.width, height: canvas.height, data: context.getImageData(0, 0, canvas.width, canvas.height).data };
    if (pictures.size > 12) pictures.delete(pictures.keys().next().value);
    pictures.set(number, found);
    return found;
  };

  // --- measures ----------------------------------------------------------------------------------
  const KERNEL = (() => {
    const found = Array.from({ length: 11 }, (_, i) => Math.exp(-((i - 5) ** 2) / (2 * 1.5 ** 2)));
    const total = found.reduce((a, b) => a + b, 0);
    return found.map((v) => v / total);
  })();
  // Weighted means over every whole 11 x 11 window.
  const blur = (values, width, height) => {
    const w = width - 10, h = height - 10;
    const middle = new Float64Array(w * height), out = new Float64Array(w * h);
    for (let y = 0; y < height; y += 1) for (let x = 0; x < w; x += 1) {
      let sum = 0;
      for (let k = 0; k < 11; k += 1) sum += KERNEL[k] * values[y * width + x + k];
      middle[y * w + x] = sum;
    }
    for (let y = 0; y < h; y += 1) for (let x = 0; x < w; x += 1) {
      let sum = 0;
      for (let k = 0; k < 11; k += 1) sum += KERNEL[k] * middle[(y + k) * w + x];
      out[y * w + x] = sum;
    }
    return out;
  };
  // Wang et al. 2004: Gaussian of 1.5, K1 0.01, K2 0.03, range 255; the mean over channels.
  const ssim = (a, b, channels) => {
    const { width, height } = a, size = width * height;
    if (width < 11 || height < 11) return null;
    const c1 = (0.01 * 255) ** 2, c2 = (0.03 * 255) ** 2;
    let total = 0;
    for (let c = 0; c < channels; c += 1) {
      const p = new Float64Array(size), q = new Float64Array(size), pp = new Float64Array(size), qq = new Float64Array(size), pq = new Float64Array(size);
      for (let i = 0; i < size; i += 1) {
        p[i] = a.data[4 * i + c]; q[i] = b.data[4 * i + c];
        pp[i] = p[i] * p[i]; qq[i] = q[i] * q[i]; pq[i] = p[i] * q[i];
      }
      const [u, v, uu, vv, uv] = [p, q, pp, qq, pq].map((values) => blur(values, width, height));
      let sum = 0;
      for (let i = 0; i < u.length; i += 1) {
        const m = u[i] * v[i], s = u[i] * u[i] + v[i] * v[i];
        sum += ((2 * m + c1) * (2 * (uv[i] - m) + c2)) / ((s + c1) * (uu[i] + vv[i] - s + c2));
      }
      total += sum / u.length;
    }
    return total / channels;
  };
  const LINEAR = Float64Array.from({ length: 256 }, (_, i) => (i / 255 > 0.04045 ? ((i / 255 + 0.055) / 1.055) ** 2.4 : i / 255 / 12.92));
  const curve = (t) => (t > 0.008856 ? Math.cbrt(t) : 7.787 * t + 16 / 116);
  // CIE Lab of sRGB counts under D65.
  const lab = (r, g, b) => {
    const [R, G, B] = [LINEAR[r], LINEAR[g], LINEAR[b]];
    const x = curve((0.412453 * R + 0.35758 * G + 0.180423 * B) / 0.95047);
    const y = curve(0.212671 * R + 0.71516 * G + 0.072169 * B);
    const z = curve((0.019334 * R + 0.119193 * G + 0.950227 * B) / 1.08883);
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)];
  };
  const P7 = 25 ** 7, RAD = Math.PI / 180;
  // CIEDE2000, Sharma et al. 2005.
  const ciede = ([L1, a1, b1], [L2, a2, b2]) => {
    const mean = (Math.hypot(a1, b1) + Math.hypot(a2, b2)) / 2, seven = mean ** 7;
    const G = 0.5 * (1 - Math.sqrt(seven / (seven + P7)));
    const x1 = a1 * (1 + G), x2 = a2 * (1 + G);
    const C1 = Math.hypot(x1, b1), C2 = Math.hypot(x2, b2);
    const turn = (y, x) => (x === 0 && y === 0 ? 0 : (Math.atan2(y, x) + 2 * Math.PI) % (2 * Math.PI));
    const h1 = turn(b1, x1), h2 = turn(b2, x2);
    let dh = h2 - h1, H = h1 + h2;
    if (C1 * C2 === 0) { dh = 0; } else {
      if (dh > Math.PI) dh -= 2 * Math.PI; else if (dh < -Math.PI) dh += 2 * Math.PI;
      if (Math.abs(h1 - h2) > Math.PI) H += H < 2 * Math.PI ? 2 * Math.PI : -2 * Math.PI;
      H /= 2;
    }
    const L = (L1 + L2) / 2, C = (C1 + C2) / 2;
    const T = 1 - 0.17 * Math.cos(H - 30 * RAD) + 0.24 * Math.cos(2 * H) + 0.32 * Math.cos(3 * H + 6 * RAD) - 0.2 * Math.cos(4 * H - 63 * RAD);
    const SL = 1 + (0.015 * (L - 50) ** 2) / Math.sqrt(20 + (L - 50) ** 2), SC = 1 + 0.045 * C, SH = 1 + 0.015 * C * T;
    const c7 = C ** 7;
    const RT = -2 * Math.sqrt(c7 / (c7 + P7)) * Math.sin(60 * RAD * Math.exp(-(((H / RAD - 275) / 25) ** 2)));
    const l = (L2 - L1) / SL, c = (C2 - C1) / SC, h = (2 * Math.sqrt(C1 * C2) * Math.sin(dh / 2)) / SH;
    return Math.sqrt(Math.max(0, l * l + c * c + h * h + RT * c * h));
  };
  const quantile = (sorted, share) => {
    const where = (sorted.length - 1) * share, low = Math.floor(where);
    return sorted[low] + (where - low) * ((sorted[low + 1] ?? sorted[low]) - sorted[low]);
  };
  const colours = (a, b) => {
    const size = a.width * a.height, found = new Float64Array(size);
    let total = 0;
    for (let i = 0; i < size; i += 1) {
      const p = 4 * i;
      if (a.data[p] !== b.data[p] || a.data[p + 1] !== b.data[p + 1] || a.data[p + 2] !== b.data[p + 2])
        found[i] = ciede(lab(a.data[p], a.data[p + 1], a.data[p + 2]), lab(b.data[p], b.data[p + 1], b.data[p + 2]));
      total += found[i];
    }
    found.sort();
    return { mean: total / size, p95: quantile(found, 0.95), max: found[size - 1] };
  };
  const distances = (a, b, channels) => {
    let pixels = 0, components = 0, l1 = 0, square = 0, largest = 0;
    const counts = Array.from({ length: channels }, () => new Map());
    for (let i = 0; i < a.width * a.height; i += 1) {
      let any = 0;
      for (let c = 0; c < channels; c += 1) {
        const d = b.data[4 * i + c] - a.data[4 * i + c];
        counts[c].set(d, (counts[c].get(d) ?? 0) + 1);
        if (d) { any = 1; components += 1; l1 += Math.abs(d); square += d * d; largest = Math.max(largest, Math.abs(d)); }
      }
      pixels += any;
    }
    const size = a.width * a.height * channels;
    return { pixels, components, l1, l2: Math.sqrt(square), linf: largest, rmse: Math.sqrt(square / size), psnr: square ? 10 * Math.log10((65025 * size) / square) : null, counts, size: a.width * a.height };
  };

  // --- one case ------------------------------------------------------------------------------------
  const CHANNELS = ["red", "green", "blue"];
  const TITLES = Object.fromEntries(D.distances);
  let pair = null, token = 0, wiping = 0;
  const fact = (list, term, value, look) => {
    const row = make("div"), what = make("dd", look);
    if (value instanceof Node) what.append(value); else what.textContent = value;
    row.append(make("dt", "", term), what);
    list.append(row);
  };
  const title = (one) => {
    const head = $("case-title");
    head.replaceChildren();
    const side = (look, name, share) => {
      const span = make("span", look);
      span.append(bdi(shorten(name, 40)), " ", make("span", "pct", share === null ? "" : percent(share)));
      return span;
    };
    if (one.before === null) { head.append(make("span", "", "Unreadable")); return; }
    head.append(side("", className(one.before), one.sure));
    if (one.status === "flipped") {
      const arrow = make("span", "arrow", "→");
      arrow.setAttribute("aria-label", "becomes");
      head.append(" ", arrow, " ", side("hit", className(one.after), one.confidence));
    } else head.append(" ", make("span", "state", one.status === "robust" ? `robust within ${one.epsilon}` : STATUS[one.status]));
  };
  const choose = (one, quiet) => {
    if (Number(state.case) !== one.id) for (const key of ["x", "y", "step"]) state[key] = "";
    state.case = one.id;
    reveal();
    place();
    show(one);
    if (!quiet) write();
  };
  // The original by itself, where no other picture is to be shown.
  const alone = async (number, mine, says) => {
    const only = $("case-only"), image = make("img"), text = await bytes(number).catch(() => "");
    if (mine !== token || !text) return;
    image.src = `data:image/png;base64,${text}`;
    image.alt = says;
    only.replaceChildren(image);
    only.hidden = false;
  };
  const show = async (one) => {
    const mine = (token += 1);
    title(one);
    $("case-file").replaceChildren(bdi(shorten(one.name, 48)));
    $("case-file").title = one.name;
    const facts = $("case-facts");
    facts.replaceChildren();
    if (one.attack >= 0) fact(facts, "Attack", bdi(shorten(D.attacks[one.attack], 60)));
    if (one.label !== null) fact(facts, "Labelled", bdi(shorten(className(one.label), 40)));
    if (one.epsilon !== null) fact(facts, one.status === "flipped" ? "Flips within" : "Attacked up to", number(one.epsilon));
    if (one.step !== null) fact(facts, "Flip at step", number(one.step));
    if (one.passes) fact(facts, "Passes", one.backward ? `${number(one.forward)} forward, ${number(one.backward)} back` : `${number(one.forward)} forward`);
    if (one.restart) fact(facts, "Restart", number(one.restart));
    const wrong = [...new Set([one.original, one.flip].map((n) => D.problems[n]).filter(Boolean))];
    const warnings = $("case-warnings");
    warnings.replaceChildren(...wrong.map((text) => make("li", "", text)));
    warnings.hidden = !wrong.length;
    // Without pictures to stand beside, what the run says of the case stands alone.
    const problem = (text) => {
      $("case-problem").textContent = text;
      $("case-problem").hidden = !text;
      $("case-body").hidden = Boolean(text);
      const known = $("case-known");
      known.replaceChildren(...(text ? [...facts.children].map((row) => row.cloneNode(true)) : []));
      if (text && one.status === "flipped") for (const [name, term] of D.distances) if (one[name] !== null) fact(known, term, number(one[name], 5));
      known.hidden = !known.children.length;
    };
    $("case-only").hidden = true;
    if (one.status !== "flipped" && one.original >= 0) alone(one.original, mine, `The original, classified as ${className(one.before)}`);
    if (one.reason) return problem(one.reason);
    if (one.status === "misclassified") return problem(`The model classifies the unchanged image as ${className(one.before)}, not ${className(one.label)}. The image was not attacked and does not count as a flip.`);
    if (one.status !== "flipped") return problem(`No attack step within epsilon ${number(one.epsilon)} flipped the image${one.passes ? ` in ${number(one.passes)} passes` : ""}.${one.original < 0 ? " The run kept no picture of the image." : ""}`);
    if (one.flip < 0 || one.original < 0) return problem("The run kept no pictures of this flip.");
    steps(one);
    try {
      const chosen = state.step === "" ? one.flip : D.steps[one.strip]?.[Number(state.step)]?.[1] ?? one.flip;
      const [before, after] = await Promise.all([picture(one.original), picture(chosen)]);
      if (mine !== token) return;
      if (before.width !== after.width || before.height !== after.height) return problem("Its two pictures have different sizes.");
      problem("");
      pair = { one, before, after, channels: before.grey && after.grey ? 1 : 3, chosen };
      pair.sizes = distances(before, after, pair.channels);
      if (chosen === one.flip && one.linf !== null && Math.abs(pair.sizes.linf - one.linf) > 1e-6) {
        warnings.append(make("li", "", `The audit measured a largest change of ${number(one.linf)}, but the pictures here differ by ${number(pair.sizes.linf)}. Either the files were altered, or this browser alters what it reads from a canvas. Do not trust the numbers below.`));
        warnings.hidden = false;
      }
      if (state.x === "" || state.y === "") [state.x, state.y] = busiest(pair);
      paint();
    } catch (error) {
      if (mine === token) problem(error.message);
    }
  };
  const steps = (one) => {
    const found = one.strip >= 0 ? D.steps[one.strip] : [];
    $("case-steps").hidden = !found.length;
    $("case-strip").replaceChildren(...found.map(([when, number_, bars], i) => {
      const item = make("li"), button = make("button", "step");
      button.type = "button";
      button.setAttribute("aria-pressed", String(state.step === String(i)));
      button.setAttribute("aria-label", `${when ? `After step ${when}` : "The original"}: compare with this picture`);
      const image = make("img");
      image.alt = "";
      squares(image, 112);
      button.append(image);
      bytes(number_).then((text) => { if (text) image.src = `data:image/png;base64,${text}`; }, () => {});
      button.addEventListener("click", () => { state.step = state.step === String(i) ? "" : String(i); show(one); write(); });
      item.append(button, make("p", "when", when ? `Step ${when}` : "Original"));
      const table = make("table", "bars"), body = make("tbody");
      for (const [name, share, wins, look] of bars) {
        const row = make("tr", wins ? "wins" : ""), head = make("th");
        head.scope = "row";
        head.title = name;
        head.append(bdi(shorten(name, 22)));
        row.append(head, make("td", "", percent(share)));
        const line = make("tr", "meters"), cell = make("td");
        cell.colSpan = 2;
        cell.append(meter(share, look));
        line.append(cell);
        body.append(row, line);
      }
      table.append(body);
      item.append(table);
      return item;
    }));
  };
  const meter = (share, look) => {
    const box = draw("svg", { viewBox: "0 0 100 6", class: "meter", preserveAspectRatio: "none", "aria-hidden": "true" });
    box.append(draw("rect", { class: "track-fill", width: 100, height: 6 }), draw("rect", { class: `bar ${look}`, width: 100 * share, height: 6 }));
    return box;
  };

  // The square that changed most; of equals, the most varied one.
  const SIDE = 8;
  const busiest = ({ before, after, channels }) => {
    const { width, height } = before, w = Math.min(SIDE, width), h = Math.min(SIDE, height);
    const area = () => new Float64Array((width + 1) * (height + 1));
    const change = area(), sums = area(), squares = area();
    for (let y = 0; y < height; y += 1) for (let x = 0; x < width; x += 1) {
      const p = 4 * (y * width + x);
      let d = 0, v = 0;
      for (let c = 0; c < channels; c += 1) { d += Math.abs(after.data[p + c] - before.data[p + c]); v += before.data[p + c]; }
      const i = (y + 1) * (width + 1) + x + 1, up = i - width - 1;
      change[i] = d + change[i - 1] + change[up] - change[up - 1];
      sums[i] = v + sums[i - 1] + sums[up] - sums[up - 1];
      squares[i] = v * v + squares[i - 1] + squares[up] - squares[up - 1];
    }
    const box = (t, x, y) => t[(y + h) * (width + 1) + x + w] - t[y * (width + 1) + x + w] - t[(y + h) * (width + 1) + x] + t[y * (width + 1) + x];
    let best = [0, 0], most = -1, spread = -1;
    for (let y = 0; y + h <= height; y += 1) for (let x = 0; x + w <= width; x += 1) {
      const d = box(change, x, y);
      if (d < most) continue;
      const s = box(sums, x, y), v = box(squares, x, y) * w * h - s * s;
      if (d > most || v > spread) { most = d; spread = v; best = [x, y]; }
    }
    return best;
  };

  const FACTORS = [64, 32, 16, 8, 4, 2, 1, 0.5];
  const gain = () => Number(state.gain) || FACTORS.find((k) => pair.sizes.linf * k <= 128) || 0.5;
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const rgb = (text) => {
    const m = /^#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})$/i.exec(text);
    return m ? [1, 2, 3].map((i) => parseInt(m[i], 16)) : [128, 128, 128];
  };
  // A signed amount, -1 to 1, between cool, paper and warm.
  const shade = (amount, ends) => {
    const [low, middle, high] = ends, end = amount < 0 ? low : high, t = Math.min(1, Math.abs(amount));
    return [0, 1, 2].map((i) => Math.round(middle[i] + t * (end[i] - middle[i])));
  };
  const ends = () => [rgb(colour("--cool")), rgb(colour("--panel")), rgb(colour("--accent"))];
  const shot = (id, says) => {
    const canvas = $(id);
    if (canvas.width !== pair.before.width || canvas.height !== pair.before.height) {
      canvas.width = pair.before.width;
      canvas.height = pair.before.height;
    }
    canvas.style.aspectRatio = `${pair.before.width} / ${pair.before.height}`;
    canvas.setAttribute("aria-label", says);
    return canvas.getContext("2d", { willReadFrequently: true });
  };
  const paintAfter = () => {
    const { before, after, one, chosen } = pair, share = Number($("wipe").value) / 100;
    const original = wiping ? 1 : share;
    const context = shot("c-after", `The changed picture, classified as ${className(one.after)}`);
    context.drawImage(after.image, 0, 0);
    const cut = Math.round(before.width * original);
    if (cut > 0) context.drawImage(before.image, 0, 0, cut, before.height, 0, 0, cut, before.height);
    if (cut > 0 && cut < before.width) { context.fillStyle = colour("--accent"); context.fillRect(cut - 1, 0, Math.max(1, before.width / 256), before.height); }
    const step = chosen === one.flip && state.step === "" ? "Adversarial" : `Step ${D.steps[one.strip][Number(state.step)][0]}`;
    $("after-name").textContent = original === 1 ? "Original" : original > 0 ? `Original | ${step}` : step;
  };
  // What a pixel looks like for each change that occurs: a row for each channel, or one row.
  const paintScale = (k, coloured, tones) => {
    const most = Math.max(1, pair.sizes.linf), across = Math.min(2 * most + 1, 65), rows = coloured ? 3 : 1;
    const canvas = $("scale");
    canvas.width = across;
    canvas.height = rows;
    const context = canvas.getContext("2d"), bar = context.createImageData(across, rows);
    for (let row = 0; row < rows; row += 1) for (let i = 0; i < across; i += 1) {
      const d = -most + (2 * most * i) / (across - 1), p = 4 * (row * across + i);
      const tone = coloured ? [0, 1, 2].map((c) => (c === row ? 128 + k * d : 128)) : shade((d * k) / 128, tones);
      for (let c = 0; c < 3; c += 1) bar.data[p + c] = tone[c];
      bar.data[p + 3] = 255;
    }
    context.putImageData(bar, 0, 0);
    canvas.setAttribute("aria-label", `Colours of the difference from −${number(most)} to +${number(most)} counts${coloured ? ", for red, green and blue" : ""}`);
    // Beyond the reach of the colours all changes look the same.
    const reach = 128 / k, cut = most > reach;
    $("scale-low").textContent = `−${number(most)}`;
    $("scale-high").textContent = `+${number(most)}${cut ? `, alike beyond ±${number(reach)}` : ""}`;
  };
  const paintDelta = () => {
    const { before, after, channels } = pair, k = gain(), context = shot("c-delta", `The change, multiplied by ${k}`);
    const out = context.createImageData(before.width, before.height), one = state.channel === "" ? -1 : Number(state.channel), tones = ends();
    const reach = 128 / k;
    for (let p = 0; p < out.data.length; p += 4) {
      out.data[p + 3] = 255;
      if (one < 0 && channels === 3) for (let c = 0; c < 3; c += 1) out.data[p + c] = 128 + k * (after.data[p + c] - before.data[p + c]);
      else {
        const c = Math.max(0, one), tone = shade((after.data[p + c] - before.data[p + c]) / reach, tones);
        for (let i = 0; i < 3; i += 1) out.data[p + i] = tone[i];
      }
    }
    context.putImageData(out, 0, 0);
    paintScale(k, one < 0 && channels === 3, tones);
    const auto = FACTORS.find((f) => pair.sizes.linf * f <= 128) || 0.5;
    $("gain").replaceChildren(...FACTORS.map((f) => option(f === auto ? "" : String(f), `× ${f}`)));
    $("gain").value = Number(state.gain) === auto ? "" : state.gain;
  };
  // Where a number stands, for those who hear the page.
  const header = (scope, text) => {
    const node = make("th", "unseen", text);
    node.scope = scope;
    return node;
  };
  const CELLS = [["Before", (b) => b, "grey"], ["After", (b, a) => a, "grey"], ["Difference", (b, a) => a - b, "signed"]];
  const paintNumbers = () => {
    const { before, after, channels } = pair, { width, height } = before;
    const w = Math.min(SIDE, width), h = Math.min(SIDE, height);
    const x = Math.min(width - w, Math.max(0, Math.trunc(Number(state.x)) || 0)), y = Math.min(height - h, Math.max(0, Math.trunc(Number(state.y)) || 0));
    [state.x, state.y] = [x, y];
    const c = state.channel === "" ? 0 : Math.min(channels - 1, Number(state.channel));
    let top = 1;
    for (let i = 0; i < w * h; i += 1) {
      const p = 4 * ((y + Math.floor(i / w)) * width + x + (i % w)) + c;
      top = Math.max(top, Math.abs(after.data[p] - before.data[p]));
    }
    $("grids").replaceChildren(...CELLS.map(([caption, value, kind]) => {
      const table = make("table", "grid"), head = make("thead"), body = make("tbody"), across = make("tr");
      table.append(make("caption", "", caption));
      across.append(make("td", "unseen"));
      for (let column = 0; column < w; column += 1) across.append(header("col", `column ${x + column}`));
      head.append(across);
      table.append(head);
      for (let row = 0; row < h; row += 1) {
        const line = make("tr");
        line.append(header("row", `row ${y + row}`));
        for (let column = 0; column < w; column += 1) {
          const p = 4 * ((y + row) * width + x + column) + c, v = value(before.data[p], after.data[p]);
          const look = kind === "grey" ? `g${v >> 4}` : v ? `${v > 0 ? "up" : "down"}${Math.ceil((4 * Math.abs(v)) / top)}` : "zero";
          line.append(make("td", look, kind === "grey" ? String(v) : signed(v)));
        }
        body.append(line);
      }
      table.append(body);
      return table;
    }));
    $("lens-place").textContent = `${channels === 1 ? "" : `${CHANNELS[c]}, `}rows ${y}–${y + h - 1}, columns ${x}–${x + w - 1}`;
    $("channels").replaceChildren(...(channels === 1 ? [] : ["all", ...CHANNELS].map((name, i) => {
      const button = make("button", "chip");
      button.type = "button";
      const value = i ? String(i - 1) : "";
      button.setAttribute("aria-pressed", String(state.channel === value));
      if (i) button.append(make("span", `swatch ${name}`));
      button.append(name);
      button.dataset.channel = value;
      button.addEventListener("click", () => { state.channel = value; paintDelta(); paintNumbers(); $("channels").querySelector("[aria-pressed=true]").focus(); write(); });
      return button;
    })));
    for (const lens of document.querySelectorAll("#case .lens")) {
      lens.style.left = `${(100 * x) / width}%`;
      lens.style.top = `${(100 * y) / height}%`;
      lens.style.width = `${(100 * w) / width}%`;
      lens.style.height = `${(100 * h) / height}%`;
    }
  };
  const histogram = () => {
    const { sizes, channels } = pair, names = channels === 1 ? ["grey"] : CHANNELS;
    const reach = Math.max(1, sizes.linf);
    let bin = Math.max(1, Math.ceil(reach / 16));
    if (bin % 2 === 0) bin += 1;
    const table = sizes.counts.map((counts) => {
      const found = new Map();
      for (const [d, n] of counts) if (d) {
        const middle = Math.round(Math.abs(d) / bin) * bin || bin, key = Math.sign(d) * middle;
        found.set(key, (found.get(key) ?? 0) + n);
      }
      return found;
    });
    const most = Math.max(1, ...table.flatMap((t) => [...t.values()])), end = Math.max(bin, Math.ceil(reach / bin) * bin);
    const W = 460, H = 236, left = 52, right = 8, top = 24, bottom = 196, slots = (2 * end) / bin + 1, slot = (W - left - right) / slots;
    const box = draw("svg", { viewBox: `0 0 ${W} ${H}`, class: "chart", role: "img", "aria-label": `How often each change from −${reach} to +${reach} occurs, by channel.` });
    const text = (x, y, words, look, anchor) => { const node = draw("text", { x, y, class: look, "text-anchor": anchor }); node.textContent = words; box.append(node); };
    const up = (n) => bottom - ((bottom - top) * n) / (1.08 * most);
    // Round shares, at most five.
    const rough = most / sizes.size / 4, power = 10 ** Math.floor(Math.log10(rough)), tick = [1, 2, 5, 10].map((f) => f * power).find((v) => v >= rough * 0.999999);
    for (let i = 0; i * tick * sizes.size <= most * 1.000001; i += 1) {
      const y = up(i * tick * sizes.size);
      box.append(draw("line", { class: "grid", x1: left, x2: W - right, y1: y, y2: y }));
      text(left - 8, y + 4, i ? `${Number((100 * i * tick).toPrecision(3))}\u00a0%` : "0", "tick", "end");
    }
    const each = (slot * 0.8) / channels;
    let legend = left;
    table.forEach((counts, c) => {
      for (const [d, n] of counts) {
        const x = left + slot * ((d + end) / bin + 0.1) + c * each;
        const bar = draw("rect", { class: `bar ${names[c]}`, x, y: up(n), width: Math.max(0.6, each - 0.6), height: bottom - up(n) });
        const tip = draw("title", {});
        tip.textContent = `${signed(d)} in ${names[c]}: ${n.toLocaleString("en-GB")} (${percent(n / sizes.size)})`;
        bar.append(tip);
        box.append(bar);
      }
      box.append(draw("rect", { class: `bar ${names[c]}`, x: legend, y: 4, width: 9, height: 9 }));
      text(legend + 14, 12, names[c], "tick", "start");
      legend += 32 + 6.4 * names[c].length;
    });
    box.append(draw("line", { class: "base", x1: left, x2: W - right, y1: bottom, y2: bottom }));
    const every = Math.ceil(slots / 13);
    for (let d = -end, i = 0; d <= end; d += bin, i += 1) if (((d / bin) % every) === 0) text(left + slot * (i + 0.5), bottom + 17, signed(d), "tick", "middle");
    text((left + W - right) / 2, H - 4, "change in counts; unchanged components are left out", "axis", "middle");
    $("case-histogram").replaceChildren(box);
  };
  const measures = () => {
    const { before, after, channels, sizes } = pair, list = $("case-measures"), mine = token;
    list.replaceChildren();
    // The few that one looks for first, beside the pictures.
    const beside = $("case-facts"), noise = sizes.psnr === null ? "∞" : `${sizes.psnr.toFixed(2)} dB`;
    for (const row of beside.querySelectorAll(".measured")) row.parentElement.remove();
    fact(beside, "Largest change", `${number(sizes.linf)} of 255`, "measured");
    fact(beside, "PSNR", noise, "measured");
    fact(beside, "SSIM", "…", "measured b-ssim");
    fact(beside, "CIEDE2000, mean", "…", "measured b-colour");
    const share = percent(sizes.pixels / sizes.size);
    fact(list, TITLES.l0, `${number(sizes.pixels, 9)} (${share})`, "m-pixels");
    fact(list, "Changed components (L0)", number(sizes.components, 9), "m-components");
    fact(list, TITLES.l1, number(sizes.l1, 9), "m-l1");
    fact(list, TITLES.l2, sizes.l2.toFixed(2), "m-l2");
    fact(list, TITLES.linf, `${number(sizes.linf)} of 255`, "m-linf");
    // A norm that this page cannot measure: what the audit measured.
    for (const [name, term] of D.distances.slice(4)) if (pair.one[name] !== null) fact(list, term, number(pair.one[name], 5), "m-own");
    fact(list, "Root mean square", sizes.rmse.toFixed(3), "m-rmse");
    fact(list, "Peak signal to noise (PSNR)", noise, "m-psnr");
    fact(list, "Structural similarity (SSIM)", "…", "m-ssim");
    fact(list, "Colour difference (CIEDE2000)", "…", "m-colour");
    // The picture first: on large ones this takes a second.
    requestAnimationFrame(() => setTimeout(() => {
      if (mine !== token) return;
      const like = ssim(before, after, channels), found = colours(before, after);
      const into = (name, value) => { list.querySelector(`.m-${name}`).textContent = value; };
      beside.querySelector(".b-ssim").textContent = like === null ? "–" : like.toFixed(5);
      beside.querySelector(".b-colour").textContent = found.mean.toFixed(2);
      into("ssim", like === null ? "needs 11 × 11 pixels" : like.toFixed(5));
      into("colour", `mean ${found.mean.toFixed(2)}, 95th percentile ${found.p95.toFixed(2)}, largest ${found.max.toFixed(2)}`);
      Object.assign($("case").dataset, { ssim: like ?? "", colour: found.mean, colour95: found.p95, colourMax: found.max });
    }, 0));
  };
  const paint = () => {
    shot("c-before", `The original, classified as ${className(pair.one.before)}`).drawImage(pair.before.image, 0, 0);
    paintAfter();
    paintDelta();
    paintNumbers();
    histogram();
    measures();
  };
  $("wipe").addEventListener("input", paintAfter);
  $("gain").addEventListener("change", () => { state.gain = $("gain").value; paintDelta(); write(); });
  const hold = (on) => { if (pair && Boolean(wiping) !== on) { wiping = on ? 1 : 0; paintAfter(); } };
  const button = $("hold");
  button.addEventListener("pointerdown", () => hold(true));
  for (const name of ["pointerup", "pointerleave", "pointercancel", "blur"]) button.addEventListener(name, () => hold(false));
  button.addEventListener("keydown", (event) => { if (event.key === " " || event.key === "Enter") { hold(true); event.preventDefault(); } });
  button.addEventListener("keyup", () => hold(false));

  for (const canvas of document.querySelectorAll("#case .shot canvas")) {
    const look = (event) => {
      const box = canvas.getBoundingClientRect(), { width, height } = pair.before;
      state.x = Math.round(((event.clientX - box.left) / box.width) * width - SIDE / 2);
      state.y = Math.round(((event.clientY - box.top) / box.height) * height - SIDE / 2);
      paintNumbers();
      write();
    };
    canvas.addEventListener("pointerdown", (event) => { if (event.button === 0) { canvas.setPointerCapture(event.pointerId); look(event); } });
    canvas.addEventListener("pointermove", (event) => { if (event.buttons & 1) look(event); });
    canvas.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (!by || !pair) return;
      event.preventDefault();
      const far = event.shiftKey ? SIDE : 1;
      state.x = Number(state.x) + far * by[0];
      state.y = Number(state.y) + far * by[1];
      paintNumbers();
      write();
    });
  }
  // --- export: the case as one picture -----------------------------------------------------------
  const sheet = () => {
    const { one, before, after, channels, chosen } = pair, k = FACTORS.find((f) => pair.sizes.linf * f <= 128) || 0.5;
    const found = one.strip >= 0 ? D.steps[one.strip] : [];
    const bars = (share, name, number_) => {
      const known = found.find(([, picture_]) => picture_ === number_);
      return known ? known[2].map(([n, s, wins]) => [n, s, wins]) : share === null ? [] : [[name, share, true]];
    };
    return {
      title: one.name,
      note: [D.attacks[one.attack], `flips within ${number(one.epsilon)}`, `largest change ${number(pair.sizes.linf)} of 255`].filter(Boolean).join(" · "),
      before, after, channels, gain: k, most: pair.sizes.linf,
      bars: [bars(one.sure, className(one.before), one.original), chosen === one.flip ? bars(one.confidence, className(one.after), one.flip) : bars(null, "", chosen)],
    };
  };
  const save = (blob, ending) => {
    const link = make("a"), address = URL.createObjectURL(blob);
    link.download = `${Array.from(pair.one.name.split(/[\\/]/).pop()).slice(0, 60).join("").replace(/[^\p{L}\p{N}._-]/gu, "_").replace(/^[.]+/, "")}-${D.attacks[pair.one.attack]?.split("(")[0].replace(/[^a-z0-9-]/g, "") ?? "case"}.${ending}`;
    link.href = address;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  };
  for (const kind of ["png", "gif"]) $(`save-${kind}`).addEventListener("click", async () => {
    if (pair) save(await CaseExport[kind](sheet()), kind);
  });

  const typing = (node) => ["INPUT", "SELECT", "TEXTAREA"].includes(node?.tagName);
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    const key = event.key.toLowerCase();
    if (key === "j") go(1);
    else if (key === "k") go(-1);
    else if (key === "o") hold(true);
    else if (key === "/") { event.preventDefault(); $("f-name").focus(); $("f-name").scrollIntoView({ block: "center" }); }
  });
  addEventListener("keyup", (event) => { if (event.key.toLowerCase() === "o") hold(false); });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { if (pair) paintDelta(); });
  // What an address asks for; without a case of its own the first that its filters leave.
  const enter = () => {
    if (!read()) return false;
    filter();
    const named = new URLSearchParams(location.hash.slice(1)).has("case");
    if (!named && shown.length && at() < 0) state.case = shown[0].id;
    choose(cases[Number(state.case)], named);
    $("cases").scrollIntoView({ behavior: "instant" });
    return true;
  };
  addEventListener("hashchange", enter);

  // Past the top of the page, the contents say its verdict.
  new IntersectionObserver(([seen]) => document.querySelector("nav").classList.toggle("past", !seen.isIntersecting)).observe($("top"));

  document.documentElement.classList.add("live");
  $("cases").hidden = false;
  if (!enter()) {
    filter();
    if (shown.length) state.case = shown[0].id;
    choose(cases[Number(state.case)], true);
  }
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
})();
