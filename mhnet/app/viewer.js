"use strict";

// `element`, `props` and `watch` are Gradio's. Positions are in CSS pixels of the stage; a photo's pixel p lies at
// x + scale * p there.
const find = (selector) => element.querySelector(selector);
const [stage, slider, strip, about] = [".stage", "input", ".strip", ".about"].map(find);
const [before, after] = [find(".before"), find(".after")];
const images = [before.firstElementChild, after.firstElementChild];
const MOST = 16;

let photos = [];
let photo = null;
let [scale, x, y] = [1, 0, 0];

const make = (tag, text, className) => {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

function fitting() {
  return Math.min(stage.clientWidth / photo.width, stage.clientHeight / photo.height);
}

function place() {
  const [width, height] = [photo.width * scale, photo.height * scale];
  const held = (at, room, length) => (length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, at)));
  x = held(x, stage.clientWidth, width);
  y = held(y, stage.clientHeight, height);
  for (const image of images) {
    image.style.width = `${photo.width}px`;
    image.style.height = `${photo.height}px`;
    image.style.transform = `translate(${x}px, ${y}px) scale(${scale})`;
    image.style.imageRendering = scale * devicePixelRatio >= 2 ? "pixelated" : "auto";
  }
  stage.classList.toggle("zoomed", scale > fitting() * 1.001);
  find("output").textContent = `${Math.round(scale * devicePixelRatio * 100)} %`;
}

function zoom(to, atX = stage.clientWidth / 2, atY = stage.clientHeight / 2) {
  const least = Math.min(fitting(), 1 / devicePixelRatio);
  to = Math.min(Math.max(MOST, 4 * fitting()), Math.max(least, to));
  x = atX - ((atX - x) * to) / scale;
  y = atY - ((atY - y) * to) / scale;
  scale = to;
  place();
}

const zooms = {
  in: () => zoom(scale * 1.5),
  out: () => zoom(scale / 1.5),
  fit: () => zoom(fitting()),
  one: () => zoom(1 / devicePixelRatio),
};

function split() {
  stage.style.setProperty("--at", `${slider.value}%`);
}

function layOut() {
  if (!photo) return;
  stage.style.setProperty("--ratio", photo.width / photo.height);
  scale = fitting();
  place();
}

function describe() {
  about.replaceChildren();
  const line = make("p", "");
  line.append(make("bdi", photo.name, "name"), make("span", ` ${photo.width}×${photo.height}`, "faint"));
  about.append(line);
  if (photo.scores) {
    const table = document.createElement("table");
    const row = (tag, ...cells) => {
      const made = document.createElement("tr");
      made.append(...cells.map((cell, i) => make(i ? tag : "th", cell)));
      table.append(made);
    };
    row("th", photo.scores.protocol, "PSNR", "SSIM");
    for (const side of ["before", "after"]) {
      const { psnr, ssim } = photo.scores[side];
      row("td", side, psnr === null ? "∞" : `${psnr.toFixed(2)} dB`, ssim.toFixed(4));
    }
    about.append(table);
  }
  if (photo.made) about.append(make("p", photo.made, "faint"));
  for (const note of photo.notes ?? []) about.append(make("p", note, "faint"));
}

function show(number) {
  photo = photos[number] ?? null;
  for (const part of [stage, find(".tools"), about]) part.hidden = !photo;
  [...strip.children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === number)));
  if (!photo) return;
  stage.classList.toggle("restored", Boolean(photo.after));
  slider.disabled = !photo.after;
  images[0].src = photo.before;
  images[0].alt = `${photo.name}, before`;
  images[1].src = photo.after ?? photo.before;
  images[1].alt = photo.after ? `${photo.name}, restored` : "";
  const download = find(".download");
  download.hidden = !photo.after;
  if (photo.after) {
    download.href = photo.result;
    download.download = photo.saved;
  }
  slider.value = 50;
  slider.setAttribute("aria-label", photo.after ? `${photo.name}: from before to after` : `${photo.name}, before`);
  split();
  describe();
  layOut();
}

