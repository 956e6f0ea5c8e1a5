// The embedding explorer: a map of clips, a point a clip; the point you choose plays beside the map, with its nearest neighbours.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/explore/embedding.py.
// The model holds: points, layouts, map, slider, names, near, near_k, groups, group, selected, store, live, wanted, sent, fps, note.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#8c6d31", "#444444", "#b2182b"];
const GREY = "#c9c9c4", GROUND = "#fdfdfb", INKED = "#1d1d1b", TAU = 2 * Math.PI;
// One way to draw a marker of radius r for every ten colours, so that 60 classes can be told apart.
const SHAPES = [
  (c, x, y, r) => { c.moveTo(x + r, y); c.arc(x, y, r, 0, TAU); },
  (c, x, y, r) => c.rect(x - r * 0.87, y - r * 0.87, r * 1.74, r * 1.74),
  (c, x, y, r) => { c.moveTo(x, y - r * 1.2); c.lineTo(x + r * 1.1, y + r * 0.8); c.lineTo(x - r * 1.1, y + r * 0.8); c.closePath(); },
  (c, x, y, r) => { c.moveTo(x, y - r * 1.3); c.lineTo(x + r * 1.1, y); c.lineTo(x, y + r * 1.3); c.lineTo(x - r * 1.1, y); c.closePath(); },
  (c, x, y, r) => { c.moveTo(x, y + r * 1.2); c.lineTo(x + r * 1.1, y - r * 0.8); c.lineTo(x - r * 1.1, y - r * 0.8); c.closePath(); },
  (c, x, y, r) => { for (const [u, v] of [[-1.2, -0.4], [-0.4, -0.4], [-0.4, -1.2], [0.4, -1.2], [0.4, -0.4], [1.2, -0.4], [1.2, 0.4], [0.4, 0.4], [0.4, 1.2], [-0.4, 1.2], [-0.4, 0.4], [-1.2, 0.4]]) c.lineTo(x + u * r, y + v * r); c.closePath(); },
];
const colourOf = i => COLOURS[i % COLOURS.length], shapeOf = i => Math.floor(i / COLOURS.length) % SHAPES.length;
const within = (v, lo, hi) => Math.min(Math.max(v, lo), hi);

