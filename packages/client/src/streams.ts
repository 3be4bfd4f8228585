import type { CloseMessage, SubscribeMessage } from '#protocol';
import { FlagcastError } from './flagcast-error.js';
import type { Line, Lost, Receive } from './line.js';
import { channelKey, type Request } from './request.js';

/** As the channels of this client send it. */
type Subscription = SubscribeMessage & { env: string; cursor: string };

/**
 * A line made of server-sent events: one request a channel. Read through fetch, as an EventSource can send
 * no Authorization header. A stream that fails takes the line with it, so that the connection's backoff
 * counts for all of them; one whose channel is refused ends alone. `silenceMs` tells how long a stream may
 * be silent.
 */
export function openStreams(request: Request, silenceMs: () => number, receive: Receive, lost: Lost): Line {
  /** How to stop each, by channel. */
  const streams = new Map<string, () => void>();

  const run = async ({ project_id, env, cursor }: Subscription): Promise<void> => {
    const key = channelKey(project_id, env);
    // Of a stream's messages each is about its channel: a heartbeat's cursor says nothing of other streams.
    const channel = { project_id, environment: env };
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
      const { body } = await request('events', { project_id, env }, signal, {
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
          // The server ends the stream after it; the channel comes back by itself.
          if (message?.type === 'resync') stop();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      const { code, closeCode = 0, message, retryAfterMs } = error as Partial<FlagcastError>;
      if (closeCode < 4500 || closeCode === 4501) lost(closeCode, code, retryAfterMs || retryMs);
      else {
        stop();
        receive(JSON.stringify({ type: 'error', code, message }), channel);
      }
    }
  };

  return {
    send(message) {
      if (message.type === 'subscribe') void run(message as Subscription);
      else if (message.type === 'unsubscribe') {
        const { project_id, env } = message;
        streams.get(channelKey(project_id, env as string))?.();
        receive(JSON.stringify({ type: 'unsubscribed' }), { project_id, environment: env as string });
      }
      // A token cannot be renewed in place: when it expires the server closes, and the streams come back.
    },
    close() {
      for (const stop of streams.values()) stop();
    },
  };
}
