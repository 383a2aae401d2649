// All that is not the picture: lists, tools, sliders, the scrubber, and what the page has to say.

import { isDone, key, markOf, names, sizeName, stateOf } from "./marks.js";

const $ = (name) => document.querySelector(name);
const TOLD = { done: "annotated", empty: "nothing here", skipped: "skipped", open: "" };
const TOAST_MS = 6000;

function element(tag, properties = {}, ...children) {
  const found = Object.assign(document.createElement(tag), properties);
  found.append(...children);
  return found;
}

export class Panel {
  constructor(app) {
    this.app = app;
    this.items = new Map();
    const { session } = app;
    $("#annotator").textContent = app.annotator || "no name";
    $("#annotator").onclick = () => this.#rename();
    $("#roles").append(...session.roles.map((role, index) => this.#role(role, index)));
    for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => app.use(button.dataset.tool);
    const commands = {
      undo: () => app.undo(), redo: () => app.redo(), copy: () => app.copy(), clear: () => app.clear(),
      empty: () => app.empty(), skip: () => app.skip(), next: () => app.step(1), previous: () => app.step(-1),
      accept: () => app.accept(), back: () => app.scrub(-1), forth: () => app.scrub(1),
      "zoom-in": () => app.stage.zoomBy(1.25), "zoom-out": () => app.stage.zoomBy(0.8), "zoom-fit": () => app.stage.fit(),
    };
    for (const button of document.querySelectorAll("[data-do]"))
      button.onclick = () => { commands[button.dataset.do](); $("#canvas").focus(); };
    $("#help-button").onclick = () => $("#help").showModal();
    $("#import").onclick = () => $("#file").click();
    $("#file").onchange = () => { if ($("#file").files[0]) app.import($("#file").files[0]); $("#file").value = ""; };
    for (const link of document.querySelectorAll("#export a")) {
      link.href = `api/export?what=${link.dataset.what}&${app.query}`;
      link.onclick = () => { $("#export").open = false; };
    }
    $("#size").oninput = () => this.#size(Number($("#size").value) / 256);
    $("#weight").oninput = () => this.#weight(Number($("#weight").value) / 100);
    $("#episode").append(...session.episodes.map(({ name }, index) => element("option", { value: name, textContent: `${index + 1} · ${name}` })));
    $("#episode").onchange = () => { app.go($("#episode").value, app.episodes.get($("#episode").value)[0]); $("#canvas").focus(); };
    $("#time").oninput = () => app.go(app.sheet.bag, app.episodes.get(app.sheet.bag)[$("#time").value]);
    session.proposals.forEach((proposal) => this.#item(proposal, $("#proposals")));
  }

  #rename() {
    const name = prompt("Who annotates? Letters, digits, - and _; empty for nobody in particular.", this.app.annotator);
    if (name === null || name === this.app.annotator) return;
    const search = new URLSearchParams(location.search);
    search.set("annotator", name.trim());
    location.search = search;
  }

  #role({ name, colour }, index) {
    const dot = element("i"), button = element("button", {}, dot, name, element("kbd", { textContent: index + 1 }));
    button.style.setProperty("--role", `rgb(${colour.join(" ")})`);
    button.setAttribute("role", "radio");
    button.dataset.role = name;
    button.onclick = () => { this.app.choose(name); $("#canvas").focus(); };
    return button;
  }

  #item({ bag, stamp, doubt }, list) {
    const name = key(bag, stamp), { app } = this;
    const seconds = (Number(BigInt(stamp) - BigInt(app.episodes.get(bag)[0])) / 1e9).toFixed(1);
    const unsure = doubt === null || doubt === undefined ? "" : `unsure ${Math.round(100 * doubt)} %`;
    const picture = element("img", { src: `${app.address(bag, stamp)}&small=true`, alt: "", loading: "lazy" });
    const told = element("span", { className: "told" });
    const number = [...app.episodes.keys()].indexOf(bag) + 1;
    const button = element("button", { className: "frame", title: bag },
      picture, element("div", {}, element("b", { textContent: `Ep. ${number} · ${seconds} s` }), told));
    button.onclick = () => { app.go(bag, stamp); $("#canvas").focus(); };
    list.append(element("li", {}, button));
    this.items.set(name, { button, told, unsure });
  }

