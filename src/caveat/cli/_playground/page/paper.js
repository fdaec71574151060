// Paper of 28 x 28 pixels to draw on, by mouse, finger or keys; the ink is kept as coverage, whatever the colors are.

const SIDE = 28, FINE = 4, WIDE = SIDE * FINE, PEN = 1.25 * FINE;

export function makePaper(canvas, changed) {
  const ink = new Uint8Array(WIDE * WIDE);
  const pen = { x: WIDE / 2, y: WIDE / 2, down: false, shown: false };
  let last = null;

  const dab = (x, y) => {
    for (let v = Math.max(0, Math.floor(y - PEN)); v <= Math.min(WIDE - 1, y + PEN); v++)
      for (let u = Math.max(0, Math.floor(x - PEN)); u <= Math.min(WIDE - 1, x + PEN); u++)
        if (Math.hypot(u + 0.5 - x, v + 0.5 - y) <= PEN) ink[v * WIDE + u] = 1;
  };
  const stroke = (x, y) => {
    const [fromX, fromY] = last ?? [x, y];
    const steps = Math.max(1, Math.ceil(Math.hypot(x - fromX, y - fromY)));
    for (let k = 0; k <= steps; k++) dab(fromX + ((x - fromX) * k) / steps, fromY + ((y - fromY) * k) / steps);
    last = [x, y];
    repaint();
    changed();
  };
  const repaint = () => {
    const context = canvas.getContext("2d");
    const size = canvas.width / WIDE;
    const dark = document.documentElement.dataset.theme === "dark";
    context.fillStyle = dark ? "#1e1e1e" : "#ffffff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = dark ? "#ececec" : "#1b1b1b";
    for (let k = 0; k < ink.length; k++) if (ink[k]) context.fillRect((k % WIDE) * size, Math.floor(k / WIDE) * size, size + 0.5, size + 0.5);
    if (pen.shown) {
      context.strokeStyle = dark ? "#ff9a52" : "#b84a00";
      context.lineWidth = pen.down ? 4 : 2;
      context.beginPath();
      context.arc(pen.x * size, pen.y * size, PEN * size, 0, 2 * Math.PI);
      context.stroke();
    }
  };
  // What the network gets: how much of each of 28 x 28 pixels is inked, 0 to 255.
  const pixels = () => {
    const found = new Array(SIDE * SIDE).fill(0);
    for (let k = 0; k < ink.length; k++) if (ink[k]) found[Math.floor(Math.floor(k / WIDE) / FINE) * SIDE + Math.floor((k % WIDE) / FINE)] += 1;
    return found.map((count) => Math.round((255 * count) / FINE ** 2));
  };
  const wipe = () => {
    ink.fill(0);
    repaint();
    changed();
  };
  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * WIDE, ((event.clientY - box.top) / box.height) * WIDE];
  };

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    pen.shown = false;
    last = null;
    canvas.setPointerCapture(event.pointerId);
    stroke(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.buttons & 1) stroke(...at(event));
  });
  const STEPS = { ArrowLeft: [-2, 0], ArrowRight: [2, 0], ArrowUp: [0, -2], ArrowDown: [0, 2] };
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = STEPS[event.key];
    if (step) {
      pen.x = Math.min(WIDE, Math.max(0, pen.x + step[0]));
      pen.y = Math.min(WIDE, Math.max(0, pen.y + step[1]));
    } else if (event.key === " ") {
      pen.down = !pen.down;
      last = null;
    } else return;
    event.preventDefault();
    pen.shown = true;
    if (pen.down) stroke(pen.x, pen.y);
    else repaint();
  });
  canvas.addEventListener("blur", () => {
    [pen.shown, pen.down] = [false, false];
    repaint();
  });
  repaint();
  return { pixels, wipe, repaint };
}
