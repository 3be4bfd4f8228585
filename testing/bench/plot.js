import { spreadCell } from './results.js';

/** @import { Spread } from './statistics.js' */

/**
 * A panel of bars with its own scale. `ours`: highlights the bar.
 *
 * @typedef {{ readonly label: string, readonly ours: boolean, readonly figure: Spread }} Bar
 * @typedef {{ readonly title: string, readonly bars: readonly Bar[] }} Panel
 */

const width = 860;
const labelWidth = 200;
const figureWidth = 170;
const rowHeight = 24;
const barHeight = 14;
const titleHeight = 34;
const margin = 16;
const colours = { ours: '#2563eb', others: '#94a3b8', spread: '#0f172a' };

/**
 * Renders horizontal bars as SVG: the bar is the median, the line over it the range of the rounds.
 *
 * @param {string} title
 * @param {readonly Panel[]} panels
 * @returns {string}
 */
export function barChart(title, panels) {
  let top = margin + titleHeight;
  const drawn = panels.map((panel) => {
    const text = panelAt(panel, top);
    top += titleHeight + panel.bars.length * rowHeight;
    return text;
  });
  const height = top + margin;
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" font-family="sans-serif" font-size="13">`,
    `<rect width="${width}" height="${height}" fill="#ffffff"/>`,
    `<text x="${margin}" y="${margin + 14}" font-size="15" font-weight="bold">${escaped(title)}</text>`,
    ...drawn,
    '</svg>\n',
  ].join('\n');
}

/**
 * @param {Panel} panel
 * @param {number} top
 */
function panelAt({ title, bars }, top) {
  const space = width - 2 * margin - labelWidth - figureWidth;
  const most = Math.max(...bars.map(({ figure }) => figure.high));
  /** @param {number} value */
  const scaled = (value) => (Number.isFinite(value) && most > 0 ? (value / most) * space : 0);
  const left = margin + labelWidth;
  const rows = bars.map(({ label, ours, figure }, index) => {
    const y = top + titleHeight + index * rowHeight;
    const middle = y + barHeight / 2;
    const colour = ours ? colours.ours : colours.others;
    return [
      `<text x="${left - 8}" y="${y + 12}" text-anchor="end">${escaped(label)}</text>`,
      `<rect x="${left}" y="${y}" width="${scaled(figure.median).toFixed(1)}" height="${barHeight}" fill="${colour}"/>`,
      `<line x1="${(left + scaled(figure.low)).toFixed(1)}" x2="${(left + scaled(figure.high)).toFixed(1)}" y1="${middle}" y2="${middle}" stroke="${colours.spread}"/>`,
      `<text x="${width - margin - figureWidth + 8}" y="${y + 12}">${escaped(spreadCell(figure))}</text>`,
    ].join('\n');
  });
  return [`<text x="${margin}" y="${top + 20}" font-weight="bold">${escaped(title)}</text>`, ...rows].join(
    '\n',
  );
}

/** @param {string} text */
function escaped(text) {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
}
