// A chart in SVG: axes that fit its size, and paths in the units of its axes.

const SPACE = "http://www.w3.org/2000/svg";

export function make(tag, attributes = {}, parent = null) {
  const element = document.createElementNS(SPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  parent?.append(element);
  return element;
}

// About `count` round numbers from low to high.
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((each) => each >= rough * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(Number((k * step).toPrecision(12)));
  return found;
}

let charts = 0;

// x and y are [low, high]; `drawn` is called after each change of size or axes.
export function makeChart(place, { x, y, xLabel, yLabel, xFormat = String, yFormat = String, left = 46, drawn }) {
  const svg = make("svg", { class: "chart", "aria-hidden": "true", focusable: "false" }, null);
  place.prepend(svg);
  const clip = `clip-${charts++}`;
  const hole = make("rect", {}, make("clipPath", { id: clip }, make("defs", {}, svg)));
  const axes = make("g", { class: "axes" }, svg);
  const plot = make("g", { "clip-path": `url(#${clip})` }, svg);
  const above = make("g", {}, svg);
  const margin = { left, right: 20, top: 10, bottom: 40 };
  const chart = { svg, plot, above, x, y, width: 0, height: 0 };
  const inner = () => [chart.width - margin.left - margin.right, chart.height - margin.top - margin.bottom];
  chart.sx = (value) => margin.left + ((value - chart.x[0]) / (chart.x[1] - chart.x[0])) * inner()[0];
  chart.sy = (value) => margin.top + (1 - (value - chart.y[0]) / (chart.y[1] - chart.y[0])) * inner()[1];
  chart.at = (event) => {
    const box = svg.getBoundingClientRect();
    const [w, h] = inner();
    return [
      chart.x[0] + ((event.clientX - box.left - margin.left) / w) * (chart.x[1] - chart.x[0]),
      chart.y[0] + (1 - (event.clientY - box.top - margin.top) / h) * (chart.y[1] - chart.y[0]),
    ];
  };
  chart.line = (xs, ys) => {
    let path = "";
    for (let k = 0; k < xs.length; k++) path += `${k ? "L" : "M"}${chart.sx(xs[k]).toFixed(1)} ${chart.sy(ys[k]).toFixed(1)}`;
    return path;
  };
  chart.band = (xs, low, high) => `${chart.line(xs, high)}${chart.line([...xs].reverse(), [...low].reverse()).replace("M", "L")}Z`;
  chart.redraw = () => {
    const [w, h] = inner();
    if (w <= 0 || h <= 0) return;
    svg.setAttribute("viewBox", `0 0 ${chart.width} ${chart.height}`);
    for (const [name, value] of Object.entries({ x: margin.left, y: margin.top, width: w, height: h })) hole.setAttribute(name, value);
    axes.replaceChildren();
    for (const value of ticks(...chart.x, Math.max(3, Math.min(10, w / 70)))) {
      const at = chart.sx(value);
      make("line", { x1: at, x2: at, y1: margin.top, y2: margin.top + h, class: "grid" }, axes);
      make("text", { x: at, y: margin.top + h + 16, "text-anchor": "middle" }, axes).textContent = xFormat(value);
    }
    for (const value of ticks(...chart.y, Math.max(2, Math.min(7, h / 40)))) {
      const at = chart.sy(value);
      make("line", { x1: margin.left, x2: margin.left + w, y1: at, y2: at, class: "grid" }, axes);
      make("text", { x: margin.left - 7, y: at + 4, "text-anchor": "end" }, axes).textContent = yFormat(value);
    }
    make("text", { x: margin.left + w / 2, y: chart.height - 5, "text-anchor": "middle", class: "label" }, axes).textContent = xLabel;
    const turned = make("text", { transform: `translate(12 ${margin.top + h / 2}) rotate(-90)`, "text-anchor": "middle", class: "label" }, axes);
    turned.textContent = yLabel;
    drawn();
  };
  chart.rename = (newLabel) => {
    yLabel = newLabel;
    chart.redraw();
  };
  new ResizeObserver(() => {
    const box = place.getBoundingClientRect();
    if (box.width === chart.width && box.height === chart.height) return;
    [chart.width, chart.height] = [box.width, box.height];
    chart.redraw();
  }).observe(place);
  return chart;
}
