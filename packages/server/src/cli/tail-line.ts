import { styleText } from 'node:util';
import type { EventMessage } from '@flagcast/client';
import { printable, printableJson } from '../describe.js';

const colorOfAction = new Map([
  ['created', 'green'],
  ['updated', 'yellow'],
  ['deleted', 'red'],
  ['pending', 'cyan'],
  ['approved', 'green'],
  ['rejected', 'red'],
  ['cancelled', 'magenta'],
] as const);

/** Wide enough for nearly all names of people; a longer one moves its own line only. */
const ACTOR_WIDTH = 12;
const FEATURE_WIDTH = 24;
/** What stands where the server does not know: `cut` and `awk` count columns. */
const UNKNOWN = '-';

/** One event as an aligned line: time in UTC with milliseconds, type, actor, entity, feature key, id. */
export function eventLine(event: EventMessage, { colors }: { readonly colors: boolean }): string {
  const time = printable(event.timestamp.replace(/(\.\d{3})\d+/, '$1'));
  // The longest type and the longest entity that the contract knows.
  const type = printable(event.type).padEnd('pending_change_cancelled'.length);
  const color = new Map<string, Parameters<typeof styleText>[0]>(colorOfAction).get(event.action);
  const columns = [
    time,
    colors && color !== undefined ? styleText(color, type, { validateStream: false }) : type,
    printable(event.actor ?? UNKNOWN).padEnd(ACTOR_WIDTH),
    printable(event.entity).padEnd('feature_schedule'.length),
    printable(event.feature?.key ?? UNKNOWN).padEnd(FEATURE_WIDTH),
    printable(event.entity_id),
  ];
  return `${columns.join('  ')}\n`;
}

/** One event as the server sent it, on one line of JSON. */
export function jsonLine(event: EventMessage): string {
  return `${printableJson(JSON.stringify(event))}\n`;
}
