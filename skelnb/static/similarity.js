// The vote of the streams: cosines, their k largest, AND of both views, vote, stage by stage; the pair you choose plays at the side.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/explore/similarity.py.
// The model holds: names, classes, y, rows, streams, epochs, epoch, cosines, tops, odd, most, k, at_least, views, shown, selected, left, store, live, wanted, sent, fps.
// Rows of a matrix are predictions, columns targets; `rows` maps a place in the matrices (sorted by class) to a row of the data.

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#8c6d31", "#444444", "#b2182b"];
const STREAM = ["#b5488a", "#c98500", "#2f8fc4", "#6a3d9a"], RIGHT = "#0072b2", WRONG = "#d55e00", ITSELF = "#55554f", NOTHING = "#efefec";
const GROUND = "#fdfdfb", INKED = "#1d1d1b", FAINT = "#8f8f88", PURPLE = [63, 42, 125], BROWN = [154, 91, 0], PAPER = [253, 253, 251];
const within = (v, lo, hi) => Math.min(Math.max(v, lo), hi), mix = (a, b, q) => a.map((v, i) => Math.round(v * (1 - q) + b[i] * q));
const percent = v => v === null ? "\u2013" : `${Math.round(100 * v)}\u00a0%`, signed = c => c.toFixed(2).replace("-", "\u2212");

const STYLES = `
.skelnb-vote{font:13px/1.4 system-ui,sans-serif;color:#1d1d1b;background:#fff;border:1px solid #d8d8d2;border-radius:10px;padding:10px;margin:4px 0;max-width:1120px;box-sizing:border-box}
.skelnb-vote *{box-sizing:border-box}
.skelnb-vote :focus-visible{outline:2px solid #0072b2;outline-offset:1px}
.skelnb-vote-tools{display:flex;flex-wrap:wrap;gap:6px 18px;align-items:center;margin-bottom:8px}
.skelnb-vote-tools label{display:inline-flex;gap:6px;align-items:center}
.skelnb-vote-tools select{height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#1d1d1b;font:inherit;padding:0 6px}
.skelnb-vote-tools input[type=range]{width:130px;accent-color:#0072b2}
.skelnb-vote-tools output{min-width:1.4em;font-weight:650;font-variant-numeric:tabular-nums}
.skelnb-vote-body{display:flex;flex-wrap:wrap;gap:14px;align-items:flex-start}
.skelnb-vote-left{flex:1.12 1 380px;min-width:0}
.skelnb-vote-right{flex:1 1 340px;min-width:0}
.skelnb-pipe{display:grid;grid-template-columns:minmax(46px,auto) repeat(2,minmax(0,1fr)) 14px repeat(2,minmax(0,1fr)) 14px minmax(0,1fr) 14px minmax(0,1.25fr);gap:5px 4px;align-items:start}
.skelnb-pipe header{font-size:12px;line-height:1.25;font-weight:650;align-self:end;padding:0 0 2px;text-align:center}
.skelnb-pipe header small{display:block;font-weight:400;color:#5c5c58;font-size:11px}
.skelnb-pipe b{font-weight:650;overflow-wrap:anywhere;font-size:12px;padding-top:24px}
.skelnb-pipe i{display:inline-block;width:10px;height:10px;border-radius:5px;margin-right:4px}
.skelnb-pipe span{color:#5c5c58;text-align:center;font-size:16px;padding-top:20px}
.skelnb-pipe .mid{align-self:center;padding-top:0}
.skelnb-mini{border:2px solid transparent;border-radius:5px;background:none;padding:1px;cursor:pointer;display:block;width:100%;font:11px/1.25 system-ui,sans-serif;color:#1d1d1b;text-align:center}
.skelnb-mini:hover{background:#eef5fa}
.skelnb-mini[aria-pressed=true]{border-color:#0072b2;background:#e7f1f8}
.skelnb-mini canvas{display:block;width:100%;aspect-ratio:1;border-radius:2px}
.skelnb-mini small{display:block;font-size:10.5px;line-height:1.2;color:#3b3b38;padding-top:2px;font-variant-numeric:tabular-nums;white-space:pre;letter-spacing:-.03em}
.skelnb-vote p.skelnb-word{margin:4px 0!important;color:#5c5c58;font-size:12px;line-height:1.4}
.skelnb-vote h4{margin:2px 0 4px;font-size:14px;font-weight:650;color:#1d1d1b;overflow-wrap:anywhere}
.skelnb-key2{display:flex;flex-wrap:wrap;gap:2px 12px;align-items:center;font-size:12px;margin:4px 0;color:#3b3b38}
.skelnb-key2 span{display:inline-flex;gap:4px;align-items:center}
.skelnb-key2 i{display:inline-block;width:12px;height:12px;border-radius:2px}
.skelnb-large{position:relative}
.skelnb-large canvas{display:block;width:100%;outline:none;cursor:crosshair;border-radius:4px;touch-action:pan-y pinch-zoom}
.skelnb-large canvas:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-vote .skelnb-tip{position:absolute;pointer-events:none;padding:3px 8px;border-radius:5px;background:rgba(30,30,30,.9);color:#fff;font-size:12px;max-width:260px;white-space:pre-line;overflow-wrap:anywhere;display:none;z-index:2}
.skelnb-vote table.skelnb-story{border-collapse:collapse;margin:2px 0 6px!important;width:auto;font-size:12px;font-variant-numeric:tabular-nums;display:table;border:0}
.skelnb-story th,.skelnb-story td{padding:1px 10px 1px 0!important;text-align:left!important;border:0!important;background:none!important;font-weight:400;color:#1d1d1b;white-space:nowrap}
.skelnb-story thead th{color:#5c5c58}
.skelnb-story .yes{font-weight:650}
.skelnb-story .no{color:#77776f}
.skelnb-charts{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:6px 10px;margin-top:10px;align-items:center}
.skelnb-charts svg{width:100%;height:auto;cursor:pointer;font:10px system-ui,sans-serif}
.skelnb-charts p:last-child:nth-child(odd){grid-column:1/-1}
.skelnb-vote.narrow .skelnb-charts{grid-template-columns:1fr}
.skelnb-vote.narrow .skelnb-pipe{grid-template-columns:minmax(34px,auto) repeat(2,minmax(0,1fr)) 8px repeat(2,minmax(0,1fr)) 8px minmax(0,1fr) 8px minmax(0,1.1fr);gap:4px 2px}
.skelnb-vote.narrow .skelnb-pipe header{font-size:11px}
.skelnb-vote.narrow .skelnb-pipe header small{display:none}
.skelnb-mini small span{color:inherit;font-size:inherit;padding:0}
.skelnb-vote.tight .skelnb-mini small span{display:none}
.skelnb-vote p.skelnb-short{display:none}
.skelnb-vote.tight p.skelnb-short{display:block}
.skelnb-vote.narrow p.skelnb-short{order:2;flex-basis:100%}
.skelnb-vote.tight .skelnb-pipe header small{font-size:10.5px}
.skelnb-vote.narrow .skelnb-vote-left{display:contents}
.skelnb-vote.narrow .skelnb-pipe{order:1;flex:1 1 100%}
.skelnb-vote.narrow .skelnb-vote-right{order:3;flex:1 1 100%}
.skelnb-vote.narrow .skelnb-charts{order:4;flex:1 1 100%}
.skelnb-vote.narrow .skelnb-pipe span{padding-top:8px}
.skelnb-vote.narrow .skelnb-pipe b{padding-top:10px}
.skelnb-vote.narrow .skelnb-pipe b i{display:block}
.skelnb-vote-right .skelnb-player{width:auto!important;margin:0!important}
.skelnb-vote-right .skelnb-stage{display:grid!important;grid-template-columns:repeat(2,minmax(0,1fr))!important;gap:6px}
.skelnb-vote-right .skelnb-panel{max-width:none!important;min-width:0}
.skelnb-vote-right .skelnb-panel figcaption{font-size:12px;padding:3px 6px 0;min-height:20px}`;

