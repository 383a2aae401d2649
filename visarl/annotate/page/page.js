// Puts the page together: frames to go through, tools, keys, and what the server says.

import { Stage } from "./canvas.js";
import { listen } from "./keys.js";
import { Panel } from "./panel.js";
import { Sheet, isDone, isMarked, key, nothing } from "./marks.js";
import { Saver, ask } from "./saver.js";

const $ = (name) => document.querySelector(name);

class App {
  role = ""; tool = "click"; weight = 1; width = 14 / 256; sigma = 0;
  sheets = new Map();
  sheet = null; // the frame on the screen
  before = null; // the one that was there before, whose marks can be copied
  visit = 0;

  async start() {
    this.session = await ask("api/session");
    this.annotator = new URLSearchParams(location.search).get("annotator") ?? this.session.annotator;
    this.query = `annotator=${encodeURIComponent(this.annotator)}`;
    const known = await ask(`api/annotations?${this.query}`);
    this.file = known.file;
    this.colours = Object.fromEntries(this.session.roles.map(({ name, colour }) => [name, colour]));
    this.role = this.session.roles[0].name;
    this.sigma = this.session.sigma;
    this.episodes = new Map(this.session.episodes.map((episode) => [episode.name, episode.stamps]));
    for (const { bag, stamp, ...frame } of known.frames) this.#sheet(bag, stamp).take(frame);
    this.stage = new Stage($("#canvas"), this);
    this.panel = new Panel(this);
    this.saver = new Saver(this.session.id, this.annotator, {
      state: (name, text) => this.panel.save(name, text),
      saved: (name, revision) => { this.sheets.get(name).revision = revision; },
      conflict: (name, frame) => this.#conflict(name, frame),
    });
    listen(this);
    this.panel.save("saved", "saved");
    this.#resume();
    if (known.elsewhere)
      this.panel.toast(`${known.elsewhere} annotated frames are of bags that are not here; they stay in ${known.file}`);
    addEventListener("visibilitychange", () => document.hidden || this.#freshen());
    const first = this.session.proposals.find((p) => !this.#touched(p)) ?? this.session.proposals[0];
    if (first) await this.go(first.bag, first.stamp);
    else await this.go(...[...this.episodes].map(([bag, stamps]) => [bag, stamps[0]])[0]);
  }

  // Changes that an earlier visit could not send.
  #resume() {
    let count = 0;
    for (const [name, item] of this.saver.stored()) {
      if (!this.episodes.get(item.bag)?.includes(item.stamp)) continue;
      const sheet = this.#sheet(item.bag, item.stamp);
      sheet.change({ ...nothing, ...item.content });
      this.saver.resume(name, item);
      count++;
    }
    if (count) this.panel.toast(`${count} unsent ${count > 1 ? "changes" : "change"} of an earlier visit brought back`);
  }

  #sheet(bag, stamp) {
    const name = key(bag, stamp);
    if (!this.sheets.has(name)) this.sheets.set(name, new Sheet(bag, stamp));
    return this.sheets.get(name);
  }

