import { Button } from '@mantine/core';
import { useRef } from 'react';
import { flushSync } from 'react-dom';
import { useI18n } from '../i18n/i18n.js';

interface NewRequestsProps {
  /** How many wait. */
  readonly waiting: number;
  /** Adds them at the top of the list that follows. */
  readonly onShow: () => void;
}

/** The button that shows new requests. It goes away then, so the focus moves to the first of them. */
export function NewRequests({ waiting, onShow }: NewRequestsProps) {
  const { t } = useI18n();
  const bar = useRef<HTMLDivElement>(null);
  const show = (): void => {
    flushSync(onShow);
    bar.current?.parentElement?.querySelector('article')?.focus();
  };
  return (
    <div ref={bar} className="fc-new-requests" role="status">
      {waiting > 0 && (
        <Button size="compact-sm" radius="xl" onClick={show}>
          {t.approvals.showNew(waiting)}
        </Button>
      )}
    </div>
  );
}
