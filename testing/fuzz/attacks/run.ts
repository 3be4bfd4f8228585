import { createInterface } from 'node:readline';
import type { BoundedRun } from '../../testkit/bounded-run.ts';
import { pollUntil } from '../../testkit/poll.ts';
import { connect, createMembers, startTemporaryPostgres } from '../../testkit/postgres.ts';
import { memoryOf, openFilesOf, requireFiles, resetPeak, usedHeapOf } from '../../testkit/process-figures.ts';
import { parseFields } from '../../testkit/program.ts';
import { atMost, none } from '../../testkit/report.ts';
import { seedDatabase } from '../../testkit/seed-database.ts';
import { type ServeProcess, startServe } from '../../testkit/serve-process.ts';
import { signToken } from '../../testkit/tokens.ts';
import { Attacker, attackerFiles } from './attacker.ts';
import type { FuzzOptions } from '../parsers/run.ts';
import { checkControlClients, openControlClients, writeRegularly } from './control-clients.ts';

const secret = 'a secret that is long enough for a run';
const attackers = 20;
const batchSize = 2_000;
/** Attacks before the measurement, so that caches and pools of the server exist. */
const warmUp = { seed: 77, first: 0, count: 400 };
const maxFaults = 100;
const maxWarnings = 20;
/** Time limit for the server to release files after the last attack, in milliseconds. */
const releaseLimitMs = 60_000;
/** Connections that the server's pools keep for ten seconds; short runs do not wait for their end. */
const pooled = 9;
const longRun = 5_000;
const eventLimitSeconds = 5;
/** The replay buffer keeps at most 20,000 events, of 2.7 kB each if they arrive one by one. */
const replayBuffer = { kilobytesPerEvent: 3, mostEvents: 20_000 };
/** Limits of the growth of heap and resident memory, without the replay buffer, and of the peak. */
const megabyteLimits = { heap: 8, growth: 128, peak: 512 };

export type AttackResults = Awaited<ReturnType<typeof attackServer>>;

