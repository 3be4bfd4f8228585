import type { Client } from '@flagcast/client';
import { type Presence, presence, type PresenceSubject } from '@flagcast/client/presence';
import type { PresenceMessage, PresenceUser } from '@flagcast/protocol';
import type { TestChannel } from '../testkit/channel.ts';
import type { LibraryClient } from '../testkit/clients/library-client.ts';
import type { SeededRandom } from '../testkit/random.ts';
import type { Revocation } from '../testkit/segment-checker.ts';

/**
 * No user may be shown for longer than this after leaving, also if the line broke: the server forgets a view after 8.5 s, and
 * tells at most once a second. After this time without a change the clients must show exactly who is there.
 */
const quietMs = 10_000;
/** With the relay all servers know of a change within this time more, in milliseconds: one that was killed does not tell. */
const relayMs = 5_000;
/** A server notices a change of rights within this time more, in milliseconds: faults stop it for up to 8 s. */
const rightsMs = 8_000;
/** A connection without a message for so long may be broken, in milliseconds; the server of chaos sends one every second. */
const silentMs = 4_000;
const tickMs = 250;
/** The viewers change something after a quiet period, or after this time without one, in milliseconds. */
const longestHoldMs = 30_000;
/** Half of those who lose their lines come back after this time, in milliseconds: after a quiet period. */
const awayMs = 15_000;
const fields = ['name', 'default_value', 'rules.0'];

interface View {
  field: string | null;
  handle: Presence;
}

/** A client of the library that announces views of a subject. */
class Viewer {
  readonly client: LibraryClient;
  readonly views: View[] = [];
  /** What the connection was sent last. */
  shown: PresenceMessage | null = null;
  readonly #subject: PresenceSubject;
  #library: Client | null = null;
  #server: string | null = null;
  #isSubscribed = false;
  #heardAtMs = -Infinity;
  /** When the library last took the connection for lost, also if only for a moment: it leaves then, and returns within 4 s. */
  disturbedAtMs = 0;

  /** `onShown`: called with each message about the subject. `isShared`: all servers show the same. */
  constructor(client: LibraryClient, subject: PresenceSubject, isShared: boolean, onShown: () => void) {
    this.client = client;
    this.#subject = subject;
    client.onClient((library) => {
      this.#library = library;
      this.#lose();
      for (const view of this.views) {
        view.handle.close();
        view.handle = this.#announce(library, view.field);
      }
      let wasConnected = false;
      library.subscribe(() => {
        if (wasConnected && !this.#isConnected) this.disturbedAtMs = Date.now();
        wasConnected = this.#isConnected;
      });
      library.onMessage((message) => {
        this.#heardAtMs = Date.now();
        if (!('type' in message) || 'source' in message) return;
        if (message.type === 'hello') {
          this.#lose();
          this.#server = isShared ? 'all servers' : message.server;
        } else if (message.type === 'caught_up') this.#isSubscribed = true;
        else if (message.type === 'resync') this.#isSubscribed = false;
        else if (message.type === 'error' && 'project_id' in message) this.#isSubscribed = false;
        else if (message.type === 'presence' && this.#isAbout(message)) {
          this.shown = message;
          onShown();
        }
      });
    });
  }

  get userId(): string {
    return this.client.options.userId;
  }

  /** Without a WebSocket there is no presence. The library uses streams after several WebSockets have failed. */
  get usesStreams(): boolean {
    return this.#library?.getStatus().transport === 'sse';
  }

  /** The server that has its views; null if none should have. */
  get server(): string | null {
    return this.#isConnected && !this.usesStreams && this.#isSubscribed && this.views.length > 0
      ? this.#server
      : null;
  }

  get #isConnected(): boolean {
    const status = this.#library?.getStatus();
    return status?.state === 'live' || (status?.state === 'stale' && status.reason !== 'disconnected');
  }

  get isSilent(): boolean {
    return Date.now() - this.#heardAtMs > silentMs;
  }

  /** What its first view shows; null without views. */
  get others(): { readonly others: readonly PresenceUser[]; readonly count: number } | null {
    return this.views[0]?.handle.getState() ?? null;
  }

  /** Opens or closes a view, edits another field, or breaks the line. */
  act(random: SeededRandom): string {
    const [view] = this.views;
    const drawn = random.next();
    if (view === undefined || (drawn < 0.15 && this.views.length < 3)) return this.open();
    if (drawn < 0.35) {
      this.views.pop()?.handle.close();
      return 'closes a view';
    }
    if (drawn < 0.65) {
      view.field = random.pick([null, ...fields]);
      view.handle.setField(view.field);
      return `edits ${view.field ?? 'nothing'}`;
    }
    if (drawn > 0.95) return 'does nothing';
    const lost = { isSilent: random.chance(0.5), awayMs: random.chance(0.5) ? awayMs : 0 };
    this.client.breakLine(lost);
    return `loses the line: ${JSON.stringify(lost)}`;
  }

