// The search box of the Rosetta stone. window.rosetta (search-data.js, written by tools/book/rosetta.py) is all it reads.
"use strict";

const MOST = 30;

/** The entries and messages that answer a query, the best first: {level, entry, name or message}. */
function rosettaSearch(data, query) {
  const wanted = query.trim().toLowerCase().replace(/\(.*?\)?$/, "");
  if (wanted.length < 2) return [];
  const words = wanted.split(/[^\p{L}\p{N}_.]+/u).filter(Boolean);
  const last = (name) => name.slice(name.lastIndexOf(".") + 1);
  const found = new Map();
  const add = (level, entry, why = {}) => {
    const key = why.message ? why.message[1] : entry;
    if (!found.has(key) || found.get(key).level > level) found.set(key, { level, entry, ...why });
  };
  // 0: the very name; 1: its last part; 2: how it begins; 3: a part of it; 4: words
  for (const [name, entries] of data.names) {
    const spelt = name.toLowerCase(), sought = last(wanted);
    const level = spelt === wanted ? 0 : last(spelt) === sought ? 1 : last(spelt).startsWith(sought.replace(/_$/, "")) ? 2
      : spelt.includes(wanted) ? 3 : null;
    if (sought.length > 1 && level !== null) entries.forEach((entry, place) => add(level + place / 10, entry, { name }));
  }
  data.entries.forEach(([, title], entry) => {
    const said = title.toLowerCase();
    if (words.length && words.every((word) => said.includes(word))) add(said === wanted ? 0 : 4, entry);
  });
  for (const message of data.messages) {
    const [errors, texts, meaning, entry] = message.map((part) => (part.toLowerCase ? part.toLowerCase() : part));
    const whole = query.trim().toLowerCase();
    const level = errors.split("|").includes(wanted) || texts.split("|").some((text) => whole.includes(text)) ? 0
      : errors.includes(wanted) || texts.includes(whole) ? 2
      : words.length && words.every((word) => `${errors} ${texts} ${meaning}`.includes(word)) ? 4 : null;
    if (level !== null) add(level, entry, { message });
  }
  return [...found.values()].sort((a, b) => a.level - b.level);
}

function rosettaResult(data, { entry, name, message }) {
  const [anchor, title, trap] = data.entries[entry];
  const group = anchor.slice(0, anchor.indexOf("-"));
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `${group}.html#${anchor}`;
  link.textContent = title;
  const where = document.createElement("span");
  where.textContent = ` ${data.groups[group]}${trap ? ", trap" : ""}`;
  item.append(link, where);
  if (name || message) {
    const code = document.createElement("code");
    code.textContent = name || message.slice(0, 2).map((part) => part.replaceAll("|", " or ")).join(": ");
    item.append(document.createElement("br"), code);
    if (message) item.append(` ${message[2]}`);
  }
  return item;
}

function rosettaBox(form, data) {
  const input = form.querySelector("input"), list = form.querySelector("ol"), count = form.querySelector("p");
  const links = () => [...list.querySelectorAll("a")];
  const show = () => {
    const found = rosettaSearch(data, input.value);
    list.replaceChildren(...found.slice(0, MOST).map((result) => rosettaResult(data, result)));
    count.textContent = input.value.trim().length < 2 ? ""
      : found.length > MOST ? `${MOST} of ${found.length} results`
      : found.length === 1 ? "1 result" : `${found.length || "No"} results`;
    if (location.protocol !== "file:") {  // so that Back and a reload find the query again
      const address = new URL(location.href);
      if (input.value) address.searchParams.set("find", input.value);
      else address.searchParams.delete("find");
      history.replaceState(history.state, "", address);
    }
  };
  form.addEventListener("input", show);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    links()[0]?.focus();
  });
  form.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      const stops = [input, ...links()];
      stops[stops.indexOf(document.activeElement) + step]?.focus();
      event.preventDefault();
    } else if (event.key === "Escape" && document.activeElement !== input) input.focus();
  });
  form.hidden = false;
  input.value = new URLSearchParams(location.search).get("find") ?? "";
  if (input.value) show();
}

for (const form of document.querySelectorAll(".rosetta-search")) rosettaBox(form, window.rosetta);
