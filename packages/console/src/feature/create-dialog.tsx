import '../shell/later-styles.js';
import { Button, Group, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import { useNavigate } from 'react-router';
import { describeFields, useNotifications } from '../shell/notifications.js';
import { useDraft } from '../features/use-draft.js';
import { useLimit } from '../features/use-limit.js';
import { scopePath, useScope } from '../shell/scope.js';
import { ApiError } from '../api/api.js';
import { useApi } from '../sign-in/app-services.js';
import { Dialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';

interface NewFlag {
  readonly name: string;
  readonly key: string;
  readonly description: string;
}

/** Sends a new flag, and opens its page. */
function useCreate(onCreated: () => void) {
  const { project, environment } = useScope();
  const api = useApi();
  const navigate = useNavigate();
  const { t } = useI18n();
  const { notifyError } = useNotifications();
  const [fieldErrors, setFieldErrors] = useState<Readonly<Record<string, string>>>({});
  const [busy, setBusy] = useState(false);
  const create = async ({ name, key, description }: NewFlag): Promise<void> => {
    setBusy(true);
    try {
      const { body } = await api.send<{ id: string }>('POST', '/api/features', {
        project_id: project.id,
        key,
        name,
        description: description === '' ? null : description,
        kind: 'simple',
      });
      onCreated();
      void navigate(`${scopePath(project.id, environment.key, 'features')}/${body.id}`);
    } catch (error) {
      setFieldErrors(describeFields(error, t));
      if (!(error instanceof ApiError) || Object.keys(error.fields).length === 0) notifyError(error);
    } finally {
      setBusy(false);
    }
  };
  return { busy, fieldErrors, create };
}

/** Creates a flag, off in all environments, and opens its page. */
export default function CreateDialog({ onClose }: { readonly onClose: () => void }) {
  const { t } = useI18n();
  const draft = useDraft<Partial<NewFlag>>(`create ${useScope().project.id}`);
  const { busy, fieldErrors, create } = useCreate(() => {
    draft.write(null);
    onClose();
  });
  const [typed, setTyped] = useState(() => draft.read() ?? {});
  const limit = useLimit();
  const { name = '', key = suggestKey(name), description = '' } = typed;
  const type = (change: Partial<NewFlag>): void => {
    setTyped({ ...typed, ...change });
    draft.write({ ...typed, ...change });
  };
  const limits = {
    name: limit(name, 50),
    key: limit(key, maxKeyLength),
    description: limit(description, 300),
  };
  const isComplete = name.trim() !== '' && key !== '';
  const ready = isComplete && Object.values(limits).every(({ tooLong }) => tooLong === null);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    if (ready) void create({ name, key, description });
  };
  return (
    <Dialog title={t.features.create} onClose={onClose}>
      <form onSubmit={submit}>
        <Stack>
          <TextInput
            label={t.fields.name}
            value={name}
            onChange={(event) => type({ name: event.currentTarget.value })}
            description={limits.name.note}
            error={limits.name.tooLong ?? fieldErrors['name']}
            required
            data-autofocus
          />
          <TextInput
            label={t.fields.key}
            description={limits.key.note ?? t.feature.keyHint}
            value={key}
            onChange={(event) => type({ key: event.currentTarget.value })}
            error={limits.key.tooLong ?? fieldErrors['key']}
            spellCheck={false}
            required
          />
          <Textarea
            label={t.fields.description}
            value={description}
            onChange={(event) => type({ description: event.currentTarget.value })}
            description={limits.description.note}
            error={limits.description.tooLong ?? fieldErrors['description']}
            autosize
            minRows={2}
          />
          <Text size="sm" c="dimmed">
            {t.feature.createdOff}
          </Text>
          <Group justify="flex-end">
            <Button variant="default" onClick={onClose}>
              {t.shell.cancel}
            </Button>
            <Button type="submit" loading={busy} disabled={!ready}>
              {t.features.submitCreate}
            </Button>
          </Group>
        </Stack>
      </form>
    </Dialog>
  );
}

const maxKeyLength = 50;

/** Suggests a key for the name. */
export function suggestKey(name: string): string {
  return name
    .toLowerCase()
    .replaceAll(/[^a-z0-9]+/g, '-')
    .replace(/^-/, '')
    .slice(0, maxKeyLength)
    .replace(/-$/, '');
}
