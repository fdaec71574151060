// The image page: a digit picked, turned, blended or drawn, and what each draw of the network says of it.

import { make } from "./chart.js";
import { byId, clearError, connect, percent, say, showError, slider } from "./page.js";
import { makePaper } from "./paper.js";

const CLASSES = 10, BINS = 20, MOST_ENTROPY = Math.log(CLASSES);
const state = { known: null, first: 0, second: 0, drawing: false, waiting: false, dirty: false, answer: null, spoken: "" };

const controls = {
  angle: slider("angle", (value) => `${value}°`, change),
  blend: slider("blend", (value) => percent(value / 100), change),
  draws: slider("draws", String, change),
  threshold: slider("threshold", (value) => `${value.toFixed(2)} nats`, judge),
};
byId("measure").addEventListener("change", () => {
  const epistemic = byId("measure").value === "epistemic";
  controls.threshold.input.max = epistemic ? 1 : 2.3;
  controls.threshold.input.value = epistemic ? 0.15 : 0.7;
  controls.threshold.show();
  judge();
});

const paper = makePaper(byId("paper"), change);
const rows = makeRows();
const bar = (() => {
  const place = byId("doubt");
  const found = {};
  for (const name of ["epistemic", "aleatoric", "tick", "low"]) {
    found[name] = document.createElement("span");
    found[name].className = name;
    place.append(found[name]);
  }
  return found;
})();

const send = connect("/live/image", () => null, (message) => {
  if (message.error) {
    state.waiting = false;
    showError(message.error);
    return state.dirty && change();
  }
  if (message.trained !== undefined) return train(message);
  state.answer = message;
  state.waiting = false;
  clearError(8000);
  requestAnimationFrame(show);
  if (state.dirty) change();
});

function train(message) {
  byId("network").textContent = message.trained < 1 ? `${percent(message.trained)} trained` : `${percent(message.accuracy, 1)} right on 360 new digits`;
  if (!message.shown) {
    byId("verdict").textContent = `The network is learning its digits: ${percent(message.trained)}`;
    return;
  }
  state.waiting = false;
  if (!state.known) {
    state.known = message;
    makeThumbs("first", message.shown.map((_, k) => k), (k) => {
      state.first = k;
      setDrawing(false);
    });
    makeThumbs("second", message.labels.flatMap((label, k) => (message.labels.indexOf(label) === k ? [k] : [])), (k) => { state.second = k; });
    pick("first", message.labels.indexOf(6));
    pick("second", message.labels.indexOf(5));
    [state.first, state.second] = [message.labels.indexOf(6), message.labels.indexOf(5)];
  }
  change();
}

// The last position of the sliders is asked about; the next goes out when the answer is here.
function change() {
  if (!state.known) return;
  state.dirty = state.waiting;
  if (state.waiting) return;
  state.waiting = true;
  send({
    first: state.drawing ? -1 : state.first, second: state.second, blend: controls.blend.value / 100, angle: controls.angle.value,
    draws: controls.draws.value, drawing: state.drawing ? paper.pixels() : [],
  });
}

function show() {
  const { pixels, counts, mean, draws, seconds } = state.answer;
  paint(byId("picture"), pixels);
  byId("speed").textContent = `${(1000 * seconds).toFixed(0)} ms for ${draws} draws`;
  counts.forEach((bins, k) => {
    const row = rows[k];
    row.bars.forEach((bar, at) => {
      const height = 26 * Math.sqrt(bins[at] / draws);
      bar.setAttribute("y", (28 - height).toFixed(2));
      bar.setAttribute("height", height.toFixed(2));
    });
    row.mean.setAttribute("x1", (200 * mean[k]).toFixed(1));
    row.mean.setAttribute("x2", (200 * mean[k]).toFixed(1));
    row.text.textContent = percent(mean[k], mean[k] > 0.0005 && mean[k] < 0.0995 ? 1 : 0);
    row.place.classList.toggle("best", k === state.answer.predicted);
    row.svg.setAttribute("aria-label", `${k}: mean probability ${percent(mean[k], 1)}`);
  });
  judge();
}

