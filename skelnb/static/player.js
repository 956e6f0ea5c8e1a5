// The skeleton player: clips of moving joints on a canvas, projected by hand, no dependencies.
// One file, two uses: an anywidget module in a live notebook, and inlined in a static page (see skelnb/player.py).
// The explorers stand behind it and take `make`, `bytesOf`, `unfold` and `cut` from here.
// The model holds: clips {layout, items, data}, fps, frame, playing, speed, width, height, numbers.

const PAPER = [253, 253, 251], PITCH = 0.16, YAW = 0.4, SHADES = 12;
// Okabe-Ito blue and vermilion, told apart by every kind of colour vision; left limbs lighter, right limbs darker.
const INK = [
  { left: [86, 180, 233], trunk: [0, 114, 178], right: [0, 66, 112] },
  { left: [240, 160, 90], trunk: [213, 94, 0], right: [132, 52, 0] },
];
const css = (c, a = 1) => `rgba(${c.map(Math.round)},${a})`;
const mix = (a, b, k) => a.map((v, i) => v * (1 - k) + b[i] * k);
const clamp = (v, lo, hi) => Math.min(Math.max(v, lo), hi);

// Colour of a limb from far (pale) to near (full): a cue of depth, made once.
const PALETTE = INK.map(ink => ["left", "trunk", "right"].map(side =>
  Array.from({ length: SHADES }, (_, i) => css(mix(ink[side], PAPER, 0.5 * (1 - i / (SHADES - 1)))))));

const STYLE = `
.skelnb-player{font:13px/1.4 system-ui,sans-serif;margin:4px;max-width:calc(100% - 8px);box-sizing:border-box}
.skelnb-player *{box-sizing:border-box}
.skelnb-stage{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(170px,100%),1fr));gap:8px;border-radius:8px;outline:none;cursor:grab;touch-action:pan-y pinch-zoom;user-select:none;-webkit-user-select:none}
.skelnb-stage:active{cursor:grabbing}
.skelnb-stage:focus-visible,.skelnb-stage:focus{box-shadow:0 0 0 2px #fff,0 0 0 4px #0072b2}
.skelnb-panel{margin:0;position:relative;display:flex;flex-direction:column;justify-content:space-between;border:1px solid #d8d8d2;border-radius:8px;background:rgb(${PAPER});overflow:hidden}
.skelnb-panel canvas{display:block;width:100%}
.skelnb-panel figcaption{margin:0;padding:5px 10px 0;color:#222;font-weight:600;font-size:13px;min-height:24px;overflow-wrap:anywhere;font-style:normal;text-align:left}
.skelnb-bar{display:flex;align-items:center;gap:8px;padding:6px 2px 0;flex-wrap:wrap}
.skelnb-bar button{flex:none;width:30px;height:28px;padding:0;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#222;cursor:pointer;display:inline-flex;align-items:center;justify-content:center}
.skelnb-bar button:hover{background:#eef5fa}
.skelnb-bar button:disabled{opacity:.4;cursor:default}
.skelnb-bar button svg{width:14px;height:14px;fill:currentColor}
.skelnb-bar input[type=range]{flex:1 1 60px;min-width:60px;margin:0;accent-color:#0072b2}
.skelnb-bar select{flex:none;height:28px;border:1px solid #b8b8b0;border-radius:6px;background:#fff;color:#222;font:inherit}
.skelnb-bar :focus-visible{outline:2px solid #0072b2;outline-offset:2px}
.skelnb-count{flex:none;min-width:4em;text-align:right;font-variant-numeric:tabular-nums}
.skelnb-key{flex:none;display:inline-flex;align-items:center;gap:4px;opacity:.85}
.skelnb-key span:not(:last-child){margin-right:5px}
.skelnb-key i{display:inline-block;width:14px;height:5px;border-radius:3px}
.skelnb-hint{position:absolute;left:50%;bottom:8px;transform:translateX(-50%);padding:2px 10px;border-radius:10px;background:rgba(30,30,30,.78);color:#fff;font-size:12px;white-space:nowrap;pointer-events:none;opacity:0;transition:opacity .2s}
.skelnb-hint.on{opacity:1}`;
const ICON = {
  play: "M3 1.5v13l11-6.5z",
  pause: "M3 1.5h3.6v13H3zM9.4 1.5H13v13H9.4z",
  reset: "M8 2.2V0L4.2 3.2 8 6.4V4.1a4.2 4.2 0 1 1-4.2 4.2H1.9A6.1 6.1 0 1 0 8 2.2z",
};

