import { Button, Stack, Switch, Text } from '@mantine/core';
import { useDocumentVisibility } from '@mantine/hooks';
import { useEffect, useMemo, useRef, useState } from 'react';
import { Link } from 'react-router';
import type { OpenChange } from '../api/types.js';
import { Popup } from '../shell/popup.js';
import { RelativeTime } from '../shell/relative-time.js';
import { scopePath, useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { concernText } from './requests.js';
import { useNotificationChoice } from './use-browser-notifications.js';
import { stateKey, useConcerns } from './use-concerns.js';

/** How many concerns are listed at first, and added on demand. */
const listedAtATime = 30;

/** What concerns the user: decisions on own requests with their reasons, and requests that need a review. */
export default function ConcernsPopup({ onClose }: { readonly onClose: () => void }) {
  const { t } = useI18n();
  const { concerns } = useConcerns();
  const { fresh, listed, showMore } = useList();
  const { isPossible, enabled, setEnabled } = useNotificationChoice();
  const list = useRef<HTMLDivElement>(null);
  const more = (): void => {
    // The button may go away: the focus must not leave the list.
    list.current?.focus();
    showMore();
  };
  return (
    <Popup label={t.approvals.bell(0)} width={340} onClose={onClose}>
      <Stack gap="xs">
        <Text fw={600} size="sm">
          {t.approvals.bell(0)}
        </Text>
        {concerns.length === 0 && (
          <Text size="sm" c="dimmed">
            {t.approvals.noConcerns}
          </Text>
        )}
        <Stack
          component="ul"
          gap={10}
          mah="min(60dvh, 420px)"
          fz="sm"
          className="fc-list fc-concerns"
          ref={list}
          tabIndex={-1}
        >
          {listed.map((change) => (
            <Concern key={change.id} change={change} isNew={fresh.has(stateKey(change))} onOpen={onClose} />
          ))}
        </Stack>
        {concerns.length > listed.length && (
          <Button variant="subtle" size="compact-sm" onClick={more}>
            {t.approvals.moreConcerns}
          </Button>
        )}
        {isPossible && (
          <Switch
            size="xs"
            label={t.approvals.notifyMe}
            checked={enabled}
            onChange={(event) => setEnabled(event.currentTarget.checked)}
          />
        )}
      </Stack>
    </Popup>
  );
}

/** The list of concerns. What it shows counts as seen, also what arrives meanwhile. */
function useList() {
  const { concerns, unseen, markSeen } = useConcerns();
  const [fresh, setFresh] = useState<ReadonlySet<string>>(new Set());
  const [limit, setLimit] = useState(listedAtATime);
  const visibility = useDocumentVisibility();
  const listed = useMemo(() => concerns.slice(0, limit), [concerns, limit]);
  useEffect(() => {
    const seen = visibility === 'visible' ? unseen.filter((change) => listed.includes(change)) : [];
    if (seen.length === 0) return;
    setFresh((known) => new Set([...known, ...seen.map(stateKey)]));
    markSeen(seen);
  }, [visibility, listed, unseen, markSeen]);
  return { fresh, listed, showMore: () => setLimit(limit + listedAtATime) };
}

interface ConcernProps {
  readonly change: OpenChange;
  readonly isNew: boolean;
  readonly onOpen: () => void;
}

function Concern({ change, isNew, onOpen }: ConcernProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const reason = change.status === 'pending' ? change.reason : change.decision_reason;
  return (
    <li data-new={isNew || undefined}>
      <Link
        to={scopePath(project.id, environment.key, `approvals/${change.id}`)}
        className="fc-wrap"
        style={{ color: 'inherit' }}
        onClick={onOpen}
      >
        {concernText(change, t)}
      </Link>
      <Text size="xs" c="dimmed" component="div">
        {visible(change.project)} / {visible(change.environment)} ·{' '}
        <RelativeTime at={change.decided_at ?? change.created_at} />
      </Text>
      {reason !== null && (
        <Text size="xs" lineClamp={3} className="fc-wrap">
          {visible(reason)}
        </Text>
      )}
    </li>
  );
}
