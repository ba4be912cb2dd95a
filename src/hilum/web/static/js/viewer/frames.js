// Rendered frames from the server: a few requests at once, the frame on screen first, a bounded memory of bitmaps.

const AT_ONCE = 4;
const MEMORY_BYTES = 320 * 1024 * 1024;

export class FrameStore {
  #kept = new Map(); // URL → {bitmap, bytes}, oldest use first
  #bytes = 0;
  #running = new Map(); // URL → AbortController
  #wanted = [];
  #onArrival;
  #failed = new Map();

  constructor(onArrival) {
    this.#onArrival = onArrival;
  }

  get(url) {
    const entry = this.#kept.get(url);
    if (!entry) return null;
    this.#kept.delete(url);
    this.#kept.set(url, entry);
    return entry.bitmap;
  }

  failure(url) {
    return this.#failed.get(url) ?? "";
  }

  forgetFailure(url) {
    this.#failed.delete(url);
  }

  // `urls` in order of need replace all earlier wishes; requests that no one wants any more are stopped.
  want(urls) {
    this.#wanted = urls.filter((url) => !this.#kept.has(url) && !this.#failed.has(url));
    const needed = new Set(this.#wanted.slice(0, AT_ONCE * 4));
    for (const [url, controller] of this.#running) {
      if (!needed.has(url)) controller.abort();
    }
    this.#makeRoomForFirst();
    this.#start();
  }

  // The frame on screen does not queue behind prefetches.
  #makeRoomForFirst() {
    const first = this.#wanted[0];
    if (!first || this.#running.has(first) || this.#running.size < AT_ONCE) return;
    const [last] = [...this.#running.keys()].reverse();
    this.#running.get(last).abort();
    this.#running.delete(last);
  }

  #start() {
    for (const url of this.#wanted) {
      if (this.#running.size >= AT_ONCE) return;
      if (!this.#running.has(url)) this.#fetch(url);
    }
  }

  async #fetch(url) {
    const controller = new AbortController();
    this.#running.set(url, controller);
    try {
      const response = await fetch(url, {
        signal: controller.signal,
        credentials: "same-origin",
        headers: { accept: "image/png, image/jpeg;q=0.9" },
      });
      if (!response.ok) throw new Error(String(response.status));
      this.#keep(url, await createImageBitmap(await response.blob()));
    } catch (error) {
      if (error.name !== "AbortError") this.#failed.set(url, error.message || "no answer");
    }
    if (this.#running.get(url) === controller) this.#running.delete(url);
    this.#wanted = this.#wanted.filter((wish) => !this.#kept.has(wish) && !this.#failed.has(wish));
    if (!controller.signal.aborted) this.#onArrival(url);
    this.#start();
  }

  #keep(url, bitmap) {
    const bytes = bitmap.width * bitmap.height * 4;
    this.#kept.set(url, { bitmap, bytes });
    this.#bytes += bytes;
    for (const [oldest, entry] of this.#kept) {
      if (this.#bytes <= MEMORY_BYTES || oldest === url) return;
      this.#kept.delete(oldest);
      this.#bytes -= entry.bytes;
      entry.bitmap.close();
    }
  }
}
