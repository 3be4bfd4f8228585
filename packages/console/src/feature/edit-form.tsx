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
  /** Who changed it last, as far as the page knows. */
  readonly changedBy: string | null;
  /** It has been deleted: nothing can be saved any more. */
  readonly gone: boolean;
}

/** In characters, as the server takes them. */
const longest = { name: 50, description: 300, default_value: 128, rollout_key: 1_000 };

/** An input shows a text as it is; what it hides is shown below it. */
function hiddenIn(text: string | null): string | null {
  const shown = visible(text ?? '');
  return shown === (text ?? '') ? null : shown;
}

const sharedFields = ['name', 'description', 'rollout_key'] as const;

/** The feature's fields. Saving sends only what was changed, and the version that it was changed from. */
export function EditForm({ feature, changedBy, gone }: EditFormProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const rights = useRights();
  const { busy, send } = useWrite();
  const { notify } = useNotifications();
  const edit = useEdit(feature, changedBy);
  const [asking, setAsking] = useState(false);
  const [problems, setProblems] = useState<Readonly<Record<string, string>>>({});
  const { mine } = edit;
  const dirty = Object.keys(edit.changed).length > 0;
  const { open } = useOpenChanges();
  const isThis = ({ entity, entity_id: id }: ChangedEntity): boolean =>
    entity === 'feature' && id === feature.id;
  // The rollout key decides who gets the flag in every environment.
  const guarding =
    environment.guarded || edit.changed.rollout_key === undefined
      ? environment
      : (project.environments.find((each) => each.guarded) ?? environment);
  const { guarded } = guarding;
  // What all environments share stays as the approver saw it.
  const isShared = sharedFields.some((name) => edit.changed[name] !== undefined);
  const waits = (guarded || isShared) && open.some(({ entities }) => entities.some(isThis));

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
    setAsking(outcome === 'reason_needed');
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
    setProblems(typeof outcome === 'string' ? {} : outcome.fields);
  };
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (!dirty || edit.blocked || waits) return;
    if (guarded) setAsking(true);
    else void save();
  };
  const locked = gone || !rights.manage;
  const problem = (field: string): string | null => problems[field] ?? null;

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
          maxLength={longest.default_value}
          onChange={(event) => edit.set('default_value', event.currentTarget.value)}
          error={problem('default_value')}
        />
        <div className="fc-legend-line">{t.feature.allEnvironments}</div>
        <TextInput
          label={t.fields.name}
          maxLength={longest.name}
          required
          withAsterisk={false}
          value={mine.name}
          description={hiddenIn(mine.name)}
          readOnly={locked}
          onChange={(event) => edit.set('name', event.currentTarget.value)}
          error={problem('name')}
        />
        <Textarea
          label={t.fields.description}
          value={mine.description ?? ''}
          description={hiddenIn(mine.description)}
          readOnly={locked}
          autosize
          minRows={2}
          maxLength={longest.description}
          onChange={(event) => {
            const { value } = event.currentTarget;
            edit.set('description', value === '' ? null : value);
          }}
          error={problem('description')}
        />
        <TextInput
          label={t.fields.rollout_key}
          value={mine.rollout_key ?? ''}
          description={hiddenIn(mine.rollout_key)}
          readOnly={locked}
          maxLength={longest.rollout_key}
          onChange={(event) => {
            const { value } = event.currentTarget;
            edit.set('rollout_key', value === '' ? null : value);
          }}
          error={problem('rollout_key')}
        />
        {waits && rights.toggle && !gone && (
          <Text size="sm" c="dimmed">
            {t.feature.hasPending}
          </Text>
        )}
        {rights.toggle && !gone && (
          <Group justify="flex-end">
            <Button variant="default" disabled={!dirty || busy} onClick={edit.reset}>
              {t.feature.discard}
            </Button>
            <Button type="submit" disabled={!dirty || edit.blocked || waits} loading={busy}>
              {guarded ? t.approvals.request : t.feature.save}
            </Button>
          </Group>
        )}
      </Stack>
      {asking && (
        <ReasonDialog
          title={t.approvals.requestTitle(feature.name)}
          explanation={guarded ? t.approvals.reasonForEnvironment(guarding.name) : t.approvals.reasonForFlag}
          submitLabel={t.approvals.request}
          busy={busy}
          onClose={() => setAsking(false)}
          onSubmit={({ reason }) => void save(reason)}
        />
      )}
    </Paper>
  );
}
