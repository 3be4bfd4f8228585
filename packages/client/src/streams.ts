import type { CloseMessage, SubscribeMessage } from '#protocol';
import { FlagcastError } from './flagcast-error.js';
import type { Line, Lost, Receive, StreamChannel } from './line.js';
import type { Request } from './request.js';

/** As the channels of this client send it. */
type Subscription = SubscribeMessage & { env_id: string; cursor: string };

/**
 * A line made of server-sent events: one request a channel. Read through fetch, as an EventSource can send
 * no Authorization header. A stream that fails takes the line with it, so that the connection's backoff
 * counts for all of them; one whose channel is refused ends alone. `silenceMs` tells how long a stream may
 * be silent.
 */
export function openStreams(request: Request, silenceMs: () => number, receive: Receive, lost: Lost): Line {
  /** How to stop each, by channel. */
  const streams = new Map<string, () => void>();

  /** Ends one stream, and reports why. */
  const end = (channel: StreamChannel, message: object): void => {
    streams.get(JSON.stringify(channel))?.();
    // Each stream has a staleness of its own. It ends with the stream.
    receive('{"type":"freshness","state":"fresh"}', channel);
    receive(JSON.stringify(message), channel);
  };

  const run = async ({ project_id, env_id, cursor }: Subscription): Promise<void> => {
    // Each message of a stream is about its channel: a heartbeat's cursor does not count for other streams.
    const channel = { project_id, environment_id: env_id };
    const key = JSON.stringify(channel);
    const aborter = new AbortController();
    const { signal } = aborter;
    let retryMs = 0;
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const heard = (): void => {
      clearTimeout(watchdog);
      // The connection's own watchdog hears all streams together, and so not that one of them is dead.
      watchdog = setTimeout(lost, silenceMs(), 0);
    };
    const stop = (): void => {
      clearTimeout(watchdog);
      aborter.abort();
      streams.delete(key);
    };
    streams.set(key, stop);
    try {
      heard();
      const { body } = await request('events', { project_id, env_id }, signal, {
        Accept: 'text/event-stream',
        'Last-Event-ID': cursor,
      });
      const reader = (body as ReadableStream<BufferSource>).pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) throw new Error();
        heard();
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('retry:')) retryMs = Number(line.slice(6));
          // The server writes each message on one line.
          const message = line.startsWith('data:') ? receive(line.slice(5), channel) : undefined;
          if (signal.aborted) return;
          if (message?.type === 'close') {
            const { code, reason } = message as CloseMessage;
            throw new FlagcastError(reason, reason, code);
          }
          // The server ends the stream after a resync. The channel opens the next one.
          if (message?.type === 'resync') stop();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      const { code, closeCode = 0, message, retryAfterMs } = error as Partial<FlagcastError>;
      if (closeCode < 4500 || closeCode === 4501) lost(closeCode, code, retryAfterMs || retryMs);
      else end(channel, { type: 'error', code, message });
    }
  };

  return {
    send(message) {
      if (message.type === 'subscribe') void run(message as Subscription);
      else if (message.type === 'unsubscribe') {
        const { project_id, env_id: environment_id } = message as unknown as Subscription;
        end({ project_id, environment_id }, { type: 'unsubscribed' });
      }
      // A token cannot be renewed in place: when it expires the server closes, and the streams come back.
    },
    close() {
      for (const stop of streams.values()) stop();
    },
  };
}
