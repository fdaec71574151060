// The regression page: points that are clicked, dragged and deleted, and the network's picture of them.

import { make, makeChart } from "./chart.js";
import { byId, clearError, connect, say, showError, slider, short } from "./page.js";
import { examplePoints } from "./points.js";

const X = [-5, 5], Y = [-3, 3], MOST = 200;
const state = { points: examplePoints(), selected: -1, cursor: [0, 0], keyed: false, picture: null, born: new Map() };
const dirty = new Set();

const plot = byId("plot");
const chart = makeChart(plot, { x: X, y: Y, xLabel: "x", yLabel: "y", drawn: () => { drawPicture(); drawPoints(); } });
const layers = Object.fromEntries(["aleatoric", "epistemic"].map((name) => [name, make("path", { class: `band ${name}` }, chart.plot)]));
layers.lines = make("g", { class: "draws" }, chart.plot);
layers.mean = make("path", { class: "mean" }, chart.plot);
const cross = make("path", { class: "cursor" }, chart.plot);
const dots = make("g", { class: "points" }, chart.above);

const parts = makeChart(byId("parts"), { x: X, y: [0, 1], xLabel: "x", yLabel: "sd", drawn: drawParts });
const partLines = Object.fromEntries(["aleatoric", "epistemic"].map((name) => [name, make("path", { class: `part ${name}` }, parts.plot)]));

const controls = {
  dropout: slider("dropout", (value) => value.toFixed(2), change),
  width: slider("width", (value) => `${value} units`, change),
  length: slider("length", (value) => short(10 ** value), change),
  draws: slider("draws", (value) => String(value), change),
};
for (const id of ["method", "nonlinearity"]) byId(id).addEventListener("change", change);

function settings() {
  return {
    method: byId("method").value, dropout: controls.dropout.value, nonlinearity: byId("nonlinearity").value,
    width: controls.width.value, length_scale: Number((10 ** controls.length.value).toFixed(3)), draws: controls.draws.value,
  };
}

const NOTES = {
  mc_dropout: "Each draw is the network with a different set of units dropped. The same draws are kept while it trains, so each line moves smoothly.",
  ensemble: "Five networks from different first weights, all trained on your points, without dropout.",
  gaussian_process: "No network and no training: the posterior in closed form, its one noise by the marginal likelihood. Draws are functions of the posterior.",
};

function change() {
  const method = byId("method").value;
  byId("note").textContent = NOTES[method];
  const off = { dropout: method !== "mc_dropout", nonlinearity: method === "gaussian_process", width: method === "gaussian_process", draws: method === "ensemble" };
  for (const [id, disabled] of Object.entries(off)) byId(id).disabled = disabled;
  touch("settings");
}

// Changes of one frame go out together.
function touch(what) {
  if (!dirty.size) requestAnimationFrame(() => {
    send({ ...(dirty.has("settings") && { settings: settings() }), ...(dirty.has("points") && { points: state.points }) });
    dirty.clear();
  });
  dirty.add(what);
}

function changePoints() {
  byId("count").textContent = String(state.points.length);
  byId("delete").disabled = state.selected < 0;
  drawPoints();
  touch("points");
}

const send = connect("/live/regression", () => ({ settings: settings(), points: state.points }), (message) => {
  if (message.error) {
    showError(message.error);
    return requestAnimationFrame(() => send({ seen: true }));
  }
  requestAnimationFrame(() => {
    state.picture = message;
    drawPicture();
    send({ seen: true });
  });
  clearError(8000);
});

