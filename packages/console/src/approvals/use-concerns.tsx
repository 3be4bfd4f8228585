import { createSafeContext } from '@mantine/core';
import { useLocalStorage } from '@mantine/hooks';
import { type ReactNode, useMemo } from 'react';
import { serverNowMs } from '../api/server-clock.js';
import type { OpenChange } from '../api/types.js';
import { useScope } from '../shell/scope.js';
import { useOpenChanges } from './open-changes.js';

interface Concerns {
  /** The requests that need the user's review, and the decisions of others on the user's own. Newest first. */
  readonly concerns: readonly OpenChange[];
  readonly unseen: readonly OpenChange[];
  /** Kept in this browser, per user. */
  readonly markSeen: (changes: readonly OpenChange[]) => void;
}

/** What concerns the user. Complete after days away, because the feed begins with the user's decided requests. */
const [ConcernsContext, useConcerns] = createSafeContext<Concerns>('useConcerns needs a ConcernsProvider');
export { useConcerns };

/** Identifies a state of a request: one that is edited or decided is new to the user again. */
export function stateKey({ id, version }: OpenChange): string {
  return `${id} ${version}`;
}

const newsMs = 7 * 86_400_000;
/** More than any list of concerns, so that those of all tabs are remembered. */
const maxSeen = 2_000;

/** What is stored can be anything. */
function readStates(stored: string | undefined): readonly string[] | null {
  try {
    const value: unknown = JSON.parse(stored ?? 'null');
    return Array.isArray(value) ? value.map(String) : null;
  } catch {
    return null;
  }
}

const timeOf = ({ decided_at: decidedAt, created_at: createdAt }: OpenChange): string =>
  decidedAt ?? createdAt;

/** Provides what concerns the user, for all parts of the page that count, list or mark it. */
export function ConcernsProvider({ children }: { readonly children: ReactNode }) {
  const { me } = useScope();
  const { open, decided } = useOpenChanges();
  const [seen, setSeen] = useLocalStorage<readonly string[] | null>({
    key: `flagcast.seen ${me.user.id}`,
    defaultValue: null,
    deserialize: readStates,
    getInitialValueInEffect: false,
  });
  const value = useMemo<Concerns>(() => {
    const concerns = [
      ...open.filter((change) => change.may_decide),
      // The user's own cancellations are no news.
      ...decided.filter(
        ({ own, status, decided_by: by }) =>
          own && !(status === 'cancelled' && (by === null || by === me.user.username)),
      ),
    ].sort((one, other) => (timeOf(one) < timeOf(other) ? 1 : -1));
    const seenStates = seen === null ? null : new Set(seen);
    // In a new browser, old decisions are no news.
    const isSeen = (change: OpenChange): boolean =>
      seenStates === null
        ? change.own && Date.parse(timeOf(change)) < serverNowMs() - newsMs
        : seenStates.has(stateKey(change));
    const unseen = concerns.filter((change) => !isSeen(change));
    return {
      concerns,
      unseen,
      markSeen: (changes) => {
        const marked = new Set(changes.map(stateKey));
        if (!unseen.some((change) => marked.has(stateKey(change)))) return;
        const before = concerns.filter(isSeen).map(stateKey);
        setSeen((stored) => [...new Set([...(stored ?? before), ...marked])].slice(-maxSeen));
      },
    };
  }, [open, decided, me, seen, setSeen]);
  return <ConcernsContext value={value}>{children}</ConcernsContext>;
}
