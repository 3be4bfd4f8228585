/// <reference lib="dom" />
import type { Locator, Page } from 'playwright-core';

/** How a page kept up with what it was given to do. */
export interface Responsiveness {
  /** The longest that the page answered nobody, in milliseconds; 0 where no task took 50 ms. */
  readonly longestTaskMs: number;
  /** From one frame to the next, in milliseconds. */
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

/** Watches the page's frames and long tasks while `work` goes on. */
export async function watchResponsiveness(page: Page, work: () => Promise<void>): Promise<Responsiveness> {
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

/** Turns the wheel over something, by so many pixels in so many turns, a frame each. */
export async function turnWheel(page: Page, over: Locator, pixels: number, turns: number): Promise<void> {
  await over.hover();
  for (let turn = 0; turn < turns; turn += 1) {
    await page.mouse.wheel(0, pixels / turns);
    await page.evaluate(async () => await new Promise(requestAnimationFrame));
  }
}
