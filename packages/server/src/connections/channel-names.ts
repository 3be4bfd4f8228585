import type { ChannelName } from '@flagcast/protocol';
import type { Channel, ChannelRequest } from '../auth/table-authorization.js';
import type { ChannelEnd } from '../broadcast/broadcaster.js';

/** The messages of errors that end a channel. */
export const endMessages: Readonly<Record<ChannelEnd, string>> = {
  environment_deleted: 'The environment was deleted',
  project_archived: 'The project was archived',
  project_deleted: 'The project was deleted',
};

/** The keys that name a channel in messages. */
export function named(channel: Channel): ChannelName {
  return {
    project_id: channel.projectId,
    environment: channel.environmentKey,
    environment_id: channel.environmentId,
  };
}

/** Whether the channel, or the request for it, has this name. */
export function isNamed(known: Channel | ChannelRequest, name: ChannelRequest): boolean {
  if (known.projectId !== name.projectId) return false;
  if ('environmentKey' in name) {
    return 'environmentKey' in known && known.environmentKey === name.environmentKey;
  }
  return 'environmentId' in known && known.environmentId === name.environmentId;
}