/** Attacks a server over raw sockets, while two control clients receive events. The end of the server ends the run. */
export async function attackServer(
  run: BoundedRun,
  options: FuzzOptions & { readonly attacks: number; readonly first: number },
) {
  const { attacks, first, seed, endsAtMs, onProgress } = options;
  await requireFiles(attackerFiles);
  const postgres = await startTemporaryPostgres(run, { track_commit_timestamp: 'on' });
  const { databaseUrl, projects, root } = await seedDatabase(postgres);
  const [channel] = projects.flat();
  if (channel === undefined) throw new Error('The database has no channel');
  const session = await connect(run, databaseUrl, 'fuzz');
  const features = await session.query<{ id: string }>(
    'SELECT id FROM features WHERE project_id = $1 ORDER BY id LIMIT 1',
    [channel.projectId],
  );
  const featureId = features.rows[0]?.id ?? '';
  let made = 0;
  const fail = ({ message }: Error): void =>
    run.fail(new Error(`${message}, after attack ${first + made} and before ${first + made + batchSize}`));
  const server = await startServe(
    { defer: (cleanUp) => run.defer(cleanUp), fail },
    {
      // Enables writes, so that attacks reach their validation.
      env: { DATABASE_URL: databaseUrl, FLAGCAST_JWT_SECRET: secret, FLAGCAST_WRITES: 'on' },
      execArgv: ['--inspect=127.0.0.1:0'],
    },
  );
  const warnings = collectWarnings(server);
  const clients = openControlClients(run, { baseUrl: server.url, secret, user: root, channel });
  const stop = new AbortController();
  const writing = writeRegularly(databaseUrl, { ...channel, featureId }, stop.signal);
  writing.catch((error: unknown) =>
    run.fail(new Error('The control clients cannot write', { cause: error })),
  );
  // Owners may view and change the project.
  const owners = await createMembers(session, channel.projectId, attackers, 'project_owner');
  const tokens = owners.map((owner) => signToken(secret, owner));
  const attacker = new Attacker({ ...channel, featureId, port: server.port, tokens });
  run.defer(async () => await attacker.end());

  await attacker.attack({ ...warmUp, count: Math.min(warmUp.count, Math.ceil(attacks / 4)) });
  await attacker.release();
  const filesBefore = await awaitFiles(server, 0);
  const heapBefore = await usedHeapOf(server.program);
  const before = await memoryOf([server.pid]);
  await resetPeak([server.pid]);

  const startedAtMs = performance.now();
  while (made < attacks && performance.now() < endsAtMs && attacker.faults.length < maxFaults) {
    const count = Math.min(batchSize, attacks - made);
    await attacker.attack({ seed, first: first + made, count });
    run.signal.throwIfAborted();
    made += count;
    onProgress(`${made} of ${attacks} attacks, ${attacker.faults.length} faults`);
  }
  const seconds = (performance.now() - startedAtMs) / 1_000;
  await attacker.end();
  stop.abort();
  await writing;
  const controlClients = await checkControlClients(databaseUrl, clients);
  for (const client of clients) client.close();
  const filesLimit = filesBefore + (attacks < longRun ? pooled : 0);
  const files = await awaitFiles(server, filesLimit);
  const heap = (await usedHeapOf(server.program)) - heapBefore;
  const after = await memoryOf([server.pid]);
  await server.end();
  const { code } = await server.program.ended;
  const kept = Math.min(controlClients.events, replayBuffer.mostEvents) * replayBuffer.kilobytesPerEvent;
  const heapLimit = Math.ceil(megabyteLimits.heap + kept / 1_024);
  const growth = megabytes(after.residentBytes - before.residentBytes);
  const { faults, outcomes, mostHeld, closedByServer } = attacker;
  const slowestSeconds = controlClients.slowestMs / 1_000;
  const bounds = [
    none('attacks with a wrong or missing answer', faults.length),
    none('interruptions of the control clients', controlClients.interruptions.length),
    none('missing, wrong or repeated events of the control clients', controlClients.differences.length),
    atMost(
      'longest time from a commit to the slower control client',
      slowestSeconds,
      eventLimitSeconds,
      ' s',
    ),
    atMost('growth of the resident memory of the server', growth, megabyteLimits.growth, ' MB'),
    atMost('growth of the heap of the server', megabytes(heap), heapLimit, ' MB'),
    atMost('peak memory of the server', megabytes(after.peakBytes), megabyteLimits.peak, ' MB'),
    atMost('open files of the server afterwards', files, filesLimit, ''),
    none('warnings and errors in the log', warnings.length),
    none('failed shutdowns', code === 0 ? 0 : 1),
  ];
  return {
    attacks: made,
    seconds,
    outcomes,
    mostHeld,
    closedByServer,
    faults,
    warnings,
    controlClients,
    bounds,
  };
}

/** Collects what the server logs as warnings or errors, or writes to stderr. */
function collectWarnings({ program: { process: server } }: ServeProcess): string[] {
  const warnings: string[] = [];
  const isOrdinary = (line: string): boolean =>
    /^(For help, see: |Debugger (listening|attached|ending))/.test(line) ||
    (line.includes('"level":"info"') && parseFields(line)?.['level'] === 'info');
  for (const input of [server.stdout, server.stderr]) {
    if (input === null) continue;
    createInterface({ input }).on('line', (line) => {
      if (!isOrdinary(line) && warnings.length < maxWarnings) warnings.push(line.slice(0, 500));
    });
  }
  return warnings;
}

/** Waits until the server has at most `limit` open files, or with 0 until their number is stable, and returns it. */
async function awaitFiles(server: ServeProcess, limit: number): Promise<number> {
  let [files, unchanged] = [Infinity, 0];
  // The pools close idle connections to the database after ten seconds.
  await pollUntil(releaseLimitMs, async () => {
    const now = await openFilesOf(server.pid);
    unchanged = now === files ? unchanged + 1 : 0;
    files = now;
    return files <= limit || (limit === 0 && unchanged >= 5);
  });
  return files;
}

function megabytes(bytes: number): number {
  return bytes / 2 ** 20;
}
