import type { FeatureState } from '@flagcast/client';
import { Button, Group, Paper, Stack, Switch, Text, Textarea, TextInput, Title } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import type { ChangedEntity } from '../api/types.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { ReasonDialog } from '../features/reason-dialog.js';
import { useWrite } from '../features/use-write.js';
import { useNotifications } from '../shell/notifications.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { ConcurrentChanges } from './concurrent-changes.js';
import { useEdit } from './use-edit.js';
import { visible } from '../i18n/visible.js';

interface EditFormProps {
  readonly feature: FeatureState;
  /** Author of the last change; null if unknown. */
  readonly changedBy: string | null;
  /** The flag was deleted: it cannot be saved. */
  readonly gone: boolean;
}

/** The server's limits, in characters. */
const maxLengths = { name: 50, description: 300, default_value: 128, rollout_key: 1_000 };

/** The text with its invisible characters shown, for below an input; null if there are none. */
function hiddenIn(text: string | null): string | null {
  const shown = visible(text ?? '');
  return shown === (text ?? '') ? null : shown;
}

const sharedFields = ['name', 'description', 'rollout_key'] as const;

/** The form of a flag. Saving sends the changed fields and the version they are based on. */
export function EditForm({ feature, changedBy, gone }: EditFormProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const rights = useRights();
  const { busy, send } = useWrite();
  const { notify } = useNotifications();
  const edit = useEdit(feature, changedBy);
  const [reasonOpened, setReasonOpened] = useState(false);
  const [fieldErrors, setFieldErrors] = useState<Readonly<Record<string, string>>>({});
  const { mine } = edit;
  const dirty = Object.keys(edit.changed).length > 0;
  const { open } = useOpenChanges();
  const isThis = ({ entity, entity_id: id }: ChangedEntity): boolean =>
    entity === 'feature' && id === feature.id;
  // The rollout key applies to all environments, so a guard of any of them counts.
  const guarding =
    environment.guarded || edit.changed.rollout_key === undefined
      ? environment
      : (project.environments.find((each) => each.guarded) ?? environment);
  const { guarded } = guarding;
  // While a request is open, the shared fields stay as its approver sees them.
  const isShared = sharedFields.some((name) => edit.changed[name] !== undefined);
  const hasPending = (guarded || isShared) && open.some(({ entities }) => entities.some(isThis));

  const save = async (reason?: string): Promise<void> => {
    const outcome = await send(
      'PATCH',
      `/api/features/${feature.id}`,
      {
        env: environment.key,
        version: edit.version,
        ...edit.changed,
        ...(reason === undefined ? {} : { reason }),
      },
      ['stale_version'],
    );
    setReasonOpened(outcome === 'reason_needed');
    if (outcome === 'done') {
      edit.saved();
      notify('success', t.feature.saved);
    } else if (outcome === 'requested') edit.reset();
    else if (outcome !== 'reason_needed' && outcome.code === 'stale_version') {
      const { current, changed_by: by } = outcome.body as {
        current: FeatureState;
        changed_by: { username: string } | null;
      };
      edit.refresh(current, by?.username ?? null);
    }
    setFieldErrors(typeof outcome === 'string' ? {} : outcome.fields);
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (!dirty || edit.blocked || hasPending) return;
    if (guarded) setReasonOpened(true);
    else void save();
  };
  const locked = gone || !rights.manage;
  const errorOf = (field: string): string | null => fieldErrors[field] ?? null;

  return (
    <Paper withBorder p="lg" component="form" onSubmit={submit} aria-label={t.feature.details}>
      <Stack>
        <Group justify="space-between">
          <Title order={2}>{t.feature.details}</Title>
          <Text size="xs" c="dimmed">
            {rights.manage ? null : rights.toggle ? t.feature.canToggle : t.feature.readOnly}
          </Text>
        </Group>
        <ConcurrentChanges edit={edit} />
        <div className="fc-legend-line">{t.feature.thisEnvironment}</div>
        <Switch
          label={t.feature.enabledIn(environment.name)}
          checked={mine.enabled}
          disabled={gone || !rights.toggle}
          onChange={(event) => edit.set('enabled', event.currentTarget.checked)}
          color="teal.8"
          size="md"
        />
        <TextInput
          label={t.feature.valueIn(environment.name)}
          value={mine.default_value}
          description={hiddenIn(mine.default_value)}
          readOnly={locked}
          maxLength={maxLengths.default_value}
          onChange={(event) => edit.set('default_value', event.currentTarget.value)}
          error={errorOf('default_value')}
        />
        <div className="fc-legend-line">{t.feature.allEnvironments}</div>
        <TextInput
          label={t.fields.name}
          maxLength={maxLengths.name}
          required
          withAsterisk={false}
          value={mine.name}
          description={hiddenIn(mine.name)}
          readOnly={locked}
          onChange={(event) => edit.set('name', event.currentTarget.value)}
          error={errorOf('name')}
        />
        <Textarea
          label={t.fields.description}
          value={mine.description ?? ''}
          description={hiddenIn(mine.description)}
          readOnly={locked}
          autosize
          minRows={2}
          maxLength={maxLengths.description}
          onChange={(event) => {
            const { value } = event.currentTarget;
            edit.set('description', value === '' ? null : value);
          }}
          error={errorOf('description')}
        />
        <TextInput
          label={t.fields.rollout_key}
          value={mine.rollout_key ?? ''}
          description={hiddenIn(mine.rollout_key)}
          readOnly={locked}
          maxLength={maxLengths.rollout_key}
          onChange={(event) => {
            const { value } = event.currentTarget;
            edit.set('rollout_key', value === '' ? null : value);
          }}
          error={errorOf('rollout_key')}
        />
        {hasPending && rights.toggle && !gone && (
          <Text size="sm" c="dimmed">
            {t.feature.hasPending}
          </Text>
        )}
        {rights.toggle && !gone && (
          <Group justify="flex-end">
            <Button variant="default" disabled={!dirty || busy} onClick={edit.reset}>
              {t.feature.discard}
            </Button>
            <Button type="submit" disabled={!dirty || edit.blocked || hasPending} loading={busy}>
              {guarded ? t.approvals.request : t.feature.save}
            </Button>
          </Group>
        )}
      </Stack>
      {reasonOpened && (
        <ReasonDialog
          title={t.approvals.requestTitle(feature.name)}
          explanation={guarded ? t.approvals.reasonForEnvironment(guarding.name) : t.approvals.reasonForFlag}
          submitLabel={t.approvals.request}
          busy={busy}
          onClose={() => setReasonOpened(false)}
          onSubmit={({ reason }) => void save(reason)}
        />
      )}
    </Paper>
  );
}
