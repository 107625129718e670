// The theme binds its button for the left sidebar to the first of two, which this version of its parent theme hides.
document.addEventListener("DOMContentLoaded", () => {
  const sidebar = document.getElementById("pst-primary-sidebar");
  document.querySelector(".header-article .primary-toggle, .header-article-item .primary-toggle")?.addEventListener(
    "click",
    (event) => {
      if (!sidebar || !window.matchMedia("(min-width: 992px)").matches) return;
      event.preventDefault();
      event.stopImmediatePropagation(); // one toggle a click, whoever binds it
      sidebar.classList.toggle("pst-sidebar-hidden");
    },
    true,
  );
});
