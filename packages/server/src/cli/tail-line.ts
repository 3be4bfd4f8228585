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

/** Wide enough for nearly all names of people; a longer one is shortened. --json has all of it. */
const ACTOR_WIDTH = 12;
const FEATURE_WIDTH = 24;
/** What stands where the server does not know: `cut` and `awk` count columns. */
const UNKNOWN = '-';

/** One event as an aligned line: time in UTC with milliseconds, type, actor, entity, key of the feature or environment, id. */
export function eventLine(event: EventMessage, { colors }: { readonly colors: boolean }): string {
  const time = printable(event.timestamp.replace(/(\.\d{3})\d+/, '$1'));
  // The longest type and the longest entity that the contract knows.
  const type = printable(event.type).padEnd('pending_change_cancelled'.length);
  const color = new Map<string, Parameters<typeof styleText>[0]>(colorOfAction).get(event.action);
  // An event of an environment names no feature, and the id of its entity says nothing.
  const [key, id] =
    event.entity === 'environment'
      ? [event.environment, event.environment_id]
      : [event.feature?.key ?? UNKNOWN, event.entity_id];
  const columns = [
    time,
    colors && color !== undefined ? styleText(color, type, { validateStream: false }) : type,
    shortened(printable(event.actor ?? UNKNOWN), ACTOR_WIDTH).padEnd(ACTOR_WIDTH),
    printable(event.entity).padEnd('feature_schedule'.length),
    printable(key).padEnd(FEATURE_WIDTH),
    printable(id),
  ];
  return `${columns.join('  ')}\n`;
}

function shortened(text: string, width: number): string {
  const characters = Array.from(text);
  return characters.length <= width ? text : `${characters.slice(0, width - 1).join('')}…`;
}

/** One event as the server sent it, on one line of JSON. */
export function jsonLine(event: EventMessage): string {
  return `${printableJson(JSON.stringify(event))}\n`;
}
