// The explorer of augmentations: clips above, their augmented selves below, a slider for every parameter, and curves that tell what changed.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/augment/explorer.py.
// The model holds: clips {n,C,T,V,M,scale,labels,upright,flip,side,layout,data}, steps, levels, setting, strip, stored, fps, live, ask, answer.
// The built-in augmentations are computed here, from the same numbers as in Python (`numbers`); all others come from the kernel.

const AUGMENTED = "#d55e00", ORIGINAL = "#5c5c58", INKED = "#1d1d1b", FAINT = "#d8d8d2", BLUE = "#0072b2";
const within = (v, lo, hi) => Math.min(Math.max(v, lo), hi);

// --- random numbers: a pure function of draw, step, field and place, the same in Python ---
function mix(h) { h = Math.imul(h ^ h >>> 16, 0x85ebca6b); h = Math.imul(h ^ h >>> 13, 0xc2b2ae35); return (h ^ h >>> 16) >>> 0; }
function numbers(draw, step) {
  const start = mix(mix(draw + 0x9e3779b9 | 0) + step | 0);
  return (field, i) => (mix(mix(mix(start + field | 0) + Math.imul(i, 0x9e3779b9) | 0)) >>> 8) / 16777216;
}
const NORMALS = new Map();                                    // the slow ones are made once a draw
function normals(key, u, count) {
  if (!NORMALS.has(key)) {
    if (NORMALS.size > 8) NORMALS.clear();
    NORMALS.set(key, Float64Array.from({ length: count }, (_, i) => Math.sqrt(-2 * Math.log(1 - u(1, i))) * Math.cos(2 * Math.PI * u(2, i))));
  }
  return NORMALS.get(key);
}

// --- clips: one Float32Array (C,T,V,M) each; d = {n,C,T,V,M,flip,side} ---
function rearrange(x, { C, T, V, M }, frame, joint) {
  const y = new Float32Array(x.length);
  for (let c = 0, o = 0; c < C; c++) for (let t = 0; t < T; t++) for (let v = 0; v < V; v++) for (let m = 0, i = ((c * T + frame(t)) * V + joint(v)) * M; m < M; m++) y[o++] = x[i++];
  return y;
}
function multiply(x, { C, T, V, M }, R) {
  const y = new Float32Array(x.length), L = T * V * M;
  for (let c = 0; c < C; c++) for (let l = 0; l < L; l++) { let sum = 0; for (let k = 0; k < C; k++) sum += R[c][k] * x[k * L + l]; y[c * L + l] = sum; }
  return y;
}
const same = k => k, square = (C, f) => Array.from({ length: C }, (_, r) => Array.from({ length: C }, (_, c) => f(r, c)));
const times = (A, B) => A.map(row => B[0].map((_, c) => row.reduce((sum, v, k) => sum + v * B[k][c], 0)));
// Is anybody there in frame t? (t < 0: in any frame)
function there(x, { C, T, V, M }, t, m) {
  for (let c = 0; c < C; c++) for (let f = t < 0 ? 0 : t; f < (t < 0 ? T : t + 1); f++) for (let v = 0; v < V; v++) if (x[((c * T + f) * V + v) * M + m] !== 0) return true;
  return false;
}

