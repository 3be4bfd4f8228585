import { Stack } from '@mantine/core';
import { ChangeCard } from '../approvals/change-card.js';
import { useOpenChanges } from '../approvals/open-changes.js';

/** The pending requests of a flag, in all environments. */
export function FeatureRequests({ featureId }: { readonly featureId: string }) {
  const { all } = useOpenChanges();
  const changes = all.filter(({ entities }) => entities.some((entity) => entity.feature_id === featureId));
  if (changes.length === 0) return null;
  return (
    <Stack gap="sm">
      {changes.map((change) => (
        <ChangeCard key={change.id} change={change} />
      ))}
    </Stack>
  );
}
