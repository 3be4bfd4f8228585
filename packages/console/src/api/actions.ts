import type { EventMessage } from '@flagcast/client';

/** An action by which the texts of the console are found: an edited request is not an edited flag. */
export function actionOf({
  source,
  action,
}: Pick<EventMessage, 'action'> & { readonly source: string }): string {
  return source === 'pending' && action === 'updated' ? 'request_updated' : action;
}
