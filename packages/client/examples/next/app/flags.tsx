'use client';

import { createClient } from '@flagcast/client';
import { FlagcastProvider, useConnectionStatus, useFeatures } from '@flagcast/client/react';
import type { ReactNode } from 'react';

// Also created on the server, where it does nothing: channels are opened in effects.
const client = createClient({
  url: '/',
  async getToken() {
    const response = await fetch('/session/token');
    if (!response.ok) throw new Error(`No token: ${response.status}`);
    return await response.text();
  },
});

export function Flags({ projectId, children }: { projectId: string; children: ReactNode }) {
  return (
    <FlagcastProvider client={client} projectId={projectId} env="prod">
      {children}
    </FlagcastProvider>
  );
}

export function FlagList() {
  const { state } = useConnectionStatus();
  const features = useFeatures((all) => [...all.values()]);
  return (
    <>
      <output>{state}</output>
      <ul>
        {features.map(({ id, key, enabled }) => (
          <li key={id}>
            {key}: {enabled ? 'on' : 'off'}
          </li>
        ))}
      </ul>
    </>
  );
}