function drawPicture() {
  const picture = state.picture;
  if (!picture || !chart.width) return;
  const { x, mean, epistemic, aleatoric, lines } = picture;
  const shown = (name) => byId(`show-${name}`).checked;
  const total = epistemic.map((value, k) => Math.hypot(value, aleatoric[k]));
  const around = (spread, sign) => mean.map((value, k) => value + sign * 2 * spread[k]);
  const outer = chart.band(x, around(total, -1), around(total, 1)), inner = chart.band(x, around(epistemic, -1), around(epistemic, 1));
  const ring = shown("epistemic") ? outer + inner : outer; // with the inner band left out, so that colors do not mix
  layers.aleatoric.setAttribute("d", shown("aleatoric") ? ring : "");
  layers.epistemic.setAttribute("d", shown("epistemic") ? inner : "");
  layers.mean.setAttribute("d", shown("mean") ? chart.line(x, mean) : "");
  while (layers.lines.childElementCount < lines.length) make("path", {}, layers.lines);
  [...layers.lines.children].forEach((path, k) => path.setAttribute("d", shown("lines") && k < lines.length ? chart.line(x, lines[k]) : ""));
  byId("step").textContent = picture.step.toLocaleString("en-US");
  byId("loss").textContent = picture.loss === null ? "–" : picture.loss.toFixed(3);
  byId("speed").textContent = `${(1000 * picture.seconds).toFixed(0)} ms for ${picture.draws} draw${picture.draws === 1 ? "" : "s"}`;
  const learns = byId("method").value !== "gaussian_process";
  byId("state").textContent = !state.points.length ? "no points: the prior" : picture.resting ? (learns ? "idle" : "exact") : "training";
  read();
  drawParts();
}

function drawParts() {
  const picture = state.picture;
  if (!picture || !parts.width) return;
  const highest = Math.max(0.3, ...picture.epistemic, ...picture.aleatoric);
  const top = [0.3, 0.5, 1, 2, 4, 8, 16, 1e9].find((each) => each >= Math.min(highest, 16));
  if (parts.y[1] !== top) {
    parts.y = [0, top];
    parts.redraw();
    return;
  }
  for (const [name, path] of Object.entries(partLines)) path.setAttribute("d", parts.line(picture.x, picture[name]));
}

function drawPoints() {
  if (!chart.width) return;
  while (dots.childElementCount > state.points.length) dots.lastChild.remove();
  while (dots.childElementCount < state.points.length) make("circle", { r: 5.5 }, dots);
  state.points.forEach(([x, y], k) => {
    const dot = dots.children[k];
    dot.setAttribute("cx", chart.sx(x));
    dot.setAttribute("cy", chart.sy(y));
    dot.classList.toggle("selected", k === state.selected);
  });
  const [x, y] = state.cursor;
  const lines = `M${chart.sx(x)} ${chart.sy(Y[0])}V${chart.sy(Y[1])}M${chart.sx(X[0])} ${chart.sy(y)}H${chart.sx(X[1])}`;
  cross.setAttribute("d", state.keyed ? lines : "");
  read();
}

// The picture's numbers at the cursor, or under the mouse.
function read() {
  const picture = state.picture;
  if (!picture || state.reading === undefined) return;
  const k = Math.round(((state.reading - X[0]) / (X[1] - X[0])) * (picture.x.length - 1));
  byId("here").textContent = `At x = ${picture.x[k].toFixed(2)}: mean ${picture.mean[k].toFixed(2)}, sd epistemic ${picture.epistemic[k].toFixed(2)}, sd aleatoric ${picture.aleatoric[k].toFixed(2)}`;
}

const keep = (value, [low, high]) => Math.min(high, Math.max(low, Number(value.toFixed(3))));
const inside = ([x, y]) => [keep(x, X), keep(y, Y)];
const name = (k) => `Point ${k + 1} of ${state.points.length} at x ${state.points[k][0].toFixed(2)}, y ${state.points[k][1].toFixed(2)}`;

function add(at) {
  if (state.points.length >= MOST) return showError(`There may be ${MOST} points: delete some.`);
  const point = inside(at);
  state.points.push(point);
  state.selected = state.points.length - 1;
  state.born.set(point, performance.now());
  say(`Added. ${name(state.selected)}.`);
  changePoints();
}

function move(k, at) {
  [state.points[k][0], state.points[k][1]] = inside(at);
  changePoints();
}

function remove(k) {
  if (k < 0 || k >= state.points.length) return;
  state.points.splice(k, 1);
  state.selected = -1;
  say(`Deleted. ${state.points.length} points are left.`);
  changePoints();
}

