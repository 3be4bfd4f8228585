/// <reference lib="dom" />
import type { Locator, Page } from 'playwright-core';

/** Responsiveness of a page. */
export interface Responsiveness {
  /** Longest task of the main thread, in milliseconds; 0 if no task took 50 ms. */
  readonly longestTaskMs: number;
  /** Intervals of the animation frames, in milliseconds. */
  readonly frames: {
    readonly count: number;
    readonly p50Ms: number;
    readonly p95Ms: number;
    readonly maxMs: number;
  };
}

interface Watch {
  readonly tasks: number[];
  readonly frames: number[];
  stop: () => void;
}

type WatchedWindow = typeof window & { flagcastWatch?: Watch };

/** Measures animation frames and long tasks of the page during `work`. */
export async function measureResponsiveness(page: Page, work: () => Promise<void>): Promise<Responsiveness> {
  await page.evaluate(() => {
    const tasks: number[] = [];
    const frames: number[] = [];
    const observer = new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) tasks.push(duration);
    });
    observer.observe({ type: 'longtask' });
    let before = performance.now();
    let request = requestAnimationFrame(function next(now) {
      frames.push(now - before);
      before = now;
      request = requestAnimationFrame(next);
    });
    (window as WatchedWindow).flagcastWatch = {
      tasks,
      frames,
      stop: () => {
        for (const { duration } of observer.takeRecords()) tasks.push(duration);
        observer.disconnect();
        cancelAnimationFrame(request);
      },
    };
  });
  await work();
  const { tasks, frames } = await page.evaluate(() => {
    const watch = (window as WatchedWindow).flagcastWatch;
    watch?.stop();
    return { tasks: watch?.tasks ?? [], frames: watch?.frames ?? [] };
  });
  const sorted = [...frames].sort((one, other) => one - other);
  const share = (part: number): number => Math.round(sorted[Math.floor((sorted.length - 1) * part)] ?? NaN);
  return {
    longestTaskMs: Math.round(Math.max(0, ...tasks)),
    frames: { count: frames.length, p50Ms: share(0.5), p95Ms: share(0.95), maxMs: share(1) },
  };
}

/** Scrolls by `pixels` in `steps` wheel events, one for each frame, with the pointer over `target`. */
export async function scrollWheel(page: Page, target: Locator, pixels: number, steps: number): Promise<void> {
  await target.hover();
  for (let step = 0; step < steps; step += 1) {
    await page.mouse.wheel(0, pixels / steps);
    await page.evaluate(async () => await new Promise(requestAnimationFrame));
  }
}
