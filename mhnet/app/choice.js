"use strict";

// One of several: `props.options` has each one's key, label, and perhaps what to say about it.
const about = element.querySelector(".about");
const named = (tag, text) => Object.assign(document.createElement(tag), { textContent: text });

function describe() {
  const { facts, limits = [] } = props.options.find(({ key }) => key === props.value) ?? {};
  about.replaceChildren(...(facts ? [named("p", facts)] : []));
  if (!limits.length) return;
  const [details, items] = [document.createElement("details"), document.createElement("ul")];
  items.append(...limits.map((limit) => named("li", limit)));
  details.append(named("summary", "What it cannot do"), items);
  about.append(details);
}

element.querySelector("legend").textContent = props.title;
for (const { key, label } of props.options) {
  const [option, input] = [named("label", ""), document.createElement("input")];
  Object.assign(input, { type: "radio", name: props.title, value: key, checked: key === props.value });
  input.addEventListener("change", () => {
    props.value = key;
    describe();
  });
  option.append(input, named("span", label));
  element.querySelector(".options").append(option);
}
describe();
