import { Stack } from '@mantine/core';
import { ChangeCard } from '../approvals/change-card.js';
import { useOpenChanges } from '../approvals/open-changes.js';
import { useShownRequests } from '../approvals/use-shown-requests.js';

/** The pending requests of a flag, in all environments, and those decided since the page was opened. */
export function FeatureRequests({ featureId }: { readonly featureId: string }) {
  const { open } = useOpenChanges();
  const { shown } = useShownRequests(
    open.filter(({ entities }) => entities.some((entity) => entity.feature_id === featureId)),
    true,
  );
  if (shown.length === 0) return null;
  return (
    <Stack gap="sm">
      {shown.map((change) => (
        <ChangeCard key={change.id} change={change} />
      ))}
    </Stack>
  );
}
