/** A session as the tabs of the browser share it. */
export interface SharedSession {
  /** Identifies the sign-in. Random, and not a secret. */
  readonly id: string;
  readonly token: string;
}

interface SessionTabsEvents {
  /** The session for tabs that ask; null if this tab has none. */
  readonly current: () => SharedSession | null;
  /** Another tab has signed in or answers. May throw for a session of another version of the page. */
  readonly onShared: (session: SharedSession) => void;
  /** Sessions have ended: see `hasEnded`. */
  readonly onEnded: () => void;
}

/** The connection of a tab to the other tabs of the same browser, origin and server. */
export interface SessionTabs {
  readonly listen: (events: SessionTabsEvents) => void;
  /** Asks the other tabs for their session. */
  readonly ask: () => void;
  /** Gives the other tabs the session of a sign-in in this tab. */
  readonly share: (session: SharedSession) => void;
  /** Ends a session in all tabs, also in those that the browser has discarded or reopens later. */
  readonly end: (id: string) => void;
  readonly hasEnded: (id: string) => boolean;
}

type TabMessage = { readonly type: 'ask' } | ({ readonly type: 'session' } & SharedSession);

const maxEndedSessions = 100;
/** The session that was used last answers first. The others answer later, in case that its tabs are closed. */
const otherSessionDelayMs = 100;

/**
 * Shares the session between tabs: the token by a BroadcastChannel, so that it is never stored; in `storage` are only
 * the ids of the sessions that have ended, and of the one that was used last.
 */
export function createSessionTabs(basePath: string, storage: Storage): SessionTabs {
  const endedKey = `flagcast.ended-sessions${basePath}`;
  const usedKey = `flagcast.used-session${basePath}`;
  const bus = new BroadcastChannel(`flagcast.session${basePath}`);
  const endedIds = (): readonly string[] => (storage.getItem(endedKey) ?? '').split(' ');
  const post = (message: TabMessage): void => bus.postMessage(message);
  return {
    listen({ current, onShared, onEnded }) {
      const answer = (): void => {
        const session = current();
        if (session !== null) post({ type: 'session', ...session });
      };
      bus.addEventListener('message', ({ data }: { readonly data: TabMessage }) => {
        if (data.type === 'session') onShared(data);
        else if (current()?.id === storage.getItem(usedKey)) answer();
        else setTimeout(answer, otherSessionDelayMs);
      });
      addEventListener('storage', ({ key }) => {
        if (key === endedKey) onEnded();
      });
      const markUsed = (): void => {
        const session = current();
        if (session !== null) storage.setItem(usedKey, session.id);
      };
      for (const type of ['focus', 'pointerdown', 'keydown']) addEventListener(type, markUsed);
    },
    ask: () => post({ type: 'ask' }),
    share(session) {
      storage.setItem(usedKey, session.id);
      post({ type: 'session', ...session });
    },
    end: (id) => storage.setItem(endedKey, [...endedIds(), id].slice(-maxEndedSessions).join(' ')),
    hasEnded: (id) => endedIds().includes(id),
  };
}
