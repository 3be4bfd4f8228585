import type { PendingChange } from '@flagcast/client';
import { type Approvals, approvals } from '@flagcast/client/approvals';
import { useApprovals } from '@flagcast/client/react';
import { createSafeContext } from '@mantine/core';
import { type ReactNode, useEffect, useMemo, useState } from 'react';
import { useLive } from '../api/live.js';
import type { OpenChange } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { toOpenChange } from './requests.js';

interface OpenChanges {
  /** Pending requests of all environments, newest first. */
  readonly open: readonly OpenChange[];
  /** The user's own newest decided requests, and all that were decided since the page was opened. */
  readonly decided: readonly OpenChange[];
  /** A pending or decided request. */
  readonly find: (id: string) => OpenChange | undefined;
  readonly error: Error | null;
  readonly retry: () => void;
  readonly loading: boolean;
}

const [OpenChangesContext, useOpenChanges] = createSafeContext<OpenChanges>(
  'useOpenChanges needs an OpenChangesProvider',
);
export { useOpenChanges };

const newestFirst = (one: OpenChange, other: OpenChange): number => {
  if (one.created_at === other.created_at) return 0;
  return one.created_at < other.created_at ? 1 : -1;
};

/** Provides the requests of all environments that the user may view, from the approvals feed. */
export function OpenChangesProvider({ children }: { readonly children: ReactNode }) {
  const { client } = useLive();
  const { me, projects } = useScope();
  const [attempt, setAttempt] = useState(0);
  const [feed, setFeed] = useState<Approvals | null>(null);
  useEffect(() => {
    const opened = approvals(client);
    setFeed(opened);
    return opened.close;
  }, [client, attempt]);
  const { open, decided, mayDecide, status } = useApprovals(feed);
  const convert = useMemo(() => {
    // The same object while a request stays the same, so that only cards that change are rendered again.
    const known = new WeakMap<PendingChange, OpenChange>();
    return (change: PendingChange): OpenChange => {
      const converted = known.get(change) ?? toOpenChange(change, { me, projects, mayDecide });
      known.set(change, converted);
      return converted;
    };
  }, [me, projects, mayDecide]);
  const value = useMemo<OpenChanges>(() => {
    return {
      open: Array.from(open.values(), convert).sort(newestFirst),
      decided: Array.from(decided.values(), convert),
      find: (id) => {
        const found = open.get(id) ?? decided.get(id);
        return found && convert(found);
      },
      error: status.state === 'closed' ? status.error : null,
      retry: () => setAttempt((before) => before + 1),
      loading: status.state === 'connecting',
    };
  }, [open, decided, status, convert]);
  return <OpenChangesContext value={value}>{children}</OpenChangesContext>;
}
