// Paper is white: a page that is read in dark colours is printed in light ones.
const root = document.documentElement;
let shown;
addEventListener("beforeprint", () => ([shown, root.dataset.theme] = [root.dataset.theme, "light"]));
addEventListener("afterprint", () => (root.dataset.theme = shown));

// The theme's arrows that unfold a part of the sidebar have no name.
addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll(".bd-docs-nav summary"))
    arrow.setAttribute("aria-label", `Pages of ${arrow.closest("li").querySelector("a").textContent}`);
});