  #touched({ bag, stamp }) {
    const { content } = this.#sheet(bag, stamp);
    return content.state !== "" || isMarked(content);
  }

  #conflict(name, frame) {
    this.sheets.get(name).yield(frame);
    this.panel.toast("This frame was changed elsewhere: here is the newer version. Undo brings back yours.", "bad");
    this.refresh();
  }

  // Another tab or another machine may have changed the frame while nobody looked at this one.
  async #freshen() {
    const { sheet } = this;
    if (!sheet) return;
    try {
      const frame = await ask(`api/frame?${this.query}&bag=${encodeURIComponent(sheet.bag)}&stamp=${sheet.stamp}`);
      if (frame.revision > sheet.revision && !this.saver.pending.has(sheet.key)) {
        sheet.yield(frame);
        this.refresh();
      }
    } catch { /* the next save will tell */ }
  }

  content() {
    return this.sheet?.content ?? nothing;
  }

  change(content, tag) {
    if (!this.sheet) return;
    this.sheet.change(content, tag);
    this.#changed();
  }

  #changed() {
    this.saver.change(this.sheet);
    this.refresh();
  }

  refresh() {
    const content = this.content();
    this.stage.suggested = this.suggestion && !isMarked(content) && !content.state ? this.suggestion : [];
    this.panel.refresh();
    this.stage.paint();
  }

  address(bag, stamp) {
    return `api/picture?bag=${encodeURIComponent(bag)}&stamp=${stamp}&of=${this.session.id}`;
  }

  async go(bag, stamp) {
    if (this.sheet && (this.sheet.bag !== bag || this.sheet.stamp !== stamp)) this.before = this.sheet;
    const visit = ++this.visit;
    this.sheet = this.#sheet(bag, stamp);
    this.suggestion = null;
    this.stage.selected = null;
    document.body.dataset.frame = "loading";
    this.refresh();
    try {
      const picture = await this.#load(this.address(bag, stamp));
      if (visit !== this.visit) return;
      this.panel.message("");
      this.stage.show(picture);
      document.body.dataset.frame = "shown";
    } catch (error) {
      if (visit !== this.visit) return;
      this.stage.show(null);
      this.panel.message(error.status ? error.message : "No connection to the server. The picture comes when it is back.");
      document.body.dataset.frame = error.status ? "gone" : "offline";
      if (!error.status) setTimeout(() => visit === this.visit && this.go(bag, stamp), 1500);
      return;
    }
    this.#freshen();
    if (this.session.model) await this.#suggest(visit);
    const next = this.#following(1);
    if (next) new Image().src = this.address(next.bag, next.stamp); // into the browser's cache
  }

  async #load(address) {
    const answer = await fetch(address);
    if (!answer.ok) {
      const values = await answer.json().catch(() => ({}));
      throw Object.assign(new Error(values.message ?? answer.statusText), { status: answer.status });
    }
    const picture = new Image();
    picture.src = URL.createObjectURL(await answer.blob());
    await picture.decode();
    URL.revokeObjectURL(picture.src);
    return picture;
  }

  async #suggest(visit) {
    const { bag, stamp } = this.sheet;
    try {
      const found = await ask(`api/suggestion?bag=${encodeURIComponent(bag)}&stamp=${stamp}`);
      if (visit !== this.visit) return;
      this.suggestion = found.map(({ sure, ...click }) => ({ click, sure }));
      document.body.dataset.suggested = key(bag, stamp);
      this.refresh();
    } catch (error) {
      if (error.status) this.panel.toast(`no suggestion: ${error.message}`, "bad");
    }
  }

  // The proposed frame `step` on from this one, or from where the round was left for a frame beside it.
  #following(step) {
    const { proposals } = this.session;
    const here = proposals.findIndex((p) => key(p.bag, p.stamp) === this.sheet.key);
    if (here >= 0) this.place = here;
    return proposals[here >= 0 ? here + step : (this.place ?? -1) + Math.max(step, 0)];
  }

  step(by) {
    const next = this.#following(by);
    if (next) this.go(next.bag, next.stamp);
    else this.panel.toast(by > 0 ? this.#finished() : "This is the first proposed frame.");
  }

  // What training would refuse, in a sentence; empty where it will take what there is.
  rule() {
    const { first } = this.session, used = new Set();
    for (const { content } of this.sheets.values())
      if (isDone(content)) for (const { role } of [...content.clicks, ...content.areas]) used.add(role);
    if (!first || used.size < 2 || used.has(first)) return "";
    return `Click the ${first}, too (key 1): of several roles, training needs the ${first}, from which the policy aims.`;
  }

  #finished() {
    const open = this.session.proposals.filter((p) => !this.#touched(p)).length;
    if (!open && this.rule()) return this.rule();
    return open
      ? `This is the last proposed frame; ${open} before it ${open > 1 ? "are" : "is"} still open.`
      : `All proposed frames are done. Train with ${this.file}, or annotate any other frame.`;
  }

  scrub(by) {
    const stamps = this.episodes.get(this.sheet.bag), here = stamps.indexOf(this.sheet.stamp);
    const next = Math.min(stamps.length - 1, Math.max(0, here + by));
    if (next !== here) this.go(this.sheet.bag, stamps[next]);
  }

  episode(by) {
    const names = [...this.episodes.keys()], name = names[names.indexOf(this.sheet.bag) + by];
    if (name) this.go(name, this.episodes.get(name)[0]);
  }

  undo() {
    if (this.sheet.undo()) this.#changed();
  }

  redo() {
    if (this.sheet.redo()) this.#changed();
  }

  copy() {
    if (!this.before || !isMarked(this.before.content)) return this.panel.toast("The frame before has no marks to copy.");
    const { clicks, areas } = this.before.content, now = this.content();
    this.change({ clicks: [...now.clicks, ...clicks], areas: [...now.areas, ...areas], state: "" });
  }

  accept() {
    if (!this.stage.suggested.length) return;
    this.change({ ...this.content(), clicks: this.suggestion.map(({ click }) => click), state: "" });
  }

  clear() {
    if (isMarked(this.content()) || this.content().state) this.change(nothing);
  }

  empty() {
    this.change({ ...nothing, state: this.content().state === "empty" ? "" : "empty" });
  }

  skip() {
    const skipped = this.content().state === "skipped";
    this.change({ ...this.content(), state: skipped ? "" : "skipped" });
    if (!skipped) this.step(1);
  }

  choose(role) {
    this.role = role;
    if (this.stage.mark() && !this.stage.selected.fresh) this.stage.set({ role });
    else this.refresh();
  }

  use(tool) {
    this.tool = tool;
    this.stage.cancel();
  }

  done() {
    return this.session.proposals.filter((p) => isDone(this.#sheet(p.bag, p.stamp).content)).length;
  }

  async import(file) {
    if (file.size > this.session.limit)
      return this.panel.toast(`${file.name} is too large: at most ${this.session.limit >> 20} MB are taken.`, "bad");
    try {
      const found = await ask(`api/import?${this.query}`, { method: "POST", body: file });
      const known = await ask(`api/annotations?${this.query}`);
      for (const { bag, stamp, ...frame } of known.frames) {
        const sheet = this.#sheet(bag, stamp);
        if (frame.revision > sheet.revision && !this.saver.pending.has(sheet.key)) sheet.yield(frame);
      }
      const left = found.unknown ? `, ${found.unknown} not in these bags` : "";
      this.panel.toast(`${found.added} frames added, ${found.kept} of yours kept${left}.`);
      this.refresh();
    } catch (error) {
      this.panel.toast(`Not imported: ${error.message}`, "bad");
    }
  }
}

const app = new App();
app.start().catch((error) => {
  document.body.dataset.save = "error";
  $("#save").textContent = "not started";
  $("#message").hidden = false;
  $("#message").textContent = error.status ? error.message : "No connection to the server. Start it, and reload this page.";
  if (!error.status) console.error(error);
});
