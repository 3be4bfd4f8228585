import { Text } from '@mantine/core';
import type { FieldDiff } from '../api/types.js';
import { useI18n } from '../i18n/i18n.js';
import { FieldValue } from './field-value.js';
import { nameOf } from '../i18n/visible.js';

/** What a field is called on the screen. */
export function useFieldName(): (field: string) => string {
  const { t } = useI18n();
  return (field) => nameOf(t.fields, field);
}

/** These only say what the entry's title says already. */
const unsaid = new Set(['id', 'feature_id', 'project_id', 'environment_id']);

interface DiffListProps {
  readonly diff: readonly FieldDiff[];
}

/** Field by field: what it was, what it is. Fields that were and are empty are left out. */
export function DiffList({ diff }: DiffListProps) {
  const { t } = useI18n();
  const fieldName = useFieldName();
  const told = diff.filter(
    (each) => !unsaid.has(each.field) && ((each.old ?? '') !== '' || (each.new ?? '') !== ''),
  );
  if (told.length === 0) return null;
  return (
    <dl className="fc-diff">
      {told.map(({ field, old, new: now }) => (
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