// Elements are built one by one and text is set as text: nothing from outside is ever read as HTML.
function make(tag, cls, parent, text) {
  const e = document.createElement(tag);
  if (cls) e.className = cls;
  if (text !== undefined) e.textContent = text;
  if (parent) parent.append(e);
  return e;
}
function icon(button, path) {
  const ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg"), p = document.createElementNS(ns, "path");
  svg.setAttribute("viewBox", "0 0 16 16"); svg.setAttribute("aria-hidden", "true"); p.setAttribute("d", path);
  svg.append(p); button.replaceChildren(svg);
}

// Bytes from a kernel (DataView), or base64 from a page.
function bytesOf(v) {
  if (!v) return new Uint8Array(0);
  if (typeof v === "string") return Uint8Array.from(atob(v), c => c.charCodeAt(0));
  return v instanceof Uint8Array ? v : new Uint8Array(v.buffer || v, v.byteOffset || 0, v.byteLength);
}
// int16 blocks (frame, person, joint, xyz) -> metres about each clip's middle; x = -32768 marks an absent person.
function decode({ layout, items, data }) {
  const bytes = bytesOf(data), view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), V = layout.names.length;
  let at = 0;
  return items.map(item => {
    const { frames: T, persons: M, scale } = item, n = T * M * V * 3, x = new Float32Array(n), here = new Uint8Array(T * M);
    for (let i = 0; i < n; i++, at += 2) x[i] = view.getInt16(at, true);
    for (let p = 0; p < T * M; p++) here[p] = x[p * V * 3] > -32768 ? 1 : 0;
    for (let i = 0; i < n; i++) x[i] *= scale;
    return { ...item, x, here, P: new Float32Array(M * V * 4), G: new Float32Array(M * V * 3), shown: new Uint8Array(M) };
  });
}

// Clips kept in a page: a first pose in int16, then steps in int8, each in units of the clip's own `step`; one byte a person and frame says who is there.
function unfold({ rows, layout, items, steps, data }) {
  const b = bytesOf(data), view = new DataView(b.buffer, b.byteOffset, b.byteLength), V = layout.names.length, found = new Map();
  let at = 0;
  rows.forEach((row, i) => {
    const { frames: T, persons: M } = items[i], n = M * V * 3, q = new Int16Array(T * n), here = at;
    at += T * M;
    for (let k = 0; k < n; k++, at += 2) q[k] = view.getInt16(at, true);
    for (let k = n; k < T * n; k++, at++) q[k] = q[k - n] + steps[i] * view.getInt8(at);
    for (let p = 0; p < T * M; p++) if (!b[here + p]) q.fill(-32768, p * V * 3, (p + 1) * V * 3);
    found.set(row, { item: items[i], data: new Uint8Array(q.buffer) });
  });
  return found;
}
// Clips as the player's own packing, from a live kernel.
function cut({ rows, clips: { layout, items, data } }) {
  const b = bytesOf(data), found = new Map();
  let at = 0;
  rows.forEach((row, i) => { const n = items[i].frames * items[i].persons * layout.names.length * 6; found.set(row, { item: items[i], data: b.slice(at, at + n) }); at += n; });
  return found;
}

