"use strict";

// The line follows mouse and finger; the arrow keys, Home and End move the hidden slider of the focused picture.
for (const frame of document.querySelectorAll(".frame")) {
  const slider = frame.querySelector("input");
  const show = () => frame.style.setProperty("--at", slider.value + "%");
  const follow = (event) => {
    const box = frame.getBoundingClientRect();
    slider.value = (100 * (event.clientX - box.left)) / box.width;
    show();
  };
  slider.addEventListener("input", show);
  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    event.preventDefault();
    slider.focus({ preventScroll: true });
    frame.setPointerCapture(event.pointerId);
    follow(event);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) follow(event);
  });
  show();
}

// Where there is a clean picture, a button puts it in the place of the degraded one.
for (const button of document.querySelectorAll("button[data-clean]")) {
  const frame = button.closest("figure").querySelector(".frame");
  const left = frame.querySelector(".left");
  const word = frame.querySelector(".on-left");
  const [before, beforeWord, offer] = [left.src, word.textContent, button.textContent];
  button.addEventListener("click", () => {
    const clean = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(clean));
    left.src = clean ? frame.querySelector(".clean").src : before;
    word.textContent = clean ? "clean" : beforeWord;
    button.textContent = clean ? "compare with the original" : offer;
  });
}