const { make: node, bytesOf, unfold, cut } = SkeletonPlayer;
function shape(tag, parent, attributes, text) {
  const e = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const k in attributes) e.setAttribute(k, attributes[k]);
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}

// --- the numbers: everything below the cosines is computed here, from the order of each row ---
function numbers(model) {
  const y = model.get("y"), N = y.length, S = model.get("streams").length, K = model.get("most"), E = model.get("epochs").length, size = N * N;
  const cosines = bytesOf(model.get("cosines")), tops = bytesOf(model.get("tops")), tables = new Map(), odd = new Map();
  for (const [m, k, row, columns] of model.get("odd")) { const key = `${m}/${k}`; (odd.get(key) || odd.set(key, []).get(key)).push([row, columns]); }
  let true_ = -N;
  for (let i = 0; i < N; i++) for (let j = 0; j < N; j++) true_ += y[i] === y[j];
  const at = (e, s, v) => (e * S + s) * 2 + v;
  const cosine = (e, s, v, i, j) => cosines[at(e, s, v) * size + i * N + j] / 127 - 1;
  const rank = (e, s, v, i, j) => { const from = (at(e, s, v) * N + i) * K; for (let r = 0; r < K; r++) if (tops[from + r] === j) return r + 1; return 0; };
  function sharpen(e, s, v, k) {
    const m = new Uint8Array(size), from = at(e, s, v) * N * K;
    for (let i = 0; i < N; i++) { m[i * N + i] = 1; for (let r = 0; r < k; r++) m[i * N + tops[from + i * K + r]] = 1; }
    for (const [row, columns] of odd.get(`${at(e, s, v)}/${k}`) || []) { m.fill(0, row * N, row * N + N); for (const c of columns) m[row * N + c] = 1; }
    return m;
  }
  function label(e, s, k, views) {
    if (views !== "both") return sharpen(e, s, views === "first" ? 0 : 1, k);
    const a = sharpen(e, s, 0, k), b = sharpen(e, s, 1, k);
    return a.map((x, c) => x & b[c]);
  }
  function vote(labels, need) {
    const m = new Uint8Array(size);
    for (let c = 0; c < size; c++) { let n = 0; for (const l of labels) n += l[c]; m[c] = n >= need ? 1 : 0; }
    return m;
  }
  // Off the diagonal: pairs called similar, how many of them are of one class, and the two shares (null where there is nothing to count).
  function quality(m) {
    let said = 0, hits = 0;
    for (let i = 0; i < N; i++) for (let j = 0; j < N; j++) if (i !== j && m[i * N + j]) { said++; hits += y[i] === y[j]; }
    return { said, hits, precision: said ? hits / said : null, recall: true_ ? hits / true_ : null };
  }
  // For every k: the quality of each stream's label and of each vote.
  function table(e, views) {
    const key = `${e}/${views}`;
    if (!tables.has(key)) tables.set(key, Array.from({ length: K + 1 }, (_, k) => {
      const labels = Array.from({ length: S }, (_, s) => label(e, s, k, views));
      return { streams: labels.map(quality), votes: labels.map((_, n) => quality(vote(labels, n + 1))) };
    }));
    return tables.get(key);
  }
  return { y, N, S, K, E, cosine, rank, sharpen, label, vote, quality, table, chance: N > 1 ? true_ / (size - N) : 0 };
}

