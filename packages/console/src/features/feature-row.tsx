import type { FeatureState, PendingChange } from '@flagcast/client';
import { memo } from 'react';
import { Link } from 'react-router';
import type { Environment } from '../api/types.js';
import { EnvironmentKey } from '../shell/environment-name.js';
import { RelativeTime } from '../shell/relative-time.js';
import { ClockIcon } from '../shell/icons.js';
import { scopePath, useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { nameOf, visible } from '../i18n/visible.js';
import { isDifferent, tagsOf } from './feature-list.js';
import { FlagValue, PendingBadge, TagBadge } from './flag-parts.js';
import { FeatureSwitch } from './feature-switch.js';
import type { LastChange } from './last-changes.js';
import type { RecordedChange } from './recorded-changes.js';
import { type Column, inColumns } from './use-list-view.js';

/** The flag in another environment. */
interface Elsewhere {
  readonly environment: Environment;
  /** Undefined while it is not loaded. */
  readonly feature: FeatureState | undefined;
  readonly hasPending: boolean;
}

interface FeatureRowProps {
  readonly feature: FeatureState;
  /** The flag was deleted after the rows were sorted. */
  readonly gone: boolean;
  readonly pending: readonly PendingChange[] | undefined;
  readonly change: LastChange | undefined;
  /** The event that highlights the row. */
  readonly newest: LastChange | undefined;
  readonly recorded: RecordedChange | undefined;
  readonly columns: readonly Column[];
  /** The environments with a column. */
  readonly others: readonly Elsewhere[];
  readonly index: number;
  readonly top: number;
  readonly height: number;
}

/** How long a changed row is highlighted. */
const highlightMs = 4_000;

export const FeatureRow = memo(function FeatureRow(props: FeatureRowProps) {
  const { feature, gone, newest, columns, others, index, top, height } = props;
  const isHighlighted = newest !== undefined && Date.now() - newest.arrivedAtMs < highlightMs;
  const cell = (column: Column) => (
    <div key={column} role="cell" className={`fc-cell-${column}`}>
      {column === 'changed' ? (
        <LastChangeContent {...props} isHighlighted={isHighlighted} />
      ) : (
        <FieldContent feature={feature} column={column} />
      )}
    </div>
  );
  return (
    <div
      className="fc-row fc-feature"
      role="row"
      aria-rowindex={index + 2}
      data-index={index}
      data-row={feature.id}
      data-feature={feature.key}
      data-gone={gone || undefined}
      style={{ transform: `translateY(${top}px)`, height }}
    >
      {isHighlighted && <span key={newest.eventId} className="fc-flash" role="presentation" />}
      <FlagCell {...props} />
      <div role="cell" className="fc-cell-state">
        <FeatureSwitch feature={feature} disabled={gone} />
      </div>
      {inColumns(columns, cell, () =>
        others.map((each) => <ElsewhereCell key={each.environment.id} here={feature} {...each} />),
      )}
    </div>
  );
}, isSameRow);

/** Whether a row looks the same. The cells of other environments are new objects each time. */
function isSameRow(before: FeatureRowProps, next: FeatureRowProps): boolean {
  const { others, ...rest } = next;
  return (
    Object.entries(rest).every(([name, value]) => before[name as keyof FeatureRowProps] === value) &&
    others.length === before.others.length &&
    others.every(({ environment, feature, hasPending }, index) => {
      const known = before.others[index];
      return (
        known?.environment === environment && known.feature === feature && known.hasPending === hasPending
      );
    })
  );
}

function FlagCell({ feature, pending }: FeatureRowProps) {
  const { project, environment } = useScope();
  return (
    <div role="cell" className="fc-cell-flag">
      <Link
        to={`${scopePath(project.id, environment.key, 'features')}/${feature.id}`}
        state={{ fromList: true }}
        className="fc-flag-link fc-link fc-truncate"
        title={visible(feature.name)}
        data-row-link
      >
        {visible(feature.name)}
      </Link>
      <span className="fc-flag-details">
        <code className="fc-note fc-truncate">{visible(feature.key)}</code>
        {pending?.map((change) => (
          <PendingBadge key={change.id} change={change} />
        ))}
      </span>
    </div>
  );
}

interface FieldContentProps {
  readonly feature: FeatureState;
  readonly column: Exclude<Column, 'changed'>;
}

function FieldContent({ feature, column }: FieldContentProps) {
  const { t } = useI18n();
  switch (column) {
    case 'value':
      return <FlagValue value={feature.default_value} />;
    case 'description':
      return (
        <div className="fc-note fc-truncate" title={visible(feature.description ?? '')}>
          {visible(feature.description ?? '')}
        </div>
      );
    case 'kind':
      return <span className="fc-note">{nameOf(t.kinds, feature.kind)}</span>;
    case 'tags':
      return tagsOf(feature).map((tag) => <TagBadge key={tag.slug} tag={tag} size="sm" fw={400} />);
  }
}

/** The flag in another environment, which it links to. */
function ElsewhereCell({ here, ...elsewhere }: Elsewhere & { readonly here: FeatureState }) {
  const { environment, feature, hasPending } = elsewhere;
  const { t } = useI18n();
  const { project } = useScope();
  if (feature === undefined) return <div role="cell" className="fc-elsewhere" />;
  return (
    <div role="cell" className="fc-elsewhere" data-differs={isDifferent(feature, here) || undefined}>
      {/* Cards have no heads. */}
      <span className="fc-note mantine-hidden-from-sm">
        <EnvironmentKey environment={environment} />
      </span>
      <Link
        to={scopePath(project.id, environment.key, `features/${feature.id}`)}
        className="fc-link"
        title={feature.enabled ? t.feature.onIn(environment.name) : t.feature.offIn(environment.name)}
        data-on={feature.enabled || undefined}
      >
        {feature.enabled ? t.features.on : t.features.off}
      </Link>
      <FlagValue value={feature.default_value} />
      {hasPending && (
        <span className="fc-guarded" role="img" aria-label={t.features.pending} title={t.features.pending}>
          <ClockIcon size={14} />
        </span>
      )}
    </div>
  );
}

interface LastChangeProps extends FeatureRowProps {
  readonly isHighlighted: boolean;
}

function LastChangeContent({ feature, change, newest, recorded, isHighlighted }: LastChangeProps) {
  const { t } = useI18n();
  const changedBy = change === undefined ? recorded?.username : change.actor;
  return (
    <>
      {typeof changedBy === 'string' && <span className="fc-truncate">{visible(changedBy)}</span>}
      <span className="fc-note">
        <RelativeTime at={change?.timestamp ?? recorded?.at ?? feature.updated_at} />
      </span>
      {isHighlighted && newest !== undefined && (
        <span key={newest.eventId} className="fc-flash-by fc-truncate">
          {t.features.happened(newest.actor, nameOf(t.actions, newest.action))}
        </span>
      )}
    </>
  );
}
