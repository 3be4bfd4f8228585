import { Badge, Button, Popover, Stack, Switch, Text, UnstyledButton } from '@mantine/core';
import { useDocumentVisibility } from '@mantine/hooks';
import { useEffect, useMemo, useRef, useState } from 'react';
import { Link } from 'react-router';
import type { OpenChange } from '../api/types.js';
import { BellIcon } from '../shell/icons.js';
import { RelativeTime } from '../shell/relative-time.js';
import { scopePath, useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { concernText } from './request-text.js';
import { useBrowserNotifications } from './use-browser-notifications.js';
import { stateKey, useConcerns } from './use-concerns.js';

/** How many concerns are listed at first, and added on demand. */
const listedAtATime = 30;

/** What concerns the user: decisions on own requests with their reasons, and requests that need a review. */
export function Bell() {
  const { t } = useI18n();
  const { concerns, unseen } = useConcerns();
  const { isPossible, enabled, setEnabled } = useBrowserNotifications(concerns);
  const { fresh, setOpened, listed, showMore } = useList();
  const isOpened = fresh !== null;
  const label = t.approvals.bell(unseen.length);
  const list = useRef<HTMLUListElement>(null);
  const more = (): void => {
    // The button may go away: the focus must not leave the list.
    list.current?.focus();
    showMore();
  };
  return (
    <Popover
      position="bottom-end"
      width={340}
      opened={isOpened}
      onChange={setOpened}
      trapFocus
      returnFocus
      shadow="md"
    >
      <Popover.Target>
        <UnstyledButton className="fc-bell" aria-label={label} onClick={() => setOpened(!isOpened)}>
          <span className="fc-bottom-icon">
            <BellIcon size={20} />
            {unseen.length > 0 && (
              <Badge size="xs" color="red.8" circle={unseen.length < 10}>
                {unseen.length}
              </Badge>
            )}
          </span>
        </UnstyledButton>
      </Popover.Target>
      <Popover.Dropdown p="sm" aria-label={t.approvals.concerns}>
        <Stack gap="xs">
          <Text fw={600} size="sm">
            {t.approvals.concerns}
          </Text>
          {concerns.length === 0 && (
            <Text size="sm" c="dimmed">
              {t.approvals.noConcerns}
            </Text>
          )}
          <ul className="fc-concerns" ref={list} tabIndex={-1}>
            {listed.map((change) => (
              <Concern
                key={change.id}
                change={change}
                isNew={fresh?.has(stateKey(change)) === true}
                onOpen={() => setOpened(false)}
              />
            ))}
          </ul>
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
      </Popover.Dropdown>
    </Popover>
  );
}

/** The open list of concerns. What it shows counts as seen, also what arrives meanwhile. */
function useList() {
  const { concerns, unseen, markSeen } = useConcerns();
  /** What is new in the open list; null while it is closed. */
  const [fresh, setFresh] = useState<ReadonlySet<string> | null>(null);
  const [limit, setLimit] = useState(listedAtATime);
  const visibility = useDocumentVisibility();
  const listed = useMemo(() => concerns.slice(0, limit), [concerns, limit]);
  const isShown = fresh !== null && visibility === 'visible';
  useEffect(() => {
    const seen = isShown ? unseen.filter((change) => listed.includes(change)) : [];
    if (seen.length === 0) return;
    setFresh((known) => new Set([...(known ?? []), ...seen.map(stateKey)]));
    markSeen(seen);
  }, [isShown, listed, unseen, markSeen]);
  return {
    fresh,
    listed,
    setOpened: (opened: boolean): void => {
      setFresh(opened ? new Set() : null);
      setLimit(listedAtATime);
    },
    showMore: () => setLimit(limit + listedAtATime),
  };
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
      <Link to={scopePath(project.id, environment.key, `approvals/${change.id}`)} onClick={onOpen}>
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
