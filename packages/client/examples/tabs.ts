import { createClient } from '@flagcast/client';
import { sharedTabs } from '@flagcast/client/tabs';

export function connect(url: string, getToken: () => string, userId: string) {
  return createClient({ url, getToken, shareTabs: sharedTabs({ userId }) });
}
