"use strict";
const veils = document.querySelectorAll(".veil");
const set = (veil, open) => {
  veil.setAttribute("aria-pressed", String(open));
  veil.querySelector("i").textContent = open ? "Hide" : "Show";
};
veils.forEach((veil) =>
  veil.addEventListener("click", () => set(veil, veil.getAttribute("aria-pressed") !== "true"))
);
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") veils.forEach((veil) => set(veil, false));
});
