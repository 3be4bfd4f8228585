import { Avatar, Badge, Code, Text } from '@mantine/core';
import { memo } from 'react';
import { Link } from 'react-router';
import { actionColors, actionOf } from '../api/actions.js';
import { DiffList } from '../feature/diff-list.js';
import { RelativeTime, useNowMs } from '../shell/relative-time.js';
import { scopePath, useScope } from '../shell/scope.js';
import { toTimeMs } from '../i18n/format.js';
import { useI18n } from '../i18n/i18n.js';
import { sortTime } from './history-pages.js';
import { LoadOlder } from './load-older.js';
import type { HistoryItem } from './timeline.js';
import type { Timeline } from './use-history.js';
import { avatarName, nameOf, visible } from '../i18n/visible.js';

interface HistoryListProps {
  readonly timeline: Timeline;
  /** What stands there without entries. */
  readonly empty: string;
  /** How an entry names its feature: by a link, by the entity's id (if names are unknown), or not at all. */
  readonly about: 'name' | 'id' | 'nothing';
}

/** The history, newest first, and what there is to say about it. */
export function HistoryList({ timeline, empty, about }: HistoryListProps) {
  const { items, error, loading, liveOnly } = timeline;
  return (
    <>
      {items.length === 0 && !loading && error === null && (
        <Text size="sm" c="dimmed">
          {empty}
        </Text>
      )}
      <Days entries={items} about={about} />
      {!liveOnly && <LoadOlder timeline={timeline} />}
    </>
  );
}

interface DaysProps extends Pick<HistoryListProps, 'about'> {
  readonly entries: readonly HistoryItem[];
}

/** Entries grouped by day. */
function Days({ entries, about }: DaysProps) {
  const { format } = useI18n();
  const nowMs = useNowMs(60_000);
  const days = new Map<string, HistoryItem[]>();
  for (const entry of entries) {
    const atMs = toTimeMs(sortTime(entry));
    const day = atMs === null ? sortTime(entry) : format.day(atMs, nowMs);
    const sameDay = days.get(day);
    if (sameDay === undefined) days.set(day, [entry]);
    else sameDay.push(entry);
  }
  return [...days].map(([day, sameDay]) => (
    <section key={day} aria-label={day}>
      <Text size="xs" fw={600} c="dimmed" className="fc-day" component="h3">
        {day}
      </Text>
      <ol className="fc-list">
        {sameDay.map((entry) => (
          <HistoryLine key={entry.id} entry={entry} about={about} />
        ))}
      </ol>
    </section>
  ));
}

interface HistoryLineProps extends Pick<HistoryListProps, 'about'> {
  readonly entry: HistoryItem;
}

const HistoryLine = memo(function HistoryLine({ entry, about }: HistoryLineProps) {
  const { t, format } = useI18n();
  const { project, environment, projects } = useScope();
  const { entity, username, created_at: at, feature_id: featureId } = entry;
  const isElsewhere = entry.project_id !== project.id || entry.environment !== environment.key;
  const atMs = at === null ? null : toTimeMs(at);
  const action = actionOf(entry);
  const who = username ?? (entry.source === 'audit' ? t.activity.system : t.activity.unknownUser);
  return (
    <li className="fc-entry" data-action={action}>
      <Avatar name={avatarName(username ?? '?')} color="initials" size={30} aria-hidden="true" />
      <Text size="sm" component="div" className="fc-entry-title">
        <strong>{visible(who)}</strong>
        <Badge variant="light" color={actionColors.get(action) ?? 'blue'} tt="none" size="md" mx={6}>
          {nameOf(t.actions, action)} · {nameOf(t.entities, entity)}
        </Badge>
        {about === 'id' && <Code>{visible(entry.entity_id)}</Code>}
        {about === 'name' && featureId !== null && <FeatureLink entry={entry} />}
        {about === 'name' && isElsewhere && (
          <Badge variant="default" tt="none" fw={500}>
            {visible(projects.find(({ id }) => id === entry.project_id)?.name ?? '')} /{' '}
            {visible(entry.environment)}
          </Badge>
        )}
      </Text>
      <Text size="xs" c="dimmed" component="span" className="fc-entry-time">
        {at === null ? (
          t.activity.timeUnknown
        ) : (
          <>
            {atMs !== null && <span title={`${format.exact(atMs)}\n${at}`}>{format.time(atMs)} · </span>}
            <RelativeTime at={at} />
          </>
        )}
      </Text>
      {entry.reason !== null && <blockquote className="fc-reason">{visible(entry.reason)}</blockquote>}
      {entry.truncated && (
        <Text size="xs" c="dimmed">
          {t.activity.truncated}
        </Text>
      )}
      <DiffList diff={entry.diff} />
    </li>
  );
});

/** The name of the flag, with a link to its page, or of a deleted flag to its history. */
function FeatureLink({ entry }: { readonly entry: HistoryItem }) {
  const { t } = useI18n();
  const { feature_name: name, feature_deleted: isDeleted } = entry;
  if (!isDeleted && name === null) return null;
  const page = `${isDeleted ? 'activity?feature_id=' : 'features/'}${entry.feature_id ?? ''}`;
  return (
    <>
      <Link to={scopePath(entry.project_id, entry.environment, page)} className="fc-link fc-wrap">
        {visible(name ?? t.approvals.deletedFeature)}
      </Link>
      {isDeleted && name !== null && (
        <Text size="xs" c="dimmed" component="span">
          {t.activity.deletedFlag}
        </Text>
      )}
    </>
  );
}
