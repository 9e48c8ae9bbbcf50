// Figure 3: walk along the trajectories by the slider, or let them run.
(() => {
  for (const slider of document.querySelectorAll(".slider")) {
    const times = slider.dataset.times.split(",");
    const range = slider.querySelector("input");
    const play = slider.querySelector(".play");
    const out = slider.querySelector("output");
    let timer = null;
    const show = () => {
      slider.style.setProperty("--column", range.value);
      out.textContent = `t = ${times[range.value]}`;
      range.setAttribute("aria-valuetext", out.textContent);
    };
    const stop = () => {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    };
    range.addEventListener("input", () => { stop(); show(); });
    play.addEventListener("click", () => {
      if (timer !== null) return stop();
      if (range.value === range.max) range.value = 0;
      show();
      play.textContent = "Stop";
      timer = setInterval(() => {
        range.value = Number(range.value) + 1;
        show();
        if (range.value === range.max) stop();
      }, 500);
    });
    show();
  }
})();
