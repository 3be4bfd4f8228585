import { styleText } from 'node:util';
import { connectionsOf, loadDatabaseUrl, readSettings } from './config.js';
import { type Examination, examine } from '../install/doctor/examine.js';
import type { Finding, Severity } from '../install/doctor/facts.js';
import { defineCommand } from './command.js';
import { describeDatabase } from './connect.js';

const doctorSettings = [
  ...(['databaseUrl', 'databaseConnections', 'workers', 'listenUrl', 'view', 'overlapMs'] as const),
  ...(['relayUrl', 'authorizeSql', 'writes', 'userClaim', 'logRetentionMs'] as const),
];

export const doctorCommand = defineCommand({
  name: 'doctor',
  usage: '--database-url URL [options]',
  description: `Checks a database for flagcast serve: where events are read from, which guarantee holds, what is missing and what follows from it, and the command or SQL that fixes it. Changes nothing. Use the URL and the settings of flagcast serve, so that its role and its connection are checked.`,
  options: { json: { help: 'print the findings as JSON' } },
  settings: doctorSettings,
  requiresDatabase: true,
  notes: 'The exit code is 1 if a finding is an error, else 0, also with warnings.',
  run: async ({ options, flags, environment }) => {
    const settings = readSettings(doctorSettings, environment, flags);
    const writes = settings.writes ?? false;
    const databaseConnections = connectionsOf(settings, { writes, relay: settings.relayUrl !== null });
    const databaseUrl = loadDatabaseUrl(environment, flags);
    const database = describeDatabase(databaseUrl);
    const { role, findings } = await examine(databaseUrl, { ...settings, writes, databaseConnections });
    if (options.json) {
      console.log(JSON.stringify({ database, role, findings }, null, 2));
    } else {
      console.log(doctorReport({ database, role, findings }));
    }
    if (findings.some(({ severity }) => severity === 'error')) process.exitCode = 1;
  },
});

const colors = { ok: 'green', note: 'cyan', warning: 'yellow', error: 'red' } as const;
const fixPrefixes = { sql: 'SQL: ', command: '$ ', advice: '' } as const;

/** One line for each finding, with its consequence and its fix below. */
function doctorReport({ database, role, findings }: Examination & { readonly database: string }): string {
  const severityWidth = Math.max(...findings.map(({ severity }) => severity.length));
  const idWidth = Math.max(...findings.map(({ id }) => id.length));
  const indent = ' '.repeat(severityWidth + idWidth + 4);
  const paint = (severity: Severity, text: string): string =>
    styleText(colors[severity], text, { stream: process.stdout });
  const linesOf = ({ id, severity, message, consequence, fix }: Finding): string[] => [
    `${paint(severity, severity.padEnd(severityWidth))}  ${id.padEnd(idWidth)}  ${message}`,
    ...(consequence === null ? [] : [`${indent}consequence: ${consequence}`]),
    ...(fix === null ? [] : [`${indent}fix: ${fixPrefixes[fix.kind]}${fix.text}`]),
  ];
  return [
    `${database}${role === null ? '' : `, as role ${role}`}`,
    '',
    ...findings.flatMap(linesOf),
    '',
    summary(findings),
    ...(findings.some(({ fix }) => fix?.kind === 'sql')
      ? ['Run the SQL as a superuser, or as the owner of the objects that it names.']
      : []),
  ].join('\n');
}

function summary(findings: readonly Finding[]): string {
  const counts = (['error', 'warning', 'note'] as const).flatMap((severity) => {
    const count = findings.filter((finding) => finding.severity === severity).length;
    return count === 0 ? [] : [`${count} ${severity}${count === 1 ? '' : 's'}`];
  });
  return counts.length === 0 ? 'No problems found.' : `${counts.join(', ')}.`;
}
