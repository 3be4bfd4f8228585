import type { FeatureState } from '@flagcast/client';
import {
  Button,
  Divider,
  Group,
  Input,
  Paper,
  Stack,
  Switch,
  Text,
  Textarea,
  TextInput,
  Title,
} from '@mantine/core';
import {
  type ChangeEvent,
  type FocusEvent,
  type ReactNode,
  type SubmitEvent,
  useEffect,
  useState,
} from 'react';
import RequestDialog from '../features/request-dialog.js';
import { useLimit } from '../features/use-limit.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { useLeaveGuard } from '../shell/leave-guard.js';
import { useFlagPresence } from '../shell/presence.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { type FieldName, maxLengths, type TextField } from './edit-state.js';
import { FieldFrame } from './field-frame.js';
import { FieldValue } from './field-value.js';
import { type Edit, useEdit } from './use-edit.js';
import { useSave } from './use-save.js';
import { ValueField } from './value-field.js';
import { visible } from '../i18n/visible.js';

// With the page: a browser that leaves it loads nothing more, not even the question whether to leave.
await lazyRoutes.modal().catch(() => undefined);

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
  const focus = useEditedField(edit);
  const submit = (event: SubmitEvent): void => {
    event.preventDefault();
    save.submit();
  };
  return (
    // The browser would describe what is missing in its own language.
    <Paper
      withBorder
      p="lg"
      component="form"
      noValidate
      onSubmit={submit}
      aria-label={t.feature.details}
      {...focus}
    >
      <Stack>
        <Group justify="space-between">
          <Title order={2}>{t.feature.details}</Title>
          <Text size="xs" c="dimmed">
            {manage ? null : toggle ? t.feature.canToggle : t.shell.writesOff}
          </Text>
        </Group>
        <Fields feature={feature} edit={edit} gone={gone} saving={save.busy} errors={save.fieldErrors} />
        {toggle && !gone && (
          <>
            {save.hasPending && (
              <Text size="sm" c="dimmed">
                {t.feature.hasPending}
              </Text>
            )}
            <Group justify="flex-end">
              {edit.blocked && (
                <Text flex={1} size="sm" c="var(--fc-warn)">
                  {t.feature.conflictHint}
                </Text>
              )}
              <Button variant="default" disabled={!edit.isDirty || save.busy} onClick={edit.reset}>
                {t.feature.discard}
              </Button>
              <Button type="submit" disabled={!save.ready} loading={save.busy}>
                {save.guarded ? t.approvals.request : t.feature.save}
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

/** Reports the field with the focus, else one that has changes. Returns the listeners of the form. */
function useEditedField({ changed }: Edit) {
  const { onEditing } = useFlagPresence();
  const [focused, setFocused] = useState<string | null>(null);
  const [firstChanged = null] = Object.keys(changed);
  const field = focused ?? firstChanged;
  useEffect(() => {
    onEditing(field);
    return () => onEditing(null);
  }, [onEditing, field]);
  return {
    onFocus: ({ target }: FocusEvent<HTMLElement>) =>
      setFocused(target.closest<HTMLElement>('[data-field]')?.dataset['field'] ?? null),
    onBlur: () => setFocused(null),
  };
}

interface FieldsProps {
  readonly feature: FeatureState;
  readonly edit: Edit;
  readonly gone: boolean;
  /** While the changes are being saved, the fields do not change. */
  readonly saving: boolean;
  readonly errors: Readonly<Record<string, string>>;
}

/** The props of a text field of the form. */
function useTextFields({ edit, saving, errors }: Pick<FieldsProps, 'edit' | 'saving' | 'errors'>) {
  const { t } = useI18n();
  const limit = useLimit();
  return (field: TextField, label = t.fields[field]) => {
    const text = edit.mine[field] ?? '';
    const isChanged = Object.hasOwn(edit.changed, field);
    const { note, tooLong } = limit(text, maxLengths[field]);
    const missing = field === 'name' && text.trim() === '' ? t.fieldProblems['must not be empty'] : null;
    return {
      label,
      value: text,
      description: hiddenIn(text) ?? note,
      readOnly: saving,
      error: (isChanged ? (tooLong ?? missing) : null) ?? errors[field] ?? null,
      onChange: (event: ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => {
        const { value } = event.currentTarget;
        const isNullable = field === 'description' || field === 'rollout_key';
        edit.set(field, value === '' && isNullable ? null : value);
      },
    };
  };
}

function Fields(props: FieldsProps) {
  const { feature, edit, gone, saving } = props;
  const { t } = useI18n();
  const { environment } = useScope();
  const { toggle, manage } = useRights();
  const { mine } = edit;
  const textOf = useTextFields(props);
  const frame = (
    field: FieldName,
    control: ReactNode,
    { label = t.fields[field], may = manage } = {},
  ): ReactNode => (
    <FieldFrame field={field} edit={edit}>
      {may && !gone ? (
        control
      ) : (
        <Input.Wrapper label={label} labelElement="div">
          <Text size="sm" component="div">
            <FieldValue field={field} value={mine[field]} />
          </Text>
        </Input.Wrapper>
      )}
    </FieldFrame>
  );
  const value = textOf('default_value', t.feature.valueIn(environment.name));
  return (
    <>
      <Divider label={t.feature.thisEnvironment} labelPosition="left" />
      {frame(
        'enabled',
        <Switch
          label={t.feature.enabledIn(environment.name)}
          checked={mine.enabled}
          onChange={(event) => {
            if (!saving) edit.set('enabled', event.currentTarget.checked);
          }}
          color="teal.8"
          size="md"
        />,
        { may: toggle },
      )}
      {frame(
        'default_value',
        <ValueField
          feature={feature}
          input={value}
          onPick={(picked) => {
            if (!saving) edit.set('default_value', picked);
          }}
        />,
        { label: value.label },
      )}
      <Divider label={t.feature.allEnvironments} labelPosition="left" />
      {frame('name', <TextInput {...textOf('name')} />)}
      {frame('description', <Textarea autosize minRows={2} {...textOf('description')} />)}
      {frame('rollout_key', <TextInput {...textOf('rollout_key')} />)}
    </>
  );
}

/** The text with its invisible characters shown, for below an input; null if there are none. */
function hiddenIn(text: string): string | null {
  const shown = visible(text);
  return shown === text ? null : shown;
}