// --- the augmentations: (clips, d, settings, u, key) -> clips. Field 0 of the numbers is the coin ---
const coin = f => (X, d, s, u, key) => X.map((x, i) => u(0, i) < (s.p === undefined ? 1 : s.p) ? f(x, d, s, u, i, key) : x);
const STEPS = {
  TemporalCrop: coin((x, d, s, u, i) => {
    const { T } = d, P = Math.floor(T / s.padding_ratio), start = Math.floor(u(1, i) * (2 * P + 1));
    return rearrange(x, d, t => { const f = t + start - P; return f < 0 ? -1 - f : f >= T ? 2 * T - 1 - f : f; }, same);
  }),
  Shear: coin((x, d, s, u, i) => multiply(x, d, square(d.C, (r, c) => r === c ? 1 : s.amplitude * (2 * u(1, (i * d.C + r) * d.C + c) - 1)))),
  SpatialFlip: coin((x, d, s) => {
    const y = rearrange(x, d, same, v => d.flip[v]);
    return s.mirror ? multiply(y, d, square(d.C, (r, c) => r !== c ? 0 : r === d.side ? -1 : 1)) : y;
  }),
  TimeFlip: coin((x, d) => rearrange(x, d, t => d.T - 1 - t, same)),
  Rotate: coin((x, d, s, u, i) => {
    const main = d.C === 2 ? 2 : s.axis >= 0 ? s.axis : Math.floor(3 * u(1, i));
    const a = [0, 1, 2].map(k => { const r = u(2, 3 * i + k), most = k === main ? s.main : d.C === 2 ? 0 : s.other; return most * (s.signed ? 2 * r - 1 : r) * Math.PI / 180; });
    const [cx, cy, cz] = a.map(Math.cos), [sx, sy, sz] = a.map(Math.sin);
    return multiply(x, d, times([[cz, sz, 0], [-sz, cz, 0], [0, 0, 1]], times([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]], [[1, 0, 0], [0, cx, sx], [0, -sx, cx]])));
  }),
  GaussianNoise: coin((x, d, s, u, i, key) => {
    const { C, T, V, M } = d, z = normals(key, u, d.n * x.length), y = new Float32Array(x.length);
    const here = s.absent === "noise" ? null : Array.from({ length: T * M }, (_, k) => there(x, d, Math.floor(k / M), k % M));
    for (let k = 0, o = i * x.length; k < x.length; k++) y[k] = x[k] + (!here || here[Math.floor(k / (V * M)) % T * M + k % M] ? s.std * z[o + k] : 0);
    return y;
  }),
  GaussianBlur: coin((x, d, s, u, i) => {
    const { C, T, V, M } = d, h = Math.floor(s.taps / 2), sigma = s["sigma.0"] + (s["sigma.1"] - s["sigma.0"]) * u(1, i), L = V * M, y = new Float32Array(x.length);
    const w = Array.from({ length: s.taps }, (_, k) => { const e = Math.exp(-0.5 * ((k - h) / sigma) ** 2); return e < 1e-30 ? 0 : e; });
    for (let c = 0; c < C; c++) for (let t = 0; t < T; t++) {
      let total = 0;
      for (let k = -h; k <= h; k++) {
        if (t + k < 0 || t + k >= T || !w[k + h]) continue;
        total += w[k + h];
        for (let l = 0, o = (c * T + t) * L, from = (c * T + t + k) * L; l < L; l++) y[o + l] += w[k + h] * x[from + l];
      }
      if (s.normalise) for (let l = 0, o = (c * T + t) * L; l < L; l++) y[o + l] /= total;
    }
    return y;
  }),
  AxisMask: coin((x, d, s, u, i) => { const axis = s.axis >= 0 ? s.axis : Math.floor(d.C * u(1, i)), L = x.length / d.C; return x.slice().fill(0, axis * L, (axis + 1) * L); }),
  SkeleAdaIN(X, d, s, u) {
    const shift = 1 + Math.floor(u(1, 0) * Math.max(d.n - 2, 1)), { C, T, V, M } = d, over = s.over === "TV", count = over ? T * V : V;
    const visit = (c, t, m, f) => { for (let k = over ? 0 : t * V, end = over ? T * V : (t + 1) * V; k < end; k++) f((c * T * V + k) * M + m); };
    const style = (x, c, t, m) => {
      let mean = 0, square = 0;
      visit(c, t, m, k => { mean += x[k]; }); mean /= count;
      visit(c, t, m, k => { square += (x[k] - mean) ** 2; });
      return [mean, Math.sqrt(square / (count - (count > 1 ? 1 : 0)) + s.eps)];
    };
    return X.map((x, i) => {
      const from = X[(i + shift) % d.n], y = x.slice();
      for (let m = 0; m < M; m++) for (let t = 0; t < (over ? 1 : T); t++) {
        if (s.absent === "keep" && !(there(x, d, over ? -1 : t, m) && there(from, d, over ? -1 : t, m))) continue;
        for (let c = 0; c < C; c++) { const [a, b] = style(x, c, t, m), [e, f] = style(from, c, t, m); visit(c, t, m, k => { y[k] = (x[k] - a) * f / b + e; }); }
      }
      return y;
    });
  },
  RandomMask(X, d, s, u) {
    const { C, T, V, M } = d, hidden = Math.floor(V * s.ratio + 1e-9), masks = [];
    const mask = b => masks[b] ||= Array.from({ length: T }, (_, t) => {       // the joints with the smallest numbers, frame by frame
      const z = Float64Array.from({ length: V }, (_, v) => u(1, (b * T + t) * V + v));
      return Array.from(z.keys()).sort((p, q) => z[p] - z[q]).slice(0, hidden);
    });
    return X.map((x, i) => {
      const y = x.slice();
      mask(s.per === "batch" ? 0 : i).forEach((joints, t) => { for (const v of joints) for (let c = 0; c < C; c++) for (let m = 0; m < M; m++) y[((c * T + t) * V + v) * M + m] = 0; });
      return y;
    });
  },
};

// --- what a change does to one clip, as in Python's `curves` ---
function curves(x, y, d, bones, fps, before = spectrum(x, x, d, fps)) {
  const { C, T, V, M } = d, here = [];
  for (let m = 0; m < M; m++) for (let t = 0; t < T; t++) if (there(x, d, t, m)) here.push([t, m]);
  const at = (z, c, t, v, m) => z[((c * T + t) * V + v) * M + m];
  const gap = (a, b, va, vb, t, m) => { let q = 0; for (let c = 0; c < C; c++) q += (at(a, c, t, va, m) - at(b, c, t, vb, m)) ** 2; return Math.sqrt(q); };
  const bone = bones.map(([j, p]) => {
    const before = here.map(([t, m]) => gap(x, x, j, p, t, m)), after = here.map(([t, m]) => gap(y, y, j, p, t, m)), mean = before.reduce((a, b) => a + b, 0) / Math.max(before.length, 1);
    return mean < 1e-6 ? null : { mean: after.reduce((a, b) => a + b, 0) / after.length / mean, low: Math.min(...after) / mean, high: Math.max(...after) / mean, was: [Math.min(...before) / mean, Math.max(...before) / mean] };
  });
  const distance = new Array(T).fill(0), people = new Array(T).fill(0);
  for (const [t, m] of here) { people[t]++; for (let v = 0; v < V; v++) distance[t] += gap(x, y, v, v, t, m) / V; }
  return { bone, distance: distance.map((s, t) => s / Math.max(people[t], 1)), before, after: spectrum(y, x, d, fps) };
}
// Root mean square over joints of the amplitude of their velocity (m/s) at k/(T-1)*fps Hz; persons who are in `of`.
function spectrum(y, of, d, fps) {
  const { C, T, V, M } = d, L = T - 1, K = Math.min(Math.floor(L / 2), 40), out = new Float64Array(K + 1), wave = Array.from({ length: L }, (_, r) => [Math.cos(2 * Math.PI * r / L), Math.sin(2 * Math.PI * r / L)]);
  const people = Array.from({ length: M }, (_, m) => m).filter(m => there(of, d, -1, m)), v = new Float64Array(L);
  for (const m of people) for (let c = 0; c < C; c++) for (let j = 0; j < V; j++) {
    for (let t = 0; t < L; t++) v[t] = (y[((c * T + t + 1) * V + j) * M + m] - y[((c * T + t) * V + j) * M + m]) * fps;
    for (let k = 0; k <= K; k++) {
      let a = 0, b = 0;
      for (let t = 0, r = 0; t < L; t++) { a += v[t] * wave[r][0]; b += v[t] * wave[r][1]; r += k; if (r >= L) r -= L; }
      out[k] += a * a + b * b;
    }
  }
  return Array.from(out, (p, k) => Math.sqrt(p / Math.max(V * people.length, 1)) * (k ? 2 : 1) / L);
}

