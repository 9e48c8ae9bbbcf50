// Theme switch, contents that follow the reader, pictures in full size.
(() => {
  const root = document.documentElement;
  const button = document.querySelector("button.theme");
  const say = () => button.setAttribute("aria-pressed", String(root.dataset.theme === "dark"));
  button.addEventListener("click", () => window.chooseTheme(root.dataset.theme === "dark" ? "light" : "dark"));
  document.addEventListener("theme", say);
  say();

  const menu = document.querySelector("details.menu");
  const wide = matchMedia("(min-width: 72rem)");
  const fold = () => { menu.open = wide.matches; };
  wide.addEventListener("change", fold);
  fold();
  menu.addEventListener("click", (event) => {
    if (event.target.closest("a") && !wide.matches) menu.open = false;
  });
  const links = new Map([...menu.querySelectorAll("a")].map((link) => [link.hash.slice(1), link]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target.id)?.setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-20% 0px -75% 0px" });
  for (const id of links.keys()) seen.observe(document.getElementById(id));

  // A link into something folded unfolds it.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let each = target?.closest("details"); each; each = each.parentElement.closest("details")) each.open = true;
    if (target?.closest("details")) target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  for (const dialog of document.querySelectorAll("dialog")) {
    dialog.querySelector(".close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  }
  const large = document.getElementById("image-dialog");
  document.addEventListener("click", (event) => {
    const enlarge = event.target.closest("button.enlarge");
    if (!enlarge) return;
    const figure = enlarge.closest("figure");
    large.querySelector("h2").textContent = enlarge.getAttribute("aria-label").replace("Enlarge ", "");
    large.querySelector(".body").replaceChildren(figure.querySelector("img").cloneNode());
    large.showModal();
  });
})();
