import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connectWriter, prepareAndCommit, writeMany } from './writers.js';
import { hostChanges } from './host-changes.js';
import { fullFile } from './server-process.js';

/** @import pg from 'pg' */
/** @import { EmbeddedPostgres } from '@flagcast/demo' */
/** @import { Revocation } from './segment-checker.js' */
/** @import { FaultyProxy, NetworkFault } from './faulty-proxy.js' */
/** @import { PlannedFault } from './plan.js' */
/** @import { ServerProcess } from './server-process.js' */
/** @import { Tokens, Viewer } from './tokens.js' */
/** @import { ChaosChannel } from './writers.js' */

/**
 * The system under test. No fault ends the first server, so that its memory growth can be measured. `imports`: number of
 * imports so far. `unlogged`: number of audit rows that a fault removed and that were missing in the event log.
 * `signal`: aborted when the run is interrupted.
 *
 * @typedef {{
 *   readonly postgres: EmbeddedPostgres,
 *   readonly databaseUrl: string,
 *   readonly servers: readonly ServerProcess[],
 *   readonly proxy: FaultyProxy,
 *   readonly channels: readonly ChaosChannel[],
 *   readonly importChannel: ChaosChannel,
 *   unlogged: number,
 *   imports: number,
 *   readonly viewers: readonly Viewer[],
 *   readonly tokens: Tokens,
 *   readonly revocations: Revocation[],
 *   readonly durationMs: number,
 *   readonly signal: AbortSignal,
 * }} NemesisContext
 */

/**
 * `resource`: what the fault affects; faults of one resource run one after the other. `run`: injects the fault, ends it,
 * and resolves with a description.
 *
 * @typedef {{
 *   readonly resource: 'server' | 'killable server' | 'database' | 'tokens' | 'rights' | 'network' | 'writers' | 'host'
 *     | 'environments' | 'import',
 *   readonly run: (context: NemesisContext, fault: PlannedFault, server: ServerProcess) => Promise<string>,
 * }} FaultAction
 */

/** How long a membership is revoked, in milliseconds: mostly longer than the servers' recheck interval. */
const revoked = { leastMs: 16_000, mostMs: 32_000 };
/** Share of the connections that a network fault affects at most. */
const worstNetworkShare = 0.6;

/**
 * @param {NetworkFault} fault
 * @returns {FaultAction}
 */
function network(fault) {
  return {
    resource: 'network',
    run: async ({ proxy }, { strength }) => {
      const count = proxy.inject(fault, 0.1 + strength * (worstNetworkShare - 0.1));
      return await Promise.resolve(`${count} connections`);
    },
  };
}

/**
 * @param {'fast' | 'immediate'} mode
 * @returns {FaultAction}
 */
function restart(mode) {
  return {
    resource: 'database',
    run: async ({ postgres }) => {
      await postgres.restart(mode);
      return `PostgreSQL is back`;
    },
  };
}

/**
 * @param {(databaseUrl: string) => Promise<pg.Client>} connect
 * @param {string} databaseUrl
 * @param {(client: pg.Client) => Promise<void>} work
 */
async function withWriter(connect, databaseUrl, work) {
  const client = await connect(databaseUrl);
  try {
    await work(client);
  } finally {
    await client.end().catch(() => undefined);
  }
}

/**
 * @param {string} where a condition on pg_stat_activity
 * @returns {FaultAction}
 */
