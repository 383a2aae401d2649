// The map that training will see, drawn over the picture in the roles' colours: the maximum of Gaussians and areas.

const SIZE = 192;
const OPACITY = 0.68;

export function trace(context, area, side) {
  context.beginPath();
  area.points.forEach(([u, v], i) => context[i ? "lineTo" : "moveTo"](u * side, v * side));
  if (area.width > 0) {
    if (area.points.length === 1) context.lineTo(area.points[0][0] * side + 0.01, area.points[0][1] * side);
    context.lineWidth = area.width * side;
    context.lineCap = context.lineJoin = "round";
  } else context.closePath();
}

export class Heat {
  constructor() {
    this.canvas = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
    this.context = this.canvas.getContext("2d");
    this.mask = Object.assign(document.createElement("canvas"), { width: SIZE, height: SIZE });
    this.pen = this.mask.getContext("2d", { willReadFrequently: true });
  }

  // `colours`: [r, g, b] by role. Returns the canvas.
  draw(content, colours) {
    const maps = new Map();
    const map = (role) => maps.get(role) ?? maps.set(role, new Float32Array(SIZE * SIZE)).get(role);
    for (const click of content.clicks) this.#gaussian(map(click.role), click);
    for (const area of content.areas) this.#area(map(area.role), area);
    const image = this.context.createImageData(SIZE, SIZE), data = image.data;
    for (let i = 0, p = 0; i < SIZE * SIZE; i++, p += 4) {
      let r = 0, g = 0, b = 0, alpha = 0;
      for (const [role, values] of maps) {
        const a = OPACITY * values[i], rest = 1 - a, c = colours[role];
        r = r * rest + c[0] * a; g = g * rest + c[1] * a; b = b * rest + c[2] * a;
        alpha = a + alpha * rest;
      }
      if (alpha > 0.004) {
        data[p] = r / alpha; data[p + 1] = g / alpha; data[p + 2] = b / alpha; data[p + 3] = alpha * 255;
      }
    }
    this.context.putImageData(image, 0, 0);
    return this.canvas;
  }

  #gaussian(map, { u, v, sigma, weight }) {
    const s = sigma * SIZE, x = u * SIZE - 0.5, y = v * SIZE - 0.5, reach = Math.ceil(3.5 * s);
    const left = Math.max(0, Math.floor(x - reach)), right = Math.min(SIZE - 1, Math.ceil(x + reach));
    for (let row = Math.max(0, Math.floor(y - reach)); row <= Math.min(SIZE - 1, y + reach); row++)
      for (let column = left; column <= right; column++) {
        const value = weight * Math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * s * s));
        if (value > map[row * SIZE + column]) map[row * SIZE + column] = value;
      }
  }

  #area(map, area) {
    const pen = this.pen;
    pen.clearRect(0, 0, SIZE, SIZE);
    pen.fillStyle = pen.strokeStyle = "#fff";
    trace(pen, area, SIZE);
    if (area.width > 0) pen.stroke(); else pen.fill();
    const data = pen.getImageData(0, 0, SIZE, SIZE).data;
    for (let i = 0; i < SIZE * SIZE; i++) map[i] = Math.max(map[i], (area.weight * data[4 * i + 3]) / 255);
  }
}
