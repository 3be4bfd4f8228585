import type { Client } from '@flagcast/client';
import { approvals } from '@flagcast/client/approvals';

export function watchApprovals(client: Client, show: (text: string) => void) {
  const feed = approvals(client);
  feed.subscribe(({ open, decided, mayDecide }) => {
    const mine = [...open.values()].filter(({ project_id: id }) => mayDecide.has(id));
    show(`${open.size} open, ${mine.length} in projects where you decide, ${decided.size} decided`);
  });
  return feed.close;
}
