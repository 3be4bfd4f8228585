import { showProgress } from './results.js';

const barWidth = 24;

/**
 * Shows the progress of a benchmark: a bar on a terminal, otherwise a line for each step.
 *
 * @param {string} benchmark
 * @param {number} steps
 */
export function startProgress(benchmark, steps) {
  let started = 0;
  return {
    /** @param {string} text describes the step that starts */
    step: (text) => {
      const filled = Math.round((started / steps) * barWidth);
      started += 1;
      const bar = `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]`;
      showProgress(`${benchmark} ${bar} ${started}/${steps}  ${text}`);
      if (!process.stderr.isTTY) console.error(`${benchmark} ${started}/${steps}: ${text}`);
    },
  };
}
