import type { AuthMessage, PingMessage } from '@flagcast/protocol';
import type { ChannelIds, SubscriptionRequest } from '../../auth/authorization.js';
import type { PresenceSubject } from '../presence.js';

/** A valid message of a client. */
export type CheckedMessage =
  | { readonly type: 'subscribe'; readonly request: SubscriptionRequest; readonly cursor: string | null }
  | { readonly type: 'unsubscribe'; readonly request: SubscriptionRequest }
  | { readonly type: 'announce'; readonly view: string; readonly place: PresencePlace | null }
  | AuthMessage
  | PingMessage;

/** What a view shows, and the field that is being edited. */
export interface PresencePlace {
  readonly channel: ChannelIds;
  readonly subject: PresenceSubject;
  readonly field: string | null;
}

/** What is wrong with a message, in one line. */
export interface Malformed {
  readonly problem: string;
}

const keysOf: Readonly<Record<string, readonly string[]>> = {
  subscribe: ['type', 'project_id', 'env', 'env_id', 'feed', 'scope', 'cursor'],
  unsubscribe: ['type', 'project_id', 'env', 'env_id', 'feed'],
  announce: ['type', 'view', 'project_id', 'env_id', 'feature_id', 'pending_change_id', 'field'],
  auth: ['type', 'token'],
  ping: ['type'],
};

/** Parses strictly: unknown types and keys are refused. Never throws. */
export function parseClientMessage(text: string): CheckedMessage | Malformed {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return { problem: 'the message is not JSON' };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return { problem: 'the message is not a JSON object' };
  }
  const message = new Map<string, unknown>(Object.entries(value));
  const type = message.get('type');
  const keys = typeof type === 'string' && Object.hasOwn(keysOf, type) ? keysOf[type] : undefined;
  if (keys === undefined)
    return { problem: 'the type is not one of subscribe, unsubscribe, announce, auth, ping' };
  for (const [key, found] of message) {
    if (!keys.includes(key)) return { problem: `${String(type)} has a key that it must not have` };
    const isNumericId = key === 'env_id' && Number.isSafeInteger(found);
    if (typeof found !== 'string' && !isNumericId) return { problem: `${key} is not a string` };
  }
  const textOf = (key: string): string | null => (message.has(key) ? String(message.get(key)) : null);
  if (type === 'ping') return { type: 'ping' };
  if (type === 'auth') {
    const token = textOf('token');
    return token === null ? { problem: 'auth needs a token' } : { type: 'auth', token };
  }
  if (type === 'announce') return announceOf(textOf, message.size === 2);
  const names = [textOf('project_id'), textOf('env'), textOf('env_id')] as const;
  const request = message.has('feed')
    ? feedOf(textOf('feed'), textOf('scope'), names)
    : message.has('scope')
      ? { problem: 'a channel has no scope' }
      : channelOf(...names);
  if ('problem' in request) return request;
  return type === 'subscribe'
    ? { type, request, cursor: textOf('cursor') }
    : { type: 'unsubscribe', request };
}

function feedOf(
  feed: string | null,
  scope: string | null,
  names: readonly (string | null)[],
): SubscriptionRequest | Malformed {
  if (feed !== 'approvals') return { problem: 'feed is not approvals, the only feed' };
  if (names.some((name) => name !== null)) return { problem: 'give feed or a channel, not both' };
  return { feed, scope };
}

function channelOf(
  projectId: string | null,
  environmentKey: string | null,
  environmentId: string | null,
): SubscriptionRequest | Malformed {
  if (projectId === null || projectId === '') return { problem: 'project_id is missing' };
  if (environmentKey !== null && environmentId !== null) return { problem: 'give env or env_id, not both' };
  const environment = environmentKey ?? environmentId ?? '';
  if (environment === '') return { problem: 'env is missing: the key of the environment' };
  return environmentKey === null
    ? { projectId, environmentId: environment }
    : { projectId, environmentKey: environment };
}

/** Without a place if the view has ended: then it has no other keys. */
function announceOf(textOf: (key: string) => string | null, hasEnded: boolean): CheckedMessage | Malformed {
  const view = textOf('view');
  if (view === null || !isShort(view, 64)) return { problem: 'announce needs a view: 1 to 64 characters' };
  if (hasEnded) return { type: 'announce', view, place: null };
  const projectId = textOf('project_id') ?? '';
  const environmentId = textOf('env_id') ?? '';
  const kind = textOf('feature_id') === null ? 'pending_change_id' : 'feature_id';
  const id = textOf(kind) ?? '';
  if (![projectId, environmentId, id].every((each) => isShort(each, 200))) {
    return { problem: 'announce needs project_id, env_id, and feature_id or pending_change_id' };
  }
  if (kind === 'feature_id' && textOf('pending_change_id') !== null) {
    return { problem: 'give feature_id or pending_change_id, not both' };
  }
  const field = textOf('field');
  if (field !== null && !/^[\w.-]{1,64}$/.test(field)) {
    return { problem: 'field is not a name: 1 to 64 letters, digits, _, . and -' };
  }
  const place = { channel: { projectId, environmentId }, subject: { kind, id }, field } as const;
  return { type: 'announce', view, place };
}

function isShort(text: string, maxLength: number): boolean {
  return text.length > 0 && text.length <= maxLength;
}
