// The confusion matrix to click: a cell plays a clip of that confusion beside clips that show what the true and the predicted class look like.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/explore/confusion.py.
// The model holds: names, counts (C,C), rows, cells, tops, values, told (one a clip that may be shown, the surest of a cell first), examples (C,E), order, selected, shown, fps, live, store, wanted, sent.

const RIGHT = [0, 114, 178], WRONG = [213, 94, 0], INKED = "#1d1d1b", GROUND = "#fdfdfb", WRITTEN = 30;
const within = (v, lo, hi) => Math.min(Math.max(v, lo), hi), mixed = (c, q) => `rgb(${c.map(v => Math.round(255 * (1 - q) + v * q))})`;
const percent = v => `${(100 * v).toFixed(1)}\u00a0%`;

const STYLES = `
.skelnb-confusion{font:13px/1.4 system-ui,sans-serif;color:#1d1d1b;background:#fff;border:1px solid #d8d8d2;border-radius:10px;padding:10px;margin:4px 0;max-width:1120px;box-sizing:border-box;display:grid;grid-template-columns:minmax(0,1.05fr) minmax(0,1fr);gap:10px 18px}
.skelnb-confusion.narrow{grid-template-columns:minmax(0,1fr)}
.skelnb-confusion *{box-sizing:border-box}
.skelnb-confusion :focus-visible{outline:2px solid #0072b2;outline-offset:1px}
.skelnb-confusion-left,.skelnb-confusion-right{min-width:0}
.skelnb-confusion-tools{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin-bottom:4px}
.skelnb-confusion-tools label{display:inline-flex;gap:6px;align-items:center}
.skelnb-confusion-tools select,.skelnb-confusion button{height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#1d1d1b;font:inherit;padding:0 8px}
.skelnb-confusion button{cursor:pointer}
.skelnb-confusion button:hover:enabled{background:#eef5fa}
.skelnb-confusion button:disabled{opacity:.4;cursor:default}
.skelnb-matrix{position:relative}
.skelnb-matrix canvas{display:block;width:100%;outline:none;cursor:crosshair;border-radius:4px;touch-action:pan-y pinch-zoom}
.skelnb-matrix canvas:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-confusion .skelnb-tip{position:absolute;pointer-events:none;padding:3px 8px;border-radius:5px;background:rgba(30,30,30,.9);color:#fff;font-size:12px;line-height:1.35;max-width:260px;white-space:pre-line;overflow-wrap:anywhere;display:none;z-index:2}
.skelnb-confusion h4{margin:2px 0 4px!important;font-size:15px!important;font-weight:650;color:#1d1d1b;overflow-wrap:anywhere}
.skelnb-confusion p.skelnb-word{margin:4px 0!important;color:#4d4d49;font-size:12px;line-height:1.4;overflow-wrap:anywhere}
.skelnb-confusion-stage .skelnb-player{width:auto!important;margin:0!important;max-width:none}
.skelnb-confusion-stage .skelnb-stage{display:grid!important;grid-template-columns:repeat(2,minmax(0,1fr))!important;gap:6px}
.skelnb-confusion-stage .skelnb-panel{max-width:none!important;min-width:0}
.skelnb-confusion-stage .skelnb-panel:first-child:nth-last-child(odd){grid-column:1/-1}
.skelnb-confusion-stage .skelnb-panel figcaption{font-size:12px}
.skelnb-largest{display:grid;grid-template-columns:repeat(auto-fill,minmax(210px,1fr));gap:3px 10px}
.skelnb-confusion .skelnb-largest button{height:auto;border:0;border-radius:5px;padding:2px 5px;font-size:12px;text-align:left;display:flex;justify-content:space-between;gap:8px;background:none}
.skelnb-confusion .skelnb-largest button span{overflow-wrap:anywhere}
.skelnb-confusion .skelnb-largest button b{font-weight:600;font-variant-numeric:tabular-nums;white-space:nowrap}
.skelnb-confusion .skelnb-largest button[aria-pressed=true]{background:#e0edf6;box-shadow:inset 0 0 0 1.5px #0072b2}`;

const { make: node, bytesOf, unfold, cut } = SkeletonPlayer;
const aligned = (v, Kind) => new Kind(bytesOf(v).slice().buffer);

