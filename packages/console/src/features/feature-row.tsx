import type { FeatureState, PendingChange } from '@flagcast/client';
import { Badge, Code, Text } from '@mantine/core';
import { memo } from 'react';
import { Link } from 'react-router';
import { RelativeTime } from '../shell/relative-time.js';
import { ClockIcon } from '../shell/icons.js';
import { scopePath, useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { FeatureSwitch } from './feature-switch.js';
import type { LastChange } from './last-changes.js';
import type { RecordedChange } from './recorded-changes.js';
import { visible } from '../i18n/visible.js';

interface FeatureRowProps {
  readonly feature: FeatureState;
  /** The flag was deleted after the rows were sorted. */
  readonly gone: boolean;
  readonly pending: readonly PendingChange[] | undefined;
  readonly change: LastChange | undefined;
  /** The event that highlights the row. */
  readonly newest: LastChange | undefined;
  readonly recorded: RecordedChange | undefined;
  readonly index: number;
  readonly top: number;
  readonly height: number;
}

/** How long a changed row is highlighted. */
const highlightMs = 4_000;

export const FeatureRow = memo(function FeatureRow(props: FeatureRowProps) {
  const { feature, gone, pending, change, newest, recorded, index, top, height } = props;
  const { t } = useI18n();
  const { project, environment } = useScope();
  const isHighlighted = newest !== undefined && Date.now() - newest.arrivedAtMs < highlightMs;
  const happened: ReadonlyMap<string, (by: string | null) => string> = new Map(
    Object.entries(t.features.happened),
  );
  const changedBy = change === undefined ? recorded?.username : change.actor;
  return (
    <div
      className="fc-row fc-feature"
      role="row"
      aria-rowindex={index + 2}
      data-index={index}
      data-feature={feature.key}
      data-gone={gone || undefined}
      style={{ transform: `translateY(${top}px)`, height }}
    >
      {isHighlighted && <span key={newest.eventId} className="fc-flash" role="presentation" />}
      <div role="cell" className="fc-cell-flag">
        <Link
          to={`${scopePath(project.id, environment.key, 'features')}/${feature.id}`}
          className="fc-flag-link"
          title={visible(feature.name)}
          data-row-link
        >
          {visible(feature.name)}
        </Link>
        <Text size="xs" c="dimmed" ff="monospace" truncate component="span" className="fc-flag-key">
          {visible(feature.key)}
        </Text>
      </div>
      <div role="cell" className="fc-cell-state">
        <FeatureSwitch feature={feature} disabled={gone} />
      </div>
      <div role="cell" className="fc-cell-value">
        {feature.default_value === '' ? (
          <Text size="xs" c="dimmed">
            –
          </Text>
        ) : (
          <Code className="fc-value" title={visible(feature.default_value)}>
            {visible(feature.default_value)}
          </Code>
        )}
      </div>
      <div role="cell" className="fc-cell-pending">
        {pending?.map(({ id, requested_by: by, created_at: at }) => (
          <Badge
            key={id}
            variant="light"
            color="yellow"
            size="md"
            tt="none"
            className="fc-pending"
            leftSection={<ClockIcon size={12} />}
          >
            {t.features.pendingBy(by)} · <RelativeTime at={at} />
          </Badge>
        ))}
      </div>
      <div role="cell" className="fc-cell-changed">
        {typeof changedBy === 'string' && (
          <Text size="sm" truncate component="span">
            {visible(changedBy)}
          </Text>
        )}
        <Text size="xs" c="dimmed" component="span">
          <RelativeTime at={change?.timestamp ?? recorded?.at ?? feature.updated_at} />
        </Text>
        {isHighlighted && (
          <span key={newest.eventId} className="fc-flash-by">
            {(happened.get(newest.action) ?? t.features.happened.updated)(newest.actor)}
          </span>
        )}
      </div>
    </div>
  );
});