function render({ model, el }) {
  const get = k => model.get(k), num = numbers(model), { y, N, S, K, E } = num;
  const streams = get("streams"), names = get("names"), classes = get("classes"), rows = get("rows"), epochs = get("epochs"), live = get("live");
  const place = new Map(rows.map((r, i) => [r, i])), stats = { draws: 0, ms: 0, worst: 0, asked: 0 }, cache = new Map();
  let layout = null, k, need, views, epoch, shown, chosen, hover = null, playing = [], inner = null, stopInner = null, timer = 0, patience = 0, raf = 0, now = {};
  const stageNames = streams.flatMap(s => ["S", "S'", "top S", "top S'", "label"].map(t => `${s}: ${t}`));
  function keep(found, itsLayout) { layout = itsLayout; found.forEach((v, row) => cache.set(row, v)); }
  if (get("store").rows && get("store").rows.length) keep(unfold(get("store")), get("store").layout);
  const groups = [];                                        // [first place, behind the last] of each class
  for (let i = 0; i < N; i++) if (i === 0 || y[i] !== y[i - 1]) groups.push([i, i + 1]); else groups[groups.length - 1][1] = i + 1;

  // --- the page ---
  const root = node("div", "skelnb-vote", el);
  root.dataset.lmSuppressShortcuts = "true";                // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group"); root.setAttribute("aria-label", `similarities of ${N} clips in ${S} streams`);
  node("style", "", root, STYLES);
  const tools = node("div", "skelnb-vote-tools", root), body = node("div", "skelnb-vote-body", root);
  const left = node("div", "skelnb-vote-left", body), right = node("div", "skelnb-vote-right", body);
  function slider(cls, text, max, title) {
    const label = node("label", "", tools, text), input = node("input", cls, label), out = node("output", "", label);
    input.type = "range"; input.min = 0; input.max = max; input.step = 1; label.title = title;
    return [input, out];
  }
  function select(cls, text, options, title) {
    const label = node("label", "", tools, text), e = node("select", cls, label);
    options.forEach(([value, told]) => { node("option", "", e, told).value = value; });
    label.title = title;
    return e;
  }
  const [kSlide, kTold] = slider("skelnb-k", "k", K, "how many of each row count as similar");
  kSlide.oninput = () => push("k", +kSlide.value);
  const pickViews = select("skelnb-views", "views", [["both", "both (AND)"], ["first", "S alone"], ["second", "S\u2032 alone"]], "what a stream believes");
  pickViews.onchange = () => push("views", pickViews.value);
  const pickVote = select("skelnb-need", "vote", streams.map((_, n) => [n + 1, `${n + 1} of ${S}`]), "how many streams must agree");
  pickVote.onchange = () => push("at_least", +pickVote.value);
  let eSlide = null, eTold = null;
  if (E > 1) {
    [eSlide, eTold] = slider("skelnb-epoch", "epoch", E - 1, "the same clips while the method learns");
    eSlide.oninput = () => push("epoch", epochs[+eSlide.value]);
  }

  // The pipeline: a row a stream, a column a stage.
  const pipe = node("div", "skelnb-pipe", left), minis = new Map();
  function title(text, small, column, span) { const h = node("header", "", pipe, text); node("small", "", h, small); h.style.gridColumn = `${column} / span ${span}`; h.style.gridRow = 1; return h; }
  title("1  cosines", "predictions \u00d7 targets", 2, 2);
  const sharpTitle = title("2  sharpen", "", 5, 2), andTitle = title("3  AND", "", 8, 1), voteTitle = title("4  vote", "", 10, 1);
  function mini(name, row, column, span = 1) {
    const b = node("button", "skelnb-mini", pipe), c = node("canvas", "", b), told = node("small", "", b);
    b.type = "button"; b.style.gridRow = `${row} / span ${span}`; b.style.gridColumn = column; b.onclick = () => push("shown", name);
    minis.set(name, { b, c, told, ctx: c.getContext("2d") });
  }
  streams.forEach((s, i) => {
    const label = node("b", "", pipe); label.style.gridRow = i + 2; label.style.gridColumn = 1;
    node("i", "", label).style.background = STREAM[i % STREAM.length]; label.append(s);
    [["S", 2], ["S'", 3], ["top S", 5], ["top S'", 6], ["label", 8]].forEach(([t, column]) => mini(`${s}: ${t}`, i + 2, column));
    for (const column of [4, 7]) { const a = node("span", "", pipe, "\u2192"); a.style.gridRow = i + 2; a.style.gridColumn = column; a.setAttribute("aria-hidden", "true"); }
  });
  const into = node("span", "", pipe, "\u2192"); into.style.gridRow = `2 / span ${S}`; into.style.gridColumn = 9; into.className = "mid"; into.setAttribute("aria-hidden", "true");
  mini("vote", 2, 10, S); minis.get("vote").b.style.alignSelf = "center";
  node("p", "skelnb-word skelnb-short", left, "Under each label: how much of it is right, how much of what is right it finds.");
  const charts = node("div", "skelnb-charts", left);
  const chart = {}; for (const c of E > 1 ? ["precision", "recall", "epochs"] : ["precision", "recall"]) chart[c] = shape("svg", charts, { viewBox: "0 0 250 186", role: "img" });
  const reading = node("p", "skelnb-word", charts);

  // The large matrix, the chosen pair and its clips.
  const what = node("h4", "", right), large = node("div", "skelnb-large", right), canvas = node("canvas", "", large), tip = node("div", "skelnb-tip", large), legend = node("div", "skelnb-key2", right);
  const pair = node("h4", "skelnb-pair", right), story = node("table", "skelnb-story", right), verdict = node("p", "skelnb-word", right), stage = node("div", "", right), word = node("p", "skelnb-word", right);
  const ctx = canvas.getContext("2d");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", `matrix of ${N} by ${N} clips. Arrows go from cell to cell and play the two clips, N and P to the next and previous pair called similar, plus and minus change k, space plays`);
  canvas.setAttribute("aria-keyshortcuts", "ArrowLeft ArrowRight ArrowUp ArrowDown N P Plus Minus Space");
  pair.setAttribute("aria-live", "polite");
  if (get("left")) node("p", "skelnb-word", root, `${E} of ${E + get("left")} epochs are kept in this page.`);

  // --- colours ---
  const cosineColour = Array.from({ length: 256 }, (_, b) => { const c = within(b / 127 - 1, -1, 1); return mix(PAPER, c < 0 ? BROWN : PURPLE, Math.abs(c)); });
  const rgb = hex => [1, 3, 5].map(i => parseInt(hex.slice(i, i + 2), 16)), KIND = [NOTHING, RIGHT, WRONG, ITSELF].map(rgb);
  const isCosine = name => name.endsWith(": S") || name.endsWith(": S'");
  const streamOf = name => streams.findIndex(s => name === "vote" ? false : name.slice(0, name.lastIndexOf(": ")) === s);
  // Colour of a cell of any stage.
  function colourer(name) {
    if (isCosine(name)) { const s = streamOf(name), v = name.endsWith("'") ? 1 : 0; return (i, j) => cosineColour[Math.round((num.cosine(now.e, s, v, i, j) + 1) * 127)]; }
    const m = now.stages.get(name);
    return (i, j) => KIND[i === j ? 3 : !m[i * N + j] ? 0 : y[i] === y[j] ? 1 : 2];
  }
  const small = document.createElement("canvas"); small.width = small.height = N;
  const smallCtx = small.getContext("2d"), pixels = smallCtx.createImageData(N, N);
  function dots(name) {
    const f = colourer(name), d = pixels.data;
    for (let i = 0, o = 0; i < N; i++) for (let j = 0; j < N; j++, o += 4) { const c = f(i, j); d[o] = c[0]; d[o + 1] = c[1]; d[o + 2] = c[2]; d[o + 3] = 255; }
    smallCtx.putImageData(pixels, 0, 0);
  }
  function fit(c, context, ratio) {
    const dpr = window.devicePixelRatio || 1, w = c.clientWidth, h = ratio ? Math.round(w * ratio) : c.clientHeight;
    if (ratio) c.style.height = `${h}px`;
    if (c.width !== Math.round(w * dpr) || c.height !== Math.round(h * dpr)) { c.width = Math.round(w * dpr); c.height = Math.round(h * dpr); }
    context.setTransform(dpr, 0, 0, dpr, 0, 0);
    return [w, h];
  }
  function frames(c, x, y0, q, colour, width) { c.strokeStyle = colour; c.lineWidth = width; for (const [a, b] of groups) c.strokeRect(x + a * q, y0 + a * q, (b - a) * q, (b - a) * q); }

  // --- drawing ---
  const LEFT = () => Math.min(92, canvas.clientWidth * 0.24), TOP = 14;
  const unit = () => (canvas.clientWidth - LEFT() - 2) / N;
  function drawMini(name) {
    const m = minis.get(name), [w, h] = fit(m.c, m.ctx);
    if (!w) return;
    dots(name);
    m.ctx.imageSmoothingEnabled = false; m.ctx.clearRect(0, 0, w, h); m.ctx.drawImage(small, 0, 0, w, h);
    const q = w / N;
    frames(m.ctx, 0, 0, q, "rgba(60,60,56,.55)", 0.6);
    if (chosen) { const [i, j] = chosen; m.ctx.strokeStyle = INKED; m.ctx.lineWidth = 1.3; m.ctx.strokeRect(j * q - 2, i * q - 2, q + 4, q + 4); }
  }
  function drawLarge() {
    const x0 = LEFT(), w0 = canvas.clientWidth;
    if (!w0) return;
    const q = unit(), [w, h] = fit(canvas, ctx, (TOP + q * N + 2) / w0), f = colourer(shown), gap = q > 6 ? 1 : 0;
    ctx.fillStyle = GROUND; ctx.fillRect(0, 0, w, h);
    for (let i = 0; i < N; i++) for (let j = 0; j < N; j++) {
      const c = f(i, j), X = x0 + j * q, Y = TOP + i * q;
      ctx.fillStyle = `rgb(${c[0]},${c[1]},${c[2]})`; ctx.fillRect(X, Y, q - gap, q - gap);
      if (q > 6 && c === KIND[2]) { ctx.strokeStyle = "#fff"; ctx.lineWidth = 1.2; ctx.beginPath(); ctx.moveTo(X + q * 0.25, Y + q * 0.25); ctx.lineTo(X + q * 0.65, Y + q * 0.65); ctx.moveTo(X + q * 0.65, Y + q * 0.25); ctx.lineTo(X + q * 0.25, Y + q * 0.65); ctx.stroke(); }
    }
    frames(ctx, x0 - 0.5, TOP - 0.5, q, "#3b3b38", 1);
    ctx.textBaseline = "middle"; ctx.textAlign = "right"; ctx.font = "11px system-ui,sans-serif";
    for (const [a, b] of groups) {
      ctx.fillStyle = COLOURS[y[a] % COLOURS.length];
      ctx.fillRect(x0 - 7, TOP + a * q, 5, (b - a) * q - 1); ctx.fillRect(x0 + a * q, TOP - 7, (b - a) * q - 1, 5);
      if ((b - a) * q < 11) continue;
      ctx.fillStyle = INKED;
      let text = classes[y[a]];
      if (ctx.measureText(text).width > x0 - 12) { while (text.length > 1 && ctx.measureText(`${text}\u2026`).width > x0 - 12) text = text.slice(0, -1); text += "\u2026"; }
      ctx.fillText(text, x0 - 11, TOP + (a + b) / 2 * q);
    }
    const ring = ([i, j], width, colour) => { ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.strokeRect(x0 + j * q - 1.5, TOP + i * q - 1.5, q + 2, q + 2); };
    if (hover) ring(hover, 1.5, INKED);
    if (chosen) {
      const [i, j] = chosen; ctx.fillStyle = "rgba(30,30,30,.10)"; ctx.fillRect(x0, TOP + i * q, q * N, q); ctx.fillRect(x0 + j * q, TOP, q, q * N);
      ring(chosen, 4.5, "#fff"); ring(chosen, 2.4, INKED);
    }
  }
  function draw() {
    const t0 = performance.now();
    minis.forEach((_, name) => drawMini(name)); drawLarge();
    const ms = performance.now() - t0;
    stats.draws++; stats.ms += ms; stats.worst = Math.max(stats.worst, ms);
  }
  function redraw() { if (!raf) raf = requestAnimationFrame(() => { raf = 0; draw(); }); }

  // --- curves ---
  function lines() {
    const votes = streams.map((_, n) => ({ name: `${n + 1} of ${S}`, of: r => r.votes[n], colour: n + 1 === need ? INKED : FAINT, width: n + 1 === need ? 2.6 : 1.1, dash: n + 1 === need ? "" : "4 3" }));
    return [...(S > 1 ? votes.filter((_, n) => n + 1 !== need) : []), ...streams.map((s, i) => ({ name: s, of: r => r.streams[i], colour: STREAM[i % STREAM.length], width: 1.7, dash: "" })), ...(S > 1 ? [votes[need - 1]] : [])];
  }
  function drawChart(svg, head, xs, xNow, rowsOf, measure, onPick) {
    const X0 = 36, X1 = 182, Y0 = 26, Y1 = 158, n = xs.length, x = i => X0 + (n > 1 ? (X1 - X0) * i / (n - 1) : 0), yy = v => Y1 - (Y1 - Y0) * v, ends = [];
    svg.replaceChildren(); svg.setAttribute("aria-label", head);
    shape("text", svg, { x: 2, y: 12, fill: INKED, "font-weight": 650, "font-size": 11 }, head);
    for (const v of [0, 0.5, 1]) { shape("line", svg, { x1: X0, x2: X1, y1: yy(v), y2: yy(v), stroke: "#e4e4df" }); shape("text", svg, { x: X0 - 4, y: yy(v) + 3, "text-anchor": "end", fill: "#5c5c58" }, `${100 * v} %`); }
    const every = Math.ceil(n / 9);
    xs.forEach((v, i) => { if (i % every === 0 || i === n - 1 && (n - 1) % every > every / 2) shape("text", svg, { x: x(i), y: Y1 + 13, "text-anchor": "middle", fill: "#5c5c58" }, String(v)); });
    shape("text", svg, { x: (X0 + X1) / 2, y: Y1 + 26, "text-anchor": "middle", fill: "#5c5c58" }, onPick.name);
    shape("line", svg, { x1: x(xNow), x2: x(xNow), y1: Y0 - 4, y2: Y1, stroke: "#0072b2", "stroke-width": 1.2, "stroke-dasharray": "2 2" });
    if (measure === "precision") { shape("line", svg, { x1: X0, x2: X1, y1: yy(num.chance), y2: yy(num.chance), stroke: "#5c5c58", "stroke-dasharray": "1 3" }); ends.push({ y: yy(num.chance), text: "chance", colour: "#5c5c58" }); }
    for (const l of lines()) {
      let d = "", on = false, last = null;
      for (let i = 0; i < n; i++) {
        const v = l.of(rowsOf(i))[measure];
        if (v === null) { on = false; continue; }
        d += `${on ? "L" : "M"}${x(i).toFixed(1)} ${yy(v).toFixed(1)}`; on = true; last = v;
        if (!on || i === xNow || (i === 0 || l.of(rowsOf(i - 1))[measure] === null)) shape("circle", svg, { cx: x(i), cy: yy(v), r: i === xNow ? 3.2 : 1.5, fill: l.colour });
      }
      if (d) shape("path", svg, { d, fill: "none", stroke: l.colour, "stroke-width": l.width, "stroke-dasharray": l.dash, "stroke-linejoin": "round" });
      if (last !== null) ends.push({ y: yy(last), text: l.name, colour: l.colour === FAINT ? "#6b6b65" : l.colour, bold: l.width > 2 });
    }
    ends.sort((a, b) => a.y - b.y);
    for (let i = 1; i < ends.length; i++) ends[i].y = Math.max(ends[i].y, ends[i - 1].y + 10.5);
    const over = ends.length ? Math.max(0, ends[ends.length - 1].y - Y1) : 0;
    for (let i = ends.length - 1, roof = Infinity; i >= 0 && over; i--) { ends[i].y = Math.min(ends[i].y, roof, Y1); roof = ends[i].y - 10.5; }
    for (const e of ends) shape("text", svg, { x: X1 + 6, y: e.y + 3, fill: e.colour, "font-weight": e.bold ? 700 : 400 }, e.text);
    svg.onclick = event => { const b = svg.getBoundingClientRect(), u = (event.clientX - b.left) / b.width * 250; onPick.act(within(Math.round((u - X0) / (X1 - X0) * (n - 1)), 0, n - 1)); };
  }
  function curves() {
    const t = num.table(now.e, views), ks = Array.from({ length: K + 1 }, (_, i) => i), pickK = { name: "k (click to choose)", act: i => push("k", i) };
    drawChart(chart.precision, "precision: called similar, and right", ks, k, i => t[i], "precision", pickK);
    drawChart(chart.recall, "recall: of one class, and found", ks, k, i => t[i], "recall", pickK);
    if (chart.epochs) drawChart(chart.epochs, `precision at k = ${k} over the epochs`, epochs, now.e, i => num.table(i, views)[k], "precision", { name: "epoch (click to choose)", act: i => push("epoch", epochs[i]) });
    const q = S > 1 ? t[k].votes[need - 1] : t[k].streams[0];
    reading.textContent = `${S > 1 ? "The vote" : "The label"} calls ${q.said} ${q.said === 1 ? "pair" : "pairs"} similar besides each clip and itself: ${q.hits} rightly, ${q.said - q.hits} wrongly. By chance ${percent(num.chance)} would be right. The diagonal always is, and is not counted.`;
  }

  // --- choosing ---
  function push(name, value) { model.set(name, value); model.save_changes(); update(); }
  const state = () => JSON.stringify([get("k"), get("at_least"), get("views"), get("epoch"), get("shown"), get("selected")]);
  let known = "";
  // Whatever changed, by hand or from Python: read it all again.
  function update() {
    if (state() === known) return;
    known = state();
    k = get("k"); need = get("at_least"); views = get("views"); epoch = get("epoch"); shown = get("shown");
    const e = Math.max(0, epochs.indexOf(epoch)), [a, b] = get("selected"), before = chosen;
    chosen = place.has(a) && place.has(b) ? [place.get(a), place.get(b)] : null;
    if (now.key !== `${k}/${need}/${views}/${e}`) {
      const stages = new Map(), labels = [];
      streams.forEach((s, i) => {
        stages.set(`${s}: top S`, num.sharpen(e, i, 0, k)); stages.set(`${s}: top S'`, num.sharpen(e, i, 1, k));
        labels.push(num.label(e, i, k, views)); stages.set(`${s}: label`, labels[i]);
      });
      stages.set("vote", num.vote(labels, need));
      now = { key: `${k}/${need}/${views}/${e}`, e, stages };
      told();
    }
    minis.forEach((m, name) => m.b.setAttribute("aria-pressed", String(name === shown)));
    what.textContent = describe(shown);
    key();
    if (String(before) !== String(chosen)) ask();
    tell(); point(hover); redraw();
  }
  function describe(name) {
    if (name === "vote") return `The vote: ${need} of ${S} streams at k = ${k}`;
    const s = streams[streamOf(name)], t = name.slice(name.lastIndexOf(": ") + 2);
    return { S: `${s}: cosines S, predictions of view x (rows) with targets of x\u2032`, "S'": `${s}: cosines S\u2032, predictions of view x\u2032 (rows) with targets of x`,
      "top S": `${s}: the ${k} largest of each row of S, and the diagonal`, "top S'": `${s}: the ${k} largest of each row of S\u2032, and the diagonal`,
      label: `${s}: ${views === "both" ? "what both views say" : views === "first" ? "view x alone" : "view x\u2032 alone"} at k = ${k}` }[t];
  }
  function told() {
    kSlide.value = k; kTold.textContent = k; pickViews.value = views; pickVote.value = need;
    if (eSlide) { eSlide.value = now.e; eTold.textContent = epochs[now.e]; }
    sharpTitle.lastChild.textContent = `${k} largest of each row`;
    andTitle.firstChild.textContent = views === "both" ? "3  AND" : "3  one view"; andTitle.lastChild.textContent = views === "both" ? "both views" : views === "first" ? "S alone" : "S\u2032 alone";
    voteTitle.lastChild.textContent = `${need} of ${S} streams`;
    minis.forEach((m, name) => {
      if (isCosine(name)) { m.told.textContent = name.endsWith("'") ? "S\u2032" : "S"; m.b.setAttribute("aria-label", `show large: ${describe(name)}`); return; }
      const q = num.quality(now.stages.get(name));
      m.told.replaceChildren(percent(q.precision)); node("span", "", m.told, " right"); m.told.append("\n", percent(q.recall)); node("span", "", m.told, " found");
      m.b.setAttribute("aria-label", `show large: ${describe(name)}: ${q.said} pairs, ${percent(q.precision)} right, ${percent(q.recall)} found`);
    });
    curves();
  }
  function key() {
    legend.replaceChildren();
    const chip = (colour, text) => { const s = node("span", "", legend); node("i", "", s).style.background = colour; s.append(text); };
    if (isCosine(shown)) { chip(`rgb(${BROWN})`, "\u22121 opposite"); chip(`rgb(${PAPER});outline:1px solid #d8d8d2`, ""); legend.lastChild.firstChild.style.cssText = `background:rgb(${PAPER});outline:1px solid #c9c9c4`; legend.lastChild.append("0"); chip(`rgb(${PURPLE})`, "1 alike"); }
    else { chip(RIGHT, "similar, right"); chip(WRONG, "similar, wrong (\u00d7)"); chip(NOTHING, "not called similar"); chip(ITSELF, "a clip with itself"); }
    const s = node("span", "", legend), box = node("i", "", s); box.style.cssText = "background:none;border:1px solid #3b3b38"; s.append("pairs of one class");
  }
  const nameOf = i => `${classes[y[i]]} (${names[i]})`;
  const ordinal = r => r ? `${r}${r === 1 ? "st" : r === 2 ? "nd" : r === 3 ? "rd" : "th"}` : `after ${K}th`;
  function tell() {
    story.replaceChildren();
    pair.textContent = chosen ? `Row ${nameOf(chosen[0])}, column ${nameOf(chosen[1])}` : "Choose a cell";
    if (!chosen) { verdict.textContent = "A click on a cell plays its two clips here."; return; }
    const [i, j] = chosen, head = node("tr", "", node("thead", "", story)), bodyRows = node("tbody", "", story), c = i * N + j;
    for (const t of ["stream", "S: cosine, place in its row", "S\u2032", "says"]) node("th", "", head, t);
    let yes = 0;
    streams.forEach((s, n) => {
      const tr = node("tr", "", bodyRows), says = now.stages.get(`${s}: label`)[c]; node("th", "", tr, s); yes += says;
      [0, 1].forEach(v => node("td", now.stages.get(`${s}: top S${v ? "'" : ""}`)[c] ? "yes" : "no", tr, `${signed(num.cosine(now.e, n, v, i, j))}, ${ordinal(num.rank(now.e, n, v, i, j))}`));
      node("td", says ? "yes" : "no", tr, says ? "similar" : "no");
    });
    const called = now.stages.get("vote")[c], same = y[i] === y[j];
    verdict.textContent = i === j ? "A clip with itself: the diagonal is set in every label." :
      `${S > 1 ? `${yes} of ${S} streams say similar, ${need} must: ` : ""}${called ? "called similar" : "not called similar"}, ${called === (same ? 1 : 0) ? "rightly" : "wrongly"}: ${same ? "they are of one class" : "they are of two classes"}.`;
  }

  // --- the clips ---
  function ask() {
    clearTimeout(timer); clearTimeout(patience);
    if (!chosen) { stage.style.display = "none"; return; }
    const pairRows = chosen.map(i => rows[i]), missing = pairRows.filter(r => !cache.has(r));
    play(pairRows);
    if (!missing.length || !live) return;
    timer = setTimeout(() => { stats.asked++; model.set("wanted", pairRows); model.save_changes(); }, 40);
    patience = setTimeout(() => { if (pairRows.some(r => !cache.has(r))) word.textContent = "The clips come from the kernel, which is busy or gone: run the cell again, or wait."; }, 2500);
  }
  function play(pairRows) {
    const whole = pairRows.every(r => cache.has(r));
    stage.style.display = whole ? "" : "none";
    word.textContent = whole ? "" : live ? "Waiting for the notebook to send the clips." : "These clips are not kept in the page. In a running notebook all of them play.";
    if (!whole) { playing = []; return; }
    const parts = pairRows.map(r => cache.get(r)), data = new Uint8Array(parts[0].data.length + parts[1].data.length);
    data.set(parts[0].data); data.set(parts[1].data, parts[0].data.length);
    const items = parts.map((p, n) => ({ ...p.item, label: `${n ? "column" : "row"}: ${classes[y[place.get(pairRows[n])]]}` })), clips = { layout, items, data };
    playing = [...pairRows];
    if (inner) { inner.set("frame", 0); inner.set("clips", clips); return; }
    inner = SkeletonPlayer.staticModel({ clips, fps: get("fps"), frame: 0, playing: true, speed: 1, width: 260, height: 230, numbers: false });
    stopInner = SkeletonPlayer.render({ model: inner, el: stage });
  }

  // --- hands ---
  const choose = (i, j) => push("selected", [rows[i], rows[j]]);
  function cellAt(event) {
    const b = canvas.getBoundingClientRect(), z = canvas.clientWidth / (b.width || 1), q = unit();
    const j = Math.floor(((event.clientX - b.left) * z - LEFT()) / q), i = Math.floor(((event.clientY - b.top) * z - TOP) / q);
    return i >= 0 && j >= 0 && i < N && j < N ? [i, j] : null;
  }
  function point(cell) {
    if (String(cell) !== String(hover)) redraw();
    hover = cell;
    const written = cell && String(cell) === String(chosen);          // of the chosen pair, all is written below
    tip.style.display = cell && !written ? "block" : "none";
    if (!cell || written) return;
    const [i, j] = cell, s = streamOf(shown), list = s < 0 ? streams.map((_, n) => n) : [s], c = i * N + j, q = unit();
    const cosines = n => [0, 1].map(v => signed(num.cosine(now.e, n, v, i, j))).join(" / ");
    tip.textContent = [`row: ${classes[y[i]]}`, `column: ${classes[y[j]]}`, ...(isCosine(shown) ? [`cosine ${signed(num.cosine(now.e, s, shown.endsWith("'") ? 1 : 0, i, j))}`] :
      [...list.map(n => `${streams[n]} ${cosines(n)}${s < 0 ? now.stages.get(`${streams[n]}: label`)[c] ? ", similar" : ", no" : ""}`), i === j ? "itself" : now.stages.get(shown)[c] ? y[i] === y[j] ? "called similar, rightly" : "called similar, wrongly" : y[i] === y[j] ? "of one class, not found" : "not called similar, rightly"])].join("\n");
    const X = LEFT() + (j + 1) * q, Y = TOP + i * q, atRight = X > canvas.clientWidth * 0.6;
    tip.style.left = atRight ? "" : `${X + 8}px`; tip.style.right = atRight ? `${canvas.clientWidth - X + q + 8}px` : ""; tip.style.top = `${within(Y - 14, 0, Math.max(0, canvas.clientHeight - 110))}px`;
  }
  canvas.onpointermove = event => point(cellAt(event));
  canvas.onpointerleave = () => point(null);
  canvas.onclick = event => { const cell = cellAt(event); if (cell) choose(...cell); };
  function step(di, dj) { const [i, j] = chosen || [0, 0]; point(null); choose(within(i + di, 0, N - 1), within(j + dj, 0, N - 1)); }
  // The next pair that the shown label calls similar; from a matrix of cosines, that the vote does.
  function next(by) {
    const m = now.stages.get(isCosine(shown) ? "vote" : shown), from = chosen ? chosen[0] * N + chosen[1] : by > 0 ? -1 : N * N;
    for (let n = 1; n <= N * N; n++) { const c = ((from + by * n) % (N * N) + N * N) % (N * N), i = Math.floor(c / N), j = c % N; if (i !== j && m[c]) { point(null); choose(i, j); return; } }
  }
  const KEYS = {
    ArrowLeft: () => step(0, -1), ArrowRight: () => step(0, 1), ArrowUp: () => step(-1, 0), ArrowDown: () => step(1, 0), n: () => next(1), p: () => next(-1),
    "+": () => push("k", Math.min(K, k + 1)), "=": () => push("k", Math.min(K, k + 1)), "-": () => push("k", Math.max(0, k - 1)),
    " ": () => { if (inner) inner.set("playing", !inner.get("playing")); }, Escape: () => canvas.blur(),
  };
  root.addEventListener("keydown", e => {
    if (e.altKey || e.metaKey || e.ctrlKey) return;
    const act = KEYS[e.key.length === 1 ? e.key.toLowerCase() : e.key];
    if (e.target === canvas && act) { e.preventDefault(); act(); }
    if (e.key !== "Tab") e.stopPropagation();
  });

  // --- the outside ---
  const sizes = window.ResizeObserver ? new ResizeObserver(() => { root.classList.toggle("narrow", root.clientWidth < 620); root.classList.toggle("tight", root.clientWidth < 980); redraw(); }) : null;
  if (sizes) sizes.observe(root);
  function receive() { const sent = get("sent"); if (sent && sent.rows) keep(cut(sent), sent.clips.layout); }
  const heard = { "change:sent": () => { receive(); if (chosen) ask(); } };
  for (const name of ["k", "at_least", "views", "epoch", "shown", "selected"]) heard[`change:${name}`] = update;
  for (const name in heard) model.on(name, heard[name]);
  root.similarity = { stats, numbers: num,                     // for tests
    get now() { return { k, at_least: need, views, epoch, shown, selected: get("selected") }; }, get playing() { return [...playing]; }, get clip() { return inner ? inner.get("clips") : null; }, get hover() { return hover; },
    stage: name => [...now.stages.get(name)], get stored() { return [...cache.keys()]; }, cell: (i, j) => [LEFT() + (j + 0.5) * unit(), TOP + (i + 0.5) * unit()], stages: stageNames, get drawn() { return stats.draws; } };
  receive(); update(); draw();
  return () => {
    cancelAnimationFrame(raf); clearTimeout(timer); clearTimeout(patience);
    for (const name in heard) model.off(name, heard[name]);
    if (sizes) sizes.disconnect();
    if (stopInner) stopInner();
    root.remove();
  };
}

export default { render };