const STYLES = `
.skelnb-augment{font:13px/1.35 system-ui,sans-serif;color:${INKED};background:#fff;border:1px solid ${FAINT};border-radius:10px;padding:8px 10px;margin:4px 0;max-width:1080px;box-sizing:border-box;outline:none}
.skelnb-augment *{box-sizing:border-box}
.skelnb-augment button{height:27px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:${INKED};font:inherit;padding:0 9px;cursor:pointer}
.skelnb-augment button:hover{background:#eef5fa}
.skelnb-augment button[aria-pressed=true]{background:#e7f1f8;border-color:${BLUE};font-weight:600}
.skelnb-augment :focus-visible{outline:2px solid ${BLUE};outline-offset:1px}
.skelnb-augment input[type=range],.skelnb-augment input[type=checkbox]{accent-color:${AUGMENTED};margin:0}
.skelnb-top{display:flex;flex-wrap:wrap;gap:5px 12px;align-items:center;margin-bottom:7px}
.skelnb-top>span{display:inline-flex;gap:4px;align-items:center}
.skelnb-top label{display:inline-flex;gap:5px;align-items:center;cursor:pointer}
.skelnb-top output{min-width:3.6em;font-variant-numeric:tabular-nums;color:#5c5c58}
.skelnb-both{display:flex;gap:10px;align-items:stretch}
.skelnb-list{flex:0 0 236px;position:relative;min-height:300px}
.skelnb-list>div{position:absolute;inset:0;overflow-y:auto;border:1px solid ${FAINT};border-radius:8px;padding:3px 0}
.skelnb-step{padding:2px 8px 3px;border-left:3px solid transparent}
.skelnb-step.on{background:#fdf3ec;border-left-color:${AUGMENTED}}
.skelnb-step>label{display:flex;gap:7px;align-items:center;cursor:pointer;font-weight:550}
.skelnb-step small{margin-left:auto;font-weight:400;color:#5c5c58}
.skelnb-step .skelnb-control{display:grid;grid-template-columns:66px 1fr 46px;gap:5px;align-items:center;padding:1px 0 1px 8px;font-size:12px;line-height:1.25}
.skelnb-control output{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
.skelnb-control input[type=range]{width:100%;min-width:0}
.skelnb-control input[type=checkbox]{justify-self:start}
.skelnb-control select{grid-column:2/4;font:inherit;height:22px;border:1px solid #b8b8b0;border-radius:5px;background:#fff;color:${INKED};min-width:0}
.skelnb-clips{flex:1 1 auto;min-width:0}
.skelnb-clips .skelnb-player{width:auto!important;margin:0;max-width:none}
.skelnb-clips .skelnb-stage{display:grid!important;gap:6px}
.skelnb-clips .skelnb-panel{max-width:none!important;min-width:0}
.skelnb-clips .skelnb-panel canvas{max-height:min(176px,23vh)}
.skelnb-clips figcaption{font-size:12px!important;padding:3px 7px 0!important;min-height:21px!important;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.skelnb-clips .skelnb-panel.after{border-color:${AUGMENTED}}
.skelnb-clips .skelnb-panel.after figcaption{color:#a04600;font-weight:500}
.skelnb-charts{display:grid;grid-template-columns:repeat(3,minmax(0,1fr));gap:8px;margin-top:7px}
.skelnb-chart{position:relative;min-width:0}
.skelnb-chart>b,.skelnb-strip>b{display:block;font-size:12px;font-weight:600;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}
.skelnb-chart canvas{display:block;width:100%;height:104px}
.skelnb-strip{margin-top:6px}
.skelnb-strip canvas{display:block;width:100%}
.skelnb-augment p.skelnb-word{margin:5px 0 0!important;color:#5c5c58;font-size:12px;min-height:1.3em}
@media (max-width:560px){.skelnb-both{flex-direction:column}.skelnb-list{flex:none;min-height:0}.skelnb-list>div{position:static;max-height:230px}.skelnb-charts{grid-template-columns:1fr}}`;

const { make: node, bytesOf } = SkeletonPlayer;
// n clips of float32 from int16 in units of `scale`: the same numbers as Python's.
function decode(data, scale, n) {
  const q = new Int16Array(bytesOf(data).slice().buffer), size = q.length / n;
  return Array.from({ length: n }, (_, i) => Float32Array.from(q.subarray(i * size, (i + 1) * size), k => k * scale));
}