  open(): string {
    if (this.#library !== null) this.views.push({ field: null, handle: this.#announce(this.#library, null) });
    return 'opens a view';
  }

  close(): void {
    for (const { handle } of this.views) handle.close();
  }

  #announce(library: Client, field: string | null): Presence {
    const handle = presence(library, this.#subject);
    handle.setField(field);
    return handle;
  }

  #lose(): void {
    this.#isSubscribed = false;
    this.#server = null;
    this.shown = null;
  }

  #isAbout({ environment_id, feature_id, pending_change_id }: PresenceMessage): boolean {
    const id = 'featureId' in this.#subject ? this.#subject.featureId : this.#subject.pendingChangeId;
    return environment_id === this.#subject.environmentId && (feature_id ?? pending_change_id) === id;
  }
}

export interface PresenceOptions {
  readonly subject: PresenceSubject;
  readonly members: readonly LibraryClient[];
  /** Announces views in the channel although its user may not view it. */
  readonly outsider: LibraryClient;
  readonly revocations: readonly Revocation[];
  /** When the relay was last known to work again, in milliseconds since the epoch. Undefined: each server shows its own users. */
  readonly relayBackAtMs?: (() => number) | undefined;
  readonly random: SeededRandom;
}

/**
 * Clients that announce views of one subject. They open and close views, edit fields and lose their lines. At the end of each
 * quiet period every connection must show exactly the users whose views its server has.
 */
export class PresenceGroup {
  readonly violations: string[] = [];
  /** The number of comparisons of a connection. */
  comparisons = 0;
  readonly #options: PresenceOptions;
  readonly #viewers: readonly Viewer[];
  readonly #outsider: Viewer;
  /** Where each viewer was at the last tick. */
  readonly #servers = new Map<Viewer, string | null>();
  /** When the views of a server have changed, and of those who look at them. */
  readonly #changedAtMs = new Map<string, number>();
  /** Servers that were compared since their last change. */
  readonly #compared = new Set<string>();
  /** Servers that were compared since `hold`. */
  readonly #comparedAtEnd = new Set<string>();
  /** For reports. */
  readonly #log: (readonly [atMs: number, text: string])[] = [];
  readonly #ticker: NodeJS.Timeout;
  #actedAtMs = Date.now();
  #isHolding = false;

