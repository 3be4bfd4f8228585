import { showProgress } from './results.js';

const barWidth = 24;

/**
 * How far a measurement is: a bar on a terminal, a line for each step where there is none.
 *
 * @param {string} measurement
 * @param {number} steps
 */
export function startProgress(measurement, steps) {
  let begun = 0;
  return {
    /** @param {string} text what begins now */
    step: (text) => {
      const filled = Math.round((begun / steps) * barWidth);
      begun += 1;
      const bar = `[${'#'.repeat(filled)}${'.'.repeat(barWidth - filled)}]`;
      showProgress(`${measurement} ${bar} ${begun}/${steps}  ${text}`);
      if (!process.stderr.isTTY) console.error(`${measurement} ${begun}/${steps}: ${text}`);
    },
  };
}