function update() {
  photos = props.value?.photos ?? [];
  const problems = props.value?.problems ?? [];
  find(".problems").replaceChildren(...problems.map((problem) => make("li", problem)));
  find(".empty").hidden = photos.length > 0 || problems.length > 0;
  strip.hidden = photos.length < 2;
  strip.replaceChildren(
    ...photos.map(({ name, after, before }, number) => {
      const button = make("button", "");
      const image = document.createElement("img");
      image.src = after ?? before;
      image.alt = name;
      button.type = "button";
      button.title = name;
      button.append(image);
      button.addEventListener("click", () => show(number));
      return button;
    }),
  );
  const { zip } = props.value ?? {};
  find(".all").hidden = !zip;
  if (zip) find(".all").href = zip;
  show(0);
  if (!photo?.after) return;
  slider.focus({ preventScroll: true }); // its keys work at once, and screen readers come to it
  element.scrollIntoView({ block: "nearest" }); // on a phone, the controls are above it
}

// One finger or the mouse moves the line, or the photo where it is larger than the stage and the line is not near; two
// fingers zoom.
const pointers = new Map();
let dragging = null;

const at = (event) => {
  const box = stage.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
};

stage.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  event.preventDefault();
  slider.focus({ preventScroll: true });
  stage.setPointerCapture(event.pointerId);
  const here = at(event);
  pointers.set(event.pointerId, here);
  const near = Math.abs(here.x - (slider.value / 100) * stage.clientWidth) < 28;
  dragging = photo.after && (near || !stage.classList.contains("zoomed")) ? "line" : "photo";
  if (pointers.size === 1 && dragging === "line") follow(here);
});

function follow(here) {
  slider.value = (100 * here.x) / stage.clientWidth;
  split();
}

stage.addEventListener("pointermove", (event) => {
  const last = pointers.get(event.pointerId);
  if (!last) return;
  const here = at(event);
  if (pointers.size === 2) {
    const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
    const apart = (a) => Math.hypot(a.x - other.x, a.y - other.y);
    zoom((scale * apart(here)) / Math.max(apart(last), 1), (here.x + other.x) / 2, (here.y + other.y) / 2);
  } else if (dragging === "line") {
    follow(here);
  } else {
    x += here.x - last.x;
    y += here.y - last.y;
    place();
  }
  pointers.set(event.pointerId, here);
});

for (const name of ["pointerup", "pointercancel"]) {
  stage.addEventListener(name, (event) => pointers.delete(event.pointerId));
}

stage.addEventListener("dblclick", (event) => {
  const here = at(event);
  const [whole, one] = [fitting(), 1 / devicePixelRatio];
  zoom(stage.classList.contains("zoomed") ? whole : Math.max(one, 2 * whole), here.x, here.y);
});

// The wheel scrolls the page until one zooms in, by Ctrl and the wheel, two fingers, a double click or the buttons.
stage.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey && !stage.classList.contains("zoomed")) return;
    event.preventDefault();
    const here = at(event);
    zoom(scale * Math.exp(-event.deltaY / 400), here.x, here.y);
  },
  { passive: false },
);

slider.addEventListener("input", split);

const moves = { ArrowLeft: [80, 0], ArrowRight: [-80, 0], ArrowUp: [0, 80], ArrowDown: [0, -80] };
stage.addEventListener("keydown", (event) => {
  const name = { "+": "in", "=": "in", "-": "out", 0: "fit", 1: "one" }[event.key];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (name) {
    zooms[name]();
  } else if (event.shiftKey && moves[event.key]) {
    x += moves[event.key][0];
    y += moves[event.key][1];
    place();
  } else if (event.key === "f") {
    fill();
  } else if (event.key === "b") {
    flip();
  } else {
    return;
  }
  event.preventDefault();
});

function flip() {
  slider.value = Number(slider.value) === 100 ? 0 : 100; // all of it before, then all of it after
  split();
}

function fill() {
  if (document.fullscreenElement) document.exitFullscreen();
  else element.requestFullscreen?.();
}

for (const button of element.querySelectorAll("[data-zoom]")) {
  button.addEventListener("click", () => zooms[button.dataset.zoom]());
}
find("[data-flip]").addEventListener("click", flip);
find("[data-full]").addEventListener("click", fill);
new ResizeObserver(layOut).observe(stage);
watch("value", update);
update();