  constructor(options: PresenceOptions) {
    this.#options = options;
    const open = (client: LibraryClient): Viewer => {
      const isShared = options.relayBackAtMs !== undefined;
      const viewer: Viewer = new Viewer(client, options.subject, isShared, () => this.#checkRight(viewer));
      viewer.open();
      return viewer;
    };
    this.#outsider = open(options.outsider);
    this.#viewers = [...options.members.map(open), this.#outsider];
    this.#ticker = setInterval(() => this.#tick(), tickMs);
  }

  /** The viewers change nothing any more. */
  hold(): void {
    this.#isHolding = true;
    this.#compared.clear();
    this.#comparedAtEnd.clear();
  }

  /** Those who should be there, but whose servers were not compared since `hold`. Streams have no presence. */
  get uncompared(): readonly string[] {
    return this.#viewers
      .filter((viewer) => viewer.views.length > 0 && this.#right(viewer).isGiven && !viewer.usesStreams)
      .filter(({ server }) => server === null || !this.#comparedAtEnd.has(server))
      .map(({ client, server }) => `${client.name} on ${server ?? 'no server'} (${client.lastEntry})`);
  }

  get clients(): readonly LibraryClient[] {
    return this.#viewers.map(({ client }) => client);
  }

  close(): void {
    clearInterval(this.#ticker);
    for (const viewer of this.#viewers) viewer.close();
  }

  #tick(): void {
    const nowMs = Date.now();
    for (const viewer of this.#viewers) {
      const { server } = viewer;
      const before = this.#servers.get(viewer) ?? null;
      this.#servers.set(viewer, server);
      if (server !== before) this.#note(viewer, `is ${server === null ? 'away' : `on ${server}`}`);
      if (server === before && (server === null || !viewer.isSilent)) continue;
      for (const changed of [before, server]) if (changed !== null) this.#change(changed);
    }
    const servers = new Set([...this.#servers.values()].filter((server) => server !== null));
    for (const server of servers) {
      if (!this.#compared.has(server) && nowMs - this.#quietSinceMs(server) > quietMs) this.#compare(server);
    }
    const isQuiet = servers.size > 0 && [...servers].every((server) => this.#compared.has(server));
    if (this.#isHolding || !(isQuiet || nowMs - this.#actedAtMs > longestHoldMs)) return;
    this.#actedAtMs = nowMs;
    for (const viewer of this.#viewers) this.#act(viewer);
  }

  #act(viewer: Viewer): void {
    const { server } = viewer;
    const done = viewer.act(this.#options.random);
    this.#note(viewer, done);
    for (const changed of [server, viewer.server]) if (changed !== null) this.#change(changed);
  }

  #change(server: string): void {
    this.#changedAtMs.set(server, Date.now());
    this.#compared.delete(server);
  }

  /** Rights count as changed when the servers have noticed. */
  #quietSinceMs(server: string): number {
    const { relayBackAtMs } = this.#options;
    const rights = this.#viewers.map((viewer) => this.#right(viewer).sinceMs + rightsMs);
    const disturbances = this.#viewers.map(({ disturbedAtMs }) => disturbedAtMs);
    const changedAtMs = Math.max(this.#changedAtMs.get(server) ?? 0, ...rights, ...disturbances);
    return relayBackAtMs === undefined ? changedAtMs : Math.max(changedAtMs, relayBackAtMs()) + relayMs;
  }

  /** Whether the viewer's user may view the channel, and since when. */
  #right(viewer: Viewer): { readonly isGiven: boolean; readonly sinceMs: number } {
    if (viewer === this.#outsider) return { isGiven: false, sinceMs: -Infinity };
    const nowMs = Date.now();
    const ofUser = this.#options.revocations.filter(
      ({ userId, projectId }) => userId === viewer.userId && projectId === this.#options.subject.projectId,
    );
    const current = ofUser.find(({ restoredMs }) => restoredMs > nowMs);
    if (current === undefined) {
      return { isGiven: true, sinceMs: Math.max(-Infinity, ...ofUser.map(({ restoredMs }) => restoredMs)) };
    }
    // While a change is under way, its result is unknown.
    const isCertain = current.fromMs <= nowMs && nowMs < current.untilMs;
    return { isGiven: false, sinceMs: isCertain ? current.fromMs : nowMs };
  }

  #checkRight(viewer: Viewer): void {
    const { isGiven, sinceMs } = this.#right(viewer);
    if (isGiven || Date.now() - sinceMs < quietMs + rightsMs) return;
    this.violations.push(`${viewer.client.name} is shown who is there, but may not view the channel`);
  }

  #compare(server: string): void {
    this.#compared.add(server);
    this.#comparedAtEnd.add(server);
    const present = this.#viewers.filter((viewer) => viewer.server === server && this.#right(viewer).isGiven);
    /** The fields of each user. */
    const expected = new Map<string, (string | null)[]>();
    for (const { userId, views } of present) {
      expected.set(userId, [...(expected.get(userId) ?? []), ...views.map(({ field }) => field)]);
    }
    for (const viewer of present) {
      this.comparisons += 1;
      const { shown, others, userId } = viewer;
      const withoutOwn = new Map([...expected].filter(([id]) => id !== userId));
      const differs =
        !isShown(shown?.users ?? [], shown?.count ?? 0, expected) ||
        !isShown(others?.others ?? [], others?.count ?? 0, withoutOwn);
      if (differs) this.#report(viewer, server, expected);
    }
  }

  #report({ client, shown, others }: Viewer, server: string, expected: ReadonlyMap<string, unknown>): void {
    const { featureId, pendingChangeId } = { featureId: '', pendingChangeId: '', ...this.#options.subject };
    const log = this.#log
      .slice(-60)
      .map(([atMs, text]) => `  ${((Date.now() - atMs) / 1_000).toFixed(1)} s before: ${text}`);
    this.violations.push(
      [
        `${client.name} on ${server}, ${featureId}${pendingChangeId}: there are ${JSON.stringify([...expected])}, it was sent ${JSON.stringify(shown)}, and shows ${JSON.stringify(others)}`,
        ...log,
      ].join('\n'),
    );
  }

  #note({ client }: Viewer, text: string): void {
    this.#log.push([Date.now(), `${client.name} (user ${client.options.userId}) ${text}`]);
  }
}

/** Whether exactly the expected users are shown, each with one of the fields that the user edits. */
function isShown(
  users: readonly PresenceUser[],
  count: number,
  expected: ReadonlyMap<string, readonly (string | null)[]>,
): boolean {
  return (
    count === expected.size &&
    users.length === expected.size &&
    users.every(({ user_id: id, field }) => {
      const edited = expected.get(id)?.filter((each) => each !== null);
      return edited !== undefined && (edited.length === 0 ? field === null : edited.includes(field ?? ''));
    })
  );
}

/** What several users have open: a feature or a request of the channel. */
export function subjectOf(
  { projectId, environmentId }: TestChannel,
  kind: 'featureId' | 'pendingChangeId',
): PresenceSubject {
  const id = `${kind} of ${environmentId}`;
  return kind === 'featureId'
    ? { projectId, environmentId, featureId: id }
    : { projectId, environmentId, pendingChangeId: id };
}
