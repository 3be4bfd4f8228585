import { Alert, Button, Group, Stack, Text } from '@mantine/core';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import { useFieldName } from './diff-list.js';
import { FieldValue } from './field-value.js';
import type { Edit } from './use-edit.js';

/** Changes that others made while the user was editing, and the choice between conflicting values. */
export function ConcurrentChanges({ edit }: { readonly edit: Edit }) {
  const { t } = useI18n();
  const fieldName = useFieldName();
  if (edit.concurrent.length === 0) return null;
  return (
    <Alert
      color={edit.blocked ? 'orange' : 'blue'}
      title={t.feature.changedWhileEditing(edit.concurrentBy)}
      role="alert"
      className="fc-concurrent"
      data-blocked={edit.blocked || undefined}
    >
      <Stack gap="sm">
        {edit.blocked && <Text size="sm">{t.feature.conflictHint}</Text>}
        {edit.concurrent.map(({ field, before, theirs, conflict }) => (
          <div key={field} className="fc-concurrent-field" data-conflict={conflict || undefined}>
            <Text fw={600} size="sm">
              {fieldName(field)}
            </Text>
            {conflict ? (
              <>
                <dl className="fc-versions">
                  <div className="fc-version">
                    <dt>{t.feature.mine}</dt>
                    <dd>
                      <FieldValue field={field} value={edit.mine[field]} />
                    </dd>
                  </div>
                  <div className="fc-version">
                    <dt>{edit.concurrentBy === null ? t.feature.theirs : visible(edit.concurrentBy)}</dt>
                    <dd>
                      <FieldValue field={field} value={theirs} />
                    </dd>
                  </div>
                </dl>
                <Group gap="xs">
                  <Button size="xs" variant="default" onClick={() => edit.keepMine(field)}>
                    {t.feature.keepMine}
                  </Button>
                  <Button size="xs" onClick={() => edit.takeTheirs(field)}>
                    {t.feature.takeTheirs}
                  </Button>
                </Group>
              </>
            ) : (
              <Text size="sm" component="div">
                <FieldValue field={field} value={before} /> → <FieldValue field={field} value={theirs} /> ·{' '}
                {t.feature.updatedForYou}
              </Text>
            )}
          </div>
        ))}
      </Stack>
    </Alert>
  );
}
