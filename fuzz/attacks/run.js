import { setTimeout as delay } from 'node:timers/promises';
import { startChild } from '../../bench/child.js';
import { memoryOf, requireFiles, resetPeak } from '../../bench/process-figures.js';
import { bound } from '../../bench/results.js';
import { createDatabase, startTemporaryPostgres } from '../../bench/temporary-postgres.js';
import { signToken } from '../../packages/server/dist/access/sign.js';
import { startBystanders } from './bystanders.js';
import { startServerProcess } from './server-process.js';

/** @import pg from 'pg' */
/** @import { BoundedRun } from '../../bench/bounded-run.js' */
/** @import { Bound } from '../../bench/results.js' */
/** @import { AttackFault, AttackerQuestion, StretchResult } from './attacker-program.js' */
/** @import { ServerProcess } from './server-process.js' */

/**
 * @typedef {{
 *   attacks: number,
 *   seconds: number,
 *   outcomes: Record<string, number>,
 *   heldAtMost: number,
 *   heldEndedByServer: number,
 *   faults: readonly AttackFault[],
 *   complaints: readonly string[],
 *   residentMegabytes: { before: number, peak: number, after: number, during: readonly number[] },
 *   heapMegabytes: { before: number, after: number },
 *   openFiles: { before: number, peak: number, after: number },
 *   bystanders: import('./bystanders.js').BystanderFigures,
 *   bounds: readonly Bound[],
 * }} AttackResults
 */

const secret = 'a secret that is long enough for a run';
const attackers = 20;
const concurrency = 128;
const stretch = 2_000;
/** Of attacks that belong to nothing, so that what a server has once and for all counts as there before. */
const warmUp = 400;
const warmUpSeed = 77;
/** Held connections, those under way, and what a process has beside. */
const files = 2_000 + concurrency + 200;
/** How long after the last attack the server may still be busy with it, in milliseconds. */
const quietLimitMs = 60_000;
/** The server's pools keep so many connections to the database for ten seconds, which a short run does not wait for. */
const pooled = 9;
const longRun = 5_000;
/** How long the attacker gets to tell what was under way when the server ended. */
const goneLimitMs = 20_000;
const healthLimitMs = 10_000;
const settleMs = 500;
const eventLimitSeconds = 5;
/**
 * The server keeps recent events for those who come back, at most 20,000 of them: 2.7 kB each where they
 * come one by one, as the bystanders' do.
 */
const keptKilobytesPerEvent = 3;
const mostKeptEvents = 20_000;
/** What else may be in use after garbage was collected, and what the system has given it. */
const heapLimitMegabytes = 8;
const growthLimitMegabytes = 128;
/** With 2,000 connections held and garbage that was not collected yet. */
const peakLimitMegabytes = 512;

