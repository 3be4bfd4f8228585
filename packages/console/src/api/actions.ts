import type { EventMessage } from '@flagcast/client';

/** The key of the action in the messages: `updated` of a request differs from `updated` of a flag. */
export function actionOf({
  source,
  action,
}: Pick<EventMessage, 'action'> & { readonly source: string }): string {
  return source === 'pending' && action === 'updated' ? 'request_updated' : action;
}

/** The colours of badges, by the result of `actionOf`. */
export const actionColors: ReadonlyMap<string, string> = new Map([
  ['created', 'teal'],
  ['approved', 'teal'],
  ['deleted', 'red'],
  ['rejected', 'red'],
  ['pending', 'yellow'],
  ['request_updated', 'yellow'],
  ['cancelled', 'gray'],
]);
