import { useSyncExternalStore } from 'react';
import { toTimeMs } from '../i18n/format.js';
import { useI18n } from '../i18n/i18n.js';

const stepMs = 15_000;

/** All times on the page grow older together, so that a table of them needs one timer. */
function subscribeToSteps(listener: () => void): () => void {
  const timer = setInterval(listener, stepMs);
  return () => clearInterval(timer);
}

const currentStep = (): number => Math.floor(Date.now() / stepMs);

/** The present, in milliseconds since the epoch, renewed every 15 s. */
export function useNowMs(): number {
  useSyncExternalStore(subscribeToSteps, currentStep);
  return Date.now();
}

interface RelativeTimeProps {
  /** RFC 3339; another text is shown as it is. */
  readonly at: string;
  /** `2 min` in place of `2 min. ago`. Default false. */
  readonly brief?: boolean;
}

/** How long ago something was; the exact time shows under the pointer. */
export function RelativeTime({ at, brief = false }: RelativeTimeProps) {
  const { format } = useI18n();
  const nowMs = useNowMs();
  const atMs = toTimeMs(at);
  if (atMs === null) return <span>{at}</span>;
  return (
    <time dateTime={at} title={format.dateTime(atMs)}>
      {brief ? format.span(nowMs - atMs) : format.ago(atMs, nowMs)}
    </time>
  );
}
