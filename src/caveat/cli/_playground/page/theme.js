// Light or dark: the system's, until the switch is used. Runs before the page is painted.
(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  const chosen = () => {
    try { return localStorage.getItem("caveat-theme"); } catch { return null; }
  };
  const dark = () => (chosen() ?? (system.matches ? "dark" : "light")) === "dark";
  const show = () => {
    document.documentElement.dataset.theme = dark() ? "dark" : "light";
    document.getElementById("theme")?.setAttribute("aria-pressed", String(dark()));
    dispatchEvent(new Event("themechange"));
  };
  show();
  system.addEventListener("change", show);
  addEventListener("DOMContentLoaded", () => {
    show();
    document.getElementById("theme").addEventListener("click", () => {
      const wanted = dark() ? "light" : "dark";
      try { localStorage.setItem("caveat-theme", wanted); } catch { /* kept for this page only */ }
      document.documentElement.dataset.theme = wanted;
      document.getElementById("theme").setAttribute("aria-pressed", String(wanted === "dark"));
      dispatchEvent(new Event("themechange"));
    });
  });
})();
