// A layout drawn up by hand: click a joint, then its parent; name joints, tell left from right, save as JSON.
// `SkeletonPlayer` (the value of player.js) is put in front of this file by skelnb/data/layouts.py.
// The model holds: points (float32 frames, joints, x y z), frames, names, parents (-1: none yet), pairs [[left, right]], shoulders, up, title, frame, selected, suggested, suggested_pairs, known, live, asked, said.

const UPRIGHT = { y: "x y z", "-y": "x -y -z", z: "x z -y", "-z": "x -z y", x: "-y x z", "-x": "y -x z" };      // old axes that become x, y (up), z
const TINT = { left: "#2b8cc4", right: "#004270", middle: "#5f6b73", root: "#d55e00", loose: "#b8b8b0" };
const PARTS = ["names", "parents", "pairs", "shoulders", "up"];

const LAYOUT_STYLE = `
.skelnb-layout{font:13px/1.4 system-ui,sans-serif;color:#1d1d1b;background:#fff;border:1px solid #d8d8d2;border-radius:10px;padding:10px;margin:4px 0;max-width:1120px;box-sizing:border-box;display:grid;grid-template-columns:minmax(0,1.25fr) minmax(0,1fr);gap:8px 16px}
.skelnb-layout.narrow{grid-template-columns:minmax(0,1fr)}
.skelnb-layout *{box-sizing:border-box}
.skelnb-layout :focus-visible{outline:2px solid #0072b2;outline-offset:1px}
.skelnb-layout canvas{display:block;width:100%;height:470px;border:1px solid #d8d8d2;border-radius:8px;background:#fdfdfb;outline:none;cursor:crosshair;touch-action:none}
.skelnb-layout canvas:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-layout-row{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center;margin:0 0 6px}
.skelnb-layout label{display:inline-flex;gap:6px;align-items:center}
.skelnb-layout input[type=text],.skelnb-layout select,.skelnb-layout button{height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#1d1d1b;font:inherit;padding:0 8px;max-width:100%;min-width:0}
.skelnb-layout input[type=range]{accent-color:#0072b2;flex:1 1 80px;min-width:60px}
.skelnb-layout button{cursor:pointer}
.skelnb-layout button:hover:enabled{background:#eef5fa}
.skelnb-layout button:disabled{opacity:.4;cursor:default}
.skelnb-layout button[aria-pressed=true]{background:#e0edf6;box-shadow:inset 0 0 0 1.5px #0072b2}
.skelnb-layout button.main{background:#0072b2;border-color:#0072b2;color:#fff}
.skelnb-layout button.main:hover:enabled{background:#005b8e}
.skelnb-layout p{margin:0 0 6px!important;min-height:1.4em;overflow-wrap:anywhere}
.skelnb-layout p.refused{color:#b00020;font-weight:600}
.skelnb-layout-box{border:1px solid #d8d8d2;border-radius:8px;padding:8px 8px 2px;margin-bottom:6px}
.skelnb-layout-list{max-height:230px;overflow:auto;border:1px solid #d8d8d2;border-radius:8px;padding:3px;display:grid;grid-template-columns:repeat(auto-fill,minmax(185px,1fr));gap:1px 4px}
.skelnb-layout .skelnb-layout-list button{height:auto;border:0;border-radius:5px;text-align:left;padding:2px 5px;font-size:12px;overflow-wrap:anywhere;background:none}
.skelnb-layout .skelnb-layout-list button.loose{color:#8a4a00}
.skelnb-layout .skelnb-layout-list button[aria-pressed=true]{background:#e0edf6}`;

const { make: node, bytesOf } = SkeletonPlayer;

