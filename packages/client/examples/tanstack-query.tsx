import type { Channel, FeatureState } from '@flagcast/client';
import { connectQueryClient } from '@flagcast/client/query';
import { skipToken, useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect } from 'react';

export function FeatureNames({ channel }: { channel: Channel }) {
  const queryClient = useQueryClient();
  useEffect(() => connectQueryClient(queryClient, channel), [queryClient, channel]);
  const { data = [] } = useQuery<FeatureState[]>({
    queryKey: ['features', channel.projectId, channel.env],
    queryFn: skipToken,
  });
  return <p>{data.map(({ name }) => name).join(', ')}</p>;
}