// A model for pages without a kernel: the same four calls that anywidget gives.
function staticModel(state) {
  const heard = {};
  const unpack = c => typeof c.data === "string" ? { ...c, data: Uint8Array.from(atob(c.data), b => b.charCodeAt(0)) } : c;
  state = { ...state, clips: unpack(state.clips) };
  return {
    get: k => state[k],
    set(k, v) { state[k] = k === "clips" ? unpack(v) : v; (heard["change:" + k] || []).slice().forEach(f => f()); },
    save_changes() {},
    on(k, f) { (heard[k] = heard[k] || []).push(f); },
    off(k, f) { heard[k] = (heard[k] || []).filter(g => g !== f); },
  };
}

// `over`, where given, draws on every body after its joints: over(ctx, {i, clip, P, thick, time, w, h}), P as in `camera`, 4 numbers a joint.
function render({ model, el, over }) {
  const get = k => model.get(k), still = !!(window.matchMedia && matchMedia("(prefers-reduced-motion: reduce)").matches);
  let layout, clips, panels = [], length = 1, fit = null, order = new Int32Array(0);
  let time = 0, playing = get("playing") && !still, speed = get("speed") || 1, numbers = get("numbers");
  let yaw = YAW, pitch = PITCH, zoom = 1, facing = 0, hover = null, visible = true, dirty = true, raf = 0, last = 0;
  const stats = { draws: 0, ms: 0, best: Infinity };

  // --- the page ---
  const root = make("div", "skelnb-player", el);
  root.dataset.lmSuppressShortcuts = "true";               // else JupyterLab takes the arrow keys
  root.setAttribute("role", "group");
  make("style", "", root, STYLE);
  const stage = make("div", "skelnb-stage", root), bar = make("div", "skelnb-bar", root);
  stage.tabIndex = 0;
  stage.setAttribute("role", "application");
  stage.setAttribute("aria-keyshortcuts", "Space ArrowLeft ArrowRight Home End R N Plus Minus");
  const button = make("button", "skelnb-play", bar), slider = make("input", "skelnb-frame", bar), count = make("output", "skelnb-count", bar);
  const pace = make("select", "skelnb-speed", bar), reset = make("button", "skelnb-reset", bar), key = make("span", "skelnb-key", bar);
  button.type = reset.type = "button";
  slider.type = "range"; slider.min = 0; slider.step = 1; slider.setAttribute("aria-label", "frame");
  pace.setAttribute("aria-label", "speed"); pace.title = "speed";
  for (const v of [...new Set([0.1, 0.25, 0.5, 1, 2, speed])].sort((a, b) => a - b)) make("option", "", pace, `${v}×`).value = v;
  icon(reset, ICON.reset); reset.title = "reset the view (double click, R)"; reset.setAttribute("aria-label", "reset the view");

  function build() {
    const packed = get("clips");
    layout = packed.layout; clips = decode(packed);
    length = Math.max(...clips.map(c => c.frames));
    facing = clips[0].facing ? Math.PI : 0;
    const half = k => Math.max(...clips.map(c => c[k]));
    // Clips are drawn to one scale, kept while new ones (a dragged slider) stay near it, so that a change of size is seen.
    const now = { wide: half("wide"), high: half("high"), floor: half("floor"), n: clips.length, each: packed.fit === "each" };
    const near = k => now[k] <= fit[k] * 1.15 && now[k] >= fit[k] * 0.6;
    if (!fit || fit.n !== now.n || fit.each !== now.each || !near("wide") || !near("high")) fit = now;
    order = new Int32Array(Math.max(...clips.map(c => c.persons)) * (layout.bones.length + layout.names.length));
    if (panels.length !== clips.length) {
      panels.forEach(p => sizes && sizes.unobserve(p.canvas));
      stage.replaceChildren();
      panels = clips.map(() => {
        const box = make("figure", "skelnb-panel", stage), caption = make("figcaption", "", box), canvas = make("canvas", "", box);
        const hint = make("div", "skelnb-hint", box, "click, then turn the wheel to zoom");
        canvas.style.aspectRatio = `${get("width")} / ${get("height")}`;
        canvas.setAttribute("role", "img");
        if (sizes) sizes.observe(canvas);
        return { box, caption, canvas, hint, ctx: canvas.getContext("2d"), w: 0, h: 0, dpr: 1 };
      });
    }
    root.style.width = Math.max(300, clips.length * (get("width") + 8) - 8) + "px";
    const anyLabel = clips.some(c => c.label);
    clips.forEach((c, i) => {
      const people = c.persons === 1 ? "one person" : `${c.persons} persons`;
      panels[i].caption.textContent = c.label || "";
      panels[i].caption.style.display = anyLabel ? "" : "none";
      panels[i].canvas.setAttribute("aria-label", `${c.label ? c.label + ": " : ""}moving ${layout.name} skeleton, ${people}, ${c.frames} frames`);
    });
    root.setAttribute("aria-label", `skeleton player, ${clips.length} clip${clips.length > 1 ? "s" : ""}`);
    stage.setAttribute("aria-label", "skeletons. Space plays, arrows step, shift and arrows turn, plus and minus zoom, R resets, N numbers the joints");
    key.replaceChildren();
    for (const side of ["left", "right"]) {
      for (let m = 0; m < Math.min(2, Math.max(...clips.map(c => c.persons))); m++) make("i", "", key).style.background = css(INK[m][side]);
      make("span", "", key, side);
    }
    button.disabled = slider.disabled = length < 2;
    slider.max = length - 1; time = clamp(time, 0, length - 1); hover = null;
    show();
  }

  // --- the picture ---
  function resize(p) {
    const dpr = window.devicePixelRatio || 1, w = p.canvas.clientWidth, h = p.canvas.clientHeight;
    if (!w || !h) return false;
    const W = Math.round(w * dpr), H = Math.round(h * dpr);
    if (p.canvas.width !== W || p.canvas.height !== H) { p.canvas.width = W; p.canvas.height = H; }
    p.w = w; p.h = h; p.dpr = dpr;
    return true;
  }

  // World (metres about the clip's middle, y up) -> pixels and depth. Written out by hand in the player notebook.
  function camera(p, c) {
    const wide = fit.each ? c.wide : fit.wide, high = fit.each ? c.high : fit.high, a = yaw + facing;
    const cy = Math.cos(a), sy = Math.sin(a), cp = Math.cos(pitch), sp = Math.sin(pitch);
    const far = 5 * Math.max(wide, high), s = zoom * 0.9 * Math.min(p.w / 2 / (wide * 1.12), p.h / 2 / (high * 1.02 + wide * 0.2));
    const lift = fit.each ? 0 : c.floor - fit.floor;        // all stand on one floor
    return (x, y0, z, out, o) => {
      const y = y0 + lift, X = cy * x + sy * z, Z = -sy * x + cy * z, Y = cp * y - sp * Z, D = sp * y + cp * Z, q = far / (far - Math.min(D, 0.8 * far));
      out[o] = p.w / 2 + s * q * X; out[o + 1] = p.h / 2 - s * q * Y; out[o + 2] = D / wide; out[o + 3] = q;
    };
  }

  // Joints of the clip at the present time, between two frames while it plays.
  function pose(c, view) {
    const V = layout.names.length, f = Math.min(time, c.frames - 1), f0 = Math.floor(f), f1 = Math.min(f0 + 1, c.frames - 1), block = c.persons * V * 3;
    for (let m = 0; m < c.persons; m++) {
      const on = c.here[f0 * c.persons + m], k = c.here[f1 * c.persons + m] ? f - f0 : 0;
      c.shown[m] = on;
      if (!on) continue;
      for (let v = 0; v < V; v++) {
        const i = f0 * block + (m * V + v) * 3, j = f1 * block + (m * V + v) * 3, b = m * V + v;
        const x = c.x[i] + k * (c.x[j] - c.x[i]), y = c.x[i + 1] + k * (c.x[j + 1] - c.x[i + 1]), z = c.x[i + 2] + k * (c.x[j + 2] - c.x[i + 2]);
        view(x, -c.floor, z, c.P, b * 4);
        c.G[b * 3] = c.P[b * 4]; c.G[b * 3 + 1] = c.P[b * 4 + 1];
        view(x, y, z, c.P, b * 4);
      }
    }
  }

  function ground(ctx, p, c, view) {
    const k = fit.each ? c : fit, reach = Math.max(k.wide, 0.5 * k.high), step = [0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25, 50, 100].find(s => reach / s < 3.2) || reach / 3;
    const n = Math.ceil(1.25 * reach / step), a = [0, 0, 0, 0], b = [0, 0, 0, 0], R = n * step;
    view(0, -c.floor, 0, a, 0); view(R, -c.floor, 0, b, 0);
    const g = ctx.createRadialGradient(a[0], a[1], 0, a[0], a[1], Math.max(60, p.w * 0.62 * zoom));
    g.addColorStop(0, "rgba(120,124,130,.50)"); g.addColorStop(0.55, "rgba(120,124,130,.26)"); g.addColorStop(1, "rgba(120,124,130,0)");
    ctx.strokeStyle = g; ctx.lineWidth = 1; ctx.beginPath();
    for (let i = -n; i <= n; i++) for (const flip of [0, 1]) {
      flip ? view(i * step, -c.floor, -R, a, 0) : view(-R, -c.floor, i * step, a, 0);
      flip ? view(i * step, -c.floor, R, b, 0) : view(R, -c.floor, i * step, b, 0);
      ctx.moveTo(a[0], a[1]); ctx.lineTo(b[0], b[1]);
    }
    ctx.stroke();
  }

  function draw(i) {
    const p = panels[i], c = clips[i], ctx = p.ctx, V = layout.names.length, bones = layout.bones, B = bones.length;
    if (!resize(p)) return;
    const view = camera(p, c), P = c.P, G = c.G;
    pose(c, view);
    ctx.setTransform(p.dpr, 0, 0, p.dpr, 0, 0);
    ctx.fillStyle = css(PAPER); ctx.fillRect(0, 0, p.w, p.h);
    ctx.lineCap = ctx.lineJoin = "round";
    if (pitch > -0.05) ground(ctx, p, c, view);
    const thick = clamp(0.017 * Math.min(p.w, p.h), 2.4, 6) * Math.sqrt(zoom);
    ctx.strokeStyle = "rgba(40,44,52,.13)"; ctx.lineWidth = thick * 1.2; ctx.beginPath();      // shadow on the ground
    let n = 0;
    for (let m = 0; m < c.persons; m++) if (c.shown[m]) {
      for (let b = 0; b < B; b++) {
        const u = 3 * (m * V + bones[b][0]), v = 3 * (m * V + bones[b][1]);
        ctx.moveTo(G[u], G[u + 1]); ctx.lineTo(G[v], G[v + 1]);
        order[n++] = m * (B + V) + b;
      }
      for (let v = 0; v < V; v++) order[n++] = m * (B + V) + B + v;
    }
    if (pitch > -0.05) ctx.stroke();
    // Far first. A joint comes after the bones that meet in it.
    const ids = order.subarray(0, n), d = new Float32Array((B + V) * c.persons).fill(-1e9);
    for (const id of ids) {
      const m = Math.floor(id / (B + V)), k = id % (B + V), first = m * (B + V) + B;
      if (k >= B) { d[id] = Math.max(d[id], P[4 * (m * V + k - B) + 2]); continue; }
      const [u, v] = bones[k];
      d[id] = (P[4 * (m * V + u) + 2] + P[4 * (m * V + v) + 2]) / 2;
      for (const j of [u, v]) d[first + j] = Math.max(d[first + j], d[id] + 1e-4);
    }
    ids.sort((a, b) => d[a] - d[b]);
    for (const id of ids) {
      const m = Math.floor(id / (B + V)), k = id % (B + V), shade = clamp(Math.round((0.5 + 0.5 * d[id]) * (SHADES - 1)), 0, SHADES - 1);
      const joint = k < B ? bones[k][0] : k - B, strut = k < B && k >= B - layout.struts;
      const color = PALETTE[m % 2][strut ? 1 : layout.side[joint] + 1][shade];
      if (k < B) {
        const u = 4 * (m * V + bones[k][0]), v = 4 * (m * V + bones[k][1]), w = thick * (P[u + 3] + P[v + 3]) / (strut ? 5 : 2);
        ctx.beginPath(); ctx.moveTo(P[u], P[u + 1]); ctx.lineTo(P[v], P[v + 1]);
        ctx.lineCap = "butt"; ctx.strokeStyle = css(PAPER, 0.85); ctx.lineWidth = w + 2.6; ctx.stroke();
        ctx.lineCap = "round"; ctx.strokeStyle = color; ctx.lineWidth = w; ctx.stroke();
      } else {
        const u = 4 * (m * V + joint), r = thick * P[u + 3] * (joint === layout.head ? 1.9 : 0.74);
        ctx.beginPath(); ctx.arc(P[u], P[u + 1], r, 0, 7); ctx.fillStyle = color; ctx.fill();
        if (joint !== layout.head) { ctx.beginPath(); ctx.arc(P[u], P[u + 1], r * 0.42, 0, 7); ctx.fillStyle = css(PAPER, 0.95); ctx.fill(); }
      }
    }
    if (over) over(ctx, { i, clip: c, P, thick, time, w: p.w, h: p.h });
    if (numbers) for (let m = 0; m < c.persons; m++) if (c.shown[m]) {         // numbers stand outwards, left or right of the body
      let middle = 0;
      for (let v = 0; v < V; v++) middle += P[4 * (m * V + v)] / V;
      for (let v = 0; v < V; v++) {
        const u = 4 * (m * V + v), out = P[u] < middle - thick ? -1 : 1;
        note(ctx, String(v), P[u] + out * 1.4 * thick, P[u + 1] - 0.6 * thick, 10.5, css(INK[m % 2].right), out < 0 ? "right" : "left");
      }
    }
    if (hover && hover.i === i && c.shown[hover.m]) name(ctx, p, c, view);
  }

  function note(ctx, text, x, y, size, color, align) {
    ctx.font = `600 ${size}px system-ui,sans-serif`; ctx.lineWidth = 3; ctx.strokeStyle = css(PAPER, 0.9);
    ctx.textAlign = align; ctx.textBaseline = "middle"; ctx.strokeText(text, x, y); ctx.fillStyle = color; ctx.fillText(text, x, y);
  }

  // The joint under the pointer: its path through the clip, a ring and its name.
  function name(ctx, p, c, view) {
    const V = layout.names.length, { m, v } = hover, q = [0, 0, 0, 0], u = 4 * (m * V + v);
    ctx.strokeStyle = css(INK[m % 2].trunk, 0.65); ctx.lineWidth = 1.4; ctx.setLineDash([1, 3]); ctx.beginPath();
    let pen = false;
    for (let t = 0; t < c.frames; t++) {
      if (!c.here[t * c.persons + m]) { pen = false; continue; }
      const k = ((t * c.persons + m) * V + v) * 3;
      view(c.x[k], c.x[k + 1], c.x[k + 2], q, 0);
      pen ? ctx.lineTo(q[0], q[1]) : ctx.moveTo(q[0], q[1]); pen = true;
    }
    ctx.stroke(); ctx.setLineDash([]);
    ctx.beginPath(); ctx.arc(c.P[u], c.P[u + 1], 8, 0, 7); ctx.lineWidth = 2; ctx.strokeStyle = "#222"; ctx.stroke();
    const text = `${v}  ${layout.names[v]}`;
    ctx.font = "600 12px system-ui,sans-serif";
    const w = ctx.measureText(text).width + 14, x = clamp(c.P[u] + 12, 4, Math.max(4, p.w - w - 4)), y = clamp(c.P[u + 1] - 30, 4, p.h - 26);
    ctx.fillStyle = "rgba(30,30,30,.85)"; ctx.beginPath(); ctx.rect(x, y, w, 22); ctx.fill();
    ctx.fillStyle = "#fff"; ctx.textAlign = "left"; ctx.textBaseline = "middle"; ctx.fillText(text, x + 7, y + 11.5);
  }

  // --- time ---
  function show() {
    const f = Math.floor(time), text = `${f + 1} / ${length}`;
    slider.value = f; slider.setAttribute("aria-valuetext", `frame ${f + 1} of ${length}`);
    if (count.textContent !== text) count.textContent = text;
    if (button.dataset.state !== String(playing)) {
      button.dataset.state = String(playing);
      icon(button, playing ? ICON.pause : ICON.play);
      button.setAttribute("aria-label", playing ? "pause" : "play"); button.title = playing ? "pause (space)" : "play (space)";
    }
    pace.value = String(speed);
    dirty = true; wake();
  }
  function wake() { if (!raf) { last = performance.now(); raf = requestAnimationFrame(tick); } }
  function tick(now) {
    raf = 0;
    const dt = Math.min(now - last, 250); last = now;
    if (playing && visible && length > 1) {
      const before = Math.floor(time);
      time += Math.max(dt, 0) / 1000 * get("fps") * speed;
      if (time > length - 1 + 0.999) time = 0;              // the last frame stands as long as the others
      if (Math.floor(time) !== before) { const w = raf; raf = 1; show(); raf = w; }
      dirty = true;
    }
    if (dirty && visible && root.isConnected) {
      const t0 = performance.now();
      panels.forEach((_, i) => draw(i));
      const ms = performance.now() - t0;
      stats.draws++; stats.ms += ms; stats.best = Math.min(stats.best, ms); dirty = false;
    }
    if (playing && visible && length > 1) raf = requestAnimationFrame(tick);
  }
  function push(k, v) { model.set(k, v); model.save_changes(); }
  function play(on) { if (on === playing) return; playing = on; if (!on) time = Math.floor(time); show(); push("playing", on); if (!on) push("frame", time); }
  function seek(f) { if (playing) play(false); time = clamp(Math.round(f), 0, length - 1); show(); push("frame", time); }
  function home() { yaw = YAW; pitch = PITCH; zoom = 1; dirty = true; wake(); }
  function turn(dx, dy) { yaw += dx; pitch = clamp(pitch + dy, -1.5, 1.5); dirty = true; wake(); }
  function magnify(k) { zoom = clamp(zoom * k, 0.25, 8); dirty = true; wake(); }

  // --- hands ---
  button.onclick = () => play(!playing);
  reset.onclick = home;
  slider.oninput = () => seek(+slider.value);
  pace.onchange = () => { speed = +pace.value; push("speed", speed); };
  let grip = null;
  stage.onpointerdown = e => { if (e.button) return; grip = [e.clientX, e.clientY]; stage.setPointerCapture(e.pointerId); };
  stage.onpointermove = e => {
    if (grip) { turn((e.clientX - grip[0]) * 0.01, e.pointerType === "touch" ? 0 : (e.clientY - grip[1]) * 0.01); grip = [e.clientX, e.clientY]; point(null); }
    else point(e);
  };
  stage.onpointerup = stage.onpointercancel = () => { grip = null; };
  stage.onpointerleave = () => point(null);
  stage.ondblclick = home;
  function point(e) {
    let best = null, near = 14 * 14;
    const i = e ? panels.findIndex(p => p.canvas === e.target) : -1;
    if (i >= 0) {
      const c = clips[i], box = panels[i].canvas.getBoundingClientRect(), V = layout.names.length;
      const k = panels[i].w / (box.width || 1), x = (e.clientX - box.left) * k, y = (e.clientY - box.top) * k;
      for (let m = 0; m < c.persons; m++) if (c.shown[m]) for (let v = 0; v < V; v++) {
        const u = 4 * (m * V + v), d = (c.P[u] - x) ** 2 + (c.P[u + 1] - y) ** 2;
        if (d < near) { near = d; best = { i, m, v }; }
      }
    }
    if (JSON.stringify(best) === JSON.stringify(hover)) return;
    hover = best; root.dataset.joint = best ? layout.names[best.v] : ""; dirty = true; wake();
  }
  // The wheel zooms only while the player has the focus (or with ctrl): a page that scrolls past is never trapped.
  let hintTimer = 0;
  const wheel = e => {
    if (e.ctrlKey || root.contains(document.activeElement) || (root.getRootNode().activeElement && root.contains(root.getRootNode().activeElement))) {
      e.preventDefault(); e.stopPropagation(); magnify(Math.exp(-clamp(e.deltaY, -120, 120) * 0.0016));
    } else {
      const p = panels.find(q => q.box.contains(e.target));
      if (p) { p.hint.classList.add("on"); clearTimeout(hintTimer); hintTimer = setTimeout(() => panels.forEach(q => q.hint.classList.remove("on")), 1200); }
    }
  };
  stage.addEventListener("wheel", wheel, { passive: false });
  const KEYS = {
    " ": () => play(!playing), Home: () => seek(0), End: () => seek(length - 1),
    ArrowLeft: e => e.shiftKey ? turn(-0.12, 0) : seek(Math.floor(time) - 1), ArrowRight: e => e.shiftKey ? turn(0.12, 0) : seek(Math.floor(time) + 1),
    ArrowUp: e => e.shiftKey ? turn(0, -0.1) : seek(Math.floor(time) + 10), ArrowDown: e => e.shiftKey ? turn(0, 0.1) : seek(Math.floor(time) - 10),
    "+": () => magnify(1.15), "=": () => magnify(1.15), "-": () => magnify(1 / 1.15), r: home, R: home, n: number, N: number,
    Escape: () => stage.blur(),
  };
  function number() { numbers = !numbers; dirty = true; wake(); push("numbers", numbers); }
  root.addEventListener("keydown", e => {
    const own = { INPUT: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End"], BUTTON: [" "], SELECT: ["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown", "Home", "End", " "] }[e.target.tagName] || [];
    if (e.altKey || e.metaKey || e.ctrlKey || !KEYS[e.key]) return;
    e.stopPropagation();
    if (!own.includes(e.key)) { e.preventDefault(); KEYS[e.key](e); }
  });

  // --- the outside ---
  const sizes = window.ResizeObserver ? new ResizeObserver(() => { dirty = true; wake(); }) : null;
  const sight = window.IntersectionObserver ? new IntersectionObserver(e => { visible = e[e.length - 1].isIntersecting; if (visible) { dirty = true; wake(); } }, { rootMargin: "80px" }) : null;
  if (sight) sight.observe(root);
  const heard = {
    "change:clips": build,
    "change:frame": () => { const f = get("frame"); if (f !== Math.floor(time)) { time = clamp(f, 0, length - 1); show(); } },
    "change:playing": () => { const on = get("playing"); if (on !== playing) { playing = on; if (!on) time = Math.floor(time); show(); } },
    "change:speed": () => { speed = get("speed"); if (![...pace.options].some(o => +o.value === speed)) make("option", "", pace, `${speed}×`).value = speed; show(); },
    "change:numbers": () => { numbers = get("numbers"); dirty = true; wake(); },
  };
  for (const k in heard) model.on(k, heard[k]);
  function stop() {
    cancelAnimationFrame(raf); clearTimeout(hintTimer);
    for (const k in heard) model.off(k, heard[k]);
    if (sizes) sizes.disconnect();
    if (sight) sight.disconnect();
    root.remove();
  }
  root.skelnb = { stats, get time() { return time; }, get playing() { return playing; }, get view() { return { yaw, pitch, zoom }; },   // for tests
    redraw() { dirty = true; wake(); }, joint: (i, m, v) => [...clips[i].P.slice(4 * (m * layout.names.length + v), 4 * (m * layout.names.length + v) + 2)], shown: i => [...clips[i].shown] };
  time = clamp(get("frame") || 0, 0, Math.max(...get("clips").items.map(c => c.frames)) - 1);
  build();
  if (playing !== get("playing")) push("playing", playing);
  return stop;
}

export default { render, staticModel, make, bytesOf, unfold, cut };