const STYLES = `
.skelnb-explorer{font:13px/1.4 system-ui,sans-serif;color:#1d1d1b;background:#fff;border:1px solid #d8d8d2;border-radius:10px;padding:10px;margin:4px 0;max-width:1080px;box-sizing:border-box;display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start}
.skelnb-explorer *{box-sizing:border-box}
.skelnb-map{flex:1.3 1 340px;min-width:280px}
.skelnb-side{flex:1 1 290px;min-width:260px;max-width:440px}
.skelnb-tools{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin-bottom:6px}
.skelnb-tools label{display:inline-flex;gap:6px;align-items:center}
.skelnb-tools select,.skelnb-tools button{height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#1d1d1b;font:inherit;padding:0 8px}
.skelnb-tools button{cursor:pointer}
.skelnb-tools button:hover,.skelnb-tools select:hover{background:#eef5fa}
.skelnb-tools input[type=range]{width:120px;accent-color:#0072b2}
.skelnb-tools output{min-width:2.5em;font-variant-numeric:tabular-nums}
.skelnb-plane{position:relative}
.skelnb-plane canvas{display:block;width:100%;aspect-ratio:1/0.94;max-height:min(72vh,620px);border:1px solid #d8d8d2;border-radius:8px;background:${GROUND};cursor:crosshair;touch-action:pan-y pinch-zoom;outline:none}
.skelnb-plane canvas:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-plane canvas.grabbing{cursor:grabbing}
.skelnb-tip{position:absolute;pointer-events:none;padding:3px 8px;border-radius:5px;background:rgba(30,30,30,.88);color:#fff;font-size:12px;max-width:240px;white-space:pre-line;overflow-wrap:anywhere;display:none;z-index:2}
.skelnb-say{position:absolute;left:50%;bottom:8px;transform:translateX(-50%);padding:2px 10px;border-radius:10px;background:rgba(30,30,30,.78);color:#fff;font-size:12px;white-space:nowrap;pointer-events:none;opacity:0;transition:opacity .2s}
.skelnb-say.on{opacity:1}
.skelnb-legend{display:flex;flex-wrap:wrap;gap:4px;margin-top:8px;max-height:124px;overflow:auto}
.skelnb-legend button{display:inline-flex;align-items:center;gap:5px;border:1px solid #d8d8d2;border-radius:12px;background:#fff;color:#1d1d1b;font:12px/1.3 system-ui,sans-serif;padding:2px 9px 2px 6px;cursor:pointer;max-width:100%}
.skelnb-legend button[aria-pressed=true]{background:#e7f1f8;border-color:#0072b2}
.skelnb-legend.some button[aria-pressed=false]{opacity:.55}
.skelnb-legend svg{width:14px;height:14px;flex:none}
.skelnb-legend small{color:#5c5c58}
.skelnb-explorer :focus-visible{outline:2px solid #0072b2;outline-offset:1px}
.skelnb-side h4{margin:2px 0 4px;font-size:15px;font-weight:650;overflow-wrap:anywhere;color:#1d1d1b}
.skelnb-explorer dl.skelnb-facts{display:grid!important;grid-template-columns:auto 1fr auto 1fr;gap:1px 10px;margin:0 0 6px;width:auto}
.skelnb-facts dt,.skelnb-facts dd{float:none!important;width:auto!important;margin:0!important;padding:0!important;font-weight:400!important;overflow-wrap:anywhere}
.skelnb-facts dt{color:#5c5c58!important}
.skelnb-explorer p.skelnb-word{margin:4px 0!important;color:#5c5c58;font-size:12px}
.skelnb-side .skelnb-player{width:auto!important}
.skelnb-side .skelnb-stage{display:grid!important;grid-template-columns:repeat(3,minmax(0,1fr))!important;gap:6px}
.skelnb-side .skelnb-panel{max-width:none!important;min-width:0}
.skelnb-side .skelnb-panel:first-child{grid-column:1/-1}
.skelnb-side .skelnb-panel:not(:first-child) figcaption{font-size:11px;font-weight:500;padding:3px 6px 0;min-height:20px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}`;

const { make: node, bytesOf, unfold, cut } = SkeletonPlayer;
const aligned = (v, Kind) => { const b = bytesOf(v).slice(); return new Kind(b.buffer); };

