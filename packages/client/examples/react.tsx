import type { Client } from '@flagcast/client';
import { FlagcastProvider, useConnectionStatus, useFeatures } from '@flagcast/client/react';

export function App({ client, projectId }: { client: Client; projectId: string }) {
  return (
    <FlagcastProvider client={client} projectId={projectId} env="prod">
      <FeaturesOn />
    </FlagcastProvider>
  );
}

function FeaturesOn() {
  const features = useFeatures((all) => [...all.values()].filter(({ enabled }) => enabled));
  const { state } = useConnectionStatus();
  return (
    <p>
      {state}: {features.map(({ key }) => key).join(', ')}
    </p>
  );
}
