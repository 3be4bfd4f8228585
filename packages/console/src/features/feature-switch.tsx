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
 * Switches a flag in this environment. Where the environment or the flag is guarded it asks for a reason and makes a
 * request. It is disabled while the page is out of date.
 */
export function FeatureSwitch({ feature, disabled = false }: FeatureSwitchProps) {
  const { t } = useI18n();
  const { environment } = useScope();
  const { toggle } = useRights();
  const { busy, send } = useWrite();
  const outOfDate = useOutOfDate();
  const [asking, setAsking] = useState(false);
  const { id, name, enabled, version } = feature;
  const save = async (reason?: string): Promise<void> => {
    const body = {
      env: environment.key,
      version,
      enabled: !enabled,
      ...(reason === undefined ? {} : { reason }),
    };
    setAsking((await send('PATCH', `/api/features/${id}`, body)) === 'reason_needed');
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
          if (environment.guarded) setAsking(true);
          else void save();
        }}
        aria-label={t.features.switchLabel(name)}
        color="teal.8"
        size="md"
      />
      {asking && (
        <ReasonDialog
          title={enabled ? t.features.turnOff(name) : t.features.turnOn(name)}
          explanation={
            environment.guarded
              ? t.approvals.reasonForEnvironment(environment.name)
              : t.approvals.reasonForFlag
          }
          submitLabel={t.approvals.request}
          busy={busy}
          onClose={() => setAsking(false)}
          onSubmit={({ reason }) => void save(reason)}
        />
      )}
    </>
  );
}