  #size(value) {
    const { app } = this, mark = app.stage.mark(), name = mark ? sizeName(mark) : app.tool === "brush" ? "width" : "sigma";
    if (!name) return;
    app[name] = value;
    if (mark) app.stage.set({ [name]: value }, "slider");
    else this.refresh();
  }

  #weight(weight) {
    const { app } = this;
    app.weight = weight;
    if (app.stage.mark()) app.stage.set({ weight }, "slider");
    else this.refresh();
  }

  save(name, text) {
    document.body.dataset.save = name;
    $("#save").textContent = text;
  }

  message(text) {
    $("#message").textContent = text;
    $("#message").hidden = !text;
  }

  toast(text, kind = "") {
    const note = element("p", { textContent: text, className: kind });
    $("#toast").replaceChildren(note);
    document.body.dataset.told = text;
    setTimeout(() => note.remove(), TOAST_MS);
  }

  refresh() {
    const { app } = this, { sheet, stage } = app;
    if (!sheet) return;
    const content = app.content(), state = stateOf(content);
    document.body.dataset.key = sheet.key;
    this.#others();
    for (const [name, { button, told, unsure }] of this.items) {
      const found = app.sheets.get(name)?.content, now = found ? stateOf(found) : "open";
      button.dataset.state = now;
      told.textContent = TOLD[now] || unsure || "open";
      const here = name === sheet.key, was = button.getAttribute("aria-current") === "true";
      button.setAttribute("aria-current", here);
      if (here && !was) button.scrollIntoView({ block: "nearest" });
    }
    const done = app.done(), all = app.session.proposals.length;
    $("#progress i").style.width = `${all ? (100 * done) / all : 0}%`;
    $("#progress span").textContent = `${done} of ${all}`;
    $("#rule").textContent = app.rule();
    $("#rule").hidden = !app.rule();
    $("#state").hidden = state !== "empty" && state !== "skipped";
    $("#state").textContent = state === "empty" ? "Nothing in this frame matters" : "Skipped: training does not see this frame";
    $("[data-do=zoom-fit]").textContent = `${Math.round(100 * stage.zoom)} %`;
    $("[data-do=undo]").disabled = !sheet.past.length;
    $("[data-do=redo]").disabled = !sheet.future.length;
    $("#suggestion").hidden = !stage.suggested.length;
    $("#suggestion p").textContent = `The model suggests ${stage.suggested.length} ${stage.suggested.length > 1 ? "clicks" : "click"}.`;
    this.#tools();
    this.#marks(content);
    this.#scrubber();
  }

  // Frames that somebody scrubbed to, once they have marks.
  #others() {
    for (const [name, { bag, stamp, content }] of this.app.sheets)
      if (stateOf(content) !== "open" && !this.items.has(name)) this.#item({ bag, stamp }, $("#others"));
    $("#others-title").hidden = !$("#others").children.length;
  }

  #tools() {
    const { app } = this, mark = app.stage.mark();
    for (const button of document.querySelectorAll("#roles button"))
      button.setAttribute("aria-checked", button.dataset.role === (mark && !app.stage.selected.fresh ? mark.role : app.role));
    for (const button of document.querySelectorAll("#tools button"))
      button.setAttribute("aria-checked", button.dataset.tool === app.tool);
    const name = mark ? sizeName(mark) : app.tool === "brush" ? "width" : app.tool === "click" ? "sigma" : null;
    const size = 256 * (name ? (mark ?? app)[name] : 0), weight = 100 * (mark ?? app).weight;
    $("#size").disabled = !name;
    $("#size").max = name === "width" ? 80 : 60;
    if (name) $("#size").value = size;
    $("#size-text").textContent = name ? `${name === "sigma" ? "σ " : ""}${size.toFixed(1)} px at 256` : "–";
    $("#weight").value = weight;
    $("#weight-text").textContent = `${Math.round(weight)} %`;
  }

  #marks(content) {
    const { app } = this, { selected } = app.stage;
    const rows = names(content).map((at) => {
      const mark = markOf(content, at), dot = element("i", { className: at.kind === "areas" ? "area" : "" });
      dot.style.setProperty("--role", `rgb(${app.colours[mark.role].join(" ")})`);
      const what = at.kind === "clicks" ? "" : mark.width > 0 ? " · brush" : " · box";
      const [u, v] = mark.points ? mark.points[0] : [mark.u, mark.v];
      const where = element("small", { textContent: `${Math.round(100 * u)}, ${Math.round(100 * v)} %` });
      const row = element("li", {}, dot, mark.role + what, where);
      row.dataset.role = mark.role;
      row.dataset.kind = at.kind;
      row.setAttribute("aria-selected", at.kind === selected?.kind && at.index === selected?.index);
      row.onclick = () => app.stage.select(at);
      return row;
    });
    const hint = app.stage.suggested.length ? "Accept the suggestion, or click." : "Nothing yet: click what matters.";
    $("#marks").replaceChildren(...(rows.length ? rows : [element("li", { className: "none", textContent: hint })]));
  }

  #scrubber() {
    const { app } = this, { bag, stamp } = app.sheet, stamps = app.episodes.get(bag);
    const index = stamps.indexOf(stamp), last = Math.max(1, stamps.length - 1);
    $("#episode").value = bag;
    $("#time").max = stamps.length - 1;
    $("#time").value = index;
    const seconds = Number(BigInt(stamp) - BigInt(stamps[0])) / 1e9;
    $("#where").textContent = `${seconds.toFixed(2)} s · ${index + 1} / ${stamps.length}`;
    const ticks = [...this.items.keys()].filter((name) => name.startsWith(`${bag}|`)).map((name) => {
      const tick = element("i"), found = app.sheets.get(name)?.content;
      tick.style.left = `${(100 * stamps.indexOf(name.slice(bag.length + 1))) / last}%`;
      tick.classList.toggle("done", Boolean(found && isDone(found)));
      return tick;
    });
    $("#ticks").replaceChildren(...ticks);
  }
}