function render({ model, el }) {
  const get = k => model.get(k), live = get("live"), steps = get("steps"), levels = get("levels"), fps = get("fps"), strip = get("strip"), stored = get("stored");
  const box = get("clips"), d = box, { n, C, T, V, M, layout } = box, originals = decode(box.data, box.scale, n), bones = layout.bones.slice(0, layout.bones.length - layout.struts);
  const stats = { steps: [], work: [], asked: 0 }, copy = s => ({ ...s, on: [...s.on], values: s.values.map(v => ({ ...v })) });
  let set = copy(get("setting")), shown = originals, moves = get("answer").moves || null, focus = 0, curve = null, raf = 0, changedAt = 0, note = "", before = null;
  let flying = 0, serial = 0, want = { clips: false, moves: false }, later = 0, patience = 0, telling = 0;

  // --- the page ---
  const root = node("div", "skelnb-augment", el);
  root.dataset.lmSuppressShortcuts = "true";                // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group"); root.setAttribute("aria-label", `explorer of augmentations: ${n} clips and what becomes of them`);
  node("style", "", root, STYLES);
  const top = node("div", "skelnb-top", root), both = node("div", "skelnb-both", root), list = node("div", "", node("div", "skelnb-list", both)), stage = node("div", "skelnb-clips", both);
  const button = (parent, text, title, act) => { const b = node("button", "", parent, text); b.type = "button"; b.title = title; b.onclick = act; return b; };
  const check = (parent, text, act) => { const label = node("label", "", parent), c = node("input", "", label); c.type = "checkbox"; node("span", "", label, text); c.onchange = () => act(c.checked); return c; };
  const levelButtons = [];
  if (levels.length) {
    const span = node("span", "", top, "level");
    levels.forEach((level, i) => levelButtons.push(button(span, level.name, level.text, () => { set.on = [...level.on]; set.level = i; changed(); })));
  }
  const drawing = node("span", "", top);
  button(drawing, "\u25c2", "the draw before", () => { set.draw = Math.max(0, set.draw - 1); changed(); }).setAttribute("aria-label", "the draw before");
  button(drawing, "draw again", "new random numbers for every augmentation", () => { set.draw++; changed(); }).className = "skelnb-again";
  const told = node("output", "", drawing);
  const coins = check(top, "coins as in training", on => { set.coins = on; changed(); });
  coins.parentNode.title = "off: what is switched on acts on every clip; on: each clip is changed with probability p only";
  button(top, "reset", "as it was at the start", () => { set = copy(get("first")); changed(); });

  const rows = steps.map((step, i) => {
    const row = node("div", "skelnb-step", list), label = node("label", "", row), box = node("input", "", label), inside = node("div", "", row);
    box.type = "checkbox"; node("span", "", label, step.label); label.title = step.text;
    if (step.kind === "kernel") node("small", "", label, live ? "kernel" : "stored");
    if (step.kind === "edges") node("small", "", label, "encoder");
    box.onchange = () => { set.on[i] = box.checked; set.level = -1; changed(); };
    box.disabled = step.kind === "edges" && !strip.rows || step.kind === "kernel" && !live && !stored[i];
    const controls = step.controls.map(c => control(c, inside, i));
    return { row, box, inside, controls };
  });
  function control(c, parent, i) {
    const line = node("label", "skelnb-control", parent), word = node("span", "", line, c.label), now = () => set.values[i][c.name];
    const kept = live || steps[i].kind !== "kernel" || stored[i] && stored[i].controls.includes(c.name);
    const put = v => {
      const s = set.values[i], pair = c.name.match(/^(.*)\.([01])$/), other = pair && `${pair[1]}.${1 - pair[2]}`;
      s[c.name] = v;
      if (pair && other in s) s[other] = pair[2] === "0" ? Math.max(s[other], v) : Math.min(s[other], v);        // from ... to stay in order
      changed();
    };
    if (c.kind === "choice") {
      const pick = node("select", "", line);
      pick.disabled = !kept;
      c.choices.forEach(v => { node("option", "", pick, v[1]).value = v[0]; });
      pick.onchange = () => put(c.choices[pick.selectedIndex][0]);
      return { line, c, show() { pick.selectedIndex = c.choices.findIndex(v => v[0] === now()); } };
    }
    const input = node("input", "", line), out = node("output", "", line);
    input.disabled = !kept;
    if (c.kind === "switch") { input.type = "checkbox"; input.onchange = () => put(input.checked); return { line, c, show() { input.checked = now(); out.textContent = now() ? "on" : "off"; } }; }
    input.type = "range"; input.min = c.min; input.max = c.max; input.step = c.step; input.setAttribute("aria-label", `${steps[i].label}: ${c.label}`);
    const digits = Math.max(0, Math.min(4, Math.ceil(-Math.log10(c.step) - 1e-9)));
    input.oninput = () => put(+input.value);
    line.ondblclick = () => kept && put(get("first").values[i][c.name]);
    line.title = kept ? "double click: as it was" : "needs the running notebook";
    return { line, c, input, show() { if (+input.value !== now()) input.value = now(); out.textContent = (+now()).toFixed(digits) + (c.unit || ""); } };
  }

  const charts = node("div", "skelnb-charts", root), chart = (title, text) => { const e = node("div", "skelnb-chart", charts), b = node("b", "", e, title), canvas = node("canvas", "", e); e.title = text; return { e, b, canvas }; };
  const CB = chart("bone lengths", "each bone's length divided by its mean length in the original clip: dot = mean, line = smallest to largest over time (grey: in the original); left limbs light, right limbs dark");
  const CS = chart("speed spectrum, m/s", "how fast the joints move at each frequency; grey: original, orange: augmented");
  const CD = chart("distance moved, cm", "how far each joint is from where it was in the original: mean over the joints, frame by frame");
  let SF = null, verdict = null;
  if (strip.rows) {
    const e = node("div", "skelnb-strip", root);
    SF = { b: node("b", "", e, "how far the feature moves (1 \u2212 cosine)"), canvas: node("canvas", "", e) };
    SF.canvas.style.height = 20 + 15 * (strip.rows.length + 1) + "px";
    verdict = node("p", "skelnb-word", e);
  }
  const word = node("p", "skelnb-word", root);

  // --- the clips, as the player wants them ---
  const MIDDLE = originals.map(x => frame(x).middle), places = new Float64Array(T * M * V * 3);
  // Points turned upright, with the box around all who are there.
  function frame(x, p = new Float64Array(T * M * V * 3)) {
    const low = [1e9, 1e9, 1e9], high = [-1e9, -1e9, -1e9], here = new Uint8Array(T * M), U = box.upright;
    for (let t = 0, o = 0; t < T; t++) for (let m = 0; m < M; m++) {
      const on = here[t * M + m] = there(x, d, t, m) ? 1 : 0;
      for (let v = 0; v < V; v++) for (let a = 0; a < 3; a++, o++) {
        let sum = 0;
        for (let c = 0; c < C; c++) sum += U[a][c] * x[((c * T + t) * V + v) * M + m];
        p[o] = sum;
        if (on) { if (sum < low[a]) low[a] = sum; if (sum > high[a]) high[a] = sum; }
      }
    }
    return { p, here, middle: low.map((l, a) => l > high[a] ? 0 : (l + high[a]) / 2) };
  }
  function pack(x, i, label) {
    const { p, here } = frame(x, places), q = new Int16Array(p.length), [mx, my, mz] = MIDDLE[i];
    let most = 1e-9, wide = 1e-6, high = 1e-6, floor = 0;
    for (let k = 0; k < p.length; k += 3) {
      if (!here[Math.floor(k / (3 * V))]) continue;
      p[k] -= mx; p[k + 1] -= my; p[k + 2] -= mz;
      most = Math.max(most, Math.abs(p[k]), Math.abs(p[k + 1]), Math.abs(p[k + 2]));
      wide = Math.max(wide, p[k] * p[k] + p[k + 2] * p[k + 2]); high = Math.max(high, Math.abs(p[k + 1])); floor = Math.max(floor, -p[k + 1]);
    }
    wide = Math.sqrt(wide);
    if (before) {                                            // on the ground of the original; what grows far out of the picture does not shrink all the others
      const W = Math.max(...before.map(b => b.item.wide)), H = Math.max(...before.map(b => b.item.high));
      floor = before[i].item.floor; wide = within(wide, 1.2 * W, 2 * W); high = within(high, 1.1 * H, 2 * H);
    }
    const scale = most / 32767;
    for (let k = 0; k < p.length; k++) q[k] = here[Math.floor(k / (3 * V))] ? Math.round(p[k] / scale) : -32768;
    return { item: { label, frames: T, persons: M, scale, middle: MIDDLE[i], floor, wide, high, facing: box.facing }, data: new Uint8Array(q.buffer) };
  }
  before = originals.map((x, i) => pack(x, i, box.labels[i]));
  let inner = null, stopInner = null;
  function play() {
    const after = shown.map((x, i) => pack(x, i, acting(i))), all = n > 1 ? [...before, ...after] : [before[0], after[0]], data = new Uint8Array(all.reduce((s, c) => s + c.data.length, 0));
    let at = 0;
    for (const c of all) { data.set(c.data, at); at += c.data.length; }
    stage.querySelectorAll(".skelnb-panel").forEach((p, k) => { p.title = all[k].item.label; });
    const clips = { layout, items: all.map(c => c.item), data, fit: "shared" };
    if (inner) return inner.set("clips", clips);
    inner = SkeletonPlayer.staticModel({ clips, fps, frame: 0, playing: true, speed: 1, width: 200, height: n < 3 ? 152 : 180, numbers: false });
    stopInner = SkeletonPlayer.render({ model: inner, el: stage });
    const grid = stage.querySelector(".skelnb-stage"), panels = [...stage.querySelectorAll(".skelnb-panel")];
    grid.style.gridTemplateColumns = `repeat(${Math.max(n, 2)}, minmax(0, 1fr))`;
    panels.forEach((p, k) => { if (k >= all.length - n) p.classList.add("after"); p.addEventListener("pointerdown", () => { focus = k % n; draw(); }); });
  }
  const values = i => { const s = { ...set.values[i] }; if (s.p !== undefined && !set.coins) s.p = 1; return s; };
  // Which of them change clip i in this draw?
  function acting(i) {
    const names = steps.map((s, k) => [s, k]).filter(([s, k]) => set.on[k] && s.kind !== "edges" && (values(k).p === undefined || s.kind === "kernel" || numbers(set.draw, k)(0, i) < values(k).p)).map(([s]) => s.label);
    return names.length ? names.join(", ") : "not changed";
  }

  // --- the chain ---
  const isOn = kind => steps.some((s, i) => set.on[i] && s.kind === kind);
  function chain() {
    let X = originals;
    note = "";
    steps.forEach((s, i) => {
      if (!set.on[i] || s.kind === "edges") return;
      if (s.kind !== "kernel") { X = STEPS[s.kind](X, d, values(i), numbers(set.draw, i), `${set.draw}/${i}`); return; }
      if (X !== originals || !stored[i]) { note = `${s.label} needs the running notebook here: this page knows it only as the first change.`; return; }
      X = recall(stored[i], s, i); note = `${s.label} was computed at ${stored[i].strengths} strengths for ${stored[i].draws} draws when this page was made; between them the page interpolates.`;
    });
    return X;
  }
  // A change that only Python knows, from its stored strengths: start + sum over sliders of (at this strength - start).
  function recall(s, step, i) {
    const q = new Int8Array(bytesOf(s.data).buffer), size = C * T * V * M, K = s.strengths, block = (1 + s.controls.length * K) * n * size, base = set.draw % s.draws * block;
    return originals.map((x, c) => {
      const y = new Float32Array(size), add = (k, w) => { for (let j = 0, o = base + (k * n + c) * size; j < size; j++) y[j] += w * s.scale * q[o + j]; };
      add(0, 1);
      s.controls.forEach((name, a) => {
        const ctl = step.controls.find(e => e.name === name), now = set.values[i][name], first = get("first").values[i][name];
        if (Math.abs(now - first) < 1e-12) return;
        const f = within((now - ctl.min) / (ctl.max - ctl.min), 0, 1) * (K - 1), lo = Math.min(Math.floor(f), K - 2);
        add(1 + a * K + lo, 1 - f + lo); add(2 + a * K + lo, f - lo); add(0, -1);
      });
      for (let j = 0; j < size; j++) y[j] += x[j];
      return y;
    });
  }
  function changed() {
    const t0 = performance.now();
    changedAt = t0;
    update();
    if (live) {
      clearTimeout(telling); telling = setTimeout(() => { model.set("setting", copy(set)); model.save_changes(); }, 150);
      clearTimeout(later);
      if (strip.rows) { moves = null; later = setTimeout(() => { want.moves = true; request(); }, 100); }
    } else if (moves) moves = null;
    if (live && isOn("kernel")) { want.clips = true; note = ""; request(); }
    else { want.clips = false; shown = chain(); show(t0); }
  }
  function show(t0) {
    play(); draw();
    stats.work.push(performance.now() - t0);
    requestAnimationFrame(() => stats.steps.push(performance.now() - t0));       // after the player's own frame
    word.textContent = note || (live ? "" : "This page computes by itself." + (strip.rows ? " How far the feature moves at other settings needs the running notebook." : ""));
  }
  function update() {
    told.textContent = `draw ${set.draw + 1}`; coins.checked = set.coins;
    const level = levels.findIndex(l => l.on.every((v, i) => v === set.on[i]));
    levelButtons.forEach((b, i) => b.setAttribute("aria-pressed", String(i === level)));
    rows.forEach(({ row, box, inside, controls }, i) => {
      box.checked = set.on[i]; row.classList.toggle("on", set.on[i]); inside.style.display = set.on[i] ? "" : "none";
      if (set.on[i]) controls.forEach(c => { c.line.style.display = c.c.name === "p" && !set.coins ? "none" : ""; c.show(); });
    });
  }

  // --- the kernel: one question at a time, always with the newest setting ---
  function request() {
    const what = want.clips ? "clips" : want.moves ? "moves" : null;
    if (flying || !what) return;
    want[what] = false; flying = ++serial; stats.asked++;
    clearTimeout(patience);
    patience = setTimeout(() => { flying = 0; word.textContent = "The kernel is busy or gone: wait, or run the cell again. What is not marked \u201ckernel\u201d works without it."; }, 4000);
    model.set("ask", { id: flying, want: what, setting: copy(set) }); model.save_changes();
  }
  function hear() {
    const a = get("answer");
    if (a.id !== serial) return;                               // the newest question only; it may come late
    clearTimeout(patience); flying = 0;
    note = a.error || "";
    if (a.error) word.textContent = a.error;
    else if (a.want === "clips" && isOn("kernel")) { shown = decode(a.data, a.scale, n); show(changedAt); }
    else if (a.want === "moves" && !want.moves) { moves = a.moves; drawStrip(); }
    request();
  }

  // --- the curves ---
  const measured = new Map();
  function surface(canvas) {
    const dpr = window.devicePixelRatio || 1, ctx = canvas.getContext("2d");
    if (!measured.has(canvas)) {                               // asking for the size makes the browser lay out the page: once is enough
      measured.set(canvas, [canvas.clientWidth, canvas.clientHeight]);
      canvas.width = Math.round(canvas.clientWidth * dpr); canvas.height = Math.round(canvas.clientHeight * dpr);
    }
    const [w, h] = measured.get(canvas);
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0); ctx.clearRect(0, 0, w, h);
    ctx.font = "11px system-ui,sans-serif"; ctx.lineJoin = "round";
    return { ctx, w, h };
  }
  const nice = v => { const e = 10 ** Math.floor(Math.log10(Math.max(v, 1e-9))); return e * [1, 2, 5, 10].find(k => k * e >= v * 0.999); };
  function axes(ctx, w, h, yTicks, y, xTicks, x, left = 30) {
    ctx.strokeStyle = "#ececea"; ctx.fillStyle = "#5c5c58"; ctx.lineWidth = 1; ctx.beginPath();
    ctx.textAlign = "right"; ctx.textBaseline = "middle";
    for (const [v, text] of yTicks) { ctx.moveTo(left, y(v)); ctx.lineTo(w - 2, y(v)); ctx.fillText(text, left - 3, within(y(v), 6, h - 6)); }
    ctx.textAlign = "center"; ctx.textBaseline = "bottom";
    xTicks.forEach(([v, text], k) => { ctx.textAlign = k === xTicks.length - 1 ? "right" : k ? "center" : "left"; ctx.fillText(text, x(v), h); });
    ctx.stroke();
  }
  function line(ctx, list, x, y, colour, width = 1.8) { ctx.beginPath(); list.forEach((v, k) => k ? ctx.lineTo(x(k), y(v)) : ctx.moveTo(x(k), y(v))); ctx.strokeStyle = colour; ctx.lineWidth = width; ctx.stroke(); }
  const still = [];                                          // spectra of the originals
  function draw() {
    if (!still[focus]) still[focus] = spectrum(originals[focus], originals[focus], d, fps);
    curve = curves(originals[focus], shown[focus], d, bones, fps, still[focus]);
    const whose = n > 1 ? `: ${box.labels[focus] || "clip " + (focus + 1)}` : "";
    CB.b.textContent = `bone lengths${whose}`;
    drawBones(); drawSpectrum(); drawDistance(); drawStrip();
  }
  function drawBones() {
    const { ctx, w, h } = surface(CB.canvas), list = curve.bone, top = within(nice(1.1 * Math.max(...list.map(b => b ? b.mean : 0))), 2, 5), y = v => 5 + (h - 20) * (1 - Math.min(v, top) / top), x = k => 38 + (w - 44) * (k + 0.5) / list.length;
    axes(ctx, w, h, [[0, "0"], [1, "\u00d71"], ...(top > 2 ? [[top, "\u00d7" + top]] : [[2, "\u00d72"]])], y, [], x);
    ctx.strokeStyle = ORIGINAL; ctx.beginPath(); ctx.moveTo(30, y(1)); ctx.lineTo(w - 2, y(1)); ctx.stroke();
    ctx.textAlign = "left"; ctx.textBaseline = "bottom"; ctx.fillText("a dot a bone; grey: original", 32, h);
    list.forEach((b, k) => {
      if (!b) return;
      ctx.strokeStyle = "#b4b4ae"; ctx.lineWidth = 2; ctx.beginPath(); ctx.moveTo(x(k) - 1.5, y(b.was[0])); ctx.lineTo(x(k) - 1.5, y(b.was[1])); ctx.stroke();
      ctx.strokeStyle = ctx.fillStyle = ["#f0a05a", AUGMENTED, "#843400"][layout.side[bones[k][0]] + 1]; ctx.lineWidth = 2;
      ctx.beginPath(); ctx.moveTo(x(k) + 1, y(b.low)); ctx.lineTo(x(k) + 1, y(b.high)); ctx.stroke();
      ctx.beginPath(); ctx.arc(x(k) + 1, y(b.mean), 2.5, 0, 7); ctx.fill();
    });
  }
  CB.canvas.onpointermove = e => {
    const r = CB.canvas.getBoundingClientRect(), k = Math.floor((e.clientX - r.left - 38) / (r.width - 44) * bones.length), b = curve && curve.bone[k];
    if (b) CB.b.textContent = `${layout.names[bones[k][0]].replace(/_/g, " ")}: \u00d7${b.mean.toFixed(2)} (${b.low.toFixed(2)} to ${b.high.toFixed(2)})`;
  };
  CB.canvas.onpointerleave = () => { if (curve) drawBones(); CB.b.textContent = `bone lengths${n > 1 ? ": " + (box.labels[focus] || "clip " + (focus + 1)) : ""}`; };
  function drawSpectrum() {
    const { ctx, w, h } = surface(CS.canvas), { before: a, after: b } = curve, high = within(Math.ceil(Math.log10(Math.max(...a, ...b, 1e-6)) + 0.1), -1, 2), low = high - 3, K = a.length - 1, top = K / (T - 1) * fps;
    const y = v => 5 + (h - 20) * within((high - Math.log10(Math.max(v, 1e-9))) / (high - low), 0, 1), x = k => 38 + (w - 42) * k / Math.max(K, 1);
    axes(ctx, w, h, [0, 1, 2, 3].map(k => [10 ** (high - k), String(+(10 ** (high - k)).toPrecision(1))]), y, [[0, "0"], [K / 2, (top / 2).toFixed(0)], [K, top.toFixed(0) + " Hz"]], x, 36);
    line(ctx, a, x, y, ORIGINAL, 3); line(ctx, b, x, y, AUGMENTED);
    ctx.textAlign = "right"; ctx.textBaseline = "bottom"; ctx.fillStyle = ORIGINAL; ctx.fillText("original", w - 4, h - 17); ctx.fillStyle = "#a04600"; ctx.fillText("augmented", w - 48, h - 17);
  }
  let scaleD = 10;
  function drawDistance() {
    const { ctx, w, h } = surface(CD.canvas), list = curve.distance.map(v => 100 * v), most = Math.max(...list);
    if (most > scaleD || most < 0.35 * scaleD) scaleD = Math.max(nice(most), 1);
    const y = v => 5 + (h - 20) * (1 - v / scaleD), x = t => 32 + (w - 36) * t / Math.max(T - 1, 1);
    axes(ctx, w, h, [[0, "0"], [scaleD / 2, String(scaleD / 2)], [scaleD, String(scaleD)]], y, [[0, "0"], [T - 1, (T / fps).toFixed(1) + " s"]], x);
    line(ctx, list, x, y, AUGMENTED);
    CD.play = { w, h, at: t => x(t), list, y };
  }
  const head = node("div", "", CD.e);
  Object.assign(head.style, { position: "absolute", width: "1px", height: "84px", left: 0, bottom: "15px", background: INKED, opacity: 0.55, pointerEvents: "none" });
  function follow() {                                        // the line that says where the player is
    raf = requestAnimationFrame(follow);
    const p = stage.firstElementChild && stage.firstElementChild.skelnb;
    if (p && CD.play) head.style.transform = `translateX(${CD.play.at(Math.min(p.time, T - 1)).toFixed(1)}px)`;
  }
  function drawStrip() {
    if (!SF) return;
    const { ctx, w, h } = surface(SF.canvas), left = 132, R = strip.rows.length, top = nice(Math.max(strip.top, ...(moves || [0])) * 1.02), x = v => left + 6 + (w - left - 14) * within(v / top, 0, 1), y = r => 9 + 15 * r;
    ctx.textBaseline = "bottom"; ctx.fillStyle = "#5c5c58"; ctx.strokeStyle = "#ececea"; ctx.beginPath();
    for (const v of [0, top / 2, top]) { ctx.textAlign = v === top ? "right" : v ? "center" : "left"; ctx.fillText(Number(v.toPrecision(2)), x(v), h); ctx.moveTo(x(v), 2); ctx.lineTo(x(v), h - 14); }
    ctx.stroke(); ctx.textBaseline = "middle";
    strip.rows.forEach((row, r) => {
      ctx.fillStyle = INKED; ctx.textAlign = "right"; ctx.fillText(row.name, left, y(r));
      ctx.fillStyle = row.kind === "pairs" ? "rgba(0,114,178,.32)" : "rgba(213,94,0,.32)";
      row.values.forEach((v, k) => { ctx.beginPath(); ctx.arc(x(v), y(r) + (mix(k * 7 + r) / 4294967296 - 0.5) * 9, 2, 0, 7); ctx.fill(); });
      ctx.fillStyle = INKED; ctx.fillRect(x(row.median) - 1, y(r) - 6, 2, 12);
    });
    ctx.fillStyle = INKED; ctx.textAlign = "right"; ctx.font = "600 11px system-ui,sans-serif"; ctx.fillText("these clips, now", left, y(R));
    if (!moves) { verdict.textContent = live ? "\u2026" : ""; return; }
    const mean = moves.reduce((a, b) => a + b, 0) / moves.length;
    ctx.strokeStyle = "rgba(29,29,27,.5)"; ctx.setLineDash([2, 3]); ctx.beginPath(); ctx.moveTo(x(mean), 2); ctx.lineTo(x(mean), y(R)); ctx.stroke(); ctx.setLineDash([]);
    moves.forEach(v => { ctx.fillStyle = AUGMENTED; ctx.beginPath(); ctx.arc(x(v), y(R), 4.5, 0, 7); ctx.fill(); ctx.strokeStyle = "#fff"; ctx.lineWidth = 1.2; ctx.stroke(); });
    const share = row => Math.round(100 * row.values.filter(v => v < mean).length / Math.max(row.values.length, 1));
    verdict.textContent = `Now ${mean.toPrecision(2)} on average: farther than ${strip.rows.filter(r => r.kind === "pairs").map(r => `${share(r)} % of the pairs \u201c${r.name}\u201d`).join(" and ")}.`;
  }

  // --- the outside ---
  root.addEventListener("keydown", e => { if (e.key !== "Tab") e.stopPropagation(); });
  const sizes = window.ResizeObserver ? new ResizeObserver(() => { measured.clear(); if (curve) draw(); }) : null;
  const heard = {
    "change:setting": () => { if (JSON.stringify(get("setting")) !== JSON.stringify(set)) { clearTimeout(telling); set = copy(get("setting")); changed(); } },
    "change:answer": hear,
  };
  for (const k in heard) model.on(k, heard[k]);
  root.augment = { stats, steps, originals, get setting() { return copy(set); }, set(change) { set = { ...copy(set), ...change }; changed(); }, get shown() { return shown.map(x => Array.from(x)); }, get curves() { return curve; },   // for tests
    get moves() { return moves; }, get waiting() { return !!flying || want.clips || want.moves; }, curvesOf: i => curves(originals[i], shown[i], d, bones, fps), get clips() { return inner.get("clips"); } };
  update();
  if (live && isOn("kernel")) { shown = originals; play(); draw(); want.clips = true; request(); } else { shown = chain(); show(performance.now()); }
  if (live && strip.rows && !moves) { want.moves = true; request(); }
  if (sizes) sizes.observe(root);
  follow();
  return () => {
    cancelAnimationFrame(raf); clearTimeout(later); clearTimeout(patience); clearTimeout(telling);
    for (const k in heard) model.off(k, heard[k]);
    if (sizes) sizes.disconnect();
    if (stopInner) stopInner();
    root.remove();
  };
}

export default { render };
