"use strict";

for (const { name, words, preview } of props.value) {
  const button = document.createElement("button");
  button.type = "button";
  button.title = words;
  button.dataset.name = name;
  const image = document.createElement("img");
  image.src = preview;
  image.alt = words;
  button.append(image);
  button.addEventListener("click", () => trigger("select", { name: button.dataset.name }));
  element.querySelector(".samples").append(button);
}
