import { setTimeout as delay } from 'node:timers/promises';
import { startChild } from '../../testkit/child.ts';
import { memoryOf, requireFiles, resetPeak } from '../../testkit/process-figures.ts';
import { atMost } from '../../testkit/report.ts';
import { createDatabase, startTemporaryPostgres } from '../../testkit/postgres.ts';
import { signToken } from '../../../packages/server/dist/auth/sign-token.js';
import { startControlClients } from './control-clients.js';
import { startServerProcess } from './server-process.js';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../testkit/bounded-run.ts' */
/** @import { Bound } from '../../testkit/report.ts' */
/** @import { AttackFault, AttackerRequest, BatchResult } from './attacker-program.js' */
/** @import { ControlClientFigures } from './control-clients.js' */
/** @import { Target } from './requests.js' */
/** @import { ServerProcess } from './server-process.js' */

/**
 * @typedef {{
 *   attacks: number,
 *   seconds: number,
 *   outcomes: Record<string, number>,
 *   maxHeld: number,
 *   heldClosedByServer: number,
 *   faults: readonly AttackFault[],
 *   warnings: readonly string[],
 *   residentMegabytes: { before: number, peak: number, after: number, during: readonly number[] },
 *   heapMegabytes: { before: number, after: number },
 *   openFiles: { before: number, peak: number, after: number },
 *   controlClients: ControlClientFigures,
 *   bounds: readonly Bound[],
 * }} AttackResults
 */

const secret = 'a secret that is long enough for a run';
const attackers = 20;
const concurrency = 128;
const batchSize = 2_000;
/** Number of attacks before the measurement, so that caches and pools of the server exist. */
const warmUp = 400;
const warmUpSeed = 77;
/** Open files: held connections, current ones, and others. */
const files = 2_000 + concurrency + 200;
/** Time limit for the server to release files after the last attack, in milliseconds. */
const releaseLimitMs = 60_000;
/** Connections that the server's pools keep for ten seconds; short runs do not wait for their end. */
const pooled = 9;
const longRun = 5_000;
/** Time for the attacker to report its current attacks after the end of the server. */
const reportMs = 20_000;
const healthLimitMs = 10_000;
const exitMs = 500;
const eventLimitSeconds = 5;
/**
 * The replay buffer keeps at most 20,000 events, of 2.7 kB each if they arrive one by one, as those of the control clients.
 */
const keptKilobytesPerEvent = 3;
const mostKeptEvents = 20_000;
/** Limits of the growth of heap and resident memory, without the replay buffer. */
const heapLimitMegabytes = 8;
const growthLimitMegabytes = 128;
/** Limit of the peak, with 2,000 held connections and uncollected garbage. */
const peakLimitMegabytes = 512;

/**
 * Attacks a server over raw sockets from another process, while two control clients receive events.
 *
 * @param {BoundedRun} run
 * @param {{
 *   readonly attacks: number,
 *   readonly first: number,
 *   readonly seed: number,
 *   readonly endsAtMs: number,
 *   readonly onProgress: (attacks: number, faults: number, residentMegabytes: number) => void,
 * }} options
 * @returns {Promise<AttackResults>}
 */
