// What an encoder looks at: joints by importance and links between joints, drawn on the moving body; the matrix, the strongest joints and their moments beside it.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/explore/joints.py.
// The model holds: names, encoders [{name, blocks: [{name, heads: [{text, kind, own}]}]}], importance, moments, moments_scale, motion, maps, persons, frames, window, told,
// clip, encoder, beside, colour, block, head, strongest, selected, fps, left, store. Entry (v, w) of a matrix is what joint w takes from joint v.

const INKED = "#1d1d1b", GROUND = [253, 253, 251], HOT = [213, 94, 0], GLOW = [247, 214, 190], PLUS = [63, 42, 125], MINUS = [0, 121, 107], OTHER = "#8f8f88";
const within = (v, lo, hi) => Math.min(Math.max(v, lo), hi), blend = (a, b, q) => a.map((v, i) => v * (1 - q) + b[i] * q), ink = (c, a = 1) => `rgba(${c.map(Math.round)},${a})`;
const percent = v => `${(100 * v).toFixed(v < 0.0995 ? 1 : 0)}\u00a0%`;
const plain = v => { const a = Math.abs(v), t = a === 0 ? "0" : a < 1e-5 || a >= 1000 ? v.toExponential(1).replace(/e\+?(-?)(\d+)/, (_, sign, n) => `\u00b710${sign ? "\u207b" : ""}${[...n].map(d => "\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079"[d]).join("")}`) : a < 0.001 ? v.toFixed(1 - Math.floor(Math.log10(a))) : v.toPrecision(2); return t.replace("-", "\u2212"); };

const STYLES = `
.skelnb-joints{font:13px/1.4 system-ui,sans-serif;color:#1d1d1b;background:#fff;border:1px solid #d8d8d2;border-radius:10px;padding:10px;margin:4px 0;max-width:1120px;box-sizing:border-box}
.skelnb-joints *{box-sizing:border-box}
.skelnb-joints :focus-visible{outline:2px solid #0072b2;outline-offset:1px}
.skelnb-joints-tools{display:flex;flex-wrap:wrap;gap:6px 16px;align-items:center;margin-bottom:8px}
.skelnb-joints-tools label{display:inline-flex;gap:6px;align-items:center;max-width:100%}
.skelnb-joints-tools select{height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#1d1d1b;font:inherit;padding:0 6px;max-width:250px;min-width:0}
.skelnb-joints-tools input[type=range]{width:110px;accent-color:#0072b2}
.skelnb-joints-tools output{min-width:3.4em;font-weight:650;font-variant-numeric:tabular-nums}
.skelnb-joints-body{display:grid;grid-template:"stage links" auto "list links" 1fr / minmax(0,1.05fr) minmax(0,1fr);gap:10px 16px}
.skelnb-joints.two .skelnb-joints-body{grid-template:"stage stage" auto "list links" auto / minmax(0,.72fr) minmax(0,1fr)}
.skelnb-joints.narrow .skelnb-joints-body{grid-template:"stage" auto "list" auto "links" auto / minmax(0,1fr)}
.skelnb-joints-show{grid-area:stage;min-width:0}
.skelnb-joints-list{grid-area:list;min-width:0}
.skelnb-joints-links{grid-area:links;min-width:0}
.skelnb-joints-stage .skelnb-player{width:auto!important;margin:0!important;max-width:none}
.skelnb-joints-stage .skelnb-panel{max-width:none!important}
.skelnb-joints h4{margin:2px 0 4px!important;font-size:14px!important;font-weight:650;color:#1d1d1b;overflow-wrap:anywhere}
.skelnb-joints p.skelnb-word{margin:4px 0!important;color:#4d4d49;font-size:12px;line-height:1.4}
.skelnb-rank{display:grid;grid-template-columns:minmax(70px,104px) minmax(60px,1fr) 96px;gap:0 8px;align-items:center;width:100%;border:0;border-radius:5px;background:none;padding:1px 3px;font:12px/1.3 system-ui,sans-serif;color:#1d1d1b;text-align:left;cursor:pointer}
.skelnb-rank:hover{background:#eef5fa}
.skelnb-rank[aria-pressed=true]{background:#e0edf6;box-shadow:inset 0 0 0 1.5px #0072b2}
.skelnb-rank b{font-weight:500;overflow:hidden;text-overflow:ellipsis;white-space:nowrap}
.skelnb-rank[aria-pressed=true] b{font-weight:700}
.skelnb-bars{position:relative;display:block}
.skelnb-bars i{display:block;height:9px;border-radius:2px}
.skelnb-bars span{position:absolute;font:600 10px/9px system-ui,sans-serif;white-space:nowrap;color:#3b3b38}
.skelnb-bars u{position:absolute;top:-1px;bottom:-1px;width:2px;background:#1d1d1b;text-decoration:none}
.skelnb-when{position:relative;display:block;height:18px}
.skelnb-when canvas{width:100%;height:100%;display:block;border-radius:2px}
.skelnb-when::after{content:"";position:absolute;top:-1px;bottom:-1px;width:1.5px;background:#1d1d1b;left:calc(var(--now,0)*100%)}
.skelnb-rank-head{cursor:default!important;color:#4d4d49!important;background:none!important;font-size:11px!important}
.skelnb-key3{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:center;font-size:12px;margin:4px 0;color:#3b3b38}
.skelnb-key3 span{display:inline-flex;gap:4px;align-items:center}
.skelnb-key3 i{display:inline-block;width:16px;height:8px;border-radius:2px}
.skelnb-maps{display:grid;gap:10px}
.skelnb-joints.two:not(.narrow) .skelnb-maps{grid-template-columns:minmax(0,calc(50% + 43px)) minmax(0,1fr)}
.skelnb-map{position:relative;min-width:0;margin:0}
.skelnb-map figcaption{font-size:12px;font-weight:650;font-style:normal;text-align:left;color:#1d1d1b;height:19px;overflow:hidden;text-overflow:ellipsis;white-space:nowrap;margin:0}
.skelnb-map canvas{display:block;width:100%;outline:none;cursor:crosshair;border-radius:4px;touch-action:pan-y pinch-zoom}
.skelnb-map canvas:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-joints .skelnb-tip{position:absolute;pointer-events:none;padding:3px 8px;border-radius:5px;background:rgba(30,30,30,.9);color:#fff;font-size:12px;line-height:1.35;max-width:230px;white-space:pre-line;overflow-wrap:anywhere;display:none;z-index:2}`;

