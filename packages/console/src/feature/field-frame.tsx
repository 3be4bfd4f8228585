import { Alert, Button, Group, Text } from '@mantine/core';
import type { ReactNode } from 'react';
import { Editing } from '../shell/presence.js';
import { useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';
import type { FieldName } from './edit-state.js';
import { FieldValue } from './field-value.js';
import type { Edit } from './use-edit.js';

interface FieldFrameProps {
  readonly field: FieldName;
  readonly edit: Edit;
  readonly children: ReactNode;
}

/**
 * A field of the form with its news: that it is not saved yet, who has just changed it, and the choice if both did.
 * What appears is beside the label or below the input, so that the input stays where it is.
 */
export function FieldFrame({ field, edit, children }: FieldFrameProps) {
  const { t } = useI18n();
  const { me } = useScope();
  const isUnsaved = Object.hasOwn(edit.changed, field);
  const arrived =
    edit.arrived?.fields.includes(field) === true && edit.arrived.by !== me.user.username
      ? edit.arrived
      : null;
  return (
    <div className="fc-field" data-field={field} data-unsaved={isUnsaved || undefined}>
      {arrived !== null && <span key={arrived.version} className="fc-flash" role="presentation" />}
      <div className="fc-field-notes">
        {arrived !== null && (
          <span key={arrived.version} className="fc-flash-by">
            {t.features.happened(arrived.by, t.actions.updated)}
          </span>
        )}
        {isUnsaved && <span className="fc-unsaved">{t.feature.unsaved}</span>}
      </div>
      {children}
      <Editing field={field} />
      <Concurrent field={field} edit={edit} />
    </div>
  );
}

/** What another user has changed in the field while the user was editing. */
function Concurrent({ field, edit }: Pick<FieldFrameProps, 'field' | 'edit'>) {
  const { t } = useI18n();
  const change = edit.concurrent.find((each) => each.field === field);
  if (change === undefined) return null;
  const { before, theirs, by, conflict } = change;
  if (!conflict) {
    return (
      <Text size="sm" c="dimmed" component="div" mt={4}>
        <FieldValue field={field} value={before} /> → <FieldValue field={field} value={theirs} /> ·{' '}
        {t.feature.updatedForYou}
      </Text>
    );
  }
  return (
    <Alert role="alert" color="orange" mt="xs">
      <Text size="sm" fw={600}>
        {t.feature.changedWhileEditing(by)}
      </Text>
      <dl className="fc-diff">
        <div>
          <dt>{t.feature.mine}</dt>
          <dd>
            <FieldValue field={field} value={edit.mine[field]} />
          </dd>
        </div>
        <div>
          <dt>{by === null ? t.feature.theirs : visible(by)}</dt>
          <dd>
            <FieldValue field={field} value={theirs} />
          </dd>
        </div>
      </dl>
      <Group gap="xs" mt="xs">
        <Button size="xs" variant="default" onClick={() => edit.keepMine(field)}>
          {t.feature.keepMine}
        </Button>
        <Button size="xs" variant="default" onClick={() => edit.takeTheirs(field)}>
          {t.feature.takeTheirs}
        </Button>
      </Group>
    </Alert>
  );
}
