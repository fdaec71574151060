// The model page: a model and a table opened, the threshold moved over the referral curve, the policy saved.

import { make, makeChart } from "./chart.js";
import { ask, byId, clearError, percent, say, short, showError, slider } from "./page.js";

const state = { found: null, choice: null };
const budget = slider("budget", (value) => percent(value / 200, 1), judge);

const chart = makeChart(byId("curve"), {
  x: [0, 1], y: [0, 1], xLabel: "fraction left to a person", yLabel: "", xFormat: (value) => percent(value), yFormat: tick, left: 62, drawn: draw,
});
const all = make("path", { class: "all" }, chart.plot);
const line = make("path", { class: "mean" }, chart.plot);
const mark = make("path", { class: "cursor" }, chart.plot);
const dot = make("circle", { r: 6, class: "dot" }, chart.above);

function tick(value) {
  return state.found?.judged ? percent(value, value < 0.1 && value > 0 ? 1 : 0) : short(value);
}

// What is drawn over the fraction deferred: the fraction right, or without a tolerance the mean squared error.
const worth = (loss) => (state.found.judged ? 1 - loss : loss);

async function list() {
  const places = await ask("/api/places");
  fill(byId("model"), places.models);
  fill(byId("data"), places.tables);
  const lacking = !places.models.length ? "model folder" : !places.tables.length ? "table" : "";
  byId("open").disabled = Boolean(lacking);
  byId("nothing").hidden = !lacking;
  byId("nothing").textContent = `There is no ${lacking} below ${places.folder}. Train one with: caveat fit train.csv --target answer --out model; or name both: caveat playground MODEL DATA`;
  return !lacking && places.named;
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  select.disabled = !names.length;
}

async function open(choice) {
  busy(true);
  try {
    const found = await ask("/api/open", choice);
    clearError();
    Object.assign(state, { found, choice });
    show();
  } catch (error) {
    showError(error.message);
  } finally {
    busy(false);
  }
}

function busy(on) {
  byId("open").disabled = byId("save").disabled = on;
  byId("open").textContent = on ? "Computing…" : "Open";
  byId("opened").classList.toggle("busy", on);
}

function show() {
  const { found } = state;
  byId("opened").hidden = false;
  byId("measure").replaceChildren(...found.measures.map((name) => new Option(name.replaceAll("_", " "), name, false, name === found.measure)));
  byId("tolerance-part").hidden = found.classifies;
  byId("quality-title").textContent = found.judged ? "Right among those" : "Mean squared error of those";
  byId("unit").textContent = `${found.measure.replaceAll("_", " ")}, ${found.unit}`;
  const kept = found.curve.filter((one) => one.loss !== null).map((one) => worth(one.loss));
  const [low, high] = [Math.min(...kept, worth(found.loss_all)), Math.max(...kept)];
  const room = 0.08 * (high - low) || 0.05;
  chart.y = found.judged ? [Math.max(0, low - room), Math.min(1, high + room / 2)] : [0, high + room];
  chart.rename(found.judged ? "right among the answered" : "mean squared error");
  if (found.policy) {
    const near = found.curve.reduce((best, one, k) => (Math.abs(one.threshold - found.policy.threshold) < Math.abs(found.curve[best].threshold - found.policy.threshold) ? k : best), 0);
    if (found.policy.measure === found.measure) {
      budget.input.value = String(near);
      budget.show();
    }
  }
  showPolicy(found.policy);
  showRows();
  judge();
  say(`${found.rows} rows of ${found.data} are open.`);
}

