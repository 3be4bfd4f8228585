/**
 * Who else has a feature or a request open.
 *
 * @module @flagcast/client/presence
 */
import type { HelloMessage, PresenceMessage, PresenceUser, ServerMessage } from '#protocol';
import type { Client } from '../client.js';
import { createEmitter, observe, type Readable } from '../emitter.js';
import type { Page } from '../page.js';

/** What the user has open: a feature, or a request for approval, in one environment. */
export type PresenceSubject = { readonly projectId: string; readonly environmentId: string } & (
  | { readonly featureId: string }
  | { readonly pendingChangeId: string }
);

/** The other users who have the same open. The same object until it changes. */
export interface PresenceState {
  /** At most 20, those who edit first. `field` is what a user edits; null: the user only views. */
  readonly others: readonly PresenceUser[];
  /** The number of all others. */
  readonly count: number;
}

/** A view that is announced to the others until it is closed. `using` closes it, too. */
export interface Presence extends Disposable {
  /** The current state. */
  readonly getState: () => PresenceState;
  /** Calls `listener` with the state after changes. Returns the function that removes the listener. */
  readonly subscribe: (listener: (state: PresenceState) => void) => () => void;
  /** The state in the form of a store of Svelte, or for `from` of Solid. */
  readonly store: Readable<PresenceState>;
  /** The field that the user edits: at most 64 letters, digits, `_`, `.` and `-`; null for none. */
  readonly setField: (field: string | null) => void;
  /** Ends the view. Idempotent. */
  readonly close: () => void;
}

/** The state without others. */
export const noOthers: PresenceState = { others: [], count: 0 };
/** The server forgets a view after 8.5 s. */
const renewalMs = 4_000;
/** Fields that the user only passes through are not announced: the server allows 100 messages in 10 s. */
const fieldDelayMs = 200;

/**
 * Announces that the user has the subject open while the page is visible, and tells who else has. Needs an open channel
 * of the environment, or the approvals feed, and a WebSocket: over server-sent events, and where the server has switched
 * presence off, there are no others.
 */
export function presence(client: Client, subject: PresenceSubject): Presence {
  const { projectId, environmentId } = subject;
  const ids =
    'featureId' in subject
      ? { feature_id: subject.featureId }
      : { pending_change_id: subject.pendingChangeId };
  // `crypto.randomUUID` needs a secure context. The tabs of a shared connection need different ids.
  const view = `${Math.random()}${Math.random()}`;
  // oxlint-disable-next-line no-console -- the developer of a page sees it there
  const [onChange, emit] = createEmitter(console.error);
  const { document } = globalThis as unknown as Page;
  const closed = new AbortController();
  let state = noOthers;
  let field: string | null = null;
  let isAnnounced = false;
  /** The first message of the connection on which the view was announced. */
  let hello: HelloMessage | null = null;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const setState = (next: PresenceState): void => {
    if (next === state) return;
    state = next;
    emit();
  };
  const leave = (): void => {
    if (isAnnounced) client.send({ type: 'announce', view });
    isAnnounced = false;
    setState(noOthers);
  };
  const announce = (): void => {
    clearTimeout(timer);
    if (document?.hidden) leave();
    else if (isConnected(client) && (hello = client.getHello())?.presence) {
      isAnnounced = true;
      client.send({
        ...{ type: 'announce', view, project_id: projectId, env_id: environmentId, ...ids },
        ...(field === null ? {} : { field }),
      });
    }
    timer = setTimeout(announce, renewalMs);
  };
  const here = { type: 'presence', project_id: projectId, environment_id: environmentId, ...ids };
  const isHere = (message: ServerMessage): message is PresenceMessage =>
    Object.entries(here).every(([key, value]) => message[key as keyof typeof message] === value);
  const stopMessages = client.onMessage((message) => {
    if (!('type' in message)) return;
    // The server knows nothing of a new connection, nor of a channel that is subscribed again.
    if (message.type === 'caught_up') announce();
    else if (isAnnounced && isHere(message)) {
      const others = message.users.filter(({ user_id }) => user_id !== hello?.user_id);
      setState({ others, count: Math.max(message.count - 1, others.length) });
    }
  });
  const stopStatus = client.subscribe(({ state: status }) => {
    if (status === 'closed') close();
    else if (!isConnected(client)) leave();
    // A late heartbeat: the channel is still subscribed.
    else if (!isAnnounced && hello === client.getHello()) announce();
  });
  document?.addEventListener('visibilitychange', announce, closed);
  announce();

  const close = (): void => {
    clearTimeout(timer);
    closed.abort();
    stopMessages();
    stopStatus();
    leave();
  };
  return {
    getState: () => state,
    ...observe(() => state, onChange),
    setField(next) {
      if (next === field || closed.signal.aborted) return;
      field = next;
      clearTimeout(timer);
      timer = setTimeout(announce, fieldDelayMs);
    },
    close,
    [Symbol.dispose]: close,
  };
}

function isConnected(client: Client): boolean {
  const status = client.getStatus();
  return status.state === 'live' || (status.state === 'stale' && status.reason !== 'disconnected');
}
