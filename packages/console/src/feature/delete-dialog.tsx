import '../shell/later-styles.js';
import type { FeatureState } from '@flagcast/client';
import { Code, Text, Textarea, TextInput } from '@mantine/core';
import { useState } from 'react';
import { useReason } from '../features/use-reason.js';
import { useWrite } from '../features/use-write.js';
import { useScope } from '../shell/scope.js';
import { FormDialog } from '../shell/dialog.js';
import { useI18n } from '../i18n/i18n.js';
import { visible } from '../i18n/visible.js';

interface DeleteDialogProps {
  readonly feature: FeatureState;
  readonly onClose: () => void;
  readonly onDeleted: () => void;
}

/** Deletes the flag in all environments after the user has typed its key. If it is guarded, it creates a request. */
export default function DeleteDialog({ feature, onClose, onDeleted }: DeleteDialogProps) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const { busy, send } = useWrite();
  const [typed, setTyped] = useState('');
  const { reason, ready: hasReason, forget, input } = useReason(`delete ${feature.id}`);
  const [reasonNeeded, setReasonNeeded] = useState(false);
  const guarded = reasonNeeded || project.environments.some((each) => each.guarded);
  const ready = typed === feature.key && (!guarded || hasReason);
  const remove = async (): Promise<void> => {
    const { state } = await send('DELETE', `/api/features/${feature.id}`, {
      env: environment.key,
      version: feature.version,
      ...(guarded ? { reason } : {}),
    });
    if (state === 'done' || state === 'requested') forget();
    if (state === 'done') onDeleted();
    else if (state === 'requested') onClose();
    else if (state === 'reason_needed') setReasonNeeded(true);
  };
  return (
    <FormDialog
      title={t.feature.deleteTitle(feature.name)}
      submitLabel={guarded ? t.approvals.request : t.feature.delete}
      submitColor="red"
      ready={ready}
      busy={busy}
      onClose={onClose}
      onSubmit={() => void remove()}
    >
      <Text size="sm">{guarded ? t.feature.deleteRequest : t.feature.deleteWarning}</Text>
      <TextInput
        label={
          <>
            {t.feature.deleteConfirm} <Code>{visible(feature.key)}</Code>
          </>
        }
        value={typed}
        onChange={(event) => setTyped(event.currentTarget.value)}
        autoComplete="off"
        spellCheck={false}
        data-autofocus
      />
      {guarded && <Textarea {...input} />}
    </FormDialog>
  );
}
