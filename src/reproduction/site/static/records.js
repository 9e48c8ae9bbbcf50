// Provenance in a dialog where it is asked for; without this script the link leads to the section that has it.
(() => {
  const dialog = document.getElementById("record-dialog");
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-record]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    const record = document.getElementById(`stage-${link.dataset.record}`);
    if (!record) return;
    event.preventDefault();
    const copy = record.cloneNode(true);
    copy.removeAttribute("id");
    dialog.querySelector("h2").textContent = link.dataset.record;
    dialog.querySelector(".body").replaceChildren(copy);
    dialog.showModal();
    dialog.querySelector(".body").scrollTop = 0;
  });
})();