function endBackends(where) {
  return {
    resource: 'database',
    run: async ({ databaseUrl }, { strength }) => {
      let count = 0;
      await withWriter(connectWriter, databaseUrl, async (client) => {
        const { rowCount } = await client.query(
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid() AND ${where} AND random() <= $1`,
          [Math.max(strength, 0.3)],
        );
        count = rowCount ?? 0;
      });
      return `${count} sessions`;
    },
  };
}

/**
 * Writes in a transaction of its own. The connection may be lost because another fault runs at the same time.
 *
 * @param {NemesisContext} context
 * @param {PlannedFault} fault
 * @param {(client: pg.Client, channel: ChaosChannel) => Promise<string>} work
 */
async function write({ databaseUrl, channels }, { target }, work) {
  const channel = channels[Math.floor(target * channels.length)];
  if (channel === undefined) return 'nothing';
  let done = 'nothing';
  try {
    await withWriter(connectWriter, databaseUrl, async (client) => {
      await client.query('BEGIN');
      done = await work(client, channel);
    });
  } catch {
    done = 'rolled back, as the connection was lost';
  }
  return done;
}

/** @satisfies {Record<string, FaultAction>} */
const actions = {
  'server killed': {
    resource: 'killable server',
    run: async (_world, { holdMs }, server) => {
      await server.kill();
      await delay(holdMs / 2);
      await server.start();
      return `${server.name} is back`;
    },
  },
  'server replaced': {
    resource: 'killable server',
    run: async (_world, _fault, server) => {
      await server.drain();
      await server.start();
      return `${server.name} is back`;
    },
  },
  'log on a full disk': {
    resource: 'killable server',
    run: async (_world, { holdMs }, server) => {
      await server.kill();
      await server.start({ diskFull: true });
      await delay(holdMs);
      await server.drain();
      await server.start();
      return `${server.name} is back`;
    },
  },
  'server stopped': {
    resource: 'server',
    run: async (_world, { holdMs }, server) => {
      await server.freeze(holdMs);
      return `${server.name} for ${holdMs} ms`;
    },
  },
  'log reader stalled': {
    resource: 'server',
    run: async (_world, { holdMs }, server) => {
      await server.stallLog(holdMs);
      return `of ${server.name} for ${holdMs} ms`;
    },
  },
  'clock wrong': {
    resource: 'server',
    run: async (_world, { holdMs, strength }, server) => {
      // From one second to two hours, backward or forward.
      const offsetMs = Math.round(Math.sign(strength - 0.5) * 1_000 * 7_200 ** Math.abs(2 * strength - 1));
      await server.request({ do: 'clock', offsetMs });
      await delay(holdMs);
      await server.request({ do: 'clock', offsetMs: 0 });
      return `of ${server.name} by ${offsetMs} ms for ${holdMs} ms`;
    },
  },
  'PostgreSQL restarted': restart('fast'),
  'PostgreSQL crashed': restart('immediate'),
  'sessions ended': endBackends(`(application_name LIKE 'flagcast%' OR application_name = 'writer')`),
  'LISTEN ended': endBackends(`application_name = 'flagcast listener'`),
  'connections cut': network('cut'),
  'connections reset': network('reset'),
  'connections torn in a frame': network('torn'),
  'connections blackholed': network('blackhole'),
  'connections delayed': network('delay'),
  'tokens short-lived or unavailable': {
    resource: 'tokens',
    run: async ({ tokens }, { holdMs, strength }) => {
      const mode = strength < 0.7 ? 'short' : 'none';
      tokens.mode = mode;
      await delay(holdMs);
      tokens.mode = 'usual';
      return `${mode} for ${holdMs} ms`;
    },
  },
  'membership revoked': {
    resource: 'rights',
    run: async (
      { databaseUrl, channels, viewers, revocations, durationMs, signal },
      { target, strength },
    ) => {
      const viewer = viewers[Math.floor(target * viewers.length)];
      const channel = channels[Math.floor(strength * channels.length)];
      if (viewer === undefined || channel === undefined) return 'nothing';
      const { projectId } = channel;
      const drawnMs = revoked.leastMs + (revoked.mostMs - revoked.leastMs) * strength;
      const holdMs = Math.round(Math.min(drawnMs, durationMs / 4));
      /** @param {string} statement */
      const change = async (statement) => {
        // Another fault may restart the database: retry.
        while (!signal.aborted) {
          try {
            await withWriter(connectWriter, databaseUrl, async (client) => {
              await client.query(statement, [projectId, viewer.id]);
            });
            return;
          } catch {
            await delay(200);
          }
        }
      };
      await change('DELETE FROM memberships WHERE project_id = $1 AND user_id = $2');
      const fromMs = Date.now();
      await delay(holdMs);
      // Taken before the right is restored: a server may notice sooner than this process.
      revocations.push({ userId: viewer.id, projectId, fromMs, untilMs: Date.now() });
      await change(
        `INSERT INTO memberships (project_id, user_id, role_id) SELECT $1, $2, id FROM roles WHERE key = 'project_viewer'
         ON CONFLICT DO NOTHING`,
      );
      return `${viewer.username}'s for ${holdMs} ms`;
    },
  },
  ...hostChanges,
  'many changes at once': {
    resource: 'writers',
    run: async (context, fault) =>
      await write(context, fault, async (client, channel) => {
        // One in five exceeds the number of events that a server replays after a reconnect.
        const count = fault.strength < 0.8 ? 20 + Math.round(200 * fault.strength) : 1_200;
        await writeMany(client, channel, count);
        await client.query('COMMIT');
        return `${count} in one transaction`;
      }),
  },
  'late commit': {
    resource: 'writers',
    run: async (context, fault) =>
      await write(context, fault, async (client, channel) => {
        await client.query('SAVEPOINT early');
        await writeMany(client, channel, 3);
        await client.query('SELECT pg_sleep($1)', [fault.holdMs / 1_000]);
        await client.query('COMMIT');
        return `after ${fault.holdMs} ms`;
      }),
  },
  'long prepared transaction': {
    resource: 'writers',
    run: async (context, fault) =>
      await write(context, fault, async (client, channel) => {
        await client.query(`SET LOCAL flagcast.notify = 'off'`);
        await writeMany(client, channel, 3);
        const end = fault.strength < 0.7 ? 'COMMIT' : 'ROLLBACK';
        await prepareAndCommit(client, fault.holdMs / 1_000, end);
        return `${end} after ${fault.holdMs} ms`;
      }),
  },
};

/** @typedef {keyof typeof actions} FaultKind */

export const faultKinds = /** @type {FaultKind[]} */ (Object.keys(actions));

/**
 * Faults that this system cannot inject, each with the reason.
 *
 * @returns {Partial<Record<FaultKind, string>>}
 */
export function unsupportedFaults() {
  return existsSync(fullFile) ? {} : { 'log on a full disk': `this system has no ${fullFile}` };
}

/** Injects faults: one after the other for the same resource, otherwise concurrently. */
export class Nemesis {
  /** @type {Map<string, Promise<unknown>>} */
  #lastFault = new Map();
  #context;
  #onFault;

  /**
   * @param {NemesisContext} context
   * @param {(kind: FaultKind, detail: string, tookMs: number) => void} onFault called when a fault is over
   */
  constructor(context, onFault) {
    this.#context = context;
    this.#onFault = onFault;
  }

  /**
   * Resolves when the fault is over.
   *
   * @param {PlannedFault} fault
   */
  async inject(fault) {
    /** @type {FaultAction} */
    const action = actions[fault.kind];
    const { servers } = this.#context;
    const candidates =
      action.resource === 'killable server' && servers.length > 1 ? servers.slice(1) : servers;
    const server = candidates[Math.floor(fault.target * candidates.length)];
    if (server === undefined) throw new Error('there are no servers');
    const resource = action.resource.endsWith('server') ? server.name : action.resource;
    const before = this.#lastFault.get(resource) ?? Promise.resolve();
    const running = before.then(async () => {
      const startedAtMs = performance.now();
      const detail = await action.run(this.#context, fault, server);
      this.#onFault(fault.kind, detail, performance.now() - startedAtMs);
    });
    this.#lastFault.set(
      resource,
      running.catch(() => undefined),
    );
    await running;
  }
}
