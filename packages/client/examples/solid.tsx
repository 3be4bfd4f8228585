/** @jsxImportSource solid-js */
import type { Client } from '@flagcast/client';
import { For, from, onCleanup } from 'solid-js';

export function Flags(props: { client: Client; projectId: string }) {
  const channel = props.client.channel({ projectId: props.projectId, env: 'prod' });
  onCleanup(channel.close);
  const state = from(channel.store, channel.getState());
  return (
    <>
      <output>{state().status.state}</output>
      <ul>
        <For each={[...state().features.values()]}>
          {({ key, enabled }) => (
            <li>
              {key}: {enabled ? 'on' : 'off'}
            </li>
          )}
        </For>
      </ul>
    </>
  );
}
