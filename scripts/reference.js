// npm run reference: writes docs/reference.md from the code. With --check: fails if the file is not up to date.
import { readFile, writeFile } from 'node:fs/promises';
import { CloseCode, closeReasons, isReconnectCode, requestErrors } from '../packages/protocol/dist/index.js';
import { defaultOf } from '../packages/server/dist/cli/command.js';
import { doctorCommand } from '../packages/server/dist/cli/doctor.js';
import { guardCommand } from '../packages/server/dist/cli/guard.js';
import { installCommand, uninstallCommand } from '../packages/server/dist/cli/install.js';
import { serveCommand } from '../packages/server/dist/cli/serve.js';
import { settings } from '../packages/server/dist/cli/settings.js';
import { tailCommand } from '../packages/server/dist/cli/tail.js';
import { tokenCommand } from '../packages/server/dist/cli/token.js';
import { flagcastErrorCodes } from '../packages/server/dist/index.js';
import { logEvents } from '../packages/server/dist/operations/log.js';
import { metricTable } from '../packages/server/dist/operations/metric-table.js';

const commands = {
  serve: serveCommand,
  install: installCommand,
  uninstall: uninstallCommand,
  doctor: doctorCommand,
  guard: guardCommand,
  tail: tailCommand,
  token: tokenCommand,
};

/** @param {string} text */
const code = (text) => (text === '' ? '' : `\`${text}\``);

/**
 * A Markdown table as oxfmt formats it.
 *
 * @param {string[]} head
 * @param {string[][]} rows
 */
function table(head, rows) {
  const cells = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll('|', '\\|')));
  const widths = head.map((_, column) => Math.max(3, ...cells.map((row) => row[column]?.length ?? 0)));
  const lines = cells.map((row) => `| ${row.map((cell, at) => cell.padEnd(widths[at] ?? 0)).join(' | ')} |`);
  return [lines[0], `| ${widths.map((width) => '-'.repeat(width)).join(' | ')} |`, ...lines.slice(1)].join(
    '\n',
  );
}

/**
 * The doc comments of the entries of a constant, in one line each.
 *
 * @param {string} file @param {RegExp} entry What follows a comment; its first group is the name.
 */
async function commentsOf(file, entry) {
  const source = await readFile(new URL(`../packages/protocol/src/${file}`, import.meta.url), 'utf8');
  const pattern = new RegExp(`/\\*\\* (.*?) \\*/\\n +${entry.source}`, 'g');
  return new Map([...source.matchAll(pattern)].map(([, comment = '', name = '']) => [name, comment]));
}

const settingRows = Object.entries(settings).map(([key, setting]) => {
  const { variable, parser, help } = setting;
  const option = 'option' in setting ? `--${setting.option}` : '';
  const users = Object.entries(commands).filter(([, { variables }]) =>
    variables.some((each) => each === key),
  );
  return [
    code(variable),
    code(option),
    parser.accepts === '' ? parser.name : parser.accepts,
    defaultOf(/** @type {keyof typeof settings} */ (key)),
    help,
    users.map(([name]) => name).join(', '),
  ];
});

const optionRows = Object.entries(commands).flatMap(([name, { options }]) =>
  options.map((option) => [code(`flagcast ${name}`), code(option.name), option.help]),
);

const metricRows = Object.entries(metricTable).map(([name, metric]) => {
  const labels = 'labels' in metric ? metric.labels.map(code).join(', ') : '';
  return [code(name), metric.type, metric.unit, labels, metric.help];
});

const closeCodeComments = await commentsOf('close-codes.ts', /(\w+): \d+,/);
const closeCodeRows = Object.entries(CloseCode).map(([name, number]) => [
  String(number),
  code(name),
  isReconnectCode(number) ? 'reconnect' : 'give up',
  closeCodeComments.get(name) ?? '',
]);

const closeReasonRows = Object.entries(closeReasons).map(([name, meaning]) => [code(name), meaning]);

const errorComments = await commentsOf('messages.ts', /'(\w+)',/);
const errorRows = [...errorComments].map(([name, comment]) => [code(name), comment]);

const requestErrorRows = Object.entries(requestErrors).map(([name, { status, meaning }]) => [
  code(name),
  String(status),
  meaning,
]);

const libraryErrorRows = Object.entries(flagcastErrorCodes).map(([name, meaning]) => [code(name), meaning]);

const logRows = Object.entries(logEvents).map(([event, { level, when }]) => [code(event), level, when]);

const alerts = await readFile(new URL('../operations/prometheus-alerts.yaml', import.meta.url), 'utf8');
const alertRows = [...alerts.matchAll(/((?:^ +# .*\n)+) +- alert: (\w+)\n/gm)].map(
  ([, comment = '', name = '']) => [
    code(name),
    comment
      .split('\n')
      .map((line) => line.replace(/^ +# /, ''))
      .join(' ')
      .trim(),
  ],
);

const text = `# Reference

Generated from the code by \`npm run reference\`. Do not edit it.

## Settings

Environment variables, and options of the same meaning. An option takes precedence. An empty variable counts as not set, except \`DATABASE_URL\`. Durations have a unit: \`500ms\`, \`30s\`, \`15m\`, \`1h\`, \`7d\`.

${table(['variable', 'option', 'values', 'default', 'meaning', 'commands'], settingRows)}

## Command-line options

${table(['command', 'option', 'meaning'], optionRows)}

Exit codes: 0 success, 1 an error (for \`doctor\` also a finding of severity error), 2 a wrong command line.

## Metrics

${table(['metric', 'type', 'unit', 'labels', 'meaning'], metricRows)}

## Close codes

Codes from 4000 to 4499: reconnect with backoff. From 4500 to 4999: do not reconnect.

${table(['code', 'name', 'then', 'meaning'], closeCodeRows)}

The reason of a close frame is one of the [error codes](#error-codes), or:

${table(['reason', 'meaning'], closeReasonRows)}

## Error codes

Codes are stable; messages are not. A refused request has \`{"code", "message"}\` as its body; a refused connection has the code as the reason of its close frame.

${table(['code', 'status', 'meaning'], requestErrorRows)}

The codes of \`error\` messages, in addition to those above:

${table(['code', 'meaning'], errorRows)}

The codes of a \`FlagcastError\` of the library:

${table(['code', 'meaning'], libraryErrorRows)}

## Alerts

Of \`operations/prometheus-alerts.yaml\`.

${table(['alert', 'cause, and what to do'], alertRows)}

## Log events

Each line is a JSON object with \`time\`, \`level\`, \`event\` and the fields of the event.

${table(['event', 'level', 'when'], logRows)}
`;

const file = new URL('../docs/reference.md', import.meta.url);
if (!process.argv.includes('--check')) {
  await writeFile(file, text);
} else if ((await readFile(file, 'utf8')) !== text) {
  console.error('docs/reference.md is not up to date: run npm run reference');
  process.exitCode = 1;
}
