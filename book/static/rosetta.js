// The search box of the Rosetta stone. All it reads is window.rosetta: search-data.js, by tools/book/rosetta.py.
"use strict";

const MOST = 30;

/** What stays of a word: no ending, no doubled letter before it, British s. */
function rosettaStem(word) {
  const bare = word.replace(/iz/g, "is").replace(/(?<=..[^e])(?:ing|ed|es|e|(?<!s)s)$/, "");
  return bare === word ? bare : bare.replace(/([bdgmnprt])\1$/, "$1");
}

const rosettaStems = (text) => (text.toLowerCase().match(/[\p{L}\p{N}]+/gu) || []).map(rosettaStem);

/** The words of a query, each a list of the ways to say it; a way is a list of stems. */
function rosettaTerms(data, query) {
  const stems = rosettaStems(query).filter((stem) => !data.fillers.includes(stem));
  const others = Object.fromEntries(
    Object.entries(data.synonyms).map((pair) => pair.map((text) => rosettaStems(text).join(" "))),
  );
  const terms = [];
  for (let at = 0; at < stems.length;) {
    const length = stems.slice(at, at + 2).join(" ") in others ? 2 : 1;
    const said = stems.slice(at, at += length);
    const other = others[said.join(" ")];
    terms.push(other ? [said, other.split(" ")] : [said]);
  }
  return terms;
}

const rosettaSays = (text, ways) => ways.some((way) => way.every((stem) =>
  text.some((word) => word === stem || (stem.length > 2 && word.startsWith(stem)))));

/** For each text the share of the terms that it says, between 0 and 1; a term that few texts say counts more. */
function rosettaShares(texts, terms) {
  const said = terms.map((ways) => texts.map((text) => rosettaSays(text, ways)));
  const weights = said.map((one) => Math.log(1 + texts.length / Math.max(1, one.filter(Boolean).length)));
  const sum = (numbers) => numbers.reduce((a, b) => a + b, 0);
  return texts.map((_, place) => sum(weights.filter((_, term) => said[term][place])) / sum(weights));
}

/** What answers a query, the best first: {level, entry or group, name or message}. */
function rosettaSearch(data, query) {
  const whole = query.trim().toLowerCase(), wanted = whole.replace(/\(.*?\)?$/, "");
  if (wanted.length < 2) return [];
  const parts = wanted.split("."), sought = parts.pop(), owner = parts.pop();
  const last = (name) => name.slice(name.lastIndexOf(".") + 1);
  // optimizer.step, opt.step: Optimizer's; model.train: Module's
  const owns = (spelt) => {
    const prefix = spelt.slice(0, -last(spelt).length - 1), kind = last(prefix);
    return owner ? kind.includes(owner) || (owner.length > 2 && kind.startsWith(owner.slice(0, 3)))
      : /^(torch|tensor)$/.test(prefix);
  };
  const found = new Map();
  const add = (key, level, result) => {
    if (!found.has(key) || found.get(key).level > level) found.set(key, { level, ...result });
  };
  // 0: the very name; 0.5, 1: its last part, of that class or not; 2: how it begins; 2.4: a subject; to 5: words;
  // 4: a part of it
  for (const [name, entries] of data.names) {
    const spelt = name.toLowerCase();
    const level = spelt === wanted ? 0 : last(spelt) === sought ? (owns(spelt) ? 0.5 : 1)
      : last(spelt).startsWith(sought.replace(/_$/, "")) ? 2 : spelt.includes(wanted) ? 4 : null;
    if (sought.length > 1 && level !== null)
      entries.forEach((entry, place) => add(entry, level + place / 100, { entry, name }));
  }
  const terms = rosettaTerms(data, wanted);
  if (terms.length) {
    for (const [group, title] of Object.entries(data.groups)) {
      const stems = rosettaStems(title);
      if (terms.every((ways) => rosettaSays(stems, ways))) add(group, 2.4, { group });
    }
    const titles = data.entries.map(([, title]) => rosettaStems(title));
    const shares = rosettaShares(titles, terms), least = Math.max(1 / 3, 0.6 * Math.max(...shares));
    shares.forEach((share, entry) => {
      const [anchor, title] = data.entries[entry];
      const level = 5 - 2 * share + title.length / 1000 - (found.has(anchor.split("-")[0]) ? 0.5 : 0);
      if (share > least) add(entry, title.toLowerCase() === wanted ? 0 : level, { entry });
    });
  }
  for (const message of data.messages) {
    const [errors, texts, meaning] = message.slice(0, 3).map((part) => part.toLowerCase());
    const stems = rosettaStems(`${errors} ${texts} ${meaning}`);
    const level = errors.split("|").includes(wanted) || texts.split("|").some((text) => whole.includes(text)) ? 0
      : errors.includes(wanted) || texts.includes(whole) ? 2
      : terms.length && terms.every((ways) => rosettaSays(stems, ways)) ? 4 : null;
    if (level !== null) add(message[1], level, { entry: message[3], message });
  }
  const sorted = [...found.values()].sort((a, b) => a.level - b.level);
  return sorted.filter(({ level }) => level < sorted[0].level + 3.2);  // who typed a name does not look for its words
}

function rosettaResult(data, { entry, group, name, message }) {
  const [anchor, title, trap] = group ? [group, data.groups[group]] : data.entries[entry];
  const subject = anchor.split("-")[0];
  const item = document.createElement("li");
  const link = document.createElement("a");
  link.href = `${subject}.html${group ? "" : `#${anchor}`}`;
  link.textContent = title;
  const where = document.createElement("span");
  where.textContent = group ? " the whole subject" : ` ${data.groups[subject]}${trap ? ", trap" : ""}`;
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