function render({ model, el }) {
  const get = k => model.get(k), still = !!(window.matchMedia && matchMedia("(prefers-reduced-motion: reduce)").matches);
  const names = get("names"), N = names.length, live = get("live"), k = get("near_k");
  const near = aligned(get("near"), Int32Array), groups = get("groups").map(g => ({ ...g, codes: aligned(g.codes, Uint16Array) }));
  const maps = aligned(get("points"), Int16Array), L = get("layouts").length;
  const stats = { draws: 0, ms: 0, worst: 0, asked: 0 }, cache = new Map();
  let layout = null, group = get("group"), chosen = new Set(), selected = get("selected"), hover = -1, playing = [];
  let view = { zoom: 1, x: 0, y: 0 }, raf = 0, dirty = true, from = null, since = 0, inner = null, stopInner = null, timer = 0, patience = 0;
  const XY = new Float32Array(2 * N), S = new Float32Array(2 * N);       // place on the map; place on the screen

  function keep(found, itsLayout) { layout = itsLayout; found.forEach((v, row) => cache.set(row, v)); }
  if (get("store").rows) keep(unfold(get("store")), get("store").layout);
  const stored = new Uint8Array(N).fill(live ? 1 : 0);
  cache.forEach((_, row) => { stored[row] = 1; });

  // --- the page ---
  const root = node("div", "skelnb-explorer", el);
  root.dataset.lmSuppressShortcuts = "true";                // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group"); root.setAttribute("aria-label", `map of ${N} clips`);
  node("style", "", root, STYLES);
  const left = node("div", "skelnb-map", root), tools = node("div", "skelnb-tools", left), plane = node("div", "skelnb-plane", left);
  const canvas = node("canvas", "", plane), tip = node("div", "skelnb-tip", plane), say = node("div", "skelnb-say", plane), legend = node("div", "skelnb-legend", left);
  const side = node("div", "skelnb-side", root), title = node("h4", "", side), facts = node("dl", "skelnb-facts", side), word = node("p", "skelnb-word", side), stage = node("div", "", side);
  const word2 = node("p", "skelnb-word", side);
  const ctx = canvas.getContext("2d");
  if (cache.size < N && !live) node("p", "skelnb-word", left, "\u25cf plays in this page   \u25cb plays where the notebook runs");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `map of ${N} clips. Arrows go to the next point in that direction, N and P to the nearest neighbours, space plays, plus and minus zoom, R resets`);
  canvas.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown N P Space Plus Minus R Escape");
  title.setAttribute("aria-live", "polite");

  const pick = node("select", "skelnb-colour", node("label", "", tools, "colour by"));
  groups.forEach((g, i) => { node("option", "", pick, g.name).value = i; });
  pick.onchange = () => { group = +pick.value; push("group", group); chosen.clear(); key(); };
  let slide = null, told = null;
  if (L > 1) {
    const label = node("label", "", tools, get("slider"));
    slide = node("input", "skelnb-layout", label); slide.type = "range"; slide.min = 0; slide.max = L - 1; slide.step = 1; slide.value = get("map");
    told = node("output", "", label, get("layouts")[get("map")]);
    slide.oninput = () => { push("map", +slide.value); move(+slide.value); };
  }
  const back = node("button", "skelnb-home", tools, "reset view"); back.type = "button"; back.onclick = home;
  const all = node("button", "skelnb-all", tools, "show all"); all.type = "button"; all.onclick = () => { chosen.clear(); key(); };

  // The legend: a press shows only that group, a second one adds to it.
  function key() {
    const g = groups[group];
    pick.value = group; legend.replaceChildren(); all.style.display = chosen.size ? "" : "none";
    legend.classList.toggle("some", chosen.size > 0);
    const count = new Int32Array(g.names.length);
    g.codes.forEach(c => { count[c]++; });
    g.names.forEach((name, c) => {
      if (!count[c]) return;
      const b = node("button", "", legend), ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), p = document.createElementNS(ns, "path");
      b.type = "button"; b.setAttribute("aria-pressed", String(chosen.has(c))); b.title = chosen.has(c) ? "leave it out again" : "show only these";
      svg.setAttribute("viewBox", "-8 -8 16 16"); svg.setAttribute("aria-hidden", "true");
      p.setAttribute("d", outline(shapeOf(c))); p.setAttribute("fill", colourOf(c)); svg.append(p);
      b.append(svg); node("span", "", b, name); node("small", "", b, String(count[c]));
      b.onclick = () => { chosen.has(c) ? chosen.delete(c) : chosen.add(c); key(); const again = [...legend.children].find(e => e.textContent === b.textContent); if (again) again.focus(); };
    });
    redraw();
  }
  // The same shapes as SVG path text.
  function outline(s) {
    let d = "";
    const pen = { moveTo: (x, y) => { d += `M${x} ${y}`; }, lineTo: (x, y) => { d += `${d ? "L" : "M"}${x} ${y}`; }, closePath: () => { d += "Z"; },
      rect: (x, y, w, h) => { d += `M${x} ${y}h${w}v${h}h${-w}Z`; }, arc: (x, y, r) => { d += `a${r} ${r} 0 1 1 ${-2 * r} 0a${r} ${r} 0 1 1 ${2 * r} 0`; } };
    SHAPES[s](pen, 0, 0, 5);
    return d;
  }

  // --- the map ---
  const shown = i => chosen.size === 0 || chosen.has(groups[group].codes[i]);
  function home() { view = { zoom: 1, x: 0, y: 0 }; redraw(); }
  function redraw() { dirty = true; if (!raf) raf = requestAnimationFrame(tick); }
  function move(to) {
    if (told) told.textContent = get("layouts")[to];
    from = XY.slice(); since = performance.now();
    if (still || !root.isConnected) since = -1e9;
    redraw();
  }
  function place(now) {
    const at = get("map") * 2 * N, a = from ? within((now - since) / 500, 0, 1) : 1, e = a * a * (3 - 2 * a);
    for (let i = 0; i < 2 * N; i++) { const to = maps[at + i] / 32767; XY[i] = from && a < 1 ? from[i] * (1 - e) + to * e : to; }
    if (a >= 1) from = null;
    return a < 1;
  }
  function tick(now) {
    raf = 0;
    if (!dirty) return;
    dirty = false;
    const t0 = performance.now(), more = place(now);
    draw();
    const ms = performance.now() - t0;
    stats.draws++; stats.ms += ms; stats.worst = Math.max(stats.worst, ms);
    if (more) redraw();
  }
  function size() {
    const dpr = window.devicePixelRatio || 1, w = canvas.clientWidth, h = canvas.clientHeight;
    if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(h * dpr)) { canvas.width = Math.round(w * dpr); canvas.height = Math.round(h * dpr); }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0);
    return [w, h];
  }
  const radius = () => within(7.2 - 1.35 * Math.log10(Math.max(N, 10) / 10), 2.2, 6) * Math.sqrt(within(view.zoom, 1, 4));
  const scale = (w, h) => 0.465 * Math.min(w, h) * view.zoom;
  function draw() {
    const [w, h] = size();
    if (!w || !h) return;
    const s = scale(w, h), cx = w / 2 + view.x, cy = h / 2 + view.y, g = groups[group], r = radius();
    for (let i = 0; i < N; i++) { S[2 * i] = cx + s * XY[2 * i]; S[2 * i + 1] = cy - s * XY[2 * i + 1]; }
    ctx.fillStyle = GROUND; ctx.fillRect(0, 0, w, h);
    const piles = new Map(), pale = [];
    for (let i = 0; i < N; i++) {
      const x = S[2 * i], y = S[2 * i + 1];
      if (x < -9 || y < -9 || x > w + 9 || y > h + 9) continue;
      if (!shown(i)) { pale.push(i); continue; }
      const c = g.codes[i] * 2 + stored[i];
      (piles.get(c) || piles.set(c, []).get(c)).push(i);
    }
    ctx.beginPath(); ctx.fillStyle = GREY;
    for (const i of pale) { ctx.moveTo(S[2 * i], S[2 * i + 1]); ctx.arc(S[2 * i], S[2 * i + 1], r * 0.55, 0, TAU); }
    ctx.fill();
    for (const full of [0, 1]) for (const [c, rows] of piles) if (c % 2 === full) {
      const code = c >> 1, mark = SHAPES[shapeOf(code)];
      for (const i of rows) {
        ctx.beginPath(); mark(ctx, S[2 * i], S[2 * i + 1], full ? r : r * 0.8);
        if (full) { ctx.fillStyle = colourOf(code); ctx.fill(); ctx.strokeStyle = "rgba(253,253,251,.9)"; ctx.lineWidth = 0.8; ctx.stroke(); }
        else { ctx.strokeStyle = colourOf(code); ctx.lineWidth = 1.3; ctx.stroke(); }
      }
    }
    if (selected >= 0) neighbourhood(r);
    if (hover >= 0 && hover !== selected) ring(hover, r + 3, INKED, 1.5);
  }
  function ring(i, r, colour, width) { ctx.beginPath(); ctx.arc(S[2 * i], S[2 * i + 1], r, 0, TAU); ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.stroke(); }
  const nearest = i => [...near.subarray(i * k, i * k + k)];
  // Lines go to the neighbours in the feature space: a long line is a place where the map is wrong.
  function neighbourhood(r) {
    const x = S[2 * selected], y = S[2 * selected + 1], c = groups[group].codes[selected];
    nearest(selected).forEach((j, n) => {
      const u = S[2 * j], v = S[2 * j + 1], d = Math.hypot(u - x, v - y) || 1;
      ctx.beginPath(); ctx.moveTo(x, y); ctx.lineTo(u, v); ctx.strokeStyle = "rgba(253,253,251,.9)"; ctx.lineWidth = 4; ctx.stroke();
      ctx.strokeStyle = INKED; ctx.lineWidth = 1.4; ctx.stroke();
      ring(j, r + 2.5, INKED, 1.5);
    });
    ctx.beginPath(); SHAPES[shapeOf(c)](ctx, x, y, r * 1.5); ctx.fillStyle = colourOf(c); ctx.fill();
    ring(selected, r * 1.5 + 3, GROUND, 5); ring(selected, r * 1.5 + 3, INKED, 2.6);
    nearest(selected).forEach((j, n) => {
      const u = S[2 * j], v = S[2 * j + 1], d = Math.hypot(u - x, v - y) || 1;
      const tx = u + (u - x) / d * (r + 12), ty = v + (v - y) / d * (r + 12);
      ctx.font = "600 11px system-ui,sans-serif"; ctx.textAlign = "center"; ctx.textBaseline = "middle";
      ctx.strokeStyle = GROUND; ctx.lineWidth = 3; ctx.strokeText(n + 1, tx, ty); ctx.fillStyle = INKED; ctx.fillText(n + 1, tx, ty);
    });
  }

  // --- choosing ---
  function push(name, value) { model.set(name, value); model.save_changes(); }
  function choose(i, tell = true) {
    if (i === selected && playing.length) return;
    selected = i; tip.style.display = "none";
    if (tell) push("selected", i);
    redraw(); describe(); ask();
  }
  function describe() {
    title.textContent = selected < 0 ? "Choose a point" : names[selected];
    facts.replaceChildren();
    if (selected < 0) { word.textContent = "A click on a point plays that clip here."; return; }
    for (const g of groups) { node("dt", "", facts, g.name); node("dd", "", facts, g.names[g.codes[selected]]); }
    const same = nearest(selected).filter(j => groups[0].codes[j] === groups[0].codes[selected]).length;
    word.textContent = k ? `${k} nearest by cosine in feature space: ${same} of the same ${groups[0].name}.` : "";
  }
  function ask() {
    clearTimeout(timer); clearTimeout(patience);
    if (selected < 0) return;
    const rows = [selected, ...nearest(selected)], missing = rows.filter(i => !cache.has(i));
    play(rows);
    if (!missing.length || !live) return;
    timer = setTimeout(() => { stats.asked++; push("wanted", rows); }, 40);
    patience = setTimeout(() => { if (!cache.has(selected)) word2.textContent = "The clip comes from the kernel, which is busy or gone: run the cell again, or wait."; }, 2500);
  }
  function play(rows) {
    const [first, ...others] = rows, have = [first, ...others].filter(i => cache.has(i));
    stage.style.visibility = cache.has(first) ? "" : "hidden";
    if (!cache.has(first)) { playing = []; word2.textContent = live ? "Waiting for the notebook to send the clip." : "This clip is not kept in the page. Filled points play; in a running notebook all of them do."; return; }
    const lost = rows.length - have.length;
    word2.textContent = lost && !live ? `${lost} of the neighbours ${lost > 1 ? "are" : "is"} not kept in the page.` : "";
    const size = have.reduce((n, i) => n + cache.get(i).data.length, 0), data = new Uint8Array(size);
    let at = 0;
    const g = groups[0], items = have.map(i => {
      const { item, data: d } = cache.get(i), n = rows.indexOf(i), what = g.names[g.codes[i]];
      data.set(d, at); at += d.length;
      return { ...item, label: n ? `${n}  ${what}` : what };
    });
    const clips = { layout, items, data };
    playing = have;
    if (inner) { inner.set("frame", 0); inner.set("clips", clips); return; }
    inner = SkeletonPlayer.staticModel({ clips, fps: get("fps"), frame: 0, playing: true, speed: 1, width: 420, height: 330, numbers: false });
    stopInner = SkeletonPlayer.render({ model: inner, el: stage });
  }

  // --- hands ---
  const inMap = e => { const b = canvas.getBoundingClientRect(), q = canvas.clientWidth / (b.width || 1); return [(e.clientX - b.left) * q, (e.clientY - b.top) * q]; };
  function at(x, y, reach = 16) {
    let best = -1, d = reach * reach;
    for (let i = 0; i < N; i++) {
      const q = (S[2 * i] - x) ** 2 + (S[2 * i + 1] - y) ** 2;
      if (q < d && shown(i)) { d = q; best = i; }
    }
    return best;
  }
  function point(i) {
    if (i === hover) return;
    hover = i; redraw();
    tip.style.display = i < 0 || i === selected ? "none" : "block";       // of the chosen one, all is written at the side
    if (i < 0) return;
    tip.textContent = [names[i], ...new Set([groups[0], groups[group]])].map(g => g.name ? `${g.name}: ${g.names[g.codes[i]]}` : g).join("\n");
    const x = S[2 * i], y = S[2 * i + 1], right = x > canvas.clientWidth * 0.6;
    tip.style.left = right ? "" : `${x + 14}px`; tip.style.right = right ? `${canvas.clientWidth - x + 14}px` : ""; tip.style.top = `${within(y - 12, 0, canvas.clientHeight - 70)}px`;
  }
  let grip = null, moved = 0;
  canvas.onpointerdown = e => { if (e.button) return; grip = [e.clientX, e.clientY]; moved = 0; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = e => {
    if (!grip) return point(at(...inMap(e)));
    const dx = e.clientX - grip[0], dy = e.clientY - grip[1];
    moved += Math.abs(dx) + Math.abs(dy);
    if (moved > 5) { view.x += dx; view.y += dy; canvas.classList.add("grabbing"); point(-1); redraw(); }
    grip = [e.clientX, e.clientY];
  };
  canvas.onpointerup = e => { if (grip && moved <= 5) { const i = at(...inMap(e)); if (i >= 0) choose(i); } grip = null; canvas.classList.remove("grabbing"); };
  canvas.onpointercancel = () => { grip = null; canvas.classList.remove("grabbing"); };
  canvas.onpointerleave = () => point(-1);
  canvas.ondblclick = e => { if (at(...inMap(e)) < 0) home(); };
  function magnify(f, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
    const to = within(view.zoom * f, 0.5, 40), q = to / view.zoom, mx = x - canvas.clientWidth / 2, my = y - canvas.clientHeight / 2;
    view = { zoom: to, x: mx - (mx - view.x) * q, y: my - (my - view.y) * q };
    point(-1); redraw();
  }
  // As in the player: the wheel zooms only what has the focus (or with ctrl), so that a page that scrolls past is never trapped.
  let hush = 0;
  const wheel = e => {
    if (e.ctrlKey || canvas.getRootNode().activeElement === canvas) { e.preventDefault(); e.stopPropagation(); magnify(Math.exp(-within(e.deltaY, -120, 120) * 0.0022), ...inMap(e)); return; }
    say.textContent = "click, then turn the wheel to zoom"; say.classList.add("on"); clearTimeout(hush); hush = setTimeout(() => say.classList.remove("on"), 1200);
  };
  canvas.addEventListener("wheel", wheel, { passive: false });
  function step(dx, dy) {
    let best = -1, cost = Infinity;
    const x = selected < 0 ? canvas.clientWidth / 2 : S[2 * selected], y = selected < 0 ? canvas.clientHeight / 2 : S[2 * selected + 1];
    for (let i = 0; i < N; i++) if (i !== selected && shown(i)) {
      const u = S[2 * i] - x, v = S[2 * i + 1] - y, along = u * dx + v * dy, across = Math.abs(u * dy) + Math.abs(v * dx), c = selected < 0 ? Math.hypot(u, v) : along + 2 * across;
      if ((selected < 0 || along > 0.01) && c < cost) { cost = c; best = i; }
    }
    if (best >= 0) { choose(best); seek(best); }
  }
  // A point reached by key is brought into sight.
  function seek(i) {
    const w = canvas.clientWidth, h = canvas.clientHeight, x = S[2 * i], y = S[2 * i + 1];
    if (x < 12 || x > w - 12) view.x += w / 2 - x;
    if (y < 12 || y > h - 12) view.y += h / 2 - y;
    redraw();
  }
  // N walks to the nearest neighbour, P back the way one came.
  const trail = [];
  const KEYS = {
    ArrowLeft: () => step(-1, 0), ArrowRight: () => step(1, 0), ArrowUp: () => step(0, -1), ArrowDown: () => step(0, 1),
    n: () => { if (selected < 0 || !k) return; const j = nearest(selected).find(i => !trail.includes(i) && i !== selected); if (j === undefined) return; trail.push(selected); choose(j); seek(j); },
    p: () => { const j = trail.pop(); if (j !== undefined) { choose(j); seek(j); } },
    " ": () => { if (inner) inner.set("playing", !inner.get("playing")); },
    "+": () => magnify(1.25), "=": () => magnify(1.25), "-": () => magnify(0.8), r: home, Escape: () => { chosen.size ? (chosen.clear(), key()) : canvas.blur(); },
  };
  root.addEventListener("keydown", e => {
    if (e.altKey || e.metaKey || e.ctrlKey) return;
    const act = KEYS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (e.target === canvas && act) { e.preventDefault(); act(); }
    if (e.key !== "Tab") e.stopPropagation();
  });

  // --- the outside ---
  const sizes = window.ResizeObserver ? new ResizeObserver(redraw) : null;
  if (sizes) sizes.observe(canvas);
  const heard = {
    "change:selected": () => { const i = get("selected"); if (i !== selected) choose(i, false); },
    "change:map": () => { if (slide) slide.value = get("map"); move(get("map")); },
    "change:group": () => { if (get("group") !== group) { group = get("group"); chosen.clear(); key(); } },
    "change:sent": () => { receive(); if (selected >= 0) ask(); },
  };
  function receive() { const sent = get("sent"); if (sent && sent.rows) keep(cut(sent), sent.clips.layout); }
  for (const name in heard) model.on(name, heard[name]);
  root.explorer = { stats,                                   // for tests
    get selected() { return selected; }, get drawn() { return stats.draws; }, get hover() { return hover; }, get playing() { return [...playing]; }, get view() { return { ...view }; },
    get stored() { return [...cache.keys()]; }, get chosen() { return [...chosen]; }, get colour() { return groups[group].name; }, get map() { return get("map"); }, get moving() { return !!from; },
    get clip() { return inner ? inner.get("clips") : null; }, place: i => [S[2 * i], S[2 * i + 1]], near: nearest, count: N };
  place(0); receive(); key(); describe(); ask(); draw();
  return () => {
    cancelAnimationFrame(raf); clearTimeout(timer); clearTimeout(patience); clearTimeout(hush);
    for (const name in heard) model.off(name, heard[name]);
    if (sizes) sizes.disconnect();
    if (stopInner) stopInner();
    root.remove();
  };
}

export default { render };
