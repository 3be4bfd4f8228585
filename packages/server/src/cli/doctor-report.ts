import type { Examination } from '../install/doctor/examine.js';
import type { Finding, Level } from '../install/doctor/finding.js';

const colorCodes: Readonly<Record<Level, number>> = { ok: 32, note: 36, warning: 33, error: 31 };
const fixPrefixes = { sql: 'SQL: ', command: '$ ', advice: '' } as const;

/** The report for people: a line for each finding, below it the consequence and the fix. */
export function doctorReport(
  { database, role, findings }: Examination & { readonly database: string },
  { colors }: { readonly colors: boolean },
): string {
  const levelWidth = Math.max(...findings.map(({ level }) => level.length));
  const idWidth = Math.max(...findings.map(({ id }) => id.length));
  const indent = ' '.repeat(levelWidth + idWidth + 4);
  const paint = (level: Level, text: string): string =>
    colors ? `\x1b[${colorCodes[level]}m${text}\x1b[39m` : text;
  const linesOf = ({ id, level, message, consequence, fix }: Finding): string[] => [
    `${paint(level, level.padEnd(levelWidth))}  ${id.padEnd(idWidth)}  ${message}`,
    ...(consequence === null ? [] : [`${indent}so: ${consequence}`]),
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
  const counts = (['error', 'warning', 'note'] as const).flatMap((level) => {
    const count = findings.filter((finding) => finding.level === level).length;
    return count === 0 ? [] : [`${count} ${level}${count === 1 ? '' : 's'}`];
  });
  return counts.length === 0 ? 'No problems found.' : `${counts.join(', ')}.`;
}