function render({ model, el }) {
  const get = k => model.get(k), V = get("names").length, F = get("frames"), raw = new Float32Array(bytesOf(get("points")).slice().buffer);
  const known = get("known"), stats = { draws: 0 };
  let past = [], future = [], yaw = 0.35, pitch = 0.12, zoom = 1, hover = -1, pairing = false, refused = "", places = [], raf = 0, drag = null;

  // --- what is drawn up, and its history ---
  const copy = v => JSON.parse(JSON.stringify(v)), now = () => Object.fromEntries(PARTS.map(k => [k, copy(get(k))]));
  function put(state) { for (const k of PARTS) if (JSON.stringify(get(k)) !== JSON.stringify(state[k])) model.set(k, state[k]); model.save_changes(); refresh(); }
  function change(part) { const before = now(), after = { ...before, ...part }; refused = ""; if (JSON.stringify(before) === JSON.stringify(after)) return refresh(); past.push(before); future = []; put(after); }
  function undo() { if (past.length) { future.push(now()); refused = ""; put(past.pop()); } }
  function redo() { if (future.length) { past.push(now()); refused = ""; put(future.pop()); } }
  function refuse(text) { refused = text; refresh(); }
  function select(j) { model.set("selected", j); model.save_changes(); refresh(); }
  const name = j => get("names")[j], selected = () => get("selected");
  const partner = j => { const p = get("pairs").find(p => p.includes(j)); return p ? p[0] === j ? p[1] : p[0] : -1; };
  const side = j => { const p = get("pairs").find(p => p.includes(j)); return !p ? "middle" : p[0] === j ? "left" : "right"; };
  const roots = () => get("parents").flatMap((p, j) => p === j ? [j] : []);
  function leads(j, to) { const up = get("parents"); for (let k = j, n = 0; n <= V; n++) { if (k === to) return true; if (up[k] < 0 || up[k] === k) return false; k = up[k]; } return false; }

  function hang(child, parent) {
    if (leads(parent, child)) return refuse(`${name(parent)} already hangs from ${name(child)}: bones can not run in a circle. Choose ${name(parent)} and free it first, or click the other way round.`);
    const parents = copy(get("parents")); parents[child] = parent; change({ parents });
    select(parents[parent] < 0 ? parent : -1);                                // go on inwards until the body is reached
  }
  function makeRoot(j) {                                                      // the same bones, hung from here
    const parents = copy(get("parents"));
    let above = j, k = j, n = 0;
    while (n++ <= V) { const up = parents[k]; parents[k] = above; if (up < 0 || up === k) break; above = k; k = up; }
    change({ parents: parents.map((p, i) => p === i && i !== j ? -1 : p) });
  }
  function free(j) { const parents = copy(get("parents")); parents[j] = -1; change({ parents }); }
  function pair(l, r) {
    if (l === r) return refuse("A joint is not its own mirror image.");
    change({ pairs: [...get("pairs").filter(p => !p.includes(l) && !p.includes(r)), [l, r]] });
  }
  function unpair(j) { change({ pairs: get("pairs").filter(p => !p.includes(j)), shoulders: get("shoulders").includes(j) ? [] : get("shoulders") }); }
  function rename(j, text) {
    text = text.trim();
    if (!text) return refuse("A joint needs a name.");
    if (get("names").some((n, i) => n === text && i !== j)) return refuse(`Another joint is called ${text} already.`);
    const names = copy(get("names")); names[j] = text; change({ names });
  }
  function mirror() {                                                         // bones of one side, on the other as well
    const parents = copy(get("parents")), other = j => { const q = partner(j); return q < 0 ? j : q; };
    let n = 0;
    for (const [l, r] of get("pairs")) for (const [a, b] of [[l, r], [r, l]]) if (parents[a] >= 0 && parents[a] !== a && parents[b] < 0) { parents[b] = other(parents[a]); n++; }
    n ? change({ parents }) : refuse(get("pairs").length ? "Nothing to copy: no joint of one side has a bone that its partner lacks." : "Tell the pairs first: choose a left joint, press Pair, click the right one.");
  }
  function lacks() {
    const found = [], loose = get("parents").filter(p => p < 0).length, r = roots();
    if (!r.length) found.push("no root yet: choose the joint that all others hang from and press Root");
    if (loose) found.push(`${loose} joint${loose > 1 ? "s" : ""} without a parent`);
    if (get("shoulders").length !== 2) found.push("which pair are the shoulders?");
    return found;
  }
  function json() {
    return JSON.stringify({ name: get("title"), joints: get("names"), parents: get("parents"), pairs: get("pairs"), root: roots()[0], shoulders: get("shoulders"), up: get("up") }, null, 1) + "\n";
  }
  function save() {
    const missing = lacks();
    if (missing.length) return refuse(`Not saved: ${missing.join("; ")}.`);
    if (get("live")) { model.set("asked", get("asked") + 1); model.save_changes(); return; }
    const a = node("a", "", root); a.href = URL.createObjectURL(new Blob([json()], { type: "application/json" })); a.download = `${get("title").replace(/[^\w-]+/g, "-") || "layout"}.json`; a.click(); a.remove();
    said.textContent = `Saved as ${a.download} where your browser keeps downloads.`;
  }

  // --- the page ---
  const root = node("div", "skelnb-layout", el);
  root.dataset.lmSuppressShortcuts = "true"; root.setAttribute("role", "group"); root.setAttribute("aria-label", "drawing up a layout");
  node("style", "", root, LAYOUT_STYLE);
  const left = node("div", "", root), rightSide = node("div", "", root), canvas = node("canvas", "", left), ctx = canvas.getContext("2d");
  canvas.tabIndex = 0; canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-label", "joints. Click one, then its parent. Drag to turn. N and P: next and previous joint without a parent, R: root, M: pair, Delete: free, Control Z: undo");
  const row = to => node("div", "skelnb-layout-row", to);
  const button = (to, text, act, cls = "") => { const b = node("button", cls, to, text); b.type = "button"; b.onclick = act; return b; };
  const under = row(left); under.style.marginTop = "6px";
  const slider = node("input", "skelnb-layout-frame", node("label", "", under, "moment")); slider.type = "range"; slider.min = 0; slider.max = F - 1;
  slider.oninput = () => { model.set("frame", +slider.value); model.save_changes(); refresh(); };
  if (F < 2) slider.parentNode.hidden = true;
  const every = node("input", "skelnb-layout-all", node("label", "", under)); every.type = "checkbox"; every.checked = V <= 24; every.after("names"); every.onchange = redraw;
  button(under, "+", () => { zoom = Math.min(zoom * 1.3, 8); redraw(); }).setAttribute("aria-label", "larger"); button(under, "\u2212", () => { zoom = Math.max(zoom / 1.3, 0.5); redraw(); }).setAttribute("aria-label", "smaller");
  const upward = node("select", "skelnb-layout-up", node("label", "", under, "up is"));
  for (const u of Object.keys(UPRIGHT)) node("option", "", upward, u).value = u;
  upward.onchange = () => change({ up: upward.value });
  const hint = node("p", "skelnb-layout-hint", rightSide); hint.setAttribute("role", "status");
  const tools = row(rightSide);
  const undoB = button(tools, "Undo", undo, "skelnb-layout-undo"), redoB = button(tools, "Redo", redo, "skelnb-layout-redo");
  const suggestB = button(tools, "Suggest bones", () => change({ parents: copy(get("suggested")) }), "skelnb-layout-suggest"); suggestB.title = "the tree of joints whose distances vary least in this clip";
  const pairsB = button(tools, "Suggest pairs", () => change({ pairs: copy(get("suggested_pairs")) }), "skelnb-layout-pairs");
  const mirrorB = button(tools, "Mirror bones", mirror, "skelnb-layout-mirror"); mirrorB.title = "give the other side the bones that one side has";
  const swapB = button(tools, "Swap sides", () => change({ pairs: get("pairs").map(([l, r]) => [r, l]), shoulders: get("shoulders").slice().reverse() }), "skelnb-layout-swap"); swapB.title = "left becomes right, for all pairs";
  const box = node("div", "skelnb-layout-box", rightSide), title = row(box), who = node("b", "", title), editor = row(box);
  const naming = node("input", "skelnb-layout-name", node("label", "", title, "name")); naming.type = "text"; naming.size = 18; naming.maxLength = 60;
  const list = node("datalist", "", box); list.id = `skelnb-known-${Math.random().toString(36).slice(2)}`; naming.setAttribute("list", list.id); known.forEach(k => { node("option", "", list).value = k; });
  naming.onchange = () => rename(selected(), naming.value);
  naming.onkeydown = e => { if (e.key === "Enter") { naming.blur(); canvas.focus(); } };
  const parentPick = node("select", "skelnb-layout-parent", node("label", "", editor, "parent"));
  parentPick.onchange = () => { const j = selected(), p = +parentPick.value; p < 0 ? free(j) : p === j ? makeRoot(j) : leads(p, j) ? refuse(`${name(p)} already hangs from ${name(j)}: bones can not run in a circle.`) : change({ parents: get("parents").map((q, i) => i === j ? p : q) }); };
  const rootB = button(editor, "Root", () => makeRoot(selected()), "skelnb-layout-root"), freeB = button(editor, "Free", () => free(selected()), "skelnb-layout-free");
  const pairB = button(editor, "Pair", () => { pairing = !pairing; refresh(); }, "skelnb-layout-pair"), unpairB = button(editor, "Unpair", () => unpair(selected()), "skelnb-layout-unpair");
  const rows = node("div", "skelnb-layout-list", rightSide), items = [];
  for (let j = 0; j < V; j++) items.push(button(rows, "", () => click(j)));
  const end = row(rightSide); end.style.marginTop = "6px";
  const shoulderPick = node("select", "skelnb-layout-shoulders", node("label", "", end, "shoulders"));
  shoulderPick.onchange = () => change({ shoulders: shoulderPick.value ? shoulderPick.value.split(",").map(Number) : [] });
  const titled = node("input", "skelnb-layout-title", node("label", "", end, "layout")); titled.type = "text"; titled.size = 12; titled.maxLength = 60;
  titled.onchange = () => { model.set("title", titled.value.trim() || "my-layout"); model.save_changes(); refresh(); };
  button(end, "Save JSON", save, "main skelnb-layout-save");
  const said = node("p", "skelnb-layout-said", rightSide); said.setAttribute("role", "status");

  function click(j) {
    const s = selected();
    if (pairing && s >= 0) { pairing = false; pair(s, j); return select(-1); }
    if (j < 0 || s === j) return select(-1);
    s < 0 ? select(j) : hang(s, j);
  }
  function nextLoose(step) {
    const p = get("parents"), from = selected();
    for (let n = 1; n <= V; n++) { const j = (((from < 0 && step < 0 ? 0 : from) + step * n) % V + V) % V; if (p[j] < 0) return select(j); }
  }
  function refresh() {
    const s = selected(), parents = get("parents"), loose = parents.filter(p => p < 0).length, missing = lacks();
    hint.className = `skelnb-layout-hint${refused ? " refused" : ""}`;
    hint.textContent = refused || (pairing ? `${name(s)} is the left one: click its mirror image.` : s >= 0 ? `${name(s)}: now click its parent, the next joint towards the middle of the body.`
      : missing.length ? `Click a joint, then its parent. ${missing[0][0].toUpperCase()}${missing[0].slice(1)}.` : "Complete. Save it, or go on correcting.");
    undoB.disabled = !past.length; redoB.disabled = !future.length; suggestB.hidden = get("suggested").length !== V; pairsB.hidden = !get("suggested_pairs").length; swapB.disabled = !get("pairs").length;
    who.textContent = s < 0 ? `${V - loose} of ${V} joints placed, ${get("pairs").length} pairs` : `joint ${s}`;
    naming.parentNode.hidden = s < 0; editor.hidden = s < 0; editor.style.display = s < 0 ? "none" : ""; naming.parentNode.style.display = s < 0 ? "none" : "";
    if (s >= 0) {
      if (document.activeElement !== naming) naming.value = name(s);
      parentPick.replaceChildren(); node("option", "", parentPick, "none yet").value = -1;
      for (let j = 0; j < V; j++) node("option", "", parentPick, j === s ? "itself: the root" : name(j)).value = j;
      parentPick.value = parents[s]; freeB.disabled = parents[s] < 0; rootB.disabled = parents[s] === s; unpairB.disabled = partner(s) < 0;
      pairB.setAttribute("aria-pressed", pairing); pairB.textContent = partner(s) < 0 ? "Pair" : "Pair anew";
    }
    for (let j = 0; j < V; j++) {
      const p = parents[j], b = items[j], q = side(j);
      b.textContent = `${j} ${name(j)} ${p < 0 ? "\u2013" : p === j ? "is the root" : `\u2192 ${name(p)}`}${q === "middle" ? "" : q === "left" ? "  (L)" : "  (R)"}`;
      b.className = p < 0 ? "loose" : ""; b.setAttribute("aria-pressed", j === s);
    }
    shoulderPick.replaceChildren(); node("option", "", shoulderPick, "which pair?").value = "";
    for (const p of get("pairs")) node("option", "", shoulderPick, `${name(p[0])}, ${name(p[1])}`).value = p.join();
    const sh = get("shoulders"); if (sh.length && !get("pairs").some(p => p.join() === sh.join())) node("option", "", shoulderPick, `${name(sh[0])}, ${name(sh[1])}`).value = sh.join();
    shoulderPick.value = sh.join(); upward.value = get("up"); slider.value = get("frame"); if (document.activeElement !== titled) titled.value = get("title");
    if (get("said")) said.textContent = get("said");
    redraw();
  }

  // --- the drawing ---
  function upright(f) {                                                      // (V,3) with y up, about its middle, at most 1 large
    const axes = UPRIGHT[get("up")].split(" ").map(a => [a[0] === "-" ? -1 : 1, "xyz".indexOf(a[a.length - 1])]), out = [];
    for (let j = 0; j < V; j++) out.push(axes.map(([sign, c]) => sign * raw[(f * V + j) * 3 + c]));
    const fine = out.filter(p => p.every(Number.isFinite)), low = [0, 1, 2].map(c => Math.min(...fine.map(p => p[c]))), top = [0, 1, 2].map(c => Math.max(...fine.map(p => p[c])));
    const size = Math.max(...top.map((t, c) => t - low[c]), 1e-9) / 2;
    return out.map(p => p.map((v, c) => (v - (low[c] + top[c]) / 2) / size));
  }
  function redraw() { if (!raf) raf = requestAnimationFrame(draw); }
  function draw() {
    raf = 0;
    const w = canvas.clientWidth, h = canvas.clientHeight, dpr = window.devicePixelRatio || 1;
    root.classList.toggle("narrow", root.clientWidth < 760);
    if (!w || !h) return;
    if (canvas.width !== Math.round(w * dpr) || canvas.height !== Math.round(h * dpr)) { canvas.width = Math.round(w * dpr); canvas.height = Math.round(h * dpr); }
    ctx.setTransform(dpr, 0, 0, dpr, 0, 0); ctx.clearRect(0, 0, w, h);
    const c = Math.cos(yaw), s = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch), unit = zoom * 0.44 * Math.min(w, h);
    places = upright(Math.min(get("frame"), F - 1)).map(([x, y, z]) => { const a = c * x + s * z, b = c * z - s * x, near = 5 / (5 - sp * y - cp * b); return Number.isFinite(a) ? [w / 2 + unit * near * a, h / 2 - unit * near * (cp * y - sp * b), sp * y + cp * b] : null; });
    const parents = get("parents"), on = selected(), order = [...places.keys()].filter(j => places[j]).sort((a, b) => places[a][2] - places[b][2]);
    ctx.lineCap = "round";
    for (const j of order) {
      const p = parents[j];
      if (p < 0 || p === j || !places[p]) continue;
      ctx.strokeStyle = "#fff"; ctx.lineWidth = 8; line(places[j], places[p]); ctx.strokeStyle = TINT[side(j)]; ctx.lineWidth = 4.5; line(places[j], places[p]);
    }
    if (on >= 0 && hover >= 0 && hover !== on && places[on] && places[hover]) { ctx.setLineDash([4, 5]); ctx.strokeStyle = pairing ? "#9a4f96" : "#d55e00"; ctx.lineWidth = 2; line(places[on], places[hover]); ctx.setLineDash([]); }
    for (const j of order) {
      const [x, y] = places[j], p = parents[j];
      ctx.beginPath(); ctx.arc(x, y, j === on ? 8 : 5.5, 0, 7); ctx.fillStyle = p < 0 ? "#fff" : p === j ? TINT.root : TINT[side(j)]; ctx.fill();
      ctx.lineWidth = j === on || j === hover ? 3 : p < 0 ? 2 : 1.2; ctx.strokeStyle = j === on ? "#d55e00" : j === hover ? "#1d1d1b" : p < 0 ? "#8a8a84" : "#fff"; ctx.stroke();
    }
    ctx.font = "11px system-ui,sans-serif"; ctx.textBaseline = "middle"; ctx.lineJoin = "round";
    const taken = [];
    for (const j of [on, hover, ...order.slice().reverse()]) {
      if (j < 0 || !places[j] || taken.some(t => t.j === j) || !(every.checked || j === on || j === hover)) continue;
      const text = name(j), width = ctx.measureText(text).width, right = places[j][0] >= w / 2, x = right ? places[j][0] + 10 : places[j][0] - 10 - width, y = places[j][1];
      if (j !== on && j !== hover && taken.some(t => Math.abs(t.y - y) < 12 && x < t.x + t.width + 4 && t.x < x + width + 4)) continue;
      taken.push({ j, x, y, width });
      ctx.strokeStyle = "rgba(253,253,251,.9)"; ctx.lineWidth = 3; ctx.strokeText(text, x, y); ctx.fillStyle = j === on ? "#b34700" : "#1d1d1b"; ctx.fillText(text, x, y);
    }
    stats.draws++;
  }
  function line(a, b) { ctx.beginPath(); ctx.moveTo(a[0], a[1]); ctx.lineTo(b[0], b[1]); ctx.stroke(); }
  function near(e) {
    const r = canvas.getBoundingClientRect(), x = e.clientX - r.left, y = e.clientY - r.top;
    let best = -1, least = 14;
    places.forEach((p, j) => { if (p) { const d = Math.hypot(p[0] - x, p[1] - y) - 0.5 * p[2]; if (d < least) { least = d; best = j; } } });
    return best;
  }
  canvas.onpointerdown = e => { drag = { x: e.clientX, y: e.clientY, moved: false }; canvas.setPointerCapture(e.pointerId); };
  canvas.onpointermove = e => {
    if (!drag) { const j = near(e); if (j !== hover) { hover = j; redraw(); } return; }
    const dx = e.clientX - drag.x, dy = e.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    drag = { x: e.clientX, y: e.clientY, moved: true }; yaw += dx * 0.01; pitch = Math.min(1.5, Math.max(-1.5, pitch + dy * 0.01)); redraw();
  };
  canvas.onpointerup = e => { const d = drag; drag = null; if (d && !d.moved) click(near(e)); };
  canvas.onpointercancel = () => { drag = null; };
  canvas.onpointerleave = () => { hover = -1; redraw(); };
  canvas.addEventListener("wheel", e => { if (!e.ctrlKey && !e.metaKey && document.activeElement !== canvas) return; e.preventDefault(); zoom = Math.min(8, Math.max(0.5, zoom * Math.exp(-e.deltaY * 0.002))); redraw(); }, { passive: false });
  root.addEventListener("keydown", e => {
    if ((e.ctrlKey || e.metaKey) && e.target.type !== "text") {
      const k = e.key.toLowerCase();
      if (k === "z" || k === "y") { e.preventDefault(); e.stopPropagation(); k === "y" || e.shiftKey ? redo() : undo(); }
      return;
    }
    if (e.target !== canvas) return;
    const s = selected(), keys = { ArrowLeft: () => { yaw -= 0.15; redraw(); }, ArrowRight: () => { yaw += 0.15; redraw(); }, ArrowUp: () => { pitch -= 0.1; redraw(); }, ArrowDown: () => { pitch += 0.1; redraw(); },
      n: () => nextLoose(1), p: () => nextLoose(-1), Escape: () => { pairing = false; refused = ""; select(-1); }, r: () => s >= 0 && makeRoot(s), m: () => { if (s >= 0) { pairing = !pairing; refresh(); } }, Delete: () => s >= 0 && free(s), Backspace: () => s >= 0 && free(s) };
    const act = keys[e.key] || keys[e.key.toLowerCase()];
    if (act) { e.preventDefault(); e.stopPropagation(); act(); }
  });
  const heard = [...PARTS, "selected", "frame", "title", "said"];
  heard.forEach(k => model.on(`change:${k}`, refresh));
  const watch = new ResizeObserver(redraw); watch.observe(root);
  root.layout = { stats, place: j => places[j] && places[j].slice(0, 2), state: () => ({ ...now(), selected: selected(), title: get("title") }), json, lacks };
  const [l, r] = get("shoulders"), body = upright(get("frame"));
  if (r !== undefined && body[l][0] < body[r][0]) yaw += Math.PI;             // seen from the front: the body's left is on the right
  refresh();
  return () => { watch.disconnect(); heard.forEach(k => model.off(`change:${k}`, refresh)); cancelAnimationFrame(raf); };
}

export default { render };
