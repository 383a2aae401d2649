// The picture, what is marked on it, and the hand on it: zoom, pan, click, drag, brush, box, and a cross for the keyboard.

import { Heat, trace } from "./heat.js";
import { added, clamp, markOf, moved, names, removed, replaced, sizeName } from "./marks.js";

const MARGIN = 18;
const REACH = 12; // px on the screen within which a mark is hit
const LOOK = 256; // sizes are told in pixels of a picture of this side, as in the paper
export const LIMITS = { sigma: [2 / LOOK, 60 / LOOK], width: [2 / LOOK, 80 / LOOK], weight: [0.05, 1] };

export class Stage {
  // `app`: {content(), change(content, tag), refresh()}, and what is chosen: role, tool, sigma, width, weight, colours.
  constructor(canvas, app) {
    Object.assign(this, { canvas, app, pen: canvas.getContext("2d"), heat: new Heat() });
    Object.assign(this, { picture: null, zoom: 1, pan: [0, 0], cross: [0.5, 0.5], showCross: false, showHeat: true });
    Object.assign(this, { selected: null, hovered: null, drag: null, draft: null, corner: null, suggested: [] });
    new ResizeObserver(() => this.#resize()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", () => { this.drag = this.draft = null; this.paint(); });
    canvas.addEventListener("pointerleave", () => { this.hovered = null; this.paint(); });
    canvas.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  show(picture) {
    this.picture = picture;
    this.drag = this.draft = this.corner = null;
    this.paint();
  }

  // A mark that was just placed, moved or resized is `fresh`: a role's key then means the next one.
  select(at) {
    this.selected = at;
    this.app.refresh();
  }

  // The selected mark, and forgets it where it is gone.
  mark() {
    const mark = markOf(this.app.content(), this.selected);
    if (!mark) this.selected = null;
    return mark;
  }

  #resize() {
    const ratio = devicePixelRatio || 1, box = this.canvas.getBoundingClientRect();
    [this.width, this.height] = [box.width, box.height];
    this.canvas.width = Math.round(box.width * ratio);
    this.canvas.height = Math.round(box.height * ratio);
    this.paint();
  }

  // Where the picture lies on the canvas [px]: left, top, side.
  #place() {
    const base = Math.max(40, Math.min(this.width, this.height) - 2 * MARGIN), side = base * this.zoom;
    return [(this.width - side) / 2 + this.pan[0] * side, (this.height - side) / 2 + this.pan[1] * side, side];
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect(), [left, top, side] = this.#place();
    return [(event.clientX - box.left - left) / side, (event.clientY - box.top - top) / side];
  }

  zoomBy(factor, at = [0.5, 0.5]) {
    const before = this.zoom, [left, top, side] = this.#place();
    this.zoom = clamp(this.zoom * factor, 1, 12);
    const [newLeft, newTop, newSide] = this.#place();
    // What was under the pointer stays there.
    this.pan[0] += (left + at[0] * side - newLeft - at[0] * newSide) / newSide;
    this.pan[1] += (top + at[1] * side - newTop - at[1] * newSide) / newSide;
    if (before !== this.zoom || factor < 1) this.#limit();
    this.app.refresh();
  }

  fit() {
    this.zoom = 1;
    this.pan = [0, 0];
    this.app.refresh();
  }

