import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import type { TestChannel } from '../testkit/channel.ts';
import { errorPages, type NetworkFault } from '../testkit/faulty-proxy.ts';
import type { TestNats } from '../testkit/nats-server.ts';
import { withClient } from '../testkit/postgres.ts';
import { childrenOf } from '../testkit/process-figures.ts';
import type { Revocation } from '../testkit/segment-checker.ts';
import { prepareAndCommit, writeMany } from '../testkit/writers.ts';
import { channelEnds } from './ended-channels.ts';
import type { ChaosSystem, Faults, RunFault } from './fault.ts';
import { changeHost, hostChanges, importMany } from './host-changes.ts';
import type { ChaosOptions } from './options.ts';
import type { PlannedFault } from './plan.ts';
import { fullFile } from './server-process.ts';

/** How long a membership is revoked, in milliseconds: mostly longer than the servers' recheck interval. */
const revoked = { leastMs: 16_000, mostMs: 32_000 };
/** The servers are connected to NATS again this long after its start, in milliseconds. */
const natsReconnectMs = 10_000;
/** Share of the connections that a network fault affects at most. */
const worstNetworkShare = 0.6;

function network(fault: NetworkFault): RunFault {
  return async ({ proxy }, { strength }) => {
    const count = proxy.inject(fault, 0.1 + strength * (worstNetworkShare - 0.1));
    return await Promise.resolve(`${count} connections`);
  };
}

/** As while the server behind the proxy is being replaced. */
const showErrorPage: RunFault = async ({ proxy }, { holdMs, target, strength }) => {
  const page = errorPages[Math.floor(target * errorPages.length)] ?? errorPages[0];
  proxy.errorPage = page;
  const count = proxy.inject('cut', strength);
  await delay(holdMs);
  proxy.errorPage = null;
  return `${page.slice(0, 3)} for ${holdMs} ms, and ${count} connections cut`;
};

function restart(mode: 'fast' | 'immediate'): RunFault {
  return async ({ postgres }) => {
    await postgres.restart(mode);
    return 'PostgreSQL is back';
  };
}

/** Suspends all processes of PostgreSQL, as a virtual machine does whose storage hangs. */
const stopPostgres: RunFault = async ({ postgres }, { holdMs }) => {
  const { pid } = postgres;
  if (pid === null) return 'nothing';
  // The postmaster first: it starts no others then.
  process.kill(pid, 'SIGSTOP');
  const pids = [...(await childrenOf(pid)), pid];
  for (const each of pids) process.kill(each, 'SIGSTOP');
  await delay(holdMs);
  for (const each of pids) process.kill(each, 'SIGCONT');
  return `for ${holdMs} ms`;
};

