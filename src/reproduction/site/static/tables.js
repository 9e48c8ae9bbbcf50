// Tables sort by a column's button; the verdicts filter.
(() => {
  const key = (row, column) => {
    const cell = row.cells[column];
    if (cell.dataset.key !== undefined) return Number(cell.dataset.key);
    const text = cell.textContent.trim().toLowerCase();
    return text === "" || text === "–" ? null : text;
  };
  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b, "en", { numeric: true });
  };

  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    heads.forEach((head, column) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        table.classList.add("sorted");
        const keyed = [...body.rows].map((row) => [key(row, column), row]);
        const blank = keyed.filter(([value]) => value === null);
        const full = keyed.filter(([value]) => value !== null);
        full.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
        body.append(...[...full, ...blank].map(([, row]) => row));
      });
    });
  }

  const filters = [...document.querySelectorAll("[data-filter]")];
  if (!filters.length) return;
  const rows = [...document.querySelectorAll("#verdict-table tbody tr")];
  const count = document.querySelector(".filters .count");
  const filter = () => {
    for (const row of rows) {
      row.hidden = !filters.every(({ value, dataset }) => {
        const has = row.dataset[dataset.filter];
        return value === "" || (value === "tested" ? !has.startsWith("not tested") : has === value);
      });
    }
    count.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} shown`;
  };
  for (const each of filters) each.addEventListener("change", filter);
  filter();
})();
