// Bars of what features keep of each factor: which measure, in which order, and the numbers behind a bar.
const el = (tag, props = {}, ...children) => { const e = Object.assign(document.createElement(tag), props); e.append(...children); return e; };

function render({ state, el: root }) {
  const bar = el("div", { className: "skelnb-invariance-bar" });
  bar.style.cssText = "display:flex;flex-wrap:wrap;gap:.4rem;align-items:center;font:13px system-ui,sans-serif;margin:.2rem 0 .5rem";
  const stage = el("div"), told = el("div");
  told.setAttribute("role", "status");
  told.style.cssText = "font:13px system-ui,sans-serif;min-height:2.6em;margin-top:.3rem;max-width:1100px";
  const hint = "Point at a bar, or step through them with the Tab key: the numbers behind it.";
  const order = el("select");
  for (const [i, name] of ["as given", ...state.factors].entries()) order.append(el("option", { value: i - 1, textContent: i ? `least ${name} first` : name }));
  let measure = 0;

  function arrange() {
    const by = Number(order.value), rows = [...stage.querySelectorAll("g.row")];
    const value = (g) => (by < 0 ? Number(g.dataset.i) : state.measures[measure].values[g.dataset.i][by] ?? Infinity);
    const sorted = rows.slice().sort((a, b) => value(a) - value(b) || a.dataset.i - b.dataset.i);
    sorted.forEach((g, place) => { g.setAttribute("transform", `translate(0,${state.top + state.step * place})`); g.parentNode.append(g); });   // and in this order for the Tab key
  }
  function show(cell) {
    told.textContent = cell ? state.details[cell.dataset.row][cell.dataset.col] : hint;
    stage.querySelectorAll(".cell rect.frame").forEach((f) => f.setAttribute("stroke", cell && f.parentNode === cell ? "#222" : "none"));
  }
  function draw() {
    stage.innerHTML = state.measures[measure].svg;
    buttons.forEach((b, i) => { b.setAttribute("aria-pressed", i === measure); b.style.fontWeight = i === measure ? "700" : "400"; });
    for (const cell of stage.querySelectorAll(".cell")) for (const event of ["pointerenter", "focus", "click"]) cell.addEventListener(event, () => show(cell));
    arrange(); show(null);
  }
  const buttons = state.measures.map((m, i) => el("button", { type: "button", textContent: m.title, onclick: () => { measure = i; draw(); } }));
  order.onchange = arrange;
  bar.append(...buttons, el("label", {}, " order: ", order));
  root.replaceChildren(bar, stage, told);
  draw();
}

export default { render };