  #limit() {
    const far = this.zoom > 1 ? 0.5 : 0;
    this.pan = this.pan.map((x) => clamp(x, -far, far));
  }

  // The mark under (u, v), the smallest first.
  #hit([u, v]) {
    const content = this.app.content(), side = this.#place()[2];
    let best = null, nearest = Infinity;
    for (const at of names(content)) {
      const mark = markOf(content, at);
      let distance;
      if (at.kind === "clicks") distance = Math.hypot(mark.u - u, mark.v - v) / Math.max(REACH / side, mark.sigma);
      else distance = this.#inside(mark, u * side, v * side, side) ? 1 : Infinity;
      if (distance <= 1 && distance < nearest) [best, nearest] = [at, distance];
    }
    return best;
  }

  #inside(area, x, y, side) {
    this.pen.save();
    this.pen.setTransform(1, 0, 0, 1, 0, 0);
    trace(this.pen, area, side);
    const found = area.width > 0 ? this.pen.isPointInStroke(x, y) : this.pen.isPointInPath(x, y);
    this.pen.restore();
    return found;
  }

  #down(event) {
    if (!this.picture && event.button === 0 && !this.panKey) return;
    this.canvas.focus({ preventScroll: true });
    this.canvas.setPointerCapture(event.pointerId);
    this.showCross = false;
    const at = this.#at(event), { app } = this;
    if (event.button === 1 || (event.button === 0 && this.panKey)) {
      event.preventDefault();
      this.drag = { pan: [...this.pan], from: [event.clientX, event.clientY] };
      return;
    }
    const hit = this.#hit(at);
    if (event.button === 2) {
      if (hit) this.remove(hit);
      return;
    }
    if (event.button !== 0) return;
    const inside = at.every((x) => x >= 0 && x <= 1);
    if (hit && app.tool !== "brush") {
      this.selected = hit;
      this.drag = { mark: markOf(app.content(), hit), from: at, hit };
    } else if (!inside) this.selected = null;
    else if (app.tool === "click") {
      this.add("clicks", { u: at[0], v: at[1], role: app.role, sigma: app.sigma, weight: app.weight });
      this.drag = { mark: this.mark(), from: at, hit: this.selected, tag: `placed${this.selected.index}` };
    } else if (app.tool === "brush") this.draft = { points: [at], role: app.role, width: app.width, weight: app.weight };
    else this.#begin(at);
    app.refresh();
  }

  #begin(at) {
    this.corner = at;
    this.draft = { points: [at, at, at, at], role: this.app.role, width: 0, weight: this.app.weight };
  }

  #stretch([u, v]) {
    const [a, b] = this.corner, [x, y] = [clamp(u, 0, 1), clamp(v, 0, 1)];
    this.draft.points = [[a, b], [x, b], [x, y], [a, y]];
  }

  #move(event) {
    const at = this.#at(event), { app, drag } = this;
    if (drag?.pan) {
      const side = this.#place()[2];
      this.pan = [drag.pan[0] + (event.clientX - drag.from[0]) / side, drag.pan[1] + (event.clientY - drag.from[1]) / side];
      this.#limit();
    } else if (drag) {
      const mark = moved(drag.mark, at[0] - drag.from[0], at[1] - drag.from[1]);
      const side = this.#place()[2];
      // A hand that trembles while it clicks does not move anything.
      if (drag.now || Math.hypot(at[0] - drag.from[0], at[1] - drag.from[1]) * side > 3) drag.now = mark;
    } else if (this.draft && app.tool === "brush") {
      const last = this.draft.points.at(-1), next = at.map((x) => clamp(x, 0, 1));
      if (Math.hypot(next[0] - last[0], next[1] - last[1]) > 0.004) this.draft.points.push(next);
    } else if (this.draft) this.#stretch(at);
    else {
      const hit = this.#hit(at);
      this.hovered = hit;
      this.canvas.style.cursor = this.panKey ? "grab" : hit && app.tool !== "brush" ? "move" : "crosshair";
    }
    this.paint();
  }

  #up(event) {
    const { drag, draft } = this;
    this.drag = this.draft = this.corner = null;
    if (drag?.now) this.selected = { ...drag.hit, fresh: true };
    if (drag?.now) this.app.change(replaced(this.app.content(), drag.hit, drag.now), drag.tag ?? null);
    else if (draft) this.#finish(draft);
    this.paint();
  }

  #finish(draft) {
    const us = draft.points.map((p) => p[0]), vs = draft.points.map((p) => p[1]);
    const flat = Math.min(Math.max(...us) - Math.min(...us), Math.max(...vs) - Math.min(...vs)) < 0.005;
    if (draft.width > 0 || !flat) this.add("areas", draft); // a box without an extent was a slip
  }

  #wheel(event) {
    event.preventDefault();
    const turn = -(event.deltaY || event.deltaX), at = this.#at(event); // Shift turns a wheel's y into x
    const target = event.ctrlKey ? null : this.#hit(at) ?? null;
    if (target) {
      this.selected = { ...target, fresh: true };
      this.resize(Math.sign(turn), event.shiftKey);
    } else this.zoomBy(Math.exp(clamp(turn, -150, 150) / 500), at);
  }

  // ---- what the keyboard and the panel do, too

  add(kind, mark) {
    const content = this.app.content(), index = content[kind].length;
    this.selected = { kind, index, fresh: true };
    this.app.change(added(content, kind, mark), kind === "clicks" ? `placed${index}` : null); // moved at once: one step
  }

  remove(at = this.selected) {
    if (!markOf(this.app.content(), at)) return;
    this.selected = null;
    this.app.change(removed(this.app.content(), at));
  }

  set(values, tag) {
    const mark = this.mark();
    if (mark) this.app.change(replaced(this.app.content(), this.selected, { ...mark, ...values }), tag);
  }

  // One notch larger or smaller: the selected mark, else the next one.
  resize(sign, weight = false) {
    const mark = this.mark();
    const name = weight ? "weight" : mark ? sizeName(mark) : this.app.tool === "brush" ? "width" : "sigma";
    if (!name) return;
    const old = mark ? mark[name] : this.app[name], [low, high] = LIMITS[name];
    const next = clamp(weight ? Math.round(20 * (old + 0.05 * sign)) / 20 : old * 1.1 ** sign, low, high);
    if (mark) this.set({ [name]: next }, `${name}${this.selected.kind}${this.selected.index}`);
    else { this.app[name] = next; this.app.refresh(); }
  }

  nudge(du, dv, far) {
    const step = (far ? 10 : 1) / LOOK, mark = this.mark();
    if (mark && !this.corner) {
      const next = moved(mark, du * step, dv * step);
      this.app.change(replaced(this.app.content(), this.selected, next), `nudge${this.selected.kind}${this.selected.index}`);
      return;
    }
    const cross = this.showCross ? (far ? 10 : 2) / LOOK : 0; // the first stroke shows where it is
    this.cross = [clamp(this.cross[0] + du * cross, 0, 1), clamp(this.cross[1] + dv * cross, 0, 1)];
    this.showCross = true;
    if (this.corner) this.#stretch(this.cross);
    this.paint();
  }

  enter() {
    const { app } = this, at = [...this.cross];
    if (!this.showCross || !this.picture) { this.showCross = true; return this.paint(); }
    if (app.tool === "click") this.add("clicks", { u: at[0], v: at[1], role: app.role, sigma: app.sigma, weight: app.weight });
    else if (app.tool === "brush") this.add("areas", { points: [at], role: app.role, width: app.width, weight: app.weight });
    else if (!this.corner) { this.#begin(at); return this.paint(); }
    else {
      const { draft } = this;
      this.draft = this.corner = null;
      this.#finish(draft);
    }
    this.selected = null; // the arrows go on with the cross
    app.refresh();
  }

  nextMark() {
    const all = names(this.app.content());
    const now = all.findIndex((at) => at.kind === this.selected?.kind && at.index === this.selected?.index);
    this.select(all.length ? all[(now + 1) % all.length] : null);
  }

  cancel() {
    this.drag = this.draft = this.corner = this.selected = null;
    this.showCross = false;
    this.app.refresh();
  }

  // ---- drawing

  paint() {
    if (this.waiting) return;
    this.waiting = requestAnimationFrame(() => { this.waiting = 0; this.#paint(); });
  }

  #paint() {
    const { pen, app } = this, ratio = devicePixelRatio || 1, [left, top, side] = this.#place();
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.save();
    pen.translate(left, top);
    if (this.picture) {
      pen.imageSmoothingEnabled = side / this.picture.naturalWidth < 3;
      pen.imageSmoothingQuality = "high";
      pen.drawImage(this.picture, 0, 0, side, side);
    }
    let content = app.content();
    if (this.drag?.now) content = replaced(content, this.drag.hit, this.drag.now);
    const drawn = this.draft ? { ...content, areas: [...content.areas, this.draft] } : content;
    pen.imageSmoothingEnabled = true;
    if (this.showHeat) pen.drawImage(this.heat.draw(drawn, app.colours), 0, 0, side, side);
    if (this.picture) {
      for (const at of names(drawn)) this.#mark(markOf(drawn, at), at, side);
      for (const { click, sure } of this.suggested) this.#suggestion(click, sure, side);
      if (this.showCross) this.#cross(side);
    }
    pen.restore();
  }

  #colour(role, alpha = 1) {
    return `rgb(${this.app.colours[role].join(" ")} / ${alpha})`;
  }

  #mark(mark, at, side) {
    const { pen } = this, same = (other) => other?.kind === at.kind && other.index === at.index;
    const chosen = same(this.selected), near = same(this.hovered);
    const path = () => {
      if (mark.points) return trace(pen, mark.width > 0 ? { ...mark, width: 0 } : mark, side);
      pen.beginPath();
      pen.arc(mark.u * side, mark.v * side, mark.sigma * side, 0, 7);
    };
    if (mark.points && mark.width > 0) {
      trace(pen, mark, side);
      pen.strokeStyle = this.#colour(mark.role, this.showHeat ? 0.25 : 0.5);
      pen.stroke();
      if (!chosen && !near) return;
      pen.lineWidth = 1.5;
      pen.setLineDash([5, 4]);
      pen.strokeStyle = "#fff";
      pen.beginPath();
      mark.points.forEach(([u, v], i) => pen[i ? "lineTo" : "moveTo"](u * side, v * side));
      pen.stroke();
      pen.setLineDash([]);
      return;
    }
    path();
    pen.lineWidth = 4; pen.strokeStyle = "#0009"; pen.stroke();
    pen.lineWidth = chosen || near ? 2.5 : 1.75; pen.strokeStyle = this.#colour(mark.role); pen.stroke();
    if (chosen) {
      pen.setLineDash([5, 5]); pen.lineWidth = 1.5; pen.strokeStyle = "#fff"; pen.stroke(); pen.setLineDash([]);
    }
    if (!mark.points) {
      pen.beginPath();
      pen.arc(mark.u * side, mark.v * side, 3.5, 0, 7);
      pen.fillStyle = "#fff"; pen.fill();
      pen.lineWidth = 1.5; pen.strokeStyle = "#000a"; pen.stroke();
    }
  }

  #suggestion(click, sure, side) {
    const { pen } = this, x = click.u * side, y = click.v * side, radius = click.sigma * side;
    pen.beginPath();
    pen.arc(x, y, radius, 0, 7);
    pen.fillStyle = this.#colour(click.role, 0.16); pen.fill();
    pen.setLineDash([6, 5]);
    pen.lineWidth = 4; pen.strokeStyle = "#0008"; pen.stroke();
    pen.lineWidth = 2; pen.strokeStyle = this.#colour(click.role); pen.stroke();
    pen.setLineDash([]);
    const text = `${click.role}? ${Math.round(100 * sure)} %`;
    pen.font = "600 11.5px system-ui, sans-serif";
    const wide = pen.measureText(text).width + 14;
    const left = x + radius + 8 + wide < side ? x + radius + 8 : x - radius - 8 - wide;
    pen.beginPath();
    pen.roundRect(left, y - 10, wide, 20, 10);
    pen.fillStyle = "#10151bdd"; pen.fill();
    pen.fillStyle = this.#colour(click.role);
    pen.textBaseline = "middle";
    pen.fillText(text, left + 7, y + 0.5);
  }

  #cross(side) {
    const { pen } = this, [x, y] = this.cross.map((value) => value * side);
    for (const [width, colour] of [[3.5, "#000b"], [1.25, "#fff"]]) {
      pen.beginPath();
      pen.moveTo(x - 14, y); pen.lineTo(x + 14, y); pen.moveTo(x, y - 14); pen.lineTo(x, y + 14);
      pen.lineWidth = width; pen.strokeStyle = colour; pen.stroke();
    }
  }
}
