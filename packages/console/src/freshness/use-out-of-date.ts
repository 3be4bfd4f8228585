import type { ChannelStatus } from '@flagcast/client';
import { useConnectionStatus } from '@flagcast/client/react';

/** Whether the page may not show the newest state. */
export function isOutOfDate({ state }: ChannelStatus): boolean {
  return state === 'stale' || state === 'closed';
}

export function useOutOfDate(): boolean {
  return isOutOfDate(useConnectionStatus());
}