function render({ model, el }) {
  const get = k => model.get(k), names = get("names"), C = names.length, live = get("live"), told = get("told");
  const counts = aligned(get("counts"), Int32Array), rows = aligned(get("rows"), Int32Array), cells = aligned(get("cells"), Int32Array);
  const tops = aligned(get("tops"), Uint16Array), values = aligned(get("values"), Float32Array), examples = aligned(get("examples"), Int32Array), E = examples.length / C, K = tops.length / Math.max(1, rows.length);
  const members = new Map(), cache = new Map(), stats = { draws: 0, asked: 0 };
  cells.forEach((c, m) => { (members.get(c) || members.set(c, []).get(c)).push(m); });
  const clips = new Int32Array(C), right = i => clips[i] ? counts[i * C + i] / clips[i] : NaN;
  for (let i = 0; i < C; i++) for (let j = 0; j < C; j++) clips[i] += counts[i * C + j];
  const share = (i, j) => clips[i] ? counts[i * C + j] / clips[i] : 0, of = (i, j) => members.get(i * C + j) || [];
  let layout = null, order = [], place = [], selected = [0, 0], shown = 0, hover = null, playing = [], inner = null, stopInner = null, raf = 0, timer = 0, patience = 0, busy = false;
  function keep(found, itsLayout) { layout = itsLayout; found.forEach((v, row) => cache.set(row, v)); }
  if (get("store").rows) keep(unfold(get("store")), get("store").layout);

  // --- the page ---
  const root = node("div", "skelnb-confusion", el);
  root.dataset.lmSuppressShortcuts = "true";                // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group"); root.setAttribute("aria-label", `confusion matrix of ${C} classes`);
  node("style", "", root, STYLES);
  const left = node("div", "skelnb-confusion-left", root), side = node("div", "skelnb-confusion-right", root);
  const tools = node("div", "skelnb-confusion-tools", left), matrix = node("div", "skelnb-matrix", left), canvas = node("canvas", "", matrix), tip = node("div", "skelnb-tip", matrix), ctx = canvas.getContext("2d");
  const pick = node("select", "skelnb-order", node("label", "", tools, "classes"));
  for (const [value, said] of [["labels", "in the order of the labels"], ["worst", "worst first"], ["alike", "confused ones together"]]) node("option", "", pick, said).value = value;
  pick.onchange = () => push("order", pick.value);
  node("p", "skelnb-word", left, `Rows: true class. Columns: what it was taken for. Blue: right, orange: wrong, darker: a larger share of the row.${live ? "" : C > WRITTEN ? " Cells with a dot play in this page." : " Bold numbers play in this page."}`);
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application"); canvas.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown N P Space");
  canvas.setAttribute("aria-label", "confusion matrix. Arrows go from cell to cell, N and P to the next and previous clip of a cell, space plays");
  const title = node("h4", "", side), nav = node("div", "skelnb-confusion-tools", side), before = node("button", "skelnb-before", nav, "\u2039"), which = node("output", "skelnb-which", nav), after = node("button", "skelnb-after", nav, "\u203a");
  title.setAttribute("aria-live", "polite");
  before.type = after.type = "button"; before.setAttribute("aria-label", "previous clip"); after.setAttribute("aria-label", "next clip");
  before.onclick = () => step(-1); after.onclick = () => step(1);
  const stage = node("div", "skelnb-confusion-stage", side), said = node("p", "skelnb-word skelnb-scores", side), word = node("p", "skelnb-word skelnb-lost", side);
  node("h4", "", left, "The largest confusions");
  const list = node("div", "skelnb-largest", left), buttons = [];
  const wrong = [];
  for (let i = 0; i < C; i++) for (let j = 0; j < C; j++) if (i !== j && counts[i * C + j]) wrong.push([i, j]);
  wrong.sort((a, b) => counts[b[0] * C + b[1]] - counts[a[0] * C + a[1]] || a[0] * C + a[1] - b[0] * C - b[1]);
  wrong.slice(0, 10).forEach(([i, j]) => {
    const b = node("button", "", list); b.type = "button";
    node("span", "", b, `${names[i]} \u2192 ${names[j]}`); node("b", "", b, `${counts[i * C + j]} of ${clips[i]}`);
    b.onclick = () => choose([i, j]); buttons.push({ b, i, j });
  });
  if (!wrong.length) node("p", "skelnb-word", list, "No clip is taken for another class.");

  // --- the matrix ---
  // "alike": beginning with the first class, always the class that is most often exchanged with the last one.
  function arrange() {
    order = names.map((_, i) => i);
    if (get("order") === "worst") order.sort((a, b) => (clips[a] ? right(a) : 2) - (clips[b] ? right(b) : 2) || a - b);
    if (get("order") === "alike") {
      const rest = new Set(order), chain = [];
      for (let now = wrong.length ? wrong[0][0] : 0; rest.size;) {
        chain.push(now); rest.delete(now);
        let best = -1, most = -1;
        for (const c of rest) { const q = share(now, c) + share(c, now); if (q > most) { most = q; best = c; } }
        now = best;
      }
      order = chain;
    }
    place = []; order.forEach((c, p) => { place[c] = p; });
    pick.value = get("order");
  }
  function shape() {
    const w = canvas.clientWidth || 480;
    ctx.font = "12px system-ui,sans-serif";
    const widest = C <= WRITTEN ? Math.min(0.3 * w, 10 + Math.max(...names.map(n => ctx.measureText(n).width))) : 4, unit = Math.max(2, Math.min(44, (w - widest - (C <= WRITTEN ? 50 : 2)) / C));
    return { w, x: widest, y: C <= WRITTEN ? Math.min(150, widest + 4) : 4, unit };
  }
  function clipped(text, room) { let t = text; while (t.length > 2 && ctx.measureText(t).width > room) t = t.slice(0, t.length - 2) + "\u2026"; return t; }
  function redraw() { if (!raf) raf = requestAnimationFrame(draw); }
  function draw() {
    raf = 0;
    const s = shape(), h = Math.ceil(s.y + C * s.unit + 3), dpr = window.devicePixelRatio || 1;
    if (!canvas.clientWidth) return;
    canvas.style.height = `${h}px`;
    if (canvas.width !== Math.round(s.w * dpr) || canvas.height !== Math.round(h * dpr)) { canvas.width = Math.round(s.w * dpr); canvas.height = Math.round(h * dpr); }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    ctx.fillStyle = "#fff"; ctx.fillRect(0, 0, s.w, h); ctx.fillStyle = GROUND; ctx.fillRect(s.x, s.y, C * s.unit, C * s.unit);
    const u = s.unit, gap = u > 9 ? 1 : 0;
    for (let a = 0; a < C; a++) for (let b = 0; b < C; b++) {
      const i = order[a], j = order[b], n = counts[i * C + j], x = s.x + b * u, y = s.y + a * u;
      if (!n) continue;
      const q = Math.sqrt(share(i, j));
      ctx.fillStyle = mixed(i === j ? RIGHT : WRONG, q); ctx.fillRect(x, y, u - gap, u - gap);
      const plays = live || of(i, j).length;
      if (C > WRITTEN) { if (!live && plays && u >= 2.5) { ctx.fillStyle = q > 0.6 ? "#fff" : INKED; ctx.fillRect(x + u / 2 - 0.7, y + u / 2 - 0.7, 1.4, 1.4); } continue; }
      if (u < 12) continue;
      ctx.fillStyle = q > (i === j ? 0.7 : 0.75) ? "#fff" : plays ? INKED : "#77776f";
      ctx.font = `${plays ? 650 : 400} ${within(u * 0.42, 9, 12)}px system-ui,sans-serif`; ctx.textAlign = "center"; ctx.textBaseline = "middle";
      ctx.fillText(String(n), x + (u - gap) / 2, y + (u - gap) / 2 + 0.5);
    }
    if (C <= WRITTEN) labels(s);
    box(s, selected, INKED, 2.2); if (hover && String(hover) !== String(selected)) box(s, hover, INKED, 1.2);
    stats.draws++;
  }
  function labels(s) {
    ctx.textBaseline = "middle";
    ctx.fillStyle = "#4d4d49"; ctx.font = "11px system-ui,sans-serif"; ctx.textAlign = "left"; ctx.fillText("right", s.x + C * s.unit + 5, s.y - 8);
    for (let a = 0; a < C; a++) {
      const c = order[a], at = (a + 0.5) * s.unit, bold = v => `${selected[v] === c ? 700 : 400} ${within(s.unit * 0.7, 8, 12)}px system-ui,sans-serif`;
      ctx.fillStyle = INKED; ctx.textAlign = "right"; ctx.font = bold(0); ctx.fillText(clipped(names[c], s.x - 8), s.x - 5, s.y + at);
      ctx.fillStyle = "#4d4d49"; ctx.textAlign = "left"; ctx.font = "11px system-ui,sans-serif"; ctx.fillText(clips[c] ? `${(100 * right(c)).toFixed(0)} %` : "-", s.x + C * s.unit + 5, s.y + at);
      ctx.fillStyle = INKED; ctx.save(); ctx.translate(s.x + at, s.y - 5); ctx.rotate(-Math.PI / 2); ctx.textAlign = "left"; ctx.font = bold(1); ctx.fillText(clipped(names[c], s.y - 8), 0, 0); ctx.restore();
    }
  }
  function box(s, [i, j], colour, width) {
    const x = s.x + place[j] * s.unit, y = s.y + place[i] * s.unit, u = Math.max(s.unit, 5);
    ctx.strokeStyle = "#fff"; ctx.lineWidth = width + 2; ctx.strokeRect(x - 1, y - 1, u + 1, u + 1);
    ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.strokeRect(x - 1, y - 1, u + 1, u + 1);
  }
  const sentence = ([i, j]) => `${names[i]} ${i === j ? "recognised" : `taken for ${names[j]}`}: ${counts[i * C + j]} of ${clips[i]} clips (${percent(share(i, j))})`;

  // --- choosing ---
  function push(name, value) { model.set(name, value); model.save_changes(); }
  function choose(cell) { busy = true; model.set("shown", 0); push("selected", [...cell]); busy = false; update(); }
  function step(by) { const n = of(...selected).length; if (n) push("shown", (shown + by + n) % n); }
  function update() {
    const cell = get("selected"); selected = [cell[0], cell[1]];
    const [i, j] = selected, list_ = of(i, j), total = counts[i * C + j];
    shown = within(get("shown"), 0, Math.max(0, list_.length - 1));
    title.textContent = sentence(selected);
    which.textContent = !total ? "no clip" : !list_.length ? "no clip of it is kept" : `clip ${shown + 1} of ${list_.length}${list_.length < total ? ` kept here (${total} in all)` : ""}`;
    before.disabled = after.disabled = list_.length < 2;
    buttons.forEach(({ b, i: u, j: v }) => b.setAttribute("aria-pressed", String(u === i && v === j)));
    redraw(); ask();
  }
  // What is shown of a cell: its clip, then an example of the true class and one of the predicted class; not the same clip twice.
  function wantedNow() {
    const [i, j] = selected, m = of(i, j)[shown], out = m === undefined ? [] : [{ row: rows[m], label: i === j ? `${names[i]}, recognised` : `${names[i]}, taken for ${names[j]}` }];
    const some = c => { for (let e = 0; e < E; e++) { const row = examples[c * E + e]; if (row >= 0 && !out.some(o => o.row === row) && (live || cache.has(row))) { out.push({ row, label: `${names[c]}${get("from_train") ? " in training" : ""}` }); return; } } };
    some(i); if (i !== j) some(j);
    return out;
  }
  function ask() {
    clearTimeout(timer); clearTimeout(patience);
    const now = wantedNow(), missing = now.filter(o => !cache.has(o.row)), m = of(...selected)[shown];
    const best = m === undefined ? [] : Array.from({ length: K }, (_, q) => `${names[tops[m * K + q]]} ${Math.abs(values[m * K + q]) < 100 ? values[m * K + q].toFixed(2) : values[m * K + q].toFixed(0)}`);
    said.textContent = m === undefined ? "" : `${told[m]}. Highest scores: ${best.join(", ")}.`;
    play(now.filter(o => cache.has(o.row)));
    word.textContent = !counts[selected[0] * C + selected[1]] ? "No clip is here; the examples show what the two classes look like." : m === undefined ? "No clip of this cell is kept in the page; in a running notebook all of them play." : missing.length && live ? "Waiting for the notebook to send the clips." : "";
    if (!missing.length || !live) return;
    timer = setTimeout(() => { stats.asked++; push("wanted", now.map(o => o.row)); }, 40);
    patience = setTimeout(() => { if (missing.some(o => !cache.has(o.row))) word.textContent = "The clips come from the kernel, which is busy or gone: run the cell again, or wait."; }, 2500);
  }
  function play(now) {
    stage.style.visibility = now.length ? "" : "hidden";
    if (!now.length) { playing = []; return; }
    const data = new Uint8Array(now.reduce((n, o) => n + cache.get(o.row).data.length, 0));
    let at = 0;
    const items = now.map(o => { const { item, data: d } = cache.get(o.row); data.set(d, at); at += d.length; return { ...item, label: o.label }; });
    const same = String(now.map(o => o.row)) === String(playing), clips_ = { layout, items, data };
    playing = now.map(o => o.row);
    if (same && inner) return;
    if (inner) { inner.set("frame", 0); inner.set("clips", clips_); return; }
    inner = SkeletonPlayer.staticModel({ clips: clips_, fps: get("fps"), frame: 0, playing: true, speed: 1, width: 420, height: 330, numbers: false });
    stopInner = SkeletonPlayer.render({ model: inner, el: stage });
  }

  // --- hands ---
  function cellAt(e) {
    const b = canvas.getBoundingClientRect(), q = canvas.clientWidth / (b.width || 1), s = shape(), a = Math.floor(((e.clientY - b.top) * q - s.y) / s.unit), c = Math.floor(((e.clientX - b.left) * q - s.x) / s.unit);
    return a >= 0 && c >= 0 && a < C && c < C ? [order[a], order[c]] : null;
  }
  function point(cell) {
    if (String(cell) === String(hover)) return;
    hover = cell; tip.style.display = cell ? "block" : "none"; redraw();
    if (!cell) return;
    const s = shape(), x = s.x + (place[cell[1]] + 1) * s.unit, y = s.y + (place[cell[0]] + 1) * s.unit, far = x > 0.6 * s.w;
    tip.textContent = sentence(cell);
    tip.style.left = far ? "" : `${x + 6}px`; tip.style.right = far ? `${s.w - x + s.unit + 6}px` : ""; tip.style.top = `${y + 4}px`;
  }
  canvas.onpointermove = e => point(cellAt(e)); canvas.onpointerleave = () => point(null);
  canvas.onclick = e => { const cell = cellAt(e); if (cell) choose(cell); };
  const go = (da, db) => choose([order[within(place[selected[0]] + da, 0, C - 1)], order[within(place[selected[1]] + db, 0, C - 1)]]);
  const KEYS = { ArrowLeft: () => go(0, -1), ArrowRight: () => go(0, 1), ArrowUp: () => go(-1, 0), ArrowDown: () => go(1, 0), n: () => step(1), p: () => step(-1), " ": () => { if (inner) inner.set("playing", !inner.get("playing")); } };
  root.addEventListener("keydown", e => {
    if (e.altKey || e.metaKey || e.ctrlKey) return;
    const act = KEYS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (e.target === canvas && act) { e.preventDefault(); point(null); act(); }
    if (e.key !== "Tab") e.stopPropagation();
  });

  // --- the outside ---
  const sizes = window.ResizeObserver ? new ResizeObserver(() => { root.classList.toggle("narrow", root.clientWidth < 720); redraw(); }) : null;
  if (sizes) sizes.observe(root);
  function receive() { const sent = get("sent"); if (sent && sent.rows) keep(cut(sent), sent.clips.layout); }
  const heard = { "change:selected": () => { if (!busy) update(); }, "change:shown": () => { if (!busy) update(); }, "change:order": () => { point(null); arrange(); redraw(); }, "change:sent": () => { receive(); ask(); } };
  for (const name in heard) model.on(name, heard[name]);
  root.confusion = { stats, get selected() { return [...selected]; }, get playing() { return [...playing]; }, get clip() { return inner ? inner.get("clips") : null; }, get order() { return [...order]; },       // for tests
    get stored() { return [...cache.keys()]; }, kept: (i, j) => of(i, j).length, cell: (i, j) => { const s = shape(); return [s.x + (place[j] + 0.5) * s.unit, s.y + (place[i] + 0.5) * s.unit]; } };
  arrange(); receive(); update();
  return () => {
    cancelAnimationFrame(raf); clearTimeout(timer); clearTimeout(patience);
    for (const name in heard) model.off(name, heard[name]);
    if (sizes) sizes.disconnect();
    if (stopInner) stopInner();
    root.remove();
  };
}

export default { render };
