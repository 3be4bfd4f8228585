import type { CloseMessage } from '#protocol';
import { FlagcastError } from './flagcast-error.js';
import { type Request, retryDelayMs, type SubscriptionParams } from './request.js';
import type { StreamSubject, Transport, TransportHandlers } from './transport.js';

/** A message as the subscriptions of the client send it: with the environment's id. */
type StreamMessage = Exclude<SubscriptionParams, { env: string }> & {
  readonly type: string;
  readonly cursor?: string;
};

/**
 * Creates a transport from server-sent events, with one request per channel or feed. It uses fetch because an EventSource
 * cannot send an Authorization header. The failure of one stream ends the transport, so that one backoff covers all
 * streams; if the server refuses a channel, only that stream ends. `getSilenceTimeoutMs` returns how long a stream
 * may be silent.
 */
export function createEventStreamTransport(
  request: Request,
  getSilenceTimeoutMs: () => number,
  { onText, onLost }: TransportHandlers,
): Transport {
  /** The functions that stop the streams, by channel. */
  const streams = new Map<string, () => void>();

  /** Ends one stream and passes `message` to the channel. */
  const endStream = (subject: StreamSubject, message: object): void => {
    streams.get(JSON.stringify(subject))?.();
    // Each stream has its own freshness state, which ends with the stream.
    onText('{"type":"freshness","state":"fresh"}', subject);
    onText(JSON.stringify(message), subject);
  };

  const runStream = async (
    subject: StreamSubject,
    params: SubscriptionParams,
    cursor: string,
  ): Promise<void> => {
    const key = JSON.stringify(subject);
    const aborter = new AbortController();
    const { signal } = aborter;
    let retryMs = 0;
    let watchdog: ReturnType<typeof setTimeout> | undefined;
    const resetWatchdog = (): void => {
      clearTimeout(watchdog);
      // The connection's watchdog is reset by every stream, so it does not notice that one of them is dead.
      watchdog = setTimeout(onLost, getSilenceTimeoutMs(), 0, 'timed_out');
    };
    const stop = (): void => {
      clearTimeout(watchdog);
      aborter.abort();
      streams.delete(key);
    };
    streams.set(key, stop);
    try {
      resetWatchdog();
      const { body } = await request('events', params, {
        signal,
        headers: { Accept: 'text/event-stream', 'Last-Event-ID': cursor },
      });
      const reader = (body as ReadableStream<BufferSource>).pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const { done, value } = await reader.read();
        if (done) throw new Error();
        resetWatchdog();
        const lines = (rest + value).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) {
          if (line.startsWith('retry:')) retryMs = Number(line.slice(6));
          // The server writes each message on one line.
          const message = line.startsWith('data:') ? onText(line.slice(5), subject) : undefined;
          if (signal.aborted) return;
          if (message?.type === 'close') {
            const { code, reason } = message as CloseMessage;
            throw new FlagcastError(reason, reason, { closeCode: code });
          }
          // The server ends the stream after a resync. The channel opens the next one.
          if (message?.type === 'resync') stop();
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      const { code, closeCode = 0, message, retryAfterMs } = error as Partial<FlagcastError>;
      if (closeCode < 4500 || closeCode === 4501)
        onLost(closeCode, code, { retryAfterMs: retryAfterMs || retryDelayMs(retryMs), cause: error });
      else endStream(subject, { type: 'error', code, message });
    }
  };

  return {
    send(message) {
      const { type, cursor = '', ...params } = message as StreamMessage;
      const subject =
        'feed' in params
          ? { feed: params.feed }
          : { project_id: params.project_id, environment_id: params.env_id };
      if (type === 'subscribe') void runStream(subject, params, cursor);
      else if (type === 'unsubscribe') endStream(subject, { type: 'unsubscribed' });
      // `auth` is ignored: a stream cannot renew its token. The server closes it on expiry, and the client reconnects.
    },
    close() {
      for (const stop of streams.values()) stop();
    },
  };
}
