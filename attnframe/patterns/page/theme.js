/* The button that turns the page dark or light; until then it is as the system is. */

/** `changed` is called after the theme has changed. */
function listenToTheme(changed) {
  const button = byId("theme");
  const write = () => button.setAttribute("aria-pressed", themeName() === "dark");
  const apply = () => {
    write();
    changed();
  };
  button.addEventListener("click", () => {
    document.documentElement.dataset.theme = themeName() === "dark" ? "light" : "dark";
    apply();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  write();
}
