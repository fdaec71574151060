// What the three pages share: elements by name, numbers for people, errors in words, news for screen readers.

export const byId = (id) => document.getElementById(id);

let shownAt = 0;

export function showError(text) {
  shownAt = performance.now();
  const place = byId("error");
  place.replaceChildren();
  for (const line of String(text).split("\n")) {
    const paragraph = document.createElement("p");
    paragraph.textContent = line.trim();
    place.append(paragraph);
  }
  place.hidden = false;
}

// Takes the error away once it has stood for so many milliseconds: time to read it where pictures go on.
export function clearError(atLeast = 0) {
  if (performance.now() - shownAt >= atLeast) byId("error").hidden = true;
}

export function say(text) {
  byId("said").textContent = text;
}

export const percent = (value, digits = 0) => `${(100 * value).toFixed(digits)} %`;

export function short(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en-US");
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : size >= 0.01 || size === 0 ? value.toFixed(2) : value.toPrecision(2);
}

// A slider and the number beside it; `told` gets the value at each move.
export function slider(id, format, told) {
  const input = byId(id);
  const show = () => {
    const text = format(Number(input.value));
    byId(`${id}-value`).textContent = text;
    input.setAttribute("aria-valuetext", text);
  };
  input.addEventListener("input", () => {
    show();
    told(Number(input.value));
  });
  show();
  return { get value() { return Number(input.value); }, show, input };
}

// A websocket that comes back: `hello` gives what to say first, `heard` gets each message.
export function connect(path, hello, heard) {
  let socket = null;
  let lost = false;
  const open = () => {
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`);
    socket.addEventListener("open", () => {
      if (lost) clearError();
      lost = false;
      const first = hello();
      if (first) socket.send(JSON.stringify(first));
    });
    socket.addEventListener("message", (event) => heard(JSON.parse(event.data)));
    socket.addEventListener("close", () => {
      lost = true;
      showError("The page has lost its server. It goes on by itself when `caveat playground` runs again.");
      setTimeout(open, 1500);
    });
  };
  open();
  return (message) => {
    if (socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
  };
}

export async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
  };
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("The page has lost its server. Start `caveat playground` again.");
  }
  const text = await response.text();
  let found;
  try { found = JSON.parse(text); } catch { throw new Error(text || `The server answered ${response.status}.`); }
  if (!response.ok) throw new Error(found.error ?? `The server answered ${response.status}.`);
  return found;
}
