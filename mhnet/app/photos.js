"use strict";

// `element`, `props`, `trigger` and `watch` are Gradio's. `props.value` lists what lies on the server: path, name, bytes,
// and the problem of a photo that cannot be restored. What is on its way, or was not sent, is listed here alone.
const find = (selector) => element.querySelector(selector);
const [zone, input, list, clear] = [".zone", "input", ".list", ".clear"].map(find);
let own = [];

find(".label").textContent = props.title;
input.setAttribute("aria-label", `${props.title}: choose files`);
input.accept = props.accept;

const size = (bytes) => `${Math.max(bytes / 1e6, 0.01).toFixed(bytes < 1e5 ? 2 : 1)} MB`;
const part = (tag, text, className = "") => {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = className;
  return made;
};

function render() {
  const kept = props.value ?? [];
  const rows = [...kept, ...own].map((file) => {
    const row = part("li", "", file.problem ? "refused" : "");
    const remove = part("button", "×", "remove");
    remove.type = "button";
    remove.setAttribute("aria-label", `Remove ${file.name}`);
    remove.addEventListener("click", () => {
      own = own.filter((other) => other !== file);
      if (kept.includes(file)) keep(kept.filter((other) => other !== file));
      render();
      input.focus();
    });
    row.append(part("bdi", file.name, "name"), part("span", file.sending ? "sending …" : size(file.bytes), "size"), remove);
    if (file.problem) row.append(part("p", file.problem));
    return row;
  });
  list.replaceChildren(...rows);
  clear.hidden = rows.length < 2;
  const refused = [...kept, ...own].filter((file) => file.problem).length;
  find(".spoken").textContent = rows.length ? `${rows.length} listed${refused ? `, ${refused} refused` : ""}` : "";
}

function keep(files) {
  props.value = files;
  setTimeout(() => trigger("input"));
}

async function send(file) {
  if (file.size > props.most) throw Error(`${file.name} has ${size(file.size)}; up to ${size(props.most)} are taken.`);
  const body = new FormData();
  body.append("files", file);
  const answer = await fetch("gradio_api/upload", { method: "POST", body }).catch(() => {
    throw Error(`${file.name} could not be sent: the page's server does not answer.`);
  });
  const told = await answer.json();
  if (!answer.ok) throw Error(told.detail);
  return { path: told[0], name: file.name, bytes: file.size };
}

async function add(files) {
  const entries = [...files].map((file) => ({ name: file.name, bytes: file.size, sending: true }));
  own.push(...entries);
  render();
  const sent = [];
  for (const [number, entry] of entries.entries()) {
    try {
      sent.push(await send(files[number]));
      own = own.filter((other) => other !== entry);
    } catch (error) {
      entry.problem = error.message;
    }
    entry.sending = false;
    render();
  }
  if (sent.length) keep([...(props.value ?? []), ...sent]);
}

input.addEventListener("change", () => {
  add([...input.files]);
  input.value = "";
});
clear.addEventListener("click", () => {
  own = [];
  keep([]);
  render();
  input.focus();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  zone.addEventListener(name, (event) => {
    event.preventDefault();
    zone.classList.toggle("over", name === "dragover");
    if (name === "drop") add([...event.dataTransfer.files]);
  });
}
watch("value", render);
render();
