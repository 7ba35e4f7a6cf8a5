"use strict";
(function () {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => {
    button.textContent = dark() ? "Light colours" : "Dark colours";
    button.setAttribute("aria-pressed", String(dark()));
  };
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();

  const config = JSON.parse(document.getElementById("chart-config").textContent);
  config.font = getComputedStyle(document.body).fontFamily;
  const options = { renderer: "svg", actions: false, ast: true, config: config, tooltip: { theme: "custom" } };
  const broken = (place) => (error) => {
    place.textContent = "This chart could not be drawn: " + error.message + ". Its data can be downloaded below.";
  };
  const drawn = Array.from(document.querySelectorAll(".chart"), (place) => {
    const source = document.querySelector('script[data-chart="' + CSS.escape(place.dataset.spec) + '"]');
    return window.vegaEmbed(place, JSON.parse(source.textContent), options).then(
      (result) => { place.style.minHeight = ""; return result; }, broken(place));
  });
  Promise.all(drawn).then(() => { root.dataset.drawn = "yes"; });
})();
