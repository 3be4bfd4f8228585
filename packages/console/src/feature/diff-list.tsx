import { Badge, Text, VisuallyHidden } from '@mantine/core';
import type { ChangedEntity, FieldDiff, OpenChange, RequestedField } from '../api/types.js';
import { useI18n } from '../i18n/i18n.js';
import { changedFields, hasMoved } from '../approvals/requests.js';
import { FieldValue } from './field-value.js';
import { nameOf, visible } from '../i18n/visible.js';

/** Returns the label of a field. */
export function useFieldName(): (field: string) => string {
  const { t } = useI18n();
  return (field) => nameOf(t.fields, field);
}

/** The title of the entry shows these. */
const hiddenFields = new Set(['id', 'feature_id', 'project_id', 'environment_id']);

interface DiffListProps {
  /** With `current`: the value now, shown if it is not the old one any more. */
  readonly diff: readonly RequestedField[];
  /** The fields to mark as changed. Default none. */
  readonly changed?: ReadonlySet<string>;
}

/** The old and new value of each changed field, and the current one if it has moved. Fields that are empty in all are hidden. */
export function DiffList({ diff, changed }: DiffListProps) {
  const { t } = useI18n();
  const fieldName = useFieldName();
  const shown = diff.filter(
    (each) =>
      !hiddenFields.has(each.field) && ((each.old ?? '') !== '' || (each.new ?? '') !== '' || hasMoved(each)),
  );
  if (shown.length === 0) return null;
  return (
    <dl className="fc-diff">
      {shown.map((each) => (
        <div key={each.field}>
          <dt>
            {fieldName(each.field)}
            {changed?.has(each.field) === true && (
              <Badge component="mark" variant="light" color="red" size="sm" tt="none" ml={6}>
                {t.approvals.changed}
              </Badge>
            )}
          </dt>
          <dd>{hasMoved(each) ? <ThreeValues {...each} /> : <TwoValues {...each} />}</dd>
        </div>
      ))}
    </dl>
  );
}

/** On and off have colours of their own: red for `on` would say that it is bad. */
const isOn = (value: unknown) => (typeof value === 'boolean' ? value : undefined);

function TwoValues({ field, old, new: now }: FieldDiff) {
  const { t } = useI18n();
  const [hasOld, hasNew] = [(old ?? null) !== null, (now ?? null) !== null];
  return (
    <>
      {hasOld && (
        <del data-on={isOn(old)}>
          <VisuallyHidden component="span">{t.feature.was} </VisuallyHidden>
          <FieldValue field={field} value={old} />
        </del>
      )}
      {hasOld && hasNew && (
        <Text component="span" c="dimmed" aria-hidden="true">
          →
        </Text>
      )}
      {hasNew && (
        <ins data-on={isOn(now)}>
          <VisuallyHidden component="span">{t.feature.is} </VisuallyHidden>
          <FieldValue field={field} value={now} />
        </ins>
      )}
    </>
  );
}

/** When it was requested, now, and after an approval. */
function ThreeValues({ field, old, new: after, current }: RequestedField) {
  const { approvals } = useI18n().t;
  return (
    <>
      <span>
        {approvals.whenRequested} <FieldValue field={field} value={old} />
      </span>
      <del data-on={isOn(current)}>
        {approvals.now} <FieldValue field={field} value={current} />
      </del>
      <ins data-on={isOn(after)}>
        {approvals.after} <FieldValue field={field} value={after} />
      </ins>
    </>
  );
}

interface EntityDiffsProps {
  readonly shown: OpenChange;
  /** Fields that differ from it are marked. Null: none. */
  readonly before?: OpenChange | null;
}

/** What a request changes in each entity. */
export function EntityDiffs({ shown, before = null }: EntityDiffsProps) {
  const { t } = useI18n();
  const hasSeveralFlags = new Set(shown.entities.map(({ feature_id: id }) => id)).size > 1;
  return shown.entities.map((entity) => (
    <div key={`${entity.entity} ${entity.entity_id}`}>
      <Text size="sm" fw={600}>
        {nameOf(t.approvals.verbs, entity.action ?? 'update')} · {nameOf(t.entities, entity.entity)}
        {hasSeveralFlags && ` · ${visible(entity.feature_name ?? t.approvals.deletedFeature)}`}
      </Text>
      <DiffList diff={diffOf(entity, shown)} changed={changedFields(entity, before)} />
    </div>
  ));
}

/** The current value says nothing about a request that is decided. */
function diffOf({ diff }: ChangedEntity, { status }: OpenChange): readonly RequestedField[] {
  if (status === 'pending') return diff;
  return diff.map(({ field, old, new: after }) => ({ field, old, new: after }));
}
