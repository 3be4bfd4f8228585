import type { Loss } from './connection-error.js';
import { gatherMs } from './limits.js';
import type { Request } from './request.js';
import type { Transport, TransportHandlers } from './transport.js';

/**
 * Creates a transport from server-sent events. All channels share one stream, because a browser opens six connections
 * to a server. A stream cannot change, so a new one replaces it: `onReset` makes all channels subscribe again. It uses
 * fetch because an EventSource cannot send an Authorization header or a body.
 */
export function createEventStreamTransport(
  request: Request,
  onText: TransportHandlers['onText'],
  onLost: TransportHandlers['onLost'],
  onReset: () => void,
): Transport {
  /** The subscriptions of the next stream. */
  let subscribe: object[] = [];
  let aborter: AbortController | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;

  const close = (): void => {
    clearTimeout(timer);
    timer = undefined;
    aborter?.abort();
  };
  const open = (): void => {
    const body = JSON.stringify({ subscribe });
    const isEmpty = !subscribe.length;
    close();
    subscribe = [];
    if (aborter) {
      aborter = undefined;
      onReset();
    } else if (!isEmpty) void run(body, (aborter = new AbortController()).signal);
  };

  const run = async (body: string, signal: AbortSignal): Promise<void> => {
    try {
      const headers = { Accept: 'text/event-stream', 'Content-Type': 'application/json' };
      const response = await request('events', { method: 'POST', headers, body, signal });
      const stream = response.body as ReadableStream<BufferSource>;
      const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) throw new Error();
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          // The server writes each message on one line.
          if (line.startsWith('data:')) onText(line.slice(5));
          if (signal.aborted) return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      onLost({ ...(error as Loss), cause: error });
    }
  };

  return {
    send({ type, ...subscription }) {
      // `auth` is ignored: a stream cannot renew its token. The server closes it on expiry, and the client reconnects.
      if (!type.endsWith('subscribe')) return;
      if (type === 'subscribe') subscribe.push(subscription);
      timer ??= setTimeout(open, gatherMs);
    },
    close,
  };
}
