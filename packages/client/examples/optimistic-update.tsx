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
  const show = (feature: FeatureState) =>
    queryClient.setQueryData<FeatureState[]>(queryKey, (features) =>
      features?.map((each) => (each.id === feature.id ? feature : each)),
    );
  const { mutate } = useMutation({
    mutationFn: (feature: FeatureState) => save(feature, !feature.enabled),
    // The value stays until the event of this flag. Events of other flags keep it.
    onMutate: (feature) => show({ ...feature, enabled: !feature.enabled }),
    // The state of the channel, not the list as it was: events may have arrived since.
    onError: (_error, { id }) => {
      const confirmed = channel.getState().features.get(id);
      if (confirmed) show(confirmed);
    },
  });
  return data.map((feature) => (
    <button key={feature.id} onClick={() => mutate(feature)}>
      {feature.key}: {feature.enabled ? 'on' : 'off'}
    </button>
  ));
}
