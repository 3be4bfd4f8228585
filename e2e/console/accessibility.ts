/// <reference lib="dom" />
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type axe from 'axe-core';
import type { Page } from 'playwright-core';

const source = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

type AxeWindow = typeof window & { axe: typeof axe };

/** Returns the serious and critical axe violations below the selector, one line for each kind of element. */
export async function findAxeViolations(page: Page, within = 'html'): Promise<string[]> {
  // Evaluated by Playwright, because the page's Content-Security-Policy forbids other scripts.
  if (!(await page.evaluate(() => 'axe' in window))) await page.evaluate(source);
  const found = await page.evaluate(async (selector) => {
    const { violations } = await (window as AxeWindow).axe.run(selector, { resultTypes: ['violations'] });
    return violations
      .filter(({ impact }) => impact === 'serious' || impact === 'critical')
      .flatMap(({ id, nodes }) =>
        nodes.map(({ html, failureSummary = '' }) => {
          const element = html
            .replace(/>.*/s, '>')
            .replaceAll(/ (id|style|title|datetime|aria-\w+)="[^"]*"/g, '');
          return `${id}: ${element} ${failureSummary.replaceAll(/\s+/g, ' ')}`;
        }),
      );
  }, within);
  return [...new Set(found)];
}

/** Waits until all animations have ended, because fading elements have other colours. */
export async function waitForAnimations(page: Page): Promise<void> {
  await page.evaluate(async () => {
    await new Promise(requestAnimationFrame);
    const ending = document
      .getAnimations()
      .filter(({ effect }) => effect?.getComputedTiming().endTime !== Infinity)
      .map(async ({ finished }) => await finished.catch(() => undefined));
    await Promise.all(ending);
    await new Promise(requestAnimationFrame);
  });
}

/**
 * Returns what overflows the screen: the page, or controls that inner scrolling cannot reach. Also buttons whose text is
 * clipped, and titles of which a word is broken.
 */
export async function findOverflow(page: Page): Promise<string[]> {
  return await page.evaluate(() => {
    const width = document.documentElement.clientWidth;
    const found: string[] = [];
    const { scrollWidth } = document.documentElement;
    if (scrollWidth > width) found.push(`the page is ${scrollWidth} px wide on a screen of ${width} px`);
    const scrolls = (element: Element | null): boolean => {
      for (let at = element; at !== null; at = at.parentElement) {
        const { overflowX } = getComputedStyle(at);
        if ((overflowX === 'auto' || overflowX === 'scroll') && at.scrollWidth > at.clientWidth) return true;
      }
      return false;
    };
    for (const control of document.querySelectorAll('a, button, input, textarea, select, [tabindex="0"]')) {
      const { left, right, width: own, height } = control.getBoundingClientRect();
      // Skips elements for screen readers, and those that show on focus.
      if (own <= 1 || height <= 1 || right <= 0 || control.closest('[aria-hidden="true"]') !== null) continue;
      if ((left < -1 || right > width + 1) && !scrolls(control.parentElement)) {
        found.push(`${Math.round(left)}-${Math.round(right)} px: ${control.outerHTML.slice(0, 160)}`);
      }
    }
    for (const link of document.querySelectorAll('nav a')) {
      const { bottom } = link.getBoundingClientRect();
      if (bottom > innerHeight + 1) found.push(`below the screen: ${link.textContent}`);
    }
    for (const label of document.querySelectorAll('.mantine-Button-label')) {
      if (label.clientWidth > 1 && label.scrollWidth > label.clientWidth + 1) {
        found.push(`clipped: ${label.textContent}`);
      }
    }
    for (const title of document.querySelectorAll<HTMLElement>('h1')) {
      title.style.overflowWrap = 'normal';
      if (title.scrollWidth > title.clientWidth + 1) found.push(`broken: ${title.textContent}`);
      title.style.overflowWrap = '';
    }
    return found;
  });
}
