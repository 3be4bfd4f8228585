import { Button } from '@mantine/core';
import { useLayoutEffect, useRef } from 'react';
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
  const isShowing = useRef(false);
  useLayoutEffect(() => {
    if (waiting > 0 || !isShowing.current) return;
    isShowing.current = false;
    bar.current?.parentElement?.querySelector('article')?.focus();
  }, [waiting]);
  const show = (): void => {
    isShowing.current = true;
    onShow();
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