export async function attackServer(run, { attacks, first, seed, endsAtMs, onProgress }) {
  await requireFiles(files);
  const postgres = await startTemporaryPostgres(run);
  const database = await createDatabase(run, postgres, 'fuzz');
  const server = await startServerProcess(run, { databaseUrl: database.url, secret });
  const token = await tokenOf(database.userId, database.username);
  const controlClients = await startControlClients(run, { port: server.port, token, database });
  const attacker = startAttacker(run, server, {
    port: server.port,
    tokens: await attackersOf(database.client, database.projectId),
    projectId: database.projectId,
    environmentKey: database.environmentKey,
    featureId: database.featureId,
  });
  await attacker.attack(0, Math.min(warmUp, Math.ceil(attacks / 4)), warmUpSeed);
  await attacker.release();
  const filesBefore = await awaitFiles(server, 0);
  const heapBefore = megabytes(await server.usedHeap());
  const before = await memoryOf([server.pid]);
  await resetPeak([server.pid]);

  const startedAtMs = performance.now();
  const batches = await attackInBatches(attacker, server, { attacks, first, seed, endsAtMs, onProgress });
  const seconds = (performance.now() - startedAtMs) / 1_000;
  const heldClosedByServer = server.exitReason() === null ? await attacker.release() : 0;
  await attacker.end();
  const figures = await controlClients.finish();
  const filesLimit = filesBefore + (attacks < longRun ? pooled : 0);
  const filesAfter = await awaitFiles(server, filesLimit);
  const runs = server.exitReason() === null;
  const heapAfter = runs ? megabytes(await server.usedHeap()) : heapBefore;
  const after = runs ? await memoryOf([server.pid]) : before;
  const exit = await server.end();
  const { made, outcomes, maxHeld, faults, filesPeak, during } = batches;
  return {
    ...{ attacks: made, seconds, outcomes, maxHeld, heldClosedByServer, faults, warnings: server.warnings },
    residentMegabytes: {
      before: megabytes(before.residentBytes),
      peak: megabytes(after.peakBytes),
      after: megabytes(after.residentBytes),
      during,
    },
    heapMegabytes: { before: heapBefore, after: heapAfter },
    openFiles: { before: filesBefore, peak: filesPeak, after: filesAfter },
    controlClients: figures,
    bounds: [
      atMost('attacks with a wrong or missing answer', faults.length, 0, ''),
      atMost('server crashes', runs ? 0 : 1, 0, ''),
      atMost('warnings and errors in the log', server.warnings.length, 0, ''),
      ...controlClientBounds(figures),
      atMost(
        'growth of the resident memory of the server',
        megabytes(after.residentBytes - before.residentBytes),
        growthLimitMegabytes,
        ' MB',
      ),
      atMost('growth of the heap of the server', heapAfter - heapBefore, heapLimitOf(figures.events), ' MB'),
      atMost('peak memory of the server', megabytes(after.peakBytes), peakLimitMegabytes, ' MB'),
      atMost('open files of the server afterwards', filesAfter, filesLimit, ''),
      atMost('failed shutdowns', exit === 'it ended with 0' ? 0 : 1, 0, ''),
    ],
  };
}

/** @typedef {ReturnType<typeof startAttacker>} Attacker */

/**
 * Starts the process that attacks.
 *
 * @param {BoundedRun} run
 * @param {ServerProcess} server
 * @param {Target} target
 */
function startAttacker(run, server, target) {
  const child = startChild(run, new URL('./attacker-program.js', import.meta.url));
  /** @param {AttackerRequest} message */
  const request = async (message) => await Promise.race([child.request(message), serverEnd(run, server)]);
  return {
    /**
     * @param {number} first
     * @param {number} count
     * @param {number} seed
     */
    attack: async (first, count, seed) =>
      /** @type {BatchResult} */ (await request({ type: 'attack', target, seed, first, count, concurrency })),
    /** Closes the held connections, and returns how many of them the server has closed. */
    release: async () => Number(await request({ type: 'release' })),
    end: child.end,
  };
}

/**
 * Attacks until all attacks are made, the time is over, or the server has ended.
 *
 * @param {Attacker} attacker
 * @param {ServerProcess} server
 * @param {Parameters<typeof attackServer>[1]} options
 */
async function attackInBatches(attacker, server, { attacks, first, seed, endsAtMs, onProgress }) {
  /** @type {Record<string, number>} */
  const outcomes = {};
  /** After each batch. @type {number[]} */
  const during = [];
  /** @type {AttackFault[]} */
  const faults = [];
  let [made, maxHeld, filesPeak] = [0, 0, await server.openFiles()];
  while (made < attacks && performance.now() < endsAtMs && server.exitReason() === null) {
    const count = Math.min(batchSize, attacks - made);
    const result = await attacker.attack(first + made, count, seed).catch((/** @type {unknown} */ error) => {
      if (server.exitReason() === null) throw error;
      faults.push(crashDuring(first + made, count, server));
      return null;
    });
    if (result === null) break;
    made += count;
    faults.push(...result.faults);
    const ended = await checkEnd(server);
    if (ended !== null) faults.unshift(crashDuring(first + made - count, count, server));
    for (const [key, times] of Object.entries(result.outcomes)) outcomes[key] = (outcomes[key] ?? 0) + times;
    maxHeld = Math.max(maxHeld, result.held);
    if (ended !== null) break;
    filesPeak = Math.max(filesPeak, await server.openFiles());
    const { residentBytes } = await memoryOf([server.pid]);
    during.push(Math.round(megabytes(residentBytes)));
    onProgress(made, faults.length, megabytes(residentBytes));
    if (faults.length > 100) break;
  }
  return { made, outcomes, maxHeld, faults, filesPeak, during };
}

