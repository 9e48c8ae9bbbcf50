// Charts: drawn when they come near the screen, in the colours of the theme, with the lines that are switched on.
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const views = new Map();

  const coloured = (spec) => {
    const style = getComputedStyle(document.documentElement);
    const text = JSON.stringify(spec).replace(/"--[a-z-]+"/g, (name) =>
      JSON.stringify(style.getPropertyValue(name.slice(1, -1)).trim()));
    return JSON.parse(text);
  };

  const state = (chart) => ({
    hidden: [...chart.querySelectorAll("input[type=checkbox]:not(:checked)")].map((box) => box.value),
    ...Object.fromEntries([...chart.querySelectorAll("select")].map((menu) => [menu.dataset.signal, menu.value])),
  });

  const update = (chart) => {
    const view = views.get(chart);
    if (!view) return;
    for (const [name, value] of Object.entries(state(chart))) view.signal(name, value);
    view.runAsync();
  };

  const draw = async (chart) => {
    const spec = coloured(specs[chart.dataset.chart]);
    const now = state(chart);
    for (const each of spec.params) if (each.name in now) each.value = now[each.name];
    const plot = chart.querySelector(".plot");
    views.get(chart)?.finalize();
    const { view } = await vegaEmbed(plot, spec, {
      actions: false,
      renderer: "svg",
      tooltip: { theme: document.documentElement.dataset.theme },
    });
    views.set(chart, view);
    chart.dataset.drawn = document.documentElement.dataset.theme;
  };

  const near = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting) continue;
      near.unobserve(target);
      draw(target);
    }
  }, { rootMargin: "600px" });

  for (const chart of document.querySelectorAll(".chart")) {
    chart.addEventListener("change", () => update(chart));
    near.observe(chart);
  }
  document.addEventListener("theme", () => { for (const chart of views.keys()) draw(chart); });
})();
