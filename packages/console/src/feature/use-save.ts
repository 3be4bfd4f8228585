import type { FeatureState } from '@flagcast/client';
import { useState } from 'react';
import type { ApiError } from '../api/api.js';
import type { Environment, FeatureFields, OpenChange, Project } from '../api/types.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { findRequest } from '../approvals/requests.js';
import type { StaleVersion } from '../features/use-newest.js';
import { useWrite } from '../features/use-write.js';
import { describeFields } from '../api/api.js';
import { useNotifications } from '../shell/notifications.js';
import { isGuarded, useScope } from '../shell/scope.js';
import { useI18n } from '../i18n/i18n.js';
import { isValid } from './edit-state.js';
import type { Edit } from './use-edit.js';

/** Saves an edit: sends the changed fields and the version they are based on. */
export function useSave(feature: FeatureState, edit: Edit) {
  const { t } = useI18n();
  const { project, environment } = useScope();
  const { busy, send } = useWrite();
  const { notify } = useNotifications();
  const { open } = useOpenChanges();
  const [asksReason, setAsksReason] = useState(false);
  const [fieldErrors, setFieldErrors] = useState<Readonly<Record<string, string>>>({});
  const guarding = guardingEnvironment(edit.changed, project, environment);
  const guarded = isGuarded(feature, guarding);
  const hasPending = isPending(feature.id, edit.changed, guarded, open);
  // The rollout key is requested where it is guarded, the other fields change here at once.
  const isSplit =
    guarding !== environment &&
    !isGuarded(feature, environment) &&
    (edit.changed.enabled !== undefined || edit.changed.default_value !== undefined);
  const ready = edit.isDirty && !edit.blocked && !hasPending && !isSplit && isValid(edit.changed);

  const save = async (reason?: string): Promise<boolean> => {
    const body = { env: environment.key, version: edit.version, ...edit.changed, reason };
    const path = `/api/features/${feature.id}`;
    const outcome = await send<{ feature: FeatureState }>('PATCH', path, body, isStale);
    // After an error the dialog stays, with the reason.
    setAsksReason((before) => outcome.state === 'reason_needed' || (before && outcome.state === 'failed'));
    setFieldErrors(outcome.state === 'failed' ? describeFields(outcome.error, t) : {});
    if (outcome.state === 'done') {
      edit.saved(outcome.body.feature);
      notify('success', t.feature.saved);
    } else if (outcome.state === 'requested') edit.reset();
    else if (outcome.state === 'failed' && isStale(outcome.error)) {
      edit.refresh(outcome.error.body as unknown as StaleVersion);
    }
    return outcome.state === 'done' || outcome.state === 'requested';
  };
  return {
    busy,
    /** The changes can be sent: there are some, no conflict is open, no text is too long, and no request is pending. */
    ready,
    /** The environment whose guard decides about the changes. */
    guarding,
    /** The changes need an approval, because of that environment or of the flag itself. */
    guarded,
    /** The flag has a pending request that the changes would touch. */
    hasPending,
    /** By field. */
    fieldErrors: isSplit ? { rollout_key: t.feature.rolloutSeparately(guarding.name) } : fieldErrors,
    asksReason,
    submit: () => {
      if (!ready) return;
      if (guarded) setAsksReason(true);
      else void save();
    },
    submitReason: save,
    closeReason: () => setAsksReason(false),
  };
}

const isStale = ({ code }: ApiError): boolean => code === 'stale_version';

/** The environment whose guard applies. The rollout key applies to all environments, so a guard of any of them counts. */
export function guardingEnvironment(
  changed: Partial<FeatureFields>,
  project: Project,
  environment: Environment,
): Environment {
  if (environment.guarded || changed.rollout_key === undefined) return environment;
  return project.environments.find(({ guarded }) => guarded) ?? environment;
}

const sharedFields = ['name', 'description', 'rollout_key'] as const;

/** Whether a pending request touches the changes. While it is open, the shared fields stay as its approver sees them. */
export function isPending(
  featureId: string,
  changed: Partial<FeatureFields>,
  guarded: boolean,
  open: readonly OpenChange[],
): boolean {
  const isShared = sharedFields.some((name) => changed[name] !== undefined);
  if (!guarded && !isShared) return false;
  return findRequest(open, featureId) !== undefined;
}