/** `where`: a condition on pg_stat_activity. */
function endBackends(where: string): RunFault {
  return async ({ databaseUrl }, { strength }) => {
    const ended = await withClient(
      databaseUrl,
      async (client) =>
        await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND ${where} AND random() <= $1`,
          [Math.max(strength, 0.3)],
        ),
      'writer',
    );
    return `${ended.rowCount} sessions`;
  };
}

/** Writes in a transaction of its own. The connection may be lost because another fault runs at the same time. */
function write(
  work: (client: pg.Client, channel: TestChannel, plan: PlannedFault) => Promise<string>,
): RunFault {
  return async ({ databaseUrl, channels }, plan) => {
    const channel = channels[Math.floor(plan.target * channels.length)];
    if (channel === undefined) return 'nothing';
    try {
      return await withClient(
        databaseUrl,
        async (client) => {
          await client.query('BEGIN');
          return await work(client, channel, plan);
        },
        'writer',
      );
    } catch {
      return 'rolled back, as the connection was lost';
    }
  };
}

/** How long a membership is held revoked or given, in milliseconds: at most a quarter of the run. */
function heldMs(strength: number, durationMs: number): number {
  const drawnMs = revoked.leastMs + (revoked.mostMs - revoked.leastMs) * strength;
  return Math.round(Math.min(drawnMs, durationMs / 4));
}

async function changeRights(
  system: ChaosSystem,
  statement: string,
  values: readonly string[],
): Promise<void> {
  await changeHost(system, async (client) => void (await client.query(statement, [...values])));
}

async function changeMembership(
  system: ChaosSystem,
  { userId, projectId }: Pick<Revocation, 'userId' | 'projectId'>,
  change: 'give' | 'revoke',
): Promise<void> {
  const statement =
    change === 'revoke'
      ? 'DELETE FROM memberships WHERE project_id = $1 AND user_id = $2'
      : `INSERT INTO memberships (project_id, user_id, role_id)
         SELECT $1, $2, id FROM roles WHERE key = 'project_viewer' ON CONFLICT DO NOTHING`;
  await changeRights(system, statement, [projectId, userId]);
}

/** Revokes rights and records that; returns the records. */
async function revokeRights(
  { revocations }: ChaosSystem,
  { userId, projectIds }: { readonly userId: string; readonly projectIds: readonly string[] },
  change: () => Promise<void>,
): Promise<Revocation[]> {
  const revoked = projectIds.map((projectId) => ({
    ...{ userId, projectId },
    ...{ requestedMs: Date.now(), fromMs: Infinity, untilMs: Infinity, restoredMs: Infinity },
  }));
  revocations.push(...revoked);
  await change();
  for (const each of revoked) each.fromMs = Date.now();
  return revoked;
}

/** Restores rights and records that. */
async function restoreRights(revoked: readonly Revocation[], change: () => Promise<void>): Promise<void> {
  for (const each of revoked) each.untilMs = Date.now();
  await change();
  for (const each of revoked) each.restoredMs = Date.now();
}

/** Revokes what a viewer may see, and restores it after some time. */
async function revoke(
  system: ChaosSystem,
  { strength, ...rights }: { projectIds: readonly string[]; userId: string; strength: number },
  change: (isRestored: boolean) => Promise<void>,
): Promise<number> {
  const holdMs = heldMs(strength, system.durationMs);
  const revoked = await revokeRights(system, rights, async () => await change(false));
  await delay(holdMs);
  await restoreRights(revoked, async () => await change(true));
  return holdMs;
}

const revokeMembership: RunFault = async (system, { target, strength }) => {
  const { channels, viewers } = system;
  const viewer = viewers[Math.floor(target * viewers.length)];
  const channel = channels[Math.floor(strength * channels.length)];
  if (viewer === undefined || channel === undefined) return 'nothing';
  const membership = { userId: viewer.id, projectId: channel.projectId };
  const revoked = { userId: viewer.id, projectIds: [channel.projectId], strength };
  const heldForMs = await revoke(system, revoked, async (isRestored) => {
    await changeMembership(system, membership, isRestored ? 'give' : 'revoke');
  });
  return `${viewer.username}'s for ${heldForMs} ms`;
};

const deactivateUser: RunFault = async (system, { target, strength }) => {
  const { channels, importChannel, viewers } = system;
  const viewer = viewers[Math.floor(target * viewers.length)];
  if (viewer === undefined) return 'nothing';
  const projectIds = [...new Set([...channels, importChannel].map(({ projectId }) => projectId))];
  const heldForMs = await revoke(system, { userId: viewer.id, projectIds, strength }, async (isRestored) => {
    const statement = 'UPDATE users SET is_active = $1::boolean WHERE id = $2';
    await changeRights(system, statement, [String(isRestored), viewer.id]);
  });
  return `${viewer.username} for ${heldForMs} ms`;
};

const giveMembership: RunFault = async (system, { target, strength }) => {
  const { approvers, revocations, durationMs } = system;
  const approver = approvers[Math.floor(target * approvers.length)];
  const missing = revocations.find(({ userId, untilMs }) => userId === approver?.id && untilMs === Infinity);
  if (approver === undefined || missing === undefined) return 'nothing';
  const { userId, projectId } = missing;
  const holdMs = heldMs(strength, durationMs);
  await restoreRights([missing], async () => await changeMembership(system, missing, 'give'));
  await delay(holdMs);
  await revokeRights(system, { userId, projectIds: [projectId] }, async () => {
    await changeMembership(system, missing, 'revoke');
  });
  const tookMs = missing.restoredMs - missing.untilMs;
  return `to ${approver.username} for ${holdMs} ms, ${tookMs} ms after the request`;
};

const changeTokens: RunFault = async ({ tokens }, { holdMs, strength }) => {
  const mode = strength < 0.7 ? 'short' : 'none';
  tokens.mode = mode;
  await delay(holdMs);
  tokens.mode = 'usual';
  return `${mode} for ${holdMs} ms`;
};

/** Faults that end a server. */
const serverEnds: Faults = {
  'server killed': async (_system, { holdMs }, server) => {
    await server.kill();
    await delay(holdMs / 2);
    await server.start();
    return `${server.name} is back`;
  },
  'server replaced': async (_system, _plan, server) => {
    await server.drain();
    await server.start();
    return `${server.name} is back`;
  },
  'log on a full disk': async (_system, { holdMs }, server) => {
    await server.kill();
    await server.start({ diskFull: true });
    await delay(holdMs);
    await server.drain();
    await server.start();
    return `${server.name} is back`;
  },
};

const serverStalls: Faults = {
  'server stopped': async (_system, { holdMs }, server) => {
    await server.freeze(holdMs);
    return `${server.name} for ${holdMs} ms`;
  },
  'log reader stalled': async (_system, { holdMs }, server) => {
    await server.stallLog(holdMs);
    return `of ${server.name} for ${holdMs} ms`;
  },
  'clock wrong': async (_system, { holdMs, strength }, server) => {
    // From one second to two hours, backward or forward.
    const offsetMs = Math.round(Math.sign(strength - 0.5) * 1_000 * 7_200 ** Math.abs(2 * strength - 1));
    await server.request({ do: 'clock', offsetMs });
    await delay(holdMs);
    await server.request({ do: 'clock', offsetMs: 0 });
    return `of ${server.name} by ${offsetMs} ms for ${holdMs} ms`;
  },
};

/** A fault of NATS that lasts. The servers reconnect after it with backoff. */
function stopNats(
  stop: (nats: TestNats, strength: number) => Promise<string> | string,
  start: (nats: TestNats) => Promise<void> | void,
): RunFault {
  return async (system, { holdMs, strength }) => {
    const { nats } = system;
    if (nats === null) return 'nothing';
    system.natsBackAtMs = Infinity;
    const detail = await stop(nats, strength);
    await delay(holdMs);
    await start(nats);
    system.natsBackAtMs = Date.now() + natsReconnectMs;
    return `for ${holdMs} ms${detail}`;
  };
}

const natsFaults: Faults = {
  'NATS killed': stopNats(
    async (nats, strength) => {
      await nats.stop();
      if (strength >= 0.3) return '';
      // As on a new machine.
      await nats.forget();
      return ', and lost its data';
    },
    async (nats) => await nats.start(),
  ),
  'NATS stopped': stopNats(
    (nats) => {
      nats.signal('SIGSTOP');
      return '';
    },
    (nats) => nats.signal('SIGCONT'),
  ),
};

const writes: Faults = {
  'many changes at once': write(async (client, channel, { strength }) => {
    // One in five exceeds the number of events that a server replays after a reconnect.
    const count = strength < 0.8 ? 20 + Math.round(200 * strength) : 1_200;
    await writeMany(client, channel, count);
    await client.query('COMMIT');
    return `${count} in one transaction`;
  }),
  'late commit': write(async (client, channel, { holdMs }) => {
    await client.query('SAVEPOINT early');
    await writeMany(client, channel, 3);
    await client.query('SELECT pg_sleep($1)', [holdMs / 1_000]);
    await client.query('COMMIT');
    return `after ${holdMs} ms`;
  }),
  'long prepared transaction': write(async (client, channel, { holdMs, strength }) => {
    await client.query(`SET LOCAL flagcast.notify = 'off'`);
    await writeMany(client, channel, 3);
    const end = strength < 0.7 ? 'COMMIT' : 'ROLLBACK';
    await prepareAndCommit(client, holdMs / 1_000, end);
    return `${end} after ${holdMs} ms`;
  }),
};

/** By what they affect: faults of one resource, or of one server, run one after the other. */
const faultsByResource = {
  'killable server': serverEnds,
  server: serverStalls,
  database: {
    'PostgreSQL restarted': restart('fast'),
    'PostgreSQL crashed': restart('immediate'),
    'PostgreSQL stopped': stopPostgres,
    'sessions ended': endBackends(`(application_name LIKE 'flagcast%' OR application_name = 'writer')`),
    'reader ended': endBackends(`application_name = 'flagcast reader'`),
  },
  NATS: natsFaults,
  network: {
    'connections cut': network('cut'),
    'connections reset': network('reset'),
    'connections torn in a frame': network('torn'),
    'connections blackholed': network('blackhole'),
    'connections delayed': network('delay'),
    'proxy answers itself': showErrorPage,
  },
  tokens: { 'tokens short-lived or unavailable': changeTokens },
  rights: {
    'membership revoked': revokeMembership,
    'membership given': giveMembership,
    'user deactivated': deactivateUser,
  },
  host: hostChanges,
  environments: channelEnds,
  import: { import: importMany },
  writers: writes,
} satisfies Record<string, Faults>;

const faults = Object.entries<Faults>(faultsByResource).flatMap(([resource, ofResource]) =>
  Object.entries(ofResource).map(([kind, run]) => ({ resource, kind, run })),
);

export const faultKinds = faults.map(({ kind }) => kind);

/** Faults that this run cannot inject, each with the reason. */
export function unsupportedFaults({ relay }: ChaosOptions): Record<string, string> {
  const ofNats = Object.keys(natsFaults).map((kind) => [kind, 'option --relay is not given']);
  return {
    ...(existsSync(fullFile) ? {} : { 'log on a full disk': `this system has no ${fullFile}` }),
    ...(relay ? {} : (Object.fromEntries(ofNats) as Record<string, string>)),
  };
}

/** Injects faults: one after the other for the same resource, otherwise concurrently. */
export class Nemesis {
  readonly #lastFault = new Map<string, Promise<unknown>>();
  readonly #system: ChaosSystem;
  readonly #onFault: (kind: string, detail: string, tookMs: number) => void;

  /** `onFault`: called when a fault is over. */
  constructor(system: ChaosSystem, onFault: (kind: string, detail: string, tookMs: number) => void) {
    this.#system = system;
    this.#onFault = onFault;
  }

  /** Resolves when the fault is over. */
  async inject(plan: PlannedFault): Promise<void> {
    const fault = faults.find(({ kind }) => kind === plan.kind);
    const { servers } = this.#system;
    const candidates = fault?.resource === 'killable server' ? servers.slice(1) : servers;
    const server = candidates[Math.floor(plan.target * candidates.length)];
    if (fault === undefined || server === undefined) throw new Error('there is no such fault, or no server');
    const resource = fault.resource.endsWith('server') ? server.name : fault.resource;
    const before = this.#lastFault.get(resource) ?? Promise.resolve();
    const running = before.then(async () => {
      const startedAtMs = performance.now();
      const detail = await fault.run(this.#system, plan, server);
      this.#onFault(plan.kind, detail, performance.now() - startedAtMs);
    });
    this.#lastFault.set(
      resource,
      running.catch(() => undefined),
    );
    await running;
  }
}
