// Drawing one bitmap: fitted, zoomed, moved, and recoloured when the window on screen is not the one it came with.

import { applyTable, greyTable, sameWindow } from "./window.js";

export class Surface {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d", { alpha: false });
    this.scratch = document.createElement("canvas");
    this.scratchContext = this.scratch.getContext("2d", { willReadFrequently: true });
    this.source = null; // {bitmap, pixels}: the untouched pixels of the bitmap last recoloured
  }

  // Returns false while the stage has no size (hidden page).
  resize() {
    const ratio = devicePixelRatio || 1;
    const { clientWidth, clientHeight } = this.canvas;
    if (!clientWidth || !clientHeight) return false;
    const width = Math.round(clientWidth * ratio);
    const height = Math.round(clientHeight * ratio);
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    return true;
  }

  fitScale(columns, rows) {
    return Math.min(this.canvas.width / columns, this.canvas.height / rows);
  }

  clear() {
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.fillStyle = "#000";
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }

  // `look` has the wanted window, inversion, zoom (1 = fitted) and pan in device pixels.
  draw(bitmap, bitmapWindow, size, look) {
    this.clear();
    const scale = this.fitScale(size.columns, size.rows) * look.zoom;
    const width = size.columns * scale;
    const height = size.rows * scale;
    const x = (this.canvas.width - width) / 2 + look.pan.x;
    const y = (this.canvas.height - height) / 2 + look.pan.y;
    this.context.imageSmoothingEnabled = true;
    this.context.imageSmoothingQuality = "high";
    const plain = !look.inverted && (!look.window || sameWindow(bitmapWindow, look.window));
    const image = plain ? bitmap : this.#recoloured(bitmap, bitmapWindow, look);
    this.context.drawImage(image, x, y, width, height);
  }

  #recoloured(bitmap, bitmapWindow, look) {
    const { width, height } = bitmap;
    if (this.source?.bitmap !== bitmap) {
      Object.assign(this.scratch, { width, height });
      this.scratchContext.drawImage(bitmap, 0, 0);
      this.source = { bitmap, pixels: this.scratchContext.getImageData(0, 0, width, height) };
    }
    const copy = new ImageData(new Uint8ClampedArray(this.source.pixels.data), width, height);
    this.scratchContext.putImageData(
      applyTable(copy, greyTable(bitmapWindow, look.window ?? bitmapWindow, look.inverted, look.negative)), 0, 0);
    return this.scratch;
  }
}
