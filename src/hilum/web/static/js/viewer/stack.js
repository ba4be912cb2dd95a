// A series as one stack of frames, and the URL of each frame at a window and a size.

import { windowKey } from "./window.js";

const SIZE_STEP = 256;

export class Stack {
  constructor(series) {
    this.series = series;
    this.frames = series.instances.flatMap((instance) =>
      Array.from({ length: instance.frames }, (_, index) => ({ instance, number: index + 1 })),
    );
  }

  get length() {
    return this.frames.length;
  }

  // Colour has no window at all.
  get isGrey() {
    return Boolean(this.series.window ?? this.series.guess);
  }

  // The window the image has by itself; null for colour, and where the server fits one to the values.
  ownWindow(index) {
    return this.frames[index].instance.window ?? this.series.window;
  }

  // `pixels` is how many the image's longer side covers on screen; never more are asked for than exist.
  url(index, window, pixels) {
    const { instance, number } = this.frames[index];
    const query = [];
    if (window) query.push(`window=${windowKey(window)},linear`);
    const native = Math.max(instance.rows, instance.columns);
    const asked = Math.ceil(pixels / SIZE_STEP) * SIZE_STEP;
    if (asked < native) {
      const scale = asked / native;
      query.push(`viewport=${Math.round(instance.columns * scale)},${Math.round(instance.rows * scale)}`);
    }
    const path = `${instance.url}/frames/${number}/rendered`;
    return query.length ? `${path}?${query.join("&")}` : path;
  }

  // The frames near `index`, nearest first, more of them in the direction of travel.
  around(index, direction, ahead, behind) {
    const near = [];
    for (let step = 1; step <= Math.max(ahead, behind); step += 1) {
      if (step <= ahead) near.push(index + step * direction);
      if (step <= behind) near.push(index - step * direction);
    }
    return near.filter((place) => place >= 0 && place < this.length);
  }
}
