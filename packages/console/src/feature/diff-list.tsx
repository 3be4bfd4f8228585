import { Text } from '@mantine/core';
import type { FieldDiff } from '../api/types.js';
import { useI18n } from '../i18n/i18n.js';
import { FieldValue } from './field-value.js';
import { nameOf } from '../i18n/visible.js';

/** Returns the label of a field. */
export function useFieldName(): (field: string) => string {
  const { t } = useI18n();
  return (field) => nameOf(t.fields, field);
}

/** The title of the entry shows these. */
const hiddenFields = new Set(['id', 'feature_id', 'project_id', 'environment_id']);

interface DiffListProps {
  readonly diff: readonly FieldDiff[];
}

/** The old and new value of each changed field. Fields that are empty in both are hidden. */
export function DiffList({ diff }: DiffListProps) {
  const { t } = useI18n();
  const fieldName = useFieldName();
  const shown = diff.filter(
    (each) => !hiddenFields.has(each.field) && ((each.old ?? '') !== '' || (each.new ?? '') !== ''),
  );
  if (shown.length === 0) return null;
  return (
    <dl className="fc-diff">
      {shown.map(({ field, old, new: now }) => (
        <div key={field}>
          <dt>{fieldName(field)}</dt>
          <dd>
            {(old ?? null) !== null && (
              <del>
                <span className="fc-hidden">{t.feature.was} </span>
                <FieldValue field={field} value={old} />
              </del>
            )}
            {(old ?? null) !== null && (now ?? null) !== null && (
              <Text component="span" c="dimmed" aria-hidden="true">
                →
              </Text>
            )}
            {(now ?? null) !== null && (
              <ins>
                <span className="fc-hidden">{t.feature.is} </span>
                <FieldValue field={field} value={now} />
              </ins>
            )}
          </dd>
        </div>
      ))}
    </dl>
  );
}
