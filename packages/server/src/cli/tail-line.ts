import { styleText } from 'node:util';
import { z } from 'zod';
import { printable } from '../describe.js';

const messageShape = z.object({
  type: z.string(),
  timestamp: z.string(),
  entity: z.string(),
  entity_id: z.string(),
  action: z.string(),
});

const colorOfAction = new Map([
  ['created', 'green'],
  ['updated', 'yellow'],
  ['deleted', 'red'],
  ['pending', 'cyan'],
  ['approved', 'green'],
  ['rejected', 'red'],
  ['cancelled', 'magenta'],
] as const);

/** One event as an aligned line: time in UTC with milliseconds, type, entity, id. */
export function eventLine(text: string, { colors }: { readonly colors: boolean }): string {
  const message = messageShape.safeParse(parseJson(text));
  if (!message.success) return `${printable(text)}\n`;
  const { type, timestamp, entity, entity_id: entityId, action } = message.data;
  const time = printable(timestamp.replace(/(\.\d{3})\d+/, '$1'));
  // The longest type and the longest entity that the contract knows.
  const kind = printable(type).padEnd('pending_change_cancelled'.length);
  const what = printable(entity).padEnd('feature_schedule'.length);
  const color = new Map<string, Parameters<typeof styleText>[0]>(colorOfAction).get(action);
  const shown = colors && color !== undefined ? styleText(color, kind, { validateStream: false }) : kind;
  return `${time}  ${shown}  ${what}  ${printable(entityId)}\n`;
}

/** One event as the server sent it, on one line. */
export function jsonLine(text: string): string {
  // Between the tokens of JSON a line break is blank, and within its strings there is none.
  return `${text.replace(/[\r\n]+/g, ' ')}\n`;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
