// What is marked on a frame, as values that never change: {clicks, areas, state}. And how it came about: undo, redo.

export const nothing = Object.freeze({ clicks: [], areas: [], state: "" });
export const key = (bag, stamp) => `${bag}|${stamp}`;
export const clamp = (x, low, high) => Math.min(high, Math.max(low, x));
const MERGE_MS = 900;

export const isMarked = (content) => content.clicks.length + content.areas.length > 0;
export const isDone = (content) => content.state === "empty" || (content.state === "" && isMarked(content));
export const stateOf = (content) => content.state || (isMarked(content) ? "done" : "open");

// A mark is named by {kind: "clicks" | "areas", index}.
export const markOf = (content, at) => (at ? content[at.kind][at.index] : undefined);
export const names = (content) => [
  ...content.clicks.map((_, index) => ({ kind: "clicks", index })),
  ...content.areas.map((_, index) => ({ kind: "areas", index })),
];

// Marking a frame takes back that it is empty, not that it is skipped.
const marked = (content) => ({ ...content, state: content.state === "empty" ? "" : content.state });

export const added = (content, kind, mark) => marked({ ...content, [kind]: [...content[kind], mark] });
export const removed = (content, at) => ({ ...content, [at.kind]: content[at.kind].filter((_, i) => i !== at.index) });
export const replaced = (content, at, mark) =>
  ({ ...content, [at.kind]: content[at.kind].map((old, i) => (i === at.index ? mark : old)) });

export const moved = (mark, du, dv) => {
  if (!mark.points) return { ...mark, u: clamp(mark.u + du, 0, 1), v: clamp(mark.v + dv, 0, 1) };
  const us = mark.points.map((p) => p[0]), vs = mark.points.map((p) => p[1]);
  du = clamp(du, -Math.min(...us), 1 - Math.max(...us));
  dv = clamp(dv, -Math.min(...vs), 1 - Math.max(...vs));
  return { ...mark, points: mark.points.map(([u, v]) => [u + du, v + dv]) };
};

// The size of a click is its sigma, of a stroke its width; an outline has none.
export const sizeName = (mark) => (mark.points ? (mark.width > 0 ? "width" : null) : "sigma");

// One frame in this tab: its marks, the revision that the server gave them, and the way back.
export class Sheet {
  constructor(bag, stamp, frame = {}) {
    Object.assign(this, { bag, stamp, key: key(bag, stamp), past: [], future: [], tag: null, time: 0 });
    this.take(frame);
  }

  take({ clicks = [], areas = [], state = "", revision = 0 }) {
    this.content = { clicks, areas, state };
    this.revision = revision;
  }

  // Another version has come from elsewhere: show it; undo leads back to ours.
  yield(frame) {
    this.past.push(this.content);
    this.future = [];
    this.tag = null;
    this.take(frame);
  }

  // `tag`: changes with the same one in quick succession (a turning wheel) are one step to undo.
  change(content, tag = null) {
    const now = performance.now();
    if (!(tag && tag === this.tag && now - this.time < MERGE_MS)) this.past.push(this.content);
    Object.assign(this, { content, future: [], tag, time: now });
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.content);
    this.content = this.past.pop();
    this.tag = null;
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.content);
    this.content = this.future.pop();
    this.tag = null;
    return true;
  }
}
