import type { ClientMessage, CloseMessage, ServerMessage } from '#protocol';
import { FlagcastError } from './flagcast-error.js';
import type { Request } from './request.js';
import type { Transport, TransportHandlers } from './transport.js';

/** The keys that name a channel or feed, and where its stream continues. */
interface Place {
  readonly type?: string;
  readonly feed?: string;
  readonly project_id?: string;
  readonly env_id?: string;
  readonly environment_id?: string;
  readonly cursor?: string;
}

/** Channels that are opened together get one stream, not one after the other. */
const gatherMs = 20;

const keyOf = ({ feed, project_id, env_id, environment_id = env_id }: Place): string =>
  JSON.stringify([feed, project_id, environment_id]);

/**
 * Creates a transport from server-sent events. All channels share one stream, because a browser opens six connections
 * to a server. A stream cannot change, so another channel replaces it with a stream that continues at the cursors. It
 * uses fetch because an EventSource cannot send an Authorization header or a body.
 */
export function createEventStreamTransport(
  request: Request,
  { onText, onLost }: TransportHandlers,
): Transport {
  /** What is subscribed, with its newest cursor. */
  const places = new Map<string, Place>();
  let aborter = new AbortController();
  let timer: ReturnType<typeof setTimeout> | undefined;

  const close = (): void => {
    clearTimeout(timer);
    timer = undefined;
    aborter.abort();
  };
  const replace = (): void => {
    timer ??= setTimeout(() => {
      close();
      if (places.size) void run((aborter = new AbortController()).signal);
    }, gatherMs);
  };

  /** `caughtUp`: what the cursors of heartbeats are true for. */
  const follow = (message: ServerMessage & Place, caughtUp: Set<string>): void => {
    const { type, cursor } = message;
    const key = keyOf(message);
    if (type === 'caught_up') caughtUp.add(key);
    if (type === 'resync' || type === 'error') places.delete(key);
    for (const each of type === 'heartbeat' ? caughtUp : [key]) {
      const place = cursor && places.get(each);
      if (place) places.set(each, { ...place, cursor });
    }
  };

  const run = async (signal: AbortSignal): Promise<void> => {
    const caughtUp = new Set<string>();
    try {
      const { body } = await request('events', {
        method: 'POST',
        headers: { Accept: 'text/event-stream', 'Content-Type': 'application/json' },
        body: JSON.stringify({ subscribe: [...places.values()] }),
        signal,
      });
      const reader = (body as ReadableStream<BufferSource>).pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) throw new Error();
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          // The server writes each message on one line.
          const message = line.startsWith('data:') ? onText(line.slice(5)) : undefined;
          if (signal.aborted) return;
          if (!message) continue;
          follow(message, caughtUp);
          if (message.type === 'close') {
            const { code, reason } = message as CloseMessage;
            throw new FlagcastError(reason, reason, { closeCode: code });
          }
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      const { code, closeCode = 0, retryAfterMs } = error as Partial<FlagcastError>;
      onLost(closeCode, code, { retryAfterMs, cause: error });
    }
  };

  return {
    send(message) {
      const { type, ...place } = message as ClientMessage & Place;
      const key = keyOf(place);
      if (type === 'subscribe') places.set(key, place);
      // `auth` is ignored: a stream cannot renew its token. The server closes it on expiry, and the client reconnects.
      else if (type !== 'unsubscribe') return;
      else {
        places.delete(key);
        const { env_id: environment_id, ...name } = place;
        onText(JSON.stringify({ type: 'unsubscribed', ...name, environment_id }));
      }
      replace();
    },
    close,
  };
}
