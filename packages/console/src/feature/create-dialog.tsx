import { Button, Group, Stack, Text, Textarea, TextInput } from '@mantine/core';
import { type SubmitEvent, useState } from 'react';
import { useNavigate } from 'react-router';
import { describeFields, useNotifications } from '../shell/notifications.js';
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
  const { busy, fieldErrors, create } = useCreate(onClose);
  const [name, setName] = useState('');
  const [key, setKey] = useState<string | null>(null);
  const [description, setDescription] = useState('');
  const shownKey = key ?? suggestKey(name);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    void create({ name, key: shownKey, description });
  };
  return (
    <Dialog title={t.features.create} onClose={onClose}>
      <form onSubmit={submit}>
        <Stack>
          <TextInput
            label={t.fields.name}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={fieldErrors['name']}
            maxLength={50}
            required
            data-autofocus
          />
          <TextInput
            label={t.fields.key}
            description={t.feature.keyHint}
            value={shownKey}
            onChange={(event) => setKey(event.currentTarget.value)}
            error={fieldErrors['key']}
            maxLength={maxKeyLength}
            spellCheck={false}
            required
          />
          <Textarea
            label={t.fields.description}
            value={description}
            onChange={(event) => setDescription(event.currentTarget.value)}
            error={fieldErrors['description']}
            maxLength={300}
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
            <Button type="submit" loading={busy}>
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
