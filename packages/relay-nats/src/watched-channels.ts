/** How long a channel is followed after nobody watches it any more, in milliseconds: those who come back find it. */
const lingerMs = 60_000;

/** The channels that somebody watches, or did a moment ago. */
export class WatchedChannels {
  readonly wanted = new Set<string>();
  readonly #leaving = new Map<string, NodeJS.Timeout>();
  readonly #onChange: (channel: string, isWanted: boolean) => void;

  constructor(onChange: (channel: string, isWanted: boolean) => void) {
    this.#onChange = onChange;
  }

  watch(channel: string, isWatched: boolean): void {
    clearTimeout(this.#leaving.get(channel));
    this.#leaving.delete(channel);
    if (isWatched) {
      if (this.wanted.has(channel)) return;
      this.wanted.add(channel);
      this.#onChange(channel, true);
      return;
    }
    const timer = setTimeout(() => {
      this.#leaving.delete(channel);
      this.wanted.delete(channel);
      this.#onChange(channel, false);
    }, lingerMs);
    timer.unref();
    this.#leaving.set(channel, timer);
  }

  end(): void {
    for (const timer of this.#leaving.values()) clearTimeout(timer);
    this.#leaving.clear();
  }
}
