// Saves every change at once, in order, and gives up never: what could not be sent waits in localStorage, also across
// a reload, and goes out when the server is back.

const RETRY_MS = [500, 1000, 2000, 4000];
const TIMEOUT_MS = 15000;

const newName = () => [...crypto.getRandomValues(new Uint8Array(12))].map((x) => x.toString(16).padStart(2, "0")).join("");

export async function ask(path, options = {}) {
  const answer = await fetch(path, { signal: AbortSignal.timeout(TIMEOUT_MS), ...options });
  const values = await answer.json().catch(() => ({}));
  if (!answer.ok) throw Object.assign(new Error(values.message ?? `${answer.status} ${answer.statusText}`), { status: answer.status, values });
  return values;
}

export class Saver {
  // `told`: {state(name, text), saved(key, revision), conflict(key, frame, content)}
  constructor(session, annotator, told) {
    this.query = `annotator=${encodeURIComponent(annotator)}`;
    this.prefix = `visarl:${session}:${annotator}:`;
    this.told = told;
    this.pending = new Map(); // key → {bag, stamp, content, revision, name, sent}
    this.sending = new Set();
    this.failures = 0;
    addEventListener("online", () => this.#retry());
  }

  // Unsent changes of an earlier visit, by key.
  stored() {
    const found = new Map();
    for (const name of Object.keys(localStorage).filter((name) => name.startsWith(this.prefix)))
      try { found.set(name.slice(this.prefix.length), JSON.parse(localStorage.getItem(name))); } catch { /* not ours */ }
    return found;
  }

  resume(key, item) {
    this.pending.set(key, item);
    this.#send(key);
  }

  change(sheet) {
    const { key, bag, stamp, content, revision } = sheet, old = this.pending.get(key);
    const sent = old ? (old.tried ? [...old.sent, old.name] : old.sent) : [];
    this.#keep(key, { bag, stamp, content, revision: old?.revision ?? revision, name: newName(), sent: sent.slice(-1000) });
    this.#send(key);
  }

  #keep(key, item) {
    this.pending.set(key, item);
    try { localStorage.setItem(this.prefix + key, JSON.stringify(item)); } catch { /* full or forbidden: memory has it */ }
  }

  #drop(key) {
    this.pending.delete(key);
    localStorage.removeItem(this.prefix + key);
  }

  async #send(key) {
    if (this.sending.has(key)) return;
    this.sending.add(key);
    if (!this.failures) this.told.state("saving", "saving …");
    try {
      while (this.pending.has(key)) {
        const item = this.pending.get(key);
        item.tried = true;
        this.#keep(key, item);
        const { bag, stamp, content, revision, name, sent } = item;
        const body = JSON.stringify({ bag, stamp, ...content, revision, save: name, unacknowledged: sent });
        const answer = await ask(`api/frame?${this.query}`, { method: "PUT", body, headers: { "Content-Type": "application/json" } });
        this.failures = 0;
        const newer = this.pending.get(key);
        if (newer === item) this.#drop(key);
        else this.#keep(key, { ...newer, revision: answer.revision, sent: [] });
        this.told.saved(key, answer.revision);
      }
    } catch (error) {
      this.#failed(key, error);
    } finally {
      this.sending.delete(key);
    }
    if (!this.pending.size && !this.sending.size && !this.refused) this.told.state("saved", "saved");
  }

  #failed(key, error) {
    this.refused = false;
    if (error.status === 409) {
      const { content } = this.pending.get(key);
      this.#drop(key);
      this.told.conflict(key, error.values.frame, content);
    } else if ([404, 413, 422].includes(error.status)) { // the server will never take this one
      this.#drop(key);
      this.refused = true;
      this.told.state("error", `not saved: ${error.message}`);
    } else {
      const wait = RETRY_MS[Math.min(this.failures++, RETRY_MS.length - 1)];
      this.told.state("offline", error.status ? `not saved, will retry: ${error.message}` : "offline, will retry");
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.#retry(), wait);
    }
  }

  #retry() {
    for (const key of this.pending.keys()) this.#send(key);
  }
}
