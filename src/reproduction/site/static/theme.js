// Before anything is drawn: the reader's own choice of theme, else the system's.
(() => {
  const root = document.documentElement;
  root.classList.replace("no-js", "js");
  let chosen = null;
  try { chosen = localStorage.getItem("theme"); } catch { /* a browser may forbid storage to files */ }
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    root.dataset.theme = chosen ?? (dark.matches ? "dark" : "light");
    document.dispatchEvent(new Event("theme"));
  };
  dark.addEventListener("change", apply);
  window.chooseTheme = (name) => {
    chosen = name;
    try { localStorage.setItem("theme", name); } catch { /* then it lasts as long as the page */ }
    apply();
  };
  apply();
})();
