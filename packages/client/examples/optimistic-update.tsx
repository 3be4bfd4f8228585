import type { Channel, FeatureState } from '@flagcast/client';
import { connectQueryClient } from '@flagcast/client/query';
import { skipToken, useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';

type Save = (feature: FeatureState, enabled: boolean) => Promise<unknown>;

export function FlagSwitches({ channel, save }: { channel: Channel; save: Save }) {
  const queryClient = useQueryClient();
  const queryKey = ['features', channel.projectId, channel.env];
  useEffect(() => connectQueryClient(queryClient, channel), [queryClient, channel]);
  const { data = [] } = useQuery<FeatureState[]>({ queryKey, queryFn: skipToken });
  const { mutate } = useMutation({
    mutationFn: (feature: FeatureState) => save(feature, !feature.enabled),
    // Until its own event arrives, an event of another flag shows the confirmed value again.
    onMutate: ({ id, enabled }) =>
      queryClient.setQueryData<FeatureState[]>(queryKey, (features) =>
        features?.map((each) => (each.id === id ? { ...each, enabled: !enabled } : each)),
      ),
    // The state of the channel, not the previous list: events may have arrived since. After a success, its event
    // updates the list.
    onError: () => queryClient.setQueryData(queryKey, [...channel.getState().features.values()]),
  });
  return data.map((feature) => (
    <button key={feature.id} onClick={() => mutate(feature)}>
      {feature.key}: {feature.enabled ? 'on' : 'off'}
    </button>
  ));
}
