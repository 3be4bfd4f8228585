import { Stack } from '@mantine/core';
import { useState } from 'react';
import { ChangeCard } from '../approvals/change-card.js';
import { useOpenChanges } from '../approvals/open-changes.js';

/** The pending requests of a flag, in all environments, and those decided since the page was opened. */
export function FeatureRequests({ featureId }: { readonly featureId: string }) {
  const { open, find } = useOpenChanges();
  const [ids, setIds] = useState<readonly string[]>([]);
  const added = open.filter(
    ({ id, entities }) => !ids.includes(id) && entities.some((entity) => entity.feature_id === featureId),
  );
  if (added.length > 0) setIds([...added.map(({ id }) => id), ...ids]);
  if (ids.length === 0) return null;
  return (
    <Stack gap="sm">
      {ids
        .flatMap((id) => find(id) ?? [])
        .map((change) => (
          <ChangeCard key={change.id} change={change} />
        ))}
    </Stack>
  );
}
