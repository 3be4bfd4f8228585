import type { FeatureState } from '@flagcast/client';
import { Badge, Switch } from '@mantine/core';
import { useState } from 'react';
import { useOutOfDate } from '../freshness/use-out-of-date.js';
import { useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { ReasonDialog } from './reason-dialog.js';
import { useWrite } from './use-write.js';

interface FeatureSwitchProps {
  readonly feature: FeatureState;
  readonly disabled?: boolean;
}

/**
 * Toggles a flag in the environment. If the environment or the flag is guarded, it opens a dialog for the reason and
 * creates a request. Disabled while the page is stale.
 */
export function FeatureSwitch({ feature, disabled = false }: FeatureSwitchProps) {
  const { t } = useI18n();
  const { environment } = useScope();
  const { toggle } = useRights();
  const { busy, send } = useWrite();
  const outOfDate = useOutOfDate();
  const [reasonOpened, setReasonOpened] = useState(false);
  const { id, name, enabled, version } = feature;
  const save = async (reason?: string): Promise<void> => {
    const body = {
      env: environment.key,
      version,
      enabled: !enabled,
      ...(reason === undefined ? {} : { reason }),
    };
    const { state } = await send('PATCH', `/api/features/${id}`, body);
    setReasonOpened(state === 'reason_needed');
  };
  if (!toggle) {
    return (
      <Badge variant="light" color={enabled ? 'teal' : 'gray'} tt="none" size="md">
        {enabled ? t.features.on : t.features.off}
      </Badge>
    );
  }
  return (
    <>
      <Switch
        checked={enabled}
        disabled={disabled || busy || outOfDate}
        onChange={() => {
          if (environment.guarded) setReasonOpened(true);
          else void save();
        }}
        aria-label={t.features.switchLabel(name)}
        color="teal.8"
        size="md"
      />
      {reasonOpened && (
        <ReasonDialog
          title={enabled ? t.features.turnOff(name) : t.features.turnOn(name)}
          explanation={
            environment.guarded
              ? t.approvals.reasonForEnvironment(environment.name)
              : t.approvals.reasonForFlag
          }
          submitLabel={t.approvals.request}
          busy={busy}
          onClose={() => setReasonOpened(false)}
          onSubmit={({ reason }) => void save(reason)}
        />
      )}
    </>
  );
}
