import { createClient } from '@flagcast/client';

export function showFeatures(list: HTMLElement, url: string, getToken: () => string, projectId: string) {
  const client = createClient({ url, getToken });
  const channel = client.channel({ projectId, env: 'prod' });
  channel.subscribe(({ features }) => {
    list.textContent = [...features.values()]
      .map(({ key, enabled }) => `${key}: ${enabled ? 'on' : 'off'}`)
      .join('\n');
  });
  return client.close;
}
