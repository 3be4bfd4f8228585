import { VisuallyHidden } from '@mantine/core';
import { useEffect, useState } from 'react';
import { useLiveChannel } from '../api/live.js';
import { useI18n } from '../i18n/i18n.js';

/** Least time between two announcements, in milliseconds. */
const announceEveryMs = 4_000;

/** Announces changes to screen readers: politely, and a burst as one sentence. */
export function Announcer() {
  const { t } = useI18n();
  const { channel } = useLiveChannel();
  const [sentence, setSentence] = useState({ id: 0, text: '' });
  useEffect(() => {
    let count = 0;
    let actor: string | null = null;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = channel.onEvent((event) => {
      count += 1;
      actor = event.actor;
      timer ??= setTimeout(() => {
        const text = t.shell.announce(count, actor);
        setSentence(({ id }) => ({ id: id + 1, text }));
        count = 0;
        timer = undefined;
      }, announceEveryMs);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [channel, t]);
  return (
    <VisuallyHidden role="log" aria-live="polite">
      {/* Screen readers read a new element, also if it has the text of the one before. */}
      <span key={sentence.id}>{sentence.text}</span>
    </VisuallyHidden>
  );
}
