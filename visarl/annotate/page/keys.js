// Everything on the keyboard.

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export function listen(app) {
  const { stage } = app, help = document.querySelector("#help");
  const commands = {
    c: () => app.use("click"), b: () => app.use("brush"), x: () => app.use("box"),
    n: () => app.step(1), p: () => app.step(-1), a: () => app.accept(), v: () => app.copy(),
    e: () => app.empty(), s: () => app.skip(), m: () => stage.nextMark(),
    h: () => { stage.showHeat = !stage.showHeat; stage.paint(); },
    ",": () => app.scrub(-1), ".": () => app.scrub(1), "<": () => app.scrub(-10), ">": () => app.scrub(10),
    ";": () => app.scrub(-10), ":": () => app.scrub(10), // the same keys with Shift on other layouts
    pageup: () => app.episode(-1), pagedown: () => app.episode(1),
    "[": () => stage.resize(-1), "]": () => stage.resize(1), "{": () => stage.resize(-1, true), "}": () => stage.resize(1, true),
    "+": () => stage.zoomBy(1.25), "=": () => stage.zoomBy(1.25), "-": () => stage.zoomBy(0.8), "0": () => stage.fit(),
    enter: () => stage.enter(), escape: () => stage.cancel(), "?": () => help.showModal(),
    delete: () => stage.remove(), backspace: () => stage.remove(),
  };
  app.session.roles.forEach(({ name }, index) => { commands[index + 1] = () => app.choose(name); });

  addEventListener("keydown", (event) => {
    if (help.open || event.altKey || event.isComposing) return;
    const typing = event.target.matches("select, input:not([type=range])");
    if (typing) return;
    const name = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (name !== "z" && name !== "y") return;
      event.preventDefault();
      return name === "y" || event.shiftKey ? app.redo() : app.undo();
    }
    // A focused button or slider keeps the keys that work it.
    if (event.target.matches("button, summary, a") && (name === "enter" || name === " ")) return;
    if (event.target.matches("input[type=range]") && (event.key in ARROWS || name.startsWith("page"))) return;
    if (event.key in ARROWS) {
      event.preventDefault();
      return stage.nudge(...ARROWS[event.key], event.shiftKey);
    }
    if (name === " ") {
      event.preventDefault();
      stage.panKey = true;
      return;
    }
    if (commands[name]) {
      event.preventDefault();
      commands[name]();
    }
  });
  addEventListener("keyup", (event) => { if (event.key === " ") stage.panKey = false; });
  addEventListener("blur", () => { stage.panKey = false; });
}