const { make: node, bytesOf, unfold } = SkeletonPlayer;

// --- the numbers ---
// Every matrix is stored once: a float32 scale, the number of kept cells (65535: all), then int8 cells, with their places if not all are kept.
function matrices(model, V, N) {
  const b = bytesOf(model.get("maps")), view = new DataView(b.buffer, b.byteOffset, b.byteLength), M = model.get("persons"), places = [], known = new Map();
  let at = 0;
  model.get("encoders").forEach((e, i) => e.blocks.forEach((block, j) => block.heads.forEach((h, k) => {
    const n = h.own ? N * M : 1;
    for (let r = 0; r < n; r++) { places[[i, j, k, r]] = at; const kept = view.getUint16(at + 4, true); at += 6 + (kept === 65535 ? V * V : 3 * kept); }
  })));
  function read(at) {
    const m = new Float32Array(V * V), scale = view.getFloat32(at, true), kept = view.getUint16(at + 4, true); at += 6;
    if (kept === 65535) for (let c = 0; c < V * V; c++) m[c] = scale * view.getInt8(at + c);
    else for (let c = 0; c < kept; c++) m[view.getUint16(at + 2 * c, true)] = scale * view.getInt8(at + 2 * kept + c);
    return m;
  }
  return (e, block, head, clip, person) => {
    const r = model.get("encoders")[e].blocks[block].heads[head].own ? clip * M + person : 0, key = [e, block, head, r].join();
    if (!known.has(key)) { if (known.size > 400) known.clear(); known.set(key, read(places[[e, block, head, r]])); }
    return known.get(key);
  };
}
// The n strongest links between two joints, those of one joint alone if it is given; of equal ones the first.
function strongest(m, V, n, joint) {
  const found = [];
  for (let v = 0; v < V; v++) for (let w = 0; w < V; w++) if (v !== w && m[v * V + w] && (joint === null || v === joint || w === joint)) found.push([v, w, m[v * V + w]]);
  return found.sort((a, b) => Math.abs(b[2]) - Math.abs(a[2]) || a[0] * V + a[1] - b[0] * V - b[1]).slice(0, n);
}

