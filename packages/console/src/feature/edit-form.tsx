import type { FeatureState } from '@flagcast/client';
import { Button, Group, Paper, Stack, Switch, Text, Textarea, TextInput, Title } from '@mantine/core';
import type { ChangeEvent, SubmitEvent } from 'react';
import { RequestDialog } from '../features/request-dialog.js';
import { useLimit } from '../features/use-limit.js';
import { useLeaveGuard } from '../shell/leave-guard.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { ConcurrentChanges } from './concurrent-changes.js';
import { maxLengths, type TextField } from './edit-state.js';
import { type Edit, useEdit } from './use-edit.js';
import { useSave } from './use-save.js';
import { visible } from '../i18n/visible.js';

interface EditFormProps {
  readonly feature: FeatureState;
  /** Author of the last change; null if unknown. */
  readonly changedBy: string | null;
  /** The flag was deleted: it cannot be saved. */
  readonly gone: boolean;
}

/** The form of a flag. */
export function EditForm({ feature, changedBy, gone }: EditFormProps) {
  const { t } = useI18n();
  const { toggle, manage } = useRights();
  const edit = useEdit(feature, changedBy);
  const save = useSave(feature, edit);
  const { guarding } = save;
  useLeaveGuard(edit.isDirty && !gone);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    save.submit();
  };
  return (
    <Paper withBorder p="lg" component="form" onSubmit={submit} aria-label={t.feature.details}>
      <Stack>
        <Group justify="space-between">
          <Title order={2}>{t.feature.details}</Title>
          <Text size="xs" c="dimmed">
            {manage ? null : toggle ? t.feature.canToggle : t.feature.readOnly}
          </Text>
        </Group>
        <ConcurrentChanges edit={edit} />
        <Fields edit={edit} gone={gone} saving={save.busy} errors={save.fieldErrors} />
        {toggle && !gone && (
          <>
            {save.hasPending && (
              <Text size="sm" c="dimmed">
                {t.feature.hasPending}
              </Text>
            )}
            <Group justify="flex-end">
              <Button variant="default" disabled={!edit.isDirty || save.busy} onClick={edit.reset}>
                {t.feature.discard}
              </Button>
              <Button type="submit" disabled={!save.ready} loading={save.busy}>
                {guarding.guarded ? t.approvals.request : t.feature.save}
              </Button>
            </Group>
          </>
        )}
      </Stack>
      {save.asksReason && (
        <RequestDialog
          featureId={feature.id}
          title={t.approvals.requestTitle(feature.name)}
          guarding={guarding}
          blocked={gone ? t.feature.deletedHint : edit.blocked ? t.feature.conflictHint : null}
          busy={save.busy}
          onClose={save.closeReason}
          onSubmit={save.submitReason}
        />
      )}
    </Paper>
  );
}

interface FieldsProps {
  readonly edit: Edit;
  readonly gone: boolean;
  /** While the changes are being saved, the fields do not change. */
  readonly saving: boolean;
  readonly errors: Readonly<Record<string, string>>;
}

function Fields({ edit, gone, saving, errors }: FieldsProps) {
  const { t } = useI18n();
  const { environment } = useScope();
  const { toggle, manage } = useRights();
  const { mine } = edit;
  const limit = useLimit();
  const textOf = (field: TextField) => {
    const text = mine[field] ?? '';
    const { note, tooLong } = limit(text, maxLengths[field]);
    return {
      value: text,
      description: hiddenIn(text) ?? note,
      readOnly: gone || !manage || saving,
      error: tooLong ?? errors[field] ?? null,
      onChange: (event: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => {
        const { value } = event.currentTarget;
        const isNullable = field === 'description' || field === 'rollout_key';
        edit.set(field, value === '' && isNullable ? null : value);
      },
    };
  };
  return (
    <>
      <div className="fc-legend-line">{t.feature.thisEnvironment}</div>
      <Switch
        label={t.feature.enabledIn(environment.name)}
        checked={mine.enabled}
        disabled={gone || !toggle}
        onChange={(event) => {
          if (!saving) edit.set('enabled', event.currentTarget.checked);
        }}
        color="teal.8"
        size="md"
      />
      <TextInput label={t.feature.valueIn(environment.name)} {...textOf('default_value')} />
      <div className="fc-legend-line">{t.feature.allEnvironments}</div>
      <TextInput label={t.fields.name} required withAsterisk={false} {...textOf('name')} />
      <Textarea label={t.fields.description} autosize minRows={2} {...textOf('description')} />
      <TextInput label={t.fields.rollout_key} {...textOf('rollout_key')} />
    </>
  );
}

/** The text with its invisible characters shown, for below an input; null if there are none. */
function hiddenIn(text: string): string | null {
  const shown = visible(text);
  return shown === text ? null : shown;
}
