import type { FeatureState } from '@flagcast/client';
import { useConnectionStatus } from '@flagcast/client/react';
import { Badge, Switch } from '@mantine/core';
import { useState } from 'react';
import { useOpenChanges } from '../approvals/open-changes.js';
import { findRequest } from '../approvals/requests.js';
import { isOutOfDate } from '../freshness/status.js';
import { lazyPart } from '../shell/lazy-part.js';
import { lazyRoutes } from '../shell/lazy-routes.js';
import { isGuarded, useScope, useRights } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { useNewest } from './use-newest.js';
import { useWrite } from './use-write.js';

const RequestDialog = lazyPart(lazyRoutes.requestDialog);

interface FeatureSwitchProps {
  readonly feature: FeatureState;
  readonly disabled?: boolean;
  /** Default: names the flag. */
  readonly label?: string;
}

/**
 * Toggles a flag in the environment. If the environment or the flag is guarded, it opens a dialog for the reason and
 * creates a request. Locked while the page is stale, and while another request has to be decided first.
 */
export function FeatureSwitch({ feature: live, disabled = false, label }: FeatureSwitchProps) {
  const { t } = useI18n();
  const { environment } = useScope();
  const { toggle } = useRights();
  const { busy, send } = useWrite();
  const outOfDate = isOutOfDate(useConnectionStatus());
  const { open } = useOpenChanges();
  const [{ id, name, enabled, version }, takeAnswer] = useNewest(live);
  /** The state to request; null while no reason is asked for. Others can change the flag meanwhile. */
  const [wanted, setWanted] = useState<boolean | null>(null);
  const save = async (target: boolean, reason?: string): Promise<boolean> => {
    const body = { env: environment.key, version, enabled: target, ...(reason !== undefined && { reason }) };
    const outcome = await send<{ feature: FeatureState }>('PATCH', `/api/features/${id}`, body);
    const { state } = outcome;
    if (state === 'done') takeAnswer(outcome.body.feature, version);
    if (state === 'reason_needed') setWanted(target);
    // A failed request keeps the dialog with its reason.
    else if (state !== 'failed') setWanted(null);
    return state === 'done' || state === 'requested';
  };
  const request = findRequest(open, id);
  // Where the page cannot see the flag's own guard, a request here says that there is one.
  const guarded = isGuarded(live, environment) || request?.environment_id === environment.id;
  const isPending = guarded && request !== undefined;
  const locked = disabled || busy || outOfDate || isPending;
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
        // Not `disabled`: an element that becomes disabled loses the focus.
        aria-disabled={locked}
        aria-description={isPending ? t.feature.hasPending : undefined}
        wrapperProps={{ title: isPending ? t.feature.hasPending : undefined }}
        onChange={() => {
          if (locked) return;
          if (guarded) setWanted(!enabled);
          else void save(!enabled);
        }}
        aria-label={label ?? t.features.switchLabel(name)}
        color="teal.8"
        size="md"
      />
      {wanted !== null && (
        <RequestDialog
          featureId={id}
          title={wanted ? t.features.turnOn(name) : t.features.turnOff(name)}
          guarding={environment}
          blocked={wanted === enabled ? t.approvals.alreadyThere : null}
          busy={busy}
          onClose={() => setWanted(null)}
          onSubmit={async (reason) => await save(wanted, reason)}
        />
      )}
    </>
  );
}
