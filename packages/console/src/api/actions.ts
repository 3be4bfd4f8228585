import type { EventMessage } from '@flagcast/client';

/** The key of the action in the messages: `updated` of a request differs from `updated` of a flag. */
export function actionOf({
  source,
  action,
}: Pick<EventMessage, 'action'> & { readonly source: string }): string {
  return source === 'pending' && action === 'updated' ? 'request_updated' : action;
}