function judge() {
  const { found } = state;
  if (!found) return;
  const at = found.curve[budget.value];
  const answered = Math.round(at.coverage * found.rows);
  byId("answered").textContent = percent(at.coverage, 1);
  byId("answered-rows").textContent = `${answered.toLocaleString("en-US")} of ${found.rows.toLocaleString("en-US")} rows`;
  byId("deferred").textContent = percent(1 - at.coverage, 1);
  byId("deferred-rows").textContent = `${(found.rows - answered).toLocaleString("en-US")} rows`;
  const form = (loss) => (loss === null ? "–" : found.judged ? percent(1 - loss, 1) : short(loss));
  byId("quality").textContent = form(at.loss);
  byId("quality-all").textContent = found.judged ? `${form(found.loss_all)} of all rows` : `${form(found.loss_all)} of all rows, in squared sd of training`;
  byId("threshold").textContent = short(at.threshold);
  byId("curve-said").textContent = `With ${percent(1 - at.coverage, 1)} of the rows left to a person, the model answers the others ${found.judged ? `and is right in ${form(at.loss)} of them` : `with a mean squared error of ${form(at.loss)}`}; dashed: answering all.`;
  draw();
}

function draw() {
  const { found } = state;
  if (!found || !chart.width) return;
  const kept = found.curve.filter((one) => one.loss !== null);
  line.setAttribute("d", chart.line(kept.map((one) => one.deferred), kept.map((one) => worth(one.loss))));
  all.setAttribute("d", chart.line([0, 1], [worth(found.loss_all), worth(found.loss_all)]));
  const at = found.curve[budget.value];
  mark.setAttribute("d", `M${chart.sx(at.deferred)} ${chart.sy(chart.y[0])}V${chart.sy(chart.y[1])}`);
  dot.setAttribute("visibility", at.loss === null ? "hidden" : "visible");
  dot.setAttribute("cx", chart.sx(at.deferred));
  dot.setAttribute("cy", chart.sy(worth(at.loss ?? 0)));
}

function showPolicy(policy) {
  byId("policy").textContent = policy
    ? `The model's policy now: a row is deferred where ${policy.measure.replaceAll("_", " ")} is above ${Number(policy.threshold.toPrecision(5))} (${policy.why}).`
    : "The model has no policy yet.";
}

function showRows() {
  const { found } = state;
  byId("rows-said").textContent = `The first ${found.least_sure.length} of ${found.rows.toLocaleString("en-US")} rows, the least sure first; epistemic and aleatoric in ${found.parts_unit}.`;
  const head = ["line", "truth", "answer", "why", "epistemic", "aleatoric", ...found.columns];
  const row = (cells, kind) => {
    const tr = document.createElement("tr");
    cells.forEach((text, k) => {
      const cell = document.createElement(kind);
      if (kind === "th") cell.scope = "col";
      if (k === 3) cell.className = "why";
      if (k === 0 || k === 4 || k === 5) cell.className = "number";
      cell.textContent = text;
      tr.append(cell);
    });
    return tr;
  };
  const body = found.least_sure.map((one) => {
    const verdict = one.wrong === null ? "" : one.wrong ? " ✗" : " ✓";
    const tr = row([one.line, one.truth, one.answer + verdict, one.why, short(one.epistemic), short(one.aleatoric), ...one.cells], "td");
    tr.children[2].classList.toggle("wrong", one.wrong === true);
    return tr;
  });
  const thead = document.createElement("thead"), tbody = document.createElement("tbody");
  thead.append(row(head, "th"));
  tbody.append(...body);
  byId("rows").replaceChildren(thead, tbody);
}

const chosen = () => ({
  model: byId("model").value, data: byId("data").value, measure: null, tolerance: null,
});
const again = () => {
  const tolerance = Number(byId("tolerance").value);
  return { ...state.choice, measure: byId("measure").value, tolerance: byId("tolerance").value === "" ? null : tolerance };
};

byId("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  byId("tolerance").value = "";
  open(chosen());
});
for (const id of ["measure", "tolerance"]) byId(id).addEventListener("change", () => open(again()));
byId("save").addEventListener("click", async () => {
  busy(true);
  try {
    const policy = await ask("/api/save", { choice: again(), deferred: budget.value / 200 });
    clearError();
    state.found.policy = policy;
    showPolicy(policy);
    byId("policy").textContent = `Saved. ${byId("policy").textContent}`;
    say("The policy is saved.");
  } catch (error) {
    showError(error.message);
  } finally {
    busy(false);
  }
});

list().then((named) => named && open(chosen())).catch((error) => showError(error.message));
