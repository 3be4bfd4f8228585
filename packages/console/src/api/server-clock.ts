let offsetMs = 0;

/** The time by the clock of the server, in milliseconds since the epoch: schedules act by it, not by the clock of the browser. */
export function serverNowMs(): number {
  return toServerMs(Date.now());
}

/** A time of the browser's clock by that of the server. */
export function toServerMs(browserMs: number): number {
  return browserMs + offsetMs;
}

/**
 * Compares the clocks by the `Date` of a response, which has whole seconds. Clocks that agree as far as one can know stay as
 * they are; a response that took long says little.
 */
export function compareClocks(date: string | null, sentAtMs: number, receivedAtMs: number): void {
  const serverMs = Date.parse(date ?? '');
  if (Number.isNaN(serverMs)) return;
  const [least, most] = [serverMs - receivedAtMs, serverMs + 1_000 - sentAtMs];
  if (least <= offsetMs && offsetMs <= most) return;
  offsetMs = least <= 0 && most >= 0 ? 0 : (least + most) / 2;
}