// -- mouse and touch ---------------------------------------------------------------------------------------------------

let dragged = -1;

function nearest(event) {
  const box = chart.svg.getBoundingClientRect();
  const reach = event.pointerType === "touch" ? 22 : 11;
  let best = -1, distance = reach;
  state.points.forEach(([x, y], k) => {
    const far = Math.hypot(chart.sx(x) - (event.clientX - box.left), chart.sy(y) - (event.clientY - box.top));
    if (far < distance) [best, distance] = [k, far];
  });
  return best;
}

function within([x, y]) {
  return x >= X[0] && x <= X[1] && y >= Y[0] && y <= Y[1];
}

plot.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  const at = chart.at(event), k = nearest(event);
  state.keyed = false;
  if (k < 0 && !within(at)) return;
  if (k < 0) add(at);
  else if (event.shiftKey) return remove(k);
  else state.selected = k;
  dragged = state.selected;
  plot.setPointerCapture(event.pointerId);
  changePoints();
});
plot.addEventListener("pointermove", (event) => {
  const at = chart.at(event);
  if (dragged >= 0) move(dragged, at);
  plot.classList.toggle("over", nearest(event) >= 0);
  state.reading = keep(at[0], X);
  read();
});
for (const end of ["pointerup", "pointercancel"]) plot.addEventListener(end, () => { dragged = -1; });
plot.addEventListener("dblclick", (event) => {
  const k = nearest(event);
  // the first click of a double click on empty paper has just added this point: it stays
  if (k >= 0 && performance.now() - (state.born.get(state.points[k]) ?? -1e9) > 600) remove(k);
});

// -- keys --------------------------------------------------------------------------------------------------------------

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };

plot.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const arrow = ARROWS[event.key];
  if (arrow) {
    const by = event.shiftKey ? 0.02 : 0.2;
    const from = state.selected >= 0 ? state.points[state.selected] : state.cursor;
    state.cursor = inside([from[0] + by * arrow[0], from[1] + by * arrow[1]]);
    if (state.selected >= 0) move(state.selected, state.cursor);
    say(state.selected >= 0 ? name(state.selected) : `x ${state.cursor[0].toFixed(2)}, y ${state.cursor[1].toFixed(2)}`);
  } else if (event.key === "Enter" || event.key === " ") {
    add(state.cursor);
    state.selected = -1; // so that arrows go on with the cursor
    byId("delete").disabled = true;
  } else if ((event.key === "PageDown" || event.key === "PageUp") && state.points.length) {
    const N = state.points.length, step = event.key === "PageDown" ? 1 : -1;
    state.selected = state.selected < 0 ? (step > 0 ? 0 : N - 1) : (state.selected + step + N) % N;
    state.cursor = [...state.points[state.selected]];
    byId("delete").disabled = false;
    say(name(state.selected));
  } else if (event.key === "Delete" || event.key === "Backspace") {
    remove(state.selected);
  } else if (event.key === "Escape") {
    state.selected = -1;
    byId("delete").disabled = true;
    say("No point is selected.");
  } else return;
  event.preventDefault();
  state.keyed = true;
  state.reading = state.cursor[0];
  drawPoints();
});
plot.addEventListener("blur", () => {
  state.keyed = false;
  drawPoints();
});

// -- buttons -----------------------------------------------------------------------------------------------------------

byId("restart").addEventListener("click", () => {
  send({ restart: true });
  say("Training begins anew.");
});
byId("example").addEventListener("click", () => {
  [state.points, state.selected] = [examplePoints(), -1];
  say(`${state.points.length} example points.`);
  changePoints();
});
byId("clear").addEventListener("click", () => {
  [state.points, state.selected] = [[], -1];
  say("All points are deleted.");
  changePoints();
});
byId("delete").addEventListener("click", () => remove(state.selected));
for (const id of ["mean", "epistemic", "aleatoric", "lines"]) byId(`show-${id}`).addEventListener("change", drawPicture);

change();
changePoints();