function judge() {
  if (!state.answer) return;
  const { total, epistemic, aleatoric, predicted, mean, votes, draws } = state.answer;
  const threshold = controls.threshold.value, measure = byId("measure").value;
  const unsure = state.answer[measure] > threshold;
  const verdict = unsure ? "I am not sure." : `It is a ${predicted}.`;
  byId("verdict").textContent = verdict;
  byId("verdict").classList.toggle("unsure", unsure);
  byId("because").textContent = `${unsure ? `Perhaps a ${predicted}, with` : "With"} ${percent(mean[predicted])} on average; ${votes[predicted]} of ${draws} draws say so.`;
  for (const name of ["total", "epistemic", "aleatoric"]) byId(name).textContent = state.answer[name].toFixed(3);
  const wide = (value) => `${(100 * Math.min(1, value / MOST_ENTROPY)).toFixed(2)}%`;
  bar.epistemic.style.width = wide(epistemic);
  bar.aleatoric.style.width = wide(aleatoric);
  bar.tick.style.left = wide(threshold);
  bar.tick.hidden = measure !== "total";
  bar.low.style.left = wide(threshold);
  bar.low.hidden = measure !== "epistemic";
  byId("doubt").setAttribute("aria-label", `Entropy ${total.toFixed(2)} of at most ${MOST_ENTROPY.toFixed(2)} nats: epistemic ${epistemic.toFixed(2)}, aleatoric ${aleatoric.toFixed(2)}`);
  if (verdict !== state.spoken) say(verdict);
  state.spoken = verdict;
}

// -- what is on the page ------------------------------------------------------------------------------------------------

function makeRows() {
  return Array.from({ length: CLASSES }, (_, k) => {
    const place = document.createElement("div");
    place.className = "class";
    const label = document.createElement("b");
    label.textContent = String(k);
    const svg = make("svg", { viewBox: "0 0 200 28", preserveAspectRatio: "none", role: "img" });
    const bars = Array.from({ length: BINS }, (_, at) => make("rect", { x: (at * 200) / BINS + 0.6, y: 28, width: 200 / BINS - 1.2, height: 0 }, svg));
    const mean = make("line", { x1: 0, x2: 0, y1: 0, y2: 28 }, svg);
    const text = document.createElement("span");
    place.append(label, svg, text);
    byId("classes").append(place);
    return { place, svg, bars, mean, text };
  });
}

function makeThumbs(name, numbers, chosen) {
  const place = byId(name).querySelector(".thumbs");
  for (const k of numbers) {
    const label = document.createElement("label");
    const input = document.createElement("input");
    input.type = "radio";
    input.name = name;
    input.value = String(k);
    input.setAttribute("aria-label", `${state.known.labels[k]}${numbers.length > CLASSES ? `, picture ${k - state.known.labels.indexOf(state.known.labels[k]) + 1}` : ""}`);
    input.addEventListener("change", () => {
      chosen(k);
      change();
    });
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = 28;
    canvas.setAttribute("aria-hidden", "true");
    label.append(input, canvas);
    place.append(label);
  }
  paintThumbs();
}

function pick(name, k) {
  byId(name).querySelector(`input[value="${k}"]`).checked = true;
}

function paintThumbs() {
  for (const canvas of document.querySelectorAll(".thumbs canvas")) paint(canvas, state.known.shown[Number(canvas.previousSibling.value)]);
}

// Ink and paper in the colors of the page.
function paint(canvas, pixels) {
  const dark = document.documentElement.dataset.theme === "dark";
  const [from, to] = dark ? [30, 236] : [255, 27];
  const context = canvas.getContext("2d", { willReadFrequently: true }); // few pixels, put by the processor
  const image = context.createImageData(28, 28);
  pixels.forEach((ink, k) => {
    const level = from + ((to - from) * ink) / 255;
    image.data.set([level, level, level, 255], 4 * k);
  });
  context.putImageData(image, 0, 0);
}

function setDrawing(on) {
  state.drawing = on;
  byId("draw").setAttribute("aria-pressed", String(on));
  for (const id of ["paper", "paper-keys", "wipe"]) byId(id).hidden = !on;
  if (on) {
    for (const input of byId("first").querySelectorAll("input")) input.checked = false;
    byId("paper").focus();
  } else if (state.known) pick("first", state.first);
}

byId("draw").addEventListener("click", () => {
  setDrawing(!state.drawing);
  change();
});
byId("wipe").addEventListener("click", () => {
  paper.wipe();
  say("The paper is blank.");
});
addEventListener("themechange", () => {
  paper.repaint();
  if (state.known) paintThumbs();
  if (state.answer) paint(byId("picture"), state.answer.pixels);
});