function render({ model, el }) {
  const get = k => model.get(k), names = get("names"), V = names.length, encoders = get("encoders"), told = get("told"), N = told.length, M = get("persons"), T = get("frames"), span = get("window");
  const W = Math.ceil(T / span), matrix = matrices(model, V, N), stored = unfold(get("store")), layout = get("store").layout, moments = bytesOf(get("moments"));
  const importance = get("importance"), motion = get("motion"), tops = get("moments_scale"), stats = { draws: 0, links: [], discs: [] };
  const at = (e, n, v, w) => (moments[((e * N + n) * V + v) * W + w] << 24 >> 24) / 127 * tops[e];
  const most = a => a.reduce((b, v) => Math.max(b, v), 0) || 1e-12;
  const shares = a => { const sum = a.reduce((s, v) => s + Math.max(v, 0), 0) || 1e-12; return a.map(v => Math.max(v, 0) / sum); };
  const indexOf = name => encoders.findIndex(e => e.name === name), pretty = v => names[v].replaceAll("_", " ");
  let clip, block, head, count, colour, selected, shownNow = [], hover = null, inner = null, stopInner = null, drawn = new Map(), raf = 0, told_ = "";

  // --- the page ---
  const root = node("div", "skelnb-joints", el);
  root.dataset.lmSuppressShortcuts = "true";                // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group"); root.setAttribute("aria-label", `what ${encoders.length === 1 ? "an encoder looks" : `${encoders.length} encoders look`} at in ${N} clips`);
  node("style", "", root, STYLES);
  const tools = node("div", "skelnb-joints-tools", root), body = node("div", "skelnb-joints-body", root);
  const show = node("div", "skelnb-joints-show", body), left = node("div", "skelnb-joints-list", body), right = node("div", "skelnb-joints-links", body), stage = node("div", "skelnb-joints-stage", show), key = node("div", "skelnb-key3", show);
  function select(parent, cls, text, options, title, act) {
    const label = node("label", "", parent, text), e = node("select", cls, label);
    options.forEach(([value, said]) => { node("option", "", e, said).value = value; });
    label.title = title; e.onchange = () => act(e.value);
    return e;
  }
  function slider(parent, cls, text, max, title, act) {
    const label = node("label", "", parent, text), e = node("input", cls, label), out = node("output", "", label);
    e.type = "range"; e.min = 0; e.max = max; e.step = 1; label.title = title; e.oninput = () => act(+e.value);
    return [e, out];
  }
  const pickClip = select(tools, "skelnb-clip", "clip", told.map((t, n) => [n, t]), "the clip that plays", v => push("clip", +v));
  const pickEncoder = select(tools, "skelnb-encoder", "encoder", encoders.map(e => [e.name, e.name]), "whose importance and links are drawn", v => push("encoder", v));
  const pickBeside = encoders.length > 1 ? select(tools, "skelnb-beside", "beside it", [["", "none"], ...encoders.map(e => [e.name, e.name])], "a second encoder, on the same clip", v => push("beside", v)) : null;
  const pickColour = select(tools, "skelnb-colour", "joints by", [["importance", "importance"], ["moment", "importance of the moment"], ["motion", "how much they move"], ["none", "nothing"]], "what size and colour of a joint mean", v => push("colour", v));
  const [nSlide, nTold] = slider(tools, "skelnb-strongest", "strongest links", 60, "how many links between two joints are drawn", v => push("strongest", v));

  node("h4", "", left, "Which joints count");
  const ranks = node("div", "skelnb-ranks", left), reading = node("p", "skelnb-word", left);
  const linksHead = node("h4", "", right), linkTools = node("div", "skelnb-joints-tools", right);
  const deepest = Math.max(...encoders.map(e => e.blocks.length));
  const [bSlide, bTold] = slider(linkTools, "skelnb-block", "block", Math.max(0, deepest - 1), "from the first layers to the last", v => push("block", v));
  const headLabel = node("label", "", linkTools, "matrix"), pickHead = node("select", "skelnb-head", headLabel);
  pickHead.onchange = () => push("head", +pickHead.value);
  const maps = node("div", "skelnb-maps", right), statement = node("p", "skelnb-word", right), link = node("p", "skelnb-word skelnb-said", right);
  link.setAttribute("aria-live", "polite");
  if (get("left")) node("p", "skelnb-word", root, `${N} of ${N + get("left")} clips are kept in this page.`);

  // --- what is shown ---
  // Choices of a block: the mean of its matrices, each of them, and what is learned on the edges.
  function choices(e, b) {
    const heads = encoders[e].blocks[b].heads, used = heads.filter(h => h.kind === "used").length;
    return [...(used > 1 ? [{ text: `mean of the ${used}`, mean: used, own: heads[0].own, kind: "used" }] : []), ...heads.map((h, k) => ({ ...h, k, text: h.kind === "learned" ? `importance \u2212 1: ${h.text}` : h.text }))];
  }
  const blockOf = e => within(block, 0, encoders[e].blocks.length - 1);
  const choiceOf = e => { const c = choices(e, blockOf(e)); return c[Math.min(head, c.length - 1)]; };
  function shownMatrix(e, person) {
    if (!encoders[e].blocks.length) return null;
    const c = choiceOf(e), b = blockOf(e), name = ["m", e, b, head, clip, person].join();
    if (!drawn.has(name)) {
      let m;
      if (c.mean) { m = new Float32Array(V * V); for (let k = 0; k < c.mean; k++) matrix(e, b, k, clip, person).forEach((x, i) => { m[i] += x / c.mean; }); }
      else m = matrix(e, b, c.k, clip, person);
      let top = 0, away = 0;
      for (let i = 0; i < V * V; i++) { top = Math.max(top, Math.abs(m[i])); if (i % (V + 1)) away = Math.max(away, Math.abs(m[i])); }
      drawn.set(name, { m, top: top || 1, away: away || 1 });
    }
    return drawn.get(name);
  }
  function shownLinks(e, person) {
    const s = shownMatrix(e, person);
    if (!s) return [];
    const name = ["l", e, blockOf(e), head, clip, person, count, selected[0] ?? ""].join();
    if (!drawn.has(name)) drawn.set(name, strongest(s.m, V, count, selected.length ? selected[0] : null));
    return drawn.get(name);
  }
  // Values (V) of the joints of encoder e, from 0 to 1, at a moment.
  function weights(e, w) {
    if (colour === "none") return null;
    if (colour === "motion") { const top = most(motion[clip]); return motion[clip].map(v => v / top); }
    if (colour === "importance") { const a = importance[e][clip], top = most(a); return a.map(v => Math.max(v, 0) / top); }
    let top = 1e-12;
    for (let v = 0; v < V; v++) for (let k = 0; k < W; k++) top = Math.max(top, at(e, clip, v, k));
    return names.map((_, v) => Math.max(at(e, clip, v, w), 0) / top);
  }

  // --- on the body ---
  const momentOf = (time, frames) => within(Math.floor((frames > 1 ? time / (frames - 1) : 0) * (T - 1) / span), 0, W - 1);
  function over(ctx, { i, clip: c, P, thick, time, w, h }) {
    const e = shownNow[i];
    if (e === undefined) return;
    const heat = weights(e, momentOf(Math.min(time, c.frames - 1), c.frames)), focus = hover || (selected.length === 2 ? selected : null);
    ctx.fillStyle = ink(GROUND, 0.55); ctx.fillRect(0, 0, w, h);
    stats.links[i] = []; stats.discs[i] = [];
    const people = [];
    for (let m = 0; m < c.persons; m++) if (c.shown[m]) people.push(m);
    for (const m of people) {
      const s = shownMatrix(e, m), xy = v => [P[4 * (m * V + v)], P[4 * (m * V + v) + 1]];
      if (heat) for (let v = 0; v < V; v++) {
        const [x, y] = xy(v), q = Math.sqrt(heat[v]);
        if (heat[v] < 0.004) continue;
        ctx.beginPath(); ctx.arc(x, y, thick * (0.7 + 1.9 * q), 0, 7); ctx.fillStyle = ink(blend(GLOW, HOT, heat[v]), 0.9); ctx.fill();
        ctx.strokeStyle = ink(GROUND, 0.9); ctx.lineWidth = 1; ctx.stroke();
        stats.discs[i].push([v, heat[v]]);
      }
      if (s) {
        for (const [v, to, weight] of [...shownLinks(e, m)].reverse()) {
          arrow(ctx, xy(v), xy(to), weight / s.away, thick, focus ? (v === focus[0] && to === focus[1] ? 1 : 0.12) : 0.85);
          stats.links[i].push([v, to, weight]);
        }
        if (focus && focus.length === 2 && focus[0] !== focus[1] && !shownLinks(e, m).some(l => l[0] === focus[0] && l[1] === focus[1])) arrow(ctx, xy(focus[0]), xy(focus[1]), s.m[focus[0] * V + focus[1]] / s.away, thick, 1);
      }
      for (const v of new Set(focus || selected)) {
        const [x, y] = xy(v), text = pretty(v), out = x < w / 2 ? -1 : 1;
        ctx.beginPath(); ctx.arc(x, y, 9, 0, 7); ctx.strokeStyle = ink(GROUND, 0.9); ctx.lineWidth = 4.5; ctx.stroke(); ctx.strokeStyle = INKED; ctx.lineWidth = 2; ctx.stroke();
        ctx.font = "600 12px system-ui,sans-serif"; ctx.textBaseline = "middle"; ctx.textAlign = out < 0 ? "right" : "left";
        ctx.lineWidth = 4; ctx.strokeStyle = ink(GROUND, 0.92); ctx.strokeText(text, x + 14 * out, y); ctx.fillStyle = INKED; ctx.fillText(text, x + 14 * out, y);
      }
    }
    if (i === 0) { root.style.setProperty("--now", String(c.frames > 1 ? Math.min(time, c.frames - 1) / (c.frames - 1) : 0)); stats.draws++; }
  }
  // A link from a to b: bent to its right, so that both directions are seen; dashed where the weight is negative.
  function arrow(ctx, [x0, y0], [x1, y1], weight, thick, alpha) {
    const size = Math.abs(weight), dx = x1 - x0, dy = y1 - y0, far = Math.hypot(dx, dy);
    if (far < 2 || !size) return;
    const bend = Math.min(0.16 * far, 26), cx = (x0 + x1) / 2 - dy / far * bend, cy = (y0 + y1) / 2 + dx / far * bend, width = (0.35 + 0.75 * size) * thick * 0.75, tip = Math.min(2.2 * width + 4, 0.6 * far);
    const q = 1 - 0.5 * thick / far, ex = (1 - q) ** 2 * x0 + 2 * q * (1 - q) * cx + q * q * x1, ey = (1 - q) ** 2 * y0 + 2 * q * (1 - q) * cy + q * q * y1;
    const tx = 2 * (1 - q) * (cx - x0) + 2 * q * (x1 - cx), ty = 2 * (1 - q) * (cy - y0) + 2 * q * (y1 - cy), tl = Math.hypot(tx, ty) || 1, ux = tx / tl, uy = ty / tl, bx = ex - ux * tip, by = ey - uy * tip;
    const c = ink(weight < 0 ? MINUS : PLUS, alpha * (0.35 + 0.65 * size));
    ctx.strokeStyle = c; ctx.fillStyle = c; ctx.lineWidth = width; ctx.lineCap = "butt"; ctx.setLineDash(weight < 0 ? [1.6 * width + 2, 1.2 * width + 1.5] : []);
    ctx.beginPath(); ctx.moveTo(x0, y0); ctx.quadraticCurveTo(cx, cy, bx, by); ctx.stroke(); ctx.setLineDash([]);
    ctx.beginPath(); ctx.moveTo(ex, ey); ctx.lineTo(bx - uy * tip * 0.45, by + ux * tip * 0.45); ctx.lineTo(bx + uy * tip * 0.45, by - ux * tip * 0.45); ctx.fill();
  }

  // --- the list of joints ---
  const rows = [];
  function list() {
    const own = shownNow.map(e => shares(importance[e][clip])), moved = shares(motion[clip]), order = names.map((_, v) => v).sort((a, b) => own[0][b] - own[0][a] || a - b), shown = order.slice(0, 10);
    for (const v of selected) if (!shown.includes(v)) shown.push(v);
    const top = Math.max(...own.flat(), ...moved), bar = v => `${78 * v / top}%`, focused = rows.findIndex(r => r.b === (root.getRootNode().activeElement || null));
    ranks.replaceChildren(); rows.length = 0;
    const header = node("div", "skelnb-rank skelnb-rank-head", ranks); node("span", "", header, "joint"); node("span", "", header, "share of importance"); node("span", "", header, "when");
    for (const v of shown) {
      const b = node("button", "skelnb-rank", ranks), name = node("b", "", b, pretty(v)), bars = node("span", "skelnb-bars", b), when = node("span", "skelnb-when", b), c = node("canvas", "", when);
      b.type = "button"; name.title = names[v]; b.setAttribute("aria-pressed", String(selected.includes(v)));
      b.setAttribute("aria-label", `${pretty(v)}: ${shownNow.map((e, i) => `${percent(own[i][v])} of the importance in ${encoders[e].name}`).join(", ")}, ${percent(moved[v])} of the movement`);
      shownNow.forEach((e, i) => { const bit = node("i", "", bars); bit.style.width = bar(own[i][v]); bit.style.background = i ? OTHER : ink(HOT); node("span", "", bars, percent(own[i][v])).style.cssText = `left:calc(${bar(Math.max(own[i][v], moved[v]))} + 5px);top:${9 * i}px`; });
      node("u", "", bars).style.left = bar(moved[v]);
      b.onclick = event => {
        const box = when.getBoundingClientRect();
        if (event.clientX >= box.left && event.clientX <= box.right && event.clientX && inner) { inner.set("frame", Math.round(within((event.clientX - box.left) / box.width, 0, 1) * (inner.get("clips").items[0].frames - 1))); return; }
        choose(selected.length === 1 && selected[0] === v ? [] : [v]);
      };
      c.width = W; c.height = shownNow.length; c.style.imageRendering = "pixelated";
      const g = c.getContext("2d");
      shownNow.forEach((e, i) => {
        let most_ = 1e-12;
        for (let u = 0; u < V; u++) for (let k = 0; k < W; k++) most_ = Math.max(most_, at(e, clip, u, k));
        for (let k = 0; k < W; k++) { const q = within(at(e, clip, v, k) / most_, 0, 1); g.fillStyle = ink(blend([240, 239, 235], i ? [70, 70, 66] : HOT, q)); g.fillRect(k, i, 1, 1); }
      });
      rows.push({ v, b });
    }
    if (focused >= 0 && rows[focused]) rows[focused].b.focus();
    const mean = e => importance[e][clip].reduce((a, v) => a + v, 0) / V;
    const hows = [...new Set(shownNow.map(e => encoders[e].how))], of = e => shownNow.length > 1 ? ` (${encoders[e].name})` : "";
    reading.textContent = `Hidden means: ${hows.length > 1 ? shownNow.map(e => `${encoders[e].how}${of(e)}`).join("; ") : hows[0]}. Hiding one joint in the whole clip ${shownNow.map((e, i) => `${i && encoders[e].score === encoders[shownNow[0]].score ? "" : encoders[e].score ? "lowers the score by " : "turns the feature by 1 \u2212 cosine = "}${plain(mean(e))}${of(e)}`).join(", ")}, on average over the joints. ` +
      `Black mark: the joint's share of the movement. When: hidden for ${span} frame${span > 1 ? "s" : ""} at a time; a click there goes to that moment.`;
  }

  // --- the matrices ---
  const panels = [];
  function buildMaps() {
    while (panels.length > shownNow.length) panels.pop().box.remove();
    while (panels.length < shownNow.length) {
      const box = node("figure", "skelnb-map", maps), caption = node("figcaption", "", box), canvas = node("canvas", "", box), tip = node("div", "skelnb-tip", box), p = { box, caption, canvas, tip, ctx: canvas.getContext("2d"), i: panels.length };
      canvas.tabIndex = 0; canvas.setAttribute("role", "application"); canvas.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown N P Space Escape");
      canvas.onpointermove = event => point(p, cellAt(p, event)); canvas.onpointerleave = () => point(p, null);
      canvas.onclick = event => { const cell = cellAt(p, event); if (cell) choose(String(cell) === String(selected) ? [] : cell); };
      canvas.onkeydown = event => keys(p, event);
      panels.push(p);
      if (sizes) sizes.observe(canvas);
    }
  }
  const LEFT = p => p.i && !root.classList.contains("narrow") ? 2 : Math.min(94, p.canvas.clientWidth * 0.3), unit = p => (p.canvas.clientWidth - LEFT(p) - 2) / V, TOP = 2;
  const mapPerson = e => { const n = stored.get(clip).item.persons; for (let m = 0; m < n; m++) if (inner && root.querySelector(".skelnb-player")?.skelnb.shown(0)[m]) return m; return 0; };
  function drawMap(p) {
    const e = shownNow[p.i], wide = p.canvas.clientWidth;
    if (!wide) return;
    const dpr = window.devicePixelRatio || 1, s = shownMatrix(e, mapPerson(e)), q = unit(p), high = s ? Math.ceil(TOP + q * V + 2) : 20, ctx = p.ctx;
    p.canvas.style.height = `${high}px`;
    if (p.canvas.width !== Math.round(wide * dpr) || p.canvas.height !== Math.round(high * dpr)) { p.canvas.width = Math.round(wide * dpr); p.canvas.height = Math.round(high * dpr); }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0); ctx.fillStyle = ink(GROUND); ctx.fillRect(0, 0, wide, high);
    if (!s) return;
    const x0 = LEFT(p), gap = q > 6 ? 0.8 : 0, now = hover || selected;
    for (let v = 0; v < V; v++) for (let w = 0; w < V; w++) {
      const a = s.m[v * V + w] / s.top;
      ctx.fillStyle = ink(blend([243, 242, 238], a < 0 ? MINUS : PLUS, Math.min(1, Math.abs(a)))); ctx.fillRect(x0 + w * q, TOP + v * q, q - gap, q - gap);
    }
    ctx.strokeStyle = INKED; ctx.lineWidth = 1;
    for (const [v, w] of shownLinks(e, mapPerson(e))) ctx.strokeRect(x0 + w * q - 0.2, TOP + v * q - 0.2, q - 0.5, q - 0.5);
    if (now.length) {
      ctx.fillStyle = "rgba(0,114,178,.14)";
      ctx.fillRect(x0, TOP + now[0] * q, q * V, q); ctx.fillRect(x0 + now[now.length - 1] * q, TOP, q, q * V);
      if (now.length === 2) { ctx.strokeStyle = "#fff"; ctx.lineWidth = 4; ctx.strokeRect(x0 + now[1] * q - 1, TOP + now[0] * q - 1, q + 1.2, q + 1.2); ctx.strokeStyle = "#0072b2"; ctx.lineWidth = 2.2; ctx.strokeRect(x0 + now[1] * q - 1, TOP + now[0] * q - 1, q + 1.2, q + 1.2); }
    }
    if (x0 < 20) return;
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    for (let v = 0; v < V; v++) {
      const on = now.includes(v);
      if (q < 8.5 && !on && v % Math.ceil(8.5 / q)) continue;
      ctx.font = `${on ? 700 : 400} ${within(q - 0.5, 8, 11)}px system-ui,sans-serif`; ctx.fillStyle = on ? "#00558a" : "#3b3b38";
      let text = pretty(v);
      while (text.length > 3 && ctx.measureText(text).width > x0 - 6) text = `${text.slice(0, -2)}\u2026`;
      ctx.fillText(text, x0 - 4, TOP + (v + 0.45) * q);
    }
  }
  function redraw() { if (!raf) raf = requestAnimationFrame(() => { raf = 0; panels.forEach(drawMap); const p = stage.querySelector(".skelnb-player"); if (p) p.skelnb.redraw(); }); }
  function cellAt(p, event) {
    const b = p.canvas.getBoundingClientRect(), z = p.canvas.clientWidth / (b.width || 1), q = unit(p), w = Math.floor(((event.clientX - b.left) * z - LEFT(p)) / q), v = Math.floor(((event.clientY - b.top) * z - TOP) / q);
    return v >= 0 && w >= 0 && v < V && w < V && encoders[shownNow[p.i]].blocks.length ? [v, w] : null;
  }
  function point(p, cell) {
    if (String(cell) !== String(hover)) { hover = cell; redraw(); }
    p.tip.style.display = cell ? "block" : "none";
    if (!cell) return;
    const s = shownMatrix(shownNow[p.i], mapPerson()), q = unit(p), X = LEFT(p) + (cell[1] + 1) * q, Y = p.canvas.offsetTop + cell[0] * q, right_ = X > p.canvas.clientWidth * 0.55;
    p.tip.textContent = `${sentence(cell)}\n${plain(s.m[cell[0] * V + cell[1]])}`;
    p.tip.style.left = right_ ? "" : `${X + 8}px`; p.tip.style.right = right_ ? `${p.canvas.clientWidth - X + q + 8}px` : ""; p.tip.style.top = `${Math.max(0, Y - 14)}px`;
  }
  const sentence = ([v, w]) => v === w ? `${pretty(v)}: of itself` : `${pretty(w)} takes from ${pretty(v)}`;

  // --- words ---
  function legend() {
    key.replaceChildren();
    const chip = (style, text) => { const s = node("span", "", key), i = node("i", "", s); i.style.cssText = style; s.append(text); };
    if (colour !== "none") chip(`background:linear-gradient(90deg,${ink(GLOW)},${ink(HOT)})`, `joint: ${colour === "motion" ? "how much it moves" : colour === "moment" ? "importance at this moment" : "importance in this clip"}, from none to most`);
    if (deepest) {
      chip(`background:${ink(PLUS)}`, "link: the joint at the arrow's tip takes from the other");
      chip(`height:0;background:none;border-radius:0;border-top:3px dashed ${ink(MINUS)}`, "negative");
    }
    if (shownNow.length > 1) shownNow.forEach((e, i) => chip(`background:${i ? OTHER : ink(HOT)}`, `bars: ${encoders[e].name}`));
  }
  // Links that are as strong as the weakest one drawn, but not drawn.
  function ties(e) {
    const s = shownMatrix(e, mapPerson()), l = shownLinks(e, mapPerson());
    if (l.length < count || !l.length) return 0;
    return strongest(s.m, V, V * V, selected.length ? selected[0] : null).slice(l.length).filter(x => Math.abs(x[2]) === Math.abs(l[l.length - 1][2])).length;
  }
  function words() {
    const e = shownNow[0], any = shownNow.filter(i => encoders[i].blocks.length);
    linksHead.textContent = any.length ? "Links between joints" : "No links";
    linkTools.style.display = any.length ? "" : "none";
    const lead = any[0];
    if (any.length) {
      const options = choices(lead, blockOf(lead)), now = options.map(o => o.text).join("\n");
      if (now !== told_) { told_ = now; pickHead.replaceChildren(); options.forEach((o, i) => { node("option", "", pickHead, o.text).value = i; }); }
      pickHead.value = Math.min(head, options.length - 1);
      bTold.textContent = `${blockOf(lead) + 1} of ${encoders[lead].blocks.length}`; bSlide.value = block;
    }
    shownNow.forEach((i, n) => {
      const bare = !encoders[i].blocks.length;
      panels[n].caption.textContent = bare ? `${encoders[i].name} has no matrix between joints` : `${encoders[i].name}, block ${blockOf(i) + 1}: ${choiceOf(i).text}`;
      panels[n].caption.title = panels[n].caption.textContent;
      panels[n].canvas.style.display = bare ? "none" : "";
      panels[n].canvas.setAttribute("aria-label", `matrix of ${V} by ${V} joints of ${encoders[i].name}. Row: the joint that gives, column: the joint that takes. Arrows go from cell to cell, N and P to the next and previous of the strongest links, space plays, escape lets go`);
    });
    const say = texts => new Set(texts).size === 1 ? [`${any.length > 1 ? "both: " : ""}${texts[0]}`] : any.map((i, n) => texts[n] && `${encoders[i].name}: ${texts[n]}`);
    const whose = say(any.map(i => `${choiceOf(i).own ? `computed from this clip${M > 1 ? " and person (the matrix is that of the first one present)" : ""}, other clips have others` : "the same for every clip"}${choiceOf(i).kind === "learned" ? "; what training added to or took from the edges, which all begin at 1" : ""}`));
    const even = say(any.map(i => { const n = ties(i); return n && `${n} more link${n > 1 ? "s are" : " is"} just as strong as the last one drawn`; })).filter(t => t && !t.endsWith("0") && t !== "both: 0");
    statement.textContent = any.length ? [...whose, ...even, "Row: the joint that gives; column: the joint that takes", "Framed: the links drawn on the body", "Colours and widths go up to the largest entry of this matrix"].map(t => any.some(i => t.startsWith(encoders[i].name)) ? `${t}.` : `${t[0].toUpperCase()}${t.slice(1)}.`).join(" ")
      : "This encoder mixes the joints in plain linear layers: only its importance can be drawn.";
    const v = selected[0];
    link.textContent = !selected.length ? "Click a joint on the body, a line of the list or a cell of the matrix." : selected.length === 2 ? `${sentence(selected)}: ${any.map(i => `${plain(shownMatrix(i, mapPerson()).m[v * V + selected[1]])} (${encoders[i].name})`).join(", ")}` :
      `${pretty(v)}: ${any.length ? `its ${Math.min(count, shownLinks(any[0], mapPerson()).length)} strongest links are drawn; ` : ""}a click on it again shows all.`;
  }

  // --- choosing ---
  function push(name, value) { model.set(name, value); model.save_changes(); update(); }
  const choose = v => push("selected", v);
  const state = () => JSON.stringify(["clip", "encoder", "beside", "colour", "block", "head", "strongest", "selected"].map(get));
  let known = "", playing = "";
  // Whatever changed, by hand or from Python: read it all again.
  function update() {
    if (state() === known) return;
    known = state();
    clip = within(get("clip"), 0, N - 1); block = get("block"); head = get("head"); count = get("strongest"); colour = get("colour"); selected = [...get("selected")];
    const first = Math.max(0, indexOf(get("encoder"))), second = indexOf(get("beside"));
    shownNow = second >= 0 && second !== first ? [first, second] : [first];
    if (drawn.size > 400) drawn = new Map();
    root.classList.toggle("two", shownNow.length > 1);
    pickClip.value = clip; pickEncoder.value = encoders[first].name; if (pickBeside) pickBeside.value = shownNow.length > 1 ? encoders[second].name : ""; pickColour.value = colour; nSlide.value = count; nTold.textContent = count;
    buildMaps(); play(); list(); words(); legend(); redraw();
  }
  function play() {
    const now = [clip, ...shownNow].join();
    if (now === playing) return;
    playing = now;
    const p = stored.get(clip), data = new Uint8Array(p.data.length * shownNow.length);
    shownNow.forEach((_, i) => data.set(p.data, i * p.data.length));
    const clips = { layout, items: shownNow.map(e => ({ ...p.item, label: encoders[e].name })), data };
    if (inner) { inner.set("clips", clips); return; }
    inner = SkeletonPlayer.staticModel({ clips, fps: get("fps") * p.item.frames / T, frame: 0, playing: true, speed: 0.5, width: 420, height: shownNow.length > 1 ? 300 : 330, numbers: false });
    stopInner = SkeletonPlayer.render({ model: inner, el: stage, over });
  }

  // --- hands ---
  let pressed = null;
  stage.addEventListener("pointerdown", e => { pressed = [e.clientX, e.clientY]; });
  stage.addEventListener("click", e => {
    if (!pressed || Math.hypot(e.clientX - pressed[0], e.clientY - pressed[1]) > 4) return;
    const player = stage.querySelector(".skelnb-player").skelnb;
    let best = null, near = 14 * 14;
    stage.querySelectorAll("canvas").forEach((c, i) => {
      const b = c.getBoundingClientRect(), z = c.clientWidth / (b.width || 1), x = (e.clientX - b.left) * z, y = (e.clientY - b.top) * z;
      if (x < 0 || y < 0 || x > c.clientWidth || y > c.clientHeight) return;
      player.shown(i).forEach((on, m) => { if (on) for (let v = 0; v < V; v++) { const [u, t] = player.joint(i, m, v), d = (u - x) ** 2 + (t - y) ** 2; if (d < near) { near = d; best = v; } } });
    });
    if (best !== null) choose(selected.length === 1 && selected[0] === best ? [] : [best]);
  });
  function keys(p, event) {
    if (event.altKey || event.metaKey || event.ctrlKey) return;
    const [v, w] = selected.length === 2 ? selected : [selected[0] ?? 0, selected[0] ?? 0], go = (dv, dw) => choose([within(v + dv, 0, V - 1), within(w + dw, 0, V - 1)]);
    const next = by => {
      const s = shownMatrix(shownNow[p.i], mapPerson()), all = s ? strongest(s.m, V, Math.max(count, 1), null) : [], i = all.findIndex(l => l[0] === v && l[1] === w);
      if (all.length) choose(all[i < 0 ? (by > 0 ? 0 : all.length - 1) : (i + by + all.length) % all.length].slice(0, 2));
    };
    const act = { ArrowLeft: () => go(0, -1), ArrowRight: () => go(0, 1), ArrowUp: () => go(-1, 0), ArrowDown: () => go(1, 0), n: () => next(1), p: () => next(-1), Escape: () => choose([]), " ": () => inner.set("playing", !inner.get("playing")) }[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (act) { event.preventDefault(); point(p, null); act(); }
  }
  root.addEventListener("keydown", e => { if (e.key !== "Tab") e.stopPropagation(); if (e.key === "Escape" && selected.length && e.target.tagName !== "CANVAS") choose([]); });

  // --- the outside ---
  const sizes = window.ResizeObserver ? new ResizeObserver(() => { root.classList.toggle("narrow", root.clientWidth < 700); redraw(); }) : null;
  if (sizes) sizes.observe(root);
  const heard = {};
  for (const name of ["clip", "encoder", "beside", "colour", "block", "head", "strongest", "selected"]) { heard[`change:${name}`] = update; model.on(`change:${name}`, update); }
  root.joints = { stats, get shown() { return [...shownNow]; }, get inner() { return inner; }, get hover() { return hover; }, matrix: (e, person) => [...shownMatrix(e, person).m], links: (e, person) => shownLinks(e, person),      // for tests
    cell: (i, v, w) => [LEFT(panels[i]) + (w + 0.5) * unit(panels[i]), TOP + (v + 0.5) * unit(panels[i])], moment: at, stored: [...stored.keys()] };
  update();
  return () => {
    cancelAnimationFrame(raf);
    for (const name in heard) model.off(name, heard[name]);
    if (sizes) sizes.disconnect();
    if (stopInner) stopInner();
    root.remove();
  };
}

export default { render };