/**
 * Attacks a server over raw sockets, from a process of its own, while two clients that behave look on.
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
  const bystanders = await startBystanders(run, { port: server.port, token, database });
  const target = {
    port: server.port,
    tokens: await attackersOf(database.client, database.projectId),
    projectId: database.projectId,
    environmentKey: database.environmentKey,
    featureId: database.featureId,
  };
  const attacker = startChild(run, new URL('./attacker-program.js', import.meta.url));
  /** @param {AttackerQuestion} question */
  const ask = async (question) => await Promise.race([attacker.request(question), serverEnd(run, server)]);
  /** @param {number} from @param {number} count @param {number} seedOfStretch */
  const attackWith = async (from, count, seedOfStretch) =>
    /** @type {StretchResult} */ (
      await ask({ type: 'attack', target, seed: seedOfStretch, first: from, count, concurrency })
    );

  await attackWith(0, Math.min(warmUp, Math.ceil(attacks / 4)), warmUpSeed);
  await ask({ type: 'let go' });
  const filesBefore = await quietFiles(server, 0);
  const heapBefore = megabytes(await server.usedHeap());
  const before = await memoryOf(server.pid);
  await resetPeak(server.pid);

  const startedAtMs = performance.now();
  /** @type {Record<string, number>} */
  const outcomes = {};
  /** After each stretch. @type {number[]} */
  const during = [];
  /** @type {AttackFault[]} */
  const faults = [];
  let [made, heldAtMost, filesPeak] = [0, 0, filesBefore];
  while (made < attacks && performance.now() < endsAtMs && server.hasEnded() === null) {
    const count = Math.min(stretch, attacks - made);
    const result = await attackWith(first + made, count, seed).catch((/** @type {unknown} */ error) => {
      if (server.hasEnded() === null) throw error;
      faults.push(whileEnding(first + made, count, server));
      return null;
    });
    if (result === null) break;
    made += count;
    faults.push(...result.faults);
    const gone = await ending(server);
    if (gone !== null) faults.unshift(whileEnding(first + made - count, count, server));
    for (const [key, times] of Object.entries(result.outcomes)) outcomes[key] = (outcomes[key] ?? 0) + times;
    heldAtMost = Math.max(heldAtMost, result.held);
    if (gone !== null) break;
    filesPeak = Math.max(filesPeak, await server.openFiles());
    const { residentBytes } = await memoryOf(server.pid);
    during.push(Math.round(megabytes(residentBytes)));
    onProgress(made, faults.length, megabytes(residentBytes));
    if (faults.length > 100) break;
  }
  const seconds = (performance.now() - startedAtMs) / 1_000;
  const heldEndedByServer = server.hasEnded() === null ? Number(await ask({ type: 'let go' })) : 0;
  await attacker.end();
  const figures = await bystanders.finish();
  const filesLimit = filesBefore + (attacks < longRun ? pooled : 0);
  const filesAfter = await quietFiles(server, filesLimit);
  const heapAfter = server.hasEnded() === null ? megabytes(await server.usedHeap()) : heapBefore;
  const after = server.hasEnded() === null ? await memoryOf(server.pid) : before;
  const { complaints } = server;
  const keptMegabytes = (Math.min(figures.events, mostKeptEvents) * keptKilobytesPerEvent) / 1_024;
  const heapLimit = Math.ceil(heapLimitMegabytes + keptMegabytes);
  const bounds = [
    bound('attacks that the server answered wrongly, or not at all', faults.length, 0, ''),
    bound('servers that ended', server.hasEnded() === null ? 0 : 1, 0, ''),
    bound('warnings and errors in its log', complaints.length, 0, ''),
    bound('bystanders cut off', figures.closed.length, 0, ''),
    bound(
      'events missing or repeated at the bystanders',
      figures.missing + figures.repeated + figures.unknown,
      0,
      '',
    ),
    bound(
      'from a commit to the slower bystander, at the most',
      figures.slowestMs / 1_000,
      eventLimitSeconds,
      ' s',
    ),
    bound(
      'memory of the server afterwards, over before',
      megabytes(after.residentBytes - before.residentBytes),
      growthLimitMegabytes,
      ' MB',
    ),
    bound('heap of the server afterwards, over before', heapAfter - heapBefore, heapLimit, ' MB'),
    bound('memory of the server, at the most', megabytes(after.peakBytes), peakLimitMegabytes, ' MB'),
    bound('files of the server afterwards', filesAfter, filesLimit, ''),
  ];
  const ended = await server.end();
  bounds.push(bound('servers that did not end when asked to', ended === 'it ended with 0' ? 0 : 1, 0, ''));
  return {
    attacks: made,
    seconds,
    outcomes,
    heldAtMost,
    heldEndedByServer,
    faults,
    complaints,
    residentMegabytes: {
      before: megabytes(before.residentBytes),
      peak: megabytes(after.peakBytes),
      after: megabytes(after.residentBytes),
      during,
    },
    heapMegabytes: { before: heapBefore, after: heapAfter },
    openFiles: { before: filesBefore, peak: filesPeak, after: filesAfter },
    bystanders: figures,
    bounds,
  };
}

/**
 * Rejects when the server has ended.
 *
 * @param {BoundedRun} run
 * @param {ServerProcess} server
 */
async function serverEnd({ signal }, server) {
  while (!signal.aborted && server.hasEnded() === null) await delay(100, undefined, { ref: false });
  // The attacker has something to tell.
  await delay(goneLimitMs, undefined, { ref: false });
  const { complaints } = server;
  throw new Error(`the server is gone: ${server.hasEnded() ?? 'the run is over'}; ${complaints.join(' ')}`);
}

/**
 * How the server has ended; null while it has not. A process that breaks down is gone a moment after its sockets.
 *
 * @param {ServerProcess} server
 */
async function ending(server) {
  try {
    const response = await fetch(`http://127.0.0.1:${server.port}/healthz`, {
      signal: AbortSignal.timeout(healthLimitMs),
    });
    if (response.ok) return null;
  } catch {
    // Told by how the process ended, if it did.
  }
  await delay(settleMs);
  return server.hasEnded();
}

/**
 * It is not known which of those under way did it.
 *
 * @param {number} index
 * @param {number} count
 * @param {ServerProcess} server
 * @returns {AttackFault}
 */
function whileEnding(index, count, server) {
  const problem = `the server ended during these ${count} attacks: ${server.hasEnded() ?? ''}; ${server.complaints.join(' ')}`;
  return { index, kind: 'server', name: 'end', problem, sent: '' };
}

/**
 * How many files the server has open once that is no more than `limit`, or has stopped to fall.
 *
 * @param {ServerProcess} server
 * @param {number} limit
 */
async function quietFiles(server, limit) {
  const giveUpAtMs = performance.now() + quietLimitMs;
  let files = Infinity;
  let unchanged = 0;
  // Connections to the database that idle are closed after ten seconds.
  while (files > limit && performance.now() < giveUpAtMs && server.hasEnded() === null) {
    const now = await server.openFiles();
    unchanged = now === files ? unchanged + 1 : 0;
    files = now;
    if (limit === 0 && unchanged === 5) break;
    await delay(100);
  }
  return files;
}

/**
 * Users who may view and change the project, by their tokens.
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
