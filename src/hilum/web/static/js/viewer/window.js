// Windowing arithmetic: what an image rendered at one window would look like at another, without asking the server.

export const sameWindow = (a, b) => a === b || (!!a && !!b && a.center === b.center && a.width === b.width);

export const windowKey = (window) => (window ? `${window.center},${window.width}` : "");

// 256 entries: the grey of `from` → the grey of `to`, inverted if asked. Exact inside the range that `from` kept.
// A negative image (MONOCHROME1) comes with its greys turned over after windowing.
export function greyTable(from, to, inverted, negative = false) {
  const table = new Uint8ClampedArray(256);
  const moved = from && to && !sameWindow(from, to);
  for (let grey = 0; grey < 256; grey += 1) {
    let value = grey / 255;
    if (negative) value = 1 - value;
    if (moved) value = (from.center + (value - 0.5) * from.width - to.center) / to.width + 0.5;
    value = Math.min(Math.max(value, 0), 1);
    if (negative) value = 1 - value;
    table[grey] = 255 * (inverted ? 1 - value : value);
  }
  return table;
}

export function applyTable(pixels, table) {
  const data = pixels.data;
  for (let index = 0; index < data.length; index += 4) {
    data[index] = table[data[index]];
    data[index + 1] = table[data[index + 1]];
    data[index + 2] = table[data[index + 2]];
  }
  return pixels;
}

// A drag of one stage width moves the window's width by twice itself at wide windows, and never less than 256.
export function draggedWindow(start, dx, dy, stageSize) {
  const reach = Math.max(start.width * 2, 256) / stageSize;
  return {
    center: rounded(start.center + dy * reach),
    width: Math.max(rounded(start.width + dx * reach), 1),
  };
}

const rounded = (value) => (Math.abs(value) >= 10 ? Math.round(value) : Math.round(value * 100) / 100);

export const windowText = (window) => (window ? `C ${window.center}  W ${window.width}` : "");