/** @param {ControlClientFigures} figures */
function controlClientBounds({ closed, missing, repeated, unknown, slowestMs }) {
  return [
    atMost('closed control clients', closed.length, 0, ''),
    atMost('missing or repeated events of the control clients', missing + repeated + unknown, 0, ''),
    atMost(
      'longest time from a commit to the slower control client',
      slowestMs / 1_000,
      eventLimitSeconds,
      ' s',
    ),
  ];
}

/** @param {number} events written during the run */
function heapLimitOf(events) {
  return Math.ceil(heapLimitMegabytes + (Math.min(events, mostKeptEvents) * keptKilobytesPerEvent) / 1_024);
}

/**
 * Rejects after the server has ended.
 *
 * @param {BoundedRun} run
 * @param {ServerProcess} server
 */
async function serverEnd({ signal }, server) {
  while (!signal.aborted && server.exitReason() === null) await delay(100, undefined, { ref: false });
  // The attacker reports its current attacks first.
  await delay(reportMs, undefined, { ref: false });
  const { warnings } = server;
  throw new Error(`The server has ended: ${server.exitReason() ?? 'the run is over'}; ${warnings.join(' ')}`);
}

/**
 * Returns the exit reason of the server, or null if it runs. A crashing process exits shortly after its sockets are closed.
 *
 * @param {ServerProcess} server
 */
async function checkEnd(server) {
  try {
    const response = await fetch(`http://127.0.0.1:${server.port}/healthz`, {
      signal: AbortSignal.timeout(healthLimitMs),
    });
    if (response.ok) return null;
  } catch {
    // The exit reason tells more, if the process has ended.
  }
  await delay(exitMs);
  return server.exitReason();
}

/**
 * Describes a crash during a batch; the attack that caused it is unknown.
 *
 * @param {number} index
 * @param {number} count
 * @param {ServerProcess} server
 * @returns {AttackFault}
 */
function crashDuring(index, count, server) {
  const problem = `the server ended during these ${count} attacks: ${server.exitReason() ?? ''}; ${server.warnings.join(' ')}`;
  return { index, kind: 'server', name: 'end', problem, sent: '' };
}

/**
 * Waits until the server has at most `limit` open files, or their number is stable, and returns it.
 *
 * @param {ServerProcess} server
 * @param {number} limit
 */
async function awaitFiles(server, limit) {
  const giveUpAtMs = performance.now() + releaseLimitMs;
  let files = Infinity;
  let unchanged = 0;
  // The pools close idle connections to the database after ten seconds.
  while (files > limit && performance.now() < giveUpAtMs && server.exitReason() === null) {
    const now = await server.openFiles();
    unchanged = now === files ? unchanged + 1 : 0;
    files = now;
    if (limit === 0 && unchanged === 5) break;
    await delay(100);
  }
  return files;
}

/**
 * Creates users who may view and change the project, and returns their tokens.
 *
 * @param {pg.Client} client
 * @param {string} projectId
 */
async function attackersOf(client, projectId) {
  /** @type {pg.QueryResult<{ id: string, username: string }>} */
  const { rows } = await client.query(
    `INSERT INTO users (username, email, password_hash)
     SELECT 'attacker ' || n, 'attacker' || n || '@example.com', '' FROM generate_series(1, $1) n
     RETURNING id::text, username`,
    [attackers],
  );
  await client.query(
    `INSERT INTO memberships (project_id, user_id, role_id)
     SELECT $1, u.id, r.id FROM users u, roles r WHERE u.username LIKE 'attacker %' AND r.key = 'project_owner'`,
    [projectId],
  );
  return await Promise.all(rows.map(async ({ id, username }) => await tokenOf(id, username)));
}

/**
 * @param {string} userId
 * @param {string} username
 */
async function tokenOf(userId, username) {
  return await signToken({ secret, userId, username, ttlMs: 24 * 3_600_000 });
}

/** @param {number} bytes */
function megabytes(bytes) {
  return bytes / 2 ** 20;
}
