import '../shell/later-styles.js';
import { Text, Textarea, TextInput } from '@mantine/core';
import { type ChangeEvent, useState } from 'react';
import { useNavigate } from 'react-router';
import { describeFields } from '../api/api.js';
import { useDraft } from '../features/use-draft.js';
import { useLimit } from '../features/use-limit.js';
import { useWrite } from '../features/use-write.js';
import { scopePath, useScope } from '../shell/scope.js';
import { FormDialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';

interface NewFlag {
  readonly name: string;
  readonly key: string;
  readonly description: string;
}

/** Creates a flag, off in all environments, and opens its page. */
export default function CreateDialog({ onClose }: { readonly onClose: () => void }) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const navigate = useNavigate();
  const { busy, send } = useWrite();
  const draft = useDraft<Partial<NewFlag>>(`create ${project.id}`);
  const [typed, setTyped] = useState(() => draft.read() ?? {});
  const [fieldErrors, setFieldErrors] = useState<Readonly<Record<string, string>>>({});
  const limit = useLimit();
  const { name = '', key = suggestKey(name), description = '' } = typed;
  const values: NewFlag = { name, key, description };
  const limits = {
    name: limit(name, 50),
    key: limit(key, maxKeyLength),
    description: limit(description, 300),
  };
  const isComplete = name.trim() !== '' && key !== '';
  const create = async (): Promise<void> => {
    const outcome = await send<{ id: string }>(
      'POST',
      '/api/features',
      { project_id: project.id, ...values, description: description || null, kind: 'simple' },
      ({ fields }) => Object.keys(fields).length > 0,
    );
    if (outcome.state === 'failed') setFieldErrors(describeFields(outcome.error, t));
    if (outcome.state !== 'done') return;
    draft.write(null);
    onClose();
    void navigate(`${scopePath(project.id, environment.key, 'features')}/${outcome.body.id}`);
  };
  const inputOf = (field: keyof NewFlag) => ({
    label: t.fields[field],
    value: values[field],
    description: limits[field].note,
    error: limits[field].tooLong ?? fieldErrors[field],
    onChange: ({ currentTarget: { value } }: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => {
      const next = { ...typed, [field]: value };
      setTyped(next);
      draft.write(next);
    },
  });
  return (
    <FormDialog
      title={t.features.create}
      submitLabel={t.features.submitCreate}
      ready={isComplete && Object.values(limits).every(({ tooLong }) => tooLong === null)}
      busy={busy}
      onClose={onClose}
      onSubmit={() => void create()}
    >
      <TextInput {...inputOf('name')} required data-autofocus />
      <TextInput
        {...inputOf('key')}
        description={limits.key.note ?? t.feature.keyHint}
        spellCheck={false}
        required
      />
      <Textarea {...inputOf('description')} autosize minRows={2} />
      <Text size="sm" c="dimmed">
        {t.feature.createdOff}
      </Text>
    </FormDialog>
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
