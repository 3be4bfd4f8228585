import { useSyncExternalStore } from 'react';
import { serverNowMs } from '../api/server-clock.js';
import { toTimeMs } from '../i18n/format.js';
import { useI18n } from '../i18n/i18n.js';

const tickMs = 1_000;
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;

/** One timer for the page, however many times are on it. It runs only while there are any. */
function subscribeToTicks(listener: () => void): () => void {
  listeners.add(listener);
  timer ??= setInterval(() => {
    for (const each of listeners) each();
  }, tickMs);
  return () => {
    listeners.delete(listener);
    if (listeners.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  };
}

/** The current time of the server in milliseconds since the epoch. Renders again every `stepMs`, a multiple of 1 s. */
export function useNowMs(stepMs: number): number {
  useSyncExternalStore(subscribeToTicks, () => Math.floor(serverNowMs() / stepMs));
  return serverNowMs();
}

interface RelativeTimeProps {
  /** RFC 3339. Other texts are shown unchanged. */
  readonly at: string;
}

/** A time such as `12 s ago`, with the time zone and the microseconds in its tooltip. Renders again only when its text changes. */
export function RelativeTime({ at }: RelativeTimeProps) {
  const { format } = useI18n();
  const atMs = toTimeMs(at);
  const text = useSyncExternalStore(subscribeToTicks, () =>
    atMs === null ? at : format.ago(atMs, serverNowMs()),
  );
  if (atMs === null) return <span>{at}</span>;
  return (
    <time dateTime={at} title={`${format.exact(atMs)}\n${at}`}>
      {text}
    </time>
  );
}
